//! Futures that run in turns.

use super::*;
use std::{sync::atomic::AtomicUsize, task::Poll};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

/// What serves a request: a body that comes later, a turn of its own within, a wait for another
/// thread, and a turn again.
async fn request(pool: Pool, number: u64) -> u64 {
    let (sender, mut body) = mpsc::channel(1);
    tokio::spawn(async move { sender.send(number).await });
    let body = if number.is_multiple_of(3) { number } else { body.recv().await.unwrap() };
    for _ in 0..2 {
        let turn = pool.turn(tenant(number % 5), 100, Class::Request).await.unwrap();
        assert!(turn.is_within, "a place within a place would lock all out");
        drop(turn);
        let blocking = pool.clone();
        tokio::task::spawn_blocking(move || {
            drop(blocking.turn_blocking(tenant(number % 5), 100, Class::Request).unwrap());
        })
        .await
        .unwrap();
    }
    body
}

#[test]
fn requests_never_lock_each_other_out() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::new(config(2));
        let mut tasks = JoinSet::new();
        for number in 0..600 {
            let pool = pool.clone();
            tasks.spawn(async move {
                let served = pool.in_turns(
                    tenant(number % 5),
                    100,
                    number % 2 == 0,
                    request(pool.clone(), number),
                );
                assert_eq!(served.await.unwrap(), number);
            });
        }
        timeout(Duration::from_secs(60), tasks.join_all()).await.expect("locked out");
        assert_idle(&pool);
    });
}

/// One thread, many ready tasks of one tenant before one of another.
#[tokio::test]
async fn whoever_comes_last_of_many_is_served_among_the_first() {
    let (pool, hand) = pool(1);
    let (order, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(usize::MAX)));
    let mut tasks = JoinSet::new();
    for number in 0..=100 {
        let (order, served) = (Arc::clone(&order), Arc::clone(&served));
        let (pool, hand, who) = (pool.clone(), hand.clone(), tenant(u64::from(number == 100)));
        tasks.spawn(async move {
            let inner = async {
                // Ends the free step, as a body that is not there yet does.
                tokio::task::yield_now().await;
                hand.spend(SLICE / 4);
                let place = order.fetch_add(1, Ordering::Relaxed);
                if number == 100 {
                    served.store(place, Ordering::Relaxed);
                }
            };
            pool.in_turns(who, 100, true, inner).await.unwrap();
        });
    }
    tasks.join_all().await;
    assert!(served.load(Ordering::Relaxed) < 5, "{served:?}");
    assert_idle(&pool);
}

#[tokio::test]
async fn a_step_is_charged_to_its_tenant_and_nothing_while_it_waits() {
    let (pool, hand) = pool(1);
    // Somebody waits all the time, so that what is used is counted.
    let (sender, mut receiver) = mpsc::channel::<()>(1);
    let inner = async {
        tokio::task::yield_now().await;
        hand.spend(700);
        let waiting = receiver.recv();
        waiting.await;
        hand.spend(300);
    };
    let served = pool.in_turns(tenant(1), 100, true, inner);
    let other = async {
        while pool.charged(tenant(1)) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((pool.charged(tenant(1)), pool.totals().busy), (700, 0));
        hand.spend(50_000);
        drop(sender);
    };
    let (served, ()) = tokio::join!(served, other);
    served.unwrap();
    assert_eq!(pool.charged(tenant(1)), 1_000);
    assert_idle(&pool);
}

#[tokio::test]
async fn a_request_without_a_body_does_nothing_before_its_turn() {
    let pool = Pool::new(PoolConfig { places: 1, queue_max: 1, ..PoolConfig::default() });
    let held = pool.try_turn(tenant(9), 100, Class::Request).unwrap();
    let done = AtomicUsize::new(0);
    let count = || async { done.fetch_add(1, Ordering::Relaxed) };
    let mut waits = Box::pin(pool.in_turns(tenant(1), 100, false, count()));
    assert!(poll_once(&mut waits).is_pending());
    let mut refused = Box::pin(pool.in_turns(tenant(1), 100, false, count()));
    let Poll::Ready(outcome) = poll_once(&mut refused) else { panic!("it was let in") };
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(done.load(Ordering::Relaxed), 0, "something was done before its turn");
    drop(held);
    assert_eq!(waits.await.unwrap(), 0);
    assert_idle(&pool);
}

/// The task that gives places out can stand behind one that never lets go of its thread.
#[tokio::test]
async fn places_are_given_out_by_others_if_whoever_should_is_late() {
    let (pool, hand) = pool(1);
    let mut first = Box::pin(pool.in_turns(tenant(1), 100, false, async {}));
    assert!(poll_once(&mut first).is_ready());
    // Its place rests until a task of this very thread runs, which this one does not let it.
    let mut second = Box::pin(pool.in_turns(tenant(2), 100, false, async {}));
    assert!(poll_once(&mut second).is_pending());
    hand.spend(SLICE);
    let mut third = Box::pin(pool.in_turns(tenant(3), 100, false, async {}));
    assert!(poll_once(&mut third).is_pending());
    assert!(poll_once(&mut second).is_ready());
    drop(third);
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_idle(&pool);
}

#[tokio::test]
async fn a_full_queue_refuses_new_requests_and_lets_old_ones_go_on() {
    let pool = Pool::new(PoolConfig { places: 1, queue_max: 2, ..PoolConfig::default() });
    let held = pool.try_turn(tenant(9), 100, Class::Request).unwrap();
    let mut requests: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            Box::pin(
                async move { pool.in_turns(tenant(1), 100, true, tokio::task::yield_now()).await },
            )
        })
        .collect();
    let mut refused = 0;
    for _ in 0..10 {
        requests.retain_mut(|request| match poll_once(request) {
            Poll::Ready(outcome) => {
                assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Busy);
                refused += 1;
                false
            }
            Poll::Pending => true,
        });
    }
    assert_eq!((refused, requests.len()), (1, 2));
    drop(held);
    for request in requests {
        request.await.unwrap();
    }
    assert_idle(&pool);
}

fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    let waker = std::task::Waker::noop();
    std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(waker))
}
