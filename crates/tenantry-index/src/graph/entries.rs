//! Where walks start: nodes that lie everywhere, scanned first.
//!
//! Data may have clusters that are all equally far from each other: then no link says which way
//! to go, and only a look at each cluster finds the right one. So the entries are no random
//! sample but a cover: a node becomes one if it is farther than a *reach* from all others, and the
//! reach follows from how many entries there may be. Together their codes are read as fast as
//! memory allows.

use crate::{exact::Codes, kernels::Block, quantise::Terms};

/// One node in so many may be an entry of a large graph.
const NODES_PER_ENTRY: usize = 64;

/// Up to so many nodes, all are entries.
const ENTRIES_MIN: usize = 1_024;

/// Most entries of any graph.
const ENTRIES_MAX: usize = 16_384;

/// By how much the reach changes with an insertion while there are too many or too few entries.
const REACH_STEP: f32 = 1.004;

#[derive(Default)]
pub(super) struct Entries {
    pub(super) slots: Vec<u32>,
    pub(super) rows: Vec<Block>,
    pub(super) terms: Vec<Terms>,
    /// A node nearer than this to an entry is not one.
    pub(super) reach: f32,
}

/// What an insertion found out about the entries.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    /// The distance from the new node to the nearest entry.
    pub(super) nearest: f32,
    /// Entries within the reach of others.
    pub(super) crowded: Vec<u32>,
}

/// The entries that a graph of so many nodes may have.
pub(super) fn most(nodes: usize) -> usize {
    (nodes / NODES_PER_ENTRY).clamp(ENTRIES_MIN, ENTRIES_MAX)
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<u32>()
            + self.rows.capacity() * size_of::<Block>()
            + self.terms.capacity() * size_of::<Terms>()
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.slots.contains(&slot)
    }

    /// Adds a node.
    pub(super) fn push(&mut self, slot: u32, codes: Codes<'_>) {
        self.slots.push(slot);
        self.rows.extend_from_slice(codes.row(slot));
        self.terms.push(codes.terms[slot as usize]);
    }

    /// Removes a node; true if it was one of them.
    pub(super) fn remove(&mut self, slot: u32) -> bool {
        let Some(at) = self.slots.iter().position(|one| *one == slot) else { return false };
        let width = self.rows.len() / self.slots.len();
        let last = self.rows.len() - width;
        self.rows.copy_within(last.., at * width);
        self.rows[last..].fill(Block::ZERO);
        self.rows.truncate(last);
        self.slots.swap_remove(at);
        self.terms.swap_remove(at);
        true
    }

    /// Takes a new node into account, the `nodes`-th.
    pub(super) fn learn(&mut self, slot: u32, survey: &Survey, nodes: usize, codes: Codes<'_>) {
        let most = most(nodes);
        for &crowded in &survey.crowded {
            self.remove(crowded);
        }
        if survey.nearest > self.reach && self.len() < 2 * most {
            self.push(slot, codes);
        }
        if self.len() > most {
            let first = if survey.nearest.is_finite() { survey.nearest / 2.0 } else { 0.0 };
            self.reach = if self.reach > 0.0 { self.reach * REACH_STEP } else { first };
        } else if self.len() < most / 4 * 3 {
            self.reach /= REACH_STEP;
        }
    }
}
