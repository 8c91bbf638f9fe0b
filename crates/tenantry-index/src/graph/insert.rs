//! Giving a waiting vector its place.

use super::{
    Basis, Graph, Row, draw,
    entries::{self, Survey},
    prune::Candidate,
    walk::{Guide, Limits, NodeGuide},
};
use crate::exact::{Codes, Pace};

/// Links that may be left when a full node is pruned, in eighths of the degree: room for the next
/// ones, so that not every insertion prunes again.
const FILLED: usize = 7;

/// Entries among which one that is too near to another is sought, if all are too many.
const CROWD: usize = 192;

/// A vector's place, computed.
pub(super) struct Insertion {
    basis: Basis,
    links: Vec<u32>,
    /// What the nodes it links to shall link to.
    back: Vec<Row>,
    survey: Survey,
}

impl Graph {
    /// Computes the place of a waiting vector.
    pub(super) fn insertion(&self, slot: u32, codes: Codes<'_>) -> Insertion {
        let basis =
            Basis { slot, row: codes.row(slot).to_vec(), terms: codes.terms[slot as usize] };
        let (near, nearest_entry) = self.nearby(slot, codes);
        let links = self.prune(codes, slot, near, self.shape.degree);
        let mut back: Vec<Row> = links
            .iter()
            .map(|&node| Row { node, links: self.with_link(node, slot, codes) })
            .collect();
        // What nobody links to is never found.
        if let Some(first) = back.first_mut()
            && !first.links.contains(&slot)
        {
            first.links.truncate(self.shape.degree - 1);
            first.links.push(slot);
        }
        let survey = Survey { nearest: nearest_entry, crowded: self.crowded(codes) };
        Insertion { basis, links, back, survey }
    }

    /// The living nodes nearest to a vector, itself left out, and the distance to the nearest
    /// entry.
    pub(super) fn nearby(&self, slot: u32, codes: Codes<'_>) -> (Vec<Candidate>, f32) {
        let mut scratch = self.borrow();
        let guide = NodeGuide::new(codes, slot, self.longest);
        self.start(codes, &mut scratch, &guide, false);
        let mut always = || Ok(());
        let accept = |node: u32| node != slot && self.answers(node);
        let limits = Limits { beam: self.shape.build_beam, budget: usize::MAX };
        let walked =
            self.walk(codes, &mut scratch, &guide, limits, accept, &mut Pace::new(&mut always));
        let (found, nearest_entry) = (scratch.found(), scratch.nearest_start());
        self.give_back(scratch);
        let candidate = |(distance, slot)| Candidate { distance, slot };
        let found = walked.map(|_| found.into_iter().map(candidate).collect());
        (found.unwrap_or_default(), nearest_entry)
    }

    /// Of two entries, while there are too many, those within the reach of another.
    fn crowded(&self, codes: Codes<'_>) -> Vec<u32> {
        let entries = &self.entries;
        let Ok(count) = u32::try_from(entries.len()) else { return Vec::new() };
        if entries.len() <= entries::most(self.nodes) {
            return Vec::new();
        }
        let (mut dots, mut near) = (Vec::new(), Vec::new());
        // One from each half, so that they differ and do not rule each other out.
        let half = count / 2;
        let drawn = draw(self.shape.seed, !self.version, half) as usize;
        let mut crowded: Vec<u32> = Vec::new();
        for at in [drawn, drawn + half as usize] {
            let slot = entries.slots[at];
            let guide = NodeGuide::new(codes, slot, self.longest);
            if !entries.near(codes, &guide, CROWD, &mut near, &mut dots) {
                near.extend(0..count);
            }
            dots.resize(near.len(), 0);
            codes.kernels.gather(guide.row(), &entries.rows, &near, &mut dots);
            let mut others = near.iter().map(|at| *at as usize).zip(&dots);
            if others.any(|(at, dot)| {
                let other = entries.slots[at];
                other != slot
                    && !crowded.contains(&other)
                    && guide.distance(&entries.terms[at], *dot) <= entries.reach
            }) {
                crowded.push(slot);
            }
        }
        crowded
    }

    /// The links of `node` with one to `slot`, if it is worth one.
    fn with_link(&self, node: u32, slot: u32, codes: Codes<'_>) -> Vec<u32> {
        let mut links: Vec<u32> =
            self.links(node).iter().copied().filter(|to| self.answers(*to)).collect();
        links.push(slot);
        if links.len() <= self.shape.degree {
            return links;
        }
        let candidates = self.candidates(codes, node, &links);
        self.prune(codes, node, candidates, (self.shape.degree * FILLED / 8).max(1))
    }

    /// Takes over a place, unless the vector is another by now.
    pub(super) fn insert(&mut self, insertion: Insertion, codes: Codes<'_>) {
        let Insertion { basis, links, back, survey } = insertion;
        let slot = basis.slot;
        let same = self.waiting.contains(slot)
            && codes.row(slot) == basis.row
            && codes.terms[slot as usize] == basis.terms;
        if !same {
            return;
        }
        self.version += 1;
        self.attach(slot);
        self.write(slot, links);
        for Row { node, links } in back {
            if self.is_alive(node) {
                self.write(node, links);
            }
        }
        self.entries.learn(slot, &survey, self.nodes, codes);
    }

    /// Writes a node's links, but none to what has died since they were computed.
    pub(super) fn write(&mut self, node: u32, mut links: Vec<u32>) {
        links.retain(|to| self.is_alive(*to));
        self.store(node, &links);
    }
}
