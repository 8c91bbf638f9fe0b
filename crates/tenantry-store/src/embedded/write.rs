//! Writing and deleting records.

mod rows;

use super::{
    Embedded, Inner, Space, catalog,
    commit::Commit,
    complete, compute,
    disk::{Body, DiskCollection, DiskStatistics, Kept, Statistics},
    hot::Hot,
    keys::{self, Tail},
    load::memory_estimate,
    number,
    opened::Db,
    pace::Pace,
    select::Selection,
    tenants::OpenTenant,
};
use crate::{
    CollectionInfo, CollectionRef,
    pool::{Class, Pool},
    tenancy::{
        Backend as _,
        batch::{self, Batch, Offered, weight},
        writers::{batch_bytes, selector_bytes},
    },
};
use rows::{Applied, Rows};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tenantry_auth::{Author, CanWrite, Scope, Write};
use tenantry_types::{
    CollectionNumber, Error, ErrorKind, Filter, RecordId, Result, Selector, WriteMode, WriteOutcome,
};

pub(super) use catalog::PARTITION;
/// The number of the unnamed vector.
pub(super) const VECTOR: u16 = 0;

impl Embedded {
    /// Takes the batch when the tenant is where it was looked for and its writer lock is held. Whoever
    /// calls this does not go away.
    pub(crate) async fn write(
        &self,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        mode: WriteMode,
        batch: &mut Offered,
    ) -> Result<WriteOutcome> {
        self.inner.write(scope, collection, mode, batch).await
    }

    pub(crate) async fn delete<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        select: &Selector,
        limit: Option<usize>,
    ) -> Result<usize> {
        let (inner, scope, collection) =
            (Arc::clone(&self.inner), scope.to_write(), collection.clone());
        let select = select.clone();
        complete(async move {
            let tenant = scope.tenant();
            let deleting = inner.delete(scope, collection, select, limit);
            inner.pool.beside(tenant, Box::pin(deleting)).await
        })
        .await
    }
}

/// Records, and their bytes, that are applied in memory where they were written; more are applied
/// on a thread that may block.
const INLINE_CHANGES: usize = 128;
const INLINE_CHANGE_BYTES: usize = 512 << 10;

impl Inner {
    async fn write(
        self: &Arc<Self>,
        scope: &Scope<Write>,
        collection: &CollectionRef,
        mode: WriteMode,
        batch: &mut Offered,
    ) -> Result<WriteOutcome> {
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let bytes = batch.as_ref().map_or(0, |(records, _)| batch_bytes(records));
        let (_writing, view) = self.tenancy.writing(scope, &tenant, bytes).await?;
        let begun = Instant::now();
        let most = self.tenancy.allowance(Some(&view), &tenant).await?;
        let db = view.into_files()?;
        let Some((records, attributes)) = batch.take() else {
            return Err(Error::internal("a batch was written twice"));
        };
        let info = self.tenancy.present(&tenant, collection).await?;
        let number = info.number;
        let prepared = {
            let (inner, tenant, db) = (Arc::clone(self), Arc::clone(&tenant), Arc::clone(&db));
            let (scope, of) = (scope.clone(), scope.tenant());
            // A bound filter may read stored texts, which are larger than what is written.
            let bytes = match &scope.restriction().filter {
                Some(bound) if bound.needs_text() => usize::MAX,
                _ => records.iter().map(weight).sum(),
            };
            let prepare = move || {
                let (hot, collection) = (inner.hot.get(&tenant, number), number);
                let counts = (statistics(&db, &tenant, &info)?, most);
                let rows = Rows { tenant: &tenant, db, hot, collection, applied: Vec::new() };
                let (commit, bound) =
                    (inner.tenancy.begin(&tenant)?, scope.restriction().filter.as_ref());
                let batch = Batch::new(&tenant, commit, &info, counts, bound, mode, rows)?;
                let prepared = batch.prepare(records, attributes, scope.author())?;
                // The rows have the tenant, which does not leave.
                Ok(prepared.map(|rows| rows.applied))
            };
            self.pool.compute(of, bytes, prepare).await?
        };
        if prepared.outcome.version == 0 {
            return Ok(prepared.outcome);
        }
        // A deletion waits only so long for a tenant that lives apart.
        tenant.check_alive()?;
        self.tenancy.stands_still(scope, (&tenant, None), begun).await?;
        self.submit(db, prepared.set).await?;
        let unapplied = self.hot.unapplied(&tenant, number);
        tenant.set_head(prepared.head);
        if prepared.row_changed {
            tenant.catalog_changed();
        }
        if prepared.outcome.updated > 0 {
            self.forget_codes(&tenant, number).await?;
        }
        // Each vector name has room for every record, so one record can ask for a lot of memory.
        if memory_estimate(prepared.records, &prepared.info) > self.hot.budget() as u64 {
            self.hot.forget(tenant.id(), number);
        }
        let applied = prepared.place;
        let bytes = applied.iter().map(Applied::bytes).sum();
        let large = applied.len() > INLINE_CHANGES || bytes > INLINE_CHANGE_BYTES;
        self.hot
            .change(&tenant, number, (large, bytes), move |partition| {
                for one in applied {
                    partition.put(one.ordinal, one.body, &one.vectors);
                }
            })
            .await;
        unapplied.done();
        Ok(prepared.outcome)
    }

