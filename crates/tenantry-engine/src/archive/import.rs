//! Making tenants from archives and from other tenants.

use super::{
    fill::Filling,
    intake::{Checked, Intake, Notes, hex},
    permit,
    read::{Item, Reader},
    walk::walk,
};
use crate::{Engine, Select, Session, engine::Inner, validate};
use std::{
    fs::File,
    io::{BufReader, Seek as _},
    pin::Pin,
    sync::Arc,
};
use tenantry_auth::{Admin, OperatorScope, Principal, TenantId};
use tenantry_store::{Arrival, Arrived, AuditReason, TenantInfo};
use tenantry_types::{
    Error, ErrorKind, Isolation, Limits, Location, PlanName, Resource, Result, TenantName,
    TenantSpec,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinHandle,
};

/// Items that are read before they are written.
const ITEMS: usize = 2;

/// The tenant that is to be made.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// Its name.
    pub name: TenantName,
    /// How it is to live; `None` leaves it to the installation's default.
    pub isolation: Option<Isolation>,
    /// Where; likewise.
    pub location: Option<Location>,
    /// Whether an archive's limits and weight count also where they are not less than the tenant's plan
    /// says, or than everybody has who has none. A copy has its original's in any case.
    pub keep_limits: bool,
}

/// Makes tenants from what was exported, and copies of tenants.
#[derive(Debug)]
pub struct Importer {
    pub(super) inner: Arc<Inner>,
    who: Principal,
    pub(super) scope: OperatorScope,
}

impl Engine {
    /// The handle that makes tenants from archives, for an operator who may open tenants.
    pub fn importer(&self, who: &Principal) -> Result<Importer> {
        let inner = Arc::clone(&self.0);
        // Refusals are noted by it.
        self.operator(who)?;
        let scope = inner.authority.authorize_operator(who)?;
        if scope.may_act_as() {
            return Ok(Importer { inner, who: who.clone(), scope });
        }
        let error = Error::denied("this operator key may not open tenants, nor import or copy one");
        let log = (TenantId::INSTALLATION, scope.author());
        inner.refuse(log, "tenant.import", "installation", (&error, AuditReason::ActAs));
        Err(error)
    }
}

impl Importer {
    fn notes(&self, action: &'static str, target: String) -> Notes {
        Notes { inner: Arc::clone(&self.inner), by: self.scope.clone(), action, target }
    }

    /// Fails if the name of a new tenant is taken: before an archive comes that may be large.
    pub async fn require_free(&self, name: &TenantName) -> Result<()> {
        let notes = self.notes("tenant.import", name.to_string());
        notes.watch(self.inner.check_new(name))?;
        let found = self.inner.store.find_tenant(name).await?;
        let is_free = found.is_none().then_some(());
        let taken = || Error::already_exists(Resource::Tenant, name.as_str());
        notes.watch(is_free.ok_or_else(taken))
    }

    /// Begins to take an archive, for a tenant of this name; fails if it has so many bytes that
    /// there is no room for them.
    pub async fn intake(&self, name: &TenantName, bytes: Option<u64>) -> Result<Intake> {
        let notes = self.notes("tenant.import", name.to_string());
        let bytes = bytes.unwrap_or(0);
        notes.watch(self.inner.archives.may_have(bytes))?;
        let permit = permit(&self.inner.archives.read).await?;
        let file = self.inner.archives.file(bytes).await?;
        Ok(Intake::new(notes, self.scope.clone(), file, permit))
    }

    /// Makes a tenant of an archive. Whoever drops this before it is done leaves nothing behind.
    pub async fn import(&self, archive: Checked, to: &NewTenant) -> Result<TenantInfo> {
        let Checked { file, row, summary, stranger, permit } = archive;
        let mut spec = new(to);
        spec.settings = row.settings.clone().unwrap_or_default();
        let limits = row.limits();
        let told = format!("archive {}", hex(&summary.hash));
        let by = stranger.map_or_else(String::new, |by| format!(", signed by {}", hex(&by)));
        let target = format!("{}: {told}{by}", to.name);
        let notes = self.notes("tenant.import", target.clone());
        let arrived = Arrived { action: "tenant.import", told, target, email: None };
        let most = self.inner.archives.config.bytes_max;
        let plan = self.inner.default_plan.get().cloned();
        notes.watch(validate::limits(&limits))?;
        notes.watch(self.check_plan(plan.as_ref(), &spec).await)?;
        let (arrival, mut filling) = notes.watch(self.begin(&spec).await)?;
        let arrival = arrival.on_plan(plan).weighing(row.weight);
        // What another operator gave it, or this one under another plan, is not what it is given here.
        let arrival = if to.keep_limits { arrival } else { arrival.bounded() };
        let filled = boxed(async { fill(file, most, &mut filling, permit).await }).await;
        notes.watch(self.end(arrival, filled, limits, arrived).await)
    }

