//! The embedded backend: fjall is the truth, indexes are disposable.
//!
//! A request's way: scope → [`tenants::OpenTenant`] (data key, counters, writer's lock) → keys of
//! that tenant only (`keys`) → sealed values (`seal`) → one queue and one synchronised batch
//! (`db`). Queries are answered from hot partitions (`hot`), which are loaded on first use and
//! dropped when the memory budget asks for it. `docs/formats/embedded.md` is the disk format.

mod ahead;
mod catalog;
mod config;
mod db;
mod disk;
mod disk_key;
mod fetch;
mod footprint;
mod hot;
mod journal;
mod key_rows;
mod keys;
mod maintenance;
mod manifest;
mod pace;
mod partition;
mod purge;
mod read;
mod recall;
mod saved;
mod seal;
mod select;
mod slots;
mod standing;
mod tenant_rows;
mod tenants;
mod vectors;
mod write;

pub use config::{EmbeddedConfig, MasterKey};
pub use saved::SavedConfig;

use crate::{AuditEvent, AuditOutcome, Entropy, Health, StoreTotals, pool::Pool};
use db::{Db, Disk, Space};
use hot::HotSet;
use key_rows::KeyCache;
use keys::Prefix;
use maintenance::Maintenance;
use parking_lot::Mutex;
use saved::Saved;
use seal::SealingKey;
use slots::{Slot, SlotFile};
use std::{
    collections::HashSet,
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tenantry_auth::{Level, Scope, TenantId};
use tenantry_index::IndexConfig;
use tenantry_types::{
    Clock, Error, ErrorKind, Isolation, Limits, Resource, Result, TenantName, TenantState,
    Timestamp,
};
use tenants::{Commit, OpenTenant, Tenants};
use zeroize::Zeroizing;

/// The embedded backend. All operations are those of [`crate::Store`].
#[derive(Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Disk,
    slots: Arc<SlotFile>,
    tenants: Arc<Tenants>,
    hot: Arc<HotSet>,
    saved: Saved,
    pool: Pool,
    index: IndexConfig,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    naming: Mutex<Naming>,
    /// Keys revoked and tenants suspended since the store was opened.
    revocations: Arc<AtomicU64>,
    keys: Mutex<KeyCache>,
    /// Wakes the purger.
    purge: Arc<tokio::sync::Notify>,
    /// Held for as long as the folder is in use.
    lock: Mutex<Option<File>>,
}

/// Names that are being given at this moment, and the next tenant id.
#[derive(Debug, Default)]
struct Naming {
    in_flight: HashSet<TenantName>,
    next_tenant: u64,
}

impl Embedded {
    /// Opens or creates the store in a folder. Must be called inside a tokio runtime.
    pub(crate) fn open(config: EmbeddedConfig) -> Result<Self> {
        let folder = config.data_dir.as_path();
        let lock = config::prepare_folder(folder)?;
        let master = config.master_key(folder)?;
        let slots = Arc::new(SlotFile::open(&config::slot_file(folder)?, master)?);
        let tenants = Arc::new(Tenants::new());
        let pool = config.pool.clone();
        let maintenance = Maintenance::new(pool.clone());
        let hot = Arc::new(HotSet::new(config.memory_budget_bytes, maintenance));
        let revocations = Arc::new(AtomicU64::new(0));
        let forget = {
            let (tenants, hot) = (Arc::clone(&tenants), Arc::clone(&hot));
            let revocations = Arc::clone(&revocations);
            move |generation| {
                // A revocation that was answered with an error may have been done.
                revocations.fetch_add(1, Ordering::AcqRel);
                tenants.forget_all();
                hot.forget_all(generation);
            }
        };
        config::prepare_database(folder, slots.count()?)?;
        let disk = Disk::open(&folder.join("db"), config.cache_bytes, Arc::clone(&slots), forget)?;
        // The folder's own entries must not be lost when what is in them is not.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|why| open_error("synchronise the data folder", folder, why))?;
        let saved = Saved::new(folder, config.saved.clone(), config.memory_budget_bytes);
        let inner = Arc::new(Inner {
            saved,
            disk,
            slots,
            tenants,
            hot,
            pool,
            index: config.index,
            clock: config.clock,
            entropy: config.entropy,
            naming: Mutex::default(),
            revocations,
            keys: Mutex::default(),
            purge: Arc::default(),
            lock: Mutex::new(Some(lock)),
        });
        inner.start()?;
        purge::spawn(&inner);
        saved::spawn(&inner);
        Ok(Self { inner })
    }

