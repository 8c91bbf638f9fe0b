//! The vectors of a run: real embeddings with some held out as queries, or clusters by a seed.

use crate::{
    npy::{self, Matrix},
    process::output,
    random::{Random, Zipf},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tenantry_index::{Allow, ExactIndex};
use tenantry_types::Metric;

/// Rows of a synthetic cluster, on average.
const CLUSTER_ROWS: usize = 200;
/// Directions in which a synthetic cluster extends: text embeddings have about as many.
const CLUSTER_DIRECTIONS: usize = 24;
/// Directions that clusters share, of which each has some.
const DIRECTIONS: usize = 256;
const SECTIONS: usize = 58;
const SYNTHETIC_ROWS: usize = 100_000;
/// Distances that differ by less count as equal: half-precision data has many ties.
const TIE: f32 = 1e-6;
/// So many vectors beyond the wanted ones may tie with the last of them.
const TIES_MAX: usize = 16;

/// Which vectors.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// A folder with `vectors.f16.npy` and `packages.jsonl.gz`; without it, synthetic clusters
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many vectors [default: all of the folder's, or 100000 synthetic ones]
    #[arg(long)]
    pub(crate) count: Option<usize>,
    /// Components of synthetic vectors
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u16).range(2..=4_096))]
    dimension: u16,
    /// Vectors held out as queries
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    queries: u16,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Vectors to store and vectors to ask with.
#[derive(Debug)]
pub(crate) struct Corpus {
    /// Where they come from, for the report.
    pub(crate) origin: String,
    pub(crate) real: bool,
    pub(crate) base: Matrix,
    pub(crate) queries: Matrix,
    /// The section of each stored row: a label that goes with its content.
    pub(crate) sections: Vec<String>,
}

impl Choice {
    /// The same choice of so many vectors.
    pub(crate) fn with_count(&self, count: usize) -> Self {
        Self { count: Some(count), ..self.clone() }
    }

    /// Loads or makes the vectors.
    pub(crate) fn corpus(&self) -> Result<Corpus> {
        let queries = usize::from(self.queries);
        let corpus = match &self.data {
            Some(folder) => self.load(folder, queries)?,
            None => {
                let count = self.count.unwrap_or(SYNTHETIC_ROWS);
                synthetic(self.seed, count, queries, self.dimension.into())
            }
        };
        ensure!(corpus.base.len() > 0, "there are no vectors");
        let (base, dimension) = (corpus.base.len(), corpus.base.dimension);
        println!("{base} x {dimension}, {queries} queries: {}", corpus.origin);
        Ok(corpus)
    }

    fn load(&self, folder: &Path, queries: usize) -> Result<Corpus> {
        let file = folder.join("vectors.f16.npy");
        let all = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let all = npy::parse(&all)?;
        let sections = sections(&folder.join("packages.jsonl.gz"))?;
        ensure!(sections.len() == all.len(), "{} sections of {}", sections.len(), all.len());
        ensure!(all.len() > queries, "{queries} of {} rows as queries leave none", all.len());
        let mut random = Random::new(self.seed);
        let count = self.count.unwrap_or(all.len()).min(all.len() - queries);
        let stride = all.len() / queries;
        let is_query = |row: usize| row.is_multiple_of(stride) && row / stride < queries;
        let others: Vec<_> = (0..all.len()).filter(|row| !is_query(*row)).collect();
        let chosen = random.sample(count, others.len());
        let chosen = chosen.iter().filter_map(|at| others.get(*at as usize).copied());
        let mut corpus = Corpus {
            origin: "packages with all-MiniLM-L6-v2 embeddings".to_owned(),
            real: true,
            base: Matrix::new(all.dimension),
            queries: Matrix::new(all.dimension),
            sections: Vec::new(),
        };
        for row in chosen {
            corpus.base.push(all.row(row));
            corpus.sections.push(sections.get(row).cloned().unwrap_or_default());
        }
        (0..queries).for_each(|query| corpus.queries.push(all.row(query * stride)));
        Ok(corpus)
    }
}

/// The lines of a compressed file.
pub(crate) fn gzip_lines(file: &Path) -> Result<String> {
    let bytes = output(Command::new("gzip").arg("-dc").arg(file))?;
    String::from_utf8(bytes).with_context(|| format!("{} is not UTF-8", file.display()))
}

fn sections(file: &Path) -> Result<Vec<String>> {
    let section = |line: &str| {
        let package: Value = serde_json::from_str(line)?;
        Ok(package.get("section").and_then(Value::as_str).unwrap_or_default().to_owned())
    };
    gzip_lines(file)?.lines().map(section).collect()
}

