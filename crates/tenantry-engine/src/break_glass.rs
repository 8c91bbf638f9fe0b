//! An operator that acts in a tenant and says why.
//!
//! The tenant's log has the reason before anything is read or changed for it; webhooks are told. What
//! says no reason is summed up as ever, or refused where that is wanted.

use crate::{
    Select,
    callers::REASON_HEADER,
    engine::{Engine, Inner},
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tenantry_auth::{Author, Principal, StatedReason, TenantId};
use tenantry_store::{AuditEvent, AuditOutcome, AuditReason, Failing, TenantInfo};
use tenantry_types::{Error, ErrorKind, EventKind, Fact, Resource, Result, TenantName};
use tokio::time::Instant;

/// Different reasons of one principal in one tenant, of all in all, and of one in all, within a minute.
const OF_ONE_MAX: usize = 60;
const ENTRIES_MAX: usize = 65_536;
const OF_PRINCIPAL_MAX: usize = ENTRIES_MAX / 4;
/// Events that wait to be handed to the store.
const UNTOLD_MAX: usize = 4_096;
const WRITTEN_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For what waits when the engine ends.
const LAST_MAX: Duration = Duration::from_secs(5);

/// The action of an operator that says why it acts in a tenant.
const BREAK_GLASS: &str = "operator.break_glass";
/// The action of one that acts in a tenant.
pub(crate) const ACT_AS: &str = "operator.act_as";

/// Held while a reason is written.
type Turn = Arc<tokio::sync::Mutex<Last>>;

/// What became of a reason when it was written last.
#[derive(Debug, Clone, Copy, Default)]
enum Last {
    #[default]
    Untried,
    Written(Instant),
    Failed(Instant),
}

#[derive(Debug, Default)]
struct Known {
    /// By tenant and principal.
    of: HashMap<(TenantId, String), HashMap<StatedReason, Turn>>,
    /// How many there are of each principal, in all tenants.
    by: HashMap<String, usize>,
    /// All of them together.
    entries: usize,
    swept: Option<Instant>,
}

/// What webhooks are to be told.
#[derive(Debug, Clone)]
struct Untold {
    tenant: (TenantId, TenantName),
    principal: String,
    reason: StatedReason,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Untold>,
    dropped: u64,
}

/// Reasons of the last minute.
#[derive(Debug, Default)]
pub(crate) struct Glass {
    required: AtomicBool,
    known: Mutex<Known>,
    queue: Mutex<Queue>,
    /// Of whoever tells: what is told is taken away then.
    telling: tokio::sync::Mutex<()>,
}

impl Known {
    /// Forgets reasons that were written a minute ago or were never, and for which nobody waits.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < LOOK_EVERY) {
            return;
        }
        self.swept = Some(now);
        let is_fresh = |turn: &Turn| {
            Arc::strong_count(turn) > 1 || turn.try_lock().is_ok_and(|last| last.is_written(now))
        };
        self.of.retain(|_, reasons| {
            reasons.retain(|_, turn| is_fresh(turn));
            !reasons.is_empty()
        });
        self.by.clear();
        for ((_, actor), reasons) in &self.of {
            *self.by.entry(actor.clone()).or_default() += reasons.len();
        }
        self.entries = self.by.values().sum();
    }
}

impl Last {
    fn is_written(self, now: Instant) -> bool {
        matches!(self, Self::Written(at) if now.duration_since(at) < WRITTEN_EVERY)
    }
}

impl Glass {
    /// The turn of a reason; fails if there are too many different ones.
    fn turn(&self, tenant: TenantId, actor: &str, reason: &StatedReason) -> Result<Turn> {
        let known = &mut *self.known.lock();
        let whose = (tenant, actor.to_owned());
        let found = known.of.get(&whose).and_then(|reasons| reasons.get(reason));
        if let Some(turn) = found {
            return Ok(Arc::clone(turn));
        }
        known.sweep(Instant::now());
        let of_one = known.of.get(&whose).map_or(0, HashMap::len);
        let of_principal = known.by.get(actor).copied().unwrap_or_default();
        if of_one >= OF_ONE_MAX || of_principal >= OF_PRINCIPAL_MAX {
            let message =
                "too many different reasons within a minute; give what belongs together one";
            return Err(too_many(message));
        }
        if known.entries >= ENTRIES_MAX {
            return Err(too_many("too many reasons of all operators within a minute"));
        }
        known.entries += 1;
        *known.by.entry(actor.to_owned()).or_default() += 1;
        let turn = Turn::default();
        known.of.entry(whose).or_default().insert(reason.clone(), Arc::clone(&turn));
        Ok(turn)
    }

