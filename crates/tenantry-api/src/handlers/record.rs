//! The records of a collection.

use super::collection::records_of;
use crate::{
    answer::large,
    body::{Body, Names},
    caller::Open,
    error::Result,
    wire::{
        AddIn, CountIn, CountOut, DeleteIn, DeleteOut, GetIn, HitOut, QueryIn, QueryOut, RecordOut,
        RecordsOut, UpdateIn, UpsertIn, WriteOut,
    },
};
use axum::{Json, response::Response};
use tenantry_engine::{Read, Write};

/// Add records
///
/// The batch is atomic, and durable when this answers.
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/add",
    tag = "records", request_body = AddIn,
    responses((status = 200, description = "What was done", body = WriteOut)))]
pub(crate) async fn add_records(
    Open(session): Open<Write>,
    Names(names): Names<(String, String)>,
    Body(body): Body<AddIn>,
) -> Result<Json<WriteOut>> {
    let collection = records_of(&session, names).await?;
    let (mode, records) = body.write()?;
    Ok(Json(collection.write(mode, records).await?.into()))
}

/// Add records, or merge them into existing ones
///
/// The batch is atomic, and durable when this answers.
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/upsert",
    tag = "records", request_body = UpsertIn,
    responses((status = 200, description = "What was done", body = WriteOut)))]
pub(crate) async fn upsert_records(
    Open(session): Open<Write>,
    Names(names): Names<(String, String)>,
    Body(body): Body<UpsertIn>,
) -> Result<Json<WriteOut>> {
    let collection = records_of(&session, names).await?;
    let (mode, records) = body.write()?;
    Ok(Json(collection.write(mode, records).await?.into()))
}

/// Merge into existing records
///
/// The batch is atomic, and durable when this answers.
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/update",
    tag = "records", request_body = UpdateIn,
    responses((status = 200, description = "What was done", body = WriteOut)))]
pub(crate) async fn update_records(
    Open(session): Open<Write>,
    Names(names): Names<(String, String)>,
    Body(body): Body<UpdateIn>,
) -> Result<Json<WriteOut>> {
    let collection = records_of(&session, names).await?;
    let (mode, records) = body.write()?;
    Ok(Json(collection.write(mode, records).await?.into()))
}

/// Fetch records by id, by filter, or both
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/get",
    tag = "records", request_body = GetIn,
    responses((status = 200, description = "The records", body = RecordsOut)))]
pub(crate) async fn get_records(
    Open(session): Open<Read>,
    Names(names): Names<(String, String)>,
    Body(body): Body<GetIn>,
) -> Result<Response> {
    let collection = records_of(&session, names).await?;
    let found = collection.get(&body.request()?).await?;
    let records: Vec<_> = found.into_iter().map(RecordOut::from).collect();
    let parts = records.iter().map(RecordOut::parts).sum();
    large(RecordsOut { records }, parts).await
}

/// Delete records by id, by filter, or both
///
/// The deletion is atomic, and durable when this answers.
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/delete",
    tag = "records", request_body = DeleteIn,
    responses((status = 200, description = "How many were deleted", body = DeleteOut)))]
pub(crate) async fn delete_records(
    Open(session): Open<Write>,
    Names(names): Names<(String, String)>,
    Body(body): Body<DeleteIn>,
) -> Result<Json<DeleteOut>> {
    let collection = records_of(&session, names).await?;
    let limit = body.limit;
    let deleted = collection.delete(&body.select()?, limit).await?;
    Ok(Json(DeleteOut { deleted }))
}

/// Count records
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/count",
    tag = "records", request_body = CountIn,
    responses((status = 200, description = "How many match", body = CountOut)))]
pub(crate) async fn count_records(
    Open(session): Open<Read>,
    Names(names): Names<(String, String)>,
    Body(body): Body<CountIn>,
) -> Result<Json<CountOut>> {
    let collection = records_of(&session, names).await?;
    let filter = body.filter.and_then(|filter| filter.0);
    Ok(Json(CountOut { count: collection.count(filter.as_ref()).await? }))
}

/// Find the nearest records to each vector
#[utoipa::path(post, path = "/v1/databases/{database}/collections/{collection}/records/query",
    tag = "records", request_body = QueryIn,
    responses((status = 200, description = "The neighbours", body = QueryOut)))]
pub(crate) async fn query_records(
    Open(session): Open<Read>,
    Names(names): Names<(String, String)>,
    Body(body): Body<QueryIn>,
) -> Result<Response> {
    let collection = records_of(&session, names).await?;
    let explain = body.explain;
    let request = body.request()?;
    let (hits, explain) = if explain {
        let found = collection.query_explained(&request).await?;
        (found.hits, Some(found.explain.into()))
    } else {
        (collection.query(&request).await?, None)
    };
    let results: Vec<Vec<HitOut>> =
        hits.into_iter().map(|hits| hits.into_iter().map(HitOut::from).collect()).collect();
    let parts = results.iter().flatten().map(|hit| hit.record.parts()).sum();
    large(QueryOut { results, explain }, parts).await
}
