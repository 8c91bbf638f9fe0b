//! `tenantry serve`: opens the store, opens the listeners, stops in order.

use crate::{
    config::{Backend, Config, LogConfig, LogFormat, Opening, ReasonWord, StoreConfig},
    issuer_keys::HttpKeys,
    listener::{Listener, load_tls},
    shared_rates::RedisLeases,
    webhooks::HttpWebhooks,
};
use anyhow::{Context, Result, anyhow, bail};
use axum::Router;
use std::{
    io::{self, BufWriter, ErrorKind::AddrInUse, Write, stderr, stdout},
    sync::Arc,
    time::Duration,
};
use tenantry::{
    Authority, Callers, Engine, EngineConfig, ErrorKind, Isolation, NamedBy, PlanName, SignUp,
    SignUpRules, Store, SystemClock, TenantSources, token::Issuers,
};
use tenantry_api::{
    Hosts, HttpTotals, Proxies, note_clients, observe, refuse_web_pages, select_by_host,
    with_sign_up,
};
use tokio::{sync::watch, task::JoinSet};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// A server that is listening and has not begun to answer.
#[derive(Debug)]
pub(crate) struct Server {
    engine: Engine,
    native: Listener,
    chroma: Option<Listener>,
    admin: Option<Listener>,
    /// Without authentication.
    dev: bool,
    hosts: Option<Arc<Hosts>>,
    proxies: Arc<Proxies>,
    signup: Option<SignUpRules>,
    metrics_tenants: usize,
    shutdown_timeout: Duration,
}

impl Server {
    /// Takes the addresses, then opens the store: a taken port must not leave a new folder behind.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let tls = config.tls.as_ref().map(load_tls).transpose()?;
        let most = config.connections_max;
        let native = Listener::bind("native", config.listen, tls.clone(), most);
        let native = native.await.map_err(|error| port_hint(error, "--listen"))?;
        let chroma = match config.chroma_listen {
            Some(address) => {
                let bound = Listener::bind("chroma", address, tls.clone(), most).await;
                Some(bound.map_err(|error| port_hint(error, "--chroma-listen"))?)
            }
            None => None,
        };
        let admin = match config.admin_listen {
            Some(address) => {
                let bound = Listener::bind("admin", address, tls, most).await;
                Some(bound.map_err(|error| port_hint(error, "--admin-listen"))?)
            }
            None => None,
        };
        let authority = if config.dev { Authority::development() } else { Authority::new() };
        // They were looked at when the settings were.
        let issuers = Issuers::new(config.issuers.clone()).map_err(|(_, why)| anyhow!(why))?;
        let authority = authority.with_issuers(issuers);
        let engine = open_engine(&config.store, authority, "stop that one first").await?;
        engine.fetch_keys(Arc::new(HttpKeys::new()));
        engine.send_webhooks(Arc::new(HttpWebhooks::new(config.webhook_networks.clone())));
        if let Some(policy) = &config.policy {
            engine.follow(policy.clone());
        }
        if let Some(shared) = &config.shared_rates {
            engine.share_rates(Arc::new(RedisLeases::new(&shared.redis)), shared.sharing);
        }
        tell_of_tenants(&engine, config).await?;
        if let Some(most) = config.login_failures_per_minute {
            engine.limit_logins(most);
        }
        if config.act_as_reason == ReasonWord::Required {
            engine.require_reasons();
        }
        Ok(Self {
            engine,
            native,
            chroma,
            admin,
            dev: config.dev,
            hosts: config.hosts.clone().map(Arc::new),
            proxies: Arc::new(config.proxies.clone()),
            signup: config.signup.clone(),
            metrics_tenants: config.metrics_tenants,
            shutdown_timeout: config.shutdown_timeout,
        })
    }

    /// The engine, for what precedes the first request.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The URL of the main listener.
    pub(crate) fn native_url(&self) -> Result<String> {
        self.native.url()
    }

    /// The URL of Chroma's listener, if there is one.
    pub(crate) fn chroma_url(&self) -> Result<Option<String>> {
        self.chroma.as_ref().map(Listener::url).transpose()
    }

    /// Tells scripts and people where it listens. Nothing else is ever written to standard output.
    fn announce(&self) -> Result<()> {
        let mut out = stdout().lock();
        let listeners = [Some(&self.native), self.chroma.as_ref(), self.admin.as_ref()];
        for listener in listeners.into_iter().flatten() {
            writeln!(out, "listening on {} ({})", listener.url()?, listener.name())?;
        }
        Ok(out.flush()?)
    }

    /// Answers until `stop` turns true, then finishes what was accepted, writes what is pending
    /// and closes the store.
    pub(crate) async fn run(self, stop: watch::Receiver<bool>) -> Result<()> {
        let mut listeners = JoinSet::new();
        let grace = self.shutdown_timeout;
        let totals = HttpTotals::with_tenants(self.metrics_tenants);
        let (hosts, proxies, dev) = (self.hosts.clone(), self.proxies, self.dev);
        let is_named_by_host = self.engine.names_by(NamedBy::Host);
        let shared = |mut router| {
            if let Some(hosts) = hosts.as_ref().filter(|_| is_named_by_host) {
                router = select_by_host(router, Arc::clone(hosts));
            }
            if dev {
                router = refuse_web_pages(router, hosts.clone());
            }
            observe(note_clients(router, Arc::clone(&proxies)), &totals)
        };
        let callers = if self.admin.is_some() { Callers::Tenants } else { Callers::All };
        let mut main = router(&self.engine, callers);
        if let (Some(rules), Some(hosts)) = (self.signup, &self.hosts) {
            let sign_up = SignUp::new(self.engine.clone(), rules);
            main = with_sign_up(main, sign_up, Arc::clone(hosts));
        }
        listeners.spawn(self.native.serve(shared(main), stop.clone(), grace));
        if let Some(listener) = self.chroma {
            let root = tenantry_compat::chroma::router_for(self.engine.clone(), callers);
            listeners.spawn(listener.serve(shared(root), stop.clone(), grace));
        }
        if let Some(listener) = self.admin {
            let desk = shared(router(&self.engine, Callers::Operators));
            listeners.spawn(listener.serve(desk, stop, grace));
        }
        let answered = listeners.join_all().await.into_iter().all(|all| all);
        self.engine.shutdown().await.context("write the last entries of audit logs")?;
        if !answered {
            bail!("some requests were still unanswered after {grace:?} and were dropped");
        }
        Ok(())
    }
}

