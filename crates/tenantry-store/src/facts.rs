//! What an operator may know about where tenants are and how much they have: numbers, no names and
//! no data.

use std::{collections::BTreeMap, ops::AddAssign, time::Duration};
use tenantry_auth::TenantId;
use tenantry_types::{Budget, Error, Isolation, Location, Result, TenantName, Timestamp};

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

    /// The backend of a word.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](tenantry_types::ErrorKind::Invalid) if it is none of them.
    pub fn parse(word: &str) -> Result<Self> {
        let found = [Self::Embedded, Self::Postgres].into_iter().find(|one| one.word() == word);
        found.ok_or_else(|| Error::invalid("backend must be embedded or postgres"))
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
    /// Members, suspended ones too.
    pub users: u64,
    /// Collections of all databases.
    pub collections: u64,
    /// Records of all collections.
    pub records: u64,
    /// Records of the collection that has most.
    pub largest_collection: u64,
    /// By a vector's components: records of the collection that has most, among those with such
    /// vectors.
    pub by_dimension: BTreeMap<u32, u64>,
    /// Bytes of all vectors, four for each component, if every record has all that it may have.
    pub vector_bytes: u64,
    /// Logical bytes of the records of those collections that know it.
    pub kept_bytes: u64,
    /// Collections from before bytes were counted that have records which do not say theirs.
    pub silent_collections: u64,
}

impl TenantSizes {
    /// Logical bytes of all records, if that is known of all.
    pub fn bytes(&self) -> Option<u64> {
        (self.silent_collections == 0).then_some(self.kept_bytes)
    }

    /// Adds what a collection's records take, if it is known.
    pub fn add_bytes(&mut self, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => self.kept_bytes = self.kept_bytes.saturating_add(bytes),
            None => self.silent_collections = self.silent_collections.saturating_add(1),
        }
    }

    /// Adds a collection of so many records, with vectors of these dimensions.
    pub fn add(&mut self, records: u64, dimensions: impl IntoIterator<Item = u32>) {
        self.collections = self.collections.saturating_add(1);
        self.records = self.records.saturating_add(records);
        self.largest_collection = self.largest_collection.max(records);
        for dimension in dimensions {
            let bytes = records.saturating_mul(u64::from(dimension)).saturating_mul(4);
            self.vector_bytes = self.vector_bytes.saturating_add(bytes);
            let most = self.by_dimension.entry(dimension).or_default();
            *most = records.max(*most);
        }
    }
}

/// What a tenant keeps, by its counters: what its bill and its quota go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stock {
    /// Records; none if nobody has counted them.
    pub records: Option<u64>,
    /// Logical bytes of them; none if nobody has counted them.
    pub bytes: Option<u64>,
}

/// What tenants keep together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeptSum {
    /// Records.
    pub records: u64,
    /// Logical bytes of them.
    pub bytes: u64,
    /// Members, suspended ones too.
    pub users: u64,
}

impl KeptSum {
    /// What is left without these, and never less than nothing.
    #[must_use]
    pub fn without(self, part: Self) -> Self {
        Self {
            records: self.records.saturating_sub(part.records),
            bytes: self.bytes.saturating_sub(part.bytes),
            users: self.users.saturating_sub(part.users),
        }
    }
}

impl AddAssign for KeptSum {
    fn add_assign(&mut self, more: Self) {
        self.records = self.records.saturating_add(more.records);
        self.bytes = self.bytes.saturating_add(more.bytes);
        self.users = self.users.saturating_add(more.users);
    }
}

/// What a tenant has of what is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holding {
    /// What it keeps.
    pub stock: Stock,
    /// Databases.
    pub databases: u32,
    /// Collections of all databases.
    pub collections: u32,
    /// API keys; none for whoever may not list them.
    pub keys: Option<u32>,
    /// Members, suspended ones too; none for whoever may not list them.
    pub users: Option<u32>,
}

/// What a tenant has used of its budgets, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Requests in a day of UTC; none if nobody has asked.
    pub day: Option<u64>,
    /// Requests in a month of UTC.
    pub month: u64,
    /// What the month costs so far by the tariff that counts, in millionths of a unit of the
    /// currency, or as many as fit; none if nobody has asked.
    pub cost: Option<u64>,
}

impl Spent {
    /// How much of one budget; none if nobody has asked.
    pub fn of(&self, budget: Budget) -> Option<u64> {
        match budget {
            Budget::Cost => self.cost,
            Budget::Month => Some(self.month),
            Budget::Day => self.day,
        }
    }
}

/// How far the move of a tenant has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MovePhase {
    /// Others are before it.
    Queued,
    /// The data are being copied.
    Copying,
    /// What was changed meanwhile is being copied.
    CatchingUp,
    /// Both copies are compared.
    Checking,
    /// The tenant's writes wait for the last changes and for the commit that decides.
    Switching,
    /// The tenant lives in the new place, the old one is being emptied.
    Leaving,
    /// The tenant stays where it is, the new place is being emptied.
    Undoing,
    /// It is over, and the tenant lives in the new place.
    Done,
    /// It was cancelled, and the tenant lives where it was.
    Cancelled,
    /// It has failed, and the tenant lives where it was.
    Failed,
}

impl MovePhase {
    /// True if nothing is left to do.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }
}

/// Where a tenant is to be moved. What is not said stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoveTarget {
    /// How it is to live there.
    pub isolation: Option<Isolation>,
    /// Where.
    pub location: Option<Location>,
}

impl From<Isolation> for MoveTarget {
    fn from(isolation: Isolation) -> Self {
        Self { isolation: Some(isolation), location: None }
    }
}

/// The move of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct MoveStatus {
    /// Whose.
    pub tenant: TenantId,
    /// What it is called now.
    pub name: TenantName,
    /// How and where it lived, or still does.
    pub from: (Isolation, Location),
    /// How and where it is to live, or does.
    pub to: (Isolation, Location),
    /// How far it has come.
    pub phase: MovePhase,
    /// Records copied.
    pub records_copied: u64,
    /// Records of both copies that were compared, while that can be told: once comparing has begun,
    /// and until the tenant lives in the new place.
    pub records_compared: Option<u64>,
    /// Records that there were when it began.
    pub records_total: u64,
    /// Records copied a second; compared, while they are.
    pub records_per_second: f64,
    /// How long copying, or comparing, will take, if that can be told.
    pub left: Option<Duration>,
    /// The longest time for which the tenant's writes had to wait.
    pub longest_pause: Duration,
    /// When it was asked for.
    pub begun_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Why it has failed, or why a step of it is being tried again.
    pub error: Option<String>,
}
