//! The operations of a store.

use crate::{
    Answer, AuditEntry, AuditNote, CollectionRef, DatabaseRef, EmbeddedConfig, Health, NewKey,
    ObjectNames, PostgresConfig, StoreTotals, TenantInfo, Wanted,
    pool::Pool,
    sites::{Handles, Records},
    tenancy::{complete, moving::Patience},
};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{
    Admin, Allowed, ApiKey, CanWrite, KeyDirectory, KeyId, KeyRow, Level, MemberRights,
    OperatorScope, Scope, SystemScope, TenantId, UserName, token::ClaimedTenant,
};
use tenantry_types::{
    Allowance, CollectionChange, CollectionId, CollectionName, CollectionSpec,
    CollectionStatistics, DatabaseName, Found, GetRequest, Page, PlanName, QueryRequest, Record,
    RecordWrite, Result, Selector, TenantName, TenantPlan, Timestamp, WriteMode, WriteOutcome,
};

/// A store: its root is in files or in a database of PostgreSQL, and tenants are there or in other
/// databases.
///
/// An operation that names a thing outside the scope's tenant, or outside what the scope's key is
/// limited to, fails as if the thing did not exist.
#[derive(Debug)]
pub struct Store(pub(crate) Handles);

/// An operation, again if the tenant was moved at this moment.
macro_rules! again {
    ($this:ident, $what:expr) => {{
        let patience = Patience::new();
        loop {
            let outcome = $what;
            if let Err(outcome) = patience.wait(outcome).await {
                break outcome;
            }
            $this.0.suspect();
        }
    }};
}

mod members;
mod tenants;
mod usage;
mod webhooks;

/// An operation on records, where the tenant of the scope lives.
macro_rules! on_records {
    ($this:ident, $scope:ident, $records:ident => $what:expr) => {
        again!(
            $this,
            match $this.0.records($scope.tenant()).await {
                Ok(Records::Files($records)) => $what,
                Ok(Records::Databases($records)) => $what,
                Err(why) => Err(why),
            }
        )
    };
}

impl Store {
    /// Opens or creates a store in files. Its locations are looked at when they are used first, or
    /// by [`Store::open_locations`].
    pub fn open_embedded(config: EmbeddedConfig) -> Result<Self> {
        Ok(Self(Handles::in_files(config)?))
    }

    /// Opens the installation in a database of PostgreSQL, or makes it there, and looks at its
    /// locations.
    pub async fn open_postgres(config: PostgresConfig) -> Result<Self> {
        Ok(Self(Handles::in_a_database(config).await?))
    }

    /// Says that a data folder is the installation itself, and no copy of it, of which no other is
    /// used any more: its next start takes all locations anew, and whoever works with the folder
    /// that this one comes from is refused there from then on.
    pub async fn adopt_embedded(config: EmbeddedConfig) -> Result<()> {
        let handles = Handles::in_files(config)?;
        let adopted = match &handles.files {
            Some(files) => files.adopt().await,
            None => Ok(()),
        };
        handles.close();
        adopted
    }

    /// Looks at every location, so that one that is refused shows at the start. One that is out of
    /// reach costs its own tenants only.
    pub async fn open_locations(&self) -> Result<()> {
        self.0.databases.open_locations().await
    }

    /// Whether it can serve.
    pub fn health(&self) -> Health {
        self.0.health()
    }

    /// Counters since it was opened.
    pub fn totals(&self) -> StoreTotals {
        self.0.totals()
    }

    /// Where tenants' work waits for its turn.
    pub fn pool(&self) -> &Pool {
        self.0.pool()
    }

    /// Finishes what was accepted and closes. Later operations fail.
    pub fn close(&self) {
        self.0.close();
    }

    /// The tenant with this name, if one lives. Needs no scope: it is how a scope begins.
    pub async fn find_tenant(&self, name: &TenantName) -> Result<Option<Arc<TenantInfo>>> {
        again!(self, self.0.tenancy.find_tenant(name).await)
    }

    /// The tenant with this identity, if it lives.
    pub async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Arc<TenantInfo>>> {
        again!(self, self.0.tenancy.tenant_by_id(id).await)
    }

    /// What the tenant with this identity has now, if it lives.
    pub async fn allowance(&self, id: TenantId) -> Result<Option<Allowance>> {
        again!(self, self.0.tenancy.allowance_by_id(id).await)
    }

    /// The plan of the tenant with this identity, if it lives and has one.
    pub async fn plan_of(&self, id: TenantId) -> Result<Option<PlanName>> {
        Ok(self.tenant_by_id(id).await?.and_then(|tenant| tenant.plan.clone()))
    }

    /// Plans in the order of their names.
    pub async fn plans(&self, scope: &OperatorScope) -> Result<Vec<TenantPlan>> {
        self.0.tenancy.plan_list(scope).await
    }

    /// The plan with this name.
    pub async fn plan(&self, scope: &OperatorScope, name: &PlanName) -> Result<TenantPlan> {
        self.0.tenancy.plan(scope, name).await
    }

