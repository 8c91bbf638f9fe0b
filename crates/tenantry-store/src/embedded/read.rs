//! Counting, getting and querying records.

use super::{
    Embedded, Inner, Space,
    ahead::ahead,
    complete, compute,
    disk::{self, Body},
    fetch::{self, Given},
    hot::{Hot, Reservation},
    keys::{self, Decode as _},
    opened::Db,
    pace::Pace,
    partition::{Got, Hits, Partition, PartitionConfig},
    select::Ask,
    tenants::OpenTenant,
    write::{self, PARTITION},
};
use crate::{
    Answer, CollectionInfo, CollectionRef, Origin,
    pool::Class,
    tenancy::{answer::Records, batch::dimension_error},
};
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use tenantry_auth::{Level, Read, Scope};
use tenantry_index::{IndexConfig, VectorIndex};
use tenantry_types::{
    CollectionNumber, CollectionStatistics, Error, ErrorKind, Explain, Filter, Found, GetRequest,
    Order, QueryRequest, Record, Result, Selector, VectorSpec, VectorStorage,
};

/// A get of at most this many records is answered from disk if the collection is not hot.
const COLD_RECORDS_MAX: usize = 1_000;
/// Work of so many nanoseconds is done where it is asked for.
const INLINE_NS: usize = 300_000;
/// A regular expression reads a text of so many bytes in some ten milliseconds at worst.
const LONG_TEXT: usize = 64 << 10;
/// A record's bytes in memory without its vector, at least: to refuse what cannot fit.
const ROW_BYTES_MIN: u64 = 256;
/// The same with a short text and a few keys of metadata: to make room before it is known.
const ROW_BYTES: u64 = 1_280;

impl Embedded {
    pub(crate) async fn count<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
    ) -> Result<Answer<usize>> {
        let inner = &self.inner;
        let tenant = inner.tenancy.collection_tenant(scope, collection).await?;
        let db = inner.data(&tenant).await?;
        let info = inner.tenancy.present(&tenant, collection).await?;
        let number = info.number;
        let origin = Origin { tenant: tenant.id(), collection: number };
        let bound = bound(scope);
        if select.ids.is_none() && select.filter.is_none() && bound.is_none() {
            let records = write::statistics(&db, &tenant, &info)?.records;
            let value = usize::try_from(records).unwrap_or(usize::MAX);
            return Ok(Answer::new(origin, value));
        }
        let (select, bound) = (Arc::new(select.clone()), Arc::new(bound));
        let hot = inner.hot(scope.to_read(), &tenant, collection).await?;
        let cost = {
            let (select, bound) = (Arc::clone(&select), Arc::clone(&bound));
            move |partition: &Partition| {
                partition.estimate(Ask::rows(&select, bound.as_ref().as_ref(), 0))
            }
        };
        let done = inner.on_partition(&tenant, &hot, cost, move |partition, pace| {
            let selection = partition.select(&select, bound.as_ref().as_ref(), pace)?;
            Ok(partition.count(&selection))
        });
        Ok(done.await?.answer)
    }

    pub(crate) async fn get<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        let inner = &self.inner;
        let tenant = inner.tenancy.collection_tenant(scope, collection).await?;
        // Taken before the collection is looked up: what was there then is there in here.
        let db = inner.data(&tenant).await?;
        let info = inner.tenancy.present(&tenant, collection).await?;
        let bound = bound(scope);
        let request = request.clone();
        if bound.is_none()
            && inner.hot.get(&tenant, info.number).is_none()
            && let Some(records) = cheap_from_disk(&request)
        {
            let vectors = fetch::asked_bytes(&info, request.include);
            let bytes = if records <= INLINE_RECORDS { records * vectors } else { usize::MAX };
            return compute(bytes, move || get_cold(&db, &tenant, &info, &request)).await;
        }
        drop(db);
        let (request, bound) = (Arc::new(request), Arc::new(bound));
        let mut attempts = 0;
        loop {
            let (hot, _writing) = inner.attempt(scope, &tenant, collection, attempts).await?;
            let Answer { origin, value, .. } =
                inner.get_once(&tenant, &hot, &request, &bound).await?;
            let Got { mut records, later } = value;
            if inner.fetch(&tenant, &info, request.include, records.iter_mut(), &later).await? {
                return Ok(Answer::new(origin, records));
            }
            attempts += 1;
        }
    }

    pub(crate) async fn query<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        let inner = &self.inner;
        let tenant = inner.tenancy.collection_tenant(scope, collection).await?;
        let info = inner.tenancy.present(&tenant, collection).await?;
        let vector = info.vector(request.using.as_ref())?;
        let bound = bound(scope);
        let was_hot = inner.hot.get(&tenant, collection.info.number).is_some();
        if !was_hot
            && bound.is_none()
            && let Some(answer) = inner.query_saved(&tenant, collection, request).await?
        {
            return Ok(answer);
        }
        // Which neighbours a graph misses depends on all that is in it, hidden records included.
        let exact = request.exact || bound.is_some();
        let request = QueryRequest { exact, ..request.clone() };
        for asked in &request.vectors {
            if let Some(want) = vector.spec.dimension.filter(|want| *want as usize != asked.len()) {
                return Err(dimension_error(request.using.as_ref(), want as usize, asked.len()));
            }
        }
        let (request, bound) = (Arc::new(request), Arc::new(bound));
        let mut attempts = 0;
        loop {
            let (hot, _writing) = inner.attempt(scope, &tenant, collection, attempts).await?;
            let done = inner.query_once(&tenant, &hot, vector.number, &request, &bound).await?;
            let Done { answer: Answer { origin, value, .. }, cpu, waited } = done;
            let Hits { mut hits, searches, allowed, later } = value;
            let records = hits.iter_mut().flatten().map(|hit| &mut hit.record);
            if inner.fetch(&tenant, &info, request.include, records, &later).await? {
                let explain = Explain { searches, allowed, cpu, waited, hot: was_hot };
                return Ok(Answer::new(origin, Found { hits, explain }));
            }
            attempts += 1;
        }
    }

    pub(crate) async fn collection_statistics<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
    ) -> Result<Answer<CollectionStatistics>> {
        let inner = &self.inner;
        let tenant = inner.tenancy.collection_tenant(scope, collection).await?;
        let db = inner.data(&tenant).await?;
        let info = inner.tenancy.present(&tenant, collection).await?;
        let origin = Origin { tenant: tenant.id(), collection: info.number };
        let records = write::statistics(&db, &tenant, &info)?.records;
        let memory = match inner.hot.get(&tenant, info.number) {
            None => None,
            Some(hot) => {
                let permit = tenant.heavy_permit().await?;
                let read = move || {
                    let _permit = permit;
                    Ok(Some(hot.read().statistics()))
                };
                compute(usize::MAX, read).await?
            }
        };
        Ok(Answer::new(origin, CollectionStatistics { records, memory }))
    }
}

