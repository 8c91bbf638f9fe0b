//! What metrics and statistics say of tenants, and to whom.

use crate::server::{Server, records};
use axum::{
    Router,
    body::Body,
    http::Request,
    middleware::{self, Next},
    routing::get,
};
use serde_json::{Value, json};
use tenantry_api::{HttpTotals, observe};
use tenantry_engine::{Payer, archive::ArchiveConfig};
use tower::ServiceExt;

async fn id(server: &Server, tenant: &str) -> u64 {
    let line = format!("GET /v1/admin/tenants/{tenant}");
    server.call(&server.operator, &line, Value::Null).await.expect(200)["id"].as_u64().unwrap()
}

async fn metrics(server: &Server) -> String {
    server.call(&server.operator, "GET /metrics", Value::Null).await.text
}

/// How many requests of a tenant ended so.
#[track_caller]
fn ended(metrics: &str, tenant: impl std::fmt::Display, outcome: &str) -> u64 {
    let start =
        format!("tenantry_tenant_requests_total{{tenant=\"{tenant}\",outcome=\"{outcome}\"}} ");
    let found = metrics.lines().find_map(|line| line.strip_prefix(&start));
    found.unwrap_or_else(|| panic!("{start} is missing in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn the_busiest_are_told_apart_by_their_numbers() {
    let server = Server::start_telling(1, ArchiveConfig::default()).await;
    let first = server.tenant("first-secret").await;
    let second = server.tenant("second-secret").await;
    let ask = async |key: &str, line: &str| server.call(key, line, Value::Null).await;
    for _ in 0..3 {
        ask(&first, "GET /v1/tenant").await.expect(200);
    }
    ask(&second, "GET /v1/tenant").await.expect(200);
    // Who names another tenant has asked, and not the one that is named.
    let foreign = Request::get("/v1/tenant")
        .header("x-api-key", &second)
        .header("x-tenant-id", "first-secret")
        .body(Body::empty())
        .unwrap();
    server.send(foreign).await.refused(404, "not_found");
    // Nobody's.
    ask("tnt_wrong", "GET /v1/tenant").await.refused(401, "unauthenticated");

    let (shown, number) = (metrics(&server).await, id(&server, "first-secret").await);
    assert_eq!(ended(&shown, number, "done"), 3);
    assert_eq!(ended(&shown, number, "refused"), 0);
    assert_eq!(ended(&shown, "other", "done"), 1);
    assert_eq!(ended(&shown, "other", "refused"), 1);
    for line in [
        format!("tenantry_tenant_request_duration_seconds_count{{tenant=\"{number}\"}} 3\n"),
        format!("le=\"+Inf\",tenant=\"{number}\"}} 3\n"),
        "tenantry_tenant_request_duration_seconds_count{tenant=\"other\"} 2\n".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line} is missing in\n{shown}");
    }
    let second = id(&server, "second-secret").await;
    assert!(!shown.contains("secret") && !shown.contains(&format!("tenant=\"{second}\"")));
}

#[tokio::test]
async fn an_operators_requests_are_no_tenants() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let number = id(&server, "acme").await;
    // The tenant's first key was made by the operator, who has entered it for that.
    assert!(!metrics(&server).await.contains(&format!("tenant=\"{number}\"")));
    server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!(ended(&metrics(&server).await, number, "done"), 1);
}

