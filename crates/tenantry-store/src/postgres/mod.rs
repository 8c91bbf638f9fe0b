//! PostgreSQL as a backend.
//!
//! `url` and `tls` say where a server is and whether the way there is safe. `connect` opens
//! one connection, `connections` keeps few of them for many databases and lends them as
//! `conn`; `clean` makes one usable again that somebody let go in the middle. `call` is the
//! only place that begins and commits transactions; `failure` turns what goes wrong into this
//! crate's errors.
//!
//! No statement has a name on the server, so that a pooler may give each transaction another
//! connection. A statement must therefore return built-in types only: the client looks other
//! types up with a named statement.
//!
//! `setup`, `migrate`, `place` and `check` make roles, databases and tables, and look
//! whether they are as they must be; `opening` does it before anything is served. `cluster` is the
//! `crate::tenancy::Backend`: rows are read through a `view` and written by `submit`; `watch` tells
//! what other nodes took away, and `purge` removes what was deleted; `background` starts what dies.
//! `graphs` makes and remembers what `graph` describes: indexes with which `nearest` answers sooner.
//!
//! `locations` and `own` are the other databases that tenants may be in; `claiming` makes them ours
//! by a `claim`, unless `home` says that this is a copy.

mod admin;
mod again;
mod apart;
mod background;
mod call;
pub(crate) mod carried;
mod carry;
mod check;
mod claim;
mod claiming;
mod clean;
pub(crate) mod cluster;
mod config;
mod conn;
mod connect;
mod connections;
mod delete;
mod draft;
mod emptying;
mod failure;
mod fence;
mod fields;
mod filter;
mod graph;
mod graphs;
mod home;
mod in_order;
mod installed;
mod lead;
mod lines;
mod locations;
mod migrate;
mod missing;
mod named;
mod names;
mod nearest;
mod opening;
mod own;
mod pieces;
mod place;
mod prepared;
mod purge;
mod purging;
mod query;
mod read;
mod reading;
mod records;
#[cfg(test)]
mod records_tests;
pub(crate) mod root;
mod select;
mod setup;
mod shares;
#[cfg(test)]
mod stand;
mod statement;
mod store;
mod submit;
mod target;
#[cfg(test)]
mod tests;
mod tls;
mod url;
mod vector;
pub(crate) mod view;
mod watch;
mod write;

pub use config::{DatabasesConfig, LocationConfig, PostgresConfig};
pub use home::adopt;
pub use migrate::{Migrated, Progress, migrate};
pub use names::{Names, PlacePrefix};
pub use setup::{SetUp, Setup, setup};
pub(crate) use store::{Inner, Postgres};
pub use url::DatabaseUrl;
