//! Budgets over HTTP: what a client sees when one is used up, and what the operator's endpoints are
//! told; and several nodes that share one.

use crate::{
    commands::Target,
    installation::Installation,
    on_postgres::{ask, get},
    program::{Folder, Server},
    webhooks::{Hook, INSIDE},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};
use tenantry::{
    Admin, Allowance, Amounts, Authority, Clock, CollectionName, CollectionSpec, DatabaseName,
    Engine, EngineConfig, Every, Hour, Meter, NewKey, Operator, PlanName, Principal, Quotas, Read,
    Restriction, Role, Select, Store, TenantName, TenantPlan, TenantSpec, Timestamp, UsagePage,
    postgres::{DatabaseUrl, PostgresConfig},
};

const COLLECTIONS: &str = "v1/databases/default_database/collections";

/// A tenant with a plan, a collection and a key; the key.
fn tenant(target: &Target, url: &str, limits: &[&str]) -> String {
    target.done(&[&["plan", "put", "paid"][..], limits].concat());
    target.done(&["tenant", "create", "acme", "--plan", "paid"]);
    let key = target.done(&["key", "create", "--tenant", "acme", "--role", "write"]);
    let key = key.trim().to_owned();
    get("POST", &format!("{url}/{COLLECTIONS}"), &key, None, &json!({ "name": "notes" }));
    key
}

/// Reads once: the status, and the seconds to wait.
fn read(server: &Server, key: &str) -> (u16, Option<u64>) {
    let url = format!("{}/{COLLECTIONS}/notes/records/get", server.url);
    let (status, after, _) = ask("POST", &url, key, None, &json!({ "limit": 1 }));
    (status, after.map(|seconds| seconds.parse().unwrap()))
}

/// The same by Chroma's protocol.
fn read_chroma(server: &Server, key: &str) -> (u16, Option<u64>) {
    let path = "api/v2/tenants/acme/databases/default_database/collections";
    let url = format!("{}/{path}", server.chroma);
    let (status, after, _) = ask("GET", &url, key, None, &Value::Null);
    (status, after.map(|seconds| seconds.parse().unwrap()))
}

/// The facts of the next messages, by what they are about and the part of it.
fn told(hook: &Hook, count: usize) -> Vec<(String, u64, Value)> {
    let mut all: Vec<_> = (0..count)
        .map(|_| {
            let message = hook.next().json();
            assert_eq!(message["type"], "budget.threshold");
            let data = message["data"].clone();
            assert_eq!(data["tenant"]["name"], "acme");
            let budget = data["budget"].as_str().unwrap().to_owned();
            (budget, data["threshold_percent"].as_u64().unwrap(), data)
        })
        .collect();
    all.sort_by_key(|(budget, part, _)| (budget.clone(), *part));
    all
}

fn parts(told: &[(String, u64, Value)]) -> Vec<(&str, u64)> {
    told.iter().map(|(budget, part, _)| (budget.as_str(), *part)).collect()
}

fn hook(url: &str, operator: &str) -> Hook {
    let hook = Hook::new(&[]);
    let body = json!({ "name": "w", "url": hook.url, "events": ["budget.threshold"] });
    get("POST", &format!("{url}/v1/admin/webhooks"), operator, None, &body);
    hook
}

/// Has a request cost a tenth of a unit.
fn price(target: &Target) {
    // Any month, because the plan has cost nothing so far.
    target.done(&["tariff", "put", "paid", "2026-01", "requests=100000000000000"]);
}

