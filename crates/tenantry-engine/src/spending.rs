//! What a tenant has used of its budgets: requests of this day and month of UTC, and what the month
//! costs, for those that are limited in it.
//!
//! The ledger knows, up to the last second and after a restart; this process adds the requests that it
//! has admitted since it looked. It looks when a tenant comes for the first time, or has another plan,
//! and each minute after that, or as often as one round of looks lasts. So several nodes together pass
//! a quota by what the others admit in a minute, and one node by what is under way when it looks. What
//! a request costs is known when it was served, so a month's cost is passed by what is served in a
//! minute.

mod first;

use crate::{Engine, engine::Inner, metering};
use first::{FirstLook, LASTS_MAX, Place, Places, unknown};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{SystemScope, TenantId};
use tenantry_store::Spent;
use tenantry_types::{Budget, Day, Hour, Month, PlanName, Quotas, Result, Timestamp};
use tokio::task::JoinSet;

const SHARDS: usize = 16;
/// A tenant that asks nothing for so long is forgotten, and looked up when it comes again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// For so long looks are begun before what tenants do is written down again.
const LOOKED_FOR: Duration = Duration::from_secs(1);
/// Tenants that are looked at at the same time.
const LOOKS_AT_ONCE: usize = 8;
/// A look that takes longer is given up: its tenant's place does not answer.
const LOOK_MAX: Duration = Duration::from_secs(1);
/// From the beginning of one round of looks to the next, unless a round lasts longer.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often a round tries again, after a second, if nothing can be written down.
const FLUSH_TRIES: usize = 5;
/// What a look has found is taken over sooner than that.
const LOOK_LASTS_MILLIS: u64 = 5 * 60_000;
const _: () = assert!(LASTS_MAX.as_secs() * 1_000 < LOOK_LASTS_MILLIS);

/// A budget that is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedUp {
    pub(crate) budget: Budget,
    pub(crate) most: u64,
    /// Until it begins anew.
    pub(crate) seconds: u64,
}

type Asked = std::result::Result<(), UsedUp>;

/// Of one tenant.
#[derive(Debug)]
struct Entry {
    day: Day,
    month: Month,
    used: Spent,
    /// What of it the ledger has said: the rest may be requests that cost nothing.
    said: Spent,
    /// The plan by which the cost is known.
    plan: Option<PlanName>,
    /// Requests that were admitted here since the tenant is known; only grows.
    admitted: u64,
    asked: Instant,
}

impl Entry {
    /// In the day and month of now; they only go forward.
    fn turn(&mut self, now: Timestamp) {
        let hour = Hour::of(now);
        if hour.day() > self.day {
            (self.day, self.used.day) = (hour.day(), self.used.day.map(|_| 0));
            self.said.day = self.used.day;
        }
        if hour.month() > self.month {
            (self.month, self.used.month) = (hour.month(), 0);
            self.said.month = 0;
            self.used.cost = self.used.cost.map(|_| 0);
        }
    }

    /// None if it is not known how much of one of them is used.
    fn ask(&mut self, quotas: &Quotas, now: Timestamp) -> Option<Asked> {
        self.turn(now);
        for budget in Budget::ALL {
            let Some(most) = budget.most(quotas) else { continue };
            if budget.is_used_up(self.used.of(budget)?, most) {
                let end = if budget == Budget::Day { self.day.end() } else { self.month.end() };
                let mut seconds = end.0.saturating_sub(now.0).div_ceil(1_000).max(1);
                let said = if budget == Budget::Cost { None } else { self.said.of(budget) };
                if said.is_some_and(|said| !budget.is_used_up(said, most)) {
                    // The next look may well find less.
                    seconds = seconds.min(LOOK_EVERY.as_secs());
                }
                return Some(Err(UsedUp { budget, most, seconds }));
            }
        }
        self.used.day = self.used.day.map(|day| day.saturating_add(1));
        self.used.month = self.used.month.saturating_add(1);
        self.admitted = self.admitted.saturating_add(1);
        Some(Ok(()))
    }

