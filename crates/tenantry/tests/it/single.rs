//! A server of one tenant: over HTTP, with the program, on both backends.

use crate::{
    installation::Installation,
    on_postgres::{ask, get},
    program::{Folder, Server, done, fails, tenantry},
};
use serde_json::{Value, json};
use std::{path::Path, thread};

const ONE: [&str; 2] = ["--single-tenant", "acme"];

fn status(method: &str, url: &str, key: &str, tenant: Option<&str>, body: &Value) -> u16 {
    ask(method, url, key, tenant, body).0
}

fn names(server: &Server, operator: &str) -> Vec<String> {
    let url = format!("{}/v1/admin/tenants", server.url);
    let list = get("GET", &url, operator, None, &Value::Null);
    let list = list["tenants"].as_array().unwrap().iter();
    list.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

/// Nobody names the tenant, in either protocol.
fn works(server: &Server, operator: &str) {
    let url = &server.url;
    assert_eq!(
        get("GET", &format!("{url}/v1/tenant"), operator, None, &Value::Null)["name"],
        "acme"
    );
    let role = json!({ "role": "admin" });
    let made = get("POST", &format!("{url}/v1/keys"), operator, None, &role);
    let key = made["key"].as_str().unwrap();
    // Chroma's clients say this if nobody has told them a tenant.
    let base =
        format!("{}/api/v2/tenants/default_tenant/databases/default_database", server.chroma);
    for key in [operator, key] {
        let name = json!({ "name": "texts", "get_or_create": true });
        let made = get("POST", &format!("{base}/collections"), key, None, &name);
        let there = format!("{base}/collections/{}", made["id"].as_str().unwrap());
        let records = json!({ "ids": ["x"], "embeddings": [[1.0, 0.0]] });
        get("POST", &format!("{there}/add"), key, None, &records);
        assert_eq!(get("GET", &format!("{there}/count"), key, None, &Value::Null), 1);
    }
    for (tenant, expected) in [(None, 200), (Some("acme"), 200), (Some("other"), 404)] {
        let own = format!("{url}/v1/databases");
        assert_eq!(status("GET", &own, key, tenant, &Value::Null), expected, "{tenant:?}");
        assert_eq!(status("GET", &own, operator, tenant, &Value::Null), expected, "{tenant:?}");
    }
}

/// Every way to another tenant is closed, and says so if it would make one.
fn has_no_other(server: &Server, operator: &str) {
    let (url, none) = (&server.url, Value::Null);
    let tenants = format!("{url}/v1/admin/tenants");
    assert_eq!(names(server, operator), ["acme"]);
    for (method, path, body) in [
        ("GET", "other", none.clone()),
        ("PATCH", "other", json!({ "weight": 200 })),
        ("DELETE", "other", none.clone()),
        ("POST", "other/suspend", none.clone()),
        ("POST", "other/resume", none.clone()),
        ("POST", "other/restore", none.clone()),
        ("GET", "other/advice", none.clone()),
        ("GET", "other/statistics", none.clone()),
        ("POST", "other/move", json!({ "isolation": "schema" })),
        ("GET", "other/move", none.clone()),
        ("DELETE", "other/move", none.clone()),
    ] {
        let one = format!("{tenants}/{path}");
        let foreign = format!("{tenants}/{}", path.replace("other", "nobody"));
        let (status, _, said) = ask(method, &one, operator, None, &body);
        let (missing, _, same) = ask(method, &foreign, operator, None, &body);
        assert_eq!((status, missing), (404, 404), "{method} {path}: {said}");
        let said = said["error"]["message"].as_str().unwrap().replace("other", "nobody");
        assert_eq!(said, same["error"]["message"].as_str().unwrap());
    }
    let usage = format!("{url}/v1/admin/bill?tenant=other&month=2026-11");
    assert_eq!(status("GET", &usage, operator, None, &none), 404);
    for (method, at, body) in [
        ("POST", tenants.clone(), json!({ "name": "new" })),
        ("POST", tenants.clone(), json!({ "name": "other" })),
        ("PATCH", format!("{tenants}/acme"), json!({ "name": "new" })),
        ("POST", format!("{tenants}/acme/copy"), json!({ "name": "new" })),
        ("POST", format!("{tenants}/new/import"), none.clone()),
        ("POST", format!("{}/api/v2/tenants", server.chroma), json!({ "name": "new" })),
    ] {
        let (status, _, said) = ask(method, &at, operator, None, &body);
        assert!(
            status == 400 && said.to_string().contains("single_tenant"),
            "{at}: {status} {said}"
        );
    }
    // The one itself is made by whoever asks for it, as always.
    assert_eq!(status("POST", &tenants, operator, None, &json!({ "name": "acme" })), 409);
}

#[test]
fn one_tenant_is_made_at_the_start_and_no_other_is_reached() {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "other", "--data-dir", &path]);
    let key = ["key", "create", "--tenant", "other", "--role", "admin", "--data-dir", &path];
    let foreign = done(&key).trim().to_owned();
    let server = folder.serve(&ONE);
    works(&server, &folder.key);
    has_no_other(&server, &folder.key);
    // As a key that nobody has made.
    let own = format!("{}/v1/databases", server.url);
    let unknown = format!("{}a", &foreign[..foreign.len() - 1]);
    let (refused, _, said) = ask("GET", &own, &foreign, None, &Value::Null);
    let (_, _, same) = ask("GET", &own, &unknown, None, &Value::Null);
    assert_eq!((refused, &said["error"]["message"]), (401, &same["error"]["message"]));
    let log = server.stop();
    assert!(log.contains("all other tenants are not served") && log.contains("others=1"), "{log}");
    // It is there already, and the other one when the setting is gone.
    let server = folder.serve(&ONE);
    works(&server, &folder.key);
    server.stop();
    let server = folder.serve(&[]);
    assert_eq!(names(&server, &folder.key), ["acme", "other"]);
    let none = &Value::Null;
    assert_eq!(status("GET", &format!("{}/v1/databases", server.url), &foreign, None, none), 200);
    server.stop();
}

