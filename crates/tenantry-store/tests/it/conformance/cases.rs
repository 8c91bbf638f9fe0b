//! The cases. Each gets a store of its own.

use super::{UPSERT, World, all_parts, id, nearest, only, record, spec};
use std::{cell::Cell, sync::Arc};
use tenantry_auth::{Allowed, Authority, Credential, Read, Restriction, Role, Scope, Write};
use tenantry_store::{
    AuditEntry, AuditOutcome, ChainVerifier, CollectionRef, NewKey, TenantChange,
};
use tenantry_types::{
    CollectionChange, CollectionId, CollectionName, CollectionSpec, DatabaseName, Error, ErrorKind,
    Existing, FieldTest, Filter, GetRequest, Limits, Metadata, Metric, Missing, Order, Page,
    QueryRequest, RecordWrite, Result, Selector, TenantName, TenantSpec, TenantState, TextTest,
    Timestamp, Value, WriteMode,
};

fn name(text: &str) -> TenantName {
    TenantName::parse(text).expect("name")
}

fn database(text: &str) -> DatabaseName {
    DatabaseName::parse(text).expect("name")
}

fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.expect_err("this must fail").kind()
}

fn field(key: &str, test: FieldTest) -> Filter {
    Filter::Field { key: key.into(), test }
}

fn by(filter: Filter) -> Selector {
    Selector { ids: None, filter: Some(filter) }
}

pub(super) async fn tenants_live_and_die(w: &World<'_>) {
    let (one, _two) = (w.tenant("one").await, w.tenant("two").await);
    assert_eq!(
        kind(w.store.create_tenant(&w.operator, &TenantSpec::new(name("one"))).await),
        ErrorKind::AlreadyExists
    );
    let page = w.store.tenants(&w.operator, None, 1).await.unwrap();
    assert_eq!(page[0].name, name("one"));
    let rest = w.store.tenants(&w.operator, Some(&page[0].name), 10).await.unwrap();
    assert_eq!(rest.len(), 1);

    let change = TenantChange { name: Some(name("uno")), ..TenantChange::default() };
    w.store.change_tenant(&w.operator, &name("one"), &change).await.unwrap();
    assert!(w.store.find_tenant(&name("one")).await.unwrap().is_none());
    let found = w.store.find_tenant(&name("uno")).await.unwrap().unwrap();
    assert_eq!(found.id, one.tenant());
    let taken = TenantChange { name: Some(name("two")), ..TenantChange::default() };
    assert_eq!(
        kind(w.store.change_tenant(&w.operator, &name("uno"), &taken).await),
        ErrorKind::AlreadyExists
    );

    let state = Some(TenantState::Suspended);
    let suspend = TenantChange { state, ..TenantChange::default() };
    let info = w.store.change_tenant(&w.operator, &name("uno"), &suspend).await.unwrap();
    assert_eq!(info.state, TenantState::Suspended);

    w.store.delete_tenant(&w.operator, &name("uno")).await.unwrap();
    assert!(w.store.find_tenant(&name("uno")).await.unwrap().is_none());
    assert!(w.store.tenant_by_id(one.tenant()).await.unwrap().is_none());
    assert_eq!(kind(w.store.delete_tenant(&w.operator, &name("uno")).await), ErrorKind::NotFound);
    let again = w.tenant("uno").await;
    assert!(again.tenant() > one.tenant(), "a tenant id was reused");
}

pub(super) async fn tenant_names_are_data(w: &World<'_>) {
    let long = "é".repeat(256);
    for text in ["../", "a/b", "'; --", "\"q\"", "🦀", "tenant_user:user1", " ", long.as_str()] {
        let scope = w.tenant(text).await;
        let made = w.store.create_database(&scope, &database(text)).await.unwrap();
        let (c, new) = w.store.create_collection(&scope, &made, &spec(text), false).await.unwrap();
        assert!(new);
        w.store.write(&scope, &c, UPSERT, vec![record(text, 1.0, &[])]).await.unwrap();
        assert_eq!(w.ids(&scope, &c).await, [text]);
        assert_eq!(w.store.find_tenant(&name(text)).await.unwrap().unwrap().id, scope.tenant());
    }
}

pub(super) async fn two_creations_of_one_name_make_one_tenant(w: &World<'_>) {
    let spec = TenantSpec::new(name("same"));
    let (a, b, c) = tokio::join!(
        w.store.create_tenant(&w.operator, &spec),
        w.store.create_tenant(&w.operator, &spec),
        w.store.create_tenant(&w.operator, &spec),
    );
    let made = [a, b, c].into_iter().flatten().count();
    assert_eq!(made, 1);
    assert_eq!(w.store.tenants(&w.operator, None, 10).await.unwrap().len(), 1);
}

pub(super) async fn a_deleted_tenant_is_out_of_reach_of_old_scopes(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    w.store.query(&scope, &c, &nearest([1.0, 1.0], 1)).await.unwrap();
    w.store.delete_tenant(&w.operator, &name("t")).await.unwrap();
    assert_eq!(kind(w.store.get(&scope, &c, &GetRequest::default()).await), ErrorKind::NotFound);
    assert_eq!(kind(w.store.query(&scope, &c, &nearest([1.0, 1.0], 1)).await), ErrorKind::NotFound);
    assert_eq!(
        kind(w.store.write(&scope, &c, UPSERT, vec![record("b", 1.0, &[])]).await),
        ErrorKind::NotFound
    );
    let (again, c) = w.collection("t").await;
    assert!(w.ids(&again, &c).await.is_empty());
}

