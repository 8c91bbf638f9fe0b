//! A request is served within its tenant's rates, which a plan or an exception says.

use crate::support::*;
use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
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
    world.operator().put_plan(&TenantPlan::new(name, allowance)).await.unwrap();
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
        let outcome = world.operator().put_plan(&TenantPlan::new(name, allowance)).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
    }
    // Settings say so where there is no plan.
    let none = TenantPlan::new(PlanName::parse(PlanName::NONE).unwrap(), Allowance::default());
    let outcome = world.operator().put_plan(&none).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
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
    let to = archive::NewTenant {
        name: tenant("copy"),
        isolation: None,
        location: None,
        keep_limits: false,
    };
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

/// What all nodes have together: so many requests, and none comes back.
#[derive(Debug)]
struct Common(AtomicU32);

impl LeaseSource for Common {
    fn take(&self, ask: LeaseAsk) -> Leasing<'_> {
        assert_eq!(ask.rates.concurrent, None);
        let less = |left: u32| Some(left.saturating_sub(ask.wanted));
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).unwrap();
        let granted = before.min(ask.wanted);
        let wait = (granted < ask.wanted).then_some((Period::Hour, 3_000_000_000));
        let left = [(0, 0), (0, 0), (before - granted, 1)];
        Box::pin(async move { Ok(LeaseAnswer { granted, wait, left }) })
    }
}

#[tokio::test]
async fn two_engines_share_rates_and_what_is_under_way_is_each_ones_own() {
    let common = Arc::new(Common(AtomicU32::new(3)));
    let within = std::time::Duration::from_secs(10);
    let sharing = Sharing { nodes: NonZeroU32::new(2).unwrap(), within };
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let world = World::new().await;
        let key = world.tenant("acme").await;
        put(&world, Rates { concurrent: number(1), ..an_hour(1_000) }).await;
        give(&world, "acme").await;
        let who = world.who(&key).await;
        world.engine.share_rates(Arc::clone(&common) as Arc<dyn LeaseSource>, sharing);
        nodes.push((world, who));
    }
    let admit = async |n: usize| nodes[n].0.engine.admit(&nodes[n].1).await.unwrap();
    let (first, second) = (admit(0).await, admit(1).await);
    assert!(first.check().is_ok() && second.check().is_ok());
    for _ in 0..10 {
        // One too many at the same time uses nothing of what all have.
        let refused = admit(0).await.check().unwrap_err();
        assert!(refused.public_message().contains("at the same time"), "{refused}");
    }
    drop((first, second));
    assert!(admit(0).await.check().is_ok());
    for node in [0, 1] {
        let refused = admit(node).await;
        let why = refused.check().unwrap_err();
        assert_eq!((why.kind(), why.retry_after()), (ErrorKind::LimitExceeded, Some(3)));
        assert_eq!(refused.left()[0].remaining, 0);
    }
    // Whoever is refused is not under way.
    let operators = nodes[0].0.engine.admit(&nodes[0].0.operator).await.unwrap();
    assert!(operators.check().is_ok());
    let totals = nodes[0].0.engine.totals();
    assert_eq!((totals.rate_limited, totals.shared.leases, totals.shared.alone), (11, 2, 0));
}

/// Gives a tenant a quota of requests.
async fn give_quota(world: &World, quotas: Quotas) {
    let name = PlanName::parse("p").unwrap();
    let allowance = Allowance { quotas, ..Allowance::default() };
    world.operator().put_plan(&TenantPlan::new(name, allowance)).await.unwrap();
    give(world, "acme").await;
}

#[tokio::test]
async fn a_day_that_is_used_up_stays_so_after_a_restart_and_ends_in_utc() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    // It counts what was done before there was a quota, too.
    let c = world.collection(&acme, "c").await;
    give_quota(&world, Quotas { day: Some(4), month: Some(9), ..Quotas::default() }).await;
    let serve = async |world: &World, who: &Principal| {
        if let Err(why) = world.engine.admit(who).await.unwrap().check() {
            return why.retry_after();
        }
        let database = world.database::<Read>(&acme).await;
        database.collection(&collection("c")).await.unwrap().count(None).await.unwrap();
        None
    };
    let who = world.who(&acme).await;
    for _ in 0..3 {
        assert_eq!(serve(&world, &who).await, None);
    }
    let end = 86_400 - START / 1_000 % 86_400;
    // Until the ledger has said so, the next look may find less.
    assert_eq!(serve(&world, &who).await, Some(60));
    world.engine.add_up().await;
    assert_eq!(serve(&world, &who).await, Some(end));
    drop((c, who));

    let world = world.again().await;
    let who = world.who(&acme).await;
    assert_eq!(serve(&world, &who).await, Some(end));
    world.clock.set(START + end * 1_000);
    for _ in 0..4 {
        assert_eq!(serve(&world, &who).await, None);
    }
    world.engine.add_up().await;
    assert_eq!(serve(&world, &who).await, Some(86_400));
    // Of the month one is left.
    world.clock.set(START + (end + 86_400) * 1_000);
    assert_eq!(serve(&world, &who).await, None);
    world.engine.add_up().await;
    let month = serve(&world, &who).await.unwrap();
    assert!(month > 86_400, "{month}");
    let why = world.engine.admit(&who).await.unwrap().check().unwrap_err();
    assert!(why.public_message().contains("9 requests a month of UTC"), "{why}");
}

#[tokio::test]
async fn requests_at_once_do_not_pass_a_quota() {
    let world = World::new().await;
    let acme = world.tenant("acme").await;
    give_quota(&world, Quotas { day: Some(20), ..Quotas::default() }).await;
    let who = world.who(&acme).await;
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (engine, who) = (world.engine.clone(), who.clone());
        asked.spawn(async move { engine.admit(&who).await.unwrap().check().is_ok() });
    }
    let served = asked.join_all().await.into_iter().filter(|served| *served).count();
    assert_eq!(served, 20);
}
