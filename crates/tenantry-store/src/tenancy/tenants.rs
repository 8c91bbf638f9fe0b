//! Opened tenants: the data key, the counters, the writer's lock and what is cached of the catalog.
//!
//! A tenant is opened when it is used and forgotten when it has not been used for long, so an
//! idle tenant costs no memory. Everything that builds a key or opens a value goes through an
//! [`OpenTenant`], and the only ways to one are a scope and the installation's own catalog.

use super::{
    backend::View,
    disk::{self, DiskHead, DiskTenant, Head},
    keys::{self, Prefix},
    moving,
    origin::{Origin, Origins},
    place::{Fresh, PlaceRow, Placement},
    seal::SealingKey,
    set::Space,
    writers::Waiters,
};
use crate::{CollectionInfo, DatabaseInfo, TenantInfo};
use lru::LruCache;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{
    CollectionId, CollectionName, DatabaseName, DatabaseNumber, Error, Isolation, Location,
    Resource, Result,
};

/// Opened tenants kept at most; those in use are kept beyond it.
const OPEN_TENANTS_MAX: usize = 4_096;
/// Catalog rows cached per tenant.
const CACHED_ROWS_MAX: usize = 1_024;
/// How long a cached catalog is not compared again where other nodes write too.
const CATALOG_FRESH: Duration = Duration::from_millis(900);

/// Large reads of one tenant that run at once; others of the same tenant wait.
const HEAVY_READS_MAX: usize = 2;

/// One tenant, opened.
#[derive(Debug)]
pub(crate) struct OpenTenant {
    prefix: Prefix,
    key: SealingKey,
    origin: Origin,
    info: Mutex<Arc<TenantInfo>>,
    /// Its share of compute and memory, as its plan and exceptions said last.
    weight: AtomicU16,
    placement: Placement,
    /// What the root says of the place; see [`PlaceRow`].
    fresh: Mutex<Fresh>,
    told: AtomicU64,
    /// Unknown until the place is opened, if the tenant lives apart.
    head: Mutex<Option<Head>>,
    /// One writer at a time; held from reading what a write depends on until it is durable and
    /// applied in memory.
    pub(crate) writer: Arc<tokio::sync::Mutex<()>>,
    /// Requests that wait for it.
    pub(super) waiters: Waiters,
    /// Of those, one waits for the lock, and the others for this.
    pub(super) next_writer: tokio::sync::Mutex<()>,
    /// One at a time changes what the root knows of a tenant apart.
    pub(crate) rooting: tokio::sync::Mutex<()>,
    /// Requests of its own that wait for that.
    pub(super) root_waiters: Waiters,
    /// One at a time reports what the tenant has used, and so waits for the installation's log.
    pub(super) reporting: tokio::sync::Mutex<()>,
    /// Requests that wait for that.
    pub(super) report_waiters: Waiters,
    /// One at a time opens the place of a tenant apart, or makes it.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// One at a time reads rows for the names in them.
    pub(super) naming: tokio::sync::Mutex<()>,
    catalog: Mutex<Catalog>,
    gone: AtomicBool,
    /// Its data are elsewhere: whoever holds it looks it up again.
    moved: AtomicBool,
    /// The commit of its counters at which some of its collections did not say what they take, and 1;
    /// 0 if none was.
    silent_at: AtomicU64,
    /// Permits for large reads: one tenant takes no more threads than this.
    heavy: Arc<tokio::sync::Semaphore>,
    /// The generation of the database that it was read from.
    generation: u64,
}

/// Cached rows. `generation` grows with every change, so that a reader that loaded a row before a
/// change does not cache it after.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    generation: u64,
    /// The commit that it is known to be as new as, where other processes write too.
    at: Option<u64>,
    /// When it was compared with what is stored.
    confirmed: Option<Instant>,
    pub(crate) databases: HashMap<DatabaseName, Arc<DatabaseInfo>>,
    pub(crate) by_name: HashMap<(DatabaseNumber, CollectionName), Arc<CollectionInfo>>,
    pub(crate) by_id: HashMap<CollectionId, Arc<CollectionInfo>>,
}

