//! Who gets the next place: plain arithmetic, without clocks, threads or tasks.
//!
//! Invariant: while a place is free, nobody waits who could have it, but those who have announced a
//! step and are about to give places out.

use super::{
    Class, PoolConfig, PoolTotals,
    bills::Bills,
    meter::Used,
    ring::{Ring, Waiter},
};
use lru::LruCache;
use tenantry_auth::TenantId;

/// While requests wait too, background work gets one part in so many of the time.
const BACKGROUND_PART: i64 = 20;

/// Background work that has had more than its part waits at most until requests have used
/// `BACKGROUND_PART` times this: nanoseconds.
const OVERDRAFT_MAX: i64 = 1_000_000_000;

/// Every turn costs at least this, so that none is free: nanoseconds.
const COST_MIN: u64 = 1_000;

/// So many tenants' sums are kept, the last used.
const SUMS_MAX: usize = 4_096;

/// On whose behalf work is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) tenant: TenantId,
    pub(super) weight: u32,
    pub(super) class: Class,
}

/// Too much waits already.
#[derive(Debug)]
pub(super) struct Full;

#[derive(Debug)]
pub(super) struct Gate<W> {
    places: usize,
    background_max: usize,
    queue_max: usize,
    total_max: usize,
    slice: i64,
    busy: usize,
    background_busy: usize,
    requests: Ring<W>,
    background: Ring<W>,
    /// Nanoseconds that waiting background work has earned by waiting, or has used ahead.
    earned: i64,
    number: u64,
    cpu_ns: u64,
    turns: u64,
    served: u64,
    waits: u64,
    refused: u64,
    sums: LruCache<TenantId, u64>,
    /// For whom what was charged counts, until it is taken.
    pub(super) bills: Bills,
}

impl<W> Gate<W> {
    pub(super) fn new(config: &PoolConfig) -> Self {
        let places = config.places.max(1);
        let slice = i64::try_from(config.slice.as_nanos()).unwrap_or(i64::MAX).max(1_000);
        Self {
            places,
            background_max: (places - 1).max(1),
            queue_max: config.queue_max,
            total_max: config.total_max,
            slice,
            busy: 0,
            background_busy: 0,
            requests: Ring::new(slice),
            background: Ring::new(slice),
            earned: 0,
            number: 0,
            cpu_ns: 0,
            turns: 0,
            served: 0,
            waits: 0,
            refused: 0,
            sums: LruCache::unbounded(),
            bills: Bills::default(),
        }
    }

    pub(super) fn places(&self) -> usize {
        self.places
    }

