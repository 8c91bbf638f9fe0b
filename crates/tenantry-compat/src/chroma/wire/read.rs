//! Bodies of get, query and delete, and the answers, written straight from the engine's records.

use super::{
    super::{body::HasVectors, error::Failure, filter, schema},
    capped::{capped, capped_option, short},
    metadata::MetadataView,
};
use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};
use serde_json::value::RawValue;
use tenantry_engine::{
    CollectionInfo, GetRequest, Hit, Include, Limits, Order, Page, QueryRequest, Record, RecordId,
    Selector,
};

/// The neighbours that a query without `n_results` returns.
const RESULTS: u32 = 10;

/// A column of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Distances,
    Documents,
    Embeddings,
    Metadatas,
    Uris,
}

/// The columns that were asked for, in the caller's order.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Parts(#[serde(deserialize_with = "short::<_, _, 16>")] Vec<Part>);

impl Parts {
    fn of_get() -> Self {
        Self(vec![Part::Documents, Part::Metadatas])
    }

    fn of_query() -> Self {
        Self(vec![Part::Documents, Part::Metadatas, Part::Distances])
    }

    fn has(&self, part: Part) -> bool {
        self.0.contains(&part)
    }

    fn include(&self) -> Include {
        Include {
            vector: self.has(Part::Embeddings),
            document: self.has(Part::Documents),
            uri: self.has(Part::Uris),
            metadata: self.has(Part::Metadatas),
            // This protocol has no named vectors.
            vectors: false,
        }
    }
}

/// The body of a get.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Get {
    #[serde(default, deserialize_with = "capped_option::<_, _, { Limits::IDS_MAX }>")]
    ids: Option<Vec<String>>,
    #[serde(default, rename = "where")]
    metadata: Option<Box<RawValue>>,
    #[serde(default, rename = "where_document")]
    document: Option<Box<RawValue>>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    offset: Option<u32>,
    #[serde(default = "Parts::of_get")]
    include: Parts,
}

impl Get {
    /// What to ask the engine, and the columns to show.
    pub(crate) fn into_request(
        self,
        info: &CollectionInfo,
    ) -> Result<(GetRequest, Parts), Failure> {
        let request = GetRequest {
            select: selector(self.ids, self.metadata.as_deref(), self.document.as_deref(), info)?,
            order: Order::Insertion,
            page: Page {
                limit: self.limit.map(|limit| limit as usize),
                offset: self.offset.unwrap_or(0) as usize,
            },
            include: self.include.include(),
        };
        Ok((request, self.include))
    }
}

/// The body of a query.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Query {
    #[serde(deserialize_with = "capped::<_, _, { Limits::BATCH_RECORDS_MAX }>")]
    query_embeddings: Vec<Vec<f32>>,
    #[serde(default)]
    n_results: Option<u32>,
    #[serde(default, deserialize_with = "capped_option::<_, _, { Limits::IDS_MAX }>")]
    ids: Option<Vec<String>>,
    #[serde(default, rename = "where")]
    metadata: Option<Box<RawValue>>,
    #[serde(default, rename = "where_document")]
    document: Option<Box<RawValue>>,
    #[serde(default = "Parts::of_query")]
    include: Parts,
}

impl HasVectors for Query {
    const MEMBER: &str = "query_embeddings";

    fn put(&mut self, vectors: Vec<Vec<f32>>) {
        self.query_embeddings = vectors;
    }
}

impl Query {
    /// What to ask the engine, and the columns to show.
    pub(crate) fn into_request(
        self,
        info: &CollectionInfo,
    ) -> Result<(QueryRequest, Parts), Failure> {
        let request = QueryRequest {
            using: None,
            vectors: self.query_embeddings,
            k: self.n_results.unwrap_or(RESULTS) as usize,
            select: selector(self.ids, self.metadata.as_deref(), self.document.as_deref(), info)?,
            include: self.include.include(),
            exact: false,
        };
        Ok((request, self.include))
    }
}

/// The body of a delete.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(crate) struct Delete {
    #[serde(default, deserialize_with = "capped_option::<_, _, { Limits::IDS_MAX }>")]
    ids: Option<Vec<String>>,
    #[serde(default, rename = "where")]
    metadata: Option<Box<RawValue>>,
    #[serde(default, rename = "where_document")]
    document: Option<Box<RawValue>>,
    #[serde(default)]
    limit: Option<u32>,
}

impl Delete {
    /// Which records to delete, and how many of them at most.
    pub(crate) fn into_selector(
        self,
        info: &CollectionInfo,
    ) -> Result<(Selector, Option<usize>), Failure> {
        let clauses = self.metadata.is_some() || self.document.is_some();
        if self.ids.as_ref().is_some_and(Vec::is_empty) && !clauses {
            return Err(Failure::invalid(
                "Validation error: ids, where: Either ids or where must be specified",
            ));
        }
        if self.limit.is_some() && !clauses {
            return Err(Failure::invalid(
                "Validation error: limit, where: limit can only be specified when a where clause \
                 is provided",
            ));
        }
        let select = selector(self.ids, self.metadata.as_deref(), self.document.as_deref(), info)?;
        Ok((select, self.limit.map(|limit| limit as usize)))
    }
}

