use super::*;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    sync::{Barrier, atomic::AtomicBool},
};

const ONE: Served<'static> =
    Served { method: "GET", path: "/one", outcome: Outcome::Done, took: Duration::from_millis(3) };

fn tenant(n: u64) -> TenantId {
    TenantId::new(n)
}

fn ask(busiest: &Busiest, n: u64, times: u64, now: Instant) {
    for _ in 0..times {
        busiest.count(tenant(n), &ONE, now);
    }
}

/// How often each that is followed asked, and all others.
fn counted(busiest: &Busiest, now: Instant) -> (Vec<(u64, u64)>, u64) {
    let ranking = busiest.ranking(now);
    let tenants = ranking.tenants.iter().map(|(id, tally)| (id.get(), tally.requests()));
    (tenants.collect(), ranking.others.requests())
}

#[test]
fn the_first_are_followed_and_further_ones_are_the_others() {
    let (busiest, now) = (Busiest::new(2), Instant::now());
    for (n, times) in [(7, 3), (9, 1), (71, 5), (8, 2)] {
        ask(&busiest, n, times, now);
    }
    assert_eq!(counted(&busiest, now), (vec![(7, 3), (9, 1)], 7));
}

#[test]
fn nothing_is_counted_of_nobody() {
    let (busiest, now) = (Busiest::new(0), Instant::now());
    ask(&busiest, 1, 3, now);
    assert!(busiest.is_off());
    assert_eq!(busiest.ranking(now), Ranking::default());
    assert_eq!(busiest.tenant(tenant(1), now), None);
    assert_eq!(Busiest::new(usize::MAX).most, Busiest::TENANTS_MAX);
}

#[test]
fn who_asks_more_takes_the_place_and_the_others_get_what_was_there() {
    let (busiest, begun) = (Busiest::new(2), Instant::now());
    assert_eq!(counted(&busiest, begun), (vec![], 0));
    ask(&busiest, 1, 10, begun);
    ask(&busiest, 2, 40, begun);
    ask(&busiest, 3, 50, begun);
    // Not before it is time.
    let soon = begun + CHOOSE_EVERY.saturating_sub(Duration::from_millis(1));
    assert_eq!(counted(&busiest, soon), (vec![(1, 10), (2, 40)], 50));
    let later = begun + CHOOSE_EVERY;
    assert_eq!(counted(&busiest, later), (vec![(2, 40), (3, 0)], 60));
    ask(&busiest, 3, 4, later);
    ask(&busiest, 1, 1, later);
    assert_eq!(counted(&busiest, later), (vec![(2, 40), (3, 4)], 61));
    let since = |n| busiest.tenant(tenant(n), later).map(|one| one.since);
    assert_eq!([since(1), since(2), since(3)], [None, Some(begun), Some(later)]);
}

#[test]
fn who_asks_about_as_often_does_not_take_turns() {
    let (busiest, mut now) = (Busiest::new(1), Instant::now());
    counted(&busiest, now);
    for _ in 0..10 {
        ask(&busiest, 1, 10, now);
        ask(&busiest, 2, 19, now);
        now += CHOOSE_EVERY;
        assert_eq!(counted(&busiest, now).0[0].0, 1);
    }
}

#[test]
fn whoever_asks_is_busier_than_who_is_silent_for_long() {
    let (busiest, mut now) = (Busiest::new(1), Instant::now());
    ask(&busiest, 1, 1_000, now);
    for _ in 0..11 {
        counted(&busiest, now);
        now += CHOOSE_EVERY;
    }
    ask(&busiest, 2, 1, now);
    assert_eq!(counted(&busiest, now), (vec![(2, 0)], 1_001));
}

#[test]
fn a_flood_of_tenants_that_ask_once_does_not_hide_who_asks_often() {
    let (busiest, begun) = (Busiest::new(1), Instant::now());
    counted(&busiest, begun);
    ask(&busiest, 1, 1, begun);
    let crowd = 100_000;
    for n in 0..crowd {
        ask(&busiest, 1_000 + n, 1, begun);
        if n % 50 == 0 {
            ask(&busiest, 2, 1, begun);
        }
    }
    let kept: usize = busiest.shards.iter().map(|shard| shard.lock().candidates.len()).sum();
    assert!(kept <= SHARDS * CANDIDATES_MAX, "{kept}");
    let later = begun + CHOOSE_EVERY;
    assert_eq!(counted(&busiest, later), (vec![(2, 0)], crowd + crowd / 50 + 1));
}

