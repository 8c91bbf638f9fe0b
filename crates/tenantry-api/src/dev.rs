//! The layer around every protocol of a server without authentication: web pages get nothing.
//!
//! Whoever reaches such a server is the operator, and every page that is open in a browser of its
//! machine does: by a form or a script that sends to `localhost`, and by a name of its own that leads
//! to 127.0.0.1. The first says in `Origin` whose page it is, the second in `Host` which name it has.

use crate::host::{Hosts, host_of, once, refusal};
use axum::{
    Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use std::{net::IpAddr, sync::Arc};

/// Wraps the router of all protocols of a listener in development mode; to be observed. A request
/// passes if it was sent to this machine by its address, as `localhost`, or as a host of the
/// installation's, and by no page of another.
pub fn refuse_web_pages(router: Router, hosts: Option<Arc<Hosts>>) -> Router {
    router.layer(from_fn_with_state(hosts, check))
}

async fn check(State(hosts): State<Option<Arc<Hosts>>>, request: Request, next: Next) -> Response {
    match why_not(hosts.as_deref(), &request) {
        None => next.run(request).await,
        Some(why) => refusal(&request, (StatusCode::FORBIDDEN, "denied"), why),
    }
}

/// Why a request may have been sent by a web page, if it may.
fn why_not(hosts: Option<&Hosts>, request: &Request) -> Option<&'static str> {
    let is_ours = |host: &str| is_local(host) || hosts.is_some_and(|hosts| hosts.have(host));
    let host = match once(request, "host") {
        // Of those that are no browser's.
        Ok(None) => None,
        Ok(host) => host,
        Err(why) => return Some(why),
    };
    let asked = request.uri().authority().map(|asked| host_of(asked.as_str()));
    let Ok(asked) = asked.transpose() else { return Some("the host is none") };
    if host.into_iter().chain(asked).any(|host| !is_ours(&host)) {
        return Some(
            "a server in development mode is asked as localhost or 127.0.0.1 alone: under another \
             name every web page could ask it",
        );
    }
    let mut origins = request.headers().get_all(header::ORIGIN).iter();
    let is_own = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host_of(host));
        matches!(host, Some(Ok(host)) if is_ours(&host))
    };
    let is_foreign = origins.any(|origin| !origin.to_str().is_ok_and(is_own));
    is_foreign.then_some("a server in development mode takes no requests of other hosts' web pages")
}

/// True for a name or an address of this machine to itself.
fn is_local(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // Browsers ask nobody what is below `localhost` (RFC 6761).
    host == "localhost"
        || host.ends_with(".localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn passes(headers: &[(&str, &str)]) -> bool {
        let hosts = Hosts::new("example.com", []).unwrap();
        let mut request = Request::builder().uri("/v1/tenant");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        why_not(Some(&hosts), &request.body(Body::empty()).unwrap()).is_none()
    }

    #[test]
    fn who_is_asked_by_a_name_of_this_machine_answers() {
        for host in [
            "localhost",
            "LOCALHOST:7700",
            "acme.localhost:1",
            "127.0.0.1:7700",
            "127.9.9.9",
            "[::1]:7700",
            "[::ffff:127.0.0.1]",
            "example.com",
            "acme.example.com:7700",
        ] {
            assert!(passes(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7700",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evilexample.com",
            "10.0.0.1",
            "[::2]",
            "0.0.0.0",
            "",
            "a b",
        ] {
            assert!(!passes(&[("host", host)]), "{host}");
        }
        assert!(passes(&[]));
        assert!(!passes(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn a_page_of_another_host_is_refused() {
        let from = |origin: &str| passes(&[("host", "localhost:7700"), ("origin", origin)]);
        for own in ["http://localhost:7700", "http://localhost:3000", "https://127.0.0.1"] {
            assert!(from(own), "{own}");
        }
        for other in
            ["https://evil.example", "null", "", "file://", "http://localhost.evil.example"]
        {
            assert!(!from(other), "{other}");
        }
    }
}
