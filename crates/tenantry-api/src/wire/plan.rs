//! Plans, exceptions, and what a tenant has of both.

use super::{
    capped::capped_option,
    described::{IsolationName, LocationText},
    key::moment,
    tenant::{LimitsIn, LimitsOut},
};
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, num::NonZeroU32};
use tenantry_engine::{
    Allowance, Amount, Error, Exception, ExceptionChange, Exceptions, Isolation, Location, Period,
    Places, PlanName, Quotas, Rate, Rates, Result, SharedFailure, Source, TenantInfo, TenantPlan,
    Term, Timestamp,
};
use utoipa::{
    ToSchema,
    openapi::{
        Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema,
        schema::{AdditionalProperties, Type},
    },
};

const ISOLATIONS_MAX: usize = Isolation::ALL.len();
const LOCATIONS_MAX: usize = Places::LOCATIONS_MAX;

/// So many requests in a period.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RateIn {
    /// How many come back while the period passes, 1 to 4,294,967,295.
    #[schema(value_type = u32, minimum = 1)]
    value: u64,
    /// How many may come at once from a tenant that was silent; `value` if absent.
    #[schema(value_type = Option<u32>, minimum = 1)]
    burst: Option<u64>,
}

/// Rates of a plan; what is absent or `null` is not limited.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RatesIn {
    /// Requests in a second.
    requests_per_second: Option<RateIn>,
    /// Requests in 60 seconds.
    requests_per_minute: Option<RateIn>,
    /// Requests in 3,600 seconds.
    requests_per_hour: Option<RateIn>,
    /// Requests under way at the same time, 1 to 4,294,967,295.
    #[schema(value_type = Option<u32>, minimum = 1)]
    concurrent_requests: Option<u64>,
}

impl RatesIn {
    fn rates(self) -> Result<Rates> {
        let rate = |rate: Option<RateIn>, period: Period| {
            let amount = |RateIn { value, burst }| Amount { value: Some(value), burst };
            rate.map(amount).unwrap_or_default().rate(Term::Requests(period))
        };
        let concurrent = Amount { value: self.concurrent_requests, burst: None };
        Ok(Rates {
            second: rate(self.requests_per_second, Period::Second)?,
            minute: rate(self.requests_per_minute, Period::Minute)?,
            hour: rate(self.requests_per_hour, Period::Hour)?,
            concurrent: concurrent.concurrent(Term::Concurrent)?,
        })
    }
}

/// Quotas of a plan; what is absent or `null` is not limited.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QuotasIn {
    /// Records that are kept in all collections together.
    records: Option<u64>,
    /// Bytes of all records that are kept.
    bytes: Option<u64>,
    /// Requests in a day of UTC.
    requests_per_day: Option<u64>,
    /// Requests in a month of UTC.
    requests_per_month: Option<u64>,
    /// What a month of UTC may cost by the plan's tariff, in millionths of a unit of the currency.
    cost_per_month: Option<u64>,
    /// Messages in a day of UTC, as the application reports them.
    messages_per_day: Option<u64>,
    /// Tokens in a day of UTC, as the application reports them.
    tokens_per_day: Option<u64>,
}

impl From<QuotasIn> for Quotas {
    fn from(quotas: QuotasIn) -> Self {
        let QuotasIn {
            records,
            bytes,
            requests_per_day: day,
            requests_per_month: month,
            cost_per_month: cost,
            messages_per_day,
            tokens_per_day,
        } = quotas;
        Self { records, bytes, day, month, cost, messages_per_day, tokens_per_day }
    }
}

/// All that a plan says. What is absent is what a tenant has that is not told anything.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantPlanIn {
    /// Limits; defaults where absent.
    limits: Option<LimitsIn>,
    /// Rates; none where absent.
    #[serde(default)]
    rates: RatesIn,
    /// Quotas; none where absent.
    #[serde(default)]
    quotas: QuotasIn,
    /// Share of the machine relative to other tenants, 1 to 1,000; 100 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u16>,
    /// What a node does that cannot ask what other nodes have admitted, if rates are shared:
    /// `local`, which it does if this is absent, goes on with its share of the rates, and `refuse`
    /// answers 503.
    on_shared_failure: Option<SharedFailureWord>,
    /// How its tenants may live; all if absent. Asked when a tenant comes to a place or to the plan;
    /// who lives otherwise already stays.
    #[serde(default, deserialize_with = "capped_option::<_, _, ISOLATIONS_MAX>")]
    #[schema(value_type = Option<Vec<IsolationName>>, min_items = 1, max_items = 3)]
    isolations: Option<Vec<String>>,
    /// Where: `home`, `own` for a database that a tenant carries, and names of locations, also of
    /// those that are not there yet. All if absent or null.
    #[serde(default, deserialize_with = "capped_option::<_, _, LOCATIONS_MAX>")]
    #[schema(value_type = Option<Vec<LocationText>>, min_items = 1, max_items = 64)]
    locations: Option<Vec<String>>,
}

