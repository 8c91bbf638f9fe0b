//! How a store on PostgreSQL is opened.

use super::url::DatabaseUrl;
use crate::{
    Entropy, SystemClock, SystemEntropy,
    pool::{Pool, PoolConfig},
    tenancy::master::MasterKey,
};
use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tenantry_types::{Clock, Isolation, Location, LocationName};

/// How to open a store on PostgreSQL.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// The installation's database, and the role that serves. It may lead to a pooler that gives
    /// each transaction a connection, if that has as many for each database as all nodes together:
    /// work that holds one while it waits for another, which the pooler does not have, ends only
    /// by time.
    pub url: DatabaseUrl,
    /// The same database with the role that makes and removes places of tenants; without it there
    /// are only shared ones.
    pub admin_url: Option<DatabaseUrl>,
    /// All databases, this one included.
    pub databases: DatabasesConfig,
    /// Where the master key comes from. All nodes of an installation have the same.
    pub master_key: MasterKey,
    /// The folder of the master key's file.
    pub key_folder: PathBuf,
    /// Makes the installation if the database has none yet.
    pub may_found: bool,
    /// Where a tenant is made whose spec does not say it.
    pub default_isolation: Isolation,
    /// Where tenants' work waits for its turn.
    pub pool: Pool,
    /// Bytes a second that are copied, and then compared, of tenants that are moved: at most, and one
    /// piece at once. Without it moves rest three times as long as they work.
    pub move_rate: Option<NonZeroU64>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where random bytes come from.
    pub entropy: Arc<dyn Entropy>,
}

/// Databases that tenants may be in beside the installation's place, and how all are used.
#[derive(Debug, Clone)]
pub struct DatabasesConfig {
    /// Those that have a name. Each was prepared by `tenantry postgres setup`, and belongs to this
    /// installation alone.
    pub locations: Vec<LocationConfig>,
    /// Which of them a tenant is made in whose spec does not say it; `None` is where the
    /// installation is.
    pub default_location: Option<LocationName>,
    /// A file of certificates (PEM) that may vouch for the servers'.
    pub ca: Option<PathBuf>,
    /// Connections at most, at least two; where the installation is in PostgreSQL, one more asks
    /// what other nodes took away.
    pub connections: NonZeroUsize,
    /// How long a server may take for one statement.
    pub statement_timeout: Duration,
    /// Says each transaction's tenant also in the words that Citus hands on to its workers. Never
    /// tried with one.
    pub citus: bool,
    /// Collections of so many records get graphs for approximate search, if their tenant lives
    /// apart.
    pub graph_above: u64,
    /// How long after a tenant was moved the place that it has left is emptied. Until then every
    /// node must have learned where the tenant lives, which takes it a second at most.
    pub emptied_after: Duration,
    /// How long another node may say nothing that imports or copies a tenant, before that is given
    /// up and the new tenant deleted. Looking after it, it says something five times as often.
    pub arrival_patience: Duration,
}

impl Default for DatabasesConfig {
    /// No locations, 32 connections, 30 seconds a statement, graphs from 20,000 records on.
    fn default() -> Self {
        Self {
            locations: Vec::new(),
            default_location: None,
            ca: None,
            connections: CONNECTIONS,
            statement_timeout: Duration::from_secs(30),
            citus: false,
            graph_above: GRAPH_ABOVE,
            emptied_after: EMPTIED_AFTER,
            arrival_patience: ARRIVAL_PATIENCE,
        }
    }
}

impl DatabasesConfig {
    /// Where a tenant is made whose spec does not say it.
    pub(crate) fn default_location(&self) -> Location {
        self.default_location.map_or(Location::Home, Location::Named)
    }
}

/// A database that tenants may be in, beside the installation's.
#[derive(Debug, Clone)]
pub struct LocationConfig {
    /// How it is called.
    pub name: LocationName,
    /// The database, and the role that serves.
    pub url: DatabaseUrl,
    /// The same database with the role that makes and removes places of tenants.
    pub admin_url: Option<DatabaseUrl>,
}

/// Connections of a node.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");

const GRAPH_ABOVE: u64 = 20_000;
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(300);
const EMPTIED_AFTER: Duration = Duration::from_secs(3);

impl PostgresConfig {
    /// Defaults: a key file in `key_folder`, shared tenants, the system's clock and randomness.
    pub fn new(url: DatabaseUrl, key_folder: impl Into<PathBuf>) -> Self {
        Self {
            url,
            admin_url: None,
            databases: DatabasesConfig::default(),
            master_key: MasterKey::File,
            key_folder: key_folder.into(),
            may_found: true,
            default_isolation: Isolation::Shared,
            move_rate: None,
            pool: Pool::new(PoolConfig::default()),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}
