//! The store's integration tests: one binary.

mod cancel;
mod conformance;
mod crash;
mod crowd;
mod damage;
mod embedded;
mod faults;
mod fixture;
mod stand;
mod trace;
mod whole;