pub(super) async fn databases_come_and_go(w: &World<'_>) {
    let scope = w.tenant("t").await;
    for text in ["b", "a", "c"] {
        w.store.create_database(&scope, &database(text)).await.unwrap();
    }
    assert_eq!(
        kind(w.store.create_database(&scope, &database("a")).await),
        ErrorKind::AlreadyExists
    );
    let names = async |page: Page| {
        let found = w.store.databases(&scope, page).await.unwrap();
        found.iter().map(|d| d.info().name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(Page::default()).await, ["a", "b", "c", "default_database"]);
    assert_eq!(names(Page { limit: Some(2), offset: 1 }).await, ["b", "c"]);
    assert_eq!(names(Page { limit: Some(0), offset: 0 }).await, Vec::<String>::new());
    w.store.delete_database(&scope, &database("b")).await.unwrap();
    assert_eq!(kind(w.store.database(&scope, &database("b")).await), ErrorKind::NotFound);
    assert_eq!(kind(w.store.delete_database(&scope, &database("b")).await), ErrorKind::NotFound);
    let before = w.store.database(&scope, &database("a")).await.unwrap();
    w.store.delete_database(&scope, &database("a")).await.unwrap();
    let after = w.store.create_database(&scope, &database("a")).await.unwrap();
    assert_ne!(before.info().id, after.info().id);
    assert_eq!(
        kind(w.store.create_collection(&scope, &before, &spec("x"), false).await),
        ErrorKind::NotFound
    );
}

pub(super) async fn collections_come_and_go(w: &World<'_>) {
    let scope = w.tenant("t").await;
    let db = w.database(&scope).await;
    let (first, new) = w.store.create_collection(&scope, &db, &spec("x"), false).await.unwrap();
    assert!(new);
    assert_eq!(
        kind(w.store.create_collection(&scope, &db, &spec("x"), false).await),
        ErrorKind::AlreadyExists
    );
    let mut other = spec("x");
    other.metric = Metric::Cosine;
    let (again, new) = w.store.create_collection(&scope, &db, &other, true).await.unwrap();
    assert!(!new);
    assert_eq!(again.info(), first.info());
    w.store.create_collection(&scope, &db, &spec("a"), true).await.unwrap();
    assert_eq!(w.store.count_collections(&scope, &db).await.unwrap(), 2);
    let listed = w.store.collections(&scope, &db, Page::default()).await.unwrap();
    let names: Vec<_> = listed.iter().map(|c| c.info().name.as_str().to_owned()).collect();
    assert_eq!(names, ["a", "x"]);
    let id = first.info().id;
    assert_eq!(w.store.collection_by_id(&scope, &db, id).await.unwrap().info().name.as_str(), "x");
    let elsewhere = w.store.create_database(&scope, &database("d2")).await.unwrap();
    assert_eq!(kind(w.store.collection_by_id(&scope, &elsewhere, id).await), ErrorKind::NotFound);
    w.store.write(&scope, &first, UPSERT, vec![record("r", 1.0, &[])]).await.unwrap();
    w.store.delete_collection(&scope, &first).await.unwrap();
    for outcome in [
        w.store.collection(&scope, &db, &CollectionName::parse("x").unwrap()).await.map(|_| ()),
        w.store.collection_by_id(&scope, &db, id).await.map(|_| ()),
        w.store.get(&scope, &first, &GetRequest::default()).await.map(|_| ()),
        w.store.query(&scope, &first, &nearest([1.0, 1.0], 1)).await.map(|_| ()),
        w.store.write(&scope, &first, UPSERT, vec![record("r", 1.0, &[])]).await.map(|_| ()),
        w.store.delete(&scope, &first, &only(&["r"]), None).await.map(|_| ()),
        w.store.delete_collection(&scope, &first).await,
    ] {
        assert_eq!(kind(outcome), ErrorKind::NotFound);
    }
    let (second, _) = w.store.create_collection(&scope, &db, &spec("x"), false).await.unwrap();
    assert_ne!(second.info().id, id);
    assert!(w.ids(&scope, &second).await.is_empty());
}

pub(super) async fn a_collection_changes_and_keeps_its_id(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let db = w.database(&scope).await;
    w.store.create_collection(&scope, &db, &spec("taken"), false).await.unwrap();
    let rename = |to: &str| CollectionChange {
        name: Some(CollectionName::parse(to).unwrap()),
        ..CollectionChange::default()
    };
    assert_eq!(
        kind(w.store.change_collection(&scope, &c, &rename("taken")).await),
        ErrorKind::AlreadyExists
    );
    let mut change = rename("new");
    let metadata: Metadata = [("k".to_owned(), Value::Float(1.0))].into();
    change.metadata = Some(Some(metadata.clone()));
    change.attributes.insert("a".into(), "1".into());
    let changed = w.store.change_collection(&scope, &c, &change).await.unwrap();
    assert_eq!(changed.info().id, c.info().id);
    assert_eq!(changed.info().metadata, Some(metadata));
    let found = w.store.collection(&scope, &db, &changed.info().name).await.unwrap();
    assert_eq!(found.info(), changed.info());
    assert_eq!(kind(w.store.collection(&scope, &db, &c.info().name).await), ErrorKind::NotFound);
    w.store.create_collection(&scope, &db, &spec("c"), false).await.unwrap();
}

pub(super) async fn deleting_a_database_deletes_its_collections(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    w.store.delete_database(&scope, &DatabaseName::default_database()).await.unwrap();
    assert_eq!(kind(w.store.get(&scope, &c, &GetRequest::default()).await), ErrorKind::NotFound);
    let db = w.store.create_database(&scope, &DatabaseName::default_database()).await.unwrap();
    assert_eq!(w.store.count_collections(&scope, &db).await.unwrap(), 0);
    let (c, _) = w.store.create_collection(&scope, &db, &spec("c"), false).await.unwrap();
    assert!(w.ids(&scope, &c).await.is_empty());
}

pub(super) async fn writing_modes_do_what_they_say(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let write = |mode, records| w.store.write(&scope, &c, mode, records);
    let first = write(WriteMode::Add(Existing::Fail), vec![record("a", 1.0, &[])]).await.unwrap();
    assert_eq!((first.inserted, first.updated, first.skipped), (1, 0, 0));
    let both = || vec![record("a", 9.0, &[]), record("b", 2.0, &[])];
    assert_eq!(kind(write(WriteMode::Add(Existing::Fail), both()).await), ErrorKind::AlreadyExists);
    let skip = write(WriteMode::Add(Existing::Skip), both()).await.unwrap();
    assert_eq!((skip.inserted, skip.updated, skip.skipped), (1, 0, 1));
    let upsert = write(UPSERT, vec![record("b", 3.0, &[]), record("c", 4.0, &[])]).await.unwrap();
    assert_eq!((upsert.inserted, upsert.updated, upsert.skipped), (1, 1, 0));
    let two = || vec![record("c", 5.0, &[]), record("zz", 6.0, &[])];
    assert_eq!(kind(write(WriteMode::Update(Missing::Fail), two()).await), ErrorKind::NotFound);
    let update = write(WriteMode::Update(Missing::Skip), two()).await.unwrap();
    assert_eq!((update.inserted, update.updated, update.skipped), (0, 1, 1));
    let none = write(WriteMode::Update(Missing::Skip), vec![record("zz", 6.0, &[])]).await.unwrap();
    assert_eq!(none.version, 0);
    let request = GetRequest { include: all_parts(), ..GetRequest::default() };
    let got = w.store.get(&scope, &c, &request).await.unwrap().value;
    let xs: Vec<_> = got.iter().map(|r| (r.id.as_str(), r.vector.clone().unwrap()[1])).collect();
    assert_eq!(xs, [("a", 1.0), ("b", 3.0), ("c", 5.0)]);
    assert_eq!(w.store.count(&scope, &c, &Selector::default()).await.unwrap().value, 3);
}

pub(super) async fn a_batch_is_atomic(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    let mut wrong = record("c", 1.0, &[]);
    wrong.vector = Some(vec![1.0, 2.0, 3.0]);
    let batch = vec![record("b", 2.0, &[]), wrong];
    assert_eq!(kind(w.store.write(&scope, &c, UPSERT, batch).await), ErrorKind::Invalid);
    assert_eq!(w.ids(&scope, &c).await, ["a"]);
    assert_eq!(w.store.count(&scope, &c, &Selector::default()).await.unwrap().value, 1);
    let hits = w.store.query(&scope, &c, &nearest([1.0, 2.0], 10)).await.unwrap().value.hits;
    assert_eq!(hits[0].len(), 1);
}

pub(super) async fn metadata_merges_by_key(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let kinds = [
        ("bool", Value::Bool(true)),
        ("float", Value::Float(1.0)),
        ("int", Value::Int(i64::MIN)),
        ("list", Value::List(vec![Value::Int(2), Value::Int(1), Value::Int(2)])),
        ("text", Value::Str("é\u{0}\n".into())),
    ];
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &kinds)]).await.unwrap();
    let read = async || {
        let request = GetRequest { include: all_parts(), ..GetRequest::default() };
        w.store.get(&scope, &c, &request).await.unwrap().value.remove(0)
    };
    let expected: Metadata = kinds.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    assert_eq!(read().await.metadata, Some(expected.into()));
    let mut patch = RecordWrite {
        uri: Some("u".into()),
        metadata: [("int".to_owned(), None), ("text".to_owned(), Some(Value::Int(1)))].into(),
        ..RecordWrite::new(id("a"))
    };
    w.store.write(&scope, &c, UPSERT, vec![patch.clone()]).await.unwrap();
    let now = read().await;
    let metadata = now.metadata.unwrap();
    assert!(!metadata.contains_key("int"));
    assert_eq!(metadata["text"], Value::Int(1));
    assert_eq!(metadata.len(), 4);
    assert_eq!(now.vector, Some(vec![1.0, 1.0]));
    assert_eq!(now.document.as_deref(), Some("text of a"));
    assert_eq!(now.uri.as_deref(), Some("u"));
    patch.metadata = metadata.keys().map(|k| (k.clone(), None)).collect();
    patch.document = Some(String::new());
    w.store.write(&scope, &c, UPSERT, vec![patch]).await.unwrap();
    let now = read().await;
    assert_eq!(now.metadata, None);
    assert_eq!(now.document.as_deref(), Some(""));
}