/// The filter that the scope's key is bound to.
fn bound<L: Level>(scope: &Scope<L>) -> Option<Filter> {
    scope.restriction().filter.clone()
}

/// What work on a partition gave, and what it took.
struct Done<T> {
    answer: Answer<T>,
    cpu: Duration,
    waited: Duration,
}

impl Inner {
    async fn get_once(
        &self,
        tenant: &OpenTenant,
        hot: &Hot,
        request: &Arc<GetRequest>,
        bound: &Arc<Option<Filter>>,
    ) -> Result<Answer<Got>> {
        let cost = {
            let (request, bound) = (Arc::clone(request), Arc::clone(bound));
            move |partition: &Partition| {
                let answers = request.page.limit.unwrap_or(usize::MAX);
                let sorted = request.order != Order::Insertion;
                let ask = Ask::rows(&request.select, bound.as_ref().as_ref(), answers);
                partition.estimate(Ask { sorted, ..ask })
            }
        };
        let (request, bound) = (Arc::clone(request), Arc::clone(bound));
        let done = self.on_partition(tenant, hot, cost, move |partition, pace| {
            partition.get(&request, bound.as_ref().as_ref(), pace)
        });
        Ok(done.await?.answer)
    }

    async fn query_once(
        &self,
        tenant: &OpenTenant,
        hot: &Hot,
        number: u16,
        request: &Arc<QueryRequest>,
        bound: &Arc<Option<Filter>>,
    ) -> Result<Done<Hits>> {
        let cost = {
            let (request, bound) = (Arc::clone(request), Arc::clone(bound));
            move |partition: &Partition| {
                let (select, bound) = (&request.select, bound.as_ref().as_ref());
                let (vectors, exact) = (request.vectors.len(), request.exact);
                let answers = request.k.saturating_mul(vectors);
                let sorted = false;
                partition.estimate(Ask { select, bound, number, vectors, exact, answers, sorted })
            }
        };
        let (request, bound) = (Arc::clone(request), Arc::clone(bound));
        let done = self.on_partition(tenant, hot, cost, move |partition, pace| {
            let found = partition.query(&request, number, bound.as_ref().as_ref(), pace)?;
            Ok((found, partition.is_sampled()))
        });
        let Done { answer: Answer { origin, value: (value, is_sampled), .. }, cpu, waited } =
            done.await?;
        self.hot.maintain(hot, is_sampled);
        Ok(Done { answer: Answer::new(origin, value), cpu, waited })
    }

