//! `tenantry postgres adopt`.

use super::admin_url;
use crate::{
    cli::{output::print, runtime},
    config::Secret,
};
use anyhow::Result;
use clap::Args;
use tenantry::postgres::adopt;

#[derive(Debug, Args)]
#[command(after_help = "\
A copy of an installation's database would take its locations and its tenants' own databases for its
own; so a server refuses them once it finds itself in another database than the one that claimed
them: after a dump was restored elsewhere, and after a new version of PostgreSQL by pg_upgrade. End
all servers of the database that this one comes from, then run this, then start servers here. From
then on the other ones are refused at the locations, but not at tenants' own databases.

Also for a location whose database was replaced for good: what the servers find there at their next
start is taken.

Example:
  TENANTRY_DATABASE_ADMIN_URL=postgresql://tenantry_admin:…@db.internal/tenantry \\
      tenantry postgres adopt")]
pub(super) struct AdoptArgs {
    /// URL of the admin role, as `tenantry postgres setup` printed it; better given by the variable
    #[arg(long, env = "TENANTRY_DATABASE_ADMIN_URL", value_name = "URL", hide_env_values = true)]
    database_admin_url: Option<Secret>,
}

pub(super) fn run(args: &AdoptArgs) -> Result<()> {
    runtime()?.block_on(adopt(admin_url(args.database_admin_url.as_ref())?))?;
    print("this database is the installation's: servers take its locations at their next start\n")
}
