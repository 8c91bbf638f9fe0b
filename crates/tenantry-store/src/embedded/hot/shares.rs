//! Who gives way when memory is short: plain arithmetic, without clocks, locks or threads.
//!
//! The budget is divided over the tenants that hold memory, by their weights: that is each one's
//! *share*. When there is too little room, partitions give way in this order:
//!
//! 1. what was not used for [`IDLE_AFTER`], oldest first: a share is for those who use it;
//! 2. the least recently used partition of the tenants above their shares;
//! 3. the least recently used partition of all. This happens only if what is above its share
//!    cannot give way: a partition that is being loaded, or one that was dropped and is still
//!    being read.
//!
//! So a tenant that goes through many collections drops its own, and one collection that is larger
//! than its tenant's share may stay for as long as the others leave room.
//!
//! All is logarithmic in the number of partitions: only the oldest partition of each tenant can be
//! the next one, so only that one carries its tenant's load, bytes by weight, as key in the order
//! of uses.

use super::recency::Recency;
use std::collections::{BTreeMap, HashMap};
use tenantry_auth::TenantId;
use tenantry_types::CollectionNumber;

pub(super) type Place = (TenantId, CollectionNumber);

/// Seconds without use after which a partition is not protected by its tenant's share.
pub(super) const IDLE_AFTER: u64 = 600;

/// Loads are compared as bytes a weight in fixed point with so many bits.
const FRACTION_BITS: u32 = 16;
const BYTES_MAX: u64 = u64::MAX >> FRACTION_BITS;

/// The partitions of all tenants with their sizes, and what is reserved for others.
#[derive(Debug)]
pub(super) struct Shares<V> {
    budget: usize,
    /// Of all partitions.
    held: usize,
    /// For what is being loaded.
    reserved: usize,
    /// Of all tenants that hold or reserve something.
    weights: u64,
    tenants: HashMap<TenantId, Account>,
    partitions: HashMap<Place, Entry<V>>,
    order: Recency<TenantId>,
}

#[derive(Debug, Default)]
struct Account {
    weight: u32,
    /// Held and reserved.
    bytes: usize,
    /// Reservations that are open.
    reservations: usize,
    /// Its partitions by the number of their last use.
    uses: BTreeMap<u64, CollectionNumber>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    used: u64,
    used_at: u64,
}

impl Account {
    /// At least 1: all that may give way is found above 0.
    fn load(&self) -> u64 {
        (fixed(self.bytes) / u64::from(self.weight.max(1))).max(1)
    }
}

fn fixed(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(BYTES_MAX).min(BYTES_MAX) << FRACTION_BITS
}

impl<V> Shares<V> {
    pub(super) fn new(budget: usize) -> Self {
        Self {
            budget,
            held: 0,
            reserved: 0,
            weights: 0,
            tenants: HashMap::new(),
            partitions: HashMap::new(),
            order: Recency::new(),
        }
    }

    pub(super) fn budget(&self) -> usize {
        self.budget
    }

