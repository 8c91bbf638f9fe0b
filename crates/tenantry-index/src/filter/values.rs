//! Sets of scalars under the equality of filters.

use std::{borrow::Cow, collections::HashSet};
use tenantry_types::Value;

/// A scalar reduced so that two are the same if and only if [`Value::equals`] says so: numbers
/// that are whole and fit 64 bits are integers, whatever kind they came as.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Int(i64),
    /// The bits of a float that is no 64-bit integer.
    Float(u64),
    Str(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// `None` for what equals nothing: lists, and NaN.
    pub(crate) fn of(value: &'a Value) -> Option<Self> {
        const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
        Some(match value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::Int(*value),
            Value::Float(value) if value.is_nan() => return None,
            Value::Float(value)
                if value.fract() == 0.0 && (-TWO_POW_63..TWO_POW_63).contains(value) =>
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
                Self::Int(*value as i64)
            }
            Value::Float(value) => Self::Float(value.to_bits()),
            Value::Str(value) => Self::Str(Cow::Borrowed(value)),
            Value::List(_) => return None,
        })
    }

    fn into_owned(self) -> Scalar<'static> {
        match self {
            Self::Bool(value) => Scalar::Bool(value),
            Self::Int(value) => Scalar::Int(value),
            Self::Float(value) => Scalar::Float(value),
            Self::Str(value) => Scalar::Str(Cow::Owned(value.into_owned())),
        }
    }
}

/// Values to look up. Short lists are compared one by one, which is faster than hashing.
#[derive(Debug)]
pub(super) enum ValueSet {
    Short(Vec<Scalar<'static>>),
    Long(HashSet<Scalar<'static>>),
}

impl ValueSet {
    const SHORT_MAX: usize = 16;

    pub(super) fn new(values: &[Value]) -> Self {
        let scalars = values.iter().filter_map(Scalar::of).map(Scalar::into_owned);
        if values.len() <= Self::SHORT_MAX {
            Self::Short(scalars.collect())
        } else {
            Self::Long(scalars.collect())
        }
    }

    pub(super) fn has<'a>(&self, scalar: &Scalar<'a>) -> bool {
        match self {
            Self::Short(all) => all.iter().any(|one| one == scalar),
            Self::Long(all) => {
                // The set's element type is covariant, so a borrowed key of any lifetime will do.
                let all: &HashSet<Scalar<'a>> = all;
                all.contains(scalar)
            }
        }
    }
}
