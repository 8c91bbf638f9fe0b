//! Endpoints of the operator's are told what happens: a real server, and a receiver in this process.

use crate::{
    on_postgres::get,
    program::{Folder, Server, done, fails, tenantry},
};
use data_encoding::BASE64;
use ring::hmac;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

pub(crate) const INSIDE: [&str; 2] = ["--webhook-networks", "127.0.0.1"];
/// Longer than a claim lasts.
const PATIENCE: Duration = Duration::from_secs(40);

/// What has come.
pub(crate) struct Message {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Message {
    fn read(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let (mut line, mut headers) = (String::new(), BTreeMap::new());
        // Whoever is killed may have connected and said nothing.
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        assert!(line.starts_with("POST /hook?a=b HTTP/1.1"), "{line}");
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        Some(Self { headers, body: String::from_utf8(body).unwrap() })
    }

    /// Its headers and its body.
    pub(crate) fn parts(self) -> (BTreeMap<String, String>, String) {
        (self.headers, self.body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// Its kind and its tenant's name, after a look at whether both ids and the body fit the
    /// signature of each of these secrets, in this order.
    fn checked(&self, secrets: &[&str]) -> (String, Value) {
        let json = self.json();
        assert_eq!((json["id"].as_str(), json["timestamp"].is_string()), (Some(self.id()), true));
        assert_eq!(self.headers["content-type"], "application/json");
        let signed = format!("{}.{}.{}", self.id(), self.headers["webhook-timestamp"], self.body);
        let given: Vec<_> = self.headers["webhook-signature"].split(' ').collect();
        assert_eq!(given.len(), secrets.len(), "{given:?}");
        for (given, secret) in given.iter().zip(secrets) {
            let secret = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
            let given = BASE64.decode(given.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
            let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
            hmac::verify(&key, signed.as_bytes(), &given).expect("the signature fits");
        }
        (json["type"].as_str().unwrap().to_owned(), json["data"]["tenant"]["name"].clone())
    }
}

/// Receives messages. It answers with these statuses, one after the other, then with 200; instead of
/// 0 it says nothing and keeps the connection.
pub(crate) struct Hook {
    pub(crate) url: String,
    come: Receiver<Message>,
}

impl Hook {
    pub(crate) fn new(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook?a=b", listener.local_addr().unwrap());
        let (tell, come) = channel();
        thread::spawn(move || receive(&listener, statuses, &tell));
        Self { url, come }
    }

    pub(crate) fn next(&self) -> Message {
        self.come.recv_timeout(PATIENCE).expect("a message comes")
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.come.recv_timeout(Duration::from_secs(2)).is_err()
    }
}

fn receive(listener: &TcpListener, statuses: &[u16], tell: &Sender<Message>) {
    let mut statuses = statuses.iter();
    let mut kept = Vec::new();
    for mut stream in listener.incoming().flatten() {
        let Some(message) = Message::read(&stream) else { continue };
        let status = statuses.next().copied().unwrap_or(200);
        if status == 0 {
            kept.push(stream);
        } else {
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 2\r\nconnection: close");
            // Whoever has sent it may be gone.
            let _ = write!(stream, "{head}\r\n\r\nok");
        }
        if tell.send(message).is_err() {
            return;
        }
    }
}

struct Operator<'a> {
    server: &'a Server,
    key: &'a str,
}

impl Operator<'_> {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        get(method, &format!("{}/v1/admin/{path}", self.server.url), self.key, None, body)
    }

    /// Makes a webhook; its secret.
    fn hook(&self, name: &str, url: &str, events: &[&str]) -> String {
        let body = json!({ "name": name, "url": url, "events": events });
        let made = self.ask("POST", "webhooks", &body);
        assert_eq!(made["enabled"], true);
        made["secret"].as_str().unwrap().to_owned()
    }

    fn tenant(&self, name: &str) {
        self.ask("POST", "tenants", &json!({ "name": name }));
    }

