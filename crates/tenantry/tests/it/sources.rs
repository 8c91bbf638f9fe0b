//! What of a request may name its tenant, if not all that could: over HTTP, with the program.

use crate::{
    issuer::{Issuer, SECRET, now},
    lifecycle::{raw, tenant},
    program::{Folder, Server, fails, tenantry},
};
use serde_json::{Value, json};
use std::fs;

/// The tenants `acme` and `globex`, a key of the first one, and a server with these sources.
struct World {
    folder: Folder,
    acme: String,
    server: Server,
}

impl World {
    fn new(sources: &str) -> Self {
        let folder = Folder::new();
        let acme = tenant(&folder, "acme");
        tenant(&folder, "globex");
        let file = |name: &str| folder.temporary.path().join(name).display().to_string();
        fs::write(file("secret"), SECRET).unwrap();
        let issuers = format!(
            "[[issuer]]\nname = \"login\"\niss = \"https://login.example\"\naudience = \"here\"\n\
             secret_file = {:?}\ntenant_name = \"org\"\nroles = \"role\"\n\
             [issuer.levels]\nowner = \"admin\"\n",
            file("secret")
        );
        fs::write(file("issuers.toml"), issuers).unwrap();
        let issuers = file("issuers.toml");
        let server = folder.serve(&[
            "--base-domain",
            "example.com",
            "--token-issuers",
            &issuers,
            "--tenant-sources",
            sources,
        ]);
        Self { folder, acme, server }
    }

    /// Status, and the tenant's name or what is said.
    fn native(&self, key: &str, host: &str, named: Option<&str>) -> (u16, String) {
        self.below("", key, host, named)
    }

    /// The same below the start of a path.
    fn below(&self, start: &str, key: &str, host: &str, named: Option<&str>) -> (u16, String) {
        let mut headers = vec![("host", host), ("x-api-key", key)];
        headers.extend(named.map(|name| ("x-tenant-id", name)));
        let line = format!("GET {start}/v1/tenant");
        let (status, answer) = raw(&self.server.url, &line, &headers, "");
        let said = answer["name"].as_str().or(answer["error"]["message"].as_str());
        (status, said.unwrap_or_default().to_owned())
    }

    fn chroma(&self, key: &str, host: &str, path: &str) -> (u16, Value) {
        let line = format!("GET /api/v2/{path}");
        raw(&self.server.chroma, &line, &[("host", host), ("x-chroma-token", key)], "")
    }
}

/// A token of `acme`.
fn token() -> String {
    Issuer::shared().token(&json!({
        "iss": "https://login.example", "aud": "here", "sub": "alice", "iat": now(),
        "exp": now() + 600.0, "org": "acme", "role": "owner",
    }))
}

fn is(name: &str) -> (u16, String) {
    (200, name.to_owned())
}

#[test]
fn in_whichever_order_sources_are_listed_they_must_agree() {
    for sources in ["host,header,path,claim", "claim,path,header,host"] {
        let world = World::new(sources);
        let (token, operator) = (token(), &world.folder.key);
        for credential in [&world.acme, &token] {
            assert_eq!(world.native(credential, "acme.example.com", Some("acme")), is("acme"));
            assert_eq!(world.native(credential, "acme.example.com", Some("globex")).0, 404);
            assert_eq!(world.native(credential, "globex.example.com", Some("acme")).0, 404);
        }
        assert_eq!(world.native(operator, "acme.example.com", Some("globex")).0, 400);
        assert_eq!(world.chroma(operator, "acme.example.com", "tenants/globex").0, 400);
        assert_eq!(world.native(operator, "acme.example.com", None), is("acme"));
        world.server.stop();
    }
}

#[test]
fn a_path_that_begins_with_a_tenants_name_must_agree_with_all_others() {
    let world = World::new("host,header,path,claim");
    let (token, operator) = (token(), &world.folder.key);
    for credential in [&world.acme, &token] {
        for (host, named) in [("example.com", None), ("acme.example.com", Some("acme"))] {
            assert_eq!(world.below("/t/acme", credential, host, named), is("acme"));
            let mut said: Vec<_> = ["globex", "nobody"]
                .map(|name| {
                    let (status, why) = world.below(&format!("/t/{name}"), credential, host, named);
                    (status, why.replace(name, "…"))
                })
                .into();
            said.dedup();
            assert!(said.len() == 1 && said[0].0 == 404, "{said:?}");
        }
        assert_eq!(world.below("/t/acme", credential, "globex.example.com", None).0, 404);
        assert_eq!(world.below("/t/acme", credential, "example.com", Some("globex")).0, 404);
    }
    assert_eq!(world.below("/t/globex", operator, "example.com", None), is("globex"));
    assert_eq!(world.below("/t/nobody", operator, "example.com", None).0, 404);
    assert_eq!(world.below("/t/globex", operator, "acme.example.com", None).0, 400);
    assert_eq!(world.below("/t/acme", operator, "example.com", Some("globex")).0, 400);
    // The same for the other protocol, on each of its listeners.
    let chroma = |url: &str, path: &str, key: &str| {
        let headers = [("host", "example.com"), ("x-chroma-token", key)];
        raw(url, &format!("GET {path}"), &headers, "").0
    };
    let (own, main) = (&world.server.chroma, &world.server.url);
    for (url, root) in [(own, ""), (main, "/chroma")] {
        let at = |start: &str, path: &str| format!("{start}{root}/api/v2{path}");
        assert_eq!(chroma(url, &at("/t/acme", "/heartbeat"), ""), 200);
        assert_eq!(chroma(url, &at("/t/acme", "/tenants/default_tenant"), ""), 401);
        for name in ["acme", "default_tenant"] {
            let path = format!("/tenants/{name}/databases/default_database");
            assert_eq!(chroma(url, &at("/t/acme", &path), &world.acme), 200);
            assert_eq!(chroma(url, &at("/t/globex", &path), &world.acme), 404);
        }
        assert_eq!(chroma(url, &at("/t/acme", "/tenants/acme"), operator), 200);
        assert_eq!(chroma(url, &at("/t/acme", "/tenants/globex"), operator), 400);
        assert_eq!(chroma(url, &at("/t/%00", "/tenants/acme"), operator), 400);
    }
    world.server.stop();
}

