//! The embedded backend: fjall is the truth, indexes are disposable.
//!
//! A request's way: scope → [`tenants::OpenTenant`] (data key, counters, writer's lock) → keys of
//! that tenant only (`keys`) → sealed values (`seal`) → one queue and one synchronised batch
//! (`db`). Queries are answered from hot partitions (`hot`), which are loaded on first use and
//! dropped when the memory budget asks for it. `docs/formats/embedded.md` is the disk format.

mod ahead;
mod carry;
mod config;
mod courtesy;
mod db;
mod fetch;
mod files;
mod footprint;
mod homes;
mod hot;
mod journal;
mod load;
mod maintenance;
mod manifest;
mod opened;
mod partition;
mod purge;
mod read;
mod recall;
mod saved;
mod select;
mod slots;
mod vectors;
mod write;

pub use config::EmbeddedConfig;
pub use saved::SavedConfig;

use crate::{
    BackendKind, Health, Site, StoreTotals, pace,
    pool::compute,
    sites::Sites,
    tenancy::{
        Space, Tenancy, WriteSet, arrival, catalog, commit, complete, disk, keys,
        keys::Prefix,
        master::open_error,
        moving, number,
        place::Placement,
        seal, slot,
        slot::Slot,
        tenants,
        tenants::{OpenTenant, Tenants},
    },
};
use carry::Fences;
use db::{Disk, Generation};
use homes::Homes;
use hot::HotSet;
use maintenance::Maintenance;
use opened::{BlockCache, Db, Kind, Layout};
use parking_lot::Mutex;
use saved::Saved;
use slots::SlotFile;
use std::{
    fs::File,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Isolation, Limits, Location, Result};

pub(crate) use files::Files;

/// Rows in files.
pub(crate) use carry::FilesRows;

pub(crate) type FilesView = Arc<Db>;

/// Records in files. All operations on them are those of [`crate::Store`].
#[derive(Debug, Clone)]
pub(crate) struct Embedded {
    pub(crate) inner: Arc<Inner>,
}

/// The files, and the tenants that are in them or in other places.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tenancy: Arc<Tenancy<Sites>>,
    files: Arc<Files>,
}

impl Deref for Inner {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.files
    }
}

impl Files {
    /// Opens or creates the files of a store in a folder. Must be called inside a tokio runtime.
    pub(crate) fn open(
        config: &EmbeddedConfig,
        tenants: &Arc<Tenants>,
        revocations: &Arc<AtomicU64>,
    ) -> Result<Arc<Self>> {
        let folder = config.data_dir.as_path();
        let lock = config::prepare_folder(folder)?;
        let master = config.master_key(folder)?;
        let slots = Arc::new(SlotFile::open(&config::slot_file(folder)?, master)?);
        let pool = config.pool.clone();
        let maintenance = Maintenance::new(pool.clone());
        let hot = Arc::new(HotSet::new(config.memory_budget_bytes, maintenance));
        let forget = {
            let (tenants, hot) = (Arc::clone(tenants), Arc::clone(&hot));
            let revocations = Arc::clone(revocations);
            move |generation| {
                // A revocation that was answered with an error may have been done.
                revocations.fetch_add(1, Ordering::AcqRel);
                tenants.forget_older(generation);
                hot.forget_all(generation);
            }
        };
        config::prepare_database(folder, slots.count()?)?;
        let cache = BlockCache::new(config.cache_bytes);
        let layout = Layout { folder: folder.join("db"), kind: Kind::Root, cache: cache.clone() };
        let generation = Generation::new(forget);
        let disk = Disk::open(layout, Some(Arc::clone(&slots)), generation.clone())?;
        let homes = Homes::new(folder, cache, generation, config.open_databases);
        // The folder's own entries must not be lost when what is in them is not.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|why| open_error("synchronise the data folder", folder, why))?;
        let saved = Saved::new(folder, config.saved.clone(), config.memory_budget_bytes);
        Ok(Arc::new(Self {
            saved: Arc::new(saved),
            disk,
            homes,
            slots,
            hot,
            pool,
            entropy: Arc::clone(&config.entropy),
            index: config.index,
            purge: Arc::default(),
            unpurged: Mutex::default(),
            emptied: Mutex::default(),
            fences: Fences::default(),
            folder: folder.to_owned(),
            lock: Mutex::new(Some(lock)),
        }))
    }
}

impl Embedded {
    /// Opens the installation that has its root in the files, or makes it.
    pub(crate) fn open(files: Arc<Files>, tenancy: &Arc<Tenancy<Sites>>) -> Result<Self> {
        let inner = Arc::new(Inner { tenancy: Arc::clone(tenancy), files });
        inner.start()?;
        Ok(Self { inner })
    }

    /// Says that these files are the installation, and no copy of them: databases are taken anew at
    /// the next start.
    pub(crate) async fn adopt(&self) -> Result<()> {
        let (root, installation) = (self.inner.db()?, Prefix::of(TenantId::INSTALLATION));
        let mut set = WriteSet::new(Placement::shared(TenantId::INSTALLATION), root.generation());
        for claimed in root.scan(Space::Catalog, &keys::Claimed::all(installation), None) {
            set.operations.push((Space::Catalog, claimed?.0.to_vec(), None));
        }
        let home = keys::Home {}.encode(installation);
        set.operations.push((Space::Catalog, home, Some(self.inner.identity()?)));
        drop(root);
        self.inner.disk.commit(set).await
    }

