//! How much all tenants have together, and all that metrics do not tell apart. It is counted while
//! somebody reads metrics: from what the root has noted of each tenant when its usage was added up, so
//! no tenant is opened, and no log has to say that it was looked at. After each count usage of some
//! tenants is added up: of those without a note, and of a few in turn whose note may be wrong.
//!
//! The more tenants there are, the longer a count lasts: it reads a page and rests for longer than that
//! took, and from its beginning to the next one's there is a minute at least.

use crate::{Operator, engine::Inner};
use parking_lot::Mutex;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_store::{Census, KeptSum, Lap};
use tenantry_types::Result;
use tokio::{
    sync::OwnedMutexGuard,
    time::{Instant, timeout, timeout_at},
};

const EVERY: Duration = Duration::from_secs(60);
/// Between two counts, however long one takes.
const PAUSE: Duration = Duration::from_secs(15);
/// So many times as long as a page took others have the root.
const RESTS: u32 = 4;
/// How often a page is read again that could not be read, and when.
const RETRIES: u32 = 3;
const RETRY: Duration = Duration::from_secs(1);
/// How long who reads metrics waits for a count, and how long it then adds up usage of tenants of which
/// nothing was noted, and of those in turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all tenants have, as it was counted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllSizes {
    /// What all have.
    pub total: KeptSum,
    /// What all have that are not told apart.
    pub others: KeptSum,
    /// Tenants of which something is not known, and not in it.
    pub uncounted: u64,
    /// How long ago that count began.
    pub age: Duration,
}

/// Whoever holds it counts.
#[derive(Debug, Default)]
struct Turn {
    /// When the next count may begin.
    next: Option<Instant>,
    /// Where naming tenants goes on of which nothing was noted, and those with a note.
    after: (Option<TenantId>, Option<TenantId>),
}

/// The count that is under way, and the last one.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    turn: Arc<tokio::sync::Mutex<Turn>>,
    last: Mutex<Option<(Instant, Arc<Census>)>>,
}

impl Counts {
    /// Whoever reads metrics next has all counted anew, however long ago that was.
    pub(crate) async fn expire(&self) {
        self.turn.lock().await.next = None;
    }
}

impl Operator {
    /// How much all tenants have together, as of a few minutes ago at most unless there are very many;
    /// none before that was counted for the first time. Those that are told apart are given.
    pub async fn sizes_of_all(&self, apart: &[TenantId]) -> Option<AllSizes> {
        let counts = &self.inner.counts;
        if let Ok(turn) = Arc::clone(&counts.turn).try_lock_owned()
            && turn.next.is_none_or(|next| next <= Instant::now())
        {
            let counting = count(Arc::downgrade(&self.inner), turn, apart.to_vec());
            // It goes on if it takes longer, or nobody waits any more.
            let _ = timeout(PATIENCE, tokio::spawn(counting)).await;
        }
        let (begun, census) = counts.last.lock().clone()?;
        Some(AllSizes {
            total: census.total,
            others: census.others(apart),
            uncounted: census.uncounted,
            age: begun.elapsed(),
        })
    }
}

async fn count(inner: Weak<Inner>, mut turn: OwnedMutexGuard<Turn>, apart: Vec<TenantId>) {
    let begun = Instant::now();
    match count_all(&inner, Census::new(&apart, turn.after)).await {
        Ok(Some(census)) => {
            let census = Arc::new(census);
            let Some(inner) = inner.upgrade() else { return };
            *inner.counts.last.lock() = Some((begun, Arc::clone(&census)));
            turn.after =
                (note_some(&inner, &census.unnoted).await, note_some(&inner, &census.noted).await);
        }
        Ok(None) => {}
        // What was counted before stays, and gets older.
        Err(error) => tracing::warn!(?error, "count what all tenants have; tried again"),
    }
    turn.next = Some(next(begun, Instant::now()));
}

/// When the next count may begin after one that took so long.
fn next(begun: Instant, ended: Instant) -> Instant {
    (begun + EVERY).max(ended + PAUSE)
}

/// None if the engine has ended meanwhile.
async fn count_all(inner: &Weak<Inner>, mut census: Census) -> Result<Option<Census>> {
    let mut failures = 0;
    loop {
        let begun = Instant::now();
        let Some(inner) = inner.upgrade() else { return Ok(None) };
        let scope = inner.authority.system("count what all tenants have");
        let page = inner.store.count_on(&scope, &mut census).await;
        drop(inner);
        let Some(rest) = rest(page, begun.elapsed(), &mut failures)? else {
            return Ok(Some(census));
        };
        tokio::time::sleep(rest).await;
    }
}

/// How long the root is left to others after a page that took so long; none after the last one.
fn rest(page: Result<bool>, took: Duration, failures: &mut u32) -> Result<Option<Duration>> {
    match page {
        Ok(is_done) => {
            *failures = 0;
            Ok((!is_done).then_some(took * RESTS))
        }
        Err(error) if *failures < RETRIES => {
            tracing::debug!(?error, "count what all tenants have; the page is read again");
            *failures += 1;
            Ok(Some(RETRY))
        }
        Err(error) => Err(error),
    }
}

/// Adds up the usage of some tenants, which notes what they have; where the next lap goes on, which is
/// behind one that does not answer.
async fn note_some(inner: &Inner, lap: &Lap) -> Option<TenantId> {
    let deadline = Instant::now() + PATIENCE;
    let scope = inner.authority.system("note what tenants have");
    let mut came_to = None;
    for tenant in lap.tenants() {
        came_to = Some(*tenant);
        match timeout_at(deadline, inner.store.collect_usage(&scope, *tenant)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(?error, %tenant, "note what a tenant has"),
            Err(_) => break,
        }
    }
    lap.goes_on(came_to)
}

#[cfg(test)]
mod tests;
