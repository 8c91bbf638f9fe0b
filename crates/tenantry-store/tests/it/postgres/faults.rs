//! A server that crashes, is full, is busy, refuses or is not there, and what is left of the
//! work that it cut off.

mod server;

use super::{Site, nodes::Node};
use crate::{
    conformance::{UPSERT, nearest, record},
    stand::{Chance, tenant, verify_chain},
};
use server::{Server, Small};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope};
use tenantry_store::{CollectionRef, Health, Store, postgres::DatabaseUrl};
use tenantry_types::{
    CollectionName, DatabaseName, Error, ErrorKind, GetRequest, Isolation, Result, Selector,
};
use tokio_postgres::{Client, NoTls};

const ISOLATIONS: [Isolation; 3] = [Isolation::Shared, Isolation::Schema, Isolation::Database];

/// A session beside the node's.
async fn session(url: &str, database: &str) -> Client {
    let mut config: tokio_postgres::Config = url.parse().unwrap();
    let (client, connection) = config.dbname(database).connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Tries until it is done; whatever fails meanwhile is the server that is away.
async fn soon<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(why) => {
                assert_eq!(why.kind(), ErrorKind::Unavailable, "{what}: {why:?}");
                assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {why:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A tenant with a collection, and the ids whose writing was acknowledged.
struct Owner {
    scope: Scope<Admin>,
    collection: CollectionRef,
    written: Mutex<BTreeSet<String>>,
    count: AtomicU32,
}

impl Owner {
    async fn new(node: &Node, name: &str, isolation: Isolation) -> Self {
        let scope = node.tenant_in(name, isolation).await.unwrap();
        let collection = node.make(&scope, "c").await.unwrap();
        Self { scope, collection, written: Mutex::default(), count: AtomicU32::new(0) }
    }

    async fn write(&self, node: &Node, id: &str) -> Result<()> {
        let batch = vec![record(id, 1.0, &[]), record(&format!("{id}+"), 2.0, &[])];
        node.store.write(&self.scope, &self.collection, UPSERT, batch).await?;
        self.written.lock().unwrap().insert(id.to_owned());
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn ids(&self, node: &Node) -> Result<BTreeSet<String>> {
        let request = GetRequest::default();
        let got = node.store.get(&self.scope, &self.collection, &request).await?.value;
        Ok(got.into_iter().map(|record| record.id.into_string()).collect())
    }

    /// Everything acknowledged is there, nothing is by half, and all ways to count agree.
    async fn verify(&self, node: &Node) {
        let ids = self.ids(node).await.unwrap();
        let written = self.written.lock().unwrap().clone();
        assert!(ids.is_superset(&written), "acknowledged writes are lost");
        for id in &ids {
            let other = id.strip_suffix('+').map_or_else(|| format!("{id}+"), str::to_owned);
            assert!(ids.contains(&other), "{id} without {other}");
        }
        let (scope, c) = (&self.scope, &self.collection);
        let count = node.store.count(scope, c, &Selector::default()).await.unwrap().value;
        assert_eq!(count, ids.len());
        let found = node.store.query(scope, c, &nearest([1.0, 1.0], 10_000)).await.unwrap();
        assert_eq!(found.value.hits[0].len(), ids.len());
        verify_chain(&node.store.audit(scope, 0, 100_000).await.unwrap());
    }
}

async fn write_on(node: Arc<Node>, owner: Arc<Owner>, stop: Arc<AtomicBool>) -> u32 {
    let mut failures = 0;
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let outcome = owner.write(&node, &format!("r{n}")).await;
        let outcome = match n % 8 {
            7 => outcome.and(owner.ids(&node).await.map(drop)),
            _ => outcome,
        };
        if let Err(why) = outcome {
            assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
            failures += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_loses_nothing_acknowledged() {
    let mut server = Server::start(&[]);
    let site = Site::at(server.url.clone()).await;
    let node = Arc::new(Node::new(site.open_apart(Isolation::Shared).await).await);
    let mut owners = Vec::new();
    for (at, isolation) in ISOLATIONS.into_iter().cycle().take(6).enumerate() {
        owners.push(Arc::new(Owner::new(&node, &format!("t{at}"), isolation).await));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = tokio::task::JoinSet::new();
    for owner in &owners {
        writers.spawn(write_on(Arc::clone(&node), Arc::clone(owner), Arc::clone(&stop)));
    }
    let all_write_on = async || {
        let counts = || owners.iter().map(|owner| owner.count.load(Ordering::SeqCst));
        let before: Vec<_> = counts().collect();
        let begun = Instant::now();
        while counts().zip(&before).any(|(now, before)| now < before + 3) {
            assert!(begun.elapsed() < Duration::from_secs(30), "somebody does not write on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    for _ in 0..2 {
        all_write_on().await;
        server.order("kill");
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.order("start");
    }
    all_write_on().await;
    stop.store(true, Ordering::SeqCst);
    let mut failures = 0;
    while let Some(ended) = writers.join_next().await {
        failures += ended.expect("a writer");
    }
    assert!(failures > 0, "nobody noticed");
    for owner in &owners {
        owner.verify(&node).await;
    }
    node.store.close();
    // So does a node that starts now.
    let other = Arc::new(Node::new(site.open_apart(Isolation::Shared).await).await);
    for owner in &owners {
        owner.verify(&other).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_room_for_connections_is_waited_for() {
    let server = Server::start(&["max_connections=24"]);
    let site = Site::at(server.url.clone()).await;
    let node = Node::new(site.open_apart(Isolation::Shared).await).await;
    let mut owners = Vec::new();
    for isolation in ISOLATIONS {
        owners.push(Owner::new(&node, isolation.word(), isolation).await);
    }
    let superuser = session(&server.url, "postgres").await;
    let mut others = Vec::new();
    // The node's connections are ended and their places taken, until it has none.
    loop {
        let mut config: tokio_postgres::Config = site.url.parse().unwrap();
        while let Ok((client, connection)) = config.application_name("other").connect(NoTls).await {
            tokio::spawn(connection);
            others.push(client);
        }
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE application_name = 'tenantry'";
        let ended: i64 = superuser.query_one(sql, &[]).await.unwrap().get(0);
        if ended == 0 {
            break;
        }
    }
    for owner in &owners {
        let why = owner.write(&node, "refused").await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
        let why = owner.ids(&node).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
    }
    assert!(matches!(node.store.health(), Health::Unavailable(_)));
    let refused = node.tenant_in("new", Isolation::Schema).await.map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    others.clear();
    for owner in &owners {
        soon("a write", async || owner.write(&node, "again").await).await;
        owner.verify(&node).await;
    }
    soon("health", async || match node.store.health() {
        Health::Unavailable(why) => Err(Error::new(ErrorKind::Unavailable, why)),
        _ => Ok(()),
    })
    .await;
    node.store.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_too_long_is_given_up() {
    let site = Site::new().await;
    let mut config = site.config();
    config.databases.statement_timeout = Duration::from_millis(300);
    let node = Node::new(Store::open_postgres(config).await.unwrap()).await;
    let owner = Owner::new(&node, "t", Isolation::Shared).await;
    owner.write(&node, "before").await.unwrap();
    let holder = session(&site.superuser, site.names.database()).await;
    let lock = "BEGIN; LOCK TABLE tenantry.records IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(lock).await.unwrap();
    let begun = Instant::now();
    for outcome in [owner.write(&node, "during").await, owner.ids(&node).await.map(drop)] {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "it waited for {:?}", begun.elapsed());
    holder.batch_execute("ROLLBACK").await.unwrap();
    owner.write(&node, "after").await.unwrap();
    assert!(!owner.ids(&node).await.unwrap().contains("during"));
    owner.verify(&node).await;
}

/// Makes the next inserted row fail with a code.
async fn fail(site: &Site, table: &str, code: &str) {
    site.run(&format!(
        "DROP SCHEMA IF EXISTS hurdle CASCADE; CREATE SCHEMA hurdle; CREATE SEQUENCE hurdle.n; \
         CREATE FUNCTION hurdle.f() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
         IF nextval('hurdle.n') = 1 THEN RAISE EXCEPTION 'x' USING ERRCODE = '{code}'; \
         END IF; RETURN NEW; END $$; \
         CREATE TRIGGER f BEFORE INSERT ON tenantry.{table} FOR EACH ROW EXECUTE FUNCTION hurdle.f()"
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_rolls_back_is_not_done_at_all() {
    let site = Site::new().await;
    let node = Node::new(site.open().await).await;
    let owner = Owner::new(&node, "t", Isolation::Shared).await;
    owner.write(&node, "first").await.unwrap();
    for (at, code) in ["40001", "40P01"].into_iter().enumerate() {
        // The second table fails, when the first is written. A commit is not tried again.
        fail(&site, "vectors", code).await;
        let id = format!("r{at}");
        let why = owner.write(&node, &id).await.unwrap_err();
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
        assert!(!owner.ids(&node).await.unwrap().contains(&id), "done by half");
        owner.write(&node, &id).await.unwrap();
        site.run("DROP SCHEMA hurdle CASCADE").await;
        owner.verify(&node).await;
    }
    // A real one: somebody holds a record and waits for the tenant's head, which is the writer's.
    let other = session(&site.superuser, site.names.database()).await;
    other.batch_execute("BEGIN; SELECT FROM tenantry.records FOR UPDATE").await.unwrap();
    let closing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let waited = other.batch_execute("SELECT FROM tenantry.catalog FOR UPDATE; COMMIT").await;
        if waited.is_err() {
            other.batch_execute("ROLLBACK").await.unwrap();
        }
    };
    let (wrote, ()) = tokio::join!(owner.write(&node, "first"), closing);
    if let Err(why) = wrote {
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
    }
    owner.write(&node, "first").await.unwrap();
    owner.verify(&node).await;
}

/// The data's disk is full, the log's is not: with that one too PostgreSQL itself goes down, which
/// is a crash like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_serves_reads() {
    let server = Server::start(&[]);
    let Some(small) = Small::mount(server.pid) else { return };
    let site = Site::at(server.url.clone()).await;
    let space = small.0.path().join("space");
    let superuser = session(&server.url, "postgres").await;
    let sql = format!("CREATE TABLESPACE small LOCATION '{}'", space.display());
    superuser.batch_execute(&sql).await.unwrap();
    let sql = format!("ALTER DATABASE {} SET TABLESPACE small", site.names.database());
    superuser.batch_execute(&sql).await.unwrap();
    let node = Node::new(site.open_apart(Isolation::Shared).await).await;
    let owners = [
        Owner::new(&node, "shared", Isolation::Shared).await,
        Owner::new(&node, "schema", Isolation::Schema).await,
    ];
    for owner in &owners {
        owner.write(&node, "before").await.unwrap();
    }
    small.fill();
    for owner in &owners {
        let why = loop {
            let n = owner.count.load(Ordering::SeqCst);
            match owner.write(&node, &format!("r{n}")).await {
                Ok(()) => assert!(n < 5_000, "it is never full"),
                Err(why) => break why,
            }
        };
        assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
        owner.verify(&node).await;
    }
    std::fs::remove_file(small.filler()).unwrap();
    for owner in &owners {
        owner.write(&node, "after").await.unwrap();
        owner.verify(&node).await;
    }
    node.store.close();
    let sql = format!("ALTER DATABASE {} SET TABLESPACE pg_default", site.names.database());
    let _ = superuser.batch_execute(&sql).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_named() {
    let site = Site::new().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let (login, rest) = site.url.split_once('@').unwrap();
    let password = login.rsplit_once(':').unwrap().1;
    let (_, database) = rest.split_once('/').unwrap();
    let mut config = site.config();
    config.url = DatabaseUrl::parse(&format!("{login}@{address}/{database}")).unwrap();
    let why = Store::open_postgres(config).await.map(drop).unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
    let text = format!("{why} {why:?}");
    assert!(text.contains(&format!("{address}/{database}")), "{text}");
    assert!(!text.contains(password), "{text}");
    // Nor does a refusal show it.
    let mut config = site.config();
    let url = format!("{login}x@{}/{database}", rest.split_once('/').unwrap().0);
    config.url = DatabaseUrl::parse(&url).unwrap();
    let why = Store::open_postgres(config).await.map(drop).unwrap_err();
    assert!(!format!("{why} {why:?}").contains(password), "{why:?}");
}

/// Places of tenants that are on the server.
pub(super) async fn places(site: &Site) -> i64 {
    let (admin, service) = (site.names.admin(), site.names.service());
    site.ask(&format!(
        "SELECT (SELECT count(*) FROM pg_database WHERE datname ~ '^ten_' \
           AND pg_get_userbyid(datdba) = '{admin}') \
         + (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^ten_') \
         + (SELECT count(*) FROM pg_auth_members WHERE member = \
            (SELECT oid FROM pg_roles WHERE rolname = '{service}'))"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_is_cut_off_leaves_a_tenant_or_nothing() {
    let site = Site::new().await;
    let node = Node::new(site.open_apart(Isolation::Database).await).await;
    let superuser = session(&site.superuser, "postgres").await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
        site.names.admin()
    );
    let mut chance = Chance(7);
    let mut cut = 0;
    for n in 0..24 {
        let isolation = if n % 3 == 0 { Isolation::Schema } else { Isolation::Database };
        let name = format!("t{n}");
        let cutting = async {
            let moment = Duration::from_micros(chance.below(90_000));
            tokio::time::sleep(moment).await;
            superuser.query_one(&end, &[]).await.unwrap();
        };
        let (made, ()) = tokio::join!(node.tenant_in(&name, isolation), cutting);
        if let Err(why) = &made {
            assert_eq!(why.kind(), ErrorKind::Unavailable, "{why:?}");
            cut += 1;
        }
        let found = node.store.find_tenant(&tenant(&name)).await.unwrap();
        assert!(found.is_some() || made.is_err(), "{name} was acknowledged and is not there");
        let Some(found) = found else { continue };
        // Whole, or made whole by whoever comes first.
        let scope = node.scope(found.id);
        let database = DatabaseName::default_database();
        let database = soon("a place", async || node.store.database(&scope, &database).await).await;
        let spec = tenantry_types::CollectionSpec::new(CollectionName::parse("c").unwrap());
        let made = node.store.create_collection(&scope, &database, &spec, false).await;
        let (c, _) = made.unwrap();
        node.store.write(&scope, &c, UPSERT, vec![record("a", 1.0, &[])]).await.unwrap();
        if n % 2 == 0 {
            // Removing is cut off as well.
            node.delete(&name).await.unwrap();
            tokio::time::sleep(Duration::from_micros(chance.below(40_000))).await;
            superuser.query_one(&end, &[]).await.unwrap();
        }
    }
    assert!(cut > 0, "nothing was cut off");
    for n in 0..24 {
        let _ = node.delete(&format!("t{n}")).await;
    }
    let begun = Instant::now();
    while places(&site).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(25), "{} are left", places(&site).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.store.close();
}
