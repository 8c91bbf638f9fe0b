//! Many tenants, some of them in use, together larger than the memory budget: whether the server
//! stays within it, and what that costs.
//!
//! The working set is asked for in turn, which is the worst order for what was used longest ago,
//! and then by Zipf's law, as users do. Meanwhile the server's memory and its own account of it
//! are sampled.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    corpus::normalise,
    http::{Connection, request},
    process::{empty_folder, status_bytes, tenantry_program},
    random::{Random, Zipf},
    report::{self, Goal, Row},
    server::Tenantry,
    target::{Place, create_key, each, place, post},
};
use anyhow::{Context, Result, anyhow, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::Args;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

const MIB: f64 = 1_048_576.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const BATCH: usize = 100;
const NEIGHBOURS: usize = 10;
const WORDS: [&str; 8] = ["north", "east", "south", "west", "upper", "lower", "outer", "inner"];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Tenants in all
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    tenants: u32,
    /// Tenants with records, which are asked; at most as many as there are
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    hot: u32,
    /// Records of each of these
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    records: u32,
    /// Components of the vectors
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    dimension: u16,
    /// Bytes of each record's text
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    text: u32,
    /// The server's `--memory-budget`
    #[arg(long, default_value = "1GiB")]
    budget: String,
    /// Connections that ask at the same time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
    connections: u16,
    /// How often all are asked in turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Seconds of asking by Zipf's law after that
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    seconds: u64,
    /// Skew of Zipf's law
    #[arg(long, default_value_t = 0.8)]
    skew: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A built `tenantry` to start, instead of building one
    #[arg(long)]
    program: Option<PathBuf>,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(options.hot <= options.tenants, "more tenants are hot than there are");
    let program = tenantry_program(options.program.as_deref())?;
    let folder = empty_folder("server-memory")?;
    let arguments = ["--memory-budget", options.budget.as_str()];
    let (places, operator) = fill(&Tenantry::start_with(&program, &folder, &arguments)?, options)?;
    // Started again, so that nothing is left of what was written. A key is shown only once.
    let server = Tenantry::restart_with(&program, &folder, &arguments, operator)?;
    let watch = Watch::new(&server);
    open_all(&server, &places, options)?;
    let before = watch.sample()?;
    println!("{:.0} MiB resident with all tenants known and none in memory", mib(before.resident));
    let (phases, samples) = watch.during(|| ask_all(&server, &places, options))?;
    finish(options, &before, &phases?, &samples)
}

/// Makes all tenants, and gives the first ones records.
fn fill(server: &Tenantry, options: &Options) -> Result<(Vec<Place>, String)> {
    let Tenantry { native, chroma, operator_key, .. } = server;
    let names: Vec<_> = (0..options.tenants).map(|index| format!("tenant-{index:07}")).collect();
    let started = Instant::now();
    each(*native, 64, &names, |connection, name| {
        post(connection, "/v1/admin/tenants", operator_key, &json!({"name": name})).map(drop)
    })?;
    println!("{} tenants made in {:.0} s", names.len(), started.elapsed().as_secs_f64());
    let hot = names.get(..options.hot as usize).unwrap_or_default();
    let keys = each(*native, 32, hot, |connection, name| {
        Ok((name.clone(), create_key(connection, operator_key, name)?))
    })?;
    let places = each(*chroma, 32, &keys, |connection, (name, key)| place(connection, name, key))?;
    let started = Instant::now();
    let numbered: Vec<_> = (0_u64..).zip(&places).collect();
    each(*chroma, 16, &numbered, |connection, (number, place)| {
        let mut random = Random::new(options.seed ^ (number << 20));
        let records = options.records as usize;
        for first in (0..records).step_by(BATCH) {
            let body = batch(&mut random, first..records.min(first + BATCH), options);
            connection.send(&place.request("add", &body))?.success()?;
        }
        Ok(())
    })?;
    println!(
        "{} records of each of {} in {:.0} s",
        options.records,
        places.len(),
        started.elapsed().as_secs_f64()
    );
    Ok((places, operator_key.clone()))
}

