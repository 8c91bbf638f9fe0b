//! A tenant whose records are replaced while it asks: what that does to recall and latency.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    corpus::{Choice, Corpus},
    http::Connection,
    native::{Collection, hits, recall},
    neighbour::open_loop,
    process::{empty_folder, tenantry_program},
    random::Random,
    report::{self, Goal, Row},
    server::Tenantry,
    statistics::{mean, percentile},
};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const RECORDS: usize = 50_000;
/// Between two comparisons with the exact answer, in every phase alike.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// What recall may lose, and how many times as long the slowest queries may take.
const DROP: f64 = 0.005;
const SLOWER: f64 = 2.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Per cent of the records that each round replaces
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=100))]
    percent: u16,
    /// Records of one upsert
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
    /// Queries a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Seconds of each phase; the upserts are spread over them
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Rounds: before, during, after
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// What a phase gave: the microseconds of each query, and the recall of each that was compared.
struct Phase {
    micros: Vec<f64>,
    recalls: Vec<f64>,
}

/// One round.
struct Round {
    /// Recall of every query with nothing else going on.
    recall_before: f64,
    recall_after: f64,
    before: Phase,
    during: Phase,
    writing_seconds: f64,
    /// From the end of the phase until the graph found every vector.
    settling_seconds: f64,
}

/// The tenant under measurement.
struct Stage {
    server: Tenantry,
    collection: Collection,
    corpus: Corpus,
    /// For each record, the row whose vector it has.
    rows: Vec<usize>,
    /// Rows that no record has; those replaced come back here.
    reserve: Vec<usize>,
    /// Each query, and the same compared with every record.
    queries: Vec<[Vec<u8>; 2]>,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let stage = &mut Stage::set(options)?;
    let mut random = Random::new(options.choice.seed);
    let mut rounds = Vec::new();
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        rounds.push(stage.round(options, &mut random)?);
    }
    let details = json!({
        "data": stage.corpus.origin, "records": stage.rows.len(), "replaced": stage.reserve.len(),
        "batch": options.batch, "queries_per_second": options.rate,
        "dimension": stage.corpus.base.dimension,
        "rounds": rounds.iter().map(Round::json).collect::<Vec<_>>(),
    });
    let title = format!("{} % of {} records replaced", options.percent, stage.rows.len());
    report::finish("replace", &rows(&rounds), details, &chart(title, &rounds))
}

impl Stage {
    fn set(options: &Options) -> Result<Self> {
        let records = options.choice.count.unwrap_or(RECORDS);
        let replaced = replaced(records, options.percent);
        let corpus = options.choice.with_count(records + replaced).corpus()?;
        let held = corpus.base.len();
        ensure!(held == records + replaced, "{records} records and {replaced} of {held} to come");
        let program = tenantry_program(options.program.as_deref())?;
        println!("{records} records: {}", corpus.origin);
        let server = Tenantry::start(&program, &empty_folder("replace")?)?;
        let collection = Collection::make(&server)?;
        let query = |row: &[f32]| [false, true].map(|exact| collection.query(row, exact));
        let queries = corpus.queries.rows().map(query).collect();
        // Any rows, not the last ones: data may be sorted.
        let mut rows: Vec<_> = (0..held).collect();
        Random::new(options.choice.seed).shuffle(&mut rows);
        let reserve = rows.split_off(records);
        let stage = Self { server, collection, corpus, rows, reserve, queries };
        let all: Vec<_> = (0..records).map(|record| stage.body(record)).collect();
        stage.collection.fill(stage.address(), &all)?;
        println!("building the graph");
        // A collection is in memory once it was asked.
        let [query, _] = stage.queries.first().context("nothing to ask")?;
        Connection::open(stage.address())?.send(query)?.success()?;
        println!("built after {:.1} s", stage.collection.settle(stage.address())?);
        Ok(stage)
    }

    fn address(&self) -> SocketAddr {
        self.server.native
    }

