//! For whom CPU time counts.

use super::*;
use crate::pool::bills::TENANTS_MAX;

/// What was taken, by tenant, in nanoseconds.
fn taken(pool: &Pool) -> Vec<(u64, u64)> {
    let ns = |used: Duration| u64::try_from(used.as_nanos()).unwrap();
    let all = pool.take_used().into_iter().map(|(tenant, used)| (tenant.get(), ns(used)));
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all
}

#[tokio::test]
async fn what_turns_use_is_taken_once_of_both_classes() {
    let (pool, hand) = pool(2);
    let mut turn = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
    hand.spend(SLICE);
    turn.pass().await;
    let background = pool.try_turn(tenant(2), 100, Class::Background).unwrap();
    hand.spend(7);
    drop((turn, background));
    assert_eq!(taken(&pool), [(1, SLICE + 7), (2, 7)]);
    assert!(taken(&pool).is_empty());
}

#[tokio::test]
async fn what_counts_for_nobody_still_does_after_a_wait() {
    let (pool, hand) = pool(1);
    let mut turn = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
    turn.bill(TenantId::INSTALLATION);
    let other = async {
        let other = pool.turn(tenant(2), 100, Class::Request).await.unwrap();
        hand.spend(5);
        drop(other);
    };
    let work = async {
        hand.spend(SLICE);
        turn.pass().await;
        hand.spend(SLICE);
    };
    tokio::join!(other, work);
    drop(turn);
    assert_eq!(pool.totals().waits, 2);
    assert_eq!(taken(&pool), [(2, 5)]);
    // The order of tenants reckons with it all the same.
    assert_eq!(pool.charged(tenant(1)), 2 * SLICE);
}

#[tokio::test]
async fn a_request_counts_for_the_tenant_in_which_it_works() {
    let (pool, hand) = pool(1);
    let acting = async {
        hand.spend(10);
        pool.bill_here(tenant(3));
        tokio::task::yield_now().await;
        assert_eq!(pool.billed_here(), Some(tenant(3)));
        hand.spend(20);
    };
    pool.in_turns(TenantId::INSTALLATION, 100, false, acting).await.unwrap();
    assert_eq!(pool.billed_here(), None);
    assert_eq!(taken(&pool), [(3, 30)]);
    let own = async { hand.spend(4) };
    pool.in_turns(tenant(1), 100, false, own).await.unwrap();
    assert_eq!(taken(&pool), [(1, 4)]);
    assert_idle(&pool);
}

#[tokio::test]
async fn a_turn_within_a_request_does_not_count_twice() {
    let (pool, hand) = pool(1);
    let request = async {
        hand.spend(1);
        let turn = pool.turn(tenant(1), 100, Class::Request).await.unwrap();
        hand.spend(600);
        assert_eq!(turn.cpu(), Duration::from_nanos(600));
        drop(turn);
    };
    pool.in_turns(tenant(1), 100, false, request).await.unwrap();
    assert_eq!(taken(&pool), [(1, 601)]);
}

#[tokio::test]
async fn work_beside_turns_counts_while_it_is_done() {
    let (pool, hand) = pool(1);
    let work = async {
        hand.spend(3);
        tokio::task::yield_now().await;
        hand.spend(4);
        9
    };
    let others = async { hand.spend(1_000) };
    let (done, ()) = tokio::join!(pool.beside(tenant(1), Box::pin(work)), others);
    assert_eq!(done, 9);
    for bytes in [1, usize::MAX] {
        let hand = hand.clone();
        let work = move || {
            hand.spend(6);
            Ok(())
        };
        pool.compute(tenant(2), bytes, work).await.unwrap();
    }
    // What is done at once is part of what is around it.
    assert_eq!(taken(&pool), [(1, 7), (2, 6)]);
}

#[test]
fn many_tenants_are_one_beyond_the_bound_and_nothing_is_lost() {
    let (pool, _) = pool(1);
    (1..=10_000).for_each(|number| pool.bill(tenant(number), 2));
    let all = taken(&pool);
    assert_eq!(all.len(), TENANTS_MAX + 1);
    assert_eq!(all[0], (0, 2 * (10_000 - TENANTS_MAX as u64)));
    assert_eq!(all.iter().map(|(_, ns)| ns).sum::<u64>(), 20_000);
}
