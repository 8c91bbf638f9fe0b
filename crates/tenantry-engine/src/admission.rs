//! Whether a request is served now: asked once for each, of the tenant whose credential it
//! presents, before it waits for a turn. An operator's requests are the installation's, which has
//! no rates.

use crate::{
    Engine,
    engine::Inner,
    limiter::{Admitted, Left, Limiter, Refused, told},
};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{Principal, TenantId};
use tenantry_types::{Allowance, Error, ErrorKind, Rates, Result};

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Who asks how often, and since when that is counted.
#[derive(Debug)]
pub(crate) struct Gate {
    limiter: Limiter,
    since: Instant,
    refused: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self { limiter: Limiter::default(), since: Instant::now(), refused: AtomicU64::new(0) }
    }
}

impl Gate {
    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Requests that were refused since start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Tenants that have used something of their rates.
    pub(crate) fn tenants(&self) -> usize {
        self.limiter.tenants()
    }

    fn admit(&self, tenant: TenantId, rates: &Rates) -> Outcome {
        let now = self.now();
        match self.limiter.admit(tenant, rates, now) {
            Ok(admitted) => Outcome { left: admitted.left().collect(), admitted: Ok(admitted) },
            Err(refused) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let left = self.limiter.left(tenant, rates, now);
                Outcome { left, admitted: Err((refused, *rates)) }
            }
        }
    }
}

#[derive(Debug)]
struct Outcome {
    left: Vec<Left>,
    admitted: std::result::Result<Admitted, (Refused, Rates)>,
}

/// Whether one request is served, and what is left of its tenant's rates. Until it is dropped, the
/// request is one of those that the tenant may have under way.
#[derive(Debug)]
#[must_use = "dropping it says that the request is over"]
pub struct Admission {
    pub(crate) tenant: TenantId,
    pub(crate) weight: u32,
    outcome: Outcome,
}

impl Admission {
    /// What is left of each rate that the tenant has, the shortest first, this request counted.
    pub fn left(&self) -> &[Left] {
        &self.outcome.left
    }

    /// The names and values of headers that say what is left; none if the tenant has no rates.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        told::headers(self.left()).into_iter().flatten()
    }

    /// [`ErrorKind::LimitExceeded`] with the seconds to wait if the request is not served.
    pub fn check(&self) -> Result<()> {
        let Err((refused, rates)) = &self.outcome.admitted else { return Ok(()) };
        let (message, seconds) = match *refused {
            Refused::Rate { period, wait } => {
                let seconds = wait.div_ceil(1_000_000_000).max(1);
                let most = rates.rate(period).map_or(0, |rate| rate.amount.get());
                let message = format!(
                    "this tenant may make {most} requests a {}; the next one is served in \
                     {seconds} s",
                    period.word()
                );
                (message, seconds)
            }
            Refused::Concurrent(most) => {
                let message = format!(
                    "this tenant may have {most} requests under way at the same time; wait for \
                     one of them"
                );
                (message, 1)
            }
        };
        Err(Error::new(ErrorKind::LimitExceeded, message).with_retry_after(seconds))
    }
}

impl Engine {
    /// Asks whether a request of `who` is served now. Must follow [`Engine::authenticate`], once
    /// for each request, and precede all work on it; what it says is kept until the answer is made.
    pub async fn admit(&self, who: &Principal) -> Result<Admission> {
        let (tenant, allowance) = self.payer(who).await?;
        let outcome = self.0.gate.admit(tenant, &allowance.rates);
        Ok(Admission { tenant, weight: allowance.weight.into(), outcome })
    }

    /// In whose turns a caller's work is done, and what that tenant may. An operator's work is the
    /// installation's, whichever tenant it acts in.
    pub(crate) async fn payer(&self, who: &Principal) -> Result<(TenantId, Allowance)> {
        let Some(tenant) = who.tenant() else {
            return Ok((TenantId::INSTALLATION, Allowance::default()));
        };
        let gone = || Allowance { weight: 1, ..Allowance::default() };
        Ok((tenant, self.0.store.allowance(tenant).await?.unwrap_or_else(gone)))
    }
}

/// Starts whoever forgets tenants that have all of their rates again; it ends with the engine.
pub(crate) fn spawn_sweeper(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            for part in Limiter::parts() {
                let Some(inner) = weak.upgrade() else { return };
                inner.gate.limiter.sweep_part(part, inner.gate.now());
                drop(inner);
                // Requests of this thread do not wait for all of them.
                tokio::task::yield_now().await;
            }
        }
    });
}
