use super::*;

const TENANT: TenantId = TenantId::new(7);
const DAY: u64 = 24 * 3_600_000;
/// 2026-11-29, 12:00 UTC.
const NOON: Timestamp = Timestamp(1_795_953_600_000);

fn quotas(day: u64, month: u64) -> Quotas {
    Quotas { day: Some(day), month: Some(month), ..Quotas::default() }
}

fn used(day: u64, month: u64) -> Spent {
    Spent { day: Some(day), month, cost: None }
}

#[test]
fn a_day_and_a_month_end_in_utc() {
    let spending = Spending::default();
    let ask = |at: u64, most| spending.ask(TENANT, (&most, None), Timestamp(at)).unwrap();
    assert_eq!(spending.ask(TENANT, (&quotas(2, 9), None), NOON), None);
    spending.put((TENANT, None), NOON, used(1, 5), 0);
    assert_eq!(ask(NOON.0, quotas(2, 9)), Ok(()));
    let day = UsedUp { budget: Budget::Day, most: 2, seconds: 12 * 3_600 };
    // The ledger has one of the two, and may find that the other one cost nothing.
    assert_eq!(ask(NOON.0, quotas(2, 9)), Err(UsedUp { seconds: 60, ..day }));
    spending.put((TENANT, None), NOON, used(2, 6), 1);
    assert_eq!(ask(NOON.0, quotas(2, 9)), Err(day));
    let next = NOON.0 + DAY / 2;
    assert_eq!(ask(next - 1, quotas(2, 9)), Err(UsedUp { seconds: 1, ..day }));
    assert_eq!(ask(next, quotas(2, 8)), Ok(()));
    assert_eq!(ask(next, quotas(2, 8)), Ok(()));
    let month = UsedUp { budget: Budget::Month, most: 8, seconds: 24 * 3_600 };
    assert_eq!(ask(next, quotas(2, 8)), Err(UsedUp { seconds: 60, ..month }));
    spending.put((TENANT, None), Timestamp(next), used(2, 8), 3);
    assert_eq!(ask(next, quotas(2, 8)), Err(month));
    // A clock that goes back does not begin the day anew.
    assert_eq!(ask(NOON.0, quotas(2, 99)).unwrap_err().budget, Budget::Day);
    assert_eq!(ask(next + DAY, quotas(2, 8)), Ok(()));
}

#[test]
fn a_month_costs_what_the_ledger_said_until_it_ends() {
    let spending = Spending::default();
    let most = Quotas { cost: Some(10), ..Quotas::default() };
    let ask = |at: u64| spending.ask(TENANT, (&most, None), Timestamp(at));
    // Only days and months were looked up: what it costs is not known.
    spending.put((TENANT, None), NOON, used(1, 1), 0);
    assert!(ask(NOON.0).is_none() && !spending.knows(TENANT, (&most, None)));
    let costs = |cost| Spent { cost: Some(cost), ..used(1, 1) };
    spending.put((TENANT, None), NOON, costs(9), 0);
    assert!((0..100).all(|_| ask(NOON.0) == Some(Ok(()))));
    spending.put((TENANT, None), NOON, costs(10), 0);
    let seconds = (12 + 24) * 3_600;
    let used_up = UsedUp { budget: Budget::Cost, most: 10, seconds };
    assert_eq!(ask(NOON.0), Some(Err(used_up)));
    // A bill can become smaller, by another plan.
    spending.put((TENANT, None), NOON, costs(3), 0);
    assert_eq!(ask(NOON.0), Some(Ok(())));
    spending.put((TENANT, None), NOON, costs(11), 0);
    assert_eq!(ask(NOON.0 + seconds * 1_000), Some(Ok(())));
}

#[test]
fn what_was_refused_after_all_is_forgotten_by_a_look() {
    let spending = Spending::default();
    spending.put((TENANT, None), NOON, used(0, 0), 0);
    let ask = || spending.ask(TENANT, (&quotas(10, 10), None), NOON).unwrap().is_ok();
    assert!((0..3).all(|_| ask()));
    let [(_, admitted)] = spending.known()[..] else { panic!("one tenant") };
    assert!(ask());
    // Two of the three were refused after all; of the fourth nobody knows.
    spending.put((TENANT, None), NOON, used(1, 1), admitted);
    assert_eq!((0..20).filter(|_| ask()).count(), 8);
}

/// Whatever part of the requests of this node the ledger has when it is read.
#[test]
fn what_is_admitted_while_somebody_looks_counts_once() {
    for (before, meanwhile) in [(0, 0), (3, 0), (3, 4), (0, 5), (40, 5)] {
        for in_ledger in 0..=before + meanwhile {
            let spending = Spending::default();
            spending.put((TENANT, None), NOON, used(0, 0), 0);
            let ask = || spending.ask(TENANT, (&quotas(100, 100), None), NOON).unwrap().is_ok();
            assert!((0..before).all(|_| ask()));
            let [(_, admitted)] = spending.known()[..] else { panic!("one tenant") };
            assert!((0..meanwhile).all(|_| ask()));
            spending.put((TENANT, None), NOON, used(in_ledger, in_ledger), admitted);
            let left = (0..200).filter(|_| ask()).count() as u64;
            let served = before + meanwhile + left;
            // Never fewer: none counts twice. More only by what was still under way when the look
            // began.
            let under_way = before.saturating_sub(in_ledger);
            assert!((100..=100 + under_way).contains(&served), "{before} {meanwhile} {in_ledger}");
            if in_ledger >= before {
                assert_eq!(served, 100);
            }
        }
    }
}

