//! Every route, with every caller who may not use it. A route without a row fails the test.

use crate::server::{DEFAULT, Server};
use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tenantry_compat::chroma::{OPERATOR_ROUTES, PUBLIC_ROUTES, ROUTES};
use tenantry_engine::{
    Admin, AuditOutcome, Every, FieldTest, Filter, Meter, Restriction, Role, Select, TenantName,
    UsagePage, Write,
};

const TENANT: &str = "/api/v2/tenants/{tenant}";
const DATABASE: &str = "/api/v2/tenants/{tenant}/databases/{database}";
const COLLECTION: &str = "/api/v2/tenants/{tenant}/databases/{database}/collections/{collection}";

/// Method, start and rest of a route's path; then what it answers to a tenant's key when the path
/// names another tenant's things, and to a key that may only read its own.
type Row = (&'static str, &'static str, &'static str, u16, u16);

const ROWS: &[Row] = &[
    ("GET", "/api/v2/auth/identity", "", 200, 200),
    ("POST", "/api/v2/reset", "", 403, 403),
    ("POST", "/api/v2/tenants", "", 403, 403),
    ("GET", TENANT, "", 404, 200),
    ("PATCH", TENANT, "", 404, 403),
    ("POST", TENANT, "/databases", 404, 403),
    ("GET", TENANT, "/databases", 404, 200),
    ("GET", DATABASE, "", 404, 200),
    ("DELETE", DATABASE, "", 404, 403),
    ("POST", DATABASE, "/collections", 404, 403),
    ("GET", DATABASE, "/collections", 404, 200),
    ("GET", DATABASE, "/collections_count", 404, 200),
    ("GET", DATABASE, "/collections/by-id/{id}", 404, 200),
    // These two take a name; the id that the test puts there names nothing of the reader's.
    ("GET", COLLECTION, "", 404, 404),
    ("DELETE", COLLECTION, "", 404, 403),
    ("PUT", COLLECTION, "", 404, 403),
    ("POST", COLLECTION, "/add", 404, 403),
    ("POST", COLLECTION, "/upsert", 404, 403),
    ("POST", COLLECTION, "/update", 404, 403),
    ("POST", COLLECTION, "/get", 404, 200),
    ("POST", COLLECTION, "/query", 404, 200),
    ("POST", COLLECTION, "/delete", 404, 403),
    ("GET", COLLECTION, "/count", 404, 200),
    ("GET", COLLECTION, "/indexing_status", 404, 200),
    ("POST", COLLECTION, "/search", 404, 501),
    ("POST", COLLECTION, "/fork", 404, 403),
    ("GET", COLLECTION, "/fork_count", 404, 501),
    ("POST", COLLECTION, "/functions/attach", 404, 403),
    ("GET", COLLECTION, "/functions/{function}", 404, 501),
    ("POST", COLLECTION, "/attached_functions/{function}/detach", 404, 403),
    ("GET", "/api/v2/collections/{crn}", "", 501, 501),
];

fn row(method: &str, path: &str) -> &'static Row {
    let found = ROWS.iter().find(|(m, start, rest, ..)| {
        *m == method && path.strip_prefix(start).is_some_and(|end| end == *rest)
    });
    found.unwrap_or_else(|| panic!("{method} {path} has no row: say who may use it"))
}

/// Every route that needs a credential.
fn guarded() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    OPERATOR_ROUTES.iter().chain(ROUTES)
}

/// A path with a tenant's things in it.
fn filled(path: &str, tenant: &str, collection: &str) -> String {
    path.replace("{tenant}", tenant)
        .replace("{database}", "default_database")
        .replace("{collection}", collection)
        .replace("{id}", collection)
        .replace(['{', '}'], "")
}

/// A body that must not be read.
fn untouchable() -> Body {
    let panic = |_: &_| panic!("the body was read before the caller's right was settled");
    Body::new(Full::new(Bytes::from_static(b"{}")).inspect_frame(panic))
}

/// A body that suits any route that a reader may use.
fn reading() -> Value {
    json!({"query_embeddings": [[1.0, 0.0]]})
}