pub(super) async fn order_is_the_order_of_insertion(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let rank = |n: i64| [("n", Value::Int(n))];
    for (name, n) in [("z", 2), ("a", 3), ("m", 1)] {
        w.store.write(&scope, &c, UPSERT, vec![record(name, 1.0, &rank(n))]).await.unwrap();
    }
    w.store.write(&scope, &c, UPSERT, vec![record("z", 5.0, &[])]).await.unwrap();
    assert_eq!(w.ids(&scope, &c).await, ["z", "a", "m"]);
    w.store.delete(&scope, &c, &only(&["z"]), None).await.unwrap();
    w.store.write(&scope, &c, UPSERT, vec![record("z", 1.0, &[])]).await.unwrap();
    assert_eq!(w.ids(&scope, &c).await, ["a", "m", "z"]);
    let ordered = async |order: Order, page: Page| {
        let request = GetRequest { order, page, ..GetRequest::default() };
        let got = w.store.get(&scope, &c, &request).await.unwrap().value;
        got.into_iter().map(|r| r.id.into_string()).collect::<Vec<_>>()
    };
    let key = |descending| Order::Key { key: "n".into(), descending };
    assert_eq!(ordered(Order::Id, Page::default()).await, ["a", "m", "z"]);
    assert_eq!(ordered(key(false), Page::default()).await, ["m", "a", "z"]);
    assert_eq!(ordered(key(true), Page::default()).await, ["a", "m", "z"]);
    assert_eq!(ordered(Order::Insertion, Page { limit: Some(1), offset: 1 }).await, ["m"]);
    assert_eq!(ordered(key(false), Page { limit: Some(5), offset: 2 }).await, ["z"]);
}

pub(super) async fn gets_are_the_same_cold_and_hot(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let batch = (0..20).map(|n| record(&format!("r{n}"), n as f32, &[])).collect();
    w.store.write(&scope, &c, UPSERT, batch).await.unwrap();
    w.store.delete(&scope, &c, &only(&["r3"]), None).await.unwrap();
    let requests = [
        GetRequest {
            select: only(&["r7", "none", "r3", "r1", "r7"]),
            include: all_parts(),
            ..GetRequest::default()
        },
        GetRequest {
            page: Page { limit: Some(4), offset: 2 },
            include: all_parts(),
            ..GetRequest::default()
        },
        GetRequest {
            select: only(&["r7", "r1", "r9"]),
            page: Page { limit: Some(1), offset: 1 },
            ..GetRequest::default()
        },
    ];
    let mut cold = Vec::new();
    for request in &requests {
        cold.push(w.store.get(&scope, &c, request).await.unwrap().value);
    }
    w.store.query(&scope, &c, &nearest([1.0, 0.0], 1)).await.unwrap();
    for (request, cold) in requests.iter().zip(cold) {
        let hot = w.store.get(&scope, &c, request).await.unwrap().value;
        assert_eq!(hot, cold);
    }
}

