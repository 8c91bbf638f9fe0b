//! The index as a whole: hysteresis, saving, moving, bad input, and any history of operations.

use crate::data::{
    METRICS, Random, assert_ordered, distance, find, graphed, index as exact_index, nearest, scan,
    settle,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tenantry_index::{
    Allow, IndexConfig, Plan, Progress, SearchOptions, Storage, VectorIndex, Work,
};
use tenantry_types::{Error, ErrorKind, Metric};

const DIMENSION: usize = 32;

fn filled(metric: Metric, vectors: &[Vec<f32>], above: usize) -> VectorIndex {
    let mut index = graphed(metric, DIMENSION, above);
    for (slot, vector) in (0..).zip(vectors) {
        index.set(slot, vector);
    }
    settle(&mut index);
    index
}

#[test]
fn without_a_graph_answers_are_those_of_the_exact_index_to_the_last_bit() {
    let mut random = Random(31);
    let vectors = random.clusters(3_000, 30, DIMENSION);
    for metric in METRICS {
        let exact = exact_index(metric, &vectors);
        let index = filled(metric, &vectors, usize::MAX);
        assert!(index.work().is_none() && index.save().is_none());
        let slots: Vec<u32> = (0..3_000).step_by(3).collect();
        for _ in 0..20 {
            let query = random.gaussian(DIMENSION);
            for allow in [Allow::All, Allow::Slots(&slots)] {
                let found = find(&index, &query, 10, allow);
                assert_eq!(found.neighbours, exact.search(&query, 10, allow));
            }
        }
        assert_eq!(index.get(7), Some(vectors[7].as_slice()));
    }
}

#[test]
fn a_graph_is_begun_at_its_threshold_and_dropped_below_three_quarters_of_it() {
    let vectors = Random(32).clusters(4_000, 40, DIMENSION);
    let mut index = graphed(Metric::L2, DIMENSION, 4_000);
    for (slot, vector) in (0..).zip(&vectors) {
        assert!(index.work().is_none(), "{slot}");
        index.set(slot, vector);
    }
    assert_eq!(
        index.progress(),
        Progress { vectors: 4_000, linked: 0, pending: 4_000, deleted: 0 }
    );
    // Until all but a tail is linked, searches scan.
    let mut plans = Vec::new();
    while let Some(work) = index.work() {
        index.apply(work);
        let found = find(&index, &vectors[9], 3, Allow::All);
        assert_eq!((found.neighbours[0].slot, found.neighbours.len()), (9, 3));
        if plans.last() != Some(&found.plan) {
            plans.push(found.plan);
        }
    }
    assert_eq!(plans, [Plan::ExactAll, Plan::Graph]);
    for slot in 0..1_000 {
        index.clear(slot);
        assert!(index.save().is_some(), "{slot}");
    }
    index.clear(1_000);
    assert!(index.save().is_none() && index.work().is_none());
    assert_eq!(find(&index, &vectors[2_000], 3, Allow::All).plan, Plan::ExactAll);
    // And not begun again before the threshold.
    (0..1_000).for_each(|slot| index.set(slot, &vectors[slot as usize]));
    assert!(index.work().is_none());
    index.set(1_000, &vectors[1_000]);
    assert!(index.work().is_some());
    settle(&mut index);
    assert_eq!(index.progress().linked, 4_000);
}

#[test]
fn a_saved_graph_takes_up_where_it_was() {
    let vectors = Random(33).clusters(3_000, 30, DIMENSION);
    for metric in METRICS {
        let mut index = filled(metric, &vectors, 1_000);
        let saved = index.save().expect("a graph");
        let mut restored = graphed(metric, DIMENSION, 1_000);
        (0..).zip(&vectors).for_each(|(slot, vector)| restored.set(slot, vector));
        restored.restore(&saved, |_| true).expect("intact");
        assert!(restored.work().is_none());
        assert_eq!(restored.progress(), index.progress());
        assert_eq!(restored.save().as_ref(), Some(&saved));
        // Half-done maintenance is kept too.
        (0..300).for_each(|slot| index.clear(slot * 7));
        for _ in 0..4 {
            let work = index.work().expect("much was cleared");
            index.apply(work);
        }
        let saved = index.save().expect("a graph");
        let mut restored = graphed(metric, DIMENSION, 1_000);
        for (slot, vector) in (0..).zip(&vectors).filter(|(slot, _)| index.contains(*slot)) {
            restored.set(slot, vector);
        }
        restored.restore(&saved, |_| true).expect("intact");
        assert_eq!(restored.progress().deleted, index.progress().deleted);
        settle(&mut restored);
        assert_eq!(restored.progress().linked, 2_700);
    }
}

#[test]
fn what_changed_since_the_save_is_linked_anew() {
    let mut random = Random(34);
    let vectors = random.clusters(3_000, 30, DIMENSION);
    let saved = filled(Metric::Cosine, &vectors, 1_000).save().expect("a graph");
    // Some gone, some other, some new.
    let mut index = graphed(Metric::Cosine, DIMENSION, 1_000);
    for (slot, vector) in (0..).zip(&vectors).filter(|(slot, _)| slot % 10 != 0) {
        index.set(slot, if slot % 10 == 1 { &vectors[5] } else { vector });
    }
    (3_000..3_100).for_each(|slot| index.set(slot, &random.gaussian(DIMENSION)));
    index.restore(&saved, |slot| slot % 10 > 1).expect("intact");
    let Progress { vectors: held, linked, pending, deleted } = index.progress();
    assert_eq!((held, linked, pending, deleted), (2_800, 2_400, 400, 600));
    let found = find(&index, &vectors[5], 50, Allow::All).neighbours;
    assert_eq!(found.len(), 50);
    assert!(found.iter().all(|one| one.slot % 10 == 1 || one.slot == 5), "{found:?}");
    settle(&mut index);
    let progress = index.progress();
    assert_eq!((progress.linked, progress.pending, progress.deleted), (2_800, 0, 0));
}

#[test]
fn a_damaged_saved_graph_is_refused_and_leaves_the_index_as_it_was() {
    let vectors = Random(35).clusters(1_200, 12, DIMENSION);
    let saved = filled(Metric::L2, &vectors, 1_000).save().expect("a graph");
    let mut index = graphed(Metric::L2, DIMENSION, 1_000);
    (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
    let mut refused = |bytes: &[u8], name: &str| {
        let error = index.restore(bytes, |_| true).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!((index.progress().linked, index.progress().pending), (0, 1_200));
    };
    for at in (0..64).chain((64..saved.len()).step_by(997)).chain(saved.len() - 16..saved.len()) {
        let mut bytes = saved.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, "a flipped bit");
        refused(&saved[..at], "cut short");
    }
    refused(&[saved.as_slice(), &[0]].concat(), "too long");
    refused(&[], "nothing");
    let other = |metric, dimension, degree| {
        let config = IndexConfig { graph_above: 1_000, degree, seed: 5, ..IndexConfig::default() };
        let mut index = VectorIndex::new(metric, dimension, config);
        (0..1_200).for_each(|slot| index.set(slot, &vectors[slot as usize][..dimension]));
        index.restore(&saved, |_| true).expect_err("another index").kind()
    };
    assert_eq!(other(Metric::Cosine, DIMENSION, 32), ErrorKind::Corrupt);
    assert_eq!(other(Metric::L2, DIMENSION - 1, 32), ErrorKind::Corrupt);
    assert_eq!(other(Metric::L2, DIMENSION, 16), ErrorKind::Corrupt);
    assert!(index.restore(&saved, |_| true).is_ok());
    assert_eq!(index.progress().linked, 1_200);
    // Too small for a graph: the bytes do not matter.
    let mut small = graphed(Metric::L2, DIMENSION, 5_000);
    small.set(0, &vectors[0]);
    assert!(small.restore(&saved, |_| true).is_ok() && small.work().is_none());
}

#[test]
fn moved_slots_keep_their_vectors_and_their_places() {
    let mut random = Random(36);
    let vectors = random.clusters(4_000, 40, DIMENSION);
    for storage in [Storage::Full, Storage::Half, Storage::Int8] {
        let config = IndexConfig { graph_above: 1_000, storage, ..IndexConfig::default() };
        let mut index = VectorIndex::new(Metric::Cosine, DIMENSION, config);
        (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
        settle(&mut index);
        (0..4_000).step_by(3).for_each(|slot| index.clear(slot));
        index.set(1, &[f32::MAX; DIMENSION]);
        settle(&mut index);
        let queries: Vec<Vec<f32>> = (0..20).map(|_| random.gaussian(DIMENSION)).collect();
        let before: Vec<_> =
            queries.iter().map(|query| scan(&index, query, 10, Allow::All).neighbours).collect();
        let (linked, held) = (index.progress().linked, index.len());
        // Packed: two of three slots.
        let place = |slot: u32| (!slot.is_multiple_of(3)).then(|| slot - slot / 3 - 1);
        index.remap(place);
        assert_eq!((index.len(), index.progress().linked), (held, linked));
        for (query, before) in queries.iter().zip(before) {
            let after = scan(&index, query, 10, Allow::All).neighbours;
            for (before, after) in before.iter().zip(&after) {
                assert_eq!(place(before.slot), Some(after.slot));
                assert!(before.distance.total_cmp(&after.distance).is_eq());
            }
            assert_eq!(after.len(), 10);
            assert_eq!(find(&index, query, 10, Allow::All).neighbours.len(), 10);
        }
        index.remap(|slot| (slot < 100).then(|| 99 - slot));
        assert_eq!(index.len(), 100);
        assert!(index.save().is_none());
    }
}

#[test]
fn stale_work_is_dropped() {
    fn is_sendable<T: Send + 'static>(_: &T) {}
    let vectors = Random(37).clusters(1_500, 15, DIMENSION);
    let mut index = graphed(Metric::L2, DIMENSION, 1_000);
    (0..1_500).for_each(|slot| index.set(slot, &vectors[slot as usize]));
    let apply = |index: &mut VectorIndex, work: Work| {
        let before = index.progress();
        index.apply(work);
        index.progress() != before
    };
    // Computed twice: the second is stale.
    let (first, second) = (index.work().unwrap(), index.work().unwrap());
    is_sendable(&first);
    assert!(apply(&mut index, first) && !apply(&mut index, second));
    // The vector changed, or went, in between.
    for change in [true, false] {
        let work = index.work().unwrap();
        for slot in 0..1_500 {
            if change {
                index.set(slot, &vectors[(slot as usize + 1) % 1_500]);
            } else {
                index.clear(slot);
                index.set(slot, &vectors[(slot as usize + 2) % 1_500]);
            }
        }
        assert!(!apply(&mut index, work));
    }
    // The graph went in between, and another was begun.
    let work = index.work().unwrap();
    (0..1_000).for_each(|slot| index.clear(slot));
    assert!(index.work().is_none());
    (0..1_000).for_each(|slot| index.set(slot, &vectors[slot as usize]));
    assert!(index.work().is_some() && !apply(&mut index, work));
    settle(&mut index);
    assert_eq!(index.progress().linked, 1_500);
    assert_eq!(find(&index, &vectors[20], 1, Allow::All).neighbours[0].slot, 20);
}

#[test]
fn setting_the_same_vector_again_keeps_its_place() {
    let vectors = Random(38).clusters(1_500, 15, DIMENSION);
    let mut index = filled(Metric::Cosine, &vectors, 1_000);
    let saved = index.save();
    (0..1_500).for_each(|slot| index.set(slot, &vectors[slot as usize]));
    assert!(index.work().is_none() && index.save() == saved);
}

#[test]
fn a_search_is_paced_and_ends_with_the_error_of_its_pace() {
    let vectors = Random(39).clusters(4_000, 10, 1_024);
    let mut index = graphed(Metric::L2, 1_024, 1_000);
    (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
    settle(&mut index);
    let slots: Vec<u32> = (0..4_000).collect();
    for exact in [true, false] {
        for allow in [Allow::All, Allow::Slots(&slots)] {
            // As wide a walk as is still cheaper than a scan.
            let how = SearchOptions { beam: Some(65), exact };
            let mut calls = 0;
            let mut counted = || {
                calls += 1;
                Ok(())
            };
            let found = index.search(&vectors[3], 10, allow, &how, &mut counted).unwrap();
            assert_eq!(found.neighbours[0].slot, 3);
            assert_eq!(matches!(found.plan, Plan::Graph | Plan::GraphFiltered), !exact);
            assert!(calls >= 1, "{found:?}");
            let mut stop = || Err(Error::new(ErrorKind::Unavailable, "stop"));
            let error = index.search(&vectors[3], 10, allow, &how, &mut stop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
        }
    }
    let sampled = find(&index, &vectors[3], 10, Allow::All).neighbours;
    let recall = index.sample_recall(&vectors[3], 10, Allow::All, &sampled, &mut || Ok(()));
    assert!((0.5..=1.0).contains(&recall.unwrap()));
    assert!(tenantry_index::recall(&[], &sampled) < f64::EPSILON);
    assert!(tenantry_index::recall(&sampled, &[]) > 0.99);
}

#[test]
fn unusual_vectors_and_queries_are_answered_without_a_panic() {
    let mut vectors = Random(40).clusters(3_000, 30, DIMENSION);
    let unusual = [
        [0.0; DIMENSION],
        [f32::NAN; DIMENSION],
        [f32::INFINITY; DIMENSION],
        [f32::NEG_INFINITY; DIMENSION],
        [f32::MAX; DIMENSION],
        [f32::MIN_POSITIVE; DIMENSION],
        [1e-42; DIMENSION],
        [1e18; DIMENSION],
        [-0.0; DIMENSION],
    ];
    for (at, vector) in unusual.iter().cycle().take(90).enumerate() {
        vectors[at * 31] = vector.to_vec();
    }
    for metric in METRICS {
        for storage in [Storage::Full, Storage::Half, Storage::Int8] {
            let config = IndexConfig { graph_above: 1_000, storage, ..IndexConfig::default() };
            let mut index = VectorIndex::new(metric, DIMENSION, config);
            (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
            settle(&mut index);
            for query in
                unusual.iter().map(<[f32; DIMENSION]>::as_slice).chain([vectors[1].as_slice()])
            {
                for k in [0, 1, 10, 1_000_000_000, usize::MAX] {
                    let found = find(&index, query, k, Allow::All).neighbours;
                    assert_eq!(found.len(), k.min(3_000), "{metric:?} {storage:?}");
                    assert_ordered(&found);
                }
                assert_eq!(find(&index, query, 5, Allow::Slots(&[])).neighbours, []);
                let some = [0, 31, 62, 93, 4_000_000_000];
                assert_eq!(find(&index, query, 9, Allow::Slots(&some)).neighbours.len(), 4);
            }
        }
    }
}

#[test]
fn memory_is_counted_and_the_storage_decides_it() {
    let vectors = Random(41).clusters(2_000, 20, DIMENSION);
    let mut sizes = Vec::new();
    for storage in [Storage::Full, Storage::Half, Storage::Int8] {
        let config = IndexConfig { storage, graph_above: usize::MAX, ..IndexConfig::default() };
        let mut index = VectorIndex::new(Metric::Cosine, DIMENSION, config);
        index.reserve(2_000);
        let reserved = index.bytes();
        (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
        assert!(index.bytes() - reserved <= DIMENSION * 4 + 256, "one row to decode into");
        sizes.push(index.bytes() / 2_000);
    }
    // A block of codes and two dozen bytes; and four bytes a component, or another block.
    assert!((64 + 24 + 128..64 + 24 + 130).contains(&sizes[0]), "{sizes:?}");
    assert!((64 + 24 + 64 + 4..64 + 24 + 64 + 6).contains(&sizes[1]), "{sizes:?}");
    assert!((64 + 24 + 4..64 + 24 + 6).contains(&sizes[2]), "{sizes:?}");
    let graph = filled(Metric::Cosine, &vectors, 1_000).bytes() / 2_000;
    assert!(graph >= sizes[0] + 129, "{graph}");
    let debug = format!("{:?}", filled(Metric::L2, &vectors, 1_000));
    assert!(debug.contains("linked: 2000") && !debug.contains("0."), "{debug}");
}

#[derive(Debug, Clone)]
enum Step {
    Set(u32, Vec<f32>),
    Clear(u32),
    Work(usize),
    Search(Vec<f32>, usize, usize),
    SaveAndRestore,
    Pack,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let vector = || prop::collection::vec((-3_i8..=3).prop_map(f32::from), 5);
    let step = prop_oneof![
        8 => (0_u32..300, vector()).prop_map(|(slot, vector)| Step::Set(slot, vector)),
        3 => (0_u32..300).prop_map(Step::Clear),
        4 => (1_usize..60).prop_map(Step::Work),
        4 => (vector(), 1_usize..12, 1_usize..4)
            .prop_map(|(query, k, every)| Step::Search(query, k, every)),
        1 => Just(Step::SaveAndRestore),
        1 => Just(Step::Pack),
    ];
    prop::collection::vec(step, 0..400)
}

/// What the index promises whatever its graph is like.
fn check_search(
    index: &VectorIndex,
    model: &BTreeMap<u32, Vec<f32>>,
    query: &[f32],
    k: usize,
    every: usize,
) {
    let metric = index.metric();
    let slots: Vec<u32> = (0..400).step_by(every).collect();
    let allow = if every == 1 { Allow::All } else { Allow::Slots(&slots) };
    let expected = nearest(
        metric,
        model.iter().filter(|(slot, _)| slots.contains(slot)).map(|(slot, one)| (*slot, one)),
        query,
        k,
    );
    let how = SearchOptions { beam: Some(k), exact: false };
    let found = index.search(query, k, allow, &how, &mut || Ok(())).expect("no limit").neighbours;
    assert_ordered(&found);
    assert_eq!(found.len(), expected.len());
    for one in &found {
        let own = distance(metric, query, &model[&one.slot]);
        assert!((f64::from(one.distance) - own).abs() < 1e-5, "{one:?} {own}");
        assert!(slots.contains(&one.slot));
    }
    let exact = scan(index, query, k, allow).neighbours;
    for (exact, (_, wanted)) in exact.iter().zip(expected) {
        assert!((f64::from(exact.distance) - wanted).abs() < 1e-5);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_of_operations_keeps_every_promise(
        steps in steps(), metric in prop::sample::select(METRICS.to_vec()), degree in 4_usize..10
    ) {
        let config = IndexConfig { graph_above: 60, degree, build_beam: 12, ..IndexConfig::default() };
        let mut index = VectorIndex::new(metric, 5, config);
        let mut model: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Set(slot, vector) => {
                    index.set(slot, &vector);
                    model.insert(slot, vector.clone());
                    // Found at once: nothing is nearer than the best found.
                    check_search(&index, &model, &vector, 1, 1);
                    let found = find(&index, &vector, 1, Allow::All).neighbours;
                    let own = distance(metric, &vector, &vector);
                    prop_assert!(f64::from(found[0].distance) <= own + 1e-5);
                }
                Step::Clear(slot) => {
                    index.clear(slot);
                    model.remove(&slot);
                }
                Step::Work(times) => {
                    for work in (0..times).map_while(|_| index.work()).collect::<Vec<_>>() {
                        index.apply(work);
                    }
                    for _ in 0..times {
                        let Some(work) = index.work() else { break };
                        index.apply(work);
                    }
                }
                Step::Search(query, k, every) => check_search(&index, &model, &query, k, every),
                Step::SaveAndRestore => {
                    let Some(saved) = index.save() else { continue };
                    let mut restored = VectorIndex::new(metric, 5, config);
                    for (slot, vector) in &model {
                        restored.set(*slot, vector);
                    }
                    restored.restore(&saved, |slot| slot % 5 != 0).unwrap();
                    index = restored;
                }
                Step::Pack => {
                    let places: BTreeMap<u32, u32> = model.keys().copied().zip(0..).collect();
                    index.remap(|slot| places.get(&slot).copied());
                    model = model.into_iter().map(|(slot, one)| (places[&slot], one)).collect();
                }
            }
            prop_assert_eq!(index.len(), model.len());
            let progress = index.progress();
            prop_assert_eq!(progress.linked + progress.pending, model.len());
        }
        settle(&mut index);
        for (slot, vector) in &model {
            prop_assert_eq!(index.get(*slot), Some(vector.as_slice()));
            check_search(&index, &model, vector, 3, 1);
        }
    }
}
