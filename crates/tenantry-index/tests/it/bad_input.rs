//! What unusual input means, whichever way a search goes and however vectors are kept.

use crate::data::{METRICS, Random, assert_ordered, find, graphed, settle};
use tenantry_index::{Allow, IndexConfig, Plan, SearchOptions, Storage, VectorIndex};
use tenantry_types::Metric;

const DIMENSION: usize = 32;
const VECTORS: u32 = 2_000;

const ZERO: u32 = 10;
const NAN: u32 = 20;
const INFINITE: u32 = 30;
const DENORMAL: u32 = 40;
const HUGE: u32 = 50;

/// By metric and storage, by a scan and by a graph.
fn each(mut check: impl FnMut(&VectorIndex, &str)) {
    let mut vectors = Random(61).clusters(VECTORS as usize, 30, DIMENSION);
    for (slot, value) in
        [(ZERO, 0.0), (NAN, f32::NAN), (INFINITE, f32::INFINITY), (DENORMAL, 1e-42), (HUGE, 1e38)]
    {
        vectors[slot as usize] = vec![value; DIMENSION];
    }
    for metric in METRICS {
        for storage in [Storage::Full, Storage::Half, Storage::Int8] {
            for graph_above in [1_000, usize::MAX] {
                let shape = IndexConfig { degree: 16, build_beam: 32, ..IndexConfig::default() };
                let config = IndexConfig { graph_above, storage, ..shape };
                let mut index = VectorIndex::new(metric, DIMENSION, config);
                (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
                settle(&mut index);
                check(&index, &format!("{metric:?} {storage:?} {graph_above}"));
            }
        }
    }
}

fn ones() -> Vec<f32> {
    vec![1.0; DIMENSION]
}

/// The distance of one vector, by a search that only it may answer.
fn of(index: &VectorIndex, query: &[f32], slot: u32) -> f32 {
    let found = find(index, query, 3, Allow::Slots(&[slot])).neighbours;
    assert_eq!((found.len(), found[0].slot), (1, slot));
    found[0].distance
}

#[test]
fn every_unusual_vector_has_a_defined_distance_from_a_usual_query() {
    each(|index, name| {
        let [zero, nan, infinite, denormal, huge] =
            [ZERO, NAN, INFINITE, DENORMAL, HUGE].map(|slot| of(index, &ones(), slot));
        assert!(nan.is_infinite() && nan > 0.0, "{name}: not a number is infinitely far");
        let near = |distance: f32, wanted: f32| (distance - wanted).abs() <= 1e-4 * wanted.max(1.0);
        match index.metric() {
            Metric::L2 => {
                assert!(near(zero, 32.0) && near(denormal, 32.0), "{name}: {zero} {denormal}");
                assert!(infinite.is_infinite() && huge.is_infinite(), "{name}");
            }
            Metric::Cosine => {
                assert!(zero.total_cmp(&1.0).is_eq(), "{name}: nothing has no direction: {zero}");
                assert!(near(denormal, 0.0) && near(huge, 0.0), "{name}: {denormal} {huge}");
                assert!(infinite.is_infinite(), "{name}: {infinite}");
            }
            Metric::InnerProduct => {
                assert!(near(zero, 1.0) && near(denormal, 1.0), "{name}: {zero} {denormal}");
                assert!(infinite == f32::NEG_INFINITY && huge < -1e38, "{name}: {huge}");
            }
        }
    });
}

#[test]
fn an_unusual_query_is_answered_in_full_and_in_order() {
    each(|index, name| {
        for value in [0.0, -0.0, f32::NAN, f32::INFINITY, 1e-42, f32::MAX, f32::MIN_POSITIVE] {
            let query = vec![value; DIMENSION];
            let found = find(index, &query, 10, Allow::All).neighbours;
            assert_eq!(found.len(), 10, "{name} {value}");
            assert_ordered(&found);
            if value.is_nan() {
                assert!(found.iter().all(|one| one.distance == f32::INFINITY), "{name}");
            }
        }
        // Found by what is written, too: nothing is nearer to zero than zero.
        if index.metric() == Metric::L2 {
            let slots: Vec<u32> = find(index, &[0.0; DIMENSION], 2, Allow::All)
                .neighbours
                .iter()
                .map(|one| one.slot)
                .collect();
            assert_eq!(slots, [ZERO, DENORMAL], "{name}");
        }
    });
}

#[test]
fn filters_of_none_one_and_all_and_any_k_give_as_many_as_there_are() {
    let all: Vec<u32> = (0..VECTORS + 500).collect();
    let bitmap = all.iter().copied().collect();
    let nothing = roaring::RoaringBitmap::new();
    each(|index, name| {
        for k in [0, 1, 10, 100, 1_000_000_000, usize::MAX] {
            let wanted = k.min(VECTORS as usize);
            for allow in [Allow::All, Allow::Slots(&all), Allow::Bitmap(&bitmap)] {
                let found = find(index, &ones(), k, allow).neighbours;
                assert_eq!(found.len(), wanted, "{name} {k}");
                assert_ordered(&found);
            }
            for allow in [Allow::Slots(&[]), Allow::Bitmap(&nothing), Allow::Slots(&[7_000_000])] {
                assert_eq!(find(index, &ones(), k, allow).neighbours, [], "{name} {k}");
            }
        }
    });
}

#[test]
fn a_beam_of_any_width_gives_as_many_as_there_are() {
    each(|index, name| {
        for beam in [0, 1, 3, 1_000, usize::MAX] {
            let how = SearchOptions { beam: Some(beam), exact: false };
            let found = index.search(&ones(), 10, Allow::All, &how, &mut || Ok(())).unwrap();
            assert_eq!(found.neighbours.len(), 10, "{name} {beam}");
            let graph = index.progress().linked > 0 && beam < 30;
            assert_eq!(found.plan == Plan::Graph, graph, "{name} {beam}");
        }
    });
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the caller checks the dimension"))]
fn a_query_of_another_dimension_finds_nothing_by_a_graph() {
    let mut index = graphed(Metric::L2, 2, 2);
    (0..100_u16).for_each(|slot| index.set(slot.into(), &[f32::from(slot), 0.0]));
    settle(&mut index);
    assert_eq!(find(&index, &[0.0; 3], 1, Allow::All).neighbours, []);
}

#[test]
#[cfg_attr(debug_assertions, should_panic(expected = "the caller checks the dimension"))]
fn a_vector_of_another_dimension_leaves_a_graph_as_it_was() {
    let mut index = graphed(Metric::L2, 2, 2);
    (0..100_u16).for_each(|slot| index.set(slot.into(), &[f32::from(slot), 0.0]));
    settle(&mut index);
    let before = index.save();
    index.set(3, &[0.0; 3]);
    assert_eq!((index.len(), index.save() == before), (100, true));
}
