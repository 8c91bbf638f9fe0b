//! The exact search.

use super::{Allow, ExactIndex, Neighbour};
use crate::{
    distance::{Query, Size},
    kernels::{BLOCK, Block},
    quantise::{QueryCodes, Terms},
    select::{Ranked, Smallest},
};
use tenantry_types::{Error, Result};

/// Vectors whose bounds are computed at once: enough to make the call to the kernel cheap, few
/// enough that the dot products stay in the first-level cache.
const BATCH: usize = 256;

/// Bytes read between two looks at the clock: about a tenth of a millisecond.
const PACE_BYTES: usize = 1 << 20;

/// What a search found, and what it read for it.
pub(crate) struct Answer {
    pub(crate) neighbours: Vec<Neighbour>,
    pub(crate) compared_codes: u64,
    pub(crate) compared_originals: u64,
}

/// Calls the caller's pace whenever enough bytes were read.
pub(crate) struct Pace<'a> {
    left: usize,
    call: &'a mut dyn FnMut() -> Result<()>,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(call: &'a mut dyn FnMut() -> Result<()>) -> Self {
        Self { left: PACE_BYTES, call }
    }

    /// Counts bytes read.
    #[inline]
    pub(crate) fn read(&mut self, bytes: usize) -> Result<()> {
        if let Some(left) = self.left.checked_sub(bytes) {
            self.left = left;
            return Ok(());
        }
        self.left = PACE_BYTES;
        (self.call)()
    }
}

/// Reads the vector of a slot from where the caller keeps it, into a buffer.
pub(crate) type ReadVector<'a> = dyn Fn(u32, &mut Vec<f32>) -> Result<()> + 'a;

/// The nearest originals so far, among those compared.
pub(crate) struct Nearest<'a> {
    index: &'a ExactIndex,
    /// Where the originals are, if not in the index.
    elsewhere: Option<&'a ReadVector<'a>>,
    query: Query<'a>,
    smallest: Smallest,
    buffer: Vec<f32>,
    pub(crate) compared: u64,
}

impl<'a> Nearest<'a> {
    /// Of `k`, at least 1, which bounds the memory used.
    pub(crate) fn new(index: &'a ExactIndex, vector: &'a [f32], k: usize) -> Self {
        let size = Size::of(vector);
        let query = Query { metric: index.metric, kernels: index.kernels, vector, size };
        let smallest = Smallest::new(k);
        Self { index, elsewhere: None, query, smallest, buffer: Vec::new(), compared: 0 }
    }

    /// The same, with originals that are not in the index.
    pub(crate) fn with_originals(self, elsewhere: Option<&'a ReadVector<'a>>) -> Self {
        Self { elsewhere, ..self }
    }

    /// Begins anew.
    pub(crate) fn forget(&mut self) {
        self.smallest = Smallest::new(self.smallest.k());
    }

    /// A vector farther than this is not among them.
    #[inline]
    pub(crate) fn limit(&self) -> f32 {
        self.smallest.limit()
    }

    /// The query's codes, if it has any.
    pub(crate) fn codes(&self) -> Option<QueryCodes> {
        QueryCodes::encode(self.query.metric, self.query.vector, self.query.size)
    }

    /// Compares a vector that is there.
    #[inline]
    pub(crate) fn compare(&mut self, slot: u32, pace: &mut Pace<'_>) -> Result<()> {
        let index = slot as usize;
        let (vector, size) = if let Some(read) = self.elsewhere {
            read(slot, &mut self.buffer)?;
            if self.buffer.len() != self.index.dimension {
                return Err(Error::corrupt("a vector has another dimension than its index"));
            }
            (self.buffer.as_slice(), Size::of(&self.buffer))
        } else {
            let row = &self.index.codes[self.index.row(index)];
            let vector = self.index.originals.read(slot, row, &mut self.buffer);
            (vector, self.index.sizes[index])
        };
        let distance = self.query.distance(vector, size);
        if distance <= self.smallest.limit() {
            self.smallest.offer(Ranked { value: distance, item: slot });
        }
        self.compared += 1;
        pace.read(size_of_val(vector))
    }

    /// Compares one that is there, unless its bound rules it out.
    pub(crate) fn consider(&mut self, bound: f32, slot: u32, pace: &mut Pace<'_>) -> Result<()> {
        if bound <= self.limit() { self.compare(slot, pace) } else { Ok(()) }
    }

