//! Keys narrowed to some databases and collections, and keys bound to a filter.

use crate::support::*;
use tenantry_engine::*;

/// A tenant with two databases of two collections each; an admin key of it.
async fn two_by_two() -> (World, String) {
    let world = World::new().await;
    let admin = world.tenant("acme").await;
    let session = world.session::<Admin>(&admin).await;
    for name in ["d1", "d2"] {
        let db = session.create_database(&database(name)).await.unwrap();
        for name in ["c1", "c2"] {
            let (c, _) = db.create_collection(&spec(name), false).await.unwrap();
            c.write(WriteMode::Upsert, vec![write("r").vector(&[1.0])]).await.unwrap();
        }
    }
    (world, admin)
}

/// An admin key that is limited to all of `d1` and to `c1` of `d2`.
async fn limited(world: &World, admin: &str, role: Role) -> String {
    let session = world.session::<Admin>(admin).await;
    let objects =
        session.resolve(&[database("d1")], &[(database("d2"), collection("c1"))]).await.unwrap();
    session.create_key(limited_key(role, objects.unwrap())).await.unwrap().1
}

async fn visible(session: &Session<Admin>) -> Vec<String> {
    let mut seen = Vec::new();
    for db in session.databases(Page::default()).await.unwrap() {
        let collections = db.collections(Page::default()).await.unwrap();
        assert_eq!(collections.len(), db.count_collections().await.unwrap());
        seen.extend(collections.iter().map(|c| format!("{}/{}", db.info().name, c.info().name)));
    }
    seen
}

#[tokio::test]
async fn a_limited_key_sees_its_objects_and_nothing_else_exists() {
    let (world, admin) = two_by_two().await;
    let all = world.session::<Admin>(&admin).await;
    let key = limited(&world, &admin, Role::Admin).await;
    let mine = world.session::<Admin>(&key).await;
    assert_eq!(visible(&mine).await, ["d1/c1", "d1/c2", "d2/c1"]);

    let hidden = shown(mine.database(&DatabaseName::default_database()).await);
    assert_eq!(hidden, (ErrorKind::NotFound, "Database [default_database] does not exist".into()));
    let d2 = mine.database(&database("d2")).await.unwrap();
    let words = "Collection [c2] does not exist".to_owned();
    assert_eq!(shown(d2.collection(&collection("c2")).await), (ErrorKind::NotFound, words));
    let all_d2 = all.database(&database("d2")).await.unwrap();
    let foreign = all_d2.collection(&collection("c2")).await.unwrap().info().id;
    assert_eq!(kind(d2.collection_by_id(foreign).await), ErrorKind::NotFound);
    let page = Page { limit: Some(1), offset: 1 };
    assert!(d2.collections(page).await.unwrap().is_empty());
    let open = d2.collection(&collection("c1")).await.unwrap();
    assert_eq!(open.count(None).await.unwrap(), 1);
}

#[tokio::test]
async fn a_limited_key_makes_collections_only_where_it_owns_the_database() {
    let (world, admin) = two_by_two().await;
    let key = limited(&world, &admin, Role::Admin).await;
    let mine = world.session::<Admin>(&key).await;
    let d1 = mine.database(&database("d1")).await.unwrap();
    let d2 = mine.database(&database("d2")).await.unwrap();
    assert!(d1.create_collection(&spec("c3"), false).await.unwrap().1);
    // A name that is free and one that is taken by what it cannot see are refused alike.
    let free = shown(d2.create_collection(&spec("c3"), true).await);
    assert_eq!(free.0, ErrorKind::Denied);
    assert_eq!(shown(d2.create_collection(&spec("c2"), true).await), free);
    assert_eq!(shown(d2.create_collection(&spec("c2"), false).await), free);
    assert!(!d2.create_collection(&spec("c1"), true).await.unwrap().1);

    // Renaming is giving a name: it would tell which names are taken.
    let c1 = d2.collection(&collection("c1")).await.unwrap();
    let to = |name: &str| CollectionChange {
        name: Some(collection(name)),
        ..CollectionChange::default()
    };
    let free = shown(c1.change(&to("c3")).await);
    assert_eq!(free.0, ErrorKind::Denied);
    assert_eq!(shown(c1.change(&to("c2")).await), free);
    c1.change(&to("c1")).await.unwrap();
    let metadata = Some(Some(Metadata::from([("k".into(), Value::Int(1))])));
    c1.change(&CollectionChange { metadata, ..CollectionChange::default() }).await.unwrap();
    d1.collection(&collection("c3")).await.unwrap().change(&to("c4")).await.unwrap();
    assert_eq!(visible(&mine).await, ["d1/c1", "d1/c2", "d1/c4", "d2/c1"]);
}

