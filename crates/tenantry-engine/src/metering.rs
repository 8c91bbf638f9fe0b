//! What is counted beside commits: reads, writes that change nothing, and CPU time.
//!
//! CPU time is what the store's pool has charged in turns and measured beside them, whatever it was
//! used for and however that ended; it is taken over each second, so into the hour of that second.
//!
//! Counting is one short lock of a part of the tenants. Once a second everything goes to the root in
//! one commit; what a commit of a write counts is in that commit, and only added up from here.

use crate::{engine::Inner, spending};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_store::{Journaled, UsageNote};
use tenantry_types::{Amounts, Hour, Meter, Result, Timestamp};
use tokio::time::Instant;

const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// A tenant may ask for its usage as often as it likes; the root is not written more often for it.
const FOR_READERS_EVERY: Duration = Duration::from_millis(50);
/// Seconds from one adding up to the next.
const ADD_UP_EVERY: u32 = 60;
const SHARDS: usize = 16;
/// Tenants, each in an hour, that a shard tells apart; all others of a second are one.
const ENTRIES_MAX: usize = 256;
/// Tenants of a shard of which one journal row says that they had commits; those beyond are told
/// when they write again.
const WRITERS_MAX: usize = 256;

#[derive(Debug, Default)]
struct Shard {
    sums: HashMap<(TenantId, Hour), Amounts>,
    /// Tenants that had commits.
    writers: HashSet<TenantId>,
}

/// What goes to the root next.
#[derive(Debug, Default)]
struct Journal {
    /// None before the first second with something in it.
    node: Option<[u8; 16]>,
    /// The last number whose fate is known.
    number: u64,
    /// What is on its way under the next one, until it is known that it arrived.
    pending: Vec<UsageNote>,
    /// When the last writing began.
    began: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Metering {
    shards: [Mutex<Shard>; SHARDS],
    journal: tokio::sync::Mutex<Journal>,
}

impl Metering {
    fn shard(&self, tenant: TenantId) -> Option<&Mutex<Shard>> {
        let at = usize::try_from(tenant.get() % SHARDS as u64).unwrap_or(0);
        self.shards.get(at)
    }

    /// Counts what was done for a tenant.
    pub(crate) fn note(&self, tenant: TenantId, now: Timestamp, amounts: &Amounts) {
        if tenant != TenantId::INSTALLATION {
            self.add(tenant, now, amounts);
        }
    }

    /// [`Metering::note`], also of tenants that are not told apart.
    fn add(&self, tenant: TenantId, now: Timestamp, amounts: &Amounts) {
        let (Some(shard), hour) = (self.shard(tenant), Hour::of(now)) else { return };
        let sums = &mut shard.lock().sums;
        let key = if sums.len() < ENTRIES_MAX || sums.contains_key(&(tenant, hour)) {
            (tenant, hour)
        } else {
            (TenantId::INSTALLATION, hour)
        };
        sums.entry(key).or_default().add_all(amounts);
    }

    /// Counts what tenants have computed since the last call, to the nearest microsecond.
    fn computed(&self, used: Vec<(TenantId, Duration)>, now: Timestamp) {
        for (tenant, used) in used {
            let micros = (used.as_nanos() + 500) / 1_000;
            // Without amounts it would say that there was a commit.
            if micros > 0 {
                self.add(tenant, now, &Amounts::of(Meter::CpuMicros, micros));
            }
        }
    }

    /// Says that a tenant has had a commit that counted.
    pub(crate) fn wrote(&self, tenant: TenantId) {
        let Some(shard) = self.shard(tenant) else { return };
        let writers = &mut shard.lock().writers;
        if writers.len() < WRITERS_MAX {
            writers.insert(tenant);
        }
    }

    /// All of it; a note without amounts says that its tenant had commits that counted.
    fn take(&self) -> Vec<UsageNote> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let Shard { sums, writers } = std::mem::take(&mut *shard.lock());
            let note = |((tenant, hour), amounts)| UsageNote { tenant, hour, amounts };
            all.extend(sums.into_iter().map(note));
            let nothing = |tenant| note(((tenant, Hour::default()), Amounts::default()));
            all.extend(writers.into_iter().map(nothing));
        }
        all
    }
}

/// Writes what was counted before the call; it is durable when this returns.
pub(crate) async fn flush(inner: &Inner) -> Result<()> {
    flush_held(inner, &mut *inner.metering.journal.lock().await).await
}

