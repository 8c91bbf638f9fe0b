//! What a text must contain for a regular expression to match.

use regex_syntax::hir::{
    Class, ClassBytesRange, ClassUnicodeRange, Hir, HirKind, literal::Extractor,
};

/// Alternatives that one run of literals may stand for, such as the spellings of a word whose
/// case does not matter.
const ALTERNATIVES_MAX: usize = 64;
/// Characters of a class that still counts as a literal with alternatives.
const CLASS_MAX: usize = 8;
/// A part is shortened to this many bytes: more does not narrow further.
const PART_BYTES_MAX: usize = 64;

/// Parts of which every matching text has some.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// This one; at least three bytes.
    Part(Box<[u8]>),
    /// All of these.
    All(Vec<Need>),
    /// At least one of these.
    Any(Vec<Need>),
}

impl Need {
    /// `None` if nothing of use can be said. The pattern is read as the `regex` crate reads it.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        of(&regex_syntax::parse(pattern).ok()?)
    }
}

/// Sound because a match has a match of each member of a concatenation, of one member of an
/// alternation, and of what is repeated at least once.
fn of(hir: &Hir) -> Option<Need> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => None,
        HirKind::Literal(_) | HirKind::Class(_) => run(std::slice::from_ref(hir)),
        HirKind::Repetition(repetition) if repetition.min == 0 => None,
        HirKind::Repetition(repetition) => of(&repetition.sub),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Concat(parts) => {
            let runs = parts.chunk_by(|a, b| is_short(a) && is_short(b));
            let needs: Vec<_> = runs
                .filter_map(|part| if let [one] = part { of(one) } else { run(part) })
                .collect();
            if needs.is_empty() { None } else { Some(Need::All(needs)) }
        }
        HirKind::Alternation(parts) => {
            parts.iter().map(of).collect::<Option<Vec<_>>>().map(Need::Any)
        }
    }
}

/// True for what stands for few strings.
fn is_short(hir: &Hir) -> bool {
    let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.sum::<usize>() <= CLASS_MAX;
    match hir.kind() {
        HirKind::Literal(_) => true,
        HirKind::Class(Class::Unicode(class)) => sum(&mut class.iter().map(ClassUnicodeRange::len)),
        HirKind::Class(Class::Bytes(class)) => sum(&mut class.iter().map(ClassBytesRange::len)),
        _ => false,
    }
}

/// What a run of literals and small classes must begin with.
fn run(parts: &[Hir]) -> Option<Need> {
    let mut extractor = Extractor::new();
    extractor.limit_total(ALTERNATIVES_MAX).limit_literal_len(PART_BYTES_MAX);
    let beginnings = extractor.extract(&Hir::concat(parts.to_vec()));
    let part = |bytes: &[u8]| (bytes.len() >= 3).then(|| Need::Part(bytes.into()));
    let parts: Vec<_> = beginnings
        .literals()?
        .iter()
        .map(|literal| part(literal.as_bytes()))
        .collect::<Option<_>>()?;
    Some(Need::Any(parts))
}
