//! Metadata indexes: what they select is what the filter says, whatever was written before.

use crate::filter::{any_test, any_value};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tenantry_index::{CompiledFilter, MetadataIndex, Row};
use tenantry_types::{Error, FieldTest, Filter, Metadata, TextTest, Value};

#[derive(Debug, Clone, Default)]
struct Record {
    metadata: Option<Metadata>,
    text: Option<String>,
}

impl Record {
    fn row(&self) -> Row<'_> {
        Row { metadata: self.metadata.as_ref(), text: self.text.as_deref() }
    }
}

/// A collection, its indexes, and one that may be being built aside.
#[derive(Default)]
struct Collection {
    records: BTreeMap<u32, Record>,
    index: MetadataIndex,
    aside: Option<(MetadataIndex, u32)>,
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, Record),
    Remove(u32),
    Build(Filter),
    /// Begins to build aside, or loads some more records, or ends it.
    BuildAside(Filter, u32),
    Select(Filter),
    Forget,
    Pack,
}

impl Collection {
    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Put(slot, record) => {
                let old = self.records.insert(slot, record.clone()).unwrap_or_default();
                self.index.put(slot, old.row(), record.row());
                if let Some((aside, _)) = &mut self.aside {
                    aside.put(slot, old.row(), record.row());
                }
            }
            Step::Remove(slot) => {
                let old = self.records.remove(&slot).unwrap_or_default();
                self.index.remove(slot, old.row());
                if let Some((aside, _)) = &mut self.aside {
                    aside.remove(slot, old.row());
                }
            }
            Step::Build(filter) => {
                let rows = self.records.iter().map(|(slot, record)| (*slot, record.row()));
                self.index.build(&filter, rows, &mut || Ok(())).expect("the pace does not fail");
                prop_assert!(self.index.covers(&filter));
            }
            Step::BuildAside(filter, records) => self.build_aside(&filter, records),
            Step::Select(filter) => self.check(&filter)?,
            Step::Forget => {
                let before = self.index.bytes();
                let freed = self.index.forget_oldest();
                prop_assert_eq!(self.index.bytes(), before - freed);
            }
            Step::Pack => {
                let slots: Vec<u32> = self.records.keys().copied().collect();
                let to =
                    |slot| slots.binary_search(&slot).ok().and_then(|at| u32::try_from(at).ok());
                self.index.remap(&to);
                self.aside = None;
                self.records = (0..).zip(std::mem::take(&mut self.records).into_values()).collect();
            }
        }
        Ok(())
    }

    fn build_aside(&mut self, filter: &Filter, records: u32) {
        let Some((aside, next)) = &mut self.aside else {
            self.aside = self.index.missing(filter).map(|aside| (aside, 0));
            return;
        };
        let until = *next + records;
        for (slot, record) in self.records.range(*next..until) {
            aside.load(*slot, record.row());
        }
        *next = until;
        if self.records.range(until..).next().is_none()
            && let Some((mut aside, _)) = self.aside.take()
        {
            aside.settle(&mut || Ok(())).expect("the pace does not fail");
            self.index.absorb(aside);
        }
    }

    fn check(&self, filter: &Filter) -> Result<(), TestCaseError> {
        let live = self.records.keys().copied().collect();
        let compiled = CompiledFilter::compile(filter).expect("the patterns are good");
        let meets = |slot: &u32| {
            let row = self.records[slot].row();
            compiled.matches(row.metadata, row.text)
        };
        let expected: Vec<u32> = self.records.keys().copied().filter(meets).collect();
        if let Some(found) = self.index.select(filter, &live) {
            prop_assert!(found.slots.is_subset(&live));
            let kept: Vec<u32> = found.slots.iter().filter(meets).collect();
            prop_assert_eq!(&kept, &expected, "a record is missing");
            if found.exact {
                prop_assert_eq!(found.slots.len(), kept.len() as u64, "a record is too much");
            }
        } else {
            prop_assert!(!self.index.covers(filter) || filter.needs_text());
        }
        if !filter.needs_text() && self.index.covers(filter) {
            prop_assert!(self.index.select(filter, &live).is_some_and(|found| found.exact));
        }
        Ok(())
    }
}

