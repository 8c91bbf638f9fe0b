//! From headers to a principal, before anything else of a request is looked at.

use super::{
    DEFAULT_TENANT,
    error::{Failure, REQUEST_ID},
};
use axum::{
    body::HttpBody,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::{borrow::Cow, sync::Arc};
use tenantry_engine::{
    Callers, ClientAddress, Engine, Error, ErrorKind, Level, NamedBy, PathTenant, Payer, Principal,
    REASON_HEADER, RequestId, Resource, Session, TENANT_HEADER, TenantName, named_by_header,
};

/// Headers that hold a key as it is, of Chroma and of the protocols beside it: a proxy that checks
/// one of them and a server that reads another would disagree about the caller.
const PLAIN: [&str; 2] = ["x-chroma-token", "x-api-key"];

/// What a path is answered that does not exist, or not for this caller.
pub(crate) const NO_ROUTE: StatusCode = StatusCode::NOT_FOUND;

/// Lets a request pass only with a principal, which handlers find among its extensions.
pub(crate) async fn authenticate(
    State((engine, callers)): State<(Engine, Callers)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Failure> {
    let who = {
        let token = token(request.headers())?;
        let client = request.extensions().get::<ClientAddress>().map(|client| client.0);
        let who = engine.authenticate_from(token.as_deref(), client).await?;
        let host = request.extensions().get::<Arc<TenantName>>().cloned();
        let path = request.extensions().get::<PathTenant>().cloned();
        let reasons = request.headers().get_all(REASON_HEADER).iter().map(HeaderValue::as_bytes);
        let stated = callers.reason(&who, reasons)?;
        let named = request.headers().get_all(TENANT_HEADER).iter().map(HeaderValue::as_bytes);
        let who = who.in_request(request_id(request.headers())).for_reason(stated);
        who.at_host(host).below_path(path).with_header(named_by_header(named)?)
    };
    if let Some(payer) = request.extensions().get::<Payer>() {
        payer.settle(&who);
    }
    request.extensions_mut().insert(who.clone());
    let reads_it = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let has_body = reads_it && !request.body().is_end_stream();
    let admission = engine.admit(&who).await?;
    let serve = async {
        if !callers.include(&who) {
            return NO_ROUTE.into_response();
        }
        match engine.check_address(&who).await {
            Ok(()) => next.run(request).await,
            Err(error) => Failure::from(error).into_response(),
        }
    };
    let served = engine.in_turns(&admission, has_body, serve).await;
    let mut response = served.unwrap_or_else(|error| Failure::from(error).into_response());
    for (name, value) in admission.headers() {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    // Whoever is around all protocols keeps it until the answer is sent.
    response.extensions_mut().insert(Arc::new(admission));
    Ok(response)
}

/// The request's id, which the layer around all protocols has put there if its caller has not.
fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(REQUEST_ID)?.to_str().ok().and_then(RequestId::parse)
}

/// The one token that the headers carry, in any of the forms that Chroma's clients send and in the
/// headers that the other protocols read.
fn token(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Failure> {
    let authorization = headers.get_all(header::AUTHORIZATION).iter().map(of_authorization);
    let plain = PLAIN.iter().flat_map(|name| headers.get_all(*name));
    let plain = plain.map(|value| text(value).map(|token| Cow::Borrowed(token.trim())));
    let mut found: Option<Cow<'_, str>> = None;
    for token in authorization.chain(plain) {
        let token = token?;
        if found.as_ref().is_some_and(|first| *first != token) {
            return Err(refused("the request carries more than one credential"));
        }
        found = Some(token);
    }
    Ok(found)
}

fn of_authorization(value: &HeaderValue) -> Result<Cow<'_, str>, Failure> {
    let value = text(value)?.trim();
    let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Cow::Borrowed(rest.trim()));
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return basic(rest.trim()).map(Cow::Owned).ok_or_else(|| {
            refused("`Authorization: Basic` must hold base64 of `user:key` or `key:`")
        });
    }
    Err(refused("use `Authorization: Bearer`, `Authorization: Basic` or `X-Chroma-Token`"))
}

/// The key of `user:key`, or of `key:`.
fn basic(encoded: &str) -> Option<String> {
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some(if password.is_empty() { user } else { password }.to_owned())
}

fn text(value: &HeaderValue) -> Result<&str, Failure> {
    value.to_str().map_err(|_| refused("a credential must be ASCII text"))
}

fn refused(message: &'static str) -> Failure {
    Error::new(ErrorKind::Unauthenticated, message).into()
}

/// A session in the tenant that the path names. For whoever reaches one tenant the client's default
/// name means that one, and for everybody the only one if there is one, or the one that is named
/// otherwise where paths name none; otherwise it is a name like any other.
pub(crate) async fn open<L: Level>(
    engine: &Engine,
    who: &Principal,
    asked: &str,
) -> Result<Session<L>, Error> {
    let is_meant = who.bound_to().is_some()
        || engine.single_tenant().is_some()
        || !engine.names_by(NamedBy::Path);
    let parse = || {
        TenantName::parse(asked).map_err(|_| Error::not_found(Resource::Tenant, asked)).map(Some)
    };
    let name = if is_meant && asked == DEFAULT_TENANT { None } else { parse()? };
    let select = engine.choose(who, NamedBy::Path, name.as_ref())?;
    engine.session(who, select).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn found(pairs: &[(&'static str, &str)]) -> Result<Option<String>, u16> {
        token(&headers(pairs)).map(|t| t.map(Cow::into_owned)).map_err(|f| f.parts().0)
    }

    #[test]
    fn every_form_of_a_credential_is_read() {
        let key = || Ok(Some("tnt_a_b".to_owned()));
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&[("authorization", "Bearer tnt_a_b")]), key());
        assert_eq!(found(&[("authorization", "bearer  tnt_a_b ")]), key());
        assert_eq!(found(&[("x-chroma-token", "tnt_a_b")]), key());
        assert_eq!(found(&[("x-api-key", "tnt_a_b")]), key());
        for pair in ["user:tnt_a_b", "tnt_a_b:"] {
            let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
            assert_eq!(found(&[("authorization", &value)]), key(), "{pair}");
        }
    }

    #[test]
    fn one_credential_twice_is_one_and_two_are_refused() {
        let same = [("authorization", "Bearer tnt_a_b"), ("x-chroma-token", "tnt_a_b")];
        assert_eq!(found(&same), Ok(Some("tnt_a_b".to_owned())));
        for two in [
            [("authorization", "Bearer tnt_a_b"), ("x-chroma-token", "tnt_c_d")],
            [("authorization", "Bearer tnt_a_b"), ("x-api-key", "tnt_c_d")],
            [("x-chroma-token", "tnt_a_b"), ("x-api-key", "tnt_c_d")],
            [("x-chroma-token", "tnt_a_b"), ("x-chroma-token", "tnt_c_d")],
            [("x-chroma-token", "tnt_a_b"), ("x-api-key", "")],
        ] {
            assert_eq!(found(&two), Err(401), "{two:?}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        for value in ["tnt_a_b", "Digest x", "Basic !!", "Basic dG50", ""] {
            assert_eq!(found(&[("authorization", value)]), Err(401), "{value}");
        }
    }
}
