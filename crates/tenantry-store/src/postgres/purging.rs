//! What the purger does beside its notes, and what it has failed at.
//!
//! What concerns another database than the root is done in tasks of their own, few at once: one
//! that hangs keeps no other waiting for long. Whatever fails is tried again, later each time, and
//! is told when it fails first and then ever more seldom.

use super::{cluster::Shared, root::Root};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use tokio::sync::Semaphore;

/// Databases that are worked in at once.
const AT_ONCE: usize = 4;
/// How long one of them may keep others waiting.
pub(super) const TURN: Duration = Duration::from_secs(300);
/// After a failure, and twice that after the next one.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// A tenant, and one of its collections, or 0 for all that is of the tenant.
pub(super) type Debt = (TenantId, u32);

pub(super) struct Purging {
    known: Mutex<Known>,
    turns: Semaphore,
}

#[derive(Default)]
struct Known {
    failed: HashMap<Debt, Failed>,
    /// Tenants that a task works for.
    running: HashSet<TenantId>,
    /// Tenants that are gone and whose places are removed already.
    dropped: HashSet<TenantId>,
}

struct Failed {
    times: u32,
    due: Instant,
}

impl Purging {
    pub(super) fn new() -> Self {
        Self { known: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }

    /// True if it may be worked on: nobody does, and it has not just failed.
    pub(super) fn is_due(&self, debt: Debt) -> bool {
        let known = self.known.lock();
        let may = known.failed.get(&debt).is_none_or(|failed| failed.due <= Instant::now());
        may && !(debt.1 == 0 && known.running.contains(&debt.0))
    }

    /// Something happened that it may have waited for.
    pub(super) fn hurry(&self, tenant: TenantId) {
        if let Some(failed) = self.known.lock().failed.get_mut(&(tenant, 0)) {
            failed.due = Instant::now();
        }
    }

    pub(super) fn paid(&self, debt: Debt) {
        let mut known = self.known.lock();
        known.failed.remove(&debt);
        if debt.1 == 0 {
            known.dropped.remove(&debt.0);
        }
    }

    pub(super) fn failed(&self, debt: Debt, why: &Error) {
        let mut known = self.known.lock();
        let now = Instant::now();
        // What another node has paid meanwhile.
        known.failed.retain(|_, failed| now < failed.due + 2 * PAUSE_MAX);
        let failed = known.failed.entry(debt).or_insert(Failed { times: 0, due: now });
        failed.times = failed.times.saturating_add(1);
        let pause = PAUSE.saturating_mul(1 << (failed.times - 1).min(10)).min(PAUSE_MAX);
        failed.due = now + pause;
        let ((tenant, collection), times) = (debt, failed.times);
        drop(known);
        if times.is_power_of_two() {
            tracing::warn!(
                %tenant, collection, times, next = ?pause, ?why,
                "purge of deleted data; it will be tried again"
            );
        } else {
            tracing::debug!(%tenant, collection, times, ?why, "purge of deleted data");
        }
    }

    /// True if removing what this tenant, which is gone, has left was tried and failed.
    pub(super) fn has_failed(&self, tenant: TenantId) -> bool {
        self.known.lock().failed.contains_key(&(tenant, 0))
    }

    /// True if the place of this tenant, which is gone, was removed.
    pub(super) fn is_dropped(&self, tenant: TenantId) -> bool {
        self.known.lock().dropped.contains(&tenant)
    }

    /// Forgets all places that were removed but these, whose notes are still there.
    pub(super) fn keep(&self, tenants: &HashSet<TenantId>) {
        self.known.lock().dropped.retain(|tenant| tenants.contains(tenant));
    }
}

/// What a task did for a tenant.
pub(super) enum Did {
    /// Removed the place of one that is gone.
    Dropped,
    /// All that its place had notes of.
    Paid,
    /// What it could in [`TURN`].
    More,
}

/// Works for a tenant beside the purger, unless a task does so.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    tenant: TenantId,
    work: impl Future<Output = Result<Did>> + Send + 'static,
) {
    if !shared.purging.known.lock().running.insert(tenant) {
        return;
    }
    let running = Running { shared: Arc::clone(shared), tenant };
    tokio::spawn(async move {
        let purging = &running.shared.purging;
        let Ok(_turn) = purging.turns.acquire().await else { return };
        if running.shared.is_closed() {
            return;
        }
        match work.await {
            Ok(Did::More) => {
                tracing::info!(%tenant, "purge of deleted data: there is more; others are next");
            }
            Ok(did) => {
                let mut known = purging.known.lock();
                known.failed.remove(&(tenant, 0));
                if matches!(did, Did::Dropped) {
                    known.dropped.insert(tenant);
                }
            }
            Err(why) => purging.failed((tenant, 0), &why),
        }
    });
}

/// A task that works for a tenant, however it ends.
struct Running {
    shared: Arc<Shared>,
    tenant: TenantId,
}

impl Drop for Running {
    fn drop(&mut self) {
        let purging = &self.shared.purging;
        if std::thread::panicking() {
            purging.failed((self.tenant, 0), &Error::internal("a task of the purger died"));
        }
        purging.known.lock().running.remove(&self.tenant);
        self.shared.purge.notify_one();
        if let Root::Elsewhere(elsewhere) = &self.shared.root {
            elsewhere.place_removed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_later_each_time_and_within_bounds() {
        let purging = Purging::new();
        let (debt, why) = ((TenantId::new(7), 0), Error::internal("it fails"));
        assert!(purging.is_due(debt));
        let mut last = Duration::ZERO;
        for _ in 0..40 {
            purging.failed(debt, &why);
            assert!(!purging.is_due(debt) && purging.is_due((TenantId::new(8), 0)));
            assert!(purging.has_failed(debt.0) && !purging.has_failed(TenantId::new(8)));
            let due = purging.known.lock().failed[&debt].due;
            let pause = due.saturating_duration_since(Instant::now());
            assert!(pause + PAUSE / 2 >= last && pause <= PAUSE_MAX, "{pause:?}");
            last = pause;
        }
        assert!(last > PAUSE_MAX / 2);
        purging.hurry(debt.0);
        assert!(purging.is_due(debt));
        purging.paid(debt);
        assert!(purging.known.lock().failed.is_empty());
    }
}
