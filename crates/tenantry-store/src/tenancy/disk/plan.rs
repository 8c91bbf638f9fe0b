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
    Allowance, Exception, Exceptions, Isolation, Limits, Location, Places, PlanName, Quotas, Rate,
    Rates, Result, SharedFailure, TenantPlan, TenantState, Timestamp,
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
/// [`Limits::vector_dimensions`].
const VECTOR_DIMENSIONS: u8 = 8;
/// [`Places::isolations`], unless all are allowed: a bit for each, by these numbers.
const ISOLATIONS: u8 = 9;
const ISOLATION_BITS: [(Isolation, u64); 3] =
    [(Isolation::Shared, 1), (Isolation::Schema, 2), (Isolation::Database, 4)];
const _: () = assert!(ISOLATION_BITS.len() == Isolation::ALL.len(), "each has its bit");

/// [`Quotas::records`].
const RECORDS: u8 = 10;

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
    /// Of a plan that names locations.
    V3 {
        limits: [u64; 4],
        rates: [Option<DiskRate>; 3],
        concurrent: Option<u32>,
        weight: u16,
        more: Vec<(u8, u64)>,
        /// Where its tenants may be, by their words.
        locations: Vec<String>,
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

/// What is not said is what everybody has who is not told anything.
fn unless<T: PartialEq + Into<u64>>(said: T, usual: T) -> Option<u64> {
    (said != usual).then(|| said.into())
}

fn isolations_to_disk(places: &Places) -> Option<u64> {
    let bit = |one: Isolation| ISOLATION_BITS.into_iter().find(|row| row.0 == one);
    let bits = places.isolations().filter_map(bit).fold(0, |all, (_, bit)| all | bit);
    let all = ISOLATION_BITS.iter().fold(0, |all, (_, bit)| all | bit);
    unless(bits, all)
}

fn isolations_from_disk(bits: u64) -> Result<Vec<Isolation>> {
    let all = ISOLATION_BITS.iter().fold(0, |all, (_, bit)| all | bit);
    if bits & !all != 0 {
        return Err(unreadable(WHAT));
    }
    Ok(ISOLATION_BITS.iter().filter(|(_, bit)| bits & bit != 0).map(|(one, _)| *one).collect())
}

impl DiskPlan {
    pub(crate) fn of(plan: &TenantPlan) -> Self {
        let Allowance { limits, rates, quotas, weight, on_shared_failure } = plan.allowance;
        let Rates { second, minute, hour, concurrent } = rates;
        let Limits {
            databases,
            collections,
            records_per_collection,
            keys,
            users,
            vector_dimensions,
        } = limits;
        let Quotas { records, bytes, day, month, cost, messages_per_day, tokens_per_day } = quotas;
        let [databases, collections, keys] = [databases, collections, keys].map(u64::from);
        let (limits, usual) =
            ([databases, collections, records_per_collection, keys], Limits::default());
        let rates = [second, minute, hour].map(|one| one.map(rate_to_disk));
        let concurrent = concurrent.map(NonZeroU32::get);
        let more = [
            (BYTES, bytes),
            (DAY, day),
            (MONTH, month),
            (USERS, unless(users, usual.users)),
            (ON_SHARED_FAILURE, (on_shared_failure == SharedFailure::Refuse).then_some(REFUSE)),
            (COST, cost),
            (MESSAGES_PER_DAY, messages_per_day),
            (TOKENS_PER_DAY, tokens_per_day),
            (VECTOR_DIMENSIONS, unless(vector_dimensions, usual.vector_dimensions)),
            (ISOLATIONS, isolations_to_disk(&plan.places)),
            (RECORDS, records),
        ];
        let more: Vec<_> =
            more.into_iter().filter_map(|(about, said)| Some((about, said?))).collect();
        if let Some(locations) = plan.places.locations() {
            let locations = locations.iter().map(ToString::to_string).collect();
            return Self::V3 { limits, rates, concurrent, weight, more, locations };
        }
        if more.is_empty() {
            return Self::V1 { limits, rates, concurrent, weight };
        }
        Self::V2 { limits, rates, concurrent, weight, more }
    }

    pub(crate) fn into_plan(self, name: PlanName) -> Result<TenantPlan> {
        let (limits, rates, concurrent, weight, more, locations) = match self {
            Self::V1 { limits, rates, concurrent, weight } => {
                (limits, rates, concurrent, weight, Vec::new(), None)
            }
            Self::V2 { limits, rates, concurrent, weight, more } => {
                (limits, rates, concurrent, weight, more, None)
            }
            Self::V3 { limits, rates, concurrent, weight, more, locations } => {
                (limits, rates, concurrent, weight, more, Some(locations))
            }
        };
        let [databases, collections, records_per_collection, keys] = limits;
        let limits = Limits {
            databases: small(databases)?,
            collections: small(collections)?,
            records_per_collection,
            keys: small(keys)?,
            ..Limits::default()
        };
        let [second, minute, hour] = rates.map(|one| one.map(rate).transpose());
        let concurrent = concurrent.map(number).transpose()?;
        let rates = Rates { second: second?, minute: minute?, hour: hour?, concurrent };
        let (mut allowance, mut isolations) =
            (Allowance { limits, rates, weight, ..Allowance::default() }, None);
        for said in more {
            match said {
                (ISOLATIONS, bits) => isolations = Some(isolations_from_disk(bits)?),
                said => add(&mut allowance, said)?,
            }
        }
        let location = |word: String| Location::parse(&word);
        let locations = locations.map(|words| words.into_iter().map(location).collect());
        let places = locations
            .transpose()
            .and_then(|locations| Places::new(isolations.as_deref(), locations))
            .map_err(|_| unreadable(WHAT))?;
        Ok(TenantPlan { name, allowance, places })
    }
}

/// Adds what the rest of a plan says.
fn add(plan: &mut Allowance, said: (u8, u64)) -> Result<()> {
    let Allowance { limits, quotas, on_shared_failure, .. } = plan;
    match said {
        (BYTES, most) => quotas.bytes = Some(most),
        (DAY, most) => quotas.day = Some(most),
        (MONTH, most) => quotas.month = Some(most),
        (USERS, most) => limits.users = small(most)?,
        (ON_SHARED_FAILURE, REFUSE) => *on_shared_failure = SharedFailure::Refuse,
        (COST, most) => quotas.cost = Some(most),
        (MESSAGES_PER_DAY, most) => quotas.messages_per_day = Some(most),
        (TOKENS_PER_DAY, most) => quotas.tokens_per_day = Some(most),
        (VECTOR_DIMENSIONS, most) => limits.vector_dimensions = small(most)?,
        (RECORDS, most) => quotas.records = Some(most),
        // It is not skipped: a limit that is skipped does not hold.
        _ => return Err(unreadable(WHAT)),
    }
    Ok(())
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
            exceptions: exceptions_to_disk(&info.exceptions, &info.limits),
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

    /// Plan, exceptions, and of its own limits those that the rest of a row has no room for.
    pub(super) fn read(self) -> Result<(Option<PlanName>, Exceptions, Limits)> {
        let plan = self.plan.map(PlanName::parse).transpose().map_err(|_| unreadable(WHAT))?;
        let (exceptions, own) = exceptions_from_disk(self.exceptions)?;
        Ok((plan, exceptions, own))
    }
}

/// In the order of their numbers. Two are no exceptions: the rest of a row has no room for what was
/// said of the tenant's members and vectors otherwise.
fn exceptions_to_disk(all: &Exceptions, own: &Limits) -> Vec<DiskException> {
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
    let usual = Limits::default();
    let own_users = unless(own.users, usual.users).map(Exception::lasting);
    let own_dimensions =
        unless(own.vector_dimensions, usual.vector_dimensions).map(Exception::lasting);
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
        stock(10, own_users),
        quota(11, all.bytes),
        quota(12, all.day),
        quota(13, all.month),
        quota(14, all.cost),
        quota(15, all.messages_per_day),
        quota(16, all.tokens_per_day),
        stock(17, wide(all.vector_dimensions)),
        stock(18, own_dimensions),
        quota(19, all.records),
    ];
    all.into_iter().flatten().collect()
}

