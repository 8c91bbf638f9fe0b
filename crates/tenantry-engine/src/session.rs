//! A scope opened on the engine.

use crate::{
    Collection, Database, denials,
    engine::{Inner, OPEN},
    metering, validate,
};
use std::sync::Arc;
use tenantry_auth::{Admin, Allowed, AllowedSet, KeyId, KeyRow, Level, Scope};
use tenantry_store::{AuditEntry, Holding, NewKey, ObjectNames, TenantInfo, UsagePage, Wanted};
use tenantry_types::{
    Allowance, Bill, CollectionName, DatabaseName, Error, ErrorKind, Every, Month, Page, Reported,
    Resource, Result, UsageEvent, Used,
};

/// The action of reporting what was used.
const REPORT: &str = "usage.report";

/// A principal's access to one tenant at level `L`; everything of the tenant is reached from here.
#[derive(Debug)]
pub struct Session<L: Level> {
    pub(crate) inner: Arc<Inner>,
    pub(crate) scope: Scope<L>,
    tenant: Arc<TenantInfo>,
    /// The principal may do more than `L` says.
    pub(crate) is_admin: bool,
}

/// None of what a tenant has while its place does not answer, or cannot be read.
pub(crate) fn unless_out_of_reach<T>(has: Result<T>) -> Result<Option<T>> {
    match has {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(None),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            tracing::error!(?error, "look at what a tenant has");
            Ok(None)
        }
        has => has.map(Some),
    }
}

impl<L: Level> Session<L> {
    pub(crate) fn new(inner: Arc<Inner>, scope: Scope<L>, tenant: Arc<TenantInfo>) -> Self {
        Self { inner, scope, tenant, is_admin: false }
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantInfo {
        &self.tenant
    }

    /// What the tenant has now of its plan; without what a month may cost, which its admins have agreed
    /// with the operator, for whoever is none, and for a key that is limited.
    pub async fn allowance(&self) -> Result<Allowance> {
        let found = self.inner.store.allowance(self.scope.tenant()).await?;
        let missing = || Error::not_found(Resource::Tenant, self.tenant.name.as_str());
        let mut has = found.ok_or_else(missing)?;
        if !self.is_admin || !self.scope.restriction().is_none() {
            has.quotas.cost = None;
        }
        Ok(has)
    }

    /// What the tenant has, without how many keys and members for whoever is none of its admins; none
    /// for a key that is limited, which may not know how much others have, and while its place does
    /// not answer or cannot be read.
    pub async fn holding(&self) -> Result<Option<Holding>> {
        if !self.scope.restriction().is_none() {
            return Ok(None);
        }
        unless_out_of_reach(self.inner.store.holding(&self.scope, self.is_admin).await)
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
        let found = self.inner.store.records_of(&self.scope, database, wanted).await;
        let asked = || match wanted {
            Wanted::Name(name) => name.to_string(),
            Wanted::Id(id) => id.to_string(),
        };
        let target = if found.is_err() { asked() } else { String::new() };
        let found = self.inner.watched(&self.scope, OPEN, &target, found)?;
        Ok(Collection::new(&self.inner, &self.scope, found))
    }
}

impl Session<Admin> {
    /// Makes a database.
    pub async fn create_database(&self, name: &DatabaseName) -> Result<Database<Admin>> {
        let changing = self.inner.changing(&self.scope, Vec::new()).await?;
        let made = self.inner.store.create_database(&self.scope, name).await;
        changing.of(&made);
        let made = self.inner.watched(&self.scope, "database.create", name.as_str(), made)?;
        Ok(Database::new(&self.inner, &self.scope, made))
    }

    /// Removes a database with all it holds.
    pub async fn delete_database(&self, name: &DatabaseName) -> Result<()> {
        let changing = self.inner.changing(&self.scope, Vec::new()).await?;
        let removed = self.inner.store.delete_database(&self.scope, name).await;
        changing.of(&removed);
        self.inner.watched(&self.scope, "database.delete", name.as_str(), removed)
    }

