//! An ordered map from terms to slots, for equality and ranges.

use super::{
    Pace,
    slots::{ALLOCATION_BYTES, SlotSet},
    term::Term,
};
use tenantry_types::Result;

/// Terms in one block at most. A write moves at most a block; a range reads whole blocks.
const BLOCK_MAX: usize = 256;

/// Terms in blocks, each a pair of parallel lists. Against a `BTreeMap`, a range reads the sets
/// one after the other, values that ascend (times, counters) fill their blocks, and the bytes are
/// known.
#[derive(Debug, Default)]
pub(super) struct Sorted {
    /// None is empty, and no term is in two.
    blocks: Vec<Block>,
    /// Bytes behind the blocks.
    heap: usize,
}

#[derive(Debug, Default)]
struct Block {
    /// Ascending, none twice.
    terms: Vec<Term>,
    /// None is empty.
    sets: Vec<SlotSet>,
}

/// A place between two terms: a block, and a place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(usize, usize);

impl Place {
    /// The place before all terms.
    pub(super) const START: Self = Self(0, 0);
}

impl Sorted {
    pub(super) fn insert(&mut self, term: Term, slot: u32) {
        if self.blocks.is_empty() {
            self.blocks.push(Block::default());
        }
        let at = self.block(&term).min(self.blocks.len() - 1);
        let block = &mut self.blocks[at];
        match block.terms.binary_search(&term) {
            Ok(i) => {
                let set = &mut block.sets[i];
                let before = set.heap();
                set.insert(slot);
                self.heap = self.heap + set.heap() - before;
            }
            Err(i) => {
                let before = block.bytes();
                self.heap += term.heap();
                block.terms.insert(i, term);
                block.sets.insert(i, SlotSet::One(slot));
                self.heap = self.heap + block.bytes() - before;
                self.split(at, i);
            }
        }
    }

    /// Cuts a block that has become too long. Where terms ascend, the old block stays full.
    fn split(&mut self, at: usize, inserted: usize) {
        let last = at + 1 == self.blocks.len();
        let block = &mut self.blocks[at];
        let len = block.terms.len();
        if len <= BLOCK_MAX {
            return;
        }
        let cut = if last && inserted + 1 == len { inserted } else { len / 2 };
        let before = block.bytes();
        let new = Block { terms: block.terms.split_off(cut), sets: block.sets.split_off(cut) };
        block.shrink();
        self.heap = self.heap + block.bytes() + new.bytes() - before;
        self.blocks.insert(at + 1, new);
    }

    pub(super) fn remove(&mut self, term: &Term, slot: u32) {
        let at = self.block(term);
        let Some(block) = self.blocks.get_mut(at) else { return };
        let Ok(i) = block.terms.binary_search(term) else { return };
        let set = &mut block.sets[i];
        let before = set.heap();
        set.remove(slot);
        self.heap = self.heap + set.heap() - before;
        if set.is_empty() {
            let before = block.bytes();
            self.heap -= block.terms.remove(i).heap();
            self.heap -= block.sets.remove(i).heap();
            if block.terms.capacity() > 4 * block.terms.len() {
                block.shrink();
            }
            self.heap = self.heap + block.bytes() - before;
            if block.terms.is_empty() {
                self.heap -= self.blocks.remove(at).bytes();
            }
        }
    }

    pub(super) fn get(&self, term: &Term) -> Option<&SlotSet> {
        let block = self.blocks.get(self.block(term))?;
        block.sets.get(block.terms.binary_search(term).ok()?)
    }

    /// The place before a term, whether it is there or not.
    pub(super) fn before(&self, term: &Term) -> Place {
        self.place(|other| other < term)
    }

    /// The place after a term, whether it is there or not.
    pub(super) fn after(&self, term: &Term) -> Place {
        self.place(|other| other <= term)
    }

    /// The place after all terms.
    pub(super) fn end(&self) -> Place {
        Place(self.blocks.len(), 0)
    }

    /// The number of terms between two places.
    pub(super) fn count(&self, from: Place, to: Place) -> usize {
        self.between(from, to).map(<[SlotSet]>::len).sum()
    }

    /// The sets between two places.
    pub(super) fn sets(&self, from: Place, to: Place) -> impl Iterator<Item = &SlotSet> {
        self.between(from, to).flatten()
    }

    fn between(&self, from: Place, to: Place) -> impl Iterator<Item = &[SlotSet]> {
        let blocks = self.blocks.iter().enumerate().skip(from.0);
        blocks.take((to.0 + 1).saturating_sub(from.0)).map(move |(at, block)| {
            let start = if at == from.0 { from.1 } else { 0 };
            let end = if at == to.0 { to.1 } else { block.sets.len() };
            block.sets.get(start..end).unwrap_or_default()
        })
    }

    fn place(&self, is_before: impl Fn(&Term) -> bool) -> Place {
        let at = self.blocks.partition_point(|block| block.terms.last().is_some_and(&is_before));
        let block = self.blocks.get(at);
        Place(at, block.map_or(0, |block| block.terms.partition_point(&is_before)))
    }

    /// The block that has the term or would take it.
    fn block(&self, term: &Term) -> usize {
        self.blocks.partition_point(|block| block.terms.last().is_some_and(|last| last < term))
    }

    /// Gives other numbers to slots, drops those that have none, and gives back spare memory.
    pub(super) fn remap(&mut self, to: &dyn Fn(u32) -> Option<u32>) {
        for block in &mut self.blocks {
            for set in &mut block.sets {
                set.remap(to);
            }
            let mut sets = block.sets.iter();
            block.terms.retain(|_| sets.next().is_some_and(|set| !set.is_empty()));
            block.sets.retain(|set| !set.is_empty());
        }
        self.blocks.retain(|block| !block.terms.is_empty());
        self.heap = self.blocks.iter_mut().map(Block::settle).sum();
    }

    /// Gives back what growing has reserved, and counts the bytes anew.
    pub(super) fn settle(&mut self, pace: Pace<'_>) -> Result<()> {
        self.blocks.shrink_to_fit();
        self.heap = 0;
        for block in &mut self.blocks {
            self.heap += block.settle();
            pace()?;
        }
        Ok(())
    }

    /// Bytes on the heap, estimated.
    pub(super) fn heap(&self) -> usize {
        self.blocks.capacity() * size_of::<Block>() + self.heap
    }

    /// The same, by looking at everything.
    #[cfg(test)]
    pub(super) fn recount(&self) -> usize {
        let blocks = self.blocks.iter().map(Block::heap);
        self.blocks.capacity() * size_of::<Block>() + blocks.sum::<usize>()
    }
}

impl Block {
    /// Bytes of the two lists, without what their members own.
    fn bytes(&self) -> usize {
        let lists =
            self.terms.capacity() * size_of::<Term>() + self.sets.capacity() * size_of::<SlotSet>();
        if lists == 0 { 0 } else { lists + 2 * ALLOCATION_BYTES }
    }

    /// Gives back spare memory and returns all bytes behind this block.
    fn settle(&mut self) -> usize {
        self.shrink();
        self.sets.iter_mut().for_each(SlotSet::shrink);
        self.heap()
    }

    /// Bytes of the two lists, and of what their members own.
    fn heap(&self) -> usize {
        let sets: usize = self.sets.iter().map(SlotSet::heap).sum();
        let terms: usize = self.terms.iter().map(Term::heap).sum();
        self.bytes() + sets + terms
    }

    fn shrink(&mut self) {
        self.terms.shrink_to_fit();
        self.sets.shrink_to_fit();
    }
}