    fn metric(&self, name: &str) -> u64 {
        let url = format!("{}/metrics", self.server.url);
        let bearer = format!("Bearer {}", self.key);
        let mut answer = ureq::get(&url).header("authorization", &bearer).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn wait_for(&self, metric: &str) {
        let begun = std::time::Instant::now();
        while self.metric(metric) == 0 {
            assert!(begun.elapsed() < PATIENCE, "{metric} stays 0");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn what_happens_to_tenants_is_told_signed_and_once() {
    let folder = Folder::new();
    let server = folder.serve(&[&INSIDE[..], &["--delete-grace", "1h"]].concat());
    let operator = Operator { server: &server, key: &folder.key };
    operator.tenant("before");
    let (hook, moves) = (Hook::new(&[]), Hook::new(&[]));
    let secret = operator.hook("all", &hook.url, &[]);
    operator.hook("moves", &moves.url, &["tenant.moved"]);
    operator.tenant("acme");
    operator.ask("POST", "tenants/acme/suspend", &Value::Null);
    operator.ask("POST", "tenants/acme/resume", &Value::Null);
    operator.ask("DELETE", "tenants/acme", &Value::Null);
    operator.ask("POST", "tenants/acme/restore", &Value::Null);
    operator.ask("POST", "tenants/acme/move", &json!({ "isolation": "schema" }));
    assert_eq!(moves.next().json()["type"], "tenant.moved");
    operator.ask("DELETE", "tenants/acme?now=true", &Value::Null);
    let expected = [
        "tenant.created",
        "tenant.suspended",
        "tenant.resumed",
        "tenant.deleted",
        "tenant.restored",
        "tenant.moved",
        "tenant.deleted",
        "tenant.erased",
    ];
    let (mut told, mut ids) = (Vec::new(), BTreeSet::new());
    for _ in expected {
        let message = hook.next();
        let (kind, whose) = message.checked(&[&secret]);
        assert_eq!(whose, "acme");
        ids.insert(message.id().to_owned());
        if kind == "tenant.moved" {
            let data = &message.json()["data"];
            assert_eq!(data["from_isolation"], "shared");
            assert_eq!(data["to_isolation"], "schema");
        }
        told.push(kind);
    }
    told.sort_unstable();
    let mut sorted = expected.map(str::to_owned);
    sorted.sort_unstable();
    assert_eq!((told, ids.len()), (sorted.to_vec(), expected.len()));
    assert!(hook.is_silent() && moves.is_silent());
}

#[test]
fn an_answer_shows_a_secret_once_and_a_new_one_signs_beside_the_old() {
    let folder = Folder::new();
    let server = folder.serve(&INSIDE);
    let operator = Operator { server: &server, key: &folder.key };
    let hook = Hook::new(&[]);
    let secret = operator.hook("w", &hook.url, &["tenant.moved"]);
    operator.ask("POST", "webhooks/w/test", &Value::Null);
    assert_eq!(hook.next().checked(&[&secret]).0, "test.ping");
    let shown = [
        operator.ask("GET", "webhooks", &Value::Null),
        operator.ask("GET", "webhooks/w", &Value::Null),
        operator.ask("PATCH", "webhooks/w", &json!({ "events": [] })),
        operator.ask("GET", "audit", &Value::Null),
    ];
    for shown in shown {
        let shown = shown.to_string();
        assert!(!shown.contains("whsec_") && !shown.contains(&secret[6..20]), "{shown}");
    }
    let rotated = operator.ask("POST", "webhooks/w/rotate", &Value::Null);
    let new = rotated["secret"].as_str().unwrap();
    assert!(new != secret && rotated["old_secret_until_ms"].is_u64());
    operator.ask("POST", "webhooks/w/test", &Value::Null);
    hook.next().checked(&[new, &secret]);
    let acts: Vec<_> = operator.ask("GET", "audit", &Value::Null)["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["action"].as_str()?.strip_prefix("webhook.").map(str::to_owned))
        .collect();
    assert_eq!(acts, ["create", "test", "change", "rotate", "test"]);
}

#[test]
fn what_was_not_taken_is_sent_again_under_the_same_id() {
    let folder = Folder::new();
    let server = folder.serve(&INSIDE);
    let operator = Operator { server: &server, key: &folder.key };
    let hook = Hook::new(&[500]);
    let secret = operator.hook("w", &hook.url, &[]);
    operator.tenant("acme");
    let (first, again) = (hook.next(), hook.next());
    assert_eq!((first.id(), &first.body), (again.id(), &again.body));
    assert_eq!(again.checked(&[&secret]), ("tenant.created".to_owned(), json!("acme")));
    operator.wait_for("tenantry_webhook_deliveries_total");
    assert_eq!(operator.metric("tenantry_webhook_failures_total"), 1);
    assert!(hook.is_silent());
}

#[test]
fn what_was_committed_is_told_after_the_server_was_killed() {
    let folder = Folder::new();
    let server = folder.serve(&INSIDE);
    // It takes the message, and never says that it did.
    let hook = Hook::new(&[0]);
    let operator = Operator { server: &server, key: &folder.key };
    let secret = operator.hook("w", &hook.url, &[]);
    operator.tenant("acme");
    let first = hook.next();
    operator.tenant("globex");
    // Killed, whatever of the second one is done.
    drop(server);
    let server = folder.serve(&INSIDE);
    let mut told = BTreeMap::new();
    while told.len() < 2 {
        let message = hook.next();
        let (kind, whose) = message.checked(&[&secret]);
        assert_eq!(kind, "tenant.created");
        told.insert(whose.as_str().unwrap().to_owned(), message.id().to_owned());
    }
    assert_eq!(told["acme"], first.id());
    assert!(told.contains_key("globex"));
    server.stop();
}

#[test]
fn nothing_is_sent_to_an_address_inside_unless_it_is_allowed() {
    let folder = Folder::new();
    let server = folder.serve(&[]);
    let operator = Operator { server: &server, key: &folder.key };
    let hook = Hook::new(&[]);
    let port = hook.url.split(':').nth(2).unwrap().split('/').next().unwrap();
    let (to, key) = (["--server", &server.url], folder.key.as_str());
    for url in [hook.url.as_str(), "https://127.0.0.1/", "https://169.254.169.254/", "ftp://a.b/"] {
        let args = [&["webhook", "create", "w", "--url", url][..], &to].concat();
        fails(tenantry(&args).env("TENANTRY_KEY", key), &["url"]);
    }
    // A name says nothing before it is looked up.
    operator.hook("w", &format!("https://localhost:{port}/hook?a=b"), &[]);
    operator.tenant("acme");
    operator.wait_for("tenantry_webhook_failures_total");
    assert!(hook.is_silent());
}

#[test]
fn attempts_at_other_tenants_are_told() {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let key = done(&["key", "create", "--tenant", "acme", "--data-dir", &path]);
    let server = folder.serve(&INSIDE);
    let operator = Operator { server: &server, key: &folder.key };
    let hook = Hook::new(&[]);
    let secret = operator.hook("alarm", &hook.url, &["security.cross_tenant_attempt"]);
    let attempt = || {
        let own = format!("{}/v1/tenant", server.url);
        let asked = ureq::get(&own).header("x-api-key", key.trim()).header("x-tenant-id", "globex");
        assert!(matches!(asked.call(), Err(ureq::Error::StatusCode(404))));
    };
    attempt();
    let message = hook.next();
    let told = message.checked(&[&secret]);
    assert_eq!(told, ("security.cross_tenant_attempt".to_owned(), json!("acme")));
    let data = &message.json()["data"];
    let principal = data["principal"].as_str().unwrap();
    assert!(key.contains(principal.rsplit(':').next().unwrap()), "{principal}");
    assert_eq!((&data["tried"], &data["attempts"]), (&json!("globex"), &json!(1)));
    // More of them are summed up for a minute.
    (0..5).for_each(|_| attempt());
    assert!(hook.is_silent());
}

#[test]
fn what_cannot_be_told_is_a_dead_letter_that_is_sent_again() {
    let folder = Folder::new();
    let server = folder.serve(&INSIDE);
    let operator = Operator { server: &server, key: &folder.key };
    operator.hook("w", "http://127.0.0.1:1/hook?a=b", &[]);
    operator.tenant("acme");
    operator.tenant("globex");
    operator.wait_for("tenantry_webhook_failures_total");
    operator.ask("PATCH", "webhooks/w", &json!({ "enabled": false }));
    let command = |args: &[&str]| {
        let to = ["--server", &server.url, "--key", &folder.key];
        done(&[&["webhook"], args, &to].concat())
    };
    let begun = std::time::Instant::now();
    let letters = loop {
        let letters: Value = serde_json::from_str(&command(&["dead", "w", "--json"])).unwrap();
        if letters.as_array().unwrap().len() == 2 {
            break letters;
        }
        assert!(begun.elapsed() < PATIENCE, "{letters}");
        thread::sleep(Duration::from_millis(200));
    };
    assert!(command(&["dead", "w"]).contains("acme"));
    let [first, second] = [0, 1].map(|at| letters[at]["event"].as_str().unwrap());
    let hook = Hook::new(&[]);
    command(&["update", "w", "--url", &hook.url, "--enable"]);
    assert_eq!(command(&["retry", "w", first]), format!("{first} is on its way\n"));
    assert_eq!(command(&["discard", "w", second]), format!("discarded {second}\n"));
    assert_eq!(hook.next().id(), first);
    assert_eq!(command(&["dead", "w", "--json"]), "[]\n");
    let all = command(&["list"]);
    assert!(all.contains("enabled") && all.contains("everything"), "{all}");
    assert_eq!(command(&["delete", "w"]), "deleted webhook w\n");
    assert!(hook.is_silent());
}

#[test]
fn whoever_signs_up_or_is_imported_is_told_once_when_it_is_whole() {
    let folder = Folder::new();
    let more = ["--base-domain", "example.com", "--signup", "--signup-plan", "none"];
    let server = folder.serve(&[&INSIDE[..], &more].concat());
    let operator = Operator { server: &server, key: &folder.key };
    let hook = Hook::new(&[]);
    let secret = operator.hook("w", &hook.url, &["tenant.created", "tenant.erased"]);
    let signup = format!("{}/v1/signup", server.url);
    let wish = json!({ "subdomain": "acme", "email": "ada@example.com" });
    get("POST", &signup, "", None, &wish);
    let message = hook.next();
    assert_eq!(message.checked(&[&secret]), ("tenant.created".to_owned(), json!("acme")));
    let data = &message.json()["data"];
    assert_eq!((&data["origin"], &data["email"]), (&json!("signup"), &json!("ada@example.com")));
    // It is in no log, and of this tenant no other event has it.
    for path in ["audit", "tenants/acme"] {
        let shown = operator.ask("GET", path, &Value::Null).to_string();
        assert!(shown.contains("acme") && !shown.contains("ada@"), "{shown}");
    }
    operator.ask("POST", "tenants/acme/copy", &json!({ "name": "globex" }));
    let message = hook.next();
    assert_eq!(message.checked(&[&secret]).1, "globex");
    let data = &message.json()["data"];
    assert_eq!((&data["origin"], &data["email"]), (&json!("copy"), &Value::Null));
    assert!(hook.is_silent());
    assert!(!server.stop().contains("ada@"));
}