    /// Runs work on a partition in a turn of its tenant's; says whose partition it was. Small work
    /// is done here. Large work, and work that must wait for a change, goes to a thread that may
    /// block, at most a few at a time for one tenant; it holds its permit to its end even if the
    /// caller is gone.
    async fn on_partition<T: Send + 'static>(
        &self,
        tenant: &OpenTenant,
        hot: &Hot,
        cost: impl Fn(&Partition) -> Option<usize> + Send + 'static,
        work: impl Fn(&Partition, &mut Pace<'_>) -> Result<T> + Send + 'static,
    ) -> Result<Done<T>> {
        let begun = Instant::now();
        let (id, weight) = hot.tenant();
        let small = |partition: &Partition| cost(partition).is_some_and(|cost| cost <= INLINE_NS);
        if hot.try_read().is_some_and(|partition| small(&partition)) {
            let mut turn = self.pool.turn(id, weight, Class::Request).await?;
            // Whoever holds a place waits for no lock.
            if let Some(partition) = hot.try_read() {
                let waited = begun.elapsed() + turn.waited();
                let mut pace = Pace::inline(&mut turn);
                match done(&partition, &mut pace, waited, &work) {
                    Err(error)
                        if error.kind() == ErrorKind::LimitExceeded && pace.has_overrun() => {}
                    outcome => return outcome,
                }
            }
        }
        let permit = tenant.heavy_permit().await?;
        let (pool, set, hot) = (self.pool.clone(), Arc::clone(&self.hot), Arc::clone(hot));
        compute(usize::MAX, move || {
            let _permit = permit;
            let partition = hot.read();
            let before = partition.metadata_bytes();
            // Texts are read if nobody knows the cost. Where one regular expression on one text may
            // take long, a place is left to others.
            let is_long = cost(&partition).is_none() && partition.longest_text() > LONG_TEXT;
            let class = if is_long { Class::Background } else { Class::Request };
            let mut turn = pool.turn_blocking(id, weight, class)?;
            let done = done(&partition, &mut Pace::blocking(&mut turn), begun.elapsed(), &work);
            if partition.metadata_bytes() != before {
                set.resize(&hot, partition.bytes());
            }
            done
        })
        .await
    }
}

