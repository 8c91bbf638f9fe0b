//! What deleted tenants have left where it is not removed yet, and giving it up.
//!
//! A deletion is done with its commit: the tenant's key is destroyed and nobody reads its data.
//! Its rows are removed afterwards. If the database that has them never comes back, the operator
//! says so, and what is known of it here goes.

use super::{
    Space, Tenancy, View,
    backend::Scan,
    complete,
    disk::{self, DiskOwn},
    done,
    keys::{self, Decode as _, Prefix},
    moving::{Carry, forget_elsewhere, move_in, row::Move},
    place::{PlaceRow, Placement},
    tenants::OpenTenant,
};
use crate::Leftover;
use std::sync::Arc;
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{Error, ErrorKind, Location, Resource, Result};
use zeroize::Zeroizing;

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// Tenants that are shown at once.
const SHOWN: usize = 1_000;

impl<B: Carry> Tenancy<B> {
    /// Deleted tenants whose data are still to be removed, in the order of their numbers.
    pub(crate) async fn leftovers(&self, scope: &OperatorScope) -> Result<Vec<Leftover>> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let mut notes = Scan::new(&root, Space::Catalog, keys::Purge::all(INSTALLATION), None);
        let mut found = Vec::new();
        while let Some((key, _)) = notes.next().await? {
            let note = keys::Purge::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("a note of the purger cannot be read"))?;
            if note.collection == 0 {
                let left = left(&root, &installation, TenantId::new(note.tenant)).await?;
                let elsewhere = left.elsewhere();
                let is_kept = |place: &&Placement| self.obstacle(**place).is_some();
                let shown = elsewhere.iter().find(is_kept).or(elsewhere.first());
                found.push(self.leftover(*shown.unwrap_or(&left.lived)));
            }
            if found.len() >= SHOWN {
                break;
            }
        }
        Ok(found)
    }

    /// Gives up removing what a deleted tenant has left in other databases than the installation's,
    /// or a living one where it was moved from or was to move to; it stays there.
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
        complete(async move {
            match inner.give_up(tenant, &scope).await? {
                Some(left) => Ok(left),
                None => Ok(inner.leftover(inner.abandon_place(tenant, &scope).await?)),
            }
        })
        .await
    }

    /// None if the tenant lives.
    async fn give_up(&self, tenant: TenantId, scope: &OperatorScope) -> Result<Option<Leftover>> {
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        self.operator_stands(scope, Some(&view)).await?;
        let note = keys::Purge { tenant: tenant.get(), collection: 0 }.encode(INSTALLATION);
        if view.get(Space::Catalog, &note).await?.is_none() {
            if self.tenant_by_id(tenant).await?.is_some() {
                return Ok(None);
            }
            return Err(Error::not_found(Resource::Tenant, tenant.to_string()));
        }
        let left = left(&view, &installation, tenant).await?;
        let elsewhere = left.elsewhere();
        let Some(first) = elsewhere.first().copied() else {
            let message = "nothing of this tenant is to be given up: it was given up before, or \
                           what it has left is in the installation's own database, where it is \
                           removed without any help";
            return Err(Error::new(ErrorKind::Conflict, message));
        };
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
        for place in &elsewhere {
            let target = format!("{tenant} at {}", place.location);
            log.audit(done(scope.author(), "tenant.abandon", &target, 1));
        }
        if let Some(one) = left.moving {
            forget_elsewhere(&mut log, one);
        }
        self.commit(&installation, view, log).await?;
        let left = self.leftover(first);
        for place in elsewhere {
            self.abandoned(place, own.as_ref().filter(|_| place.location == Location::Own));
        }
        Ok(Some(left))
    }

    fn leftover(&self, placement: Placement) -> Leftover {
        let Placement { tenant, isolation, location, .. } = placement;
        Leftover { tenant, isolation, location, obstacle: self.obstacle(placement) }
    }
}

/// Where a deleted tenant may have left something.
struct Left {
    lived: Placement,
    /// A move that was not over.
    moving: Option<Move>,
}

impl Left {
    /// The places in other databases than the installation's.
    fn elsewhere(&self) -> Vec<Placement> {
        let ends = self.moving.iter().flat_map(|one| [one.from, one.to]);
        let mut found = Vec::new();
        for place in std::iter::once(self.lived).chain(ends) {
            if place.location != Location::Home && !found.contains(&place) {
                found.push(place);
            }
        }
        found
    }
}

async fn left(root: &impl View, installation: &OpenTenant, tenant: TenantId) -> Result<Left> {
    let key = keys::Place { tenant: tenant.get() }.encode(INSTALLATION);
    let lived = match root.get(Space::Catalog, &key).await? {
        Some(row) => PlaceRow::decode(tenant, &row)?.placement,
        None => Placement::shared(tenant),
    };
    let moving = move_in(root, installation, tenant).await?.filter(|one| !one.phase.is_over());
    Ok(Left { lived, moving })
}
