//! What each route does: take the handle and the body apart, call the engine, show the answer.

pub(crate) mod cloud;
pub(crate) mod collection;
pub(crate) mod database;
pub(crate) mod record;
pub(crate) mod system;
pub(crate) mod tenant;

use super::error::Failure;
use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

/// A query string, refused in Chroma's form.
pub(crate) struct Params<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|rejection| Failure::invalid(rejection.body_text()))
    }
}
