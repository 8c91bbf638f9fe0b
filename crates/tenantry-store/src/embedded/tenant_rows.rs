//! Tenants: made, listed, changed, erased.

use super::{
    Embedded, Inner, complete,
    db::Space,
    disk::Touched,
    done,
    keys::{self, Decode as _, Prefix, Tail},
    number,
    tenants::{Commit, OpenTenant},
};
use crate::{AuditEntry, AuditEvent, DatabaseInfo, TenantChange, TenantInfo};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Admin, OperatorScope, Scope, SystemScope, TenantId};
use tenantry_types::{
    DatabaseName, Error, ErrorKind, Isolation, Resource, Result, TenantName, TenantSpec,
    TenantState,
};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

impl Embedded {
    pub(crate) async fn find_tenant(&self, name: &TenantName) -> Result<Option<Arc<TenantInfo>>> {
        Ok(self.inner.find(name)?.map(|tenant| tenant.info()))
    }

    pub(crate) async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Arc<TenantInfo>>> {
        let found = self.inner.open_tenant(id)?.filter(|tenant| tenant.check_alive().is_ok());
        Ok(found.map(|tenant| tenant.info()))
    }

    pub(crate) async fn create_tenant(
        &self,
        scope: &OperatorScope,
        spec: &TenantSpec,
    ) -> Result<TenantInfo> {
        self.inner.operator_stands(scope)?;
        let (inner, spec, scope) = (Arc::clone(&self.inner), spec.clone(), scope.clone());
        complete(async move { inner.create_tenant(&spec, &scope).await }).await
    }

