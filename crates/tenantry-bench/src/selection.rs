//! Which vectors may answer: some at random, whole sections of the data, or those in one place.

use crate::{
    corpus::{Corpus, Truth, truths},
    random::Random,
};
use anyhow::Result;
use roaring::RoaringBitmap;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tenantry_index::{Allow, ExactIndex};

const SHARES: [f64; 4] = [0.5, 0.1, 0.01, 0.001];

/// How the allowed rows lie among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Anywhere.
    Random,
    /// Whole sections.
    Sections,
    /// The nearest of one row, far from most queries.
    Cluster,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Sections => "sections",
            Self::Cluster => "one cluster",
        }
    }
}

/// One filter.
pub(crate) struct Case {
    /// Its place among all.
    pub(crate) number: usize,
    pub(crate) kind: Kind,
    /// The share of rows that was asked for; sections are as large as they are.
    pub(crate) share: f64,
    pub(crate) slots: Vec<u32>,
    pub(crate) bitmap: RoaringBitmap,
    pub(crate) truths: Vec<Truth>,
    /// For peers: a file with a byte for each row.
    pub(crate) mask: PathBuf,
}

/// Every kind of filter in every size, with the exact answers of the first `asked` queries.
pub(crate) fn cases(
    corpus: &Corpus,
    originals: &ExactIndex,
    (neighbours, asked): (usize, usize),
    seed: u64,
    folder: &Path,
) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for kind in [Kind::Random, Kind::Sections, Kind::Cluster] {
        for share in SHARES {
            let slots = chosen(kind, share, seed, corpus, originals);
            let queries = corpus.queries.rows().take(asked);
            let truths = truths(originals, queries, neighbours, Allow::Slots(&slots));
            let bitmap: RoaringBitmap = slots.iter().collect();
            let bytes: Vec<u8> = (0..corpus.base.len())
                .map(|row| u8::from(u32::try_from(row).is_ok_and(|row| bitmap.contains(row))))
                .collect();
            let number = cases.len();
            let mask = folder.join(format!("{number}.mask"));
            fs::write(&mask, bytes)?;
            cases.push(Case { number, kind, share, slots, bitmap, truths, mask });
        }
    }
    Ok(cases)
}

/// The rows of one filter, ascending.
fn chosen(kind: Kind, share: f64, seed: u64, corpus: &Corpus, originals: &ExactIndex) -> Vec<u32> {
    let rows = corpus.base.len();
    let mut random = Random::new(seed ^ share.to_bits());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "of a length")]
    let count = (share * rows as f64).round().max(1.0) as usize;
    match kind {
        Kind::Random => random.sample(count, rows),
        Kind::Sections => of_sections(&corpus.sections, count),
        Kind::Cluster => {
            let pivot = corpus.base.row(random.below(rows));
            let found = originals.search(pivot, count, Allow::All);
            let mut slots: Vec<_> = found.iter().map(|one| one.slot).collect();
            slots.sort_unstable();
            slots
        }
    }
}

/// The rows of whole sections, the largest that fit first, up to about `count` rows; of the
/// smallest if none fits.
fn of_sections(sections: &[String], count: usize) -> Vec<u32> {
    let mut rows_of: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (row, section) in (0..).zip(sections) {
        rows_of.entry(section).or_default().push(row);
    }
    let mut groups: Vec<_> = rows_of.into_values().collect();
    groups.sort_by_key(|rows| std::cmp::Reverse(rows.len()));
    let mut chosen: Vec<u32> = Vec::new();
    for rows in &groups {
        if chosen.len() + rows.len() <= count {
            chosen.extend(rows);
        }
    }
    if chosen.is_empty() {
        chosen = groups.pop().unwrap_or_default();
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_sections_are_allowed_up_to_the_asked_count() {
        let sections: Vec<_> =
            ["a", "b", "a", "c", "a", "b", "a"].iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(of_sections(&sections, 5), vec![0, 2, 3, 4, 6]);
        assert_eq!(of_sections(&sections, 3), vec![1, 3, 5]);
        assert_eq!(of_sections(&sections, 0), vec![3]);
        assert_eq!(of_sections(&[], 3), Vec::<u32>::new());
    }
}
