//! How many requests there were, how they ended and how long they took.

use std::time::Duration;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it was asked for.
    Done,
    /// Not done, for a reason that is the caller's: its form, a missing right, a rate, a name that
    /// does not exist.
    Refused,
    /// Not done, for a reason that is the server's.
    Failed,
    /// The caller went before there was an answer.
    Abandoned,
}

impl Outcome {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Failed, Self::Abandoned];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// What was asked to be done: one of a few words.
    pub method: &'static str,
    /// The path as the table of routes has it. Nothing that a caller could make up.
    pub path: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// Counts of requests, since there is somebody who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    outcomes: [u64; Outcome::ALL.len()],
    by_length: [u64; Self::BOUNDS.len() + 1],
    nanoseconds: u64,
}

impl Tally {
    /// Up to how long requests take that are counted together; what takes longer than the last of
    /// these is counted too. Few, because there are as many numbers for each tenant.
    pub const BOUNDS: [Duration; 8] = [
        Duration::from_millis(1),
        Duration::from_millis(4),
        Duration::from_millis(16),
        Duration::from_millis(64),
        Duration::from_millis(256),
        Duration::from_secs(1),
        Duration::from_secs(4),
        Duration::from_secs(16),
    ];

    pub(super) fn count(&mut self, served: &Served<'_>) {
        let length = Self::BOUNDS.partition_point(|bound| *bound < served.took);
        self.outcomes[served.outcome as usize] += 1;
        self.by_length[length] += 1;
        let took = u64::try_from(served.took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds = self.nanoseconds.saturating_add(took);
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (sum, more) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += more;
        }
        for (sum, more) in self.by_length.iter_mut().zip(other.by_length) {
            *sum += more;
        }
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
    }

    /// Requests.
    pub fn requests(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Requests that ended so.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Requests by how long they took: one number for each of [`Self::BOUNDS`], and one for longer
    /// ones.
    pub fn by_length(&self) -> &[u64] {
        &self.by_length
    }

    /// The time that all of them took.
    pub fn time(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds)
    }
}
