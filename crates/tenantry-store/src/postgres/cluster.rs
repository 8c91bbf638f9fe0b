//! PostgreSQL as a place for rows.

use super::{
    carry::Left,
    connections::Connections,
    fence,
    graphs::Graphs,
    lead::Lead,
    locations::{Locations, Secrets},
    names::{PlaceName, ROOT_SCHEMA, VECTOR_SCHEMA, quoted},
    purging::Purging,
    root::Root,
    statement::{Limits, Right, Text},
    target::Target,
    url::DatabaseUrl,
    view::PgView,
    watch::Watch,
};
use crate::{
    Entropy, Obstacle,
    pool::Pool,
    tenancy::{
        Backend, WriteSet,
        disk::DiskHead,
        keys,
        moving::moved,
        place::Placement,
        seal::SealingKey,
        slot::{Slot, SlotWrite},
        tenants::OpenTenant,
    },
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, OwnDatabase, Result};
use tokio::sync::Notify;

/// How long this node waits for another one that writes to the same tenant.
pub(super) const LOCK: Duration = Duration::from_secs(5);
/// How long a node that vanished can hold its locks.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// The databases of an installation, and what is in memory of them.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(super) shared: Arc<Shared>,
    /// Where tenants' work waits for its turn.
    pub(crate) pool: Pool,
    /// Opens the data keys of tenants, if they are in the root here.
    pub(super) master: Option<SealingKey>,
}

/// What views and background work hold on to.
pub(crate) struct Shared {
    /// For whoever works on a tenant. Only if its place is not in the root's database is one of
    /// them held while one of `lookups` is asked for.
    pub(crate) connections: Connections,
    /// For whoever asks who a tenant is or what a key may do. It holds nothing else meanwhile
    /// that others of them wait for, so that these never run out for good.
    pub(crate) lookups: Connections,
    /// The same for what is asked of other databases than the root: one of them that hangs must
    /// not keep the root from being asked.
    pub(super) far: Connections,
    /// For whoever moves tenants, who holds a few at once.
    pub(super) movers: Connections,
    /// For whoever reads all of a tenant, each for long. Whoever holds one of them may ask for one
    /// of any others.
    pub(super) exporters: Connections,
    pub(super) lead: Lead,
    pub(super) left: Left,
    /// See [`PostgresConfig`](super::PostgresConfig).
    pub(super) emptied_after: Duration,
    pub(super) arrival_patience: Duration,
    pub(crate) limits: Limits,
    pub(super) root: Root,
    pub(crate) watch: Watch,
    /// The other ones that tenants may be in.
    pub(super) locations: Locations,
    /// The installation's database is the one that has claimed others.
    pub(super) is_at_home: AtomicBool,
    /// Held by whoever claims a location for an installation that is elsewhere.
    pub(super) claiming: tokio::sync::Mutex<()>,
    /// What the installation's data key is needed for here, once it is open.
    pub(super) secrets: OnceLock<Secrets>,
    /// Wakes the purger.
    pub(super) purge: Arc<Notify>,
    /// Tenants that live apart and may have collections to purge: those whose place was opened,
    /// and those that have deleted some since.
    pub(super) unpurged: Mutex<HashMap<TenantId, Placement>>,
    pub(super) purging: Purging,
    pub(super) graphs: Graphs,
    /// Commits acknowledged.
    pub(super) commits: AtomicU64,
    pub(super) closed: AtomicBool,
}

impl Shared {
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// A place has gone, and whatever was to be purged there with it.
    pub(super) fn forget_notes(&self, placement: Placement) {
        let mut unpurged = self.unpurged.lock();
        if unpurged.get(&placement.tenant) == Some(&placement) {
            unpurged.remove(&placement.tenant);
        }
    }

    /// A place may have collections to purge, and its database was there a moment ago.
    fn has_notes(&self, placement: Placement) {
        self.unpurged.lock().insert(placement.tenant, placement);
        self.purging.hurry(placement.tenant);
        self.purge.notify_one();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("root", &self.root_here()).finish_non_exhaustive()
    }
}

/// Where rows of one kind are: a database, a schema in it, and the role that may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) target: Target,
    schema: Schema,
    role: Option<Arc<str>>,
}

