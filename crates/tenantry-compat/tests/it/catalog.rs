//! Tenants, databases and collections.

use crate::server::{DEFAULT, Server};
use axum::{body::Body, http::Request};
use serde_json::{Value, json};
use tenantry_engine::{PathTenant, Restriction, Role, TenantName, TenantSources};

const TENANTS: &str = "/api/v2/tenants";

#[tokio::test]
async fn a_client_without_settings_can_start_on_a_development_server() {
    let server = Server::development().await;
    let identity = server.text("", "GET /api/v2/auth/identity", "").await.expect(200);
    assert_eq!(identity["tenant"], "default_tenant");
    assert_eq!(identity["databases"], json!(["default_database"]));
    server.text("", &format!("GET {TENANTS}/default_tenant"), "").await.expect(200);
    let database = server.text("", &format!("GET {DEFAULT}"), "").await.expect(200);
    assert_eq!(database["name"], "default_database");
    assert_eq!(database["tenant"], "default_tenant");
}

#[tokio::test]
async fn reset_is_for_development_only() {
    let server = Server::development().await;
    let id = server.collection("", "abc").await.id;
    server.call("", &format!("POST {TENANTS}"), json!({"name": "acme"})).await.expect(200);
    assert_eq!(server.text("", "POST /api/v2/reset", "").await.expect(200), true);
    let gone = server.text("", &format!("GET {TENANTS}/acme"), "").await;
    gone.refused(404, "NotFoundError");
    let gone = server.text("", &format!("GET {DEFAULT}/collections/by-id/{id}"), "").await;
    gone.refused(404, "NotFoundError");
    assert_eq!(
        server.text("", &format!("GET {DEFAULT}/collections_count"), "").await.expect(200),
        0
    );

    let server = Server::start().await;
    let operator = server.text(&server.operator, "POST /api/v2/reset", "").await;
    assert_eq!(operator.refused(403, "ChromaError"), "Reset is disabled by config");
}

#[tokio::test]
async fn an_operator_makes_tenants_without_a_database() {
    let server = Server::start().await;
    let make = |name: &str| (format!("POST {TENANTS}"), json!({"name": name}));
    let (line, body) = make("acme");
    assert_eq!(server.call(&server.operator, &line, body.clone()).await.expect(200), json!({}));
    let again = server.call(&server.operator, &line, body).await;
    assert_eq!(again.refused(409, "ChromaError"), "Tenant [acme] already exists");
    let (line, body) = make("ab");
    server.call(&server.operator, &line, body).await.refused(400, "InvalidArgumentError");
    let list = server.text(&server.operator, &format!("GET {TENANTS}/acme/databases"), "").await;
    assert_eq!(list.expect(200), json!([]));
}

