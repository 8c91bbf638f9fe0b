//! Loads that reserve, wait, are cancelled, and partitions that are still in use.

use super::collection;
use crate::{
    Origin, TenantInfo,
    embedded::{
        disk::Body,
        hot::{Hot, HotSet, Reservation},
        maintenance::Maintenance,
        partition::{Partition, PartitionConfig},
        seal::SealingKey,
        tenants::OpenTenant,
    },
    pool::{Pool, PoolConfig},
};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_index::IndexConfig;
use tenantry_types::{
    CollectionNumber, ErrorKind, Isolation, Limits, Location, TenantName, TenantState, Timestamp,
};
use tokio::task::{JoinHandle, yield_now};
use zeroize::Zeroizing;

const BUDGET: usize = 1 << 20;

pub(super) fn set() -> Arc<HotSet> {
    let maintenance = Maintenance::new(Pool::new(PoolConfig::default()));
    Arc::new(HotSet::new(BUDGET as u64, maintenance))
}

pub(super) fn tenant(number: u64) -> Arc<OpenTenant> {
    let info = TenantInfo {
        id: TenantId::new(number),
        name: TenantName::parse("n").unwrap(),
        state: TenantState::Active,
        isolation: Isolation::Shared,
        location: Location::Home,
        weight: 100,
        limits: Limits::default(),
        plan: None,
        exceptions: tenantry_types::Exceptions::default(),
        settings: BTreeMap::new(),
        created_at: Timestamp(0),
        named_at: Timestamp(0),
        made_by: None,
        erase_at: None,
    };
    let origin = crate::tenancy::origin::Origins::of_nobody().of(info.id).unwrap();
    let key = SealingKey::new(Zeroizing::new([7; 32]), 1);
    Arc::new(OpenTenant::new(info, (key, origin), 0))
}

/// A partition of about so many bytes.
pub(super) fn partition(tenant: &OpenTenant, bytes: usize) -> Partition {
    let origin = Origin { tenant: tenant.id(), collection: CollectionNumber(1) };
    let config = PartitionConfig { index: IndexConfig::default(), metadata_bytes_max: 0 };
    let mut partition = Partition::new(origin, &collection(1), config);
    let body = Body {
        id: "a".to_owned(),
        document: Some("x".repeat(bytes).into()),
        uri: None,
        metadata: None,
        version: 1,
        expires_at: None,
        vectors: None,
    };
    partition.put(0, body, &[]);
    partition
}

async fn load(set: &Arc<HotSet>, tenant: &OpenTenant, bytes: usize) -> Hot {
    let mut room = set.reserve(tenant, bytes).await.unwrap();
    room.make_room();
    set.keep(tenant, partition(tenant, bytes), room)
}

fn is_hot(set: &HotSet, tenant: &OpenTenant) -> bool {
    set.get(tenant, CollectionNumber(1)).is_some()
}

/// Asks in a task of its own, and lets it begin to wait.
async fn ask(set: &Arc<HotSet>, number: u64, bytes: usize) -> JoinHandle<Reservation> {
    let (set, tenant) = (Arc::clone(set), tenant(number));
    let asking = tokio::spawn(async move { set.reserve(&tenant, bytes).await.unwrap() });
    for _ in 0..10 {
        yield_now().await;
    }
    asking
}

fn assert_nothing_reserved(set: &HotSet) {
    let totals = set.totals();
    assert_eq!((totals.loading_bytes, totals.loads_waiting, totals.leaving_bytes), (0, 0, 0));
}

#[tokio::test]
async fn what_is_being_loaded_counts() {
    let set = set();
    let (one, two) = (tenant(1), tenant(2));
    load(&set, &one, 400 << 10).await;
    let mut room = set.reserve(&two, 700 << 10).await.unwrap();
    assert!(!is_hot(&set, &one), "what is in the way of a load gives way before it");
    assert_eq!(room.leaving_bytes() as u64, set.totals().leaving_bytes);
    room.make_room();
    assert_eq!(set.totals().leaving_bytes, 0);
    assert_eq!(set.totals().loading_bytes, 700 << 10);
    // It turns out to be smaller.
    let hot = set.keep(&two, partition(&two, 100 << 10), room);
    let totals = set.totals();
    assert_eq!(totals.hot_bytes, hot.read().bytes() as u64);
    assert_eq!((totals.hot_partitions, totals.loads, totals.evictions), (1, 2, 1));
    assert_nothing_reserved(&set);
}

#[tokio::test]
async fn a_load_that_fails_gives_its_room_back() {
    let set = set();
    let mut room = set.reserve(&tenant(1), 300 << 10).await.unwrap();
    room.cover(200 << 10);
    assert_eq!(set.totals().loading_bytes, 300 << 10);
    room.cover(400 << 10);
    assert!(set.totals().loading_bytes >= 400 << 10);
    drop(room);
    assert_nothing_reserved(&set);
}

#[tokio::test]
async fn loads_wait_in_order_and_a_large_one_is_not_overtaken() {
    let set = set();
    let first = set.reserve(&tenant(1), BUDGET / 2).await.unwrap();
    let large = ask(&set, 2, BUDGET).await;
    let small = ask(&set, 3, 1).await;
    assert!(!large.is_finished() && !small.is_finished());
    let totals = set.totals();
    assert_eq!((totals.loads_waiting, totals.loads_waited), (2, 2));
    drop(first);
    let large = large.await.unwrap();
    for _ in 0..10 {
        yield_now().await;
    }
    assert!(!small.is_finished());
    drop(large);
    drop(small.await.unwrap());
    assert_nothing_reserved(&set);
}

