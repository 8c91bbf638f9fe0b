//! Files as a place for rows: fjall, the slot file, and what is in memory of them.

use super::{
    Space, WriteSet,
    carry::Fences,
    compute, config,
    db::Disk,
    homes::{Home, Homes},
    hot::HotSet,
    keys::{self, Prefix},
    opened::{Db, data_index},
    purge::Rows,
    saved::Saved,
    seal::SealingKey,
    slot::{Slot, SlotWrite},
    slots::SlotFile,
    tenants::OpenTenant,
};
use crate::{
    Entropy, Obstacle,
    pool::Pool,
    tenancy::{Backend, Pair, View, moving, place::Placement},
};
use parking_lot::Mutex;
use std::{collections::HashSet, fs::File, path::PathBuf, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_index::IndexConfig;
use tenantry_types::{CollectionNumber, Error, Isolation, Location, OwnDatabase, Result};

/// The files of a store, and what is in memory of them.
#[derive(Debug)]
pub(crate) struct Files {
    /// The root.
    pub(super) disk: Disk,
    /// The databases of tenants that live apart.
    pub(super) homes: Arc<Homes>,
    pub(super) slots: Arc<SlotFile>,
    pub(super) hot: Arc<HotSet>,
    pub(super) saved: Arc<Saved>,
    pub(super) pool: Pool,
    pub(super) entropy: Arc<dyn Entropy>,
    pub(super) index: IndexConfig,
    /// Wakes the purger.
    pub(super) purge: Arc<tokio::sync::Notify>,
    /// Tenants that live apart and may have collections to purge: those whose place was opened,
    /// and those that have deleted some since.
    pub(super) unpurged: Mutex<HashSet<TenantId>>,
    /// Tenants that are gone, of which only what was reported of them is left.
    pub(super) emptied: Mutex<HashSet<TenantId>>,
    /// Places that tenants have left.
    pub(super) fences: Fences,
    pub(super) folder: PathBuf,
    /// Held for as long as the folder is in use.
    pub(super) lock: Mutex<Option<File>>,
}

/// Keys above this number are looked up on a thread that may block.
const INLINE_KEYS: usize = 256;

impl View for Arc<Db> {
    fn generation(&self) -> u64 {
        Db::generation(self)
    }

    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(Db::get(self, space, key)?.map(|value| value.to_vec()))
    }

    async fn many(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let of = move |db: &Db, keys: &[Vec<u8>]| {
            let one = |key: &Vec<u8>| Ok(db.get(space, key)?.map(|value| value.to_vec()));
            keys.iter().map(one).collect()
        };
        if keys.len() <= INLINE_KEYS {
            return of(self, keys);
        }
        let (db, keys) = (Self::clone(self), keys.to_vec());
        compute(usize::MAX, move || of(&db, &keys)).await
    }

    async fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>> {
        let rows = self.scan(space, start, Some(from)).take(limit);
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
    }
}

impl Files {
    /// The data of a tenant as they stand now.
    pub(super) async fn data(&self, tenant: &OpenTenant) -> Result<Arc<Db>> {
        let is_far = tenant.placement().location != Location::Home;
        // Whoever comes here with a tenant that lives in a database has looked for it before.
        let data =
            if is_far { Err(moving::moved()) } else { self.data_at(tenant.placement()).await };
        // Only now: a view from before it was left precedes every commit in the new place.
        if self.fences.is_left(tenant.placement()) {
            return Err(moving::moved());
        }
        if data.is_err() {
            // What was removed with its tenant is not lost.
            tenant.check_alive()?;
        }
        data
    }

    /// The same for whoever removes what is left of a tenant.
    pub(super) async fn data_at(&self, placement: Placement) -> Result<Arc<Db>> {
        match home_of(placement)? {
            None => self.disk.view(0).await,
            Some(home) => self.homes.open(home).await?.view(data_index(placement)).await,
        }
    }

