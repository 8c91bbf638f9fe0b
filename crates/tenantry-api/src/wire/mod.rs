//! The JSON shapes of requests and answers, and their conversions to and from the engine's types.

mod advice;
mod archive;
mod audit;
mod capped;
mod collection;
mod floats;
mod key;
mod moves;
mod own_database;
mod page;
mod placement;
mod plan;
mod record;
mod tenant;
mod value;
mod vector;

pub(crate) use advice::{AdviceOut, AdviceSearch};
pub(crate) use archive::{
    ArchiveBytes, CopyIn, ImportSearch, ImportedOut, ListIn, ListSignatureOut, SignerOut,
};
pub(crate) use audit::{AuditPageOut, AuditSearch};
pub(crate) use collection::{
    CollectionCreateIn, CollectionOut, CollectionPatchIn, CollectionsOut, DatabaseCreateIn,
    DatabaseOut, DatabasesOut, PageSearch, StatisticsOut,
};
pub(crate) use key::{
    CollectionNameIn, KeyCreateIn, KeyCreatedOut, KeyLimitsOut, KeyOut, KeysOut,
    OperatorKeyCreateIn, OperatorKeyCreatedOut, OperatorKeyOut, OperatorKeysOut,
};
pub(crate) use moves::{MoveIn, MoveOut, MovesOut};
pub(crate) use placement::{PlanIn, PlanOut};
pub(crate) use plan::{TenantPlanIn, TenantPlanOut, TenantPlansOut};
pub(crate) use record::{
    AddIn, CountIn, CountOut, DeleteIn, DeleteOut, GetIn, HitOut, QueryIn, QueryOut, RecordOut,
    RecordsOut, UpdateIn, UpsertIn, WriteOut,
};
pub use record::{GET_RECORDS_DEFAULT, GET_RECORDS_MAX};
pub(crate) use tenant::{
    LeftoverOut, LeftoversOut, OwnTenantOut, TenantCreateIn, TenantOut, TenantPatchIn,
    TenantSearch, TenantsOut,
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
