//! SQL of filters and orders: what it looks like, and that a server means by it what
//! [`CompiledFilter`] means.
//!
//! `TENANTRY_TEST_POSTGRES` is the URL of a server with a database in UTF-8; only a temporary
//! table is made there.

use super::super::fields::fields;
use super::*;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use std::cmp::Ordering;
use tenantry_index::CompiledFilter;
use tenantry_types::{Limits, Metadata, TextTest};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

const KEYS: [&str; 12] =
    ["k", "l", "K", "", "\0", "\u{1}", "\u{1}\u{1}", "k\0", "i", "é", "\"", "'; --$1\\"];

#[rustfmt::skip]
const TEXTS: [&str; 34] = [
    "", " ", "a", "A", "b", "ab", "B", "\0", "\0\0", "\u{1}", "\u{1}\u{1}", "\u{1}\u{2}", "\u{2}",
    "a\0", "a\u{1}", "a\0b", "\n", "\u{1f}", "\u{7f}", "é", "e\u{301}", "\u{e000}", "\u{ffff}",
    "😀", "1", "1.0", "true", "null", "\"", "\\", "\\u0000", "'", "$1", "{\"i\": [2]}",
];

#[rustfmt::skip]
const INTS: [i64; 18] = [
    0, 1, -1, 2, 3, i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, i64::MAX - 512,
    1 << 53, (1 << 53) + 1, (1 << 53) - 1, -(1 << 53), -(1 << 53) - 1, (1 << 60) + 1, 1 << 62, 10,
];

#[rustfmt::skip]
const FLOATS: [f64; 32] = [
    0.0, -0.0, 1.0, -1.0, 2.0, 0.1, 0.3, 0.1 + 0.2, 0.5, 1.5, -1.5, 2.000_000_000_000_000_4,
    9_007_199_254_740_991.0, 9_007_199_254_740_992.0, 9_007_199_254_740_994.0,
    -9_007_199_254_740_992.0, 4_503_599_627_370_495.5, 4_503_599_627_370_496.0,
    9_223_372_036_854_774_784.0, 9_223_372_036_854_775_808.0, -9_223_372_036_854_775_808.0,
    9_223_372_036_854_777_856.0, 18_446_744_073_709_551_616.0, -9_223_372_036_854_777_856.0,
    1e22, 1e23, 1e308, f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324,
];

fn int() -> impl Strategy<Value = i64> {
    prop_oneof![8 => prop::sample::select(INTS.to_vec()), 1 => any::<i64>()]
}

fn float() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    prop_oneof![
        8 => prop::sample::select(FLOATS.to_vec()),
        1 => int().prop_map(|int| int as f64),
        1 => int().prop_map(|int| (int as f64).next_up()),
        1 => NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE,
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned),
        1 => prop::collection::vec(prop::sample::select(TEXTS.to_vec()), 2..4)
            .prop_map(|parts| parts.concat()),
        1 => any::<String>(),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => any::<bool>().prop_map(Value::Bool),
        3 => int().prop_map(Value::Int),
        3 => float().prop_map(Value::Float),
        3 => text().prop_map(Value::Str),
    ]
}

fn list() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::collection::vec(any::<bool>().prop_map(Value::Bool), 0..3),
        prop::collection::vec(int().prop_map(Value::Int), 0..6),
        prop::collection::vec(float().prop_map(Value::Float), 0..6),
        prop::collection::vec(text().prop_map(Value::Str), 0..6),
    ]
    .prop_map(Value::List)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![3 => scalar(), 2 => list()]
}

/// What a filter may name: also what no record has.
fn operand() -> impl Strategy<Value = Value> {
    let strange = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(Value::Float).to_vec();
    prop_oneof![20 => scalar(), 1 => list(), 1 => prop::sample::select(strange)]
}

fn key() -> impl Strategy<Value = String> {
    // The first comes often, so that filters find something.
    prop_oneof![Just(KEYS[0]), prop::sample::select(KEYS.to_vec())].prop_map(str::to_owned)
}

fn test() -> impl Strategy<Value = FieldTest> {
    let operands = || prop::collection::vec(operand(), 0..40);
    prop_oneof![
        operand().prop_map(FieldTest::Eq),
        operand().prop_map(FieldTest::Ne),
        operand().prop_map(FieldTest::Gt),
        operand().prop_map(FieldTest::Gte),
        operand().prop_map(FieldTest::Lt),
        operand().prop_map(FieldTest::Lte),
        operands().prop_map(FieldTest::In),
        operands().prop_map(FieldTest::NotIn),
        operand().prop_map(FieldTest::Contains),
        operand().prop_map(FieldTest::NotContains),
        any::<bool>().prop_map(FieldTest::Exists),
    ]
}