impl Catalog {
    fn emptied(&self) -> Self {
        Self { generation: self.generation + 1, at: self.at, ..Self::default() }
    }
}

impl OpenTenant {
    /// A tenant that is being made in a database of this generation.
    pub(crate) fn new(
        info: TenantInfo,
        (key, origin): (SealingKey, Origin),
        generation: u64,
    ) -> Self {
        Self {
            prefix: Prefix::of(info.id),
            key,
            origin,
            placement: Placement::shared(info.id),
            fresh: Mutex::new(Fresh::Made),
            told: AtomicU64::new(0),
            weight: AtomicU16::new(info.weight),
            info: Mutex::new(Arc::new(info)),
            head: Mutex::new(Some(Head::default())),
            writer: Arc::default(),
            waiters: Waiters::default(),
            next_writer: tokio::sync::Mutex::default(),
            rooting: tokio::sync::Mutex::default(),
            root_waiters: Waiters::default(),
            reporting: tokio::sync::Mutex::default(),
            report_waiters: Waiters::default(),
            opening: tokio::sync::Mutex::default(),
            naming: tokio::sync::Mutex::default(),
            catalog: Mutex::default(),
            gone: AtomicBool::new(false),
            moved: AtomicBool::new(false),
            silent_at: AtomicU64::new(0),
            heavy: Arc::new(tokio::sync::Semaphore::new(HEAVY_READS_MAX)),
            generation,
        }
    }

