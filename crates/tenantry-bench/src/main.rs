//! Tenantry beside what users would pick instead: the same data, one run, one machine, in turns.
//!
//! Absolute numbers say more about the machine than about a program, so what counts is the ratio
//! within a run. Start reading in `vectors.rs`, the smallest comparison; `README.md` says what is
//! measured how.

mod archives;
mod audit;
mod backend;
mod catalog;
mod chart;
mod cold;
mod cores;
mod corpus;
mod costs;
mod driver;
mod exact;
mod filters;
#[path = "../../../xtask/src/http.rs"]
mod http;
mod insert;
mod library;
mod memory;
mod moves;
mod native;
mod natives;
mod neighbour;
mod npy;
mod ours;
mod peer;
mod pgvector;
mod postgres;
mod predicate;
mod process;
mod psycopg;
mod random;
mod replace;
mod report;
mod schemas;
mod selection;
mod server;
mod serving;
mod statistics;
mod target;
mod tenants;
mod vectors;
mod wrk;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Tenantry beside what users would pick instead
///
/// Each command prints a table of ratios and writes JSON and a chart to target/bench. Peers come
/// from PyPI into environments below target/bench.
#[derive(Debug, Parser)]
#[command(name = "tenantry-bench", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Nearest neighbours in process, one thread: recall against latency, bytes, time to build
    Vectors(vectors::Options),
    /// Searches that only some vectors may answer: recall and latency by selectivity
    Filters(filters::Options),
    /// A scan of all vectors in process, one thread, by dimension
    Exact(exact::Options),
    /// Many tenants over HTTP: throughput, latency, recall, inserts, memory
    Http(serving::Options),
    /// Durable inserts of full batches from a few clients
    Insert(insert::Options),
    /// A quiet tenant's latency alone and while another tenant floods the server
    Neighbour(neighbour::Options),
    /// The first query of a tenant after the server was started
    Cold(cold::Options),
    /// Recall and latency while a tenth of a tenant's records is replaced
    Replace(replace::Options),
    /// More tenants than fit in memory: whether the server stays within its budget
    Memory(memory::Options),
    /// Tenantry on PostgreSQL, and on files, beside plain psycopg on the same PostgreSQL
    Backend(backend::Options),
    /// A tenant that is moved between its isolations under load, and its neighbour
    Moves(moves::Options),
    /// All tenants exported, imported and exported again, which gives the same bytes
    Archives(archives::Options),
    /// An exported audit log of a million entries, verified without a server
    Audit(audit::Options),
    /// What plans, the ledger and the audit log add to a query
    Costs(costs::Options),
    /// Very many tenants with schemas, and with databases, of their own
    Schemas(schemas::Options),
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Vectors(options) => vectors::run(options),
        Command::Filters(options) => filters::run(options),
        Command::Exact(options) => exact::run(options),
        Command::Http(options) => serving::run(options),
        Command::Insert(options) => insert::run(options),
        Command::Neighbour(options) => neighbour::run(options),
        Command::Cold(options) => cold::run(options),
        Command::Replace(options) => replace::run(options),
        Command::Memory(options) => memory::run(options),
        Command::Backend(options) => backend::run(options),
        Command::Archives(options) => archives::run(options),
        Command::Audit(options) => audit::run(options),
        Command::Moves(options) => moves::run(options),
        Command::Costs(options) => costs::run(options),
        Command::Schemas(options) => schemas::run(options),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
