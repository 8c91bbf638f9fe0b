//! The records of an answer in the making, within its largest size.

use super::disk::Body;
use crate::surface::answer_too_large;
use std::collections::BTreeMap;
use tenantry_types::{Error, Include, Limits, Metadata, Record, RecordId, Result, VectorName};

/// The records of an answer in the making, within [`Limits::ANSWER_BYTES_MAX`]: a request of a
/// few bytes must not make an answer of gigabytes.
pub(crate) struct Records {
    pub(crate) records: Vec<Record>,
    include: Include,
    bytes_left: usize,
    pushed: usize,
    pub(crate) later: Vec<Later>,
}

impl Records {
    pub(crate) fn new(include: Include) -> Self {
        let (bytes_left, later) = (Limits::ANSWER_BYTES_MAX, Vec::new());
        Self { records: Vec::new(), include, bytes_left, pushed: 0, later }
    }

    pub(crate) fn include(&self) -> Include {
        self.include
    }

    /// Takes off what is left for the answer.
    pub(crate) fn count(&mut self, bytes: usize) -> Result<()> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(answer_too_large)?;
        Ok(())
    }

    /// Gives the record that was added last a vector, which was counted before.
    pub(crate) fn set_vector(&mut self, name: Option<&VectorName>, vector: Vec<f32>) {
        if let Some(record) = self.records.last_mut() {
            match name {
                None => record.vector = Some(vector),
                Some(name) => drop(record.vectors.insert(name.clone(), vector)),
            }
        }
    }

    /// Notes that vectors of the record that was added last are to be read from disk.
    pub(crate) fn read_later(&mut self, ordinal: u64) {
        let at = self.pushed.saturating_sub(1);
        if self.later.last().is_none_or(|last| last.at != at) {
            self.later.push(Later { at, ordinal });
        }
    }

    /// Adds the asked parts of a row but its vectors.
    pub(crate) fn push(&mut self, row: &Body) -> Result<()> {
        let include = self.include;
        let record = Record {
            id: RecordId::parse(row.id.as_str())
                .map_err(|why| Error::corrupt("a record's id").with_source(why))?,
            vector: None,
            vectors: BTreeMap::new(),
            document: row.document.as_ref().filter(|_| include.document).cloned(),
            uri: row.uri.as_ref().filter(|_| include.uri).cloned(),
            metadata: row.metadata.as_ref().filter(|_| include.metadata).cloned(),
            version: row.version,
            expires_at: row.expires_at,
        };
        self.count(weight(&record))?;
        self.pushed += 1;
        self.records.push(record);
        Ok(())
    }
}

/// A record whose vectors are not in memory as they were given: they are to be read from disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Later {
    /// Which of the answer's records, counted over all its lists.
    pub(crate) at: usize,
    pub(crate) ordinal: u64,
}

/// The bytes that a record counts in an answer.
pub(crate) fn weight(record: &Record) -> usize {
    let vectors = record.vector.iter().chain(record.vectors.values());
    size_of::<Record>()
        + record.id.as_str().len()
        + record.document.as_ref().map_or(0, |text| text.len())
        + record.uri.as_ref().map_or(0, String::len)
        + record.metadata.as_ref().map_or(0, |all| metadata_bytes(all))
        + vectors.map(|vector| size_of_val(vector.as_slice())).sum::<usize>()
}

fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| 64 + key.len() + value.bytes()).sum()
}

/// A distance as callers are told it: what overflows is the largest number there is, because JSON
/// has neither an infinity nor what is no number.
pub(crate) fn finite(distance: f32) -> f32 {
    if distance.is_nan() { f32::MAX } else { distance.clamp(f32::MIN, f32::MAX) }
}
