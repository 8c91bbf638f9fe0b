//! How often a tenant may ask: what is a rate, as [`Limits`](crate::Limits) is what is a stock.

use std::num::NonZeroU32;

/// What a rate is counted over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// A second.
    Second,
    /// 60 seconds.
    Minute,
    /// 3,600 seconds.
    Hour,
}

impl Period {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::Second, Self::Minute, Self::Hour];

    /// Its length in seconds.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
        }
    }

    /// Its length in nanoseconds.
    pub const fn nanos(self) -> u64 {
        self.seconds() * 1_000_000_000
    }

    /// The word for messages and names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }
}

/// So many in a period, evenly, and so many at once by whoever has been silent for long enough.
///
/// The first period of somebody who was silent may have both: `burst` at once, and `amount` more
/// while it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    /// What comes back in a period.
    pub amount: NonZeroU32,
    /// What may be asked at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// All that a period has may be asked at once.
    pub const fn new(amount: NonZeroU32) -> Self {
        Self { amount, burst: amount }
    }
}

/// What is asked before any work of a request is done. What is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rates {
    /// Requests a second.
    pub second: Option<Rate>,
    /// Requests a minute.
    pub minute: Option<Rate>,
    /// Requests an hour.
    pub hour: Option<Rate>,
    /// Requests at the same time.
    pub concurrent: Option<NonZeroU32>,
}

impl Rates {
    /// The rate over this period.
    pub const fn rate(&self, period: Period) -> Option<Rate> {
        match period {
            Period::Second => self.second,
            Period::Minute => self.minute,
            Period::Hour => self.hour,
        }
    }
}
