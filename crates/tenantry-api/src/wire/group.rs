//! Groups of a tenant's members.

use super::{described::Name, key::given, page::limited};
use serde::{Deserialize, Serialize};
use tenantry_engine::{
    Allowed, CollectionName, DatabaseName, Error, GrantNames, GrantOn, Group, GroupName,
    GroupUpdate, Result,
};
use utoipa::{IntoParams, ToSchema};

/// Groups of a page: what all of their rights are on is looked up for it.
const LIMIT: usize = 16;
const LIMIT_MAX: usize = 64;

/// What a group lets a guest do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GrantRole {
    /// Read it.
    Read,
    /// Read and change it; of a database also make and remove collections.
    Write,
}

/// A right on one collection, or on a database with all collections in it.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantIn {
    #[schema(value_type = Name)]
    database: String,
    /// The only collection that is meant. Never `null`: it is there, or `all_collections` is `true`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Name, required = false)]
    collection: Option<String>,
    /// Whether all of the database is meant, also collections to come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all_collections: bool,
    role: GrantRole,
}

impl GrantIn {
    fn parse(self) -> Result<GrantNames> {
        let on = match (self.collection, self.all_collections) {
            (Some(name), false) => GrantOn::Collection(CollectionName::parse(name)?),
            (None, true) => GrantOn::All,
            (Some(_), true) => {
                let why = "grants: a right has a `collection` or `all_collections`, not both";
                return Err(Error::invalid(why));
            }
            (None, false) => {
                let why = "grants: give the name of a `collection`, or `\"all_collections\": true` \
                           for all of the database, also collections to come";
                return Err(Error::invalid(why));
            }
        };
        let database = DatabaseName::parse(self.database)?;
        Ok(GrantNames { database, on, writes: self.role == GrantRole::Write })
    }
}

fn parse(grants: Vec<GrantIn>) -> Result<Vec<GrantNames>> {
    grants.into_iter().map(GrantIn::parse).collect()
}

/// The group to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupCreateIn {
    #[schema(value_type = Name)]
    name: String,
    /// What it gives its guests. The objects must exist.
    #[serde(default)]
    #[schema(max_items = 64)]
    grants: Vec<GrantIn>,
}

impl GroupCreateIn {
    pub(crate) fn group(self) -> Result<(GroupName, Vec<GrantNames>)> {
        Ok((GroupName::parse(self.name)?, parse(self.grants)?))
    }
}

/// A change of a group; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupPatchIn {
    /// Another name.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// What it gives from now on, instead of all that it gave.
    #[schema(max_items = 64)]
    grants: Option<Vec<GrantIn>>,
}

impl GroupPatchIn {
    pub(crate) fn change(self) -> Result<GroupUpdate> {
        Ok(GroupUpdate {
            name: self.name.map(GroupName::parse).transpose()?,
            grants: self.grants.map(parse).transpose()?,
        })
    }
}

/// A group of members.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupOut {
    name: String,
    /// What it gives its guests. Objects that were removed since are not in it.
    grants: Vec<GrantIn>,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// When it was changed last, in milliseconds since 1970 UTC.
    changed_at_ms: u64,
}

impl GroupOut {
    /// A group whose objects are called so; those that are gone have no name.
    pub(crate) fn new<'a>(
        group: Group,
        name: impl Fn(Allowed) -> Option<&'a (DatabaseName, Option<CollectionName>)>,
    ) -> Self {
        let grant = |grant: tenantry_engine::Grant| {
            let (database, collection) = name(grant.on)?;
            Some(GrantIn {
                database: database.to_string(),
                collection: collection.as_ref().map(ToString::to_string),
                all_collections: collection.is_none(),
                role: if grant.writes { GrantRole::Write } else { GrantRole::Read },
            })
        };
        Self {
            name: group.name.to_string(),
            grants: group.grants.into_iter().filter_map(grant).collect(),
            created_at_ms: group.created_at.0,
            changed_at_ms: group.changed_at.0,
        }
    }
}

/// Which part of the list of groups.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupSearch {
    /// What the page before has as `next`.
    #[param(value_type = Option<Name>)]
    after: Option<String>,
    /// How many at most, 1 to 64; 16 if absent.
    #[param(minimum = 1, maximum = 64)]
    limit: Option<usize>,
}

impl GroupSearch {
    /// The page of these, which are in the order of their names, and what to give for the next one.
    pub(crate) fn page(&self, mut all: Vec<Group>) -> Result<(Vec<Group>, Option<String>)> {
        let limit = limited(self.limit, LIMIT, LIMIT_MAX)?;
        if let Some(after) = self.after.as_deref().map(GroupName::parse).transpose()? {
            all.retain(|group| group.name > after);
        }
        let more = all.len() > limit;
        all.truncate(limit);
        let next = all.last().filter(|_| more).map(|last| last.name.to_string());
        Ok((all, next))
    }
}

/// A page of groups, by their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupsOut {
    pub(crate) groups: Vec<GroupOut>,
    /// What to give as `after` for the next page; null on the last.
    pub(crate) next: Option<String>,
}
