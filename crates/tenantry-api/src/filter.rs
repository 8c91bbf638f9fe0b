//! The native filter grammar, in JSON, both ways.
//!
//! ```text
//! filter   = { key: scalar | tests, … , "$and": [filter…], "$or": [filter…], "$not": filter,
//!              "$document": texts }                      all members hold
//! tests    = { "$eq" | "$ne" | "$gt" | "$gte" | "$lt" | "$lte": scalar,
//!              "$in" | "$nin": [scalar…], "$contains" | "$not_contains": scalar,
//!              "$exists": bool }                         all hold
//! texts    = { "$contains" | "$not_contains" | "$regex" | "$not_regex": text }   all hold
//! ```
//!
//! Errors name the place as a JSON path, for example `filter.$and[2].price.$gt`.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value as Json, json, value::RawValue};
use std::fmt;
use tenantry_engine::{FieldTest, Filter, Limits, TextTest, Value};

/// The longest filter in bytes of JSON: it is held as a tree, which can take a hundred times its
/// text. Four times as much as the most terms of 64 bytes.
const FILTER_BYTES_MAX: usize = 1 << 20;

/// A filter as it stands in a request; `None` if it is `{}`, which says nothing.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FilterIn(pub(crate) Option<Filter>);

impl<'de> Deserialize<'de> for FilterIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().len() > FILTER_BYTES_MAX {
            return Err(D::Error::custom(format!(
                "filter: at most {FILTER_BYTES_MAX} bytes are allowed"
            )));
        }
        let json: Json = serde_json::from_str(raw.get()).map_err(D::Error::custom)?;
        if json.as_object().is_some_and(Map::is_empty) {
            return Ok(Self(None));
        }
        parse(&json).map(|filter| Self(Some(filter))).map_err(D::Error::custom)
    }
}

/// Parses a filter; the message says where it went wrong.
pub(crate) fn parse(json: &Json) -> Result<Filter, String> {
    condition(json, &Place { parent: None, step: Step::Key("filter"), depth: 0 })
}

/// Parses a filter that somebody is to be bound to, which must narrow something.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_bound(json: &Json) -> Result<Filter, String> {
    let filter = parse(json)?;
    if holds_always(&filter) { Err("filter: it narrows nothing".to_owned()) } else { Ok(filter) }
}

/// The filter as [`parse`] reads it.
pub(crate) fn render(filter: &Filter) -> Json {
    match filter {
        Filter::And(all) => json!({ "$and": all.iter().map(render).collect::<Vec<_>>() }),
        Filter::Or(all) => json!({ "$or": all.iter().map(render).collect::<Vec<_>>() }),
        Filter::Not(one) => json!({ "$not": render(one) }),
        Filter::Field { key, test } => json!({ key: render_test(test) }),
        Filter::Text(test) => {
            let (operator, text) = match test {
                TextTest::Contains(text) => ("$contains", text),
                TextTest::NotContains(text) => ("$not_contains", text),
                TextTest::Regex(text) => ("$regex", text),
                TextTest::NotRegex(text) => ("$not_regex", text),
            };
            json!({ "$document": { operator: text } })
        }
    }
}

/// True if the form of the filter alone says that it holds for every record: `{"$and": []}`. One
/// that holds by what its conditions say together is not found out.
pub(crate) fn holds_always(filter: &Filter) -> bool {
    constant(filter) == Some(true)
}

/// What the filter says of every record, if its form tells.
fn constant(filter: &Filter) -> Option<bool> {
    // A list of conditions is decided by one that is `decisive`, or by all that are not.
    let decided = |list: &[Filter], decisive: bool| {
        let told: Vec<_> = list.iter().map(constant).collect();
        if told.contains(&Some(decisive)) {
            return Some(decisive);
        }
        (!told.contains(&None)).then_some(!decisive)
    };
    match filter {
        Filter::And(list) => decided(list, false),
        Filter::Or(list) => decided(list, true),
        Filter::Not(one) => constant(one).map(|truth| !truth),
        Filter::Field { test: FieldTest::In(values), .. } if values.is_empty() => Some(false),
        Filter::Field { test: FieldTest::NotIn(values), .. } if values.is_empty() => Some(true),
        Filter::Field { .. } | Filter::Text(_) => None,
    }
}

