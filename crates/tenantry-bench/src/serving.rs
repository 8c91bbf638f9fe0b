//! Many tenants, as their users reach each system: inserts, queries by Zipf's law, throughput,
//! memory.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    library::{self, Library, Package},
    postgres::Postgres,
    process::tenantry_program,
    report::{self, Goal, Row},
    statistics::percentile,
    target::{self, Asked, Target},
    tenants::{Crowd, Insert, NEIGHBOURS, Query, Tenants},
    wrk::{Load, Prepared},
};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::path::PathBuf;

const CONNECTIONS: usize = 8;
const INSERT_CONNECTIONS: usize = 4;
/// Inserts are cut into this many parts; the servers take turns.
const INSERT_PARTS: usize = 10;
/// Queries that one server answers before the next one's turn.
const QUERY_PART: usize = 100;
const MIB: f64 = 1_048_576.0;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    crowd: Crowd,
    /// Zipf's exponent of how often tenants ask; 0 lets all ask alike
    #[arg(long, default_value_t = 1.0)]
    skew: f64,
    /// Different queries
    #[arg(long, default_value_t = 3_000)]
    queries: usize,
    /// Seconds of each load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often each load is repeated, the servers taking turns
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Whom to measure beside Tenantry
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..,
        default_values = ["chroma", "pgvector"])]
    peers: Vec<Kind>,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Chroma's own server
    Chroma,
    /// PostgreSQL with pgvector and row-level security
    Pgvector,
    /// LanceDB as a library, a table for each tenant
    #[value(name = "lancedb")]
    LanceDb,
    /// milvus-lite's server, a collection for each tenant
    MilvusLite,
}

impl Kind {
    /// What Tenantry means to reach for throughput and for inserts.
    fn goals(self) -> (Goal, Goal) {
        match self {
            Self::Chroma => (Goal::AtLeast(15.0), Goal::Shown),
            Self::Pgvector => (Goal::AtLeast(8.0), Goal::AtLeast(3.0)),
            Self::LanceDb | Self::MilvusLite => (Goal::Shown, Goal::Shown),
        }
    }

    fn start(self, tenants: &Tenants) -> Result<Contestant> {
        let library = |package: Package| {
            let library = Library::start(&library::environment()?, package, tenants)?;
            Ok(Contestant::new(package.name(), Box::new(library), self.goals()))
        };
        match self {
            Self::Chroma => {
                let target = Target::chroma(&target::environment()?, tenants)?;
                Ok(Contestant::new("chroma", Box::new(Loaded::new(target)), self.goals()))
            }
            Self::Pgvector => {
                let postgres = Postgres::start(&target::environment()?, tenants)?;
                Ok(Contestant::new("pgvector + RLS", Box::new(postgres), self.goals()))
            }
            Self::LanceDb => library(Package::LanceDb),
            Self::MilvusLite => library(Package::MilvusLite),
        }
    }
}

/// A running system in which every tenant has an empty place.
pub(crate) trait System {
    /// The seconds that inserts take over several connections.
    fn insert(&mut self, inserts: &[Insert], connections: usize) -> Result<f64>;

    /// After the inserts: checks what can be checked, brings in order what a system left alone
    /// does by itself, and gets ready to send these queries as a load.
    fn settle(&mut self, tenants: &Tenants, queries: &[Query]) -> Result<()>;

    /// Asks queries one after another.
    fn ask(&mut self, queries: &[Query]) -> Result<Asked>;

    /// Sends queries for some seconds over several connections; none may fail.
    fn load(&mut self, queries: &[Query], connections: usize, seconds: u64) -> Result<Load>;

    /// Memory of the processes that answer.
    fn resident_bytes(&self) -> u64;

    /// What the JSON file says beside the measurements.
    fn details(&self) -> Value {
        Value::Null
    }
}

/// A server that wrk loads.
struct Loaded {
    target: Target,
    prepared: Option<Prepared>,
}

impl Loaded {
    fn new(target: Target) -> Self {
        Self { target, prepared: None }
    }
}

impl System for Loaded {
    fn insert(&mut self, inserts: &[Insert], connections: usize) -> Result<f64> {
        self.target.insert(inserts, connections)
    }

    fn settle(&mut self, tenants: &Tenants, queries: &[Query]) -> Result<()> {
        self.target.check_counts(tenants)?;
        self.prepared = Some(self.target.prepare("zipf", queries)?);
        Ok(())
    }

