//! Reads in a tenant's log, which are summed up by the minute.

use crate::server::{Server, records};
use serde_json::{Value, json};
use std::time::Duration;

/// Ends the minute of whoever sums up reads.
async fn end_minute() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
}

/// The reads in the tenant's log: who, which collection, how often; without who reads the log.
async fn reads(server: &Server, admin: &str) -> Vec<(String, String, u64)> {
    let log = server.call(admin, "GET /v1/audit?limit=1000", Value::Null).await.expect(200);
    let entries = log["entries"].as_array().unwrap().iter();
    let reads = entries.filter(|entry| entry["action"] == "records.read").inspect(|entry| {
        assert_eq!((&entry["outcome"], &entry["reason"]), (&json!("done"), &json!("none")));
        assert!(entry["request_id"].is_string(), "{entry}");
    });
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let read = |entry: &Value| {
        (text(entry, "actor"), text(entry, "target"), entry["count"].as_u64().unwrap())
    };
    reads.map(read).collect()
}

/// The same, when there are so many entries.
async fn until(server: &Server, admin: &str, entries: usize) -> Vec<(String, String, u64)> {
    for _ in 0..500 {
        let reads = reads(server, admin).await;
        if reads.len() >= entries {
            return reads;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("there are not {entries} entries: {:?}", reads(server, admin).await);
}

/// Who this key is in a log.
fn actor(key: &str) -> String {
    format!("key:{}", key.split('_').nth(1).unwrap())
}

#[tokio::test]
async fn reads_are_one_entry_for_each_principal_collection_and_minute() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let (one, other) = (
        server.key(&admin, json!({"role": "read"})).await,
        server.key(&admin, json!({"role": "write"})).await,
    );
    for name in ["notes", "texts"] {
        server.collection(&admin, name).await;
        let row = json!({"records": [{"id": "a", "vector": [1, 0]}]});
        server.call(&admin, &records(name, "upsert"), row).await.expect(200);
    }
    let read = async |key: &str, name: &str, operation: &str| {
        let body = match operation {
            "query" => json!({"vectors": [[1, 0]], "k": 1}),
            _ => json!({}),
        };
        server.call(key, &records(name, operation), body).await.expect(200);
    };
    for operation in ["get", "query", "count", "get"] {
        read(&one, "notes", operation).await;
    }
    read(&one, "texts", "query").await;
    for _ in 0..3 {
        read(&other, "notes", "query").await;
    }
    // What is refused is no read, nor is what was never looked for.
    let wrong = json!({"vectors": [[1, 0, 0]], "k": 1});
    server.call(&one, &records("notes", "query"), wrong).await.refused(400, "invalid");
    server.call(&one, &records("absent", "get"), json!({})).await.refused(404, "not_found");
    // Another tenant's reads are in another log.
    let stranger = server.tenant("beta").await;
    server.collection(&stranger, "notes").await;
    read(&stranger, "notes", "get").await;
    assert!(reads(&server, &admin).await.is_empty(), "before the minute is over");

    let said = |who: &str, name: &str, count: u64| (actor(who), name.to_owned(), count);
    let mut expected =
        vec![said(&one, "notes", 4), said(&one, "texts", 1), said(&other, "notes", 3)];
    expected.sort();
    end_minute().await;
    let mut first = until(&server, &admin, 3).await;
    first.sort();
    assert_eq!(first, expected);

    // The next minute is entries of its own, and one without reads is none.
    read(&one, "notes", "count").await;
    end_minute().await;
    let second = until(&server, &admin, 4).await;
    assert_eq!(second.last(), Some(&said(&one, "notes", 1)));
    end_minute().await;
    assert_eq!(reads(&server, &admin).await.len(), 4);
    assert_eq!(until(&server, &stranger, 1).await, [said(&stranger, "notes", 1)]);
}