fn render_test(test: &FieldTest) -> Json {
    let list = |values: &[Value]| Json::from(values.iter().map(render_value).collect::<Vec<_>>());
    let (operator, operand) = match test {
        FieldTest::Eq(value) => ("$eq", render_value(value)),
        FieldTest::Ne(value) => ("$ne", render_value(value)),
        FieldTest::Gt(value) => ("$gt", render_value(value)),
        FieldTest::Gte(value) => ("$gte", render_value(value)),
        FieldTest::Lt(value) => ("$lt", render_value(value)),
        FieldTest::Lte(value) => ("$lte", render_value(value)),
        FieldTest::In(values) => ("$in", list(values)),
        FieldTest::NotIn(values) => ("$nin", list(values)),
        FieldTest::Contains(value) => ("$contains", render_value(value)),
        FieldTest::NotContains(value) => ("$not_contains", render_value(value)),
        FieldTest::Exists(there) => ("$exists", Json::Bool(*there)),
    };
    json!({ operator: operand })
}

fn render_value(value: &Value) -> Json {
    match value {
        Value::Bool(truth) => Json::from(*truth),
        Value::Int(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Str(text) => Json::from(text.as_str()),
        Value::List(values) => values.iter().map(render_value).collect(),
    }
}

/// Where in the filter the parser stands. Lives on the stack; written out only for an error.
struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
    depth: usize,
}

enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn key(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(key), depth: self.depth }
    }

    fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index), depth: self.depth }
    }

    /// The same place, one filter deeper.
    fn deeper(mut self) -> Result<Self, String> {
        self.depth += 1;
        if self.depth > Limits::DEPTH_MAX {
            return Err(self.error(&format!("nested deeper than {} levels", Limits::DEPTH_MAX)));
        }
        Ok(self)
    }

    fn error(&self, why: &str) -> String {
        format!("{self}: {why}")
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) if self.parent.is_none() => f.write_str(key),
            Step::Key(key) => {
                let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let shown: String = key.chars().take(100).collect();
                if !key.is_empty() && key.chars().all(plain) {
                    write!(f, ".{shown}")
                } else {
                    write!(f, "[{shown:?}]")
                }
            }
        }
    }
}

fn object<'a>(json: &'a Json, at: &Place<'_>) -> Result<&'a Map<String, Json>, String> {
    json.as_object().ok_or_else(|| at.error(&format!("must be an object, not {}", kind(json))))
}

fn condition(json: &Json, at: &Place<'_>) -> Result<Filter, String> {
    let mut all = Vec::new();
    for (key, json) in object(json, at)? {
        let at = at.key(key);
        match key.as_str() {
            "$and" => all.push(Filter::And(conditions(json, &at)?)),
            "$or" => all.push(Filter::Or(conditions(json, &at)?)),
            "$not" => all.push(Filter::Not(Box::new(condition(json, &at.deeper()?)?))),
            "$document" => text_tests(json, &at, &mut all)?,
            operator if operator.starts_with('$') => {
                return Err(at.error(
                    "unknown operator; here stand metadata keys, $and, $or, $not and $document",
                ));
            }
            field => field_tests(field, json, &at, &mut all)?,
        }
    }
    Ok(one_or_all(all))
}

fn conditions(json: &Json, at: &Place<'_>) -> Result<Vec<Filter>, String> {
    list(json, at)?
        .iter()
        .enumerate()
        .map(|(index, json)| condition(json, &at.index(index).deeper()?))
        .collect()
}

