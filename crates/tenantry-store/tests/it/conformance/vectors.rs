//! Cases about named vectors, and about vectors that are rounded in memory.

use super::{UPSERT, World, all_parts, id, nearest, only, record, spec};
use std::collections::BTreeMap;
use tenantry_auth::{Admin, Scope};
use tenantry_store::CollectionRef;
use tenantry_types::{
    CollectionSpec, ErrorKind, Existing, FieldTest, Filter, GetRequest, Include, MemoryStatistics,
    Metric, Missing, Order, QueryRequest, Record, RecordWrite, Selector, Value, VectorName,
    VectorSpec, VectorStorage, WriteMode,
};

fn name(text: &str) -> VectorName {
    VectorName::parse(text).expect("a name")
}

/// Unnamed vectors by L2, `title` by cosine with 3 components, `image` by inner product with as
/// many as the first has.
fn named_spec() -> CollectionSpec {
    let vector = |metric, dimension, storage| VectorSpec { metric, dimension, storage };
    CollectionSpec {
        vectors: [
            (name("title"), vector(Metric::Cosine, Some(3), VectorStorage::Full)),
            (name("image"), vector(Metric::InnerProduct, None, VectorStorage::Half)),
        ]
        .into(),
        ..spec("named")
    }
}

async fn collection(
    w: &World<'_>,
    tenant: &str,
    spec: &CollectionSpec,
) -> (Scope<Admin>, CollectionRef) {
    let scope = w.tenant(tenant).await;
    let database = w.database(&scope).await;
    let made = w.store.create_collection(&scope, &database, spec, false).await.expect("made");
    (scope, made.0)
}

fn with(mut record: RecordWrite, vectors: &[(&str, &[f32])]) -> RecordWrite {
    record.vectors = vectors.iter().map(|(of, vector)| (name(of), vector.to_vec())).collect();
    record
}

fn search(using: Option<&str>, vector: &[f32], k: usize) -> QueryRequest {
    let using = using.map(name);
    QueryRequest { using, vectors: vec![vector.to_vec()], ..nearest([0.0; 2], k) }
}

async fn found(
    w: &World<'_>,
    scope: &Scope<Admin>,
    c: &CollectionRef,
    request: &QueryRequest,
) -> Vec<(String, f32)> {
    let hits = w.store.query(scope, c, request).await.expect("query").value.hits;
    hits[0].iter().map(|hit| (hit.record.id.as_str().to_owned(), hit.distance)).collect()
}

async fn one(w: &World<'_>, scope: &Scope<Admin>, c: &CollectionRef, of: &str) -> Record {
    let request = GetRequest { select: only(&[of]), include: all_parts(), ..Default::default() };
    w.store.get(scope, c, &request).await.expect("get").value.remove(0)
}

/// Records with some of their vectors.
fn some() -> Vec<RecordWrite> {
    vec![
        with(record("a", 1.0, &[]), &[("title", &[1.0, 0.0, 0.0]), ("image", &[2.0, 2.0])]),
        with(record("b", 2.0, &[]), &[("title", &[0.0, 5.0, 0.0])]),
        RecordWrite { vector: None, ..with(record("c", 0.0, &[]), &[("image", &[0.5, 9.0])]) },
        RecordWrite { vector: None, ..record("d", 0.0, &[]) },
    ]
}

