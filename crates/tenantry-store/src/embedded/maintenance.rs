//! Index maintenance: graphs are built and mended, and recall is sampled, piece by piece, each
//! piece in a turn of the tenant whose partition it is.
//!
//! A few threads of their own go round the partitions that have work. A piece is computed under
//! shared access and taken over under exclusive access, which is short. A partition that was
//! dropped from memory is forgotten.

use super::hot::{Hot, HotPartition, HotSet};
use crate::pool::{Class, Pool};
use parking_lot::{Condvar, Mutex};
use std::{
    collections::VecDeque,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// Before a partition that is being changed is looked at again.
const PAUSE: Duration = Duration::from_micros(200);
/// Attempts to take over a piece between queries; then queries wait for it.
const POLITE_ATTEMPTS: u32 = 20;

/// The threads and what they have to do. They end when this is closed or dropped.
#[derive(Debug)]
pub(crate) struct Maintenance(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: Pool,
    queue: Mutex<Queue>,
    wake: Condvar,
    done: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    partitions: VecDeque<(Weak<HotPartition>, Weak<HotSet>)>,
    threads: usize,
    is_closed: bool,
}

impl Maintenance {
    pub(crate) fn new(pool: Pool) -> Self {
        Self(Arc::new(Shared {
            pool,
            queue: Mutex::default(),
            wake: Condvar::new(),
            done: AtomicU64::new(0),
        }))
    }

    /// Adds a partition that was just marked as queued. Threads start when there is work for them.
    pub(crate) fn add(&self, hot: &Hot, set: &Arc<HotSet>) {
        let mut queue = self.0.queue.lock();
        if queue.is_closed {
            return;
        }
        queue.partitions.push_back((Arc::downgrade(hot), Arc::downgrade(set)));
        let threads_max = thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        if queue.threads < threads_max && queue.threads < queue.partitions.len() {
            let shared = Arc::clone(&self.0);
            let started =
                thread::Builder::new().name("maintenance".to_owned()).spawn(move || shared.run());
            match started {
                Ok(_) => queue.threads += 1,
                Err(error) => tracing::error!(%error, "start a thread for index maintenance"),
            }
        }
        self.0.wake.notify_one();
    }

    /// In whose turns it is done.
    pub(crate) fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Pieces done.
    pub(crate) fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Ends after the pieces that are being computed.
    pub(crate) fn close(&self) {
        let mut queue = self.0.queue.lock();
        queue.is_closed = true;
        queue.partitions.clear();
        self.0.wake.notify_all();
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let (hot, set) = {
                let mut queue = self.queue.lock();
                loop {
                    if queue.is_closed {
                        queue.threads -= 1;
                        return;
                    }
                    if let Some(next) = queue.partitions.pop_front() {
                        break next;
                    }
                    self.wake.wait(&mut queue);
                }
            };
            let (Some(hot), Some(set)) = (hot.upgrade(), set.upgrade()) else { continue };
            // A panic must end neither the thread nor what it shares with other tenants.
            let piece = catch_unwind(AssertUnwindSafe(|| self.piece(&hot, &set)));
            let Ok(has_more) = piece else {
                tracing::error!("index maintenance panicked; the partition is dropped from memory");
                set.drop_partition(&hot);
                continue;
            };
            if has_more {
                let mut queue = self.queue.lock();
                if !queue.is_closed {
                    queue.partitions.push_back((Arc::downgrade(&hot), Arc::downgrade(&set)));
                }
                continue;
            }
            hot.set_queued(false);
            // What came between the last look and the mark would otherwise be forgotten.
            let has_work = hot.try_read().is_none_or(|partition| partition.work().is_some());
            set.maintain(&hot, has_work);
        }
    }

    /// One piece; false if there was nothing to do.
    fn piece(&self, hot: &Hot, set: &Arc<HotSet>) -> bool {
        let (tenant, weight) = hot.tenant();
        // However long that takes: nobody waits for a piece, and nothing is held meanwhile that anybody
        // else needs.
        let Ok(turn) = self.pool.turn_blocking(tenant, weight, Class::Background) else {
            thread::sleep(PAUSE);
            return true;
        };
        // Whoever holds a place waits for no lock.
        let Some(partition) = hot.try_read() else {
            drop(turn);
            thread::sleep(PAUSE);
            return true;
        };
        let work = partition.work();
        partition.sample();
        let has_work = work.is_some() || partition.is_sampled();
        drop(partition);
        drop(turn);
        self.done.fetch_add(1, Ordering::Relaxed);
        if let Some(work) = work {
            let mut attempts = 0;
            let mut partition = loop {
                match hot.try_write() {
                    Some(partition) => break partition,
                    None if attempts < POLITE_ATTEMPTS => {
                        attempts += 1;
                        thread::sleep(PAUSE);
                    }
                    None => break hot.write(),
                }
            };
            self.pool.billed(tenant, || partition.apply(work));
            let bytes = partition.bytes();
            drop(partition);
            set.resize(hot, bytes);
        }
        has_work
    }
}
