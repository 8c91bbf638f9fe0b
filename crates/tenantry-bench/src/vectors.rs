//! Nearest neighbours in process, one thread: recall against latency, bytes, time to build.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    corpus::{Choice, Corpus, Truth, exact_index, mean_recall, truths},
    ours::{Kept, Ours},
    peer::{self, Answers, Built, Package, Peer, Shape},
    process::empty_folder,
    report::{self, Goal, Row, columns, number},
    statistics::{Setting, Spread, fastest, mean, percentile},
};
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::fs;
use tenantry_index::{Allow, SearchOptions};

const NEIGHBOURS: usize = 10;
/// Queries before each turn that do not count, as in `peers/index.py`.
const WARM_UP: usize = 20;
const BEAMS: [usize; 14] = [10, 16, 24, 32, 40, 48, 64, 96, 128, 192, 256, 512, 768, 1_024];

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Whom to measure beside Tenantry
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..,
        default_values = ["usearch", "usearch-i8", "hnswlib"])]
    peers: Vec<Package>,
    /// How precisely Tenantry keeps vectors; several are measured beside each other
    #[arg(long, value_enum, value_delimiter = ',', default_value = "full")]
    storage: Vec<Kept>,
    /// Vectors at which Tenantry builds a graph [default: about 8 MiB of codes]
    #[arg(long)]
    graph_above: Option<usize>,
    /// Rounds, in each of which every system takes its turns with every beam
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// The recall at which latencies are compared
    #[arg(long, default_value_t = 0.98)]
    recall: f64,
    /// Links of a node in a peer's graph (M)
    #[arg(long, default_value_t = 16)]
    connectivity: usize,
    /// Candidates for each insertion into a peer's graph (efConstruction)
    #[arg(long, default_value_t = 100)]
    build_beam: usize,
    /// Threads with which peers build
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    build_threads: u16,
    /// Candidates of int8 that a peer compares again with the originals
    #[arg(long, default_value_t = 30)]
    candidates: usize,
}

/// A system under measurement.
enum System<'a> {
    Graph(&'a Ours),
    Scan(&'a Ours),
    Peer(Peer),
}

/// A system and what was measured so far.
struct Contestant<'a> {
    system: System<'a>,
    short: String,
    built: Built,
    runs: Vec<Run>,
}

/// One beam of one contestant.
struct Run {
    beam: usize,
    recall: f64,
    rounds: Vec<f64>,
    singles: Vec<f64>,
}