#[tokio::test]
async fn nobody_passes_without_a_key() {
    let server = Server::start().await;
    for (method, path) in guarded() {
        let line = format!("{method} {}", filled(path, "default_tenant", "x"));
        let answer = server.text("", &line, untouchable()).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(answer.refused(401, "AuthError").contains("an API key is required"), "{line}");
        let unknown = format!("tnt_{}_{}", "a".repeat(16), "a".repeat(52));
        for wrong in ["x", "tnt_", &unknown] {
            let answer = server.text(wrong, &line, untouchable()).await;
            assert_eq!(answer.refused(401, "AuthError"), "the API key is not valid", "{line}");
        }
    }
    for line in ["GET /api/v1/collections", "POST /api/v2/nothing", "GET /"] {
        server.text("", line, untouchable()).await.refused(401, "AuthError");
    }
}

#[tokio::test]
async fn public_routes_ask_for_nothing() {
    let server = Server::start().await;
    for (method, path) in PUBLIC_ROUTES {
        server.text("", &format!("{method} {path}"), untouchable()).await.expect(200);
    }
}

#[tokio::test]
async fn a_foreign_tenants_things_are_out_of_reach_on_every_route() {
    let server = Server::start().await;
    let (ours, theirs) = (server.tenant("ours").await, server.tenant("theirs").await);
    let target = server.collection(&theirs, "target").await;
    for (method, path) in guarded() {
        let (.., expected, _) = row(method, path);
        let line = format!("{method} {}", filled(path, "theirs", &target.id));
        let answer = server.text(&ours, &line, untouchable()).await;
        assert_eq!(answer.status, *expected, "{line}: {}", answer.text);
        if *expected == 404 {
            let text = answer.refused(404, "NotFoundError");
            let missing = format!("{method} {}", filled(path, "nobody", &target.id));
            let other = server.text(&ours, &missing, untouchable()).await;
            assert_eq!(text.replace("theirs", "nobody"), other.refused(404, "NotFoundError"));
        }
    }
    assert_eq!(target.count().await, 0);
}

#[tokio::test]
async fn an_id_of_another_tenant_or_database_is_no_id_here() {
    let server = Server::start().await;
    let (ours, theirs) = (server.tenant("ours").await, server.tenant("theirs").await);
    let target = server.collection(&theirs, "target").await;
    let other = "/api/v2/tenants/default_tenant/databases";
    server.call(&theirs, &format!("POST {other}"), json!({"name": "other"})).await.expect(200);
    let routes = ROUTES.iter().filter(|(_, path)| path.contains("{collection}"));
    for (method, path) in routes {
        let path = filled(path, "default_tenant", &target.id);
        let line = format!("{method} {path}");
        server.text(&ours, &line, untouchable()).await.refused(404, "NotFoundError");
        let line = line.replace("default_database", "other");
        let text = server.text(&theirs, &line, untouchable()).await;
        assert!(text.refused(404, "NotFoundError").contains("does not exist"), "{line}");
    }
}

#[tokio::test]
async fn a_reader_reads() {
    let server = Server::start().await;
    let admin = server.tenant("ours").await;
    let target = server.collection(&admin, "target").await;
    let reader = server.key("ours", Role::Read, Restriction::default()).await;
    for (method, path) in guarded() {
        let (.., expected) = row(method, path);
        let line = format!("{method} {}", filled(path, "ours", &target.id));
        let answer = server.call(&reader, &line, reading()).await;
        assert_eq!(answer.status, *expected, "{line}: {}", answer.text);
        if *expected == 403 {
            answer.refused(403, "AuthError");
        }
    }
}

#[tokio::test]
async fn a_limited_key_sees_its_collection_only() {
    let server = Server::start().await;
    let admin = server.tenant("ours").await;
    let (mine, other) =
        (server.collection(&admin, "mine").await, server.collection(&admin, "other").await);
    let only = server.only("ours", "mine").await;
    let limited = server.key("ours", Role::Write, only).await;
    let list = server.text(&limited, &format!("GET {DEFAULT}/collections"), "").await.expect(200);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["name"], "mine");
    let get = |path: &str| format!("POST {path}/get");
    server.call(&limited, &get(&mine.path), json!({})).await.expect(200);
    let refused = server.call(&limited, &get(&other.path), json!({})).await;
    assert!(refused.refused(404, "NotFoundError").contains("does not exist"));
}

