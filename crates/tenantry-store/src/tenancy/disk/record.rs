//! Records and their counts.

use super::{DiskValue, decode, encode, metadata_from_disk, metadata_to_disk, unreadable};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};
use tenantry_types::{Limits, Metadata, Result, Timestamp};

/// A record without its vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Body {
    pub(crate) id: String,
    pub(crate) document: Option<Arc<str>>,
    pub(crate) uri: Option<String>,
    pub(crate) metadata: Option<Arc<Metadata>>,
    pub(crate) version: u64,
    pub(crate) expires_at: Option<Timestamp>,
    /// Unknown of a record from before bytes were counted.
    pub(crate) vectors: Option<VectorsOf>,
}

/// Which vectors a record has, so that whoever replaces or deletes it need not look for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct VectorsOf {
    /// A bit for the number of each name.
    pub(crate) names: u32,
    /// Bytes of all of them.
    pub(crate) bytes: u32,
}

impl VectorsOf {
    /// The bit of a name's number.
    pub(crate) fn bit(number: u16) -> u32 {
        1_u32.checked_shl(number.into()).unwrap_or(0)
    }

    /// What a record has that had these, once these are written; vectors of one name have one length.
    /// If nobody knows what it had, it must be given every one that there is.
    pub(crate) fn after(
        had: Option<Self>,
        given: &[(u16, Vec<f32>)],
        every: impl FnOnce() -> u32,
    ) -> Option<Self> {
        let mut has = had.unwrap_or_default();
        for (number, vector) in given {
            if has.names & Self::bit(*number) == 0 {
                has.names |= Self::bit(*number);
                let bytes = u32::try_from(size_of_val(vector.as_slice())).unwrap_or(u32::MAX);
                has.bytes = has.bytes.saturating_add(bytes);
            }
        }
        (had.is_some() || every() & !has.names == 0).then_some(has)
    }
}

// 0 is the unnamed one.
const _: () = assert!(Limits::NAMED_VECTORS_MAX < u32::BITS as usize);
const _: () =
    assert!((Limits::NAMED_VECTORS_MAX + 1) * Limits::DIMENSION_MAX * 4 < u32::MAX as usize);

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
    /// The same, and which vectors the record has.
    V2 {
        id: String,
        version: u64,
        expires_at: Option<u64>,
        document: Option<String>,
        uri: Option<String>,
        metadata: Option<BTreeMap<String, DiskValue>>,
        vectors: VectorsOf,
    },
}

impl Body {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (id, version) = (self.id.clone(), self.version);
        let expires_at = self.expires_at.map(|t| t.0);
        let (document, uri) = (self.document.as_deref().map(str::to_owned), self.uri.clone());
        let metadata = self.metadata.as_deref().map(metadata_to_disk);
        encode(&match self.vectors {
            None => DiskBody::V1 { id, version, expires_at, document, uri, metadata },
            Some(vectors) => {
                DiskBody::V2 { id, version, expires_at, document, uri, metadata, vectors }
            }
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let (id, version, expires_at, document, uri, metadata, vectors) =
            match decode(bytes, "a record")? {
                DiskBody::V1 { id, version, expires_at, document, uri, metadata } => {
                    (id, version, expires_at, document, uri, metadata, None)
                }
                DiskBody::V2 { id, version, expires_at, document, uri, metadata, vectors } => {
                    (id, version, expires_at, document, uri, metadata, Some(vectors))
                }
            };
        Ok(Self {
            id,
            document: document.map(Into::into),
            uri,
            metadata: metadata.map(metadata_from_disk).map(Arc::new),
            version,
            expires_at: expires_at.map(Timestamp),
            vectors,
        })
    }

    /// The bytes that are kept of the record, as they are counted: id, text, uri, metadata, and 4
    /// for each component of its vectors. None if it does not say which it has.
    pub(crate) fn logical_bytes(&self) -> Option<u64> {
        let VectorsOf { bytes, .. } = self.vectors?;
        let texts =
            self.document.as_deref().map_or(0, str::len) + self.uri.as_deref().map_or(0, str::len);
        let metadata = self.metadata.iter().flat_map(|all| all.iter());
        let metadata: usize = metadata.map(|(key, value)| key.len() + value.logical_bytes()).sum();
        Some((self.id.len() + texts + metadata) as u64 + u64::from(bytes))
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
    /// What they take; none of a partition that nobody has written to since bytes are counted.
    #[serde(skip)]
    pub(crate) kept: Option<Kept>,
}

/// What the records of a partition take: the sum of what they say themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Bytes of those that say it.
    pub(crate) bytes: u64,
    /// Records that do not, and are not in the sum.
    pub(crate) silent: u64,
}

impl Kept {
    /// Of one record.
    pub(crate) fn of(bytes: Option<u64>) -> Self {
        let mut kept = Self::default();
        kept.add(bytes);
        kept
    }

