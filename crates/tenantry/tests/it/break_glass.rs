//! An operator in a tenant says why: what it is answered, what the tenant sees, what webhooks are told.

use crate::{
    issuer::{Issuer, SECRET, now},
    on_postgres::get,
    program::{Folder, Server, done, fails, tenantry, texts},
    webhooks::{Hook, INSIDE},
};
use serde_json::{Value, json};
use std::fs;
use ureq::http;

/// A server with these settings that requires reasons and takes operators' tokens.
fn with_staff(folder: &Folder, settings: &[&str]) -> Server {
    let file = |name: &str| folder.temporary.path().join(name).display().to_string();
    fs::write(file("secret"), SECRET).unwrap();
    let issuer = format!(
        "[[issuer]]\nname = \"login\"\niss = \"https://login.example\"\naudience = \"here\"\n\
         secret_file = {:?}\ntenant_name = \"org\"\nroles = \"role\"\n\
         operator_roles = [\"staff\"]\n[issuer.levels]\nowner = \"admin\"\n",
        file("secret")
    );
    fs::write(file("issuers.toml"), issuer).unwrap();
    let issuers = file("issuers.toml");
    let required = ["--act-as-reason", "required", "--token-issuers", &issuers];
    folder.serve(&[&required[..], settings].concat())
}

/// A token of an operator, of this tenant alone or of none.
fn staff(tenant: Option<&str>) -> String {
    let mut claims = json!({
        "iss": "https://login.example", "aud": "here", "sub": "alice", "iat": now(),
        "exp": now() + 600.0, "role": "staff",
    });
    if let Some(name) = tenant {
        claims["org"] = json!(name);
    }
    Issuer::shared().token(&claims)
}

