//! Tenants that are moved by one node and changed at another one.

use super::{Ground, all, fill, new_key, over, target};
use crate::stand::{Stand, tenant};
use std::{
    num::NonZeroU64,
    time::{Duration, Instant},
};
use tenantry_store::{MovePhase, Store, TenantChange, postgres::DatabaseUrl};
use tenantry_types::{Isolation, TenantState};

/// What the root knows of a tenant is what was acknowledged last, wherever, whenever it was moved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_at_another_node_meanwhile_stays_so() {
    let ground = Ground::postgres().await;
    let (stand, other) = (ground.open().await, ground.open().await);
    let scope = stand.create("name-0").await.expect("tenant");
    fill(&stand, &scope, 300).await;
    let (mut names, mut kept) = (0, 0);
    for to in ground.circle().into_iter().chain(ground.circle()) {
        let mut name = tenant(&format!("name-{names}"));
        stand.store.start_move(&stand.operator, &name, target(to)).await.expect("a move");
        loop {
            let status = other.store.move_status(&other.operator, &name).await.expect("status");
            let status = status.expect("a move");
            if status.phase.is_over() {
                assert_eq!(status.phase, MovePhase::Done, "{status:?}");
                break;
            }
            let begun = Instant::now();
            let weight = 100 + u16::try_from(names % 100).expect("small");
            names += 1;
            let new = tenant(&format!("name-{names}"));
            let change = TenantChange {
                name: Some(new.clone()),
                state: Some([TenantState::Suspended, TenantState::Active][names % 2]),
                weight: Some(weight),
                ..TenantChange::default()
            };
            other.store.change_tenant(&other.operator, &name, &change).await.expect("change");
            if kept < 400 {
                other.store.create_key(&scope, new_key()).await.expect("key");
                kept += 1;
            }
            name = new;
            let info =
                other.store.find_tenant(&name).await.expect("find").expect("it is called so");
            assert_eq!((info.state, info.weight), (change.state.expect("one"), weight));
            // On a busy machine the mover must find as much time as this takes.
            tokio::time::sleep(begun.elapsed().max(Duration::from_millis(40))).await;
        }
        // What one node knows of rights may be so old at another one.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let info = stand.store.find_tenant(&name).await.expect("find").expect("it is called so");
        assert_eq!((info.isolation, info.location), to);
        assert_eq!(info.state, [TenantState::Suspended, TenantState::Active][names % 2]);
        assert_eq!(stand.store.keys(&scope).await.expect("keys").len(), kept);
        assert_eq!(all(&stand, &scope).await.len(), 300);
        stand.verify_audit(&scope).await;
    }
    assert!(names > 12, "{names} changes");
    let id = scope.tenant();
    stand.close();
    other.close();
    ground.check(id, ground.circle()[2]).await;
}

/// The node that moves is told by the root, and does so beside the move that it works on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_waits_is_cancelled_at_another_node() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let urls = site.urls();
    let mut config = site.config();
    let admin = DatabaseUrl::parse(urls.split_once(' ').expect("two").1).expect("a URL");
    config.admin_url = Some(admin);
    config.move_rate = NonZeroU64::new(2_000);
    let stand = Stand::over(Store::open_postgres(config).await.expect("a store")).await;
    let node = Stand::over(site.open().await).await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 1_500).await;
    stand.create("b").await.expect("tenant");
    for name in ["a", "b"] {
        let to = Isolation::Schema.into();
        stand.store.start_move(&stand.operator, &tenant(name), to).await.expect("a move");
    }
    let phase = async |name: &str| {
        let status = node.store.move_status(&node.operator, &tenant(name)).await.expect("status");
        status.expect("a move").phase
    };
    let begun = Instant::now();
    while phase("a").await == MovePhase::Queued {
        assert!(begun.elapsed() < Duration::from_secs(30), "another node does not see the move");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((phase("a").await, phase("b").await), (MovePhase::Copying, MovePhase::Queued));
    node.store.cancel_move(&node.operator, &tenant("b")).await.expect("cancelled");
    assert_eq!(over(&node, "b").await.phase, MovePhase::Cancelled);
    let first = stand.store.move_status(&stand.operator, &tenant("a")).await.expect("status");
    assert!(!first.expect("a move").phase.is_over());
    node.store.cancel_move(&node.operator, &tenant("a")).await.expect("cancelled");
    assert_eq!(over(&node, "a").await.phase, MovePhase::Cancelled);
    stand.close();
    node.close();
}

/// Moves stand still, and their state says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_admin_is_not_let_in_any_more_says_so_of_its_moves() {
    let ground = Ground::postgres().await;
    let Ground::Postgres(site) = &ground else { panic!("it is on PostgreSQL") };
    let urls = site.urls();
    let mut config = site.config();
    let admin = urls.split_once(' ').expect("two").1;
    let (_, rest) = admin.split_once("://").expect("a URL");
    let (role, _) = rest.split_once(':').expect("a password");
    config.admin_url = Some(DatabaseUrl::parse(admin).expect("a URL"));
    // Slow enough to be met, and no rest between two steps is long.
    config.move_rate = NonZeroU64::new(30_000);
    let stand = Stand::over(Store::open_postgres(config).await.expect("a store")).await;
    let scope = stand.create("a").await.expect("tenant");
    fill(&stand, &scope, 1_500).await;
    let (name, to) = (tenant("a"), Isolation::Schema.into());
    stand.store.start_move(&stand.operator, &name, to).await.expect("a move");
    site.run(&format!("ALTER ROLE {role} NOLOGIN")).await;
    let end = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{role}'"
    );
    let begun = Instant::now();
    loop {
        site.ask(&end).await;
        let status = stand.store.move_status(&stand.operator, &name).await.expect("status");
        let status = status.expect("a move");
        assert!(!status.phase.is_over(), "{status:?}");
        if status.error.is_some_and(|why| why.contains("cannot ask to move tenants")) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nothing is said");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.run(&format!("ALTER ROLE {role} LOGIN")).await;
    stand.store.cancel_move(&stand.operator, &name).await.expect("cancelled");
    // A step that nobody was let in for may have ended it before.
    let phase = over(&stand, "a").await.phase;
    assert!(matches!(phase, MovePhase::Cancelled | MovePhase::Failed), "{phase:?}");
    let info = stand.store.tenant_by_id(scope.tenant()).await.expect("read").expect("it stays");
    assert_eq!(info.isolation, Isolation::Shared);
    stand.close();
}
