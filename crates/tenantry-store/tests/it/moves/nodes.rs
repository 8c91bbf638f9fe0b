//! Tenants that are moved by one node and changed at another one.

use super::{Ground, all, fill, new_key, target};
use crate::stand::tenant;
use std::time::{Duration, Instant};
use tenantry_store::{MovePhase, TenantChange};
use tenantry_types::TenantState;

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
