//! Named vectors, and how precisely vectors are kept.

use super::collection::MetricName;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};
use tenantry_engine::{
    Metric, Result, VectorInfo, VectorName, VectorSpec, VectorStatistics, VectorStorage,
};
use utoipa::ToSchema;

/// How precisely vectors are kept in memory, where they are searched. They always come back as
/// they were given, but under `half` and `int8` distances are those of rounded vectors.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StorageName {
    /// As they were given: about 5 bytes a component.
    Full,
    /// 2 bytes a component.
    Half,
    /// 1 byte a component.
    Int8,
}

impl From<StorageName> for VectorStorage {
    fn from(name: StorageName) -> Self {
        match name {
            StorageName::Full => Self::Full,
            StorageName::Half => Self::Half,
            StorageName::Int8 => Self::Int8,
        }
    }
}

impl From<VectorStorage> for StorageName {
    fn from(storage: VectorStorage) -> Self {
        match storage {
            VectorStorage::Full => Self::Full,
            VectorStorage::Half => Self::Half,
            VectorStorage::Int8 => Self::Int8,
        }
    }
}

/// Something for each name of a vector. A name that stands twice is refused.
#[derive(Debug, Clone)]
pub(crate) struct ByName<T>(pub(crate) BTreeMap<VectorName, T>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct NameVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NameVisitor<T> {
            type Value = ByName<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a member for each named vector")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<ByName<T>, A::Error> {
                let mut all = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let name = VectorName::parse(&name).map_err(A::Error::custom)?;
                    if all.contains_key(&name) {
                        return Err(A::Error::custom(format!("vector name {name:?} stands twice")));
                    }
                    all.insert(name, map.next_value()?);
                }
                Ok(ByName(all))
            }
        }

        deserializer.deserialize_map(NameVisitor(PhantomData))
    }
}

/// The vectors of one name that records may have.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VectorCreateIn {
    /// How they are compared; `l2` if absent. Cannot be changed later.
    metric: Option<MetricName>,
    /// Components of each; if absent, the first one that is written decides.
    #[schema(minimum = 1, maximum = 16_384)]
    dimension: Option<u32>,
    /// How precisely they are kept in memory; `full` if absent. Cannot be changed later.
    storage: Option<StorageName>,
}

impl ByName<VectorCreateIn> {
    pub(crate) fn specs(self) -> BTreeMap<VectorName, VectorSpec> {
        let spec = |one: VectorCreateIn| VectorSpec {
            metric: one.metric.map(Metric::from).unwrap_or_default(),
            dimension: one.dimension,
            storage: one.storage.map(VectorStorage::from).unwrap_or_default(),
        };
        self.0.into_iter().map(|(name, one)| (name, spec(one))).collect()
    }
}

/// The vectors of one name that records may have.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VectorOut {
    metric: MetricName,
    /// Components of each; null until the first one is written.
    dimension: Option<u32>,
    storage: StorageName,
}

impl From<&VectorInfo> for VectorOut {
    fn from(info: &VectorInfo) -> Self {
        let VectorSpec { metric, dimension, storage } = info.spec;
        Self { metric: metric.into(), dimension, storage: storage.into() }
    }
}

/// What the vectors of one name take in memory.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VectorMemoryOut {
    /// Bytes of the vectors, their codes and the graph.
    bytes: u64,
    /// Vectors that the graph finds; 0 while there is no graph.
    linked: u64,
    /// Vectors that are scanned beside the graph; all, if there is none.
    pending: u64,
    /// The share of the ten nearest that the graph found, in the queries that were sampled; null
    /// while none was.
    recall: Option<f32>,
    /// Queries sampled.
    recall_samples: u64,
}

impl From<VectorStatistics> for VectorMemoryOut {
    fn from(statistics: VectorStatistics) -> Self {
        let VectorStatistics { bytes, linked, pending, recall, recall_samples } = statistics;
        Self { bytes, linked, pending, recall, recall_samples }
    }
}

/// The same map with its names as texts.
pub(crate) fn named<T, U>(
    all: BTreeMap<VectorName, T>,
    convert: impl Fn(T) -> U,
) -> BTreeMap<String, U> {
    all.into_iter().map(|(name, one)| (name.as_str().to_owned(), convert(one))).collect()
}

/// The vectors that a query names.
pub(crate) fn using(name: Option<&str>) -> Result<Option<VectorName>> {
    name.map(VectorName::parse).transpose()
}
