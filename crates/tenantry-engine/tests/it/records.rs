//! Writing, getting, counting and deleting records.

use crate::support::*;
use tenantry_engine::*;

const ADD: WriteMode = WriteMode::Add(Existing::Fail);
const ADD_NEW: WriteMode = WriteMode::Add(Existing::Skip);
const UPDATE: WriteMode = WriteMode::Update(Missing::Fail);
const UPDATE_KNOWN: WriteMode = WriteMode::Update(Missing::Skip);

/// A collection with the records `a` and `b`.
async fn two() -> (World, Collection<Write>) {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let made = world.collection(&key, "c").await;
    let a = write("a").vector(&[1.0, 0.0]).text("apple").set("n", Value::Int(1));
    let b = write("b").vector(&[0.0, 1.0]).set("n", Value::Int(2));
    made.write(ADD, vec![a, b]).await.unwrap();
    (world, made)
}

fn counts(outcome: WriteOutcome) -> (usize, usize, usize) {
    (outcome.inserted, outcome.updated, outcome.skipped)
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_written() {
    let (_world, c) = two().await;
    let mut full = write("full").vector(&[0.5, -0.0]).text("").set("s", text("ü🦀"));
    full.uri = Some("s3://bucket/x".into());
    let values = [
        ("t", Value::Bool(true)),
        ("i", Value::Int(i64::MIN)),
        ("f", Value::Float(1.0)),
        ("e", text("")),
        ("l", Value::List(vec![text("x"), text("x")])),
        ("z", Value::List(Vec::new())),
    ];
    for (key, value) in values {
        full = full.set(key, value);
    }
    let wrote = c.write(ADD, vec![full.clone()]).await.unwrap();
    let back = find(&c, "full").await.unwrap();
    let metadata: Metadata =
        full.metadata.iter().map(|(k, v)| (k.clone(), v.clone().unwrap())).collect();
    assert_eq!(back.vector, full.vector);
    assert_eq!(back.vector.unwrap()[1].to_bits(), (-0.0_f32).to_bits());
    assert_eq!((back.document.map(|text| text.to_string()), back.uri), (full.document, full.uri));
    assert_eq!(back.metadata, Some(metadata.into()));
    assert_eq!((back.version, back.expires_at), (wrote.version, None));
}

#[tokio::test]
async fn only_what_was_asked_for_comes_back() {
    let (_world, c) = two().await;
    for bits in 0..32 {
        let include = Include {
            vector: bits & 1 > 0,
            document: bits & 2 > 0,
            uri: bits & 4 > 0,
            metadata: bits & 8 > 0,
            vectors: bits & 16 > 0,
        };
        let request = GetRequest { select: by_ids(&["a"]), include, ..GetRequest::default() };
        let record = c.get(&request).await.unwrap().pop().unwrap();
        assert_eq!(record.vector.is_some(), include.vector);
        assert_eq!(record.document.is_some(), include.document);
        assert_eq!(record.metadata.is_some(), include.metadata);
        assert_eq!(record.uri, None);
    }
}

#[tokio::test]
async fn each_mode_treats_known_and_new_ids_as_it_says() {
    let (_world, c) = two().await;
    let batch = || vec![write("a").text("changed"), write("x").text("new")];
    let document = async |name: &str| find(&c, name).await.and_then(|r| r.document);

    assert_eq!(counts(c.write(ADD_NEW, batch()).await.unwrap()), (1, 0, 1));
    assert_eq!(document("a").await.as_deref(), Some("apple"));
    assert_eq!(document("x").await.as_deref(), Some("new"));
    c.delete(&by_ids(&["x"]), None).await.unwrap();

    assert_eq!(counts(c.write(UPDATE_KNOWN, batch()).await.unwrap()), (0, 1, 1));
    assert_eq!(document("a").await.as_deref(), Some("changed"));
    assert_eq!(document("x").await, None);

    assert_eq!(counts(c.write(WriteMode::Upsert, batch()).await.unwrap()), (1, 1, 0));
    assert_eq!(all_ids(&c).await, ["a", "b", "x"]);
}

#[tokio::test]
async fn one_bad_record_undoes_its_whole_batch_in_every_mode() {
    let (_world, c) = two().await;
    let before = c.get(&GetRequest { include: ALL, ..GetRequest::default() }).await.unwrap();
    let good = || write("good").vector(&[1.0, 1.0]).set("n", Value::Int(9));
    let touch = || write("a").text("touched");
    let too_long = write("bad").vector(&[1.0, 2.0, 3.0]);
    let cases = [
        ("an id that exists", ADD, vec![good(), write("b")], ErrorKind::AlreadyExists),
        ("an id that is missing", UPDATE, vec![touch(), write("none")], ErrorKind::NotFound),
        (
            "another dimension",
            WriteMode::Upsert,
            vec![touch(), good(), too_long.clone()],
            ErrorKind::Invalid,
        ),
        ("another dimension alone", WriteMode::Upsert, vec![too_long.clone()], ErrorKind::Invalid),
        ("another dimension, new ids", ADD_NEW, vec![write("p"), too_long], ErrorKind::Invalid),
        ("an id twice", WriteMode::Upsert, vec![good(), touch(), good()], ErrorKind::Invalid),
        (
            "a value that is no number",
            UPDATE_KNOWN,
            vec![touch(), write("b").set("f", Value::Float(f64::NAN))],
            ErrorKind::Invalid,
        ),
    ];
    for (case, mode, batch, expected) in cases {
        assert_eq!(kind(c.write(mode, batch).await), expected, "{case}");
        let after = c.get(&GetRequest { include: ALL, ..GetRequest::default() }).await.unwrap();
        assert_eq!(after, before, "{case}");
        let hits = c.query(&query(&[1.0, 1.0], 9)).await.unwrap();
        assert_eq!(hits[0].len(), 2, "{case}");
    }
    assert_eq!(c.count(None).await.unwrap(), 2);
}

#[tokio::test]
async fn an_update_merges() {
    let (_world, c) = two().await;
    let change = write("a").set("m", text("x")).unset("n").unset("never");
    c.write(UPDATE, vec![change]).await.unwrap();
    let a = find(&c, "a").await.unwrap();
    assert_eq!(a.metadata, Some(Metadata::from([("m".into(), text("x"))]).into()));
    assert_eq!((a.document.as_deref(), a.vector), (Some("apple"), Some(vec![1.0, 0.0])));

    c.write(UPDATE, vec![write("a").vector(&[3.0, 4.0]).unset("m")]).await.unwrap();
    let a = find(&c, "a").await.unwrap();
    assert_eq!((a.vector, a.metadata), (Some(vec![3.0, 4.0]), None));
    let hits = c.query(&query(&[3.0, 4.0], 1)).await.unwrap();
    assert_eq!((hits[0][0].record.id.as_str(), hits[0][0].distance), ("a", 0.0));
}

#[tokio::test]
async fn versions_grow_and_tell_which_records_a_batch_wrote() {
    let (_world, c) = two().await;
    let version = async |name: &str| find(&c, name).await.unwrap().version;
    let (a, b) = (version("a").await, version("b").await);
    assert_eq!(a, b);
    let second = c.write(UPDATE, vec![write("b")]).await.unwrap();
    assert!(second.version > a);
    assert_eq!((version("a").await, version("b").await), (a, second.version));

    let nothing = c.write(UPDATE_KNOWN, vec![write("none")]).await.unwrap();
    assert_eq!(nothing, WriteOutcome { skipped: 1, ..WriteOutcome::default() });
    assert_eq!(c.write(WriteMode::Upsert, Vec::new()).await.unwrap(), WriteOutcome::default());
    let third = c.write(WriteMode::Upsert, vec![write("a"), write("z")]).await.unwrap();
    assert!(third.version > second.version);
    assert_eq!((version("a").await, version("z").await), (third.version, third.version));
}

#[tokio::test]
async fn the_first_vector_sets_the_dimension_for_good() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let dimension = async || world.collection(&key, "c").await.info().dimension;
    c.write(ADD, vec![write("plain").text("no vector")]).await.unwrap();
    assert_eq!(dimension().await, None);
    assert_eq!(c.query(&query(&[1.0], 5)).await.unwrap(), [Vec::new()]);
    // A batch that fails leaves no dimension behind.
    assert!(c.write(ADD, vec![write("v").vector(&[1.0; 7]), write("plain")]).await.is_err());
    assert_eq!(dimension().await, None);
    // Nor does a vector that was not stored.
    c.write(UPDATE_KNOWN, vec![write("none").vector(&[1.0; 7])]).await.unwrap();
    assert_eq!(dimension().await, None);
    c.write(UPDATE_KNOWN, vec![write("none").vector(&[1.0; 7]), write("plain").text("x")])
        .await
        .unwrap();
    assert_eq!(dimension().await, None);

    c.write(ADD, vec![write("v").vector(&[1.0, 2.0, 3.0])]).await.unwrap();
    assert_eq!(dimension().await, Some(3));
    let refused = shown(c.write(ADD, vec![write("w").vector(&[1.0])]).await);
    let words = "Collection expecting embedding with dimension of 3, got 1";
    assert_eq!(refused, (ErrorKind::Invalid, words.into()));
    assert_eq!(shown(c.query(&query(&[1.0], 1)).await), refused);
    // Emptying a collection does not change what it holds.
    c.delete(&by_ids(&["v", "plain"]), None).await.unwrap();
    assert_eq!(dimension().await, Some(3));
    assert_eq!(kind(c.write(ADD, vec![write("w").vector(&[1.0])]).await), ErrorKind::Invalid);
}

