//! What all backends share: who a tenant is and what it has.
//!
//! Tenants, keys, databases, collections and logs are rows under keys of one table ([`keys`]),
//! sealed with their tenant's key ([`seal`]). [`Tenancy`] is the one way to read and change them;
//! where they are kept is its [`Backend`]. Records are the backend's own.

mod about;
pub(crate) mod answer;
pub(crate) mod arrival;
mod at_home;
mod backend;
pub(crate) mod batch;
pub(crate) mod catalog;
pub(crate) mod commit;
mod create;
pub(crate) mod disk;
mod disk_key;
mod grace;
mod groups;
mod key_rows;
pub(crate) mod keys;
mod leftovers;
pub(crate) mod master;
mod members;
pub(crate) mod moving;
pub(crate) mod origin;
pub(crate) mod place;
mod plans;
mod remembered;
mod said;
pub(crate) mod seal;
mod set;
mod sizes;
pub(crate) mod slot;
mod standing;
mod tenant_change;
mod tenant_rows;
pub(crate) mod tenants;
pub(crate) mod usage;
mod webhooks;
pub(crate) mod writers;

pub(crate) use backend::{Backend, Pair, View, check_page};
pub(crate) use set::{Space, WriteSet};

use crate::{AuditEvent, AuditNote, AuditOutcome, AuditReason, Entropy};
use arrival::Arrivals;
use commit::Commit;
use disk::Head;
use moving::Moves;
use origin::{Origin, Origins};
use parking_lot::Mutex;
use plans::PlanCache;
use remembered::Remembered;
use seal::SealingKey;
use slot::Slot;
use std::{
    collections::HashSet,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tenantry_auth::{Author, KeyId, KeyRow, Level, MemberId, MemberRights, Scope, TenantId};
use tenantry_types::{
    Clock, Error, ErrorKind, Exceptions, Isolation, Limits, Location, Resource, Result, TenantName,
    TenantState, Timestamp,
};
use tenants::{OpenTenant, Tenants};
use tokio::sync::Notify;
use tracing::Instrument as _;
use zeroize::Zeroizing;

/// The tenants of a backend.
#[derive(Debug)]
pub(crate) struct Tenancy<B> {
    backend: B,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    naming: Mutex<Naming>,
    /// Where a tenant lives that is made without a word about it.
    default: (Isolation, Location),
    /// Keys revoked and tenants suspended since the store was opened.
    revocations: Arc<AtomicU64>,
    keys: Mutex<Remembered<KeyId, KeyRow>>,
    members: Mutex<Remembered<(TenantId, MemberId), MemberRights>>,
    plans: Mutex<PlanCache>,
    pub(crate) moves: Moves,
    pub(crate) arrivals: Arrivals,
    /// Told when there are events to be told.
    pub(crate) events: Arc<Notify>,
    /// Endpoints for which so much waits that nothing is added that tenants can cause at will.
    pub(super) crowded: parking_lot::Mutex<std::collections::BTreeSet<u64>>,
    /// Held by the one report, of all tenants, that waits for the installation's log or has it.
    pub(super) reporting: tokio::sync::Mutex<()>,
}

/// Names and spaces that are being given at this moment, and the next tenant id.
#[derive(Debug, Default)]
struct Naming {
    in_flight: HashSet<TenantName>,
    next_tenant: u64,
    /// Spaces below this one were given, or are being given.
    next_space: u32,
    /// Spaces that are being given again.
    spaces: HashSet<u32>,
}

impl<B> Deref for Tenancy<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.backend
    }
}

/// How old what is cached may be of what other nodes may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Age {
    Second,
    /// For whoever looks at what is stored before answering.
    Any,
}

