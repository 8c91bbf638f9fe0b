//! The program as its users run it: a child process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin_listen;
mod advise;
mod archives;
mod audit;
mod beside;
mod break_glass;
mod budgets;
mod chat;
mod commands;
mod config;
mod desk;
mod documents;
mod import;
mod installation;
mod isolation;
mod issuer;
mod ledger;
mod lifecycle;
mod locations;
mod logins;
mod members;
mod on_postgres;
mod own_tenant;
mod placement;
mod plans;
mod postgres;
mod program;
mod quickstart;
mod redis_server;
mod serve;
mod shared_rates;
mod single;
mod sources;
mod stop;
mod tls;
mod tokens;
mod webhooks;
