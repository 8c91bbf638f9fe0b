//! Add, upsert, update and delete.

use crate::server::Server;
use serde_json::{Value, json};

async fn all(collection: &crate::server::Collection<'_>) -> Value {
    let include = json!({"include": ["documents", "metadatas", "uris", "embeddings"]});
    collection.post("get", include).await.expect(200)
}

#[tokio::test]
async fn add_leaves_existing_records_alone() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let add = json!({"ids": ["a"], "embeddings": [[1, 2]], "documents": ["old"]});
    assert_eq!(made.post("add", add).await.expect(201), json!({}));
    let add = json!({"ids": ["b", "a"], "embeddings": [[3, 4], [5, 6]], "documents": ["b", "new"]});
    made.post("add", add).await.expect(201);
    let got = all(&made).await;
    assert_eq!(got["ids"], json!(["a", "b"]));
    assert_eq!(got["documents"], json!(["old", "b"]));
    assert_eq!(got["embeddings"], json!([[1.0, 2.0], [3.0, 4.0]]));
    assert_eq!(made.count().await, 2);
    assert_eq!(made.shown().await["dimension"], 2);
}

#[tokio::test]
async fn upsert_and_update_merge() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let add = json!({"ids": ["a"], "embeddings": ["AACAPwAAAEA="], "uris": ["u"],
        "metadatas": [{"keep": 1, "drop": 2, "list": ["x"], "change": 3}]});
    made.post("add", add).await.expect(201);
    let patch = json!([{"drop": null, "list": [], "change": "three", "new": 1.0}]);
    let update = json!({"ids": ["a"], "metadatas": patch, "documents": [""]});
    assert_eq!(made.post("update", update).await.expect(200), json!({}));
    let got = all(&made).await;
    assert_eq!(got["metadatas"], json!([{"keep": 1, "change": "three", "new": 1.0}]));
    assert_eq!((&got["documents"], &got["uris"]), (&json!([""]), &json!(["u"])));
    assert_eq!(got["embeddings"], json!([[1.0, 2.0]]));

    let update = json!({"ids": ["zz"], "documents": ["x"]});
    made.post("update", update).await.expect(200);
    let upsert =
        json!({"ids": ["a", "b"], "embeddings": [[3, 4], [5, 6]], "metadatas": [{}, null]});
    made.post("upsert", upsert).await.expect(200);
    let got = all(&made).await;
    assert_eq!(got["ids"], json!(["a", "b"]));
    assert_eq!(got["embeddings"], json!([[3.0, 4.0], [5.0, 6.0]]));
    assert_eq!(got["metadatas"][0], json!({"keep": 1, "change": "three", "new": 1.0}));
    assert_eq!(got["metadatas"][1], json!(null));

    // Removing the last key leaves none, not an empty map.
    let patch = json!([{"keep": null, "change": null, "new": null}]);
    made.post("update", json!({"ids": ["a"], "metadatas": patch})).await.expect(200);
    assert_eq!(all(&made).await["metadatas"][0], json!(null));
}

#[tokio::test]
async fn values_come_back_as_they_were() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let metadata = concat!(
        r#"{"b":true,"big":9.223372036854776e18,"f":0.1,"g":1.0,"i":9007199254740993,"#,
        r#""l":[1.0,2.5],"min":-9223372036854775808,"s":"ä\n\u0001🦀","t":["b","a","b"]}"#
    );
    let columns = r#""ids":["ü/?"],"embeddings":[[0.1,-1e-30]]"#;
    let body = format!(r#"{{{columns},"metadatas":[{metadata}]}}"#);
    made.post_text("add", &body).await.expect(201);
    let got = made.post("get", json!({"include": ["metadatas", "embeddings"]})).await;
    assert!(
        got.text.contains("9007199254740993") && got.text.contains("\"g\":1.0"),
        "{}",
        got.text
    );
    let got = got.expect(200);
    assert_eq!(got["ids"], json!(["ü/?"]));
    assert_eq!(got["metadatas"][0], serde_json::from_str::<Value>(metadata).unwrap());
    let floats: Vec<f32> = serde_json::from_value(got["embeddings"][0].clone()).unwrap();
    assert_eq!(floats, [0.1, -1e-30]);
}