    /// Takes over what the ledger said at this time; `since` requests were admitted after the look
    /// began.
    ///
    /// Of these nobody knows which the ledger has already: all of them, or none. So what is known
    /// here, which has each of them once, is corrected only as far as the ledger proves it wrong: it is
    /// raised to what the ledger has, and lowered to that and all of these. No request counts twice by
    /// a look, because none raises the number above what the ledger has. Of what other nodes have
    /// admitted it lacks `since` at most, until the next look: what came here within a second or so.
    fn correct(&mut self, at: Timestamp, said: Spent, since: u64) {
        self.turn(at);
        let hour = Hour::of(at);
        let bound = |used: Option<u64>, said: u64| {
            used.unwrap_or(u64::MAX).clamp(said, said.saturating_add(since))
        };
        // No look lasts so long: the clock had jumped ahead, and the ledger knows the day and the month
        // that it is.
        if self.day.0 > hour.day().0.saturating_add(1) {
            (self.day, self.used.day) = (hour.day(), None);
        }
        let ends = hour.month().end().0;
        if self.month > hour.month() && at.0.saturating_add(LOOK_LASTS_MILLIS) < ends {
            (self.month, self.used.month) = (hour.month(), u64::MAX);
        }
        if self.day == hour.day() {
            self.used.day = said.day.map(|said| bound(self.used.day, said));
        } else {
            // Of the day that has begun meanwhile.
            self.used.day = said.day.map(|_| self.used.day.unwrap_or(0));
        }
        if self.month == hour.month() {
            self.used.month = bound(Some(self.used.month), said.month);
            self.used.cost = said.cost;
        } else {
            self.used.cost = said.cost.map(|_| self.used.cost.unwrap_or(0));
        }
        self.said.day = said.day.map(|day| if self.day == hour.day() { day } else { 0 });
        self.said.month = if self.month == hour.month() { said.month } else { 0 };
    }
}

#[derive(Debug, Default)]
struct Shard {
    entries: Mutex<HashMap<TenantId, Entry>>,
    /// Of each tenant that is looked up for the first time, or just was in vain.
    looking: Mutex<HashMap<TenantId, Arc<FirstLook>>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Spending {
    shards: [Shard; SHARDS],
    places: Places,
    /// Rounds of looks: each begins with other tenants.
    rounds: AtomicUsize,
}

impl Spending {
    fn shard(&self, tenant: TenantId) -> &Shard {
        let at = usize::try_from(tenant.get() % SHARDS as u64).unwrap_or(0);
        self.shards.get(at).unwrap_or(&self.shards[0])
    }

    /// Counts one more request, or says which budget is used up; none if the tenant is not known, or
    /// something of it that is limited, or what it costs is known by another plan.
    fn ask(
        &self,
        tenant: TenantId,
        (quotas, plan): (&Quotas, Option<&PlanName>),
        now: Timestamp,
    ) -> Option<Asked> {
        let mut entries = self.shard(tenant).entries.lock();
        let entry = entries.get_mut(&tenant)?;
        entry.asked = Instant::now();
        if quotas.cost.is_some() && entry.plan.as_ref() != plan {
            return None;
        }
        entry.ask(quotas, now)
    }

    /// Takes over what the ledger says by a plan, as it was at this time: when this process had
    /// admitted so many.
    fn put(
        &self,
        (tenant, plan): (TenantId, Option<PlanName>),
        at: Timestamp,
        used: Spent,
        admitted: u64,
    ) {
        let hour = Hour::of(at);
        let (day, month) = (hour.day(), hour.month());
        let mut entries = self.shard(tenant).entries.lock();
        let asked = Instant::now();
        let new = Entry { day, month, used, said: used, plan: None, admitted, asked };
        let entry = entries.entry(tenant).or_insert(new);
        entry.correct(at, used, entry.admitted.saturating_sub(admitted));
        entry.plan = plan;
    }

    /// Those who come together for this tenant look once, and wait for no others.
    fn looking(&self, tenant: TenantId) -> Arc<FirstLook> {
        let mut all = self.shard(tenant).looking.lock();
        all.retain(|_, one| one.is_needed());
        Arc::clone(all.entry(tenant).or_default())
    }

