//! Exact nearest neighbours: int8 codes rule most vectors out, the originals decide.

use crate::{
    distance::{Query, Size},
    kernels::{Block, Kernels},
    quantise::{self, QueryCodes, Terms},
    select::{Ranked, Smallest},
};
use std::fmt;
use tenantry_types::Metric;

/// Vectors whose bounds are computed at once: enough to make the call to the kernel cheap, few
/// enough that the dot products stay in the first-level cache.
const BATCH: usize = 256;

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
}

/// The vectors of one collection, and a search among them that is exact.
///
/// A vector lives in a *slot*, a dense number that the caller assigns; a slot may be empty. Memory
/// is proportional to the highest slot used, at about 5 bytes per component.
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
    /// Slots × dimension.
    vectors: Vec<f32>,
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
        Self::with_kernels(metric, dimension, Kernels::best())
    }

    pub(crate) fn with_kernels(
        metric: Metric,
        dimension: usize,
        kernels: &'static Kernels,
    ) -> Self {
        Self {
            metric,
            dimension,
            kernels,
            held: 0,
            vectors: Vec::new(),
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
            + self.vectors.capacity() * size_of::<f32>()
            + self.codes.capacity() * size_of::<Block>()
            + self.terms.capacity() * size_of::<Terms>()
            + self.sizes.capacity() * size_of::<Size>()
    }

    /// Makes room for the slots `0..slots`, and for no more.
    pub fn reserve(&mut self, slots: usize) {
        let more = slots.saturating_sub(self.terms.len());
        self.vectors.reserve_exact(more * self.dimension);
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
        let slot = slot as usize;
        if slot >= self.terms.len() {
            self.grow(slot + 1);
        }
        let size = Size::of(vector);
        let row = self.row(slot);
        let terms = Terms::encode(self.metric, vector, size, &mut self.codes[row]);
        self.held += usize::from(self.terms[slot].absent());
        self.terms[slot] = terms;
        self.sizes[slot] = size;
        let place = self.place(slot);
        self.vectors[place].copy_from_slice(vector);
    }

    /// Empties a slot. Its memory is overwritten with zeros, and kept for the next vector.
    pub fn clear(&mut self, slot: u32) {
        if self.get(slot).is_none() {
            return;
        }
        let slot = slot as usize;
        let (place, row) = (self.place(slot), self.row(slot));
        self.vectors[place].fill(0.0);
        self.codes[row].fill(Block::ZERO);
        self.terms[slot] = Terms::ABSENT;
        self.held -= 1;
    }

    /// The vector of a slot, as it was set.
    pub fn get(&self, slot: u32) -> Option<&[f32]> {
        let terms = self.terms.get(slot as usize)?;
        (!terms.absent()).then(|| &self.vectors[self.place(slot as usize)])
    }

    /// The `k` vectors nearest to `query`, ordered by distance, then slot; all that may take part
    /// if there are fewer.
    ///
    /// A query of another dimension is a mistake of the caller and finds nothing.
    pub fn search(&self, query: &[f32], k: usize, allow: Allow<'_>) -> Vec<Neighbour> {
        let Some((query, k)) = self.checked(query, k, allow) else { return Vec::new() };
        // The most promising vectors, to learn early how near the nearest are. Keeping them is
        // worth its cost only if they are few among many.
        let first = (2 * k).max(k + 32);
        let codes = (self.candidates(allow) >= 4 * first)
            .then(|| QueryCodes::encode(self.metric, query.vector, query.size))
            .flatten();
        neighbours(match codes {
            Some(codes) => self.compare_promising(&query, &codes, k, first, allow),
            None => self.compare_all(&query, k, allow),
        })
    }

    /// The same as [`Self::search`], found without the codes: the reference for tests and
    /// measurements.
    pub fn search_originals(&self, query: &[f32], k: usize, allow: Allow<'_>) -> Vec<Neighbour> {
        let Some((query, k)) = self.checked(query, k, allow) else { return Vec::new() };
        neighbours(self.compare_all(&query, k, allow))
    }

    /// The query, and how many neighbours it can have; `None` if none.
    fn checked<'a>(
        &self,
        vector: &'a [f32],
        k: usize,
        allow: Allow<'_>,
    ) -> Option<(Query<'a>, usize)> {
        debug_assert_eq!(vector.len(), self.dimension, "the caller checks the dimension");
        let k = k.min(self.candidates(allow));
        if k == 0 || vector.len() != self.dimension {
            return None;
        }
        let size = Size::of(vector);
        Some((Query { metric: self.metric, kernels: self.kernels, vector, size }, k))
    }

    /// The most vectors that can take part.
    fn candidates(&self, allow: Allow<'_>) -> usize {
        match allow {
            Allow::All => self.held,
            Allow::Slots(slots) => slots.len().min(self.held),
        }
    }

    /// The distance from every allowed vector.
    fn compare_all(&self, query: &Query<'_>, k: usize, allow: Allow<'_>) -> Smallest {
        let mut nearest = Smallest::new(k);
        let mut compare = |slot: u32| {
            if self.get(slot).is_some() {
                self.compare(query, slot, &mut nearest);
            }
        };
        match allow {
            Allow::All => (0..).take(self.terms.len()).for_each(&mut compare),
            Allow::Slots(slots) => slots.iter().copied().for_each(&mut compare),
        }
        nearest
    }

    /// The distances from those vectors whose lower bound leaves a chance: first the `first` most
    /// promising ones, then whatever their distances do not rule out.
    fn compare_promising(
        &self,
        query: &Query<'_>,
        codes: &QueryCodes,
        k: usize,
        first: usize,
        allow: Allow<'_>,
    ) -> Smallest {
        let mut promising = Smallest::new(first);
        let bounds = self.bounds(codes, allow, &mut promising);
        let slot = |position: u32| match allow {
            Allow::All => position,
            Allow::Slots(slots) => slots[position as usize],
        };
        let mut nearest = Smallest::new(k);
        let all_promising = !promising.full();
        let promising = promising.into_sorted();
        for one in &promising {
            if one.value > nearest.limit() {
                return nearest;
            }
            self.compare(query, slot(one.item), &mut nearest);
        }
        let Some(last) = promising.last() else { return nearest };
        if all_promising || last.value > nearest.limit() {
            return nearest;
        }
        for (value, item) in bounds.into_iter().zip(0..) {
            let bound = Ranked { value, item };
            if value <= nearest.limit() && value < f32::INFINITY && bound > *last {
                self.compare(query, slot(item), &mut nearest);
            }
        }
        nearest
    }

    /// The lower bound of each allowed slot's distance, +∞ for the empty ones; and the smallest.
    fn bounds(&self, codes: &QueryCodes, allow: Allow<'_>, smallest: &mut Smallest) -> Vec<f32> {
        let width = codes.row.len();
        let mut dots = [0; BATCH];
        let mut collect = |bounds: &mut Vec<f32>, bound: f32| {
            if bound <= smallest.limit() && bound < f32::INFINITY {
                #[expect(clippy::cast_possible_truncation, reason = "slots are 32-bit numbers")]
                smallest.offer(Ranked { value: bound, item: bounds.len() as u32 });
            }
            bounds.push(bound);
        };
        match allow {
            Allow::All => {
                let mut bounds = Vec::with_capacity(self.terms.len());
                let batches = self.codes.chunks(BATCH * width).zip(self.terms.chunks(BATCH));
                for (rows, terms) in batches {
                    let dots = &mut dots[..terms.len()];
                    self.kernels.scan(&codes.row, rows, dots);
                    for (terms, dot) in terms.iter().zip(dots) {
                        collect(&mut bounds, codes.bound(terms, *dot));
                    }
                }
                bounds
            }
            Allow::Slots(slots) => {
                let mut bounds = Vec::with_capacity(slots.len());
                for &slot in slots {
                    let slot = slot as usize;
                    let terms = self.terms.get(slot).filter(|terms| !terms.absent());
                    let bound = terms.map_or(f32::INFINITY, |terms| {
                        self.kernels.scan(&codes.row, &self.codes[self.row(slot)], &mut dots[..1]);
                        codes.bound(terms, dots[0])
                    });
                    collect(&mut bounds, bound);
                }
                bounds
            }
        }
    }

    /// Offers a vector that is there.
    #[inline]
    fn compare(&self, query: &Query<'_>, slot: u32, nearest: &mut Smallest) {
        let index = slot as usize;
        let distance = query.distance(&self.vectors[self.place(index)], self.sizes[index]);
        if distance <= nearest.limit() {
            nearest.offer(Ranked { value: distance, item: slot });
        }
    }

    fn grow(&mut self, slots: usize) {
        self.vectors.resize(slots * self.dimension, 0.0);
        self.codes.resize(slots * quantise::blocks(self.dimension), Block::ZERO);
        self.terms.resize(slots, Terms::ABSENT);
        self.sizes.resize(slots, Size::Zero);
    }

    /// Where a slot's vector lies.
    fn place(&self, slot: usize) -> std::ops::Range<usize> {
        slot * self.dimension..(slot + 1) * self.dimension
    }

    /// Where a slot's codes lie.
    fn row(&self, slot: usize) -> std::ops::Range<usize> {
        let width = quantise::blocks(self.dimension);
        slot * width..(slot + 1) * width
    }
}

fn neighbours(nearest: Smallest) -> Vec<Neighbour> {
    let neighbour = |Ranked { value, item }| Neighbour { slot: item, distance: value };
    nearest.into_sorted().into_iter().map(neighbour).collect()
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
                let mut index = ExactIndex::with_kernels(metric, 100, kernels);
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
