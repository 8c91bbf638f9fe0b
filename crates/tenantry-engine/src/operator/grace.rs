//! Deleting tenants, with or without time to take it back.

use super::Operator;
use crate::engine::Inner;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_store::TenantInfo;
use tenantry_types::{ErrorKind, Result, TenantName, TenantState, Timestamp};

/// How long a tenant may stay after its time has come.
const LOOK_EVERY: Duration = Duration::from_secs(60);

impl Operator {
    /// Deletes a tenant. Without a grace it is erased, as [`Operator::erase_tenant`] says. Otherwise
    /// it answers like no tenant at once, keeps its name, and is given with the time when it is
    /// erased; deleting it again changes nothing.
    pub async fn delete_tenant(&self, name: &TenantName) -> Result<Option<TenantInfo>> {
        let grace = self.inner.grace.get().copied().unwrap_or_default();
        // Also where there is no grace: another node may have one, and its answer may be lost.
        let is_named = match self.tenant(name).await {
            Ok(info) if info.erase_at.is_some() => return Ok(Some((*info).clone())),
            Ok(info) => info.state != TenantState::Provisioning,
            // One that cannot be read is erased all the same.
            Err(why) if grace.is_zero() && why.kind() != ErrorKind::NotFound => false,
            Err(why) => return Err(why),
        };
        if grace.is_zero() || !is_named {
            return self.erase_tenant(name).await.map(|()| None);
        }
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let until = Timestamp(self.inner.clock.now().0.saturating_add(grace));
        self.inner.store.retire_tenant(&self.scope, name, until).await.map(Some)
    }

    /// Takes back the deletion of a tenant that is not erased yet: it is what it was.
    pub async fn restore_tenant(&self, name: &TenantName) -> Result<TenantInfo> {
        self.inner.check_served(name)?;
        self.inner.store.restore_tenant(&self.scope, name).await
    }

    /// Erases a tenant for good: when this returns, its data key is destroyed.
    pub async fn erase_tenant(&self, name: &TenantName) -> Result<()> {
        self.inner.check_served(name)?;
        self.inner.store.delete_tenant(&self.scope, name).await
    }
}

/// Starts whoever erases deleted tenants when their time has come; it ends with the engine.
pub(crate) fn spawn_eraser(inner: &Arc<Inner>) {
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            let Some(inner) = weak.upgrade() else { return };
            let scope = inner.authority.system("erase deleted tenants");
            if let Err(error) = inner.store.erase_due(&scope).await {
                tracing::warn!(?error, "look for tenants to erase");
            }
            drop(inner);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}
