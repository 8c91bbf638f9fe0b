//! Regular expressions, whose matching can be interrupted.
//!
//! Matching is linear in the text, but what each byte costs depends on the pattern, and both come from
//! callers: some megabytes and a pattern with large repetitions are minutes. So only short texts are
//! handed over whole; longer ones go through a lazy DFA byte by byte, and whoever shares the machine
//! is asked in between.

use regex::{Regex, RegexBuilder};
use regex_automata::{
    Input, MatchKind,
    hybrid::{
        LazyStateID,
        dfa::{Cache, DFA},
    },
    nfa::thompson::{self, WhichCaptures},
};
use std::sync::OnceLock;
use tenantry_types::{Error, ErrorKind, Result};

/// Bytes that one compiled regular expression may take, and once more what its matching may cache.
/// Patterns come from callers.
pub(super) const BYTES_MAX: usize = 256 << 10;
/// The same expression in the form that is walked byte by byte, which a long text asks for.
const NFA_BYTES_MAX: usize = 4 * BYTES_MAX;
/// Texts that are matched at once: some tens of milliseconds with the worst pattern.
const AT_ONCE: usize = 4 << 10;
/// Bytes of a text times states of a pattern that are matched at once where the text has letters
/// beyond ASCII and the pattern has boundaries of words, which no DFA knows: tens of milliseconds.
const STEPS_AT_ONCE: usize = 16 << 20;
/// States of a pattern of which nobody knows how many it has.
const STATES: usize = 1 << 10;
/// Bytes after which it is looked whether states were made, each of which may take a tenth of a
/// millisecond.
const STEP: usize = 64;
/// Bytes that go through known states before others are asked.
const KNOWN: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    source: Box<str>,
    /// Made for the first long text; none if it cannot be made.
    dfa: OnceLock<Option<DFA>>,
}

impl Pattern {
    pub(super) fn compile(source: &str) -> Result<Self> {
        let regex = RegexBuilder::new(source)
            .size_limit(BYTES_MAX)
            .dfa_size_limit(BYTES_MAX)
            .build()
            .map_err(|error| Error::invalid(format!("Regex syntax error: {error}")))?;
        Ok(Self { regex, source: source.into(), dfa: OnceLock::new() })
    }

    /// True if it matches somewhere in the text.
    pub(super) fn is_in(&self, text: &str, pace: &mut dyn FnMut() -> Result<()>) -> Result<bool> {
        pace()?;
        if text.len() <= AT_ONCE {
            return Ok(self.regex.is_match(text));
        }
        let dfa = self.dfa.get_or_init(|| walked(&self.source)).as_ref();
        if let Some(dfa) = dfa
            && let Some(found) = walk(dfa, text, pace)?
        {
            return Ok(found);
        }
        let states = dfa.map_or(STATES, |dfa| dfa.get_nfa().states().len());
        let bytes_max = STEPS_AT_ONCE / states.max(1);
        if text.len() <= bytes_max {
            return Ok(self.regex.is_match(text));
        }
        Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "filter: the regular expression {:?} has boundaries of words, and a text of {} bytes \
                 has letters beyond ASCII: this one is matched against {bytes_max} bytes at most \
                 then; (?-u:\\b) is a boundary of ASCII words, which has no such bound",
                self.source,
                text.len()
            ),
        ))
    }
}

fn walked(source: &str) -> Option<DFA> {
    let config = DFA::config()
        .match_kind(MatchKind::All)
        .unicode_word_boundary(true)
        .cache_capacity(BYTES_MAX)
        .skip_cache_capacity_check(true);
    let nfa = thompson::Config::new()
        .nfa_size_limit(Some(NFA_BYTES_MAX))
        .which_captures(WhichCaptures::None);
    DFA::builder().configure(config).thompson(nfa).build(source).ok()
}

