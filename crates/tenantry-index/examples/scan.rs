//! Times exact search with and without the int8 codes, side by side in one run.
//!
//! ```text
//! cargo run --release -p tenantry-index --example scan -- [N] [DIMENSION] [FILE.npy]
//! ```
//!
//! Without a file the vectors are synthetic: Gaussian clusters. A file holds little-endian
//! float16 rows in NumPy's format; 200 rows, evenly spread, are held out as queries.

mod data;
#[path = "data/npy.rs"]
mod npy;

use data::clusters;
use npy::read_npy;
use std::{
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};
use tenantry_index::{Allow, ExactIndex, Neighbour, instruction_set};
use tenantry_types::Metric;

const QUERIES: usize = 200;
const K: usize = 10;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let n: usize = args.next().map_or(Ok(10_000), |arg| arg.parse())?;
    let dimension: usize = args.next().map_or(Ok(384), |arg| arg.parse())?;
    let mut vectors = match args.next() {
        Some(path) => read_npy(&std::fs::read(path)?, dimension)?,
        None => clusters(n + QUERIES, dimension),
    };
    vectors.truncate(n + QUERIES);
    if vectors.len() <= QUERIES {
        return Err("too few rows".into());
    }
    let stride = vectors.len() / QUERIES;
    let queries: Vec<_> = (0..QUERIES).rev().map(|i| vectors.swap_remove(i * stride)).collect();
    println!("{} x {dimension}, k = {K}, {}", vectors.len(), instruction_set());
    for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
        measure(metric, &vectors, &queries);
    }
    Ok(())
}

fn measure(metric: Metric, vectors: &[Vec<f32>], queries: &[Vec<f32>]) {
    let mut index = ExactIndex::new(metric, vectors[0].len());
    index.reserve(vectors.len());
    let start = Instant::now();
    for (slot, vector) in (0..).zip(vectors) {
        index.set(slot, vector);
    }
    let set = micros(start.elapsed(), vectors.len());

    let mut best = [Duration::MAX; 2];
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let originals = |query: &Vec<f32>| index.search_originals(query, K, Allow::All);
        (best[0], found[0]) = time(best[0], queries, originals);
        let codes = |query: &Vec<f32>| index.search(query, K, Allow::All);
        (best[1], found[1]) = time(best[1], queries, codes);
    }
    let hits: usize = found[0].iter().zip(&found[1]).map(|(a, b)| common(a, b)).sum();
    let [f32, int8] = best.map(|best| micros(best, queries.len()));
    println!(
        "{metric:?}: f32 {f32:.0} us, int8 + re-rank {int8:.0} us ({:.1}x), recall@{K} {:.5}; \
         set {set:.2} us, {} bytes/vector",
        f32 / int8,
        hits as f64 / (K * queries.len()) as f64,
        index.bytes() / index.len(),
    );
}

fn time(
    best: Duration,
    queries: &[Vec<f32>],
    search: impl Fn(&Vec<f32>) -> Vec<Neighbour>,
) -> (Duration, Vec<Vec<Neighbour>>) {
    let start = Instant::now();
    let found = black_box(queries.iter().map(search).collect());
    (best.min(start.elapsed()), found)
}

fn micros(time: Duration, among: usize) -> f64 {
    time.as_secs_f64() * 1e6 / among as f64
}

fn common(a: &[Neighbour], b: &[Neighbour]) -> usize {
    a.iter().filter(|a| b.iter().any(|b| a.slot == b.slot)).count()
}
