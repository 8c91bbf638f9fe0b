//! Members of a tenant, and who a caller is.

use super::{Change, described::Name, key::RoleName, page::limited};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tenantry_engine::{
    GroupName, GroupNumber, Member, MemberChange, MemberRole, NewMember, Principal, Result,
    UserName,
};
use utoipa::{IntoParams, ToSchema};

const LIMIT_MAX: usize = 1_000;

/// The name of an issuer of tokens, a slash, and what its tokens have as subject.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 3, max_length = 288,
    pattern = r"^[a-z0-9-]{1,32}/[^\u0000-\u001f\u007f-\u009f]{1,255}$")]
pub(crate) struct MemberName(#[expect(dead_code, reason = "it is only described")] String);

/// What a member may do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberRoleName {
    /// Reaches what its groups give, for reading or for writing, and nothing else.
    Guest,
    /// Works with data: level `write`.
    Member,
    /// Runs the tenant: level `admin`; manages members and admins.
    Admin,
    /// Answers for the tenant: level `admin`; manages owners too. One always remains.
    Owner,
}

impl From<MemberRoleName> for MemberRole {
    fn from(name: MemberRoleName) -> Self {
        match name {
            MemberRoleName::Guest => Self::Guest,
            MemberRoleName::Member => Self::Member,
            MemberRoleName::Admin => Self::Admin,
            MemberRoleName::Owner => Self::Owner,
        }
    }
}

impl From<MemberRole> for MemberRoleName {
    fn from(role: MemberRole) -> Self {
        match role {
            MemberRole::Guest => Self::Guest,
            MemberRole::Member => Self::Member,
            MemberRole::Admin => Self::Admin,
            MemberRole::Owner => Self::Owner,
        }
    }
}

/// Whether a member's tokens are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MemberStateName {
    /// They are.
    Active,
    /// They are refused.
    Suspended,
}

/// The member to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberCreateIn {
    #[schema(value_type = MemberName)]
    id: String,
    role: MemberRoleName,
    /// The groups it is in, which must exist. They give something to guests only.
    #[serde(default)]
    #[schema(value_type = Vec<Name>, required = false, max_items = 16)]
    groups: Vec<String>,
    /// For people, at most 254 bytes. It proves nothing.
    #[schema(min_length = 1, max_length = 254, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    email: Option<String>,
    /// For people, at most 256 bytes.
    #[schema(min_length = 1, max_length = 256, pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    name: Option<String>,
}

impl MemberCreateIn {
    pub(crate) fn member(self) -> Result<NewMember> {
        let Self { id, role, groups, email, name } = self;
        let (user, groups) = (UserName::parse(&id)?, parse(groups)?);
        Ok(NewMember { user, role: role.into(), groups, email, name })
    }
}

fn parse(groups: Vec<String>) -> Result<Vec<GroupName>> {
    groups.into_iter().map(GroupName::parse).collect()
}

/// A change of a member; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberPatchIn {
    /// Another role.
    role: Option<MemberRoleName>,
    /// `suspended` refuses its tokens until it is `active` again.
    state: Option<MemberStateName>,
    /// The groups it is in from now on, instead of all others.
    #[schema(value_type = Option<Vec<Name>>, max_items = 16)]
    groups: Option<Vec<String>>,
    /// Another address; `null` is none.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 254,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    email: Change<String>,
    /// Another name; `null` is none.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]+$")]
    name: Change<String>,
}

impl MemberPatchIn {
    pub(crate) fn change(self) -> Result<MemberChange> {
        let text = |change| match change {
            Change::Keep => None,
            Change::Remove => Some(None),
            Change::Replace(text) => Some(Some(text)),
        };
        Ok(MemberChange {
            role: self.role.map(MemberRole::from),
            is_suspended: self.state.map(|state| state == MemberStateName::Suspended),
            groups: self.groups.map(parse).transpose()?,
            email: text(self.email),
            name: text(self.name),
        })
    }
}

/// Which part of the list of members.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberSearch {
    /// What the page before has as `next`.
    #[param(value_type = Option<MemberName>)]
    after: Option<String>,
    /// How many at most, 1 to 1,000; 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

impl MemberSearch {
    pub(crate) fn after(&self) -> Result<Option<UserName>> {
        self.after.as_deref().map(UserName::parse).transpose()
    }

    pub(crate) fn limit(&self) -> Result<usize> {
        limited(self.limit, 100, LIMIT_MAX)
    }
}

/// A member of a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemberOut {
    /// The issuer's name, a slash, and the subject.
    id: String,
    /// Whose tokens speak for it.
    issuer: String,
    /// What those tokens have as subject.
    subject: String,
    role: MemberRoleName,
    state: MemberStateName,
    /// The groups it is in, by their names.
    groups: Vec<String>,
    email: Option<String>,
    name: Option<String>,
    /// When it was added, in milliseconds since 1970 UTC.
    created_at_ms: u64,
    /// When it was changed last, in milliseconds since 1970 UTC.
    changed_at_ms: u64,
}

/// What a tenant's groups are called.
pub(crate) type GroupNames = BTreeMap<GroupNumber, GroupName>;

impl MemberOut {
    /// A member of a tenant whose groups are these.
    pub(crate) fn new(member: Member, names: &GroupNames) -> Self {
        let mut groups: Vec<_> = member
            .groups
            .iter()
            .filter_map(|one| names.get(one))
            .map(GroupName::to_string)
            .collect();
        groups.sort_unstable();
        let is_suspended = member.is_suspended;
        Self {
            id: member.user.to_string(),
            issuer: member.user.issuer().to_owned(),
            subject: member.user.subject().to_owned(),
            role: member.role.into(),
            state: if is_suspended { MemberStateName::Suspended } else { MemberStateName::Active },
            groups,
            email: member.email,
            name: member.name,
            created_at_ms: member.created_at.0,
            changed_at_ms: member.changed_at.0,
        }
    }
}

/// A page of members, in an order of their own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MembersOut {
    members: Vec<MemberOut>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<String>,
}

impl MembersOut {
    /// A page of at most `limit` out of one more than `limit`, if there is one more.
    pub(crate) fn new(mut found: Vec<Member>, limit: usize, names: &GroupNames) -> Self {
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(|last| last.user.to_string());
        let members = found.into_iter().map(|member| MemberOut::new(member, names)).collect();
        Self { members, next }
    }
}

/// How a caller came.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallerKind {
    /// With a key of the tenant.
    Key,
    /// With a token of an issuer.
    User,
    /// As an operator.
    Operator,
}

/// Who a caller is in a tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MeOut {
    /// As audit logs have it.
    actor: String,
    kind: CallerKind,
    /// The tenant's name; null for an operator who has named none.
    tenant: Option<String>,
    /// The highest level that it reaches.
    level: RoleName,
    /// What it is as a member; null if it did not come as one.
    role: Option<MemberRoleName>,
    /// The groups it is in as a member, by their names.
    groups: Vec<String>,
    /// Whether it reaches only some databases, collections or records.
    limited: bool,
}

impl MeOut {
    pub(crate) fn new(who: &Principal, tenant: Option<&str>, groups: &[GroupName]) -> Self {
        let kind = match (who.is_operator(), who.is_user()) {
            (true, _) => CallerKind::Operator,
            (false, true) => CallerKind::User,
            (false, false) => CallerKind::Key,
        };
        Self {
            actor: who.to_string(),
            kind,
            tenant: tenant.map(str::to_owned),
            level: who.role().into(),
            role: who.member_role().map(MemberRoleName::from),
            groups: groups.iter().map(GroupName::to_string).collect(),
            limited: !who.restriction().is_none(),
        }
    }
}
