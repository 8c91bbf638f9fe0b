//! Tenants, as their operator sees them and as they see themselves.

use super::{
    Change,
    described::{IsolationName, LocationText, Name, StateName},
    own_database::{OwnDatabaseIn, location},
    page::{limited, tenant_before},
    plan::{
        EffectiveOut, ExceptionOut, ExceptionsIn, QuotasOut, RatesOut, exception_change,
        exceptions_out, exceptions_schema,
    },
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tenantry_engine::{
    Allowance, Holding, Isolation, Leftover, Limits, LimitsChange, Location, Obstacle, OwnDatabase,
    PlanName, Result, TenantChange, TenantInfo, TenantName, TenantSpec, TenantState, Timestamp,
};
use utoipa::{IntoParams, ToSchema};

const LIMIT_MAX: usize = 1_000;

/// Limits to set; what is absent stays, or has its default in a new tenant.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitsIn {
    /// Databases of the tenant.
    databases: Option<u32>,
    /// Collections of the tenant, over all databases.
    collections: Option<u32>,
    /// Records in one collection.
    records_per_collection: Option<u64>,
    /// API keys of the tenant.
    keys: Option<u32>,
    /// Members of the tenant, 0 to 100,000.
    #[schema(maximum = 100_000)]
    users: Option<u32>,
    /// Components of a vector, 1 to 16,384. Asked where a collection's dimension is fixed.
    #[schema(minimum = 1, maximum = 16_384)]
    vector_dimensions: Option<u32>,
}

impl LimitsIn {
    pub(super) fn change(self) -> LimitsChange {
        LimitsChange {
            databases: self.databases,
            collections: self.collections,
            records_per_collection: self.records_per_collection,
            keys: self.keys,
            users: self.users,
            vector_dimensions: self.vector_dimensions,
        }
    }
}

/// The tenant to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantCreateIn {
    /// 1 to 512 bytes of UTF-8 without control characters, unique among living tenants.
    #[schema(value_type = Name)]
    name: String,
    /// Share of the machine relative to other tenants, 1 to 1,000; 100 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u16>,
    /// Limits of its own, which count before its plan; one that is the default follows the plan.
    limits: Option<LimitsIn>,
    /// The plan that it has; none if absent.
    #[schema(value_type = Option<Name>)]
    plan: Option<String>,
    /// Free settings, at most 64 KiB. One means something: `placement` may only be `fixed`, and then
    /// no placement policy moves the tenant.
    #[serde(default)]
    settings: BTreeMap<String, String>,
    /// Whether the tenant starts with the database `default_database`; true if absent.
    default_database: Option<bool>,
    /// `shared`, `schema` or `database`; the installation's default if absent. It changes by a
    /// move only.
    #[schema(value_type = Option<IsolationName>)]
    isolation: Option<String>,
    /// `home`, or a location of the installation's; its default if absent. It changes by a
    /// move only.
    #[schema(value_type = Option<LocationText>)]
    location: Option<String>,
    /// The database that the tenant carries, instead of a location; its isolation is then
    /// `database`.
    own_database: Option<OwnDatabaseIn>,
}

impl TenantCreateIn {
    pub(crate) fn spec(self) -> Result<TenantSpec> {
        let mut spec = TenantSpec::new(TenantName::parse(self.name)?);
        spec.weight = self.weight.unwrap_or(spec.weight);
        spec.isolation = self.isolation.as_deref().map(Isolation::parse).transpose()?;
        spec.location =
            self.location.as_deref().map(|text| location("location", text)).transpose()?;
        spec.own_database = self.own_database.map(OwnDatabase::from);
        spec.limits = self.limits.map_or(spec.limits, |limits| limits.change().over(spec.limits));
        spec.plan = self.plan.map(PlanName::parse).transpose()?;
        spec.settings = self.settings;
        spec.default_database = self.default_database.unwrap_or(spec.default_database);
        Ok(spec)
    }
}

/// A change of a tenant; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantPatchIn {
    /// A new name.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// A new weight, 1 to 1,000.
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<u16>,
    /// New limits of its own, which count before its plan; one that is the default follows the
    /// plan.
    limits: Option<LimitsIn>,
    /// Another plan; `null` is none.
    #[serde(default)]
    #[schema(value_type = Option<Name>)]
    plan: Change<String>,
    #[serde(default)]
    #[schema(schema_with = exceptions_schema, required = false)]
    exceptions: ExceptionsIn,
    /// Settings to set; `null` removes one, others stay. `placement` may only be `fixed`, and then no
    /// placement policy moves the tenant.
    #[serde(default)]
    settings: BTreeMap<String, Option<String>>,
    /// Other URLs of the database that the tenant carries: the same database, with another
    /// password for instance. Both are replaced.
    own_database: Option<OwnDatabaseIn>,
}

