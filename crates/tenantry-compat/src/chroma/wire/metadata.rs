//! Metadata in and out.

use super::super::error::Failure;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
    ser::SerializeMap,
};
use std::fmt;
use tenantry_engine::{Metadata, MetadataPatch, Value};

const EXPECTED: &str = "a string, a number, a boolean, a list of one of these, or a sparse vector";

/// A record's metadata as it was sent, in the order of its keys there.
#[derive(Debug)]
pub(crate) struct Fields(Vec<(String, Item)>);

/// One value as it was sent.
#[derive(Debug)]
enum Item {
    Null,
    Value(Value),
    /// An empty list, which has no kind: the key is left out or removed.
    Empty,
    Sparse(Sparse),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sparse {
    #[serde(rename = "#type", default)]
    tag: Option<SparseTag>,
    indices: Vec<u32>,
    values: Vec<f32>,
    #[serde(default)]
    tokens: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
enum SparseTag {
    #[serde(rename = "sparse_vector")]
    Tag,
}

impl Sparse {
    fn is_valid(&self) -> bool {
        let Self { tag: None | Some(SparseTag::Tag), indices, values, tokens } = self;
        indices.len() == values.len()
            && tokens.as_ref().is_none_or(|tokens| tokens.len() == indices.len())
            && indices.is_sorted_by(|a, b| a < b)
            && values.iter().all(|value| value.is_finite())
    }
}

impl Fields {
    /// The patch that these fields are; `record` is the record's position, for messages. A null
    /// removes a key, and is refused where there is nothing to remove yet (`new`).
    pub(crate) fn into_patch(self, record: usize, new: bool) -> Result<MetadataPatch, Failure> {
        let Self(fields) = self;
        let mut patch = MetadataPatch::new();
        for (key, item) in fields {
            let entry = entry(&key, item, &format_args!("metadatas[{record}]"), new)
                .map_err(|refusal| refusal.into_failure(record))?;
            match entry {
                None if new => {}
                entry => {
                    patch.insert(key, entry);
                }
            }
        }
        Ok(patch)
    }
}

/// Why a field is refused.
enum Refusal {
    Invalid,
    Failure(Failure),
}

impl Refusal {
    fn into_failure(self, record: usize) -> Failure {
        match self {
            Self::Invalid => Failure::invalid(format!(
                "Validation error: metadatas: Invalid metadata at index {record}"
            )),
            Self::Failure(failure) => failure,
        }
    }
}

fn entry(
    key: &str,
    item: Item,
    place: &fmt::Arguments<'_>,
    new: bool,
) -> Result<Option<Value>, Refusal> {
    if !is_key(key) {
        return Err(Refusal::Invalid);
    }
    match item {
        Item::Value(value) => Ok(Some(value)),
        Item::Null if new => {
            let why = format!("{place}.{key}: invalid type: null, expected {EXPECTED}");
            Err(Refusal::Failure(Failure::shape(why)))
        }
        Item::Null | Item::Empty => Ok(None),
        Item::Sparse(sparse) if sparse.is_valid() => Err(Refusal::Failure(Failure::unsupported(
            format!("Unimplemented: Sparse vector is not supported for local chroma: {key}"),
        ))),
        Item::Sparse(_) => Err(Refusal::Invalid),
    }
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && !key.starts_with(['#', '$'])
}

/// A collection's metadata as it was sent.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct CollectionFields(Fields);

impl CollectionFields {
    /// The metadata of a new collection.
    pub(crate) fn into_new(self) -> Result<Metadata, Failure> {
        Ok(self.into_metadata("metadata", true)?.unwrap_or_default())
    }

    /// The metadata that replaces a collection's; `None` if only nulls were sent.
    pub(crate) fn into_replacement(self) -> Result<Option<Metadata>, Failure> {
        self.into_metadata("new_metadata", false)
    }

    fn into_metadata(self, field: &str, new: bool) -> Result<Option<Metadata>, Failure> {
        let Fields(fields) = self.0;
        if fields.is_empty() {
            return Err(Failure::invalid(format!(
                "Validation error: {field}: Metadata cannot be empty"
            )));
        }
        let mut metadata = Metadata::new();
        for (key, item) in fields {
            let entry = entry(&key, item, &format_args!("{field}"), new);
            let value = entry.map_err(|refusal| match refusal {
                Refusal::Invalid => Failure::invalid(format!(
                    "Validation error: {field}: Metadata key cannot be empty or start with '#' \
                     or '$', and a sparse vector must be well-formed: {key}"
                )),
                Refusal::Failure(failure) => failure,
            })?;
            if let Some(value) = value {
                metadata.insert(key, value);
            }
        }
        Ok(Some(metadata).filter(|metadata| !metadata.is_empty()))
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Item, E> {
        Ok(Item::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Item, E> {
        Ok(Item::Value(Value::Bool(value)))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Item, E> {
        Ok(Item::Value(Value::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Item, E> {
        Ok(Item::Value(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int)))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Item, E> {
        Ok(Item::Value(Value::Float(value)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Item, E> {
        Ok(Item::Value(Value::Str(value.to_owned())))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Item, E> {
        Ok(Item::Value(Value::Str(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        let mut values = Vec::new();
        while let Some(item) = items.next_element::<Item>()? {
            match item {
                Item::Value(Value::List(_)) | Item::Null | Item::Empty | Item::Sparse(_) => {
                    return Err(de::Error::custom("a list must hold scalars"));
                }
                Item::Value(value) => values.push(value),
            }
        }
        list(values).ok_or_else(|| de::Error::custom("a list must hold values of one kind"))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        Sparse::deserialize(MapAccessDeserializer::new(map)).map(Item::Sparse)
    }
}

/// A list of one kind. A list of integers and floats is a list of floats.
fn list(mut values: Vec<Value>) -> Option<Item> {
    let Some(first) = values.first() else { return Some(Item::Empty) };
    if !values.iter().all(|value| value.same_kind(first)) {
        for value in &mut values {
            *value = match value {
                Value::Int(int) => Value::Float(*int as f64),
                Value::Float(float) => Value::Float(*float),
                Value::Bool(_) | Value::Str(_) | Value::List(_) => return None,
            };
        }
    }
    Some(Item::Value(Value::List(values)))
}

/// Metadata as answers show it.
pub(crate) struct MetadataView<'a>(&'a Metadata);

impl<'a> MetadataView<'a> {
    /// Metadata without a key is shown as none.
    pub(crate) fn of(metadata: Option<&'a Metadata>) -> Option<Self> {
        metadata.filter(|metadata| !metadata.is_empty()).map(Self)
    }
}

impl Serialize for MetadataView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in self.0 {
            map.serialize_entry(key, &ValueView(value))?;
        }
        map.end()
    }
}

struct ValueView<'a>(&'a Value);

impl Serialize for ValueView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Str(value) => serializer.serialize_str(value),
            Value::List(items) => serializer.collect_seq(items.iter().map(ValueView)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::btree_map, prelude::*};

    fn patch(json: &str, new: bool) -> Result<MetadataPatch, u16> {
        let fields: Fields = serde_json::from_str(json).map_err(|_| 422_u16)?;
        fields.into_patch(0, new).map_err(|failure| failure.parts().0)
    }

    #[test]
    fn kinds_are_kept_and_come_back_as_they_were() {
        let json = r#"{"b":true,"f":1.0,"g":0.1,"i":-1,"l":[1.0,2.5],"m":["a","a"],"s":"ä\"\n"}"#;
        let metadata: Metadata =
            patch(json, true).unwrap().into_iter().map(|(k, v)| (k, v.unwrap())).collect();
        assert_eq!(metadata["f"], Value::Float(1.0));
        assert_eq!(metadata["i"], Value::Int(-1));
        let shown = serde_json::to_string(&MetadataView(&metadata)).unwrap();
        assert_eq!(shown, json);
        assert!(MetadataView::of(Some(&Metadata::new())).is_none());
    }

    #[test]
    fn large_integers_and_mixed_numbers_become_floats() {
        let all = patch(r#"{"a":9223372036854775808,"b":9223372036854775807,"c":[1,2.5]}"#, true);
        let all = all.unwrap();
        assert_eq!(all["a"], Some(Value::Float(9_223_372_036_854_775_808.0)));
        assert_eq!(all["b"], Some(Value::Int(i64::MAX)));
        assert_eq!(all["c"], Some(Value::List(vec![Value::Float(1.0), Value::Float(2.5)])));
    }

    #[test]
    fn nulls_and_empty_lists_remove_keys() {
        let nothing = MetadataPatch::from([("k".to_owned(), None)]);
        assert_eq!(patch(r#"{"k":null}"#, false), Ok(nothing.clone()));
        assert_eq!(patch(r#"{"k":[]}"#, false), Ok(nothing));
        assert_eq!(patch(r#"{"k":[]}"#, true), Ok(MetadataPatch::new()));
        assert_eq!(patch(r#"{"k":null}"#, true), Err(422));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for json in [
            r#"{"k":{"x":1}}"#,
            r#"{"k":[1,"x"]}"#,
            r#"{"k":[null]}"#,
            r#"{"k":[[1]]}"#,
            "5",
            r#"{"k":{"indices":[-1],"values":[1.0]}}"#,
            r#"{"k":[true,1]}"#,
        ] {
            assert_eq!(patch(json, false), Err(422), "{json}");
        }
        for json in [
            r##"{"#k":1}"##,
            r#"{"$k":1}"#,
            r#"{"":1}"#,
            r#"{"k":{"indices":[2,1],"values":[1,2]}}"#,
        ] {
            assert_eq!(patch(json, false), Err(400), "{json}");
        }
        let sparse = r##"{"k":{"#type":"sparse_vector","indices":[1],"values":[1.0]}}"##;
        assert_eq!(patch(sparse, false), Err(501));
    }

    #[test]
    fn a_collections_metadata_is_never_empty() {
        let new = |json| {
            let fields: CollectionFields = serde_json::from_str(json).unwrap();
            fields.into_new().map_err(|f| f.parts().0)
        };
        let replacement = |json| {
            let fields: CollectionFields = serde_json::from_str(json).unwrap();
            fields.into_replacement().map_err(|f| f.parts().0)
        };
        let one = Metadata::from([("b".to_owned(), Value::Int(1))]);
        assert_eq!(new("{}"), Err(400));
        assert_eq!(new(r#"{"a":null}"#), Err(422));
        assert_eq!(new(r##"{"#a":1}"##), Err(400));
        assert_eq!(new(r#"{"b":1}"#), Ok(one.clone()));
        assert_eq!(replacement("{}"), Err(400));
        assert_eq!(replacement(r#"{"a":null}"#), Ok(None));
        assert_eq!(replacement(r#"{"a":null,"b":1}"#), Ok(Some(one)));
    }

    fn scalars() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("finite", |f| f.is_finite()).prop_map(Value::Float),
            any::<String>().prop_map(Value::Str),
        ]
    }

    fn values() -> impl Strategy<Value = Value> {
        let list = (scalars(), 1..4_usize).prop_map(|(one, n)| Value::List(vec![one; n]));
        prop_oneof![scalars(), list]
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back_the_same(
            metadata in btree_map("[a-z:.]{1,4}", values(), 1..5)
        ) {
            let shown = serde_json::to_string(&MetadataView(&metadata)).unwrap();
            let read: Metadata =
                patch(&shown, true).unwrap().into_iter().map(|(k, v)| (k, v.unwrap())).collect();
            prop_assert_eq!(read, metadata);
        }
    }
}
