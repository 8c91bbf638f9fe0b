//! Other products' protocols, each in a folder of its own, all shaped alike.
//!
//! A dialect turns requests into calls of `tenantry-engine` and answers into its protocol's form.
//! It decides nothing: who may do what, what is valid and what is stored is the engine's.

pub mod chroma;
mod vectors;
