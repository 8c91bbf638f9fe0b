//! What a tenant feels of another one's flood, at Tenantry and at Chroma's own server.
//!
//! There are two floods: one at fixed times, so many times the quiet tenant's rate, and one of as
//! much as its connections can send, which is more the faster a server answers.
//!
//! The quiet tenant asks at fixed times whether or not earlier answers have come (open loop), and
//! its latency counts from the intended time: a server that stalls cannot hide it by delaying the
//! next question.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    http::Connection,
    process::tenantry_program,
    report::{self, Goal, Row},
    statistics::percentile,
    target::{self, Target},
    tenants::{Choice, Tenants},
    wrk::{Load, Prepared},
};
use anyhow::{Result, anyhow, ensure};
use clap::Args;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const QUIET: usize = 0;
const LOUD: usize = 1;
/// Connections of the quiet tenant: enough that one slow answer does not delay the next question.
const QUIET_CONNECTIONS: usize = 16;
/// The flood starts so long before the quiet tenant is timed, and lasts as long after.
const LEAD: Duration = Duration::from_secs(1);
/// Different queries of each tenant.
const QUERIES: usize = 500;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Records of each tenant
    #[arg(long, default_value_t = 5_000)]
    records: usize,
    /// Questions of the quiet tenant a second
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How many times the quiet tenant's rate the measured flood is
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    times: u32,
    /// Connections of the flooding tenant
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    connections: u16,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=120))]
    seconds: u64,
    /// Rounds: each server, alone and under the flood, in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Leave Chroma's server out
    #[arg(long)]
    no_chroma: bool,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// A server and what was measured so far.
struct Contestant {
    target: Target,
    quiet: Vec<Vec<u8>>,
    loud: Vec<Vec<u8>>,
    flood: Prepared,
    /// Microseconds of each question, round by round.
    alone: Vec<Vec<f64>>,
    beside: Vec<Vec<f64>>,
    beside_all: Vec<Vec<f64>>,
    /// Answers a second of the flood at fixed times, round by round.
    answered: Vec<f64>,
    floods: Vec<Load>,
}

impl Contestant {
    fn new(target: Target, tenants: &Tenants, seed: u64) -> Result<Self> {
        target.insert(&tenants.inserts(), 4)?;
        target.check_counts(tenants)?;
        let quiet = target.requests(&tenants.queries_of(QUIET, QUERIES, seed))?;
        let queries = tenants.queries_of(LOUD, QUERIES, seed ^ 1);
        let (loud, flood) = (target.requests(&queries)?, target.prepare("flood", &queries)?);
        // Both tenants are warm before anything is timed.
        target.ask(&tenants.queries_of(QUIET, QUERIES, seed))?;
        target.ask(&queries)?;
        Ok(Self {
            target,
            quiet,
            loud,
            flood,
            alone: Vec::new(),
            beside: Vec::new(),
            beside_all: Vec::new(),
            answered: Vec::new(),
            floods: Vec::new(),
        })
    }

    fn round(&mut self, options: &Options) -> Result<()> {
        let span = Duration::from_secs(options.seconds);
        let address = self.target.address;
        self.alone.push(open_loop(address, &self.quiet, options.rate, span)?);
        self.fixed_flood(options, span)?;
        let lasts = options.seconds + 2 * LEAD.as_secs();
        let flood = self.flood.start(options.connections.into(), lasts)?;
        thread::sleep(LEAD);
        let beside = open_loop(address, &self.quiet, options.rate, span);
        self.floods.push(flood.wait()?);
        self.beside_all.push(beside?);
        Ok(())
    }

    /// The quiet tenant beside a flood at fixed times.
    fn fixed_flood(&mut self, options: &Options, span: Duration) -> Result<()> {
        let address = self.target.address;
        let flood = Loop {
            rate: options.rate * options.times,
            span: span + 2 * LEAD,
            connections: options.connections.into(),
            is_flood: true,
        };
        let (sent, beside) = thread::scope(|scope| {
            let sent = scope.spawn(|| flood.ask(address, &self.loud));
            thread::sleep(LEAD);
            let beside = open_loop(address, &self.quiet, options.rate, span);
            (sent.join(), beside)
        });
        let sent = sent.map_err(|_| anyhow!("the flood's thread panicked"))??;
        self.answered.push(sent.len() as f64 / flood.span.as_secs_f64());
        self.beside.push(beside?);
        Ok(())
    }

