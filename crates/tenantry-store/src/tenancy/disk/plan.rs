//! Plans, and what is said of one tenant beside its plan.
//!
//! An exception is a number of what it is about and a value, so that something new to be limited
//! is a new number and no new version; a number that is not known is unreadable and not skipped,
//! because a limit that is skipped does not hold.

use super::unreadable;
use crate::TenantInfo;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use tenantry_types::{
    Allowance, Exception, Exceptions, Limits, PlanName, Quotas, Rate, Rates, Result, SharedFailure,
    TenantState, Timestamp,
};

const WHAT: &str = "a plan";
/// What the rest of a plan is about: [`Quotas::bytes`], [`Quotas::day`], [`Quotas::month`].
const BYTES: u8 = 0;
const DAY: u8 = 1;
const MONTH: u8 = 2;
/// [`Limits::users`].
const USERS: u8 = 3;
/// [`Allowance::on_shared_failure`], of which only [`REFUSE`] is written.
const ON_SHARED_FAILURE: u8 = 4;
/// [`Quotas::messages_per_day`], [`Quotas::tokens_per_day`].
const MESSAGES_PER_DAY: u8 = 6;
const TOKENS_PER_DAY: u8 = 7;
/// [`SharedFailure::Refuse`].
const REFUSE: u64 = 1;
/// [`Quotas::cost`].
const COST: u8 = 5;

/// A rate: what comes back in its period, and what may be asked at once.
type DiskRate = (u32, u32);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskPlan {
    V1 {
        /// Databases, collections, records per collection, keys.
        limits: [u64; 4],
        /// A second, a minute, an hour.
        rates: [Option<DiskRate>; 3],
        concurrent: Option<u32>,
        weight: u16,
    },
    /// Of a plan that says something else than everybody has of whom it says nothing.
    V2 {
        limits: [u64; 4],
        rates: [Option<DiskRate>; 3],
        concurrent: Option<u32>,
        weight: u16,
        /// What each is about, ascending, and what is said of it.
        more: Vec<(u8, u64)>,
    },
}

fn rate_to_disk(rate: Rate) -> DiskRate {
    (rate.amount.get(), rate.burst.get())
}

fn number(n: u32) -> Result<NonZeroU32> {
    NonZeroU32::new(n).ok_or_else(|| unreadable(WHAT))
}

fn rate((amount, burst): DiskRate) -> Result<Rate> {
    Ok(Rate { amount: number(amount)?, burst: number(burst)? })
}

fn small(n: u64) -> Result<u32> {
    u32::try_from(n).map_err(|_| unreadable(WHAT))
}

impl DiskPlan {
    pub(crate) fn from_allowance(plan: &Allowance) -> Self {
        let Allowance { limits, rates, quotas, weight, on_shared_failure } = *plan;
        let Rates { second, minute, hour, concurrent } = rates;
        let Limits { databases, collections, records_per_collection, keys, users } = limits;
        let Quotas { bytes, day, month, cost, messages_per_day, tokens_per_day } = quotas;
        let [databases, collections, keys] = [databases, collections, keys].map(u64::from);
        let limits = [databases, collections, records_per_collection, keys];
        let rates = [second, minute, hour].map(|one| one.map(rate_to_disk));
        let concurrent = concurrent.map(NonZeroU32::get);
        let more = [
            (BYTES, bytes),
            (DAY, day),
            (MONTH, month),
            (USERS, (users != Limits::default().users).then_some(users.into())),
            (ON_SHARED_FAILURE, (on_shared_failure == SharedFailure::Refuse).then_some(REFUSE)),
            (COST, cost),
            (MESSAGES_PER_DAY, messages_per_day),
            (TOKENS_PER_DAY, tokens_per_day),
        ];
        let more: Vec<_> =
            more.into_iter().filter_map(|(about, said)| Some((about, said?))).collect();
        if more.is_empty() {
            return Self::V1 { limits, rates, concurrent, weight };
        }
        Self::V2 { limits, rates, concurrent, weight, more }
    }

