//! Sends messages to webhooks over HTTP, to addresses that were looked at.
//!
//! Whoever may name an endpoint must not reach what only this machine reaches: the address that is
//! connected to is one that was resolved here and is public, or in a network that the settings allow.

use std::{io, net::IpAddr, time::Duration};
use tenantry::{Network, WebhookPost, WebhookSend, WebhookUrl, is_public};
use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

/// How long an attempt may take, from the name to the answer's headers.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Where messages may go.
#[derive(Debug, Clone)]
struct Allowed(Vec<Network>);

impl Allowed {
    fn has(&self, address: IpAddr, is_https: bool) -> bool {
        // Whoever listens on the way in the internet could send a signed message again.
        is_https && is_public(address) || self.0.iter().any(|network| network.has(address))
    }
}

/// Resolves to what is allowed alone.
#[derive(Debug)]
struct Checked(Allowed);

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = DefaultResolver::default().resolve(uri, config, timeout)?;
        let is_https = uri.scheme_str() == Some("https");
        let mut allowed = self.empty();
        for address in found.iter().filter(|address| self.0.has(address.ip(), is_https)) {
            allowed.push(*address);
        }
        if allowed.is_empty() {
            return Err(io::Error::other(not_allowed(is_https)).into());
        }
        Ok(allowed)
    }
}

fn not_allowed(is_https: bool) -> &'static str {
    if is_https {
        "its address is not public, nor in webhook_networks"
    } else {
        "plain http goes to addresses in webhook_networks alone"
    }
}

/// An agent that follows nothing, keeps nothing and takes no proxy.
#[derive(Debug)]
pub(crate) struct HttpWebhooks {
    agent: ureq::Agent,
    allowed: Allowed,
}

impl HttpWebhooks {
    /// Sends to public addresses by https, and into these networks.
    pub(crate) fn new(networks: Vec<Network>) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIME_MAX))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(0)
            // A proxy would connect to what it resolves itself.
            .proxy(None)
            .user_agent("tenantry-webhooks")
            .build();
        let allowed = Allowed(networks);
        let resolver = Checked(allowed.clone());
        let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
        Self { agent, allowed }
    }
}

impl WebhookSend for HttpWebhooks {
    fn check(&self, url: &WebhookUrl) -> Result<(), String> {
        let is_https = url.is_https();
        let fits = match url.host().unwrap_or_default().parse::<IpAddr>() {
            Ok(address) => self.allowed.has(address, is_https),
            // What a name leads to is looked at when it is sent.
            Err(_) => is_https || !self.allowed.0.is_empty(),
        };
        if fits { Ok(()) } else { Err(not_allowed(is_https).to_owned()) }
    }

    fn send(&self, post: &WebhookPost) -> Result<u16, String> {
        let mut request = self.agent.post(post.url.as_str());
        for (name, value) in &post.headers {
            request = request.header(*name, value);
        }
        // What is answered beside the status is not read.
        let answer = request.send(&post.body).map_err(|why| why.to_string())?;
        Ok(answer.status().as_u16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
        thread,
        time::Instant,
    };

    /// Answers each request with these bytes; with none it says nothing until whoever asked is gone.
    fn server(answer: &'static [u8]) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                if answer.is_empty() {
                    lines.last();
                }
                // Whoever asked may be gone.
                let _ = stream.write_all(answer);
            }
        });
        port
    }

    fn post(url: &str) -> WebhookPost {
        let header = |name| (name, "x".to_owned());
        let headers = ["a", "b", "c", "d"].map(header);
        WebhookPost { url: WebhookUrl::parse(url).unwrap(), headers, body: "{}".to_owned() }
    }

    fn inside() -> HttpWebhooks {
        HttpWebhooks::new(vec![Network::parse("127.0.0.1").unwrap()])
    }

    const OK: &[u8] = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";

    #[test]
    fn nothing_is_sent_to_an_address_inside_unless_its_network_is_allowed() {
        let port = server(OK);
        for host in ["127.0.0.1", "localhost"] {
            let to = post(&format!("http://{host}:{port}/"));
            assert_eq!(inside().send(&to), Ok(204), "{host}");
            let why = HttpWebhooks::new(Vec::new()).send(&to).unwrap_err();
            assert!(why.contains("webhook_networks"), "{host}: {why}");
            let https = post(&format!("https://{host}:{port}/"));
            let why = HttpWebhooks::new(Vec::new()).send(&https).unwrap_err();
            assert!(why.contains("not public"), "{host}: {why}");
        }
    }

    #[test]
    fn what_can_be_said_of_an_address_is_said_before_it_is_used() {
        let fits =
            |http: &HttpWebhooks, url: &str| http.check(&WebhookUrl::parse(url).unwrap()).is_ok();
        let nowhere = HttpWebhooks::new(Vec::new());
        for url in [
            "https://127.0.0.1/",
            "https://169.254.169.254/latest",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "http://example.com/",
            "http://1.1.1.1/",
        ] {
            assert!(!fits(&nowhere, url), "{url}");
        }
        assert!(fits(&nowhere, "https://example.com/") && fits(&nowhere, "https://1.1.1.1/"));
        assert!(fits(&inside(), "http://127.0.0.1:9/") && !fits(&inside(), "http://127.0.0.2/"));
    }

    #[test]
    fn no_redirection_is_followed() {
        let answer =
            b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\n";
        assert_eq!(inside().send(&post(&format!("http://127.0.0.1:{}/", server(answer)))), Ok(302));
    }

    #[test]
    fn an_endpoint_that_says_nothing_is_waited_for_a_bounded_time() {
        let begun = Instant::now();
        assert!(inside().send(&post(&format!("http://127.0.0.1:{}/", server(b"")))).is_err());
        assert!((TIME_MAX..2 * TIME_MAX).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}
