//! A parameter that no route has is a mistake, and not ignored in silence.
//!
//! What there is says the OpenAPI document, so that neither can have one more than the other.

use crate::{
    error::{Failure, Result},
    openapi,
    routes::ROUTES,
};
use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};
use utoipa::openapi::{RefOr, path::ParameterIn};

/// Routes that answer everybody alike, and whoever asks for a server's health sends what it likes.
const FREE: [&str; 3] = ["/healthz", "/readyz", "/openapi.json"];

/// By method and path.
static KNOWN: LazyLock<HashMap<(&'static str, &'static str), HashSet<String>>> =
    LazyLock::new(known);

fn known() -> HashMap<(&'static str, &'static str), HashSet<String>> {
    let mut document = openapi::document();
    let mut all = HashMap::new();
    for route in ROUTES {
        let Some(operation) = openapi::operation(&mut document, route) else { continue };
        let parameters = operation.parameters.iter().flatten().filter_map(|one| match one {
            RefOr::T(one) if one.parameter_in == ParameterIn::Query => Some(one.name.clone()),
            _ => None,
        });
        all.insert((route.method, route.path), parameters.collect());
    }
    all
}

/// Middleware, behind whatever asks who the caller is.
pub(crate) async fn refuse_unknown(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    }
}

fn check(request: &Request) -> Result<()> {
    let Some(query) = request.uri().query().filter(|query| !query.is_empty()) else {
        return Ok(());
    };
    // Without one there is no such route, which is said instead.
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
    if FREE.contains(&path.as_str()) {
        return Ok(());
    }
    let method = match *request.method() {
        Method::HEAD => "GET",
        ref method => method.as_str(),
    };
    // A method that the route has not is what is said instead.
    let Some(known) = KNOWN.get(&(method, path.as_str())) else { return Ok(()) };
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let name = part.split_once('=').map_or(part, |(name, _)| name);
        let name = name.replace('+', " ");
        let name = percent_encoding::percent_decode_str(&name).decode_utf8_lossy();
        if known.contains(&*name) {
            continue;
        }
        let mut there: Vec<_> = known.iter().map(String::as_str).collect();
        there.sort_unstable();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        let shown = name.escape_debug();
        return Err(Failure::invalid(format!(
            "there is no query parameter [{shown}] here; there are: {there}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_says_which_parameters_there_are() {
        let of = |method, path| KNOWN.get(&(method, path));
        let tenants = of("GET", "/v1/admin/tenants").unwrap();
        assert!(tenants.contains("limit") && tenants.contains("after"));
        assert!(!tenants.contains("X-Tenant-ID"));
        assert!(of("POST", "/v1/admin/tenants").unwrap().is_empty());
        assert!(of("GET", "/v1/tenant").unwrap().is_empty() && of("PUT", "/v1/tenant").is_none());
    }
}