fn selector(
    ids: Option<Vec<String>>,
    metadata: Option<&RawValue>,
    document: Option<&RawValue>,
    info: &CollectionInfo,
) -> Result<Selector, Failure> {
    let filter = filter::parse(metadata, document)?;
    if let Some(filter) = &filter {
        schema::permit(info, filter)?;
    }
    // Text that cannot be an id is the id of nothing.
    let ids = ids.map(|ids| ids.into_iter().filter_map(|id| RecordId::parse(id).ok()).collect());
    Ok(Selector { ids, filter })
}

/// One column of an answer.
struct Column<'a, T, F>(&'a [T], F);

impl<'a, T, F, V> Serialize for Column<'a, T, F>
where
    F: Fn(&'a T) -> V,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(&self.1))
    }
}

fn id(record: &Record) -> &str {
    record.id.as_str()
}

fn embedding(record: &Record) -> Option<&[f32]> {
    record.vector.as_deref()
}

fn document(record: &Record) -> Option<&str> {
    record.document.as_deref()
}

fn uri(record: &Record) -> Option<&str> {
    record.uri.as_deref()
}

fn metadata(record: &Record) -> Option<MetadataView<'_>> {
    MetadataView::of(record.metadata.as_deref())
}

/// The answer to a get: a column that was not asked for is null.
#[derive(Debug)]
pub(crate) struct GetView {
    /// The records.
    pub(crate) records: Vec<Record>,
    /// The columns to show.
    pub(crate) parts: Parts,
}

impl Serialize for GetView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { records, parts } = self;
        let mut out = serializer.serialize_struct("Get", 6)?;
        out.serialize_field("ids", &Column(records, id))?;
        let show = |part| parts.has(part).then_some(records.as_slice());
        let embeddings = show(Part::Embeddings).map(|all| Column(all, embedding));
        out.serialize_field("embeddings", &embeddings)?;
        let documents = show(Part::Documents).map(|all| Column(all, document));
        out.serialize_field("documents", &documents)?;
        out.serialize_field("uris", &show(Part::Uris).map(|all| Column(all, uri)))?;
        let metadatas = show(Part::Metadatas).map(|all| Column(all, metadata));
        out.serialize_field("metadatas", &metadatas)?;
        out.serialize_field("include", parts)?;
        out.end()
    }
}

/// The answer to a query: columns of one list for each query vector.
#[derive(Debug)]
pub(crate) struct QueryView {
    /// The neighbours of each query vector.
    pub(crate) hits: Vec<Vec<Hit>>,
    /// The columns to show.
    pub(crate) parts: Parts,
}

/// One column of a query's answer.
struct Columns<'a, F>(&'a [Vec<Hit>], F);

impl<'a, F, V> Serialize for Columns<'a, F>
where
    F: Fn(&'a Hit) -> V + Copy,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|hits| Column(hits, self.1)))
    }
}

/// A record's part of a hit.
fn of<'a, V>(part: impl Fn(&'a Record) -> V + Copy) -> impl Fn(&'a Hit) -> V + Copy {
    move |hit| part(&hit.record)
}

impl Serialize for QueryView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { hits, parts } = self;
        let mut out = serializer.serialize_struct("Query", 7)?;
        out.serialize_field("ids", &Columns(hits, of(id)))?;
        let show = |part| parts.has(part).then_some(hits.as_slice());
        let embeddings = show(Part::Embeddings).map(|all| Columns(all, of(embedding)));
        out.serialize_field("embeddings", &embeddings)?;
        let documents = show(Part::Documents).map(|all| Columns(all, of(document)));
        out.serialize_field("documents", &documents)?;
        out.serialize_field("uris", &show(Part::Uris).map(|all| Columns(all, of(uri))))?;
        let metadatas = show(Part::Metadatas).map(|all| Columns(all, of(metadata)));
        out.serialize_field("metadatas", &metadatas)?;
        let distances = show(Part::Distances).map(|all| Columns(all, |hit: &Hit| hit.distance));
        out.serialize_field("distances", &distances)?;
        out.serialize_field("include", parts)?;
        out.end()
    }
}

/// How fresh a count must be. Here a write is in every count from its answer on.
#[derive(Debug, Deserialize)]
enum ReadLevel {
    #[serde(rename = "index_and_wal")]
    All,
    #[serde(rename = "index_and_bounded_wal")]
    Bounded,
    #[serde(rename = "index_only")]
    Indexed,
}

/// The query string of a count.
#[derive(Debug, Deserialize)]
pub(crate) struct Count {
    #[serde(default)]
    #[expect(dead_code, reason = "checked for its form; every level is the same here")]
    read_level: Option<ReadLevel>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tenantry_engine::{
        CollectionId, CollectionName, CollectionNumber, DatabaseNumber, Metadata, Metric,
        Timestamp, Value, VectorStorage,
    };

