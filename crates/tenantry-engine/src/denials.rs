//! Events without a commit of their own in the log they belong to: refusals, an operator's entries
//! into a tenant, and in the operator's log the making of a tenant.
//!
//! They are summed up in memory and written once a second, so that a caller who is refused a
//! thousand times a second costs one audit entry a second, not a thousand commits. What cannot be
//! written stays and is tried again. One tenant's flood crowds out nothing of another's log.

use crate::engine::Inner;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::{Author, RequestId, TenantId};
use tenantry_store::{AuditEvent, AuditNote, AuditOutcome, AuditReason};
use tenantry_types::{Error, Location, Result};

/// Different events of one actor in one log between two writes; beyond it, targets are no longer
/// told apart.
const ACTOR_EVENTS_MAX: usize = 16;
/// Different events in one log; beyond it, actors are no longer told apart.
const LOG_EVENTS_MAX: usize = 1_024;
/// Different events in all logs, reached only while nothing can be written; beyond it, new ones
/// are counted in the server's log alone.
const EVENTS_MAX: usize = 262_144;
const TARGET_BYTES_MAX: usize = 200;
const MANY: &str = "(many)";
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// What was done, of which the outcome says all.
pub(crate) const DONE: (AuditOutcome, AuditReason) = (AuditOutcome::Done, AuditReason::None);

/// The action of an attempt at another tenant.
pub(crate) const CROSS_TENANT: &str = "cross_tenant_attempt";

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct What {
    action: String,
    target: String,
    outcome: AuditOutcome,
    reason: AuditReason,
}

/// How often, and the first request of which one knows: a new id each time must not be a new entry
/// each time.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    request: Option<RequestId>,
}

