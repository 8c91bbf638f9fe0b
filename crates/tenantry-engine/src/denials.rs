//! Events without a commit of their own in the log they belong to: refusals, an operator's entries
//! into a tenant, in the operator's log the making of a tenant, and reads.
//!
//! They are summed up in memory and written once a second, so that a caller who is refused a
//! thousand times a second costs one audit entry a second, not a thousand commits; reads and refusals
//! by limits once a minute. What cannot be written stays and is tried again. One tenant's flood
//! crowds out nothing of another's log.

mod flush;

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

#[cfg(test)]
mod tests {
    use super::{
        flush::{close_minute, flush},
        *,
    };
    use crate::Select;
    use std::num::NonZeroU32;
    use tenantry_auth::{Admin, Restriction, Role};
    use tenantry_store::NewKey;
    use tenantry_types::{
        Allowance, ErrorKind, Limits, Meter, PlanName, Rate, Rates, TenantName, TenantPlan,
        TenantSpec,
    };

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
    fn one_tenant_has_its_part_of_the_log_that_all_share() {
        let denials = Denials::default();
        let attempt = |tenant: u64, actor: &str, target: &str| {
            let log = (TenantId::INSTALLATION, Author::work(actor));
            denials.note_of(TenantId::new(tenant), log, CROSS_TENANT, (target, DENIED));
        };
        for n in 0..100_000 {
            attempt(1, &format!("key:{}", n % 5_000), &n.to_string());
        }
        attempt(2, "key:b", "x");
        let notes = denials.take(TenantId::INSTALLATION);
        assert_eq!((notes.len(), total(&notes)), (TENANT_EVENTS_MAX + 2, 100_001));
        let of = |actor: &str| notes.iter().find(|note| note.event.actor == actor).unwrap();
        assert_eq!(of("key:b").event.target, "x");
        assert_eq!(of(MANY).event.target, "(many) of tenant 1");
        attempt(1, "key:a", "y");
        assert_eq!(denials.take(TenantId::INSTALLATION)[0].event.actor, "key:a");
    }

    #[test]
    fn one_tenant_has_its_part_also_while_nothing_can_be_written() {
        let denials = Denials::default();
        let log = TenantId::INSTALLATION;
        for round in 0..40 {
            for n in 0..100 {
                let (actor, target) = (format!("key:{round}-{n}"), n.to_string());
                let by = (log, Author::work(&actor));
                denials.note_of(TenantId::new(1), by, CROSS_TENANT, (&target, DENIED));
            }
            for note in denials.take(log) {
                denials.put_back(log, note);
            }
            denials.not_written(log);
        }
        let by = (log, Author::work("key:b"));
        denials.note_of(TenantId::new(2), by, CROSS_TENANT, ("x", DENIED));
        let notes = denials.take(log);
        assert_eq!((notes.len(), total(&notes)), (TENANT_EVENTS_MAX + 2, 4_001));
        assert!(notes.iter().any(|note| note.event.actor == "key:b"));
    }