    /// Makes a plan, or has it say something else from now on, for all tenants that have it. From the
    /// first one on, programs that know nothing of plans do not open the store.
    pub async fn put_plan(&self, scope: &OperatorScope, plan: &TenantPlan) -> Result<()> {
        self.0.tenancy.put_plan(scope, plan).await
    }

    /// Deletes a plan; [`ErrorKind::Conflict`](tenantry_types::ErrorKind::Conflict) while a tenant
    /// has it. A tenant gets a plan, and exceptions, by [`Store::change_tenant`].
    pub async fn delete_plan(&self, scope: &OperatorScope, name: &PlanName) -> Result<()> {
        self.0.tenancy.delete_plan(scope, name).await
    }

    /// Makes an operator key.
    pub async fn create_operator_key(
        &self,
        scope: &OperatorScope,
        act_as: bool,
        label: &str,
        expires_at: Option<Timestamp>,
    ) -> Result<(KeyRow, ApiKey)> {
        again!(self, self.0.tenancy.create_operator_key(scope, act_as, label, expires_at).await)
    }

    /// The operator's keys.
    pub async fn operator_keys(&self, scope: &OperatorScope) -> Result<Vec<KeyRow>> {
        again!(self, self.0.tenancy.operator_keys(scope).await)
    }

    /// Revokes an operator key.
    pub async fn revoke_operator_key(&self, scope: &OperatorScope, id: KeyId) -> Result<()> {
        again!(self, self.0.tenancy.revoke_operator_key(scope, id).await)
    }

    /// The operator's audit log, from the first entry after `after`.
    pub async fn operator_audit(
        &self,
        scope: &OperatorScope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        again!(self, self.0.tenancy.operator_audit(scope, after, limit).await)
    }

    /// Makes a key of the tenant.
    pub async fn create_key(&self, scope: &Scope<Admin>, key: NewKey) -> Result<(KeyRow, ApiKey)> {
        again!(self, self.0.tenancy.create_key(scope, key.clone()).await)
    }

    /// The tenant's keys in the order of their ids.
    pub async fn keys(&self, scope: &Scope<Admin>) -> Result<Vec<KeyRow>> {
        again!(self, self.0.tenancy.keys(scope).await)
    }

    /// Revokes a key of the tenant; refused from the moment this returns.
    pub async fn revoke_key(&self, scope: &Scope<Admin>, id: KeyId) -> Result<()> {
        again!(self, self.0.tenancy.revoke_key(scope, id).await)
    }

    /// The tenant's audit log, from the first entry after `after`.
    pub async fn audit(
        &self,
        scope: &Scope<Admin>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        again!(self, self.0.tenancy.audit(scope, after, limit).await)
    }

    /// Appends refusals and other events that have no commit of their own to the logs of these
    /// tenants ([`TenantId::INSTALLATION`] is the operator's log). Tenants that are gone are left
    /// out; true if there was none.
    pub async fn append_audit(
        &self,
        scope: &SystemScope,
        notes: Vec<(TenantId, AuditNote)>,
    ) -> Result<bool> {
        self.0.tenancy.append_audit(scope, notes).await
    }

    /// Fails if the operator's right no longer stands, for what is done between a request's beginning
    /// and its end and has no commit that asks.
    pub async fn operator_stands(&self, scope: &OperatorScope) -> Result<()> {
        self.0.tenancy.operator_stands(scope, None).await
    }

    /// Makes sure that what is looked up next of the scope's tenant is as it is stored now. Without
    /// it, databases and collections that another node has made over may be found as they were up
    /// to a second ago; operations on records look for themselves.
    pub async fn confirm<L: Level>(&self, scope: &Scope<L>) -> Result<()> {
        again!(self, self.0.tenancy.confirm(scope).await)
    }

    /// Databases in the order of their names.
    pub async fn databases<L: Level>(
        &self,
        scope: &Scope<L>,
        page: Page,
    ) -> Result<Vec<DatabaseRef>> {
        again!(self, self.0.tenancy.databases(scope, page).await)
    }

    /// What these objects are called now; those that are gone, or hidden from the scope, are left out.
    pub async fn names_of<L: Level>(
        &self,
        scope: &Scope<L>,
        objects: &[Allowed],
    ) -> Result<ObjectNames> {
        again!(self, self.0.tenancy.names_of(scope, objects).await)
    }

    /// The database with this name.
    pub async fn database<L: Level>(
        &self,
        scope: &Scope<L>,
        name: &DatabaseName,
    ) -> Result<DatabaseRef> {
        again!(self, self.0.tenancy.database(scope, name).await)
    }

    /// Makes a database.
    pub async fn create_database(
        &self,
        scope: &Scope<Admin>,
        name: &DatabaseName,
    ) -> Result<DatabaseRef> {
        again!(self, self.0.tenancy.create_database(scope, name).await)
    }

    /// Removes a database with all it holds.
    pub async fn delete_database(&self, scope: &Scope<Admin>, name: &DatabaseName) -> Result<()> {
        again!(self, self.0.tenancy.delete_database(scope, name).await)
    }

