//! `--redis`: several servers admit together what a tenant's rates say. Each server here has a folder
//! of its own, in which the same tenant has the same number: what they share is Redis alone.

use crate::{
    commands::Target,
    program::{Folder, Server, fails, tenantry},
    redis_server::RedisServer,
};
use std::{
    sync::{Barrier, Mutex},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

/// A node with the tenants `acme`, which has the number 1, and `beta`.
///
/// How many are admitted is told exactly while Redis answers in time, and so much happens beside tests
/// that it must have long for that.
struct Node {
    server: Server,
    target: Target,
    operator: String,
    /// Of `acme` and of `beta`.
    keys: [String; 2],
    _folder: Folder,
}

impl Node {
    /// The plans are words of `tenantry plan put`.
    fn new(redis: &RedisServer, prefix: &str, plans: [&[&str]; 2]) -> Self {
        Self::waiting(redis, prefix, plans, &["--redis-timeout", "10s"])
    }

    /// One that waits for Redis as long as it does without a word about it, or as it is told.
    fn waiting(redis: &RedisServer, prefix: &str, plans: [&[&str]; 2], timeout: &[&str]) -> Self {
        let folder = Folder::new();
        let url = redis.url();
        let more = ["--redis", &url, "--redis-prefix", prefix, "--redis-nodes", "2"];
        let server = folder.serve(&[&more, timeout].concat());
        let operator = folder.key.clone();
        let target = Target::Server(server.url.clone(), operator.clone());
        let names = ["acme", "beta"];
        let keys = std::array::from_fn(|n| {
            target.done(&[&["plan", "put", names[n]], plans[n]].concat());
            target.done(&["tenant", "create", names[n], "--plan", names[n]]);
            let key = ["key", "create", "--tenant", names[n], "--role", "read"];
            target.done(&key).trim().to_owned()
        });
        Self { server, target, operator, keys, _folder: folder }
    }

    fn get(&self, path: &str, key: &str) -> ureq::http::Response<ureq::Body> {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let request = agent.get(format!("{}{path}", self.server.url));
        request.header("authorization", format!("Bearer {key}")).call().unwrap()
    }

    /// The status of a request of a tenant.
    fn ask(&self, tenant: usize) -> u16 {
        self.get("/v1/tenant", &self.keys[tenant]).status().as_u16()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics", &self.operator).body_mut().read_to_string().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    }

    fn is_shared(&self) -> bool {
        self.metric("tenantry_rates_shared") == 1
    }

    fn wait_until_shared(&self) {
        let begun = Instant::now();
        while !self.is_shared() {
            assert!(begun.elapsed() < Duration::from_secs(20), "rates are not shared again");
            sleep(Duration::from_millis(20));
        }
    }
}

/// What 64 clients hear who ask all nodes in turn, each so often, and how long each waited.
fn crowd(nodes: &[&Node], tenant: usize, each: usize) -> Vec<(u16, Duration)> {
    let (all, start) = (Mutex::new(Vec::new()), Barrier::new(64));
    scope(|scope| {
        for client in 0..64 {
            let (all, start) = (&all, &start);
            scope.spawn(move || {
                start.wait();
                for n in 0..each {
                    let begun = Instant::now();
                    let status = nodes[(client + n) % nodes.len()].ask(tenant);
                    all.lock().unwrap().push((status, begun.elapsed()));
                }
            });
        }
    });
    all.into_inner().unwrap()
}

fn count(all: &[(u16, Duration)], status: u16) -> u64 {
    all.iter().filter(|(one, _)| *one == status).count() as u64
}

fn p99(all: &[(u16, Duration)]) -> Duration {
    let mut times: Vec<_> = all.iter().map(|(_, time)| *time).collect();
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn three_servers_together_admit_what_the_rates_say() {
    let redis = RedisServer::start();
    let plans = [&["requests_per_hour=300"][..], &["requests_per_second=200"]];
    let nodes = [(); 3].map(|()| Node::new(&redis, "one", plans));
    let nodes: Vec<_> = nodes.iter().collect();
    // Slow: less than one comes back meanwhile, or a few.
    let begun = Instant::now();
    let all = crowd(&nodes, 0, 20);
    let back = begun.elapsed().as_secs() * 300 / 3_600 + 1;
    let admitted = count(&all, 200);
    assert_eq!(admitted + count(&all, 429), 64 * 20);
    println!("{admitted} of 300");
    assert!((300..=300 + back).contains(&admitted), "{admitted}, {back} came back");
    // Fast: as many come back as a second has.
    let (begun, mut all) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(3) {
        all.extend(crowd(&nodes, 1, 5));
    }
    let (asked, admitted) = (all.len() as u128, u128::from(count(&all, 200)));
    let most = 200 + begun.elapsed().as_millis() * 200 / 1_000 + 1;
    println!("{admitted} of {most}, {asked} were asked");
    assert!(admitted <= most, "{admitted} of {most}");
    // What leases hold is lost at most, and little of what comes back: no node waits for another.
    assert!(admitted * 10 >= most.min(asked) * 8, "{admitted} of {most}, {asked} were asked");
    for node in nodes {
        assert!(node.metric("tenantry_rate_leases_total") > 0 && node.is_shared());
        let failures = ["tenantry_rate_lease_failures_total", "tenantry_rated_alone_total"];
        assert_eq!(failures.map(|name| node.metric(name)), [0, 0]);
    }
    // A tenant's key in Redis is its number, whatever it is called.
    assert!(redis.keys().iter().all(|key| key == "one:{1}" || key == "one:{2}"));
}

#[test]
fn installations_with_different_prefixes_share_nothing() {
    let redis = RedisServer::start();
    let plans = [&["requests_per_hour=5"][..], &["requests_per_hour=5"]];
    let (one, other) = (Node::new(&redis, "one", plans), Node::new(&redis, "other", plans));
    for node in [&one, &other] {
        let said: Vec<_> = (0..7).map(|_| node.ask(0)).collect();
        assert_eq!(said, [200, 200, 200, 200, 200, 429, 429]);
    }
    let same = Node::new(&redis, "one", plans);
    assert_eq!(same.ask(0), 429);
    // Rates outlive the server, too, and a raised plan counts under what was used.
    same.target.done(&["plan", "put", "acme", "--change", "requests_per_hour=7", "--yes"]);
    let said = [same.ask(0), same.ask(0), same.ask(0)];
    assert_eq!(said, [200, 200, 429]);
    let answer = same.get("/v1/tenant", &same.keys[0]);
    let left = answer.headers()["ratelimit"].to_str().unwrap();
    assert!(left.starts_with("\"hour\";r=0;t="), "{left}");
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    // One comes back in 514.3 seconds, and a wait is rounded up.
    assert!((1..=515).contains(&wait), "{wait}");
}

#[test]
fn while_redis_hangs_each_plan_is_held_to_and_nobody_waits_long() {
    let redis = RedisServer::start();
    let refuse = ["requests_per_hour=100", "--on-shared-failure", "refuse"];
    let node = Node::waiting(&redis, "one", [&["requests_per_hour=100"], &refuse], &[]);
    // A machine that is busy may take Redis for away at first.
    node.wait_until_shared();
    while node.ask(1) != 200 {
        node.wait_until_shared();
    }
    redis.hang();
    let all = crowd(&[&node], 0, 10);
    // Half of it, one less if it was alone before, and one more if that comes back meanwhile.
    assert!((49..=51).contains(&count(&all, 200)), "{}", count(&all, 200));
    println!("p99 of 640 requests while it hangs: {:?}", p99(&all));
    assert!(p99(&all) < Duration::from_secs(1), "{:?}", p99(&all));
    assert!(!node.is_shared());
    let all = crowd(&[&node], 1, 5);
    assert_eq!(count(&all, 503), 64 * 5);
    assert!(p99(&all) < Duration::from_secs(1), "{:?}", p99(&all));
    let answer = node.get("/v1/tenant", &node.keys[1]);
    let wait: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
    assert!(node.metric("tenantry_rate_lease_failures_total") < 50);
    assert!(node.metric("tenantry_rated_alone_total") >= 64 * 15);
    redis.go_on();
    let begun = Instant::now();
    while node.ask(1) != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20), "rates are not shared again");
    }
}

