//! What an application reports of its tenants' usage.

use crate::server::Server;
use serde_json::{Value, json};

const REPORT: &str = "POST /v1/usage/events";

fn event(id: &str, meter: &str, amount: u64) -> Value {
    json!({ "id": id, "meter": meter, "amount": amount })
}

fn report(events: &[Value]) -> Value {
    json!({ "events": events })
}

#[tokio::test]
async fn events_are_counted_once_and_shown() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let events = [event("a", "messages", 2), event("b", "money_micros", 7)];
    let told = server.call_in("acme", REPORT, report(&events)).await.expect(200);
    assert_eq!(told, json!({"counted": 2, "duplicates": 0, "left": {}}));
    let told = server.call_in("acme", REPORT, report(&events)).await.expect(200);
    assert_eq!(told, json!({"counted": 0, "duplicates": 2, "left": {}}));
    let wrong = report(&[event("c", "tokens", 1), event("a", "messages", 3)]);
    let why = server.call_in("acme", REPORT, wrong).await.refused(409, "conflict");
    assert!(why.contains("\"a\" is of 2 messages and not of 3 messages"), "{why}");
    let used = server.call(&key, "GET /v1/usage", Value::Null).await.expect(200);
    let amounts = &used["entries"][0]["amounts"];
    assert_eq!((&amounts["messages"], &amounts["tokens"]), (&json!("2"), &Value::Null));
    let csv = server.call(&key, "GET /v1/usage?format=csv", Value::Null).await.text;
    let mut lines = csv.lines();
    assert!(lines.next().unwrap().ends_with(",tokens,money_micros,messages"), "{csv}");
    assert!(lines.next().unwrap().ends_with(",0,7,2"), "{csv}");
    let month = used["entries"][0]["at"].as_str().unwrap();
    let bill = format!("GET /v1/bill?month={month}");
    let bill = server.call(&key, &bill, Value::Null).await.expect(200);
    assert_eq!(
        (&bill["total_micros"], &bill["cost_micros"]["money_micros"]),
        (&json!("7"), &json!("7"))
    );
}

#[tokio::test]
async fn all_tenants_are_shown_as_csv_too() {
    let server = Server::start().await;
    for (name, amount) in [("acme", 2), ("a \"b\", c", 3), ("gone", 4)] {
        server.tenant(name).await;
        let events = [event("a", "messages", amount), event("b", "tokens", 10 * amount)];
        server.call_in(name, REPORT, report(&events)).await.expect(200);
    }
    let gone = server.call(&server.operator, "DELETE /v1/admin/tenants/gone", Value::Null).await;
    assert_eq!(gone.status, 204);
    let ask = async |more: &str| {
        let line = format!("GET /v1/admin/usage/tenants?limit=2{more}");
        server.call(&server.operator, &line, Value::Null).await
    };
    let (first, csv) = (ask("").await.expect(200), ask("&format=csv").await);
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8; header=present");
    let lines: Vec<_> = csv.text.split("\r\n").collect();
    let [head, acme, other, ""] = lines[..] else { panic!("{lines:?}") };
    assert!(head.starts_with("id,name,at,requests,") && head.ends_with(",messages"), "{head}");
    let ids = [0, 1].map(|at: usize| first["entries"][at]["id"].as_u64().unwrap());
    assert!(acme.starts_with(&format!("{},\"acme\",2027-01,", ids[0])), "{acme}");
    assert!(acme.ends_with(",20,0,2"), "{acme}");
    // A name is quoted, whatever is in it.
    assert!(other.starts_with(&format!("{},\"a \"\"b\"\", c\",2027-01,", ids[1])), "{other}");
    assert!(other.ends_with(",30,0,3"), "{other}");
    // The next page, and one who is gone: without a name.
    let rest = ask(&format!("&format=csv&after={}", ids[1])).await.text;
    let rest: Vec<_> = rest.lines().collect();
    assert!(rest.len() == 2 && rest[0] == head, "{rest:?}");
    assert!(rest[1].contains(",\"\",2027-01,") && rest[1].ends_with(",40,0,4"), "{rest:?}");
}

