//! Where data lives, and what each backend is told.

use super::{ByteSize, IsolationWord, MasterKeySource, Secret, Settings, location::locations};
use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::Deserialize;
use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
};
use tenantry::{
    BackendKind, EmbeddedConfig, Isolation,
    archive::ArchiveConfig,
    postgres::{DatabaseUrl, DatabasesConfig, PostgresConfig},
};

const DATA_DIR: &str = "tenantry-data";
const MEMORY_BUDGET: ByteSize = ByteSize(1 << 30);
/// Below it hardly one tenant's vectors fit; what is given is then most likely meant in MiB.
pub(super) const MEMORY_BUDGET_MIN: ByteSize = ByteSize(16 << 20);
const CACHE_SIZE: ByteSize = ByteSize(4 << 20);
/// Below it a piece takes a minute; what is given is then most likely meant in MB.
const MOVE_RATE_MIN: ByteSize = ByteSize(1 << 10);
const OPEN_DATABASES: u32 = 64;
const DATABASE_CONNECTIONS_MIN: u32 = 2;

/// Where data lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BackendWord {
    /// Files of this machine
    #[default]
    Embedded,
    /// A PostgreSQL database
    Postgres,
}

impl BackendWord {
    /// Its word in the protocol.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Embedded => BackendKind::Embedded.word(),
            Self::Postgres => BackendKind::Postgres.word(),
        }
    }
}

/// Where data lives and with how much memory.
#[derive(Debug, Clone)]
pub(crate) struct StoreConfig {
    /// Of all data, or of the master key's file alone.
    pub(crate) data_dir: PathBuf,
    pub(crate) master_key: MasterKeySource,
    pub(crate) default_isolation: Isolation,
    pub(crate) backend: Backend,
    /// Databases that tenants may be in beside the backend's own place, and how all are used.
    pub(crate) databases: DatabasesConfig,
    /// Bytes a second that moves may copy.
    pub(crate) move_rate: Option<NonZeroU64>,
    pub(crate) archives: ArchiveConfig,
    /// For a server, and not for a command: it makes an installation if there is none, and looks at
    /// all databases before it serves.
    pub(crate) is_server: bool,
}

/// A backend with its settings.
#[derive(Debug, Clone)]
pub(crate) enum Backend {
    Embedded { memory_budget: ByteSize, cache_size: ByteSize, open_databases: u32 },
    Postgres(Box<Database>),
}

/// A database of PostgreSQL.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) url: DatabaseUrl,
    admin_url: Option<DatabaseUrl>,
}

/// What a command works on that makes neither a folder nor an installation.
#[derive(Debug, Default)]
pub(crate) struct Existing {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) database_url: Option<Secret>,
    pub(crate) database_ca: Option<PathBuf>,
    pub(crate) location: Option<Vec<Secret>>,
    pub(crate) default_location: Option<String>,
    pub(crate) default_isolation: Option<IsolationWord>,
}

/// What a store is opened with.
#[derive(Debug)]
pub(crate) enum Opening {
    Embedded(Box<EmbeddedConfig>),
    Postgres(Box<PostgresConfig>),
}

impl StoreConfig {
    /// What the settings say of the store; those of the other backend are refused, because
    /// whoever gave them believes that they do something.
    pub(super) fn check(given: &Settings) -> Result<Self> {
        let backend = match given.backend.unwrap_or_default() {
            BackendWord::Embedded => embedded(given)?,
            BackendWord::Postgres => postgres(given)?,
        };
        let home = match &backend {
            Backend::Embedded { .. } => None,
            Backend::Postgres(database) => Some(&database.url),
        };
        let databases = databases(home, given)?;
        if let Some(rate) = given.move_rate {
            ensure!(
                rate >= MOVE_RATE_MIN,
                "move_rate is {rate}, at least {MOVE_RATE_MIN} is needed; a number without a unit \
                 counts bytes, so write it like 20MB"
            );
        }
        let master_key = MasterKeySource::choose(
            given.master_key_env.clone(),
            given.master_key_command.clone(),
        )?;
        let data_dir = given.data_dir.clone().unwrap_or_else(|| DATA_DIR.into());
        let archives = archives(given, &backend, &data_dir);
        Ok(Self {
            data_dir,
            master_key,
            default_isolation: given.default_isolation.map_or(Isolation::Shared, Into::into),
            backend,
            databases,
            move_rate: given.move_rate.and_then(|rate| NonZeroU64::new(rate.0)),
            archives,
            is_server: true,
        })
    }

    /// For a command that works on a folder, or on the database of this URL, and makes neither.
    pub(crate) fn existing(what: Existing, master_key: MasterKeySource) -> Result<Self> {
        let Existing { data_dir, database_url, database_ca, location, default_location, .. } = what;
        let backend = database_url.as_ref().map(|_| BackendWord::Postgres);
        let settings = Settings {
            data_dir,
            backend,
            database_url,
            database_ca,
            location,
            default_location,
            default_isolation: what.default_isolation,
            ..Settings::default()
        };
        let mut config = Self::check(&settings)?;
        config.master_key = master_key;
        config.is_server = false;
        Ok(config)
    }

