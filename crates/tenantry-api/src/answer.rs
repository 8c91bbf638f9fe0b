//! JSON answers.

use crate::error::Result;
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tenantry_engine::Error;

/// Answers with more numbers and texts than this are written beside the threads that serve
/// requests.
const WRITE_INLINE_PARTS: usize = 50_000;

/// 201 with what was made.
pub(crate) type Created<T> = (StatusCode, Json<T>);

/// 201 with what was made.
pub(crate) fn created<T>(made: T) -> Created<T> {
    (StatusCode::CREATED, Json(made))
}

/// 200 with an answer that may be large; `parts` is roughly how many scalars it holds.
pub(crate) async fn large<T>(answer: T, parts: usize) -> Result<Response>
where
    T: Serialize + Send + 'static,
{
    if parts <= WRITE_INLINE_PARTS {
        return Ok(Json(answer).into_response());
    }
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&answer)).await;
    let bytes = written
        .map_err(|e| Error::internal("write an answer").with_source(e))?
        .map_err(|e| Error::internal("write an answer").with_source(e))?;
    let json = HeaderValue::from_static("application/json");
    Ok(([(header::CONTENT_TYPE, json)], bytes).into_response())
}