/// What a node does that cannot ask what other nodes have admitted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SharedFailureWord {
    Local,
    Refuse,
}

impl From<SharedFailureWord> for SharedFailure {
    fn from(word: SharedFailureWord) -> Self {
        match word {
            SharedFailureWord::Local => Self::Local,
            SharedFailureWord::Refuse => Self::Refuse,
        }
    }
}

impl From<SharedFailure> for SharedFailureWord {
    fn from(rule: SharedFailure) -> Self {
        match rule {
            SharedFailure::Local => Self::Local,
            SharedFailure::Refuse => Self::Refuse,
        }
    }
}

impl TenantPlanIn {
    pub(crate) fn plan(self, name: PlanName) -> Result<TenantPlan> {
        let Allowance { limits, weight, .. } = Allowance::default();
        let allowance = Allowance {
            limits: self.limits.map_or(limits, |own| own.change().over(limits)),
            rates: self.rates.rates()?,
            quotas: self.quotas.into(),
            weight: self.weight.unwrap_or(weight),
            on_shared_failure: self.on_shared_failure.map(Into::into).unwrap_or_default(),
        };
        let isolation = |word: &String| Isolation::parse(word);
        let isolations = self.isolations.map(|all| all.iter().map(isolation).collect());
        let isolations: Option<Vec<_>> = isolations.transpose()?;
        let location = |word: &String| Location::parse(word);
        let locations = self.locations.map(|all| all.iter().map(location).collect());
        let places = Places::new(isolations.as_deref(), locations.transpose()?)?;
        Ok(TenantPlan { name, allowance, places })
    }
}

/// Something else than the plan says. Of `expires_at_ms` and `expires_in_s` one may be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExceptionIn {
    /// How many; `null` is unlimited, and only for rates, quotas and `concurrent_requests`. Must be
    /// there.
    #[expect(clippy::option_option, reason = "null is not the same as absent")]
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<u64>, required = true)]
    value: Option<Option<u64>>,
    /// For rates: how many at once; `value` if absent.
    burst: Option<u64>,
    /// From when the plan counts again, in milliseconds since 1970 UTC; never if absent.
    expires_at_ms: Option<u64>,
    /// After how many seconds from now the plan counts again.
    #[schema(minimum = 1)]
    expires_in_s: Option<u64>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Exceptions to make, or with `null` to end, by what they are about.
pub(crate) type ExceptionsIn = BTreeMap<String, Option<ExceptionIn>>;

/// What they are about are words of [`Term`]; `null` ends one.
pub(super) fn exceptions_schema() -> Object {
    let one = OneOfBuilder::new()
        .item(Ref::from_schema_name("ExceptionIn"))
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .build();
    let words = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(Term::ALL.map(Term::word)))
        .build();
    ObjectBuilder::new()
        .description(Some(
            "What it has instead of what its plan says. `null` ends an exception, and those that \
             are not named stay.",
        ))
        .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(one.into()))))
        .property_names(Some(Schema::Object(words)))
        .build()
}

pub(crate) fn exception_change(all: ExceptionsIn, now: Timestamp) -> Result<ExceptionChange> {
    let mut change = ExceptionChange::default();
    for (word, one) in all {
        let term = Term::parse(&word)?;
        let Some(one) = one else {
            change.end(term);
            continue;
        };
        let missing = "say a value: a number or, for rates, quotas and concurrent_requests, null for \
                       any";
        let value = one.value.ok_or_else(|| Error::invalid(format!("{term}: {missing}")))?;
        let expires_at = moment(now, one.expires_at_ms, one.expires_in_s)?;
        change.make(term, Amount { value, burst: one.burst }, expires_at)?;
    }
    Ok(change)
}

