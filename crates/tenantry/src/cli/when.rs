//! Moments as people type them.

use std::str::FromStr;

/// A moment in milliseconds since 1970 UTC, typed as RFC 3339 says: `2026-12-31T18:00:00Z`,
/// `2026-12-31T18:00:00+01:00`; a day alone is its beginning in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(pub(super) u64);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        read(text.trim()).map(Self).ok_or_else(|| {
            format!(
                "{text:?} is not a time: write it like 2026-12-31, 2026-12-31T18:00:00Z or \
                 2026-12-31T18:00:00+01:00"
            )
        })
    }
}

fn read(text: &str) -> Option<u64> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_of_month).contains(&day) {
        return None;
    }
    let ms = days(year, month, day) * 86_400_000 + time.map_or(Some(0), of_day)?;
    u64::try_from(ms).ok()
}

/// Days since 1970, by years that begin with March, so that leap days come last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = if month > 2 { month - 3 } else { month + 9 };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leaps + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Milliseconds since midnight UTC, which may be before or after that day.
fn of_day(time: &str) -> Option<i64> {
    let end = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(end);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 59 || !is_digits(fraction) {
        return None;
    }
    let thousandths: String = fraction.chars().chain("00".chars()).take(3).collect();
    let ms = ((hour * 60 + minute) * 60 + second) * 1_000 + thousandths.parse::<i64>().ok()?;
    if matches!(zone, "Z" | "z") {
        return Some(ms);
    }
    let [hours, minutes] = numbers(zone.get(1..)?, ':', [2, 2])?;
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = (hours * 60 + minutes) * 60_000;
    Some(if zone.starts_with('+') { ms - ahead } else { ms + ahead })
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits && is_digits(part))?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::utc;

    #[test]
    fn moments_are_read_in_their_zone() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2024-02-29T23:59:59.25z", 1_709_251_199_250),
            ("2026-01-01T00:59:59+01:00", 1_767_225_599_000),
            ("2025-12-31 18:29:59-05:30", 1_767_225_599_000),
            ("2100-03-01", 4_107_542_400_000),
        ] {
            assert_eq!(text.parse(), Ok(Moment(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        for ms in (0..200).map(|n: u64| n * 31_415_926_000) {
            assert_eq!(utc(&ms.into()).parse(), Ok(Moment(ms)));
        }
    }

    #[test]
    fn what_is_no_moment_is_told() {
        for text in [
            "",
            "tomorrow",
            "2026",
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "2026-01-00",
            "2026-01-01T10:00:00",
            "2026-01-01T24:00:00Z",
            "2026-01-01T10:00Z",
            "2026-01-01T10:00:00.Z",
            "2026-01-01T10:00:00+1",
            "2026-01-01T10:00:00Zx",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
