//! The engine's behaviour, as a caller of its public surface sees it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod advise;
mod archive;
mod audit;
mod break_glass;
mod budgets;
mod catalog;
mod compile_fail;
mod cross_tenant;
mod events;
mod groups;
mod interference;
mod keys;
mod limited_keys;
mod members;
mod names;
mod operators;
mod order;
mod placement;
mod policy;
mod records;
mod search;
mod support;
mod tenants;
mod tokens;
mod turns;
mod usage;
mod validation;
mod vectors;
