//! PostgreSQL as a backend: against the conformance suite, and with several nodes.
//!
//! `TENANTRY_TEST_POSTGRES` is the URL of a superuser of a server for tests.

pub(crate) mod beside;
mod faults;
mod graph;
mod hostile;
pub(crate) mod locations;
mod members;
mod nodes;
mod pooler;
mod prefix;
pub(crate) mod proxy;
mod records;
mod same;

use crate::{conformance, stand::tenant};
use std::sync::atomic::{AtomicU32, Ordering};
use tenantry_store::{
    Census, MasterKey, PostgresConfig, Store, SystemEntropy, TenantChange,
    postgres::{DatabaseUrl, Names, PlacePrefix, Setup, setup},
};
use tenantry_types::{ErrorKind, Isolation, Meter, TenantSpec, Timestamp, UsageEvent};
use tokio::runtime::RuntimeFlavor;
use tokio_postgres::{Client, NoTls};
use zeroize::Zeroizing;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalogs_of_postgresql_conform() {
    conformance::run_catalogs(&async || {
        let site = Site::new().await;
        (site.open().await, site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_of_postgresql_conform() {
    conformance::run_records(&async || {
        let site = Site::new().await;
        (site.open().await, site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_collections_on_postgresql_conform() {
    let memory = conformance::run_large(async || {
        let site = Site::new().await;
        (site.open().await, site)
    })
    .await;
    assert_eq!(memory, [None, None, None]);
}

/// With one connection for tenants and one for lookups, whoever waits for a second one while
/// holding the first would wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fewest_connections_are_enough() {
    conformance::run_all(async || {
        let site = Site::new().await;
        let mut config = site.config();
        config.databases.connections = std::num::NonZeroUsize::MIN;
        (Store::open_postgres(config).await.expect("a store"), site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_on_postgresql_is_counted() {
    for isolation in [Isolation::Shared, Isolation::Schema] {
        let make = async || {
            let site = Site::new().await;
            (site.open_apart(isolation).await, site)
        };
        Box::pin(conformance::run_stocks(&make)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_and_usage_on_postgresql_conform() {
    for isolation in Isolation::ALL {
        let make = async || {
            let site = Site::new().await;
            (site.open_apart(isolation).await, site)
        };
        Box::pin(conformance::run_plans(&make)).await;
        Box::pin(conformance::run_usage(&make)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graces_on_postgresql_conform() {
    for isolation in Isolation::ALL {
        let make = async || {
            let site = Site::new().await;
            (site.open_apart(isolation).await, site)
        };
        Box::pin(conformance::run_graces(&make)).await;
        let site = Site::new().await;
        let (one, two) = (site.open_apart(isolation).await, site.open_apart(isolation).await);
        let made = conformance::made_rich(&one, "t").await;
        let read = two.find_tenant(&made.name).await.expect("an answer").expect("a tenant");
        assert_eq!(*read, made);
        one.close();
        two.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhooks_on_postgresql_conform() {
    // With one commit for a tenant and the root, and with two.
    for isolation in [Isolation::Shared, Isolation::Schema] {
        let make = async || {
            let site = Site::new().await;
            (site.open_apart(isolation).await, site)
        };
        Box::pin(conformance::run_webhooks(&make)).await;
        Box::pin(conformance::run_budgets(&make)).await;
    }
    let site = Site::new().await;
    let (one, two) =
        (site.open_apart(Isolation::Shared).await, site.open_apart(Isolation::Shared).await);
    Box::pin(conformance::told_once_by_two(&one, &two)).await;
    Box::pin(conformance::thresholds_once_by_two(&one, &two)).await;
    one.close();
    two.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_on_postgresql_conform() {
    for isolation in Isolation::ALL {
        let make = async || {
            let site = Site::new().await;
            (site.open_apart(isolation).await, site)
        };
        Box::pin(conformance::run_events(&make)).await;
    }
    let site = Site::new().await;
    let (one, two) =
        (site.open_apart(Isolation::Shared).await, site.open_apart(Isolation::Shared).await);
    Box::pin(conformance::counted_once_by_two(&one, &two)).await;
    one.close();
    two.close();
}

/// Also more than one transaction removes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_with_their_tenant() {
    let site = Site::new().await;
    let node = nodes::Node::new(site.open().await).await;
    let (scope, other) = (node.tenant("a").await.unwrap(), node.tenant("b").await.unwrap());
    let events = |from: usize| -> Vec<UsageEvent> {
        let ids = (from..from + UsageEvent::BATCH_MAX).map(|n| n.to_string());
        ids.map(|id| UsageEvent::new(&id, Meter::Messages, 1).unwrap()).collect()
    };
    for from in [0, 1_000, 2_000] {
        node.store.report_usage(&scope, &events(from), false).await.unwrap();
    }
    node.store.report_usage(&other, &events(0)[..1], false).await.unwrap();
    let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant = 0 AND family IN (84, 85)";
    assert_eq!(site.ask(rows).await, 3_000 + 1 + 2);
    node.delete("a").await.unwrap();
    let begun = std::time::Instant::now();
    while site.ask(rows).await > 2 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(30), "they are still there");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(site.ask(rows).await, 2);
    node.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_on_postgresql_conform() {
    for isolation in Isolation::ALL {
        let make = async || {
            let site = Site::new().await;
            (site.open_apart(isolation).await, site)
        };
        Box::pin(conformance::run_members(&make)).await;
    }
}

/// What an installation can do that older programs may serve: what they can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_migration_tenants_are_renamed_as_ever() {
    let site = Site::new().await;
    // As a program of before has set it up.
    site.run("UPDATE tenantry.installation SET version = 1").await;
    let node = nodes::Node::new(site.open().await).await;
    node.tenant("a").await.expect("a tenant");
    let rename = async |from: &str, to: &str| {
        let change = TenantChange { name: Some(tenant(to)), ..TenantChange::default() };
        node.store.change_tenant(&node.operator, &tenant(from), &change).await.expect("renamed")
    };
    assert!(!node.store.dates_names());
    let renamed = rename("a", "b").await;
    assert_eq!((renamed.name.as_str(), renamed.named_at), ("b", renamed.created_at));
    let late = Timestamp(u64::MAX);
    let retired = node.store.retire_tenant(&node.operator, &renamed.name, late).await;
    let known = TenantSpec { made_by: Some([1; 32]), ..TenantSpec::new(tenant("c")) };
    let made = node.store.create_tenant(&node.operator, &known).await;
    for refused in [retired, made] {
        assert_eq!(refused.expect_err("not migrated").kind(), ErrorKind::Unsupported);
    }
    node.store.erase_due(&tenantry_auth::Authority::development().system("tests")).await.unwrap();
    let urls = site.urls();
    let url = urls.split_once(' ').expect("two").1;
    tenantry_store::postgres::migrate(url, |_| {}).await.expect("migrate");
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    // Any question tells the node.
    node.store.find_tenant(&renamed.name).await.expect("an answer");
    let again = rename("b", "a").await;
    assert!(node.store.dates_names() && again.named_at > again.created_at);
    node.store.create_tenant(&node.operator, &known).await.expect("a tenant");
    node.store.retire_tenant(&node.operator, &again.name, late).await.expect("deleted");
    node.store.close();
}

/// What tenants write then is not counted, so nobody says that a new one keeps nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_a_migration_nobody_knows_what_tenants_keep() {
    let site = Site::new().await;
    // As a program of before has set it up.
    site.run("UPDATE tenantry.installation SET version = 1").await;
    let node = nodes::Node::new(site.open().await).await;
    let id = node.tenant("a").await.expect("a tenant").tenant();
    let system = tenantry_auth::Authority::development().system("tests");
    let count = async || {
        let mut census = Census::new(&[], (None, None));
        while !node.store.count_on(&system, &mut census).await.expect("a page") {}
        (census.uncounted, census.unnoted.tenants().len())
    };
    assert_eq!(count().await, (1, 1));
    node.store.collect_usage(&system, id).await.expect("added up");
    // That nobody knows is noted, so that the next count names others.
    assert_eq!(count().await, (1, 0));
    node.store.close();
}

/// A plan is made when older programs are kept out; any node changes it, and all of them know within
/// a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_have_the_plan_that_one_changes() {
    let site = Site::new().await;
    // As a program of before has set it up.
    site.run("UPDATE tenantry.installation SET version = 1").await;
    let (plain, admin) = (site.open().await, site.open_apart(Isolation::Shared).await);
    let id = conformance::made_tenant(&plain, "t").await;
    for node in [&plain, &admin] {
        let refused = conformance::try_plan(node, "t", 2).await.expect_err("not migrated");
        assert_eq!(refused.kind(), tenantry_types::ErrorKind::Unsupported);
    }
    let urls = site.urls();
    let url = urls.split_once(' ').expect("two").1;
    tenantry_store::postgres::migrate(url, |_| {}).await.expect("migrate");
    for (databases, node) in [(2, &plain), (3, &admin), (4, &plain)] {
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        conformance::try_plan(node, "t", databases).await.expect("a plan");
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        for node in [&plain, &admin] {
            let has = node.allowance(id).await.expect("an answer").expect("a tenant");
            assert_eq!(has.limits.databases, databases);
        }
    }
    // A node that has heard of half of it does not take a plan that is gone for damage.
    for _ in 0..5 {
        conformance::take_plan(&admin, "t").await.expect("no plan");
        let has = plain.allowance(id).await.expect("an answer").expect("a tenant");
        assert!([1_000, 4].contains(&has.limits.databases), "{has:?}");
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        let has = plain.allowance(id).await.expect("an answer").expect("a tenant");
        assert_eq!(has.limits.databases, 1_000);
        conformance::try_plan(&admin, "t", 4).await.expect("a plan");
        tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
        assert!(plain.allowance(id).await.expect("an answer").is_some());
    }
    plain.close();
    admin.close();
}

async fn conforms_apart(isolation: Isolation) {
    conformance::run_all(async || {
        let site = Site::new().await;
        (site.open_apart(isolation).await, site)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_conforms_with_schemas() {
    conforms_apart(Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_conforms_with_databases() {
    conforms_apart(Isolation::Database).await;
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The URL of the server's superuser.
fn superuser() -> String {
    std::env::var("TENANTRY_TEST_POSTGRES")
        .expect("TENANTRY_TEST_POSTGRES must hold the URL of a superuser of a PostgreSQL")
}

/// An installation's database and roles on the server, removed when this is dropped.
pub(crate) struct Site {
    superuser: String,
    names: Names,
    url: String,
    admin_url: String,
    folder: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn new() -> Self {
        Self::at(superuser()).await
    }

    /// On the server of this superuser.
    pub(crate) async fn at(superuser: String) -> Self {
        Self::with_prefix(superuser, None).await
    }

    /// The same with this before the names of places.
    async fn with_prefix(superuser: String, place_prefix: Option<PlacePrefix>) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("it{}_{number}", std::process::id());
        let names = Names::parse(&name).expect("a name");
        let what = Setup { names, place_prefix, reset_passwords: false };
        let made = setup(&superuser, &what, &SystemEntropy).await.expect("setup");
        let folder = tempfile::tempdir().expect("a folder");
        let (url, admin_url) = (made.database_url, made.database_admin_url);
        Self { superuser, names: what.names, url, admin_url, folder }
    }

    /// A node that makes tenants apart.
    pub(crate) async fn open_apart(&self, isolation: Isolation) -> Store {
        let mut config = self.config();
        config.admin_url = Some(DatabaseUrl::parse(&self.admin_url).expect("a URL"));
        config.default_isolation = isolation;
        config.databases.emptied_after = std::time::Duration::from_millis(300);
        config.databases.arrival_patience = std::time::Duration::from_secs(2);
        Store::open_postgres(config).await.expect("a store")
    }

    /// What another process needs to know to be a node that makes tenants apart.
    pub(crate) fn word(&self) -> String {
        let folder = self.folder.path().to_str().expect("a path");
        format!("{} {} {folder}", self.url, self.admin_url)
    }

    /// That node.
    pub(crate) async fn open_by(word: &str) -> Store {
        let parts: Vec<&str> = word.split(' ').collect();
        let [url, admin_url, folder] = parts[..] else { panic!("three words") };
        let mut config = PostgresConfig::new(DatabaseUrl::parse(url).expect("a URL"), folder);
        config.admin_url = Some(DatabaseUrl::parse(admin_url).expect("a URL"));
        config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
        config.databases.emptied_after = std::time::Duration::from_millis(300);
        config.databases.arrival_patience = std::time::Duration::from_secs(2);
        Store::open_postgres(config).await.expect("a store")
    }

    /// A node's configuration.
    pub(crate) fn config(&self) -> PostgresConfig {
        let url = DatabaseUrl::parse(&self.url).expect("a URL");
        let mut config = PostgresConfig::new(url, self.folder.path());
        config.master_key = MasterKey::Bytes(Zeroizing::new([7; 32]));
        config
    }

    /// A node.
    pub(crate) async fn open(&self) -> Store {
        Store::open_postgres(self.config()).await.expect("a store")
    }

    /// A node's configuration that goes through a proxy.
    pub(crate) async fn through_proxy(&self) -> (proxy::Proxy, PostgresConfig) {
        let (scheme, rest) = self.url.split_once('@').expect("a user");
        let (address, path) = rest.split_once('/').expect("a database");
        let proxy = proxy::Proxy::start(address.to_owned()).await;
        let mut config = self.config();
        let url = format!("{scheme}@{}/{path}", proxy.address);
        config.url = DatabaseUrl::parse(&url).expect("a URL");
        (proxy, config)
    }

    /// The URLs of the role that serves and of the admin, with a space between them.
    pub(crate) fn urls(&self) -> String {
        format!("{} {}", self.url, self.admin_url)
    }

    /// A superuser's session.
    pub(crate) async fn session(&self) -> Client {
        let mut config: tokio_postgres::Config = self.superuser.parse().expect("a URL");
        config.dbname(self.names.database());
        let (client, connection) = config.connect(NoTls).await.expect("connect");
        tokio::spawn(connection);
        client
    }

    /// Runs a superuser's command.
    pub(crate) async fn run(&self, sql: &str) {
        self.session().await.batch_execute(sql).await.expect("a command");
    }

    /// The number that a superuser's query answers with.
    pub(crate) async fn ask(&self, sql: &str) -> i64 {
        self.session().await.query_one(sql, &[]).await.expect("a query").get(0)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let (superuser, names) = (self.superuser.clone(), self.names.clone());
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(remove(&superuser, &names));
        });
        // A session of this process that is being opened would hold up the removal for a minute, and
        // waits for a thread itself.
        let on_worker = tokio::runtime::Handle::try_current()
            .is_ok_and(|of| of.runtime_flavor() == RuntimeFlavor::MultiThread);
        let removed = if on_worker && !std::thread::panicking() {
            tokio::task::block_in_place(|| removing.join())
        } else {
            removing.join()
        };
        assert!(removed.is_ok() || std::thread::panicking(), "a database was not removed");
    }
}

async fn remove(superuser: &str, names: &Names) {
    let (client, connection) = tokio_postgres::connect(superuser, NoTls).await.expect("connect");
    tokio::spawn(connection);
    let (database, template) = (names.database(), names.template());
    let list = async |sql: &str, role: &str| -> Vec<String> {
        let rows = client.query(sql, &[&role]).await.expect("a list");
        rows.iter().map(|row| row.get(0)).collect()
    };
    let own = "SELECT datname::text FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
               WHERE r.rolname = $1 AND NOT datistemplate";
    let databases = list(own, &names.admin()).await;
    let members = "SELECT r.rolname::text FROM pg_auth_members m \
                   JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles s ON s.oid = m.member \
                   WHERE s.rolname = $1";
    let roles = list(members, &names.service()).await;
    let mut statements = vec![format!("ALTER DATABASE {template} IS_TEMPLATE false")];
    for database in databases.iter().map(String::as_str).chain([template.as_str(), database]) {
        statements.push(format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"));
    }
    for role in roles.into_iter().chain([names.service(), names.admin()]) {
        statements.push(format!("DROP ROLE IF EXISTS {role}"));
    }
    for sql in statements {
        client.batch_execute(&sql).await.expect("removed");
    }
}
