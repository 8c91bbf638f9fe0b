//! Tenantry on PostgreSQL beside plain psycopg on the same server, and beside itself on files:
//! what the way through Tenantry costs, and what it saves.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    natives::{Installation, Natives},
    postgres::{Instance, connect, make_table},
    process::tenantry_program,
    psycopg::{self, Psycopg, Style, Workers},
    random::Random,
    report::{self, Goal, Row},
    serving::System,
    target::Asked,
    tenants::{Choice, Insert, NEIGHBOURS, Query, Tenants},
    wrk::Load,
};
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::path::PathBuf;
use tokio::runtime::{Builder, Runtime};

/// Enough for the data of all contestants, and for two Tenantries beside the clients.
const SETTINGS: [&str; 2] = ["shared_buffers=2GB", "max_connections=200"];
/// Inserts are cut into this many parts; every other one goes over one connection.
const INSERT_PARTS: usize = 12;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// How many tenants
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    tenants: u16,
    /// Records of the smallest tenant
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    least: u32,
    /// Records of the largest tenant
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    most: u32,
    /// Zipf's exponent of how often tenants ask; 0 lets all ask alike
    #[arg(long, default_value_t = 1.0)]
    skew: f64,
    /// Different queries
    #[arg(long, default_value_t = 3_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queries: u32,
    /// Queries whose answers are compared with the exact ones
    #[arg(long, default_value_t = 300)]
    sample: usize,
    /// Clients at the same time, beside the measurement with one
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=32))]
    connections: u16,
    /// Seconds of each load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How often each load is repeated, the contestants taking turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// What psycopg's clients are
    #[arg(long, value_enum, default_value_t = Workers::Processes)]
    workers: Workers,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Who the goals are about.
const PLAIN: &str = "psycopg";
/// Where it has its table; the other psycopgs share one.
const PLAIN_DATABASE: &str = "bench_plain";

/// What Tenantry means to reach beside psycopg: queries a second, p50, inserts.
type Goals = (Goal, Goal, Goal);

/// The goals are those of the usual isolation.
const SHARED: Goals = (Goal::AtLeast(0.87), Goal::AtMost(1.15), Goal::AtLeast(2.0));
const SHOWN: Goals = (Goal::Shown, Goal::Shown, Goal::Shown);

/// A system and what was measured so far, a number for each part or round; first with one client,
/// then with several.
struct Contestant {
    name: &'static str,
    system: Box<dyn System>,
    goals: Goals,
    /// False for whoever asks for what another has inserted.
    inserts: bool,
    insert_rates: [Vec<f64>; 2],
    asked: Asked,
    loads: [Vec<Load>; 2],
}

impl Contestant {
    fn new(name: &'static str, system: Box<dyn System>, goals: Goals) -> Self {
        let (insert_rates, loads) = Default::default();
        let asked = Asked::default();
        Self { name, system, goals, inserts: true, insert_rates, asked, loads }
    }

    fn insert(&mut self, part: &[Insert], is_crowd: bool, connections: usize) -> Result<()> {
        if self.inserts {
            let records: usize = part.iter().map(|one| one.records.len()).sum();
            let seconds = self.system.insert(part, connections)?;
            self.insert_rates[usize::from(is_crowd)].push(records as f64 / seconds);
        }
        Ok(())
    }

    fn of_loads(&self, is_crowd: bool, number: impl Fn(&Load) -> f64) -> Vec<f64> {
        self.loads[usize::from(is_crowd)].iter().map(number).collect()
    }

