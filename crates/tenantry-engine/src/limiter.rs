//! How often each tenant asks, and how many of its requests are under way: in memory, for one
//! process, asked once for a request and before any of its work is done.
//!
//! It knows no clock: whoever asks says how many nanoseconds of a monotonic one have passed. A
//! tenant whose time has passed has no entry, so an idle tenant is nothing here. What is lost with
//! the process is lost: a rate is no right and no bill.

mod gcra;
#[cfg(test)]
mod tests;
pub(crate) mod told;

use gcra::{Asked, Mark};
use parking_lot::Mutex;
use std::{collections::HashMap, num::NonZeroU32, ops::Range, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_types::{Period, Rate, Rates};

/// Ids are given one after the other, so their remainders are spread evenly.
const SHARDS: usize = 64;
/// What a table of 16,384 places takes: 900,000 entries in all, about 135 MB. Beyond it those that
/// end next are forgotten.
const SHARD_ENTRIES_MAX: usize = 14_336;
/// One in so many of them at once, so that looking for them costs each request little.
const FORGOTTEN_PART: usize = 8;

/// What a tenant has used. Not more than its rates say what it may.
#[derive(Debug, Default)]
struct Entry {
    marks: [Mark; Period::ALL.len()],
    under_way: u32,
}

impl Entry {
    fn is_over(&self, now: u64) -> bool {
        self.under_way == 0 && self.marks.iter().all(|mark| mark.is_over(now))
    }

    fn over_in(&self, now: u64) -> u64 {
        self.marks.iter().map(|mark| mark.over_in(now)).max().unwrap_or(0)
    }
}

/// In the order of [`Period::ALL`].
type AllAsked = [Option<Asked>; Period::ALL.len()];

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<TenantId, Entry>,
    /// The latest time that anybody said. Threads come here in another order than they looked at
    /// the clock, and an entry that has gone must not be missed by one who is late.
    now: u64,
}

impl Shard {
    fn at(&mut self, now: u64) -> u64 {
        self.now = self.now.max(now);
        self.now
    }

    /// What each rate says, and how many requests are under way. Uses nothing; but what is kept
    /// follows the rates of now, so that a wait that was told does not rest on those of before.
    fn ask(&mut self, tenant: TenantId, rates: &Rates, now: u64) -> (AllAsked, u32) {
        let mut known = self.entries.get_mut(&tenant);
        let mut asked = AllAsked::default();
        for (n, (asked, period)) in asked.iter_mut().zip(Period::ALL).enumerate() {
            let mark = known.as_mut().map(|entry| &mut entry.marks[n]);
            let before = mark.as_deref().copied().unwrap_or_default();
            let said = rates.rate(period).map(|rate| before.ask(rate, period, now));
            if let Some(mark) = mark {
                *mark = said.map_or_else(Mark::default, |said| said.mark(now));
            }
            *asked = said;
        }
        (asked, known.map_or(0, |entry| entry.under_way))
    }

    fn sweep(&mut self) {
        let now = self.now;
        self.entries.retain(|_, entry| !entry.is_over(now));
        // A flood of tenants is not paid for ever after.
        if self.entries.len() * 4 < self.entries.capacity() {
            self.entries.shrink_to_fit();
        }
    }

    /// Makes room for one more. What is under way is never forgotten: it is given back.
    fn make_room(&mut self, most: usize, at_once: usize) {
        if self.entries.len() < most {
            return;
        }
        self.sweep();
        if self.entries.len() < most {
            return;
        }
        let now = self.now;
        let mut ends: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.under_way == 0)
            .map(|(tenant, entry)| (entry.over_in(now), *tenant))
            .collect();
        ends.sort_unstable();
        for (_, tenant) in ends.into_iter().take(at_once) {
            self.entries.remove(&tenant);
        }
    }
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// A rate is used up.
    Rate {
        /// The rate that makes the caller wait longest.
        period: Period,
        /// The nanoseconds after which one request is admitted, if no other comes before it.
        wait: u64,
    },
    /// As many requests as may be are under way.
    Concurrent(NonZeroU32),
}

/// How much of a rate is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Which rate.
    pub period: Period,
    /// What it allows.
    pub rate: Rate,
    /// Requests that are admitted now.
    pub remaining: u32,
    /// Nanoseconds until all of the burst is there.
    pub full_in: u64,
}

impl Left {
    fn of(asked: Asked) -> Self {
        let Asked { rate, period, .. } = asked;
        Self { period, rate, remaining: asked.remaining(), full_in: asked.full_in() }
    }
}

