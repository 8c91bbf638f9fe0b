//! The embedded backend against the conformance suite.

use crate::conformance;
use tenantry_store::{EmbeddedConfig, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms() {
    let make = async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path())).expect("a new store");
        (store, folder)
    };
    conformance::run_all(&make).await;
    conformance::run_large(&make).await;
}

/// The same with a graph for every collection of a few vectors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms_with_graphs() {
    conformance::run_all(async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = EmbeddedConfig::new(folder.path());
        config.index.graph_above = 4;
        (Store::open_embedded(config).expect("a new store"), folder)
    })
    .await;
}

/// The same with a budget so small that every partition is dropped after each use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms_under_memory_pressure() {
    conformance::run_all(async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = EmbeddedConfig::new(folder.path());
        config.memory_budget_bytes = 64 << 10;
        (Store::open_embedded(config).expect("a new store"), folder)
    })
    .await;
}
