//! The authenticated caller.

use crate::{
    Grants, KeyId, KeyOwner, KeyRow, MemberId, MemberRights, MemberRole, PathTenant, RequestId,
    Restriction, Role, StatedReason, TenantId, UserName, token::Claimed,
};
use std::{fmt, sync::Arc};
use tenantry_types::{TenantName, Timestamp};

/// The authenticated caller. Made by [`crate::Authority`] only.
///
/// A principal stands for one request; do not keep one. What it proved is looked at once more when
/// a scope made from it is used: see [`Standing`].
#[derive(Debug, Clone)]
pub struct Principal {
    actor: Actor,
    owner: KeyOwner,
    /// The one tenant that an operator may act in, if it may in one only.
    only: Option<TenantId>,
    role: Role,
    restriction: Arc<Restriction>,
    standing: Standing,
    request: Option<RequestId>,
    host: Option<Arc<TenantName>>,
    path: Option<PathTenant>,
    header: Option<Arc<TenantName>>,
    reason: Option<StatedReason>,
}

/// What must still hold when a right is used, some time after it was given: a request can be held
/// open between its headers and the end of its body.
#[derive(Debug, Clone)]
pub struct Standing {
    rests_on: RestsOn,
    /// What a guest's groups gave.
    grants: Option<Arc<Grants>>,
    operator: bool,
    expires_at: Option<Timestamp>,
    revocations: u64,
}

/// What can be taken away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestsOn {
    /// Nothing.
    Nothing,
    /// A key, and its tenant.
    Key(KeyId),
    /// The tenant alone: a token cannot be called back before its time is over.
    Tenant,
    /// A member of the tenant, which must be in this role at least, and the tenant.
    Member(MemberId, MemberRole),
}

impl Standing {
    /// The key that must still exist, if the right came with one.
    pub fn key(&self) -> Option<KeyId> {
        match self.rests_on {
            RestsOn::Key(id) => Some(id),
            RestsOn::Nothing | RestsOn::Tenant | RestsOn::Member(..) => None,
        }
    }

    /// The member that must still be active, and in this role at least, if the right came by one.
    pub fn member(&self) -> Option<(MemberId, MemberRole)> {
        match self.rests_on {
            RestsOn::Member(id, role) => Some((id, role)),
            RestsOn::Nothing | RestsOn::Tenant | RestsOn::Key(_) => None,
        }
    }

    /// Whether a right that came by a member is still all that it was, by what the member may now. What
    /// was added since ends nothing.
    pub fn is_kept_by(&self, now: &MemberRights) -> bool {
        let RestsOn::Member(id, role) = self.rests_on else { return false };
        let covers = match (&self.grants, &now.grants) {
            (Some(had), Some(has)) => has.covers(had),
            // Nothing narrows it any more, or nothing did: the role says enough.
            (_, None) | (None, _) => true,
        };
        let is_active = now.member.id == id && !now.member.is_suspended;
        is_active && now.member.role >= role && covers
    }

    /// What a guest's groups give, by which it is narrowed; none for everybody else.
    pub(crate) fn grants(&self) -> Option<&Grants> {
        self.grants.as_deref()
    }

    /// Whether whoever has administers a tenant may add, change and remove members of a role. Keys
    /// and tokens without a member are admins: an owner is somebody.
    pub fn manages(&self, role: MemberRole) -> bool {
        let as_role = match self.rests_on {
            RestsOn::Member(_, own) => own,
            RestsOn::Nothing | RestsOn::Key(_) | RestsOn::Tenant => MemberRole::Admin,
        };
        self.operator || as_role.manages(role)
    }

    /// True if a revocation can end it.
    pub fn is_revocable(&self) -> bool {
        self.rests_on != RestsOn::Nothing
    }

    /// True for an operator, who may act in a suspended tenant.
    pub fn is_operator(&self) -> bool {
        self.operator
    }

    /// True for an operator that manages tenants, operator keys and what else is not a tenant's own:
    /// none does by a token, which cannot be called back, and what it made could not be either.
    pub fn may_manage(&self) -> bool {
        self.operator && matches!(self.rests_on, RestsOn::Nothing | RestsOn::Key(_))
    }