#[test]
fn a_tenants_requests_are_told_apart_by_endpoint_up_to_so_many() {
    let (busiest, now) = (Busiest::new(1), Instant::now());
    let call = |method, path: &str, outcome| {
        let served = Served { method, path, outcome, took: Duration::from_secs(2) };
        busiest.count(tenant(1), &served, now);
    };
    call("GET", "/a", Outcome::Done);
    call("POST", "/a", Outcome::Refused);
    call("POST", "/a", Outcome::Failed);
    let found = busiest.tenant(tenant(1), now).unwrap();
    let told: Vec<_> = found.endpoints.iter().map(|e| (e.method, e.path.as_str())).collect();
    assert_eq!(told, [("POST", "/a"), ("GET", "/a")]);
    assert_eq!(found.endpoints[0].tally.ended(Outcome::Failed), 1);
    assert_eq!(found.all.requests(), 3);

    for n in 0..1_000 {
        call("GET", &format!("/{n}"), Outcome::Abandoned);
    }
    let found = busiest.tenant(tenant(1), now).unwrap();
    assert_eq!(found.endpoints.len(), ENDPOINTS_MAX);
    assert_eq!((found.endpoints[0].method, found.endpoints[0].path.as_str()), (FURTHER, FURTHER));
    let sum: u64 = found.endpoints.iter().map(|one| one.tally.requests()).sum();
    assert_eq!((sum, found.all.requests()), (1_003, 1_003));
}

#[test]
fn a_tally_knows_how_long_requests_took() {
    let mut tally = Tally::default();
    for (took, length) in [(0, 0), (1_000, 0), (1_001, 1), (16_000_000, 7), (16_000_001, 8)] {
        let before = tally.by_length()[length];
        tally.count(&Served { took: Duration::from_micros(took), ..ONE });
        assert_eq!(tally.by_length()[length], before + 1, "{took}");
    }
    assert_eq!(tally.time(), Duration::from_micros(32_002_002));
    assert_eq!((tally.requests(), tally.ended(Outcome::Done)), (5, 5));
}

#[test]
fn what_is_counted_of_the_others_never_shrinks_while_places_are_given_on() {
    let (busiest, begun) = (Busiest::new(4), Instant::now());
    let (start, is_over) = (Barrier::new(4), AtomicBool::new(false));
    let asked = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..4)
            .map(|thread: u64| {
                let (busiest, start) = (&busiest, &start);
                scope.spawn(move || {
                    start.wait();
                    let mut random = thread + 1;
                    for _ in 0..20_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        busiest.count(tenant(random >> 60), &ONE, begun);
                    }
                    20_000_u64
                })
            })
            .collect();
        let (busiest, is_over) = (&busiest, &is_over);
        let looks = scope.spawn(move || look(busiest, is_over, begun));
        let asked: u64 = askers.into_iter().map(|asker| asker.join().unwrap()).sum();
        is_over.store(true, Ordering::Relaxed);
        looks.join().unwrap();
        asked
    });
    let (tenants, others) = counted(&busiest, begun);
    assert_eq!(tenants.len(), 4);
    assert_eq!(tenants.iter().map(|(_, asked)| asked).sum::<u64>() + others, asked);
}

/// Reads what was counted, and has places given on each time.
fn look(busiest: &Busiest, is_over: &AtomicBool, mut now: Instant) {
    let (mut others, mut sum) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        now += CHOOSE_EVERY;
        let seen = counted(busiest, now);
        let all = seen.0.iter().map(|(_, asked)| asked).sum::<u64>() + seen.1;
        assert!(seen.1 >= others && all >= sum, "{seen:?} after {others} of {sum}");
        (others, sum) = (seen.1, all);
    }
}

proptest! {
    /// Whoever asks, and however places are given on: each request is counted once, no series of a
    /// tenant that stays shrinks, and neither does that of the others.
    #[test]
    fn every_request_is_counted_once(
        most in 1_usize..5,
        rounds in proptest::collection::vec(
            proptest::collection::vec((0_u64..200, 1_u64..30), 0..12), 1..12),
    ) {
        let (busiest, mut now) = (Busiest::new(most), Instant::now());
        let (mut asked, mut others_before) = (0, 0);
        let mut before = BTreeMap::new();
        for round in rounds {
            for (n, times) in round {
                ask(&busiest, n, times, now);
                asked += times;
            }
            now += CHOOSE_EVERY;
            let (tenants, others) = counted(&busiest, now);
            prop_assert!(tenants.len() <= most);
            prop_assert_eq!(tenants.iter().map(|(_, asked)| asked).sum::<u64>() + others, asked);
            prop_assert!(others >= others_before);
            for (n, asked) in &tenants {
                prop_assert!(before.get(n).is_none_or(|before| asked >= before));
            }
            others_before = others;
            before = tenants.into_iter().collect();
        }
    }
}