    pub(crate) async fn tenants(
        &self,
        scope: &OperatorScope,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Vec<TenantInfo>> {
        self.inner.operator_stands(scope)?;
        let db = self.inner.db()?;
        let from = after.map(|name| {
            let mut key =
                keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
            key.push(0);
            key
        });
        let mut found = Vec::new();
        let all = keys::TenantName::all(INSTALLATION);
        for item in db.scan(Space::Catalog, &all, from.as_deref()) {
            if found.len() >= limit {
                break;
            }
            let (_, value) = item?;
            let id = TenantId::new(number(&value)?);
            match self.inner.open_tenant(id) {
                Ok(Some(tenant)) => found.push((*tenant.info()).clone()),
                Ok(None) => {}
                // One damaged tenant must not hide the others.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(?error, tenant = %id, "list tenants; this one is left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    pub(crate) async fn change_tenant(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        change: &TenantChange,
    ) -> Result<TenantInfo> {
        self.inner.operator_stands(scope)?;
        let (inner, scope) = (Arc::clone(&self.inner), scope.clone());
        let (name, change) = (name.clone(), change.clone());
        complete(async move { inner.change_tenant(&name, change, &scope).await }).await
    }

    pub(crate) async fn delete_tenant(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<()> {
        self.inner.operator_stands(scope)?;
        let (inner, name, scope) = (Arc::clone(&self.inner), name.clone(), scope.clone());
        complete(async move { inner.delete_tenant(&name, &scope).await }).await
    }

    pub(crate) async fn operator_audit(
        &self,
        scope: &OperatorScope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        self.inner.operator_stands(scope)?;
        self.inner.audit_of(&*self.inner.installation()?, after, limit)
    }

    pub(crate) async fn audit(
        &self,
        scope: &Scope<Admin>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        if !scope.restriction().is_none() {
            return Err(Error::denied("a limited key cannot read the audit log"));
        }
        self.inner.audit_of(&*self.inner.tenant(scope)?, after, limit)
    }

    pub(crate) async fn append_audit(
        &self,
        _scope: &SystemScope,
        events: Vec<(TenantId, AuditEvent)>,
    ) -> Result<()> {
        let mut by_tenant: BTreeMap<TenantId, Vec<AuditEvent>> = BTreeMap::new();
        for (tenant, event) in events {
            by_tenant.entry(tenant).or_default().push(event);
        }
        let mut running = tokio::task::JoinSet::new();
        for (id, events) in by_tenant {
            let inner = Arc::clone(&self.inner);
            running.spawn(async move {
                let Some(tenant) = inner.open_tenant(id)? else { return Ok(()) };
                let _writing = tenant.writer.lock().await;
                if tenant.check_alive().is_err() {
                    return Ok(());
                }
                let mut commit = inner.begin(&tenant)?;
                for event in events {
                    commit.audit(event);
                }
                inner.commit(&tenant, commit).await
            });
        }
        let mut outcome = Ok(());
        while let Some(one) = running.join_next().await {
            let one =
                one.unwrap_or_else(|why| Err(Error::internal("append audit").with_source(why)));
            outcome = outcome.and(one);
        }
        outcome
    }
}

/// A name that is being given; free again when dropped.
struct Reserved {
    inner: Arc<Inner>,
    name: TenantName,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.inner.naming.lock().in_flight.remove(&self.name);
    }
}

impl Inner {
    fn find(&self, name: &TenantName) -> Result<Option<Arc<OpenTenant>>> {
        let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
        let Some(value) = self.db()?.get(Space::Catalog, &key)? else { return Ok(None) };
        let found = self.open_tenant(TenantId::new(number(&value)?))?;
        Ok(found.filter(|tenant| tenant.check_alive().is_ok()))
    }

    fn require(&self, name: &TenantName) -> Result<Arc<OpenTenant>> {
        self.find(name)?.ok_or_else(|| Error::not_found(Resource::Tenant, name.as_str()))
    }

    /// Reserves a name that no living tenant has, until the guard is dropped.
    fn reserve(self: &Arc<Self>, name: &TenantName) -> Result<Reserved> {
        let taken = || Error::already_exists(Resource::Tenant, name.as_str());
        if !self.naming.lock().in_flight.insert(name.clone()) {
            return Err(taken());
        }
        let guard = Reserved { inner: Arc::clone(self), name: name.clone() };
        // Looked up only now: whoever gave the name before has committed or let go of it.
        let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
        match self.db()?.get(Space::Catalog, &key)? {
            None => Ok(guard),
            Some(_) => Err(taken()),
        }
    }

    async fn create_tenant(
        self: &Arc<Self>,
        spec: &TenantSpec,
        scope: &OperatorScope,
    ) -> Result<TenantInfo> {
        let _name = self.reserve(&spec.name)?;
        // Nothing is waited for between here and the commit's place in the queue.
        self.operator_stands(scope)?;
        let key = self.new_data_key();
        let generation = self.db()?.generation();
        let (info, durable) = {
            // The id is assigned and the commit queued under one lock, so that the stored count
            // grows in the order of commits and an id is never given twice.
            let mut naming = self.naming.lock();
            let id = TenantId::new(naming.next_tenant);
            let info = TenantInfo {
                id,
                name: spec.name.clone(),
                state: TenantState::Active,
                isolation: Isolation::Shared,
                weight: spec.weight,
                limits: spec.limits,
                settings: spec.settings.clone(),
                created_at: self.now(),
            };
            let slot = self.slots.wrap(id, &key, &*self.entropy);
            let tenant = OpenTenant::new(info.clone(), key, generation);
            let mut commit = Commit::new(&tenant, &*self.entropy, self.now());
            commit.put_tenant(&info);
            put_tenant_name(&mut commit, &spec.name, Some(id));
            let next = keys::NextTenant {}.encode(INSTALLATION);
            commit.put_clear(Space::Catalog, next, (id.get() + 1).to_be_bytes().to_vec());
            if spec.default_database {
                self.put_new_database(&mut commit, &tenant, &DatabaseName::default_database());
            }
            commit.audit(done(scope.actor(), "tenant.create", spec.name.as_str(), 1));
            let (mut set, _) = commit.finish();
            set.slots.push(slot);
            naming.next_tenant += 1;
            (info, self.disk.submit(set))
        };
        durable.await.unwrap_or_else(|_| Err(Error::internal("the commit thread is gone")))?;
        // It is opened from disk when it is used. If it were kept open here, it could have been
        // deleted meanwhile, and would live on in memory.
        Ok(info)
    }

    /// Adds a database to a commit; the head counts it.
    pub(super) fn put_new_database(
        &self,
        commit: &mut Commit<'_>,
        tenant: &OpenTenant,
        name: &DatabaseName,
    ) -> DatabaseInfo {
        commit.head.last_database += 1;
        commit.head.databases += 1;
        let number = commit.head.last_database;
        let info = DatabaseInfo {
            number: tenantry_types::DatabaseNumber(number),
            id: tenantry_types::DatabaseId(super::catalog::public_id(tenant, "database", number)),
            name: name.clone(),
            created_at: self.now(),
        };
        super::catalog::put_database(commit, &info);
        info
    }

    async fn change_tenant(
        self: &Arc<Self>,
        name: &TenantName,
        change: TenantChange,
        scope: &OperatorScope,
    ) -> Result<TenantInfo> {
        let tenant = self.require(name)?;
        let _new_name = match &change.name {
            Some(new) if new != name => Some(self.reserve(new)?),
            Some(_) | None => None,
        };
        let _writing = tenant.writer.lock().await;
        let installation = self.installation()?;
        let _logging = installation.writer.lock().await;
        // Whoever revokes an operator's key holds the same lock.
        self.operator_stands(scope)?;
        let mut commit = self.begin(&tenant)?;
        let mut info = (*tenant.info()).clone();
        if info.name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        let mut told = Vec::new();
        if let Some(new) = change.name.filter(|new| *new != info.name) {
            told.push(("tenant.rename", format!("{name} → {new}")));
            put_tenant_name(&mut commit, &info.name, None);
            put_tenant_name(&mut commit, &new, Some(info.id));
            info.name = new;
        }
        if let Some(state) = change.state.filter(|state| *state != info.state) {
            let action = match state {
                TenantState::Active => "tenant.resume",
                TenantState::Suspended => "tenant.suspend",
                TenantState::Deleted => {
                    return Err(Error::invalid("a tenant is erased by deleting it"));
                }
            };
            told.push((action, name.to_string()));
            info.state = state;
        }
        let before = (info.weight, info.limits, info.settings.clone());
        info.weight = change.weight.unwrap_or(info.weight);
        info.limits = change.limits.unwrap_or(info.limits);
        for (key, value) in change.settings {
            match value {
                Some(value) => info.settings.insert(key, value),
                None => info.settings.remove(&key),
            };
        }
        if before != (info.weight, info.limits, info.settings.clone()) {
            told.push(("tenant.change", name.to_string()));
        }
        if told.is_empty() {
            return Ok(info);
        }
        commit.put_tenant(&info);
        let mut log = self.begin(&installation)?;
        for (action, target) in told {
            commit.audit(done(scope.actor(), action, &target, 1));
            log.audit(done(scope.actor(), action, &target, 1));
        }
        self.commit_two(&tenant, commit, &installation, log).await?;
        tenant.set_info(info.clone());
        self.revoked();
        Ok(info)
    }

    async fn delete_tenant(
        self: &Arc<Self>,
        name: &TenantName,
        scope: &OperatorScope,
    ) -> Result<()> {
        let tenant = match self.require(name) {
            Err(why) if why.kind() == ErrorKind::Corrupt => {
                return self.delete_damaged(name, scope, &why).await;
            }
            found => found?,
        };
        let _writing = tenant.writer.lock().await;
        let installation = self.installation()?;
        let _logging = installation.writer.lock().await;
        self.operator_stands(scope)?;
        let mut commit = self.begin(&tenant)?;
        if tenant.info().name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        put_tenant_name(&mut commit, name, None);
        commit.remove(Space::Catalog, keys::Tenant {}.encode(tenant.prefix()));
        let purge = keys::Purge { tenant: tenant.id().get(), collection: 0 };
        commit.put_clear(Space::Catalog, purge.encode(INSTALLATION), Vec::new());
        commit.touch(Touched::Tenant);
        let mut log = self.begin(&installation)?;
        log.audit(done(scope.actor(), "tenant.delete", name.as_str(), 1));
        self.commit_two(&tenant, commit, &installation, log).await?;
        tenant.mark_gone();
        self.erase(tenant.id()).await
    }

    /// Deletes a tenant whose slot or row cannot be read, so without writing to its own log.
    async fn delete_damaged(
        self: &Arc<Self>,
        name: &TenantName,
        scope: &OperatorScope,
        why: &Error,
    ) -> Result<()> {
        tracing::warn!(?why, tenant = %name, "delete a tenant that cannot be opened");
        let installation = self.installation()?;
        let _logging = installation.writer.lock().await;
        self.operator_stands(scope)?;
        let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
        let Some(value) = self.db()?.get(Space::Catalog, &key)? else {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        };
        let id = TenantId::new(number(&value)?);
        let mut log = self.begin(&installation)?;
        log.remove(Space::Catalog, key);
        log.remove(Space::Catalog, keys::Tenant {}.encode(Prefix::of(id)));
        let purge = keys::Purge { tenant: id.get(), collection: 0 };
        log.put_clear(Space::Catalog, purge.encode(INSTALLATION), Vec::new());
        log.audit(done(scope.actor(), "tenant.delete", name.as_str(), 1));
        self.commit(&installation, log).await?;
        self.erase(id).await
    }

    /// Forgets a tenant whose deletion is committed, and destroys its key. Its name is free and
    /// it is gone already; a crash in here is made good by the purger at the next start.
    async fn erase(self: &Arc<Self>, id: TenantId) -> Result<()> {
        self.tenants.forget(id);
        self.hot.forget_tenant(id);
        self.purge.notify_one();
        let inner = Arc::clone(self);
        super::compute(usize::MAX, move || inner.slots.erase(id)).await?;
        self.forget_saved_tenant(id).await
    }

    /// Commits changes of a tenant and of the installation as one. Both writer locks are held,
    /// the installation's taken last.
    async fn commit_two(
        &self,
        tenant: &OpenTenant,
        commit: Commit<'_>,
        installation: &OpenTenant,
        log: Commit<'_>,
    ) -> Result<()> {
        let (mut set, head) = commit.finish();
        let (more, log_head) = log.finish();
        // The older one, so that the set is refused if either was opened before a reopening.
        set.generation = set.generation.min(more.generation);
        set.operations.extend(more.operations);
        self.disk.commit(set).await?;
        tenant.set_head(head);
        installation.set_head(log_head);
        Ok(())
    }

    fn audit_of(&self, tenant: &OpenTenant, after: u64, limit: usize) -> Result<Vec<AuditEntry>> {
        let from = keys::Audit { sequence: after.saturating_add(1) }.encode(tenant.prefix());
        let all = keys::Audit::all(tenant.prefix());
        let mut entries = Vec::new();
        for item in self.db()?.scan(Space::Data, &all, Some(&from)).take(limit) {
            let (key, value) = item?;
            let sequence = keys::Audit::decode(tenant.prefix(), &key)
                .ok_or_else(|| Error::corrupt("a key of the audit log cannot be read"))?
                .sequence;
            let row: super::disk::DiskAudit =
                super::disk::decode(&tenant.key().open(&key, &value)?, "the audit log")?;
            entries.push(row.into_entry(sequence)?);
        }
        Ok(entries)
    }
}

fn put_tenant_name(commit: &mut Commit<'_>, name: &TenantName, id: Option<TenantId>) {
    let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
    match id {
        Some(id) => commit.put_clear(Space::Catalog, key, id.get().to_be_bytes().to_vec()),
        None => commit.remove(Space::Catalog, key),
    }
}