impl<B: Backend> Tenancy<B> {
    pub(crate) fn new(
        backend: B,
        tenants: Arc<Tenants>,
        revocations: Arc<AtomicU64>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        default: (Isolation, Location),
    ) -> Self {
        let (naming, keys, members, plans, moves, arrivals, events, crowded) = Default::default();
        Self {
            backend,
            tenants,
            clock,
            entropy,
            naming,
            default,
            revocations,
            keys,
            members,
            plans,
            moves,
            arrivals,
            events,
            crowded,
            reporting: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::Acquire)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Tenant ids below this one are never given (again).
    pub(crate) fn give_ids_from(&self, next: u64) {
        let mut naming = self.naming.lock();
        naming.next_tenant = naming.next_tenant.max(next).max(1);
    }

    /// The first commit of a new store: the installation's data key, row and log.
    pub(crate) fn founding(&self, generation: u64) -> Result<WriteSet> {
        let now = self.now();
        let info = crate::TenantInfo {
            id: TenantId::INSTALLATION,
            name: TenantName::parse("(installation)")?,
            state: TenantState::Active,
            isolation: Isolation::Shared,
            location: Location::Home,
            weight: 100,
            limits: Limits { keys: u32::MAX, ..Limits::default() },
            plan: None,
            exceptions: Exceptions::default(),
            settings: std::collections::BTreeMap::new(),
            created_at: now,
            named_at: now,
            made_by: None,
            erase_at: None,
        };
        let key = self.new_data_key();
        let slot = self.backend.wrap(info.id, &key, &*self.entropy)?;
        // A founding that was cut short may have left another key, which nothing was sealed with.
        let origins = Origins::default();
        origins.know(&key);
        if self.tenants.origins.is_open() {
            origins.open_gate();
        }
        let origin = origins.of(info.id)?;
        let tenant = OpenTenant::new(info.clone(), (key, origin), generation);
        let mut commit = Commit::new(&tenant, Head::default(), &*self.entropy, self.now());
        commit.put_tenant(&info);
        commit.audit(done(Author::work("store"), "installation.create", "installation", 1));
        let (mut set, _) = commit.finish();
        set.slots.push(slot);
        Ok(set)
    }

    pub(crate) fn new_data_key(&self) -> SealingKey {
        let mut bytes = Zeroizing::new([0; 32]);
        self.entropy.fill("data key", &mut *bytes);
        SealingKey::new(bytes, 1)
    }

    /// Opens a tenant from its data key and its row; `None` if it does not live.
    pub(crate) async fn open_tenant(&self, id: TenantId) -> Result<Option<Arc<OpenTenant>>> {
        self.open_tenant_beside(None, id).await
    }

    /// The same for whoever may hold a view for changes.
    async fn open_tenant_beside(
        &self,
        held: Option<&B::View>,
        id: TenantId,
    ) -> Result<Option<Arc<OpenTenant>>> {
        self.backend.refresh(held).await?;
        let load = || {
            // Seldom, and every operation holds this future.
            Box::pin(async move {
                let root = self.backend.root(held).await?;
                match self.backend.slot(&root, id).await? {
                    Slot::Live(key) => {
                        if id == TenantId::INSTALLATION {
                            self.tenants.origins.know(&key);
                        }
                        let origin = self.origin(&root, id).await?;
                        OpenTenant::load(&root, id, (key, origin)).await
                    }
                    Slot::Empty | Slot::Erased => Ok(None),
                }
            })
        };
        self.tenants.get(id, load).await
    }

    /// The origin of a tenant's log.
    async fn origin(&self, root: &B::View, id: TenantId) -> Result<Origin> {
        let origins = &self.tenants.origins;
        if !origins.are_known() {
            match self.backend.slot(root, TenantId::INSTALLATION).await? {
                Slot::Live(key) => origins.know(&key),
                Slot::Empty | Slot::Erased => {
                    return Err(Error::corrupt("the installation's data key is gone"));
                }
            }
        }
        origins.of(id)
    }

    /// The tenant of a scope, its place opened.
    pub(crate) async fn tenant<L: Level>(&self, scope: &Scope<L>) -> Result<Arc<OpenTenant>> {
        let tenant = self.known(scope).await?;
        let opened = self.at_home(&tenant).await;
        self.unless_gone(&tenant, opened).await?;
        Ok(tenant)
    }

    /// The tenant of a scope, as the root knows it.
    pub(crate) async fn known<L: Level>(&self, scope: &Scope<L>) -> Result<Arc<OpenTenant>> {
        let gone = || Error::not_found(Resource::Tenant, "(deleted)");
        let tenant = self.open_tenant(scope.tenant()).await?.ok_or_else(gone)?;
        tenant.check_alive()?;
        self.stands(scope.standing(), Some(&tenant), None).await?;
        Ok(tenant)
    }

    /// The installation, as the keeper of operator keys and the operator's audit log.
    pub(crate) async fn installation(&self) -> Result<Arc<OpenTenant>> {
        self.installation_beside(None).await
    }

    /// The same for whoever may hold a view for changes.
    async fn installation_beside(&self, held: Option<&B::View>) -> Result<Arc<OpenTenant>> {
        self.open_tenant_beside(held, TenantId::INSTALLATION)
            .await?
            .ok_or_else(|| Error::corrupt("the installation's row is gone"))
    }

    /// Makes sure that what is cached of the catalog of a scope's tenant is as it is stored now, for
    /// whoever answers with it. Operations on records look for themselves.
    pub(crate) async fn confirm<L: Level>(&self, scope: &Scope<L>) -> Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let tenant = self.tenant(scope).await?;
        self.confirm_of(&tenant).await
    }

