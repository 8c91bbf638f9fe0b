//! Parts of the connections: each of many who use them may have so many at once.

use super::{connections::is_closed, failure::Outcome};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tenantry_types::{Error, ErrorKind};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What one may have, and how many wait for it.
pub(super) struct Share {
    most: usize,
    pub(super) permits: Arc<Semaphore>,
    pub(super) waiting: AtomicUsize,
}

impl Share {
    pub(super) fn new(most: usize) -> Self {
        Self { most, permits: Arc::new(Semaphore::new(most)), waiting: AtomicUsize::new(0) }
    }

    /// One of what it has, waited for among not too many and not for too long.
    pub(super) async fn acquire(
        &self,
        waiters: usize,
        wait: Duration,
    ) -> Outcome<OwnedSemaphorePermit> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            // Seldom, and every operation holds this future.
            Err(_) => Box::pin(self.wait(waiters, wait)).await,
        }
    }

    /// One of what it has, if half of that, and at least one, stays free.
    pub(super) fn spare(&self) -> Option<OwnedSemaphorePermit> {
        let left = self.permits.available_permits().checked_sub(1)?;
        let may = left >= self.most.div_ceil(2);
        may.then(|| Arc::clone(&self.permits).try_acquire_owned().ok()).flatten()
    }

    async fn wait(&self, waiters: usize, wait: Duration) -> Outcome<OwnedSemaphorePermit> {
        let waiter = self.enter(waiters)?;
        let permit = timeout(wait, Arc::clone(&self.permits).acquire_owned()).await;
        drop(waiter);
        match permit {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(is_closed()),
            Err(_) => {
                let message = "no connection to the database became free";
                Err(Error::new(ErrorKind::Unavailable, message).into())
            }
        }
    }

    /// One more who waits, if there are not too many.
    pub(super) fn enter(&self, waiters: usize) -> Outcome<Waiter<'_>> {
        let waiter = Waiter(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= waiters {
            let message = "too many requests wait for a connection to the database";
            return Err(Error::new(ErrorKind::Busy, message).into());
        }
        Ok(waiter)
    }
}

/// Somebody who waits.
pub(super) struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The shares of those who have something or wait for it; nothing is kept of anybody else.
pub(super) struct Shares<K>(Mutex<Kept<K>>);

struct Kept<K> {
    shares: HashMap<K, Weak<Share>>,
    /// So many are kept before those that nobody has any more are forgotten.
    room: usize,
}

/// The least room, so that few shares are not looked through for each one.
const ROOM: usize = 64;

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Mutex::new(Kept { shares: HashMap::new(), room: ROOM }))
    }
}

impl<K: Eq + Hash> Shares<K> {
    /// The share of `whose`, which is of `most` if nobody has it yet.
    pub(super) fn of(&self, whose: K, most: usize) -> Arc<Share> {
        let mut kept = self.0.lock();
        if let Some(share) = kept.shares.get(&whose).and_then(Weak::upgrade) {
            return share;
        }
        if kept.shares.len() >= kept.room {
            kept.shares.retain(|_, share| share.strong_count() > 0);
            kept.room = ROOM.max(2 * kept.shares.len());
        }
        let share = Arc::new(Share::new(most));
        kept.shares.insert(whose, Arc::downgrade(&share));
        share
    }

    /// Those who wait for their share.
    pub(super) fn waiting(&self) -> usize {
        let kept = self.0.lock();
        let of = |share: Arc<Share>| share.waiting.load(Ordering::Relaxed);
        kept.shares.values().filter_map(Weak::upgrade).map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_for_all_who_have_it_and_none_is_kept_of_others() {
        let shares = Shares::default();
        let (one, same) = (shares.of(0, 3), shares.of(0, 3));
        assert!(Arc::ptr_eq(&one, &same));
        assert_eq!(one.permits.available_permits(), 3);
        one.waiting.store(2, Ordering::Relaxed);
        for other in 1..1_000 {
            drop(shares.of(other, 1));
        }
        assert!(shares.0.lock().shares.len() <= ROOM);
        assert_eq!(shares.waiting(), 2);
        assert!(Arc::ptr_eq(&one, &shares.of(0, 3)));
    }

    #[test]
    fn what_is_spared_leaves_half_and_at_least_one() {
        for (most, expected) in [(1, 0), (2, 1), (3, 1), (4, 2), (7, 3), (8, 4)] {
            let share = Share::new(most);
            let taken: Vec<_> = std::iter::from_fn(|| share.spare()).collect();
            assert_eq!(taken.len(), expected, "of {most}");
        }
    }
}