    /// Bytes of all partitions.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Bytes that are reserved.
    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Partitions held.
    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Tenants that hold or reserve something.
    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.tenants.len()
    }

    /// A partition, now the most recently used. `now` is in seconds since any moment.
    pub(super) fn get(&mut self, place: &Place, weight: u32, now: u64) -> Option<&V> {
        let entry = self.partitions.get_mut(place)?;
        entry.used_at = now;
        let before = entry.used;
        if !self.order.is_last(before) {
            let used = self.order.push(place.0);
            entry.used = used;
            self.order.vacate(before);
            let account = self.tenants.entry(place.0).or_default();
            account.uses.remove(&before);
            account.uses.insert(used, place.1);
        }
        self.weigh(place.0, weight);
        self.settle(place.0);
        self.partitions.get(place).map(|entry| &entry.value)
    }

    /// A partition, without a use of it.
    pub(super) fn peek(&self, place: &Place) -> Option<&V> {
        self.partitions.get(place).map(|entry| &entry.value)
    }

    /// All partitions, in no order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.partitions.values().map(|entry| &entry.value)
    }

    /// Keeps a partition as the most recently used one; returns what was at its place.
    pub(super) fn insert(
        &mut self,
        place: Place,
        weight: u32,
        bytes: usize,
        value: V,
        now: u64,
    ) -> Option<V> {
        let before = self.remove(&place);
        let used = self.order.push(place.0);
        self.weigh(place.0, weight);
        let account = self.tenants.entry(place.0).or_default();
        account.bytes += bytes;
        account.uses.insert(used, place.1);
        self.held += bytes;
        self.partitions.insert(place, Entry { value, bytes, used, used_at: now });
        self.settle(place.0);
        before
    }

    /// Takes over a partition's new size.
    pub(super) fn resize(&mut self, place: &Place, bytes: usize) {
        let Some(entry) = self.partitions.get_mut(place) else { return };
        let before = std::mem::replace(&mut entry.bytes, bytes);
        self.held = self.held - before + bytes;
        if let Some(account) = self.tenants.get_mut(&place.0) {
            account.bytes = account.bytes - before + bytes;
        }
        self.settle(place.0);
    }

    /// Takes a partition out.
    pub(super) fn remove(&mut self, place: &Place) -> Option<V> {
        let entry = self.partitions.remove(place)?;
        self.held -= entry.bytes;
        self.order.vacate(entry.used);
        if let Some(account) = self.tenants.get_mut(&place.0) {
            account.bytes -= entry.bytes;
            account.uses.remove(&entry.used);
        }
        self.settle(place.0);
        Some(entry.value)
    }

    /// Takes all partitions of a tenant out.
    pub(super) fn remove_tenant(&mut self, tenant: TenantId) -> Vec<V> {
        let Some(account) = self.tenants.get(&tenant) else { return Vec::new() };
        let collections: Vec<_> = account.uses.values().copied().collect();
        collections
            .into_iter()
            .filter_map(|collection| self.remove(&(tenant, collection)))
            .collect()
    }

    /// Takes all partitions out; reservations stay.
    pub(super) fn clear(&mut self) -> Vec<V> {
        self.order.clear();
        self.held = 0;
        let partitions = std::mem::take(&mut self.partitions);
        for (place, entry) in &partitions {
            if let Some(account) = self.tenants.get_mut(&place.0) {
                account.bytes -= entry.bytes;
                account.uses.clear();
            }
        }
        self.tenants.retain(|_, account| account.reservations > 0);
        self.weights = self.tenants.values().map(|account| u64::from(account.weight)).sum();
        partitions.into_values().map(|entry| entry.value).collect()
    }

    /// Counts bytes that a tenant is going to hold. Nothing gives way yet.
    pub(super) fn reserve(&mut self, tenant: TenantId, weight: u32, bytes: usize) {
        self.weigh(tenant, weight);
        self.reserved += bytes;
        let account = self.tenants.entry(tenant).or_default();
        account.bytes += bytes;
        account.reservations += 1;
        self.settle(tenant);
    }

    /// Changes the size of an open reservation.
    pub(super) fn resize_reservation(&mut self, tenant: TenantId, before: usize, bytes: usize) {
        self.reserved = self.reserved - before + bytes;
        if let Some(account) = self.tenants.get_mut(&tenant) {
            account.bytes = account.bytes - before + bytes;
        }
        self.settle(tenant);
    }

    /// Ends a reservation, of all its bytes.
    pub(super) fn release(&mut self, tenant: TenantId, bytes: usize) {
        self.reserved -= bytes;
        if let Some(account) = self.tenants.get_mut(&tenant) {
            account.bytes -= bytes;
            account.reservations -= 1;
        }
        self.settle(tenant);
    }

    /// The partition that is to give way, if the budget is exceeded by what is held, reserved and
    /// in use `besides`.
    pub(super) fn evict(&mut self, besides: usize, now: u64) -> Option<V> {
        let taken = self.held.saturating_add(self.reserved).saturating_add(besides);
        if taken <= self.budget {
            return None;
        }
        let place = self.next(now)?;
        self.remove(&place)
    }

    fn next(&self, now: u64) -> Option<Place> {
        let oldest = self.oldest_of(self.order.oldest_above(0)?)?;
        let used_at = self.partitions.get(&oldest)?.used_at;
        if now.saturating_sub(used_at) >= IDLE_AFTER {
            return Some(oldest);
        }
        let fair = fixed(self.budget) / self.weights.max(1);
        match self.order.oldest_above(fair) {
            Some(tenant) => self.oldest_of(tenant),
            None => Some(oldest),
        }
    }

    fn oldest_of(&self, tenant: TenantId) -> Option<Place> {
        let (_, collection) = self.tenants.get(&tenant)?.uses.first_key_value()?;
        Some((tenant, *collection))
    }

    /// Takes over a tenant's weight.
    fn weigh(&mut self, tenant: TenantId, weight: u32) {
        let weight = weight.max(1);
        let account = self.tenants.entry(tenant).or_default();
        self.weights = self.weights - u64::from(account.weight) + u64::from(weight);
        account.weight = weight;
    }

    /// Sets the key of a tenant's oldest partition after a change, or forgets a tenant that has
    /// nothing.
    fn settle(&mut self, tenant: TenantId) {
        let Some(account) = self.tenants.get(&tenant) else { return };
        if let Some((oldest, _)) = account.uses.first_key_value() {
            self.order.set_key(*oldest, account.load());
        } else if account.reservations == 0 {
            self.weights -= u64::from(account.weight);
            self.tenants.remove(&tenant);
        }
    }
}
