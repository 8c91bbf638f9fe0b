//! Searches that only some vectors may answer: recall, and time against a scan of what is allowed.
//!
//! ```text
//! cargo run --release -p tenantry-index --example filters -- [N] [FILE.npy LABELS.txt]
//! ```
//!
//! Without files the vectors are synthetic: clusters far from each other, or clusters of clusters,
//! and the filters allow unions of them. With files, rows of little-endian float16 in NumPy's
//! format and a label a line, the filters allow unions of labels. Queries are told apart by whether
//! their own cluster or label is allowed: those outside are the hard ones.

#[path = "data/npy.rs"]
mod npy;
#[path = "data/random.rs"]
mod random;

use npy::read_npy;
use std::{collections::BTreeMap, error::Error, time::Instant};
use tenantry_index::{Allow, IndexConfig, Plan, SearchOptions, VectorIndex, recall};
use tenantry_types::Metric;

const QUERIES: usize = 100;
const ROUNDS: usize = 2;

/// Random numbers by a seed.
struct Random(u64);

impl Random {
    /// A number in 0..1.
    fn uniform(&mut self) -> f32 {
        random::uniform(&mut self.0)
    }

    /// A normally distributed number, near enough.
    fn gaussian(&mut self) -> f32 {
        random::gaussian(&mut self.0)
    }

    /// A whole number below `below`.
    fn below(&mut self, below: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below it")]
        let number = (self.uniform() * below as f32) as usize;
        number.min(below - 1)
    }
}

/// Vectors with the group that each belongs to.
struct Labelled {
    name: String,
    vectors: Vec<Vec<f32>>,
    labels: Vec<u32>,
    queries: Vec<(Vec<f32>, u32)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let n = args.first().map_or(Ok(40_000), |arg| arg.parse())?;
    let sets = match args.get(1..) {
        Some([vectors, labels]) => {
            let rows = read_npy(&std::fs::read(vectors)?, 384)?;
            vec![real(labels, rows, &std::fs::read_to_string(labels)?, n)?]
        }
        _ => vec![
            synthetic("400 clusters", n, 96, &[400], 0.3),
            synthetic("40 clusters", n, 96, &[40], 0.1),
            synthetic("20 clusters of 40", n, 96, &[20, 40], 0.3),
            synthetic("5 clusters of 50 of 10", n, 96, &[5, 50, 10], 0.4),
        ],
    };
    for set in &sets {
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
            measure_all(set, metric)?;
        }
    }
    Ok(())
}

/// Clusters of clusters, each level `spread` times as wide as the one above.
fn synthetic(name: &str, n: usize, dimension: usize, levels: &[usize], spread: f32) -> Labelled {
    let mut random = Random(n as u64 + levels.len() as u64);
    let mut centres = vec![vec![0.0; dimension]];
    let mut wide = 1.0;
    let around = |random: &mut Random, centre: &Vec<f32>, wide: f32| -> Vec<f32> {
        centre.iter().map(|x| x + wide * random.gaussian()).collect()
    };
    for &count in levels {
        centres = centres
            .iter()
            .flat_map(|centre| (0..count).map(|_| centre.clone()).collect::<Vec<_>>())
            .map(|centre| around(&mut random, &centre, wide))
            .collect();
        wide *= spread;
    }
    let one = |random: &mut Random| {
        let label = random.below(centres.len());
        (around(random, &centres[label], wide), u32::try_from(label).unwrap_or(0))
    };
    let (vectors, labels) = (0..n).map(|_| one(&mut random)).unzip();
    let queries = (0..QUERIES).map(|_| one(&mut random)).collect();
    Labelled { name: name.to_owned(), vectors, labels, queries }
}

fn real(
    name: &str,
    rows: Vec<Vec<f32>>,
    labels: &str,
    n: usize,
) -> Result<Labelled, Box<dyn Error>> {
    let mut numbers = BTreeMap::new();
    let labels = labels.lines().map(|label| {
        let next = u32::try_from(numbers.len()).unwrap_or(0);
        *numbers.entry(label.to_owned()).or_insert(next)
    });
    let labels: Vec<u32> = labels.collect();
    if labels.len() != rows.len() {
        return Err("a label a row is needed".into());
    }
    let stride = rows.len() / QUERIES;
    let mut set =
        Labelled { name: name.to_owned(), vectors: vec![], labels: vec![], queries: vec![] };
    for (at, (row, label)) in rows.into_iter().zip(labels).enumerate() {
        if at % stride == 7 && set.queries.len() < QUERIES {
            set.queries.push((row, label));
        } else if set.vectors.len() < n {
            set.vectors.push(row);
            set.labels.push(label);
        }
    }
    Ok(set)
}

