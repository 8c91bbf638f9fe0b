//! Counting, getting and querying records.

use super::{
    Embedded, INLINE_BYTES, Inner, compute,
    db::{Db, Space},
    disk::{self, Body},
    hot::Hot,
    keys::{self, Decode as _},
    partition::{Partition, Records},
    tenants::OpenTenant,
    write::{self, PARTITION, VECTOR},
};
use crate::{Answer, CollectionInfo, CollectionRef, Origin};
use std::sync::Arc;
use tenantry_auth::{Level, Read, Scope};
use tenantry_index::CompiledFilter;
use tenantry_types::{
    Error, ErrorKind, Filter, GetRequest, Hit, Order, QueryRequest, Record, Result, Selector,
};

/// A get of at most this many records is answered from disk if the collection is not hot.
const COLD_RECORDS_MAX: usize = 1_000;
/// Estimate of a record's bytes in memory without its vector, to refuse what cannot fit.
const ROW_BYTES: u64 = 512;

impl Embedded {
    pub(crate) async fn count<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
    ) -> Result<Answer<usize>> {
        let inner = &self.inner;
        let tenant = inner.collection_tenant(scope, collection)?;
        let db = inner.db()?;
        let info = inner.present(&tenant, collection)?;
        let number = info.number;
        let origin = Origin { tenant: tenant.id(), collection: number };
        let bound = bound(scope);
        if select.ids.is_none() && select.filter.is_none() && bound.is_none() {
            let records = write::statistics(&db, &tenant, &info)?.records;
            let value = usize::try_from(records).unwrap_or(usize::MAX);
            return Ok(Answer { origin, value });
        }
        let select = select.clone();
        let hot = inner.hot(scope.to_read(), &tenant, collection).await?;
        let cost = Cost::of(64, select.filter.as_ref(), bound.as_ref());
        on_partition(&tenant, hot, cost, move |partition| {
            let selection = partition.select(&select, compile(bound)?.as_ref())?;
            Ok(partition.count(&selection))
        })
        .await
    }

    pub(crate) async fn get<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &GetRequest,
    ) -> Result<Answer<Vec<Record>>> {
        let inner = &self.inner;
        let tenant = inner.collection_tenant(scope, collection)?;
        // Taken before the collection is looked up: what was there then is there in here.
        let db = inner.db()?;
        let info = inner.present(&tenant, collection)?;
        let bound = bound(scope);
        let request = request.clone();
        if bound.is_none()
            && inner.hot.get(&tenant, info.number).is_none()
            && let Some(records) = cheap_from_disk(&request)
        {
            let bytes = if records <= INLINE_RECORDS { 0 } else { usize::MAX };
            return compute(bytes, move || get_cold(&db, &tenant, &info, &request)).await;
        }
        drop(db);
        let hot = inner.hot(scope.to_read(), &tenant, collection).await?;
        let cost = Cost::of(64, request.select.filter.as_ref(), bound.as_ref());
        on_partition(&tenant, hot, cost, move |partition| {
            partition.get(&request, compile(bound)?.as_ref())
        })
        .await
    }

    pub(crate) async fn query<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Vec<Vec<Hit>>>> {
        let inner = &self.inner;
        let tenant = inner.collection_tenant(scope, collection)?;
        inner.present(&tenant, collection)?;
        let bound = bound(scope);
        let hot = inner.hot(scope.to_read(), &tenant, collection).await?;
        let per_row = request.vectors.iter().map(Vec::len).sum::<usize>() + 64;
        let cost = Cost::of(per_row, request.select.filter.as_ref(), bound.as_ref());
        let request = request.clone();
        on_partition(&tenant, hot, cost, move |partition| {
            partition.query(&request, compile(bound)?.as_ref())
        })
        .await
    }
}

/// The filter that the scope's key is bound to.
fn bound<L: Level>(scope: &Scope<L>) -> Option<Filter> {
    scope.restriction().filter.clone()
}

fn compile(filter: Option<Filter>) -> Result<Option<CompiledFilter>> {
    filter.as_ref().map(CompiledFilter::compile).transpose()
}

/// What an operation costs.
#[derive(Clone, Copy)]
struct Cost {
    /// Bytes looked at for each row.
    per_row: usize,
    /// True if texts are searched: their length is not bounded by the number of rows.
    texts: bool,
}

impl Cost {
    fn of(per_row: usize, filter: Option<&Filter>, bound: Option<&Filter>) -> Self {
        let texts = filter.into_iter().chain(bound).any(Filter::needs_text);
        Self { per_row, texts }
    }
}