    /// Makes a tenant that has what another one has at this moment. Whoever drops this before it
    /// is done leaves nothing behind.
    pub async fn copy(&self, name: &TenantName, to: &NewTenant) -> Result<TenantInfo> {
        let notes = self.notes("tenant.copy", format!("{name} → {}", to.name));
        notes.watch(self.copied(name, to).await)
    }

    async fn copied(&self, name: &TenantName, to: &NewTenant) -> Result<TenantInfo> {
        let engine = Engine(Arc::clone(&self.inner));
        self.inner.check_new(&to.name)?;
        if self.inner.store.find_tenant(&to.name).await?.is_some() {
            return Err(Error::already_exists(Resource::Tenant, to.name.as_str()));
        }
        // A session would make one that is not there, where that is set.
        let there = self.inner.find_tenant(name).await?;
        there.ok_or_else(|| Error::not_found(Resource::Tenant, name.as_str()))?;
        let source: Session<Admin> = engine.session(&self.who, Select::Named(name)).await?;
        let _reading = permit(&self.inner.archives.read).await?;
        let _writing = permit(&self.inner.archives.written).await?;
        let snapshot = source.snapshot("tenant.copy").await?;
        let info = snapshot.info().clone();
        let mut spec = new(to);
        (spec.weight, spec.settings) = (info.weight, info.settings.clone());
        // Where data may be is no matter of the server's default.
        if spec.location.is_none() && info.location == Location::Own {
            let message = "the tenant is in a database of its own: say where the copy is to be";
            return Err(Error::invalid(message));
        }
        spec.location = spec.location.or(Some(info.location));
        spec.isolation = spec.isolation.or(Some(info.isolation));
        self.check_plan(info.plan.as_ref(), &spec).await?;
        // No tenant learns from its log what another one is called.
        let arrived = Arrived {
            action: "tenant.copy",
            told: to.name.to_string(),
            target: format!("{name} → {}", to.name),
            email: None,
        };
        let (arrival, mut filling) = self.begin(&spec).await?;
        let arrival = arrival.on_terms_of(&info);
        let filled = boxed(async { walk(snapshot, &mut filling).await }).await;
        self.end(arrival, filled, info.limits, arrived).await
    }

    /// Asked before anything is written, and again in the commit that makes the tenant whole.
    async fn check_plan(&self, plan: Option<&PlanName>, spec: &TenantSpec) -> Result<()> {
        let Some(plan) = plan else { return Ok(()) };
        self.inner.check_plan(&self.scope, plan, spec).await.map(drop)
    }

    /// Makes a tenant that is to be filled.
    async fn begin(&self, spec: &TenantSpec) -> Result<(Arrival, Filling)> {
        self.inner.check_new(&spec.name)?;
        validate::tenant_spec(spec)?;
        let arrival = self.inner.store.begin_arrival(&self.scope, spec).await?;
        let info = Arc::new(arrival.info().clone());
        let scope = self.inner.authority.authorize(&self.who, info.id, info.name.as_str())?;
        Ok((arrival, Filling::new(Session::new(Arc::clone(&self.inner), scope, info))))
    }

    /// Makes a tenant whole that was filled; or leaves nothing.
    async fn end(
        &self,
        arrival: Arrival,
        filled: Result<()>,
        limits: Limits,
        arrived: Arrived,
    ) -> Result<TenantInfo> {
        let Err(why) = filled else { return arrival.end(&self.scope, limits, arrived).await };
        let tenant = arrival.info().id;
        if let Err(error) = arrival.give_up().await {
            tracing::warn!(?error, %tenant, "delete a tenant that could not be filled");
        }
        Err(why)
    }
}

