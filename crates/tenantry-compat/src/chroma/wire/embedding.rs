//! One vector of a write: a list of numbers, or base64 of little-endian 32-bit floats.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use std::fmt;

/// The most components to make room for before any has been read.
const ROOM_MAX: usize = 4_096;

/// A vector as it was sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Embedding {
    Components(Vec<f32>),
    /// Text that does not hold floats, with the reason.
    Unreadable(String),
}

impl<'de> Deserialize<'de> for Embedding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EmbeddingVisitor)
    }
}

struct EmbeddingVisitor;

impl<'de> Visitor<'de> for EmbeddingVisitor {
    type Value = Embedding;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers or a base64 string")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Embedding, A::Error> {
        let mut components = Vec::with_capacity(items.size_hint().unwrap_or(0).min(ROOM_MAX));
        while let Some(component) = items.next_element::<f32>()? {
            components.push(component);
        }
        Ok(Embedding::Components(components))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Embedding, E> {
        Ok(decode(text).map_or_else(Embedding::Unreadable, Embedding::Components))
    }
}

/// A list of numbers, read straight into 32-bit floats: one rounding, and less work than asking
/// the JSON parser for each number, which is most of the work of a small query.
#[derive(Debug, PartialEq)]
pub(crate) struct Components(pub(crate) Vec<f32>);

impl<'de> Deserialize<'de> for Components {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let list = || de::Error::custom("expected a list of numbers");
        let inner = raw.get().strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let mut rest = inner.ok_or_else(list)?.as_bytes().trim_ascii();
        // The text is valid JSON, so what begins like a number and reads as a float is a number.
        let mut components = Vec::with_capacity((rest.len() / 20).clamp(4, ROOM_MAX));
        while !rest.is_empty() {
            let (component, bytes) = fast_float2::parse_partial(rest).map_err(|_| list())?;
            if !rest.starts_with(b"-") && !rest.first().is_some_and(u8::is_ascii_digit) {
                return Err(list());
            }
            components.push(component);
            rest = rest.get(bytes..).unwrap_or_default().trim_ascii_start();
            // Not at the end: a comma and another component.
            rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
        }
        Ok(Self(components))
    }
}

fn decode(text: &str) -> Result<Vec<f32>, String> {
    let bytes =
        BASE64_STANDARD.decode(text).map_err(|why| format!("Invalid base64 string: {why}"))?;
    let (floats, []) = bytes.as_chunks::<4>() else {
        return Err(format!(
            "Invalid byte length: {} bytes cannot be converted to f32 values (must be divisible \
             by 4)",
            bytes.len()
        ));
    };
    Ok(floats.iter().map(|float| f32::from_le_bytes(*float)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    fn read(json: &str) -> Option<Embedding> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn components_are_numbers_and_nothing_else() {
        let read = |json: &str| serde_json::from_str::<Components>(json).ok().map(|c| c.0);
        assert_eq!(read("[]"), Some(Vec::new()));
        assert_eq!(read(" [ 1 , -2.5e-1,3E2 ] "), Some(vec![1.0, -0.25, 300.0]));
        let exact: f32 = "0.10000000149011612".parse().unwrap();
        assert_eq!(read("[0.10000000149011612]"), Some(vec![exact]));
        for bad in [
            "null",
            "1",
            "{}",
            "\"AACAPw==\"",
            "[null]",
            "[true]",
            "[\"1\"]",
            "[\"inf\"]",
            "[[1]]",
            "[{}]",
            "[1,]",
            "[,1]",
            "[+1]",
            "[.5]",
            "[inf]",
            "[NaN]",
            "[0x1]",
            "[1_0]",
            "[1 2]",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn components_are_what_the_json_parser_reads(floats in vec(any::<f32>(), 0..20)) {
            let finite: Vec<f32> = floats.into_iter().filter(|f| f.is_finite()).collect();
            let json = serde_json::to_string(&finite).unwrap();
            prop_assert_eq!(serde_json::from_str::<Components>(&json).unwrap().0, finite);
        }
    }

    #[test]
    fn both_forms_give_the_same_floats() {
        let floats = vec![1.0, 2.0];
        assert_eq!(read("[1, 2.0]"), Some(Embedding::Components(floats.clone())));
        assert_eq!(read(r#""AACAPwAAAEA=""#), Some(Embedding::Components(floats)));
        // Two roundings, to f64 and then to f32, would give another float.
        let exact: f32 = "0.10000000149011612".parse().unwrap();
        assert_eq!(read("[0.10000000149011612]"), Some(Embedding::Components(vec![exact])));
    }

    #[test]
    fn broken_base64_is_told_from_a_wrong_shape() {
        for text in [r#""!!""#, r#""AACAPwAA""#] {
            assert!(matches!(read(text), Some(Embedding::Unreadable(_))), "{text}");
        }
        for text in ["null", "1", r#"[1,"2"]"#, "[true]", "[null]", "[[1]]", "{}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_float_survives_both_forms(bits in vec(any::<u32>(), 1..20)) {
            let floats: Vec<f32> =
                bits.into_iter().map(f32::from_bits).filter(|f| f.is_finite()).collect();
            let bytes: Vec<u8> = floats.iter().flat_map(|f| f.to_le_bytes()).collect();
            let same = |read: Option<Embedding>| match read {
                Some(Embedding::Components(read)) => {
                    read.iter().map(|f| f.to_bits()).eq(floats.iter().map(|f| f.to_bits()))
                }
                Some(Embedding::Unreadable(_)) | None => false,
            };
            prop_assert!(same(read(&serde_json::to_string(&floats).unwrap())));
            let base64 = serde_json::to_string(&BASE64_STANDARD.encode(bytes)).unwrap();
            prop_assert!(same(read(&base64)));
        }
    }
}
