//! A graph over the slots of an index, for searches that need not read every code.
//!
//! Flat Vamana (Subramanya et al., "DiskANN", NeurIPS 2019), built one vector at a time on the
//! int8 codes; removals after "FreshDiskANN" (Singh et al., 2021). What differs: a walk starts
//! from the best of a scanned sample instead of from one middle node, so no node matters alone.
//!
//! A slot is *linked* once it has a place in the graph. When its vector goes or changes, its node
//! is *dead*: still walked through, never an answer. A sweep over all nodes bridges the dead and
//! frees them; until then a new vector in the slot is not linked.
//!
//! Invariants: a link leads to a linked slot, dead or alive, and never to its own; every vector
//! is linked and alive, or *waiting* for its place, or *replaced* (its slot still has a dead
//! node), or *loose* (no code can stand for it). All choices follow from the seed and the
//! operations.

mod entries;
mod insert;
mod mend;
mod prune;
mod saved;
mod walk;

pub(crate) use saved::Saving;
pub(crate) use walk::{Limits, QueryGuide, Scratch, Walked};

use crate::{exact::Codes, kernels::Block, quantise::Terms};
use entries::Entries;
use roaring::RoaringBitmap;
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};
use tenantry_types::Metric;

/// Most links of a node: more would not fit a byte of a saved graph.
pub(crate) const DEGREE_MAX: usize = 120;

/// The count of a slot that is not linked.
const UNLINKED: u8 = u8::MAX;

/// Buffers kept for later walks; as many as may walk at once on a large machine.
const SPARE_MAX: usize = 16;

/// How a graph is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) degree: usize,
    pub(crate) build_beam: usize,
    pub(crate) seed: u64,
}

pub(crate) struct Graph {
    shape: Shape,
    /// Slots × degree; only the first `counts[slot]` of a row mean anything.
    links: Vec<u32>,
    /// Links of each slot, or [`UNLINKED`].
    counts: Vec<u8>,
    /// Slots with a node, the dead ones among them.
    nodes: usize,
    dead: RoaringBitmap,
    /// What the codes of removed vectors meant; their codes are still there.
    ghosts: BTreeMap<u32, Terms>,
    waiting: RoaringBitmap,
    replaced: RoaringBitmap,
    loose: RoaringBitmap,
    entries: Entries,
    sweep: Option<Sweep>,
    /// Changed links so many times: work on an older state is stale.
    version: u64,
    /// The largest squared length of any point so far, for inner products.
    longest: f32,
    spare: Mutex<Vec<Scratch>>,
}

/// A pass over all nodes that bridges those that were dead when it began.
struct Sweep {
    next: u32,
    dead: RoaringBitmap,
}

/// A piece of maintenance, computed but not yet applied.
pub(crate) struct Work {
    version: u64,
    piece: Piece,
}

enum Piece {
    Insert(insert::Insertion),
    Begin,
    Mend(mend::Mending),
}

/// Links that one node shall have.
struct Row {
    node: u32,
    links: Vec<u32>,
}