    /// Collections in the order of their names.
    pub async fn collections<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        page: Page,
    ) -> Result<Vec<CollectionRef>> {
        again!(self, self.0.tenancy.collections(scope, database, page).await)
    }

    /// The number of collections.
    pub async fn count_collections<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
    ) -> Result<usize> {
        again!(self, self.0.tenancy.count_collections(scope, database).await)
    }

    /// The collection with this name.
    pub async fn collection<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        name: &CollectionName,
    ) -> Result<CollectionRef> {
        again!(self, self.0.tenancy.collection(scope, database, name).await)
    }

    /// The collection with this public id, if it is in this database.
    pub async fn collection_by_id<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        id: CollectionId,
    ) -> Result<CollectionRef> {
        again!(self, self.0.tenancy.collection_by_id(scope, database, id).await)
    }

    /// The collection, for whoever works with its records: each operation on them sees whether the
    /// collection is still there, and under this name. What it says of itself may be older than
    /// what another node has written: see [`Store::look_again`].
    pub async fn records_of<L: Level>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseName,
        wanted: Wanted<'_>,
    ) -> Result<CollectionRef> {
        again!(self, self.0.tenancy.records_of(scope, database, wanted).await)
    }

    /// What was found as it is stored now; none if it cannot be older than that.
    pub async fn look_again<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Option<CollectionRef>> {
        again!(self, self.0.tenancy.look_again(scope, collection).await)
    }

    /// Makes a collection; `true` if it did not exist. With `get_or_create`, an existing one is
    /// returned unchanged.
    pub async fn create_collection<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        database: &DatabaseRef,
        spec: &CollectionSpec,
        get_or_create: bool,
    ) -> Result<(CollectionRef, bool)> {
        again!(self, self.0.tenancy.create_collection(scope, database, spec, get_or_create).await)
    }

    /// Changes a collection.
    pub async fn change_collection<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        change: &CollectionChange,
    ) -> Result<CollectionRef> {
        again!(self, self.0.tenancy.change_collection(scope, collection, change).await)
    }

    /// Removes a collection with all it holds.
    pub async fn delete_collection<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<()> {
        again!(self, self.0.tenancy.delete_collection(scope, collection).await)
    }

    /// Applies a batch of records, whole or not at all; durable when it returns.
    pub async fn write<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        mode: WriteMode,
        records: Vec<RecordWrite>,
    ) -> Result<WriteOutcome> {
        self.write_noting(scope, collection, mode, records, BTreeMap::new()).await
    }

    /// [`Store::write`], and in the same commit attributes that the collection does not have yet.
    /// They are left out, and the records written, if nothing changes, if the key is bound to a
    /// filter, or if the collection would have too many.
    pub async fn write_noting<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        mode: WriteMode,
        records: Vec<RecordWrite>,
        attributes: BTreeMap<String, String>,
    ) -> Result<WriteOutcome> {
        let (this, scope, collection) = (self.0.clone(), scope.to_write(), collection.clone());
        let batch = Some((records, attributes));
        complete(async move {
            let writing = this.write(&scope, &collection, mode, batch);
            this.pool().beside(scope.tenant(), Box::pin(writing)).await
        })
        .await
    }

    /// Deletes the selected records, at most `limit` of them in insertion order; the number
    /// deleted.
    pub async fn delete<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
        limit: Option<usize>,
    ) -> Result<usize> {
        on_records!(self, scope, records => records.delete(scope, collection, select, limit).await)
    }

    /// The number of selected records.
    pub async fn count<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
    ) -> Result<Answer<usize>> {
        on_records!(self, scope, records => records.count(scope, collection, select).await)
    }

    /// The selected records.
    pub async fn get<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        on_records!(self, scope, records => records.get(scope, collection, request).await)
    }

    /// The nearest selected records to each query vector, nearest first, ties in insertion order.
    pub async fn query<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        on_records!(self, scope, records => records.query(scope, collection, request).await)
    }

    /// What the collection holds and takes.
    pub async fn collection_statistics<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Answer<CollectionStatistics>> {
        on_records!(self, scope, records => records.collection_statistics(scope, collection).await)
    }
}

impl KeyDirectory for Store {
    async fn find_key(&self, id: KeyId) -> Result<Option<Arc<KeyRow>>> {
        again!(self, self.0.tenancy.find_key(id).await)
    }

    async fn claimed_tenant(
        &self,
        claimed: &ClaimedTenant,
    ) -> Result<Option<(TenantId, Timestamp)>> {
        let found = match claimed {
            ClaimedTenant::Id(id) => self.tenant_by_id(*id).await?,
            ClaimedTenant::Name(name, _) => self.find_tenant(name).await?,
        };
        let found = found.filter(|info| info.erase_at.is_none());
        Ok(found.map(|info| (info.id, info.named_at)))
    }

    async fn find_member(
        &self,
        tenant: TenantId,
        user: &UserName,
    ) -> Result<Option<Arc<MemberRights>>> {
        again!(self, self.0.tenancy.find_member(tenant, user).await)
    }

    fn revocations(&self) -> u64 {
        self.0.tenancy.revocations()
    }
}