#[tokio::test]
async fn databases_are_listed_by_name_and_page() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let databases = format!("{TENANTS}/default_tenant/databases");
    for name in ["ccc", "aaa", "bbb", "db:user"] {
        server.call(&key, &format!("POST {databases}"), json!({"name": name})).await.expect(200);
    }
    let list = async |query: &str| {
        let all = server.text(&key, &format!("GET {databases}{query}"), "").await.expect(200);
        all.as_array().unwrap().iter().map(|d| d["name"].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(list("").await, ["aaa", "bbb", "ccc", "db:user", "default_database"]);
    assert_eq!(list("?limit=2&offset=1").await, ["bbb", "ccc"]);
    assert_eq!(list("?limit=0").await, [""; 0]);
    let bad = server.text(&key, &format!("GET {databases}?limit=-1"), "").await;
    assert!(bad.refused(400, "InvalidArgumentError").starts_with("Failed to deserialize query"));

    let taken = server.call(&key, &format!("POST {databases}"), json!({"name": "aaa"})).await;
    assert_eq!(taken.refused(409, "ChromaError"), "Database [aaa] already exists");
    let short = server.call(&key, &format!("POST {databases}"), json!({"name": "a"})).await;
    short.refused(400, "InvalidArgumentError");
    let short = server.text(&key, &format!("GET {databases}/aa"), "").await;
    short.refused(400, "InvalidArgumentError");

    server.text(&key, &format!("DELETE {databases}/aaa"), "").await.expect(200);
    let gone = server.text(&key, &format!("GET {databases}/aaa"), "").await;
    assert_eq!(
        gone.refused(404, "NotFoundError"),
        "Database [aaa] not found. Are you sure it exists?"
    );
}

#[tokio::test]
async fn a_collection_is_made_once_and_found_in_three_ways() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let collections = format!("{DEFAULT}/collections");
    let body = json!({"name": "user-collection:user1", "metadata": {"a": 1, "l": ["x"]},
        "configuration": {"hnsw": {"space": "cosine"}}});
    let made = server.call(&key, &format!("POST {collections}"), body.clone()).await.expect(200);
    assert_eq!(made["metadata"], json!({"a": 1, "l": ["x"]}));
    assert_eq!(made["configuration_json"]["hnsw"]["space"], "cosine");
    assert_eq!(
        (&made["dimension"], &made["log_position"], &made["version"]),
        (&json!(null), &json!(0), &json!(0))
    );
    assert_eq!(
        (&made["tenant"], &made["database"]),
        (&json!("default_tenant"), &json!("default_database"))
    );
    let keys: Vec<&String> = made.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 10);

    let id = made["id"].as_str().unwrap();
    for line in [
        format!("GET {collections}/user-collection:user1"),
        format!("GET {collections}/by-id/{id}"),
        format!("GET {collections}/by-id/{}", id.to_uppercase().replace('-', "")),
    ] {
        assert_eq!(server.text(&key, &line, "").await.expect(200), made, "{line}");
    }
    let taken = server.call(&key, &format!("POST {collections}"), body).await;
    let text = taken.refused(409, "ChromaError");
    assert_eq!(text, "Collection [user-collection:user1] already exists");
    let other =
        json!({"name": "user-collection:user1", "get_or_create": true, "metadata": {"b": 2}});
    let same = server.call(&key, &format!("POST {collections}"), other).await.expect(200);
    assert_eq!(same, made);
    assert_eq!(
        server.text(&key, &format!("GET {DEFAULT}/collections_count"), "").await.expect(200),
        1
    );
    let by_name = server.text(&key, &format!("GET {collections}/{id}"), "").await;
    by_name.refused(404, "NotFoundError");
    let bad = server.text(&key, &format!("GET {collections}/by-id/x"), "").await;
    bad.refused(400, "InvalidArgumentError");
    let bad = server.text(&key, &format!("GET {collections}/x/count"), "").await;
    assert_eq!(bad.refused(400, "InvalidArgumentError"), "Collection ID is not a valid UUIDv4");
}

#[tokio::test]
async fn a_collection_may_be_called_like_a_route() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "by-id").await;
    let line = format!("GET {DEFAULT}/collections/by-id");
    assert_eq!(server.text(&key, &line, "").await.expect(200)["id"], made.id.as_str());
    server.text(&key, &line.replace("GET", "DELETE"), "").await.expect(200);
    assert_eq!(
        server.text(&key, &line, "").await.refused(404, "NotFoundError"),
        "Collection [by-id] does not exist"
    );
}

#[tokio::test]
async fn a_change_replaces_the_metadata_and_refuses_a_taken_name() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.made(&key, json!({"name": "one", "metadata": {"a": 1, "b": 2}})).await;
    server.collection(&key, "two").await;
    let put = async |body: Value| server.call(&key, &format!("PUT {}", made.path), body).await;

    assert_eq!(put(json!({})).await.expect(200), json!({}));
    put(json!({"new_name": "one"})).await.expect(200);
    put(json!({"new_name": "uno", "new_metadata": {"c": 3, "d": null}})).await.expect(200);
    put(json!({"new_configuration": {"hnsw": {"ef_search": 7}}})).await.expect(200);
    let shown = made.shown().await;
    assert_eq!((&shown["name"], &shown["metadata"]), (&json!("uno"), &json!({"c": 3})));
    assert_eq!(shown["configuration_json"]["hnsw"]["ef_search"], 7);
    let graph = &shown["schema"]["keys"]["#embedding"]["float_list"]["vector_index"]["config"];
    assert_eq!(graph["hnsw"]["ef_search"], 7);

    let taken = put(json!({"new_name": "two"})).await;
    assert_eq!(taken.refused(409, "ChromaError"), "Collection [two] already exists");
    put(json!({"new_metadata": {}})).await.refused(400, "InvalidArgumentError");
    put(json!({"new_name": "x"})).await.refused(400, "InvalidArgumentError");
    put(json!({"new_configuration": {"hnsw": {"space": "ip"}}})).await.refused(422, "ChromaError");
    put(json!({"new_metadata": {"c": null}})).await.expect(200);
    assert_eq!(made.shown().await["metadata"], json!(null));
}

