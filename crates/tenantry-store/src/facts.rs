//! What an operator may know about where tenants are and how much they have: numbers, no names and
//! no data.

use std::collections::BTreeMap;
use tenantry_types::{Isolation, Location};

/// What keeps a tenant's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BackendKind {
    /// Files of one machine.
    Embedded,
    /// A database of PostgreSQL.
    Postgres,
}

impl BackendKind {
    /// Its word in settings, commands and protocols.
    pub fn word(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Postgres => "postgres",
        }
    }
}

/// A place where this process can make tenants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Which one.
    pub location: Location,
    /// What is there.
    pub backend: BackendKind,
    /// How tenants can be made there, from the weakest.
    pub isolations: Vec<Isolation>,
    /// Components of the largest vector that can be kept there.
    pub dimension_max: u32,
    /// What graphs depend on there; `None` if they are the same for all isolations.
    pub graphs: Option<GraphBounds>,
}

/// Where only tenants that live apart have graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphBounds {
    /// Records from which on a collection gets one.
    pub records_min: u64,
    /// Components of the largest vector that one can hold.
    pub dimension_max: u32,
}

/// How much a tenant has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TenantSizes {
    /// Databases.
    pub databases: u64,
    /// Collections of all databases.
    pub collections: u64,
    /// Records of all collections.
    pub records: u64,
    /// Records of the collection that has most.
    pub largest_collection: u64,
    /// By a vector's components: records of the collection that has most, among those with such
    /// vectors.
    pub by_dimension: BTreeMap<u32, u64>,
}

impl TenantSizes {
    /// Adds a collection of so many records, with vectors of these dimensions.
    pub fn add(&mut self, records: u64, dimensions: impl IntoIterator<Item = u32>) {
        self.collections = self.collections.saturating_add(1);
        self.records = self.records.saturating_add(records);
        self.largest_collection = self.largest_collection.max(records);
        for dimension in dimensions {
            let most = self.by_dimension.entry(dimension).or_default();
            *most = records.max(*most);
        }
    }
}
