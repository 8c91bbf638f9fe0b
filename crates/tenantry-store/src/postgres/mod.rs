//! PostgreSQL: what a backend on it stands on: roles, databases, tables and their versions.

#![cfg_attr(not(test), allow(dead_code, reason = "the backend that uses it comes next"))]

mod admin;
mod check;
mod migrate;
mod names;
mod place;
mod setup;
#[cfg(test)]
mod stand;

pub use migrate::{Migrated, Progress, migrate};
pub use names::Names;
pub use setup::{SetUp, Setup, setup};