#[tokio::test]
async fn how_many_records_a_busy_tenant_has_is_told_and_noted_in_its_log() {
    let server = Server::start_telling(1, ArchiveConfig::default()).await;
    let busy = server.tenant("busy").await;
    let other = server.tenant("other").await;
    for key in [&busy, &other] {
        server.collection(key, "notes").await;
        let rows = json!({"records": [{"id": "a"}, {"id": "b"}, {"id": "c"}]});
        server.call(key, &records("notes", "add"), rows).await.expect(200);
    }
    let member = json!({"id": "login/alice", "role": "member"});
    server.call(&busy, "POST /v1/members", member).await.expect(201);
    let number = id(&server, "busy").await;
    let lines: Vec<_> = metrics(&server).await.lines().map(str::to_owned).collect();
    let sizes = lines.iter().filter(|line| line.starts_with("tenantry_tenant_records{"));
    let sizes: Vec<_> = sizes.filter(|line| !line.contains("\"other\"")).collect();
    assert_eq!(sizes, [&format!("tenantry_tenant_records{{tenant=\"{number}\"}} 3")]);
    assert!(
        lines.contains(&format!("tenantry_tenant_users{{tenant=\"{number}\"}} 1")),
        "{lines:?}"
    );
    // Each of them is an id of one byte.
    let bytes = format!("tenantry_tenant_storage_bytes{{tenant=\"{number}\"}} 3");
    assert!(lines.contains(&bytes), "{lines:?}");

    // A look is noted when it begins, not at every reading.
    metrics(&server).await;
    for (key, times) in [(&busy, 1), (&other, 0)] {
        let log = server.call(key, "GET /v1/audit?limit=100", Value::Null).await.expect(200);
        let noted = log.to_string().matches("operator.measure").count();
        assert_eq!(noted, times, "{log}");
    }
    let gone = "DELETE /v1/admin/tenants/busy";
    let gone = server.call(&server.operator, gone, Value::Null).await;
    assert_eq!(gone.status, 204);
    let shown = metrics(&server).await;
    let of_it = format!("tenantry_tenant_records{{tenant=\"{number}\"}}");
    assert!(!shown.contains(&of_it), "{shown}");
    assert_eq!(ended(&shown, number, "done"), 4, "what it asked stays counted");
}