#[test]
fn an_operator_who_asks_what_all_have_used_enters_no_tenant() {
    let folder = Folder::new();
    let server = folder.serve(&ONE);
    let (url, role) = (&server.url, json!({ "role": "admin" }));
    let made = get("POST", &format!("{url}/v1/keys"), &folder.key, None, &role);
    let key = made["key"].as_str().unwrap();
    let entered = || {
        let log = get("GET", &format!("{url}/v1/audit?limit=1000"), key, None, &Value::Null);
        let entries = log["entries"].as_array().unwrap().iter();
        let entries = entries.filter(|one| one["action"] == "operator.act_as");
        entries.map(|one| one["count"].as_u64().unwrap()).sum::<u64>()
    };
    let before = entered();
    let usage = ["usage", "--json", "--server", url];
    done(&[&usage[..], &["--key", &folder.key]].concat());
    assert_eq!(entered(), before);
    done(&[&usage[..], &["--key", key]].concat());
    server.stop();
}

#[test]
fn two_servers_of_one_database_make_one_tenant() {
    let installation = Installation::new();
    let operator = installation.found();
    let start = || Server::spawn(&mut installation.command(&installation.url, &ONE));
    let servers: Vec<_> = thread::scope(|threads| {
        let all: Vec<_> = (0..2).map(|_| threads.spawn(start)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let ids: Vec<_> = servers
        .iter()
        .map(|one| get("GET", &format!("{}/v1/tenant", one.url), &operator, None, &Value::Null))
        .map(|own| own["id"].clone())
        .collect();
    assert_eq!(ids[0], ids[1]);
    // A node without the setting makes one that these do not know.
    let other = installation.serve();
    let named = json!({ "name": "other" });
    get("POST", &format!("{}/v1/admin/tenants", other.url), &operator, None, &named);
    other.stop();
    works(&servers[0], &operator);
    has_no_other(&servers[1], &operator);
    for one in servers {
        one.stop();
    }
}

#[test]
fn one_tenant_has_the_plan_of_new_ones_and_development_mode_knows_it() {
    let folder = Folder::new();
    let path = folder.path();
    let planned = ["--single-tenant", "acme", "--default-plan", "free"];
    let mut early = tenantry(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &path]);
    fails(early.args(planned), &["single_tenant: make the tenant acme", "free"]);
    done(&["plan", "defaults", "--data-dir", &path]);
    let server = folder.serve(&planned);
    let shown = format!("{}/v1/admin/tenants/acme", server.url);
    assert_eq!(get("GET", &shown, &folder.key, None, &Value::Null)["plan"], "free");
    server.stop();

    let fresh = tempfile::tempdir().unwrap();
    let server = Server::start(&fresh.path().join("data"), &["--dev", ONE[0], ONE[1]]);
    let default = format!("{}/api/v2/tenants/default_tenant/databases", server.chroma);
    let ask = || ureq::get(&default).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(ask().contains("default_database"));
    let reset = format!("{}/api/v2/reset", server.chroma);
    ureq::post(&reset).send_empty().unwrap();
    assert!(ask().contains("default_database"));
    let log = server.stop();
    assert!(!log.contains("not served"), "{log}");
}

#[test]
fn what_makes_others_is_refused_beside_one_tenant() {
    let nowhere = Path::new("/nonexistent").display().to_string();
    let serve = |more: &[&str]| {
        let start = ["serve", "--data-dir", &nowhere, "--single-tenant", "acme"];
        tenantry(&[&start, more].concat())
    };
    let signup = ["--signup", "--signup-plan", "none", "--base-domain", "example.com"];
    fails(&mut serve(&signup), &["single_tenant: with signup"]);
    fails(&mut serve(&["--auto-provision"]), &["single_tenant: with auto_provision"]);
}
