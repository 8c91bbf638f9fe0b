//! The engine's behaviour, as a caller of its public surface sees it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod advise;
mod archive;
mod audit;
mod catalog;
mod compile_fail;
mod cross_tenant;
mod interference;
mod keys;
mod limited_keys;
mod names;
mod order;
mod placement;
mod policy;
mod records;
mod search;
mod support;
mod tenants;
mod tokens;
mod turns;
mod validation;
mod vectors;
