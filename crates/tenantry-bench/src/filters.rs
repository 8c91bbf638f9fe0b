//! Searches that only some vectors may answer: recall and latency by selectivity, where what is
//! allowed is spread at random, follows the sections of the data, or lies all in one place.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    corpus::{Choice, Corpus, Truth, exact_index, mean_recall},
    npy::Matrix,
    ours::{Kept, Ours},
    peer::{self, Answers, Package, Peer, Shape},
    pgvector::{Pgvector, Plans},
    predicate,
    process::empty_folder,
    report::{self, Goal, Row, columns, number},
    selection::{Case, Kind, cases},
    statistics::{Spread, mean},
    target,
};
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, path::Path, rc::Rc, time::Instant};
use tenantry_index::{Allow, ExactIndex, Plan, SearchOptions};

const NEIGHBOURS: usize = 10;
/// What a peer is tried with until it finds enough.
const BEAMS: [usize; 5] = [32, 64, 128, 256, 512];
const RECALL: f64 = 0.98;
/// Tenantry's planner with a list of slots and with a bitmap, and what it must not be slower than.
const WAYS: [&str; 4] = ["tenantry", "tenantry bitmap", "scan of codes", "scan of originals"];
/// How peers build their graphs.
const SHAPE: Shape = Shape { connectivity: 16, build_beam: 100, candidates: 30, threads: 1 };
/// Queries before each turn that do not count: they fetch what the turn before has displaced.
const WARM_UP: usize = 10;
/// A ratio of two measurements of the same work is 1 only about.
const NOISE: f64 = 1.1;

#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    choice: Choice,
    /// Whom to measure beside Tenantry
    #[arg(long, value_enum, value_delimiter = ',', num_args = 0..,
        default_values = ["usearch", "usearch-predicate", "hnswlib", "pgvector"])]
    peers: Vec<Against>,
    /// How precisely Tenantry keeps vectors
    #[arg(long, value_enum, default_value = "full")]
    storage: Kept,
    /// Vectors at which Tenantry builds a graph [default: about 8 MiB of codes]
    #[arg(long)]
    graph_above: Option<usize>,
    /// How many of the queries are asked through each filter
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    asked: u16,
    /// Rounds, in each of which every system takes its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
}

/// Whom to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Against {
    /// usearch over 32-bit floats, asked for more than needed
    Usearch,
    /// usearch over 32-bit floats with the predicate that only its C++ library takes
    UsearchPredicate,
    /// usearch over int8, candidates compared again with the 32-bit originals
    UsearchI8,
    /// hnswlib over 32-bit floats
    Hnswlib,
    /// PostgreSQL with pgvector, with its graph and without
    Pgvector,
}

/// What one way of searching gave for one filter.
#[derive(Debug, Clone)]
struct Measured {
    system: String,
    recall: f64,
    rounds: Vec<f64>,
    note: String,
}

impl Measured {
    fn new(system: impl Into<String>) -> Self {
        Self { system: system.into(), recall: 0.0, rounds: Vec::new(), note: String::new() }
    }

    fn take(&mut self, answers: &Answers, truths: &[Truth]) {
        self.rounds.push(mean(&answers.nanoseconds) / 1e3);
        self.recall = mean_recall(truths, &answers.ids);
    }
}

/// Something that is asked beside Tenantry.
trait Other {
    fn name(&self) -> String;

    /// Answers the first `count` queries.
    fn ask(&mut self, beam: usize, case: &Case, count: usize) -> Result<Answers>;
}

impl Other for Peer {
    fn name(&self) -> String {
        let name = self.package.name();
        if self.predicate { format!("{name} predicate") } else { name.to_owned() }
    }

    fn ask(&mut self, beam: usize, case: &Case, count: usize) -> Result<Answers> {
        self.filtered(beam, NEIGHBOURS, &case.mask, count)
    }
}

/// pgvector, with its graph or without.
struct InPostgres(Rc<Pgvector>, Plans);

impl Other for InPostgres {
    fn name(&self) -> String {
        let name = match self.1 {
            Plans::Any => "pgvector",
            Plans::WithoutGraph => "pgvector exact",
        };
        name.to_owned()
    }

    fn ask(&mut self, beam: usize, case: &Case, count: usize) -> Result<Answers> {
        self.0.search(self.1, beam, NEIGHBOURS, case.number, count)
    }
}