    pub(crate) fn into_allowance(self) -> Result<Allowance> {
        let (limits, rates, concurrent, weight, more) = match self {
            Self::V1 { limits, rates, concurrent, weight } => {
                (limits, rates, concurrent, weight, Vec::new())
            }
            Self::V2 { limits, rates, concurrent, weight, more } => {
                (limits, rates, concurrent, weight, more)
            }
        };
        let [databases, collections, records_per_collection, keys] = limits;
        let (mut users, mut on_shared_failure) = (Limits::default().users, SharedFailure::Local);
        let mut quotas = Quotas::default();
        for (about, said) in more {
            match (about, said) {
                (BYTES, most) => quotas.bytes = Some(most),
                (DAY, most) => quotas.day = Some(most),
                (MONTH, most) => quotas.month = Some(most),
                (USERS, most) => users = small(most)?,
                (ON_SHARED_FAILURE, REFUSE) => on_shared_failure = SharedFailure::Refuse,
                (COST, most) => quotas.cost = Some(most),
                (MESSAGES_PER_DAY, most) => quotas.messages_per_day = Some(most),
                (TOKENS_PER_DAY, most) => quotas.tokens_per_day = Some(most),
                // It is not skipped: a limit that is skipped does not hold.
                _ => return Err(unreadable(WHAT)),
            }
        }
        let [second, minute, hour] = rates.map(|one| one.map(rate).transpose());
        Ok(Allowance {
            limits: Limits {
                databases: small(databases)?,
                collections: small(collections)?,
                records_per_collection,
                keys: small(keys)?,
                users,
            },
            rates: Rates {
                second: second?,
                minute: minute?,
                hour: hour?,
                concurrent: concurrent.map(number).transpose()?,
            },
            quotas,
            weight,
            on_shared_failure,
        })
    }
}

/// One exception. A stock has `value`; a rate has both or, if there is none, neither; what may be
/// under way has `value` or neither, and so has a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskException {
    about: u8,
    value: Option<u64>,
    burst: Option<u32>,
    expires_at: Option<u64>,
}

impl DiskException {
    fn new<T>(about: u8, one: &Exception<T>, value: Option<u64>, burst: Option<u32>) -> Self {
        Self { about, value, burst, expires_at: one.expires_at.map(|end| end.0) }
    }

    fn of<T>(self, value: T) -> Exception<T> {
        Exception { value, expires_at: self.expires_at.map(Timestamp) }
    }

    fn stock(self) -> Result<u64> {
        match (self.value, self.burst) {
            (Some(value), None) => Ok(value),
            _ => Err(unreadable(WHAT)),
        }
    }

    fn rate(self) -> Result<Option<Rate>> {
        match (self.value, self.burst) {
            (Some(value), Some(burst)) => rate((small(value)?, burst)).map(Some),
            (None, None) => Ok(None),
            _ => Err(unreadable(WHAT)),
        }
    }

    fn quota(self) -> Result<Option<u64>> {
        if self.burst.is_some() { Err(unreadable(WHAT)) } else { Ok(self.value) }
    }

    fn concurrent(self) -> Result<Option<NonZeroU32>> {
        match (self.value, self.burst) {
            (Some(value), None) => number(small(value)?).map(Some),
            (None, None) => Ok(None),
            _ => Err(unreadable(WHAT)),
        }
    }
}

/// What only the rows of tenants have that have a plan or exceptions, or were renamed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskTerms {
    is_whole: bool,
    plan: Option<String>,
    exceptions: Vec<DiskException>,
}

impl DiskTerms {
    pub(super) fn of(info: &TenantInfo) -> Self {
        Self {
            is_whole: info.state != TenantState::Provisioning,
            plan: info.plan.as_ref().map(ToString::to_string),
            exceptions: exceptions_to_disk(&info.exceptions, info.limits.users),
        }
    }

    /// True if it says neither a plan nor an exception.
    pub(super) fn is_empty(&self) -> bool {
        self.plan.is_none() && self.exceptions.is_empty()
    }

