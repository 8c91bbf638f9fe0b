//! Loading partitions. The disk is read beside the tenant's writes; what they change meanwhile is
//! applied before others find the partition (`hot::loading`).

use super::{
    Inner, Space,
    ahead::ahead,
    complete, compute, disk, fetch,
    hot::{Begun, Hot, Kept, Load, Reservation},
    keys::{self, Decode as _},
    opened::Db,
    partition::{Partition, PartitionConfig},
    read::{open_body, ordinal_in},
    tenants::OpenTenant,
    write::{self, PARTITION},
};
use crate::{CollectionInfo, CollectionRef, Origin};
use std::{sync::Arc, thread};
use tenantry_auth::{Read, Scope};
use tenantry_index::{IndexConfig, VectorIndex};
use tenantry_types::{CollectionNumber, Error, ErrorKind, Result, VectorSpec, VectorStorage};

/// A record's bytes in memory without its vector, at least: to refuse what cannot fit.
const ROW_BYTES_MIN: u64 = 256;
/// The same with a short text and a few keys of metadata: to make room before it is known.
const ROW_BYTES: u64 = 1_280;

/// What was read, with its room, and whether there are files of these records with all that is worth
/// saving.
type Loaded = (Partition, Reservation, bool);

impl Inner {
    /// The collection's partition in memory, loaded if it is not there.
    pub(super) async fn hot(
        self: &Arc<Self>,
        _scope: Scope<Read>,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Hot> {
        loop {
            if let Some(hot) = self.hot.get(tenant, collection.info.number) {
                return Ok(hot);
            }
            let writing = Arc::clone(&tenant.writer).lock_owned().await;
            match self.hot.begin_load(tenant, collection.info.number) {
                Begun::Hot(hot) => return Ok(hot),
                Begun::Other(other) => {
                    drop(writing);
                    // Whoever asks and leaves, again and again, must not have several loads under way.
                    drop(other.lock().await);
                }
                Begun::Load(load) => {
                    drop(writing);
                    // To its end, even if the caller goes away.
                    let loading = Arc::clone(self).load(load, tenant.clone(), collection.clone());
                    return complete(loading).await;
                }
            }
        }
    }

    /// Loads beside writes; where they are too many, instead of them.
    pub(super) async fn load(
        self: Arc<Self>,
        load: Load,
        tenant: Arc<OpenTenant>,
        collection: CollectionRef,
    ) -> Result<Hot> {
        if let Some(hot) = self.load_beside(load, &tenant, &collection).await? {
            return Ok(hot);
        }
        let _writing = tenant.writer.lock().await;
        self.load_locked(&tenant, &collection).await
    }

    /// None if it was given up.
    pub(super) async fn load_beside(
        self: &Arc<Self>,
        load: Load,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Option<Hot>> {
        let begin = async {
            let room = self.room(tenant, collection).await?;
            let _writing = tenant.writer.lock().await;
            tenant.check_alive()?;
            load.begin();
            let db = self.data(tenant).await?;
            Ok::<_, Error>((db, self.tenancy.present(tenant, collection).await?, room))
        };
        let (db, info, room) = tokio::select! {
            biased;
            () = load.given_up() => return Ok(None),
            begun = begin => begun?,
        };
        let is_vain = load.is_vain();
        let read = self.read_all(tenant, (db, info, room), is_vain).await;
        if read.is_err() && load.is_vain()() {
            return Ok(None);
        }
        let (mut partition, mut room, is_saved) = read?;
        let mut is_behind = false;
        loop {
            match self.hot.keep_loaded(tenant, (partition, room), &load) {
                Kept::Hot(hot) => {
                    if is_saved && !is_behind {
                        hot.marks.loaded_current();
                    }
                    return Ok(Some(hot));
                }
                Kept::GivenUp(read) => {
                    return compute(usize::MAX, move || {
                        let (partition, room) = *read;
                        // In this order, so that memory is given back before the room for it.
                        drop(partition);
                        drop(room);
                        Ok(None)
                    })
                    .await;
                }
                Kept::Behind(mut read, changes) => {
                    is_behind = true;
                    let change = move || {
                        for change in changes {
                            change(&mut read.0);
                        }
                        Ok(*read)
                    };
                    (partition, room) = compute(usize::MAX, change).await?;
                }
            }
        }
    }

    /// [`Inner::hot`] for whoever holds the tenant's writer lock: no write can come between
    /// reading the disk and being found in memory. A load beside writes is overtaken: it may wait for
    /// this lock.
    pub(super) async fn load_locked(
        self: &Arc<Self>,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Hot> {
        if let Some(hot) = self.hot.get(tenant, collection.info.number) {
            return Ok(hot);
        }
        tenant.check_alive()?;
        self.hot.overtake(tenant, collection.info.number);
        let room = self.room(tenant, collection).await?;
        // Not before the wait: while somebody has it, the database cannot be reopened. The writer
        // lock is held, so it says the same.
        let db = self.data(tenant).await?;
        let info = self.tenancy.present(tenant, collection).await?;
        let (partition, room, is_saved) = self.read_all(tenant, (db, info, room), || false).await?;
        let hot = self.hot.keep(tenant, partition, room);
        if is_saved {
            hot.marks.loaded_current();
        }
        Ok(hot)
    }

    /// Room for a partition, which is waited for.
    async fn room(
        &self,
        tenant: &Arc<OpenTenant>,
        collection: &CollectionRef,
    ) -> Result<Reservation> {
        let info = self.tenancy.present(tenant, collection).await?;
        let records = write::statistics(&*self.data(tenant).await?, tenant, &info)?.records;
        let budget = self.hot.budget() as u64;
        let least = memory_estimate(records, &info);
        if least > budget {
            return Err(too_large(least, budget));
        }
        let about = records.saturating_mul(vectors_bytes(&info) + ROW_BYTES).min(budget);
        self.hot.reserve(tenant, usize::try_from(about).unwrap_or(usize::MAX)).await
    }

    /// Reads a partition; fails soon when it is read in vain.
    async fn read_all(
        self: &Arc<Self>,
        tenant: &Arc<OpenTenant>,
        (db, info, mut room): (Arc<Db>, Arc<CollectionInfo>, Reservation),
        is_vain: impl Fn() -> bool + Send + 'static,
    ) -> Result<Loaded> {
        let (inner, tenant) = (Arc::clone(self), Arc::clone(tenant));
        let index = IndexConfig { seed: index_seed(&tenant, info.number), ..self.index };
        let bytes = room.bytes().max(room.leaving_bytes());
        let read = move || {
            room.make_room();
            let mut partition = load(&db, &tenant, &info, index, (&mut room, &is_vain))?;
            let is_saved = inner.restore_saved(&db, &tenant, &info, &mut partition);
            // In this order, so that memory is given back before the room for it.
            Ok((partition, room, is_saved))
        };
        // It counts for nobody: others may have crowded it out.
        compute(bytes, read).await
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
    (room, is_vain): (&mut Reservation, &dyn Fn() -> bool),
) -> Result<Partition> {
    if write::statistics(db, tenant, info)?.records < READ_AHEAD_MIN {
        return load_with(db, tenant, info, index, (room, is_vain), vectors_of(db, tenant, info));
    }
    thread::scope(|threads| {
        let widest = info.fields().iter().filter_map(|(.., spec)| spec.dimension).max();
        let bytes = widest.unwrap_or(0) as usize * size_of::<f32>();
        let vectors = ahead(threads, bytes, || vectors_of(db, tenant, info))?;
        load_with(db, tenant, info, index, (room, is_vain), vectors)
    })
}

/// Reads bodies, then vectors, both in the order of their keys. Gives up when the partition has
/// grown beyond the budget: texts may be far larger than was estimated.
fn load_with(
    db: &Db,
    tenant: &OpenTenant,
    info: &CollectionInfo,
    index: IndexConfig,
    (room, is_vain): (&mut Reservation, &dyn Fn() -> bool),
    vectors: impl Iterator<Item = Result<StoredVector>>,
) -> Result<Partition> {
    let budget = room.budget();
    let origin = Origin { tenant: tenant.id(), collection: info.number };
    let mut partition =
        Partition::new(origin, info, PartitionConfig { index, metadata_bytes_max: budget / 4 });
    let records = write::statistics(db, tenant, info)?.records;
    partition.reserve(usize::try_from(records).unwrap_or(0));
    let mut grown = |partition: &Partition| {
        let bytes = partition.bytes();
        if bytes > budget {
            return Err(too_large(bytes as u64, budget as u64));
        }
        room.cover(bytes);
        if is_vain() { Err(Error::internal("a load that was given up")) } else { Ok(()) }
    };
    let all = keys::bodies_of(tenant.prefix(), info.number.0, PARTITION);
    for item in db.scan(Space::Data, &all, None) {
        let (key, sealed) = item?;
        let ordinal = ordinal_in(tenant, &key)?;
        partition.put(ordinal, open_body(tenant, &key, &sealed)?, &[]);
        grown(&partition)?;
    }
    for item in vectors {
        let StoredVector { number, ordinal, vector } = item?;
        let slot = partition
            .slot_of_ordinal(ordinal)
            .ok_or_else(|| Error::corrupt("a stored vector belongs to no record"))?;
        partition.set_vector(slot, number, &vector);
        grown(&partition)?;
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