/// Everything that answers.
struct Systems<'a> {
    corpus: &'a Corpus,
    asked: usize,
    originals: ExactIndex,
    ours: Ours,
    others: Vec<Box<dyn Other>>,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let corpus = options.choice.corpus()?;
    let asked = usize::from(options.asked).min(corpus.queries.len());
    let folder = empty_folder("filters-work")?;
    let seed = options.choice.seed;
    println!("finding the exact answers");
    let originals = exact_index(&corpus.base);
    let cases = cases(&corpus, &originals, (NEIGHBOURS, asked), seed, &folder)?;
    let ours = Ours::build(&corpus.base, options.storage, options.graph_above, seed)?;
    let others = others(&options.peers, &corpus, &cases, &folder)?;
    let mut systems = Systems { corpus: &corpus, asked, originals, ours, others };
    let mut all = Vec::new();
    for case in cases {
        println!("{} of {:.3} %", case.kind.name(), 100.0 * case.share);
        let measured = systems.measure(&case, options.rounds.into())?;
        all.push((case, measured));
    }
    print_all(&all, &corpus);
    report::finish("filters", &rows(&all), details(&all, &corpus), &chart(&all, &corpus))
}

/// Starts peers and builds their indexes.
fn others(
    peers: &[Against],
    corpus: &Corpus,
    cases: &[Case],
    folder: &Path,
) -> Result<Vec<Box<dyn Other>>> {
    let (base, queries) = (folder.join("base.f32"), folder.join("queries.f32"));
    fs::write(&base, corpus.base.bytes())?;
    fs::write(&queries, corpus.queries.bytes())?;
    let mut others: Vec<Box<dyn Other>> = Vec::new();
    for against in peers {
        println!("building {against:?}");
        let package = match against {
            Against::Usearch | Against::UsearchPredicate => Package::Usearch,
            Against::UsearchI8 => Package::UsearchI8,
            Against::Hnswlib => Package::Hnswlib,
            Against::Pgvector => {
                let filters: Vec<_> = cases.iter().map(|case| &case.bitmap).collect();
                let venv = target::environment()?;
                let both = Rc::new(Pgvector::start(&venv, corpus, &filters, SHAPE)?);
                others.push(Box::new(InPostgres(Rc::clone(&both), Plans::Any)));
                others.push(Box::new(InPostgres(both, Plans::WithoutGraph)));
                continue;
            }
        };
        let venv = peer::environment()?;
        let mut peer = Peer::start(&venv, package, &base, &queries, corpus.base.dimension)?;
        peer.build(SHAPE)?;
        if *against == Against::UsearchPredicate {
            peer.use_predicate(&predicate::library(&venv)?, &folder.join("base.usearch"))?;
        }
        others.push(Box::new(peer));
    }
    Ok(others)
}

impl Systems<'_> {
    /// All ways take turns.
    fn measure(&mut self, case: &Case, rounds: usize) -> Result<Vec<Measured>> {
        let mut ways: Vec<_> = WAYS.map(Measured::new).into();
        let mut beams = Vec::new();
        for other in &mut self.others {
            let (beam, measured) = calibrate(other.as_mut(), case, self.asked)?;
            beams.push(beam);
            ways.push(measured);
        }
        for round in 0..rounds {
            // Whoever comes after another of its kind finds the caches warm: all take turns at it.
            for turn in 0..ways.len() {
                let index = (turn + round) % ways.len();
                let beam = index.checked_sub(WAYS.len()).and_then(|other| beams.get(other));
                let Some(way) = ways.get_mut(index) else { continue };
                self.turn(case, index, beam.copied(), WARM_UP)?;
                let (answers, plan) = self.turn(case, index, beam.copied(), self.asked)?;
                way.take(&answers, &case.truths);
                if let Some(plan) = plan {
                    let graph = matches!(plan, Plan::Graph | Plan::GraphFiltered);
                    way.note = String::from(if graph { "graph" } else { "scan" });
                }
            }
        }
        Ok(ways)
    }

    /// Asks the first `count` queries one way.
    fn turn(
        &mut self,
        case: &Case,
        index: usize,
        beam: Option<usize>,
        count: usize,
    ) -> Result<(Answers, Option<Plan>)> {
        let count = count.min(self.asked);
        if let Some(beam) = beam {
            let other = self.others.get_mut(index - WAYS.len()).context("no such peer")?;
            return Ok((other.ask(beam, case, count)?, None));
        }
        let queries = || self.corpus.queries.rows().take(count);
        let slots = Allow::Slots(&case.slots);
        let (allow, exact) = match index {
            0 => (slots, false),
            1 => (Allow::Bitmap(&case.bitmap), false),
            2 => (slots, true),
            _ => return Ok((scan_originals(&self.originals, queries(), slots), None)),
        };
        let how = SearchOptions { beam: None, exact };
        self.ours.search(queries(), NEIGHBOURS, allow, &how)
    }
}

