//! Both backends, asked the same, answer the same.

use super::Site;
use crate::conformance::{all_parts, id};
use std::collections::BTreeMap;
use tenantry_auth::{Admin, Authority, Credential, Restriction, Role, Scope};
use tenantry_store::{CollectionRef, EmbeddedConfig, NewKey, Store};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, Error, Existing, FieldTest, Filter, Found,
    GetRequest, Hit, Limits, Metric, Missing, Order, Page, QueryRequest, RecordWrite, Selector,
    TenantName, TenantSpec, TextTest, Timestamp, Value, VectorName, VectorSpec, WriteMode,
};

/// Numbers that look like chance (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn is(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("small")].clone()
    }

    /// Small whole numbers, whose distances are exact and often the same.
    fn vector(&mut self, dimension: usize) -> Vec<f32> {
        (0..dimension).map(|_| self.below(5) as f32 - 2.0).collect()
    }

    fn text(&mut self) -> String {
        self.of(&["", "a", "b\0c", "long é text", "zz", "\u{1}"].map(str::to_owned))
    }

    fn value(&mut self) -> Value {
        match self.below(6) {
            0 => Value::Bool(self.is(2)),
            1 => Value::Int(self.of(&[-3, 0, 1, 2, i64::MAX, i64::MIN])),
            2 => Value::Float(self.of(&[-0.5, 0.0, 1.0, 2.0, 1e300])),
            3 => Value::List(vec![Value::Int(1), Value::Int(2)]),
            _ => Value::Str(self.text()),
        }
    }

    fn key(&mut self) -> String {
        self.of(&["k", "l", "m\0"].map(str::to_owned))
    }

    fn record(&mut self) -> RecordWrite {
        let metadata =
            (0..self.below(3)).map(|_| (self.key(), (!self.is(4)).then(|| self.value())));
        let metadata = metadata.collect();
        RecordWrite {
            vector: (!self.is(4)).then(|| self.vector(3)),
            vectors: if self.is(2) {
                [(name("v"), self.vector(2))].into()
            } else {
                BTreeMap::new()
            },
            document: self.is(2).then(|| self.text()),
            uri: self.is(4).then(|| "uri:x".to_owned()),
            metadata,
            ..RecordWrite::new(id(&format!("r{}", self.below(60))))
        }
    }

    fn filter(&mut self, depth: u64) -> Filter {
        let leaf = if depth == 0 { 3 } else { 0 };
        match self.below(7).max(leaf) {
            0 => Filter::And((0..self.below(3)).map(|_| self.filter(depth - 1)).collect()),
            1 => Filter::Or((0..self.below(3)).map(|_| self.filter(depth - 1)).collect()),
            2 => Filter::Not(Box::new(self.filter(depth - 1))),
            3 => Filter::Text(TextTest::Contains(self.of(&["a", "é", "z"].map(str::to_owned)))),
            _ => {
                let (key, value) = (self.key(), self.value());
                let test = match self.below(7) {
                    0 => FieldTest::Eq(value),
                    1 => FieldTest::Ne(value),
                    2 => FieldTest::Gt(value),
                    3 => FieldTest::Lte(value),
                    4 => FieldTest::In(vec![value, Value::Int(1)]),
                    5 => FieldTest::Contains(Value::Int(2)),
                    _ => FieldTest::Exists(self.is(2)),
                };
                Filter::Field { key, test }
            }
        }
    }

    fn select(&mut self) -> Selector {
        let ids = self
            .is(3)
            .then(|| (0..self.below(8)).map(|_| id(&format!("r{}", self.below(80)))).collect());
        Selector { ids, filter: self.is(2).then(|| self.filter(2)) }
    }

    fn mode(&mut self) -> WriteMode {
        self.of(&[
            WriteMode::Upsert,
            WriteMode::Upsert,
            WriteMode::Add(Existing::Skip),
            WriteMode::Add(Existing::Fail),
            WriteMode::Update(Missing::Skip),
            WriteMode::Update(Missing::Fail),
        ])
    }
}

fn name(text: &str) -> VectorName {
    VectorName::parse(text).expect("a name")
}

/// One store with a tenant's scopes: one that may do everything, one that is bound to a filter.
struct Side {
    store: Store,
    scopes: [Scope<Admin>; 2],
    collection: CollectionRef,
}