    async fn delete(
        self: &Arc<Self>,
        scope: Scope<Write>,
        collection: CollectionRef,
        select: Selector,
        limit: Option<usize>,
    ) -> Result<usize> {
        let tenant = self.tenancy.collection_tenant(&scope, &collection).await?;
        // Not kept over the waiting for memory: while somebody has a view, the database cannot be
        // reopened.
        let bytes = selector_bytes(&select);
        let (_writing, _) = self.tenancy.writing(&scope, &tenant, bytes).await?;
        let begun = Instant::now();
        let info = self.tenancy.present(&tenant, &collection).await?;
        let bound = scope.restriction().filter.as_ref();
        let by_ids = select.ids.is_some() && select.filter.is_none() && bound.is_none();
        let hot = if by_ids {
            self.hot.get(&tenant, info.number)
        } else {
            Some(self.load_locked(&tenant, &collection).await?)
        };
        let mut doomed = match hot {
            Some(hot) => {
                let bound = bound.cloned();
                let pool = self.pool.clone();
                let all = move || selected(&hot, &pool, &select, bound.as_ref());
                compute(usize::MAX, all).await?
            }
            None => {
                let (db, tenant) = (self.data(&tenant).await?, Arc::clone(&tenant));
                let (number, most) = (info.number, limit.unwrap_or(usize::MAX));
                // Bodies may be large, whatever their ids are.
                let look = move || doomed_cold(&db, &tenant, number, &select, most);
                self.pool.compute(scope.tenant(), usize::MAX, look).await?
            }
        };
        doomed.truncate(limit.unwrap_or(usize::MAX));
        if doomed.is_empty() {
            return Ok(0);
        }
        self.tenancy.stands_still(&scope, (&tenant, None), begun).await?;
        let db = self.data(&tenant).await?;
        let commit = self.deletion(&tenant, &db, &info, &doomed, scope.author())?;
        self.tenancy.commit(&tenant, db.into(), commit).await?;
        let unapplied = self.hot.unapplied(&tenant, info.number);
        self.forget_codes(&tenant, info.number).await?;
        let count = doomed.len();
        let bytes = doomed.iter().map(|one| size_of::<Doomed>() + one.id.len()).sum();
        self.hot
            .change(&tenant, info.number, (count > INLINE_CHANGES, bytes), move |partition| {
                for one in &doomed {
                    partition.remove(&one.id);
                }
            })
            .await;
        unapplied.done();
        Ok(count)
    }

    fn deletion<'a>(
        &'a self,
        tenant: &'a OpenTenant,
        db: &Db,
        info: &CollectionInfo,
        doomed: &[Doomed],
        by: Author<'_>,
    ) -> Result<Commit<'a>> {
        let mut commit = self.tenancy.begin(tenant)?;
        let (prefix, collection, partition) = (tenant.prefix(), info.number.0, PARTITION);
        let (fields, mut gone) = (info.fields(), Kept::default());
        for one in doomed {
            let (ordinal, id) = (one.ordinal, Tail(one.id.as_bytes()));
            gone.add(one.bytes);
            commit.remove(Space::Data, keys::Id { collection, partition, id }.encode(prefix));
            commit
                .remove(Space::Data, keys::Body { collection, partition, ordinal }.encode(prefix));
            for (vector, ..) in &fields {
                let key = keys::Vector { collection, partition, vector: *vector, ordinal };
                commit.remove(Space::Data, key.encode(prefix));
            }
        }
        let gone = (doomed.iter().map(|one| one.ordinal).collect(), gone);
        batch::note_deleted(&mut commit, info, statistics(db, tenant, info)?, gone, by);
        Ok(commit)
    }
}

/// A record that is to be deleted.
struct Doomed {
    ordinal: u64,
    id: String,
    /// What it takes, if it says so.
    bytes: Option<u64>,
}