    /// False while the tenant is being filled.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Plan, exceptions, and its own limit of members.
    pub(super) fn read(self) -> Result<(Option<PlanName>, Exceptions, u32)> {
        let plan = self.plan.map(PlanName::parse).transpose().map_err(|_| unreadable(WHAT))?;
        let (exceptions, users) = exceptions_from_disk(self.exceptions)?;
        Ok((plan, exceptions, users))
    }
}

/// In the order of their numbers. The last is no exception: the rest of a row has no room for what
/// was said of the tenant's members otherwise.
fn exceptions_to_disk(all: &Exceptions, own_users: u32) -> Vec<DiskException> {
    let stock = |about, one: Option<Exception<u64>>| {
        one.map(|one| DiskException::new(about, &one, Some(one.value), None))
    };
    let wide = |one: Option<Exception<u32>>| {
        one.map(|Exception { value, expires_at }| Exception { value: value.into(), expires_at })
    };
    let rate = |about, one: Option<Exception<Option<Rate>>>| {
        one.map(|one| {
            let (value, burst) = one.value.map(rate_to_disk).unzip();
            DiskException::new(about, &one, value.map(u64::from), burst)
        })
    };
    let concurrent = all
        .concurrent
        .map(|one| DiskException::new(7, &one, one.value.map(|n| n.get().into()), None));
    let weight = all.weight.map(|one| DiskException::new(8, &one, Some(one.value.into()), None));
    let own_users = (own_users != Limits::default().users).then_some(own_users);
    let quota = |about, one: Option<Exception<Option<u64>>>| {
        one.map(|one| DiskException::new(about, &one, one.value, None))
    };
    let all = [
        stock(0, wide(all.databases)),
        stock(1, wide(all.collections)),
        stock(2, all.records_per_collection),
        stock(3, wide(all.keys)),
        rate(4, all.second),
        rate(5, all.minute),
        rate(6, all.hour),
        concurrent,
        weight,
        stock(9, wide(all.users)),
        stock(10, own_users.map(|users| Exception::lasting(users.into()))),
        quota(11, all.bytes),
        quota(12, all.day),
        quota(13, all.month),
        quota(14, all.cost),
        quota(15, all.messages_per_day),
        quota(16, all.tokens_per_day),
    ];
    all.into_iter().flatten().collect()
}

