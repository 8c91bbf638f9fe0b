//! Tenants by the start of the path where a request asks.

use crate::server::{Answer, Server, encoded, records};
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tenantry_engine::{ProvisionRules, TenantSources};

/// Asks for `path`, naming a tenant besides by host and header or not.
async fn ask(server: &Server, key: &str, path: &str, (host, named): (&str, &str)) -> Answer {
    let mut request = Request::get(path).header("x-api-key", key);
    if !host.is_empty() {
        request = request.header("host", format!("{host}.example.com"));
    }
    if !named.is_empty() {
        request = request.header("x-tenant-id", named);
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

/// Below the path of a tenant, whose name is not otherwise said.
async fn below(server: &Server, key: &str, path: &str) -> Answer {
    ask(server, key, path, ("", "")).await
}

#[tokio::test]
async fn what_follows_a_tenants_name_is_served_as_the_whole_path() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    server.collection(&acme, "notes").await;
    for key in [&acme, &server.operator] {
        assert_eq!(below(&server, key, "/t/acme/v1/tenant").await.expect(200)["name"], "acme");
        let page = "/t/acme/v1/databases?limit=1";
        let found = below(&server, key, page).await.expect(200);
        assert_eq!(found["databases"].as_array().unwrap().len(), 1);
        let why = below(&server, key, "/t/acme/v1/databases?none=1").await.refused(400, "invalid");
        assert!(why.contains("[none]"), "{why}");
        let count = records("notes", "count").replace("POST ", "POST /t/acme");
        assert_eq!(server.call(key, &count, json!({})).await.expect(200)["count"], 0);
    }
    below(&server, "tnt_x", "/t/acme/v1/tenant").await.refused(401, "unauthenticated");
    // What everybody is told, everybody is told there.
    for path in ["/t/acme/healthz", "/t/nobody/readyz", "/t//openapi.json"] {
        below(&server, "", path).await.expect(200);
    }
}

#[tokio::test]
async fn foreign_and_missing_paths_are_one_and_are_noted() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    server.tenant("globex").await;
    let before = server.engine.totals().cross_tenant_attempts;
    let mut said = Vec::new();
    for name in ["globex", "nobody"] {
        for path in ["/v1/tenant", "/v1/admin/tenants", "/v1/nothing", "/metrics"] {
            let path = format!("/t/{name}{path}");
            for others in [("", ""), ("acme", ""), ("", "acme"), ("acme", "acme"), (name, name)] {
                let answer = ask(&server, &acme, &path, others).await;
                said.push(answer.refused(404, "not_found").replace(name, "…"));
            }
        }
        // A host and a header that differ from the path are refused like it.
        for others in [(name, ""), ("", name)] {
            let answer = ask(&server, &acme, "/t/acme/v1/tenant", others).await;
            said.push(answer.refused(404, "not_found").replace(name, "…"));
        }
    }
    let header = ask(&server, &acme, "/v1/tenant", ("", "globex")).await;
    said.push(header.refused(404, "not_found").replace("globex", "…"));
    assert!(said.iter().all(|why| *why == said[0]), "{said:?}");
    assert_eq!(server.engine.totals().cross_tenant_attempts, before + said.len() as u64);
    let log = server.call(&acme, "GET /v1/audit", Value::Null).await.expect(200);
    let entries = log["entries"].as_array().unwrap();
    let tried = entries.iter().filter(|one| one["action"] == "cross_tenant_attempt");
    let mut tried: Vec<_> = tried.map(|one| one["target"].as_str().unwrap()).collect();
    tried.sort_unstable();
    tried.dedup();
    assert_eq!(tried, ["globex", "nobody"]);
}

