//! Records: write, get, count, delete, query.

use crate::server::{Answer, Server, records};
use serde_json::{Value, json};

struct Notes {
    server: Server,
    key: String,
}

impl Notes {
    async fn start() -> Self {
        let server = Server::start().await;
        let key = server.tenant("acme").await;
        server.collection(&key, "notes").await;
        Self { server, key }
    }

    /// Four records on a line.
    async fn filled() -> Self {
        let notes = Self::start().await;
        let body = json!({"records": [
            {"id": "a", "vector": [1.0, 0.0], "document": "red apple", "uri": "u:a",
             "metadata": {"n": 1, "kind": "fruit"}},
            {"id": "b", "vector": [2.0, 0.0], "document": "green pear",
             "metadata": {"n": 2.5, "kind": "fruit", "tags": ["x", "y"]}},
            {"id": "c", "vector": [3.0, 0.0], "metadata": {"n": 3, "kind": "stone"}},
            {"id": "d", "vector": [4.0, 0.0]},
        ]});
        let done = notes.call("add", body).await.expect(200);
        assert_eq!(done["inserted"], 4);
        notes
    }

    async fn call(&self, operation: &str, body: Value) -> Answer {
        self.server.call(&self.key, &records("notes", operation), body).await
    }

    async fn ids(&self, body: Value) -> Vec<String> {
        ids(&self.call("get", body).await.expect(200)["records"])
    }
}

