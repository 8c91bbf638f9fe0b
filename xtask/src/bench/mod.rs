//! Benchmarks. Comparisons run both servers in one go on one machine and report ratios, because
//! absolute numbers say more about the machine than about the program.

mod chroma;
mod data;
mod load;
mod random;
mod report;
mod target;
mod tenants;
mod workload;
mod wrk;

use crate::step::{cargo, run as run_command};
use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Which {
    /// Tenantry and Chroma's own server, the same bytes sent to both
    ///
    /// Both servers get the same tenants, records and queries over the same protocol; only the
    /// ids in the path and the key differ. Phases alternate between the servers. Tenantry runs
    /// with authentication, encryption and durable writes on, as always.
    Chroma(chroma::Options),
    /// Many tenants on one server: making them, starting with them, memory
    Tenants(tenants::Options),
    /// Tenantry on PostgreSQL beside plain psycopg on the same server: `tenantry-bench backend`
    Backend(Passed),
    /// Very many tenants with schemas and databases of their own: `tenantry-bench schemas`
    Schemas(Passed),
}

/// Arguments for `tenantry-bench`, which is built optimised; `--help` lists its own.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Passed {
    fn run(&self, command: &str) -> Result<()> {
        let mut bench =
            cargo(&["run", "--release", "--quiet", "--package", "tenantry-bench", "--"]);
        run_command(bench.arg(command).args(&self.arguments))
    }
}

/// The command.
pub(crate) fn run(which: &Which) -> Result<()> {
    match which {
        Which::Chroma(options) => chroma::run(options),
        Which::Tenants(options) => tenants::run(options),
        Which::Backend(passed) => passed.run("backend"),
        Which::Schemas(passed) => passed.run("schemas"),
    }
}