impl Contestant<'_> {
    fn new(system: System<'_>, built: Built) -> Contestant<'_> {
        let (short, beams) = match &system {
            System::Graph(ours) => (format!("tenantry-{}", ours.kept.name()), &BEAMS[..]),
            System::Scan(ours) => (format!("tenantry-{}-exact", ours.kept.name()), &[0][..]),
            System::Peer(peer) => (peer.package.name().to_owned(), &BEAMS[..]),
        };
        let run = |beam: &usize| Run { beam: *beam, recall: 0.0, rounds: vec![], singles: vec![] };
        Contestant { system, short, built, runs: beams.iter().map(run).collect() }
    }

    fn search(&mut self, beam: usize, corpus: &Corpus) -> Result<Answers> {
        let ours = |ours: &Ours, how: &SearchOptions| {
            ours.search(corpus.queries.rows().take(WARM_UP), NEIGHBOURS, Allow::All, how)?;
            Ok(ours.search(corpus.queries.rows(), NEIGHBOURS, Allow::All, how)?.0)
        };
        match &mut self.system {
            System::Graph(index) => ours(index, &SearchOptions { beam: Some(beam), exact: false }),
            System::Scan(index) => ours(index, &SearchOptions { beam: None, exact: true }),
            System::Peer(peer) => peer.search(beam, NEIGHBOURS),
        }
    }

    /// One turn. A peer's time is the better of its single calls and its call for all queries.
    fn turn(&mut self, step: usize, corpus: &Corpus, truths: &[Truth]) -> Result<()> {
        let Some(beam) = self.runs.get(step).map(|run| run.beam) else { return Ok(()) };
        let answers = self.search(beam, corpus)?;
        let Some(run) = self.runs.get_mut(step) else { return Ok(()) };
        let single = mean(&answers.nanoseconds) / 1e3;
        let batch = answers.batch_nanoseconds.map(|all| all / 1e3 / truths.len() as f64);
        run.rounds.push(batch.map_or(single, |batch| batch.min(single)));
        run.singles.extend(answers.nanoseconds.iter().map(|one| one / 1e3));
        run.recall = mean_recall(truths, &answers.ids);
        Ok(())
    }

    fn settings(&self) -> Vec<Setting> {
        let setting = |run: &Run| Setting {
            beam: run.beam,
            recall: run.recall,
            rounds: run.rounds.clone(),
            p50: percentile(&run.singles, 50.0),
            p99: percentile(&run.singles, 99.0),
        };
        self.runs.iter().map(setting).collect()
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let corpus = options.choice.corpus()?;
    let ours =
        Ours::each(&corpus.base, &options.storage, options.graph_above, options.choice.seed)?;
    println!("finding the exact answers");
    let index = exact_index(&corpus.base);
    let truths = truths(&index, corpus.queries.rows(), NEIGHBOURS, Allow::All);
    drop(index);
    let peers = build_peers(options, &corpus)?;
    let mut contestants = Vec::new();
    for one in &ours {
        if one.has_graph() {
            contestants.push(Contestant::new(System::Graph(one), one.built.clone()));
        }
        contestants.push(Contestant::new(System::Scan(one), one.built.clone()));
    }
    contestants
        .extend(peers.into_iter().map(|(peer, built)| Contestant::new(System::Peer(peer), built)));
    for contestant in &mut contestants {
        contestant.search(BEAMS[3], &corpus)?;
    }
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        for step in 0..BEAMS.len() {
            for contestant in &mut contestants {
                contestant.turn(step, &corpus, &truths)?;
            }
        }
    }
    print_curves(&contestants);
    let rows = rows(&contestants, &corpus, options.recall);
    report::finish("vectors", &rows, details(&contestants, &corpus), &chart(&contestants, &corpus))
}

fn build_peers(options: &Options, corpus: &Corpus) -> Result<Vec<(Peer, Built)>> {
    if options.peers.is_empty() {
        return Ok(Vec::new());
    }
    let venv = peer::environment()?;
    let folder = empty_folder("vectors-work")?;
    let (base, queries) = (folder.join("base.f32"), folder.join("queries.f32"));
    fs::write(&base, corpus.base.bytes())?;
    fs::write(&queries, corpus.queries.bytes())?;
    let (connectivity, build_beam) = (options.connectivity, options.build_beam);
    let (candidates, threads) = (options.candidates, options.build_threads);
    let shape = Shape { connectivity, build_beam, candidates, threads };
    let mut peers = Vec::new();
    for package in &options.peers {
        println!("building {}", package.name());
        let mut peer = Peer::start(&venv, *package, &base, &queries, corpus.base.dimension)?;
        let built = peer.build(shape)?;
        peers.push((peer, built));
    }
    Ok(peers)
}

