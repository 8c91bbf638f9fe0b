//! Records and their counts.

use super::{DiskValue, decode, encode, metadata_from_disk, metadata_to_disk, unreadable};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_types::{Metadata, Result, Timestamp};

/// A record without its vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body {
    pub(crate) id: String,
    pub(crate) document: Option<Arc<str>>,
    pub(crate) uri: Option<String>,
    pub(crate) metadata: Option<Arc<Metadata>>,
    pub(crate) version: u64,
    pub(crate) expires_at: Option<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
enum DiskBody {
    V1 {
        id: String,
        version: u64,
        expires_at: Option<u64>,
        document: Option<String>,
        uri: Option<String>,
        metadata: Option<BTreeMap<String, DiskValue>>,
    },
}

impl Body {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode(&DiskBody::V1 {
            id: self.id.clone(),
            version: self.version,
            expires_at: self.expires_at.map(|t| t.0),
            document: self.document.as_deref().map(str::to_owned),
            uri: self.uri.clone(),
            metadata: self.metadata.as_deref().map(metadata_to_disk),
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let DiskBody::V1 { id, version, expires_at, document, uri, metadata } =
            decode(bytes, "a record")?;
        Ok(Self {
            id,
            document: document.map(Into::into),
            uri,
            metadata: metadata.map(metadata_from_disk).map(Arc::new),
            version,
            expires_at: expires_at.map(Timestamp),
        })
    }
}

/// A dense vector: little-endian f32, after a byte that says so.
pub(crate) fn encode_vector(vector: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + 4 * vector.len());
    bytes.push(VECTOR_F32);
    for x in vector {
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes
}

const VECTOR_F32: u8 = 1;

pub(crate) fn decode_vector(bytes: &[u8]) -> Result<Vec<f32>> {
    match bytes.split_first() {
        Some((&VECTOR_F32, rest)) if rest.len() % 4 == 0 => {
            let (chunks, _) = rest.as_chunks::<4>();
            Ok(chunks.iter().map(|c| f32::from_le_bytes(*c)).collect())
        }
        _ => Err(unreadable("a vector")),
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statistics {
    /// Records in the partition.
    pub(crate) records: u64,
    /// The next record's ordinal; never reused.
    pub(crate) next_ordinal: u64,
    /// Random, and another after every change of the partition's records: who has seen it has
    /// seen these very records. A sequence number could come back with a restored backup.
    #[serde(skip)]
    pub(crate) stamp: Option<Stamp>,
}

/// See [`Statistics::stamp`].
pub(crate) type Stamp = [u8; 16];

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskStatistics {
    V1(Statistics),
    V2(Statistics, Stamp),
}

impl DiskStatistics {
    pub(crate) fn into_statistics(self) -> Statistics {
        match self {
            Self::V1(statistics) => statistics,
            Self::V2(statistics, stamp) => Statistics { stamp: Some(stamp), ..statistics },
        }
    }
}
