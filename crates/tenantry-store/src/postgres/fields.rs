//! A record's metadata in the clear: what filters and orders look at on the server.
//!
//! One jsonb object, with what jsonb lacks put in a form that compares as [`Value`] does:
//!
//! | value | in jsonb |
//! |---|---|
//! | boolean | boolean |
//! | integer, float | number, so that both compare by number |
//! | text, and each key | string, escaped where jsonb has no such character |
//! | list | object of at most one array: `{"i": [1, 2]}`, and `b`, `f`, `s`; an empty list is `{}` |
//!
//! Beside them is what the whole record takes in bytes, under a key that no metadata has
//! ([`KEPT`]), so that whoever deletes records need not open them.
//!
//! Numbers of jsonb are `numeric`: exact, and with room for every float. The record's sealed body
//! holds the exact values and their kinds; nothing is ever read back from here. Text is compared
//! by bytes in UTF-8, so the database must have that encoding.

use std::{borrow::Cow, fmt::Write};
use tenantry_types::{Metadata, Value};

/// The kinds of elements, and the names of their arrays.
const KINDS: [&str; 4] = ["b", "i", "f", "s"];

/// Where [`fields`] says what the record takes, as SQL: what [`key_text`] makes has no U+0001 alone.
pub(super) const KEPT: &str = "(r.fields ->> E'\\x01')::bigint";

/// The clear form of a record's metadata, and what all of the record takes if it is known: the text of
/// a jsonb object.
pub(crate) fn fields(metadata: Option<&Metadata>, kept: Option<u64>) -> String {
    let mut json = String::from("{");
    if let Some(bytes) = kept {
        write!(json, "\"\\u0001\":{bytes}").expect("a String takes everything");
    }
    for (key, value) in metadata.into_iter().flatten() {
        if json.len() > 1 {
            json.push(',');
        }
        push_text(&mut json, key);
        json.push(':');
        push_value(&mut json, value);
    }
    json.push('}');
    json
}

/// A text or a key as it is spelt in [`fields`], for comparing with what `->>` gives and for
/// naming a key.
///
/// jsonb has no NUL: it becomes U+0001 U+0001, and U+0001 becomes U+0001 U+0002. No two texts
/// become the same, and their order by bytes stays.
pub(crate) fn key_text(key: &str) -> String {
    plain(key).into_owned()
}

/// The object that is contained in [`fields`] if and only if the key's value equals this scalar;
/// `None` if nothing equals it.
pub(super) fn equal_to(key: &str, value: &Value) -> Option<String> {
    let value = scalar(value)?;
    Some(object(key, &value))
}

/// The object that is contained in [`fields`] if and only if the key's value is a list with this
/// element; `None` if none has it.
pub(super) fn with_element(key: &str, value: &Value) -> Option<String> {
    let list = format!("{{\"{}\":[{}]}}", kind(value)?, scalar(value)?);
    Some(object(key, &list))
}

/// A scalar as it is spelt in [`fields`]; `None` for what equals nothing: lists, and NaN.
pub(super) fn scalar(value: &Value) -> Option<String> {
    if matches!(value, Value::List(_)) || matches!(value, Value::Float(float) if float.is_nan()) {
        return None;
    }
    let mut json = String::new();
    push_value(&mut json, value);
    Some(json)
}

/// One key and the JSON of its value.
fn object(key: &str, value: &str) -> String {
    let mut json = String::from("{");
    push_text(&mut json, key);
    json.push(':');
    json.push_str(value);
    json.push('}');
    json
}

fn kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Bool(_) => Some("b"),
        Value::Int(_) => Some("i"),
        Value::Float(_) => Some("f"),
        Value::Str(_) => Some("s"),
        Value::List(_) => None,
    }
}

fn push_value(json: &mut String, value: &Value) {
    match value {
        Value::Bool(value) => json.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => write!(json, "{value}").expect("a String takes everything"),
        Value::Float(value) => push_float(json, *value),
        Value::Str(value) => push_text(json, value),
        Value::List(items) => push_list(json, items),
    }
}

/// Elements by kind, because [`Value::List`] is asked for one of exactly this kind: jsonb alone
/// would find `2.0` where `2` is asked for. A list has elements of one kind, but nothing here
/// depends on it.
fn push_list(json: &mut String, items: &[Value]) {
    json.push('{');
    let start = json.len();
    for name in KINDS {
        let of_kind = items.iter().filter(|item| kind(item) == Some(name));
        for (at, item) in of_kind.enumerate() {
            match (at, json.len() == start) {
                (0, true) => write!(json, "\"{name}\":["),
                (0, false) => write!(json, "],\"{name}\":["),
                _ => write!(json, ","),
            }
            .expect("a String takes everything");
            push_value(json, item);
        }
    }
    json.push_str(if json.len() == start { "}" } else { "]}" });
}

