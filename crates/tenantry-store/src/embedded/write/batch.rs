//! A batch of records on its way into a commit: checked, merged with what is there, sealed.

use super::{PARTITION, body, dimension_error, ordinal_of, statistics};
use crate::{
    CollectionInfo, VectorInfo,
    embedded::{
        Inner, Space, WriteSet, catalog,
        db::Db,
        disk::{self, Body, Head, Statistics, Touched},
        done,
        hot::Hot,
        keys::{self, Tail},
        partition::Partition,
        read::memory_estimate,
        tenants::{Commit, OpenTenant},
    },
};
use parking_lot::RwLockReadGuard;
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use tenantry_index::CompiledFilter;
use tenantry_types::{
    Error, ErrorKind, Existing, Filter, Limits, Metadata, Missing, RecordWrite, Resource, Result,
    VectorName, WriteMode, WriteOutcome,
};

/// A batch that was checked and sealed, ready to be committed.
pub(super) struct Prepared {
    pub(super) set: WriteSet,
    pub(super) head: Head,
    pub(super) outcome: WriteOutcome,
    pub(super) applied: Vec<Applied>,
    /// The collection's row changed (its dimension is known now).
    pub(super) row_changed: bool,
    /// What the collection takes in memory after the batch, at least.
    pub(super) bytes: u64,
}

/// What a hot partition must learn after the commit.
pub(super) struct Applied {
    pub(super) ordinal: u64,
    pub(super) body: Body,
    /// With the numbers of their names.
    pub(super) vectors: Vec<(u16, Vec<f32>)>,
}

impl Applied {
    /// Bytes of text and vectors.
    pub(super) fn bytes(&self) -> usize {
        self.body.document.as_ref().map_or(0, |text| text.len())
            + self.vectors.iter().map(|(_, vector)| size_of_val(vector.as_slice())).sum::<usize>()
    }
}

/// A batch in the making. The tenant's writer lock is held.
pub(super) struct Batch<'a> {
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
    pub(super) fn new(
        inner: &'a Inner,
        tenant: &'a OpenTenant,
        db: Arc<Db>,
        info: &CollectionInfo,
        bound: Option<&Filter>,
        mode: WriteMode,
    ) -> Result<Self> {
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

    pub(super) fn prepare(
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
            let (outcome, head) = (self.outcome, self.commit.head);
            return Ok(Prepared {
                set: WriteSet::new(self.tenant.placement(), self.tenant.generation()),
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
