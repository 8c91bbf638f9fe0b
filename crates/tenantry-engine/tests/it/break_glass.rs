//! Operators in a tenant who say why.

use crate::support::*;
use tenantry_engine::*;

fn because(who: &Principal, text: &str) -> Principal {
    who.clone().for_reason(Some(StatedReason::parse(text).unwrap()))
}

/// Actor, reason and count of each entry, in order.
fn reasons(log: &[AuditEntry]) -> Vec<(&str, &str, u64)> {
    let found = log.iter().filter(|entry| entry.event.action == "operator.break_glass");
    found.map(|e| (e.event.actor.as_str(), e.event.target.as_str(), e.event.count)).collect()
}

#[tokio::test]
async fn a_reason_is_in_the_tenants_log_before_the_operator_is_let_in() {
    let world = World::new().await;
    let (a, b) = (world.tenant("a").await, world.tenant("b").await);
    let (admin, name) = (world.session::<Admin>(&a).await, tenant("a"));
    // Nothing else waits to be written.
    admin.audit(0, 1_000).await.unwrap();
    world.session::<Admin>(&b).await.audit(0, 1_000).await.unwrap();
    world.operator().audit(0, 1_000).await.unwrap();
    let enter = async |who: &Principal| {
        world.engine.session::<Read>(who, Select::Named(&name)).await.map(drop).unwrap();
    };
    let ticket = because(&world.operator, "ticket 4711").in_request(RequestId::parse("r-1"));
    let commits = || world.engine.totals().store.commits;
    let before = commits();
    enter(&ticket).await;
    assert!(commits() > before, "nothing is durable yet");
    for _ in 0..3 {
        enter(&ticket).await;
    }
    enter(&because(&world.operator, "ticket 4712")).await;
    let log = admin.audit(0, 1_000).await.unwrap();
    let actor = world.operator.to_string();
    let expected = [(actor.as_str(), "ticket 4711", 1), (actor.as_str(), "ticket 4712", 1)];
    assert_eq!(reasons(&log), expected);
    let first = log.iter().find(|entry| entry.event.target == "ticket 4711").unwrap();
    assert_eq!(first.bound.as_ref().unwrap().request, RequestId::parse("r-1"));
    // Each entry is counted as ever: the first made the key above.
    let entered = log.iter().filter(|entry| entry.event.action == "operator.act_as");
    assert_eq!(entered.map(|entry| entry.event.count).sum::<u64>(), 6);
    for log in [
        world.operator().audit(0, 1_000).await.unwrap(),
        world.session::<Admin>(&b).await.audit(0, 1_000).await.unwrap(),
    ] {
        assert!(reasons(&log).is_empty());
    }
}

#[tokio::test]
async fn where_reasons_are_required_nobody_acts_or_makes_a_tenant_without_one() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    world.engine.provision(ProvisionRules::default());
    world.engine.require_reasons();
    let enter = async |who: &Principal, name: &str| {
        world.engine.session::<Read>(who, Select::Named(&tenant(name))).await.map(drop)
    };
    for name in ["a", "new"] {
        let (kind, why) = shown(enter(&world.operator, name).await);
        assert_eq!(kind, ErrorKind::Denied);
        assert!(why.contains(REASON_HEADER), "{why}");
    }
    assert_eq!(kind(world.operator().tenant(&tenant("new")).await), ErrorKind::NotFound);
    let log = world.operator().audit(0, 1_000).await.unwrap();
    let refused = log.iter().filter(|entry| entry.event.action == "operator.act_as");
    let refused: Vec<_> = refused
        .map(|entry| {
            let reason = entry.bound.as_ref().unwrap().reason;
            (entry.event.target.as_str(), reason.word())
        })
        .collect();
    assert_eq!(refused, [("a", "no_reason"), ("new", "no_reason")]);
    // Whoever names no tenant is told that, and tenants are asked for nothing.
    let nowhere = world.engine.session::<Read>(&world.operator, Select::Own).await;
    assert_eq!(kind(nowhere), ErrorKind::Invalid);
    world.session::<Admin>(&a).await;
    for name in ["a", "new"] {
        enter(&because(&world.operator, "ticket 4711"), name).await.unwrap();
    }
}

#[tokio::test]
async fn a_tenants_key_gains_nothing_by_a_reason() {
    let world = World::new().await;
    let a = world.tenant("a").await;
    world.tenant("b").await;
    world.engine.require_reasons();
    let who = world.who(&a).await;
    let insists = because(&who, "let me in");
    for (name, missing) in [("b", "Tenant [b] does not exist"), ("c", "Tenant [c] does not exist")]
    {
        let refused = world.engine.session::<Read>(&insists, Select::Named(&tenant(name))).await;
        assert_eq!(shown(refused), (ErrorKind::NotFound, missing.to_owned()));
    }
    let own = world.engine.session::<Admin>(&insists, Select::Own).await.unwrap();
    assert!(reasons(&own.audit(0, 1_000).await.unwrap()).is_empty());
}
