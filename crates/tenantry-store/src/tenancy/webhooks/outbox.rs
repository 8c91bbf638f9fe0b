//! Events on their way: written with what they tell, claimed, and told until they arrive.
//!
//! A row's key says when it is to be told next, so a claim is a move of the row to the end of the
//! claim: whoever crashes leaves it to be told again, and of two that claim the second finds no row.
//! There is one row for each endpoint that wants the event, so that none waits for another.

use super::{INSTALLATION, REMOVED_AT_ONCE, Signed, all_in, unreadable};
use crate::{
    Answered, Attempted, DeadLetter, Delivery, Event, OutboxTotals,
    tenancy::{
        Backend, Space, Tenancy, View,
        backend::Scan,
        commit::Commit,
        complete,
        disk::{self, DiskDeadLetter, DiskDelivery},
        keys::{self, Decode as _},
        seal::Nonces,
        tenants::OpenTenant,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tenantry_auth::{SystemScope, TenantId};
use tenantry_types::{EventId, EventKind, Fact, Result, TenantName, Timestamp};

/// Events that may wait for one endpoint. Those that were tried most often are given up beyond it.
const WAITING_MAX: u64 = 10_000;
/// Dead letters of one endpoint. The oldest go beyond it.
const DEAD_MAX: usize = 1_000;

/// The key of an event on its way.
pub(super) fn delivery_key(webhook: u64, at: Timestamp, id: EventId) -> Vec<u8> {
    keys::Delivery { webhook, at: at.0, id: id.0 }.encode(INSTALLATION)
}

/// Which endpoints are to be told of something that is about to be committed.
#[derive(Debug, Default)]
pub(in crate::tenancy) struct Told(Vec<u64>);

impl Told {
    /// Adds an event to a commit of the installation's.
    pub(in crate::tenancy) fn tell(&self, log: &mut Commit<'_>, event: &Event) {
        for webhook in &self.0 {
            let key = delivery_key(*webhook, event.at, event.id);
            let row = DiskDelivery::new(event, 0, &Answered::default());
            log.put(Space::Catalog, key, &row);
        }
    }

    /// True if nobody wants to know, so that nothing is written.
    pub(in crate::tenancy) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<B: Backend> Tenancy<B> {
    /// Who wants to know of this kind of events. The view is of the root, for whoever changes it.
    pub(in crate::tenancy) async fn told(
        &self,
        view: &impl View,
        installation: &OpenTenant,
        kind: EventKind,
    ) -> Result<Told> {
        // No endpoint was made before older programs are kept out.
        if !self.tenants.origins.is_open() {
            return Ok(Told::default());
        }
        let all = all_in(view, installation).await?.into_iter().map(|one| one.webhook);
        // Audit logs have all attempts and reasons, and parts of budgets are found again by a later
        // look.
        let crowded = match kind {
            EventKind::CrossTenantAttempt | EventKind::BudgetThreshold | EventKind::BreakGlass => {
                self.crowded.lock().clone()
            }
            _ => BTreeSet::new(),
        };
        let wants = all.filter(|webhook| {
            webhook.enabled && webhook.events.have(kind) && !crowded.contains(&webhook.id)
        });
        Ok(Told(wants.map(|webhook| webhook.id()).collect()))
    }

    /// An event of this moment.
    pub(crate) fn event(
        &self,
        kind: EventKind,
        tenant: Option<(TenantId, &TenantName)>,
        facts: impl IntoIterator<Item = (&'static str, Fact)>,
    ) -> Event {
        let (at, mut random) = (self.now(), [0; 16]);
        self.entropy.fill("event", &mut random);
        Event {
            id: EventId::of(at, random),
            kind,
            at,
            tenant: tenant.map(|(id, name)| (id, name.clone())),
            facts: facts.into_iter().map(|(word, fact)| (word.to_owned(), fact)).collect(),
        }
    }

    /// Rows of an event for whoever has no commit of the installation's.
    pub(in crate::tenancy) fn event_rows(
        &self,
        installation: &OpenTenant,
        told: &Told,
        event: &Event,
    ) -> Vec<(Space, Vec<u8>, Option<Vec<u8>>)> {
        let mut nonces = Nonces::draw(&*self.entropy);
        let row = disk::encode(&DiskDelivery::new(event, 0, &Answered::default()));
        let one = |webhook: &u64| {
            let key = delivery_key(*webhook, event.at, event.id);
            let sealed = installation.key().seal(&key, &row, true, &mut nonces);
            (Space::Catalog, key, Some(sealed))
        };
        told.0.iter().map(one).collect()
    }

    /// Asks who wants to know of something about a tenant, and adds it to a commit of the
    /// installation's.
    pub(in crate::tenancy) async fn tell_of(
        &self,
        (view, installation): (&impl View, &OpenTenant),
        log: &mut Commit<'_>,
        kind: EventKind,
        tenant: (TenantId, &TenantName),
        facts: impl IntoIterator<Item = (&'static str, Fact)> + Send,
    ) -> Result<()> {
        let told = self.told(view, installation, kind).await?;
        if !told.is_empty() {
            told.tell(log, &self.event(kind, Some(tenant), facts));
        }
        Ok(())
    }

    /// Tells of something that has no commit of its own; false if nobody wants to know.
    pub(crate) async fn raise_event(
        self: &Arc<Self>,
        _scope: &SystemScope,
        kind: EventKind,
        tenant: (TenantId, TenantName),
        facts: BTreeMap<&'static str, Fact>,
    ) -> Result<bool> {
        let inner = Arc::clone(self);
        complete(async move {
            let installation = inner.installation().await?;
            if inner.told(&inner.root(None).await?, &installation, kind).await?.is_empty() {
                return Ok(false);
            }
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            let told = inner.told(&view, &installation, kind).await?;
            let mut log = inner.begin(&installation)?;
            told.tell(&mut log, &inner.event(kind, Some((tenant.0, &tenant.1)), facts));
            inner.commit(&installation, view, log).await?;
            inner.events.notify_one();
            Ok(true)
        })
        .await
    }

    /// Events whose time has come, for whoever tells them until `until`: of each endpoint at most what
    /// `free` says of its number.
    pub(crate) async fn claim_deliveries(
        self: &Arc<Self>,
        _scope: &SystemScope,
        free: impl Fn(u64) -> usize + Send,
        lease: Duration,
    ) -> Result<Vec<Delivery>> {
        let installation = self.installation().await?;
        let (now, mut due) = (self.now(), Vec::new());
        {
            let root = self.root(None).await?;
            for signed in all_in(&root, &installation).await? {
                let (id, most) = (signed.webhook.id, free(signed.webhook.id));
                if most == 0 {
                    continue;
                }
                let all = keys::deliveries_of(INSTALLATION, id);
                let rows = root.page(Space::Catalog, &all, &all, most).await?;
                let is_due = |key: &[u8]| {
                    keys::Delivery::decode(INSTALLATION, key).is_none_or(|key| key.at <= now.0)
                };
                let keys: Vec<_> =
                    rows.into_iter().map(|(key, _)| key).filter(|key| is_due(key)).collect();
                due.extend((!keys.is_empty()).then_some((id, keys)));
            }
        }
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let lease = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let inner = Arc::clone(self);
        complete(async move { inner.claim(&installation, due, lease).await }).await
    }

    async fn claim(
        &self,
        installation: &OpenTenant,
        due: Vec<(u64, Vec<Vec<u8>>)>,
        lease: u64,
    ) -> Result<Vec<Delivery>> {
        let _logging = installation.writer.lock().await;
        let view = self.change(installation).await?;
        // As endpoints are now, and from now on: this may have waited for the lock.
        let all = all_in(&view, installation).await?;
        let until = Timestamp(self.now().0.saturating_add(lease));
        let (mut log, mut claimed) = (self.begin(installation)?, Vec::new());
        let mut is_changed = false;
        for (id, keys) in due {
            let Some(signed) = all.iter().find(|one| one.webhook.id == id) else { continue };
            let rows = view.many(Space::Catalog, &keys).await?;
            for (key, sealed) in keys.into_iter().zip(rows) {
                // What is gone was claimed by somebody else.
                let Some(sealed) = sealed else { continue };
                is_changed = true;
                let (event, attempts, last) = match read(installation, &key, &sealed) {
                    Ok(read) => read,
                    Err(error) => {
                        tracing::error!(?error, "an event cannot be read, and is told nobody");
                        log.remove(Space::Catalog, key);
                        continue;
                    }
                };
                let row = DiskDelivery::new(&event, attempts, &last);
                replace(&mut log, key, delivery_key(id, until, event.id), &row);
                claimed.push(self.delivery(signed, event, attempts, until));
            }
        }
        if is_changed {
            self.commit(installation, view, log).await?;
        }
        Ok(claimed)
    }

    fn delivery(&self, of: &Signed, event: Event, attempts: u32, until: Timestamp) -> Delivery {
        let signs = of.webhook.old_secret_until.is_some_and(|until| until > self.now());
        let old = of.old.as_ref().filter(|_| signs);
        let secrets = std::iter::once(&of.secret).chain(old).cloned().collect();
        let webhook = of.webhook.clone();
        Delivery { event, webhook, secrets, attempts, claimed_until: until }
    }

    /// Says what became of an attempt. If its claim has ended meanwhile, whoever has it now says so.
    pub(crate) async fn settle_delivery(
        self: &Arc<Self>,
        _scope: &SystemScope,
        delivery: Delivery,
        attempted: Attempted,
    ) -> Result<()> {
        let inner = Arc::clone(self);
        complete(async move {
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            let Delivery { event, webhook, attempts, claimed_until, .. } = delivery;
            let key = delivery_key(webhook.id, claimed_until, event.id);
            if view.get(Space::Catalog, &key).await?.is_none() {
                return Ok(());
            }
            let mut log = inner.begin(&installation)?;
            let attempts = attempts.saturating_add(1);
            match attempted {
                Attempted::Delivered => log.remove(Space::Catalog, key),
                Attempted::Again(at, last) => {
                    let row = DiskDelivery::new(&event, attempts, &last);
                    replace(&mut log, key, delivery_key(webhook.id, at, event.id), &row);
                }
                // Who tries for days must not crowd out letters of what has happened.
                Attempted::Dead(_)
                    if matches!(
                        event.kind,
                        EventKind::CrossTenantAttempt | EventKind::BreakGlass
                    ) =>
                {
                    log.remove(Space::Catalog, key);
                }
                Attempted::Dead(last) => {
                    log.remove(Space::Catalog, key);
                    let key = keys::DeadLetter { webhook: webhook.id, id: event.id.0 };
                    let letter = DeadLetter { event, attempts, last, died_at: inner.now() };
                    let row = DiskDeadLetter::new(&letter);
                    log.put(Space::Catalog, key.encode(INSTALLATION), &row);
                }
            }
            inner.commit(&installation, view, log).await
        })
        .await
    }

    /// Counts what waits, removes what is left of endpoints that are gone, and gives up what is too
    /// much. Much of it is removed in several rounds.
    pub(crate) async fn tidy_deliveries(
        self: &Arc<Self>,
        _scope: &SystemScope,
    ) -> Result<OutboxTotals> {
        let inner = Arc::clone(self);
        complete(async move {
            let bounds = (WAITING_MAX, DEAD_MAX);
            let mut totals = inner.tidy(bounds).await?;
            let mut last = totals.dropped;
            // More may come in a minute than one round removes.
            while last >= REMOVED_AT_ONCE as u64 {
                let next = inner.tidy(bounds).await?;
                last = next.dropped;
                totals = OutboxTotals { dropped: totals.dropped + last, ..next };
            }
            Ok(totals)
        })
        .await
    }

    /// Writes an event for a webhook that is not there, as a crash leaves it.
    #[cfg(test)]
    pub(crate) async fn leave_behind(&self, webhook: u64, event: &Event) -> Result<()> {
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        let mut log = self.begin(&installation)?;
        Told(vec![webhook]).tell(&mut log, event);
        self.commit(&installation, view, log).await
    }

    /// The same with these bounds, of what waits and of dead letters.
    pub(crate) async fn tidy(&self, (waiting_max, dead_max): (u64, usize)) -> Result<OutboxTotals> {
        let installation = self.installation().await?;
        let (mut totals, mut doomed) = (OutboxTotals::default(), Vec::new());
        {
            let root = self.root(None).await?;
            let mut waiting: HashMap<u64, u64> = HashMap::new();
            let mut rows =
                Scan::new(&root, Space::Catalog, keys::Delivery::all(INSTALLATION), None);
            while let Some((key, _)) = rows.next().await? {
                let of = keys::Delivery::decode(INSTALLATION, &key).ok_or_else(unreadable)?;
                let count = waiting.entry(of.webhook).or_default();
                *count += 1;
                totals.waiting += 1;
                if *count > waiting_max && doomed.len() < REMOVED_AT_ONCE {
                    doomed.push(key);
                }
            }
            let half = |(_, count): &(&u64, &u64)| **count > waiting_max / 2;
            *self.crowded.lock() = waiting.iter().filter(half).map(|(id, _)| *id).collect();
            totals.dropped = doomed.len() as u64;
            let dead = keys::DeadLetter::all(INSTALLATION);
            let mut letters: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
            let mut rows = Scan::new(&root, Space::Catalog, dead, None);
            while let Some((key, _)) = rows.next().await? {
                let of = keys::DeadLetter::decode(INSTALLATION, &key).ok_or_else(unreadable)?;
                letters.entry(of.webhook).or_default().push(key);
                totals.dead += 1;
            }
            // Their ids begin with the time.
            for keys in letters.values() {
                let old = keys.len().saturating_sub(dead_max).min(REMOVED_AT_ONCE);
                totals.dropped += old as u64;
                doomed.extend(keys.iter().take(old).cloned());
            }
            let known: Vec<u64> =
                all_in(&root, &installation).await?.iter().map(|one| one.webhook.id).collect();
            if known.len() == super::count(&root).await? {
                let gone = waiting.keys().chain(letters.keys()).filter(|id| !known.contains(id));
                for id in gone.copied().collect::<BTreeSet<u64>>() {
                    for all in
                        [keys::deliveries_of(INSTALLATION, id), keys::dead_of(INSTALLATION, id)]
                    {
                        let rows = root.page(Space::Catalog, &all, &all, REMOVED_AT_ONCE).await?;
                        doomed.extend(rows.into_iter().map(|(key, _)| key));
                    }
                }
            }
        }
        if doomed.is_empty() {
            return Ok(totals);
        }
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        let mut log = self.begin(&installation)?;
        for key in doomed {
            log.remove(Space::Catalog, key);
        }
        self.commit(&installation, view, log).await?;
        Ok(totals)
    }
}

/// Moves a row. No key is both removed and put in one commit.
fn replace(log: &mut Commit<'_>, old: Vec<u8>, new: Vec<u8>, row: &DiskDelivery) {
    if old != new {
        log.remove(Space::Catalog, old);
    }
    log.put(Space::Catalog, new, row);
}

fn read(installation: &OpenTenant, key: &[u8], sealed: &[u8]) -> Result<(Event, u32, Answered)> {
    let of = keys::Delivery::decode(INSTALLATION, key).ok_or_else(unreadable)?;
    installation.open_row::<DiskDelivery>(key, sealed)?.read(EventId(of.id))
}
