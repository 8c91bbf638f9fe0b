//! Named vectors, and vectors that are rounded in memory.

use crate::support::*;
use tenantry_engine::*;

fn with(vectors: &[(&str, VectorSpec)]) -> CollectionSpec {
    let vectors = vectors.iter().map(|(name, spec)| (vector_name(name), *spec)).collect();
    CollectionSpec { vectors, ..spec("c") }
}

fn of(storage: VectorStorage) -> VectorSpec {
    VectorSpec { storage, ..VectorSpec::default() }
}

/// A collection with the named vectors `v` (full) and `r` (rounded), of users `u1` and `u2`.
async fn shared() -> (World, Collection<Write>) {
    let world = World::new().await;
    let admin = world.tenant("acme").await;
    let asked = with(&[("v", of(VectorStorage::Full)), ("r", of(VectorStorage::Int8))]);
    let database = world.database::<Write>(&admin).await;
    let (all, _) = database.create_collection(&asked, false).await.unwrap();
    let owned = |name: &str, owner: &str, x: f32| {
        write(name).vector(&[x]).named("v", &[x]).named("r", &[x, 0.1]).set("owner", text(owner))
    };
    let batch = vec![
        owned("a1", "u1", 1.0),
        owned("b1", "u2", 2.0),
        owned("a2", "u1", 3.0),
        write("nobody").named("v", &[0.5]).named("r", &[4.0, 0.1]),
        write("bare").set("owner", text("u1")),
    ];
    all.write(WriteMode::Upsert, batch).await.unwrap();
    (world, all)
}

fn search(using: Option<&str>, vector: &[f32], k: usize) -> QueryRequest {
    QueryRequest { using: using.map(vector_name), include: ALL, ..query(vector, k) }
}