pub(super) async fn filters_select(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let batch =
        (0..10).map(|n| record(&format!("r{n}"), n as f32, &[("n", Value::Int(n))])).collect();
    w.store.write(&scope, &c, UPSERT, batch).await.unwrap();
    let found = async |filter: Filter| {
        let request = GetRequest { select: by(filter.clone()), ..GetRequest::default() };
        let got = w.store.get(&scope, &c, &request).await.unwrap().value.len();
        assert_eq!(w.store.count(&scope, &c, &by(filter.clone())).await.unwrap().value, got);
        let mut query = nearest([1.0, 0.0], 100);
        query.select = by(filter);
        assert_eq!(w.store.query(&scope, &c, &query).await.unwrap().value.hits[0].len(), got);
        got
    };
    assert_eq!(found(field("n", FieldTest::Gte(Value::Float(6.5)))).await, 3);
    assert_eq!(found(field("n", FieldTest::Ne(Value::Int(1)))).await, 9);
    assert_eq!(found(field("none", FieldTest::Ne(Value::Int(1)))).await, 10);
    assert_eq!(found(field("n", FieldTest::In(vec![Value::Int(1), Value::Int(2)]))).await, 2);
    assert_eq!(found(Filter::Text(TextTest::Contains("r7".into()))).await, 1);
    assert_eq!(found(Filter::Text(TextTest::Regex("r[0-4]$".into()))).await, 5);
    let bad = by(Filter::Text(TextTest::Regex("(".into())));
    assert_eq!(kind(w.store.count(&scope, &c, &bad).await), ErrorKind::Invalid);
}

pub(super) async fn queries_find_the_nearest(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    assert_eq!(w.store.query(&scope, &c, &nearest([1.0, 1.0], 3)).await.unwrap().value.hits, [[]]);
    let batch = (0..50).map(|n| record(&format!("r{n}"), n as f32, &[])).collect();
    w.store.write(&scope, &c, UPSERT, batch).await.unwrap();
    let mut no_vector = record("text only", 0.0, &[]);
    no_vector.vector = None;
    w.store.write(&scope, &c, UPSERT, vec![no_vector]).await.unwrap();
    let names = async |request: QueryRequest| {
        let hits = w.store.query(&scope, &c, &request).await.unwrap().value.hits;
        hits.into_iter()
            .map(|one| {
                one.into_iter().map(|h| (h.record.id.into_string(), h.distance)).collect::<Vec<_>>()
            })
            .collect::<Vec<_>>()
    };
    let mut request = nearest([1.0, 10.2], 3);
    request.vectors.push(vec![1.0, 49.0]);
    let answers = names(request).await;
    let ids = |n: usize| answers[n].iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>();
    assert_eq!(ids(0), ["r10", "r11", "r9"]);
    assert_eq!(ids(1), ["r49", "r48", "r47"]);
    assert!((answers[1][1].1 - 1.0).abs() < 1e-6);
}

pub(super) async fn deletes_select(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let batch = (0..10)
        .map(|n| record(&format!("r{n}"), n as f32, &[("odd", Value::Bool(n % 2 == 1))]))
        .collect();
    w.store.write(&scope, &c, UPSERT, batch).await.unwrap();
    let delete = async |select: Selector, limit: Option<usize>| {
        w.store.delete(&scope, &c, &select, limit).await.unwrap()
    };
    assert_eq!(delete(only(&["r1", "none", "r1"]), None).await, 1);
    assert_eq!(delete(only(&["r1"]), None).await, 0);
    let odd = by(field("odd", FieldTest::Eq(Value::Bool(true))));
    assert_eq!(delete(odd.clone(), Some(2)).await, 2);
    let mut both = odd.clone();
    both.ids = Some(vec![id("r7"), id("r2")]);
    assert_eq!(delete(both, None).await, 1);
    assert_eq!(delete(odd, None).await, 1);
}

pub(super) async fn every_commit_grows_the_version(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let mut last = 0;
    for n in 0..5 {
        let write = vec![record("a", n as f32, &[])];
        let version = w.store.write(&scope, &c, UPSERT, write).await.unwrap().version;
        assert!(version > last);
        last = version;
        let got = w.store.get(&scope, &c, &GetRequest::default()).await.unwrap().value;
        assert_eq!(got[0].version, version);
    }
}

pub(super) async fn the_dimension_is_set_once(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let db = w.database(&scope).await;
    let dimension =
        async || w.store.collection(&scope, &db, &c.info().name).await.unwrap().info().dimension;
    assert_eq!(dimension().await, None);
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    assert_eq!(dimension().await, Some(2));
    w.store.delete(&scope, &c, &only(&["a"]), None).await.unwrap();
    let mut other = record("b", 1.0, &[]);
    other.vector = Some(vec![1.0; 3]);
    assert_eq!(kind(w.store.write(&scope, &c, UPSERT, vec![other]).await), ErrorKind::Invalid);
    w.store.write(&scope, &c, UPSERT, vec![record("b", 1.0, &[])]).await.unwrap();
    let mut query = nearest([1.0, 1.0], 1);
    query.vectors = vec![vec![1.0; 3]];
    assert_eq!(kind(w.store.query(&scope, &c, &query).await), ErrorKind::Invalid);
}

