//! Saved codes and links: searched with originals from elsewhere, they answer as the index does.

use crate::data::{METRICS, Random, find, graphed, mean_recall, scan, settle};
use proptest::prelude::*;
use std::cell::Cell;
use tenantry_index::{
    Allow, Found, IndexConfig, Plan, SearchOptions, Segment, SegmentParts, VectorIndex,
};
use tenantry_types::{Error, ErrorKind, Metric, Result};

const DIMENSION: usize = 32;

/// What is saved of some slots: codes, terms and, with a graph, links.
type Bytes = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

fn save(index: &VectorIndex, slots: &[u32]) -> Bytes {
    let (mut codes, mut terms) = (Vec::new(), Vec::new());
    for slot in slots {
        index.save_codes(*slot, &mut codes);
        index.save_terms(*slot, &mut terms);
    }
    assert_eq!(codes.len(), slots.len() * VectorIndex::code_bytes(index.dimension()));
    assert_eq!(terms.len(), slots.len() * VectorIndex::TERM_BYTES);
    let links = index.begin_links(slots).map(|mut links| {
        while !index.save_links(&mut links) {}
        links.finish()
    });
    (codes, terms, links)
}

fn open(index: &VectorIndex, (codes, terms, links): &Bytes) -> Result<Segment> {
    let mut parts = SegmentParts::new(index.metric(), index.dimension(), 10);
    // Pieces as they come.
    codes.chunks(64 * 3).for_each(|piece| parts.push_codes(piece));
    terms.chunks(VectorIndex::TERM_BYTES * 7).for_each(|piece| parts.push_terms(piece));
    Segment::open(parts, index.config(), links.as_deref())
}

/// Searches a segment whose originals are those of an index.
fn search(
    segment: &Segment,
    index: &VectorIndex,
    slots: &[u32],
    query: &[f32],
    exact: bool,
) -> Found {
    let read = Cell::new(0);
    let original = |slot: u32, buffer: &mut Vec<f32>| {
        read.set(read.get() + 1);
        let vector = index.get(slots[slot as usize]);
        *buffer = vector.ok_or_else(|| Error::internal("asked for what is not there"))?.to_vec();
        Ok(())
    };
    let how = SearchOptions { exact, ..SearchOptions::default() };
    let found = segment.search(query, 10, &how, &original, &mut || Ok(())).expect("found");
    assert!(read.get() >= found.compared_originals);
    found
}

/// The same with the slots of the index.
fn unpacked(mut found: Found, slots: &[u32]) -> Found {
    found.neighbours.iter_mut().for_each(|one| one.slot = slots[one.slot as usize]);
    found
}

