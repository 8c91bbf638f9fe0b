//! Moving a tenant between places on files.
//!
//! One process has the folder, so memory keeps everybody away from a place that is being left: a
//! commit is refused in the call that would queue it, and a view is refused if the place was left
//! before it was taken.

use super::{
    Space, WriteSet, config,
    files::Files,
    homes::Home,
    keys::{self, Family, Prefix},
    opened::Db,
    purge::Rows,
    tenants::OpenTenant,
};
use crate::{
    Health,
    pool::{Class, Turn},
    tenancy::{
        Backend as _, Pair,
        moving::{Carry, MoverId},
        place::Placement,
    },
};
use parking_lot::RwLock;
use std::{collections::HashMap, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_types::Result;

/// Places that are closed, or were left, by the number of the stay.
#[derive(Debug, Default)]
pub(super) struct Fences(RwLock<HashMap<TenantId, Fence>>);

#[derive(Debug, Default, Clone, Copy)]
struct Fence {
    closed: Option<u32>,
    /// This one and all before it.
    left: Option<u32>,
}

impl Fences {
    fn of(&self, placement: Placement) -> Fence {
        self.0.read().get(&placement.tenant).copied().unwrap_or_default()
    }

    /// True if the tenant lives elsewhere.
    pub(super) fn is_left(&self, placement: Placement) -> bool {
        self.of(placement).left.is_some_and(|left| left >= placement.stay)
    }

    /// True if nobody may commit there.
    pub(super) fn is_closed(&self, placement: Placement) -> bool {
        self.of(placement).closed == Some(placement.stay) || self.is_left(placement)
    }

    fn change(&self, placement: Placement, change: impl FnOnce(&mut Fence)) {
        change(self.0.write().entry(placement.tenant).or_default());
    }
}

impl Carry for Files {
    type Rows = Arc<Db>;

    fn allow_moves(&self) -> Result<()> {
        // One at a time writes the file.
        let _lock = self.lock.lock();
        config::allow_moves(&self.folder)
    }

    fn is_closing(&self) -> bool {
        self.disk.is_closing() || self.lock.lock().is_none()
    }

    fn is_decided(&self) -> bool {
        // One whose commit has failed is read-only until the journal was read.
        self.disk.health() == Health::Ready
    }

    /// The folder is one process's.
    async fn lead(&self) -> Result<bool> {
        Ok(true)
    }

    fn mover(&self) -> Option<MoverId> {
        None
    }

    fn has_ids(&self) -> bool {
        true
    }

    async fn turn(&self, tenant: &OpenTenant) -> Result<Option<Turn>> {
        let weight = tenant.info().weight.into();
        self.pool.turn(tenant.id(), weight, Class::Background).await.map(Some)
    }

    async fn page(
        &self,
        rows: &Arc<Db>,
        start: &[u8],
        from: &[u8],
        (most, bytes): (usize, usize),
    ) -> Result<Vec<Pair>> {
        let (mut page, mut taken) = (Vec::new(), 0);
        for row in rows.scan(Space::Data, start, Some(from)).take(most) {
            let (key, value) = row?;
            taken += key.len() + value.len();
            page.push((key.to_vec(), value.to_vec()));
            if taken >= bytes {
                break;
            }
        }
        Ok(page)
    }

    async fn look(&self, tenant: &Arc<OpenTenant>) -> Result<Arc<Db>> {
        self.data_at(tenant.placement()).await
    }

    async fn make(&self, arriving: &OpenTenant) -> Result<()> {
        self.make_at(arriving.placement()).await
    }

    /// It is open already.
    async fn warm(&self, _arriving: &OpenTenant) -> Result<()> {
        Ok(())
    }

    async fn put(&self, _arriving: &OpenTenant, set: WriteSet) -> Result<()> {
        self.commit_at(set).await
    }

    async fn empty(&self, placement: Placement) -> Result<()> {
        match Home::of(placement) {
            None => {}
            Some(home @ Home::Own(..)) => return self.homes.remove(home).await,
            Some(Home::Bucket(bucket)) => {
                let key = keys::Bucket { bucket }.encode(Prefix::of(TenantId::INSTALLATION));
                // Without it no place in the bucket was ever made.
                if self.disk.db(0)?.get(Space::Catalog, &key)?.is_none() {
                    return Ok(());
                }
            }
        }
        let rows = Rows { placement, space: Space::Data };
        for family in Family::ALL.iter().filter(|family| family.is_in_place()) {
            self.remove_all(rows, Prefix::of(placement.tenant).family(*family)).await?;
        }
        Ok(())
    }

    async fn close(&self, tenant: &OpenTenant, _view: Arc<Db>) -> Result<()> {
        let placement = tenant.placement();
        self.fences.change(placement, |fence| fence.closed = Some(placement.stay));
        Ok(())
    }

    async fn reopen(&self, placement: Placement) -> Result<()> {
        self.fences.change(placement, |fence| fence.closed = None);
        Ok(())
    }

    async fn deciding(&self, tenant: &OpenTenant, installation: &OpenTenant) -> Result<Arc<Db>> {
        self.change_root(&[tenant, installation]).await
    }

    fn left(&self, placement: Placement) {
        let left = Some(placement.stay);
        self.fences.change(placement, |fence| *fence = Fence { closed: None, left });
    }

    fn is_unread(&self, placement: Placement) -> bool {
        match Home::of(placement) {
            // Rows that are removed are there for whoever began before.
            None | Some(Home::Bucket(_)) => true,
            Some(home) => self.homes.is_unused(home),
        }
    }
}
