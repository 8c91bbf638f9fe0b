//! How much a tenant may have, and how much it may ask in a day or month: sums, where
//! [`Rates`](crate::Rates) say how fast.

use crate::{Meter, Term};

/// Sums that a tenant may not pass. What is `None` is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Quotas {
    /// Records that are kept in all collections together. Asked in the commit that would pass it.
    pub records: Option<u64>,
    /// Bytes of all records that are kept: ids, texts, uris, metadata, and 4 for each component of a
    /// vector. Asked in the commit that would pass it.
    pub bytes: Option<u64>,
    /// Requests in a day of UTC.
    pub day: Option<u64>,
    /// Requests in a month of UTC.
    pub month: Option<u64>,
    /// What a month of UTC may cost by the tariff of the tenant's plan, in millionths of a unit of
    /// the installation's currency. Without a tariff nothing costs anything.
    pub cost: Option<u64>,
    /// [`Meter::Messages`] in a day of UTC. Asked by whoever reports them and wishes so.
    pub messages_per_day: Option<u64>,
    /// [`Meter::Tokens`] in a day of UTC, in the same way.
    pub tokens_per_day: Option<u64>,
}

impl Quotas {
    /// The quotas of a day that are about what is reported: of which meter, what they are called, and
    /// how much it may be.
    pub const fn of_reports(&self) -> [(Meter, Term, Option<u64>); 2] {
        [
            (Meter::Messages, Term::MessagesPerDay, self.messages_per_day),
            (Meter::Tokens, Term::TokensPerDay, self.tokens_per_day),
        ]
    }
}
