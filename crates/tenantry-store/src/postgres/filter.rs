//! Filters and orders over [`fields`](super::fields) as SQL.
//!
//! The law is `tenantry_index::CompiledFilter`, and the tests here hold both together. What a
//! caller sent is only ever a parameter. Names and operators are those of `pg_catalog`, which must
//! be the whole search path.
//!
//! Conditions are two-valued: the column is never null, `@>` and `?` are then never null, each
//! `CASE` has an `ELSE` and each `= ANY` a `coalesce`. So `NOT` is the negation.
//!
//! An index `GIN (fields jsonb_path_ops)` serves equality and elements of lists, which are `@>`,
//! and `AND` and `OR` of them; nothing else. None of the operators is leakproof, so under row-level
//! security they are asked of the tenant's own rows only, and never of an index.
//!
//! Each condition reads a record's metadata anew. Where that is large, so that the server keeps it
//! compressed, this is what a filter costs: up to a millisecond a condition and record for the
//! largest. What bounds it is the statement's timeout.
//!
//! Nesting is bounded by the engine ([`Limits::DEPTH_MAX`](tenantry_types::Limits::DEPTH_MAX) in
//! each of the caller's and the key's filter), far below what the server's stack takes; should it
//! be set too small, the server says 54001, which is not the caller's to see and is mapped where
//! failures are. `AND` and `OR` of many are flat for its parser.

use super::fields;
use tenantry_types::{Error, ErrorKind, FieldTest, Filter, Result, Value};
use tokio_postgres::types::{ToSql, Type};

/// Parameters of one statement, a bound of the protocol.
const PARAMS_MAX: usize = u16::MAX as usize;

/// A piece of SQL with its parameters, which are numbered from where the caller said.
pub(crate) struct Sql {
    /// A condition in parentheses or a word; or the terms of an order.
    pub(crate) text: String,
    pub(crate) params: Vec<Param>,
}

/// A parameter.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Param {
    /// `text`
    Text(String),
    /// `text[]`
    Texts(Vec<String>),
}

impl Param {
    /// The parameter and its type.
    pub(crate) fn into_typed(self) -> (Box<dyn ToSql + Send + Sync>, Type) {
        match self {
            Self::Text(text) => (Box::new(text), Type::TEXT),
            Self::Texts(texts) => (Box::new(texts), Type::TEXT_ARRAY),
        }
    }
}

/// A filter over `column`, which has [`fields`](super::fields::fields) and is never null.
///
/// `first` is the number of the first parameter. The column is a literal of this crate: text that
/// anybody sent cannot become SQL. Texts are sealed, so conditions on them cannot be asked of the
/// server: with such, it lets more records through than the filter, never fewer.
///
/// `TooLarge` if there are more parameters than one statement takes.
pub(crate) fn compile(filter: &Filter, column: &'static str, first: usize) -> Result<Sql> {
    let mut writer = Writer { column, first, text: String::new(), params: Vec::new() };
    writer.filter(filter, false);
    let Writer { text, params, .. } = writer;
    if first + params.len() > PARAMS_MAX + 1 {
        return Err(Error::new(ErrorKind::TooLarge, "filter: too many conditions"));
    }
    Ok(Sql { text, params })
}

/// The terms of an order by one key, for behind `ORDER BY` and before the caller's own term that
/// settles ties: numbers by value, then texts, then other kinds, turned round if `descending`; in
/// both cases records without the key come last.
pub(crate) fn order(key: &str, descending: bool, column: &'static str, first: usize) -> Sql {
    let value = format!("{column} -> ${first}::text");
    let kind = format!("jsonb_typeof({value})");
    let way = if descending { "DESC" } else { "ASC" };
    // Within one kind each term is null for all records or for none.
    let text = format!(
        "({column} ? ${first}::text) DESC, \
         (CASE {kind} WHEN 'number' THEN 0 WHEN 'string' THEN 1 ELSE 2 END) {way}, \
         (CASE WHEN {kind} = 'number' THEN ({value})::numeric END) {way}, \
         (CASE WHEN {kind} = 'string' THEN {column} ->> ${first}::text END) COLLATE \"C\" {way}"
    );
    Sql { text, params: vec![Param::Text(fields::key_text(key))] }
}

struct Writer {
    column: &'static str,
    first: usize,
    text: String,
    params: Vec<Param>,
}

impl Writer {
    fn push(&mut self, sql: &str) {
        self.text.push_str(sql);
    }

