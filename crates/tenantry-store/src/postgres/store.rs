//! Opening, and what is asked of the whole.

use super::{
    carry::Left,
    claim::{self, Owner},
    cluster::{Cluster, IDLE, LOCK, Shared},
    config::PostgresConfig,
    connections::Connections,
    graphs::{self, Graphs},
    installed::look_at_room,
    lead::Lead,
    locations::{Located, Locations, Secrets},
    opening::Ways,
    purge,
    purging::Purging,
    statement::Limits,
    vector::DIMENSION_MAX,
    view::PgView,
    watch::{self, Watch},
};
use crate::{
    BackendKind, ConnectionTotals, Health, Site, StoreTotals,
    pool::Pool,
    tenancy::{
        Backend as _, Space, Tenancy, View as _,
        keys::{self, Prefix},
        master::{MasterKey, open_error},
        moving, number,
        seal::SealingKey,
        slot::Slot,
        tenants::Tenants,
    },
};
use parking_lot::Mutex;
use std::{
    fs,
    num::NonZeroUsize,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, Result};

/// Connections of whoever moves a tenant, beside all others, while he does.
const MOVERS: usize = 4;

/// The backend on PostgreSQL. All operations are those of [`crate::Store`].
#[derive(Debug)]
pub struct Postgres {
    pub(crate) inner: Arc<Tenancy<Cluster>>,
}

impl Postgres {
    /// Opens the installation in a database, or makes it there. Must be called inside a tokio
    /// runtime.
    pub(crate) async fn open(config: PostgresConfig) -> Result<Self> {
        let tenants = Arc::new(Tenants::new());
        let revocations = Arc::new(AtomicU64::new(0));
        let ways = Ways::new(&config.url, config.admin_url.as_ref(), config.ca.as_deref())?;
        let locations = Locations::new(&config)?;
        let may_be = |owner: &Owner| match owner {
            Owner::Others => Err(claim::is_others(&format!("the database {}", config.url))),
            Owner::Nobody | Owner::Us(_) | Owner::Installation => Ok(()),
        };
        let (session, _) = ways.check(None, may_be).await?;
        // Commands want few connections and make few tenants.
        if config.may_found {
            look_at_room(&session, &config).await?;
        }
        drop(session);
        let shared = Arc::new(shared(&config, ways, locations, &tenants, &revocations)?);
        shared.watch.look().await?;
        let inner = found(&config, &shared, tenants, revocations).await?;
        match shared.is_at_home().await {
            Err(why) if why.kind() == ErrorKind::Conflict => {
                tracing::warn!(%why, "tenants with a database of their own are not served");
            }
            other => other?,
        }
        shared.open_locations().await?;
        if config.may_found {
            let location = config.default_location.map_or(Location::Home, Location::Named);
            if let Err(why) = inner.can_make(config.default_isolation, location) {
                tracing::warn!(%why, "tenants whose making does not say another isolation fail");
            }
        }
        watch::spawn(&shared);
        purge::spawn(&shared);
        graphs::spawn(&shared);
        // Commands end too soon for it.
        if config.may_found {
            moving::spawn(&inner);
        }
        Ok(Self { inner })
    }

    pub(crate) fn health(&self) -> Health {
        match self.inner.shared.watch.trouble() {
            None => Health::Ready,
            Some(why) => Health::Unavailable(why),
        }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.inner.pool
    }

    pub(crate) fn sites(&self) -> Vec<Site> {
        let shared = &self.inner.shared;
        let site = |(location, makes): (Location, &[Isolation])| Site {
            location,
            backend: BackendKind::Postgres,
            isolations: makes.to_vec(),
            dimension_max: u32::try_from(DIMENSION_MAX).unwrap_or(u32::MAX),
            graphs: Some(shared.graphs.bounds()),
        };
        let home = (Location::Home, shared.home.makes());
        let own = (Location::Own, &[Isolation::Database][..]);
        let named = shared.locations.all().map(|(name, at)| (Location::Named(name), at.makes()));
        [home].into_iter().chain(named).chain([own]).map(site).collect()
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let shared = &self.inner.shared;
        let open_tenants = self.inner.tenants.len() as u64;
        let commits = shared.commits.load(Ordering::Relaxed);
        let pool = self.inner.pool.totals();
        let mut connections = ConnectionTotals::default();
        for of in [&shared.connections, &shared.lookups, &shared.far, &shared.movers] {
            of.add_to(&mut connections);
        }
        StoreTotals { commits, connections, open_tenants, pool, ..StoreTotals::default() }
    }

    pub(crate) fn close(&self) {
        let shared = &self.inner.shared;
        shared.closed.store(true, Ordering::Release);
        shared.connections.close();
        shared.lookups.close();
        shared.far.close();
        shared.movers.close();
        shared.lead.let_go();
        self.inner.moves.wake.notify_one();
        shared.watch.close();
        shared.purge.notify_one();
        shared.graphs.wake();
    }
}

