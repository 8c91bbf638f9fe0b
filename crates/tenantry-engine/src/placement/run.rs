//! Follows a policy: looks at all tenants, page by page, now and then, and asks for moves, one after
//! the other, in the process that moves tenants.

use super::{
    Block, Decision, Policy, Verdict,
    plan::{breathe, look},
};
use crate::{denials::DONE, engine::Inner};
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tenantry_auth::{Author, TenantId};
use tenantry_store::{MovePhase, TenantInfo};
use tenantry_types::{ErrorKind, Result, Timestamp};

/// Who has asked for a move, as logs say it.
const ACTOR: &str = "policy";
/// Tenants read at once.
const PAGE: usize = 200;
/// The first look after a start is not later than this.
const FIRST: Duration = Duration::from_secs(60);
/// How often it is asked whether a move is over.
const ASK_EVERY: Duration = Duration::from_secs(1);
const DAY_MS: u64 = 86_400_000;

/// Starts it; it ends with the engine.
pub(crate) fn spawn(inner: &Arc<Inner>, policy: Arc<Policy>) {
    let follower = Follower { inner: Arc::downgrade(inner), policy, asked: VecDeque::new() };
    tokio::spawn(follower.run());
}

struct Follower {
    inner: Weak<Inner>,
    policy: Arc<Policy>,
    /// When moves were asked for, the last day.
    asked: VecDeque<Timestamp>,
}

/// The engine is no more, or another process moves tenants.
struct Ended;

type Going<T> = std::result::Result<T, Ended>;

impl Follower {
    async fn run(mut self) {
        let every = self.policy.timing().every;
        let mut pause = every.min(FIRST);
        loop {
            tokio::time::sleep(pause).await;
            pause = every;
            if self.inner.strong_count() == 0 {
                return;
            }
            // Another process may do it the next time.
            let _ = self.round().await;
        }
    }

    fn inner(&self) -> Going<Arc<Inner>> {
        let inner = self.inner.upgrade().ok_or(Ended)?;
        if inner.store.moves_tenants() { Ok(inner) } else { Err(Ended) }
    }

    /// Looks at every tenant once.
    async fn round(&mut self) -> Going<()> {
        let mut after = None;
        loop {
            let page = {
                let inner = self.inner()?;
                let scope = inner.authority.by_order(ACTOR);
                inner.tenants(&scope, after.as_ref(), PAGE).await
            };
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(?error, "look at tenants for the placement policy");
                    return Ok(());
                }
            };
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for info in page {
                if !self.may_ask()? {
                    let most = self.policy.timing().moves_per_day;
                    tracing::info!(most, "the placement policy has asked for its moves of a day");
                    return Ok(());
                }
                match self.look(&info).await? {
                    Ok(false) => {}
                    Ok(true) => self.wait().await?,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::warn!(?error, tenant = %info.id, "follow the placement policy");
                    }
                }
            }
        }
    }

    /// True if another move may be asked for today.
    fn may_ask(&mut self) -> Going<bool> {
        let now = self.inner()?.clock.now();
        while self.asked.front().is_some_and(|at| now.0.saturating_sub(at.0) >= DAY_MS) {
            self.asked.pop_front();
        }
        Ok(self.asked.len() < self.policy.timing().moves_per_day as usize)
    }

    /// Asks for the move of a tenant if a rule says so.
    async fn look(&mut self, info: &TenantInfo) -> Going<Result<bool>> {
        let inner = self.inner()?;
        let outcome = self.move_one(&inner, info).await;
        if matches!(outcome, Ok(true)) {
            self.asked.push_back(inner.clock.now());
        }
        Ok(outcome)
    }

    async fn move_one(&self, inner: &Inner, info: &TenantInfo) -> Result<bool> {
        let scope = inner.authority.by_order(ACTOR);
        let begun = Instant::now();
        let Decision { to, why, .. } = match look(&self.policy, inner, &scope, info).await?.verdict
        {
            Verdict::Move(decision) => decision,
            verdict @ Verdict::Blocked(_, Block::Plan(_)) => {
                tracing::debug!(tenant = %info.id, why = %verdict, "the placement policy moves none");
                return Ok(false);
            }
            verdict @ Verdict::Blocked(_, Block::Site(_)) => {
                // For instance a server without the admin's URL of a location.
                tracing::warn!(tenant = %info.id, why = %verdict, "the placement policy cannot move");
                return Ok(false);
            }
            Verdict::Stay(_) => return Ok(false),
        };
        let why_not = inner.store.start_move(&scope, &info.name, to).await.err();
        if let Some(error) = why_not {
            tracing::warn!(?error, tenant = %info.id, why, "the placement policy asks for a move");
            breathe(begun.elapsed()).await;
            return Ok(false);
        }
        tracing::info!(tenant = %info.id, why, "the placement policy moves a tenant");
        let told = format!("{}: {why}", info.name.as_str());
        for (log, what) in [(TenantId::INSTALLATION, &told), (info.id, &why)] {
            inner.denials.note((log, Author::work(ACTOR)), "tenant.policy", what, DONE);
        }
        Ok(true)
    }

    /// Waits until nobody is moved: moves are done one after the other, and the operator's may come
    /// between. A place that is still emptied may be in a database that does not come back.
    async fn wait(&self) -> Going<()> {
        loop {
            tokio::time::sleep(ASK_EVERY.min(self.policy.timing().every)).await;
            let inner = self.inner()?;
            let scope = inner.authority.by_order(ACTOR);
            match inner.store.moves(&scope).await {
                Ok(moves) if moves.iter().all(|one| is_behind(one.phase)) => return Ok(()),
                Ok(_) => {}
                Err(error) => tracing::debug!(?error, "ask for moves under way"),
            }
        }
    }
}

/// Its tenant lives where it is to live, and the other place is being emptied.
fn is_behind(phase: MovePhase) -> bool {
    matches!(phase, MovePhase::Leaving | MovePhase::Undoing)
}
