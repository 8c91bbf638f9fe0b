//! Which of many candidates a node links to.

use super::{
    Graph, draw,
    walk::{Guide, NodeGuide},
};
use crate::exact::Codes;

/// A candidate is left out if a chosen one is nearer to it than the node is, by this factor of
/// squared distances: α² of the paper.
const ALPHA: f32 = 1.15;

/// A node that may be linked to, and its distance from the one that links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) distance: f32,
    pub(super) slot: u32,
}

impl Graph {
    /// At most `most` links of `node` among the candidates (RobustPrune of the paper).
    ///
    /// Copies of the node's own vector rule nothing out and are not ruled out, but fill no more
    /// than half of the links: so many equal vectors stay connected, among each other and to the
    /// rest.
    pub(super) fn prune(
        &self,
        codes: Codes<'_>,
        node: u32,
        mut left: Vec<Candidate>,
        most: usize,
    ) -> Vec<u32> {
        let near = NodeGuide::new(codes, node, self.longest).near();
        left.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.slot.cmp(&b.slot)));
        let copies = left.partition_point(|one| one.distance <= near);
        let mut chosen = Vec::with_capacity(most);
        if copies > 0 {
            let seed = self.shape.seed ^ u64::from(node);
            left[..copies].sort_unstable_by_key(|one| draw(seed, u64::from(one.slot), u32::MAX));
            chosen.extend(left.drain(..copies).map(|one| one.slot).take(most / 2));
        }
        let (mut slots, mut dots) = (Vec::with_capacity(left.len()), Vec::new());
        left.reverse();
        while let Some(best) = left.pop() {
            chosen.push(best.slot);
            if chosen.len() >= most {
                break;
            }
            let guide = NodeGuide::new(codes, best.slot, self.longest);
            slots.clear();
            slots.extend(left.iter().map(|one| one.slot));
            codes.dots(guide.row(), &slots, &mut dots);
            let mut dots = dots.iter();
            left.retain(|one| {
                let dot = dots.next().copied().unwrap_or_default();
                let between = guide.distance(&codes.terms[one.slot as usize], dot);
                ALPHA * between > one.distance
            });
        }
        chosen
    }

    /// Candidates for the links of `node`, with their distances.
    pub(super) fn candidates(&self, codes: Codes<'_>, node: u32, slots: &[u32]) -> Vec<Candidate> {
        let guide = NodeGuide::new(codes, node, self.longest);
        let mut dots = Vec::new();
        codes.dots(guide.row(), slots, &mut dots);
        let each = slots.iter().zip(dots);
        each.map(|(&slot, dot)| Candidate {
            distance: guide.distance(&codes.terms[slot as usize], dot),
            slot,
        })
        .collect()
    }
}
