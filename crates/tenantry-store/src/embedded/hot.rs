//! The hot partitions of all tenants, under one budget of bytes.
//!
//! A tenant's partitions are its own objects: nothing is shared between tenants but the budget,
//! and what another tenant uses changes only whether a partition must be loaded again.

use super::{maintenance::Maintenance, partition::Partition, saved::Marks, tenants::OpenTenant};
use crate::StoreTotals;
use lru::LruCache;
use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};
use tenantry_auth::TenantId;
use tenantry_types::CollectionNumber;

type Place = (TenantId, CollectionNumber);

/// One partition in memory, read by many, changed by its tenant's one writer and by maintenance.
///
/// Order of locks: the tenant's writer lock, then the partition, then a place in the pool. Whoever
/// holds a place never waits for a lock, so work that is paused while it reads a partition holds
/// up nobody but its own tenant's writer.
#[derive(Debug)]
pub(crate) struct HotPartition {
    place: Place,
    partition: RwLock<Partition>,
    /// The tenant's weight when it was last used.
    weight: AtomicU32,
    /// True while maintenance knows of it.
    queued: AtomicBool,
    /// What is known of its saved file.
    pub(crate) marks: Marks,
}

pub(crate) type Hot = Arc<HotPartition>;

impl HotPartition {
    /// Waits for a change under way. Only where blocking is allowed and no place is held.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Partition> {
        self.partition.read()
    }

    pub(crate) fn try_read(&self) -> Option<RwLockReadGuard<'_, Partition>> {
        self.partition.try_read()
    }

    pub(crate) fn try_write(&self) -> Option<RwLockWriteGuard<'_, Partition>> {
        self.partition.try_write()
    }

    /// As [`HotPartition::read`].
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Partition> {
        self.partition.write()
    }

    /// Which collection it is of.
    pub(crate) fn collection(&self) -> CollectionNumber {
        self.place.1
    }

    /// Whose it is, and with which weight.
    pub(crate) fn tenant(&self) -> (TenantId, u32) {
        (self.place.0, self.weight.load(Ordering::Relaxed))
    }

    /// True for the first to say so: who then hands it to maintenance.
    pub(crate) fn set_queued(&self, queued: bool) -> bool {
        self.queued.swap(queued, Ordering::AcqRel) != queued
    }
}

#[derive(Debug)]
pub(crate) struct HotSet {
    budget: usize,
    maintenance: Maintenance,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The generation of the database that the partitions were loaded from.
    generation: u64,
    partitions: LruCache<Place, (Hot, usize)>,
    bytes: usize,
    loads: u64,
    evictions: u64,
}

impl HotSet {
    pub(crate) fn new(budget_bytes: u64, maintenance: Maintenance) -> Self {
        Self {
            maintenance,
            budget: usize::try_from(budget_bytes).unwrap_or(usize::MAX),
            state: Mutex::new(State {
                generation: 0,
                partitions: LruCache::unbounded(),
                bytes: 0,
                loads: 0,
                evictions: 0,
            }),
        }
    }

    pub(crate) fn budget(&self) -> usize {
        self.budget
    }

    /// A hot partition, now the most recently used. None for a tenant that was opened before the
    /// database was reopened: it must neither see nor change what was loaded after.
    pub(crate) fn get(&self, tenant: &OpenTenant, collection: CollectionNumber) -> Option<Hot> {
        let mut state = self.state.lock();
        if state.generation != tenant.generation() {
            return None;
        }
        let (hot, _) = state.partitions.get(&(tenant.id(), collection))?;
        hot.weight.store(tenant.info().weight.into(), Ordering::Relaxed);
        Some(Arc::clone(hot))
    }

    /// All hot partitions.
    pub(crate) fn all(&self) -> Vec<Hot> {
        self.state.lock().partitions.iter().map(|(_, (hot, _))| Arc::clone(hot)).collect()
    }

    /// True if this is the partition in memory, for a tenant of the same generation.
    pub(crate) fn holds(&self, tenant: &OpenTenant, hot: &Hot) -> bool {
        let state = self.state.lock();
        let kept = state.partitions.peek(&hot.place);
        state.generation == tenant.generation()
            && kept.is_some_and(|(kept, _)| Arc::ptr_eq(kept, hot))
    }

    /// Lets maintenance look at a partition, if there is something to do.
    pub(crate) fn maintain(self: &Arc<Self>, hot: &Hot, has_work: bool) {
        if has_work && hot.set_queued(true) {
            self.maintenance.add(hot, self);
        }
    }