    async fn confirm_of(&self, tenant: &OpenTenant) -> Result<()> {
        let confirmed = self.backend.confirm(tenant).await;
        self.unless_gone(tenant, confirmed).await
    }

    /// What reading a tenant's place gave. If somebody has deleted the tenant meanwhile, and its
    /// place with it, nothing is corrupt: there is no such tenant. Nobody calls this who holds
    /// a view.
    pub(crate) async fn unless_gone<T>(
        &self,
        tenant: &OpenTenant,
        outcome: Result<T>,
    ) -> Result<T> {
        if let Err(why) = &outcome
            && why.kind() == ErrorKind::Corrupt
        {
            // Rare, and larger than all that is done otherwise.
            Box::pin(self.still_lives(tenant.id())).await?;
        }
        outcome
    }

    /// Fails as for a tenant that does not exist if somebody has deleted it meanwhile.
    pub(crate) async fn still_lives(&self, id: TenantId) -> Result<()> {
        if self.is_shared() {
            self.tenants.forget(id);
        }
        match self.open_tenant(id).await? {
            Some(tenant) => tenant.check_alive(),
            None => Err(Error::not_found(Resource::Tenant, "(deleted)")),
        }
    }

    /// Looks into a tenant's cached catalog, or loads and caches.
    pub(crate) async fn cached<T>(
        &self,
        tenant: &OpenTenant,
        age: Age,
        look: impl Fn(&tenants::Catalog) -> Option<Arc<T>>,
        load: impl Future<Output = Result<Option<Arc<T>>>>,
        keep: impl FnOnce(&mut tenants::Catalog, Arc<T>),
    ) -> Result<Option<Arc<T>>> {
        if age == Age::Second && self.is_old(tenant) && tenant.is_cached(&look) {
            self.confirm_of(tenant).await?;
        }
        let found = tenant.cached(look, load, keep).await;
        self.unless_gone(tenant, found).await
    }

    /// True if what is cached of a tenant's catalog may have been changed by another node.
    pub(crate) fn is_old(&self, tenant: &OpenTenant) -> bool {
        self.is_shared() && !tenant.is_catalog_fresh()
    }

    /// A new commit of a tenant whose writer lock is held.
    pub(crate) fn begin<'a>(&'a self, tenant: &'a OpenTenant) -> Result<Commit<'a>> {
        Commit::begin(tenant, &*self.entropy, self.now())
    }

    /// Commits what was collected for a tenant whose writer lock is held, and takes over its head.
    pub(crate) async fn commit(
        &self,
        tenant: &OpenTenant,
        view: B::View,
        commit: Commit<'_>,
    ) -> Result<()> {
        let (set, head) = commit.finish();
        // A deletion waits only so long for a tenant that lives apart.
        tenant.check_alive()?;
        self.backend.submit(view, set).await?;
        tenant.set_head(head);
        Ok(())
    }
}

/// Runs a change to its end even if the caller goes away: a half-done change would leave names
/// reserved or memory behind the disk.
pub(crate) async fn complete<T: Send + 'static>(
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    match tokio::spawn(change.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(why) => Err(Error::internal("a change was aborted").with_source(why)),
    }
}

/// What a log is to say of something done.
pub(crate) fn done(by: Author<'_>, action: &str, target: &str, count: u64) -> AuditNote {
    let event = AuditEvent {
        actor: by.actor().to_owned(),
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: AuditOutcome::Done,
        count,
    };
    AuditNote { event, reason: AuditReason::None, request: by.request().cloned() }
}

/// A clear number on disk.
pub(crate) fn number(bytes: &[u8]) -> Result<u64> {
    match bytes {
        [a, b, c, d] => Ok(u32::from_be_bytes([*a, *b, *c, *d]).into()),
        [a, b, c, d, e, f, g, h] => Ok(u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])),
        _ => Err(Error::corrupt("a number of the catalog has a wrong length")),
    }
}

pub(crate) fn small_number(bytes: &[u8]) -> Result<u32> {
    u32::try_from(number(bytes)?)
        .map_err(|_| Error::corrupt("a number of the catalog is too large"))
}
