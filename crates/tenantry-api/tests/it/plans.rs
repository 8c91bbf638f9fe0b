//! Plans, exceptions, and what a tenant has of both.

use crate::server::{Server, key_of, records};
use axum::{body::Body, http::Request};
use serde_json::{Value, json};

const ACME: &str = "/v1/admin/tenants/acme";

impl Server {
    /// What the operator is answered.
    async fn op(&self, line: &str, body: Value, status: u16) -> Value {
        self.call(&self.operator, line, body).await.expect(status)
    }

    /// What the operator is told that asks for something wrong.
    async fn op_refused(&self, line: &str, body: Value, (status, kind): (u16, &str)) -> String {
        self.call(&self.operator, line, body).await.refused(status, kind)
    }

    async fn change(&self, body: Value) -> Value {
        self.op(&format!("PATCH {ACME}"), body, 200).await
    }

    /// Makes a plan with so many requests an hour.
    async fn hourly(&self, plan: &str, value: u32) {
        let body = json!({"rates": {"requests_per_hour": {"value": value}}});
        self.op(&format!("PUT /v1/admin/plans/{plan}"), body, 200).await;
    }
}

/// What an unlimited tenant has, in JSON.
fn usual() -> Value {
    json!({
        "limits": {
            "databases": 1_000, "collections": 100_000, "records_per_collection": 100_000_000,
            "keys": 1_000, "users": 10_000, "vector_dimensions": 16_384,
        },
        "rates": {
            "requests_per_second": null, "requests_per_minute": null, "requests_per_hour": null,
            "concurrent_requests": null,
        },
        "quotas": {
            "records": null, "bytes": null, "requests_per_day": null, "requests_per_month": null,
            "cost_per_month": null,
            "messages_per_day": null, "tokens_per_day": null,
        },
        "weight": 100,
        "on_shared_failure": "local",
        "isolations": ["shared", "schema", "database"],
        "locations": null,
    })
}

