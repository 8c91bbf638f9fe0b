//! Rules for every text file: no tabs, no trailing blanks, no promises.

use super::Findings;

/// Written in two halves, so that this file passes its own rule.
const PROMISES: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

pub(super) fn check(path: &str, text: &str, findings: &mut Findings) {
    let mut say = |line: usize, what: &str| {
        findings.problems.push(format!("{path}:{line}: {what}"));
    };
    // `str::lines` would hide carriage returns.
    for (index, line) in text.split('\n').enumerate() {
        if line.contains('\t') {
            say(index + 1, "a tab; use blanks");
        }
        if line.ends_with([' ', '\r', '\t']) {
            say(index + 1, "blanks at the end of the line; remove them");
        }
        for promise in PROMISES {
            if has_word(line, promise) {
                say(index + 1, &format!("{promise} is banned; do it now, or file an issue"));
            }
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        say(text.lines().count(), "a file ends with exactly one line break");
    }
}

/// True if `word` stands in `line` with no letter, digit or underscore beside it.
pub(super) fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (line.get(..at), line.get(at + word.len()..));
        !before.is_some_and(|text| text.ends_with(part))
            && !after.is_some_and(|text| text.starts_with(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check("x.rs", text, &mut findings);
        findings.problems
    }

    #[test]
    fn clean_text_passes() {
        assert_eq!(problems("one\n\ntwo\n"), Vec::<String>::new());
        assert_eq!(problems(""), Vec::<String>::new());
    }

    #[test]
    fn each_untidiness_is_named_with_its_line() {
        for (text, expected) in [
            ("a\n\tb\n".to_owned(), "x.rs:2: a tab"),
            ("a \n".to_owned(), "x.rs:1: blanks"),
            ("a\r\n".to_owned(), "x.rs:1: blanks"),
            ("a".to_owned(), "x.rs:1: a file ends"),
            ("a\n\n".to_owned(), "x.rs:2: a file ends"),
            (format!("// {}: later\n", PROMISES[0]), "x.rs:1: "),
        ] {
            let found = problems(&text);
            let named = found.iter().any(|problem| problem.starts_with(expected));
            assert!(named, "{text:?}: {found:?}");
        }
    }

    #[test]
    fn a_word_is_not_found_inside_another() {
        assert!(has_word("an unsafe block", "unsafe"));
        assert!(!has_word("unsafe_code", "unsafe"));
        assert!(!has_word("très_unsafe", "unsafe"));
    }
}
