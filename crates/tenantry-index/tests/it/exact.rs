//! Searching, replacing, emptying, gaps and allow-lists.

use crate::data::{METRICS, Random, assert_ordered, distance, index, nearest};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tenantry_index::{Allow, ExactIndex, instruction_set};
use tenantry_types::Metric;

#[test]
fn ten_thousand_clustered_vectors_are_searched_with_recall_one() {
    let mut random = Random(1);
    let mut vectors = random.clusters(10_020, 100, 384);
    let queries = vectors.split_off(10_000);
    for metric in METRICS {
        let index = index(metric, &vectors);
        for query in &queries {
            let found = index.search(query, 10, Allow::All);
            assert_ordered(&found);
            assert_eq!(found, index.search_originals(query, 10, Allow::All), "{metric:?}");
            let expected = nearest(metric, (0..).zip(&vectors), query, 10);
            for (found, (slot, distance)) in found.iter().zip(expected) {
                assert_eq!(found.slot, slot, "{metric:?}: {found:?}, {distance}");
                let error = (f64::from(found.distance) - distance).abs();
                assert!(error <= 1e-5 * distance.abs().max(1.0), "{metric:?}: {error}");
            }
        }
    }
}

#[test]
fn an_allow_list_gives_what_an_index_of_those_vectors_would() {
    let mut random = Random(2);
    let vectors = random.clusters(3_000, 30, 100);
    for metric in METRICS {
        let index = index(metric, &vectors);
        for every in [2, 3, 7, 100, 2_999] {
            let slots: Vec<u32> = (0..3_000).step_by(every).collect();
            let mut others = ExactIndex::new(metric, 100);
            for &slot in &slots {
                others.set(slot, &vectors[slot as usize]);
            }
            for k in [1, 10, 50] {
                let query = random.gaussian(100);
                let found = index.search(&query, k, Allow::Slots(&slots));
                assert_eq!(found.len(), k.min(slots.len()));
                assert_eq!(found, others.search(&query, k, Allow::All));
                assert_eq!(found, index.search_originals(&query, k, Allow::Slots(&slots)));
            }
        }
    }
}

#[test]
fn slots_without_a_vector_or_beyond_the_end_are_passed_over() {
    let vectors = Random(3).clusters(400, 4, 16);
    for metric in METRICS {
        let mut index = index(metric, &vectors);
        (0..400).filter(|slot| slot % 3 == 0).for_each(|slot| index.clear(slot));
        let slots: Vec<u32> = (0..1_000).chain([u32::MAX - 1, u32::MAX]).collect();
        let all = index.search(&vectors[5], usize::MAX, Allow::All);
        assert_eq!(all.len(), index.len());
        assert!(all.iter().all(|found| found.slot % 3 != 0));
        for k in [1, 10, 266, 267, 1_000, usize::MAX] {
            let found = index.search(&vectors[5], k, Allow::Slots(&slots));
            assert_eq!(found, all[..k.min(all.len())]);
        }
        assert_eq!(index.search(&vectors[5], 5, Allow::Slots(&[])), []);
        assert_eq!(index.search(&vectors[5], 5, Allow::Slots(&[0, 3, 400, 5_000])), []);
        assert_eq!(index.search(&vectors[5], 0, Allow::All), []);
    }
}

#[test]
fn equal_vectors_are_found_in_the_order_of_their_slots() {
    let vector: Vec<f32> = Random(4).gaussian(48);
    for metric in METRICS {
        let mut index = ExactIndex::new(metric, 48);
        for slot in (0..1_000).rev() {
            index.set(slot, &vector);
        }
        for k in [1, 10, 500] {
            let found = index.search(&vector, k, Allow::All);
            assert!(found.iter().map(|found| found.slot).eq(0..u32::try_from(k).unwrap()));
            assert!(found.iter().all(|one| one.distance.total_cmp(&found[0].distance).is_eq()));
        }
    }
}

#[test]
fn the_past_of_an_index_leaves_no_trace_in_its_answers() {
    let mut random = Random(5);
    let vectors = random.clusters(1_500, 10, 96);
    for metric in METRICS {
        let fresh = index(metric, &vectors);
        let mut used = ExactIndex::new(metric, 96);
        for slot in (0..2_000).rev() {
            used.set(slot, &random.gaussian(96));
        }
        (0..2_000).step_by(2).for_each(|slot| used.clear(slot));
        (1_500..2_000).for_each(|slot| used.clear(slot));
        (0..).zip(&vectors).for_each(|(slot, vector)| used.set(slot, vector));
        assert_eq!(used.len(), fresh.len());
        for _ in 0..20 {
            let query = random.gaussian(96);
            assert_eq!(used.search(&query, 10, Allow::All), fresh.search(&query, 10, Allow::All));
        }
    }
}

