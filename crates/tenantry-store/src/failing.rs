//! What is tried again and again, and fails each time, is said now and then.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// From one line about the same to the next.
const EVERY: Duration = Duration::from_secs(30);
/// A failure that is older says nothing of now: nobody has tried since.
const COUNTS_FOR: Duration = Duration::from_secs(60);

/// Whether something fails that is tried again and again, and what the log has of it.
#[derive(Debug, Default)]
pub struct Failing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// Tries in vain that no line has counted.
    tried: u64,
    said: Option<Instant>,
}

impl Failing {
    /// It was tried in vain: how often since the last line, if it is time for one.
    pub fn failed(&self) -> Option<u64> {
        self.failed_at(Instant::now())
    }

    /// It works. A line that was just said is not said again if it fails once more.
    pub fn well(&self) {
        self.0.lock().last = None;
    }

    /// True if it failed when it was last tried, which is not long ago.
    pub fn is_failing(&self) -> bool {
        self.0.lock().last.is_some_and(|at| at.elapsed() < COUNTS_FOR)
    }

    fn failed_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.last = Some(now);
        state.tried = state.tried.saturating_add(1);
        if state.said.is_some_and(|said| now.saturating_duration_since(said) < EVERY) {
            return None;
        }
        state.said = Some(now);
        Some(std::mem::take(&mut state.tried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_each_time_is_said_twice_a_minute_with_how_often() {
        let (failing, begun) = (Failing::default(), Instant::now());
        let told = |second| failing.failed_at(begun + Duration::from_secs(second));
        let lines: Vec<_> = (0..=60).filter_map(told).collect();
        assert_eq!(lines, [1, 30, 30]);
    }

    #[test]
    fn what_works_and_fails_in_turn_is_not_said_more_often() {
        let failing = Failing::default();
        assert!(!failing.is_failing());
        let lines: Vec<_> = (0..10)
            .filter_map(|_| {
                failing.well();
                failing.failed()
            })
            .collect();
        assert_eq!(lines, [1]);
        assert!(failing.is_failing());
        failing.well();
        assert!(!failing.is_failing());
    }
}