async fn found<L: Level>(c: &Collection<L>, request: &QueryRequest) -> Vec<String> {
    let hits = c.query(request).await.unwrap();
    hits[0].iter().map(|hit| hit.record.id.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_bound_key_finds_only_its_records_by_every_name() {
    let (world, all) = shared().await;
    let key = world.key("acme", bound_key(Role::Write, is("owner", text("u1")))).await;
    let mine = world.database::<Write>(&key).await.collection(&collection("c")).await.unwrap();
    for (using, vector) in [(None, &[0.0][..]), (Some("v"), &[0.0]), (Some("r"), &[0.0, 0.0])] {
        assert_eq!(found(&mine, &search(using, vector, 9)).await, ["a1", "a2"], "{using:?}");
        assert_eq!(found(&mine, &search(using, vector, 1)).await, ["a1"], "{using:?}");
        let named = QueryRequest { select: by_ids(&["b1", "nobody"]), ..search(using, vector, 9) };
        assert!(found(&mine, &named).await.is_empty());
        let widening = Filter::Or(vec![is("owner", text("u1")), is("owner", text("u2"))]);
        let wide = QueryRequest { select: by_filter(widening), ..search(using, vector, 9) };
        assert_eq!(found(&mine, &wide).await, ["a1", "a2"]);
        let everybody = found(&all, &search(using, vector, 9)).await;
        assert_eq!(everybody.len(), if using.is_some() { 4 } else { 3 });
        // What it finds, it finds whole, and with the vectors that were given.
        let hits = mine.query(&search(using, vector, 9)).await.unwrap();
        assert_eq!(hits[0][0].record, find(&all, "a1").await.unwrap());
        assert_eq!(hits[0][0].record.vectors[&vector_name("r")], [1.0, 0.1]);
    }
    // A vector of a record out of reach can neither be read nor written.
    assert_eq!(find(&mine, "b1").await, None);
    let foreign = vec![write("b1").named("r", &[9.0, 9.0])];
    let mode = WriteMode::Update(Missing::Fail);
    assert_eq!(kind(mine.write(mode, foreign.clone()).await), ErrorKind::NotFound);
    assert_eq!(kind(mine.write(WriteMode::Upsert, foreign).await), ErrorKind::AlreadyExists);
    assert_eq!(find(&all, "b1").await.unwrap().vectors[&vector_name("r")], [2.0, 0.1]);
    assert_eq!(kind(mine.statistics().await), ErrorKind::Denied);
    let explained = mine.query_explained(&search(Some("v"), &[0.0], 1)).await;
    assert_eq!(kind(explained), ErrorKind::Denied);
}

#[tokio::test]
async fn named_vectors_of_one_tenant_are_never_found_by_another() {
    let (world, all) = shared().await;
    let other = world.tenant("other").await;
    let database = world.database::<Write>(&other).await;
    assert_eq!(kind(database.collection(&collection("c")).await), ErrorKind::NotFound);
    let asked = with(&[("v", of(VectorStorage::Full)), ("r", of(VectorStorage::Int8))]);
    let (c, _) = database.create_collection(&asked, false).await.unwrap();
    for (using, vector) in [(Some("v"), &[2.0][..]), (Some("r"), &[2.0, 0.1])] {
        assert!(found(&c, &search(using, vector, 9)).await.is_empty());
    }
    c.write(WriteMode::Upsert, vec![write("a1").named("r", &[2.0, 0.1])]).await.unwrap();
    assert_eq!(found(&c, &search(Some("r"), &[2.0, 0.1], 9)).await, ["a1"]);
    assert_eq!(found(&all, &search(Some("r"), &[2.0, 0.1], 1)).await, ["b1"]);
    assert_eq!(find(&all, "a1").await.unwrap().vectors[&vector_name("r")], [1.0, 0.1]);
}

#[tokio::test]
async fn a_key_limited_to_another_collection_reaches_no_named_vector() {
    let (world, all) = shared().await;
    let admin = world.key("acme", new_key(Role::Admin)).await;
    let second = world.collection(&admin, "second").await;
    let info = second.info();
    let only = vec![Allowed::Collection(info.database, info.number)];
    let key = world.key("acme", limited_key(Role::Write, only)).await;
    let database = world.database::<Write>(&key).await;
    assert_eq!(kind(database.collection(&collection("c")).await), ErrorKind::NotFound);
    let found = database.collection(&collection("second")).await.unwrap();
    assert_eq!(kind(found.query(&search(Some("v"), &[1.0], 1)).await), ErrorKind::Invalid);
    assert_eq!(all_ids(&all).await.len(), 5);
}

#[tokio::test]
async fn named_vectors_are_refused_whole_when_one_is_wrong() {
    let (_world, c) = shared().await;
    let wide = vec![0.5; Limits::DIMENSION_MAX + 1];
    for (name, vector, why) in [
        ("nobody", &[1.0][..], "no vectors named"),
        ("v", &[], "dimension of 1"),
        ("v", &[f32::NAN], "NaN"),
        ("v", &[f32::NEG_INFINITY], "Infinity"),
        ("v", &[1.0, 2.0], "dimension of 1, got 2"),
        ("r", &[1.0], "dimension of 2, got 1"),
        ("v", &wide, "got 16385"),
    ] {
        let batch = vec![write("fine").vector(&[1.0]), write("bad").named(name, vector)];
        let (kind, text) = shown(c.write(WriteMode::Upsert, batch).await);
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(text.contains(why), "{name}: {text}");
        let (kind, text) = shown(c.query(&search(Some(name), vector, 1)).await);
        assert_eq!(kind, ErrorKind::Invalid);
        assert!(text.contains(why), "{name}: {text}");
    }
    assert_eq!(all_ids(&c).await.len(), 5);
    // Numbers at the edge of f32 are vectors like any other.
    let edge = [f32::MAX, f32::MIN_POSITIVE / 2.0];
    c.write(WriteMode::Upsert, vec![write("edge").named("r", &edge)]).await.unwrap();
    let found = find(&c, "edge").await.unwrap();
    let bits: Vec<u32> = found.vectors[&vector_name("r")].iter().map(|x| x.to_bits()).collect();
    assert_eq!(bits, edge.map(f32::to_bits));
    let hits = c.query(&search(Some("r"), &edge, 1)).await.unwrap();
    assert_eq!(hits[0][0].record.id.as_str(), "edge");
    assert!(!hits[0][0].distance.is_nan());
}

#[tokio::test]
async fn a_collection_has_a_largest_number_of_names() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let database = world.database::<Write>(&key).await;
    let names: Vec<String> = (0..=Limits::NAMED_VECTORS_MAX).map(|n| format!("v{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (name.as_str(), of(VectorStorage::Full))).collect();
    let many = database.create_collection(&with(&all), false).await;
    assert_eq!(kind(many), ErrorKind::TooLarge);
    let bad = VectorSpec { dimension: Some(0), ..VectorSpec::default() };
    assert_eq!(
        kind(database.create_collection(&with(&[("v", bad)]), false).await),
        ErrorKind::Invalid
    );
    let (c, _) = database.create_collection(&with(&all[1..]), false).await.unwrap();
    let record = names[1..].iter().fold(write("r"), |r, name| r.named(name, &[1.0, 2.0]));
    c.write(WriteMode::Upsert, vec![record.clone()]).await.unwrap();
    assert_eq!(find(&c, "r").await.unwrap().vectors, record.vectors);
    // An existing collection keeps its names whatever is asked for.
    let (again, new) = database.create_collection(&spec("c"), true).await.unwrap();
    assert_eq!((new, again.info().vectors.len()), (false, Limits::NAMED_VECTORS_MAX));
}
