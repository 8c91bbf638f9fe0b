//! What is tried again and again, and fails each time, is said now and then.

use parking_lot::Mutex;
use std::{
    error::Error as _,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    time::{Duration, Instant},
};
use tenantry_types::Error;

/// From one line about the same to the next.
const EVERY: Duration = Duration::from_secs(30);
/// A failure that is older says nothing of now: nobody has tried since.
const COUNTS_FOR: Duration = Duration::from_secs(60);
/// Causes that are told apart: more of them make no more lines.
const CAUSES_MAX: usize = 8;

/// Whether something fails that is tried again and again, and what the log has of it.
#[derive(Debug, Default)]
pub struct Failing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// Tries in vain that no line has counted.
    tried: u64,
    /// What was said of late, by a hash of its cause.
    said: Vec<(u64, Instant)>,
}

impl Failing {
    /// It was tried in vain: how often since the last line, if it is time for one.
    pub fn failed(&self) -> Option<u64> {
        self.failed_by(&())
    }

    /// The same where it fails for one cause or another, or one of several: each is said.
    pub fn failed_by(&self, cause: &impl Hash) -> Option<u64> {
        let cause = BuildHasherDefault::<DefaultHasher>::default().hash_one(cause);
        self.failed_at(cause, Instant::now())
    }

    /// It works. A line that was just said is not said again if it fails once more.
    pub fn well(&self) {
        self.0.lock().last = None;
    }

    /// True if it failed when it was last tried, which is not long ago.
    pub fn is_failing(&self) -> bool {
        self.0.lock().last.is_some_and(|at| at.elapsed() < COUNTS_FOR)
    }

    fn failed_at(&self, cause: u64, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.last = Some(now);
        state.tried = state.tried.saturating_add(1);
        state.said.retain(|(_, said)| now.saturating_duration_since(*said) < EVERY);
        let is_said = state.said.iter().any(|(one, _)| *one == cause);
        if is_said || state.said.len() >= CAUSES_MAX {
            return None;
        }
        state.said.push((cause, now));
        Some(std::mem::take(&mut state.tried))
    }
}

/// PostgreSQL's own text about a failure, without what quotes rows.
pub(crate) fn server_says(why: &Error) -> Option<&str> {
    let cause = why.source()?.downcast_ref::<tokio_postgres::Error>()?;
    Some(cause.as_db_error()?.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cause_is_said_at_once_and_no_more_than_a_few_are() {
        let (failing, now) = (Failing::default(), Instant::now());
        assert_eq!(failing.failed_at(1, now), Some(1));
        assert_eq!(failing.failed_at(1, now), None);
        assert_eq!(failing.failed_at(2, now), Some(2));
        assert_eq!(failing.failed_at(1, now), None);
        let lines = (0..1_000).filter_map(|cause| failing.failed_at(cause, now)).count();
        assert_eq!(lines, CAUSES_MAX - 2);
        assert!(failing.failed_at(1, now + EVERY).is_some());
        assert!(Failing::default().failed_by(&"a").is_some());
    }

    #[test]
    fn what_fails_each_time_is_said_twice_a_minute_with_how_often() {
        let (failing, begun) = (Failing::default(), Instant::now());
        let told = |second| failing.failed_at(0, begun + Duration::from_secs(second));
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
