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
    Allowance, Exception, Exceptions, Limits, PlanName, Rate, Rates, Result, TenantState, Timestamp,
};

const WHAT: &str = "a plan";

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
        let Allowance { limits, rates, weight } = *plan;
        let Rates { second, minute, hour, concurrent } = rates;
        Self::V1 {
            limits: [
                limits.databases.into(),
                limits.collections.into(),
                limits.records_per_collection,
                limits.keys.into(),
            ],
            rates: [second, minute, hour].map(|one| one.map(rate_to_disk)),
            concurrent: concurrent.map(NonZeroU32::get),
            weight,
        }
    }

    pub(crate) fn into_allowance(self) -> Result<Allowance> {
        let Self::V1 { limits, rates, concurrent, weight } = self;
        let [databases, collections, records_per_collection, keys] = limits;
        let [second, minute, hour] = rates.map(|one| one.map(rate).transpose());
        Ok(Allowance {
            limits: Limits {
                databases: small(databases)?,
                collections: small(collections)?,
                records_per_collection,
                keys: small(keys)?,
            },
            rates: Rates {
                second: second?,
                minute: minute?,
                hour: hour?,
                concurrent: concurrent.map(number).transpose()?,
            },
            weight,
        })
    }
}

/// One exception. A stock has `value`; a rate has both or, if there is none, neither; what may be
/// under way has `value` or neither.
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

    fn concurrent(self) -> Result<Option<NonZeroU32>> {
        match (self.value, self.burst) {
            (Some(value), None) => number(small(value)?).map(Some),
            (None, None) => Ok(None),
            _ => Err(unreadable(WHAT)),
        }
    }
}

/// What only the rows of tenants have that have a plan or exceptions.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskTerms {
    is_whole: bool,
    plan: Option<String>,
    exceptions: Vec<DiskException>,
}

impl DiskTerms {
    /// None if there is neither.
    pub(super) fn of(info: &TenantInfo) -> Option<Self> {
        if info.plan.is_none() && info.exceptions == Exceptions::default() {
            return None;
        }
        Some(Self {
            is_whole: info.state != TenantState::Provisioning,
            plan: info.plan.as_ref().map(ToString::to_string),
            exceptions: exceptions_to_disk(&info.exceptions),
        })
    }

    /// False while the tenant is being filled.
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub(super) fn read(self) -> Result<(Option<PlanName>, Exceptions)> {
        let plan = self.plan.map(PlanName::parse).transpose().map_err(|_| unreadable(WHAT))?;
        Ok((plan, exceptions_from_disk(self.exceptions)?))
    }
}

/// In the order of their numbers.
fn exceptions_to_disk(all: &Exceptions) -> Vec<DiskException> {
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
    ];
    all.into_iter().flatten().collect()
}

fn exceptions_from_disk(rows: Vec<DiskException>) -> Result<Exceptions> {
    let mut all = Exceptions::default();
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
            _ => return Err(unreadable(WHAT)),
        }
    }
    Ok(all)
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
        for plan in [Allowance::default(), Allowance { rates, weight: 7, ..Allowance::default() }] {
            let row = encode(&DiskPlan::from_allowance(&plan));
            let read: DiskPlan = decode(&row, WHAT).unwrap();
            assert_eq!(read.into_allowance().unwrap(), plan);
        }
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
            ..Exceptions::default()
        };
        let row = encode(&exceptions_to_disk(&all));
        assert_eq!(row[..7], [6, 0, 1, 1, 0, 1, 0xac]);
        assert_eq!(exceptions_from_disk(decode(&row, WHAT).unwrap()).unwrap(), all);
    }

    #[test]
    fn what_is_not_known_is_unreadable() {
        let row = DiskException { about: 9, value: Some(1), burst: None, expires_at: None };
        assert!(exceptions_from_disk(vec![row]).is_err());
        for about in [0, 4, 7] {
            let row = DiskException { about, value: Some(0), burst: Some(0), expires_at: None };
            assert!(exceptions_from_disk(vec![row]).is_err(), "{about}");
        }
    }
}
