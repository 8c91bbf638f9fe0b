//! Graphs for approximate search: made and removed in the background, never in the way.

use super::{Site, locations, nodes::Node};
use crate::conformance::{UPSERT, id, only};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, PostgresConfig, Store, postgres::DatabaseUrl};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, FieldTest, Filter, Found, Isolation, Metric,
    OwnDatabase, QueryRequest, RecordWrite, SearchPlan, SecretText, Selector, Value, VectorStorage,
};

const DIMENSION: usize = 24;
const ABOVE: u64 = 2_000;

/// Numbers that look like chance, the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    }

    /// A vector in one of some clusters.
    fn vector(&mut self, dimension: usize) -> Vec<f32> {
        let mut of = Chance(1 + 7_919 * u64::from((self.next() * 60.0).to_bits() >> 20 & 63));
        (0..dimension).map(|_| of.next() * 4.0 + self.next()).collect()
    }
}

fn record(n: usize, vector: Vec<f32>) -> RecordWrite {
    let number = |n: usize| Value::Int(i64::try_from(n).expect("small"));
    let metadata = [("ten", n % 10), ("hundred", n % 100)];
    let metadata = metadata.map(|(key, n)| (key.to_owned(), Some(number(n)))).into();
    let vector = Some(vector);
    RecordWrite { vector, metadata, ..RecordWrite::new(id(&n.to_string())) }
}

fn is(key: &str, value: i64) -> Filter {
    Filter::Field { key: key.to_owned(), test: FieldTest::Eq(Value::Int(value)) }
}

/// A node with a collection in a tenant.
struct Bench {
    site: Site,
    node: Node,
    scope: Scope<Admin>,
    c: CollectionRef,
}

fn config(site: &Site, isolation: Isolation) -> PostgresConfig {
    let mut config = site.config();
    config.admin_url = Some(DatabaseUrl::parse(&site.admin_url).expect("a URL"));
    config.default_isolation = isolation;
    config.databases.graph_above = ABOVE;
    config
}

async fn open(site: &Site, isolation: Isolation) -> Node {
    Node::new(Store::open_postgres(config(site, isolation)).await.expect("a store")).await
}

impl Bench {
    async fn new(isolation: Isolation) -> Self {
        let site = Site::new().await;
        let node = open(&site, isolation).await;
        let scope = node.tenant("t").await.expect("a tenant");
        let c = make(&node, &scope, "c", Metric::L2, VectorStorage::Full).await;
        Self { site, node, scope, c }
    }

    async fn fill(&self, c: &CollectionRef, records: usize, chance: &mut Chance, dimension: usize) {
        for first in (0..records).step_by(500) {
            let one = |n| record(n, chance.vector(dimension));
            let batch = (first..records.min(first + 500)).map(one).collect();
            self.write(c, batch).await;
        }
    }

    async fn write(&self, c: &CollectionRef, batch: Vec<RecordWrite>) {
        self.node.store.write(&self.scope, c, UPSERT, batch).await.expect("write");
    }

    async fn query(&self, c: &CollectionRef, request: &QueryRequest) -> Found {
        self.node.store.query(&self.scope, c, request).await.expect("query").value
    }

    async fn plan(&self, c: &CollectionRef, request: &QueryRequest) -> SearchPlan {
        self.query(c, request).await.explain.searches[0].plan
    }

    /// Waits until searches go by a graph.
    async fn until_walked(&self, c: &CollectionRef, request: &QueryRequest) {
        until("a graph", async || self.plan(c, request).await == SearchPlan::Graph).await;
    }

    async fn graphs(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_class WHERE relname ~ '^(graph|rest)_'";
        self.site.ask(sql).await
    }
}

async fn make(
    node: &Node,
    scope: &Scope<Admin>,
    name: &str,
    metric: Metric,
    storage: VectorStorage,
) -> CollectionRef {
    let database = node.store.database(scope, &DatabaseName::default_database()).await.unwrap();
    let name = CollectionName::parse(name).expect("a name");
    let spec = CollectionSpec { metric, storage, ..CollectionSpec::new(name) };
    node.store.create_collection(scope, &database, &spec, false).await.expect("a collection").0
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}: not within 90 seconds");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn nearest(vector: Vec<f32>, filter: Option<Filter>) -> QueryRequest {
    QueryRequest {
        vectors: vec![vector],
        k: 10,
        select: Selector { ids: None, filter },
        ..QueryRequest::default()
    }
}

