//! What whoever changes something locks first, and what is learned thereby.

use super::{
    super::{
        call::Answers,
        cluster::{Place, Shared, signed},
        fence,
        statement::{Statement, Step},
    },
    GET, Key, Kind, PgView, first_bytes,
};
use crate::tenancy::{
    Space, View as _,
    disk::{DiskHead, DiskTenant},
    keys::{self, Prefix},
    moving::moved,
    place::{Fresh, PlaceRow},
    tenants::OpenTenant,
};
use std::sync::Arc;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Resource, Result};
use tokio_postgres::types::Type;

const LOCK: &str = "SELECT row FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key = '' FOR UPDATE";

impl PgView {
    /// For whoever changes these tenants: their heads locked, and what is in memory of them
    /// brought up to what is stored, because other nodes write too.
    pub(in super::super) async fn change(
        shared: &Arc<Shared>,
        home: Place,
        tenants: &[&OpenTenant],
    ) -> Result<Self> {
        Ok(Self::change_and(shared, home, tenants, Vec::new).await?.0)
    }

    /// The same, and in the same round trip more steps with the right to the first one's data.
    pub(in super::super) async fn change_and(
        shared: &Arc<Shared>,
        home: Place,
        tenants: &[&OpenTenant],
        more: impl Fn() -> Vec<Step> + Send + Sync,
    ) -> Result<(Self, Answers)> {
        let mut view = Self::new(shared, Kind::Change, home);
        let answers = view.lock_heads(tenants, more).await?;
        Ok((view, answers))
    }

