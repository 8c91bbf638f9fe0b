//! `/v1/admin/…/move`: moving tenants while they work.

use crate::{
    body::{Body, Names},
    caller::AsOperator,
    error::Result,
    wire::{MoveIn, MoveOut, MovesOut},
};
use axum::{Json, http::StatusCode};
use tenantry_engine::{Error, ErrorKind, TenantName};

/// Move a tenant to another place while it works
///
/// It is copied in the background, and lives in the new place from one moment to the next; a
/// restart does not end that. Ask with `GET` how far it has come.
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/move", tag = "admin",
    request_body = MoveIn,
    responses((status = 202, description = "The move, which has begun", body = MoveOut)))]
pub(crate) async fn start_move(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
    Body(body): Body<MoveIn>,
) -> Result<(StatusCode, Json<MoveOut>)> {
    let (name, to) = (TenantName::parse(tenant)?, body.target()?);
    if let Some(backend) = body.backend()? {
        operator.check_backend(&name, to, backend).await?;
    }
    let begun = operator.start_move(&name, to).await?;
    Ok((StatusCode::ACCEPTED, Json(begun.into())))
}

/// Show the move of a tenant that is under way, or was the last one
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}/move", tag = "admin",
    responses((status = 200, description = "How far it has come", body = MoveOut)))]
pub(crate) async fn show_move(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
) -> Result<Json<MoveOut>> {
    let name = TenantName::parse(tenant)?;
    let never = || Error::new(ErrorKind::NotFound, format!("the tenant {name} was never moved"));
    let found = operator.move_status(&name).await?.ok_or_else(never)?;
    Ok(Json(found.into()))
}

/// Cancel the move of a tenant: it stays where it is
///
/// Refused with 409 once it lives in the new place; then it can be moved back.
#[utoipa::path(delete, path = "/v1/admin/tenants/{tenant}/move", tag = "admin",
    responses((status = 202, description = "The move, which is being undone", body = MoveOut)))]
pub(crate) async fn cancel_move(
    AsOperator(operator): AsOperator,
    Names(tenant): Names<String>,
) -> Result<(StatusCode, Json<MoveOut>)> {
    let cancelled = operator.cancel_move(&TenantName::parse(tenant)?).await?;
    Ok((StatusCode::ACCEPTED, Json(cancelled.into())))
}

/// List moves that are not over, in the order in which they were asked for
///
/// They are done one after the other. At most 1,000 are listed.
#[utoipa::path(get, path = "/v1/admin/moves", tag = "admin",
    responses((status = 200, description = "All of them", body = MovesOut)))]
pub(crate) async fn list_moves(AsOperator(operator): AsOperator) -> Result<Json<MovesOut>> {
    let found = operator.moves().await?;
    Ok(Json(MovesOut { moves: found.into_iter().map(MoveOut::from).collect() }))
}