    fn json(&self) -> Value {
        let measured = |is_crowd: bool| {
            json!({
                "insert_per_second": self.insert_rates[usize::from(is_crowd)],
                "queries_per_second": self.of_loads(is_crowd, Load::rate),
                "p50_us": self.of_loads(is_crowd, |load| load.p50_us),
                "p99_us": self.of_loads(is_crowd, |load| load.p99_us),
            })
        };
        json!({
            "name": self.name, "recall": self.asked.recall(), "details": self.system.details(),
            "one_client": measured(false), "several_clients": measured(true),
            "resident_bytes": self.system.resident_bytes(),
        })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.least <= options.most, "the smallest tenant is larger than the largest");
    let (least, most) = (options.least as usize, options.most as usize);
    let tenants = options.choice.uneven(options.tenants.into(), least, most)?;
    println!("{} tenants, {} records: {}", tenants.all.len(), tenants.records(), tenants.origin);
    let queries = tenants.queries(options.queries as usize, options.skew, options.choice.seed);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let program = tenantry_program(options.program.as_deref())?;
    let venv = psycopg::environment()?;
    let instance = Instance::start_with(&venv, &SETTINGS)?;
    let uris = [in_database(&instance.uri, PLAIN_DATABASE), instance.uri.clone()];
    runtime.block_on(async {
        let create = format!("CREATE DATABASE {PLAIN_DATABASE}");
        connect(&instance.uri, None).await?.batch_execute(&create).await?;
        for uri in &uris {
            make_table(uri, tenants.dimension()).await?;
        }
        anyhow::Ok(())
    })?;
    let [plain, tuned] = &uris;
    let shared = Installation::set_up(&program, &instance, "bench_shared")?;
    let schema = Installation::set_up(&program, &instance, "bench_schema")?;
    println!("making {} tenants in each Tenantry", tenants.all.len());
    let ours = |name, more: &[&str], isolation, goals| -> Result<_> {
        let system = Natives::start(name, &program, more, isolation, &tenants)?;
        Ok(Contestant::new(name, Box::new(system), goals))
    };
    let theirs = |name, uri, style, inserts| -> Result<_> {
        let system = Psycopg::start(&venv, uri, options.workers, style)?;
        Ok(Contestant { inserts, ..Contestant::new(name, Box::new(system), SHOWN) })
    };
    let mut all = vec![
        ours("postgres shared", &shared.arguments(), "shared", SHARED)?,
        ours("postgres schema", &schema.arguments(), "schema", SHOWN)?,
        ours("embedded shared", &[], "shared", SHOWN)?,
        theirs(PLAIN, plain, Style::Plain, true)?,
        theirs("psycopg tuned", tuned, Style::Tuned, true)?,
        theirs("psycopg pipelined", tuned, Style::Pipelined, false)?,
    ];
    insert(&mut all, &tenants, options)?;
    runtime.block_on(vacuum(&instance.uri))?;
    measure(&mut all, &tenants, &queries, options)?;
    finish(&all, &tenants, &runtime, &instance, options)
}

fn insert(all: &mut [Contestant], tenants: &Tenants, options: &Options) -> Result<()> {
    let mut inserts = tenants.inserts();
    // As many tenants as there are clients write at a time.
    Random::new(options.choice.seed).shuffle(&mut inserts);
    for (index, part) in inserts.chunks(inserts.len().div_ceil(INSERT_PARTS).max(1)).enumerate() {
        let is_crowd = index % 2 == 0;
        let connections = if is_crowd { options.connections.into() } else { 1 };
        println!("inserting over {connections} connections, {} of {INSERT_PARTS}", index + 1);
        for contestant in all.iter_mut() {
            contestant.insert(part, is_crowd, connections)?;
        }
    }
    Ok(())
}

fn in_database(uri: &str, database: &str) -> String {
    uri.replace("/postgres?", &format!("/{database}?"))
}

/// Brings statistics and visibility of every database up to date, as a server left alone does.
async fn vacuum(uri: &str) -> Result<()> {
    for database in ["postgres", PLAIN_DATABASE, "bench_shared", "bench_schema"] {
        let uri = in_database(uri, database);
        connect(&uri, None).await?.batch_execute("VACUUM ANALYZE").await?;
    }
    Ok(())
}

