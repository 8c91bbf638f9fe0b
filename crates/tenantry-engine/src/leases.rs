//! Rates that several nodes share: each takes requests of a tenant in advance, from a source that
//! all of them ask, and gives them out by itself.
//!
//! What is taken is charged at once, so that all nodes together never admit more than the rates say
//! while the source answers. What a node has taken and not given out when it expires is lost: a
//! tenant gets less by that, and never more. A source that fails or is late is left alone, until it
//! has answered a question that no request waits for.

mod circuit;
mod held;
#[cfg(test)]
mod tests;

use crate::limiter::{Left, Limiter, Refused};
use circuit::Circuit;
use held::{Held, Shard, Step};
use parking_lot::Mutex;
use std::{
    fmt::Debug,
    num::NonZeroU32,
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Period, Rate, Rates, SharedFailure};
use tokio::time::{Instant, timeout};

const SHARDS: usize = 64;
/// A timer that ends so much later than it was to is one of a node that stands still.
const STALL: Duration = Duration::from_millis(10);
/// How often an answer is waited for once more because of that.
const STALLS_MAX: usize = 3;

/// How a node shares rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    /// Nodes that share, this one counted: without an answer each has this part of the rates.
    pub nodes: NonZeroU32,
    /// How long requests wait for one answer. Who comes while another one is waited for waits for
    /// that, too.
    pub within: Duration,
}

/// What a node asks for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseAsk {
    /// Whose rates.
    pub tenant: TenantId,
    /// The rates; those of requests at the same time are nobody's but the node's.
    pub rates: Rates,
    /// Requests that are to be taken, at least 1.
    pub wanted: u32,
}

/// What was taken of a tenant's rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeaseAnswer {
    /// Requests that the node may admit, at most as many as it wanted. They are charged.
    pub granted: u32,
    /// If nothing is left, the rate that makes the next one wait longest, and for how many
    /// nanoseconds.
    pub wait: Option<(Period, u64)>,
    /// Of each rate what is left after that, and in how many nanoseconds all of it is there again;
    /// in the order of [`Period::ALL`].
    pub left: [(u32, u64); Period::ALL.len()],
}

/// An answer on its way, or why there is none.
pub type Leasing<'a> =
    Pin<Box<dyn Future<Output = std::result::Result<LeaseAnswer, String>> + Send + 'a>>;

/// What all nodes of an installation ask. It has the one clock that counts.
pub trait LeaseSource: Debug + Send + Sync {
    /// Takes requests in advance, and charges them. Whoever waits may stop waiting at any time: what
    /// is taken then is lost.
    fn take(&self, ask: LeaseAsk) -> Leasing<'_>;
}

/// Counters since start, and whether rates are shared now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SharedTotals {
    /// Answers of the source by which requests were taken in advance.
    pub leases: u64,
    /// Questions that were not answered in time, or by a failure.
    pub failures: u64,
    /// Requests that were decided without the other nodes, because the source failed.
    pub alone: u64,
    /// True if there is a source and it answered last.
    pub is_shared: bool,
}

/// What is left of a tenant's rates, the shortest first.
pub(crate) type AllLeft = [Option<Left>; Period::ALL.len()];

/// Whether a request is within its tenant's rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted(AllLeft),
    Refused(Refused, AllLeft),
    /// Nobody knows, and the plan says that nobody is served then; ask again in so many seconds.
    Unknown(u64),
}

/// What a waiting request hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Decided(Verdict),
    /// The source did not answer.
    Failed,
}

#[derive(Debug)]
struct Inner {
    source: Arc<dyn LeaseSource>,
    sharing: Sharing,
    since: Instant,
    shards: Vec<Mutex<Shard>>,
    circuit: Circuit,
    /// What this node admits while it is alone. Kept while it is not, so that a source that fails
    /// again and again does not give a new burst each time.
    alone: Limiter,
    leases: AtomicU64,
    decided_alone: AtomicU64,
}

impl Inner {
    /// What the source answers in time. A node that stood still meanwhile has not looked, and looks
    /// again: it must not take itself for a source that is late.
    async fn answer(
        &self,
        ask: LeaseAsk,
        within: Duration,
    ) -> std::result::Result<LeaseAnswer, String> {
        let mut answer = self.source.take(ask);
        let mut stalls = 0;
        loop {
            let begun = Instant::now();
            match timeout(within, &mut answer).await {
                Ok(answer) => return answer,
                Err(_) if stalls < STALLS_MAX && begun.elapsed() > within + STALL => stalls += 1,
                Err(_) => return Err(format!("no answer within {} ms", within.as_millis())),
            }
        }
    }
}

/// What this node holds of rates that it shares. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<Inner>);

