//! The databases of tenants that live apart: opened on use, the least recently used closed.
//!
//! A tenant with `database` has a folder of its own, one with `schema` a keyspace of a bucket,
//! which it shares with up to 63 others. A database is closed only while nobody reads or writes
//! it; closing one in order forgets nothing that is in memory of its tenants.

use super::{
    db::{Disk, Generation},
    open_error,
    opened::{BlockCache, Kind, Layout, SPACES},
};
use crate::tenancy::place::Placement;
use lru::LruCache;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Result};
use tokio::sync::OwnedMutexGuard;

/// A database apart from the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Home {
    Bucket(u32),
    /// Of a tenant, and of which of its stays.
    Own(TenantId, u32),
}

impl Home {
    /// Where a tenant's data are; `None` if in the root.
    pub(super) fn of(placement: Placement) -> Option<Self> {
        match placement.isolation {
            Isolation::Shared => None,
            Isolation::Schema => Some(Self::Bucket(placement.space / SPACES)),
            Isolation::Database => Some(Self::Own(placement.tenant, placement.stay)),
        }
    }

    /// The folder below the data folder. Nothing in it was chosen by a caller.
    fn folder(self) -> PathBuf {
        match self {
            Self::Bucket(number) => Path::new("buckets").join(format!("{number:08x}")),
            // Two steps, so that no folder has too many entries.
            Self::Own(tenant, stay) => {
                let id = tenant.get();
                let name = match stay {
                    0 => format!("{id:016x}"),
                    stay => format!("{id:016x}.{stay}"),
                };
                Path::new("own").join(format!("{:02x}", id & 0xff)).join(name)
            }
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Bucket(_) => Kind::Bucket,
            Self::Own(..) => Kind::Own,
        }
    }

    fn words(self) -> String {
        match self {
            Self::Bucket(number) => format!("the database of bucket {number}"),
            Self::Own(tenant, _) => format!("the database of tenant {tenant}"),
        }
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Homes {
    folder: PathBuf,
    cache: BlockCache,
    generation: Generation,
    /// Databases open at once, if no more are in use.
    max: usize,
    state: Mutex<State>,
    /// Held while a folder is made or removed, so that none is after the end.
    folders: RwLock<()>,
}

#[derive(Debug)]
struct State {
    open: LruCache<Home, Arc<Disk>>,
    /// Held by whoever opens, closes or removes one.
    turns: HashMap<Home, Arc<tokio::sync::Mutex<()>>>,
    is_closed: bool,
    /// Databases that are being opened.
    pending: usize,
    /// Commits and synchronisations of those that were closed.
    counts: (u64, u64),
}

/// How long an opening waits until others are done with theirs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The right to open one more.
struct Pending(Arc<Homes>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.state.lock().pending -= 1;
    }
}

/// Whether one more can be opened.
enum Room {
    There,
    /// If this one is closed first, which whoever has it may do.
    Unused(Arc<Disk>, OwnedMutexGuard<()>),
    None,
}

/// What databases apart have done, and how many are open.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct HomeTotals {
    pub(super) open: u64,
    pub(super) read_only: u64,
    pub(super) commits: u64,
    pub(super) syncs: u64,
}

impl Homes {
    pub(super) fn new(
        folder: &Path,
        cache: BlockCache,
        generation: Generation,
        max: usize,
    ) -> Arc<Self> {
        let state = State {
            open: LruCache::unbounded(),
            turns: HashMap::new(),
            is_closed: false,
            pending: 0,
            counts: (0, 0),
        };
        let (folder, state) = (folder.to_owned(), Mutex::new(state));
        let folders = RwLock::new(());
        Arc::new(Self { folder, cache, generation, max: max.max(1), state, folders })
    }

    /// The database, if it is open.
    pub(super) fn opened(&self, home: Home) -> Option<Arc<Disk>> {
        self.state.lock().open.get(&home).map(Arc::clone)
    }

    /// The database, opened if it is not.
    pub(super) async fn open(self: &Arc<Self>, home: Home) -> Result<Arc<Disk>> {
        if let Some(disk) = self.opened(home) {
            return Ok(disk);
        }
        let turn = self.turn(home).lock_owned().await;
        if let Some(disk) = self.opened(home) {
            return Ok(disk);
        }
        let room = self.make_room().await?;
        let homes = Arc::clone(self);
        blocking(move || {
            let _room = room;
            homes.open_whole(home, turn)
        })
        .await
    }

