//! `/v1/admin/placement`: what a policy would do.

use crate::{
    body::Body,
    caller::AsOperator,
    error::Result,
    wire::{PlanIn, PlanOut},
};
use axum::Json;
use tenantry_engine::Error;

/// Say what a placement policy would do, and why
///
/// For each tenant, by the rules given here or those that the server follows. Nothing is moved. A
/// tenant whose size decides is measured, which is noted in its audit log as `operator.measure`. A
/// page may have fewer tenants than `limit`; go on as long as there is a `next`.
#[utoipa::path(post, path = "/v1/admin/placement/plan", tag = "admin", request_body = PlanIn,
    responses((status = 200, description = "One page of the plan", body = PlanOut)))]
pub(crate) async fn plan_moves(
    AsOperator(operator): AsOperator,
    Body(body): Body<PlanIn>,
) -> Result<Json<PlanOut>> {
    let (after, limit) = (body.after()?, body.limit()?);
    // Many rules take long to be looked at together.
    let policy = tokio::task::spawn_blocking(move || body.policy()).await;
    let policy = policy.map_err(|why| Error::internal("a policy is read").with_source(why))??;
    let plan = operator.plan(policy.as_ref(), after.as_ref(), limit).await?;
    Ok(Json(plan.into()))
}
