//! What a move costs: the tenant that is moved, under reads and writes, and its neighbour.
//!
//! Four clients write, read and query the tenant that goes around its isolations, with a model of
//! what they wrote: a lost, doubled or failed operation ends the run. The neighbour asks at fixed
//! times, as in `neighbour.rs`. Both are measured without moves too, in turns.

mod burden;
mod client;

use self::{
    burden::{Burden, Used},
    client::{Client, Operation, What},
};
use crate::{
    chart::{Axis, Chart, Scale, Series},
    cores::apart,
    http::{Connection, request},
    natives::Installation,
    neighbour::open_loop_until,
    postgres::Instance,
    process::{empty_folder, tenantry_program},
    psycopg,
    report::{self, Goal, Row},
    statistics::percentile,
    target::Target,
    tenants::{Choice, Tenants},
};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

const MOVED: usize = 0;
const NEIGHBOUR: usize = 1;
const CLIENTS: usize = 4;
/// Records from which on a collection certainly gets a graph, which is waited for.
const GRAPH_RECORDS: usize = 20_000;
/// Questions of the neighbour a second, and how many different ones.
const RATE: u32 = 100;
const QUERIES: usize = 500;
/// Locations and isolations, one after the other: among files, and with databases of PostgreSQL.
const CIRCLE: [(&str, &str); 3] = [("home", "schema"), ("home", "database"), ("home", "shared")];
const WIDE_CIRCLE: [(&str, &str); 6] = [
    ("home", "schema"),
    ("home", "database"),
    ("pg", "shared"),
    ("pg", "schema"),
    ("pg", "database"),
    ("home", "shared"),
];
/// How often it is asked how far a move is: an operator's program may, without being felt.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What a move may add to the longest operation of the tenant on ids that it names.
const DELAY_MS: f64 = 50.0;
/// How long the tenant is left in a place, to see how it does there.
const STAY: Duration = Duration::from_secs(3);
/// Indexes take no longer than this.
const BUILDS_MAX: Duration = Duration::from_secs(900);

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
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    each: u32,
    /// Seconds of each measurement without moves
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// One of so many operations of the moved tenant is a query, none with 0. Without a graph it reads
    /// all vectors, and a graph is built wherever the tenant is: in PostgreSQL on this machine that
    /// takes most of it
    #[arg(long, default_value_t = 20)]
    query_one_in: usize,
    /// Move it through a database of PostgreSQL as well, in all isolations there
    #[arg(long)]
    postgres: bool,
    /// Give PostgreSQL the last core for itself, and everything else the others, as if the database
    /// were on another machine: what it computes is then no part of what the neighbour feels
    #[arg(long, requires = "postgres")]
    apart: bool,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// One measurement, in milliseconds.
#[derive(Debug, Default)]
struct Span {
    operations: Vec<Operation>,
    /// When each question of the neighbour was due, and what it took.
    neighbour: Vec<(Instant, f64)>,
    moves: Vec<Move>,
    /// What the servers used meanwhile, or beside the moves if there were any.
    used: Burden,
}

impl Span {
    fn took(&self) -> Vec<f64> {
        self.operations.iter().map(|one| one.took_ms).collect()
    }

    /// The same of its queries only.
    fn queries(&self) -> Vec<f64> {
        self.operations
            .iter()
            .filter(|one| one.what == What::Query)
            .map(|one| one.took_ms)
            .collect()
    }

    /// What the neighbour's questions took, while a move was under way if there was any.
    fn neighbour(&self) -> Vec<f64> {
        let is_beside = |at| self.moves.iter().any(|one| one.from <= at && at <= one.to);
        let counts = |&&(at, _): &&(Instant, f64)| self.moves.is_empty() || is_beside(at);
        self.neighbour.iter().filter(counts).map(|(_, took_ms)| *took_ms).collect()
    }

    /// Operations on named ids that were under way in some part of the measurement.
    fn by_id(&self, from: Instant, to: Instant) -> Vec<f64> {
        let within = |one: &&Operation| {
            let ended = one.begun + Duration::from_secs_f64(one.took_ms / 1e3);
            one.what != What::Query && one.begun <= to && ended >= from
        };
        self.operations.iter().filter(within).map(|one| one.took_ms).collect()
    }

