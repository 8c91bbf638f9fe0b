//! Plans of placement policies.

use super::{
    capped::capped_option,
    described::{IsolationName, LocationText, Name},
    moves::MovePlaceOut,
    own_database::location,
    page::{limited, tenant_before},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tenantry_engine::{
    Error, Isolation, Result, TenantName,
    placement::{Plan, Planned, Policy, RULES_MAX, Rule, Timing},
};
use utoipa::ToSchema;

const LIMIT_MAX: usize = 1_000;

/// A rule of a placement policy: tenants that live so, and are so large, are to live otherwise. All
/// bounds must be met, and one must be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleIn {
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    from: String,
    /// `home` or the name of a location; any if absent.
    #[schema(value_type = Option<LocationText>)]
    from_location: Option<String>,
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    to: String,
    /// `home` or the name of a location; where the tenant is if absent.
    #[schema(value_type = Option<LocationText>)]
    to_location: Option<String>,
    /// With more records than this.
    records_over: Option<u64>,
    /// With fewer.
    records_under: Option<u64>,
    /// With more bytes of vectors than this, four for each component.
    bytes_over: Option<u64>,
    /// With fewer.
    bytes_under: Option<u64>,
}

impl RuleIn {
    fn rule(&self) -> Result<Rule> {
        let place = |name: &str, text: &Option<String>| {
            text.as_deref().map(|text| location(name, text)).transpose()
        };
        Ok(Rule {
            from: Isolation::parse(&self.from)?,
            from_location: place("from_location", &self.from_location)?,
            to: Isolation::parse(&self.to)?,
            to_location: place("to_location", &self.to_location)?,
            records_over: self.records_over,
            records_under: self.records_under,
            bytes_over: self.bytes_over,
            bytes_under: self.bytes_under,
        })
    }
}

/// Which policy, and which part of the list of tenants.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanIn {
    /// Rules to try, of which the first that applies counts; the policy that the server follows if
    /// absent.
    #[serde(default, deserialize_with = "capped_option::<_, _, RULES_MAX>")]
    #[schema(min_items = 1, max_items = 32)]
    rules: Option<Vec<RuleIn>>,
    /// With `rules`: for how many milliseconds a tenant is left alone after it was made or moved; a
    /// day if absent.
    stay_ms: Option<u64>,
    /// Tenants whose names come after this one.
    #[schema(value_type = Option<Name>)]
    after: Option<String>,
    /// How many at most, 1 to 1,000; 100 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl PlanIn {
    /// The policy to try; none for the one that is followed.
    pub(crate) fn policy(&self) -> Result<Option<Policy>> {
        let Some(rules) = &self.rules else {
            return match self.stay_ms {
                Some(_) => Err(Error::invalid("stay_ms: it is for rules that are given with it")),
                None => Ok(None),
            };
        };
        if rules.len() > RULES_MAX {
            return Err(Error::invalid(format!("rules: there are more than {RULES_MAX}")));
        }
        let of = |at: usize, why: &str| Error::invalid(format!("rules, {}: {why}", at + 1));
        let read =
            |(at, rule): (usize, &RuleIn)| rule.rule().map_err(|why| of(at, why.public_message()));
        let rules = rules.iter().enumerate().map(read).collect::<Result<_>>()?;
        let usual = Timing::default();
        let stay = self.stay_ms.map_or(usual.stay, Duration::from_millis);
        let policy = Policy::new(rules, Timing { stay, ..usual });
        policy.map(Some).map_err(|refusal| match refusal.rule {
            Some(at) => of(at, &refusal.why),
            None => Error::invalid(format!("rules: {}", refusal.why)),
        })
    }

    pub(crate) fn after(&self) -> Result<Option<TenantName>> {
        tenant_before(self.after.as_deref())
    }

    pub(crate) fn limit(&self) -> Result<usize> {
        limited(self.limit, 100, LIMIT_MAX)
    }
}

/// What a policy says of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedOut {
    /// The tenant's name.
    tenant: String,
    /// Where it lives.
    from: MovePlaceOut,
    /// `move`, `stay`, or `blocked`: a rule would move it, and this server cannot, or its plan does
    /// not allow it.
    verdict: &'static str,
    /// Where a rule wants it to live; null if it stays.
    to: Option<MovePlaceOut>,
    /// Which rule, the first being 1; null if it stays.
    rule: Option<usize>,
    /// Why.
    why: String,
}

impl From<Planned> for PlannedOut {
    fn from(one: Planned) -> Self {
        let decision = one.verdict.decision();
        let to = decision.map(|decision| {
            let (isolation, location) = one.from;
            let to = decision.to;
            (to.isolation.unwrap_or(isolation), to.location.unwrap_or(location)).into()
        });
        Self {
            tenant: one.name.to_string(),
            from: one.from.into(),
            verdict: one.verdict.word(),
            to,
            rule: decision.map(|decision| decision.rule + 1),
            why: one.verdict.to_string(),
        }
    }
}

/// A page of a plan, in the order of tenants' names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlanOut {
    tenants: Vec<PlannedOut>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

impl From<Plan> for PlanOut {
    fn from(plan: Plan) -> Self {
        Self {
            tenants: plan.tenants.into_iter().map(PlannedOut::from).collect(),
            next: plan.next.map(|name| name.to_string()),
        }
    }
}
