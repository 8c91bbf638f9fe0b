//! Futures dropped at every point, by chance.

use super::*;
use proptest::prelude::*;
use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

type Asking = Pin<Box<dyn Future<Output = Option<Turn>>>>;

#[derive(Debug, Clone)]
enum Step {
    Ask {
        tenant: u64,
        background: bool,
    },
    Poll(usize),
    /// Drops a future, whatever it waits for and whether or not a place is on its way.
    Cancel(usize),
    Finish(usize),
    Pass(usize),
    /// Passes, cancels the wait and goes on with the turn.
    PassHalf(usize),
    Spend(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u64..4, any::<bool>())
            .prop_map(|(tenant, background)| Step::Ask { tenant, background }),
        4 => (0_usize..100).prop_map(Step::Poll),
        3 => (0_usize..100).prop_map(Step::Cancel),
        2 => (0_usize..100).prop_map(Step::Finish),
        3 => (0_usize..100).prop_map(Step::Pass),
        1 => (0_usize..100).prop_map(Step::PassHalf),
        3 => (0_u64..4 * SLICE).prop_map(Step::Spend),
    ]
}

fn poll(asking: &mut Asking) -> Poll<Option<Turn>> {
    asking.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn pass(mut turn: Turn) -> Asking {
    Box::pin(async move {
        turn.pass().await;
        Some(turn)
    })
}

struct World {
    pool: Pool,
    hand: Hand,
    asking: Vec<Asking>,
    held: Vec<Turn>,
}

impl World {
    fn settle(&mut self, index: usize) {
        if let Poll::Ready(turn) = poll(&mut self.asking[index]) {
            drop(self.asking.swap_remove(index));
            self.held.extend(turn);
        }
    }

    fn step(&mut self, step: &Step) {
        let of = |index: usize, len: usize| (len > 0).then(|| index % len);
        match *step {
            Step::Ask { tenant: number, background } => {
                let class = if background { Class::Background } else { Class::Request };
                let pool = self.pool.clone();
                self.asking.push(Box::pin(async move {
                    pool.turn(tenant(number), 100, class).await.ok()
                }));
                self.settle(self.asking.len() - 1);
            }
            Step::Poll(index) => {
                if let Some(index) = of(index, self.asking.len()) {
                    self.settle(index);
                }
            }
            Step::Cancel(index) => {
                if let Some(index) = of(index, self.asking.len()) {
                    drop(self.asking.swap_remove(index));
                }
            }
            Step::Finish(index) => {
                if let Some(index) = of(index, self.held.len()) {
                    drop(self.held.swap_remove(index));
                }
            }
            Step::Pass(index) => {
                if let Some(index) = of(index, self.held.len()) {
                    let turn = self.held.swap_remove(index);
                    self.asking.push(pass(turn));
                    self.settle(self.asking.len() - 1);
                }
            }
            Step::PassHalf(index) => {
                if let Some(index) = of(index, self.held.len()) {
                    let mut half = Box::pin(self.held[index].pass());
                    let context = &mut Context::from_waker(Waker::noop());
                    if half.as_mut().poll(context).is_pending() {
                        let _ = half.as_mut().poll(context);
                    }
                }
            }
            Step::Spend(ns) => self.hand.spend(ns),
        }
    }
}

proptest! {
    #[test]
    fn no_place_is_lost_and_all_that_wait_are_served(
        places in 1_usize..4,
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let (pool, hand) = pool(places);
        let mut world = World { pool: pool.clone(), hand, asking: Vec::new(), held: Vec::new() };
        for step in &steps {
            world.step(step);
            let totals = pool.totals();
            let holding = world.held.iter().filter(|turn| turn.place.is_held).count();
            prop_assert!(totals.busy <= places);
            prop_assert!(holding <= totals.busy);
            // Whoever waits with a place free is background work on its last allowed place.
            prop_assert!(totals.waiting == 0 || totals.busy + 1 >= places);
        }
        let most = world.asking.len() + world.held.len();
        for _ in 0..=2 * most {
            world.held.clear();
            for index in (0..world.asking.len()).rev() {
                world.settle(index);
            }
        }
        prop_assert!(world.asking.is_empty(), "{} wait for ever", world.asking.len());
        drop(world);
        assert_idle(&pool);
    }
}