    pub(crate) fn health(&self) -> Health {
        self.inner.disk.health()
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn revocations(&self) -> u64 {
        self.inner.revocations.load(Ordering::Acquire)
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let (commits, syncs) = self.inner.disk.counts();
        let open_tenants = self.inner.tenants.len() as u64;
        let pool = self.inner.pool.totals();
        let (saved_written, saved_used, saved_refused, saved_bytes) = self.inner.saved.totals();
        StoreTotals {
            commits,
            syncs,
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
        self.inner.disk.close();
        self.inner.hot.close();
        self.inner.purge.notify_one();
        self.inner.lock.lock().take();
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn db(&self) -> Result<Arc<Db>> {
        self.disk.db()
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
                self.installation()?;
            }
            // A first start that was cut short may have left the installation's slot, no other.
            Ok(Slot::Live(_) | Slot::Empty) if !has_row && slots <= 1 => {
                self.create_installation()?;
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
        self.naming.lock().next_tenant = counted.max(slots).max(1);
        Ok(())
    }

    fn create_installation(&self) -> Result<()> {
        let info = crate::TenantInfo {
            id: TenantId::INSTALLATION,
            name: TenantName::parse("(installation)")?,
            state: TenantState::Active,
            isolation: Isolation::Shared,
            weight: 100,
            limits: Limits { keys: u32::MAX, ..Limits::default() },
            settings: std::collections::BTreeMap::new(),
            created_at: self.now(),
        };
        let key = self.new_data_key();
        let slot = self.slots.wrap(info.id, &key, &*self.entropy);
        let tenant = OpenTenant::new(info.clone(), key, self.db()?.generation());
        let mut commit = Commit::new(&tenant, &*self.entropy, self.now());
        commit.put_tenant(&info);
        commit.audit(done("store", "installation.create", "installation", 1));
        let (mut set, _) = commit.finish();
        set.slots.push(slot);
        self.disk.commit_blocking(set)
    }

    fn new_data_key(&self) -> SealingKey {
        let mut bytes = Zeroizing::new([0; 32]);
        self.entropy.fill("data key", &mut *bytes);
        SealingKey::new(bytes, 1)
    }

    /// Opens a tenant from its slot and its row; `None` if it does not live.
    fn open_tenant(&self, id: TenantId) -> Result<Option<Arc<OpenTenant>>> {
        self.tenants.get(id, || match self.slots.read(id)? {
            Slot::Live(key) => OpenTenant::load(&*self.db()?, id, key),
            Slot::Empty | Slot::Erased => Ok(None),
        })
    }

    /// The tenant of a scope.
    fn tenant<L: Level>(&self, scope: &Scope<L>) -> Result<Arc<OpenTenant>> {
        let gone = || Error::not_found(Resource::Tenant, "(deleted)");
        let tenant = self.open_tenant(scope.tenant())?.ok_or_else(gone)?;
        tenant.check_alive()?;
        self.stands(scope.standing(), Some(&tenant))?;
        Ok(tenant)
    }

    /// The installation, as the keeper of operator keys and the operator's audit log.
    fn installation(&self) -> Result<Arc<OpenTenant>> {
        self.open_tenant(TenantId::INSTALLATION)?
            .ok_or_else(|| Error::corrupt("the installation's row is gone"))
    }

    /// Commits what was collected for a tenant whose writer lock is held, and takes over its head.
    async fn commit(&self, tenant: &OpenTenant, commit: Commit<'_>) -> Result<()> {
        let (set, head) = commit.finish();
        self.disk.commit(set).await?;
        tenant.set_head(head);
        Ok(())
    }

    /// A new commit of a tenant whose writer lock is held.
    fn begin<'a>(&'a self, tenant: &'a OpenTenant) -> Result<Commit<'a>> {
        tenant.check_alive()?;
        Ok(Commit::new(tenant, &*self.entropy, self.now()))
    }
}

/// Runs a change to its end even if the caller goes away: a half-done change would leave names
/// reserved or memory behind the disk.
async fn complete<T: Send + 'static>(
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(change).await {
        Ok(outcome) => outcome,
        Err(why) => Err(Error::internal("a change was aborted").with_source(why)),
    }
}

/// Work below this many bytes to read is done where it is asked for; above, on a thread that may
/// block.
const INLINE_BYTES: usize = 256 << 10;

/// Runs work that touches about `bytes` bytes.
async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes <= INLINE_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(why) => Err(Error::internal("work was aborted").with_source(why)),
    }
}

/// An audit event of something done.
fn done(actor: &str, action: &str, target: &str, count: u64) -> AuditEvent {
    AuditEvent {
        actor: actor.to_owned(),
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: AuditOutcome::Done,
        count,
    }
}

/// A clear number on disk.
fn number(bytes: &[u8]) -> Result<u64> {
    match bytes {
        [a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d]).into()),
        [a, b, c, d, e, f, g, h] => Ok(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        _ => Err(Error::corrupt("a number of the catalog has a wrong length")),
    }
}

fn small_number(bytes: &[u8]) -> Result<u32> {
    u32::try_from(number(bytes)?)
        .map_err(|_| Error::corrupt("a number of the catalog is too large"))
}

/// A failure to open something of the data folder, in words for whoever starts the program.
fn open_error(what: &str, path: &Path, why: std::io::Error) -> Error {
    let message = format!("cannot {what} {}: {why}", path.display());
    Error::new(ErrorKind::Unavailable, message).with_source(why)
}

#[cfg(test)]
mod tests;
