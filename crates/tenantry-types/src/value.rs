//! Metadata values.

use std::cmp::Ordering;

/// One metadata value: a scalar, or a list of scalars of one kind.
///
/// Kinds are kept apart (`1`, `1.0`, `true` and `"1"` are four different values on the way in
/// and out), but integers and floats compare with each other by number.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A 64-bit signed integer.
    Int(i64),
    /// A finite 64-bit float.
    Float(f64),
    /// Text.
    Str(String),
    /// A list of scalars, all of one kind, in the order given, duplicates kept. May be empty.
    List(Vec<Value>),
}

impl Value {
    /// True if `self` and `other` are scalars of one kind (integers and floats are two kinds).
    pub fn same_kind(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Equality by number for integers and floats, exact for all else; kinds do not mix.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(_) | Self::Float(_), Self::Int(_) | Self::Float(_)) => {
                self.compare(other) == Some(Ordering::Equal)
            }
            _ => self == other,
        }
    }

    /// Order of two numbers or two texts; `None` for anything else. Exact: no integer is
    /// rounded to a float on the way.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(b),
            (Self::Int(a), Self::Float(b)) => compare_int_float(*a, *b),
            (Self::Float(a), Self::Int(b)) => compare_int_float(*b, *a).map(Ordering::reverse),
            (Self::Str(a), Self::Str(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Bytes this value counts for in what is written and kept: 1 for a boolean, 8 for a number, a
    /// text's own in UTF-8, and the sum of a list's elements. The same in every version.
    pub fn logical_bytes(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Int(_) | Self::Float(_) => 8,
            Self::Str(text) => text.len(),
            Self::List(items) => items.iter().map(Self::logical_bytes).sum(),
        }
    }

    /// Bytes this value occupies in memory, for budgets; an estimate.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + match self {
                Self::Str(text) => text.len(),
                Self::List(items) => items.iter().map(Self::bytes).sum(),
                Self::Bool(_) | Self::Int(_) | Self::Float(_) => 0,
            }
    }
}

/// Compares without losing the low bits of large integers.
fn compare_int_float(int: i64, float: f64) -> Option<Ordering> {
    const TWO_POW_63: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= TWO_POW_63 {
        return Some(Ordering::Less);
    }
    if float < -TWO_POW_63 {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = float.trunc() as i64;
    let fraction = float.fract();
    Some(int.cmp(&whole).then(if fraction > 0.0 {
        Ordering::Less
    } else if fraction < 0.0 {
        Ordering::Greater
    } else {
        Ordering::Equal
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly() {
        let big = Value::Int(i64::MAX);
        assert_eq!(big.compare(&Value::Float(9.223_372_036_854_776e18)), Some(Ordering::Less));
        assert_eq!(Value::Int(1).compare(&Value::Float(1.5)), Some(Ordering::Less));
        assert_eq!(Value::Int(-1).compare(&Value::Float(-1.5)), Some(Ordering::Greater));
        assert_eq!(Value::Float(2.5).compare(&Value::Int(2)), Some(Ordering::Greater));
        assert!(Value::Int(1).equals(&Value::Float(1.0)));
        assert!(!Value::Int(1).equals(&Value::Str("1".into())));
        assert!(!Value::Int(1).equals(&Value::Bool(true)));
    }
}