    /// True if it is known how much is used of all that is limited.
    fn knows(&self, tenant: TenantId, (quotas, plan): (&Quotas, Option<&PlanName>)) -> bool {
        let entries = self.shard(tenant).entries.lock();
        let is_known = |one: &Entry, budget: Budget| {
            budget.most(quotas).is_none() || one.used.of(budget).is_some()
        };
        entries.get(&tenant).is_some_and(|one| {
            let is_by_plan = quotas.cost.is_none() || one.plan.as_ref() == plan;
            is_by_plan && Budget::ALL.into_iter().all(|budget| is_known(one, budget))
        })
    }

    /// How many requests of a tenant were admitted since it is known.
    fn admitted(&self, tenant: TenantId) -> u64 {
        self.shard(tenant).entries.lock().get(&tenant).map_or(0, |entry| entry.admitted)
    }

    /// Those that are known, with what was admitted of each; without those that have gone. Each time
    /// with others first.
    fn known(&self) -> Vec<(TenantId, u64)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut entries = shard.entries.lock();
            entries.retain(|_, entry| entry.asked.elapsed() < FORGOTTEN_AFTER);
            all.extend(entries.iter().map(|(tenant, entry)| (*tenant, entry.admitted)));
        }
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let first = round.wrapping_mul(LOOKS_AT_ONCE).checked_rem(all.len()).unwrap_or(0);
        all.rotate_left(first);
        all
    }
}

impl Inner {
    /// Counts one more request of a tenant, or says which budget is used up.
    pub(crate) async fn spend(
        self: &Arc<Self>,
        tenant: TenantId,
        quotas: &Quotas,
    ) -> Result<Asked> {
        if !quotas.has_budgets() {
            return Ok(Ok(()));
        }
        let now = self.clock.now();
        // What it costs depends on the plan's tariff, too.
        let plan = match quotas.cost {
            Some(_) => self.store.plan_of(tenant).await?,
            None => None,
        };
        let has = (quotas, plan.as_ref());
        if let Some(said) = self.spending.ask(tenant, has, now) {
            return Ok(said);
        }
        let first = self.spending.looking(tenant);
        let is_known = || self.spending.knows(tenant, has);
        let inner = Arc::downgrade(self);
        let look = move |place| look_first(inner, tenant, place);
        // Rare, and every request holds this future.
        Box::pin(first.look(&self.spending.places, is_known, look)).await?;
        // It may have waited into another day.
        self.spending.ask(tenant, has, self.clock.now()).ok_or_else(unknown)
    }
}

/// Looks up what a tenant has used that comes for the first time.
async fn look_first(inner: Weak<Inner>, tenant: TenantId, place: Place) -> Result<()> {
    // By its turn the engine may have ended.
    let Some(inner) = inner.upgrade() else { return Ok(()) };
    // Before it is written down: what is admitted later may be in the ledger or not.
    let admitted = inner.spending.admitted(tenant);
    let scope = inner.authority.system("look up what a tenant has used of its budgets");
    metering::flush_before_reading(&inner).await;
    inner.store.fold_amounts(&scope).await?;
    // As it is now: whoever asked may have gone, and the tenant too.
    let Some(has) = inner.store.allowance(tenant).await? else { return Ok(()) };
    let quotas = has.quotas;
    if !quotas.has_budgets() {
        return Ok(());
    }
    // Before it is looked up: if it has another one by then, the next request looks again.
    let plan = inner.store.plan_of(tenant).await?;
    let now = inner.clock.now();
    let used = place.beside(inner.store.spent(&scope, tenant, now, &quotas)).await?;
    inner.spending.put((tenant, plan), now, used, admitted);
    // Nobody who asks waits for it.
    tokio::spawn(async move {
        let telling = tell(&inner, &scope, tenant, (now, &used), &quotas);
        if tokio::time::timeout(LASTS_MAX, telling).await.is_err() {
            tracing::warn!(%tenant, "webhooks were not told of a tenant's budgets; tried again");
        }
    });
    Ok(())
}