fn on_text() -> impl Strategy<Value = Filter> {
    prop_oneof![
        "[ab]{0,2}".prop_map(TextTest::Contains),
        "[ab]{0,2}".prop_map(TextTest::NotContains),
        "[ab]{0,2}".prop_map(TextTest::Regex),
        "[ab]{0,2}".prop_map(TextTest::NotRegex),
    ]
    .prop_map(Filter::Text)
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        12 => (key(), test()).prop_map(|(key, test)| Filter::Field { key, test }),
        1 => on_text(),
    ];
    leaf.prop_recursive(4, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..4).prop_map(Filter::Or),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

/// Metadata and text.
type Item = (Option<Metadata>, Option<String>);

fn item() -> impl Strategy<Value = Item> {
    let metadata = prop::collection::btree_map(key(), value(), 0..6);
    (prop::option::weighted(0.95, metadata), prop::option::of("[ab]{0,4}"))
}

fn generated<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::default();
    let one = |_| strategy.new_tree(&mut runner).expect("nothing is rejected").current();
    (0..count).map(one).collect()
}

/// A session with a temporary table of records.
struct Server {
    runtime: Runtime,
    client: Client,
    items: Vec<Item>,
}

impl Server {
    fn with(items: Vec<Item>) -> Self {
        let url = std::env::var("TENANTRY_TEST_POSTGRES")
            .expect("TENANTRY_TEST_POSTGRES must be the URL of a PostgreSQL for tests");
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
            tokio::spawn(connection);
            client
        });
        let server = Self { runtime, client, items };
        server.run(
            "SET search_path = pg_catalog, pg_temp; SET jit = off; \
             CREATE TEMPORARY TABLE records (ordinal bigint PRIMARY KEY, fields jsonb NOT NULL)",
        );
        let clear =
            server.items.iter().map(|(metadata, _)| fields(metadata.as_ref(), Some(7))).collect();
        let clear = [Param::Texts(clear)];
        server.rows(
            "INSERT INTO records SELECT n - 1, f::jsonb FROM unnest($1::text[]) \
                     WITH ORDINALITY x(f, n) RETURNING ordinal",
            &clear,
        );
        server.run("ANALYZE records");
        server
    }

    fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).expect(sql);
    }

    /// From now on every condition that an index can answer is answered by one.
    fn use_index(&self) {
        self.run(
            "CREATE INDEX ON records USING gin (fields jsonb_path_ops); SET enable_seqscan = off; \
             SET enable_indexscan = off",
        );
    }

    fn rows(&self, sql: &str, params: &[Param]) -> Vec<tokio_postgres::Row> {
        let params: Vec<_> = params.iter().cloned().map(Param::into_typed).collect();
        let params: Vec<(&(dyn ToSql + Sync), Type)> =
            params.iter().map(|(value, of)| (&**value as _, of.clone())).collect();
        let answer = self.runtime.block_on(self.client.query_typed(sql, &params));
        answer.unwrap_or_else(|error| panic!("{error:?}\n{sql:.2000}"))
    }

    /// The records that the condition lets through, by their places.
    fn matching(&self, filter: &Filter) -> Vec<usize> {
        // A parameter before, so that numbers must continue from it.
        let Sql { text, params } = compile(filter, "r.fields", 2).unwrap();
        let params: Vec<_> = [Param::Text("0".into())].into_iter().chain(params).collect();
        let from = "SELECT ordinal FROM records r WHERE ordinal >= $1::text::bigint AND";
        let sql = format!("{from} {text} ORDER BY ordinal");
        self.rows(&sql, &params).iter().map(ordinal).collect()
    }

    fn check(&self, filter: &Filter) {
        let compiled = CompiledFilter::compile(filter).unwrap();
        let (found, exact) = (self.matching(filter), !filter.needs_text());
        for (place, (metadata, document)) in self.items.iter().enumerate() {
            let expected = compiled.matches(metadata.as_ref(), document.as_deref());
            let got = found.binary_search(&place).is_ok();
            let agrees = if exact { got == expected } else { got || !expected };
            assert!(agrees, "found: {got}, by the filter: {expected}: {metadata:?}, {document:?}");
        }
    }

    fn check_all(&self, filters: &impl Strategy<Value = Filter>, cases: u32) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(filters, |filter| {
            self.check(&filter);
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{failure}"));
    }
}

fn ordinal(row: &tokio_postgres::Row) -> usize {
    usize::try_from(row.get::<_, i64>(0)).unwrap()
}

fn on(key: &str, test: FieldTest) -> Filter {
    Filter::Field { key: key.into(), test }
}

#[test]
fn a_server_finds_what_the_filter_means() {
    let server = Server::with(generated(&item(), 400));
    server.check_all(&filter(), 500);
    server.use_index();
    server.check_all(&filter(), 300);
}

