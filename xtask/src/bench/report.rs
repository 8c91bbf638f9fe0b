//! The table and the JSON file that a comparison ends with.

use anyhow::Result;
use serde_json::{Value, json};
use std::fs;

/// What counts as better, and by how much Tenantry is meant to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reach {
    /// Tenantry's number is at least this many times the other.
    AtLeast(f64),
    /// Tenantry's number is at most the other divided by this.
    AtMostOneIn(f64),
    /// Only shown.
    Shown,
}

/// One line: what was measured at both servers.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) chroma: f64,
    pub(crate) tenantry: f64,
    pub(crate) reach: Reach,
}

impl Row {
    /// Tenantry's number divided by the other.
    fn ratio(&self) -> f64 {
        self.tenantry / self.chroma
    }

    fn reached(&self) -> Option<bool> {
        match self.reach {
            Reach::AtLeast(times) => Some(self.ratio() >= times),
            Reach::AtMostOneIn(part) => Some(self.ratio() <= 1.0 / part),
            Reach::Shown => None,
        }
    }

    fn goal(&self) -> String {
        let verdict = |text: String| match self.reached() {
            Some(true) => format!("{text}: reached"),
            _ => format!("{text}: MISSED"),
        };
        match self.reach {
            Reach::AtLeast(times) => verdict(format!("≥ {times} x")),
            Reach::AtMostOneIn(part) => verdict(format!("≤ 1/{part}")),
            Reach::Shown => String::new(),
        }
    }

    /// How many times better or worse, as people say it.
    fn factor(&self) -> String {
        let ratio = self.ratio();
        if ratio >= 1.0 || ratio == 0.0 {
            format!("{ratio:.2} x")
        } else {
            format!("1/{:.1}", 1.0 / ratio)
        }
    }
}

/// The rows as a table.
pub(crate) fn table(rows: &[Row]) -> String {
    let line = |name: &str, cells: [&str; 3], goal: &str| {
        let [chroma, tenantry, ratio] = cells;
        format!("{name:<42} {chroma:>12} {tenantry:>12} {ratio:>10}  {goal}").trim_end().to_owned()
    };
    let mut lines = vec![line("", ["chroma", "tenantry", "ratio"], "goal")];
    for row in rows {
        let name = format!("{} [{}]", row.name, row.unit);
        let cells = [&number(row.chroma), &number(row.tenantry), &row.factor()];
        lines.push(line(&name, cells.map(String::as_str), &row.goal()));
    }
    lines.join("\n") + "\n"
}

/// Writes a result to `target/bench/<name>.json`.
pub(crate) fn write(name: &str, result: &Value) -> Result<()> {
    let folder = crate::step::target().join("bench");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.json"));
    fs::write(&path, format!("{result:#}\n"))?;
    println!("written: {}", path.display());
    Ok(())
}

/// The rows as JSON.
pub(crate) fn as_json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({"name": row.name, "unit": row.unit, "chroma": row.chroma,
                "tenantry": row.tenantry, "ratio": row.ratio(), "reached": row.reached()})
        })
        .collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(chroma: f64, tenantry: f64, reach: Reach) -> Row {
        Row { name: "a", unit: "s", chroma, tenantry, reach }
    }

    #[test]
    fn goals_are_judged_by_ratio() {
        assert_eq!(row(10.0, 120.0, Reach::AtLeast(12.0)).reached(), Some(true));
        assert_eq!(row(10.0, 119.0, Reach::AtLeast(12.0)).reached(), Some(false));
        assert_eq!(row(10.0, 2.0, Reach::AtMostOneIn(5.0)).reached(), Some(true));
        assert_eq!(row(10.0, 2.1, Reach::AtMostOneIn(5.0)).reached(), Some(false));
        assert_eq!(row(10.0, 2.1, Reach::Shown).reached(), None);
    }

    #[test]
    fn the_table_says_what_was_missed() {
        let text = table(&[row(10.0, 20.0, Reach::AtLeast(12.0)), row(10.0, 2.0, Reach::Shown)]);
        assert!(text.contains("2.00 x  ≥ 12 x: MISSED") && text.contains("1/5.0"), "{text}");
    }
}
