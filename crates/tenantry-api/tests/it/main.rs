//! The native protocol against a real engine on a temporary folder, in process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod admin;
mod archives;
mod audit;
mod bad_input;
mod catalog;
mod documents;
mod hosts;
mod keys;
mod metrics;
mod moves;
mod names;
mod objects;
mod observing;
mod placement;
mod plans;
mod prefixes;
mod rates;
mod records;
mod reports;
mod server;
mod signup;
mod told;
mod vectors;
