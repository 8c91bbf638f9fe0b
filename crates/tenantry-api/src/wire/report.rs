//! What an application reports of a tenant's usage.

use super::capped::capped;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tenantry_engine::{Error, Meter, Reported, Result, UsageEvent};
use utoipa::ToSchema;

/// A report.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportIn {
    /// 1 to 1,000 events. A tenant may report 1,000,000 in a day of UTC.
    #[serde(deserialize_with = "capped::<_, _, { UsageEvent::BATCH_MAX }>")]
    #[schema(min_items = 1, max_items = 1_000)]
    events: Vec<EventIn>,
    /// Count nothing, and answer 429, if `messages_per_day` or `tokens_per_day` would be passed.
    /// Without it everything is counted, because it was used.
    #[serde(default)]
    enforce: bool,
}

/// So much of a meter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventIn {
    /// By what it is known again, in its tenant and for at least 7 days: 1 to 255 visible ASCII
    /// characters.
    #[schema(pattern = "^[!-~]{1,255}$")]
    id: String,
    // Described where it is inline: with a description beside it the document would say that it is
    // a text and an object.
    #[schema(inline)]
    meter: MeterIn,
    /// How much, 1 to 1,000,000,000,000; of money in millionths of a unit of the currency, 1 to
    /// 10,000,000,000.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    amount: u64,
}

/// Meters of which events are reported.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum MeterIn {
    /// Messages.
    Messages,
    /// Tokens of models.
    Tokens,
    /// Money that was spent elsewhere.
    MoneyMicros,
}

impl From<MeterIn> for Meter {
    fn from(meter: MeterIn) -> Self {
        match meter {
            MeterIn::Messages => Self::Messages,
            MeterIn::Tokens => Self::Tokens,
            MeterIn::MoneyMicros => Self::Money,
        }
    }
}

impl ReportIn {
    /// The events, and whether quotas are to be held to.
    pub(crate) fn read(self) -> Result<(Vec<UsageEvent>, bool)> {
        let event = |(number, EventIn { id, meter, amount }): (usize, EventIn)| {
            UsageEvent::new(&id, meter.into(), amount).map_err(|why| {
                Error::invalid(format!("events[{number}], {}", why.public_message()))
            })
        };
        let events = self.events.into_iter().enumerate().map(event).collect::<Result<_>>()?;
        Ok((events, self.enforce))
    }
}

/// What became of a report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportOut {
    /// Events that are counted by it.
    counted: usize,
    /// Events that had been counted before, or stand in it another time.
    duplicates: usize,
    /// What is left of the day of UTC, by the quotas that the tenant has: `messages_per_day`,
    /// `tokens_per_day`.
    left: BTreeMap<&'static str, u64>,
}

impl ReportOut {
    pub(crate) fn new(reported: Reported) -> Self {
        let Reported { counted, duplicates, left, .. } = reported;
        let left = left.into_iter().map(|(term, left)| (term.word(), left)).collect();
        Self { counted, duplicates, left }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_event_is_named() {
        let read = |json: &str| serde_json::from_str::<ReportIn>(json).unwrap().read();
        let json = r#"{"events": [{"id": "a", "meter": "messages", "amount": 1},
            {"id": "b", "meter": "money_micros", "amount": 7}]}"#;
        let (events, enforce) = read(json).unwrap();
        assert_eq!((events.len(), events[1].meter(), enforce), (2, Meter::Money, false));
        let json = r#"{"enforce": true, "events": [{"id": "a", "meter": "tokens", "amount": 1},
            {"id": "", "meter": "tokens", "amount": 1}]}"#;
        let why = read(json).unwrap_err();
        assert!(why.public_message().starts_with("events[1], id: 1 to 255"), "{why}");
    }

    #[test]
    fn words_are_those_that_usage_has() {
        for meter in UsageEvent::METERS {
            let json = format!("{{\"id\": \"a\", \"meter\": \"{}\", \"amount\": 1}}", meter.word());
            let event: EventIn = serde_json::from_str(&json).unwrap();
            assert_eq!(Meter::from(event.meter), meter);
        }
    }
}
