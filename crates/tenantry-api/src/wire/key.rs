//! API keys. A secret leaves the server once, in the answer that makes the key.

use super::described::{Filter as FilterText, Name};
use crate::filter::{FilterIn, holds_always, render};
use serde::{Deserialize, Deserializer, Serialize};
use tenantry_engine::{
    CollectionName, DatabaseName, Error, Filter, KeyOwner, KeyRow, Result, Role, Timestamp,
};
use utoipa::ToSchema;

/// What a key's holder may do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoleName {
    /// Read records and the catalog.
    Read,
    /// Read, and change records and collections.
    Write,
    /// Write, and change databases and keys.
    Admin,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Read => Self::Read,
            RoleName::Write => Self::Write,
            RoleName::Admin => Self::Admin,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Read => Self::Read,
            Role::Write => Self::Write,
            Role::Admin => Self::Admin,
        }
    }
}

/// A collection by its names.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionNameIn {
    #[schema(value_type = Name)]
    pub(crate) database: String,
    #[schema(value_type = Name)]
    pub(crate) collection: String,
}

/// The key to make for a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyCreateIn {
    pub(crate) role: RoleName,
    /// A name for people, at most 256 bytes.
    #[serde(default)]
    #[schema(max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub(crate) label: String,
    /// Databases the key is limited to. They must exist; a later namesake is not meant. Never
    /// empty: absent is unlimited.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Vec<Name>, required = false, min_items = 1)]
    databases: Option<Vec<String>>,
    /// Collections the key is limited to. They must exist; a later namesake is not meant. Never
    /// empty: absent is unlimited.
    #[serde(default, deserialize_with = "given")]
    #[schema(nullable = false, min_items = 1)]
    collections: Option<Vec<CollectionNameIn>>,
    /// The only records the key may reach or make, in any collection. It must narrow something:
    /// absent is unlimited.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = FilterText, required = false)]
    filter: Option<FilterIn>,
    /// From when the key is refused, in milliseconds since 1970 UTC.
    expires_at_ms: Option<u64>,
    /// After how many seconds from now the key is refused. Not together with `expires_at_ms`.
    #[schema(minimum = 1)]
    expires_in_s: Option<u64>,
}

/// A member that is there. `null` is refused like any other value of the wrong kind: a caller who
/// computed no limit must not get a key without one.
pub(super) fn given<'de, T, D>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The items of a list that limits a key; none if it is absent, refused if it is empty.
fn limit<'a, T>(list: Option<&'a [T]>, name: &str, other: Option<&str>) -> Result<&'a [T]> {
    match (list, other) {
        (None, _) => Ok(&[]),
        (Some(items @ [_, ..]), _) => Ok(items),
        (Some([]), None) => Err(Error::invalid(format!(
            "{name}: the list is empty; leave it out to make an unlimited key"
        ))),
        (Some([]), Some(other)) => Err(Error::invalid(format!(
            "{name}: the list is empty, which may mean none or any; leave it out to limit the key \
             to the given {other} alone"
        ))),
    }
}

impl KeyCreateIn {
    pub(crate) fn databases(&self) -> Result<Vec<DatabaseName>> {
        let other = self.collections.as_ref().filter(|list| !list.is_empty());
        let list = self.databases.as_deref();
        let list = limit(list, "databases", other.map(|_| "collections"))?;
        list.iter().map(DatabaseName::parse).collect()
    }

    pub(crate) fn collections(&self) -> Result<Vec<(DatabaseName, CollectionName)>> {
        let other = self.databases.as_ref().filter(|list| !list.is_empty());
        let list = self.collections.as_deref();
        let list = limit(list, "collections", other.map(|_| "databases"))?;
        let parse = |one: &CollectionNameIn| {
            Ok((DatabaseName::parse(&one.database)?, CollectionName::parse(&one.collection)?))
        };
        list.iter().map(parse).collect()
    }

    /// The filter; refused if every record matches it whatever it holds.
    pub(crate) fn filter(&self) -> Result<Option<Filter>> {
        let Some(FilterIn(filter)) = &self.filter else { return Ok(None) };
        match filter {
            Some(filter) if !holds_always(filter) => Ok(Some(filter.clone())),
            _ => Err(Error::invalid(
                "filter: it narrows nothing; leave it out to make an unlimited key",
            )),
        }
    }

    pub(crate) fn expires_at(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        expiry(now, self.expires_at_ms, self.expires_in_s)
    }
}