/// Records with a text and four keys of metadata, in Chroma's protocol.
fn batch(random: &mut Random, numbers: std::ops::Range<usize>, options: &Options) -> Vec<u8> {
    let mut text = |number: usize| {
        let mut text = format!("Record {number}:");
        while text.len() < options.text as usize {
            text.push(' ');
            text.push_str(WORDS.get(random.below(WORDS.len())).unwrap_or(&""));
        }
        text.truncate(options.text as usize);
        text
    };
    let documents: Vec<_> = numbers.clone().map(&mut text).collect();
    let embeddings: Vec<_> = numbers
        .clone()
        .map(|_| {
            let vector = vector(random, options.dimension.into());
            STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
        })
        .collect();
    let metadata = |number: usize| {
        json!({
            "section": WORDS.get(number % WORDS.len()), "page": number, "score": 0.5,
            "source": format!("source-{:04}", number % 100),
        })
    };
    json!({
        "ids": numbers.clone().map(|number| format!("record-{number:06}")).collect::<Vec<_>>(),
        "embeddings": embeddings,
        "metadatas": numbers.map(metadata).collect::<Vec<_>>(),
        "documents": documents,
        "uris": null,
    })
    .to_string()
    .into_bytes()
}

fn vector(random: &mut Random, dimension: usize) -> Vec<f32> {
    let mut vector: Vec<f32> = (0..dimension).map(|_| random.normal()).collect();
    normalise(&mut vector);
    vector
}

/// Reads a record of each tenant from disk, so that what is known of tenants, keys and collections
/// is not mistaken for partitions.
fn open_all(server: &Tenantry, places: &[Place], options: &Options) -> Result<()> {
    let body = json!({"ids": ["record-000000"]}).to_string();
    each(server.chroma, options.connections.into(), places, |connection, place| {
        connection.send(&place.request("get", body.as_bytes()))?.success()
    })?;
    Ok(())
}

/// What came of one way of asking.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    seconds: f64,
    answers: u64,
    errors: u64,
    first_error: Option<String>,
    loads: f64,
    evictions: f64,
}

impl Phase {
    fn json(&self) -> Value {
        json!({
            "name": self.name, "seconds": self.seconds, "answers": self.answers,
            "errors": self.errors, "first_error": self.first_error, "loads": self.loads,
            "evictions": self.evictions, "loads_per_second": self.loads / self.seconds,
        })
    }
}

fn ask_all(server: &Tenantry, places: &[Place], options: &Options) -> Result<Vec<Phase>> {
    let turns = places.len() * usize::from(options.rounds);
    let next = AtomicUsize::new(0);
    let in_turn = |_: &mut Random| {
        let index = next.fetch_add(1, Ordering::Relaxed);
        (index < turns).then(|| index % places.len())
    };
    let mut phases = vec![phase("in turn", server, places, options, in_turn)?];
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let zipf = Zipf::new(places.len(), options.skew);
    let by_law =
        |random: &mut Random| (Instant::now() < end).then(|| spread(zipf.draw(random), places));
    if options.seconds > 0 {
        phases.push(phase("by Zipf's law", server, places, options, by_law)?);
    }
    Ok(phases)
}

/// Another tenant for each rank, so that those that ask most are not those that were made first.
fn spread(rank: usize, places: &[Place]) -> usize {
    rank.wrapping_mul(7_919) % places.len()
}