/// Which tenants there are to be, and how they begin and end.
async fn tell_of_tenants(engine: &Engine, config: &Config) -> Result<()> {
    if config.dev && config.single_tenant.is_none() {
        tenantry_compat::chroma::ensure_development_tenant(engine)
            .await
            .context("make the default tenant of development mode")?;
    }
    engine.name_tenants_by(config.tenant_sources.clone());
    let is_said = config.tenant_sources != TenantSources::default();
    if is_said && config.hosts.is_none() && engine.names_by(NamedBy::Host) {
        tracing::warn!("tenant_sources: without base_domain no host names a tenant");
    }
    engine.keep_deleted(config.delete_grace);
    if let Some(plan) = &config.default_plan {
        engine.give_new_tenants(plan.clone());
    }
    if let Some(rules) = &config.provision {
        engine.provision(rules.clone());
    }
    check_plans(engine, config).await?;
    if let Some(name) = &config.single_tenant {
        let others = engine.serve_only(name.clone()).await;
        let others = others.with_context(|| format!("single_tenant: make the tenant {name}"))?;
        if others > 0 {
            tracing::warn!(others, tenant = %name, "single_tenant: all other tenants are not served");
        }
    }
    Ok(())
}

/// Warns of plans with which no tenant can be made. The server starts all the same: it may be what the
/// plan is to be made with, or changed.
async fn check_plans(engine: &Engine, config: &Config) -> Result<()> {
    let operator = engine.operator(&engine.local_operator().await?)?;
    let usual = config.default_plan.as_ref();
    if let Some(plan) = usual {
        warn_of_plan("default_plan", usual, operator.check_plan(plan, None).await);
    }
    let named = config.provision.as_ref().map(|rules| rules.plan.as_ref().or(usual));
    if let Some(plan) = named.flatten() {
        let may = operator.check_plan(plan, Some(Isolation::Shared)).await;
        warn_of_plan("auto_provision", Some(plan), may);
    }
    if let Some(rules) = &config.signup {
        let plan = rules.plan.as_ref().or(usual);
        warn_of_plan("signup", plan, operator.check_sign_up(rules).await);
    }
    Ok(())
}

fn warn_of_plan(setting: &str, plan: Option<&PlanName>, may: tenantry::Result<()>) {
    let Err(why) = may else { return };
    let way = match why.kind() {
        _ if plan.is_none() => "",
        ErrorKind::NotFound => ": make it by `tenantry plan put NAME`",
        ErrorKind::Conflict | ErrorKind::LimitExceeded => " (`tenantry plan put NAME --change`)",
        _ => "",
    };
    let plan = plan.map_or(PlanName::NONE, PlanName::as_str);
    tracing::warn!(plan, "{setting}: no tenant can be made with its plan: {why}{way}");
}

/// What the main listener serves, and the operators': the native protocol, and each dialect under its
/// name.
fn router(engine: &Engine, callers: Callers) -> Router {
    let chroma = tenantry_compat::chroma::router_for(engine.clone(), callers);
    tenantry_api::router_for(engine.clone(), callers).nest("/chroma", chroma)
}

/// Says what to do about an address that is taken.
fn port_hint(error: anyhow::Error, flag: &str) -> anyhow::Error {
    let taken = error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == AddrInUse);
    if taken { anyhow!("{error:#}: choose another address with {flag}") } else { error }
}

