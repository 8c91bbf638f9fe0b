//! Records, row by row.

use super::{
    capped::{capped, capped_option, short},
    described::{Components, Filter, Metadata, MetadataPatch, RecordIdText, VectorNameText},
    floats::Floats,
    value::{MetadataIn, MetadataOut},
    vector::{self, ByName},
};
use crate::filter::{FilterIn, holds_always};
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tenantry_engine::{
    Error, ErrorKind, Existing, Explain, GetRequest, Hit, Include, Limits, Missing, Order, Page,
    QueryRequest, Record, RecordId, RecordWrite, Result, SearchPlan, SearchStep, Selector,
    WriteMode, WriteOutcome,
};
use utoipa::ToSchema;

/// Records that a get answers with at most if it names no limit.
pub const GET_RECORDS_DEFAULT: usize = 1_000;
/// Records that one get may ask for.
pub const GET_RECORDS_MAX: usize = 100_000;
const K_DEFAULT: usize = 10;

/// One record as a caller writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecordIn {
    /// 1 to 8,192 bytes of UTF-8.
    #[schema(value_type = RecordIdText)]
    id: String,
    /// Finite 32-bit floats, as many as the collection's other vectors have.
    #[schema(value_type = Option<Components>)]
    vector: Option<Floats>,
    /// The named vectors, by name; those that are absent stay.
    #[serde(default)]
    #[schema(value_type = BTreeMap<VectorNameText, Components>)]
    vectors: ByName<Floats>,
    /// Text.
    document: Option<String>,
    /// Where the original lives.
    #[schema(max_length = 65_536)]
    uri: Option<String>,
    /// Scalars, or lists of scalars of one kind; `null` removes a key.
    #[serde(default)]
    #[schema(value_type = MetadataPatch)]
    metadata: MetadataIn,
}

fn records(rows: Vec<RecordIn>) -> Result<Vec<RecordWrite>> {
    let convert = |(index, row): (usize, RecordIn)| {
        Ok(RecordWrite {
            id: RecordId::parse(row.id).map_err(|why| at("records", index, &why))?,
            vector: row.vector.map(|Floats(vector)| vector),
            vectors: row.vectors.0.into_iter().map(|(name, Floats(one))| (name, one)).collect(),
            document: row.document,
            uri: row.uri,
            metadata: row.metadata.0,
        })
    };
    rows.into_iter().enumerate().map(convert).collect()
}

fn at(list: &str, index: usize, why: &Error) -> Error {
    Error::new(why.kind(), format!("{list}[{index}]: {why}"))
}

/// What to do with ids that exist, or do not.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Clash {
    /// Refuse the whole batch.
    #[default]
    Fail,
    /// Leave the record out.
    Skip,
}

/// Records to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddIn {
    #[serde(deserialize_with = "capped::<_, _, { Limits::BATCH_RECORDS_MAX }>")]
    #[schema(max_items = 10_000)]
    records: Vec<RecordIn>,
    /// What to do with an id that exists.
    #[serde(default)]
    on_existing: Clash,
}

impl AddIn {
    pub(crate) fn write(self) -> Result<(WriteMode, Vec<RecordWrite>)> {
        let existing = match self.on_existing {
            Clash::Fail => Existing::Fail,
            Clash::Skip => Existing::Skip,
        };
        Ok((WriteMode::Add(existing), records(self.records)?))
    }
}

/// Records to add, or to merge into existing ones.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpsertIn {
    #[serde(deserialize_with = "capped::<_, _, { Limits::BATCH_RECORDS_MAX }>")]
    #[schema(max_items = 10_000)]
    records: Vec<RecordIn>,
}

impl UpsertIn {
    pub(crate) fn write(self) -> Result<(WriteMode, Vec<RecordWrite>)> {
        Ok((WriteMode::Upsert, records(self.records)?))
    }
}

/// Records to merge into existing ones; what is absent stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateIn {
    #[serde(deserialize_with = "capped::<_, _, { Limits::BATCH_RECORDS_MAX }>")]
    #[schema(max_items = 10_000)]
    records: Vec<RecordIn>,
    /// What to do with an id that does not exist.
    #[serde(default)]
    on_missing: Clash,
}

