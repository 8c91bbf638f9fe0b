//! The types that cross the store's border, whatever the backend.

use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Restriction, Role, TenantId};
use tenantry_types::{
    Clock, CollectionId, CollectionName, CollectionNumber, DatabaseId, DatabaseName,
    DatabaseNumber, Isolation, Limits, Metadata, Metric, TenantName, TenantState, Timestamp,
};

/// A tenant as the catalog knows it. Holds no data of the tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct TenantInfo {
    /// The identity, never reused.
    pub id: TenantId,
    /// The present name.
    pub name: TenantName,
    /// Where it stands in its life.
    pub state: TenantState,
    /// Where it lives.
    pub isolation: Isolation,
    /// Its share of the machine.
    pub weight: u16,
    /// Its limits.
    pub limits: Limits,
    /// Free settings by key.
    pub settings: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A change of a tenant by the operator; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TenantChange {
    /// A new name.
    pub name: Option<TenantName>,
    /// [`TenantState::Active`] or [`TenantState::Suspended`].
    pub state: Option<TenantState>,
    /// A new weight.
    pub weight: Option<u16>,
    /// New limits.
    pub limits: Option<Limits>,
    /// Settings to set (`Some`) or remove (`None`), by key.
    pub settings: BTreeMap<String, Option<String>>,
}

/// A database as its tenant knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseInfo {
    /// Tenant-local number.
    pub number: DatabaseNumber,
    /// Public id.
    pub id: DatabaseId,
    /// Name.
    pub name: DatabaseName,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A collection as its tenant knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionInfo {
    /// The database it is in.
    pub database: DatabaseNumber,
    /// Tenant-local number.
    pub number: CollectionNumber,
    /// Public id.
    pub id: CollectionId,
    /// Name.
    pub name: CollectionName,
    /// How vectors are compared.
    pub metric: Metric,
    /// Components of each vector; set by the first write that has one.
    pub dimension: Option<u32>,
    /// The caller's metadata about the collection.
    pub metadata: Option<Metadata>,
    /// What dialects keep beside it.
    pub attributes: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A database that was found in a scope's tenant. Only the store makes one, and every operation
/// checks that it is used with a scope of the same tenant.
#[derive(Debug, Clone)]
pub struct DatabaseRef {
    pub(crate) tenant: TenantId,
    pub(crate) info: Arc<DatabaseInfo>,
}

impl DatabaseRef {
    /// The database.
    pub fn info(&self) -> &DatabaseInfo {
        &self.info
    }
}

/// A collection that was found in a scope's tenant; see [`DatabaseRef`].
#[derive(Debug, Clone)]
pub struct CollectionRef {
    pub(crate) tenant: TenantId,
    pub(crate) info: Arc<CollectionInfo>,
}

impl CollectionRef {
    /// The collection as it was when it was found.
    pub fn info(&self) -> &CollectionInfo {
        &self.info
    }
}

/// Where the bytes of an answer were read from, as the place they were read from knows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The tenant whose data key opened them.
    pub tenant: TenantId,
    /// The collection they belong to.
    pub collection: CollectionNumber,
}

/// Data with its origin, so that the engine can check once more what it lets out.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// Where it was read.
    pub origin: Origin,
    /// What was read.
    pub value: T,
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What it may do.
    pub role: Role,
    /// What narrows it.
    pub restriction: Restriction,
    /// A name for people, at most 256 bytes.
    pub label: String,
    /// From when it is refused.
    pub expires_at: Option<Timestamp>,
}

/// Where random bytes come from. The program uses the system; simulations hand in a seed.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// Fills `buffer` with bytes that nobody can guess. `purpose` says what for; a seeded source
    /// may derive from it so that unrelated draws do not shift each other.
    fn fill(&self, purpose: &str, buffer: &mut [u8]);
}

/// The operating system's source of randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, _purpose: &str, buffer: &mut [u8]) {
        getrandom::fill(buffer).expect("the system has a source of randomness");
    }
}

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
