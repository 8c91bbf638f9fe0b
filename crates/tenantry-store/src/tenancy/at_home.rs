//! Opening the place of a tenant that lives apart, and making it on first use.

use super::{
    Backend, Space, Tenancy, View, WriteSet, catalog,
    commit::Commit,
    disk::Head,
    keys::{self, Prefix},
    moving,
    place::{Fresh, PlaceRow, Placement},
    tenants::OpenTenant,
};
use tenantry_auth::TenantId;
use tenantry_types::{DatabaseName, Error, ErrorKind, Resource, Result};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

impl<B: Backend> Tenancy<B> {
    /// Makes sure that the tenant's place is made and its counters are known. Nobody who calls
    /// this has a lock of the tenant.
    pub(super) async fn at_home(&self, tenant: &OpenTenant) -> Result<()> {
        if !tenant.placement().is_apart() || (tenant.fresh() == Fresh::Made && tenant.is_counted())
        {
            return Ok(());
        }
        // Seldom, and every operation holds this future.
        Box::pin(self.open_home(tenant)).await
    }

    async fn open_home(&self, tenant: &OpenTenant) -> Result<()> {
        let _opening = tenant.opening.lock().await;
        // Within one process a deletion waits until a place is made. Between several, what was
        // made too late is removed again.
        let making = !self.is_shared() && tenant.fresh() != Fresh::Made;
        let _rooting = if making { Some(tenant.rooting.lock().await) } else { None };
        tenant.check_alive()?;
        if self.is_shared() && tenant.fresh() != Fresh::Made {
            self.ask_place(tenant).await?;
        }
        let fresh = tenant.fresh();
        if fresh == Fresh::Made {
            if !tenant.is_counted() {
                self.place_opened(tenant.placement()).await?;
                tenant.load_head(&self.view(tenant).await?).await?;
            }
            return Ok(());
        }
        self.make_place(tenant).await?;
        self.place_opened(tenant.placement()).await?;
        match self.first_commit(tenant, fresh).await {
            // Another node was faster: what it wrote is what counts.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tenant.load_head(&self.view(tenant).await?).await?;
            }
            outcome => outcome?,
        }
        self.mark_made(tenant).await
    }

    /// What the root says now of a tenant's place; another node may have made it.
    pub(super) async fn ask_place(&self, tenant: &OpenTenant) -> Result<()> {
        let key = keys::Place { tenant: tenant.id().get() }.encode(INSTALLATION);
        let root = self.root(None).await?;
        if root.get(Space::Catalog, &keys::Tenant {}.encode(tenant.prefix())).await?.is_none() {
            return Err(Error::not_found(Resource::Tenant, tenant.info().name.as_str()));
        }
        let row = root.get(Space::Catalog, &key).await?;
        let row = row.map(|row| PlaceRow::decode(tenant.id(), &row)).transpose()?;
        let is_here = |row: &PlaceRow| row.placement == tenant.placement();
        let row = row.filter(is_here).ok_or_else(moving::moved)?;
        tenant.set_told(row.told);
        if row.fresh == Fresh::Made {
            tenant.set_made();
        }
        Ok(())
    }

    /// Says in the root that the place is made.
    async fn mark_made(&self, tenant: &OpenTenant) -> Result<()> {
        let _rooting = if self.is_shared() { Some(tenant.rooting.lock().await) } else { None };
        let view = match self.change_root(&[tenant]).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // It was deleted meanwhile, and whoever purged it has found nothing to remove.
                self.unmake_place(tenant.placement()).await?;
                return Err(error);
            }
            view => view?,
        };
        tenant.check_alive()?;
        // Only now: the row is locked, and the number of the last note in it is known.
        let row = PlaceRow { fresh: Fresh::Made, ..tenant.place_row() };
        let placement = Placement::shared(TenantId::INSTALLATION);
        let mut set = WriteSet::new(placement, tenant.generation());
        let key = keys::Place { tenant: tenant.id().get() }.encode(INSTALLATION);
        set.operations.push((Space::Catalog, key, Some(row.encode())));
        self.submit(view, set).await?;
        tenant.set_made();
        Ok(())
    }

    /// Gives a new place its counters and the first database, unless a making that was cut short
    /// has done so.
    async fn first_commit(&self, tenant: &OpenTenant, fresh: Fresh) -> Result<()> {
        let view = self.change_first(tenant).await?;
        if view.get(Space::Data, &keys::Head {}.encode(tenant.prefix())).await?.is_some() {
            return tenant.load_head(&view).await;
        }
        let mut commit = Commit::new(tenant, Head::default(), &*self.entropy, self.now());
        if fresh == Fresh::WithDatabase {
            let name = DatabaseName::default_database();
            catalog::put_new_database(&mut commit, tenant, &name, self.now());
        }
        self.commit(tenant, view, commit).await
    }
}
