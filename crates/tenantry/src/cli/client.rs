//! The one way in which commands reach Tenantry: native REST requests, over HTTP to a server, or
//! straight into the router of an engine that was opened on a data folder or a database.

use super::{
    caller::{Caller, Reason},
    output::printable,
};
use crate::{
    config::{Backend, Existing, IsolationWord, MasterKeySource, Secret, StoreConfig},
    serve::open_engine,
};
use anyhow::{Context, Result, anyhow, bail, ensure};
use axum::{Router, body::Body, http};
use clap::Args;
use http_body_util::BodyExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::{
    fmt, fs,
    io::{
        ErrorKind::{ConnectionRefused, NotFound},
        Read,
    },
    path::{Path, PathBuf},
    time::Duration,
};
use tenantry::{ApiKey, Authority, Engine, ErrorKind, REASON_HEADER};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// For one request, the largest batch of an import included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What an operator hears who has named no tenant.
pub(crate) const WHICH_TENANT: &str = "say which tenant: --tenant NAME";

/// What somebody hears who has named one where that counts for nothing.
const NO_HEADER: &str = "a tenant's name from the command line counts for nothing on this server \
    (tenant_sources has no header): leave it out and give the tenant's own key, or work with \
    --data-dir while the server is stopped, or with --database-url";

const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A name as one segment of a path, or as the value of a header.
pub(crate) fn segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Where a command goes: a running server, a data folder that no server holds, or a database.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Where to")]
pub(crate) struct Target {
    /// URL of a running server, for example http://127.0.0.1:7700
    #[arg(long, env = "TENANTRY_SERVER", value_name = "URL")]
    server: Option<String>,

    #[command(flatten)]
    caller: Caller,

    /// Certificate of the authority that signed the server's own, in PEM [default: the usual ones]
    #[arg(long, env = "TENANTRY_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Data folder to work on directly, while no server holds it; with --database-url the folder
    /// of the master key
    #[arg(long, env = "TENANTRY_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// URL of the role that serves, to work on its PostgreSQL database directly, also while
    /// servers do; better given by the variable
    #[arg(long, env = "TENANTRY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<Secret>,

    /// Certificates in PEM that may vouch for the database's
    #[arg(long, env = "TENANTRY_DATABASE_CA", value_name = "FILE")]
    database_ca: Option<PathBuf>,

    /// A further database of the installation, as its servers have it by --location; may be
    /// repeated, and the variable holds several with spaces between them
    #[arg(long, env = "TENANTRY_LOCATION", value_name = "NAME=URL", hide_env_values = true)]
    database_location: Option<Vec<Secret>>,

    /// Environment variable that holds the master key, of a folder or of a database
    #[arg(long, env = "TENANTRY_MASTER_KEY_ENV", value_name = "NAME")]
    master_key_env: Option<String>,

    /// Command that prints the master key
    #[arg(long, env = "TENANTRY_MASTER_KEY_COMMAND", value_name = "COMMAND")]
    master_key_command: Option<String>,

    /// What commands that make tenants take.
    #[arg(skip)]
    pub(crate) defaults: Defaults,
}

/// Where tenants are made without a word about it; a server knows that itself.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where to")]
pub(crate) struct Defaults {
    /// Without a server: the location if none is given, as the servers have it
    #[arg(long, env = "TENANTRY_DEFAULT_LOCATION", value_name = "NAME")]
    default_location: Option<String>,

    /// Without a server: the isolation if none is given, as the servers have it
    #[arg(long, env = "TENANTRY_DEFAULT_ISOLATION", value_name = "ISOLATION")]
    default_isolation: Option<IsolationWord>,
}

impl Target {
    /// Fails if a tenant would be made at home for good because nobody has said where it should.
    pub(crate) fn check_default(&self) -> Result<()> {
        let is_unknown = self.server.is_none()
            && self.database_location.iter().flatten().any(|text| !text.reveal().trim().is_empty())
            && self.defaults.default_location.is_none();
        ensure!(
            !is_unknown,
            "say where the tenant is to be, by --location home or the name of a location: which \
             one the servers take is not known here (TENANTRY_DEFAULT_LOCATION says it)"
        );
        Ok(())
    }

    /// Connects. Opening a folder takes it until [`Client::close`]; a database it does not.
    pub(crate) fn client(mut self) -> Result<Client> {
        let given = self.caller.reason.take();
        let mut client = self.connect()?;
        match &mut client {
            Client::Remote { reason, .. } | Client::Local { reason, .. } => *reason = given,
        }
        Ok(client)
    }

