//! Through PgBouncer, which gives each transaction another connection, and so mixes tenants and
//! nodes on few of them.

use super::{
    Site,
    faults::places,
    nodes::{Node, any_key},
};
use crate::{
    conformance::{self, UPSERT, all_parts, nearest, record},
    stand::{Chance, Running, verify_chain},
};
use std::{
    collections::BTreeSet,
    fs,
    future::poll_fn,
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    os::unix::fs::MetadataExt as _,
    pin::pin,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    task::Poll,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Authority, Credential, Scope};
use tenantry_store::{CollectionRef, PostgresConfig, Store, postgres::DatabaseUrl};
use tenantry_types::{ErrorKind, GetRequest, Isolation, Record, Timestamp, Value};

const PROGRAM: &str = "pgbouncer";
/// Who it runs as if the tests run as root, which it refuses to be.
const NOBODY: (&str, u32) = ("nobody", 65_534);
const ISOLATIONS: [Isolation; 3] = [Isolation::Shared, Isolation::Schema, Isolation::Database];

/// A running PgBouncer in front of the server for tests.
struct Pooler {
    address: SocketAddr,
    _running: Running,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// `connections` to each database at most. With one, whoever waited for a second one while
    /// holding it would wait until the server ends what he began.
    fn start(server: &str, user: &str, password: &str, connections: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (host, port) = server.split_once(':').expect("a port");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        let (users, file) = (folder.path().join("users"), folder.path().join("pgbouncer.ini"));
        fs::write(&users, format!("\"{user}\" \"{password}\"\n")).expect("written");
        let settings = format!(
            "[databases]\n* = host={host} port={port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {connections}\nmax_client_conn = 200\n\
             server_login_retry = 1\nlogfile = {}\n",
            address.port(),
            users.display(),
            folder.path().join("log").display(),
        );
        fs::write(&file, settings).expect("written");
        let mut command = Command::new(PROGRAM);
        command.arg("-q").arg(&file);
        if fs::metadata(folder.path()).expect("a folder").uid() == 0 {
            let own = |path| std::os::unix::fs::chown(path, Some(NOBODY.1), Some(NOBODY.1));
            for path in [folder.path(), &users, &file] {
                own(path).expect("given away");
            }
            command.args(["-u", NOBODY.0]);
        }
        drop(free);
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        let running = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn();
        let running = Running(running.unwrap_or_else(|why| {
            panic!("{PROGRAM} is needed (Debian's package of that name): {why}")
        }));
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            let log = || fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_secs(5), "no pooler: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { address, _running: running, _folder: folder }
    }
}

impl Site {
    /// A node's configuration that serves through a pooler and makes places directly.
    fn through_pooler(&self, connections: usize) -> (Pooler, PostgresConfig) {
        let (login, rest) = self.url.split_once('@').expect("a user");
        let (server, path) = rest.split_once('/').expect("a database");
        let (_, login_of) = login.split_once("://").expect("a scheme");
        let (user, password) = login_of.split_once(':').expect("a password");
        let pooler = Pooler::start(server, user, password, connections);
        let mut config = self.config();
        let url = format!("{login}@{}/{path}", pooler.address);
        config.url = DatabaseUrl::parse(&url).expect("a URL");
        config.admin_url = Some(DatabaseUrl::parse(&self.admin_url).expect("a URL"));
        (pooler, config)
    }
}

/// A node's connections to the pooler at most, beside the watch's.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogs_conform_through_a_pooler() {
    for isolation in ISOLATIONS {
        let make = async || {
            let site = Site::new().await;
            let (pooler, mut config) = site.through_pooler(1);
            config.default_isolation = isolation;
            config.databases.connections = CONNECTIONS;
            (Store::open_postgres(config).await.expect("a store"), (pooler, site))
        };
        Box::pin(conformance::run_catalogs(&make)).await;
    }
}

/// Lets a future go when it was polled so often.
async fn polled<T>(times: u64, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        work.as_mut().poll(cx).map(Some)
    })
    .await
}

/// A tenant, and the ids whose writing was acknowledged.
struct Tenant {
    mark: i64,
    scope: Scope<Admin>,
    collection: CollectionRef,
    written: Mutex<BTreeSet<String>>,
}

impl Tenant {
    /// Every record bears the tenant's mark.
    fn check<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> BTreeSet<String> {
        let ids = records.into_iter().map(|record| {
            let metadata = record.metadata.as_ref();
            let mark = metadata.and_then(|metadata| metadata.get("mark"));
            assert_eq!(mark, Some(&Value::Int(self.mark)), "{:?}", record.id);
            record.id.as_str().to_owned()
        });
        ids.collect()
    }
}