#[test]
fn what_others_have_admitted_is_added_by_a_look_and_once() {
    let spending = Spending::default();
    spending.put((TENANT, None), NOON, used(0, 0), 0);
    let ask = || spending.ask(TENANT, (&quotas(20, 20), None), NOON).unwrap().is_ok();
    assert!((0..5).all(|_| ask()));
    for _ in 0..3 {
        let [(_, admitted)] = spending.known()[..] else { panic!("one tenant") };
        // Five of here and six of another node.
        spending.put((TENANT, None), NOON, used(11, 11), admitted);
    }
    assert_eq!((0..30).filter(|_| ask()).count(), 9);
}

#[test]
fn what_was_read_of_yesterday_says_nothing_of_today() {
    let spending = Spending::default();
    spending.put((TENANT, None), NOON, used(5, 5), 0);
    spending.ask(TENANT, (&quotas(9, 99), None), Timestamp(NOON.0 + DAY)).unwrap().unwrap();
    spending.put((TENANT, None), NOON, used(50, 50), 0);
    let ask =
        || spending.ask(TENANT, (&quotas(9, 99), None), Timestamp(NOON.0 + DAY)).unwrap().is_ok();
    assert_eq!((0..20).filter(|_| ask()).count(), 8);
}

#[test]
fn what_others_did_today_counts_for_whoever_asked_yesterday() {
    let spending = Spending::default();
    spending.put((TENANT, None), NOON, used(5, 5), 0);
    let tomorrow = Timestamp(NOON.0 + DAY);
    spending.put((TENANT, None), tomorrow, used(8, 13), 0);
    let ask = || spending.ask(TENANT, (&quotas(9, 99), None), tomorrow).unwrap().is_ok();
    assert_eq!((0..20).filter(|_| ask()).count(), 1);
}

#[test]
fn a_clock_that_had_jumped_ahead_is_corrected_by_a_look() {
    let spending = Spending::default();
    spending.put((TENANT, None), Timestamp(NOON.0 + 90 * DAY), used(9, 9), 0);
    spending.put((TENANT, None), NOON, used(1, 1), 0);
    let ask = || spending.ask(TENANT, (&quotas(3, 99), None), NOON).unwrap().is_ok();
    assert_eq!((0..20).filter(|_| ask()).count(), 2);
}

#[test]
fn a_clock_that_was_ahead_over_the_end_of_a_month_is_corrected_by_a_look() {
    let midnight = NOON.0 + DAY + DAY / 2;
    let most = Quotas { cost: Some(10), month: Some(10), ..Quotas::default() };
    for (minutes, is_corrected) in [(60, true), (6, true), (4, false)] {
        let spending = Spending::default();
        let ahead = Timestamp(midnight + 3_600_000);
        let nothing = Spent { cost: Some(0), ..used(0, 0) };
        spending.put((TENANT, None), ahead, nothing, 0);
        let at = Timestamp(midnight - minutes * 60_000);
        spending.put((TENANT, None), at, Spent { cost: Some(11), ..used(1, 1) }, 0);
        let asked = spending.ask(TENANT, (&most, None), at).unwrap();
        assert_eq!(asked.is_err(), is_corrected, "{minutes}");
    }
}

#[test]
fn what_it_costs_is_not_known_by_another_plan_or_without_a_budget() {
    let spending = Spending::default();
    let most = Quotas { cost: Some(10), ..Quotas::default() };
    let [one, two] = ["one", "two"].map(|name| PlanName::parse(name).unwrap());
    let costs = |cost| Spent { cost: Some(cost), ..used(1, 1) };
    spending.put((TENANT, Some(one.clone())), NOON, costs(10), 0);
    let ask = |plan: &PlanName| spending.ask(TENANT, (&most, Some(plan)), NOON);
    assert!(ask(&one).unwrap().is_err() && ask(&two).is_none());
    assert!(!spending.knows(TENANT, (&most, Some(&two))));
    spending.put((TENANT, Some(two.clone())), NOON, costs(1), 0);
    assert_eq!((ask(&two), ask(&one)), (Some(Ok(())), None));
    // What was looked up without a budget says nothing of it.
    spending.put((TENANT, Some(two.clone())), NOON, used(1, 1), 0);
    assert_eq!(ask(&two), None);
}

#[test]
fn a_day_that_nobody_has_asked_about_is_not_known() {
    let spending = Spending::default();
    spending.put((TENANT, None), NOON, Spent { day: None, ..used(0, 1) }, 0);
    assert_eq!(spending.ask(TENANT, (&quotas(9, 9), None), NOON), None);
    let month = Quotas { day: None, ..quotas(9, 9) };
    assert_eq!(spending.ask(TENANT, (&month, None), NOON), Some(Ok(())));
    spending.put((TENANT, None), NOON, used(8, 8), 1);
    let ask = || spending.ask(TENANT, (&quotas(9, 99), None), NOON).unwrap().is_ok();
    assert_eq!((0..9).filter(|_| ask()).count(), 1);
}

#[test]
fn each_round_begins_with_others() {
    let spending = Spending::default();
    (1..=20).for_each(|n| spending.put((TenantId::new(n), None), NOON, used(0, 0), 0));
    let mut first: Vec<_> = (0..5).map(|_| spending.known()[0].0).collect();
    first.sort_unstable();
    first.dedup();
    assert_eq!((first.len(), spending.known().len()), (5, 20));
}
