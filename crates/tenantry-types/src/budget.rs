//! Quotas that begin anew with each day or month, and how much of them is used.

use crate::{Day, Hour, Month, Quotas, Term, Timestamp};

/// One of the quotas that begin anew with each day or month of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Budget {
    /// [`Quotas::cost`].
    Cost,
    /// [`Quotas::month`].
    Month,
    /// [`Quotas::day`].
    Day,
}

impl Budget {
    /// All of them, in the order of their numbers. Those of a month come first: whoever waits for the
    /// month is not told that it waits for the day.
    pub const ALL: [Self; 3] = [Self::Cost, Self::Month, Self::Day];

    /// The parts of a budget, in hundredths, of which endpoints are told when they are used.
    pub const THRESHOLDS: [u8; 3] = [50, 80, 100];

    /// What plans and exceptions say of it.
    pub const fn term(self) -> Term {
        match self {
            Self::Cost => Term::Cost,
            Self::Month => Term::Month,
            Self::Day => Term::Day,
        }
    }

    /// Its number, which never changes.
    pub const fn number(self) -> u8 {
        match self {
            Self::Cost => 0,
            Self::Month => 1,
            Self::Day => 2,
        }
    }

    /// The one with this number, if there is one.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// How much it is; none if it is not limited.
    pub const fn most(self, quotas: &Quotas) -> Option<u64> {
        match self {
            Self::Cost => quotas.cost,
            Self::Month => quotas.month,
            Self::Day => quotas.day,
        }
    }

    /// The number of the day or month of a moment, counted from 1970.
    pub fn period(self, at: Timestamp) -> u32 {
        match self {
            Self::Cost | Self::Month => Hour::of(at).month().0,
            Self::Day => Hour::of(at).day().0,
        }
    }

    /// When the day or month of a moment ends.
    pub fn end(self, at: Timestamp) -> Timestamp {
        match self {
            Self::Cost | Self::Month => Hour::of(at).month().end(),
            Self::Day => Hour::of(at).day().end(),
        }
    }

    /// What the day or month with this number is called: `2026-11`, or `2026-11-30`.
    pub fn label(self, period: u32) -> String {
        match self {
            Self::Cost | Self::Month => Month(period).to_string(),
            Self::Day => Day(period).to_string(),
        }
    }

    /// True if no more is served. Requests are asked for before they are made, so none of a quota of
    /// 0 is; what a month costs is known afterwards, and one that has cost nothing has used nothing.
    pub const fn is_used_up(self, used: u64, most: u64) -> bool {
        used >= most && (used > 0 || !matches!(self, Self::Cost))
    }

    /// The largest of [`Self::THRESHOLDS`] that is used; none if less is.
    pub fn reached(used: u64, most: u64) -> Option<u8> {
        let is_used = |percent: &u8| {
            u128::from(used) * 100 >= u128::from(most) * u128::from(*percent) && used > 0
        };
        Self::THRESHOLDS.into_iter().rev().find(is_used)
    }
}

impl Quotas {
    /// True if it limits anything that begins anew with a day or month.
    pub fn has_budgets(&self) -> bool {
        Budget::ALL.into_iter().any(|budget| budget.most(self).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_and_periods_have_their_names() {
        for (at, budget) in Budget::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(budget.number()), at);
            assert_eq!(Budget::of_number(budget.number()), Some(budget));
        }
        assert_eq!(Budget::of_number(3), None);
        // 2026-11-29, 14:00 UTC.
        let at = Timestamp(1_795_960_800_123);
        let label = |budget: Budget| budget.label(budget.period(at));
        assert_eq!(Budget::ALL.map(label), ["2026-11", "2026-11", "2026-11-29"]);
    }

    #[test]
    fn a_threshold_is_reached_by_whoever_uses_that_much() {
        for (used, most, reached) in [
            (0, 0, None),
            (0, 10, None),
            (4, 10, None),
            (5, 10, Some(50)),
            (7, 10, Some(50)),
            (8, 10, Some(80)),
            (9, 10, Some(80)),
            (10, 10, Some(100)),
            (99, 10, Some(100)),
            (1, 3, None),
            (2, 3, Some(50)),
            (1, 0, Some(100)),
            (u64::MAX - 1, u64::MAX, Some(80)),
            (u64::MAX, u64::MAX, Some(100)),
        ] {
            assert_eq!(Budget::reached(used, most), reached, "{used} of {most}");
        }
    }

    #[test]
    fn what_costs_nothing_uses_up_no_money() {
        assert!(!Budget::Cost.is_used_up(0, 0) && Budget::Cost.is_used_up(1, 0));
        assert!(Budget::Day.is_used_up(0, 0) && !Budget::Day.is_used_up(1, 2));
        assert!(Budget::Cost.is_used_up(2, 2) && !Budget::Cost.is_used_up(1, 2));
    }
}
