//! Collections that are large enough for a graph: built in the background, never in the way.

use crate::stand::{Stand, everything, ids, record};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, EmbeddedConfig};
use tenantry_types::{
    FieldTest, Filter, Found, Include, MemoryStatistics, QueryRequest, SearchPlan, Selector, Value,
    WriteMode,
};

const DIMENSION: u16 = 16;
const RECORDS: u16 = 12_000;

/// A vector in one of 40 clusters.
fn vector(n: u16) -> Vec<f32> {
    let cluster = f32::from(n % 40);
    (0..DIMENSION)
        .map(|i| {
            let centre = (cluster * 1.7 + f32::from(i) * 2.3).sin() * 3.0;
            centre + (f32::from(n) * 0.37 + f32::from(i) * 0.61 * f32::from(n % 97)).sin()
        })
        .collect()
}

async fn open(folder: &Path) -> Stand {
    let mut config = EmbeddedConfig::new(folder);
    config.index.graph_above = 500;
    Stand::try_open(config).await.expect("the store opens")
}

async fn fill(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef, numbers: &[u16], by: u16) {
    for part in numbers.chunks(500) {
        let one = |n: &u16| record(&n.to_string(), vector(n + by), &[("ten", i64::from(n % 10))]);
        let batch = part.iter().map(one).collect();
        stand.store.write(scope, c, WriteMode::Upsert, batch).await.expect("write");
    }
}

async fn query(
    stand: &Stand,
    scope: &Scope<Admin>,
    c: &CollectionRef,
    of: u16,
    filter: Option<Filter>,
    exact: bool,
) -> Found {
    let request = QueryRequest {
        using: None,
        vectors: vec![vector(of)],
        k: 10,
        select: Selector { ids: None, filter },
        include: Include::default(),
        exact,
    };
    stand.store.query(scope, c, &request).await.expect("query").value
}