/// Has the operator's endpoints told of the parts of its budgets that a tenant has used. What could
/// not be told is found again by the next look.
async fn tell(
    inner: &Inner,
    scope: &SystemScope,
    tenant: TenantId,
    at: (Timestamp, &Spent),
    quotas: &Quotas,
) {
    if let Err(error) = inner.store.tell_budgets(scope, tenant, at, quotas).await {
        tracing::warn!(?error, %tenant, "tell webhooks of a tenant's budgets; tried again");
    }
}

/// Looks again what those have used that have asked lately, some at the same time. What cannot be read
/// stays as it is known, and keeps nobody else waiting.
pub(crate) async fn look_again(inner: &Arc<Inner>) {
    let scope = inner.authority.system("look up what tenants have used of their budgets");
    let (mut known, mut failures) = (inner.spending.known(), 0);
    while !known.is_empty() {
        // In this order: what was admitted and done by then is in the ledger once it is added up.
        for (tenant, admitted) in &mut known {
            *admitted = inner.spending.admitted(*tenant);
        }
        // What could not be written is in nobody's ledger yet.
        if !is_written_down(inner, &scope).await {
            failures += 1;
            if failures >= FLUSH_TRIES {
                return;
            }
            tokio::time::sleep(LOOKED_FOR).await;
            continue;
        }
        let (begun, mut looks) = (Instant::now(), JoinSet::new());
        loop {
            while looks.len() < LOOKS_AT_ONCE
                && begun.elapsed() < LOOKED_FOR
                && let Some((tenant, admitted)) = known.pop()
            {
                looks.spawn(look_within(Arc::clone(inner), scope.clone(), tenant, admitted));
            }
            if looks.join_next().await.is_none() {
                break;
            }
        }
    }
}

async fn is_written_down(inner: &Arc<Inner>, scope: &SystemScope) -> bool {
    if !metering::flush_before_reading(inner).await {
        return false;
    }
    let added = inner.store.fold_amounts(scope).await;
    if let Err(error) = &added {
        tracing::warn!(?error, "add up usage; what tenants have used is looked up later");
    }
    added.is_ok()
}

async fn look_within(inner: Arc<Inner>, scope: SystemScope, tenant: TenantId, admitted: u64) {
    match tokio::time::timeout(LOOK_MAX, look_at(&inner, &scope, tenant, admitted)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(?error, %tenant, "look up what a tenant has used"),
        Err(_) => tracing::warn!(%tenant, "what a tenant has used was not found within a second"),
    }
}

async fn look_at(
    inner: &Arc<Inner>,
    scope: &SystemScope,
    tenant: TenantId,
    admitted: u64,
) -> Result<()> {
    // One without budgets asks nothing here any more, and is forgotten.
    let Some(has) = inner.store.allowance(tenant).await? else { return Ok(()) };
    if !has.quotas.has_budgets() {
        return Ok(());
    }
    // Before it is looked up: if it has another one by then, the next request looks again.
    let plan = inner.store.plan_of(tenant).await?;
    let now = inner.clock.now();
    let used = inner.store.spent_again(scope, tenant, now, &has.quotas).await?;
    inner.spending.put((tenant, plan), now, used, admitted);
    tell(inner, scope, tenant, (now, &used), &has.quotas).await;
    Ok(())
}

/// Looks for as long as the engine lives: by itself, so that no place that does not answer keeps usage
/// from being added up.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        let mut rest = LOOKED_FOR;
        loop {
            tokio::time::sleep(rest).await;
            let Some(inner) = weak.upgrade() else { return };
            let begun = Instant::now();
            look_again(&inner).await;
            rest = LOOK_EVERY.saturating_sub(begun.elapsed()).max(LOOKED_FOR);
        }
    });
}

impl Engine {
    /// Adds up what was counted up to now, and looks how much of their budgets those tenants have used
    /// that have asked lately, as it is done each minute by itself: for whoever sets the clock. What all
    /// tenants have is counted anew when it is asked for next.
    pub async fn add_up(&self) {
        metering::flush_before_reading(&self.0).await;
        metering::add_up(&self.0).await;
        look_again(&self.0).await;
        self.0.counts.expire().await;
    }
}

#[cfg(test)]
mod tests;
