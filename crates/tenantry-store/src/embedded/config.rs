//! How an embedded store is opened: the folder, its lock, its format and the master key.

use super::{saved::SavedConfig, seal::SealingKey};
use crate::{
    DatabasesConfig, Entropy, SystemClock, SystemEntropy,
    pool::{Pool, PoolConfig},
    tenancy::master::{MasterKey, open_error, write_new},
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    num::NonZeroU64,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use tenantry_index::IndexConfig;
use tenantry_types::{Clock, Error, ErrorKind, Isolation, Result};

/// The first line of the file `format`. A newer format gets a new number.
const FORMAT: &str = "tenantry-embedded 1\n";
/// The same of a folder with tenants that live apart: a program that does not know of them would
/// take them for damage, and leave their databases behind when it deletes them.
const FORMAT_APART: &str = "tenantry-embedded 2\n";
/// The same of a folder with tenants that were moved.
const FORMAT_MOVES: &str = "tenantry-embedded 3\n";
/// The same of a folder with tenants whose data are in databases of PostgreSQL.
const FORMAT_DATABASES: &str = "tenantry-embedded 4\n";
/// The same of a folder with plans, to which an older program would not hold, and logs of version 2, in
/// which it would go on with version 1. Every folder gets it when this program opens it.
const FORMAT_BOUND: &str = "tenantry-embedded 5\n";
/// All of them.
const FORMATS: [&str; 5] = [FORMAT, FORMAT_APART, FORMAT_MOVES, FORMAT_DATABASES, FORMAT_BOUND];
/// What a folder without `format` may hold: what a first start that was cut short has left, a
/// master key that was put there for it, and what a fresh file system brings.
const BEFORE_FORMAT: &[&str] =
    &["lock", "format.new", "master.key", "master.new", "slots", "lost+found"];

/// How to open an embedded store.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// The folder; made if it does not exist.
    pub data_dir: PathBuf,
    /// Where the master key comes from.
    pub master_key: MasterKey,
    /// Bytes that hot partitions of all tenants may take.
    pub memory_budget_bytes: u64,
    /// Bytes of the database's block cache.
    pub cache_bytes: u64,
    /// Where tenants' work waits for its turn.
    pub pool: Pool,
    /// How vectors are kept and found in memory. The seed is each collection's own.
    pub index: IndexConfig,
    /// What is saved of hot partitions, so that they are found faster when they are cold.
    pub saved: SavedConfig,
    /// Where a tenant lives that is made without a word about it.
    pub default_isolation: Isolation,
    /// Databases of tenants that live apart, open at once if no more are in use.
    pub open_databases: usize,
    /// Databases of PostgreSQL that tenants may be in too.
    pub databases: DatabasesConfig,
    /// Bytes a second that are copied, and then compared, of tenants that are moved: at most, and one
    /// piece at once. Without it moves rest three times as long as they work.
    pub move_rate: Option<NonZeroU64>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub entropy: Arc<dyn Entropy>,
}

impl EmbeddedConfig {
    /// Defaults: key file, 1 GiB for hot partitions, 4 MiB block cache, the system's clock and
    /// randomness.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            master_key: MasterKey::File,
            memory_budget_bytes: 1 << 30,
            cache_bytes: 4 << 20,
            pool: Pool::new(PoolConfig::default()),
            index: IndexConfig::default(),
            saved: SavedConfig::default(),
            default_isolation: Isolation::Shared,
            open_databases: 64,
            databases: DatabasesConfig::default(),
            move_rate: None,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }

    /// The master key; makes the key file of a new folder.
    pub(super) fn master_key(&self, folder: &Path) -> Result<SealingKey> {
        if let Some(key) = self.master_key.read(folder)? {
            return Ok(key);
        }
        if folder.join("slots").exists() || folder.join("db").exists() {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "the master key {} is missing; the data in this folder cannot be opened \
                     without it",
                    MasterKey::file(folder).display()
                ),
            ));
        }
        MasterKey::make_file(folder, &*self.entropy)
    }
}

/// The path of the slot file, which a folder with a database must have.
pub(super) fn slot_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("slots");
    if !path.exists() && folder.join("db").join("version").exists() {
        return Err(Error::corrupt(format!(
            "the slot file {} is missing; the data in this folder cannot be read without it",
            path.display()
        )));
    }
    Ok(path)
}

