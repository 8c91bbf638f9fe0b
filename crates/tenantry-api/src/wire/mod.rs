//! The JSON shapes of requests and answers, and their conversions to and from the engine's types.

mod advice;
mod archive;
mod audit;
mod bill;
mod capped;
mod collection;
mod described;
mod floats;
mod group;
mod key;
mod member;
mod moves;
mod own_database;
mod page;
mod placement;
mod plan;
mod record;
mod report;
mod statistics;
mod tenant;
mod usage;
mod value;
mod vector;
mod webhook;

pub(crate) use advice::{AdviceOut, AdviceSearch};
pub(crate) use archive::{
    ArchiveBytes, CopyIn, ImportSearch, ImportedOut, ListIn, ListSignatureOut, SignerOut,
};
pub(crate) use audit::{AuditPageOut, AuditSearch};
pub(crate) use bill::{
    BalanceOut, BillOut, BillsOut, BillsSearch, MonthSearch, TariffIn, TariffOut, TariffsOut,
    TenantMonthSearch, bills_csv, month,
};
pub(crate) use collection::{
    CollectionCreateIn, CollectionOut, CollectionPatchIn, CollectionsOut, DatabaseCreateIn,
    DatabaseOut, DatabasesOut, PageSearch, StatisticsOut,
};
pub(crate) use group::{GroupCreateIn, GroupOut, GroupPatchIn, GroupSearch, GroupsOut};
pub(crate) use key::{
    CollectionNameIn, KeyCreateIn, KeyCreatedOut, KeyLimitsOut, KeyOut, KeysOut,
    OperatorKeyCreateIn, OperatorKeyCreatedOut, OperatorKeyOut, OperatorKeysOut,
};
pub(crate) use member::{
    GroupNames, MeOut, MemberCreateIn, MemberOut, MemberPatchIn, MemberSearch, MembersOut,
};
pub(crate) use moves::{MoveIn, MoveOut, MovesOut};
pub(crate) use placement::{PlanIn, PlanOut};
pub(crate) use plan::{ExceptionIn, TenantPlanIn, TenantPlanOut, TenantPlansOut};
pub(crate) use record::{
    AddIn, CountIn, CountOut, DeleteIn, DeleteOut, GetIn, HitOut, QueryIn, QueryOut, RecordOut,
    RecordsOut, UpdateIn, UpsertIn, WriteOut,
};
pub use record::{GET_RECORDS_DEFAULT, GET_RECORDS_MAX};
pub(crate) use report::{ReportIn, ReportOut};
pub(crate) use statistics::TenantStatisticsOut;
pub(crate) use tenant::{
    DeleteSearch, LeftoverOut, LeftoversOut, OwnTenantOut, TenantCreateIn, TenantOut,
    TenantPatchIn, TenantSearch, TenantShowSearch, TenantsOut,
};
pub(crate) use usage::{
    AllUsageOut, AllUsageSearch, TenantUsageSearch, UsageFormat, UsagePageOut, UsageSearch,
    all_usage_csv, usage_csv,
};
pub(crate) use webhook::{
    DeadLettersOut, DeadSearch, EventOut, WebhookCreateIn, WebhookOut, WebhookPatchIn,
    WebhookSecretOut, WebhooksOut,
};

use serde::{Deserialize, Deserializer};

/// A member that may be absent, `null` or a value, told apart; use with `#[serde(default)]`.
#[derive(Debug, Clone, PartialEq, Default)]
enum Change<T> {
    /// Absent: leave it as it is.
    #[default]
    Keep,
    /// `null`: remove it.
    Remove,
    /// A value: replace it.
    Replace(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Remove, Self::Replace))
    }
}
