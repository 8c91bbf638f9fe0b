//! From a failure to an HTTP answer. The one place where [`ErrorKind`] meets a status code.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::sync::Arc;
use tenantry_engine::{Error, ErrorKind};
use utoipa::ToSchema;

/// A caller's own text is repeated in a message, but not more of it than this.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// Why a request was not answered. Carried in the response's extensions to [`render`], which
/// knows the request id.
#[derive(Debug)]
pub(crate) enum Failure {
    /// What the engine, or the reading of the request, says.
    Engine(Error),
    /// There is no such route.
    NoRoute,
    /// Nor this one, which would be one of Chroma's.
    ChromaRoute,
    /// The route exists, with other methods.
    NoMethod,
    /// The body is not declared as JSON.
    NotJson,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl Failure {
    /// The request is wrong: say what and where.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Engine(Error::invalid(message))
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Engine(error) => status(error.kind()),
            Self::NoRoute | Self::ChromaRoute => StatusCode::NOT_FOUND,
            Self::NoMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Engine(error) => error.retry_after(),
            Self::NoRoute | Self::ChromaRoute | Self::NoMethod | Self::NotJson => None,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Engine(error) => error.kind().word(),
            Self::NoRoute | Self::ChromaRoute => ErrorKind::NotFound.word(),
            Self::NoMethod => "method_not_allowed",
            Self::NotJson => "unsupported_media_type",
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Engine(error) => error.public_message(),
            Self::NoRoute => "there is no such route; /openapi.json lists all",
            Self::ChromaRoute => {
                "there is no such route; clients of Chroma use the listener of `tenantry serve \
                 --chroma-listen`"
            }
            Self::NoMethod => "this route does not have this method; /openapi.json lists all",
            Self::NotJson => "send the body as JSON, with `Content-Type: application/json`",
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// The status that tells a caller what this kind tells it to do.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
        ErrorKind::Denied | ErrorKind::Suspended => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::LimitExceeded | ErrorKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorDetail<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorDetail<'a> {
    /// What to do about it; the kinds are listed in the reference.
    kind: &'a str,
    /// For people.
    message: &'a str,
    /// Also in the `x-request-id` header; the server's log has it too.
    request_id: &'a str,
}

/// The body of an error.
pub(crate) fn error_body(kind: &str, message: &str, request_id: &str) -> Vec<u8> {
    let error = ErrorDetail { kind, message: shorten(message), request_id };
    serde_json::to_vec(&ErrorBody { error }).expect("three texts are always JSON")
}

/// Gives a failed response its body, and logs what the caller is not told.
pub(crate) fn render(response: &mut Response, request_id: &str) {
    let Some(failure) = response.extensions_mut().remove::<Arc<Failure>>() else { return };
    if let Failure::Engine(error) = &*failure
        && matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt)
    {
        tracing::error!(request_id, ?error, "answer a request");
    }
    *response.body_mut() = Body::from(error_body(failure.kind(), failure.message(), request_id));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(header::CONTENT_LENGTH);
    if failure.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(seconds) = failure.retry_after() {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(failure: Failure) -> (Response, String) {
        let mut response = failure.into_response();
        render(&mut response, "r1");
        let body = std::mem::take(response.body_mut());
        let bytes = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(axum::body::to_bytes(body, usize::MAX))
            .unwrap();
        (response, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn internal_detail_stays_in_the_log() {
        for error in [Error::internal("disk sda1"), Error::corrupt("page 7 of sda1")] {
            let (response, body) = rendered(error.into());
            assert_eq!(response.status(), 500);
            assert!(!body.contains("sda1"), "{body}");
        }
    }

    #[test]
    fn an_error_says_kind_message_and_request() {
        let (response, body) = rendered(Failure::invalid("limit: too \"large\""));
        assert_eq!(response.status(), 400);
        assert_eq!(
            body,
            r#"{"error":{"kind":"invalid","message":"limit: too \"large\"","request_id":"r1"}}"#
        );
    }

    #[test]
    fn callers_are_told_how_to_go_on() {
        let (response, _) = rendered(Error::new(ErrorKind::Unauthenticated, "no").into());
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        let (response, _) = rendered(Error::new(ErrorKind::Unavailable, "no").into());
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        let (response, body) = rendered(Error::new(ErrorKind::Busy, "no").into());
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(body.contains(r#""kind":"busy""#), "{body}");
        let (response, _) = rendered(Error::new(ErrorKind::LimitExceeded, "no").into());
        assert_eq!(response.status(), 429);
        assert!(!response.headers().contains_key(header::RETRY_AFTER));
        let rate = Error::new(ErrorKind::LimitExceeded, "no").with_retry_after(3_600);
        let (response, _) = rendered(rate.into());
        assert_eq!(response.headers()[header::RETRY_AFTER], "3600");
    }

    #[test]
    fn a_message_does_not_echo_a_whole_body() {
        let (_, body) = rendered(Failure::invalid("é".repeat(1 << 20)));
        assert!(body.len() < MESSAGE_BYTES_MAX + 100);
    }
}