    /// The longest operations on named ids beside a move: what they were, when they began before its
    /// end, in which phase, and how long they took.
    fn longest(&self, at: usize) -> Vec<String> {
        let Some(one) = self.moves.get(at) else { return Vec::new() };
        let beside =
            |op: &&Operation| op.what != What::Query && one.from <= op.begun && op.begun <= one.to;
        let mut all: Vec<_> = self.operations.iter().filter(beside).collect();
        all.sort_by(|a, b| b.took_ms.total_cmp(&a.took_ms));
        let tell = |op: &&Operation| {
            let phase = one.phases.iter().rfind(|(since, _)| *since <= op.begun);
            format!(
                "{:?} {:.0} ms, {:.0} ms before the end, {}",
                op.what,
                op.took_ms,
                (one.to - op.begun).as_secs_f64() * 1e3,
                phase.map_or("at the start", |(_, phase)| phase)
            )
        };
        all.iter().take(4).map(tell).collect()
    }

    /// The longest operation on named ids in each window of so many seconds while a move was under way,
    /// or in all of the measurement if there was none: the more one looks at, the longer the longest is.
    fn longest_each(&self, seconds: u64) -> Vec<f64> {
        let (window, whole) = (Duration::from_secs(seconds), self.operations.iter());
        let longest = |from, to| percentile(&self.by_id(from, to), 100.0);
        if self.moves.is_empty() {
            let begun = whole.map(|one| one.begun);
            let ends = begun.clone().min().zip(begun.max());
            return ends.map(|(from, to)| longest(from, to)).into_iter().collect();
        }
        let mut all = Vec::new();
        for one in &self.moves {
            // What is left at its end, and is no whole window, belongs to the last one.
            let windows = ((one.to - one.from).as_secs() / seconds.max(1)).max(1);
            for at in 0..windows {
                let from = one.from + window * u32::try_from(at).unwrap_or(u32::MAX);
                let to = if at + 1 == windows { one.to } else { from + window };
                all.push(longest(from, to));
            }
        }
        all
    }

    /// How much longer the longest operation on named ids was than the 99th percentile in the slower
    /// one of both places.
    fn over_p99_ms(&self, at: usize) -> f64 {
        let Some(one) = self.moves.get(at) else { return 0.0 };
        let usual = |from, to| percentile(&self.by_id(from, to), 99.0);
        let before = one.from.checked_sub(STAY).unwrap_or(one.from);
        let here = usual(before, one.from);
        let there = usual(one.to, one.to + STAY);
        percentile(&self.by_id(one.from, one.to), 100.0) - here.max(there)
    }
}

/// One move.
#[derive(Debug, Clone)]
struct Move {
    from: Instant,
    to: Instant,
    place: String,
    /// The longest pause of writes, by the server's account.
    pause_ms: f64,
    /// What it did, each from when it was first seen.
    phases: Vec<(Instant, String)>,
    /// What the servers used meanwhile.
    used: Burden,
}

impl Move {
    fn took_ms(&self) -> f64 {
        (self.to - self.from).as_secs_f64() * 1e3
    }
}

/// The neighbour's p99 in each phase of the moves, and of how many questions: where moves are felt.
fn by_phase(moved: &[Span]) -> BTreeMap<String, (usize, f64)> {
    let mut took: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for span in moved {
        for (due, ms) in &span.neighbour {
            let phases = span.moves.iter().filter(|one| one.from <= *due && *due < one.to);
            let phase = phases.flat_map(|one| &one.phases).rfind(|(since, _)| since <= due);
            if let Some((_, phase)) = phase {
                took.entry(phase.clone()).or_default().push(*ms);
            }
        }
    }
    took.into_iter().map(|(phase, ms)| (phase, (ms.len(), percentile(&ms, 99.0)))).collect()
}

