//! Archives that come over the network, and lists of them.

use crate::server::Server;
use axum::{
    body::{Body, Bytes},
    http::Request,
};
use futures_core::Stream;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tenantry_engine::archive::ArchiveConfig;

/// A body of which some bytes come, and then no more, and no end.
struct Stalled(Option<Bytes>);

impl Stream for Stalled {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(bytes))))
    }
}

async fn upload(server: &Server, query: &str, body: Body) -> crate::server::Answer {
    let request = Request::post(format!("/v1/admin/tenants/new/import{query}"))
        .header("authorization", format!("Bearer {}", server.operator));
    server.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn an_upload_that_stalls_is_refused_and_holds_nobody_up() {
    let wait_max = Duration::from_millis(200);
    let archives = ArchiveConfig { wait_max, ..ArchiveConfig::default() };
    let server = Server::start_with(archives).await;
    // More than there are places, one after the other: whoever waits for a place gets a 503.
    for _ in 0..4 {
        let body = Body::from_stream(Stalled(Some(Bytes::from_static(b"\x1f\x8b"))));
        let why = upload(&server, "", body).await.refused(400, "invalid");
        assert!(why.contains("too slowly"), "{why}");
    }
    let why = upload(&server, "", Body::from("no archive")).await.refused(400, "invalid");
    assert!(why.contains("does not begin as every archive"), "{why}");
}

#[tokio::test]
async fn an_upload_for_which_the_disk_has_no_room_is_refused_before_it_comes() {
    let archives = ArchiveConfig { free_min: 1 << 60, ..ArchiveConfig::default() };
    let server = Server::start_with(archives).await;
    // It would never end.
    let answer = upload(&server, "", Body::from_stream(Stalled(None))).await;
    let why = answer.refused(503, "unavailable");
    assert!(why.contains("too little room"), "{why}");
}

#[tokio::test]
async fn a_list_is_signed_by_its_hash_and_another_archive_than_is_meant_is_refused() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let signer = server.call(&op, "GET /v1/admin/signer", Value::Null).await.expect(200);
    let hash = "7".repeat(64);
    let signed = server.call(&op, "POST /v1/admin/signer", json!({ "blake3": hash })).await;
    let signed = signed.expect(200);
    assert_eq!(signed["public_key"], signer["public_key"]);
    assert_eq!(signed["signature"].as_str().unwrap().len(), 128);
    for bad in ["", "7", &"g".repeat(64)] {
        let answer = server.call(&op, "POST /v1/admin/signer", json!({ "blake3": bad })).await;
        assert!(answer.refused(400, "invalid").contains("64 hexadecimal"), "{bad}");
    }
    // A key that may not open tenants gets neither.
    let made = server.call(&op, "POST /v1/admin/keys", json!({})).await.expect(201);
    let limited = crate::server::key_of(&made);
    for line in ["GET /v1/admin/signer", "POST /v1/admin/signer"] {
        server.call(&limited, line, Value::Null).await.refused(403, "denied");
    }
    let body = Body::from("anything");
    let why = upload(&server, &format!("?blake3={hash}"), body).await.refused(400, "invalid");
    assert!(why.contains("another one than is meant"), "{why}");
}

/// Whoever asks for the headers alone has nothing exported, and is told as little as by the archive.
#[tokio::test]
async fn the_head_of_an_archive_exports_nothing() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let head = server.call(&key, "HEAD /v1/archive", Value::Null).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.headers["content-type"], "application/gzip");
    let log = server.call(&key, "GET /v1/audit?limit=1000", Value::Null).await.expect(200);
    assert!(!log.to_string().contains("tenant.export"), "{log}");
    let role = json!({ "role": "admin", "databases": ["default_database"] });
    let made = server.call(&key, "POST /v1/keys", role).await.expect(201);
    let limited = crate::server::key_of(&made);
    for line in ["HEAD /v1/archive", "GET /v1/archive"] {
        assert_eq!(server.call(&limited, line, Value::Null).await.status, 403, "{line}");
    }
}
