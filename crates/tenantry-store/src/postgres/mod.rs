//! PostgreSQL as a backend: how this crate talks to it.
//!
//! [`url`] and [`tls`] say where a server is and whether the way there is safe. [`connect`] opens
//! one connection, [`connections`] keeps few of them for many databases, [`clean`] makes one
//! usable again that somebody let go in the middle. [`call`] is the only place that begins and
//! commits transactions; [`failure`] turns what goes wrong into this crate's errors.
//!
//! No statement has a name on the server, so that a pooler may give each transaction another
//! connection. A statement must therefore return built-in types only: the client looks other
//! types up with a named statement.

#![expect(dead_code, reason = "the backend that uses it comes next")]

mod call;
mod clean;
mod connect;
mod connections;
mod failure;
mod in_order;
mod statement;
#[cfg(test)]
mod tests;
mod tls;
mod url;

pub use url::DatabaseUrl;
