//! What is read fits together: commits are seen whole, and memory answers what the disk does.

use crate::stand::{Stand, everything, record, whole_number};
use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};
use tenantry_store::EmbeddedConfig;
use tenantry_types::{
    CollectionChange, CollectionName, ErrorKind, Existing, FieldTest, Filter, GetRequest, Page,
    QueryRequest, Selector, TextTest, WriteMode,
};

/// One record is written over and over while others read it from disk, where its parts lie under
/// keys of their own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_from_disk_sees_each_commit_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Arc::new(Stand::open(dir.path()).await);
    let (scope, collection) = stand.tenant_with_collection("a").await;
    let ended = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (stand, scope, collection) = (Arc::clone(&stand), scope.clone(), collection.clone());
        let ended = Arc::clone(&ended);
        readers.spawn(async move {
            let mut seen = 0;
            while !ended.load(Ordering::Relaxed) {
                let request = GetRequest {
                    page: Page { limit: Some(100), offset: 0 },
                    include: everything(),
                    ..GetRequest::default()
                };
                let got = stand.store.get(&scope, &collection, &request).await.expect("get").value;
                for row in &got {
                    let n = whole_number(row, "n");
                    assert_eq!(row.version, got[0].version, "one commit wrote them all");
                    let vector = row.vector.as_ref().expect("a vector");
                    assert_eq!(vector, &vec![n as f32; 16], "the vector of another version");
                }
                seen += got.len();
                tokio::task::yield_now().await;
            }
            seen
        });
    }
    for n in 0..60_u8 {
        let batch = (0..40)
            .map(|id| record(&id.to_string(), vec![f32::from(n); 16], &[("n", n.into())]))
            .collect();
        stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    }
    ended.store(true, Ordering::Relaxed);
    while let Some(reader) = readers.join_next().await {
        assert!(reader.expect("reader") > 0, "nothing was read");
    }
    assert_eq!(stand.store.totals().loads, 0, "memory answered");
}

/// A collection that is renamed to and fro is always found by one name or the other in a list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_collection_is_never_missing_from_the_list() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Arc::new(Stand::open(dir.path()).await);
    let (scope, collection) = stand.tenant_with_collection("a").await;
    let database = stand.default_database(&scope).await;
    let ended = Arc::new(AtomicBool::new(false));
    let lister = tokio::spawn({
        let (stand, scope, ended) = (Arc::clone(&stand), scope.clone(), Arc::clone(&ended));
        async move {
            while !ended.load(Ordering::Relaxed) {
                let all = stand.store.collections(&scope, &database, Page::default()).await;
                assert_eq!(all.expect("list").len(), 1);
                tokio::task::yield_now().await;
            }
        }
    });
    for n in 0..100 {
        let name = CollectionName::parse(format!("c{}", n % 2)).expect("a name");
        let change = CollectionChange { name: Some(name), ..CollectionChange::default() };
        stand.store.change_collection(&scope, &collection, &change).await.expect("rename");
    }
    ended.store(true, Ordering::Relaxed);
    lister.await.expect("lister");
}

/// In memory or not, an empty selector is all records.
#[tokio::test]
async fn deleting_without_a_selection_deletes_all() {
    for budget in [0, 1 << 30] {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = EmbeddedConfig::new(dir.path());
        config.memory_budget_bytes = budget.max(1 << 20);
        let stand = Stand::try_open(config).await.expect("open");
        let (scope, collection) = stand.tenant_with_collection("a").await;
        let batch = (0..5).map(|n| record(&n.to_string(), vec![1.0], &[])).collect();
        stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
        if budget > 0 {
            assert_eq!(stand.all(&scope, &collection).await.expect("get").len(), 5);
        }
        let all = Selector::default();
        let some = stand.store.delete(&scope, &collection, &all, Some(2)).await;
        assert_eq!(some.expect("delete"), 2);
        let left = stand.all(&scope, &collection).await.expect("get");
        assert_eq!(left.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["2", "3", "4"]);
        assert_eq!(stand.store.delete(&scope, &collection, &all, None).await.expect("delete"), 3);
        assert_eq!(stand.store.count(&scope, &collection, &all).await.expect("count").value, 0);
        stand.close();
    }
}

