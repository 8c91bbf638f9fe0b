//! Loads beside a tenant's writes.
//!
//! A load begins under the tenant's writer lock and goes on without it. What is committed meanwhile is
//! noted ([`HotSet::change`]) and applied before others find the partition. A load that was given up
//! (memory was forgotten, the tenant was moved, too much was written) may have read what is old, so
//! it is not kept.

use super::{Hot, HotSet, OpenTenant, Partition, Place, Reservation};
use std::{collections::HashMap, fmt, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_types::CollectionNumber;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

/// A commit as memory learns of it.
pub(super) type Change = Box<dyn FnOnce(&mut Partition) + Send>;

/// Changes that one load may be behind; a large one counts as many.
const CHANGES_MAX: usize = 512;
const LARGE_COUNTS: usize = 64;

struct Loading {
    collection: CollectionNumber,
    number: u64,
    changes: Vec<Change>,
    count: usize,
    /// False until the writer lock is not waited for any more.
    is_reading: bool,
    over: Arc<Mutex<()>>,
    given_up: Arc<Notify>,
}

impl Loading {
    fn end(self) -> Vec<Change> {
        self.given_up.notify_one();
        self.changes
    }
}

/// At most one of each tenant.
#[derive(Default)]
pub(super) struct Loads {
    all: HashMap<TenantId, Loading>,
    number: u64,
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loads").field("loads", &self.all.len()).finish_non_exhaustive()
    }
}

/// What was noted for a load that was given up, to be dropped without the set's lock.
pub(super) type GivenUp = Option<Vec<Change>>;

impl Loads {
    /// Notes a change, if its collection is being loaded.
    pub(super) fn note(
        &mut self,
        (tenant, collection): Place,
        large: bool,
        change: impl FnOnce(&mut Partition) + Send + 'static,
    ) -> GivenUp {
        let load = self.all.get_mut(&tenant).filter(|load| load.collection == collection)?;
        load.count += if large { LARGE_COUNTS } else { 1 };
        if load.count > CHANGES_MAX {
            return self.give_up(tenant);
        }
        load.changes.push(Box::new(change));
        None
    }

    pub(super) fn give_up(&mut self, tenant: TenantId) -> GivenUp {
        self.all.remove(&tenant).map(Loading::end)
    }

    pub(super) fn give_up_of(&mut self, (tenant, collection): Place) -> GivenUp {
        self.all.get(&tenant).filter(|load| load.collection == collection)?;
        self.give_up(tenant)
    }

    /// One that may wait for the writer lock, or does what its holder is about to do.
    fn overtake(&mut self, (tenant, collection): Place) -> GivenUp {
        let is_in_the_way = |load: &&Loading| load.collection == collection || !load.is_reading;
        self.all.get(&tenant).filter(is_in_the_way)?;
        self.give_up(tenant)
    }

    pub(super) fn give_up_all(&mut self) -> Vec<GivenUp> {
        self.all.drain().map(|(_, load)| Some(load.end())).collect()
    }

    fn of(&mut self, load: &Load) -> Option<&mut Loading> {
        self.all.get_mut(&load.place.0).filter(|loading| loading.number == load.number)
    }
}

/// What a load finds at its beginning.
pub(crate) enum Begun {
    /// Nothing to load.
    Hot(Hot),
    Load(Load),
    /// Another one of the tenant, which is over when this can be locked.
    Other(Arc<Mutex<()>>),
}

/// What a load finds at its end.
pub(crate) enum Kept {
    Hot(Hot),
    /// What is to be applied before.
    Behind(Box<(Partition, Reservation)>, Vec<Change>),
    GivenUp,
}

/// A load under way. Dropping it ends it.
pub(crate) struct Load {
    set: Arc<HotSet>,
    place: Place,
    number: u64,
    given_up: Arc<Notify>,
    _over: OwnedMutexGuard<()>,
}

impl Load {
    /// Waits until it was given up. Once only.
    pub(crate) async fn given_up(&self) {
        self.given_up.notified().await;
    }

    /// Call under the tenant's writer lock, when the disk is seen as it is: what was committed before
    /// is there.
    pub(crate) fn begin(&self) {
        let mut state = self.set.state.lock();
        let seen = state.loads.of(self).map(|loading| {
            (loading.count, loading.is_reading) = (0, true);
            std::mem::take(&mut loading.changes)
        });
        drop(state);
        drop(seen);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut state = self.set.state.lock();
        let is_there = state.loads.of(self).is_some();
        let rest = if is_there { state.loads.give_up(self.place.0) } else { None };
        drop(state);
        drop(rest);
    }
}

impl HotSet {
    /// Begins to load a partition, if it is not there. The tenant's writer lock is held.
    pub(crate) fn begin_load(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        collection: CollectionNumber,
    ) -> Begun {
        if let Some(hot) = self.get(tenant, collection) {
            return Begun::Hot(hot);
        }
        let place = (tenant.id(), collection);
        let over = Arc::<Mutex<()>>::default();
        let held = Arc::clone(&over).try_lock_owned().expect("nobody has it yet");
        let mut state = self.state.lock();
        if let Some(other) = state.loads.all.get(&place.0) {
            return Begun::Other(Arc::clone(&other.over));
        }
        state.loads.number += 1;
        let number = state.loads.number;
        let given_up = Arc::<Notify>::default();
        let loading = Loading {
            collection,
            number,
            changes: Vec::new(),
            count: 0,
            is_reading: false,
            over,
            given_up: Arc::clone(&given_up),
        };
        state.loads.all.insert(place.0, loading);
        drop(state);
        Begun::Load(Load { set: Arc::clone(self), place, number, given_up, _over: held })
    }

    /// Call before anything is waited for with the tenant's writer lock: a load that has room may
    /// wait for this lock.
    pub(crate) fn overtake(&self, tenant: &OpenTenant, collection: CollectionNumber) {
        let given_up = self.state.lock().loads.overtake((tenant.id(), collection));
        drop(given_up);
    }

    /// [`HotSet::keep`], if the load was not given up and is not behind.
    pub(crate) fn keep_loaded(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        (partition, reservation): (Partition, Reservation),
        load: &Load,
    ) -> Kept {
        let mut state = self.state.lock();
        let changes = state.loads.of(load).map(|loading| std::mem::take(&mut loading.changes));
        match changes {
            None => {
                drop(state);
                Kept::GivenUp
            }
            Some(changes) if changes.is_empty() => {
                Kept::Hot(self.keep_in(state, tenant, partition, reservation))
            }
            Some(changes) => {
                drop(state);
                Kept::Behind(Box::new((partition, reservation)), changes)
            }
        }
    }
}
