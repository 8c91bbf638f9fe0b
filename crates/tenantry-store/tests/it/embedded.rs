//! The embedded backend against the conformance suite.

use crate::conformance;
use tenantry_store::{EmbeddedConfig, Store};
use tenantry_types::{Isolation, VectorName};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms() {
    let make = async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path())).expect("a new store");
        (store, folder)
    };
    conformance::run_all(&make).await;
    conformance::run_plans(&make).await;
    let mut bytes = Vec::new();
    for memory in conformance::run_large(&make).await {
        let memory = memory.expect("it is in memory");
        let named = memory.vectors[&VectorName::parse("v").expect("a name")];
        assert_eq!((memory.pending, named.pending), (2_000, 2_000));
        assert!(named.bytes * 2 <= memory.vectors_bytes + 1_000, "{memory:?}");
        bytes.push(memory.vectors_bytes);
    }
    assert!(bytes[1] < bytes[0] && bytes[2] < bytes[1], "{bytes:?}");
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

/// The same with tenants that live apart, and so few open databases that they are closed and
/// opened all the time.
async fn conforms_apart(isolation: Isolation) {
    let make = async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut config = EmbeddedConfig::new(folder.path());
        config.default_isolation = isolation;
        config.open_databases = 1;
        (Store::open_embedded(config).expect("a new store"), folder)
    };
    conformance::run_plans(&make).await;
    conformance::run_all(make).await;
    conformance::run_large(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms_with_spaces() {
    conforms_apart(Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms_with_databases() {
    conforms_apart(Isolation::Database).await;
}
