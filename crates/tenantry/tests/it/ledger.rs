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
const BYTES: u64 = SHOWN + 8;
/// Those of them that a read shows.
const SHOWN: u64 = 8 + 4;

/// What the clients of one tenant know.
#[derive(Default)]
struct Told {
    /// The next id.
    next: AtomicU64,
    /// Records that were written, as was acknowledged or found after a crash.
    written: AtomicU64,
    /// Those of them that were deleted, in the same way.
    deleted: AtomicU64,
    /// Changes that were made, each a commit.
    changes: AtomicU64,
    /// Requests that were sent.
    sent: AtomicU64,
    /// Bytes of the records in answers.
    bytes_out: AtomicU64,
    /// Vectors that answers say were looked at.
    scanned: AtomicU64,
}

impl Told {
    fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    /// Records that are there.
    fn kept(&self) -> u64 {
        self.written.load(Ordering::Relaxed) - self.deleted.load(Ordering::Relaxed)
    }

    fn change(&self, counter: &AtomicU64, records: u64) {
        Self::add(counter, records);
        Self::add(&self.changes, 1);
    }

    /// Counts an answer's records: ids and texts, which is what a read shows.
    fn shown(&self, records: &Value) {
        let length = |one: &Value, part: &str| one[part].as_str().unwrap().len() as u64;
        let bytes = |one: &Value| length(one, "id") + length(one, "document");
        Self::add(&self.bytes_out, records.as_array().unwrap().iter().map(bytes).sum());
    }
}

/// What a client was waiting for when the server was killed.
enum Open {
    Write(u64),
    Delete(u64),
    Read,
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn is_one_of(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33).is_multiple_of(n)
    }
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

/// One client of a tenant.
struct Client<'a> {
    server: &'a str,
    key: &'a str,
    told: &'a Told,
}

impl Client<'_> {
    fn ask(&self, what: &str, body: &Value) -> Option<Value> {
        Told::add(&self.told.sent, 1);
        send(&records(self.server, what), self.key, body)
    }

    fn write(&self, first: u64) -> Option<()> {
        let record =
            |n: u64| json!({"id": format!("{n:08}"), "vector": [n % 7, 1], "document": "text"});
        let batch: Vec<Value> = (first..first + BATCH as u64).map(record).collect();
        let wrote = self.ask("upsert", &json!({ "records": batch }))?;
        assert_eq!(wrote["inserted"], BATCH);
        self.told.change(&self.told.written, BATCH as u64);
        Some(())
    }

    fn delete(&self, first: u64) -> Option<()> {
        let gone = self.ask("delete", &json!({ "ids": ids(first) }))?;
        assert_eq!(gone["deleted"], BATCH);
        self.told.change(&self.told.deleted, BATCH as u64);
        Some(())
    }

    /// How many of a batch are there: all or none.
    fn find(&self, first: u64) -> Option<u64> {
        let read = self.ask("get", &json!({ "ids": ids(first) }))?;
        self.told.shown(&read["records"]);
        let count = read["records"].as_array().unwrap().len();
        assert!(count == 0 || count == BATCH, "{count}");
        Some(count as u64)
    }

    /// The number of vectors that were compared.
    fn search(&self) -> Option<u64> {
        let query = json!({"vectors": [[1, 1]], "k": 2, "exact": true, "explain": true});
        let found = self.ask("query", &query)?;
        self.told.shown(&found["results"][0]);
        let search = &found["explain"]["searches"][0];
        let compared = ["codes_compared", "originals_compared"];
        let compared = compared.map(|name| search[name].as_u64().unwrap());
        let scanned = compared.into_iter().max().unwrap();
        Told::add(&self.told.scanned, scanned);
        Some(scanned)
    }

    /// The first id of a new batch.
    fn next(&self) -> u64 {
        self.told.next.fetch_add(BATCH as u64, Ordering::Relaxed)
    }

    /// Leaves a batch, and deletes another one: however slow the machine is, there are both.
    fn begin(&self) {
        self.write(self.next()).unwrap();
        let gone = self.next();
        self.write(gone).unwrap();
        self.delete(gone).unwrap();
    }

    /// Writes, reads, searches and deletes until an answer stays away.
    fn work(&self, dice: &mut Dice) -> Open {
        loop {
            let first = self.next();
            if self.write(first).is_none() {
                return Open::Write(first);
            }
            let reads = (dice.is_one_of(2), dice.is_one_of(4));
            if reads.0 && self.find(first).is_none() || reads.1 && self.search().is_none() {
                return Open::Read;
            }
            if dice.is_one_of(3) && self.delete(first).is_none() {
                return Open::Delete(first);
            }
        }
    }

    /// Looks what became of what nobody has answered.
    fn settle(&self, open: &Open) {
        match *open {
            Open::Write(first) if self.find(first).unwrap() > 0 => {
                self.told.change(&self.told.written, BATCH as u64);
            }
            Open::Delete(first) if self.find(first).unwrap() == 0 => {
                self.told.change(&self.told.deleted, BATCH as u64);
            }
            _ => {}
        }
    }
}