/// Unit vectors in clusters. A cluster has a centre and extends, less and less, in a few of the
/// directions that all clusters draw from, plus a little in all: so that, as with embeddings of
/// text, a vector's neighbours differ in distance although it has many components.
pub(crate) fn synthetic(seed: u64, count: usize, queries: usize, dimension: usize) -> Corpus {
    let mut random = Random::new(seed);
    let directions: Vec<_> = (0..DIRECTIONS).map(|_| direction(&mut random, dimension)).collect();
    let zipf = Zipf::new(SECTIONS, 1.0);
    let clusters: Vec<_> = (0..count.div_ceil(CLUSTER_ROWS).max(1))
        .map(|_| {
            let centre = direction(&mut random, dimension);
            let own = random.sample(CLUSTER_DIRECTIONS, DIRECTIONS);
            (centre, own, format!("section-{:02}", zipf.draw(&mut random)))
        })
        .collect();
    let mut corpus = Corpus {
        origin: format!("synthetic clusters, seed {seed}"),
        real: false,
        base: Matrix::new(dimension),
        queries: Matrix::new(dimension),
        sections: Vec::new(),
    };
    let mut row = vec![0.0; dimension];
    for index in 0..count + queries {
        let Some((centre, own, section)) = clusters.get(random.below(clusters.len())) else {
            break;
        };
        row.copy_from_slice(centre);
        for (rank, direction) in own.iter().enumerate() {
            let length = 0.5 * random.normal() / (1.0 + rank as f32).sqrt();
            let direction = directions.get(*direction as usize).map_or(&[][..], Vec::as_slice);
            row.iter_mut().zip(direction).for_each(|(x, along)| *x += length * along);
        }
        let noise = 0.2 / (dimension as f32).sqrt();
        for x in &mut row {
            *x += noise * random.normal();
        }
        normalise(&mut row);
        if index < count {
            corpus.base.push(&row);
            corpus.sections.push(section.clone());
        } else {
            corpus.queries.push(&row);
        }
    }
    corpus
}

fn direction(random: &mut Random, dimension: usize) -> Vec<f32> {
    let mut made: Vec<f32> = (0..dimension).map(|_| random.normal()).collect();
    normalise(&mut made);
    made
}

/// Scales to length 1; zero stays.
pub(crate) fn normalise(vector: &mut [f32]) {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        for x in vector {
            *x /= length;
        }
    }
}

/// The exact answer of one query.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Truth {
    /// All that belong into the answer, more than wanted if distances are equal.
    nearest: Vec<u32>,
    wanted: usize,
}

impl Truth {
    /// The share of the exact answer that these ids hold, from 0 to 1.
    pub(crate) fn recall(&self, ids: &[u32]) -> f64 {
        if self.wanted == 0 {
            return 1.0;
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let hits = ids.iter().filter(|id| self.nearest.contains(id)).count();
        hits.min(self.wanted) as f64 / self.wanted as f64
    }
}

/// An index in which the exact answers are found.
pub(crate) fn exact_index(base: &Matrix) -> ExactIndex {
    let mut index = ExactIndex::new(Metric::Cosine, base.dimension);
    index.reserve(base.len());
    (0..).zip(base.rows()).for_each(|(slot, row)| index.set(slot, row));
    index
}

/// The exact answers, by comparing every allowed 32-bit original.
pub(crate) fn truths<'a>(
    index: &ExactIndex,
    queries: impl Iterator<Item = &'a [f32]>,
    k: usize,
    allow: Allow<'_>,
) -> Vec<Truth> {
    let truth = |query: &[f32]| {
        let found = index.search_originals(query, k + TIES_MAX, allow);
        let wanted = found.len().min(k);
        let limit = found.get(wanted.wrapping_sub(1)).map_or(0.0, |last| last.distance + TIE);
        let nearest = found.iter().take_while(|one| one.distance <= limit);
        Truth { nearest: nearest.map(|one| one.slot).collect(), wanted }
    };
    queries.map(truth).collect()
}

/// The mean recall of all answers.
pub(crate) fn mean_recall(truths: &[Truth], answers: &[Vec<u32>]) -> f64 {
    let sum: f64 = truths.iter().zip(answers).map(|(truth, ids)| truth.recall(ids)).sum();
    sum / truths.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synthetic_data_has_the_asked_shape_and_depends_on_the_seed_alone() {
        let made = synthetic(1, 500, 20, 32);
        assert_eq!((made.base.len(), made.queries.len(), made.sections.len()), (500, 20, 500));
        assert_eq!(made.base, synthetic(1, 500, 20, 32).base);
        assert_ne!(made.base, synthetic(2, 500, 20, 32).base);
        let length = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>();
        assert!(made.base.rows().all(|row| (length(row) - 1.0).abs() < 1e-4));
    }

    #[test]
    fn recall_counts_each_true_neighbour_once() {
        let truth = Truth { nearest: vec![3, 5, 8], wanted: 2 };
        for (ids, expected) in
            [(&[3, 5][..], 1.0), (&[8, 3], 1.0), (&[3, 3], 0.5), (&[1, 2], 0.0), (&[3, 5, 8], 1.0)]
        {
            assert!((truth.recall(ids) - expected).abs() < 1e-9, "{ids:?}");
        }
        assert!((Truth { nearest: vec![], wanted: 0 }.recall(&[]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn truths_are_exact_and_hold_ties() {
        let mut base = Matrix::new(2);
        for row in [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [-1.0, 0.0]] {
            base.push(&row);
        }
        let index = exact_index(&base);
        let query = [1.0, 0.1];
        let found = truths(&index, std::iter::once(&query[..]), 1, Allow::All);
        assert_eq!(found, vec![Truth { nearest: vec![0, 2], wanted: 1 }]);
        let found = truths(&index, std::iter::once(&query[..]), 3, Allow::Slots(&[1, 3]));
        assert_eq!(found, vec![Truth { nearest: vec![1, 3], wanted: 2 }]);
        assert!((mean_recall(&found, &[vec![1]]) - 0.5).abs() < 1e-9);
    }
}