/// Filling is large, and its callers need not be.
fn boxed<'a>(
    filling: impl Future<Output = Result<()>> + Send + 'a,
) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
    Box::pin(filling)
}

/// Writes all that an archive has, which was checked. The permit is given back when nobody works on it
/// any more: a thread that reads goes on for a while after its import was dropped.
async fn fill(
    file: File,
    bytes_max: u64,
    filling: &mut Filling,
    permit: Arc<OwnedSemaphorePermit>,
) -> Result<()> {
    let (sender, mut items) = mpsc::channel(ITEMS);
    let reading = reading((file, bytes_max), sender, Arc::clone(&permit));
    while let Some(item) = items.recv().await {
        filling.put(item).await?;
    }
    let aborted = |why| Err(Error::internal("reading was aborted").with_source(why));
    reading.await.unwrap_or_else(aborted)
}

/// Reads on a thread of its own, which has the permit for as long as it works.
fn reading(
    (file, bytes_max): (File, u64),
    to: mpsc::Sender<Item>,
    permit: Arc<OwnedSemaphorePermit>,
) -> JoinHandle<Result<()>> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || {
        let _span = span.entered();
        let _permit = permit;
        read_into(file, bytes_max, &to)
    })
}

/// A tenant without limits: it may have more than its own allow by now.
fn new(to: &NewTenant) -> TenantSpec {
    TenantSpec {
        limits: Limits {
            databases: u32::MAX,
            collections: u32::MAX,
            records_per_collection: u64::MAX,
            keys: 0,
            ..Limits::default()
        },
        default_database: false,
        isolation: to.isolation,
        location: to.location,
        ..TenantSpec::new(to.name.clone())
    }
}

/// Reads a checked archive once more, for whoever writes.
fn read_into(mut file: File, bytes_max: u64, to: &mpsc::Sender<Item>) -> Result<()> {
    let unreadable = |why| Error::internal("read an archive").with_source(why);
    file.rewind().map_err(unreadable)?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, file), bytes_max)?;
    while let Some(item) = reader.next()? {
        if to.blocking_send(item).is_err() {
            return Err(Error::new(ErrorKind::Unavailable, "nobody writes it any more"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EngineConfig;
    use std::io::Write as _;
    use tenantry_auth::Authority;
    use tenantry_store::{EmbeddedConfig, Store, SystemClock};
    use tenantry_types::{CollectionName, CollectionSpec, DatabaseName};
    use tokio::sync::Semaphore;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_permit_is_not_free_before_nobody_reads_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open_embedded(EmbeddedConfig::new(folder.path().join("data"))).unwrap();
        let (authority, clock) = (Authority::new(), Arc::new(SystemClock));
        let engine = Engine::start(EngineConfig { store, authority, clock });
        let who = engine.local_operator().await.unwrap();
        let name = TenantName::parse("a").unwrap();
        let spec = TenantSpec::new(name.clone());
        engine.operator(&who).unwrap().create_tenant(&spec).await.unwrap();
        let session: Session<Admin> = engine.session(&who, Select::Named(&name)).await.unwrap();
        let database = DatabaseName::parse("default_database").unwrap();
        let database = session.database(&database).await.unwrap();
        for n in 0..8 {
            let name = CollectionName::parse(format!("c{n}")).unwrap();
            database.create_collection(&CollectionSpec::new(name), false).await.unwrap();
        }
        let (mut export, mut file) =
            (session.export().await.unwrap(), tempfile::tempfile().unwrap());
        while let Some(part) = export.next().await {
            file.write_all(&part.unwrap()).unwrap();
        }
        let permits = Arc::new(Semaphore::new(1));
        let permit = Arc::new(Arc::clone(&permits).acquire_owned().await.unwrap());
        let (sender, mut items) = mpsc::channel(ITEMS);
        let work = reading((file, 1 << 30), sender, Arc::clone(&permit));
        assert!(items.recv().await.is_some());
        // Whoever imports is gone; the thread waits to hand on what it has read.
        drop(permit);
        assert_eq!(permits.available_permits(), 0);
        drop(items);
        assert_eq!(work.await.unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(permits.available_permits(), 1);
    }
}
