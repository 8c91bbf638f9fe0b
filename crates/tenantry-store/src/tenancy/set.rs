//! What a commit writes.

use super::{place::Placement, slot::SlotWrite};

/// Which rows a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// The installation's catalog and the tenants' rows: always in the root database.
    Catalog,
    /// All else of a tenant: where it lives.
    Data,
}

/// What one commit writes.
#[derive(Debug)]
pub(crate) struct WriteSet {
    /// Whose data the operations on [`Space::Data`] write. Apart from the root, it writes nothing
    /// else.
    pub(crate) placement: Placement,
    /// The generation of the database that it was made from.
    pub(crate) generation: u64,
    /// Values to put (`Some`) or remove (`None`).
    pub(crate) operations: Vec<(Space, Vec<u8>, Option<Vec<u8>>)>,
    /// Data keys to write and synchronise before the rest.
    pub(crate) slots: Vec<SlotWrite>,
    /// It takes a right away, which its keys do not show.
    pub(crate) takes: bool,
}

impl WriteSet {
    /// An empty set made from a database of this generation.
    pub(crate) fn new(placement: Placement, generation: u64) -> Self {
        Self { placement, generation, operations: Vec::new(), slots: Vec::new(), takes: false }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.operations.iter().map(|(_, k, v)| k.len() + v.as_ref().map_or(0, Vec::len)).sum()
    }
}
