//! One store with both: its root and some tenants in files, others in databases of PostgreSQL.

use super::{
    Site,
    locations::{
        another, eu, forges, hangs, is_not_claimed, keeps_nothing, make, make_at, own, places,
        superuser_in, until, until_bound, url, write,
    },
    nodes::Node,
    proxy::Proxy,
};
use crate::{
    conformance::{self, BoxFuture, OWN},
    stand::{tenant, verify_chain},
};
use std::{path::Path, sync::Arc, time::Duration};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{EmbeddedConfig, LocationConfig, Store, TenantChange};
use tenantry_types::{
    DatabaseName, Error, ErrorKind, Isolation, Location, OwnDatabase, Selector, TenantSpec,
};
use tokio_postgres::NoTls;

/// Files with the database of a setup as a location, where tenants are made.
fn config(folder: &Path, there: &Site, isolation: Isolation) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(folder);
    let admin_url = Some(url(&there.admin_url));
    config.databases.locations =
        vec![LocationConfig { name: eu(), url: url(&there.url), admin_url }];
    config.databases.default_location = Some(eu());
    config.default_isolation = isolation;
    config
}

/// Files with a database as a location, which a word of [`Site::word`] names.
pub(crate) async fn open_at(folder: &Path, word: String) -> Store {
    let mut config = EmbeddedConfig::new(folder);
    let mut urls = word.split(' ');
    let mut next = || url(urls.next().expect("an URL"));
    let (url, admin_url) = (next(), Some(next()));
    config.databases.locations = vec![LocationConfig { name: eu(), url, admin_url }];
    config.databases.emptied_after = Duration::from_millis(300);
    let store = Store::open_embedded(config).expect("a store");
    store.open_locations().await.expect("its locations");
    store
}

async fn open(config: EmbeddedConfig) -> Node {
    let store = Store::open_embedded(config).expect("a store");
    store.open_locations().await.expect("its locations");
    Node::new(store).await
}

async fn refused(config: EmbeddedConfig) -> Error {
    let store = Store::open_embedded(config).expect("a store");
    let why = store.open_locations().await.expect_err("refused");
    store.close();
    why
}