#[tokio::test]
async fn records_are_deleted_by_id_by_filter_by_both_and_up_to_a_limit() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let batch = (0..10).map(|n| write(&format!("r{n}")).set("even", Value::Bool(n % 2 == 0)));
    c.write(ADD, batch.collect()).await.unwrap();
    let even = || is("even", Value::Bool(true));

    assert_eq!(c.delete(&Selector::default(), None).await.unwrap(), 0);
    assert_eq!(c.delete(&by_ids(&[]), None).await.unwrap(), 0);
    assert_eq!(c.delete(&by_ids(&["none", "r1", "r1"]), None).await.unwrap(), 1);
    let both = Selector { filter: Some(even()), ..by_ids(&["r3", "r4"]) };
    assert_eq!(c.delete(&both, None).await.unwrap(), 1);
    assert_eq!(all_ids(&c).await, ["r0", "r2", "r3", "r5", "r6", "r7", "r8", "r9"]);
    assert_eq!(c.delete(&by_filter(even()), Some(2)).await.unwrap(), 2);
    assert_eq!(all_ids(&c).await, ["r3", "r5", "r6", "r7", "r8", "r9"]);
    assert_eq!(c.delete(&by_filter(even()), Some(0)).await.unwrap(), 0);
    assert_eq!(c.delete(&by_ids(&["r9", "r3", "r5"]), Some(2)).await.unwrap(), 2);
    assert_eq!(all_ids(&c).await, ["r6", "r7", "r8", "r9"]);
    assert_eq!(c.delete(&by_filter(even()), None).await.unwrap(), 2);
    assert_eq!(c.delete(&by_filter(Filter::And(Vec::new())), None).await.unwrap(), 2);
    assert_eq!(c.count(None).await.unwrap(), 0);

    // A deleted id is new again, at the end and without what it was.
    c.write(ADD, vec![write("z"), write("r0")]).await.unwrap();
    assert_eq!(all_ids(&c).await, ["z", "r0"]);
    assert_eq!(find(&c, "r0").await.unwrap().metadata, None);
}

