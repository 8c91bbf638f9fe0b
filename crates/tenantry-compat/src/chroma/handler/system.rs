//! Routes about the server and the caller.

use super::super::{
    DEFAULT_TENANT, body,
    error::{Answer, Failure, Kind},
    extract::{AsOperator, Caller},
};
use axum::{extract::State, http::StatusCode, response::Response};
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};
use tenantry_engine::{DEFAULT_DATABASE, Engine, Health, NamedBy, Page, Read, Select};

/// The version of the protocol, as Chroma's single-node server of this protocol states it.
const VERSION: &str = "1.0.0";

/// The largest batch that clients send in one request. The engine takes more; this is what
/// clients of Chroma's own server are used to, and such a batch of 1,024 dimensions fits a body.
const BATCH_RECORDS: usize = 5_461;

#[derive(Serialize)]
struct Heartbeat {
    #[serde(rename = "nanosecond heartbeat")]
    nanoseconds: u128,
}

pub(crate) async fn heartbeat() -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    body::ok(&Heartbeat { nanoseconds: now.as_nanos() })
}

pub(crate) async fn version() -> Response {
    body::ok(VERSION)
}

#[derive(Serialize)]
struct Healthcheck {
    is_executor_ready: bool,
    is_log_client_ready: bool,
}

pub(crate) async fn healthcheck(State(engine): State<Engine>) -> Response {
    let health = engine.health();
    let writable = health == Health::Ready;
    let readable = !matches!(health, Health::Unavailable(_));
    let status = if writable { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    body::json(status, &Healthcheck { is_executor_ready: readable, is_log_client_ready: writable })
}

#[derive(Serialize)]
struct PreFlightChecks {
    max_batch_size: usize,
    supports_base64_encoding: bool,
}

pub(crate) async fn pre_flight_checks() -> Response {
    body::ok(&PreFlightChecks { max_batch_size: BATCH_RECORDS, supports_base64_encoding: true })
}

#[derive(Serialize)]
struct Identity<'a> {
    user_id: &'a str,
    tenant: &'a str,
    databases: Vec<&'a str>,
}

/// Who the caller is. An operator belongs to no tenant: it is shown the names that a client
/// without settings asks for; so is everybody where paths name no tenant, since clients put into
/// their paths what they find here.
pub(crate) async fn identity(State(engine): State<Engine>, Caller(who): Caller) -> Answer {
    let user_id = who.to_string();
    if who.tenant().is_none() {
        let databases = vec![DEFAULT_DATABASE];
        return Ok(body::ok(&Identity { user_id: &user_id, tenant: DEFAULT_TENANT, databases }));
    }
    let session = engine.session::<Read>(&who, Select::Own).await?;
    let databases = session.databases(Page::default()).await?;
    let by_path = engine.names_by(NamedBy::Path);
    Ok(body::ok(&Identity {
        user_id: &user_id,
        tenant: if by_path { session.tenant().name.as_str() } else { DEFAULT_TENANT },
        databases: databases.iter().map(|d| d.info().name.as_str()).collect(),
    }))
}

/// Erases everything, on a server in development mode.
pub(crate) async fn reset(
    State(engine): State<Engine>,
    AsOperator(operator): AsOperator,
) -> Answer {
    if !engine.is_development() {
        let message = "Reset is disabled by config";
        return Err(Failure::new(StatusCode::FORBIDDEN, Kind::Chroma, message));
    }
    operator.reset().await?;
    super::super::ensure_development_tenant(&engine).await?;
    Ok(body::ok(&true))
}

/// Every route of the protocol's first version.
pub(crate) async fn gone() -> Failure {
    let message = "The v1 API is deprecated. Please use /v2 apis";
    Failure::new(StatusCode::GONE, Kind::Unimplemented, message)
}
