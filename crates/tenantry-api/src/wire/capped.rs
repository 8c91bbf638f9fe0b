//! Lists that a caller can make long.
//!
//! What is refused for its length must not take memory before: items beyond one more than the
//! limit are read over, and the one more makes whoever checks the length refuse it.

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};
use std::{fmt, marker::PhantomData};

struct Capped<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Capped<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(CappedVisitor(PhantomData))
    }
}

struct CappedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for CappedVisitor<T, MAX> {
    type Value = Capped<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() <= MAX {
            match items.next_element()? {
                Some(item) => list.push(item),
                None => return Ok(Capped(list)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Capped(list))
    }
}

/// A list of which at most one item more than `MAX` is kept.
pub(crate) fn capped<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Capped::<T, MAX>::deserialize(deserializer).map(|Capped(list)| list)
}

/// The same for a list that may be absent or `null`; use with `#[serde(default)]`.
pub(crate) fn capped_option<'de, D, T, const MAX: usize>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Capped<T, MAX>>::deserialize(deserializer)?;
    Ok(list.map(|Capped(list)| list))
}

/// A short list that nobody else looks at the length of: more items are refused here.
pub(crate) fn short<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let Capped(list) = Capped::<T, MAX>::deserialize(deserializer)?;
    if list.len() > MAX {
        return Err(D::Error::custom(format!("at most {MAX} items are allowed")));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Lists {
        #[serde(deserialize_with = "capped::<_, _, 3>")]
        a: Vec<u8>,
        #[serde(default, deserialize_with = "capped_option::<_, _, 3>")]
        b: Option<Vec<u8>>,
        #[serde(default, deserialize_with = "short::<_, _, 3>")]
        c: Vec<u8>,
    }

    #[test]
    fn no_more_than_one_item_too_many_is_kept() {
        let parse = |text: &str| serde_json::from_str::<Lists>(text);
        let lists = parse(r#"{"a": [1, 2, 3, 4, "read over", []], "b": null}"#).unwrap();
        assert_eq!((lists.a.as_slice(), lists.b, lists.c.len()), (&[1, 2, 3, 4][..], None, 0));
        let lists = parse(r#"{"a": [], "b": [1], "c": [1, 2, 3]}"#).unwrap();
        assert_eq!((lists.a.len(), lists.b, lists.c.len()), (0, Some(vec![1]), 3));
        assert!(parse(r#"{"a": [], "c": [1, 2, 3, 4]}"#).is_err());
        assert!(parse(r#"{"a": [1, "2"]}"#).is_err() && parse(r#"{"b": []}"#).is_err());
    }
}
