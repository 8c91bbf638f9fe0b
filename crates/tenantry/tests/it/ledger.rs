//! What is on the bill after the server was killed, against what its clients counted themselves.

use crate::{
    installation::Installation,
    on_postgres::get,
    program::{Folder, Server},
};
use serde_json::{Value, json};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread::{scope, sleep},
    time::{Duration, Instant},
};
use ureq::http;

const TENANTS: [&str; 3] = ["acme", "beta", "gamma"];
/// Clients of each tenant.
const CLIENTS: usize = 2;
const KILLS: u64 = 5;
/// Records of a batch.
const BATCH: usize = 3;
/// Bytes of a record: an id of 8 digits, a text of 4, two components.
const BYTES: u64 = 8 + 4 + 8;

/// What the clients of one tenant know.
#[derive(Default)]
struct Told {
    /// The next id.
    next: AtomicU64,
    /// Records that were acknowledged, or were found after a crash.
    written: AtomicU64,
    /// Requests that were answered.
    answered: AtomicU64,
    /// Requests that were sent.
    sent: AtomicU64,
}

/// Sends a request whose answer may never come.
fn send(url: &str, key: &str, body: &Value) -> Option<Value> {
    send_in(None, url, key, body)
}

/// The same of an operator who names a tenant.
fn send_in(tenant: Option<&str>, url: &str, key: &str, body: &Value) -> Option<Value> {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20)));
    let agent: ureq::Agent = config.http_status_as_error(false).build().into();
    let request = http::Request::builder().method("POST").uri(url);
    let request = request.header("authorization", format!("Bearer {key}"));
    let request = match tenant {
        Some(name) => request.header("x-tenant-id", name),
        None => request,
    };
    let request = request.header("content-type", "application/json").body(body.to_string());
    let mut answer = agent.run(request.unwrap()).ok()?;
    let text = answer.body_mut().read_to_string().ok()?;
    assert_eq!(answer.status(), 200, "{text}");
    serde_json::from_str(&text).ok()
}

fn records(server: &str, what: &str) -> String {
    format!("{server}/v1/databases/default_database/collections/notes/records/{what}")
}

