//! What a tenant's counters say of its usage, and what of that is new to the root. Arithmetic only.

use std::collections::BTreeMap;
use tenantry_types::{Amounts, Hour, Meter, Timestamp};

/// The part of a tenant's counters that is about usage: changed by each commit that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The hour of the last commit that counted. Never goes back.
    pub(crate) hour: Hour,
    /// Up to when the stocks are in the totals. Never goes back.
    pub(crate) since: Timestamp,
    /// Records that are kept; unknown if the tenant had some before it was counted.
    pub(crate) records: Option<u64>,
    /// Bytes that are kept, in the same way.
    pub(crate) bytes: Option<u64>,
    /// Everything since the beginning.
    pub(crate) totals: Amounts,
    /// The same at the end of the hour before `hour`.
    pub(crate) closed: Amounts,
}

/// What one commit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    /// Records that are made or changed.
    pub(crate) written: u64,
    /// Bytes of them.
    pub(crate) bytes_in: u64,
    /// Records that are new.
    pub(crate) made: u64,
    /// Records that are removed.
    pub(crate) gone: u64,
    /// Bytes of records as they are now that are new or changed.
    pub(crate) kept: u64,
    /// Bytes of records as they were that are changed or removed.
    pub(crate) freed: u64,
    /// Of some records nobody knows what they take.
    pub(crate) is_silent: bool,
    /// Of what is removed nobody knows how much it was.
    pub(crate) is_lost: bool,
}

impl Counted {
    /// Of a tenant that was never counted; without records, or nobody knows how many.
    pub(crate) fn begin(now: Timestamp, is_empty: bool) -> Self {
        let (totals, closed) = Default::default();
        let (records, bytes) = (is_empty.then_some(0), is_empty.then_some(0));
        Self { hour: Hour::of(now), since: now, records, bytes, totals, closed }
    }

    /// Up to this moment, if it is later.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        let hour = Hour::of(now);
        if hour > self.hour {
            self.pass(hour.start());
            self.closed = self.totals;
            self.hour = hour;
        }
        self.pass(now);
    }

    fn pass(&mut self, to: Timestamp) {
        let Some(millis) = to.0.checked_sub(self.since.0) else { return };
        self.since = to;
        for (meter, stock) in [(Meter::RecordMillis, self.records), (Meter::ByteMillis, self.bytes)]
        {
            self.totals.add(meter, u128::from(stock.unwrap_or(0)) * u128::from(millis));
        }
    }

    /// One commit.
    pub(crate) fn add(&mut self, work: &Work) {
        let Work { written, bytes_in, made, gone, kept, freed, is_silent, is_lost } = *work;
        self.totals.add(Meter::Requests, 1);
        self.totals.add(Meter::RecordsWritten, written.into());
        self.totals.add(Meter::BytesIn, bytes_in.into());
        let change = |stock: Option<u64>, more: u64, less| {
            stock.map(|all| all.saturating_add(more).saturating_sub(less))
        };
        self.records = change(self.records, made, gone).filter(|_| !is_lost);
        self.bytes = change(self.bytes, kept, freed).filter(|_| !is_lost && !is_silent);
    }
}

/// What of a tenant's counters is in the root's sums.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    /// The last commit of the counters.
    pub(crate) commit: u64,
    /// When they were looked at.
    pub(crate) hour: Hour,
    /// Up to when the stocks are in the sums.
    pub(crate) since: Timestamp,
    /// What is in the sums.
    pub(crate) totals: Amounts,
    /// How often the counters said less than before.
    pub(crate) falls: u32,
}

/// What is new, by hour.
pub(crate) type News = BTreeMap<Hour, Amounts>;

/// Meters that are a stock times time: they grow without a commit.
fn is_stock(meter: Meter) -> bool {
    matches!(meter, Meter::RecordMillis | Meter::ByteMillis)
}

