//! Searching a cold partition by its saved codes, while it is loaded.
//!
//! The answer is that of the partition in memory: the stamp ties the codes to the records of one
//! snapshot, and originals and bodies are read from that snapshot. Whatever does not fit, or
//! fails, is left to the partition that is loaded from the truth.

use super::{
    file::{Part, SavedFile},
    load::whose,
};
use crate::{
    Answer, CollectionInfo, CollectionRef, Origin,
    embedded::{
        Inner, compute, fetch,
        hot::Begun,
        load::{index_seed, memory_estimate},
        opened::Db,
        partition::Hits,
        read::body_at,
        tenants::OpenTenant,
        write::{self, VECTOR},
    },
    pool::{Class, Turn},
    tenancy::answer::Records,
};
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_index::{IndexConfig, SearchOptions, Segment, SegmentParts, Storage, VectorIndex};
use tenantry_types::{
    Error, ErrorKind, Explain, Found, Include, QueryRequest, Result, VectorStorage,
};

/// More neighbours would need more originals than reading all of them is worth.
const K_MAX: usize = 256;
/// Query vectors of one request.
const VECTORS_MAX: usize = 16;
/// Originals read one by one for one query vector.
const ORIGINALS_MAX: usize = 2_048;

impl Inner {
    /// Answers a query of everything in a collection that is not in memory; `None` if it must be
    /// loaded for that. Whoever asks may see all of it.
    pub(in crate::embedded) async fn query_saved(
        self: &Arc<Self>,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Option<Answer<Found>>> {
        let is_simple = request.select.ids.is_none()
            && request.select.filter.is_none()
            && request.using.is_none();
        let is_small = request.k <= K_MAX && request.vectors.len() <= VECTORS_MAX;
        if !self.saved.is_on() || !is_simple || !is_small {
            return Ok(None);
        }
        let begun = Instant::now();
        let permit = tenant.heavy_permit().await?;
        let waited = begun.elapsed();
        // Taken before the collection is looked up: what was there then is there in here. Not
        // before the wait: while somebody has it, the database cannot be reopened.
        let db = self.data(tenant).await?;
        let info = self.tenancy.present(tenant, collection).await?;
        let records = write::statistics(&db, tenant, &info)?.records;
        let dimension = info.dimension.map_or(0, |dimension| dimension as usize);
        let is_too_large = memory_estimate(records, &info) > self.hot.budget() as u64;
        let fits = request.vectors.iter().all(|vector| vector.len() == dimension);
        let is_full = info.storage == VectorStorage::Full
            && (info.vectors.is_empty() || !request.include.vectors);
        if records < self.saved.config.records_min as u64 || is_too_large || !fits || !is_full {
            return Ok(None);
        }
        // Codes, terms, and the links as they are stored, parsed and used.
        let codes = VectorIndex::code_bytes(dimension) + VectorIndex::TERM_BYTES;
        let bytes = records.saturating_mul(codes as u64 + 450);
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX).saturating_add(1);
        if mib > self.saved.memory_mib {
            return Ok(None);
        }
        // Nobody waits for the memory that others take: there is the load.
        let Ok(memory) = Arc::clone(&self.saved.memory).try_acquire_many_owned(mib) else {
            return Ok(None);
        };
        // Whoever waited may find it in memory.
        if self.hot.get(tenant, info.number).is_some() {
            return Ok(None);
        }
        let answer = {
            let (inner, tenant, request) = (Arc::clone(self), Arc::clone(tenant), request.clone());
            let seed = index_seed(&tenant, info.number);
            let config = IndexConfig { seed, storage: Storage::Full, ..self.index };
            compute(usize::MAX, move || {
                let _held = (permit, memory);
                let cold = Cold {
                    inner: &inner,
                    tenant: &tenant,
                    info: &info,
                    db: &db,
                    used: Cell::default(),
                    waited: Cell::new(waited),
                };
                cold.answer(&request, config)
            })
            .await?
        };
        if answer.is_some() {
            self.note_saved_use();
            self.warm(tenant, collection);
        }
        Ok(answer)
    }

    /// Loads a collection in the background, unless the tenant's writer or another load of its is
    /// at work, or it is given up: then the next query does. Whoever suspends or erases the tenant
    /// must not find a queue of loads before it.
    fn warm(self: &Arc<Self>, tenant: &Arc<OpenTenant>, collection: &CollectionRef) {
        let place = tenant.id();
        if !self.saved.warming.lock().insert(place) {
            return;
        }
        let (inner, tenant, collection) =
            (Arc::clone(self), Arc::clone(tenant), collection.clone());
        tokio::spawn(async move {
            let warming = Warming { inner: &inner, place };
            let begun = {
                let Ok(_writing) = tenant.writer.try_lock() else { return };
                inner.hot.begin_load(&tenant, collection.info.number)
            };
            let Begun::Load(load) = begun else { return };
            if let Err(why) = inner.load_beside(load, &tenant, &collection).await {
                // Whoever needs it in memory is told.
                tracing::debug!(%why, "load a collection that was searched on disk");
            }
            drop(warming);
        });
    }
}

/// Ends the entry of a partition that is being loaded, however that ends.
struct Warming<'a> {
    inner: &'a Inner,
    place: tenantry_auth::TenantId,
}

impl Drop for Warming<'_> {
    fn drop(&mut self) {
        self.inner.saved.warming.lock().remove(&self.place);
    }
}

/// A cold collection as it stands in one snapshot, on a thread that may block.
struct Cold<'a> {
    inner: &'a Inner,
    tenant: &'a OpenTenant,
    info: &'a CollectionInfo,
    db: &'a Db,
    /// CPU time used in turns.
    used: Cell<Duration>,
    /// Time waited for permits and turns.
    waited: Cell<Duration>,
}

