//! A batch of records on its way into a commit: checked, merged with what is there, sealed.
//!
//! What a write means is said here, for all backends. How records are found and where they go is
//! the backend's [`Place`].

use super::{
    catalog::{self, PARTITION},
    commit::Commit,
    disk::{Body, Head, Kept, Statistics, Touched, VectorsOf},
    done, keys,
    set::WriteSet,
    tenants::OpenTenant,
    usage::Work,
};
use crate::{CollectionInfo, VectorInfo, pool::thread_cpu};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tenantry_auth::Author;
use tenantry_index::CompiledFilter;
use tenantry_types::{
    Allowance, Error, ErrorKind, Existing, Filter, Limits, Metadata, Missing, RecordWrite,
    Resource, Result, Term, VectorName, WriteMode, WriteOutcome,
};

/// CPU time that a key's bound filter may take on one batch.
const BOUND_CPU_MAX: Duration = Duration::from_secs(1);

/// Records and attributes of a batch, until whoever writes them takes them.
pub(crate) type Offered = Option<(Vec<RecordWrite>, BTreeMap<String, String>)>;

/// The records of one collection, for whoever holds its tenant's writer lock.
pub(crate) trait Place {
    /// The ordinal of an id.
    fn find(&self, id: &str) -> Result<Option<u64>>;

    /// The body of an ordinal that was found for an id.
    fn body(&self, ordinal: u64, id: &str) -> Result<Body>;

    /// Puts a record. It is not found again: no id occurs twice in a batch.
    fn put(&mut self, commit: &mut Commit<'_>, put: Put) -> Result<()>;
}

/// A record as it is after a write.
pub(crate) struct Put {
    pub(crate) collection: u32,
    pub(crate) ordinal: u64,
    /// Nothing had this ordinal before.
    pub(crate) is_new: bool,
    pub(crate) body: Body,
    /// With the numbers of their names; those not given stay.
    pub(crate) vectors: Vec<(u16, Vec<f32>)>,
}

/// A batch that was checked and sealed, ready to be committed.
pub(crate) struct Prepared<P> {
    pub(crate) set: WriteSet,
    pub(crate) head: Head,
    /// Its version is 0 if nothing changes: then there is nothing to commit.
    pub(crate) outcome: WriteOutcome,
    /// What was put.
    pub(crate) place: P,
    /// The collection as it is after the batch.
    pub(crate) info: CollectionInfo,
    /// The collection's row changed (its dimension is known now).
    pub(crate) row_changed: bool,
    /// Records of the collection after the batch.
    pub(crate) records: u64,
}

impl<P> Prepared<P> {
    pub(crate) fn map<Q>(self, with: impl FnOnce(P) -> Q) -> Prepared<Q> {
        let Self { set, head, outcome, place, info, row_changed, records } = self;
        Prepared { set, head, outcome, place: with(place), info, row_changed, records }
    }
}

/// A batch in the making. The tenant's writer lock is held.
pub(crate) struct Batch<'a, P> {
    tenant: &'a OpenTenant,
    place: P,
    info: CollectionInfo,
    bound: Option<CompiledFilter>,
    /// CPU time of this thread, which makes all of the batch, when it began.
    begun: Duration,
    mode: WriteMode,
    commit: Commit<'a>,
    statistics: Statistics,
    /// What the tenant may have.
    most: Allowance,
    outcome: WriteOutcome,
    ordinals: Vec<u64>,
    /// Bytes of the records that are written.
    bytes_in: u64,
    /// Bytes of records as they are after the batch, and as they were.
    kept: u64,
    freed: u64,
    /// Ids that the batch has written, so that none is inserted twice.
    written: HashSet<String>,
    row_changed: bool,
}

impl<'a, P: Place> Batch<'a, P> {
    /// `info` and `statistics` are the collection's as they are stored.
    pub(crate) fn new(
        tenant: &'a OpenTenant,
        commit: Commit<'a>,
        info: &CollectionInfo,
        (mut statistics, most): (Statistics, Allowance),
        bound: Option<&Filter>,
        mode: WriteMode,
        place: P,
    ) -> Result<Self> {
        if statistics.kept.is_none() && commit.sizes_records() {
            statistics.kept = Some(Kept { bytes: 0, silent: statistics.records });
        }
        Ok(Self {
            tenant,
            place,
            info: info.clone(),
            bound: bound.map(CompiledFilter::compile).transpose()?,
            begun: thread_cpu(),
            mode,
            commit,
            statistics,
            most,
            outcome: WriteOutcome::default(),
            ordinals: Vec::new(),
            bytes_in: 0,
            kept: 0,
            freed: 0,
            written: HashSet::new(),
            row_changed: false,
        })
    }

