//! Copying one partition from memory into its file.

use super::{
    UNFINISHED,
    file::{CHUNK_BYTES, Description, Part, Whose, Writer},
};
use crate::{
    embedded::{Inner, disk::Stamp, hot::Hot, partition::Partition, tenants::OpenTenant},
    pool::{Class, Turn},
};
use std::{
    fs,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};
use tenantry_index::VectorIndex;
use tenantry_types::{Error, ErrorKind, Result};

/// Before what is in use is tried again.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a lock is tried; then the partition's turn comes later.
const TRIES: u32 = 500;

/// One partition being saved.
pub(super) struct Job<'a> {
    pub(super) inner: &'a Inner,
    pub(super) tenant: &'a OpenTenant,
    pub(super) hot: &'a Hot,
    pub(super) weight: u32,
    pub(super) whose: Whose,
    pub(super) stamp: Stamp,
    pub(super) until: Option<Instant>,
}

impl Job<'_> {
    /// True if the file was written.
    pub(super) fn run(&self) -> Result<bool> {
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
        let entropy = &*self.inner.tenancy.entropy;
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
        let entropy = &*self.inner.tenancy.entropy;
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
        let vector = self.whose.vector;
        let index = |partition: &Partition| partition.vectors.index(vector).map(&mut look);
        self.look(index)?.ok_or_else(busy)
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