/// What is to be written to one log.
#[derive(Debug, Default)]
struct Log {
    /// By actor.
    events: HashMap<String, HashMap<What, Sum>>,
    /// Different ones.
    len: usize,
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
        let event = AuditEvent {
            actor: by.actor().to_owned(),
            action: action.to_owned(),
            target: shorten(target),
            outcome,
            count: 1,
        };
        let request = by.request().cloned();
        self.add(tenant, AuditNote { event, reason, request });
    }

    /// [`Denials::note`] with all of the target: for whoever knows that it is not long, and that it
    /// says nothing without its end.
    pub(crate) fn add(&self, tenant: TenantId, note: AuditNote) {
        self.sum(tenant, note, |sum, request| {
            if sum.request.is_none() {
                sum.request = request;
            }
        });
    }

    /// The same of what could not be written: its requests were before those that came since.
    fn put_back(&self, tenant: TenantId, note: AuditNote) {
        self.sum(tenant, note, |sum, request| {
            if request.is_some() {
                sum.request = request;
            }
        });
    }

    fn sum(
        &self,
        tenant: TenantId,
        note: AuditNote,
        first: impl FnOnce(&mut Sum, Option<RequestId>),
    ) {
        let AuditNote { event, reason, request } = note;
        let pending = &mut *self.0.lock();
        let log = pending.logs.entry(tenant).or_default();
        let full = log.len >= LOG_EVENTS_MAX;
        let AuditEvent { mut actor, action, target, outcome, count } = event;
        let mut what = What { action, target, outcome, reason };
        let known = |log: &Log, actor: &str, what: &What| {
            log.events.get(actor).is_some_and(|events| events.contains_key(what))
        };
        if !known(log, &actor, &what) {
            // What was done was done by somebody with the right to; it is told apart for longer.
            let crowded = what.outcome != AuditOutcome::Done
                && log.events.get(&actor).is_some_and(|e| e.len() >= ACTOR_EVENTS_MAX);
            if full {
                MANY.clone_into(&mut actor);
            }
            if full || crowded {
                MANY.clone_into(&mut what.target);
            }
        }
        if !known(log, &actor, &what) {
            if pending.events >= EVENTS_MAX {
                pending.dropped += count;
                return;
            }
            pending.events += 1;
            log.len += 1;
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
            for (What { action, target, outcome, reason }, Sum { count, request }) in whats {
                let actor = actor.clone();
                let event = AuditEvent { actor, action, target, outcome, count };
                notes.push(AuditNote { event, reason, request });
            }
        }
        pending.events -= std::mem::take(&mut log.len);
        notes.sort_by_cached_key(|AuditNote { event: e, reason, .. }| {
            let outcome = format!("{:?}", e.outcome);
            (e.actor.clone(), e.action.clone(), e.target.clone(), outcome, *reason)
        });
        notes
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

    fn dropped(&self) -> u64 {
        std::mem::take(&mut self.0.lock().dropped)
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(TARGET_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// Writes what is pending of one log; returns when what was noted before the call is durable.
pub(crate) async fn flush_log(inner: &Inner, tenant: TenantId) -> Result<()> {
    let Some(turn) = inner.denials.turn(tenant) else { return Ok(()) };
    let mine = turn.lock().await;
    let notes = inner.denials.take(tenant);
    let mut outcome = Ok(());
    if !notes.is_empty() {
        warn_operator(tenant, &notes);
        let scope = inner.authority.system("append refusals to audit logs");
        let addressed = notes.iter().map(|note| (tenant, note.clone())).collect();
        outcome = inner.store.append_audit(&scope, addressed).await;
        if outcome.is_err() {
            for note in notes {
                inner.denials.put_back(tenant, note);
            }
        }
    }
    drop(mine);
    inner.denials.forget_idle(tenant, &turn);
    outcome
}

/// [`flush_log`] for whoever is about to read the log. The log is readable even if the store takes
/// no writes; what is pending then stays pending.
pub(crate) async fn flush_before_reading(inner: &Inner, tenant: TenantId) {
    if let Err(error) = flush_log(inner, tenant).await {
        tracing::error!(?error, "append refusals to an audit log; tried again");
    }
}

/// One line of the server's log for each kind of attempt, not for each attempt.
fn warn_operator(tenant: TenantId, notes: &[AuditNote]) {
    if tenant != TenantId::INSTALLATION {
        return;
    }
    for AuditEvent { actor, target, count, .. } in
        notes.iter().map(|note| &note.event).filter(|e| e.action == CROSS_TENANT)
    {
        tracing::warn!(actor, target, count, "cross-tenant attempts refused");
    }
}

/// Writes what is pending of every log. Logs do not wait for each other.
pub(crate) async fn flush(inner: &Arc<Inner>) -> Result<()> {
    flush_each(inner).await.into_iter().next().map_or(Ok(()), |(_, why)| Err(why))
}

/// The last time. What another database than the installation's does not take is lost, which a
/// line says for each: one that is down keeps no server from stopping in order.
pub(crate) async fn flush_last(inner: &Arc<Inner>) -> Result<()> {
    let mut lost: HashMap<Location, (u64, Error)> = HashMap::new();
    let mut outcome = Ok(());
    for (tenant, why) in flush_each(inner).await {
        // With the installation's own database gone nobody knows where a tenant is.
        let known = if outcome.is_ok() { inner.store.tenant_by_id(tenant).await } else { Ok(None) };
        match known.ok().flatten().map(|info| info.location) {
            Some(location) if location != Location::Home => {
                lost.entry(location).or_insert((0, why)).0 += 1;
            }
            _ => outcome = outcome.and(Err(why)),
        }
    }
    for (location, (tenants, why)) in lost {
        tracing::warn!(
            %location, tenants, %why,
            "the last entries of tenants' audit logs are lost: their database takes none"
        );
    }
    outcome
}

/// Writes what is pending of every log; those that could not be written, and why.
async fn flush_each(inner: &Arc<Inner>) -> Vec<(TenantId, Error)> {
    let dropped = inner.denials.dropped();
    if dropped > 0 {
        tracing::error!(dropped, "refusals are missing in audit logs: too many to keep");
    }
    let mut running = tokio::task::JoinSet::new();
    for tenant in inner.denials.logs() {
        let inner = Arc::clone(inner);
        running.spawn(async move { (tenant, flush_log(&inner, tenant).await) });
    }
    let mut failed = Vec::new();
    while let Some(one) = running.join_next().await {
        match one {
            Ok((_, Ok(()))) => {}
            Ok((tenant, Err(why))) => failed.push((tenant, why)),
            Err(why) => {
                let why = Error::internal("append audit").with_source(why);
                failed.push((TenantId::INSTALLATION, why));
            }
        }
    }
    failed
}

/// Writes what is pending once a second for as long as the engine lives.
pub(crate) fn spawn_flusher(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(FLUSH_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            // Not waited for: one tenant whose writer is busy must not delay the next round.
            tokio::spawn(async move {
                if let Err(error) = flush(&inner).await {
                    tracing::error!(?error, "append refusals to audit logs; tried again");
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::ErrorKind;

    const DENIED: (AuditOutcome, AuditReason) =
        (AuditOutcome::Refused(ErrorKind::Denied), AuditReason::Role);
    const A: Author<'static> = Author::work("key:a");

    fn note(denials: &Denials, tenant: u64, actor: &str, target: &str) {
        denials.note((TenantId::new(tenant), Author::work(actor)), "session", target, DENIED);
    }

    fn total(notes: &[AuditNote]) -> u64 {
        notes.iter().map(|note| note.event.count).sum()
    }

    #[test]
    fn a_flood_is_summed() {
        let denials = Denials::default();
        for _ in 0..1_000 {
            note(&denials, 1, "key:a", "x");
        }
        let events = denials.take(TenantId::new(1));
        assert_eq!((events.len(), total(&events)), (1, 1_000));
        assert!(denials.take(TenantId::new(1)).is_empty());
        assert_eq!(denials.0.lock().events, 0);
    }

    #[test]
    fn a_new_id_each_time_is_no_new_entry_and_the_first_stays() {
        let (denials, tenant) = (Denials::default(), TenantId::new(1));
        let ids: Vec<_> = (0..100).map(|n| RequestId::parse(&format!("r-{n}")).unwrap()).collect();
        let refuse = |id: &RequestId, reason| {
            let log = (tenant, Author::new("key:a", Some(id)));
            denials.note(log, "session", "x", (DENIED.0, reason));
        };
        for id in &ids {
            refuse(id, AuditReason::Role);
        }
        refuse(&ids[7], AuditReason::Filter);
        let notes = denials.take(tenant);
        let said: Vec<_> = notes.iter().map(|n| (n.event.count, n.reason, &n.request)).collect();
        let [first, other] = [0, 7].map(|at| Some(ids[at].clone()));
        let expected = [(100, AuditReason::Role, &first), (1, AuditReason::Filter, &other)];
        assert_eq!(said, expected);
        // What could not be written was before what came meanwhile.
        refuse(&ids[9], AuditReason::Role);
        for note in notes {
            denials.put_back(tenant, note);
        }
        let notes = denials.take(tenant);
        assert_eq!((notes[0].event.count, &notes[0].request), (101, &first));
    }

    #[test]
    fn many_targets_are_one_beyond_the_bound_and_none_is_lost() {
        let denials = Denials::default();
        for n in 0..10_000 {
            note(&denials, 1, "key:a", &n.to_string());
        }
        let events = denials.take(TenantId::new(1));
        assert_eq!((events.len(), total(&events)), (ACTOR_EVENTS_MAX + 1, 10_000));
    }

    #[test]
    fn one_tenants_flood_crowds_out_nobody() {
        let denials = Denials::default();
        for n in 0..100_000 {
            note(&denials, 1, &format!("key:{}", n % 5_000), &n.to_string());
        }
        note(&denials, 2, "key:b", "x");
        let quiet = denials.take(TenantId::new(2));
        assert_eq!((quiet[0].event.actor.as_str(), quiet[0].event.target.as_str()), ("key:b", "x"));
        let loud = denials.take(TenantId::new(1));
        assert!(loud.len() <= LOG_EVENTS_MAX + 1, "{}", loud.len());
        assert_eq!(total(&loud), 100_000);
    }

    #[test]
    fn targets_are_cut_at_a_character() {
        let denials = Denials::default();
        note(&denials, 1, "key:a", &"🦀".repeat(100));
        assert_eq!(denials.take(TenantId::new(1))[0].event.target, "🦀".repeat(50));
        note(&denials, 1, "key:a", &format!("x{}", "🦀".repeat(100)));
        assert_eq!(denials.take(TenantId::new(1))[0].event.target.len(), 197);
    }

    fn engine(folder: &std::path::Path) -> crate::Engine {
        let store =
            tenantry_store::Store::open_embedded(tenantry_store::EmbeddedConfig::new(folder));
        crate::Engine::start(crate::EngineConfig {
            store: store.unwrap(),
            authority: tenantry_auth::Authority::new(),
            clock: Arc::new(tenantry_store::SystemClock),
        })
    }

    #[tokio::test]
    async fn what_was_written_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let inner = engine(folder.path()).0;
        inner.denials.note((TenantId::INSTALLATION, A), "session", "x", DENIED);
        // A tenant that is gone has no log to write to.
        inner.denials.note((TenantId::new(99), A), "session", "x", DENIED);
        flush(&inner).await.unwrap();
        assert!(inner.denials.logs().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let inner = engine(folder.path()).0;
        for _ in 0..3 {
            inner.denials.note((TenantId::INSTALLATION, A), "session", "x", DENIED);
        }
        inner.store.close();
        assert!(flush(&inner).await.is_err());
        assert!(flush(&inner).await.is_err());
        let kept = inner.denials.take(TenantId::INSTALLATION);
        assert_eq!((kept.len(), total(&kept)), (1, 3));
    }
}
