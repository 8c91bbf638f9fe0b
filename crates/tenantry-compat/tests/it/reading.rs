//! Get, query and count.

use crate::server::{Collection, Server};
use serde_json::{Value, json};
use tenantry_engine::{
    CollectionName, CollectionSpec, DatabaseName, GetRequest, Include, RecordId, RecordWrite,
    Select, Session, VectorName, VectorSpec, VectorStorage, Write, WriteMode,
};

async fn filled<'a>(server: &'a Server, key: &str, space: &str) -> Collection<'a> {
    let body = json!({"name": format!("in-{space}"), "configuration": {"hnsw": {"space": space}}});
    let made = server.made(key, body).await;
    let add = json!({
        "ids": ["z", "b", "a", "c"],
        "embeddings": [[1, 0], [0, 2], [3, 4], [-1, 0]],
        "documents": ["The Fox", null, "fox\nhole", "100%"],
        "metadatas": [{"i": 1, "s": "x"}, null, {"i": 2.5, "t": ["a", "b"]}, {"i": "1", "b": true}],
    });
    made.post("add", add).await.expect(201);
    made
}

#[tokio::test]
async fn get_keeps_the_order_of_insertion() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = filled(&server, &key, "l2").await;
    assert_eq!(made.ids(json!({})).await, json!(["z", "b", "a", "c"]));
    assert_eq!(made.ids(json!({"ids": ["a", "zz", "z", "a"]})).await, json!(["z", "a"]));
    assert_eq!(made.ids(json!({"ids": []})).await, json!([]));
    assert_eq!(made.ids(json!({"limit": 2, "offset": 1})).await, json!(["b", "a"]));
    assert_eq!(made.ids(json!({"limit": 0})).await, json!([]));
    made.post("delete", json!({"ids": ["z"]})).await.expect(200);
    let again = json!({"ids": ["z", "b"], "embeddings": [[1, 0], [0, 2]]});
    made.post("upsert", again).await.expect(200);
    assert_eq!(made.ids(json!({})).await, json!(["b", "a", "c", "z"]));
    assert_eq!(made.count().await, 4);
}

#[tokio::test]
async fn columns_are_shown_as_asked() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = filled(&server, &key, "l2").await;
    let got = made.post("get", json!({"ids": ["b"]})).await.expect(200);
    assert_eq!(
        got,
        json!({"ids": ["b"], "embeddings": null, "documents": [null], "uris": null,
            "metadatas": [null], "include": ["documents", "metadatas"]})
    );
    let got = made.post("get", json!({"ids": [], "include": ["uris", "distances"]})).await;
    assert_eq!(
        got.expect(200),
        json!({"ids": [], "embeddings": null, "documents": null, "uris": [], "metadatas": null,
            "include": ["uris", "distances"]})
    );
}

#[tokio::test]
async fn filters_choose() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = filled(&server, &key, "l2").await;
    for (filter, expected) in [
        (json!({"i": 1}), json!(["z"])),
        (json!({"i": 1.0}), json!(["z"])),
        (json!({"i": 1.5}), json!([])),
        (json!({"i": {"$lt": 1.5}}), json!(["z"])),
        (json!({"i": {"$gte": 1}}), json!(["z", "a"])),
        (json!({"i": "1"}), json!(["c"])),
        (json!({"i": {"$ne": 1}}), json!(["b", "a", "c"])),
        (json!({"i": {"$in": [1, 2]}}), json!(["z"])),
        (json!({"i": {"$nin": [1, 2]}}), json!(["b", "a", "c"])),
        (json!({"t": {"$contains": "a"}}), json!(["a"])),
        (json!({"t": {"$not_contains": "a"}}), json!(["z", "b", "c"])),
        (json!({"t": "a"}), json!([])),
        (json!({"$and": []}), json!(["z", "b", "a", "c"])),
        (json!({"$or": []}), json!([])),
        (json!({"$or": [{"b": true}, {"$and": [{"s": "x"}, {"i": 1}]}]}), json!(["z", "c"])),
        (json!({"#document": {"$contains": "ox"}}), json!(["z", "a"])),
        (json!({"": 1}), json!([])),
        (json!({"#x": 1}), json!([])),
    ] {
        assert_eq!(made.ids(json!({"where": filter})).await, expected, "{filter}");
    }
    for (filter, expected) in [
        (json!({"$contains": "ox"}), json!(["z", "a"])),
        (json!({"$contains": "%"}), json!(["c"])),
        (json!({"$contains": ""}), json!(["z", "a", "c"])),
        (json!({"$not_contains": "ox"}), json!(["b", "c"])),
        (json!({"$regex": "(?i)the f.x"}), json!(["z"])),
        (json!({"$regex": "fox.hole"}), json!([])),
        (json!({"$not_regex": "ox"}), json!(["b", "c"])),
        (json!({"$and": [{"$contains": "fox"}, {"$contains": "hole"}]}), json!(["a"])),
    ] {
        assert_eq!(made.ids(json!({"where_document": filter})).await, expected, "{filter}");
    }
    let both = json!({"where": {"i": {"$gt": 0}}, "where_document": {"$contains": "fox"}});
    assert_eq!(made.ids(both).await, json!(["a"]));
    let bad = made.post("get", json!({"where_document": {"$regex": "("}})).await;
    bad.refused(400, "InvalidArgumentError");
    let text = made.post("get", json!({"where": {}})).await.refused(400, "InvalidArgumentError");
    assert_eq!(text, "Invalid where clause");
}

