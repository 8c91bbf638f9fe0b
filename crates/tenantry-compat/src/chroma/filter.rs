//! The grammars of `where` and `where_document`.
//!
//! Strict: whatever the grammar does not know is refused, since a condition that is silently
//! dropped widens an answer.

use super::error::Failure;
use serde_json::{Number, value::RawValue};
use tenantry_engine::{FieldTest, Filter, TextTest, Value};

type Json = serde_json::Value;

/// The metadata key that stands for the record's text.
pub(crate) const DOCUMENT: &str = "#document";

/// The longest clause in bytes of JSON. A clause is held as a tree, which can take a hundred times
/// its text.
const CLAUSE_BYTES_MAX: usize = 1 << 20;

/// Both clauses of a request as one filter.
pub(crate) fn parse(
    metadata: Option<&RawValue>,
    document: Option<&RawValue>,
) -> Result<Option<Filter>, Failure> {
    let metadata = metadata
        .map(|raw| clause(raw, "where", where_clause, "Invalid where clause"))
        .transpose()?;
    let document = document
        .map(|raw| clause(raw, "where_document", document_clause, "Invalid where document clause"))
        .transpose()?;
    Ok(match (metadata, document) {
        (Some(a), Some(b)) => Some(Filter::And(vec![a, b])),
        (one, other) => one.or(other),
    })
}

fn clause(
    raw: &RawValue,
    field: &str,
    grammar: fn(Json) -> Option<Filter>,
    refusal: &'static str,
) -> Result<Filter, Failure> {
    if raw.get().len() > CLAUSE_BYTES_MAX {
        return Err(Failure::too_large(format!(
            "{field}: at most {CLAUSE_BYTES_MAX} bytes are allowed"
        )));
    }
    // The parser's limit on depth bounds the recursion below.
    let tree = serde_json::from_str(raw.get()).map_err(|_| Failure::invalid(refusal))?;
    grammar(tree).ok_or_else(|| Failure::invalid(refusal))
}

fn where_clause(clause: Json) -> Option<Filter> {
    let (key, test) = sole(clause)?;
    match key.as_str() {
        "$and" => Some(Filter::And(children(test, where_clause)?)),
        "$or" => Some(Filter::Or(children(test, where_clause)?)),
        _ if key.starts_with('$') => None,
        _ => match test {
            Json::Object(_) => {
                let (operator, operand) = sole(test)?;
                if key == DOCUMENT
                    && let Some(text) = text_test(&operator, &operand)
                {
                    return Some(Filter::Text(text));
                }
                Some(Filter::Field { key, test: field_test(&operator, operand)? })
            }
            operand => Some(Filter::Field { key, test: FieldTest::Eq(scalar(operand)?) }),
        },
    }
}

fn document_clause(clause: Json) -> Option<Filter> {
    let (key, operand) = sole(clause)?;
    match key.as_str() {
        "$and" => Some(Filter::And(children(operand, document_clause)?)),
        "$or" => Some(Filter::Or(children(operand, document_clause)?)),
        _ => text_test(&key, &operand).map(Filter::Text),
    }
}

fn children(list: Json, grammar: fn(Json) -> Option<Filter>) -> Option<Vec<Filter>> {
    let Json::Array(items) = list else { return None };
    items.into_iter().map(grammar).collect()
}

fn field_test(operator: &str, operand: Json) -> Option<FieldTest> {
    Some(match operator {
        "$eq" => FieldTest::Eq(scalar(operand)?),
        "$ne" => FieldTest::Ne(scalar(operand)?),
        "$gt" => FieldTest::Gt(number(operand)?),
        "$gte" => FieldTest::Gte(number(operand)?),
        "$lt" => FieldTest::Lt(number(operand)?),
        "$lte" => FieldTest::Lte(number(operand)?),
        "$in" => FieldTest::In(alternatives(operand)?),
        "$nin" => FieldTest::NotIn(alternatives(operand)?),
        "$contains" => FieldTest::Contains(scalar(operand)?),
        "$not_contains" => FieldTest::NotContains(scalar(operand)?),
        _ => return None,
    })
}

fn text_test(operator: &str, operand: &Json) -> Option<TextTest> {
    let text = operand.as_str()?.to_owned();
    Some(match operator {
        "$contains" => TextTest::Contains(text),
        "$not_contains" => TextTest::NotContains(text),
        "$regex" => TextTest::Regex(text),
        "$not_regex" => TextTest::NotRegex(text),
        _ => return None,
    })
}

/// The one entry of an object that has exactly one.
fn sole(value: Json) -> Option<(String, Json)> {
    let Json::Object(map) = value else { return None };
    let mut entries = map.into_iter();
    let first = entries.next()?;
    entries.next().is_none().then_some(first)
}

/// Several values of one kind.
fn alternatives(list: Json) -> Option<Vec<Value>> {
    let Json::Array(items) = list else { return None };
    let values: Vec<Value> = items.into_iter().map(scalar).collect::<Option<_>>()?;
    let first = values.first()?;
    values.iter().all(|value| value.same_kind(first)).then_some(values)
}

fn number(value: Json) -> Option<Value> {
    match scalar(value)? {
        value @ (Value::Int(_) | Value::Float(_)) => Some(value),
        Value::Bool(_) | Value::Str(_) | Value::List(_) => None,
    }
}

