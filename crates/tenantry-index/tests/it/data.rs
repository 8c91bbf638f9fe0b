//! Synthetic vectors from a seed, and distances without tricks.

use tenantry_index::{
    Allow, ExactIndex, Found, IndexConfig, Neighbour, SearchOptions, VectorIndex, recall,
};
use tenantry_types::Metric;

pub(crate) const METRICS: [Metric; 3] = [Metric::L2, Metric::Cosine, Metric::InnerProduct];

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in 0..1.
    pub(crate) fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// A vector of normally distributed numbers, near enough.
    pub(crate) fn gaussian(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| (0..12).map(|_| self.uniform()).sum::<f32>() - 6.0).collect()
    }

    /// `n` vectors around `centres` centres, with cosines of about one half among neighbours.
    pub(crate) fn clusters(&mut self, n: usize, centres: usize, dimension: usize) -> Vec<Vec<f32>> {
        let centres: Vec<_> = (0..centres).map(|_| self.gaussian(dimension)).collect();
        let mut around = |centre: &Vec<f32>| {
            self.gaussian(dimension).iter().zip(centre).map(|(x, centre)| x + centre).collect()
        };
        (0..n).map(|i| around(&centres[i % centres.len()])).collect()
    }
}

pub(crate) fn index(metric: Metric, vectors: &[Vec<f32>]) -> ExactIndex {
    let mut index = ExactIndex::new(metric, vectors[0].len());
    for (slot, vector) in (0..).zip(vectors) {
        index.set(slot, vector);
    }
    index
}

/// The metric's definition in 64 bits.
pub(crate) fn distance(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum = |term: fn(f64, f64) -> f64, a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| term(f64::from(*a), f64::from(*b))).sum()
    };
    let dot = |a, b| sum(|a, b| a * b, a, b);
    match metric {
        Metric::L2 => sum(|a, b| (a - b) * (a - b), a, b),
        Metric::InnerProduct => 1.0 - dot(a, b),
        Metric::Cosine => {
            let norms = dot(a, a).sqrt() * dot(b, b).sqrt();
            if norms == 0.0 { 1.0 } else { 1.0 - dot(a, b) / norms }
        }
    }
}

/// The nearest by definition among the slots that have a vector.
pub(crate) fn nearest<'a>(
    metric: Metric,
    vectors: impl IntoIterator<Item = (u32, &'a Vec<f32>)>,
    query: &[f32],
    k: usize,
) -> Vec<(u32, f64)> {
    let mut all: Vec<(u32, f64)> =
        vectors.into_iter().map(|(slot, vector)| (slot, distance(metric, query, vector))).collect();
    all.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    all.truncate(k);
    all
}

/// Asserts that the found ones are in order, without NaN and each once.
pub(crate) fn assert_ordered(found: &[Neighbour]) {
    for pair in found.windows(2) {
        let order = pair[0].distance.partial_cmp(&pair[1].distance).expect("no NaN");
        assert!(order.then(pair[0].slot.cmp(&pair[1].slot)).is_lt(), "{pair:?}");
    }
    assert!(found.iter().all(|one| !one.distance.is_nan()));
}

/// A vector index with a graph from `above` vectors on.
pub(crate) fn graphed(metric: Metric, dimension: usize, above: usize) -> VectorIndex {
    let config = IndexConfig { graph_above: above, seed: 5, ..IndexConfig::default() };
    VectorIndex::new(metric, dimension, config)
}

/// Does maintenance until nothing is left.
pub(crate) fn settle(index: &mut VectorIndex) {
    while let Some(work) = index.work() {
        index.apply(work);
    }
}

/// Searches without a limit of time.
pub(crate) fn find(index: &VectorIndex, query: &[f32], k: usize, allow: Allow<'_>) -> Found {
    index.search(query, k, allow, &SearchOptions::default(), &mut || Ok(())).expect("no limit")
}

/// Scans without a limit of time.
pub(crate) fn scan(index: &VectorIndex, query: &[f32], k: usize, allow: Allow<'_>) -> Found {
    let how = SearchOptions { exact: true, ..SearchOptions::default() };
    index.search(query, k, allow, &how, &mut || Ok(())).expect("no limit")
}

/// The mean recall@10 of an index against a scan of itself, every answer checked for order.
pub(crate) fn mean_recall(index: &VectorIndex, queries: &[Vec<f32>], allow: Allow<'_>) -> f64 {
    mean_recall_at(index, queries, 10, allow)
}

/// The same for any `k`.
pub(crate) fn mean_recall_at(
    index: &VectorIndex,
    queries: &[Vec<f32>],
    k: usize,
    allow: Allow<'_>,
) -> f64 {
    let one = |query: &Vec<f32>| {
        let found = find(index, query, k, allow);
        assert_ordered(&found.neighbours);
        let exact = scan(index, query, k, allow).neighbours;
        assert_eq!(found.neighbours.len(), exact.len());
        recall(&found.neighbours, &exact)
    };
    queries.iter().map(one).sum::<f64>() / queries.len() as f64
}
