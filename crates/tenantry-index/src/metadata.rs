//! Metadata indexes: the slots that meet a filter, without asking each record.

mod key;
mod literals;
mod select;
mod slots;
mod sorted;
mod term;
#[cfg(test)]
mod tests;
mod text;

use key::KeyIndex;
use literals::Need;
use roaring::RoaringBitmap;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU64, Ordering},
};
use tenantry_types::{Filter, Metadata, Result, TextTest, Value};
use text::TextIndex;

/// Keys that one collection has an index for.
const KEYS_MAX: usize = 64;
/// Keys remembered as too large to index; beyond, they are tried again.
const REFUSED_MAX: usize = 256;
/// A key that this many selections did not use makes room for another.
const IDLE_SELECTIONS: u64 = 4_096;
/// Bytes of text looked at between two calls of a build's pace, about a tenth of a millisecond.
const PACE_BYTES: usize = 16 << 10;
/// What a record without text counts for in the same measure.
const PACE_RECORD_BYTES: usize = 128;

/// Called now and then by long work, to let others go first; an error ends the work.
pub type Pace<'a> = &'a mut dyn FnMut() -> Result<()>;

/// What of a record its indexes look at. The default is no record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Row<'a> {
    /// Its metadata, if it has any.
    pub metadata: Option<&'a Metadata>,
    /// Its text, if it has one.
    pub text: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn value(self, key: &str) -> Option<&'a Value> {
        self.metadata?.get(key)
    }
}

/// Slots that a filter was narrowed to.
#[derive(Debug, Clone, PartialEq)]
pub struct Narrowed {
    /// Every live slot that meets the filter, and unless `exact` maybe others.
    pub slots: RoaringBitmap,
    /// True if all the slots meet the filter. Otherwise each must still be asked with
    /// [`CompiledFilter::matches`](crate::CompiledFilter::matches).
    pub exact: bool,
}

/// Indexes over the metadata and texts of one collection: for the keys that filters have used,
/// which slots have which value; for texts, which slots have which trigrams.
///
/// Everything it says is a function of the rows it was given: after a [`build`](Self::build),
/// each change of a record must be reported with [`put`](Self::put) or [`remove`](Self::remove).
/// A value of a key can be found by equality, membership, range, as an element of a list, and by
/// being there; those answers are exact. Texts are narrowed, and then asked.
///
/// ```
/// use std::collections::BTreeMap;
/// use tenantry_index::{MetadataIndex, Row};
/// use tenantry_types::{FieldTest, Filter, Value};
///
/// let rows: Vec<_> =
///     (0..10).map(|i| BTreeMap::from([("page".to_owned(), Value::Int(i))])).collect();
/// let rows = || (0..).zip(&rows).map(|(slot, all)| (slot, Row { metadata: Some(all), text: None }));
/// let filter = Filter::Field { key: "page".into(), test: FieldTest::Gte(Value::Float(7.5)) };
///
/// let mut index = MetadataIndex::new();
/// assert!(!index.covers(&filter));
/// index.build(&filter, rows(), &mut || Ok(()))?;
/// let found = index.select(&filter, &(0..10).collect()).expect("the key is indexed");
/// assert_eq!((found.slots, found.exact), ((8..10).collect(), true));
/// # Ok::<(), tenantry_types::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct MetadataIndex {
    keys: BTreeMap<Box<str>, Used<KeyIndex>>,
    text: Option<Used<TextIndex>>,
    /// Keys whose values are too large to index.
    refused: BTreeSet<Box<str>>,
    /// Counts selections, to know what is used.
    clock: AtomicU64,
}

/// An index and when it was last used.
#[derive(Debug, Default)]
struct Used<T> {
    index: T,
    at: AtomicU64,
}

/// What a part of a filter was narrowed to.
struct Found<'a> {
    slots: Cow<'a, RoaringBitmap>,
    exact: bool,
}

impl MetadataIndex {
    /// No indexes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// True if there is nothing to build for a filter: all that it uses is indexed, or not worth
    /// an index. It says nothing about how much [`select`](Self::select) will narrow.
    pub fn covers(&self, filter: &Filter) -> bool {
        self.lacking(filter).is_empty() && !self.lacks_text(filter)
    }