/// Each of the nasty values against each, by every test.
#[test]
fn a_server_compares_all_scalars_alike() {
    let ints = INTS.map(Value::Int).into_iter();
    let floats = FLOATS.map(Value::Float).into_iter();
    let texts = TEXTS.map(|text| Value::Str(text.into())).into_iter();
    let all: Vec<_> =
        ints.chain(floats).chain(texts).chain([true, false].map(Value::Bool)).collect();
    let both = |value: &Value| [value.clone(), Value::List(vec![value.clone()])];
    let metadata = |value| (Some(Metadata::from([("k".into(), value)])), None);
    let server = Server::with(all.iter().flat_map(both).map(metadata).collect());
    let tests: [fn(Value) -> FieldTest; 6] = [
        FieldTest::Eq,
        |value| FieldTest::In(vec![value]),
        FieldTest::Contains,
        FieldTest::Lt,
        FieldTest::Lte,
        FieldTest::Gt,
    ];
    for value in &all {
        for test in tests {
            server.check(&on("k", test(value.clone())));
        }
    }
}

/// As `Order::Key` says.
fn by_key(one: Option<&Value>, two: Option<&Value>, descending: bool) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::Str(_) => 1,
        Value::Bool(_) | Value::List(_) => 2,
    };
    match (one, two) {
        (Some(one), Some(two)) => {
            let values = || one.compare(two).unwrap_or(Ordering::Equal);
            let by = rank(one).cmp(&rank(two)).then_with(values);
            if descending { by.reverse() } else { by }
        }
        _ => two.is_some().cmp(&one.is_some()),
    }
}

#[test]
fn a_server_sorts_as_the_order_means() {
    let server = Server::with(generated(&item(), 600));
    for (key, descending) in KEYS.iter().flat_map(|key| [(key, false), (key, true)]) {
        let of = |place: usize| server.items[place].0.as_ref().and_then(|all| all.get(*key));
        let mut expected: Vec<_> = (0..server.items.len()).collect();
        expected.sort_by(|a, b| by_key(of(*a), of(*b), descending).then(a.cmp(b)));
        let Sql { text, params, .. } = order(key, descending, "fields", 1);
        let sql = format!("SELECT ordinal FROM records ORDER BY {text}, ordinal");
        let sorted: Vec<_> = server.rows(&sql, &params).iter().map(ordinal).collect();
        assert_eq!(sorted, expected, "{key:?}, descending: {descending}");
    }
}

#[test]
fn a_server_takes_the_largest_metadata_and_filters() {
    let many = |i: i64| (format!("{i:\0>1000}"), Value::Int(i));
    let count = i64::try_from(Limits::METADATA_KEYS_MAX).unwrap();
    let wide: Metadata = (0..count).map(many).collect();
    let long = Value::Str("\0".repeat(Limits::METADATA_BYTES_MAX - 100));
    let floats = Value::List(vec![Value::Float(-f64::MIN_POSITIVE); 30_000]);
    let large = [("l".into(), long.clone())];
    let listed = [("k".into(), floats)];
    let all = [wide, Metadata::from(large), Metadata::from(listed)];
    let server = Server::with(all.map(|metadata| (Some(metadata), None)).to_vec());
    server.check(&on("l", FieldTest::Eq(long.clone())));
    server.check(&on("l", FieldTest::Gte(long)));
    server.check(&on("k", FieldTest::Contains(Value::Float(-f64::MIN_POSITIVE))));

    // Each condition reads the whole metadata of a record anew, so few on large ones.
    let each = |i| on(&many(i).0, FieldTest::Lt(Value::Float(0.5)));
    server.check(&Filter::Or((900..950).map(each).collect()));

    let narrow = (0..count).map(|i| (i.to_string(), Value::Int(i))).collect();
    let server = Server::with(vec![(Some(narrow), None)]);
    let terms = i64::try_from(Limits::FILTER_TERMS_MAX - 1).unwrap();
    server.check(&on("7", FieldTest::In((0..terms).map(Value::Int).collect())));
    let nested = |filter, _| Filter::Not(Box::new(Filter::And(vec![filter])));
    for joined in [Filter::And, Filter::Or] {
        let each = |i: i64| on(&i.to_string(), FieldTest::Lt(Value::Float(0.5)));
        let flat = joined((0..terms).map(each).collect());
        // The caller's filter and its key's, one in the other.
        server.check(&(0..Limits::DEPTH_MAX).fold(flat, nested));
    }
    server.use_index();
    for joined in [Filter::And, Filter::Or] {
        let equal = |i: i64| on(&i.to_string(), FieldTest::Eq(Value::Int(i)));
        server.check(&joined((0..terms).map(equal).collect()));
    }
}

