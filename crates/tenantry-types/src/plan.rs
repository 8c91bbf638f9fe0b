//! What a plan says, what is said of one tenant beside it, and what the tenant has of both.

use crate::{
    Error, ErrorKind, Isolation, Limits, Location, Places, PlanName, Quotas, Rate, Rates, Result,
    Timestamp,
};
use std::num::NonZeroU32;

/// What every tenant of a plan has, unless something else is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Stocks: asked in the commit that would exceed them.
    pub limits: Limits,
    /// Rates: asked before any work is done.
    pub rates: Rates,
    /// Sums: of what is kept, and of a day and month.
    pub quotas: Quotas,
    /// The share of the machine relative to other tenants.
    pub weight: u16,
    /// What becomes of rates that several nodes share while they cannot.
    pub on_shared_failure: SharedFailure,
}

/// What a node does with requests while it cannot ask what the others have admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SharedFailure {
    /// It goes on by itself, with its share of the rates.
    #[default]
    Local,
    /// It refuses them: rather none than one too many.
    Refuse,
}

impl SharedFailure {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Local, Self::Refuse];

    /// Its word in protocols and commands.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Refuse => "refuse",
        }
    }
}

impl Allowance {
    /// The largest weight; the smallest is 1.
    pub const WEIGHT_MAX: u16 = 1_000;

    /// What is left of limits and a weight that are said of one tenant, if they may only be less than
    /// these: what is not less is the default, so that the plan says it.
    #[must_use]
    pub fn bounding(&self, own: Limits, weight: u16) -> (Limits, u16) {
        fn less<T: Ord>(own: T, most: T, usual: T) -> T {
            if own < most { own } else { usual }
        }
        let (most, Self { limits: usual, weight: usual_weight, .. }) =
            (self.limits, Self::default());
        let limits = Limits {
            databases: less(own.databases, most.databases, usual.databases),
            collections: less(own.collections, most.collections, usual.collections),
            records_per_collection: less(
                own.records_per_collection,
                most.records_per_collection,
                usual.records_per_collection,
            ),
            keys: less(own.keys, most.keys, usual.keys),
            users: less(own.users, most.users, usual.users),
            vector_dimensions: less(
                own.vector_dimensions,
                most.vector_dimensions,
                usual.vector_dimensions,
            ),
        };
        (limits, less(weight, self.weight, usual_weight))
    }
}

impl Default for Allowance {
    /// What tenants had before there were plans: no rate and no quota, and the usual weight.
    fn default() -> Self {
        let (limits, rates, quotas, on_shared_failure) = Default::default();
        Self { limits, rates, quotas, weight: 100, on_shared_failure }
    }
}

/// Plans of one installation.
pub const PLANS_MAX: usize = 1_000;

/// What the operator offers under a name. What it says can be changed at any time, and counts at
/// once for all tenants that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantPlan {
    /// Its name, which is never changed.
    pub name: PlanName,
    /// What its tenants have.
    pub allowance: Allowance,
    /// Where they may live.
    pub places: Places,
}

impl TenantPlan {
    /// A plan whose tenants may live anywhere.
    pub fn new(name: PlanName, allowance: Allowance) -> Self {
        Self { name, allowance, places: Places::default() }
    }

    /// Why no tenant of the plan comes to live so there; `None` if it may.
    pub fn forbids(&self, isolation: Isolation, location: Location) -> Option<String> {
        Some(self.forbidden(isolation, location)?.1)
    }

    /// Which word of the plan forbids it, and the reason.
    fn forbidden(
        &self,
        isolation: Isolation,
        location: Location,
    ) -> Option<(&'static str, String)> {
        let (word, what) = if !self.places.has_isolation(isolation) {
            let all: Vec<_> = self.places.isolations().map(Isolation::word).collect();
            let what = format!("the isolation {}; it allows {}", isolation.word(), all.join(", "));
            ("isolations", what)
        } else if !self.places.has_location(location) {
            let all: Vec<_> = self.places.locations()?.iter().map(ToString::to_string).collect();
            ("locations", format!("the location {location}; it allows {}", all.join(", ")))
        } else {
            return None;
        };
        Some((word, format!("the plan {} does not allow {what}", self.name)))
    }