fn done<T>(
    partition: &Partition,
    pace: &mut Pace<'_>,
    waited: Duration,
    work: &impl Fn(&Partition, &mut Pace<'_>) -> Result<T>,
) -> Result<Done<T>> {
    let value = work(partition, pace)?;
    let answer = Answer::new(partition.origin(), value);
    Ok(Done { answer, cpu: pace.cpu(), waited })
}

/// Records that a get from disk reads where it is asked for; more are read on a thread that may
/// block.
const INLINE_RECORDS: usize = 32;

/// How many records the get would read from disk, if it need not read them all.
fn cheap_from_disk(request: &GetRequest) -> Option<usize> {
    let records = match &request.select.ids {
        Some(ids) => ids.len(),
        None => request.page.limit?.saturating_add(request.page.offset),
    };
    let simple = request.select.filter.is_none() && request.order == Order::Insertion;
    (simple && records <= COLD_RECORDS_MAX).then_some(records)
}

impl Inner {
    /// The collection's partition in memory, loaded if it is not there.
    pub(super) async fn hot(
        self: &Arc<Self>,
        _scope: Scope<Read>,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Hot> {
        if let Some(hot) = self.hot.get(tenant, collection.info.number) {
            return Ok(hot);
        }
        let writing = Arc::clone(&tenant.writer).lock_owned().await;
        // To its end, even if the caller goes away: whoever asks and leaves, again and again, must
        // not have several loads under way.
        let (inner, tenant, collection) =
            (Arc::clone(self), Arc::clone(tenant), collection.clone());
        complete(async move {
            let _writing = writing;
            inner.load_locked(&tenant, &collection).await
        })
        .await
    }

    /// [`Inner::hot`] for whoever holds the tenant's writer lock: no write can come between
    /// reading the disk and being found in memory.
    pub(super) async fn load_locked(
        self: &Arc<Self>,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Hot> {
        if let Some(hot) = self.hot.get(tenant, collection.info.number) {
            return Ok(hot);
        }
        tenant.check_alive()?;
        let info = self.tenancy.present(tenant, collection).await?;
        let records = write::statistics(&*self.data(tenant).await?, tenant, &info)?.records;
        let budget = self.hot.budget() as u64;
        let least = memory_estimate(records, &info);
        if least > budget {
            return Err(too_large(least, budget));
        }
        let about = records.saturating_mul(vectors_bytes(&info) + ROW_BYTES).min(budget);
        let bytes = usize::try_from(about).unwrap_or(usize::MAX);
        let mut room = self.hot.reserve(tenant, bytes).await?;
        // Not before the wait: while somebody has it, the database cannot be reopened. The writer
        // lock is held, so it says the same.
        let db = self.data(tenant).await?;
        let info = self.tenancy.present(tenant, collection).await?;
        let (partition, room, is_saved) = {
            let (inner, tenant) = (Arc::clone(self), Arc::clone(tenant));
            let index = IndexConfig { seed: index_seed(&tenant, info.number), ..self.index };
            compute(bytes.max(room.leaving_bytes()), move || {
                room.make_room();
                let mut partition = load(&db, &tenant, &info, index, &mut room)?;
                let is_saved = inner.restore_saved(&db, &tenant, &info, &mut partition);
                // In this order, so that memory is given back before the room for it.
                Ok((partition, room, is_saved))
            })
            .await?
        };
        let hot = self.hot.keep(tenant, partition, room);
        if is_saved {
            hot.marks.loaded_current();
        }
        Ok(hot)
    }
}

/// The bytes that a collection takes in memory at least.
pub(super) fn memory_estimate(records: u64, info: &CollectionInfo) -> u64 {
    records.saturating_mul(vectors_bytes(info) + ROW_BYTES_MIN)
}

/// Bytes of a record's vectors, if it has all of them.
fn vectors_bytes(info: &CollectionInfo) -> u64 {
    info.fields().iter().map(|(.., spec)| vector_bytes(spec)).sum()
}

/// What is random about an index is the collection's own, so that nothing elsewhere can change
/// it.
pub(super) fn index_seed(tenant: &OpenTenant, collection: CollectionNumber) -> u64 {
    tenant.id().get() << 32 | u64::from(collection.0)
}

/// Answers a get from disk.
fn get_cold(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    request: &GetRequest,
) -> Result<Answer<Vec<Record>>> {
    let origin = Origin { tenant: tenant.id(), collection: info.number };
    let number = info.number.0;
    let (limit, offset) = (request.page.limit.unwrap_or(usize::MAX), request.page.offset);
    let mut answer = Records::new(request.include);
    let mut take = |ordinal: u64, body: &Body| -> Result<()> {
        answer.push(body)?;
        let Given { vector, vectors } =
            fetch::vectors_of(db, tenant, info, request.include, ordinal)?;
        let named = vectors.into_iter().map(|(name, vector)| (Some(name), vector));
        for (name, vector) in vector.map(|vector| (None, vector)).into_iter().chain(named) {
            answer.count(size_of_val(vector.as_slice()))?;
            answer.set_vector(name.as_ref(), vector);
        }
        Ok(())
    };
    if let Some(ids) = &request.select.ids {
        let mut found = Vec::new();
        for id in ids {
            let ordinal = write::ordinal_of(db, tenant, info.number, id.as_str())?;
            found.extend(ordinal.map(|ordinal| (ordinal, id.as_str())));
        }
        found.sort_unstable();
        found.dedup();
        for (ordinal, id) in found.into_iter().skip(offset).take(limit) {
            take(ordinal, &write::body(db, tenant, info.number, ordinal, id)?)?;
        }
    } else {
        let all = keys::bodies_of(tenant.prefix(), number, PARTITION);
        for item in db.scan(Space::Data, &all, None).skip(offset).take(limit) {
            let (key, sealed) = item?;
            take(ordinal_in(tenant, &key)?, &open_body(tenant, &key, &sealed)?)?;
        }
    }
    Ok(Answer::new(origin, answer.records))
}

fn too_large(bytes: u64, budget: u64) -> Error {
    let message = format!(
        "this collection needs about {} MiB of memory to be searched, the server's budget is {} MiB",
        bytes >> 20,
        budget >> 20
    );
    Error::new(ErrorKind::Unavailable, message)
}

/// Records of a partition whose vectors are worth a thread that reads them ahead.
const READ_AHEAD_MIN: u64 = 512;

/// A vector as it is stored.
struct StoredVector {
    number: u16,
    ordinal: u64,
    vector: Vec<f32>,
}

/// The vectors of a partition, opened, in the order of their keys: name by name.
fn vectors_of(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
) -> impl Iterator<Item = Result<StoredVector>> {
    let fields = info.fields().into_iter().map(|(number, _, spec)| (number, spec.dimension));
    fields.flat_map(move |(number, dimension)| {
        let all = keys::vectors_of(tenant.prefix(), info.number.0, PARTITION, number);
        db.scan(Space::Data, &all, None).map(move |item| {
            let (key, sealed) = item?;
            let place = keys::Vector::decode(tenant.prefix(), &key)
                .ok_or_else(|| Error::corrupt("a key of a vector cannot be read"))?;
            let vector = disk::decode_vector(&tenant.key().open(&key, &sealed)?)?;
            fetch::check_dimension(dimension, &vector)?;
            Ok(StoredVector { number, ordinal: place.ordinal, vector })
        })
    })
}

/// Reads a whole partition: bodies here, vectors meanwhile on another thread if they are many.
fn load(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    index: IndexConfig,
    room: &mut Reservation,
) -> Result<Partition> {
    if write::statistics(db, tenant, info)?.records < READ_AHEAD_MIN {
        return load_with(db, tenant, info, index, room, vectors_of(db, tenant, info));
    }
    thread::scope(|threads| {
        let widest = info.fields().iter().filter_map(|(.., spec)| spec.dimension).max();
        let bytes = widest.unwrap_or(0) as usize * size_of::<f32>();
        let vectors = ahead(threads, bytes, || vectors_of(db, tenant, info))?;
        load_with(db, tenant, info, index, room, vectors)
    })
}

/// Reads bodies, then vectors, both in the order of their keys. Gives up when the partition has
/// grown beyond the budget: texts may be far larger than was estimated.
fn load_with(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    index: IndexConfig,
    room: &mut Reservation,
    vectors: impl Iterator<Item = Result<StoredVector>>,
) -> Result<Partition> {
    let budget = room.budget();
    let origin = Origin { tenant: tenant.id(), collection: info.number };
    let mut partition =
        Partition::new(origin, info, PartitionConfig { index, metadata_bytes_max: budget / 4 });
    let records = write::statistics(db, tenant, info)?.records;
    partition.reserve(usize::try_from(records).unwrap_or(0));
    let all = keys::bodies_of(tenant.prefix(), info.number.0, PARTITION);
    for item in db.scan(Space::Data, &all, None) {
        let (key, sealed) = item?;
        let ordinal = ordinal_in(tenant, &key)?;
        partition.put(ordinal, open_body(tenant, &key, &sealed)?, &[]);
        let bytes = partition.bytes();
        if bytes > budget {
            return Err(too_large(bytes as u64, budget as u64));
        }
        room.cover(bytes);
    }
    for item in vectors {
        let StoredVector { number, ordinal, vector } = item?;
        let slot = partition
            .slot_of_ordinal(ordinal)
            .ok_or_else(|| Error::corrupt("a stored vector belongs to no record"))?;
        partition.set_vector(slot, number, &vector);
        let bytes = partition.bytes();
        if bytes > budget {
            return Err(too_large(bytes as u64, budget as u64));
        }
        room.cover(bytes);
    }
    Ok(partition)
}

/// Bytes that a vector takes in memory, with its codes.
fn vector_bytes(spec: &VectorSpec) -> u64 {
    let Some(dimension) = spec.dimension else { return 0 };
    let codes = VectorIndex::code_bytes(dimension as usize) as u64;
    let kept = match spec.storage {
        VectorStorage::Full => u64::from(dimension) * 4,
        VectorStorage::Half => codes + 4,
        VectorStorage::Int8 => 4,
    };
    codes + VectorIndex::TERM_BYTES as u64 + kept
}

fn ordinal_in(tenant: &OpenTenant, key: &[u8]) -> Result<u64> {
    keys::Body::decode(tenant.prefix(), key)
        .map(|place| place.ordinal)
        .ok_or_else(|| Error::corrupt("a key of a record cannot be read"))
}

fn open_body(tenant: &OpenTenant, key: &[u8], sealed: &[u8]) -> Result<Body> {
    Body::decode(&tenant.key().open(key, sealed)?)
}

/// The body of an ordinal that is known to be there.
pub(super) fn body_at(
    db: &Db,
    tenant: &OpenTenant,
    collection: CollectionNumber,
    ordinal: u64,
) -> Result<Body> {
    let key = keys::Body { collection: collection.0, partition: PARTITION, ordinal };
    let key = key.encode(tenant.prefix());
    let sealed = db.get(Space::Data, &key)?;
    open_body(tenant, &key, &sealed.ok_or_else(|| Error::corrupt("a record is not there"))?)
}