/// A schema's name that can stand in a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema(Arc<str>);

impl From<&PlaceName> for Schema {
    fn from(name: &PlaceName) -> Self {
        // Letters and digits only, so that quoting is all that is to be done.
        Self(format!("\"{name}\"").into())
    }
}

impl Schema {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Ok(Self(quoted(name)?.into()))
    }
}

impl Place {
    pub(crate) fn new(target: Target, schema: Schema, role: Option<Arc<str>>) -> Self {
        Self { target, schema, role }
    }

    /// The tables that tenants share.
    pub(super) fn root(target: Target) -> Result<Self> {
        Ok(Self::new(target, Schema::new(ROOT_SCHEMA)?, None))
    }

    /// The right to this tenant's rows here.
    pub(crate) fn right(&self, tenant: TenantId) -> Right {
        Right { tenant: tenant.get(), role: self.role.clone() }
    }

    /// A statement's text, with this place's names for `{schema}` and `{vector}`. Nothing else is
    /// ever put into a text: values are bound.
    pub(crate) fn text(&self, template: &str) -> Text {
        let text = template.replace("{schema}", &self.schema.0);
        if text.contains("{vector}") {
            return text.replace("{vector}", &format!("\"{VECTOR_SCHEMA}\"")).into();
        }
        text.into()
    }
}

/// A tenant's id as the tables have it.
pub(crate) fn signed(tenant: TenantId) -> Result<i64> {
    i64::try_from(tenant.get()).map_err(|_| Error::internal("a tenant id beyond the database's"))
}

impl Cluster {
    /// Where this tenant's data are.
    pub(crate) async fn place(&self, tenant: &OpenTenant) -> Result<Place> {
        let is_in_files = tenant.placement().location == Location::Home;
        if is_in_files && self.shared.home_here().is_none() {
            // It was moved there between when it was asked who has it and now.
            return Err(moved());
        }
        self.shared.place_of(tenant.placement()).await
    }

    /// Has the next one who relies on what is in memory ask first.
    pub(crate) fn suspect(&self) {
        self.shared.watch.suspect();
    }

    /// What is in memory of rights may be believed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.shared.watch.is_trusted()
    }

    /// What is cached of catalogs may be older than what is stored.
    pub(crate) fn forget_catalogs(&self) {
        self.shared.watch.forget_catalogs();
    }

    fn master(&self) -> Result<&SealingKey> {
        let none = || Error::internal("data keys are asked for in PostgreSQL, and are not there");
        self.master.as_ref().ok_or_else(none)
    }
}

impl Backend for Cluster {
    type View = PgView;

    fn is_shared(&self) -> bool {
        self.shared.root_here().is_some()
    }

    async fn refresh(&self, held: Option<&PgView>) -> Result<()> {
        Ok(self.shared.watch.refresh(held.and_then(PgView::root_within).as_ref()).await?)
    }

    async fn confirm(&self, tenant: &OpenTenant) -> Result<()> {
        let asked = Instant::now();
        let place = self.place(tenant).await?;
        let key = keys::Head {}.encode(tenant.prefix());
        let row = self.counters(&place, tenant).await?;
        let head: DiskHead = tenant.open_row(&key, fence::counters(&row)?)?;
        let head = head.into_head()?;
        tenant.catalog_is_at(head.sequence, asked);
        Ok(())
    }

    async fn root(&self, held: Option<&PgView>) -> Result<PgView> {
        held.and_then(PgView::root_within).map_or_else(|| PgView::root(&self.shared), Ok)
    }

    async fn root_for(&self, tenant: &OpenTenant) -> Result<PgView> {
        PgView::root_for(&self.shared, tenant.id())
    }

    async fn view(&self, tenant: &OpenTenant) -> Result<PgView> {
        Ok(PgView::data(&self.shared, self.place(tenant).await?, tenant.id()))
    }

    async fn change(&self, tenant: &OpenTenant) -> Result<PgView> {
        PgView::change(&self.shared, self.place(tenant).await?, &[tenant]).await
    }

    async fn change_root(&self, tenants: &[&OpenTenant]) -> Result<PgView> {
        PgView::change_root(&self.shared, tenants).await
    }

