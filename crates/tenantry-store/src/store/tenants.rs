//! Tenants as their operator makes, changes, moves and ends them.

use super::Store;
use crate::{
    ArchiveKey, Arrival, Leftover, MoveStatus, MoveTarget, Site, Snapshot, TenantChange,
    TenantInfo, TenantSizes,
    tenancy::moving::{Carry as _, Patience},
};
use std::sync::Arc;
use tenantry_auth::{Admin, OperatorScope, Scope, SystemScope, TenantId};
use tenantry_types::{Isolation, Location, Result, TenantName, TenantSpec, Timestamp};

impl Store {
    /// Makes a tenant: its data key, its row and, if asked for, its first database, in one commit.
    pub async fn create_tenant(
        &self,
        scope: &OperatorScope,
        spec: &TenantSpec,
    ) -> Result<TenantInfo> {
        self.0.tenancy.create_tenant(scope, spec).await
    }

    /// Where a tenant would be made: as `spec` says, and otherwise where the installation's are.
    pub fn place_for(&self, spec: &TenantSpec) -> Result<(Isolation, Location)> {
        self.0.tenancy.where_to(spec)
    }

    /// Living tenants in the order of their names, from the first after `after`.
    pub async fn tenants(
        &self,
        scope: &OperatorScope,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Vec<TenantInfo>> {
        again!(self, self.0.tenancy.tenants(scope, after, limit).await)
    }

    /// The number of living tenants.
    pub async fn count_tenants(&self, scope: &OperatorScope) -> Result<u64> {
        again!(self, self.0.tenancy.count_tenants(scope).await)
    }

    /// The tenant with this name and how much it has, in numbers; `None` if nothing of it is
    /// stored yet but what the installation knows.
    pub async fn tenant_sizes(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<(Arc<TenantInfo>, Option<TenantSizes>)> {
        again!(self, self.0.tenancy.tenant_sizes(scope, name).await)
    }

    /// Deleted tenants whose data are still to be removed: the first thousand by number.
    pub async fn leftovers(&self, scope: &OperatorScope) -> Result<Vec<Leftover>> {
        self.0.tenancy.leftovers(scope).await
    }

    /// Gives up removing what a deleted tenant has left in databases that do not come back, or a living
    /// one in the place that a move still empties;
    /// [`ErrorKind::Conflict`](tenantry_types::ErrorKind::Conflict) if there is nothing to give up.
    pub async fn abandon(&self, scope: &OperatorScope, tenant: TenantId) -> Result<Leftover> {
        self.0.tenancy.abandon(scope, tenant).await
    }

    /// Where this process can make tenants. Nothing is asked of any place.
    pub fn sites(&self, _scope: &OperatorScope) -> Vec<Site> {
        self.0.sites()
    }

    /// The installation's locations that this process cannot use, as far as it has tried, and those that
    /// it was not given though tenants live there. Nothing is asked of any place.
    pub fn out_of_reach(&self, _scope: &OperatorScope) -> Vec<Location> {
        self.0.out_of_reach()
    }

    /// Changes a tenant.
    pub async fn change_tenant(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        change: &TenantChange,
    ) -> Result<TenantInfo> {
        again!(self, self.0.tenancy.change_tenant(scope, name, change).await)
    }

    /// Erases a tenant: its data key is destroyed before this returns, its name is free, its keys
    /// are refused; its bytes are removed in the background.
    pub async fn delete_tenant(&self, scope: &OperatorScope, name: &TenantName) -> Result<()> {
        again!(self, self.0.tenancy.delete_tenant(scope, name).await)
    }

    /// True if whoever is renamed has its new name since a time that its row says. Otherwise its row
    /// says when it was made, until an installation on PostgreSQL is migrated.
    pub fn dates_names(&self) -> bool {
        self.0.tenancy.dates_names()
    }

    /// Deletes a tenant from this time on; until then it can be restored.
    pub async fn retire_tenant(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        until: Timestamp,
    ) -> Result<TenantInfo> {
        again!(self, self.0.tenancy.retire_tenant(scope, name, until).await)
    }

    /// Takes a deletion back whose time has not come.
    pub async fn restore_tenant(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<TenantInfo> {
        again!(self, self.0.tenancy.restore_tenant(scope, name).await)
    }

    /// Erases all tenants that are deleted and whose time has come.
    pub async fn erase_due(&self, scope: &SystemScope) -> Result<()> {
        again!(self, self.0.tenancy.erase_due(scope).await)
    }

    /// All that a tenant has, as it is now, for whoever may read all of it.
    pub async fn snapshot(&self, scope: &Scope<Admin>) -> Result<Snapshot> {
        again!(self, Box::pin(Snapshot::take(&self.0.tenancy, scope)).await)
    }

    /// What signs this installation's archives.
    pub async fn archive_key(&self, _scope: &SystemScope) -> Result<ArchiveKey> {
        ArchiveKey::of(&*self.0.tenancy.installation().await?)
    }

    /// Makes a tenant that is to be filled before anybody reaches it.
    pub async fn begin_arrival(&self, scope: &OperatorScope, spec: &TenantSpec) -> Result<Arrival> {
        let tenancy = Arc::clone(&self.0.tenancy);
        let (info, arriving) = tenancy.begin_arrival(scope, spec).await?;
        let terms = TenantChange::default();
        Ok(Arrival { tenancy, arriving, info, terms, is_bounded: false })
    }

    /// Begins to move a tenant to another place, while it works: it is copied in the background, and
    /// lives in the new place from one moment to the next. Goes on after a restart.
    pub async fn start_move(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        to: MoveTarget,
    ) -> Result<MoveStatus> {
        again!(self, self.0.tenancy.start_move(scope, name, to).await)
    }

    /// The move of a tenant that is under way, or was the last one.
    pub async fn move_status(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<Option<MoveStatus>> {
        again!(self, self.0.tenancy.move_status(scope, name).await)
    }

    /// Cancels the move of a tenant, which stays where it is; refused with
    /// [`ErrorKind::Conflict`](tenantry_types::ErrorKind::Conflict) once it lives in the new place.
    pub async fn cancel_move(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<MoveStatus> {
        again!(self, self.0.tenancy.cancel_move(scope, name).await)
    }

    /// True if this process is the one that moves tenants.
    pub fn moves_tenants(&self) -> bool {
        self.0.tenancy.leads()
    }

    /// The moves that are not over, in the order in which they were asked for: the first thousand.
    pub async fn moves(&self, scope: &OperatorScope) -> Result<Vec<MoveStatus>> {
        self.0.tenancy.move_list(scope).await
    }
}