#[test]
fn a_redis_that_is_killed_and_comes_back_empty_lets_through_a_burst_at_most() {
    let mut redis = RedisServer::start();
    let refuse = ["requests_per_hour=100", "--on-shared-failure", "refuse"];
    let plans: [&[&str]; 2] = [&["requests_per_hour=100"], &refuse];
    let (one, other) = (Node::new(&redis, "one", plans), Node::new(&redis, "one", plans));
    let nodes = [&one, &other];
    let begun = Instant::now();
    let mut admitted = [0, 1].map(|tenant| count(&crowd(&nodes, tenant, 1), 200));
    assert_eq!(admitted, [64, 64]);
    redis.kill();
    let alone = crowd(&nodes, 0, 5);
    admitted[0] += count(&alone, 200);
    assert!((100..=102).contains(&count(&alone, 200)), "{}", count(&alone, 200));
    let refused = crowd(&nodes, 1, 5);
    assert_eq!(count(&refused, 503), 64 * 5);
    redis.start_again();
    for node in &nodes {
        node.wait_until_shared();
    }
    for tenant in [0, 1] {
        admitted[tenant] += count(&crowd(&nodes, tenant, 5), 200);
    }
    let back = begun.elapsed().as_secs() * 100 / 3_600 + 1;
    // What Redis forgot is a burst; what both did alone is another one, where a plan says so.
    assert!((64 + 100 + 100..=64 + 200 + 3 * back).contains(&admitted[0]), "{admitted:?}");
    assert!((64 + 100..=64 + 100 + 2 * back).contains(&admitted[1]), "{admitted:?}");
}

#[test]
fn a_script_that_was_flushed_is_loaded_again() {
    let redis = RedisServer::start();
    let node = Node::new(&redis, "one", [&["requests_per_hour=50"], &["requests_per_hour=50"]]);
    for _ in 0..5 {
        assert_eq!(node.ask(0), 200);
        redis.ask("SCRIPT FLUSH");
    }
    assert_eq!(node.metric("tenantry_rate_lease_failures_total"), 0);
}

#[test]
fn a_server_starts_without_redis_and_shares_when_it_is_there() {
    let mut redis = RedisServer::start();
    redis.kill();
    let node = Node::new(&redis, "one", [&["requests_per_hour=50"], &["requests_per_hour=50"]]);
    assert_eq!(node.ask(0), 200);
    assert!(!node.is_shared());
    redis.start_again();
    node.wait_until_shared();
    assert_eq!(node.ask(0), 200);
    assert_eq!(redis.keys().last().unwrap(), "one:{1}");
}

#[test]
fn what_redis_is_told_wrongly_is_told_before_anything_is_opened() {
    for (args, words) in [
        (&["--redis", "http://h"][..], "redis: write it like"),
        (&["--redis", "redis://h", "--redis-prefix", "a{1}"], "redis_prefix: it must have"),
        (&["--redis", "redis://h", "--redis-nodes", "0"], "redis_nodes must be at least 1"),
        (&["--redis-nodes", "2"], "without redis"),
    ] {
        fails(tenantry(&["serve", "--data-dir", "/nowhere"]).args(args), &[words]);
    }
}