/// The selected rows, in insertion order.
fn selected(
    hot: &Hot,
    pool: &Pool,
    select: &Selector,
    bound: Option<&Filter>,
) -> Result<Vec<Doomed>> {
    let partition = hot.read();
    let (tenant, weight) = hot.tenant();
    let mut turn = pool.turn_blocking(tenant, weight, Class::Request)?;
    let mut pace = Pace::blocking(&mut turn);
    let row = |slot: u32| {
        let (ordinal, body) = (partition.ordinal(slot)?, partition.row(slot)?);
        Some(Doomed { ordinal, id: body.id.clone(), bytes: body.logical_bytes() })
    };
    Ok(match partition.select(select, bound, &mut pace)? {
        Selection::All => partition.all_slots().filter_map(row).collect(),
        Selection::Slots(slots) => slots.into_iter().filter_map(row).collect(),
        Selection::Bitmap(slots) => slots.into_iter().filter_map(row).collect(),
    })
}

/// The counts of a collection's partition. They are made with the collection; to go on without
/// them would give ordinals again that are in use.
pub(super) fn statistics(
    db: &Db,
    tenant: &OpenTenant,
    collection: &CollectionInfo,
) -> Result<Statistics> {
    let number = collection.number;
    let key = keys::Statistics { collection: number.0, partition: PARTITION };
    let row: Option<DiskStatistics> = row(db, tenant, &key.encode(tenant.prefix()))?;
    match row {
        Some(row) => Ok(row.into_statistics()),
        None if collection_row(db, tenant, number)?.is_none() => {
            Err(catalog::missing_collection(collection))
        }
        None => Err(Error::corrupt(format!(
            "the counts of collection {} of tenant {} are gone",
            number.0,
            tenant.id()
        ))),
    }
}

/// A row of a tenant's data.
fn row<T: DeserializeOwned>(db: &Db, tenant: &OpenTenant, key: &[u8]) -> Result<Option<T>> {
    let sealed = db.get(Space::Data, key)?;
    sealed.map(|sealed| tenant.open_row(key, &sealed)).transpose()
}

/// The collection as it is in this view.
pub(super) fn collection_row(
    db: &Db,
    tenant: &OpenTenant,
    number: CollectionNumber,
) -> Result<Option<CollectionInfo>> {
    let key = keys::Collection { collection: number.0 }.encode(tenant.prefix());
    let found: Option<DiskCollection> = row(db, tenant, &key)?;
    found.map(|row| row.into_info(number)).transpose()
}

/// The ordinal of an id, from disk.
pub(super) fn ordinal_of(
    db: &Db,
    tenant: &OpenTenant,
    collection: CollectionNumber,
    id: &str,
) -> Result<Option<u64>> {
    let key = keys::Id { collection: collection.0, partition: PARTITION, id: Tail(id.as_bytes()) };
    db.get(Space::Data, &key.encode(tenant.prefix()))?.map(|value| number(&value)).transpose()
}

/// The body of an ordinal, from disk. It must say the id that led to it: ids in keys are not
/// sealed, bodies are.
pub(super) fn body(
    db: &Db,
    tenant: &OpenTenant,
    collection: CollectionNumber,
    ordinal: u64,
    id: &str,
) -> Result<Body> {
    let key = keys::Body { collection: collection.0, partition: PARTITION, ordinal };
    let key = key.encode(tenant.prefix());
    let sealed = db
        .get(Space::Data, &key)?
        .ok_or_else(|| Error::corrupt("an id leads to a record that is not there"))?;
    let body = Body::decode(&tenant.key().open(&key, &sealed)?)?;
    if body.id != id {
        return Err(Error::corrupt("an id leads to another record"));
    }
    Ok(body)
}

/// What of a selector's ids is there, in a collection that is not in memory: of that only its body
/// knows what it takes.
fn doomed_cold(
    db: &Db,
    tenant: &OpenTenant,
    collection: CollectionNumber,
    select: &Selector,
    most: usize,
) -> Result<Vec<Doomed>> {
    let mut found = BTreeMap::new();
    for id in select.ids.iter().flatten().map(RecordId::as_str) {
        if let Some(ordinal) = ordinal_of(db, tenant, collection, id)? {
            found.insert(ordinal, id);
        }
    }
    let of_one = |(ordinal, id): (u64, &str)| {
        let bytes = match body(db, tenant, collection, ordinal, id) {
            Ok(body) => body.logical_bytes(),
            // One that is damaged can be deleted; one that cannot be read now may be whole.
            Err(error) if error.kind() == ErrorKind::Corrupt => None,
            Err(error) => return Err(error),
        };
        Ok(Doomed { ordinal, id: id.to_owned(), bytes })
    };
    found.into_iter().take(most).map(of_one).collect()
}
