//! What a tenant keeps, counted once if its counters do not know it: it had records before anything was
//! counted, or they were lost with a collection that was damaged.

use super::Counted;
use crate::{
    Holding, Stock,
    tenancy::{Backend, Tenancy, catalog::databases_max, tenants::OpenTenant},
};
use tenantry_auth::{Level, OperatorScope, Scope, TenantId};
use tenantry_types::{Error, Result};

impl<B: Backend> Tenancy<B> {
    /// What the tenant of a scope has; how many keys and members only if asked for.
    pub(crate) async fn holding<L: Level>(
        &self,
        scope: &Scope<L>,
        with_rights: bool,
    ) -> Result<Holding> {
        if !scope.restriction().is_none() {
            return Err(Error::denied("a limited key or token cannot read what its tenant keeps"));
        }
        let tenant = self.tenant(scope).await?;
        let held = self.held_by(&tenant, with_rights).await;
        self.unless_gone(&tenant, held).await
    }

    /// All of that for the operator; none if the tenant's place was not made yet, which this does not
    /// do.
    pub(crate) async fn holding_of(
        &self,
        scope: &OperatorScope,
        tenant: TenantId,
    ) -> Result<Option<Holding>> {
        self.operator_stands(scope, None).await?;
        let Some(tenant) = self.open_tenant(tenant).await? else { return Ok(None) };
        if !self.open_if_made(&tenant).await? {
            return Ok(None);
        }
        let held = self.held_by(&tenant, true).await;
        self.unless_gone(&tenant, held).await.map(Some)
    }

    async fn held_by(&self, tenant: &OpenTenant, with_rights: bool) -> Result<Holding> {
        let head = {
            let view = self.view(tenant).await?;
            tenant.read_head(&view).await?
        };
        let stock = match &head.usage {
            Some(counted) => Stock { records: counted.records, bytes: counted.bytes },
            None if head.last_collection == 0 => Stock { records: Some(0), bytes: Some(0) },
            None => Stock::default(),
        };
        let (databases, collections) = (head.databases, head.collections);
        let (mut keys, mut users) = (None, None);
        // Both are read where all tenants' are.
        if with_rights {
            keys = Some(self.count_keys(tenant, &head).await?);
            users = Some(self.count_members(tenant.id()).await?);
        }
        Ok(Holding { stock, databases, collections, keys, users })
    }

    /// Sums up what collections say they have, if that says more than the counters. True if these
    /// know more now. `sequence` is the commit of the counters: without another one, collections that
    /// said nothing are not asked again.
    pub(super) async fn count_stock(
        &self,
        tenant: &OpenTenant,
        sequence: u64,
        counted: &Counted,
    ) -> Result<bool> {
        if tenant.is_silent_at(sequence) {
            return Ok(false);
        }
        // Beside its writes at first: a collection from before may stay silent for long.
        let sizes = self.measure(tenant).await?;
        let says_bytes = counted.bytes.is_none() && sizes.bytes().is_some();
        if counted.records.is_some() && !says_bytes {
            tenant.set_silent_at(sequence);
            return Ok(false);
        }
        let most = databases_max(tenant, self.allowance(None, tenant).await?.limits);
        let (_writing, view) = self.writer(tenant).await?;
        let sizes = self.measure_in(&view, tenant, most).await?;
        let mut commit = self.begin(tenant)?;
        if !commit.set_stock(sizes.records, sizes.bytes()) {
            return Ok(false);
        }
        self.commit(tenant, view, commit).await?;
        Ok(true)
    }
}
