//! Tenants by the address where a request asks.

use crate::server::{Answer, Server};
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tenantry_api::Peer;
use tenantry_engine::ProvisionRules;

/// Asks for `path` at a host, naming a tenant besides or not.
async fn at(server: &Server, key: &str, (host, path): (&str, &str), named: Option<&str>) -> Answer {
    let mut request = Request::get(path).header("host", host).header("x-api-key", key);
    if let Some(name) = named {
        request = request.header("x-tenant-id", name);
    }
    server.send(request.body(Body::empty()).unwrap()).await
}

const OWN: &str = "/v1/tenant";

#[tokio::test]
async fn a_tenants_key_is_served_at_its_own_host_alone() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    server.tenant("globex").await;
    for host in ["acme.example.com", "ACME.example.com:443", "example.com", "www.example.com", "x"]
    {
        assert_eq!(at(&server, &acme, (host, OWN), None).await.expect(200)["name"], "acme");
        at(&server, &acme, (host, OWN), Some("acme")).await.expect(200);
    }
    // Foreign and missing are the same, by the host, by the header and by both.
    let before = server.engine.totals().cross_tenant_attempts;
    let mut said = Vec::new();
    for name in ["globex", "nobody"] {
        let host = format!("{name}.example.com");
        for named in [None, Some("acme"), Some(name)] {
            let why = at(&server, &acme, (&host, OWN), named).await.refused(404, "not_found");
            said.push(why.replace(name, "…"));
        }
        let at_home = at(&server, &acme, ("acme.example.com", OWN), Some(name)).await;
        said.push(at_home.refused(404, "not_found").replace(name, "…"));
    }
    assert!(said.iter().all(|why| *why == said[0]), "{said:?}");
    assert_eq!(server.engine.totals().cross_tenant_attempts, before + said.len() as u64);
    // Routes that open no session are no way around, nor are those that do not exist.
    for path in ["/v1/admin/tenants", "/v1/nothing", "/metrics"] {
        let answer = at(&server, &acme, ("globex.example.com", path), None).await;
        assert!(answer.refused(404, "not_found").contains("globex"), "{path}");
    }
    at(&server, "tnt_x", ("globex.example.com", OWN), None).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn an_operator_enters_the_tenant_that_the_host_names() {
    let server = Server::start().await;
    server.tenant("acme").await;
    server.tenant("globex").await;
    let operator = server.operator.clone();
    let enter = |host: &'static str, named| at(&server, &operator, (host, OWN), named);
    assert_eq!(enter("acme.example.com", None).await.expect(200)["name"], "acme");
    enter("acme.example.com", Some("acme")).await.expect(200);
    for other in ["globex", "nobody"] {
        let why = enter("acme.example.com", Some(other)).await.refused(400, "invalid");
        assert!(why.contains("acme") && why.contains(other), "{why}");
    }
    enter("nobody.example.com", None).await.refused(404, "not_found");
    enter("www.example.com", None).await.refused(400, "invalid");
    assert_eq!(enter("www.example.com", Some("globex")).await.expect(200)["name"], "globex");
    // What needs no tenant is asked at any host.
    let tenants = ("acme.example.com", "/v1/admin/tenants");
    at(&server, &operator, tenants, None).await.expect(200);
}

#[tokio::test]
async fn what_only_operators_ask_makes_no_tenant_that_a_host_or_a_path_names() {
    let server = Server::start().await;
    server.engine.provision(ProvisionRules::default());
    let ask = |path, named| at(&server, &server.operator, ("nobody.example.com", path), named);
    let me = ask("/v1/me", None).await.expect(200);
    assert_eq!((&me["kind"], &me["tenant"]), (&json!("operator"), &Value::Null));
    for path in ["/v1/admin/usage", "/v1/admin/moves", "/metrics"] {
        assert_eq!(ask(path, None).await.status.as_u16(), 200, "{path}");
    }
    for path in [
        "/v1/admin/tenants/nobody",
        "/v1/admin/tenants/nobody/advice",
        "/v1/admin/tenants/nobody/statistics",
        "/v1/admin/usage?tenant=nobody",
        "/v1/admin/bill?tenant=nobody&month=2026-11",
    ] {
        ask(path, None).await.refused(404, "not_found");
    }
    let all = ask("/v1/admin/tenants", None).await.expect(200);
    assert_eq!(all["tenants"], json!([]));
    // Entering it does, which is asked for.
    let me = ask("/v1/me", Some("nobody")).await.expect(200);
    assert_eq!(me["tenant"], "nobody");
}

#[tokio::test]
async fn a_forwarded_host_is_read_from_a_proxy() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    let ask = |peer: &str, forwarded: &str| {
        let request = Request::get(OWN)
            .header("host", "acme.example.com")
            .header("x-forwarded-host", forwarded)
            .header("x-api-key", &acme)
            .extension(Peer(peer.parse().unwrap()));
        server.send(request.body(Body::empty()).unwrap())
    };
    ask("127.0.0.1", "globex.example.com").await.expect(200);
    ask("10.0.0.7", "acme.example.com").await.expect(200);
    ask("10.0.0.7", "globex.example.com").await.refused(404, "not_found");
    ask("10.0.0.7", "acme.example.com, globex.example.com").await.refused(400, "invalid");
}

#[tokio::test]
async fn a_host_that_is_none_is_refused_before_anything_else() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    for path in [OWN, "/healthz"] {
        at(&server, &acme, ("acme.example.com@x", path), None).await.refused(400, "invalid");
    }
}

#[tokio::test]
async fn a_renamed_tenant_has_another_host() {
    let server = Server::start().await;
    let acme = server.tenant("acme").await;
    let line = "PATCH /v1/admin/tenants/acme";
    server.call(&server.operator, line, json!({"name": "initech"})).await.expect(200);
    at(&server, &acme, ("acme.example.com", OWN), None).await.refused(404, "not_found");
    let shown: Value = at(&server, &acme, ("initech.example.com", OWN), None).await.expect(200);
    assert_eq!(shown["name"], "initech");
}