fn any_text_test() -> impl Strategy<Value = TextTest> {
    const PATTERNS: [&str; 14] = [
        "",
        "^aba",
        "b+$",
        "(?i)ABA",
        "^$",
        "é.",
        "(ab|ba)a",
        "(aba)?",
        "(?:ab){2}a",
        "[ab]ba",
        "aba.*bab",
        "bab|é",
        r"(a)(b)(é)",
        "(?i)[ab]éA",
    ];
    let part = || prop_oneof!["[abé]{0,6}", "aba", "bab", "éa"];
    let pattern = || prop::sample::select(PATTERNS.to_vec());
    prop_oneof![
        2 => part().prop_map(TextTest::Contains),
        1 => part().prop_map(TextTest::NotContains),
        2 => pattern().prop_map(|pattern| TextTest::Regex(pattern.into())),
        1 => pattern().prop_map(|pattern| TextTest::NotRegex(pattern.into())),
    ]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        3 => ("[klm]", any_test()).prop_map(|(key, test)| Filter::Field { key, test }),
        1 => any_text_test().prop_map(Filter::Text),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    let not_a_number = prop::collection::vec(Just(Value::Float(f64::NAN)), 0..2);
    let value = prop_oneof![
        40 => any_value(),
        1 => Just(Value::Float(f64::NAN)),
        1 => Just(Value::Float(f64::INFINITY)),
        1 => not_a_number.prop_map(Value::List),
    ];
    let metadata = prop::collection::btree_map("[klm]", value, 0..4);
    (prop::option::weighted(0.9, metadata), prop::option::of("[abéA]{0,10}"))
        .prop_map(|(metadata, text)| Record { metadata, text })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => (0_u32..80, any_record()).prop_map(|(slot, record)| Step::Put(slot, record)),
        10 => (0_u32..80).prop_map(Step::Remove),
        4 => any_filter().prop_map(Step::Build),
        6 => (any_filter(), 1_u32..40).prop_map(|(all, records)| Step::BuildAside(all, records)),
        30 => any_filter().prop_map(Step::Select),
        1 => Just(Step::Forget),
        1 => Just(Step::Pack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_selected_is_what_the_filter_says(
        steps in prop::collection::vec(any_step(), 1..200),
        filters in prop::collection::vec(any_filter(), 8),
    ) {
        let mut collection = Collection::default();
        for step in steps {
            collection.step(step)?;
        }
        for filter in filters {
            collection.check(&filter)?;
            collection.step(Step::Build(filter.clone()))?;
            collection.check(&filter)?;
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn ranges_over_many_values_are_exact(
        values in prop::collection::vec(-3_000_i64..3_000, 0..4_000),
        bounds in prop::collection::vec(any_bound(), 4),
    ) {
        let records: BTreeMap<u32, Record> = (0..).zip(values.into_iter().map(number)).collect();
        let mut collection = Collection { records, ..Collection::default() };
        collection.step(Step::Build(field("k", FieldTest::Exists(true))))?;
        for bound in bounds {
            for test in [FieldTest::Gt, FieldTest::Gte, FieldTest::Lt, FieldTest::Lte] {
                collection.check(&field("k", test(bound.clone())))?;
            }
        }
    }
}

fn any_bound() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3_500_i64..3_500).prop_map(Value::Int),
        (-7_000_i32..7_000).prop_map(|half| Value::Float(f64::from(half) / 2.0)),
        Just(Value::Str("-1".into())),
        Just(Value::Bool(true)),
    ]
}

/// A record that has the number as integer, float or text.
fn number(value: i64) -> Record {
    let value = match value.rem_euclid(16) {
        0 => Value::Float(value as f64 + 0.5),
        1 => Value::Str(value.to_string()),
        2 => Value::Bool(value % 3 == 0),
        _ => Value::Int(value),
    };
    Record { metadata: Some(BTreeMap::from([("k".into(), value)])), text: None }
}

fn field(key: &str, test: FieldTest) -> Filter {
    Filter::Field { key: key.into(), test }
}

fn contains(part: &str) -> Filter {
    Filter::Text(TextTest::Contains(part.into()))
}

fn record(key: &str, value: Value) -> Record {
    Record { metadata: Some(BTreeMap::from([(key.into(), value)])), text: None }
}

/// An index of these records for one filter.
fn built(filter: &Filter, records: &[Record]) -> MetadataIndex {
    let mut index = MetadataIndex::new();
    let rows = (0..).zip(records).map(|(slot, record)| (slot, record.row()));
    index.build(filter, rows, &mut || Ok(())).expect("the pace does not fail");
    index
}