    async fn lock_heads(
        &mut self,
        tenants: &[&OpenTenant],
        more: impl Fn() -> Vec<Step> + Send + Sync,
    ) -> Result<Answers> {
        let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id()).collect();
        let (rows, answers) = self.lock_and(&ids, more).await?;
        for (tenant, (head, info)) in tenants.iter().zip(rows) {
            let gone = || Error::not_found(Resource::Tenant, tenant.info().name.as_str());
            let Some(head) = head else {
                return Err(self.shared.headless(&self.home, tenant).await);
            };
            Self::learn(tenant, &head)?;
            if self.with_root().is_some() {
                self.learn_info(tenant, &info.ok_or_else(gone)?)?;
            }
            self.heads.push((tenant.id(), head));
        }
        Ok(answers)
    }

    /// Locks these too.
    pub(in super::super) async fn lock_also(&mut self, tenants: &[&OpenTenant]) -> Result<()> {
        self.lock_heads(tenants, Vec::new).await.map(drop)
    }

    async fn lock_installation(&mut self) -> Result<()> {
        let id = TenantId::INSTALLATION;
        let row = self.lock(&[id]).await?.pop().and_then(|(head, _)| head);
        let row = row.ok_or_else(|| Error::corrupt("the installation's counters are gone"))?;
        self.heads.push((id, row));
        Ok(())
    }

    /// For whoever changes what the root knows of these tenants: their rows there locked, in this
    /// order, and the installation's head at last, so that there is one to hold on to.
    pub(in super::super) async fn change_root(
        shared: &Arc<Shared>,
        tenants: &[&OpenTenant],
    ) -> Result<Self> {
        let mut view = Self::new(shared, Kind::Change, shared.root()?.clone());
        let place = |tenant: &OpenTenant| keys::Place { tenant: tenant.id().get() };
        for tenant in tenants.iter().filter(|tenant| tenant.placement().is_apart()) {
            let key = place(tenant).encode(Prefix::of(TenantId::INSTALLATION));
            let row = view.lock_row(&key).await?;
            let gone = || Error::not_found(Resource::Tenant, tenant.info().name.as_str());
            let row = row.map(|row| PlaceRow::decode(tenant.id(), &row)).transpose()?;
            let info = view.get(Space::Catalog, &keys::Tenant {}.encode(tenant.prefix())).await?;
            let info = info.ok_or_else(gone)?;
            // What is put back from memory must not undo a move.
            let is_here = |row: &PlaceRow| row.placement == tenant.placement();
            let row = row.filter(is_here).ok_or_else(moved)?;
            tenant.set_told(row.told);
            if row.fresh == Fresh::Made {
                tenant.set_made();
            }
            view.learn_info(tenant, &info)?;
        }
        let rest: Vec<&OpenTenant> =
            tenants.iter().copied().filter(|tenant| !tenant.placement().is_apart()).collect();
        if rest.is_empty() {
            view.lock_installation().await?;
        } else {
            view.lock_heads(&rest, Vec::new).await?;
        }
        Ok(view)
    }

    /// The root for whoever works for a tenant that lives apart and that nobody deletes meanwhile;
    /// fails if somebody has.
    pub(in super::super) async fn living(shared: &Arc<Shared>, tenant: TenantId) -> Result<Self> {
        let view = Self::new(shared, Kind::Change, shared.root()?.clone());
        let place = keys::Place { tenant: tenant.get() };
        let place = view.lock_row(&place.encode(Prefix::of(TenantId::INSTALLATION))).await?;
        let row = view.get(Space::Catalog, &keys::Tenant {}.encode(Prefix::of(tenant))).await?;
        match place.and(row) {
            Some(_) => Ok(view),
            None => Err(Error::not_found(Resource::Tenant, tenant.to_string())),
        }
    }

    /// The stored row of a key of the installation's, locked.
    async fn lock_row(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let root = self.shared.root()?;
        let split = Key::split(key)?;
        let steps = || {
            let text = format!("{GET} FOR UPDATE");
            let lock = Statement::new(root.text(&text))
                .with(0_i64, Type::INT8)
                .with(split.family, Type::INT2)
                .with(split.rest.to_vec(), Type::BYTEA);
            vec![Step::Run(lock)]
        };
        let answers = self.run(root, TenantId::INSTALLATION, steps).await?;
        first_bytes(answers.first().map_or(&[], Vec::as_slice))
    }

    /// The root with the installation's head locked.
    pub(in super::super) async fn creating(shared: &Arc<Shared>) -> Result<Self> {
        let mut view = Self::new(shared, Kind::Change, shared.root()?.clone());
        view.lock_installation().await?;
        Ok(view)
    }

    /// The root for whoever makes the installation: no other node makes it meanwhile.
    pub(in super::super) async fn founding(shared: &Arc<Shared>) -> Result<Self> {
        let place = shared.root()?.clone();
        let view = Self::new(shared, Kind::Change, place.clone());
        let lock = || {
            let text = "SELECT version FROM {schema}.installation FOR UPDATE";
            vec![Step::Run(Statement::new(place.text(text)))]
        };
        view.run(&place, TenantId::INSTALLATION, lock).await?;
        Ok(view)
    }

    /// The stored heads and rows of tenants, the heads locked in this order, in one round trip.
    pub(in super::super) async fn lock(
        &self,
        tenants: &[TenantId],
    ) -> Result<Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>> {
        Ok(self.lock_and(tenants, Vec::new).await?.0)
    }

    /// The same, and more steps with the right to the first one's data.
    pub(in super::super) async fn lock_and(
        &self,
        tenants: &[TenantId],
        more: impl Fn() -> Vec<Step> + Send + Sync,
    ) -> Result<(Vec<(Option<Vec<u8>>, Option<Vec<u8>>)>, Answers)> {
        let Some(first) = tenants.first() else { return Ok((Vec::new(), Vec::new())) };
        let head = keys::Head::FAMILY;
        // What the root says of a tenant with a database of its own is told by the watch alone.
        let with_root = self.with_root();
        let each = if with_root.is_some() { 2 } else { 1 };
        let homes = tenants.iter().map(|id| Ok((self.home_of(*id)?, signed(*id)?)));
        let homes = homes.collect::<Result<Vec<_>>>()?;
        let first_home = self.home_of(*first)?;
        let steps = || {
            let more = more();
            let is_common = !more.is_empty() && more.iter().all(Step::is_common);
            let mut steps = Vec::new();
            for (tenant, (home, id)) in tenants.iter().zip(&homes) {
                let lock = Statement::new(home.text(LOCK))
                    .with(*id, Type::INT8)
                    .with(i16::from(head), Type::INT2)
                    .common_if(is_common);
                steps.extend([Step::Enter(home.right(*tenant)), Step::Run(lock)]);
                let Some(root) = with_root else { continue };
                let info = Statement::new(root.text(GET))
                    .with(*id, Type::INT8)
                    .with(i16::from(keys::Tenant::FAMILY), Type::INT2)
                    .with(Vec::<u8>::new(), Type::BYTEA)
                    .common_if(is_common);
                if *home != root {
                    steps.push(Step::Enter(root.right(*tenant)));
                }
                steps.push(Step::Run(info));
            }
            if !more.is_empty() {
                steps.push(Step::Enter(first_home.right(*first)));
            }
            steps.extend(more);
            steps
        };
        let mut answers = self.run(first_home, *first, steps).await?;
        let rest = answers.split_off((each * tenants.len()).min(answers.len()));
        let mut rows = answers.into_iter().map(|rows| first_bytes(&rows));
        let mut found = Vec::new();
        while let Some(head) = rows.next() {
            let info = if with_root.is_some() { rows.next().transpose()?.flatten() } else { None };
            found.push((head?, info));
        }
        Ok((found, rest))
    }

    /// Takes over what another node has written. The tenant's writer lock is held.
    fn learn(tenant: &OpenTenant, head: &[u8]) -> Result<()> {
        let head = fence::counters(head)?;
        let head: DiskHead = tenant.open_row(&keys::Head {}.encode(tenant.prefix()), head)?;
        let head = head.into_head()?;
        if head.stay != tenant.placement().stay {
            return Err(moved());
        }
        if tenant.head().is_none_or(|known| known.sequence != head.sequence) {
            tenant.catalog_changed();
        }
        tenant.set_head(head);
        Ok(())
    }

    fn learn_info(&self, tenant: &OpenTenant, info: &[u8]) -> Result<()> {
        let row: DiskTenant = tenant.open_row(&keys::Tenant {}.encode(tenant.prefix()), info)?;
        let info = row.into_info(tenant.id())?;
        if info != *tenant.info() {
            tenant.set_info(info);
            // It may have been suspended.
            self.shared.watch.revoked();
        }
        Ok(())
    }
}
