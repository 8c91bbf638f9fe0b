//! Tenants that are deleted and can be restored: what ends, moves or kills on the way.

use super::{Ground, all, fill, over, target};
use crate::stand::{Running, Stand, tenant, this_binary};
use std::{
    io::Read as _,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tenantry_store::{MovePhase, TenantInfo};
use tenantry_types::{Isolation, Location, Result, Timestamp};

const GROUND: &str = "TENANTRY_GRACE_GROUND";
const WHERE: &str = "TENANTRY_GRACE_WHERE";
/// Long enough for what is erased to be removed.
const SOON: Duration = Duration::from_secs(60);

async fn retire(stand: &Stand, name: &str, until: u64) -> TenantInfo {
    let until = Timestamp(until);
    let retired = stand.store.retire_tenant(&stand.operator, &tenant(name), until).await;
    retired.expect("deleted")
}

async fn restore(stand: &Stand, name: &str) -> Result<TenantInfo> {
    stand.store.restore_tenant(&stand.operator, &tenant(name)).await
}

/// Until nothing of erased tenants is left.
async fn emptied(stand: &Stand) {
    let begun = Instant::now();
    while !stand.store.leftovers(&stand.operator).await.expect("leftovers").is_empty() {
        assert!(begun.elapsed() < SOON, "something is left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A move goes on, as it does for one that is suspended.
pub(super) async fn a_tenant_is_deleted_and_restored_while_it_is_moved(ground: Ground) {
    let stand = ground.open().await;
    let scope = stand.create("a").await.expect("a tenant");
    fill(&stand, &scope, 2_000).await;
    let before = all(&stand, &scope).await;
    for (n, to) in ground.circle().into_iter().enumerate() {
        stand.store.start_move(&stand.operator, &tenant("a"), target(to)).await.expect("a move");
        if n % 2 == 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        retire(&stand, "a", u64::MAX).await;
        let status = over(&stand, "a").await;
        assert_eq!(status.phase, MovePhase::Done, "{status:?}");
        let restored = restore(&stand, "a").await.expect("restored");
        assert_eq!((restored.isolation, restored.location), to);
        assert_eq!(all(&stand, &scope).await, before);
        stand.verify_audit(&scope).await;
    }
    stand.close();
}

pub(super) async fn a_tenant_is_erased_while_it_is_moved(ground: Ground) {
    let (from, to) = ground.way(0);
    let stand = ground.open().await;
    let mut ids = Vec::new();
    for pause in [0, 20, 100] {
        let scope = stand.create_at("a", from).await.expect("a tenant");
        fill(&stand, &scope, 2_000).await;
        stand.store.start_move(&stand.operator, &tenant("a"), target(to)).await.expect("a move");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        retire(&stand, "a", 1).await;
        stand.store.erase_due(&stand.system()).await.expect("erased");
        // A tenant that is changing its place in this moment is erased in the next round.
        let begun = Instant::now();
        while stand.store.tenant_by_id(scope.tenant()).await.expect("by id").is_some() {
            assert!(begun.elapsed() < SOON, "it is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
            stand.store.erase_due(&stand.system()).await.expect("erased");
        }
        ids.push(scope.tenant());
    }
    emptied(&stand).await;
    stand.close();
    for id in ids {
        assert_eq!(ground.places(id).await, Vec::<String>::new());
    }
}

/// The child's side; returns at once when the test binary runs as usual.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_deletes() {
    let Ok(ground) = std::env::var(GROUND) else { return };
    let place = std::env::var(WHERE).expect("a place");
    let (isolation, location) = place.split_once(' ').expect("two words");
    let isolation = Isolation::parse(isolation).expect("an isolation");
    let location = Location::parse(location).expect("a location");
    let stand = Ground::open_by(&ground).await;
    for (name, until) in [("kept", u64::MAX), ("gone", 1)] {
        let scope = stand.create_at(name, (isolation, location)).await.expect("a tenant");
        fill(&stand, &scope, 50).await;
        retire(&stand, name, until).await;
    }
    println!("\ndeleted");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
}

/// Between the answer to a deletion and the erasure.
pub(super) async fn a_deletion_outlives_its_process(ground: Ground) {
    for (isolation, location) in ground.circle().into_iter().take(3) {
        let mut child =
            this_binary("moves::grace::child_that_deletes", GROUND, Path::new(&ground.word()));
        child.env(WHERE, format!("{} {location}", isolation.word()));
        let mut child = Running(child.stdout(Stdio::piped()).spawn().expect("a child"));
        let mut out = child.0.stdout.take().expect("its output");
        let (mut told, mut byte) = (String::new(), [0]);
        while !told.ends_with("\ndeleted\n") {
            assert_eq!(out.read(&mut byte).expect("output"), 1, "it ended: {told}");
            told.push(char::from(byte[0]));
        }
        drop(child);
        let stand = ground.open().await;
        let find = async |name: &str| stand.store.find_tenant(&tenant(name)).await.expect("found");
        let gone = find("gone").await.expect("it is still there").id;
        stand.store.erase_due(&stand.system()).await.expect("erased");
        assert!(find("gone").await.is_none());
        let kept = restore(&stand, "kept").await.expect("restored");
        assert_eq!(all(&stand, &stand.scope(kept.id)).await.len(), 50);
        emptied(&stand).await;
        stand.store.delete_tenant(&stand.operator, &kept.name).await.expect("deleted");
        emptied(&stand).await;
        stand.close();
        for id in [gone, kept.id] {
            assert_eq!(ground.places(id).await, Vec::<String>::new(), "{isolation:?} {location}");
        }
    }
}