fn ids(records: &Value) -> Vec<String> {
    records.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn what_is_added_comes_back_as_it_was() {
    let notes = Notes::start().await;
    let metadata = json!({"b": true, "f": 1.0, "i": 1, "l": ["p", "q"], "big": i64::MAX,
        "precise": 0.1_f64 + 0.2, "s": "é\u{0}"});
    let body = json!({"records": [{"id": "x/y", "vector": [0.1, -2.5e-8], "document": "",
        "uri": "https://example.org", "metadata": metadata}]});
    let done = notes.call("add", body).await.expect(200);
    let all = ["vector", "document", "uri", "metadata"];
    let got = notes.call("get", json!({"include": all})).await.expect(200);
    let record = &got["records"][0];
    assert_eq!(record["id"], "x/y");
    assert_eq!(record["vector"].to_string(), "[0.1,-2.5e-8]");
    assert_eq!(record["document"], "");
    assert_eq!(record["uri"], "https://example.org");
    assert_eq!(record["metadata"], metadata);
    assert_eq!(record["version"], done["version"]);
    let bare = notes.call("get", json!({"include": []})).await.expect(200);
    assert_eq!(bare["records"][0], json!({"id": "x/y", "version": done["version"]}));
    let line = "GET /v1/databases/default_database/collections/notes";
    let shown = notes.server.call(&notes.key, line, Value::Null).await.expect(200);
    assert_eq!(shown["dimension"], 2);
}

#[tokio::test]
async fn clashes_are_refused_or_left_out() {
    let notes = Notes::filled().await;
    let both = json!([{"id": "a", "document": "other"}, {"id": "new"}]);
    notes.call("add", json!({"records": both})).await.refused(409, "already_exists");
    notes.call("update", json!({"records": both})).await.refused(404, "not_found");
    let count = notes.call("count", Value::Null).await.expect(200);
    assert_eq!(count, json!({"count": 4}), "a refused batch leaves nothing behind");

    let body = json!({"records": both, "on_existing": "skip"});
    let done = notes.call("add", body).await.expect(200);
    assert_eq!((&done["inserted"], &done["skipped"]), (&json!(1), &json!(1)));
    let body = json!({"records": [{"id": "a", "metadata": {"n": null, "m": 7}}, {"id": "zz"}],
        "on_missing": "skip"});
    let done = notes.call("update", body).await.expect(200);
    assert_eq!((&done["updated"], &done["skipped"]), (&json!(1), &json!(1)));
    let got = notes.call("get", json!({"ids": ["a"]})).await.expect(200);
    assert_eq!(got["records"][0]["metadata"], json!({"kind": "fruit", "m": 7}));
    assert_eq!(got["records"][0]["document"], "red apple");

    let body = json!({"records": [{"id": "a", "document": "blue"}, {"id": "e"}]});
    let done = notes.call("upsert", body).await.expect(200);
    assert_eq!((&done["inserted"], &done["updated"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn records_are_selected_ordered_and_cut() {
    let notes = Notes::filled().await;
    assert_eq!(notes.ids(Value::Null).await, ["a", "b", "c", "d"]);
    assert_eq!(notes.ids(json!({"ids": ["c", "nobody", "a"]})).await, ["a", "c"]);
    assert_eq!(notes.ids(json!({"limit": 2, "offset": 1})).await, ["b", "c"]);
    assert_eq!(notes.ids(json!({"limit": 0})).await.len(), 0);
    let by = |order: Value| json!({ "order": order });
    assert_eq!(notes.ids(by(json!({"by": "id"}))).await, ["a", "b", "c", "d"]);
    let order = json!({"by": "key", "key": "n", "descending": true});
    assert_eq!(notes.ids(by(order)).await, ["c", "b", "a", "d"]);
    let order = json!({"by": "key", "key": "kind"});
    assert_eq!(notes.ids(by(order)).await, ["a", "b", "c", "d"]);
}

#[tokio::test]
async fn filters_select_by_metadata_and_text() {
    let notes = Notes::filled().await;
    for (filter, expect) in [
        (json!({}), &["a", "b", "c", "d"][..]),
        (json!({"kind": "fruit"}), &["a", "b"]),
        (json!({"kind": {"$ne": "fruit"}}), &["c", "d"]),
        (json!({"n": {"$gte": 2, "$lt": 3}}), &["b"]),
        (json!({"n": {"$in": [1, 3.0]}}), &["a", "c"]),
        (json!({"n": {"$nin": [1]}}), &["b", "c", "d"]),
        (json!({"tags": {"$contains": "x"}}), &["b"]),
        (json!({"tags": {"$not_contains": "x"}}), &["a", "c", "d"]),
        (json!({"n": {"$exists": false}}), &["d"]),
        (json!({"$or": [{"kind": "stone"}, {"n": 1}]}), &["a", "c"]),
        (json!({"$not": {"kind": "fruit"}}), &["c", "d"]),
        (json!({"$document": {"$contains": "apple"}}), &["a"]),
        (json!({"$document": {"$regex": "^green"}}), &["b"]),
        (json!({"$document": {"$not_regex": "^green"}}), &["a", "c", "d"]),
        (json!({"kind": "fruit", "$document": {"$not_contains": "red"}}), &["b"]),
        (json!({"$or": []}), &[]),
    ] {
        assert_eq!(notes.ids(json!({"filter": filter})).await, expect, "{filter}");
        let count = notes.call("count", json!({"filter": filter})).await.expect(200);
        assert_eq!(count["count"], expect.len(), "{filter}");
    }
}

#[tokio::test]
async fn deletion_wants_to_be_told_what() {
    let notes = Notes::filled().await;
    for nothing in [
        json!({}),
        Value::Null,
        json!({"filter": {}}),
        json!({"limit": 1}),
        json!({"filter": {"$and": []}}),
        json!({"filter": {"$and": [{}, {"$not": {"$or": []}}]}}),
    ] {
        let why = notes.call("delete", nothing).await.refused(400, "invalid");
        assert!(why.contains("ids or a filter"), "{why}");
    }
    let body = json!({"filter": {"kind": "fruit"}, "limit": 1});
    assert_eq!(notes.call("delete", body).await.expect(200), json!({"deleted": 1}));
    assert_eq!(notes.ids(Value::Null).await, ["b", "c", "d"]);
    let body = json!({"ids": ["c", "nobody"]});
    assert_eq!(notes.call("delete", body).await.expect(200), json!({"deleted": 1}));
    let body = json!({"ids": ["b"], "filter": {"$and": []}});
    assert_eq!(notes.call("delete", body).await.expect(200), json!({"deleted": 1}));
}

#[tokio::test]
async fn a_query_finds_the_nearest() {
    let notes = Notes::filled().await;
    let body = json!({"vectors": [[1.0, 0.0], [4.0, 1.0]], "k": 2, "include": ["vector"]});
    let found = notes.call("query", body).await.expect(200);
    let results = found["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    assert_eq!(ids(&results[0]), ["a", "b"]);
    assert_eq!(ids(&results[1]), ["d", "c"]);
    assert_eq!(results[0][1]["distance"], 1.0);
    assert_eq!(results[1][0]["distance"], 1.0);
    assert_eq!(results[1][0]["vector"], json!([4.0, 0.0]));
    assert!(results[0][0].get("document").is_none());

    let body = json!({"vectors": [[4.0, 0.0]], "filter": {"kind": "fruit"}});
    let found = notes.call("query", body).await.expect(200);
    assert_eq!(ids(&found["results"][0]), ["b", "a"]);
    assert_eq!(found["results"][0][0]["document"], "green pear");
    let body = json!({"vectors": [[4.0, 0.0]], "ids": ["a", "nobody"]});
    assert_eq!(ids(&notes.call("query", body).await.expect(200)["results"][0]), ["a"]);
    let empty = notes.call("query", json!({"vectors": []})).await.expect(200);
    assert_eq!(empty, json!({"results": []}));
}

#[tokio::test]
async fn large_batches_and_answers_take_the_long_way_round() {
    let notes = Notes::start().await;
    let rows: Vec<_> = (0..3_000)
        .map(|i| json!({"id": format!("r{i}"), "vector": vec![0.25; 32], "metadata": {"i": i}}))
        .collect();
    let done = notes.call("add", json!({ "records": rows })).await.expect(200);
    assert_eq!(done["inserted"], 3_000);
    let got = notes.call("get", json!({"limit": 5_000, "include": ["vector"]})).await.expect(200);
    assert_eq!(got["records"].as_array().unwrap().len(), 3_000);
    assert_eq!(got["records"][2_999]["vector"], json!(vec![0.25; 32]));
    assert_eq!(notes.ids(json!({})).await.len(), 1_000, "a get without a limit is cut");
}

#[tokio::test]
async fn a_query_is_explained_to_who_asks() {
    let notes = Notes::filled().await;
    let (server, own) = (&notes.server, json!({"records": 4, "memory": null}));
    let line = "GET /v1/databases/default_database/collections/notes/statistics";
    let read = async || server.call(&notes.key, line, Value::Null).await.expect(200);
    let inside = async || server.call_in("acme", line, Value::Null).await.expect(200);
    assert_eq!((read().await, inside().await), (own.clone(), own.clone()));
    let body = json!({"vectors": [[4.0, 0.0]], "filter": {"kind": "fruit"}, "explain": true});
    let ask = async || {
        let asked = server.call_in("acme", &records("notes", "query"), body.clone()).await;
        asked.expect(200)["explain"].clone()
    };
    let first = ask().await;
    assert!(first["waited_us"].is_u64() && first["hot"] == json!(false), "{first}");
    let told = notes.call("query", body.clone()).await.expect(200);
    let explain = &told["explain"];
    assert_eq!(explain["allowed"], json!(2));
    assert_eq!(explain["searches"][0]["plan"], "exact_allowed");
    assert!(explain["cpu_us"].is_u64());
    // How long it waited says what neighbours do, and so does what is in memory.
    assert_eq!((explain.get("waited_us"), explain.get("hot")), (None, None));
    assert_eq!(ask().await["hot"], json!(true));
    let plain = json!({"vectors": [[4.0, 0.0]], "exact": true});
    assert!(notes.call("query", plain).await.expect(200).get("explain").is_none());
    assert_eq!(read().await, own);
    let memory = &inside().await["memory"];
    assert!(memory["rows_bytes"].as_u64().unwrap() > 100, "{memory}");
    assert!(memory["vectors_bytes"].as_u64().unwrap() > 0, "{memory}");
    assert_eq!((&memory["linked"], &memory["pending"]), (&json!(0), &json!(4)));
    assert_eq!(memory["recall"], Value::Null);
}