impl Graph {
    /// A graph without nodes, in which every vector waits. `version` must be above that of any
    /// earlier graph of the index.
    pub(crate) fn new(shape: Shape, version: u64, codes: Codes<'_>) -> Self {
        let slots = codes.terms.len();
        let mut graph = Self {
            shape,
            // Zeroed by the allocator, not by writing to it: the caller holds a lock.
            links: vec![0; slots * shape.degree],
            counts: vec![UNLINKED; slots],
            nodes: 0,
            dead: RoaringBitmap::new(),
            ghosts: BTreeMap::new(),
            waiting: RoaringBitmap::new(),
            replaced: RoaringBitmap::new(),
            loose: RoaringBitmap::new(),
            entries: Entries::default(),
            sweep: None,
            version,
            longest: 0.0,
            spare: Mutex::default(),
        };
        for (slot, terms) in (0..).zip(codes.terms) {
            if !terms.absent() {
                graph.queue(slot, codes);
            }
        }
        graph
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Bytes of memory held, but for the sets of slots that wait, which are counted about.
    pub(crate) fn bytes(&self) -> usize {
        let sets = [&self.dead, &self.waiting, &self.replaced, &self.loose];
        let set = |set: &RoaringBitmap| {
            let counted = set.statistics();
            counted.n_bytes_array_containers
                + counted.n_bytes_run_containers
                + counted.n_bytes_bitset_containers
        };
        let ghost = size_of::<(u32, Terms)>() * 3 / 2;
        size_of::<Self>()
            + self.links.capacity() * size_of::<u32>()
            + self.counts.capacity()
            + self.entries.bytes()
            + self.ghosts.len() * ghost
            + sets.into_iter().map(|one| usize::try_from(set(one)).unwrap_or(0)).sum::<usize>()
            + self.spare().iter().map(Scratch::bytes).sum::<usize>()
    }

    pub(crate) fn reserve(&mut self, slots: usize) {
        let more = slots.saturating_sub(self.counts.len());
        self.links.reserve_exact(more * self.shape.degree);
        self.counts.reserve_exact(more);
    }

    /// Vectors that can be found by walking.
    pub(crate) fn linked(&self) -> usize {
        self.nodes - self.deleted()
    }

    /// Vectors that cannot.
    pub(crate) fn pending(&self) -> usize {
        let count = self.waiting.len() + self.replaced.len() + self.loose.len();
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// Nodes whose vector is gone or replaced.
    pub(crate) fn deleted(&self) -> usize {
        usize::try_from(self.dead.len()).unwrap_or(usize::MAX)
    }

    /// The slots of the vectors that cannot be found by walking.
    pub(crate) fn pending_slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.waiting.iter().chain(&self.replaced).chain(&self.loose)
    }

    /// True if walks find all vectors but a bounded tail, which is scanned.
    pub(crate) fn ready(&self) -> bool {
        let linked = self.linked();
        linked > 0
            && self.pending() <= (linked / 20).max(1_000)
            && self.deleted() <= linked.max(1_000)
    }

    /// A vector was set: whatever stood for the slot does so no longer.
    pub(crate) fn put(&mut self, slot: u32, codes: Codes<'_>) {
        self.unqueue(slot);
        if self.is_linked(slot) {
            self.dead.insert(slot);
            self.ghosts.remove(&slot);
            self.replace_entry(slot, codes);
        }
        self.queue(slot, codes);
    }

    /// A vector was removed, of which `codes` no longer know the terms. True if the codes of the
    /// slot are still walked by.
    pub(crate) fn remove(&mut self, slot: u32, terms: Terms, codes: Codes<'_>) -> bool {
        self.unqueue(slot);
        let walkable = self.is_linked(slot) && self.dead.insert(slot);
        if walkable {
            self.ghosts.insert(slot, terms);
            self.replace_entry(slot, codes);
        }
        walkable
    }

    /// Codes that a walk, through a filter or without one, compares first, beyond those that it
    /// compares in a small graph too.
    pub(crate) fn first(&self, filtered: bool) -> usize {
        let first = if filtered { self.entries.len() } else { self.entries.looked() };
        first.saturating_sub(entries::ENTRIES_MIN)
    }

    /// Nodes that a walk through a filter looks at before its first step.
    pub(crate) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// True if the slot's node stands for its vector.
    pub(crate) fn is_alive(&self, slot: u32) -> bool {
        self.is_linked(slot) && !self.dead.contains(slot)
    }

    /// How much farther than under another metric walks must look. Inner products prefer long
    /// vectors to near ones, so it depends on how different the lengths are.
    pub(crate) fn spread(&self, metric: Metric) -> f64 {
        if metric != Metric::InnerProduct || self.longest <= 0.0 {
            return 1.0;
        }
        let lengths: f32 = self.entries.terms.iter().map(|terms| terms.point(metric).1).sum();
        let mean = lengths / self.entries.len().max(1) as f32;
        1.0 + 4.0 * f64::from((1.0 - mean / self.longest).clamp(0.0, 1.0))
    }

    /// The next piece of maintenance; `None` if nothing is left but a few dead nodes, too few to
    /// be worth a sweep over all.
    pub(crate) fn work(&self, codes: Codes<'_>) -> Option<Work> {
        let piece = if let Some(sweep) = &self.sweep {
            Piece::Mend(self.mending(sweep, codes))
        } else if self.nodes > 0 && self.deleted() > self.nodes / 16 {
            Piece::Begin
        } else if let Some(slot) = self.next_waiting() {
            Piece::Insert(self.insertion(slot, codes))
        } else if self.deleted() > self.nodes / 4_096 {
            Piece::Begin
        } else {
            return None;
        };
        Some(Work { version: self.version, piece })
    }

    /// True if [`Self::work`] has nothing to do, as far as can be told without computing it.
    pub(crate) fn is_settled(&self) -> bool {
        self.sweep.is_none() && self.waiting.is_empty() && self.deleted() <= self.nodes / 4_096
    }

    /// Takes over what was computed, unless it is stale. Gives the slots whose codes are walked
    /// by no longer.
    pub(crate) fn apply(&mut self, work: Work, codes: Codes<'_>) -> Vec<u32> {
        if work.version != self.version {
            return Vec::new();
        }
        match work.piece {
            Piece::Insert(insertion) => {
                self.insert(insertion, codes);
                Vec::new()
            }
            Piece::Begin => {
                self.version += 1;
                self.sweep = Some(Sweep { next: 0, dead: self.dead.clone() });
                Vec::new()
            }
            Piece::Mend(mending) => self.mend(mending, codes),
        }
    }

    /// The slots whose codes are kept for walks though they hold no vector.
    pub(crate) fn ghosts(&self) -> impl Iterator<Item = u32> + '_ {
        self.ghosts.keys().copied()
    }