/// So many requests in a period.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RateOut {
    value: u32,
    burst: u32,
}

/// Rates; null is not limited.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RatesOut {
    requests_per_second: Option<RateOut>,
    requests_per_minute: Option<RateOut>,
    requests_per_hour: Option<RateOut>,
    concurrent_requests: Option<u32>,
}

impl From<Rates> for RatesOut {
    fn from(rates: Rates) -> Self {
        let rate = |rate: Rate| RateOut { value: rate.amount.get(), burst: rate.burst.get() };
        Self {
            requests_per_second: rates.second.map(rate),
            requests_per_minute: rates.minute.map(rate),
            requests_per_hour: rates.hour.map(rate),
            concurrent_requests: rates.concurrent.map(NonZeroU32::get),
        }
    }
}

/// Quotas; null is not limited.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuotasOut {
    records: Option<u64>,
    bytes: Option<u64>,
    requests_per_day: Option<u64>,
    requests_per_month: Option<u64>,
    /// In millionths of a unit of the currency. In a tenant's own document also null unless the key is
    /// an admin's, and not limited.
    cost_per_month: Option<u64>,
    messages_per_day: Option<u64>,
    tokens_per_day: Option<u64>,
}

impl From<Quotas> for QuotasOut {
    fn from(quotas: Quotas) -> Self {
        let Quotas {
            records,
            bytes,
            day: requests_per_day,
            month: requests_per_month,
            cost: cost_per_month,
            messages_per_day,
            tokens_per_day,
        } = quotas;
        Self {
            records,
            bytes,
            requests_per_day,
            requests_per_month,
            cost_per_month,
            messages_per_day,
            tokens_per_day,
        }
    }
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantPlanOut {
    name: String,
    limits: LimitsOut,
    rates: RatesOut,
    quotas: QuotasOut,
    weight: u16,
    on_shared_failure: SharedFailureWord,
    /// How its tenants may live.
    #[schema(value_type = Vec<IsolationName>)]
    isolations: Vec<&'static str>,
    /// Where; null is anywhere.
    locations: Option<Vec<String>>,
}

impl From<TenantPlan> for TenantPlanOut {
    fn from(plan: TenantPlan) -> Self {
        let Allowance { limits, rates, quotas, weight, on_shared_failure } = plan.allowance;
        let text = |location: &Location| location.to_string();
        Self {
            name: plan.name.to_string(),
            limits: limits.into(),
            rates: rates.into(),
            quotas: quotas.into(),
            weight,
            on_shared_failure: on_shared_failure.into(),
            isolations: plan.places.isolations().map(Isolation::word).collect(),
            locations: plan.places.locations().map(|all| all.iter().map(text).collect()),
        }
    }
}

/// All plans, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantPlansOut {
    pub(crate) plans: Vec<TenantPlanOut>,
}

/// An exception of one tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExceptionOut {
    /// How many; null is unlimited.
    value: Option<u64>,
    /// How many at once; null if it is not a rate.
    burst: Option<u64>,
    /// From when the plan counts again; null if never.
    expires_at_ms: Option<u64>,
}

/// By what they are about. One that has ended stays here until it is said anew or ended.
pub(super) fn exceptions_out(all: &Exceptions) -> BTreeMap<&'static str, ExceptionOut> {
    let out = |term: Term| {
        let Exception { value: Amount { value, burst }, expires_at } = all.get(term)?;
        let expires_at_ms = expires_at.map(|end| end.0);
        Some((term.word(), ExceptionOut { value, burst, expires_at_ms }))
    };
    Term::ALL.into_iter().filter_map(out).collect()
}

/// What a tenant has now, whatever says so.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EffectiveOut {
    limits: LimitsOut,
    rates: RatesOut,
    quotas: QuotasOut,
    weight: u16,
    /// What each of them comes from: `exception`, `own` if it was said in the tenant's `limits` or
    /// `weight`, `plan`, or `default`.
    from: BTreeMap<&'static str, &'static str>,
}

impl EffectiveOut {
    pub(crate) fn new(info: &TenantInfo, has: Allowance, now: Timestamp) -> Self {
        let from = Term::ALL.map(|term| (term.word(), word(info.source(term, now))));
        let Allowance { limits, rates, quotas, weight, .. } = has;
        let (limits, rates, quotas) = (limits.into(), rates.into(), quotas.into());
        Self { limits, rates, quotas, weight, from: from.into() }
    }
}

