//! Refusals in Chroma's form: `{"error": kind, "message": text}` and a trace id.
//!
//! The client picks its exception class by `error` alone, so every kind here is one that it knows.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};
use tenantry_engine::{Error, ErrorKind, Resource};

const TRACE_ID: &str = "chroma-trace-id";
pub(crate) const REQUEST_ID: &str = "x-request-id";

/// What a handler returns.
pub(crate) type Answer = Result<Response, Failure>;

/// The kinds of failure that the client knows by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Kind {
    #[serde(rename = "AuthError")]
    Auth,
    #[serde(rename = "ChromaError")]
    Chroma,
    #[serde(rename = "InternalError")]
    Internal,
    #[serde(rename = "InvalidArgumentError")]
    InvalidArgument,
    #[serde(rename = "NotFoundError")]
    NotFound,
    #[serde(rename = "RateLimitError")]
    RateLimit,
    #[serde(rename = "Unimplemented")]
    Unimplemented,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    kind: Kind,
    message: Cow<'static, str>,
    /// In how many seconds the same request may succeed, if it may.
    retry_after: Option<u64>,
    /// What the log must say and the caller must not read.
    detail: Option<Error>,
}

impl Failure {
    pub(crate) fn new(
        status: StatusCode,
        kind: Kind,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { status, kind, message: message.into(), retry_after: None, detail: None }
    }

    /// The request is well-formed and wrong.
    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, Kind::InvalidArgument, message)
    }

    /// The body is JSON of the wrong shape. `why` begins with the place in the body.
    pub(crate) fn shape(why: impl std::fmt::Display) -> Self {
        let message = format!("Failed to deserialize the JSON body into the target type: {why}");
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, Kind::Chroma, message)
    }

    /// There is no such thing in the caller's scope.
    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, Kind::NotFound, message)
    }

    /// Known and not offered.
    pub(crate) fn unsupported(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, Kind::Chroma, message)
    }

    /// The body has more bytes than are allowed.
    pub(crate) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, Kind::InvalidArgument, message)
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> (u16, Kind, &str) {
        (self.status.as_u16(), self.kind, &self.message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (status, kind) = match error.kind() {
            ErrorKind::Invalid => (StatusCode::BAD_REQUEST, Kind::InvalidArgument),
            ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, Kind::Auth),
            ErrorKind::Denied | ErrorKind::Suspended => (StatusCode::FORBIDDEN, Kind::Auth),
            ErrorKind::NotFound => (StatusCode::NOT_FOUND, Kind::NotFound),
            ErrorKind::AlreadyExists | ErrorKind::Conflict => (StatusCode::CONFLICT, Kind::Chroma),
            ErrorKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Kind::InvalidArgument),
            ErrorKind::LimitExceeded | ErrorKind::Busy => {
                (StatusCode::TOO_MANY_REQUESTS, Kind::RateLimit)
            }
            ErrorKind::Unsupported => (StatusCode::NOT_IMPLEMENTED, Kind::Chroma),
            ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Kind::Internal),
            ErrorKind::Corrupt | ErrorKind::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, Kind::Internal)
            }
        };
        let message = message(&error);
        let retry_after = error.retry_after();
        let detail = status.is_server_error().then_some(error);
        Self { status, kind, message: message.into(), retry_after, detail }
    }
}

/// The text that Chroma's own server would use where there is one.
fn message(error: &Error) -> String {
    match (error.kind(), error.subject()) {
        (ErrorKind::NotFound, Some((Resource::Tenant, name))) => {
            format!("Tenant [{name}] not found")
        }
        (ErrorKind::NotFound, Some((Resource::Database, name))) => {
            format!("Database [{name}] not found. Are you sure it exists?")
        }
        _ => error.public_message().to_owned(),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    error: Kind,
    message: &'a str,
}

/// A cause on its way to the log.
#[derive(Clone)]
struct Detail(Arc<Error>);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = Body { error: self.kind, message: &self.message };
        let mut response = super::body::json(self.status, &body);
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(error) = self.detail {
            response.extensions_mut().insert(Detail(Arc::new(error)));
        }
        response
    }
}

/// Gives every answer the headers that it must have, marks every refusal with a trace id and logs
/// the cause of the server's own failures under it. The outermost layer, so that refusals of the router and of authentication pass it as well.
pub(crate) async fn trace(request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // Answers hold tenants' data: no cache on the way may keep them, no browser guess their type.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if response.status().is_success() {
        return response;
    }
    let id = trace_id(given.as_ref());
    if let Some(Detail(error)) = response.extensions_mut().remove::<Detail>() {
        tracing::error!(chroma_trace_id = id, ?error, "chroma: request failed");
    }
    set(response.headers_mut(), &id);
    response
}

fn set(headers: &mut HeaderMap, id: &str) {
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(TRACE_ID, value);
    }
}

/// 32 hexadecimal digits: the request's id if it has that form (a UUID does), else new ones.
fn trace_id(given: Option<&HeaderValue>) -> String {
    let digits: String = given
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .chars()
        .filter(|c| *c != '-')
        .collect();
    if digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return digits.to_ascii_lowercase();
    }
    // Needs to be distinct, not secret: a hash with the process's random keys is enough.
    let half = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", half(), half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_ones_that_clients_match() {
        let text = |error: Error| Failure::from(error).message.into_owned();
        assert_eq!(text(Error::not_found(Resource::Tenant, "x")), "Tenant [x] not found");
        assert_eq!(
            text(Error::not_found(Resource::Database, "x")),
            "Database [x] not found. Are you sure it exists?"
        );
        assert_eq!(
            text(Error::not_found(Resource::Collection, "x")),
            "Collection [x] does not exist"
        );
        assert_eq!(
            text(Error::already_exists(Resource::Collection, "x")),
            "Collection [x] already exists"
        );
    }

    #[test]
    fn a_failure_of_the_server_tells_nothing() {
        let failure = Failure::from(Error::internal("secret path /var/lib"));
        assert_eq!(failure.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!failure.message.contains("secret"));
        assert!(failure.detail.is_some());
    }

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
        let response = |kind| Failure::from(Error::new(kind, "no")).into_response();
        let busy = response(ErrorKind::Busy);
        assert_eq!(busy.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(busy.headers()[header::RETRY_AFTER], "1");
        let gone = response(ErrorKind::Unavailable);
        assert_eq!(gone.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(gone.headers()[header::RETRY_AFTER], "1");
        let limit = response(ErrorKind::LimitExceeded);
        assert_eq!(limit.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(!limit.headers().contains_key(header::RETRY_AFTER));
    }

    #[test]
    fn a_request_id_becomes_the_trace_id() {
        let uuid = HeaderValue::from_static("0F8FAD5B-d9cb-469f-a165-70867728950e");
        assert_eq!(trace_id(Some(&uuid)), "0f8fad5bd9cb469fa16570867728950e");
        for other in [None, Some(&HeaderValue::from_static("req-1"))] {
            let made = trace_id(other);
            assert!(made.len() == 32 && made.bytes().all(|b| b.is_ascii_hexdigit()), "{made}");
        }
    }
}
