//! A collection whose named vectors are many enough for graphs.

use crate::stand::{Stand, everything, ids, record, spec};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, EmbeddedConfig};
use tenantry_types::{
    CollectionSpec, MemoryStatistics, Metric, QueryRequest, RecordWrite, SearchPlan, VectorName,
    VectorSpec, VectorStorage, WriteMode,
};

const COUNT: u16 = 3_000;
const DIMENSION: u16 = 16;
/// Vectors among which a walk is surely cheaper than a scan.
const COUNT_MIN: u64 = 3_000;
/// What each name adds to a record's number to get its vector.
const HALF: u16 = 5_000;
const INT8: u16 = 9_000;

fn name(text: &str) -> VectorName {
    VectorName::parse(text).expect("a name")
}

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

/// Every second record lacks one of the names, and all lack another.
fn one(n: u16) -> RecordWrite {
    let mut one = record(&n.to_string(), vector(n), &[("ten", i64::from(n % 10))]);
    one.vectors.insert(name("half"), vector(n + HALF));
    if n.is_multiple_of(2) {
        one.vectors.insert(name("int8"), vector(n + INT8));
    }
    one
}

async fn open(folder: &Path) -> Stand {
    let mut config = EmbeddedConfig::new(folder);
    config.index.graph_above = 500;
    Stand::try_open(config).await.expect("the store opens")
}

async fn fill(stand: &Stand) -> (Scope<Admin>, CollectionRef) {
    let scope = stand.create("a").await.expect("tenant");
    let of = |storage| VectorSpec { storage, ..VectorSpec::default() };
    let spec = CollectionSpec {
        vectors: [
            (name("half"), of(VectorStorage::Half)),
            (name("int8"), of(VectorStorage::Int8)),
            (name("never"), VectorSpec { dimension: Some(9), ..VectorSpec::default() }),
        ]
        .into(),
        ..spec("c", Metric::L2)
    };
    let database = stand.default_database(&scope).await;
    let c = stand.store.create_collection(&scope, &database, &spec, false).await.expect("c").0;
    // In memory from the start, so that every write goes through the indexes.
    search(stand, &scope, &c, "half", 0, true).await;
    for part in (0..COUNT).collect::<Vec<_>>().chunks(500) {
        let batch = part.iter().map(|n| one(*n)).collect();
        stand.store.write(&scope, &c, WriteMode::Upsert, batch).await.expect("write");
    }
    (scope, c)
}

async fn search(
    stand: &Stand,
    scope: &Scope<Admin>,
    c: &CollectionRef,
    using: &str,
    of: u16,
    exact: bool,
) -> tenantry_types::Found {
    let (using, vectors, include) = (Some(name(using)), vec![vector(of)], everything());
    let request = QueryRequest { using, vectors, k: 10, include, exact, ..QueryRequest::default() };
    stand.store.query(scope, c, &request).await.expect("query").value
}