    fn connect(self) -> Result<Client> {
        match (self.server, self.data_dir, self.database_url) {
            (Some(url), None, None) => Client::remote(&url, self.caller.credential()?, self.tls_ca),
            (None, None, None) => {
                bail!(
                    "say where to: --server URL with --key KEY, --data-dir DIR, or --database-url URL"
                )
            }
            (None, data_dir, database_url) => {
                let master_key =
                    MasterKeySource::choose(self.master_key_env, self.master_key_command)?;
                let (database_ca, location) = (self.database_ca, self.database_location);
                let Defaults { default_location, default_isolation } = self.defaults;
                let what = Existing {
                    data_dir,
                    database_url,
                    database_ca,
                    location,
                    default_location,
                    default_isolation,
                };
                Client::local(&StoreConfig::existing(what, master_key)?)
            }
            (Some(_), Some(_), _) => bail!(
                "both a server and a data folder are given (by flag or by TENANTRY_SERVER and \
                 TENANTRY_DATA_DIR): give one, and unset the other's variable"
            ),
            (Some(_), None, Some(_)) => bail!(
                "both a server and a database are given (by flag or by TENANTRY_SERVER and \
                 TENANTRY_DATABASE_URL): give one"
            ),
        }
    }
}

/// A refusal by the server, with its status.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The word for programs.
    kind: String,
    /// The server's words.
    pub(crate) message: String,
}

