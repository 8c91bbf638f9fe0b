//! What an operation is counted as, however it ends for whoever asked: somebody who hangs up before the
//! answer has had the work done all the same.

use crate::{denials, denials::DONE, engine::Inner};
use std::sync::Arc;
use tenantry_auth::{Level, Scope, TenantId};
use tenantry_types::{Amounts, Location, Meter, Result};

fn note(inner: &Inner, tenant: TenantId, amounts: &[(Meter, u128)]) {
    let mut all = Amounts::of(Meter::Requests, 1);
    for (meter, amount) in amounts {
        all.add(*meter, *amount);
    }
    inner.metering.note(tenant, inner.clock.now(), &all);
}

/// A read under way. Dropped, it is a request in the ledger and a read in the log's sum of this
/// minute; what it cost besides is not known then, but for CPU time, which turns count.
pub(crate) struct Reading<'a, L: Level> {
    inner: &'a Inner,
    scope: &'a Scope<L>,
    collection: &'a str,
    is_open: bool,
}

impl<'a, L: Level> Reading<'a, L> {
    pub(crate) fn begin(inner: &'a Inner, scope: &'a Scope<L>, collection: &'a str) -> Self {
        Self { inner, scope, collection, is_open: true }
    }

    /// The read has an answer, with these amounts; one that is refused costs nothing.
    pub(crate) fn end<T>(
        mut self,
        answer: Result<T>,
        amounts: impl FnOnce(&T) -> Vec<(Meter, u128)>,
    ) -> Result<T> {
        self.is_open = false;
        let value = answer?;
        self.count(&amounts(&value));
        Ok(value)
    }

    fn count(&self, amounts: &[(Meter, u128)]) {
        let tenant = self.scope.tenant();
        let by = (tenant, self.scope.author());
        self.inner.reads.note(by, denials::READ, self.collection, DONE);
        note(self.inner, tenant, amounts);
    }
}

impl<L: Level> Drop for Reading<'_, L> {
    fn drop(&mut self) {
        if self.is_open {
            self.count(&[]);
        }
    }
}

/// A change under way. Its commit counts it; not in a database that the tenant carries, which could
/// say what it likes. Dropped, it counts as if it was done, because a change outlives its caller.
pub(crate) struct Changing {
    inner: Arc<Inner>,
    tenant: TenantId,
    is_own: bool,
    /// What it is if all of it is done.
    work: Vec<(Meter, u128)>,
    is_open: bool,
}

impl Inner {
    /// Of a change that is about to be made.
    pub(crate) async fn changing<L: Level>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        work: Vec<(Meter, u128)>,
    ) -> Result<Changing> {
        let (inner, tenant) = (Arc::clone(self), scope.tenant());
        let info = self.store.tenant_by_id(tenant).await?;
        let is_own = info.is_some_and(|info| info.location == Location::Own);
        Ok(Changing { inner, tenant, is_own, work, is_open: true })
    }
}

impl Changing {
    /// It was made, or refused, which costs nothing.
    pub(crate) fn of<T>(self, outcome: &Result<T>) {
        self.end(outcome.as_ref().ok().map(|_| (true, Vec::new())));
    }

    /// Whether it has changed something, and its work; none if it was refused. Without a commit it is
    /// counted as a read is.
    pub(crate) fn end(mut self, done: Option<(bool, Vec<(Meter, u128)>)>) {
        self.is_open = false;
        match done {
            Some((true, work)) => {
                self.work = work;
                self.count();
            }
            Some((false, _)) => note(&self.inner, self.tenant, &[]),
            None => {}
        }
    }

    fn count(&self) {
        if self.is_own {
            note(&self.inner, self.tenant, &self.work);
        } else {
            self.inner.metering.wrote(self.tenant);
        }
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        if self.is_open {
            self.count();
        }
    }
}
