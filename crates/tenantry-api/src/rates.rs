//! Answers to requests that are admitted within a tenant's rates.

use axum::http::{HeaderMap, HeaderValue};
use tenantry_engine::Admission;

/// Says what is left of the tenant's rates.
pub(crate) fn tell(headers: &mut HeaderMap, admission: &Admission) {
    for (name, value) in admission.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