    /// One more record, or one in another form.
    pub(crate) fn add(&mut self, bytes: Option<u64>) {
        match bytes {
            Some(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            None => self.silent = self.silent.saturating_add(1),
        }
    }

    /// Without records that go.
    #[must_use]
    pub(crate) fn without(self, gone: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(gone.bytes),
            silent: self.silent.saturating_sub(gone.silent),
        }
    }
}

impl Statistics {
    /// What all records take; none if that is not known of some.
    pub(crate) fn bytes(&self) -> Option<u64> {
        match self.kept {
            _ if self.records == 0 => Some(0),
            Some(Kept { bytes, silent: 0 }) => Some(bytes),
            Some(_) | None => None,
        }
    }
}

/// See [`Statistics::stamp`].
pub(crate) type Stamp = [u8; 16];

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskStatistics {
    V1(Statistics),
    V2(Statistics, Stamp),
    V3(Statistics, Stamp, Kept),
}

impl DiskStatistics {
    pub(crate) fn new(statistics: Statistics, stamp: Stamp) -> Self {
        match statistics.kept {
            None => Self::V2(statistics, stamp),
            Some(kept) => Self::V3(statistics, stamp, kept),
        }
    }

    pub(crate) fn into_statistics(self) -> Statistics {
        match self {
            Self::V1(statistics) => statistics,
            Self::V2(statistics, stamp) => Statistics { stamp: Some(stamp), ..statistics },
            Self::V3(statistics, stamp, kept) => {
                Statistics { stamp: Some(stamp), kept: Some(kept), ..statistics }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_types::Value;

    fn body(vectors: Option<VectorsOf>) -> Body {
        Body {
            id: "ab".into(),
            document: Some("text".into()),
            uri: Some("u".into()),
            metadata: Some(Arc::new(Metadata::from([("k".into(), Value::Int(1))]))),
            version: 7,
            expires_at: None,
            vectors,
        }
    }

    #[test]
    fn a_record_says_what_it_takes_and_one_from_before_does_not() {
        let vectors = VectorsOf { names: 0b101, bytes: 16 };
        for (variant, vectors) in [(0, None), (1, Some(vectors))] {
            let body = body(vectors);
            let row = body.encode();
            assert_eq!(row[..2], [variant, 2]);
            assert_eq!(Body::decode(&row).unwrap(), body);
            let ends = row.ends_with(&[0b101, 16]);
            assert_eq!(ends, vectors.is_some());
            let bytes = vectors.map(|_| 2 + 4 + 1 + 1 + 8 + 16);
            assert_eq!(body.logical_bytes(), bytes);
        }
    }

    #[test]
    fn vectors_are_known_of_a_record_that_said_them_or_is_given_every_one() {
        let given =
            |numbers: &[u16]| numbers.iter().map(|n| (*n, vec![0.0; 3])).collect::<Vec<_>>();
        let after = |had, numbers: &[u16]| VectorsOf::after(had, &given(numbers), || 0b11);
        let some = |names, bytes| Some(VectorsOf { names, bytes });
        assert_eq!(after(some(0, 0), &[]), some(0, 0));
        assert_eq!(after(some(0, 0), &[0, 1]), some(0b11, 24));
        assert_eq!(after(some(0b1, 12), &[0, 1]), some(0b11, 24));
        assert_eq!(after(None, &[0]), None);
        assert_eq!(after(None, &[0, 1]), some(0b11, 24));
    }

    #[test]
    fn counts_are_read_as_they_were_written() {
        let plain = Statistics { records: 3, next_ordinal: 5, ..Statistics::default() };
        let stamp = [9; 16];
        for (variant, kept) in [(1, None), (2, Some(Kept { bytes: 300, silent: 1 }))] {
            let row = encode(&DiskStatistics::new(Statistics { kept, ..plain }, stamp));
            assert_eq!(row[..3], [variant, 3, 5]);
            let read: DiskStatistics = decode(&row, "counts").unwrap();
            let want = Statistics { kept, stamp: Some(stamp), ..plain };
            assert_eq!(read.into_statistics(), want);
            assert_eq!(want.bytes(), None);
            assert_eq!(Statistics { records: 0, ..want }.bytes(), Some(0));
        }
        let whole = Statistics { kept: Some(Kept { bytes: 300, silent: 0 }), ..plain };
        assert_eq!(whole.bytes(), Some(300));
    }
}
