//! A tenant's databases.

use crate::{
    answer::{Created, created},
    body::{Body, Names, Search},
    caller::Open,
    error::Result,
    wire::{DatabaseCreateIn, DatabaseOut, DatabasesOut, PageSearch},
};
use axum::{Json, http::StatusCode};
use tenantry_engine::{Admin, DatabaseName, Read};

/// Make a database
#[utoipa::path(post, path = "/v1/databases", tag = "databases", request_body = DatabaseCreateIn,
    responses((status = 201, description = "The new database", body = DatabaseOut)))]
pub(crate) async fn create_database(
    Open(session): Open<Admin>,
    Body(body): Body<DatabaseCreateIn>,
) -> Result<Created<DatabaseOut>> {
    let made = session.create_database(&DatabaseName::parse(body.name)?).await?;
    Ok(created(made.info().into()))
}

/// List databases in the order of their names
#[utoipa::path(get, path = "/v1/databases", tag = "databases", params(PageSearch),
    responses((status = 200, description = "One page", body = DatabasesOut)))]
pub(crate) async fn list_databases(
    Open(session): Open<Read>,
    Search(search): Search<PageSearch>,
) -> Result<Json<DatabasesOut>> {
    let found = session.databases(search.page()?).await?;
    let databases = found.iter().map(|database| database.info().into()).collect();
    Ok(Json(DatabasesOut { databases }))
}

/// Show a database
#[utoipa::path(get, path = "/v1/databases/{database}", tag = "databases",
    responses((status = 200, description = "The database", body = DatabaseOut)))]
pub(crate) async fn show_database(
    Open(session): Open<Read>,
    Names(database): Names<String>,
) -> Result<Json<DatabaseOut>> {
    session.confirm().await?;
    let found = session.database(&DatabaseName::parse(database)?).await?;
    Ok(Json(found.info().into()))
}

/// Remove a database with all it holds
#[utoipa::path(delete, path = "/v1/databases/{database}", tag = "databases",
    responses((status = 204, description = "Removed")))]
pub(crate) async fn delete_database(
    Open(session): Open<Admin>,
    Names(database): Names<String>,
) -> Result<StatusCode> {
    session.delete_database(&DatabaseName::parse(database)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
