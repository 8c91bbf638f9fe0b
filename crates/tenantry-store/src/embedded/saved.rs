//! Partitions saved beside the truth, so that a cold one can be searched before it is loaded and
//! a large graph is not built again.
//!
//! A saved file is disposable: it can be absent, old, cut, flipped, of somebody else. It is used
//! only if it carries the stamp of the partition's records as they are now, or, for the links of a
//! graph, for those vectors whose codes are the same. What is refused is removed, and the truth is
//! used. Files go with their collection and their tenant: whoever deletes removes them after the
//! commit, the purger again before its note goes, and a sweep at the start those that a crash
//! brought back.
//!
//! `file` is the format, `save` says what is written and `copy` writes it, `load` brings back graphs, `query` searches cold
//! partitions.

mod copy;
mod file;
mod load;
mod query;
mod save;

pub(crate) use save::Marks;
pub(super) use save::spawn;

use super::{
    Inner, Space, compute,
    files::Files,
    keys::{self, Prefix},
    tenants::OpenTenant,
};
use file::Whose;
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    fs::{self, DirBuilder, DirEntry},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tenantry_auth::TenantId;
use tenantry_types::{CollectionNumber, Result};
use tokio::sync::Semaphore;

/// The folder within the data folder.
const FOLDER: &str = "saved";
const EXTENSION: &str = "seg";
/// Where a file is written before it has its name.
const UNFINISHED: &str = "new";

/// What is saved of partitions in memory, and how much of it.
#[derive(Debug, Clone)]
pub struct SavedConfig {
    /// Partitions with fewer records are loaded from the truth as fast as from anything.
    pub records_min: usize,
    /// How long a partition must not have been changed.
    pub quiet: Duration,
    /// Bytes that all saved files may take; the oldest go first. 0 saves and uses none.
    pub bytes_max: u64,
    /// Bytes of the file system that must be left free.
    pub free_min: u64,
    /// How long closing the store may take to save what is not saved yet.
    pub close_within: Duration,
}

impl Default for SavedConfig {
    /// From 1,024 records, after 10 seconds, 16 GiB in all, 1 GiB left free, 2 seconds to close.
    fn default() -> Self {
        Self {
            records_min: 1_024,
            quiet: Duration::from_secs(10),
            bytes_max: 16 << 30,
            free_min: 1 << 30,
            close_within: Duration::from_secs(2),
        }
    }
}

/// The saved files of all tenants.
#[derive(Debug)]
pub(crate) struct Saved {
    folder: PathBuf,
    config: SavedConfig,
    /// Of all files, as far as is known.
    bytes: AtomicU64,
    written: AtomicU64,
    used: AtomicU64,
    refused: AtomicU64,
    /// True once it was said that a file cannot be written.
    has_warned: AtomicBool,
    is_closing: AtomicBool,
    /// Held by whoever saves: one at a time.
    saving: Mutex<()>,
    /// Tenants of whom a partition is being loaded after it was searched on disk.
    warming: Mutex<HashSet<TenantId>>,
    /// MiB that segments of all tenants may take while cold partitions are searched.
    memory: Arc<Semaphore>,
    memory_mib: u32,
}

impl Saved {
    pub(crate) fn new(data_dir: &Path, config: SavedConfig, memory_budget: u64) -> Self {
        let memory_mib = u32::try_from(memory_budget >> 22).unwrap_or(u32::MAX).clamp(16, 1 << 20);
        Self {
            folder: data_dir.join(FOLDER),
            config,
            bytes: AtomicU64::new(0),
            written: AtomicU64::new(0),
            used: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            saving: Mutex::new(()),
            warming: Mutex::default(),
            memory: Arc::new(Semaphore::new(memory_mib as usize)),
            memory_mib,
        }
    }

    /// Files written, used and refused, and the bytes of all.
    pub(crate) fn totals(&self) -> (u64, u64, u64, u64) {
        let [written, used, refused, bytes] =
            [&self.written, &self.used, &self.refused, &self.bytes]
                .map(|counter| counter.load(Ordering::Relaxed));
        (written, used, refused, bytes)
    }

    fn is_on(&self) -> bool {
        self.config.bytes_max > 0
    }

    fn tenant_folder(&self, tenant: TenantId) -> PathBuf {
        self.folder.join(format!("{:016x}", tenant.get()))
    }

    fn path(&self, whose: Whose) -> PathBuf {
        let Whose { tenant, collection, partition, vector } = whose;
        let name = format!("{collection}-{partition}-{vector}.{EXTENSION}");
        self.tenant_folder(tenant).join(name)
    }