fn print_curves(contestants: &[Contestant<'_>]) {
    let head = ["system", "beam", "recall@10", "mean us", "least", "most", "p50 us", "p99 us"];
    let mut cells = Vec::new();
    for contestant in contestants {
        for setting in contestant.settings() {
            let spread = Spread::of(&setting.rounds);
            cells.push([
                contestant.short.clone(),
                setting.beam.to_string(),
                format!("{:.4}", setting.recall),
                number(spread.median),
                number(spread.least),
                number(spread.most),
                number(setting.p50),
                number(setting.p99),
            ]);
        }
    }
    print!("\n{}", columns(&head.map(str::to_owned), &cells));
}

/// Tenantry, in each way of keeping vectors, beside each peer.
fn rows(contestants: &[Contestant<'_>], corpus: &Corpus, recall: f64) -> Vec<Row> {
    let graphs = contestants.iter().any(|one| matches!(one.system, System::Graph(_)));
    let mut rows = Vec::new();
    for one in contestants {
        let ours = match one.system {
            System::Graph(ours) => ours,
            // Too few vectors for a graph.
            System::Scan(ours) if !graphs => ours,
            _ => continue,
        };
        for other in contestants {
            if let System::Peer(peer) = &other.system {
                rows.extend(beside((one, ours), (other, peer.package), corpus, recall));
            }
        }
    }
    rows
}

/// Latency at the wanted recall, bytes, time to build.
fn beside(
    (one, ours): (&Contestant<'_>, &Ours),
    (other, package): (&Contestant<'_>, Package),
    corpus: &Corpus,
    recall: f64,
) -> Vec<Row> {
    let count = corpus.base.len() as f64;
    let row = |what: &str, unit, ours: Vec<f64>, theirs: Vec<f64>, goal| Row {
        what: format!("{}, {what}", one.short),
        unit,
        peer: other.built.name.clone(),
        ours,
        theirs,
        goal,
    };
    let (latency, bytes) = goals(package, corpus.real);
    let at_recall = |one: &Contestant<'_>| {
        let settings = one.settings();
        fastest(&settings, recall).map(|setting| setting.rounds.clone()).unwrap_or_default()
    };
    let what = format!("mean latency at recall {recall}");
    let mut rows = vec![row(&what, "us", at_recall(one), at_recall(other), latency)];
    let resident = |built: &Built| vec![built.resident_bytes / count];
    let (mine, its) = (resident(&one.built), resident(&other.built));
    if package == Package::UsearchI8 {
        // The originals that it compares again with lie in a mapped file; Tenantry's are inside.
        let originals = 4.0 * corpus.base.dimension as f64;
        let all = its.iter().map(|bytes| bytes + originals).collect();
        let what = "memory growth and mapped originals";
        rows.push(row(what, "bytes/vector", mine.clone(), all, Goal::Shown));
    }
    rows.push(row("memory growth", "bytes/vector", mine, its, bytes));
    if !ours.copied {
        let time = |built: &Built| vec![built.seconds * 1e6 / count];
        let (mine, its) = (time(&one.built), time(&other.built));
        rows.push(row("build", "us/vector", mine, its, Goal::Shown));
    }
    rows
}

/// What Tenantry means to reach for latency and bytes.
fn goals(package: Package, real: bool) -> (Goal, Goal) {
    match (package, real) {
        (Package::Usearch, true) => (Goal::AtMost(0.25), Goal::Shown),
        (Package::Usearch, false) => (Goal::AtMost(0.5), Goal::AtMost(0.5)),
        (Package::UsearchI8, true) => (Goal::AtMost(0.5), Goal::Shown),
        _ => (Goal::Shown, Goal::Shown),
    }
}

fn details(contestants: &[Contestant<'_>], corpus: &Corpus) -> Value {
    let system = |one: &Contestant<'_>| {
        let mut about = json!({
            "system": one.short, "name": one.built.name, "build_seconds": one.built.seconds,
            "resident_bytes": one.built.resident_bytes,
            "settings": one.settings().iter().map(Setting::json).collect::<Vec<_>>(),
        });
        if let (System::Graph(ours), Some(fields)) = (&one.system, about.as_object_mut()) {
            fields.insert("own_account_bytes".to_owned(), json!(ours.bytes));
            fields.insert("links_copied".to_owned(), json!(ours.copied));
            fields.insert("work_p99_us".to_owned(), json!(ours.maintenance_p99[0]));
            fields.insert("apply_p99_us".to_owned(), json!(ours.maintenance_p99[1]));
        }
        about
    };
    json!({
        "data": corpus.origin, "vectors": corpus.base.len(), "dimension": corpus.base.dimension,
        "queries": corpus.queries.len(), "neighbours": NEIGHBOURS,
        "systems": contestants.iter().map(system).collect::<Vec<_>>(),
    })
}

fn chart(contestants: &[Contestant<'_>], corpus: &Corpus) -> Chart {
    let series = |one: &Contestant<'_>| Series {
        name: one.short.clone(),
        points: one
            .settings()
            .iter()
            .filter(|setting| setting.recall >= 0.8)
            .map(|setting| (setting.recall, setting.micros()))
            .collect(),
    };
    Chart {
        title: format!("{} x {}, {}", corpus.base.len(), corpus.base.dimension, corpus.origin),
        x: Axis { label: "recall@10", scale: Scale::Linear },
        y: Axis { label: "mean microseconds of a query, one thread", scale: Scale::Logarithmic },
        series: contestants.iter().map(series).collect(),
    }
}
