//! Events without a commit of their own in the log they belong to: refusals, an operator's entries
//! into a tenant, in the operator's log the making of a tenant, and reads.
//!
//! They are summed up in memory and written once a second, so that a caller who is refused a
//! thousand times a second costs one audit entry a second, not a thousand commits; reads and refusals
//! by limits once a minute. What cannot be written stays and is tried again. One tenant's flood
//! crowds out nothing of another's log, and nothing of another kind in its own.

mod flush;
#[cfg(test)]
mod tests;

pub(crate) use flush::{flush_before_reading, flush_last, spawn_flusher};

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tenantry_auth::{Author, RequestId, TenantId};
use tenantry_store::{AuditEvent, AuditNote, AuditOutcome, AuditReason};
use tenantry_types::Amounts;

/// Different events of one actor in one log between two writes; beyond it, targets are no longer
/// told apart.
const ACTOR_EVENTS_MAX: usize = 16;
/// Different refusals of one kind in one log; beyond it, actors are no longer told apart.
const LOG_EVENTS_MAX: usize = 1_024;
/// Of these, in a log that all tenants share, those of one tenant's callers; beyond it, they are no
/// longer told apart from each other.
const TENANT_EVENTS_MAX: usize = LOG_EVENTS_MAX / 16;
/// The same for what was done.
const LOG_DONE_MAX: usize = 4 * LOG_EVENTS_MAX;
/// Different events of one kind in all logs, reached only while nothing can be written; beyond it,
/// new ones are counted in the server's log alone.
const EVENTS_MAX: usize = 65_536;
/// Ids are given one after the other, so their remainders are spread evenly.
const SHARDS: usize = 64;
const TARGET_BYTES_MAX: usize = 200;
const MANY: &str = "(many)";

/// What was done, of which the outcome says all.
pub(crate) const DONE: (AuditOutcome, AuditReason) = (AuditOutcome::Done, AuditReason::None);

/// The action of reading, counting and searching records.
pub(crate) const READ: &str = "records.read";

/// The action of an attempt at another tenant.
pub(crate) const CROSS_TENANT: &str = "cross_tenant_attempt";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct What {
    action: String,
    target: String,
    outcome: AuditOutcome,
    reason: AuditReason,
}

/// How often, how much of what was reported, and the first request of which one knows: a new id or
/// another amount each time must not be a new entry each time.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    amounts: Amounts,
    request: Option<RequestId>,
    /// In whose part of the log it has its place, if tenants share that log.
    whose: Option<TenantId>,
}

/// Events have room of their own by kind: a flood of refusals hides nothing that was done, and
/// whoever is beyond a limit hides nobody who had no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Done,
    Denied,
    Limited,
}

impl Kind {
    fn of(outcome: AuditOutcome, reason: AuditReason) -> Self {
        match (outcome, reason) {
            (AuditOutcome::Done, _) => Self::Done,
            (AuditOutcome::Refused(_), AuditReason::Limit(_)) => Self::Limited,
            (AuditOutcome::Refused(_), _) => Self::Denied,
        }
    }

    /// Different ones in one log.
    fn log_max(self) -> usize {
        if self == Self::Done { LOG_DONE_MAX } else { LOG_EVENTS_MAX }
    }
}

#[derive(Debug, Default)]
struct ByKind<T> {
    done: T,
    denied: T,
    limited: T,
}

impl<T> ByKind<T> {
    fn of(&self, kind: Kind) -> &T {
        match kind {
            Kind::Done => &self.done,
            Kind::Denied => &self.denied,
            Kind::Limited => &self.limited,
        }
    }

    fn of_mut(&mut self, kind: Kind) -> &mut T {
        match kind {
            Kind::Done => &mut self.done,
            Kind::Denied => &mut self.denied,
            Kind::Limited => &mut self.limited,
        }
    }

    fn each(&self) -> [&T; 3] {
        [&self.done, &self.denied, &self.limited]
    }
}

/// Events of one kind in one log.
#[derive(Debug, Default)]
struct Places {
    by_actor: HashMap<String, HashMap<What, Sum>>,
    /// Different ones.
    len: usize,
}

impl Places {
    fn know(&self, actor: &str, what: &What) -> bool {
        self.by_actor.get(actor).is_some_and(|events| events.contains_key(what))
    }

    /// Different ones of an actor.
    fn of(&self, actor: &str) -> usize {
        self.by_actor.get(actor).map_or(0, HashMap::len)
    }
}

