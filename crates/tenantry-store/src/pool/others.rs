//! Whether anybody else is there, for work that others should not feel.

use super::Pool;
use std::time::{Duration, Instant};

/// How long after a request others are thought to be there.
const RECENT: Duration = Duration::from_millis(500);

/// What one piece of work for which nobody waits knows of the requests beside it.
#[derive(Debug, Default)]
pub(crate) struct Others {
    served: u64,
    seen: Option<Instant>,
}

impl Others {
    /// True if a request has a place or waits for one, or one of a tenant had in the last half second,
    /// as far as it was asked.
    pub(crate) fn are_there(&mut self, pool: &Pool) -> bool {
        let gate = pool.0.gate.lock();
        let (served, is_there) = (gate.served(), gate.has_request());
        drop(gate);
        self.are_there_at(served, is_there, Instant::now())
    }

    fn are_there_at(&mut self, served: u64, is_there: bool, now: Instant) -> bool {
        if is_there || served != self.served {
            (self.served, self.seen) = (served, Some(now));
        }
        self.seen.is_some_and(|seen| now.saturating_duration_since(seen) < RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_there_until_half_a_second_after_the_last_request() {
        let (mut others, now) = (Others::default(), Instant::now());
        assert!(!others.are_there_at(0, false, now));
        assert!(others.are_there_at(1, false, now));
        assert!(others.are_there_at(1, false, now + RECENT / 2));
        assert!(!others.are_there_at(1, false, now + RECENT));
        assert!(others.are_there_at(7, false, now + RECENT));
        assert!(!others.are_there_at(7, false, now + 3 * RECENT));
        // One that takes long was given its place long ago.
        assert!(others.are_there_at(7, true, now + 4 * RECENT));
        assert!(others.are_there_at(7, false, now + 4 * RECENT + RECENT / 2));
        assert!(!others.are_there_at(7, false, now + 5 * RECENT));
    }
}