/// Asks over several connections until `pick` names no tenant.
fn phase(
    name: &'static str,
    server: &Tenantry,
    places: &[Place],
    options: &Options,
    pick: impl Fn(&mut Random) -> Option<usize> + Sync,
) -> Result<Phase> {
    let (answers, errors) = (AtomicU64::new(0), AtomicU64::new(0));
    let before = counters(server)?;
    let started = Instant::now();
    let workers: Vec<u64> = (0..u64::from(options.connections)).collect();
    let first_errors = each(server.chroma, workers.len(), &workers, |connection, worker| {
        let mut random = Random::new(options.seed ^ (worker << 40) ^ 7);
        let mut first = None;
        while let Some(place) = pick(&mut random).and_then(|index| places.get(index)) {
            let body = json!({
                "query_embeddings": [vector(&mut random, options.dimension.into())],
                "n_results": NEIGHBOURS, "include": ["metadatas", "documents", "distances"],
            });
            let asked = connection.send(&place.request("query", body.to_string().as_bytes()));
            match asked.and_then(|answer| check(&answer.json()?, options)) {
                Ok(()) => answers.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    first.get_or_insert(format!("{error:#}"));
                    *connection = Connection::open(server.chroma)?;
                    errors.fetch_add(1, Ordering::Relaxed)
                }
            };
        }
        Ok(first)
    })?;
    let after = counters(server)?;
    Ok(Phase {
        name,
        seconds: started.elapsed().as_secs_f64(),
        answers: answers.into_inner(),
        errors: errors.into_inner(),
        first_error: first_errors.into_iter().flatten().next(),
        loads: after.0 - before.0,
        evictions: after.1 - before.1,
    })
}

fn check(answer: &Value, options: &Options) -> Result<()> {
    let ids = answer.pointer("/ids/0").and_then(Value::as_array).context("no ids")?;
    let wanted = NEIGHBOURS.min(options.records as usize);
    ensure!(ids.len() == wanted, "{} hits instead of {wanted}", ids.len());
    Ok(())
}

/// Loads and evictions so far.
fn counters(server: &Tenantry) -> Result<(f64, f64)> {
    let text = metrics(server)?;
    Ok((
        metric(&text, "tenantry_partition_loads_total")?,
        metric(&text, "tenantry_partition_evictions_total")?,
    ))
}

fn metrics(server: &Tenantry) -> Result<String> {
    let asked = request("GET", "/metrics", &server.operator_key, None);
    let answer = Connection::open(server.native)?.send(&asked)?;
    answer.success()?;
    Ok(String::from_utf8(answer.body)?)
}

fn metric(text: &str, name: &str) -> Result<f64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, value) = lines
        .find(|(found, _)| *found == name)
        .with_context(|| format!("the server has no metric {name}"))?;
    Ok(value.parse()?)
}

/// Memory at one moment, in bytes; `at` in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: f64,
    resident: f64,
    hot: f64,
    loading: f64,
    leaving: f64,
    budget: f64,
}

struct Watch<'a> {
    server: &'a Tenantry,
    started: Instant,
}

impl<'a> Watch<'a> {
    fn new(server: &'a Tenantry) -> Self {
        Self { server, started: Instant::now() }
    }

    fn sample(&self) -> Result<Sample> {
        let text = metrics(self.server)?;
        Ok(Sample {
            at: self.started.elapsed().as_secs_f64(),
            resident: status_bytes(self.server.server.process(), "RssAnon") as f64,
            hot: metric(&text, "tenantry_hot_bytes")?,
            loading: metric(&text, "tenantry_loading_bytes")?,
            leaving: metric(&text, "tenantry_leaving_bytes")?,
            budget: metric(&text, "tenantry_hot_budget_bytes")?,
        })
    }

    /// Samples while something is done.
    fn during<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Vec<Sample>)> {
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watching = scope.spawn(|| -> Result<Vec<Sample>> {
                let mut samples = Vec::new();
                while !is_done.load(Ordering::Acquire) {
                    samples.push(self.sample()?);
                    thread::sleep(SAMPLE_EVERY);
                }
                Ok(samples)
            });
            let outcome = work();
            is_done.store(true, Ordering::Release);
            let samples =
                watching.join().map_err(|_| anyhow!("the watching thread panicked"))??;
            Ok((outcome, samples))
        })
    }
}

fn mib(bytes: f64) -> f64 {
    bytes / MIB
}

fn peak(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    samples.iter().map(of).fold(0.0, f64::max)
}