fn scan_originals<'a>(
    index: &ExactIndex,
    queries: impl Iterator<Item = &'a [f32]>,
    allow: Allow<'_>,
) -> Answers {
    let mut answers = Answers::default();
    for query in queries {
        let started = Instant::now();
        let found = index.search_originals(query, NEIGHBOURS, allow);
        answers.nanoseconds.push(started.elapsed().as_secs_f64() * 1e9);
        answers.ids.push(found.iter().map(|one| one.slot).collect());
    }
    answers
}

/// The narrowest beam with which a peer finds enough; the widest if none is wide enough.
fn calibrate(other: &mut dyn Other, case: &Case, asked: usize) -> Result<(usize, Measured)> {
    let mut last = BEAMS[0];
    for beam in BEAMS {
        last = beam;
        let answers = other.ask(beam, case, asked)?;
        if mean_recall(&case.truths, &answers.ids) >= RECALL {
            break;
        }
    }
    let mut measured = Measured::new(other.name());
    measured.note = format!("beam {last}");
    Ok((last, measured))
}

fn print_all(all: &[(Case, Vec<Measured>)], corpus: &Corpus) {
    let head = ["filter", "system", "allowed", "recall@10", "mean us", "least", "most", "how"];
    let mut cells = Vec::new();
    for (case, measured) in all {
        for one in measured {
            let spread = Spread::of(&one.rounds);
            cells.push([
                case.kind.name().to_owned(),
                one.system.clone(),
                format!("{:.2} %", 100.0 * allowed(case, &corpus.base)),
                format!("{:.4}", one.recall),
                number(spread.median),
                number(spread.least),
                number(spread.most),
                one.note.clone(),
            ]);
        }
    }
    print!("\n{}", columns(&head.map(str::to_owned), &cells));
}

fn allowed(case: &Case, base: &Matrix) -> f64 {
    case.slots.len() as f64 / base.len().max(1) as f64
}

/// Tenantry beside every other way: its recall must suffice, and a scan must not be faster.
fn rows(all: &[(Case, Vec<Measured>)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (case, measured) in all {
        let Some((ours, others)) = measured.split_first() else { continue };
        let what = format!("{} {} %", case.kind.name(), 100.0 * case.share);
        rows.push(Row {
            what: format!("{what}, recall"),
            unit: "share",
            peer: "the exact answer".to_owned(),
            ours: vec![ours.recall],
            theirs: vec![1.0],
            goal: Goal::AtLeast(RECALL),
        });
        for other in others.iter().filter(|other| other.system != "tenantry bitmap") {
            let scan = other.system == "scan of codes";
            // A peer that misses too much is not compared by its time.
            let enough = other.recall >= RECALL;
            rows.push(Row {
                what: format!("{what}, mean latency"),
                unit: "us",
                peer: format!("{} ({:.3})", other.system, other.recall),
                ours: ours.rounds.clone(),
                theirs: if enough { other.rounds.clone() } else { Vec::new() },
                goal: if scan { Goal::AtMost(NOISE) } else { Goal::Shown },
            });
        }
    }
    rows
}

fn details(all: &[(Case, Vec<Measured>)], corpus: &Corpus) -> Value {
    let one = |(case, measured): &(Case, Vec<Measured>)| {
        let systems = measured.iter().map(|one| {
            json!({"system": one.system, "recall": one.recall, "how": one.note,
                "mean_us": Spread::of(&one.rounds).json()})
        });
        json!({"kind": case.kind.name(), "share": case.share,
            "allowed": case.slots.len(), "systems": systems.collect::<Vec<_>>()})
    };
    json!({
        "data": corpus.origin, "vectors": corpus.base.len(), "dimension": corpus.base.dimension,
        "neighbours": NEIGHBOURS, "cases": all.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Latency by selectivity: Tenantry for every kind of filter, the others for random ones.
fn chart(all: &[(Case, Vec<Measured>)], corpus: &Corpus) -> Chart {
    let mut lines: BTreeMap<(usize, String), Vec<(f64, f64)>> = BTreeMap::new();
    for (case, measured) in all {
        for (index, one) in measured.iter().enumerate() {
            let name = match (index, case.kind) {
                (0, kind) => format!("tenantry, {}", kind.name()),
                (1, _) => continue,
                (_, Kind::Random) => format!("{}, random", one.system),
                _ => continue,
            };
            let point = (100.0 * allowed(case, &corpus.base), Spread::of(&one.rounds).median);
            lines.entry((index, name)).or_default().push(point);
        }
    }
    Chart {
        title: format!("filters over {}, {}", corpus.base.len(), corpus.origin),
        x: Axis { label: "allowed, percent", scale: Scale::Logarithmic },
        y: Axis { label: "mean microseconds of a query, one thread", scale: Scale::Logarithmic },
        series: lines.into_iter().map(|((_, name), points)| Series { name, points }).collect(),
    }
}
