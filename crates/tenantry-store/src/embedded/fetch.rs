//! Vectors that are rounded in memory are read from disk when they are asked for.
//!
//! That may block, so it happens after the search, without its turn and without the partition's
//! lock. What was written meanwhile shows: a record's version is the commit that wrote it last,
//! so a record of the same version has the same vectors. Otherwise the request is answered again.

use super::{
    Inner, compute,
    db::{Db, Space},
    disk::{self, Body},
    hot::Hot,
    keys,
    partition::Later,
    tenants::OpenTenant,
    write::PARTITION,
};
use crate::{CollectionInfo, CollectionRef};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Level, Scope};
use tenantry_types::{Error, Include, Record, Result, VectorName};
use tokio::sync::MutexGuard;

/// Records that are read where they are asked for; more are read on a thread that may block.
const INLINE_RECORDS: usize = 32;
/// Answers that may meet a write before one is made without writes.
const ATTEMPTS_MAX: u32 = 3;

/// The vectors of a record that were asked for, as they were given.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) vector: Option<Vec<f32>>,
    pub(super) vectors: BTreeMap<VectorName, Vec<f32>>,
}

impl Inner {
    /// The collection's partition for the next attempt to answer. The last one is made under the
    /// tenant's writer lock, so that nothing changes until it has been answered.
    pub(super) async fn attempt<'t, L: Level>(
        self: &Arc<Self>,
        scope: &Scope<L>,
        tenant: &'t Arc<OpenTenant>,
        collection: &CollectionRef,
        before: u32,
    ) -> Result<(Hot, Option<MutexGuard<'t, ()>>)> {
        if before < ATTEMPTS_MAX {
            return Ok((self.hot(scope.to_read(), tenant, collection).await?, None));
        }
        if before > ATTEMPTS_MAX {
            return Err(Error::internal("memory and disk disagree about the version of a record"));
        }
        let writing = tenant.writer.lock().await;
        Ok((self.load_locked(tenant, collection).await?, Some(writing)))
    }

    /// Gives the records of an answer the vectors that are to be read. False if one of them was
    /// changed since: the answer is then not to be used.
    pub(super) async fn fetch(
        &self,
        tenant: &Arc<OpenTenant>,
        info: &Arc<CollectionInfo>,
        include: Include,
        records: impl Iterator<Item = &mut Record>,
        later: &[Later],
    ) -> Result<bool> {
        if later.is_empty() {
            return Ok(true);
        }
        let mut wanted = later.iter().peekable();
        let mut places: Vec<(&mut Record, u64)> = Vec::with_capacity(later.len());
        for (at, record) in records.enumerate() {
            if let Some(one) = wanted.next_if(|one| one.at == at) {
                places.push((record, one.ordinal));
            }
        }
        let asked: Vec<(u64, u64)> =
            places.iter().map(|(record, ordinal)| (*ordinal, record.version)).collect();
        let large = asked.len() > INLINE_RECORDS;
        let permit = if large { Some(tenant.heavy_permit().await?) } else { None };
        let (db, tenant, info) = (self.db()?, Arc::clone(tenant), Arc::clone(info));
        let read = move || {
            let _permit = permit;
            let one = |(ordinal, version)| match version_of(&db, &tenant, &info, ordinal)? {
                Some(found) if found == version => {
                    vectors_of(&db, &tenant, &info, include, ordinal).map(Some)
                }
                _ => Ok(None),
            };
            asked.into_iter().map(one).collect::<Result<Option<Vec<Given>>>>()
        };
        let Some(given) = compute(if large { usize::MAX } else { 0 }, read).await? else {
            return Ok(false);
        };
        for ((record, _), given) in places.into_iter().zip(given) {
            (record.vector, record.vectors) = (given.vector, given.vectors);
        }
        Ok(true)
    }
}

/// The version of a record on disk; `None` if it is gone.
fn version_of(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    ordinal: u64,
) -> Result<Option<u64>> {
    let key = keys::Body { collection: info.number.0, partition: PARTITION, ordinal };
    let key = key.encode(tenant.prefix());
    let Some(sealed) = db.get(Space::Data, &key)? else { return Ok(None) };
    Ok(Some(Body::decode(&tenant.key().open(&key, &sealed)?)?.version))
}

/// The asked vectors of a record, from disk.
pub(super) fn vectors_of(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    include: Include,
    ordinal: u64,
) -> Result<Given> {
    let mut given = Given::default();
    let (collection, partition) = (info.number.0, PARTITION);
    for (vector, name, spec) in info.fields() {
        if !(if name.is_some() { include.vectors } else { include.vector }) {
            continue;
        }
        let key = keys::Vector { collection, partition, vector, ordinal }.encode(tenant.prefix());
        let Some(sealed) = db.get(Space::Data, &key)? else { continue };
        let one = disk::decode_vector(&tenant.key().open(&key, &sealed)?)?;
        check_dimension(spec.dimension, &one)?;
        match name {
            None => given.vector = Some(one),
            Some(name) => drop(given.vectors.insert(name.clone(), one)),
        }
    }
    Ok(given)
}

/// Fails if a stored vector has not the dimension that its collection says.
pub(super) fn check_dimension(want: Option<u32>, stored: &[f32]) -> Result<()> {
    if want.is_none_or(|want| want as usize == stored.len()) {
        return Ok(());
    }
    Err(Error::corrupt("a stored vector has another dimension than its collection says"))
}
