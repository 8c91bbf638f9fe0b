//! The metadata keys that a collection's records were seen to have.
//!
//! Chroma adds a key to a collection's schema when a record first has it. Here each pair of key
//! and kind of value is an attribute of the collection: a set that several writers can extend at
//! once without losing anything. New pairs are part of the commit that writes the records.

use super::schema::Kind;
use std::collections::{BTreeMap, HashSet};
use tenantry_engine::{CollectionInfo, RecordWrite};

const PREFIX: &str = "chroma.key.";

/// The most pairs that are remembered for a collection. Beyond it, and for long keys, a schema
/// does not grow: a tenant that makes up keys must not make its catalog heavy.
const PAIRS_MAX: usize = 1_000;
const KEY_BYTES_MAX: usize = 128;

const KINDS: [(&str, Kind); 4] =
    [("str:", Kind::Str), ("int:", Kind::Int), ("float:", Kind::Float), ("bool:", Kind::Bool)];

/// The pairs that were seen in the collection.
pub(crate) fn seen(info: &CollectionInfo) -> impl Iterator<Item = (&str, Kind)> {
    info.attributes.keys().filter_map(|name| {
        let pair = name.strip_prefix(PREFIX)?;
        KINDS.iter().find_map(|(word, kind)| Some((pair.strip_prefix(word)?, *kind)))
    })
}

/// The attributes for pairs in these records that the collection does not have yet.
pub(crate) fn unseen(info: &CollectionInfo, records: &[RecordWrite]) -> BTreeMap<String, String> {
    let mut new = BTreeMap::new();
    let mut looked_at = HashSet::new();
    let fields = records.iter().flat_map(|record| &record.metadata);
    for (key, value) in fields {
        let Some(kind) = value.as_ref().and_then(Kind::of) else { continue };
        if !looked_at.insert((key, kind)) || key.len() > KEY_BYTES_MAX {
            continue;
        }
        let attribute = attribute(key, kind);
        if !info.attributes.contains_key(&attribute) {
            new.insert(attribute, String::new());
        }
        if info.attributes.len() + new.len() >= PAIRS_MAX {
            break;
        }
    }
    new
}

fn attribute(key: &str, kind: Kind) -> String {
    let word = KINDS.iter().find(|(_, one)| *one == kind).map_or("", |(word, _)| word);
    format!("{PREFIX}{word}{key}")
}