/// A server in files, and the database of PostgreSQL that it knows as `pg`.
fn start(options: &Options, tenants: &Tenants) -> Result<(Target, Option<Instance>)> {
    let program = tenantry_program(options.program.as_deref())?;
    if !options.postgres {
        return Ok((Target::tenantry(&program, tenants)?, None));
    }
    let environment = psycopg::environment()?;
    let begin = || Instance::start(&environment);
    let instance = if options.apart { apart(begin)? } else { begin()? };
    let made = Installation::set_up(&program, &instance, "bench_moves")?;
    let (url, admin) = (format!("pg={}", made.url), format!("pg={}", made.admin_url));
    let more = ["--location", &url, "--location-admin", &admin];
    let target = Target::tenantry_in(&program, tenants, "server-tenantry", &more)?;
    Ok((target, Some(instance)))
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tenants = options.choice.pair(options.records)?;
    println!("two tenants of {} records: {}", options.records, tenants.origin);
    let (target, postgres) = start(options, &tenants)?;
    let circle = if options.postgres { &WIDE_CIRCLE[..] } else { &CIRCLE[..] };
    target.insert(&tenants.inserts(), 4)?;
    target.check_counts(&tenants)?;
    let queries = tenants.queries_of(NEIGHBOUR, QUERIES, options.choice.seed);
    target.ask(&queries)?;
    let queries = target.requests(&queries)?;
    if options.records >= GRAPH_RECORDS {
        target.ask(&tenants.queries_of(MOVED, 1, options.choice.seed))?;
        let took = target.settle(MOVED)? + target.settle(NEIGHBOUR)?;
        println!("graphs built after {took:.0} s");
    }
    let folder = empty_folder("burden")?;
    let (mut alone, mut moved, mut burdened) = (Vec::new(), Vec::new(), Vec::new());
    let rest = Duration::from_secs(options.seconds);
    let beside = postgres.as_ref().filter(|_| !options.apart);
    let processes = [Some(target.process()), beside.map(Instance::process)];
    let asks = Asks {
        tenants: &tenants,
        queries: &queries,
        query_one_in: options.query_one_in,
        processes: processes.into_iter().flatten().collect(),
    };
    let built = || postgres.as_ref().map_or(Ok(()), |one| let_build(&target, &asks, one));
    let stay = || {
        built()?;
        span(&target, &asks, || {
            thread::sleep(rest);
            Ok(Vec::new())
        })
    };
    let mut done = 0;
    while done < options.moves {
        alone.push(stay()?);
        let some = options.each.min(options.moves - done);
        moved.push(span(&target, &asks, || {
            let stops = circle.iter().cycle().skip(done as usize).take(some as usize);
            stops.map(|stop| go(&target, &asks, *stop)).collect()
        })?);
        let usual = alone.last().map(|one: &Span| one.used).unwrap_or_default();
        let more = moved.last().map(|one: &Span| one.used).unwrap_or_default().above(usual);
        built()?;
        burdened.push(span(&target, &asks, || {
            more.carry(rest, &folder)?;
            Ok(Vec::new())
        })?);
        done += some;
        println!(
            "{done} of {} moves: {:.2} cores and {:.1} MB a second more than without",
            options.moves,
            more.cores,
            more.bytes as f64 / 1e6
        );
        [alone.last(), moved.last(), burdened.last()].into_iter().flatten().for_each(tell);
    }
    alone.push(stay()?);
    report::finish(
        "moves",
        &rows(options.seconds, &alone, &moved, &burdened),
        details(options, &alone, &moved),
        &chart(&alone, &moved),
    )
}

/// Lets clients go on until PostgreSQL has made the indexes that it makes of a large collection some
/// time after its arrival: on a machine as small as this nobody else gets much meanwhile.
fn let_build(target: &Target, asks: &Asks<'_>, instance: &Instance) -> Result<()> {
    let wait = || {
        let (begun, mut quiet) = (Instant::now(), 0);
        while quiet < 2 {
            ensure!(begun.elapsed() < BUILDS_MAX, "PostgreSQL makes indexes without an end");
            thread::sleep(STAY);
            quiet = if instance.makes_indexes()? { 0 } else { quiet + 1 };
        }
        Ok(Vec::new())
    };
    span(target, asks, wait).map(drop)
}

fn tell(span: &Span) {
    println!("  neighbour's p99 {:.2} ms", percentile(&span.neighbour(), 99.0));
    for (at, one) in span.moves.iter().enumerate() {
        println!(
            "  to {}: {:.0} ms, {:.1} ms pause of writes, the longest operation {:.1} ms over p99",
            one.place,
            one.took_ms(),
            one.pause_ms,
            span.over_p99_ms(at)
        );
        println!("    longest: {}", span.longest(at).join("; "));
    }
}

