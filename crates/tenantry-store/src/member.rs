//! What is said of a tenant's members and of their groups.

use std::collections::BTreeMap;
use tenantry_auth::{Allowed, Grant, MemberRole, UserName};
use tenantry_types::{CollectionName, DatabaseName, GroupName};

/// What objects are called: a database, and the collection in it if it is one.
pub type ObjectNames = BTreeMap<Allowed, (DatabaseName, Option<CollectionName>)>;

/// A member to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// Whom tokens call so.
    pub user: UserName,
    /// What it is to be.
    pub role: MemberRole,
    /// The groups it is to be in, at most [`Limits::MEMBER_GROUPS_MAX`](tenantry_types::Limits).
    pub groups: Vec<GroupName>,
    /// For people, at most 254 bytes.
    pub email: Option<String>,
    /// For people, at most 256 bytes.
    pub name: Option<String>,
}

/// A change of a member; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberChange {
    /// Another role.
    pub role: Option<MemberRole>,
    /// Whether its tokens are refused.
    pub is_suspended: Option<bool>,
    /// The groups it is in from now on, instead of all others.
    pub groups: Option<Vec<GroupName>>,
    /// Another address, or none.
    pub email: Option<Option<String>>,
    /// Another name, or none.
    pub name: Option<Option<String>>,
}

/// What a group is to give, and how the log calls it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Granted {
    /// The rights, each object once.
    pub grants: Vec<Grant>,
    /// What objects are called that it gives or gave, for the log: what has no name is said by numbers.
    pub names: ObjectNames,
}

/// A change of a group; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupChange {
    /// Another name.
    pub name: Option<GroupName>,
    /// What it gives from now on, instead of all it gave.
    pub granted: Option<Granted>,
}