/// Waits until the graph finds all that it should.
async fn linked(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef) -> MemoryStatistics {
    let begun = Instant::now();
    loop {
        let found = stand.store.collection_statistics(scope, c).await.expect("statistics").value;
        let memory = found.memory.expect("it is in memory");
        if memory.pending == 0 {
            assert_eq!(memory.linked, found.records);
            return memory;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the graph is not built: {memory:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Recall@10 of the graph against the scan, over some queries; all must have gone by `plan`.
async fn recall(
    stand: &Stand,
    scope: &Scope<Admin>,
    c: &CollectionRef,
    filter: Option<Filter>,
    plan: SearchPlan,
) -> f64 {
    let mut hits = 0;
    for n in (0..RECORDS).step_by(241) {
        let found = query(stand, scope, c, n, filter.clone(), false).await;
        let exact = query(stand, scope, c, n, filter.clone(), true).await;
        assert_eq!(found.explain.searches[0].plan, plan, "{n}");
        assert_eq!((found.hits[0].len(), exact.hits[0].len()), (10, 10));
        let last = exact.hits[0][9].distance;
        hits += found.hits[0].iter().filter(|hit| hit.distance <= last).count();
    }
    hits as f64 / (10 * (0..RECORDS).step_by(241).count()) as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_collection_gets_a_graph_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let (scope, c) = stand.tenant_with_collection("a").await;
    // In memory from the start, so that every write goes through the index.
    query(&stand, &scope, &c, 0, None, false).await;
    let all: Vec<u16> = (0..RECORDS).collect();
    fill(&stand, &scope, &c, &all, 0).await;
    // While it is built, and after: what was written is found.
    for n in [0, 1_499, 11_999] {
        let found = query(&stand, &scope, &c, n, None, false).await;
        assert_eq!(found.hits[0][0].record.id.as_str(), n.to_string());
    }
    let memory = linked(&stand, &scope, &c).await;
    assert!(memory.vectors_bytes > u64::from(RECORDS) * u64::from(DIMENSION) * 5);
    let plain = recall(&stand, &scope, &c, None, SearchPlan::Graph).await;
    assert!(plain >= 0.98, "{plain}");
    let sampled = {
        // One of the first queries was sampled; maintenance measures it.
        let begun = Instant::now();
        loop {
            let found = stand.store.collection_statistics(&scope, &c).await.expect("statistics");
            let memory = found.value.memory.expect("in memory");
            if memory.recall_samples > 0 {
                break memory.recall;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "no sample: {memory:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(sampled.is_some_and(|recall| recall >= 0.9), "{sampled:?}");

    // A tenth moves, a tenth goes.
    let moved: Vec<u16> = (0..RECORDS).filter(|n| n % 10 == 3).collect();
    fill(&stand, &scope, &c, &moved, 17_000).await;
    let gone = (0..RECORDS).filter(|n| n % 10 == 4).map(|n| n.to_string());
    let deleted = stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
    assert_eq!(deleted, usize::from(RECORDS / 10));
    for n in [3, 1_503, 11_993] {
        let found = query(&stand, &scope, &c, n + 17_000, None, false).await;
        assert_eq!(found.hits[0][0].record.id.as_str(), n.to_string(), "its new place");
        let found = query(&stand, &scope, &c, n + 1, None, false).await;
        assert!(found.hits[0].iter().all(|hit| !hit.record.id.as_str().ends_with('4')));
    }
    linked(&stand, &scope, &c).await;
    let after = recall(&stand, &scope, &c, None, SearchPlan::Graph).await;
    assert!(after >= plain - 0.01, "{after} after, {plain} before");

    // Filters: few are scanned, and never fewer found than there are.
    let five = || Some(Filter::Field { key: "ten".into(), test: FieldTest::Eq(Value::Int(5)) });
    let few = recall(&stand, &scope, &c, five(), SearchPlan::ExactAllowed).await;
    assert!(few >= 1.0, "{few}");

    // What is in memory is what is on disk.
    let rows = stand.all(&scope, &c).await.expect("all");
    assert_eq!(rows.len(), usize::from(RECORDS - RECORDS / 10));
    stand.close();
    let stand = open(dir.path()).await;
    let scope = stand.scope(scope.tenant());
    let c = stand.collection(&scope).await.expect("collection");
    assert_eq!(stand.all(&scope, &c).await.expect("all"), rows);
    query(&stand, &scope, &c, 0, None, false).await;
    linked(&stand, &scope, &c).await;
    let again = recall(&stand, &scope, &c, None, SearchPlan::Graph).await;
    assert!(again >= 0.98, "{again}");
}

/// Readers and a writer at once, while the graph is built, with one place for all of them: no
/// answer is short, and nobody waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_place_serves_readers_writers_and_maintenance() {
    use tenantry_store::{Pool, PoolConfig};
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = EmbeddedConfig::new(dir.path());
    config.index.graph_above = 100;
    config.pool = Pool::new(PoolConfig { places: 1, ..PoolConfig::default() });
    let stand = std::sync::Arc::new(Stand::try_open(config).await.expect("the store opens"));
    let mut places = Vec::new();
    for name in ["a", "b", "c"] {
        let (scope, c) = stand.tenant_with_collection(name).await;
        fill(&stand, &scope, &c, &(0..200).collect::<Vec<_>>(), 0).await;
        places.push((scope, c));
    }
    let mut running = tokio::task::JoinSet::new();
    for round in 0..12_u16 {
        let stand = std::sync::Arc::clone(&stand);
        let (scope, c) = places[usize::from(round % 3)].clone();
        running.spawn(async move {
            for n in 0..60_u16 {
                if round < 3 {
                    let from = 200 + n * 20;
                    fill(&stand, &scope, &c, &(from..from + 20).collect::<Vec<_>>(), 0).await;
                } else {
                    // Texts are read on threads that may block, vectors here.
                    let text =
                        || Filter::Text(tenantry_types::TextTest::Contains("text of".into()));
                    let filter = (round % 2 == 0).then(text);
                    let found = query(&stand, &scope, &c, n, filter, n % 7 == 0).await;
                    assert_eq!(found.hits[0].len(), 10);
                }
            }
        });
    }
    let all = async {
        while let Some(one) = running.join_next().await {
            one.expect("no panic");
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("somebody waits for ever");
    for (scope, c) in &places {
        linked(&stand, scope, c).await;
        assert_eq!(stand.all(scope, c).await.expect("all").len(), 1_400);
        let record = stand.all(scope, c).await.expect("all").remove(0);
        assert_eq!(record.vector, everything().vector.then(|| vector(0)));
    }
}

/// Filters of a large collection are answered through indexes of its metadata, which are built at
/// the first use and follow every write: the same records with and without them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_of_a_large_collection_follow_its_writes() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let (scope, c) = stand.tenant_with_collection("a").await;
    fill(&stand, &scope, &c, &(0..3_000).collect::<Vec<_>>(), 0).await;
    let field = |test| Filter::Field { key: "ten".into(), test };
    let text = |part: &str| Filter::Text(tenantry_types::TextTest::Contains(part.into()));
    let filters = [
        field(FieldTest::Eq(Value::Int(5))),
        field(FieldTest::Gt(Value::Float(6.5))),
        Filter::Not(Box::new(field(FieldTest::In(vec![Value::Int(1), Value::Int(2)])))),
        text("of 77"),
        Filter::And(vec![text("of 1"), field(FieldTest::Lt(Value::Int(3)))]),
        Filter::Or(vec![text("of 2999"), field(FieldTest::Eq(Value::Int(0)))]),
        field(FieldTest::Exists(false)),
    ];
    let get = async |filter: &Filter| {
        let select = Selector { ids: None, filter: Some(filter.clone()) };
        let request = tenantry_types::GetRequest { select, ..Default::default() };
        let got = stand.store.get(&scope, &c, &request).await.expect("get").value;
        got.into_iter().map(|record| record.id.into_string()).collect::<Vec<_>>()
    };
    let check = async || {
        let all = stand.all(&scope, &c).await.expect("all");
        let mut found = 0;
        for filter in &filters {
            let asked = tenantry_index::CompiledFilter::compile(filter).expect("a good filter");
            let want: Vec<String> = all
                .iter()
                .filter(|one| asked.matches(one.metadata.as_deref(), one.document.as_deref()))
                .map(|one| one.id.as_str().to_owned())
                .collect();
            assert_eq!(get(filter).await, want, "{filter:?}");
            found += want.len();
        }
        found
    };
    let first = check().await;
    let memory = async || {
        let found = stand.store.collection_statistics(&scope, &c).await.expect("statistics");
        found.value.memory.expect("in memory").metadata_bytes
    };
    assert!(memory().await > 1_000, "no index was built");
    // Texts and numbers change, records come and go; then so many go that rows are packed.
    fill(&stand, &scope, &c, &(2_500..4_000).collect::<Vec<_>>(), 9).await;
    let gone = (0..3_000).filter(|n| n % 3 == 0).map(|n: u16| n.to_string());
    stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
    assert_ne!(check().await, first);
    let gone = (0..2_800).map(|n: u16| n.to_string());
    stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
    assert!(check().await > 0);
}