/// Below 2⁶⁴, where integers are, a whole float is written exactly, digit by digit; any other in
/// the shortest form that reads back as the same float. As reading is monotone, the decimals have
/// the order of the floats, and also against integers: one that is not whole is below 2⁵², where
/// every integer is a float of its own, and the large ones are above all integers.
///
/// Infinity, which a filter may name but no record has, becomes a number above all floats. NaN,
/// which neither has, becomes null: there, and equal to nothing.
fn push_float(json: &mut String, value: f64) {
    const TWO_POW_64: f64 = 18_446_744_073_709_551_616.0;
    if value.is_nan() {
        json.push_str("null");
    } else if value.is_infinite() {
        json.push_str(if value > 0.0 { "1e400" } else { "-1e400" });
    } else if value == 0.0 {
        json.push('0');
    } else if value.fract() == 0.0 && value.abs() < TWO_POW_64 {
        write!(json, "{value:.0}").expect("a String takes everything");
    } else {
        write!(json, "{value:e}").expect("a String takes everything");
    }
}

fn push_text(json: &mut String, text: &str) {
    json.push('"');
    for char in plain(text).chars() {
        match char {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            char if char < ' ' => {
                write!(json, "\\u{:04x}", u32::from(char)).expect("a String takes everything");
            }
            char => json.push(char),
        }
    }
    json.push('"');
}

/// See [`key_text`].
fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', '\u{1}']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\u{1}', "\u{1}\u{2}").replace('\0', "\u{1}\u{1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: Value) -> String {
        fields(Some(&Metadata::from([("k".into(), value)])), None)
    }

    #[test]
    fn values_have_one_spelling() {
        assert_eq!(fields(None, None), "{}");
        assert_eq!(fields(None, Some(7)), r#"{"\u0001":7}"#);
        assert_eq!(of(Value::Bool(true)), r#"{"k":true}"#);
        assert_eq!(of(Value::Int(i64::MIN)), r#"{"k":-9223372036854775808}"#);
        assert_eq!(of(Value::Float(-0.0)), r#"{"k":0}"#);
        assert_eq!(of(Value::Float(-1.5)), r#"{"k":-1.5e0}"#);
        assert_eq!(of(Value::Float(9_007_199_254_740_994.0)), r#"{"k":9007199254740994}"#);
        assert_eq!(of(Value::Float(9.223_372_036_854_776e18)), r#"{"k":9223372036854775808}"#);
        assert_eq!(of(Value::Float(1e308)), r#"{"k":1e308}"#);
        assert_eq!(of(Value::Float(5e-324)), r#"{"k":5e-324}"#);
        assert_eq!(of(Value::Str("a\"\\\n\0\u{1}é".into())), {
            r#"{"k":"a\"\\\u000a\u0001\u0001\u0001\u0002é"}"#
        });
    }

    #[test]
    fn lists_say_their_kind() {
        let list = |items: &[Value]| of(Value::List(items.to_vec()));
        assert_eq!(list(&[]), r#"{"k":{}}"#);
        assert_eq!(list(&[Value::Int(2), Value::Int(1)]), r#"{"k":{"i":[2,1]}}"#);
        let mixed = [Value::Float(2.0), Value::Str("x".into()), Value::Float(0.5)];
        assert_eq!(list(&mixed), r#"{"k":{"f":[2,5e-1],"s":["x"]}}"#);
    }

    #[test]
    fn keys_are_escaped_like_texts() {
        assert_eq!(key_text("a\0b\u{1}"), "a\u{1}\u{1}b\u{1}\u{2}");
        let metadata =
            Metadata::from([(String::new(), Value::Int(1)), ("\0".into(), Value::Int(2))]);
        assert_eq!(fields(Some(&metadata), None), r#"{"":1,"\u0001\u0001":2}"#);
        let one = Metadata::from([("\u{1}".into(), Value::Int(1))]);
        assert_eq!(fields(Some(&one), Some(9)), r#"{"\u0001":9,"\u0001\u0002":1}"#);
        assert_eq!(equal_to("\0", &Value::Int(2)).as_deref(), Some(r#"{"\u0001\u0001":2}"#));
        assert_eq!(with_element("k", &Value::Int(2)).as_deref(), Some(r#"{"k":{"i":[2]}}"#));
        assert_eq!(equal_to("k", &Value::List(Vec::new())), None);
    }
}
