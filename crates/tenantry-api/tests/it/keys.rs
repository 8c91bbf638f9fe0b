//! A tenant's keys and its audit log.

use crate::server::{Server, key_of, records};
use axum::http::Request;
use serde_json::{Value, json};
use std::collections::HashSet;
use tenantry_engine::{
    AuditBinding, AuditEntry, AuditEvent, AuditOutcome, AuditReason, RequestId, Timestamp,
};

#[tokio::test]
async fn a_key_is_shown_once() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let body = json!({"role": "read", "label": "app"});
    let made = server.call(&admin, "POST /v1/keys", body).await.expect(201);
    let key = key_of(&made);
    assert!(key.starts_with(&format!("tnt_{}_", made["id"].as_str().unwrap())));
    assert_eq!((&made["role"], &made["label"]), (&json!("read"), &json!("app")));
    assert_eq!(made["limited_to"], Value::Null);
    let listed = server.call(&admin, "GET /v1/keys", Value::Null).await.expect(200);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("tnt_") && !listed.to_string().contains("hash"));
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let made = server.call(&admin, "POST /v1/keys", json!({"role": "read"})).await.expect(201);
    let key = key_of(&made);
    server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    let line = format!("DELETE /v1/keys/{}", made["id"].as_str().unwrap());
    let other = server.tenant("other").await;
    server.call(&other, &line, Value::Null).await.refused(404, "not_found");
    server.call(&admin, &line, Value::Null).await.expect(204);
    server.call(&key, "GET /v1/tenant", Value::Null).await.refused(401, "unauthenticated");
    server.call(&admin, &line, Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_key_expires() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let key = server.key(&admin, json!({"role": "read", "expires_in_s": 10})).await;
    server.clock.advance_ms(9_999);
    server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    server.clock.advance_ms(1);
    server.call(&key, "GET /v1/tenant", Value::Null).await.refused(401, "unauthenticated");
    for bad in [
        json!({"role": "read", "expires_at_ms": 1}),
        json!({"role": "read", "expires_in_s": 0}),
        json!({"role": "read", "expires_in_s": 1, "expires_at_ms": 9_000_000_000_000_u64}),
    ] {
        server.call(&admin, "POST /v1/keys", bad).await.refused(400, "invalid");
    }
}

#[tokio::test]
async fn roles_are_a_ladder() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.collection(&admin, "notes").await;
    let reader = server.key(&admin, json!({"role": "read"})).await;
    let writer = server.key(&admin, json!({"role": "write"})).await;
    let add = records("notes", "add");
    let row = json!({"records": [{"id": "a"}]});
    server.call(&reader, &add, row.clone()).await.refused(403, "denied");
    server.call(&writer, &add, row).await.expect(200);
    let counted = server.call(&reader, &records("notes", "count"), Value::Null).await.expect(200);
    assert_eq!(counted, json!({"count": 1}));
    for key in [&reader, &writer] {
        for (line, body) in [
            ("POST /v1/databases", json!({"name": "x"})),
            ("POST /v1/keys", json!({"role": "admin"})),
            ("GET /v1/keys", Value::Null),
            ("GET /v1/audit", Value::Null),
            ("GET /v1/usage", Value::Null),
        ] {
            server.call(key, line, body).await.refused(403, "denied");
        }
    }
}