/// How much of what a scan finds a search does, and the ways it went.
async fn compare(
    bench: &Bench,
    c: &CollectionRef,
    filter: Option<Filter>,
    dimension: usize,
    rounds: usize,
) -> (f64, BTreeMap<String, usize>) {
    let mut chance = Chance(42);
    let (mut hits, mut plans) = (0, BTreeMap::new());
    for _ in 0..rounds {
        let request = nearest(chance.vector(dimension), filter.clone());
        let found = bench.query(c, &request).await;
        let exact = bench.query(c, &QueryRequest { exact: true, ..request }).await;
        *plans.entry(format!("{:?}", found.explain.searches[0].plan)).or_default() += 1;
        assert_eq!(found.explain.allowed, exact.explain.allowed);
        assert_eq!((found.hits[0].len(), exact.hits[0].len()), (10, 10));
        let last = exact.hits[0][9].distance;
        hits += found.hits[0].iter().filter(|hit| hit.distance <= last).count();
        let order: Vec<f32> = found.hits[0].iter().map(|hit| hit.distance).collect();
        assert!(order.is_sorted(), "{order:?}");
    }
    (hits as f64 / (10 * rounds) as f64, plans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_finds_nearly_all_by_every_metric() {
    let bench = Bench::new(Isolation::Schema).await;
    for (n, (metric, storage)) in [
        (Metric::L2, VectorStorage::Full),
        (Metric::Cosine, VectorStorage::Full),
        (Metric::InnerProduct, VectorStorage::Full),
        (Metric::L2, VectorStorage::Half),
        (Metric::Cosine, VectorStorage::Int8),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("metric{n}");
        let c = make(&bench.node, &bench.scope, &name, metric, storage).await;
        bench.fill(&c, 3_000, &mut Chance(7), DIMENSION).await;
        bench.until_walked(&c, &nearest(Chance(3).vector(DIMENSION), None)).await;
        for (filter, plan) in [
            (None, "Graph"),
            (Some(is("ten", 3)), "ExactAllowed"),
            (Some(is("hundred", 3)), "ExactAllowed"),
            (Some(Filter::Not(Box::new(is("ten", 3)))), "GraphFiltered"),
        ] {
            let what = format!("{metric:?} {storage:?} {filter:?}");
            let (recall, plans) = compare(&bench, &c, filter, DIMENSION, 30).await;
            assert!(recall >= 0.95, "{what}: {recall}");
            assert_eq!(plans.keys().collect::<Vec<_>>(), [plan], "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_and_deleted_is_seen_at_once() {
    let bench = Bench::new(Isolation::Schema).await;
    let c = &bench.c;
    let mut chance = Chance(11);
    bench.fill(c, 2_500, &mut chance, DIMENSION).await;
    let any = nearest(chance.vector(DIMENSION), None);
    bench.until_walked(c, &any).await;
    let scans = async || {
        let sql = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_user_indexes \
                   WHERE indexrelname ~ '^graph_'";
        bench.site.ask(sql).await
    };
    until("the server used the index", async || scans().await > 0).await;
    for n in 0..30 {
        let at = chance.vector(DIMENSION);
        let first = async || {
            let found = bench.query(c, &nearest(at.clone(), None)).await;
            assert_eq!(found.explain.searches[0].plan, SearchPlan::Graph);
            (found.hits[0][0].record.id.as_str().to_owned(), found.hits[0][0].distance)
        };
        // A new one, then one that moves there and comes first, then both go.
        bench.write(c, vec![record(5_000 + n, at.clone())]).await;
        assert_eq!(first().await, ((5_000 + n).to_string(), 0.0));
        bench.write(c, vec![record(n, at.clone())]).await;
        assert_eq!(first().await, (n.to_string(), 0.0));
        let both = only(&[&n.to_string(), &(5_000 + n).to_string()]);
        bench.node.store.delete(&bench.scope, c, &both, None).await.expect("delete");
        assert!(first().await.1 > 0.0);
    }
    // Several vectors at once, and more than there are records that pass.
    let vectors = (0..5).map(|_| chance.vector(DIMENSION)).collect();
    let several = QueryRequest { vectors, ..any.clone() };
    let found = bench.query(c, &several).await;
    assert_eq!(found.hits.iter().map(Vec::len).collect::<Vec<_>>(), [10; 5]);
    assert!(found.explain.searches.iter().all(|step| step.plan == SearchPlan::Graph));
    let few = Filter::And(vec![is("hundred", 55), is("ten", 5)]);
    let request = QueryRequest { k: 100, ..nearest(chance.vector(DIMENSION), Some(few)) };
    let found = bench.query(c, &request).await;
    assert_eq!((found.hits[0].len(), found.explain.allowed), (25, Some(25)));
    let none = nearest(chance.vector(DIMENSION), Some(is("hundred", 200)));
    assert_eq!(bench.plan(c, &none).await, SearchPlan::Nothing);

    // Large vectors and those of zeros.
    let at = vec![3e20; DIMENSION];
    bench.write(c, vec![record(6_000, at.clone()), record(6_001, vec![0.0; DIMENSION])]).await;
    for (vector, first) in [(at, "6000"), (vec![0.0; DIMENSION], "6001")] {
        let found = bench.query(c, &nearest(vector, None)).await;
        assert_eq!(found.hits[0][0].record.id.as_str(), first);
        assert_eq!(found.explain.searches[0].plan, SearchPlan::ExactAll);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_without_a_direction_are_found() {
    let bench = Bench::new(Isolation::Schema).await;
    for (name, storage) in [("full", VectorStorage::Full), ("half", VectorStorage::Half)] {
        let c = make(&bench.node, &bench.scope, name, Metric::Cosine, storage).await;
        // All point into one half of the space, so that those of zeros are nearer to the other.
        let mut chance = Chance(5);
        let mut one_sided = |n| {
            let mut vector = chance.vector(DIMENSION);
            vector[0] = 3.0 + vector[0].abs();
            record(n, vector)
        };
        for first in (0..2_500).step_by(500) {
            bench.write(&c, (first..first + 500).map(&mut one_sided).collect()).await;
        }
        let mut towards = vec![0.0; DIMENSION];
        towards[0] = 1.0;
        bench.until_walked(&c, &nearest(towards.clone(), None)).await;
        let zeros = |n: usize| record(n, vec![0.0; DIMENSION]);
        bench.write(&c, (3_000..3_004).map(zeros).collect()).await;
        // Too small and too large for halves, which must not keep them from being written.
        let tiny = record(3_004, towards.iter().map(|x| x * -f32::powi(2.0, -40)).collect());
        let huge = record(3_005, towards.iter().map(|x| x * -f32::powi(2.0, 40)).collect());
        bench.write(&c, vec![tiny, huge]).await;
        let away: Vec<f32> = towards.iter().map(|x| -x).collect();
        let ids = async |request: &QueryRequest| -> Vec<String> {
            let hits = bench.query(&c, request).await.hits;
            hits[0].iter().map(|hit| hit.record.id.as_str().to_owned()).collect()
        };
        let request = nearest(away, None);
        let found = ids(&request).await;
        assert_eq!(bench.plan(&c, &request).await, SearchPlan::Graph);
        let expected = ["3004", "3005", "3000", "3001", "3002", "3003"];
        if storage == VectorStorage::Half {
            assert_eq!(found[..6], expected);
        } else {
            // Two that are alone on their side are in this graph, and a walk may miss one.
            assert!(expected[2..].iter().all(|id| found.iter().any(|one| one == id)), "{found:?}");
        }
        assert_eq!(ids(&QueryRequest { exact: true, ..request }).await[..6], expected);
        // As far from all: the first ones.
        let found = ids(&nearest(vec![0.0; DIMENSION], None)).await;
        assert_eq!(found, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graph_goes_with_what_it_is_of() {
    let bench = Bench::new(Isolation::Schema).await;
    let c = &bench.c;
    let mut chance = Chance(13);
    bench.fill(c, 2_500, &mut chance, 4).await;
    let any = nearest(chance.vector(4), None);
    bench.until_walked(c, &any).await;
    assert_eq!(bench.graphs().await, 2);

    // Between three quarters and all of the threshold it stays.
    let delete = async |numbers: std::ops::Range<usize>| {
        let names: Vec<String> = numbers.map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        bench.node.store.delete(&bench.scope, c, &only(&names), None).await.expect("delete");
    };
    delete(0..900).await;
    assert_eq!(bench.plan(c, &any).await, SearchPlan::Graph);
    delete(900..1_100).await;
    until("the graph goes", async || bench.graphs().await == 0).await;
    until("nobody takes it for there", async || bench.plan(c, &any).await == SearchPlan::ExactAll)
        .await;
    bench.fill(c, 2_500, &mut chance, 4).await;
    bench.until_walked(c, &any).await;

    // Gone behind everybody's back, it costs time only.
    let sql = "SELECT c.relnamespace::regnamespace || '.' || c.relname FROM pg_class c \
               WHERE relname ~ '^(graph|rest)_'";
    let drop = format!(
        "DO $$ DECLARE n text; BEGIN FOR n IN {sql} LOOP EXECUTE 'DROP INDEX ' || n; END LOOP; END $$"
    );
    bench.site.run(&drop).await;
    let exact = QueryRequest { exact: true, ..any.clone() };
    assert_eq!(bench.query(c, &any).await.hits, bench.query(c, &exact).await.hits);

    // With the collection.
    let other = make(&bench.node, &bench.scope, "other", Metric::L2, VectorStorage::Full).await;
    bench.fill(&other, 2_500, &mut chance, 4).await;
    bench.until_walked(&other, &any).await;
    bench.node.store.delete_collection(&bench.scope, &other).await.expect("delete");
    until("the graph goes", async || bench.graphs().await == 0).await;
    let sql = "SELECT count(*) FROM pg_stat_user_tables WHERE relname = 'vectors'";
    assert!(bench.site.ask(sql).await > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_off_is_made_good() {
    let bench = Bench::new(Isolation::Schema).await;
    let c = &bench.c;
    let mut chance = Chance(17);
    bench.fill(c, 1_900, &mut chance, 4).await;
    let any = nearest(chance.vector(4), None);
    assert_eq!(bench.plan(c, &any).await, SearchPlan::ExactAll);
    bench.fill(c, 2_100, &mut chance, 4).await;
    bench.until_walked(c, &any).await;
    let invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid IN \
                   (SELECT oid FROM pg_class WHERE relname ~ '^graph_')";
    bench.site.run(invalid).await;
    let count = "SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                 WHERE i.indisvalid AND c.relname ~ '^(graph|rest)_'";
    assert_eq!(bench.site.ask(count).await, 1);
    // Another node finds it so; two at once do it once.
    let (two, three) =
        (open(&bench.site, Isolation::Schema).await, open(&bench.site, Isolation::Schema).await);
    let walks = async |node: &Node| {
        let there = node.collection(&bench.scope, "c").await.expect("a collection");
        let found = node.store.query(&bench.scope, &there, &any).await.expect("query").value;
        assert_eq!(found.hits[0].len(), 10);
        found.explain.searches[0].plan == SearchPlan::Graph
    };
    until("both walk", async || walks(&two).await & walks(&three).await).await;
    assert_eq!((bench.site.ask(count).await, bench.graphs().await), (2, 2));
    // Written here, found there.
    let at = vec![9.0; 4];
    bench.write(c, vec![record(7_000, at.clone())]).await;
    let there = two.collection(&bench.scope, "c").await.expect("a collection");
    let found = two.store.query(&bench.scope, &there, &nearest(at, None)).await.expect("query");
    assert_eq!(found.value.hits[0][0].record.id.as_str(), "7000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_has_graphs_and_what_is_shared_has_none() {
    let bench = Bench::new(Isolation::Database).await;
    let mut chance = Chance(19);
    bench.fill(&bench.c, 2_500, &mut chance, 4).await;
    let any = nearest(chance.vector(4), None);
    // A node that cannot make one uses what is there.
    let mut plain = config(&bench.site, Isolation::Shared);
    plain.admin_url = None;
    let plain = Node::new(Store::open_postgres(plain).await.expect("a store")).await;
    bench.until_walked(&bench.c, &any).await;
    let there = plain.collection(&bench.scope, "c").await.expect("a collection");
    until("it is used", async || {
        let found = plain.store.query(&bench.scope, &there, &any).await.expect("query").value;
        found.explain.searches[0].plan == SearchPlan::Graph
    })
    .await;

    let shared = Bench::new(Isolation::Shared).await;
    shared.fill(&shared.c, 2_500, &mut chance, 4).await;
    for _ in 0..20 {
        assert_eq!(shared.plan(&shared.c, &any).await, SearchPlan::ExactAll);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(shared.graphs().await, 0);
}

/// Wherever an admin's URL leads: at a location, and in a database that a tenant carries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_elsewhere_have_graphs() {
    let (site, there, donor) = (Site::new().await, Site::new().await, Site::new().await);
    let mut config = locations::config(&site, &there, Isolation::Schema);
    config.databases.graph_above = ABOVE;
    let node = Node::new(Store::open_postgres(config).await.expect("a store")).await;
    let at_location = node.tenant("t").await.expect("a tenant");
    let own = locations::another(&donor).await;
    let (_, name) = own.rsplit_once('/').expect("a path");
    let admin = format!("{}/{name}", donor.admin_url.rsplit_once('/').expect("a path").0);
    let own = OwnDatabase { url: SecretText::new(own), admin_url: Some(SecretText::new(admin)) };
    let carries = locations::make(&node, "own", Some(own)).await.expect("a tenant");
    for scope in [at_location, carries] {
        let c = make(&node, &scope, "c", Metric::L2, VectorStorage::Full).await;
        let mut chance = Chance(23);
        for first in (0..2_500).step_by(500) {
            let batch = (first..first + 500).map(|n| record(n, chance.vector(4))).collect();
            node.store.write(&scope, &c, UPSERT, batch).await.expect("write");
        }
        let any = nearest(chance.vector(4), None);
        until("a graph", async || {
            let found = node.store.query(&scope, &c, &any).await.expect("query").value;
            found.explain.searches[0].plan == SearchPlan::Graph
        })
        .await;
    }
}