/// Whether there is a match; none if the DFA cannot tell.
fn walk(dfa: &DFA, text: &str, pace: &mut dyn FnMut() -> Result<()>) -> Result<Option<bool>> {
    let mut cache = dfa.create_cache();
    let Ok(mut state) = dfa.start_state_forward(&mut cache, &Input::new(text)) else {
        return Ok(None);
    };
    let (mut made, mut known) = (states(&cache), 0);
    for bytes in text.as_bytes().chunks(STEP) {
        for byte in bytes {
            let Ok(next) = dfa.next_state(&mut cache, state, *byte) else { return Ok(None) };
            state = next;
            match Walk::at(state) {
                Walk::GoesOn => {}
                Walk::Found => return Ok(Some(true)),
                Walk::NotFound => return Ok(Some(false)),
                Walk::Unknown => return Ok(None),
            }
        }
        known += bytes.len();
        let now = states(&cache);
        if now != made || known >= KNOWN {
            (made, known) = (now, 0);
            pace()?;
        }
    }
    let Ok(last) = dfa.next_eoi_state(&mut cache, state) else { return Ok(None) };
    Ok(match Walk::at(last) {
        Walk::Found => Some(true),
        Walk::GoesOn | Walk::NotFound => Some(false),
        Walk::Unknown => None,
    })
}

/// Changes when a state is made.
fn states(cache: &Cache) -> (usize, usize) {
    (cache.memory_usage(), cache.clear_count())
}

/// Where a walk is.
#[derive(Clone, Copy)]
enum Walk {
    GoesOn,
    Found,
    NotFound,
    /// The DFA cannot tell.
    Unknown,
}

impl Walk {
    /// Matches are told one byte late.
    fn at(state: LazyStateID) -> Self {
        if !state.is_tagged() {
            Self::GoesOn
        } else if state.is_match() {
            Self::Found
        } else if state.is_dead() {
            Self::NotFound
        } else if state.is_quit() {
            Self::Unknown
        } else {
            Self::GoesOn
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Result<bool> {
        Pattern::compile(pattern).unwrap().is_in(text, &mut || Ok(()))
    }

    const PATTERNS: [&str; 22] = [
        "needle",
        "^needle",
        "needle$",
        "(?m)^needle",
        "(?m)needle$",
        "(?i)NEEDLE",
        "n.e",
        "(?s)n.e",
        "",
        "^$",
        "a{50}",
        "[^x]{40}y",
        "(a|b|c)*d",
        r"\bneedle\b",
        r"\Bedle",
        r"(?-u:\b)needle",
        "é+",
        r"\w+z",
        r"\d{4}-\d{2}",
        r"\p{Greek}",
        "(?x) ne ed # what\n le",
        r"\z",
    ];

    #[test]
    fn long_texts_match_what_short_ones_do() {
        let ends =
            ["", "needle", "NEEDLE", "\nneedle\n", "n\ne", "2026-11", "xneedle", "naïve needle"];
        for pattern in PATTERNS {
            let regex = Regex::new(pattern).unwrap();
            let ours = Pattern::compile(pattern).unwrap();
            for end in ends {
                for padding in ["a", "x y ", "\n", "é"] {
                    let padding = padding.repeat(AT_ONCE / padding.len() + 1);
                    for text in [format!("{padding}{end}"), format!("{end}{padding}")] {
                        let found = ours.is_in(&text, &mut || Ok(())).unwrap();
                        assert_eq!(found, regex.is_match(&text), "{pattern} in …{end}…");
                    }
                }
            }
        }
    }

    #[test]
    fn what_no_dfa_knows_has_a_bound() {
        let short = "é needle ".repeat(1_000);
        let long = "é nothing ".repeat(100_000);
        assert!(found(r"\bneedle\b", &short).unwrap());
        assert!(!found(r"\bneedle\b", &long[..100_001]).unwrap());
        let why = found(r"\b(needle|x{200}){20}\b", &long).unwrap_err();
        assert_eq!(why.kind(), ErrorKind::TooLarge);
        assert!(why.to_string().contains("(?-u:"), "{why}");
        assert!(!found(r"(?-u:\b)(needle|x{200}){20}(?-u:\b)", &long).unwrap());
    }

    #[test]
    fn others_are_asked_within_one_text() {
        let text = "abcdefghij é中".repeat(20_000);
        let pattern = Pattern::compile("(?i)(a|b|c|d)*[^x]{50}zzz").unwrap();
        let mut asked = 0;
        let mut pace = || {
            asked += 1;
            Ok(())
        };
        assert!(!pattern.is_in(&text, &mut pace).unwrap());
        assert!(asked > text.len() / (2 * KNOWN), "{asked}");
        let mut left = 5;
        let mut pace = || {
            left -= 1;
            if left > 0 { Ok(()) } else { Err(Error::new(ErrorKind::LimitExceeded, "over")) }
        };
        let ended = pattern.is_in(&text, &mut pace).unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::LimitExceeded);
    }
}
