//! Filters over metadata and text.

use crate::Value;

/// A condition on a record.
///
/// Negations match whatever the positive form does not: records that lack the key or whose value
/// has another kind match [`FieldTest::Ne`], [`FieldTest::NotIn`] and [`FieldTest::NotContains`],
/// and records without text match [`TextTest::NotContains`] and [`TextTest::NotRegex`].
#[derive(Debug, Clone, PartialEq)]
pub enum Filter {
    /// All conditions hold; true when empty.
    And(Vec<Filter>),
    /// At least one condition holds; false when empty.
    Or(Vec<Filter>),
    /// The condition does not hold.
    Not(Box<Filter>),
    /// A condition on one metadata key.
    Field {
        /// The key.
        key: String,
        /// The condition.
        test: FieldTest,
    },
    /// A condition on the record's text.
    Text(TextTest),
}

/// A condition on the value of one metadata key.
///
/// Integers and floats compare by number; other kinds never mix. A list is never equal to
/// anything; only [`FieldTest::Contains`] looks inside it.
#[derive(Debug, Clone, PartialEq)]
pub enum FieldTest {
    /// The value is a scalar equal to this one.
    Eq(Value),
    /// Not [`FieldTest::Eq`].
    Ne(Value),
    /// Greater; numbers with numbers, texts with texts.
    Gt(Value),
    /// Greater or equal.
    Gte(Value),
    /// Less.
    Lt(Value),
    /// Less or equal.
    Lte(Value),
    /// The value is a scalar equal to one of these.
    In(Vec<Value>),
    /// Not [`FieldTest::In`].
    NotIn(Vec<Value>),
    /// The value is a list with an element of exactly this kind and value.
    Contains(Value),
    /// Not [`FieldTest::Contains`].
    NotContains(Value),
    /// The key is there (`true`) or not (`false`).
    Exists(bool),
}

/// A condition on the record's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    /// The text has this substring, case-sensitive. An empty one matches every text.
    Contains(String),
    /// Not [`TextTest::Contains`].
    NotContains(String),
    /// The text has a match of this regular expression (syntax of the `regex` crate, unanchored).
    Regex(String),
    /// Not [`TextTest::Regex`].
    NotRegex(String),
}

impl Filter {
    /// Both conditions.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut all) => {
                all.push(other);
                Self::And(all)
            }
            one => Self::And(vec![one, other]),
        }
    }

    /// The number of nodes and listed values, for the limit on filters.
    pub fn terms(&self) -> usize {
        match self {
            Self::And(all) | Self::Or(all) => 1 + all.iter().map(Self::terms).sum::<usize>(),
            Self::Not(one) => 1 + one.terms(),
            Self::Field { test: FieldTest::In(values) | FieldTest::NotIn(values), .. } => {
                1 + values.len()
            }
            Self::Field { .. } | Self::Text(_) => 1,
        }
    }

    /// True if any part of the filter looks at the record's text.
    pub fn needs_text(&self) -> bool {
        match self {
            Self::And(all) | Self::Or(all) => all.iter().any(Self::needs_text),
            Self::Not(one) => one.needs_text(),
            Self::Text(_) => true,
            Self::Field { .. } => false,
        }
    }
}
