//! Writing and deleting records.

use super::{
    Embedded, Inner, catalog, complete, compute,
    db::{Db, Space, WriteSet},
    disk::{self, Body, DiskStatistics, Head, Statistics, Touched},
    done,
    hot::Hot,
    keys::{self, Tail},
    number,
    pace::Pace,
    partition::Partition,
    read::memory_estimate,
    select::Selection,
    tenants::{Commit, OpenTenant},
};
use crate::{
    CollectionInfo, CollectionRef, VectorInfo,
    pool::{Class, Pool},
};
use parking_lot::RwLockReadGuard;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use tenantry_auth::{CanWrite, Scope, Write};
use tenantry_index::CompiledFilter;
use tenantry_types::{
    CollectionNumber, Error, ErrorKind, Existing, Filter, Limits, Metadata, Missing, RecordWrite,
    Resource, Result, Selector, VectorName, WriteMode, WriteOutcome,
};

/// The only partition of a collection so far.
pub(super) const PARTITION: u32 = 0;
/// The number of the unnamed vector.
pub(super) const VECTOR: u16 = 0;

impl Embedded {
    pub(crate) async fn write<L: CanWrite>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        mode: WriteMode,
        records: Vec<RecordWrite>,
        attributes: BTreeMap<String, String>,
    ) -> Result<WriteOutcome> {
        let (inner, scope, collection) =
            (Arc::clone(&self.inner), scope.to_write(), collection.clone());
        complete(async move { inner.write(scope, collection, mode, records, attributes).await })
            .await
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
        complete(async move { inner.delete(scope, collection, select, limit).await }).await
    }
}

/// A batch that was checked and sealed, ready to be committed.
struct Prepared {
    set: WriteSet,
    head: Head,
    outcome: WriteOutcome,
    applied: Vec<Applied>,
    /// The collection's row changed (its dimension is known now).
    row_changed: bool,
    /// What the collection takes in memory after the batch, at least.
    bytes: u64,
}

/// What a hot partition must learn after the commit.
struct Applied {
    ordinal: u64,
    body: Body,
    /// With the numbers of their names.
    vectors: Vec<(u16, Vec<f32>)>,
}

/// Records, and bytes of their texts and vectors, that are applied in memory where they were
/// written; more are applied on a thread that may block.
const INLINE_CHANGES: usize = 128;
const INLINE_CHANGE_BYTES: usize = 512 << 10;

impl Applied {
    fn bytes(&self) -> usize {
        self.body.document.as_ref().map_or(0, |text| text.len())
            + self.vectors.iter().map(|(_, vector)| size_of_val(vector.as_slice())).sum::<usize>()
    }
}

impl Inner {
    async fn write(
        self: &Arc<Self>,
        scope: Scope<Write>,
        collection: CollectionRef,
        mode: WriteMode,
        records: Vec<RecordWrite>,
        attributes: BTreeMap<String, String>,
    ) -> Result<WriteOutcome> {
        let tenant = self.collection_tenant(&scope, &collection)?;
        let _writing = self.writing(&scope, &tenant).await?;
        let info = self.present(&tenant, &collection)?;
        let number = info.number;
        let prepared = {
            let (inner, tenant) = (Arc::clone(self), Arc::clone(&tenant));
            let bytes = records.iter().map(weight).sum();
            compute(bytes, move || {
                Batch::new(&inner, &tenant, &info, scope.restriction().filter.as_ref(), mode)?
                    .prepare(records, attributes, scope.actor())
            })
            .await?
        };
        if prepared.outcome.version == 0 {
            return Ok(prepared.outcome);
        }
        self.disk.commit(prepared.set).await?;
        tenant.set_head(prepared.head);
        if prepared.row_changed {
            tenant.catalog_changed();
        }
        if prepared.outcome.updated > 0 {
            self.forget_codes(&tenant, number).await?;
        }
        // Each vector name has room for every record, so one record can ask for a lot of memory.
        if prepared.bytes > self.hot.budget() as u64 {
            self.hot.forget(tenant.id(), number);
        }
        let applied = prepared.applied;
        let large = applied.len() > INLINE_CHANGES
            || applied.iter().map(Applied::bytes).sum::<usize>() > INLINE_CHANGE_BYTES;
        self.hot
            .change(&tenant, number, large, move |partition| {
                for one in applied {
                    partition.put(one.ordinal, one.body, &one.vectors);
                }
            })
            .await;
        Ok(prepared.outcome)
    }