impl Leases {
    /// Nobody is asked before the first request.
    pub(crate) fn new(source: Arc<dyn LeaseSource>, sharing: Sharing) -> Self {
        Self(Arc::new(Inner {
            source,
            sharing,
            since: Instant::now(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            circuit: Circuit::default(),
            alone: Limiter::default(),
            leases: AtomicU64::new(0),
            decided_alone: AtomicU64::new(0),
        }))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn shard(&self, tenant: TenantId) -> &Mutex<Shard> {
        let number = usize::try_from(tenant.get() % SHARDS as u64).unwrap_or(0);
        &self.0.shards[number]
    }

    /// Whether one request is within these rates.
    pub(crate) async fn admit(
        &self,
        tenant: TenantId,
        rates: &Rates,
        on_failure: SharedFailure,
    ) -> Verdict {
        let step = self.shard(tenant).lock().step(tenant, rates, self.now(), self.is_shared());
        let heard = match step {
            Step::Decided(verdict) => Heard::Decided(verdict),
            Step::Alone => Heard::Failed,
            Step::Wait { answer, is_first } => {
                if is_first {
                    self.fly(tenant);
                }
                answer.await.unwrap_or(Heard::Failed)
            }
        };
        match heard {
            Heard::Decided(verdict) => verdict,
            Heard::Failed => self.admit_alone(tenant, rates, on_failure),
        }
    }

    fn admit_alone(&self, tenant: TenantId, rates: &Rates, on_failure: SharedFailure) -> Verdict {
        self.0.decided_alone.fetch_add(1, Ordering::Relaxed);
        if on_failure == SharedFailure::Refuse {
            return Verdict::Unknown(self.0.circuit.pause().as_secs().max(1));
        }
        let (share, now) = (share(rates, self.0.sharing.nodes), self.now());
        let told = |left: &mut dyn Iterator<Item = Left>| {
            let mut all = AllLeft::default();
            // What is told are the tenant's rates, of which this is a share.
            for one in left {
                let rate = rates.rate(one.period).unwrap_or(one.rate);
                let place = Period::ALL.iter().position(|period| *period == one.period);
                all[place.unwrap_or(0)] = Some(Left { rate, ..one });
            }
            all
        };
        match self.0.alone.admit(tenant, &share, now) {
            Ok(admitted) => Verdict::Admitted(told(&mut admitted.left())),
            Err(refused) => {
                let left = self.0.alone.left(tenant, &share, now);
                Verdict::Refused(refused, told(&mut left.into_iter()))
            }
        }
    }

    /// Asks for a tenant, for as long as requests of it wait. It is a task of its own: a caller who
    /// goes away takes nothing from those who wait for the same answer.
    fn fly(&self, tenant: TenantId) {
        let mut flight = Flight { leases: self.clone(), tenant, is_over: false };
        tokio::spawn(async move {
            while let Some(ask) = flight.next() {
                match flight.leases.ask(ask).await {
                    Ok(answer) => flight.land(ask, answer),
                    Err(why) => return flight.leases.fail(&why),
                }
            }
        });
    }

    /// One question, answered in time and as it must be.
    async fn ask(&self, ask: LeaseAsk) -> std::result::Result<LeaseAnswer, String> {
        let mut answer = self.0.answer(ask, self.0.sharing.within).await?;
        answer.granted = answer.granted.min(ask.wanted);
        if let Some((period, wait)) = &mut answer.wait {
            let Some(rate) = ask.rates.rate(*period) else {
                return Err("the answer is of a rate that was not asked for".to_owned());
            };
            // One comes back in this time, whatever the answer says; the source rounds up.
            *wait = (*wait).min(period.nanos() / u64::from(rate.amount.get()) + 1_000);
        }
        if answer.granted < ask.wanted && answer.wait.is_none() {
            return Err("the answer grants less than there is".to_owned());
        }
        Ok(answer)
    }

    fn fail(&self, why: &str) {
        if self.0.circuit.open(why) {
            circuit::spawn_probe(&self.0);
        }
    }

    fn is_shared(&self) -> bool {
        self.0.circuit.is_closed()
    }

    /// Forgets what says nothing more of a part of all tenants.
    pub(crate) fn sweep_part(&self, part: usize) {
        let Some(shard) = self.0.shards.get(part) else { return };
        shard.lock().sweep(self.now());
        self.0.alone.sweep_part(part, self.now());
    }

    /// What there are parts of.
    pub(crate) fn parts() -> Range<usize> {
        0..SHARDS
    }

    /// Tenants that something is known of.
    pub(crate) fn tenants(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    pub(crate) fn totals(&self) -> SharedTotals {
        SharedTotals {
            leases: self.0.leases.load(Ordering::Relaxed),
            failures: self.0.circuit.failures(),
            alone: self.0.decided_alone.load(Ordering::Relaxed),
            is_shared: self.is_shared(),
        }
    }
}

/// What one of so many nodes admits by itself: at least one request in each period, and at once.
fn share(rates: &Rates, nodes: NonZeroU32) -> Rates {
    let part =
        |amount: NonZeroU32| NonZeroU32::new(amount.get() / nodes).unwrap_or(NonZeroU32::MIN);
    let of = |rate: Rate| Rate { amount: part(rate.amount), burst: part(rate.burst) };
    Rates {
        second: rates.second.map(of),
        minute: rates.minute.map(of),
        hour: rates.hour.map(of),
        concurrent: None,
    }
}

/// Questions for one tenant. However it ends, nobody is left waiting.
struct Flight {
    leases: Leases,
    tenant: TenantId,
    is_over: bool,
}

impl Flight {
    fn with<T>(&self, held: impl FnOnce(&mut Held, u64) -> T) -> Option<T> {
        let now = self.leases.now();
        let shard = &mut *self.leases.shard(self.tenant).lock();
        shard.get(self.tenant).map(|one| held(one, now))
    }

    /// What is to be asked next, if anybody waits for it.
    fn next(&mut self) -> Option<LeaseAsk> {
        let tenant = self.tenant;
        let ask = self.with(|held, now| held.next_ask(tenant, now)).flatten();
        self.is_over = ask.is_none();
        ask
    }

    fn land(&self, ask: LeaseAsk, answer: LeaseAnswer) {
        if answer.granted > 0 {
            self.leases.0.leases.fetch_add(1, Ordering::Relaxed);
        }
        self.with(|held, now| held.land(&ask, &answer, now));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.is_over {
            self.with(|held, _| held.give_up());
        }
    }
}
