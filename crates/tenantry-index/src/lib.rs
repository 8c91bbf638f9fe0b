//! Nearest neighbours and filters for one collection at a time.
//!
//! - [`ExactIndex`] holds the vectors of one collection in memory and finds the nearest ones.
//! - [`VectorIndex`] does so too, and builds a graph over them once they are many.
//! - [`CompiledFilter`] decides whether a record's metadata and text meet a
//!   [`Filter`](tenantry_types::Filter).
//! - [`MetadataIndex`] finds the records that meet one without asking each.
//!
//! They meet in [`Allow`]: the caller evaluates a filter over its records and hands the slots
//! that passed to the search.
//!
//! ```
//! use tenantry_index::{Allow, ExactIndex};
//! use tenantry_types::Metric;
//!
//! let mut index = ExactIndex::new(Metric::L2, 2);
//! index.set(0, &[0.0, 0.0]);
//! index.set(1, &[3.0, 4.0]);
//! index.set(2, &[0.0, 1.0]);
//! let found = index.search(&[0.0, 0.0], 2, Allow::Slots(&[1, 2]));
//! assert_eq!((found[0].slot, found[0].distance), (2, 1.0));
//! assert_eq!((found[1].slot, found[1].distance), (1, 25.0));
//! ```
//!
//! # How a search works
//!
//! Each vector is kept twice: as it came, and as one byte per component with four numbers that
//! say how much those bytes lose. A search reads only the bytes, a quarter of the memory, and
//! gets a *proven lower bound* of every distance. It then compares the originals of the most
//! promising vectors, and after them only those whose bound is not above the `k`-th distance
//! found. On text embeddings that is about one and a half times `k` originals of any number.
//!
//! # Invariants
//!
//! - An answer is what a comparison with every allowed vector would give, to the last bit; it
//!   depends on the vectors, the query and the processor's instruction set, and on nothing else:
//!   not on the order of writes, on vectors that were removed, or on other indexes.
//! - That holds for a [`VectorIndex`] while it scans. When it walks its graph instead, an answer
//!   may miss neighbours; it never has a removed vector, and has every one not yet in the graph.
//! - A search returns `min(k, allowed vectors)` neighbours, never fewer.
//! - No vector or query of the right dimension makes a search panic or return NaN: where `f32`
//!   would overflow or vanish, distances are computed in 64 bits.
//! - Compiling a filter takes bounded memory, and asking it takes time linear in the text.
//!
//! # What it deliberately does not do
//!
//! It knows no tenants, ids or records, does no I/O, starts no threads and keeps no global state
//! beyond the choice of kernels. It does not decide what a wrong dimension means to a caller, nor
//! which slots a filter allows. Only its kernels contain `unsafe`.

mod distance;
mod exact;
mod filter;
mod graph;
mod kernels;
mod metadata;
mod plan;
mod quantise;
mod select;
mod vector_index;

pub use exact::{Allow, ExactIndex, Neighbour, Storage};
pub use filter::CompiledFilter;
pub use metadata::{MetadataIndex, Narrowed, Pace, Row};
pub use plan::Plan;
pub use vector_index::{
    Found, IndexConfig, Progress, SavedLinks, SearchOptions, Segment, SegmentParts, VectorIndex,
    Work, recall,
};

/// The name of the instruction set that searches use on this machine, for diagnostics:
/// `avx512-vnni`, `avx2`, `neon` or `scalar`.
pub fn instruction_set() -> &'static str {
    kernels::Kernels::best().name
}