    /// Keeps a partition that was loaded for `tenant`, and drops others to stay within the budget.
    pub(crate) fn keep(self: &Arc<Self>, tenant: &OpenTenant, partition: Partition) -> Hot {
        let place = (partition.origin().tenant, partition.origin().collection);
        let (bytes, has_work) = (partition.bytes(), partition.has_work());
        let hot = Arc::new(HotPartition {
            place,
            partition: RwLock::new(partition),
            weight: AtomicU32::new(tenant.info().weight.into()),
            queued: AtomicBool::new(false),
            marks: Marks::default(),
        });
        let mut state = self.state.lock();
        state.loads += 1;
        if state.generation != tenant.generation() {
            return hot;
        }
        state.remove(&place);
        state.bytes += bytes;
        state.partitions.put(place, (Arc::clone(&hot), bytes));
        state.shrink(self.budget);
        drop(state);
        self.maintain(&hot, has_work);
        hot
    }

    /// Takes over a partition's new size after it was changed. The partition's lock must not be
    /// waited for in here: the set's lock is everybody's.
    pub(crate) fn resize(&self, hot: &Hot, bytes: usize) {
        let mut state = self.state.lock();
        let Some((kept, counted)) = state.partitions.peek_mut(&hot.place) else { return };
        // One that was dropped and loaded again is another one.
        if !Arc::ptr_eq(kept, hot) {
            return;
        }
        let before = std::mem::replace(counted, bytes);
        state.bytes = state.bytes - before + bytes;
        state.shrink(self.budget);
    }

    /// Changes a hot partition, if it is one. Waits for queries that read it on a thread that may
    /// block, where what is `large` runs as well: texts and graphs make many changes long.
    pub(crate) async fn change(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        collection: CollectionNumber,
        large: bool,
        change: impl FnOnce(&mut Partition) + Send + 'static,
    ) {
        let Some(hot) = self.get(tenant, collection) else { return };
        hot.marks.changed();
        if !large && let Some(mut partition) = hot.try_write() {
            change(&mut partition);
            let (bytes, has_work) = (partition.bytes(), partition.has_work());
            drop(partition);
            self.resize(&hot, bytes);
            self.maintain(&hot, has_work);
            return;
        }
        let set = Arc::clone(self);
        let outcome = super::compute(usize::MAX, move || {
            let mut partition = hot.write();
            change(&mut partition);
            let (bytes, has_work) = (partition.bytes(), partition.has_work());
            drop(partition);
            set.resize(&hot, bytes);
            set.maintain(&hot, has_work);
            Ok(())
        })
        .await;
        if let Err(error) = outcome {
            // The disk is the truth: what could not be changed is loaded again.
            tracing::error!(?error, "apply a commit in memory");
            self.forget(tenant.id(), collection);
        }
    }

    /// Drops one partition, unless it has been dropped and loaded again.
    pub(crate) fn drop_partition(&self, hot: &Hot) {
        let mut state = self.state.lock();
        if state.partitions.peek(&hot.place).is_some_and(|(kept, _)| Arc::ptr_eq(kept, hot)) {
            state.remove(&hot.place);
        }
    }

    /// Ends maintenance.
    pub(crate) fn close(&self) {
        self.maintenance.close();
    }

    /// Drops one partition.
    pub(crate) fn forget(&self, tenant: TenantId, collection: CollectionNumber) {
        self.state.lock().remove(&(tenant, collection));
    }

    /// Drops all partitions of a tenant.
    pub(crate) fn forget_tenant(&self, tenant: TenantId) {
        let mut state = self.state.lock();
        let places: Vec<Place> =
            state.partitions.iter().map(|(p, _)| *p).filter(|p| p.0 == tenant).collect();
        for place in places {
            state.remove(&place);
        }
    }

    /// Drops everything, because the database is reopened as another generation.
    pub(crate) fn forget_all(&self, generation: u64) {
        let mut state = self.state.lock();
        state.generation = generation;
        state.partitions.clear();
        state.bytes = 0;
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let state = self.state.lock();
        StoreTotals {
            hot_bytes: state.bytes as u64,
            hot_partitions: state.partitions.len() as u64,
            loads: state.loads,
            evictions: state.evictions,
            maintenance: self.maintenance.done(),
            ..StoreTotals::default()
        }
    }
}

impl State {
    fn remove(&mut self, place: &Place) {
        if let Some((_, bytes)) = self.partitions.pop(place) {
            self.bytes -= bytes;
        }
    }

    fn shrink(&mut self, budget: usize) {
        while self.bytes > budget {
            let Some((_, (_, bytes))) = self.partitions.pop_lru() else { return };
            self.bytes -= bytes;
            self.evictions += 1;
        }
    }
}