/// What a gauge shows.
#[track_caller]
fn gauge(metrics: &str, name: &str) -> u64 {
    let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn all_tenants_and_others_are_counted_together() {
    let server = Server::start_telling(1, ArchiveConfig::default()).await;
    let (busy, other) = (server.tenant("busy").await, server.tenant("other").await);
    for (key, rows) in [(&busy, 3), (&other, 2)] {
        server.collection(key, "notes").await;
        let rows: Vec<_> = (0..rows).map(|n| json!({"id": n.to_string()})).collect();
        server.call(key, &records("notes", "add"), json!({"records": rows})).await.expect(200);
        let member = json!({"id": "login/alice", "role": "member"});
        server.call(key, "POST /v1/members", member).await.expect(201);
    }
    let shown = async || {
        server.engine.add_up().await;
        metrics(&server).await
    };
    let all = ["records", "storage_bytes", "users", "uncounted_tenants"];
    let totals = |shown: &str| all.map(|name| gauge(shown, &format!("tenantry_{name}")));
    let others = |shown: &str| {
        let names = ["tenant_records", "tenant_storage_bytes", "tenant_users"];
        names.map(|name| gauge(shown, &format!("tenantry_{name}{{tenant=\"other\"}}")))
    };
    let first = shown().await;
    // Each record is an id of one byte.
    assert_eq!((totals(&first), others(&first)), ([5, 5, 2, 0], [2, 2, 1]));
    assert!(gauge(&first, "tenantry_counted_seconds_ago") < 60);

    let ids = json!({"ids": ["0"]});
    server.call(&other, &records("notes", "delete"), ids).await.expect(200);
    let second = shown().await;
    assert_eq!((totals(&second), others(&second)), ([4, 4, 2, 0], [1, 1, 1]));

    let gone = "DELETE /v1/admin/tenants/busy";
    assert_eq!(server.call(&server.operator, gone, Value::Null).await.status, 204);
    let third = shown().await;
    assert_eq!((totals(&third), others(&third)), ([1, 1, 1, 0], [1, 1, 1]));
    // Nothing of it is in a log.
    let log = server.call(&other, "GET /v1/audit?limit=100", Value::Null).await.expect(200);
    assert!(!log.to_string().contains("operator.measure"), "{log}");
}

#[tokio::test]
async fn nobody_is_told_apart_if_the_operator_says_so() {
    let server = Server::start_telling(0, ArchiveConfig::default()).await;
    let admin = server.tenant("acme").await;
    server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
    let shown = metrics(&server).await;
    assert!(shown.contains("tenantry_http_requests_total") && !shown.contains("tenantry_tenant_"));
    assert_eq!(gauge(&shown, "tenantry_records"), 0, "totals are there");
    let line = "GET /v1/admin/tenants/acme/statistics";
    let found = server.call(&server.operator, line, Value::Null).await.expect(200);
    assert_eq!((&found["followed"], &found["all"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn statistics_of_a_tenant_are_the_operators_and_by_endpoint() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let line = "GET /v1/admin/tenants/acme/statistics";
    let before = server.call(&server.operator, line, Value::Null).await.expect(200);
    assert_eq!(before["followed"], json!(false));

    server.collection(&admin, "notes").await;
    for _ in 0..2 {
        let row = json!({"records": [{"id": "a"}]});
        server.call(&admin, &records("notes", "upsert"), row).await.expect(200);
    }
    server.call(&admin, &records("absent", "upsert"), json!({"records": []})).await;
    server.call(&admin, "GET /v1/nothing/at-all", Value::Null).await.refused(404, "not_found");
    // Its own numbers are not a tenant's either: they say how the operator's server is.
    server.call(&admin, line, Value::Null).await.refused(403, "denied");

    let found = server.call(&server.operator, line, Value::Null).await.expect(200);
    assert_eq!((&found["tenant"], &found["followed"]), (&json!("acme"), &json!(true)));
    let all = &found["all"];
    assert_eq!(
        (&all["requests"], &all["done"], &all["refused"]),
        (&json!(6), &json!(3), &json!(3))
    );
    let latency = all["latency"].as_array().unwrap();
    assert_eq!(latency.iter().map(|one| one["requests"].as_u64().unwrap()).sum::<u64>(), 6);
    assert_eq!((&latency[0]["up_to_ms"], &latency[8]["up_to_ms"]), (&json!(1.0), &Value::Null));
    let endpoints = found["endpoints"].as_array().unwrap();
    let first = &endpoints[0];
    let upsert = "/v1/databases/{database}/collections/{collection}/records/upsert";
    assert_eq!((&first["method"], &first["route"]), (&json!("POST"), &json!(upsert)));
    assert_eq!((&first["done"], &first["refused"]), (&json!(2), &json!(1)));
    assert!(endpoints.iter().any(|one| one["route"] == "(none)"), "{found}");
    assert!(!found.to_string().contains("at-all") && !found.to_string().contains("absent"));

    let missing = "GET /v1/admin/tenants/nobody/statistics";
    server.call(&server.operator, missing, Value::Null).await.refused(404, "not_found");
}

/// Whoever waits too long and leaves is not lost in the numbers of its tenant.
#[tokio::test]
async fn a_request_that_its_caller_abandons_is_its_tenants() {
    let server = Server::start().await;
    server.tenant("acme").await;
    let who = server.engine.authenticate(Some(&server.tenant("globex").await)).await.unwrap();
    let settle = move |request: Request<Body>, next: Next| {
        request.extensions().get::<Payer>().unwrap().settle(&who);
        next.run(request)
    };
    let slow = Router::new().route("/slow", get(std::future::pending::<()>));
    let totals = HttpTotals::with_tenants(3);
    let whole = slow.layer(middleware::from_fn(settle));
    let whole = observe(whole.merge(tenantry_api::router(server.engine.clone())), &totals);
    let request = Request::get("/slow").body(Body::empty()).unwrap();
    let mut answer = Box::pin(whole.clone().oneshot(request));
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(answer.as_mut().poll(context).is_pending())
    });
    assert!(polled.await);
    drop(answer);
    let request = Request::get("/metrics").header("x-api-key", &server.operator);
    let answer = whole.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let shown = String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(ended(&shown, id(&server, "globex").await, "abandoned"), 1);
}
