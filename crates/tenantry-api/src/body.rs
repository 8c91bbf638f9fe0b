//! The parts of a request that carry data: path, query string, body.

use crate::{
    caller::principal,
    error::{Failure, Result},
    objects,
};
use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tenantry_engine::{Engine, Error, ErrorKind, IdempotencyKey, Limits};

/// Extractor: the names in the path, percent-decoded.
pub(crate) struct Names<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Engine> for Names<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        match Path::<T>::from_request_parts(parts, engine).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(why) => Err(Failure::invalid(format!("path: {}", why.body_text()))),
        }
    }
}

/// Extractor: the query string; unknown parameters are refused.
pub(crate) struct Search<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Engine> for Search<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        match Query::<T>::from_request_parts(parts, engine).await {
            Ok(Query(search)) => Ok(Self(search)),
            Err(why) => Err(Failure::invalid(why.body_text())),
        }
    }
}

/// Extractor: by what a repetition of the request is known, if its caller says so.
pub(crate) struct Repeatable(pub(crate) Option<IdempotencyKey>);

impl FromRequestParts<Engine> for Repeatable {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Engine) -> Result<Self> {
        let mut values = parts.headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(Failure::invalid("Idempotency-Key: send it once"));
        }
        // What is no text is no visible ASCII either.
        Ok(Self(Some(IdempotencyKey::parse(value.to_str().unwrap_or_default())?)))
    }
}

/// Extractor: the JSON body. An empty body reads as `{}`.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Engine> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, engine: &Engine) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let declared = declares_json(&parts.headers)?;
        let bytes = collect(&parts.headers, body).await?;
        if bytes.is_empty() {
            return parse(b"{}").map(Self);
        }
        if !declared {
            return Err(Failure::NotJson);
        }
        let who = principal(&parts)?;
        engine.compute(who, bytes.len(), move || parse(&bytes)).await?.map(Self)
    }
}

/// True if the body is declared as JSON, false if nothing is declared.
pub(crate) fn declares_json(headers: &HeaderMap) -> Result<bool> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let suffix = essence.rsplit_once('+').map(|(_, suffix)| suffix);
    let json = essence.eq_ignore_ascii_case("application/json")
        || suffix.is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"));
    if json { Ok(true) } else { Err(Failure::NotJson) }
}

async fn collect(headers: &HeaderMap, body: axum::body::Body) -> Result<Bytes> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > Limits::BODY_BYTES_MAX as u64) {
        return Err(too_large());
    }
    match Limited::new(body, Limits::BODY_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(why) if why.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Failure::invalid("body: it ended early or came too slowly")),
    }
}

fn too_large() -> Failure {
    let message = format!("body: at most {} bytes are allowed", Limits::BODY_BYTES_MAX);
    Error::new(ErrorKind::TooLarge, message).into()
}

/// Parses JSON; the message names line and column.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    objects::from_slice(bytes).map_err(|why| Failure::invalid(format!("body: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_read_as_json() {
        let check = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
            declares_json(&headers)
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/x+json"] {
            assert!(check(good).unwrap(), "{good}");
        }
        for bad in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
            assert!(matches!(check(bad), Err(Failure::NotJson)), "{bad}");
        }
        assert!(!declares_json(&HeaderMap::new()).unwrap());
    }
}
