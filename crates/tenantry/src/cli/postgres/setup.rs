//! `tenantry postgres setup`.

use super::needed;
use crate::{
    cli::{
        output::{print, print_json},
        runtime,
    },
    config::Secret,
};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use tenantry::{
    SystemEntropy,
    postgres::{Names, SetUp, Setup, setup},
};

#[derive(Debug, Args)]
#[command(after_long_help = "\
Needs PostgreSQL 16 or newer with pgvector 0.8 or newer, and the URL of a superuser, this once.
It makes:

  NAME_service    the role that serves: it owns nothing, inherits nothing, bypasses nothing
  NAME_admin      the role that makes tenants' schemas and databases
  NAME            the database of the installation, with its tables
  NAME_template   the database that tenants' own databases are made from

What is there is kept, so it can be run again: after a new version of pgvector or of Tenantry, or
when serving refuses the server. Passwords are set once and shown once; --reset-passwords makes new
ones, and the old ones are refused from then on.

Examples:
  TENANTRY_SUPERUSER_URL=postgresql://postgres:…@db.internal/postgres tenantry postgres setup
  tenantry postgres setup --superuser-url 'postgresql:///postgres?host=/var/run/postgresql&user=postgres'
      Over the server's own socket, as its system user.
  tenantry postgres setup --name staging --json
      A second installation on the same server, for a program to read.")]
pub(super) struct SetupArgs {
    /// URL of a superuser; better given by the variable, which no process list shows
    #[arg(long, env = "TENANTRY_SUPERUSER_URL", value_name = "URL", hide_env_values = true)]
    superuser_url: Option<Secret>,
    /// What roles and databases are called: a letter, then up to 30 of a-z, 0-9 and _
    #[arg(long, default_value = "tenantry", value_parser = Names::parse)]
    name: Names,
    /// Give both roles new passwords, also if they have some
    #[arg(long)]
    reset_passwords: bool,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: SetupArgs) -> Result<()> {
    let url = needed(args.superuser_url.as_ref(), "superuser-url", "TENANTRY_SUPERUSER_URL")?;
    let what = Setup { names: args.name, reset_passwords: args.reset_passwords };
    let made = runtime()?.block_on(setup(url, &what, &SystemEntropy))?;
    if args.json {
        return print_json(&json!({
            "database_url": made.database_url,
            "database_admin_url": made.database_admin_url,
            "urls_have_passwords": made.has_passwords,
            "server_version": made.server_version,
            "pgvector_version": made.pgvector_version,
            "version": made.version,
        }));
    }
    print(&text(&made))
}

fn text(made: &SetUp) -> String {
    let passwords = if made.has_passwords {
        "Both URLs hold passwords that are shown this once. Whoever has the second can remove all \
         data."
    } else {
        "The roles have passwords already, which are not shown again; --reset-passwords makes new \
         ones."
    };
    format!(
        "PostgreSQL {} with pgvector {} is ready, tables of version {}\n\n\
         database_url        {}\n\
         database_admin_url  {}\n\n{passwords}\n",
        made.server_version,
        made.pgvector_version,
        made.version,
        made.database_url,
        made.database_admin_url,
    )
}
