//! Turns on one thread, with a clock that is set by hand.

use super::*;
use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};
use tokio::task::JoinSet;

fn poll<T>(future: &mut Pin<Box<dyn Future<Output = T> + '_>>) -> Poll<T> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// The first poll of a pass lets other tasks run; the second one asks.
fn poll_pass(pass: &mut Pin<Box<dyn Future<Output = ()> + '_>>) -> Poll<()> {
    assert!(poll(pass).is_pending(), "other tasks could not run");
    poll(pass)
}

/// Tasks that work until `end`, each in one long turn or in many short ones.
async fn compete(crowd: u64, weights: [u32; 2], long: bool, cost: u64) -> (u64, u64) {
    let (pool, hand) = pool(1);
    let end = 2_000 * SLICE;
    let held = pool.try_turn(tenant(9), 100, Class::Request).unwrap();
    let mut tasks = JoinSet::new();
    for (number, count) in [(1, crowd), (2, 1)] {
        for _ in 0..count {
            let (pool, hand) = (pool.clone(), hand.clone());
            let weight = weights[usize::from(number == 2)];
            tasks.spawn(async move {
                let mut turn = pool.turn(tenant(number), weight, Class::Request).await.unwrap();
                while hand.wall() < end {
                    hand.spend(cost);
                    if long {
                        turn.pass().await;
                    } else {
                        drop(turn);
                        turn = pool.turn(tenant(number), weight, Class::Request).await.unwrap();
                    }
                }
            });
        }
    }
    while pool.totals().waiting < tasks.len() {
        tokio::task::yield_now().await;
    }
    drop(held);
    tasks.join_all().await;
    assert_idle(&pool);
    (pool.charged(tenant(1)), pool.charged(tenant(2)))
}

#[tokio::test]
async fn a_hundred_that_wait_get_no_more_than_one() {
    for (long, cost) in [(true, SLICE), (true, 60_000), (false, SLICE), (false, 60_000)] {
        let (crowd, one) = compete(100, [100, 100], long, cost).await;
        let share = one as f64 / (crowd + one) as f64;
        assert!((0.45..0.55).contains(&share), "{share} {long} {cost}");
    }
}

#[tokio::test]
async fn weights_are_kept_by_long_turns() {
    let (one, three) = compete(20, [100, 300], true, SLICE).await;
    let share = three as f64 / (one + three) as f64;
    assert!((0.70..0.80).contains(&share), "{share}");
}

#[tokio::test]
async fn a_free_place_is_had_at_once() {
    let (pool, hand) = pool(2);
    let mut a = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
    let b = pool.try_turn(tenant(1), 100, Class::Request).unwrap();
    assert!(pool.try_turn(tenant(2), 100, Class::Request).is_none());
    hand.spend(3 * SLICE);
    assert_eq!(a.cpu(), Duration::from_nanos(3 * SLICE));
    a.pass().await;
    assert_eq!(pool.charged(tenant(1)), 3 * SLICE);
    assert_eq!(a.cpu(), Duration::from_nanos(3 * SLICE));
    hand.spend(7);
    assert_eq!(a.cpu(), Duration::from_nanos(3 * SLICE + 7));
    drop(a);
    assert_eq!(pool.charged(tenant(1)), 3 * SLICE + 7);
    drop(b);
    let totals = pool.totals();
    assert_eq!((totals.turns, totals.waits, totals.refused), (2, 0, 0));
    assert_eq!(totals.cpu_ns, 6 * SLICE + 14);
    assert_idle(&pool);
}

#[tokio::test]
async fn a_full_queue_refuses_and_recovers() {
    let hand = Hand::default();
    let config = PoolConfig { queue_max: 2, ..config(1) };
    let pool = Pool::with_meter(&config, Box::new(hand));
    let ask = |number| pool.turn(tenant(number), 100, Class::Request);
    let held = ask(1).await.unwrap();
    let (mut a, mut b, mut c, mut d) = (boxed(ask(1)), boxed(ask(1)), boxed(ask(1)), boxed(ask(2)));
    assert!(poll(&mut a).is_pending() && poll(&mut b).is_pending());
    let Poll::Ready(Err(error)) = poll(&mut c) else { panic!("the queue was full") };
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(poll(&mut d).is_pending(), "another tenant's queue is not full");
    assert_eq!(pool.totals().refused, 1);
    drop(held);
    let Poll::Ready(Ok(turn)) = poll(&mut a) else { panic!("it was the first") };
    let mut again = boxed(ask(1));
    assert!(poll(&mut again).is_pending(), "there is room again");
    drop((b, d, again));
    drop(turn);
    assert_idle(&pool);
}

fn boxed<'a, T>(future: impl Future<Output = T> + 'a) -> Pin<Box<dyn Future<Output = T> + 'a>> {
    Box::pin(future)
}

#[tokio::test]
async fn a_place_on_its_way_to_a_dropped_future_goes_to_the_next() {
    let (pool, _hand) = pool(1);
    let ask = || pool.turn(tenant(1), 100, Class::Request);
    let held = ask().await.unwrap();
    let (mut a, mut b) = (boxed(ask()), boxed(ask()));
    assert!(poll(&mut a).is_pending() && poll(&mut b).is_pending());
    drop(held);
    assert_eq!(pool.totals().waiting, 1);
    drop(a);
    assert!(poll(&mut b).is_ready());
    drop(b);
    assert_idle(&pool);
}

