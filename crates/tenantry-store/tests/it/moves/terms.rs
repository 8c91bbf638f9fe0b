//! Tenants whose plan says where they may live.

use super::{Ground, Target, all, fill, go, hook, lives, over, target, told};
use crate::stand::{Stand, tenant};
use std::time::Duration;
use tenantry_store::{MovePhase, TenantChange};
use tenantry_types::{
    Allowance, Error, ErrorKind, EventKind, Fact, Places, PlanName, Result, TenantPlan, TenantSpec,
};

fn named() -> PlanName {
    PlanName::parse("p").expect("a name")
}

/// Has the plan allow these places.
async fn allow(stand: &Stand, all: &[Target]) {
    let isolations: Vec<_> = all.iter().map(|(isolation, _)| *isolation).collect();
    let locations = all.iter().map(|(_, location)| *location).collect();
    let places = Places::new(Some(&isolations), Some(locations)).expect("places");
    let plan = TenantPlan { places, ..TenantPlan::new(named(), Allowance::default()) };
    stand.store.put_plan(&stand.operator, &plan).await.expect("a plan");
}

async fn give(stand: &Stand, plan: Option<PlanName>) -> Result<()> {
    let change = TenantChange { plan: Some(plan), ..TenantChange::default() };
    stand.store.change_tenant(&stand.operator, &tenant("a"), &change).await.map(drop)
}

fn conflict(outcome: Result<impl std::fmt::Debug>, says: &str) -> Error {
    let why = outcome.expect_err("it is refused");
    assert_eq!(why.kind(), ErrorKind::Conflict, "{why}");
    assert!(why.public_message().contains(says), "{why}");
    why
}

pub(super) async fn a_tenant_is_moved_where_its_plan_has_tenants_live(ground: Ground) {
    let (from, to) = ground.way(0);
    let stand = ground.open().await;
    allow(&stand, &[from]).await;
    let made = |(isolation, location), name: &str| TenantSpec {
        isolation: Some(isolation),
        location: Some(location),
        plan: Some(named()),
        ..TenantSpec::new(tenant(name))
    };
    let there = stand.store.create_tenant(&stand.operator, &made(to, "a")).await;
    conflict(there, "the plan p does not allow the ");
    assert!(stand.store.find_tenant(&tenant("a")).await.expect("found").is_none());
    let info = stand.store.create_tenant(&stand.operator, &made(from, "a")).await.expect("made");
    let scope = stand.scope(info.id);
    fill(&stand, &scope, 2_000).await;
    let before = all(&stand, &scope).await;
    let begin = async || stand.store.start_move(&stand.operator, &tenant("a"), target(to)).await;
    conflict(begin().await, "the plan p does not allow the ");
    assert_eq!(stand.store.move_status(&stand.operator, &tenant("a")).await.expect("asked"), None);
    // Whoever has no plan goes anywhere, but gets none meanwhile that does not have it arrive.
    give(&stand, None).await.expect("no plan");
    begin().await.expect("a move");
    let why = conflict(give(&stand, Some(named())).await, "first");
    let is_told = ["cancel that first", "move it first"];
    assert!(is_told.iter().any(|says| why.public_message().ends_with(says)), "{why}");
    assert_eq!(over(&stand, "a").await.phase, MovePhase::Done);
    assert_eq!(lives(&stand, info.id).await, to);
    conflict(give(&stand, Some(named())).await, ": move it first");
    go(&stand, "a", from).await;
    give(&stand, Some(named())).await.expect("it lives there");
    // What is on its way when the plan is changed does not arrive, of which the operator is told.
    hook(&stand).await;
    allow(&stand, &[from, to]).await;
    begin().await.expect("a move");
    allow(&stand, &[from]).await;
    let status = over(&stand, "a").await;
    assert_eq!(status.phase, MovePhase::Failed, "{status:?}");
    let told = told(&stand).await;
    let [failed] = &told[..] else { panic!("{told:?}") };
    let whose = failed.tenant.as_ref().map(|(id, name)| (*id, name.as_str()));
    assert_eq!((failed.kind, whose), (EventKind::TenantMoveFailed, Some((info.id, "a"))));
    assert_eq!(failed.facts["to_isolation"], Fact::from(to.0.word()));
    assert_eq!(failed.facts.get("reason").cloned(), status.error.map(Fact::Text));
    assert_eq!(lives(&stand, info.id).await, from);
    assert_eq!(all(&stand, &scope).await, before);
    // A plan that says something else has nobody move; who moves does so where it may.
    allow(&stand, &[to]).await;
    assert_eq!(lives(&stand, info.id).await, from);
    go(&stand, "a", to).await;
    let back = stand.store.start_move(&stand.operator, &tenant("a"), target(from)).await;
    conflict(back, "the plan p does not allow the ");
    assert_eq!(all(&stand, &scope).await, before);
    stand.close();
}

/// A wall of the new database falls while rows are copied to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_moves_behind_walls_that_do_not_stand() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is PostgreSQL") };
    let (from, to) = ground.way(3);
    let (stand, session) = (ground.open().await, site.session().await);
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 2_000).await;
    let before = all(&stand, &scope).await;
    stand.store.start_move(&stand.operator, &tenant("a"), target(to)).await.expect("a move");
    loop {
        let status = stand.store.move_status(&stand.operator, &tenant("a")).await.expect("asked");
        if status.is_some_and(|status| status.records_copied > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let sql = "SELECT quote_ident(d.datname) FROM pg_database d JOIN pg_database o \
               ON o.datdba = d.datdba AND o.datname = current_database() \
               WHERE d.datname LIKE 'ten\\_%'";
    let database: String = session.query_one(sql, &[]).await.expect("it is made").get(0);
    let open = format!("GRANT CONNECT ON DATABASE {database} TO PUBLIC");
    session.batch_execute(&open).await.expect("a command");
    let status = over(&stand, "a").await;
    assert_eq!(status.phase, MovePhase::Failed, "{status:?}");
    let why = status.error.expect("a reason");
    assert!(why.contains("its database is not as it should be"), "{why}");
    assert_eq!(lives(&stand, scope.tenant()).await, from);
    assert_eq!(all(&stand, &scope).await, before);
    stand.close();
    ground.check(scope.tenant(), from).await;
}
