//! The program as its users run it: a child process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod advise;
mod archives;
mod audit;
mod beside;
mod commands;
mod config;
mod desk;
mod documents;
mod import;
mod installation;
mod isolation;
mod issuer;
mod locations;
mod on_postgres;
mod placement;
mod plans;
mod postgres;
mod program;
mod quickstart;
mod serve;
mod stop;
mod tls;
mod tokens;
