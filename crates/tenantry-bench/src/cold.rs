//! The first query of a tenant that nobody has asked since the server was started: it waits for
//! its records, read from the truth or from sealed segments of codes that an earlier server saved.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    http::Connection,
    native::{Collection, hits},
    process::{empty_folder, tenantry_program},
    report::{self, Goal, Row},
    server::Tenantry,
    statistics::percentile,
    tenants::{Choice, Record},
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Different queries; the first of them is asked first.
const QUERIES: usize = 50;
/// What the first query may take, in milliseconds.
const FROM_TRUTH: f64 = 60.0;
const FROM_SEGMENTS: f64 = 20.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Records of the tenant
    #[arg(long, default_value_t = 10_000)]
    records: usize,
    /// Rounds: a start without segments and one with them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds that the first server runs on after the last write
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=600))]
    linger: u64,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// What one start gave, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Start {
    /// From the start of the process until it said that it is ready.
    ready: f64,
    first: f64,
    /// The median of the queries after it.
    warm: f64,
}

/// A data folder, the program that serves it, and what is asked of it.
struct Stage {
    program: PathBuf,
    folder: PathBuf,
    operator_key: String,
    requests: Vec<Vec<u8>>,
    /// Bytes of segments that the first server left.
    segments: u64,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let stage = Stage::set(options)?;
    if stage.segments == 0 {
        println!("this program saves no segments: both ways read the truth");
    }
    let (mut truth, mut segments) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        truth.push(stage.without_segments()?);
        segments.push(stage.start()?);
    }
    let details = json!({
        "records": options.records, "segment_bytes": stage.segments,
        "from_truth": truth.iter().map(Start::json).collect::<Vec<_>>(),
        "from_segments": segments.iter().map(Start::json).collect::<Vec<_>>(),
    });
    let title = format!("first query of a tenant with {} records", options.records);
    report::finish("cold", &rows(&truth, &segments), details, &chart(title, &truth, &segments))
}

impl Stage {
    /// Fills a tenant, asks it once, and ends the server in order, so that it saves what it does.
    fn set(options: &Options) -> Result<Self> {
        let tenants = options.choice.one(options.records)?;
        let program = tenantry_program(options.program.as_deref())?;
        println!("{} records: {}", tenants.records(), tenants.origin);
        let folder = empty_folder("cold")?;
        let server = Tenantry::start(&program, &folder)?;
        let collection = Collection::make(&server)?;
        let records: Vec<_> = tenants.all.iter().flat_map(|one| &one.records).map(body).collect();
        collection.fill(server.native, &records)?;
        let queries = tenants.queries_of(0, QUERIES, options.choice.seed);
        let requests: Vec<_> =
            queries.iter().map(|query| collection.query(&query.vector, false)).collect();
        let first = requests.first().context("nothing to ask")?;
        Connection::open(server.native)?.send(first)?.success()?;
        println!("waiting {} s for the server to save segments", options.linger);
        thread::sleep(Duration::from_secs(options.linger));
        server.server.stop()?;
        let segments = bytes_below(&saved(&folder))?;
        Ok(Self { program, folder, operator_key: server.operator_key, requests, segments })
    }

    /// One start while the segments are aside. Those that it saves itself are dropped.
    fn without_segments(&self) -> Result<Start> {
        let (saved, aside) = (saved(&self.folder), self.folder.join("saved-aside"));
        if saved.exists() {
            fs::rename(&saved, &aside)?;
        }
        let start = self.start()?;
        if aside.exists() {
            if saved.exists() {
                fs::remove_dir_all(&saved)?;
            }
            fs::rename(&aside, &saved)?;
        }
        Ok(start)
    }