/// Waits until every graph finds all that it should.
async fn linked(stand: &Stand, scope: &Scope<Admin>, c: &CollectionRef) -> MemoryStatistics {
    let begun = Instant::now();
    loop {
        let found = stand.store.collection_statistics(scope, c).await.expect("statistics").value;
        let memory = found.memory.expect("it is in memory");
        if memory.pending == 0 && memory.vectors.values().all(|one| one.pending == 0) {
            return memory;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "not built: {memory:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Of 100 neighbours, how many are found; the first is the record whose vector is asked for.
async fn found(
    stand: &Stand,
    scope: &Scope<Admin>,
    c: &CollectionRef,
    using: &str,
    offset: u16,
) -> usize {
    let mut hits = 0;
    let of = linked(stand, scope, c).await.vectors[&name(using)].linked;
    for n in (0..COUNT).step_by(300) {
        let found = search(stand, scope, c, using, n + offset, false).await;
        let exact = search(stand, scope, c, using, n + offset, true).await;
        // A walk is worth it among many.
        let plan = found.explain.searches[0].plan;
        assert!(of < COUNT_MIN || plan == SearchPlan::Graph, "{using}: {plan:?}");
        let first = &found.hits[0][0].record;
        assert_eq!(first.id.as_str(), n.to_string());
        assert_eq!(first.vectors[&name(using)], vector(n + offset));
        let last = exact.hits[0][9].distance;
        hits += found.hits[0].iter().filter(|hit| hit.distance <= last).count();
    }
    hits
}

/// Each name has a graph of its own, with its own progress and its own sampled recall; rows are
/// packed in all of them, and they are found again after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_named_vector_gets_a_graph_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let (scope, c) = fill(&stand).await;
    let memory = linked(&stand, &scope, &c).await;
    assert_eq!(memory.linked, 3_000);
    for (using, offset, count) in [("half", HALF, 3_000), ("int8", INT8, 1_500)] {
        let one = memory.vectors[&name(using)];
        assert_eq!((one.linked, one.pending), (count, 0), "{using}");
        assert!(one.bytes > count * u64::from(DIMENSION), "{using}: {one:?}");
        let hits = found(&stand, &scope, &c, using, offset).await;
        assert!(hits >= 97, "{using}: {hits} of 100");
    }
    let never = memory.vectors[&name("never")];
    assert_eq!((never.bytes, never.linked, never.pending), (0, 0, 0));

    // So many go that rows are packed, in all indexes.
    let gone = (0..COUNT).filter(|n| n % 3 != 0).map(|n| n.to_string());
    stand.store.delete(&scope, &c, &ids(gone), None).await.expect("delete");
    let rows = stand.all(&scope, &c).await.expect("all");
    assert_eq!(rows.len(), 1_000);
    for row in &rows {
        let want = one(row.id.as_str().parse().expect("a number"));
        assert_eq!((&row.vector, &row.vectors), (&want.vector, &want.vectors));
    }
    stand.close();
    let stand = open(dir.path()).await;
    let scope = stand.scope(scope.tenant());
    let c = stand.collection(&scope).await.expect("collection");
    assert_eq!(stand.all(&scope, &c).await.expect("all"), rows);
    let hits = search(&stand, &scope, &c, "int8", INT8 + 600, false).await.hits;
    assert_eq!(hits[0][0].record, rows[200]);
    linked(&stand, &scope, &c).await;
    let hits = found(&stand, &scope, &c, "half", HALF).await;
    assert!(hits >= 97, "{hits} of 100 after a restart");
}

/// The graphs of named vectors are saved beside that of the unnamed ones, and need not be built
/// again; a file that was spoilt costs only its own graph.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_of_named_vectors_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let open = async || {
        let mut config = EmbeddedConfig::new(dir.path());
        config.index.graph_above = 500;
        config.saved.free_min = 0;
        config.saved.close_within = Duration::from_secs(20);
        Stand::try_open(config).await.expect("the store opens")
    };
    let stand = open().await;
    let (scope, _) = fill(&stand).await;
    let c = stand.collection(&scope).await.expect("collection");
    let before = linked(&stand, &scope, &c).await;
    let want = search(&stand, &scope, &c, "half", HALF + 600, false).await.hits;
    stand.close();
    let folder = dir.path().join("saved").join(format!("{:016x}", scope.tenant().get()));
    let files = || std::fs::read_dir(&folder).expect("a folder").count();
    assert_eq!(files(), 3, "of the unnamed vectors and two names");

    let restart = async |spoilt: Option<&str>| {
        if let Some(end) = spoilt {
            let all = std::fs::read_dir(&folder).expect("a folder").map(|one| one.expect("one"));
            let mut ends = all.filter(|one| one.path().to_string_lossy().ends_with(end));
            let path = ends.next().expect("a file").path();
            let mut bytes = std::fs::read(&path).expect("read");
            *bytes.last_mut().expect("bytes") ^= 1;
            std::fs::write(&path, bytes).expect("spoil");
        }
        let stand = open().await;
        let scope = stand.scope(scope.tenant());
        let c = stand.collection(&scope).await.expect("collection");
        let found = search(&stand, &scope, &c, "half", HALF + 600, false).await.hits;
        let after = linked(&stand, &scope, &c).await;
        let linked = |memory: &MemoryStatistics| {
            memory.vectors.values().map(|one| one.linked).collect::<Vec<_>>()
        };
        assert_eq!((after.linked, linked(&after)), (before.linked, linked(&before)));
        let totals = stand.store.totals();
        stand.close();
        assert_eq!(files(), 3);
        (found, totals)
    };
    let (found, totals) = restart(None).await;
    assert_eq!((found, totals.saved_refused), (want, 0));
    assert!(totals.maintenance <= 20, "{} pieces", totals.maintenance);
    // What was spoilt is refused, built and saved again; the others are taken over.
    let (_, totals) = restart(Some("-2.seg")).await;
    assert_eq!(totals.saved_refused, 1);
    assert!(totals.maintenance >= 1_000, "{} pieces", totals.maintenance);
    let (_, totals) = restart(None).await;
    assert!(totals.saved_refused == 0 && totals.maintenance <= 20, "{totals:?}");
}

/// A vector's slot is its record's, so one vector makes room for all records before it. A record
/// with many large ones must not take more memory than there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_record_cannot_ask_for_more_memory_than_the_budget() {
    const WIDE: u32 = 16_384;
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = EmbeddedConfig::new(dir.path());
    config.memory_budget_bytes = 64 << 20;
    let stand = Stand::try_open(config).await.expect("the store opens");
    let scope = stand.create("a").await.expect("tenant");
    let names: Vec<VectorName> = (0..16).map(|n| name(&format!("v{n}"))).collect();
    let wide = VectorSpec { dimension: None, ..VectorSpec::default() };
    let vectors = names.iter().map(|name| (name.clone(), wide)).collect();
    let spec = CollectionSpec { vectors, ..spec("c", Metric::L2) };
    let database = stand.default_database(&scope).await;
    let made = stand.store.create_collection(&scope, &database, &spec, true).await;
    let c = made.expect("collection").0;
    let small = |n: u16| RecordWrite { vector: None, ..record(&n.to_string(), vec![], &[]) };
    let write = async |batch| stand.store.write(&scope, &c, WriteMode::Upsert, batch).await;
    write((0..2_000).map(small).collect()).await.expect("small records");
    // Makes it hot.
    let all = tenantry_types::Selector { ids: None, filter: Some(exists("x")) };
    stand.store.count(&scope, &c, &all).await.expect("count");
    let statistics = async || {
        let found = stand.store.collection_statistics(&scope, &c).await.expect("statistics");
        found.value.memory
    };
    assert!(statistics().await.is_some(), "it is in memory");
    let before = stand.store.totals().hot_bytes;
    let mut large = small(9_999);
    let vector = vec![0.5; WIDE as usize];
    large.vectors = names.into_iter().map(|name| (name, vector.clone())).collect();
    // 2,000 slots of 16 × 16,384 components would be 2.6 GB.
    write(vec![large]).await.expect("a large record");
    assert_eq!(statistics().await, None, "it stayed in memory");
    assert!(stand.store.totals().hot_bytes <= before);
    stand.close();
}

fn exists(key: &str) -> tenantry_types::Filter {
    let test = tenantry_types::FieldTest::Exists(true);
    tenantry_types::Filter::Field { key: key.to_owned(), test }
}
