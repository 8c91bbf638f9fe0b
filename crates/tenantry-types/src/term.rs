//! What a plan and an exception can say something of, one by one: by a word and a number.

use crate::{Allowance, Error, Exception, Exceptions, Limits, Period, Rate, Result, Timestamp};
use std::{fmt, num::NonZeroU32};

/// One of the things that a plan says how many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Term {
    /// [`Limits::databases`](crate::Limits::databases).
    Databases,
    /// [`Limits::collections`](crate::Limits::collections).
    Collections,
    /// [`Limits::records_per_collection`](crate::Limits::records_per_collection).
    RecordsPerCollection,
    /// [`Limits::keys`](crate::Limits::keys).
    Keys,
    /// [`Limits::users`](crate::Limits::users).
    Users,
    /// [`Limits::vector_dimensions`](crate::Limits::vector_dimensions).
    VectorDimensions,
    /// [`Quotas::records`](crate::Quotas::records).
    Records,
    /// [`Quotas::bytes`](crate::Quotas::bytes).
    Bytes,
    /// [`Quotas::day`](crate::Quotas::day).
    Day,
    /// [`Quotas::month`](crate::Quotas::month).
    Month,
    /// [`Quotas::cost`](crate::Quotas::cost).
    Cost,
    /// [`Quotas::messages_per_day`](crate::Quotas::messages_per_day).
    MessagesPerDay,
    /// [`Quotas::tokens_per_day`](crate::Quotas::tokens_per_day).
    TokensPerDay,
    /// [`Rates::rate`](crate::Rates::rate).
    Requests(Period),
    /// [`Rates::concurrent`](crate::Rates::concurrent).
    Concurrent,
    /// [`Allowance::weight`].
    Weight,
}

impl Term {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 18] = [
        Self::Databases,
        Self::Collections,
        Self::RecordsPerCollection,
        Self::Keys,
        Self::Users,
        Self::VectorDimensions,
        Self::Records,
        Self::Bytes,
        Self::Requests(Period::Second),
        Self::Requests(Period::Minute),
        Self::Requests(Period::Hour),
        Self::Day,
        Self::Month,
        Self::Cost,
        Self::MessagesPerDay,
        Self::TokensPerDay,
        Self::Concurrent,
        Self::Weight,
    ];

    /// Its word in protocols and commands.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Databases => "databases",
            Self::Collections => "collections",
            Self::RecordsPerCollection => "records_per_collection",
            Self::Keys => "keys",
            Self::Users => "users",
            Self::VectorDimensions => "vector_dimensions",
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::Requests(Period::Second) => "requests_per_second",
            Self::Requests(Period::Minute) => "requests_per_minute",
            Self::Requests(Period::Hour) => "requests_per_hour",
            Self::Day => "requests_per_day",
            Self::Month => "requests_per_month",
            Self::Cost => "cost_per_month",
            Self::MessagesPerDay => "messages_per_day",
            Self::TokensPerDay => "tokens_per_day",
            Self::Concurrent => "concurrent_requests",
            Self::Weight => "weight",
        }
    }

    /// The one with this word.
    pub fn parse(word: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.word() == word);
        found.ok_or_else(|| {
            let all = Self::ALL.map(Self::word).join(", ");
            Error::invalid(format!("no limit is called {word:?}; there are {all}"))
        })
    }

    /// A whole number in this range, for messages that name the term.
    fn number<T: TryFrom<u64>>(self, value: u64, (least, most): (u64, u64)) -> Result<T> {
        let fits = (least..=most).contains(&value).then(|| T::try_from(value).ok()).flatten();
        fits.ok_or_else(|| {
            Error::invalid(format!("{self}: {value} is not between {least} and {most}"))
        })
    }

    fn some(self, amount: Amount) -> Result<u64> {
        if amount.burst.is_some() {
            return Err(Error::invalid(format!("{self}: only rates have a burst")));
        }
        let message = "it must be a number; only rates, quotas and concurrent_requests can be \
                       unlimited";
        amount.value.ok_or_else(|| Error::invalid(format!("{self}: {message}")))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How many: what a protocol or a person says of any [`Term`], before it is known to be right, and
/// how what is right is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Amount {
    /// `None` is unlimited.
    pub value: Option<u64>,
    /// For rates only: how many at once. If it is not said, all of `value`.
    pub burst: Option<u64>,
}

impl fmt::Display for Amount {
    /// As it would be typed; a burst only if it is not all of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.value, self.burst) {
            (None, _) => f.write_str("none"),
            (Some(value), Some(burst)) if burst != value => write!(f, "{value}/{burst}"),
            (Some(value), _) => write!(f, "{value}"),
        }
    }
}

const LARGE: (u64, u64) = (0, u32::MAX as u64);
const SOME: (u64, u64) = (1, u32::MAX as u64);