#[tokio::test]
async fn a_plan_is_made_listed_changed_and_deleted() {
    let server = Server::start().await;
    let none = server.op("GET /v1/admin/plans", Value::Null, 200).await;
    assert_eq!(none, json!({"plans": []}));
    let body = json!({
        "limits": {"keys": 3}, "weight": 7, "on_shared_failure": "refuse",
        "rates": {"requests_per_second": {"value": 5}, "concurrent_requests": 2},
        "quotas": {"records": 8, "bytes": 1_u64 << 40, "requests_per_month": 9},
        "isolations": ["schema", "shared", "schema"], "locations": ["own", "eu", "home"],
    });
    let made = server.op("PUT /v1/admin/plans/a%2Fb", body, 200).await;
    let mut expected = usual();
    expected["name"] = json!("a/b");
    expected["limits"]["keys"] = json!(3);
    expected["weight"] = json!(7);
    expected["on_shared_failure"] = json!("refuse");
    expected["isolations"] = json!(["shared", "schema"]);
    expected["locations"] = json!(["home", "eu", "own"]);
    expected["rates"]["requests_per_second"] = json!({"value": 5, "burst": 5});
    expected["rates"]["concurrent_requests"] = json!(2);
    expected["quotas"]["records"] = json!(8);
    expected["quotas"]["bytes"] = json!(1_u64 << 40);
    expected["quotas"]["requests_per_month"] = json!(9);
    assert_eq!(made, expected);
    assert_eq!(server.op("GET /v1/admin/plans/a%2Fb", Value::Null, 200).await, expected);

    // It says all of a body and nothing of before.
    server.op("PUT /v1/admin/plans/a%2Fb", Value::Null, 200).await;
    server.op("PUT /v1/admin/plans/A", json!({"weight": 1}), 200).await;
    let all = server.op("GET /v1/admin/plans", Value::Null, 200).await;
    let expected = [("A", 1), ("a/b", 100)].map(|(name, weight)| {
        let mut plan = usual();
        plan["name"] = json!(name);
        plan["weight"] = json!(weight);
        plan
    });
    assert_eq!(all, json!({ "plans": expected }));

    server.op("DELETE /v1/admin/plans/A", Value::Null, 204).await;
    for line in ["DELETE /v1/admin/plans/A", "GET /v1/admin/plans/A"] {
        let why = server.op_refused(line, Value::Null, (404, "not_found")).await;
        assert_eq!(why, "Plan [A] does not exist");
    }
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_refused_with_its_reason() {
    let server = Server::start().await;
    let rates = |rate: Value| json!({"rates": {"requests_per_minute": rate}});
    for (body, says) in [
        (json!({"weight": 0}), "weight: 0 is not between 1 and 1000"),
        (json!({"weight": 1_001}), "weight: 1001 is not between"),
        (json!({"weight": -1}), "line 1 column"),
        (json!({"limits": {"keys": -1}}), "line 1 column"),
        (json!({"limits": {"key": 1}}), "unknown field `key`"),
        (json!({"rates": {"requests_per_day": {"value": 1}}}), "unknown field"),
        (json!({"rates": {"concurrent_requests": 0}}), "concurrent_requests: 0 is not between 1"),
        (json!({"quotas": {"bytes": -1}}), "line 1 column"),
        (json!({"quotas": {"records": -1}}), "line 1 column"),
        (json!({"limits": {"records": 1}}), "unknown field `records`"),
        (json!({"quotas": {"requests_per_hour": 1}}), "unknown field"),
        (json!({"name": "other"}), "unknown field `name`"),
        (json!({"limits": {"vector_dimensions": 0}}), "vector_dimensions: 0 is not between 1 and"),
        (json!({"limits": {"vector_dimensions": 16_385}}), "16385 is not between 1 and 16384"),
        (json!({"isolations": []}), "isolations: say at least one"),
        (json!({"isolations": vec!["shared"; 9]}), "at most 3 are allowed"),
        (json!({"isolations": ["own"]}), "the isolation \"own\" does not exist"),
        (json!({"locations": []}), "locations: say at least one"),
        (json!({"locations": ["EU"]}), "the location \"EU\" does not exist"),
        (json!({"locations": vec!["eu"; 65]}), "locations: 65, at most 64 are allowed"),
        (rates(json!({"value": 0})), "requests_per_minute: 0 is not between 1 and 4294967295"),
        (rates(json!({"value": 1_u64 << 32})), "4294967296 is not between"),
        (rates(json!({"value": 1.5})), "invalid type: floating point"),
        (rates(json!({"value": null})), "invalid type: null"),
        (rates(json!({"value": 1, "burst": 0})), "requests_per_minute, burst: 0 is not between"),
        (rates(json!({"burst": 5})), "missing field `value`"),
        (rates(json!(5)), "invalid type: integer"),
    ] {
        let why = server.op_refused("PUT /v1/admin/plans/p", body, (400, "invalid")).await;
        assert!(why.contains(says), "{says}: {why}");
    }
    for name in ["%00", "a%0Ab", &"x".repeat(513)] {
        let line = format!("PUT /v1/admin/plans/{name}");
        let why = server.op_refused(&line, json!({}), (400, "invalid")).await;
        assert!(why.contains("plan name: "), "{why}");
    }
    let all = server.op("GET /v1/admin/plans", Value::Null, 200).await;
    assert_eq!(all, json!({"plans": []}), "nothing of what was refused is there");
}

#[tokio::test]
async fn a_tenant_is_made_with_a_plan_gets_another_and_loses_it() {
    let server = Server::start().await;
    let body = json!({"name": "acme", "plan": "small", "limits": {"keys": 9}});
    let line = "POST /v1/admin/tenants";
    let why = server.op_refused(line, body.clone(), (404, "not_found")).await;
    assert_eq!(why, "Plan [small] does not exist");
    server.op_refused(&format!("GET {ACME}"), Value::Null, (404, "not_found")).await;
    let small = json!({"limits": {"databases": 2, "keys": 1}, "weight": 50});
    server.op("PUT /v1/admin/plans/small", small, 200).await;
    let made = server.op(line, body, 201).await;
    assert_eq!((&made["plan"], &made["exceptions"]), (&json!("small"), &json!({})));
    assert_eq!(made["limits"]["databases"], 1_000, "what was said of it, which is nothing");

    let shown = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
    let effective = &shown["effective"];
    assert_eq!((&effective["limits"]["databases"], &effective["weight"]), (&json!(2), &json!(50)));
    assert_eq!(effective["limits"]["keys"], 9, "its own count before the plan's");
    let from = &effective["from"];
    assert_eq!([&from["databases"], &from["keys"], &from["weight"]], ["plan", "own", "plan"]);
    let delete = "DELETE /v1/admin/plans/small";
    let why = server.op_refused(delete, Value::Null, (409, "conflict")).await;
    assert!(why.contains("tenants have the plan small"), "{why}");

    let unknown = json!({"plan": "large", "weight": 3});
    server.op_refused(&format!("PATCH {ACME}"), unknown, (404, "not_found")).await;
    let changed = server.change(json!({"settings": {"a": "b"}})).await;
    assert_eq!((&changed["plan"], &changed["weight"]), (&json!("small"), &json!(100)));
    assert_eq!(server.change(json!({"plan": null})).await["plan"], Value::Null);
    let shown = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
    assert_eq!(shown["effective"]["from"]["databases"], "default");
    server.op(delete, Value::Null, 204).await;
    for bad in [json!({"plan": 1}), json!({"plan": ""}), json!({"plan": "a\nb"})] {
        server.op_refused(&format!("PATCH {ACME}"), bad, (400, "invalid")).await;
    }
    let log = server.op("GET /v1/admin/audit", Value::Null, 200).await.to_string();
    assert!(log.contains("acme → small") && log.contains("acme → (none)"), "{log}");
}

#[tokio::test]
async fn vectors_are_as_large_as_a_tenant_may_have_them() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let small = json!({"limits": {"vector_dimensions": 3}});
    server.op("PUT /v1/admin/plans/small", small, 200).await;
    server.change(json!({"plan": "small"})).await;
    let own = server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!(own["limits"]["vector_dimensions"], 3);
    let collections = "POST /v1/databases/default_database/collections";
    for name in ["a", "b"] {
        server.call(&key, collections, json!({"name": name})).await.expect(201);
    }
    let write = async |to: &str, components: usize| {
        let records = format!("{collections}/{to}/records/upsert");
        let record = json!({"records": [{"id": "r", "vector": vec![1; components]}]});
        server.call(&key, &records, record).await
    };
    let refused = write("a", 4).await;
    assert!(!refused.headers.contains_key("retry-after"), "time does not help");
    let why = refused.refused(429, "limit_exceeded");
    assert_eq!(
        why,
        "new vectors of this tenant may have at most 3 components, these have 4: \
         the operator can allow more, by another plan or an exception of `vector_dimensions`"
    );
    write("a", 3).await.expect(200);
    let raised = json!({"exceptions": {"vector_dimensions": {"value": 4, "expires_in_s": 3600}}});
    server.change(raised).await;
    write("b", 4).await.expect(200);
    let shown = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
    let effective = &shown["effective"];
    assert_eq!(effective["limits"]["vector_dimensions"], 4);
    assert_eq!(effective["from"]["vector_dimensions"], "exception");
    server.change(json!({"exceptions": {"vector_dimensions": null}})).await;
    let changed = server.change(json!({"limits": {"vector_dimensions": 2}})).await;
    assert_eq!(changed["limits"]["vector_dimensions"], 2);
    server.call(&key, collections, json!({"name": "c"})).await.expect(201);
    write("c", 3).await.refused(429, "limit_exceeded");
    // What is there goes on.
    for (to, components) in [("a", 3), ("b", 4), ("c", 2)] {
        write(to, components).await.expect(200);
    }
    for bad in [json!({"limits": {"vector_dimensions": 0}}), {
        json!({"exceptions": {"vector_dimensions": {"value": 16_385}}})
    }] {
        let why = server.op_refused(&format!("PATCH {ACME}"), bad, (400, "invalid")).await;
        assert!(why.contains("vector_dimensions: "), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_live_where_their_plan_has_them_live() {
    let server = Server::start().await;
    let shared = json!({"isolations": ["shared"], "locations": ["home"]});
    server.op("PUT /v1/admin/plans/p", shared, 200).await;
    let body = |isolation: &str| json!({"name": "acme", "plan": "p", "isolation": isolation});
    let says = "the plan p does not allow the isolation schema; it allows shared";
    let refused = format!("{says}: choose another plan, or change `isolations` of this one");
    let make = "POST /v1/admin/tenants";
    let why = server.op_refused(make, body("schema"), (409, "conflict")).await;
    assert_eq!(why, refused);
    server.op(make, body("shared"), 201).await;
    let moving = format!("POST {ACME}/move");
    let schema = json!({"isolation": "schema"});
    let why = server.op_refused(&moving, schema.clone(), (409, "conflict")).await;
    assert_eq!(why, refused);
    let advice = server.op(&format!("GET {ACME}/advice?enterprise=true"), Value::Null, 200).await;
    assert_eq!(advice["recommended"]["isolation"], "shared");
    let reasons = advice["reasons"].as_array().unwrap();
    let of_plan = reasons.iter().find(|reason| reason["rule"] == "plan").unwrap();
    assert_eq!(of_plan["says"], says);
    let rule = json!({"from": "shared", "to": "schema", "records_under": 9});
    let rules = json!({"rules": [rule], "stay_ms": 0});
    let plan = server.op("POST /v1/admin/placement/plan", rules, 200).await;
    let acme = &plan["tenants"][0];
    assert_eq!(acme["verdict"], "blocked", "{plan}");
    assert!(acme["why"].as_str().unwrap().ends_with(says), "{plan}");
    // An exception says nothing of it.
    let except = json!({"exceptions": {"isolations": {"value": 1}}});
    server.op_refused(&format!("PATCH {ACME}"), except, (400, "invalid")).await;

    server.op("PUT /v1/admin/plans/apart", json!({"isolations": ["schema"]}), 200).await;
    let other = json!({"plan": "apart", "weight": 7});
    let why = server.op_refused(&format!("PATCH {ACME}"), other.clone(), (409, "conflict")).await;
    let lives = "and the tenant acme lives in shared at home: move it first";
    let expected =
        format!("the plan apart does not allow the isolation shared; it allows schema, {lives}");
    assert_eq!(why, expected);
    let shown = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
    assert_eq!((&shown["plan"], &shown["weight"]), (&json!("p"), &json!(100)), "nothing of it");
    server.change(json!({"plan": null})).await;
    server.op(&moving, schema, 202).await;
    for _ in 0..2_000 {
        let status = server.op(&format!("GET {ACME}/move"), Value::Null, 200).await;
        if status["over"] == true {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(server.change(other).await["plan"], "apart");
}

#[tokio::test]
async fn a_plans_rate_refuses_until_the_plan_says_more() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.hourly("p", 2).await;
    server.change(json!({"plan": "p"})).await;
    for left in [1, 0] {
        let answer = server.call(&key, "GET /v1/tenant", Value::Null).await;
        let said = answer.headers["ratelimit"].to_str().unwrap().to_owned();
        assert!(said.starts_with(&format!(r#""hour";r={left};t="#)), "{said}");
        assert_eq!(answer.headers["ratelimit-policy"], r#""hour";q=2;w=3600"#);
        let own = answer.expect(200);
        assert_eq!(own["rates"]["requests_per_hour"], json!({"value": 2, "burst": 2}));
        assert!(own["rates"]["requests_per_second"].is_null());
    }
    let answer = server.call(&key, "GET /v1/tenant", Value::Null).await;
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=1_800).contains(&wait), "{wait}");
    assert!(answer.headers["ratelimit"].to_str().unwrap().starts_with(r#""hour";r=0;t="#));
    answer.refused(429, "limit_exceeded");

    server.hourly("p", 50).await;
    let answer = server.call(&key, "GET /v1/tenant", Value::Null).await;
    assert_eq!(answer.headers["ratelimit-policy"], r#""hour";q=50;w=3600"#);
    answer.expect(200);
    // What the operator does for it is not counted.
    server.hourly("p", 1).await;
    server.call(&key, "GET /v1/tenant", Value::Null).await.refused(429, "limit_exceeded");
    let request = Request::get("/v1/tenant")
        .header("authorization", format!("Bearer {}", server.operator))
        .header("x-tenant-id", "acme");
    server.send(request.body(Body::empty()).unwrap()).await.expect(200);
}

#[tokio::test]
async fn an_answer_that_is_being_sent_is_a_request_under_way() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let plan = json!({"rates": {"concurrent_requests": 1}});
    server.op("PUT /v1/admin/plans/one", plan, 200).await;
    server.change(json!({"plan": "one"})).await;
    let ask = || {
        let request = Request::get("/v1/tenant").header("authorization", format!("Bearer {key}"));
        request.body(Body::empty()).unwrap()
    };
    let slow = server.unread(ask()).await;
    assert_eq!(slow.status(), 200);
    server.send(ask()).await.refused(429, "limit_exceeded");
    assert!(!axum::body::to_bytes(slow.into_body(), 1 << 20).await.unwrap().is_empty());
    let gone = server.unread(ask()).await;
    server.send(ask()).await.refused(429, "limit_exceeded");
    drop(gone);
    server.send(ask()).await.expect(200);
}

#[tokio::test]
async fn an_exception_raises_a_rate_and_ends_by_itself() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.hourly("p", 1).await;
    server.change(json!({"plan": "p"})).await;
    server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    server.call(&key, "GET /v1/tenant", Value::Null).await.refused(429, "limit_exceeded");
    let raise = json!({"value": 100, "burst": 20, "expires_in_s": 60});
    let changed = server.change(json!({"exceptions": {"requests_per_hour": raise}})).await;
    let end = 1_800_000_060_000_u64;
    let told = json!({"value": 100, "burst": 20, "expires_at_ms": end});
    assert_eq!(changed["exceptions"], json!({"requests_per_hour": told}));
    let own = server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!(own["rates"]["requests_per_hour"], json!({"value": 100, "burst": 20}));
    let source = async || {
        let shown = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
        let effective = &shown["effective"];
        let rate = &effective["rates"]["requests_per_hour"]["value"];
        (effective["from"]["requests_per_hour"].clone(), rate.clone(), shown["exceptions"].clone())
    };
    let all = json!({"requests_per_hour": told});
    assert_eq!(source().await, (json!("exception"), json!(100), all.clone()));
    server.clock.advance_ms(59_999);
    server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    server.clock.advance_ms(1);
    server.call(&key, "GET /v1/tenant", Value::Null).await.refused(429, "limit_exceeded");
    assert_eq!(source().await, (json!("plan"), json!(1), all));
    let unlimited = json!({"exceptions": {"requests_per_hour": {"value": null}}});
    server.change(unlimited).await;
    let answer = server.call(&key, "GET /v1/tenant", Value::Null).await;
    assert!(!answer.headers.contains_key("ratelimit"));
    answer.expect(200);
}

#[tokio::test]
async fn exceptions_are_said_one_by_one_and_hold() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.op("PUT /v1/admin/plans/p", json!({"limits": {"databases": 1, "keys": 1}}), 200).await;
    server.change(json!({"plan": "p", "exceptions": {"databases": {"value": 2}}})).await;
    let make =
        async |name: &str| server.call(&key, "POST /v1/databases", json!({"name": name})).await;
    make("a").await.expect(201);
    make("b").await.refused(429, "limit_exceeded");
    server
        .call(&key, "POST /v1/keys", json!({"role": "read"}))
        .await
        .refused(429, "limit_exceeded");
    let more = json!({"keys": {"value": 5}, "weight": {"value": 3}});
    let changed = server.change(json!({"exceptions": more})).await;
    let lasting = |value: u64| json!({"value": value, "burst": null, "expires_at_ms": null});
    let expected = json!({"databases": lasting(2), "keys": lasting(5), "weight": lasting(3)});
    assert_eq!(changed["exceptions"], expected);
    let made = server.call(&key, "POST /v1/keys", json!({"role": "read"})).await;
    let reader = key_of(&made.expect(201));
    let own = server.call(&reader, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!((&own["limits"]["databases"], &own["limits"]["keys"]), (&json!(2), &json!(5)));
    assert!(own.get("plan").is_none() && own.get("exceptions").is_none(), "{own}");
    let changed = server.change(json!({"exceptions": {"databases": null, "weight": null}})).await;
    assert_eq!(changed["exceptions"], json!({"keys": lasting(5)}));
    let listed = server.op("GET /v1/admin/tenants", Value::Null, 200).await;
    assert_eq!((&listed["tenants"][0], listed["tenants"][0].get("effective")), (&changed, None));
}

#[tokio::test]
async fn what_a_month_may_cost_is_shown_to_admins() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let plan = json!({"quotas": {"cost_per_month": 5, "requests_per_day": 90}});
    server.op("PUT /v1/admin/plans/p", plan, 200).await;
    server.change(json!({"plan": "p"})).await;
    let made = server.call(&key, "POST /v1/keys", json!({"role": "write"})).await;
    let writer = key_of(&made.expect(201));
    for (key, cost) in [(&key, json!(5)), (&writer, Value::Null)] {
        let own = server.call(key, "GET /v1/tenant", Value::Null).await.expect(200);
        let quotas = &own["quotas"];
        assert_eq!((&quotas["cost_per_month"], &quotas["requests_per_day"]), (&cost, &json!(90)));
    }
}

#[tokio::test]
async fn an_exception_that_cannot_be_is_refused_with_its_reason() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let before = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
    let about = |word: &str, one: Value| json!({ "exceptions": { word: one } });
    let second = |one: Value| about("requests_per_second", one);
    for (body, says) in [
        (about("request_per_second", json!(null)), "no limit is called \"request_per_second\""),
        (about("keys", json!({"value": null})), "keys: it must be a number"),
        (about("keys", json!({"value": 1_u64 << 32})), "keys: 4294967296 is not between 0"),
        (about("keys", json!({"value": 1, "burst": 1})), "keys: only rates have a burst"),
        (about("weight", json!({"value": 0})), "weight: 0 is not between 1 and 1000"),
        (about("weight", json!({"value": 70_000})), "weight: 70000 is not between 1 and 1000"),
        (about("concurrent_requests", json!({"value": 0})), "0 is not between 1"),
        (about("bytes", json!({"value": 1, "burst": 1})), "bytes: only rates have a burst"),
        (about("requests_per_day", json!({})), "requests_per_day: say a value"),
        (second(json!({})), "requests_per_second: say a value"),
        (second(json!({"value": 0})), "requests_per_second: 0 is not between 1"),
        (second(json!({"value": null, "burst": 5})), "a burst without a rate"),
        (second(json!({"value": 1, "burst": 0})), "burst: 0 is not between 1"),
        (second(json!({"value": 1, "expires_in_s": 0})), "expiry: must be in the future"),
        (second(json!({"value": 1, "expires_at_ms": 5})), "expiry: must be in the future"),
        (second(json!({"value": 1, "expires_at_ms": 5, "expires_in_s": 5})), "not both"),
        (second(json!({"value": 1, "expires_in_s": u64::MAX})), "too far in the future"),
        (second(json!({"value": 1, "until": 5})), "unknown field `until`"),
        (second(json!(5)), "invalid type: integer"),
        (json!({"exceptions": []}), "invalid type: sequence"),
        (json!({"exceptions": null}), "invalid type: null"),
    ] {
        let why = server.op_refused(&format!("PATCH {ACME}"), body, (400, "invalid")).await;
        assert!(why.contains(says), "{says}: {why}");
    }
    assert_eq!(server.op(&format!("GET {ACME}"), Value::Null, 200).await, before);
    let answer = server.call(&key, &format!("PATCH {ACME}"), second(json!({"value": 9}))).await;
    answer.refused(403, "denied");
}

#[tokio::test]
async fn a_tenant_sees_what_it_keeps_and_writes_no_more_than_it_may() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let own = async || server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!((&own().await["kept_records"], &own().await["kept_bytes"]), (&json!(0), &json!(0)));
    let line = "POST /v1/databases/default_database/collections";
    server.call(&key, line, json!({"name": "c"})).await.expect(201);
    let upsert = records("c", "upsert");
    let body = |id: &str| json!({"records": [{"id": id, "vector": [1.0, 2.0], "document": "abc"}]});
    server.call(&key, &upsert, body("a")).await.expect(200);
    assert_eq!(own().await["kept_bytes"], json!(1 + 3 + 8));
    server.change(json!({"exceptions": {"bytes": {"value": 23}}})).await;
    assert_eq!(own().await["quotas"]["bytes"], json!(23));
    let why = server.call(&key, &upsert, body("b")).await.refused(429, "limit_exceeded");
    assert!(why.contains("may keep 23 bytes; with these records it would be more"), "{why}");
    server.change(json!({"exceptions": {"bytes": {"value": 24}}})).await;
    server.call(&key, &upsert, body("b")).await.expect(200);
    assert_eq!((&own().await["kept_records"], &own().await["kept_bytes"]), (&json!(2), &json!(24)));
    let counts = json!({"databases": 1, "collections": 1, "keys": 1, "users": 0});
    assert_eq!(own().await["counts"], counts);
    let shown = server.op(&format!("GET {ACME}?counts=true"), Value::Null, 200).await;
    assert_eq!((&shown["counts"], &shown["kept_bytes"]), (&counts, &json!(24)));
    assert!(server.op(&format!("GET {ACME}"), Value::Null, 200).await.get("counts").is_none());
    let log = server.call(&key, "GET /v1/audit", Value::Null).await.expect(200);
    assert_eq!(log.to_string().matches("operator.measure").count(), 1, "{log}");
    let changed = json!({"exceptions": {"bytes": null, "records": {"value": 2}}});
    let changed = server.change(changed).await;
    assert_eq!(changed["exceptions"]["records"]["value"], json!(2));
    let tenant = server.op(&format!("GET {ACME}"), Value::Null, 200).await;
    assert_eq!(tenant["effective"]["from"]["records"], json!("exception"));
    assert_eq!(own().await["quotas"]["records"], json!(2));
    let why = server.call(&key, &upsert, body("c")).await.refused(429, "limit_exceeded");
    assert!(why.contains("may keep 2 records in all collections; with these it would"), "{why}");
    server.call(&key, &upsert, body("b")).await.expect(200);
    let bad = json!({"exceptions": {"records": {"value": 1, "burst": 2}}});
    let why = server.op_refused(&format!("PATCH {ACME}"), bad, (400, "invalid")).await;
    assert!(why.contains("records: only rates have a burst"), "{why}");
}

#[tokio::test]
async fn a_day_that_is_used_up_says_when_to_come_again() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.change(json!({"exceptions": {"requests_per_day": {"value": 2}}})).await;
    for _ in 0..2 {
        server.call(&key, "GET /v1/databases", Value::Null).await.expect(200);
    }
    let answer = server.call(&key, "GET /v1/databases", Value::Null).await;
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let why = answer.refused(429, "limit_exceeded");
    assert!(why.contains("may make 2 requests a day of UTC"), "{why}");
    server.change(json!({"exceptions": {"requests_per_day": {"value": null}}})).await;
    server.call(&key, "GET /v1/databases", Value::Null).await.expect(200);
}
