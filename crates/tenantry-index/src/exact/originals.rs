//! The vectors themselves, as precisely as they are kept.

use crate::{
    distance::Size,
    kernels::Block,
    quantise::{self, Terms},
};
use std::{collections::BTreeMap, ops::Range};
use tenantry_types::Metric;

/// How precisely vectors are kept in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Storage {
    /// As they came: 4 bytes per component beside the byte of its code.
    #[default]
    Full,
    /// 16 bits per component, the code's byte among them: an error of at most 1/65,000 of the
    /// largest component. Distances are those of the rounded vectors.
    Half,
    /// The code's byte alone: an error of at most 1/254 of the largest component. Distances are
    /// those of the rounded vectors.
    Int8,
}

/// What is kept of the vectors of an index, one a slot.
#[derive(Clone)]
pub(crate) struct Originals {
    pub(crate) storage: Storage,
    dimension: usize,
    width: usize,
    /// Slots × dimension, if kept in full.
    full: Vec<f32>,
    /// Slots × blocks of a row, if kept in half.
    fine: Vec<Block>,
    /// One per slot, unless kept in full.
    steps: Vec<f32>,
    /// Vectors that no code can stand for, unless kept in full.
    extreme: BTreeMap<u32, Box<[f32]>>,
    /// Room for one vector while it is set.
    rounded: Vec<f32>,
}

impl Originals {
    pub(crate) fn new(storage: Storage, dimension: usize) -> Self {
        Self {
            storage,
            dimension,
            width: quantise::blocks(dimension),
            full: Vec::new(),
            fine: Vec::new(),
            steps: Vec::new(),
            extreme: BTreeMap::new(),
            rounded: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let extreme = self.dimension * size_of::<f32>() + size_of::<(u32, Box<[f32]>)>();
        (self.full.capacity() + self.steps.capacity() + self.rounded.capacity()) * size_of::<f32>()
            + self.fine.capacity() * size_of::<Block>()
            + self.extreme.len() * extreme
    }

    pub(crate) fn reserve(&mut self, more: usize) {
        match self.storage {
            Storage::Full => self.full.reserve_exact(more * self.dimension),
            Storage::Half => {
                self.fine.reserve_exact(more * self.width);
                self.steps.reserve_exact(more);
            }
            Storage::Int8 => self.steps.reserve_exact(more),
        }
    }

    pub(crate) fn grow(&mut self, slots: usize) {
        match self.storage {
            Storage::Full => self.full.resize(slots * self.dimension, 0.0),
            Storage::Half => {
                self.fine.resize(slots * self.width, Block::ZERO);
                self.steps.resize(slots, 0.0);
            }
            Storage::Int8 => self.steps.resize(slots, 0.0),
        }
    }

    /// Keeps a vector and writes its codes into `row`.
    pub(crate) fn set(
        &mut self,
        metric: Metric,
        slot: u32,
        vector: &[f32],
        row: &mut [Block],
    ) -> (Terms, Size) {
        let size = Size::of(vector);
        let index = slot as usize;
        if self.storage == Storage::Full {
            let place = self.place(index);
            self.full[place].copy_from_slice(vector);
            return (Terms::encode(metric, vector, size, row), size);
        }
        self.extreme.remove(&slot);
        let fine = match self.storage {
            Storage::Half => Some(&mut self.fine[index * self.width..][..self.width]),
            Storage::Full | Storage::Int8 => None,
        };
        let rounded = if size == Size::Extreme {
            None
        } else {
            Terms::encode_rounded(metric, vector, row, fine, &mut self.rounded)
        };
        if let Some((terms, step, size)) = rounded {
            self.steps[index] = step;
            return (terms, size);
        }
        self.extreme.insert(slot, vector.into());
        (Terms::encode(metric, vector, Size::Extreme, row), size)
    }

    /// Overwrites what is kept.
    pub(crate) fn clear(&mut self, slot: u32) {
        let index = slot as usize;
        match self.storage {
            Storage::Full => {
                let place = self.place(index);
                self.full[place].fill(0.0);
            }
            Storage::Half => self.fine[index * self.width..][..self.width].fill(Block::ZERO),
            Storage::Int8 => {}
        }
        if let Some(mut vector) = self.extreme.remove(&slot) {
            vector.fill(0.0);
        }
        self.rounded.fill(0.0);
    }

    /// The vector of a slot that holds one, if kept in full.
    pub(crate) fn full(&self, slot: u32) -> &[f32] {
        &self.full[self.place(slot as usize)]
    }

    /// The vector of a slot that holds one; `buffer` may be used for it.
    #[inline]
    pub(crate) fn read<'a>(
        &'a self,
        slot: u32,
        row: &[Block],
        buffer: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let index = slot as usize;
        if self.storage == Storage::Full {
            return &self.full[self.place(index)];
        }
        if let Some(vector) = self.extreme.get(&slot) {
            return vector;
        }
        let fine =
            (self.storage == Storage::Half).then(|| &self.fine[index * self.width..][..self.width]);
        quantise::decode(self.steps[index], row, fine, self.dimension, buffer);
        buffer
    }

    /// Takes over a vector of another set of originals of the same kind, whose codes are copied
    /// beside.
    pub(crate) fn copy(&mut self, to: u32, from: &Self, slot: u32) {
        let (index, source) = (to as usize, slot as usize);
        match self.storage {
            Storage::Full => {
                let place = self.place(index);
                self.full[place].copy_from_slice(&from.full[from.place(source)]);
            }
            Storage::Half => {
                let fine = &from.fine[source * self.width..][..self.width];
                self.fine[index * self.width..][..self.width].copy_from_slice(fine);
                self.steps[index] = from.steps[source];
            }
            Storage::Int8 => self.steps[index] = from.steps[source],
        }
        if let Some(vector) = from.extreme.get(&slot) {
            self.extreme.insert(to, vector.clone());
        }
    }

    /// Where a slot's vector lies, if kept in full.
    fn place(&self, slot: usize) -> Range<usize> {
        slot * self.dimension..(slot + 1) * self.dimension
    }
}