    pub(crate) fn prepare(
        mut self,
        records: Vec<RecordWrite>,
        attributes: BTreeMap<String, String>,
        by: Author<'_>,
    ) -> Result<Prepared<P>> {
        for record in records {
            self.record(record)?;
        }
        let changed = self.outcome.inserted + self.outcome.updated;
        if changed == 0 {
            return Ok(Prepared {
                set: WriteSet::new(self.tenant.placement(), self.tenant.generation()),
                head: self.commit.head,
                outcome: self.outcome,
                place: self.place,
                info: self.info,
                row_changed: false,
                records: self.statistics.records,
            });
        }
        let limit = self.most.limits.records_per_collection;
        if self.outcome.inserted > 0 && self.statistics.records > limit {
            let message = format!("a collection of this tenant may have {limit} records");
            let error = Error::new(ErrorKind::LimitExceeded, message);
            return Err(error.with_limit(Term::RecordsPerCollection));
        }
        self.commit.count(&Work {
            written: changed as u64,
            bytes_in: self.bytes_in,
            made: self.outcome.inserted as u64,
            kept: self.kept,
            freed: self.freed,
            is_silent: self.statistics.bytes().is_none(),
            ..Work::default()
        });
        self.check_stock()?;
        let (collection, partition) = (self.info.number.0, PARTITION);
        self.note(attributes, by);
        if self.row_changed {
            catalog::put_collection(&mut self.commit, &self.info);
        }
        self.commit.put_statistics(keys::Statistics { collection, partition }, self.statistics);
        let ordinals = std::mem::take(&mut self.ordinals);
        self.commit.touch(Touched::Written { collection, partition, ordinals });
        let action = match self.mode {
            WriteMode::Add(_) => "records.add",
            WriteMode::Upsert => "records.upsert",
            WriteMode::Update(_) => "records.update",
        };
        self.commit.audit(done(by, action, self.info.name.as_str(), changed as u64));
        self.outcome.version = self.commit.sequence();
        let (set, head) = self.commit.finish();
        Ok(Prepared {
            set,
            head,
            outcome: self.outcome,
            place: self.place,
            info: self.info,
            row_changed: self.row_changed,
            records: self.statistics.records,
        })
    }

    /// Fails if the tenant would keep more than it may. Whoever keeps too much can always keep less.
    fn check_stock(&self) -> Result<()> {
        let quotas = self.most.quotas;
        if self.outcome.inserted > 0 {
            self.commit.check_records(quotas.records)?;
        }
        if self.kept > self.freed {
            self.commit.check_bytes(quotas.bytes)?;
        }
        Ok(())
    }

