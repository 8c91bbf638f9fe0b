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
    postgres::{Names, PlacePrefix, SetUp, Setup, setup},
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

A tenant that has a schema or a database of its own has one name for it and for its role: ten_ and
16 letters and digits that say nothing of the tenant. --place-prefix shop_ makes that shop_ten_...,
here and for ever: it is said by the first setup of this NAME, later ones keep it, and another one
is refused. Each location has its own.

Examples:
  TENANTRY_SUPERUSER_URL=postgresql://postgres:…@db.internal/postgres tenantry postgres setup
  tenantry postgres setup --superuser-url 'postgresql:///postgres?host=/var/run/postgresql&user=postgres'
      Over the server's own socket, as its system user.
  tenantry postgres setup --name staging --json
      A second installation on the same server, for a program to read.
  tenantry postgres setup --name shop --place-prefix shop_
      Schemas, databases and roles of its tenants are called shop_ten_...")]
pub(super) struct SetupArgs {
    /// URL of a superuser; better given by the variable, which no process list shows
    #[arg(long, env = "TENANTRY_SUPERUSER_URL", value_name = "URL", hide_env_values = true)]
    superuser_url: Option<Secret>,
    /// What roles and databases are called: a letter, then up to 30 of a-z, 0-9 and _
    #[arg(long, default_value = "tenantry", value_parser = Names::parse)]
    name: Names,
    /// What names of tenants' schemas, databases and roles begin with: a letter, then up to 22 of
    /// a-z, 0-9 and _, then _; said once, by the first setup
    #[arg(
        long,
        env = "TENANTRY_PLACE_PREFIX",
        value_name = "PREFIX",
        value_parser = PlacePrefix::parse
    )]
    place_prefix: Option<PlacePrefix>,
    /// Give both roles new passwords, also if they have some
    #[arg(long)]
    reset_passwords: bool,
    /// Write JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: SetupArgs) -> Result<()> {
    let url = needed(args.superuser_url.as_ref(), "superuser-url", "TENANTRY_SUPERUSER_URL")?;
    let (names, place_prefix) = (args.name, args.place_prefix);
    let what = Setup { names, place_prefix, reset_passwords: args.reset_passwords };
    let made = runtime()?.block_on(setup(url, &what, &SystemEntropy))?;
    if args.json {
        return print_json(&json!({
            "database_url": made.database_url,
            "database_admin_url": made.database_admin_url,
            "urls_have_passwords": made.has_passwords,
            "server_version": made.server_version,
            "pgvector_version": made.pgvector_version,
            "version": made.version,
            "place_prefix": made.place_prefix.as_str(),
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
    let prefix = match made.place_prefix.as_str() {
        "" => String::new(),
        prefix => format!("place_prefix        {prefix}\n"),
    };
    format!(
        "PostgreSQL {} with pgvector {} is ready, tables of version {}\n\n\
         database_url        {}\n\
         database_admin_url  {}\n{prefix}\n{passwords}\n",
        made.server_version,
        made.pgvector_version,
        made.version,
        made.database_url,
        made.database_admin_url,
    )
}
