//! Moving a tenant between places on files.
//!
//! One process has the folder, so memory keeps everybody away from a place that is being left: a
//! commit is refused in the call that would queue it, and a view is refused if the place was left
//! before it was taken.

use super::{
    Space, WriteSet, compute, config,
    files::Files,
    homes::Home,
    keys::{self, Family, Prefix},
    opened::{Db, data_index},
    purge::Rows,
    tenants::OpenTenant,
};
use crate::{
    Health,
    pool::{Class, Pool, Turn},
    tenancy::{
        Backend as _, Pair, View,
        moving::{Carry, MoverId},
        place::Placement,
        seal::Nonces,
    },
};
use parking_lot::RwLock;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::Result;

/// The row of a tenant that is being filled says that it goes on a few times in this time; nobody
/// but this process reads it.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(300);

/// How long a pause of writes is put off until its commits need not wait for tables that are written
/// out, and how often it is looked.
const CALM_PATIENCE: Duration = Duration::from_secs(1);
const CALM_LOOK: Duration = Duration::from_millis(4);

/// Rows, and their bytes, that are read and opened in some 100 µs.
const GRAIN: (usize, usize) = (32, 32 << 10);

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

/// Rows of a place as moves see them.
pub(crate) struct FilesRows {
    db: Arc<Db>,
    tenant: Arc<OpenTenant>,
}

impl FilesRows {
    /// A value as other places take it.
    fn clear(&self, key: &[u8], value: Vec<u8>) -> Result<Vec<u8>> {
        if is_vector(&self.tenant, key) { self.tenant.key().open(key, &value) } else { Ok(value) }
    }
}

fn is_vector(tenant: &OpenTenant, key: &[u8]) -> bool {
    key.starts_with(&keys::Vector::all(tenant.prefix()))
}

impl View for FilesRows {
    fn generation(&self) -> u64 {
        View::generation(&self.db)
    }

    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = View::get(&self.db, space, key).await?;
        value.map(|value| self.clear(key, value)).transpose()
    }

    async fn many(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let values = self.db.many(space, keys).await?;
        let clear = |(key, value): (&Vec<u8>, Option<Vec<u8>>)| {
            value.map(|value| self.clear(key, value)).transpose()
        };
        keys.iter().zip(values).map(clear).collect()
    }

    async fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>> {
        let page = View::page(&self.db, space, start, from, limit).await?;
        let clear = |(key, value): Pair| {
            let value = self.clear(&key, value)?;
            Ok((key, value))
        };
        page.into_iter().map(clear).collect()
    }
}

impl Files {
    /// Waits a while for a moment in which commits to the root, and to a place, would not wait for what
    /// fjall writes in the background: it holds a lock over several synchronisations.
    pub(crate) async fn calm_at(&self, place: Option<Placement>) -> Result<()> {
        let begun = Instant::now();
        let home = place.and_then(Home::of);
        while begun.elapsed() < CALM_PATIENCE {
            // A table that is written out late would be in the way itself.
            let is_early = begun.elapsed() < CALM_PATIENCE / 2;
            let disk = home.and_then(|home| self.homes.opened(home));
            let home = disk.as_ref().map(|disk| disk.calm(place.map_or(0, data_index), is_early));
            let root = self.disk.calm(0, is_early);
            let look = move || {
                let is_home_calm = home.map_or(Ok(true), |home| home())?;
                // Until then it is in use, and not closed.
                drop(disk);
                Ok(is_home_calm && root()?)
            };
            if compute(usize::MAX, look).await? {
                return Ok(());
            }
            tokio::time::sleep(CALM_LOOK).await;
        }
        Ok(())
    }
}

impl Carry for Files {
    type Rows = FilesRows;

