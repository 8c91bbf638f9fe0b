//! Members of tenants, and their groups.

use super::Store;
use crate::{
    Granted, GroupChange, MemberChange, NewMember, ObjectNames, tenancy::moving::Patience,
};
use tenantry_auth::{Admin, Group, Level, Member, Scope, UserName};
use tenantry_types::{GroupName, Result};

impl Store {
    /// Adds a member to the tenant. [`ErrorKind::LimitExceeded`] if it has as many as it may have,
    /// [`ErrorKind::Denied`] for a role that the caller may not give.
    ///
    /// [`ErrorKind::LimitExceeded`]: tenantry_types::ErrorKind::LimitExceeded
    /// [`ErrorKind::Denied`]: tenantry_types::ErrorKind::Denied
    pub async fn add_member(&self, scope: &Scope<Admin>, new: &NewMember) -> Result<Member> {
        again!(self, self.0.tenancy.add_member(scope, new.clone()).await)
    }

    /// Members of the tenant, in an order of their own, from the first behind `after`.
    pub async fn members(
        &self,
        scope: &Scope<Admin>,
        after: Option<&UserName>,
        limit: usize,
    ) -> Result<Vec<Member>> {
        again!(self, self.0.tenancy.members(scope, after, limit).await)
    }

    /// The member whom tokens call so.
    pub async fn member(&self, scope: &Scope<Admin>, user: &UserName) -> Result<Member> {
        again!(self, self.0.tenancy.member(scope, user).await)
    }

    /// Changes a member; what it could do and cannot any more is refused from the moment this returns,
    /// on other nodes within a second. [`ErrorKind::Conflict`] if no owner would be left.
    ///
    /// [`ErrorKind::Conflict`]: tenantry_types::ErrorKind::Conflict
    pub async fn change_member(
        &self,
        scope: &Scope<Admin>,
        user: &UserName,
        change: &MemberChange,
    ) -> Result<Member> {
        again!(self, self.0.tenancy.change_member(scope, user, change.clone()).await)
    }

    /// Removes a member; the same holds.
    pub async fn remove_member(&self, scope: &Scope<Admin>, user: &UserName) -> Result<()> {
        again!(self, self.0.tenancy.remove_member(scope, user).await)
    }

    /// All groups of the tenant's members, by their names.
    pub async fn groups(&self, scope: &Scope<Admin>) -> Result<Vec<Group>> {
        again!(self, self.0.tenancy.groups(scope).await)
    }

    /// The group with this name.
    pub async fn group(&self, scope: &Scope<Admin>, name: &GroupName) -> Result<Group> {
        again!(self, self.0.tenancy.group(scope, name).await)
    }

    /// The names of the groups that whoever acts is in; none for whoever is no member.
    pub async fn own_groups<L: Level>(&self, scope: &Scope<L>) -> Result<Vec<GroupName>> {
        again!(self, self.0.tenancy.own_groups(scope).await)
    }

    /// Makes a group. [`ErrorKind::LimitExceeded`] if the tenant has as many as it may have.
    ///
    /// [`ErrorKind::LimitExceeded`]: tenantry_types::ErrorKind::LimitExceeded
    pub async fn add_group(
        &self,
        scope: &Scope<Admin>,
        name: &GroupName,
        granted: &Granted,
    ) -> Result<Group> {
        again!(self, self.0.tenancy.add_group(scope, name.clone(), granted.clone()).await)
    }

    /// Changes a group; what its guests could do and cannot any more is refused from the moment this
    /// returns, on other nodes within a second. What they can do now they can from then on.
    pub async fn change_group(
        &self,
        scope: &Scope<Admin>,
        name: &GroupName,
        change: &GroupChange,
    ) -> Result<Group> {
        again!(self, self.0.tenancy.change_group(scope, name, change.clone()).await)
    }

    /// Removes a group; the same holds. One that is made anew under its name has no members. What it
    /// gave is in the log by these names, and by numbers without.
    pub async fn remove_group(
        &self,
        scope: &Scope<Admin>,
        name: &GroupName,
        names: &ObjectNames,
    ) -> Result<()> {
        again!(self, self.0.tenancy.remove_group(scope, name, names.clone()).await)
    }
}