    /// Fails with [`ErrorKind::Conflict`] if [`TenantPlan::forbids`] has a reason, and says to the
    /// operator, who alone chooses plans and places, what can be done.
    pub fn check_place(&self, isolation: Isolation, location: Location) -> Result<()> {
        let Some((word, why)) = self.forbidden(isolation, location) else { return Ok(()) };
        let why = format!("{why}: choose another plan, or change `{word}` of this one");
        Err(Error::new(ErrorKind::Conflict, why))
    }
}

/// Something else than the plan says, for ever or for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exception<T> {
    /// What counts instead.
    pub value: T,
    /// From then on the plan counts again; `None` is never.
    pub expires_at: Option<Timestamp>,
}

impl<T: Copy> Exception<T> {
    /// For ever.
    pub const fn lasting(value: T) -> Self {
        Self { value, expires_at: None }
    }

    /// What counts at `now`, unless it has ended.
    pub fn at(self, now: Timestamp) -> Option<T> {
        self.expires_at.is_none_or(|end| now < end).then_some(self.value)
    }
}

/// What is said of one tenant; `None` is what its plan says.
///
/// An exception of a rate or a quota may be that there is none, so its value is optional, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exceptions {
    /// Instead of [`Limits::databases`].
    pub databases: Option<Exception<u32>>,
    /// Instead of [`Limits::collections`].
    pub collections: Option<Exception<u32>>,
    /// Instead of [`Limits::records_per_collection`].
    pub records_per_collection: Option<Exception<u64>>,
    /// Instead of [`Limits::keys`].
    pub keys: Option<Exception<u32>>,
    /// Instead of [`Limits::users`].
    pub users: Option<Exception<u32>>,
    /// Instead of [`Limits::vector_dimensions`].
    pub vector_dimensions: Option<Exception<u32>>,
    /// Instead of [`Rates::second`].
    pub second: Option<Exception<Option<Rate>>>,
    /// Instead of [`Rates::minute`].
    pub minute: Option<Exception<Option<Rate>>>,
    /// Instead of [`Rates::hour`].
    pub hour: Option<Exception<Option<Rate>>>,
    /// Instead of [`Rates::concurrent`].
    pub concurrent: Option<Exception<Option<NonZeroU32>>>,
    /// Instead of [`Quotas::records`].
    pub records: Option<Exception<Option<u64>>>,
    /// Instead of [`Quotas::bytes`].
    pub bytes: Option<Exception<Option<u64>>>,
    /// Instead of [`Quotas::day`].
    pub day: Option<Exception<Option<u64>>>,
    /// Instead of [`Quotas::month`].
    pub month: Option<Exception<Option<u64>>>,
    /// Instead of [`Quotas::cost`].
    pub cost: Option<Exception<Option<u64>>>,
    /// Instead of [`Quotas::messages_per_day`].
    pub messages_per_day: Option<Exception<Option<u64>>>,
    /// Instead of [`Quotas::tokens_per_day`].
    pub tokens_per_day: Option<Exception<Option<u64>>>,
    /// Instead of [`Allowance::weight`].
    pub weight: Option<Exception<u16>>,
}

impl Exceptions {
    /// What a tenant of before there were plans was told that the default does not say. What
    /// equals the default was most likely never chosen, and follows the plan from now on.
    pub fn of_before(limits: Limits, weight: u16) -> Self {
        fn unless<T: Copy + PartialEq>(value: T, usual: T) -> Option<Exception<T>> {
            (value != usual).then_some(Exception::lasting(value))
        }
        let Allowance { limits: usual, weight: usual_weight, .. } = Allowance::default();
        let Limits {
            databases,
            collections,
            records_per_collection,
            keys,
            users,
            vector_dimensions,
        } = limits;
        Self {
            databases: unless(databases, usual.databases),
            collections: unless(collections, usual.collections),
            records_per_collection: unless(records_per_collection, usual.records_per_collection),
            keys: unless(keys, usual.keys),
            users: unless(users, usual.users),
            vector_dimensions: unless(vector_dimensions, usual.vector_dimensions),
            weight: unless(weight, usual_weight),
            ..Self::default()
        }
    }

