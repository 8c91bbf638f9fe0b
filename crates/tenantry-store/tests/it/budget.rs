//! One budget of memory for all tenants: who gives way, and many loads at once.

use crate::stand::{Stand, record, spec};
use std::sync::Arc;
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, EmbeddedConfig};
use tenantry_types::{Include, Metric, QueryRequest, Selector, WriteMode};

const BUDGET: u64 = 1 << 20;

async fn open(folder: &std::path::Path) -> Stand {
    let mut config = EmbeddedConfig::new(folder);
    config.memory_budget_bytes = BUDGET;
    Stand::try_open(config).await.expect("open")
}

/// Components of a vector: a record takes about 11 KiB.
const DIMENSION: usize = 2_048;

/// A collection of so many records.
async fn fill(stand: &Stand, scope: &Scope<Admin>, name: &str, records: u16) -> CollectionRef {
    let database = stand.default_database(scope).await;
    let spec = spec(name, Metric::L2);
    let made = stand.store.create_collection(scope, &database, &spec, false);
    let collection = made.await.expect("collection").0;
    let batch = (0..records).map(|n| record(&n.to_string(), vec![f32::from(n); DIMENSION], &[]));
    let written = stand.store.write(scope, &collection, WriteMode::Upsert, batch.collect());
    written.await.expect("write");
    collection
}

/// Asks for the nearest record; whether the collection was in memory.
async fn ask(stand: &Stand, scope: &Scope<Admin>, collection: &CollectionRef) -> bool {
    let request = QueryRequest {
        vectors: vec![vec![3.0; DIMENSION]],
        k: 1,
        select: Selector::default(),
        include: Include::default(),
        exact: false,
        using: None,
    };
    let found = stand.store.query(scope, collection, &request).await.expect("query").value;
    assert_eq!(found.hits[0][0].record.id.as_str(), "3");
    found.explain.hot.expect("the store tells it")
}

#[tokio::test]
async fn a_tenant_that_goes_through_many_collections_drops_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = open(dir.path()).await;
    let quiet = stand.create("quiet").await.expect("tenant");
    let small = fill(&stand, &quiet, "small", 8).await;
    assert!(!ask(&stand, &quiet, &small).await);
    let busy = stand.create("busy").await.expect("tenant");
    let mut many = Vec::new();
    for n in 0..12 {
        many.push(fill(&stand, &busy, &format!("c{n}"), 20).await);
    }
    for _ in 0..2 {
        for collection in &many {
            ask(&stand, &busy, collection).await;
        }
    }
    let totals = stand.store.totals();
    assert!(totals.evictions >= 12 && totals.hot_bytes <= BUDGET, "{totals:?}");
    assert_eq!(totals.hot_budget_bytes, BUDGET);
    assert!(ask(&stand, &quiet, &small).await, "it was within its share");
    assert!(ask(&stand, &busy, &many[11]).await, "what was used last stays");
    stand.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_loads_at_once_answer_all_and_stay_within_the_budget() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Arc::new(open(dir.path()).await);
    let mut places = Vec::new();
    for n in 0..8 {
        let scope = stand.create(&format!("t{n}")).await.expect("tenant");
        let collection = fill(&stand, &scope, "c", 30).await;
        places.push((scope, collection));
    }
    let mut loads = tokio::task::JoinSet::new();
    for round in 0..2 {
        for (n, (scope, collection)) in places.iter().enumerate() {
            let (stand, scope, collection) =
                (Arc::clone(&stand), scope.clone(), collection.clone());
            loads.spawn(async move {
                let asking = ask(&stand, &scope, &collection);
                // Some go away while they wait.
                if (n + round) % 4 == 0 {
                    let _ = tokio::time::timeout(std::time::Duration::ZERO, asking).await;
                } else {
                    asking.await;
                }
                let totals = stand.store.totals();
                assert!(totals.hot_bytes + totals.loading_bytes <= BUDGET, "{totals:?}");
            });
        }
    }
    while let Some(load) = loads.join_next().await {
        load.expect("load");
    }
    let totals = stand.store.totals();
    assert!(totals.loads_waited > 0 && totals.evictions > 0, "{totals:?}");
    // Loads of those who went away are done to their end, and then nothing is reserved.
    let begun = std::time::Instant::now();
    while stand.store.totals().loading_bytes > 0 {
        assert!(begun.elapsed().as_secs() < 10, "{:?}", stand.store.totals());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let totals = stand.store.totals();
    assert_eq!((totals.loads_waiting, totals.leaving_bytes, totals.loads_refused), (0, 0, 0));
    stand.store.close();
}