#[tokio::test]
async fn bills_of_all_tenants_come_in_pages_and_as_csv() {
    let server = Server::start().await;
    let operate = async |line: &str, body: Value| server.call(&server.operator, line, body).await;
    let prices = json!({ "prices": { "messages": 2_000_000_000_000_u64 } });
    for (line, body) in
        [("PUT /v1/admin/plans/p", json!({})), ("PUT /v1/admin/plans/p/tariffs/2027-01", prices)]
    {
        assert!(operate(line, body).await.status.is_success(), "{line}");
    }
    let mut keys = Vec::new();
    for (name, amount) in [("acme", 2), ("b", 3), ("gone", 4)] {
        keys.push(server.tenant(name).await);
        let events = [event("a", "messages", amount)];
        server.call_in(name, REPORT, report(&events)).await.expect(200);
    }
    operate("PATCH /v1/admin/tenants/acme", json!({ "plan": "p" })).await.expect(200);
    let gone = operate("DELETE /v1/admin/tenants/gone", Value::Null).await;
    assert_eq!(gone.status, 204);
    let path = "GET /v1/admin/bills?month=2027-01&limit=2";
    let ask = async |more: &str| operate(&format!("{path}{more}"), Value::Null).await;
    let first = ask("").await.expect(200);
    let said = |bill: &Value| ["name", "plan", "total_micros"].map(|key| bill[key].clone());
    assert_eq!(said(&first["bills"][0]), [json!("acme"), json!("p"), json!("4000")]);
    assert_eq!(said(&first["bills"][1]), [json!("b"), Value::Null, json!("0")]);
    let one =
        operate("GET /v1/admin/bill?tenant=acme&month=2027-01", Value::Null).await.expect(200);
    assert_eq!(one["total_micros"], first["bills"][0]["total_micros"]);
    // One who is gone has used something, and nobody knows by which prices.
    let next = first["next"].as_u64().unwrap();
    let rest = ask(&format!("&after={next}")).await.expect(200);
    assert_eq!(rest["next"], Value::Null);
    assert_eq!(said(&rest["bills"][0]), [Value::Null, Value::Null, Value::Null]);
    assert_eq!(rest["bills"][0]["amounts"]["messages"], "4");
    let csv = ask("&format=csv").await;
    assert_eq!(csv.headers["content-disposition"], "attachment; filename=\"bills.csv\"");
    let lines: Vec<_> = csv.text.split("\r\n").collect();
    let [head, acme, other, ""] = lines[..] else { panic!("{lines:?}") };
    assert!(head.starts_with("id,name,plan,month,total_micros,requests,requests_cost_micros,"));
    assert!(head.ends_with(",messages,messages_cost_micros"), "{head}");
    assert!(acme.contains(",\"acme\",\"p\",2027-01,4000,") && acme.ends_with(",2,4000"), "{acme}");
    assert!(other.contains(",\"b\",\"\",2027-01,0,") && other.ends_with(",3,"), "{other}");
    let wrong = operate("GET /v1/admin/bills?month=2027-13", Value::Null).await;
    wrong.refused(400, "invalid");
    let foreign = server.call(&keys[0], path, Value::Null).await;
    foreign.refused(403, "denied");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_counts_nothing() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let long = "x".repeat(256);
    for (body, words) in [
        (json!({}), "missing field `events`"),
        (report(&[]), "events: 1 to 1000"),
        (report(&[event("a", "requests", 1)]), "unknown variant `requests`"),
        (report(&[event("a", "tokens", 1), event("", "tokens", 1)]), "events[1], id: 1 to 255"),
        (report(&[event(&long, "tokens", 1)]), "events[0], id: 1 to 255"),
        (report(&[event("a", "tokens", 0)]), "events[0], amount: 0 of tokens is not between"),
        (report(&[event("a", "tokens", 1_000_000_000_001)]), "is not between 1 and 1000000000000"),
        (report(&[event("a", "money_micros", 10_000_000_001)]), "is not between 1 and 10000000000"),
        (report(&[json!({"id": "a", "meter": "tokens", "amount": -1})]), "invalid value"),
        (
            report(&[json!({"id": "a", "meter": "tokens", "amount": 1, "at_ms": 1})]),
            "unknown field",
        ),
    ] {
        let why = server.call_in("acme", REPORT, body).await.refused(400, "invalid");
        assert!(why.contains(words), "{words}: {why}");
    }
    let many: Vec<Value> = (0..1_001).map(|n| event(&n.to_string(), "tokens", 1)).collect();
    server.call_in("acme", REPORT, report(&many)).await.refused(413, "too_large");
    server.call_in("acme", REPORT, report(&many[..1_000])).await.expect(200);
    for role in ["read", "write", "admin"] {
        let other = server.key(&key, json!({ "role": role })).await;
        server.call(&other, REPORT, report(&many[..1])).await.refused(403, "denied");
    }
    let why = server.call(&key, REPORT, report(&many[..1])).await.refused(403, "denied");
    assert!(why.contains("only an operator's key that may act as tenants"), "{why}");
}

