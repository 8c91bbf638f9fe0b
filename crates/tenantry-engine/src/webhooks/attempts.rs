//! Attempts at other tenants, summed up for whoever wants to be told of them.
//!
//! The first one of a principal is told at once, what follows once a minute as a sum: whoever tries
//! for hours costs the operator's endpoints a message a minute.

use crate::engine::Inner;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{EventKind, Fact, Result, TenantName};
use tokio::time::Instant;

/// Principals of one tenant that are told apart, and entries of all tenants.
const OF_TENANT_MAX: usize = 16;
const ENTRIES_MAX: usize = 4_096;
const LOOK_EVERY: Duration = Duration::from_secs(1);
const TOLD_EVERY: Duration = Duration::from_secs(60);
const MANY: &str = "(many)";

/// Since it was told last.
#[derive(Debug, Default)]
struct Sum {
    count: u64,
    /// The tenant that was tried first.
    tried: Option<TenantName>,
    told: Option<Instant>,
}

#[derive(Debug, Default)]
struct Known {
    of: HashMap<TenantId, HashMap<String, Sum>>,
    /// All of them together.
    entries: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<Known>);

impl Attempts {
    /// Counts an attempt of a tenant's principal at another one.
    pub(crate) fn note(&self, own: TenantId, principal: &str, tried: &TenantName) {
        let Known { of, entries } = &mut *self.0.lock();
        let known = of.get(&own);
        let is_new = !known.is_some_and(|principals| principals.contains_key(principal));
        let is_full = is_new && *entries >= ENTRIES_MAX;
        if is_full && known.is_none() {
            // The operator's log says it all the same.
            return;
        }
        let of_tenant = of.entry(own).or_default();
        let is_crowded = is_new && (is_full || of_tenant.len() >= OF_TENANT_MAX);
        let principal = if is_crowded { MANY } else { principal };
        let before = of_tenant.len();
        let sum = of_tenant.entry(principal.to_owned()).or_default();
        sum.count += 1;
        sum.tried.get_or_insert_with(|| tried.clone());
        *entries += of_tenant.len() - before;
    }

    /// What is to be told now. What was told a minute ago, and nothing since, is forgotten.
    fn take(&self, now: Instant) -> Vec<(TenantId, String, u64, Option<TenantName>)> {
        let mut due = Vec::new();
        let Known { of, entries } = &mut *self.0.lock();
        of.retain(|tenant, principals| {
            principals.retain(|principal, sum| {
                if sum.told.is_some_and(|told| now.duration_since(told) < TOLD_EVERY) {
                    return true;
                }
                if sum.count == 0 {
                    return false;
                }
                let (count, tried) = (std::mem::take(&mut sum.count), sum.tried.take());
                sum.told = Some(now);
                due.push((*tenant, principal.clone(), count, tried));
                true
            });
            !principals.is_empty()
        });
        *entries = of.values().map(HashMap::len).sum();
        due
    }

    /// What could not be told is told with what comes.
    fn put_back(&self, tenant: TenantId, principal: &str, count: u64, tried: Option<TenantName>) {
        let mut known = self.0.lock();
        // It is there for a minute.
        let principals = known.of.get_mut(&tenant);
        let Some(sum) = principals.and_then(|all| all.get_mut(principal)) else { return };
        sum.count += count;
        sum.tried = tried.or(sum.tried.take());
    }
}

async fn tell(
    inner: &Inner,
    tenant: TenantId,
    (principal, count, tried): (&str, u64, Option<&TenantName>),
) -> Result<()> {
    let Some(info) = inner.store.tenant_by_id(tenant).await? else { return Ok(()) };
    let mut facts: BTreeMap<&'static str, Fact> =
        [("principal", Fact::from(principal)), ("attempts", Fact::Number(count))].into();
    if let Some(tried) = tried {
        facts.insert("tried", Fact::from(tried.as_str()));
    }
    let scope = inner.authority.system("tell webhooks of attempts at other tenants");
    let kind = EventKind::CrossTenantAttempt;
    inner.store.raise_event(&scope, kind, (tenant, info.name.clone()), facts).await.map(drop)
}

/// Tells for as long as the engine lives.
pub(super) fn spawn(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            for (tenant, principal, count, tried) in inner.outbox.attempts.take(Instant::now()) {
                let told = tell(&inner, tenant, (&principal, count, tried.as_ref())).await;
                if let Err(error) = told {
                    tracing::warn!(?error, "tell webhooks of attempts; tried again");
                    inner.outbox.attempts.put_back(tenant, &principal, count, tried);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> TenantName {
        TenantName::parse(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_attempt_is_told_at_once_and_the_others_each_minute() {
        let (attempts, own) = (Attempts::default(), TenantId::new(1));
        attempts.note(own, "key:a", &name("x"));
        let told = |count, tried| vec![(own, "key:a".to_owned(), count, Some(name(tried)))];
        assert_eq!(attempts.take(Instant::now()), told(1, "x"));
        for tried in ["y", "z", "x"] {
            attempts.note(own, "key:a", &name(tried));
        }
        assert!(attempts.take(Instant::now()).is_empty());
        tokio::time::advance(TOLD_EVERY).await;
        assert_eq!(attempts.take(Instant::now()), told(3, "y"));
        tokio::time::advance(TOLD_EVERY).await;
        assert!(attempts.take(Instant::now()).is_empty());
        assert!(attempts.0.lock().of.is_empty());
    }

    #[test]
    fn a_flood_of_principals_is_bounded_and_crowds_out_nobody_who_was_there() {
        let attempts = Attempts::default();
        attempts.note(TenantId::new(2), "key:b", &name("x"));
        for n in 0..10_000 {
            attempts.note(TenantId::new(1), &format!("user:{n}"), &name("x"));
        }
        let due = attempts.take(Instant::now());
        assert_eq!(due.len(), OF_TENANT_MAX + 2);
        assert_eq!(due.iter().map(|(.., count, _)| count).sum::<u64>(), 10_001);
        for n in 3..100_000 {
            attempts.note(TenantId::new(n), "key:a", &name("x"));
        }
        let known = attempts.0.lock();
        let kept: usize = known.of.values().map(HashMap::len).sum();
        // And one for each tenant that was there when it was full.
        assert!(kept == known.entries && kept <= ENTRIES_MAX + 2, "{kept}");
    }
}
