//! The settings as they are given, before defaults and checks.

use super::{Address, BackendWord, ByteSize, Secret, Span, location};
use clap::{Args, ValueEnum, builder::BoolishValueParser};
use serde::Deserialize;
use std::path::PathBuf;
use tenantry::Isolation;

/// The settings as one source gives them: flags and environment, or the file.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Folder that holds all data; with PostgreSQL the master key alone [default: ./tenantry-data]
    #[arg(long, env = "TENANTRY_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Where data lives: in files of this machine, or in a PostgreSQL database [default: embedded]
    #[arg(long, env = "TENANTRY_BACKEND", value_name = "BACKEND")]
    pub(crate) backend: Option<BackendWord>,

    /// URL of the role that serves, as `tenantry postgres setup` printed it; better given by the
    /// variable or the file, since a process list shows flags
    #[arg(long, env = "TENANTRY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<Secret>,

    /// URL of the admin role, likewise; without it the tables are never changed, and tenants are
    /// made in the shared ones only
    #[arg(long, env = "TENANTRY_DATABASE_ADMIN_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_admin_url: Option<Secret>,

    /// Connections to databases, at least 2; on PostgreSQL one more asks what other nodes did
    /// [default: 32]
    #[arg(long, env = "TENANTRY_DATABASE_CONNECTIONS", value_name = "COUNT")]
    pub(crate) database_connections: Option<u32>,

    /// How long a database may work on one statement [default: 30s]
    #[arg(long, env = "TENANTRY_DATABASE_STATEMENT_TIMEOUT", value_name = "TIME")]
    pub(crate) database_statement_timeout: Option<Span>,

    /// Certificates in PEM that may vouch for the database's; needed beyond loopback unless the
    /// URL says sslmode=disable
    #[arg(long, env = "TENANTRY_DATABASE_CA", value_name = "FILE")]
    pub(crate) database_ca: Option<PathBuf>,

    /// Hand settings on to the workers of a Citus cluster. Sent, but never tried with one: see
    /// docs/guides/scale-out.md
    #[arg(long, env = "TENANTRY_DATABASE_CITUS", value_name = "BOOL", num_args = 0..=1,
          value_parser = BoolishValueParser::new(), default_missing_value = "true",
          require_equals = true)]
    pub(crate) database_citus: Option<bool>,

    /// A further PostgreSQL database for tenants, beside files too, and the role that serves it, as
    /// `tenantry postgres setup` printed its URL; may be repeated, and the variable holds several with spaces between them.
    /// Better given by the variable or, as a table, by the file
    #[arg(long, env = "TENANTRY_LOCATION", value_name = "NAME=URL", hide_env_values = true)]
    #[serde(default, deserialize_with = "location::from_toml")]
    pub(crate) location: Option<Vec<Secret>>,

    /// URL of a location's admin role, likewise; without it tenants are made there in the shared
    /// tables only
    #[arg(long, env = "TENANTRY_LOCATION_ADMIN", value_name = "NAME=URL", hide_env_values = true)]
    #[serde(default, deserialize_with = "location::from_toml")]
    pub(crate) location_admin: Option<Vec<Secret>>,

    /// Location of tenants that are made without a word about it [default: home, which is the
    /// data folder, or the database of database_url]
    #[arg(long, env = "TENANTRY_DEFAULT_LOCATION", value_name = "NAME")]
    pub(crate) default_location: Option<String>,

    /// Address of the main listener: native REST, and every dialect under its name
    /// [default: 127.0.0.1:7700]
    ///
    /// Port 0 takes a free port; the address is printed on standard output.
    #[arg(long, env = "TENANTRY_LISTEN", value_name = "ADDR")]
    pub(crate) listen: Option<Address>,

    /// Address of a listener with Chroma's protocol at its root, for unchanged `chromadb` clients
    #[arg(long, env = "TENANTRY_CHROMA_LISTEN", value_name = "ADDR")]
    pub(crate) chroma_listen: Option<Address>,

    /// Address of a listener for operators alone: their routes, and metrics, are then nowhere else,
    /// and on the others their keys find nothing [default: none, they share the main listener]
    #[arg(long, env = "TENANTRY_ADMIN_LISTEN", value_name = "ADDR")]
    pub(crate) admin_listen: Option<Address>,

    /// Switch authentication off; refused on any address but loopback
    #[arg(long, env = "TENANTRY_DEV", value_name = "BOOL", num_args = 0..=1,
          value_parser = BoolishValueParser::new(), default_missing_value = "true",
          require_equals = true)]
    pub(crate) dev: Option<bool>,

    /// Certificate chain in PEM, for TLS on every listener
    #[arg(long, env = "TENANTRY_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM
    #[arg(long, env = "TENANTRY_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Allow addresses beyond loopback without TLS, because a proxy in front terminates it
    #[arg(long, env = "TENANTRY_BEHIND_PROXY", value_name = "BOOL", num_args = 0..=1,
          value_parser = BoolishValueParser::new(), default_missing_value = "true",
          require_equals = true)]
    pub(crate) behind_proxy: Option<bool>,

    /// Domain below which a host names a tenant: with example.com, acme.example.com means acme, for
    /// credentials that may act in it [default: none, hosts name nobody]
    #[arg(long, env = "TENANTRY_BASE_DOMAIN", value_name = "DOMAIN")]
    pub(crate) base_domain: Option<String>,

    /// Addresses and networks of proxies in front, with commas between them; X-Forwarded-For and
    /// X-Forwarded-Host are read from these alone [default: none]
    #[arg(long, env = "TENANTRY_TRUSTED_PROXIES", value_name = "NETWORKS")]
    pub(crate) trusted_proxies: Option<String>,

    /// What of a request may name its tenant, with commas between them: host, header, path, claim, in
    /// any order; those that do must agree, and a key's or token's own tenant binds it whatever is
    /// listed. See docs/guides/lifecycle.md [default: all of them]
    #[arg(long, env = "TENANTRY_TENANT_SOURCES", value_name = "SOURCES")]
    pub(crate) tenant_sources: Option<String>,

    /// Credentials of one address that may be refused in a minute; beyond it, after 20 at once, further
    /// ones are answered with 429 unless they were good lately. Addresses of the machine itself are
    /// not bounded, and 0 bounds none. For servers that see who their clients are [default: 0]
    #[arg(long, env = "TENANTRY_LOGIN_FAILURES_PER_MINUTE", value_name = "COUNT")]
    pub(crate) login_failures_per_minute: Option<u32>,

    /// Open connections of one listener; further ones wait to be accepted [default: 4096]
    #[arg(long, env = "TENANTRY_CONNECTIONS_MAX", value_name = "COUNT")]
    pub(crate) connections_max: Option<u32>,

    /// Tenants that metrics tell apart, the busiest, at most 1000; all others are one, and 0 tells
    /// nobody apart [default: 20]
    #[arg(long, env = "TENANTRY_METRICS_TENANTS", value_name = "COUNT")]
    pub(crate) metrics_tenants: Option<u32>,

    /// How long a stopping server waits for the requests that it accepted [default: 30s]
    #[arg(long, env = "TENANTRY_SHUTDOWN_TIMEOUT", value_name = "TIME")]
    pub(crate) shutdown_timeout: Option<Span>,

    /// Memory for the vectors and indexes of tenants in use, at least 16MiB [default: 1GiB]
    #[arg(long, env = "TENANTRY_MEMORY_BUDGET", value_name = "SIZE")]
    pub(crate) memory_budget: Option<ByteSize>,

    /// Memory for blocks read from disk [default: 4MiB]
    #[arg(long, env = "TENANTRY_CACHE_SIZE", value_name = "SIZE")]
    pub(crate) cache_size: Option<ByteSize>,

    /// Folder for archives of tenants while they are written and read, as files without a name
    /// [default: the data folder; with PostgreSQL the system's folder for such files]
    #[arg(long, env = "TENANTRY_ARCHIVE_DIR", value_name = "DIR")]
    pub(crate) archive_dir: Option<PathBuf>,

    /// Bytes of the largest archive of a tenant, before and after it is compressed [default: 64GiB]
    #[arg(long, env = "TENANTRY_ARCHIVE_SIZE_MAX", value_name = "SIZE")]
    pub(crate) archive_size_max: Option<ByteSize>,

    /// Bytes that archives leave free on the disk of that folder; 0 does not look [default: 256MiB]
    #[arg(long, env = "TENANTRY_ARCHIVE_FREE_MIN", value_name = "SIZE")]
    pub(crate) archive_free_min: Option<ByteSize>,

    /// Plan of tenants that are made without a word about one; it must exist when they are
    /// [default: none, the usual limits]
    #[arg(long, env = "TENANTRY_DEFAULT_PLAN", value_name = "NAME")]
    pub(crate) default_plan: Option<String>,

    /// Serve the tenant of this name alone, and make it at the start if it is not there: requests
    /// need not name it, and no other one is reached by its name or made; what the operator sees of
    /// the whole store stays [default: none, many tenants]
    #[arg(long, env = "TENANTRY_SINGLE_TENANT", value_name = "NAME")]
    pub(crate) single_tenant: Option<String>,

    /// How long a deleted tenant can be restored before it is erased [default: no time, it is erased
    /// at once]
    #[arg(long, env = "TENANTRY_DELETE_GRACE", value_name = "TIME")]
    pub(crate) delete_grace: Option<Span>,

    /// Let strangers make tenants by POST /v1/signup; needs base_domain, see docs/guides/lifecycle.md
    /// [default: false]
    #[arg(long, env = "TENANTRY_SIGNUP", value_name = "BOOL", num_args = 0..=1,
          value_parser = BoolishValueParser::new(), default_missing_value = "true",
          require_equals = true)]
    pub(crate) signup: Option<bool>,

    /// Plan of tenants that sign up, or none for none [default: default_plan; one of both must be given]
    #[arg(long, env = "TENANTRY_SIGNUP_PLAN", value_name = "NAME")]
    pub(crate) signup_plan: Option<String>,

    /// What tenants that sign up have from the start: chat/messages,chat/people,notes makes two
    /// databases and two collections [default: the default database]
    #[arg(long, env = "TENANTRY_SIGNUP_TEMPLATE", value_name = "NAMES")]
    pub(crate) signup_template: Option<String>,

    /// Times an hour that one address may ask to sign up [default: 5]
    #[arg(long, env = "TENANTRY_SIGNUP_RATE", value_name = "COUNT")]
    pub(crate) signup_rate: Option<u32>,

    /// Times an hour that all may ask together [default: 100]
    #[arg(long, env = "TENANTRY_SIGNUP_RATE_TOTAL", value_name = "COUNT")]
    pub(crate) signup_rate_total: Option<u32>,

    /// Make a tenant that does not exist when an operator key that may open tenants names it
    /// [default: false]
    #[arg(long, env = "TENANTRY_AUTO_PROVISION", value_name = "BOOL", num_args = 0..=1,
          value_parser = BoolishValueParser::new(), default_missing_value = "true",
          require_equals = true)]
    pub(crate) auto_provision: Option<bool>,

    /// Plan of tenants that are made when they are named [default: default_plan]
    #[arg(long, env = "TENANTRY_AUTO_PROVISION_PLAN", value_name = "NAME")]
    pub(crate) auto_provision_plan: Option<String>,

    /// Tenants an hour that are made when they are named [default: 1000]
    #[arg(long, env = "TENANTRY_AUTO_PROVISION_RATE", value_name = "COUNT")]
    pub(crate) auto_provision_rate: Option<u32>,

    /// Whether an operator must say why it acts in a tenant, by the header Tenantry-Reason
    /// [default: optional]
    #[arg(long, env = "TENANTRY_ACT_AS_REASON", value_name = "WHETHER")]
    pub(crate) act_as_reason: Option<ReasonWord>,

    /// Addresses and networks inside to which webhooks may be sent, plain http too, with commas
    /// between them; see docs/guides/webhooks.md [default: none, public addresses and https alone]
    #[arg(long, env = "TENANTRY_WEBHOOK_NETWORKS", value_name = "NETWORKS")]
    pub(crate) webhook_networks: Option<String>,
    /// URL of a Redis by which all nodes share tenants' rates: redis://, rediss:// for TLS, or
    /// unix:///PATH; better given by the variable or the file, if it has a password
    /// [default: none, each node counts for itself]
    #[arg(long, env = "TENANTRY_REDIS", value_name = "URL", hide_env_values = true)]
    pub(crate) redis: Option<Secret>,

    /// What this installation's keys in Redis begin with; the same on all nodes, and another one for
    /// each installation that uses the same Redis [default: tenantry]
    #[arg(long, env = "TENANTRY_REDIS_PREFIX", value_name = "TEXT")]
    pub(crate) redis_prefix: Option<String>,

    /// Nodes that share: while Redis does not answer, each goes on with its share of a rate
    /// [default: 2]
    #[arg(long, env = "TENANTRY_REDIS_NODES", value_name = "COUNT")]
    pub(crate) redis_nodes: Option<u32>,

    /// How long a request waits for Redis before it counts as away, at most 10s [default: 100ms]
    #[arg(long, env = "TENANTRY_REDIS_TIMEOUT", value_name = "TIME")]
    pub(crate) redis_timeout: Option<Span>,

    /// Certificates in PEM that may vouch for Redis's [default: those that the system trusts]
    #[arg(long, env = "TENANTRY_REDIS_CA", value_name = "FILE")]
    pub(crate) redis_ca: Option<PathBuf>,

    /// Where tenants live that are made without a word about it [default: shared]
    #[arg(long, env = "TENANTRY_DEFAULT_ISOLATION", value_name = "ISOLATION")]
    pub(crate) default_isolation: Option<IsolationWord>,

    /// Databases of tenants with schema or database, open at once if no more are in use
    /// [default: 64]
    #[arg(long, env = "TENANTRY_OPEN_DATABASES", value_name = "COUNT")]
    pub(crate) open_databases: Option<u32>,

    /// Bytes a second that are copied, and then compared, of tenants that are moved, at least 1KiB
    /// [default: no bound but rests, three times as long as the work]
    #[arg(long, env = "TENANTRY_MOVE_RATE", value_name = "SIZE")]
    pub(crate) move_rate: Option<ByteSize>,

    /// Move tenants by themselves as the rules of this file say; see docs/guides/moving.md
    /// [default: nothing is moved that nobody asks for]
    #[arg(long, env = "TENANTRY_PLACEMENT_POLICY", value_name = "FILE")]
    pub(crate) placement_policy: Option<PathBuf>,

    /// Take tokens (JWT) of the issuers that this file describes; see docs/guides/tokens.md
    /// [default: none, API keys alone]
    #[arg(long, env = "TENANTRY_TOKEN_ISSUERS", value_name = "FILE")]
    pub(crate) token_issuers: Option<PathBuf>,

    /// Take the master key (64 hexadecimal digits) from the environment variable of this name
    /// instead of the file master.key in the data folder
    #[arg(long, env = "TENANTRY_MASTER_KEY_ENV", value_name = "NAME")]
    pub(crate) master_key_env: Option<String>,

    /// Take the master key from the output of this command, for example of a secret manager's
    #[arg(long, env = "TENANTRY_MASTER_KEY_COMMAND", value_name = "COMMAND")]
    pub(crate) master_key_command: Option<String>,

    /// Form of the log on standard error [default: text]
    #[arg(long, env = "TENANTRY_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// What to log: error, warn, info, debug, trace, or a filter such as
    /// `info,tenantry_store=debug` [default: info]
    #[arg(long, env = "TENANTRY_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