fn shared(
    config: &PostgresConfig,
    ways: Ways,
    locations: Locations,
    tenants: &Arc<Tenants>,
    revocations: &Arc<AtomicU64>,
) -> Result<Shared> {
    // Those for lookups are held for one answer at a time, so a few are enough.
    let all = config.connections.get();
    let lookups = (all / 8).max(1);
    let some = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let connections = |count: usize| Connections::new(some(count));
    let home = Arc::new(Located::home(ways)?);
    let root = home.root.clone();
    let (tenants, revocations) = (Arc::clone(tenants), Arc::clone(revocations));
    Ok(Shared {
        connections: Connections::with_home(some(all.saturating_sub(lookups))),
        lookups: connections(lookups),
        // With one, no database had a part of it only.
        far: connections(lookups.max(2)),
        movers: connections(MOVERS),
        lead: Lead::default(),
        left: Left::default(),
        emptied_after: config.emptied_after,
        limits: Limits {
            statement: config.statement_timeout,
            lock: LOCK,
            idle: IDLE,
            citus: config.citus,
        },
        root: root.clone(),
        watch: Watch::new(connections(1), root, tenants, revocations),
        home,
        locations,
        is_at_home: AtomicBool::new(false),
        secrets: OnceLock::new(),
        unpurged: Mutex::default(),
        purging: Purging::new(),
        purge: Arc::default(),
        graphs: Graphs::new(config.graph_above),
        commits: AtomicU64::new(0),
        closed: AtomicBool::new(false),
    })
}

/// Opens the installation, or makes it if there is none: of several nodes that start at once one
/// does, and the others wait for it.
async fn found(
    config: &PostgresConfig,
    shared: &Arc<Shared>,
    tenants: Arc<Tenants>,
    revocations: Arc<AtomicU64>,
) -> Result<Arc<Tenancy<Cluster>>> {
    // Before anything is locked: a command may take its time.
    let key = config.master_key.read(&config.key_folder)?;
    let view = PgView::founding(shared).await?;
    let installation = Prefix::of(TenantId::INSTALLATION);
    let row = view.get(Space::Catalog, &keys::Tenant {}.encode(installation)).await?;
    let next = view.get(Space::Catalog, &keys::NextTenant {}.encode(installation)).await?;
    let next = next.map_or(Ok(1), |next| number(&next))?;
    let is_new = row.is_none();
    if is_new && next != 1 {
        return Err(Error::corrupt("the database is damaged: the installation's row is gone"));
    }
    let claim = keys::Claim {}.encode(installation);
    if is_new && view.get(Space::Catalog, &claim).await?.is_some() {
        return Err(claim::is_others(&format!("the database {}", config.url)));
    }
    if is_new && !config.may_found {
        let message = format!(
            "there is no installation in the database {} yet: `tenantry serve` makes it",
            config.url
        );
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    // Another node may have made its file since it was looked for.
    let key = match key {
        None if !is_new => config.master_key.read(&config.key_folder)?,
        key => key,
    };
    let master = match key {
        Some(key) => key,
        None if is_new => make_key(config)?,
        None => return Err(no_key(&config.key_folder)),
    };
    let location = config.default_location.map_or(Location::Home, Location::Named);
    let pool = config.pool.clone();
    let cluster = Cluster { shared: Arc::clone(shared), pool, master };
    let (clock, entropy) = (Arc::clone(&config.clock), Arc::clone(&config.entropy));
    let inner = Arc::new(Tenancy::new(
        cluster,
        tenants,
        revocations,
        clock,
        entropy,
        (config.default_isolation, location),
    ));
    if is_new {
        let set = inner.founding(view.generation())?;
        // What came of it is seen when it is opened.
        if let Err(why) = inner.submit(view, set).await {
            tracing::warn!(?why, "make the installation");
        }
    } else {
        drop(view);
    }
    check_key(&inner).await?;
    let installation = inner.installation().await?;
    let _ = inner.shared.secrets.set(Secrets::of(installation.key(), &config.entropy));
    inner.give_ids_from(next);
    Ok(inner)
}

/// Fails with words for whoever starts the program if the installation has another master key.
async fn check_key(inner: &Tenancy<Cluster>) -> Result<()> {
    let root = inner.root(None).await?;
    match inner.slot(&root, TenantId::INSTALLATION).await {
        Ok(Slot::Live(_)) => Ok(()),
        Ok(Slot::Empty | Slot::Erased) => {
            Err(Error::corrupt("the database is damaged: the installation's key is gone"))
        }
        Err(why) if why.kind() == ErrorKind::Corrupt => {
            let message = "the installation in this database was made with another master key, \
                           or its key is damaged: give this node the master key of the node that \
                           made it";
            Err(Error::new(ErrorKind::Corrupt, message).with_source(why))
        }
        Err(why) => Err(why),
    }
}

fn make_key(config: &PostgresConfig) -> Result<SealingKey> {
    let folder = config.key_folder.as_path();
    if !folder.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|why| open_error("make the folder of the master key", folder, why))?;
    }
    MasterKey::make_file(folder, &*config.entropy)
}

fn no_key(folder: &Path) -> Error {
    let message = format!(
        "the master key {} is missing: the installation in this database was made with one, which \
         must be copied from the node that made it",
        MasterKey::file(folder).display()
    );
    Error::new(ErrorKind::Unavailable, message)
}
