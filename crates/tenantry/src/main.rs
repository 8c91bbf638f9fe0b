//! The program `tenantry`: the server and its command line.

mod cli;
mod config;
mod issuer_keys;
mod leftover;
mod listener;
mod pace;
mod sample;
mod serve;
mod shared_rates;
mod webhooks;

use std::process::ExitCode;

/// Returns what evicted partitions took to the system, which glibc's allocator does not while
/// anything above it lives, and takes memory in larger steps when one is loaded.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// 0: done. 1: failed, with one line on standard error. 2: the command line was wrong.
fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let text = cli::printable(&format!("{error:#}"));
            eprintln!("error: {}", text.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
