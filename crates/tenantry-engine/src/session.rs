//! A scope opened on the engine.

use crate::{Collection, Database, denials, engine::Inner, validate};
use std::sync::Arc;
use tenantry_auth::{Admin, Allowed, KeyId, KeyRow, Level, Scope};
use tenantry_store::{AuditEntry, NewKey, TenantInfo, Wanted};
use tenantry_types::{Allowance, CollectionName, DatabaseName, Error, Page, Resource, Result};

/// A principal's access to one tenant at level `L`; everything of the tenant is reached from here.
#[derive(Debug)]
pub struct Session<L: Level> {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scope: Scope<L>,
    tenant: Arc<TenantInfo>,
}

impl<L: Level> Session<L> {
    pub(crate) fn new(inner: Arc<Inner>, scope: Scope<L>, tenant: Arc<TenantInfo>) -> Self {
        Self { inner, scope, tenant }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantInfo {
        &self.tenant
    }

    /// What the tenant has now of its plan.
    pub async fn allowance(&self) -> Result<Allowance> {
        let found = self.inner.store.allowance(self.scope.tenant()).await?;
        found.ok_or_else(|| Error::not_found(Resource::Tenant, self.tenant.name.as_str()))
    }

    /// Makes sure that what is looked up next is as it is stored now, whichever node has changed
    /// it: for whoever answers with it. Operations on records look for themselves.
    pub async fn confirm(&self) -> Result<()> {
        self.inner.store.confirm(&self.scope).await
    }

    /// Databases that the caller may see, in the order of their names.
    pub async fn databases(&self, page: Page) -> Result<Vec<Database<L>>> {
        let found = self.inner.store.databases(&self.scope, page).await?;
        Ok(found.into_iter().map(|d| Database::new(&self.inner, &self.scope, d)).collect())
    }

    /// The database with this name.
    pub async fn database(&self, name: &DatabaseName) -> Result<Database<L>> {
        let found = self.inner.store.database(&self.scope, name).await?;
        Ok(Database::new(&self.inner, &self.scope, found))
    }

    /// The collection, for work with its records. What it says of itself may be old, the records
    /// are not.
    pub async fn records_of(
        &self,
        database: &DatabaseName,
        wanted: Wanted<'_>,
    ) -> Result<Collection<L>> {
        let found = self.inner.store.records_of(&self.scope, database, wanted).await?;
        Ok(Collection::new(&self.inner, &self.scope, found))
    }
}

impl Session<Admin> {
    /// Makes a database.
    pub async fn create_database(&self, name: &DatabaseName) -> Result<Database<Admin>> {
        let made = self.inner.store.create_database(&self.scope, name).await;
        let made = self.inner.watched(&self.scope, "database.create", name.as_str(), made)?;
        Ok(Database::new(&self.inner, &self.scope, made))
    }

    /// Removes a database with all it holds.
    pub async fn delete_database(&self, name: &DatabaseName) -> Result<()> {
        let removed = self.inner.store.delete_database(&self.scope, name).await;
        self.inner.watched(&self.scope, "database.delete", name.as_str(), removed)
    }

    /// Turns the names that a key is to be limited to into objects. The objects must exist: a key
    /// is bound to them, not to their names, so that a later namesake is out of its reach.
    pub async fn resolve(
        &self,
        databases: &[DatabaseName],
        collections: &[(DatabaseName, CollectionName)],
    ) -> Result<Option<Vec<Allowed>>> {
        if databases.is_empty() && collections.is_empty() {
            return Ok(None);
        }
        self.confirm().await?;
        let mut allowed = Vec::with_capacity(databases.len() + collections.len());
        for name in databases {
            allowed.push(Allowed::Database(self.database(name).await?.info().number));
        }
        for (database, name) in collections {
            let found = self.database(database).await?.collection(name).await?;
            allowed.push(Allowed::Collection(found.info().database, found.info().number));
        }
        Ok(Some(allowed))
    }

    /// Makes a key of this tenant; the text is shown once.
    pub async fn create_key(&self, key: NewKey) -> Result<(KeyRow, String)> {
        validate::new_key(&key, self.inner.clock.now())?;
        let label = key.label.clone();
        let made = self.inner.store.create_key(&self.scope, key).await;
        let (row, key) = self.inner.watched(&self.scope, "key.create", &label, made)?;
        Ok((row, key.reveal()))
    }

    /// The tenant's keys.
    pub async fn keys(&self) -> Result<Vec<KeyRow>> {
        let keys = self.inner.store.keys(&self.scope).await;
        self.inner.watched(&self.scope, "key.list", "", keys)
    }

    /// Revokes a key of this tenant, at once.
    pub async fn revoke_key(&self, id: KeyId) -> Result<()> {
        let revoked = self.inner.store.revoke_key(&self.scope, id).await;
        self.inner.watched(&self.scope, "key.revoke", &id.to_string(), revoked)
    }

    /// The tenant's audit log, from the first entry after `after`. Refusals that were noted
    /// before this call are in it.
    pub async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        validate::audit_page(limit)?;
        denials::flush_before_reading(&self.inner, self.scope.tenant()).await;
        let entries = self.inner.store.audit(&self.scope, after, limit).await;
        self.inner.watched(&self.scope, "audit.read", "", entries)
    }
}
