//! A server of one tenant.
//!
//! Requests need not name it, and every other name is answered as one that nobody has, whatever the
//! store holds: a foreign tenant is not looked up, and a key of one is no key here.

use crate::{Engine, engine::Inner};
use std::sync::Arc;
use tenantry_auth::OperatorScope;
use tenantry_store::TenantInfo;
use tenantry_types::{Error, ErrorKind, Resource, Result, TenantName, TenantSpec};

impl Inner {
    /// True if a tenant of this name may be reached.
    pub(crate) fn serves(&self, name: &TenantName) -> bool {
        self.single.get().is_none_or(|only| only == name)
    }

    /// Fails as for a tenant that does not exist, unless one of this name may be reached.
    pub(crate) fn check_served(&self, name: &TenantName) -> Result<()> {
        if self.serves(name) {
            return Ok(());
        }
        Err(Error::not_found(Resource::Tenant, name.as_str()))
    }

    /// Fails if no tenant of this name may be made. The same for one that is there: who is not
    /// served is not told of either.
    pub(crate) fn check_new(&self, name: &TenantName) -> Result<()> {
        let Some(only) = self.single.get().filter(|only| *only != name) else { return Ok(()) };
        let why = "this server has one tenant (single_tenant)";
        Err(Error::invalid(format!(
            "{why}, {only}: no other one is made, renamed or imported here"
        )))
    }

    /// The tenant with this name, if one of that name may be reached.
    pub(crate) async fn find_tenant(&self, name: &TenantName) -> Result<Option<Arc<TenantInfo>>> {
        if self.serves(name) { self.store.find_tenant(name).await } else { Ok(None) }
    }

    /// Tenants that may be reached, in the order of their names, from the first after `after`.
    pub(crate) async fn tenants(
        &self,
        scope: &OperatorScope,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Vec<TenantInfo>> {
        let Some(only) = self.single.get() else {
            return self.store.tenants(scope, after, limit).await;
        };
        let is_asked = limit > 0 && after.is_none_or(|after| after < only);
        let found = if is_asked { self.store.find_tenant(only).await? } else { None };
        Ok(found.map(|info| TenantInfo::clone(&info)).into_iter().collect())
    }
}

impl Engine {
    /// Serves the tenant of this name alone from now on, and makes it if it is not there, with the
    /// plan of new tenants. How many others are there, which nobody reaches. Called once, at start,
    /// before any listener opens.
    ///
    /// # Errors
    /// Those of [`Operator::create_tenant`](crate::Operator::create_tenant).
    pub async fn serve_only(&self, name: TenantName) -> Result<u64> {
        let only = self.0.single.get_or_init(|| name.clone());
        if *only != name {
            return Err(Error::internal("another tenant is the only one already"));
        }
        let operator = self.operator(&self.0.authority.local_operator())?;
        match operator.create_tenant(&TenantSpec::new(name.clone())).await {
            Ok(_) => {}
            // Or another node was first.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let found = self.0.store.find_tenant(&name).await?;
                if found.is_some_and(|info| info.erase_at.is_some()) {
                    tracing::warn!(tenant = %name, "the only tenant is deleted: restore it");
                }
            }
            Err(error) => return Err(error),
        }
        Ok(self.0.store.count_tenants(&operator.scope).await?.saturating_sub(1))
    }

    /// The tenant that is served alone, if one is.
    pub fn single_tenant(&self) -> Option<&TenantName> {
        self.0.single.get()
    }
}