pub(super) async fn each_name_has_its_own_metric_and_dimension(w: &World<'_>) {
    let (scope, c) = collection(w, "t", &named_spec()).await;
    w.store.write(&scope, &c, UPSERT, some()).await.unwrap();
    let ids = |hits: Vec<(String, f32)>| hits.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let unnamed = found(w, &scope, &c, &search(None, &[1.0, 1.9], 9)).await;
    assert_eq!(ids(unnamed), ["b", "a"]);
    let title = found(w, &scope, &c, &search(Some("title"), &[0.0, 1.0, 0.0], 9)).await;
    assert_eq!(title.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
    assert!(title[0].1.abs() < 1e-6 && (title[1].1 - 1.0).abs() < 1e-6, "cosine: {title:?}");
    let image = found(w, &scope, &c, &search(Some("image"), &[0.0, 1.0], 9)).await;
    assert_eq!(image.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["c", "a"]);
    assert!((image[0].1 + 8.0).abs() < 1e-2 && (image[1].1 + 1.0).abs() < 1e-2, "{image:?}");

    // The first write told the dimension of `image`, and it is known from then on.
    let database = w.database(&scope).await;
    let c = w.store.collection(&scope, &database, &named_spec().name).await.unwrap();
    let told: BTreeMap<_, _> =
        c.info().vectors.iter().map(|(name, one)| (name.as_str(), one.spec.dimension)).collect();
    assert_eq!(told, BTreeMap::from([("image", Some(2)), ("title", Some(3))]));
    assert_eq!(c.info().dimension, Some(2));

    // Ids and filters hold for named vectors as they do for the unnamed one.
    let select = only(&["a", "d"]);
    let request = QueryRequest { select, ..search(Some("title"), &[0.0, 1.0, 0.0], 9) };
    assert_eq!(ids(found(w, &scope, &c, &request).await), ["a"]);
}

pub(super) async fn what_a_write_does_not_name_stays(w: &World<'_>) {
    let (scope, c) = collection(w, "t", &named_spec()).await;
    w.store.write(&scope, &c, UPSERT, some()).await.unwrap();
    // From disk, then from memory.
    for warm in [false, true] {
        if warm {
            found(w, &scope, &c, &search(None, &[0.0, 0.0], 1)).await;
        }
        let a = one(w, &scope, &c, "a").await;
        assert_eq!(a.vector, Some(vec![1.0, 1.0]));
        let image = if warm { vec![7.0, -1.0] } else { vec![2.0, 2.0] };
        let want = [(name("title"), vec![1.0, 0.0, 0.0]), (name("image"), image.clone())];
        assert_eq!(a.vectors, want.into());
        // An update names one of them, by each mode.
        let patch = |image: &[f32]| vec![with(RecordWrite::new(id("a")), &[("image", image)])];
        for mode in [WriteMode::Update(Missing::Fail), UPSERT] {
            w.store.write(&scope, &c, mode, patch(&[7.0, -1.0])).await.unwrap();
        }
        let skipped = WriteMode::Add(Existing::Skip);
        w.store.write(&scope, &c, skipped, patch(&[0.0, 0.0])).await.unwrap();
        let a = one(w, &scope, &c, "a").await;
        let want = [(name("title"), vec![1.0, 0.0, 0.0]), (name("image"), vec![7.0, -1.0])];
        assert_eq!((a.vector, a.vectors), (Some(vec![1.0, 1.0]), want.into()));
    }
    let far = found(w, &scope, &c, &search(Some("image"), &[1.0, 0.0], 1)).await;
    assert_eq!(far[0].0, "a");
    // A record that has none says so, and one that gets its first is found by it.
    let d = one(w, &scope, &c, "d").await;
    assert_eq!((d.vector, d.vectors), (None, BTreeMap::new()));
    let first = with(RecordWrite::new(id("d")), &[("image", &[100.0, 0.0])]);
    w.store.write(&scope, &c, UPSERT, vec![first]).await.unwrap();
    let far = found(w, &scope, &c, &search(Some("image"), &[1.0, 0.0], 1)).await;
    assert_eq!(far[0].0, "d");
    // Only what was asked for comes back.
    for (vector, vectors) in [(true, false), (false, true), (false, false)] {
        let include = Include { vector, vectors, ..Include::default() };
        let request = GetRequest { select: only(&["a"]), include, ..GetRequest::default() };
        let a = w.store.get(&scope, &c, &request).await.unwrap().value.remove(0);
        assert_eq!((a.vector.is_some(), a.vectors.len()), (vector, 2 * usize::from(vectors)));
        let request = QueryRequest { include, ..search(Some("image"), &[1.0, 0.0], 2) };
        let hits = w.store.query(&scope, &c, &request).await.unwrap().value.hits;
        let a = &hits[0][1].record;
        assert_eq!((a.vector.is_some(), a.vectors.len()), (vector, 2 * usize::from(vectors)));
    }
}

pub(super) async fn vectors_that_do_not_fit_are_refused(w: &World<'_>) {
    let (scope, c) = collection(w, "t", &named_spec()).await;
    w.store.write(&scope, &c, UPSERT, some()).await.unwrap();
    let before = w.store.get(&scope, &c, &GetRequest::default()).await.unwrap().value;
    for (vectors, why) in [
        (("titel", &[1.0, 0.0, 0.0][..]), "no vectors named \"titel\""),
        (("title", &[1.0, 0.0]), "\"title\" have a dimension of 3, got 2"),
        (("image", &[1.0]), "\"image\" have a dimension of 2, got 1"),
    ] {
        let batch = vec![record("new", 1.0, &[]), with(record("x", 1.0, &[]), &[vectors])];
        let error = w.store.write(&scope, &c, UPSERT, batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(why), "{error}");
        let request = search(Some(vectors.0), vectors.1, 1);
        let error = w.store.query(&scope, &c, &request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(w.store.get(&scope, &c, &GetRequest::default()).await.unwrap().value, before);
    // Two first vectors of one batch must agree.
    let database = w.database(&scope).await;
    let second = CollectionSpec { name: spec("second").name, ..named_spec() };
    let second = w.store.create_collection(&scope, &database, &second, false).await.unwrap().0;
    let batch = vec![
        with(record("x", 1.0, &[]), &[("image", &[1.0])]),
        with(record("y", 1.0, &[]), &[("image", &[1.0, 2.0])]),
    ];
    let error = w.store.write(&scope, &second, UPSERT, batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    // A collection without named vectors, and a name that no record has.
    let plain = w.store.create_collection(&scope, &database, &spec("plain"), false).await.unwrap();
    let error = w.store.query(&scope, &plain.0, &search(Some("title"), &[1.0], 1)).await;
    assert!(error.unwrap_err().to_string().contains("named vectors: none"));
    let none = found(w, &scope, &second, &search(Some("image"), &[1.0, 2.0, 3.0], 5)).await;
    assert_eq!(none, []);
}

/// Not two of them are equally far from anything, and their components need every bit.
fn vector(n: u32) -> Vec<f32> {
    let mut state = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..48)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

const RECORDS: u32 = 2_000;

/// Returns what the collections take in memory, the more exact ones first.
pub(super) async fn rounded_vectors_come_back_as_they_were_given(
    w: &World<'_>,
) -> Vec<Option<MemoryStatistics>> {
    let scope = w.tenant("rounded").await;
    let database = w.database(&scope).await;
    let mut memory = Vec::new();
    for storage in [VectorStorage::Full, VectorStorage::Half, VectorStorage::Int8] {
        let spec = CollectionSpec {
            storage,
            vectors: [(name("v"), VectorSpec { storage, ..VectorSpec::default() })].into(),
            ..spec(&format!("{storage:?}"))
        };
        let c = w.store.create_collection(&scope, &database, &spec, false).await.unwrap().0;
        let write = |n: u32| RecordWrite {
            vector: Some(vector(n)),
            vectors: [(name("v"), vector(n + RECORDS))].into(),
            metadata: [("even".to_owned(), Some(Value::Bool(n.is_multiple_of(2))))].into(),
            ..RecordWrite::new(id(&n.to_string()))
        };
        w.store.write(&scope, &c, UPSERT, (0..RECORDS).map(write).collect()).await.unwrap();
        let even = Filter::Field { key: "even".into(), test: FieldTest::Eq(Value::Bool(true)) };
        let even = Selector { ids: None, filter: Some(even) };
        let given = |record: &Record, at: u32| {
            let n: u32 = record.id.as_str().parse().unwrap();
            let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(record.vector.as_deref().unwrap()), bits(&vector(n)), "{storage:?}");
            assert_eq!(bits(&record.vectors[&name("v")]), bits(&vector(n + RECORDS)));
            n + at
        };
        let (mut hits, mut expected) = (0, 0);
        for q in 0..12 {
            for (using, select) in [(None, Selector::default()), (Some(name("v")), even.clone())] {
                let asked = vector(9_999 + q);
                let distance = |n: u32| -> f32 {
                    vector(n).iter().zip(&asked).map(|(a, b)| (a - b) * (a - b)).sum()
                };
                let (offset, step) = if using.is_some() { (RECORDS, 2) } else { (0, 1) };
                let mut truth: Vec<f32> =
                    (0..RECORDS).step_by(step).map(|n| distance(n + offset)).collect();
                truth.sort_unstable_by(f32::total_cmp);
                let vectors = vec![asked.clone()];
                let (k, include) = (10, all_parts());
                let request = QueryRequest { using, vectors, k, select, include, exact: false };
                let found = w.store.query(&scope, &c, &request).await.unwrap().value.hits;
                assert_eq!(found[0].len(), 10);
                let near = |record: &Record| distance(given(record, offset)) <= truth[9];
                hits += found[0].iter().filter(|hit| near(&hit.record)).count();
                expected += 10;
            }
        }
        let recall = hits as f64 / f64::from(expected);
        assert!(recall >= 0.98, "{storage:?}: {recall}");
        // Many at once, in another order, through a filter: read on a thread that may block.
        let (order, include) = (Order::Id, all_parts());
        let request = GetRequest { select: even, order, include, ..GetRequest::default() };
        let all = w.store.get(&scope, &c, &request).await.unwrap().value;
        assert_eq!(all.iter().filter(|record| given(record, 0) % 2 == 0).count(), 1_000);
        let statistics = w.store.collection_statistics(&scope, &c).await.unwrap().value;
        assert_eq!(statistics.records, 2_000);
        memory.push(statistics.memory);
    }
    memory
}

/// Vectors that are read from disk after the search belong to the records that were found, also
/// while these are written: to the same version of them.
pub(super) async fn rounded_vectors_belong_to_the_version_that_was_found(w: &World<'_>) {
    let storage = VectorStorage::Half;
    let (scope, c) = collection(w, "t", &CollectionSpec { storage, ..spec("c") }).await;
    let batch = |round: u8| {
        let one = |n: u8| RecordWrite {
            vector: Some(vec![f32::from(n), f32::from(round)]),
            document: Some(round.to_string()),
            ..RecordWrite::new(id(&n.to_string()))
        };
        (0..40).map(one).collect::<Vec<_>>()
    };
    w.store.write(&scope, &c, UPSERT, batch(0)).await.unwrap();
    let done = std::cell::Cell::new(false);
    let writing = async {
        for round in 1..60 {
            w.store.write(&scope, &c, UPSERT, batch(round)).await.unwrap();
        }
        done.set(true);
    };
    let reading = async {
        let same = |record: &Record| {
            let round = record.document.as_deref().unwrap();
            assert_eq!(record.vector.as_ref().unwrap()[1].to_string(), round, "{record:?}");
        };
        while !done.get() {
            let hits = w.store.query(&scope, &c, &nearest([3.0, 20.0], 40)).await.unwrap();
            hits.value.hits[0].iter().for_each(|hit| same(&hit.record));
            let order = Order::Id;
            let request = GetRequest { order, include: all_parts(), ..GetRequest::default() };
            let all = w.store.get(&scope, &c, &request).await.unwrap().value;
            assert_eq!(all.len(), 40);
            all.iter().for_each(same);
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writing, reading);
}

pub(super) async fn named_vectors_of_another_tenant_do_not_exist(w: &World<'_>) {
    let (one, c) = collection(w, "one", &named_spec()).await;
    let (two, other) = collection(w, "two", &named_spec()).await;
    w.store.write(&one, &c, UPSERT, some()).await.unwrap();
    assert_eq!(found(w, &two, &other, &search(Some("title"), &[1.0, 0.0, 0.0], 9)).await, []);
    let request = search(Some("title"), &[1.0, 0.0, 0.0], 9);
    let error = w.store.query(&two, &c, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // What a name is says nothing either.
    let request = search(Some("nobody"), &[1.0], 9);
    let error = w.store.query(&two, &c, &request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

pub(super) async fn distances_are_numbers_whatever_the_vectors(w: &World<'_>) {
    for metric in [Metric::L2, Metric::InnerProduct, Metric::Cosine] {
        let spec = CollectionSpec { metric, ..spec("large") };
        let (scope, c) = collection(w, &format!("large-{metric:?}").to_lowercase(), &spec).await;
        let with = |id, vector: [f32; 2]| RecordWrite {
            vector: Some(vector.to_vec()),
            ..record(id, 0.0, &[])
        };
        let large = vec![with("a", [3e38, -3e38]), with("b", [-3e38, -3e38]), with("c", [0.0; 2])];
        w.store.write(&scope, &c, UPSERT, large).await.unwrap();
        for vector in [[3e38, 3e38], [-3e38, -3e38], [0.0, 0.0], [1.0, 1.0]] {
            let hits = found(w, &scope, &c, &search(None, &vector, 3)).await;
            assert_eq!(hits.len(), 3, "{metric:?}");
            assert!(hits.iter().all(|(_, far)| far.is_finite()), "{metric:?}: {hits:?}");
        }
    }
}
