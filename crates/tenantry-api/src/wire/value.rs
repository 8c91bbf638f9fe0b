//! Metadata in JSON. Kinds are kept: `1` is an integer and `1.0` is a float, in and out.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};
use std::{collections::btree_map::Entry, fmt, sync::Arc};
use tenantry_engine::{Limits, Metadata, MetadataPatch, Value};

/// A value as a caller writes it: a scalar, or a list of scalars if `LIST`.
struct ValueIn<const LIST: bool>(Value);

impl<'de, const LIST: bool> Deserialize<'de> for ValueIn<LIST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor::<LIST>).map(Self)
    }
}

struct ValueVisitor<const LIST: bool>;

impl<'de, const LIST: bool> Visitor<'de> for ValueVisitor<LIST> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number or a truth value")?;
        if LIST { f.write_str(", or a list of them") } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        let why = |_| E::custom(format!("integer {number} does not fit in 64 signed bits"));
        i64::try_from(number).map(Value::Int).map_err(why)
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Str(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::Str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        if !LIST {
            return Err(A::Error::custom("a list must not hold lists"));
        }
        let mut list = Vec::new();
        while let Some(ValueIn::<false>(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
}

/// Metadata as a caller writes it; `null` removes a key. A key that stands twice is refused.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct MetadataIn(pub(crate) MetadataPatch);

impl MetadataIn {
    /// The metadata, if nothing is to be removed.
    pub(crate) fn whole(self) -> tenantry_engine::Result<Metadata> {
        let entry = |(key, value): (String, Option<Value>)| match value {
            Some(value) => Ok((key, value)),
            None => Err(tenantry_engine::Error::invalid(format!(
                "metadata, key {:?}: must not be null; leave the key out",
                key.chars().take(100).collect::<String>()
            ))),
        };
        self.0.into_iter().map(entry).collect()
    }
}

impl<'de> Deserialize<'de> for MetadataIn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MetadataVisitor;

        impl<'de> Visitor<'de> for MetadataVisitor {
            type Value = MetadataIn;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of metadata")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MetadataIn, A::Error> {
                let mut patch = MetadataPatch::new();
                while let Some(key) = map.next_key::<String>()? {
                    // One more than may be is refused by whoever checks metadata.
                    if patch.len() > Limits::METADATA_KEYS_MAX {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    match patch.entry(key) {
                        Entry::Vacant(place) => {
                            let value = map.next_value::<Option<ValueIn<true>>>()?;
                            place.insert(value.map(|ValueIn(value)| value));
                        }
                        Entry::Occupied(place) => {
                            let shown: String = place.key().chars().take(100).collect();
                            let why = format!("metadata key {shown:?} stands twice");
                            return Err(A::Error::custom(why));
                        }
                    }
                }
                Ok(MetadataIn(patch))
            }
        }

        deserializer.deserialize_map(MetadataVisitor)
    }
}

/// Metadata in an answer.
#[derive(Debug)]
pub(crate) struct MetadataOut(pub(crate) Arc<Metadata>);

impl Serialize for MetadataOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &*self.0 {
            map.serialize_entry(key, &ValueOut(value))?;
        }
        map.end()
    }
}

struct ValueOut<'a>(&'a Value);

impl Serialize for ValueOut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(truth) => serializer.serialize_bool(*truth),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Float(number) => serializer.serialize_f64(*number),
            Value::Str(text) => serializer.serialize_str(text),
            Value::List(items) => serializer.collect_seq(items.iter().map(ValueOut)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<MetadataIn, serde_json::Error> {
        serde_json::from_str(text)
    }

    #[test]
    fn kinds_survive_the_round_trip() {
        let text = r#"{"b":true,"f":1.0,"i":1,"l":[1.5,2.0],"none":[],"s":"\u0000é","z":-0.5}"#;
        let metadata = parse(text).unwrap().whole().unwrap();
        assert_eq!(metadata["f"], Value::Float(1.0));
        assert_eq!(metadata["i"], Value::Int(1));
        assert_eq!(serde_json::to_string(&MetadataOut(metadata.into())).unwrap(), text);
    }

    #[test]
    fn null_removes_and_is_not_a_value() {
        let patch = parse(r#"{"a": null, "b": 1}"#).unwrap();
        assert_eq!(patch.0["a"], None);
        assert!(patch.whole().is_err());
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for bad in [
            "[]",
            "1",
            r#"{"a": {}}"#,
            r#"{"a": [[1]]}"#,
            r#"{"a": [null]}"#,
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 9223372036854775808}"#,
            r#"{"a": 1e999}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