/// Asks for the tenant `acme` or another one: status and answer.
fn enter(url: &str, key: &str, tenant: Option<&str>, reason: Option<&str>) -> (u16, Value) {
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = http::Request::builder().method("GET").uri(url);
    request = request.header("authorization", format!("Bearer {key}"));
    request = request.header("x-request-id", "r-1");
    for (name, value) in [("x-tenant-id", tenant), ("tenantry-reason", reason)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let mut answer = agent.run(request.body(()).unwrap()).unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
}

/// Reasons in the tenant's log, as it reads them itself.
fn reasons(server: &Server, key: &str) -> Vec<(String, String)> {
    let log = get("GET", &format!("{}/v1/audit", server.url), key, None, &Value::Null);
    let entries = log["entries"].as_array().unwrap().iter();
    let found = entries.filter(|entry| entry["action"] == "operator.break_glass");
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    found.map(|entry| (text(entry, "actor"), text(entry, "target"))).collect()
}

#[test]
fn a_reason_is_required_seen_by_the_tenant_and_told() {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let key = done(&["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path]);
    let key = key.trim();
    let server = folder.serve(&[&INSIDE[..], &["--act-as-reason", "required"]].concat());
    let hook = Hook::new(&[]);
    let body = json!({ "name": "w", "url": hook.url, "events": ["security.break_glass"] });
    get("POST", &format!("{}/v1/admin/webhooks", server.url), &folder.key, None, &body);
    let native = format!("{}/v1/tenant", server.url);
    let chroma = format!("{}/api/v2/tenants/acme", server.chroma);
    let operator = |url: &str, reason| enter(url, &folder.key, Some("acme"), reason);

    for url in [&native, &chroma] {
        let (status, answer) = operator(url, None);
        assert_eq!(status, 403, "{answer}");
        assert!(answer.to_string().contains("Tenantry-Reason"), "{answer}");
        let long = "x".repeat(201);
        for wrong in ["a%0Ab", "%FF", "%20", &long] {
            assert_eq!(enter(url, &folder.key, Some("acme"), Some(wrong)).0, 400, "{wrong}");
        }
    }
    assert!(hook.is_silent() && reasons(&server, key).is_empty());

    for url in [&native, &chroma, &native] {
        let (status, answer) = operator(url, Some("ticket%204711"));
        assert_eq!(status, 200, "{answer}");
    }
    let message = hook.next().json();
    let data = &message["data"];
    assert_eq!(
        (&message["type"], &data["tenant"]["name"]),
        (&json!("security.break_glass"), &json!("acme"))
    );
    assert_eq!(data["reason"], "ticket 4711");
    let who = data["principal"].as_str().unwrap();
    assert!(folder.key.contains(who.strip_prefix("operator:").unwrap()), "{who}");
    // Once a minute.
    assert!(hook.is_silent());
    assert_eq!(reasons(&server, key), [(who.to_owned(), "ticket 4711".to_owned())]);

    let command =
        ["key", "list", "--tenant", "acme", "--server", &server.url, "--key", &folder.key];
    fails(&mut tenantry(&command), &["--reason"]);
    done(&[&command[..], &["--reason", "ticket für 4712"]].concat());
    assert_eq!(hook.next().json()["data"]["reason"], "ticket für 4712");
}

#[test]
fn a_tenants_key_is_answered_the_same_with_a_reason_and_without() {
    let folder = Folder::new();
    let path = folder.path();
    for name in ["acme", "globex"] {
        done(&["tenant", "create", name, "--data-dir", &path]);
    }
    let key = done(&["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path]);
    let key = key.trim();
    let server = folder.serve(&["--act-as-reason", "required"]);
    let native = format!("{}/v1/tenant", server.url);
    let admin = format!("{}/v1/admin/tenants", server.url);
    let chroma = format!("{}/api/v2/tenants/globex", server.chroma);
    for (url, tenant, status) in [
        (&native, None, 200),
        (&native, Some("globex"), 404),
        (&native, Some("nobody"), 404),
        (&admin, None, 403),
        (&chroma, None, 404),
    ] {
        let without = enter(url, key, tenant, None);
        assert_eq!(without.0, status, "{url} {tenant:?}: {}", without.1);
        for reason in ["ticket", "a%0Ab", "%FF"] {
            assert_eq!(enter(url, key, tenant, Some(reason)), without, "{url} {tenant:?}");
        }
    }
    assert!(reasons(&server, key).is_empty());
}

#[test]
fn what_a_command_on_the_folder_says_is_told_by_the_next_server() {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let server = folder.serve(&INSIDE);
    let hook = Hook::new(&[]);
    let body = json!({ "name": "w", "url": hook.url, "events": ["security.break_glass"] });
    get("POST", &format!("{}/v1/admin/webhooks", server.url), &folder.key, None, &body);
    server.stop();
    done(&["key", "list", "--tenant", "acme", "--data-dir", &path, "--reason", "ticket 4713"]);
    let _server = folder.serve(&INSIDE);
    let message = hook.next().json();
    let data = &message["data"];
    assert_eq!(
        (&data["principal"], &data["reason"]),
        (&json!("operator:local"), &json!("ticket 4713"))
    );
}

#[test]
fn whoever_must_say_why_is_told_that_and_not_shown_another_log() {
    let folder = Folder::new();
    let server = folder.serve(&["--single-tenant", "acme", "--act-as-reason", "required"]);
    let list = ["audit", "list", "--server", &server.url, "--key", &folder.key];
    fails(&mut tenantry(&list), &["states a reason", "--reason"]);
    let shown = done(&[&list[..], &["--reason", "ticket 4714"]].concat());
    assert!(shown.contains("ticket 4714"), "{shown}");
}

#[test]
fn a_reason_that_a_command_has_no_use_for_is_told_to_be_lost() {
    let folder = Folder::new();
    let path = folder.path();
    let why = ["--reason", "ticket 4716"];
    for (command, flag, is_lost) in [
        (&["tenant", "create", "acme"][..], &why[..], true),
        (&["plan", "put", "p", "keys=3"], &why, true),
        (&["plan", "list"], &[], false),
        (&["key", "list", "--tenant", "acme"], &why, false),
        (&["audit", "list", "acme"], &why, false),
        (&["tenant", "copy", "acme", "acme-2"], &why, false),
    ] {
        let mut command = tenantry(&[command, flag, &["--data-dir", &path]].concat());
        // A variable is meant for those that need it.
        if flag.is_empty() {
            command.env("TENANTRY_REASON", "ticket 4716");
        }
        let (code, _, err) = texts(&command.output().unwrap());
        assert_eq!((code, err.contains("--reason was not used")), (0, is_lost), "{err}");
    }
}

#[test]
fn commands_with_an_operators_token_go_where_it_may() {
    let folder = Folder::new();
    let path = folder.path();
    for name in ["acme", "globex"] {
        done(&["tenant", "create", name, "--data-dir", &path]);
    }
    let server = with_staff(&folder, &[]);
    let (limited, all) = (staff(Some("acme")), staff(None));
    let why = ["--server", &server.url, "--reason", "ticket 4715"];
    let of = |token: &str, command: &[&str]| {
        done(&[command, &why[..], &["--token", token][..]].concat())
    };
    for token in [&limited, &all] {
        assert!(of(token, &["usage", "acme", "--every", "hour"]).starts_with("AT"));
        assert!(of(token, &["bill", "acme", "2020-01"]).contains("total"));
        assert!(of(token, &["audit", "list", "acme"]).contains("tenant.create"));
    }
    assert!(of(&limited, &["usage", "--every", "hour"]).starts_with("AT"));
    let own = of(&limited, &["audit", "list"]);
    assert!(own.contains("ticket 4715") && !own.contains("globex"), "{own}");
    let nowhere = [&["usage"][..], &why[..], &["--token", &all][..]].concat();
    fails(&mut tenantry(&nowhere), &["say which tenant"]);
}

#[test]
fn an_operators_token_says_why_also_where_it_names_the_only_tenant_that_it_opens() {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let key = done(&["key", "create", "--tenant", "acme", "--role", "admin", "--data-dir", &path]);
    let key = key.trim();
    let server = with_staff(&folder, &[]);
    let native = format!("{}/v1/tenant", server.url);
    let chroma = |tenant: &str| {
        format!("{}/api/v2/tenants/{tenant}/databases/default_database", server.chroma)
    };
    let (limited, all) = (staff(Some("acme")), staff(None));
    for (token, url, tenant) in [
        (&limited, &native, None),
        (&limited, &native, Some("acme")),
        (&limited, &chroma("default_tenant"), None),
        (&limited, &chroma("acme"), None),
        (&all, &native, Some("acme")),
        (&all, &chroma("acme"), None),
    ] {
        let (status, answer) = enter(url, token, tenant, None);
        assert_eq!(status, 403, "{url} {tenant:?}: {answer}");
        assert!(answer.to_string().contains("Tenantry-Reason"), "{answer}");
        let (status, answer) = enter(url, token, tenant, Some("ticket"));
        assert_eq!(status, 200, "{url} {tenant:?}: {answer}");
    }
    let written = [("operator:login/alice".to_owned(), "ticket".to_owned())];
    assert_eq!(reasons(&server, key), written);
}
