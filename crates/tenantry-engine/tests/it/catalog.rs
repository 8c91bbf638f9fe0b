//! Databases and collections of a tenant.

use crate::support::*;
use std::collections::BTreeMap;
use tenantry_engine::*;

async fn database_names<L: Level>(session: &Session<L>, page: Page) -> Vec<String> {
    let found = session.databases(page).await.unwrap();
    found.iter().map(|d| d.info().name.as_str().to_owned()).collect()
}

async fn collection_names<L: Level>(database: &Database<L>, page: Page) -> Vec<String> {
    let found = database.collections(page).await.unwrap();
    found.iter().map(|c| c.info().name.as_str().to_owned()).collect()
}

fn page(offset: usize, limit: usize) -> Page {
    Page { limit: Some(limit), offset }
}

#[tokio::test]
async fn databases_are_made_listed_opened_and_removed() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    assert_eq!(database_names(&session, Page::default()).await, [DEFAULT_DATABASE]);
    for name in ["b", "a", "c"] {
        let made = session.create_database(&database(name)).await.unwrap();
        assert_eq!(made.info().created_at, Timestamp(START));
        let found = session.database(&database(name)).await.unwrap();
        assert_eq!(found.info(), made.info());
    }
    assert_eq!(database_names(&session, Page::default()).await, ["a", "b", "c", DEFAULT_DATABASE]);
    assert_eq!(database_names(&session, page(1, 2)).await, ["b", "c"]);
    assert!(database_names(&session, page(4, 9)).await.is_empty());
    assert_eq!(
        shown(session.create_database(&database("a")).await),
        (ErrorKind::AlreadyExists, "Database [a] already exists".into())
    );
    session.delete_database(&database("a")).await.unwrap();
    let missing = (ErrorKind::NotFound, "Database [a] does not exist".to_owned());
    assert_eq!(shown(session.database(&database("a")).await), missing);
    assert_eq!(shown(session.delete_database(&database("a")).await), missing);
    assert_eq!(database_names(&session, Page::default()).await, ["b", "c", DEFAULT_DATABASE]);
}

#[tokio::test]
async fn a_removed_database_takes_its_collections_along_and_its_namesake_is_another() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    let first = session.create_database(&database("d")).await.unwrap();
    let (old, _) = first.create_collection(&spec("c"), false).await.unwrap();
    old.write(WriteMode::Upsert, vec![write("r")]).await.unwrap();
    session.delete_database(&database("d")).await.unwrap();
    assert_eq!(kind(old.count(None).await), ErrorKind::NotFound);
    assert_eq!(kind(old.write(WriteMode::Upsert, vec![write("r")]).await), ErrorKind::NotFound);
    assert_eq!(kind(first.create_collection(&spec("x"), false).await), ErrorKind::NotFound);

    let second = session.create_database(&database("d")).await.unwrap();
    assert_ne!(second.info().id, first.info().id);
    assert_ne!(second.info().number, first.info().number);
    assert_eq!(second.count_collections().await.unwrap(), 0);
    let (new, made) = second.create_collection(&spec("c"), false).await.unwrap();
    assert!(made);
    assert_ne!(new.info().id, old.info().id);
    assert!(all_ids(&new).await.is_empty());
}

#[tokio::test]
async fn a_collection_is_made_with_what_was_asked_for() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let db = world.database::<Write>(&key).await;
    let metadata = Metadata::from([("n".into(), Value::Int(1)), ("s".into(), text("x"))]);
    let asked = CollectionSpec {
        metric: Metric::Cosine,
        metadata: Some(metadata.clone()),
        attributes: BTreeMap::from([("chroma".into(), "{}".into())]),
        ..spec("c")
    };
    let (made, new) = db.create_collection(&asked, false).await.unwrap();
    assert!(new);
    let info = made.info();
    assert_eq!((info.metric, info.dimension), (Metric::Cosine, None));
    assert_eq!((&info.metadata, &info.attributes), (&Some(metadata), &asked.attributes));
    assert_eq!(info.created_at, Timestamp(START));
    assert_eq!(db.collection(&collection("c")).await.unwrap().info(), info);
    assert_eq!(db.collection_by_id(info.id).await.unwrap().info(), info);

    let again = CollectionSpec { metric: Metric::L2, metadata: None, ..asked };
    let (found, new) = db.create_collection(&again, true).await.unwrap();
    assert!(!new);
    assert_eq!(found.info(), info);
    assert_eq!(
        shown(db.create_collection(&again, false).await),
        (ErrorKind::AlreadyExists, "Collection [c] already exists".into())
    );
}

