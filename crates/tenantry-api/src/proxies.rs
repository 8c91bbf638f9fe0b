//! The layer around every protocol that notes from where a request comes.

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderMap,
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tenantry_engine::{ClientAddress, Network};

/// Who has connected, as a listener notes it in each request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Proxies in front, whose word about their clients counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proxies(Vec<Network>);

impl Proxies {
    /// Addresses and networks like `10.0.0.0/8`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn new<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let network = |text: &str| {
            let wrong = || format!("trusted_proxies: {text:?} is no address or network");
            Network::parse(text).ok_or_else(wrong)
        };
        networks.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// True if none is trusted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// True if this is one of them.
    pub(crate) fn have(&self, address: IpAddr) -> bool {
        self.0.iter().any(|proxy| proxy.has(address))
    }

    /// Who asks: whoever has connected, or the last before the proxies that are trusted. Whoever is
    /// said to be what nobody can be is one with all others of whom that is said, and no proxy.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        if !self.have(peer.0) {
            return peer.0;
        }
        let said = headers.get_all("x-forwarded-for").iter().rev();
        // As bytes: what a client has sent before a proxy added to it may be none of a text.
        for hop in said.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b',')) {
            match read_hop(hop) {
                Some(address) if self.have(address) => {}
                // Nobody comes from there through a proxy: it would be an exemption that is only said.
                Some(address) if address.to_canonical().is_loopback() => return NOBODY,
                Some(address) => return address,
                // Nothing before it was written by a proxy that is trusted.
                None => return NOBODY,
            }
        }
        peer.0
    }
}

/// Stands for whoever cannot be told from what a proxy says.
const NOBODY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// An address, of version 6 also in brackets; some proxies write the port, too.
fn read_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim();
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|hop| hop.ip()))
}

/// Wraps the router of all protocols of a listener; to be observed. Whoever authenticates finds among
/// the request's extensions from where it comes, as a [`ClientAddress`].
pub fn note_clients(router: Router, proxies: Arc<Proxies>) -> Router {
    router.layer(from_fn_with_state(proxies, note))
}

async fn note(State(proxies): State<Arc<Proxies>>, mut request: Request, next: Next) -> Response {
    if let Some(peer) = request.extensions().get::<Peer>().copied() {
        let client = proxies.client(peer, request.headers());
        request.extensions_mut().insert(ClientAddress(client));
    }
    next.run(request).await
}
