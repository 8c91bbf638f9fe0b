//! The collections of a database.

use crate::{
    body::{Body, Names, Search},
    caller::Open,
    error::Result,
    wire::{
        CollectionCreateIn, CollectionOut, CollectionPatchIn, CollectionsOut, PageSearch,
        StatisticsOut,
    },
};
use axum::{Json, http::StatusCode};
use tenantry_engine::{
    Collection, CollectionName, DatabaseName, Level, Read, Session, Wanted, Write,
};

/// The collection that a path names, for work with its records.
pub(super) async fn records_of<L: Level>(
    session: &Session<L>,
    (database, collection): (String, String),
) -> Result<Collection<L>> {
    let database = DatabaseName::parse(database)?;
    let collection = CollectionName::parse(collection)?;
    Ok(session.records_of(&database, Wanted::Name(&collection)).await?)
}

/// The collection that a path names.
async fn find<L: Level>(
    session: &Session<L>,
    (database, collection): (String, String),
) -> Result<Collection<L>> {
    let database = DatabaseName::parse(database)?;
    let collection = CollectionName::parse(collection)?;
    Ok(session.database(&database).await?.collection(&collection).await?)
}

/// Make a collection
#[utoipa::path(post, path = "/v1/databases/{database}/collections", tag = "collections",
    request_body = CollectionCreateIn,
    responses(
        (status = 201, description = "The new collection", body = CollectionOut),
        (status = 200, description = "The collection that existed", body = CollectionOut)))]
pub(crate) async fn create_collection(
    Open(session): Open<Write>,
    Names(database): Names<String>,
    Body(body): Body<CollectionCreateIn>,
) -> Result<(StatusCode, Json<CollectionOut>)> {
    let database = session.database(&DatabaseName::parse(database)?).await?;
    let get_or_create = body.get_or_create;
    let (collection, new) = database.create_collection(&body.spec()?, get_or_create).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(collection.info().into())))
}

/// List collections in the order of their names
#[utoipa::path(get, path = "/v1/databases/{database}/collections", tag = "collections",
    params(PageSearch),
    responses((status = 200, description = "One page", body = CollectionsOut)))]
pub(crate) async fn list_collections(
    Open(session): Open<Read>,
    Names(database): Names<String>,
    Search(search): Search<PageSearch>,
) -> Result<Json<CollectionsOut>> {
    let database = session.database(&DatabaseName::parse(database)?).await?;
    let found = database.collections(search.page()?).await?;
    let collections = found.iter().map(|collection| collection.info().into()).collect();
    Ok(Json(CollectionsOut { collections }))
}

/// Show a collection
#[utoipa::path(get, path = "/v1/databases/{database}/collections/{collection}",
    tag = "collections",
    responses((status = 200, description = "The collection", body = CollectionOut)))]
pub(crate) async fn show_collection(
    Open(session): Open<Read>,
    Names(names): Names<(String, String)>,
) -> Result<Json<CollectionOut>> {
    session.confirm().await?;
    let collection = find(&session, names).await?;
    Ok(Json(collection.info().into()))
}

/// Show what a collection holds and takes
#[utoipa::path(get, path = "/v1/databases/{database}/collections/{collection}/statistics",
    tag = "collections",
    responses((status = 200, description = "Its statistics", body = StatisticsOut)))]
pub(crate) async fn show_statistics(
    Open(session): Open<Read>,
    Names(names): Names<(String, String)>,
) -> Result<Json<StatisticsOut>> {
    let statistics = records_of(&session, names).await?.statistics().await?;
    Ok(Json(statistics.into()))
}

/// Change a collection's name or metadata
#[utoipa::path(patch, path = "/v1/databases/{database}/collections/{collection}",
    tag = "collections", request_body = CollectionPatchIn,
    responses((status = 200, description = "The changed collection", body = CollectionOut)))]
pub(crate) async fn change_collection(
    Open(session): Open<Write>,
    Names(names): Names<(String, String)>,
    Body(body): Body<CollectionPatchIn>,
) -> Result<Json<CollectionOut>> {
    let collection = find(&session, names).await?;
    let changed = collection.change(&body.change()?).await?;
    Ok(Json(changed.info().into()))
}

/// Remove a collection with all it holds
#[utoipa::path(delete, path = "/v1/databases/{database}/collections/{collection}",
    tag = "collections", responses((status = 204, description = "Removed")))]
pub(crate) async fn delete_collection(
    Open(session): Open<Write>,
    Names(names): Names<(String, String)>,
) -> Result<StatusCode> {
    find(&session, names).await?.remove().await?;
    Ok(StatusCode::NO_CONTENT)
}
