//! How far the events of a tenant have come.

use tenantry_types::{Day, Error, ErrorKind, Hour, Result, Timestamp, UsageEvent};

const DAYS_OF_WEEK: u32 = 7;
/// A clock that goes back by more than this had jumped ahead, and is believed again. One that is
/// behind for longer than this is so for good.
const BACK_HOURS_MAX: u32 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct EventDay {
    /// The hour of the last ones. Goes forward, but after a clock that had jumped ahead.
    pub(crate) hour: Hour,
    /// How many were counted in `day`.
    pub(crate) events: u32,
    /// The day that the hour is in, or a later one to which a clock has come.
    pub(crate) day: Day,
    /// Since when that was before, if it was.
    pub(crate) behind: Option<Hour>,
    /// The week and the hash of an id: no rows are below them.
    pub(crate) oldest: (u32, [u8; 16]),
}

impl EventDay {
    /// At this moment. Nodes of which one is ahead by days do not begin a new day each with every
    /// report: what was counted in a day that was reached counts until a later one comes, or until
    /// nobody has been there for long.
    pub(super) fn turned(self, now: Timestamp) -> Self {
        let now = Hour::of(now);
        let back = self.hour.0.saturating_sub(now.0);
        let hour = if back > BACK_HOURS_MAX { now } else { now.max(self.hour) };
        let (turned, day) = (Self { hour, ..self }, hour.day());
        if day == self.day {
            return Self { behind: None, ..turned };
        }
        if day < self.day {
            let since = self.behind.map_or(hour, |since| since.min(hour));
            if hour.0 - since.0 <= BACK_HOURS_MAX {
                return Self { behind: Some(since), ..turned };
            }
        }
        Self { events: 0, day, behind: None, ..turned }
    }

    /// The week in which ids are kept that are counted now.
    pub(super) fn week(self) -> u32 {
        self.hour.day().0 / DAYS_OF_WEEK
    }

    /// The first week whose ids are known; rows of those before are removed.
    pub(super) fn kept(self) -> u32 {
        self.week().saturating_sub(1)
    }

    /// With so many more events, if there may be.
    pub(super) fn with(self, more: usize, now: Timestamp) -> Result<Self> {
        let events = u32::try_from(more).ok().and_then(|more| self.events.checked_add(more));
        if let Some(events) = events.filter(|all| *all <= UsageEvent::DAY_MAX) {
            // A clock that has gone back writes below what was removed.
            let oldest = self.oldest.min((self.week(), [0; 16]));
            return Ok(Self { events, oldest, ..self });
        }
        let most = UsageEvent::DAY_MAX;
        let message = format!(
            "{most} events a day of UTC may be reported of a tenant; report larger amounts in fewer \
             of them"
        );
        Err(over(message, self.hour, now))
    }
}

/// A refusal until the day of this hour ends.
pub(super) fn over(message: String, hour: Hour, now: Timestamp) -> Error {
    let seconds = hour.day().end().0.saturating_sub(now.0).div_ceil(1_000).max(1);
    Error::new(ErrorKind::LimitExceeded, message).with_retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn at(hour: u32, events: u32) -> EventDay {
        EventDay { hour: Hour(hour), events, day: Hour(hour).day(), ..EventDay::default() }
    }

    #[test]
    fn hours_go_forward_and_a_day_begins_anew() {
        let noon = Timestamp(2_412 * HOUR);
        let behind = |day, events| EventDay {
            day: Day(day),
            behind: Some(Hour(2_412)),
            ..at(2_412, events)
        };
        for (before, after) in [
            (at(0, 9), at(2_412, 0)),
            (at(2_411, 9), at(2_412, 9)),
            (at(2_399, 9), at(2_412, 0)),
            // A clock that goes back, within the day and to the one before.
            (at(2_413, 9), at(2_413, 9)),
            (at(2_436, 9), at(2_436, 9)),
            // One that had jumped ahead.
            (at(2_437, 9), behind(101, 9)),
            (at(u32::MAX, 9), behind(u32::MAX / 24, 9)),
        ] {
            assert_eq!(before.turned(noon), after, "{before:?}");
        }
        assert_eq!((at(7 * 24 - 1, 0).week(), at(7 * 24, 0).week()), (0, 1));
        assert_eq!((at(7 * 24, 0).kept(), at(0, 0).kept()), (0, 0));
    }

    #[test]
    fn nodes_that_are_days_apart_have_one_day_and_not_one_each_time() {
        let mut day = at(0, 0);
        for hour in 0..72 {
            for now in [2_400 + hour, 2_448 + hour] {
                day = day.turned(Timestamp(now * HOUR)).with(1, Timestamp(0)).unwrap();
                assert_eq!(u64::from(day.hour.0), now);
            }
        }
        // Both count in the day to which the one that is ahead has come.
        assert_eq!((day.day, day.events), (Day(104), 47));
    }

    #[test]
    fn a_day_that_nobody_comes_to_any_more_is_forgotten() {
        let jumped = at(9_999, 7).turned(Timestamp(2_412 * HOUR));
        let of = |hour: u64| jumped.turned(Timestamp(hour * HOUR));
        assert_eq!((of(2_436).events, of(2_436).day), (7, Hour(9_999).day()));
        assert_eq!(of(2_437), at(2_437, 0));
        // It was no error: another node is there.
        let back = jumped.turned(Timestamp(9_999 * HOUR));
        assert_eq!((back.events, back.behind), (7, None));
    }

    #[test]
    fn a_day_has_so_many_events_and_no_more() {
        let full = at(5, UsageEvent::DAY_MAX - 3);
        assert_eq!(full.with(3, Timestamp(0)).unwrap().events, UsageEvent::DAY_MAX);
        let why = full.with(4, Timestamp(23 * HOUR)).unwrap_err();
        assert_eq!((why.kind(), why.retry_after()), (ErrorKind::LimitExceeded, Some(3_600)));
    }

    #[test]
    fn what_is_written_below_what_was_removed_is_looked_for_again() {
        let day = EventDay { oldest: (9, [3; 16]), ..at(8 * 168, 0) };
        assert_eq!(day.with(1, Timestamp(0)).unwrap().oldest, (8, [0; 16]));
        let day = EventDay { oldest: (6, [3; 16]), ..day };
        assert_eq!(day.with(1, Timestamp(0)).unwrap().oldest, (6, [3; 16]));
    }
}