#[tokio::test]
async fn a_limited_key_reaches_its_objects_only() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    for database in ["open", "half", "shut"] {
        server.call(&admin, "POST /v1/databases", json!({"name": database})).await.expect(201);
        for name in ["one", "two"] {
            let line = format!("POST /v1/databases/{database}/collections");
            server.call(&admin, &line, json!({"name": name})).await.expect(201);
        }
    }
    let body = json!({"role": "write", "databases": ["open"],
        "collections": [{"database": "half", "collection": "one"}]});
    let made = server.call(&admin, "POST /v1/keys", body).await.expect(201);
    let expect = json!({"databases": ["open"], "unlisted": 0,
        "collections": [{"database": "half", "collection": "one"}]});
    assert_eq!(made["limited_to"], expect);
    let key = key_of(&made);

    let names = |listed: &Value, what: &str| -> Vec<String> {
        let all = listed[what].as_array().unwrap();
        all.iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    let listed = server.call(&key, "GET /v1/databases", Value::Null).await.expect(200);
    assert_eq!(names(&listed, "databases"), ["half", "open"]);
    let line = "GET /v1/databases/half/collections";
    let listed = server.call(&key, line, Value::Null).await.expect(200);
    assert_eq!(names(&listed, "collections"), ["one"]);
    for (path, status) in [("open/collections/two", 200), ("half/collections/one", 200)] {
        server.call(&key, &format!("GET /v1/databases/{path}"), Value::Null).await.expect(status);
    }
    for path in ["shut", "half/collections/two", "shut/collections/one"] {
        let answer = server.call(&key, &format!("GET /v1/databases/{path}"), Value::Null).await;
        answer.refused(404, "not_found");
    }
    // A namesake made later is another object.
    server.call(&admin, "DELETE /v1/databases/half/collections/one", Value::Null).await.expect(204);
    let body = json!({"name": "one"});
    server.call(&admin, "POST /v1/databases/half/collections", body).await.expect(201);
    let line = "GET /v1/databases/half/collections/one";
    server.call(&key, line, Value::Null).await.refused(404, "not_found");
    let listed = server.call(&admin, "GET /v1/keys", Value::Null).await.expect(200);
    let limited = listed["keys"].as_array().unwrap().iter().find(|k| !k["limited_to"].is_null());
    assert_eq!(limited.unwrap()["limited_to"]["unlisted"], 1);

    let body = json!({"role": "read", "databases": ["nowhere"]});
    server.call(&admin, "POST /v1/keys", body).await.refused(404, "not_found");
}

#[tokio::test]
async fn an_empty_limit_makes_no_unlimited_key() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.collection(&admin, "notes").await;
    let note = json!([{"database": "default_database", "collection": "notes"}]);
    for (limits, names, says) in [
        (json!({"databases": []}), "databases: ", "leave it out to make an unlimited key"),
        (json!({"databases": [], "collections": []}), "databases: ", "leave it out"),
        (json!({"collections": []}), "collections: ", "leave it out to make an unlimited key"),
        (json!({"databases": [], "collections": note}), "databases: ", "none or any"),
        (
            json!({"databases": ["default_database"], "collections": []}),
            "collections: ",
            "none or any",
        ),
        (json!({"databases": [], "filter": {"a": 1}}), "databases: ", "leave it out"),
        (json!({"databases": null}), "invalid type: null", ""),
        (json!({"collections": null}), "invalid type: null", ""),
        (json!({"filter": null}), "filter: ", "not null"),
        (json!({"filter": {}}), "filter: ", "leave it out to make an unlimited key"),
        (json!({"filter": {"$and": []}}), "filter: ", "narrows nothing"),
        (json!({"filter": {"$and": [{}, {"$and": []}]}}), "filter: ", "narrows nothing"),
        (json!({"filter": {"$or": [{"a": 1}, {}]}}), "filter: ", "narrows nothing"),
        (json!({"filter": {"$not": {"$or": []}}}), "filter: ", "narrows nothing"),
        (json!({"filter": {"$not": {"a": {"$in": []}}}}), "filter: ", "narrows nothing"),
        (json!({"filter": {"a": {"$nin": []}}}), "filter: ", "narrows nothing"),
    ] {
        let mut body = limits;
        body["role"] = json!("read");
        let why = server.call(&admin, "POST /v1/keys", body.clone()).await.refused(400, "invalid");
        assert!(why.contains(names) && why.contains(says), "{body}: {why}");
    }
    let listed = server.call(&admin, "GET /v1/keys", Value::Null).await.expect(200);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1, "only the administrator's");
    for limits in [
        json!({"databases": ["default_database"]}),
        json!({"collections": note}),
        json!({"filter": {"$and": [{}, {"a": 1}]}}),
        // These reach nothing, which is not everything.
        json!({"filter": {"$or": []}}),
        json!({"filter": {"a": {"$in": []}}}),
    ] {
        let mut body = limits;
        body["role"] = json!("read");
        let made = server.call(&admin, "POST /v1/keys", body).await.expect(201);
        assert!(!made["limited_to"].is_null() || !made["filter"].is_null(), "{made}");
    }
}

