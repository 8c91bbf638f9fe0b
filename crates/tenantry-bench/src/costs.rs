//! What plans, the ledger and the audit log add to a query.
//!
//! The same queries of the same records in two data folders, in turns: of the engine, for a tenant with
//! a plan of three rates, quotas and a budget, admitted and counted as a server does it, and of the
//! store alone, which does none of that. What the engine checks besides is in the difference, so it is not less than
//! what is asked for.

use crate::{
    chart::{Axis, Chart, Scale, Series},
    corpus::{Corpus, synthetic},
    process::{Stopwatch, empty_folder},
    report::{self, Goal, Row},
    statistics::percentile,
};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use std::{num::NonZeroU32, sync::Arc, time::Instant};
use tenantry_engine::{
    Admin, Allowance, Authority, Collection, CollectionName, CollectionSpec, DatabaseName,
    EmbeddedConfig, Engine, EngineConfig, Hit, Include, NewKey, PlanName, Principal, QueryRequest,
    Quotas, Rate, Rates, Read, RecordId, RecordWrite, Restriction, Role, Select, Store,
    SystemClock, TenantChange, TenantName, TenantPlan, TenantSpec, Write, WriteMode,
};
use tokio::runtime::Builder;

/// Of everything.
const NAME: &str = "measured";
/// Different ones.
const QUERIES: usize = 200;
const NEIGHBOURS: usize = 10;
/// Records of one write.
const BATCH: usize = 500;
/// Queries of a turn that do not count.
const WARM_UP: usize = 50;
/// What all of it may add to the median, and in CPU.
const P50_MAX: f64 = 1.10;
const CPU_MICROS_MAX: f64 = 25.0;
/// More than anybody asks.
const RATE: NonZeroU32 = NonZeroU32::new(1_000_000_000).expect("it is not 0");
const MUCH: Option<u64> = Some(1 << 50);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Records of the collection
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    records: u32,
    /// Components of the vectors
    #[arg(long, default_value_t = 384, value_parser = clap::value_parser!(u16).range(2..=4_096))]
    dimension: u16,
    /// Queries of each turn: CPU time is told in hundredths of a second
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    queries: u32,
    /// Rounds, in each of which both take their turn: few of them say nothing
    #[arg(long, default_value_t = 61, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seed of the vectors
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A tenant's collection in an engine: with all of it.
struct Whole {
    engine: Engine,
    who: Principal,
    collection: Collection<Read>,
}

impl Whole {
    async fn new(corpus: &Corpus) -> Result<Self> {
        let store = store("costs-engine")?;
        let authority = Authority::new();
        let engine = Engine::start(EngineConfig { store, authority, clock: Arc::new(SystemClock) });
        let operator = engine.local_operator().await?;
        let manage = engine.operator(&operator)?;
        let plan = PlanName::parse(NAME)?;
        let rate = Some(Rate::new(RATE));
        let rates = Rates { second: rate, minute: rate, hour: rate, concurrent: Some(RATE) };
        let quotas =
            Quotas { day: MUCH, month: MUCH, cost: MUCH, bytes: MUCH, ..Quotas::default() };
        let allowance = Allowance { rates, quotas, ..Allowance::default() };
        manage.put_plan(&TenantPlan::new(plan.clone(), allowance)).await?;
        let tenant = TenantName::parse(NAME)?;
        manage.create_tenant(&TenantSpec::new(tenant.clone())).await?;
        let change = TenantChange { plan: Some(Some(plan)), ..TenantChange::default() };
        manage.change_tenant(&tenant, &change).await?;
        let session = engine.session::<Admin>(&operator, Select::Named(&tenant)).await?;
        let restriction = Restriction::default();
        let key = NewKey { role: Role::Write, restriction, label: String::new(), expires_at: None };
        let (_, key) = session.create_key(key).await?;
        let who = engine.authenticate(Some(&key)).await?;
        let database = DatabaseName::default_database();
        let writer = engine.session::<Write>(&who, Select::Own).await?.database(&database).await?;
        let (made, _) = writer.create_collection(&spec()?, false).await?;
        for batch in batches(corpus)? {
            made.write(WriteMode::Upsert, batch).await?;
        }
        let reader = engine.session::<Read>(&who, Select::Own).await?.database(&database).await?;
        let collection = reader.collection(&CollectionName::parse(NAME)?).await?;
        Ok(Self { engine, who, collection })
    }

    async fn ask(&self, query: &QueryRequest) -> Result<Vec<Vec<Hit>>> {
        let admission = self.engine.admit(&self.who).await?;
        admission.check()?;
        Ok(self.collection.query(query).await?)
    }
}

/// The same in a store: with none of it.
async fn bare(corpus: &Corpus) -> Result<impl AsyncFn(&QueryRequest) -> Result<Vec<Vec<Hit>>>> {
    let (store, authority) = (store("costs-store")?, Authority::new());
    let operator = authority.local_operator();
    let manage = authority.authorize_operator(&operator)?;
    let info = store.create_tenant(&manage, &TenantSpec::new(TenantName::parse(NAME)?)).await?;
    let scope = authority.authorize::<Admin>(&operator, info.id, NAME)?;
    let database = store.database(&scope, &DatabaseName::default_database()).await?;
    let (collection, _) = store.create_collection(&scope, &database, &spec()?, false).await?;
    for batch in batches(corpus)? {
        store.write(&scope, &collection, WriteMode::Upsert, batch).await?;
    }
    Ok(async move |query: &QueryRequest| {
        Ok(store.query(&scope, &collection, query).await?.value.hits)
    })
}

