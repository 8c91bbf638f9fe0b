//! What a node holds of each tenant's rates, and who waits for more.

use super::{AllLeft, Heard, LeaseAnswer, LeaseAsk, Verdict};
use crate::limiter::{Left, Refused};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Period, Rate, Rates};
use tokio::sync::oneshot;

/// 260,000 tenants in all, some 60 MB. Beyond it what is held of others is lost.
const SHARD_ENTRIES_MAX: usize = 4_096;
/// So much of a rate is taken at once, if it is used.
const WORTH: u64 = nanos(Duration::from_millis(50));
/// Whoever has used up what was taken in this time takes twice as much.
const GROWS_WITHIN: u64 = 2 * WORTH;
/// What was not given out until then is lost. Longer, and tenants that come back would have it
/// beside a burst that has come back meanwhile.
const LIFE: u64 = nanos(Duration::from_secs(1));
/// Least time between two questions whether a rate that was used up still is, unless it says itself
/// that it is sooner.
const REFUSED_FOR: u64 = nanos(Duration::from_secs(1));
/// Least time for which a rate is used up, unless its burst is back sooner: what comes back meanwhile
/// is taken at once. Without it a fast rate that is used up is asked about by each request.
const RESTS: u64 = nanos(Duration::from_millis(10));

const fn nanos(of: Duration) -> u64 {
    // A second has fewer than fit.
    of.as_secs() * 1_000_000_000 + of.subsec_nanos() as u64
}

type AllRates = [Option<Rate>; Period::ALL.len()];

/// A rate that is used up.
#[derive(Debug, Clone, Copy)]
struct Empty {
    period: Period,
    /// When the next request is admitted.
    until: u64,
    /// When that is to be asked anew.
    asked_until: u64,
}

/// Of one tenant.
#[derive(Debug, Default)]
pub(super) struct Held {
    rates: AllRates,
    /// Requests that can be admitted.
    count: u32,
    /// When they are lost.
    ends: u64,
    taken_at: u64,
    /// How many were taken last beyond those that waited.
    size: u32,
    empty: Option<Empty>,
    /// What was left at the source, and when all is there again.
    told: [(u32, u64); Period::ALL.len()],
    waiting: VecDeque<oneshot::Sender<Heard>>,
    is_asked: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Step {
    Decided(Verdict),
    /// It is not known, and nobody is asked.
    Alone,
    Wait {
        answer: oneshot::Receiver<Heard>,
        /// True if nobody else has asked.
        is_first: bool,
    },
}

impl Held {
    fn left(&self, now: u64) -> AllLeft {
        let mut all = AllLeft::default();
        for (n, period) in Period::ALL.into_iter().enumerate() {
            let (remaining, full_at) = self.told[n];
            all[n] = self.rates[n].map(|rate| {
                let remaining = remaining.saturating_add(self.count).min(rate.burst.get());
                Left { period, rate, remaining, full_in: full_at.saturating_sub(now) }
            });
        }
        all
    }

    fn refused(&self, empty: Empty, now: u64) -> Verdict {
        let wait = empty.until.saturating_sub(now).max(1);
        Verdict::Refused(Refused::Rate { period: empty.period, wait }, self.left(now))
    }

    fn is_over(&self, now: u64) -> bool {
        !self.is_asked
            && self.ends <= now
            && self.empty.is_none_or(|empty| empty.until <= now)
            && self.told.iter().all(|(_, full_at)| *full_at <= now)
    }

    fn step(&mut self, now: u64, is_shared: bool) -> Step {
        if self.ends <= now {
            self.count = 0;
        }
        if self.count > 0 {
            self.count -= 1;
            return Step::Decided(Verdict::Admitted(self.left(now)));
        }
        // Also while the source fails: what is used up does not come back by that.
        if let Some(empty) = self.empty.filter(|empty| now < empty.until)
            && (now < empty.asked_until || !is_shared)
        {
            return Step::Decided(self.refused(empty, now));
        }
        if !is_shared {
            return Step::Alone;
        }
        let (sender, answer) = oneshot::channel();
        self.waiting.push_back(sender);
        let is_first = !std::mem::replace(&mut self.is_asked, true);
        Step::Wait { answer, is_first }
    }

    /// How many requests the rates have in [`WORTH`], at least one.
    fn worth(&self) -> u32 {
        let all = Period::ALL.into_iter().zip(self.rates);
        let worth = all.filter_map(|(period, rate)| {
            let worth = u128::from(rate?.amount.get()) * u128::from(WORTH);
            u32::try_from(worth / u128::from(period.nanos())).ok()
        });
        worth.min().unwrap_or(1).max(1)
    }