/// The operator key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OperatorKeyCreateIn {
    /// Whether the key may also open tenants, which those can see in their audit logs.
    #[serde(default)]
    pub(crate) act_as: bool,
    /// A name for people, at most 256 bytes.
    #[serde(default)]
    #[schema(max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]*$")]
    pub(crate) label: String,
    /// From when the key is refused, in milliseconds since 1970 UTC.
    expires_at_ms: Option<u64>,
    /// After how many seconds from now the key is refused. Not together with `expires_at_ms`.
    #[schema(minimum = 1)]
    expires_in_s: Option<u64>,
}

impl OperatorKeyCreateIn {
    pub(crate) fn expires_at(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        expiry(now, self.expires_at_ms, self.expires_in_s)
    }
}

fn expiry(now: Timestamp, at_ms: Option<u64>, in_s: Option<u64>) -> Result<Option<Timestamp>> {
    let at = moment(now, at_ms, in_s)?;
    if at.is_some_and(|at| at <= now) {
        return Err(Error::invalid("the key would expire before it is made"));
    }
    Ok(at)
}

/// The end of something that expires, said as a moment or as a span; none if it does not.
pub(super) fn moment(
    now: Timestamp,
    at_ms: Option<u64>,
    in_s: Option<u64>,
) -> Result<Option<Timestamp>> {
    let at = match (at_ms, in_s) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(Error::invalid("give either expires_at_ms or expires_in_s, not both"));
        }
        (Some(at), None) => at,
        (None, Some(seconds)) => seconds
            .checked_mul(1_000)
            .and_then(|ms| ms.checked_add(now.0))
            .ok_or_else(|| Error::invalid("expires_in_s: too far in the future"))?,
    };
    Ok(Some(Timestamp(at)))
}

/// What a key is limited to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyLimitsOut {
    /// Databases by name, with all their collections.
    pub(crate) databases: Vec<String>,
    /// Single collections.
    pub(crate) collections: Vec<CollectionNameIn>,
    /// Further objects that were removed since, or that the caller cannot see.
    pub(crate) unlisted: usize,
}

/// A key of a tenant, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyOut {
    /// The public half of the key.
    id: String,
    role: RoleName,
    label: String,
    /// The only databases and collections it reaches; null if it is not limited to any.
    limited_to: Option<KeyLimitsOut>,
    /// The only records it reaches; null if it is not limited to any.
    #[schema(value_type = Option<FilterText>)]
    filter: Option<serde_json::Value>,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// From when it is refused; null if never.
    expires_at_ms: Option<u64>,
}

impl KeyOut {
    pub(crate) fn new(row: &KeyRow, limited_to: Option<KeyLimitsOut>) -> Self {
        Self {
            id: row.id.to_string(),
            role: row.role.into(),
            label: row.label.clone(),
            limited_to,
            filter: row.restriction.filter.as_ref().map(render),
            created_at_ms: row.created_at.0,
            expires_at_ms: row.expires_at.map(|at| at.0),
        }
    }
}

/// A new key, with its secret: shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyCreatedOut {
    /// The whole key, `tnt_<id>_<secret>`. The server keeps only a hash of it.
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) row: KeyOut,
}

/// Keys of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeysOut {
    pub(crate) keys: Vec<KeyOut>,
}

/// An operator key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperatorKeyOut {
    /// The public half of the key.
    id: String,
    /// Whether it may open tenants.
    act_as: bool,
    label: String,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// From when it is refused; null if never.
    expires_at_ms: Option<u64>,
}

impl From<&KeyRow> for OperatorKeyOut {
    fn from(row: &KeyRow) -> Self {
        Self {
            id: row.id.to_string(),
            act_as: row.owner == KeyOwner::Operator { act_as: true },
            label: row.label.clone(),
            created_at_ms: row.created_at.0,
            expires_at_ms: row.expires_at.map(|at| at.0),
        }
    }
}

/// A new operator key, with its secret: shown once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperatorKeyCreatedOut {
    /// The whole key, `tnt_<id>_<secret>`. The server keeps only a hash of it.
    pub(crate) key: String,
    #[serde(flatten)]
    pub(crate) row: OperatorKeyOut,
}

/// Operator keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OperatorKeysOut {
    pub(crate) keys: Vec<OperatorKeyOut>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_lies_in_the_future() {
        let now = Timestamp(10_000);
        assert_eq!(expiry(now, None, None).unwrap(), None);
        assert_eq!(expiry(now, Some(10_001), None).unwrap(), Some(Timestamp(10_001)));
        assert_eq!(expiry(now, None, Some(2)).unwrap(), Some(Timestamp(12_000)));
        for (at_ms, in_s) in
            [(Some(10_000), None), (None, Some(0)), (None, Some(u64::MAX)), (Some(11_000), Some(1))]
        {
            assert!(expiry(now, at_ms, in_s).is_err(), "{at_ms:?} {in_s:?}");
        }
    }
}