impl Settings {
    /// These settings, and those of `lower` where these are silent.
    pub(crate) fn or(self, lower: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(lower.data_dir),
            backend: self.backend.or(lower.backend),
            database_url: self.database_url.or(lower.database_url),
            database_admin_url: self.database_admin_url.or(lower.database_admin_url),
            database_connections: self.database_connections.or(lower.database_connections),
            database_statement_timeout: self
                .database_statement_timeout
                .or(lower.database_statement_timeout),
            database_ca: self.database_ca.or(lower.database_ca),
            database_citus: self.database_citus.or(lower.database_citus),
            location: self.location.or(lower.location),
            location_admin: self.location_admin.or(lower.location_admin),
            default_location: self.default_location.or(lower.default_location),
            listen: self.listen.or(lower.listen),
            chroma_listen: self.chroma_listen.or(lower.chroma_listen),
            admin_listen: self.admin_listen.or(lower.admin_listen),
            dev: self.dev.or(lower.dev),
            tls_cert: self.tls_cert.or(lower.tls_cert),
            tls_key: self.tls_key.or(lower.tls_key),
            behind_proxy: self.behind_proxy.or(lower.behind_proxy),
            base_domain: self.base_domain.or(lower.base_domain),
            trusted_proxies: self.trusted_proxies.or(lower.trusted_proxies),
            tenant_sources: self.tenant_sources.or(lower.tenant_sources),
            login_failures_per_minute: self
                .login_failures_per_minute
                .or(lower.login_failures_per_minute),
            connections_max: self.connections_max.or(lower.connections_max),
            metrics_tenants: self.metrics_tenants.or(lower.metrics_tenants),
            shutdown_timeout: self.shutdown_timeout.or(lower.shutdown_timeout),
            memory_budget: self.memory_budget.or(lower.memory_budget),
            cache_size: self.cache_size.or(lower.cache_size),
            archive_dir: self.archive_dir.or(lower.archive_dir),
            archive_size_max: self.archive_size_max.or(lower.archive_size_max),
            archive_free_min: self.archive_free_min.or(lower.archive_free_min),
            default_plan: self.default_plan.or(lower.default_plan),
            single_tenant: self.single_tenant.or(lower.single_tenant),
            delete_grace: self.delete_grace.or(lower.delete_grace),
            signup: self.signup.or(lower.signup),
            signup_plan: self.signup_plan.or(lower.signup_plan),
            signup_template: self.signup_template.or(lower.signup_template),
            signup_rate: self.signup_rate.or(lower.signup_rate),
            signup_rate_total: self.signup_rate_total.or(lower.signup_rate_total),
            auto_provision: self.auto_provision.or(lower.auto_provision),
            auto_provision_plan: self.auto_provision_plan.or(lower.auto_provision_plan),
            auto_provision_rate: self.auto_provision_rate.or(lower.auto_provision_rate),
            act_as_reason: self.act_as_reason.or(lower.act_as_reason),
            webhook_networks: self.webhook_networks.or(lower.webhook_networks),
            redis: self.redis.or(lower.redis),
            redis_prefix: self.redis_prefix.or(lower.redis_prefix),
            redis_nodes: self.redis_nodes.or(lower.redis_nodes),
            redis_timeout: self.redis_timeout.or(lower.redis_timeout),
            redis_ca: self.redis_ca.or(lower.redis_ca),
            default_isolation: self.default_isolation.or(lower.default_isolation),
            open_databases: self.open_databases.or(lower.open_databases),
            move_rate: self.move_rate.or(lower.move_rate),
            placement_policy: self.placement_policy.or(lower.placement_policy),
            token_issuers: self.token_issuers.or(lower.token_issuers),
            master_key_env: self.master_key_env.or(lower.master_key_env),
            master_key_command: self.master_key_command.or(lower.master_key_command),
            log_format: self.log_format.or(lower.log_format),
            log: self.log.or(lower.log),
        }
    }
}

/// Where a tenant lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IsolationWord {
    /// In the tables of all: costs a row
    Shared,
    /// In tables of its own: on files in a database with up to 63 others, on PostgreSQL in a schema
    Schema,
    /// In a database of its own: on files a folder
    Database,
}

impl From<IsolationWord> for Isolation {
    fn from(word: IsolationWord) -> Self {
        match word {
            IsolationWord::Shared => Self::Shared,
            IsolationWord::Schema => Self::Schema,
            IsolationWord::Database => Self::Database,
        }
    }
}

/// Whether operators must say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReasonWord {
    /// They may
    #[default]
    Optional,
    /// Without a reason they are refused
    Required,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}