#[tokio::test]
async fn an_operator_enters_the_tenant_that_the_path_names() {
    let server = Server::start().await;
    server.tenant("acme").await;
    server.tenant("globex").await;
    let operator = server.operator.clone();
    let enter = |others| ask(&server, &operator, "/t/acme/v1/tenant", others);
    for others in [("", ""), ("acme", ""), ("", "acme"), ("acme", "acme")] {
        assert_eq!(enter(others).await.expect(200)["name"], "acme");
    }
    for other in ["globex", "nobody"] {
        for others in [(other, ""), ("", other)] {
            let why = enter(others).await.refused(400, "invalid");
            assert!(why.contains("acme") && why.contains(other), "{why}");
        }
    }
    below(&server, &operator, "/t/nobody/v1/tenant").await.refused(404, "not_found");
    assert_eq!(below(&server, &operator, "/t/acme/v1/me").await.expect(200)["tenant"], "acme");
    // It is made, where a name that is said makes one.
    server.engine.provision(ProvisionRules::default());
    let me = below(&server, &operator, "/t/initech/v1/me").await.expect(200);
    assert_eq!(me["tenant"], "initech");
    // Where operators must say why, this is no way around.
    server.engine.require_reasons();
    for path in ["/t/acme/v1/tenant", "/t/acme/v1/me", "/t/hooli/v1/tenant"] {
        below(&server, &operator, path).await.refused(403, "denied");
    }
}

#[tokio::test]
async fn what_only_operators_ask_is_not_below_a_tenants_path() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    let denied = server.engine.totals().denied;
    server.engine.provision(ProvisionRules::default());
    for name in ["acme", "nobody"] {
        for path in ["/metrics", "/v1/admin/tenants", "/v1/admin/signer", "/v1/admin/audit"] {
            let path = format!("/t/{name}{path}");
            let why = below(&server, &server.operator, &path).await.refused(404, "not_found");
            assert!(why.contains("no such route"), "{path}: {why}");
            below(&server, &acme, &path).await.refused(404, "not_found");
        }
    }
    // Who looks for them is noted all the same, four times below its own name and four below another.
    assert_eq!(server.engine.totals().denied - denied, 8);
    let all = server.call(&server.operator, "GET /v1/admin/tenants", Value::Null).await;
    assert_eq!(all.expect(200)["tenants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_name_is_decoded_once_and_is_a_name() {
    let server = Server::start().await;
    for name in ["a b \u{e9}", "%41", "t"] {
        let key = server.tenant(name).await;
        let path = format!("/t/{}/v1/tenant", encoded(name));
        assert_eq!(below(&server, &key, &path).await.expect(200)["name"], name);
        for bad in ["", "%00", "%FF", "a%0Ab", "a%2Fb", "..", &"a".repeat(513)] {
            let path = format!("/t/{bad}/v1/tenant");
            for key in [&key, &server.operator] {
                below(&server, key, &path).await.refused(400, "invalid");
            }
            below(&server, "x", &path).await.refused(401, "unauthenticated");
        }
        // One name, and something behind it; no tenant's name is a path.
        for none in ["/t", "/t/", "/t/t", "/t/t/", "/t/t/t/t/v1/tenant", "/t/a/b%20%C3%A9/v1/me"] {
            below(&server, &server.operator, none).await.refused(404, "not_found");
        }
    }
}

#[tokio::test]
async fn a_path_that_does_not_count_is_refused_whatever_it_names() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    server.engine.name_tenants_by(TenantSources::parse("host,header,claim").unwrap());
    for key in [&acme, &server.operator] {
        let mut said = Vec::new();
        for path in ["/t/acme/v1/tenant", "/t/nobody/v1/tenant", "/t//v1/tenant", "/t/acme/v1/none"]
        {
            said.push(ask(&server, key, path, ("acme", "")).await.refused(400, "invalid"));
        }
        assert!(
            said.iter().all(|why| *why == said[0] && why.contains("tenant_sources")),
            "{said:?}"
        );
    }
    below(&server, "", "/t/acme/healthz").await.expect(200);
    below(&server, "x", "/t/acme/v1/tenant").await.refused(401, "unauthenticated");
}