#[tokio::test]
async fn a_limited_admin_manages_neither_databases_nor_keys_and_reads_no_audit_log() {
    let (world, admin) = two_by_two().await;
    let bound = bound_key(Role::Admin, is("owner", text("u1")));
    let all = world.session::<Admin>(&admin).await;
    for key in [
        limited(&world, &admin, Role::Admin).await,
        all.create_key(bound).await.unwrap().1,
        all.create_key(limited_key(Role::Admin, Vec::new())).await.unwrap().1,
    ] {
        let mine = world.session::<Admin>(&key).await;
        let own = world.who(&key).await.key().unwrap();
        for outcome in [
            mine.create_database(&database("d3")).await.map(drop),
            mine.delete_database(&database("d1")).await,
            mine.create_key(new_key(Role::Read)).await.map(drop),
            mine.keys().await.map(drop),
            mine.revoke_key(own).await,
            mine.audit(0, 10).await.map(drop),
        ] {
            assert_eq!(kind(outcome), ErrorKind::Denied);
        }
    }
    assert_eq!(visible(&all).await.len(), 4);
}

#[tokio::test]
async fn a_recreated_namesake_is_out_of_reach() {
    let (world, admin) = two_by_two().await;
    let key = limited(&world, &admin, Role::Read).await;
    let all = world.session::<Admin>(&admin).await;
    let d2 = all.database(&database("d2")).await.unwrap();
    d2.collection(&collection("c1")).await.unwrap().remove().await.unwrap();
    d2.create_collection(&spec("c1"), false).await.unwrap();
    all.delete_database(&database("d1")).await.unwrap();
    let d1 = all.create_database(&database("d1")).await.unwrap();
    d1.create_collection(&spec("c1"), false).await.unwrap();

    let mine = world.session::<Read>(&key).await;
    assert_eq!(kind(mine.database(&database("d1")).await), ErrorKind::NotFound);
    let d2 = mine.database(&database("d2")).await.unwrap();
    assert_eq!(kind(d2.collection(&collection("c1")).await), ErrorKind::NotFound);
    assert_eq!(d2.count_collections().await.unwrap(), 0);
}

#[tokio::test]
async fn names_that_a_key_is_to_be_limited_to_must_exist() {
    let (world, admin) = two_by_two().await;
    let session = world.session::<Admin>(&admin).await;
    assert_eq!(session.resolve(&[], &[]).await.unwrap(), None);
    assert_eq!(kind(session.resolve(&[database("none")], &[]).await), ErrorKind::NotFound);
    let missing = [(database("d1"), collection("none"))];
    assert_eq!(kind(session.resolve(&[], &missing).await), ErrorKind::NotFound);
    // A limited key resolves what it sees.
    let key = limited(&world, &admin, Role::Admin).await;
    let hidden = [(database("d2"), collection("c2"))];
    let mine = world.session::<Admin>(&key).await;
    assert_eq!(kind(mine.resolve(&[], &hidden).await), ErrorKind::NotFound);
}

fn owner(name: &str) -> Filter {
    is("owner", text(name))
}

fn owned(record: &str, name: &str, x: f32) -> RecordWrite {
    write(record).vector(&[x]).text(record).set("owner", text(name))
}

/// A collection with records of two users and of nobody; a write key bound to user `u1`.
async fn shared() -> (World, Collection<Write>, Collection<Write>) {
    let world = World::new().await;
    let admin = world.tenant("acme").await;
    let all = world.collection(&admin, "c").await;
    let batch = vec![
        owned("a1", "u1", 1.0),
        owned("b1", "u2", 2.0),
        owned("a2", "u1", 3.0),
        write("nobody").vector(&[4.0]),
        owned("b2", "u2", 5.0),
    ];
    all.write(WriteMode::Upsert, batch).await.unwrap();
    let key = world.key("acme", bound_key(Role::Write, owner("u1"))).await;
    let mine = world.database::<Write>(&key).await.collection(&collection("c")).await.unwrap();
    (world, all, mine)
}