async fn conforms(isolation: Isolation) {
    conformance::run_all(async || {
        let (folder, there) = (tempfile::tempdir().expect("a folder"), Site::new().await);
        let store =
            Store::open_embedded(config(folder.path(), &there, isolation)).expect("a store");
        (store, (folder, there))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_tenants_beside_files_conform() {
    for isolation in [Isolation::Shared, Isolation::Database] {
        conformance::run_members(&async || {
            let (folder, there) = (tempfile::tempdir().expect("a folder"), Site::new().await);
            let store =
                Store::open_embedded(config(folder.path(), &there, isolation)).expect("a store");
            (store, (folder, there))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_tenants_beside_files_conform() {
    conforms(Isolation::Shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_beside_files_conform() {
    conforms(Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_beside_files_conform() {
    conforms(Isolation::Database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_beside_files_that_carry_a_database_conform() {
    let donor = Arc::new(Site::new().await);
    let from = Arc::clone(&donor);
    let make = Arc::new(move || {
        let from = Arc::clone(&from);
        let made = async move { own(&another(&from).await) };
        Box::pin(made) as BoxFuture<OwnDatabase>
    });
    OWN.scope(make, async {
        conformance::run_all(async || {
            let folder = tempfile::tempdir().expect("a folder");
            let mut config = EmbeddedConfig::new(folder.path());
            // One for work and one for looking up.
            config.databases.connections = std::num::NonZeroUsize::MIN;
            (Store::open_embedded(config).expect("a store"), folder)
        })
        .await;
    })
    .await;
    drop(donor);
}

async fn count(node: &Node, scope: &Scope<Admin>) -> usize {
    let collection = node.collection(scope, "c").await.unwrap();
    node.store.count(scope, &collection, &Selector::default()).await.unwrap().value
}

/// Tenants everywhere at once, over a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_store_has_tenants_in_files_and_in_databases() {
    let (there, donor) = (Site::new().await, Site::new().await);
    let folder = tempfile::tempdir().unwrap();
    let database = another(&donor).await;
    let begin = || config(folder.path(), &there, Isolation::Schema);
    let node = open(begin()).await;
    let mut scopes = Vec::new();
    for (name, location) in [("shared", Location::Home), ("away", Location::Named(eu()))] {
        scopes.push(make_at(&node, name, location).await.unwrap());
    }
    scopes.push(make(&node, "schema", None).await.unwrap());
    scopes.push(make(&node, "own", Some(own(&database))).await.unwrap());
    let home = TenantSpec {
        location: Some(Location::Home),
        isolation: Some(Isolation::Database),
        ..TenantSpec::new(tenant("apart"))
    };
    let home = node.store.create_tenant(&node.operator, &home).await.unwrap();
    scopes.push(node.scope(home.id));
    for (at, scope) in scopes.iter().enumerate() {
        node.make(scope, "c").await.unwrap();
        write(&node, scope, "c", u32::try_from(at).unwrap() + 1).await.unwrap();
    }
    // What the root tells a log elsewhere is taken over.
    let suspended = TenantChange { weight: Some(7), ..TenantChange::default() };
    for name in ["shared", "away", "schema", "own", "apart"] {
        node.store.change_tenant(&node.operator, &tenant(name), &suspended).await.unwrap();
    }
    let format = || std::fs::read_to_string(folder.path().join("format")).unwrap();
    assert_eq!(format(), "tenantry-embedded 5\n");
    let sites = node.store.sites(&node.operator);
    let sites: Vec<_> = sites.iter().map(|site| site.location).collect();
    assert_eq!(sites, [Location::Home, Location::Named(eu()), Location::Own]);
    assert!(node.store.totals().connections.open > 0);
    node.store.close();
    drop(node);
    let node = open(begin()).await;
    for (at, scope) in scopes.iter().enumerate() {
        let scope = node.scope(scope.tenant());
        assert_eq!(count(&node, &scope).await, at + 1);
        write(&node, &scope, "c", 20).await.unwrap();
        assert_eq!(count(&node, &scope).await, 20);
        let log = node.store.audit(&scope, 0, 100).await.unwrap();
        assert!(log.iter().any(|entry| entry.event.action == "tenant.change"), "{log:?}");
        verify_chain(&log);
    }
    // Another folder is another installation, and gets nothing of this one's.
    let other = tempfile::tempdir().unwrap();
    let why = refused(config(other.path(), &there, Isolation::Shared)).await;
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
    assert!(why.to_string().contains("belongs to others"), "{why}");
    let second = Node::new(Store::open_embedded(EmbeddedConfig::new(other.path())).unwrap()).await;
    let why = make(&second, "own", Some(own(&database))).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
    second.store.close();
    node.store.close();
}

/// Deleting removes what is elsewhere, also after a restart in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_beside_files_leaves_nothing() {
    let (there, donor) = (Site::new().await, Site::new().await);
    let folder = tempfile::tempdir().unwrap();
    let rows = "SELECT (SELECT count(*) FROM tenantry.records) \
                + (SELECT count(*) FROM tenantry.vectors) \
                + (SELECT count(*) FROM tenantry.catalog WHERE tenant > 0)";
    let places = places(&there);
    for (name, isolation) in
        [("a", Isolation::Shared), ("b", Isolation::Schema), ("c", Isolation::Database)]
    {
        let node = open(config(folder.path(), &there, isolation)).await;
        let scope = make(&node, name, None).await.unwrap();
        let gone = node.make(&scope, "gone").await.unwrap();
        node.make(&scope, "c").await.unwrap();
        for collection in ["gone", "c"] {
            write(&node, &scope, collection, 2_500).await.unwrap();
        }
        node.store.delete_collection(&scope, &gone).await.unwrap();
        if isolation == Isolation::Shared {
            let left = "SELECT count(*) FROM tenantry.records";
            until("a collection", async || there.ask(left).await == 2_500).await;
        }
        node.delete(name).await.unwrap();
        // Whoever comes next goes on with it.
        node.store.close();
        drop(node);
        let next = open(config(folder.path(), &there, isolation)).await;
        let left = async || next.store.leftovers(&next.operator).await.unwrap();
        until(name, async || left().await.is_empty()).await;
        assert_eq!((there.ask(rows).await, there.ask(&places).await), (0, 0), "{name}");
        next.store.close();
    }
    let database = another(&donor).await;
    let node = open(config(folder.path(), &there, Isolation::Shared)).await;
    let scope = make(&node, "d", Some(own(&database))).await.unwrap();
    node.make(&scope, "c").await.unwrap();
    write(&node, &scope, "c", 2_500).await.unwrap();
    node.delete("d").await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&superuser_in(&donor, &database), NoTls).await.unwrap();
    tokio::spawn(connection);
    let all = "SELECT (SELECT count(*) FROM tenantry.records) \
               + (SELECT count(*) FROM tenantry.catalog)";
    until("own", async || client.query_one(all, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    // It is nobody's again.
    until("free", async || make(&node, "e", Some(own(&database))).await.is_ok()).await;
    node.store.close();
}

/// A location whose server is away at the start, and comes and goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_that_is_away_costs_its_own_tenants_only() {
    let there = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (scheme, rest) = there.url.split_once('@').unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let node = open(config(folder.path(), &there, Isolation::Shared)).await;
    let away = make_at(&node, "away", Location::Named(eu())).await.unwrap();
    let home = make_at(&node, "home", Location::Home).await.unwrap();
    for scope in [&away, &home] {
        node.make(scope, "c").await.unwrap();
        write(&node, scope, "c", 1).await.unwrap();
    }
    node.store.close();
    drop(node);
    let proxy = Proxy::start(address.to_owned()).await;
    let listens = proxy.address;
    drop(proxy);
    let silent = until_bound(listens).await;
    drop(silent);
    let mut config = config(folder.path(), &there, Isolation::Shared);
    let through = format!("{scheme}@{listens}/{path}");
    config.databases.locations[0] =
        LocationConfig { name: eu(), url: url(&through), admin_url: None };
    let node = open(config).await;
    let is_refused = async |scope: &Scope<Admin>| {
        let why = write(&node, scope, "c", 1).await.expect_err("away");
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why}");
        let text = format!("{why:?} {why}");
        assert!(!text.contains(&listens.port().to_string()), "{text}");
    };
    is_refused(&away).await;
    write(&node, &home, "c", 2).await.unwrap();
    assert_eq!(node.store.health(), tenantry_store::Health::Ready);
    let late = make_at(&node, "late", Location::Named(eu())).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable);
    assert_eq!(node.store.find_tenant(&tenant("late")).await.unwrap(), None);
    // Who a tenant is, is asked of the files.
    let change = TenantChange { weight: Some(3), ..TenantChange::default() };
    node.store.change_tenant(&node.operator, &tenant("away"), &change).await.unwrap();
    let proxy = Proxy::start_at(listens, address.to_owned()).await;
    until("it is back", async || write(&node, &away, "c", 2).await.is_ok()).await;
    drop(proxy);
    tokio::time::sleep(Duration::from_millis(300)).await;
    is_refused(&away).await;
    write(&node, &home, "c", 3).await.unwrap();
    // What is deleted meanwhile, or could not be made, can be given up.
    node.delete("away").await.unwrap();
    let left = async || node.store.leftovers(&node.operator).await.unwrap();
    until("it is left", async || {
        left().await.iter().any(|one| one.tenant == away.tenant() && one.obstacle.is_some())
    })
    .await;
    for one in left().await {
        let given_up = node.store.abandon(&node.operator, one.tenant).await.unwrap();
        assert_eq!(given_up.location, Location::Named(eu()));
    }
    until("nothing is left", async || left().await.is_empty()).await;
    let log = node.store.operator_audit(&node.operator, 0, 100).await.unwrap();
    verify_chain(&log);
    node.store.close();
}

/// Without the location a server serves the others, and leaves what was deleted there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_without_their_location_serve_the_others() {
    let there = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let node = open(config(folder.path(), &there, Isolation::Shared)).await;
    let away = make(&node, "away", None).await.unwrap();
    let home = make_at(&node, "home", Location::Home).await.unwrap();
    for scope in [&away, &home] {
        node.make(scope, "c").await.unwrap();
    }
    node.store.close();
    drop(node);
    let node = open(EmbeddedConfig::new(folder.path())).await;
    write(&node, &home, "c", 1).await.unwrap();
    let name = DatabaseName::default_database();
    let why = node.store.database(&away, &name).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Unavailable, "{why}");
    node.delete("away").await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.store.leftovers(&node.operator).await.unwrap().len(), 1);
    node.store.close();
    drop(node);
    let node = open(config(folder.path(), &there, Isolation::Shared)).await;
    let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant > 0";
    until("it is removed", async || there.ask(rows).await == 0).await;
    node.store.close();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let there = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &there);
        } else {
            std::fs::copy(entry.path(), there).unwrap();
        }
    }
}

/// A copy of the folder has all that proves its claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_the_files_enters_no_database_before_it_is_adopted() {
    let (there, donor) = (Site::new().await, Site::new().await);
    let folder = tempfile::tempdir().unwrap();
    let (original, copied) = (folder.path().join("original"), folder.path().join("copied"));
    let database = another(&donor).await;
    let node = open(config(&original, &there, Isolation::Shared)).await;
    let mut scopes = vec![make(&node, "away", None).await.unwrap()];
    scopes.push(make(&node, "own", Some(own(&database))).await.unwrap());
    scopes.push(make_at(&node, "home", Location::Home).await.unwrap());
    for scope in &scopes {
        node.make(scope, "c").await.unwrap();
        write(&node, scope, "c", 2).await.unwrap();
    }
    node.store.close();
    drop(node);
    copy(&original, &copied);
    let why = refused(config(&copied, &there, Isolation::Shared)).await;
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
    assert!(why.to_string().contains("adopt"), "{why}");
    // Not even by whoever looks at nothing first.
    let begin = config(&copied, &there, Isolation::Shared);
    let node = Node::new(Store::open_embedded(begin).unwrap()).await;
    write(&node, &node.scope(scopes[2].tenant()), "c", 3).await.unwrap();
    for scope in &scopes[..2] {
        let scope = node.scope(scope.tenant());
        let why = write(&node, &scope, "c", 3).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why}");
    }
    assert!(make(&node, "new", None).await.is_err());
    node.delete("away").await.unwrap();
    node.store.close();
    drop(node);
    // The original goes on with what the copy has deleted for itself.
    let node = open(config(&original, &there, Isolation::Shared)).await;
    for scope in &scopes {
        assert_eq!(count(&node, &node.scope(scope.tenant())).await, 2);
    }
    node.store.close();
    drop(node);
    let second = folder.path().join("second");
    copy(&original, &second);
    Store::adopt_embedded(config(&second, &there, Isolation::Shared)).await.unwrap();
    let node = open(config(&second, &there, Isolation::Shared)).await;
    for scope in &scopes {
        let scope = node.scope(scope.tenant());
        write(&node, &scope, "c", 4).await.unwrap();
        assert_eq!(count(&node, &scope).await, 4);
    }
    node.store.close();
    drop(node);
    let why = refused(config(&original, &there, Isolation::Shared)).await;
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
}

/// Large collections of tenants apart get graphs there too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphs_are_made_at_a_location_beside_files() {
    let there = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), &there, Isolation::Schema);
    config.databases.graph_above = 100;
    let node = open(config).await;
    let scope = make(&node, "apart", None).await.unwrap();
    node.make(&scope, "c").await.unwrap();
    write(&node, &scope, "c", 200).await.unwrap();
    // Views that show definitions fail while an index is dropped.
    let graphs = "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = c.relam \
                  WHERE c.relkind = 'i' AND a.amname = 'hnsw'";
    until("a graph", async || there.ask(graphs).await > 0).await;
    let collection = node.collection(&scope, "c").await.unwrap();
    node.store.delete_collection(&scope, &collection).await.unwrap();
    until("no graph", async || there.ask(graphs).await == 0).await;
    node.store.close();
}

/// A tenant's own database says what it wants, and the files do not believe it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_database_says_removes_and_hides_nothing_in_files() {
    let there = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    forges(&there, async || open(config(folder.path(), &there, Isolation::Schema)).await).await;
    let (second, third) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = open(EmbeddedConfig::new(second.path())).await;
    keeps_nothing(&node).await;
    node.store.close();
    let node = open(EmbeddedConfig::new(third.path())).await;
    is_not_claimed(&node).await;
    node.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_hangs_beside_files_keeps_no_other_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let node = open(EmbeddedConfig::new(folder.path())).await;
    hangs(&node).await;
    node.store.close();
}
