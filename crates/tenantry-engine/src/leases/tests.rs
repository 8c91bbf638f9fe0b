use super::*;
use parking_lot::Mutex as Lock;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU32},
};
use tokio::{
    task::JoinSet,
    time::{advance, sleep},
};

const ONE: TenantId = TenantId::new(1);
const SECOND: u64 = 1_000_000_000;

/// How a source behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Failing,
    Hanging,
    /// Takes part of the time that requests wait.
    Slow(Duration),
    Panicking,
}

/// A source in memory: it has the limiter of one process, and the clock of the test.
#[derive(Debug)]
struct Memory {
    limiter: Limiter,
    since: Instant,
    mood: Lock<Mood>,
    asked: AtomicU32,
    at_once: AtomicU32,
    most_at_once: AtomicU32,
    wanted: Lock<HashMap<TenantId, Vec<u32>>>,
}

impl Memory {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::default(),
            since: Instant::now(),
            mood: Lock::new(Mood::Well),
            asked: AtomicU32::new(0),
            at_once: AtomicU32::new(0),
            most_at_once: AtomicU32::new(0),
            wanted: Lock::default(),
        })
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }

    fn node(self: &Arc<Self>, nodes: u32) -> Leases {
        Leases::new(Arc::clone(self) as Arc<dyn LeaseSource>, sharing(nodes))
    }

    fn granted(&self, ask: LeaseAsk) -> LeaseAnswer {
        let now = u64::try_from(self.since.elapsed().as_nanos()).unwrap();
        let one = |_: &u32| self.limiter.admit(ask.tenant, &ask.rates, now).map(drop).ok();
        let granted = u32::try_from((0..ask.wanted).map_while(|n| one(&n)).count()).unwrap();
        let mut left = [(0, 0); 3];
        for one in self.limiter.left(ask.tenant, &ask.rates, now) {
            let place = Period::ALL.iter().position(|period| *period == one.period).unwrap();
            left[place] = (one.remaining, one.full_in);
        }
        // Uses nothing: whoever is refused has not.
        let wait = if granted < ask.wanted {
            match self.limiter.admit(ask.tenant, &ask.rates, now) {
                Err(Refused::Rate { period, wait }) => Some((period, wait)),
                _ => panic!("it was refused before"),
            }
        } else {
            None
        };
        LeaseAnswer { granted, wait, left }
    }
}

impl LeaseSource for Memory {
    fn take(&self, ask: LeaseAsk) -> Leasing<'_> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.wanted.lock().entry(ask.tenant).or_default().push(ask.wanted);
            let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_at_once.fetch_max(now, Ordering::SeqCst);
            let mood = *self.mood.lock();
            let answer = match mood {
                Mood::Well => Ok(()),
                Mood::Failing => Err("it fails".to_owned()),
                Mood::Hanging => std::future::pending().await,
                Mood::Slow(time) => {
                    sleep(time).await;
                    Ok(())
                }
                Mood::Panicking => panic!("it panics"),
            };
            self.at_once.fetch_sub(1, Ordering::SeqCst);
            answer.map(|()| self.granted(ask))
        })
    }
}

const WITHIN: Duration = Duration::from_millis(50);

fn sharing(nodes: u32) -> Sharing {
    Sharing { nodes: number(nodes), within: WITHIN }
}

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

fn an_hour(n: u32) -> Rates {
    Rates { hour: Some(Rate::new(number(n))), ..Rates::default() }
}

fn a_second(n: u32) -> Rates {
    Rates { second: Some(Rate::new(number(n))), ..Rates::default() }
}

async fn verdict(node: &Leases, rates: &Rates) -> Verdict {
    node.admit(ONE, rates, SharedFailure::Local).await
}

async fn is_admitted(node: &Leases, rates: &Rates) -> bool {
    matches!(verdict(node, rates).await, Verdict::Admitted(_))
}

/// How many of so many requests are admitted that come at the same time.
async fn admitted(node: &Leases, rates: Rates, requests: usize) -> usize {
    let mut all = JoinSet::new();
    for _ in 0..requests {
        let node = node.clone();
        all.spawn(async move { is_admitted(&node, &rates).await });
    }
    all.join_all().await.into_iter().filter(|is_admitted| *is_admitted).count()
}