/// Runs work on a partition; says whose partition it was. Small work is done here and now. Large
/// work, and work that must wait for a change, goes to a thread that may block, at most a few at
/// a time for one tenant; it holds its permit to its end even if the caller is gone.
async fn on_partition<T: Send + 'static>(
    tenant: &OpenTenant,
    hot: Hot,
    cost: Cost,
    work: impl FnOnce(&Partition) -> Result<T> + Send + 'static,
) -> Result<Answer<T>> {
    if !cost.texts
        && let Some(partition) = hot.try_read()
        && partition.len().saturating_mul(cost.per_row) <= INLINE_BYTES
    {
        return Ok(Answer { origin: partition.origin(), value: work(&partition)? });
    }
    let permit = Arc::clone(&tenant.heavy)
        .acquire_owned()
        .await
        .map_err(|_| Error::internal("the permits of a tenant are closed"))?;
    compute(usize::MAX, move || {
        let _permit = permit;
        let partition = hot.read();
        Ok(Answer { origin: partition.origin(), value: work(&partition)? })
    })
    .await
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
    async fn hot(
        self: &Arc<Self>,
        _scope: Scope<Read>,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Hot> {
        if let Some(hot) = self.hot.get(tenant, collection.info.number) {
            return Ok(hot);
        }
        let _writing = tenant.writer.lock().await;
        self.load_locked(tenant, collection).await
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
        let info = self.present(tenant, collection)?;
        let db = self.db()?;
        let records = write::statistics(&db, tenant, &info)?.records;
        let per_record = u64::from(info.dimension.unwrap_or(0)) * 5 + ROW_BYTES;
        let budget = self.hot.budget() as u64;
        if records.saturating_mul(per_record) > budget {
            return Err(too_large(records.saturating_mul(per_record), budget));
        }
        let bytes = usize::try_from(records.saturating_mul(per_record)).unwrap_or(usize::MAX);
        let partition = {
            let (tenant, budget) = (Arc::clone(tenant), self.hot.budget());
            compute(bytes, move || load(&db, &tenant, &info, budget)).await?
        };
        Ok(self.hot.keep(tenant, partition))
    }
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
    let mut take = |ordinal: u64, body: &Body| {
        let vector =
            if request.include.vector { read_vector(db, tenant, number, ordinal)? } else { None };
        answer.push(body, vector.as_deref())
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
    Ok(Answer { origin, value: answer.records })
}

fn too_large(bytes: u64, budget: u64) -> Error {
    let message = format!(
        "this collection needs about {} MiB of memory to be searched, the server's budget is {} MiB",
        bytes >> 20,
        budget >> 20
    );
    Error::new(ErrorKind::Unavailable, message)
}

/// Reads a whole partition: bodies once, vectors once, both in the order of their keys. Gives up
/// when it has grown beyond the budget: texts may be far larger than was estimated.
fn load(db: &Db, tenant: &OpenTenant, info: &CollectionInfo, budget: usize) -> Result<Partition> {
    let origin = Origin { tenant: tenant.id(), collection: info.number };
    let mut partition = Partition::new(origin, info.metric);
    let records = write::statistics(db, tenant, info)?.records;
    partition.reserve(usize::try_from(records).unwrap_or(0), info.dimension);
    let all = keys::bodies_of(tenant.prefix(), info.number.0, PARTITION);
    for item in db.scan(Space::Data, &all, None) {
        let (key, sealed) = item?;
        let ordinal = ordinal_in(tenant, &key)?;
        partition.put(ordinal, open_body(tenant, &key, &sealed)?, None);
        if partition.row_bytes() > budget {
            return Err(too_large(partition.row_bytes() as u64, budget as u64));
        }
    }
    let all = keys::vectors_of(tenant.prefix(), info.number.0, PARTITION, VECTOR);
    for item in db.scan(Space::Data, &all, None) {
        let (key, sealed) = item?;
        let place = keys::Vector::decode(tenant.prefix(), &key)
            .ok_or_else(|| Error::corrupt("a key of a vector cannot be read"))?;
        let vector = disk::decode_vector(&tenant.key().open(&key, &sealed)?)?;
        if info.dimension.is_some_and(|want| want as usize != vector.len()) {
            return Err(Error::corrupt(
                "a stored vector has another dimension than its collection",
            ));
        }
        let slot = partition
            .slot_of_ordinal(place.ordinal)
            .ok_or_else(|| Error::corrupt("a stored vector belongs to no record"))?;
        partition.set_vector(slot, &vector);
    }
    Ok(partition)
}

fn ordinal_in(tenant: &OpenTenant, key: &[u8]) -> Result<u64> {
    keys::Body::decode(tenant.prefix(), key)
        .map(|place| place.ordinal)
        .ok_or_else(|| Error::corrupt("a key of a record cannot be read"))
}

fn open_body(tenant: &OpenTenant, key: &[u8], sealed: &[u8]) -> Result<Body> {
    Body::decode(&tenant.key().open(key, sealed)?)
}

fn read_vector(
    db: &Db,
    tenant: &OpenTenant,
    collection: u32,
    ordinal: u64,
) -> Result<Option<Vec<f32>>> {
    let key = keys::Vector { collection, partition: PARTITION, vector: VECTOR, ordinal };
    let key = key.encode(tenant.prefix());
    let Some(sealed) = db.get(Space::Data, &key)? else { return Ok(None) };
    disk::decode_vector(&tenant.key().open(&key, &sealed)?).map(Some)
}