fn store(folder: &str) -> Result<Store> {
    Ok(Store::open_embedded(EmbeddedConfig::new(empty_folder(folder)?))?)
}

fn spec() -> Result<CollectionSpec> {
    Ok(CollectionSpec::new(CollectionName::parse(NAME)?))
}

fn batches(corpus: &Corpus) -> Result<Vec<Vec<RecordWrite>>> {
    let mut all = Vec::new();
    for (at, vector) in corpus.base.rows().enumerate() {
        if at % BATCH == 0 {
            all.push(Vec::with_capacity(BATCH));
        }
        let mut record = RecordWrite::new(RecordId::parse(format!("record-{at}"))?);
        record.vector = Some(vector.to_vec());
        record.document = Some(format!("what is said in record {at}"));
        all.last_mut().context("a batch")?.push(record);
    }
    Ok(all)
}

/// What one of them took in one round.
#[derive(Debug, Default, Clone, Copy)]
struct Turn {
    p50_micros: f64,
    p99_micros: f64,
    /// Of one query on average.
    cpu_micros: f64,
}

async fn turn(
    queries: &[QueryRequest],
    count: usize,
    ask: impl AsyncFn(&QueryRequest) -> Result<Vec<Vec<Hit>>>,
) -> Result<Turn> {
    for query in queries.iter().cycle().take(WARM_UP) {
        ask(query).await?;
    }
    let (watch, mut took) = (Stopwatch::start(), Vec::with_capacity(count));
    for query in queries.iter().cycle().take(count) {
        let begun = Instant::now();
        let found = ask(query).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e6);
        ensure!(found.first().is_some_and(|hits| hits.len() == NEIGHBOURS), "a query failed");
    }
    let cpu_micros = watch.took().cpu_seconds * 1e6 / count as f64;
    let (p50_micros, p99_micros) = (percentile(&took, 50.0), percentile(&took, 99.0));
    Ok(Turn { p50_micros, p99_micros, cpu_micros })
}

/// Both in turns, round by round: the whole and the bare.
async fn rounds(options: &Options) -> Result<Vec<(Turn, Turn)>> {
    let corpus =
        synthetic(options.seed, options.records as usize, QUERIES, options.dimension.into());
    let include = Include { document: true, ..Include::default() };
    let query = |vector: &[f32]| QueryRequest {
        vectors: vec![vector.to_vec()],
        k: NEIGHBOURS,
        include,
        ..QueryRequest::default()
    };
    let queries: Vec<QueryRequest> = corpus.queries.rows().map(query).collect();
    let (whole, bare) = (Whole::new(&corpus).await?, bare(&corpus).await?);
    let count = options.queries as usize;
    let mut all = Vec::new();
    for round in 0..options.rounds {
        println!("round {} of {}", round + 1, options.rounds);
        // Whoever is first is not always the same.
        let ours = async || turn(&queries, count, async |query| whole.ask(query).await).await;
        let theirs = async || turn(&queries, count, &bare).await;
        all.push(if round % 2 == 0 {
            let first = ours().await?;
            (first, theirs().await?)
        } else {
            let first = theirs().await?;
            (ours().await?, first)
        });
    }
    whole.engine.shutdown().await?;
    Ok(all)
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let all = runtime.block_on(rounds(options))?;
    let details = json!({
        "records": options.records, "dimension": options.dimension, "queries": options.queries,
        "seed": options.seed,
    });
    report::finish("costs", &rows(&all), details, &chart(&all))
}

fn rows(all: &[(Turn, Turn)]) -> Vec<Row> {
    let row = |what: &str, of: &dyn Fn(&Turn) -> f64, goal| Row {
        what: what.to_owned(),
        unit: "us",
        peer: "the store alone".to_owned(),
        ours: all.iter().map(|(ours, _)| of(ours)).collect(),
        theirs: all.iter().map(|(_, theirs)| of(theirs)).collect(),
        goal,
    };
    let added = |(ours, theirs): &(Turn, Turn)| ours.cpu_micros - theirs.cpu_micros;
    vec![
        row("a query, p50", &|turn| turn.p50_micros, Goal::AtMost(P50_MAX)),
        row("a query, p99", &|turn| turn.p99_micros, Goal::Shown),
        row("CPU of a query", &|turn| turn.cpu_micros, Goal::Shown),
        Row {
            ours: all.iter().map(added).collect(),
            theirs: Vec::new(),
            ..row("CPU that is added", &|_| 0.0, Goal::Within(CPU_MICROS_MAX))
        },
    ]
}

fn chart(all: &[(Turn, Turn)]) -> Chart {
    let series = |name: &str, of: &dyn Fn(&(Turn, Turn)) -> f64| Series {
        name: name.to_owned(),
        points: all.iter().zip(1_u32..).map(|(one, at)| (f64::from(at), of(one))).collect(),
    };
    Chart {
        title: "a query with plans, ledger and audit log, and without".to_owned(),
        x: Axis { label: "round", scale: Scale::Linear },
        y: Axis { label: "p50 in microseconds", scale: Scale::Linear },
        series: vec![
            series("with all", &|(ours, _)| ours.p50_micros),
            series("the store alone", &|(_, theirs)| theirs.p50_micros),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_answer_in_turns() {
        let options = Options { records: 200, dimension: 8, queries: 100, rounds: 2, seed: 1 };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let all = runtime.block_on(rounds(&options)).unwrap();
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|(ours, theirs)| ours.p50_micros > 0.0 && theirs.p50_micros > 0.0));
        assert_eq!(rows(&all).len(), 4);
    }
}
