//! Who calls, and what it may open: settled from headers alone, before a body is read.

use crate::{
    error::{Failure, Result},
    observe::REQUEST_ID,
    rates,
    routes::no_route,
};
use axum::{
    body::HttpBody,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::{Arc, OnceLock};
use tenantry_engine::{
    Callers, ClientAddress, Engine, Error, ErrorKind, Level, NamedBy, Operator, PathTenant, Payer,
    Principal, REASON_HEADER, Read, RequestId, Session, TENANT_HEADER, TenantId, TenantName,
    archive::Importer, named_by_header,
};

/// Headers that hold a key as it is, of this protocol and of the dialects beside it: a proxy that
/// checks one of them and a server that reads another would disagree about the caller.
const PLAIN: [&str; 2] = ["x-api-key", "x-chroma-token"];

/// The authenticated caller, as the middleware hands it to the extractors.
#[derive(Debug, Clone)]
struct Caller {
    who: Principal,
    /// The tenant whose session was opened, for the request's log line.
    opened: Arc<OnceLock<TenantId>>,
}

/// Middleware: nobody passes without a valid credential. Says whose the request is to the observing
/// layer, and puts the [`TenantId`] of a session that was opened into the response's extensions.
pub(crate) async fn authenticate(
    State((engine, callers)): State<(Engine, Callers)>,
    mut request: Request,
    next: Next,
) -> Response {
    let outcome = match token(request.headers()) {
        Ok(token) => {
            let client = request.extensions().get::<ClientAddress>().map(|client| client.0);
            engine.authenticate_from(token.as_deref(), client).await
        }
        Err(error) => Err(error),
    };
    let who = match outcome {
        Ok(who) => who
            .in_request(request_id(request.headers()))
            .at_host(host(&request))
            .below_path(request.extensions().get::<PathTenant>().cloned()),
        Err(error) => return Failure::from(error).into_response(),
    };
    let reasons = request.headers().get_all(REASON_HEADER).iter().map(HeaderValue::as_bytes);
    let stated = match callers.reason(&who, reasons) {
        Ok(stated) => stated,
        Err(error) => return Failure::from(error).into_response(),
    };
    let who = who.for_reason(stated);
    if let Some(payer) = request.extensions().get::<Payer>() {
        payer.settle(&who);
    }
    let opened = Arc::new(OnceLock::new());
    request.extensions_mut().insert(Caller { who: who.clone(), opened: Arc::clone(&opened) });
    let served = admitted((&engine, callers), &who, request, next).await;
    let mut response = served.unwrap_or_else(IntoResponse::into_response);
    if let Some(tenant) = opened.get() {
        response.extensions_mut().insert(*tenant);
    }
    response
}

/// The tenant that the request's host names, as the layer around all protocols has noted it.
fn host(request: &Request) -> Option<Arc<TenantName>> {
    request.extensions().get::<Arc<TenantName>>().cloned()
}

/// The request's id, which the observing layer has put there if its caller has not.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(REQUEST_ID)?.to_str().ok().and_then(RequestId::parse)
}

/// Serves a request within its tenant's rates, and tells what is left of them.
async fn admitted(
    (engine, callers): (&Engine, Callers),
    who: &Principal,
    request: Request,
    next: Next,
) -> Result<Response> {
    let admission = engine.admit(who).await?;
    let has_body = has_body(&request);
    let serve = async {
        // In place of what an unknown path would be answered, so that nothing tells them apart.
        if !callers.include(who) {
            return no_route(request.uri().clone()).await.into_response();
        }
        match engine.check_address(who).await {
            Ok(()) => next.run(request).await,
            Err(error) => Failure::from(error).into_response(),
        }
    };
    let served = engine.in_turns(&admission, has_body, serve).await;
    let mut response = served.unwrap_or_else(|error| Failure::from(error).into_response());
    rates::tell(response.headers_mut(), &admission);
    response.extensions_mut().insert(Arc::new(admission));
    Ok(response)
}

/// True if whoever serves the request waits for its body before anything else.
fn has_body(request: &Request) -> bool {
    let reads_it = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    reads_it && !request.body().is_end_stream()
}

/// The one token that a request presents in any of the headers that any protocol here reads. Two
/// different ones are refused, so that no proxy and no server can disagree about which counts.
fn token(headers: &HeaderMap) -> std::result::Result<Option<String>, Error> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().map(|value| {
        // Another scheme, or bytes that are no text, is a wrong key and not a missing one.
        let (scheme, token) =
            value.to_str().ok().and_then(|v| v.split_once(' ')).unwrap_or_default();
        if scheme.eq_ignore_ascii_case("bearer") { token.trim() } else { "" }
    });
    let plain = PLAIN.iter().flat_map(|name| headers.get_all(*name));
    let plain = plain.map(|value| value.to_str().unwrap_or_default().trim());
    let mut tokens = bearer.chain(plain);
    let Some(first) = tokens.next() else { return Ok(None) };
    if tokens.any(|other| other != first) {
        let message = "more than one credential was presented; send one";
        return Err(Error::new(ErrorKind::Unauthenticated, message));
    }
    Ok(Some(first.to_owned()))
}

/// The tenant that the `X-Tenant-ID` header selects.
fn selected(headers: &HeaderMap) -> Result<Option<TenantName>> {
    let values = headers.get_all(TENANT_HEADER).iter().map(HeaderValue::as_bytes);
    Ok(named_by_header(values)?)
}

