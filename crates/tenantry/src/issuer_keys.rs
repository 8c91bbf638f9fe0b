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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        net::TcpListener,
        thread,
        time::Instant,
    };

    /// Answers one request after the other with these bytes; with none it says nothing until whoever
    /// asked is gone.
    fn server(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
                if answer.is_empty() {
                    lines.next();
                }
                // Whoever asked may be gone.
                let _ = stream.write_all(&answer);
            }
        });
        url
    }

    fn of_bytes(len: u64) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
        let mut answer = head.into_bytes();
        answer.resize(answer.len() + usize::try_from(len).unwrap(), b' ');
        answer
    }

    #[test]
    fn what_is_larger_than_an_answer_may_be_is_refused() {
        let keys = HttpKeys::new();
        assert_eq!(keys.fetch(&server(of_bytes(1_000))).unwrap().len(), 1_000);
        assert!(keys.fetch(&server(of_bytes(BYTES_MAX + 1))).is_err());
    }

    #[test]
    fn no_redirection_is_followed() {
        let to = server(of_bytes(10));
        let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n");
        let from = server(format!("{head}connection: close\r\n\r\n").into_bytes());
        let keys = HttpKeys::new();
        assert!(keys.fetch(&to).is_ok());
        assert!(keys.fetch(&from).is_err());
    }

    #[test]
    fn a_server_that_says_nothing_is_waited_for_a_bounded_time() {
        let begun = Instant::now();
        assert!(HttpKeys::new().fetch(&server(Vec::new())).is_err());
        assert!((TIME_MAX..2 * TIME_MAX).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[test]
    fn plain_http_goes_to_this_machine_only() {
        assert!(HttpKeys::new().fetch("http://192.0.2.1/").unwrap_err().contains("https"));
    }
}
