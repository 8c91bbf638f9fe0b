//! The types that cross the store's border, whatever the backend.

use std::{collections::BTreeMap, sync::Arc};
use tenantry_auth::{Restriction, Role, TenantId};
use tenantry_types::{
    Allowance, Amounts, Bill, Clock, CollectionId, CollectionName, CollectionNumber, DatabaseId,
    DatabaseName, DatabaseNumber, Error, ErrorKind, Every, ExceptionChange, Exceptions, Hour,
    Isolation, Limits, LimitsChange, Location, Metadata, Metric, OwnDatabase, PlanName, Result,
    TenantName, TenantState, Term, Timestamp, VectorName, VectorSpec, VectorStorage,
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
    /// Which database has its data.
    pub location: Location,
    /// Its share of the machine, unless a plan or an exception says another one.
    pub weight: u16,
    /// What was said of its limits when it was made, or since. See [`TenantInfo::allowance`].
    pub limits: Limits,
    /// Its plan; `None` is [`Allowance::default`].
    pub plan: Option<PlanName>,
    /// What it has instead of what its plan says.
    pub exceptions: Exceptions,
    /// Free settings by key.
    pub settings: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when it has its name, if its row may say so ([`crate::Store::dates_names`]): what names
    /// it and is older means whoever had the name before.
    pub named_at: Timestamp,
    /// By what the request that made it is known again, if it wished to be.
    pub made_by: Option<[u8; 32]>,
    /// When it is erased, if it is deleted: until then it can be restored, and answers like no
    /// tenant. Its state is what it was.
    pub erase_at: Option<Timestamp>,
}

impl TenantInfo {
    /// Who it is.
    pub(crate) fn named(&self) -> (TenantId, &TenantName) {
        (self.id, &self.name)
    }

    /// What it has of its plan at `now`. An exception counts first, then what was said of its
    /// limits and weight otherwise, if that is not what everybody has who is not told anything.
    pub fn allowance(&self, plan: &Allowance, now: Timestamp) -> Allowance {
        let of_before = Exceptions::of_before(self.limits, self.weight);
        self.exceptions.of(&of_before.of(plan, now), now)
    }

    /// What decides at `now` how many of something it has; see [`TenantInfo::allowance`].
    pub fn source(&self, term: Term, now: Timestamp) -> Source {
        let of_before = Exceptions::of_before(self.limits, self.weight);
        if self.exceptions.get(term).is_some_and(|one| one.at(now).is_some()) {
            Source::Exception
        } else if of_before.get(term).is_some() {
            Source::Own
        } else if self.plan.is_some() {
            Source::Plan
        } else {
            Source::Usual
        }
    }
}

/// What decides how many of something a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing that was said of it: what everybody has who is not told anything.
    Usual,
    /// Its plan.
    Plan,
    /// What was said of its limits or its weight.
    Own,
    /// An exception.
    Exception,
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
    /// New limits of its own, one by one, of those that it has when this is committed.
    pub limits: LimitsChange,
    /// Another plan, or none.
    pub plan: Option<Option<PlanName>>,
    /// All that it has instead of what its plan says; what is not in it ends.
    pub exceptions: Option<Exceptions>,
    /// Exceptions to make and to end, one by one, of those that it has when this is committed.
    pub except: ExceptionChange,
    /// Settings to set (`Some`) or remove (`None`), by key.
    pub settings: BTreeMap<String, Option<String>>,
    /// Another way to the database that the tenant carries, for one at [`Location::Own`]: it is
    /// the same database, with another password for instance.
    pub own_database: Option<OwnDatabase>,
}

/// What a deleted tenant has left that is still to be removed. Nobody can read it: the tenant's
/// key is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover {
    /// The tenant that was.
    pub tenant: TenantId,
    /// How it lived.
    pub isolation: Isolation,
    /// Which database has what is left.
    pub location: Location,
    /// Why it is still there; `None` if nothing is known to be in the way.
    pub obstacle: Option<Obstacle>,
}

/// What keeps a process from removing what a deleted tenant has left. Another process of the
/// installation may do it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// It is not given the tenant's location.
    NoLocation,
    /// It is not given the admin's URL of the tenant's database.
    NoAdmin,
    /// It has tried, and will again; why it failed is in its log.
    Failed,
}

impl Obstacle {
    /// For the operator.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoLocation => "this process is not given the location",
            Self::NoAdmin => "this process is not given the admin's URL of that database",
            Self::Failed => "it was tried and failed, see the log; it is tried again",
        }
    }
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
    /// How unnamed vectors are compared.
    pub metric: Metric,
    /// Components of each unnamed vector; set by the first write that has one.
    pub dimension: Option<u32>,
    /// How precisely unnamed vectors are kept in memory.
    pub storage: VectorStorage,
    /// The named vectors that its records may have.
    pub vectors: BTreeMap<VectorName, VectorInfo>,
    /// The highest number that a named vector was given; numbers are never given twice.
    pub last_vector: u16,
    /// The caller's metadata about the collection.
    pub metadata: Option<Metadata>,
    /// What dialects keep beside it.
    pub attributes: BTreeMap<String, String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The vectors of one name, as their collection knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VectorInfo {
    /// The name's number in the collection, from 1.
    pub number: u16,
    /// What they are.
    pub spec: VectorSpec,
}