fn caller(parts: &Parts) -> Result<&Caller> {
    parts
        .extensions
        .get::<Caller>()
        .ok_or_else(|| Error::internal("a protected route lies outside authentication").into())
}

/// Who sent a request on a protected route.
pub(crate) fn principal(parts: &Parts) -> Result<&Principal> {
    Ok(&caller(parts)?.who)
}

/// Who manages what is no tenant's. None of it is below a path that names one, so that a proxy which
/// keeps it from strangers by its path need not know all such paths.
fn managed<T>(
    parts: &Parts,
    open: impl FnOnce(&Principal) -> tenantry_engine::Result<T>,
) -> Result<T> {
    let who = principal(parts)?;
    // Who may not manage is refused and noted as everywhere.
    let opened = open(who);
    if who.path().is_some() { Err(Failure::NoRoute) } else { Ok(opened?) }
}

/// Extractor: who sent the request.
pub(crate) struct Who(pub(crate) Principal);

impl FromRequestParts<Engine> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Engine) -> Result<Self> {
        Ok(Self(caller(parts)?.who.clone()))
    }
}

/// Extractor: the operator's handle.
pub(crate) struct AsOperator(pub(crate) Operator);

impl FromRequestParts<Engine> for AsOperator {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        managed(parts, |who| engine.operator(who)).map(Self)
    }
}

/// Extractor: the handle that makes tenants from archives, for an operator who may open tenants.
pub(crate) struct AsImporter(pub(crate) Importer);

impl FromRequestParts<Engine> for AsImporter {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        managed(parts, |who| engine.importer(who)).map(Self)
    }
}

/// Extractor: a session in the selected tenant at level `L`.
pub(crate) struct Open<L: Level>(pub(crate) Session<L>);

impl<L: Level> FromRequestParts<Engine> for Open<L> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        let caller = caller(parts)?;
        let name = selected(&parts.headers)?;
        let select = engine.choose(&caller.who, NamedBy::Header, name.as_ref())?;
        let session = engine.session::<L>(&caller.who, select).await;
        let session = session.map_err(|error| match name {
            // It names a tenant otherwise.
            None if caller.who.addressed().is_some() => error.into(),
            _ => name_the_header(error),
        })?;
        let _ = caller.opened.set(session.tenant().id);
        Ok(Self(session))
    }
}

/// Extractor: a session for reading in the selected tenant; none for an operator whose request has no
/// header and no path that selects one. Whatever the host names, such a one enters no tenant, and none
/// is made.
pub(crate) struct OpenNamed(pub(crate) Option<Session<Read>>);

impl FromRequestParts<Engine> for OpenNamed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, engine: &Engine) -> Result<Self> {
        let who = principal(parts)?;
        if who.is_operator() && who.path().is_none() && selected(&parts.headers)?.is_none() {
            return Ok(Self(None));
        }
        let Open(session) = Open::<Read>::from_request_parts(parts, engine).await?;
        Ok(Self(Some(session)))
    }
}

/// The engine does not know how a protocol selects a tenant; this one says it.
fn name_the_header(error: Error) -> Failure {
    match error.kind() {
        ErrorKind::Invalid => Error::invalid(format!("{error} (header X-Tenant-ID)")).into(),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_found_in_any_header() {
        let check = |pairs: &[(&'static str, &str)], expect: Option<&str>| {
            assert_eq!(token(&headers(pairs)).unwrap().as_deref(), expect, "{pairs:?}");
        };
        check(&[], None);
        check(&[("authorization", "Bearer tnt_a")], Some("tnt_a"));
        check(&[("authorization", "bearer  tnt_a ")], Some("tnt_a"));
        check(&[("x-api-key", "tnt_a")], Some("tnt_a"));
        check(&[("x-chroma-token", "tnt_a")], Some("tnt_a"));
        check(&[("authorization", "Bearer tnt_a"), ("x-api-key", "tnt_a")], Some("tnt_a"));
        check(&[("authorization", "Basic dXNlcg==")], Some(""));
        check(&[("authorization", "tnt_a")], Some(""));
    }

    #[test]
    fn two_different_tokens_are_refused() {
        for pairs in [
            [("authorization", "Bearer tnt_a"), ("x-api-key", "tnt_b")],
            [("authorization", "Bearer tnt_a"), ("x-chroma-token", "tnt_b")],
            [("x-api-key", "tnt_a"), ("x-chroma-token", "tnt_b")],
            [("x-api-key", "tnt_a"), ("x-chroma-token", "")],
            [("authorization", "Bearer tnt_a"), ("authorization", "Bearer tnt_b")],
            [("authorization", "Bearer tnt_a"), ("authorization", "Basic x")],
        ] {
            let error = token(&headers(&pairs)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unauthenticated);
        }
    }

    #[test]
    fn a_tenant_header_is_percent_decoded_once() {
        let name = |value| selected(&headers(&[("x-tenant-id", value)])).unwrap().unwrap();
        assert_eq!(name("acme").as_str(), "acme");
        assert_eq!(name("%C3%A9%2F..%2F").as_str(), "é/../");
        assert_eq!(name("%2541").as_str(), "%41");
        assert_eq!(name("50%").as_str(), "50%");
        for bad in ["%FF", "%00", "a%0Ab", ""] {
            assert!(selected(&headers(&[("x-tenant-id", bad)])).is_err(), "{bad}");
        }
        assert!(selected(&headers(&[("x-tenant-id", "a"), ("x-tenant-id", "a")])).is_err());
    }
}
