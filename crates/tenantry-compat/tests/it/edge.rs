//! What HTTP itself can get wrong.

use crate::server::{DEFAULT, Server};
use axum::{
    Router,
    body::Body,
    http::{Method, Request},
};
use serde_json::json;
use tower::ServiceExt;

#[tokio::test]
async fn unknown_routes_have_no_body_and_a_trace() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let empty = async |line: &str, status: u16| {
        let answer = server.text(&key, line, "").await;
        assert_eq!((answer.status, answer.text.as_str()), (status, ""), "{line}");
        assert_eq!(answer.headers["chroma-trace-id"].len(), 32, "{line}");
        answer
    };
    empty("GET /api/v2/nothing", 404).await;
    empty("GET /api/v2/", 404).await;
    empty("GET /api/v2/HEARTBEAT", 404).await;
    empty(&format!("GET {DEFAULT}/"), 404).await;
    empty("GET /api/v1", 404).await;
    empty("GET /", 404).await;
    for line in ["GET /api/v2/tenants", "DELETE /api/v2/tenants/acme", "DELETE /api/v2/heartbeat"] {
        assert!(!empty(line, 405).await.headers["allow"].is_empty());
    }
    let gone = server.text(&key, "POST /api/v1/collections", "").await;
    assert!(gone.refused(410, "Unimplemented").contains("Please use /v2 apis"));
}

#[tokio::test]
async fn answers_are_neither_cached_nor_guessed() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let list = format!("GET {DEFAULT}/collections");
    for (key, line, status) in [
        (key.as_str(), list.as_str(), 200),
        ("", &list, 401),
        (&key, "GET /api/v2/nothing", 404),
        (&key, "DELETE /api/v2/tenants/acme", 405),
        ("", "GET /api/v2/heartbeat", 200),
    ] {
        let answer = server.text(key, line, "").await;
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{line}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{line}");
    }
}

#[tokio::test]
async fn the_first_calls_of_a_client_answer_json() {
    let server = Server::start().await;
    for path in ["/api/v2", "/api/v2/heartbeat"] {
        let beat = server.text("", &format!("GET {path}"), "").await;
        assert!(!beat.headers.contains_key("chroma-trace-id"));
        assert!(
            beat.expect(200)["nanosecond heartbeat"].as_u64().unwrap() > 1_600_000_000_000_000_000
        );
    }
    assert_eq!(server.text("", "GET /api/v2/version", "").await.expect(200), "1.0.0");
    let checks = server.text("", "GET /api/v2/pre-flight-checks", "").await.expect(200);
    assert_eq!(checks, json!({"max_batch_size": 5461, "supports_base64_encoding": true}));
    let head = server.text("", "HEAD /api/v2/version", "").await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn bodies_must_be_json_of_a_sane_size() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let path = format!("{}/get", made.path);
    let send = async |kind: Option<&str>, body: Vec<u8>| {
        let mut request =
            Request::builder().method(Method::POST).uri(&path).header("x-chroma-token", &key);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        server.send(request.body(Body::from(body)).unwrap()).await
    };
    let json = Some("application/json");
    send(json, b"{}".to_vec()).await.expect(200);
    send(Some("application/json; charset=utf-8"), b"{}".to_vec()).await.expect(200);
    for kind in [None, Some("text/plain")] {
        let text = send(kind, b"{}".to_vec()).await.refused(415, "ChromaError");
        assert_eq!(text, "Expected request with `Content-Type: application/json`");
    }
    for body in ["", "{", "{} x", "{\"ids\":["] {
        send(json, body.as_bytes().to_vec()).await.refused(400, "InvalidArgumentError");
    }
    send(json, b"{\"ids\":[\"\xff\"]}".to_vec()).await.refused(400, "InvalidArgumentError");
    for body in ["[]", "[[\"a\"]]", "[[[[", "null", "1"] {
        send(json, body.as_bytes().to_vec()).await.refused(422, "ChromaError");
    }
    let deep = format!("{{\"where\":{}1{}}}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    send(json, deep.into_bytes()).await.refused(400, "InvalidArgumentError");

    let large = vec![b' '; (40 << 20) + 1];
    let text = send(json, large).await.refused(413, "InvalidArgumentError");
    assert!(text.starts_with("Payload too large"), "{text}");
    // Without a declared length the limit holds as well.
    let chunks =
        Body::new(http_body_util::Full::new(bytes::Bytes::from(vec![b' '; (40 << 20) + 1])));
    let request = Request::post(&path)
        .header("x-chroma-token", &key)
        .header("content-type", "application/json")
        .body(Body::from_stream(chunks.into_data_stream()))
        .unwrap();
    server.send(request).await.refused(413, "InvalidArgumentError");
}

#[tokio::test]
async fn names_are_data() {
    let server = Server::start().await;
    let key = server.tenant("../../x y").await;
    let path = "/api/v2/tenants/%2E%2E%2F%2E%2E%2Fx%20y";
    let shown = server.text(&key, &format!("GET {path}"), "").await.expect(200);
    assert_eq!(shown["name"], "../../x y");
    for path in ["/api/v2/tenants/%00", "/api/v2/tenants/a%0Ab"] {
        server.text(&key, &format!("GET {path}"), "").await.refused(404, "NotFoundError");
    }
    let bad = server.text(&key, "GET /api/v2/tenants/%FF", "").await;
    bad.refused(400, "InvalidArgumentError");
    for name in ["%00%00%00", "..%2F..", "a%0Abc"] {
        let line = format!("GET {DEFAULT}/collections/{name}");
        server.text(&key, &line, "").await.refused(404, "NotFoundError");
    }
}

#[tokio::test]
async fn it_serves_under_a_prefix() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let nested = Router::new().nest("/chroma", server.router());
    let get = async |path: &str, key: &str| {
        let request = Request::get(path).header("x-chroma-token", key).body(Body::empty()).unwrap();
        nested.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(get("/chroma/api/v2/auth/identity", &key).await, 200);
    assert_eq!(get(&format!("/chroma{DEFAULT}/collections"), &key).await, 200);
    assert_eq!(get("/chroma/api/v2/auth/identity", "x").await, 401);
    assert_eq!(get("/chroma/api/v1/x", &key).await, 410);
    assert_eq!(get("/chroma/nothing", &key).await, 404);
}
