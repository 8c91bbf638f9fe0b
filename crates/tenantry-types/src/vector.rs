//! Named vectors: what a record may have beside its one unnamed vector.

use crate::{Error, Metric, Result};
use std::fmt;

/// The name of one of a record's vectors: 1 to 64 bytes of `A-Z`, `a-z`, `0-9`, `_`, `-` and `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VectorName(Box<str>);

impl VectorName {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Parses a name.
    pub fn parse(name: &str) -> Result<Self> {
        if name.is_empty() {
            return Err(Error::invalid("vector name: must not be empty"));
        }
        if name.len() > Self::BYTES_MAX {
            return Err(Error::invalid(format!(
                "vector name: {} bytes, at most {} are allowed",
                name.len(),
                Self::BYTES_MAX
            )));
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        match name.chars().find(|c| !allowed(*c)) {
            None => Ok(Self(name.into())),
            Some(bad) => Err(Error::invalid(format!(
                "vector name {name:?}: {bad:?} is not allowed, only letters and digits of ASCII, \
                 \"_\", \"-\" and \".\""
            ))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for VectorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// How precisely vectors are kept in memory, where they are searched. On disk they are as they
/// were given, and that is how they are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum VectorStorage {
    /// As they were given: about 5 bytes a component. Distances are exact.
    #[default]
    Full,
    /// 16 bits a component. Distances are those of the rounded vectors.
    Half,
    /// 8 bits a component. Distances are those of the rounded vectors.
    Int8,
}

/// What the vectors of one name are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VectorSpec {
    /// How they are compared; cannot be changed later.
    pub metric: Metric,
    /// Components of each; `None` until the first one is written.
    pub dimension: Option<u32>,
    /// How precisely they are kept in memory; cannot be changed later.
    pub storage: VectorStorage,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vector_names_are_short_and_plain() {
        let long = "x".repeat(64);
        for good in ["title", "a", "A-1_b.c", ".", "--", &long] {
            assert_eq!(VectorName::parse(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("", "empty"),
            ("a b", "' '"),
            ("a/b", "'/'"),
            ("ü", "'ü'"),
            ("nul\0", "'\\0'"),
            (&"x".repeat(65), "65 bytes"),
        ] {
            let error = VectorName::parse(bad).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
