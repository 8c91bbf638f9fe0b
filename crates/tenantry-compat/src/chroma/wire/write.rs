//! Bodies of add, upsert and update: columns of equal length.

use super::{
    super::{body::HasVectors, error::Failure},
    capped::{capped, capped_option},
    embedding::Embedding,
    metadata::Fields,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use tenantry_engine::{Existing, Limits, Missing, RecordId, RecordWrite, WriteMode};

/// What a write does with ids that exist and ids that do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Inserts; ids that exist are left alone.
    Add,
    /// Inserts or merges.
    Upsert,
    /// Merges; ids that do not exist are left out.
    Update,
}

impl Verb {
    /// The engine's word for it.
    pub(crate) fn mode(self) -> WriteMode {
        match self {
            Self::Add => WriteMode::Add(Existing::Skip),
            Self::Upsert => WriteMode::Upsert,
            Self::Update => WriteMode::Update(Missing::Skip),
        }
    }
}

/// Of each column no more is kept than may be written.
const ROWS_MAX: usize = Limits::BATCH_RECORDS_MAX;

/// The body of a write.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Write {
    #[serde(deserialize_with = "capped::<_, _, ROWS_MAX>")]
    ids: Vec<String>,
    #[serde(default, deserialize_with = "capped_option::<_, _, ROWS_MAX>")]
    embeddings: Option<Vec<Option<Embedding>>>,
    #[serde(default, deserialize_with = "capped_option::<_, _, ROWS_MAX>")]
    metadatas: Option<Vec<Option<Fields>>>,
    #[serde(default, deserialize_with = "capped_option::<_, _, ROWS_MAX>")]
    documents: Option<Vec<Option<String>>>,
    #[serde(default, deserialize_with = "capped_option::<_, _, ROWS_MAX>")]
    uris: Option<Vec<Option<String>>>,
}

impl HasVectors for Write {
    const MEMBER: &str = "embeddings";

    fn put(&mut self, vectors: Vec<Vec<f32>>) {
        let vectors = vectors.into_iter().map(|vector| Some(Embedding::Components(vector)));
        self.embeddings = Some(vectors.collect());
    }
}

impl Write {
    /// The records that the columns hold.
    pub(crate) fn into_records(self, verb: Verb) -> Result<Vec<RecordWrite>, Failure> {
        let Self { ids, embeddings, metadatas, documents, uris } = self;
        if embeddings.is_none() && verb != Verb::Update {
            return Err(Failure::shape("missing field `embeddings`"));
        }
        let count = ids.len();
        let mut embeddings = column(embeddings, count)?;
        let mut metadatas = column(metadatas, count)?;
        let mut documents = column(documents, count)?;
        let mut uris = column(uris, count)?;
        let mut records = Vec::with_capacity(count);
        for (index, id) in ids.into_iter().enumerate() {
            let metadata = metadatas.next().flatten();
            records.push(RecordWrite {
                id: RecordId::parse(id)?,
                vector: vector(embeddings.next().flatten(), index, verb)?,
                vectors: BTreeMap::new(),
                document: documents.next().flatten(),
                uri: uris.next().flatten(),
                metadata: metadata
                    .map(|fields| fields.into_patch(index, verb == Verb::Add))
                    .transpose()?
                    .unwrap_or_default(),
            });
        }
        Ok(records)
    }
}

/// A column's items; none at all if the column was not sent.
fn column<T>(
    column: Option<Vec<Option<T>>>,
    count: usize,
) -> Result<impl Iterator<Item = Option<T>>, Failure> {
    if column.as_ref().is_some_and(|column| column.len() != count) {
        return Err(Failure::invalid(
            "Inconsistent number of IDs, embeddings, documents, URIs and metadatas",
        ));
    }
    Ok(column.into_iter().flatten())
}

fn vector(sent: Option<Embedding>, index: usize, verb: Verb) -> Result<Option<Vec<f32>>, Failure> {
    match sent {
        Some(Embedding::Components(components)) => Ok(Some(components)),
        Some(Embedding::Unreadable(why)) => Err(Failure::invalid(why)),
        None if verb == Verb::Update => Ok(None),
        None => Err(Failure::shape(format!(
            "embeddings[{index}]: invalid type: null, expected a list of numbers or a base64 string"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_engine::Value;

    fn records(json: &str, verb: Verb) -> Result<Vec<RecordWrite>, u16> {
        let body: Write = serde_json::from_str(json).map_err(|_| 422_u16)?;
        body.into_records(verb).map_err(|failure| failure.parts().0)
    }

    #[test]
    fn columns_become_records() {
        let json = r#"{"ids":["a","b"],"embeddings":[[1,2],"AACAPwAAAEA="],
            "metadatas":[{"k":1},null],"documents":[null,""],"uris":["u",null],"other":1}"#;
        let all = records(json, Verb::Add).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].vector, all[1].vector);
        assert_eq!(all[0].metadata["k"], Some(Value::Int(1)));
        assert_eq!(all[1].metadata.len(), 0);
        assert_eq!((all[0].document.as_deref(), all[1].document.as_deref()), (None, Some("")));
        assert_eq!((all[0].uri.as_deref(), all[1].uri.as_deref()), (Some("u"), None));
    }

    #[test]
    fn only_an_update_may_leave_vectors_out() {
        for json in [r#"{"ids":["a"]}"#, r#"{"ids":["a"],"embeddings":[null]}"#] {
            assert_eq!(records(json, Verb::Update).unwrap()[0].vector, None);
            assert_eq!(records(json, Verb::Add), Err(422));
            assert_eq!(records(json, Verb::Upsert), Err(422));
        }
        assert_eq!(records(r#"{"ids":[],"embeddings":[]}"#, Verb::Add), Ok(Vec::new()));
    }

    #[test]
    fn malformed_columns_are_refused() {
        for (status, json) in [
            (400, r#"{"ids":["a","b"],"embeddings":[[1]]}"#),
            (400, r#"{"ids":["a"],"embeddings":[[1]],"documents":[]}"#),
            (400, r#"{"ids":[""],"embeddings":[[1]]}"#),
            (400, r#"{"ids":["a"],"embeddings":["!!"]}"#),
            (422, r#"{"ids":[1],"embeddings":[[1]]}"#),
            (422, r#"{"ids":"a","embeddings":[[1]]}"#),
            (422, r#"{"embeddings":[[1]]}"#),
            (422, r#"{"ids":["a"],"embeddings":[[1]],"metadatas":[5]}"#),
            (422, r#"{"ids":["a"],"embeddings":[[1]],"documents":[5]}"#),
            (422, r#"{"ids":["a"],"embeddings":[[1]],"uris":5}"#),
        ] {
            assert_eq!(records(json, Verb::Add), Err(status), "{json}");
        }
    }
}