#[test]
fn a_far_slot_may_be_used_first_and_leaves_the_others_empty() {
    let mut index = ExactIndex::new(Metric::L2, 2);
    assert!(index.is_empty());
    index.set(100_000, &[1.0, 2.0]);
    assert_eq!((index.len(), index.get(100_000)), (1, Some([1.0, 2.0].as_slice())));
    assert_eq!((index.get(0), index.get(99_999), index.get(100_001)), (None, None, None));
    index.clear(7);
    index.clear(u32::MAX);
    assert_eq!(index.len(), 1);
    let found = index.search(&[1.0, 0.0], 5, Allow::All);
    assert_eq!(
        found.iter().map(|one| (one.slot, one.distance)).collect::<Vec<_>>(),
        [(100_000, 4.0)]
    );
    index.clear(100_000);
    index.clear(100_000);
    assert_eq!((index.len(), index.get(100_000)), (0, None));
    assert_eq!(index.search(&[1.0, 0.0], 5, Allow::All), []);
}

#[test]
fn memory_is_counted_by_capacity_and_reserving_is_exact() {
    let mut index = ExactIndex::new(Metric::Cosine, 100);
    let empty = index.bytes();
    index.reserve(1_000);
    // f32 originals, codes in two cache lines, and less than 32 bytes beside them.
    let per_slot = (index.bytes() - empty) as f64 / 1_000.0;
    assert!((528.0..560.0).contains(&per_slot), "{per_slot}");
    let reserved = index.bytes();
    index.reserve(10);
    (0..1_000).for_each(|slot| index.set(slot, &[1.0; 100]));
    assert_eq!(index.bytes(), reserved);
    (0..1_000).for_each(|slot| index.clear(slot));
    assert_eq!((index.bytes(), index.len()), (reserved, 0));
    index.set(1_000, &[1.0; 100]);
    assert!(index.bytes() > reserved);
}

#[test]
fn debug_output_shows_no_components() {
    let mut index = ExactIndex::new(Metric::L2, 2);
    index.set(0, &[0.123, 45.678]);
    let text = format!("{index:?}");
    assert!(text.contains("vectors: 1") && text.contains(instruction_set()), "{text}");
    assert!(!text.contains("123") && !text.contains("678"), "{text}");
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the caller checks the dimension"))]
fn a_query_of_another_dimension_finds_nothing() {
    let mut index = ExactIndex::new(Metric::L2, 2);
    index.set(0, &[0.0, 0.0]);
    assert_eq!(index.search(&[0.0], 1, Allow::All), []);
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the caller checks the dimension"))]
fn a_vector_of_another_dimension_is_not_stored() {
    let mut index = ExactIndex::new(Metric::L2, 2);
    index.set(0, &[0.0]);
    assert!(index.is_empty());
}

/// Small whole numbers: sums are exact and ties are many.
fn small_vector() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-3_i8..=3).prop_map(f32::from), 5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_history_of_writes_is_searched_as_a_map_would_be(
        writes in prop::collection::vec((0_u32..700, prop::option::weighted(0.9, small_vector())), 0..900),
        query in small_vector(),
        k in prop_oneof![0_usize..20, 0_usize..800],
        every in 1_usize..4,
    ) {
        for metric in METRICS {
            let (mut index, mut model) = (ExactIndex::new(metric, 5), BTreeMap::new());
            for (slot, vector) in &writes {
                if let Some(vector) = vector {
                    index.set(*slot, vector);
                    model.insert(*slot, vector.clone());
                } else {
                    index.clear(*slot);
                    model.remove(slot);
                }
            }
            prop_assert_eq!(index.len(), model.len());
            for slot in 0..700 {
                prop_assert_eq!(index.get(slot), model.get(&slot).map(Vec::as_slice));
            }
            let slots: Vec<u32> = (0..800).step_by(every).collect();
            for (allow, every) in [(Allow::All, 1), (Allow::Slots(&slots), every)] {
                let found = index.search(&query, k, allow);
                assert_ordered(&found);
                prop_assert_eq!(&found, &index.search_originals(&query, k, allow));
                let allowed = model.iter().filter(|(slot, _)| (**slot as usize).is_multiple_of(every));
                let expected =
                    nearest(metric, allowed.map(|(slot, vector)| (*slot, vector)), &query, k);
                prop_assert_eq!(found.len(), expected.len());
                for (found, (slot, wanted)) in found.iter().zip(expected) {
                    let own = distance(metric, &query, &model[&found.slot]);
                    prop_assert!((own - wanted).abs() < 1e-6);
                    prop_assert!((f64::from(found.distance) - wanted).abs() < 1e-6);
                    // Other metrics round, which may swap what should tie.
                    prop_assert!(metric == Metric::Cosine || found.slot == slot);
                }
            }
        }
    }
}