#[tokio::test(start_paused = true)]
async fn one_node_admits_exactly_n_while_the_clock_stands_still() {
    for n in [1, 63, 1_000] {
        let node = Memory::new().node(3);
        let rates = Rates { hour: Some(Rate::new(number(n))), ..a_second(100_000) };
        assert_eq!(admitted(&node, rates, 2_000).await, n as usize);
        assert!(!is_admitted(&node, &rates).await);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_one_after_the_other_get_exactly_n_too() {
    let memory = Memory::new();
    let node = memory.node(1);
    let mut n = 0;
    // The rate of a second makes leases large, and what is held of them is not lost at the end.
    let rates = Rates { hour: Some(Rate::new(number(777))), ..a_second(1_000_000) };
    while is_admitted(&node, &rates).await {
        n += 1;
    }
    assert_eq!(n, 777);
}

#[tokio::test(start_paused = true)]
async fn several_nodes_admit_no_more_than_n_and_no_less_than_what_leases_hold() {
    let memory = Memory::new();
    let nodes = [(); 3].map(|()| memory.node(3));
    let rates = a_second(2_000);
    let worth = 2_000 / 20;
    let mut all = 0;
    for _ in 0..100 {
        for node in &nodes {
            all += admitted(node, rates, 7).await;
        }
    }
    assert!((2_000 - 2 * worth..=2_000).contains(&all), "{all}");
    // Far fewer questions than requests.
    assert!(memory.asked() < 400, "{}", memory.asked());
}

#[tokio::test(start_paused = true)]
async fn while_time_runs_nodes_admit_what_comes_back_and_no_more() {
    let memory = Memory::new();
    let nodes = [(); 3].map(|()| memory.node(3));
    let (rates, mut all) = (a_second(1_000), 0);
    for _ in 0..3_000 {
        for node in &nodes {
            all += usize::from(is_admitted(node, &rates).await);
        }
        advance(Duration::from_millis(1)).await;
    }
    assert!((3_850..=4_000).contains(&all), "{all}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_rate_that_is_used_up_is_asked_about_a_hundred_times_a_second() {
    for burst in [10_000, 40] {
        let memory = Memory::new();
        let node = memory.node(1);
        let second = Rate { amount: number(10_000), burst: number(burst) };
        let rates = Rates { second: Some(second), ..Rates::default() };
        while is_admitted(&node, &rates).await {}
        let (before, mut all) = (memory.asked(), 0);
        // Ten times as many as there may be.
        for _ in 0..10_000 {
            for _ in 0..10 {
                all += u32::from(is_admitted(&node, &rates).await);
            }
            advance(Duration::from_micros(100)).await;
        }
        let asked = memory.asked() - before;
        // A burst of 4 ms is asked about after one of them each time.
        let (most_asked, least) = if burst == 40 { (2_100, 9_000) } else { (250, 9_700) };
        assert!(asked < most_asked, "{asked}");
        assert!((least..=10_000).contains(&all), "{all} of 10,000 by {asked} questions");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_tenant_wait_for_one_answer() {
    let memory = Memory::new();
    memory.is(Mood::Slow(Duration::from_millis(10)));
    let node = memory.node(2);
    let (rates, first) = (an_hour(1_000), node.clone());
    let first = tokio::spawn(async move { is_admitted(&first, &rates).await });
    sleep(Duration::from_millis(5)).await;
    assert_eq!(admitted(&node, rates, 63).await, 63);
    assert!(first.await.unwrap());
    // One for the first, and one for all who came meanwhile.
    assert_eq!(*memory.wanted.lock()[&ONE], [1, 63]);
    assert_eq!(memory.most_at_once.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_is_slow_to_be_answered_holds_up_no_other() {
    let memory = Memory::new();
    let node = memory.node(2);
    memory.is(Mood::Slow(Duration::from_millis(40)));
    let begun = Instant::now();
    let (first, second) = (node.clone(), node.clone());
    let rates = an_hour(5);
    let both = tokio::join!(
        first.admit(TenantId::new(65), &rates, SharedFailure::Local),
        second.admit(ONE, &rates, SharedFailure::Local),
    );
    assert!(matches!(both, (Verdict::Admitted(_), Verdict::Admitted(_))));
    assert_eq!(begun.elapsed(), Duration::from_millis(40));
}

#[tokio::test(start_paused = true)]
async fn a_lease_grows_while_it_is_used_up_and_is_lost_when_it_is_not() {
    let memory = Memory::new();
    let node = memory.node(2);
    let rates = a_second(1_000);
    for _ in 0..200 {
        assert!(is_admitted(&node, &rates).await);
    }
    assert_eq!(memory.wanted.lock()[&ONE][..8], [1, 2, 4, 8, 16, 32, 50, 50]);
    sleep(Duration::from_secs(2)).await;
    let before = memory.asked();
    assert!(is_admitted(&node, &rates).await);
    assert_eq!((memory.asked(), memory.wanted.lock()[&ONE].last()), (before + 1, Some(&1)));
}

#[tokio::test(start_paused = true)]
async fn a_used_up_rate_is_not_asked_about_by_each_request() {
    let memory = Memory::new();
    let node = memory.node(2);
    let rates = an_hour(1);
    assert!(is_admitted(&node, &rates).await);
    let hour = Verdict::Refused(
        Refused::Rate { period: Period::Hour, wait: 3_600 * SECOND },
        [
            None,
            None,
            Some(Left {
                period: Period::Hour,
                rate: Rate::new(number(1)),
                remaining: 0,
                full_in: 3_600 * SECOND,
            }),
        ],
    );
    for _ in 0..1_000 {
        assert_eq!(verdict(&node, &rates).await, hour);
    }
    assert_eq!(memory.asked(), 2);
    advance(Duration::from_secs(1)).await;
    assert!(!is_admitted(&node, &rates).await && !is_admitted(&node, &rates).await);
    assert_eq!(memory.asked(), 3);
    // A plan that says more counts at once.
    assert!(is_admitted(&node, &an_hour(2)).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_counts_what_the_node_holds() {
    let node = Memory::new().node(2);
    let rates = Rates { hour: Some(Rate::new(number(100_000))), ..a_second(200) };
    for used in 1..=20 {
        let Verdict::Admitted(left) = verdict(&node, &rates).await else { panic!("{used}") };
        let left = left.map(|left| left.map(|left| left.remaining));
        assert_eq!(left, [Some(200 - used), None, Some(100_000 - used)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_goes_away_takes_nothing_from_others() {
    let memory = Memory::new();
    memory.is(Mood::Slow(Duration::from_millis(20)));
    let node = memory.node(2);
    let rates = an_hour(1);
    let (first, second) = (node.clone(), node.clone());
    let gone = tokio::spawn(async move { is_admitted(&first, &rates).await });
    sleep(Duration::from_millis(5)).await;
    let waits = tokio::spawn(async move { is_admitted(&second, &rates).await });
    sleep(Duration::from_millis(5)).await;
    gone.abort();
    assert!(waits.await.unwrap());
    assert!(!is_admitted(&node, &rates).await);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_source_is_waited_for_once_and_asked_again_when_it_is_back() {
    let memory = Memory::new();
    let node = memory.node(2);
    memory.is(Mood::Hanging);
    let rates = an_hour(100);
    let begun = Instant::now();
    assert_eq!(admitted(&node, rates, 200).await, 50);
    assert_eq!(begun.elapsed(), WITHIN);
    // From now on nobody waits.
    assert!(!is_admitted(&node, &rates).await);
    let other = node.admit(TenantId::new(2), &rates, SharedFailure::Local).await;
    assert!(matches!(other, Verdict::Admitted(_)), "{other:?}");
    assert_eq!(begun.elapsed(), WITHIN);
    assert_eq!(memory.asked(), 1);
    let totals = node.totals();
    assert_eq!((totals.failures, totals.alone, totals.is_shared), (1, 202, false));
    sleep(Duration::from_secs(60)).await;
    assert!((10..40).contains(&memory.asked()), "{}", memory.asked());
    memory.is(Mood::Well);
    sleep(Duration::from_secs(8)).await;
    assert!(node.totals().is_shared);
    assert_eq!(admitted(&node, rates, 200).await, 100);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stood_still_does_not_take_the_source_for_late() {
    let memory = Memory::new();
    memory.is(Mood::Slow(Duration::from_millis(530)));
    let node = memory.node(2);
    let (first, rates) = (node.clone(), an_hour(10));
    let first = tokio::spawn(async move { is_admitted(&first, &rates).await });
    sleep(Duration::from_millis(10)).await;
    advance(Duration::from_millis(500)).await;
    assert!(first.await.unwrap());
    assert_eq!((node.totals().failures, node.totals().alone), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn where_a_plan_refuses_nobody_is_served_unless_it_was_charged_before() {
    let memory = Memory::new();
    let node = memory.node(2);
    let rates = a_second(1_000);
    let admit = async || node.admit(ONE, &rates, SharedFailure::Refuse).await;
    for _ in 0..4 {
        assert!(matches!(admit().await, Verdict::Admitted(_)));
    }
    // Of 1, 2 and 4 that were taken three are held.
    memory.is(Mood::Failing);
    for _ in 0..3 {
        assert!(matches!(admit().await, Verdict::Admitted(_)));
    }
    for _ in 0..10 {
        assert_eq!(admit().await, Verdict::Unknown(1));
    }
    assert_eq!(node.totals().failures, 1);
    memory.is(Mood::Well);
    sleep(Duration::from_secs(1)).await;
    assert!(matches!(admit().await, Verdict::Admitted(_)));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_again_and_again_gives_no_new_burst_each_time() {
    let memory = Memory::new();
    let node = memory.node(2);
    let (rates, mut all) = (an_hour(100), 0);
    for _ in 0..20 {
        memory.is(Mood::Failing);
        all += admitted(&node, rates, 200).await;
        memory.is(Mood::Well);
        sleep(Duration::from_secs(6)).await;
        all += admitted(&node, rates, 200).await;
    }
    // Its share and what the source has, and what both had back in two minutes.
    assert!((150..=160).contains(&all), "{all}");
}

#[tokio::test(start_paused = true)]
async fn a_share_is_at_least_one_request() {
    let memory = Memory::new();
    memory.is(Mood::Failing);
    let node = memory.node(100);
    assert_eq!(admitted(&node, an_hour(7), 10).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_leaves_nobody_waiting() {
    let memory = Memory::new();
    let node = memory.node(2);
    memory.is(Mood::Panicking);
    assert_eq!(admitted(&node, an_hour(10), 20).await, 5);
    memory.is(Mood::Well);
    assert_eq!(admitted(&node, an_hour(10), 20).await, 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_is_a_failure_and_no_loop() {
    #[derive(Debug)]
    struct Odd(AtomicBool);
    impl LeaseSource for Odd {
        fn take(&self, _: LeaseAsk) -> Leasing<'_> {
            let granted = if self.0.swap(true, Ordering::SeqCst) { 0 } else { u32::MAX };
            Box::pin(async move { Ok(LeaseAnswer { granted, ..LeaseAnswer::default() }) })
        }
    }
    let node = Leases::new(Arc::new(Odd(AtomicBool::new(false))), sharing(1));
    let rates = an_hour(10);
    // No more than was wanted is taken of the first answer.
    assert!(is_admitted(&node, &rates).await);
    assert_eq!(node.totals().failures, 0);
    assert_eq!(admitted(&node, rates, 20).await, 10);
    assert!(!node.totals().is_shared);
}

#[tokio::test(start_paused = true)]
async fn an_idle_tenant_is_nothing_and_nodes_that_end_ask_no_more() {
    let memory = Memory::new();
    let node = memory.node(2);
    let rates = a_second(10);
    for tenant in 1..=1_000 {
        node.admit(TenantId::new(tenant), &rates, SharedFailure::Local).await;
    }
    assert_eq!(node.tenants(), 1_000);
    sleep(Duration::from_secs(2)).await;
    Leases::parts().for_each(|part| node.sweep_part(part));
    assert_eq!(node.tenants(), 0);
    memory.is(Mood::Failing);
    verdict(&node, &rates).await;
    drop(node);
    sleep(Duration::from_secs(1)).await;
    let asked = memory.asked();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(memory.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_full_shard_forgets_others_and_serves_on() {
    let memory = Memory::new();
    let node = memory.node(2);
    for n in 0..5_000 {
        let tenant = TenantId::new(1 + n * SHARDS as u64);
        let said = node.admit(tenant, &an_hour(1), SharedFailure::Local).await;
        assert!(matches!(said, Verdict::Admitted(_)));
    }
    assert!(node.tenants() <= 4_096);
    // What was forgotten here is known there.
    assert!(!is_admitted(&node, &an_hour(1)).await);
}
