//! `/v1/admin/…/statistics`: how a tenant's requests were answered.

use crate::{
    HttpTotals, body::Names, caller::AsOperator, error::Result, wire::TenantStatisticsOut,
};
use axum::{Extension, Json};
use std::time::Instant;
use tenantry_engine::TenantName;

/// Show how a tenant's requests were answered, by endpoint
///
/// By this server, since it follows the tenant: `metrics_tenants` of the busiest are followed. Requests
/// are a tenant's if their credential is; those of operators who act in it are not among them.
#[utoipa::path(get, path = "/v1/admin/tenants/{tenant}/statistics", tag = "admin",
    responses((status = 200, description = "What was counted", body = TenantStatisticsOut)))]
pub(crate) async fn show_tenant_statistics(
    AsOperator(operator): AsOperator,
    totals: Option<Extension<HttpTotals>>,
    Names(tenant): Names<String>,
) -> Result<Json<TenantStatisticsOut>> {
    let info = operator.tenant(&TenantName::parse(tenant)?).await?;
    let now = Instant::now();
    let counted = totals.and_then(|Extension(totals)| totals.busiest().tenant(info.id, now));
    Ok(Json(TenantStatisticsOut::new(&info, counted, now)))
}