    /// True if the time of the key or the token is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// [`crate::KeyDirectory::revocations`] before the key or the tenant was looked up. As long as it
    /// has not grown, nothing needs to be looked up again.
    pub fn revocations(&self) -> u64 {
        self.revocations
    }
}

/// What the principal proved.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Actor {
    Key(KeyId),
    /// Of an issuer.
    User(UserName),
    Development,
    Local,
    SignUp,
}

impl Principal {
    pub(crate) fn from_key(row: &KeyRow, revocations: u64) -> Self {
        Self {
            actor: Actor::Key(row.id),
            owner: row.owner,
            only: None,
            role: row.role,
            restriction: Arc::clone(&row.restriction),
            standing: Standing {
                rests_on: RestsOn::Key(row.id),
                grants: None,
                operator: matches!(row.owner, KeyOwner::Operator { .. }),
                expires_at: row.expires_at,
                revocations,
            },
            request: None,
            host: None,
            path: None,
            header: None,
            reason: None,
        }
    }

    pub(crate) fn from_token(claimed: &Claimed, tenant: TenantId, revocations: u64) -> Self {
        Self::of_token(claimed, KeyOwner::Tenant(tenant), revocations)
    }

    /// Of a token that makes its holder an operator, in this tenant or in all. It manages none.
    pub(crate) fn from_operator(
        claimed: &Claimed,
        only: Option<TenantId>,
        revocations: u64,
    ) -> Self {
        let owner = KeyOwner::Operator { act_as: true };
        Self { only, ..Self::of_token(claimed, owner, revocations) }
    }

    fn of_token(claimed: &Claimed, owner: KeyOwner, revocations: u64) -> Self {
        Self {
            actor: Actor::User(claimed.user.clone()),
            owner,
            only: None,
            role: claimed.role,
            restriction: Arc::clone(&claimed.restriction),
            standing: Standing {
                rests_on: RestsOn::Tenant,
                grants: None,
                operator: matches!(owner, KeyOwner::Operator { .. }),
                expires_at: Some(claimed.ends),
                revocations,
            },
            request: None,
            host: None,
            path: None,
            header: None,
            reason: None,
        }
    }

    /// Of a token that counts for a member only, and for no more than the member may.
    pub(crate) fn from_member(
        claimed: &Claimed,
        tenant: TenantId,
        rights: &MemberRights,
        revocations: u64,
    ) -> Self {
        let who = Self::from_token(claimed, tenant, revocations);
        let rests_on = RestsOn::Member(rights.member.id, rights.member.role);
        let restriction = match &rights.grants {
            Some(grants) => grants.narrow(&claimed.restriction),
            None => who.restriction,
        };
        let grants = rights.grants.clone();
        let standing = Standing { rests_on, grants, ..who.standing };
        Self { role: claimed.role.min(rights.level()), restriction, standing, ..who }
    }

    /// Whoever calls a server that was started without authentication on a loopback address.
    pub(crate) fn development() -> Self {
        Self::without_key(Actor::Development)
    }

    /// Whoever holds the data folder and its master key.
    pub(crate) fn local() -> Self {
        Self::without_key(Actor::Local)
    }

    /// The server, which makes what a stranger asks for.
    pub(crate) fn sign_up() -> Self {
        Self::without_key(Actor::SignUp)
    }

    fn without_key(actor: Actor) -> Self {
        Self {
            actor,
            owner: KeyOwner::Operator { act_as: true },
            only: None,
            role: Role::Admin,
            restriction: Arc::default(),
            standing: Standing {
                rests_on: RestsOn::Nothing,
                grants: None,
                operator: true,
                expires_at: None,
                revocations: 0,
            },
            request: None,
            host: None,
            path: None,
            header: None,
            reason: None,
        }
    }

    /// The same in this request. It gives no right; logs say it of what is done with one.
    #[must_use]
    pub fn in_request(self, request: Option<RequestId>) -> Self {
        Self { request, ..self }
    }

    /// In which request it acts, if it is one.
    pub fn request(&self) -> Option<&RequestId> {
        self.request.as_ref()
    }

    /// The same, asking at a host that names this tenant. It gives no right: what is opened
    /// must be this tenant too.
    #[must_use]
    pub fn at_host(self, host: Option<Arc<TenantName>>) -> Self {
        Self { host, ..self }
    }

