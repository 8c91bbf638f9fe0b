//! Fetches the keys of tokens' issuers over HTTP.

use std::time::Duration;
use tenantry::{KeyFetch, token::is_fetchable};

/// Bytes of the largest answer.
const BYTES_MAX: u64 = 1 << 20;
/// How long an answer may take, from the name to the last byte.
const TIME_MAX: Duration = Duration::from_secs(5);

/// An agent that follows nothing and keeps nothing.
#[derive(Debug)]
pub(crate) struct HttpKeys(ureq::Agent);

impl HttpKeys {
    pub(crate) fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIME_MAX))
            .max_redirects(0)
            .max_redirects_will_error(true)
            .build();
        Self(config.into())
    }
}

impl KeyFetch for HttpKeys {
    fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        if !is_fetchable(url) {
            return Err(format!("{url:?} is not an https URL"));
        }
        let answer = self.0.get(url).header("accept", "application/json").call();
        let mut answer = answer.map_err(|why| format!("{url}: {why}"))?;
        // A redirection is no success, and no failure to the agent.
        if answer.status().as_u16() != 200 {
            return Err(format!("{url}: status {}", answer.status().as_u16()));
        }
        let body = answer.body_mut().with_config().limit(BYTES_MAX).read_to_vec();
        body.map_err(|why| format!("{url}: {why}"))
    }
}