    fn ask(&mut self, queries: &[Query]) -> Result<Asked> {
        self.target.ask(queries)
    }

    fn load(&mut self, _: &[Query], connections: usize, seconds: u64) -> Result<Load> {
        self.prepared.as_ref().context("no load was prepared")?.run(connections, seconds)
    }

    fn resident_bytes(&self) -> u64 {
        self.target.resident_bytes()
    }
}

impl System for Postgres {
    fn insert(&mut self, inserts: &[Insert], connections: usize) -> Result<f64> {
        Self::insert(self, inserts, connections)
    }

    fn settle(&mut self, _: &Tenants, _: &[Query]) -> Result<()> {
        Self::settle(self)
    }

    fn ask(&mut self, queries: &[Query]) -> Result<Asked> {
        Self::ask(self, queries)
    }

    fn load(&mut self, queries: &[Query], connections: usize, seconds: u64) -> Result<Load> {
        Self::load(self, queries, connections, seconds)
    }

    fn resident_bytes(&self) -> u64 {
        Self::resident_bytes(self)
    }
}

/// A system and what was measured so far, a number for each part or round.
struct Contestant {
    name: &'static str,
    system: Box<dyn System>,
    /// What Tenantry means to reach beside it for throughput and for inserts.
    goals: (Goal, Goal),
    insert_rates: Vec<f64>,
    asked: Asked,
    loads: Vec<Load>,
    resident_mib: f64,
}

impl Contestant {
    fn new(name: &'static str, system: Box<dyn System>, goals: (Goal, Goal)) -> Self {
        let (insert_rates, loads) = (Vec::new(), Vec::new());
        let asked = Asked::default();
        Self { name, system, goals, insert_rates, asked, loads, resident_mib: 0.0 }
    }

    fn insert(&mut self, part: &[Insert]) -> Result<()> {
        let records: usize = part.iter().map(|one| one.records.len()).sum();
        let seconds = self.system.insert(part, INSERT_CONNECTIONS)?;
        self.insert_rates.push(records as f64 / seconds);
        Ok(())
    }

    /// After the inserts: checks, brings in order, warms up.
    fn settle(&mut self, tenants: &Tenants, queries: &[Query]) -> Result<()> {
        self.system.settle(tenants, queries)?;
        self.system.ask(queries)?;
        Ok(())
    }

    fn ask(&mut self, queries: &[Query]) -> Result<()> {
        let asked = self.system.ask(queries)?;
        self.asked.micros.extend(asked.micros);
        self.asked.recalls.extend(asked.recalls);
        Ok(())
    }

    fn load(&mut self, queries: &[Query], seconds: u64) -> Result<()> {
        self.loads.push(self.system.load(queries, CONNECTIONS, seconds)?);
        Ok(())
    }

    fn measure_memory(&mut self) {
        self.resident_mib = self.system.resident_bytes() as f64 / MIB;
    }

    fn of_loads(&self, number: impl Fn(&Load) -> f64) -> Vec<f64> {
        self.loads.iter().map(number).collect()
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "insert_per_second": self.insert_rates,
            "recall": self.asked.recall(),
            "one_client_p50_us": percentile(&self.asked.micros, 50.0),
            "one_client_p99_us": percentile(&self.asked.micros, 99.0),
            "queries_per_second": self.of_loads(Load::rate),
            "p50_us": self.of_loads(|load| load.p50_us),
            "p99_us": self.of_loads(|load| load.p99_us),
            "resident_mib": self.resident_mib, "details": self.system.details(),
        })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tenants = options.crowd.tenants()?;
    println!("{} tenants, {} records: {}", tenants.all.len(), tenants.records(), tenants.origin);
    let queries = tenants.queries(options.queries, options.skew, options.crowd.choice.seed);
    let mut all = start(options, &tenants)?;
    println!("inserting over {INSERT_CONNECTIONS} connections");
    let inserts = tenants.inserts();
    for part in inserts.chunks(inserts.len().div_ceil(INSERT_PARTS).max(1)) {
        for contestant in &mut all {
            contestant.insert(part)?;
        }
    }
    println!("querying with one client");
    for contestant in &mut all {
        contestant.settle(&tenants, &queries)?;
    }
    for part in queries.chunks(QUERY_PART) {
        for contestant in &mut all {
            contestant.ask(part)?;
        }
    }
    for round in 0..options.rounds {
        println!("querying over {CONNECTIONS} connections, {} of {}", round + 1, options.rounds);
        for contestant in &mut all {
            contestant.load(&queries, options.seconds)?;
        }
    }
    all.iter_mut().for_each(Contestant::measure_memory);
    let details = json!({
        "data": tenants.origin, "tenants": tenants.all.len(), "records": tenants.records(),
        "neighbours": NEIGHBOURS, "connections": CONNECTIONS, "skew": options.skew,
        "servers": all.iter().map(Contestant::json).collect::<Vec<_>>(),
    });
    report::finish("http", &rows(&all), details, &chart(&all))
}

