//! What cannot be seen from outside: round trips, plans, and reads that are disturbed.

mod looked_up;
mod pieces;
mod prepared;
mod rights;
mod shares;

use super::{
    DatabaseUrl, Inner, PostgresConfig, read, reading::Reading, setup::SetUp, stand::Stand,
};
use crate::{CollectionRef, MasterKey, Store, Wanted};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tenantry_auth::{Admin, Authority, Credential, OperatorScope, Scope};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Existing, FieldTest, Filter, GetRequest, Include,
    Order, Page, QueryRequest, RecordId, RecordWrite, Selector, TenantName, TenantSpec, TextTest,
    Timestamp, Value, WriteMode,
};
use tokio_postgres::types::Type;
use zeroize::Zeroizing;

/// A node with a tenant that has a collection.
struct Node {
    stand: Stand,
    store: Store,
    operator: OperatorScope,
    scope: Scope<Admin>,
    collection: CollectionRef,
}

impl Node {
    async fn with<F: Future<Output = ()> + Send + 'static>(
        test: impl FnOnce(Self) -> F + Send + 'static,
    ) {
        Self::with_config(|_, _| {}, test).await;
    }

    async fn with_config<F: Future<Output = ()> + Send + 'static>(
        change: fn(&mut PostgresConfig, &SetUp),
        test: impl FnOnce(Self) -> F + Send + 'static,
    ) {
        Stand::with(|stand| async move {
            let set_up = stand.set_up().await;
            let url = DatabaseUrl::parse(&set_up.database_url).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let mut config = PostgresConfig::new(url, folder.path());
            config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
            change(&mut config, &set_up);
            let store = Store::open_postgres(config).await.unwrap();
            let authority = Authority::development();
            let principal =
                authority.authenticate(Credential::None, &store, Timestamp(0)).await.unwrap();
            let operator = authority.authorize_operator(&principal).unwrap();
            let spec = TenantSpec::new(TenantName::parse("t").unwrap());
            let info = store.create_tenant(&operator, &spec).await.unwrap();
            let scope = authority.authorize(&principal, info.id, "t").unwrap();
            let database = store.database(&scope, &DatabaseName::default_database()).await.unwrap();
            let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
            let collection =
                store.create_collection(&scope, &database, &spec, false).await.unwrap().0;
            test(Self { stand, store, operator, scope, collection }).await;
        })
        .await;
    }

    fn inner(&self) -> &Inner {
        &self.store.0.databases.inner
    }

    async fn write(&self, records: Vec<RecordWrite>) {
        let (scope, collection) = (&self.scope, &self.collection);
        self.store.write(scope, collection, WriteMode::Upsert, records).await.unwrap();
    }

    /// What `work` gives, and the round trips that it takes.
    async fn counted<T>(&self, work: impl Future<Output = T>) -> (T, usize) {
        let connections = &self.inner().shared.connections;
        let before = connections.exchanges();
        let value = work.await;
        (value, connections.exchanges() - before)
    }
}

fn record(n: u16) -> RecordWrite {
    RecordWrite {
        vector: Some(vec![f32::from(n), 1.0]),
        document: Some(format!("text {n}")),
        metadata: [("n".to_owned(), Some(Value::Int(n.into())))].into(),
        ..RecordWrite::new(RecordId::parse(n.to_string()).unwrap())
    }
}

fn all_parts() -> Include {
    Include { vector: true, vectors: true, document: true, uri: true, metadata: true }
}

fn is_below(n: i64) -> Filter {
    Filter::Field { key: "n".into(), test: FieldTest::Lt(Value::Int(n)) }
}

fn has_text(text: &str) -> Filter {
    Filter::Text(TextTest::Contains(text.into()))
}

fn only(filter: Filter) -> Selector {
    Selector { ids: None, filter: Some(filter) }
}