/// What is to be written to one log.
#[derive(Debug, Default)]
struct Log {
    events: ByKind<Places>,
    /// Different ones that a tenant's callers have caused, in a log that is not the tenant's.
    of_tenants: HashMap<TenantId, usize>,
    /// The same of those that are on their way to the store.
    taken: HashMap<TenantId, usize>,
    /// Held while events of this log are on their way to the store.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// Requests of tenants do not wait for each other here: their logs are in different shards.
#[derive(Debug)]
pub(crate) struct Denials {
    shards: Vec<Mutex<HashMap<TenantId, Log>>>,
    /// Different ones in all logs.
    events: ByKind<AtomicUsize>,
    dropped: AtomicU64,
}

impl Default for Denials {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, events: ByKind::default(), dropped: AtomicU64::new(0) }
    }
}

impl Denials {
    /// Counts one event; it reaches the tenant's audit log within a second.
    pub(crate) fn note(
        &self,
        (tenant, by): (TenantId, Author<'_>),
        action: &str,
        target: &str,
        (outcome, reason): (AuditOutcome, AuditReason),
    ) {
        self.add(tenant, one(by, action, target, (outcome, reason)));
    }

    /// [`Denials::note`] of what a tenant's caller has caused in a log that tenants share. Whoever has
    /// many keys has no more room there than who has one.
    pub(crate) fn note_of(
        &self,
        whose: TenantId,
        (log, by): (TenantId, Author<'_>),
        action: &str,
        (target, outcome): (&str, (AuditOutcome, AuditReason)),
    ) {
        self.sum((log, Some(whose)), one(by, action, target, outcome), EVENTS_MAX, keep_first);
    }

    /// A report of usage that was counted: its entry says how much of each meter all of them had.
    pub(crate) fn reported(
        &self,
        (tenant, by): (TenantId, Author<'_>),
        action: &str,
        amounts: &Amounts,
    ) {
        let note = one(by, action, "", DONE);
        self.sum((tenant, None), note, EVENTS_MAX, |sum, request| {
            sum.amounts.add_all(amounts);
            sum.request = sum.request.take().or(request);
        });
    }

    /// [`Denials::note`] with all of the target: for whoever knows that it is not long, and that it
    /// says nothing without its end.
    pub(crate) fn add(&self, tenant: TenantId, note: AuditNote) {
        self.sum((tenant, None), note, EVENTS_MAX, keep_first);
    }

    /// The same of what could not be written: its requests were before those that came since.
    fn put_back(&self, (tenant, whose): (TenantId, Option<TenantId>), note: AuditNote) {
        // Its place may be somebody's who came meanwhile: it was here before.
        self.sum((tenant, whose), note, 2 * EVENTS_MAX, |sum, request| {
            if request.is_some() {
                sum.request = request;
            }
        });
    }

    fn sum(
        &self,
        (tenant, whose): (TenantId, Option<TenantId>),
        note: AuditNote,
        most: usize,
        first: impl FnOnce(&mut Sum, Option<RequestId>),
    ) {
        let AuditNote { event, reason, request } = note;
        let AuditEvent { mut actor, action, target, outcome, count } = event;
        let kind = Kind::of(outcome, reason);
        let mut what = What { action, target, outcome, reason };
        let logs = &mut *self.shard(tenant).lock();
        let log = logs.entry(tenant).or_default();
        let places = log.events.of_mut(kind);
        let mut of = whose;
        if !places.know(&actor, &what) {
            let full = places.len >= kind.log_max();
            // What was done was done by somebody with the right to; it is told apart for longer.
            let crowded = kind != Kind::Done && places.of(&actor) >= ACTOR_EVENTS_MAX;
            let of_one = |whose: &TenantId| {
                let both = [log.of_tenants.get(whose), log.taken.get(whose)];
                both.into_iter().flatten().sum::<usize>()
            };
            let loud = whose.filter(|whose| of_one(whose) >= TENANT_EVENTS_MAX);
            // What all of them have together is nobody's place.
            of = whose.filter(|_| loud.is_none());
            if full || loud.is_some() {
                MANY.clone_into(&mut actor);
            }
            if full || crowded || loud.is_some() {
                MANY.clone_into(&mut what.target);
            }
            if let Some(whose) = loud.filter(|_| !full) {
                what.target = format!("{MANY} of tenant {whose}");
            }
        }
        if !places.know(&actor, &what) {
            let all = self.events.of(kind);
            if all.load(Ordering::Relaxed) >= most {
                self.dropped.fetch_add(count, Ordering::Relaxed);
                return;
            }
            all.fetch_add(1, Ordering::Relaxed);
            places.len += 1;
            if let Some(whose) = of {
                *log.of_tenants.entry(whose).or_default() += 1;
            }
        }
        let new = || Sum { whose: of, ..Sum::default() };
        let sum = places.by_actor.entry(actor).or_default().entry(what).or_insert_with(new);
        sum.count += count;
        first(sum, request);
    }

    fn shard(&self, log: TenantId) -> &Mutex<HashMap<TenantId, Log>> {
        let number = usize::try_from(log.get() % SHARDS as u64).unwrap_or(0);
        &self.shards[number]
    }

    /// Logs with something to write or being written.
    fn logs(&self) -> Vec<TenantId> {
        let mut logs: Vec<TenantId> = Vec::new();
        for shard in &self.shards {
            logs.extend(shard.lock().keys());
        }
        logs.sort_unstable();
        logs
    }

    fn turn(&self, tenant: TenantId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.shard(tenant).lock().get(&tenant).map(|log| Arc::clone(&log.turn))
    }

    /// What is pending of one log, in a fixed order, and in whose part of it.
    fn take(&self, tenant: TenantId) -> Vec<(Option<TenantId>, AuditNote)> {
        let all = {
            let logs = &mut *self.shard(tenant).lock();
            let Some(log) = logs.get_mut(&tenant) else { return Vec::new() };
            log.taken = std::mem::take(&mut log.of_tenants);
            std::mem::take(&mut log.events)
        };
        let mut notes = Vec::new();
        for kind in [Kind::Done, Kind::Denied, Kind::Limited] {
            self.events.of(kind).fetch_sub(all.of(kind).len, Ordering::Relaxed);
        }
        let ByKind { done, denied, limited } = all;
        for (actor, whats) in [done, denied, limited].into_iter().flat_map(|kind| kind.by_actor) {
            for (What { action, target, outcome, reason }, sum) in whats {
                let Sum { count, amounts, request, whose } = sum;
                let target = if amounts.is_empty() { target } else { words(&amounts) };
                let actor = actor.clone();
                let event = AuditEvent { actor, action, target, outcome, count };
                notes.push((whose, AuditNote { event, reason, request }));
            }
        }
        notes.sort_by_cached_key(|(_, AuditNote { event: e, reason, .. })| {
            let outcome = format!("{:?}", e.outcome);
            (e.actor.clone(), e.action.clone(), e.target.clone(), outcome, *reason)
        });
        notes
    }

    /// What was taken last is written, or is put back next: it is on its way no more.
    fn arrived(&self, tenant: TenantId) {
        if let Some(log) = self.shard(tenant).lock().get_mut(&tenant) {
            log.taken.clear();
        }
    }

    /// Forgets a log that has nothing to write and that nobody else waits for.
    fn forget_idle(&self, tenant: TenantId, turn: &Arc<tokio::sync::Mutex<()>>) {
        let logs = &mut *self.shard(tenant).lock();
        let has_none = |log: &Log| log.events.each().into_iter().all(|kind| kind.len == 0);
        if logs.get(&tenant).is_some_and(has_none) && Arc::strong_count(turn) == 2 {
            logs.remove(&tenant);
        }
    }

    /// True if there is hardly room for more of a kind.
    fn is_crowded(&self) -> bool {
        let most = EVENTS_MAX / 2;
        self.events.each().into_iter().any(|kind| kind.load(Ordering::Relaxed) > most)
    }

    fn dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// What happened once.
fn one(
    by: Author<'_>,
    action: &str,
    target: &str,
    (outcome, reason): (AuditOutcome, AuditReason),
) -> AuditNote {
    let event = AuditEvent {
        actor: by.actor().to_owned(),
        action: action.to_owned(),
        target: shorten(target),
        outcome,
        count: 1,
    };
    AuditNote { event, reason, request: by.request().cloned() }
}

/// The first request of which one knows.
fn keep_first(sum: &mut Sum, request: Option<RequestId>) {
    if sum.request.is_none() {
        sum.request = request;
    }
}

/// So much of each meter.
fn words(amounts: &Amounts) -> String {
    let each = amounts.iter().map(|(meter, amount)| format!("{} {amount}", meter.word()));
    each.collect::<Vec<_>>().join(", ")
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(TARGET_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