impl Amount {
    /// So many.
    pub const fn of(value: u64) -> Self {
        Self { value: Some(value), burst: None }
    }

    fn stock(self, term: Term) -> Result<u32> {
        term.number(term.some(self)?, LARGE)
    }

    /// Fails unless this can be said of the term, with words that name it.
    pub fn check(self, term: Term) -> Result<()> {
        Exceptions::default().set(term, Some(Exception::lasting(self)))
    }

    /// As a rate of this term; `None` is no rate.
    pub fn rate(self, term: Term) -> Result<Option<Rate>> {
        let some = |value| term.number::<u32>(value, SOME).map(NonZeroU32::new);
        match (self.value, self.burst) {
            (Some(value), burst) => {
                let burst = burst.map(|burst| {
                    let least = |_| {
                        Error::invalid(format!(
                            "{term}, burst: {burst} is not between 1 and {}",
                            u32::MAX
                        ))
                    };
                    some(burst).map_err(least)
                });
                let rate = some(value)?.map(Rate::new);
                Ok(match burst.transpose()?.flatten() {
                    Some(burst) => rate.map(|rate| Rate { burst, ..rate }),
                    None => rate,
                })
            }
            (None, None) => Ok(None),
            (None, Some(_)) => {
                let message = "a burst without a rate limits nothing; say both or neither";
                Err(Error::invalid(format!("{term}: {message}")))
            }
        }
    }

    /// As a number of requests at the same time; `None` is any.
    pub fn concurrent(self, term: Term) -> Result<Option<NonZeroU32>> {
        match self {
            Self { value: None, burst: None } => Ok(None),
            Self { value: None, burst: Some(_) } | Self { value: Some(_), .. } => {
                term.number(term.some(self)?, SOME).map(NonZeroU32::new)
            }
        }
    }

    /// As a sum that may not be passed; `None` is any.
    pub fn quota(self, term: Term) -> Result<Option<u64>> {
        match self {
            Self { value: None, burst: None } => Ok(None),
            Self { .. } => term.some(self).map(Some),
        }
    }

    fn of_quota(value: Option<u64>) -> Self {
        Self { value, burst: None }
    }

    fn of_rate(rate: Option<Rate>) -> Self {
        let of = |rate: Rate| (rate.amount.get().into(), rate.burst.get().into());
        let (value, burst) = rate.map(of).unzip();
        Self { value, burst }
    }

    fn of_concurrent(most: Option<NonZeroU32>) -> Self {
        Self { value: most.map(|most| most.get().into()), burst: None }
    }
}

impl Allowance {
    /// How many of one thing.
    pub fn amount(&self, term: Term) -> Amount {
        let Self { limits, rates, quotas, weight, .. } = self;
        match term {
            Term::Databases => Amount::of(limits.databases.into()),
            Term::Collections => Amount::of(limits.collections.into()),
            Term::RecordsPerCollection => Amount::of(limits.records_per_collection),
            Term::Keys => Amount::of(limits.keys.into()),
            Term::Users => Amount::of(limits.users.into()),
            Term::VectorDimensions => Amount::of(limits.vector_dimensions.into()),
            Term::Records => Amount::of_quota(quotas.records),
            Term::Bytes => Amount::of_quota(quotas.bytes),
            Term::Day => Amount::of_quota(quotas.day),
            Term::Month => Amount::of_quota(quotas.month),
            Term::Cost => Amount::of_quota(quotas.cost),
            Term::MessagesPerDay => Amount::of_quota(quotas.messages_per_day),
            Term::TokensPerDay => Amount::of_quota(quotas.tokens_per_day),
            Term::Requests(period) => Amount::of_rate(rates.rate(period)),
            Term::Concurrent => Amount::of_concurrent(rates.concurrent),
            Term::Weight => Amount::of((*weight).into()),
        }
    }
}

impl Exceptions {
    /// The exception of one thing, whether or not it has ended.
    pub fn get(&self, term: Term) -> Option<Exception<Amount>> {
        fn shown<T: Copy>(
            one: Option<Exception<T>>,
            amount: impl FnOnce(T) -> Amount,
        ) -> Option<Exception<Amount>> {
            one.map(|Exception { value, expires_at }| Exception {
                value: amount(value),
                expires_at,
            })
        }
        let small = |value: u32| Amount::of(value.into());
        match term {
            Term::Databases => shown(self.databases, small),
            Term::Collections => shown(self.collections, small),
            Term::RecordsPerCollection => shown(self.records_per_collection, Amount::of),
            Term::Keys => shown(self.keys, small),
            Term::Users => shown(self.users, small),
            Term::VectorDimensions => shown(self.vector_dimensions, small),
            Term::Records => shown(self.records, Amount::of_quota),
            Term::Bytes => shown(self.bytes, Amount::of_quota),
            Term::Day => shown(self.day, Amount::of_quota),
            Term::Month => shown(self.month, Amount::of_quota),
            Term::Cost => shown(self.cost, Amount::of_quota),
            Term::MessagesPerDay => shown(self.messages_per_day, Amount::of_quota),
            Term::TokensPerDay => shown(self.tokens_per_day, Amount::of_quota),
            Term::Requests(Period::Second) => shown(self.second, Amount::of_rate),
            Term::Requests(Period::Minute) => shown(self.minute, Amount::of_rate),
            Term::Requests(Period::Hour) => shown(self.hour, Amount::of_rate),
            Term::Concurrent => shown(self.concurrent, Amount::of_concurrent),
            Term::Weight => shown(self.weight, |value| Amount::of(value.into())),
        }
    }