    fn info() -> CollectionInfo {
        CollectionInfo {
            database: DatabaseNumber(1),
            number: CollectionNumber(1),
            id: CollectionId([0; 16]),
            name: CollectionName::parse("abc").unwrap(),
            metric: Metric::L2,
            dimension: None,
            storage: VectorStorage::Full,
            vectors: BTreeMap::new(),
            last_vector: 0,
            metadata: None,
            attributes: BTreeMap::new(),
            created_at: Timestamp(0),
        }
    }

    fn record(id: &str, metadata: Option<Metadata>) -> Record {
        Record {
            id: RecordId::parse(id).unwrap(),
            vector: Some(vec![0.1, 2.0]),
            vectors: BTreeMap::new(),
            document: Some("x\"y".into()),
            uri: None,
            metadata: metadata.map(Into::into),
            version: 1,
            expires_at: None,
        }
    }

    fn get(json: &str) -> Result<(GetRequest, Parts), u16> {
        let body: Get = serde_json::from_str(json).map_err(|_| 422_u16)?;
        body.into_request(&info()).map_err(|f| f.parts().0)
    }

    #[test]
    fn a_get_says_what_it_leaves_out() {
        let (request, parts) = get("{}").unwrap();
        assert_eq!(request.select, Selector::default());
        assert_eq!(request.page, Page::default());
        let records = vec![record("a", Some(Metadata::from([("k".into(), Value::Float(1.0))])))];
        assert_eq!(
            serde_json::to_string(&GetView { records, parts }).unwrap(),
            concat!(
                r#"{"ids":["a"],"embeddings":null,"documents":["x\"y"],"uris":null,"#,
                r#""metadatas":[{"k":1.0}],"include":["documents","metadatas"]}"#
            )
        );
        let (_, parts) = get(r#"{"include":["embeddings","uris","metadatas"]}"#).unwrap();
        let records = vec![record("a", Some(Metadata::new()))];
        assert_eq!(
            serde_json::to_string(&GetView { records, parts }).unwrap(),
            concat!(
                r#"{"ids":["a"],"embeddings":[[0.1,2.0]],"documents":null,"uris":[null],"#,
                r#""metadatas":[null],"include":["embeddings","uris","metadatas"]}"#
            )
        );
    }

    #[test]
    fn a_query_answers_in_nested_columns() {
        let body: Query = serde_json::from_str(r#"{"query_embeddings":[[1,2],[3,4]]}"#).unwrap();
        let (request, parts) = body.into_request(&info()).unwrap();
        assert_eq!((request.k, request.vectors.len()), (10, 2));
        let hits = vec![vec![Hit { record: record("a", None), distance: 0.5 }], Vec::new()];
        assert_eq!(
            serde_json::to_string(&QueryView { hits, parts }).unwrap(),
            concat!(
                r#"{"ids":[["a"],[]],"embeddings":null,"documents":[["x\"y"],[]],"uris":null,"#,
                r#""metadatas":[[null],[]],"distances":[[0.5],[]],"#,
                r#""include":["documents","metadatas","distances"]}"#
            )
        );
        let base64 = r#"{"query_embeddings":["AACAPwAAAEA="]}"#;
        assert!(serde_json::from_str::<Query>(base64).is_err());
    }

    #[test]
    fn no_ids_are_not_all_ids() {
        assert_eq!(get(r#"{"ids":[]}"#).unwrap().0.select.ids, Some(Vec::new()));
        assert_eq!(get(r#"{"ids":null}"#).unwrap().0.select.ids, None);
        assert_eq!(get(r#"{"ids":["","a"]}"#).unwrap().0.select.ids.unwrap().len(), 1);
    }

    #[test]
    fn malformed_reads_are_refused() {
        for (status, json) in [
            (422, r#"{"include":null}"#),
            (422, r#"{"include":["data"]}"#),
            (422, r#"{"limit":-1}"#),
            (422, r#"{"limit":"1"}"#),
            (422, r#"{"ids":"a"}"#),
            (400, r#"{"where":{}}"#),
            (400, r#"{"where":5}"#),
            (400, r#"{"where_document":{}}"#),
            (400, r##"{"where":{"#document":"x"}}"##),
        ] {
            assert_eq!(get(json).map(|_| ()), Err(status), "{json}");
        }
        assert!(get(r#"{"where":null,"where_document":null,"other":1}"#).is_ok());
    }

    #[test]
    fn a_delete_without_a_choice_deletes_nothing() {
        let delete = |json: &str| {
            let body: Delete = serde_json::from_str(json).unwrap();
            body.into_selector(&info()).map_err(|f| f.parts().0)
        };
        assert_eq!(delete("{}"), Ok((Selector::default(), None)));
        assert_eq!(delete(r#"{"ids":[]}"#), Err(400));
        assert_eq!(delete(r#"{"ids":["a"],"limit":1}"#), Err(400));
        assert_eq!(delete(r#"{"where":{"k":1},"limit":1}"#).unwrap().1, Some(1));
    }
}
