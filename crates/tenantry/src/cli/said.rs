//! Limits as people type them: `databases=20`, `requests_per_second=100/300`, `keys=none`; and as
//! they are shown to people.

use serde_json::{Value, json};
use std::str::FromStr;
use tenantry::{Amount, Term};

/// What the help of commands says about the words.
pub(super) const WORDS: &str = "\
What can be limited:
  databases, collections, records_per_collection, keys, users
      How many there may be; a write that would exceed it is refused.
  bytes
      How many bytes of records are kept: ids, texts, URIs, metadata, and 4 for each component of a
      vector; a write that would exceed it is refused. `none` is any number.
  requests_per_day, requests_per_month
      How many requests are served in a day or month of UTC; `none` is any number.
  cost_per_month
      What a month of UTC may cost by the plan's tariff, in millionths of a unit of the currency;
      `none` is any amount. Without a tariff nothing costs anything: see `tenantry tariff --help`.
  messages_per_day, tokens_per_day
      How many messages and tokens may be reported in a day of UTC by whoever asks for quotas to be
      held to; `none` is any number.
  requests_per_second, requests_per_minute, requests_per_hour
      How many requests come back in that time. With /BURST so many may come at once from whoever
      was silent; without it all of them. `none` is no such limit.
  concurrent_requests
      Requests under way at the same time; `none` is any number.
  weight
      The share of compute while several tenants wait for it, 1 to 1000; 100 is usual.";

/// One limit, as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) term: Term,
    pub(super) amount: Amount,
}

impl FromStr for Said {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((word, amount)) = text.split_once('=') else {
            return Err("write it like databases=20 or requests_per_second=100/300".to_owned());
        };
        let term = term(word)?;
        let (value, burst) = match amount.split_once('/') {
            Some((value, burst)) => (value, Some(number(burst)?)),
            None => (amount, None),
        };
        let value = if value == "none" { None } else { Some(number(value)?) };
        let amount = Amount { value, burst };
        amount.check(term).map_err(|why| why.public_message().to_owned())?;
        Ok(Self { term, amount })
    }
}

fn number(text: &str) -> Result<u64, String> {
    let wrong = |_| format!("{text:?} is not a whole number, nor `none`");
    text.parse().map_err(wrong)
}

/// What a limit is called.
pub(super) fn term(word: &str) -> Result<Term, String> {
    Term::parse(word).map_err(|why| why.public_message().to_owned())
}

/// Where a limit stands in a plan, or in what a tenant has, as the server writes it.
fn group(term: Term) -> Option<&'static str> {
    match term {
        Term::Databases
        | Term::Collections
        | Term::RecordsPerCollection
        | Term::Keys
        | Term::Users => Some("limits"),
        Term::Bytes
        | Term::Day
        | Term::Month
        | Term::Cost
        | Term::MessagesPerDay
        | Term::TokensPerDay => Some("quotas"),
        Term::Requests(_) | Term::Concurrent => Some("rates"),
        Term::Weight => None,
    }
}

/// Says a limit in a plan.
pub(super) fn put(plan: &mut Value, said: Said) {
    let Amount { value, burst } = said.amount;
    let told = match (said.term, value) {
        (Term::Requests(_), Some(value)) => json!({ "value": value, "burst": burst }),
        (_, value) => value.into(),
    };
    match group(said.term) {
        Some(group) => plan[group][said.term.word()] = told,
        None => plan[said.term.word()] = told,
    }
}

/// A limit as it would be typed, out of a plan or of what a tenant has.
pub(super) fn shown(of: &Value, term: Term) -> String {
    let all = group(term).map_or(of, |group| &of[group]);
    match &all[term.word()] {
        Value::Null => "none".to_owned(),
        Value::Object(rate) => {
            let number = |key| rate.get(key).and_then(Value::as_u64).unwrap_or_default();
            amount(Some(number("value")), Some(number("burst")))
        }
        number => number.to_string(),
    }
}

/// An amount as it would be typed; a burst only if it is not all of it.
pub(super) fn amount(value: Option<u64>, burst: Option<u64>) -> String {
    match (value, burst) {
        (None, _) => "none".to_owned(),
        (Some(value), Some(burst)) if burst != value => format!("{value}/{burst}"),
        (Some(value), _) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_shown() {
        let mut plan = json!({});
        for text in ["keys=0", "weight=7", "requests_per_hour=5/9", "concurrent_requests=none"] {
            let said: Said = text.parse().unwrap();
            put(&mut plan, said);
            let (word, typed) = text.split_once('=').unwrap();
            assert_eq!((said.term.word(), shown(&plan, said.term).as_str()), (word, typed));
        }
        assert_eq!(
            plan,
            json!({"limits": {"keys": 0}, "weight": 7, "rates": {
                "requests_per_hour": {"value": 5, "burst": 9}, "concurrent_requests": null,
            }})
        );
        put(&mut plan, "bytes=7".parse().unwrap());
        put(&mut plan, "requests_per_day=none".parse().unwrap());
        put(&mut plan, "cost_per_month=9000000".parse().unwrap());
        let quotas = json!({"bytes": 7, "requests_per_day": null, "cost_per_month": 9_000_000});
        assert_eq!(plan["quotas"], quotas);
        assert_eq!(shown(&plan, term("cost_per_month").unwrap()), "9000000");
        put(&mut plan, "requests_per_hour=5/5".parse().unwrap());
        assert_eq!(shown(&plan, term("requests_per_hour").unwrap()), "5");
    }

    #[test]
    fn what_is_mistyped_is_told() {
        for (text, words) in [
            ("keys", "write it like"),
            ("key=1", "no limit is called \"key\""),
            ("keys=many", "\"many\" is not a whole number"),
            ("keys=-1", "is not a whole number"),
            ("keys=none", "keys: it must be a number"),
            ("keys=1/2", "only rates have a burst"),
            ("requests_per_day=1/2", "only rates have a burst"),
            ("cost_per_month=1.5", "is not a whole number"),
            ("requests_per_second=none/2", "a burst without a rate"),
            ("requests_per_second=0", "0 is not between 1"),
            ("weight=1001", "1001 is not between 1 and 1000"),
        ] {
            let why = text.parse::<Said>().unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
