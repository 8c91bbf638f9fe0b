//! Tenants: made, listed, changed, erased.

use super::{
    Backend, Space, Tenancy, View,
    about::About,
    arrival,
    backend::Scan,
    commit::Commit,
    complete,
    disk::{self, DiskAudit, Touched},
    done,
    grace::due_key,
    keys::{self, Decode as _, Prefix, Tail},
    members,
    moving::Patience,
    number,
    place::Fresh,
    plans,
    tenants::OpenTenant,
    webhooks::thresholds_key,
};
use crate::{AuditEntry, AuditNote, TenantChange, TenantInfo};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Admin, Author, OperatorScope, Scope, SystemScope, TenantId};
use tenantry_types::{
    Error, ErrorKind, EventKind, Resource, Result, TenantName, TenantSpec, TenantState, Timestamp,
};

/// Names of tenants read at once.
const LISTED_AT_ONCE: usize = 256;
const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

impl<B: Backend> Tenancy<B> {
    pub(crate) async fn find_tenant(&self, name: &TenantName) -> Result<Option<Arc<TenantInfo>>> {
        Ok(self.find(name).await?.map(|tenant| tenant.info()))
    }

    pub(crate) async fn tenant_by_id(&self, id: TenantId) -> Result<Option<Arc<TenantInfo>>> {
        let found = self.open_tenant(id).await?.filter(|tenant| !tenant.is_gone());
        Ok(found.map(|tenant| tenant.info()))
    }

    pub(crate) async fn create_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        spec: &TenantSpec,
    ) -> Result<TenantInfo> {
        self.operator_stands(scope, None).await?;
        let (inner, spec, scope) = (Arc::clone(self), spec.clone(), scope.clone());
        complete(async move { Ok(inner.make_tenant(&spec, TenantState::Active, &scope).await?.0) })
            .await
    }

    pub(crate) async fn tenants(
        &self,
        scope: &OperatorScope,
        after: Option<&TenantName>,
        limit: usize,
    ) -> Result<Vec<TenantInfo>> {
        self.operator_stands(scope, None).await?;
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
            let root = self.root(None).await?;
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
        self.operator_stands(scope, None).await?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        let (name, change) = (name.clone(), change.clone());
        complete(async move { inner.change_row(&name, change, &scope).await }).await
    }

    pub(crate) async fn delete_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<()> {
        self.operator_stands(scope, None).await?;
        let (inner, name, scope) = (Arc::clone(self), name.clone(), scope.clone());
        complete(async move {
            inner.collect_last(&name).await;
            inner.remove_tenant(&name, &scope).await
        })
        .await
    }

    pub(crate) async fn operator_audit(
        &self,
        scope: &OperatorScope,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        self.operator_stands(scope, None).await?;
        self.audit_of(&*self.installation().await?, after, limit).await
    }

    pub(crate) async fn audit(
        &self,
        scope: &Scope<Admin>,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        if !scope.restriction().is_none() {
            return Err(Error::denied("a limited key or token cannot read the audit log"));
        }
        self.audit_of(&*self.known(scope).await?, after, limit).await
    }

    /// True if everything was written: what is of a tenant that is gone is left out.
    pub(crate) async fn append_audit(
        self: &Arc<Self>,
        _scope: &SystemScope,
        notes: Vec<(TenantId, AuditNote)>,
    ) -> Result<bool> {
        let mut by_tenant: BTreeMap<TenantId, Vec<AuditNote>> = BTreeMap::new();
        for (tenant, note) in notes {
            by_tenant.entry(tenant).or_default().push(note);
        }
        let mut running = tokio::task::JoinSet::new();
        let mut outcome = Ok(true);
        for (id, notes) in by_tenant {
            // Each may need a database or a connection that others wait for.
            if running.len() >= LOGS_AT_ONCE {
                outcome = both(outcome, joined(running.join_next().await));
            }
            let inner = Arc::clone(self);
            running.spawn(async move {
                let patience = Patience::new();
                loop {
                    let outcome = inner.append_to(id, &notes).await;
                    if let Err(outcome) = patience.wait(outcome).await {
                        return outcome;
                    }
                }
            });
        }
        while !running.is_empty() {
            outcome = both(outcome, joined(running.join_next().await));
        }
        outcome
    }

    async fn append_to(&self, id: TenantId, notes: &[AuditNote]) -> Result<bool> {
        let Some(tenant) = self.open_tenant(id).await? else { return Ok(false) };
        let writing = match self.at_home(&tenant).await {
            Ok(()) => self.writer(&tenant).await,
            Err(error) => Err(error),
        };
        let (_writing, view) = match writing {
            Ok(writing) => writing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut commit = self.begin(&tenant)?;
        for note in notes {
            commit.audit(note.clone());
        }
        self.commit(&tenant, view, commit).await?;
        Ok(true)
    }
}