fn word(source: Source) -> &'static str {
    match source {
        Source::Usual => "default",
        Source::Plan => "plan",
        Source::Own => "own",
        Source::Exception => "exception",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_engine::Limits;

    fn change(json: &str) -> Result<ExceptionChange> {
        exception_change(serde_json::from_str(json).unwrap(), Timestamp(1_000))
    }

    #[test]
    fn exceptions_are_made_and_ended_one_by_one() {
        let json = r#"{"keys": {"value": 7, "expires_in_s": 2}, "requests_per_second": {"value": null},
            "databases": null}"#;
        let after = change(json).unwrap().over(Exceptions {
            databases: Some(Exception::lasting(3)),
            collections: Some(Exception::lasting(4)),
            ..Exceptions::default()
        });
        let keys = Some(Exception { value: 7, expires_at: Some(Timestamp(3_000)) });
        let collections = Some(Exception::lasting(4));
        let second = Some(Exception::lasting(None));
        assert_eq!(after, Exceptions { keys, collections, second, ..Exceptions::default() });
    }

    #[test]
    fn an_exception_that_says_nothing_does_not_make_unlimited() {
        for json in [r#"{"requests_per_second": {}}"#, r#"{"concurrent_requests": {"burst": 1}}"#] {
            let why = change(json).unwrap_err();
            assert!(why.public_message().contains("say a value"), "{why}");
        }
        let why = change(r#"{"request_per_second": null}"#).unwrap_err();
        assert!(why.public_message().contains("requests_per_second"), "{why}");
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let plan = |json: &str| {
            let plan: TenantPlanIn = serde_json::from_str(json).unwrap();
            plan.plan(PlanName::parse("p").unwrap())
        };
        let both = r#"{"isolations": ["database", "shared"], "locations": ["own", "eu"]}"#;
        let places = plan(both).unwrap().places;
        assert!(places.isolations().eq([Isolation::Shared, Isolation::Database]));
        let said = [Location::parse("eu").unwrap(), Location::Own];
        assert_eq!(places.locations().unwrap(), said);
        let any = plan(r#"{"isolations": null, "locations": null}"#).unwrap().places;
        assert_eq!(any, Places::default());
        for (json, word) in [
            (r#"{"isolations": []}"#, "isolations: say at least one"),
            (r#"{"locations": []}"#, "locations: say at least one"),
            (r#"{"isolations": ["Shared"]}"#, "the isolation \"Shared\" does not exist"),
            (r#"{"locations": ["EU"]}"#, "the location \"EU\" does not exist"),
        ] {
            let why = plan(json).unwrap_err();
            assert!(why.public_message().contains(word), "{json}: {why}");
        }
    }

    #[test]
    fn a_plan_that_says_nothing_is_what_tenants_have_anyway() {
        let plan: TenantPlanIn = serde_json::from_str("{}").unwrap();
        let plan = plan.plan(PlanName::parse("p").unwrap()).unwrap();
        assert_eq!(plan.allowance, Allowance::default());
        let limits = Limits { keys: 0, ..Limits::default() };
        let json = r#"{"limits": {"keys": 0}, "rates": {"requests_per_hour": {"value": 2}},
            "on_shared_failure": "refuse"}"#;
        let plan: TenantPlanIn = serde_json::from_str(json).unwrap();
        let plan = plan.plan(PlanName::parse("p").unwrap()).unwrap();
        let rates = Rates { hour: NonZeroU32::new(2).map(Rate::new), ..Rates::default() };
        let on_shared_failure = SharedFailure::Refuse;
        let said = Allowance { limits, rates, on_shared_failure, ..Allowance::default() };
        assert_eq!(plan.allowance, said);
        let json = r#"{"quotas": {"bytes": 5, "requests_per_month": 0, "cost_per_month": 9}}"#;
        let plan: TenantPlanIn = serde_json::from_str(json).unwrap();
        let quotas = Quotas { bytes: Some(5), month: Some(0), cost: Some(9), ..Quotas::default() };
        let plan = plan.plan(PlanName::parse("p").unwrap()).unwrap();
        assert_eq!(plan.allowance, Allowance { quotas, ..Allowance::default() });
    }
}
