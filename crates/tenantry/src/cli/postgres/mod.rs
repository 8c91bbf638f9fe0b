//! `tenantry postgres`: prepare a PostgreSQL server, bring its tables to a new version, and move.

mod adopt;
mod migrate;
mod setup;

use adopt::AdoptArgs;
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
    /// Say that an installation has moved to this database for good
    Adopt(AdoptArgs),
}

pub(super) fn run(args: PostgresArgs) -> Result<()> {
    match args.command {
        Command::Setup(args) => setup::run(args),
        Command::Migrate(args) => migrate::run(args),
        Command::Adopt(args) => adopt::run(&args),
    }
}