#[test]
fn an_unknown_part_helps_in_or_not_at_all_and_in_and_leaves_the_rest() {
    let records: Vec<_> = (0..100).map(|i| record("k", Value::Int(i % 10))).collect();
    let known = field("k", FieldTest::Eq(Value::Int(3)));
    let unknown = field("l", FieldTest::Eq(Value::Int(3)));
    let index = built(&known, &records);
    let live = (0..100).collect();
    let select = |filter: Filter| index.select(&filter, &live);
    let both = select(Filter::And(vec![known.clone(), unknown.clone()])).unwrap();
    assert_eq!((both.slots.len(), both.exact), (10, false));
    assert_eq!(select(Filter::Or(vec![known.clone(), unknown.clone()])), None);
    let neither = Filter::Not(Box::new(Filter::Or(vec![known.clone(), unknown.clone()])));
    let neither = select(neither).unwrap();
    assert_eq!((neither.slots.len(), neither.exact), (90, false));
    let never = Filter::And(vec![field("k", FieldTest::Eq(Value::Int(77))), unknown.clone()]);
    assert!(select(never).unwrap().exact, "nothing is nothing, whatever the rest says");
    assert_eq!(select(unknown), None);
}

#[test]
fn texts_are_narrowed_to_few_candidates() {
    let texts = (0..2_000).map(|i| format!("record number {i} of the collection"));
    let records: Vec<_> = texts.map(|text| Record { metadata: None, text: Some(text) }).collect();
    let filter = contains("number 1234 of");
    let index = built(&filter, &records);
    let live = (0..2_000).collect();
    let found = index.select(&filter, &live).unwrap();
    assert!(found.slots.contains(1_234) && found.slots.len() < 20, "{found:?}");
    assert!(!found.exact);
    let nothing = index.select(&contains("nowhere"), &live).unwrap();
    assert!(nothing.exact && nothing.slots.is_empty());
    let regex = Filter::Text(TextTest::Regex(r"^record number 12\d4\b.*(?i)COLLECTION$".into()));
    let found = index.select(&regex, &live).unwrap();
    assert!((0..10).all(|i| found.slots.contains(1_204 + 10 * i)) && found.slots.len() < 200);
    let general = Filter::Text(TextTest::Regex("[a-z]+ of".into()));
    assert_eq!(index.select(&general, &live), None, "every text has what this pattern needs");
}

#[test]
fn texts_are_only_indexed_where_trigrams_can_help() {
    let covered = |filter: Filter| MetadataIndex::new().covers(&filter);
    assert!(!covered(contains("abc")));
    assert!(covered(contains("ab")));
    assert!(covered(Filter::Text(TextTest::NotContains("abc".into()))));
    assert!(!covered(Filter::Not(Box::new(Filter::Text(TextTest::NotContains("abc".into()))))));
    assert!(covered(Filter::Text(TextTest::Regex("a.c".into()))));
    assert!(!covered(Filter::Text(TextTest::Regex("abc.*".into()))));
    assert!(!built(&contains("ab"), &[]).uses_text());
    assert!(built(&contains("abc"), &[]).uses_text());
}

#[test]
fn a_build_that_is_stopped_changes_nothing() {
    let records: Vec<_> = (0..1_000).map(|i| record("k", Value::Int(i))).collect();
    let filter = field("k", FieldTest::Exists(true));
    let mut index = MetadataIndex::new();
    let before = index.bytes();
    let rows = || (0..).zip(&records).map(|(slot, record)| (slot, record.row()));
    let mut calls = 0;
    let error = index.build(&filter, rows(), &mut || {
        calls += 1;
        if calls == 3 { Err(Error::invalid("stop")) } else { Ok(()) }
    });
    assert!(error.is_err() && calls == 3);
    assert!(!index.covers(&filter) && index.bytes() == before);
    index.build(&filter, rows(), &mut || Ok(())).unwrap();
    assert!(index.covers(&filter));
}

#[test]
fn long_values_that_are_all_different_are_not_indexed() {
    let long = |i: usize| record("k", Value::Str(format!("{i:01000}")));
    let records: Vec<_> = (0..3_000).map(long).collect();
    let filter = field("k", FieldTest::Exists(true));
    let mut index = built(&filter, &records);
    assert!(index.covers(&filter), "it is not tried again");
    assert_eq!(index.select(&filter, &(0..3_000).collect()), None);
    assert!(index.bytes() < 1_000);
    index.clear();
    assert!(!index.covers(&filter));

    // The same through writes, after a build.
    let mut index = built(&filter, &records[..1]);
    for (slot, record) in (1..).zip(&records[1..]) {
        index.put(slot, Row::default(), record.row());
    }
    assert!(index.covers(&filter) && index.bytes() < 1_000);
    // Long values that many records share are.
    let records: Vec<_> = (0..3_000).map(|i| long(i % 10)).collect();
    assert!(built(&filter, &records).select(&filter, &(0..3_000).collect()).unwrap().exact);
}