async fn flush_held(inner: &Inner, journal: &mut Journal) -> Result<()> {
    let metering = &inner.metering;
    journal.began = Some(Instant::now());
    metering.computed(inner.store.pool().take_used(), inner.clock.now());
    // What could not be written has the next number, or nobody would know whether it is there.
    let mut is_last = journal.pending.is_empty();
    let scope = inner.authority.system("write down what was counted");
    loop {
        if journal.pending.is_empty() {
            journal.pending = metering.take();
        }
        if journal.pending.is_empty() {
            return Ok(());
        }
        let node = *journal.node.get_or_insert_with(|| inner.store.draw_node(&scope));
        let number = journal.number + 1;
        // Kept until the answer is here: this future may be dropped.
        let notes = journal.pending.clone();
        match inner.store.write_journal(&scope, (node, number), notes).await? {
            Journaled::Written => journal.number = number,
            Journaled::Forgotten => {
                tracing::warn!(
                    "it is not known whether a second of usage was counted: it is left out"
                );
                (journal.node, journal.number) = (None, 0);
            }
        }
        journal.pending.clear();
        if is_last {
            return Ok(());
        }
        is_last = true;
    }
}

/// [`flush`] for whoever is about to read usage, which can be read if nothing can be written. Those
/// who come together share one commit, and however many come, there are not many of them.
/// True if all is written.
pub(crate) async fn flush_before_reading(inner: &Inner) -> bool {
    let asked = Instant::now();
    let mut journal = inner.metering.journal.lock().await;
    if journal.began.is_some_and(|began| began >= asked) && journal.pending.is_empty() {
        return true;
    }
    if let Some(began) = journal.began {
        tokio::time::sleep_until(began + FOR_READERS_EVERY).await;
    }
    let flushed = flush_held(inner, &mut journal).await;
    let is_written = flushed.is_ok();
    say(flushed);
    is_written
}

fn say(flushed: Result<()>) {
    if let Err(error) = flushed {
        tracing::error!(?error, "write down usage; tried again");
    }
}

/// Adds up what nodes and commits have counted.
pub(crate) async fn add_up(inner: &Inner) {
    let scope = inner.authority.system("add up usage");
    if let Err(error) = inner.store.fold_usage(&scope).await {
        tracing::error!(?error, "add up usage; tried again");
    }
}

/// Writes down and adds up for as long as the engine lives.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            say(flush(&inner).await);
        }
    });
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        // Soon for the first time: a node that died may have left something.
        let mut rest = FLUSH_EVERY;
        loop {
            tokio::time::sleep(rest).await;
            let Some(inner) = weak.upgrade() else { return };
            add_up(&inner).await;
            rest = FLUSH_EVERY * ADD_UP_EVERY;
        }
    });
    spending::spawn(inner);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(7_200_000);

    fn total(notes: &[UsageNote]) -> u128 {
        notes.iter().map(|note| note.amounts.get(Meter::Requests)).sum()
    }

    #[test]
    fn many_tenants_are_one_beyond_the_bound_and_nothing_is_lost() {
        let metering = Metering::default();
        for n in 1..=100_000 {
            metering.note(TenantId::new(n), NOW, &Amounts::of(Meter::Requests, 1));
        }
        let notes = metering.take();
        assert!(notes.len() <= SHARDS * (ENTRIES_MAX + 1), "{}", notes.len());
        assert_eq!(total(&notes), 100_000);
        assert!(metering.take().is_empty());
    }

    #[test]
    fn computing_is_counted_in_microseconds_also_of_tenants_that_are_not_told_apart() {
        let metering = Metering::default();
        let used = [(1, 1_499), (2, 1_500), (3, 499), (0, 7_000)];
        let used = used.map(|(tenant, ns)| (TenantId::new(tenant), Duration::from_nanos(ns)));
        metering.computed(used.into(), NOW);
        let notes = metering.take();
        let told = notes.iter().map(|n| (n.tenant.get(), n.amounts.get(Meter::CpuMicros)));
        let mut told: Vec<_> = told.collect();
        told.sort_unstable();
        assert_eq!(told, [(0, 7), (1, 1), (2, 2)]);
    }

    #[test]
    fn an_hour_is_told_from_the_next() {
        let metering = Metering::default();
        let one = Amounts::of(Meter::Requests, 1);
        for at in [NOW, NOW, Timestamp(NOW.0 + 3_600_000)] {
            metering.note(TenantId::new(1), at, &one);
        }
        let mut hours: Vec<_> = metering.take().iter().map(|note| note.hour.0).collect();
        hours.sort_unstable();
        assert_eq!(hours, [2, 3]);
    }

    #[test]
    fn writers_are_bounded() {
        let metering = Metering::default();
        (0..1_000_000).for_each(|n| metering.wrote(TenantId::new(n)));
        assert_eq!(metering.take().len(), SHARDS * WRITERS_MAX);
        assert!(metering.take().is_empty());
    }
}
