//! Saving: background work of the tenant whose partition it is, in turns, one partition at a time.
//!
//! The stamp is read under the tenant's writer lock, so that it is the stamp of what is in memory.
//! Then memory is copied piece by piece; a write meanwhile shows in the stamp, which is compared
//! under the writer lock again before the file gets its name. No place is held while a lock or the
//! disk is waited for.

use super::{
    Saved, UNFINISHED,
    file::{CHUNK_BYTES, Description, Part, Whose, Writer},
};
use crate::{
    embedded::{
        Inner,
        catalog::load_collection,
        db::Space,
        disk::Stamp,
        hot::Hot,
        keys,
        partition::Partition,
        tenants::OpenTenant,
        write::{self, PARTITION, VECTOR},
    },
    pool::{Class, Turn},
};
use parking_lot::Mutex;
use std::{
    fs,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tenantry_index::VectorIndex;
use tenantry_types::{Error, ErrorKind, Result};

/// Before what is in use is tried again.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a lock is tried; then the partition's turn comes later.
const TRIES: u32 = 500;
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

    /// A file of so many bytes was written: a large one is not written again for each change.
    fn rest(&self, bytes: u64) {
        let rest = Duration::from_secs_f64(bytes as f64 / BYTES_A_SECOND);
        *self.rests_until.lock() = Instant::now().checked_add(rest);
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
        let worth = hot.try_read().is_some_and(|partition| {
            let index = index_of(&partition);
            partition.len() >= self.saved.config.records_min
                && index.is_some_and(|index| until.is_some() || index.is_settled())
        });
        if !worth {
            return Ok(());
        }
        let ((id, weight), number) = (hot.tenant(), hot.collection());
        let Some(tenant) = self.open_tenant(id)? else { return Ok(()) };
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
        let whose =
            Whose { tenant: id, collection: number.0, partition: PARTITION, vector: VECTOR };
        let job = Job { inner: self, tenant: &tenant, hot, weight, whose, stamp, until };
        if job.run()? {
            hot.marks.set_saved(changes);
        }
        Ok(())
    }

    /// The stamp of what is in memory. The tenant's writer lock is held. `None` if the partition
    /// is no longer the one in memory, or its collection is gone.
    fn state(&self, tenant: &OpenTenant, hot: &Hot) -> Result<Option<State>> {
        let db = self.db()?;
        let is_current = db.generation() == tenant.generation() && self.hot.holds(tenant, hot);
        if !is_current || tenant.check_alive().is_err() {
            return Ok(None);
        }
        let Some(info) = load_collection(&db, tenant, hot.collection())? else { return Ok(None) };
        let stamp = write::statistics(&db, tenant, &info)?.stamp;
        Ok(Some(State { stamp, changes: hot.marks.changes() }))
    }

    /// True if the tenant and the collection have their rows.
    fn lives(&self, tenant: &OpenTenant, hot: &Hot) -> Result<bool> {
        let db = self.db()?;
        let row = keys::Tenant {}.encode(tenant.prefix());
        Ok(db.get(Space::Catalog, &row)?.is_some()
            && load_collection(&db, tenant, hot.collection())?.is_some())
    }
}

impl Saved {
    /// True if saving is to end.
    fn is_over(&self, until: Option<Instant>) -> bool {
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

struct State {
    stamp: Option<Stamp>,
    changes: u64,
}

/// The index that is saved.
pub(super) fn index_of(partition: &Partition) -> Option<&VectorIndex> {
    partition.index.as_ref()
}

/// One partition being saved.
struct Job<'a> {
    inner: &'a Inner,
    tenant: &'a OpenTenant,
    hot: &'a Hot,
    weight: u32,
    whose: Whose,
    stamp: Stamp,
    until: Option<Instant>,
}

impl Job<'_> {
    /// True if the file was written.
    fn run(&self) -> Result<bool> {
        let saved = &self.inner.saved;
        let rows = |partition: &Partition| -> (Vec<u32>, Vec<u64>) {
            let row = |slot: u32| Some((slot, partition.ordinal(slot)?));
            partition.all_slots().filter_map(row).unzip()
        };
        let (slots, ordinals) = self.look(rows)?;
        let links = self.links(&slots)?;
        let described = self.look_index(|index| Description {
            metric: index.metric(),
            storage: index.config().storage,
            dimension: u32::try_from(index.dimension()).unwrap_or(u32::MAX),
            rows: slots.len() as u64,
            links: links.len() as u64,
        })?;
        let bytes = described.file_bytes().ok_or_else(busy)?;
        if !saved.has_room(bytes) {
            return Ok(false);
        }
        let path = saved.path(self.whose);
        let entropy = &*self.inner.entropy;
        saved.make_folder(self.whose.tenant).map_err(unwritable)?;
        let writer =
            Writer::create(path.with_extension(UNFINISHED), self.whose, self.stamp, entropy);
        let mut writer = writer.map_err(unwritable)?;
        let mut ordinals = ordinals.into_iter().flat_map(u64::to_le_bytes);
        self.part(&mut writer, Part::Description, |buffer| {
            buffer.extend_from_slice(&described.encode());
            Ok(true)
        })?;
        self.part(&mut writer, Part::Ordinals, |buffer| {
            buffer.extend(ordinals.by_ref().take(CHUNK_BYTES));
            Ok(buffer.len() < CHUNK_BYTES)
        })?;
        self.rows(&mut writer, Part::Codes, &slots, VectorIndex::save_codes)?;
        self.rows(&mut writer, Part::Terms, &slots, VectorIndex::save_terms)?;
        let mut chunks = links.chunks(CHUNK_BYTES);
        self.part(&mut writer, Part::Links, |buffer| {
            buffer.extend_from_slice(chunks.next().unwrap_or_default());
            Ok(buffer.len() < CHUNK_BYTES)
        })?;
        self.finish(writer, bytes)
    }

