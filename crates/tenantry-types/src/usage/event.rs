//! What an application has counted itself, and reports.

use super::{Amounts, Meter};
use crate::{Error, IdempotencyKey, Result, Term};

/// So much of a meter, under an id that counts once in its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageEvent {
    id: IdempotencyKey,
    meter: Meter,
    amount: u64,
}

impl UsageEvent {
    /// Meters of which events are reported. Nothing else writes them.
    pub const METERS: [Meter; 3] = [Meter::Messages, Meter::Tokens, Meter::Money];
    /// Events of one report.
    pub const BATCH_MAX: usize = 1_000;
    /// The largest amount of one event. The smallest is 1.
    pub const AMOUNT_MAX: u64 = 1_000_000_000_000;
    /// The same of money: ten thousand units of the currency.
    pub const MONEY_MAX: u64 = 10_000_000_000;
    /// Events that a tenant may report in a day of UTC: each is kept for a week and more.
    pub const DAY_MAX: u32 = 1_000_000;

    /// An event.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) unless the id is 1 to 255 visible ASCII
    /// characters, the meter one of [`UsageEvent::METERS`] and the amount in its range.
    pub fn new(id: &str, meter: Meter, amount: u64) -> Result<Self> {
        let id = IdempotencyKey::parse_as("id", id)?;
        if !Self::METERS.contains(&meter) {
            let all = Self::METERS.map(Meter::word).join(", ");
            let why = format!("meter: {} is counted here; reported are {all}", meter.word());
            return Err(Error::invalid(why));
        }
        let most = if meter == Meter::Money { Self::MONEY_MAX } else { Self::AMOUNT_MAX };
        if !(1..=most).contains(&amount) {
            let why = format!("amount: {amount} of {} is not between 1 and {most}", meter.word());
            return Err(Error::invalid(why));
        }
        Ok(Self { id, meter, amount })
    }

    /// By what it is known again.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// What it is of.
    pub fn meter(&self) -> Meter {
        self.meter
    }

    /// How much of it.
    pub fn amount(&self) -> u64 {
        self.amount
    }
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Events that are counted by it.
    pub counted: usize,
    /// Events that had been counted before, or stand in it another time.
    pub duplicates: usize,
    /// What those come to that are counted by it.
    pub amounts: Amounts,
    /// What is left of the day, by the quotas that the tenant has.
    pub left: Vec<(Term, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_words() {
        let event = |id: &str, meter, amount| UsageEvent::new(id, meter, amount);
        let good = event("a/b:1", Meter::Tokens, UsageEvent::AMOUNT_MAX).unwrap();
        assert_eq!((good.id(), good.meter()), ("a/b:1", Meter::Tokens));
        assert_eq!(good.amount(), UsageEvent::AMOUNT_MAX);
        for (id, meter, amount, words) in [
            ("", Meter::Tokens, 1, "id: 1 to 255 visible"),
            ("a b", Meter::Tokens, 1, "id: 1 to 255 visible"),
            ("é", Meter::Tokens, 1, "id: 1 to 255 visible"),
            (&"x".repeat(256), Meter::Tokens, 1, "id: 1 to 255 visible"),
            ("a", Meter::Requests, 1, "reported are messages, tokens, money_micros"),
            ("a", Meter::Messages, 0, "amount: 0 of messages is not between 1 and 1000000000000"),
            ("a", Meter::Money, 10_000_000_001, "of money_micros is not between 1 and 10000000000"),
            ("a", Meter::Messages, UsageEvent::AMOUNT_MAX + 1, "is not between 1 and"),
        ] {
            let why = event(id, meter, amount).unwrap_err();
            assert!(why.public_message().contains(words), "{why}");
        }
    }
}
