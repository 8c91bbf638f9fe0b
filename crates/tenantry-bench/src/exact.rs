//! A scan of all vectors in process, one thread: what a tenant too small for a graph waits for.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    corpus::{exact_index, mean_recall, synthetic, truths},
    npy::Matrix,
    ours::{Kept, Ours},
    report::{self, Goal, Row, number},
    statistics::percentile,
};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use tenantry_index::{Allow, SearchOptions};

const NEIGHBOURS: usize = 10;
/// Queries before each turn that do not count.
const WARM_UP: usize = 20;
/// The size for which something is promised, and what.
const PROMISED: (usize, u16, f64) = (10_000, 768, 1.0);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many vectors
    #[arg(long, default_value_t = PROMISED.0, value_parser = count)]
    count: usize,
    /// Components of the vectors, one measurement for each
    #[arg(long, value_delimiter = ',', default_values_t = [384, PROMISED.1, 1_536],
        value_parser = clap::value_parser!(u16).range(2..=4_096))]
    dimensions: Vec<u16>,
    /// How precisely vectors are kept
    #[arg(long, value_enum, default_value = "full")]
    storage: Kept,
    /// Queries of each round
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    queries: u16,
    /// Rounds, in each of which every dimension takes its turn
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seed of the vectors
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// An index of one dimension, and what was measured so far.
struct Contestant {
    dimension: u16,
    ours: Ours,
    queries: Matrix,
    recall: f64,
    /// Milliseconds of each query, round by round.
    rounds: Vec<Vec<f64>>,
}

impl Contestant {
    fn new(options: &Options, dimension: u16) -> Result<Self> {
        let corpus =
            synthetic(options.seed, options.count, options.queries.into(), dimension.into());
        let ours = Ours::build(&corpus.base, options.storage, Some(usize::MAX), options.seed)?;
        let index = exact_index(&corpus.base);
        let truths = truths(&index, corpus.queries.rows(), NEIGHBOURS, Allow::All);
        let queries = corpus.queries;
        let mut made = Self { dimension, ours, queries, recall: 0.0, rounds: Vec::new() };
        made.recall = mean_recall(&truths, &made.ask(usize::MAX)?.0);
        Ok(made)
    }

    /// The answers to the first queries, and the milliseconds of each.
    fn ask(&self, count: usize) -> Result<(Vec<Vec<u32>>, Vec<f64>)> {
        let queries = self.queries.rows().take(count);
        let how = SearchOptions { beam: None, exact: true };
        let (answers, _) = self.ours.search(queries, NEIGHBOURS, Allow::All, &how)?;
        Ok((answers.ids, answers.nanoseconds.iter().map(|one| one / 1e6).collect()))
    }

    fn turn(&mut self) -> Result<()> {
        self.ask(WARM_UP)?;
        self.rounds.push(self.ask(usize::MAX)?.1);
        Ok(())
    }

    fn percentiles(&self, percent: f64) -> Vec<f64> {
        self.rounds.iter().map(|round| percentile(round, percent)).collect()
    }

    fn json(&self) -> Value {
        json!({
            "dimension": self.dimension, "recall": self.recall, "bytes": self.ours.bytes,
            "p50_ms": self.percentiles(50.0), "p99_ms": self.percentiles(99.0),
        })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut all = Vec::new();
    for dimension in &options.dimensions {
        all.push(Contestant::new(options, *dimension)?);
    }
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        for contestant in &mut all {
            contestant.turn()?;
        }
    }
    let details = json!({
        "vectors": options.count, "queries": options.queries, "neighbours": NEIGHBOURS,
        "seed": options.seed, "dimensions": all.iter().map(Contestant::json).collect::<Vec<_>>(),
    });
    report::finish("exact", &rows(&all, options.count), details, &chart(&all, options.count))
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=10_000_000) => Ok(count),
        _ => Err("expected a number from 1 to 10000000".to_owned()),
    }
}

fn rows(all: &[Contestant], count: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for one in all {
        let of = |what: &str, ours, goal| Row {
            what: format!("{count} x {}, {what}", one.dimension),
            unit: "ms",
            peer: format!("- (recall {})", number(one.recall)),
            ours,
            theirs: Vec::new(),
            goal,
        };
        rows.push(of("p50", one.percentiles(50.0), goal(count, one.dimension)));
        rows.push(of("p99", one.percentiles(99.0), Goal::Shown));
    }
    rows
}

fn goal(count: usize, dimension: u16) -> Goal {
    let (vectors, components, most) = PROMISED;
    let promised = (count, dimension) == (vectors, components);
    if promised { Goal::Within(most) } else { Goal::Shown }
}

fn chart(all: &[Contestant], count: usize) -> Chart {
    let series = |one: &Contestant| Series {
        name: format!("{} components", one.dimension),
        points: [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0]
            .map(|percent| (percent, percentile(&one.rounds.concat(), percent)))
            .to_vec(),
    };
    Chart {
        title: format!("exact search of {count} vectors"),
        x: Axis { label: "percentile", scale: Scale::Linear },
        y: Axis { label: "milliseconds of a query, one thread", scale: Scale::Logarithmic },
        series: all.iter().map(series).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_promised_size_is_judged() {
        assert_eq!(goal(10_000, 768), Goal::Within(1.0));
        assert_eq!(goal(10_000, 384), Goal::Shown);
        assert_eq!(goal(1_000, 768), Goal::Shown);
    }

    #[test]
    fn a_scan_finds_every_neighbour_at_every_size() {
        let options = Options {
            count: 300,
            dimensions: vec![8],
            storage: Kept::Full,
            queries: 20,
            rounds: 1,
            seed: 3,
        };
        let mut one = Contestant::new(&options, 8).unwrap();
        assert!((one.recall - 1.0).abs() < 1e-9, "{}", one.recall);
        one.turn().unwrap();
        assert_eq!((one.rounds.len(), one.rounds[0].len()), (1, 20));
        assert!(rows(&[one], 300).iter().all(|row| row.ours.len() == 1));
    }
}
