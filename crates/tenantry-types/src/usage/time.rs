//! Hours and months of UTC, counted from 1970.

use crate::Timestamp;

const HOUR_MILLIS: u64 = 3_600_000;

/// An hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hour(pub u32);

/// A month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Month(pub u32);

/// A day of UTC, counted from 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub u32);

impl Day {
    /// Its first hour.
    pub fn first(self) -> Hour {
        Hour(self.0.saturating_mul(24))
    }

    /// The first moment of the next one.
    pub fn end(self) -> Timestamp {
        Self(self.0.saturating_add(1)).first().start()
    }
}

/// As in RFC 3339: `2026-11-30`.
impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil(self.0);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl Hour {
    /// The day that it is in.
    pub fn day(self) -> Day {
        Day(self.0 / 24)
    }

    /// The hour of a moment.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.0 / HOUR_MILLIS).unwrap_or(u32::MAX))
    }

    /// Its first moment.
    pub fn start(self) -> Timestamp {
        Timestamp(u64::from(self.0) * HOUR_MILLIS)
    }

    /// The month that it is in.
    pub fn month(self) -> Month {
        let (year, month, _) = civil(self.0 / 24);
        Month((year - 1970) * 12 + month - 1)
    }

    /// The hours from one moment to another, and how many milliseconds of each are between them.
    pub fn between(from: Timestamp, to: Timestamp) -> impl Iterator<Item = (Self, u64)> {
        let mut at = from.0;
        std::iter::from_fn(move || {
            if at >= to.0 {
                return None;
            }
            let hour = Self::of(Timestamp(at));
            let end = (at / HOUR_MILLIS + 1).saturating_mul(HOUR_MILLIS).min(to.0);
            let part = end - at;
            at = end;
            Some((hour, part))
        })
    }
}

impl Timestamp {
    /// As RFC 3339 writes it, with milliseconds.
    pub fn rfc3339(self) -> String {
        let (seconds, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (year, month, day) = civil(u32::try_from(seconds / 86_400).unwrap_or(u32::MAX));
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// As in RFC 3339, the moment at which it begins.
impl std::fmt::Display for Hour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (year, month, day) = civil(self.0 / 24);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:00:00Z", self.0 % 24)
    }
}

impl Month {
    /// `2026-11`; none if it is written in another way, or before 1970.
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let is_number =
            |text: &str, len| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(year, 4) || !is_number(month, 2) {
            return None;
        }
        let (year, month): (u32, u32) = (year.parse().ok()?, month.parse().ok()?);
        let year = year.checked_sub(1970)?;
        (1..=12).contains(&month).then(|| Self(year * 12 + month - 1))
    }

    /// The first moment of the next one.
    pub fn end(self) -> Timestamp {
        // It is at least as many days since 1970 as all months before it have.
        let mut day = Day(self.0.saturating_mul(30));
        while day.first().month() <= self && day.0 < u32::MAX / 24 {
            day.0 += 1;
        }
        day.first().start()
    }
}

impl std::fmt::Display for Month {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04}-{:02}", 1970 + self.0 / 12, self.0 % 12 + 1)
    }
}

/// What usage is summed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Every {
    /// Hours, numbered as [`Hour`] is.
    Hour,
    /// Months, numbered as [`Month`] is.
    Month,
}

impl Every {
    /// Its name in protocols.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Month => "month",
        }
    }

    /// What the hour or month with this number is called.
    pub fn label(self, at: u32) -> String {
        match self {
            Self::Hour => Hour(at).to_string(),
            Self::Month => Month(at).to_string(),
        }
    }
}

/// Year, month and day of a day since 1970. Years begin with March here, so that the day that some
/// of them have more is their last.
fn civil(day: u32) -> (u32, u32, u32) {
    // Days from March 1 of the year 0 to 1970, and of 400 years.
    const BEFORE: u64 = 719_468;
    const ERA: u64 = 146_097;
    let day = u64::from(day) + BEFORE;
    let (era, day) = (day / ERA, day % ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let in_month = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    (small(era * 400 + year + next), small(month), small(in_month))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        for month in (0..2_400).map(Month) {
            let end = month.end();
            assert_eq!(Hour::of(end).month(), Month(month.0 + 1));
            assert_eq!(Hour::of(Timestamp(end.0 - 1)).month(), month);
        }
        assert_eq!(Hour::of(Day(3).end()), Hour(96));
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for n in 0..200_000 {
            assert_eq!(civil(n), (year, month, day), "{n}");
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > days {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
    }

    #[test]
    fn hours_and_months_have_their_names() {
        let at = Timestamp(1_795_960_800_123);
        assert_eq!(Hour::of(at).to_string(), "2026-11-29T14:00:00Z");
        assert_eq!(Hour::of(at).month().to_string(), "2026-11");
        assert_eq!(Month::parse("2026-11"), Some(Hour::of(at).month()));
        assert_eq!(Month::parse("1970-01"), Some(Month(0)));
        for wrong in ["", "2026", "2026-13", "2026-00", "1969-12", "2026-1", "+026-01", "2026-11-"]
        {
            assert_eq!(Month::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Hour::of(Timestamp(u64::MAX)), Hour(u32::MAX));
        let _ = Hour(u32::MAX).to_string();
    }

    #[test]
    fn what_lies_between_is_all_of_it() {
        let (from, to) = (Timestamp(HOUR_MILLIS - 1), Timestamp(3 * HOUR_MILLIS + 5));
        let parts: Vec<_> = Hour::between(from, to).collect();
        let hour = HOUR_MILLIS;
        assert_eq!(parts, [(Hour(0), 1), (Hour(1), hour), (Hour(2), hour), (Hour(3), 5)]);
        assert_eq!(Hour::between(to, from).count(), 0);
        assert_eq!(Hour::between(to, to).count(), 0);
    }
}