#[tokio::test]
async fn collections_are_listed_by_name_in_pages_and_per_database() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let session = world.session::<Admin>(&key).await;
    let other = session.create_database(&database("other")).await.unwrap();
    other.create_collection(&spec("elsewhere"), false).await.unwrap();
    let db = world.database::<Write>(&key).await;
    for name in ["d", "a", "c", "b"] {
        db.create_collection(&spec(name), false).await.unwrap();
    }
    assert_eq!(collection_names(&db, Page::default()).await, ["a", "b", "c", "d"]);
    assert_eq!(collection_names(&db, page(1, 2)).await, ["b", "c"]);
    assert_eq!(collection_names(&db, page(3, 5)).await, ["d"]);
    assert!(collection_names(&db, page(9, 5)).await.is_empty());
    assert!(collection_names(&db, page(0, 0)).await.is_empty());
    assert_eq!(db.count_collections().await.unwrap(), 4);
    assert_eq!(other.count_collections().await.unwrap(), 1);
    // An id is looked for in its own database only.
    let elsewhere = other.collection(&collection("elsewhere")).await.unwrap();
    assert_eq!(kind(db.collection_by_id(elsewhere.info().id).await), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_collection_changes_only_what_is_named() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let db = world.database::<Write>(&key).await;
    let metadata = Some(Metadata::from([("k".into(), Value::Bool(true))]));
    let asked = CollectionSpec {
        metadata: metadata.clone(),
        attributes: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
        ..spec("old")
    };
    let (made, _) = db.create_collection(&asked, false).await.unwrap();
    made.write(WriteMode::Upsert, vec![write("r").vector(&[1.0])]).await.unwrap();
    let rename = CollectionChange { name: Some(collection("new")), ..CollectionChange::default() };
    let renamed = made.change(&rename).await.unwrap();
    assert_eq!((&renamed.info().name, &renamed.info().metadata), (&collection("new"), &metadata));
    assert_eq!(renamed.info().id, made.info().id);
    assert_eq!(renamed.info().dimension, Some(1));
    assert_eq!(all_ids(&renamed).await, ["r"]);
    assert_eq!(kind(db.collection(&collection("old")).await), ErrorKind::NotFound);

    let change = CollectionChange {
        metadata: Some(None),
        attributes: BTreeMap::from([("b".into(), "3".into())]),
        ..CollectionChange::default()
    };
    let changed = renamed.change(&change).await.unwrap();
    assert_eq!(changed.info().metadata, None);
    let attributes = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "3".into())]);
    assert_eq!(changed.info().attributes, attributes);
    assert_eq!(db.collection(&collection("new")).await.unwrap().info(), changed.info());

    db.create_collection(&spec("taken"), false).await.unwrap();
    let take = CollectionChange { name: Some(collection("taken")), ..CollectionChange::default() };
    assert_eq!(kind(changed.change(&take).await), ErrorKind::AlreadyExists);
    assert_eq!(all_ids(&db.collection(&collection("new")).await.unwrap()).await, ["r"]);
}

#[tokio::test]
async fn a_removed_collection_is_gone_and_its_namesake_is_another() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let old = world.collection(&key, "c").await;
    let (old_id, old_number) = (old.info().id, old.info().number);
    old.write(WriteMode::Upsert, vec![write("r").vector(&[1.0, 2.0])]).await.unwrap();
    old.query(&query(&[1.0, 2.0], 1)).await.unwrap();
    let stale = world.collection(&key, "c").await;
    old.remove().await.unwrap();
    assert_eq!(kind(stale.query(&query(&[1.0, 2.0], 1)).await), ErrorKind::NotFound);
    assert_eq!(kind(stale.get(&GetRequest::default()).await), ErrorKind::NotFound);
    assert_eq!(kind(stale.delete(&by_ids(&["r"]), None).await), ErrorKind::NotFound);
    assert_eq!(kind(stale.change(&CollectionChange::default()).await), ErrorKind::NotFound);

    let new = world.collection(&key, "c").await;
    assert_ne!((new.info().id, new.info().number), (old_id, old_number));
    assert_eq!(new.info().dimension, None);
    assert!(all_ids(&new).await.is_empty());
    new.write(WriteMode::Upsert, vec![write("r").vector(&[1.0, 2.0, 3.0])]).await.unwrap();
    assert_eq!(kind(stale.remove().await), ErrorKind::NotFound);
    assert_eq!(all_ids(&new).await, ["r"]);
}

