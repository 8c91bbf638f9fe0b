//! A walk through the graph towards a query.

use super::Graph;
use crate::{
    exact::{Codes, Pace},
    kernels::{BLOCK, Block},
    quantise::{QueryCodes, Terms},
};
use std::{cmp::Reverse, collections::BinaryHeap};
use tenantry_types::{Metric, Result};

/// Entries that a walk begins with.
const STARTS: usize = 8;

/// Entries among which a filter's local selectivity is read.
const NEAR_ENTRIES: usize = 32;

/// The weight of the component that stands for a vector's length under inner products. More than
/// 1 lets vectors of one length keep together: at the same cost it finds more, as measured on
/// clusters with lengths from 0.5 to 2.
const STRETCH: f32 = 4.0;

/// What a walk goes towards.
pub(crate) trait Guide {
    /// Its codes.
    fn row(&self) -> &[Block];
    /// How far a vector is, by the dot product of the codes. Only the order counts.
    fn distance(&self, terms: &Terms, dot: i32) -> f32;
}

/// Towards a query, by its metric.
pub(crate) struct QueryGuide<'a>(pub(crate) &'a QueryCodes);

impl Guide for QueryGuide<'_> {
    fn row(&self) -> &[Block] {
        &self.0.row
    }

    #[inline]
    fn distance(&self, terms: &Terms, dot: i32) -> f32 {
        self.0.estimate(terms, dot)
    }
}

/// Towards a vector of the index, by the squared Euclidean distance of the points that codes
/// stand for. For inner products each point has one more component, which makes all equally long,
/// so that the nearest point is the one of the largest product (Bachrach et al. 2014).
pub(super) struct NodeGuide<'a> {
    metric: Metric,
    row: &'a [Block],
    step: f32,
    length: f32,
    longest: f32,
    lift: f32,
}

impl<'a> NodeGuide<'a> {
    pub(super) fn new(codes: Codes<'a>, slot: u32, longest: f32) -> Self {
        let (step, length) = codes.terms[slot as usize].point(codes.metric);
        let lift = (longest - length).max(0.0).sqrt();
        Self { metric: codes.metric, row: codes.row(slot), step, length, longest, lift }
    }

    /// Vectors nearer than this are copies of this one.
    pub(super) fn near(&self) -> f32 {
        2e-5 * self.length
    }
}

impl Guide for NodeGuide<'_> {
    fn row(&self) -> &[Block] {
        self.row
    }

    #[inline]
    fn distance(&self, terms: &Terms, dot: i32) -> f32 {
        let (step, length) = terms.point(self.metric);
        let flat = self.length + length - 2.0 * self.step * step * dot as f32;
        let lifted = if self.metric == Metric::InnerProduct {
            let by = self.lift - (self.longest - length).max(0.0).sqrt();
            STRETCH * by * by
        } else {
            0.0
        };
        (flat + lifted).max(0.0)
    }
}

/// Buffers of a walk.
#[derive(Default)]
pub(crate) struct Scratch {
    visited: Visited,
    frontier: BinaryHeap<Reverse<u64>>,
    nearest: BinaryHeap<u64>,
    fresh: Vec<u32>,
    dots: Vec<i32>,
    starts: Vec<u64>,
    /// The entries nearest to the query that may be answers, under a filter.
    accepted_starts: BinaryHeap<u64>,
}

impl Scratch {
    pub(super) fn bytes(&self) -> usize {
        let words = self.frontier.capacity()
            + self.nearest.capacity()
            + self.starts.capacity()
            + self.accepted_starts.capacity();
        size_of::<Self>()
            + words * size_of::<u64>()
            + (self.fresh.capacity() + self.dots.capacity() + self.visited.table.capacity())
                * size_of::<u32>()
    }

    /// What the walk found: estimated distances and slots, the nearest first.
    pub(crate) fn found(&mut self) -> Vec<(f32, u32)> {
        let mut keys: Vec<u64> = self.nearest.drain().collect();
        keys.sort_unstable();
        keys.into_iter().map(unpack).collect()
    }

    /// The distance to the nearest entry; infinite if there is none.
    pub(super) fn nearest_start(&self) -> f32 {
        self.starts.first().map_or(f32::INFINITY, |key| unpack(*key).0)
    }

