use super::*;
use proptest::prelude::*;
use std::sync::{
    Barrier,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

const SECOND: u64 = 1_000_000_000;
const ONE: TenantId = TenantId::new(1);

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn a_second(n: u32) -> Rates {
    Rates { second: Some(Rate::new(number(n))), ..Rates::default() }
}

fn at_once(n: u32) -> Rates {
    Rates { concurrent: Some(number(n)), ..Rates::default() }
}

fn is_admitted(limiter: &Limiter, rates: &Rates, now: u64) -> bool {
    limiter.admit(ONE, rates, now).is_ok()
}

/// How many are admitted until one is refused.
fn admitted(limiter: &Limiter, rates: &Rates, now: u64) -> u32 {
    let mut n = 0;
    while is_admitted(limiter, rates, now) {
        n += 1;
    }
    n
}

#[test]
fn sixty_four_threads_get_exactly_n_while_the_clock_stands_still() {
    for n in [1, 63, 1_000] {
        let (limiter, rates) = (Limiter::default(), a_second(n));
        let (start, got) = (Barrier::new(64), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..100 {
                        let one = is_admitted(&limiter, &rates, 5 * SECOND);
                        got.fetch_add(usize::from(one), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(got.into_inner(), n as usize);
    }
}

#[test]
fn sixty_four_threads_get_exactly_n_and_the_refill_while_time_runs() {
    let (limiter, rates) = (Limiter::default(), a_second(700));
    let (start, clock) = (Barrier::new(64), AtomicU64::new(0));
    let got = AtomicU64::new(admitted(&limiter, &rates, 0).into());
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                start.wait();
                // Each call is 1 ms later than the last one: 3.2 s, and more asked than refilled.
                for _ in 0..50 {
                    let now = clock.fetch_add(SECOND / 1_000, Ordering::Relaxed);
                    got.fetch_add(u64::from(admitted(&limiter, &rates, now)), Ordering::Relaxed);
                }
            });
        }
    });
    let last = clock.into_inner() - SECOND / 1_000;
    let late = u64::from(admitted(&limiter, &rates, last));
    assert_eq!(got.into_inner() + late, 700 + 700 * last / SECOND);
}

#[test]
fn no_more_than_n_are_under_way_in_a_race_and_all_are_given_back() {
    let (limiter, rates) = (Limiter::default(), at_once(7));
    let (start, now, most) = (Barrier::new(64), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..200 {
                    let Ok(one) = limiter.admit(ONE, &rates, 0) else { continue };
                    let under_way = now.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(under_way, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    drop(one);
                }
            });
        }
    });
    assert!(most.into_inner() <= 7);
    assert_eq!(limiter.tenants(), 0);
}

#[test]
fn thirds_of_a_second_are_not_rounded() {
    let (limiter, rates) = (Limiter::default(), a_second(3));
    assert_eq!(admitted(&limiter, &rates, 0), 3);
    for second in 1..100 {
        assert_eq!(admitted(&limiter, &rates, second * SECOND - 1), 2);
        assert_eq!(admitted(&limiter, &rates, second * SECOND), 1);
    }
}

#[test]
fn who_is_refused_by_one_rate_has_used_nothing_of_another() {
    let limiter = Limiter::default();
    let hour = Some(Rate::new(number(10)));
    let rates = Rates { hour, concurrent: Some(number(1)), ..a_second(2) };
    let first = limiter.admit(ONE, &rates, 0).unwrap();
    assert_eq!(limiter.admit(ONE, &rates, 0).unwrap_err(), Refused::Concurrent(number(1)));
    drop(first);
    assert!(is_admitted(&limiter, &rates, 0));
    for _ in 0..100 {
        let why = limiter.admit(ONE, &rates, 0).unwrap_err();
        assert_eq!(why, Refused::Rate { period: Period::Second, wait: SECOND / 2 });
    }
    let left = limiter.left(ONE, &rates, 0);
    assert_eq!(left.iter().map(|l| l.remaining).collect::<Vec<_>>(), [0, 8]);
}