pub(super) async fn things_of_another_tenant_do_not_exist(w: &World<'_>) {
    let (a, of_a) = w.collection("a").await;
    let (b, of_b) = w.collection("b").await;
    w.store.write(&b, &of_b, UPSERT, vec![record("secret", 1.0, &[])]).await.unwrap();
    w.store.query(&b, &of_b, &nearest([1.0, 1.0], 1)).await.unwrap();
    let db_b = w.database(&b).await;
    let db_a = w.database(&a).await;
    let id_b = of_b.info().id;
    let attempts: Vec<Result<()>> = vec![
        w.store.get(&a, &of_b, &GetRequest::default()).await.map(drop),
        w.store
            .get(&a, &of_b, &GetRequest { select: only(&["secret"]), ..Default::default() })
            .await
            .map(drop),
        w.store.count(&a, &of_b, &Selector::default()).await.map(drop),
        w.store.query(&a, &of_b, &nearest([1.0, 1.0], 1)).await.map(drop),
        w.store.write(&a, &of_b, UPSERT, vec![record("x", 1.0, &[])]).await.map(drop),
        w.store.delete(&a, &of_b, &only(&["secret"]), None).await.map(drop),
        w.store.change_collection(&a, &of_b, &CollectionChange::default()).await.map(drop),
        w.store.delete_collection(&a, &of_b).await,
        w.store.collections(&a, &db_b, Page::default()).await.map(drop),
        w.store.count_collections(&a, &db_b).await.map(drop),
        w.store.collection(&a, &db_b, &of_b.info().name).await.map(drop),
        w.store.collection_by_id(&a, &db_b, id_b).await.map(drop),
        w.store.create_collection(&a, &db_b, &spec("x"), false).await.map(drop),
        w.store.collection_by_id(&a, &db_a, id_b).await.map(drop),
    ];
    for attempt in attempts {
        assert_eq!(kind(attempt), ErrorKind::NotFound);
    }
    let missing = CollectionId([7; 16]);
    let text = |e: Error| {
        e.to_string().replace(&id_b.to_string(), "ID").replace(&missing.to_string(), "ID")
    };
    assert_eq!(
        text(w.store.collection_by_id(&a, &db_a, id_b).await.unwrap_err()),
        text(w.store.collection_by_id(&a, &db_a, missing).await.unwrap_err()),
    );
    assert_ne!(of_a.info().id, of_b.info().id, "ids of two tenants' first collections differ");
    assert_eq!(w.ids(&b, &of_b).await, ["secret"]);
    assert!(w.ids(&a, &of_a).await.is_empty());
    let origin = w.store.get(&b, &of_b, &GetRequest::default()).await.unwrap().origin;
    assert_eq!(origin.tenant, b.tenant());
}

pub(super) async fn limits_hold_where_the_write_commits(w: &World<'_>) {
    let mut tight = TenantSpec::new(name("t"));
    tight.limits = Limits {
        databases: 2,
        collections: 1,
        records_per_collection: 3,
        keys: 1,
        users: 1,
        vector_dimensions: 2,
    };
    let scope = w.scope(w.store.create_tenant(&w.operator, &tight).await.unwrap().id);
    w.store.create_database(&scope, &database("d")).await.unwrap();
    assert_eq!(
        kind(w.store.create_database(&scope, &database("e")).await),
        ErrorKind::LimitExceeded
    );
    let db = w.database(&scope).await;
    let (c, _) = w.store.create_collection(&scope, &db, &spec("c"), false).await.unwrap();
    assert_eq!(
        kind(w.store.create_collection(&scope, &db, &spec("d"), false).await),
        ErrorKind::LimitExceeded
    );
    let batch = |n: usize| (0..n).map(|i| record(&format!("r{i}"), 1.0, &[])).collect::<Vec<_>>();
    assert_eq!(kind(w.store.write(&scope, &c, UPSERT, batch(4)).await), ErrorKind::LimitExceeded);
    w.store.write(&scope, &c, UPSERT, batch(3)).await.unwrap();
    w.store.write(&scope, &c, UPSERT, batch(3)).await.unwrap();
    let wide = |dimension| CollectionSpec { dimension: Some(dimension), ..spec("d") };
    w.store.delete_collection(&scope, &c).await.unwrap();
    let made = w.store.create_collection(&scope, &db, &wide(3), false).await;
    assert_eq!(kind(made), ErrorKind::LimitExceeded);
    let (c, _) = w.store.create_collection(&scope, &db, &wide(2), false).await.unwrap();
    w.store.create_key(&scope, new_key(Role::Read, Restriction::default())).await.unwrap();
    assert_eq!(
        kind(w.store.create_key(&scope, new_key(Role::Read, Restriction::default())).await),
        ErrorKind::LimitExceeded
    );
    w.store.delete_collection(&scope, &c).await.unwrap();
    w.store.create_collection(&scope, &db, &spec("d"), false).await.unwrap();
}

fn new_key(role: Role, restriction: Restriction) -> NewKey {
    NewKey { role, restriction, label: "test".into(), expires_at: None }
}

/// The scope that a new key of this tenant gives.
async fn scope_of<L: tenantry_auth::Level>(
    w: &World<'_>,
    admin: &Scope<tenantry_auth::Admin>,
    key: NewKey,
) -> Scope<L> {
    let (_, key) = w.store.create_key(admin, key).await.unwrap();
    let authority = Authority::new();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    authority.authorize(&who, admin.tenant(), "t").unwrap()
}

