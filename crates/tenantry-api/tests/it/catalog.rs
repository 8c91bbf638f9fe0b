//! Databases and collections.

use crate::server::Server;
use serde_json::{Value, json};

const COLLECTIONS: &str = "/v1/databases/db/collections";

#[tokio::test]
async fn databases_are_made_listed_and_removed() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let made = server.call(&admin, "POST /v1/databases", json!({"name": "db"})).await.expect(201);
    assert_eq!(made["name"], "db");
    assert_eq!(made["id"].as_str().unwrap().len(), 36);
    let again = server.call(&admin, "POST /v1/databases", json!({"name": "db"})).await;
    again.refused(409, "already_exists");
    let shown = server.call(&admin, "GET /v1/databases/db", Value::Null).await.expect(200);
    assert_eq!(shown, made);
    let names = |page: Value| -> Vec<String> {
        let all = page["databases"].as_array().unwrap();
        all.iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    let listed = server.call(&admin, "GET /v1/databases", Value::Null).await.expect(200);
    assert_eq!(names(listed), ["db", "default_database"]);
    let line = "GET /v1/databases?limit=1&offset=1";
    let listed = server.call(&admin, line, Value::Null).await.expect(200);
    assert_eq!(names(listed), ["default_database"]);
    server.call(&admin, "DELETE /v1/databases/db", Value::Null).await.expect(204);
    for line in ["GET /v1/databases/db", "DELETE /v1/databases/db"] {
        server.call(&admin, line, Value::Null).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn collections_are_made_changed_and_removed() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    server.call(&admin, "POST /v1/databases", json!({"name": "db"})).await.expect(201);
    let post = format!("POST {COLLECTIONS}");
    let body = json!({"name": "notes", "metric": "cosine", "metadata": {"team": "x", "n": 1.0}});
    let made = server.call(&admin, &post, body).await.expect(201);
    assert_eq!(made["metric"], "cosine");
    assert_eq!(made["dimension"], Value::Null);
    assert_eq!(made["metadata"].to_string(), r#"{"n":1.0,"team":"x"}"#);

    let again = json!({"name": "notes"});
    server.call(&admin, &post, again).await.refused(409, "already_exists");
    let again = json!({"name": "notes", "get_or_create": true, "metric": "l2"});
    let same = server.call(&admin, &post, again).await.expect(200);
    assert_eq!(same, made, "get_or_create leaves an existing collection as it is");

    let one = format!("{COLLECTIONS}/notes");
    let patch = format!("PATCH {one}");
    let changed = server.call(&admin, &patch, json!({"metadata": {"a": [1, 2]}})).await.expect(200);
    assert_eq!(changed["metadata"], json!({"a": [1, 2]}));
    let kept = server.call(&admin, &patch, json!({})).await.expect(200);
    assert_eq!(kept["metadata"], json!({"a": [1, 2]}));
    let cleared = server.call(&admin, &patch, json!({"metadata": null})).await.expect(200);
    assert_eq!(cleared["metadata"], Value::Null);
    let renamed = server.call(&admin, &patch, json!({"name": "notes/2"})).await.expect(200);
    assert_eq!((&renamed["name"], &renamed["id"]), (&json!("notes/2"), &made["id"]));

    server.call(&admin, &format!("GET {one}"), Value::Null).await.refused(404, "not_found");
    let one = format!("{COLLECTIONS}/notes%2F2");
    let shown = server.call(&admin, &format!("GET {one}"), Value::Null).await.expect(200);
    assert_eq!(shown, renamed);
    let listed = server.call(&admin, &format!("GET {COLLECTIONS}"), Value::Null).await.expect(200);
    assert_eq!(listed, json!({"collections": [renamed]}));
    server.call(&admin, &format!("DELETE {one}"), Value::Null).await.expect(204);
    server.call(&admin, &format!("GET {one}"), Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_tenant_sees_itself_without_the_operators_notes() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let op = server.operator.clone();
    let body = json!({"settings": {"note": "pays late"}});
    server.call(&op, "PATCH /v1/admin/tenants/acme", body).await.expect(200);
    let shown = server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!(shown["name"], "acme");
    assert!(!shown.to_string().contains("pays late"));
}

#[tokio::test]
async fn tenants_do_not_see_each_other() {
    let server = Server::start().await;
    let (a, b) = (server.tenant("a").await, server.tenant("b").await);
    server.collection(&a, "secret").await;
    let line = "GET /v1/databases/default_database/collections";
    let listed = server.call(&b, line, Value::Null).await.expect(200);
    assert_eq!(listed, json!({"collections": []}));
    let line = "GET /v1/databases/default_database/collections/secret";
    server.call(&b, line, Value::Null).await.refused(404, "not_found");
}