    fn body(&self, record: usize) -> Value {
        let row = self.rows.get(record).copied().unwrap_or_default();
        json!({
            "id": format!("record-{record:07}"), "vector": self.corpus.base.row(row),
            "document": format!("The text of row {row}."),
            "metadata": {"section": self.corpus.sections.get(row)},
        })
    }

    fn round(&mut self, options: &Options, random: &mut Random) -> Result<Round> {
        let recall_before = self.recall()?;
        let (before, ()) = self.phase(options, || Ok(()))?;
        let upserts = self.replacements(options, random);
        let span = Duration::from_secs(options.seconds);
        let (during, writing_seconds) =
            self.phase(options, || spread(self.address(), &upserts, span))?;
        let settling_seconds = self.collection.settle(self.address())?;
        let recall_after = self.recall()?;
        Ok(Round { recall_before, recall_after, before, during, writing_seconds, settling_seconds })
    }

    /// The mean recall of every query.
    fn recall(&self) -> Result<f64> {
        let mut connection = Connection::open(self.address())?;
        let recalls = self.queries.iter().map(|query| compare(&mut connection, query));
        Ok(mean(&recalls.collect::<Result<Vec<_>>>()?))
    }

    /// Asks at a fixed rate for the time of a phase while `beside` runs, which it waits for.
    fn phase<R: Send>(
        &self,
        options: &Options,
        beside: impl FnOnce() -> Result<R> + Send,
    ) -> Result<(Phase, R)> {
        let requests: Vec<_> = self.queries.iter().map(|[query, _]| query.clone()).collect();
        let span = Duration::from_secs(options.seconds);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let beside = scope.spawn(beside);
            let probes = scope.spawn(|| self.probe(&over));
            let micros = open_loop(self.address(), &requests, options.rate, span);
            over.store(true, Ordering::Relaxed);
            let panicked = |_| anyhow!("a thread panicked");
            let recalls = probes.join().map_err(panicked)??;
            let beside = beside.join().map_err(panicked)??;
            Ok((Phase { micros: micros?, recalls }, beside))
        })
    }

    /// The recall of queries, some a second, until it is over.
    fn probe(&self, over: &AtomicBool) -> Result<Vec<f64>> {
        let mut connection = Connection::open(self.address())?;
        let mut recalls = Vec::new();
        for query in self.queries.iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            recalls.push(compare(&mut connection, query)?);
            thread::sleep(PROBE_EVERY);
        }
        Ok(recalls)
    }

    /// The upserts that give as many records as are in reserve the vectors from there.
    fn replacements(&mut self, options: &Options, random: &mut Random) -> Vec<Vec<u8>> {
        let mut chosen = random.sample(self.reserve.len(), self.rows.len());
        random.shuffle(&mut chosen);
        let mut bodies = Vec::new();
        for (at, record) in chosen.into_iter().map(|record| record as usize).enumerate() {
            if let (Some(row), Some(spare)) = (self.rows.get_mut(record), self.reserve.get_mut(at))
            {
                std::mem::swap(row, spare);
                bodies.push(self.body(record));
            }
        }
        self.collection.upserts(&bodies, options.batch.into())
    }
}

/// A query's recall: it is asked twice, once compared with every record. What is written between
/// the two can matter to one in some hundred.
fn compare(connection: &mut Connection, query: &[Vec<u8>; 2]) -> Result<f64> {
    let [found, exact] = query.each_ref().map(|one| connection.send(one));
    Ok(recall(&hits(&found?.json()?)?, &hits(&exact?.json()?)?))
}

/// Sends requests spread evenly over a time; the seconds until the last was answered.
fn spread(address: SocketAddr, requests: &[Vec<u8>], span: Duration) -> Result<f64> {
    let mut connection = Connection::open(address)?;
    let started = Instant::now();
    for (index, request) in requests.iter().enumerate() {
        let intended = span.mul_f64(index as f64 / requests.len() as f64);
        thread::sleep(intended.saturating_sub(started.elapsed()));
        connection.send(request)?.success()?;
    }
    Ok(started.elapsed().as_secs_f64())
}

/// How many records a round replaces, at least one.
fn replaced(records: usize, percent: u16) -> usize {
    (records * usize::from(percent) / 100).max(1)
}

