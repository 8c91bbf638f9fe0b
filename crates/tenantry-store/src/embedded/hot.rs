//! The hot partitions of all tenants, under one budget of bytes.
//!
//! A tenant's partitions are its own objects: nothing is shared between tenants but the budget,
//! and what another tenant uses changes only whether a partition must be loaded again.

use super::{partition::Partition, tenants::OpenTenant};
use crate::StoreTotals;
use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use tenantry_auth::TenantId;
use tenantry_types::CollectionNumber;

type Place = (TenantId, CollectionNumber);

/// One partition in memory, read by many, changed by its tenant's one writer.
pub(crate) type Hot = Arc<RwLock<Partition>>;

#[derive(Debug)]
pub(crate) struct HotSet {
    budget: usize,
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
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
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
        state.partitions.get(&(tenant.id(), collection)).map(|(hot, _)| Arc::clone(hot))
    }

    /// Keeps a partition that was loaded for `tenant`, and drops others to stay within the budget.
    pub(crate) fn keep(&self, tenant: &OpenTenant, partition: Partition) -> Hot {
        let place = (partition.origin().tenant, partition.origin().collection);
        let bytes = partition.bytes();
        let hot: Hot = Arc::new(RwLock::new(partition));
        let mut state = self.state.lock();
        state.loads += 1;
        if state.generation != tenant.generation() {
            return hot;
        }
        state.remove(&place);
        state.bytes += bytes;
        state.partitions.put(place, (Arc::clone(&hot), bytes));
        state.shrink(self.budget);
        hot
    }

    /// Takes over a partition's new size after it was changed. The partition's lock must not be
    /// waited for in here: the set's lock is everybody's.
    fn resize(&self, place: Place, bytes: usize) {
        let mut state = self.state.lock();
        let Some((_, counted)) = state.partitions.peek_mut(&place) else { return };
        let before = std::mem::replace(counted, bytes);
        state.bytes = state.bytes - before + bytes;
        state.shrink(self.budget);
    }

    /// Changes a hot partition, if it is one. Waits for queries that read it on a thread that may
    /// block.
    pub(crate) async fn change(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        collection: CollectionNumber,
        change: impl FnOnce(&mut Partition) + Send + 'static,
    ) {
        let Some(hot) = self.get(tenant, collection) else { return };
        let place = (tenant.id(), collection);
        if let Some(mut partition) = hot.try_write() {
            change(&mut partition);
            let bytes = partition.bytes();
            drop(partition);
            self.resize(place, bytes);
            return;
        }
        let set = Arc::clone(self);
        let outcome = super::compute(usize::MAX, move || {
            let mut partition = hot.write();
            change(&mut partition);
            let bytes = partition.bytes();
            drop(partition);
            set.resize(place, bytes);
            Ok(())
        })
        .await;
        if let Err(error) = outcome {
            // The disk is the truth: what could not be changed is loaded again.
            tracing::error!(?error, "apply a commit in memory");
            self.forget(place.0, place.1);
        }
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
