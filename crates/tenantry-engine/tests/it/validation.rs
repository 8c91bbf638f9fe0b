//! What callers may send: everything else is refused with a clear kind and a place.

use crate::support::*;
use std::collections::BTreeMap;
use tenantry_engine::*;

async fn empty() -> (World, Collection<Write>) {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let made = world.collection(&key, "c").await;
    (world, made)
}

fn many_keys(count: usize) -> RecordWrite {
    (0..count).fold(write("r"), |r, n| r.set(&format!("k{n}"), Value::Int(0)))
}

#[tokio::test]
async fn metadata_is_checked() {
    let (_world, c) = empty().await;
    let list = |items: Vec<Value>| write("r").set("k", Value::List(items));
    let nested = Value::List(vec![Value::Int(1)]);
    let long_key = "k".repeat(Limits::METADATA_KEY_BYTES_MAX);
    let big = "x".repeat(Limits::METADATA_BYTES_MAX);
    let (ok, invalid, large) = (None, Some(ErrorKind::Invalid), Some(ErrorKind::TooLarge));
    let cases = [
        ("an empty list", list(Vec::new()), ok),
        ("a list of one kind", list(vec![Value::Float(1.0), Value::Float(2.0)]), ok),
        ("a list of integers and floats", list(vec![Value::Int(1), Value::Float(2.0)]), invalid),
        ("a list of texts and booleans", list(vec![text("a"), Value::Bool(true)]), invalid),
        ("a list in a list", list(vec![nested.clone()]), invalid),
        ("lists in a list", list(vec![nested.clone(), nested]), invalid),
        ("NaN in a list", list(vec![Value::Float(f64::NAN)]), invalid),
        ("NaN", write("r").set("k", Value::Float(f64::NAN)), invalid),
        ("infinity", write("r").set("k", Value::Float(f64::INFINITY)), invalid),
        ("minus infinity", write("r").set("k", Value::Float(f64::NEG_INFINITY)), invalid),
        ("the largest float", write("r").set("k", Value::Float(f64::MAX)), ok),
        ("an empty key", write("r").set("", Value::Int(1)), invalid),
        ("an empty key removed", write("r").unset(""), invalid),
        ("a NUL in a key", write("r").set("\0", Value::Int(1)), ok),
        ("the longest key", write("r").set(&long_key, Value::Int(1)), ok),
        ("a longer key", write("r").set(&format!("{long_key}k"), Value::Int(1)), invalid),
        ("as many keys as allowed", many_keys(Limits::METADATA_KEYS_MAX), ok),
        ("too many keys", many_keys(Limits::METADATA_KEYS_MAX + 1), large),
        ("too many bytes", write("r").set("k", Value::Str(big)), large),
        ("text that is not ASCII", write("r").set("ключ", text("значение")), ok),
    ];
    for (case, record, expected) in cases {
        c.delete(&by_ids(&["r"]), None).await.unwrap();
        let outcome = c.write(WriteMode::Upsert, vec![record]).await;
        assert_eq!(outcome.as_ref().err().map(Error::kind), expected, "{case}: {outcome:?}");
        assert_eq!(find(&c, "r").await.is_some(), expected.is_none(), "{case}");
    }
}

#[tokio::test]
async fn metadata_cannot_outgrow_its_bounds_by_merging() {
    let (_world, c) = empty().await;
    c.write(WriteMode::Upsert, vec![many_keys(Limits::METADATA_KEYS_MAX)]).await.unwrap();
    let one_more = write("r").set("one more", Value::Int(0));
    assert_eq!(kind(c.write(WriteMode::Upsert, vec![one_more.clone()]).await), ErrorKind::TooLarge);
    let swap = one_more.unset("k0");
    c.write(WriteMode::Upsert, vec![swap]).await.unwrap();

    let half = "x".repeat(Limits::METADATA_BYTES_MAX / 2);
    let part = |key: &str| vec![write("big").set(key, text(&half))];
    c.write(WriteMode::Upsert, part("a")).await.unwrap();
    assert_eq!(kind(c.write(WriteMode::Upsert, part("b")).await), ErrorKind::TooLarge);
    c.write(WriteMode::Upsert, part("a")).await.unwrap();
    assert_eq!(find(&c, "big").await.unwrap().metadata.unwrap().len(), 1);
}