#[tokio::test]
async fn a_batch_names_each_id_once_and_skipped_records_decide_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let (scope, collection) = stand.tenant_with_collection("a").await;
    let write = async |mode, batch| stand.store.write(&scope, &collection, mode, batch).await;
    let twice = vec![record("x", vec![1.0], &[]), record("x", vec![2.0], &[])];
    let error = write(WriteMode::Upsert, twice).await.expect_err("twice");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(stand.all(&scope, &collection).await.expect("get").len(), 0);

    let mut without = record("x", Vec::new(), &[]);
    without.vector = None;
    write(WriteMode::Upsert, vec![without.clone()]).await.expect("write");
    // "x" is left alone, so its vector has no say in how long vectors are.
    without.id = tenantry_types::RecordId::parse("y").expect("an id");
    let batch = vec![record("x", vec![1.0; 9], &[]), without];
    let outcome = write(WriteMode::Add(Existing::Skip), batch).await.expect("write");
    assert_eq!((outcome.inserted, outcome.skipped), (1, 1));
    write(WriteMode::Upsert, vec![record("z", vec![1.0; 3], &[])]).await.expect("write");
    stand.close();
}

/// Texts are far larger than rows usually are; the budget holds all the same.
#[tokio::test]
async fn a_collection_that_does_not_fit_in_memory_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = EmbeddedConfig::new(dir.path());
    config.memory_budget_bytes = 1 << 20;
    let stand = Stand::try_open(config).await.expect("open");
    let (scope, collection) = stand.tenant_with_collection("a").await;
    for n in 0..8 {
        let mut large = record(&n.to_string(), vec![1.0], &[]);
        large.document = Some("x".repeat(300 << 10));
        let batch = vec![large];
        stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    }
    let error = stand.all(&scope, &collection).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("budget"), "{error}");
    // From disk it can be read piece by piece.
    let request = GetRequest {
        page: Page { limit: Some(3), offset: 5 },
        include: everything(),
        ..GetRequest::default()
    };
    assert_eq!(stand.store.get(&scope, &collection, &request).await.expect("get").value.len(), 3);
    stand.close();
}

/// The length of texts is bounded by nothing that is known before they are read, so a filter on
/// texts never runs on a thread that serves connections.
#[tokio::test]
async fn a_filter_on_texts_runs_elsewhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let (scope, collection) = stand.tenant_with_collection("a").await;
    // Long enough to be read for longer than another thread needs to start.
    let document = Some("a long text ".repeat(500_000));
    let one = record("r", vec![1.0; 16], &[("n", 1.into())]);
    let batch = vec![tenantry_types::RecordWrite { document, ..one }];
    stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.expect("write");
    let query = async |filter| {
        let select = Selector { ids: None, filter: Some(filter) };
        let vectors = vec![vec![1.0; 16]];
        let request = QueryRequest { vectors, k: 1, select, ..QueryRequest::default() };
        let mut answer = pin!(stand.store.query(&scope, &collection, &request));
        let at_once = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context))).await;
        match at_once {
            Poll::Ready(answer) => (true, answer.expect("answer").value.hits),
            Poll::Pending => (false, answer.await.expect("answer").value.hits),
        }
    };
    let field = || Filter::Field { key: "n".into(), test: FieldTest::Exists(true) };
    query(field()).await; // loads the collection
    let (at_once, hits) = query(field()).await;
    assert!(at_once, "a small partition is searched where it is asked for");
    assert_eq!(hits[0].len(), 1);
    let (at_once, hits) = query(Filter::Text(TextTest::NotContains("zz".into()))).await;
    assert!(!at_once, "texts were read on the thread of the caller");
    assert_eq!(hits[0].len(), 1);
}