    /// Says something else of one thing, or no more.
    fn set(&mut self, term: Term, one: Option<Exception<Amount>>) -> Result<()> {
        fn made<T>(
            one: Option<Exception<Amount>>,
            read: impl FnOnce(Amount) -> Result<T>,
        ) -> Result<Option<Exception<T>>> {
            let Some(Exception { value, expires_at }) = one else { return Ok(None) };
            Ok(Some(Exception { value: read(value)?, expires_at }))
        }
        let stock = |amount: Amount| amount.stock(term);
        let quota = |amount: Amount| amount.quota(term);
        let rate = |amount: Amount| amount.rate(term);
        let users = |amount| term.number(term.some(amount)?, (0, Limits::USERS_MAX.into()));
        let dimensions =
            |amount| term.number(term.some(amount)?, (1, Limits::VECTOR_DIMENSIONS_MAX.into()));
        let weight = |amount| term.number(term.some(amount)?, (1, Allowance::WEIGHT_MAX.into()));
        match term {
            Term::Databases => self.databases = made(one, stock)?,
            Term::Collections => self.collections = made(one, stock)?,
            Term::RecordsPerCollection => {
                self.records_per_collection = made(one, |amount| term.some(amount))?;
            }
            Term::Keys => self.keys = made(one, stock)?,
            Term::Users => self.users = made(one, users)?,
            Term::VectorDimensions => self.vector_dimensions = made(one, dimensions)?,
            Term::Records => self.records = made(one, quota)?,
            Term::Bytes => self.bytes = made(one, quota)?,
            Term::Day => self.day = made(one, quota)?,
            Term::Month => self.month = made(one, quota)?,
            Term::Cost => self.cost = made(one, quota)?,
            Term::MessagesPerDay => self.messages_per_day = made(one, quota)?,
            Term::TokensPerDay => self.tokens_per_day = made(one, quota)?,
            Term::Requests(Period::Second) => self.second = made(one, rate)?,
            Term::Requests(Period::Minute) => self.minute = made(one, rate)?,
            Term::Requests(Period::Hour) => self.hour = made(one, rate)?,
            Term::Concurrent => self.concurrent = made(one, |amount| amount.concurrent(term))?,
            Term::Weight => self.weight = made(one, weight)?,
        }
        Ok(())
    }
}

/// Exceptions that are made and ended, one by one; all others stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExceptionChange {
    made: Exceptions,
    ended: Vec<Term>,
}

impl ExceptionChange {
    /// Says so many instead of what the plan says, until a time if there is one. Of what was said
    /// of the same thing before, the last counts.
    pub fn make(&mut self, term: Term, value: Amount, expires_at: Option<Timestamp>) -> Result<()> {
        self.made.set(term, Some(Exception { value, expires_at }))?;
        self.ended.retain(|ended| *ended != term);
        Ok(())
    }

    /// Lets the plan count again.
    pub fn end(&mut self, term: Term) {
        // Ending is always right.
        let _ = self.made.set(term, None);
        self.ended.push(term);
    }

