//! Tenants that are moved as a policy says.

use crate::support::*;
use std::time::{Duration, Instant};
use tenantry_engine::{
    placement::{Policy, Rule, Timing},
    *,
};

const UP: Rule = Rule {
    from: Isolation::Shared,
    from_location: None,
    to: Isolation::Schema,
    to_location: None,
    records_over: Some(10),
    records_under: None,
    bytes_over: None,
    bytes_under: None,
};
const DOWN: Rule = Rule {
    from: Isolation::Schema,
    to: Isolation::Shared,
    records_over: None,
    records_under: Some(5),
    ..UP
};

fn policy(moves_per_day: u32) -> Policy {
    let timing = Timing { every: Duration::from_secs(1), stay: Duration::ZERO, moves_per_day };
    Policy::new(vec![UP, DOWN], timing).unwrap()
}

/// A tenant with so many records; its key.
async fn with_records(world: &World, name: &str, records: usize) -> String {
    let key = world.tenant(name).await;
    let batch = (0..records).map(|n| write(&format!("r{n}")).vector(&[1.0, 2.0])).collect();
    let collection = world.collection(&key, "c").await;
    collection.write(WriteMode::Upsert, batch).await.unwrap();
    key
}

async fn remove(world: &World, key: &str, records: std::ops::Range<usize>) {
    let ids: Vec<_> = records.map(|n| format!("r{n}")).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    world.collection(key, "c").await.delete(&by_ids(&ids), None).await.unwrap();
}

async fn lives(world: &World, name: &str) -> Isolation {
    world.operator().tenant(&tenant(name)).await.unwrap().isolation
}

