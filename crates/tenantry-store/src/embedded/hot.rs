//! The hot partitions of all tenants, under one budget of bytes.
//!
//! A tenant's partitions are its own objects: nothing is shared between tenants but the budget,
//! and what another tenant uses changes only whether a partition must be loaded again. Who gives
//! way is decided in `shares`; what is being loaded is counted before it is there (`reservation`).

mod loading;
mod recency;
mod reservation;
mod shares;
#[cfg(test)]
mod tests;

pub(crate) use loading::{Begun, Kept, Load};
pub(crate) use reservation::Reservation;

use super::{maintenance::Maintenance, partition::Partition, saved::Marks, tenants::OpenTenant};
use crate::{StoreTotals, pool::INLINE_BYTES};
use loading::Loads;
use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use reservation::{Grant, Queue};
use shares::{Place, Shares};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tenantry_auth::TenantId;
use tenantry_types::CollectionNumber;

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
    counted: Counted,
}

pub(crate) type Hot = Arc<HotPartition>;

/// Bytes that count as taken until they are given back to the allocator, which for a partition
/// that was dropped from the set is when the last query has left it.
#[derive(Debug)]
struct Counted {
    all: Arc<AtomicUsize>,
    own: AtomicUsize,
}

impl Counted {
    fn set(&self, bytes: usize) {
        self.all.fetch_add(bytes, Ordering::AcqRel);
        self.all.fetch_sub(self.own.swap(bytes, Ordering::AcqRel), Ordering::AcqRel);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.set(0);
    }
}

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
    started: Instant,
    /// Bytes of all partitions that exist, hot or dropped and still in use.
    alive: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The generation of the database that the partitions were loaded from.
    generation: u64,
    shares: Shares<Hot>,
    queue: Queue,
    loads: Loads,
    loaded: u64,
    evictions: u64,
}