fn exceptions_from_disk(rows: Vec<DiskException>) -> Result<(Exceptions, Limits)> {
    let (mut all, mut own) = (Exceptions::default(), Limits::default());
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
            10 => own.users = small(row.stock()?)?,
            11 => all.bytes = Some(row.of(row.quota()?)),
            12 => all.day = Some(row.of(row.quota()?)),
            13 => all.month = Some(row.of(row.quota()?)),
            14 => all.cost = Some(row.of(row.quota()?)),
            15 => all.messages_per_day = Some(row.of(row.quota()?)),
            16 => all.tokens_per_day = Some(row.of(row.quota()?)),
            17 => all.vector_dimensions = Some(row.of(small(row.stock()?)?)),
            18 => own.vector_dimensions = small(row.stock()?)?,
            19 => all.records = Some(row.of(row.quota()?)),
            _ => return Err(unreadable(WHAT)),
        }
    }
    Ok((all, own))
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

    fn plan(allowance: Allowance) -> TenantPlan {
        TenantPlan::new(PlanName::parse("p").unwrap(), allowance)
    }

    fn read(row: &[u8]) -> Result<TenantPlan> {
        decode::<DiskPlan>(row, WHAT)?.into_plan(PlanName::parse("p").unwrap())
    }

    /// The row of a plan, which is read as it was.
    fn row(plan: &TenantPlan) -> Vec<u8> {
        let row = encode(&DiskPlan::of(plan));
        assert_eq!(read(&row).unwrap(), *plan);
        row
    }

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let rates = Rates { minute: rate(3), concurrent: NonZeroU32::new(2), ..Rates::default() };
        let limits = Limits { users: 3, ..Limits::default() };
        for (version, of) in [
            (0, Allowance::default()),
            (0, Allowance { rates, weight: 7, ..Allowance::default() }),
            (1, Allowance { rates, limits, ..Allowance::default() }),
        ] {
            assert_eq!(row(&plan(of))[0], version);
        }
        let on_shared_failure = SharedFailure::Refuse;
        let mut row = row(&plan(Allowance { on_shared_failure, ..Allowance::default() }));
        assert!(row[0] == 1 && row.ends_with(&[1, ON_SHARED_FAILURE, 1]));
        *row.last_mut().unwrap() = 2;
        assert!(read(&row).is_err());
    }

    #[test]
    fn quotas_of_a_plan_are_read_as_they_were_written() {
        let quotas =
            Quotas { bytes: Some(300), month: Some(0), cost: Some(7), ..Quotas::default() };
        let of_money = row(&plan(Allowance { quotas, ..Allowance::default() }));
        assert!(of_money[0] == 1 && of_money.ends_with(&[3, 0, 0xac, 2, 2, 0, COST, 7]));
        let quotas =
            Quotas { messages_per_day: Some(1), tokens_per_day: Some(300), ..Quotas::default() };
        let reported = row(&plan(Allowance { quotas, ..Allowance::default() }));
        assert!(reported.ends_with(&[2, 6, 1, 7, 0xac, 2]));
        let quotas = Quotas { records: Some(300), bytes: Some(1), ..Quotas::default() };
        let stocks = row(&plan(Allowance { quotas, ..Allowance::default() }));
        assert!(stocks[0] == 1 && stocks.ends_with(&[2, BYTES, 1, RECORDS, 0xac, 2]));
        let unknown = DiskPlan::V2 {
            limits: [1; 4],
            rates: [None; 3],
            concurrent: None,
            weight: 1,
            more: vec![(99, 1)],
        };
        assert!(read(&encode(&unknown)).is_err());
    }

    #[test]
    fn what_a_plan_says_of_vectors_and_places_is_read_as_it_was_written() {
        let limits = Limits { vector_dimensions: 300, ..Limits::default() };
        let plan = plan(Allowance { limits, ..Allowance::default() });
        let wide = row(&plan);
        assert!(wide[0] == 1 && wide.ends_with(&[1, VECTOR_DIMENSIONS, 0xac, 2]));
        let some = [Isolation::Shared, Isolation::Database];
        let places = Places::new(Some(&some), None).unwrap();
        let mut apart = row(&TenantPlan { places, ..plan.clone() });
        assert!(apart[0] == 1 && apart.ends_with(&[2, VECTOR_DIMENSIONS, 0xac, 2, ISOLATIONS, 5]));
        // No isolation, and one that is not known.
        for bits in [0, 8, 9] {
            *apart.last_mut().unwrap() = bits;
            assert!(read(&apart).is_err(), "{bits}");
        }
        let at = vec![Location::Own, Location::Home, Location::parse("eu").unwrap()];
        let places = Places::new(Some(&some), Some(at)).unwrap();
        let there = row(&TenantPlan { places, ..plan });
        let words = b"\x03\x04home\x02eu\x03own";
        assert!(there[0] == 2 && there.ends_with(&[&[ISOLATIONS, 5], &words[..]].concat()));
        // Nowhere, and a place that cannot be.
        let nowhere = [&there[..there.len() - words.len()], b"\0"].concat();
        assert!(read(&nowhere).is_err());
        let odd = [&there[..there.len() - 1], b"N"].concat();
        assert!(read(&odd).is_err());
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
            vector_dimensions: Some(Exception { value: 7, expires_at }),
            records: Some(Exception::lasting(Some(13))),
            ..Exceptions::default()
        };
        let own = Limits { users: 11, vector_dimensions: 12, ..Limits::default() };
        let row = encode(&exceptions_to_disk(&all, &own));
        assert_eq!(row[..7], [16, 0, 1, 1, 0, 1, 0xac]);
        assert!(row.ends_with(&[17, 1, 7, 0, 1, 0xac, 2, 18, 1, 12, 0, 0, 19, 1, 13, 0, 0]));
        assert_eq!(exceptions_from_disk(decode(&row, WHAT).unwrap()).unwrap(), (all, own));
    }

    #[test]
    fn what_is_not_known_is_unreadable() {
        let row = DiskException { about: 99, value: Some(1), burst: None, expires_at: None };
        assert!(exceptions_from_disk(vec![row]).is_err());
        for about in [0, 4, 7, 9, 11, 15, 17, 18, 19] {
            let row = DiskException { about, value: Some(0), burst: Some(0), expires_at: None };
            assert!(exceptions_from_disk(vec![row]).is_err(), "{about}");
        }
    }
}