    /// The tenant that the host names where it asks.
    pub fn host(&self) -> Option<&TenantName> {
        self.host.as_deref()
    }

    /// The same, asking below a path that names this tenant. It gives no right, like a host.
    #[must_use]
    pub fn below_path(self, path: Option<PathTenant>) -> Self {
        Self { path, ..self }
    }

    /// What the start of the path says where it asks, if it names tenants.
    pub fn path(&self) -> Option<&PathTenant> {
        self.path.as_ref()
    }

    /// The same, with a header that names this tenant beside what its protocol says. It gives no right,
    /// like a host.
    #[must_use]
    pub fn with_header(self, header: Option<TenantName>) -> Self {
        Self { header: header.map(Arc::new), ..self }
    }

    /// The tenant that a header names beside what its protocol says.
    pub fn header(&self) -> Option<&TenantName> {
        self.header.as_deref()
    }

    /// The tenant that is named around what its protocol says: by the host, by the start of the path or
    /// by a header.
    pub fn addressed(&self) -> Option<&TenantName> {
        self.host().or_else(|| self.path()?.name().ok()).or(self.header())
    }

    /// The same, for this reason. It gives no right; a tenant's log says why an operator came.
    #[must_use]
    pub fn for_reason(self, reason: Option<StatedReason>) -> Self {
        Self { reason, ..self }
    }

    /// Why it acts in a tenant, if it has said so.
    pub fn reason(&self) -> Option<&StatedReason> {
        self.reason.as_ref()
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The key it came with; `None` for a token, in development mode and for a local operator.
    pub fn key(&self) -> Option<KeyId> {
        match self.actor {
            Actor::Key(id) => Some(id),
            Actor::User(_) | Actor::Development | Actor::Local | Actor::SignUp => None,
        }
    }

    /// True for whoever came with a token of an issuer.
    pub fn is_user(&self) -> bool {
        matches!(self.actor, Actor::User(_))
    }

    /// What it is in its tenant, if it came as a member.
    pub fn member_role(&self) -> Option<MemberRole> {
        self.standing.member().map(|(_, role)| role)
    }

    /// True for a caller who presented nothing to a server in development mode.
    pub fn is_development(&self) -> bool {
        self.actor == Actor::Development
    }

    /// The tenant it belongs to; `None` for an operator.
    pub fn tenant(&self) -> Option<TenantId> {
        match self.owner {
            KeyOwner::Tenant(tenant) => Some(tenant),
            KeyOwner::Operator { .. } => None,
        }
    }

    /// The one tenant that it can reach: its own, or the one to which an operator's token is limited;
    /// `None` for every other operator.
    pub fn bound_to(&self) -> Option<TenantId> {
        self.tenant().or(self.only)
    }

    /// True for an operator.
    pub fn is_operator(&self) -> bool {
        matches!(self.owner, KeyOwner::Operator { .. })
    }

    /// [`Standing::may_manage`].
    pub fn may_manage(&self) -> bool {
        self.standing.may_manage()
    }

    /// True for an operator that may open tenants: any, unless it is [bound](Self::bound_to).
    pub fn may_act_as(&self) -> bool {
        matches!(self.owner, KeyOwner::Operator { act_as: true })
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// What narrows it.
    pub fn restriction(&self) -> &Arc<Restriction> {
        &self.restriction
    }
}

impl fmt::Display for Principal {
    /// `key:<id>`, `user:<issuer>/<subject>`, `operator:<id>`, `operator:<issuer>/<subject>`,
    /// `operator:local`, `development` or `signup`, as audit logs and request logs show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.actor, self.owner) {
            (Actor::Key(id), KeyOwner::Tenant(_)) => write!(f, "key:{id}"),
            (Actor::Key(id), KeyOwner::Operator { .. }) => write!(f, "operator:{id}"),
            (Actor::User(user), KeyOwner::Tenant(_)) => write!(f, "user:{user}"),
            (Actor::User(user), KeyOwner::Operator { .. }) => write!(f, "operator:{user}"),
            (Actor::Local, _) => f.write_str("operator:local"),
            (Actor::Development, _) => f.write_str("development"),
            (Actor::SignUp, _) => f.write_str("signup"),
        }
    }
}
