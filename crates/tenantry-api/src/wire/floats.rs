//! Vectors in JSON.

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;
use tenantry_engine::JsonNumbers;

/// A list of numbers, each rounded to the nearest 32-bit float.
#[derive(Debug)]
pub(crate) struct Floats(pub(crate) Vec<f32>);

impl<'de> Deserialize<'de> for Floats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        if let Some(list) = JsonNumbers::new(text.as_bytes(), 0).numbers(text.len() / 16) {
            return Ok(Self(list));
        }
        // Says what is wrong; the place is added outside.
        serde_json::from_str(text).map(Self).map_err(|why| {
            let why = why.to_string();
            D::Error::custom(why.split(" at line ").next().unwrap_or_default())
        })
    }
}
