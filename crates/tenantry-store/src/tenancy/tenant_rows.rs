//! Tenants: made, listed, changed, erased.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    catalog, complete,
    disk::{self, DiskAudit, Touched},
    done,
    keys::{self, Decode as _, Prefix, Tail},
    number,
    tenants::{Commit, OpenTenant},
};
use crate::{AuditEntry, AuditEvent, TenantChange, TenantInfo};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Admin, OperatorScope, Scope, SystemScope, TenantId};
use tenantry_types::{
    DatabaseName, Error, ErrorKind, Isolation, Resource, Result, TenantName, TenantSpec,
    TenantState,
};

/// Names of tenants read at once.
const LISTED_AT_ONCE: usize = 256;
const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn find_tenant(&self, name: &TenantName) -> Result<Option<Arc<TenantInfo>>> {
        Ok(self.find(name).await?.map(|tenant| tenant.info()))
    }

    pub(crate) async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Arc<TenantInfo>>> {
        let found = self.open_tenant(id).await?.filter(|tenant| tenant.check_alive().is_ok());
        Ok(found.map(|tenant| tenant.info()))
    }

    pub(crate) async fn create_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        spec: &TenantSpec,
    ) -> Result<TenantInfo> {
        self.operator_stands(scope).await?;
        let (inner, spec, scope) = (Arc::clone(self), spec.clone(), scope.clone());
        complete(async move { inner.make_tenant(&spec, &scope).await }).await
    }

    pub(crate) async fn tenants(
        &self,
        scope: &OperatorScope,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Vec<TenantInfo>> {
        self.operator_stands(scope).await?;
        let mut from = after.map(|name| {
            let mut key =
                keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
            key.push(0);
            key
        });
        let mut found = Vec::new();
        let all = keys::TenantName::all(INSTALLATION);
        while found.len() < limit {
            // The root is let go before tenants are opened, which takes one for each.
            let start = from.as_ref().unwrap_or(&all);
            let missing = (limit - found.len()).min(LISTED_AT_ONCE);
            let root = self.root().await?;
            let names = root.page(Space::Catalog, &all, start, missing).await?;
            drop(root);
            for (_, value) in &names {
                self.list(TenantId::new(number(value)?), &mut found).await?;
            }
            match names.into_iter().next_back() {
                Some((mut last, _)) => {
                    last.push(0);
                    from = Some(last);
                }
                None => break,
            }
        }
        Ok(found)
    }

    async fn list(&self, id: TenantId, found: &mut Vec<TenantInfo>) -> Result<()> {
        match self.open_tenant(id).await {
            Ok(tenant) => found.extend(tenant.map(|tenant| (*tenant.info()).clone())),
            // One damaged tenant must not hide the others.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(?error, tenant = %id, "list tenants; this one is left out");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    pub(crate) async fn change_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        change: &TenantChange,
    ) -> Result<TenantInfo> {
        self.operator_stands(scope).await?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        let (name, change) = (name.clone(), change.clone());
        complete(async move { inner.change_row(&name, change, &scope).await }).await
    }

    pub(crate) async fn delete_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<()> {
        self.operator_stands(scope).await?;
        let (inner, name, scope) = (Arc::clone(self), name.clone(), scope.clone());
        complete(async move { inner.remove_tenant(&name, &scope).await }).await
    }

    pub(crate) async fn operator_audit(
        &self,
        scope: &OperatorScope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        self.operator_stands(scope).await?;
        self.audit_of(&*self.installation().await?, after, limit).await
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
        self.audit_of(&*self.tenant(scope).await?, after, limit).await
    }

    pub(crate) async fn append_audit(
        self: &Arc<Self>,
        _scope: &SystemScope,
        events: Vec<(TenantId, AuditEvent)>,
    ) -> Result<()> {
        let mut by_tenant: BTreeMap<TenantId, Vec<AuditEvent>> = BTreeMap::new();
        for (tenant, event) in events {
            by_tenant.entry(tenant).or_default().push(event);
        }
        let mut running = tokio::task::JoinSet::new();
        for (id, events) in by_tenant {
            let inner = Arc::clone(self);
            running.spawn(async move {
                let Some(tenant) = inner.open_tenant(id).await? else { return Ok(()) };
                let _writing = tenant.writer.lock().await;
                if tenant.check_alive().is_err() {
                    return Ok(());
                }
                let view = inner.change(&[&tenant]).await?;
                let mut commit = inner.begin(&tenant)?;
                for event in events {
                    commit.audit(event);
                }
                inner.commit(&tenant, view, commit).await
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
struct Reserved<B: Backend> {
    inner: Arc<Tenancy<B>>,
    name: TenantName,
}

impl<B: Backend> Drop for Reserved<B> {
    fn drop(&mut self) {
        self.inner.naming.lock().in_flight.remove(&self.name);
    }
}

impl<B: Backend> Tenancy<B> {
    async fn find(&self, name: &TenantName) -> Result<Option<Arc<OpenTenant>>> {
        let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
        let value = self.root().await?.get(Space::Catalog, &key).await?;
        let Some(value) = value else { return Ok(None) };
        let id = TenantId::new(number(&value)?);
        let mut found = self.open_tenant(id).await?;
        if B::IS_SHARED && found.as_ref().is_some_and(|tenant| tenant.info().name != *name) {
            // Another process has renamed it since it was opened.
            self.tenants.forget(id);
            found = self.open_tenant(id).await?;
        }
        Ok(found.filter(|tenant| tenant.check_alive().is_ok()))
    }

    async fn require(&self, name: &TenantName) -> Result<Arc<OpenTenant>> {
        self.find(name).await?.ok_or_else(|| Error::not_found(Resource::Tenant, name.as_str()))
    }

    /// Reserves a name until the guard is dropped. Whether a living tenant has it is to be looked
    /// up afterwards: whoever gave it before has then committed or let go of it.
    fn reserve(self: &Arc<Self>, name: &TenantName) -> Result<Reserved<B>> {
        if !self.naming.lock().in_flight.insert(name.clone()) {
            return Err(taken(name));
        }
        Ok(Reserved { inner: Arc::clone(self), name: name.clone() })
    }

    async fn make_tenant(
        self: &Arc<Self>,
        spec: &TenantSpec,
        scope: &OperatorScope,
    ) -> Result<TenantInfo> {
        let _name = self.reserve(&spec.name)?;
        let view = self.creating().await?;
        require_free(&view, &spec.name).await?;
        let counted = view.get(Space::Catalog, &keys::NextTenant {}.encode(INSTALLATION)).await?;
        let next = counted.map_or(Ok(0), |counted| number(&counted))?;
        self.operator_stands(scope).await?;
        let key = self.new_data_key();
        let (info, durable) = {
            // The id is assigned and the commit queued under one lock, so that the stored count
            // grows in the order of commits and an id is never given twice.
            let mut naming = self.naming.lock();
            let id = TenantId::new(naming.next_tenant.max(next));
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
            let slot = self.wrap(id, &key, &*self.entropy);
            let tenant = OpenTenant::new(info.clone(), key, view.generation());
            let mut commit = Commit::new(&tenant, &*self.entropy, self.now());
            commit.put_tenant(&info);
            put_tenant_name(&mut commit, &spec.name, Some(id));
            let next = keys::NextTenant {}.encode(INSTALLATION);
            commit.put_clear(Space::Catalog, next, (id.get() + 1).to_be_bytes().to_vec());
            if spec.default_database {
                let name = DatabaseName::default_database();
                catalog::put_new_database(&mut commit, &tenant, &name, self.now());
            }
            commit.audit(done(scope.actor(), "tenant.create", spec.name.as_str(), 1));
            let (mut set, _) = commit.finish();
            set.slots.push(slot);
            naming.next_tenant = id.get() + 1;
            (info, self.submit(view, set))
        };
        durable.await?;
        // It is opened from disk when it is used. If it were kept open here, it could have been
        // deleted meanwhile, and would live on in memory.
        Ok(info)
    }

    async fn change_row(
        self: &Arc<Self>,
        name: &TenantName,
        change: TenantChange,
        scope: &OperatorScope,
    ) -> Result<TenantInfo> {
        let tenant = self.require(name).await?;
        let _new_name = match &change.name {
            Some(new) if new != name => Some(self.reserve(new)?),
            Some(_) | None => None,
        };
        let _writing = tenant.writer.lock().await;
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&[&tenant, &installation]).await?;
        // Whoever revokes an operator's key holds the same lock.
        self.operator_stands(scope).await?;
        let mut commit = self.begin(&tenant)?;
        let mut info = (*tenant.info()).clone();
        if info.name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        let mut told = Vec::new();
        if let Some(new) = change.name.filter(|new| *new != info.name) {
            require_free(&view, &new).await?;
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
        self.commit_two(view, (&tenant, commit), (&installation, log)).await?;
        tenant.set_info(info.clone());
        self.revoked();
        Ok(info)
    }

    async fn remove_tenant(
        self: &Arc<Self>,
        name: &TenantName,
        scope: &OperatorScope,
    ) -> Result<()> {
        let tenant = match self.require(name).await {
            Err(why) if why.kind() == ErrorKind::Corrupt => {
                return self.delete_damaged(name, scope, &why).await;
            }
            found => found?,
        };
        let _writing = tenant.writer.lock().await;
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&[&tenant, &installation]).await?;
        self.operator_stands(scope).await?;
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
        self.commit_two(view, (&tenant, commit), (&installation, log)).await?;
        tenant.mark_gone();
        self.forget_tenant(tenant.id()).await
    }

    /// Deletes a tenant whose slot or row cannot be read, so without writing to its own log.
    async fn delete_damaged(
        self: &Arc<Self>,
        name: &TenantName,
        scope: &OperatorScope,
        why: &Error,
    ) -> Result<()> {
        tracing::warn!(?why, tenant = %name, "delete a tenant that cannot be opened");
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&[&installation]).await?;
        self.operator_stands(scope).await?;
        let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
        let Some(value) = view.get(Space::Catalog, &key).await? else {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        };
        let id = TenantId::new(number(&value)?);
        let mut log = self.begin(&installation)?;
        log.remove(Space::Catalog, key);
        log.remove(Space::Catalog, keys::Tenant {}.encode(Prefix::of(id)));
        let purge = keys::Purge { tenant: id.get(), collection: 0 };
        log.put_clear(Space::Catalog, purge.encode(INSTALLATION), Vec::new());
        log.audit(done(scope.actor(), "tenant.delete", name.as_str(), 1));
        self.commit(&installation, view, log).await?;
        self.forget_tenant(id).await
    }

    /// Forgets a tenant whose deletion is committed, and destroys its key. Its name is free and
    /// it is gone already; a crash in here is made good by the purger at the next start.
    async fn forget_tenant(&self, id: TenantId) -> Result<()> {
        self.tenants.forget(id);
        self.tenant_gone(id).await
    }

    /// Commits changes of a tenant and of the installation as one. Both writer locks are held,
    /// the installation's taken last.
    async fn commit_two(
        &self,
        view: B::View,
        (tenant, commit): (&OpenTenant, Commit<'_>),
        (installation, log): (&OpenTenant, Commit<'_>),
    ) -> Result<()> {
        let (mut set, head) = commit.finish();
        let (more, log_head) = log.finish();
        // The older one, so that the set is refused if either was opened before a reopening.
        set.generation = set.generation.min(more.generation);
        set.operations.extend(more.operations);
        self.submit(view, set).await?;
        tenant.set_head(head);
        installation.set_head(log_head);
        Ok(())
    }

    async fn audit_of(
        &self,
        tenant: &OpenTenant,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        let from = keys::Audit { sequence: after.saturating_add(1) }.encode(tenant.prefix());
        let all = keys::Audit::all(tenant.prefix());
        let mut entries = Vec::new();
        let view = self.view(tenant).await?;
        let mut rows = Scan::new(&view, Space::Data, all, Some(from));
        while entries.len() < limit {
            let Some((key, value)) = rows.next().await? else { break };
            let sequence = keys::Audit::decode(tenant.prefix(), &key)
                .ok_or_else(|| Error::corrupt("a key of the audit log cannot be read"))?
                .sequence;
            let row: DiskAudit = disk::decode(&tenant.key().open(&key, &value)?, "the audit log")?;
            entries.push(row.into_entry(sequence)?);
        }
        Ok(entries)
    }
}

fn taken(name: &TenantName) -> Error {
    Error::already_exists(Resource::Tenant, name.as_str())
}

/// Fails if a living tenant has the name.
async fn require_free(view: &impl View, name: &TenantName) -> Result<()> {
    let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
    match view.get(Space::Catalog, &key).await? {
        None => Ok(()),
        Some(_) => Err(taken(name)),
    }
}

fn put_tenant_name(commit: &mut Commit<'_>, name: &TenantName, id: Option<TenantId>) {
    let key = keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION);
    match id {
        Some(id) => commit.put_clear(Space::Catalog, key, id.get().to_be_bytes().to_vec()),
        None => commit.remove(Space::Catalog, key),
    }
}
