//! Health, metrics, request ids, traces, log lines, panics.

use crate::server::Server;
use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
    routing::get,
};
use serde_json::{Value, json};
use std::{cell::RefCell, io, sync::Once};
use tenantry_api::{HttpTotals, observe};
use tower::ServiceExt;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is logged on this thread, where one test and its runtime live. The subscriber is the
/// process's: with one for each thread, `tracing` may remember another thread's lack of one.
struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() {
        static SUBSCRIBER: Once = Once::new();
        SUBSCRIBER.call_once(|| tracing_subscriber::fmt().json().with_writer(|| Self).init());
        LINES.take();
    }

    fn text() -> String {
        LINES.with_borrow(|lines| String::from_utf8(lines.clone()).unwrap())
    }

    fn lines() -> Vec<Value> {
        Self::text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn request_lines() -> Vec<Value> {
        let is_request = |line: &Value| line["fields"]["message"] == "request";
        Self::lines().into_iter().filter(is_request).collect()
    }

    /// The fields of the request lines.
    fn requests() -> Vec<Value> {
        Self::request_lines().into_iter().map(|mut line| line["fields"].take()).collect()
    }
}

#[tokio::test]
async fn health_is_public() {
    let server = Server::start().await;
    let ask = |path: &'static str| server.send(Request::get(path).body(Body::empty()).unwrap());
    assert_eq!(ask("/healthz").await.expect(200), json!({"status": "alive"}));
    assert_eq!(ask("/readyz").await.expect(200), json!({"status": "ready"}));
    server.engine.shutdown().await.unwrap();
    let closed = ask("/readyz").await.expect(503);
    assert_eq!(closed["status"], "read_only");
    assert!(closed["reason"].is_string(), "{closed}");
    assert_eq!(ask("/healthz").await.expect(200), json!({"status": "alive"}));
}

#[tokio::test]
async fn metrics_are_the_operators_and_name_no_tenant() {
    let server = Server::start().await;
    let admin = server.tenant("acme-secret").await;
    server.collection(&admin, "notes").await;
    let row = json!({"records": [{"id": "a"}, {"id": "b"}]});
    server.call(&admin, &crate::server::records("notes", "add"), row).await.expect(200);
    server.call(&admin, "GET /v1/nothing", Value::Null).await.refused(404, "not_found");
    server.call(&admin, "GET /metrics", Value::Null).await.refused(403, "denied");
    server.call("x", "GET /metrics", Value::Null).await.refused(401, "unauthenticated");

    let answer = server.call(&server.operator, "GET /metrics", Value::Null).await;
    assert_eq!(answer.status, 200);
    let kind = answer.headers["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"));
    let text = &answer.text;
    for line in [
        "tenantry_records_written_total 2\n",
        "tenantry_unauthenticated_total 1\n",
        "tenantry_denied_total 1\n",
        "tenantry_ready 1\n",
        "tenantry_http_requests_total{method=\"GET\",status=\"4xx\"} 3\n",
        "tenantry_http_requests_total{method=\"POST\",status=\"2xx\"} 4\n",
        "tenantry_http_request_duration_seconds_count 7\n",
        "tenantry_http_requests_in_flight 1\n",
        "# EOF\n",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("acme"));
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_is_replaced() {
    let server = Server::start().await;
    let longest = "x".repeat(64);
    for good in ["abc", "7f-9_:/#", &longest] {
        let request = Request::get("/healthz").header("x-request-id", good);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers["x-request-id"], good);
        let request = Request::get("/v1/tenant").header("x-request-id", good);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.json()["error"]["request_id"], good);
    }
    let long = "x".repeat(65);
    let mut made = std::collections::BTreeSet::new();
    for bad in ["", "a b", "é", &long] {
        let request = Request::get("/v1/tenant").header("x-request-id", bad);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        let id = answer.headers["x-request-id"].to_str().unwrap().to_owned();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(answer.json()["error"]["request_id"], id);
        made.insert(id);
    }
    assert_eq!(made.len(), 4, "no id is made twice");
}

#[tokio::test]
async fn one_line_a_request_names_the_route_and_not_the_path() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let line = "GET /v1/admin/tenants/acme";
    let shown = server.call(&server.operator, line, Value::Null).await.expect(200);
    assert!(shown["id"].is_u64());
    Log::begin();
    let line = "GET /v1/databases/secret-name/collections/other-secret";
    let request_id = server.call(&admin, line, Value::Null).await.headers["x-request-id"].clone();
    server.call(&admin, "GET /v1/secret-route", Value::Null).await.refused(404, "not_found");
    server.call("tnt_wrong", "GET /v1/tenant", Value::Null).await.refused(401, "unauthenticated");
    let entered = Request::get("/v1/tenant")
        .header("authorization", format!("Bearer {}", server.operator))
        .header("x-tenant-id", "acme")
        .body(Body::empty())
        .unwrap();
    server.send(entered).await.expect(200);
    // Below a path that names a tenant it is the same route.
    server.call(&admin, "GET /t/acme/v1/databases/secret-name", Value::Null).await;

    let lines = Log::requests();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[4]["route"], "/v1/databases/{database}");
    assert_eq!(lines[4]["tenant"], shown["id"]);
    let first = &lines[0];
    assert_eq!(first["method"], "GET");
    assert_eq!(first["route"], "/v1/databases/{database}/collections/{collection}");
    assert_eq!(first["status"], 404);
    assert_eq!(first["request_id"], request_id.to_str().unwrap());
    assert_eq!(first["tenant"], shown["id"]);
    let latency = first["latency_ms"].as_f64().unwrap();
    assert!(latency.to_string().len() <= "12345.678".len(), "{latency}");
    assert_eq!(lines[1]["route"], "(none)");
    assert_eq!(lines[2].get("tenant"), None);
    assert_eq!(lines[3]["tenant"], shown["id"], "the tenant that an operator entered");
    for secret in ["secret", admin.rsplit_once('_').unwrap().1, "acme"] {
        assert!(!Log::text().contains(secret), "{secret} in\n{}", Log::text());
    }
}

