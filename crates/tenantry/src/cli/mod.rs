//! The command line. Every command but the servers, and those that prepare a PostgreSQL server, is
//! a client of the native REST protocol.

mod advise;
mod archive;
mod audit;
mod bill;
mod bills;
mod caller;
mod client;
mod group;
mod import;
mod key;
mod limit;
mod member;
mod moving;
mod output;
mod plan;
mod policy;
mod postgres;
mod quickstart;
mod report;
mod said;
mod tenant;
mod transfer;
mod usage;
mod used;
mod webhook;
mod when;

use crate::{
    config::{Config, Settings},
    serve,
};
use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use tokio::runtime::Runtime;

pub(crate) use output::printable;

/// The multi-tenant data plane for GenAI products
#[derive(Debug, Parser)]
#[command(
    name = "tenantry",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  tenantry quickstart                    two tenants, real texts, a search each: see isolation
  tenantry serve --data-dir /srv/tenantry
  tenantry tenant create acme --data-dir /srv/tenantry

Run `tenantry COMMAND --help` for more examples."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Show isolation on a new server with two tenants and real texts, then stay up
    Quickstart(quickstart::QuickstartArgs),
    /// Make, list, change and erase tenants
    Tenant(tenant::TenantArgs),
    /// Say what tenants may have and ask, under a name
    Plan(plan::PlanArgs),
    /// Show what one tenant has, and say something else than its plan
    Limit(limit::LimitArgs),
    /// Show what tenants have used, and report what was counted elsewhere
    Usage(Box<usage::UsageArgs>),
    /// Show what a month costs a tenant
    Bill(bill::BillArgs),
    /// Say what plans cost
    Tariff(bill::TariffArgs),
    /// Make, list and revoke API keys
    Key(key::KeyArgs),
    /// Tell endpoints of yours what happens to tenants
    Webhook(webhook::WebhookArgs),
    /// Add, list, change and remove the members of a tenant
    Member(member::MemberArgs),
    /// Let guests of a tenant reach single databases and collections
    Group(group::GroupArgs),
    /// Load records from JSON lines
    Import(import::ImportArgs),
    /// Show audit logs, write them to files, and check such files offline
    Audit(audit::AuditArgs),
    /// Look into archives of tenants
    Archive(archive::ArchiveArgs),
    /// Prepare a PostgreSQL server for Tenantry, and bring its tables to a new version
    Postgres(postgres::PostgresArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = "\
Every setting is a flag, an environment variable and a key of the configuration file, all of one
name: --data-dir, TENANTRY_DATA_DIR, data_dir. A flag beats the variable, the variable beats the
file, the file beats the default.

Examples:
  tenantry serve
      On 127.0.0.1:7700 with data in ./tenantry-data. The first start shows the operator key, once.

  tenantry serve --config /etc/tenantry.toml --chroma-listen 127.0.0.1:8000
      A second listener speaks Chroma's protocol to unchanged chromadb clients.

  tenantry serve --listen 0.0.0.0:7700 --tls-cert cert.pem --tls-key key.pem
      Beyond this machine only with TLS, or with --behind-proxy.

  TENANTRY_DEV=true tenantry serve
      Without authentication, for trying things out on this machine.")]
struct ServeArgs {
    /// Configuration file in TOML
    #[arg(long, env = "TENANTRY_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    settings: Settings,
}

/// Reads the command line and does what it says.
pub(crate) fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Serve(args) => {
            let config = Config::load(args.settings, args.config.as_deref())?;
            runtime()?.block_on(serve::serve(&config))
        }
        Command::Quickstart(args) => runtime()?.block_on(quickstart::run(args)),
        Command::Tenant(args) => tenant::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Limit(args) => limit::run(args),
        Command::Usage(args) => usage::run(*args),
        Command::Bill(args) => bill::bill(args),
        Command::Tariff(args) => bill::tariff(args),
        Command::Key(args) => key::run(args),
        Command::Webhook(args) => webhook::run(args),
        Command::Member(args) => member::run(args),
        Command::Group(args) => group::run(args),
        Command::Import(args) => import::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Archive(args) => archive::run(args),
        Command::Postgres(args) => postgres::run(args),
    }
}

/// Tasks that a busy worker runs before it looks for what has come over the network: with many,
/// whoever sends a lot decides how late a quiet tenant's request is seen.
const EVENT_INTERVAL: u32 = 2;

/// A runtime with one worker a core.
fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()
        .context("start the runtime")
}