#[tokio::test]
async fn a_turn_whose_wait_was_cancelled_holds_nothing_and_asks_again() {
    let (pool, hand) = pool(1);
    let mut turn = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
    let mut other = boxed(pool.turn(tenant(2), 100, Class::Request));
    assert!(poll(&mut other).is_pending());
    hand.spend(SLICE);
    {
        let mut pass = boxed(turn.pass());
        assert!(poll_pass(&mut pass).is_pending());
    }
    let Poll::Ready(Ok(other)) = poll(&mut other) else { panic!("the place was passed on") };
    assert_eq!((pool.totals().busy, pool.totals().waiting), (1, 0));
    // Time that others use is not this turn's.
    hand.spend(SLICE);
    assert_eq!(turn.cpu(), Duration::from_nanos(SLICE));
    {
        let mut pass = boxed(turn.pass());
        assert!(poll(&mut pass).is_pending());
        drop(other);
        assert!(poll(&mut pass).is_ready());
    }
    hand.spend(5);
    assert_eq!(turn.cpu(), Duration::from_nanos(SLICE + 5));
    drop(turn);
    assert_eq!(pool.charged(tenant(1)), SLICE + 5);
    assert_idle(&pool);
}

#[tokio::test]
async fn passing_too_often_keeps_the_place() {
    let (pool, hand) = pool(1);
    let mut turn = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
    let mut other = boxed(pool.turn(tenant(2), 100, Class::Request));
    assert!(poll(&mut other).is_pending());
    for _ in 0..4 {
        hand.spend(SLICE / 10);
        assert!(poll(&mut boxed(turn.pass())).is_ready());
    }
    hand.spend(SLICE / 10);
    assert!(poll_pass(&mut boxed(turn.pass())).is_pending());
    assert!(poll(&mut other).is_ready());
}

#[tokio::test]
async fn a_task_that_works_for_long_lets_others_ask() {
    let (pool, hand) = pool(1);
    let mut turn = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
    let asker = pool.clone();
    let other = tokio::spawn(async move {
        asker.turn(tenant(2), 100, Class::Request).await.unwrap();
    });
    hand.spend(SLICE);
    turn.pass().await;
    other.await.unwrap();
}

#[tokio::test]
async fn background_work_lets_a_request_go_first() {
    let (pool, hand) = pool(1);
    let mut build = pool.turn(tenant(1), 100, Class::Background).await.unwrap();
    let mut other = boxed(pool.turn(tenant(2), 100, Class::Background));
    assert!(poll(&mut other).is_pending());
    let mut request = boxed(pool.turn(tenant(2), 100, Class::Request));
    assert!(poll(&mut request).is_pending());
    hand.spend(SLICE);
    let mut pass = boxed(build.pass());
    assert!(poll_pass(&mut pass).is_pending());
    assert!(poll(&mut other).is_pending());
    let Poll::Ready(Ok(request)) = poll(&mut request) else { panic!("requests go first") };
    drop(request);
    assert!(poll(&mut other).is_ready());
    drop(other);
    assert!(poll(&mut pass).is_ready());
}

#[tokio::test]
async fn whoever_breathes_lets_others_have_the_place_meanwhile() {
    let (pool, hand) = pool(1);
    let most = Duration::from_millis(200);
    let burst = Duration::from_nanos(SLICE);
    let mut turn = pool.turn(tenant(1), 100, Class::Background).await.unwrap();
    hand.spend(SLICE - 1);
    assert_eq!(turn.breathe(burst, (100, most)).await, Duration::ZERO);
    assert!(pool.try_turn(tenant(2), 100, Class::Request).is_none());
    hand.spend(1);
    let mut breath: Pin<Box<dyn Future<Output = Duration> + '_>> =
        Box::pin(turn.breathe(burst, (100, most)));
    assert!(poll(&mut breath).is_pending());
    assert_eq!(pool.charged(tenant(1)), SLICE);
    // Nobody waits, and yet the place is free; whoever has it is not disturbed.
    let other = pool.try_turn(tenant(2), 100, Class::Request).unwrap();
    tokio::time::sleep(100 * burst + Duration::from_millis(5)).await;
    assert!(poll(&mut breath).is_pending());
    drop(other);
    assert!(breath.await >= 100 * burst);
    assert!(pool.try_turn(tenant(2), 100, Class::Request).is_none());
    // A rest that is cut off leaves nothing taken; the next one ends with a place.
    hand.spend(SLICE);
    let mut breath: Pin<Box<dyn Future<Output = Duration> + '_>> =
        Box::pin(turn.breathe(burst, (100, most)));
    assert!(poll(&mut breath).is_pending());
    drop(breath);
    drop(pool.try_turn(tenant(2), 100, Class::Request).unwrap());
    turn.breathe(burst, (100, most)).await;
    assert!(pool.try_turn(tenant(2), 100, Class::Request).is_none());
    drop(turn);
    assert_idle(&pool);
}