    /// Adds what a filter needs and is not there, from all records of the collection.
    ///
    /// At most 64 keys are indexed; a new one takes the place of one that has long not been
    /// used, or is left out. A key whose values are long and all different is left out for good.
    /// `pace` is called about every tenth of a millisecond, but not within one record; if it
    /// fails, so does the build, and nothing is changed.
    pub fn build<'a>(
        &mut self,
        filter: &Filter,
        rows: impl Iterator<Item = (u32, Row<'a>)>,
        pace: Pace<'_>,
    ) -> Result<()> {
        let Some(mut side) = self.missing(filter) else { return Ok(()) };
        let mut bytes = 0;
        for (slot, row) in rows {
            side.load(slot, row);
            bytes += PACE_RECORD_BYTES + row.text.map_or(0, str::len);
            if bytes >= PACE_BYTES {
                bytes = 0;
                pace()?;
            }
        }
        side.settle(pace)?;
        self.absorb(side);
        Ok(())
    }

    /// What a filter needs and is not there, still empty, to be built aside while this index is
    /// read: [`load`](Self::load) it with every record, [`settle`](Self::settle) it and
    /// [`absorb`](Self::absorb) it. Changes of records meanwhile must be reported to both; for
    /// records not yet loaded they do no harm. `None` if the filter is [covered](Self::covers).
    #[must_use]
    pub fn missing(&self, filter: &Filter) -> Option<Self> {
        let mut side = Self::new();
        side.keys =
            self.lacking(filter).into_iter().map(|key| (key.into(), Used::default())).collect();
        side.text = self.lacks_text(filter).then(Used::default);
        (!side.keys.is_empty() || side.text.is_some()).then_some(side)
    }

    /// Adds a record that was not there, or was added with the same content.
    pub fn load(&mut self, slot: u32, row: Row<'_>) {
        self.put_keys(slot, Row::default(), row);
        if let (Some(text), Some(content)) = (&mut self.text, row.text) {
            text.index.load(slot, content);
        }
    }

    /// Gives back the memory that loading has reserved, and counts the bytes.
    pub fn settle(&mut self, pace: Pace<'_>) -> Result<()> {
        for key in self.keys.values_mut() {
            key.index.settle(pace)?;
        }
        self.text.as_mut().map_or(Ok(()), |text| text.index.settle(pace))
    }

    /// Takes over what was built aside, in time that does not depend on the records.
    pub fn absorb(&mut self, side: Self) {
        let now = self.tick();
        for (key, mut used) in side.keys {
            if self.keys.len() >= KEYS_MAX
                && let Some(oldest) = self.oldest_key().map(|(_, key)| key)
            {
                self.keys.remove(&oldest);
            }
            *used.at.get_mut() = now;
            self.keys.insert(key, used);
        }
        if let Some(mut used) = side.text {
            *used.at.get_mut() = now;
            self.text = Some(used);
        }
        side.refused.into_iter().for_each(|key| self.refuse(key));
    }

    /// True if texts are indexed, so that the rows of [`put`](Self::put) must have theirs.
    pub fn uses_text(&self) -> bool {
        self.text.is_some()
    }

    /// Reports that the record in a slot has changed; the old row is the default for a new
    /// record. The old row must be what the index was last told about this slot.
    pub fn put(&mut self, slot: u32, old: Row<'_>, new: Row<'_>) {
        self.put_keys(slot, old, new);
        if let Some(text) = &mut self.text {
            text.index.put(slot, old.text, new.text);
        }
    }

    /// Reports that a record is gone.
    pub fn remove(&mut self, slot: u32, old: Row<'_>) {
        self.put(slot, old, Row::default());
    }

    /// The slots that meet a filter, or a set that holds them; always among the live ones.
    /// `None` if the indexes say nothing about the filter.
    pub fn select(&self, filter: &Filter, live: &RoaringBitmap) -> Option<Narrowed> {
        let now = self.tick();
        let found = self.find(filter, false, live, now)?;
        let exact = found.exact;
        let slots = match found.slots {
            Cow::Borrowed(slots) => slots & live,
            Cow::Owned(mut slots) => {
                slots &= live;
                slots
            }
        };
        (exact || slots.len() < live.len()).then_some(Narrowed { slots, exact })
    }

    /// Bytes in memory, estimated.
    pub fn bytes(&self) -> usize {
        let keys = self.keys.iter().map(|(key, used)| key.len() + KEY_BYTES + used.index.heap());
        let refused = self.refused.iter().map(|key| key.len() + KEY_BYTES);
        let text = self.text.as_ref().map_or(0, |used| used.index.heap());
        size_of::<Self>() + keys.sum::<usize>() + refused.sum::<usize>() + text
    }

