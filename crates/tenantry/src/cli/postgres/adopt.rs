//! `tenantry postgres adopt`.

use super::admin_url;
use crate::{
    cli::{client::is_data_folder, output::print, runtime},
    config::{Existing, MasterKeySource, Opening, Secret, StoreConfig},
};
use anyhow::{Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use tenantry::{Store, postgres::adopt};

#[derive(Debug, Args)]
#[command(after_help = "\
A copy of an installation's database would take its locations and its tenants' own databases for its
own; so a server refuses them once it finds itself in another database than the one that claimed
them: after a dump was restored elsewhere, and after a new version of PostgreSQL by pg_upgrade. End
all servers of the database that this one comes from, then run this, then start servers here. From
then on the other ones are refused at the locations, but not at tenants' own databases.

The same for a data folder that has locations beside it, or tenants with databases of their own:
a copy of it, and one that was put back from a backup, enters none of them until it is adopted.

Also for a location whose database was replaced for good: what the servers find there at their next
start is taken.

Example:
  TENANTRY_DATABASE_ADMIN_URL=postgresql://tenantry_admin:…@db.internal/tenantry \\
      tenantry postgres adopt
  tenantry postgres adopt --data-dir tenantry-data")]
pub(super) struct AdoptArgs {
    /// URL of the admin role, as `tenantry postgres setup` printed it; better given by the variable
    #[arg(long, env = "TENANTRY_DATABASE_ADMIN_URL", value_name = "URL", hide_env_values = true)]
    database_admin_url: Option<Secret>,

    /// The data folder of an installation in files, which no server has open
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// Environment variable that holds the folder's master key
    #[arg(long, env = "TENANTRY_MASTER_KEY_ENV", value_name = "NAME")]
    master_key_env: Option<String>,

    /// Command that prints the folder's master key
    #[arg(long, env = "TENANTRY_MASTER_KEY_COMMAND", value_name = "COMMAND")]
    master_key_command: Option<String>,
}

pub(super) fn run(args: &AdoptArgs) -> Result<()> {
    if let Some(folder) = &args.data_dir {
        return adopt_folder(folder, args);
    }
    runtime()?.block_on(adopt(admin_url(args.database_admin_url.as_ref())?))?;
    print("this database is the installation's: servers take its locations at their next start\n")
}

fn adopt_folder(folder: &Path, args: &AdoptArgs) -> Result<()> {
    is_data_folder(folder)?;
    let (variable, command) = (args.master_key_env.clone(), args.master_key_command.clone());
    let what = Existing { data_dir: Some(folder.to_owned()), ..Existing::default() };
    let config = StoreConfig::existing(what, MasterKeySource::choose(variable, command)?)?;
    let Opening::Embedded(config) = config.opening()? else { bail!("this is no data folder") };
    runtime()?.block_on(Store::adopt_embedded(*config))?;
    print("this folder is the installation's: a server takes its locations at its next start\n")
}