#[tokio::test]
async fn attributes_cannot_outgrow_their_bounds_by_changes() {
    let (_world, mut c) = empty().await;
    let half = "x".repeat(Limits::ATTRIBUTES_BYTES_MAX / 2);
    let set = |key: &str| CollectionChange {
        attributes: BTreeMap::from([(key.to_owned(), half.clone())]),
        ..CollectionChange::default()
    };
    c = c.change(&set("a")).await.unwrap();
    assert_eq!(kind(c.change(&set("b")).await), ErrorKind::TooLarge);
    c = c.change(&set("a")).await.unwrap();
    assert_eq!(c.info().attributes.len(), 1);
}

#[tokio::test]
async fn vectors_texts_and_batches_are_checked() {
    let (_world, c) = empty().await;
    let batch = |count: usize| (0..count).map(|n| write(&n.to_string())).collect::<Vec<_>>();
    let mut long_uri = write("r");
    long_uri.uri = Some("u".repeat(Limits::URI_BYTES_MAX + 1));
    let invalid = ErrorKind::Invalid;
    let cases = [
        ("an empty vector", vec![write("r").vector(&[])], invalid),
        ("NaN", vec![write("r").vector(&[1.0, f32::NAN])], invalid),
        ("infinity", vec![write("r").vector(&[f32::INFINITY])], invalid),
        (
            "too many components",
            vec![write("r").vector(&vec![0.0; Limits::DIMENSION_MAX + 1])],
            invalid,
        ),
        (
            "two dimensions",
            vec![write("a").vector(&[1.0]), write("b").vector(&[1.0, 2.0])],
            invalid,
        ),
        ("an id twice", vec![write("a"), write("a")], invalid),
        ("too many records", batch(Limits::BATCH_RECORDS_MAX + 1), ErrorKind::TooLarge),
        ("a long uri", vec![long_uri], ErrorKind::TooLarge),
        (
            "a long text",
            vec![write("r").text(&"t".repeat(Limits::DOCUMENT_BYTES_MAX + 1))],
            ErrorKind::TooLarge,
        ),
    ];
    for (case, batch, expected) in cases {
        assert_eq!(kind(c.write(WriteMode::Upsert, batch).await), expected, "{case}");
    }
    assert_eq!(c.count(None).await.unwrap(), 0);
    c.write(WriteMode::Upsert, batch(Limits::BATCH_RECORDS_MAX)).await.unwrap();
    let widest = write("wide").vector(&vec![1.0; Limits::DIMENSION_MAX]);
    c.write(WriteMode::Upsert, vec![widest]).await.unwrap();
    assert_eq!(c.count(None).await.unwrap(), Limits::BATCH_RECORDS_MAX + 1);
}

fn nested(depth: usize) -> Filter {
    (0..depth).fold(Filter::And(Vec::new()), |inner, _| Filter::Not(Box::new(inner)))
}

fn listed(count: usize) -> Filter {
    test("k", FieldTest::In(vec![Value::Int(0); count]))
}

#[tokio::test]
async fn filters_are_checked_wherever_they_are_used() {
    let (_world, c) = empty().await;
    let regex = |pattern: &str| Filter::Text(TextTest::Regex(pattern.to_owned()));
    let (ok, invalid, large) = (None, Some(ErrorKind::Invalid), Some(ErrorKind::TooLarge));
    let cases = [
        ("as deep as allowed", nested(Limits::DEPTH_MAX), ok),
        ("too deep", nested(Limits::DEPTH_MAX + 1), large),
        ("far too deep", nested(1_000), large),
        ("as many values as allowed", listed(Limits::FILTER_TERMS_MAX - 1), ok),
        ("too many values", listed(Limits::FILTER_TERMS_MAX), large),
        (
            "too many terms",
            Filter::Or(vec![Filter::And(Vec::new()); Limits::FILTER_TERMS_MAX]),
            large,
        ),
        ("an order of booleans", test("k", FieldTest::Gt(Value::Bool(true))), invalid),
        ("an equal list", is("k", Value::List(Vec::new())), invalid),
        ("a list in a list", test("k", FieldTest::In(vec![Value::List(Vec::new())])), invalid),
        ("NaN", test("k", FieldTest::Lt(Value::Float(f64::NAN))), invalid),
        ("infinity", test("k", FieldTest::Lt(Value::Float(f64::INFINITY))), ok),
        ("a broken pattern", regex("("), invalid),
        ("a huge pattern", regex("(a{1000}){1000}"), invalid),
        ("a long pattern", regex(&"a".repeat(Limits::REGEX_BYTES_MAX + 1)), large),
        ("many patterns", Filter::Or(vec![regex("a"); 1_000]), invalid),
    ];
    for (case, filter, expected) in cases {
        let select = by_filter(filter.clone());
        let get = GetRequest { select: select.clone(), ..GetRequest::default() };
        let search = QueryRequest { select: select.clone(), ..query(&[1.0], 1) };
        let outcomes = [
            ("count", c.count(Some(&filter)).await.err()),
            ("get", c.get(&get).await.err()),
            ("query", c.query(&search).await.err()),
            ("delete", c.delete(&select, None).await.err()),
        ];
        for (operation, error) in outcomes {
            assert_eq!(error.map(|e| e.kind()), expected, "{operation}: {case}");
        }
    }
}