#[tokio::test]
async fn a_key_with_a_filter_learns_no_keys_of_hidden_records() {
    let server = Server::start().await;
    let admin = server.tenant("ours").await;
    let target = server.collection(&admin, "target").await;
    let records = json!({"ids": ["a"], "embeddings": [[1, 2]], "metadatas": [{"secret": 1}]});
    target.post("add", records).await.expect(201);
    assert!(target.shown().await["schema"]["keys"]["secret"].is_object());
    let test = FieldTest::Eq(tenantry_engine::Value::Str("me".to_owned()));
    let filter = Some(Filter::Field { key: "owner".to_owned(), test });
    let limited = server.key("ours", Role::Read, Restriction { objects: None, filter }).await;
    let shown = server.text(&limited, &format!("GET {DEFAULT}/collections/target"), "").await;
    assert!(shown.expect(200)["schema"]["keys"]["secret"].is_null());
    let got = server.call(&limited, &format!("POST {}/get", target.path), json!({})).await;
    assert_eq!(got.expect(200)["ids"], json!([]));
}

#[tokio::test]
async fn default_tenant_means_the_keys_own() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let tenant = server.text(&key, "GET /api/v2/tenants/default_tenant", "").await.expect(200);
    assert_eq!(tenant, json!({"name": "default_tenant", "resource_name": null}));
    let tenant = server.text(&key, "GET /api/v2/tenants/acme", "").await.expect(200);
    assert_eq!(tenant["name"], "acme");
    let identity = server.text(&key, "GET /api/v2/auth/identity", "").await.expect(200);
    assert_eq!(identity["tenant"], "acme");
    assert_eq!(identity["databases"], json!(["default_database"]));
    // An operator has no tenant of its own: for it the name is a name, and nobody has it.
    let operator = server.text(&server.operator, "GET /api/v2/tenants/default_tenant", "").await;
    assert_eq!(operator.refused(404, "NotFoundError"), "Tenant [default_tenant] not found");
    server.text(&server.operator, "GET /api/v2/tenants/acme", "").await.expect(200);
}

#[tokio::test]
async fn a_suspended_tenant_is_told_so() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let who = server.engine.local_operator().await.unwrap();
    let name = TenantName::parse("acme").unwrap();
    server.engine.operator(&who).unwrap().suspend_tenant(&name).await.unwrap();
    let answer = server.text(&key, &format!("GET {DEFAULT}/collections"), "").await;
    assert!(answer.refused(403, "AuthError").contains("suspended"));
    assert!(server.engine.session::<Write>(&who, Select::Named(&name)).await.is_ok());
}

#[tokio::test]
async fn every_form_of_a_credential_opens_the_same_door() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let basic = |pair: &str| format!("Basic {}", base64(pair.as_bytes()));
    for (name, value) in [
        ("authorization", format!("Bearer {key}")),
        ("authorization", basic(&format!("user:{key}"))),
        ("authorization", basic(&format!("{key}:"))),
        ("x-chroma-token", key.clone()),
        ("x-api-key", key.clone()),
    ] {
        let request = Request::get("/api/v2/auth/identity").header(name, value);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.expect(200)["tenant"], "acme");
    }
    let bearer = ("authorization", format!("Bearer {key}"));
    let (token, plain) = (("x-chroma-token", key.clone()), ("x-api-key", key.clone()));
    let other = |name| (name, server.operator.clone());
    for (first, second) in [
        (&bearer, other("x-chroma-token")),
        (&bearer, other("x-api-key")),
        (&token, other("x-api-key")),
        (&plain, other("x-chroma-token")),
    ] {
        let two = Request::get("/api/v2/auth/identity")
            .header(first.0, &first.1)
            .header(second.0, second.1);
        server.send(two.body(Body::empty()).unwrap()).await.refused(401, "AuthError");
    }
}

