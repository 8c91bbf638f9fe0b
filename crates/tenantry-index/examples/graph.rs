//! Builds a graph and times searches by it: recall and latency by beam, filters, bytes.
//!
//! ```text
//! cargo run --release -p tenantry-index --example graph -- [N] [DIMENSION] [FILE.npy] [METRIC]
//! ```
//!
//! Without a file (or with `-`) the vectors are synthetic: Gaussian clusters. A file holds
//! little-endian float16 rows in NumPy's format; 500 rows, evenly spread, are held out as queries.
//! METRIC is `cosine` (the default), `l2` or `ip`.

mod data;
#[path = "data/npy.rs"]
mod npy;

use data::clusters;
use npy::read_npy;
use std::{
    error::Error,
    time::{Duration, Instant},
};
use tenantry_index::{
    Allow, IndexConfig, Neighbour, SearchOptions, VectorIndex, instruction_set, recall,
};
use tenantry_types::Metric;

const QUERIES: usize = 500;
const K: usize = 10;
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let n: usize = args.next().map_or(Ok(20_000), |arg| arg.parse())?;
    let dimension: usize = args.next().map_or(Ok(384), |arg| arg.parse())?;
    let mut vectors = match args.next().filter(|path| path != "-") {
        Some(path) => read_npy(&std::fs::read(path)?, dimension)?,
        None => clusters(n + QUERIES, dimension),
    };
    let metric = match args.next().as_deref() {
        None | Some("cosine") => Metric::Cosine,
        Some("l2") => Metric::L2,
        Some("ip") => Metric::InnerProduct,
        Some(other) => return Err(format!("no metric {other}").into()),
    };
    vectors.truncate(n + QUERIES);
    if vectors.len() <= QUERIES {
        return Err("too few rows".into());
    }
    if metric == Metric::InnerProduct {
        // As long as they come, products would be cosines: vary the lengths fourfold.
        for (slot, vector) in (0..).zip(&mut vectors) {
            let length = 0.5 + (mix(slot) % 1_000) as f32 / 666.0;
            *vector = vector.iter().map(|x| x * length).collect();
        }
    }
    let stride = vectors.len() / QUERIES;
    let queries: Vec<_> = (0..QUERIES).rev().map(|i| vectors.swap_remove(i * stride)).collect();
    println!("{} x {dimension}, {metric:?}, k = {K}, {}", vectors.len(), instruction_set());

    let index = build(metric, &vectors);
    beams(&index, &queries)?;
    filters(&index, &queries)?;
    Ok(())
}

/// Sets all vectors and works until nothing is left to do.
fn build(metric: Metric, vectors: &[Vec<f32>]) -> VectorIndex {
    let config = IndexConfig { graph_above: 1, ..IndexConfig::default() };
    let mut index = VectorIndex::new(metric, vectors[0].len(), config);
    index.reserve(vectors.len());
    let start = Instant::now();
    for (slot, vector) in (0..).zip(vectors) {
        index.set(slot, vector);
    }
    let set = start.elapsed();
    let start = Instant::now();
    let (mut longest_work, mut longest_apply) = (Duration::ZERO, Duration::ZERO);
    loop {
        let begun = Instant::now();
        let Some(work) = index.work() else { break };
        let computed = Instant::now();
        index.apply(work);
        longest_work = longest_work.max(computed - begun);
        longest_apply = longest_apply.max(computed.elapsed());
    }
    println!(
        "set {:.1} us, link {:.0} us a vector (work at most {:.0} us, apply {:.0} us); {} bytes \
         a vector; {:?}",
        micros(set, vectors.len()),
        micros(start.elapsed(), vectors.len()),
        micros(longest_work, 1),
        micros(longest_apply, 1),
        index.bytes() / vectors.len(),
        index.progress(),
    );
    index
}

fn beams(index: &VectorIndex, queries: &[Vec<f32>]) -> Result<(), Box<dyn Error>> {
    let scan = SearchOptions { exact: true, ..SearchOptions::default() };
    let exact = measure("exact", index, queries, Allow::All, &scan, None)?;
    for beam in [None, Some(16), Some(24), Some(32), Some(48), Some(64), Some(96), Some(128)] {
        let how = SearchOptions { beam, ..SearchOptions::default() };
        let name = beam.map_or("beam of its choice".to_owned(), |beam| format!("beam {beam}"));
        measure(&name, index, queries, Allow::All, &how, Some(&exact))?;
    }
    Ok(())
}

/// Filters that allow every so-manieth vector, and ones that allow those near one vector.
fn filters(index: &VectorIndex, queries: &[Vec<f32>]) -> Result<(), Box<dyn Error>> {
    let scan = SearchOptions { exact: true, ..SearchOptions::default() };
    let vectors = index.len();
    for part in [2, 4, 10, 100, 1_000] {
        let random: Vec<u32> =
            (0..).take(vectors).filter(|slot| mix(*slot).is_multiple_of(part)).collect();
        let allowed = vectors / part as usize;
        let first = index.get(0).ok_or("originals are kept")?.to_vec();
        let near = index.search(&first, allowed, Allow::All, &scan, &mut || Ok(()))?;
        let mut cluster: Vec<u32> = near.neighbours.iter().map(|one| one.slot).collect();
        cluster.sort_unstable();
        for (name, slots) in [("random", random), ("cluster", cluster)] {
            let name = format!("1/{part} {name}");
            let allow = Allow::Slots(&slots);
            let exact = measure(&format!("{name}, exact"), index, queries, allow, &scan, None)?;
            measure(&name, index, queries, allow, &SearchOptions::default(), Some(&exact))?;
        }
    }
    Ok(())
}

/// Prints the median latency, and the recall against `exact`; gives what was found.
fn measure(
    name: &str,
    index: &VectorIndex,
    queries: &[Vec<f32>],
    allow: Allow<'_>,
    how: &SearchOptions,
    exact: Option<&[Vec<Neighbour>]>,
) -> Result<Vec<Vec<Neighbour>>, Box<dyn Error>> {
    let mut times = Vec::new();
    let mut answers = Vec::new();
    let (mut codes, mut originals, mut hits, mut plan) = (0, 0, 0.0, None);
    for _ in 0..ROUNDS {
        answers.clear();
        (codes, originals, hits) = (0, 0, 0.0);
        for (number, query) in queries.iter().enumerate() {
            let start = Instant::now();
            let found = index.search(query, K, allow, how, &mut || Ok(()))?;
            times.push(start.elapsed());
            codes += found.compared_codes;
            originals += found.compared_originals;
            hits += exact.map_or(1.0, |exact| recall(&found.neighbours, &exact[number]));
            plan = Some(found.plan);
            answers.push(found.neighbours);
        }
    }
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>();
    let count = queries.len() as u64;
    println!(
        "{name:>20}: recall {:.4}, {:7.1} us median, {:7.1} mean, {:7.1} p99, {:6} codes, {:3} \
         originals, last by {plan:?}",
        hits / queries.len() as f64,
        micros(times[times.len() / 2], 1),
        micros(mean, times.len()),
        micros(times[times.len() * 99 / 100], 1),
        codes / count,
        originals / count,
    );
    Ok(answers)
}

fn micros(time: Duration, among: usize) -> f64 {
    time.as_secs_f64() * 1e6 / among as f64
}

/// Scatters slots.
fn mix(slot: u32) -> u32 {
    slot.wrapping_mul(0x9e37_79b1) >> 11
}