#[tokio::test]
async fn a_deleted_database_takes_its_collections_along() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    server.text(&key, &format!("DELETE {DEFAULT}"), "").await.expect(200);
    let text = made.post("get", json!({})).await.refused(404, "NotFoundError");
    assert_eq!(text, format!("Collection [{}] does not exist.", made.id));
    let line = format!("POST {DEFAULT}/collections");
    let text = server.call(&key, &line, json!({"name": "abc"})).await;
    assert!(text.refused(404, "NotFoundError").starts_with("Database [default_database]"));
    let line = "POST /api/v2/tenants/default_tenant/databases";
    server.call(&key, line, json!({"name": "default_database"})).await.expect(200);
    made.post("get", json!({})).await.refused(404, "NotFoundError");
}

#[tokio::test]
async fn a_schema_grows_with_the_keys_of_records() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    let add = json!({"ids": ["a", "b"], "embeddings": [[1], [2]],
        "metadatas": [{"title": "x", "tags": [1]}, {"title": true}]});
    made.post("add", add).await.expect(201);
    let keys = made.shown().await["schema"]["keys"].take();
    assert_eq!(keys["title"]["string"]["string_inverted_index"]["enabled"], true);
    assert_eq!(keys["title"]["bool"]["bool_inverted_index"]["enabled"], true);
    assert_eq!(keys["tags"]["int"]["int_inverted_index"]["enabled"], true);
    assert!(keys["title"]["int"].is_null());
    // The collection's own configuration is untouched by it.
    let configuration = made.shown().await["configuration_json"].take();
    assert_eq!(configuration["hnsw"]["space"], "l2");

    let many: serde_json::Map<_, _> = (0..1_024).map(|i| (format!("k{i}"), json!(i))).collect();
    let add = json!({"ids": ["c"], "embeddings": [[3]], "metadatas": [many]});
    made.post("add", add).await.expect(201);
    let keys = made.shown().await["schema"]["keys"].as_object().unwrap().len();
    assert!(keys > 900 && keys <= 1_002, "{keys}");
}

#[tokio::test]
async fn a_disabled_index_refuses_its_filters() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let off = json!({"enabled": false, "config": {}});
    let body = json!({"name": "abc", "schema": {"defaults": {}, "keys": {
        "tag": {"string": {"string_inverted_index": off}},
        "#document": {"string": {"fts_index": off}}}}});
    let made = server.made(&key, body).await;
    let add = json!({"ids": ["a"], "embeddings": [[1, 2]], "metadatas": [{"tag": "x", "n": 1}],
        "documents": ["text"]});
    made.post("add", add).await.expect(201);
    for (route, body) in [
        ("get", json!({"where": {"tag": "x"}})),
        ("query", json!({"query_embeddings": [[1, 2]], "where": {"tag": "x"}})),
        ("delete", json!({"where": {"tag": "x"}})),
    ] {
        let text = made.post(route, body).await.refused(400, "InvalidArgumentError");
        assert!(text.starts_with("Cannot filter using metadata key 'tag'"), "{text}");
    }
    let body = json!({"where_document": {"$contains": "t"}});
    assert!(made.post("get", body).await.refused(400, "InvalidArgumentError").contains("FTS"));
    assert_eq!(made.ids(json!({"where": {"n": 1}})).await, json!(["a"]));
}

#[tokio::test]
async fn cloud_only_routes_say_so() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let made = server.collection(&key, "abc").await;
    for line in [
        format!("POST {}/search", made.path),
        format!("POST {}/fork", made.path),
        format!("GET {}/fork_count", made.path),
        format!("POST {}/functions/attach", made.path),
        format!("GET {}/functions/f", made.path),
        format!("POST {}/attached_functions/f/detach", made.path),
        "GET /api/v2/collections/a:b:c".to_owned(),
        format!("PATCH {TENANTS}/default_tenant"),
    ] {
        server.call(&key, &line, json!({})).await.refused(501, "ChromaError");
    }
}

#[tokio::test]
async fn a_host_of_another_tenant_is_no_tenant() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    // The layer around all protocols notes what the host names.
    let ask = |host: &str, path: &str| {
        let name = std::sync::Arc::new(TenantName::parse(host).unwrap());
        let request = Request::get(path).header("x-chroma-token", &key).extension(name);
        server.send(request.body(Body::empty()).unwrap())
    };
    for path in ["/api/v2/auth/identity", DEFAULT, "/api/v2/tenants/acme"] {
        ask("acme", path).await.expect(200);
        let mut said = Vec::new();
        for other in ["globex", "nobody"] {
            said.push(ask(other, path).await.refused(404, "NotFoundError").replace(other, "…"));
        }
        assert_eq!(said[0], said[1], "{path}");
    }
}

