//! Answers say what is left of a tenant's rates, and when a refused request may come again.

use crate::server::{Server, records};
use serde_json::Value;
use std::num::NonZeroU32;
use tenantry_engine::{Allowance, PlanName, Rate, Rates, TenantChange, TenantName, TenantPlan};

/// Gives a tenant so many requests an hour.
async fn limit(server: &Server, tenant: &str, amount: u32) {
    let who = server.engine.authenticate(Some(&server.operator)).await.unwrap();
    let operator = server.engine.operator(&who).unwrap();
    let hour = NonZeroU32::new(amount).map(Rate::new);
    let rates = Rates { hour, ..Rates::default() };
    let name = PlanName::parse("p").unwrap();
    let allowance = Allowance { rates, ..Allowance::default() };
    operator.put_plan(&TenantPlan::new(name.clone(), allowance)).await.unwrap();
    let change = TenantChange { plan: Some(Some(name)), ..TenantChange::default() };
    operator.change_tenant(&TenantName::parse(tenant).unwrap(), &change).await.unwrap();
}

#[tokio::test]
async fn a_refusal_says_when_to_come_again() {
    let server = Server::start().await;
    let key = server.tenant("acme").await;
    limit(&server, "acme", 2).await;
    for left in [1, 0] {
        let answer = server.call(&key, "GET /v1/databases", Value::Null).await;
        assert_eq!(answer.headers["ratelimit-policy"], r#""hour";q=2;w=3600"#);
        let said = answer.headers["ratelimit"].to_str().unwrap().to_owned();
        assert!(said.starts_with(&format!(r#""hour";r={left};t="#)), "{said}");
        answer.expect(200);
    }
    // A body that is not JSON is not read.
    let line = records("c", "query");
    for line in ["GET /v1/databases", &line] {
        let answer = server.call_text(&key, line, "{").await;
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1_790..=1_800).contains(&wait), "{wait}");
        assert!(answer.headers["ratelimit"].to_str().unwrap().starts_with(r#""hour";r=0;t="#));
        answer.refused(429, "limit_exceeded");
    }
}

#[tokio::test]
async fn a_tenant_without_rates_is_told_nothing_and_a_wrong_key_uses_none() {
    let server = Server::start().await;
    let (free, key) = (server.tenant("free").await, server.tenant("acme").await);
    limit(&server, "acme", 1).await;
    for _ in 0..5 {
        server.call("x", "GET /v1/databases", Value::Null).await.refused(401, "unauthenticated");
        let answer = server.call(&free, "GET /v1/databases", Value::Null).await;
        assert!(!answer.headers.contains_key("ratelimit"));
        answer.expect(200);
    }
    server.call(&key, "GET /v1/databases", Value::Null).await.expect(200);
    let answer = server.call(&key, "GET /v1/databases", Value::Null).await;
    answer.refused(429, "limit_exceeded");
    let metrics = server.call(&server.operator, "GET /metrics", Value::Null).await.text;
    assert!(metrics.contains("tenantry_rate_limited_total 1\n"), "{metrics}");
}