    /// The right to make one large read. Whoever waits for it must not wait while holding a place.
    pub(crate) async fn heavy_permit(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.heavy).acquire_owned().await;
        permit.map_err(|_| Error::internal("the permits of a tenant are closed"))
    }

    /// A tenant as it stands on disk; `None` if its row is gone.
    pub(crate) async fn load(
        view: &impl View,
        id: TenantId,
        (key, origin): (SealingKey, Origin),
    ) -> Result<Option<Self>> {
        let prefix = Prefix::of(id);
        let row_key = keys::Tenant {}.encode(prefix);
        let Some(row) = view.get(Space::Catalog, &row_key).await? else { return Ok(None) };
        let info: DiskTenant = disk::decode(&key.open(&row_key, &row)?, "a tenant")?;
        let info = info.into_info(id)?;
        let (isolation, location) = (info.isolation, info.location);
        let place = keys::Place { tenant: id.get() }.encode(Prefix::of(TenantId::INSTALLATION));
        let place = match (isolation, location) {
            (Isolation::Shared, Location::Home) => None,
            _ => view.get(Space::Catalog, &place).await?,
        };
        let mut tenant = Self::new(info, (key, origin), view.generation());
        match place.map(|row| PlaceRow::decode(id, &row)).transpose()? {
            Some(row) => {
                tenant.place(row);
                *tenant.head.lock() = None;
            }
            None => {
                let head = tenant.read_head(view).await?;
                tenant.placement.stay = head.stay;
                tenant.set_head(head);
            }
        }
        if (tenant.placement.isolation, tenant.placement.location) != (isolation, location) {
            // Whoever holds locks of the root sees what others commit meanwhile.
            let again = view.many(Space::Catalog, std::slice::from_ref(&row_key)).await?;
            if again.into_iter().next().flatten() != Some(row) {
                return Err(moving::moved());
            }
            return Err(Error::corrupt(format!("the place of tenant {id} is gone")));
        }
        Ok(Some(tenant))
    }

    /// Says where a tenant is that lives apart.
    pub(crate) fn place(&mut self, row: PlaceRow) {
        self.placement = row.placement;
        *self.fresh.lock() = row.fresh;
        self.told.store(row.told, Ordering::Release);
    }

    /// Reads the counters from where the tenant's data are.
    pub(crate) async fn load_head(&self, view: &impl View) -> Result<()> {
        let head = self.read_head(view).await?;
        if head.stay != self.placement.stay {
            // One of them was put back from a backup without the other.
            let (id, want) = (self.id(), self.placement.stay);
            let message = format!("the place of tenant {id} is of stay {}, not {want}", head.stay);
            return Err(Error::corrupt(message));
        }
        self.set_head(head);
        Ok(())
    }

    /// The counters as they stand in a view.
    pub(crate) async fn read_head(&self, view: &impl View) -> Result<Head> {
        let row = self.row(view, Space::Data, &keys::Head {}.encode(self.prefix)).await?;
        // Without its counters a tenant would assign numbers again that are in use.
        let Some(head) = row.map(DiskHead::into_head).transpose()? else {
            let id = self.id();
            return Err(Error::corrupt(format!("the counters of tenant {id} are gone")));
        };
        Ok(head)
    }

    /// Where its data are.
    pub(crate) fn placement(&self) -> Placement {
        self.placement
    }

    /// Whether its place is still to be made.
    pub(crate) fn fresh(&self) -> Fresh {
        *self.fresh.lock()
    }

    /// The root says now that the place is made.
    pub(crate) fn set_made(&self) {
        *self.fresh.lock() = Fresh::Made;
    }

    /// The number of the last note for its log.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Acquire)
    }

    /// The root has committed notes up to this one.
    pub(crate) fn set_told(&self, number: u64) {
        self.told.fetch_max(number, Ordering::AcqRel);
    }

    /// True if the root has told its log something that it does not say yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.head.lock().as_ref().is_some_and(|head| head.told < self.told())
    }

    /// What the root says of a place apart.
    pub(crate) fn place_row(&self) -> PlaceRow {
        PlaceRow { placement: self.placement, fresh: self.fresh(), told: self.told() }
    }

    pub(crate) fn id(&self) -> TenantId {
        self.prefix.tenant()
    }

    /// The generation of the database that it was read from. Whatever is made from it is refused
    /// by any other.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The right to build keys of this tenant.
    pub(crate) fn prefix(&self) -> Prefix {
        self.prefix
    }

    pub(crate) fn key(&self) -> &SealingKey {
        &self.key
    }

    /// What binds its log to it.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn info(&self) -> Arc<TenantInfo> {
        Arc::clone(&self.info.lock())
    }

    /// Its share of compute and memory; until it was asked what its plan says, what its row does.
    pub(crate) fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed).into()
    }

    pub(crate) fn set_weight(&self, weight: u16) {
        self.weight.store(weight, Ordering::Relaxed);
    }

    pub(crate) fn set_info(&self, info: TenantInfo) {
        *self.info.lock() = Arc::new(info);
    }

    /// True if its counters are known.
    pub(crate) fn is_counted(&self) -> bool {
        self.head.lock().is_some()
    }

    /// True if its collections were asked what they take after this commit of its counters, and some
    /// did not say so.
    pub(crate) fn is_silent_at(&self, sequence: u64) -> bool {
        self.silent_at.load(Ordering::Relaxed) == sequence.saturating_add(1)
    }

    pub(crate) fn set_silent_at(&self, sequence: u64) {
        self.silent_at.store(sequence.saturating_add(1), Ordering::Relaxed);
    }

    /// The counters; `None` if the place of a tenant apart was not opened yet.
    pub(crate) fn head(&self) -> Option<Head> {
        self.head.lock().clone()
    }

    pub(crate) fn set_head(&self, head: Head) {
        *self.head.lock() = Some(head);
    }

    /// Marks the tenant as erased: whoever still holds it is refused from now on.
    pub(crate) fn mark_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// Marks the tenant as moved: whoever still holds it looks it up again.
    pub(crate) fn mark_moved(&self) {
        self.moved.store(true, Ordering::Release);
    }

    /// True if the tenant was erased while it was held.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// Fails if the tenant was erased while it was held, or moved.
    pub(crate) fn check_alive(&self) -> Result<()> {
        if self.is_gone() {
            return Err(Error::not_found(Resource::Tenant, self.info().name.as_str()));
        }
        if self.moved.load(Ordering::Acquire) {
            return Err(moving::moved());
        }
        Ok(())
    }

    /// Opens a row of this tenant.
    pub(crate) fn open_row<T: DeserializeOwned>(&self, key: &[u8], sealed: &[u8]) -> Result<T> {
        disk::decode(&self.key.open(key, sealed)?, "the catalog")
    }

    /// Reads a row of this tenant.
    pub(crate) async fn row<T: DeserializeOwned>(
        &self,
        view: &impl View,
        space: Space,
        key: &[u8],
    ) -> Result<Option<T>> {
        let sealed = view.get(space, key).await?;
        sealed.map(|sealed| self.open_row(key, &sealed)).transpose()
    }

    /// Looks into the cached catalog, or loads and caches.
    pub(crate) async fn cached<T>(
        &self,
        look: impl Fn(&Catalog) -> Option<Arc<T>>,
        load: impl Future<Output = Result<Option<Arc<T>>>>,
        keep: impl FnOnce(&mut Catalog, Arc<T>),
    ) -> Result<Option<Arc<T>>> {
        let generation = {
            let catalog = self.catalog.lock();
            if let Some(found) = look(&catalog) {
                return Ok(Some(found));
            }
            catalog.generation
        };
        let Some(loaded) = load.await? else { return Ok(None) };
        let mut catalog = self.catalog.lock();
        if catalog.generation == generation {
            if catalog.by_id.len() + catalog.by_name.len() + catalog.databases.len()
                >= CACHED_ROWS_MAX
            {
                let (at, confirmed) = (catalog.at, catalog.confirmed);
                *catalog = Catalog { generation, at, confirmed, ..Catalog::default() };
            }
            keep(&mut catalog, Arc::clone(&loaded));
        }
        Ok(Some(loaded))
    }

    /// Forgets cached rows after a change of the catalog.
    pub(crate) fn catalog_changed(&self) {
        let mut catalog = self.catalog.lock();
        *catalog = catalog.emptied();
    }

    /// Forgets cached rows that may be older than this commit, or than a copy of the database
    /// that took over and has lost some.
    /// `asked` is from before the question.
    pub(crate) fn catalog_is_at(&self, sequence: u64, asked: Instant) {
        let mut catalog = self.catalog.lock();
        // A late answer says nothing about what an earlier one has said.
        if catalog.confirmed.is_some_and(|at| at > asked) {
            return;
        }
        if catalog.at != Some(sequence) {
            *catalog = Catalog { at: Some(sequence), ..catalog.emptied() };
        }
        catalog.confirmed = Some(asked);
    }

    /// True if the cached catalog was compared with what is stored so lately that nobody can
    /// expect it to be newer.
    pub(crate) fn is_catalog_fresh(&self) -> bool {
        self.catalog.lock().confirmed.is_some_and(|at| at.elapsed() < CATALOG_FRESH)
    }

    /// Looks into the cached catalog.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.catalog.lock())
    }

    /// Whether the cached catalog has something.
    pub(crate) fn is_cached<T>(&self, look: impl Fn(&Catalog) -> Option<Arc<T>>) -> bool {
        look(&self.catalog.lock()).is_some()
    }
}

