//! Bounds on everything that a caller can make large.

use crate::{Error, ErrorKind, Result, Term};

/// The limits of one tenant. Every one is a maximum; a request above it is refused whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Databases of the tenant.
    pub databases: u32,
    /// Collections of the tenant, over all databases.
    pub collections: u32,
    /// Records in one collection.
    pub records_per_collection: u64,
    /// API keys of the tenant.
    pub keys: u32,
    /// Members of the tenant, suspended ones too; at most [`Limits::USERS_MAX`].
    pub users: u32,
    /// Components of a vector, 1 to [`Limits::VECTOR_DIMENSIONS_MAX`]. Asked where a collection's
    /// dimension is fixed: what has a larger one keeps it.
    pub vector_dimensions: u32,
}

impl Limits {
    /// Members that any tenant may have: they go in one commit with their tenant.
    pub const USERS_MAX: u32 = 100_000;
    /// Groups of a tenant's members.
    pub const GROUPS_MAX: usize = 256;
    /// Databases and collections that one group gives rights on.
    pub const GROUP_GRANTS_MAX: usize = 64;
    /// Groups that one member is in: what a guest may is kept in memory as one list.
    pub const MEMBER_GROUPS_MAX: usize = 16;
    /// Records in one write, and ids in one request.
    pub const BATCH_RECORDS_MAX: usize = 10_000;
    /// Ids that one get, delete or query may name.
    pub const IDS_MAX: usize = 100_000;
    /// Components of a vector.
    pub const DIMENSION_MAX: usize = Self::VECTOR_DIMENSIONS_MAX as usize;
    /// The same, as the largest limit that a tenant may have.
    pub const VECTOR_DIMENSIONS_MAX: u32 = 16_384;
    /// Named vectors of a collection, beside the unnamed one.
    pub const NAMED_VECTORS_MAX: usize = 16;
    /// Bytes of one record's text.
    pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
    /// Bytes of one record's uri.
    pub const URI_BYTES_MAX: usize = 64 << 10;
    /// Keys in one record's or collection's metadata.
    pub const METADATA_KEYS_MAX: usize = 1_024;
    /// Bytes of one metadata key.
    pub const METADATA_KEY_BYTES_MAX: usize = 1_024;
    /// Bytes of one record's metadata: keys and values.
    pub const METADATA_BYTES_MAX: usize = 1 << 20;
    /// Nodes and listed values of one filter.
    pub const FILTER_TERMS_MAX: usize = 4_096;
    /// Nesting of one filter, and of any JSON body.
    pub const DEPTH_MAX: usize = 64;
    /// Bytes of one regular expression.
    pub const REGEX_BYTES_MAX: usize = 4_096;
    /// Vectors in one query.
    pub const QUERY_VECTORS_MAX: usize = 1_000;
    /// Neighbours asked for in one query, over all its vectors.
    pub const QUERY_HITS_MAX: usize = 1_000_000;
    /// Bytes of one request body.
    pub const BODY_BYTES_MAX: usize = 40 << 20;
    /// Bytes of the records in one answer, counted as they are in memory.
    pub const ANSWER_BYTES_MAX: usize = 64 << 20;
    /// Bytes of the attributes that a dialect keeps beside a collection.
    pub const ATTRIBUTES_BYTES_MAX: usize = 256 << 10;

    /// Fails if a tenant that has so many databases may not have one more.
    pub fn room_for_database(&self, there: usize) -> Result<()> {
        room(there, (self.databases, Term::Databases), "")
    }

    /// Fails if a tenant that has so many collections may not have one more.
    pub fn room_for_collection(&self, there: usize) -> Result<()> {
        room(there, (self.collections, Term::Collections), "")
    }

    /// Fails if a tenant that has so many keys may not have one more.
    pub fn room_for_key(&self, there: usize) -> Result<()> {
        room(there, (self.keys, Term::Keys), "; revoke one first")
    }
}

fn room(there: usize, (limit, term): (u32, Term), way: &str) -> Result<()> {
    if there < limit as usize {
        return Ok(());
    }
    let message = format!("this tenant may have {limit} {}{way}", term.word());
    Err(Error::new(ErrorKind::LimitExceeded, message).with_limit(term))
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            databases: 1_000,
            collections: 100_000,
            records_per_collection: 100_000_000,
            keys: 1_000,
            users: 10_000,
            vector_dimensions: Self::VECTOR_DIMENSIONS_MAX,
        }
    }
}

/// Limits to set, one by one; `None` leaves one as it is when that is committed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitsChange {
    /// Another [`Limits::databases`].
    pub databases: Option<u32>,
    /// Another [`Limits::collections`].
    pub collections: Option<u32>,
    /// Another [`Limits::records_per_collection`].
    pub records_per_collection: Option<u64>,
    /// Another [`Limits::keys`].
    pub keys: Option<u32>,
    /// Another [`Limits::users`].
    pub users: Option<u32>,
    /// Another [`Limits::vector_dimensions`].
    pub vector_dimensions: Option<u32>,
}

impl LimitsChange {
    /// The limits that follow from those of before.
    #[must_use]
    pub fn over(&self, before: Limits) -> Limits {
        Limits {
            databases: self.databases.unwrap_or(before.databases),
            collections: self.collections.unwrap_or(before.collections),
            records_per_collection: self
                .records_per_collection
                .unwrap_or(before.records_per_collection),
            keys: self.keys.unwrap_or(before.keys),
            users: self.users.unwrap_or(before.users),
            vector_dimensions: self.vector_dimensions.unwrap_or(before.vector_dimensions),
        }
    }
}

/// All of them.
impl From<Limits> for LimitsChange {
    fn from(all: Limits) -> Self {
        Self {
            databases: Some(all.databases),
            collections: Some(all.collections),
            records_per_collection: Some(all.records_per_collection),
            keys: Some(all.keys),
            users: Some(all.users),
            vector_dimensions: Some(all.vector_dimensions),
        }
    }
}

const _: () = assert!(Limits::METADATA_BYTES_MAX < Limits::BODY_BYTES_MAX);
const _: () = assert!(Limits::DOCUMENT_BYTES_MAX < Limits::BODY_BYTES_MAX);
