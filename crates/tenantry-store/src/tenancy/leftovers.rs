//! What deleted tenants have left where it is not removed yet, and giving it up.
//!
//! A deletion is done with its commit: the tenant's key is destroyed and nobody reads its data.
//! Its rows are removed afterwards. If the database that has them never comes back, the operator
//! says so, and what is known of it here goes.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    complete,
    disk::{self, DiskOwn},
    done,
    keys::{self, Decode as _, Prefix},
    place::{PlaceRow, Placement},
};
use crate::Leftover;
use std::sync::Arc;
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{Error, ErrorKind, Location, Resource, Result};
use zeroize::Zeroizing;

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// Tenants that are shown at once.
const SHOWN: usize = 1_000;

impl<B: Backend> Tenancy<B> {
    /// Deleted tenants whose data are still to be removed, in the order of their numbers.
    pub(crate) async fn leftovers(&self, scope: &OperatorScope) -> Result<Vec<Leftover>> {
        self.operator_stands(scope, None).await?;
        let root = self.root(None).await?;
        let mut notes = Scan::new(&root, Space::Catalog, keys::Purge::all(INSTALLATION), None);
        let mut found = Vec::new();
        while let Some((key, _)) = notes.next().await? {
            let note = keys::Purge::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("a note of the purger cannot be read"))?;
            if note.collection == 0 {
                let placement = placement(&root, TenantId::new(note.tenant)).await?;
                found.push(self.leftover(placement));
            }
            if found.len() >= SHOWN {
                break;
            }
        }
        Ok(found)
    }

    /// Gives up removing what a deleted tenant has left in another database than the
    /// installation's; it stays there.
    pub(crate) async fn abandon(
        self: &Arc<Self>,
        scope: &OperatorScope,
        tenant: TenantId,
    ) -> Result<Leftover> {
        self.operator_stands(scope, None).await?;
        // Operators may say any number. The first is the installation's, and the last ones are more
        // than any backend has room for.
        if tenant == TenantId::INSTALLATION || i64::try_from(tenant.get()).is_err() {
            return Err(Error::not_found(Resource::Tenant, tenant.to_string()));
        }
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move { inner.give_up(tenant, &scope).await }).await
    }

    async fn give_up(&self, tenant: TenantId, scope: &OperatorScope) -> Result<Leftover> {
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        self.operator_stands(scope, Some(&view)).await?;
        let note = keys::Purge { tenant: tenant.get(), collection: 0 }.encode(INSTALLATION);
        if view.get(Space::Catalog, &note).await?.is_none() {
            if self.tenant_by_id(tenant).await?.is_some() {
                let message = "this tenant is not deleted: only what a deleted one has left can be \
                               given up";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            return Err(Error::not_found(Resource::Tenant, tenant.to_string()));
        }
        let placement = placement(&view, tenant).await?;
        if placement.location == Location::Home {
            let message = "nothing of this tenant is to be given up: it was given up before, or \
                           what it has left is in the installation's own database, where it is \
                           removed without any help";
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let way = keys::OwnDatabase { tenant: tenant.get() }.encode(INSTALLATION);
        let own = match view.get(Space::Catalog, &way).await? {
            Some(row) => {
                let plain = Zeroizing::new(installation.key().open(&way, &row)?);
                let own: DiskOwn = disk::decode(&plain, "a tenant's database")?;
                Some(own.into_own())
            }
            None => None,
        };
        let mut log = self.begin(&installation)?;
        // Without them the purger finds a tenant that was at home, and removes the rest.
        log.remove(Space::Catalog, keys::Place { tenant: tenant.get() }.encode(INSTALLATION));
        log.remove(Space::Catalog, way);
        let told = keys::told_of(INSTALLATION, tenant);
        let mut told = Scan::new(&view, Space::Catalog, told, None);
        while let Some((key, _)) = told.next().await? {
            log.remove(Space::Catalog, key);
        }
        let target = format!("{tenant} at {}", placement.location);
        log.audit(done(scope.author(), "tenant.abandon", &target, 1));
        self.commit(&installation, view, log).await?;
        let left = self.leftover(placement);
        self.abandoned(placement, own.as_ref());
        Ok(left)
    }

    fn leftover(&self, placement: Placement) -> Leftover {
        let Placement { tenant, isolation, location, .. } = placement;
        Leftover { tenant, isolation, location, obstacle: self.obstacle(placement) }
    }
}

async fn placement(root: &impl View, tenant: TenantId) -> Result<Placement> {
    let key = keys::Place { tenant: tenant.get() }.encode(INSTALLATION);
    match root.get(Space::Catalog, &key).await? {
        Some(row) => Ok(PlaceRow::decode(tenant, &row)?.placement),
        None => Ok(Placement::shared(tenant)),
    }
}
