//! The operator's routes.

use crate::server::{Server, key_of};
use serde_json::{Value, json};

#[tokio::test]
async fn a_tenant_is_made_changed_and_erased() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let body = json!({
        "name": "acme", "weight": 200, "limits": {"databases": 5}, "settings": {"plan": "gold"},
    });
    let made = server.call(&op, "POST /v1/admin/tenants", body).await.expect(201);
    assert_eq!(made["name"], "acme");
    assert_eq!(made["state"], "active");
    assert_eq!(made["weight"], 200);
    assert_eq!(made["limits"]["databases"], 5);
    assert_eq!(made["limits"]["keys"], 1_000);
    assert_eq!(made["settings"], json!({"plan": "gold"}));
    assert_eq!(made["created_at_ms"], 1_800_000_000_000_u64);

    let again = server.call(&op, "POST /v1/admin/tenants", json!({"name": "acme"})).await;
    again.refused(409, "already_exists");

    let change = json!({
        "name": "acme 2", "limits": {"keys": 7}, "settings": {"plan": null, "region": "eu"},
    });
    let changed = server.call(&op, "PATCH /v1/admin/tenants/acme", change).await.expect(200);
    assert_eq!(changed["id"], made["id"]);
    assert_eq!(changed["limits"]["databases"], 5, "limits that are not named stay");
    assert_eq!(changed["limits"]["keys"], 7);
    assert_eq!(changed["settings"], json!({"region": "eu"}));

    server.call(&op, "GET /v1/admin/tenants/acme", Value::Null).await.refused(404, "not_found");
    let line = "GET /v1/admin/tenants/acme%202";
    let mut shown = server.call(&op, line, Value::Null).await.expect(200);
    let effective = shown.as_object_mut().unwrap().remove("effective").unwrap();
    assert_eq!(effective["limits"], changed["limits"]);
    assert_eq!(shown, changed);

    server.call(&op, "DELETE /v1/admin/tenants/acme%202", Value::Null).await.expect(204);
    let gone = server.call(&op, "GET /v1/admin/tenants/acme%202", Value::Null).await;
    gone.refused(404, "not_found");
}

#[tokio::test]
async fn what_two_change_of_a_tenant_at_once_is_all_kept() {
    let server = Server::start().await;
    let op = server.operator.clone();
    server.call(&op, "POST /v1/admin/tenants", json!({"name": "acme"})).await.expect(201);
    let line = "PATCH /v1/admin/tenants/acme";
    let change = async |body: Value| server.call(&op, line, body).await.expect(200);
    tokio::join!(
        change(json!({"limits": {"databases": 3}})),
        change(json!({"limits": {"keys": 4}})),
        change(json!({"limits": {"collections": 5}, "settings": {"a": "1"}})),
        change(json!({"settings": {"b": "2"}})),
    );
    let line = "GET /v1/admin/tenants/acme";
    let shown = server.call(&op, line, Value::Null).await.expect(200);
    let limits = &shown["limits"];
    let found = [&limits["databases"], &limits["keys"], &limits["collections"]];
    assert_eq!(found, [&json!(3), &json!(4), &json!(5)]);
    assert_eq!(shown["settings"], json!({"a": "1", "b": "2"}));
}

#[tokio::test]
async fn a_setting_that_means_something_is_not_mistyped() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let wrong = json!({"name": "acme", "settings": {"placement": "Fixed"}});
    let why = server.call(&op, "POST /v1/admin/tenants", wrong).await.refused(400, "invalid");
    assert!(why.contains("placement: it may be \"fixed\""), "{why}");
    let line = "PATCH /v1/admin/tenants/acme";
    server.call(&op, line, Value::Null).await.refused(404, "not_found");
    let right = json!({"name": "acme", "settings": {"placement": "fixed", "plan": "Fixed"}});
    server.call(&op, "POST /v1/admin/tenants", right).await.expect(201);
    let wrong = json!({"settings": {"plan": "gold", "placement": "home"}});
    let why = server.call(&op, line, wrong).await.refused(400, "invalid");
    assert!(why.contains("\"fixed\", or not be set"), "{why}");
    let free = json!({"settings": {"placement": null}});
    let changed = server.call(&op, line, free).await.expect(200);
    assert_eq!(changed["settings"], json!({"plan": "Fixed"}), "nothing of what was refused is set");
}