    /// Starts what works in the background; it ends with the store.
    pub(crate) fn spawn(&self) {
        purge::spawn(&self.inner);
        saved::spawn(&self.inner);
        moving::spawn(&self.inner.tenancy);
        arrival::spawn(&self.inner.tenancy);
    }

    /// The installation, which is open.
    pub(crate) fn installation(&self) -> Result<Arc<OpenTenant>> {
        ready(self.inner.tenancy.installation())
    }

    pub(crate) fn health(&self) -> Health {
        self.inner.disk.health()
    }

    pub(crate) fn site() -> Site {
        // Graphs are kept in memory, the same for all.
        Site {
            location: Location::Home,
            backend: BackendKind::Embedded,
            isolations: Isolation::ALL.to_vec(),
            dimension_max: u32::try_from(Limits::DIMENSION_MAX).unwrap_or(u32::MAX),
            graphs: None,
        }
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let (commits, syncs) = self.inner.disk.counts();
        let homes = self.inner.homes.totals();
        let open_tenants = self.inner.tenancy.tenants.len() as u64;
        let pool = self.inner.pool.totals();
        let (saved_written, saved_used, saved_refused, saved_bytes) = self.inner.saved.totals();
        StoreTotals {
            commits: commits + homes.commits,
            syncs: syncs + homes.syncs,
            open_databases: 1 + homes.open,
            read_only_databases: homes.read_only
                + u64::from(self.inner.disk.health() != Health::Ready),
            open_tenants,
            saved_written,
            saved_used,
            saved_refused,
            saved_bytes,
            pool,
            ..self.inner.hot.totals()
        }
    }

    pub(crate) fn close(&self) {
        self.inner.save_at_close();
        self.inner.homes.close();
        self.inner.disk.close();
        self.inner.hot.close();
        self.inner.purge.notify_one();
        self.inner.tenancy.moves.wake();
        self.inner.tenancy.arrivals.wake();
        self.inner.lock.lock().take();
    }
}

impl Inner {
    /// The root.
    fn db(&self) -> Result<Arc<Db>> {
        self.disk.db(0)
    }

    /// Logs are of version 2 from now on. Before the first entry, and after all that would refuse
    /// to open the folder: of a folder that is refused nothing is changed.
    fn bind_logs(&self) -> Result<()> {
        // One at a time writes the file.
        let _lock = self.lock.lock();
        config::allow_bound(&self.folder)?;
        self.tenancy.tenants.origins.open_gate();
        Ok(())
    }

    /// Makes the installation's own slot and row on first start; finds the next tenant id.
    fn start(&self) -> Result<()> {
        let db = self.db()?;
        let installation = Prefix::of(TenantId::INSTALLATION);
        let row_key = keys::Tenant {}.encode(installation);
        let has_row = db.get(Space::Catalog, &row_key)?.is_some();
        let slots = self.slots.count()?;
        match self.slots.read(TenantId::INSTALLATION) {
            Ok(Slot::Live(_)) if has_row => {
                // Opened now, so that damage shows at the start and not at the first key.
                ready(self.tenancy.installation())?;
                self.bind_logs()?;
            }
            // A first start that was cut short may have left the installation's slot, no other.
            Ok(Slot::Live(_) | Slot::Empty) if !has_row && slots <= 1 => {
                self.bind_logs()?;
                self.disk.commit_blocking(self.tenancy.founding(db.generation())?)?;
            }
            Ok(Slot::Live(_) | Slot::Erased) if !has_row => {
                return Err(Error::corrupt(format!(
                    "the database is lost or damaged: it holds nothing, but the slot file knows \
                     {slots} tenants"
                )));
            }
            Ok(_) => {
                return Err(Error::corrupt(
                    "the slot file is lost or damaged: it does not hold the installation's key",
                ));
            }
            Err(why) => {
                return Err(Error::new(why.kind(), format!("the installation's key: {why}"))
                    .with_source(why));
            }
        }
        let next_key = keys::NextTenant {}.encode(installation);
        let counted = match db.get(Space::Catalog, &next_key)? {
            Some(bytes) => number(&bytes)?,
            None => 1,
        };
        let slots = self.slots.count()?;
        if counted > slots {
            return Err(Error::corrupt(format!(
                "the slot file is truncated: it has {slots} slots, {counted} tenants were made"
            )));
        }
        self.tenancy.give_ids_from(counted.max(slots));
        Ok(())
    }
}

/// The outcome of work that waits for nothing: reading rows from files is done where it is asked
/// for.
fn ready<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    match std::pin::pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => Err(Error::internal("reading rows waited")),
    }
}

#[cfg(test)]
mod load_tests;
#[cfg(test)]
#[path = "moves_tests.rs"]
mod moves_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod totals_tests;
#[cfg(test)]
mod webhooks_tests;