impl Round {
    fn json(&self) -> Value {
        let phase = |phase: &Phase| {
            json!({
                "p50_us": percentile(&phase.micros, 50.0), "p99_us": percentile(&phase.micros, 99.0),
                "p100_us": percentile(&phase.micros, 100.0), "recall": mean(&phase.recalls),
                "queries": phase.micros.len(), "compared": phase.recalls.len(),
            })
        };
        json!({
            "recall_before": self.recall_before, "recall_after": self.recall_after,
            "before": phase(&self.before), "during": phase(&self.during),
            "writing_seconds": self.writing_seconds, "settling_seconds": self.settling_seconds,
        })
    }
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let of = |number: &dyn Fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(number).collect() };
    let row = |what: &str, unit, ours, theirs, goal| Row {
        what: what.to_owned(),
        unit,
        peer: "itself before".to_owned(),
        ours,
        theirs,
        goal,
    };
    let before = of(&|one| one.recall_before);
    let lost = of(&|one| one.recall_before - one.recall_after);
    let mut all = vec![
        row("recall lost after settling", "share", lost, Vec::new(), Goal::Within(DROP)),
        row("recall after", "share", of(&|one| one.recall_after), before, Goal::Shown),
        row(
            "recall during",
            "share",
            of(&|one| mean(&one.during.recalls)),
            of(&|one| mean(&one.before.recalls)),
            Goal::Shown,
        ),
    ];
    for (what, percent, goal) in
        [("p50 during", 50.0, Goal::Shown), ("p99 during", 99.0, Goal::AtMost(SLOWER))]
    {
        let milliseconds = |phase: &Phase| percentile(&phase.micros, percent) / 1e3;
        let during = of(&|one| milliseconds(&one.during));
        all.push(row(what, "ms", during, of(&|one| milliseconds(&one.before)), goal));
    }
    let settling = of(&|one| one.settling_seconds);
    all.push(row("settling", "s", settling, Vec::new(), Goal::Shown));
    all
}

fn chart(title: String, rounds: &[Round]) -> Chart {
    let line = |name: &str, phase: fn(&Round) -> &Phase| {
        let all: Vec<_> = rounds.iter().flat_map(|one| phase(one).micros.iter().copied()).collect();
        let percents = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0];
        let points = percents.map(|percent| (percent, percentile(&all, percent) / 1e3)).to_vec();
        Series { name: name.to_owned(), points }
    };
    Chart {
        title,
        x: Axis { label: "percentile", scale: Scale::Linear },
        y: Axis { label: "milliseconds from the intended time", scale: Scale::Logarithmic },
        series: vec![line("before", |one| &one.before), line("during", |one| &one.during)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(recalls: [f64; 2], p99: [f64; 2]) -> Round {
        let phase = |micros| Phase { micros: vec![micros], recalls: vec![1.0] };
        Round {
            recall_before: recalls[0],
            recall_after: recalls[1],
            before: phase(p99[0]),
            during: phase(p99[1]),
            writing_seconds: 1.0,
            settling_seconds: 1.0,
        }
    }

    #[test]
    fn a_drop_is_what_was_lost_and_a_gain_is_none() {
        let rows = rows(&[round([0.99, 0.98], [1e3, 3e3]), round([0.98, 0.99], [2e3, 2e3])]);
        assert_eq!((rows[0].unit, rows[0].goal), ("share", Goal::Within(DROP)));
        assert!((rows[0].ours[0] - 0.01).abs() < 1e-9 && rows[0].ours[1] < 0.0);
        let p99 = rows.iter().find(|row| row.what == "p99 during").unwrap();
        assert_eq!(
            (p99.ours.as_slice(), p99.theirs.as_slice()),
            (&[3.0, 2.0][..], &[1.0, 2.0][..])
        );
        assert_eq!(p99.goal, Goal::AtMost(SLOWER));
    }

    #[test]
    fn a_tenth_is_a_tenth() {
        assert_eq!((replaced(50_000, 10), replaced(3, 1), replaced(40, 100)), (5_000, 1, 40));
    }
}
