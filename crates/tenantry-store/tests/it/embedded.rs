//! The embedded backend against the conformance suite.

use crate::{
    conformance::{self, groups},
    stand::{Stand, tenant},
};
use tenantry_store::{EmbeddedConfig, ObjectNames, Store};
use tenantry_types::{Isolation, Timestamp, VectorName};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms() {
    let make = async || {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path())).expect("a new store");
        (store, folder)
    };
    conformance::run_all(&make).await;
    conformance::run_plans(&make).await;
    conformance::run_usage(&make).await;
    conformance::run_graces(&make).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_in_files_conform() {
    // With one commit for a tenant and the root, and with two.
    for isolation in [Isolation::Shared, Isolation::Schema] {
        let make = async || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut config = EmbeddedConfig::new(folder.path());
            config.default_isolation = isolation;
            (Store::open_embedded(config).expect("a new store"), folder)
        };
        conformance::run_webhooks(&make).await;
        conformance::run_budgets(&make).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenants_row_is_read_back_with_all_that_it_says() {
    for isolation in Isolation::ALL {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let open = || {
            let mut config = EmbeddedConfig::new(folder.path());
            config.default_isolation = isolation;
            Store::open_embedded(config).expect("a store")
        };
        let store = open();
        let made = conformance::made_rich(&store, "t").await;
        store.close();
        let store = open();
        let read = store.find_tenant(&made.name).await.expect("an answer").expect("a tenant");
        assert_eq!(*read, made);
        store.close();
    }
}

/// More than are listed at once, and all in one call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_are_erased_whose_time_has_come() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stand = Stand::open(folder.path()).await;
    let count = 300;
    for n in 0..count {
        let name = format!("t{n}");
        stand.create(&name).await.expect("a tenant");
        let until = Timestamp(if n % 50 == 7 { u64::MAX } else { n });
        let retired = stand.store.retire_tenant(&stand.operator, &tenant(&name), until).await;
        retired.expect("deleted");
    }
    stand.store.erase_due(&stand.system()).await.expect("erased");
    let left = stand.store.tenants(&stand.operator, None, 1_000).await.expect("tenants");
    assert_eq!(left.len(), 6);
    assert!(left.iter().all(|info| info.erase_at == Some(Timestamp(u64::MAX))));
    stand.close();
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
    conformance::run_usage(&make).await;
    conformance::run_graces(&make).await;
    conformance::run_all(make).await;
    conformance::run_large(make).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_in_files_is_counted() {
    for default_isolation in Isolation::ALL {
        let make = async || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut config = EmbeddedConfig::new(folder.path());
            config.default_isolation = default_isolation;
            (Store::open_embedded(config).expect("a new store"), folder)
        };
        conformance::run_stocks(&make).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms_with_spaces() {
    conforms_apart(Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_backend_conforms_with_databases() {
    conforms_apart(Isolation::Database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_in_files_conform() {
    for isolation in Isolation::ALL {
        let make = async || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut config = EmbeddedConfig::new(folder.path());
            config.default_isolation = isolation;
            (Store::open_embedded(config).expect("a new store"), folder)
        };
        conformance::run_events(&make).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_in_files_conform() {
    for isolation in Isolation::ALL {
        let make = async || {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut config = EmbeddedConfig::new(folder.path());
            config.default_isolation = isolation;
            (Store::open_embedded(config).expect("a new store"), folder)
        };
        conformance::run_members(&make).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_erased_leaves_no_row_of_members_and_groups() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = || {
        let database = fjall::Database::builder(folder.path().join("db")).open().expect("fjall");
        let catalog = database.keyspace("catalog", Default::default).expect("a keyspace");
        let of = |family: u8| catalog.prefix([&[0; 8][..], &[family]].concat()).count();
        [0x50, 0x51, 0x52].map(of)
    };
    let stand = Stand::open(folder.path()).await;
    let scope = stand.create("t").await.expect("a tenant");
    for name in ["a", "b"] {
        let made = stand.store.add_group(&scope, &groups::group(name), &groups::gives(&[])).await;
        made.expect("a group");
    }
    stand.store.add_member(&scope, &groups::guest("login/eve", &["a"])).await.expect("a guest");
    stand.close();
    assert_eq!(rows(), [1, 2, 1]);
    let stand = Stand::open(folder.path()).await;
    stand.store.delete_tenant(&stand.operator, &tenant("t")).await.expect("erased");
    stand.close();
    assert_eq!(rows(), [0; 3]);
}

/// Of a tenant with more than 1,000 members none is looked at to remove a group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_that_of_many_members_nobody_is_listed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stand = Stand::open(folder.path()).await;
    let scope = stand.create("t").await.expect("a tenant");
    let add = async |who: &str, of: &[&str]| {
        let added = stand.store.add_member(&scope, &groups::guest(who, of)).await;
        added.expect("a guest");
    };
    let remove = async |name: &str| {
        let gone =
            stand.store.remove_group(&scope, &groups::group(name), &ObjectNames::new()).await;
        gone.expect("removed");
    };
    for name in ["a", "b"] {
        let made = stand.store.add_group(&scope, &groups::group(name), &groups::gives(&[])).await;
        made.expect("a group");
    }
    for n in 0..998 {
        add(&format!("login/{n}"), &[]).await;
    }
    for who in ["login/eve", "login/bob"] {
        add(who, &["a", "b"]).await;
    }
    remove("a").await;
    add("login/one-more", &[]).await;
    remove("b").await;
    let log = stand.store.audit(&scope, 1_000, 100).await.expect("its log");
    let removed = log.iter().filter(|one| one.event.action == "group.remove");
    let said: Vec<_> = removed.map(|one| one.event.target.as_str()).collect();
    let expected = [r#""a": members "login/bob", "login/eve""#, r#""b": members not listed"#];
    assert_eq!(said, expected);
    stand.close();
}
