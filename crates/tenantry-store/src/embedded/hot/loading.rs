//! Loads beside a tenant's writes.
//!
//! A load begins under the tenant's writer lock and goes on without it. What is committed meanwhile is
//! noted ([`HotSet::change`]) and applied before others find the partition. A load that was given up
//! (memory was forgotten, the tenant was moved, too much was written) may have read what is old, so
//! it is not kept.

use super::{Hot, HotSet, OpenTenant, Partition, Place, Reservation};
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tenantry_auth::TenantId;
use tenantry_types::CollectionNumber;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

/// A commit as memory learns of it.
pub(super) type Change = Box<dyn FnOnce(&mut Partition) + Send>;

/// Changes that one load may be behind, and their bytes.
const CHANGES_MAX: usize = 512;
const CHANGE_BYTES_MAX: usize = 32 << 20;

struct Loading {
    collection: CollectionNumber,
    number: u64,
    changes: Vec<Change>,
    /// Of those that were noted since the disk is read.
    count: usize,
    bytes: usize,
    /// False until the writer lock is not waited for any more.
    is_reading: bool,
    over: Arc<Mutex<()>>,
    end: Arc<End>,
}

/// Whether a load was given up.
#[derive(Debug, Default)]
pub(super) struct End {
    is_given_up: AtomicBool,
    told: Notify,
}

impl Loading {
    /// It stays known until it has ended, so that the tenant has no other one meanwhile.
    fn give_up(&mut self) -> Vec<Change> {
        if !self.end.is_given_up.swap(true, Ordering::AcqRel) {
            self.end.told.notify_one();
        }
        std::mem::take(&mut self.changes)
    }

    fn is_given_up(&self) -> bool {
        self.end.is_given_up.load(Ordering::Acquire)
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
pub(super) type GivenUp = Vec<Change>;

impl Loads {
    /// Takes a change that its load must learn of, if its collection is being read.
    pub(super) fn note<C: FnOnce(&mut Partition) + Send + 'static>(
        &mut self,
        (tenant, collection): Place,
        bytes: usize,
        change: &mut Option<C>,
    ) -> GivenUp {
        let is_told = |load: &&mut Loading| {
            // What is written before the disk is read is found there.
            load.collection == collection && load.is_reading && !load.is_given_up()
        };
        let Some(load) = self.all.get_mut(&tenant).filter(is_told) else { return Vec::new() };
        load.count += 1;
        load.bytes = load.bytes.saturating_add(bytes);
        if load.count > CHANGES_MAX || load.bytes > CHANGE_BYTES_MAX {
            return load.give_up();
        }
        if let Some(change) = change.take() {
            load.changes.push(Box::new(change));
        }
        Vec::new()
    }

    pub(super) fn give_up(&mut self, tenant: TenantId) -> GivenUp {
        self.all.get_mut(&tenant).map(Loading::give_up).unwrap_or_default()
    }

    pub(super) fn give_up_of(&mut self, (tenant, collection): Place) -> GivenUp {
        let load = self.all.get_mut(&tenant).filter(|load| load.collection == collection);
        load.map(Loading::give_up).unwrap_or_default()
    }

    /// One that may wait for the writer lock, or does what its holder is about to do.
    fn overtake(&mut self, (tenant, collection): Place) -> GivenUp {
        let is_in_the_way = |load: &&mut Loading| load.collection == collection || !load.is_reading;
        let load = self.all.get_mut(&tenant).filter(is_in_the_way);
        load.map(Loading::give_up).unwrap_or_default()
    }

    pub(super) fn give_up_all(&mut self) -> Vec<GivenUp> {
        self.all.values_mut().map(Loading::give_up).collect()
    }

    /// A load that was not given up.
    fn of(&mut self, load: &Load) -> Option<&mut Loading> {
        let loading = self.all.get_mut(&load.place.0)?;
        (loading.number == load.number && !loading.is_given_up()).then_some(loading)
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
    /// To be dropped where that may take long, in this order.
    GivenUp(Box<(Partition, Reservation)>),
}

/// A load under way. Dropping it ends it.
pub(crate) struct Load {
    set: Arc<HotSet>,
    place: Place,
    number: u64,
    end: Arc<End>,
    _over: OwnedMutexGuard<()>,
}

impl Load {
    /// Waits until it was given up. Once only.
    pub(crate) async fn given_up(&self) {
        self.end.told.notified().await;
    }

    /// Whether what is read is read in vain.
    pub(crate) fn is_vain(&self) -> impl Fn() -> bool + Send + use<> {
        let end = Arc::clone(&self.end);
        move || end.is_given_up.load(Ordering::Acquire)
    }

    /// Call under the tenant's writer lock, before the disk is seen as it is: what was committed
    /// before is there.
    pub(crate) fn begin(&self) {
        if let Some(loading) = self.set.state.lock().loads.of(self) {
            loading.is_reading = true;
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut state = self.set.state.lock();
        let is_it = |loading: &Loading| loading.number == self.number;
        let is_there = state.loads.all.get(&self.place.0).is_some_and(is_it);
        let rest = is_there.then(|| state.loads.all.remove(&self.place.0));
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
        let end = Arc::<End>::default();
        let loading = Loading {
            collection,
            number,
            changes: Vec::new(),
            count: 0,
            bytes: 0,
            is_reading: false,
            over,
            end: Arc::clone(&end),
        };
        state.loads.all.insert(place.0, loading);
        drop(state);
        Begun::Load(Load { set: Arc::clone(self), place, number, end, _over: held })
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
                Kept::GivenUp(Box::new((partition, reservation)))
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