#[test]
fn an_index_serves_equality_and_elements() {
    let server = Server::with(generated(&item(), 50));
    server.use_index();
    let served = |filter: &Filter| {
        let Sql { text, params, .. } = compile(filter, "fields", 1).unwrap();
        let plan =
            server.rows(&format!("EXPLAIN SELECT ordinal FROM records WHERE {text}"), &params);
        plan.iter().any(|row| row.get::<_, &str>(0).contains("Index Cond: (fields @>"))
    };
    let equal = || on("k", FieldTest::Eq(Value::Int(1)));
    let element = || on("k", FieldTest::Contains(Value::Int(1)));
    assert!(served(&equal()));
    assert!(served(&Filter::And(vec![equal(), on("k", FieldTest::Exists(true))])));
    assert!(served(&Filter::Or(vec![equal(), element()])));
    assert!(!served(&on("k", FieldTest::In(vec![Value::Int(1)]))));
    assert!(!served(&on("k", FieldTest::Gt(Value::Int(1)))));
}

fn sql(filter: &Filter, first: usize) -> (String, Vec<String>) {
    let Sql { text, params, .. } = compile(filter, "f", first).unwrap();
    let shown = |param| match param {
        Param::Text(text) => text,
        Param::Texts(texts) => texts.join(" "),
    };
    (text, params.into_iter().map(shown).collect())
}

#[test]
fn values_are_parameters_numbered_from_the_first() {
    let filter = Filter::And(vec![
        on("a", FieldTest::Eq(Value::Int(1))),
        on("b", FieldTest::Gt(Value::Float(0.5))),
        on("c", FieldTest::Lte(Value::Str("x\0".into()))),
        on("d", FieldTest::NotIn(vec![Value::Bool(true), Value::Str("'".into())])),
        Filter::Not(Box::new(on("e", FieldTest::Exists(true)))),
        on("f", FieldTest::Contains(Value::Float(2.0))),
    ]);
    let (text, params) = sql(&filter, 5);
    let expected = "((f @> $5::text::jsonb) \
        AND (CASE WHEN jsonb_typeof(f -> $6::text) = 'number' \
        THEN (f -> $6::text)::numeric > $7::text::numeric ELSE false END) \
        AND (CASE WHEN jsonb_typeof(f -> $8::text) = 'string' \
        THEN (f ->> $8::text) COLLATE \"C\" <= $9::text ELSE false END) \
        AND (NOT coalesce(f -> $10::text = ANY ($11::text[]::jsonb[]), false)) \
        AND (NOT (f ? $12::text)) \
        AND (f @> $13::text::jsonb))";
    assert_eq!(text, expected);
    let expected = [
        r#"{"a":1}"#,
        "b",
        "5e-1",
        "c",
        "x\u{1}\u{1}",
        "d",
        r#"true "'""#,
        "e",
        r#"{"f":{"f":[2]}}"#,
    ];
    assert_eq!(params, expected);

    let Sql { text, params, .. } = order("\0", true, "f", 3);
    assert!(text.starts_with("(f ? $3::text) DESC, (CASE jsonb_typeof(f -> $3::text) "));
    assert!(params == [Param::Text("\u{1}\u{1}".into())]);
}

#[test]
fn what_holds_never_or_always_needs_no_parameter() {
    let never = [
        Filter::Or(Vec::new()),
        on("k", FieldTest::Eq(Value::List(Vec::new()))),
        on("k", FieldTest::In(vec![Value::Float(f64::NAN)])),
        on("k", FieldTest::Contains(Value::List(Vec::new()))),
        on("k", FieldTest::Gt(Value::Bool(false))),
    ];
    for filter in never {
        assert_eq!(sql(&filter, 1), ("false".to_owned(), Vec::new()), "{filter:?}");
    }
    assert_eq!(sql(&Filter::And(Vec::new()), 1).0, "true");
}

/// The server must not keep from the node what the text may let through.
#[test]
fn conditions_on_texts_let_through() {
    let part = || Filter::Text(TextTest::Contains("a".into()));
    let no_match = || Filter::Text(TextTest::NotRegex("a".into()));
    let field = || on("k", FieldTest::Exists(true));
    let not = |filter| Filter::Not(Box::new(filter));
    for (filter, text) in [
        (part(), "true"),
        (no_match(), "true"),
        (not(part()), "(NOT false)"),
        (not(not(no_match())), "(NOT (NOT true))"),
        (Filter::And(vec![part(), field()]), "(true AND (f ? $1::text))"),
        (not(Filter::Or(vec![part(), field()])), "(NOT (false OR (f ? $1::text)))"),
    ] {
        assert_eq!(sql(&filter, 1).0, text);
    }
}

#[test]
fn a_statement_has_a_largest_number_of_parameters() {
    let filter = Filter::Or(vec![on("k", FieldTest::Exists(true)); 10]);
    assert!(compile(&filter, "f", PARAMS_MAX - 9).is_ok());
    let error = compile(&filter, "f", PARAMS_MAX - 8).err().expect("one too many");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}