    /// Of the entries nearest to the query, how many are accepted, and how many they are.
    pub(crate) fn accepted_near(&self, accept: impl Fn(u32) -> bool) -> (usize, usize) {
        let near = &self.starts[..self.starts.len().min(NEAR_ENTRIES)];
        (near.iter().filter(|key| accept(unpack(**key).1)).count(), near.len())
    }
}

/// How far a walk goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Accepted nodes to pass.
    pub(crate) beam: usize,
    /// Codes that it may compare. It ends as soon as it is likely to need more.
    pub(crate) budget: usize,
}

/// How a walk went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walked {
    /// Codes compared.
    pub(crate) compared: usize,
    /// Nodes passed.
    pub(crate) passed: usize,
    /// The accepted ones among them.
    pub(crate) accepted: usize,
    /// False if it was ended for its budget.
    pub(crate) complete: bool,
}

/// Nodes passed between two looks at the budget.
const LOOK: usize = 16;

impl Walked {
    /// True if at this rate the walk will compare more codes than it may.
    fn too_long(&self, limits: Limits) -> bool {
        // As if two more had been accepted: the first nodes passed only lead there.
        let ahead = limits.beam as f64 / (self.accepted as f64 + 2.0);
        self.compared as f64 * ahead.max(1.0) > limits.budget as f64
    }
}

impl Graph {
    /// Finds where to start, among all entries or, if that would be long, among the more likely
    /// ones. The first step of a walk. Gives the number of codes compared.
    pub(crate) fn start(
        &self,
        codes: Codes<'_>,
        scratch: &mut Scratch,
        guide: &impl Guide,
        all: bool,
    ) -> usize {
        let Scratch { starts, fresh, dots, accepted_starts, .. } = scratch;
        let entries = &self.entries;
        starts.clear();
        accepted_starts.clear();
        let mut compared = entries.len();
        if !all && entries.near_first(codes, guide, fresh, dots) {
            compared = dots.len() + fresh.len();
            dots.resize(fresh.len(), 0);
            codes.kernels.gather(guide.row(), &entries.rows, fresh, dots);
            let each = fresh.iter().map(|at| *at as usize).zip(&*dots);
            starts.extend(each.map(|(at, dot)| {
                pack(guide.distance(&entries.terms[at], *dot), entries.slots[at])
            }));
        } else {
            dots.resize(entries.len(), 0);
            codes.kernels.scan(guide.row(), &entries.rows, dots);
            let each = entries.slots.iter().zip(&entries.terms).zip(&*dots);
            starts
                .extend(each.map(|((slot, terms), dot)| pack(guide.distance(terms, *dot), *slot)));
        }
        if starts.len() > NEAR_ENTRIES {
            starts.select_nth_unstable(NEAR_ENTRIES - 1);
            starts.truncate(NEAR_ENTRIES);
        }
        starts.sort_unstable();
        compared
    }

    /// Finds where to start besides, under a filter: what passes it may lie far from all that is
    /// near the query. The second step of such a walk, after a start among all entries.
    pub(crate) fn start_accepted(
        &self,
        scratch: &mut Scratch,
        guide: &impl Guide,
        accept: impl Fn(u32) -> bool,
    ) {
        let entries = &self.entries;
        let each = entries.slots.iter().zip(&entries.terms).zip(&scratch.dots);
        let nearest = &mut scratch.accepted_starts;
        for ((slot, terms), dot) in each {
            let key = pack(guide.distance(terms, *dot), *slot);
            // Asking what is accepted costs more than comparing.
            let near = nearest.len() < STARTS || nearest.peek().is_some_and(|last| key < *last);
            if near && accept(*slot) {
                nearest.push(key);
                if nearest.len() > STARTS {
                    nearest.pop();
                }
            }
        }
    }