    /// Turns the names that a key is to be limited to into objects. The objects must exist: a key
    /// is bound to them, not to their names, so that a later namesake is out of its reach.
    pub async fn resolve(
        &self,
        databases: &[DatabaseName],
        collections: &[(DatabaseName, CollectionName)],
    ) -> Result<Option<AllowedSet>> {
        if databases.is_empty() && collections.is_empty() {
            return Ok(None);
        }
        self.confirm().await?;
        let mut allowed = Vec::with_capacity(databases.len() + collections.len());
        for name in databases {
            allowed.push(self.object(name, None).await?);
        }
        for (database, name) in collections {
            allowed.push(self.object(database, Some(name)).await?);
        }
        Ok(Some(allowed.into()))
    }

    /// The database, or the collection in it.
    pub(crate) async fn object(
        &self,
        database: &DatabaseName,
        collection: Option<&CollectionName>,
    ) -> Result<Allowed> {
        let database = self.database(database).await?;
        let Some(name) = collection else {
            return Ok(Allowed::Database(database.info().number));
        };
        let found = database.collection(name).await?;
        Ok(Allowed::Collection(found.info().database, found.info().number))
    }

    /// What these objects are called now; those that are gone are left out. Keys and groups know
    /// numbers only.
    pub async fn names_of(&self, objects: &[Allowed]) -> Result<ObjectNames> {
        if objects.is_empty() {
            return Ok(ObjectNames::new());
        }
        self.inner.store.names_of(&self.scope, objects).await
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

    /// What the tenant has used, the earliest first. What this node counted before this call is in
    /// it, and what others did up to a second ago.
    pub async fn usage(&self, page: UsagePage) -> Result<Vec<Used>> {
        // Whoever may not read it causes no commit.
        if self.scope.restriction().is_none() {
            metering::flush_before_reading(&self.inner).await;
        }
        let used = self.inner.store.usage(&self.scope, page).await;
        self.inner.watched(&self.scope, "usage.read", "", used)
    }

    /// Counts what an application has counted itself, each event once under its id, all of them or
    /// none; it costs nothing. The log says how often somebody did so in a minute. With `enforce`
    /// nothing is counted that would pass a quota of the day.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if an id was counted as something else, [`ErrorKind::LimitExceeded`] if
    /// the day has no room, with the seconds until the next one if that has. After
    /// [`ErrorKind::Unavailable`] the same is asked again.
    pub async fn report_usage(&self, events: &[UsageEvent], enforce: bool) -> Result<Reported> {
        validate::events(events.len())?;
        let reported = self.inner.store.report_usage(&self.scope, events, enforce).await;
        if let Ok(reported) = &reported {
            let log = (self.scope.tenant(), self.scope.author());
            self.inner.reads.reported(log, REPORT, &reported.amounts);
        }
        self.inner.watched(&self.scope, REPORT, "", reported)
    }

    /// What a month costs, by the plan that the tenant has now.
    pub async fn bill(&self, month: Month) -> Result<Bill> {
        let page = UsagePage { every: Every::Month, from: month.0, limit: 1 };
        let used = self.usage(page).await?;
        let used = used.first().filter(|one| one.at == month.0).map(|one| one.amounts);
        let tariff = self.inner.store.tariff(&self.scope, month).await?;
        Ok(Bill::of(used.unwrap_or_default(), &tariff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_known_and_what_is_refused_is() {
        let has = |kind| unless_out_of_reach::<u8>(Err(Error::new(kind, "why")));
        for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt] {
            assert_eq!(has(kind).unwrap(), None);
        }
        for kind in [ErrorKind::Denied, ErrorKind::NotFound] {
            assert_eq!(has(kind).unwrap_err().kind(), kind);
        }
        assert_eq!(unless_out_of_reach(Ok(1)).unwrap(), Some(1));
    }
}
