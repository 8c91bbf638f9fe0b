//! Trigrams of texts: which slots may have a substring.

use super::{Pace, literals::Need, slots::SlotSet};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use tenantry_types::Result;

/// Trigrams fall into `1 << BUCKET_BITS` buckets. Two that share one only widen an answer, and
/// the table has a bounded size whatever the texts are.
const BUCKET_BITS: u32 = 15;
const BUCKETS: usize = 1 << BUCKET_BITS;
/// Buckets that one substring is looked up in: the smallest ones decide.
const LOOKUPS_MAX: usize = 16;

/// Which slots have which trigrams of bytes in their text.
#[derive(Debug)]
pub(super) struct TextIndex {
    /// Slots that have a text, an empty one too.
    present: SlotSet,
    /// A set for each bucket.
    buckets: Vec<SlotSet>,
    /// Bytes behind `buckets`.
    heap: usize,
    /// Slots on their way into buckets, until the first build is complete.
    loading: Option<Box<Loading>>,
}

/// Slots that wait for a bucket, so that a build reaches into each bucket's bitmap once for many.
#[derive(Debug)]
struct Loading {
    /// `WAITING_MAX` places for each bucket.
    waiting: Vec<u32>,
    /// How many of them are taken.
    lens: Vec<u8>,
}

const WAITING_MAX: usize = 32;
const LOADING_BYTES: usize = BUCKETS * (WAITING_MAX * size_of::<u32>() + 1);

/// Slots that may have a match: all that do, and maybe others.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    pub(super) slots: Cow<'a, RoaringBitmap>,
    /// True if there are no others.
    pub(super) exact: bool,
}

impl Default for TextIndex {
    fn default() -> Self {
        let mut buckets = Vec::new();
        buckets.resize_with(BUCKETS, SlotSet::default);
        Self { present: SlotSet::default(), buckets, heap: 0, loading: None }
    }
}

impl TextIndex {
    /// Trigrams in a substring from which on the index can help.
    pub(super) const PART_BYTES_MIN: usize = 3;

    /// Adds a text. Until [`TextIndex::settle`] nothing may be asked.
    pub(super) fn load(&mut self, slot: u32, text: &str) {
        self.present.insert(slot);
        let mut grams = Grams::default();
        grams.add(text);
        let Loading { waiting, lens } = &mut **self.loading.get_or_insert_with(Box::default);
        grams.for_each(|bucket| {
            let len = usize::from(lens[bucket]);
            let places = &mut waiting[bucket * WAITING_MAX..][..WAITING_MAX];
            places[len] = slot;
            lens[bucket] += 1;
            if len + 1 == WAITING_MAX {
                self.buckets[bucket].extend(places);
                lens[bucket] = 0;
            }
        });
    }

    /// True if nothing is on its way into buckets.
    pub(super) fn is_settled(&self) -> bool {
        self.loading.is_none()
    }

    pub(super) fn put(&mut self, slot: u32, old: Option<&str>, new: Option<&str>) {
        if old == new {
            return;
        }
        let mut loading = self.loading.take();
        let before = self.present.heap();
        if new.is_some() {
            self.present.insert(slot);
        } else {
            self.present.remove(slot);
        }
        let (mut gone, mut come) = (Grams::default(), Grams::default());
        gone.add(old.unwrap_or_default());
        come.add(new.unwrap_or_default());
        gone.keep_what_differs(&mut come);
        let mut grown = self.present.heap().wrapping_sub(before);
        gone.for_each(|bucket| {
            let set = &mut self.buckets[bucket];
            let before = set.heap();
            if let Some(loading) = &mut loading {
                loading.flush(bucket, set);
            }
            set.remove(slot);
            grown = grown.wrapping_add(set.heap()).wrapping_sub(before);
        });
        come.for_each(|bucket| {
            let set = &mut self.buckets[bucket];
            let before = set.heap();
            set.insert(slot);
            grown = grown.wrapping_add(set.heap()).wrapping_sub(before);
        });
        self.heap = self.heap.wrapping_add(grown);
        self.loading = loading;
    }

