//! A connection in somebody's hands.

use super::{
    clean::clean,
    connect::{Facts, Link, VectorType, is_stale},
    connections::{Permit, Shared},
    failure::{Cause, Failure, Outcome},
    prepared::Prepared,
    target::Target,
};
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio_postgres::Client;

/// A connection for one user at a time. Dropped, it can be used by the next one: at once if
/// nothing is open on it, otherwise after it was cleaned.
pub(crate) struct Conn {
    link: Option<Link>,
    permit: Option<Permit>,
    shared: Weak<Shared>,
    /// Nothing was sent that is not answered, and no transaction is open.
    is_clean: bool,
}

impl Conn {
    pub(super) fn new(link: Link, permit: Permit, shared: Weak<Shared>) -> Self {
        Self { link: Some(link), permit: Some(permit), shared, is_clean: true }
    }

    pub(crate) fn facts(&self) -> Option<&Arc<Facts>> {
        self.link.as_ref().map(|link| &link.facts)
    }

    /// pgvector's types, to send values of them.
    pub(crate) fn vector(&self) -> Option<&VectorType> {
        self.facts()?.vector.as_ref()
    }

    pub(crate) fn target(&self) -> Option<&Target> {
        self.link.as_ref().map(|link| &link.target)
    }

    /// From now on something may be on its way.
    pub(super) fn set_dirty(&mut self) {
        self.is_clean = false;
        #[cfg(test)]
        if let Some(shared) = self.shared.upgrade() {
            shared.exchanges.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn say(&self, statement: &super::statement::Statement) {
        if let Some(shared) = self.shared.upgrade() {
            let types = statement.values.iter().map(|(_, of)| of.clone()).collect();
            shared.said.lock().push((statement.text.as_str().to_owned(), types));
        }
    }

    /// To send something with.
    pub(super) fn client(&self) -> Outcome<&Client> {
        let link = self.link.as_ref().filter(|link| !link.is_closed());
        link.map(Link::client).ok_or_else(Failure::lost)
    }

    /// What is prepared in its session.
    pub(super) fn prepared(&self) -> Option<&Prepared> {
        let link = self.link.as_ref().filter(|link| !link.target.server.is_pooled());
        link.map(|link| &link.prepared)
    }

    /// Everything was answered, and no transaction is open.
    pub(super) fn set_clean(&mut self) {
        self.is_clean = true;
    }

    /// Ends the connection now.
    pub(super) fn kill(&self) {
        if let Some(link) = &self.link {
            link.kill();
        }
    }

    /// What a failure says of the connection itself.
    pub(super) fn learn(&self, failure: &Failure) {
        if failure.is_lost() || failure.cause() == Cause::NotGranted {
            self.kill();
        }
        if failure.cause() == Cause::NotPrepared
            && let Some(target) = self.target()
        {
            target.server.set_pooled();
            self.kill();
        }
        if is_stale(failure)
            && let (Some(shared), Some(target)) = (self.shared.upgrade(), self.target())
        {
            shared.forget(target);
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else { return };
        let Some(permit) = self.permit.take() else { return };
        if link.is_closed() {
            return;
        }
        if self.is_clean {
            if let Some(shared) = self.shared.upgrade() {
                shared.give_back(link);
            }
            // Only now may the next one look for it.
            drop(permit);
        } else if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(clean(link, self.shared.clone(), permit));
        } else {
            // Outside the runtime nobody could wait for an answer.
            link.kill();
        }
    }
}