fn nearest(k: usize) -> QueryRequest {
    let (vectors, include) = (vec![vec![0.0, 1.0], vec![9.0, 1.0]], all_parts());
    QueryRequest { vectors, k, include, ..QueryRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn common_operations_take_one_round_trip_and_writes_take_two() {
    Node::with(|node| async move {
        let Node { store, scope, collection, .. } = &node;
        let batch = || (0..100).map(record).collect::<Vec<_>>();
        // From the third one on statements are prepared; then none is left.
        for (mode, trips) in [
            (WriteMode::Upsert, 2),
            (WriteMode::Upsert, 2),
            (WriteMode::Upsert, 0),
            (WriteMode::Upsert, 0),
            (WriteMode::Upsert, 0),
            (WriteMode::Upsert, 2),
            (WriteMode::Add(Existing::Skip), 1),
        ] {
            let (wrote, count) = node.counted(store.write(scope, collection, mode, batch())).await;
            wrote.unwrap();
            assert!(count == trips || trips == 0, "{mode:?}: {count}");
        }
        // Looked up again: the first write has told the dimension.
        let database = store.database(scope, &DatabaseName::default_database()).await.unwrap();
        let name = &collection.info().name;
        let collection = &store.collection(scope, &database, name).await.unwrap();
        let filtered = QueryRequest { select: only(is_below(5)), ..nearest(10) };
        for (request, hits, compared) in [(nearest(10), 10, 100), (filtered, 5, 5)] {
            let (found, count) = node.counted(store.query(scope, collection, &request)).await;
            let found = found.unwrap().value;
            assert_eq!(found.hits[0].len(), hits);
            assert_eq!(count, 1, "{request:?}");
            // What each of two searches is billed as.
            let searches = found.explain.searches.iter();
            let billed: Vec<_> = searches.map(|one| one.originals_compared).collect();
            assert_eq!(billed, [compared, compared], "{request:?}");
        }
        for (order, filter) in [
            (Order::Insertion, None),
            (Order::Id, None),
            (Order::Key { key: "n".into(), descending: true }, Some(is_below(50))),
        ] {
            let page = Page { limit: Some(20), offset: 3 };
            let select = Selector { ids: None, filter };
            let request = GetRequest { select, order, page, include: all_parts() };
            let (got, count) = node.counted(store.get(scope, collection, &request)).await;
            assert_eq!(got.unwrap().value.len(), 20);
            assert_eq!(count, 1, "{request:?}");
        }
        let all = Selector::default();
        for (select, records) in [(all, 100), (only(is_below(7)), 7)] {
            let (counted, count) = node.counted(store.count(scope, collection, &select)).await;
            assert_eq!((counted.unwrap().value, count), (records, 1));
        }
        let texts = only(has_text("text 1"));
        let (counted, count) = node.counted(store.count(scope, collection, &texts)).await;
        assert_eq!((counted.unwrap().value, count), (11, 1));
        let (statistics, count) =
            node.counted(store.collection_statistics(scope, collection)).await;
        assert_eq!((statistics.unwrap().value.records, count), (100, 1));
        let select = only(is_below(10));
        let (gone, count) = node.counted(store.delete(scope, collection, &select, Some(4))).await;
        assert_eq!((gone.unwrap(), count), (4, 2));
        let (gone, count) = node.counted(store.delete(scope, collection, &texts, None)).await;
        assert_eq!((gone.unwrap(), count), (10, 3));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_that_finds_all_that_have_a_vector_is_billed_as_these() {
    Node::with(|node| async move {
        let few = |n: u16| RecordWrite { vector: record(n).vector.filter(|_| n < 3), ..record(n) };
        node.write((0..20).map(few).collect()).await;
        for (k, hits, compared) in [(10, 3, 3), (4, 3, 3), (2, 2, 20)] {
            let found = node.store.query(&node.scope, &node.collection, &nearest(k)).await;
            let found = found.unwrap().value;
            assert_eq!(found.hits[0].len(), hits);
            let searches = found.explain.searches.iter();
            let billed: Vec<_> = searches.map(|one| one.originals_compared).collect();
            assert_eq!(billed, [compared, compared], "{k}");
        }
    })
    .await;
}

/// After a quiet time too: what is cached is not compared with what is stored first.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_works_with_records_asks_nothing_before() {
    Node::with(|node| async move {
        node.write((0..20).map(record).collect()).await;
        let (store, scope) = (&node.store, &node.scope);
        let (database, name) = (DatabaseName::default_database(), &node.collection.info().name);
        let find = async || store.records_of(scope, &database, Wanted::Name(name)).await.unwrap();
        let tenant = node.inner().tenancy.open_tenant(scope.tenant()).await.unwrap().unwrap();
        find().await;
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let found = find().await;
        let (answer, trips) = node.counted(store.query(scope, &found, &nearest(3))).await;
        assert_eq!((answer.unwrap().value.hits.len(), trips), (2, 1));
        assert!(node.inner().tenancy.is_old(&tenant), "it was compared");
        store.database(scope, &database).await.unwrap();
        assert!(!node.inner().tenancy.is_old(&tenant));
    })
    .await;
}

/// Every statement that the operations sent is planned once more, for any values.
#[tokio::test(flavor = "multi_thread")]
async fn every_scan_begins_with_the_tenant() {
    Node::with(|node| async move {
        let connections = &node.inner().shared.connections;
        drop(connections.said());
        use_everything(&node).await;
        let mut said = connections.said();
        said.sort_by(|a, b| a.0.cmp(&b.0));
        said.dedup_by(|a, b| a.0 == b.0);
        said.retain(|(text, _)| text.contains("\"tenantry\"."));
        assert!(said.len() > 20, "{}", said.len());
        let client = node.stand.superuser(node.stand.names.database()).await;
        let opening = format!(
            "SET ROLE {}; SET tenantry.tenant = '{}'; SET search_path = pg_catalog, pg_temp; \
             SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; \
             SET enable_sort = off",
            node.stand.names.service(),
            node.scope.tenant().get()
        );
        client.batch_execute(&opening).await.unwrap();
        for (text, types) in &said {
            let prepare = match types.as_slice() {
                [] => format!("PREPARE one AS {text}"),
                types => {
                    let types: Vec<_> = types.iter().map(name_of_type).collect();
                    format!("PREPARE one ({}) AS {text}", types.join(", "))
                }
            };
            client.batch_execute(&prepare).await.unwrap_or_else(|why| panic!("{prepare}: {why:?}"));
            let values = vec!["NULL"; types.len()].join(", ");
            let values = if types.is_empty() { values } else { format!("({values})") };
            let explain = format!("EXPLAIN (COSTS OFF) EXECUTE one {values}");
            let rows = client.simple_query(&explain).await.unwrap();
            let plan = rows.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            check_plan(text, &plan.collect::<Vec<_>>());
            client.batch_execute("DEALLOCATE one").await.unwrap();
        }
    })
    .await;
}

fn name_of_type(of: &Type) -> String {
    let name = match of.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => of.name().to_owned(),
    };
    format!("{}.{name}", of.schema())
}

/// Each scan of our tables is by an index, from the tenant on.
fn check_plan(text: &str, plan: &[String]) {
    let all = plan.join("\n");
    // Those of some ids are looked up, whatever the planner thinks of their share.
    let is_looked_up = all.contains("(key >= k.key) AND (key <= k.key)");
    assert_eq!(text.contains("AS k (key)"), is_looked_up, "{text}\n{all}");
    for (at, line) in plan.iter().enumerate() {
        let line = line.trim_start().trim_start_matches("-> ").trim_start();
        let is_ours = ["records", "vectors", "catalog"]
            .iter()
            .any(|table| line.contains(&format!(" on {table}")));
        assert!(!(is_ours && line.starts_with("Seq Scan")), "{text}\n{all}");
        let is_index =
            is_ours && line.starts_with("Index") || line.starts_with("Bitmap Index Scan");
        if is_index {
            let condition = plan.get(at + 1).map(|next| next.trim_start()).unwrap_or_default();
            let begins = condition.starts_with("Index Cond: (") && condition.contains("(tenant = ");
            assert!(begins, "{text}\n{all}");
        }
    }
}

/// Runs operations of each kind.
async fn use_everything(node: &Node) {
    let Node { store, scope, collection, .. } = node;
    node.write((0..30).map(record).collect()).await;
    node.write((20..40).map(record).collect()).await;
    let ids = Some(vec![RecordId::parse("1").unwrap()]);
    let selectors = [
        Selector::default(),
        Selector { ids: ids.clone(), filter: None },
        Selector { ids, filter: Some(is_below(5)) },
        only(is_below(5)),
        only(has_text("text 1")),
        only(Filter::And(vec![is_below(20), Filter::Not(Box::new(has_text("text 1")))])),
    ];
    for select in &selectors {
        store.count(scope, collection, select).await.unwrap();
        let key = || Order::Key { key: "n".into(), descending: true };
        for (order, limit) in [
            (Order::Insertion, None),
            (Order::Id, Some(5)),
            (Order::Id, None),
            (key(), Some(5)),
            (key(), None),
        ] {
            let (select, page) = (select.clone(), Page { limit, offset: 0 });
            let request = GetRequest { select, order, page, include: all_parts() };
            store.get(scope, collection, &request).await.unwrap();
        }
        let request = QueryRequest { select: select.clone(), ..nearest(3) };
        store.query(scope, collection, &request).await.unwrap();
    }
    store.collection_statistics(scope, collection).await.unwrap();
    for select in selectors.iter().rev() {
        store.delete(scope, collection, select, Some(2)).await.unwrap();
    }
}

/// Reads that need several answers of the server, while somebody writes.
#[tokio::test(flavor = "multi_thread")]
async fn what_takes_several_answers_is_of_one_moment() {
    Node::with(|node| async move {
        // More than one page, in commits of one generation each.
        let generation = |of: u8| {
            let one = move |n: u16| RecordWrite {
                document: Some(format!("generation {of}")),
                ..record(n)
            };
            (0..5_000).map(one).collect::<Vec<_>>()
        };
        node.write(generation(0)).await;
        let done = AtomicBool::new(false);
        let (store, scope, collection) = (&node.store, &node.scope, &node.collection);
        let writing = async {
            for of in 1..6 {
                node.write(generation(of)).await;
            }
            done.store(true, Ordering::SeqCst);
        };
        let reading = async {
            let mut read = 0;
            while !done.load(Ordering::SeqCst) || read == 0 {
                for order in [Order::Insertion, Order::Id] {
                    let request = GetRequest { order, include: all_parts(), ..Default::default() };
                    let got = store.get(scope, collection, &request).await.unwrap().value;
                    assert_eq!(got.len(), 5_000);
                    let first = got[0].document.clone();
                    assert!(got.iter().all(|one| one.document == first), "{first:?}");
                    assert!(got.iter().all(|one| one.vector.is_some()));
                }
                let texts = only(has_text("generation"));
                assert_eq!(store.count(scope, collection, &texts).await.unwrap().value, 5_000);
                read += 1;
            }
        };
        tokio::join!(writing, reading);
        // A deletion by texts, in several answers.
        let texts = only(has_text("generation 5"));
        assert_eq!(store.delete(scope, collection, &texts, Some(4_500)).await.unwrap(), 4_500);
        assert_eq!(store.count(scope, collection, &Selector::default()).await.unwrap().value, 500);
    })
    .await;
}

/// Whoever is disturbed again and again reads everything in one transaction at last.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_attempt_sees_nothing_of_other_writes() {
    Node::with(|node| async move {
        node.write((0..3).map(record).collect()).await;
        let tenant = node.inner().tenancy.open_tenant(node.scope.tenant()).await.unwrap().unwrap();
        let mut reading = Reading::new(node.inner(), &tenant, &node.collection).await.unwrap();
        for attempt in 0..3 {
            let before = read::look(&mut reading).await.ok().unwrap();
            node.write(vec![record(3 + attempt)]).await;
            let after = read::look(&mut reading).await;
            let settled = reading.settled(after).await.unwrap();
            if attempt < 2 {
                assert_eq!(settled, None, "{attempt}");
            } else {
                assert_eq!((before, settled), (5, Some(5)));
            }
        }
        let after = read::look(&mut reading).await;
        // It is over: what was seen since is known to be gone.
        assert_eq!(reading.settled(after).await.unwrap(), None);
        let after = read::look(&mut reading).await;
        assert_eq!(reading.settled(after).await.unwrap(), Some(6));
    })
    .await;
}

/// Who a key belongs to is asked of the connection that counts.
#[tokio::test(flavor = "multi_thread")]
async fn counting_tenants_lets_others_ask_meanwhile() {
    Node::with(|node| async move {
        let superuser = node.stand.superuser(node.stand.names.database()).await;
        let many = "INSERT INTO tenantry.catalog SELECT tenant, family, \
                    key || convert_to(n::text, 'UTF8'), row \
                    FROM tenantry.catalog, generate_series(1, 20000) n \
                    WHERE tenant = 0 AND family = 1";
        assert_eq!(superuser.execute(many, &[]).await.unwrap(), 20_000);
        let shared = &node.inner().shared;
        let (lookups, target) = (&shared.lookups, &shared.root().unwrap().target);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(lookups.get(target).await.ok().unwrap());
        }
        let before = lookups.exchanges();
        let is_counted = AtomicBool::new(false);
        let counting = async {
            let count = node.store.count_tenants(&node.operator).await.unwrap();
            is_counted.store(true, Ordering::SeqCst);
            count
        };
        let asking = async {
            while lookups.exchanges() == before {
                tokio::task::yield_now().await;
            }
            let asked = lookups.get(target).await.is_ok();
            asked && !is_counted.load(Ordering::SeqCst)
        };
        assert_eq!(tokio::join!(counting, asking), (20_001, true));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn citus_is_told_the_tenant_if_the_configuration_says_so() {
    Node::with_config(
        |config, _| config.databases.citus = true,
        |node| async move {
            let shared = &node.inner().shared;
            let tenant = node.scope.tenant();
            let words = format!("SET LOCAL tenantry.tenant = '{tenant}'");
            shared.connections.said();
            node.write(vec![record(1)]).await;
            let said = shared.connections.said();
            assert!(said.iter().any(|(text, _)| *text == words), "{said:?}");
        },
    )
    .await;
}
