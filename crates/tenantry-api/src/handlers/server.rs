//! The server itself: health, metrics, its own description.

use crate::{
    HttpTotals,
    caller::AsOperator,
    error::Result,
    metrics::{self, TenantTotals},
};
use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{sync::LazyLock, time::Instant};
use tenantry_engine::{Engine, Health};
use utoipa::ToSchema;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusOut {
    /// `alive`, `ready`, `read_only` or `unavailable`.
    status: &'static str,
    /// Why it does not take writes, or answers nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Tell whether the process is alive
#[utoipa::path(get, path = "/healthz", tag = "server",
    responses((status = 200, description = "It is", body = StatusOut)))]
pub(crate) async fn healthz() -> Json<StatusOut> {
    Json(StatusOut { status: "alive", reason: None })
}

/// Tell whether the server reads and writes
#[utoipa::path(get, path = "/readyz", tag = "server",
    responses(
        (status = 200, description = "It does", body = StatusOut),
        (status = 503, description = "It does not take writes, or neither", body = StatusOut)))]
pub(crate) async fn readyz(State(engine): State<Engine>) -> (StatusCode, Json<StatusOut>) {
    let (status, reason) = match engine.health() {
        Health::Ready => ("ready", None),
        Health::ReadOnly(reason) => ("read_only", Some(reason)),
        Health::Unavailable(reason) => ("unavailable", Some(reason)),
    };
    let code = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(StatusOut { status, reason }))
}

/// Describe this protocol
#[utoipa::path(get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub(crate) async fn openapi_document() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(crate::openapi);
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// Show counters, in the OpenMetrics text format
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, description = "Counters", body = String,
        content_type = "application/openmetrics-text")))]
pub(crate) async fn show_metrics(
    AsOperator(operator): AsOperator,
    State(engine): State<Engine>,
    totals: Option<Extension<HttpTotals>>,
) -> Result<Response> {
    let http = totals.as_ref().map(|Extension(totals)| totals);
    let (mut apart, mut told) = (Vec::new(), None);
    if let Some(busiest) = http.map(HttpTotals::busiest).filter(|busiest| !busiest.is_off()) {
        let ranking = busiest.ranking(Instant::now());
        let asked = ranking.tenants.iter().map(|(tenant, tally)| (*tenant, tally.requests()));
        let sizes = operator.sizes(&asked.collect::<Vec<_>>()).await;
        apart.extend(ranking.tenants.iter().map(|(tenant, _)| *tenant));
        told = Some((ranking, sizes));
    }
    let all = operator.sizes_of_all(&apart).await;
    let others = all.map(|all| all.others);
    let tenants = told.map(|(ranking, sizes)| TenantTotals::new(ranking, sizes, others));
    let text = metrics::text(&engine, http, (all, tenants))?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response())
}
