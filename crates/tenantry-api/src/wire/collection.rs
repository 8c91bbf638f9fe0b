//! Databases and collections.

use super::{
    Change,
    described::{Metadata, Name, VectorNameText},
    page::limited,
    value::{MetadataIn, MetadataOut},
    vector::{self, ByName, StorageName, VectorCreateIn, VectorMemoryOut, VectorOut},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tenantry_engine::{
    CollectionChange, CollectionInfo, CollectionName, CollectionSpec, CollectionStatistics,
    DatabaseInfo, Metric, Page, Result, VectorStorage,
};
use utoipa::{IntoParams, ToSchema};

const LIMIT_MAX: usize = 10_000;

/// Which part of a list in the order of names.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageSearch {
    /// How many at most, 1 to 10,000; 1,000 if absent.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<usize>,
    /// How many to leave out first; 0 if absent.
    #[serde(default)]
    offset: usize,
}

impl PageSearch {
    pub(crate) fn page(&self) -> Result<Page> {
        let limit = limited(self.limit, 1_000, LIMIT_MAX)?;
        Ok(Page { limit: Some(limit), offset: self.offset })
    }
}

/// The database to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DatabaseCreateIn {
    /// 1 to 512 bytes of UTF-8 without control characters.
    #[schema(value_type = Name)]
    pub(crate) name: String,
}

/// A database.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatabaseOut {
    /// A UUID.
    id: String,
    name: String,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
}

impl From<&DatabaseInfo> for DatabaseOut {
    fn from(info: &DatabaseInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name.to_string(),
            created_at_ms: info.created_at.0,
        }
    }
}

/// Databases in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DatabasesOut {
    pub(crate) databases: Vec<DatabaseOut>,
}

/// How vectors are compared; smaller distances are nearer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MetricName {
    /// Squared Euclidean distance.
    L2,
    /// 1 − cosine similarity.
    Cosine,
    /// 1 − inner product.
    InnerProduct,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::L2 => Self::L2,
            MetricName::Cosine => Self::Cosine,
            MetricName::InnerProduct => Self::InnerProduct,
        }
    }
}

impl From<Metric> for MetricName {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::L2 => Self::L2,
            Metric::Cosine => Self::Cosine,
            Metric::InnerProduct => Self::InnerProduct,
        }
    }
}

/// The collection to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionCreateIn {
    /// 1 to 512 bytes of UTF-8 without control characters.
    #[schema(value_type = Name)]
    name: String,
    /// How unnamed vectors are compared; `l2` if absent. Cannot be changed later.
    metric: Option<MetricName>,
    /// How precisely unnamed vectors are kept in memory; `full` if absent. Cannot be changed later.
    storage: Option<StorageName>,
    /// Vectors that records may have beside the unnamed one, by name, at most 16. A name has 1 to
    /// 64 letters and digits of ASCII, `_`, `-` and `.`. Cannot be changed later.
    #[serde(default)]
    #[schema(value_type = BTreeMap<VectorNameText, VectorCreateIn>)]
    vectors: ByName<VectorCreateIn>,
    /// The caller's own metadata about the collection.
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<MetadataIn>,
    /// Answer with an existing collection of this name, unchanged, instead of an error.
    #[serde(default)]
    pub(crate) get_or_create: bool,
}

impl CollectionCreateIn {
    pub(crate) fn spec(self) -> Result<CollectionSpec> {
        Ok(CollectionSpec {
            name: CollectionName::parse(self.name)?,
            metric: self.metric.map(Metric::from).unwrap_or_default(),
            storage: self.storage.map(VectorStorage::from).unwrap_or_default(),
            dimension: None,
            vectors: self.vectors.specs(),
            metadata: self.metadata.map(MetadataIn::whole).transpose()?,
            attributes: BTreeMap::new(),
        })
    }
}

/// A change of a collection; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CollectionPatchIn {
    /// A new name.
    #[schema(value_type = Option<Name>)]
    name: Option<String>,
    /// Metadata that replaces the old one; `null` removes it.
    #[serde(default)]
    #[schema(value_type = Option<Metadata>)]
    metadata: Change<MetadataIn>,
}

impl CollectionPatchIn {
    pub(crate) fn change(self) -> Result<CollectionChange> {
        Ok(CollectionChange {
            name: self.name.map(CollectionName::parse).transpose()?,
            metadata: match self.metadata {
                Change::Keep => None,
                Change::Remove => Some(None),
                Change::Replace(metadata) => Some(Some(metadata.whole()?)),
            },
            attributes: BTreeMap::new(),
        })
    }
}

/// A collection.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectionOut {
    /// A UUID.
    id: String,
    name: String,
    metric: MetricName,
    /// Components of each unnamed vector; null until the first one is written.
    dimension: Option<u32>,
    storage: StorageName,
    /// The named vectors that its records may have, by name.
    vectors: BTreeMap<String, VectorOut>,
    /// The caller's own metadata about the collection.
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<MetadataOut>,
    /// When it was made, in milliseconds since 1970 UTC.
    created_at_ms: u64,
}

impl From<&CollectionInfo> for CollectionOut {
    fn from(info: &CollectionInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name.to_string(),
            metric: info.metric.into(),
            dimension: info.dimension,
            storage: info.storage.into(),
            vectors: vector::named(info.vectors.clone(), |one| VectorOut::from(&one)),
            metadata: info.metadata.clone().map(|all| MetadataOut(all.into())),
            created_at_ms: info.created_at.0,
        }
    }
}

/// What a collection holds and takes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatisticsOut {
    /// Records.
    records: u64,
    /// What it takes in memory; null while it is not there. Told to operators alone, and null to
    /// everybody else: what others ask for crowds it out.
    memory: Option<MemoryOut>,
}

/// What a collection takes in memory.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoryOut {
    /// Bytes of ids, texts and metadata, estimated.
    rows_bytes: u64,
    /// Bytes of all vectors, their codes and graphs.
    vectors_bytes: u64,
    /// Bytes of the indexes of metadata and texts.
    metadata_bytes: u64,
    /// Unnamed vectors that the graph finds; 0 while there is no graph.
    linked: u64,
    /// Unnamed vectors that are scanned beside the graph; all, if there is none.
    pending: u64,
    /// The share of the ten nearest that the graph found, in the queries that were sampled; null
    /// while none was.
    recall: Option<f32>,
    /// Queries sampled.
    recall_samples: u64,
    /// The same of the named vectors, by name.
    vectors: BTreeMap<String, VectorMemoryOut>,
}

impl From<CollectionStatistics> for StatisticsOut {
    fn from(statistics: CollectionStatistics) -> Self {
        let memory = statistics.memory.map(|memory| MemoryOut {
            rows_bytes: memory.rows_bytes,
            vectors_bytes: memory.vectors_bytes,
            metadata_bytes: memory.metadata_bytes,
            linked: memory.linked,
            pending: memory.pending,
            recall: memory.recall,
            recall_samples: memory.recall_samples,
            vectors: vector::named(memory.vectors, VectorMemoryOut::from),
        });
        Self { records: statistics.records, memory }
    }
}

/// Collections in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CollectionsOut {
    pub(crate) collections: Vec<CollectionOut>,
}