#[test]
fn a_segment_walks_the_saved_graph_and_scans_as_the_index_does() {
    let mut walks = 0;
    for metric in METRICS {
        let mut random = Random(71);
        let vectors = random.clusters(8_000, 80, DIMENSION);
        let mut index = graphed(metric, DIMENSION, 1_000);
        // Gaps that were never filled.
        (0..).zip(&vectors).for_each(|(n, vector)| index.set(n * 2, vector));
        settle(&mut index);
        let slots: Vec<u32> = (0..8_000).map(|n| n * 2).collect();
        let bytes = save(&index, &slots);
        let segment = open(&index, &bytes).expect("intact");
        assert_eq!((segment.len(), segment.dimension()), (8_000, DIMENSION));
        for query in vectors.iter().step_by(271) {
            let query: Vec<f32> = query.iter().map(|x| x + random.uniform()).collect();
            let walked = find(&index, &query, 10, Allow::All);
            walks += usize::from(walked.plan == Plan::Graph);
            let found = unpacked(search(&segment, &index, &slots, &query, false), &slots);
            assert_eq!((&found.neighbours, found.plan), (&walked.neighbours, walked.plan));
            // A scan also counts the gaps.
            if walked.plan == Plan::Graph {
                assert_eq!(found, walked);
            }
            let scanned = scan(&index, &query, 10, Allow::All);
            assert_eq!(
                unpacked(search(&segment, &index, &slots, &query, true), &slots).neighbours,
                scanned.neighbours
            );
        }
    }
    assert!(walks > 50, "{walks} walks");
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let vectors = Random(72).clusters(2_000, 20, DIMENSION);
    let mut index = graphed(Metric::L2, DIMENSION, 1_000);
    (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
    settle(&mut index);
    let slots: Vec<u32> = (0..2_000).collect();
    let good = save(&index, &slots);
    assert!(open(&index, &good).is_ok());
    let (codes, terms, links) = good.clone();
    let links = links.expect("a graph");
    let short = open(&index, &(codes[64..].to_vec(), terms.clone(), None));
    assert_eq!(short.expect_err("a row is missing").kind(), ErrorKind::Corrupt);
    for at in [0, 9, 40, links.len() / 2, links.len() - 1] {
        let mut damaged = links.clone();
        damaged[at] ^= 1;
        let refused = open(&index, &(codes.clone(), terms.clone(), Some(damaged)));
        assert_eq!(refused.expect_err("damaged").kind(), ErrorKind::Corrupt, "{at}");
    }
    // Links to more slots than there are vectors are left out.
    let segment =
        open(&index, &(codes[..64 * 1_500].to_vec(), terms[..16 * 1_500].to_vec(), Some(links)));
    let segment = segment.expect("a smaller one");
    let found = search(&segment, &index, &slots, &vectors[3], false);
    assert_eq!((found.neighbours[0].slot, found.neighbours[0].distance), (3, 0.0));
    // An original that cannot be read ends the search; one of another size is damage.
    let how = SearchOptions::default();
    let gone = |_, _: &mut Vec<f32>| Err(Error::internal("gone"));
    let ended = segment.search(&vectors[3], 10, &how, &gone, &mut || Ok(()));
    assert_eq!(ended.expect_err("gone").kind(), ErrorKind::Internal);
    let other = |_, buffer: &mut Vec<f32>| {
        *buffer = vec![0.0];
        Ok(())
    };
    let ended = segment.search(&vectors[3], 10, &how, &other, &mut || Ok(()));
    assert_eq!(ended.expect_err("another size").kind(), ErrorKind::Corrupt);
}

#[test]
fn saved_links_find_their_vectors_in_other_slots() {
    let mut random = Random(73);
    let mut vectors = random.clusters(3_000, 30, DIMENSION);
    let mut index = graphed(Metric::Cosine, DIMENSION, 1_000);
    (0..).zip(&vectors).for_each(|(slot, vector)| index.set(slot, vector));
    settle(&mut index);
    let slots: Vec<u32> = (0..3_000).collect();
    let (codes, terms, links) = save(&index, &slots);
    // A twentieth changed, a twentieth gone, a few new; the rest moved up.
    let gone = |n: usize| n % 20 == 7;
    for vector in vectors.iter_mut().skip(3).step_by(20) {
        *vector = random.gaussian(DIMENSION);
    }
    let new = random.clusters(50, 5, DIMENSION);
    let mut loaded = graphed(Metric::Cosine, DIMENSION, 1_000);
    let kept: Vec<usize> = (0..3_000).filter(|n| !gone(*n)).collect();
    for (slot, vector) in (0..).zip(kept.iter().map(|n| &vectors[*n]).chain(&new)) {
        loaded.set(slot, vector);
    }
    let bytes = VectorIndex::code_bytes(DIMENSION);
    let place = |slot: u32| -> Option<u32> {
        let at = kept.binary_search(&(slot as usize)).ok()?;
        let (to, slot) = (u32::try_from(at).ok()?, slot as usize);
        let same = loaded.has_codes(to, &codes[slot * bytes..][..bytes])
            && loaded.has_terms(to, &terms[slot * 16..][..16]);
        assert_eq!(same, slot % 20 != 3, "{slot}");
        same.then_some(to)
    };
    let places: Vec<Option<u32>> = (0..3_000).map(place).collect();
    loaded.restore_packed(&links.expect("a graph"), |slot| places[slot as usize]).expect("intact");
    let progress = loaded.progress();
    assert_eq!((progress.linked, progress.pending, progress.deleted), (2_700, 200, 0));
    settle(&mut loaded);
    assert_eq!(loaded.progress().linked, 2_900);
    let queries: Vec<Vec<f32>> = (0..100).map(|n| vectors[n * 29].clone()).collect();
    let (recall, before) =
        (mean_recall(&loaded, &queries, Allow::All), mean_recall(&index, &queries, Allow::All));
    assert!(recall >= before - 0.01, "{recall} after {before}");
}

/// Any float that may be a component.
fn component() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -1.0_f32..1.0,
        1 => Just(0.0),
        1 => any::<f32>().prop_map(|x| if x.is_finite() { x } else { 1.0 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever was set, replaced and cleared: a segment of what is left answers as the index, to
    /// the last bit.
    #[test]
    fn any_segment_answers_as_its_index(
        metric in prop::sample::select(METRICS.to_vec()),
        steps in prop::collection::vec(
            (0_u32..300, prop::option::weighted(0.9, prop::collection::vec(component(), 5))),
            1..500,
        ),
        queries in prop::collection::vec(prop::collection::vec(component(), 5), 1..4),
    ) {
        let config = IndexConfig { graph_above: usize::MAX, ..IndexConfig::default() };
        let mut index = VectorIndex::new(metric, 5, config);
        for (slot, vector) in &steps {
            match vector {
                Some(vector) => index.set(*slot, vector),
                None => index.clear(*slot),
            }
        }
        // Some of the slots are empty.
        let slots: Vec<u32> = (0..300).filter(|slot| index.contains(*slot) || slot % 3 == 0).collect();
        let segment = open(&index, &save(&index, &slots)).expect("intact");
        prop_assert_eq!(segment.len(), index.len());
        for query in &queries {
            let found = unpacked(search(&segment, &index, &slots, query, false), &slots);
            prop_assert_eq!(found.neighbours, find(&index, query, 10, Allow::All).neighbours);
        }
    }
}