#[tokio::test]
async fn a_key_with_a_filter_reaches_matching_records_only() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.collection(&admin, "notes").await;
    let rows = json!({"records": [
        {"id": "a", "vector": [1.0], "metadata": {"user": "ann"}},
        {"id": "b", "vector": [2.0], "metadata": {"user": "bob"}},
    ]});
    server.call(&admin, &records("notes", "add"), rows).await.expect(200);
    let filter = json!({"user": {"$eq": "ann"}});
    let made = server
        .call(&admin, "POST /v1/keys", json!({"role": "write", "filter": {"user": "ann"}}))
        .await
        .expect(201);
    assert_eq!(made["filter"], filter);
    let key = key_of(&made);
    let got = server.call(&key, &records("notes", "get"), Value::Null).await.expect(200);
    assert_eq!(got["records"].as_array().unwrap().len(), 1);
    let body = json!({"vectors": [[2.0]]});
    let found = server.call(&key, &records("notes", "query"), body).await.expect(200);
    assert_eq!(found["results"][0].as_array().unwrap().len(), 1);
    assert_eq!(found["results"][0][0]["id"], "a");
    let body = json!({"ids": ["b"]});
    let deleted = server.call(&key, &records("notes", "delete"), body).await.expect(200);
    assert_eq!(deleted["deleted"], 0);
    let foreign = json!({"records": [{"id": "c", "metadata": {"user": "bob"}}]});
    server.call(&key, &records("notes", "add"), foreign).await.refused(403, "denied");
}

#[tokio::test]
async fn the_audit_log_is_a_chain_that_the_tenant_can_verify() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.collection(&admin, "notes").await;
    let rows = json!({"records": [{"id": "a"}, {"id": "b"}]});
    server.call(&admin, &records("notes", "add"), rows).await.expect(200);
    let mut entries = Vec::new();
    let mut after = 0;
    loop {
        let line = format!("GET /v1/audit?limit=2&after={after}");
        let page = server.call(&admin, &line, Value::Null).await.expect(200);
        entries.extend(page["entries"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_u64() else { break };
        after = next;
    }
    let actions: Vec<_> = entries.iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert!(
        actions.contains(&"key.create") && actions.contains(&"collection.create"),
        "{actions:?}"
    );
    let write = entries.iter().find(|e| e["count"] == 2).unwrap();
    assert!(write["actor"].as_str().unwrap().starts_with("key:"), "{write}");

    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap().to_owned();
    let mut previous = [0; 32];
    for (index, entry) in entries.iter().enumerate() {
        assert_eq!(entry["sequence"], index + 1);
        assert_eq!(entry["outcome"], "done", "no refusals are made here");
        let event = AuditEvent {
            actor: text(entry, "actor"),
            action: text(entry, "action"),
            target: text(entry, "target"),
            outcome: AuditOutcome::Done,
            count: entry["count"].as_u64().unwrap(),
        };
        // It is there, and null if there was no request.
        let request = entry.as_object().unwrap()["request_id"].as_str().and_then(RequestId::parse);
        let reason = AuditReason::from_word(&text(entry, "reason")).unwrap();
        let binding = AuditBinding { origin: bytes(&text(entry, "origin")), reason, request };
        let at = Timestamp(entry["at_ms"].as_u64().unwrap());
        previous = AuditEntry::chain_bound(&previous, index as u64 + 1, at, &event, &binding);
        assert_eq!(bytes(&text(entry, "hash")), previous);
    }
    let origins: HashSet<_> = entries.iter().map(|entry| text(entry, "origin")).collect();
    assert_eq!(origins.len(), 1);
}

fn bytes(digits: &str) -> [u8; 32] {
    assert_eq!(digits.len(), 64);
    std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
}

#[tokio::test]
async fn the_audit_log_says_the_ids_of_requests() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.collection(&admin, "notes").await;
    let call = async |id: &str, line: &str, body: Value| {
        let (method, path) = line.split_once(' ').unwrap();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {admin}"))
            .header("content-type", "application/json")
            .header("x-tenant-id", "acme")
            .header("x-request-id", id);
        server.send(request.body(body.to_string().into()).unwrap()).await
    };
    let add = records("notes", "add");
    call("mine-1", &add, json!({"records": [{"id": "a"}]})).await.expect(200);
    // One that is not sane is replaced, here as in the answer.
    let answer = call("not sane", &add, json!({"records": [{"id": "b"}]})).await;
    let made = answer.headers["x-request-id"].to_str().unwrap().to_owned();
    answer.expect(200);
    let log = server.call(&admin, "GET /v1/audit?limit=1000", Value::Null).await.expect(200);
    let entries = log["entries"].as_array().unwrap().iter();
    let added: Vec<_> = entries.filter(|e| e["action"] == "records.add").collect();
    let ids: Vec<_> = added.iter().map(|e| e["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["mine-1", &made]);
}
