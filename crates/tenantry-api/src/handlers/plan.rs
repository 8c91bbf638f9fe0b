//! `/v1/admin/plans`: what the operator offers under a name.

use crate::{
    body::{Body, Names},
    caller::AsOperator,
    error::Result,
    wire::{TenantPlanIn, TenantPlanOut, TenantPlansOut},
};
use axum::{Json, http::StatusCode};
use tenantry_engine::PlanName;

/// List plans in the order of their names
///
/// There are at most 1,000.
#[utoipa::path(get, path = "/v1/admin/plans", tag = "admin",
    responses((status = 200, description = "All plans", body = TenantPlansOut)))]
pub(crate) async fn list_plans(AsOperator(operator): AsOperator) -> Result<Json<TenantPlansOut>> {
    let found = operator.plans().await?;
    Ok(Json(TenantPlansOut { plans: found.into_iter().map(TenantPlanOut::from).collect() }))
}

/// Show a plan
#[utoipa::path(get, path = "/v1/admin/plans/{plan}", tag = "admin",
    responses((status = 200, description = "The plan", body = TenantPlanOut)))]
pub(crate) async fn show_plan(
    AsOperator(operator): AsOperator,
    Names(plan): Names<String>,
) -> Result<Json<TenantPlanOut>> {
    Ok(Json(operator.plan_called(&PlanName::parse(plan)?).await?.into()))
}

/// Make a plan, or have it say something else
///
/// It says all of the body and nothing of before. For the tenants that have it, it counts at once,
/// on other nodes within a second.
#[utoipa::path(put, path = "/v1/admin/plans/{plan}", tag = "admin", request_body = TenantPlanIn,
    responses((status = 200, description = "The plan", body = TenantPlanOut)))]
pub(crate) async fn put_plan(
    AsOperator(operator): AsOperator,
    Names(plan): Names<String>,
    Body(body): Body<TenantPlanIn>,
) -> Result<Json<TenantPlanOut>> {
    let plan = body.plan(PlanName::parse(plan)?)?;
    operator.put_plan(&plan).await?;
    Ok(Json(plan.into()))
}

/// Delete a plan that no tenant has
#[utoipa::path(delete, path = "/v1/admin/plans/{plan}", tag = "admin",
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_plan(
    AsOperator(operator): AsOperator,
    Names(plan): Names<String>,
) -> Result<StatusCode> {
    operator.delete_plan(&PlanName::parse(plan)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