    /// Makes a database that nothing was ever answered from, and opens it. What a making that was
    /// cut short has left is removed; one that is whole is only opened.
    pub(super) async fn make(self: &Arc<Self>, home: Home, is_whole: bool) -> Result<Arc<Disk>> {
        let turn = self.turn(home).lock_owned().await;
        if let Some(disk) = self.opened(home) {
            return Ok(disk);
        }
        let room = self.make_room().await?;
        let homes = Arc::clone(self);
        blocking(move || {
            let (_room, _folders) = (room, homes.folders()?);
            let folder = homes.folder.join(home.folder());
            if !is_whole && !folder.join(MADE).exists() {
                homes.make_anew(home, &folder)?;
            } else if !is_whole {
                // Its making may have been cut short after the last word.
                let failed = |why| open_error("synchronise the database", &folder, why);
                homes.synchronise(&folder).map_err(failed)?;
            }
            homes.open_whole(home, turn)
        })
        .await
    }

    /// Closes a tenant's own database and removes it.
    pub(super) async fn remove(self: &Arc<Self>, home: Home) -> Result<()> {
        if matches!(home, Home::Bucket(_)) {
            return Err(Error::internal("a bucket is others' too"));
        }
        let turn = self.turn(home).lock_owned().await;
        let homes = Arc::clone(self);
        blocking(move || {
            let (_turn, _folders) = (turn, homes.folders()?);
            if let Some(disk) = homes.take(home) {
                homes.close_one(&disk);
            }
            let folder = homes.folder.join(home.folder());
            // Without the mark first: half a database must not look whole.
            let removed = remove_if_there(&folder.join(MADE), |path| fs::remove_file(path))
                .and_then(|()| remove_if_there(&folder, |path| fs::remove_dir_all(path)))
                .and_then(|()| homes.synchronise_around(&folder));
            removed.map_err(|why| open_error("remove the database", &folder, why))
        })
        .await
    }

    /// True if nobody reads or writes it.
    pub(super) fn is_unused(&self, home: Home) -> bool {
        let state = self.state.lock();
        state.open.peek(&home).is_none_or(|disk| Arc::strong_count(disk) == 1 && disk.is_unread())
    }

