//! `tenantry postgres`: prepare a PostgreSQL server, and bring its tables to a new version.

mod migrate;
mod setup;

use anyhow::Result;
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
}

pub(super) fn run(args: PostgresArgs) -> Result<()> {
    match args.command {
        Command::Setup(args) => setup::run(args),
        Command::Migrate(args) => migrate::run(args),
    }
}
