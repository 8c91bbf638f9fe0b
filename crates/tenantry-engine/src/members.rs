//! Members of a session's tenant, for whoever administers it.

use crate::{Session, engine::narrowed, validate};
use tenantry_auth::{Admin, Member, UserName};
use tenantry_store::{AuditReason, MemberChange, NewMember};
use tenantry_types::{Error, ErrorKind, Result};

impl Session<Admin> {
    /// Adds a member: tokens of an issuer whose tokens need one count from now on. Who administers the
    /// tenant gives roles that its own manages; an owner is made by owners and by the operator.
    pub async fn add_member(&self, new: &NewMember) -> Result<Member> {
        validate::about_member(new.email.as_deref(), new.name.as_deref())?;
        self.check_issuer(&new.user)?;
        let added = self.inner.store.add_member(&self.scope, new).await;
        self.managed("member.add", &quoted(new.user.as_str()), added)
    }

    /// Members in an order of their own, from the first behind `after`; at most 10,000 at once.
    pub async fn members(&self, after: Option<&UserName>, limit: usize) -> Result<Vec<Member>> {
        validate::members_page(limit)?;
        let found = self.inner.store.members(&self.scope, after, limit).await;
        self.managed("member.list", "", found)
    }

    /// The member whom tokens call so.
    pub async fn member(&self, user: &UserName) -> Result<Member> {
        let found = self.inner.store.member(&self.scope, user).await;
        self.managed("member.read", &quoted(user.as_str()), found)
    }

    /// Changes a member, at once; on other nodes within a second.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if no owner would be left, [`ErrorKind::Denied`] if the caller's role
    /// does not manage what the member is or is to be.
    pub async fn change_member(&self, user: &UserName, change: &MemberChange) -> Result<Member> {
        let (email, name) = (change.email.clone().flatten(), change.name.clone().flatten());
        validate::about_member(email.as_deref(), name.as_deref())?;
        let changed = self.inner.store.change_member(&self.scope, user, change).await;
        self.managed("member.change", &quoted(user.as_str()), changed)
    }

    /// Removes a member, at once; on other nodes within a second. The same refusals hold. Keys that it
    /// has made stay.
    pub async fn remove_member(&self, user: &UserName) -> Result<()> {
        let removed = self.inner.store.remove_member(&self.scope, user).await;
        self.managed("member.remove", &quoted(user.as_str()), removed)
    }

    /// A mistyped issuer would make a member whom no token ever means. Whoever has no issuers, such as
    /// a command on a folder, cannot know.
    fn check_issuer(&self, user: &UserName) -> Result<()> {
        let issuers = self.inner.authority.issuers();
        let name = user.issuer();
        match issuers.needs_member(name) {
            Some(true) => Ok(()),
            // Before the tokens of an issuer need members, the operator adds them.
            Some(false) if self.scope.standing().is_operator() => Ok(()),
            Some(false) => Err(Error::invalid(format!(
                "tokens of {name:?} count without a member here: this would hold nobody back"
            ))),
            None if issuers.names().next().is_none() => Ok(()),
            None => Err(Error::invalid(format!("no issuer of tokens is called {name:?} here"))),
        }
    }

    /// [`Inner::watched`](crate::engine::Inner::watched), with the reason of a role that is too low.
    pub(crate) fn managed<T>(&self, action: &str, target: &str, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(error) if error.kind() == ErrorKind::Denied => {
                let reason = match narrowed(self.scope.restriction()) {
                    AuditReason::None => AuditReason::Role,
                    narrowed => narrowed,
                };
                let log = (self.scope.tenant(), self.scope.author());
                self.inner.refuse(log, action, target, (&error, reason));
                Err(error)
            }
            outcome => self.inner.watched(&self.scope, action, target, outcome),
        }
    }
}

/// A name as entries of the log about members and groups have it: it passes for nothing else.
pub(crate) fn quoted(name: &str) -> String {
    format!("{name:?}")
}
