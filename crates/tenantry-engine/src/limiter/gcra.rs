//! One rate of one tenant: the generic cell rate algorithm of ITU-T I.371, as virtual scheduling.
//!
//! Its state is the time at which the next request would come if all came evenly. A time in
//! nanoseconds cannot say a third of a second, so it is kept multiplied by the rate's amount:
//! nothing is rounded, and N a second are N after each whole second, for every N.

use tenantry_types::{Period, Rate};

/// The theoretical time of arrival, in nanoseconds times `amount`. One request is a whole period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mark {
    at: u128,
    amount: u32,
}

/// What a rate says to a request, before anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) rate: Rate,
    pub(super) period: Period,
    /// How far arrival is ahead of now: requests that are not yet made up for, times the period.
    owed: u128,
}

impl Mark {
    /// What is not made up for at `now`.
    fn owed(self, now: u64) -> u128 {
        self.at.saturating_sub(u128::from(now) * u128::from(self.amount))
    }

    /// Whether it says no more than its absence does.
    pub(super) fn is_over(self, now: u64) -> bool {
        self.owed(now) == 0
    }

    /// In how many nanoseconds [`Mark::is_over`].
    pub(super) fn over_in(self, now: u64) -> u64 {
        ceil(self.owed(now), self.amount.max(1))
    }

    /// If the rate is another one than before, the requests that were made count under it, but
    /// nobody owes more than the new burst.
    pub(super) fn ask(self, rate: Rate, period: Period, now: u64) -> Asked {
        let most = u128::from(rate.burst.get()) * u128::from(period.nanos());
        Asked { rate, period, owed: self.owed(now).min(most) }
    }
}

impl Asked {
    /// Nanoseconds until one request is admitted; 0 if one is now.
    pub(super) fn wait(self) -> u64 {
        let most = u128::from(self.rate.burst.get() - 1) * u128::from(self.period.nanos());
        ceil(self.owed.saturating_sub(most), self.rate.amount.get())
    }

    /// How many are admitted now, one after the other.
    pub(super) fn remaining(self) -> u32 {
        let used = self.owed.div_ceil(u128::from(self.period.nanos()));
        self.rate.burst.get().saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Nanoseconds until all of the burst is there again.
    pub(super) fn full_in(self) -> u64 {
        ceil(self.owed, self.rate.amount.get())
    }

    /// With one request more.
    pub(super) fn taken(self) -> Self {
        Self { owed: self.owed + u128::from(self.period.nanos()), ..self }
    }

    /// What is kept of it.
    pub(super) fn mark(self, now: u64) -> Mark {
        let amount = self.rate.amount.get();
        Mark { at: u128::from(now) * u128::from(amount) + self.owed, amount }
    }
}

fn ceil(scaled: u128, amount: u32) -> u64 {
    u64::try_from(scaled.div_ceil(u128::from(amount))).unwrap_or(u64::MAX)
}