impl Side {
    async fn new(store: Store, metric: Metric) -> Self {
        let authority = Authority::development();
        let principal = authority.authenticate(Credential::None, &store, Timestamp(0)).await;
        let principal = principal.expect("operator");
        let operator = authority.authorize_operator(&principal).expect("operator");
        let spec = TenantSpec {
            limits: Limits { records_per_collection: 40, ..Limits::default() },
            ..TenantSpec::new(TenantName::parse("t").expect("a name"))
        };
        let info = store.create_tenant(&operator, &spec).await.expect("tenant");
        let scope: Scope<Admin> = authority.authorize(&principal, info.id, "t").expect("scope");
        let database = store.database(&scope, &DatabaseName::default_database()).await;
        let spec = CollectionSpec {
            metric,
            vectors: [(name("v"), VectorSpec { metric, ..VectorSpec::default() })].into(),
            ..CollectionSpec::new(CollectionName::parse("c").expect("a name"))
        };
        let database = database.expect("database");
        let made = store.create_collection(&scope, &database, &spec, false).await;
        let collection = made.expect("collection").0;
        let bound = Filter::Field { key: "k".into(), test: FieldTest::Exists(true) };
        let key = NewKey {
            role: Role::Admin,
            restriction: Restriction { objects: None, filter: Some(bound) },
            label: String::new(),
            expires_at: None,
        };
        let (_, key) = store.create_key(&scope, key).await.expect("key");
        let keyed = Authority::new();
        let bound = keyed.authenticate(Credential::Key(key), &store, Timestamp(0)).await;
        let bound = keyed.authorize(&bound.expect("key"), info.id, "t").expect("scope");
        Self { store, scopes: [scope, bound], collection }
    }
}

/// What an operation gave, in a form that can be compared.
fn said<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}: {}", error.kind(), error.public_message()),
    }
}

/// Hits without times, and with the few last bits of distances cut off. Those bits decide which
/// of the records in one direction is nearest by cosine.
fn found(found: Found, metric: Metric) -> String {
    let hits = found.hits.iter().map(|hits| {
        let hit = |hit: &Hit| {
            let record = (metric != Metric::Cosine).then(|| hit.record.clone());
            (format!("{:.4}", hit.distance.abs()), record)
        };
        hits.iter().map(hit).collect::<Vec<_>>()
    });
    format!("{:?} {:?}", hits.collect::<Vec<_>>(), found.explain.allowed)
}

async fn compare(metric: Metric, seed: u64) {
    let site = Site::new().await;
    let folder = tempfile::tempdir().expect("a folder");
    let embedded = Store::open_embedded(EmbeddedConfig::new(folder.path())).expect("a store");
    let sides = [Side::new(embedded, metric).await, Side::new(site.open().await, metric).await];
    let mut chance = Chance(seed);
    let mut done = 0;
    for step in 0..400 {
        let (what, who) = (chance.below(10), usize::from(chance.is(4)));
        let select = chance.select();
        let page = Page {
            limit: chance.is(2).then(|| usize::try_from(chance.below(9)).expect("small")),
            offset: usize::try_from(chance.below(4)).expect("small"),
        };
        let order = match chance.below(4) {
            0 => Order::Id,
            1 => Order::Key { key: chance.key(), descending: chance.is(2) },
            _ => Order::Insertion,
        };
        let using = chance.is(3).then(|| name("v"));
        let dimension = if chance.is(20) { 4 } else { 3 - usize::from(using.is_some()) };
        let vectors = (0..=chance.below(3)).map(|_| chance.vector(dimension)).collect();
        let query = QueryRequest {
            using,
            vectors,
            k: usize::try_from(1 + chance.below(8)).expect("small"),
            select: select.clone(),
            include: all_parts(),
            exact: true,
        };
        let batch: Vec<_> = (0..=chance.below(6)).map(|_| chance.record()).collect();
        let mode = chance.mode();
        let mut answers = Vec::new();
        for Side { store, scopes, collection } in &sides {
            let scope = &scopes[who];
            answers.push(match what {
                0..=3 => said(store.write(scope, collection, mode, batch.clone()).await),
                4 => said(store.delete(scope, collection, &select, page.limit).await),
                5 => said(store.count(scope, collection, &select).await.map(|a| a.value)),
                6 | 7 => {
                    let (select, order) = (select.clone(), order.clone());
                    let request = GetRequest { select, order, page, include: all_parts() };
                    said(store.get(scope, collection, &request).await.map(|a| a.value))
                }
                8 => said(
                    store.collection_statistics(scope, collection).await.map(|a| a.value.records),
                ),
                _ => said(
                    store.query(scope, collection, &query).await.map(|a| found(a.value, metric)),
                ),
            });
        }
        done += usize::from(answers[0].len() > 40 && !answers[0].starts_with("Invalid"));
        assert_eq!(
            answers[0], answers[1],
            "{metric:?} {seed} {step}: {what} {who} {select:?} {order:?} {page:?} {query:?} {mode:?} \
             {batch:?}"
        );
    }
    assert!(done > 90, "{done} answers say much");
    for Side { store, .. } in sides {
        store.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_backends_answer_the_same() {
    for (metric, seed) in [(Metric::L2, 1), (Metric::InnerProduct, 2), (Metric::Cosine, 3)] {
        compare(metric, seed).await;
    }
}