#[test]
fn a_budget_ends_with_429_and_is_told_once_across_restarts() {
    let folder = Folder::new();
    let server = folder.serve(&INSIDE);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    let key = tenant(&target, &server.url, &["cost_per_month=400000", "requests_per_day=100"]);
    price(&target);
    let hook = hook(&server.url, &folder.key);
    // The collection and these three.
    for _ in 0..3 {
        assert_eq!(read(&server, &key).0, 200);
    }
    server.stop();

    // What they cost is known when somebody looks, which a server does when a tenant comes.
    let server = folder.serve(&INSIDE);
    let (status, after) = read(&server, &key);
    let after = after.unwrap();
    assert!(status == 429 && (1..=31 * 86_400).contains(&after), "{status} {after}");
    let (status, chroma) = read_chroma(&server, &key);
    assert!(status == 429 && chroma.is_some_and(|chroma| chroma <= after), "{status} {chroma:?}");
    let all = told(&hook, 1);
    let budget = "cost_per_month";
    assert_eq!(parts(&all), [(budget, 100)]);
    let data = &all[0].2;
    assert_eq!((&data["limit"], &data["used"]), (&json!(400_000), &json!(400_000)));
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let month = Hour::of(Timestamp(now.try_into().unwrap())).month().to_string();
    assert_eq!(data["period"], json!(month));
    server.stop();

    // It is told nobody again, and another limit counts anew.
    let server = folder.serve(&INSIDE);
    assert_eq!(read(&server, &key).0, 429);
    assert!(hook.is_silent());
    server.stop();
    let server = folder.serve(&INSIDE);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    target.done(&["limit", "set", "acme", "cost_per_month=500000"]);
    assert_eq!(read(&server, &key).0, 200);
    assert_eq!(parts(&told(&hook, 1)), [(budget, 80)]);
    server.stop();
}

#[test]
fn requests_of_a_day_are_told_by_the_server_that_goes_on() {
    let folder = Folder::new();
    let server = folder.serve(&INSIDE);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    let key = tenant(&target, &server.url, &["requests_per_day=5", "requests_per_month=1000"]);
    let hook = hook(&server.url, &folder.key);
    for _ in 0..4 {
        assert_eq!(read(&server, &key).0, 200);
    }
    assert_eq!(read(&server, &key).0, 429);
    // Within a minute; a hook waits for less.
    thread::sleep(Duration::from_secs(35));
    let day = "requests_per_day";
    let all = told(&hook, 1);
    assert_eq!(parts(&all), [(day, 100)]);
    assert!(hook.is_silent());
    server.stop();
}