#[tokio::test]
async fn a_bound_key_reads_only_matching_records() {
    let (_world, all, mine) = shared().await;
    assert_eq!(all_ids(&mine).await, ["a1", "a2"]);
    assert_eq!(ids(&mine, by_ids(&["b1", "nobody", "a2"])).await, ["a2"]);
    assert_eq!(mine.count(None).await.unwrap(), 2);
    // No filter of the caller widens the bound.
    for widening in [
        owner("u2"),
        Filter::And(Vec::new()),
        Filter::Or(vec![owner("u1"), owner("u2")]),
        Filter::Not(Box::new(owner("u1"))),
        test("owner", FieldTest::Ne(text("u1"))),
        test("owner", FieldTest::Exists(false)),
        Filter::Text(TextTest::Regex(String::new())),
    ] {
        let seen = ids(&mine, by_filter(widening.clone())).await;
        assert!(seen.iter().all(|id| id.starts_with('a')), "{widening:?}: {seen:?}");
        assert_eq!(mine.count(Some(&widening)).await.unwrap(), seen.len());
        let search = QueryRequest { select: by_filter(widening), ..query(&[0.0], 9) };
        assert_eq!(mine.query(&search).await.unwrap()[0].len(), seen.len());
    }
    let hits = mine.query(&query(&[9.0], 9)).await.unwrap();
    let found: Vec<_> = hits[0].iter().map(|h| h.record.id.as_str()).collect();
    assert_eq!(found, ["a2", "a1"]);
    let named = QueryRequest { select: by_ids(&["b2"]), ..query(&[5.0], 9) };
    assert!(mine.query(&named).await.unwrap()[0].is_empty());
    let page = Page { limit: Some(5), offset: 1 };
    let second = mine.get(&GetRequest { page, ..GetRequest::default() }).await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(all_ids(&all).await.len(), 5);
}

#[tokio::test]
async fn a_bound_key_gets_only_the_parts_it_asked_for() {
    let (_world, all, mine) = shared().await;
    for bits in 0..32 {
        let include = Include {
            vector: bits & 1 > 0,
            document: bits & 2 > 0,
            uri: bits & 4 > 0,
            metadata: bits & 8 > 0,
            vectors: bits & 16 > 0,
        };
        let get = GetRequest { select: by_ids(&["a1"]), include, ..GetRequest::default() };
        assert_eq!(mine.get(&get).await.unwrap(), all.get(&get).await.unwrap());
        let search = QueryRequest { include, select: by_ids(&["a1"]), ..query(&[0.0], 1) };
        assert_eq!(mine.query(&search).await.unwrap(), all.query(&search).await.unwrap());
    }
}

#[tokio::test]
async fn a_bound_key_deletes_only_matching_records() {
    let (_world, all, mine) = shared().await;
    assert_eq!(mine.delete(&by_ids(&["b1", "nobody"]), None).await.unwrap(), 0);
    assert_eq!(mine.delete(&by_filter(owner("u2")), None).await.unwrap(), 0);
    assert_eq!(mine.delete(&by_filter(Filter::And(Vec::new())), Some(1)).await.unwrap(), 1);
    assert_eq!(all_ids(&all).await, ["b1", "a2", "nobody", "b2"]);
    assert_eq!(mine.delete(&by_filter(Filter::And(Vec::new())), None).await.unwrap(), 1);
    assert_eq!(all_ids(&all).await, ["b1", "nobody", "b2"]);
}

