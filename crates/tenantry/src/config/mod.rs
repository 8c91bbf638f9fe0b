//! What the server can be told. Every setting is a flag, an environment variable `TENANTRY_…` and
//! a key of the configuration file, all of one name; the first of these that is given wins.

mod address;
mod settings;
mod units;

pub(crate) use address::Address;
pub(crate) use settings::{IsolationWord, LogFormat, Settings};
pub(crate) use units::{ByteSize, Span};

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tenantry::{EmbeddedConfig, Isolation, MasterKey};

const DATA_DIR: &str = "tenantry-data";
const CONNECTIONS_MAX: u32 = 4_096;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
const MEMORY_BUDGET: ByteSize = ByteSize(1 << 30);
/// Below it hardly one tenant's vectors fit; what is given is then most likely meant in MiB.
const MEMORY_BUDGET_MIN: ByteSize = ByteSize(16 << 20);
const CACHE_SIZE: ByteSize = ByteSize(4 << 20);
const OPEN_DATABASES: u32 = 64;

/// The settings of a server, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) store: StoreConfig,
    pub(crate) listen: SocketAddr,
    pub(crate) chroma_listen: Option<SocketAddr>,
    pub(crate) dev: bool,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) connections_max: u32,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) log: LogConfig,
}

/// How the log is written.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    pub(crate) format: LogFormat,
    pub(crate) filter: String,
}

/// Where data lives and with how much memory.
#[derive(Debug, Clone)]
pub(crate) struct StoreConfig {
    pub(crate) data_dir: PathBuf,
    pub(crate) master_key: MasterKeySource,
    pub(crate) memory_budget: ByteSize,
    pub(crate) cache_size: ByteSize,
    pub(crate) default_isolation: Isolation,
    pub(crate) open_databases: u32,
}

/// The files of a certificate.
#[derive(Debug, Clone)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// Where the master key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MasterKeySource {
    /// The file `master.key` in the data folder, made on first start.
    File,
    /// The environment variable of this name.
    Environment(String),
    /// The output of this command.
    Command(String),
}

impl Config {
    /// The configuration that flags and environment (`given`) make with the file, if there is one.
    pub(crate) fn load(given: Settings, file: Option<&Path>) -> Result<Self> {
        let settings = match file {
            Some(path) => given.or(read_file(path)?),
            None => given,
        };
        Self::check(settings)
    }

    fn check(given: Settings) -> Result<Self> {
        let listen = given.listen.unwrap_or_default().0;
        let chroma_listen = given.chroma_listen.map(|a| a.0);
        let dev = given.dev.unwrap_or(false);
        let tls = match (given.tls_cert, given.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => bail!("tls_cert is given without tls_key"),
            (None, Some(_)) => bail!("tls_key is given without tls_cert"),
        };
        let protected = tls.is_some() || given.behind_proxy.unwrap_or(false);
        for (name, address) in [("listen", Some(listen)), ("chroma_listen", chroma_listen)] {
            let Some(address) = address.filter(|a| !a.ip().is_loopback()) else { continue };
            ensure!(
                !dev,
                "{name} {address}: dev switches authentication off and is refused on any address \
                 but loopback"
            );
            ensure!(
                protected,
                "{name} {address} is reachable from other machines: give --tls-cert and --tls-key, \
                 or --behind-proxy if a proxy in front terminates TLS (in a file tls_cert, tls_key, \
                 behind_proxy)"
            );
        }
        let memory_budget = given.memory_budget.unwrap_or(MEMORY_BUDGET);
        ensure!(
            memory_budget >= MEMORY_BUDGET_MIN,
            "memory_budget is {memory_budget}, at least {MEMORY_BUDGET_MIN} is needed; a number \
             without a unit counts bytes, so write it like 512MiB or 2GiB"
        );
        let open_databases = given.open_databases.unwrap_or(OPEN_DATABASES);
        ensure!(open_databases > 0, "open_databases must be at least 1");
        let connections_max = given.connections_max.unwrap_or(CONNECTIONS_MAX);
        ensure!(connections_max > 0, "connections_max must be at least 1");
        Ok(Self {
            store: StoreConfig {
                data_dir: given.data_dir.unwrap_or_else(|| DATA_DIR.into()),
                master_key: MasterKeySource::choose(
                    given.master_key_env,
                    given.master_key_command,
                )?,
                memory_budget,
                cache_size: given.cache_size.unwrap_or(CACHE_SIZE),
                default_isolation: given.default_isolation.map_or(Isolation::Shared, Into::into),
                open_databases,
            },
            listen,
            chroma_listen,
            dev,
            tls,
            connections_max,
            shutdown_timeout: given.shutdown_timeout.map_or(SHUTDOWN_TIMEOUT, |s| s.0),
            log: LogConfig {
                format: given.log_format.unwrap_or_default(),
                filter: given.log.unwrap_or_else(|| "info".into()),
            },
        })
    }
}

fn read_file(path: &Path) -> Result<Settings> {
    let shown = path.display();
    let text = fs::read_to_string(path).with_context(|| format!("read configuration {shown}"))?;
    // The parser's message has several lines, with the place; the command line promises one.
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("configuration {shown}, line {line}: {}", one_line(error.message()))
    })
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

impl MasterKeySource {
    /// The source that the two settings name.
    pub(crate) fn choose(variable: Option<String>, command: Option<String>) -> Result<Self> {
        match (variable, command) {
            (None, None) => Ok(Self::File),
            (Some(name), None) => Ok(Self::Environment(name)),
            (None, Some(command)) => Ok(Self::Command(command)),
            (Some(_), Some(_)) => {
                bail!("master_key_env and master_key_command exclude each other")
            }
        }
    }

    fn resolve(&self) -> Result<MasterKey> {
        match self {
            Self::File => Ok(MasterKey::File),
            Self::Command(command) => Ok(MasterKey::Command(command.clone())),
            Self::Environment(name) => {
                let text = std::env::var(name)
                    .map_err(|_| anyhow::anyhow!("master key: the variable {name} is not set"))?;
                MasterKey::from_hex(&text).with_context(|| format!("the variable {name}"))
            }
        }
    }
}

impl StoreConfig {
    /// The store of a folder, with default budgets.
    pub(crate) fn new(data_dir: PathBuf, master_key: MasterKeySource) -> Self {
        Self {
            data_dir,
            master_key,
            memory_budget: MEMORY_BUDGET,
            cache_size: CACHE_SIZE,
            default_isolation: Isolation::Shared,
            open_databases: OPEN_DATABASES,
        }
    }

    /// What the store is opened with.
    pub(crate) fn embedded(&self) -> Result<EmbeddedConfig> {
        let mut config = EmbeddedConfig::new(&self.data_dir);
        config.master_key = self.master_key.resolve()?;
        config.memory_budget_bytes = self.memory_budget.0;
        config.cache_bytes = self.cache_size.0;
        config.default_isolation = self.default_isolation;
        config.open_databases = self.open_databases as usize;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
