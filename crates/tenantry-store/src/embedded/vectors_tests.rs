//! Named vectors on disk: what is left of them.

use super::{inner, lose, open, tenant};
use crate::{
    CollectionRef, Store,
    embedded::{
        Space,
        keys::{self, Decode as _, Prefix},
    },
};
use std::time::{Duration, Instant};
use tenantry_auth::{Admin, Scope};
use tenantry_types::{
    CollectionName, CollectionSpec, DatabaseName, ErrorKind, GetRequest, Include, QueryRequest,
    RecordId, RecordWrite, Selector, VectorName, VectorSpec, VectorStorage, WriteMode,
};

fn name(text: &str) -> VectorName {
    VectorName::parse(text).unwrap()
}

/// A collection with two named vectors and ten records, each with some of them.
async fn filled(store: &Store, scope: &Scope<Admin>, of: &str) -> CollectionRef {
    let database = store.database(scope, &DatabaseName::default_database()).await.unwrap();
    let half = VectorSpec { storage: VectorStorage::Half, ..VectorSpec::default() };
    let spec = CollectionSpec {
        vectors: [(name("a"), VectorSpec::default()), (name("b"), half)].into(),
        ..CollectionSpec::new(CollectionName::parse(of).unwrap())
    };
    let c = store.create_collection(scope, &database, &spec, false).await.unwrap().0;
    let one = |n: u8| RecordWrite {
        vector: n.is_multiple_of(2).then(|| vec![f32::from(n)]),
        vectors: [(name("a"), vec![1.0, f32::from(n)]), (name("b"), vec![f32::from(n); 3])]
            .into_iter()
            .filter(|(name, _)| n != 3 || name.as_str() == "b")
            .collect(),
        ..RecordWrite::new(RecordId::parse(n.to_string()).unwrap())
    };
    store.write(scope, &c, WriteMode::Upsert, (0..10).map(one).collect()).await.unwrap();
    c
}

/// All keys of the vector family of a tenant, in the whole database.
fn vectors(store: &Store, scope: &Scope<Admin>) -> Vec<keys::Vector> {
    let prefix = Prefix::of(scope.tenant());
    let db = inner(store).db().unwrap();
    db.scan(Space::Data, &keys::Vector::all(prefix), None)
        .map(|item| keys::Vector::decode(prefix, &item.unwrap().0).unwrap())
        .collect()
}

fn only(ids: &[&str]) -> Selector {
    let ids = ids.iter().map(|id| RecordId::parse(*id).unwrap()).collect();
    Selector { ids: Some(ids), filter: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_record_leaves_no_vector_behind() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let c = filled(&store, &scope, "c").await;
    let other = filled(&store, &scope, "other").await;
    assert_eq!(vectors(&store, &scope).len(), 2 * (5 + 9 + 10));
    let left = |of: &CollectionRef| {
        let number = of.info().number.0;
        vectors(&store, &scope).into_iter().filter(|key| key.collection == number).count()
    };
    // From disk, and once more with the collection in memory.
    assert_eq!(store.delete(&scope, &c, &only(&["0", "3"]), None).await.unwrap(), 2);
    assert_eq!(left(&c), 20);
    let request = QueryRequest {
        using: Some(name("a")),
        vectors: vec![vec![1.0, 0.0]],
        k: 1,
        ..QueryRequest::default()
    };
    store.query(&scope, &c, &request).await.unwrap();
    let rest: Vec<String> = (0..10).map(|n: u8| n.to_string()).collect();
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    assert_eq!(store.delete(&scope, &c, &only(&rest), None).await.unwrap(), 8);
    assert_eq!((left(&c), left(&other)), (0, 24));
    let hits = store.query(&scope, &c, &request).await.unwrap().value.hits;
    assert!(hits[0].is_empty());
    // With its collection, all of a record goes.
    store.delete_collection(&scope, &other).await.unwrap();
    let begun = Instant::now();
    while !vectors(&store, &scope).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the purger leaves vectors");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.close();
}

/// An answer never mixes what is in memory with another version on disk: if they cannot be brought
/// together, it is an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_gone_behind_everybodys_back_is_no_answer() {
    let (_dir, store) = open();
    let scope = tenant(&store).await;
    let c = filled(&store, &scope, "c").await;
    let request = QueryRequest {
        using: Some(name("b")),
        vectors: vec![vec![5.0; 3]],
        k: 3,
        include: Include { vectors: true, ..Include::default() },
        ..QueryRequest::default()
    };
    let hits = store.query(&scope, &c, &request).await.unwrap().value.hits;
    assert_eq!(hits[0][0].record.vectors[&name("b")], [5.0; 3]);
    let (collection, partition) = (c.info().number.0, 0);
    let key = keys::Body { collection, partition, ordinal: 5 }.encode(Prefix::of(scope.tenant()));
    lose(&store, key).await;
    let error = store.query(&scope, &c, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    // Others are answered.
    let get = GetRequest { select: only(&["6"]), include: request.include, ..Default::default() };
    let got = store.get(&scope, &c, &get).await.unwrap().value;
    assert_eq!(got[0].vectors[&name("a")], [1.0, 6.0]);
    store.close();
}