impl TenantPatchIn {
    pub(crate) fn change(self, now: Timestamp) -> Result<TenantChange> {
        let plan = match self.plan {
            Change::Keep => None,
            Change::Remove => Some(None),
            Change::Replace(name) => Some(Some(PlanName::parse(name)?)),
        };
        Ok(TenantChange {
            name: self.name.map(TenantName::parse).transpose()?,
            state: None,
            weight: self.weight,
            limits: self.limits.map(LimitsIn::change).unwrap_or_default(),
            plan,
            except: exception_change(self.exceptions, now)?,
            settings: self.settings,
            own_database: self.own_database.map(OwnDatabase::from),
            ..TenantChange::default()
        })
    }
}

/// Which part of the list of tenants.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantSearch {
    /// Tenants whose names come after this one.
    #[param(value_type = Option<Name>)]
    after: Option<String>,
    /// How many at most, 1 to 1,000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl TenantSearch {
    pub(crate) fn after(&self) -> Result<Option<TenantName>> {
        tenant_before(self.after.as_deref())
    }

    pub(crate) fn limit(&self) -> Result<usize> {
        limited(self.limit, 100, LIMIT_MAX)
    }
}

/// Limits of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LimitsOut {
    databases: u32,
    collections: u32,
    records_per_collection: u64,
    keys: u32,
    users: u32,
    vector_dimensions: u32,
}

impl From<Limits> for LimitsOut {
    fn from(limits: Limits) -> Self {
        Self {
            databases: limits.databases,
            collections: limits.collections,
            records_per_collection: limits.records_per_collection,
            keys: limits.keys,
            users: limits.users,
            vector_dimensions: limits.vector_dimensions,
        }
    }
}

/// How many a tenant has of what is limited by number.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountsOut {
    databases: u32,
    /// Over all databases.
    collections: u32,
    /// API keys; null unless the caller may list them.
    keys: Option<u32>,
    /// Members, suspended ones too; null unless the caller may list them.
    users: Option<u32>,
}

impl From<Holding> for CountsOut {
    fn from(has: Holding) -> Self {
        let Holding { databases, collections, keys, users, stock: _ } = has;
        Self { databases, collections, keys, users }
    }
}

/// What is shown of a tenant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TenantShowSearch {
    /// Whether its place is asked how much it has.
    counts: Option<bool>,
}

impl TenantShowSearch {
    pub(crate) fn counts(&self) -> bool {
        self.counts.unwrap_or(false)
    }
}

/// A tenant, as its operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantOut {
    /// Assigned once, never reused.
    id: u64,
    name: String,
    /// `active`, `suspended`, `deleting` while it can be restored, `deleted`, or `provisioning` while an
    /// import or a copy fills it.
    #[schema(value_type = StateName)]
    state: &'static str,
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    isolation: &'static str,
    /// `home`, `own` for a database that it carries, or the name of a location.
    location: String,
    /// What was said of its weight; see `effective`.
    weight: u16,
    /// What was said of its limits; see `effective`.
    limits: LimitsOut,
    /// Its plan; null if it has none.
    plan: Option<String>,
    /// What it has instead of what its plan says, by what it is about.
    exceptions: BTreeMap<&'static str, ExceptionOut>,
    /// What it has now of all that; only where one tenant is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    effective: Option<EffectiveOut>,
    /// How many it has of what is limited by number; only where that is asked for, and if its place
    /// answers and was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    counts: Option<CountsOut>,
    /// Records that it keeps; in the same way, and if somebody has counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_records: Option<u64>,
    /// Bytes of them; in the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    kept_bytes: Option<u64>,
    settings: BTreeMap<String, String>,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// When it is erased, if it is deleted and can be restored until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    erase_at_ms: Option<u64>,
}

/// How a tenant is deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteSearch {
    /// Erase it at once, whatever the server's grace is, also if it is deleted already.
    now: Option<bool>,
}

impl DeleteSearch {
    pub(crate) fn now(&self) -> bool {
        self.now.unwrap_or(false)
    }
}

