//! `tenantry postgres`: prepare a PostgreSQL server, bring its tables to a new version, and move.

mod adopt;
mod migrate;
mod setup;

use crate::config::Secret;
use adopt::AdoptArgs;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use migrate::MigrateArgs;
use setup::SetupArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  TENANTRY_SUPERUSER_URL=postgresql://postgres:…@db.internal/postgres tenantry postgres setup
  TENANTRY_DATABASE_ADMIN_URL=postgresql://tenantry_admin:…@db.internal/tenantry \\
      tenantry postgres migrate")]
pub(super) struct PostgresArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the roles and databases of an installation, or what is missing of them
    Setup(SetupArgs),
    /// Bring the tables of all tenants to the version of this program
    Migrate(MigrateArgs),
    /// Say that an installation has moved to this database for good
    Adopt(AdoptArgs),
}

/// The URL that a command cannot do without.
fn needed<'a>(url: Option<&'a Secret>, flag: &str, variable: &str) -> Result<&'a str> {
    url.map(Secret::reveal).with_context(|| {
        format!(
            "say which database: by the variable {variable}, or by --{flag} URL, which others see"
        )
    })
}

/// The admin's.
fn admin_url(url: Option<&Secret>) -> Result<&str> {
    needed(url, "database-admin-url", "TENANTRY_DATABASE_ADMIN_URL")
}

pub(super) fn run(args: PostgresArgs) -> Result<()> {
    match args.command {
        Command::Setup(args) => setup::run(args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Adopt(args) => adopt::run(&args),
    }
}
