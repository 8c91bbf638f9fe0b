//! Tenantry and Chroma's own server side by side.

use super::{
    data::DataSet,
    load::{one_by_one, percentile, send_all},
    report::{self, Reach, Row},
    target::Target,
    workload::{Insert, NEIGHBOURS, Query, inserts, queries},
    wrk::{CONNECTIONS, Prepared},
};
use crate::{
    ci::build_release,
    http::Connection,
    machine::{Need, Venv, ensure as ensure_needs},
};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::{path::PathBuf, time::Duration};

const MIB: f64 = 1_048_576.0;
/// Inserts are cut into this many parts; the servers take turns.
const INSERT_PARTS: usize = 10;
/// Queries that one server answers before the other's turn.
const QUERY_PART: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A folder with `packages.jsonl.gz` and `vectors.f16.npy`; without it, synthetic clusters
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many tenants
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    tenants: u16,
    /// About how many records all tenants have together
    #[arg(long, default_value_t = 16_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    records: u32,
    /// Queries of each kind by the single client
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queries: u32,
    /// Seconds of each load by several connections
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often each load is repeated, the servers taking turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,
    /// Seed of the synthetic data and of the queries
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One number of each server.
#[derive(Debug, Clone, Copy, Default)]
struct Pair {
    chroma: f64,
    tenantry: f64,
}

impl Pair {
    fn row(self, name: &'static str, unit: &'static str, reach: Reach) -> Row {
        Row { name, unit, chroma: self.chroma, tenantry: self.tenantry, reach }
    }
}

/// Both servers.
struct Both {
    chroma: Target,
    tenantry: Target,
}

impl Both {
    fn start(data: &DataSet) -> Result<Self> {
        let venv = Venv::ensure()?;
        let program = build_release()?;
        println!("starting both servers, making {} tenants in each", data.tenants.len());
        Ok(Self {
            chroma: Target::chroma(&venv, data)?,
            tenantry: Target::tenantry(&program, data)?,
        })
    }

    fn each<T>(&self, mut work: impl FnMut(&Target) -> Result<T>) -> Result<(T, T)> {
        Ok((work(&self.chroma)?, work(&self.tenantry)?))
    }

    fn numbers(&self, mut work: impl FnMut(&Target) -> Result<f64>) -> Result<Pair> {
        let (chroma, tenantry) = self.each(&mut work)?;
        Ok(Pair { chroma, tenantry })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure_needs(&[Need::program("wrk", "wrk"), Need::PYTHON])?;
    let (tenants, records) = (options.tenants.into(), usize::try_from(options.records)?);
    let data = match &options.data {
        Some(folder) => DataSet::load(folder, tenants, records)?,
        None => DataSet::synthetic(options.seed, tenants, records),
    };
    println!("{} tenants, {} records: {}", data.tenants.len(), data.records(), data.origin);
    let count = usize::try_from(options.queries)?;
    let plain = queries(&data, count, false, options.seed ^ 0x1);
    let filtered = queries(&data, count, true, options.seed ^ 0x2);
    let both = Both::start(&data)?;
    let mut rows = insert_rows(&both, &inserts(&data))?;
    both.each(|target| target.check_counts(&data))?;
    let [p50, p99, recall] = single_client(&both, &plain)?;
    rows.push(p50.row("query p50, 1 client", "ms", Reach::AtMostOneIn(5.0)));
    rows.push(p99.row("query p99, 1 client", "ms", Reach::Shown));
    rows.push(recall.row("recall@10", "share", Reach::AtLeast(1.0)));
    let [p50, p99, recall] = single_client(&both, &filtered)?;
    rows.push(p50.row("filtered query p50, 1 client", "ms", Reach::Shown));
    rows.push(p99.row("filtered query p99, 1 client", "ms", Reach::Shown));
    rows.push(recall.row("filtered recall@10", "share", Reach::AtLeast(1.0)));
    let rate = several_connections(&both, &plain, "plain", options)?;
    rows.push(rate.row("throughput, 8 connections", "queries/s", Reach::AtLeast(15.0)));
    let rate = several_connections(&both, &filtered, "filtered", options)?;
    rows.push(rate.row("filtered throughput, 8 connections", "queries/s", Reach::AtLeast(20.0)));
    rows.extend(sizes(&both)?);
    print!("\n{}", report::table(&rows));
    report::write(
        "chroma",
        &json!({
            "data": data.origin,
            "tenants": data.tenants.len(),
            "records": data.records(),
            "neighbours": NEIGHBOURS,
            "connections": CONNECTIONS,
            "rows": report::as_json(&rows),
        }),
    )
}

/// Parts with one connection and parts with several take turns.
fn insert_rows(both: &Both, inserts: &[Insert]) -> Result<Vec<Row>> {
    println!("inserting");
    let mut rates = Vec::new();
    let parts: Vec<_> = inserts.chunks(inserts.len().div_ceil(INSERT_PARTS).max(1)).collect();
    for (first, connections) in [(0, 1), (1, CONNECTIONS)] {
        let mut records = 0;
        let mut seconds = Pair::default();
        for part in parts.iter().skip(first).step_by(2) {
            records += part.iter().map(|insert| insert.records).sum::<usize>();
            let took = both.numbers(|target| {
                let requests = target.inserts(part)?;
                Ok(send_all(target.address, connections, &requests)?.as_secs_f64())
            })?;
            seconds.chroma += took.chroma;
            seconds.tenantry += took.tenantry;
        }
        rates.push(Pair {
            chroma: records as f64 / seconds.chroma,
            tenantry: records as f64 / seconds.tenantry,
        });
    }
    let names = ["insert, 1 connection", "insert, 8 connections"];
    let goals = [Reach::Shown, Reach::AtLeast(12.0)];
    let rows = rates.into_iter().zip(names).zip(goals);
    Ok(rows.map(|((rate, name), goal)| rate.row(name, "records/s", goal)).collect())
}

/// Median and 99th percentile in milliseconds, and recall, of one client that asks one query
/// after another. Every query is asked once before, so that both servers are warm.
fn single_client(both: &Both, queries: &[Query]) -> Result<[Pair; 3]> {
    println!("querying with one client");
    let (chroma, tenantry) = both.each(|target| target.queries(queries))?;
    both.each(|target| {
        let mine = if target.name == "chroma" { &chroma } else { &tenantry };
        send_all(target.address, 1, mine)
    })?;
    let mut of_chroma = Asked::open(&both.chroma)?;
    let mut of_tenantry = Asked::open(&both.tenantry)?;
    let parts = queries.chunks(QUERY_PART);
    for ((part, c), t) in parts.zip(chroma.chunks(QUERY_PART)).zip(tenantry.chunks(QUERY_PART)) {
        of_chroma.ask(part, c)?;
        of_tenantry.ask(part, t)?;
    }
    let (chroma, tenantry) = (of_chroma.results(), of_tenantry.results());
    let pairs = chroma.into_iter().zip(tenantry);
    let pairs: Vec<_> = pairs.map(|(chroma, tenantry)| Pair { chroma, tenantry }).collect();
    Ok(pairs.try_into().unwrap_or_default())
}

/// The answers of one server so far.
struct Asked {
    connection: Connection,
    took: Vec<Duration>,
    recall: f64,
}

impl Asked {
    fn open(target: &Target) -> Result<Self> {
        Ok(Self { connection: Connection::open(target.address)?, took: Vec::new(), recall: 0.0 })
    }

