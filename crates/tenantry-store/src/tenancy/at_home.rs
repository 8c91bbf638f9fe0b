//! Opening the place of a tenant that lives apart, and making it on first use.

use super::{
    Backend, Space, Tenancy, View, WriteSet, catalog,
    disk::Head,
    keys::{self, Prefix},
    place::{Fresh, PlaceRow, Placement},
    tenants::{Commit, OpenTenant},
};
use tenantry_auth::TenantId;
use tenantry_types::{DatabaseName, Result};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

impl<B: Backend> Tenancy<B> {
    /// Makes sure that the tenant's place is made and its counters are known. Nobody who calls
    /// this has a lock of the tenant.
    pub(super) async fn at_home(&self, tenant: &OpenTenant) -> Result<()> {
        if !tenant.placement().is_apart() || (tenant.fresh() == Fresh::Made && tenant.is_counted())
        {
            return Ok(());
        }
        let _rooting = tenant.rooting.lock().await;
        tenant.check_alive()?;
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
        self.first_commit(tenant, fresh).await?;
        let row = PlaceRow { fresh: Fresh::Made, ..tenant.place_row() };
        let view = self.change_root(&[tenant]).await?;
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