    async fn allow_moves(&self) -> Result<()> {
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

    fn leads(&self) -> bool {
        true
    }

    fn can_lead(&self) -> bool {
        true
    }

    async fn stand_in(&self) -> Result<Option<Box<dyn Send>>> {
        Ok(None)
    }

    fn mover(&self) -> Option<MoverId> {
        None
    }

    fn has_ids(&self, _placement: Placement) -> bool {
        true
    }

    async fn turn(&self, tenant: &OpenTenant) -> Result<Option<Turn>> {
        let weight = tenant.weight();
        let mut turn = self.pool.turn(tenant.id(), weight, Class::Background).await?;
        // Moves are the operator's doing, and archives cost nothing.
        turn.bill(TenantId::INSTALLATION);
        Ok(Some(turn))
    }

    fn gate(&self) -> Option<&Pool> {
        Some(&self.pool)
    }

    async fn page(
        &self,
        rows: &FilesRows,
        start: &[u8],
        from: &[u8],
        (most, bytes): (usize, usize),
    ) -> Result<Vec<Pair>> {
        let (mut page, mut taken) = (Vec::new(), 0);
        for row in rows.db.scan(Space::Data, start, Some(from)).take(most) {
            let (key, value) = row?;
            let value = rows.clear(&key, value.to_vec())?;
            taken += key.len() + value.len();
            page.push((key.to_vec(), value));
            if taken >= bytes {
                break;
            }
        }
        Ok(page)
    }

    fn grain(&self, _: &FilesRows) -> (usize, usize) {
        GRAIN
    }

    async fn whole(&self, tenant: &Arc<OpenTenant>) -> Result<FilesRows> {
        let db = self.data(tenant).await?;
        Ok(FilesRows { db, tenant: Arc::clone(tenant) })
    }

    /// A database that is to be opened again waits for whoever reads in it.
    fn may_hold(&self, rows: &FilesRows) -> bool {
        let disk = Home::of(rows.tenant.placement()).map(|home| self.homes.opened(home));
        let is_ready = match disk {
            None => self.disk.health() == Health::Ready,
            Some(disk) => disk.is_some_and(|disk| disk.health() == Health::Ready),
        };
        is_ready && !self.is_closing()
    }

    /// There is no other process.
    fn arrival_patience(&self) -> Duration {
        ARRIVAL_PATIENCE
    }

    async fn look(&self, tenant: &Arc<OpenTenant>) -> Result<FilesRows> {
        let db = self.data_at(tenant.placement()).await?;
        Ok(FilesRows { db, tenant: Arc::clone(tenant) })
    }

    async fn make(&self, arriving: &OpenTenant) -> Result<()> {
        self.make_at(arriving.placement()).await
    }

    /// It is open already.
    async fn prepare(&self, _arriving: &OpenTenant) -> Result<()> {
        Ok(())
    }

    async fn calm(&self, arriving: &OpenTenant) -> Result<()> {
        self.calm_at(Some(arriving.placement())).await
    }

    async fn put(&self, arriving: &OpenTenant, mut set: WriteSet) -> Result<()> {
        let mut nonces = Nonces::draw(&*self.entropy);
        for (space, key, value) in &mut set.operations {
            if let Some(value) = value
                && *space == Space::Data
                && is_vector(arriving, key)
            {
                *value = arriving.key().seal(key, value, false, &mut nonces);
            }
        }
        self.commit_at(set).await
    }

    async fn empty(&self, placement: Placement) -> Result<()> {
        match Home::of(placement) {
            None => {}
            Some(home @ Home::Own(..)) => return self.homes.remove(home).await,
            Some(Home::Bucket(bucket)) => {
                let key = keys::Bucket { bucket }.encode(Prefix::of(TenantId::INSTALLATION));
                // Without it no place in the bucket was ever made.
                if Db::get(&*self.disk.db(0)?, Space::Catalog, &key)?.is_none() {
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

    async fn is_shut(&self, placement: Placement) -> Result<bool> {
        Ok(self.fences.is_closed(placement))
    }

    async fn reopen(&self, placement: Placement) -> Result<()> {
        self.fences.change(placement, |fence| fence.closed = None);
        Ok(())
    }

    async fn deciding(&self, tenant: &OpenTenant, installation: &OpenTenant) -> Result<Arc<Db>> {
        self.change_root(&[tenant, installation]).await
    }

    async fn left(&self, placement: Placement, _to: Placement) {
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