    /// True if nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.made == Exceptions::default()
    }

    /// Until when those count that are made.
    pub fn ends(&self) -> impl Iterator<Item = Timestamp> {
        Term::ALL.into_iter().filter_map(|term| self.made.get(term)?.expires_at)
    }

    /// What is said after the change.
    #[must_use]
    pub fn over(&self, before: Exceptions) -> Exceptions {
        let Exceptions {
            databases,
            collections,
            records_per_collection,
            keys,
            users,
            vector_dimensions,
            second,
            minute,
            hour,
            concurrent,
            records,
            bytes,
            day,
            month,
            cost,
            messages_per_day,
            tokens_per_day,
            weight,
        } = self.made;
        let mut kept = before;
        for term in &self.ended {
            let _ = kept.set(*term, None);
        }
        Exceptions {
            databases: databases.or(kept.databases),
            collections: collections.or(kept.collections),
            records_per_collection: records_per_collection.or(kept.records_per_collection),
            keys: keys.or(kept.keys),
            users: users.or(kept.users),
            vector_dimensions: vector_dimensions.or(kept.vector_dimensions),
            second: second.or(kept.second),
            minute: minute.or(kept.minute),
            hour: hour.or(kept.hour),
            concurrent: concurrent.or(kept.concurrent),
            records: records.or(kept.records),
            bytes: bytes.or(kept.bytes),
            day: day.or(kept.day),
            month: month.or(kept.month),
            cost: cost.or(kept.cost),
            messages_per_day: messages_per_day.or(kept.messages_per_day),
            tokens_per_day: tokens_per_day.or(kept.tokens_per_day),
            weight: weight.or(kept.weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rates;

    const SECOND: Term = Term::Requests(Period::Second);

    fn why(term: Term, value: Option<u64>, burst: Option<u64>) -> String {
        let made = ExceptionChange::default().make(term, Amount { value, burst }, None);
        made.unwrap_err().public_message().to_owned()
    }

    #[test]
    fn words_name_all_terms() {
        for term in Term::ALL {
            assert_eq!(Term::parse(term.word()).unwrap(), term);
        }
        let why = Term::parse("requests").unwrap_err();
        assert!(why.public_message().contains("requests_per_second, requests_per_minute"));
    }

    #[test]
    fn what_is_said_of_a_term_is_what_is_shown_of_it() {
        let mut change = ExceptionChange::default();
        let burst = Amount { burst: Some(9), ..Amount::of(7) };
        let all = Term::ALL.map(|term| match term {
            Term::Requests(_) => (term, burst),
            _ => (term, Amount::of(7)),
        });
        for (term, amount) in all {
            change.make(term, amount, Some(Timestamp(5))).unwrap();
        }
        let made = change.over(Exceptions::default());
        let has = made.of(&Allowance::default(), Timestamp(4));
        for (term, value) in all {
            let expires_at = Some(Timestamp(5));
            assert_eq!(made.get(term), Some(Exception { value, expires_at }));
            assert_eq!(has.amount(term), value);
        }
        assert_eq!(change.ends().count(), Term::ALL.len());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_name() {
        assert_eq!(
            why(Term::Keys, Some(1 << 32), None),
            "keys: 4294967296 is not between 0 and 4294967295"
        );
        assert!(why(Term::Databases, None, None).starts_with("databases: it must be a number"));
        assert_eq!(why(Term::Keys, Some(1), Some(1)), "keys: only rates have a burst");
        assert_eq!(why(Term::Day, None, Some(1)), "requests_per_day: only rates have a burst");
        assert!(why(SECOND, Some(0), None).starts_with("requests_per_second: 0 is not between 1"));
        assert!(why(SECOND, Some(1), Some(0)).starts_with("requests_per_second, burst: 0 is not"));
        assert!(why(SECOND, None, Some(1)).contains("a burst without a rate"));
        assert!(why(Term::Concurrent, Some(0), None).contains("0 is not between 1"));
        assert!(why(Term::Concurrent, None, Some(2)).contains("only rates have a burst"));
        for bad in [0, 16_385, 1 << 40] {
            let why = why(Term::VectorDimensions, Some(bad), None);
            assert_eq!(why, format!("vector_dimensions: {bad} is not between 1 and 16384"));
        }
        for weight in [0, 1_001, 1 << 40] {
            assert!(why(Term::Weight, Some(weight), None).contains("is not between 1 and 1000"));
        }
    }

    #[test]
    fn a_rate_without_a_burst_may_be_asked_all_at_once() {
        let rate = Amount::of(5).rate(SECOND).unwrap().unwrap();
        assert_eq!((rate.amount, rate.burst), (NonZeroU32::new(5).unwrap(), rate.amount));
        assert_eq!(Amount::default().rate(SECOND).unwrap(), None);
    }

    #[test]
    fn what_is_not_named_stays_and_what_is_ended_follows_the_plan() {
        let before = Exceptions {
            databases: Some(Exception::lasting(1)),
            keys: Some(Exception::lasting(2)),
            second: Some(Exception::lasting(None)),
            ..Exceptions::default()
        };
        let mut change = ExceptionChange::default();
        assert!(change.is_empty());
        change.make(Term::Keys, Amount::of(3), None).unwrap();
        change.end(SECOND);
        change.make(Term::Weight, Amount::of(4), None).unwrap();
        change.end(Term::Weight);
        let after = change.over(before);
        let keys = Some(Exception::lasting(3));
        assert_eq!(after, Exceptions { keys, second: None, ..before });
        let has = after.of(&Allowance::default(), Timestamp(0));
        let limits = Limits { databases: 1, keys: 3, ..Limits::default() };
        assert_eq!(has, Allowance { limits, rates: Rates::default(), ..Allowance::default() });
    }
}
