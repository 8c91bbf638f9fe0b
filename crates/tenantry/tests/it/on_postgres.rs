//! `tenantry serve` with PostgreSQL behind it.

use crate::{
    installation::{Door, Installation, superuser_url},
    program::{Server, fails, tenantry, texts},
};
use serde_json::{Value, json};
use std::{
    fs,
    thread::sleep,
    time::{Duration, Instant},
};
use ureq::http;

/// How soon a node notices that its database went or came.
const SOON: Duration = Duration::from_secs(20);

/// An answer: status, `Retry-After`, body.
type Answer = (u16, Option<String>, Value);

/// Sends JSON with a key; `tenant` is for the operator's.
pub(crate) fn ask(
    method: &str,
    url: &str,
    key: &str,
    tenant: Option<&str>,
    body: &Value,
) -> Answer {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = http::Request::builder().method(method).uri(url);
    request = request.header("authorization", format!("Bearer {key}"));
    if let Some(tenant) = tenant {
        request = request.header("x-tenant-id", tenant);
    }
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.header("content-type", "application/json").body(text).unwrap();
    let mut answer = agent.run(request).unwrap();
    let after = answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), after, serde_json::from_str(&text).unwrap_or_default())
}

/// The same, which must succeed.
pub(crate) fn get(method: &str, url: &str, key: &str, tenant: Option<&str>, body: &Value) -> Value {
    let (status, _, answer) = ask(method, url, key, tenant, body);
    assert!((200..300).contains(&status), "{method} {url}: {status} {answer}");
    answer
}

/// A tenant with a key of its own.
fn make_tenant(server: &Server, operator: &str, name: &str) -> String {
    let url = &server.url;
    get("POST", &format!("{url}/v1/admin/tenants"), operator, None, &json!({ "name": name }));
    let role = json!({ "role": "admin" });
    let made = get("POST", &format!("{url}/v1/keys"), operator, Some(name), &role);
    made["key"].as_str().unwrap().to_owned()
}

fn native(server: &Server, path: &str) -> String {
    format!("{}/v1/databases/default_database/collections{path}", server.url)
}

fn chroma(server: &Server, path: &str) -> String {
    let base = "api/v2/tenants/acme/databases/default_database/collections";
    format!("{}/{base}{path}", server.chroma)
}

/// Writes by both protocols; the id that Chroma's knows the second collection by.
fn fill(server: &Server, key: &str) -> String {
    get("POST", &native(server, ""), key, None, &json!({"name": "notes", "metric": "cosine"}));
    let records = json!({"records": [
        {"id": "a", "vector": [0.9, 0.1, 0.0], "document": "Invoices", "metadata": {"year": 2025}},
        {"id": "b", "vector": [0.0, 0.2, 0.9], "document": "August", "metadata": {"year": 2026}},
    ]});
    let wrote = get("POST", &native(server, "/notes/records/upsert"), key, None, &records);
    assert_eq!(wrote["inserted"], 2);
    let made = get("POST", &chroma(server, ""), key, None, &json!({"name": "texts"}));
    let id = made["id"].as_str().unwrap().to_owned();
    let records = json!({
        "ids": ["x", "y"], "embeddings": [[1.0, 0.0], [0.0, 1.0]], "documents": ["one", "two"],
        "metadatas": [{"n": 1}, {"n": 2}],
    });
    get("POST", &chroma(server, &format!("/{id}/add")), key, None, &records);
    id
}

/// What [`fill`] wrote is found by both protocols.
fn finds(server: &Server, key: &str, id: &str) {
    let query = json!({"vectors": [[1, 0, 0]], "k": 1, "filter": {"year": {"$gte": 2025}}});
    let found = get("POST", &native(server, "/notes/records/query"), key, None, &query);
    assert_eq!(found["results"][0][0]["document"], "Invoices", "{found}");
    let query =
        json!({"query_embeddings": [[0.1, 0.9]], "n_results": 1, "where": {"n": {"$gt": 0}}});
    let found = get("POST", &chroma(server, &format!("/{id}/query")), key, None, &query);
    assert_eq!(found["ids"], json!([["y"]]), "{found}");
}

