//! Named vectors, and vectors that are rounded in memory, over the native protocol.

use crate::server::{Server, records};
use serde_json::{Value, json};

const COLLECTIONS: &str = "/v1/databases/default_database/collections";

/// A server with the collection `notes`, whose records may have three vectors.
async fn start() -> (Server, String) {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let body = json!({"name": "notes", "metric": "cosine", "storage": "int8", "vectors": {
        "title": {"metric": "l2", "dimension": 3, "storage": "half"},
        "image.v2": {},
    }});
    let made = server.call(&key, &format!("POST {COLLECTIONS}"), body).await.expect(201);
    assert_eq!((&made["metric"], &made["storage"]), (&json!("cosine"), &json!("int8")));
    let vectors = json!({
        "title": {"metric": "l2", "dimension": 3, "storage": "half"},
        "image.v2": {"metric": "l2", "dimension": null, "storage": "full"},
    });
    assert_eq!(made["vectors"], vectors);
    (server, key)
}

#[tokio::test]
async fn named_vectors_are_written_searched_and_read_back() {
    let (server, key) = start().await;
    let call = async |operation: &str, body: Value| {
        server.call(&key, &records("notes", operation), body).await.expect(200)
    };
    let title = [0.1, 0.2, -1e-7];
    call("add", json!({"records": [
        {"id": "a", "vector": [1.0, 0.300_000_01], "vectors": {"title": title}, "metadata": {"n": 1}},
        {"id": "b", "vectors": {"title": [9, 9, 9], "image.v2": [5]}, "metadata": {"n": 2}},
        {"id": "c", "vector": [0.0, 1.0]},
    ]}))
    .await;
    let both = ["vector", "vectors"];
    let got = call("get", json!({"include": both, "ids": ["a", "c"]})).await;
    let (a, c) = (&got["records"][0], &got["records"][1]);
    assert_eq!(a["vector"].to_string(), "[1.0,0.3]", "as given: the nearest f32");
    assert_eq!(a["vectors"].to_string(), r#"{"title":[0.1,0.2,-1e-7]}"#);
    assert!(c.get("vectors").is_none(), "a record without named vectors has no such member");
    let plain = call("get", json!({})).await;
    assert!(plain["records"].as_array().unwrap().iter().all(|one| one.get("vectors").is_none()));

    let ids = |found: &Value| -> Vec<String> {
        let hits = found["results"][0].as_array().unwrap();
        hits.iter().map(|hit| hit["id"].as_str().unwrap().to_owned()).collect()
    };
    let near = json!({"using": "title", "vectors": [[8, 8, 8]], "include": ["vectors"]});
    let found = call("query", near.clone()).await;
    assert_eq!(ids(&found), ["b", "a"]);
    assert_eq!(
        found["results"][0][0]["vectors"],
        json!({"title": [9.0, 9.0, 9.0], "image.v2": [5.0]})
    );
    assert!((found["results"][0][0]["distance"].as_f64().unwrap() - 3.0).abs() < 0.01);
    assert_eq!(ids(&call("query", json!({"vectors": [[1, 0]]})).await), ["a", "c"]);
    let filtered = json!({"using": "title", "vectors": [[8, 8, 8]], "filter": {"n": 1}});
    assert_eq!(ids(&call("query", filtered).await), ["a"]);

    // An update names one; the others stay.
    call("update", json!({"records": [{"id": "b", "vectors": {"image.v2": [6]}}]})).await;
    let got = call("get", json!({"include": both, "ids": ["b"]})).await;
    assert_eq!(got["records"][0]["vectors"], json!({"title": [9.0, 9.0, 9.0], "image.v2": [6.0]}));

    let shown = server.call(&key, &format!("GET {COLLECTIONS}/notes"), Value::Null).await;
    let shown = shown.expect(200);
    assert_eq!(
        (&shown["dimension"], &shown["vectors"]["image.v2"]["dimension"]),
        (&json!(2), &json!(1))
    );
    let line = format!("GET {COLLECTIONS}/notes/statistics");
    let memory = server.call_in("acme", &line, Value::Null).await.expect(200)["memory"].clone();
    let title = &memory["vectors"]["title"];
    assert_eq!(
        (&memory["pending"], &title["pending"], &title["linked"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert!(
        title["bytes"].as_u64() > Some(0)
            && memory["vectors_bytes"].as_u64() > title["bytes"].as_u64()
    );
}

#[tokio::test]
async fn bad_named_vectors_are_refused_with_their_reason() {
    let (server, key) = start().await;
    let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("v{n}"), json!({}))).collect();
    let make = |vectors: Value| json!({"name": "x", "vectors": vectors}).to_string();
    for (text, status, expect) in [
        (make(json!({"": {}})), 400, "must not be empty"),
        (make(json!({"a b": {}})), 400, "' ' is not allowed"),
        (make(json!({"x".repeat(65): {}})), 400, "65 bytes"),
        (make(json!({"a": {"dimension": 0}})), 400, "a dimension is 1 to 16384, got 0"),
        (make(json!({"a": {"dimension": 16_385}})), 400, "got 16385"),
        (make(json!({"a": {"dimension": -1}})), 400, "expected u32"),
        (make(json!({"a": {"metric": "dot"}})), 400, "unknown variant `dot`"),
        (make(json!({"a": {"storage": "f16"}})), 400, "unknown variant `f16`"),
        (make(json!({"a": {"size": 3}})), 400, "unknown field `size`"),
        (make(json!({"a": null})), 400, "invalid type: null"),
        (make(json!([])), 400, "a member for each named vector"),
        (make(many.into()), 413, "17 names, at most 16"),
        (r#"{"name":"x","vectors":{"a":{},"a":{}}}"#.to_owned(), 400, "stands twice"),
        (r#"{"name":"x","storage":"double"}"#.to_owned(), 400, "unknown variant `double`"),
    ] {
        let kind = if status == 413 { "too_large" } else { "invalid" };
        let why = server.call_text(&key, &format!("POST {COLLECTIONS}"), text.clone()).await;
        let why = why.refused(status, kind);
        assert!(why.contains(expect), "{text}\n said {why}");
    }
    let wide = format!("[{}0]", "0,".repeat(16_384));
    let write = |vectors: &str| format!(r#"{{"records":[{{"id":"b","vectors":{vectors}}}]}}"#);
    for (text, expect) in [
        (write(r#"{"titel":[1,2,3]}"#), r#"no vectors named "titel"; its named vectors: "image.v2", "title""#),
        (write(r#"{"title":[1,2]}"#), "have a dimension of 3, got 2"),
        (write(r#"{"title":[]}"#), "dimension of 1 to 16384, got 0"),
        (write(r#"{"title":[1,2,3],"title":[1,2,3]}"#), "stands twice"),
        (write(r#"{"title":null}"#), "invalid type: null"),
        (write(r#"{"title":[1,NaN,3]}"#), "line 1 column"),
        (write(r#"{"title":[1,1e39,3]}"#), "number out of range"),
        (write(r#"{"ti tle":[1,2,3]}"#), "is not allowed"),
        (write("[[1,2,3]]"), "a member for each named vector"),
        (write(&format!(r#"{{"image.v2":{wide}}}"#)), "dimension of 1 to 16384"),
        (
            r#"{"records":[{"id":"b","vectors":{"image.v2":[1]}},{"id":"c","vectors":{"image.v2":[1,2]}}]}"#
                .to_owned(),
            r#"record 1, vector "image.v2" has 2, the first has 1"#,
        ),
    ] {
        let why = server.call_text(&key, &records("notes", "upsert"), text.clone()).await;
        let why = why.refused(400, "invalid");
        assert!(why.contains(expect), "{}\n said {why}", &text[..text.len().min(200)]);
    }
    for (body, expect) in [
        (json!({"using": "titel", "vectors": [[1, 2, 3]]}), "no vectors named"),
        (json!({"using": "", "vectors": [[1, 2, 3]]}), "must not be empty"),
        (json!({"using": ["title"], "vectors": [[1, 2, 3]]}), "expected a string"),
        (json!({"using": "title", "vectors": [[1, 2]]}), "dimension of 3, got 2"),
    ] {
        let why = server.call(&key, &records("notes", "query"), body).await.refused(400, "invalid");
        assert!(why.contains(expect), "{why}");
    }
    let count = server.call(&key, &records("notes", "count"), Value::Null).await.expect(200);
    assert_eq!(count, json!({"count": 0}), "nothing is left behind");
}