    /// True if no place is taken and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.busy == 0 && self.waiting() == 0
    }

    /// Takes a place if one is free and nobody waits for it.
    pub(super) fn take(&mut self, class: Class) -> bool {
        let free = self.busy < self.places
            && match class {
                Class::Request => self.requests.waiting() == 0,
                Class::Background => {
                    self.waiting() == 0 && self.background_busy < self.background_max
                }
            };
        if free {
            self.occupy(class);
        }
        free
    }

    /// A request gives a place back that it had for this tenant. An operator who looks how far a move
    /// is does not slow it down once that is answered.
    pub(super) fn has_served(&mut self, class: Class, tenant: TenantId) {
        if class == Class::Request && tenant != TenantId::INSTALLATION {
            self.served += 1;
        }
    }

    /// Queues new work, if there is room for it.
    pub(super) fn admit(&mut self, who: Who, wake: W) -> Result<u64, Full> {
        let own = self.ring(who.class).waiting_of(who.tenant);
        let all = self.waiting();
        // Others may fill the total; a tenant with nothing waiting still finds room.
        let room = all < self.total_max || (own == 0 && all < self.total_max.saturating_mul(2));
        if own >= self.queue_max || !room {
            self.refused += 1;
            return Err(Full);
        }
        Ok(self.queue(who, wake))
    }

    /// Queues work that has been admitted once: it is not refused.
    pub(super) fn queue(&mut self, who: Who, wake: W) -> u64 {
        self.waits += 1;
        self.number += 1;
        let number = self.number;
        self.ring(who.class).push(who.tenant, Waiter { number, weight: who.weight, wake });
        number
    }

    /// Takes work out of its queue; false if it has been given a place already.
    pub(super) fn leave(&mut self, who: Who, number: u64) -> bool {
        let was_there = self.ring(who.class).remove(who.tenant, number);
        self.stop_earning();
        was_there
    }

    /// Charges a tenant with what was used on a place. Nothing is charged for a place that was
    /// never taken up.
    pub(super) fn charge(&mut self, who: Who, used: Used) {
        if used.cost == 0 {
            return;
        }
        self.cpu_ns += used.cpu;
        if let Some(sum) = self.sums.get_mut(&who.tenant) {
            *sum += used.cpu;
        } else {
            self.sums.put(who.tenant, used.cpu);
            if self.sums.len() > SUMS_MAX {
                self.sums.pop_lru();
            }
        }
        let cost = i64::try_from(used.cost.max(COST_MIN)).unwrap_or(i64::MAX);
        self.ring(who.class).charge(who.tenant, who.weight, cost);
        match who.class {
            Class::Request if self.background.waiting() > 0 => {
                let part = (cost / (BACKGROUND_PART - 1)).max(1);
                self.earned = self.earned.saturating_add(part).min(self.slice.saturating_mul(2));
            }
            Class::Background if self.requests.waiting() > 0 => {
                self.earned = self.earned.saturating_sub(cost).max(-OVERDRAFT_MAX);
            }
            Class::Request | Class::Background => {}
        }
    }

    /// Gives a place back.
    pub(super) fn free(&mut self, class: Class) {
        self.busy -= 1;
        if class == Class::Background {
            self.background_busy -= 1;
        }
    }

    /// Gives a free place to whoever is next.
    pub(super) fn next(&mut self) -> Option<(Who, W)> {
        if self.busy >= self.places {
            return None;
        }
        let background =
            self.background.waiting() > 0 && self.background_busy < self.background_max;
        let class = if background && (self.earned >= self.slice || self.requests.waiting() == 0) {
            Class::Background
        } else {
            Class::Request
        };
        let (tenant, waiter) = self.ring(class).pop()?;
        self.stop_earning();
        self.occupy(class);
        Some((Who { tenant, weight: waiter.weight, class }, waiter.wake))
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.requests.waiting() + self.background.waiting()
    }

    /// What has been charged to a tenant, if it is still known.
    pub(super) fn charged(&self, tenant: TenantId) -> Option<u64> {
        self.sums.peek(&tenant).copied()
    }

    /// How often a place was freed that a request had for a tenant.
    pub(super) fn served(&self) -> u64 {
        self.served
    }

    /// True if a request has a place now, or waits for one.
    pub(super) fn has_request(&self) -> bool {
        self.busy > self.background_busy || self.requests.waiting() > 0
    }

    pub(super) fn totals(&self) -> PoolTotals {
        PoolTotals {
            cpu_ns: self.cpu_ns,
            turns: self.turns,
            waits: self.waits,
            refused: self.refused,
            waiting: self.waiting(),
            busy: self.busy,
        }
    }

    /// How many tenants the order remembers.
    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.requests.tenants() + self.background.tenants()
    }

    fn occupy(&mut self, class: Class) {
        self.turns += 1;
        self.busy += 1;
        if class == Class::Background {
            self.background_busy += 1;
        }
    }

    /// Only who waits earns.
    fn stop_earning(&mut self) {
        if self.background.waiting() == 0 {
            self.earned = self.earned.min(0);
        }
    }

    fn ring(&mut self, class: Class) -> &mut Ring<W> {
        match class {
            Class::Request => &mut self.requests,
            Class::Background => &mut self.background,
        }
    }
}