/// Which tenant is meant by whoever deletes one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// The one with this name.
    Called(&'a TenantName),
    /// One from whose place nothing was ever answered.
    Unmade,
    /// One whose deletion cannot be taken back any more at this time.
    Due(Timestamp),
    /// One that is being filled, of which this is the row.
    Arriving(&'a [u8]),
}

/// Who deletes a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'a> {
    /// As logs show it.
    pub(super) author: Author<'a>,
    /// The right that must still stand; none for the store itself.
    scope: Option<&'a OperatorScope>,
}

impl<'a> By<'a> {
    fn operator(scope: &'a OperatorScope) -> Self {
        Self { author: scope.author(), scope: Some(scope) }
    }

    /// The store itself.
    pub(super) fn store() -> Self {
        Self { author: Author::work("store"), scope: None }
    }
}

/// Logs that are appended to at once.
const LOGS_AT_ONCE: usize = 256;

fn joined(one: Option<std::result::Result<Result<bool>, tokio::task::JoinError>>) -> Result<bool> {
    match one {
        Some(Ok(outcome)) => outcome,
        Some(Err(why)) => Err(Error::internal("append audit").with_source(why)),
        None => Ok(true),
    }
}

fn both(one: Result<bool>, other: Result<bool>) -> Result<bool> {
    let (one, other) = (one?, other?);
    Ok(one && other)
}

/// A name that is being given; free again when dropped.
pub(super) struct Reserved<B: Backend> {
    inner: Arc<Tenancy<B>>,
    name: TenantName,
}

impl<B: Backend> Drop for Reserved<B> {
    fn drop(&mut self) {
        self.inner.naming.lock().in_flight.remove(&self.name);
    }
}

impl<B: Backend> Tenancy<B> {
    pub(super) async fn find(&self, name: &TenantName) -> Result<Option<Arc<OpenTenant>>> {
        let key = name_key(name);
        let value = self.root(None).await?.get(Space::Catalog, &key).await?;
        let Some(value) = value else { return Ok(None) };
        let id = TenantId::new(number(&value)?);
        let mut found = self.open_tenant(id).await?;
        if self.is_shared() && found.as_ref().is_some_and(|tenant| tenant.info().name != *name) {
            // Another process has renamed it since it was opened.
            self.tenants.forget(id);
            found = self.open_tenant(id).await?;
        }
        Ok(found.filter(|tenant| !tenant.is_gone()))
    }

    pub(super) async fn require(&self, name: &TenantName) -> Result<Arc<OpenTenant>> {
        self.find(name).await?.ok_or_else(|| Error::not_found(Resource::Tenant, name.as_str()))
    }

    /// Reserves a name until the guard is dropped. Whether a living tenant has it is to be looked
    /// up afterwards: whoever gave it before has then committed or let go of it.
    pub(super) fn reserve(self: &Arc<Self>, name: &TenantName) -> Result<Reserved<B>> {
        if !self.naming.lock().in_flight.insert(name.clone()) {
            return Err(taken(name));
        }
        Ok(Reserved { inner: Arc::clone(self), name: name.clone() })
    }

    pub(super) async fn remove_tenant(
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
        self.remove_opened(&tenant, Which::Called(name), By::operator(scope)).await.map(drop)
    }

    /// Deletes a new tenant whose place could not be made, if nobody has made it meanwhile; true
    /// if it did. Whoever has its name now is not looked for.
    pub(super) async fn take_back(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        scope: &OperatorScope,
    ) -> Result<bool> {
        match self.remove_opened(tenant, Which::Unmade, By::operator(scope)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            outcome => outcome,
        }
    }

