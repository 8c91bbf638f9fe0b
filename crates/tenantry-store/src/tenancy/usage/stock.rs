//! What a tenant keeps, counted once if its counters do not know it: it had records before anything was
//! counted, or they were lost with a collection that was damaged.

use super::Counted;
use crate::{
    Stock,
    tenancy::{Backend, Tenancy, catalog::databases_max, tenants::OpenTenant},
};
use tenantry_auth::{Level, Scope};
use tenantry_types::{Error, Result};

impl<B: Backend> Tenancy<B> {
    /// What the tenant of a scope keeps.
    pub(crate) async fn kept<L: Level>(&self, scope: &Scope<L>) -> Result<Stock> {
        if !scope.restriction().is_none() {
            return Err(Error::denied("a limited key cannot read what its tenant keeps"));
        }
        let tenant = self.tenant(scope).await?;
        let kept = self.kept_by(&tenant).await;
        self.unless_gone(&tenant, kept).await
    }

    async fn kept_by(&self, tenant: &OpenTenant) -> Result<Stock> {
        let view = self.view(tenant).await?;
        let head = tenant.read_head(&view).await?;
        Ok(match head.usage {
            Some(counted) => Stock { records: counted.records, bytes: counted.bytes },
            None if head.last_collection == 0 => Stock { records: Some(0), bytes: Some(0) },
            None => Stock::default(),
        })
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
