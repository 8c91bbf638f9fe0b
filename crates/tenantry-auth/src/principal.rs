//! The authenticated caller.

use crate::{KeyId, KeyOwner, KeyRow, Restriction, Role, TenantId};
use std::{fmt, sync::Arc};

/// The authenticated caller. Made by [`crate::Authority`] only.
///
/// A principal stands for one request: revoking or expiring its key ends the next authentication,
/// not a principal that exists already. Do not keep one.
#[derive(Debug, Clone)]
pub struct Principal {
    actor: Actor,
    owner: KeyOwner,
    role: Role,
    restriction: Arc<Restriction>,
}

/// What the principal proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Actor {
    Key(KeyId),
    Development,
    Local,
}

impl Principal {
    pub(crate) fn from_key(row: &KeyRow) -> Self {
        Self {
            actor: Actor::Key(row.id),
            owner: row.owner,
            role: row.role,
            restriction: Arc::clone(&row.restriction),
        }
    }

    /// Whoever calls a server that was started without authentication on a loopback address.
    pub(crate) fn development() -> Self {
        Self::without_key(Actor::Development)
    }

    /// Whoever holds the data folder and its master key.
    pub(crate) fn local() -> Self {
        Self::without_key(Actor::Local)
    }

    fn without_key(actor: Actor) -> Self {
        Self {
            actor,
            owner: KeyOwner::Operator { act_as: true },
            role: Role::Admin,
            restriction: Arc::default(),
        }
    }

    /// The key it came with; `None` in development mode and for a local operator.
    pub fn key(&self) -> Option<KeyId> {
        match self.actor {
            Actor::Key(id) => Some(id),
            Actor::Development | Actor::Local => None,
        }
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

    /// True for an operator.
    pub fn is_operator(&self) -> bool {
        matches!(self.owner, KeyOwner::Operator { .. })
    }

    /// True for an operator that may open any tenant.
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
    /// `key:<id>`, `operator:<id>`, `operator:local` or `development`, as audit logs and request
    /// logs show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.actor, self.owner) {
            (Actor::Key(id), KeyOwner::Tenant(_)) => write!(f, "key:{id}"),
            (Actor::Key(id), KeyOwner::Operator { .. }) => write!(f, "operator:{id}"),
            (Actor::Local, _) => f.write_str("operator:local"),
            (Actor::Development, _) => f.write_str("development"),
        }
    }
}
