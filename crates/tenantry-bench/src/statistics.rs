//! Medians, percentiles, spreads, and reading a recall–latency curve.

use serde_json::{Value, json};

/// Several measurements of one thing.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// Of any number of measurements; zeros if there are none.
    pub(crate) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else {
            return Self::default();
        };
        Self { median: median(&sorted), least: *least, most: *most }
    }

    pub(crate) fn json(&self) -> Value {
        json!({"median": self.median, "least": self.least, "most": self.most})
    }
}

/// The middle value of a sorted list, or the mean of the two in the middle; 0 of an empty one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The smallest value that at least `percent` of all do not exceed (nearest rank); 0 of none.
pub(crate) fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in 0..=len")]
    let rank = (percent / 100.0 * sorted.len() as f64).ceil().max(0.0) as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// One setting of one system: how good its answers are, and how long they take.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// What the system calls it by: the width of its search.
    pub(crate) beam: usize,
    /// The share of exact neighbours found, from 0 to 1.
    pub(crate) recall: f64,
    /// The mean microseconds of a query, of each round.
    pub(crate) rounds: Vec<f64>,
    /// Of single queries, over all rounds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Setting {
    /// The median round, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        Spread::of(&self.rounds).median
    }

    pub(crate) fn json(&self) -> Value {
        json!({"beam": self.beam, "recall": self.recall, "mean_us": Spread::of(&self.rounds).json(),
            "rounds_us": self.rounds, "p50_us": self.p50, "p99_us": self.p99})
    }
}

/// The fastest measured setting that reaches a recall. Nothing is interpolated: between two
/// settings no recall was seen.
pub(crate) fn fastest(settings: &[Setting], recall: f64) -> Option<&Setting> {
    let good = settings.iter().filter(|setting| setting.recall >= recall);
    good.min_by(|a, b| a.micros().total_cmp(&b.micros()))
}

/// Ours divided by theirs, round by round: both took their turns within the same round.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter()
        .zip(theirs)
        .filter(|(_, their)| **their > 0.0)
        .map(|(our, their)| our / their)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(beam: usize, recall: f64, rounds: &[f64]) -> Setting {
        Setting { beam, recall, rounds: rounds.to_vec(), p50: 0.0, p99: 0.0 }
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn a_spread_is_read_from_unsorted_values() {
        let found = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!(found, Spread { median: 2.0, least: 1.0, most: 3.0 });
        assert!(close(Spread::of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5));
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (percent, expected) in [(50.0, 100.0), (99.0, 198.0), (0.0, 1.0), (100.0, 200.0)] {
            assert!(close(percentile(&values, percent), expected), "{percent}");
        }
        assert!(close(percentile(&[7.0], 99.0), 7.0) && close(percentile(&[], 50.0), 0.0));
    }

    #[test]
    fn the_fastest_setting_that_is_good_enough_counts() {
        let curve = [
            setting(8, 0.9, &[10.0]),
            setting(32, 0.985, &[40.0, 30.0, 31.0]),
            setting(64, 0.99, &[60.0]),
        ];
        assert_eq!(fastest(&curve, 0.98).map(|one| one.beam), Some(32));
        assert_eq!(fastest(&curve, 0.99).map(|one| one.beam), Some(64));
        assert!(fastest(&curve, 0.999).is_none());
        assert!(close(curve[1].micros(), 31.0));
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        assert_eq!(ratios(&[1.0, 2.0, 3.0], &[2.0, 2.0, 0.0]), vec![0.5, 1.0]);
    }
}
