use super::*;
use proptest::prelude::*;

const HOUR: u64 = 3_600_000;

fn at(hour: u64, millis: u64) -> Timestamp {
    Timestamp(hour * HOUR + millis)
}

fn made(made: u64) -> Work {
    Work { written: made, bytes_in: 10 * made, made, kept: 10 * made, ..Work::default() }
}

fn sum(news: &News) -> Amounts {
    let mut all = Amounts::default();
    for one in news.values() {
        all.add_all(one);
    }
    all
}

#[test]
fn an_hour_is_closed_by_the_first_commit_of_the_next() {
    let mut counted = Counted::begin(at(5, 0), true);
    counted.add(&made(2));
    counted.advance(at(7, 100));
    counted.add(&made(1));
    let stock = u128::from(2 * HOUR);
    assert_eq!(counted.hour, Hour(7));
    assert_eq!(counted.closed.get(Meter::RecordMillis), 2 * stock);
    assert_eq!(counted.closed.get(Meter::Requests), 1);
    assert_eq!(counted.totals.get(Meter::RecordMillis), 2 * stock + 200);
    assert_eq!(counted.totals.get(Meter::RecordsWritten), 3);
    assert_eq!(counted.records, Some(3));
}

#[test]
fn a_clock_that_goes_back_counts_in_the_hour_that_was_reached() {
    let mut counted = Counted::begin(at(5, 10), true);
    counted.add(&made(1));
    counted.advance(at(4, 0));
    counted.add(&made(1));
    assert_eq!((counted.hour, counted.since), (Hour(5), at(5, 10)));
    assert_eq!(counted.totals.get(Meter::RecordMillis), 0);
    counted.advance(at(5, 11));
    assert_eq!(counted.totals.get(Meter::RecordMillis), 2);
}

#[test]
fn what_nobody_knows_is_not_counted_as_nothing_for_ever() {
    let mut counted = Counted::begin(at(5, 0), false);
    counted.add(&made(1));
    counted.advance(at(6, 0));
    assert_eq!(counted.records, None);
    assert_eq!(counted.totals.get(Meter::RecordMillis), 0);
}

#[test]
fn bytes_are_kept_over_time_as_records_are() {
    let mut counted = Counted::begin(at(5, 0), true);
    counted.add(&made(2));
    counted.advance(at(7, 100));
    counted.add(&Work { gone: 1, freed: 15, ..Work::default() });
    assert_eq!((counted.records, counted.bytes), (Some(1), Some(5)));
    counted.advance(at(7, 110));
    let total = u128::from(20 * (2 * HOUR + 100) + 5 * 10);
    assert_eq!(counted.totals.get(Meter::ByteMillis), total);
}

#[test]
fn what_goes_unread_leaves_nobody_knowing_what_is_kept() {
    let begun = || Counted::begin(at(5, 0), true);
    let after = |work: Work| {
        let mut counted = begun();
        counted.add(&work);
        (counted.records, counted.bytes)
    };
    assert_eq!(after(Work { is_silent: true, ..made(2) }), (Some(2), None));
    assert_eq!(after(Work { is_lost: true, ..Work::default() }), (None, None));
}

#[test]
fn each_hour_has_its_own_if_somebody_looks_in_each() {
    let mut counted = Counted::begin(at(5, 0), true);
    counted.add(&made(1));
    let (seen, first) = Seen::default().look(1, &counted, at(5, 1_000));
    assert_eq!(first[&Hour(5)].get(Meter::Requests), 1);
    assert_eq!(first[&Hour(5)].get(Meter::RecordMillis), 1_000);
    // Written in the old hour and in the new one, and looked at in the new one.
    counted.advance(at(5, 2_000));
    counted.add(&made(0));
    counted.advance(at(6, 500));
    counted.add(&made(4));
    let (seen, next) = seen.look(3, &counted, at(6, 600));
    assert_eq!(next[&Hour(5)].get(Meter::Requests), 1);
    assert_eq!(next[&Hour(5)].get(Meter::RecordMillis), u128::from(HOUR - 1_000));
    assert_eq!(next[&Hour(6)].get(Meter::RecordsWritten), 4);
    assert_eq!(next[&Hour(6)].get(Meter::RecordMillis), 500 + 5 * 100);
    // Nothing is new at the same moment.
    let (again, none) = seen.look(3, &counted, at(6, 600));
    assert_eq!((&again, none.len()), (&seen, 0));
    // Nobody writes for two hours.
    let (_, idle) = seen.look(3, &counted, at(8, 600));
    let stock = |hour| idle[&Hour(hour)].get(Meter::RecordMillis);
    assert_eq!([stock(6), stock(7), stock(8)].map(|n| n / 5), [3_599_400, 3_600_000, 600]);
}

#[test]
fn counters_that_fall_are_neither_billed_nor_paid_back() {
    let mut counted = Counted::begin(at(5, 0), true);
    let backup = counted.clone();
    counted.add(&made(7));
    let (seen, _) = Seen::default().look(9, &counted, at(5, 1));
    let (fallen, news) = seen.look(8, &backup, at(5, 2));
    assert_eq!((fallen.falls, fallen.totals, news.len()), (1, Amounts::default(), 0));
    let mut counted = backup;
    counted.add(&made(2));
    let (_, news) = fallen.look(9, &counted, at(5, 2));
    assert_eq!(sum(&news).get(Meter::RecordsWritten), 2);
}

#[test]
fn a_wrong_clock_makes_no_millions_of_hours() {
    let mut counted = Counted::begin(at(5, 0), true);
    counted.add(&made(1));
    let (seen, _) = Seen::default().look(1, &counted, at(5, 1));
    counted.advance(Timestamp(u64::MAX));
    counted.add(&made(1));
    let (_, news) = seen.look(2, &counted, at(5, 2));
    assert!(news.len() <= 3, "{}", news.len());
    assert_eq!(sum(&news).get(Meter::RecordsWritten), 1);
}

proptest! {
    /// However often and whenever somebody looks, what the sums have is what was counted.
    #[test]
    fn sums_are_what_was_counted(
        steps in proptest::collection::vec((0..2 * HOUR, 0..9_u64, 0..9_u64, any::<bool>()), 1..40),
    ) {
        let mut now = 400_000 * HOUR;
        let mut counted = Counted::begin(Timestamp(now), true);
        let (mut seen, mut sums) = (Seen::default(), Amounts::default());
        for (commit, (pause, made, gone, looks)) in (1..).zip(steps) {
            now += pause;
            counted.advance(Timestamp(now));
            let gone = gone.min(counted.records.unwrap_or(0));
            let (kept, freed) = (7 * made, 7 * gone);
            let work = Work { written: made, bytes_in: 3, made, gone, kept, freed, ..Work::default() };
            counted.add(&work);
            prop_assert_eq!(counted.bytes, counted.records.map(|records| 7 * records));
            if looks {
                now += pause / 3;
                let (next, news) = seen.look(commit, &counted, Timestamp(now));
                sums.add_all(&sum(&news));
                seen = next;
            }
        }
        let (_, news) = seen.look(1_000, &counted, Timestamp(now));
        sums.add_all(&sum(&news));
        counted.advance(Timestamp(now));
        prop_assert_eq!(sums, counted.totals);
    }
}
