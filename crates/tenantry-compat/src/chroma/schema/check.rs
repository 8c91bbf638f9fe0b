//! What a requested schema may not say.

use super::{EMBEDDING, Index, Nothing, Schema, ValueTypes};
use crate::chroma::{error::Failure, filter::DOCUMENT};

/// Refuses what a schema may not say, in Chroma's words.
pub(super) fn check(schema: &Schema) -> Result<(), Failure> {
    let wrong = |why: String| Err(Failure::invalid(format!("Validation error: schema: {why}")));
    if schema.cmek.is_some() {
        // Taking it silently would promise an encryption that does not happen.
        return Err(Failure::unsupported(
            "schema: customer-managed keys (cmek) are not supported through this protocol",
        ));
    }
    if schema.source_attached_function_id.is_some() {
        return wrong(
            "Cannot set source_attached_function_id. This field is reserved for system use."
                .to_owned(),
        );
    }
    let on = Enabled::of(&schema.defaults);
    if let Some((what, place)) = match on {
        Enabled { vector: true, .. } => Some(("Vector index", "#embedding field")),
        Enabled { text: true, .. } => {
            Some(("Full text search / regular expression index", "#document field"))
        }
        Enabled { sparse: true, .. } => Some(("Sparse vector index", "specific keys")),
        Enabled { .. } => None,
    } {
        return wrong(format!(
            "{what} cannot be enabled by default. It can only be enabled on {place}."
        ));
    }
    schema.keys.iter().try_for_each(|(key, types)| check_key(key, types).or_else(wrong))?;
    if schema.keys.values().any(|types| Enabled::of(types).sparse) {
        return Err(Failure::invalid(
            "Failed to reconcile schema: Invalid schema input: Sparse vector indexing is not \
             enabled in local",
        ));
    }
    Ok(())
}

fn check_key(key: &str, types: &ValueTypes) -> Result<(), String> {
    let ValueTypes { string, float_list, sparse_vector, int, float, bool } = types;
    let others = sparse_vector.is_some() || int.is_some() || float.is_some() || bool.is_some();
    let on = Enabled::of(types);
    match key {
        DOCUMENT if others || float_list.is_some() => {
            Err(format!("Document field cannot have any value types other than string: {key}"))
        }
        DOCUMENT if on.string => {
            Err(format!("String inverted index can not be enabled on #document key: {key}"))
        }
        EMBEDDING if others || string.is_some() => {
            Err(format!("Embedding field cannot have any value types other than float_list: {key}"))
        }
        EMBEDDING if on.source.is_some_and(|source| source != DOCUMENT) => {
            Err("Vector index can only source from #document".to_owned())
        }
        DOCUMENT | EMBEDDING => Ok(()),
        _ if key.starts_with('#') => Err(format!(
            "key cannot begin with '#'. Keys starting with '#' are reserved for system use: {key}"
        )),
        _ if on.text => Err(format!(
            "Full text search / regular expression index can only be enabled on #document field: \
             {key}"
        )),
        _ if on.vector => {
            Err(format!("Vector index can only be enabled on #embedding field: {key}"))
        }
        _ => Ok(()),
    }
}

/// What a place in a schema switches on.
#[expect(clippy::struct_excessive_bools, reason = "four independent indexes")]
struct Enabled<'a> {
    text: bool,
    string: bool,
    vector: bool,
    sparse: bool,
    source: Option<&'a str>,
}

impl<'a> Enabled<'a> {
    fn of(types: &'a ValueTypes) -> Self {
        let string = types.string.as_ref();
        let vector = types.float_list.as_ref().and_then(|t| t.vector_index.as_ref());
        let sparse = types.sparse_vector.as_ref().and_then(|t| t.sparse_vector_index.as_ref());
        let nothing = |index: Option<&Index<Nothing>>| index.is_some_and(|i| i.enabled);
        Self {
            text: nothing(string.and_then(|t| t.fts_index.as_ref())),
            string: nothing(string.and_then(|t| t.string_inverted_index.as_ref())),
            vector: vector.is_some_and(|i| i.enabled),
            sparse: sparse.is_some_and(|i| i.enabled),
            source: vector.and_then(|i| i.config.source_key.as_deref()),
        }
    }
}