impl UpdateIn {
    pub(crate) fn write(self) -> Result<(WriteMode, Vec<RecordWrite>)> {
        let missing = match self.on_missing {
            Clash::Fail => Missing::Fail,
            Clash::Skip => Missing::Skip,
        };
        Ok((WriteMode::Update(missing), records(self.records)?))
    }
}

/// What a batch did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WriteOut {
    inserted: usize,
    updated: usize,
    skipped: usize,
    /// The tenant's commit that holds the batch; 0 if nothing was written.
    version: u64,
}

impl From<WriteOutcome> for WriteOut {
    fn from(outcome: WriteOutcome) -> Self {
        Self {
            inserted: outcome.inserted,
            updated: outcome.updated,
            skipped: outcome.skipped,
            version: outcome.version,
        }
    }
}

fn selector(ids: Option<Vec<String>>, filter: Option<FilterIn>) -> Result<Selector> {
    let parse = |(index, id)| RecordId::parse(id).map_err(|why| at("ids", index, &why));
    let ids = ids.map(|ids: Vec<String>| ids.into_iter().enumerate().map(parse).collect());
    Ok(Selector { ids: ids.transpose()?, filter: filter.and_then(|FilterIn(filter)| filter) })
}

/// A part of a record.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// The unnamed vector.
    Vector,
    /// All named vectors.
    Vectors,
    /// The text.
    Document,
    /// The uri.
    Uri,
    /// The metadata.
    Metadata,
}

/// The parts of a record that are asked for; each may stand there more than once.
fn parts<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Option<Vec<Part>>, D::Error> {
    #[derive(Deserialize)]
    struct Parts(#[serde(deserialize_with = "short::<_, _, 16>")] Vec<Part>);
    Ok(Option::<Parts>::deserialize(deserializer)?.map(|Parts(parts)| parts))
}

fn include(parts: Option<Vec<Part>>) -> Include {
    let Some(parts) = parts else {
        return Include { document: true, uri: true, metadata: true, ..Include::default() };
    };
    let mut include = Include::default();
    for part in parts {
        match part {
            Part::Vector => include.vector = true,
            Part::Vectors => include.vectors = true,
            Part::Document => include.document = true,
            Part::Uri => include.uri = true,
            Part::Metadata => include.metadata = true,
        }
    }
    include
}

/// By what records are ordered.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OrderBy {
    /// The order in which they were inserted.
    Insertion,
    /// Byte order of the ids.
    Id,
    /// The value of one metadata key.
    Key,
}

/// The order of records.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderIn {
    by: OrderBy,
    /// The metadata key, with `by: "key"`.
    key: Option<String>,
    /// Largest first, with `by: "key"`.
    #[serde(default)]
    descending: bool,
}

impl OrderIn {
    fn order(self) -> Result<Order> {
        match (self.by, self.key) {
            (OrderBy::Key, Some(key)) => Ok(Order::Key { key, descending: self.descending }),
            (OrderBy::Key, None) => Err(Error::invalid("order: by \"key\" needs a key")),
            (OrderBy::Insertion | OrderBy::Id, key) if key.is_some() || self.descending => {
                Err(Error::invalid("order: key and descending go only with by \"key\""))
            }
            (OrderBy::Insertion, _) => Ok(Order::Insertion),
            (OrderBy::Id, _) => Ok(Order::Id),
        }
    }
}

/// Records to fetch; all members are optional.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GetIn {
    /// Only these; unknown ids are left out.
    #[serde(default, deserialize_with = "capped_option::<_, _, { Limits::IDS_MAX }>")]
    #[schema(value_type = Option<Vec<RecordIdText>>, max_items = 100_000)]
    ids: Option<Vec<String>>,
    /// Only records that match.
    #[schema(value_type = Option<Filter>)]
    filter: Option<FilterIn>,
    /// Insertion order if absent.
    order: Option<OrderIn>,
    /// At most 100,000; 1,000 if absent.
    #[schema(maximum = 100_000)]
    limit: Option<usize>,
    /// How many to leave out first.
    #[serde(default)]
    offset: usize,
    /// Document, uri and metadata if absent.
    #[serde(default, deserialize_with = "parts")]
    #[schema(max_items = 16)]
    include: Option<Vec<Part>>,
}

