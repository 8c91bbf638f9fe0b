//! How fast a move goes: others have the disk and the connections too.

use super::{Moves, row::Phase};
use crate::{
    pool::{Others, Pool, Turn, thread_cpu},
    tenancy::{Tenancy, moving::Carry},
};
use parking_lot::Mutex;
use std::{
    num::NonZeroU64,
    sync::{
        Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tokio::sync::Notify;

/// In and after a piece of work for which nobody waits, others have the machine for so many times as
/// long as it took, and no longer than this.
const BREATHS: u32 = 3;
const BREATH_MAX: Duration = Duration::from_millis(100);
/// The same after a piece that was read from files and written to files: what it has written is
/// written several times more, by threads that nobody asks to rest.
const BREATHS_ON_FILES: u32 = 5;
/// And while no request is there that could feel it.
const BREATHS_ALONE: u32 = 1;
/// Computing without a rest. Who wakes up meanwhile may have to wait for as long, and up to the next
/// tick of a system's scheduler (4 ms at 250 Hz) behind what computes on.
const BURST: Duration = Duration::from_micros(200);
/// How often it is looked, in a longer rest, whether the move was cancelled.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes that were moved, and how many a second may be.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// None if it is zero.
    rate: AtomicU64,
    /// Since it was asked last.
    bytes: AtomicU64,
    /// Nanoseconds rested within the piece of work under way.
    rested: AtomicU64,
    others: Mutex<Others>,
    is_alone: AtomicBool,
}

/// When it has rested last, by the CPU time of a thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rested(ThreadId, Duration);

impl Rested {
    pub(super) fn now() -> Self {
        Self(thread::current().id(), thread_cpu())
    }
}

impl Moves {
    /// Moves no more bytes a second than this.
    pub(crate) fn limit(&self, rate: Option<NonZeroU64>) {
        self.pace.rate.store(rate.map_or(0, NonZeroU64::get), Ordering::Relaxed);
    }
}

impl Pace {
    /// Before a piece of work: looks who else is there, as far as this process can see it.
    pub(super) fn look(&self, gate: Option<&Pool>) {
        let is_alone = gate.is_some_and(|gate| !self.others.lock().are_there(gate));
        self.is_alone.store(is_alone, Ordering::Relaxed);
    }

    /// So many bytes were copied, or compared.
    pub(super) fn count(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Between two slices of a piece of work for which nobody waits: lets others compute.
    pub(super) async fn pass(&self, turn: &mut Option<Turn>, since: &mut Rested) {
        match turn {
            Some(turn) if self.needs_no_rest() => turn.pass().await,
            Some(turn) => self.rested(turn.breathe(BURST, (BREATHS, BREATH_MAX)).await),
            None => self.breathe(since).await,
        }
    }

    /// The same where no turn is held. What waits for a database does not compute.
    pub(super) async fn breathe(&self, since: &mut Rested) {
        if self.needs_no_rest() {
            return;
        }
        let now = Rested::now();
        if since.0 != now.0 {
            // It goes on elsewhere, and has waited at least.
            *since = now;
            return;
        }
        let used = now.1.saturating_sub(since.1);
        if used >= BURST {
            let begun = Instant::now();
            tokio::time::sleep((BREATHS * used).min(BREATH_MAX)).await;
            *since = Rested::now();
            self.rested(begun.elapsed());
        }
    }

    /// True if nobody else is there, or it has rested for as long as a piece may.
    fn needs_no_rest(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
            || u128::from(self.rested.load(Ordering::Relaxed)) >= BREATH_MAX.as_nanos()
    }

    fn rested(&self, rested: Duration) {
        let ns = u64::try_from(rested.as_nanos()).unwrap_or(u64::MAX);
        self.rested.fetch_add(ns, Ordering::Relaxed);
    }

    /// How long to rest after a piece of work that took so long, if nobody waits for the next one.
    pub(super) fn rest(&self, took: Duration, is_patient: bool, is_on_files: bool) -> Duration {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let rested = Duration::from_nanos(self.rested.swap(0, Ordering::Relaxed));
        if !is_patient {
            return Duration::ZERO;
        }
        let breaths = match self.is_alone.load(Ordering::Relaxed) {
            true => BREATHS_ALONE,
            false if is_on_files => BREATHS_ON_FILES,
            false => BREATHS,
        };
        let breath = (breaths * took.saturating_sub(rested)).saturating_sub(rested).min(BREATH_MAX);
        let Some(rate) = NonZeroU64::new(self.rate.load(Ordering::Relaxed)) else { return breath };
        let due = Duration::try_from_secs_f64(bytes as f64 / rate.get() as f64);
        breath.max(due.unwrap_or(Duration::MAX).saturating_sub(took))
    }
}

/// Rests, for less if the move is cancelled or the store closes. It does not keep the store open.
pub(super) async fn rest<B: Carry>(
    tenancy: Weak<Tenancy<B>>,
    tenant: TenantId,
    rest: Duration,
    woken: &Notify,
) {
    if rest <= BREATH_MAX {
        tokio::time::sleep(rest).await;
        return;
    }
    let begun = Instant::now();
    while let Some(left) = rest.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        let _ = tokio::time::timeout(left.min(LOOK_EVERY), woken.notified()).await;
        let Some(tenancy) = tenancy.upgrade() else { return };
        let goes_on = match tenancy.move_of(tenant).await {
            Ok(one) => one.is_some_and(|one| one.phase == Phase::Begun),
            Err(_) => true,
        };
        if tenancy.is_closing() || !goes_on {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Class, PoolConfig};

    #[test]
    fn a_piece_takes_as_long_as_its_bytes_may_and_breathes_at_least() {
        let moves = Moves::default();
        let took = Duration::from_millis(10);
        let rest = |took, is_patient| moves.pace.rest(took, is_patient, false);
        moves.pace.count(1 << 20);
        assert_eq!(rest(took, true), BREATHS * took);
        assert_eq!(rest(Duration::from_secs(1), true), BREATH_MAX);
        moves.limit(NonZeroU64::new(1 << 20));
        moves.pace.count(1 << 19);
        assert_eq!(rest(took, true), Duration::from_millis(490));
        // What was counted is counted once, also if somebody waited for it.
        assert_eq!(rest(took, true), BREATHS * took);
        moves.pace.count(1 << 30);
        assert_eq!(rest(took, false), Duration::ZERO);
        moves.pace.count(1);
        assert_eq!(rest(took, true), BREATHS * took);
        moves.limit(None);
        // What it has rested meanwhile was no work, and is no rest that is still due.
        moves.pace.rested(2 * took);
        assert_eq!(rest(3 * took, true), (BREATHS - 2) * took);
        moves.pace.rested(9 * took);
        assert_eq!(rest(10 * took, true), Duration::ZERO);
        moves.pace.count(1 << 30);
        assert_eq!(rest(took, true), BREATHS * took);
        assert_eq!(moves.pace.rest(took, true, true), BREATHS_ON_FILES * took);
    }

    #[tokio::test]
    async fn it_rests_little_while_nobody_else_is_there() {
        let (moves, pool) = (Moves::default(), Pool::new(PoolConfig::default()));
        let took = Duration::from_millis(10);
        let rest = |gate| {
            moves.pace.look(gate);
            moves.pace.rest(took, true, true)
        };
        // Who is there is not known everywhere.
        assert_eq!(rest(None), BREATHS_ON_FILES * took);
        assert_eq!(rest(Some(&pool)), BREATHS_ALONE * took);
        assert!(moves.pace.needs_no_rest());
        let turn = |class| pool.turn(TenantId::new(7), 100, class);
        drop(turn(Class::Background).await.unwrap());
        assert_eq!(rest(Some(&pool)), BREATHS_ALONE * took);
        drop(turn(Class::Request).await.unwrap());
        assert_eq!(rest(Some(&pool)), BREATHS_ON_FILES * took);
        assert!(!moves.pace.needs_no_rest());
        let long = turn(Class::Request).await.unwrap();
        moves.pace.look(Some(&pool));
        tokio::time::sleep(Duration::from_millis(600)).await;
        assert_eq!(rest(Some(&pool)), BREATHS_ON_FILES * took);
        drop(long);
    }
}
