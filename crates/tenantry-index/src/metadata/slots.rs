//! Sets of slots that stay small when they hold little.

use roaring::{MultiOps, RoaringBitmap};
use std::borrow::Cow;

/// Slots in a sorted list at most; above, a bitmap is smaller and faster.
const FEW_MAX: usize = 32;
/// What an allocation costs beside its bytes, roughly: the allocator's header and rounding.
pub(super) const ALLOCATION_BYTES: usize = 16;
/// From this many slots on, single slots are united in a plain array of bits.
const DENSE_MIN: usize = 1_024;
/// Largest slot that is united in a plain array of bits (which would then take 32 MiB).
const DENSE_SLOT_MAX: u32 = 1 << 28;

/// A set of slots. Most values of a key are held by one record or by very many, so that one slot
/// must not cost what a bitmap does.
#[derive(Debug)]
pub(super) enum SlotSet {
    One(u32),
    /// Ascending; empty for the empty set.
    Few(Vec<u32>),
    Many(Box<Bitmap>),
}

/// A bitmap that knows roughly how large it is: asking it takes longer than changing it.
#[derive(Debug)]
pub(super) struct Bitmap {
    bits: RoaringBitmap,
    heap: usize,
    /// Changes since `heap` was right.
    changes: usize,
}

impl Bitmap {
    /// Changes between two looks at the size. Each is worth two bytes, mostly.
    const CHANGES_MAX: usize = 64;

    fn new(bits: RoaringBitmap) -> Self {
        Self { heap: heap(&bits), bits, changes: 0 }
    }

    fn changed(&mut self, changes: usize) {
        self.changes += changes;
        if self.changes >= Self::CHANGES_MAX {
            self.changes = 0;
            self.heap = heap(&self.bits);
        }
    }
}

fn heap(bits: &RoaringBitmap) -> usize {
    let parts = bits.statistics();
    // The crate counts four bytes for each place of an array, which takes two, and a byte for
    // each bit.
    let data = parts.n_bytes_array_containers / 2
        + parts.n_bytes_bitset_containers / 8
        + parts.n_bytes_run_containers;
    size_of::<Bitmap>()
        + 2 * ALLOCATION_BYTES
        + parts.n_containers as usize * (CONTAINER_BYTES + ALLOCATION_BYTES)
        + usize::try_from(data).unwrap_or(usize::MAX / 2)
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl SlotSet {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(slots) if slots.is_empty())
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Few(slots) => slots.len() as u64,
            Self::Many(bitmap) => bitmap.bits.len(),
        }
    }

    pub(super) fn insert(&mut self, slot: u32) {
        match self {
            Self::One(one) if *one == slot => {}
            Self::One(one) => *self = Self::Few(vec![slot.min(*one), slot.max(*one)]),
            Self::Few(slots) if slots.is_empty() => *self = Self::One(slot),
            Self::Few(slots) => {
                let Err(at) = slots.binary_search(&slot) else { return };
                slots.insert(at, slot);
                if slots.len() > FEW_MAX {
                    *self = Self::Many(Box::new(Bitmap::new(slots.iter().copied().collect())));
                }
            }
            Self::Many(bitmap) => {
                // New records have the highest slots, and a push need not search.
                if bitmap.bits.try_push(slot).is_err() {
                    bitmap.bits.insert(slot);
                }
                bitmap.changed(1);
            }
        }
    }

    /// Inserts ascending slots, fast where they are above all others.
    pub(super) fn extend(&mut self, slots: &[u32]) {
        if let Self::Many(bitmap) = self {
            if let Err(error) = bitmap.bits.append(slots.iter().copied()) {
                let rest = usize::try_from(error.valid_until()).unwrap_or(0);
                bitmap.bits.extend(&slots[rest..]);
            }
            bitmap.changed(slots.len());
        } else {
            for slot in slots {
                self.insert(*slot);
            }
        }
    }

    pub(super) fn remove(&mut self, slot: u32) {
        match self {
            Self::One(one) if *one == slot => *self = Self::default(),
            Self::One(_) => {}
            Self::Few(slots) => {
                let Ok(at) = slots.binary_search(&slot) else { return };
                slots.remove(at);
                if let [one] = slots[..] {
                    *self = Self::One(one);
                }
            }
            Self::Many(bitmap) => {
                bitmap.bits.remove(slot);
                bitmap.changed(1);
                // Half, so that a set at the border does not change its form with each write.
                if bitmap.bits.len() <= (FEW_MAX / 2) as u64 {
                    *self = Self::Few(bitmap.bits.iter().collect());
                }
            }
        }
    }

    /// As a bitmap, without a copy if it is one.
    pub(super) fn bitmap(&self) -> Cow<'_, RoaringBitmap> {
        match self {
            Self::One(slot) => Cow::Owned(RoaringBitmap::from_iter([*slot])),
            Self::Few(slots) => Cow::Owned(slots.iter().copied().collect()),
            Self::Many(bitmap) => Cow::Borrowed(&bitmap.bits),
        }
    }

    /// The same set with other numbers for its slots; `None` drops a slot.
    pub(super) fn remap(&mut self, to: &dyn Fn(u32) -> Option<u32>) {
        let old = self.bitmap();
        let new: RoaringBitmap = old.iter().filter_map(to).collect();
        *self = match (new.len(), new.min()) {
            (1, Some(slot)) => Self::One(slot),
            (len, _) if len <= FEW_MAX as u64 => Self::Few(new.iter().collect()),
            _ => Self::Many(Box::new(Bitmap::new(new))),
        };
    }

    /// Gives back what growing has reserved.
    pub(super) fn shrink(&mut self) {
        match self {
            Self::One(_) => {}
            Self::Few(slots) => slots.shrink_to_fit(),
            // A clone has no spare capacity.
            Self::Many(bitmap) => **bitmap = Bitmap::new(bitmap.bits.clone()),
        }
    }

    /// Bytes on the heap, estimated.
    pub(super) fn heap(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Few(slots) if slots.capacity() == 0 => 0,
            Self::Few(slots) => slots.capacity() * size_of::<u32>() + ALLOCATION_BYTES,
            Self::Many(bitmap) => bitmap.heap,
        }
    }
}

