//! What the server can be told. Every setting is a flag, an environment variable `TENANTRY_…` and
//! a key of the configuration file, all of one name; the first of these that is given wins.

mod address;
mod issuers;
mod location;
mod policy;
mod secret;
mod settings;
mod store;
mod units;

pub(crate) use address::Address;
pub(crate) use policy::read_policy;
pub(crate) use secret::Secret;
pub(crate) use settings::{IsolationWord, LogFormat, Settings};
pub(crate) use store::{Backend, BackendWord, Existing, Opening, StoreConfig};
pub(crate) use units::{ByteSize, Span};

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use tenantry::{Location, MasterKey, placement::Policy, token::IssuerSpec};

const CONNECTIONS_MAX: u32 = 4_096;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

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
    pub(crate) policy: Option<Policy>,
    pub(crate) issuers: Vec<IssuerSpec>,
    pub(crate) log: LogConfig,
}

/// How the log is written.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    pub(crate) format: LogFormat,
    pub(crate) filter: String,
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
        let store = StoreConfig::check(&given)?;
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
        let policy = match &given.placement_policy {
            Some(path) => Some(policy_of(path, &store)?),
            None => None,
        };
        let issuers = given.token_issuers.as_deref().map(issuers::read_issuers).transpose()?;
        let connections_max = given.connections_max.unwrap_or(CONNECTIONS_MAX);
        ensure!(connections_max > 0, "connections_max must be at least 1");
        Ok(Self {
            store,
            listen,
            chroma_listen,
            dev,
            tls,
            connections_max,
            shutdown_timeout: given.shutdown_timeout.map_or(SHUTDOWN_TIMEOUT, |s| s.0),
            policy,
            issuers: issuers.unwrap_or_default(),
            log: LogConfig {
                format: given.log_format.unwrap_or_default(),
                filter: given.log.unwrap_or_else(|| "info".into()),
            },
        })
    }
}

/// A policy that leads only to where tenants can be.
fn policy_of(path: &Path, store: &StoreConfig) -> Result<Policy> {
    let policy = read_policy(path)?;
    let is_known = |location: &Location| match location {
        Location::Home | Location::Own => true,
        Location::Named(name) => store.databases.locations.iter().any(|one| one.name == *name),
    };
    let mut all = policy.rules().iter().filter_map(|rule| rule.to_location);
    if let Some(location) = all.find(|location| !is_known(location)) {
        let shown = path.display();
        bail!(
            "placement policy {shown}: there is no location {location}; give its URL by --location \
             {location}=URL"
        );
    }
    Ok(policy)
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

#[cfg(test)]
mod tests;
