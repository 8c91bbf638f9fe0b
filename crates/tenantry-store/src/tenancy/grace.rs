//! Deletions that can be taken back for some time.
//!
//! Such a tenant's row says when it is erased, and a row of the root lists it under that time. Both
//! are one commit, with the locks that erasing holds: whoever erases or restores it second finds
//! what the first has written. Nothing of the tenant is destroyed before.

use super::{
    Backend, Space, Tenancy, View as _,
    arrival::check_whole,
    complete,
    disk::Touched,
    done,
    keys::{self, Decode as _, Prefix},
    tenant_rows::{By, Which},
};
use crate::TenantInfo;
use std::sync::Arc;
use tenantry_auth::{OperatorScope, SystemScope, TenantId};
use tenantry_types::{Error, ErrorKind, EventKind, Fact, Resource, Result, TenantName, Timestamp};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// Tenants that are listed at once.
const AT_ONCE: usize = 256;

fn unreadable() -> Error {
    Error::corrupt("a row of what is to be erased cannot be read")
}

/// The key of the row that lists a tenant which is erased then.
pub(super) fn due_key(at: Timestamp, tenant: TenantId) -> Vec<u8> {
    keys::Erase { at: at.0, tenant: tenant.get() }.encode(INSTALLATION)
}

impl<B: Backend> Tenancy<B> {
    /// Deletes a tenant from `until` on. If it is deleted already, what was said first counts.
    pub(crate) async fn retire_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        until: Timestamp,
    ) -> Result<TenantInfo> {
        self.operator_stands(scope, None).await?;
        let (inner, name, scope) = (Arc::clone(self), name.clone(), scope.clone());
        complete(async move {
            inner.check_gate()?;
            inner.set_erasure(&name, Some(until), &scope).await
        })
        .await
    }

    /// Takes a deletion back. A tenant that is not deleted stays as it is.
    pub(crate) async fn restore_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<TenantInfo> {
        self.operator_stands(scope, None).await?;
        let (inner, name, scope) = (Arc::clone(self), name.clone(), scope.clone());
        complete(async move { inner.set_erasure(&name, None, &scope).await }).await
    }

    async fn set_erasure(
        self: &Arc<Self>,
        name: &TenantName,
        until: Option<Timestamp>,
        scope: &OperatorScope,
    ) -> Result<TenantInfo> {
        let tenant = self.require(name).await?;
        let _rooting = self.rooting(&tenant).await?;
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change_root(&[&tenant, &installation]).await?;
        self.operator_stands(scope, Some(&view)).await?;
        let mut about = self.about(&tenant)?;
        let mut info = (*tenant.info()).clone();
        if info.name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        let action = match (info.erase_at, until) {
            (Some(_), Some(_)) | (None, None) => return Ok(info),
            (None, Some(until)) => {
                check_whole(&info)?;
                about.root(due_key(until, info.id), Some(Vec::new()));
                "tenant.retire"
            }
            (Some(until), None) => {
                about.root(due_key(until, info.id), None);
                "tenant.restore"
            }
        };
        info.erase_at = until;
        about.put_tenant(&info);
        about.tell(done(scope.author(), action, name.as_str(), 1), Some(Touched::Tenant));
        let mut log = self.begin(&installation)?;
        log.audit(done(scope.author(), action, name.as_str(), 1));
        let (kind, facts) = match until {
            Some(until) => (EventKind::TenantDeleted, Some(("erase_at_ms", Fact::Number(until.0)))),
            None => (EventKind::TenantRestored, None),
        };
        let whose = (info.id, &info.name);
        self.tell_of((&view, &installation), &mut log, kind, whose, facts).await?;
        self.commit_two(view, (&tenant, about), (&installation, log)).await?;
        self.tenants.renew(&tenant, info.clone());
        self.revoked();
        Ok(info)
    }

    /// Erases all tenants whose time has come. May be called by several processes at once, and again
    /// after it was cut off anywhere.
    pub(crate) async fn erase_due(self: &Arc<Self>, _scope: &SystemScope) -> Result<()> {
        let now = self.now();
        let all = keys::Erase::all(INSTALLATION);
        let mut from = all.clone();
        loop {
            let root = self.root(None).await?;
            let rows = root.page(Space::Catalog, &all, &from, AT_ONCE).await?;
            // The root is let go before tenants are opened.
            drop(root);
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from.clone_from(last);
            from.push(0);
            for (key, _) in rows {
                let row = keys::Erase::decode(INSTALLATION, &key).ok_or_else(unreadable)?;
                if row.at > now.0 {
                    return Ok(());
                }
                let (inner, id) = (Arc::clone(self), TenantId::new(row.tenant));
                match complete(async move { inner.erase_one(id, key, now).await }).await {
                    Ok(()) => {}
                    // Somebody else has erased it in this moment.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    // One that cannot be erased must not keep the others.
                    Err(error) => {
                        tracing::warn!(?error, tenant = %id, "erase a deleted tenant; again later");
                    }
                }
            }
        }
    }

    async fn erase_one(self: &Arc<Self>, id: TenantId, key: Vec<u8>, now: Timestamp) -> Result<()> {
        if let Some(tenant) = self.open_tenant(id).await? {
            // What it has kept in its grace is billed; what cannot be asked keeps it no longer.
            if let Err(error) = self.collect(id).await {
                tracing::warn!(?error, tenant = %id, "a tenant is erased whose last usage is unknown");
            }
            return self.remove_opened(&tenant, Which::Due(now), By::store()).await.map(drop);
        }
        // Its row could not be read when it was erased, so that this one stayed. Ids are never given
        // again.
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        if view.get(Space::Catalog, &key).await?.is_none() {
            return Ok(());
        }
        let mut log = self.begin(&installation)?;
        log.remove(Space::Catalog, key);
        self.commit(&installation, view, log).await
    }
}
