//! Proofs of access. See the crate's documentation.

use crate::{
    Author, CanWrite, Level, Principal, Read, RequestId, Restriction, Standing, TenantId, Write,
};
use std::{marker::PhantomData, sync::Arc};

/// The proof that a principal may act in one tenant at level `L`.
#[derive(Debug)]
pub struct Scope<L: Level> {
    tenant: TenantId,
    actor: Arc<str>,
    request: Option<RequestId>,
    restriction: Arc<Restriction>,
    standing: Standing,
    level: PhantomData<fn() -> L>,
}

impl<L: Level> Clone for Scope<L> {
    fn clone(&self) -> Self {
        self.at()
    }
}

impl<L: Level> Scope<L> {
    pub(crate) fn new(tenant: TenantId, who: &Principal) -> Self {
        Self {
            tenant,
            actor: who.to_string().into(),
            request: who.request().cloned(),
            restriction: Arc::clone(who.restriction()),
            standing: who.standing(),
            level: PhantomData,
        }
    }

    fn at<M: Level>(&self) -> Scope<M> {
        Scope {
            tenant: self.tenant,
            actor: Arc::clone(&self.actor),
            request: self.request.clone(),
            restriction: Arc::clone(&self.restriction),
            standing: self.standing,
            level: PhantomData,
        }
    }

    /// The one tenant.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Who acts, as the audit log shows it.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Who acts, and in which request.
    pub fn author(&self) -> Author<'_> {
        Author::new(&self.actor, self.request.as_ref())
    }

    /// What narrows the scope within the tenant.
    pub fn restriction(&self) -> &Restriction {
        &self.restriction
    }

    /// What must still hold when the scope is used.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// The same scope, reading only.
    pub fn to_read(&self) -> Scope<Read> {
        self.at()
    }
}

impl<L: CanWrite> Scope<L> {
    /// The same scope, without administration.
    pub fn to_write(&self) -> Scope<Write> {
        self.at()
    }
}

/// The proof that a principal is the operator: manages tenants, reaches no tenant's data.
#[derive(Debug, Clone)]
pub struct OperatorScope {
    actor: Arc<str>,
    request: Option<RequestId>,
    may_act_as: bool,
    standing: Standing,
}

impl OperatorScope {
    pub(crate) fn new(author: Author<'_>, may_act_as: bool, standing: Standing) -> Self {
        let request = author.request().cloned();
        Self { actor: author.actor().into(), request, may_act_as, standing }
    }

    /// What must still hold when the scope is used.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// True if the operator may also open tenants, and so make keys that may.
    pub fn may_act_as(&self) -> bool {
        self.may_act_as
    }

    /// Who acts, as the audit log shows it.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Who acts, and in which request.
    pub fn author(&self) -> Author<'_> {
        Author::new(&self.actor, self.request.as_ref())
    }
}

/// The right of background work that no principal asked for, with its written reason.
#[derive(Debug, Clone)]
pub struct SystemScope {
    reason: &'static str,
}

impl SystemScope {
    pub(crate) fn new(reason: &'static str) -> Self {
        Self { reason }
    }

    /// Why the work is done.
    pub fn reason(&self) -> &'static str {
        self.reason
    }
}
