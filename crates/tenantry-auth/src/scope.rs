//! Proofs of access. See the crate's documentation.

use crate::{
    Author, CanWrite, Grants, Level, Principal, Read, RequestId, Restriction, Role, Standing,
    TenantId, Write,
};
use std::{marker::PhantomData, sync::Arc};
use tenantry_types::{CollectionNumber, DatabaseNumber};

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
            standing: who.standing().clone(),
            level: PhantomData,
        }
    }

    fn at<M: Level>(&self) -> Scope<M> {
        Scope {
            tenant: self.tenant,
            actor: Arc::clone(&self.actor),
            request: self.request.clone(),
            restriction: Arc::clone(&self.restriction),
            standing: self.standing.clone(),
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

    /// What narrows the scope within the tenant: what it may see, at least. See
    /// [`Scope::reaches_collection`].
    pub fn restriction(&self) -> &Restriction {
        &self.restriction
    }

    /// True if the scope may do in the collection what its level says. A guest may read some
    /// collections and write others, so a scope for writing sees some that it must leave as they are.
    pub fn reaches_collection(
        &self,
        database: DatabaseNumber,
        collection: CollectionNumber,
    ) -> bool {
        let given = |grants: &Grants| grants.writes_collection(database, collection);
        self.restriction.sees_collection(database, collection)
            && (L::ROLE < Role::Write || self.standing.grants().is_none_or(given))
    }

    /// True if the scope may do in every collection of the database, also in those to come, what its
    /// level says.
    pub fn owns_database(&self, database: DatabaseNumber) -> bool {
        let given = |grants: &Grants| grants.writes_database(database);
        self.restriction.owns_database(database)
            && (L::ROLE < Role::Write || self.standing.grants().is_none_or(given))
    }

    /// True if the scope may give names in the database: make collections and rename them. Whoever
    /// has no such right could otherwise find out, by giving one, which names are taken.
    pub fn names_collections(&self, database: DatabaseNumber) -> bool {
        self.restriction.filter.is_none() && self.owns_database(database)
    }

    /// What must still hold when the scope is used.
    pub fn standing(&self) -> &Standing {
        &self.standing
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
    pub fn standing(&self) -> &Standing {
        &self.standing
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