async fn until(world: &World, name: &str, isolation: Isolation) {
    let begun = Instant::now();
    while lives(world, name).await != isolation {
        assert!(begun.elapsed() < Duration::from_secs(30), "{name} is not moved");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Longer than a round takes.
async fn some_rounds() {
    tokio::time::sleep(Duration::from_millis(2_500)).await;
}

fn actions(log: &[AuditEntry]) -> Vec<(&str, &str, &str)> {
    let of = |entry: &'_ AuditEntry| entry.event.actor == "policy";
    log.iter()
        .filter(|entry| of(entry))
        .map(|entry| {
            let event = &entry.event;
            (event.actor.as_str(), event.action.as_str(), event.target.as_str())
        })
        .collect()
}

/// Gives a tenant the plan `p`, which has its tenants live so.
async fn place(world: &World, name: &str, isolations: &[Isolation]) {
    let plan = PlanName::parse("p").unwrap();
    let places = Places::new(Some(isolations), None).unwrap();
    let says = TenantPlan { places, ..TenantPlan::new(plan.clone(), Allowance::default()) };
    world.operator().put_plan(&says).await.unwrap();
    let change = TenantChange { plan: Some(Some(plan)), ..TenantChange::default() };
    world.operator().change_tenant(&tenant(name), &change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_moves_nobody_where_their_plan_has_them_not_live() {
    let world = World::new().await;
    with_records(&world, "bound", 12).await;
    with_records(&world, "free", 12).await;
    place(&world, "bound", &[Isolation::Shared]).await;
    world.engine.follow(policy(10));
    until(&world, "free", Isolation::Schema).await;
    some_rounds().await;
    assert_eq!(lives(&world, "bound").await, Isolation::Shared);
    let plan = world.operator().plan(None, None, 10).await.unwrap();
    let bound = plan.tenants.iter().find(|one| one.name == tenant("bound")).unwrap();
    assert_eq!(bound.verdict.word(), "blocked");
    let says = "rule 1: 12 records are more than 10; but the plan p does not allow the isolation \
                schema; it allows shared";
    assert_eq!(bound.verdict.to_string(), says);
    // As soon as it may.
    place(&world, "bound", &[Isolation::Shared, Isolation::Schema]).await;
    until(&world, "bound", Isolation::Schema).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_moved_up_and_down_as_the_policy_says_and_no_others() {
    let world = World::new().await;
    let large = with_records(&world, "large", 12).await;
    with_records(&world, "small", 3).await;
    with_records(&world, "fixed", 12).await;
    let fixed = Some("fixed".to_owned());
    let settings = [("placement".to_owned(), fixed)].into();
    let change = TenantChange { settings, ..TenantChange::default() };
    world.operator().change_tenant(&tenant("fixed"), &change).await.unwrap();
    // Nothing is moved that nobody asks for.
    some_rounds().await;
    assert_eq!(lives(&world, "large").await, Isolation::Shared);

    world.engine.follow(policy(10));
    until(&world, "large", Isolation::Schema).await;
    // Between the bounds it stays.
    remove(&world, &large, 0..4).await;
    some_rounds().await;
    assert_eq!(lives(&world, "large").await, Isolation::Schema);
    remove(&world, &large, 4..8).await;
    until(&world, "large", Isolation::Shared).await;
    some_rounds().await;
    for name in ["large", "small", "fixed"] {
        assert_eq!(lives(&world, name).await, Isolation::Shared, "{name}");
    }

    let log = world.operator().audit(0, 1_000).await.unwrap();
    let said = actions(&log);
    for what in [
        ("policy", "tenant.move", "large: shared → schema"),
        ("policy", "tenant.policy", "large: rule 1: 12 records are more than 10"),
        ("policy", "tenant.policy", "large: rule 2: 4 records are fewer than 5"),
    ] {
        assert!(said.contains(&what), "{what:?} is missing: {said:?}");
    }
    let moves = said.iter().filter(|(_, action, _)| *action == "tenant.move").count();
    assert_eq!(moves, 2, "{said:?}");
    let log = world.session::<Admin>(&large).await.audit(0, 1_000).await.unwrap();
    let said = actions(&log);
    let why = ("policy", "tenant.policy", "rule 1: 12 records are more than 10");
    assert!(said.contains(&why), "{said:?}");
    let begun = ("policy", "tenant.move.begin", "shared → schema");
    assert!(said.contains(&begun), "{said:?}");
    world.engine.shutdown().await.unwrap();
}

/// Names and words of a plan's parts, one after the other.
async fn planned(world: &World, policy: Option<&Policy>, limit: usize) -> Vec<(String, String)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let plan = world.operator().plan(policy, after.as_ref(), limit).await.unwrap();
        assert!(plan.tenants.len() <= limit);
        all.extend(plan.tenants.into_iter().map(|one| {
            let said = format!("{}: {}", one.verdict.word(), one.verdict);
            (one.name.to_string(), said)
        }));
        match plan.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_would_do_is_told_of_every_tenant_and_then_done() {
    let world = World::new().await;
    let large = with_records(&world, "large", 12).await;
    let fixed = with_records(&world, "fixed", 12).await;
    with_records(&world, "small", 3).await;
    let settings = [("placement".to_owned(), Some("fixed".to_owned()))].into();
    let change = TenantChange { settings, ..TenantChange::default() };
    world.operator().change_tenant(&tenant("fixed"), &change).await.unwrap();
    let spec =
        TenantSpec { isolation: Some(Isolation::Database), ..TenantSpec::new(tenant("own")) };
    world.operator().create_tenant(&spec).await.unwrap();

    let told = [
        ("fixed", "stay: its setting placement is fixed"),
        ("large", "move: rule 1: 12 records are more than 10"),
        ("own", "stay: no rule is about tenants that live so"),
        ("small", "stay: no rule's bounds are met by 3 records, 24 bytes"),
    ];
    let told: Vec<_> = told.map(|(name, why)| (name.to_owned(), why.to_owned())).into();
    for limit in [1, 2, 3, 4, 100] {
        assert_eq!(planned(&world, Some(&policy(10)), limit).await, told, "{limit} a page");
    }
    // Only who was measured finds that in its log, and nothing was done.
    let measured = async |key: &str| {
        let log = world.session::<Admin>(key).await.audit(0, 1_000).await.unwrap();
        let looks = log.iter().filter(|entry| entry.event.action == "operator.measure");
        looks.map(|entry| entry.event.count).sum::<u64>()
    };
    assert_eq!((measured(&large).await, measured(&fixed).await), (5, 0));
    assert_eq!(lives(&world, "large").await, Isolation::Shared);
    let none = world.operator().plan(None, None, 1).await.unwrap_err();
    assert!(none.kind() == ErrorKind::Invalid && none.to_string().contains("give rules"), "{none}");

    let eu = Some(Location::parse("eu").unwrap());
    let away = Policy::new(vec![Rule { to_location: eu, ..UP }], policy(10).timing().clone());
    let away = planned(&world, Some(&away.unwrap()), 100).await;
    let why = "blocked: rule 1: 12 records are more than 10; but there is no location eu here";
    assert_eq!(away[1].1, why);

    world.engine.follow(policy(10));
    until(&world, "large", Isolation::Schema).await;
    let mut after = told;
    after[1].1 = "stay: no rule's bounds are met by 12 records, 96 bytes".to_owned();
    let begun = Instant::now();
    loop {
        let now = planned(&world, None, 100).await;
        if now[1].1 != "stay: it is being moved" {
            break assert_eq!(now, after);
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "its move is not over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.engine.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_moves_so_many_tenants_a_day() {
    let world = World::new().await;
    for n in 0..4 {
        with_records(&world, &format!("t{n}"), 12).await;
    }
    world.engine.follow(policy(2));
    until(&world, "t0", Isolation::Schema).await;
    until(&world, "t1", Isolation::Schema).await;
    some_rounds().await;
    assert_eq!(lives(&world, "t2").await, Isolation::Shared);
    world.clock.set(START + 86_400_000);
    until(&world, "t3", Isolation::Schema).await;
    world.engine.shutdown().await.unwrap();
}