    async fn delete(
        self: &Arc<Self>,
        scope: Scope<Write>,
        collection: CollectionRef,
        select: Selector,
        limit: Option<usize>,
    ) -> Result<usize> {
        let tenant = self.collection_tenant(&scope, &collection)?;
        let _writing = self.writing(&scope, &tenant).await?;
        let info = self.present(&tenant, &collection)?;
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
                let mut found = Vec::new();
                let db = self.db()?;
                for id in select.ids.iter().flatten() {
                    if let Some(ordinal) = ordinal_of(&db, &tenant, info.number, id.as_str())? {
                        found.push((ordinal, id.as_str().to_owned()));
                    }
                }
                found.sort_unstable();
                found.dedup();
                found
            }
        };
        doomed.truncate(limit.unwrap_or(usize::MAX));
        if doomed.is_empty() {
            return Ok(0);
        }
        let commit = self.deletion(&tenant, &info, &doomed, scope.actor())?;
        self.commit(&tenant, commit).await?;
        self.forget_codes(&tenant, info.number).await?;
        let count = doomed.len();
        self.hot
            .change(&tenant, info.number, count > INLINE_CHANGES, move |partition| {
                for (_, id) in &doomed {
                    partition.remove(id);
                }
            })
            .await;
        Ok(count)
    }

    fn deletion<'a>(
        &'a self,
        tenant: &'a OpenTenant,
        info: &CollectionInfo,
        doomed: &[(u64, String)],
        actor: &str,
    ) -> Result<Commit<'a>> {
        let mut commit = self.begin(tenant)?;
        let (prefix, collection, partition) = (tenant.prefix(), info.number.0, PARTITION);
        let fields = info.fields();
        for (ordinal, id) in doomed {
            let ordinal = *ordinal;
            let id = Tail(id.as_bytes());
            commit.remove(Space::Data, keys::Id { collection, partition, id }.encode(prefix));
            commit
                .remove(Space::Data, keys::Body { collection, partition, ordinal }.encode(prefix));
            for (vector, ..) in &fields {
                let key = keys::Vector { collection, partition, vector: *vector, ordinal };
                commit.remove(Space::Data, key.encode(prefix));
            }
        }
        let mut statistics = statistics(&*self.db()?, tenant, info)?;
        statistics.records = statistics.records.saturating_sub(doomed.len() as u64);
        commit.put_statistics(keys::Statistics { collection, partition }, statistics);
        let ordinals = doomed.iter().map(|(ordinal, _)| *ordinal).collect();
        commit.touch(Touched::Deleted { collection, partition, ordinals });
        commit.audit(done(actor, "records.delete", info.name.as_str(), doomed.len() as u64));
        Ok(commit)
    }
}

/// Ordinals and ids of the selected rows, in insertion order.
fn selected(
    hot: &Hot,
    pool: &Pool,
    select: &Selector,
    bound: Option<&Filter>,
) -> Result<Vec<(u64, String)>> {
    let partition = hot.read();
    let (tenant, weight) = hot.tenant();
    let mut turn = pool.turn_blocking(tenant, weight, Class::Request)?;
    let mut pace = Pace::blocking(&mut turn);
    let row = |slot: u32| Some((partition.ordinal(slot)?, partition.row(slot)?.id.clone()));
    Ok(match partition.select(select, bound, &mut pace)? {
        Selection::All => partition.all_slots().filter_map(row).collect(),
        Selection::Slots(slots) => slots.into_iter().filter_map(row).collect(),
        Selection::Bitmap(slots) => slots.into_iter().filter_map(row).collect(),
    })
}