/// Tenantry first.
fn start(options: &Options, tenants: &Tenants) -> Result<Vec<Contestant>> {
    let program = tenantry_program(options.program.as_deref())?;
    println!("starting servers, making {} tenants in each", tenants.all.len());
    let ours = Target::tenantry(&program, tenants)?;
    let ours = Box::new(Loaded::new(ours));
    let mut all = vec![Contestant::new("tenantry", ours, (Goal::Shown, Goal::Shown))];
    for kind in &options.peers {
        all.push(kind.start(tenants)?);
    }
    Ok(all)
}

fn rows(all: &[Contestant]) -> Vec<Row> {
    let Some((ours, peers)) = all.split_first() else { return Vec::new() };
    let mut rows = Vec::new();
    for peer in peers {
        let (throughput, insert) = peer.goals;
        let mut row = |what: &str, unit, number: &dyn Fn(&Contestant) -> Vec<f64>, goal| {
            let (ours, theirs) = (number(ours), number(peer));
            rows.push(Row {
                what: what.to_owned(),
                unit,
                peer: peer.name.into(),
                ours,
                theirs,
                goal,
            });
        };
        row("throughput, 8 connections", "queries/s", &|one| one.of_loads(Load::rate), throughput);
        row("p50, 8 connections", "ms", &|one| one.of_loads(|l| l.p50_us / 1e3), Goal::Shown);
        row("p99, 8 connections", "ms", &|one| one.of_loads(|l| l.p99_us / 1e3), Goal::Shown);
        for (what, percent) in [("p50, 1 client", 50.0), ("p99, 1 client", 99.0)] {
            let number = |one: &Contestant| vec![percentile(&one.asked.micros, percent) / 1e3];
            row(what, "ms", &number, Goal::Shown);
        }
        row("recall@10", "share", &|one| vec![one.asked.recall()], Goal::AtLeast(0.99));
        row("insert, 4 connections", "records/s", &|one| one.insert_rates.clone(), insert);
        row("memory after all", "MiB", &|one| vec![one.resident_mib], Goal::Shown);
    }
    rows
}

fn chart(all: &[Contestant]) -> Chart {
    let series = |one: &Contestant| Series {
        name: one.name.to_owned(),
        points: [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0]
            .map(|percent| (percent, percentile(&one.asked.micros, percent) / 1e3))
            .to_vec(),
    };
    Chart {
        title: "many tenants, one client, Zipf queries".to_owned(),
        x: Axis { label: "percentile", scale: Scale::Linear },
        y: Axis { label: "milliseconds of a query", scale: Scale::Logarithmic },
        series: all.iter().map(series).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn peers(arguments: &[&str]) -> Option<Vec<Kind>> {
        let all = ["http"].iter().chain(arguments);
        Command::try_parse_from(all).ok().map(|command| command.options.peers)
    }

    #[test]
    fn peers_are_named_in_a_list_and_may_be_none() {
        assert_eq!(peers(&[]), Some(vec![Kind::Chroma, Kind::Pgvector]));
        let both = Some(vec![Kind::LanceDb, Kind::MilvusLite]);
        assert_eq!(peers(&["--peers", "lancedb,milvus-lite"]), both);
        assert_eq!(peers(&["--peers"]), Some(vec![]));
        assert_eq!(peers(&["--peers", "lance"]), None);
    }

    #[test]
    fn only_peers_with_a_promise_have_goals() {
        assert_eq!(Kind::Chroma.goals().0, Goal::AtLeast(15.0));
        assert_eq!(Kind::Pgvector.goals(), (Goal::AtLeast(8.0), Goal::AtLeast(3.0)));
        assert_eq!(Kind::LanceDb.goals(), (Goal::Shown, Goal::Shown));
        assert_eq!(Kind::MilvusLite.goals(), (Goal::Shown, Goal::Shown));
    }
}