impl Refusal {
    /// Whether this is why.
    pub(crate) fn is(&self, kind: ErrorKind) -> bool {
        self.kind == kind.word()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message))?;
        match self.status {
            401 => f.write_str(
                " (on the command line: --key KEY or --token TOKEN, or the variable TENANTRY_KEY or \
                 TENANTRY_TOKEN)",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

/// A connection to Tenantry.
pub(crate) enum Client {
    /// To a server.
    Remote {
        /// Keeps connections.
        agent: ureq::Agent,
        /// The server's URL, without a slash at its end.
        base: String,
        /// Sent with every request: a key, or a token.
        key: Option<String>,
        /// The same.
        reason: Option<Reason>,
    },
    /// To an engine in this process.
    Local {
        /// Runs the engine.
        runtime: Runtime,
        /// Holds the folder or the connections.
        engine: Engine,
        /// What a server would serve.
        router: Router,
        /// What was opened, for messages.
        whose: &'static str,
        /// Sent with every request.
        reason: Option<Reason>,
    },
}

impl Client {
    /// Connects to a server. Nothing is sent yet.
    pub(crate) fn remote(url: &str, key: Option<String>, ca: Option<PathBuf>) -> Result<Self> {
        let base = base(url)?;
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_TIMEOUT));
        if let Some(path) = ca {
            let shown = path.display().to_string();
            let pem = fs::read(&path).with_context(|| format!("read {shown}"))?;
            let certificate = ureq::tls::Certificate::from_pem(&pem)
                .with_context(|| format!("read the certificate in {shown}"))?;
            let roots = ureq::tls::RootCerts::new_with_certs(&[certificate]);
            config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self::Remote { agent: config.build().into(), base, key, reason: None })
    }

    /// Opens a data folder or a database. Whoever can do that, with the master key, is the
    /// operator.
    fn local(config: &StoreConfig) -> Result<Self> {
        let whose = match &config.backend {
            Backend::Embedded { .. } => {
                is_data_folder(&config.data_dir)?;
                "the data folder"
            }
            Backend::Postgres(_) => "the database",
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the runtime")?;
        // The engine starts its background work in the runtime that is entered.
        let in_use = "stop that one, or give its --server URL and --key KEY";
        let engine = runtime.block_on(open_engine(config, Authority::local(), in_use))?;
        let router = tenantry_api::router(engine.clone());
        Ok(Self::Local { runtime, engine, router, whose, reason: None })
    }

    /// A new request of this path, with why it is made.
    pub(super) fn request(&self, method: &str, path: &str) -> http::request::Builder {
        let request = http::Request::builder().method(method);
        match self.reason() {
            Some(reason) => request.header(REASON_HEADER, reason.sent_to(path)),
            None => request,
        }
    }

    /// Why it asks.
    pub(super) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Remote { reason, .. } | Self::Local { reason, .. } => reason.as_ref(),
        }
    }

    /// Sends a request and returns the answer's JSON; an answer other than success is a
    /// [`Refusal`], and one that is not in Tenantry's form says whose it may be.
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, None, path, body.map(Value::to_string).unwrap_or_default())
    }

    /// Asks for something; none if it is not there.
    pub(crate) fn find(&self, path: &str) -> Result<Option<Value>> {
        match self.call("GET", path, None) {
            Err(why) if why.downcast_ref().is_some_and(|why: &Refusal| why.status == 404) => {
                Ok(None)
            }
            found => found.map(Some),
        }
    }

    /// [`Client::call`] within the named tenant, or the one whose key is used.
    pub(crate) fn call_in(
        &self,
        tenant: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.send(method, tenant, path, body.map(Value::to_string).unwrap_or_default())
    }

    /// The tenant that a request means without naming one: that of the key, and for an operator the
    /// one that the address means or that is served alone. None if an operator has to name it.
    ///
    /// For an operator this is an entry into that tenant, and noted in its log.
    pub(crate) fn own_tenant(&self) -> Result<Option<String>> {
        if matches!(self, Self::Local { .. }) {
            return Ok(None);
        }
        let name = |of: &Value| -> Result<Option<String>> {
            let name = of.as_str().context("read the answer about the key's tenant")?;
            Ok(Some(name.to_owned()))
        };
        // Who it is comes first: what a tenant's own key or token is refused is never an operator's.
        let me = self.call("GET", "/v1/me", None)?;
        if me["kind"] != "operator" {
            return name(&me["tenant"]);
        }
        match self.call("GET", "/v1/tenant", None) {
            Ok(own) => name(&own["name"]),
            Err(why) => match why.downcast_ref::<Refusal>() {
                Some(no) if means_no_tenant(no) => Ok(None),
                _ => Err(why),
            },
        }
    }

    /// True if a token is sent, which reaches no route of operators.
    pub(crate) fn has_token(&self) -> bool {
        matches!(self, Self::Remote { key: Some(text), .. } if ApiKey::parse(text).is_none())
    }

    /// True if whoever asks is an operator. Unlike [`Client::own_tenant`] this enters no tenant, and makes
    /// none that the address names.
    pub(crate) fn is_operators(&self) -> Result<bool> {
        if matches!(self, Self::Local { .. }) {
            return Ok(true);
        }
        Ok(self.call("GET", "/v1/me", None)?["kind"] == "operator")
    }

    /// Sends a request whose body is JSON text already; empty for none.
    pub(crate) fn send(
        &self,
        method: &str,
        tenant: Option<&str>,
        path: &str,
        body: String,
    ) -> Result<Value> {
        let mut request = self.request(method, path);
        if !body.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        if let Some(tenant) = tenant {
            request = request.header("x-tenant-id", segment(tenant));
        }
        let (status, answer) = match self {
            Self::Remote { agent, base, key, .. } => {
                if let Some(key) = key {
                    request = request.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
                }
                let request = request.uri(format!("{base}{path}")).body(body);
                remote(agent, request.context("make the request")?)
                    .map_err(|error| unreachable(base, error))?
            }
            Self::Local { runtime, router, .. } => {
                let request = request.uri(path).body(Body::from(body));
                runtime.block_on(local(router.clone(), request.context("make the request")?))?
            }
        };
        self.outcome(status, &answer)
    }

    /// What an answer says.
    pub(super) fn outcome(&self, status: u16, answer: &[u8]) -> Result<Value> {
        let json: Option<Value> = serde_json::from_slice(answer).ok();
        match (status, json) {
            (200..300, Some(json)) => Ok(json),
            (200..300, None) if answer.is_empty() => Ok(Value::Null),
            (_, json) => match json.as_ref().and_then(error_of) {
                Some((kind, message)) => {
                    let message = self.explained(message);
                    Err(Refusal { status, kind, message }.into())
                }
                None => Err(self.foreign(status)),
            },
        }
    }

    /// A request that got no answer.
    pub(super) fn unreached(&self, error: anyhow::Error) -> anyhow::Error {
        match self {
            Self::Remote { base, .. } => unreachable(base, error),
            Self::Local { .. } => error,
        }
    }

    /// What a server's caller need not know, and who works on the database itself, or operates the
    /// server, can mend.
    fn explained(&self, mut message: String) -> String {
        if message.starts_with("an operator belongs to no tenant") {
            return WHICH_TENANT.to_owned();
        }
        if message.starts_with("an operator acts in a tenant here only") {
            message.push_str(": give it by --reason TEXT, or the variable TENANTRY_REASON");
        }
        if message.starts_with("the header names no tenant on this server") {
            return NO_HEADER.to_owned();
        }
        if matches!(self, Self::Remote { .. }) && message.starts_with("there is no such route") {
            message.push_str("; if the server has --admin-listen, give --server that address");
        }
        if matches!(self, Self::Local { .. }) && message.contains("a location that is not known") {
            message.push_str(": give it by --database-location NAME=URL, as the servers have it");
        }
        message
    }

    /// The answer was nobody's who speaks this protocol.
    fn foreign(&self, status: u16) -> anyhow::Error {
        let whom = match self {
            Self::Remote { base, .. } => base.as_str(),
            Self::Local { whose, .. } => whose,
        };
        anyhow!(
            "{whom} answered {status} and is not a native Tenantry listener (`tenantry serve` \
             prints the URL of that one); if it is, a proxy in front of it answered"
        )
    }

    /// Ends the connection; a folder is written out and released.
    pub(crate) fn close(self) -> Result<()> {
        match self {
            Self::Remote { .. } => Ok(()),
            Self::Local { runtime, engine, whose, .. } => {
                runtime.block_on(engine.shutdown()).with_context(|| format!("close {whose}"))
            }
        }
    }
}

