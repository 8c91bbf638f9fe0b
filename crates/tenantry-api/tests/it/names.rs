//! Names are data: whatever is allowed in one never means a path, a statement or another name.

use crate::server::{Server, encoded};
use serde_json::{Value, json};

fn good() -> Vec<String> {
    let mut names: Vec<String> = [
        "../",
        "..",
        ".",
        "a/b",
        "//",
        "a\\b",
        "\"quoted\"",
        "'; DROP TABLE x; --",
        "%2F",
        "%00",
        "🦀 emoji",
        "e\u{301}",
        "é",
        "tenant_user:user1",
        " ",
        "a b ",
        "?x=1#y",
        "{tenant}",
        "NULL",
        "\u{202e}rtl",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("x".repeat(255));
    names.push("é".repeat(256));
    names
}

const BAD: [&str; 4] = ["nul\0", "line\nbreak", "\u{7f}", "tab\t"];

#[tokio::test]
async fn tenants_may_be_called_anything() {
    let server = Server::start().await;
    let op = server.operator.clone();
    for name in good() {
        let admin = server.tenant(&name).await;
        let own = server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
        assert_eq!(own["name"], name.as_str());
        let line = format!("GET /v1/admin/tenants/{}", encoded(&name));
        let shown = server.call(&op, &line, Value::Null).await.expect(200);
        assert_eq!(shown["name"], own["name"]);
    }
    let listed =
        server.call(&op, "GET /v1/admin/tenants?limit=1000", Value::Null).await.expect(200);
    assert_eq!(listed["tenants"].as_array().unwrap().len(), good().len());
}

#[tokio::test]
async fn databases_and_collections_may_be_called_anything() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    for name in good() {
        server.call(&admin, "POST /v1/databases", json!({ "name": name })).await.expect(201);
        let database = format!("/v1/databases/{}", encoded(&name));
        let shown = server.call(&admin, &format!("GET {database}"), Value::Null).await.expect(200);
        assert_eq!(shown["name"], name.as_str());
        let line = format!("POST {database}/collections");
        server.call(&admin, &line, json!({ "name": name })).await.expect(201);
        let collection = format!("{database}/collections/{}", encoded(&name));
        let row = json!({"records": [{"id": name, "document": name}]});
        server.call(&admin, &format!("POST {collection}/records/add"), row).await.expect(200);
        let line = format!("POST {collection}/records/get");
        let got = server.call(&admin, &line, json!({"ids": [name]})).await.expect(200);
        assert_eq!(got["records"][0]["document"], name.as_str());
    }
    for name in good() {
        let line = format!("DELETE /v1/databases/{}", encoded(&name));
        server.call(&admin, &line, Value::Null).await.expect(204);
    }
}

#[tokio::test]
async fn names_that_cannot_be_are_refused_everywhere() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("acme").await;
    let long = "x".repeat(513);
    for name in BAD.into_iter().chain(["", &long]) {
        let body = json!({ "name": name });
        for (key, line) in [
            (&op, "POST /v1/admin/tenants"),
            (&admin, "POST /v1/databases"),
            (&admin, "POST /v1/databases/default_database/collections"),
        ] {
            server.call(key, line, body.clone()).await.refused(400, "invalid");
        }
        if name.is_empty() {
            continue;
        }
        let name = encoded(name);
        for (key, path) in [
            (&op, format!("admin/tenants/{name}")),
            (&admin, format!("databases/{name}")),
            (&admin, format!("databases/{name}/collections")),
            (&admin, format!("databases/default_database/collections/{name}")),
        ] {
            let answer = server.call(key, &format!("GET /v1/{path}"), Value::Null).await;
            answer.refused(400, "invalid");
        }
    }
    let answer = server.call(&admin, "GET /v1/databases/%FF%FE", Value::Null).await;
    answer.refused(400, "invalid");
}
