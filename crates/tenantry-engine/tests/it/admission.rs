//! A request is served within its tenant's rates, which a plan or an exception says.

use crate::support::*;
use std::num::NonZeroU32;
use tenantry_engine::*;

fn number(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

/// So many in an hour, so that none comes back while a test runs.
fn an_hour(n: u32) -> Rates {
    Rates { hour: number(n).map(Rate::new), ..Rates::default() }
}

async fn put(world: &World, rates: Rates) {
    let name = PlanName::parse("p").unwrap();
    let allowance = Allowance { rates, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan { name, allowance }).await.unwrap();
}

async fn give(world: &World, whose: &str) {
    let plan = Some(Some(PlanName::parse("p").unwrap()));
    let change = TenantChange { plan, ..TenantChange::default() };
    world.operator().change_tenant(&tenant(whose), &change).await.unwrap();
}

async fn is_admitted(world: &World, who: &Principal) -> bool {
    world.engine.admit(who).await.unwrap().check().is_ok()
}

#[tokio::test]
async fn a_tenant_is_refused_beyond_its_rate_and_its_neighbour_is_not() {
    let world = World::new().await;
    let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
    put(&world, an_hour(3)).await;
    give(&world, "acme").await;
    let (acme, other) = (world.who(&acme).await, world.who(&other).await);
    for left in [2, 1, 0] {
        let admission = world.engine.admit(&acme).await.unwrap();
        admission.check().unwrap();
        assert_eq!(admission.left()[0].remaining, left);
    }
    let admission = world.engine.admit(&acme).await.unwrap();
    let refused = admission.check().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::LimitExceeded);
    assert!((1_190..=1_200).contains(&refused.retry_after().unwrap()), "{refused}");
    assert_eq!(admission.left()[0].remaining, 0);
    let served = world.engine.in_turns(&admission, false, std::future::ready(1)).await;
    assert_eq!(served.unwrap_err().kind(), ErrorKind::LimitExceeded);
    for who in [&other, &world.operator] {
        for _ in 0..10 {
            assert!(is_admitted(&world, who).await);
        }
    }
    let totals = world.engine.totals();
    assert_eq!((totals.rate_limited, totals.rated_tenants), (1, 1));
}

#[tokio::test]
async fn a_raised_plan_and_an_exception_count_for_the_next_request() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    put(&world, an_hour(1)).await;
    give(&world, "acme").await;
    let who = world.who(&key).await;
    assert!(is_admitted(&world, &who).await && !is_admitted(&world, &who).await);
    put(&world, an_hour(2)).await;
    assert!(is_admitted(&world, &who).await && !is_admitted(&world, &who).await);
    let hour = Exception { value: None, expires_at: Some(Timestamp(START + 1_000)) };
    let exceptions = Some(Exceptions { hour: Some(hour), ..Exceptions::default() });
    let change = TenantChange { exceptions, ..TenantChange::default() };
    world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
    for _ in 0..10 {
        assert!(is_admitted(&world, &who).await);
    }
    // What was used before an exception still is when it ends.
    world.clock.set(START + 1_000);
    assert!(!is_admitted(&world, &who).await);
}

#[tokio::test]
async fn a_request_is_under_way_until_its_admission_is_dropped() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    put(&world, Rates { concurrent: number(1), ..Rates::default() }).await;
    give(&world, "acme").await;
    let who = world.who(&key).await;
    let first = world.engine.admit(&who).await.unwrap();
    let refused = world.engine.admit(&who).await.unwrap().check().unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::LimitExceeded, Some(1)));
    drop(first);
    assert!(is_admitted(&world, &who).await);
}

#[tokio::test]
async fn a_tenant_without_a_plan_has_no_rates() {
    let world = World::new().await;
    let key = world.tenant("acme").await;
    let who = world.who(&key).await;
    for _ in 0..1_000 {
        let admission = world.engine.admit(&who).await.unwrap();
        assert!(admission.check().is_ok() && admission.left().is_empty());
    }
    assert_eq!(world.engine.totals().rated_tenants, 0);
}

#[tokio::test]
async fn a_plan_without_weight_is_refused() {
    let world = World::new().await;
    for weight in [0, 1_001] {
        let name = PlanName::parse("p").unwrap();
        let allowance = Allowance { weight, ..Allowance::default() };
        let outcome = world.operator().put_plan(&TenantPlan { name, allowance }).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_copy_has_the_plan_and_the_exceptions_of_what_it_is_of() {
    let world = World::new().await;
    world.tenant("acme").await;
    put(&world, an_hour(3)).await;
    give(&world, "acme").await;
    let exceptions = Exceptions { keys: Some(Exception::lasting(5)), ..Exceptions::default() };
    let change = TenantChange { exceptions: Some(exceptions), ..TenantChange::default() };
    world.operator().change_tenant(&tenant("acme"), &change).await.unwrap();
    let to = archive::NewTenant { name: tenant("copy"), isolation: None, location: None };
    let importer = world.engine.importer(&world.operator).unwrap();
    let copy = importer.copy(&tenant("acme"), &to).await.unwrap();
    assert_eq!((copy.plan.unwrap().as_str(), copy.exceptions), ("p", exceptions));
    let has = world.operator().allowance(&tenant("copy")).await.unwrap();
    assert_eq!(has, world.operator().allowance(&tenant("acme")).await.unwrap());
    // And is on the list of those who have it.
    world.operator().delete_tenant(&tenant("acme")).await.unwrap();
    let name = PlanName::parse("p").unwrap();
    let refused = world.operator().delete_plan(&name).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
}
