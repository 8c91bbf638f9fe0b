//! Counting, getting and querying records.

use super::{
    Embedded, Inner, Space, compute,
    disk::Body,
    fetch::{self, Given},
    hot::Hot,
    keys::{self, Decode as _},
    opened::Db,
    pace::Pace,
    partition::{Got, Hits, Partition},
    select::Ask,
    tenants::OpenTenant,
    write::{self, PARTITION},
};
use crate::{
    Answer, CollectionInfo, CollectionRef, Origin,
    pool::{Class, INLINE_BYTES},
    tenancy::{answer::Records, batch::dimension_error},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::{Level, Scope};
use tenantry_types::{
    CollectionNumber, CollectionStatistics, Error, ErrorKind, Explain, Filter, Found, GetRequest,
    Order, QueryRequest, Record, Result, Selector,
};

/// A get of at most this many records is answered from disk if the collection is not hot.
const COLD_RECORDS_MAX: usize = 1_000;
/// Work of so many nanoseconds is done where it is asked for.
const INLINE_NS: usize = 300_000;

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
            let of = scope.tenant();
            if bytes <= INLINE_BYTES {
                // What is read here and now has a turn, however soon the request was there; whoever
                // waits for one keeps no database from being opened anew.
                drop(db);
                let _turn = inner.pool.turn(of, tenant.weight(), Class::Request).await?;
                let db = inner.data(&tenant).await?;
                let info = inner.tenancy.present(&tenant, collection).await?;
                return get_cold(&db, &tenant, &info, &request);
            }
            let read = move || get_cold(&db, &tenant, &info, &request);
            return inner.pool.compute(of, bytes, read).await;
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
                let (waited, hot) = (Some(waited), Some(was_hot));
                let explain = Explain { searches, allowed, cpu, waited, hot };
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
            let mut turn = pool.turn_blocking(id, weight, Class::Request)?;
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

pub(super) fn ordinal_in(tenant: &OpenTenant, key: &[u8]) -> Result<u64> {
    keys::Body::decode(tenant.prefix(), key)
        .map(|place| place.ordinal)
        .ok_or_else(|| Error::corrupt("a key of a record cannot be read"))
}

pub(super) fn open_body(tenant: &OpenTenant, key: &[u8], sealed: &[u8]) -> Result<Body> {
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