impl TenantOut {
    /// A tenant with what it may have now, and with what it has if somebody has asked.
    pub(crate) fn with_effective(
        info: TenantInfo,
        (may, has): (Allowance, Option<Holding>),
        now: Timestamp,
    ) -> Self {
        let effective = Some(EffectiveOut::new(&info, may, now));
        let kept = has.map(|has| has.stock).unwrap_or_default();
        Self {
            effective,
            counts: has.map(CountsOut::from),
            kept_records: kept.records,
            kept_bytes: kept.bytes,
            ..info.into()
        }
    }
}

impl From<TenantInfo> for TenantOut {
    fn from(info: TenantInfo) -> Self {
        Self {
            id: info.id.get(),
            name: info.name.to_string(),
            state: if info.erase_at.is_some() { "deleting" } else { state(info.state) },
            isolation: info.isolation.word(),
            location: info.location.to_string(),
            weight: info.weight,
            limits: info.limits.into(),
            plan: info.plan.map(|plan| plan.to_string()),
            exceptions: exceptions_out(&info.exceptions),
            effective: None,
            counts: None,
            kept_records: None,
            kept_bytes: None,
            settings: info.settings,
            created_at_ms: info.created_at.0,
            erase_at_ms: info.erase_at.map(|at| at.0),
        }
    }
}

/// A deleted tenant whose data are still to be removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftoverOut {
    /// The number that the tenant had.
    tenant: u64,
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    isolation: &'static str,
    /// Which database has its data: `home`, `own` for one that it carried, or the name of a
    /// location.
    location: String,
    /// What keeps the server that answers from removing them, in words; null if nothing is known
    /// to.
    reason: Option<&'static str>,
}

impl From<Leftover> for LeftoverOut {
    fn from(left: Leftover) -> Self {
        Self {
            tenant: left.tenant.get(),
            isolation: left.isolation.word(),
            location: left.location.to_string(),
            reason: left.obstacle.map(Obstacle::words),
        }
    }
}

/// Deleted tenants whose data are still to be removed, by their numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftoversOut {
    pub(crate) leftovers: Vec<LeftoverOut>,
}

/// A page of tenants in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantsOut {
    tenants: Vec<TenantOut>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
    /// Locations that this server cannot reach, as far as it has tried, and those that it was not given
    /// though tenants live there.
    locations_out_of_reach: Vec<String>,
}

impl TenantsOut {
    /// A page of at most `limit` out of one more than `limit`, if there is one more.
    pub(crate) fn new(mut found: Vec<TenantInfo>, limit: usize, out_of_reach: &[Location]) -> Self {
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.name.to_string());
        Self {
            tenants: found.into_iter().map(TenantOut::from).collect(),
            next,
            locations_out_of_reach: out_of_reach.iter().map(Location::to_string).collect(),
        }
    }
}

/// A tenant, as it sees itself. Weight, plan and settings are the operator's alone, and so is the
/// number: numbers are given in order, so that one tells how many tenants there are. So is the
/// location: its name is the operator's word for a server, and nothing that a caller does depends
/// on it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OwnTenantOut {
    name: String,
    /// `active` or `suspended`.
    #[schema(value_type = StateName)]
    state: &'static str,
    /// `shared`, `schema` or `database`.
    #[schema(value_type = IsolationName)]
    isolation: &'static str,
    /// What it may have now.
    limits: LimitsOut,
    /// How often it may ask now.
    rates: RatesOut,
    /// How much it may keep and ask now.
    quotas: QuotasOut,
    /// How many it has of what is limited by number; null if the key is limited, and while the tenant's
    /// database does not answer.
    counts: Option<CountsOut>,
    /// Records that it keeps; null if nobody has counted them, if the key is limited, and while the
    /// tenant's database does not answer.
    kept_records: Option<u64>,
    /// Bytes of them: ids, texts, URIs, metadata, and 4 for each component of a vector; null in the same
    /// way.
    kept_bytes: Option<u64>,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
}

impl OwnTenantOut {
    pub(crate) fn new(info: &TenantInfo, may: Allowance, has: Option<Holding>) -> Self {
        let kept = has.map(|has| has.stock).unwrap_or_default();
        Self {
            counts: has.map(CountsOut::from),
            kept_records: kept.records,
            kept_bytes: kept.bytes,
            name: info.name.to_string(),
            state: state(info.state),
            isolation: info.isolation.word(),
            limits: may.limits.into(),
            rates: may.rates.into(),
            quotas: may.quotas.into(),
            created_at_ms: info.created_at.0,
        }
    }
}

fn state(state: TenantState) -> &'static str {
    match state {
        TenantState::Active => "active",
        TenantState::Suspended => "suspended",
        TenantState::Deleted => "deleted",
        TenantState::Provisioning => "provisioning",
    }
}
