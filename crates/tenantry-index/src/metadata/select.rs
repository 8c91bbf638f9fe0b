//! From a filter to slots.
//!
//! A negation is moved down to the conditions, which know their complement; what remains is *and*
//! and *or* of sets that hold at least what they should.

use super::{Found, MetadataIndex, literals::Need, text::Candidates};
use roaring::RoaringBitmap;
use std::{borrow::Cow, sync::atomic::Ordering};
use tenantry_types::{FieldTest, Filter, TextTest};

impl MetadataIndex {
    /// A superset of the live slots that meet the filter (or, if `negated`, that do not), and
    /// whether it is exactly those. `None` if nothing is known.
    pub(super) fn find<'a>(
        &'a self,
        filter: &Filter,
        negated: bool,
        live: &'a RoaringBitmap,
        now: u64,
    ) -> Option<Found<'a>> {
        match (filter, negated) {
            (Filter::And(parts), false) | (Filter::Or(parts), true) => {
                all(parts.iter().map(|part| self.find(part, negated, live, now)), live)
            }
            (Filter::Or(parts), false) | (Filter::And(parts), true) => {
                any(parts.iter().map(|part| self.find(part, negated, live, now)))
            }
            (Filter::Not(part), _) => self.find(part, !negated, live, now),
            (Filter::Field { key, test }, _) => self.field(key, test, negated, live, now),
            (Filter::Text(test), _) => self.text(test, negated, live, now),
        }
    }

    fn field<'a>(
        &'a self,
        key: &str,
        test: &FieldTest,
        negated: bool,
        live: &'a RoaringBitmap,
        now: u64,
    ) -> Option<Found<'a>> {
        let used = self.keys.get(key)?;
        used.at.store(now, Ordering::Relaxed);
        let answer = used.index.answer(test);
        Some(Found::exactly(answer.slots, answer.negated != negated, live))
    }

    fn text<'a>(
        &'a self,
        test: &TextTest,
        negated: bool,
        live: &'a RoaringBitmap,
        now: u64,
    ) -> Option<Found<'a>> {
        let used = self.text.as_ref().filter(|used| used.index.is_settled())?;
        used.at.store(now, Ordering::Relaxed);
        let (found, of_test) = match test {
            TextTest::Contains(part) => (used.index.contains(part.as_bytes()), false),
            TextTest::NotContains(part) => (used.index.contains(part.as_bytes()), true),
            TextTest::Regex(pattern) => (used.index.matches(Need::of(pattern).as_ref()), false),
            TextTest::NotRegex(pattern) => (used.index.matches(Need::of(pattern).as_ref()), true),
        };
        let Candidates { slots, exact } = found;
        if exact {
            return Some(Found::exactly(slots, of_test != negated, live));
        }
        // Of what may match, nothing follows about what does not.
        (of_test == negated).then_some(Found { slots, exact })
    }
}

impl<'a> Found<'a> {
    fn exactly(slots: Cow<'a, RoaringBitmap>, negated: bool, live: &RoaringBitmap) -> Self {
        let slots = if negated { Cow::Owned(live - &*slots) } else { slots };
        Self { slots, exact: true }
    }
}

/// What is in all parts. A part about which nothing is known leaves the others to narrow.
fn all<'a>(
    parts: impl Iterator<Item = Option<Found<'a>>>,
    live: &'a RoaringBitmap,
) -> Option<Found<'a>> {
    let mut exact = true;
    let mut known = Vec::new();
    for part in parts {
        exact &= part.as_ref().is_some_and(|found| found.exact);
        known.extend(part.map(|found| found.slots));
    }
    if known.is_empty() && !exact {
        return None;
    }
    known.sort_by_cached_key(|slots| slots.len());
    let mut known = known.into_iter();
    let mut slots = known.next().unwrap_or(Cow::Borrowed(live));
    for other in known {
        slots = match slots {
            Cow::Borrowed(slots) => Cow::Owned(slots & &*other),
            Cow::Owned(slots) => Cow::Owned(slots & &*other),
        };
    }
    Some(Found { exact: exact || slots.is_empty(), slots })
}

/// What is in any part. A part about which nothing is known could be anything.
fn any<'a>(parts: impl Iterator<Item = Option<Found<'a>>>) -> Option<Found<'a>> {
    let mut exact = true;
    let mut slots = Cow::<RoaringBitmap>::default();
    for part in parts {
        let part = part?;
        exact &= part.exact;
        if slots.is_empty() {
            slots = part.slots;
        } else {
            *slots.to_mut() |= &*part.slots;
        }
    }
    Some(Found { slots, exact })
}
