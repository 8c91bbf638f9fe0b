//! Exact nearest neighbours: int8 codes rule most vectors out, the originals decide.

mod originals;
mod search;

pub use originals::Storage;
pub(crate) use search::{Nearest, Pace, ReadVector};

use crate::{
    distance::Size,
    kernels::{Block, Kernels},
    quantise::{self, Terms},
};
use originals::Originals;
use roaring::RoaringBitmap;
use std::fmt;
use tenantry_types::Metric;

/// One neighbour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// The slot.
    pub slot: u32,
    /// The exact distance by the metric. Never NaN; infinite if it passes the range of `f32`.
    pub distance: f32,
}

/// Which slots take part.
#[derive(Debug, Clone, Copy)]
pub enum Allow<'a> {
    /// Every slot that has a vector.
    All,
    /// These slots, ascending, each once; those without a vector are passed over.
    Slots(&'a [u32]),
    /// These slots; those without a vector are passed over.
    Bitmap(&'a RoaringBitmap),
}

/// The vectors of one collection, and a search among them that is exact.
///
/// A vector lives in a *slot*, a dense number that the caller assigns; a slot may be empty. Memory
/// is proportional to the highest slot used, at about 5 bytes per component if the vectors are
/// kept as they came (see [`Storage`]).
///
/// Every search returns exactly what a comparison with every single vector would, to the last
/// bit: the codes only rule out vectors that provably cannot be among the nearest. Data whose
/// codes say little (a few components that dwarf all others, a common offset) costs time, never
/// neighbours.
pub struct ExactIndex {
    metric: Metric,
    dimension: usize,
    kernels: &'static Kernels,
    /// Slots that hold a vector.
    held: usize,
    originals: Originals,
    /// Slots × blocks of a row.
    codes: Vec<Block>,
    /// One per slot; [`Terms::ABSENT`] marks the empty ones.
    terms: Vec<Terms>,
    /// One per slot.
    sizes: Vec<Size>,
}

impl ExactIndex {
    /// An index without vectors, for vectors of `dimension` components.
    pub fn new(metric: Metric, dimension: usize) -> Self {
        Self::with_storage(metric, dimension, Storage::Full)
    }

    /// An index without vectors that keeps them this precisely.
    pub fn with_storage(metric: Metric, dimension: usize, storage: Storage) -> Self {
        Self::with_kernels(metric, dimension, storage, Kernels::best())
    }

    fn with_kernels(
        metric: Metric,
        dimension: usize,
        storage: Storage,
        kernels: &'static Kernels,
    ) -> Self {
        Self {
            metric,
            dimension,
            kernels,
            held: 0,
            originals: Originals::new(storage, dimension),
            codes: Vec::new(),
            terms: Vec::new(),
            sizes: Vec::new(),
        }
    }

    /// Components of each vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Vectors held.
    pub fn len(&self) -> usize {
        self.held
    }

    /// True if no vector is held.
    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Bytes of memory held, used or spare.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.originals.bytes()
            + self.codes.capacity() * size_of::<Block>()
            + self.terms.capacity() * size_of::<Terms>()
            + self.sizes.capacity() * size_of::<Size>()
    }

    /// Makes room for the slots `0..slots`, and for no more.
    pub fn reserve(&mut self, slots: usize) {
        let more = slots.saturating_sub(self.terms.len());
        self.originals.reserve(more);
        self.codes.reserve_exact(more * quantise::blocks(self.dimension));
        self.terms.reserve_exact(more);
        self.sizes.reserve_exact(more);
    }

    /// Sets or replaces the vector of a slot.
    ///
    /// The components should be finite: a distance that is not a number counts as infinite. A
    /// vector of another dimension is a mistake of the caller and is not stored.
    pub fn set(&mut self, slot: u32, vector: &[f32]) {
        debug_assert_eq!(vector.len(), self.dimension, "the caller checks the dimension");
        if vector.len() != self.dimension {
            return;
        }
        let index = slot as usize;
        if index >= self.terms.len() {
            self.grow(index + 1);
        }
        let row = self.row(index);
        let (terms, size) = self.originals.set(self.metric, slot, vector, &mut self.codes[row]);
        self.held += usize::from(self.terms[index].absent());
        self.terms[index] = terms;
        self.sizes[index] = size;
    }

    /// Empties a slot. Its memory is overwritten with zeros, and kept for the next vector.
    pub fn clear(&mut self, slot: u32) {
        if self.retire(slot).is_some() {
            self.wipe(slot);
        }
    }

    /// True if the slot holds a vector.
    pub fn contains(&self, slot: u32) -> bool {
        self.terms.get(slot as usize).is_some_and(|terms| !terms.absent())
    }

    /// The vector of a slot, as it was set; `None` if the slot is empty or vectors are not kept
    /// as they came.
    pub fn get(&self, slot: u32) -> Option<&[f32]> {
        (self.originals.storage == Storage::Full && self.contains(slot))
            .then(|| self.originals.full(slot))
    }

    /// How precisely vectors are kept.
    pub fn storage(&self) -> Storage {
        self.originals.storage
    }

    /// Empties a slot but for its codes, which mean nothing without the terms given back.
    pub(crate) fn retire(&mut self, slot: u32) -> Option<Terms> {
        let terms = *self.terms.get(slot as usize).filter(|terms| !terms.absent())?;
        self.originals.clear(slot);
        self.terms[slot as usize] = Terms::ABSENT;
        self.held -= 1;
        Some(terms)
    }

    /// Overwrites the codes of an empty slot.
    pub(crate) fn wipe(&mut self, slot: u32) {
        if (slot as usize) < self.terms.len() && !self.contains(slot) {
            let row = self.row(slot as usize);
            self.codes[row].fill(Block::ZERO);
        }
    }

    /// An index of codes whose originals are elsewhere: it can only be searched, with those.
    pub(crate) fn of_codes(
        metric: Metric,
        dimension: usize,
        codes: Vec<Block>,
        terms: Vec<Terms>,
    ) -> Self {
        let held = terms.iter().filter(|terms| !terms.absent()).count();
        Self { held, codes, terms, ..Self::new(metric, dimension) }
    }

    /// The codes of all slots.
    pub(crate) fn codes(&self) -> Codes<'_> {
        Codes {
            metric: self.metric,
            kernels: self.kernels,
            width: quantise::blocks(self.dimension),
            rows: &self.codes,
            terms: &self.terms,
        }
    }

    /// The same vectors in other slots: those for which `place` gives one, which must differ.
    pub(crate) fn moved(&self, place: impl Fn(u32) -> Option<u32>) -> Self {
        let mut moved =
            Self::with_kernels(self.metric, self.dimension, self.originals.storage, self.kernels);
        let held = (0..).zip(&self.terms).filter(|(_, terms)| !terms.absent());
        let places: Vec<(u32, u32)> =
            held.filter_map(|(slot, _)| Some((slot, place(slot)?))).collect();
        let slots = places.iter().map(|(_, to)| *to as usize + 1).max().unwrap_or(0);
        moved.reserve(slots);
        moved.grow(slots);
        for (slot, to) in places {
            let (index, target) = (slot as usize, to as usize);
            moved.originals.copy(to, &self.originals, slot);
            let row = moved.row(target);
            moved.codes[row].copy_from_slice(&self.codes[self.row(index)]);
            moved.held += usize::from(moved.terms[target].absent());
            moved.terms[target] = self.terms[index];
            moved.sizes[target] = self.sizes[index];
        }
        moved
    }

    fn grow(&mut self, slots: usize) {
        self.originals.grow(slots);
        self.codes.resize(slots * quantise::blocks(self.dimension), Block::ZERO);
        self.terms.resize(slots, Terms::ABSENT);
        self.sizes.resize(slots, Size::Zero);
    }

    /// Where a slot's codes lie.
    fn row(&self, slot: usize) -> std::ops::Range<usize> {
        let width = quantise::blocks(self.dimension);
        slot * width..(slot + 1) * width
    }
}