    /// Refuses the folder of an embedded store for the master key of a database: whoever gave it
    /// means to serve what is in it, or would have one key for two installations.
    fn refuse_embedded(&self) -> Result<()> {
        let folder = self.data_dir.display();
        ensure!(
            self.master_key != MasterKeySource::File || !self.data_dir.join("format").exists(),
            "{folder} holds an embedded store, and an installation in PostgreSQL has no tenants in \
             files, because a folder belongs to one process: name another folder for its master \
             key. To have tenants in both, serve the folder with --backend embedded, and give \
             databases by --location"
        );
        Ok(())
    }

    /// What the store is opened with.
    pub(crate) fn opening(&self) -> Result<Opening> {
        let master_key = self.master_key.resolve()?;
        match &self.backend {
            Backend::Embedded { memory_budget, cache_size, open_databases } => {
                let mut config = EmbeddedConfig::new(&self.data_dir);
                config.master_key = master_key;
                config.memory_budget_bytes = memory_budget.0;
                config.cache_bytes = cache_size.0;
                config.default_isolation = self.default_isolation;
                config.open_databases = *open_databases as usize;
                config.databases = self.databases.clone();
                config.move_rate = self.move_rate;
                Ok(Opening::Embedded(Box::new(config)))
            }
            Backend::Postgres(database) => {
                self.refuse_embedded()?;
                let mut config = PostgresConfig::new(database.url.clone(), &self.data_dir);
                config.master_key = master_key;
                config.admin_url.clone_from(&database.admin_url);
                config.databases = self.databases.clone();
                config.move_rate = self.move_rate;
                config.default_isolation = self.default_isolation;
                config.may_found = self.is_server;
                Ok(Opening::Postgres(Box::new(config)))
            }
        }
    }
}

fn embedded(given: &Settings) -> Result<Backend> {
    ensure!(
        given.database_url.is_none(),
        "database_url is given, and the backend is embedded: give --backend postgres too (by flag, \
         by TENANTRY_BACKEND, or as backend in the file). Beside files, a database is a location: \
         --location NAME=URL"
    );
    refuse("embedded", &[("database_admin_url", given.database_admin_url.is_some())])?;
    let memory_budget = given.memory_budget.unwrap_or(MEMORY_BUDGET);
    ensure!(
        memory_budget >= MEMORY_BUDGET_MIN,
        "memory_budget is {memory_budget}, at least {MEMORY_BUDGET_MIN} is needed; a number \
         without a unit counts bytes, so write it like 512MiB or 2GiB"
    );
    let open_databases = given.open_databases.unwrap_or(OPEN_DATABASES);
    ensure!(open_databases > 0, "open_databases must be at least 1");
    let cache_size = given.cache_size.unwrap_or(CACHE_SIZE);
    Ok(Backend::Embedded { memory_budget, cache_size, open_databases })
}

fn postgres(given: &Settings) -> Result<Backend> {
    refuse(
        "postgres",
        &[
            ("memory_budget", given.memory_budget.is_some()),
            ("cache_size", given.cache_size.is_some()),
            ("open_databases", given.open_databases.is_some()),
        ],
    )?;
    let Some(url) = &given.database_url else {
        bail!(
            "the backend is postgres, and database_url is missing: give the URL that `tenantry \
             postgres setup` printed, best by the variable TENANTRY_DATABASE_URL"
        );
    };
    let admin_url = given.database_admin_url.as_ref();
    Ok(Backend::Postgres(Box::new(Database {
        url: url.url("database_url")?,
        admin_url: admin_url.map(|url| url.url("database_admin_url")).transpose()?,
    })))
}

/// What is said of databases, whichever the backend is; `home` is the installation's own.
fn databases(home: Option<&DatabaseUrl>, given: &Settings) -> Result<DatabasesConfig> {
    let mut config = DatabasesConfig::default();
    if let Some(count) = given.database_connections {
        let connections = NonZeroUsize::new(count as usize);
        let connections = connections.filter(|_| count >= DATABASE_CONNECTIONS_MIN);
        config.connections = connections.with_context(|| {
            format!("database_connections must be at least {DATABASE_CONNECTIONS_MIN}")
        })?;
    }
    if let Some(timeout) = given.database_statement_timeout {
        ensure!(!timeout.0.is_zero(), "database_statement_timeout must be more than nothing");
        config.statement_timeout = timeout.0;
    }
    (config.locations, config.default_location) = locations(home, given)?;
    config.ca.clone_from(&given.database_ca);
    config.citus = given.database_citus.unwrap_or(false);
    Ok(config)
}

/// Refuses settings that this backend does not know.
fn refuse(backend: &str, settings: &[(&str, bool)]) -> Result<()> {
    match settings.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => {
            bail!("{name} has no meaning with the backend {backend}: leave it out")
        }
        None => Ok(()),
    }
}

/// Where archives are kept while somebody works on them: on the disk that has room for the data, if
/// it is one of this machine.
fn archives(given: &Settings, backend: &Backend, data_dir: &Path) -> ArchiveConfig {
    let usual = ArchiveConfig::default();
    let folder = match backend {
        Backend::Embedded { .. } => data_dir.to_owned(),
        Backend::Postgres(_) => usual.folder,
    };
    ArchiveConfig {
        folder: given.archive_dir.clone().unwrap_or(folder),
        bytes_max: given.archive_size_max.map_or(usual.bytes_max, |size| size.0),
        free_min: given.archive_free_min.map_or(usual.free_min, |size| size.0),
        wait_max: usual.wait_max,
    }
}