    /// The saved links of the graph; nothing without one.
    fn links(&self, slots: &[u32]) -> Result<Vec<u8>> {
        let Some(mut links) = self.look_index(|index| index.begin_links(slots))? else {
            return Ok(Vec::new());
        };
        while !self.look_index(|index| index.save_links(&mut links))? {}
        Ok(links.finish())
    }

    /// Writes a part that has something of each slot.
    fn rows(
        &self,
        writer: &mut Writer,
        part: Part,
        slots: &[u32],
        save: impl Fn(&VectorIndex, u32, &mut Vec<u8>),
    ) -> Result<()> {
        let mut slots = slots.iter();
        self.part(writer, part, |buffer| {
            self.look_index(|index| {
                while buffer.len() < CHUNK_BYTES
                    && let Some(slot) = slots.next()
                {
                    save(index, *slot, buffer);
                }
            })?;
            Ok(slots.len() == 0)
        })
    }

    /// Writes a part. `more` appends to the buffer, a chunk or more, and says when it is the end.
    fn part(
        &self,
        writer: &mut Writer,
        part: Part,
        mut more: impl FnMut(&mut Vec<u8>) -> Result<bool>,
    ) -> Result<()> {
        let entropy = &*self.inner.entropy;
        let mut buffer = Vec::new();
        let mut chunk = 0;
        let mut is_end = false;
        while !is_end || !buffer.is_empty() {
            if !is_end && buffer.len() < CHUNK_BYTES {
                is_end = more(&mut buffer)?;
                continue;
            }
            let bytes = buffer.len().min(CHUNK_BYTES);
            let sealed = {
                let _turn = self.turn()?;
                writer.seal(self.tenant.key(), part, chunk, &buffer[..bytes], entropy)
            };
            writer.write(&sealed).map_err(unwritable)?;
            buffer.drain(..bytes);
            chunk += 1;
        }
        Ok(())
    }

    /// Gives the file its name, if it still is that of the records.
    fn finish(&self, writer: Writer, bytes: u64) -> Result<bool> {
        let (inner, saved) = (self.inner, &self.inner.saved);
        if writer.bytes() != bytes {
            // It changed while it was copied, so its stamp did too.
            return Ok(false);
        }
        let path = saved.path(self.whose);
        let _writing = self.patiently(|| self.tenant.writer.try_lock().ok())?;
        let is_current = inner
            .state(self.tenant, self.hot)?
            .is_some_and(|state| state.stamp == Some(self.stamp));
        if !is_current {
            return Ok(false);
        }
        let replaced = fs::metadata(&path).map_or(0, |old| old.len());
        writer.rename(&path).map_err(unwritable)?;
        saved.count(bytes, replaced);
        // A tenant that was opened anew after a failed write has another writer lock: whoever
        // deletes under that one removes files after its commit, and this comes after the file.
        if !inner.lives(self.tenant, self.hot)? {
            saved.remove_collection(self.whose.tenant, self.whose.collection);
            return Ok(false);
        }
        self.hot.marks.rest(bytes);
        saved.written.fetch_add(1, Ordering::Relaxed);
        saved.has_warned.store(false, Ordering::Relaxed);
        Ok(true)
    }

    /// Looks at the partition in a turn of its tenant's.
    fn look<T>(&self, mut look: impl FnMut(&Partition) -> T) -> Result<T> {
        self.patiently(|| {
            let _turn = self.turn().ok()?;
            // Whoever holds a place waits for no lock.
            self.hot.try_read().map(|partition| look(&partition))
        })
    }

    fn look_index<T>(&self, mut look: impl FnMut(&VectorIndex) -> T) -> Result<T> {
        self.look(|partition| index_of(partition).map(&mut look))?.ok_or_else(busy)
    }

    /// Tries until it works, for a while.
    fn patiently<T>(&self, mut attempt: impl FnMut() -> Option<T>) -> Result<T> {
        for _ in 0..TRIES {
            if self.inner.saved.is_over(self.until) {
                return Err(busy());
            }
            if let Some(done) = attempt() {
                return Ok(done);
            }
            thread::sleep(PAUSE);
        }
        Err(busy())
    }

    fn turn(&self) -> Result<Turn> {
        let (pool, id) = (&self.inner.pool, self.whose.tenant);
        if self.until.is_none() {
            return pool.turn_blocking(id, self.weight, Class::Background);
        }
        // At the end nobody knows when a place is given back.
        self.patiently(|| pool.try_turn(id, self.weight, Class::Background))
    }
}

/// Not now.
fn busy() -> Error {
    Error::new(ErrorKind::Busy, "what is to be saved is in use")
}

fn unwritable(why: std::io::Error) -> Error {
    // Its folder has gone with a collection, or with the tenant.
    if why.kind() == std::io::ErrorKind::NotFound {
        return busy();
    }
    Error::new(ErrorKind::Unavailable, "a saved file cannot be written").with_source(why)
}