    /// What a tenant with these exceptions has of a plan at `now`.
    #[must_use]
    pub fn of(&self, plan: &Allowance, now: Timestamp) -> Allowance {
        fn or<T: Copy>(exception: Option<Exception<T>>, plan: T, now: Timestamp) -> T {
            exception.and_then(|one| one.at(now)).unwrap_or(plan)
        }
        let Allowance { limits, rates, quotas, weight, on_shared_failure } = *plan;
        Allowance {
            limits: Limits {
                databases: or(self.databases, limits.databases, now),
                collections: or(self.collections, limits.collections, now),
                records_per_collection: or(
                    self.records_per_collection,
                    limits.records_per_collection,
                    now,
                ),
                keys: or(self.keys, limits.keys, now),
                users: or(self.users, limits.users, now),
                vector_dimensions: or(self.vector_dimensions, limits.vector_dimensions, now),
            },
            rates: Rates {
                second: or(self.second, rates.second, now),
                minute: or(self.minute, rates.minute, now),
                hour: or(self.hour, rates.hour, now),
                concurrent: or(self.concurrent, rates.concurrent, now),
            },
            quotas: Quotas {
                records: or(self.records, quotas.records, now),
                bytes: or(self.bytes, quotas.bytes, now),
                day: or(self.day, quotas.day, now),
                month: or(self.month, quotas.month, now),
                cost: or(self.cost, quotas.cost, now),
                messages_per_day: or(self.messages_per_day, quotas.messages_per_day, now),
                tokens_per_day: or(self.tokens_per_day, quotas.tokens_per_day, now),
            },
            weight: or(self.weight, weight, now),
            on_shared_failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(n: u32) -> Option<Rate> {
        NonZeroU32::new(n).map(Rate::new)
    }

    #[test]
    fn a_tenant_of_before_has_what_it_had_under_the_plan_of_before() {
        let usual = Limits::default();
        let own = Limits { keys: 7, records_per_collection: 0, ..usual };
        for (limits, weight) in [(usual, 100), (own, 100), (usual, 1), (own, 1_000)] {
            let has = Exceptions::of_before(limits, weight).of(&Allowance::default(), Timestamp(0));
            assert_eq!(has, Allowance { limits, weight, ..Allowance::default() });
        }
    }

    #[test]
    fn a_limit_that_is_an_old_default_follows_the_plan() {
        assert_eq!(Exceptions::of_before(Limits::default(), 100), Exceptions::default());
        let own = Exceptions::of_before(Limits { keys: 7, ..Limits::default() }, 100);
        let limits = Limits { keys: 1, databases: 2, ..Limits::default() };
        let has = own.of(&Allowance { limits, ..Allowance::default() }, Timestamp(0));
        assert_eq!(has.limits, Limits { keys: 7, ..limits });
    }

    #[test]
    fn a_raise_ends_at_its_time() {
        let plan = Allowance::default();
        let raise = Exception { value: 5_000, expires_at: Some(Timestamp(10)) };
        let own = Exceptions { databases: Some(raise), ..Exceptions::default() };
        let databases = |now| own.of(&plan, Timestamp(now)).limits.databases;
        assert_eq!([databases(9), databases(10)], [5_000, plan.limits.databases]);
    }

    #[test]
    fn a_tenant_may_have_no_rate_where_its_plan_has_one() {
        let rates = Rates { second: rate(1), hour: rate(2), ..Rates::default() };
        let plan = Allowance { rates, ..Allowance::default() };
        let none = Some(Exception::lasting(None));
        let own = Exceptions { second: none, minute: none, ..Exceptions::default() };
        let has = own.of(&plan, Timestamp(0)).rates;
        assert_eq!(has, Rates { hour: rate(2), ..Rates::default() });
    }

    #[test]
    fn a_quota_may_be_another_or_none() {
        let quotas = Quotas {
            records: Some(8),
            bytes: Some(1),
            day: Some(2),
            month: Some(3),
            cost: Some(4),
            ..Quotas::default()
        };
        let plan = Allowance { quotas, ..Allowance::default() };
        let (bytes, day) = (Some(Exception::lasting(Some(7))), Some(Exception::lasting(None)));
        let cost = Some(Exception { value: Some(9), expires_at: Some(Timestamp(1)) });
        let own = Exceptions { records: day, bytes, day, cost, ..Exceptions::default() };
        let has = own.of(&plan, Timestamp(0)).quotas;
        let own_quotas = Quotas { records: None, bytes: Some(7), day: None, ..quotas };
        assert_eq!(has, Quotas { cost: Some(9), ..own_quotas });
        assert_eq!(own.of(&plan, Timestamp(1)).quotas.cost, Some(4));
    }
}