#[test]
fn a_host_that_does_not_count_is_not_looked_at() {
    let world = World::new("header,path,claim");
    let operator = &world.folder.key;
    for host in ["globex.example.com", "nobody.example.com", "example.com"] {
        assert_eq!(world.native(&world.acme, host, None), is("acme"), "{host}");
        assert_eq!(world.native(operator, host, Some("acme")), is("acme"), "{host}");
        assert_eq!(world.native(operator, host, None).0, 400, "{host}");
        assert_eq!(world.chroma(&world.acme, host, "tenants/acme").0, 200, "{host}");
    }
    // The others count as ever.
    assert_eq!(world.native(&world.acme, "globex.example.com", Some("globex")).0, 404);
    world.server.stop();
}

#[test]
fn a_header_or_a_path_that_does_not_count_is_refused_whatever_it_names() {
    let world = World::new("host,claim");
    let (token, operator) = (token(), &world.folder.key);
    for credential in [&world.acme, &token, operator] {
        let mut said: Vec<_> = ["acme", "globex", "nobody"]
            .map(|name| world.native(credential, "acme.example.com", Some(name)))
            .into();
        said.dedup();
        assert!(said.len() == 1 && said[0].0 == 400, "{said:?}");
        assert!(said[0].1.contains("tenant_sources"), "{said:?}");
        for name in ["acme", "globex", "nobody"] {
            let path = format!("tenants/{name}");
            let (status, answer) = world.chroma(credential, "acme.example.com", &path);
            assert!(status == 400 && answer.to_string().contains("tenant_sources"), "{answer}");
        }
        let mut said: Vec<_> = ["/t/acme", "/t/globex", "/t/nobody", "/t/"]
            .map(|start| world.below(start, credential, "acme.example.com", None))
            .into();
        said.dedup();
        assert!(said.len() == 1 && said[0].0 == 400, "{said:?}");
        assert!(said[0].1.contains("tenant_sources"), "{said:?}");
        // The name that clients put there unasked is none.
        assert_eq!(world.native(credential, "acme.example.com", None), is("acme"));
        assert_eq!(world.chroma(credential, "acme.example.com", "tenants/default_tenant").0, 200);
        let (status, who) = world.chroma(credential, "acme.example.com", "auth/identity");
        assert_eq!((status, &who["tenant"]), (200, &json!("default_tenant")));
    }
    assert_eq!(world.native(&world.acme, "globex.example.com", None).0, 404);
    assert_eq!(world.chroma(operator, "example.com", "tenants/default_tenant").0, 400);
    world.server.stop();
}

#[test]
fn whoever_names_a_tenant_in_vain_on_the_command_line_is_told_what_to_do() {
    let world = World::new("host,claim");
    let list = ["key", "list", "--server", &world.server.url, "--key", &world.folder.key];
    let list = [&list[..], &["--tenant", "acme"]].concat();
    fails(&mut tenantry(&list), &["tenant_sources", "the tenant's own key", "--data-dir"]);
    world.server.stop();
}

#[test]
fn a_host_that_can_name_nobody_is_told_at_the_start() {
    let folder = Folder::new();
    for (sources, is_told) in [("host,claim", true), ("header,claim", false)] {
        let said = folder.serve(&["--tenant-sources", sources]).stop();
        assert_eq!(said.contains("without base_domain"), is_told, "{said}");
    }
}

#[test]
fn a_token_whose_claim_names_nobody_is_still_bound_to_its_tenant() {
    let world = World::new("host,header,path");
    let token = token();
    let (status, said) = world.native(&token, "example.com", None);
    assert!(status == 400 && said.contains("tenant_sources"), "{status} {said}");
    assert_eq!(world.chroma(&token, "example.com", "tenants/default_tenant").0, 400);
    let list = ["audit", "list", "--server", &world.server.url, "--token", &token];
    fails(&mut tenantry(&list), &["tenant_sources"]);
    // Each of the others is enough, and none of them leads elsewhere.
    assert_eq!(world.native(&token, "acme.example.com", None), is("acme"));
    assert_eq!(world.native(&token, "example.com", Some("acme")), is("acme"));
    assert_eq!(world.below("/t/acme", &token, "example.com", None), is("acme"));
    assert_eq!(world.chroma(&token, "example.com", "tenants/acme").0, 200);
    let (status, who) = world.chroma(&token, "example.com", "auth/identity");
    assert_eq!((status, &who["tenant"]), (200, &json!("acme")));
    assert_eq!(world.native(&token, "globex.example.com", None).0, 404);
    assert_eq!(world.native(&token, "example.com", Some("globex")).0, 404);
    assert_eq!(world.chroma(&token, "example.com", "tenants/globex").0, 404);
    // A key has no claim.
    assert_eq!(world.native(&world.acme, "example.com", None), is("acme"));
    world.server.stop();
}
