//! JSON in and out.

use super::error::{Failure, Kind};
use crate::vectors::lift;
use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use tenantry_engine::{Engine, Error, Limits, Principal};

/// From this number of rows on an answer is written off the threads that serve connections.
const RENDER_APART_ROWS: usize = 2_000;
/// Room that is made for a row of an answer, so that it seldom moves while it is written.
const ROW_BYTES: usize = 512;

/// A request's body, parsed. Must be a handler's last argument, so that the caller's right to the
/// place is known before a byte of the body is read.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Engine> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, engine: &Engine) -> Result<Self, Failure> {
        read(request, engine, parse).await.map(Self)
    }
}

/// A body with vectors, which are most of it.
pub(crate) trait HasVectors: DeserializeOwned + Send + 'static {
    /// The member that holds them: lists of numbers, in the usual case.
    const MEMBER: &str;

    /// Takes the vectors that were read apart; the member was an empty list.
    fn put(&mut self, vectors: Vec<Vec<f32>>);
}

/// [`Json`] for a body with vectors: the same, faster.
pub(crate) struct WithVectors<T>(pub(crate) T);

impl<T: HasVectors> FromRequest<Engine> for WithVectors<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, engine: &Engine) -> Result<Self, Failure> {
        read(request, engine, parse_with_vectors).await.map(Self)
    }
}

fn parse_with_vectors<T: HasVectors>(bytes: &[u8]) -> Result<T, Failure> {
    if let Some((vectors, rest)) = lift(bytes, T::MEMBER)
        && let Ok(mut body) = serde_json::from_slice::<T>(&rest)
    {
        body.put(vectors);
        return Ok(body);
    }
    parse(bytes)
}

/// Reads and parses a body, a large one in a turn of its sender's.
async fn read<T: Send + 'static>(
    request: Request,
    engine: &Engine,
    parse: fn(&[u8]) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(who) = request.extensions().get::<Principal>().cloned() else {
        return Err(Error::internal("a route was reached without a principal").into());
    };
    let headers = request.headers();
    if !is_json(headers) {
        return Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Chroma,
            "Expected request with `Content-Type: application/json`",
        ));
    }
    if declared(headers).is_some_and(|bytes| bytes > Limits::BODY_BYTES_MAX as u64) {
        return Err(payload_too_large());
    }
    let bytes = Bytes::from_request(request, engine).await.map_err(|rejection| match rejection
        .status()
    {
        StatusCode::PAYLOAD_TOO_LARGE => payload_too_large(),
        _ => Failure::invalid("the request's body ended early or came too slowly"),
    })?;
    engine.compute(&who, bytes.len(), move || parse(&bytes)).await?
}

fn payload_too_large() -> Failure {
    Failure::too_large(format!(
        "Payload too large: at most {} bytes are allowed",
        Limits::BODY_BYTES_MAX
    ))
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let Some(subtype) = essence.strip_prefix("application/") else { return false };
    subtype == "json" || subtype.ends_with("+json")
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Parses JSON: text that is not JSON is one failure, JSON of the wrong shape another.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    // Without this a list would be taken for an object's members in their order.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Failure::shape("invalid type: sequence, expected an object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // Parsed once more for the place, which costs only those who err.
        let mut again = serde_json::Deserializer::from_slice(bytes);
        let place = serde_path_to_error::deserialize::<_, T>(&mut again)
            .err()
            .map(|e| e.path().to_string())
            .filter(|path| path != "." && path != "?");
        let why = place.map_or_else(|| error.to_string(), |place| format!("{place}: {error}"));
        match error.classify() {
            Category::Data => Failure::shape(why),
            Category::Io | Category::Syntax | Category::Eof => {
                Failure::invalid(format!("Failed to parse the request body as JSON: {why}"))
            }
        }
    })
}

/// Runs CPU-heavy work where it holds up no connection.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a body task ended early").with_source(error).into())
}

/// An answer with a small JSON body.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => raw(status, bytes),
        Err(error) => unwritable(error),
    }
}

/// A 200 with a small JSON body.
pub(crate) fn ok<T: Serialize + ?Sized>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

/// The answer that says nothing but its status: `{}`, since clients parse every body.
pub(crate) fn empty(status: StatusCode) -> Response {
    raw(status, "{}")
}

/// A 200 with a JSON body of `rows` rows.
pub(crate) async fn rows<T: Serialize + Send + 'static>(
    rows: usize,
    value: T,
) -> Result<Response, Failure> {
    if rows < RENDER_APART_ROWS {
        return Ok(render(rows, &value));
    }
    apart(move || render(rows, &value)).await
}

fn render<T: Serialize>(rows: usize, value: &T) -> Response {
    let mut bytes = Vec::with_capacity(ROW_BYTES * (rows + 1));
    match serde_json::to_writer(&mut bytes, value) {
        Ok(()) => raw(StatusCode::OK, bytes),
        Err(error) => unwritable(error),
    }
}

fn unwritable(error: serde_json::Error) -> Response {
    let error = Error::internal("an answer cannot be written as JSON").with_source(error);
    Failure::from(error).into_response()
}

fn raw(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize, Debug)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Shape {
        ids: Vec<String>,
    }

    #[test]
    fn text_and_shape_are_two_failures() {
        let status = |text: &[u8]| parse::<Shape>(text).unwrap_err().parts().0;
        for text in [&b""[..], b"{", b"\xff", b"{\"ids\":[]} x", b"{\"ids\":[\"\xff\"]}"] {
            assert_eq!(status(text), 400, "{text:?}");
        }
        for text in [&b"[]"[..], b" [[]]", b"null", b"{}", b"{\"ids\":[1]}", b"{\"ids\":null}"] {
            assert_eq!(status(text), 422, "{text:?}");
        }
        let deep = format!("{{\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert!([400, 422].contains(&status(deep.as_bytes())));
    }

    #[test]
    fn a_failure_names_the_place() {
        let failure = parse::<Shape>(b"{\"ids\":[\"a\",1]}").unwrap_err();
        assert!(failure.parts().2.contains("ids[1]: invalid type: integer `1`"), "{failure:?}");
    }

    #[test]
    fn only_json_counts_as_json() {
        let is = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(value));
            is_json(&headers)
        };
        assert!(is("application/json") && is("Application/JSON; charset=utf-8"));
        assert!(is("application/merge-patch+json"));
        assert!(!is("text/json") && !is("application/x-json") && !is_json(&HeaderMap::new()));
    }
}