    fn ask(&mut self, queries: &[Query], requests: &[Vec<u8>]) -> Result<()> {
        let answers = one_by_one(&mut self.connection, requests)?;
        for (query, (took, answer)) in queries.iter().zip(answers) {
            self.took.push(took);
            self.recall += query.recall(&answer);
        }
        Ok(())
    }

    fn results(mut self) -> [f64; 3] {
        self.took.sort();
        let milliseconds = |percent| percentile(&self.took, percent).as_secs_f64() * 1e3;
        [milliseconds(50), milliseconds(99), self.recall / self.took.len().max(1) as f64]
    }
}

/// Queries a second over all rounds.
fn several_connections(
    both: &Both,
    queries: &[Query],
    name: &str,
    options: &Options,
) -> Result<Pair> {
    println!("querying over {CONNECTIONS} connections, {name}");
    let (chroma, tenantry) = both.each(|target| {
        let file = format!("{}-{name}", target.name);
        Prepared::new(&file, target.address, &target.queries(queries)?)
    })?;
    let mut sums = [(0, 0); 2];
    for _ in 0..options.rounds {
        for (sum, prepared) in sums.iter_mut().zip([&chroma, &tenantry]) {
            let run = prepared.run(options.seconds)?;
            sum.0 += run.requests;
            sum.1 += run.microseconds;
        }
    }
    let rate = |(requests, microseconds): (u64, u64)| requests as f64 * 1e6 / microseconds as f64;
    let [chroma, tenantry] = sums.map(rate);
    Ok(Pair { chroma, tenantry })
}

/// Memory and disk after all that.
fn sizes(both: &Both) -> Result<[Row; 3]> {
    let resident = both.numbers(|target| Ok(target.resident_bytes()? as f64 / MIB))?;
    let idle = both.numbers(|target| Ok(target.idle_bytes as f64 / MIB))?;
    let disk = both.numbers(|target| Ok(target.disk_bytes()? as f64 / MIB))?;
    Ok([
        resident.row("resident memory after all", "MiB", Reach::AtMostOneIn(15.0)),
        idle.row("resident memory when empty", "MiB", Reach::Shown),
        disk.row("disk", "MiB", Reach::Shown),
    ])
}