#[test]
fn a_key_of_which_every_record_has_its_own_value_takes_bounded_bytes() {
    let bytes = |value: fn(i64) -> Value| {
        let records: Vec<_> = (0..20_000).map(|i| record("k", value(i))).collect();
        built(&field("k", FieldTest::Exists(true)), &records).bytes() / records.len()
    };
    // A term of 24 bytes, a set of 24, and the memberships in three sets of all.
    let number = bytes(|i| Value::Int(i * 7_919 % 20_011));
    assert!((48..56).contains(&number), "{number}");
    let text = bytes(|i| Value::Str(format!("{:08}", i * 7_919 % 20_011)));
    assert!((48 + 8..48 + 8 + 24).contains(&text), "{text}");
    // Of a few values, each a bitmap: two bytes for a record, and again for the sets of all.
    let shared = bytes(|i| Value::Int(i % 30));
    assert!((2..5).contains(&shared), "{shared}");
}

#[test]
fn what_is_removed_gives_its_bytes_back() {
    let filter = Filter::And(vec![field("k", FieldTest::Exists(true)), contains("abc")]);
    let full = |i: i64| {
        let text = Some(format!("this is number {}", i * 7_919));
        Record { text, ..record("k", Value::Int(i)) }
    };
    let records: Vec<_> = (0..5_000).map(full).collect();
    let mut index = built(&filter, &records);
    let empty = built(&filter, &[]).bytes();
    for (slot, record) in (0..).zip(&records) {
        index.remove(slot, record.row());
    }
    assert!(index.bytes() < empty + 2_000, "{} {empty}", index.bytes());
    assert!(index.forget_oldest() > 0 && index.forget_oldest() > 0);
    assert_eq!(index.forget_oldest(), 0);
}

#[test]
fn the_number_of_keys_is_bounded_and_the_unused_make_room() {
    let records = vec![Record::default()];
    let live = [0].into_iter().collect();
    let filter = |n: usize| field(&format!("k{n}"), FieldTest::Exists(false));
    let mut index = MetadataIndex::new();
    let build = |index: &mut MetadataIndex, filter: &Filter| {
        let rows = (0..).zip(&records).map(|(slot, record)| (slot, record.row()));
        index.build(filter, rows, &mut || Ok(())).unwrap();
    };
    build(&mut index, &Filter::And((0..100).map(filter).collect()));
    let indexed = |index: &MetadataIndex| {
        (0..200).filter(|n| index.select(&filter(*n), &live).is_some()).count()
    };
    assert_eq!(indexed(&index), 64);
    build(&mut index, &filter(150));
    assert!(index.covers(&filter(150)), "there is no room, so there is nothing to build");
    assert_eq!(index.select(&filter(150), &live), None);
    for _ in 0..5_000 {
        index.select(&filter(0), &live);
    }
    build(&mut index, &filter(150));
    assert_eq!(indexed(&index), 64);
    assert!(index.select(&filter(150), &live).is_some_and(|found| found.exact));
    assert!(index.select(&filter(0), &live).is_some(), "what is used stays");
}

#[test]
fn the_longest_unused_is_forgotten_first() {
    let records: Vec<_> = (0..100).map(|i| record("k", Value::Int(i))).collect();
    let (k, l) = (field("k", FieldTest::Exists(true)), field("l", FieldTest::Exists(true)));
    let mut index = built(&Filter::And(vec![k.clone(), l.clone()]), &records);
    let live = (0..100).collect();
    index.select(&l, &live);
    index.select(&k, &live);
    index.forget_oldest();
    assert!(index.covers(&k) && !index.covers(&l));
}

#[test]
fn slots_far_apart_are_found() {
    let records: Vec<_> = (0..3_000).map(|i| record("k", Value::Int(i))).collect();
    let slot = |i: u32| u32::MAX - 1_431_655 * i;
    let mut index = MetadataIndex::new();
    let all = field("k", FieldTest::Exists(true));
    let rows = (0..).zip(&records).map(|(i, record)| (slot(i), record.row()));
    index.build(&all, rows, &mut || Ok(())).unwrap();
    let live = (0..3_000).map(slot).collect();
    let found = index.select(&field("k", FieldTest::Lt(Value::Int(1_200))), &live).unwrap();
    assert_eq!(found.slots, (0..1_200).map(slot).collect());
}
