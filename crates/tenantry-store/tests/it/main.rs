//! The store's integration tests: one binary.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apart;
mod budget;
mod cancel;
mod conformance;
mod crash;
mod crowd;
mod damage;
mod embedded;
mod faults;
mod fixture;
mod graph;
mod moves;
mod named;
mod postgres;
mod saved;
mod stand;
mod trace;
mod whole;