    /// Forgets what is in memory and in saved files of a tenant's collections.
    pub(crate) fn forget(self: &Arc<Self>, tenant: TenantId) {
        self.hot.forget_tenant(tenant);
        let files = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = files.forget_saved_tenant(tenant).await {
                tracing::warn!(?error, %tenant, "remove saved indexes of a tenant that was moved");
            }
        });
    }

    /// Lets the folder have tenants whose data are in databases of PostgreSQL.
    pub(crate) fn allow_databases(&self) -> Result<()> {
        // One at a time writes the file.
        let _lock = self.lock.lock();
        config::allow_databases(&self.folder)
    }

    /// What tells these files from a copy of them.
    pub(crate) fn identity(&self) -> Result<Vec<u8>> {
        self.slots.identity()
    }

    /// Counts the commits whose fate was unknown.
    pub(crate) fn generation(&self) -> u64 {
        self.disk.generation()
    }

    /// Wakes the purger.
    pub(crate) fn look_for_notes(&self) {
        self.purge.notify_one();
    }

    /// Makes what a place needs.
    pub(super) async fn make_at(&self, placement: Placement) -> Result<()> {
        let Some(home) = home_of(placement)? else { return Ok(()) };
        let Home::Bucket(bucket) = home else {
            self.homes.make(home, false).await?;
            return Ok(());
        };
        let key = keys::Bucket { bucket }.encode(Prefix::of(TenantId::INSTALLATION));
        let is_whole = Db::get(&*self.disk.db(0)?, Space::Catalog, &key)?.is_some();
        // Kept open until it is known as whole: others' data may be in it from then on.
        let _made = self.homes.make(home, is_whole).await?;
        if !is_whole {
            let root = Placement::shared(TenantId::INSTALLATION);
            let mut set = WriteSet::new(root, self.disk.db(0)?.generation());
            set.operations.push((Space::Catalog, key, Some(Vec::new())));
            self.disk.commit(set).await?;
        }
        Ok(())
    }

    /// Commits, whether or not the place is closed.
    pub(super) fn commit_at(
        &self,
        set: WriteSet,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        // The root's sets are queued here and now, in the order of these calls.
        let homes = Arc::clone(&self.homes);
        let (queued, apart) = match home_of(set.placement) {
            Ok(None) => (Some(self.disk.commit(set)), None),
            Ok(Some(home)) => (None, Some(Ok((home, set)))),
            Err(why) => (None, Some(Err(why))),
        };
        async move {
            if let Some(apart) = apart {
                let (home, set) = apart?;
                // Kept open until the commit is done.
                let disk = homes.open(home).await?;
                return disk.commit(set).await;
            }
            match queued {
                Some(queued) => queued.await,
                None => Ok(()),
            }
        }
    }

    /// The data of a tenant, if they can be read without opening a database: for background work.
    pub(super) fn data_if_open(&self, tenant: &OpenTenant) -> Result<Option<Arc<Db>>> {
        let placement = tenant.placement();
        if self.fences.is_left(placement) || placement.location != Location::Home {
            return Ok(None);
        }
        match Home::of(placement) {
            None => self.disk.db(0).map(Some),
            Some(home) => {
                let disk = self.homes.opened(home);
                disk.map(|disk| disk.db(data_index(placement))).transpose()
            }
        }
    }
}

impl Backend for Files {
    type View = Arc<Db>;

    fn is_shared(&self) -> bool {
        false
    }

    async fn refresh(&self, _held: Option<&Arc<Db>>) -> Result<()> {
        Ok(())
    }

    async fn confirm(&self, _tenant: &OpenTenant) -> Result<()> {
        Ok(())
    }

    async fn root(&self, _held: Option<&Arc<Db>>) -> Result<Arc<Db>> {
        self.disk.view(0).await
    }

    async fn root_for(&self, _tenant: &OpenTenant) -> Result<Arc<Db>> {
        self.disk.view(0).await
    }

    async fn view(&self, tenant: &OpenTenant) -> Result<Arc<Db>> {
        self.data(tenant).await
    }

    async fn change(&self, tenant: &OpenTenant) -> Result<Arc<Db>> {
        self.data(tenant).await
    }

    async fn change_first(&self, tenant: &OpenTenant) -> Result<Arc<Db>> {
        self.data(tenant).await
    }

