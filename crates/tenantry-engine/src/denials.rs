//! Events without a commit of their own in the log they belong to: refusals, an operator's entries
//! into a tenant, in the operator's log the making of a tenant, and reads.
//!
//! They are summed up in memory and written once a second, so that a caller who is refused a
//! thousand times a second costs one audit entry a second, not a thousand commits; reads and refusals
//! by limits once a minute. What cannot be written stays and is tried again. One tenant's flood
//! crowds out nothing of another's log.

mod flush;
#[cfg(test)]
mod tests;

pub(crate) use flush::{flush_before_reading, flush_last, spawn_flusher};

use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tenantry_auth::{Author, RequestId, TenantId};
use tenantry_store::{AuditEvent, AuditNote, AuditOutcome, AuditReason};
use tenantry_types::Amounts;

/// Different events of one actor in one log between two writes; beyond it, targets are no longer
/// told apart.
const ACTOR_EVENTS_MAX: usize = 16;
/// Different events in one log; beyond it, actors are no longer told apart.
const LOG_EVENTS_MAX: usize = 1_024;
/// Of these, in a log that all tenants share, those of one tenant's callers; beyond it, they are no
/// longer told apart from each other.
const TENANT_EVENTS_MAX: usize = LOG_EVENTS_MAX / 16;
/// The same for what was done.
const LOG_DONE_MAX: usize = 4 * LOG_EVENTS_MAX;
/// Different events in all logs, reached only while nothing can be written; beyond it, new ones
/// are counted in the server's log alone.
const EVENTS_MAX: usize = 262_144;
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
}

/// What is to be written to one log.
#[derive(Debug, Default)]
struct Log {
    /// By actor.
    events: HashMap<String, HashMap<What, Sum>>,
    /// Different ones.
    len: usize,
    /// Those of them that were done.
    done: usize,
    /// Those of them that a tenant's callers have caused, in a log that is not the tenant's.
    of_tenants: HashMap<TenantId, usize>,
    /// Of what was taken last, the same.
    taken: HashMap<TenantId, usize>,
    /// Held while events of this log are on their way to the store.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Pending {
    logs: HashMap<TenantId, Log>,
    events: usize,
    dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Pending>);

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
        self.sum((log, Some(whose)), one(by, action, target, outcome), keep_first);
    }

    /// A report of usage that was counted: its entry says how much of each meter all of them had.
    pub(crate) fn reported(
        &self,
        (tenant, by): (TenantId, Author<'_>),
        action: &str,
        amounts: &Amounts,
    ) {
        let note = one(by, action, "", DONE);
        self.sum((tenant, None), note, |sum, request| {
            sum.amounts.add_all(amounts);
            sum.request = sum.request.take().or(request);
        });
    }

    /// [`Denials::note`] with all of the target: for whoever knows that it is not long, and that it
    /// says nothing without its end.
    pub(crate) fn add(&self, tenant: TenantId, note: AuditNote) {
        self.sum((tenant, None), note, keep_first);
    }

    /// The same of what could not be written: its requests were before those that came since.
    fn put_back(&self, tenant: TenantId, note: AuditNote) {
        self.sum((tenant, None), note, |sum, request| {
            if request.is_some() {
                sum.request = request;
            }
        });
    }

    fn sum(
        &self,
        (tenant, whose): (TenantId, Option<TenantId>),
        note: AuditNote,
        first: impl FnOnce(&mut Sum, Option<RequestId>),
    ) {
        let AuditNote { event, reason, request } = note;
        let pending = &mut *self.0.lock();
        let log = pending.logs.entry(tenant).or_default();
        // A flood of refusals hides nothing that was done, and many reads hide no refusal: all
        // tenants share the operator's log.
        let is_done = event.outcome == AuditOutcome::Done;
        let full = if is_done {
            log.done >= LOG_DONE_MAX
        } else {
            log.len.saturating_sub(log.done) >= LOG_EVENTS_MAX
        };
        let AuditEvent { mut actor, action, target, outcome, count } = event;
        let mut what = What { action, target, outcome, reason };
        let known = |log: &Log, actor: &str, what: &What| {
            log.events.get(actor).is_some_and(|events| events.contains_key(what))
        };
        if !known(log, &actor, &what) {
            // What was done was done by somebody with the right to; it is told apart for longer.
            let crowded = what.outcome != AuditOutcome::Done
                && log.events.get(&actor).is_some_and(|e| e.len() >= ACTOR_EVENTS_MAX);
            let of_one = |whose: &TenantId| log.of_tenants.get(whose).copied().unwrap_or(0);
            let loud = whose.filter(|whose| of_one(whose) >= TENANT_EVENTS_MAX);
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
        if !known(log, &actor, &what) {
            if pending.events >= EVENTS_MAX {
                pending.dropped += count;
                return;
            }
            pending.events += 1;
            log.len += 1;
            log.done += usize::from(is_done);
            if let Some(whose) = whose {
                *log.of_tenants.entry(whose).or_default() += 1;
            }
        }
        let sum = log.events.entry(actor).or_default().entry(what).or_default();
        sum.count += count;
        first(sum, request);
    }

    /// Logs with something to write or being written.
    fn logs(&self) -> Vec<TenantId> {
        let mut logs: Vec<_> = self.0.lock().logs.keys().copied().collect();
        logs.sort_unstable();
        logs
    }

    fn turn(&self, tenant: TenantId) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.0.lock().logs.get(&tenant).map(|log| Arc::clone(&log.turn))
    }

    /// What is pending of one log, in a fixed order.
    fn take(&self, tenant: TenantId) -> Vec<AuditNote> {
        let pending = &mut *self.0.lock();
        let Some(log) = pending.logs.get_mut(&tenant) else { return Vec::new() };
        let mut notes = Vec::new();
        for (actor, whats) in std::mem::take(&mut log.events) {
            for (What { action, target, outcome, reason }, sum) in whats {
                let Sum { count, amounts, request } = sum;
                let target = if amounts.is_empty() { target } else { words(&amounts) };
                let actor = actor.clone();
                let event = AuditEvent { actor, action, target, outcome, count };
                notes.push(AuditNote { event, reason, request });
            }
        }
        pending.events -= std::mem::take(&mut log.len);
        log.done = 0;
        log.taken = std::mem::take(&mut log.of_tenants);
        notes.sort_by_cached_key(|AuditNote { event: e, reason, .. }| {
            let outcome = format!("{:?}", e.outcome);
            (e.actor.clone(), e.action.clone(), e.target.clone(), outcome, *reason)
        });
        notes
    }

    /// What was taken last could not be written: it has its tenants' parts of the log again.
    fn not_written(&self, tenant: TenantId) {
        let pending = &mut *self.0.lock();
        let Some(log) = pending.logs.get_mut(&tenant) else { return };
        for (whose, count) in std::mem::take(&mut log.taken) {
            *log.of_tenants.entry(whose).or_default() += count;
        }
    }

    /// Forgets a log that has nothing to write and that nobody else waits for.
    fn forget_idle(&self, tenant: TenantId, turn: &Arc<tokio::sync::Mutex<()>>) {
        let pending = &mut *self.0.lock();
        let idle = pending.logs.get(&tenant).is_some_and(|l| l.events.is_empty())
            && Arc::strong_count(turn) == 2;
        if idle {
            pending.logs.remove(&tenant);
        }
    }

    /// True if there is hardly room for more.
    fn is_crowded(&self) -> bool {
        self.0.lock().events > EVENTS_MAX / 2
    }

    fn dropped(&self) -> u64 {
        std::mem::take(&mut self.0.lock().dropped)
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
