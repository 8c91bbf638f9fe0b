//! One fjall database, opened, and what is read of it.

use super::{Space, courtesy::courteous, journal};
use crate::tenancy::place::Placement;
use fjall::{
    AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _,
    Snapshot,
};
use std::{
    ops::Bound,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    thread::sleep,
    time::Duration,
};
use tenantry_types::{Error, ErrorKind, Isolation, Result};

/// fjall's commit waits without end for its background threads at 4 sealed tables in memory or 30
/// runs, even when an error has ended those threads. So this thread waits first, at lower marks,
/// and looks for that error while it waits.
const SEALED_TABLES_MAX: usize = 2;
/// fjall's background threads. With two or more its first one does not compact: while the others
/// do, it takes every waiting order off their queue and puts it back, without a pause, and so
/// takes a whole core from all tenants.
const WORKERS: usize = 1;
/// How much a table in memory takes before it is written out. Each one costs a synchronisation of
/// the journal that commits wait for, several of its own, and its share of compaction; with one
/// background thread it must also last while that thread compacts. A keyspace keeps the size that
/// it was made with.
const MEMTABLE_BYTES: u64 = 6 << 20;
/// The same of the catalog, which is small and seldom written.
const CATALOG_MEMTABLE_BYTES: u64 = 4 << 20;
/// The same of each of the many spaces of a bucket.
const BUCKET_MEMTABLE_BYTES: u64 = 2 << 20;
const RUNS_MAX: usize = 24;
/// What a database is for: the keyspaces that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The installation's catalog, and the data of all that live among others.
    Root,
    /// [`SPACES`] spaces, one for a tenant each. They are made with the database and never
    /// removed: fjall forgets the numbers of a removed keyspace's commits, and gives them again.
    Bucket,
    /// The data of one tenant.
    Own,
}

impl Kind {
    /// The size of a table in memory of a keyspace with data.
    fn memtable(self) -> u64 {
        match self {
            Self::Root | Self::Own => MEMTABLE_BYTES,
            Self::Bucket => BUCKET_MEMTABLE_BYTES,
        }
    }
}

/// Spaces of a bucket.
pub(super) const SPACES: u32 = 64;

/// A block cache that several databases have. The key of a block holds a number of its tree that
/// is given once in a process. fjall lets a cache be handed from one configuration to another, but
/// does not name its type.
#[derive(Clone)]
pub(super) struct BlockCache(fjall::Config);

impl BlockCache {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Database::builder(".").cache_size(bytes).into_config())
    }
}

impl std::fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BlockCache")
    }
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) folder: PathBuf,
    pub(super) kind: Kind,
    pub(super) cache: BlockCache,
}

/// One opened fjall database.
pub(super) struct Opened {
    pub(super) database: Database,
    kind: Kind,
    catalog: Option<Keyspace>,
    data: Vec<Keyspace>,
}