    /// Their slots and distances, the nearest first.
    pub(crate) fn into_neighbours(self) -> Vec<Neighbour> {
        let neighbour = |Ranked { value, item }| Neighbour { slot: item, distance: value };
        self.smallest.into_sorted().into_iter().map(neighbour).collect()
    }
}

impl ExactIndex {
    /// The `k` vectors nearest to `query`, ordered by distance, then slot; all that may take part
    /// if there are fewer.
    ///
    /// A query of another dimension is a mistake of the caller and finds nothing.
    pub fn search(&self, query: &[f32], k: usize, allow: Allow<'_>) -> Vec<Neighbour> {
        self.search_paced(query, k, allow, None, &mut || Ok(()))
            .map_or_else(|_| Vec::new(), |answer| answer.neighbours)
    }

    /// The same; `pace` is called about every tenth of a millisecond, and its error ends the
    /// search. Originals are read from `elsewhere` if they are not in the index.
    pub(crate) fn search_paced(
        &self,
        query: &[f32],
        k: usize,
        allow: Allow<'_>,
        elsewhere: Option<&ReadVector<'_>>,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Answer> {
        let mut pace = Pace::new(pace);
        let listed;
        let allow = match allow {
            Allow::Bitmap(slots) => {
                listed = slots.iter().collect::<Vec<u32>>();
                Allow::Slots(&listed)
            }
            Allow::All | Allow::Slots(_) => allow,
        };
        let Some((nearest, k)) = self.checked(query, k, allow) else {
            return Ok(Answer { neighbours: Vec::new(), compared_codes: 0, compared_originals: 0 });
        };
        let mut nearest = nearest.with_originals(elsewhere);
        // The most promising vectors, to learn early how near the nearest are. Keeping them is
        // worth its cost only if they are few among many.
        let first = k.saturating_mul(2).max(k.saturating_add(32));
        let codes =
            (self.candidates(allow) >= first.saturating_mul(4)).then(|| nearest.codes()).flatten();
        let compared_codes = match codes {
            Some(codes) => self.compare_promising(&mut nearest, &codes, first, allow, &mut pace)?,
            None => {
                self.compare_all(&mut nearest, allow, &mut pace)?;
                0
            }
        };
        let compared_originals = nearest.compared;
        Ok(Answer { neighbours: nearest.into_neighbours(), compared_codes, compared_originals })
    }

    /// The same as [`Self::search`], found without the codes: the reference for tests and
    /// measurements.
    pub fn search_originals(&self, query: &[f32], k: usize, allow: Allow<'_>) -> Vec<Neighbour> {
        let Some((mut nearest, _)) = self.checked(query, k, allow) else { return Vec::new() };
        let mut always = || Ok(());
        match self.compare_all(&mut nearest, allow, &mut Pace::new(&mut always)) {
            Ok(()) => nearest.into_neighbours(),
            Err(_) => Vec::new(),
        }
    }