    /// Slots whose text may contain a part.
    pub(super) fn contains(&self, part: &[u8]) -> Candidates<'_> {
        let mut sets: Vec<&SlotSet> =
            part.windows(3).map(|gram| &self.buckets[bucket(gram)]).collect();
        if sets.iter().any(|set| set.is_empty()) {
            return Candidates { slots: Cow::default(), exact: true };
        }
        sets.sort_by_cached_key(|set| set.len());
        // The same trigram twice has the same length and comes together.
        sets.dedup_by(|a, b| std::ptr::eq(*a, *b));
        let mut sets = sets.into_iter().take(LOOKUPS_MAX);
        let Some(first) = sets.next() else {
            return Candidates { slots: self.present.bitmap(), exact: part.is_empty() };
        };
        let mut slots = first.bitmap();
        for set in sets {
            if slots.is_empty() {
                break;
            }
            *slots.to_mut() &= &*set.bitmap();
        }
        Candidates { exact: slots.is_empty(), slots }
    }

    /// Slots whose text may match a pattern that needs these literals; without any, all texts.
    pub(super) fn matches(&self, need: Option<&Need>) -> Candidates<'_> {
        let slots = need.map_or_else(|| self.present.bitmap(), |need| self.satisfy(need));
        Candidates { exact: slots.is_empty(), slots }
    }

    fn satisfy(&self, need: &Need) -> Cow<'_, RoaringBitmap> {
        match need {
            Need::Part(part) => self.contains(part).slots,
            Need::All(needs) => {
                let mut slots = self.present.bitmap();
                for need in needs {
                    *slots.to_mut() &= &*self.satisfy(need);
                }
                slots
            }
            Need::Any(needs) => {
                let mut slots = RoaringBitmap::new();
                for need in needs {
                    slots |= &*self.satisfy(need);
                }
                Cow::Owned(slots)
            }
        }
    }

    pub(super) fn remap(&mut self, to: &dyn Fn(u32) -> Option<u32>) {
        if let Some(mut loading) = self.loading.take() {
            let sets = self.buckets.iter_mut().enumerate();
            sets.for_each(|(bucket, set)| loading.flush(bucket, set));
        }
        self.present.remap(to);
        self.heap = self.present.heap();
        for set in &mut self.buckets {
            set.remap(to);
            self.heap += set.heap();
        }
    }

    /// Gives back what growing has reserved, and counts the bytes anew.
    pub(super) fn settle(&mut self, pace: Pace<'_>) -> Result<()> {
        self.present.shrink();
        self.heap = self.present.heap();
        for (bucket, set) in self.buckets.iter_mut().enumerate() {
            if let Some(loading) = &mut self.loading {
                loading.flush(bucket, set);
            }
            set.shrink();
            self.heap += set.heap();
            if bucket % 64 == 0 {
                pace()?;
            }
        }
        self.loading = None;
        Ok(())
    }

    /// Bytes on the heap, estimated.
    pub(super) fn heap(&self) -> usize {
        let loading = if self.loading.is_some() { LOADING_BYTES } else { 0 };
        self.buckets.capacity() * size_of::<SlotSet>() + self.heap + loading
    }

    /// The same, by looking at everything.
    #[cfg(test)]
    pub(super) fn recount(&self) -> usize {
        let sets = self.buckets.iter().map(SlotSet::heap).sum::<usize>();
        self.buckets.capacity() * size_of::<SlotSet>() + self.present.heap() + sets
    }
}

impl Default for Loading {
    fn default() -> Self {
        Self { waiting: vec![0; BUCKETS * WAITING_MAX], lens: vec![0; BUCKETS] }
    }
}

impl Loading {
    /// Puts what waits for a bucket into it.
    fn flush(&mut self, bucket: usize, set: &mut SlotSet) {
        let len = std::mem::take(&mut self.lens[bucket]);
        set.extend(&self.waiting[bucket * WAITING_MAX..][..usize::from(len)]);
    }
}

/// A multiplicative hash (Knuth, TAOCP 6.4): neighbouring trigrams fall far apart.
fn bucket(gram: &[u8]) -> usize {
    let gram = gram.iter().fold(0_u32, |gram, byte| gram << 8 | u32::from(*byte));
    (gram.wrapping_mul(0x9E37_79B1) >> (u32::BITS - BUCKET_BITS)) as usize
}

/// The buckets of one text, one bit each.
#[derive(Debug)]
struct Grams([u64; BUCKETS / 64]);

impl Default for Grams {
    fn default() -> Self {
        Self([0; BUCKETS / 64])
    }
}

impl Grams {
    fn add(&mut self, text: &str) {
        for gram in text.as_bytes().windows(3) {
            let bucket = bucket(gram);
            self.0[bucket / 64] |= 1 << (bucket % 64);
        }
    }

    /// Takes from both what both have.
    fn keep_what_differs(&mut self, other: &mut Self) {
        for (a, b) in self.0.iter_mut().zip(&mut other.0) {
            let both = *a & *b;
            *a ^= both;
            *b ^= both;
        }
    }

    fn for_each(&self, mut visit: impl FnMut(usize)) {
        for (at, word) in self.0.iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                visit(at * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
    }
}