/// Moves the tenant.
fn go(target: &Target, asks: &Asks<'_>, (location, isolation): (&str, &str)) -> Result<Move> {
    let (address, operator) = target.operator.as_ref().context("the server has no operator")?;
    let name = &asks.tenants.all.get(MOVED).context("no tenant")?.name;
    let path = format!("/v1/admin/tenants/{name}/move");
    let mut connection = Connection::open(*address)?;
    thread::sleep(STAY);
    let (from, before) = (Instant::now(), Used::by(&asks.processes));
    let body = json!({ "isolation": isolation, "location": location }).to_string();
    connection.send(&request("POST", &path, operator, Some(body.as_bytes())))?.success()?;
    let mut phases: Vec<(Instant, String)> = Vec::new();
    loop {
        thread::sleep(LOOK_EVERY);
        let status = connection.send(&request("GET", &path, operator, None))?.json()?;
        let phase = status["phase"].as_str().context("no phase")?;
        if phases.last().is_none_or(|(_, last)| last != phase) {
            phases.push((Instant::now(), phase.to_owned()));
        }
        if status["over"] == true {
            ensure!(status["phase"] == "done", "{status}");
            let pause_ms = status["longest_pause_ms"].as_f64().context("no pause")?;
            let (to, place) = (Instant::now(), format!("{location} {isolation}"));
            let used = Used::by(&asks.processes).since(&before);
            thread::sleep(STAY);
            return Ok(Move { from, to, place, pause_ms, phases, used });
        }
    }
}

/// What clients and the neighbour ask for.
struct Asks<'a> {
    tenants: &'a Tenants,
    /// The neighbour's.
    queries: &'a [Vec<u8>],
    query_one_in: usize,
    /// Who answers on the neighbour's cores: the server, and PostgreSQL if it is there too.
    processes: Vec<u32>,
}

/// What clients and the neighbour feel while `work` is done.
fn span(
    target: &Target,
    asks: &Asks<'_>,
    work: impl FnOnce() -> Result<Vec<Move>>,
) -> Result<Span> {
    let is_over = AtomicBool::new(false);
    let until = || is_over.load(Ordering::Relaxed);
    let mut all = Span::default();
    let before = Used::by(&asks.processes);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || Client::new(target, asks, n)?.run(until)))
            .collect();
        let neighbour = scope.spawn(|| open_loop_until(target.address, asks.queries, RATE, until));
        let worked = work();
        all.used = Used::by(&asks.processes).since(&before);
        is_over.store(true, Ordering::Relaxed);
        let panicked = |_| anyhow!("a client's thread panicked");
        for client in clients {
            all.operations.extend(client.join().map_err(panicked)??);
        }
        let neighbour = neighbour.join().map_err(panicked)??;
        all.neighbour = neighbour.into_iter().map(|(due, micros)| (due, micros / 1e3)).collect();
        all.moves = worked?;
        all.used = Burden::mean(all.moves.iter().map(|one| one.used)).unwrap_or(all.used);
        anyhow::Ok(())
    })?;
    Ok(all)
}

fn each(spans: &[Span], of: impl Fn(&Span) -> f64) -> Vec<f64> {
    spans.iter().map(of).collect()
}

/// What was measured in all parts.
fn all(spans: &[Span], of: impl Fn(&Span) -> Vec<f64>) -> Vec<f64> {
    spans.iter().flat_map(of).collect()
}

/// Over the longest in as long a time without a move where the tenant was before or was afterwards,
/// whichever is more.
fn added(seconds: u64, alone: &[Span], moved: &[Span]) -> Vec<f64> {
    let mut all = Vec::new();
    for (one, places) in moved.iter().zip(alone.windows(2)) {
        let usual = places.iter().flat_map(|place| place.longest_each(seconds));
        let usual = usual.fold(0.0, f64::max);
        all.extend(one.longest_each(seconds).iter().map(|longest| longest - usual));
    }
    all
}

