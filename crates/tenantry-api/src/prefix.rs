//! The start of a path that names a tenant, taken off before any protocol sees the request.
//!
//! It decides nothing: what is read goes with the principal, and the engine compares. As a host, it
//! can narrow what a credential may do, and never widen it.

use axum::http::{Request, Uri, uri::PathAndQuery};
use percent_encoding::percent_decode_str;
use tenantry_engine::{Error, PathTenant, TenantName};

/// No protocol has a route that begins so.
const START: &str = "/t/";

/// Takes `/t/{tenant}` off the start of a request's path, once, so that the rest is routed, observed
/// and served as the whole. To be called before a listener's router: whoever authenticates finds the
/// name among the request's extensions, as a [`PathTenant`].
pub fn name_by_path<B>(request: &mut Request<B>) {
    let Some((name, rest)) = split(request.uri()) else { return };
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(rest);
    let Ok(uri) = Uri::from_parts(parts) else { return };
    *request.uri_mut() = uri;
    request.extensions_mut().insert(name);
}

/// What the path names, and the rest of it with its query.
fn split(uri: &Uri) -> Option<(PathTenant, PathAndQuery)> {
    let (name, _) = uri.path().strip_prefix(START)?.split_once('/')?;
    let rest = uri.path_and_query()?.as_str().get(START.len() + name.len()..)?;
    Some((PathTenant::new(read(name)), PathAndQuery::try_from(rest).ok()?))
}

fn read(text: &str) -> Result<TenantName, Error> {
    let wrong = |why: &str| Error::invalid(format!("the path, after {START}: {why}"));
    let name = percent_decode_str(text).decode_utf8();
    let name = name.map_err(|_| wrong("not UTF-8 after percent-decoding"))?;
    let name = TenantName::parse(name).map_err(|why| wrong(why.public_message()))?;
    // A proxy that looks at paths may well look at this one decoded, and take the name for several
    // parts of it.
    if name.as_str().contains(['/', '\\']) || [".", ".."].contains(&name.as_str()) {
        return Err(wrong(
            "a name with / or \\, and . and .., could be taken for other parts of the path; name such \
             a tenant in the header X-Tenant-ID",
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a path, and the name that is taken off.
    fn taken(uri: &str) -> (String, Option<Result<String, String>>) {
        let mut request = Request::builder().uri(uri).body(()).unwrap();
        name_by_path(&mut request);
        let named = request
            .extensions()
            .get::<PathTenant>()
            .map(|path| path.name().map(ToString::to_string).map_err(|why| why.to_string()));
        (request.uri().to_string(), named)
    }

    #[test]
    fn what_follows_the_name_is_the_whole_path() {
        for (uri, rest, name) in [
            ("/t/acme/v1/tenant", "/v1/tenant", "acme"),
            ("/t/acme/v1/usage?limit=1&after=/t/x/", "/v1/usage?limit=1&after=/t/x/", "acme"),
            ("http://a.example/t/acme/v1/me", "http://a.example/v1/me", "acme"),
            ("/t/acme/", "/", "acme"),
            ("/t/acme//v1/me", "//v1/me", "acme"),
            // Decoded once, and no further than its own end.
            ("/t/a%20%C3%A9/v1/me%2F", "/v1/me%2F", "a \u{e9}"),
            ("/t/%2541/v1/me", "/v1/me", "%41"),
            ("/t/%252F/v1/me", "/v1/me", "%2F"),
            ("/t/.../v1/me", "/v1/me", "..."),
            // Taken off once.
            ("/t/acme/t/globex/v1/me", "/t/globex/v1/me", "acme"),
        ] {
            assert_eq!(taken(uri), (rest.to_owned(), Some(Ok(name.to_owned()))), "{uri}");
        }
    }

    #[test]
    fn another_path_stays_as_it_is() {
        for uri in [
            "/v1/tenant",
            "/t",
            "/t/",
            "/t/acme",
            "/t/acme?x=/",
            "/t?x=/t/acme/",
            "/T/acme/v1/me",
            "//t/acme/v1/me",
            "/v1/t/acme/",
            "/chroma/t/acme/api/v2",
            "/",
        ] {
            assert_eq!(taken(uri), (uri.to_owned(), None), "{uri}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_told_where_it_is_read() {
        let long = format!("/t/{}/v1/me", "a".repeat(513));
        let bad = ["", "%00", "a%0Ab", "%FF", ".", "..", "%2e%2E", "a%2Fb", "a%5Cb", "x%2F..%2Fa"];
        let bad = bad.map(|name| format!("/t/{name}/v1/me"));
        for uri in bad.iter().chain([&long]) {
            let (rest, named) = taken(uri);
            let why = named.unwrap().unwrap_err();
            assert!(rest == "/v1/me" && why.contains("/t/"), "{uri}: {rest} {why}");
        }
    }
}
