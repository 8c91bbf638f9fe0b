//! The index of one metadata key.

use super::{
    Pace,
    slots::{SlotSet, union},
    sorted::{Place, Sorted},
    term::Term,
};
use roaring::RoaringBitmap;
use std::borrow::Cow;
use tenantry_types::{FieldTest, Result, Value};

/// Bytes that a key's index may take in any case.
const BYTES_FREE: usize = 1 << 20;
/// Bytes that it may take for each record that has the key.
const BYTES_PER_SLOT: usize = 256;

/// Which slots have which value of one key.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    present: SlotSet,
    /// The slots of all numbers, for ranges that hold most of them.
    numbers: SlotSet,
    texts: SlotSet,
    scalars: Sorted,
    /// Elements of lists.
    elements: Sorted,
}

/// The slots that meet a condition, or those that do not.
#[derive(Debug)]
pub(super) struct Answer<'a> {
    pub(super) slots: Cow<'a, RoaringBitmap>,
    /// True if the condition holds for all slots but these.
    pub(super) negated: bool,
}

impl KeyIndex {
    pub(super) fn insert(&mut self, slot: u32, value: &Value) {
        self.present.insert(slot);
        if let Some(term) = Term::scalar(value) {
            match term {
                Term::Bool(_) => {}
                Term::Int(_) | Term::Float(_) => self.numbers.insert(slot),
                Term::Text(_) => self.texts.insert(slot),
            }
            self.scalars.insert(term, slot);
        }
        if let Value::List(items) = value {
            for term in items.iter().filter_map(Term::element) {
                self.elements.insert(term, slot);
            }
        }
    }

    pub(super) fn remove(&mut self, slot: u32, value: &Value) {
        self.present.remove(slot);
        self.numbers.remove(slot);
        self.texts.remove(slot);
        if let Some(term) = Term::scalar(value) {
            self.scalars.remove(&term, slot);
        }
        if let Value::List(items) = value {
            for term in items.iter().filter_map(Term::element) {
                self.elements.remove(&term, slot);
            }
        }
    }

    /// What the condition says of the indexed records, exactly.
    pub(super) fn answer(&self, test: &FieldTest) -> Answer<'_> {
        let yes = |slots| Answer { slots, negated: false };
        let no = |slots| Answer { slots, negated: true };
        match test {
            FieldTest::Eq(value) => yes(of(&self.scalars, Term::scalar(value))),
            FieldTest::Ne(value) => no(of(&self.scalars, Term::scalar(value))),
            FieldTest::Gt(bound) => yes(self.range(bound, |all, term| (all.after(term), None))),
            FieldTest::Gte(bound) => yes(self.range(bound, |all, term| (all.before(term), None))),
            FieldTest::Lt(bound) => {
                yes(self.range(bound, |all, term| (Place::START, Some(all.before(term)))))
            }
            FieldTest::Lte(bound) => {
                yes(self.range(bound, |all, term| (Place::START, Some(all.after(term)))))
            }
            FieldTest::In(values) => yes(Cow::Owned(self.any_of(values))),
            FieldTest::NotIn(values) => no(Cow::Owned(self.any_of(values))),
            FieldTest::Contains(value) => yes(of(&self.elements, Term::element(value))),
            FieldTest::NotContains(value) => no(of(&self.elements, Term::element(value))),
            FieldTest::Exists(true) => yes(self.present.bitmap()),
            FieldTest::Exists(false) => no(self.present.bitmap()),
        }
    }

    fn any_of(&self, values: &[Value]) -> RoaringBitmap {
        let terms = values.iter().filter_map(Term::scalar);
        union(terms.filter_map(|term| self.scalars.get(&term)), values.len())
    }

    /// The records whose value has the bound's kind and lies between two places. The smaller of
    /// the two sides is united, so that a range costs at most half of the key's values.
    fn range(
        &self,
        bound: &Value,
        places: impl Fn(&Sorted, &Term) -> (Place, Option<Place>),
    ) -> Cow<'_, RoaringBitmap> {
        let all = &self.scalars;
        let (kind, first, last) = match bound {
            Value::Int(_) | Value::Float(_) => {
                (&self.numbers, all.after(&Term::LAST_BOOL), all.before(&Term::first_text()))
            }
            Value::Str(_) => (&self.texts, all.before(&Term::first_text()), all.end()),
            Value::Bool(_) | Value::List(_) => return Cow::default(),
        };
        let Some(term) = Term::scalar(bound) else { return Cow::default() };
        let (from, to) = places(all, &term);
        let (from, to) = (from.max(first), to.unwrap_or(last));
        let (inside, total) = (all.count(from, to), all.count(first, last));
        if inside <= total / 2 {
            return Cow::Owned(union(all.sets(from, to), inside));
        }
        let mut slots = kind.bitmap();
        if from > first || to < last {
            let outside = all.sets(first, from).chain(all.sets(to, last));
            *slots.to_mut() -= union(outside, total - inside);
        }
        slots
    }

    /// True if the index is larger than the records that have the key justify: long texts that
    /// are all different.
    pub(super) fn is_too_large(&self) -> bool {
        let slots = usize::try_from(self.present.len()).unwrap_or(usize::MAX);
        self.scalars.heap() + self.elements.heap()
            > slots.saturating_mul(BYTES_PER_SLOT).saturating_add(BYTES_FREE)
    }

    pub(super) fn remap(&mut self, to: &dyn Fn(u32) -> Option<u32>) {
        for set in [&mut self.present, &mut self.numbers, &mut self.texts] {
            set.remap(to);
        }
        self.scalars.remap(to);
        self.elements.remap(to);
    }

    /// Gives back what growing has reserved.
    pub(super) fn settle(&mut self, pace: Pace<'_>) -> Result<()> {
        for set in [&mut self.present, &mut self.numbers, &mut self.texts] {
            set.shrink();
        }
        self.scalars.settle(pace)?;
        self.elements.settle(pace)
    }

    /// Bytes on the heap, estimated.
    pub(super) fn heap(&self) -> usize {
        self.present.heap()
            + self.numbers.heap()
            + self.texts.heap()
            + self.scalars.heap()
            + self.elements.heap()
    }
}

fn of(terms: &Sorted, term: Option<Term>) -> Cow<'_, RoaringBitmap> {
    term.and_then(|term| terms.get(&term)).map_or_else(Cow::default, SlotSet::bitmap)
}
