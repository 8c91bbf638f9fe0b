//! Whether a source is asked. One that has failed is not, by any request, until it has answered a
//! question that no request waits for.

use super::{Inner, LeaseAsk};
use parking_lot::Mutex;
use std::{
    num::NonZeroU32,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Rate, Rates};
use tokio::time::{Instant, sleep};

/// How long it is left alone at first, and at most: each time twice as long.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A source that fails so soon after it answered is left alone longer than the last time.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// How long an answer may take that no request waits for: there may be no connection yet.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct Times {
    pause: Duration,
    closed_at: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Circuit {
    is_open: AtomicBool,
    failures: AtomicU64,
    times: Mutex<Times>,
}

impl Circuit {
    pub(super) fn is_closed(&self) -> bool {
        !self.is_open.load(Ordering::Acquire)
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How long the source is left alone.
    pub(super) fn pause(&self) -> Duration {
        self.times.lock().pause
    }

    /// Notes a failure; true if somebody must now look when the source is back.
    pub(super) fn open(&self, why: &str) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let is_new = !self.is_open.swap(true, Ordering::AcqRel);
        if is_new {
            let times = &mut *self.times.lock();
            let is_steady = times.closed_at.is_none_or(|at| at.elapsed() >= STEADY_AFTER);
            times.pause = if is_steady { PAUSE.0 } else { longer(times.pause) };
            tracing::warn!(%why, "rates are not shared: each node goes on as the plans say");
        }
        is_new
    }

    fn close(&self) {
        self.times.lock().closed_at = Some(Instant::now());
        self.is_open.store(false, Ordering::Release);
        tracing::info!("rates are shared again");
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(PAUSE.0, PAUSE.1)
}

/// Looks when the source is back; it ends with whoever shares.
pub(super) fn spawn_probe(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    let mut pause = inner.circuit.pause();
    tokio::spawn(async move {
        loop {
            sleep(pause).await;
            let Some(inner) = weak.upgrade() else { return };
            match probe(&inner).await {
                Ok(()) => return inner.circuit.close(),
                Err(why) => tracing::debug!(%why, "rates are still not shared"),
            }
            pause = longer(pause);
            inner.circuit.times.lock().pause = pause;
        }
    });
}

/// Takes one request of the installation, which has no rates. The first time it may have to connect,
/// the second time it must be as fast as requests want it.
async fn probe(inner: &Inner) -> Result<(), String> {
    let most = NonZeroU32::new(1_000_000).map(Rate::new);
    let rates = Rates { second: most, ..Rates::default() };
    let ask = LeaseAsk { tenant: TenantId::INSTALLATION, rates, wanted: 1 };
    let within = inner.sharing.within;
    for within in [within.max(PROBE_WITHIN), within] {
        inner.answer(ask, within).await?;
    }
    Ok(())
}