    /// How long nothing is asked after a rate was used up: so long that nothing of what comes back is
    /// lost for want of room, a quarter of the smallest burst.
    fn rest(&self) -> u64 {
        let all = Period::ALL.into_iter().zip(self.rates);
        let quarters = all.filter_map(|(period, rate)| {
            let rate = rate?;
            let full = u128::from(period.nanos()) * u128::from(rate.burst.get());
            u64::try_from(full / u128::from(rate.amount.get()) / 4).ok()
        });
        quarters.min().unwrap_or(0).min(RESTS)
    }

    /// As many as wait, or more if what was taken last was soon used.
    pub(super) fn next_ask(&mut self, tenant: TenantId, now: u64) -> Option<LeaseAsk> {
        self.waiting.retain(|one| !one.is_closed());
        if self.waiting.is_empty() {
            self.is_asked = false;
            return None;
        }
        let is_soon = now.saturating_sub(self.taken_at) <= GROWS_WITHIN;
        let grown = if is_soon { self.size.saturating_mul(2) } else { 1 };
        self.size = grown.clamp(1, self.worth());
        let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let [second, minute, hour] = self.rates;
        let rates = Rates { second, minute, hour, concurrent: None };
        Some(LeaseAsk { tenant, rates, wanted: self.size.max(waiting) })
    }

    /// Gives what was taken to those who wait, in their order, and keeps the rest.
    pub(super) fn land(&mut self, ask: &LeaseAsk, answer: &LeaseAnswer, now: u64) {
        let ends_at = |wait: u64| now.saturating_add(wait);
        self.empty = answer.wait.map(|(period, wait)| {
            let wait = wait.max(self.rest());
            Empty { period, until: ends_at(wait), asked_until: ends_at(wait.min(REFUSED_FOR)) }
        });
        self.told = answer.left.map(|(remaining, full_in)| (remaining, ends_at(full_in)));
        (self.count, self.taken_at, self.ends) = (answer.granted, now, ends_at(LIFE));
        while self.count > 0
            && let Some(one) = self.waiting.pop_front()
        {
            self.count -= 1;
            let admitted = Heard::Decided(Verdict::Admitted(self.left(now)));
            // Whoever has gone away leaves it to the next one.
            self.count += u32::from(one.send(admitted).is_err());
        }
        // Rates that were changed while it was asked are asked about anew.
        let is_of_now = [ask.rates.second, ask.rates.minute, ask.rates.hour] == self.rates;
        if let Some(empty) = self.empty.filter(|_| is_of_now) {
            let refused = Heard::Decided(self.refused(empty, now));
            for one in self.waiting.drain(..) {
                let _ = one.send(refused);
            }
        }
        if !is_of_now {
            // Nothing of it says anything about the new ones.
            (self.count, self.empty) = (0, None);
        }
    }

    /// There is no answer.
    pub(super) fn give_up(&mut self) {
        self.is_asked = false;
        for one in self.waiting.drain(..) {
            let _ = one.send(Heard::Failed);
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Shard(HashMap<TenantId, Held>);

impl Shard {
    pub(super) fn get(&mut self, tenant: TenantId) -> Option<&mut Held> {
        self.0.get_mut(&tenant)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// One request of a tenant that has these rates.
    pub(super) fn step(
        &mut self,
        tenant: TenantId,
        rates: &Rates,
        now: u64,
        is_shared: bool,
    ) -> Step {
        let rates = [rates.second, rates.minute, rates.hour];
        if !self.0.contains_key(&tenant) {
            if !is_shared {
                return Step::Alone;
            }
            self.make_room(now);
        }
        let held = self.0.entry(tenant).or_default();
        if held.rates != rates {
            let (waiting, is_asked) = (std::mem::take(&mut held.waiting), held.is_asked);
            *held = Held { rates, waiting, is_asked, ..Held::default() };
        }
        held.step(now, is_shared)
    }

    fn make_room(&mut self, now: u64) {
        if self.0.len() < SHARD_ENTRIES_MAX {
            return;
        }
        self.sweep(now);
        if self.0.len() >= SHARD_ENTRIES_MAX {
            self.0.retain(|_, held| held.is_asked);
        }
    }

    pub(super) fn sweep(&mut self, now: u64) {
        self.0.retain(|_, held| !held.is_over(now));
        if self.0.len() * 4 < self.0.capacity() {
            self.0.shrink_to_fit();
        }
    }
}
