//! Times exact search with and without the int8 codes, side by side in one run.
//!
//! ```text
//! cargo run --release -p tenantry-index --example scan -- [N] [DIMENSION] [FILE.npy]
//! ```
//!
//! Without a file the vectors are synthetic: Gaussian clusters. A file holds little-endian
//! float16 rows in NumPy's format; 200 rows, evenly spread, are held out as queries.

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

/// One cluster per hundred vectors, within which cosines are about one half.
fn clusters(n: usize, dimension: usize) -> Vec<Vec<f32>> {
    let mut state = 7;
    let mut gaussians = |count| -> Vec<f32> { (0..count).map(|_| gaussian(&mut state)).collect() };
    let centres: Vec<_> = (0..n.div_ceil(100)).map(|_| gaussians(dimension)).collect();
    let around = |i: usize| {
        let centre = &centres[i % centres.len()];
        let vector: Vec<f32> =
            gaussians(dimension).iter().zip(centre).map(|(x, centre)| x + centre).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / norm).collect()
    };
    (0..n).map(around).collect()
}

/// The sum of twelve uniform numbers less six.
fn gaussian(state: &mut u64) -> f32 {
    (0..12).map(|_| uniform(state)).sum::<f32>() - 6.0
}

/// SplitMix64.
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1_u32 << 24) as f32
}

fn read_npy(bytes: &[u8], dimension: usize) -> Result<Vec<Vec<f32>>, Box<dyn Error>> {
    let header = bytes.get(8..10).ok_or("no NumPy header")?;
    let data = 10 + usize::from(u16::from_le_bytes([header[0], header[1]]));
    let description = String::from_utf8_lossy(bytes.get(10..data).ok_or("no NumPy header")?);
    if !bytes.starts_with(b"\x93NUMPY\x01") || !description.contains("'<f2'") {
        return Err("not version 1 of NumPy's format with little-endian float16".into());
    }
    if !description.contains(&format!(", {dimension})")) {
        return Err(format!("the rows have another dimension: {description}").into());
    }
    let half = |two: &[u8; 2]| from_half(u16::from_le_bytes(*two));
    let values: Vec<f32> = bytes[data..].as_chunks::<2>().0.iter().map(half).collect();
    Ok(values.chunks_exact(dimension).map(<[f32]>::to_vec).collect())
}

/// IEEE binary16; infinities and NaN do not occur in embeddings.
fn from_half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = if exponent == 0 {
        fraction * 2.0_f32.powi(-24)
    } else {
        (1024.0 + fraction) * 2.0_f32.powi(exponent - 25)
    };
    sign * magnitude
}
