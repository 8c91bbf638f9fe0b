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

use anyhow::Result;
use clap::Subcommand;

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
}

/// The command.
pub(crate) fn run(which: &Which) -> Result<()> {
    match which {
        Which::Chroma(options) => chroma::run(options),
        Which::Tenants(options) => tenants::run(options),
    }
}