    /// The right to make and remove folders.
    fn folders(&self) -> Result<RwLockReadGuard<'_, ()>> {
        let right = self.folders.read();
        if self.state.lock().is_closed {
            return Err(Error::new(ErrorKind::Unavailable, "the store is closing"));
        }
        Ok(right)
    }

    pub(super) fn totals(&self) -> HomeTotals {
        let state = self.state.lock();
        let (commits, syncs) = state.counts;
        let mut totals = HomeTotals { open: state.open.len() as u64, read_only: 0, commits, syncs };
        for (_, disk) in &state.open {
            let (commits, syncs) = disk.counts();
            totals.commits += commits;
            totals.syncs += syncs;
            totals.read_only += u64::from(disk.health() != crate::Health::Ready);
        }
        totals
    }

    /// Closes all, and opens none any more.
    pub(super) fn close(&self) {
        let open: Vec<_> = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::iter::from_fn(|| state.open.pop_lru()).collect()
        };
        for (_, disk) in open {
            disk.close();
        }
        drop(self.folders.write());
    }

    fn turn(&self, home: Home) -> Arc<tokio::sync::Mutex<()>> {
        let mut state = self.state.lock();
        if state.turns.len() > 4 * self.max {
            state.turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(state.turns.entry(home).or_default())
    }

    fn take(&self, home: Home) -> Option<Arc<Disk>> {
        self.state.lock().open.pop(&home)
    }

    fn close_one(&self, disk: &Disk) {
        disk.close();
        let (commits, syncs) = disk.counts();
        let mut state = self.state.lock();
        state.counts.0 += commits;
        state.counts.1 += syncs;
    }

    /// Closes databases that nobody uses until there is room for one more. If all are in use,
    /// there may be twice as many; then it waits.
    async fn make_room(self: &Arc<Self>) -> Result<Pending> {
        let begun = Instant::now();
        loop {
            match self.least_used() {
                Room::There => return Ok(Pending(Arc::clone(self))),
                Room::Unused(disk, turn) => {
                    let homes = Arc::clone(self);
                    blocking(move || {
                        let _turn = turn;
                        homes.close_one(&disk);
                        Ok(())
                    })
                    .await?;
                }
                Room::None if begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Room::None => {
                    return Err(Error::new(
                        ErrorKind::Busy,
                        "too many databases are in use at once; try again",
                    ));
                }
            }
        }
    }

    /// The least recently used of too many that nobody uses, taken out.
    fn least_used(&self) -> Room {
        let mut state = self.state.lock();
        // Those that take no writes stay until they come back, and must not keep others out.
        let well = |disk: &Arc<Disk>| disk.health() == crate::Health::Ready;
        let taken = state.open.iter().filter(|(_, disk)| well(disk)).count() + state.pending;
        let is_crowded = state.open.len() + state.pending >= 4 * self.max;
        if taken < self.max && !is_crowded {
            state.pending += 1;
            return Room::There;
        }
        let State { open, turns, .. } = &mut *state;
        // Nobody gets one while the state is locked, so one that is unused stays so.
        let found = open.iter().rev().find_map(|(home, disk)| {
            // One that takes no writes comes back by itself, and only so is what failed known.
            let is_unused = Arc::strong_count(disk) == 1 && disk.is_unread() && well(disk);
            if !is_unused {
                return None;
            }
            let turn = Arc::clone(turns.entry(*home).or_default());
            turn.try_lock_owned().ok().map(|turn| (*home, turn))
        });
        match found.and_then(|(home, turn)| Some((open.pop(&home)?, turn))) {
            Some((disk, turn)) => Room::Unused(disk, turn),
            None if taken < 2 * self.max && !is_crowded => {
                state.pending += 1;
                Room::There
            }
            None => Room::None,
        }
    }

    fn open_whole(&self, home: Home, _turn: OwnedMutexGuard<()>) -> Result<Arc<Disk>> {
        let folder = self.folder.join(home.folder());
        let db = folder.join("db");
        let is_there = fs::metadata(db.join("version")).is_ok_and(|version| version.len() >= 4);
        if !is_there || !folder.join(MADE).exists() {
            let words = home.words();
            let message = format!("{words} in {} is lost or damaged", folder.display());
            return Err(Error::corrupt(message));
        }
        let disk = Arc::new(self.open_disk(home, db)?);
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Unavailable, "the store is closing"));
        }
        state.open.put(home, Arc::clone(&disk));
        Ok(disk)
    }

    fn open_disk(&self, home: Home, folder: PathBuf) -> Result<Disk> {
        let layout = Layout { folder, kind: home.kind(), cache: self.cache.clone() };
        Disk::open(layout, None, self.generation.clone())
    }

    /// Makes a database with all its keyspaces; it has its mark only when it is whole.
    fn make_anew(&self, home: Home, folder: &Path) -> Result<()> {
        let failed = |why| open_error("make the database", folder, why);
        remove_if_there(folder, |path| fs::remove_dir_all(path)).map_err(failed)?;
        let db = folder.join("db");
        DirBuilder::new().recursive(true).mode(0o700).create(&db).map_err(failed)?;
        self.open_disk(home, db)?.close();
        let marked = File::create(folder.join(MADE)).and_then(|_| self.synchronise(folder));
        marked.map_err(failed)
    }

    /// Makes the mark of a database durable, and the names of its folder and of those above it.
    fn synchronise(&self, folder: &Path) -> std::io::Result<()> {
        File::open(folder.join(MADE))?.sync_all()?;
        File::open(folder)?.sync_all()?;
        self.synchronise_around(folder)
    }

    /// Makes the names of a folder and of those above it durable, up to the data folder.
    fn synchronise_around(&self, folder: &Path) -> std::io::Result<()> {
        let above = folder.ancestors().skip(1).take_while(|above| above.starts_with(&self.folder));
        for above in above.filter(|above| above.exists()) {
            File::open(above)?.sync_all()?;
        }
        Ok(())
    }
}

/// The file that says that a database was made whole.
const MADE: &str = "made";

fn remove_if_there(
    path: &Path,
    remove: impl FnOnce(&Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    match remove(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    super::compute(usize::MAX, work).await
}
