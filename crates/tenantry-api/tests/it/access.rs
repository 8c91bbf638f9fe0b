//! Every route, with every caller who may not use it.

use crate::server::{Answer, Server};
use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tenantry_api::{Access, ROUTES, Route};

/// A body that must not be read.
fn untouchable() -> Body {
    let panic = |_: &_| panic!("the body was read before the caller's right was settled");
    Body::new(Full::new(Bytes::from_static(b"{}")).inspect_frame(panic))
}

async fn call(server: &Server, route: &Route, headers: &[(&str, &str)]) -> Answer {
    let path = route.path.replace("{key}", "aaaaaaaaaaaaaaaa").replace(['{', '}'], "");
    let mut request = Request::builder().method(route.method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.send(request.body(untouchable()).unwrap()).await
}

fn bearer(key: &str) -> (&'static str, String) {
    ("authorization", format!("Bearer {key}"))
}

#[tokio::test]
async fn nobody_passes_without_a_key() {
    let server = Server::start().await;
    for route in ROUTES.iter().filter(|route| route.access != Access::Public) {
        let without = call(&server, route, &[]).await;
        assert_eq!(without.headers["www-authenticate"], "Bearer");
        let why = without.refused(401, "unauthenticated");
        assert!(why.contains("an API key is required"), "{route:?}: {why}");
        let unknown = format!("tnt_{}_{}", "a".repeat(16), "a".repeat(52));
        for wrong in ["", "x", "tnt_", &unknown] {
            let wrong = bearer(wrong).1;
            let answer = call(&server, route, &[("authorization", &wrong)]).await;
            assert_eq!(answer.refused(401, "unauthenticated"), "the API key is not valid");
        }
    }
}

#[tokio::test]
async fn public_routes_ask_for_nothing() {
    let server = Server::start().await;
    for route in ROUTES.iter().filter(|route| route.access == Access::Public) {
        let answer = call(&server, route, &[]).await;
        if route.path == "/v1/signup" {
            // Not offered here.
            answer.refused(404, "not_found");
        } else {
            answer.expect(200);
        }
    }
    let public = ROUTES.iter().filter(|route| route.access == Access::Public);
    assert_eq!(
        public.map(|r| r.path).collect::<Vec<_>>(),
        ["/healthz", "/readyz", "/openapi.json", "/v1/signup"]
    );
}

#[tokio::test]
async fn a_foreign_tenant_and_a_missing_one_are_the_same() {
    let server = Server::start().await;
    let mallory = server.tenant("mallory").await;
    server.tenant("victim").await;
    let tenants = [Access::Read, Access::Write, Access::Admin];
    for route in ROUTES.iter().filter(|route| tenants.contains(&route.access)) {
        let (name, value) = bearer(&mallory);
        let mut said = Vec::new();
        for tenant in ["victim", "nobody"] {
            let answer = call(&server, route, &[(name, &value), ("x-tenant-id", tenant)]).await;
            said.push(answer.refused(404, "not_found").replace(tenant, "_"));
        }
        assert_eq!(said, ["Tenant [_] does not exist"; 2], "{route:?}");
    }
    let attempts = server.engine.totals().cross_tenant_attempts;
    assert!(attempts > 40, "{attempts}");
}

#[tokio::test]
async fn every_route_keeps_to_its_level() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let reader = server.key(&admin, json!({"role": "read"})).await;
    let writer = server.key(&admin, json!({"role": "write"})).await;
    for route in ROUTES {
        for (key, reaches) in [
            (&reader, [Access::Read].as_slice()),
            (&writer, &[Access::Read, Access::Write]),
            (&admin, &[Access::Read, Access::Write, Access::Admin]),
        ] {
            if route.access == Access::Public || reaches.contains(&route.access) {
                continue;
            }
            let (name, value) = bearer(key);
            call(&server, route, &[(name, &value)]).await.refused(403, "denied");
        }
    }
}