/// What a bitmap takes for each run of 65,536 slots, beside the data.
const CONTAINER_BYTES: usize = 40;

/// The slots that are in at least one of the sets; about so many, to choose how.
pub(super) fn union<'a>(sets: impl Iterator<Item = &'a SlotSet>, expected: usize) -> RoaringBitmap {
    let mut bitmaps = Vec::new();
    let mut singles = Singles { dense: expected >= DENSE_MIN, ..Singles::default() };
    sets.for_each(|set| match set {
        SlotSet::One(slot) => singles.insert(*slot),
        SlotSet::Few(slots) => slots.iter().for_each(|slot| singles.insert(*slot)),
        SlotSet::Many(bitmap) => bitmaps.push(&bitmap.bits),
    });
    let singles = singles.into_bitmap();
    if bitmaps.is_empty() {
        return singles;
    }
    bitmaps.push(&singles);
    bitmaps.union()
}

/// Single slots in any order. Setting bits of a plain array is many times faster than inserting
/// one after the other.
#[derive(Debug, Default)]
struct Singles {
    dense: bool,
    bits: Vec<u8>,
    others: Vec<u32>,
}

impl Singles {
    fn insert(&mut self, slot: u32) {
        let at = slot as usize / 8;
        if let Some(byte) = self.bits.get_mut(at) {
            *byte |= 1 << (slot % 8);
        } else if self.dense && slot <= DENSE_SLOT_MAX {
            self.bits.resize((at + 1).max(2 * self.bits.len()), 0);
            self.bits[at] |= 1 << (slot % 8);
        } else {
            self.others.push(slot);
        }
    }

    fn into_bitmap(self) -> RoaringBitmap {
        let others: RoaringBitmap = self.others.into_iter().collect();
        if self.bits.is_empty() {
            return others;
        }
        others | RoaringBitmap::from_lsb0_bytes(0, &self.bits)
    }
}