#[test]
fn what_one_server_wrote_the_next_and_the_one_beside_it_find() {
    let installation = Installation::new();
    let operator = installation.found();
    let server = installation.serve();
    let key = make_tenant(&server, &operator, "acme");
    let id = fill(&server, &key);
    finds(&server, &key, &id);
    let err = server.stop();
    assert!(!err.contains("tnt_") && err.contains(&installation.name), "{err}");

    let (one, other) = (installation.serve(), installation.serve());
    finds(&one, &key, &id);
    finds(&other, &key, &id);
    let neighbour = make_tenant(&other, &operator, "beta");
    let (status, _, _) = ask("GET", &native(&one, "/notes"), &neighbour, None, &Value::Null);
    assert_eq!(status, 404);
    let (status, ..) = ask("GET", &native(&one, "/notes"), &neighbour, Some("acme"), &Value::Null);
    assert_eq!(status, 404);
    one.stop();
    finds(&other, &key, &id);
    other.stop();
    // The folder has the key of the master and no data.
    let left: Vec<_> = fs::read_dir(installation.keys()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn what_another_server_made_anew_is_what_a_name_means() {
    let installation = Installation::new();
    let operator = installation.found();
    let (one, other) = (installation.serve(), installation.serve());
    let key = make_tenant(&one, &operator, "acme");
    let role = json!({"role": "write", "collections": [
        {"database": "default_database", "collection": "texts"}]});
    let id = fill(&one, &key);
    let made = get("POST", &format!("{}/v1/keys", one.url), &key, None, &role);
    let limited = made["key"].as_str().unwrap();
    finds(&other, &key, &id);
    // Vectors of another length.
    get("DELETE", &native(&one, "/notes"), &key, None, &Value::Null);
    get("POST", &native(&one, ""), &key, None, &json!({"name": "notes"}));
    let records = json!({"records": [{"id": "n", "vector": [1.0, 0.0]}]});
    get("POST", &native(&one, "/notes/records/upsert"), &key, None, &records);
    let there = |path: &str| native(&other, &format!("/notes/records{path}"));
    let query = json!({"vectors": [[1, 0]], "k": 3});
    let found = get("POST", &there("/query"), &key, None, &query);
    assert_eq!(found["results"][0].as_array().unwrap().len(), 1, "{found}");
    // Each of these meets what it knows first.
    for (path, body) in [
        ("/count", json!({})),
        ("/get", json!({})),
        ("/upsert", records.clone()),
        ("/delete", json!({"ids": ["n"]})),
    ] {
        get("DELETE", &native(&one, "/notes"), &key, None, &Value::Null);
        get("POST", &native(&one, ""), &key, None, &json!({"name": "notes"}));
        get("POST", &native(&one, "/notes/records/upsert"), &key, None, &records);
        let answer = get("POST", &there(path), &key, None, &body);
        assert!(answer.to_string().contains('1') || answer.to_string().contains('n'), "{answer}");
    }
    // Who may not give names does not give an old one back.
    let texts = |server: &Server| chroma(server, &format!("/{id}"));
    get("PUT", &texts(&one), &key, None, &json!({"new_name": "renamed"}));
    let old = json!({"new_name": "texts"});
    let (status, ..) = ask("PUT", &texts(&other), limited, None, &old);
    assert_eq!(status, 403);
    let err = other.stop();
    assert!(!err.contains("ISOLATION"), "{err}");
    one.stop();
}

#[test]
fn while_the_database_is_gone_callers_are_told_to_come_back() {
    let installation = Installation::new();
    let operator = installation.found();
    let door = Door::to(&installation.url);
    let server = Server::spawn(&mut installation.command(&door.url, &[]));
    let key = make_tenant(&server, &operator, "acme");
    let id = fill(&server, &key);
    let ready = || ask("GET", &format!("{}/readyz", server.url), "", None, &Value::Null);
    assert_eq!(ready().0, 200);

    door.shut();
    let since = Instant::now();
    while ready().0 == 200 {
        assert!(since.elapsed() < SOON, "still ready");
        sleep(Duration::from_millis(20));
    }
    let (status, _, body) = ready();
    assert_eq!((status, &body["status"]), (503, &json!("unavailable")));
    sleep(Duration::from_secs(1));
    let again = Some("1".to_owned());
    let (status, after, body) = ask("GET", &native(&server, "/notes"), &key, None, &Value::Null);
    assert_eq!(
        (status, after, &body["error"]["kind"]),
        (503, again.clone(), &json!("unavailable"))
    );
    let counted = chroma(&server, &format!("/{id}/count"));
    let (status, after, body) = ask("GET", &counted, &key, None, &Value::Null);
    assert_eq!((status, after, &body["error"]), (503, again, &json!("InternalError")));
    let healthy = format!("{}/api/v2/healthcheck", server.chroma);
    let (status, _, body) = ask("GET", &healthy, "", None, &Value::Null);
    assert_eq!((status, &body["is_executor_ready"]), (503, &json!(false)));
    let alive = format!("{}/healthz", server.url);
    assert_eq!(ask("GET", &alive, "", None, &Value::Null).0, 200);

    door.open();
    let since = Instant::now();
    while ready().0 != 200 {
        assert!(since.elapsed() < SOON, "not ready again");
        sleep(Duration::from_millis(20));
    }
    finds(&server, &key, &id);
    server.stop();
}

#[test]
fn what_must_not_be_served_is_refused_in_one_line() {
    let installation = Installation::new();
    let (name, url) = (&installation.name, &installation.url);
    let refused = |url: &str, args: &[&str], words: &[&str]| {
        fails(&mut installation.command(url, args), words);
    };
    let (user, place) = url.split_once('@').unwrap();
    let address = place.split_once('/').unwrap().0;
    let superuser = superuser_url();
    let superuser = format!("{}@{place}", superuser.split_once('@').unwrap().0);
    refused(&superuser, &[], &["is SUPERUSER", "tenantry postgres setup"]);
    refused(&format!("{user}@{address}/{name}x"), &[], &["no database", "tenantry postgres setup"]);
    refused(
        &format!("{user}@127.0.0.1:1/{name}"),
        &[],
        &["reach", "127.0.0.1:1/", name, "refused"],
    );
    let geheim = format!("postgresql://{name}_service:geheim@{place}");
    let output = installation.command(&geheim, &[]).output().unwrap();
    let (code, out, err) = texts(&output);
    assert!(code == 1 && err.lines().last().unwrap().contains("wrong password"), "{err}");
    assert!(!(out + &err).contains("geheim"));
    for args in [["--memory-budget", "1GiB"], ["--cache-size", "1GiB"], ["--open-databases", "9"]] {
        refused(url, &args, &["no meaning with the backend postgres"]);
    }
    installation.sql(&["UPDATE tenantry.installation SET version = 0"]);
    refused(url, &[], &["tenantry postgres migrate"]);
    installation.sql(&["UPDATE tenantry.installation SET version = 99"]);
    refused(url, &[], &["use a newer program"]);
    installation.sql(&["UPDATE tenantry.installation SET version = 1"]);
    refused(url, &["--database-admin-url", url], &["database_admin_url", "the role that serves"]);

    let serve = |args: &[&str]| tenantry(&[&["serve", "--listen", "127.0.0.1:0"], args].concat());
    fails(&mut serve(&["--backend", "postgres"]), &["database_url is missing", "setup"]);
    fails(&mut serve(&["--database-url", url]), &["give --backend postgres too"]);
    let mut odd = serve(&["--backend", "postgres"]);
    let (_, out, err) = texts(&odd.env("TENANTRY_DATABASE_URL", "geheim").output().unwrap());
    assert!(err.contains("not understood") && !(out + &err).contains("geheim"));
    let (_, help, _) =
        texts(&serve(&["--help"]).env("TENANTRY_DATABASE_URL", url).output().unwrap());
    assert!(help.contains("--database-url") && !help.contains(user), "{help}");
    assert!(!std::path::Path::new(&installation.keys()).exists());
}

#[test]
fn another_master_key_opens_nothing_and_a_lost_one_is_not_made_again() {
    let installation = Installation::new();
    // A command makes no installation, and the admin's URL is no hindrance.
    let direct = |words: &[&str]| {
        let mut list = tenantry(&["tenant", "list", "--data-dir"]);
        fails(list.arg(installation.keys()).args(["--database-url", &installation.url]), words);
    };
    direct(&["no installation", "tenantry serve"]);
    let url = &installation.url;
    let admin = ["--database-admin-url", &installation.admin_url];
    Server::spawn(&mut installation.command(url, &admin)).stop();

    let file = std::path::Path::new(&installation.keys()).join("master.key");
    let key = fs::read_to_string(&file).unwrap();
    fs::write(&file, "f".repeat(64)).unwrap();
    fails(&mut installation.command(url, &[]), &["another master key"]);
    fs::remove_file(&file).unwrap();
    fails(&mut installation.command(url, &[]), &["master.key is missing", "copied"]);
    direct(&["master.key is missing"]);
    assert!(!file.exists());
    let mut elsewhere = installation.command(url, &["--master-key-env", "OUR_KEY"]);
    Server::spawn(elsewhere.env("OUR_KEY", key.trim())).stop();
}