#[tokio::test]
async fn limits_of_a_tenant_are_kept_and_freed_by_removal() {
    let world = World::new().await;
    let limits = Limits {
        databases: 2,
        collections: 2,
        records_per_collection: 3,
        keys: 2,
        ..Limits::default()
    };
    let small = TenantSpec { limits, ..TenantSpec::new(tenant("small")) };
    world.operator().create_tenant(&small).await.unwrap();
    let key = world.key("small", new_key(Role::Admin)).await;
    let session = world.session::<Admin>(&key).await;

    session.create_database(&database("second")).await.unwrap();
    let full = session.create_database(&database("third")).await;
    assert_eq!(kind(full), ErrorKind::LimitExceeded);
    session.delete_database(&database("second")).await.unwrap();
    session.create_database(&database("third")).await.unwrap();

    let (one, _two) = (world.collection(&key, "1").await, world.collection(&key, "2").await);
    let db = world.database::<Write>(&key).await;
    assert_eq!(kind(db.create_collection(&spec("3"), true).await), ErrorKind::LimitExceeded);
    assert!(!db.create_collection(&spec("2"), true).await.unwrap().1);

    one.write(WriteMode::Upsert, vec![write("a"), write("b")]).await.unwrap();
    let over = one.write(WriteMode::Upsert, vec![write("c"), write("d")]).await;
    assert_eq!(kind(over), ErrorKind::LimitExceeded);
    assert_eq!(all_ids(&one).await, ["a", "b"]);
    one.write(WriteMode::Upsert, vec![write("a"), write("c")]).await.unwrap();
    one.delete(&by_ids(&["a"]), None).await.unwrap();
    one.write(WriteMode::Upsert, vec![write("d")]).await.unwrap();
    one.remove().await.unwrap();
    db.create_collection(&spec("3"), false).await.unwrap();

    let second = session.create_key(new_key(Role::Read)).await.unwrap().0;
    assert_eq!(kind(session.create_key(new_key(Role::Read)).await), ErrorKind::LimitExceeded);
    session.revoke_key(second.id).await.unwrap();
    session.create_key(new_key(Role::Read)).await.unwrap();
}

#[tokio::test]
async fn what_a_batch_teaches_about_a_collection_is_in_its_commit_and_never_stops_it() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let named = |name: &str, value: String| BTreeMap::from([(name.to_owned(), value)]);
    let before = world.engine.totals().store.commits;
    let learnt = named("seen", "1".into());
    let first =
        c.write_noting(WriteMode::Upsert, vec![write("r").set("owner", text("u1"))], learnt);
    first.await.unwrap();
    assert_eq!(world.engine.totals().store.commits, before + 1);
    let attributes = || async {
        let db = world.database::<Read>(&key).await;
        db.collection(&collection("c")).await.unwrap().info().attributes.clone()
    };
    assert_eq!(attributes().await, named("seen", "1".into()));

    // What is there stays; what does not fit is left out; both records are written.
    let large = "x".repeat(Limits::ATTRIBUTES_BYTES_MAX);
    for (id, what) in [("s", named("seen", "2".into())), ("t", named("large", large))] {
        c.write_noting(WriteMode::Upsert, vec![write(id)], what).await.unwrap();
    }
    let skipped = vec![write("r")];
    let add = WriteMode::Add(Existing::Skip);
    c.write_noting(add, skipped, named("nothing written", String::new())).await.unwrap();

    let bound = world.key("acme", bound_key(Role::Write, is("owner", text("u1")))).await;
    let own = world.database::<Write>(&bound).await.collection(&collection("c")).await.unwrap();
    let record = vec![write("u").set("owner", text("u1"))];
    own.write_noting(WriteMode::Upsert, record, named("bound", String::new())).await.unwrap();
    assert_eq!(attributes().await, named("seen", "1".into()));
    assert_eq!(all_ids(&c).await, ["r", "s", "t", "u"]);
}