    fn tell(&self, untold: Untold) {
        let mut queue = self.queue.lock();
        if queue.waiting.len() < UNTOLD_MAX {
            queue.waiting.push_back(untold);
        } else {
            queue.dropped += 1;
        }
    }

    fn first_untold(&self) -> Option<Untold> {
        self.queue.lock().waiting.front().cloned()
    }

    fn told_first(&self) {
        self.queue.lock().waiting.pop_front();
    }

    fn dropped(&self) -> u64 {
        std::mem::take(&mut self.queue.lock().dropped)
    }
}

impl Inner {
    /// Has a tenant's log say why an operator comes, once a minute, and returns when that is durable.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the log takes no entry, [`ErrorKind::NotFound`] if it is gone;
    /// [`ErrorKind::LimitExceeded`] if one principal gives too many different reasons, or all do.
    pub(crate) async fn break_glass(
        &self,
        who: &Principal,
        tenant: &TenantInfo,
        reason: &StatedReason,
    ) -> Result<()> {
        let (actor, began) = (who.to_string(), Instant::now());
        let turn = self.glass.turn(tenant.id, &actor, reason)?;
        // Whoever comes meanwhile for the same reason waits for the same entry.
        let mut last = turn.lock().await;
        match *last {
            written if written.is_written(Instant::now()) => return Ok(()),
            // It has waited for an attempt already, and others wait for it.
            Last::Failed(at) if began < at => return Err(unwritten()),
            _ => {}
        }
        let event = AuditEvent {
            actor: actor.clone(),
            action: BREAK_GLASS.to_owned(),
            target: reason.as_str().to_owned(),
            outcome: AuditOutcome::Done,
            count: 1,
        };
        let note = event.by(Author::new(&actor, who.request()));
        let scope = self.authority.system("say in a tenant's audit log why an operator comes");
        match self.store.append_audit(&scope, vec![(tenant.id, note)]).await {
            Ok(true) => *last = Last::Written(Instant::now()),
            // It was erased meanwhile.
            Ok(false) => return Err(Error::not_found(Resource::Tenant, tenant.name.as_str())),
            Err(why) => {
                tracing::warn!(?why, tenant = %tenant.id, "an operator's reason cannot be written");
                *last = Last::Failed(Instant::now());
                return Err(unwritten().with_source(why));
            }
        }
        let tenant = (tenant.id, tenant.name.clone());
        self.glass.tell(Untold { tenant, principal: actor, reason: reason.clone() });
        Ok(())
    }
}

fn unwritten() -> Error {
    let message = "the tenant's audit log does not take the reason now; ask again";
    Error::new(ErrorKind::Unavailable, message)
}

fn too_many(message: &str) -> Error {
    Error::new(ErrorKind::LimitExceeded, message).with_retry_after(WRITTEN_EVERY.as_secs())
}

impl Engine {
    /// Refuses operators from now on who act in a tenant and do not say why.
    pub fn require_reasons(&self) {
        self.0.glass.required.store(true, Ordering::Relaxed);
    }

    /// Asked before the tenant is looked for, so that none is made for whoever is refused.
    pub(crate) fn check_reason(&self, who: &Principal, select: Select<'_>) -> Result<()> {
        let is_silent = who.may_act_as() && !who.is_development() && who.reason().is_none();
        if !is_silent || !self.0.glass.required.load(Ordering::Relaxed) {
            return Ok(());
        }
        let named = match select {
            Select::Named(name) => Some(name),
            Select::Own => who.addressed().or(self.single_tenant()),
        };
        let target = match (named, who.bound_to()) {
            (Some(name), _) => name.as_str().to_owned(),
            // A token can name the only tenant that it opens.
            (None, Some(own)) => format!("tenant {own}"),
            // Whoever names none is told that.
            (None, None) => return Ok(()),
        };
        let error = Error::denied(format!(
            "an operator acts in a tenant here only if it states a reason (header {REASON_HEADER})"
        ));
        let actor = who.to_string();
        let log = (TenantId::INSTALLATION, Author::new(&actor, who.request()));
        self.0.refuse(log, ACT_AS, &target, (&error, AuditReason::NoReason));
        Err(error)
    }
}