    /// The same graph over moved slots: `place` gives the new slot, or none if the vector is not
    /// taken along; `codes` are those of the new slots. Dead nodes are not bridged but left out.
    pub(crate) fn moved(&self, place: impl Fn(u32) -> Option<u32>, codes: Codes<'_>) -> Self {
        let mut moved = Self::new(self.shape, self.version + 1, codes);
        let place = |slot: u32| place(slot).filter(|_| self.is_alive(slot));
        for (slot, _) in (0..).zip(&self.counts) {
            let Some(node) = place(slot).filter(|node| moved.waiting.contains(*node)) else {
                continue;
            };
            let links = self.links(slot).iter().filter_map(|to| place(*to));
            let links: Vec<u32> = links.filter(|to| *to != node).collect();
            moved.attach(node);
            moved.store(node, &links);
        }
        // A link was kept if its target has a place; it counts only if the target holds a vector.
        moved.drop_dangling();
        moved.entries.reach = self.entries.reach;
        for slot in self.entries.slots.iter().filter_map(|slot| place(*slot)) {
            if moved.is_alive(slot) {
                moved.entries.push(slot, codes);
            }
        }
        moved.refill(codes);
        moved
    }

    /// Removes links to slots without a node.
    fn drop_dangling(&mut self) {
        for slot in (0..).take(self.counts.len()) {
            let links = self.links(slot);
            if links.iter().any(|to| !self.is_linked(*to)) {
                let links: Vec<u32> =
                    links.iter().copied().filter(|to| self.is_linked(*to)).collect();
                self.store(slot, &links);
            }
        }
    }

    /// Puts a vector that is not linked into the set it belongs to.
    fn queue(&mut self, slot: u32, codes: Codes<'_>) {
        let terms = codes.terms[slot as usize];
        let (step, length) = terms.point(codes.metric);
        if terms.unknown() || (codes.metric == Metric::Cosine && step == 0.0) {
            self.loose.insert(slot);
        } else if self.is_linked(slot) {
            self.replaced.insert(slot);
        } else {
            self.waiting.insert(slot);
        }
        self.longest = self.longest.max(length);
    }

    fn unqueue(&mut self, slot: u32) {
        self.waiting.remove(slot);
        self.replaced.remove(slot);
        self.loose.remove(slot);
    }