/// Opens the store and starts an engine on it. `in_use` says what to do if another process holds
/// the folder.
pub(crate) async fn open_engine(
    config: &StoreConfig,
    authority: Authority,
    in_use: &str,
) -> Result<Engine> {
    let store = match config.opening()? {
        Opening::Embedded(embedded) => {
            let folder = config.data_dir.display().to_string();
            let store = Store::open_embedded(*embedded).map_err(|error| match error.kind() {
                // These two name the folder themselves.
                ErrorKind::Conflict => anyhow!("{error}: {in_use}"),
                ErrorKind::Invalid if error.to_string().contains(&folder) => error.into(),
                _ => anyhow!(error).context(format!("cannot open the data folder {folder}")),
            })?;
            // A command asks those that it needs.
            if config.is_server
                && let Err(error) = store.open_locations().await
            {
                store.close();
                bail!("{error}");
            }
            store
        }
        Opening::Postgres(postgres) => {
            // In one line: what PostgreSQL itself said is in the log.
            let opened = Store::open_postgres(*postgres).await;
            opened.map_err(|error| anyhow!("{error}"))?
        }
    };
    let engine = EngineConfig { store, authority, clock: Arc::new(SystemClock) };
    Ok(Engine::start_with(engine, config.archives.clone()))
}

/// Runs a server until it is told to stop.
pub(crate) async fn serve(config: &Config) -> Result<()> {
    let _log = start_log(&config.log)?;
    raise_open_files();
    let stop = stop_signal()?;
    let server = Server::open(config).await?;
    if config.dev {
        tracing::warn!("development mode: every caller is the operator, no key is demanded");
    } else if let Some(key) = server.engine.first_operator_key().await? {
        show_operator_key(&key)?;
    }
    if config.behind_proxy
        && config.proxies.is_empty()
        && config.login_failures_per_minute.is_some()
    {
        tracing::warn!(
            "behind_proxy: without trusted_proxies all clients have the proxy's address, and many \
             refused credentials of one keep new ones of all others out"
        );
    }
    if config.shared_rates.as_ref().is_some_and(|shared| shared.redis.is_open_to_others()) {
        tracing::warn!("redis: without TLS others on the way can read its password; use rediss://");
    }
    server.announce()?;
    let version = env!("CARGO_PKG_VERSION");
    let locations: Vec<_> = config.store.databases.locations.iter().map(|l| l.name).collect();
    match &config.store.backend {
        Backend::Embedded { .. } => {
            let data_dir = config.store.data_dir.display();
            tracing::info!(version, %data_dir, ?locations, "serving");
        }
        Backend::Postgres(postgres) => {
            tracing::info!(version, database = %postgres.url, ?locations, "serving");
        }
    }
    server.run(stop.subscribe()).await?;
    tracing::info!("stopped");
    Ok(())
}

/// Writes the first operator key where a person sees it and no log keeps it.
fn show_operator_key(key: &str) -> Result<()> {
    let lines = [
        "The operator key of this new installation. It is shown this once and stored",
        "nowhere; keep it in a password manager. It manages and may open every tenant.",
        "",
        key,
    ];
    let mut out = stderr().lock();
    let width = lines.iter().map(|line| line.len()).max().unwrap_or(0);
    writeln!(out, "\n┌─{}─┐", "─".repeat(width))?;
    for line in lines {
        writeln!(out, "│ {line:width$} │")?;
    }
    writeln!(out, "└─{}─┘\n", "─".repeat(width))?;
    Ok(out.flush()?)
}

/// Sends the log to standard error, from a thread of its own: a slow terminal or pipe slows no
/// request. What is returned writes the last lines when it is dropped.
pub(crate) fn start_log(config: &LogConfig) -> Result<WorkerGuard> {
    let filter = EnvFilter::try_new(&config.filter)
        .with_context(|| format!("log: {:?} is not a filter", config.filter))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(false)
        .finish(BufWriter::with_capacity(64 << 10, stderr()));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match config.format {
        LogFormat::Text => log.with_ansi(std::io::IsTerminal::is_terminal(&stderr())).init(),
        // There is one span, that of the request.
        LogFormat::Json => log.json().with_span_list(false).init(),
    }
    Ok(guard)
}

/// Turns true at SIGTERM or SIGINT, or when it is told to. A second signal ends the process.
pub(crate) fn stop_signal() -> Result<watch::Sender<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let tell = watch::Sender::new(false);
    let stop = tell.clone();
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                tracing::warn!("stopped by a second signal");
                std::process::exit(1);
            }
            tracing::info!("stopping: finishing accepted requests");
            tell.send_replace(true);
        }
    });
    Ok(stop)
}

/// Allows as many open files as the system permits: connections and tables both need them.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    if now.current != now.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::warn!(limit = ?now.current, "cannot raise the limit of open files");
    }
}