pub(super) async fn keys_are_found_until_revoked(w: &World<'_>) {
    let (scope, _) = w.collection("t").await;
    let (other_tenant, _) = w.collection("u").await;
    let authority = Authority::new();
    let mut wanted = new_key(Role::Write, Restriction::default());
    wanted.expires_at = Some(Timestamp(1_000));
    let (row, key) = w.store.create_key(&scope, wanted).await.unwrap();
    let at = |now| authority.authenticate(Credential::Key(key.clone()), w.store, Timestamp(now));
    let who = at(999).await.unwrap();
    assert_eq!(who.tenant(), Some(scope.tenant()));
    assert!(authority.authorize::<Write>(&who, scope.tenant(), "t").is_ok());
    assert_eq!(
        kind(authority.authorize::<tenantry_auth::Admin>(&who, scope.tenant(), "t")),
        ErrorKind::Denied
    );
    assert_eq!(
        kind(authority.authorize::<Read>(&who, other_tenant.tenant(), "u")),
        ErrorKind::NotFound
    );
    assert_eq!(kind(at(1_000).await), ErrorKind::Unauthenticated);
    assert_eq!(w.store.keys(&scope).await.unwrap(), std::slice::from_ref(&row));
    assert_eq!(kind(w.store.revoke_key(&other_tenant, row.id).await), ErrorKind::NotFound);
    w.store.revoke_key(&scope, row.id).await.unwrap();
    assert_eq!(kind(at(1).await), ErrorKind::Unauthenticated);
    assert_eq!(kind(w.store.revoke_key(&scope, row.id).await), ErrorKind::NotFound);

    let (row, key) = w.store.create_operator_key(&w.operator, false, "op", None).await.unwrap();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    assert!(authority.authorize_operator(&who).is_ok());
    assert_eq!(kind(authority.authorize::<Read>(&who, scope.tenant(), "t")), ErrorKind::Denied);
    assert_eq!(w.store.operator_keys(&w.operator).await.unwrap(), std::slice::from_ref(&row));
    assert_eq!(kind(w.store.revoke_key(&scope, row.id).await), ErrorKind::NotFound);
    w.store.revoke_operator_key(&w.operator, row.id).await.unwrap();
    assert!(w.store.operator_keys(&w.operator).await.unwrap().is_empty());
}

