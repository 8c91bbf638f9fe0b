//! The order by simulation, turns by tasks and threads, cancellation at random.

mod bills;
mod cancel;
mod order;
mod steps;
mod threads;
mod turns;

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const SLICE: u64 = 500_000;

fn config(places: usize) -> PoolConfig {
    PoolConfig { places, ..PoolConfig::default() }
}

fn tenant(number: u64) -> TenantId {
    TenantId::new(number)
}

/// A clock that stands still until it is told.
#[derive(Debug, Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn spend(&self, ns: u64) {
        self.0.fetch_add(ns, Ordering::Relaxed);
    }
}

impl Meter for Hand {
    fn wall(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn cpu(&self) -> u64 {
        self.wall()
    }
}

fn pool(places: usize) -> (Pool, Hand) {
    let hand = Hand::default();
    (Pool::with_meter(&config(places), Box::new(hand.clone())), hand)
}

/// Nothing is taken, nothing waits, nothing is remembered, and every place can be had.
fn assert_idle(pool: &Pool) {
    let totals = pool.totals();
    assert_eq!((totals.busy, totals.waiting), (0, 0));
    assert_eq!(pool.0.gate.lock().tenants(), 0);
    let turns: Vec<_> = std::iter::from_fn(|| pool.try_turn(tenant(9_999), 100, Class::Request))
        .take(1_000)
        .collect();
    assert_eq!(turns.len(), pool.0.gate.lock().places());
}
