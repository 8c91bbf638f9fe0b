//! Filters: the documented meaning, and an evaluator that follows it word by word.

use proptest::prelude::*;
use std::{cmp::Ordering, collections::BTreeMap};
use tenantry_index::CompiledFilter;
use tenantry_types::{Error, ErrorKind, FieldTest, Filter, Metadata, TextTest, Value};

fn equal(a: &Value, b: &Value) -> bool {
    !matches!(a, Value::List(_)) && a.equals(b)
}

/// The documentation of [`Filter`], in code.
fn naive(filter: &Filter, metadata: Option<&Metadata>, text: Option<&str>) -> bool {
    match filter {
        Filter::And(parts) => parts.iter().all(|part| naive(part, metadata, text)),
        Filter::Or(parts) => parts.iter().any(|part| naive(part, metadata, text)),
        Filter::Not(part) => !naive(part, metadata, text),
        Filter::Field { key, test } => naive_field(test, metadata.and_then(|all| all.get(key))),
        Filter::Text(TextTest::Contains(part)) => text.is_some_and(|text| text.contains(part)),
        Filter::Text(TextTest::NotContains(part)) => !text.is_some_and(|text| text.contains(part)),
        Filter::Text(TextTest::Regex(pattern)) => text.is_some_and(|text| is_match(pattern, text)),
        Filter::Text(TextTest::NotRegex(pattern)) => {
            !text.is_some_and(|text| is_match(pattern, text))
        }
    }
}

fn is_match(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).expect("the tests' own pattern").is_match(text)
}

fn naive_field(test: &FieldTest, value: Option<&Value>) -> bool {
    let order = |bound: &Value| value.and_then(|value| value.compare(bound));
    let within = |wanted: &Value| match value {
        Some(Value::List(items)) => {
            items.iter().any(|item| item.same_kind(wanted) && equal(item, wanted))
        }
        _ => false,
    };
    match test {
        FieldTest::Eq(wanted) => value.is_some_and(|value| equal(value, wanted)),
        FieldTest::Ne(wanted) => !value.is_some_and(|value| equal(value, wanted)),
        FieldTest::Gt(bound) => order(bound) == Some(Ordering::Greater),
        FieldTest::Gte(bound) => order(bound).is_some_and(Ordering::is_ge),
        FieldTest::Lt(bound) => order(bound) == Some(Ordering::Less),
        FieldTest::Lte(bound) => order(bound).is_some_and(Ordering::is_le),
        FieldTest::In(all) => value.is_some_and(|value| all.iter().any(|one| equal(value, one))),
        FieldTest::NotIn(all) => {
            !value.is_some_and(|value| all.iter().any(|one| equal(value, one)))
        }
        FieldTest::Contains(wanted) => within(wanted),
        FieldTest::NotContains(wanted) => !within(wanted),
        FieldTest::Exists(wanted) => value.is_some() == *wanted,
    }
}

fn any_scalar() -> impl Strategy<Value = Value> {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-20_i64..20).prop_map(Value::Int),
        (-40_i32..40).prop_map(|half| Value::Float(f64::from(half) / 2.0)),
        prop::sample::select(vec![i64::MIN, i64::MAX, i64::MAX - 1, 1 << 53, (1 << 53) + 1])
            .prop_map(Value::Int),
        prop::sample::select(vec![TWO_POW_63, -TWO_POW_63, -0.0, 9_007_199_254_740_992.0, 1e300])
            .prop_map(Value::Float),
        "[ab1]{0,2}".prop_map(Value::Str),
    ]
}

pub(crate) fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => any_scalar(),
        1 => prop::collection::vec(any_scalar(), 0..4).prop_map(Value::List),
    ]
}

