//! Metadata and text filters, made ready to be asked many times.

mod pattern;
mod values;

use memchr::memmem;
use pattern::Pattern;
use std::cmp::Ordering;
use tenantry_types::{Error, FieldTest, Filter, Metadata, Result, TextTest, Value};
use values::ValueSet;

pub(crate) use values::Scalar;

/// Regular expressions in one filter: with [`pattern::BYTES_MAX`] the bound on a filter's memory.
const REGEXES_MAX: usize = 16;

/// Bytes of a text that are searched at once: some tens of microseconds.
const WINDOW: usize = 256 << 10;

/// A filter ready to be asked: patterns compiled, long lists hashed, cheap conditions first.
///
/// It means exactly what [`Filter`] says.
#[derive(Debug)]
pub struct CompiledFilter {
    root: Node,
    needs_text: bool,
}

#[derive(Debug)]
enum Node {
    All(Vec<Node>),
    Any(Vec<Node>),
    Not(Box<Node>),
    Field { key: Box<str>, test: Test },
    Contains(Box<memmem::Finder<'static>>),
    Matches(Box<Pattern>),
}

/// What must hold of a value. Negative conditions are [`Node::Not`] of these.
#[derive(Debug)]
enum Test {
    /// For a condition that no value meets.
    Never,
    Equals(Value),
    /// Compares to the value with one of the two orderings.
    Ordered(Value, [Ordering; 2]),
    In(ValueSet),
    HasElement(Value),
    Exists,
}

impl CompiledFilter {
    /// Compiles a filter.
    ///
    /// `Invalid` if a regular expression is malformed, or would compile to more than 256 KiB, or
    /// if there are more than 16 of them.
    pub fn compile(filter: &Filter) -> Result<Self> {
        let mut regexes = 0;
        let root = node(filter, &mut regexes)?;
        Ok(Self { root, needs_text: filter.needs_text() })
    }

    /// True if a record with this metadata and this text meets the filter; `None` is a record
    /// without metadata, or without text. For small texts: it asks nobody in between, and what
    /// [`CompiledFilter::matches_paced`] refuses does not meet it.
    pub fn matches(&self, metadata: Option<&Metadata>, document: Option<&str>) -> bool {
        self.matches_paced(metadata, document, &mut || Ok(())).unwrap_or(false)
    }