fn measure_all(set: &Labelled, metric: Metric) -> Result<(), Box<dyn Error>> {
    let config = IndexConfig { graph_above: 1, ..IndexConfig::default() };
    let mut index = VectorIndex::new(metric, set.vectors[0].len(), config);
    index.reserve(set.vectors.len());
    let mut random = Random(3);
    for (slot, vector) in (0..).zip(&set.vectors) {
        // As long as embeddings come, products would be cosines: vary the lengths.
        let length =
            if metric == Metric::InnerProduct { 0.5 + 1.5 * random.uniform() } else { 1.0 };
        let vector: Vec<f32> = vector.iter().map(|x| x * length).collect();
        index.set(slot, &vector);
    }
    while let Some(work) = index.work() {
        index.apply(work);
    }
    println!("\n{}, {} vectors, {metric:?}", set.name, index.len());
    println!(
        "{:>22} {:>8} {:>4} {:>8} {:>8} {:>8} {:>7} {:>9} {:>9} {:>6} {:>7} {:>7}",
        "filter",
        "allowed",
        "k",
        "inside",
        "outside",
        "worst",
        "walked",
        "us",
        "scan us",
        "ratio",
        "out rat",
        "codes"
    );
    for part in [2_u32, 4, 10, 30, 1_000] {
        let mut of_label: Vec<u32> = set.labels.clone();
        of_label.sort_unstable();
        of_label.dedup();
        let mut random = Random(part.into());
        for at in (1..of_label.len()).rev() {
            of_label.swap(at, random.below(at + 1));
        }
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        set.labels.iter().for_each(|label| *counts.entry(*label).or_default() += 1);
        let wanted = set.vectors.len() / part as usize;
        let mut allowed = Vec::new();
        let mut sum = 0;
        for label in of_label {
            if sum + counts[&label] <= wanted + wanted / 10 {
                sum += counts[&label];
                allowed.push(label);
            }
        }
        let union = |label: u32| allowed.contains(&label);
        let slots = |accept: &mut dyn FnMut(u32, u32) -> bool| -> Vec<u32> {
            let each = (0..).zip(&set.labels);
            each.filter(|(slot, label)| accept(*slot, **label)).map(|(slot, _)| slot).collect()
        };
        let random = slots(&mut |slot, _| mix(slot).is_multiple_of(part));
        case(&index, set, &format!("1/{part} random"), &random, |_| true)?;
        if !allowed.is_empty() {
            let whole = slots(&mut |_, label| union(label));
            case(&index, set, &format!("1/{part} labels"), &whole, union)?;
            let some = slots(&mut |slot, label| union(label) && !mix(slot).is_multiple_of(3));
            case(&index, set, &format!("2/3 of 1/{part} labels"), &some, union)?;
        }
        // Most of what is allowed far away, a little of it everywhere.
        let mixed = slots(&mut |slot, label| union(label) || mix(slot).is_multiple_of(50));
        case(&index, set, &format!("1/{part} labels + 1/50"), &mixed, union)?;
    }
    Ok(())
}

fn case(
    index: &VectorIndex,
    set: &Labelled,
    name: &str,
    slots: &[u32],
    inside: impl Fn(u32) -> bool,
) -> Result<(), Box<dyn Error>> {
    let allow = Allow::Slots(slots);
    let scan = SearchOptions { exact: true, ..SearchOptions::default() };
    for k in [1, 10, 100] {
        let (mut hits, mut counts, mut worst) = ([0.0; 2], [0.0; 2], 1.0_f64);
        let (mut walked, mut codes, mut ours, mut theirs) = (0, 0, [0.0; 2], [0.0; 2]);
        for (query, label) in &set.queries {
            let mut best = [f64::INFINITY; 2];
            let side = usize::from(!inside(*label));
            let mut part = 0.0;
            for _ in 0..ROUNDS {
                let start = Instant::now();
                let exact = index.search(query, k, allow, &scan, &mut || Ok(()))?;
                best[1] = best[1].min(start.elapsed().as_secs_f64());
                let start = Instant::now();
                let found =
                    index.search(query, k, allow, &SearchOptions::default(), &mut || Ok(()))?;
                best[0] = best[0].min(start.elapsed().as_secs_f64());
                if found.neighbours.len() != exact.neighbours.len() {
                    return Err("fewer than there are".into());
                }
                part = recall(&found.neighbours, &exact.neighbours);
                codes += found.compared_codes;
                walked += usize::from(found.plan == Plan::GraphFiltered);
            }
            ours[side] += best[0];
            theirs[side] += best[1];
            hits[side] += part;
            counts[side] += 1.0;
            worst = worst.min(part);
        }
        let queries = set.queries.len() as f64;
        let [inside, outside] = [hits[0] / counts[0], hits[1] / counts[1]];
        let [our, their] = [ours, theirs].map(|two: [f64; 2]| two[0] + two[1]);
        let low = inside < 0.98 || outside < 0.98;
        println!(
            "{name:>22} {:8} {k:4} {inside:8.4} {outside:8.4} {worst:8.2} {:7.2} {:9.1} {:9.1} \
             {:6.2} {:7.2} {:7} {}",
            slots.len(),
            walked as f64 / queries / ROUNDS as f64,
            our / queries * 1e6,
            their / queries * 1e6,
            our / their,
            ours[1] / theirs[1],
            codes / ROUNDS as u64 / set.queries.len() as u64,
            if low { "LOW" } else { "" },
        );
    }
    Ok(())
}

/// Scatters slots.
fn mix(slot: u32) -> u32 {
    (slot ^ 0x5bd1).wrapping_mul(0x9e37_79b1) >> 11
}
