//! What cannot be seen from outside: that bytes are counted right, and what patterns need.

use super::{literals::Need, slots::SlotSet, sorted::Sorted, term::Term, text::TextIndex};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn any_term() -> impl Strategy<Value = Term> {
    prop_oneof![
        1 => any::<bool>().prop_map(Term::Bool),
        4 => (0_i64..2_000).prop_map(Term::Int),
        1 => (0_i32..500).prop_map(|half| Term::Float(f64::from(half) + 0.5)),
        1 => "[ab]{0,3}".prop_map(|text| Term::Text(text.into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_sorted_map_holds_what_was_put_and_counts_its_bytes(
        ops in prop::collection::vec((any::<bool>(), any_term(), 0_u32..100), 0..2_000),
        ascending in 0_i64..700,
        bounds in prop::collection::vec((any_term(), any_term()), 8),
    ) {
        let mut map = Sorted::default();
        let mut model: BTreeMap<Term, BTreeSet<u32>> = BTreeMap::new();
        for i in 0..ascending {
            map.insert(Term::Int(i), 1);
            model.entry(Term::Int(i)).or_default().insert(1);
        }
        for (put, term, slot) in ops {
            if put {
                map.insert(term.clone(), slot);
                model.entry(term).or_default().insert(slot);
            } else {
                map.remove(&term, slot);
                if let Some(slots) = model.get_mut(&term) {
                    slots.remove(&slot);
                    if slots.is_empty() {
                        model.remove(&term);
                    }
                }
            }
        }
        for (term, slots) in &model {
            let found = map.get(term).expect("it was put").bitmap().iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(&found, slots);
        }
        prop_assert_eq!(map.count(map.before(&Term::Bool(false)), map.end()), model.len());
        for (a, b) in bounds {
            let (from, to) = (a.clone().min(b.clone()), a.max(b));
            let expected = model.range(from.clone()..=to.clone()).count();
            prop_assert_eq!(map.count(map.before(&from), map.after(&to)), expected);
            let expected = model.range(&from..&to).map(|(_, set)| set.len() as u64).sum::<u64>();
            let sets = map.sets(map.before(&from), map.before(&to));
            prop_assert_eq!(sets.map(SlotSet::len).sum::<u64>(), expected);
        }
        prop_assert_eq!(map.heap(), map.recount());
        map.settle(&mut || Ok(())).expect("the pace does not fail");
        prop_assert_eq!(map.heap(), map.recount());
    }

    #[test]
    fn texts_that_come_and_go_are_counted(
        texts in prop::collection::vec((0_u32..60, prop::option::of("[abc]{0,20}")), 0..300)
    ) {
        let mut index = TextIndex::default();
        let mut last = BTreeMap::new();
        let empty = index.heap();
        for (slot, text) in texts {
            let old = last.insert(slot, text.clone()).flatten();
            index.put(slot, old.as_deref(), text.as_deref());
        }
        prop_assert_eq!(index.heap(), index.recount());
        index.settle(&mut || Ok(())).expect("the pace does not fail");
        prop_assert_eq!(index.heap(), index.recount());
        for (slot, text) in &last {
            index.put(*slot, text.as_deref(), None);
        }
        prop_assert_eq!(index.heap(), empty);
    }
}

#[test]
fn one_slot_costs_no_allocation() {
    assert_eq!(size_of::<SlotSet>(), 24);
    assert_eq!(size_of::<Term>(), 24);
    assert_eq!(SlotSet::One(7).heap(), 0);
}

#[test]
fn a_bitmap_counts_two_bytes_for_each_place_of_an_array() {
    let mut set = SlotSet::default();
    (0..3_000).for_each(|slot| set.insert(slot * 7));
    set.shrink();
    assert!((6_000..6_200).contains(&set.heap()), "{}", set.heap());
    (0..60_000).for_each(|slot| set.insert(slot));
    set.shrink();
    assert!((8_192..8_400).contains(&set.heap()), "{}", set.heap());
    (0..60_000).for_each(|slot| set.remove(slot));
    assert!(set.is_empty() && set.heap() < 100, "{}", set.heap());
}

fn part(text: &str) -> Need {
    Need::Part(text.as_bytes().into())
}

fn one_of(parts: &[&str]) -> Need {
    Need::Any(parts.iter().map(|text| part(text)).collect())
}

#[test]
fn patterns_need_their_literals() {
    let need = |pattern| Need::of(pattern);
    assert_eq!(need("error"), Some(one_of(&["error"])));
    assert_eq!(
        need(r"^error\b.*fatal$"),
        Some(Need::All(vec![one_of(&["error"]), one_of(&["fatal"])]))
    );
    assert_eq!(
        need("(?:warning|error)+"),
        Some(Need::Any(vec![one_of(&["warning"]), one_of(&["error"])]))
    );
    assert_eq!(need("(?i)abc").map(|need| matches!(need, Need::All(_) | Need::Any(_))), Some(true));
    for nothing in ["", "a", "ab", ".*", "(error)?", "error|x", r"\d{3}", "[a-z]{3}", "^$", "("] {
        assert_eq!(need(nothing), None, "{nothing}");
    }
}

#[test]
fn spellings_of_a_word_whose_case_does_not_matter_are_alternatives() {
    let mut index = TextIndex::default();
    let texts = ["an Error", "an ERROR", "no mistake", "eror"];
    (0..).zip(texts).for_each(|(slot, text)| index.load(slot, text));
    index.settle(&mut || Ok(())).expect("the pace does not fail");
    let found = index.matches(Need::of("(?i)an error").as_ref());
    assert_eq!(found.slots.iter().collect::<Vec<_>>(), [0, 1]);
}
