//! Bringing back a saved graph when a partition is loaded from the truth.

use super::file::{Part, SavedFile, Whose};
use crate::{
    CollectionInfo,
    embedded::{
        Inner,
        disk::Stamp,
        opened::Db,
        partition::Partition,
        tenants::OpenTenant,
        write::{self, PARTITION, VECTOR},
    },
};
use roaring::RoaringBitmap;
use std::sync::atomic::Ordering;
use tenantry_index::VectorIndex;
use tenantry_types::{Error, Result};

impl Inner {
    /// Gives a partition, as it was loaded from `db`, its saved graphs. True if there are files of
    /// these records with all that is worth saving; one of other records has served its purpose
    /// and goes.
    pub(in crate::embedded) fn restore_saved(
        &self,
        db: &Db,
        tenant: &OpenTenant,
        info: &CollectionInfo,
        partition: &mut Partition,
    ) -> bool {
        if !self.saved.is_on() {
            return false;
        }
        let mut is_whole = true;
        for (vector, ..) in info.fields() {
            is_whole &= self.restore_vector(db, tenant, info, vector, partition);
        }
        is_whole
    }

    /// The same for the vectors of one number.
    fn restore_vector(
        &self,
        db: &Db,
        tenant: &OpenTenant,
        info: &CollectionInfo,
        vector: u16,
        partition: &mut Partition,
    ) -> bool {
        let whose = whose(tenant, info, vector);
        let path = self.saved.path(whose);
        let restored = SavedFile::open(&path, whose, tenant.key()).and_then(|file| {
            let Some(file) = file else { return Ok(None) };
            let stamp = write::statistics(db, tenant, info)?.stamp;
            restore(&file, tenant, stamp, vector, partition)
                .map(|is_current| Some((file, is_current)))
        });
        match restored {
            // What is not linked yet, or is linked to what it should not be, is saved again.
            Ok(Some((_, true))) => {
                partition.vectors.index(vector).is_none_or(VectorIndex::is_settled)
            }
            Ok(Some((file, false))) => {
                self.saved.count(0, file.remove(&path));
                false
            }
            // Nothing is missing where nothing would be saved.
            Ok(None) => partition
                .vectors
                .index(vector)
                .is_none_or(|index| vector != VECTOR && !index.has_graph()),
            Err(why) => {
                self.saved.refuse(&path, &why);
                false
            }
        }
    }

    pub(super) fn note_saved_use(&self) {
        self.saved.used.fetch_add(1, Ordering::Relaxed);
    }
}

/// The file of a collection's vectors of one number.
pub(super) fn whose(tenant: &OpenTenant, info: &CollectionInfo, vector: u16) -> Whose {
    let collection = info.number.0;
    Whose { tenant: tenant.id(), collection, partition: PARTITION, vector }
}

/// True if the file is that of the records as they are.
fn restore(
    file: &SavedFile,
    tenant: &OpenTenant,
    stamp: Option<Stamp>,
    vector: u16,
    partition: &mut Partition,
) -> Result<bool> {
    let is_current = stamp == Some(file.stamp());
    let Some(index) = partition.vectors.index(vector) else { return Ok(false) };
    let described = file.description;
    let fits = described.metric == index.metric()
        && described.storage == index.config().storage
        && described.dimension as usize == index.dimension();
    if !fits {
        return Ok(false);
    }
    if described.links == 0 || !index.has_graph() {
        return Ok(is_current);
    }
    let key = tenant.key();
    let ordinals = file.ordinals(key, |open| open())?;
    // Where the records of the file are now.
    let place = |ordinal: &u64| partition.slot_of_ordinal(*ordinal);
    let mut places: Vec<Option<u32>> = ordinals.iter().map(place).collect();
    if !is_current {
        let same = unchanged(file, tenant, index, &places)?;
        for (slot, place) in (0..).zip(&mut places) {
            *place = place.filter(|_| same.contains(slot));
        }
    }
    let mut links = Vec::with_capacity(usize::try_from(described.links).unwrap_or(0));
    file.read(
        key,
        Part::Links,
        |open| open(),
        |bytes| {
            links.extend_from_slice(bytes);
            Ok(())
        },
    )?;
    let place = |slot: u32| places.get(slot as usize).copied().flatten();
    partition.vectors.restore_packed(vector, &links, place)?;
    Ok(is_current)
}

/// The records of the file whose vectors have the codes that they had.
fn unchanged(
    file: &SavedFile,
    tenant: &OpenTenant,
    index: &VectorIndex,
    places: &[Option<u32>],
) -> Result<RoaringBitmap> {
    let compare = |part: Part, bytes: usize, has: &dyn Fn(u32, &[u8]) -> bool| {
        let mut same = RoaringBitmap::new();
        let mut slots = (0..).zip(places);
        let mut check = |row: &[u8]| {
            let (slot, place) = slots.next().ok_or_else(|| Error::corrupt("too many rows"))?;
            if place.is_some_and(|place| has(place, row)) {
                same.insert(slot);
            }
            Ok(())
        };
        // A row may begin in one chunk and end in the next.
        let mut rest: Vec<u8> = Vec::new();
        file.read(
            tenant.key(),
            part,
            |open| open(),
            |mut chunk| {
                if !rest.is_empty() {
                    let (head, tail) = chunk.split_at((bytes - rest.len()).min(chunk.len()));
                    rest.extend_from_slice(head);
                    chunk = tail;
                    if rest.len() < bytes {
                        return Ok(());
                    }
                    check(&rest)?;
                    rest.clear();
                }
                let rows = chunk.chunks_exact(bytes);
                rest.extend_from_slice(rows.remainder());
                rows.into_iter().try_for_each(&mut check)
            },
        )?;
        Ok::<_, Error>(same)
    };
    let code_bytes = VectorIndex::code_bytes(index.dimension());
    if code_bytes == 0 {
        return Ok(RoaringBitmap::new());
    }
    let codes = compare(Part::Codes, code_bytes, &|slot, row| index.has_codes(slot, row))?;
    let terms =
        compare(Part::Terms, VectorIndex::TERM_BYTES, &|slot, row| index.has_terms(slot, row))?;
    Ok(codes & terms)
}
