//! Where a tenant should live.

use super::{
    described::{BackendName, IsolationName, LocationText},
    own_database::location,
};
use serde::{Deserialize, Serialize};
use tenantry_engine::{
    Result, TenantInfo,
    advise::{Advice, Budget, Change, Compliance, Needs, Numbers, Place, Reason},
};
use utoipa::{IntoParams, ToSchema};

/// What a law or a contract demands.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ComplianceName {
    /// Nothing beyond what every tenant has.
    #[default]
    None,
    /// A contract says that its data lie apart.
    Contract,
    /// A regulator looks at it.
    Regulated,
}

/// What may be spent on the tenant's place.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum BudgetName {
    /// As little as can be.
    Low,
    /// What its needs cost.
    #[default]
    Usual,
    /// More than its needs cost.
    High,
}

/// What the operator says of the tenant. Load and budget are said here: nothing counts them yet.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdviceSearch {
    /// What is demanded of its data's place: `none`, `contract` or `regulated`.
    #[serde(default)]
    #[param(inline)]
    compliance: ComplianceName,
    /// Whether it is one of the customers who pay for more.
    #[serde(default)]
    enterprise: bool,
    /// Its part of the machine's work in per cent, 0 to 100.
    #[serde(default)]
    #[param(maximum = 100)]
    load_percent: u8,
    /// What its place may cost: `low`, `usual` or `high`.
    #[serde(default)]
    #[param(inline)]
    budget: BudgetName,
    /// Whether its data must be in a database that it carries.
    #[serde(default)]
    own_database: bool,
    /// The location where its data must be: `home`, or a name.
    #[param(value_type = Option<LocationText>)]
    residency: Option<String>,
    /// Records to expect, instead of those that it has, in one collection.
    records: Option<u64>,
    /// Components of vectors to expect, 1 to 16,384.
    #[param(minimum = 1, maximum = 16_384)]
    dimension: Option<u32>,
    /// Tenants to expect, instead of those that there are; at least 1.
    #[param(minimum = 1)]
    tenants: Option<u64>,
}

impl AdviceSearch {
    pub(crate) fn needs(&self) -> Result<Needs> {
        let residency = self.residency.as_deref().map(|text| location("residency", text));
        Ok(Needs {
            compliance: match self.compliance {
                ComplianceName::None => Compliance::None,
                ComplianceName::Contract => Compliance::Contract,
                ComplianceName::Regulated => Compliance::Regulated,
            },
            enterprise: self.enterprise,
            load_percent: self.load_percent,
            budget: match self.budget {
                BudgetName::Low => Budget::Low,
                BudgetName::Usual => Budget::Usual,
                BudgetName::High => Budget::High,
            },
            own_database: self.own_database,
            residency: residency.transpose()?,
            records: self.records,
            dimension: self.dimension,
            tenants: self.tenants,
        })
    }
}

/// Where a tenant lives, or should.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaceOut {
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    isolation: &'static str,
    /// `embedded` or `postgres`.
    #[schema(value_type = BackendName)]
    backend: &'static str,
    /// `home`, `own` for a database that it carries, or the name of a location.
    location: String,
}

impl From<Place> for PlaceOut {
    fn from(place: Place) -> Self {
        Self {
            isolation: place.isolation.word(),
            backend: place.backend.word(),
            location: place.location.to_string(),
        }
    }
}

/// A rule that applies.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReasonOut {
    rule: &'static str,
    /// What it asks for; null for rules that are about the location or the budget alone.
    isolation: Option<&'static str>,
    /// Why it applies.
    says: String,
    /// Where the rule comes from.
    source: &'static str,
}

impl From<Reason> for ReasonOut {
    fn from(reason: Reason) -> Self {
        Self {
            rule: reason.rule,
            isolation: reason.isolation.map(tenantry_engine::Isolation::word),
            says: reason.says,
            source: reason.source,
        }
    }
}

/// What would lead to another isolation, all else equal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangeOut {
    /// What would have to be so.
    when: String,
    isolation: &'static str,
}

impl From<Change> for ChangeOut {
    fn from(change: Change) -> Self {
        Self { when: change.when, isolation: change.isolation.word() }
    }
}

/// What the advice was worked out from.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NumbersOut {
    /// Tenants of the installation.
    tenants: u64,
    databases: u64,
    collections: u64,
    records: u64,
    /// Records of the collection that has most.
    largest_collection: u64,
    /// Components of its largest vectors; null if it has none.
    dimension: Option<u32>,
    /// Bytes of all its vectors, four for each component.
    vector_bytes: u64,
    /// Which of these were given with the request: `tenants`, `records`, `dimension`.
    given: Vec<&'static str>,
}

impl From<Numbers> for NumbersOut {
    fn from(numbers: Numbers) -> Self {
        let Numbers { tenants, databases, collections, .. } = numbers;
        let Numbers { records, largest_collection, dimension, vector_bytes, given, .. } = numbers;
        Self {
            tenants,
            databases,
            collections,
            records,
            largest_collection,
            dimension,
            vector_bytes,
            given,
        }
    }
}

/// Where a tenant should live, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdviceOut {
    /// The tenant's name.
    tenant: String,
    /// Where it lives now.
    present: PlaceOut,
    /// Where it should.
    recommended: PlaceOut,
    /// The rules that apply: those of the location first, then from the highest isolation.
    reasons: Vec<ReasonOut>,
    /// What is asked for and this installation cannot do.
    unmet: Vec<String>,
    /// What else to know of the recommended place.
    notes: Vec<String>,
    changes: Vec<ChangeOut>,
    numbers: NumbersOut,
}

impl AdviceOut {
    pub(crate) fn new(tenant: &TenantInfo, advice: Advice) -> Self {
        Self {
            tenant: tenant.name.to_string(),
            present: advice.present.into(),
            recommended: advice.recommended.into(),
            reasons: advice.reasons.into_iter().map(ReasonOut::from).collect(),
            unmet: advice.unmet,
            notes: advice.notes,
            changes: advice.changes.into_iter().map(ChangeOut::from).collect(),
            numbers: advice.numbers.into(),
        }
    }
}