#[tokio::test]
async fn a_bound_key_writes_only_matching_records_and_cannot_widen_its_reach() {
    let (_world, all, mine) = shared().await;
    let whole = GetRequest { include: ALL, ..GetRequest::default() };
    let before = all.get(&whole).await.unwrap();
    let (add, upsert) = (WriteMode::Add(Existing::Fail), WriteMode::Upsert);
    let (update, known) = (WriteMode::Update(Missing::Fail), WriteMode::Update(Missing::Skip));
    let steal = write("b1").set("owner", text("u1"));
    let refused = [
        ("make a foreign record", add, owned("x", "u2", 0.0), ErrorKind::Denied),
        ("make an ownerless record", upsert, write("x"), ErrorKind::Denied),
        (
            "make one with a list",
            add,
            write("x").set("owner", Value::List(vec![text("u1")])),
            ErrorKind::Denied,
        ),
        ("give a record away", update, write("a1").set("owner", text("u2")), ErrorKind::Denied),
        ("give it away by upsert", upsert, write("a1").unset("owner"), ErrorKind::Denied),
        ("take a record by upsert", upsert, steal.clone(), ErrorKind::AlreadyExists),
        ("take a record by update", update, steal.clone(), ErrorKind::NotFound),
        ("take a record by adding it", add, steal.clone(), ErrorKind::AlreadyExists),
        ("change a foreign record", update, write("b1").text("x"), ErrorKind::NotFound),
    ];
    for (case, mode, record, expected) in refused {
        let outcome = mine.write(mode, vec![owned("new", "u1", 9.0), record.clone()]).await;
        let with_new = kind(outcome);
        let alone = kind(mine.write(mode, vec![record]).await);
        assert_eq!(alone, expected, "{case}");
        assert!(with_new == expected || matches!(mode, WriteMode::Update(_)), "{case}");
        assert_eq!(all.get(&whole).await.unwrap(), before, "{case}");
    }
    // Where unknown ids are passed over, foreign ones are too.
    let skipped = mine.write(known, vec![steal.clone(), write("none")]).await.unwrap();
    assert_eq!((skipped.updated, skipped.skipped, skipped.version), (0, 2, 0));
    let skipped = mine.write(WriteMode::Add(Existing::Skip), vec![steal]).await.unwrap();
    assert_eq!((skipped.inserted, skipped.skipped), (0, 1));
    assert_eq!(all.get(&whole).await.unwrap(), before);

    let mixed = vec![owned("a3", "u1", 6.0), write("a1").text("changed")];
    let done = mine.write(upsert, mixed).await.unwrap();
    assert_eq!((done.inserted, done.updated), (1, 1));
    assert_eq!(all_ids(&mine).await, ["a1", "a2", "a3"]);
}

#[tokio::test]
async fn a_bound_key_changes_no_collections() {
    let (world, all, mine) = shared().await;
    let rename = CollectionChange { name: Some(collection("x")), ..CollectionChange::default() };
    let metadata = CollectionChange { metadata: Some(None), ..CollectionChange::default() };
    assert_eq!(kind(mine.change(&rename).await), ErrorKind::Denied);
    assert_eq!(kind(mine.change(&metadata).await), ErrorKind::Denied);
    assert_eq!(kind(mine.remove().await), ErrorKind::Denied);

    let key = world.key("acme", bound_key(Role::Admin, owner("u1"))).await;
    let db = world.database::<Admin>(&key).await;
    assert!(!db.create_collection(&spec("c"), true).await.unwrap().1);
    assert_eq!(kind(db.create_collection(&spec("c"), false).await), ErrorKind::AlreadyExists);
    assert_eq!(kind(db.create_collection(&spec("new"), true).await), ErrorKind::Denied);
    assert_eq!(
        kind(db.collection(&collection("c")).await.unwrap().remove().await),
        ErrorKind::Denied
    );
    assert_eq!(all_ids(&all).await.len(), 5);
}

#[tokio::test]
async fn a_key_can_be_bound_by_text_and_limited_at_once() {
    let (world, _all, _) = shared().await;
    let admin = world.key("acme", new_key(Role::Admin)).await;
    let other = world.collection(&admin, "other").await;
    other.write(WriteMode::Upsert, vec![write("b9").text("b9")]).await.unwrap();
    let session = world.session::<Admin>(&admin).await;
    let place = [(DatabaseName::default_database(), collection("c"))];
    let restriction = Restriction {
        objects: session.resolve(&[], &place).await.unwrap(),
        filter: Some(Filter::Text(TextTest::Regex("^b".into()))),
    };
    let key = session.create_key(NewKey { restriction, ..new_key(Role::Read) }).await.unwrap().1;
    let db = world.database::<Read>(&key).await;
    assert_eq!(all_ids(&db.collection(&collection("c")).await.unwrap()).await, ["b1", "b2"]);
    assert_eq!(kind(db.collection(&collection("other")).await), ErrorKind::NotFound);
}