#[tokio::test]
async fn a_path_that_begins_with_another_tenant_is_no_tenant() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    // What stood before the path is noted before any route.
    let ask = |key: &str, named: &str, path: &str| {
        let name = PathTenant::new(TenantName::parse(named));
        let request = Request::get(path).header("x-chroma-token", key).extension(name);
        server.send(request.body(Body::empty()).unwrap())
    };
    for path in ["/api/v2/auth/identity", DEFAULT, "/api/v2/tenants/acme"] {
        ask(&key, "acme", path).await.expect(200);
        let mut said = Vec::new();
        for other in ["globex", "nobody"] {
            let answer = ask(&key, other, path).await;
            said.push(answer.refused(404, "NotFoundError").replace(other, "…"));
        }
        assert_eq!(said[0], said[1], "{path}");
        ask(&key, "", path).await.refused(400, "InvalidArgumentError");
        ask("tnt_x", "acme", path).await.refused(401, "AuthError");
    }
    let operator = server.operator.clone();
    ask(&operator, "acme", "/api/v2/tenants/acme").await.expect(200);
    ask(&operator, "acme", DEFAULT).await.refused(400, "InvalidArgumentError");
    // What only operators do is not there.
    let line = Request::post("/api/v2/tenants").header("x-chroma-token", &operator);
    let named = PathTenant::new(TenantName::parse("acme"));
    let line = line.header("content-type", "application/json").extension(named);
    let answer = server.send(line.body(Body::from(r#"{"name": "globex"}"#)).unwrap()).await;
    answer.refused(404, "NotFoundError");
}

#[tokio::test]
async fn a_header_that_names_another_tenant_is_refused_like_a_path() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.tenant("globex").await;
    let ask = |key: &str, named: &str, path: &str| {
        let request = Request::get(path).header("x-chroma-token", key);
        let request = request.header("x-tenant-id", named);
        server.send(request.body(Body::empty()).unwrap())
    };
    let all = "/api/v2/tenants/acme/databases/default_database/collections";
    for path in [DEFAULT, "/api/v2/tenants/acme", all, "/api/v2/auth/identity"] {
        ask(&key, "acme", path).await.expect(200);
        let mut said = Vec::new();
        for other in ["globex", "nobody"] {
            let answer = ask(&key, other, path).await;
            said.push(answer.refused(404, "NotFoundError").replace(other, "…"));
        }
        assert_eq!(said[0], said[1], "{path}");
        for bad in ["", "%FF", "%00"] {
            ask(&key, bad, path).await.refused(400, "InvalidArgumentError");
        }
    }
    let by_name = "/api/v2/collections/acme:default_database:c";
    ask(&key, "acme", by_name).await.refused(501, "ChromaError");
    ask(&key, "globex", by_name).await.refused(404, "NotFoundError");
    // The path is compared as well, and nothing is opened of whoever names two.
    let reader = server.key("acme", Role::Read, Restriction::default()).await;
    let before = server.engine.totals().cross_tenant_attempts;
    let mut said = Vec::new();
    for other in ["globex", "nobody"] {
        let path = format!("/api/v2/tenants/{other}/databases/default_database");
        let request = Request::delete(path).header("x-chroma-token", &reader);
        let request = request.header("x-tenant-id", "acme").body(Body::empty()).unwrap();
        let answer = server.send(request).await;
        said.push(answer.refused(404, "NotFoundError").replace(other, "…"));
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(server.engine.totals().cross_tenant_attempts - before, 2);
    // An operator names one.
    ask(&server.operator, "acme", all).await.expect(200);
    for other in ["globex", "nobody"] {
        let why = ask(&server.operator, other, all).await.refused(400, "InvalidArgumentError");
        assert!(why.contains("acme") && why.contains(other), "{why}");
    }
    // Where headers name nobody, none is sent.
    server.engine.name_tenants_by(TenantSources::parse("host,path,claim").unwrap());
    for key in [&key, &server.operator] {
        let why = ask(key, "acme", all).await.refused(400, "InvalidArgumentError");
        assert!(why.contains("tenant_sources"), "{why}");
    }
}
