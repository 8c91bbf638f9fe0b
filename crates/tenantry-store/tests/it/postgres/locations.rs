//! Tenants in other databases than the installation's.

use super::{
    Site,
    nodes::{Node, any_key},
    proxy::Proxy,
};
use crate::{
    conformance::{self, OWN, UPSERT, record},
    stand::tenant,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope, TenantId};
use tenantry_store::{LocationConfig, PostgresConfig, Store, TenantChange, postgres::DatabaseUrl};
use tenantry_types::{
    DatabaseName, Error, ErrorKind, Isolation, Location, LocationName, OwnDatabase, Result,
    SecretText, TenantSpec,
};
use tokio_postgres::NoTls;

/// What another node may go on with for a while, and some more.
const SOON: Duration = Duration::from_secs(2);

pub(crate) fn eu() -> LocationName {
    LocationName::parse("eu").unwrap()
}

pub(crate) fn url(text: &str) -> DatabaseUrl {
    DatabaseUrl::parse(text).unwrap()
}

/// A node's configuration with the database of a second setup as a location, where tenants are
/// made.
pub(crate) fn config(site: &Site, there: &Site, isolation: Isolation) -> PostgresConfig {
    let mut config = site.config();
    config.admin_url = Some(url(&site.admin_url));
    let admin_url = Some(url(&there.admin_url));
    config.databases.locations =
        vec![LocationConfig { name: eu(), url: url(&there.url), admin_url }];
    config.databases.default_location = Some(eu());
    config.default_isolation = isolation;
    config
}

async fn open(config: PostgresConfig) -> Node {
    Node::new(Store::open_postgres(config).await.unwrap()).await
}

async fn refused(config: PostgresConfig) -> Error {
    Store::open_postgres(config).await.expect_err("refused")
}

/// Another database of a setup that nobody lives in.
pub(super) async fn another(site: &Site) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let (from, service) = (site.names.database(), site.names.service());
    let name = format!("{from}_o{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (client, connection) = tokio_postgres::connect(&site.superuser, NoTls).await.unwrap();
    tokio::spawn(connection);
    for sql in [
        format!("CREATE DATABASE {name} TEMPLATE {from} OWNER {}", site.names.admin()),
        format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC"),
        format!("GRANT CONNECT ON DATABASE {name} TO {service}"),
    ] {
        client.batch_execute(&sql).await.unwrap();
    }
    format!("{}/{name}", site.url.rsplit_once('/').unwrap().0)
}

pub(super) fn own(url: &str) -> OwnDatabase {
    OwnDatabase { url: SecretText::new(url), admin_url: None }
}

pub(super) async fn make(
    node: &Node,
    name: &str,
    own: Option<OwnDatabase>,
) -> Result<Scope<Admin>> {
    let spec = TenantSpec { own_database: own, ..TenantSpec::new(tenant(name)) };
    Ok(node.scope(node.store.create_tenant(&node.operator, &spec).await?.id))
}

pub(super) async fn make_at(node: &Node, name: &str, location: Location) -> Result<Scope<Admin>> {
    let (location, isolation) = (Some(location), Some(Isolation::Shared));
    let spec = TenantSpec { location, isolation, ..TenantSpec::new(tenant(name)) };
    Ok(node.scope(node.store.create_tenant(&node.operator, &spec).await?.id))
}

pub(super) async fn write(
    node: &Node,
    scope: &Scope<Admin>,
    collection: &str,
    ids: u32,
) -> Result<()> {
    let collection = node.collection(scope, collection).await?;
    let batch = (0..ids).map(|n| record(&format!("r{n}"), 1.0, &[])).collect();
    node.store.write(scope, &collection, UPSERT, batch).await.map(drop)
}

pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: not within 20 seconds");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks how many schemas, databases and roles there are of tenants.
pub(crate) fn places(there: &Site) -> String {
    format!(
        "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^ten_') \
         + (SELECT count(*) FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba \
            WHERE datname ~ '^ten_' AND rolname = '{admin}') \
         + (SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member \
            WHERE r.rolname = '{service}')",
        admin = there.names.admin(),
        service = there.names.service()
    )
}

async fn conforms_at(isolation: Isolation) {
    Box::pin(conformance::run_all(async || {
        let (site, there) = (Site::new().await, Site::new().await);
        let store = Store::open_postgres(config(&site, &there, isolation)).await.expect("a store");
        (store, (site, there))
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_tenants_at_a_location_conform() {
    conforms_at(Isolation::Shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schemas_at_a_location_conform() {
    conforms_at(Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn databases_at_a_location_conform() {
    conforms_at(Isolation::Database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_that_carry_a_database_conform() {
    let donor = Arc::new(Site::new().await);
    let from = Arc::clone(&donor);
    let make = Arc::new(move || {
        let from = Arc::clone(&from);
        let made = async move { own(&another(&from).await) };
        Box::pin(made) as conformance::BoxFuture<OwnDatabase>
    });
    OWN.scope(make, async {
        let make = async || {
            let site = Site::new().await;
            (site.open().await, site)
        };
        Box::pin(conformance::run_events(&make)).await;
        conformance::run_all(make).await;
    })
    .await;
    drop(donor);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_says_where_it_is_and_a_location_has_its_rows() {
    let (site, there) = (Site::new().await, Site::new().await);
    let node = open(config(&site, &there, Isolation::Shared)).await;
    for (name, location) in [("home", Location::Home), ("there", Location::Named(eu()))] {
        let scope = make_at(&node, name, location).await.unwrap();
        node.make(&scope, "c").await.unwrap();
        write(&node, &scope, "c", 3).await.unwrap();
        let info = node.store.tenant_by_id(scope.tenant()).await.unwrap().unwrap();
        assert_eq!((info.location, info.isolation), (location, Isolation::Shared));
        let rows = format!("SELECT count(*) FROM tenantry.records WHERE tenant = {}", info.id);
        let is_home = location == Location::Home;
        assert_eq!(site.ask(&rows).await, if is_home { 3 } else { 0 });
        assert_eq!(there.ask(&rows).await, if is_home { 0 } else { 3 });
    }
    let us = Location::parse("us").unwrap();
    let unknown = make_at(&node, "t", us).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Invalid);
    assert!(unknown.to_string().contains("given are: eu;"), "{unknown}");
    // Without an admin's URL there are shared ones only.
    let mut bare = config(&site, &there, Isolation::Schema);
    bare.databases.locations[0].admin_url = None;
    let bare = open(bare).await;
    let unable = make(&bare, "t", None).await.unwrap_err();
    assert_eq!(unable.kind(), ErrorKind::Unsupported);
    let mut wrong = site.config();
    wrong.databases.default_location = Some(eu());
    assert_eq!(refused(wrong).await.kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_has_one_owner() {
    let (site, other, there) = (Site::new().await, Site::new().await, Site::new().await);
    let node = open(config(&site, &there, Isolation::Shared)).await;
    open(other.config()).await;
    // It is the root itself, another installation's, or a location of another installation.
    for (from, to) in [(&site, &site), (&site, &other), (&other, &there)] {
        let why = refused(config(from, to, Isolation::Shared)).await;
        assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
        assert!(why.to_string().contains("belongs to others"), "{why}");
    }
    // No other location of the same installation, and no installation.
    let mut renamed = config(&site, &there, Isolation::Shared);
    renamed.databases.locations[0].name = LocationName::parse("us").unwrap();
    renamed.databases.default_location = None;
    assert_eq!(refused(renamed).await.kind(), ErrorKind::Conflict);
    assert_eq!(refused(there.config()).await.kind(), ErrorKind::Conflict);
    // Nor a tenant's, and a tenant's is no other tenant's.
    let donor = Site::new().await;
    let free = another(&donor).await;
    for taken in [&site.url, &other.url, &there.url] {
        let why = make(&node, "t", Some(own(taken))).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
    }
    make(&node, "t", Some(own(&free))).await.unwrap();
    let why = make(&node, "u", Some(own(&free))).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
    let mut second = config(&site, &there, Isolation::Shared);
    second.databases.locations.push(LocationConfig {
        name: LocationName::parse("us").unwrap(),
        url: url(&free),
        admin_url: None,
    });
    assert_eq!(refused(second).await.kind(), ErrorKind::Conflict);
    // A tenant does not move to another database by a change of its URL.
    let elsewhere = another(&donor).await;
    let change = |url: &str| TenantChange { own_database: Some(own(url)), ..Default::default() };
    let moved = node.store.change_tenant(&node.operator, &tenant("t"), &change(&elsewhere)).await;
    assert_eq!(moved.unwrap_err().kind(), ErrorKind::Conflict);
    node.store.change_tenant(&node.operator, &tenant("t"), &change(&free)).await.unwrap();
    // Once the tenant is gone, its database is free.
    node.delete("t").await.unwrap();
    until("the database is free", async || make(&node, "v", Some(own(&free))).await.is_ok()).await;
}

/// A location whose server is behind a proxy that is not there yet, or not any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_that_is_down_costs_its_own_tenants_only() {
    let (site, there) = (Site::new().await, Site::new().await);
    let (scheme, rest) = there.url.split_once('@').unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let begin = config(&site, &there, Isolation::Shared);
    let node = open(begin.clone()).await;
    let away = make_at(&node, "away", Location::Named(eu())).await.unwrap();
    let home = make_at(&node, "home", Location::Home).await.unwrap();
    for scope in [&away, &home] {
        node.make(scope, "c").await.unwrap();
        write(&node, scope, "c", 1).await.unwrap();
    }
    node.store.close();
    // Down at the start: nobody listens there.
    let proxy = Proxy::start(address.to_owned()).await;
    let listens = proxy.address;
    drop(proxy);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut config = begin;
    let there_url = format!("{scheme}@{listens}/{path}");
    config.databases.locations[0] =
        LocationConfig { name: eu(), url: url(&there_url), admin_url: None };
    let node = open(config).await;
    let is_refused = async |scope: &Scope<Admin>| {
        let why = write(&node, scope, "c", 1).await.expect_err("down");
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why}");
        let text = format!("{why:?} {why}");
        assert!(!text.contains(&listens.port().to_string()), "{text}");
    };
    is_refused(&away).await;
    let out_of_reach = || node.store.out_of_reach(&node.operator);
    assert_eq!(out_of_reach(), [Location::Named(eu())]);
    write(&node, &home, "c", 2).await.unwrap();
    let late = make_at(&node, "late", Location::Named(eu())).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Unavailable);
    assert_eq!(node.store.find_tenant(&tenant("late")).await.unwrap(), None);
    // It comes up, and goes again.
    let proxy = Proxy::start_at(listens, address.to_owned()).await;
    until("it is back", async || write(&node, &away, "c", 2).await.is_ok()).await;
    assert_eq!(out_of_reach(), []);
    drop(proxy);
    tokio::time::sleep(Duration::from_millis(300)).await;
    until("it is named", async || {
        is_refused(&away).await;
        out_of_reach() == [Location::Named(eu())]
    })
    .await;
    write(&node, &home, "c", 3).await.unwrap();
    assert_eq!(node.store.tenants(&node.operator, None, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_location_with_the_wrong_rights_stops_the_start() {
    let (site, there) = (Site::new().await, Site::new().await);
    let mut wrong = config(&site, &there, Isolation::Shared);
    let database = there.names.database();
    let superuser = there.superuser.rsplit_once('/').unwrap().0;
    wrong.databases.locations[0].url = url(&format!("{superuser}/{database}"));
    wrong.databases.locations[0].admin_url = None;
    let why = refused(wrong).await;
    assert!(why.to_string().contains("location eu") && why.to_string().contains("SUPERUSER"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_leaves_nothing_at_a_location() {
    let (site, there, donor) = (Site::new().await, Site::new().await, Site::new().await);
    let rows = "SELECT (SELECT count(*) FROM tenantry.records) \
                + (SELECT count(*) FROM tenantry.vectors) \
                + (SELECT count(*) FROM tenantry.catalog WHERE tenant > 0)";
    let places = places(&there);
    let left = "SELECT count(*) FROM tenantry.catalog WHERE tenant > 0 OR family IN (3, 5, 6, 11)";
    let database = another(&donor).await;
    for (name, isolation) in
        [("a", Isolation::Shared), ("b", Isolation::Schema), ("c", Isolation::Database)]
    {
        let node = open(config(&site, &there, isolation)).await;
        let scope = make(&node, name, None).await.unwrap();
        node.make(&scope, "c").await.unwrap();
        for _ in 0..3 {
            write(&node, &scope, "c", 1_500).await.unwrap();
        }
        node.delete(name).await.unwrap();
        // Whoever comes next goes on with it.
        node.store.close();
        let next = open(config(&site, &there, isolation)).await;
        until(name, async || site.ask(left).await == 0).await;
        assert_eq!((there.ask(rows).await, there.ask(&places).await), (0, 0), "{name}");
        next.store.close();
    }
    let node = open(config(&site, &there, Isolation::Shared)).await;
    let scope = make(&node, "d", Some(own(&database))).await.unwrap();
    node.make(&scope, "c").await.unwrap();
    write(&node, &scope, "c", 2_500).await.unwrap();
    node.store.close();
    let node = open(config(&site, &there, Isolation::Shared)).await;
    node.delete("d").await.unwrap();
    until("own", async || site.ask(left).await == 0).await;
    let (client, connection) =
        tokio_postgres::connect(&superuser_in(&donor, &database), NoTls).await.unwrap();
    tokio::spawn(connection);
    let all = "SELECT (SELECT count(*) FROM tenantry.records) \
               + (SELECT count(*) FROM tenantry.catalog)";
    assert_eq!(client.query_one(all, &[]).await.unwrap().get::<_, i64>(0), 0);
}

/// Whoever owns a tenant's database decides what it keeps of what is committed there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_keeps_nothing_is_told_once() {
    let site = Site::new().await;
    keeps_nothing(&open(site.config()).await).await;
}

pub(super) async fn keeps_nothing(node: &Node) {
    let donor = Site::new().await;
    let carried = another(&donor).await;
    let scope = make(node, "t", Some(own(&carried))).await.unwrap();
    node.make(&scope, "c").await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&superuser_in(&donor, &carried), NoTls).await.unwrap();
    tokio::spawn(connection);
    let forgetful = "CREATE SCHEMA odd; GRANT USAGE ON SCHEMA odd TO PUBLIC; \
         CREATE FUNCTION odd.hold() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN IF NEW.family = 17 THEN NEW.row := OLD.row; END IF; RETURN NEW; END'; \
         CREATE TRIGGER hold BEFORE UPDATE ON tenantry.catalog FOR EACH ROW \
         EXECUTE FUNCTION odd.hold()";
    client.batch_execute(forgetful).await.unwrap();
    node.store.create_key(&scope, any_key()).await.unwrap();
    let patience = Duration::from_secs(10);
    let made = tokio::time::timeout(patience, node.make(&scope, "d")).await.expect("no end");
    assert_eq!(made.unwrap_err().kind(), ErrorKind::Corrupt);
    let wrote = tokio::time::timeout(patience, write(node, &scope, "c", 1)).await;
    assert_eq!(wrote.expect("no end").unwrap_err().kind(), ErrorKind::Corrupt);
    client.batch_execute("DROP TRIGGER hold ON tenantry.catalog").await.unwrap();
    write(node, &scope, "c", 1).await.unwrap();
}

/// Whose claim is gone keeps what it has, until it is given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_claimed_any_more_is_not_taken_for_removed() {
    let site = Site::new().await;
    is_not_claimed(&open(site.config()).await).await;
}

pub(super) async fn is_not_claimed(node: &Node) {
    let donor = Site::new().await;
    let carried = another(&donor).await;
    let scope = make(node, "t", Some(own(&carried))).await.unwrap();
    node.make(&scope, "c").await.unwrap();
    write(node, &scope, "c", 3).await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&superuser_in(&donor, &carried), NoTls).await.unwrap();
    tokio::spawn(connection);
    let claim = "DELETE FROM tenantry.catalog WHERE tenant = 0 AND family = 12";
    client.batch_execute(claim).await.unwrap();
    node.delete("t").await.unwrap();
    let number = i64::try_from(scope.tenant().get()).unwrap();
    let sql = "SELECT count(*) FROM tenantry.records WHERE tenant = $1";
    tokio::time::sleep(SOON).await;
    let left: i64 = client.query_one(sql, &[&number]).await.unwrap().get(0);
    assert_eq!(left, 3);
    let leftovers = node.store.leftovers(&node.operator).await.unwrap();
    assert_eq!(leftovers.len(), 1);
    node.store.abandon(&node.operator, scope.tenant()).await.unwrap();
    until("it is given up", async || {
        node.store.leftovers(&node.operator).await.unwrap().is_empty()
    })
    .await;
}

/// Whoever owns a tenant's database may write notes there that name others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_note_removes_nobody_else() {
    let (site, there) = (Site::new().await, Site::new().await);
    forges(&there, async || open(config(&site, &there, Isolation::Schema)).await).await;
}

/// Tenants are made in schemas at the location.
pub(super) async fn forges(there: &Site, open: impl AsyncFn() -> Node) {
    let donor = Site::new().await;
    let node = open().await;
    let victim = make(&node, "victim", None).await.unwrap();
    node.make(&victim, "c").await.unwrap();
    write(&node, &victim, "c", 3).await.unwrap();
    let database = another(&donor).await;
    let forger = make(&node, "forger", Some(own(&database))).await.unwrap();
    node.make(&forger, "c").await.unwrap();
    write(&node, &forger, "c", 3).await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&superuser_in(&donor, &database), NoTls).await.unwrap();
    tokio::spawn(connection);
    let (forger, victim) = (forger.tenant(), victim.tenant());
    let (whose, whom) = (forger.get(), victim.get());
    // A schema at the location eu, made, with no notes.
    let forged = format!(
        "INSERT INTO tenantry.catalog (tenant, family, key, row) VALUES \
         ({whose}, 3, '\\x{whom:016x}00000000', ''), ({whose}, 3, '\\x00', ''), \
         (0, 5, '\\x{whom:016x}', '\\x010000000000{:016x}01026575')",
        0
    );
    client.batch_execute(&forged).await.unwrap();
    // The purger looks at the place again, whether by a deletion or at its opening.
    node.store.close();
    drop(node);
    let node = open().await;
    let scope = node.scope(forger);
    let made = node.collection(&scope, "c").await.unwrap();
    node.store.delete_collection(&scope, &made).await.unwrap();
    let left = "SELECT count(*) FROM tenantry.records";
    until("the forger's own", async || {
        client.query_one(left, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    let victim = node.scope(victim);
    write(&node, &victim, "c", 3).await.unwrap();
    let places = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^ten_'";
    assert_eq!(there.ask(places).await, 1);
}

/// Two tenants that carry databases, of which one takes connections and says nothing any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_hangs_keeps_no_other_waiting_and_can_be_given_up() {
    let site = Site::new().await;
    hangs(&open(site.config()).await).await;
    let rest = "SELECT count(*) FROM tenantry.catalog WHERE tenant > 0 OR family IN (3, 5, 6, 8, 11) \
                AND substr(key, 1, 8) <> int8send(0)";
    assert_eq!(site.ask(rest).await, 0);
}

pub(super) async fn hangs(node: &Node) {
    let donor = Site::new().await;
    let (mute, good) = (another(&donor).await, another(&donor).await);
    let (scheme, rest) = mute.split_once('@').unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::start(address.to_owned()).await;
    let listens = proxy.address;
    let through = format!("{scheme}@{listens}/{path}");
    for (name, url) in [("mute", &through), ("good", &good)] {
        let scope = make(node, name, Some(own(url))).await.unwrap();
        node.make(&scope, "c").await.unwrap();
        write(node, &scope, "c", 3).await.unwrap();
    }
    let lost = node.store.find_tenant(&tenant("mute")).await.unwrap().unwrap().id;
    drop(proxy);
    let silence = until_bound(listens).await;
    node.delete("mute").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    node.delete("good").await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&superuser_in(&donor, &good), NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = "SELECT count(*) FROM tenantry.catalog";
    until("the other is removed", async || {
        client.query_one(rows, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    // What is left is known, and nothing but what is elsewhere can be given up.
    let left = async || node.store.leftovers(&node.operator).await.unwrap();
    until("one is left", async || left().await.len() == 1).await;
    let one = left().await[0];
    assert_eq!((one.tenant, one.location), (lost, Location::Own));
    let nobody = TenantId::new(99);
    let why = node.store.abandon(&node.operator, nobody).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::NotFound);
    let lives = make(node, "lives", None).await.unwrap().tenant();
    let why = node.store.abandon(&node.operator, lives).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Conflict);
    assert!(why.to_string().contains("is not deleted"), "{why}");
    node.delete("lives").await.unwrap();
    let given_up = node.store.abandon(&node.operator, lost).await.unwrap();
    assert_eq!((given_up.tenant, given_up.location), (lost, Location::Own));
    until("the rest is gone", async || left().await.is_empty()).await;
    let log = node.store.operator_audit(&node.operator, 0, 100).await.unwrap();
    let entry = log.iter().find(|entry| entry.event.action == "tenant.abandon").unwrap();
    assert_eq!(entry.event.target, format!("{lost} at own"));
    drop(silence);
}

/// Takes connections there and says nothing.
pub(super) async fn until_bound(address: std::net::SocketAddr) -> tokio::net::TcpListener {
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// The superuser's URL of the database that another URL names.
pub(super) fn superuser_in(site: &Site, url: &str) -> String {
    let (server, _) = site.superuser.rsplit_once('/').unwrap();
    format!("{server}/{}", url.rsplit_once('/').unwrap().1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_know_a_location_serves_the_others() {
    let (site, there) = (Site::new().await, Site::new().await);
    let one = open(config(&site, &there, Isolation::Shared)).await;
    let away = make(&one, "away", None).await.unwrap();
    let home = make_at(&one, "home", Location::Home).await.unwrap();
    for scope in [&away, &home] {
        one.make(scope, "c").await.unwrap();
    }
    let two = open(site.config()).await;
    assert_eq!(two.store.tenants(&two.operator, None, 10).await.unwrap().len(), 2);
    let (away, home) = (two.scope(away.tenant()), two.scope(home.tenant()));
    write(&two, &home, "c", 1).await.unwrap();
    let why = two.store.database(&away, &DatabaseName::default_database()).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Unavailable);
    assert!(!why.to_string().contains("eu"), "{why}");
    assert_eq!(two.store.out_of_reach(&two.operator), [Location::Named(eu())]);
    // It may delete the tenant, and leaves the rest to the other.
    two.delete("away").await.unwrap();
    let rows = "SELECT count(*) FROM tenantry.catalog WHERE tenant > 0";
    until("the other removes it", async || there.ask(rows).await == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_password_reaches_the_other_node() {
    let (site, donor) = (Site::new().await, Site::new().await);
    let database = another(&donor).await;
    let (one, two) = (open(site.config()).await, open(site.config()).await);
    let here = make(&one, "t", Some(own(&database))).await.unwrap();
    one.make(&here, "c").await.unwrap();
    let there = two.scope(here.tenant());
    write(&two, &there, "c", 1).await.unwrap();
    let service = donor.names.service();
    let (user, rest) = database.split_once('@').unwrap();
    let renewed = format!("{}:renewed@{rest}", user.rsplit_once(':').unwrap().0);
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{service}'"
    );
    donor.run(&format!("ALTER ROLE {service} PASSWORD 'renewed'; {end}")).await;
    assert_eq!(write(&two, &there, "c", 1).await.unwrap_err().kind(), ErrorKind::Unavailable);
    let change = TenantChange { own_database: Some(own(&renewed)), ..Default::default() };
    let changed = one.store.change_tenant(&one.operator, &tenant("t"), &change).await;
    assert_eq!(changed.unwrap().location, Location::Own);
    write(&one, &here, "c", 2).await.unwrap();
    let begun = Instant::now();
    while write(&two, &there, "c", 3).await.is_err() {
        assert!(begun.elapsed() < SOON, "the other node has the old password");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = one.store.audit(&here, 0, 100).await.unwrap();
    assert!(log.iter().any(|entry| entry.event.action == "tenant.database"));
    crate::stand::verify_chain(&log);
    // Only a tenant that carries one has one to change.
    make(&one, "u", None).await.unwrap();
    let refused = one.store.change_tenant(&one.operator, &tenant("u"), &change).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_is_told_to_nobody() {
    let (site, donor) = (Site::new().await, Site::new().await);
    let database = another(&donor).await;
    let node = open(site.config()).await;
    let (user, rest) = database.split_once('@').unwrap();
    let password = user.rsplit_once(':').unwrap().1;
    let says_nothing = |text: &str| {
        for secret in [password, "geheim", database.as_str()] {
            assert!(!text.contains(secret), "{text}");
        }
    };
    let wrong = format!("{}:geheim@{rest}", user.rsplit_once(':').unwrap().0);
    for bad in [wrong.as_str(), "geheim", "postgresql://a:geheim@127.0.0.1:1/x"] {
        let why = make(&node, "t", Some(own(bad))).await.unwrap_err();
        assert!(matches!(why.kind(), ErrorKind::Invalid | ErrorKind::Unavailable), "{why:?}");
        says_nothing(&format!("{why:?} {why}"));
    }
    let spec = TenantSpec { own_database: Some(own(&database)), ..TenantSpec::new(tenant("t")) };
    says_nothing(&format!("{spec:?}"));
    let info = node.store.create_tenant(&node.operator, &spec).await.unwrap();
    assert_eq!((info.location, info.isolation), (Location::Own, Isolation::Database));
    says_nothing(&format!("{info:?} {:?}", node.store));
    let log = node.store.operator_audit(&node.operator, 0, 100).await.unwrap();
    says_nothing(&format!("{log:?} {:?}", node.store.audit(&node.scope(info.id), 0, 100).await));
    // It does not stand in the root as it is.
    let clear = format!(
        "SELECT count(*) FROM tenantry.catalog WHERE position('{password}'::bytea IN row) > 0"
    );
    assert_eq!(site.ask(&clear).await, 0);
    let authority = format!("{database}?sslrootcert=/etc/hosts");
    let why = make(&node, "u", Some(own(&authority))).await.unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Invalid, "{why}");
    // Two places at once, or none.
    for (location, isolation) in [(Some(Location::Home), None), (None, Some(Isolation::Schema))] {
        let spec = TenantSpec { location, isolation, ..spec.clone() };
        let why = node.store.create_tenant(&node.operator, &spec).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Invalid, "{why}");
    }
}