    /// The same; `pace` is called before each condition on a text, and again and again within a long
    /// one.
    ///
    /// # Errors
    ///
    /// Those of `pace`; `TooLarge` for a regular expression with boundaries of words on a long text
    /// with letters beyond ASCII, which cannot be interrupted.
    pub fn matches_paced(
        &self,
        metadata: Option<&Metadata>,
        document: Option<&str>,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<bool> {
        self.root.holds(metadata, document, pace)
    }

    /// True if any part of the filter looks at the record's text. If not, the text need not be
    /// loaded: any argument for it gives the same answer.
    pub fn needs_text(&self) -> bool {
        self.needs_text
    }
}

fn node(filter: &Filter, regexes: &mut usize) -> Result<Node> {
    Ok(match filter {
        Filter::And(parts) => Node::All(nodes(parts, regexes)?),
        Filter::Or(parts) => Node::Any(nodes(parts, regexes)?),
        Filter::Not(part) => Node::Not(Box::new(node(part, regexes)?)),
        Filter::Field { key, test } => field(key, test),
        Filter::Text(TextTest::Contains(part)) => contains(part),
        Filter::Text(TextTest::NotContains(part)) => not(contains(part)),
        Filter::Text(TextTest::Regex(pattern)) => matches(pattern, regexes)?,
        Filter::Text(TextTest::NotRegex(pattern)) => not(matches(pattern, regexes)?),
    })
}

/// The order of the parts does not matter to the answer, so the cheap ones come first.
fn nodes(parts: &[Filter], regexes: &mut usize) -> Result<Vec<Node>> {
    let mut nodes = parts.iter().map(|part| node(part, regexes)).collect::<Result<Vec<_>>>()?;
    nodes.sort_by_cached_key(Node::cost);
    Ok(nodes)
}

fn not(node: Node) -> Node {
    Node::Not(Box::new(node))
}

fn field(key: &str, test: &FieldTest) -> Node {
    use Ordering::{Equal, Greater, Less};
    let scalar = |value: &Value, test: fn(Value) -> Test| {
        if matches!(value, Value::List(_)) { Test::Never } else { test(value.clone()) }
    };
    let of = |test: Test| Node::Field { key: key.into(), test };
    match test {
        FieldTest::Eq(value) => of(scalar(value, Test::Equals)),
        FieldTest::Ne(value) => not(of(scalar(value, Test::Equals))),
        FieldTest::Gt(value) => of(Test::Ordered(value.clone(), [Greater; 2])),
        FieldTest::Gte(value) => of(Test::Ordered(value.clone(), [Greater, Equal])),
        FieldTest::Lt(value) => of(Test::Ordered(value.clone(), [Less; 2])),
        FieldTest::Lte(value) => of(Test::Ordered(value.clone(), [Less, Equal])),
        FieldTest::In(values) => of(Test::In(ValueSet::new(values))),
        FieldTest::NotIn(values) => not(of(Test::In(ValueSet::new(values)))),
        FieldTest::Contains(value) => of(scalar(value, Test::HasElement)),
        FieldTest::NotContains(value) => not(of(scalar(value, Test::HasElement))),
        FieldTest::Exists(true) => of(Test::Exists),
        FieldTest::Exists(false) => not(of(Test::Exists)),
    }
}

fn contains(part: &str) -> Node {
    Node::Contains(Box::new(memmem::Finder::new(part.as_bytes()).into_owned()))
}

fn matches(pattern: &str, regexes: &mut usize) -> Result<Node> {
    *regexes += 1;
    if *regexes > REGEXES_MAX {
        return Err(Error::invalid(format!(
            "filter: at most {REGEXES_MAX} regular expressions are allowed"
        )));
    }
    Ok(Node::Matches(Box::new(Pattern::compile(pattern)?)))
}

impl Node {
    fn holds(
        &self,
        metadata: Option<&Metadata>,
        document: Option<&str>,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<bool> {
        Ok(match self {
            Self::All(nodes) => {
                for node in nodes {
                    if !node.holds(metadata, document, pace)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Any(nodes) => {
                for node in nodes {
                    if node.holds(metadata, document, pace)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(node) => !node.holds(metadata, document, pace)?,
            Self::Field { key, test } => {
                metadata.and_then(|metadata| metadata.get(&**key)).is_some_and(|v| test.holds(v))
            }
            Self::Contains(part) => match document {
                Some(text) => has_part(part, text.as_bytes(), pace)?,
                None => false,
            },
            Self::Matches(pattern) => match document {
                Some(text) => pattern.is_in(text, pace)?,
                None => false,
            },
        })
    }

    /// Higher takes longer.
    fn cost(&self) -> u8 {
        match self {
            Self::Field { .. } => 0,
            Self::All(nodes) | Self::Any(nodes) => nodes.iter().map(Self::cost).max().unwrap_or(0),
            Self::Not(node) => node.cost(),
            Self::Contains(_) => 1,
            Self::Matches(_) => 2,
        }
    }
}

/// Looks for a part of a text window by window, which overlap by what the part is longer than one
/// byte.
fn has_part(
    part: &memmem::Finder<'static>,
    text: &[u8],
    pace: &mut dyn FnMut() -> Result<()>,
) -> Result<bool> {
    let overlap = part.needle().len().saturating_sub(1);
    let mut from = 0;
    loop {
        pace()?;
        let end = text.len().min(from + WINDOW + overlap);
        if part.find(text.get(from..end).unwrap_or_default()).is_some() {
            return Ok(true);
        }
        if end == text.len() {
            return Ok(false);
        }
        from += WINDOW;
    }
}

impl Test {
    fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Never => false,
            Self::Equals(wanted) => value.equals(wanted),
            Self::Ordered(bound, orders) => {
                value.compare(bound).is_some_and(|order| orders.contains(&order))
            }
            Self::In(values) => Scalar::of(value).is_some_and(|scalar| values.has(&scalar)),
            Self::HasElement(wanted) => match value {
                Value::List(items) => items.iter().any(|item| item == wanted),
                _ => false,
            },
            Self::Exists => true,
        }
    }
}
