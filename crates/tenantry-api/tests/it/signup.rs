//! Strangers make tenants.

use crate::server::{Answer, Server};
use axum::{body::Body, http::Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use tenantry_api::Peer;
use tenantry_engine::{CollectionName, DatabaseName, PlanName, Rate, Rates, SignUpRules};

fn an_hour(amount: u32) -> Rates {
    Rates { hour: NonZeroU32::new(amount).map(Rate::new), ..Rates::default() }
}

fn rules(by_address: u32, in_all: u32) -> SignUpRules {
    SignUpRules {
        by_address: an_hour(by_address),
        in_all: an_hour(in_all),
        ..SignUpRules::default()
    }
}

async fn ask(server: &Server, peer: &str, forwarded: &str, body: Body) -> Answer {
    let request = Request::post("/v1/signup")
        .header("x-forwarded-for", forwarded)
        .header("content-type", "application/json")
        .extension(Peer(peer.parse().unwrap()));
    server.send(request.body(body).unwrap()).await
}

async fn wish(server: &Server, body: Value) -> Answer {
    ask(server, "1.1.1.1", "", Body::from(body.to_string())).await
}

#[tokio::test]
async fn a_stranger_gets_a_whole_tenant_and_its_key() {
    let chat = DatabaseName::parse("chat").unwrap();
    let messages = || vec![CollectionName::parse("messages").unwrap()];
    let template = vec![(DatabaseName::default_database(), messages()), (chat, messages())];
    let plan = Some(PlanName::parse("free").unwrap());
    let server = Server::signing_up(SignUpRules { plan, template, ..rules(100, 100) }).await;
    // The plan that the operator has named is not there yet: nobody gets a tenant without.
    let why = wish(&server, json!({"subdomain": "acme"})).await.refused(503, "unavailable");
    assert!(!why.contains("free"), "{why}");
    let line = "PUT /v1/admin/plans/free";
    server.call(&server.operator, line, json!({"limits": {"databases": 3}})).await.expect(200);

    let answer = wish(&server, json!({"subdomain": "acme"})).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let made = answer.expect(201);
    assert_eq!(made["login_url"], "https://acme.example.com/login");
    assert_eq!((&made["tenant"], &made["plan"]), (&json!("acme"), &json!("free")));
    let key = made["key"].as_str().unwrap();
    let own = server.call(key, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!((&own["name"], &own["state"]), (&json!("acme"), &json!("active")));
    for database in ["default_database", "chat"] {
        let line = format!("GET /v1/databases/{database}/collections/messages");
        server.call(key, &line, Value::Null).await.expect(200);
    }
    server.call(key, "POST /v1/keys", json!({"role": "read"})).await.expect(201);
    // Not below the path of another tenant: there is none yet.
    let body = json!({"subdomain": "globex"}).to_string();
    let request = Request::post("/t/acme/v1/signup").header("content-type", "application/json");
    let below = server.send(request.body(Body::from(body)).unwrap()).await;
    below.refused(404, "not_found");
    server.call(key, "GET /v1/admin/tenants", Value::Null).await.refused(403, "denied");
    let shown = server.call(&server.operator, "GET /v1/admin/tenants/acme", Value::Null).await;
    let shown = shown.expect(200);
    assert_eq!(shown["isolation"], "shared");
    // How many tenants were made is not told to strangers.
    assert!(made["id"].is_null() && shown["id"].is_u64());
    // Both logs say where it comes from.
    for (who, path) in [(key, "/v1/audit"), (&*server.operator, "/v1/admin/audit")] {
        let log = server.call(who, &format!("GET {path}"), Value::Null).await.expect(200);
        let entries = log["entries"].as_array().unwrap();
        let signed_up = entries.iter().filter(|one| one["action"] == "tenant.signup");
        let by: Vec<_> = signed_up.map(|one| &one["actor"]).collect();
        assert_eq!(by, [&json!("signup")], "{log}");
    }
}

#[tokio::test]
async fn a_name_that_is_reserved_or_taken_is_given_to_nobody() {
    let server = Server::signing_up(rules(100, 100)).await;
    server.engine.keep_deleted(std::time::Duration::from_secs(60));
    let operator = server.operator.clone();
    server.tenant("acme").await;
    let taken = async || wish(&server, json!({"subdomain": "acme"})).await;
    taken().await.refused(409, "already_exists");
    // A deleted tenant has its name until it is erased.
    let line = "DELETE /v1/admin/tenants/acme";
    server.call(&operator, line, Value::Null).await.expect(202);
    taken().await.refused(409, "already_exists");
    server.call(&operator, &format!("{line}?now=true"), Value::Null).await.expect(204);
    taken().await.expect(201);
    for reserved in ["www", "admin", "api", "login", "default", "tenantry", "v1", "ab", "xn--a"] {
        let why = wish(&server, json!({"subdomain": reserved})).await.refused(400, "invalid");
        assert!(why.contains("subdomain"), "{why}");
    }
    for bad in [
        json!({"subdomain": "Globex"}),
        json!({"subdomain": "a.globex"}),
        json!({"subdomain": "globex", "plan": "enterprise"}),
        json!({"subdomain": 7}),
        json!({"subdomain": "globex", "email": 7}),
        json!({"subdomain": "globex", "email": ""}),
        json!({"subdomain": "globex", "email": "ada@example.com, bob@example.com"}),
        json!({"subdomain": "globex", "email": "ada@example.com\r\nBcc: bob"}),
        json!({}),
        json!([]),
    ] {
        wish(&server, bad).await.refused(400, "invalid");
    }
    let large = format!(r#"{{"subdomain": "globex{}"}}"#, " ".repeat(5_000));
    ask(&server, "1.1.1.1", "", Body::from(large)).await.refused(400, "invalid");
    let line = "GET /v1/admin/tenants";
    let all = server.call(&operator, line, Value::Null).await.expect(200);
    assert_eq!(all["tenants"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_browser_sends_across_sites_is_not_read() {
    let server = Server::signing_up(rules(100, 100)).await;
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        let mut request = Request::post("/v1/signup");
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        let body = Body::from(r#"{"subdomain": "acme"}"#);
        let answer = server.send(request.body(body).unwrap()).await;
        answer.refused(415, "unsupported_media_type");
    }
}

#[tokio::test]
async fn addresses_are_limited_and_all_together() {
    let server = Server::signing_up(rules(1, 3)).await;
    server.tenant("acme").await;
    // Whoever looks for names that are taken is limited as well.
    let is_asked = async |peer: &str, forwarded: &str| {
        let body = Body::from(r#"{"subdomain": "acme"}"#);
        let answer = ask(&server, peer, forwarded, body).await;
        if answer.status != 429 {
            answer.refused(409, "already_exists");
            return true;
        }
        let seconds = answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap();
        assert!((1..=3_600).contains(&seconds), "{seconds}");
        answer.refused(429, "limit_exceeded");
        false
    };
    // What a client says of itself does not count; what a proxy says does.
    assert!(is_asked("1.1.1.1", "").await);
    assert!(!is_asked("1.1.1.1", "9.9.9.9").await);
    assert!(is_asked("10.0.0.1", "1.1.1.1, 2.2.2.2").await);
    assert!(!is_asked("10.0.0.1", "8.8.8.8, 2.2.2.2, 10.0.0.9").await);
    assert!(is_asked("fd00::1", "").await);
    assert!(!is_asked("fd00::2", "").await);
    // The three are used up. Whoever is refused has sent nothing that is read.
    assert!(!is_asked("3.3.3.3", "").await);
    let panic = |_: &_| panic!("the body of one who comes too often was read");
    let body = Body::new(Full::new(Bytes::from_static(b"{}")).inspect_frame(panic));
    ask(&server, "4.4.4.4", "", body).await.refused(429, "limit_exceeded");
}

#[tokio::test]
async fn a_request_for_no_name_that_could_be_given_uses_up_nothing() {
    let server = Server::signing_up(rules(1, 1)).await;
    for body in ["", "{}", "[]", r#"{"subdomain": "Acme"}"#, r#"{"subdomain": "www"}"#] {
        for _ in 0..3 {
            ask(&server, "1.1.1.1", "", Body::from(body)).await.refused(400, "invalid");
        }
    }
    let email = json!({"subdomain": "acme", "email": "nobody"});
    wish(&server, email).await.refused(400, "invalid");
    wish(&server, json!({"subdomain": "acme"})).await.expect(201);
    // Now nothing of whoever comes is read, whatever it is.
    ask(&server, "1.1.1.1", "", Body::from("{}")).await.refused(429, "limit_exceeded");
    ask(&server, "2.2.2.2", "", Body::from("{}")).await.refused(429, "limit_exceeded");
}
