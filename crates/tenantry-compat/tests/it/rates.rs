//! A tenant beyond its rates is told so in the protocol's words, and when to come again.

use crate::server::{DEFAULT, Server};
use std::num::NonZeroU32;
use tenantry_engine::{Allowance, PlanName, Rate, Rates, TenantChange, TenantName, TenantPlan};

#[tokio::test]
async fn a_tenant_beyond_its_rate_gets_a_rate_limit_error() {
    let server = Server::start().await;
    let (key, free) = (server.tenant("acme").await, server.tenant("free").await);
    let who = server.engine.local_operator().await.unwrap();
    let operator = server.engine.operator(&who).unwrap();
    let hour = NonZeroU32::new(1).map(Rate::new);
    let allowance = Allowance { rates: Rates { hour, ..Rates::default() }, ..Allowance::default() };
    let name = PlanName::parse("p").unwrap();
    operator.put_plan(&TenantPlan::new(name.clone(), allowance)).await.unwrap();
    let change = TenantChange { plan: Some(Some(name)), ..TenantChange::default() };
    operator.change_tenant(&TenantName::parse("acme").unwrap(), &change).await.unwrap();

    let line = format!("GET {DEFAULT}/collections");
    let answer = server.text(&key, &line, "").await;
    assert_eq!(answer.headers["ratelimit-policy"], r#""hour";q=1;w=3600"#);
    answer.expect(200);
    let answer = server.text(&key, &line, "").await;
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_590..=3_600).contains(&wait), "{wait}");
    assert!(answer.headers["ratelimit"].to_str().unwrap().starts_with(r#""hour";r=0;t="#));
    answer.refused(429, "RateLimitError");
    let answer = server.text(&free, &line, "").await;
    assert!(!answer.headers.contains_key("ratelimit"));
    answer.expect(200);
}