    async fn change_root(&self, _tenants: &[&OpenTenant]) -> Result<Arc<Db>> {
        self.disk.view(0).await
    }

    async fn creating(&self) -> Result<Arc<Db>> {
        self.disk.view(0).await
    }

    fn can_make(&self, isolation: Isolation, _location: Location) -> Result<()> {
        match isolation {
            Isolation::Shared => Ok(()),
            Isolation::Schema | Isolation::Database => {
                // One at a time writes the file.
                let _lock = self.lock.lock();
                config::allow_apart(&self.folder)
            }
        }
    }

    async fn check_own(&self, _tenant: Option<TenantId>, _own: &OwnDatabase) -> Result<()> {
        Err(is_in_a_database())
    }

    fn own_changed(&self, _tenant: TenantId) {}

    async fn make_place(&self, tenant: &OpenTenant) -> Result<()> {
        self.make_at(tenant.placement()).await
    }

    fn submit(
        &self,
        _view: Arc<Db>,
        set: WriteSet,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let is_open = !self.fences.is_closed(set.placement);
        let done = is_open.then(|| self.commit_at(set));
        async move {
            match done {
                Some(done) => done.await,
                None => Err(moving::moved()),
            }
        }
    }

    async fn slot(&self, _root: &Arc<Db>, tenant: TenantId) -> Result<Slot> {
        self.slots.read(tenant)
    }

    fn wrap(&self, tenant: TenantId, key: &SealingKey, entropy: &dyn Entropy) -> Result<SlotWrite> {
        Ok(self.slots.wrap(tenant, key, entropy))
    }

    fn obstacle(&self, _placement: Placement) -> Option<Obstacle> {
        None
    }

    fn abandoned(&self, _placement: Placement, _own: Option<&OwnDatabase>) {
        // All that a tenant leaves is at home, where nothing is given up.
    }

    /// A crash in here is made good by the purger at the next start.
    async fn tenant_gone(&self, tenant: TenantId) -> Result<()> {
        self.hot.forget_tenant(tenant);
        self.purge.notify_one();
        let slots = Arc::clone(&self.slots);
        compute(usize::MAX, move || slots.erase(tenant)).await?;
        self.forget_saved_tenant(tenant).await
    }

    async fn remove_place(&self, placement: Placement, _was_made: bool) -> Result<bool> {
        match home_of(placement)? {
            None => {}
            Some(home @ Home::Own(..)) => self.homes.remove(home).await?,
            Some(Home::Bucket(bucket)) => {
                let bucket = keys::Bucket { bucket }.encode(Prefix::of(TenantId::INSTALLATION));
                // Without it no place in the bucket was ever made.
                if Db::get(&*self.disk.db(0)?, Space::Catalog, &bucket)?.is_some() {
                    let rows = Rows { placement, space: Space::Data };
                    self.remove_all(rows, Prefix::of(placement.tenant).everything()).await?;
                }
            }
        }
        Ok(true)
    }

    /// The purger waits for whoever makes one.
    async fn unmake_place(&self, _placement: Placement) -> Result<()> {
        Ok(())
    }

    async fn place_opened(&self, placement: Placement) -> Result<()> {
        self.unpurged.lock().insert(placement.tenant);
        self.purge.notify_one();
        Ok(())
    }

    async fn collections_gone(&self, placement: Placement, numbers: Vec<u32>) -> Result<()> {
        let tenant = placement.tenant;
        if placement.is_apart() {
            self.unpurged.lock().insert(tenant);
        }
        for number in &numbers {
            self.hot.forget(tenant, CollectionNumber(*number));
        }
        self.purge.notify_one();
        self.forget_saved(tenant, numbers).await
    }
}

/// The database of a placement; `None` for the root.
fn home_of(placement: Placement) -> Result<Option<Home>> {
    match placement.location {
        Location::Home => Ok(Home::of(placement)),
        Location::Named(_) | Location::Own => Err(is_in_a_database()),
    }
}

fn is_in_a_database() -> Error {
    Error::internal("what is in a database of PostgreSQL is asked for in files")
}
