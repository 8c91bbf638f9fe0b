//! Metadata values as places in one order.

use super::slots::ALLOCATION_BYTES;
use crate::filter::Scalar;
use std::cmp::Ordering;
use tenantry_types::Value;

/// A scalar under a total order: truth values, then numbers by number, then texts.
///
/// Made by [`Term::scalar`], two are equal if and only if [`Value::equals`] says so; made by
/// [`Term::element`], if and only if kind and value are the same. Never NaN.
#[derive(Debug, Clone)]
pub(super) enum Term {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
}

impl Term {
    /// Before all numbers and after all truth values, as no truth value is above it.
    pub(super) const LAST_BOOL: Self = Self::Bool(true);

    /// Before or at all texts, and after all numbers.
    pub(super) fn first_text() -> Self {
        Self::Text(Box::default())
    }

    /// `None` for what equals nothing: lists, and NaN.
    pub(super) fn scalar(value: &Value) -> Option<Self> {
        Some(match Scalar::of(value)? {
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Int(value) => Self::Int(value),
            Scalar::Float(bits) => Self::Float(f64::from_bits(bits)),
            Scalar::Str(text) => Self::Text(text.as_ref().into()),
        })
    }

    /// An element of a list, where `1` and `1.0` differ. `None` as for [`Term::scalar`].
    pub(super) fn element(value: &Value) -> Option<Self> {
        match value {
            Value::Float(value) if value.is_nan() => None,
            // Zero has one form, because -0.0 equals 0.0.
            Value::Float(value) => Some(Self::Float(value + 0.0)),
            _ => Self::scalar(value),
        }
    }

    /// Bytes on the heap, estimated.
    pub(super) fn heap(&self) -> usize {
        match self {
            Self::Text(text) if !text.is_empty() => text.len() + ALLOCATION_BYTES,
            _ => 0,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Int(_) | Self::Float(_) => 1,
            Self::Text(_) => 2,
        }
    }
}

impl Ord for Term {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Self::Int(a), Self::Float(b)) => mixed(*a, *b),
            (Self::Float(a), Self::Int(b)) => mixed(*b, *a).reverse(),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// By number, and at the same number the integer first: only elements of lists can tie.
fn mixed(int: i64, float: f64) -> Ordering {
    let order = Value::Int(int).compare(&Value::Float(float)).unwrap_or(Ordering::Equal);
    order.then(Ordering::Less)
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Term {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Term {}