/// Writes, and reads a little, until an answer stays away; the first id of the batch of which the
/// client knows nothing then.
fn work(server: &str, key: &str, told: &Told) -> u64 {
    loop {
        let first = told.next.fetch_add(BATCH as u64, Ordering::Relaxed);
        let record =
            |n: u64| json!({"id": format!("{n:08}"), "vector": [1, 0], "document": "text"});
        let batch: Vec<Value> = (first..first + BATCH as u64).map(record).collect();
        told.sent.fetch_add(1, Ordering::Relaxed);
        let wrote = send(&records(server, "upsert"), key, &json!({ "records": batch }));
        let Some(wrote) = wrote else { return first };
        assert_eq!(wrote["inserted"], BATCH);
        told.written.fetch_add(BATCH as u64, Ordering::Relaxed);
        told.answered.fetch_add(1, Ordering::Relaxed);
        if first.is_multiple_of(2) {
            told.sent.fetch_add(1, Ordering::Relaxed);
            let read = json!({"ids": [format!("{first:08}")]});
            if send(&records(server, "get"), key, &read).is_some() {
                told.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// How many of a batch are there: all or none.
fn found(server: &str, key: &str, first: u64) -> u64 {
    let ids: Vec<String> = (first..first + BATCH as u64).map(|n| format!("{n:08}")).collect();
    let read = get("POST", &records(server, "get"), key, None, &json!({ "ids": ids }));
    let count = read["records"].as_array().unwrap().len();
    assert!(count == 0 || count == BATCH, "{count}");
    count as u64
}

fn used(server: &str, key: &str, meter: &str) -> u64 {
    let page = get("GET", &format!("{server}/v1/usage?every=hour"), key, None, &Value::Null);
    let entries = page["entries"].as_array().unwrap();
    let amount = |entry: &Value| entry["amounts"][meter].as_str().map_or(0, |n| n.parse().unwrap());
    entries.iter().map(amount).sum()
}

fn make(server: &Server, operator: &str, name: &str) -> String {
    let url = &server.url;
    get("POST", &format!("{url}/v1/admin/tenants"), operator, None, &json!({ "name": name }));
    let made =
        get("POST", &format!("{url}/v1/keys"), operator, Some(name), &json!({"role": "admin"}));
    let key = made["key"].as_str().unwrap().to_owned();
    let collections = format!("{url}/v1/databases/default_database/collections");
    get("POST", &collections, &key, None, &json!({"name": "notes"}));
    key
}

/// Reports until an answer stays away, the last report of before first: whoever does not know what
/// became of it sends the same again. The number of reports that were answered.
fn keep_reporting(server: &str, operator: &str, mut answered: u64) -> u64 {
    while report(server, operator, answered + 1).is_some() {
        answered += 1;
    }
    answered
}

/// Reports a message and so many tokens of acme as the number says.
fn report(server: &str, operator: &str, n: u64) -> Option<()> {
    let event = |meter: &str, amount: u64| json!({"id": format!("{n}-{meter}"), "meter": meter, "amount": amount});
    let events = json!({"events": [event("messages", 1), event("tokens", n)]});
    let url = format!("{server}/v1/usage/events");
    let told = send_in(Some("acme"), &url, operator, &events)?;
    // Both or neither, whatever became of them when the server was killed.
    let both = [json!([2, 0]), json!([0, 2])];
    assert!(both.contains(&json!([told["counted"], told["duplicates"]])), "{told}");
    Some(())
}

fn reports_count_once_after_kills(operator: &str, serve: impl Fn() -> Server) {
    let mut server = serve();
    let key = make(&server, operator, "acme");
    let mut answered = 0;
    for n in 0..KILLS {
        let url = server.url.clone();
        answered = scope(|threads| {
            let client = threads.spawn(|| keep_reporting(&url, operator, answered));
            sleep(Duration::from_millis(200 + 170 * n));
            drop(server);
            client.join().unwrap()
        });
        server = serve();
    }
    assert!(answered > KILLS, "{answered}");
    // The last one may be there, and is sent once more.
    let last = answered + 1;
    report(&server.url, operator, last).unwrap();
    assert_eq!(used(&server.url, &key, "messages"), last);
    assert_eq!(used(&server.url, &key, "tokens"), last * (last + 1) / 2);
    let all = get("GET", &format!("{}/v1/admin/usage", server.url), operator, None, &Value::Null);
    let amounts = &all["entries"][0]["amounts"];
    assert_eq!(amounts["messages"], last.to_string(), "{all}");
    server.stop();
}

#[test]
fn reports_count_once_whenever_a_server_is_killed_on_files() {
    let folder = Folder::new();
    reports_count_once_after_kills(&folder.key, || folder.serve(&[]));
}

#[test]
fn reports_count_once_whenever_a_server_is_killed_on_postgres() {
    let installation = Installation::new();
    let operator = installation.found();
    reports_count_once_after_kills(&operator, || installation.serve());
}

/// Loads the server, and kills it after this time.
fn round(server: Server, after: Duration, keys: &[String], told: &[Told]) -> Vec<(usize, u64)> {
    let url = server.url.clone();
    scope(|threads| {
        let clients: Vec<_> = (0..TENANTS.len() * CLIENTS)
            .map(|n| (n % TENANTS.len(), &url))
            .map(|(n, url)| threads.spawn(move || (n, work(url, &keys[n], &told[n]))))
            .collect();
        sleep(after);
        drop(server);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn is_right_after_kills(operator: &str, serve: impl Fn() -> Server) {
    let mut server = serve();
    let keys = TENANTS.map(|name| make(&server, operator, name));
    let told: [Told; TENANTS.len()] = Default::default();
    for n in 0..KILLS {
        // Not the same distance from the second and the minute in which things are written down.
        let unknown = round(server, Duration::from_millis(300 + 370 * n), &keys, &told);
        server = serve();
        for (n, first) in unknown {
            let more = found(&server.url, &keys[n], first);
            told[n].written.fetch_add(more, Ordering::Relaxed);
            told[n].sent.fetch_add(1, Ordering::Relaxed);
        }
    }
    for (key, told) in keys.iter().zip(&told) {
        let written = told.written.load(Ordering::Relaxed);
        assert!(written > 0);
        // Twice: nothing is taken over again.
        for _ in 0..2 {
            assert_eq!(used(&server.url, key, "records_written"), written);
            assert_eq!(used(&server.url, key, "bytes_in"), written * BYTES);
        }
        let requests = used(&server.url, key, "requests");
        // Making the collection is one; reads of the second before a kill may be lost.
        let most = told.sent.load(Ordering::Relaxed) + 1 + KILLS;
        assert!((written / BATCH as u64..=most).contains(&requests), "{requests} of {most}");
        assert!(used(&server.url, key, "record_ms") > 0);
    }
    is_in_balance(&server, operator, &told);
    server.stop();
}

/// What the operator sees of all, and that both sides say the same.
fn is_in_balance(server: &Server, operator: &str, told: &[Told]) {
    let url = format!("{}/v1/admin/usage", server.url);
    let all = get("GET", &url, operator, None, &Value::Null);
    let month = all["entries"][0]["at"].as_str().unwrap().to_owned();
    let written: u64 = told.iter().map(|told| told.written.load(Ordering::Relaxed)).sum();
    let amount = |entry: &Value| entry["amounts"]["records_written"].as_str().map(str::to_owned);
    assert_eq!(amount(&all["entries"][0]), Some(written.to_string()));
    let each = get("GET", &format!("{url}/tenants"), operator, None, &Value::Null);
    let names: Vec<&str> =
        each["entries"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, TENANTS);
    let balance = format!("{url}/balance?month={month}");
    let balance = get("GET", &balance, operator, None, &Value::Null);
    assert_eq!(balance["is_balanced"], true, "{balance}");
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_on_files() {
    let folder = Folder::new();
    is_right_after_kills(&folder.key, || folder.serve(&[]));
}

#[test]
fn nothing_is_lost_or_doubled_by_kills_on_postgres() {
    let installation = Installation::new();
    let operator = installation.found();
    is_right_after_kills(&operator, || installation.serve());
}

#[test]
fn reads_are_written_down_within_a_second_or_two() {
    let folder = Folder::new();
    let mut server = folder.serve(&[]);
    let key = make(&server, &folder.key, "acme");
    for _ in 0..7 {
        send(&records(&server.url, "get"), &key, &json!({"ids": ["a"]})).unwrap();
    }
    sleep(Duration::from_millis(2_500));
    // Killed, and not asked before.
    drop(server);
    server = folder.serve(&[]);
    // One made the collection.
    assert_eq!(used(&server.url, &key, "requests"), 8);
    server.stop();
}

#[test]
fn what_was_written_by_a_server_that_was_killed_is_added_up_by_itself() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let key = make(&server, &folder.key, "acme");
    let batch = json!({"records": [{"id": "a", "vector": [1, 0]}]});
    send(&records(&server.url, "upsert"), &key, &batch).unwrap();
    sleep(Duration::from_millis(2_500));
    drop(server);
    let server = folder.serve(&[]);
    let begun = Instant::now();
    loop {
        let url = format!("{}/v1/admin/usage", server.url);
        let all = get("GET", &url, &folder.key, None, &Value::Null);
        if all["entries"][0]["amounts"]["records_written"] == "1" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{all}");
        sleep(Duration::from_secs(1));
    }
    server.stop();
}