    fn can_make(&self, isolation: Isolation, location: Location) -> Result<()> {
        let (located, name) = match location {
            Location::Home => (self.shared.home()?.as_ref(), None),
            Location::Named(name) => (self.shared.locations.named(name)?, Some(name)),
            Location::Own => return Ok(()),
        };
        if isolation == Isolation::Shared || located.provisioner.is_some() {
            return Ok(());
        }
        if let Some(name) = name {
            let message = format!(
                "tenants with isolation {} at {name} are made by servers with --location-admin \
                 {name}=URL, the admin's that `tenantry postgres setup` has printed; a command \
                 asks one by --server",
                isolation.word()
            );
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "tenants with isolation {} are made by servers with --database-admin-url, which \
                 `tenantry postgres setup` has printed; a command asks one by --server",
                isolation.word()
            ),
        ))
    }

    async fn check_own(&self, tenant: Option<TenantId>, own: &OwnDatabase) -> Result<()> {
        self.shared.check_own(tenant, own).await
    }

    fn own_changed(&self, _tenant: TenantId) {
        self.shared.watch.forget_ways();
    }

    async fn make_place(&self, tenant: &OpenTenant) -> Result<()> {
        self.shared.make_place(tenant.placement()).await
    }

    async fn remove_place(&self, placement: Placement, was_made: bool) -> Result<bool> {
        let is_due = self.shared.purging.is_due((placement.tenant, 0));
        let is_removed = is_due && self.shared.is_removed(placement, was_made);
        if is_removed {
            self.shared.purging.paid((placement.tenant, 0));
        }
        Ok(is_removed)
    }

    async fn unmake_place(&self, placement: Placement) -> Result<()> {
        Box::pin(self.shared.drop_place(placement, false)).await
    }

    async fn place_opened(&self, placement: Placement) -> Result<()> {
        self.shared.check_place(placement).await?;
        self.shared.has_notes(placement);
        Ok(())
    }

    async fn change_first(&self, tenant: &OpenTenant) -> Result<PgView> {
        let view = PgView::writing(&self.shared, self.place(tenant).await?);
        Box::pin(view.hold_claim()).await?;
        Ok(view)
    }

    async fn creating(&self) -> Result<PgView> {
        PgView::creating(&self.shared).await
    }

    fn submit(
        &self,
        view: PgView,
        set: WriteSet,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        self.submit_with(view, set, Vec::new())
    }

    async fn slot(&self, root: &PgView, tenant: TenantId) -> Result<Slot> {
        let Some(row) = root.prime(tenant).await? else { return Ok(Slot::Empty) };
        let bytes = row.as_slice().try_into();
        let bytes =
            bytes.map_err(|_| Error::corrupt(format!("slot of tenant {tenant}: length")))?;
        Slot::read(self.master()?, tenant, bytes)
    }

    fn wrap(&self, tenant: TenantId, key: &SealingKey, entropy: &dyn Entropy) -> Result<SlotWrite> {
        Ok(SlotWrite::live(self.master()?, tenant, key, entropy))
    }

    async fn tenant_gone(&self, _tenant: TenantId) -> Result<()> {
        // Its key went with the commit that deleted it.
        self.shared.purge.notify_one();
        Ok(())
    }

    fn obstacle(&self, placement: Placement) -> Option<Obstacle> {
        self.shared.obstacle(placement)
    }

    fn abandoned(&self, placement: Placement, own: Option<&OwnDatabase>) {
        let Placement { tenant, isolation, location, .. } = placement;
        // Without user and password.
        let database = own.and_then(|own| DatabaseUrl::parse(own.url.reveal()).ok());
        let database = database.map(|url| url.to_string()).unwrap_or_default();
        tracing::warn!(
            %tenant, ?isolation, %location, database,
            "the data of a deleted tenant are given up and stay in their database, sealed with a \
             key that is destroyed but for ids, vectors and metadata, which are clear"
        );
        self.shared.purging.hurry(tenant);
        self.shared.purge.notify_one();
    }

    async fn collections_gone(&self, placement: Placement, _numbers: Vec<u32>) -> Result<()> {
        if placement.is_apart() {
            self.shared.has_notes(placement);
        }
        self.shared.purge.notify_one();
        Ok(())
    }
}
