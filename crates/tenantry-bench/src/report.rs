//! What a run ends with: a table of ratios, a JSON file, charts.

use crate::{
    chart::Chart,
    process::bench_folder,
    statistics::{Spread, ratios},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::fs;

/// How Tenantry's number is meant to stand to the peer's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At least this many times the peer's.
    AtLeast(f64),
    /// At most this many times the peer's.
    AtMost(f64),
    /// At most this, whatever a peer's number is.
    Within(f64),
    /// Only shown.
    Shown,
}

/// One line of the table: the same measurement, round by round, of Tenantry and of one peer.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) peer: String,
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
    pub(crate) goal: Goal,
}

impl Row {
    /// Ours divided by theirs.
    fn ratio(&self) -> Spread {
        Spread::of(&ratios(&self.ours, &self.theirs))
    }

    /// `None` if nothing was promised, or nothing was measured.
    fn reached(&self) -> Option<bool> {
        let ratio = self.ratio().median;
        match self.goal {
            _ if self.ours.is_empty() => None,
            Goal::Within(most) => Some(Spread::of(&self.ours).median <= most),
            _ if self.theirs.is_empty() => None,
            Goal::AtLeast(times) => Some(ratio >= times),
            Goal::AtMost(times) => Some(ratio <= times),
            Goal::Shown => None,
        }
    }

    fn goal_text(&self) -> String {
        let wanted = match self.goal {
            Goal::AtLeast(times) => format!(">= {times} x"),
            Goal::AtMost(times) => format!("<= {times} x"),
            Goal::Within(most) => format!("<= {most} {}", self.unit),
            Goal::Shown => return String::new(),
        };
        let verdict = match self.reached() {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "not measured",
        };
        format!("{wanted}: {verdict}")
    }

    fn cells(&self) -> [String; 6] {
        let ratio = self.ratio();
        [
            format!("{} [{}]", self.what, self.unit),
            self.peer.clone(),
            cell(&self.ours),
            cell(&self.theirs),
            if ratio == Spread::default() { String::new() } else { spread(&ratio) },
            self.goal_text(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what, "unit": self.unit, "peer": self.peer,
            "ours": Spread::of(&self.ours).json(), "theirs": Spread::of(&self.theirs).json(),
            "ours_rounds": self.ours, "theirs_rounds": self.theirs,
            "ratio": self.ratio().json(), "reached": self.reached(),
        })
    }
}

fn cell(values: &[f64]) -> String {
    if values.is_empty() { "-".to_owned() } else { spread(&Spread::of(values)) }
}

/// The median, and from where to where the rounds lay if they differed.
pub(crate) fn spread(spread: &Spread) -> String {
    let (low, high) = (number(spread.least), number(spread.most));
    let median = number(spread.median);
    if low == high { median } else { format!("{median} ({low}-{high})") }
}

/// A number with about three digits.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        one if one >= 1.0 => format!("{value:.2}"),
        tenth if tenth >= 0.1 || tenth == 0.0 => format!("{value:.3}"),
        hundredth if hundredth >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.5}"),
    }
}

/// The rows as a table; a ratio is Tenantry's number divided by the peer's.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = ["", "peer", "tenantry", "the peer's", "ratio", "goal"].map(str::to_owned);
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    columns(&head, &cells)
}

/// Cells in columns: the first two to the left, numbers to the right.
pub(crate) fn columns<const N: usize>(head: &[String; N], cells: &[[String; N]]) -> String {
    let all = || std::iter::once(head).chain(cells);
    let width = |column: usize| all().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut lines = String::new();
    for row in all() {
        let aligned = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            if column < 2 || column + 1 == N {
                format!("{cell:<width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        lines.push_str(aligned.collect::<Vec<_>>().join("  ").trim_end());
        lines.push('\n');
    }
    lines
}

/// The same table in Markdown.
fn markdown(rows: &[Row]) -> String {
    let head =
        "| what | peer | tenantry | the peer's | ratio | goal |\n|---|---|---|---|---|---|\n";
    let line = |row: &Row| format!("| {} |\n", row.cells().join(" | "));
    head.to_owned() + &rows.iter().map(line).collect::<String>()
}

/// Prints the table, and writes it as `<name>.md`, `<name>.json` with the rows and `details`, and
/// `<name>.svg`.
pub(crate) fn finish(name: &str, rows: &[Row], mut details: Value, chart: &Chart) -> Result<()> {
    print!("\n{}\n", table(rows));
    if let Some(fields) = details.as_object_mut() {
        fields.insert("rows".to_owned(), rows.iter().map(Row::json).collect());
    }
    let folder = bench_folder()?;
    let json = format!("{details:#}\n");
    for (ending, text) in [("md", markdown(rows)), ("json", json), ("svg", chart.svg())] {
        let path = folder.join(format!("{name}.{ending}"));
        fs::write(&path, text)?;
        println!("written: {}", path.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ours: &[f64], theirs: &[f64], goal: Goal) -> Row {
        let (ours, theirs) = (ours.to_vec(), theirs.to_vec());
        Row { what: "latency".into(), unit: "us", peer: "other".into(), ours, theirs, goal }
    }

    #[test]
    fn goals_are_judged_by_the_median_ratio() {
        let judge = |goal| row(&[1.0, 2.0, 9.0], &[10.0, 10.0, 10.0], goal).reached();
        assert_eq!(judge(Goal::AtMost(0.2)), Some(true));
        assert_eq!(judge(Goal::AtMost(0.19)), Some(false));
        assert_eq!(judge(Goal::AtLeast(0.2)), Some(true));
        assert_eq!(judge(Goal::AtLeast(0.21)), Some(false));
        assert_eq!(judge(Goal::Shown), None);
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_missed() {
        let row = row(&[1.0], &[], Goal::AtMost(0.5));
        assert_eq!(row.reached(), None);
        let (table, markdown) = (table(std::slice::from_ref(&row)), markdown(&[row]));
        assert!(table.contains("not measured") && markdown.ends_with("not measured |\n"));
    }

    #[test]
    fn a_goal_without_a_peer_is_judged_by_the_median() {
        let judge = |most| row(&[1.0, 2.0, 9.0], &[], Goal::Within(most)).reached();
        assert_eq!((judge(2.0), judge(1.9)), (Some(true), Some(false)));
        assert_eq!(row(&[], &[1.0], Goal::Within(2.0)).reached(), None);
        assert!(table(&[row(&[3.0], &[], Goal::Within(2.0))]).contains("<= 2 us: MISSED"));
    }

    #[test]
    fn numbers_keep_about_three_digits() {
        for (value, text) in [
            (1234.5, "1234"),
            (12.345, "12.3"),
            (0.1234, "0.123"),
            (0.01234, "0.0123"),
            (0.0, "0.000"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn the_table_shows_medians_with_their_spread() {
        let text = table(&[row(&[1.0, 2.0, 4.0], &[10.0, 10.0, 10.0], Goal::AtMost(0.1))]);
        assert!(text.contains("2.00 (1.00-4.00)") && text.contains("10.0 "), "{text}");
        assert!(
            text.contains("0.200 (0.100-0.400)") && text.contains("<= 0.1 x: MISSED"),
            "{text}"
        );
    }
}