/// What one has more than the other; nothing of what it has less.
fn more(now: &Amounts, before: &Amounts, wanted: impl Fn(Meter) -> bool) -> Amounts {
    let mut all = Amounts::default();
    for (meter, amount) in now.iter().filter(|(meter, _)| wanted(*meter)) {
        all.add(meter, amount.saturating_sub(before.get(meter)));
    }
    all
}

fn most(one: &Amounts, other: &Amounts) -> Amounts {
    let mut all = *one;
    all.add_all(&more(other, one, |_| true));
    all
}

fn note(news: &mut News, hour: Hour, amounts: &Amounts) {
    if !amounts.is_empty() {
        news.entry(hour).or_default().add_all(amounts);
    }
}

/// A longer time is not divided: counters may come from a clock, or a database, that was wrong.
const SPREAD_MILLIS_MAX: u64 = 400 * 24 * 3_600_000;

/// Notes amounts evenly over a time; what cannot be divided in its first hour.
fn spread(news: &mut News, (from, to): (Timestamp, Timestamp), amounts: &Amounts) {
    let Some(all) = to.0.checked_sub(from.0).filter(|all| *all > 0) else {
        return note(news, Hour::of(from), amounts);
    };
    if amounts.is_empty() || all > SPREAD_MILLIS_MAX {
        return note(news, Hour::of(from), amounts);
    }
    let mut rest = *amounts;
    for (hour, millis) in Hour::between(from, to) {
        let mut part = Amounts::default();
        for (meter, amount) in amounts.iter() {
            // Without a product that could be too large.
            let (all, millis) = (u128::from(all), u128::from(millis));
            part.add(meter, amount / all * millis + amount % all * millis / all);
        }
        rest = more(&rest, &part, |_| true);
        note(news, hour, &part);
    }
    note(news, Hour::of(from), &rest);
}

impl Seen {
    /// What the counters, as they were after their last commit, have that is not in the sums at
    /// `now`, and what is seen then.
    pub(crate) fn look(&self, commit: u64, counted: &Counted, now: Timestamp) -> (Self, News) {
        let mut news = News::new();
        let mut present = counted.clone();
        present.advance(now.max(self.since));
        let seen = Self {
            commit,
            hour: present.hour.max(self.hour),
            since: present.since.max(self.since),
            totals: present.totals,
            falls: self.falls,
        };
        if self.is_fall(commit, counted) {
            return (Self { falls: self.falls.saturating_add(1), ..seen }, news);
        }
        let is_first = self.commit == 0;
        let (hour, since) = if is_first {
            // All that was before the closed hour is in the one before it.
            let before = Hour(counted.hour.0.saturating_sub(1));
            (before, before.start())
        } else {
            (self.hour, self.since)
        };
        let (mut before, mut since) = (self.totals, since);
        if counted.hour > hour {
            let flows = more(&counted.closed, &before, |meter| !is_stock(meter));
            note(&mut news, hour, &flows);
            let stocks = more(&counted.closed, &before, is_stock);
            spread(&mut news, (since, counted.hour.start()), &stocks);
            (before, since) = (most(&before, &counted.closed), since.max(counted.hour.start()));
        }
        note(&mut news, counted.hour, &more(&counted.totals, &before, |meter| !is_stock(meter)));
        let stocks = more(&present.totals, &before, is_stock);
        spread(&mut news, (since.min(present.since), present.since), &stocks);
        (Self { totals: most(&self.totals, &present.totals), ..seen }, news)
    }

    /// True if these counters are older than those that were seen. Stocks do not say so: nodes'
    /// clocks differ by a little.
    fn is_fall(&self, commit: u64, counted: &Counted) -> bool {
        let has_less =
            |(meter, amount): (Meter, u128)| !is_stock(meter) && counted.totals.get(meter) < amount;
        commit < self.commit || self.totals.iter().any(has_less)
    }
}

#[cfg(test)]
#[path = "counted_tests.rs"]
mod tests;
