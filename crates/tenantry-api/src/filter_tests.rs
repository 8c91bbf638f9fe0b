//! The filter grammar, by example and by round trip.

use super::*;
use proptest::prelude::*;

fn field(key: &str, test: FieldTest) -> Filter {
    Filter::Field { key: key.to_owned(), test }
}

fn check(text: &str, expect: &Filter) {
    let json: Json = serde_json::from_str(text).unwrap();
    assert_eq!(parse(&json).as_ref(), Ok(expect), "{text}");
}

fn refused(text: &str, expect: &str) {
    let json: Json = serde_json::from_str(text).unwrap();
    let why = parse(&json).unwrap_err();
    assert!(why.starts_with(expect), "{text}\n said {why}\n want {expect}");
}

#[test]
fn a_scalar_means_equal() {
    check(r#"{"a": 1}"#, &field("a", FieldTest::Eq(Value::Int(1))));
    check(r#"{"a": 1.0}"#, &field("a", FieldTest::Eq(Value::Float(1.0))));
    check(r#"{"a": "x"}"#, &field("a", FieldTest::Eq(Value::Str("x".into()))));
    check(r#"{"a": true}"#, &field("a", FieldTest::Eq(Value::Bool(true))));
    check(r#"{"": -1}"#, &field("", FieldTest::Eq(Value::Int(-1))));
}

#[test]
fn several_members_and_operators_all_hold() {
    check(
        r#"{"a": {"$gte": 1, "$lt": 2}, "b": "x"}"#,
        &Filter::And(vec![
            field("a", FieldTest::Gte(Value::Int(1))),
            field("a", FieldTest::Lt(Value::Int(2))),
            field("b", FieldTest::Eq(Value::Str("x".into()))),
        ]),
    );
}

#[test]
fn every_operator_is_known() {
    let one = Value::Int(1);
    for (operator, test) in [
        ("$eq", FieldTest::Eq(one.clone())),
        ("$ne", FieldTest::Ne(one.clone())),
        ("$gt", FieldTest::Gt(one.clone())),
        ("$gte", FieldTest::Gte(one.clone())),
        ("$lt", FieldTest::Lt(one.clone())),
        ("$lte", FieldTest::Lte(one.clone())),
        ("$contains", FieldTest::Contains(one.clone())),
        ("$not_contains", FieldTest::NotContains(one.clone())),
    ] {
        check(&format!(r#"{{"a": {{"{operator}": 1}}}}"#), &field("a", test));
    }
    check(r#"{"a": {"$in": [1, "x"]}}"#, &{
        field("a", FieldTest::In(vec![one.clone(), Value::Str("x".into())]))
    });
    check(r#"{"a": {"$nin": []}}"#, &field("a", FieldTest::NotIn(vec![])));
    check(r#"{"a": {"$exists": false}}"#, &field("a", FieldTest::Exists(false)));
    check(
        r#"{"$document": {"$contains": "x", "$not_regex": "^y"}}"#,
        &Filter::And(vec![
            Filter::Text(TextTest::Contains("x".into())),
            Filter::Text(TextTest::NotRegex("^y".into())),
        ]),
    );
    check(r#"{"$not": {"$or": []}}"#, &Filter::Not(Box::new(Filter::Or(vec![]))));
}

#[test]
fn errors_name_the_place() {
    refused("[]", "filter: must be an object, not a list");
    refused(r#"{"a": null}"#, "filter.a: null is no value");
    refused(r#"{"a": [1]}"#, "filter.a: a list needs an operator");
    refused(r#"{"a": {}}"#, "filter.a: an operator such as $eq is missing");
    refused(r#"{"a": {"$like": 1}}"#, "filter.a.$like: unknown operator");
    refused(r#"{"$nor": []}"#, "filter.$nor: unknown operator");
    refused(r#"{"$and": {"a": 1}}"#, "filter.$and: must be a list, not an object");
    refused(r#"{"$and": [{}, {"price": {"$gt": {}}}]}"#, "filter.$and[1].price.$gt: must be");
    refused(r#"{"a b": {"$in": [1, null]}}"#, r#"filter["a b"].$in[1]: null"#);
    refused(r#"{"$document": "x"}"#, "filter.$document: must be an object, not a text");
    refused(r#"{"$document": {"$regex": 1}}"#, "filter.$document.$regex: must be a text");
    refused(r#"{"a": {"$exists": 1}}"#, "filter.a.$exists: must be true or false");
    refused(r#"{"a": 9223372036854775808}"#, "filter.a: integers must fit");
}

#[test]
fn depth_is_bounded() {
    let nested = |levels| {
        let mut json = json!({ "a": 1 });
        for _ in 0..levels {
            json = json!({ "$not": json });
        }
        json
    };
    assert!(parse(&nested(Limits::DEPTH_MAX)).is_ok());
    let why = parse(&nested(Limits::DEPTH_MAX + 1)).unwrap_err();
    assert!(why.contains("nested deeper than 64 levels"), "{why}");
    let bottomless = format!("{}1{}", r#"{"$not":"#.repeat(100_000), "}".repeat(100_000));
    assert!(serde_json::from_str::<FilterIn>(&bottomless).is_err());
}

#[test]
fn an_empty_filter_says_nothing() {
    assert_eq!(serde_json::from_str::<FilterIn>("{}").unwrap(), FilterIn(None));
    let all = serde_json::from_str::<FilterIn>(r#"{"$and": []}"#).unwrap();
    assert_eq!(all, FilterIn(Some(Filter::And(vec![]))));
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-1e300..1e300).prop_map(Value::Float),
        ".{0,8}".prop_map(Value::Str),
    ]
}

fn tests() -> impl Strategy<Value = FieldTest> {
    prop_oneof![
        values().prop_map(FieldTest::Eq),
        values().prop_map(FieldTest::Ne),
        values().prop_map(FieldTest::Gte),
        values().prop_map(FieldTest::NotContains),
        proptest::collection::vec(values(), 0..4).prop_map(FieldTest::In),
        any::<bool>().prop_map(FieldTest::Exists),
    ]
}

fn filters() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        ("[^$].{0,8}", tests()).prop_map(|(key, test)| Filter::Field { key, test }),
        ".{0,8}".prop_map(|text| Filter::Text(TextTest::Regex(text))),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|one| Filter::Not(Box::new(one))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_rendered_parses_to_the_same(filter in filters()) {
        let text = render(&filter).to_string();
        let back = parse(&serde_json::from_str(&text).unwrap());
        prop_assert_eq!(back, Ok(filter));
    }
}