    /// Forgets everything; what filters use is built again.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Forgets the key, or the texts, that no selection has used for longest, and returns the
    /// bytes that this gives back; 0 if nothing is left.
    pub fn forget_oldest(&mut self) -> usize {
        let before = self.bytes();
        let text = self.text.as_ref().map(|used| used.at.load(Ordering::Relaxed));
        match (self.oldest_key(), text) {
            (Some((at, _)), Some(text)) if text <= at => self.text = None,
            (Some((_, key)), _) => {
                self.keys.remove(&key);
            }
            (None, _) => {
                self.text = None;
                self.refused.clear();
            }
        }
        before - self.bytes()
    }

    /// Gives every slot the number that `to` says, and drops those that have none. No two slots
    /// may get one number.
    pub fn remap(&mut self, to: &dyn Fn(u32) -> Option<u32>) {
        for key in self.keys.values_mut() {
            key.index.remap(to);
        }
        if let Some(text) = &mut self.text {
            text.index.remap(to);
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn put_keys(&mut self, slot: u32, old: Row<'_>, new: Row<'_>) {
        let mut too_large = Vec::new();
        for (key, used) in &mut self.keys {
            let (old, new) = (old.value(key), new.value(key));
            if old == new {
                continue;
            }
            if let Some(old) = old {
                used.index.remove(slot, old);
            }
            if let Some(new) = new {
                used.index.insert(slot, new);
                if used.index.is_too_large() {
                    too_large.push(key.clone());
                }
            }
        }
        for key in too_large {
            self.keys.remove(&key);
            self.refuse(key);
        }
    }

    fn refuse(&mut self, key: Box<str>) {
        if self.refused.len() >= REFUSED_MAX {
            self.refused.clear();
        }
        self.refused.insert(key);
    }

    fn oldest_key(&self) -> Option<(u64, Box<str>)> {
        let ages = self.keys.iter().map(|(key, used)| (used.at.load(Ordering::Relaxed), key));
        ages.min().map(|(at, key)| (at, key.clone()))
    }

    /// The keys that a filter uses, that could be indexed and are not, as many as find room.
    fn lacking<'a>(&self, filter: &'a Filter) -> BTreeSet<&'a str> {
        let mut keys = BTreeSet::new();
        self.collect_lacking(filter, &mut keys);
        if !keys.is_empty() && self.keys.len() + keys.len() > KEYS_MAX {
            let now = self.clock.load(Ordering::Relaxed);
            let is_idle = |used: &&Used<KeyIndex>| {
                now.saturating_sub(used.at.load(Ordering::Relaxed)) > IDLE_SELECTIONS
            };
            let kept = self.keys.len() - self.keys.values().filter(is_idle).count();
            keys = keys.into_iter().take(KEYS_MAX - kept).collect();
        }
        keys
    }

    fn collect_lacking<'a>(&self, filter: &'a Filter, keys: &mut BTreeSet<&'a str>) {
        match filter {
            Filter::And(parts) | Filter::Or(parts) => {
                for part in parts {
                    self.collect_lacking(part, keys);
                }
            }
            Filter::Not(part) => self.collect_lacking(part, keys),
            Filter::Field { key, .. } => {
                let key = key.as_str();
                if !self.keys.contains_key(key) && !self.refused.contains(key) {
                    keys.insert(key);
                }
            }
            Filter::Text(_) => {}
        }
    }

    fn lacks_text(&self, filter: &Filter) -> bool {
        self.text.is_none() && filter.needs_text() && text_would_help(filter, false)
    }
}

/// What a key costs beside its index and its name: its place in the map.
const KEY_BYTES: usize = size_of::<(Box<str>, Used<KeyIndex>)>() + slots::ALLOCATION_BYTES;

/// True if trigrams could narrow some part of the filter.
fn text_would_help(filter: &Filter, negated: bool) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => {
            parts.iter().any(|part| text_would_help(part, negated))
        }
        Filter::Not(part) => text_would_help(part, !negated),
        Filter::Field { .. } => false,
        Filter::Text(TextTest::Contains(part)) => {
            !negated && part.len() >= TextIndex::PART_BYTES_MIN
        }
        Filter::Text(TextTest::NotContains(part)) => {
            negated && part.len() >= TextIndex::PART_BYTES_MIN
        }
        Filter::Text(TextTest::Regex(pattern)) => !negated && Need::of(pattern).is_some(),
        Filter::Text(TextTest::NotRegex(pattern)) => negated && Need::of(pattern).is_some(),
    }
}