/// The codes of an index's vectors, by slot.
#[derive(Clone, Copy)]
pub(crate) struct Codes<'a> {
    pub(crate) metric: Metric,
    pub(crate) kernels: &'static Kernels,
    width: usize,
    pub(crate) rows: &'a [Block],
    pub(crate) terms: &'a [Terms],
}

impl<'a> Codes<'a> {
    /// The codes of one slot.
    #[inline]
    pub(crate) fn row(&self, slot: u32) -> &'a [Block] {
        &self.rows[slot as usize * self.width..][..self.width]
    }

    /// The dot products of `row` with the codes of these slots.
    #[inline]
    pub(crate) fn dots(&self, row: &[Block], slots: &[u32], dots: &mut Vec<i32>) {
        dots.resize(slots.len(), 0);
        self.kernels.gather(row, self.rows, slots, dots);
    }
}

/// Shows sizes only: vectors are tenants' data and belong in no log.
impl fmt::Debug for ExactIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExactIndex")
            .field("metric", &self.metric)
            .field("dimension", &self.dimension)
            .field("vectors", &self.held)
            .field("slots", &self.terms.len())
            .field("kernels", &self.kernels.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sines of growing frequency: cheap, reproducible and without symmetry.
    fn vector(seed: u16) -> Vec<f32> {
        (0..100_u16).map(|i| (f32::from(seed) * 0.37 + f32::from(i * seed) * 0.011).sin()).collect()
    }

    #[test]
    fn every_instruction_set_finds_the_same_neighbours() {
        for metric in [Metric::L2, Metric::Cosine, Metric::InnerProduct] {
            let search = |kernels: &'static Kernels| {
                let mut index = ExactIndex::with_kernels(metric, 100, Storage::Full, kernels);
                (0..600).for_each(|seed| index.set(u32::from(seed), &vector(seed)));
                let slots: Vec<u32> = (0..600).step_by(2).collect();
                [Allow::All, Allow::Slots(&slots)].map(|allow| {
                    let found = index.search(&vector(601), 9, allow);
                    assert_eq!(found, index.search_originals(&vector(601), 9, allow));
                    found
                })
            };
            let reference = search(Kernels::available().last().expect("the scalar variant"));
            for kernels in Kernels::available() {
                for (found, reference) in search(kernels).iter().zip(&reference) {
                    assert_eq!(found.len(), 9);
                    for (a, b) in found.iter().zip(reference) {
                        assert_eq!(a.slot, b.slot, "{} {metric:?}", kernels.name);
                        let error = (a.distance - b.distance).abs();
                        assert!(error <= 1e-4, "{} {metric:?}: {error}", kernels.name);
                    }
                }
            }
        }
    }
}