    /// One of the waiting, in no order that data could have: a graph built in the order of its
    /// clusters would be worse.
    fn next_waiting(&self) -> Option<u32> {
        let waiting = u32::try_from(self.waiting.len()).ok().filter(|waiting| *waiting > 0)?;
        self.waiting.select(draw(self.shape.seed, self.version, waiting))
    }

    fn is_linked(&self, slot: u32) -> bool {
        self.counts.get(slot as usize).is_some_and(|count| *count != UNLINKED)
    }

    #[inline]
    fn links(&self, slot: u32) -> &[u32] {
        match self.counts.get(slot as usize) {
            Some(&count) if count != UNLINKED => {
                &self.links[slot as usize * self.shape.degree..][..usize::from(count)]
            }
            _ => &[],
        }
    }

    /// Makes a waiting slot a node without links.
    fn attach(&mut self, slot: u32) {
        let slots = slot as usize + 1;
        if slots > self.counts.len() {
            self.grow(slots);
        }
        self.waiting.remove(slot);
        self.counts[slot as usize] = 0;
        self.nodes += 1;
    }

    /// Makes room for some slots more than asked for: memory is taken in large steps, which the
    /// allocator does without copying, and written in small ones, since the caller holds a lock.
    #[cold]
    fn grow(&mut self, slots: usize) {
        let written = slots.max(self.counts.len() + 1_024);
        if written > self.counts.capacity() {
            self.reserve(written + written / 8);
        }
        self.links.resize(written * self.shape.degree, 0);
        self.counts.resize(written, UNLINKED);
    }

    /// Writes a node's links, as many as fit.
    fn store(&mut self, slot: u32, links: &[u32]) {
        let links = &links[..links.len().min(self.shape.degree)];
        let start = slot as usize * self.shape.degree;
        self.links[start..start + links.len()].copy_from_slice(links);
        #[expect(clippy::cast_possible_truncation, reason = "the degree fits a byte")]
        {
            self.counts[slot as usize] = links.len() as u8;
        }
    }

    /// An entry that died leaves its place to a living neighbour.
    fn replace_entry(&mut self, slot: u32, codes: Codes<'_>) {
        if !self.entries.remove(slot, codes) {
            return;
        }
        let mut near = self.links(slot).iter().copied();
        let heir = near.find(|to| self.is_alive(*to) && !self.entries.contains(*to));
        if let Some(heir) = heir {
            self.entries.push(heir, codes);
        }
        self.refill(codes);
    }

    /// Makes any nodes entries if there are far too few.
    fn refill(&mut self, codes: Codes<'_>) {
        let wanted = self.linked().min(entries::most(self.nodes) / 8);
        if self.entries.len() >= wanted.div_ceil(2) {
            return;
        }
        let Ok(slots) = u32::try_from(self.counts.len()) else { return };
        let drawn = |attempt| draw(self.shape.seed ^ self.version, attempt, slots);
        // If few are alive among many, take them as they come.
        let attempts: Vec<u32> = (0..4 * wanted as u64).map(drawn).collect();
        for slot in attempts.into_iter().chain(0..slots) {
            if self.entries.len() >= wanted {
                return;
            }
            if self.is_alive(slot) && !self.entries.contains(slot) {
                self.entries.push(slot, codes);
            }
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Buffers for a walk, to be given back.
    pub(crate) fn borrow(&self) -> Scratch {
        self.spare().pop().unwrap_or_default()
    }

    pub(crate) fn give_back(&self, scratch: Scratch) {
        let mut spare = self.spare();
        if spare.len() < SPARE_MAX {
            spare.push(scratch);
        }
    }
}

/// The codes of a slot by which a work was computed.
struct Basis {
    slot: u32,
    row: Vec<Block>,
    terms: Terms,
}

/// A number below `below`, which is positive, from two others (SplitMix64).
fn draw(seed: u64, number: u64, below: u32) -> u32 {
    let mixed = mix(seed ^ mix(number));
    (((mixed >> 32) * u64::from(below)) >> 32) as u32
}

fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