impl GetIn {
    pub(crate) fn request(self) -> Result<GetRequest> {
        let limit = self.limit.unwrap_or(GET_RECORDS_DEFAULT);
        if limit > GET_RECORDS_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("limit: at most {GET_RECORDS_MAX} records are allowed"),
            ));
        }
        Ok(GetRequest {
            select: selector(self.ids, self.filter)?,
            order: self.order.map(OrderIn::order).transpose()?.unwrap_or_default(),
            page: Page { limit: Some(limit), offset: self.offset },
            include: include(self.include),
        })
    }
}

/// Records to delete. Ids or a filter must be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeleteIn {
    /// Only these; unknown ids are left out.
    #[serde(default, deserialize_with = "capped_option::<_, _, { Limits::IDS_MAX }>")]
    #[schema(value_type = Option<Vec<RecordIdText>>, max_items = 100_000)]
    ids: Option<Vec<String>>,
    /// Only records that match.
    #[schema(value_type = Option<Filter>)]
    filter: Option<FilterIn>,
    /// At most this many, the oldest first.
    pub(crate) limit: Option<usize>,
}

impl DeleteIn {
    /// Refused if it says nothing, also by the form of a filter that a program made of no
    /// conditions.
    pub(crate) fn select(self) -> Result<Selector> {
        let select = selector(self.ids, self.filter)?;
        if select.ids.is_none() && select.filter.as_ref().is_none_or(holds_always) {
            return Err(Error::invalid("delete needs ids or a filter that is not empty"));
        }
        Ok(select)
    }
}

/// How many records were deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeleteOut {
    pub(crate) deleted: usize,
}

/// Records to count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CountIn {
    /// Only records that match; all if absent.
    #[schema(value_type = Option<Filter>)]
    pub(crate) filter: Option<FilterIn>,
}

/// How many records match.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountOut {
    pub(crate) count: usize,
}

/// A nearest-neighbour search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct QueryIn {
    /// The named vectors to search; the unnamed ones if absent. Records without it are not found.
    #[schema(value_type = Option<VectorNameText>)]
    using: Option<String>,
    /// One or more vectors, of the dimension of those that are searched.
    #[serde(deserialize_with = "capped::<_, _, { Limits::QUERY_VECTORS_MAX }>")]
    #[schema(value_type = Vec<Components>, max_items = 1000)]
    vectors: Vec<Floats>,
    /// How many neighbours of each; 10 if absent. At most 1,000,000 over all vectors.
    #[schema(maximum = 1_000_000)]
    k: Option<usize>,
    /// Only these records take part; unknown ids are left out.
    #[serde(default, deserialize_with = "capped_option::<_, _, { Limits::IDS_MAX }>")]
    #[schema(value_type = Option<Vec<RecordIdText>>, max_items = 100_000)]
    ids: Option<Vec<String>>,
    /// Only records that match take part.
    #[schema(value_type = Option<Filter>)]
    filter: Option<FilterIn>,
    /// Document, uri and metadata if absent.
    #[serde(default, deserialize_with = "parts")]
    #[schema(max_items = 16)]
    include: Option<Vec<Part>>,
    /// True to compare with every record that takes part, whatever it costs. False if absent: a
    /// large collection is searched through its graph, which may miss a neighbour.
    #[serde(default)]
    exact: bool,
    /// True to be told how the answer was found. False if absent.
    #[serde(default)]
    pub(crate) explain: bool,
}

impl QueryIn {
    pub(crate) fn request(self) -> Result<QueryRequest> {
        Ok(QueryRequest {
            using: vector::using(self.using.as_deref())?,
            vectors: self.vectors.into_iter().map(|Floats(vector)| vector).collect(),
            k: self.k.unwrap_or(K_DEFAULT),
            select: selector(self.ids, self.filter)?,
            include: include(self.include),
            exact: self.exact,
        })
    }
}

