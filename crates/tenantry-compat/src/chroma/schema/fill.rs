//! Defaults for the places that a requested schema left open.

use super::{FloatListIndexes, SparseConfig, SparseVectorIndexes, StringIndexes, ValueTypes};

/// Fills every place of one set of indexes.
pub(super) fn fill(own: &mut ValueTypes, default: ValueTypes) {
    fill_option(&mut own.string, default.string, fill_string);
    fill_option(&mut own.float_list, default.float_list, fill_vectors);
    fill_option(&mut own.sparse_vector, default.sparse_vector, fill_sparse);
    fill_option(&mut own.int, default.int, |own, d| {
        own.int_inverted_index = own.int_inverted_index.take().or(d.int_inverted_index);
    });
    fill_option(&mut own.float, default.float, |own, d| {
        own.float_inverted_index = own.float_inverted_index.take().or(d.float_inverted_index);
    });
    fill_option(&mut own.bool, default.bool, |own, d| {
        own.bool_inverted_index = own.bool_inverted_index.take().or(d.bool_inverted_index);
    });
}

/// Fills a place, or what is in it.
pub(super) fn fill_option<T>(
    own: &mut Option<T>,
    default: Option<T>,
    inner: impl FnOnce(&mut T, T),
) {
    match (own.as_mut(), default) {
        (Some(own), Some(default)) => inner(own, default),
        (None, default) => *own = default,
        (Some(_), None) => {}
    }
}

/// Fills the indexes of texts.
pub(super) fn fill_string(own: &mut StringIndexes, default: StringIndexes) {
    own.fts_index = own.fts_index.take().or(default.fts_index);
    own.string_inverted_index = own.string_inverted_index.take().or(default.string_inverted_index);
}

fn fill_sparse(own: &mut SparseVectorIndexes, default: SparseVectorIndexes) {
    fill_option(&mut own.sparse_vector_index, default.sparse_vector_index, |own, default| {
        let config = &mut own.config;
        let SparseConfig { embedding_function, bm25, .. } = default.config;
        config.embedding_function = config.embedding_function.take().or(embedding_function);
        config.bm25 = config.bm25.or(bm25);
    });
}

/// Fills the index of vectors.
pub(super) fn fill_vectors(own: &mut FloatListIndexes, default: FloatListIndexes) {
    fill_option(&mut own.vector_index, default.vector_index, |own, default| {
        let config = &mut own.config;
        config.spann = None;
        config.space = config.space.or(default.config.space);
        config.source_key = config.source_key.take().or(default.config.source_key);
        config.hnsw = config.hnsw.take().or(default.config.hnsw);
    });
}