    /// The next parameter, as it is named in the text.
    fn bind(&mut self, param: Param) -> String {
        self.params.push(param);
        format!("${}", self.first + self.params.len() - 1)
    }

    fn key(&mut self, key: &str) -> String {
        self.bind(Param::Text(fields::key_text(key)))
    }

    /// `is_negated`: an odd number of negations is around it. A condition on a text is then
    /// false, else true: the whole lets through what any text would.
    fn filter(&mut self, filter: &Filter, is_negated: bool) {
        match filter {
            Filter::And(parts) => self.joined(parts, " AND ", "true", is_negated),
            Filter::Or(parts) => self.joined(parts, " OR ", "false", is_negated),
            Filter::Not(part) => self.not(|writer| writer.filter(part, !is_negated)),
            Filter::Field { key, test } => self.field(key, test),
            Filter::Text(_) => self.push(if is_negated { "false" } else { "true" }),
        }
    }

    fn joined(&mut self, parts: &[Filter], by: &str, empty: &str, is_negated: bool) {
        if parts.is_empty() {
            return self.push(empty);
        }
        for (at, part) in parts.iter().enumerate() {
            self.push(if at == 0 { "(" } else { by });
            self.filter(part, is_negated);
        }
        self.text.push(')');
    }

    fn not(&mut self, part: impl FnOnce(&mut Self)) {
        self.push("(NOT ");
        part(self);
        self.text.push(')');
    }

    fn field(&mut self, key: &str, test: &FieldTest) {
        match test {
            FieldTest::Eq(value) => self.contains(fields::equal_to(key, value)),
            FieldTest::Ne(value) => self.not(|w| w.contains(fields::equal_to(key, value))),
            FieldTest::Gt(bound) => self.ordered(key, ">", bound),
            FieldTest::Gte(bound) => self.ordered(key, ">=", bound),
            FieldTest::Lt(bound) => self.ordered(key, "<", bound),
            FieldTest::Lte(bound) => self.ordered(key, "<=", bound),
            FieldTest::In(values) => self.among(key, values),
            FieldTest::NotIn(values) => self.not(|w| w.among(key, values)),
            FieldTest::Contains(value) => self.contains(fields::with_element(key, value)),
            FieldTest::NotContains(value) => {
                self.not(|w| w.contains(fields::with_element(key, value)));
            }
            FieldTest::Exists(true) => self.exists(key),
            FieldTest::Exists(false) => self.not(|w| w.exists(key)),
        }
    }

    /// The fields contain this object; nothing contains `None`.
    fn contains(&mut self, object: Option<String>) {
        let Some(object) = object else { return self.push("false") };
        let object = self.bind(Param::Text(object));
        self.push(&format!("({} @> {object}::text::jsonb)", self.column));
    }

    fn exists(&mut self, key: &str) {
        let key = self.key(key);
        self.push(&format!("({} ? {key}::text)", self.column));
    }

    /// Numbers with numbers, texts with texts. `CASE`, because the cast fails for other kinds and
    /// the parts of an `AND` have no order.
    fn ordered(&mut self, key: &str, operator: &str, bound: &Value) {
        let (kind, bound) = match bound {
            Value::Int(_) | Value::Float(_) => ("number", fields::scalar(bound)),
            Value::Str(text) => ("string", Some(fields::key_text(text))),
            Value::Bool(_) | Value::List(_) => ("", None),
        };
        let Some(bound) = bound else { return self.push("false") };
        let (key, bound, f) = (self.key(key), self.bind(Param::Text(bound)), self.column);
        let compared = if kind == "number" {
            format!("({f} -> {key}::text)::numeric {operator} {bound}::text::numeric")
        } else {
            format!("({f} ->> {key}::text) COLLATE \"C\" {operator} {bound}::text")
        };
        self.push(&format!(
            "(CASE WHEN jsonb_typeof({f} -> {key}::text) = '{kind}' THEN {compared} ELSE false END)"
        ));
    }

    /// The server hashes the values once they are more than a few, so one form does for all
    /// lengths; no index serves it.
    fn among(&mut self, key: &str, values: &[Value]) {
        let values: Vec<_> = values.iter().filter_map(fields::scalar).collect();
        if values.is_empty() {
            return self.push("false");
        }
        let (key, values) = (self.key(key), self.bind(Param::Texts(values)));
        self.push(&format!(
            "coalesce({} -> {key}::text = ANY ({values}::text[]::jsonb[]), false)",
            self.column
        ));
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