#[tokio::test]
async fn every_level_is_enough() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let reader = server.key(&admin, json!({"role": "read"})).await;
    let writer = server.key(&admin, json!({"role": "write"})).await;
    for route in ROUTES {
        let key = match route.access {
            Access::Public | Access::Operator => &server.operator,
            Access::Read => &reader,
            Access::Write => &writer,
            Access::Admin => &admin,
        };
        let path = route.path.replace(['{', '}'], "");
        let answer = server.call(key, &format!("{} {path}", route.method), Value::Null).await;
        let status = answer.status.as_u16();
        assert!(
            matches!(status, 200 | 201 | 204 | 400 | 404),
            "{route:?}: {status} {}",
            answer.text
        );
        let missing = answer.text.contains("no such route");
        assert!(!missing, "{route:?} is not mounted");
    }
}

#[tokio::test]
async fn a_tenant_does_not_learn_how_many_there_are() {
    let server = Server::start().await;
    server.tenant("first").await;
    let admin = server.tenant("second").await;
    let shown = server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
    let members: Vec<_> = shown.as_object().unwrap().keys().map(String::as_str).collect();
    let own = [
        "counts",
        "created_at_ms",
        "isolation",
        "kept_bytes",
        "kept_records",
        "limits",
        "name",
        "quotas",
        "rates",
        "state",
    ];
    assert_eq!(members, own);
}

#[tokio::test]
async fn two_credentials_in_any_headers_are_refused() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let headers = ["authorization", "x-api-key", "x-chroma-token"];
    let ask = |first: (&'static str, String), second: (&'static str, String)| {
        let value =
            |(name, key)| if name == "authorization" { format!("Bearer {key}") } else { key };
        let request = Request::get("/v1/tenant")
            .header(first.0, value(first))
            .header(second.0, value(second));
        server.send(request.body(Body::empty()).unwrap())
    };
    for first in headers {
        for second in headers {
            ask((first, admin.clone()), (second, admin.clone())).await.expect(200);
            let other = server.operator.clone();
            ask((first, admin.clone()), (second, other)).await.refused(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn an_operator_names_the_tenant_it_enters() {
    let server = Server::start().await;
    let admin = server.tenant("a/ß").await;
    server.collection(&admin, "notes").await;
    let enter = |key: String, tenant: Option<&'static str>| {
        let mut request = Request::get("/v1/databases/default_database/collections/notes")
            .header("x-api-key", key);
        if let Some(tenant) = tenant {
            request = request.header("x-tenant-id", tenant);
        }
        server.send(request.body(Body::empty()).unwrap())
    };
    let op = server.operator.clone();
    let why = enter(op.clone(), None).await.refused(400, "invalid");
    assert!(why.contains("X-Tenant-ID"), "{why}");
    enter(op.clone(), Some("a%2F%C3%9F")).await.expect(200);
    enter(op.clone(), Some("nobody")).await.refused(404, "not_found");
    enter(op.clone(), Some("%FF")).await.refused(400, "invalid");
    enter(admin, Some("a%2F%C3%9F")).await.expect(200);
    // An operator key without `act_as` enters no tenant.
    let made = server.call(&op, "POST /v1/admin/keys", json!({})).await.expect(201);
    let key = crate::server::key_of(&made);
    let why = enter(key.clone(), Some("a%2F%C3%9F")).await.refused(403, "denied");
    assert!(why.contains("may not open tenants"), "{why}");
    enter(key, Some("nobody")).await.refused(404, "not_found");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_told_to_those_with_a_key() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    for line in ["GET /", "GET /v1", "GET /v1/nothing", "GET /v1/databases/", "GET /v1/a%2Fb"] {
        server.call(&admin, line, Value::Null).await.refused(404, "not_found");
        server.call("x", line, Value::Null).await.refused(401, "unauthenticated");
    }
    let why = server.call(&admin, "GET /api/v2/auth/identity", Value::Null).await;
    assert!(why.refused(404, "not_found").contains("--chroma-listen"));
    for line in ["PUT /v1/databases", "POST /v1/tenant", "DELETE /v1/keys"] {
        server.call(&admin, line, Value::Null).await.refused(405, "method_not_allowed");
        server.call("x", line, Value::Null).await.refused(401, "unauthenticated");
    }
    server.call("x", "POST /healthz", Value::Null).await.refused(405, "method_not_allowed");
    let head = server.call(&admin, "HEAD /v1/tenant", Value::Null).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
}