/// A record, with the parts that were asked for and that it has.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordOut {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
    /// The named vectors that it has, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(required = false)]
    vectors: BTreeMap<String, Vec<f32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    document: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Metadata>)]
    metadata: Option<MetadataOut>,
    /// The tenant's commit that last wrote this record.
    version: u64,
    /// When it expires, in milliseconds since 1970 UTC, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ms: Option<u64>,
}

impl RecordOut {
    /// Roughly how many scalars it holds.
    pub(crate) fn parts(&self) -> usize {
        let text = self.document.as_ref().map_or(0, |text| text.len() / 16);
        let vectors = self.vector.iter().chain(self.vectors.values());
        1 + vectors.map(Vec::len).sum::<usize>() + text
    }
}

impl From<Record> for RecordOut {
    fn from(record: Record) -> Self {
        Self {
            id: record.id.into_string(),
            vector: record.vector,
            vectors: vector::named(record.vectors, |vector| vector),
            document: record.document,
            uri: record.uri,
            metadata: record.metadata.map(MetadataOut),
            version: record.version,
            expires_at_ms: record.expires_at.map(|at| at.0),
        }
    }
}

/// Records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecordsOut {
    pub(crate) records: Vec<RecordOut>,
}

/// A neighbour.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HitOut {
    #[serde(flatten)]
    pub(crate) record: RecordOut,
    /// By the metric of the vectors that were searched; smaller is nearer.
    distance: f32,
}

impl From<Hit> for HitOut {
    fn from(hit: Hit) -> Self {
        Self { record: hit.record.into(), distance: hit.distance }
    }
}

/// The neighbours of each query vector, nearest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QueryOut {
    pub(crate) results: Vec<Vec<HitOut>>,
    /// How they were found, if that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) explain: Option<ExplainOut>,
}

/// How the neighbours were found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExplainOut {
    /// One for each vector.
    searches: Vec<SearchOut>,
    /// Records that ids and filter let through; null if there were neither.
    allowed: Option<u64>,
    /// CPU time of the search, in microseconds.
    cpu_us: u64,
    /// Time spent waiting for a turn, in microseconds. Told to operators alone: it says how much
    /// others do.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited_us: Option<u64>,
    /// True if the collection was in memory; false if it had to be loaded. Told to operators alone: what
    /// others ask for crowds it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    hot: Option<bool>,
}

/// What the search for one vector did.
#[derive(Debug, Serialize, ToSchema)]
struct SearchOut {
    plan: PlanName,
    /// Vectors compared by their codes.
    codes_compared: u64,
    /// Vectors compared in full.
    originals_compared: u64,
}

/// `nothing`: there was nothing to search. `exact_all`: all vectors were scanned.
/// `exact_allowed`: those were that ids and filter let through. `graph`: the graph was walked.
/// `graph_filtered`: the graph was walked, passing over what the filter does not let through.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum PlanName {
    Nothing,
    ExactAll,
    ExactAllowed,
    Graph,
    GraphFiltered,
}

impl From<Explain> for ExplainOut {
    fn from(explain: Explain) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let search = |step: SearchStep| SearchOut {
            plan: match step.plan {
                SearchPlan::Nothing => PlanName::Nothing,
                SearchPlan::ExactAll => PlanName::ExactAll,
                SearchPlan::ExactAllowed => PlanName::ExactAllowed,
                SearchPlan::Graph => PlanName::Graph,
                SearchPlan::GraphFiltered => PlanName::GraphFiltered,
            },
            codes_compared: step.codes_compared,
            originals_compared: step.originals_compared,
        };
        Self {
            searches: explain.searches.into_iter().map(search).collect(),
            allowed: explain.allowed,
            cpu_us: micros(explain.cpu),
            waited_us: explain.waited.map(micros),
            hot: explain.hot,
        }
    }
}