/// The opened tenants, least recently used first out.
#[derive(Debug)]
pub(crate) struct Tenants {
    open: Mutex<Open>,
    pub(crate) origins: Origins,
}

#[derive(Debug)]
struct Open {
    tenants: LruCache<TenantId, Arc<OpenTenant>>,
    /// Grows whenever something is forgotten, so that a tenant that was being loaded at that
    /// moment is loaded again instead of being kept as it was.
    generation: u64,
}

impl Tenants {
    pub(crate) fn new() -> Self {
        let open = Mutex::new(Open { tenants: LruCache::unbounded(), generation: 0 });
        Self { open, origins: Origins::default() }
    }

    /// The opened tenant, or `load` it. Of two loads at once the first is kept.
    pub(crate) async fn get<F: Future<Output = Result<Option<OpenTenant>>>>(
        &self,
        id: TenantId,
        load: impl Fn() -> F,
    ) -> Result<Option<Arc<OpenTenant>>> {
        loop {
            let before = {
                let mut open = self.open.lock();
                if let Some(tenant) = open.tenants.get(&id) {
                    return Ok(Some(Arc::clone(tenant)));
                }
                open.generation
            };
            let loaded = load().await?;
            let mut open = self.open.lock();
            if open.generation == before {
                return Ok(loaded.map(|tenant| open.keep(Arc::new(tenant))));
            }
        }
    }