#[test]
fn the_longest_wait_is_told() {
    let limiter = Limiter::default();
    let one = Some(Rate::new(number(1)));
    let rates = Rates { second: one, minute: one, hour: one, concurrent: None };
    assert!(is_admitted(&limiter, &rates, 0));
    let why = limiter.admit(ONE, &rates, 0).unwrap_err();
    assert_eq!(why, Refused::Rate { period: Period::Hour, wait: 3_600 * SECOND });
}

#[test]
fn one_tenant_uses_nothing_of_another() {
    let (limiter, rates) = (Limiter::default(), a_second(5));
    assert_eq!(admitted(&limiter, &rates, 0), 5);
    // In the same shard and in another.
    for other in [1 + SHARDS as u64, 2] {
        let left = limiter.left(TenantId::new(other), &rates, 0);
        assert_eq!(left[0].remaining, 5);
    }
}

#[test]
fn what_was_used_counts_under_a_raised_and_under_a_lowered_rate() {
    let limiter = Limiter::default();
    let hour = |n| Rates { hour: Some(Rate::new(number(n))), ..Rates::default() };
    assert_eq!(admitted(&limiter, &hour(10), 0), 10);
    assert_eq!(admitted(&limiter, &hour(1_000), 0), 990);
    // A thousand were used; nobody waits for more than the hour that ten take.
    assert_eq!(limiter.left(ONE, &hour(10), 0)[0].full_in, 3_600 * SECOND);
    assert_eq!(admitted(&limiter, &hour(10), 360 * SECOND - 1), 0);
    assert_eq!(admitted(&limiter, &hour(10), 360 * SECOND), 1);
}

#[test]
fn an_idle_tenant_is_nothing() {
    let (limiter, rates) = (Limiter::default(), a_second(10));
    for tenant in 1..=1_000 {
        drop(limiter.admit(TenantId::new(tenant), &rates, 0).unwrap());
    }
    limiter.sweep(SECOND / 10 - 1);
    assert_eq!(limiter.tenants(), 1_000);
    limiter.sweep(SECOND / 10);
    assert_eq!(limiter.tenants(), 0);
    assert!(limiter.shards.iter().all(|shard| shard.lock().entries.capacity() == 0));
}

#[test]
fn a_tenant_without_limits_and_one_who_is_refused_leave_nothing() {
    let limiter = Limiter::default();
    let free = limiter.admit(ONE, &Rates::default(), 0).unwrap();
    assert_eq!((free.left().count(), limiter.tenants()), (0, 0));
    assert!(limiter.left(ONE, &a_second(1), 0)[0].remaining == 1);
    assert_eq!(limiter.tenants(), 0);
}

#[test]
fn a_request_under_way_outlives_its_rates_and_is_not_swept() {
    let limiter = Limiter::default();
    let rates = Rates { concurrent: Some(number(1)), ..a_second(1) };
    let one = limiter.admit(ONE, &rates, 0).unwrap();
    limiter.sweep(100 * SECOND);
    assert!(!is_admitted(&limiter, &rates, 100 * SECOND));
    drop(one);
    assert_eq!(limiter.tenants(), 0);
}

#[test]
fn a_late_thread_does_not_get_what_was_used_after_it_looked_at_the_clock() {
    let (limiter, rates) = (Limiter::default(), a_second(2));
    assert_eq!(admitted(&limiter, &rates, 10 * SECOND), 2);
    assert_eq!(admitted(&limiter, &rates, 0), 0);
    limiter.sweep(11 * SECOND);
    assert_eq!(admitted(&limiter, &rates, 0), 2);
    assert_eq!(admitted(&limiter, &rates, 11 * SECOND), 0);
}

