//! Loads beside writes.

use super::loads::{partition, set, tenant};
use crate::embedded::{
    disk::Body,
    hot::{Begun, HotSet, Kept, Load},
    partition::Partition,
    tenants::OpenTenant,
};
use std::sync::Arc;
use tenantry_types::CollectionNumber;

const ONE: CollectionNumber = CollectionNumber(1);
const TWO: CollectionNumber = CollectionNumber(2);

fn begin(set: &Arc<HotSet>, tenant: &OpenTenant) -> Load {
    match set.begin_load(tenant, ONE) {
        Begun::Load(load) => load,
        _ => panic!("another load is under way"),
    }
}

/// A write of one record, as memory learns of it.
fn put(ordinal: u64) -> impl FnOnce(&mut Partition) + Send + 'static {
    let body = Body {
        id: ordinal.to_string(),
        document: None,
        uri: None,
        metadata: None,
        version: 1,
        expires_at: None,
        vectors: None,
    };
    move |partition| partition.put(ordinal, body, &[])
}

async fn write(set: &Arc<HotSet>, tenant: &OpenTenant, ordinal: u64) {
    set.change(tenant, ONE, (false, 100), put(ordinal)).await;
}

/// Ends a load of what was read before: how many changes it was behind, and what is then found.
async fn end(set: &Arc<HotSet>, tenant: &OpenTenant, load: Load) -> Option<(usize, Vec<u64>)> {
    let mut read = (partition(tenant, 10), set.reserve(tenant, 10).await.unwrap());
    let mut behind = 0;
    loop {
        match set.keep_loaded(tenant, read, &load) {
            Kept::GivenUp(_) => return None,
            Kept::Behind(mut behind_by, changes) => {
                behind += changes.len();
                for change in changes {
                    change(&mut behind_by.0);
                }
                read = *behind_by;
            }
            Kept::Hot(hot) => {
                let partition = hot.read();
                let ordinals = partition.all_slots().filter_map(|slot| partition.ordinal(slot));
                return Some((behind, ordinals.collect()));
            }
        }
    }
}

#[tokio::test]
async fn what_is_written_during_a_load_is_found_after_it() {
    let (set, tenant) = (set(), tenant(1));
    let load = begin(&set, &tenant);
    // This one is on the disk when that is read.
    write(&set, &tenant, 1).await;
    load.begin();
    write(&set, &tenant, 2).await;
    write(&set, &tenant, 3).await;
    set.change(&tenant, TWO, (false, 100), put(4)).await;
    assert!(set.get(&tenant, ONE).is_none(), "it is found before it is loaded");
    assert_eq!(end(&set, &tenant, load).await, Some((2, vec![0, 2, 3])));
    write(&set, &tenant, 5).await;
    assert_eq!(set.get(&tenant, ONE).unwrap().read().all_slots().count(), 4);
    assert!(matches!(set.begin_load(&tenant, ONE), Begun::Hot(_)));
}

#[tokio::test]
async fn a_tenant_loads_one_after_the_other() {
    let (set, one, two) = (set(), tenant(1), tenant(2));
    let load = begin(&set, &one);
    let Begun::Other(over) = set.begin_load(&one, TWO) else { panic!("two at once") };
    assert!(over.try_lock().is_err());
    drop(begin(&set, &two));
    drop(load);
    assert!(over.try_lock().is_ok(), "a load that was dropped is not over");
    assert!(matches!(set.begin_load(&one, TWO), Begun::Load(_)));
}

#[tokio::test]
async fn a_load_that_was_given_up_is_not_kept() {
    let (one, other) = (tenant(1), tenant(2));
    let ways: [fn(&HotSet); 4] = [
        |set| set.forget(tenant(1).id(), ONE),
        |set| set.forget_tenant(tenant(1).id()),
        |set| set.forget_all(0),
        |set| set.overtake(&tenant(1), ONE),
    ];
    for give_up in ways {
        let set = set();
        let load = begin(&set, &one);
        load.begin();
        set.forget(one.id(), TWO);
        set.forget_tenant(other.id());
        set.overtake(&one, TWO);
        write(&set, &one, 1).await;
        give_up(&set);
        load.given_up().await;
        // There is no other one until this one has ended.
        assert!(load.is_vain()());
        let Begun::Other(over) = set.begin_load(&one, ONE) else { panic!("two at once") };
        write(&set, &one, 1).await;
        assert_eq!(end(&set, &one, load).await, None);
        assert!(over.try_lock().is_ok());
        let next = begin(&set, &one);
        next.begin();
        write(&set, &one, 2).await;
        assert_eq!(end(&set, &one, next).await, Some((1, vec![0, 2])));
    }
}

#[tokio::test]
async fn whoever_has_the_lock_overtakes_what_may_wait_for_it() {
    let (set, tenant) = (set(), tenant(1));
    let load = begin(&set, &tenant);
    set.overtake(&tenant, TWO);
    load.given_up().await;
    assert_eq!(end(&set, &tenant, load).await, None);
}

#[tokio::test]
async fn a_load_that_is_far_behind_is_given_up() {
    let (set, tenant) = (set(), tenant(1));
    for (bytes, few, many) in [(100, 512, 513), (4 << 20, 8, 9)] {
        for (count, is_kept) in [(few, true), (many, false)] {
            let load = begin(&set, &tenant);
            // Before the disk is read any number may come.
            for ordinal in 1..=2 * many {
                set.change(&tenant, ONE, (false, bytes), put(ordinal)).await;
            }
            load.begin();
            for ordinal in 1..=count {
                set.change(&tenant, ONE, (false, bytes), put(ordinal)).await;
            }
            let found = end(&set, &tenant, load).await;
            assert_eq!(found.map(|(behind, _)| behind as u64), is_kept.then_some(count));
            set.forget_tenant(tenant.id());
        }
    }
}
