//! Of which parts of a tenant's budgets endpoints were told. The rules of [`super`] hold.

use super::unreadable;
use crate::tenancy::webhooks::Mark;
use serde::{Deserialize, Serialize};
use tenantry_types::{Budget, Result};

const WHAT: &str = "what was told of a budget";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskThresholds {
    /// Some of each budget, in the order in which they were told: its number, the day or month, what
    /// it was, hundredths of it.
    V1(Vec<(u8, u32, u64, u8)>),
}

impl DiskThresholds {
    pub(crate) fn new(marks: &[Mark]) -> Self {
        let row = |mark: &Mark| (mark.budget.number(), mark.period, mark.most, mark.percent);
        Self::V1(marks.iter().map(row).collect())
    }

    pub(crate) fn into_marks(self) -> Result<Vec<Mark>> {
        let Self::V1(rows) = self;
        let mark = |(number, period, most, percent)| {
            // It is not skipped: what it says would be told again and again.
            let budget = Budget::of_number(number).ok_or_else(|| unreadable(WHAT))?;
            Ok(Mark { budget, period, most, percent })
        };
        rows.into_iter().map(mark).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{decode, encode},
        *,
    };

    #[test]
    fn what_was_told_is_read_as_it_was_written() {
        let marks = [
            Mark { budget: Budget::Cost, period: 682, most: 300, percent: 80 },
            Mark { budget: Budget::Day, period: 1, most: 0, percent: 100 },
        ];
        let row = encode(&DiskThresholds::new(&marks));
        assert_eq!(row, [0, 2, 0, 0xaa, 5, 0xac, 2, 80, 2, 1, 0, 100]);
        let read: DiskThresholds = decode(&row, WHAT).unwrap();
        assert_eq!(read.into_marks().unwrap(), marks);
        assert!(DiskThresholds::V1(vec![(3, 1, 1, 50)]).into_marks().is_err());
    }
}
