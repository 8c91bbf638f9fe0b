//! Bridging dead nodes and freeing their slots.

use super::{Graph, Row, Sweep};
use crate::exact::Codes;

/// Most nodes that one piece looks at.
const LOOKED_MAX: usize = 8_192;

/// Most nodes that one piece gives new links.
const MENDED_MAX: usize = 6;

/// New links of some nodes, computed.
pub(super) struct Mending {
    /// The slots from the sweep's place to this one, exclusive, link to none of the dead.
    next: u32,
    rows: Vec<Row>,
}

impl Graph {
    /// Computes the next piece of a sweep.
    pub(super) fn mending(&self, sweep: &Sweep, codes: Codes<'_>) -> Mending {
        let mut next = sweep.next;
        let mut rows = Vec::new();
        let counts = self.counts.iter().skip(next as usize).take(LOOKED_MAX);
        for (slot, _) in (next..).zip(counts) {
            if rows.len() >= MENDED_MAX {
                break;
            }
            next = slot + 1;
            let broken = self.links(slot).iter().any(|to| sweep.dead.contains(*to));
            if broken && !sweep.dead.contains(slot) {
                rows.push(Row { node: slot, links: self.mended(slot, sweep, codes) });
            }
        }
        Mending { next, rows }
    }

    /// The links of a node with those to the dead replaced by what the dead linked to.
    fn mended(&self, node: u32, sweep: &Sweep, codes: Codes<'_>) -> Vec<u32> {
        let mut slots: Vec<u32> = Vec::new();
        for &to in self.links(node) {
            if sweep.dead.contains(to) {
                slots.extend_from_slice(self.links(to));
            } else {
                slots.push(to);
            }
        }
        slots.retain(|to| *to != node && self.is_alive(*to));
        slots.sort_unstable();
        slots.dedup();
        // A node that died since has links to be walked, but none to choose by.
        if !self.is_alive(node) {
            return slots;
        }
        let mut candidates = self.candidates(codes, node, &slots);
        let links = self.prune(codes, node, candidates.clone(), self.shape.degree);
        if links.len() >= self.shape.degree / 4 {
            return links;
        }
        // Its whole neighbourhood went: find it a new one.
        let (near, _) = self.nearby(node, codes);
        candidates.extend(near.into_iter().filter(|one| slots.binary_search(&one.slot).is_err()));
        self.prune(codes, node, candidates, self.shape.degree)
    }

    /// Takes over a piece of the sweep. At its end the dead are freed; gives the slots among them
    /// that hold no vector.
    pub(super) fn mend(&mut self, mending: Mending, codes: Codes<'_>) -> Vec<u32> {
        self.version += 1;
        for Row { node, links } in mending.rows {
            if self.is_linked(node) {
                self.write(node, links);
            }
        }
        let Some(sweep) = &mut self.sweep else { return Vec::new() };
        sweep.next = mending.next;
        if (sweep.next as usize) < self.counts.len() {
            return Vec::new();
        }
        let freed = self.sweep.take().map(|sweep| sweep.dead).unwrap_or_default();
        let mut empty = Vec::new();
        for slot in freed {
            self.counts[slot as usize] = super::UNLINKED;
            self.nodes -= 1;
            self.dead.remove(slot);
            self.ghosts.remove(&slot);
            if self.replaced.remove(slot) {
                self.waiting.insert(slot);
            } else if codes.terms[slot as usize].absent() {
                empty.push(slot);
            }
        }
        empty
    }
}
