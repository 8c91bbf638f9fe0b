//! Whether a request is served now: asked once for each, of the tenant whose credential it
//! presents, before it waits for a turn. An operator's requests are the installation's, which has
//! no rates.

use crate::{
    Engine,
    engine::Inner,
    leases::{AllLeft, LeaseSource, Leases, SharedTotals, Sharing, Verdict},
    limiter::{Admitted, Left, Limiter, Refused, told},
    spending::UsedUp,
};
use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{Author, Principal, TenantId};
use tenantry_types::{Allowance, Budget, Error, ErrorKind, Rates, Result, Term};

const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The action of a request that is not served; what it would have done, nobody has looked at.
const REQUEST: &str = "request";

/// Who asks how often, and since when that is counted.
#[derive(Debug)]
pub(crate) struct Gate {
    limiter: Limiter,
    since: Instant,
    refused: AtomicU64,
    /// What other nodes are asked, if rates are shared.
    leases: OnceLock<Leases>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            limiter: Limiter::default(),
            since: Instant::now(),
            refused: AtomicU64::new(0),
            leases: OnceLock::new(),
        }
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
        self.limiter.tenants().max(self.leases.get().map_or(0, Leases::tenants))
    }

    pub(crate) fn share(&self, source: Arc<dyn LeaseSource>, sharing: Sharing) {
        self.leases.get_or_init(|| Leases::new(source, sharing));
    }

    pub(crate) fn shared(&self) -> SharedTotals {
        self.leases.get().map(Leases::totals).unwrap_or_default()
    }

    /// What is shared, if any of the rates is.
    fn leases(&self, rates: &Rates) -> Option<&Leases> {
        let has_rates = rates.second.is_some() || rates.minute.is_some() || rates.hour.is_some();
        self.leases.get().filter(|_| has_rates)
    }

    /// Whether a request is within what is shared and, as all that this node counts by itself,
    /// within those under way, which are asked first: who is refused by them has used nothing.
    async fn admit_shared(
        &self,
        leases: &Leases,
        tenant: TenantId,
        allowance: &Allowance,
    ) -> Outcome {
        let rates = &allowance.rates;
        let own = Rates { concurrent: rates.concurrent, ..Rates::default() };
        let mut outcome = self.admit(tenant, &own);
        if outcome.admitted.is_err() {
            return outcome;
        }
        let verdict = leases.admit(tenant, rates, allowance.on_shared_failure).await;
        let (left, why) = match verdict {
            Verdict::Admitted(left) => (left, None),
            Verdict::Refused(refused, left) => (left, Some(Why::Rate(refused, *rates))),
            Verdict::Unknown(seconds) => (AllLeft::default(), Some(Why::Unknown(seconds))),
        };
        outcome.left = left.into_iter().flatten().collect();
        match why {
            Some(why) => self.refuse(outcome.left, why),
            None => outcome,
        }
    }

    fn admit(&self, tenant: TenantId, rates: &Rates) -> Outcome {
        let now = self.now();
        match self.limiter.admit(tenant, rates, now) {
            Ok(admitted) => Outcome { left: admitted.left().collect(), admitted: Ok(admitted) },
            Err(refused) => {
                let left = self.limiter.left(tenant, rates, now);
                self.refuse(left, Why::Rate(refused, *rates))
            }
        }
    }

    fn refuse(&self, left: Vec<Left>, why: Why) -> Outcome {
        self.refused.fetch_add(1, Ordering::Relaxed);
        Outcome { left, admitted: Err(why) }
    }
}

/// Why a request is not served.
#[derive(Debug)]
enum Why {
    /// These rates are used up.
    Rate(Refused, Rates),
    /// It is not known what other nodes have admitted; it may be in so many seconds.
    Unknown(u64),
    /// A budget of a day or a month is used up.
    Budget(UsedUp),
}

impl Why {
    /// Which of the tenant's limits it is, if it is one.
    fn limit(&self) -> Option<Term> {
        match self {
            Self::Rate(Refused::Rate { period, .. }, _) => Some(Term::Requests(*period)),
            Self::Rate(Refused::Concurrent(_), _) => Some(Term::Concurrent),
            Self::Unknown(_) => None,
            Self::Budget(used_up) => Some(used_up.budget.term()),
        }
    }
}

#[derive(Debug)]
struct Outcome {
    left: Vec<Left>,
    admitted: std::result::Result<Admitted, Why>,
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

    /// [`ErrorKind::LimitExceeded`] with the seconds to wait if the request is not served, or
    /// [`ErrorKind::Unavailable`] if nobody can tell.
    pub fn check(&self) -> Result<()> {
        let Err(why) = &self.outcome.admitted else { return Ok(()) };
        let (message, seconds) = match why {
            Why::Unknown(seconds) => {
                let message = "it is not known how much of this tenant's rates is left; retry soon";
                let error = Error::new(ErrorKind::Unavailable, message);
                return Err(error.with_retry_after(*seconds));
            }
            Why::Rate(Refused::Rate { period, wait }, rates) => {
                let seconds = wait.div_ceil(1_000_000_000).max(1);
                let most = rates.rate(*period).map_or(0, |rate| rate.amount.get());
                let message = format!(
                    "this tenant may make {most} requests a {}; the next one is served in \
                     {seconds} s",
                    period.word()
                );
                (message, seconds)
            }
            Why::Rate(Refused::Concurrent(most), _) => {
                let message = format!(
                    "this tenant may have {most} requests under way at the same time; wait for \
                     one of them"
                );
                (message, 1)
            }
            Why::Budget(UsedUp { budget, most, seconds }) => {
                let what = match budget {
                    // How much it is, its admins have agreed with the operator.
                    Budget::Cost => "this tenant's budget of the month is used up".to_owned(),
                    Budget::Month => format!("this tenant may make {most} requests a month of UTC"),
                    Budget::Day => format!("this tenant may make {most} requests a day of UTC"),
                };
                (format!("{what}; ask again in {seconds} s"), *seconds)
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
        let gate = &self.0.gate;
        let mut outcome = match gate.leases(&allowance.rates) {
            None => gate.admit(tenant, &allowance.rates),
            // Not in every request's future.
            Some(leases) => Box::pin(gate.admit_shared(leases, tenant, &allowance)).await,
        };
        if outcome.admitted.is_ok()
            && let Err(used_up) = self.0.spend(tenant, &allowance.quotas).await?
        {
            outcome = gate.refuse(outcome.left, Why::Budget(used_up));
        }
        if let Some(limit) = outcome.admitted.as_ref().err().and_then(Why::limit) {
            let actor = who.to_string();
            self.0.limited((tenant, Author::new(&actor, who.request())), REQUEST, "", limit);
        }
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
            for part in Leases::parts() {
                let Some(inner) = weak.upgrade() else { return };
                let Some(leases) = inner.gate.leases.get() else { break };
                leases.sweep_part(part);
                drop(inner);
                tokio::task::yield_now().await;
            }
        }
    });
}
