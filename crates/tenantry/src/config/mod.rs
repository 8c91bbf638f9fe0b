//! What the server can be told. Every setting is a flag, an environment variable `TENANTRY_…` and
//! a key of the configuration file, all of one name; the first of these that is given wins.

mod address;
mod issuers;
mod location;
mod policy;
mod secret;
mod settings;
mod shared_rates;
mod signup;
mod store;
mod units;

pub(crate) use address::Address;
pub(crate) use policy::read_policy;
pub(crate) use secret::Secret;
pub(crate) use settings::{IsolationWord, LogFormat, ReasonWord, Settings};
pub(crate) use shared_rates::SharedRates;
pub(crate) use store::{Backend, BackendWord, Existing, Opening, StoreConfig};
pub(crate) use units::{ByteSize, Span};

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};
use tenantry::{
    Location, MasterKey, Network, PlanName, ProvisionRules, SignUpRules, TenantName, TenantSources,
    busiest::Busiest, placement::Policy, token::IssuerSpec,
};
use tenantry_api::{Hosts, Proxies};

const CONNECTIONS_MAX: u32 = 4_096;
const METRICS_TENANTS: usize = 20;
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);

/// The settings of a server, complete and checked.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) store: StoreConfig,
    pub(crate) listen: SocketAddr,
    pub(crate) chroma_listen: Option<SocketAddr>,
    pub(crate) admin_listen: Option<SocketAddr>,
    pub(crate) dev: bool,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) hosts: Option<Hosts>,
    pub(crate) proxies: Proxies,
    /// What of a request may name its tenant.
    pub(crate) tenant_sources: TenantSources,
    /// A proxy terminates TLS, wherever it is.
    pub(crate) behind_proxy: bool,
    /// Refused credentials of one address; none if they are not bounded.
    pub(crate) login_failures_per_minute: Option<NonZeroU32>,
    pub(crate) default_plan: Option<PlanName>,
    /// The only tenant that is served, if only one is.
    pub(crate) single_tenant: Option<TenantName>,
    pub(crate) delete_grace: Duration,
    pub(crate) signup: Option<SignUpRules>,
    /// What tenants get that are made when they are named.
    pub(crate) provision: Option<ProvisionRules>,
    pub(crate) shared_rates: Option<SharedRates>,
    pub(crate) connections_max: u32,
    pub(crate) metrics_tenants: usize,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) policy: Option<Policy>,
    pub(crate) issuers: Vec<IssuerSpec>,
    pub(crate) act_as_reason: ReasonWord,
    pub(crate) webhook_networks: Vec<Network>,
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
        let issuers = given.token_issuers.as_deref().map(issuers::read_issuers).transpose()?;
        let shared_rates = shared_rates::shared_rates_of(&given)?;
        let signup = signup::signup_of(&given, issuers.as_deref().unwrap_or_default())?;
        let provision = signup::provision_of(&given)?;
        let single_tenant = signup::single_of(&given)?;
        let listen = given.listen.unwrap_or_default().0;
        let chroma_listen = given.chroma_listen.map(|a| a.0);
        let admin_listen = given.admin_listen.map(|a| a.0);
        let dev = given.dev.unwrap_or(false);
        ensure!(
            !dev || admin_listen.is_none(),
            "admin_listen: with dev everybody is the operator; leave one of them out"
        );
        let tls = match (given.tls_cert, given.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => bail!("tls_cert is given without tls_key"),
            (None, Some(_)) => bail!("tls_key is given without tls_cert"),
        };
        let behind_proxy = given.behind_proxy.unwrap_or(false);
        let protected = tls.is_some() || behind_proxy;
        check_address("listen", Some(listen), (dev, protected))?;
        check_address("chroma_listen", chroma_listen, (dev, protected))?;
        check_address("admin_listen", admin_listen, (dev, protected))?;
        let policy = given.placement_policy.as_deref().map(|path| policy_of(path, &store));
        let policy = policy.transpose()?;
        let (hosts, proxies) =
            hosts_of(given.base_domain.as_deref(), given.trusted_proxies.as_deref())?;
        let logins = given.login_failures_per_minute.unwrap_or(0);
        let default_plan = given.default_plan.map(PlanName::parse).transpose();
        let default_plan = default_plan.context("default_plan")?;
        let connections_max = given.connections_max.unwrap_or(CONNECTIONS_MAX);
        ensure!(connections_max > 0, "connections_max must be at least 1");
        Ok(Self {
            store,
            listen,
            chroma_listen,
            admin_listen,
            dev,
            tls,
            hosts,
            proxies,
            tenant_sources: sources_of(given.tenant_sources.as_deref())?,
            behind_proxy,
            login_failures_per_minute: NonZeroU32::new(logins),
            default_plan,
            signup,
            provision,
            shared_rates,
            single_tenant,
            delete_grace: given.delete_grace.map_or(Duration::ZERO, |span| span.0),
            connections_max,
            metrics_tenants: metrics_tenants_of(given.metrics_tenants)?,
            shutdown_timeout: given.shutdown_timeout.map_or(SHUTDOWN_TIMEOUT, |s| s.0),
            policy,
            issuers: issuers.unwrap_or_default(),
            act_as_reason: given.act_as_reason.unwrap_or_default(),
            webhook_networks: networks_of(given.webhook_networks.as_deref())?,
            log: LogConfig {
                format: given.log_format.unwrap_or_default(),
                filter: given.log.unwrap_or_else(|| "info".into()),
            },
        })
    }
}

/// What others can reach must be protected, and not without authentication.
fn check_address(
    name: &str,
    address: Option<SocketAddr>,
    (dev, protected): (bool, bool),
) -> Result<()> {
    let Some(address) = address.filter(|a| !a.ip().is_loopback()) else { return Ok(()) };
    ensure!(
        !dev,
        "{name} {address}: dev switches authentication off and is refused on any address but loopback"
    );
    ensure!(
        protected,
        "{name} {address} is reachable from other machines: give --tls-cert and --tls-key, or \
         --behind-proxy if a proxy in front terminates TLS (in a file tls_cert, tls_key, \
         behind_proxy)"
    );
    Ok(())
}

/// The domain whose labels are tenants' names, and the proxies in front of it.
fn hosts_of(domain: Option<&str>, proxies: Option<&str>) -> Result<(Option<Hosts>, Proxies)> {
    let named = || proxies.into_iter().flat_map(|all| all.split(',').map(str::trim));
    let hosts = domain.map(|domain| Hosts::new(domain, named())).transpose();
    let proxies = Proxies::new(named()).map_err(anyhow::Error::msg)?;
    Ok((hosts.map_err(anyhow::Error::msg)?, proxies))
}

fn sources_of(text: Option<&str>) -> Result<TenantSources> {
    let listed = text.map(TenantSources::parse).transpose();
    let listed = listed.map_err(|why| anyhow::anyhow!("tenant_sources: {why}"))?;
    Ok(listed.unwrap_or_default())
}

fn metrics_tenants_of(given: Option<u32>) -> Result<usize> {
    let (count, most) = (given.map_or(METRICS_TENANTS, |n| n as usize), Busiest::TENANTS_MAX);
    ensure!(count <= most, "metrics_tenants must be at most {most}");
    Ok(count)
}

/// Networks inside to which webhooks may be sent.
fn networks_of(text: Option<&str>) -> Result<Vec<Network>> {
    let named = text.unwrap_or_default().split(',').map(str::trim).filter(|one| !one.is_empty());
    let network = |text: &str| {
        Network::parse(text)
            .with_context(|| format!("webhook_networks: {text:?} is no address or network"))
    };
    named.map(network).collect()
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