    /// Deletes the tenant if it is the one that is meant.
    pub(super) async fn remove_opened(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        which: Which<'_>,
        by: By<'_>,
    ) -> Result<bool> {
        let _rooting = self.rooting(tenant).await?;
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change_root(&[tenant, &installation]).await?;
        if let Some(scope) = by.scope {
            self.operator_stands(scope, Some(&view)).await?;
        }
        let arriving = arrival::row_key(tenant.id());
        match which {
            Which::Called(called) if *called != tenant.info().name => {
                return Err(Error::not_found(Resource::Tenant, called.as_str()));
            }
            Which::Unmade if tenant.fresh() == Fresh::Made => return Ok(false),
            Which::Arriving(row)
                if view.get(Space::Catalog, &arriving).await?.as_deref() != Some(row) =>
            {
                return Ok(false);
            }
            Which::Due(now) if tenant.info().erase_at.is_none_or(|at| at > now) => {
                return Ok(false);
            }
            Which::Called(_) | Which::Unmade | Which::Due(_) | Which::Arriving(_) => {}
        }
        let mut about = self.about(tenant)?;
        let name = &tenant.info().name;
        about.root(arriving, None);
        about.root(name_key(name), None);
        plans::leave_plan(&mut about, &tenant.info());
        members::leave(&view, &mut about, tenant.id()).await?;
        about.root(thresholds_key(tenant.id()), None);
        if let Some(at) = tenant.info().erase_at {
            about.root(due_key(at, tenant.id()), None);
        }
        about.root(keys::Tenant {}.encode(tenant.prefix()), None);
        let purge = keys::Purge { tenant: tenant.id().get(), collection: 0 };
        about.root(purge.encode(INSTALLATION), Some(Vec::new()));
        about.touch(Touched::Tenant);
        let mut log = self.begin(&installation)?;
        if let Err(error) = self.settle_usage(&view, &installation, tenant, &mut log).await {
            // A bill keeps nobody.
            tracing::warn!(?error, tenant = %tenant.id(), "the last usage of a deleted tenant");
        }
        log.audit(done(by.author, "tenant.delete", name.as_str(), 1));
        // Nobody was told of one that was never whole.
        if tenant.info().state != TenantState::Provisioning {
            let is_new = tenant.info().erase_at.is_none();
            let kinds = is_new.then_some(EventKind::TenantDeleted);
            for kind in kinds.into_iter().chain([EventKind::TenantErased]) {
                let whose = (tenant.id(), name);
                self.tell_of((&view, &installation), &mut log, kind, whose, None).await?;
            }
        }
        self.commit_two(view, (tenant, about), (&installation, log)).await?;
        tenant.mark_gone();
        self.forget_tenant(tenant.id()).await?;
        Ok(true)
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
        let view = self.change(&installation).await?;
        self.operator_stands(scope, Some(&view)).await?;
        let key = name_key(name);
        let Some(value) = view.get(Space::Catalog, &key).await? else {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        };
        let id = TenantId::new(number(&value)?);
        let mut log = self.begin(&installation)?;
        log.remove(Space::Catalog, key);
        log.remove(Space::Catalog, keys::Tenant {}.encode(Prefix::of(id)));
        log.remove(Space::Catalog, arrival::row_key(id));
        log.remove(Space::Catalog, thresholds_key(id));
        for key in members::all_keys(&view, id).await? {
            log.remove(Space::Catalog, key);
        }
        let purge = keys::Purge { tenant: id.get(), collection: 0 };
        log.put_clear(Space::Catalog, purge.encode(INSTALLATION), Vec::new());
        log.audit(done(scope.author(), "tenant.delete", name.as_str(), 1));
        // Whether it was deleted before cannot be read.
        for kind in [EventKind::TenantDeleted, EventKind::TenantErased] {
            let whose = (id, name);
            self.tell_of((&view, &installation), &mut log, kind, whose, None).await?;
        }
        self.commit(&installation, view, log).await?;
        self.forget_tenant(id).await
    }

    /// Forgets a tenant whose deletion is committed, and destroys its key. Its name is free and
    /// it is gone already; a crash in here is made good by the purger at the next start.
    async fn forget_tenant(&self, id: TenantId) -> Result<()> {
        self.tenants.forget(id);
        // Nor is anything of it remembered.
        self.revoked();
        self.tenant_gone(id).await
    }

    /// Commits changes of a tenant and of the installation as one. The locks of both are held,
    /// the installation's taken last.
    pub(super) async fn commit_two(
        &self,
        view: B::View,
        (tenant, about): (&OpenTenant, About<'_>),
        (installation, log): (&OpenTenant, Commit<'_>),
    ) -> Result<()> {
        let (mut set, after) = about.finish();
        let (more, log_head) = log.finish();
        // The older one, so that the set is refused if either was opened before a reopening.
        set.generation = set.generation.min(more.generation);
        set.takes |= more.takes;
        set.operations.extend(more.operations);
        self.submit(view, set).await?;
        after.apply(tenant);
        installation.set_head(log_head);
        self.events.notify_one();
        Ok(())
    }

    async fn audit_of(
        &self,
        tenant: &OpenTenant,
        after: u64,
        limit: usize,
    ) -> Result<Vec<AuditEntry>> {
        self.at_home(tenant).await?;
        if self.is_shared() && tenant.placement().is_apart() {
            self.ask_place(tenant).await?;
        }
        if tenant.is_behind()
            && let Err(error) = self.writer(tenant).await
        {
            // A log that takes no more entries can still be read.
            tracing::warn!(?error, tenant = %tenant.id(), "append to the log what the root told");
        }
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
pub(super) async fn require_free(view: &impl View, name: &TenantName) -> Result<()> {
    match view.get(Space::Catalog, &name_key(name)).await? {
        None => Ok(()),
        Some(_) => Err(taken(name)),
    }
}

/// The key of the row that says whose a name is.
pub(super) fn name_key(name: &TenantName) -> Vec<u8> {
    keys::TenantName { name: Tail(name.as_str().as_bytes()) }.encode(INSTALLATION)
}
