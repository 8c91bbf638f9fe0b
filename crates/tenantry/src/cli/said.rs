//! Limits as people type them: `databases=20`, `requests_per_second=100/300`, `keys=none`; and as
//! they are shown to people.

use super::output::printable;
use serde_json::{Value, json};
use std::{collections::BTreeSet, str::FromStr};
use tenantry::{Allowance, Amount, Isolation, Location, Term};

/// What the help of commands says about the words.
pub(super) const WORDS: &str = "\
What can be limited:
  databases, collections, records_per_collection, keys, users
      How many there may be; a write that would exceed it is refused.
  records
      How many records there may be in all collections together; a write that would exceed it is
      refused. `none` is any number.
  vector_dimensions
      How many components a vector may have, 1 to 16384; asked where a collection's dimension is
      fixed.
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
    if Place::parse(word).is_some() {
        return Err(format!("a plan says `{word}`, and nobody else: give the tenant another plan"));
    }
    Term::parse(word).map_err(|why| why.public_message().to_owned())
}

/// What a plan says of where its tenants may live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Isolations,
    Locations,
}

impl Place {
    pub(super) const ALL: [Self; 2] = [Self::Isolations, Self::Locations];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Isolations => "isolations",
            Self::Locations => "locations",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// Which places, however they were typed; `None` is any.
    pub(super) fn all(self, plan: &Value) -> Option<BTreeSet<&str>> {
        let some = plan[self.word()].as_array()?.iter().filter_map(Value::as_str);
        let some: BTreeSet<_> = some.collect();
        let is_any = self == Self::Isolations && some.len() == Isolation::ALL.len();
        (!is_any).then_some(some)
    }

    /// As it would be typed, out of a plan.
    pub(super) fn shown(self, plan: &Value) -> String {
        let Some(all) = plan[self.word()].as_array() else { return ANY.to_owned() };
        let words: Vec<_> = all.iter().filter_map(Value::as_str).map(printable).collect();
        words.join(",")
    }
}

/// How a plan is said to allow all places.
const ANY: &str = "any";

/// What is typed of a plan: a limit, or places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PlanSaid {
    Limit(Said),
    /// `None` is any.
    Places(Place, Option<Vec<String>>),
}

impl FromStr for PlanSaid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = text.split_once('=').and_then(|(word, all)| Some((Place::parse(word)?, all)));
        let Some((place, all)) = place else { return text.parse().map(Self::Limit) };
        if all == ANY {
            return Ok(Self::Places(place, None));
        }
        let words: Vec<String> = all.split(',').map(str::to_owned).collect();
        for word in &words {
            let known = match place {
                Place::Isolations => Isolation::parse(word).map(drop),
                Place::Locations => Location::parse(word).map(drop),
            };
            known.map_err(|why| why.public_message().to_owned())?;
        }
        Ok(Self::Places(place, Some(words)))
    }
}

impl PlanSaid {
    /// Says it in a plan.
    pub(super) fn put(self, plan: &mut Value) {
        match self {
            Self::Limit(said) => put(plan, said),
            Self::Places(place, all) => plan[place.word()] = all.into(),
        }
    }
}

/// Where a limit stands in a plan, or in what a tenant has, as the server writes it.
fn group(term: Term) -> Option<&'static str> {
    match term {
        Term::Databases
        | Term::Collections
        | Term::RecordsPerCollection
        | Term::Keys
        | Term::Users
        | Term::VectorDimensions => Some("limits"),
        Term::Records
        | Term::Bytes
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
fn put(plan: &mut Value, said: Said) {
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

fn told(of: &Value, term: Term) -> &Value {
    &group(term).map_or(of, |group| &of[group])[term.word()]
}

/// A limit as it would be typed, out of a plan that is to be: what is not said is the default.
pub(super) fn planned(plan: &Value, term: Term) -> String {
    match told(plan, term) {
        Value::Null => Allowance::default().amount(term).to_string(),
        _ => shown(plan, term),
    }
}

/// A limit as it would be typed, out of a plan or of what a tenant has.
pub(super) fn shown(of: &Value, term: Term) -> String {
    match told(of, term) {
        Value::Null => "none".to_owned(),
        Value::Object(rate) => {
            let number = |key| rate.get(key).and_then(Value::as_u64);
            amount(number("value"), number("burst"))
        }
        number => number.to_string(),
    }
}

/// An amount as it would be typed; a burst only if it is not all of it.
pub(super) fn amount(value: Option<u64>, burst: Option<u64>) -> String {
    Amount { value, burst }.to_string()
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
        put(&mut plan, "records=8".parse().unwrap());
        put(&mut plan, "requests_per_day=none".parse().unwrap());
        put(&mut plan, "cost_per_month=9000000".parse().unwrap());
        let quotas = json!({
            "bytes": 7, "records": 8, "requests_per_day": null, "cost_per_month": 9_000_000,
        });
        assert_eq!(plan["quotas"], quotas);
        assert_eq!(shown(&plan, term("records").unwrap()), "8");
        assert_eq!(shown(&plan, term("cost_per_month").unwrap()), "9000000");
        put(&mut plan, "requests_per_hour=5/5".parse().unwrap());
        assert_eq!(shown(&plan, term("requests_per_hour").unwrap()), "5");
    }

    #[test]
    fn places_that_are_typed_are_those_that_are_shown() {
        let mut plan = json!({});
        for text in ["isolations=schema,shared", "locations=home,eu-1", "keys=3"] {
            let said: PlanSaid = text.parse().unwrap();
            said.put(&mut plan);
        }
        let said = json!({"isolations": ["schema", "shared"], "locations": ["home", "eu-1"],
            "limits": {"keys": 3}});
        assert_eq!(plan, said);
        assert_eq!(Place::ALL.map(|one| one.shown(&plan)), ["schema,shared", "home,eu-1"]);
        for text in ["isolations=any", "locations=any"] {
            text.parse::<PlanSaid>().unwrap().put(&mut plan);
        }
        assert_eq!(plan, json!({"isolations": null, "locations": null, "limits": {"keys": 3}}));
        assert_eq!(Place::Locations.shown(&plan), "any");
        for (text, words) in [
            ("isolations=", "the isolation \"\" does not exist"),
            ("isolations=shared, schema", "the isolation \" schema\" does not exist"),
            ("locations=eu,EU", "the location \"EU\" does not exist"),
            ("location=eu", "no limit is called \"location\""),
        ] {
            let why = text.parse::<PlanSaid>().unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn what_is_mistyped_is_told() {
        for (text, words) in [
            ("keys", "write it like"),
            ("key=1", "no limit is called \"key\""),
            ("keys=many", "\"many\" is not a whole number"),
            ("keys=-1", "is not a whole number"),
            ("isolations=shared", "a plan says `isolations`"),
            ("keys=none", "keys: it must be a number"),
            ("vector_dimensions=0", "0 is not between 1 and 16384"),
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
