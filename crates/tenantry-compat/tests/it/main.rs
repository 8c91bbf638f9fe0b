//! The dialects against a real engine on a temporary folder, in process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod catalog;
mod edge;
mod rates;
mod reading;
mod server;
mod writing;