    /// Walks until as many accepted nodes as the limits say have been passed, the nearest ones.
    /// They are then found in `scratch`, to which [`Self::start`] was applied.
    pub(crate) fn walk(
        &self,
        codes: Codes<'_>,
        scratch: &mut Scratch,
        guide: &impl Guide,
        limits: Limits,
        accept: impl Fn(u32) -> bool,
        pace: &mut Pace<'_>,
    ) -> Result<Walked> {
        let Scratch { visited, frontier, nearest, fresh, dots, starts, accepted_starts } = scratch;
        visited.clear();
        frontier.clear();
        nearest.clear();
        let mut limit = u64::MAX;
        let beam = limits.beam;
        let mut walked = Walked { compared: 0, passed: 0, accepted: 0, complete: true };
        let mut offer = |key: u64, slot: u32, limit: &mut u64, frontier: &mut BinaryHeap<_>| {
            if key >= *limit {
                return;
            }
            frontier.push(Reverse(key));
            if accept(slot) {
                nearest.push(key);
                if nearest.len() > beam {
                    nearest.pop();
                }
                if nearest.len() >= beam {
                    *limit = nearest.peek().copied().unwrap_or(u64::MAX);
                }
            }
        };
        for key in starts.iter().take(STARTS).chain(&*accepted_starts) {
            let (_, slot) = unpack(*key);
            if visited.insert(slot) {
                offer(*key, slot, &mut limit, frontier);
            }
        }
        while let Some(Reverse(key)) = frontier.pop() {
            if key > limit {
                break;
            }
            let node = unpack(key).1;
            if limits.budget < usize::MAX {
                walked.accepted += usize::from(accept(node));
                if walked.passed % LOOK == LOOK - 1 && walked.too_long(limits) {
                    walked.complete = false;
                    break;
                }
            }
            walked.passed += 1;
            let links = self.links(node);
            fresh.clear();
            fresh.extend(links.iter().copied().filter(|to| visited.insert(*to)));
            codes.dots(guide.row(), fresh, dots);
            for (&slot, dot) in fresh.iter().zip(&*dots) {
                let mut terms = &codes.terms[slot as usize];
                if terms.absent() {
                    let Some(ghost) = self.ghosts.get(&slot) else { continue };
                    terms = ghost;
                }
                offer(pack(guide.distance(terms, *dot), slot), slot, &mut limit, frontier);
            }
            walked.compared += fresh.len();
            // A row far away costs about three times what one in sequence does.
            pace.read(3 * fresh.len() * guide.row().len() * BLOCK)?;
        }
        Ok(walked)
    }

    /// True if the node's vector may be an answer.
    #[inline]
    pub(crate) fn answers(&self, slot: u32) -> bool {
        self.dead.is_empty() || !self.dead.contains(slot)
    }
}

/// A distance, which is not NaN, and a slot, ordered by both as one number.
pub(super) fn pack(distance: f32, slot: u32) -> u64 {
    let bits = distance.to_bits();
    let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    u64::from(ordered) << 32 | u64::from(slot)
}

#[expect(clippy::cast_possible_truncation, reason = "the halves of a number")]
pub(super) fn unpack(key: u64) -> (f32, u32) {
    let ordered = (key >> 32) as u32;
    let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
    (f32::from_bits(bits), key as u32)
}

/// The slots that a walk has seen: a small table with open addressing, so that it stays in the
/// first-level cache whatever the size of the graph.
struct Visited {
    /// Slots, [`Self::FREE`] where free; the length is a power of two.
    table: Vec<u32>,
    seen: usize,
}

impl Default for Visited {
    fn default() -> Self {
        Self { table: vec![Self::FREE; 4_096], seen: 0 }
    }
}

impl Visited {
    /// No slot: 2³² vectors do not fit an index.
    const FREE: u32 = u32::MAX;

    fn clear(&mut self) {
        // A filtered walk can leave a table that would be long to clear.
        if self.table.len() > 65_536 {
            *self = Self::default();
        } else {
            self.table.fill(Self::FREE);
            self.seen = 0;
        }
    }

    /// True if it was not there.
    #[inline]
    fn insert(&mut self, slot: u32) -> bool {
        if self.seen * 2 >= self.table.len() {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut at = (slot.wrapping_mul(0x9e37_79b1) >> 7) as usize & mask;
        loop {
            match self.table[at] {
                Self::FREE => {
                    self.table[at] = slot;
                    self.seen += 1;
                    return true;
                }
                there if there == slot => return false,
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![Self::FREE; self.table.len() * 2];
        let smaller = std::mem::replace(&mut self.table, larger);
        self.seen = 0;
        for slot in smaller {
            if slot != Self::FREE {
                self.insert(slot);
            }
        }
    }
}