#[tokio::test]
async fn who_leaves_the_queue_lets_the_next_one_in() {
    let set = set();
    let first = set.reserve(&tenant(1), BUDGET / 2).await.unwrap();
    let large = ask(&set, 2, BUDGET).await;
    let small = ask(&set, 3, 1).await;
    large.abort();
    assert!(large.await.unwrap_err().is_cancelled());
    drop(small.await.unwrap());
    // One that is aborted when its room is on its way gives it back.
    let late = ask(&set, 4, BUDGET).await;
    drop(first);
    late.abort();
    drop(late.await);
    assert_nothing_reserved(&set);
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let set = set();
    let room = set.reserve(&tenant(1), BUDGET).await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..1_024 {
        let (set, tenant) = (Arc::clone(&set), tenant(number + 2));
        waiting.push(tokio::spawn(async move { set.reserve(&tenant, 1).await.map(drop) }));
    }
    while set.totals().loads_waiting < 1_024 {
        yield_now().await;
    }
    let refused = set.reserve(&tenant(9_999), 1).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Busy);
    assert_eq!(set.totals().loads_refused, 1);
    drop(room);
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    assert_nothing_reserved(&set);
}

/// Memory is taken until the last query has left.
#[tokio::test]
async fn what_was_dropped_counts_while_it_is_used() {
    let set = set();
    let (one, two, three) = (tenant(1), tenant(2), tenant(3));
    let used = load(&set, &one, 600 << 10).await;
    let bytes = used.read().bytes() as u64;
    set.forget(one.id(), CollectionNumber(1));
    assert_eq!((set.totals().hot_bytes, set.totals().leaving_bytes), (0, bytes));
    load(&set, &two, 300 << 10).await;
    // There is no room for both beside what is still used.
    load(&set, &three, 300 << 10).await;
    assert!(!is_hot(&set, &two) && is_hot(&set, &three));
    drop(used);
    assert_eq!(set.totals().leaving_bytes, 0);
    load(&set, &two, 300 << 10).await;
    assert!(is_hot(&set, &two) && is_hot(&set, &three));
}

#[tokio::test]
async fn a_change_makes_others_give_way_and_a_stale_one_counts_for_nothing() {
    let set = set();
    let (one, two) = (tenant(1), tenant(2));
    let stale = load(&set, &one, 1 << 10).await;
    set.forget_tenant(one.id());
    let hot = load(&set, &one, 1 << 10).await;
    load(&set, &two, 300 << 10).await;
    let before = set.totals().hot_bytes;
    set.resize(&stale, BUDGET);
    set.drop_partition(&stale);
    assert_eq!(set.totals().hot_bytes, before);
    drop(stale);
    set.resize(&hot, BUDGET - (100 << 10));
    // It is the only one above its share.
    assert!(!is_hot(&set, &one) && is_hot(&set, &two));
    set.forget_all(1);
    assert!(!is_hot(&set, &two), "it was loaded from a database that is closed");
    let room = set.reserve(&two, 1).await.unwrap();
    set.keep(&two, partition(&two, 10), room);
    assert_eq!(set.totals().hot_partitions, 0);
}

/// Many at once, some cancelled: what is held and reserved is never above the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_loads_at_once_stay_within_the_budget() {
    let set = set();
    let mut loads = tokio::task::JoinSet::new();
    for number in 0..400_u64 {
        let set = Arc::clone(&set);
        loads.spawn(async move {
            let tenant = tenant(number % 40);
            let bytes = 20_000 + usize::try_from(number % 7).unwrap() * 40_000;
            let mut room = set.reserve(&tenant, bytes).await.unwrap();
            room.make_room();
            yield_now().await;
            if number % 5 == 0 {
                return;
            }
            let hot = set.keep(&tenant, partition(&tenant, bytes - 10_000), room);
            assert_eq!(hot.tenant(), (tenant.id(), 100));
            let totals = set.totals();
            assert!(totals.hot_bytes + totals.loading_bytes <= BUDGET as u64, "{totals:?}");
        });
        if number % 11 == 0 {
            loads.spawn(async {});
        }
    }
    for _ in 0..200 {
        loads.join_next().await.unwrap().unwrap();
    }
    loads.abort_all();
    while let Some(outcome) = loads.join_next().await {
        assert!(outcome.is_ok() || outcome.unwrap_err().is_cancelled());
    }
    assert_nothing_reserved(&set);
    let totals = set.totals();
    assert!(totals.loads > 0 && totals.evictions > 0, "{totals:?}");
}

#[tokio::test]
async fn what_was_committed_and_not_applied_is_not_answered_from_memory() {
    let set = set();
    let (one, two) = (tenant(1), tenant(2));
    load(&set, &one, 1 << 10).await;
    load(&set, &two, 1 << 10).await;
    set.unapplied(&one, CollectionNumber(1)).done();
    assert!(is_hot(&set, &one));
    let applying = std::panic::AssertUnwindSafe(|| {
        let _unapplied = set.unapplied(&one, CollectionNumber(1));
        panic!("while a commit is applied");
    });
    assert!(std::panic::catch_unwind(applying).is_err());
    assert!(!is_hot(&set, &one) && is_hot(&set, &two));
}