/// A batch in the making. The tenant's writer lock is held.
struct Batch<'a> {
    tenant: &'a OpenTenant,
    db: Arc<Db>,
    hot: Option<Hot>,
    info: CollectionInfo,
    bound: Option<CompiledFilter>,
    mode: WriteMode,
    commit: Commit<'a>,
    statistics: Statistics,
    outcome: WriteOutcome,
    applied: Vec<Applied>,
    /// Ids that the batch has written, so that none is inserted twice.
    written: HashSet<String>,
    row_changed: bool,
}

impl<'a> Batch<'a> {
    fn new(
        inner: &'a Inner,
        tenant: &'a OpenTenant,
        info: &CollectionInfo,
        bound: Option<&Filter>,
        mode: WriteMode,
    ) -> Result<Self> {
        let db = inner.db()?;
        Ok(Self {
            statistics: statistics(&db, tenant, info)?,
            tenant,
            hot: inner.hot.get(tenant, info.number),
            info: info.clone(),
            bound: bound.map(CompiledFilter::compile).transpose()?,
            mode,
            commit: inner.begin(tenant)?,
            outcome: WriteOutcome::default(),
            applied: Vec::new(),
            written: HashSet::new(),
            row_changed: false,
            db,
        })
    }

    fn prepare(
        mut self,
        records: Vec<RecordWrite>,
        attributes: BTreeMap<String, String>,
        actor: &str,
    ) -> Result<Prepared> {
        for record in records {
            self.record(record)?;
        }
        let changed = self.outcome.inserted + self.outcome.updated;
        if changed == 0 {
            let (outcome, head) = (self.outcome, self.tenant.head());
            return Ok(Prepared {
                set: WriteSet::new(self.tenant.generation()),
                head,
                outcome,
                applied: Vec::new(),
                row_changed: false,
                bytes: 0,
            });
        }
        let limit = self.tenant.info().limits.records_per_collection;
        if self.outcome.inserted > 0 && self.statistics.records > limit {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("a collection of this tenant may have {limit} records"),
            ));
        }
        let (collection, partition) = (self.info.number.0, PARTITION);
        self.note(attributes, actor);
        if self.row_changed {
            catalog::put_collection(&mut self.commit, &self.info);
        }
        self.commit.put_statistics(keys::Statistics { collection, partition }, self.statistics);
        let ordinals = self.applied.iter().map(|a| a.ordinal).collect();
        self.commit.touch(Touched::Written { collection, partition, ordinals });
        let action = match self.mode {
            WriteMode::Add(_) => "records.add",
            WriteMode::Upsert => "records.upsert",
            WriteMode::Update(_) => "records.update",
        };
        self.commit.audit(done(actor, action, self.info.name.as_str(), changed as u64));
        self.outcome.version = self.commit.sequence();
        let bytes = memory_estimate(self.statistics.records, &self.info);
        let (set, head) = self.commit.finish();
        Ok(Prepared {
            set,
            head,
            outcome: self.outcome,
            applied: self.applied,
            row_changed: self.row_changed,
            bytes,
        })
    }

    /// Adds attributes to the collection in the same commit, unless the key is bound to a filter
    /// or there would be too many.
    fn note(&mut self, attributes: BTreeMap<String, String>, actor: &str) {
        let is_known = |name: &String, info: &CollectionInfo| info.attributes.contains_key(name);
        if self.bound.is_some() || attributes.keys().all(|name| is_known(name, &self.info)) {
            return;
        }
        let mut noted = self.info.clone();
        for (name, value) in attributes {
            noted.attributes.entry(name).or_insert(value);
        }
        if catalog::check_attributes(&noted).is_ok() {
            self.info = noted;
            self.row_changed = true;
            self.commit.audit(done(actor, "collection.change", self.info.name.as_str(), 1));
        }
    }

    fn record(&mut self, record: RecordWrite) -> Result<()> {
        self.check_vectors(&record)?;
        let id = record.id.as_str();
        if self.written.contains(id) {
            return Err(Error::invalid(format!("the id {id:?} occurs twice in this batch")));
        }
        match (self.find(id)?, self.mode) {
            (None, WriteMode::Update(Missing::Skip)) => self.outcome.skipped += 1,
            (None, WriteMode::Update(Missing::Fail)) => {
                return Err(Error::not_found(Resource::Record, id));
            }
            (None, WriteMode::Add(_) | WriteMode::Upsert) => {
                let ordinal = self.statistics.next_ordinal;
                self.statistics.next_ordinal += 1;
                self.statistics.records += 1;
                self.outcome.inserted += 1;
                self.put(ordinal, None, record)?;
            }
            (Some(_), WriteMode::Add(Existing::Skip)) => self.outcome.skipped += 1,
            (Some(_), WriteMode::Add(Existing::Fail)) => {
                return Err(Error::already_exists(Resource::Record, id));
            }
            (Some(ordinal), WriteMode::Upsert | WriteMode::Update(_)) => {
                let old = self.body(ordinal, id)?;
                if self.reaches(&old) {
                    self.outcome.updated += 1;
                    return self.put(ordinal, Some(old), record);
                }
                match self.mode {
                    WriteMode::Update(Missing::Skip) => self.outcome.skipped += 1,
                    WriteMode::Update(Missing::Fail) => {
                        return Err(Error::not_found(Resource::Record, id));
                    }
                    WriteMode::Upsert | WriteMode::Add(_) => {
                        return Err(Error::already_exists(Resource::Record, id));
                    }
                }
            }
        }
        Ok(())
    }

    /// The partition, if it is in memory and can be read without waiting: the disk says the same
    /// while the writer lock is held, and this may be a thread that others need.
    fn in_memory(&self) -> Option<RwLockReadGuard<'_, Partition>> {
        self.hot.as_ref()?.try_read()
    }

    fn find(&self, id: &str) -> Result<Option<u64>> {
        match self.in_memory() {
            Some(partition) => Ok(partition.find(id).map(|(_, ordinal)| ordinal)),
            None => ordinal_of(&self.db, self.tenant, self.info.number, id),
        }
    }

    fn body(&self, ordinal: u64, id: &str) -> Result<Body> {
        if let Some(partition) = self.in_memory() {
            let found = partition.find(id).and_then(|(slot, _)| partition.row(slot));
            return found.cloned().ok_or_else(|| Error::internal("a row is gone from memory"));
        }
        body(&self.db, self.tenant, self.info.number, ordinal, id)
    }

    /// True if the key's bound filter reaches the record.
    fn reaches(&self, body: &Body) -> bool {
        self.bound
            .as_ref()
            .is_none_or(|f| f.matches(body.metadata.as_deref(), body.document.as_deref()))
    }

    fn put(&mut self, ordinal: u64, old: Option<Body>, record: RecordWrite) -> Result<()> {
        let is_new = old.is_none();
        let body = merge(old, &record, self.commit.sequence());
        if !is_new {
            check_bounds(&body)?;
        }
        if !self.reaches(&body) {
            return Err(Error::denied(format!(
                "the record {:?} would be outside the filter that this key is bound to",
                record.id
            )));
        }
        let (prefix, collection, partition) = (self.tenant.prefix(), self.info.number.0, PARTITION);
        if is_new {
            let key = keys::Id { collection, partition, id: Tail(body.id.as_bytes()) };
            self.commit.put_clear(Space::Data, key.encode(prefix), ordinal.to_be_bytes().to_vec());
        }
        let key = keys::Body { collection, partition, ordinal }.encode(prefix);
        self.commit.put_bytes(Space::Data, key, &body.encode(), true);
        let vectors = self.put_vectors(ordinal, record.vector, record.vectors)?;
        self.written.insert(body.id.clone());
        self.applied.push(Applied { ordinal, body, vectors });
        Ok(())
    }

    /// Fails if a vector has a name that the collection does not have, or a wrong dimension.
    fn check_vectors(&self, record: &RecordWrite) -> Result<()> {
        let named = record.vectors.iter().map(|(name, vector)| (Some(name), vector));
        for (name, vector) in record.vector.iter().map(|vector| (None, vector)).chain(named) {
            let want = self.info.vector(name)?.spec.dimension;
            if let Some(want) = want.filter(|want| *want as usize != vector.len()) {
                return Err(dimension_error(name, want as usize, vector.len()));
            }
        }
        Ok(())
    }

    /// Puts a record's vectors; returns them with the numbers of their names.
    fn put_vectors(
        &mut self,
        ordinal: u64,
        unnamed: Option<Vec<f32>>,
        named: BTreeMap<VectorName, Vec<f32>>,
    ) -> Result<Vec<(u16, Vec<f32>)>> {
        let (collection, partition) = (self.info.number.0, PARTITION);
        let named = named.into_iter().map(|(name, vector)| (Some(name), vector));
        let all = unnamed.map(|vector| (None, vector)).into_iter().chain(named);
        all.map(|(name, components)| {
            let VectorInfo { number, spec } = self.info.vector(name.as_ref())?;
            if spec.dimension.is_none() {
                let dimension = u32::try_from(components.len())
                    .map_err(|_| Error::invalid("a vector has too many components"))?;
                self.info.set_dimension(name.as_ref(), dimension);
                self.row_changed = true;
            }
            let key = keys::Vector { collection, partition, vector: number, ordinal };
            let key = key.encode(self.tenant.prefix());
            self.commit.put_bytes(Space::Data, key, &disk::encode_vector(&components), false);
            Ok((number, components))
        })
        .collect()
    }
}