#[tokio::test]
async fn counts_follow_the_filter() {
    let (_world, c) = two().await;
    let count = async |filter: Filter| c.count(Some(&filter)).await.unwrap();
    assert_eq!(c.count(None).await.unwrap(), 2);
    assert_eq!(count(is("n", Value::Int(1))).await, 1);
    assert_eq!(count(is("n", Value::Float(2.0))).await, 1);
    assert_eq!(count(is("n", text("1"))).await, 0);
    assert_eq!(count(test("none", FieldTest::Ne(Value::Int(1)))).await, 2);
    assert_eq!(count(Filter::Text(TextTest::Contains("ppl".into()))).await, 1);
    assert_eq!(count(Filter::Text(TextTest::NotContains("ppl".into()))).await, 1);
    assert_eq!(count(Filter::Or(Vec::new())).await, 0);
}

#[tokio::test]
async fn answers_do_not_depend_on_whether_a_collection_is_in_memory() {
    let dir = tempfile::TempDir::new().unwrap();
    let data = dir.path().join("data");
    let world = World::with(|config| config.data_dir.clone_from(&data)).await;
    let key = world.tenant("acme").await;
    let c = world.collection(&key, "c").await;
    let batch = (0..50_u8).map(|n| {
        write(&format!("r{n}")).vector(&[n.into(), 1.0]).set("n", Value::Int(n.into())).text("t")
    });
    c.write(ADD, batch.collect()).await.unwrap();
    c.write(UPDATE, vec![write("r7").vector(&[7.5, 1.0]).unset("n")]).await.unwrap();
    c.delete(&by_filter(is("n", Value::Int(3))), None).await.unwrap();
    let whole = GetRequest { include: ALL, ..GetRequest::default() };
    let few = GetRequest { page: Page { limit: Some(5), offset: 4 }, ..whole.clone() };
    let nearest = QueryRequest { include: ALL, ..query(&[7.2, 1.0], 10) };
    let hot = (
        c.get(&whole).await.unwrap(),
        c.get(&few).await.unwrap(),
        c.query(&nearest).await.unwrap(),
        c.count(None).await.unwrap(),
    );
    world.engine.shutdown().await.unwrap();
    drop((c, world.engine));

    let mut config = EmbeddedConfig::new(&data);
    config.master_key = MasterKey::Bytes(zeroize::Zeroizing::new([7; 32]));
    let store = Store::open_embedded(config).unwrap();
    let clock = world.clock.clone();
    let engine = Engine::start(EngineConfig { store, authority: Authority::new(), clock });
    let who = engine.authenticate(Some(&key)).await.unwrap();
    let session = engine.session::<Read>(&who, Select::Own).await.unwrap();
    let db = session.database(&DatabaseName::default_database()).await.unwrap();
    let c = db.collection(&collection("c")).await.unwrap();
    // The small get comes first: it is answered from disk, all else from memory.
    let few = c.get(&few).await.unwrap();
    let count = c.count(None).await.unwrap();
    let cold = (c.get(&whole).await.unwrap(), few, c.query(&nearest).await.unwrap(), count);
    assert_eq!(cold, hot);
    engine.shutdown().await.unwrap();
}