#[tokio::test]
async fn distances_follow_the_space() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    for (space, ids, distances) in [
        ("l2", json!([["z", "c", "b", "a"]]), [0.0, 4.0, 5.0, 20.0]),
        ("cosine", json!([["z", "a", "b", "c"]]), [0.0, 0.4, 1.0, 2.0]),
        ("ip", json!([["a", "z", "b", "c"]]), [-2.0, 0.0, 1.0, 2.0]),
    ] {
        let made = filled(&server, &key, space).await;
        let got = made.post("query", json!({"query_embeddings": [[1, 0]]})).await.expect(200);
        assert_eq!(got["ids"], ids, "{space}");
        for (at, expected) in distances.iter().enumerate() {
            let distance = got["distances"][0][at].as_f64().unwrap();
            assert!((distance - expected).abs() < 1e-6, "{space} {at}: {distance}");
        }
        assert_eq!(got["include"], json!(["documents", "metadatas", "distances"]));
        assert_eq!(got["embeddings"], json!(null));
    }
}

#[tokio::test]
async fn queries_are_restricted_before_the_search() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = filled(&server, &key, "l2").await;
    let query = async |mut more: Value| {
        more["query_embeddings"] = json!([[1, 0], [3, 4]]);
        more["include"] = json!([]);
        made.post("query", more).await
    };
    let ids = async |more: Value| query(more).await.expect(200)["ids"].take();
    assert_eq!(ids(json!({"n_results": 1})).await, json!([["z"], ["a"]]));
    assert_eq!(ids(json!({"n_results": 0})).await, json!([[], []]));
    assert_eq!(ids(json!({"n_results": 4_000_000_000_u32})).await[0].as_array().unwrap().len(), 4);
    assert_eq!(ids(json!({"where": {"i": 2.5}})).await, json!([["a"], ["a"]]));
    assert_eq!(ids(json!({"where": {"i": 7}})).await, json!([[], []]));
    assert_eq!(ids(json!({"ids": ["b", "b"]})).await, json!([["b"], ["b"]]));
    assert_eq!(ids(json!({"ids": []})).await, json!([[], []]));
    let many = json!({"query_embeddings": vec![[1, 0]; 1_585], "n_results": 1});
    let got = made.post("query", many).await.expect(200);
    assert_eq!(got["ids"].as_array().unwrap().len(), 1_585);
    assert_eq!(got["ids"][1_584], json!(["z"]));
    let many = json!({"query_embeddings": vec![[1, 0]; 10_001]});
    made.post("query", many).await.refused(413, "InvalidArgumentError");
    let unknown = query(json!({"ids": ["b", "zz"]})).await.refused(404, "NotFoundError");
    assert!(unknown.contains("Error finding id") && unknown.contains("zz"), "{unknown}");
    let none = made.post("query", json!({"query_embeddings": []})).await.expect(200);
    assert_eq!((&none["ids"], &none["distances"]), (&json!([]), &json!([])));
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = filled(&server, &key, "l2").await;
    for (status, body) in [
        (400, r#"{"query_embeddings":[[1]]}"#),
        (400, r#"{"query_embeddings":[[]]}"#),
        (400, r#"{"query_embeddings":[[1,1e39]]}"#),
        (422, r#"{"query_embeddings":["AACAPwAAAEA="]}"#),
        (422, r#"{"query_embeddings":[[1,2]],"n_results":-1}"#),
        (422, r#"{"query_embeddings":[[1,2]],"n_results":1.5}"#),
        (422, r#"{"query_embeddings":[[1,2]],"include":null}"#),
        (422, "{}"),
    ] {
        let kind = if status == 400 { "InvalidArgumentError" } else { "ChromaError" };
        made.post_text("query", body).await.refused(status, kind);
    }
    let wrong = made.post_text("query", r#"{"query_embeddings":[[1]]}"#).await;
    let text = wrong.refused(400, "InvalidArgumentError");
    assert_eq!(text, "Collection expecting embedding with dimension of 2, got 1");
}

#[tokio::test]
async fn an_empty_collection_answers_any_query() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let got = made.post("query", json!({"query_embeddings": [[1, 2, 3]], "ids": ["x"]})).await;
    assert_eq!(got.expect(200)["ids"], json!([[]]));
    let got = made.post("query", json!({"query_embeddings": [[1], [2]]})).await.expect(200);
    assert_eq!(got["documents"], json!([[], []]));
}

#[tokio::test]
async fn everything_is_indexed_at_once() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = filled(&server, &key, "l2").await;
    let status = server.text(&key, &format!("GET {}/indexing_status", made.path), "").await;
    assert_eq!(
        status.expect(200),
        json!({"op_indexing_progress": 1.0, "num_unindexed_ops": 0, "num_indexed_ops": 4,
            "total_ops": 4})
    );
    let level = |level: &str| format!("GET {}/count?read_level={level}", made.path);
    for known in ["index_and_wal", "index_only", "index_and_bounded_wal"] {
        assert_eq!(server.text(&key, &level(known), "").await.expect(200), 4);
    }
    let text = server.text(&key, &level("zz"), "").await.refused(400, "InvalidArgumentError");
    assert!(text.starts_with("Failed to deserialize query string: read_level"), "{text}");
}

/// A collection that another protocol made with named vectors shows its unnamed ones, as they were
/// given, and keeps the others through every write.
#[tokio::test]
async fn only_unnamed_vectors_are_seen() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let who = server.engine.authenticate(Some(&key)).await.unwrap();
    let session: Session<Write> = server.engine.session(&who, Select::Own).await.unwrap();
    let database = session.database(&DatabaseName::default_database()).await.unwrap();
    let title = VectorName::parse("title").unwrap();
    let spec = CollectionSpec {
        storage: VectorStorage::Half,
        vectors: [(title.clone(), VectorSpec::default())].into(),
        ..CollectionSpec::new(CollectionName::parse("shared").unwrap())
    };
    let (native, _) = database.create_collection(&spec, false).await.unwrap();
    let record = RecordWrite {
        vector: Some(vec![0.1, 1e-7]),
        vectors: [(title.clone(), vec![1.0, 2.0, 3.0])].into(),
        ..RecordWrite::new(RecordId::parse("a").unwrap())
    };
    native.write(WriteMode::Upsert, vec![record.clone()]).await.unwrap();

    let made = server.made(&key, json!({"name": "shared", "get_or_create": true})).await;
    let got = made.post("get", json!({"include": ["embeddings"]})).await.expect(200);
    assert_eq!(got["embeddings"].to_string(), "[[0.1,1e-7]]");
    let ask = json!({"query_embeddings": [[0.1, 0.0]], "include": ["embeddings"]});
    let found = made.post("query", ask).await.expect(200);
    assert_eq!(found["embeddings"].to_string(), "[[[0.1,1e-7]]]");
    let change = json!({"ids": ["a", "b"], "embeddings": [[7, 8], [9, 9]]});
    made.post("upsert", change).await.expect(200);
    let wide = json!({"query_embeddings": [[1, 2, 3]]});
    made.post("query", wide).await.refused(400, "InvalidArgumentError");

    let include = Include { vector: true, vectors: true, ..Include::default() };
    let all = native.get(&GetRequest { include, ..GetRequest::default() }).await.unwrap();
    assert_eq!((&all[0].vector, &all[0].vectors), (&Some(vec![7.0, 8.0]), &record.vectors));
    assert_eq!((&all[1].vector, all[1].vectors.len()), (&Some(vec![9.0, 9.0]), 0));
}
