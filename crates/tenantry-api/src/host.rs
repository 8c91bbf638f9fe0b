//! The layer around every protocol that reads which tenant the address names where a request asks.
//!
//! It decides nothing: what it finds goes with the principal, and the engine compares. A host is
//! whatever a client writes; it can narrow what a credential may do, and never widen it.

use crate::{
    error::error_body,
    observe::REQUEST_ID,
    proxies::{Peer, Proxies},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use std::{net::IpAddr, sync::Arc};
use tenantry_engine::{TenantName, is_silent_subdomain};

/// Bytes of the longest domain.
const DOMAIN_BYTES_MAX: usize = 253;

type Result<T> = std::result::Result<T, &'static str>;

/// The domain whose labels are tenants' names, and the proxies in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// With a dot before it.
    suffix: String,
    proxies: Proxies,
}

impl Hosts {
    /// `proxies` are addresses and networks like `10.0.0.0/8`; from others no forwarded host is read.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn new<'a>(
        domain: &str,
        proxies: impl IntoIterator<Item = &'a str>,
    ) -> std::result::Result<Self, String> {
        let is_name = |part: &str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !part.is_empty() && part.bytes().all(is_known)
        };
        let is_address = domain.parse::<IpAddr>().is_ok();
        if is_address || domain.len() > DOMAIN_BYTES_MAX || !domain.split('.').all(is_name) {
            return Err(format!("base_domain: {domain:?} is not a domain like example.com"));
        }
        let suffix = format!(".{}", domain.to_ascii_lowercase());
        Ok(Self { suffix, proxies: Proxies::new(proxies)? })
    }

    /// What follows a tenant's name in its address.
    pub(crate) fn suffix(&self) -> &str {
        &self.suffix
    }

    /// True for the domain, and for what is below it.
    pub(crate) fn have(&self, host: &str) -> bool {
        host.ends_with(&self.suffix) || self.suffix.strip_prefix('.') == Some(host)
    }

    /// Who asks, behind the proxies that are trusted.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        self.proxies.client(peer, headers)
    }

    /// The tenant that the request's address names.
    fn tenant(&self, request: &Request) -> Result<Option<TenantName>> {
        let Some(host) = self.host(request)? else { return Ok(None) };
        let Some(label) = host.strip_suffix(&self.suffix) else { return Ok(None) };
        if is_silent_subdomain(label) {
            return Ok(None);
        }
        TenantName::parse(label).map(Some).map_err(|_| "the host names no tenant")
    }

    /// The host that was asked, in lower case and without a port; none if it is not said.
    fn host(&self, request: &Request) -> Result<Option<String>> {
        let peer = request.extensions().get::<Peer>();
        if peer.is_some_and(|peer| self.proxies.have(peer.0))
            && let Some(host) = once(request, "x-forwarded-host")?
        {
            return Ok(Some(host));
        }
        let host = once(request, "host")?;
        let asked = request.uri().authority().map(|asked| host_of(asked.as_str())).transpose()?;
        match (host, asked) {
            (Some(host), Some(asked)) if host != asked => {
                Err("Host: another one than in the request's first line")
            }
            (host, asked) => Ok(host.or(asked)),
        }
    }
}

/// What a header says that is sent once at most.
pub(crate) fn once(request: &Request, name: &str) -> Result<Option<String>> {
    let mut values = request.headers().get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("send one host");
    }
    host_of(value.to_str().map_err(|_| "the host is not ASCII")?).map(Some)
}

/// A host in lower case, without its port and the dot of the root.
pub(crate) fn host_of(text: &str) -> Result<String> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = match text.rsplit_once(':') {
        Some((host, port)) if is_port(port) => host,
        _ => text,
    };
    // An address of version 6 is below no domain.
    if host.starts_with('[') && host.ends_with(']') {
        return Ok(host.to_owned());
    }
    // No list, no user before an @, nothing that two readers could read in two ways.
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if !host.bytes().all(is_known) {
        return Err("the host is none");
    }
    Ok(host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase())
}

/// Wraps the router of all protocols of a listener; to be observed. Whoever authenticates finds the
/// tenant's name among the request's extensions, as an [`Arc<TenantName>`]. A host that can be read
/// in two ways is a 400 for everybody.
pub fn select_by_host(router: Router, hosts: Arc<Hosts>) -> Router {
    router.layer(from_fn_with_state(hosts, note))
}

async fn note(State(hosts): State<Arc<Hosts>>, mut request: Request, next: Next) -> Response {
    match hosts.tenant(&request) {
        Ok(Some(name)) => {
            request.extensions_mut().insert(Arc::new(name));
        }
        Ok(None) => {}
        Err(why) => return refusal(&request, (StatusCode::BAD_REQUEST, "invalid"), why),
    }
    next.run(request).await
}

/// The answer of a layer that is around all protocols.
pub(crate) fn refusal(
    request: &Request,
    (status, kind): (StatusCode, &str),
    why: &str,
) -> Response {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let mut response = Response::new(Body::from(error_body(kind, why, id)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
