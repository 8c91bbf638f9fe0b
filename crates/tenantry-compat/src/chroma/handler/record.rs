//! Routes about a collection's records.

use super::{
    super::{
        body::{self, Json, WithVectors},
        discovery,
        error::{Answer, Failure},
        extract::{ById, Caller},
        wire::{Count, Delete, Get, GetView, Query, QueryView, Verb, Write as WriteBody},
    },
    Params,
};
use axum::http::StatusCode;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use tenantry_engine::{
    Collection, GetRequest, Hit, Level, Limits, QueryRequest, Read, RecordId, Selector, Write,
};

/// The most vectors of one query: as many as records in one write.
const VECTORS_MAX: usize = Limits::BATCH_RECORDS_MAX;

pub(crate) async fn add(
    caller: Caller,
    ById(target): ById<Write>,
    WithVectors(batch): WithVectors<WriteBody>,
) -> Answer {
    write(&caller, &target, batch, Verb::Add).await?;
    Ok(body::empty(StatusCode::CREATED))
}

pub(crate) async fn upsert(
    caller: Caller,
    ById(target): ById<Write>,
    WithVectors(batch): WithVectors<WriteBody>,
) -> Answer {
    write(&caller, &target, batch, Verb::Upsert).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn update(
    caller: Caller,
    ById(target): ById<Write>,
    WithVectors(batch): WithVectors<WriteBody>,
) -> Answer {
    write(&caller, &target, batch, Verb::Update).await?;
    Ok(body::empty(StatusCode::OK))
}

async fn write(
    Caller(who): &Caller,
    target: &Collection<Write>,
    batch: WriteBody,
    verb: Verb,
) -> Result<(), Failure> {
    let records = batch.into_records(verb)?;
    if records.is_empty() {
        return Ok(());
    }
    // A key that a filter binds may not change a collection; asking would only put a refusal that
    // nobody caused into the audit log.
    let unseen = match who.restriction().filter {
        None => discovery::unseen(target.info(), &records),
        Some(_) => BTreeMap::new(),
    };
    target.write_noting(verb.mode(), records, unseen).await?;
    Ok(())
}

pub(crate) async fn get(ById(target): ById<Read>, Json(asked): Json<Get>) -> Answer {
    let (request, parts) = asked.into_request(target.info())?;
    let records = target.get(&request).await?;
    body::rows(records.len(), GetView { records, parts }).await
}

pub(crate) async fn query(
    ById(target): ById<Read>,
    WithVectors(asked): WithVectors<Query>,
) -> Answer {
    let (request, parts) = asked.into_request(target.info())?;
    let hits = if every_id_exists(&target, &request).await? {
        search(&target, request).await?
    } else {
        request.vectors.iter().map(|_| Vec::new()).collect()
    };
    let rows = hits.iter().map(Vec::len).sum();
    body::rows(rows, QueryView { hits, parts }).await
}

/// Asks the engine, in parts if there are more vectors than it takes at once.
async fn search<L: Level>(
    target: &Collection<L>,
    mut request: QueryRequest,
) -> Result<Vec<Vec<Hit>>, Failure> {
    let count = request.vectors.len();
    if count > VECTORS_MAX {
        return Err(Failure::too_large(format!(
            "query: {count} vectors, at most {VECTORS_MAX} are allowed"
        )));
    }
    // Clients ask for far more neighbours than there are, to get all of them.
    if request.k.saturating_mul(count) > Limits::QUERY_HITS_MAX {
        request.k = request.k.min(target.count(None).await?);
    }
    if request.k.saturating_mul(count) > Limits::QUERY_HITS_MAX {
        return Err(Failure::too_large(format!(
            "query: {} neighbours of {count} vectors, at most {} in all are allowed",
            request.k,
            Limits::QUERY_HITS_MAX
        )));
    }
    let mut rest = std::mem::take(&mut request.vectors);
    let mut hits = Vec::with_capacity(count);
    while !rest.is_empty() {
        let after = rest.split_off(rest.len().min(Limits::QUERY_VECTORS_MAX));
        request.vectors = std::mem::replace(&mut rest, after);
        hits.append(&mut target.query(&request).await?);
    }
    Ok(hits)
}

/// Chroma refuses a query among ids of which one does not exist, except in an empty collection,
/// where it finds nothing. `false` means the latter.
async fn every_id_exists<L: Level>(
    target: &Collection<L>,
    request: &QueryRequest,
) -> Result<bool, Failure> {
    let Some(ids) = &request.select.ids else { return Ok(true) };
    let distinct: BTreeSet<&RecordId> = ids.iter().collect();
    let select = Selector { ids: Some(ids.clone()), filter: None };
    let found = target.get(&GetRequest { select, ..GetRequest::default() }).await?;
    if found.len() == distinct.len() {
        return Ok(true);
    }
    if found.is_empty() && target.count(None).await? == 0 {
        return Ok(false);
    }
    let found: BTreeSet<&RecordId> = found.iter().map(|record| &record.id).collect();
    let missing = distinct.difference(&found).next().map_or("", |id| id.as_str());
    Err(Failure::not_found(format!("Error finding id: [{missing}] is not in the collection")))
}

#[derive(Serialize)]
struct Deleted {
    deleted: usize,
}

pub(crate) async fn delete(ById(target): ById<Write>, Json(asked): Json<Delete>) -> Answer {
    let (select, limit) = asked.into_selector(target.info())?;
    let deleted = target.delete(&select, limit).await?;
    Ok(body::ok(&Deleted { deleted }))
}

pub(crate) async fn count(ById(target): ById<Read>, Params(_): Params<Count>) -> Answer {
    Ok(body::ok(&target.count(None).await?))
}

#[derive(Serialize)]
struct IndexingStatus {
    op_indexing_progress: f32,
    num_unindexed_ops: usize,
    num_indexed_ops: usize,
    total_ops: usize,
}

/// A write is searchable when it is acknowledged, so there is never anything left to index.
pub(crate) async fn indexing_status(ById(target): ById<Read>) -> Answer {
    let records = target.count(None).await?;
    Ok(body::ok(&IndexingStatus {
        op_indexing_progress: 1.0,
        num_unindexed_ops: 0,
        num_indexed_ops: records,
        total_ops: records,
    }))
}
