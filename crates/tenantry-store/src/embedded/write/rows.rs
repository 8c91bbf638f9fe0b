//! Where a batch finds records and puts them: rows of the database, looked up in memory if they
//! are there.

use super::{PARTITION, body, ordinal_of};
use crate::{
    embedded::{
        Space,
        commit::Commit,
        disk::{self, Body},
        footprint,
        hot::Hot,
        keys::{self, Tail},
        opened::Db,
        partition::Partition,
        tenants::OpenTenant,
    },
    tenancy::batch::{Place, Put},
};
use parking_lot::RwLockReadGuard;
use std::sync::Arc;
use tenantry_types::{CollectionNumber, Error, Result};

/// A collection's records.
pub(super) struct Rows<'a> {
    pub(super) tenant: &'a OpenTenant,
    pub(super) db: Arc<Db>,
    pub(super) hot: Option<Hot>,
    pub(super) collection: CollectionNumber,
    /// What was put.
    pub(super) applied: Vec<Applied>,
}

/// What a hot partition must learn after the commit.
pub(super) struct Applied {
    pub(super) ordinal: u64,
    pub(super) body: Body,
    /// With the numbers of their names.
    pub(super) vectors: Vec<(u16, Vec<f32>)>,
}

impl Applied {
    /// Bytes of all its parts.
    pub(super) fn bytes(&self) -> usize {
        footprint::of_row(&self.body)
            + self.vectors.iter().map(|(_, vector)| size_of_val(vector.as_slice())).sum::<usize>()
    }
}

impl Rows<'_> {
    /// The partition, if it is in memory and can be read without waiting: the disk says the same
    /// while the writer lock is held, and this may be a thread that others need.
    fn in_memory(&self) -> Option<RwLockReadGuard<'_, Partition>> {
        self.hot.as_ref()?.try_read()
    }
}

impl Place for Rows<'_> {
    fn find(&self, id: &str) -> Result<Option<u64>> {
        match self.in_memory() {
            Some(partition) => Ok(partition.find(id).map(|(_, ordinal)| ordinal)),
            None => ordinal_of(&self.db, self.tenant, self.collection, id),
        }
    }

    fn body(&self, ordinal: u64, id: &str) -> Result<Body> {
        if let Some(partition) = self.in_memory() {
            let found = partition.find(id).and_then(|(slot, _)| partition.row(slot));
            return found.cloned().ok_or_else(|| Error::internal("a row is gone from memory"));
        }
        body(&self.db, self.tenant, self.collection, ordinal, id)
    }

    fn put(&mut self, commit: &mut Commit<'_>, put: Put) -> Result<()> {
        let Put { collection, ordinal, is_new, body, vectors } = put;
        let (prefix, partition) = (self.tenant.prefix(), PARTITION);
        if is_new {
            let key = keys::Id { collection, partition, id: Tail(body.id.as_bytes()) };
            commit.put_clear(Space::Data, key.encode(prefix), ordinal.to_be_bytes().to_vec());
        }
        let key = keys::Body { collection, partition, ordinal }.encode(prefix);
        commit.put_bytes(Space::Data, key, &body.encode(), true);
        for (vector, components) in &vectors {
            let key = keys::Vector { collection, partition, vector: *vector, ordinal };
            let bytes = disk::encode_vector(components);
            commit.put_bytes(Space::Data, key.encode(prefix), &bytes, false);
        }
        self.applied.push(Applied { ordinal, body, vectors });
        Ok(())
    }
}
