//! Answers to requests that are admitted within a tenant's rates.

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use http_body_util::BodyExt as _;
use tenantry_engine::Admission;

/// Says what is left of the tenant's rates.
pub(crate) fn tell(headers: &mut HeaderMap, admission: &Admission) {
    for (name, value) in admission.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}

/// Keeps a request under way until its answer is sent, if that is still to be made.
pub(crate) fn hold(response: Response, admission: Admission) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    let hold = move |frame| {
        let _held = &admission;
        frame
    };
    response.map(|body| Body::new(body.map_frame(hold)))
}