#[tokio::test]
async fn every_line_of_a_request_says_its_trace_and_its_span() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const CALLER: &str = "b7ad6b7169203331";
    Log::begin();
    let noisy = get(|| async {
        tracing::warn!("in the handler");
        assert!(std::hint::black_box(false), "detail of the panic");
    });
    let router = observe(Router::new().route("/noisy", noisy), &HttpTotals::new());
    let request = Request::get("/noisy").header("traceparent", format!("00-{TRACE}-{CALLER}-00"));
    router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let lines = Log::lines();
    let said: Vec<_> = lines.iter().map(|line| line["fields"]["message"].clone()).collect();
    assert_eq!(said, ["in the handler", "a handler panicked", "request"]);
    let span = &lines[0]["span"];
    assert_eq!((&span["trace_id"], &span["parent_span_id"]), (&json!(TRACE), &json!(CALLER)));
    let own = span["span_id"].as_str().unwrap();
    assert!(own.len() == 16 && own != CALLER && is_hex(own), "{own}");
    assert!(lines.iter().all(|line| line["span"] == *span), "{lines:?}");
}

#[tokio::test]
async fn a_request_without_a_sane_trace_begins_one() {
    let server = Server::start().await;
    Log::begin();
    let upper = "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01";
    let none = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    let asked = [None, Some(upper), Some(none), Some("secret")];
    for given in asked {
        let mut request = Request::get("/healthz");
        if let Some(given) = given {
            request = request.header("traceparent", given);
        }
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.headers.get("traceparent")), (StatusCode::OK, None));
    }
    let lines = Log::request_lines();
    let mut made = std::collections::BTreeSet::new();
    for line in &lines {
        let (trace, own) = (&line["span"]["trace_id"], &line["span"]["span_id"]);
        let (trace, own) = (trace.as_str().unwrap(), own.as_str().unwrap());
        assert!(trace.len() == 32 && own.len() == 16 && is_hex(trace) && is_hex(own), "{line}");
        assert_eq!(line["span"].get("parent_span_id"), None, "{line}");
        made.extend([trace, own]);
    }
    assert_eq!((lines.len(), made.len()), (asked.len(), 2 * asked.len()), "no id is made twice");
    assert!(!Log::text().contains("secret") && !Log::text().contains("0AF7"), "{}", Log::text());
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[tokio::test]
async fn a_panic_becomes_an_error_without_detail() {
    Log::begin();
    let broken = Router::new().route(
        "/broken",
        get(|| async {
            assert!(std::hint::black_box(false), "detail of the panic");
        }),
    );
    let router = observe(broken, &HttpTotals::new());
    let request = Request::get("/broken").header("x-request-id", "r7").body(Body::empty()).unwrap();
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(response.headers()["x-request-id"], "r7");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (&body["error"]["kind"], &body["error"]["request_id"]),
        (&json!("internal"), &json!("r7"))
    );
    assert!(!body.to_string().contains("detail of"));
    assert_eq!(Log::requests()[0]["status"], 500);
}

#[tokio::test]
async fn a_client_that_leaves_is_seen() {
    Log::begin();
    let slow = Router::new().route("/slow", get(std::future::pending::<()>));
    let router = observe(slow, &HttpTotals::new());
    let request = Request::get("/slow").body(Body::empty()).unwrap();
    let mut answer = Box::pin(router.oneshot(request));
    let polled = std::future::poll_fn(|context| {
        std::task::Poll::Ready(answer.as_mut().poll(context).is_pending())
    });
    assert!(polled.await);
    assert_eq!(Log::requests().len(), 0);
    drop(answer);
    assert_eq!(Log::requests()[0]["status"], 499);
}

#[tokio::test]
async fn answers_are_neither_cached_nor_guessed() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    for line in ["GET /v1/tenant", "GET /v1/nothing", "GET /healthz"] {
        let answer = server.call(&admin, line, Value::Null).await;
        assert_eq!(answer.headers["cache-control"], "no-store");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn a_dialect_mounted_beside_keeps_its_own_answers() {
    Log::begin();
    let server = Server::start().await;
    let dialect = Router::new()
        .route(
            "/api/{name}",
            get(|headers: HeaderMap| async move {
                headers["x-request-id"].to_str().unwrap().to_owned()
            }),
        )
        .fallback(|| async { (StatusCode::NOT_FOUND, "the dialect's 404") });
    let whole = tenantry_api::router(server.engine.clone()).nest("/dialect", dialect);
    let whole = observe(whole, &HttpTotals::new());
    let ask = async |path: &str| {
        let request = Request::get(path).header("x-request-id", "r1").body(Body::empty()).unwrap();
        let response = whole.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    assert_eq!(ask("/dialect/api/x").await, (200, "r1".to_owned()));
    assert_eq!(ask("/dialect/nothing").await, (404, "the dialect's 404".to_owned()));
    assert_eq!(ask("/nothing").await.0, 401);
    assert_eq!(ask("/healthz").await.0, 200);
    assert_eq!(Log::requests()[0]["route"], "/dialect/api/{name}");
}
