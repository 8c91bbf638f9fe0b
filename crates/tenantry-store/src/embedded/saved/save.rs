//! Saving: background work of the tenant whose partition it is, in turns, one partition at a time.
//!
//! The stamp is read under the tenant's writer lock, so that it is the stamp of what is in memory.
//! Then memory is copied piece by piece; a write meanwhile shows in the stamp, which is compared
//! under the writer lock again before the file gets its name. No place is held while a lock or the
//! disk is waited for.

use super::{Saved, copy::Job, file::Whose};
use crate::embedded::{
    Inner, Space,
    disk::Stamp,
    hot::Hot,
    keys,
    partition::Partition,
    ready,
    tenants::OpenTenant,
    write::{self, PARTITION, VECTOR},
};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tenantry_types::{Error, ErrorKind, Result};

/// Bytes that one partition writes at most, in the long run.
const BYTES_A_SECOND: f64 = 1_048_576.0;
/// How often partitions are looked at if none need be quiet.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What is known of a hot partition's saved file.
#[derive(Debug)]
pub(crate) struct Marks {
    /// Grows with each change of the records.
    changes: AtomicU64,
    /// Changes when it was last looked at.
    seen: AtomicU64,
    /// Changes when it was last saved.
    saved: AtomicU64,
    /// Before this it is not saved again.
    rests_until: Mutex<Option<Instant>>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            changes: AtomicU64::new(1),
            seen: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            rests_until: Mutex::default(),
        }
    }
}

impl Marks {
    /// The records were changed.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The file is that of the records after so many changes.
    pub(super) fn set_saved(&self, changes: u64) {
        self.saved.store(changes, Ordering::Release);
    }

    /// A partition was loaded whose file is that of its records.
    pub(crate) fn loaded_current(&self) {
        self.set_saved(1);
    }

    /// A file of so many bytes was written: what is large is not written again for each change.
    pub(super) fn rest(&self, bytes: u64) {
        let rest = Duration::from_secs_f64(bytes as f64 / BYTES_A_SECOND);
        let (mut until, now) = (self.rests_until.lock(), Instant::now());
        *until = until.map_or(now, |end| end.max(now)).checked_add(rest);
    }

    fn rests(&self) -> bool {
        self.rests_until.lock().is_some_and(|end| Instant::now() < end)
    }

    /// True if it is to be saved: not saved as it is, and `at_once` or as it was at the last look.
    fn is_due(&self, at_once: bool) -> bool {
        let changes = self.changes();
        let seen = self.seen.swap(changes, Ordering::AcqRel);
        self.saved.load(Ordering::Acquire) != changes && (at_once || seen == changes)
    }
}

/// Starts the saver; it ends with the store.
pub(crate) fn spawn(inner: &Arc<Inner>) {
    if inner.saved.is_on() {
        tokio::spawn(run(Arc::downgrade(inner), inner.saved.config.quiet.max(LOOK_EVERY)));
    }
}

async fn run(weak: Weak<Inner>, every: Duration) {
    let mut is_swept = false;
    loop {
        let Some(inner) = weak.upgrade() else { return };
        let round = tokio::task::spawn_blocking(move || {
            if inner.lock.lock().is_none() || inner.disk.is_closing() {
                return None;
            }
            if !is_swept {
                match inner.sweep_saved() {
                    Ok(()) => is_swept = true,
                    Err(error) => tracing::warn!(?error, "look through saved indexes"),
                }
            }
            inner.save_round(None);
            Some(is_swept)
        });
        match round.await {
            Ok(Some(done)) => is_swept = done,
            Ok(None) => return,
            Err(why) => tracing::error!(%why, "the saver panicked"),
        }
        tokio::time::sleep(every).await;
    }
}

impl Inner {
    /// Saves at the store's end what is not saved yet, as far as time allows. Called on any
    /// thread, and only once.
    pub(in crate::embedded) fn save_at_close(&self) {
        if self.saved.is_closing.swap(true, Ordering::AcqRel) || !self.saved.is_on() {
            return;
        }
        let until = Instant::now() + self.saved.config.close_within;
        // A turn is waited for by blocking, which a runtime's own thread may not.
        let save = || self.save_round(Some(until));
        thread::scope(|scope| {
            let saver = thread::Builder::new().name("save".to_owned()).spawn_scoped(scope, save);
            if let Err(why) = saver {
                tracing::warn!(%why, "start a thread to save indexes");
            }
        });
    }

