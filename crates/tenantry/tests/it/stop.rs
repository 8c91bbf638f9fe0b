//! Stopping: nothing that was accepted is lost, and nothing waits for ever.

use crate::program::{Folder, done};
use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

const BODY: &str = r#"{"records":[{"id":"a","document":"kept"}]}"#;

/// Sends a write whose body stops in the middle; what is missing.
pub(crate) fn half_a_write(address: &str, key: &str) -> (TcpStream, &'static str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let (now, later) = BODY.split_at(BODY.len() / 2);
    let path = "/v1/databases/default_database/collections/notes/records/upsert";
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nx-tenant-id: acme\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{now}",
        BODY.len()
    )
    .unwrap();
    (stream, later)
}

pub(crate) fn folder_with_collection() -> Folder {
    let folder = Folder::new();
    let path = folder.path();
    done(&["tenant", "create", "acme", "--data-dir", &path]);
    let file = folder.temporary.path().join("first.jsonl");
    std::fs::write(&file, "{\"id\":\"first\"}\n").unwrap();
    done(&[
        "import",
        file.to_str().unwrap(),
        "--tenant",
        "acme",
        "--collection",
        "notes",
        "--create",
        "--data-dir",
        &path,
    ]);
    folder
}

#[test]
fn an_accepted_request_is_finished_before_the_end() {
    let folder = folder_with_collection();
    let server = folder.serve(&[]);
    let (mut stream, later) = half_a_write(server.address(), &folder.key);
    // The request is accepted once its headers were read.
    thread::sleep(Duration::from_millis(200));
    server.terminate();

    let begun = Instant::now();
    while TcpStream::connect(server.address()).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10), "new connections are still accepted");
        thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(later.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"inserted\":1"), "{answer}");
    let (status, _, err) = server.wait();
    assert!(status.success(), "{err}");

    let server = folder.serve(&[]);
    let agent: ureq::Agent = ureq::Agent::new_with_defaults();
    let url = format!("{}/v1/databases/default_database/collections/notes/records/get", server.url);
    let mut found = agent
        .post(url)
        .header("authorization", format!("Bearer {}", folder.key))
        .header("x-tenant-id", "acme")
        .send_json(serde_json::json!({"ids": ["a"]}))
        .unwrap();
    let found: serde_json::Value = found.body_mut().read_json().unwrap();
    assert_eq!(found["records"][0]["document"], "kept");
}

#[test]
fn a_clean_stop_warns_of_nothing() {
    let folder = folder_with_collection();
    for round in 0..8 {
        let server = folder.serve(&[]);
        let name = format!("tenant-{round}");
        let to = ["--server", &server.url, "--key", &folder.key];
        done(&[&["tenant", "create", &name][..], &to].concat());
        // Leaves work for the purger, which the stop may interrupt.
        done(&[&["tenant", "delete", &name, "--yes"][..], &to].concat());
        let said = server.stop();
        assert!(!said.contains("WARN") && !said.contains("ERROR"), "{said}");
    }
}

#[test]
fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let folder = folder_with_collection();
    let server = folder.serve(&["--shutdown-timeout", "300ms"]);
    let (_stream, _) = half_a_write(server.address(), &folder.key);
    thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    server.terminate();
    let (status, _, err) = server.wait();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("unanswered after 300ms"), "{err}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}
