//! Texts that somebody else has written, where people look at them.

/// Characters that cannot be seen and turn around what is beside them, or make two names look alike.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// A text as CSV has it (RFC 4180), quoted. A `'` before what begins like a formula keeps a
/// spreadsheet from working out what a customer has called itself.
pub fn csv_text(text: &str) -> String {
    // A spreadsheet may skip what cannot be seen, and knows the wide forms too.
    let shown = |c: &char| !c.is_whitespace() && !is_invisible(*c);
    let first = text.chars().find(shown);
    let is_formula =
        first.is_some_and(|first| "=+-@\u{ff1d}\u{ff0b}\u{ff0d}\u{ff20}".contains(first));
    format!("\"{}{}\"", if is_formula { "'" } else { "" }, text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_no_formula() {
        for name in
            ["=1+1", "@SUM(1)", " =1", "\u{feff}=1", "\u{ff1d}1", "\u{200b}-1", "\u{2066}=1"]
        {
            assert_eq!(csv_text(name), format!("\"'{name}\""));
        }
        assert_eq!(csv_text("a=\"1\", b"), "\"a=\"\"1\"\", b\"");
        assert_eq!(csv_text(""), "\"\"");
    }
}