    /// Looks at all hot partitions once. `until` is set when the store closes.
    fn save_round(&self, until: Option<Instant>) {
        let saving = match until {
            Some(until) => self.saved.saving.try_lock_until(until),
            None => self.saved.saving.try_lock(),
        };
        let Some(_saving) = saving else { return };
        let at_once = until.is_some() || self.saved.config.quiet.is_zero();
        for hot in self.hot.all() {
            // Dropped meanwhile: it was not to stay for being looked at.
            let Some(hot) = hot.upgrade() else { continue };
            if self.saved.is_over(until) {
                return;
            }
            if !hot.marks.is_due(at_once) || (until.is_none() && hot.marks.rests()) {
                continue;
            }
            match self.save(&hot, until) {
                Ok(()) => {}
                Err(why) if why.kind() == ErrorKind::Busy => {}
                Err(why) => self.saved.warn(&why),
            }
        }
    }

    /// Saves a partition, if it is worth it and possible now.
    fn save(&self, hot: &Hot, until: Option<Instant>) -> Result<()> {
        let mut is_small = false;
        let mut vectors = Vec::new();
        if let Some(partition) = hot.try_read() {
            is_small = partition.len() < self.saved.config.records_min;
            if !is_small {
                vectors = worth_saving(&partition, until.is_some());
            }
        }
        let ((id, weight), number) = (hot.tenant(), hot.collection());
        if is_small {
            // What was saved while it was larger holds codes of what is gone.
            self.saved.remove_collection(id, number.0);
        }
        if vectors.is_empty() {
            return Ok(());
        }
        let Some(tenant) = ready(self.tenancy.open_tenant(id))? else { return Ok(()) };
        let state = match tenant.writer.try_lock() {
            Ok(_writing) => self.state(&tenant, hot)?,
            Err(_) => None,
        };
        let Some(State { stamp, changes }) = state else { return Ok(()) };
        let Some(stamp) = stamp else {
            // Its records were last changed before there were stamps.
            hot.marks.set_saved(changes);
            return Ok(());
        };
        for vector in vectors {
            let whose = Whose { tenant: id, collection: number.0, partition: PARTITION, vector };
            let job = Job { inner: self, tenant: &tenant, hot, weight, whose, stamp, until };
            if !job.run()? {
                return Ok(());
            }
        }
        hot.marks.set_saved(changes);
        Ok(())
    }

    /// The stamp of what is in memory. The tenant's writer lock is held. `None` if the partition
    /// is no longer the one in memory, or its collection is gone.
    pub(super) fn state(&self, tenant: &OpenTenant, hot: &Hot) -> Result<Option<State>> {
        // A database that was closed is not opened for this: it is not what is in use.
        let Some(db) = self.data_if_open(tenant)? else { return Ok(None) };
        let is_current = db.generation() == tenant.generation() && self.hot.holds(tenant, hot);
        if !is_current || tenant.check_alive().is_err() {
            return Ok(None);
        }
        let Some(info) = write::collection_row(&db, tenant, hot.collection())? else {
            return Ok(None);
        };
        let stamp = write::statistics(&db, tenant, &info)?.stamp;
        Ok(Some(State { stamp, changes: hot.marks.changes() }))
    }

    /// True if the tenant and the collection have their rows.
    pub(super) fn lives(&self, tenant: &OpenTenant, hot: &Hot) -> Result<bool> {
        let row = keys::Tenant {}.encode(tenant.prefix());
        let Some(db) = self.data_if_open(tenant)? else { return Ok(false) };
        Ok(self.db()?.get(Space::Catalog, &row)?.is_some()
            && write::collection_row(&db, tenant, hot.collection())?.is_some())
    }
}

impl Saved {
    /// True if saving is to end.
    pub(super) fn is_over(&self, until: Option<Instant>) -> bool {
        match until {
            Some(until) => Instant::now() >= until,
            None => self.is_closing.load(Ordering::Acquire),
        }
    }

    /// Says once that a file cannot be written.
    fn warn(&self, why: &Error) {
        if self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::debug!(%why, "save an index");
        } else {
            tracing::warn!(?why, "save an index; it will be tried again, and not be said again");
        }
    }
}

pub(super) struct State {
    pub(super) stamp: Option<Stamp>,
    changes: u64,
}

/// The numbers of the vectors whose indexes are saved: the unnamed ones, from which cold queries
/// are answered, and those with a graph. None before all are settled, unless `at_once`.
fn worth_saving(partition: &Partition, at_once: bool) -> Vec<u16> {
    let worth = partition
        .vectors
        .indexes()
        .filter(|(number, index)| *number == VECTOR || index.has_graph());
    let (numbers, settled): (Vec<_>, Vec<_>) =
        worth.map(|(number, index)| (number, index.is_settled())).unzip();
    if at_once || settled.iter().all(|settled| *settled) { numbers } else { Vec::new() }
}
