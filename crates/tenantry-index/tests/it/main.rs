//! What the crate promises, through its public interface.

mod bad_input;
mod data;
mod exact;
mod extremes;
mod filter;
mod graph;
mod metadata;
mod segment;
mod vector_index;