#[tokio::test]
async fn tenants_are_listed_page_by_page() {
    let server = Server::start().await;
    let op = server.operator.clone();
    for name in ["b", "a", "d&d", "c"] {
        server.call(&op, "POST /v1/admin/tenants", json!({"name": name})).await.expect(201);
    }
    let mut names = Vec::new();
    let mut after = String::new();
    loop {
        let line = format!("GET /v1/admin/tenants?limit=2{after}");
        let page = server.call(&op, &line, Value::Null).await.expect(200);
        let tenants = page["tenants"].as_array().unwrap();
        assert!(!tenants.is_empty(), "a last page is not empty");
        names.extend(tenants.iter().map(|t| t["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={}", crate::server::encoded(next));
    }
    assert_eq!(names, ["a", "b", "c", "d&d"]);
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_until_resumed() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("acme").await;
    let other = server.tenant("other").await;
    server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
    let suspended =
        server.call(&op, "POST /v1/admin/tenants/acme/suspend", Value::Null).await.expect(200);
    assert_eq!(suspended["state"], "suspended");
    server.call(&admin, "GET /v1/tenant", Value::Null).await.refused(403, "suspended");
    server.call(&admin, "GET /v1/databases", Value::Null).await.refused(403, "suspended");
    server.call(&other, "GET /v1/tenant", Value::Null).await.expect(200);
    server.call(&op, "POST /v1/admin/tenants/acme/resume", Value::Null).await.expect(200);
    server.call(&admin, "GET /v1/tenant", Value::Null).await.expect(200);
}

#[tokio::test]
async fn an_erased_tenants_keys_are_refused_at_once() {
    let server = Server::start().await;
    let admin = server.tenant("acme").await;
    let op = server.operator.clone();
    server.call(&op, "DELETE /v1/admin/tenants/acme", Value::Null).await.expect(204);
    server.call(&admin, "GET /v1/tenant", Value::Null).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn operator_keys_are_made_listed_and_revoked() {
    let server = Server::start().await;
    let op = server.operator.clone();
    server.tenant("acme").await;
    let body = json!({"label": "billing", "expires_in_s": 60});
    let made = server.call(&op, "POST /v1/admin/keys", body).await.expect(201);
    assert_eq!(made["act_as"], false);
    assert_eq!(made["expires_at_ms"], 1_800_000_060_000_u64);
    let key = key_of(&made);

    server.call(&key, "GET /v1/admin/tenants/acme", Value::Null).await.expect(200);
    let line = "GET /v1/admin/keys";
    let listed = server.call(&key, line, Value::Null).await.expect(200);
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("hash") && !listed.to_string().contains("tnt_"));

    let line = format!("DELETE /v1/admin/keys/{}", made["id"].as_str().unwrap());
    server.call(&op, &line, Value::Null).await.expect(204);
    server.call(&key, "GET /v1/admin/keys", Value::Null).await.refused(401, "unauthenticated");
    server.call(&op, &line, Value::Null).await.refused(404, "not_found");
    server.call(&op, "DELETE /v1/admin/keys/x%2Fy", Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn the_operators_log_tells_what_operators_did() {
    let server = Server::start().await;
    let op = server.operator.clone();
    server.call(&op, "POST /v1/admin/tenants", json!({"name": "acme"})).await.expect(201);
    server.call(&op, "POST /v1/admin/tenants/acme/suspend", Value::Null).await.expect(200);
    let log = server.call(&op, "GET /v1/admin/audit", Value::Null).await.expect(200);
    let actions: Vec<_> =
        log["entries"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert!(actions.contains(&"tenant.suspend"), "{actions:?}");
    let line = "GET /v1/admin/audit?limit=1";
    let page = server.call(&op, line, Value::Null).await.expect(200);
    assert_eq!(page["entries"].as_array().unwrap().len(), 1);
    assert_eq!(page["next"], page["entries"][0]["sequence"]);
}

/// What is said of places that are not there is refused, and no URL comes back.
#[tokio::test]
async fn where_a_tenant_is_to_be_is_refused_without_repeating_a_url() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let own = json!({"url": "postgresql://a:hush@127.0.0.1:1/d"});
    let with = |more: Value| {
        let mut body = json!({"name": "acme"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (more, status, kind, says) in [
        (json!({"location": "eu"}), 400, "invalid", "given are: none"),
        (json!({"own_database": own}), 503, "unavailable", "127.0.0.1:1"),
        (json!({"location": "eu", "own_database": own}), 400, "invalid", "not both"),
        (
            json!({"isolation": "schema", "own_database": own}),
            400,
            "invalid",
            "has the isolation database",
        ),
        (json!({"location": "own"}), 400, "invalid", "needs its URL"),
        (json!({"location": "postgres://a:hush@h"}), 400, "invalid", "location: home"),
        (json!({"own_database": own["url"]}), 400, "invalid", "own_database: an object"),
        (json!({"own_database": {"uri": own["url"]}}), 400, "invalid", "own_database: an object"),
    ] {
        let answer = server.call(&op, "POST /v1/admin/tenants", with(more.clone())).await;
        assert!(!answer.text.contains("hush"), "{}", answer.text);
        let why = answer.refused(status, kind);
        assert!(why.contains(says), "{more}: {why}");
    }
    let made = server.call(&op, "POST /v1/admin/tenants", with(json!({"location": "home"}))).await;
    assert_eq!(made.expect(201)["location"], "home");
    let change = server.call(&op, "PATCH /v1/admin/tenants/acme", json!({"own_database": own}));
    let why = change.await.refused(400, "invalid");
    assert!(why.contains("carries no database URL"), "{why}");
    let log = server.call(&op, "GET /v1/admin/audit", Value::Null).await.expect(200);
    assert!(!log.to_string().contains("hush"));
}

#[tokio::test]
async fn where_a_tenant_should_live_is_told_and_nothing_is_changed() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("a/b").await;
    server.tenant("other").await;
    let path = "/v1/databases/default_database/collections";
    server.call(&admin, &format!("POST {path}"), json!({"name": "c"})).await.expect(201);
    let records = json!({"records": [{"id": "1", "vector": [1, 0, 0]}, {"id": "2"}]});
    server.call(&admin, &format!("POST {path}/c/records/upsert"), records).await.expect(200);
    let line = "GET /v1/admin/tenants/a%2Fb/advice";
    let advice = server.call(&op, line, Value::Null).await.expect(200);
    let home =
        |isolation| json!({"isolation": isolation, "backend": "embedded", "location": "home"});
    assert_eq!(advice["tenant"], "a/b");
    assert_eq!((&advice["present"], &advice["recommended"]), (&home("shared"), &home("shared")));
    let numbers = json!({
        "tenants": 2, "databases": 1, "collections": 1, "records": 2, "largest_collection": 2,
        "dimension": 3, "vector_bytes": 24, "given": [],
    });
    assert_eq!(advice["numbers"], numbers);
    let rules = |advice: &Value| -> Vec<String> {
        let reasons = advice["reasons"].as_array().unwrap();
        reasons.iter().map(|reason| reason["rule"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(rules(&advice), ["stays", "usual"]);

    let all = "compliance=regulated&enterprise=true&load_percent=10&budget=low&residency=home\
               &records=1000000&dimension=8&tenants=20000";
    let advice = server.call(&op, &format!("{line}?{all}"), Value::Null).await.expect(200);
    assert_eq!(advice["recommended"], home("database"));
    let expected = ["residency", "regulated", "enterprise", "load", "size", "budget"];
    assert_eq!(rules(&advice), expected);
    assert_eq!(advice["reasons"][3]["isolation"], "shared", "the budget is low");
    assert_eq!(advice["numbers"]["given"], json!(["tenants", "records", "dimension"]));
    let own = server.call(&op, &format!("{line}?own_database=true"), Value::Null).await.expect(200);
    let carried = json!({"isolation": "database", "backend": "postgres", "location": "own"});
    assert_eq!((&own["recommended"], &own["unmet"]), (&carried, &json!([])));
    let shown = server.call(&op, "GET /v1/admin/tenants/a%2Fb", Value::Null).await.expect(200);
    assert_eq!(shown["isolation"], "shared");

    for (query, says) in [
        ("load_percent=101", "load_percent"),
        ("load_percent=-1", "load_percent"),
        ("compliance=some", "compliance"),
        ("budget=1", "budget"),
        ("dimension=0", "dimension"),
        ("tenants=0", "tenants"),
        ("residency=eu", "no location eu"),
        ("residency=postgres%3A%2F%2Fa%3Ahush%40h", "residency: home"),
        ("residency=own", "use own_database"),
        ("more=1", "more"),
    ] {
        let answer = server.call(&op, &format!("{line}?{query}"), Value::Null).await;
        assert!(!answer.text.contains("hush"), "{}", answer.text);
        let why = answer.refused(400, "invalid");
        assert!(why.contains(says), "{query}: {why}");
    }
    let missing = server.call(&op, "GET /v1/admin/tenants/x/advice", Value::Null).await;
    missing.refused(404, "not_found");
    server.call(&admin, line, Value::Null).await.refused(403, "denied");
    let log = server.call(&admin, "GET /v1/audit?limit=1000", Value::Null).await.expect(200);
    assert!(log.to_string().contains("operator.measure"), "{log}");
}

#[tokio::test]
async fn what_erased_tenants_left_is_listed_and_is_given_up_elsewhere_only() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("acme").await;
    let list = "GET /v1/admin/leftovers";
    let found = server.call(&op, list, Value::Null).await.expect(200);
    assert_eq!(found, json!({"leftovers": []}));
    // The first is the installation's own number, and more than any backend has room for are the last.
    let (large, last) = (((1_u64 << 57) + 1).to_string(), u64::MAX.to_string());
    for unknown in ["0", "99", &large, &last, "x"] {
        let line = format!("DELETE /v1/admin/leftovers/{unknown}");
        server.call(&op, &line, Value::Null).await.refused(404, "not_found");
    }
    server.call(&op, "DELETE /v1/admin/leftovers/1", Value::Null).await.refused(409, "conflict");
    server.call(&admin, list, Value::Null).await.refused(403, "denied");
}

#[tokio::test]
async fn a_repeated_request_for_a_tenant_is_answered_again() {
    let server = Server::start().await;
    let ask = |keys: &'static [&'static str], weight: u16| {
        let mut request = axum::http::Request::post("/v1/admin/tenants")
            .header("x-api-key", &server.operator)
            .header("content-type", "application/json");
        for key in keys {
            request = request.header("idempotency-key", *key);
        }
        let body = json!({"name": "acme", "weight": weight}).to_string();
        server.send(request.body(axum::body::Body::from(body)).unwrap())
    };
    let first = ask(&["a"], 1).await;
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let second = ask(&["a"], 1).await;
    assert_eq!(second.headers["idempotency-replayed"], "true");
    assert_eq!(first.expect(201), second.expect(201));
    for (keys, weight) in [(&["b"][..], 1), (&["a"], 2), (&[], 1)] {
        ask(keys, weight).await.refused(409, "already_exists");
    }
    for keys in [&["a", "a"][..], &[""], &["a b"], &["\u{e9}"]] {
        ask(keys, 1).await.refused(400, "invalid");
    }
}

#[tokio::test]
async fn a_deleted_tenant_can_be_restored_within_its_grace() {
    let server = Server::start().await;
    server.engine.keep_deleted(std::time::Duration::from_secs(1));
    let op = server.operator.clone();
    let key = server.tenant("acme").await;
    let line = "DELETE /v1/admin/tenants/acme";
    let deleted = server.call(&op, line, Value::Null).await.expect(202);
    assert_eq!(deleted["state"], "deleting");
    assert_eq!(deleted["erase_at_ms"], 1_800_000_001_000_u64);
    server.call(&key, "GET /v1/tenant", Value::Null).await.refused(401, "unauthenticated");
    let restore = "POST /v1/admin/tenants/acme/restore";
    let restored = server.call(&op, restore, Value::Null).await.expect(200);
    assert_eq!((&restored["state"], &restored["id"]), (&json!("active"), &deleted["id"]));
    server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    server.call(&op, line, Value::Null).await.expect(202);
    server.call(&op, &format!("{line}?now=true"), Value::Null).await.expect(204);
    server.call(&op, restore, Value::Null).await.refused(404, "not_found");
}