#[test]
fn a_full_shard_forgets_who_ends_next_and_never_what_is_under_way() {
    let mut shard = Shard::default();
    let rate = Rate::new(number(1));
    for tenant in 0..8 {
        let mark = Mark::default().ask(rate, Period::Hour, tenant).taken().mark(tenant);
        let under_way = u32::from(tenant == 0);
        let entry = Entry { marks: [Mark::default(), Mark::default(), mark], under_way };
        shard.entries.insert(TenantId::new(tenant), entry);
    }
    shard.make_room(9, 3);
    assert_eq!(shard.entries.len(), 8);
    shard.make_room(8, 3);
    let mut kept: Vec<_> = shard.entries.keys().map(|tenant| tenant.get()).collect();
    kept.sort_unstable();
    assert_eq!(kept, [0, 4, 5, 6, 7]);
}

#[test]
fn the_ends_of_all_numbers_overflow_nothing() {
    let most = number(u32::MAX);
    let rate = Some(Rate::new(most));
    let rates = Rates { second: rate, minute: rate, hour: rate, concurrent: Some(most) };
    let limiter = Limiter::default();
    assert!(is_admitted(&limiter, &rates, u64::MAX));
    let least = Rates { hour: Some(Rate { amount: number(1), burst: most }), ..rates };
    assert!(is_admitted(&limiter, &least, u64::MAX));
    limiter.sweep(u64::MAX);
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let numbers = (1_u32..50, 1_u32..50);
    numbers.prop_map(|(amount, burst)| Rate { amount: number(amount), burst: number(burst) })
}

proptest! {
    /// Between any two admissions, both counted, are no more than the burst and what came back.
    #[test]
    fn no_span_of_time_has_more_than_burst_and_refill(
        rate in any_rate(),
        steps in prop::collection::vec(0_u64..SECOND, 1..200),
    ) {
        let limiter = Limiter::default();
        let rates = Rates { second: Some(rate), ..Rates::default() };
        let (mut now, mut times) = (0, Vec::new());
        for step in steps {
            now += step;
            times.extend(is_admitted(&limiter, &rates, now).then_some(now));
        }
        for (i, from) in times.iter().enumerate() {
            for (n, to) in times[i..].iter().enumerate() {
                let refill = (to - from) * u64::from(rate.amount.get()) / SECOND;
                prop_assert!((n as u64) < u64::from(rate.burst.get()) + refill);
            }
        }
    }

    /// Whoever waits as long as was said is admitted, and a nanosecond earlier is not.
    #[test]
    fn what_is_said_about_waiting_is_true(
        second in any_rate(),
        minute in any_rate(),
        steps in prop::collection::vec(0_u64..SECOND / 4, 1..100),
    ) {
        let limiter = Limiter::default();
        let rates = Rates { second: Some(second), minute: Some(minute), ..Rates::default() };
        let mut now = 0;
        for step in steps {
            now += step;
            let remaining = limiter.left(ONE, &rates, now).iter().map(|l| l.remaining).min();
            let outcome = limiter.admit(ONE, &rates, now);
            prop_assert_eq!(outcome.is_ok(), remaining > Some(0));
            if let Err(Refused::Rate { wait, .. }) = outcome {
                prop_assert!(!is_admitted(&limiter, &rates, now + wait - 1));
                now += wait;
                prop_assert!(is_admitted(&limiter, &rates, now));
            }
        }
    }

    /// Sweeping changes no answer.
    #[test]
    fn sweeping_is_not_noticed(
        rate in any_rate(),
        steps in prop::collection::vec(0_u64..2 * SECOND, 1..100),
    ) {
        let (swept, kept) = (Limiter::default(), Limiter::default());
        let rates = Rates { second: Some(rate), ..Rates::default() };
        let mut now = 0;
        for step in steps {
            now += step;
            swept.sweep(now);
            prop_assert_eq!(is_admitted(&swept, &rates, now), is_admitted(&kept, &rates, now));
        }
    }
}