impl Opened {
    /// Opens the database. Damage that fjall answers with a panic is an error like any other.
    pub(super) fn open(layout: &Layout) -> Result<Self> {
        journal::check(&layout.folder)?;
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_unguarded(layout)));
        opened.unwrap_or_else(|panic| {
            let why = panic_text(&*panic);
            let folder = layout.folder.display();
            Err(Error::corrupt(format!("the database in {folder} cannot be opened: {why}")))
        })
    }

    fn open_unguarded(layout: &Layout) -> Result<Self> {
        let failed = |why| fjall_open_error(&layout.folder, why);
        let mut config = Database::builder(&layout.folder)
            .worker_threads(WORKERS)
            .with_compaction_filter_factories(courteous())
            .max_journaling_size(64 << 20)
            .max_cached_files(Some(match layout.kind {
                Kind::Root => 900,
                Kind::Bucket | Kind::Own => 64,
            }))
            .into_config();
        config.cache = Arc::clone(&layout.cache.0.cache);
        let database = Database::open(config).map_err(failed)?;
        let keyspace = |name: &str, memtable: u64| {
            database
                .keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(memtable))
                .map_err(failed)
        };
        let (kind, memtable) = (layout.kind, layout.kind.memtable());
        let (catalog, data) = match kind {
            Kind::Root => {
                let catalog = keyspace("catalog", CATALOG_MEMTABLE_BYTES)?;
                (Some(catalog), vec![keyspace("shared", memtable)?])
            }
            Kind::Bucket => {
                let space = |n| keyspace(&format!("s{n:02}"), memtable);
                (None, (0..SPACES).map(space).collect::<Result<_>>()?)
            }
            Kind::Own => (None, vec![keyspace("data", memtable)?]),
        };
        Ok(Self { database, kind, catalog, data })
    }

    /// Where a key lives. The root's rows are in the root only.
    pub(super) fn keyspace(&self, space: Space, index: usize) -> Result<&Keyspace> {
        let found = match space {
            Space::Catalog => self.catalog.as_ref(),
            Space::Data => self.data.get(index),
        };
        found.ok_or_else(|| Error::internal("a key was looked for in a wrong database"))
    }

    /// True if nothing is written out or merged that the next commits to a keyspace would wait for.
    /// With `is_early`, tables in memory that are nearly full are written out now. May block.
    pub(super) fn is_calm(&self, index: usize, is_early: bool) -> fjall::Result<bool> {
        let catalog = self.catalog.iter().map(|keyspace| (keyspace, CATALOG_MEMTABLE_BYTES));
        let data = self.data.get(index).map(|keyspace| (keyspace, self.kind.memtable()));
        let mut is_written = true;
        for (keyspace, bytes) in catalog.chain(data) {
            if is_early && keyspace.tree.active_memtable().size() > bytes / 4 * 3 {
                keyspace.rotate_memtable()?;
            }
            is_written &= keyspace.tree.sealed_memtable_count() == 0;
        }
        Ok(is_written && self.database.active_compactions() == 0)
    }

    /// Waits until fjall's background threads have caught up; fails if they have ended.
    pub(super) fn wait_for_room(&self, indexes: &[usize]) -> fjall::Result<()> {
        let behind = |keyspace: &Keyspace| {
            keyspace.tree.sealed_memtable_count() > SEALED_TABLES_MAX
                || keyspace.tree.l0_run_count() > RUNS_MAX
        };
        let data = || indexes.iter().filter_map(|index| self.data.get(*index));
        while self.catalog.iter().chain(data()).any(behind) {
            self.database.persist(PersistMode::Buffer)?;
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

/// The database as it stood at one moment: every read through one `Db` sees the same commits,
/// each of them whole.
pub(crate) struct Db {
    // Dropped before the database it belongs to.
    snapshot: Snapshot,
    opened: Arc<Opened>,
    /// Which keyspace the data of the tenant are in.
    index: usize,
    generation: u64,
}

impl Db {
    /// The data of one keyspace as they stand now.
    pub(super) fn new(opened: Arc<Opened>, index: usize, generation: u64) -> Self {
        Self { snapshot: opened.database.snapshot(), opened, index, generation }
    }

    /// Grows with every reopening.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The value of a key.
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<fjall::Slice>> {
        let found = self.snapshot.get(self.opened.keyspace(space, self.index)?, key);
        found.map_err(|why| read_error(&why))
    }

    /// Keys and values that start with `prefix`, from `from` on if given, in key order.
    pub(crate) fn scan(
        &self,
        space: Space,
        prefix: &[u8],
        from: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<(fjall::Slice, fjall::Slice)>> + use<> {
        let (iter, wrong) = match self.opened.keyspace(space, self.index) {
            Ok(keyspace) => match from {
                // Not beyond: where much was removed, a long way leads to the next key.
                Some(from) => {
                    let end = after(prefix).map_or(Bound::Unbounded, Bound::Excluded);
                    // A range that ends before it begins is a panic.
                    let range = match &end {
                        Bound::Excluded(end) if end.as_slice() <= from => None,
                        _ => {
                            let from = Bound::Included(from.to_vec());
                            Some(self.snapshot.range(keyspace, (from, end)))
                        }
                    };
                    (range, None)
                }
                None => (Some(self.snapshot.prefix(keyspace, prefix)), None),
            },
            Err(wrong) => (None, Some(Err(wrong))),
        };
        let prefix = prefix.to_vec();
        let found = iter.into_iter().flatten();
        let found = found.map(|guard| guard.into_inner().map_err(|why| read_error(&why)));
        wrong
            .into_iter()
            .chain(found)
            .take_while(move |item| item.as_ref().map_or(true, |(k, _)| k.starts_with(&prefix)))
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Db")
    }
}

/// The first key after all that start so; `None` if there is none.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    *end.last_mut()? += 1;
    Some(end)
}

/// The keyspace of a tenant's data within its database.
pub(super) fn data_index(placement: Placement) -> usize {
    match placement.isolation {
        Isolation::Schema => (placement.space % SPACES) as usize,
        Isolation::Shared | Isolation::Database => 0,
    }
}

/// Only failed checks are damage; a disk or a file table that fails may recover.
fn read_error(why: &fjall::Error) -> Error {
    let message = format!("read from the database: {why:?}");
    match why {
        fjall::Error::Io(_) | fjall::Error::Storage(fjall::LsmError::Io(_)) => {
            Error::new(ErrorKind::Unavailable, message)
        }
        _ => Error::corrupt(message),
    }
}

/// What a panic says.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

fn fjall_open_error(folder: &Path, why: fjall::Error) -> Error {
    match why {
        fjall::Error::Locked => Error::new(
            ErrorKind::Conflict,
            format!("the data folder {} is in use by another process", folder.display()),
        ),
        fjall::Error::Io(why) => super::open_error("open the database", folder, why),
        why => Error::new(
            ErrorKind::Corrupt,
            format!("the database in {} cannot be opened: {why:?}", folder.display()),
        ),
    }
}
