//! What is counted of moves, over all tenants.

use super::{Moves, row::Phase};
use std::time::Duration;

/// What this process has done of moves since the store was opened. Moves of tenants that were
/// deleted meanwhile have no end that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoveTotals {
    /// Moves that are over, and the tenant lives in the new place.
    pub done: u64,
    /// Moves that were cancelled.
    pub cancelled: u64,
    /// Moves that have failed.
    pub failed: u64,
    /// Bytes of keys and values written at new places, what was changed and written again included.
    pub bytes_copied: u64,
    /// Bytes of keys and values of the first copy that were compared with the second.
    pub bytes_compared: u64,
    /// Times for which writes of a tenant had to wait.
    pub pauses: PauseTotals,
    /// Moves that were begun and are not over; 0 where another process moves tenants.
    pub running: u64,
    /// Moves that others are before; likewise.
    pub queued: u64,
}

/// Pauses of tenants' writes: each attempt to switch a tenant is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PauseTotals {
    /// How many there were: in each place those that no bound before is enough for, in the last one
    /// those that are longer than all [`PauseTotals::BOUNDS`].
    pub by_length: [u64; Self::BOUNDS.len() + 1],
    /// How long they were together.
    pub sum: Duration,
}

impl PauseTotals {
    /// What the places stand for: up to so long.
    pub const BOUNDS: [Duration; 13] = {
        let mut bounds = [Duration::from_millis(1); 13];
        let mut at = 1;
        while at < bounds.len() {
            bounds[at] = Duration::from_millis(1 << at);
            at += 1;
        }
        bounds
    };

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.by_length.iter().sum()
    }

    fn add(&mut self, pause: Duration) {
        let place = Self::BOUNDS.partition_point(|bound| *bound < pause);
        self.by_length[place] += 1;
        self.sum = self.sum.saturating_add(pause);
    }
}

impl Moves {
    /// A move is over, by what this process has done.
    pub(super) fn ended(&self, phase: Phase) {
        let mut count = self.count.lock();
        match phase {
            Phase::Done => count.done += 1,
            Phase::Cancelled => count.cancelled += 1,
            Phase::Failed => count.failed += 1,
            Phase::Begun | Phase::Leaving | Phase::Cancelling | Phase::Failing => {}
        }
    }

    pub(super) fn copied(&self, bytes: usize) {
        self.count.lock().bytes_copied += bytes as u64;
    }

    pub(super) fn compared(&self, bytes: usize) {
        self.count.lock().bytes_compared += bytes as u64;
    }

    /// The writes of a tenant have waited for so long.
    pub(super) fn paused(&self, pause: Duration) {
        self.count.lock().pauses.add(pause);
    }

    /// All that is counted. Only who moves tenants knows how many moves there are.
    pub(crate) fn totals(&self, leads: bool) -> MoveTotals {
        let mut totals = *self.count.lock();
        if leads {
            let queue = self.queue.lock();
            let progress = self.progress.lock();
            let is_begun = |turn: &&(_, _)| progress.contains_key(&turn.1);
            totals.running = queue.waiting.iter().filter(is_begun).count() as u64;
            totals.queued = queue.waiting.len() as u64 - totals.running;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MovePhase, tenancy::moving::row::Progress};
    use tenantry_auth::TenantId;
    use tenantry_types::Timestamp;

    #[test]
    fn pauses_are_counted_where_they_belong() {
        let moves = Moves::default();
        for micros in [0, 1_000, 1_001, 4_096_000, 4_096_001, 60_000_000] {
            moves.paused(Duration::from_micros(micros));
        }
        let pauses = moves.totals(true).pauses;
        assert_eq!(PauseTotals::BOUNDS[12], Duration::from_millis(4_096));
        assert_eq!((pauses.by_length[0], pauses.by_length[1]), (2, 1));
        assert_eq!((pauses.by_length[12], pauses.by_length[13], pauses.count()), (1, 2, 6));
        assert_eq!(pauses.sum, Duration::from_micros(68_194_002));
    }

    #[test]
    fn moves_wait_or_run_until_they_are_over_where_tenants_are_moved() {
        let moves = Moves::default();
        let turn = |n| (Timestamp(n), TenantId::new(n));
        moves.queue.lock().waiting.extend([turn(1), turn(2), turn(3)]);
        moves.progress.lock().insert(TenantId::new(1), Progress::new(MovePhase::Copying, 0));
        let shown = |leads| (moves.totals(leads).running, moves.totals(leads).queued);
        assert_eq!((shown(true), shown(false)), ((1, 2), (0, 0)));
        moves.over(turn(1));
        assert_eq!(shown(true), (0, 2));
    }
}
