//! What a placement policy would do, by the operator's route.

use crate::server::{Server, records};
use serde_json::{Value, json};

const PLAN: &str = "POST /v1/admin/placement/plan";

fn rule(over: u64) -> Value {
    json!({"from": "shared", "to": "schema", "records_over": over})
}

#[tokio::test]
async fn a_plan_says_of_each_tenant_what_would_be_done_and_why() {
    let server = Server::start().await;
    let op = server.operator.clone();
    for name in ["acme", "beta", "gamma"] {
        let admin = server.tenant(name).await;
        server.collection(&admin, "notes").await;
        let rows = json!({"records": [{"id": "a"}, {"id": "b"}]});
        let many = if name == "beta" { rows } else { json!({"records": [{"id": "a"}]}) };
        server.call(&admin, &records("notes", "add"), many).await.expect(200);
    }
    let stays = |name: &str| {
        json!({
            "tenant": name, "from": {"isolation": "shared", "location": "home"},
            "verdict": "stay", "to": null, "rule": null,
            "why": "no rule's bounds are met by 1 records, 0 bytes",
        })
    };
    let moves = json!({
        "tenant": "beta", "from": {"isolation": "shared", "location": "home"},
        "verdict": "move", "to": {"isolation": "schema", "location": "home"}, "rule": 2,
        "why": "rule 2: 2 records are more than 1",
    });
    let rules = json!([rule(5), rule(1)]);
    let body = json!({"rules": rules, "stay_ms": 0, "limit": 2});
    let page = server.call(&op, PLAN, body).await.expect(200);
    assert_eq!(page, json!({"tenants": [stays("acme"), moves], "next": "beta"}));
    let body = json!({"rules": rules, "stay_ms": 0, "after": "beta"});
    let page = server.call(&op, PLAN, body).await.expect(200);
    assert_eq!(page, json!({"tenants": [stays("gamma")], "next": null}));
    // Nothing was begun.
    let found = server.call(&op, "GET /v1/admin/moves", Value::Null).await.expect(200);
    assert_eq!(found, json!({"moves": []}));
    let page = server.call(&op, PLAN, json!({"rules": rules})).await.expect(200);
    let why = page["tenants"][0]["why"].as_str().unwrap();
    assert!(why.ends_with("stays for another 24 h"), "{why}");
    let mut away = rule(1);
    away["to_location"] = "eu".into();
    let page = server.call(&op, PLAN, json!({"rules": [away], "stay_ms": 0})).await.expect(200);
    let beta = &page["tenants"][1];
    assert_eq!((&beta["verdict"], &beta["rule"]), (&json!("blocked"), &json!(1)));
    assert_eq!(beta["to"], json!({"isolation": "schema", "location": "eu"}));
    assert!(beta["why"].as_str().unwrap().ends_with("but there is no location eu here"), "{beta}");
}

#[tokio::test]
async fn a_plan_that_makes_no_sense_is_refused() {
    let server = Server::start().await;
    let op = server.operator.clone();
    let admin = server.tenant("acme").await;
    let back = json!({"from": "schema", "to": "shared", "records_under": 90});
    for (body, says) in [
        (json!({}), "no placement policy is followed here"),
        (json!({"stay_ms": 1}), "stay_ms"),
        (json!({"rules": []}), "rules: there are no rules"),
        (
            json!({"rules": [rule(1), {"from": "shared", "to": "schema"}]}),
            "rules, 2: it has no bound",
        ),
        (json!({"rules": [rule(100), back]}), "rules, 2: rules 1 and 2 could send"),
        (json!({"rules": [{"from": "room", "to": "schema"}]}), "rules, 1: the isolation"),
        (json!({"rules": [{"from": "shared"}]}), "to"),
        (json!({"rules": [rule(1)], "limit": 0}), "limit: 0"),
        (json!({"rules": [rule(1)], "every": "1h"}), "every"),
    ] {
        let why = server.call(&op, PLAN, body.clone()).await.refused(400, "invalid");
        assert!(why.contains(says), "{body}: {why}");
    }
    let body = json!({"rules": [rule(1)]});
    server.call(&admin, PLAN, body.clone()).await.refused(403, "denied");
    server.call("x", PLAN, body).await.refused(401, "unauthenticated");
}