fn finish(options: &Options, before: &Sample, phases: &[Phase], samples: &[Sample]) -> Result<()> {
    let errors: u64 = phases.iter().map(|phase| phase.errors).sum();
    for phase in phases {
        println!(
            "{}: {} answers in {:.1} s ({:.0}/s), {:.0} loads ({:.0}/s), {:.0} evictions, {} errors",
            phase.name,
            phase.answers,
            phase.seconds,
            phase.answers as f64 / phase.seconds,
            phase.loads,
            phase.loads / phase.seconds,
            phase.evictions,
            phase.errors,
        );
        if let Some(error) = &phase.first_error {
            println!("  the first error: {error}");
        }
    }
    let verdict = if errors == 0 { "reached" } else { "MISSED" };
    println!("errors: {errors} (goal 0: {verdict})");
    let row = |what: &str, bytes: f64| Row {
        what: what.to_owned(),
        unit: "MiB",
        peer: "the budget".to_owned(),
        ours: vec![mib(bytes)],
        theirs: vec![mib(before.budget)],
        goal: Goal::AtMost(1.1),
    };
    let counted = |one: &Sample| one.hot + one.loading + one.leaving;
    let rows = [
        row("most bytes of partitions", peak(samples, |one| one.hot)),
        row("most bytes with loads and what is in use", peak(samples, counted)),
        row(
            "most resident memory above the fixed part",
            peak(samples, |one| one.resident - before.resident),
        ),
    ];
    let details = json!({
        "tenants": options.tenants, "hot": options.hot, "records": options.records,
        "dimension": options.dimension, "text": options.text, "budget": before.budget,
        "connections": options.connections, "rounds": options.rounds, "skew": options.skew,
        "fixed_bytes": before.resident, "peak_resident_bytes": peak(samples, |one| one.resident),
        "errors": errors, "phases": phases.iter().map(Phase::json).collect::<Vec<_>>(),
    });
    report::finish("memory", &rows, details, &chart(samples))
}

fn chart(samples: &[Sample]) -> Chart {
    let line = |name: &str, of: fn(&Sample) -> f64| Series {
        name: name.to_owned(),
        points: samples.iter().map(|one| (one.at, mib(of(one)))).collect(),
    };
    Chart {
        title: "memory while tenants take turns".to_owned(),
        x: Axis { label: "seconds", scale: Scale::Linear },
        y: Axis { label: "MiB", scale: Scale::Linear },
        series: vec![
            line("resident", |one| one.resident),
            line("partitions", |one| one.hot),
            line("budget", |one| one.budget),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn records_are_as_large_as_asked_and_follow_from_the_seed() {
        let options = Alone::parse_from(["x", "--text", "50", "--dimension", "8"]).options;
        let body = batch(&mut Random::new(3), 5..8, &options);
        assert_eq!(body, batch(&mut Random::new(3), 5..8, &options));
        assert_ne!(body, batch(&mut Random::new(4), 5..8, &options));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["ids"], json!(["record-000005", "record-000006", "record-000007"]));
        let texts = body["documents"].as_array().unwrap();
        assert!(texts.iter().all(|text| text.as_str().unwrap().len() == 50));
        assert_eq!(body["metadatas"][0].as_object().unwrap().len(), 4);
        let vector = STANDARD.decode(body["embeddings"][0].as_str().unwrap()).unwrap();
        assert_eq!(vector.len(), 8 * 4);
    }

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        let text = "# TYPE a_b gauge\na_bc 7\na_b 3\n";
        assert!((metric(text, "a_b").unwrap() - 3.0).abs() < 1e-9);
        assert!(metric(text, "a").is_err());
    }

    #[test]
    fn a_short_answer_is_an_error() {
        let options = Alone::parse_from(["x", "--records", "3"]).options;
        assert!(check(&json!({"ids": [["a", "b", "c"]]}), &options).is_ok());
        assert!(check(&json!({"ids": [["a", "b"]]}), &options).is_err());
        assert!(check(&json!({}), &options).is_err());
    }
}
