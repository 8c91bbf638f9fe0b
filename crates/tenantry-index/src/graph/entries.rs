//! Where walks start: nodes that lie everywhere, scanned first.
//!
//! Data may have clusters that are all equally far from each other: then no link says which way
//! to go, and only a look at each cluster finds the right one. So the entries are no random
//! sample but a cover: a node becomes one if it is farther than a *reach* from all others, and the
//! reach follows from how many entries there may be. Together their codes are read as fast as
//! memory allows. When they are many, only groups of them are.

mod groups;

use super::walk::{Guide, pack, unpack};
use crate::{exact::Codes, kernels::Block, quantise::Terms};
use groups::Groups;

/// One node in so many may be an entry of a large graph.
const NODES_PER_ENTRY: usize = 64;

/// Up to so many nodes, all are entries.
pub(super) const ENTRIES_MIN: usize = 1_024;

/// Most entries of any graph.
const ENTRIES_MAX: usize = 16_384;

/// Up to so many entries are all scanned.
const SCANNED: usize = 2_048;

/// Of more, one in so many is looked at, and at least [`LOOKED_MIN`]: those in the groups nearest
/// to the query.
const LOOKED: usize = 8;
const LOOKED_MIN: usize = 1_024;

/// By how much the reach changes with an insertion while there are too many or too few entries.
const REACH_STEP: f32 = 1.004;

#[derive(Default)]
pub(super) struct Entries {
    pub(super) slots: Vec<u32>,
    pub(super) rows: Vec<Block>,
    pub(super) terms: Vec<Terms>,
    /// A node nearer than this to an entry is not one.
    pub(super) reach: f32,
    groups: Groups,
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
            + self.groups.bytes()
    }

    /// Entries that are looked at first by a walk that may look at some only.
    pub(super) fn looked(&self) -> usize {
        if self.len() <= SCANNED {
            self.len()
        } else {
            self.groups.len() + (self.len() / LOOKED).max(LOOKED_MIN)
        }
    }

    /// At least `wanted` entries of the groups nearest to what the guide leads to, by their
    /// positions; all if they are few enough to be scanned. `dots` is a buffer.
    pub(super) fn near(
        &self,
        codes: Codes<'_>,
        guide: &impl Guide,
        wanted: usize,
        positions: &mut Vec<u32>,
        dots: &mut Vec<i32>,
    ) -> bool {
        positions.clear();
        if self.len() <= SCANNED {
            return false;
        }
        let (rows, terms) = self.groups.leaders();
        dots.resize(self.groups.len(), 0);
        codes.kernels.scan(guide.row(), rows, dots);
        let mut nearest: Vec<u64> = (0..)
            .zip(terms.zip(&*dots))
            .map(|(group, (terms, dot))| pack(guide.distance(terms, *dot), group))
            .collect();
        nearest.sort_unstable();
        for key in nearest {
            positions.extend_from_slice(self.groups.members(unpack(key).1));
            if positions.len() >= wanted {
                break;
            }
        }
        true
    }

    /// As many as a walk looks at first.
    pub(super) fn near_first(
        &self,
        codes: Codes<'_>,
        guide: &impl Guide,
        positions: &mut Vec<u32>,
        dots: &mut Vec<i32>,
    ) -> bool {
        self.near(codes, guide, (self.len() / LOOKED).max(LOOKED_MIN), positions, dots)
    }

    pub(super) fn contains(&self, slot: u32) -> bool {
        self.slots.contains(&slot)
    }

    /// Adds a node.
    pub(super) fn push(&mut self, slot: u32, codes: Codes<'_>) {
        self.slots.push(slot);
        self.rows.extend_from_slice(codes.row(slot));
        self.terms.push(codes.terms[slot as usize]);
        self.groups.push(&self.slots, codes);
    }

    /// Removes a node; true if it was one of them.
    pub(super) fn remove(&mut self, slot: u32, codes: Codes<'_>) -> bool {
        let Some(at) = self.slots.iter().position(|one| *one == slot) else { return false };
        self.groups.swap_remove(at, &self.slots, codes);
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
            self.remove(crowded, codes);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExactIndex, graph::walk::NodeGuide};
    use tenantry_types::Metric;

    /// Sines of growing frequency, in groups of twenty that are near each other.
    fn vector(slot: u16) -> Vec<f32> {
        let (cluster, one) = (f32::from(slot / 20), f32::from(slot));
        let component =
            |i: u16| (cluster * 1.7 * f32::from(i)).sin() + 0.2 * (one * f32::from(i)).cos();
        (1..=70).map(component).collect()
    }

    #[test]
    fn entries_in_groups_are_found_while_they_come_and_go() {
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            let mut index = ExactIndex::new(metric, 70);
            (0..6_000).for_each(|slot| index.set(u32::from(slot), &vector(slot)));
            let codes = index.codes();
            let mut entries = Entries::default();
            let (mut near, mut dots) = (Vec::new(), Vec::new());
            for slot in 0..6_000 {
                entries.push(slot, codes);
                if slot % 3 == 1 {
                    // Leaders among them.
                    assert!(entries.remove(slot - slot % 90, codes) || slot % 90 != 1);
                }
                if slot % 500 == 0 {
                    entries.groups.check(&entries.slots, codes);
                }
            }
            let guide = NodeGuide::new(codes, 5_990, 0.0);
            assert!(entries.near_first(codes, &guide, &mut near, &mut dots));
            assert!(near.len() >= LOOKED_MIN && near.len() + dots.len() < entries.len() / 2);
            let mut own = |slot: u32| {
                let guide = NodeGuide::new(codes, slot, 0.0);
                entries.near(codes, &guide, 256, &mut near, &mut dots)
                    && near.iter().any(|at| entries.slots[*at as usize] == slot)
            };
            let found = entries.slots.iter().filter(|slot| own(**slot)).count();
            assert!(found * 100 >= entries.len() * 90, "{metric:?}: {found} of {}", entries.len());
            for slot in (0..6_000).rev() {
                entries.remove(slot, codes);
                if slot % 500 == 0 {
                    entries.groups.check(&entries.slots, codes);
                }
            }
            assert_eq!((entries.len(), entries.groups.len(), entries.rows.len()), (0, 0, 0));
            entries.push(7, codes);
            entries.groups.check(&entries.slots, codes);
        }
    }
}