impl HotSet {
    pub(crate) fn new(budget_bytes: u64, maintenance: Maintenance) -> Self {
        let budget = usize::try_from(budget_bytes).unwrap_or(usize::MAX);
        Self {
            budget,
            maintenance,
            started: Instant::now(),
            alive: Arc::default(),
            state: Mutex::new(State {
                generation: 0,
                shares: Shares::new(budget),
                queue: Queue::default(),
                loads: Loads::default(),
                loaded: 0,
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
        let (weight, now) = (tenant.weight(), self.now());
        let mut state = self.state.lock();
        if state.generation != tenant.generation() {
            return None;
        }
        let hot = state.shares.get(&(tenant.id(), collection), weight, now)?;
        hot.weight.store(weight, Ordering::Relaxed);
        Some(Arc::clone(hot))
    }

    /// All hot partitions, without keeping them in memory.
    pub(crate) fn all(&self) -> Vec<Weak<HotPartition>> {
        self.state.lock().shares.values().map(Arc::downgrade).collect()
    }

    /// True if this is the partition in memory, for a tenant of the same generation.
    pub(crate) fn holds(&self, tenant: &OpenTenant, hot: &Hot) -> bool {
        let state = self.state.lock();
        let kept = state.shares.peek(&hot.place);
        state.generation == tenant.generation() && kept.is_some_and(|kept| Arc::ptr_eq(kept, hot))
    }

    /// Lets maintenance look at a partition, if there is something to do.
    pub(crate) fn maintain(self: &Arc<Self>, hot: &Hot, has_work: bool) {
        if has_work && hot.set_queued(true) {
            self.maintenance.add(hot, self);
        }
    }

    /// Keeps a partition that was loaded for `tenant` in the place of its reservation. One that is
    /// larger than the budget is left to whoever asked for it.
    pub(crate) fn keep(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        partition: Partition,
        reservation: Reservation,
    ) -> Hot {
        self.keep_in(self.state.lock(), tenant, partition, reservation)
    }

    fn keep_in(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        tenant: &OpenTenant,
        partition: Partition,
        mut reservation: Reservation,
    ) -> Hot {
        let place = (partition.origin().tenant, partition.origin().collection);
        let (bytes, has_work) = (partition.bytes(), partition.has_work());
        let weight = tenant.weight();
        let hot = Arc::new(HotPartition {
            place,
            partition: RwLock::new(partition),
            weight: AtomicU32::new(weight),
            queued: AtomicBool::new(false),
            counted: Counted { all: Arc::clone(&self.alive), own: AtomicUsize::new(0) },
            marks: Marks::default(),
        });
        let now = self.now();
        state.loaded += 1;
        // A load beside this one is in vain.
        let given_up = state.loads.give_up_of(place);
        let mut dropped = Vec::new();
        // One that was erased while its last load went on must leave nothing in memory.
        let is_current = state.generation == tenant.generation() && !tenant.is_gone();
        let is_kept = is_current && bytes <= self.budget;
        if is_kept {
            dropped.extend(state.shares.remove(&place));
            // Others make room for its true size before it is one of those that may give way.
            reservation.resize(&mut state.shares, bytes);
            dropped.extend(self.evict(&mut state, now));
        }
        reservation.end(&mut state.shares);
        hot.counted.set(bytes);
        if is_kept {
            state.shares.insert(place, weight, bytes, Arc::clone(&hot), now);
        }
        let granted = self.grant(&mut state, now);
        drop(state);
        drop(given_up);
        reservation::send(granted);
        discard(dropped);
        if is_kept {
            self.maintain(&hot, has_work);
        }
        hot
    }

    /// Takes over a partition's new size after it was changed. The partition's lock must not be
    /// waited for in here: the set's lock is everybody's.
    pub(crate) fn resize(&self, hot: &Hot, bytes: usize) {
        let mut state = self.state.lock();
        // One that was dropped and loaded again is another one.
        if !state.shares.peek(&hot.place).is_some_and(|kept| Arc::ptr_eq(kept, hot)) {
            return;
        }
        hot.counted.set(bytes);
        state.shares.resize(&hot.place, bytes);
        let dropped = self.evict(&mut state, self.now());
        drop(state);
        discard(dropped);
    }

    /// Changes a hot partition, if it is one, or the one that is being loaded. Waits for queries that
    /// read it on a thread that may block, where what is `large` runs as well: texts and graphs make
    /// many changes long.
    pub(crate) async fn change(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        collection: CollectionNumber,
        (large, bytes): (bool, usize),
        change: impl FnOnce(&mut Partition) + Send + 'static,
    ) {
        let Some((hot, change)) = self.target(tenant, collection, bytes, change) else { return };
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
        let change = move || {
            let mut partition = hot.write();
            change(&mut partition);
            let (bytes, has_work) = (partition.bytes(), partition.has_work());
            drop(partition);
            set.resize(&hot, bytes);
            set.maintain(&hot, has_work);
            Ok(())
        };
        let outcome = self.maintenance.pool().compute(tenant.id(), usize::MAX, change).await;
        if let Err(error) = outcome {
            // The disk is the truth: what could not be changed is loaded again.
            tracing::error!(?error, "apply a commit in memory");
            self.forget(tenant.id(), collection);
        }
    }

    /// The partition that is to be changed; none if it is not there, and then the change is noted for
    /// whoever loads it.
    fn target<C: FnOnce(&mut Partition) + Send + 'static>(
        &self,
        tenant: &OpenTenant,
        collection: CollectionNumber,
        bytes: usize,
        change: C,
    ) -> Option<(Hot, C)> {
        let (weight, now) = (tenant.weight(), self.now());
        let place = (tenant.id(), collection);
        let mut state = self.state.lock();
        if state.generation != tenant.generation() {
            return None;
        }
        if let Some(hot) = state.shares.get(&place, weight, now) {
            hot.weight.store(weight, Ordering::Relaxed);
            return Some((Arc::clone(hot), change));
        }
        // A whole batch: whoever does not take it drops it without the set's lock.
        let mut change = Some(change);
        let given_up = state.loads.note(place, bytes, &mut change);
        drop(state);
        drop((given_up, change));
        None
    }

    /// What was committed and is not in memory yet: unless it is [`Unapplied::done`], even after a
    /// panic, the partition goes, because the disk is the truth.
    pub(crate) fn unapplied(
        &self,
        tenant: &OpenTenant,
        collection: CollectionNumber,
    ) -> Unapplied<'_> {
        Unapplied { set: self, place: Some((tenant.id(), collection)) }
    }

    /// Drops one partition, unless it has been dropped and loaded again.
    pub(crate) fn drop_partition(&self, hot: &Hot) {
        let mut state = self.state.lock();
        let is_it = state.shares.peek(&hot.place).is_some_and(|kept| Arc::ptr_eq(kept, hot));
        let dropped = if is_it { state.shares.remove(&hot.place) } else { None };
        drop(state);
        discard(dropped.into_iter().collect());
    }

    /// Ends maintenance.
    pub(crate) fn close(&self) {
        self.maintenance.close();
    }

    /// Drops one partition.
    pub(crate) fn forget(&self, tenant: TenantId, collection: CollectionNumber) {
        let mut state = self.state.lock();
        let given_up = state.loads.give_up_of((tenant, collection));
        let dropped = state.shares.remove(&(tenant, collection));
        drop(state);
        drop(given_up);
        discard(dropped.into_iter().collect());
    }

    /// Drops all partitions of a tenant.
    pub(crate) fn forget_tenant(&self, tenant: TenantId) {
        let mut state = self.state.lock();
        let given_up = state.loads.give_up(tenant);
        let dropped = state.shares.remove_tenant(tenant);
        drop(state);
        drop(given_up);
        discard(dropped);
    }

    /// Drops everything, because the database is reopened as another generation.
    pub(crate) fn forget_all(&self, generation: u64) {
        let mut state = self.state.lock();
        state.generation = generation;
        let given_up = state.loads.give_up_all();
        let dropped = state.shares.clear();
        drop(state);
        drop(given_up);
        discard(dropped);
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let state = self.state.lock();
        StoreTotals {
            hot_bytes: state.shares.held() as u64,
            hot_partitions: state.shares.len() as u64,
            hot_budget_bytes: self.budget as u64,
            loading_bytes: state.shares.reserved() as u64,
            leaving_bytes: self.leaving(&state) as u64,
            loads: state.loaded,
            loads_waited: state.queue.waited(),
            loads_refused: state.queue.refused(),
            loads_waiting: state.queue.len() as u64,
            evictions: state.evictions,
            maintenance: self.maintenance.done(),
            ..StoreTotals::default()
        }
    }

    /// Seconds since the start, for the order of uses.
    fn now(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Bytes of partitions that were dropped and are still in use.
    fn leaving(&self, state: &State) -> usize {
        self.alive.load(Ordering::Acquire).saturating_sub(state.shares.held())
    }

    /// Takes out what must give way. It is to be dropped after the set's lock.
    fn evict(&self, state: &mut State, now: u64) -> Vec<Hot> {
        let leaving = self.leaving(state);
        let mut dropped = Vec::new();
        while let Some(hot) = state.shares.evict(leaving, now) {
            state.evictions += 1;
            dropped.push(hot);
        }
        dropped
    }

    /// Reserves for those who wait first, as far as there is room.
    fn grant(self: &Arc<Self>, state: &mut State, now: u64) -> Vec<Grant> {
        let mut granted = Vec::new();
        while let Some(next) = state.queue.next(&state.shares) {
            let reservation = self.take(state, next.ask, now);
            granted.push(Grant { reservation, wake: next.wake });
        }
        granted
    }
}

/// A commit that memory must learn of. Made by [`HotSet::unapplied`].
pub(crate) struct Unapplied<'a> {
    set: &'a HotSet,
    place: Option<Place>,
}

impl Unapplied<'_> {
    pub(crate) fn done(mut self) {
        self.place = None;
    }
}

impl Drop for Unapplied<'_> {
    fn drop(&mut self) {
        if let Some((tenant, collection)) = self.place {
            self.set.forget(tenant, collection);
        }
    }
}

/// Gives partitions' memory back: many small pieces, so not on a thread that serves connections
/// if there is much of it. What is still in use goes with its last user.
fn discard(mut dropped: Vec<Hot>) {
    dropped.retain(|hot| Arc::strong_count(hot) == 1);
    let bytes: usize = dropped.iter().map(|hot| hot.counted.own.load(Ordering::Relaxed)).sum();
    if bytes > INLINE_BYTES
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn_blocking(move || drop(dropped));
    }
}
