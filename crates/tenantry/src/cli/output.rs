//! What the command line writes: tables for people, JSON for programs.

use anyhow::Result;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{Write as _, stdout},
};
use tenantry::is_invisible;
use unicode_width::UnicodeWidthStr as _;

/// Text that may come from elsewhere, with control characters made visible, so that a label or
/// a message cannot drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if (c.is_control() || is_invisible(c)) && c != '\n' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Rows under a heading, each column as wide as its widest cell.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| printable(cell).replace('\n', "\\n")).collect())
        .collect();
    let width = |column: usize| {
        let cells = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
        cells.chain([heading[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let mut out = String::new();
    let heading = heading.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&heading).chain(&cells) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell}{:1$}", "", width - cell.width() + 2);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Milliseconds since 1970 as `2026-11-21 04:05:06Z`; empty for anything else.
pub(crate) fn utc(ms: &Value) -> String {
    let Some(seconds) = ms.as_i64().map(|ms| ms.div_euclid(1_000)) else { return String::new() };
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 1 March of the year 0, in eras of 400 years: then leap days come last.
    let day = days + 719_468;
    let (era, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}Z", second % 60)
}

/// Writes text to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes one JSON document, on one line, to standard output.
pub(crate) fn print_json(value: &Value) -> Result<()> {
    print(&format!("{value}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_shown_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_400_000_i64, "2000-02-29 00:00:00Z"),
            (1_709_251_199_999, "2024-02-29 23:59:59Z"),
            (1_767_225_599_000, "2025-12-31 23:59:59Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(utc(&ms.into()), text);
        }
        assert_eq!(utc(&Value::Null), "");
    }

    #[test]
    fn a_table_aligns_its_columns_and_hides_nothing() {
        let wide = [vec!["日本".into(), "1".into()], vec!["abc".into(), "2".into()]];
        assert_eq!(table(&["N", "C"], &wide), "N     C\n日本  1\nabc   2\n");
        let rows = [vec!["añ".into(), "1".into()], vec!["b\u{1b}[31m".into(), String::new()]];
        assert_eq!(
            table(&["NAME", "COUNT"], &rows),
            "NAME         COUNT\nañ           1\nb\\u{1b}[31m\n"
        );
    }
}