    #[test]
    fn a_flood_hides_nothing_that_was_done() {
        let denials = Denials::default();
        for n in 0..100_000 {
            note(&denials, 1, &format!("key:{}", n % 5_000), &n.to_string());
        }
        denials.note((TenantId::new(1), A), "tenant.create", "acme", DONE);
        let notes = denials.take(TenantId::new(1));
        let done = notes.iter().find(|note| note.event.outcome == AuditOutcome::Done).unwrap();
        assert_eq!((done.event.actor.as_str(), done.event.target.as_str()), ("key:a", "acme"));
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
    async fn reads_are_one_entry_for_each_minute_principal_and_collection() {
        let folder = tempfile::tempdir().unwrap();
        let inner = engine(folder.path()).0;
        let tenant = TenantId::new(1);
        for (actor, collection) in [("key:a", "c"), ("key:a", "c"), ("key:a", "d"), ("key:b", "c")]
        {
            inner.reads.note((tenant, Author::work(actor)), READ, collection, DONE);
        }
        assert!(inner.denials.logs().is_empty());
        close_minute(&inner);
        let said: Vec<_> = inner.denials.take(tenant).into_iter().map(|note| note.event).collect();
        let said: Vec<_> =
            said.iter().map(|e| (e.actor.as_str(), e.target.as_str(), e.count)).collect();
        assert_eq!(said, [("key:a", "c", 2), ("key:a", "d", 1), ("key:b", "c", 1)]);
        assert!(inner.reads.logs().is_empty());
        close_minute(&inner);
        assert!(inner.denials.take(tenant).is_empty());
    }

    #[tokio::test]
    async fn refusals_by_limits_are_one_entry_for_each_minute_principal_and_limit() {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path());
        let operator = engine.local_operator().await.unwrap();
        let (name, plan) = (TenantName::parse("a").unwrap(), PlanName::parse("p").unwrap());
        let allowance = Allowance {
            limits: Limits { keys: 1, ..Limits::default() },
            rates: Rates { hour: NonZeroU32::new(1).map(Rate::new), ..Rates::default() },
            ..Allowance::default()
        };
        let manages = engine.operator(&operator).unwrap();
        manages.put_plan(&TenantPlan::new(plan.clone(), allowance)).await.unwrap();
        let spec = TenantSpec { plan: Some(plan), ..TenantSpec::new(name.clone()) };
        manages.create_tenant(&spec).await.unwrap();
        let session = engine.session::<Admin>(&operator, Select::Named(&name)).await.unwrap();
        let make = async || {
            let (restriction, label) = (Restriction::default(), "k".to_owned());
            let new = NewKey { role: Role::Admin, restriction, label, expires_at: None };
            session.create_key(new).await
        };
        let (_, key) = make().await.unwrap();
        for _ in 0..2 {
            assert_eq!(make().await.unwrap_err().kind(), ErrorKind::LimitExceeded);
        }
        let who = engine.authenticate(Some(&key)).await.unwrap();
        for n in 0..4 {
            assert_eq!(engine.admit(&who).await.unwrap().check().is_ok(), n == 0);
        }
        close_minute(&engine.0);
        let log = session.audit(0, 1_000).await.unwrap();
        let refused = log.iter().filter(|entry| entry.event.outcome != AuditOutcome::Done);
        let said: Vec<_> = refused
            .map(|entry| {
                let (event, reason) = (&entry.event, entry.bound.as_ref().unwrap().reason);
                assert_eq!(event.outcome.word(), "limit_exceeded");
                let (actor, action) = (event.actor.as_str(), event.action.as_str());
                (actor, action, event.target.as_str(), reason.word(), event.count)
            })
            .collect();
        let key = who.to_string();
        let expected = [
            (key.as_str(), "request", "", "requests_per_hour", 3),
            ("operator:local", "key.create", "k", "keys", 2),
        ];
        assert_eq!(said, expected);
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

    #[test]
    fn reports_are_summed_up_by_meter() {
        let (denials, tenant) = (Denials::default(), TenantId::new(7));
        for (meter, amount) in [(Meter::Messages, 1), (Meter::Tokens, 40), (Meter::Messages, 2)] {
            let by = (tenant, Author::work("operator"));
            denials.reported(by, "usage.report", &Amounts::of(meter, amount));
        }
        // One that was counted before says nothing else.
        denials.reported((tenant, Author::work("operator")), "usage.report", &Amounts::default());
        let notes = denials.take(tenant);
        let told: Vec<_> =
            notes.iter().map(|note| (note.event.target.as_str(), note.event.count)).collect();
        assert_eq!(told, [("tokens 40, messages 3", 4)]);
        // What could not be written stays what it was.
        denials.put_back(tenant, notes[0].clone());
        denials.reported((tenant, Author::work("o")), "usage.report", &Amounts::default());
        assert!(denials.take(tenant).iter().any(|note| note.event == notes[0].event));
    }
}
