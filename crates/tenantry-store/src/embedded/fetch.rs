//! Vectors that are rounded in memory are read from disk when they are asked for.
//!
//! That may block, so it happens after the search, without its turn and without the partition's
//! lock; what was read is then opened in turns. What was written meanwhile shows: a record's
//! version is the commit that wrote it last, so a record of the same version has the same vectors.
//! Otherwise the request is answered again.

use super::{
    Inner, Space, compute,
    disk::{self, Body},
    hot::Hot,
    keys,
    opened::Db,
    tenants::OpenTenant,
    write::PARTITION,
};
use crate::{CollectionInfo, CollectionRef, pool::Class, tenancy::answer::Later};
use fjall::Slice;
use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Level, Scope};
use tenantry_types::{Error, Include, Record, Result, VectorName, VectorSpec};
use tokio::sync::MutexGuard;

/// Bytes that are read before they are opened in a turn.
const BYTES_A_TURN: usize = 256 << 10;
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
        let permit = tenant.heavy_permit().await?;
        let (db, pool) = (self.data(tenant).await?, self.pool.clone());
        let (tenant, info) = (Arc::clone(tenant), Arc::clone(info));
        let read = move || {
            let _permit = permit;
            let mut all = Vec::with_capacity(asked.len());
            let mut left = asked.iter();
            while all.len() < asked.len() {
                let (mut piece, mut bytes) = (Vec::new(), 0);
                for (ordinal, version) in left.by_ref() {
                    let sealed = read(&db, &tenant, &info, include, *ordinal)?;
                    bytes += sealed.bytes();
                    piece.push((sealed, *version));
                    if bytes >= BYTES_A_TURN {
                        break;
                    }
                }
                let weight = tenant.weight();
                let mut turn = pool.turn_blocking(tenant.id(), weight, Class::Request)?;
                for (sealed, version) in piece {
                    if sealed.version(&tenant)? != Some(version) {
                        return Ok(None);
                    }
                    all.push(sealed.open(&tenant)?);
                    turn.pause();
                }
            }
            Ok(Some(all))
        };
        let Some(given) = compute(usize::MAX, read).await? else { return Ok(false) };
        for ((record, _), given) in places.into_iter().zip(given) {
            (record.vector, record.vectors) = (given.vector, given.vectors);
        }
        Ok(true)
    }
}

/// A record's asked vectors, and the body that says their version, as they lie on disk.
struct Sealed {
    body: Option<(Vec<u8>, Slice)>,
    vectors: Vec<SealedVector>,
}

struct SealedVector {
    name: Option<VectorName>,
    dimension: Option<u32>,
    key: Vec<u8>,
    value: Slice,
}

fn read(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    include: Include,
    ordinal: u64,
) -> Result<Sealed> {
    let key = keys::Body { collection: info.number.0, partition: PARTITION, ordinal };
    let key = key.encode(tenant.prefix());
    let body = db.get(Space::Data, &key)?.map(|value| (key, value));
    Ok(Sealed { body, vectors: read_vectors(db, tenant, info, include, ordinal)? })
}

fn read_vectors(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    include: Include,
    ordinal: u64,
) -> Result<Vec<SealedVector>> {
    let (collection, partition) = (info.number.0, PARTITION);
    let mut vectors = Vec::new();
    for (vector, name, VectorSpec { dimension, .. }) in asked(info, include) {
        let key = keys::Vector { collection, partition, vector, ordinal }.encode(tenant.prefix());
        if let Some(value) = db.get(Space::Data, &key)? {
            vectors.push(SealedVector { name: name.cloned(), dimension, key, value });
        }
    }
    Ok(vectors)
}

impl Sealed {
    fn bytes(&self) -> usize {
        let vectors = self.vectors.iter().map(|one| one.value.len());
        self.body.as_ref().map_or(0, |(_, value)| value.len()) + vectors.sum::<usize>()
    }

    /// `None` if the record is gone.
    fn version(&self, tenant: &OpenTenant) -> Result<Option<u64>> {
        let Some((key, value)) = &self.body else { return Ok(None) };
        Ok(Some(Body::decode(&tenant.key().open(key, value)?)?.version))
    }

    fn open(&self, tenant: &OpenTenant) -> Result<Given> {
        open(tenant, &self.vectors)
    }
}

fn open(tenant: &OpenTenant, sealed: &[SealedVector]) -> Result<Given> {
    let mut given = Given::default();
    for SealedVector { name, dimension, key, value } in sealed {
        let vector = disk::decode_vector(&tenant.key().open(key, value)?)?;
        check_dimension(*dimension, &vector)?;
        match name {
            None => given.vector = Some(vector),
            Some(name) => drop(given.vectors.insert(name.clone(), vector)),
        }
    }
    Ok(given)
}

/// The vectors of a collection's records that were asked for.
fn asked(
    info: &CollectionInfo,
    include: Include,
) -> impl Iterator<Item = (u16, Option<&VectorName>, VectorSpec)> {
    info.fields().into_iter().filter(move |(_, name, _)| is_asked(*name, include))
}

/// True if vectors of this name are asked for.
pub(super) fn is_asked(name: Option<&VectorName>, include: Include) -> bool {
    if name.is_some() { include.vectors } else { include.vector }
}

/// Bytes of a record's asked vectors, if it has them all.
pub(super) fn asked_bytes(info: &CollectionInfo, include: Include) -> usize {
    let components = asked(info, include).map(|(.., spec)| spec.dimension.unwrap_or(0) as usize);
    components.sum::<usize>() * size_of::<f32>()
}

/// The asked vectors of a record, from disk.
pub(super) fn vectors_of(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    include: Include,
    ordinal: u64,
) -> Result<Given> {
    open(tenant, &read_vectors(db, tenant, info, include, ordinal)?)
}

/// Fails if a stored vector has not the dimension that its collection says.
pub(super) fn check_dimension(want: Option<u32>, stored: &[f32]) -> Result<()> {
    if want.is_none_or(|want| want as usize == stored.len()) {
        return Ok(());
    }
    Err(Error::corrupt("a stored vector has another dimension than its collection says"))
}