fn ids(first: u64) -> Vec<String> {
    (first..first + BATCH as u64).map(|n| format!("{n:08}")).collect()
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
fn round(server: Server, n: u64, keys: &[String], told: &[Told]) -> Vec<(usize, Open)> {
    let url = &server.url.clone();
    scope(|threads| {
        let work = |client: usize| {
            let n_th = client % TENANTS.len();
            let mut dice = Dice(n * 1_000 + client as u64);
            let client = Client { server: url, key: &keys[n_th], told: &told[n_th] };
            (n_th, client.work(&mut dice))
        };
        let clients: Vec<_> = (0..TENANTS.len() * CLIENTS)
            .map(|client| threads.spawn(move || work(client)))
            .collect();
        // Not the same distance from the second and the minute in which things are written down.
        sleep(Duration::from_millis(300 + 370 * n));
        drop(server);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn is_right_after_kills(operator: &str, serve: impl Fn() -> Server) {
    let mut server = serve();
    let keys = TENANTS.map(|name| make(&server, operator, name));
    let told: [Told; TENANTS.len()] = Default::default();
    for (key, told) in keys.iter().zip(&told) {
        Client { server: &server.url, key, told }.begin();
    }
    let mut seen = [[0; READS.len()]; TENANTS.len()];
    for n in 0..KILLS {
        let open = round(server, n, &keys, &told);
        server = serve();
        for (n, open) in open {
            Client { server: &server.url, key: &keys[n], told: &told[n] }.settle(&open);
        }
        // What was shown is never taken back.
        for (key, seen) in keys.iter().zip(&mut seen) {
            let now = READS.map(|meter| used(&server.url, key, meter));
            assert!(seen.iter().zip(&now).all(|(before, now)| before <= now), "{seen:?} {now:?}");
            *seen = now;
        }
    }
    for (key, told) in keys.iter().zip(&told) {
        is_as_told(&Client { server: &server.url, key, told });
    }
    is_in_balance(&server, operator, &told);
    server.stop();
}

/// What reads are counted by.
const READS: [&str; 3] = ["requests", "bytes_out", "vectors_scanned"];

/// Changes are right to the last one. Of reads those of the second before a kill may be missing, and
/// those may be there that nobody got an answer to: one of each client at each kill.
fn is_as_told(client: &Client<'_>) {
    let Client { server, key, told } = *client;
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (written, kept) = (of(&told.written), told.kept());
    // Twice: nothing is taken over again.
    for _ in 0..2 {
        assert_eq!(used(server, key, "records_written"), written);
        assert_eq!(used(server, key, "bytes_in"), written * BYTES);
    }
    assert!(used(server, key, "record_ms") > 0 && used(server, key, "byte_ms") > 0);
    let tenant = get("GET", &format!("{server}/v1/tenant"), key, None, &Value::Null);
    let says = (tenant["kept_records"].as_u64(), tenant["kept_bytes"].as_u64());
    assert_eq!(says, (Some(kept), Some(kept * BYTES)));

    let unanswered = CLIENTS as u64 * KILLS;
    let [requests, bytes, scanned] = READS.map(|meter| used(server, key, meter));
    // Making the collection is one.
    let most = of(&told.sent) + 1;
    assert!((of(&told.changes)..=most).contains(&requests), "{requests} of {most}");
    let most = of(&told.bytes_out) + unanswered * BATCH as u64 * SHOWN;
    assert!(bytes <= most, "{bytes} of {most}");
    let most = of(&told.scanned) + unanswered * of(&told.next);
    assert!(scanned <= most, "{scanned} of {most}");

    // While nobody kills the server none is missing.
    let quiet = Told::default();
    let client = Client { told: &quiet, server, key };
    for _ in 0..3 {
        client.find(0).unwrap();
        let compared = client.search().unwrap();
        // Places of records that are gone may be looked at too.
        assert!((kept..=written).contains(&compared), "{compared} of {kept}");
    }
    let count = client.ask("count", &json!({})).unwrap();
    assert_eq!(count["count"], kept);
    let now = READS.map(|meter| used(server, key, meter));
    let more = [now[0] - requests, now[1] - bytes, now[2] - scanned];
    assert_eq!(more, [of(&quiet.sent), of(&quiet.bytes_out), of(&quiet.scanned)]);
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
    let told = Told::default();
    let client = Client { server: &server.url, key: &key, told: &told };
    client.write(0).unwrap();
    for _ in 0..7 {
        client.find(0).unwrap();
        assert_eq!(client.search(), Some(BATCH as u64));
    }
    sleep(Duration::from_millis(2_500));
    // Killed, and not asked before.
    drop(server);
    server = folder.serve(&[]);
    let amounts = READS.map(|meter| used(&server.url, &key, meter));
    // One made the collection. A search shows two records.
    let expected = [2 + 7 + 7, 7 * (BATCH as u64 + 2) * SHOWN, 7 * BATCH as u64];
    assert_eq!(amounts, expected);
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
