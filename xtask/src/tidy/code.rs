//! Rules for Rust files, on the code alone: comments and literals are blanked out first.

use super::{Findings, words::has_word};

const LINES_MAX: usize = 800;
const LINES_GOOD: usize = 400;
const UNSAFE_HOME: &str = "crates/tenantry-index/src/kernels";

/// Text that no code may contain, and what to do instead.
const BANNED: &[(&str, &str)] = &[
    ("todo!", "write the code"),
    ("unimplemented!", "write the code, or return a typed error"),
    ("#[allow(", "use #[expect(lint, reason = \"...\")]"),
    ("#![allow(", "use #![expect(lint, reason = \"...\")]"),
    ("#[ignore", "a test that does not run proves nothing: repair or remove it"),
];

pub(super) fn check(path: &str, text: &str, findings: &mut Findings) {
    length(path, text, findings);
    let code = blank(text);
    for (index, line) in code.lines().enumerate() {
        let line_number = index + 1;
        if has_word(line, "unsafe") && !path.starts_with(UNSAFE_HOME) {
            findings.problems.push(format!(
                "{path}:{line_number}: unsafe code lives only in {UNSAFE_HOME}; find a safe way"
            ));
        }
        for (banned, instead) in BANNED {
            if line.contains(banned) {
                findings
                    .problems
                    .push(format!("{path}:{line_number}: {banned} is banned; {instead}"));
            }
        }
    }
}

fn length(path: &str, text: &str, findings: &mut Findings) {
    if path.contains("/tests/") || path.ends_with("tests.rs") {
        return;
    }
    let lines = lines_without_tests(text);
    if lines > LINES_MAX {
        findings.problems.push(format!(
            "{path}: {lines} lines without its tests, at most {LINES_MAX}; split it by topic"
        ));
    } else if lines > LINES_GOOD {
        findings.notes.push(format!("{path}: {lines} lines; files read best below {LINES_GOOD}"));
    }
}

/// The lines before the test module, which stands last in a file.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let is_start = |pair: &[&str]| {
        matches!(pair, [mark, module]
            if *mark == "#[cfg(test)]" && module.starts_with("mod ") && module.ends_with('{'))
    };
    lines.windows(2).position(is_start).unwrap_or(lines.len())
}

/// The same text with comments and the contents of string and character literals as blanks.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let skipped = token_length(rest, code.last().copied());
        if skipped == 0 {
            code.extend(rest.first());
            at += 1;
            continue;
        }
        let token = rest.get(..skipped).unwrap_or(rest);
        // Line breaks stay, so that line numbers stay.
        code.extend(token.iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        at += token.len();
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// The length of the comment or literal that starts here; 0 if none does.
fn token_length(rest: &[u8], before: Option<u8>) -> usize {
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match rest {
        [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => find(rest, 2, b"*/"),
        [b'r', b'"' | b'#', ..] if !in_word => raw_length(rest),
        [b'"', ..] => string_length(rest),
        // A lifetime has no closing quote after one character.
        [b'\'', b'\\', _, ..] => find(rest, 3, b"'"),
        [b'\'', _, b'\'', ..] => 3,
        _ => 0,
    }
}

fn find(rest: &[u8], from: usize, end: &[u8]) -> usize {
    let found = rest.windows(end.len()).skip(from).position(|window| window == end);
    found.map_or(rest.len(), |at| from + at + end.len())
}

fn raw_length(rest: &[u8]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|byte| **byte == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return 0;
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    find(rest, 2 + hashes, &end)
}

fn string_length(rest: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check(path, text, &mut findings);
        findings.problems
    }

    #[test]
    fn unsafe_code_lives_in_the_kernels_only() {
        let code = "fn f() {\n    unsafe { g() }\n}\n";
        assert_eq!(problems("crates/tenantry-index/src/kernels/avx2.rs", code).len(), 0);
        let found = problems("crates/tenantry-store/src/a.rs", code);
        assert!(found[0].starts_with("crates/tenantry-store/src/a.rs:2: unsafe"), "{found:?}");
    }

    #[test]
    fn words_in_comments_and_literals_are_free() {
        let code = "// unsafe todo!()\n/* unsafe\nunsafe */ let a = \"unsafe \\\" todo!()\";\n\
                    let b = r#\"unsafe \" todo!\"#; let c = 'u'; let d: &'static str = \"\";\n\
                    #![deny(unsafe_code)]\n";
        assert_eq!(problems("a.rs", code), Vec::<String>::new());
    }

    #[test]
    fn code_after_a_literal_is_still_seen() {
        let code = "let a = '\"'; let b = '\\''; unsafe { c() }\n";
        assert_eq!(problems("a.rs", code).len(), 1);
    }

    #[test]
    fn unfinished_code_is_refused() {
        for code in ["fn a() { todo!() }\n", "fn a() { unimplemented!(\"later\") }\n"] {
            assert_eq!(problems("a.rs", code).len(), 1, "{code}");
        }
    }

    #[test]
    fn long_files_are_refused_but_their_tests_do_not_count() {
        let long = "fn a() {}\n".repeat(LINES_MAX + 1);
        assert!(problems("a.rs", &long)[0].contains("split it"));
        let tested =
            format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "// x\n".repeat(900));
        assert_eq!(problems("a.rs", &tested), Vec::<String>::new());
        assert_eq!(problems("a/tests/it/b.rs", &long), Vec::<String>::new());
    }
}