#[tokio::test]
async fn writing_with_a_filter_leaves_no_refusal_in_the_audit_log() {
    let server = Server::start().await;
    let admin = server.tenant("ours").await;
    let target = server.collection(&admin, "target").await;
    let test = FieldTest::Eq(tenantry_engine::Value::Str("me".to_owned()));
    let filter = Some(Filter::Field { key: "owner".to_owned(), test });
    let limited = server.key("ours", Role::Write, Restriction { objects: None, filter }).await;
    for verb in ["add", "upsert", "update"] {
        let body = json!({"ids": ["a"], "embeddings": [[1, 2]],
            "metadatas": [{"owner": "me", format!("new-in-{verb}"): 1}]});
        let line = format!("POST {}/{verb}", target.path);
        let answer = server.call(&limited, &line, body).await;
        assert!((200..300).contains(&answer.status), "{line}: {}", answer.text);
    }
    assert!(target.shown().await["schema"]["keys"]["owner"].is_null());
    let who = server.engine.local_operator().await.unwrap();
    let name = TenantName::parse("ours").unwrap();
    let session = server.engine.session::<Admin>(&who, Select::Named(&name)).await.unwrap();
    let entries = session.audit(0, 1_000).await.unwrap();
    assert!(entries.iter().any(|e| e.event.action == "records.add"), "{entries:?}");
    let refused = entries.iter().find(|e| e.event.outcome != AuditOutcome::Done);
    assert!(refused.is_none(), "{refused:?}");
}

#[tokio::test]
async fn a_key_with_a_filter_changes_no_record_that_is_hidden_from_it() {
    let server = Server::start().await;
    let admin = server.tenant("ours").await;
    let target = server.collection(&admin, "target").await;
    let records = json!({"ids": ["hidden", "mine"], "embeddings": [[1, 2], [3, 4]],
        "documents": ["theirs", "my own"], "metadatas": [{"owner": "them"}, {"owner": "me"}]});
    target.post("add", records).await.expect(201);
    let whole = json!({"include": ["documents", "metadatas", "embeddings"]});
    let before = target.post("get", whole.clone()).await.expect(200);
    let test = FieldTest::Eq(tenantry_engine::Value::Str("me".to_owned()));
    let filter = Some(Filter::Field { key: "owner".to_owned(), test });
    let limited = server.key("ours", Role::Write, Restriction { objects: None, filter }).await;

    let take = |ids: &[&str]| {
        json!({"ids": ids, "embeddings": vec![[9, 9]; ids.len()],
            "documents": vec!["taken"; ids.len()], "metadatas": vec![json!({"owner": "me"}); ids.len()]})
    };
    let give = json!({"ids": ["mine"], "embeddings": [[3, 4]], "metadatas": [{"owner": "them"}]});
    for (route, body, status) in [
        ("upsert", take(&["hidden"]), 409),
        // All or nothing: what would be its own is not written either.
        ("upsert", take(&["new", "hidden"]), 409),
        // These pass over what is there, and over what is not.
        ("add", take(&["hidden"]), 201),
        ("update", take(&["hidden"]), 200),
        ("upsert", give.clone(), 403),
        ("update", give, 403),
        ("delete", json!({"ids": ["hidden"]}), 200),
        ("delete", json!({"where": {"owner": "them"}}), 200),
    ] {
        let answer = server.call(&limited, &format!("POST {}/{route}", target.path), body).await;
        assert_eq!(answer.status, status, "{route}: {}", answer.text);
        assert!(!answer.text.contains("theirs"), "{route}: {}", answer.text);
        assert_eq!(target.post("get", whole.clone()).await.expect(200), before, "{route}");
    }
    let own = json!({"ids": ["mine"], "embeddings": [[5, 6]], "metadatas": [{"owner": "me"}]});
    server.call(&limited, &format!("POST {}/upsert", target.path), own).await.expect(200);
    assert_ne!(target.post("get", whole).await.expect(200), before);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[tokio::test]
async fn a_request_takes_cpu_time_of_the_tenant_in_which_it_works() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let who = server.engine.local_operator().await.unwrap();
    let operator = server.engine.operator(&who).unwrap();
    let acme = TenantName::parse("acme").unwrap();
    let page = UsagePage { every: Every::Month, from: 0, limit: 100 };
    let cpu = async || {
        let used = operator.usage(&acme, page).await.unwrap();
        used.iter().map(|one| one.amounts.get(Meter::CpuMicros)).sum::<u128>()
    };
    let line = "GET /api/v2/tenants/acme/databases/default_database/collections";
    // By its own key, and by an operator's.
    for key in [&key, &server.operator] {
        let before = cpu().await;
        for _ in 0..10 {
            server.text(key, line, "").await.expect(200);
        }
        let after = cpu().await;
        assert!(after > before, "{after} {before}");
    }
}
