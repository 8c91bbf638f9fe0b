//! The recall of a graph, measured on a few of the queries that it answers.
//!
//! One query in [`EVERY`] is kept until maintenance has scanned all vectors for it, piece by
//! piece. A sample is a tenant's data: it lives in its partition, is never written anywhere, and
//! what is shown is only the share of neighbours that were found.

use parking_lot::Mutex;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};
use tenantry_index::{Allow, Neighbour, SearchOptions, VectorIndex};

/// One query in so many is sampled.
const EVERY: u64 = 256;
/// Neighbours that are looked at: the recall@k of the nearest.
const K_MAX: usize = 10;
/// Slots that one piece scans: about a fifth of a millisecond.
const PIECE: u32 = 4_096;

/// Recall so far, and the sample that is being measured.
#[derive(Default)]
pub(crate) struct Sampler {
    queries: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sample: Option<Sample>,
    hits: u64,
    expected: u64,
    samples: u64,
}

struct Sample {
    vector: Vec<f32>,
    k: usize,
    /// Distances of the neighbours that the graph found.
    found: Vec<f32>,
    /// Distances of the nearest among the slots below `next`.
    nearest: Vec<f32>,
    next: u32,
}

impl Sampler {
    /// Takes a query as a sample, if it is one's turn and no other is being measured.
    pub(crate) fn offer(&self, vector: &[f32], k: usize, found: &[Neighbour]) {
        if !self.queries.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY) {
            return;
        }
        let Some(mut state) = self.state.try_lock() else { return };
        let k = k.min(K_MAX);
        if state.sample.is_none() && k > 0 {
            let found = found.iter().take(k).map(|one| one.distance).collect();
            let vector = vector.to_vec();
            state.sample = Some(Sample { vector, k, found, nearest: Vec::new(), next: 0 });
        }
    }

    /// True if a sample waits to be measured.
    pub(crate) fn is_waiting(&self) -> bool {
        // Locked for long only while one is being measured. Whoever asks may not wait.
        self.state.try_lock().is_none_or(|state| state.sample.is_some())
    }

    /// Drops the sample: slots have moved.
    pub(crate) fn forget(&self) {
        self.state.lock().sample = None;
    }

    /// Scans the next slots of `slots` for the sample. What is written meanwhile blurs it a
    /// little.
    pub(crate) fn step(&self, index: &VectorIndex, slots: usize) {
        let mut state = self.state.lock();
        let Some(sample) = &mut state.sample else { return };
        let end = u32::try_from(slots).unwrap_or(u32::MAX);
        let piece: Vec<u32> = (sample.next..end.min(sample.next.saturating_add(PIECE))).collect();
        let how = SearchOptions { exact: true, ..SearchOptions::default() };
        let found =
            index.search(&sample.vector, sample.k, Allow::Slots(&piece), &how, &mut || Ok(()));
        sample.nearest.extend(found.iter().flat_map(|one| &one.neighbours).map(|n| n.distance));
        sample.nearest.sort_unstable_by(f32::total_cmp);
        sample.nearest.truncate(sample.k);
        sample.next = sample.next.saturating_add(PIECE);
        if sample.next < end {
            return;
        }
        if let (Some(done), true) = (state.sample.take(), end > 0)
            && let Some(last) = done.nearest.last().copied()
        {
            let hits = done.found.iter().filter(|distance| **distance <= last).count();
            state.hits += hits.min(done.nearest.len()) as u64;
            state.expected += done.nearest.len() as u64;
            state.samples += 1;
        }
    }

    /// The share of neighbours found, of all samples measured, and how many those are.
    pub(crate) fn recall(&self) -> (Option<f32>, u64) {
        let state = self.state.lock();
        #[expect(clippy::cast_possible_truncation, reason = "a share needs no more digits")]
        let recall =
            (state.expected > 0).then(|| (state.hits as f64 / state.expected as f64) as f32);
        (recall, state.samples)
    }
}

/// Shows no sample: it is a tenant's data.
impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_index::IndexConfig;
    use tenantry_types::Metric;

    #[test]
    fn a_sample_is_measured_over_all_slots() {
        let mut index = VectorIndex::new(Metric::L2, 1, IndexConfig::default());
        (0..10_000_u16).for_each(|slot| index.set(slot.into(), &[f32::from(slot)]));
        let how = SearchOptions::default();
        let mut found =
            index.search(&[9_000.2], 10, Allow::All, &how, &mut || Ok(())).unwrap().neighbours;
        let sampler = Sampler::default();
        let measure = |found: &[Neighbour]| {
            sampler.queries.store(0, Ordering::Relaxed);
            sampler.offer(&[9_000.2], 10, found);
            assert!(sampler.is_waiting());
            (0..3).for_each(|_| sampler.step(&index, 10_000));
            assert!(!sampler.is_waiting());
            sampler.recall()
        };
        assert_eq!(measure(&found), (Some(1.0), 1));
        // Half of them missed.
        found.iter_mut().skip(5).for_each(|one| one.distance += 1e6);
        assert_eq!(measure(&found), (Some(0.75), 2));
    }

    #[test]
    fn few_queries_are_samples() {
        let sampler = Sampler::default();
        sampler.offer(&[1.0], 1, &[]);
        assert!(sampler.is_waiting());
        sampler.forget();
        (1..EVERY).for_each(|_| sampler.offer(&[1.0], 1, &[]));
        assert!(!sampler.is_waiting());
        sampler.offer(&[1.0], 1, &[]);
        assert!(sampler.is_waiting());
    }
}