async fn work(node: Arc<Node>, tenants: Arc<Vec<Tenant>>, worker: u64) -> u32 {
    let mut chance = Chance(worker);
    let mut cut_short = 0;
    for n in 0..60 {
        let tenant = &tenants[chance.index(tenants.len())];
        let (scope, c) = (&tenant.scope, &tenant.collection);
        // Half of all are let go at some poll.
        let times = if chance.below(2) == 0 { chance.below(12) } else { u64::MAX };
        let done = match chance.below(3) {
            0 => {
                let id = format!("w{worker}_{n}");
                let one = record(&id, 1.0, &[("mark", Value::Int(tenant.mark))]);
                let written = polled(times, node.store.write(scope, c, UPSERT, vec![one])).await;
                written.map(|written| {
                    written.expect("a write");
                    tenant.written.lock().unwrap().insert(id);
                })
            }
            1 => {
                let known = tenant.written.lock().unwrap().clone();
                let request = GetRequest { include: all_parts(), ..GetRequest::default() };
                let got = polled(times, node.store.get(scope, c, &request)).await;
                got.map(|got| {
                    let ids = tenant.check(&got.expect("a read").value);
                    assert!(ids.is_superset(&known), "what was acknowledged is missing");
                })
            }
            _ => {
                let found =
                    polled(times, node.store.query(scope, c, &nearest([1.0, 1.0], 50))).await;
                found.map(|found| {
                    let hits = found.expect("a query").value.hits;
                    tenant.check(hits.iter().flatten().map(|hit| &hit.record));
                })
            }
        };
        cut_short += u32::from(done.is_none());
    }
    cut_short
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_that_take_turns_on_few_connections_see_their_own() {
    for connections in [1, 3] {
        Box::pin(tenants_take_turns(connections)).await;
    }
}

async fn tenants_take_turns(connections: usize) {
    let site = Site::new().await;
    let (_pooler, mut config) = site.through_pooler(connections);
    config.databases.connections = CONNECTIONS;
    let open =
        async || Arc::new(Node::new(Store::open_postgres(config.clone()).await.unwrap()).await);
    let (node, other) = (open().await, open().await);
    let mut tenants = Vec::new();
    for (at, isolation) in ISOLATIONS.into_iter().cycle().take(6).enumerate() {
        let scope = node.tenant_in(&format!("t{at}"), isolation).await.unwrap();
        let collection = node.make(&scope, "c").await.unwrap();
        let mark = i64::try_from(at).unwrap();
        tenants.push(Tenant { mark, scope, collection, written: Mutex::default() });
    }
    let tenants = Arc::new(tenants);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let node = if worker % 2 == 0 { &node } else { &other };
        workers.spawn(work(Arc::clone(node), Arc::clone(&tenants), worker));
    }
    let mut cut_short = 0;
    while let Some(worker) = workers.join_next().await {
        cut_short += worker.expect("a worker");
    }
    assert!(cut_short > 20, "{cut_short} were let go");
    for tenant in &*tenants {
        // One more write is behind all that were let go.
        let last = record("last", 1.0, &[("mark", Value::Int(tenant.mark))]);
        node.store.write(&tenant.scope, &tenant.collection, UPSERT, vec![last]).await.unwrap();
        let request = GetRequest { include: all_parts(), ..GetRequest::default() };
        let got = node.store.get(&tenant.scope, &tenant.collection, &request).await.unwrap();
        let ids = tenant.check(&got.value);
        assert!(ids.is_superset(&tenant.written.lock().unwrap()), "{:?}", tenant.scope);
        verify_chain(&node.store.audit(&tenant.scope, 0, 10_000).await.unwrap());
    }
    node.store.close();
    other.store.close();
}

/// A tenant's life, with keys that are older than a revocation: each change looks them up.
async fn live(here: &Node, there: &Node, name: &str, isolation: Isolation) {
    let scope = here.tenant_in(name, isolation).await.unwrap();
    let (_, key) = here.store.create_key(&scope, any_key()).await.unwrap();
    let keys = Authority::new();
    let who = keys.authenticate(Credential::Key(key), &there.store, Timestamp(0)).await.unwrap();
    let acts = keys.authorize::<Admin>(&who, scope.tenant(), name).unwrap();
    let (row, _) = there.store.create_key(&acts, any_key()).await.unwrap();
    there.store.revoke_key(&acts, row.id).await.unwrap();
    let c = there.make(&acts, "c").await.unwrap();
    for n in 0..3 {
        let batch = vec![record(&format!("a{n}"), 1.0, &[])];
        there.store.write(&acts, &c, UPSERT, batch).await.unwrap();
        let batch = vec![record(&format!("b{n}"), 1.0, &[])];
        here.store.write(&scope, &c, UPSERT, batch).await.unwrap();
    }
    let (row, _) = here.store.create_key(&scope, any_key()).await.unwrap();
    there.store.revoke_key(&acts, row.id).await.unwrap();
    let got = there.store.get(&acts, &c, &GetRequest::default()).await.unwrap();
    assert_eq!(got.value.len(), 6);
    verify_chain(&there.store.audit(&acts, 0, 1_000).await.unwrap());
    here.suspend(name).await.unwrap();
    let begun = Instant::now();
    let why = loop {
        let batch = vec![record("late", 1.0, &[])];
        match there.store.write(&acts, &c, UPSERT, batch).await {
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(1), "it is still served"),
            Err(why) => break why,
        }
    };
    assert_eq!(why.kind(), ErrorKind::Suspended, "{why:?}");
    here.delete(name).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_of_the_server_is_enough() {
    let site = Site::new().await;
    let (_pooler, mut config) = site.through_pooler(1);
    config.databases.connections = CONNECTIONS;
    let open = async || {
        let store = Store::open_postgres(config.clone()).await.unwrap();
        Arc::new(Node::new(store).await.with_key().await)
    };
    let (node, other) = (open().await, open().await);
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..4 {
        let (mut here, mut there) = (Arc::clone(&node), Arc::clone(&other));
        workers.spawn(async move {
            for n in 0..6 {
                let name = format!("t{worker}_{n}");
                let isolation = ISOLATIONS[(worker + n) % ISOLATIONS.len()];
                live(&here, &there, &name, isolation).await;
                std::mem::swap(&mut here, &mut there);
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.expect("a worker");
    }
    let begun = Instant::now();
    let notes = "SELECT count(*) FROM tenantry.catalog WHERE tenant = 0 AND family = 3";
    while site.ask(notes).await > 0 || places(&site).await > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "what was deleted is still there");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    node.store.close();
    other.store.close();
}
