//! One vector of a write: a list of numbers, or base64 of little-endian 32-bit floats.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
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
