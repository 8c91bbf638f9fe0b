//! Opening, and what is asked of the whole.

use super::{
    carry::Left,
    claim::{self, Owner},
    cluster::{Cluster, IDLE, LOCK, Shared},
    config::{DatabasesConfig, PostgresConfig},
    connections::Connections,
    graphs::{self, Graphs},
    installed::look_at_room,
    lead::Lead,
    locations::{Located, Locations, Secrets},
    opening::Ways,
    purge,
    purging::Purging,
    root::{Elsewhere, Root},
    statement::Limits,
    vector::DIMENSION_MAX,
    view::PgView,
    watch::{self, Watch},
};
use crate::{
    BackendKind, ConnectionTotals, Entropy, Health, Site, StoreTotals,
    pool::Pool,
    sites::Sites,
    tenancy::{
        Backend as _, Space, Tenancy, View as _, arrival,
        keys::{self, Prefix},
        master::{MasterKey, open_error},
        moving, number,
        seal::SealingKey,
        slot::Slot,
        tenants::{OpenTenant, Tenants},
    },
};
use parking_lot::Mutex;
use std::{
    fs,
    num::NonZeroUsize,
    ops::Deref,
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
const MOVERS: usize = 8;
/// The same of whoever reads all of a tenant.
const SNAPSHOTS: usize = crate::snapshot::AT_ONCE;

/// Records in databases of PostgreSQL. All operations on them are those of [`crate::Store`].
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    pub(crate) inner: Arc<Inner>,
}

/// The databases, and the tenants that are in them or in other places.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) tenancy: Arc<Tenancy<Sites>>,
    cluster: Arc<Cluster>,
}

impl Deref for Inner {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl Cluster {
    /// Databases beside an installation that is elsewhere. Nothing is asked of them yet.
    pub(crate) fn beside(
        elsewhere: Arc<dyn Elsewhere>,
        config: &DatabasesConfig,
        pool: Pool,
        tenants: &Arc<Tenants>,
        revocations: &Arc<AtomicU64>,
    ) -> Result<Arc<Self>> {
        let shared = shared(config, Root::Elsewhere(elsewhere), tenants, revocations)?;
        Ok(Arc::new(Self { shared: Arc::new(shared), pool, master: None }))
    }

    /// Learns what the data key of the installation, which is open now, is needed for here.
    pub(crate) fn know(&self, installation: &OpenTenant, entropy: &Arc<dyn Entropy>) {
        let _ = self.shared.secrets.set(Secrets::of(installation.key(), entropy));
    }
}

impl Postgres {
    /// For an installation that is elsewhere.
    pub(crate) fn beside(cluster: Arc<Cluster>, tenancy: &Arc<Tenancy<Sites>>) -> Self {
        purge::spawn(&cluster.shared);
        graphs::spawn(&cluster.shared);
        Self { inner: Arc::new(Inner { tenancy: Arc::clone(tenancy), cluster }) }
    }

    /// Opens the installation in a database, or makes it there. Must be called inside a tokio
    /// runtime.
    pub(crate) async fn open(config: PostgresConfig) -> Result<Self> {
        let tenants = Arc::new(Tenants::new());
        let revocations = Arc::new(AtomicU64::new(0));
        let ca = config.databases.ca.as_deref();
        let ways = Ways::new(&config.url, config.admin_url.as_ref(), ca)?;
        let may_be = |owner: &Owner| match owner {
            Owner::Others => Err(claim::is_others(&format!("the database {}", config.url))),
            Owner::Nobody | Owner::Us(_) | Owner::Installation => Ok(()),
        };
        let (session, _, prefix) = ways.check(None, may_be).await?;
        // Commands want few connections and make few tenants.
        if config.may_found {
            look_at_room(&session, &config).await?;
        }
        drop(session);
        let root = Root::Here(Arc::new(Located::home(ways, prefix)?));
        let shared = Arc::new(shared(&config.databases, root, &tenants, &revocations)?);
        shared.watch.look().await?;
        let (tenancy, cluster) = found(&config, &shared, tenants, revocations).await?;
        match shared.is_at_home().await {
            Err(why) if why.kind() == ErrorKind::Conflict => {
                tracing::warn!(%why, "tenants with a database of their own are not served");
            }
            other => other?,
        }
        shared.open_locations().await?;
        if config.may_found {
            let location = config.databases.default_location();
            if let Err(why) = tenancy.can_make(config.default_isolation, location) {
                tracing::warn!(%why, "tenants whose making does not say another isolation fail");
            }
        }
        watch::spawn(&shared);
        purge::spawn(&shared);
        graphs::spawn(&shared);
        // Commands end too soon for it.
        if config.may_found {
            moving::spawn(&tenancy);
        }
        arrival::spawn(&tenancy);
        Ok(Self { inner: Arc::new(Inner { tenancy, cluster }) })
    }