    /// Starts the server on what is there, asks, and ends it in order.
    fn start(&self) -> Result<Start> {
        let key = self.operator_key.clone();
        let server = Tenantry::restart(&self.program, &self.folder, key)?;
        let mut connection = Connection::open(server.native)?;
        let mut took = Vec::new();
        for request in &self.requests {
            let asked = Instant::now();
            let answer = connection.send(request)?;
            took.push(asked.elapsed().as_secs_f64() * 1e3);
            ensure!(!hits(&answer.json()?)?.is_empty(), "a query found nothing");
        }
        let ready = server.ready_after.as_secs_f64() * 1e3;
        server.server.stop()?;
        let (first, others) = took.split_first().context("nothing was asked")?;
        Ok(Start { ready, first: *first, warm: percentile(others, 50.0) })
    }
}

impl Start {
    fn json(&self) -> Value {
        json!({"ready_ms": self.ready, "first_ms": self.first, "warm_p50_ms": self.warm})
    }
}

/// Where the server keeps segments.
fn saved(folder: &Path) -> PathBuf {
    folder.join("data").join("saved")
}

fn body(record: &Record) -> Value {
    json!({
        "id": record.id, "vector": record.vector, "document": record.text,
        "metadata": {"section": record.section},
    })
}

/// The bytes of all files in a folder and below; 0 if there is none.
fn bytes_below(folder: &Path) -> Result<u64> {
    if !folder.exists() {
        return Ok(0);
    }
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += if kind.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn rows(truth: &[Start], segments: &[Start]) -> Vec<Row> {
    let row = |what: &str, peer: &str, ours, theirs, goal| Row {
        what: what.to_owned(),
        unit: "ms",
        peer: peer.to_owned(),
        ours,
        theirs,
        goal,
    };
    let of = |starts: &[Start], number: fn(&Start) -> f64| starts.iter().map(number).collect();
    let mut rows = Vec::new();
    for (way, starts, most) in
        [("the truth", truth, FROM_TRUTH), ("segments", segments, FROM_SEGMENTS)]
    {
        let what = format!("first query, from {way}");
        let (first, warm) = (of(starts, |one| one.first), of(starts, |one| one.warm));
        rows.push(row(&what, "queries after it, p50", first, warm, Goal::Within(most)));
    }
    let first = |starts| of(starts, |one| one.first);
    let what = "first query, from segments";
    rows.push(row(what, "from the truth", first(segments), first(truth), Goal::Shown));
    let ready = |starts| of(starts, |one| one.ready);
    let what = "server ready, with segments";
    rows.push(row(what, "without", ready(segments), ready(truth), Goal::Shown));
    rows
}

fn chart(title: String, truth: &[Start], segments: &[Start]) -> Chart {
    let line = |name: &str, starts: &[Start], number: fn(&Start) -> f64| Series {
        name: name.to_owned(),
        points: (1_u32..).map(f64::from).zip(starts.iter().map(number)).collect(),
    };
    Chart {
        title,
        x: Axis { label: "round", scale: Scale::Linear },
        y: Axis { label: "milliseconds", scale: Scale::Logarithmic },
        series: vec![
            line("first, truth", truth, |one| one.first),
            line("first, segments", segments, |one| one.first),
            line("warm", segments, |one| one.warm),
            line("server ready", truth, |one| one.ready),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_folder_include_those_below() {
        let folder = std::env::temp_dir().join(format!("bench-cold-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("one"), [0; 3]).unwrap();
        fs::write(folder.join("a/b/two"), [0; 4]).unwrap();
        let found = bytes_below(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!((found, bytes_below(&folder).unwrap()), (7, 0));
    }

    #[test]
    fn each_way_is_judged_by_its_own_bound() {
        let starts = [Start { ready: 100.0, first: 30.0, warm: 1.0 }];
        let rows = rows(&starts, &starts);
        let goals: Vec<_> = rows.iter().map(|row| row.goal).collect();
        assert_eq!(goals[..2], [Goal::Within(60.0), Goal::Within(20.0)]);
        assert_eq!((rows[0].ours.as_slice(), rows[0].theirs.as_slice()), (&[30.0][..], &[1.0][..]));
        assert!((rows[3].ours[0] - 100.0).abs() < 1e-9);
    }
}