    /// Makes the folder of a tenant's files, for its owner's eyes only.
    fn make_folder(&self, tenant: TenantId) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.tenant_folder(tenant))
    }

    /// Counts bytes that came (`new`) and went.
    fn count(&self, new: u64, gone: u64) {
        let sum = |bytes: u64| Some(bytes.saturating_add(new).saturating_sub(gone));
        // The closure never refuses.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, sum);
    }

    /// A file that cannot be used goes. What is said names no tenant.
    fn refuse(&self, path: &Path, why: &tenantry_types::Error) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%why, "a saved index cannot be used; it is made again from the records");
        self.remove_file(path);
    }

    fn remove_file(&self, path: &Path) {
        let bytes = fs::metadata(path).map_or(0, |file| file.len());
        match fs::remove_file(path) {
            Ok(()) => self.count(0, bytes),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            Err(why) => tracing::warn!(%why, "remove a saved index"),
        }
    }

    /// Removes the files of a collection.
    fn remove_collection(&self, tenant: TenantId, collection: u32) {
        for entry in entries(&self.tenant_folder(tenant)) {
            if collection_of(&entry) == Some(collection) {
                self.remove_file(&entry.path());
            }
        }
        // Only if nothing is left in it.
        let _ = fs::remove_dir(self.tenant_folder(tenant));
    }

    fn remove_tenant(&self, tenant: TenantId) {
        let folder = self.tenant_folder(tenant);
        for entry in entries(&folder) {
            self.remove_file(&entry.path());
        }
        let _ = fs::remove_dir(folder);
    }

    /// Every file with its age and size, counted anew.
    fn list(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let mut files = Vec::new();
        for folder in entries(&self.folder) {
            for entry in entries(&folder.path()) {
                let Ok(file) = entry.metadata() else { continue };
                let changed = file.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push((changed, file.len(), entry.path()));
            }
        }
        self.bytes.store(files.iter().map(|(_, bytes, _)| bytes).sum(), Ordering::Relaxed);
        files
    }

    /// True if there may be a file of this size. The oldest go to make room for it.
    fn has_room(&self, bytes: u64) -> bool {
        // One file may not drive out most of the others.
        if bytes > self.config.bytes_max / 2 || !self.has_free(bytes) {
            return false;
        }
        if self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.config.bytes_max {
            return true;
        }
        let mut files = self.list();
        files.sort_unstable_by_key(|(changed, ..)| *changed);
        // More than is needed, so that the files are not listed each time.
        let wanted = self.config.bytes_max.saturating_sub(bytes) / 8 * 7;
        for (_, _, path) in files {
            if self.bytes.load(Ordering::Relaxed) <= wanted {
                break;
            }
            self.remove_file(&path);
        }
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.config.bytes_max
    }

    /// True if the file system has that much to spare.
    fn has_free(&self, bytes: u64) -> bool {
        let parent = self.folder.parent().unwrap_or(&self.folder);
        rustix::fs::statvfs(parent).is_ok_and(|found| {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            free >= self.config.free_min.saturating_add(bytes)
        })
    }
}

impl Files {
    /// Removes the files of deleted collections; their rows are gone.
    pub(super) async fn forget_saved(&self, tenant: TenantId, collections: Vec<u32>) -> Result<()> {
        let saved = Arc::clone(&self.saved);
        compute(usize::MAX, move || {
            for collection in collections {
                saved.remove_collection(tenant, collection);
            }
            Ok(())
        })
        .await
    }

    /// Removes the files of a collection whose vectors have changed and that is not in memory,
    /// where they would be written anew: they hold codes of what is gone.
    pub(super) async fn forget_codes(
        &self,
        tenant: &OpenTenant,
        collection: CollectionNumber,
    ) -> Result<()> {
        if !self.saved.is_on() || self.hot.get(tenant, collection).is_some() {
            return Ok(());
        }
        self.forget_saved(tenant.id(), vec![collection.0]).await
    }

    /// Removes the files of an erased tenant.
    pub(super) async fn forget_saved_tenant(&self, tenant: TenantId) -> Result<()> {
        let saved = Arc::clone(&self.saved);
        compute(usize::MAX, move || {
            saved.remove_tenant(tenant);
            Ok(())
        })
        .await
    }
}

impl Inner {
    /// Removes what a crash has left, and counts the rest.
    fn sweep_saved(&self) -> Result<()> {
        // Whoever closes the store waits for it.
        let _saving = self.saved.saving.lock();
        for folder in entries(&self.saved.folder) {
            let Some(tenant) = tenant_of(&folder) else { continue };
            let (db, prefix) = (self.db()?, Prefix::of(tenant));
            if db.get(Space::Catalog, &keys::Tenant {}.encode(prefix))?.is_none() {
                self.saved.remove_tenant(tenant);
                continue;
            }
            let place = keys::Place { tenant: tenant.get() };
            let place = place.encode(Prefix::of(TenantId::INSTALLATION));
            let is_apart = db.get(Space::Catalog, &place)?.is_some();
            for entry in entries(&folder.path()) {
                let is_finished = entry.path().extension().is_some_and(|end| end == EXTENSION);
                let lives = match collection_of(&entry).filter(|_| is_finished) {
                    // Not looked at: its database would have to be opened. What is not current
                    // is not used, and goes when it is written anew.
                    Some(_) if is_apart => true,
                    Some(collection) => {
                        let row = keys::Collection { collection }.encode(prefix);
                        db.get(Space::Data, &row)?.is_some()
                    }
                    None => false,
                };
                if !lives {
                    self.saved.remove_file(&entry.path());
                }
            }
            let _ = fs::remove_dir(folder.path());
        }
        self.saved.list();
        Ok(())
    }
}

/// What is in a folder; nothing if it cannot be read.
fn entries(folder: &Path) -> Vec<DirEntry> {
    fs::read_dir(folder).map(|all| all.flatten().collect()).unwrap_or_default()
}

fn tenant_of(folder: &DirEntry) -> Option<TenantId> {
    let name = folder.file_name();
    let digits = name.to_str().filter(|name| name.len() == 16)?;
    u64::from_str_radix(digits, 16).ok().map(TenantId::new)
}

/// The collection of a file.
fn collection_of(file: &DirEntry) -> Option<u32> {
    let name = file.file_name();
    let (number, _) = name.to_str()?.split_once('-')?;
    number.parse().ok()
}
