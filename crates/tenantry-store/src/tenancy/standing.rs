//! A right is looked at once more when it is used.
//!
//! A request can be held open for long between its headers, which are authenticated, and the end
//! of its body. What was revoked, expired or suspended meanwhile must not act any more. As long
//! as nothing anywhere was revoked since the key was looked up, this costs one comparison.

use super::{Backend, Tenancy, tenants::OpenTenant};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tenantry_auth::{Level, OperatorScope, Scope, Standing};
use tenantry_types::{Error, ErrorKind, Resource, Result, TenantState};
use tokio::sync::MutexGuard;

/// A change that was under way for so long looks at its right again before it is committed.
const LOOKED_AT_AGAIN_AFTER: Duration = Duration::from_millis(500);

impl<B: Backend> Tenancy<B> {
    /// To be called after a key was revoked or a tenant suspended, before that is answered.
    pub(super) fn revoked(&self) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }

    /// Fails if the right no longer stands. `held` is the view for changes that the caller holds.
    pub(crate) async fn stands(
        &self,
        standing: &Standing,
        tenant: Option<&OpenTenant>,
        held: Option<&B::View>,
    ) -> Result<()> {
        let refused = || {
            let what = if standing.key().is_some() { "API key" } else { "token" };
            let why = format!("the {what} is not valid any more");
            Error::new(ErrorKind::Unauthenticated, why)
        };
        if standing.is_expired(self.now()) {
            return Err(refused());
        }
        if !standing.is_revocable() {
            return Ok(());
        }
        self.refresh(held).await?;
        if standing.revocations() == self.revocations.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(key) = standing.key()
            && self.key_row(held, key).await?.is_none()
        {
            return Err(refused());
        }
        if let Some((member, _)) = standing.member() {
            let of = (tenant.ok_or_else(refused)?.id(), member);
            // Rare, and every operation holds this future.
            if !Box::pin(self.member_stands(held, of, standing)).await? {
                return Err(refused());
            }
        }
        let mut suspended = tenant.is_some_and(|t| t.info().state == TenantState::Suspended);
        let mut deleted = tenant.is_some_and(|t| t.info().erase_at.is_some());
        if let Some(tenant) = tenant.filter(|_| self.is_shared()) {
            // The one at hand may be from before another node's change.
            let gone = || Error::not_found(Resource::Tenant, tenant.info().name.as_str());
            let now = self.open_tenant_beside(held, tenant.id()).await?.ok_or_else(gone)?;
            suspended |= now.info().state == TenantState::Suspended;
            deleted |= now.info().erase_at.is_some();
        }
        if deleted && !standing.is_operator() {
            return Err(refused());
        }
        if deleted {
            return Err(Error::new(
                ErrorKind::Conflict,
                "this tenant is deleted; restore it first",
            ));
        }
        if suspended && !standing.is_operator() {
            return Err(Error::new(
                ErrorKind::Suspended,
                "this tenant is suspended; ask the operator to resume it",
            ));
        }
        Ok(())
    }

    /// [`Tenancy::stands`] for what outlives the right, such as a key: asked of the rows as they are
    /// under the locks, whatever is remembered of what other nodes have done.
    pub(super) async fn stands_now(
        &self,
        standing: &Standing,
        tenant: &OpenTenant,
        view: &B::View,
    ) -> Result<()> {
        self.stands(standing, Some(tenant), Some(view)).await?;
        if !self.is_shared() {
            return Ok(());
        }
        let stands = match (standing.key(), standing.member()) {
            (Some(key), _) => self.key_row(Some(view), key).await?.is_some(),
            (None, Some((member, _))) => {
                self.member_stands(Some(view), (tenant.id(), member), standing).await?
            }
            (None, None) => true,
        };
        if stands {
            return Ok(());
        }
        let why = "the credential is not valid any more";
        Err(Error::new(ErrorKind::Unauthenticated, why))
    }

    /// Looks at the right once more before a change is committed that was long under way. Whoever
    /// revokes one waits only so long for the writer lock of a tenant apart, and for that of
    /// another node not at all.
    pub(crate) async fn stands_still<L: Level>(
        &self,
        scope: &Scope<L>,
        (tenant, held): (&OpenTenant, Option<&B::View>),
        looked_at: Instant,
    ) -> Result<()> {
        if !tenant.placement().is_apart() || looked_at.elapsed() < LOOKED_AT_AGAIN_AFTER {
            return Ok(());
        }
        self.stands(scope.standing(), Some(tenant), held).await
    }

    /// Fails if the operator's right no longer stands.
    pub(crate) async fn operator_stands(
        &self,
        scope: &OperatorScope,
        held: Option<&B::View>,
    ) -> Result<()> {
        self.stands(scope.standing(), None, held).await
    }

    /// Waits for the tenant's writer lock with so many bytes in hand, and then looks at the right
    /// once more: a revocation takes the same lock. What is read for the change is read from the
    /// view.
    pub(crate) async fn writing<'t, L: Level>(
        &self,
        scope: &Scope<L>,
        tenant: &'t OpenTenant,
        bytes: usize,
    ) -> Result<(MutexGuard<'t, ()>, B::View)> {
        let guard = tenant.writer_turn(bytes).await?;
        tenant.check_alive()?;
        let view = self.caught_up(tenant).await?;
        self.stands(scope.standing(), Some(tenant), Some(&view)).await?;
        Ok((guard, view))
    }

    /// Waits for the tenant's writer lock, for work that no request brings. Its log then says all that the root has told it.
    pub(super) async fn writer<'t>(
        &self,
        tenant: &'t OpenTenant,
    ) -> Result<(MutexGuard<'t, ()>, B::View)> {
        let guard = tenant.writer.lock().await;
        tenant.check_alive()?;
        Ok((guard, self.caught_up(tenant).await?))
    }

    /// The view of whoever changes a tenant and has its writer lock, when its log says all that the
    /// root has told it. Whoever owns the tenant's database decides what it keeps: one that does
    /// not keep what it took over must not be told again and again.
    pub(crate) async fn caught_up(&self, tenant: &OpenTenant) -> Result<B::View> {
        let mut view = self.change(tenant).await?;
        while tenant.is_behind() {
            let taken = self.take_over(tenant, view).await?;
            tenant.check_alive()?;
            view = self.change(tenant).await?;
            if tenant.head().is_none_or(|head| head.told < taken) {
                return Err(Error::corrupt(format!(
                    "the log of tenant {} does not keep what it was told",
                    tenant.id()
                )));
            }
        }
        Ok(view)
    }
}