/// A request may be held open between its headers and its body; its scope is older than the
/// revocation then.
pub(super) async fn a_right_that_was_taken_away_stops_at_its_next_use(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    w.store.write(&admin, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    let authority = Authority::new();
    let (row, key) =
        w.store.create_key(&admin, new_key(Role::Admin, Restriction::default())).await.unwrap();
    let (other, _) =
        w.store.create_key(&admin, new_key(Role::Admin, Restriction::default())).await.unwrap();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    let scope: Scope<tenantry_auth::Admin> =
        authority.authorize(&who, admin.tenant(), "t").unwrap();
    // Another key's revocation makes it look again, and changes nothing.
    w.store.revoke_key(&admin, other.id).await.unwrap();
    w.store.write(&scope, &c, UPSERT, vec![record("b", 1.0, &[])]).await.unwrap();

    let set_state = async |state: TenantState| {
        let change = TenantChange { state: Some(state), ..TenantChange::default() };
        w.store.change_tenant(&w.operator, &name("t"), &change).await.unwrap();
    };
    set_state(TenantState::Suspended).await;
    assert_eq!(kind(w.store.get(&scope, &c, &GetRequest::default()).await), ErrorKind::Suspended);
    set_state(TenantState::Active).await;
    w.store.get(&scope, &c, &GetRequest::default()).await.unwrap();

    w.store.revoke_key(&admin, row.id).await.unwrap();
    let db = w.database(&admin).await;
    let write = vec![record("c", 1.0, &[])];
    for outcome in [
        w.store.get(&scope, &c, &GetRequest::default()).await.map(drop),
        w.store.query(&scope, &c, &nearest([1.0, 1.0], 1)).await.map(drop),
        w.store.count(&scope, &c, &Selector::default()).await.map(drop),
        w.store.write(&scope, &c, UPSERT, write).await.map(drop),
        w.store.delete(&scope, &c, &only(&["a"]), None).await.map(drop),
        w.store.create_database(&scope, &database("x")).await.map(drop),
        w.store.create_collection(&scope, &db, &spec("x"), false).await.map(drop),
        w.store.create_key(&scope, new_key(Role::Admin, Restriction::default())).await.map(drop),
        w.store.keys(&scope).await.map(drop),
        w.store.audit(&scope, 0, 1).await.map(drop),
    ] {
        assert_eq!(kind(outcome), ErrorKind::Unauthenticated);
    }

    let (row, key) = w.store.create_operator_key(&w.operator, true, "op", None).await.unwrap();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    let operator = authority.authorize_operator(&who).unwrap();
    w.store.revoke_operator_key(&w.operator, row.id).await.unwrap();
    for outcome in [
        w.store.create_operator_key(&operator, true, "again", None).await.map(drop),
        w.store.create_tenant(&operator, &TenantSpec::new(name("x"))).await.map(drop),
        w.store.delete_tenant(&operator, &name("t")).await,
        w.store.tenants(&operator, None, 1).await.map(drop),
    ] {
        assert_eq!(kind(outcome), ErrorKind::Unauthenticated);
    }
}

pub(super) async fn an_answer_has_a_largest_size(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    let mut large = record("large", 1.0, &[]);
    large.document = Some("x".repeat(1 << 20));
    w.store.write(&scope, &c, UPSERT, vec![large]).await.unwrap();
    let mut query = nearest([1.0, 1.0], 1);
    query.vectors = vec![vec![1.0, 1.0]; 1_000];
    assert_eq!(kind(w.store.query(&scope, &c, &query).await), ErrorKind::TooLarge);
    query.include.document = false;
    assert_eq!(w.store.query(&scope, &c, &query).await.unwrap().value.hits.len(), 1_000);
    let batch = |from: usize| {
        (from..from + 10)
            .map(|n| {
                let mut one = record(&format!("r{n}"), 1.0, &[]);
                one.document = Some("x".repeat(1 << 20));
                one
            })
            .collect::<Vec<_>>()
    };
    for from in (0..70).step_by(10) {
        w.store.write(&scope, &c, UPSERT, batch(from)).await.unwrap();
    }
    // From disk, since a limit of few records is answered there when nothing is in memory.
    let page = Page { limit: Some(100), offset: 0 };
    let request = GetRequest { page, include: all_parts(), ..GetRequest::default() };
    assert_eq!(kind(w.store.get(&scope, &c, &request).await), ErrorKind::TooLarge);
    assert_eq!(w.ids(&scope, &c).await.len(), 71);
}

pub(super) async fn limited_scopes_see_only_their_objects(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let db = w.database(&admin).await;
    let (other, _) = w.store.create_collection(&admin, &db, &spec("other"), false).await.unwrap();
    let hidden = w.store.create_database(&admin, &database("hidden")).await.unwrap();
    let objects = Some(vec![Allowed::Collection(c.info().database, c.info().number)].into());
    let limited: Scope<Write> =
        scope_of(w, &admin, new_key(Role::Write, Restriction { objects, filter: None })).await;
    assert_eq!(w.store.databases(&limited, Page::default()).await.unwrap().len(), 1);
    assert_eq!(w.store.count_collections(&limited, &db).await.unwrap(), 1);
    assert_eq!(w.store.collections(&limited, &db, Page::default()).await.unwrap().len(), 1);
    w.store.write(&limited, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    assert_eq!(kind(w.store.database(&limited, &hidden.info().name).await), ErrorKind::NotFound);
    assert_eq!(
        kind(w.store.collection(&limited, &db, &other.info().name).await),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(w.store.collection_by_id(&limited, &db, other.info().id).await),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(w.store.get(&limited, &other, &GetRequest::default()).await),
        ErrorKind::NotFound
    );
    assert_eq!(
        kind(w.store.create_collection(&limited, &db, &spec("mine"), false).await),
        ErrorKind::Denied
    );
    let objects = Some(vec![Allowed::Database(db.info().number)].into());
    let restriction = Restriction { objects, filter: None };
    let admin_of_one: Scope<tenantry_auth::Admin> =
        scope_of(w, &admin, new_key(Role::Admin, restriction)).await;
    assert_eq!(w.store.count_collections(&admin_of_one, &db).await.unwrap(), 2);
    w.store.create_collection(&admin_of_one, &db, &spec("more"), false).await.unwrap();
    for outcome in [
        w.store.create_database(&admin_of_one, &database("x")).await.map(drop),
        w.store.delete_database(&admin_of_one, &db.info().name).await,
        w.store.keys(&admin_of_one).await.map(drop),
        w.store.audit(&admin_of_one, 0, 10).await.map(drop),
        w.store
            .create_key(&admin_of_one, new_key(Role::Admin, Restriction::default()))
            .await
            .map(drop),
    ] {
        assert_eq!(kind(outcome), ErrorKind::Denied);
    }
}

pub(super) async fn a_bound_filter_holds_on_every_path(w: &World<'_>) {
    let (admin, c) = w.collection("t").await;
    let user = |n: &str| [("user", Value::Str(n.into()))];
    let batch = vec![
        record("mine", 1.0, &user("a")),
        record("theirs", 1.0, &user("b")),
        record("mine too", 2.0, &user("a")),
    ];
    w.store.write(&admin, &c, UPSERT, batch).await.unwrap();
    let filter = Some(field("user", FieldTest::Eq(Value::Str("a".into()))));
    let key = new_key(Role::Write, Restriction { objects: None, filter });
    let bound: Scope<Write> = scope_of(w, &admin, key).await;
    check_bound_reads(w, &bound, &c).await;

    let write = |mode, record| w.store.write(&bound, &c, mode, vec![record]);
    assert_eq!(kind(write(UPSERT, record("new", 1.0, &user("b"))).await), ErrorKind::Denied);
    assert_eq!(kind(write(UPSERT, record("new", 1.0, &[])).await), ErrorKind::Denied);
    assert_eq!(kind(write(UPSERT, record("mine", 1.0, &user("b"))).await), ErrorKind::Denied);
    assert_eq!(
        kind(write(UPSERT, record("theirs", 9.0, &user("a"))).await),
        ErrorKind::AlreadyExists
    );
    let update = write(WriteMode::Update(Missing::Skip), record("theirs", 9.0, &[])).await;
    assert_eq!(update.unwrap().skipped, 1);
    assert_eq!(w.store.delete(&bound, &c, &only(&["theirs", "mine"]), None).await.unwrap(), 1);
    write(UPSERT, record("new", 1.0, &user("a"))).await.unwrap();
    assert_eq!(kind(w.store.delete_collection(&bound, &c).await), ErrorKind::Denied);
    assert_eq!(w.ids(&admin, &c).await, ["theirs", "mine too", "new"]);
}

async fn check_bound_reads(w: &World<'_>, bound: &Scope<Write>, c: &CollectionRef) {
    let got = w.store.get(bound, c, &GetRequest::default()).await.unwrap().value;
    assert_eq!(got.len(), 2);
    let by_id = GetRequest { select: only(&["theirs"]), ..GetRequest::default() };
    assert!(w.store.get(bound, c, &by_id).await.unwrap().value.is_empty());
    assert_eq!(w.store.count(bound, c, &Selector::default()).await.unwrap().value, 2);
    let everyone = by(field("none", FieldTest::Ne(Value::Int(0))));
    assert_eq!(w.store.count(bound, c, &everyone).await.unwrap().value, 2);
    let hits = w.store.query(bound, c, &nearest([1.0, 1.0], 10)).await.unwrap().value.hits;
    assert_eq!(hits[0].len(), 2);
}

pub(super) async fn audit_chains_verify(w: &World<'_>) {
    let (scope, c) = w.collection("t").await;
    w.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
    w.store.delete(&scope, &c, &only(&["a"]), None).await.unwrap();
    let system = w.authority.system("test");
    let event = tenantry_store::AuditEvent {
        actor: "key:x".into(),
        action: "session".into(),
        target: "t".into(),
        outcome: AuditOutcome::Refused(ErrorKind::Denied),
        count: 3,
    };
    let note = || vec![(scope.tenant(), event.clone().into())];
    assert!(w.store.append_audit(&system, note()).await.unwrap());
    let log = w.store.audit(&scope, 0, 100).await.unwrap();
    let actions: Vec<_> = log.iter().map(|e| e.event.action.as_str()).collect();
    assert_eq!(
        actions,
        ["tenant.create", "collection.create", "records.upsert", "records.delete", "session"]
    );
    assert_eq!(log[4].event, event);
    let origin = |log: &[AuditEntry]| {
        let mut chain = ChainVerifier::new();
        for entry in log {
            chain.follow(entry).unwrap();
        }
        *chain.origin().expect("entries of version 2")
    };
    let own = origin(&log);
    assert!(log.iter().all(|entry| entry.bound.as_ref().is_some_and(|b| b.origin == own)));
    let (other, _) = w.collection("other").await;
    assert_ne!(origin(&w.store.audit(&other, 0, 100).await.unwrap()), own);
    assert_ne!(origin(&w.store.operator_audit(&w.operator, 0, 100).await.unwrap()), own);
    assert_eq!(w.store.audit(&scope, 3, 1).await.unwrap(), log[3..4]);
    w.store.delete_tenant(&w.operator, &name("t")).await.unwrap();
    let log = w.store.operator_audit(&w.operator, 0, 100).await.unwrap();
    assert_eq!(log.last().unwrap().event.action, "tenant.delete");
    assert!(!w.store.append_audit(&system, note()).await.unwrap(), "it is said to be written");
}

pub(super) async fn many_writers_at_once_lose_nothing(w: &World<'_>) {
    let mut places = Vec::new();
    for n in 0..8 {
        places.push(Arc::new(w.collection(&format!("t{n}")).await));
    }
    let writes = places.iter().flat_map(|place| {
        (0..10).map(move |n| {
            let place = Arc::clone(place);
            async move {
                let batch = vec![record(&format!("r{n}"), n as f32, &[])];
                w.store.write(&place.0, &place.1, UPSERT, batch).await.unwrap();
                w.store.query(&place.0, &place.1, &nearest([1.0, 1.0], 5)).await.unwrap();
            }
        })
    });
    join_all(writes.collect()).await;
    for place in places {
        let mut ids = w.ids(&place.0, &place.1).await;
        ids.sort();
        assert_eq!(ids.len(), 10);
        let hits = w.store.query(&place.0, &place.1, &nearest([1.0, 1.0], 100)).await.unwrap();
        assert_eq!(hits.value.hits[0].len(), 10);
        let log = w.store.audit(&place.0, 0, 100).await.unwrap();
        assert_eq!(log.len(), 12);
    }
}

/// Runs futures concurrently on this task.
pub(super) async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut pending: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|cx| {
        pending.retain_mut(|future| future.as_mut().poll(cx).is_pending());
        if pending.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

pub(crate) async fn an_operator_who_waits_is_looked_at_again(w: &World<'_>) {
    w.tenant("t").await;
    let (row, key) = w.store.create_operator_key(&w.operator, true, "op", None).await.unwrap();
    let authority = Authority::new();
    let who = authority.authenticate(Credential::Key(key), w.store, Timestamp(0)).await.unwrap();
    let operator = authority.authorize_operator(&who).unwrap();
    let change = |weight| {
        let (store, operator) = (w.store, &operator);
        let change = TenantChange { weight: Some(weight), ..TenantChange::default() };
        async move { store.change_tenant(operator, &name("t"), &change).await }
    };
    let weight = async || w.store.find_tenant(&name("t")).await.unwrap().unwrap().weight;
    let refused = Cell::new(0);
    let changes = (201..240).map(|weight| {
        let change = change(weight);
        let refused = &refused;
        async move {
            if let Err(error) = change.await {
                assert_eq!(error.kind(), ErrorKind::Unauthenticated);
                refused.set(refused.get() + 1);
            }
        }
    });
    let revoke = async {
        w.store.revoke_operator_key(&w.operator, row.id).await.unwrap();
        weight().await
    };
    // One change may be under way when the key is revoked; those that wait for it must not follow.
    let ((), left) = tokio::join!(join_all(changes.collect()), revoke);
    assert_eq!(weight().await, left, "a change came after the revocation was acknowledged");
    assert!(refused.get() > 0, "no change had to wait: this case shows nothing");
}

/// Numbers of this tenant alone, of all its databases and of what was not removed.
pub(super) async fn an_operator_sees_how_much_a_tenant_has_in_numbers(w: &World<'_>) {
    let sizes = async |of: &str| w.store.tenant_sizes(&w.operator, &name(of)).await;
    let (other, theirs) = w.collection("other").await;
    w.store.write(&other, &theirs, UPSERT, vec![record("x", 1.0, &[])]).await.unwrap();
    let scope = w.tenant("one").await;
    let (info, empty) = sizes("one").await.unwrap();
    let empty = empty.expect("its place is made");
    assert_eq!((info.id, empty.databases, empty.collections), (scope.tenant(), 1, 0));
    assert_eq!((empty.records, empty.by_dimension.len()), (0, 0));

    let first = w.database(&scope).await;
    let second = w.store.create_database(&scope, &database("d2")).await.unwrap();
    // More than are read at once.
    let mut made = Vec::new();
    for n in 0_u32..70 {
        let place = if n % 2 == 0 { &first } else { &second };
        let spec = spec(&format!("c{n}"));
        let (collection, _) = w.store.create_collection(&scope, place, &spec, false).await.unwrap();
        made.push(collection);
    }
    for (collection, count) in [(&made[0], 3), (&made[65], 5), (&made[69], 2)] {
        let ids: Vec<_> = (0..count).map(|n: u8| n.to_string()).collect();
        let records = ids.iter().map(|id| record(id, 1.0, &[])).collect();
        w.store.write(&scope, collection, UPSERT, records).await.unwrap();
    }
    w.store.delete(&scope, &made[0], &only(&["0"]), None).await.unwrap();
    w.store.delete_collection(&scope, &made[69]).await.unwrap();
    let has = sizes("one").await.unwrap().1.unwrap();
    assert_eq!((has.databases, has.collections, has.records), (2, 69, 7));
    assert_eq!((has.largest_collection, has.by_dimension), (5, [(2, 5)].into()));
    assert_eq!(sizes("other").await.unwrap().1.unwrap().records, 1);
    assert_eq!(w.store.count_tenants(&w.operator).await.unwrap(), 2);

    w.store.delete_tenant(&w.operator, &name("one")).await.unwrap();
    assert_eq!(kind(sizes("one").await), ErrorKind::NotFound);
    assert_eq!(w.store.count_tenants(&w.operator).await.unwrap(), 1);
    // What can be made is told without asking any place, and something always can.
    let sites = w.store.sites(&w.operator);
    assert!(sites.iter().all(|site| !site.isolations.is_empty()) && !sites.is_empty());
}