/// A request that was admitted. One of those that may be under way at the same time until it is
/// dropped, however it ends.
#[derive(Debug)]
#[must_use = "dropping it says that the request is over"]
pub struct Admitted {
    left: [Option<Left>; Period::ALL.len()],
    counted: Option<(Limiter, TenantId)>,
}

impl Admitted {
    /// What is left of each rate that the tenant has, the shortest first, this request counted.
    pub fn left(&self) -> impl Iterator<Item = Left> + '_ {
        self.left.iter().flatten().copied()
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some((limiter, tenant)) = self.counted.take() {
            limiter.give_back(tenant);
        }
    }
}

/// Who asks how often. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Limiter {
    shards: Arc<Vec<Mutex<Shard>>>,
    /// Entries of a shard.
    most: usize,
}

impl Default for Limiter {
    fn default() -> Self {
        Self::of(SHARDS * SHARD_ENTRIES_MAX)
    }
}

impl Limiter {
    /// One that knows at most so many at once.
    pub(crate) fn of(entries: usize) -> Self {
        let shards = Arc::new((0..SHARDS).map(|_| Mutex::default()).collect());
        Self { shards, most: (entries / SHARDS).max(1) }
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<Shard> {
        let number = usize::try_from(tenant.get() % SHARDS as u64).unwrap_or(0);
        &self.shards[number]
    }

    /// Admits one request of a tenant that has these rates, or says why not. All is asked before
    /// anything is changed: who is refused by one rate has used nothing of another.
    ///
    /// `now` is in nanoseconds of a monotonic clock, the same for all calls.
    pub fn admit(
        &self,
        tenant: TenantId,
        rates: &Rates,
        now: u64,
    ) -> std::result::Result<Admitted, Refused> {
        let mut left = [None; Period::ALL.len()];
        if *rates == Rates::default() {
            return Ok(Admitted { left, counted: None });
        }
        let shard = &mut *self.shard(tenant).lock();
        let now = shard.at(now);
        let (asked, under_way) = shard.ask(tenant, rates, now);
        let slowest = asked.iter().flatten().map(|asked| (asked.wait(), asked.period)).max();
        if let Some((wait, period)) = slowest
            && wait > 0
        {
            return Err(Refused::Rate { period, wait });
        }
        if let Some(most) = rates.concurrent
            && under_way >= most.get()
        {
            return Err(Refused::Concurrent(most));
        }
        if !shard.entries.contains_key(&tenant) {
            shard.make_room(self.most, self.most.div_ceil(FORGOTTEN_PART));
        }
        let entry = shard.entries.entry(tenant).or_default();
        for ((asked, mark), left) in asked.iter().zip(&mut entry.marks).zip(&mut left) {
            if let Some(taken) = asked.map(Asked::taken) {
                *mark = taken.mark(now);
                *left = Some(Left::of(taken));
            }
        }
        let counted = rates.concurrent.map(|_| (self.clone(), tenant));
        entry.under_way += u32::from(counted.is_some());
        Ok(Admitted { left, counted })
    }

    /// What is left of each rate of a tenant, which uses nothing of it.
    pub fn left(&self, tenant: TenantId, rates: &Rates, now: u64) -> Vec<Left> {
        let shard = &mut *self.shard(tenant).lock();
        let now = shard.at(now);
        let (asked, _) = shard.ask(tenant, rates, now);
        asked.into_iter().flatten().map(Left::of).collect()
    }

    /// Forgets whoever has been silent for long enough to have all of their rates again. One shard
    /// is locked at a time.
    pub fn sweep(&self, now: u64) {
        Self::parts().for_each(|part| self.sweep_part(part, now));
    }

    /// What [`Limiter::sweep`] is made of, for whoever does other work between the parts.
    pub(crate) fn parts() -> Range<usize> {
        0..SHARDS
    }

    /// One part of [`Limiter::sweep`]: less than a millisecond.
    pub(crate) fn sweep_part(&self, part: usize, now: u64) {
        if let Some(shard) = self.shards.get(part) {
            let shard = &mut *shard.lock();
            shard.at(now);
            shard.sweep();
        }
    }

    /// Tenants that something is known of.
    pub fn tenants(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }

    fn give_back(&self, tenant: TenantId) {
        let shard = &mut *self.shard(tenant).lock();
        let now = shard.now;
        let Some(entry) = shard.entries.get_mut(&tenant) else { return };
        entry.under_way = entry.under_way.saturating_sub(1);
        if entry.is_over(now) {
            shard.entries.remove(&tenant);
        }
    }
}