    /// A percentile under the flood divided by the same alone, of each round.
    fn inflation(&self, percent: f64) -> Vec<f64> {
        let of = |rounds: &[Vec<f64>]| -> Vec<f64> {
            rounds.iter().map(|round| percentile(round, percent)).collect()
        };
        crate::statistics::ratios(&of(&self.beside), &of(&self.alone))
    }

    fn json(&self) -> Value {
        let percentiles = |rounds: &[Vec<f64>]| {
            let of = |percent| rounds.iter().map(|r| percentile(r, percent)).collect::<Vec<_>>();
            json!({"p50_us": of(50.0), "p99_us": of(99.0), "p100_us": of(100.0)})
        };
        json!({
            "name": self.target.name, "alone": percentiles(&self.alone),
            "beside": percentiles(&self.beside),
            "beside_all": percentiles(&self.beside_all),
            "fixed_flood_per_second": self.answered,
            "flood_per_second": self.floods.iter().map(Load::rate).collect::<Vec<_>>(),
            "flood_refused": self.floods.iter().map(|load| load.failed).collect::<Vec<_>>(),
        })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let tenants = options.choice.pair(options.records)?;
    let program = tenantry_program(options.program.as_deref())?;
    let seed = options.choice.seed;
    println!("two tenants of {} records: {}", options.records, tenants.origin);
    let mut all = vec![Contestant::new(Target::tenantry(&program, &tenants)?, &tenants, seed)?];
    if !options.no_chroma {
        let venv = target::environment()?;
        all.push(Contestant::new(Target::chroma(&venv, &tenants)?, &tenants, seed)?);
    }
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        for contestant in &mut all {
            contestant.round(options)?;
        }
    }
    let details = json!({
        "records": options.records, "questions_per_second": options.rate,
        "flood_connections": options.connections,
        "servers": all.iter().map(Contestant::json).collect::<Vec<_>>(),
    });
    report::finish("neighbour", &rows(&all), details, &chart(&all))
}

/// Microseconds of each question, asked at fixed times for so long.
pub(crate) fn open_loop(
    address: SocketAddr,
    requests: &[Vec<u8>],
    rate: u32,
    span: Duration,
) -> Result<Vec<f64>> {
    Loop { rate, span, connections: QUIET_CONNECTIONS, is_flood: false }.ask(address, requests)
}

/// When each question was due, and its microseconds, until it is over.
pub(crate) fn open_loop_until(
    address: SocketAddr,
    requests: &[Vec<u8>],
    rate: u32,
    is_over: impl Fn() -> bool + Sync,
) -> Result<Vec<(Instant, f64)>> {
    Loop { rate, span: Duration::MAX, connections: QUIET_CONNECTIONS, is_flood: false }.ask_until(
        address,
        requests,
        |_| is_over(),
    )
}

/// Questions at fixed times.
struct Loop {
    /// Questions a second.
    rate: u32,
    span: Duration,
    connections: usize,
    /// A flood stands for other machines: its threads yield to whatever else this one has to do,
    /// and what is late at the end is not asked.
    is_flood: bool,
}

impl Loop {
    fn ask(&self, address: SocketAddr, requests: &[Vec<u8>]) -> Result<Vec<f64>> {
        let all = self.ask_until(address, requests, |due| due >= self.span)?;
        Ok(all.into_iter().map(|(_, micros)| micros).collect())
    }