#[tokio::test]
async fn a_quota_holds_back_whoever_asks_for_it_until_the_day_ends() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    let change = json!({"exceptions": {
        "messages_per_day": {"value": 2}, "tokens_per_day": {"value": null},
    }});
    let line = "PATCH /v1/admin/tenants/acme";
    let acme = server.call(&server.operator, line, change).await.expect(200);
    assert_eq!(acme["exceptions"]["messages_per_day"]["value"], 2);
    let ask = async |id: &str| {
        let mut body = report(&[event(id, "messages", 1)]);
        body["enforce"] = true.into();
        server.call_in("acme", REPORT, body).await
    };
    for (id, left) in [("a", 1), ("b", 0), ("b", 0)] {
        assert_eq!(ask(id).await.expect(200)["left"], json!({"messages_per_day": left}));
    }
    let refused = ask("c").await;
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    let why = refused.refused(429, "limit_exceeded");
    assert!(why.contains("may have 2 messages a day of UTC and has 0 left"), "{why}");
    server.clock.advance_ms(wait * 1_000 - 1_000);
    assert_eq!(ask("c").await.status, 429);
    server.clock.advance_ms(1_000);
    ask("c").await.expect(200);
    let own = server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    assert_eq!(own["quotas"]["messages_per_day"], 2);
}

/// What a tenant has used of CPU time, as an operator sees it, whose looking is nobody's.
async fn cpu(server: &Server, name: &str) -> u64 {
    let line = format!("GET /v1/admin/usage?tenant={name}");
    let used = server.call(&server.operator, &line, Value::Null).await.expect(200);
    let of = |one: &Value| one["amounts"]["cpu_us"].as_str().map_or(0, |n| n.parse().unwrap());
    used["entries"].as_array().unwrap().iter().map(of).sum()
}

#[tokio::test]
async fn any_request_takes_cpu_time_of_the_tenant_in_which_it_works() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    server.tenant("other").await;
    let (before, quiet) = (cpu(&server, "acme").await, cpu(&server, "other").await);
    for _ in 0..10 {
        server.call(&key, "GET /v1/tenant", Value::Null).await.expect(200);
    }
    let own = cpu(&server, "acme").await;
    assert!(own > before, "{own} {before}");
    for _ in 0..10 {
        server.call_in("acme", "GET /v1/tenant", Value::Null).await.expect(200);
    }
    let acting = cpu(&server, "acme").await;
    assert!(acting > own, "{acting} {own}");
    assert_eq!(cpu(&server, "acme").await, acting);
    assert_eq!(cpu(&server, "other").await, quiet);
}