/// The record as it is after a write.
fn merge(old: Option<Body>, record: &RecordWrite, version: u64) -> Body {
    let old = old.unwrap_or_else(|| Body {
        id: record.id.as_str().to_owned(),
        document: None,
        uri: None,
        metadata: None,
        version,
        expires_at: None,
    });
    let mut metadata: Metadata = old.metadata.map(Arc::unwrap_or_clone).unwrap_or_default();
    for (key, value) in &record.metadata {
        match value {
            Some(value) => metadata.insert(key.clone(), value.clone()),
            None => metadata.remove(key),
        };
    }
    Body {
        id: old.id,
        document: record.document.as_deref().map(Into::into).or(old.document),
        uri: record.uri.clone().or(old.uri),
        metadata: (!metadata.is_empty()).then(|| Arc::new(metadata)),
        version,
        expires_at: old.expires_at,
    }
}

/// What merging may not pass: each write is within the bounds, all of them together need not be.
fn check_bounds(body: &Body) -> Result<()> {
    let Some(metadata) = &body.metadata else { return Ok(()) };
    let (keys, keys_max) = (metadata.len(), Limits::METADATA_KEYS_MAX);
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.bytes()).sum();
    let bytes_max = Limits::METADATA_BYTES_MAX;
    if keys <= keys_max && bytes <= bytes_max {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::TooLarge,
        format!(
            "the metadata of record {:?} would have {keys} keys and {bytes} bytes, at most \
             {keys_max} and {bytes_max} are allowed",
            body.id
        ),
    ))
}

/// About the bytes that a record brings.
fn weight(record: &RecordWrite) -> usize {
    let vectors = record.vector.iter().chain(record.vectors.values());
    64 + vectors.map(|vector| size_of_val(vector.as_slice())).sum::<usize>()
        + record.document.as_ref().map_or(0, String::len)
}

pub(super) fn dimension_error(name: Option<&VectorName>, want: usize, got: usize) -> Error {
    Error::invalid(match name {
        None => format!("Collection expecting embedding with dimension of {want}, got {got}"),
        Some(name) => format!("vectors named {name:?} have a dimension of {want}, got {got}"),
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
    let row: Option<DiskStatistics> = tenant.read(db, Space::Data, &key.encode(tenant.prefix()))?;
    match row {
        Some(row) => Ok(row.into_statistics()),
        None if catalog::load_collection(db, tenant, number)?.is_none() => {
            Err(catalog::missing_collection(collection))
        }
        None => Err(Error::corrupt(format!(
            "the counts of collection {} of tenant {} are gone",
            number.0,
            tenant.id()
        ))),
    }
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