    /// `is_over` is asked before each question, with the time since the start at which it is due.
    fn ask_until(
        &self,
        address: SocketAddr,
        requests: &[Vec<u8>],
        is_over: impl Fn(Duration) -> bool + Sync,
    ) -> Result<Vec<(Instant, f64)>> {
        let next = AtomicUsize::new(0);
        let started = Instant::now();
        let worker = || -> Result<Vec<(Instant, f64)>> {
            if self.is_flood {
                // Of this thread alone: Linux keeps priorities by thread.
                rustix::process::setpriority_process(None, 19)?;
            }
            let mut connection = Connection::open(address)?;
            let mut took = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let due = Duration::from_secs_f64(index as f64 / f64::from(self.rate));
                let is_late = self.is_flood && started.elapsed() >= self.span;
                if is_late || requests.is_empty() || is_over(due) {
                    return Ok(took);
                }
                thread::sleep(due.saturating_sub(started.elapsed()));
                let Some(request) = requests.get(index % requests.len()) else { return Ok(took) };
                connection.send(request)?.success()?;
                let micros = started.elapsed().saturating_sub(due).as_secs_f64() * 1e6;
                took.push((started + due, micros));
            }
        };
        let all = thread::scope(|scope| {
            let workers: Vec<_> = (0..self.connections).map(|_| scope.spawn(worker)).collect();
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().map_err(|_| anyhow!("a connection's thread panicked"))??);
            }
            anyhow::Ok(all)
        })?;
        ensure!(!all.is_empty(), "nothing was asked");
        Ok(all)
    }
}

fn rows(all: &[Contestant]) -> Vec<Row> {
    let mut rows = Vec::new();
    for one in all {
        let goal = goal(one.target.name);
        for (what, flood, rounds, percent, goal) in [
            ("p50", "a flood", &one.beside, 50.0, Goal::Shown),
            ("p99", "a flood", &one.beside, 99.0, goal),
            ("p99", "all that can be sent", &one.beside_all, 99.0, Goal::Shown),
        ] {
            let of = |rounds: &[Vec<f64>]| -> Vec<f64> {
                rounds.iter().map(|round| percentile(round, percent) / 1e3).collect()
            };
            rows.push(Row {
                what: format!("{}, quiet tenant's {what} beside {flood}", one.target.name),
                unit: "ms",
                peer: "itself alone".to_owned(),
                ours: of(rounds),
                theirs: of(&one.alone),
                goal,
            });
        }
    }
    if let [ours, theirs] = all {
        rows.push(Row {
            what: "p99 beside a flood / alone".to_owned(),
            unit: "x",
            peer: theirs.target.name.to_owned(),
            ours: ours.inflation(99.0),
            theirs: theirs.inflation(99.0),
            goal: Goal::Shown,
        });
        let all = |one: &Contestant| one.floods.iter().map(Load::rate).collect();
        let fixed = |one: &Contestant| one.answered.clone();
        for (what, ours, theirs) in [
            ("the flood itself", fixed(ours), fixed(theirs)),
            ("all that could be sent", all(ours), all(theirs)),
        ] {
            let (what, peer) = (what.to_owned(), "chroma".to_owned());
            rows.push(Row { what, unit: "queries/s", peer, ours, theirs, goal: Goal::Shown });
        }
    }
    rows
}

fn goal(name: &str) -> Goal {
    if name == "tenantry" { Goal::AtMost(1.5) } else { Goal::Shown }
}

fn chart(all: &[Contestant]) -> Chart {
    let percents = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 100.0];
    let line = |name: String, rounds: &[Vec<f64>]| Series {
        name,
        points: percents.map(|p| (p, percentile(&rounds.concat(), p) / 1e3)).to_vec(),
    };
    let both = |one: &Contestant| {
        let name = one.target.name;
        [line(format!("{name}, alone"), &one.alone), line(format!("{name}, flood"), &one.beside)]
    };
    Chart {
        title: "a quiet tenant, alone and beside a flooding one".to_owned(),
        x: Axis { label: "percentile", scale: Scale::Linear },
        y: Axis { label: "milliseconds from the intended time", scale: Scale::Logarithmic },
        series: all.iter().flat_map(both).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpListener,
    };

    #[test]
    fn a_stalled_server_is_charged_from_the_intended_times() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; 1_024];
                    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {
                        thread::sleep(Duration::from_millis(60));
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
                    }
                });
            }
        });
        // 1,600 questions a second over 16 connections, each of which answers 17 a second.
        let requests = [crate::http::request("GET", "/", "key", None)];
        let took = open_loop(address, &requests, 1_600, Duration::from_millis(100)).unwrap();
        assert_eq!(took.len(), 160);
        assert!(percentile(&took, 1.0) >= 60_000.0, "{}", percentile(&took, 1.0));
        assert!(percentile(&took, 99.0) >= 450_000.0, "{}", percentile(&took, 99.0));
    }
}
