//! What can be asked of a collection.

use crate::{
    CollectionName, Filter, Metadata, Record, RecordId, VectorName, VectorSpec, VectorStorage,
};
use std::{collections::BTreeMap, time::Duration};

/// How two vectors are compared. Distances: smaller is nearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Metric {
    /// Squared Euclidean distance, Σ(qᵢ−xᵢ)².
    #[default]
    L2,
    /// 1 − q·x/(‖q‖‖x‖); exactly 1 when either vector is zero.
    Cosine,
    /// 1 − q·x; may be negative.
    InnerProduct,
}

/// The collection to create.
#[derive(Debug, Clone, PartialEq)]
pub struct CollectionSpec {
    /// The name, unique within the database.
    pub name: CollectionName,
    /// How unnamed vectors are compared; cannot be changed later.
    pub metric: Metric,
    /// How precisely unnamed vectors are kept in memory; cannot be changed later.
    pub storage: VectorStorage,
    /// Components of each unnamed vector; `None` leaves it to the first write that has one.
    pub dimension: Option<u32>,
    /// The named vectors that a record may have, at most
    /// [`NAMED_VECTORS_MAX`](crate::Limits::NAMED_VECTORS_MAX); cannot be changed later.
    pub vectors: BTreeMap<VectorName, VectorSpec>,
    /// The caller's own metadata about the collection.
    pub metadata: Option<Metadata>,
    /// Text that a dialect keeps beside the collection (its own configuration), by key.
    pub attributes: BTreeMap<String, String>,
}

impl CollectionSpec {
    /// A collection with nothing but a name.
    pub fn new(name: CollectionName) -> Self {
        Self {
            name,
            metric: Metric::default(),
            storage: VectorStorage::default(),
            dimension: None,
            vectors: BTreeMap::new(),
            metadata: None,
            attributes: BTreeMap::new(),
        }
    }
}

/// A change of a collection; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectionChange {
    /// The new name.
    pub name: Option<CollectionName>,
    /// The metadata that replaces the old one; `Some(None)` removes it.
    pub metadata: Option<Option<Metadata>>,
    /// Attributes to set; others stay.
    pub attributes: BTreeMap<String, String>,
}

/// A slice of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Page {
    /// How many to return at most; `None` means all.
    pub limit: Option<usize>,
    /// How many to leave out first.
    pub offset: usize,
}

/// Which parts of a record to return. The id and version always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent columns")]
pub struct Include {
    /// The unnamed vector.
    pub vector: bool,
    /// All named vectors.
    pub vectors: bool,
    /// The text.
    pub document: bool,
    /// The uri.
    pub uri: bool,
    /// The metadata.
    pub metadata: bool,
}

/// The order of records returned by a get.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Order {
    /// The order in which records were inserted. Updates do not move a record.
    #[default]
    Insertion,
    /// Byte order of the ids.
    Id,
    /// Order of one metadata key: numbers by value, then texts, then other kinds, then records
    /// without the key, ties in insertion order. `descending` turns the values round; records
    /// without the key stay last.
    Key {
        /// The metadata key.
        key: String,
        /// Largest first.
        descending: bool,
    },
}

/// Which records: by id, by filter, or both (then both must hold).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Selector {
    /// Only these ids, if given. Unknown ids are left out.
    pub ids: Option<Vec<RecordId>>,
    /// Only records that match, if given.
    pub filter: Option<Filter>,
}

/// Records to fetch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GetRequest {
    /// Which records; all if empty.
    pub select: Selector,
    /// In which order.
    pub order: Order,
    /// Which slice of that order.
    pub page: Page,
    /// Which parts.
    pub include: Include,
}

/// A nearest-neighbour search with one or more vectors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryRequest {
    /// Which of the records' vectors to search: the named ones, or the unnamed ones. Records
    /// without it are not found.
    pub using: Option<VectorName>,
    /// The query vectors, all of the dimension of those that are searched.
    pub vectors: Vec<Vec<f32>>,
    /// How many neighbours of each to return at most.
    pub k: usize,
    /// Which records take part; all if empty. Applied before the search, so that a filter never
    /// returns fewer hits than exist.
    pub select: Selector,
    /// Which parts.
    pub include: Include,
    /// True to compare with every record that takes part, whatever it costs: the answer then
    /// depends on nothing but the records.
    pub exact: bool,
}

/// How the nearest of one query vector were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SearchPlan {
    /// Nothing was searched: there are no vectors, or none takes part.
    Nothing,
    /// All vectors were scanned.
    ExactAll,
    /// The vectors that the filter lets through were scanned.
    ExactAllowed,
    /// The graph was walked.
    Graph,
    /// The graph was walked, passing over what the filter does not let through.
    GraphFiltered,
}

/// What the search for one query vector did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchStep {
    /// The way it went.
    pub plan: SearchPlan,
    /// Vectors compared by their codes.
    pub codes_compared: u64,
    /// Vectors compared in full.
    pub originals_compared: u64,
}

/// How a query was answered, for those who ask why it took long or what it may have missed.
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// One for each query vector.
    pub searches: Vec<SearchStep>,
    /// Records that selector and filters let through; `None` if there was neither.
    pub allowed: Option<u64>,
    /// CPU time, from the search's begin to its end.
    pub cpu: Duration,
    /// Time spent waiting for a turn; `None` if it is not told: it says how much others do.
    pub waited: Option<Duration>,
    /// True if the collection was in memory, false if the query had to load it; `None` if it is not
    /// told: others have a part in what stays there.
    pub hot: Option<bool>,
}

/// The neighbours of each query vector, and how they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Nearest first.
    pub hits: Vec<Vec<Hit>>,
    /// How.
    pub explain: Explain,
}

/// What a collection holds and takes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CollectionStatistics {
    /// Records.
    pub records: u64,
    /// What it takes in memory; `None` while it is not there, and if it is not told: others have a
    /// part in what stays there.
    pub memory: Option<MemoryStatistics>,
}

/// What a collection takes in memory, in bytes, and the state of its graphs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MemoryStatistics {
    /// Ids, texts and metadata, estimated.
    pub rows_bytes: u64,
    /// All vectors, their codes and graphs.
    pub vectors_bytes: u64,
    /// Indexes of metadata and texts.
    pub metadata_bytes: u64,
    /// Unnamed vectors that the graph finds; 0 while there is no graph.
    pub linked: u64,
    /// Unnamed vectors that are scanned beside the graph, or all.
    pub pending: u64,
    /// What part of the nearest the graph found, in the queries that were sampled; `None` while
    /// none was.
    pub recall: Option<f32>,
    /// Queries sampled.
    pub recall_samples: u64,
    /// The same of the named vectors.
    pub vectors: BTreeMap<VectorName, VectorStatistics>,
}

/// What the vectors of one name take in memory, and the state of their graph.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct VectorStatistics {
    /// Bytes of the vectors, their codes and the graph.
    pub bytes: u64,
    /// Vectors that the graph finds; 0 while there is no graph.
    pub linked: u64,
    /// Vectors that are scanned beside the graph, or all.
    pub pending: u64,
    /// What part of the nearest the graph found, in the queries that were sampled; `None` while
    /// none was.
    pub recall: Option<f32>,
    /// Queries sampled.
    pub recall_samples: u64,
}

/// One neighbour.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The record.
    pub record: Record,
    /// Its distance to the query vector by the collection's metric; smaller is nearer.
    pub distance: f32,
}