/// Refuses what is no data folder: a command must not make a store where a path was mistyped.
pub(crate) fn is_data_folder(path: &Path) -> Result<()> {
    let folder = path.display();
    if !path.is_dir() {
        bail!("there is no data folder {folder}; `tenantry serve --data-dir {folder}` makes one");
    }
    if fs::metadata(path.join("format")).is_err_and(|e| e.kind() == NotFound) {
        bail!(
            "{folder} is not a Tenantry data folder: it holds no file `format`; \
             `tenantry serve --data-dir DIR` makes a new one"
        );
    }
    Ok(())
}

fn remote(agent: &ureq::Agent, request: http::Request<String>) -> Result<(u16, Vec<u8>)> {
    let mut answer = agent.run(request)?;
    let mut bytes = Vec::new();
    answer.body_mut().as_reader().take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok((answer.status().as_u16(), bytes))
}

async fn local(router: Router, request: http::Request<Body>) -> Result<(u16, Vec<u8>)> {
    let answer = match router.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    };
    let status = answer.status().as_u16();
    let bytes = answer.into_body().collect().await.context("read the answer")?.to_bytes();
    Ok((status, bytes.to_vec()))
}

/// The URL of a server without the slash at its end. Commands add the path.
fn base(url: &str) -> Result<String> {
    let uri = url.parse::<http::Uri>().ok().filter(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|to| !to.as_str().contains('@'))
    });
    let Some(uri) = uri else {
        bail!("{url:?} is not the URL of a server: write it like http://127.0.0.1:7700")
    };
    ensure!(
        uri.path() == "/" && uri.query().is_none(),
        "{url:?} has a path; give the URL of the server alone, like http://127.0.0.1:7700"
    );
    Ok(url.trim_end_matches('/').to_owned())
}

/// A request that got no answer, with what that most often means.
fn unreachable(base: &str, error: anyhow::Error) -> anyhow::Error {
    let full = format!("{error:#}");
    match error.downcast_ref::<ureq::Error>() {
        Some(ureq::Error::Io(io)) if io.kind() == ConnectionRefused => {
            anyhow!("cannot reach {base}: {full}; is the server running there?")
        }
        // What rustls says of an answer that is no TLS.
        Some(_) if full.contains("InvalidContentType") => {
            anyhow!("cannot reach {base}: the server speaks plain http, so write http://")
        }
        Some(_) if full.contains("UnknownIssuer") => anyhow!(
            "cannot reach {base}: nobody that is trusted here has signed its certificate; name the \
             one who has with --tls-ca"
        ),
        Some(ureq::Error::Protocol(_)) if base.starts_with("http://") => {
            anyhow!("cannot reach {base}: {full}; if the server speaks TLS, write https://")
        }
        _ => error.context(format!("ask {base}")),
    }
}

/// The kind and the message in an error body of the native protocol.
fn error_of(body: &Value) -> Option<(String, String)> {
    let error = body.get("error")?;
    let text = |name: &str| error.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((text("kind")?, text("message")?))
}

/// True if an operator that names no tenant means none by it: where none is meant, where one is meant
/// that its key may not open, and where that one is not there or deleted. Any other refusal is said,
/// such as that of one who gives no reason.
fn means_no_tenant(no: &Refusal) -> bool {
    no.message == WHICH_TENANT
        || (no.is(ErrorKind::Denied) && no.message.contains("may not open tenants"))
        || [ErrorKind::NotFound, ErrorKind::Conflict].into_iter().any(|kind| no.is(kind))
}