#[tokio::test]
async fn queries_and_selections_are_checked() {
    let (_world, c) = empty().await;
    c.write(WriteMode::Upsert, vec![write("r").vector(&[1.0, 2.0])]).await.unwrap();
    let vectors = |count| QueryRequest { vectors: vec![vec![1.0, 2.0]; count], ..query(&[], 1) };
    let hits = QueryRequest { k: Limits::QUERY_HITS_MAX + 1, ..vectors(1) };
    let ids = Selector { ids: Some(vec![id("r"); Limits::IDS_MAX + 1]), filter: None };
    let cases = [
        ("too many vectors", vectors(Limits::QUERY_VECTORS_MAX + 1), ErrorKind::TooLarge),
        ("too many hits", hits, ErrorKind::TooLarge),
        ("too many hits in all", QueryRequest { k: usize::MAX, ..vectors(2) }, ErrorKind::TooLarge),
        ("too many ids", QueryRequest { select: ids.clone(), ..vectors(1) }, ErrorKind::TooLarge),
        ("another dimension", query(&[1.0], 1), ErrorKind::Invalid),
        ("an empty vector", query(&[], 1), ErrorKind::Invalid),
        ("NaN", query(&[f32::NAN, 1.0], 1), ErrorKind::Invalid),
    ];
    for (case, request, expected) in cases {
        assert_eq!(kind(c.query(&request).await), expected, "{case}");
    }
    let get = GetRequest { select: ids.clone(), ..GetRequest::default() };
    assert_eq!(kind(c.get(&get).await), ErrorKind::TooLarge);
    assert_eq!(kind(c.delete(&ids, None).await), ErrorKind::TooLarge);
    let most = QueryRequest { k: Limits::QUERY_HITS_MAX, ..vectors(1) };
    assert_eq!(c.query(&most).await.unwrap()[0].len(), 1);
}

#[tokio::test]
async fn collections_and_keys_are_checked() {
    let (world, c) = empty().await;
    let key = world.key("acme", new_key(Role::Admin)).await;
    let db = world.database::<Write>(&key).await;
    let bad = Metadata::from([("k".into(), Value::Float(f64::NAN))]);
    let made = CollectionSpec { metadata: Some(bad.clone()), ..spec("x") };
    assert_eq!(kind(db.create_collection(&made, false).await), ErrorKind::Invalid);
    let change = CollectionChange { metadata: Some(Some(bad)), ..CollectionChange::default() };
    assert_eq!(kind(c.change(&change).await), ErrorKind::Invalid);
    let big = BTreeMap::from([("k".to_owned(), "x".repeat(Limits::ATTRIBUTES_BYTES_MAX))]);
    let made = CollectionSpec { attributes: big, ..spec("x") };
    assert_eq!(kind(db.create_collection(&made, false).await), ErrorKind::TooLarge);
    assert_eq!(kind(db.collection(&collection("x")).await), ErrorKind::NotFound);

    let session = world.session::<Admin>(&key).await;
    let keys_before = session.keys().await.unwrap().len();
    let broken = Filter::Text(TextTest::Regex("(".into()));
    let too_many: Vec<_> = (1..=1_001).map(|n| Allowed::Database(DatabaseNumber(n))).collect();
    for bad in [
        NewKey { label: "x".repeat(257), ..new_key(Role::Read) },
        NewKey { label: "x\n2026-11-30 tenant.suspend".into(), ..new_key(Role::Read) },
        NewKey { expires_at: Some(Timestamp(START)), ..new_key(Role::Read) },
        bound_key(Role::Read, broken),
        bound_key(Role::Read, is("k", Value::List(Vec::new()))),
        limited_key(Role::Read, too_many),
    ] {
        assert_eq!(kind(session.create_key(bad.clone()).await), ErrorKind::Invalid, "{bad:?}");
    }
    assert_eq!(session.keys().await.unwrap().len(), keys_before);
    assert_eq!(kind(session.audit(0, 10_001).await), ErrorKind::Invalid);
    let past = world.operator().create_key(true, "", Some(Timestamp(1))).await;
    assert_eq!(kind(past), ErrorKind::Invalid);
}
