//! What a move costs: the tenant that is moved, under reads and writes, and its neighbour.
//!
//! Four clients write, read and query the tenant that goes around its isolations, with a model of
//! what they wrote: a lost, doubled or failed operation ends the run. The neighbour asks at fixed
//! times, as in `neighbour.rs`. Both are measured without moves too, in turns.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    http::{Connection, request},
    neighbour::open_loop,
    process::tenantry_program,
    random::Random,
    report::{self, Goal, Row},
    statistics::percentile,
    target::Target,
    tenants::{Choice, Tenants},
};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const MOVED: usize = 0;
const NEIGHBOUR: usize = 1;
const CLIENTS: usize = 4;
/// Ids that each client writes, which nobody else does.
const IDS: usize = 20;
/// Rests between operations of a client: what is measured is delay, not how much the machine can do.
const REST: Duration = Duration::from_millis(5);
/// Questions of the neighbour a second, and how many different ones.
const RATE: u32 = 50;
const QUERIES: usize = 500;
const CIRCLE: [&str; 3] = ["schema", "database", "shared"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Records of each tenant
    #[arg(long, default_value_t = 50_000)]
    records: usize,
    /// Moves, from shared to schema to database and back
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    moves: u32,
    /// Moves between two measurements without any
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    each: u32,
    /// Seconds of each measurement without moves
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// One measurement, in milliseconds.
#[derive(Debug, Default)]
struct Span {
    operations: Vec<f64>,
    neighbour: Vec<f64>,
    /// Of each move: how long it took, and its longest pause of writes.
    moves: Vec<(f64, f64)>,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tenants = options.choice.pair(options.records)?;
    let program = tenantry_program(options.program.as_deref())?;
    println!("two tenants of {} records: {}", options.records, tenants.origin);
    let target = Target::tenantry(&program, &tenants)?;
    target.insert(&tenants.inserts(), 4)?;
    target.check_counts(&tenants)?;
    let queries = tenants.queries_of(NEIGHBOUR, QUERIES, options.choice.seed);
    target.ask(&queries)?;
    let queries = target.requests(&queries)?;
    let (mut alone, mut moved, mut done) = (Vec::new(), Vec::new(), 0);
    while done < options.moves {
        let rest = Duration::from_secs(options.seconds);
        alone.push(span(&target, &tenants, &queries, || {
            thread::sleep(rest);
            Ok(Vec::new())
        })?);
        let some = options.each.min(options.moves - done);
        moved.push(span(&target, &tenants, &queries, || {
            (done..done + some).map(|n| go(&target, &tenants, CIRCLE[n as usize % 3])).collect()
        })?);
        done += some;
        let last = moved.last().map_or(&[][..], |span| &span.moves);
        println!("{done} of {} moves, the last {:?}", options.moves, last.last());
    }
    report::finish(
        "moves",
        &rows(&alone, &moved),
        details(options, &alone, &moved),
        &chart(&alone, &moved),
    )
}

/// Moves the tenant; milliseconds of all and of the longest pause.
fn go(target: &Target, tenants: &Tenants, to: &str) -> Result<(f64, f64)> {
    let (address, operator) = target.operator.as_ref().context("the server has no operator")?;
    let name = &tenants.all.get(MOVED).context("no tenant")?.name;
    let path = format!("/v1/admin/tenants/{name}/move");
    let mut connection = Connection::open(*address)?;
    let begun = Instant::now();
    let body = json!({ "isolation": to }).to_string();
    connection.send(&request("POST", &path, operator, Some(body.as_bytes())))?.success()?;
    loop {
        thread::sleep(Duration::from_millis(20));
        let status = connection.send(&request("GET", &path, operator, None))?.json()?;
        if status["over"] == true {
            ensure!(status["phase"] == "done", "{status}");
            let pause = status["longest_pause_ms"].as_f64().context("no pause")?;
            return Ok((begun.elapsed().as_secs_f64() * 1e3, pause));
        }
    }
}

/// What clients and the neighbour feel while `work` is done.
fn span(
    target: &Target,
    tenants: &Tenants,
    queries: &[Vec<u8>],
    work: impl FnOnce() -> Result<Vec<(f64, f64)>>,
) -> Result<Span> {
    let is_over = AtomicBool::new(false);
    let until = || is_over.load(Ordering::Relaxed);
    let mut all = Span::default();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || Client::new(target, tenants, n)?.run(until)))
            .collect();
        let neighbour = scope.spawn(|| {
            let mut took = Vec::new();
            while !until() {
                took.extend(open_loop(target.address, queries, RATE, Duration::from_secs(1))?);
            }
            anyhow::Ok(took)
        });
        let worked = work();
        is_over.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a client's thread panicked");
        for client in clients {
            all.operations.extend(client.join().map_err(panicked)??);
        }
        let neighbour = neighbour.join().map_err(panicked)??;
        all.neighbour = neighbour.iter().map(|micros| micros / 1e3).collect();
        all.moves = worked?;
        anyhow::Ok(())
    })?;
    Ok(all)
}