fn rows(seconds: u64, alone: &[Span], moved: &[Span], burdened: &[Span]) -> Vec<Row> {
    let row = |what: &str, of: &dyn Fn(&Span) -> f64, goal| Row {
        what: what.to_owned(),
        unit: "ms",
        peer: "without moves".to_owned(),
        ours: each(moved, of),
        theirs: each(alone, of),
        goal,
    };
    vec![
        row("neighbour's p50", &|one| percentile(&one.neighbour(), 50.0), Goal::Shown),
        row("neighbour's p99, by part", &|one| percentile(&one.neighbour(), 99.0), Goal::Shown),
        // A part has some hundred questions, so its 99th percentile is one of the slowest few.
        Row {
            ours: vec![percentile(&all(moved, Span::neighbour), 99.0)],
            theirs: vec![percentile(&all(alone, Span::neighbour), 99.0)],
            ..row("neighbour's p99, of all", &|_| 0.0, Goal::AtMost(1.2))
        },
        // How much of it is anybody's who computes and writes as much on this machine.
        Row {
            peer: "beside a plain program that uses as much".to_owned(),
            ours: vec![percentile(&all(moved, Span::neighbour), 99.0)],
            theirs: vec![percentile(&all(burdened, Span::neighbour), 99.0)],
            ..row("neighbour's p99, of all", &|_| 0.0, Goal::Shown)
        },
        row("moved tenant's p50", &|one| percentile(&one.took(), 50.0), Goal::Shown),
        row("moved tenant's queries, p50", &|one| percentile(&one.queries(), 50.0), Goal::Shown),
        row("moved tenant's p99", &|one| percentile(&one.took(), 99.0), Goal::Shown),
        Row {
            ours: all(moved, |one| one.longest_each(seconds)),
            theirs: all(alone, |one| one.longest_each(seconds)),
            ..row(&format!("moved tenant's longest on ids in {seconds} s"), &|_| 0.0, Goal::Shown)
        },
        Row {
            ours: added(seconds, alone, moved),
            theirs: Vec::new(),
            ..row("added to it", &|_| 0.0, Goal::Within(DELAY_MS))
        },
    ]
}

fn details(options: &Options, alone: &[Span], moved: &[Span]) -> Value {
    let mut moves = Vec::new();
    for span in moved {
        println!("  neighbour's p99 {:.2} ms", percentile(&span.neighbour(), 99.0));
        for (at, one) in span.moves.iter().enumerate() {
            moves.push(json!({
                "to": one.place, "took_ms": one.took_ms(), "pause_ms": one.pause_ms,
                "longest_over_p99_ms": span.over_p99_ms(at),
            }));
        }
    }
    let phases = by_phase(moved);
    for (phase, (questions, p99)) in &phases {
        println!("  neighbour's p99 in {phase}: {p99:.2} ms of {questions} questions");
    }
    let longest = |spans| each(spans, |one| percentile(&one.took(), 100.0));
    json!({
        "records": options.records,
        "operations": moved.iter().map(|span| span.operations.len()).sum::<usize>(),
        "moves": moves,
        "neighbour_p99_ms_by_phase": phases,
        "longest_ms": longest(moved),
        "longest_without_ms": longest(alone),
    })
}

fn chart(alone: &[Span], moved: &[Span]) -> Chart {
    let percents = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0];
    let line = |name: &str, spans: &[Span], of: fn(&Span) -> Vec<f64>| {
        let took = all(spans, of);
        Series {
            name: name.to_owned(),
            points: percents.map(|p| (p, percentile(&took, p))).to_vec(),
        }
    };
    Chart {
        title: "a tenant that is moved, and its neighbour".to_owned(),
        x: Axis { label: "percentile", scale: Scale::Linear },
        y: Axis { label: "milliseconds", scale: Scale::Logarithmic },
        series: vec![
            line("tenant", alone, Span::took),
            line("tenant, moved", moved, Span::took),
            line("neighbour", alone, Span::neighbour),
            line("neighbour, beside a move", moved, Span::neighbour),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_is_the_longest_of_equal_times() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let operation = |begun, took_ms, what| Operation { begun: at(begun), took_ms, what };
        let operations = vec![
            operation(0.5, 9.0, What::Write),
            operation(1.5, 3.0, What::Read),
            operation(1.6, 70.0, What::Query),
            operation(3.0, 5.0, What::Write),
            operation(4.9, 7.0, What::Write),
            operation(9.0, 80.0, What::Write),
        ];
        let mut span = Span { operations, ..Span::default() };
        assert_eq!(span.longest_each(2), [80.0]);
        span.moves = vec![Move {
            from: at(1.0),
            to: at(6.0),
            place: String::new(),
            pause_ms: 0.0,
            phases: Vec::new(),
            used: Burden::default(),
        }];
        // From 1 to 3, and from 3 to 6.
        assert_eq!(span.longest_each(2), [5.0, 7.0]);
        assert_eq!(span.longest_each(60), [7.0]);
        let alone = Span { moves: Vec::new(), ..Span::default() };
        assert!(alone.longest_each(2).is_empty());
        // Over the slower one of both places: the first has 4 ms, the second 6.
        let stay = |took_ms| Span {
            operations: vec![operation(0.0, took_ms, What::Write)],
            ..Span::default()
        };
        assert_eq!(added(2, &[stay(4.0), stay(6.0)], &[span]), [-1.0, 1.0]);
    }
}
