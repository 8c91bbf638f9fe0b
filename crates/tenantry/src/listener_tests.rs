//! Whole connections on a clock that jumps from one event to the next.

use super::*;
use crate::pace::{BODY_GRACE, WRITE_PAUSE_MAX};
use axum::{
    body::{Body, Bytes, to_bytes},
    http::StatusCode,
    routing::{get, post},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};

/// More than the pipe between client and server and all buffers hold.
const ANSWER_BYTES: usize = 8 << 20;

/// A client's end of a connection, and the server's end of it until it is done.
fn connected() -> (DuplexStream, JoinHandle<()>) {
    let receive = async |body: Body| match to_bytes(body, usize::MAX).await {
        Ok(bytes) => (StatusCode::OK, bytes.len().to_string()),
        Err(_) => (StatusCode::BAD_REQUEST, "cut".to_owned()),
    };
    let router = Router::new()
        .route("/body", post(receive))
        .route("/answer", get(async || Bytes::from(vec![b'x'; ANSWER_BYTES])));
    let (client, server) = duplex(16 << 10);
    let open = GracefulShutdown::new();
    let watcher = open.watcher();
    let serving = async move {
        connection(server, None, paced(router, None), watcher).await;
        // Dropped earlier it would tell the connection to stop.
        drop(open);
    };
    (client, tokio::spawn(serving))
}

/// Sends a body in `parts` equal parts, one each `pause`; how many were sent before the server
/// hung up, and its answer.
async fn send(bytes: usize, parts: usize, pause: Duration) -> (usize, String) {
    let (mut client, _server) = connected();
    let head = format!("POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n");
    client.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let part = vec![b'x'; bytes / parts];
    let mut sent = 0;
    while sent < parts && client.write_all(&part).await.is_ok() {
        sent += 1;
        sleep(pause).await;
    }
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer).await;
    (sent, answer)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_is_cut_although_it_never_pauses() {
    let begun = Instant::now();
    let (sent, answer) = send(1_000, 1_000, Duration::from_secs(10)).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.ends_with("cut"), "{answer}");
    assert!(sent < 10, "{sent} parts were taken");
    assert!(begun.elapsed() < 3 * BODY_GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_pauses_is_cut() {
    let (sent, answer) = send(2 << 20, 2, Duration::from_secs(31)).await;
    assert!(sent < 2 && answer.starts_with("HTTP/1.1 400"), "{sent} {answer}");
}

#[tokio::test(start_paused = true)]
async fn a_large_body_may_take_its_time() {
    // 64 KiB a second and a little more, for ten minutes.
    let bytes = 40 << 20;
    let (sent, answer) = send(bytes, 640, Duration::from_secs(1)).await;
    assert_eq!(sent, 640);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(&bytes.to_string()), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let (mut client, server) = connected();
    client.write_all(b"GET /answer HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    timeout(Duration::from_secs(600), server).await.unwrap().unwrap();
    let waited = begun.elapsed();
    assert!((WRITE_PAUSE_MAX..WRITE_PAUSE_MAX + Duration::from_secs(5)).contains(&waited));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_its_whole_answer() {
    let (mut client, _server) = connected();
    let head = b"GET /answer HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut part = vec![0; 16 << 10];
    let mut received = 0;
    loop {
        let bytes = client.read(&mut part).await.unwrap();
        if bytes == 0 {
            break;
        }
        received += bytes;
        sleep(Duration::from_secs(30)).await;
    }
    assert!(received > ANSWER_BYTES, "{received}");
}

/// Sends a request whose body comes after its answer, and another one; the second's answer, empty
/// if the connection was closed.
async fn after_a_refusal(bytes: usize, more: &str) -> String {
    let (mut client, _server) = connected();
    let head = format!("POST /none HTTP/1.1\r\nhost: x\r\n{more}content-length: {bytes}\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
    sleep(Duration::from_secs(1)).await;
    let next = "POST /body HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let all = [vec![b'x'; bytes], next.as_bytes().to_vec()].concat();
    let _ = client.write_all(&all).await;
    let mut rest = String::new();
    let _ = client.read_to_string(&mut rest).await;
    rest.find("HTTP/1.1 ").map(|at| rest.split_off(at)).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_connection_outlives_a_refusal_that_precedes_a_small_body() {
    let answer = after_a_refusal(1_000, "").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('2'), "{answer}");
    assert_eq!(after_a_refusal(1 << 20, "").await, "");
    assert_eq!(after_a_refusal(1_000, "expect: 100-continue\r\n").await, "");
}