fn measure(
    all: &mut [Contestant],
    tenants: &Tenants,
    queries: &[Query],
    options: &Options,
) -> Result<()> {
    let sample = queries.get(..options.sample.min(queries.len())).unwrap_or_default();
    println!("comparing {} answers with the exact ones", sample.len());
    for contestant in all.iter_mut() {
        contestant.system.settle(tenants, queries)?;
        contestant.asked = contestant.system.ask(sample)?;
    }
    for round in 0..options.rounds {
        println!("querying, {} of {}", round + 1, options.rounds);
        for (is_crowd, connections) in [(false, 1), (true, options.connections.into())] {
            for contestant in all.iter_mut() {
                let load = contestant.system.load(queries, connections, options.seconds)?;
                contestant.loads[usize::from(is_crowd)].push(load);
            }
        }
    }
    Ok(())
}

fn finish(
    all: &[Contestant],
    tenants: &Tenants,
    runtime: &Runtime,
    instance: &Instance,
    options: &Options,
) -> Result<()> {
    let version: String = runtime.block_on(async {
        let client = connect(&instance.uri, None).await?;
        anyhow::Ok(client.query_one("SHOW server_version", &[]).await?.try_get(0)?)
    })?;
    let details = json!({
        "data": tenants.origin, "tenants": tenants.all.len(), "records": tenants.records(),
        "neighbours": NEIGHBOURS, "connections": options.connections, "skew": options.skew,
        "postgres": version, "workers": format!("{:?}", options.workers).to_lowercase(),
        "contestants": all.iter().map(Contestant::json).collect::<Vec<_>>(),
    });
    report::finish("backend", &rows(all, options), details, &chart(all))
}

/// Each Tenantry beside each psycopg.
fn rows(all: &[Contestant], options: &Options) -> Vec<Row> {
    let (theirs, ours): (Vec<_>, Vec<_>) =
        all.iter().partition(|one| one.name.starts_with("psycopg"));
    let pairs = ours.iter().flat_map(|our| theirs.iter().map(move |their| (*our, *their)));
    pairs.flat_map(|(our, their)| rows_of(our, their, options.connections)).collect()
}

fn rows_of(our: &Contestant, their: &Contestant, connections: u16) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |what: &str, unit, number: &dyn Fn(&Contestant) -> Vec<f64>, goal| {
        let (ours, theirs) = (number(our), number(their));
        let (what, peer) = (format!("{}: {what}", our.name), their.name.to_owned());
        rows.push(Row { what, unit, peer, ours, theirs, goal });
    };
    let (throughput, latency, insert) = if their.name == PLAIN { our.goals } else { SHOWN };
    for (is_crowd, clients) in
        [(false, "1 client".to_owned()), (true, format!("{connections} clients"))]
    {
        let of = |number: fn(&Load) -> f64| move |one: &Contestant| one.of_loads(is_crowd, number);
        row(&format!("throughput, {clients}"), "queries/s", &of(Load::rate), throughput);
        row(&format!("p50, {clients}"), "ms", &of(|load| load.p50_us / 1e3), latency);
        row(&format!("p99, {clients}"), "ms", &of(|load| load.p99_us / 1e3), Goal::Shown);
        if their.inserts {
            let rates = |one: &Contestant| one.insert_rates[usize::from(is_crowd)].clone();
            row(&format!("insert, {clients}"), "records/s", &rates, insert);
        }
    }
    let recall = |one: &Contestant| vec![one.asked.recall()];
    row("recall@10", "share", &recall, Goal::AtLeast(1.0));
    rows
}

fn chart(all: &[Contestant]) -> Chart {
    let series = |one: &Contestant| Series {
        name: one.name.to_owned(),
        points: (1..).zip(one.of_loads(true, Load::rate)).map(|(x, y)| (f64::from(x), y)).collect(),
    };
    Chart {
        title: "queries of many tenants over several connections, round by round".to_owned(),
        x: Axis { label: "round", scale: Scale::Linear },
        y: Axis { label: "queries a second", scale: Scale::Logarithmic },
        series: all.iter().map(series).collect(),
    }
}
