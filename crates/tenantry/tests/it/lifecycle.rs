//! Which tenant is meant, how one begins, and how one ends: over HTTP, with the program.

use crate::{
    commands::Target,
    installation::Installation,
    program::{Folder, Server, done},
};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// Sends these lines behind the first one, and a body; status and JSON.
pub(crate) fn raw(url: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(url.split_once("://").unwrap().1).unwrap();
    write!(stream, "{line} HTTP/1.1\r\nconnection: close\r\n").unwrap();
    for (name, value) in headers {
        write!(stream, "{name}: {value}\r\n").unwrap();
    }
    write!(stream, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// A key of a new tenant, made on the folder.
pub(crate) fn tenant(folder: &Folder, name: &str) -> String {
    let path = folder.path();
    done(&["tenant", "create", name, "--data-dir", &path]);
    let key = done(&["key", "create", "--tenant", name, "--role", "admin", "--data-dir", &path]);
    key.trim().to_owned()
}

const OWN: &str = "GET /v1/tenant";
const BASE: [&str; 2] = ["--base-domain", "example.com"];

#[test]
fn a_host_a_header_and_a_path_must_mean_one_tenant() {
    let folder = Folder::new();
    let (acme, _globex) = (tenant(&folder, "acme"), tenant(&folder, "globex"));
    let server = folder.serve(&BASE);
    let native = |key: &str, host: &str, named: Option<&str>| {
        let mut headers = vec![("host", host), ("x-api-key", key)];
        headers.extend(named.map(|name| ("x-tenant-id", name)));
        let (status, mut answer) = raw(&server.url, OWN, &headers, "");
        let name = answer["name"].take();
        (status, name.as_str().map(str::to_owned))
    };
    let is = |name: &str| (200, Some(name.to_owned()));
    let (not_found, invalid) = ((404, None), (400, None));
    for (host, named, answer) in [
        ("acme.example.com", None, &is("acme")),
        ("ACME.example.com:7700", Some("acme"), &is("acme")),
        ("example.com", None, &is("acme")),
        ("127.0.0.1", Some("acme"), &is("acme")),
        ("globex.example.com", None, &not_found),
        ("nobody.example.com", None, &not_found),
        ("globex.example.com", Some("acme"), &not_found),
        ("acme.example.com", Some("globex"), &not_found),
        ("acme.example.com, globex.example.com", None, &invalid),
    ] {
        assert_eq!(&native(&acme, host, named), answer, "{host} {named:?}");
    }
    // An operator is told that two are named, because both are known.
    for (host, named, answer) in [
        ("acme.example.com", None, &is("acme")),
        ("acme.example.com", Some("acme"), &is("acme")),
        ("example.com", Some("globex"), &is("globex")),
        ("acme.example.com", Some("globex"), &invalid),
        ("example.com", None, &invalid),
        ("nobody.example.com", None, &not_found),
    ] {
        assert_eq!(&native(&folder.key, host, named), answer, "{host} {named:?}");
    }
    // Chroma's clients name one in the path, on either listener.
    for root in [server.chroma.clone(), format!("{}/chroma", server.url)] {
        let path = root.split_once("://").unwrap().1.split_once('/').map_or("", |(_, path)| path);
        let slash = if path.is_empty() { "" } else { "/" };
        let ask = |key: &str, host: &str, tenant: &str| {
            let line = format!("GET {slash}{path}/api/v2/tenants/{tenant}");
            let url = root.trim_end_matches("/chroma");
            raw(url, &line, &[("host", host), ("x-chroma-token", key)], "").0
        };
        for (key, host, tenant, status) in [
            (&acme, "acme.example.com", "acme", 200),
            (&acme, "acme.example.com", "default_tenant", 200),
            (&acme, "example.com", "acme", 200),
            (&acme, "globex.example.com", "acme", 404),
            (&acme, "globex.example.com", "default_tenant", 404),
            (&acme, "acme.example.com", "globex", 404),
            (&folder.key, "acme.example.com", "acme", 200),
            (&folder.key, "acme.example.com", "globex", 400),
        ] {
            assert_eq!(ask(key, host, tenant), status, "{root} {host} {tenant}");
        }
    }
    server.stop();
    // Without the setting hosts say nothing.
    let server = folder.serve(&[]);
    let headers = [("host", "globex.example.com"), ("x-api-key", &acme)];
    assert_eq!(raw(&server.url, OWN, &headers, "").0, 200);
    server.stop();
}

#[test]
fn a_forwarded_host_counts_if_the_proxy_is_trusted() {
    let folder = Folder::new();
    let acme = tenant(&folder, "acme");
    let ask = |server: &Server, forwarded: &[&str]| {
        let mut headers = vec![("host", "acme.example.com"), ("x-api-key", &acme)];
        headers.extend(forwarded.iter().map(|host| ("x-forwarded-host", *host)));
        raw(&server.url, OWN, &headers, "").0
    };
    let (own, other) = ("acme.example.com", "globex.example.com");
    for (proxies, of_other, of_two) in
        [(None, 200, 200), (Some("10.0.0.0/8,::1"), 200, 200), (Some("127.0.0.0/8"), 404, 400)]
    {
        let mut args = BASE.to_vec();
        args.extend(proxies.iter().flat_map(|all| ["--trusted-proxies", *all]));
        let server = folder.serve(&args);
        assert_eq!(ask(&server, &[own]), 200);
        assert_eq!(ask(&server, &[other]), of_other, "{proxies:?}");
        // What a client has sent, and what a proxy has added to it.
        assert_eq!(ask(&server, &[other, own]), of_two, "{proxies:?}");
        assert_eq!(ask(&server, &["globex.example.com, acme.example.com"]), of_two);
        server.stop();
    }
}

#[test]
fn a_stranger_signs_up_where_the_operator_allows_it() {
    let folder = Folder::new();
    let kind = ("content-type", "application/json");
    let wish = |server: &Server, name: &str, client: &str| {
        let headers = [("host", "example.com"), kind, ("x-forwarded-for", client)];
        let body = json!({ "subdomain": name }).to_string();
        raw(&server.url, "POST /v1/signup", &headers, &body)
    };
    let server = folder.serve(&BASE);
    assert_eq!(wish(&server, "acme", "1.1.1.1").0, 404);
    server.stop();
    done(&["plan", "put", "small", "databases=3", "--data-dir", &folder.path()]);
    let rules = ["--signup", "--signup-plan", "small", "--signup-rate", "2"];
    let rules = [&BASE[..], &rules, &["--signup-template", "chat/messages,notes"]].concat();
    let server = folder.serve(&rules);
    let (status, made) = wish(&server, "acme", "1.1.1.1");
    assert_eq!((status, &made["plan"]), (201, &json!("small")), "{made}");
    assert_eq!(made["login_url"], "https://acme.example.com/login");
    let key = made["key"].as_str().unwrap().to_owned();
    let at = |host: &str, line: &str| {
        raw(&server.url, line, &[("host", host), ("x-api-key", &key)], "").0
    };
    assert_eq!(at("acme.example.com", "GET /v1/databases/chat/collections/messages"), 200);
    assert_eq!(at("acme.example.com", "GET /v1/databases/notes"), 200);
    assert_eq!(at("globex.example.com", OWN), 404);
    assert_eq!(wish(&server, "acme", "2.2.2.2").0, 409);
    // Nobody trusts what this client says of itself: its two are used up.
    let (status, answer) = wish(&server, "globex", "3.3.3.3");
    assert_eq!((status, &answer["error"]["kind"]), (429, &json!("limit_exceeded")));
    server.stop();
    let server = folder.serve(&[&rules[..], &["--trusted-proxies", "127.0.0.1"]].concat());
    for client in ["1.1.1.1", "1.1.1.1, 4.4.4.4", "evil, 5.5.5.5"] {
        assert_eq!(wish(&server, "acme", client).0, 409, "{client}");
    }
    assert_eq!(wish(&server, "acme", "1.1.1.1").0, 409);
    assert_eq!(wish(&server, "acme", "1.1.1.1").0, 429);
    server.stop();
}

#[test]
fn a_plan_that_new_tenants_cannot_have_is_told_at_the_start() {
    let folder = Folder::new();
    let start = |more: &[&str]| folder.serve(&[&["--default-plan", "p"][..], more].concat()).stop();
    let says = "default_plan: no tenant can be made with its plan: ";
    let said = start(&[]);
    let missing = "Plan [p] does not exist: make it by `tenantry plan put NAME`";
    assert!(said.contains(&format!("{says}{missing}")), "{said}");
    done(&["plan", "put", "p", "isolations=schema", "--data-dir", &folder.path()]);
    let said = start(&["--auto-provision"]);
    let why =
        "the plan p does not allow the isolation shared; it allows schema: choose another plan";
    assert!(said.contains(&format!("{says}{why}")), "{said}");
    assert!(said.contains("auto_provision: no tenant can be made"), "{said}");
    let said = start(&["--default-isolation", "schema"]);
    assert!(!said.contains("no tenant can be made"), "{said}");
}

#[test]
fn a_template_that_the_plan_of_strangers_has_no_room_for_is_told_before_anybody_signs_up() {
    let folder = Folder::new();
    done(&["plan", "put", "small", "databases=2", "--data-dir", &folder.path()]);
    let rules = ["--signup", "--signup-plan", "small", "--signup-template", "chat/messages,notes"];
    let server = folder.serve(&[&BASE[..], &rules].concat());
    let put = |limits: &str| {
        done(&["plan", "put", "small", limits, "--server", &server.url, "--key", &folder.key]);
    };
    put("databases=3");
    put("collections=0");
    let said = server.stop();
    let starts = "signup: no tenant can be made with its plan: this tenant may have 2 databases";
    assert!(said.contains(starts), "{said}");
    let puts =
        "strangers get no tenant by what its plan says now: this tenant may have 0 collections";
    assert!(said.contains(puts), "{said}");
    assert_eq!(said.matches("strangers get no tenant").count(), 1, "{said}");
}

/// The first tenant of a list, as a table shows it and as JSON does.
fn listed(target: &Target) -> (String, Value) {
    let table = target.done(&["tenant", "list"]);
    let state = table.lines().nth(1).and_then(|line| line.split_whitespace().nth(1));
    (state.unwrap_or("").to_owned(), target.json(&["tenant", "list"])[0]["erase_at_ms"].clone())
}

#[test]
fn a_deletion_is_taken_back_within_its_grace() {
    let folder = Folder::new();
    let key = tenant(&folder, "acme");
    let server = folder.serve(&["--delete-grace", "1h"]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    let own = || raw(&server.url, OWN, &[("host", "x"), ("x-api-key", &key)], "").0;
    assert_eq!((own(), listed(&target)), (200, ("active".to_owned(), Value::Null)));
    let said = target.done(&["tenant", "delete", "acme", "--yes"]);
    assert!(said.contains("until it is erased") && said.contains("tenant restore"), "{said}");
    let (state, erase_at) = listed(&target);
    assert_eq!((own(), state.as_str(), erase_at.is_u64()), (401, "deleting", true));
    assert!(target.done(&["tenant", "show", "acme"]).contains("\nerased     20"));
    let archives = folder.temporary.path().join("archives").display().to_string();
    let exported = target.done(&["tenant", "export", "--all", "--to", &archives]);
    assert_eq!(exported, "exported 0 tenants\n");
    target.fails(&["tenant", "create", "acme"], &["already exists"]);
    target.fails(&["tenant", "suspend", "acme"], &["is deleted; restore it first"]);
    assert_eq!(target.done(&["tenant", "restore", "acme"]), "restored tenant acme (active)\n");
    assert_eq!((own(), listed(&target)), (200, ("active".to_owned(), Value::Null)));
    let deleted = target.json(&["tenant", "delete", "acme", "--yes"]);
    assert!(deleted["erase_at_ms"].is_u64(), "{deleted}");
    server.stop();
    // On the folder it is the same tenant, and restored there too; deleting is at once, but of one
    // that was promised its grace.
    let home = Target::Folder(folder.path());
    home.done(&["tenant", "delete", "acme", "--yes"]);
    assert_eq!(listed(&home).0, "deleting");
    home.done(&["tenant", "restore", "acme"]);
    assert_eq!(listed(&home).0, "active");
    assert_eq!(home.done(&["tenant", "delete", "acme", "--yes"]), "erased tenant acme\n");
    tenant(&folder, "acme");
    let server = folder.serve(&["--delete-grace", "1h"]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    target.done(&["tenant", "delete", "acme", "--yes"]);
    let erased = target.done(&["tenant", "delete", "acme", "--now", "--yes"]);
    assert_eq!(erased, "erased tenant acme\n");
    assert_eq!(listed(&target).0, "");
    server.stop();
}

#[test]
fn a_deleted_tenant_is_erased_by_whatever_server_runs_then() {
    let folder = Folder::new();
    tenant(&folder, "acme");
    let server = folder.serve(&["--delete-grace", "1s"]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    target.done(&["tenant", "delete", "acme", "--yes"]);
    server.stop();
    thread::sleep(Duration::from_secs(1));
    let server = folder.serve(&[]);
    let target = Target::Server(server.url.clone(), folder.key.clone());
    let begun = Instant::now();
    while !listed(&target).0.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is still there");
        thread::sleep(Duration::from_millis(50));
    }
    server.stop();
}

#[test]
fn a_tenant_is_made_when_an_operator_names_it_and_by_nobody_else() {
    let folder = Folder::new();
    let acme = tenant(&folder, "acme");
    let path = folder.path();
    done(&["plan", "defaults", "--data-dir", &path]);
    let managing = ["key", "create", "--operator", "--no-act-as", "--data-dir", &path];
    let managing = done(&managing).trim().to_owned();
    let ask = |server: &Server, key: &str, name: &str| {
        raw(&server.url, OWN, &[("host", "x"), ("x-api-key", key), ("x-tenant-id", name)], "")
    };
    let server = folder.serve(&[]);
    assert_eq!(ask(&server, &folder.key, "initech").0, 404);
    server.stop();
    let rules = ["--auto-provision", "--auto-provision-plan", "free", "--auto-provision-rate", "3"];
    let server = folder.serve(&rules);
    for key in [&acme, &managing] {
        assert_eq!(ask(&server, key, "initech").0, 404);
    }
    // All who come at once get the one that the first of them makes.
    let ids: Vec<_> = thread::scope(|threads| {
        let each = || ask(&server, &folder.key, "initech");
        let all: Vec<_> = (0..2).map(|_| threads.spawn(each)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (status, own) in &ids {
        assert_eq!((*status, &own["id"]), (200, &ids[0].1["id"]), "{own}");
    }
    let show = ["tenant", "list", "--server", &server.url, "--key", &folder.key, "--json"];
    let list: Value = serde_json::from_str(&done(&show)).unwrap();
    let list = list.as_array().or_else(|| list["tenants"].as_array()).unwrap();
    let made = list.iter().find(|one| one["name"] == "initech").unwrap();
    assert_eq!(
        (list.len(), &made["plan"], &made["isolation"]),
        (2, &json!("free"), &json!("shared"))
    );
    // By a path as well, in another protocol.
    let line = "GET /chroma/api/v2/tenants/hooli";
    let headers = [("host", "x"), ("x-chroma-token", folder.key.as_str())];
    assert_eq!(raw(&server.url, line, &headers, "").0, 200);
    while ask(&server, &folder.key, "umbrella").0 == 200 {
        done(&[
            "tenant",
            "delete",
            "umbrella",
            "--yes",
            "--server",
            &server.url,
            "--key",
            &folder.key,
        ]);
    }
    assert_eq!(ask(&server, &folder.key, "umbrella").0, 429);
    assert_eq!(ask(&server, &folder.key, "hooli").0, 200);
    server.stop();
}

#[test]
fn sixteen_clients_with_one_idempotency_key_make_one_tenant() {
    let (folder, installation) = (Folder::new(), Installation::new());
    let operator = installation.found();
    for (server, key) in [(folder.serve(&[]), &folder.key), (installation.serve(), &operator)] {
        let headers = [
            ("host", "x"),
            ("x-api-key", key.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", "order-7"),
        ];
        let begun = Instant::now();
        let ask = || loop {
            let body = r#"{"name": "acme"}"#;
            let told = raw(&server.url, "POST /v1/admin/tenants", &headers, body);
            // A conflict while the first of them is not done.
            if told.0 != 409 || begun.elapsed() > Duration::from_secs(20) {
                break told;
            }
        };
        let told: Vec<_> = thread::scope(|threads| {
            let all: Vec<_> = (0..16).map(|_| threads.spawn(ask)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for (status, made) in &told {
            assert_eq!((*status, &made["id"]), (201, &told[0].1["id"]), "{made}");
        }
        let all = raw(&server.url, "GET /v1/admin/tenants", &headers, "").1;
        assert_eq!(all["tenants"].as_array().unwrap().len(), 1, "{all}");
        server.stop();
    }
}
