//! Collections.

use super::{DiskValue, metadata_from_disk, metadata_to_disk, unreadable};
use crate::{CollectionInfo, VectorInfo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tenantry_types::{
    CollectionId, CollectionName, CollectionNumber, DatabaseNumber, Metric, Result, Timestamp,
    VectorName, VectorSpec, VectorStorage,
};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskCollection {
    V1 {
        database: u32,
        id: [u8; 16],
        name: String,
        metric: u8,
        dimension: Option<u32>,
        metadata: Option<BTreeMap<String, DiskValue>>,
        attributes: BTreeMap<String, String>,
        created_at: u64,
        /// Named vectors: name → number, metric, dimension. Never written but empty.
        vectors: BTreeMap<String, (u16, u8, Option<u32>)>,
    },
    V2(Box<DiskCollectionV2>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskCollectionV2 {
    database: u32,
    id: [u8; 16],
    name: String,
    metadata: Option<BTreeMap<String, DiskValue>>,
    attributes: BTreeMap<String, String>,
    created_at: u64,
    /// The unnamed vector, whose number is 0.
    vector: DiskVector,
    /// Named vectors.
    vectors: BTreeMap<String, (u16, DiskVector)>,
    /// The highest number that a named vector was given.
    last_vector: u16,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct DiskVector {
    metric: u8,
    dimension: Option<u32>,
    storage: u8,
}

impl From<VectorSpec> for DiskVector {
    fn from(spec: VectorSpec) -> Self {
        Self {
            metric: match spec.metric {
                Metric::L2 => 0,
                Metric::Cosine => 1,
                Metric::InnerProduct => 2,
            },
            dimension: spec.dimension,
            storage: match spec.storage {
                VectorStorage::Full => 0,
                VectorStorage::Half => 1,
                VectorStorage::Int8 => 2,
            },
        }
    }
}

impl DiskVector {
    fn spec(self) -> Result<VectorSpec> {
        Ok(VectorSpec {
            metric: match self.metric {
                0 => Metric::L2,
                1 => Metric::Cosine,
                2 => Metric::InnerProduct,
                _ => return Err(unreadable("a collection")),
            },
            dimension: self.dimension,
            storage: match self.storage {
                0 => VectorStorage::Full,
                1 => VectorStorage::Half,
                2 => VectorStorage::Int8,
                _ => return Err(unreadable("a collection")),
            },
        })
    }
}

impl DiskCollection {
    pub(crate) fn from_info(info: &CollectionInfo) -> Self {
        let CollectionInfo { metric, dimension, storage, .. } = *info;
        let vector = |(name, one): (&VectorName, &VectorInfo)| {
            (name.as_str().to_owned(), (one.number, one.spec.into()))
        };
        Self::V2(Box::new(DiskCollectionV2 {
            database: info.database.0,
            id: info.id.0,
            name: info.name.as_str().to_owned(),
            metadata: info.metadata.as_ref().map(metadata_to_disk),
            attributes: info.attributes.clone(),
            created_at: info.created_at.0,
            vector: VectorSpec { metric, dimension, storage }.into(),
            vectors: info.vectors.iter().map(vector).collect(),
            last_vector: info.last_vector,
        }))
    }

    /// What it says, as the last version says it.
    fn last(self) -> DiskCollectionV2 {
        match self {
            Self::V1 {
                database,
                id,
                name,
                metric,
                dimension,
                metadata,
                attributes,
                created_at,
                vectors,
            } => DiskCollectionV2 {
                database,
                id,
                name,
                metadata,
                attributes,
                created_at,
                vector: DiskVector { metric, dimension, storage: 0 },
                last_vector: vectors.values().map(|(number, ..)| *number).max().unwrap_or(0),
                vectors: vectors
                    .into_iter()
                    .map(|(name, (number, metric, dimension))| {
                        (name, (number, DiskVector { metric, dimension, storage: 0 }))
                    })
                    .collect(),
            },
            Self::V2(row) => *row,
        }
    }

    pub(crate) fn into_info(self, number: CollectionNumber) -> Result<CollectionInfo> {
        let row = self.last();
        let VectorSpec { metric, dimension, storage } = row.vector.spec()?;
        let vector = |(name, (number, one)): (String, (u16, DiskVector))| {
            let name = VectorName::parse(&name).map_err(|_| unreadable("a collection"))?;
            Ok((name, VectorInfo { number, spec: one.spec()? }))
        };
        Ok(CollectionInfo {
            database: DatabaseNumber(row.database),
            number,
            id: CollectionId(row.id),
            name: CollectionName::parse(row.name)?,
            metric,
            dimension,
            storage,
            vectors: row.vectors.into_iter().map(vector).collect::<Result<_>>()?,
            last_vector: row.last_vector,
            metadata: row.metadata.map(metadata_from_disk),
            attributes: row.attributes,
            created_at: Timestamp(row.created_at),
        })
    }
}