async fn tell_all(inner: &Inner) -> Result<()> {
    let _telling = inner.glass.telling.lock().await;
    while let Some(Untold { tenant, principal, reason }) = inner.glass.first_untold() {
        let facts = [
            ("principal", Fact::from(principal.as_str())),
            ("reason", Fact::from(reason.as_str())),
        ];
        let scope = inner.authority.system("tell webhooks why an operator came");
        inner.store.raise_event(&scope, EventKind::BreakGlass, tenant, facts.into()).await?;
        inner.glass.told_first();
    }
    Ok(())
}

/// Tells what waits, before the store is closed. What was not told then is lost: logs have it.
pub(crate) async fn tell_last(inner: &Inner) {
    let told = tokio::time::timeout(LAST_MAX, tell_all(inner)).await;
    let failed = told.ok().and_then(Result::err);
    let left = inner.glass.queue.lock().waiting.len();
    if left > 0 {
        tracing::error!(left, ?failed, "webhooks are not told why operators came; logs have it");
    }
}

/// Tells for as long as the engine lives.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    let failing = Failing::default();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            match tell_all(&inner).await {
                Ok(()) => failing.well(),
                Err(error) => {
                    if let Some(tried) = failing.failed() {
                        tracing::warn!(
                            ?error,
                            tried,
                            "tell webhooks why operators came; tried again"
                        );
                    }
                }
            }
            let dropped = inner.glass.dropped();
            if dropped > 0 {
                tracing::error!(dropped, "webhooks are not told why operators came; logs have it");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TenantId = TenantId::new(1);

    fn reason(text: &str) -> StatedReason {
        StatedReason::parse(text).unwrap()
    }

    async fn write(glass: &Glass, tenant: TenantId, text: &str) -> bool {
        let Ok(turn) = glass.turn(tenant, "operator:a", &reason(text)) else { return false };
        *turn.lock().await = Last::Written(Instant::now());
        true
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_counts_for_a_minute_and_different_ones_are_bounded() {
        let glass = Glass::default();
        for n in 0..OF_ONE_MAX {
            assert!(write(&glass, A, &n.to_string()).await);
        }
        assert!(!write(&glass, A, "one more").await);
        // It crowds out no reason that was given, and no other tenant.
        assert!(write(&glass, A, "0").await && write(&glass, TenantId::new(2), "one more").await);
        let turn = glass.turn(A, "operator:a", &reason("1")).unwrap();
        assert!(turn.lock().await.is_written(Instant::now()));
        tokio::time::advance(WRITTEN_EVERY).await;
        assert!(!turn.lock().await.is_written(Instant::now()));
        assert!(write(&glass, A, "one more").await);
        // What is waited for stays.
        let known = glass.known.lock();
        assert_eq!((known.entries, known.of[&(A, "operator:a".to_owned())].len()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_principal_takes_a_quarter_of_the_room_and_all_are_told_apart_from_one() {
        let glass = Glass::default();
        let turn = |actor: &str, tenant: usize| {
            let tenant = TenantId::new(1 + u64::try_from(tenant).unwrap());
            glass.turn(tenant, actor, &reason("a")).map_err(|why| why.to_string())
        };
        let mut held = Vec::new();
        for actor in ["operator:a", "operator:b", "operator:c", "operator:d"] {
            for tenant in 0..OF_PRINCIPAL_MAX {
                held.push(turn(actor, tenant).unwrap());
            }
            let why = turn(actor, OF_PRINCIPAL_MAX).unwrap_err();
            assert!(why.contains("too many different reasons"), "{why}");
            // What it gave already goes on.
            turn(actor, 0).unwrap();
        }
        let why = turn("operator:e", 0).unwrap_err();
        assert!(why.contains("of all operators"), "{why}");
        drop(held);
        tokio::time::advance(LOOK_EVERY).await;
        turn("operator:a", 0).unwrap();
        turn("operator:e", 0).unwrap();
    }

    #[tokio::test]
    async fn a_reason_that_was_not_written_takes_no_room() {
        let glass = Glass::default();
        assert!(glass.turn(A, "operator:a", &reason("a")).is_ok());
        glass.known.lock().sweep(Instant::now() + LOOK_EVERY);
        assert!(glass.known.lock().of.is_empty());
    }

    #[test]
    fn what_is_not_told_is_bounded_and_counted() {
        let glass = Glass::default();
        let untold = Untold {
            tenant: (A, TenantName::parse("a").unwrap()),
            principal: "operator:a".to_owned(),
            reason: reason("a"),
        };
        for _ in 0..UNTOLD_MAX + 3 {
            glass.tell(untold.clone());
        }
        assert_eq!(glass.queue.lock().waiting.len(), UNTOLD_MAX);
        assert_eq!((glass.dropped(), glass.dropped()), (3, 0));
        glass.told_first();
        assert_eq!(glass.queue.lock().waiting.len(), UNTOLD_MAX - 1);
    }

    /// An engine with a tenant, and an operator.
    async fn world(folder: &std::path::Path) -> (Engine, Principal, TenantInfo) {
        let store =
            tenantry_store::Store::open_embedded(tenantry_store::EmbeddedConfig::new(folder));
        let engine = Engine::start(crate::EngineConfig {
            store: store.unwrap(),
            authority: tenantry_auth::Authority::new(),
            clock: Arc::new(tenantry_store::SystemClock),
        });
        let who = engine.local_operator().await.unwrap();
        let spec = tenantry_types::TenantSpec::new(TenantName::parse("a").unwrap());
        let info = engine.operator(&who).unwrap().create_tenant(&spec).await.unwrap();
        (engine, who, info)
    }

    #[tokio::test]
    async fn whoever_waits_for_an_attempt_that_fails_makes_none_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, who, info) = world(folder.path()).await;
        let come = async || engine.0.break_glass(&who, &info, &reason("a")).await;
        let turn = engine.0.glass.turn(info.id, &who.to_string(), &reason("a")).unwrap();
        let mut last = turn.lock().await;
        let (waited, ()) = tokio::join!(come(), async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            *last = Last::Failed(Instant::now());
            drop(last);
        });
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::Unavailable);
        assert!(engine.0.glass.queue.lock().waiting.is_empty());
        // Whoever comes later tries again.
        come().await.unwrap();
        assert_eq!(engine.0.glass.queue.lock().waiting.len(), 1);
    }

    #[tokio::test]
    async fn what_waits_is_told_before_the_store_closes() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, who, info) = world(folder.path()).await;
        engine.0.break_glass(&who, &info, &reason("a")).await.unwrap();
        assert_eq!(engine.0.glass.queue.lock().waiting.len(), 1);
        engine.shutdown().await.unwrap();
        assert!(engine.0.glass.queue.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn what_no_log_has_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, who, info) = world(folder.path()).await;
        engine.operator(&who).unwrap().delete_tenant(&info.name).await.unwrap();
        let gone = engine.0.break_glass(&who, &info, &reason("a")).await;
        assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
        assert!(engine.0.glass.queue.lock().waiting.is_empty());
    }

    #[tokio::test]
    async fn a_reason_that_cannot_be_written_lets_nobody_in() {
        let folder = tempfile::tempdir().unwrap();
        let (engine, who, info) = world(folder.path()).await;
        let come = async |text: &str| engine.0.break_glass(&who, &info, &reason(text)).await;
        come("a").await.unwrap();
        engine.0.store.close();
        for _ in 0..2 {
            assert_eq!(come("b").await.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        // What was written is not written again, and what was not is not told.
        come("a").await.unwrap();
        assert_eq!(engine.0.glass.queue.lock().waiting.len(), 1);
    }
}