#[test]
fn two_servers_that_find_one_threshold_tell_it_once() {
    let installation = Installation::new();
    let operator = installation.found();
    let serve = || Server::spawn(&mut installation.command(&installation.url, &INSIDE));
    let server = serve();
    let target = Target::Server(server.url.clone(), operator.clone());
    let key = tenant(&target, &server.url, &["cost_per_month=400000"]);
    price(&target);
    let hook = hook(&server.url, &operator);
    for _ in 0..3 {
        assert_eq!(read(&server, &key).0, 200);
    }
    server.stop();
    let servers = [serve(), serve()];
    thread::scope(|threads| {
        for server in &servers {
            threads.spawn(|| assert_eq!(read(server, &key).0, 429));
        }
    });
    let budget = "cost_per_month";
    assert_eq!(parts(&told(&hook, 1)), [(budget, 100)]);
    assert!(hook.is_silent());
    for server in servers {
        server.stop();
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// A node of an installation, in this process.
struct Node {
    engine: Engine,
    operator: Principal,
}

impl Node {
    async fn open(installation: &Installation, clock: &Arc<TestClock>) -> Self {
        let url = DatabaseUrl::parse(&installation.url).unwrap();
        let mut config = PostgresConfig::new(url, installation.keys());
        config.clock = Arc::clone(clock) as Arc<dyn Clock>;
        let store = Store::open_postgres(config).await.unwrap();
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        let config = EngineConfig { store, authority: Authority::new(), clock };
        let engine = Engine::start(config);
        let operator = engine.local_operator().await.unwrap();
        Self { engine, operator }
    }

    fn operator(&self) -> Operator {
        self.engine.operator(&self.operator).unwrap()
    }

    /// How many of so many requests are served.
    async fn serve(&self, key: &str, count: usize) -> usize {
        let who = self.engine.authenticate(Some(key)).await.unwrap();
        let mut served = 0;
        for _ in 0..count {
            if self.engine.admit(&who).await.unwrap().check().is_err() {
                continue;
            }
            let session = self.engine.session::<Read>(&who, Select::Own).await.unwrap();
            let database = session.database(&DatabaseName::default_database()).await.unwrap();
            let notes = CollectionName::parse("notes").unwrap();
            database.collection(&notes).await.unwrap().count(None).await.unwrap();
            served += 1;
        }
        served
    }
}

/// A quota of a day: one node passes it by nothing here, and several by what the others have served
/// since they looked.
#[test]
fn several_nodes_pass_a_day_by_what_the_others_serve_between_two_looks() {
    let installation = Installation::new();
    installation.found();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Box::pin(passes_a_day(&installation)));
}

const MOST: usize = 20;
const DAY: u64 = 86_400_000;

fn acme() -> TenantName {
    TenantName::parse("acme").unwrap()
}

/// Makes a tenant with a quota of a day and a collection; its key.
async fn made(node: &Node) -> String {
    let plan = PlanName::parse("p").unwrap();
    let quotas = Quotas { day: Some(MOST as u64), ..Quotas::default() };
    let allowance = Allowance { quotas, ..Allowance::default() };
    node.operator().put_plan(&TenantPlan::new(plan.clone(), allowance)).await.unwrap();
    let spec = TenantSpec { plan: Some(plan), ..TenantSpec::new(acme()) };
    node.operator().create_tenant(&spec).await.unwrap();
    let (name, who) = (acme(), &node.operator);
    let session = node.engine.session::<Admin>(who, Select::Named(&name)).await.unwrap();
    let new = NewKey {
        role: Role::Write,
        restriction: Restriction::default(),
        label: String::new(),
        expires_at: None,
    };
    let (_, key) = session.create_key(new).await.unwrap();
    let database = session.database(&DatabaseName::default_database()).await.unwrap();
    let notes = CollectionSpec::new(CollectionName::parse("notes").unwrap());
    database.create_collection(&notes, false).await.unwrap();
    key
}

/// Twice for each: whoever looks first does not know what the other one has not written down yet.
async fn a_minute_passes(one: &Node, two: &Node) {
    for node in [one, two, one, two] {
        node.engine.add_up().await;
    }
}

async fn passes_a_day(installation: &Installation) {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    // Noon, some days from now.
    let noon = (u64::try_from(now).unwrap() / DAY + 5) * DAY + DAY / 2;
    let clock = Arc::new(TestClock(AtomicU64::new(noon)));
    let one = Node::open(installation, &clock).await;
    let two = Node::open(installation, &clock).await;
    // After the look that each of them makes by itself when it has started; the next is in a minute.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let key = made(&one).await;
    let tomorrow = || clock.0.fetch_add(DAY, Ordering::SeqCst);

    // Neither has heard of the other since it looked: each serves all of it.
    tomorrow();
    assert_eq!((one.serve(&key, 1).await, two.serve(&key, 1).await), (1, 1));
    let served = 2 + one.serve(&key, 50).await + two.serve(&key, 50).await;
    assert!((2 * MOST - 1..=2 * MOST).contains(&served), "{served}");
    a_minute_passes(&one, &two).await;
    assert_eq!((one.serve(&key, 5).await, two.serve(&key, 5).await), (0, 0));

    // What was looked up in between is not served again.
    tomorrow();
    assert_eq!((one.serve(&key, 9).await, two.serve(&key, 4).await), (9, 4));
    a_minute_passes(&one, &two).await;
    // Together 13: both know it, but not what the other one serves from now on.
    assert_eq!((one.serve(&key, 50).await, two.serve(&key, 50).await), (7, 7));
    a_minute_passes(&one, &two).await;
    assert_eq!((one.serve(&key, 5).await, two.serve(&key, 5).await), (0, 0));
    let first = u32::try_from(clock.now().0 / DAY * 24).unwrap();
    let page = UsagePage { every: Every::Hour, from: first, limit: 24 };
    let mut all = Amounts::default();
    for used in one.operator().usage(&acme(), page).await.unwrap() {
        all.add_all(&used.amounts);
    }
    assert_eq!(all.get(Meter::Requests), 27);
    for node in [one, two] {
        node.engine.shutdown().await.unwrap();
    }
}
