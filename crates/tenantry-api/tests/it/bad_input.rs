//! Whatever is sent, the answer is a clear 4xx, and nothing is left behind.

use crate::server::{Server, records};
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tenantry_engine::Limits;

/// A server with a collection of two dimensions that holds one record.
async fn start() -> (Server, String) {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.collection(&key, "notes").await;
    let row = json!({"records": [{"id": "a", "vector": [1, 2]}]});
    server.call(&key, &records("notes", "add"), row).await.expect(200);
    (server, key)
}

#[tokio::test]
async fn a_bad_write_is_refused_with_its_reason() {
    let (server, key) = start().await;
    let many: Vec<_> =
        (0..=Limits::BATCH_RECORDS_MAX).map(|i| json!({"id": i.to_string()})).collect();
    let many = json!({ "records": many }).to_string();
    let wide = format!(r#"{{"records":[{{"id":"b","vector":[{}0]}}]}}"#, "0,".repeat(16_384));
    let row = |members: &str| format!(r#"{{"records":[{{"id":"b",{members}}}]}}"#);
    let keys: Vec<_> = (0..=1_024).map(|i| format!(r#""k{i}":1"#)).collect();
    let keys = row(&format!(r#""metadata":{{{}}}"#, keys.join(",")));
    let long_id = format!(r#"{{"records":[{{"id":"{}"}}]}}"#, "x".repeat(8_193));
    for (text, status, expect) in [
        ("", 400, "missing field `records`"),
        ("{", 400, "EOF while parsing an object at line 1 column 1"),
        ("nonsense", 400, "line 1 column 2"),
        ("[]", 400, "invalid type: sequence"),
        ("null", 400, "line 1 column"),
        (r#"{"records":[]} x"#, 400, "trailing characters"),
        (r#"{"records":[],"recods":[]}"#, 400, "unknown field `recods`"),
        (r#"{"records":[],"records":[]}"#, 400, "duplicate field `records`"),
        (r#"{"records":{}}"#, 400, "expected a sequence"),
        (r#"{"records":[{}]}"#, 400, "missing field `id`"),
        (r#"{"records":[{"id":1}]}"#, 400, "expected a string"),
        (r#"{"records":[{"id":"b"},{"id":""}]}"#, 400, "records[1]: "),
        (r#"{"records":[{"id":"b"},{"id":"b"}]}"#, 400, "occurs twice"),
        (r#"{"records":[],"on_existing":"replace"}"#, 400, "unknown variant `replace`"),
        (&long_id, 400, "8193 bytes"),
        (&row(r#""vector":[NaN,1]"#), 400, "line 1 column"),
        (&row(r#""vector":[Infinity,1]"#), 400, "line 1 column"),
        (&row(r#""vector":[1e39,1]"#), 400, "number out of range"),
        (&row(r#""vector":[1e999,1]"#), 400, "number out of range"),
        (&row(r#""vector":[null,1]"#), 400, "invalid type: null"),
        (&row(r#""vector":["1",1]"#), 400, "invalid type: string"),
        (&row(r#""vector":[[1,1]]"#), 400, "invalid type: sequence"),
        (&row(r#""vector":[]"#), 400, "dimension of 1 to 16384"),
        (&row(r#""vector":[1,2,3]"#), 400, "dimension"),
        (&row(r#""embedding":[1,2]"#), 400, "unknown field `embedding`"),
        (&row(r#""document":1"#), 400, "invalid type: integer"),
        (&row(r#""metadata":[]"#), 400, "an object of metadata"),
        (&row(r#""metadata":{"a":{"b":1}}"#), 400, "a text, a number or a truth value"),
        (&row(r#""metadata":{"a":[1,"x"]}"#), 400, "one kind"),
        (&row(r#""metadata":{"a":[1,1.0]}"#), 400, "one kind"),
        (&row(r#""metadata":{"a":[[1]]}"#), 400, "must not hold lists"),
        (&row(r#""metadata":{"a":1,"a":2}"#), 400, "stands twice"),
        (&row(r#""metadata":{"":1}"#), 400, "1 to 1024 bytes"),
        (&row(r#""metadata":{"a":18446744073709551615}"#), 400, "64 signed bits"),
        (&keys, 413, "1025 keys"),
        (&wide, 400, "dimension of 1 to 16384"),
        (&many, 413, "10001 records"),
    ] {
        let kind = if status == 413 { "too_large" } else { "invalid" };
        let why = server.call_text(&key, &records("notes", "add"), text.to_owned()).await;
        let why = why.refused(status, kind);
        assert!(why.contains(expect), "{}\n said {why}", &text[..text.len().min(200)]);
    }
    let count = server.call(&key, &records("notes", "count"), Value::Null).await.expect(200);
    assert_eq!(count, json!({"count": 1}), "nothing is left behind");
}

#[tokio::test]
async fn a_bad_read_is_refused_with_its_reason() {
    let (server, key) = start().await;
    let terms: Vec<_> = (0..10_000).map(|i| json!({ "a": i })).collect();
    let listed: Vec<_> = (0..10_000).collect();
    let nested = |levels| {
        format!(r#"{{"filter":{}{{"a":1}}{}}}"#, r#"{"$not":"#.repeat(levels), "}".repeat(levels))
    };
    let brackets = |levels: usize| format!(r#"{{"filter":{}"#, "[".repeat(levels));
    let text = |value: Value| value.to_string();
    for (operation, body, status, expect) in [
        ("get", text(json!({"limit": 100_001})), 413, "at most 100000"),
        ("get", text(json!({"limit": -1})), 400, "expected usize"),
        ("get", text(json!({"offset": 1.5})), 400, "expected usize"),
        ("get", text(json!({"include": ["embedding"]})), 400, "unknown variant `embedding`"),
        ("get", text(json!({"order": {"by": "key"}})), 400, "needs a key"),
        ("get", text(json!({"order": {"by": "id", "key": "a"}})), 400, "only with by"),
        ("get", text(json!({"order": {"by": "size"}})), 400, "unknown variant `size`"),
        ("get", text(json!({"ids": ["a", ""]})), 400, "ids[1]: "),
        ("get", text(json!({"ids": "a"})), 400, "expected a sequence"),
        ("get", text(json!({"where": {}})), 400, "unknown field `where`"),
        ("get", text(json!({"filter": {"a": null}})), 400, "filter.a: null is no value"),
        ("get", text(json!({"filter": {"$nor": []}})), 400, "filter.$nor: unknown operator"),
        ("get", text(json!({"filter": {"a": {"$gt": true}}})), 400, "has no order"),
        ("get", text(json!({"filter": {"$document": {"$regex": "("}}})), 400, "unclosed group"),
        ("get", text(json!({"filter": {"$document": {"$regex": "x".repeat(5_000)}}})), 413, "4096"),
        ("get", text(json!({"filter": {"$or": terms}})), 413, "terms, at most 4096"),
        ("count", text(json!({"filter": {"a": {"$in": listed}}})), 413, "terms, at most 4096"),
        ("get", nested(65), 400, "nested deeper than 64 levels"),
        ("get", nested(100_000), 400, "recursion limit exceeded"),
        ("get", brackets(1_000_000), 400, "EOF while parsing"),
        ("get", text(json!({"filter": {"a": "x".repeat(1 << 20)}})), 400, "at most 1048576 bytes"),
        ("get", text(json!({"include": vec!["uri"; 17]})), 400, "at most 16 items"),
        ("delete", nested(100_000), 400, "recursion limit exceeded"),
        ("query", text(json!({})), 400, "missing field `vectors`"),
        ("query", text(json!({"vectors": [1, 2]})), 400, "invalid type: integer"),
        ("query", text(json!({"vectors": [[1]]})), 400, "dimension of 2, got 1"),
        ("query", text(json!({"vectors": [[1, 2]], "k": -1})), 400, "expected usize"),
        ("query", text(json!({"vectors": [[1, 2]], "k": 1_000_001})), 413, "at most 1000000"),
        ("query", text(json!({"vectors": vec![[1, 2]; 1_001]})), 413, "1001 vectors"),
        ("query", r#"{"vectors":[[1e39,0]]}"#.to_owned(), 400, "number out of range"),
    ] {
        let kind = if status == 413 { "too_large" } else { "invalid" };
        let why = server.call_text(&key, &records("notes", operation), body.clone()).await;
        let why = why.refused(status, kind);
        assert!(why.contains(expect), "{}\n said {why}", &body[..body.len().min(200)]);
    }
}

#[tokio::test]
async fn bad_administration_is_refused() {
    let (server, key) = start().await;
    let op = server.operator.clone();
    let label = "x".repeat(257);
    let settings = json!({"a": "x".repeat(65_537)});
    for (key, line, body, status) in [
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "weight": 0}), 400),
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "weight": 1_001}), 400),
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "weight": 70_000}), 400),
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "limits": {"keys": -1}}), 400),
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "limits": {"cpu": 1}}), 400),
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "id": 7}), 400),
        (&op, "POST /v1/admin/tenants", json!({"name": "t", "settings": settings}), 413),
        (&op, "PATCH /v1/admin/tenants/acme", json!({"state": "suspended"}), 400),
        (&op, "PATCH /v1/admin/tenants/nobody", json!({"limits": {"keys": 1}}), 404),
        (&op, "GET /v1/admin/tenants?limit=0", Value::Null, 400),
        (&op, "GET /v1/admin/tenants?limit=1001", Value::Null, 400),
        (&op, "GET /v1/admin/tenants?limit=x", Value::Null, 400),
        (&op, "GET /v1/admin/tenants?page=2", Value::Null, 400),
        (&op, "GET /v1/admin/tenants?after=%00", Value::Null, 400),
        (&op, "GET /v1/admin/audit?after=-1", Value::Null, 400),
        (&op, "POST /v1/admin/keys", json!({"label": label}), 400),
        (&key, "GET /v1/audit?limit=10001", Value::Null, 400),
        (&key, "GET /v1/databases?limit=0", Value::Null, 400),
        (&key, "POST /v1/keys", json!({}), 400),
        (&key, "POST /v1/keys", json!({"role": "owner"}), 400),
        (&key, "POST /v1/keys", json!({"role": "read", "label": label}), 400),
        (&key, "POST /v1/keys", json!({"role": "read", "filter": {"a": null}}), 400),
        (&key, "POST /v1/keys", json!({"role": "read", "tenant": "other"}), 400),
    ] {
        let kind = match status {
            404 => "not_found",
            413 => "too_large",
            _ => "invalid",
        };
        server.call(key, line, body).await.refused(status, kind);
    }
    let listed = server.call(&op, "GET /v1/admin/tenants", Value::Null).await.expect(200);
    assert_eq!(listed["tenants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_limit_of_the_tenant_is_told_apart() {
    let (server, key) = start().await;
    let op = server.operator.clone();
    let body = json!({"limits": {"collections": 1, "keys": 1, "records_per_collection": 1}});
    server.call(&op, "PATCH /v1/admin/tenants/acme", body).await.expect(200);
    let row = json!({"records": [{"id": "b"}]});
    for (line, body) in [
        ("POST /v1/databases/default_database/collections".to_owned(), json!({"name": "x"})),
        ("POST /v1/keys".to_owned(), json!({"role": "read"})),
        (records("notes", "add"), row),
    ] {
        server.call(&key, &line, body).await.refused(429, "limit_exceeded");
    }
}

#[tokio::test]
async fn a_body_that_is_no_text_or_not_json_is_refused() {
    let (server, key) = start().await;
    let line = records("notes", "add");
    let latin = b"{\"records\":[{\"id\":\"\xe9\"}]}".to_vec();
    let why = server.call_text(&key, &line, latin).await.refused(400, "invalid");
    assert!(why.contains("line 1 column"), "{why}");
    let surrogate = r#"{"records":[{"id":"\ud800"}]}"#;
    server.call_text(&key, &line, surrogate).await.refused(400, "invalid");

    let path = line.split_once(' ').unwrap().1;
    for declared in [Some("text/plain"), Some("application/x-www-form-urlencoded"), None] {
        let mut request = Request::post(path).header("x-api-key", &key);
        if let Some(declared) = declared {
            request = request.header("content-type", declared);
        }
        let answer = server.send(request.body(Body::from("{}")).unwrap()).await;
        answer.refused(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn an_oversized_body_is_refused() {
    let (server, key) = start().await;
    let line = records("notes", "add");
    let big = vec![b' '; Limits::BODY_BYTES_MAX + 1];
    let why = server.call_text(&key, &line, big).await.refused(413, "too_large");
    assert!(why.contains("41943040"), "{why}");
    let announced = Request::post(line.split_once(' ').unwrap().1)
        .header("x-api-key", &key)
        .header("content-type", "application/json")
        .header("content-length", Limits::BODY_BYTES_MAX + 1)
        .body(Body::from("{}"))
        .unwrap();
    server.send(announced).await.refused(413, "too_large");
    let mut full = br#"{"records":[]}"#.to_vec();
    full.resize(Limits::BODY_BYTES_MAX, b' ');
    server.call_text(&key, &line, full).await.expect(200);
}

/// By routes that have none as well, and by none before it is known who asks.
#[tokio::test]
async fn a_query_parameter_that_no_route_has_is_refused_by_its_name() {
    let (server, key) = start().await;
    let op = server.operator.clone();
    let signup = "POST /v1/signup".to_owned();
    for (key, line, there) in [
        (&key, "GET /v1/tenant".to_owned(), "none"),
        (&key, "HEAD /v1/tenant".to_owned(), ""),
        (&key, "GET /v1/databases".to_owned(), "limit, offset"),
        (&key, records("notes", "get"), "none"),
        (&key, "GET /v1/archive".to_owned(), "none"),
        (&op, "POST /v1/admin/tenants".to_owned(), "none"),
        (&op, "DELETE /v1/admin/tenants/acme".to_owned(), "now"),
        (&op, "GET /metrics".to_owned(), "none"),
        (&op, signup, "none"),
    ] {
        for query in ["lim%69t2=1", "x", "=", "a=1&lim%69t2=1"] {
            let answer = server.call(key, &format!("{line}?{query}"), Value::Null).await;
            assert_eq!(answer.status, 400, "{line}?{query}");
            if !there.is_empty() && query.starts_with("lim") {
                let why = answer.refused(400, "invalid");
                let says = format!("no query parameter [limit2] here; there are: {there}");
                assert!(why.contains(&says), "{line}: {why}");
            }
        }
    }
    server.call("tnt_a_b", "GET /v1/tenant?x=1", Value::Null).await.refused(401, "unauthenticated");
    for line in ["GET /healthz?x=1", "GET /openapi.json?v=2", "GET /v1/tenant?", "GET /v1/tenant?&"]
    {
        assert_eq!(server.call(&key, line, Value::Null).await.status, 200, "{line}");
    }
    server.call(&key, "GET /v1/nothing?x=1", Value::Null).await.refused(404, "not_found");
}