    /// Adds attributes to the collection in the same commit, unless the key is bound to a filter
    /// or there would be too many.
    fn note(&mut self, attributes: BTreeMap<String, String>, by: Author<'_>) {
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
            self.commit.audit(done(by, "collection.change", self.info.name.as_str(), 1));
        }
    }

    fn record(&mut self, record: RecordWrite) -> Result<()> {
        self.check_vectors(&record)?;
        let id = record.id.as_str();
        if self.written.contains(id) {
            return Err(Error::invalid(format!("the id {id:?} occurs twice in this batch")));
        }
        match (self.place.find(id)?, self.mode) {
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
                let old = self.place.body(ordinal, id)?;
                if self.reaches(&old)? {
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

    /// True if the key's bound filter reaches the record. The tenant's lock is held, so nobody gives
    /// a turn up here: there is a bound instead.
    fn reaches(&self, body: &Body) -> Result<bool> {
        let Some(bound) = &self.bound else { return Ok(true) };
        let mut pace = || {
            if thread_cpu().saturating_sub(self.begun) <= BOUND_CPU_MAX {
                return Ok(());
            }
            let message = format!(
                "the filter that this key is bound to took more than {BOUND_CPU_MAX:?} of CPU time \
                 on these records"
            );
            Err(Error::new(ErrorKind::LimitExceeded, message))
        };
        bound.matches_paced(body.metadata.as_deref(), body.document.as_deref(), &mut pace)
    }

    fn put(&mut self, ordinal: u64, old: Option<Body>, record: RecordWrite) -> Result<()> {
        let is_new = old.is_none();
        self.bytes_in += record.logical_bytes();
        let before = old.as_ref().map(|old| (old.logical_bytes(), old.vectors));
        let mut body = merge(old, &record, self.commit.sequence());
        if !is_new {
            check_bounds(&body)?;
        }
        if !self.reaches(&body)? {
            return Err(Error::denied(format!(
                "the record {:?} would be outside the filter that this key is bound to",
                record.id
            )));
        }
        let vectors = self.vectors(record.vector, record.vectors)?;
        self.size(&mut body, before, &vectors);
        self.written.insert(body.id.clone());
        self.ordinals.push(ordinal);
        let collection = self.info.number.0;
        self.place.put(&mut self.commit, Put { collection, ordinal, is_new, body, vectors })
    }

    /// Has a record say what it takes, and counts it, if records of the collection do. `before` is what
    /// the old one said.
    fn size(
        &mut self,
        body: &mut Body,
        before: Option<(Option<u64>, Option<VectorsOf>)>,
        given: &[(u16, Vec<f32>)],
    ) {
        let Some(kept) = &mut self.statistics.kept else { return };
        let (before, had) = match before {
            Some((bytes, vectors)) => (Some(bytes), vectors),
            None => (None, Some(VectorsOf::default())),
        };
        let every = || {
            let fields = self.info.fields().into_iter();
            let known = fields.filter(|(.., spec)| spec.dimension.is_some());
            known.fold(0, |all, (number, ..)| all | VectorsOf::bit(number))
        };
        body.vectors = VectorsOf::after(had, given, every);
        if let Some(bytes) = before {
            *kept = kept.without(Kept::of(bytes));
            self.freed += bytes.unwrap_or(0);
        }
        let bytes = body.logical_bytes();
        kept.add(bytes);
        self.kept += bytes.unwrap_or(0);
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

    /// A record's vectors with the numbers of their names. The first one of a name tells the
    /// dimension of all.
    fn vectors(
        &mut self,
        unnamed: Option<Vec<f32>>,
        named: BTreeMap<VectorName, Vec<f32>>,
    ) -> Result<Vec<(u16, Vec<f32>)>> {
        let named = named.into_iter().map(|(name, vector)| (Some(name), vector));
        let all = unnamed.map(|vector| (None, vector)).into_iter().chain(named);
        all.map(|(name, components)| {
            let VectorInfo { number, spec } = self.info.vector(name.as_ref())?;
            if spec.dimension.is_none() {
                let dimension = u32::try_from(components.len())
                    .map_err(|_| Error::invalid("a vector has too many components"))?;
                catalog::check_dimension(dimension, &self.most.limits)?;
                self.info.set_dimension(name.as_ref(), dimension);
                self.row_changed = true;
            }
            Ok((number, components))
        })
        .collect()
    }
}

/// Adds to a commit that these records of a collection are deleted, which took so much.
pub(crate) fn note_deleted(
    commit: &mut Commit<'_>,
    info: &CollectionInfo,
    mut statistics: Statistics,
    (ordinals, gone): (Vec<u64>, Kept),
    by: Author<'_>,
) {
    let (collection, partition, count) = (info.number.0, PARTITION, ordinals.len() as u64);
    statistics.records = statistics.records.saturating_sub(count);
    statistics.kept = match statistics.kept {
        Some(_) if statistics.records == 0 => Some(Kept::default()),
        // One that was damaged may be in the sum or not.
        kept => kept.filter(|kept| gone.silent <= kept.silent).map(|kept| kept.without(gone)),
    };
    let is_silent = statistics.bytes().is_none();
    commit.count(&Work { gone: count, freed: gone.bytes, is_silent, ..Work::default() });
    commit.put_statistics(keys::Statistics { collection, partition }, statistics);
    commit.touch(Touched::Deleted { collection, partition, ordinals });
    commit.audit(done(by, "records.delete", info.name.as_str(), count));
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
        vectors: None,
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
        vectors: None,
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

pub(crate) fn dimension_error(name: Option<&VectorName>, want: usize, got: usize) -> Error {
    Error::invalid(match name {
        None => format!("Collection expecting embedding with dimension of {want}, got {got}"),
        Some(name) => format!("vectors named {name:?} have a dimension of {want}, got {got}"),
    })
}

/// About the bytes that a record brings.
pub(crate) fn weight(record: &RecordWrite) -> usize {
    let vectors = record.vector.iter().chain(record.vectors.values());
    64 + vectors.map(|vector| size_of_val(vector.as_slice())).sum::<usize>()
        + record.document.as_ref().map_or(0, String::len)
}
