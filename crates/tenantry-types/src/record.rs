//! Records and what may be written to them.

use crate::{RecordId, Timestamp, Value, VectorName};
use std::{collections::BTreeMap, sync::Arc};

/// A record's metadata: keys in byte order.
pub type Metadata = BTreeMap<String, Value>;

/// A change of metadata: `Some` sets a key, `None` removes it, keys not named stay.
pub type MetadataPatch = BTreeMap<String, Option<Value>>;

/// A stored record, with only the parts that were asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The record's id.
    pub id: RecordId,
    /// The unnamed vector, as it was given (not normalised).
    pub vector: Option<Vec<f32>>,
    /// The named vectors that the record has, as they were given; empty if they were not asked
    /// for.
    pub vectors: BTreeMap<VectorName, Vec<f32>>,
    /// The text.
    pub document: Option<Arc<str>>,
    /// Where the original lives.
    pub uri: Option<String>,
    /// The metadata; `None` if the record has none or it was not asked for.
    pub metadata: Option<Arc<Metadata>>,
    /// The tenant-local commit that last wrote this record.
    pub version: u64,
    /// When the record expires, if it does.
    pub expires_at: Option<Timestamp>,
}

/// The bytes of a record as they are counted, whatever they take anywhere.
fn logical_bytes<'a>(
    id: &RecordId,
    vectors: impl Iterator<Item = &'a Vec<f32>>,
    texts: [Option<&str>; 2],
    metadata: impl Iterator<Item = (&'a String, Option<&'a Value>)>,
) -> u64 {
    let vectors = vectors.map(|vector| size_of_val(vector.as_slice())).sum::<usize>();
    let texts = texts.into_iter().flatten().map(str::len).sum::<usize>();
    let metadata = metadata.map(|(key, value)| key.len() + value.map_or(0, Value::logical_bytes));
    (id.as_str().len() + vectors + texts + metadata.sum::<usize>()) as u64
}

impl Record {
    /// The bytes of what was asked for of it, as they are counted.
    pub fn logical_bytes(&self) -> u64 {
        let vectors = self.vector.iter().chain(self.vectors.values());
        let metadata = self.metadata.iter().flat_map(|all| all.iter());
        let metadata = metadata.map(|(key, value)| (key, Some(value)));
        logical_bytes(&self.id, vectors, [self.document.as_deref(), self.uri.as_deref()], metadata)
    }
}

impl RecordWrite {
    /// The bytes of what is written, as they are counted.
    pub fn logical_bytes(&self) -> u64 {
        let vectors = self.vector.iter().chain(self.vectors.values());
        let metadata = self.metadata.iter().map(|(key, value)| (key, value.as_ref()));
        logical_bytes(&self.id, vectors, [self.document.as_deref(), self.uri.as_deref()], metadata)
    }
}

/// One record as a caller writes it. What is `None` stays as it is on an existing record.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordWrite {
    /// The record's id.
    pub id: RecordId,
    /// The new unnamed vector.
    pub vector: Option<Vec<f32>>,
    /// New named vectors; those not named stay.
    pub vectors: BTreeMap<VectorName, Vec<f32>>,
    /// The new text. Cannot be cleared, but may be empty.
    pub document: Option<String>,
    /// The new uri. Cannot be cleared, but may be empty.
    pub uri: Option<String>,
    /// Metadata to merge.
    pub metadata: MetadataPatch,
}

impl RecordWrite {
    /// A record that says nothing but its id.
    pub fn new(id: RecordId) -> Self {
        Self {
            id,
            vector: None,
            vectors: BTreeMap::new(),
            document: None,
            uri: None,
            metadata: MetadataPatch::new(),
        }
    }
}

/// What to do with an id that exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Leave it untouched and go on.
    Skip,
    /// Refuse the whole batch.
    Fail,
}

/// What to do with an id that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Go on without it.
    Skip,
    /// Refuse the whole batch.
    Fail,
}

/// How a batch of records is applied. A batch is atomic in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Insert new records.
    Add(Existing),
    /// Insert new records and merge into existing ones.
    Upsert,
    /// Merge into existing records.
    Update(Missing),
}

/// What a batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WriteOutcome {
    /// Records that did not exist before.
    pub inserted: usize,
    /// Records that were changed.
    pub updated: usize,
    /// Records left alone by [`Existing::Skip`] or [`Missing::Skip`].
    pub skipped: usize,
    /// The tenant-local commit; 0 if nothing was written.
    pub version: u64,
}