#[tokio::test]
async fn an_integer_beyond_64_signed_bits_becomes_a_float() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let body = r#"{"ids":["a"],"embeddings":[[1]],"metadatas":[{"last":9223372036854775807,
        "above":9223372036854775809,"far":18446744073709551616}]}"#;
    made.post_text("add", body).await.expect(201);
    let got = made.post("get", json!({"include": ["metadatas"]})).await.expect(200);
    let got = &got["metadatas"][0];
    assert_eq!(got["last"], json!(i64::MAX));
    assert!(got["above"].is_f64() && got["far"].is_f64(), "{got}");
    assert_eq!(got["above"], json!(9_223_372_036_854_775_808.0));
}

#[tokio::test]
async fn bad_batches_are_refused_whole() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    made.post("add", json!({"ids": ["a"], "embeddings": [[1, 2]]})).await.expect(201);
    for (status, part, body) in [
        (400, "dimension", r#"{"ids":["b"],"embeddings":[[1]]}"#),
        (400, "dimension", r#"{"ids":["b"],"embeddings":[[]]}"#),
        (400, "Inconsistent dimensions", r#"{"ids":["b","c"],"embeddings":[[1,2],[1]]}"#),
        (400, "Inconsistent number", r#"{"ids":["b","c"],"embeddings":[[1,2]]}"#),
        (400, "twice", r#"{"ids":["b","b"],"embeddings":[[1,2],[1,2]]}"#),
        (400, "number out of range", r#"{"ids":["b"],"embeddings":[[1,1e39]]}"#),
        (400, "NaN or Infinity", r#"{"ids":["b"],"embeddings":["AACAPwAAwH8="]}"#),
        (400, "Invalid base64", r#"{"ids":["b"],"embeddings":["!!"]}"#),
        (400, "divisible", r#"{"ids":["b"],"embeddings":["AACAPwAA"]}"#),
        (400, "Empty ID", r#"{"ids":[""],"embeddings":[[1,2]]}"#),
        (400, "parse the request body", r#"{"ids":["b"],"embeddings":[[1,NaN]]}"#),
        (400, "index 0", r##"{"ids":["b"],"embeddings":[[1,2]],"metadatas":[{"#k":1}]}"##),
        (422, "embeddings", r#"{"ids":["b"]}"#),
        (422, "embeddings[0]", r#"{"ids":["b"],"embeddings":[null]}"#),
        (422, "metadatas[0].k", r#"{"ids":["b"],"embeddings":[[1,2]],"metadatas":[{"k":null}]}"#),
        (422, "metadatas[0].k", r#"{"ids":["b"],"embeddings":[[1,2]],"metadatas":[{"k":{}}]}"#),
        (
            501,
            "Sparse vector",
            r#"{"ids":["b"],"embeddings":[[1,2]],"metadatas":[{"k":{"indices":[],"values":[]}}]}"#,
        ),
    ] {
        let kind = if status == 400 { "InvalidArgumentError" } else { "ChromaError" };
        let text = made.post_text("add", body).await.refused(status, kind);
        assert!(text.contains(part), "{body}: {text}");
    }
    assert_eq!(made.count().await, 1);
    made.post("add", json!({"ids": [], "embeddings": []})).await.expect(201);
}

#[tokio::test]
async fn deletes_are_counted_and_limited() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let ids: Vec<String> = (0..10).map(|i| format!("r{i}")).collect();
    let metadatas: Vec<Value> = (0..10).map(|i| json!({"odd": i % 2 == 1})).collect();
    let vectors = vec![json!([1, 2]); 10];
    let add = json!({"ids": ids, "embeddings": vectors, "metadatas": metadatas});
    made.post("add", add).await.expect(201);
    let delete = async |body: Value| made.post("delete", body).await;

    assert_eq!(delete(json!({})).await.expect(200), json!({"deleted": 0}));
    assert_eq!(delete(json!({"ids": ["r0", "zz", "r0", ""]})).await.expect(200)["deleted"], 1);
    let odd = json!({"odd": true});
    assert_eq!(delete(json!({"where": odd, "limit": 0})).await.expect(200)["deleted"], 0);
    assert_eq!(delete(json!({"where": odd, "limit": 2})).await.expect(200)["deleted"], 2);
    let both = json!({"ids": ["r5", "r2"], "where": odd});
    assert_eq!(delete(both).await.expect(200)["deleted"], 1);
    assert_eq!(made.ids(json!({})).await, json!(["r2", "r4", "r6", "r7", "r8", "r9"]));
    delete(json!({"ids": []})).await.refused(400, "InvalidArgumentError");
    delete(json!({"ids": ["r2"], "limit": 1})).await.refused(400, "InvalidArgumentError");
    delete(json!({"where": {}})).await.refused(400, "InvalidArgumentError");
    assert_eq!(made.count().await, 6);
}