    /// The query, and how many neighbours it can have; `None` if none.
    fn checked<'a>(
        &'a self,
        vector: &'a [f32],
        k: usize,
        allow: Allow<'_>,
    ) -> Option<(Nearest<'a>, usize)> {
        debug_assert_eq!(vector.len(), self.dimension, "the caller checks the dimension");
        let k = k.min(self.candidates(allow));
        if k == 0 || vector.len() != self.dimension {
            return None;
        }
        Some((Nearest::new(self, vector, k), k))
    }

    /// The most vectors that can take part.
    pub(crate) fn candidates(&self, allow: Allow<'_>) -> usize {
        match allow {
            Allow::All => self.held,
            Allow::Slots(slots) => slots.len().min(self.held),
            Allow::Bitmap(slots) => {
                usize::try_from(slots.len()).unwrap_or(usize::MAX).min(self.held)
            }
        }
    }

    /// The distance from every allowed vector.
    fn compare_all(
        &self,
        nearest: &mut Nearest<'_>,
        allow: Allow<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<()> {
        let mut compare = |slot: u32| {
            if self.contains(slot) { nearest.compare(slot, pace) } else { Ok(()) }
        };
        match allow {
            Allow::All => (0..).take(self.terms.len()).try_for_each(&mut compare),
            Allow::Slots(slots) => slots.iter().copied().try_for_each(&mut compare),
            Allow::Bitmap(slots) => slots.iter().try_for_each(&mut compare),
        }
    }

    /// The distances from those vectors whose lower bound leaves a chance: first the `first` most
    /// promising ones, then whatever their distances do not rule out. Gives the number of codes
    /// compared.
    fn compare_promising(
        &self,
        nearest: &mut Nearest<'_>,
        codes: &QueryCodes,
        first: usize,
        allow: Allow<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<u64> {
        let mut promising = Smallest::new(first);
        let bounds = self.bounds(codes, allow, &mut promising, pace)?;
        let compared = bounds.len() as u64;
        let slot = |position: u32| match allow {
            Allow::Slots(slots) => slots[position as usize],
            Allow::All | Allow::Bitmap(_) => position,
        };
        let all_promising = !promising.full();
        let promising = promising.into_sorted();
        for one in &promising {
            if one.value > nearest.limit() {
                return Ok(compared);
            }
            nearest.compare(slot(one.item), pace)?;
        }
        let Some(last) = promising.last() else { return Ok(compared) };
        if all_promising || last.value > nearest.limit() {
            return Ok(compared);
        }
        for (value, item) in bounds.into_iter().zip(0..) {
            let bound = Ranked { value, item };
            if value <= nearest.limit() && value < f32::INFINITY && bound > *last {
                nearest.compare(slot(item), pace)?;
            }
        }
        Ok(compared)
    }

    /// The lower bound of each allowed slot's distance, +∞ for the empty ones; and the smallest.
    fn bounds(
        &self,
        codes: &QueryCodes,
        allow: Allow<'_>,
        smallest: &mut Smallest,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<f32>> {
        let width = codes.row.len();
        let mut dots = [0; BATCH];
        let mut bounds = Vec::new();
        let mut collect = |bounds: &mut Vec<f32>, terms: &[Terms], dots: &[i32]| {
            for (terms, dot) in terms.iter().zip(dots) {
                let bound = codes.bound(terms, *dot);
                if bound <= smallest.limit() && bound < f32::INFINITY {
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "slots are 32-bit numbers"
                    )]
                    smallest.offer(Ranked { value: bound, item: bounds.len() as u32 });
                }
                bounds.push(bound);
            }
            pace.read(terms.len() * width * BLOCK)
        };
        match allow {
            Allow::All | Allow::Bitmap(_) => {
                bounds.reserve_exact(self.terms.len());
                let batches = self.codes.chunks(BATCH * width).zip(self.terms.chunks(BATCH));
                for (rows, terms) in batches {
                    let dots = &mut dots[..terms.len()];
                    self.kernels.scan(&codes.row, rows, dots);
                    collect(&mut bounds, terms, dots)?;
                }
            }
            Allow::Slots(slots) => {
                bounds.reserve_exact(slots.len());
                let mut terms = [Terms::ABSENT; BATCH];
                let mut numbers = [0; BATCH];
                for slots in slots.chunks(BATCH) {
                    let (terms, numbers) = (&mut terms[..slots.len()], &mut numbers[..slots.len()]);
                    for ((slot, terms), number) in slots.iter().zip(&mut *terms).zip(&mut *numbers)
                    {
                        let known = self.terms.get(*slot as usize);
                        *terms = *known.unwrap_or(&Terms::ABSENT);
                        // An empty slot's terms say infinity, whatever row is read for it.
                        *number = if known.is_some() { *slot } else { 0 };
                    }
                    let dots = &mut dots[..slots.len()];
                    self.kernels.gather(&codes.row, &self.codes, numbers, dots);
                    collect(&mut bounds, terms, dots)?;
                }
            }
        }
        Ok(bounds)
    }

    /// The bounds of these slots, which hold vectors, one at a time to `each`.
    pub(crate) fn bound_each(
        &self,
        codes: &QueryCodes,
        slots: impl Iterator<Item = u32>,
        mut each: impl FnMut(f32, u32) -> Result<()>,
    ) -> Result<u64> {
        let mut compared = 0;
        let mut dot = [0];
        for slot in slots {
            let row: &[Block] = &self.codes[self.row(slot as usize)];
            self.kernels.scan(&codes.row, row, &mut dot);
            compared += 1;
            each(codes.bound(&self.terms[slot as usize], dot[0]), slot)?;
        }
        Ok(compared)
    }
}