    /// Looks at every location, for whoever starts the program.
    pub(crate) async fn open_locations(&self) -> Result<()> {
        self.inner.shared.open_locations().await
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
        let home = shared.home().ok().map(|home| (Location::Home, home.makes()));
        let own = (Location::Own, &[Isolation::Database][..]);
        let named = shared.locations.all().map(|(name, at)| (Location::Named(name), at.makes()));
        home.into_iter().chain(named).chain([own]).map(site).collect()
    }

    pub(crate) fn out_of_reach(&self) -> Vec<Location> {
        self.inner.shared.locations.out_of_reach()
    }

    pub(crate) fn totals(&self) -> StoreTotals {
        let shared = &self.inner.shared;
        let open_tenants = self.inner.tenancy.tenants.len() as u64;
        let commits = shared.commits.load(Ordering::Relaxed);
        let pool = self.inner.pool.totals();
        let mut connections = ConnectionTotals::default();
        for of in
            [&shared.connections, &shared.lookups, &shared.far, &shared.movers, &shared.exporters]
        {
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
        shared.exporters.close();
        shared.lead.let_go();
        self.inner.tenancy.moves.wake();
        self.inner.tenancy.arrivals.wake();
        shared.watch.close();
        shared.purge.notify_one();
        shared.graphs.wake();
    }
}

fn shared(
    config: &DatabasesConfig,
    root: Root,
    tenants: &Arc<Tenants>,
    revocations: &Arc<AtomicU64>,
) -> Result<Shared> {
    // Those for lookups are held for one answer at a time, so a few are enough.
    let all = config.connections.get();
    let lookups = (all / 8).max(1);
    let some = |count: usize| NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
    let connections = |count: usize| Connections::new(some(count));
    let (watched, working) = match &root {
        Root::Here(home) => {
            let working = some(all.saturating_sub(lookups));
            (Some(home.root.clone()), Connections::with_home(working))
        }
        // Nobody looks anything up in PostgreSQL, and no place is kept for a home.
        Root::Elsewhere(_) => (None, connections(all)),
    };
    let (tenants, revocations) = (Arc::clone(tenants), Arc::clone(revocations));
    Ok(Shared {
        connections: working,
        lookups: connections(lookups),
        // With one, no database had a part of it only.
        far: connections(lookups.max(2)),
        movers: connections(MOVERS),
        exporters: connections(SNAPSHOTS),
        lead: Lead::default(),
        left: Left::default(),
        emptied_after: config.emptied_after,
        arrival_patience: config.arrival_patience,
        limits: Limits {
            statement: config.statement_timeout,
            lock: LOCK,
            idle: IDLE,
            citus: config.citus,
        },
        root,
        watch: Watch::new(connections(1), watched, tenants, revocations),
        locations: Locations::new(config)?,
        is_at_home: AtomicBool::new(false),
        claiming: tokio::sync::Mutex::default(),
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
) -> Result<(Arc<Tenancy<Sites>>, Arc<Cluster>)> {
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
    let location = config.databases.default_location();
    let pool = config.pool.clone();
    let cluster = Arc::new(Cluster { shared: Arc::clone(shared), pool, master: Some(master) });
    let (clock, entropy) = (Arc::clone(&config.clock), Arc::clone(&config.entropy));
    let tenancy = Arc::new(Tenancy::new(
        Sites::new(None, Arc::clone(&cluster)),
        tenants,
        revocations,
        clock,
        entropy,
        (config.default_isolation, location),
    ));
    tenancy.moves.limit(config.move_rate);
    if is_new {
        let set = tenancy.founding(view.generation())?;
        // What came of it is seen when it is opened.
        if let Err(why) = tenancy.submit(view.into(), set).await {
            tracing::warn!(?why, "make the installation");
        }
    } else {
        drop(view);
    }
    check_key(&tenancy).await?;
    cluster.know(&*tenancy.installation().await?, &config.entropy);
    tenancy.give_ids_from(next);
    Ok((tenancy, cluster))
}

/// Fails with words for whoever starts the program if the installation has another master key.
async fn check_key(tenancy: &Tenancy<Sites>) -> Result<()> {
    let root = tenancy.root(None).await?;
    match tenancy.slot(&root, TenantId::INSTALLATION).await {
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