fn exceptions_from_disk(rows: Vec<DiskException>) -> Result<(Exceptions, u32)> {
    let mut all = Exceptions::default();
    let mut own_users = Limits::default().users;
    for row in rows {
        match row.about {
            0 => all.databases = Some(row.of(small(row.stock()?)?)),
            1 => all.collections = Some(row.of(small(row.stock()?)?)),
            2 => all.records_per_collection = Some(row.of(row.stock()?)),
            3 => all.keys = Some(row.of(small(row.stock()?)?)),
            4 => all.second = Some(row.of(row.rate()?)),
            5 => all.minute = Some(row.of(row.rate()?)),
            6 => all.hour = Some(row.of(row.rate()?)),
            7 => all.concurrent = Some(row.of(row.concurrent()?)),
            8 => {
                let weight = u16::try_from(row.stock()?).map_err(|_| unreadable(WHAT))?;
                all.weight = Some(row.of(weight));
            }
            9 => all.users = Some(row.of(small(row.stock()?)?)),
            10 => own_users = small(row.stock()?)?,
            11 => all.bytes = Some(row.of(row.quota()?)),
            12 => all.day = Some(row.of(row.quota()?)),
            13 => all.month = Some(row.of(row.quota()?)),
            14 => all.cost = Some(row.of(row.quota()?)),
            15 => all.messages_per_day = Some(row.of(row.quota()?)),
            16 => all.tokens_per_day = Some(row.of(row.quota()?)),
            _ => return Err(unreadable(WHAT)),
        }
    }
    Ok((all, own_users))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{decode, encode},
        *,
    };

    fn rate(n: u32) -> Option<Rate> {
        NonZeroU32::new(n).map(|burst| Rate { burst, ..Rate::new(NonZeroU32::MIN) })
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let rates = Rates { minute: rate(3), concurrent: NonZeroU32::new(2), ..Rates::default() };
        let limits = Limits { users: 3, ..Limits::default() };
        for (version, plan) in [
            (0, Allowance::default()),
            (0, Allowance { rates, weight: 7, ..Allowance::default() }),
            (1, Allowance { rates, limits, ..Allowance::default() }),
        ] {
            let row = encode(&DiskPlan::from_allowance(&plan));
            assert_eq!(row[0], version);
            let read: DiskPlan = decode(&row, WHAT).unwrap();
            assert_eq!(read.into_allowance().unwrap(), plan);
        }
        let on_shared_failure = SharedFailure::Refuse;
        let plan = Allowance { on_shared_failure, ..Allowance::default() };
        let mut row = encode(&DiskPlan::from_allowance(&plan));
        assert!(row[0] == 1 && row.ends_with(&[1, ON_SHARED_FAILURE, 1]));
        let read: DiskPlan = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_allowance().unwrap(), plan);
        *row.last_mut().unwrap() = 2;
        let unknown: DiskPlan = decode(&row, WHAT).unwrap();
        assert!(unknown.into_allowance().is_err());
    }

    #[test]
    fn quotas_of_a_plan_are_read_as_they_were_written() {
        let quotas =
            Quotas { bytes: Some(300), month: Some(0), cost: Some(7), ..Quotas::default() };
        let plan = Allowance { quotas, ..Allowance::default() };
        let row = encode(&DiskPlan::from_allowance(&plan));
        assert!(row[0] == 1 && row.ends_with(&[3, 0, 0xac, 2, 2, 0, COST, 7]));
        let read: DiskPlan = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_allowance().unwrap(), plan);
        let quotas =
            Quotas { messages_per_day: Some(1), tokens_per_day: Some(300), ..Quotas::default() };
        let plan = Allowance { quotas, ..Allowance::default() };
        let row = encode(&DiskPlan::from_allowance(&plan));
        assert!(row.ends_with(&[2, 6, 1, 7, 0xac, 2]));
        let read: DiskPlan = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_allowance().unwrap(), plan);
        let bad = DiskPlan::V2 {
            limits: [1; 4],
            rates: [None; 3],
            concurrent: None,
            weight: 1,
            more: vec![(99, 1)],
        };
        assert!(bad.into_allowance().is_err());
    }

    #[test]
    fn exceptions_are_read_as_they_were_written() {
        let expires_at = Some(Timestamp(300));
        let all = Exceptions {
            databases: Some(Exception { value: 1, expires_at }),
            records_per_collection: Some(Exception::lasting(u64::MAX)),
            second: Some(Exception { value: rate(4), expires_at }),
            hour: Some(Exception::lasting(None)),
            concurrent: Some(Exception::lasting(NonZeroU32::new(9))),
            weight: Some(Exception::lasting(1_000)),
            users: Some(Exception::lasting(5)),
            bytes: Some(Exception { value: Some(0), expires_at }),
            month: Some(Exception::lasting(None)),
            cost: Some(Exception { value: Some(5), expires_at }),
            messages_per_day: Some(Exception::lasting(Some(8))),
            tokens_per_day: Some(Exception { value: None, expires_at }),
            ..Exceptions::default()
        };
        let row = encode(&exceptions_to_disk(&all, 11));
        assert_eq!(row[..7], [13, 0, 1, 1, 0, 1, 0xac]);
        assert_eq!(exceptions_from_disk(decode(&row, WHAT).unwrap()).unwrap(), (all, 11));
    }

    #[test]
    fn what_is_not_known_is_unreadable() {
        let row = DiskException { about: 99, value: Some(1), burst: None, expires_at: None };
        assert!(exceptions_from_disk(vec![row]).is_err());
        for about in [0, 4, 7, 9, 11, 15] {
            let row = DiskException { about, value: Some(0), burst: Some(0), expires_at: None };
            assert!(exceptions_from_disk(vec![row]).is_err(), "{about}");
        }
    }
}