    /// The opened tenant, if it is open.
    pub(crate) fn opened(&self, id: TenantId) -> Option<Arc<OpenTenant>> {
        self.open.lock().tenants.get(&id).map(Arc::clone)
    }

    /// Tenants that are open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().tenants.len()
    }

    /// Puts a tenant that was moved in the place of what was opened before, if that is still what
    /// is open: whatever else is, or was meanwhile, may have been written to, and is not put back.
    /// What is being loaded at this moment is loaded again.
    pub(crate) fn exchange(&self, old: &Arc<OpenTenant>, new: Arc<OpenTenant>) {
        let mut open = self.open.lock();
        open.generation += 1;
        let Some(open_now) = open.tenants.peek(&old.id()) else { return };
        if Arc::ptr_eq(open_now, old) {
            open.tenants.put(old.id(), new);
        } else if open_now.placement() != new.placement() {
            open.tenants.pop(&old.id());
        }
    }

    /// Takes over what was committed of a tenant. Whatever else is open of it, or is being loaded at
    /// this moment, may be of before.
    pub(crate) fn renew(&self, tenant: &Arc<OpenTenant>, info: TenantInfo) {
        tenant.set_info(info);
        let mut open = self.open.lock();
        if !open.tenants.peek(&tenant.id()).is_some_and(|now| Arc::ptr_eq(now, tenant)) {
            open.generation += 1;
            open.tenants.pop(&tenant.id());
        }
    }

    /// Forgets one tenant.
    pub(crate) fn forget(&self, id: TenantId) {
        let mut open = self.open.lock();
        open.generation += 1;
        open.tenants.pop(&id);
    }

    /// Forgets all tenants.
    pub(crate) fn forget_all(&self) {
        self.forget_older(u64::MAX);
    }

    /// Forgets what is cached of all tenants' catalogs.
    pub(crate) fn forget_catalogs(&self) {
        self.open.lock().tenants.iter().for_each(|(_, tenant)| tenant.catalog_changed());
    }

    /// Forgets all tenants that were read in an earlier generation than this. One of this
    /// generation may be in use already, and its writer lock must stay the only one.
    pub(crate) fn forget_older(&self, generation: u64) {
        let mut open = self.open.lock();
        open.generation += 1;
        let older = |tenant: &OpenTenant| tenant.generation() < generation;
        let gone: Vec<TenantId> =
            open.tenants.iter().filter(|(_, one)| older(one)).map(|(id, _)| *id).collect();
        for id in gone {
            open.tenants.pop(&id);
        }
    }
}

impl Open {
    /// Those beyond the bound that nobody holds are forgotten; one in use must stay, because its
    /// writer lock is the only one.
    fn keep(&mut self, tenant: Arc<OpenTenant>) -> Arc<OpenTenant> {
        let kept = Arc::clone(self.tenants.get_or_insert(tenant.id(), || tenant));
        let mut in_use = Vec::new();
        while self.tenants.len() + in_use.len() > OPEN_TENANTS_MAX && in_use.len() < 64 {
            let Some((id, oldest)) = self.tenants.pop_lru() else { break };
            if Arc::strong_count(&oldest) > 1 {
                in_use.push((id, oldest));
            }
        }
        for (id, tenant) in in_use {
            self.tenants.put(id, tenant);
        }
        kept
    }
}