/// Writes and reads ids of its own.
struct Client<'a> {
    target: &'a Target,
    connection: Connection,
    number: usize,
    random: Random,
    vector: &'a [f32],
    written: Vec<Option<u64>>,
    next: u64,
}

impl<'a> Client<'a> {
    fn new(target: &'a Target, tenants: &'a Tenants, number: usize) -> Result<Self> {
        let record = tenants.all.get(MOVED).and_then(|one| one.records.get(number));
        Ok(Self {
            target,
            connection: Connection::open(target.address)?,
            number,
            random: Random::new(number as u64 + 7),
            vector: &record.context("no record")?.vector,
            written: vec![None; IDS],
            next: 0,
        })
    }

    /// Milliseconds of each operation.
    fn run(mut self, until: impl Fn() -> bool) -> Result<Vec<f64>> {
        let mut took = Vec::new();
        while !until() {
            let begun = Instant::now();
            self.step()?;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
            thread::sleep(REST);
        }
        Ok(took)
    }

    fn step(&mut self) -> Result<()> {
        let at = self.random.below(IDS);
        let id = format!("own-{}-{at}", self.number);
        match self.random.below(4) {
            0 => {
                self.next += 1;
                let value = self.next;
                let body = json!({"ids": [id], "embeddings": [self.vector],
                                  "metadatas": [{"value": value}]});
                self.send("upsert", &body)?;
                *self.written.get_mut(at).context("no such id")? = Some(value);
            }
            1 => {
                let body = json!({"query_embeddings": [self.vector], "n_results": 5});
                let found = self.send("query", &body)?;
                ensure!(found.pointer("/ids/0/4").is_some(), "a query found too little: {found}");
            }
            _ => {
                let found = self.send("get", &json!({"ids": [id], "include": ["metadatas"]}))?;
                let value = found.pointer("/metadatas/0/value").and_then(Value::as_u64);
                let written = self.written.get(at).copied().flatten();
                // One of an earlier measurement may be there.
                ensure!(
                    written.is_none() || value == written,
                    "{id} is {value:?}, not {written:?}"
                );
            }
        }
        Ok(())
    }

    fn send(&mut self, operation: &str, body: &Value) -> Result<Value> {
        let bytes = body.to_string();
        let request = self.target.request(MOVED, operation, bytes.as_bytes())?;
        let answer = self.connection.send(&request)?;
        answer.success().with_context(|| format!("{operation} of the tenant that is moved"))?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
    }
}

fn each(spans: &[Span], of: impl Fn(&Span) -> f64) -> Vec<f64> {
    spans.iter().map(of).collect()
}

fn rows(alone: &[Span], moved: &[Span]) -> Vec<Row> {
    let row = |what: &str, of: &dyn Fn(&Span) -> f64, goal| Row {
        what: what.to_owned(),
        unit: "ms",
        peer: "without moves".to_owned(),
        ours: each(moved, of),
        theirs: each(alone, of),
        goal,
    };
    vec![
        row("neighbour's p50", &|one| percentile(&one.neighbour, 50.0), Goal::Shown),
        row("neighbour's p99", &|one| percentile(&one.neighbour, 99.0), Goal::AtMost(1.2)),
        row("moved tenant's p50", &|one| percentile(&one.operations, 50.0), Goal::Shown),
        row("moved tenant's p99", &|one| percentile(&one.operations, 99.0), Goal::Shown),
        row("moved tenant's longest", &|one| percentile(&one.operations, 100.0), Goal::Shown),
    ]
}

fn details(options: &Options, alone: &[Span], moved: &[Span]) -> Value {
    let moves: Vec<_> = moved.iter().flat_map(|span| &span.moves).collect();
    let longest = |spans| each(spans, |one| percentile(&one.operations, 100.0));
    json!({
        "records": options.records,
        "moves": moves.len(),
        "operations": moved.iter().map(|span| span.operations.len()).sum::<usize>(),
        "move_ms": moves.iter().map(|(took, _)| took).collect::<Vec<_>>(),
        "pause_ms": moves.iter().map(|(_, pause)| pause).collect::<Vec<_>>(),
        "longest_ms": longest(moved),
        "longest_without_ms": longest(alone),
    })
}

fn chart(alone: &[Span], moved: &[Span]) -> Chart {
    let percents = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0];
    let line = |name: &str, spans: &[Span], of: fn(&Span) -> &Vec<f64>| {
        let all: Vec<f64> = spans.iter().flat_map(of).copied().collect();
        Series {
            name: name.to_owned(),
            points: percents.map(|p| (p, percentile(&all, p))).to_vec(),
        }
    };
    Chart {
        title: "a tenant that is moved, and its neighbour".to_owned(),
        x: Axis { label: "percentile", scale: Scale::Linear },
        y: Axis { label: "milliseconds", scale: Scale::Logarithmic },
        series: vec![
            line("tenant", alone, |span| &span.operations),
            line("tenant, moved", moved, |span| &span.operations),
            line("neighbour", alone, |span| &span.neighbour),
            line("neighbour, beside a move", moved, |span| &span.neighbour),
        ],
    }
}
