//! Loads while the tenant is written to.

use super::{
    Inner,
    tests::{inner, open, tenant},
};
use crate::{CollectionRef, Store};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenantry_auth::{Admin, Scope};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, GetRequest, Include, QueryRequest, RecordId,
    RecordWrite, Selector, WriteMode,
};

const RECORDS: usize = 6_000;
const WIDTH: usize = 32;

fn record(id: usize, version: usize) -> RecordWrite {
    RecordWrite {
        vector: Some((0..WIDTH).map(|at| ((id * 31 + at * 7 + version) % 97) as f32).collect()),
        document: Some(format!("{id} in version {version}")),
        ..RecordWrite::new(RecordId::parse(id.to_string()).unwrap())
    }
}

async fn filled(store: &Store, scope: &Scope<Admin>) -> CollectionRef {
    let database = store.database(scope, &DatabaseName::default_database()).await.unwrap();
    let spec = CollectionSpec::new(CollectionName::parse("c").unwrap());
    let c = store.create_collection(scope, &database, &spec, false).await.unwrap().0;
    for from in (0..RECORDS).step_by(500) {
        let some = (from..from + 500).map(|id| record(id, 0)).collect();
        store.write(scope, &c, WriteMode::Upsert, some).await.unwrap();
    }
    c
}

async fn query(store: &Store, scope: &Scope<Admin>, c: &CollectionRef) -> Vec<String> {
    let vectors = vec![vec![1.0; WIDTH]];
    let request = QueryRequest { vectors, k: 5, exact: true, ..QueryRequest::default() };
    let found = store.query(scope, c, &request).await.unwrap().value.hits;
    found[0].iter().map(|hit| hit.record.id.to_string()).collect()
}

/// All texts by id, from memory if the collection is there, and from the disk otherwise.
async fn texts(store: &Store, scope: &Scope<Admin>, c: &CollectionRef) -> BTreeMap<String, String> {
    let include = Include { document: true, ..Include::default() };
    let request = GetRequest { include, ..GetRequest::default() };
    let found = store.get(scope, c, &request).await.unwrap().value;
    let text = |record: &tenantry_types::Record| record.document.as_deref().unwrap().to_owned();
    found.iter().map(|record| (record.id.to_string(), text(record))).collect()
}

fn is_hot(inner: &Inner, scope: &Scope<Admin>, c: &CollectionRef) -> bool {
    let tenant = inner.tenancy.tenants.opened(scope.tenant()).unwrap();
    inner.hot.get(&tenant, c.info.number).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_while_a_collection_is_loaded() {
    let (_dir, store) = open();
    let store = Arc::new(store);
    let scope = tenant(&store).await;
    let c = filled(&store, &scope).await;
    let mut beside = 0;
    for round in 1..=5 {
        inner(&store).hot.forget(scope.tenant(), c.info.number);
        let asking = {
            let (store, scope, c) = (Arc::clone(&store), scope.clone(), c.clone());
            tokio::spawn(async move { query(&store, &scope, &c).await })
        };
        for n in 0..40 {
            let id = (round * 977 + n * 131) % RECORDS;
            if n % 4 == 3 {
                let ids = Some(vec![RecordId::parse(id.to_string()).unwrap()]);
                let select = Selector { ids, filter: None };
                store.delete(&scope, &c, &select, None).await.unwrap();
            } else {
                let one = vec![record(id, round)];
                store.write(&scope, &c, WriteMode::Upsert, one).await.unwrap();
            }
            beside += usize::from(!asking.is_finished() && !is_hot(inner(&store), &scope, &c));
        }
        assert_eq!(asking.await.unwrap().len(), 5);
        assert!(is_hot(inner(&store), &scope, &c));
        let memory = texts(&store, &scope, &c).await;
        let near = query(&store, &scope, &c).await;
        inner(&store).hot.forget(scope.tenant(), c.info.number);
        assert_eq!(query(&store, &scope, &c).await, near, "what is found is not what was written");
        assert_eq!(texts(&store, &scope, &c).await, memory);
    }
    assert!(beside > 5, "writes waited for loads: {beside}");
}

/// Whoever deletes by a condition loads under the writer's lock, beside loads that wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_with_and_without_the_lock_do_not_wait_for_each_other() {
    let (_dir, store) = open();
    let store = Arc::new(store);
    let scope = tenant(&store).await;
    let c = filled(&store, &scope).await;
    for _ in 0..10 {
        inner(&store).hot.forget(scope.tenant(), c.info.number);
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..6 {
            let (store, scope, c) = (Arc::clone(&store), scope.clone(), c.clone());
            asking.spawn(async move {
                if n % 2 == 0 {
                    return query(&store, &scope, &c).await.len();
                }
                let tenantry = Arc::clone(inner(&store));
                let tenant = tenantry.tenancy.tenants.opened(scope.tenant()).unwrap();
                let _writing = tenant.writer.lock().await;
                tenantry.load_locked(&tenant, &c).await.unwrap();
                5
            });
        }
        let all = async {
            while let Some(found) = asking.join_next().await {
                assert_eq!(found.unwrap(), 5);
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("they wait for each other");
    }
}