pub(crate) fn any_test() -> impl Strategy<Value = FieldTest> {
    let values = || prop::collection::vec(any_value(), 0..40);
    prop_oneof![
        any_value().prop_map(FieldTest::Eq),
        any_value().prop_map(FieldTest::Ne),
        any_value().prop_map(FieldTest::Gt),
        any_value().prop_map(FieldTest::Gte),
        any_value().prop_map(FieldTest::Lt),
        any_value().prop_map(FieldTest::Lte),
        values().prop_map(FieldTest::In),
        values().prop_map(FieldTest::NotIn),
        any_value().prop_map(FieldTest::Contains),
        any_value().prop_map(FieldTest::NotContains),
        any::<bool>().prop_map(FieldTest::Exists),
    ]
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let pattern = || prop::sample::select(vec!["", "a", "^a", "b+$", "(?i)A", "^$", "é.", r"\d"]);
    let leaf = prop_oneof![
        6 => ("[kl]", any_test()).prop_map(|(key, test)| Filter::Field { key, test }),
        1 => "[aé]{0,2}".prop_map(|part| Filter::Text(TextTest::Contains(part))),
        1 => "[aé]{0,2}".prop_map(|part| Filter::Text(TextTest::NotContains(part))),
        1 => pattern().prop_map(|pattern| Filter::Text(TextTest::Regex(pattern.into()))),
        1 => pattern().prop_map(|pattern| Filter::Text(TextTest::NotRegex(pattern.into()))),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_compiled_filter_agrees_with_the_definition(
        filter in any_filter(),
        metadata in prop::option::weighted(0.9, prop::collection::btree_map("[kl]", any_value(), 0..3)),
        text in prop::option::of("[abéA1]{0,4}"),
    ) {
        let compiled = CompiledFilter::compile(&filter).unwrap();
        prop_assert_eq!(compiled.needs_text(), filter.needs_text());
        let expected = naive(&filter, metadata.as_ref(), text.as_deref());
        prop_assert_eq!(compiled.matches(metadata.as_ref(), text.as_deref()), expected);
        if !compiled.needs_text() {
            prop_assert_eq!(compiled.matches(metadata.as_ref(), None), expected);
        }
    }

    #[test]
    fn lists_of_any_length_hold_what_a_loop_would_find(
        values in prop::collection::vec(any_value(), 0..60), value in any_value()
    ) {
        let metadata = BTreeMap::from([("k".to_owned(), value.clone())]);
        let expected = values.iter().any(|one| equal(&value, one));
        for (test, expected) in
            [(FieldTest::In(values.clone()), expected), (FieldTest::NotIn(values), !expected)]
        {
            let filter = Filter::Field { key: "k".into(), test };
            let compiled = CompiledFilter::compile(&filter).unwrap();
            prop_assert_eq!(compiled.matches(Some(&metadata), None), expected);
        }
    }
}

/// Whether a record with `k` = `value` meets the test.
fn meets(value: Option<Value>, test: FieldTest) -> bool {
    let metadata = value.map(|value| BTreeMap::from([("k".to_owned(), value)]));
    let filter = Filter::Field { key: "k".into(), test };
    let compiled = CompiledFilter::compile(&filter).expect("no pattern, so no error");
    compiled.matches(metadata.as_ref(), None)
}

fn text(value: &str) -> Value {
    Value::Str(value.into())
}

#[test]
fn integers_and_floats_are_equal_by_number_except_inside_lists() {
    let many = |one: Value| (0..100).map(|i| Value::Int(1_000 + i)).chain([one]).collect();
    assert!(meets(Some(Value::Int(1)), FieldTest::Eq(Value::Float(1.0))));
    assert!(meets(Some(Value::Int(1)), FieldTest::In(vec![Value::Float(1.0)])));
    assert!(meets(Some(Value::Int(1)), FieldTest::In(many(Value::Float(1.0)))));
    assert!(meets(Some(Value::Float(-0.0)), FieldTest::In(many(Value::Int(0)))));
    assert!(!meets(Some(Value::Int(i64::MAX)), FieldTest::In(many(Value::Float(i64::MAX as f64)))));
    assert!(!meets(Some(text("1")), FieldTest::In(many(Value::Int(1)))));
    assert!(!meets(Some(Value::Bool(true)), FieldTest::Eq(Value::Int(1))));
    let ones = || Some(Value::List(vec![Value::Int(1)]));
    assert!(meets(ones(), FieldTest::Contains(Value::Int(1))));
    assert!(!meets(ones(), FieldTest::Contains(Value::Float(1.0))));
    assert!(meets(ones(), FieldTest::NotContains(Value::Float(1.0))));
}

#[test]
fn a_list_is_never_equal_to_anything() {
    let list = || Value::List(vec![text("a")]);
    assert!(!meets(Some(list()), FieldTest::Eq(list())));
    assert!(meets(Some(list()), FieldTest::Ne(list())));
    assert!(!meets(Some(list()), FieldTest::In(vec![list()])));
    assert!(!meets(Some(list()), FieldTest::Contains(list())));
    assert!(!meets(Some(list()), FieldTest::Gte(list())));
    assert!(!meets(Some(text("abc")), FieldTest::Contains(text("a"))));
}

#[test]
fn negations_match_what_is_missing_and_comparisons_do_not() {
    assert!(meets(None, FieldTest::Ne(Value::Int(1))));
    assert!(meets(None, FieldTest::NotIn(vec![Value::Int(1)])));
    assert!(meets(None, FieldTest::NotContains(Value::Int(1))));
    assert!(meets(None, FieldTest::Exists(false)));
    assert!(!meets(None, FieldTest::Exists(true)));
    assert!(!meets(None, FieldTest::Lt(Value::Int(1))));
    assert!(!meets(Some(text("a")), FieldTest::Lt(Value::Int(1))));
    assert!(!meets(Some(Value::Bool(false)), FieldTest::Lt(Value::Bool(true))));
    assert!(meets(Some(text("a")), FieldTest::Lt(text("b"))));
}

fn regex(pattern: &str) -> Filter {
    Filter::Text(TextTest::Regex(pattern.into()))
}

#[test]
fn text_conditions_follow_the_regex_crate() {
    let matches =
        |filter: &Filter, text| CompiledFilter::compile(filter).unwrap().matches(None, text);
    assert!(matches(&regex("b.d"), Some("abcde")));
    assert!(!matches(&regex("b.d"), Some("ab\nde")));
    assert!(!matches(&regex("B"), Some("b")));
    assert!(matches(&regex("(?i)B"), Some("b")));
    assert!(!matches(&regex(""), None));
    assert!(matches(&Filter::Text(TextTest::NotRegex("a".into())), None));
    assert!(matches(&Filter::Text(TextTest::NotContains("a".into())), None));
    let empty = Filter::Text(TextTest::Contains(String::new()));
    assert!(matches(&empty, Some("")) && matches(&empty, Some("a")) && !matches(&empty, None));
}

#[test]
fn bad_regular_expressions_are_the_callers_mistake() {
    for pattern in ["(", "a{2,1}", r"\k", &"(".repeat(5_000), r"(\w{100}){100}"] {
        let error = CompiledFilter::compile(&regex(pattern)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.public_message().starts_with("Regex syntax error: "), "{error}");
        let nested = Filter::Not(Box::new(Filter::Or(vec![regex("a"), regex(pattern)])));
        assert_eq!(CompiledFilter::compile(&nested).unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn the_number_of_regular_expressions_is_limited() {
    let filter = |n: usize| Filter::And((0..n).map(|i| regex(&format!("a{i}"))).collect());
    assert!(CompiledFilter::compile(&filter(16)).is_ok());
    let error = CompiledFilter::compile(&filter(17)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.public_message().contains("16"), "{error}");
}

#[test]
fn long_texts_are_looked_through_piece_by_piece() {
    let part = "needle".repeat(50_000);
    let text = |before: usize| format!("{}{part}{}", "x".repeat(before), "y".repeat(700_000));
    let contains = |part: &str| {
        let filter = Filter::Text(TextTest::Contains(part.to_owned()));
        CompiledFilter::compile(&filter).unwrap()
    };
    let filter = contains(&part);
    // Wherever it lies, also across the ends of pieces.
    for before in [0, 1, 262_143, 262_144, 262_145, 300_000] {
        assert!(filter.matches(None, Some(&text(before))), "{before}");
        assert!(!filter.matches(None, Some(&text(before).replace("needley", "needl_y"))));
    }
    assert!(contains("").matches(None, Some("")) && !contains("a").matches(None, Some("")));
    let two = Filter::Or(vec![
        Filter::Text(TextTest::Contains("absent".to_owned())),
        Filter::Text(TextTest::Regex("absent".to_owned())),
    ]);
    let two = CompiledFilter::compile(&two).unwrap();
    let mut paces = 0;
    let found = two.matches_paced(None, Some(&text(0)), &mut || {
        paces += 1;
        Ok(())
    });
    assert!(!found.unwrap() && paces >= 5, "{paces}");
    let stopped = two.matches_paced(None, Some(&text(0)), &mut || Err(Error::invalid("stop")));
    assert!(stopped.is_err());
}