/// Removes what a first start that was cut short has left of a database, and refuses a folder
/// that has lost its database. `slots` counts the slots of the slot file: the first commit ever
/// writes one before it writes to the database, so without any there is nothing to lose.
pub(super) fn prepare_database(folder: &Path, slots: u64) -> Result<()> {
    let path = folder.join("db");
    if fs::metadata(path.join("version")).is_ok_and(|version| version.len() >= 4) {
        return Ok(());
    }
    if slots > 0 {
        return Err(Error::corrupt(format!(
            "the database in {} is lost or damaged: its version file is missing",
            path.display()
        )));
    }
    if path.exists() {
        fs::remove_dir_all(&path).map_err(|why| open_error("remove the unfinished", &path, why))?;
    }
    // Names and ids stand unsealed in its keys.
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|why| open_error("make", &path, why))
}

/// Makes the folder if need be, takes its lock and checks its format. The lock is held for as long
/// as the returned file lives. Nothing is written into a folder that belongs to something else.
pub(super) fn prepare_folder(folder: &Path) -> Result<File> {
    if !folder.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|why| open_error("make the data folder", folder, why))?;
        // A parent that may not be read cannot be synchronised either.
        if let Some(Ok(parent)) = folder.parent().map(File::open) {
            parent.sync_all().map_err(|why| open_error("synchronise around", folder, why))?;
        }
    }
    // Before the lock, which is a file in the folder.
    has_format(folder)?;
    let path = folder.join("lock");
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|why| open_error("write in the data folder", &path, why))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the data folder {} is in use by another process", folder.display()),
            ));
        }
        Err(fs::TryLockError::Error(why)) => return Err(open_error("lock", &path, why)),
    }
    if !has_format(folder)? {
        let path = folder.join("format");
        write_new(&path, FORMAT.as_bytes()).map_err(|why| open_error("write", &path, why))?;
    }
    Ok(lock)
}

/// True if the folder has the format that this program knows, false if it may be given it.
fn has_format(folder: &Path) -> Result<bool> {
    let path = folder.join("format");
    match fs::read(&path) {
        Ok(text) if FORMATS.iter().any(|known| text == known.as_bytes()) => {
            return Ok(true);
        }
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the data folder {} has format {:?}, this program knows {:?} to {:?}",
                    folder.display(),
                    text.trim().chars().take(80).collect::<String>(),
                    FORMAT.trim(),
                    FORMAT_BOUND.trim()
                ),
            ));
        }
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {}
        Err(why) => return Err(open_error("read", &path, why)),
    }
    let slots = fs::metadata(folder.join("slots")).map_or(0, |slots| slots.len());
    let foreign = foreign_entry(folder)?;
    // Another process may have made its first start since `format` was looked for.
    if path.exists() {
        return has_format(folder);
    }
    if slots > 0 || folder.join("db").join("version").exists() {
        return Err(Error::corrupt(format!(
            "the data folder {} holds data but no format file",
            folder.display()
        )));
    }
    match foreign {
        None => Ok(false),
        Some(name) => Err(Error::invalid(format!(
            "the folder {} is not a Tenantry data folder and is not empty (it holds {name:?}): \
             name an empty folder, or one that does not exist yet",
            folder.display(),
            name = name.to_string_lossy()
        ))),
    }
}

/// Lets a folder have tenants that live apart.
pub(super) fn allow_apart(folder: &Path) -> Result<()> {
    raise_format(folder, FORMAT_APART)
}

/// Lets a folder have tenants that are moved: a program that does not know of them would leave half
/// of one behind when it deletes it.
pub(super) fn allow_moves(folder: &Path) -> Result<()> {
    raise_format(folder, FORMAT_MOVES)
}

/// Lets a folder have tenants whose data are in databases of PostgreSQL: a program that does not
/// know of them would leave all of one behind when it deletes it.
pub(super) fn allow_databases(folder: &Path) -> Result<()> {
    raise_format(folder, FORMAT_DATABASES)
}

/// Lets a folder have logs of version 2.
pub(super) fn allow_bound(folder: &Path) -> Result<()> {
    raise_format(folder, FORMAT_BOUND)
}

/// Writes the format, unless it is a later one already.
fn raise_format(folder: &Path, least: &str) -> Result<()> {
    let path = folder.join("format");
    let failed = |why| open_error("write", &path, why);
    let now = fs::read(&path).map_err(failed)?;
    let at = |format: &[u8]| FORMATS.iter().position(|known| format == known.as_bytes());
    if at(&now) >= at(least.as_bytes()) {
        return Ok(());
    }
    write_new(&path, least.as_bytes()).map_err(failed)
}

/// An entry of a folder without `format` that Tenantry has not put there.
fn foreign_entry(folder: &Path) -> Result<Option<OsString>> {
    let failed = |why| open_error("read the folder", folder, why);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if !BEFORE_FORMAT.iter().any(|known| name == *known) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