impl Cold<'_> {
    fn answer(&self, request: &QueryRequest, config: IndexConfig) -> Result<Option<Answer<Found>>> {
        let whose = whose(self.tenant, self.info, VECTOR);
        let path = self.inner.saved.path(whose);
        let stamp = write::statistics(self.db, self.tenant, self.info)?.stamp;
        let file = SavedFile::open(&path, whose, self.tenant.key());
        let opened = file.and_then(|file| match file {
            // One of other records is left to whoever loads the collection.
            Some(file) if Some(file.stamp()) == stamp => self.open(&file, config),
            _ => Ok(None),
        });
        let (ordinals, segment) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(None),
            Err(why) if why.kind() == ErrorKind::Busy => return Err(why),
            Err(why) => {
                self.inner.saved.refuse(&path, &why);
                return Ok(None);
            }
        };
        match self.search(request, &segment, &ordinals) {
            Ok(Hits { hits, searches, allowed, later: _ }) => {
                let origin = Origin { tenant: self.tenant.id(), collection: self.info.number };
                let (cpu, waited, hot) = (self.used.get(), Some(self.waited.get()), Some(false));
                let explain = Explain { searches, allowed, cpu, waited, hot };
                Ok(Some(Answer::new(origin, Found { hits, explain })))
            }
            Err(why) if why.kind() == ErrorKind::LimitExceeded => Ok(None),
            // Whatever is wrong shows when the records are loaded.
            Err(why) if why.kind() == ErrorKind::Corrupt => {
                self.inner.saved.refuse(&path, &why);
                Ok(None)
            }
            Err(why) => Err(why),
        }
    }

    /// Opens the ordinals and the index; `None` if it was made for other settings.
    fn open(&self, file: &SavedFile, config: IndexConfig) -> Result<Option<(Vec<u64>, Segment)>> {
        let described = file.description;
        let dimension = described.dimension as usize;
        let fits = described.metric == self.info.metric
            && described.storage == Storage::Full
            && self.info.dimension == Some(described.dimension);
        if !fits {
            return Ok(None);
        }
        let key = self.tenant.key();
        let rows = usize::try_from(described.rows).unwrap_or(0);
        let in_turn = |work: &mut dyn FnMut() -> Result<()>| {
            let turn = self.turn()?;
            let done = work();
            self.end(turn);
            done
        };
        let ordinals = file.ordinals(key, in_turn)?;
        let mut parts = SegmentParts::new(described.metric, dimension, rows);
        file.read(key, Part::Codes, in_turn, |bytes| {
            parts.push_codes(bytes);
            Ok(())
        })?;
        file.read(key, Part::Terms, in_turn, |bytes| {
            parts.push_terms(bytes);
            Ok(())
        })?;
        let mut links = Vec::new();
        file.read(key, Part::Links, in_turn, |bytes| {
            links.extend_from_slice(bytes);
            Ok(())
        })?;
        let links = (!links.is_empty()).then_some(links.as_slice());
        Ok(Some((ordinals, Segment::open(parts, config, links)?)))
    }

    fn search(&self, request: &QueryRequest, segment: &Segment, ordinals: &[u64]) -> Result<Hits> {
        let mut found =
            Hits { hits: Vec::new(), searches: Vec::new(), allowed: None, later: Vec::new() };
        let mut answer = Records::new(request.include);
        let how = SearchOptions { exact: request.exact, ..SearchOptions::default() };
        let ordinal = |slot: u32| {
            let gone = || Error::corrupt("a saved index has fewer records than vectors");
            ordinals.get(slot as usize).copied().ok_or_else(gone)
        };
        for vector in &request.vectors {
            // The codes are searched in a turn. It ends when the first original is read: whoever
            // holds a place does not wait for the disk.
            let turn = RefCell::new(Some(self.turn()?));
            let end_turn = || {
                if let Some(turn) = turn.borrow_mut().take() {
                    self.end(turn);
                }
            };
            let read = Cell::new(0);
            let original = |slot: u32, buffer: &mut Vec<f32>| {
                end_turn();
                read.set(read.get() + 1);
                if read.get() > ORIGINALS_MAX {
                    return Err(Error::new(ErrorKind::LimitExceeded, "codes say too little"));
                }
                *buffer = self.vector(ordinal(slot)?)?;
                Ok(())
            };
            let mut pace = || {
                if let Some(turn) = turn.borrow_mut().as_mut() {
                    turn.pause();
                }
                Ok(())
            };
            let one = segment.search(vector, request.k, &how, &original, &mut pace)?;
            end_turn();
            for neighbour in &one.neighbours {
                let ordinal = ordinal(neighbour.slot)?;
                let body = body_at(self.db, self.tenant, self.info.number, ordinal)?;
                answer.push(&body)?;
                if request.include.vector {
                    let vector = self.vector(ordinal)?;
                    answer.count(size_of_val(vector.as_slice()))?;
                    answer.set_vector(None, vector);
                }
            }
            found.push(&mut answer, &one);
        }
        Ok(found)
    }

    fn vector(&self, ordinal: u64) -> Result<Vec<f32>> {
        let include = Include { vector: true, ..Include::default() };
        fetch::vectors_of(self.db, self.tenant, self.info, include, ordinal)?
            .vector
            .ok_or_else(|| Error::corrupt("a vector of a saved index is not there"))
    }

    fn turn(&self) -> Result<Turn> {
        let begun = Instant::now();
        let weight = self.tenant.weight();
        let turn = self.inner.pool.turn_blocking(self.tenant.id(), weight, Class::Request);
        self.waited.set(self.waited.get() + begun.elapsed());
        turn
    }

    fn end(&self, turn: Turn) {
        self.used.set(self.used.get() + turn.cpu());
    }
}