fn one_or_all(mut all: Vec<Filter>) -> Filter {
    match all.pop() {
        Some(only) if all.is_empty() => only,
        Some(last) => {
            all.push(last);
            Filter::And(all)
        }
        None => Filter::And(all),
    }
}

fn field_tests(
    key: &str,
    json: &Json,
    at: &Place<'_>,
    all: &mut Vec<Filter>,
) -> Result<(), String> {
    let mut push = |test| all.push(Filter::Field { key: key.to_owned(), test });
    let Json::Object(tests) = json else {
        push(FieldTest::Eq(scalar(json, at)?));
        return Ok(());
    };
    if tests.is_empty() {
        return Err(at.error("an operator such as $eq is missing"));
    }
    for (operator, json) in tests {
        let at = at.key(operator);
        push(match operator.as_str() {
            "$eq" => FieldTest::Eq(scalar(json, &at)?),
            "$ne" => FieldTest::Ne(scalar(json, &at)?),
            "$gt" => FieldTest::Gt(scalar(json, &at)?),
            "$gte" => FieldTest::Gte(scalar(json, &at)?),
            "$lt" => FieldTest::Lt(scalar(json, &at)?),
            "$lte" => FieldTest::Lte(scalar(json, &at)?),
            "$in" => FieldTest::In(scalars(json, &at)?),
            "$nin" => FieldTest::NotIn(scalars(json, &at)?),
            "$contains" => FieldTest::Contains(scalar(json, &at)?),
            "$not_contains" => FieldTest::NotContains(scalar(json, &at)?),
            "$exists" => {
                FieldTest::Exists(json.as_bool().ok_or_else(|| {
                    at.error(&format!("must be true or false, not {}", kind(json)))
                })?)
            }
            _ => {
                return Err(at.error(
                    "unknown operator; known are $eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, \
                     $contains, $not_contains and $exists",
                ));
            }
        });
    }
    Ok(())
}

fn text_tests(json: &Json, at: &Place<'_>, all: &mut Vec<Filter>) -> Result<(), String> {
    let tests = object(json, at)?;
    if tests.is_empty() {
        return Err(at.error("an operator such as $contains is missing"));
    }
    for (operator, json) in tests {
        let at = at.key(operator);
        let text = || match json.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(at.error(&format!("must be a text, not {}", kind(json)))),
        };
        all.push(Filter::Text(match operator.as_str() {
            "$contains" => TextTest::Contains(text()?),
            "$not_contains" => TextTest::NotContains(text()?),
            "$regex" => TextTest::Regex(text()?),
            "$not_regex" => TextTest::NotRegex(text()?),
            _ => {
                return Err(at.error(
                    "unknown operator; known are $contains, $not_contains, $regex and $not_regex",
                ));
            }
        }));
    }
    Ok(())
}

fn list<'a>(json: &'a Json, at: &Place<'_>) -> Result<&'a [Json], String> {
    match json {
        Json::Array(items) => Ok(items),
        other => Err(at.error(&format!("must be a list, not {}", kind(other)))),
    }
}

fn scalars(json: &Json, at: &Place<'_>) -> Result<Vec<Value>, String> {
    list(json, at)?.iter().enumerate().map(|(i, json)| scalar(json, &at.index(i))).collect()
}

fn scalar(json: &Json, at: &Place<'_>) -> Result<Value, String> {
    match json {
        Json::Bool(truth) => Ok(Value::Bool(*truth)),
        Json::String(text) => Ok(Value::Str(text.clone())),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Ok(Value::Int(int)),
            (None, Some(float)) if number.is_f64() => Ok(Value::Float(float)),
            (None, _) => Err(at.error("integers must fit in 64 signed bits")),
        },
        Json::Null => Err(at.error("null is no value; write {\"$exists\": false}")),
        Json::Array(_) => Err(at.error("a list needs an operator such as $in")),
        Json::Object(_) => Err(at.error("must be a text, a number or a truth value")),
    }
}

fn kind(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a truth value",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