impl CollectionInfo {
    /// The vectors of this name, or the unnamed ones, whose number is 0.
    ///
    /// [`ErrorKind::Invalid`](tenantry_types::ErrorKind::Invalid) if the collection has none of
    /// this name.
    pub fn vector(&self, name: Option<&VectorName>) -> Result<VectorInfo> {
        let Some(name) = name else {
            let Self { metric, dimension, storage, .. } = *self;
            return Ok(VectorInfo { number: 0, spec: VectorSpec { metric, dimension, storage } });
        };
        self.vectors.get(name).copied().ok_or_else(|| {
            let known: Vec<String> = self.vectors.keys().map(|name| format!("{name:?}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            Error::invalid(format!(
                "the collection has no vectors named {name:?}; its named vectors: {known}"
            ))
        })
    }

    /// Sets what the first write of a vector tells: its dimension.
    pub(crate) fn set_dimension(&mut self, name: Option<&VectorName>, dimension: u32) {
        match name {
            None => self.dimension = Some(dimension),
            Some(name) => {
                if let Some(vector) = self.vectors.get_mut(name) {
                    vector.spec.dimension = Some(dimension);
                }
            }
        }
    }

    /// Number, name and kind of all vectors that a record may have, the unnamed one first.
    pub(crate) fn fields(&self) -> Vec<(u16, Option<&VectorName>, VectorSpec)> {
        let Self { metric, dimension, storage, .. } = *self;
        let mut fields = vec![(0, None, VectorSpec { metric, dimension, storage })];
        fields.extend(self.vectors.iter().map(|(name, info)| (info.number, Some(name), info.spec)));
        fields.sort_unstable_by_key(|(number, ..)| *number);
        fields
    }
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

/// How somebody names a collection of a database.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// By the name that it has now.
    Name(&'a CollectionName),
    /// By its public id.
    Id(CollectionId),
}

/// A collection that was found in a scope's tenant; see [`DatabaseRef`].
#[derive(Debug, Clone)]
pub struct CollectionRef {
    pub(crate) tenant: TenantId,
    pub(crate) info: Arc<CollectionInfo>,
    /// The database in which it was looked up by name; none if it was found in another way. Where
    /// other processes write too, something else may have this name by now.
    pub(crate) named_in: Option<Arc<DatabaseInfo>>,
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
    /// What has the asked name now, if that is where it was read.
    pub namesake: Option<CollectionRef>,
    /// What was read.
    pub value: T,
}

impl<T> Answer<T> {
    pub(crate) fn new(origin: Origin, value: T) -> Self {
        Self { origin, namesake: None, value }
    }

    /// The same, read of what has the asked name now.
    pub(crate) fn of(self, namesake: CollectionRef) -> Self {
        Self { namesake: Some(namesake), ..self }
    }
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

/// The refusal of an answer that is larger than any may be.
pub(crate) fn answer_too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "the answer would be larger than {} MiB: ask for fewer records, or leave parts out",
            Limits::ANSWER_BYTES_MAX >> 20
        ),
    )
}

/// What a node has counted of a tenant's work, beside commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageNote {
    /// Whose; [`TenantId::INSTALLATION`] is nobody's.
    pub tenant: TenantId,
    /// When.
    pub hour: Hour,
    /// How much.
    pub amounts: Amounts,
}

/// What became of a second of a node's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journaled {
    /// It is written, now or before.
    Written,
    /// Nobody knows any more: it must not be written again, and the node goes on under another id.
    Forgotten,
}

/// What one tenant has used in some hour or month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantUsed {
    /// Whose; [`TenantId::INSTALLATION`] for what was too much to be told apart, and is nobody's.
    pub tenant: TenantId,
    /// Its name; none if it was deleted.
    pub name: Option<TenantName>,
    /// The plan that it has now.
    pub plan: Option<PlanName>,
    /// How much.
    pub amounts: Amounts,
}

/// What a month of one tenant costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantBill {
    /// Whose, and what was used.
    pub used: TenantUsed,
    /// By the plan that it has now; none if it was deleted, since nobody knows its plan any more.
    pub bill: Option<Bill>,
}

/// Both sides of the ledger in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageBalance {
    /// Accounts with something in them.
    pub tenants: u64,
    /// What they have together.
    pub sum: Amounts,
    /// What the operator's account has.
    pub all: Amounts,
}

/// Which sums of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsagePage {
    /// Over hours or months.
    pub every: Every,
    /// From this one on.
    pub from: u32,
    /// So many at most.
    pub limit: usize,
}