fn scalar(value: Json) -> Option<Value> {
    match value {
        Json::Bool(value) => Some(Value::Bool(value)),
        Json::String(value) => Some(Value::Str(value)),
        Json::Number(value) => exact(&value),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// An integer beyond 64 bits signed is refused: rounded to a float it would match other numbers.
fn exact(number: &Number) -> Option<Value> {
    if let Some(int) = number.as_i64() {
        return Some(Value::Int(int));
    }
    if number.is_u64() { None } else { number.as_f64().map(Value::Float) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn where_(text: &str) -> Result<Filter, u16> {
        parse(Some(&raw(text)), None).map(Option::unwrap).map_err(|f| f.parts().0)
    }

    fn document(text: &str) -> Result<Filter, u16> {
        parse(None, Some(&raw(text))).map(Option::unwrap).map_err(|f| f.parts().0)
    }

    fn field(key: &str, test: FieldTest) -> Filter {
        Filter::Field { key: key.to_owned(), test }
    }

    #[test]
    fn every_operator_is_read() {
        let one = || Value::Int(1);
        for (text, test) in [
            (r#"{"k":1}"#, FieldTest::Eq(one())),
            (r#"{"k":{"$eq":1}}"#, FieldTest::Eq(one())),
            (r#"{"k":{"$ne":1}}"#, FieldTest::Ne(one())),
            (r#"{"k":{"$gt":1}}"#, FieldTest::Gt(one())),
            (r#"{"k":{"$gte":1}}"#, FieldTest::Gte(one())),
            (r#"{"k":{"$lt":1}}"#, FieldTest::Lt(one())),
            (r#"{"k":{"$lte":1.0}}"#, FieldTest::Lte(Value::Float(1.0))),
            (r#"{"k":{"$in":[1]}}"#, FieldTest::In(vec![one()])),
            (r#"{"k":{"$nin":[1]}}"#, FieldTest::NotIn(vec![one()])),
            (r#"{"k":{"$contains":true}}"#, FieldTest::Contains(Value::Bool(true))),
            (r#"{"k":{"$not_contains":"x"}}"#, FieldTest::NotContains(Value::Str("x".into()))),
        ] {
            assert_eq!(where_(text), Ok(field("k", test)), "{text}");
        }
        assert_eq!(where_(r#"{"$and":[]}"#), Ok(Filter::And(Vec::new())));
        assert_eq!(
            where_(r#"{"$or":[{"a":1},{"$and":[{"b":"x"}]}]}"#),
            Ok(Filter::Or(vec![
                field("a", FieldTest::Eq(one())),
                Filter::And(vec![field("b", FieldTest::Eq(Value::Str("x".into())))]),
            ]))
        );
    }

    #[test]
    fn documents_are_read_in_both_clauses() {
        let text = TextTest::Contains("x".to_owned());
        assert_eq!(document(r#"{"$contains":"x"}"#), Ok(Filter::Text(text.clone())));
        assert_eq!(where_(r##"{"#document":{"$contains":"x"}}"##), Ok(Filter::Text(text.clone())));
        let both = parse(Some(&raw(r#"{"k":1}"#)), Some(&raw(r#"{"$contains":"x"}"#)));
        let metadata = field("k", FieldTest::Eq(Value::Int(1)));
        assert_eq!(both.unwrap(), Some(Filter::And(vec![metadata, Filter::Text(text)])));
        assert_eq!(
            document(r#"{"$or":[{"$regex":"a"},{"$not_regex":"b"}]}"#),
            Ok(Filter::Or(vec![
                Filter::Text(TextTest::Regex("a".to_owned())),
                Filter::Text(TextTest::NotRegex("b".to_owned())),
            ]))
        );
    }

    #[test]
    fn what_the_grammar_does_not_know_is_refused() {
        for text in [
            "{}",
            "[]",
            "5",
            r#""x""#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":null}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"$gt":1,"$lt":2}}"#,
            r#"{"a":{"$eq":[1]}}"#,
            r#"{"a":{"$gt":true}}"#,
            r#"{"a":{"$gt":"x"}}"#,
            r#"{"a":{"$in":[]}}"#,
            r#"{"a":{"$in":[1,1.5]}}"#,
            r#"{"a":{"$in":1}}"#,
            r#"{"a":9223372036854775808}"#,
            r#"{"a":{"$regex":"x"}}"#,
            r#"{"a":{"$foo":1}}"#,
            r#"{"$not":[]}"#,
            r#"{"$and":{}}"#,
            r#"{"$and":[{}]}"#,
            r##"{"#document":{"$regex":1}}"##,
        ] {
            assert_eq!(where_(text), Err(400), "{text}");
        }
        for text in [
            "{}",
            "[]",
            r#""x""#,
            r#"{"$contains":1}"#,
            r#"{"$contains":["x"]}"#,
            r#"{"a":"x"}"#,
            r#"{"$contains":"x","$regex":"x"}"#,
            r#"{"$and":[{"a":1}]}"#,
            r#"{"$not":"x"}"#,
        ] {
            assert_eq!(document(text), Err(400), "{text}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep =
            format!("{}{}{}", r#"{"$and":["#.repeat(5_000), r#"{"a":1}"#, "]}".repeat(5_000));
        assert_eq!(where_(&deep), Err(400));
        let wide = format!(r#"{{"a":{{"$in":[{}1]}}}}"#, "1,".repeat(CLAUSE_BYTES_MAX / 2));
        assert_eq!(where_(&wide), Err(413));
    }
}
