//! A small blocking HTTP/1.1 client that keeps its connection: the bytes of a request are made
//! once and sent as they are, so that two servers can be given the same ones.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long an answer may take; a server that hangs ends the run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The bytes of one request.
pub(crate) fn request(method: &str, path: &str, token: &str, body: Option<&[u8]>) -> Vec<u8> {
    request_with(method, path, &[("Authorization", &format!("Bearer {token}"))], body)
}

/// The bytes of one request with headers of choice.
pub(crate) fn request_with(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    if let Some(body) = body {
        let length = body.len().to_string();
        head.extend(["Content-Type: application/json\r\nContent-Length: ", &length, "\r\n"]);
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

/// An answer: status code and body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON, if the status tells of success.
    pub(crate) fn json(&self) -> Result<Value> {
        self.success()?;
        serde_json::from_slice(&self.body).context("the answer is not JSON")
    }

    /// An error unless the status tells of success.
    pub(crate) fn success(&self) -> Result<()> {
        if !(200..300).contains(&self.status) {
            bail!("status {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        Ok(())
    }
}

/// One connection that is kept.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// Bytes that were read and not yet used.
    pending: Vec<u8>,
}

impl Connection {
    /// Connects to a server on this machine.
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        if !address.ip().is_loopback() {
            bail!("{address} is not on this machine");
        }
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { stream, pending: Vec::new() })
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).context("send the request")?;
        let head = self.read_head()?;
        let status = status(&head)?;
        let length = header(&head, "content-length").map(str::parse::<usize>).transpose()?;
        let chunked = header(&head, "transfer-encoding").is_some_and(|v| v.contains("chunked"));
        let body = match length {
            Some(length) => self.take(length)?,
            None if chunked => self.read_chunks()?,
            None => Vec::new(),
        };
        Ok(Answer { status, body })
    }

    fn read_head(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.pending.windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(String::from_utf8(self.take(end + 4)?)?);
            }
            if self.pending.len() > HEAD_BYTES_MAX {
                bail!("the head of the answer is too long");
            }
            self.fill()?;
        }
    }

    fn read_chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16).context("length of a chunk")?;
            body.extend(self.take(length)?);
            self.read_line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn read_line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|w| w == b"\r\n") {
                return Ok(String::from_utf8(self.take(end + 2)?)?.trim_end().to_owned());
            }
            self.fill()?;
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.pending.len() < count {
            self.fill()?;
        }
        let rest = self.pending.split_off(count);
        Ok(std::mem::replace(&mut self.pending, rest))
    }

    fn fill(&mut self) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer).context("wait for the answer")?;
        if count == 0 {
            bail!("the server closed the connection before its answer was complete");
        }
        self.pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(())
    }
}

fn status(head: &str) -> Result<u16> {
    let code = head.split(' ').nth(1).context("no status in the answer")?;
    Ok(code.parse()?)
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Sends one request to a server that gives these bytes in two parts.
    fn answer(bytes: &'static [u8]) -> Result<Answer> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let server = std::thread::spawn(move || -> Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            let mut asked = vec![0; 1_024];
            let count = stream.read(&mut asked)?;
            asked.truncate(count);
            let (first, second) = bytes.split_at(bytes.len() / 2);
            stream.write_all(first)?;
            stream.flush()?;
            stream.write_all(second)?;
            Ok(asked)
        });
        let sent = request("POST", "/a", "key", Some(b"{}"));
        let answer = Connection::open(address)?.send(&sent);
        assert_eq!(server.join().unwrap()?, sent);
        answer
    }

    #[test]
    fn a_sized_answer_is_read() {
        let got = answer(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ntrue").unwrap();
        assert_eq!(got, Answer { status: 201, body: b"true".to_vec() });
    }

    #[test]
    fn a_chunked_answer_is_read() {
        let bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ntr\r\n2\r\nue\r\n0\r\n\r\n";
        assert_eq!(answer(bytes).unwrap().json().unwrap(), Value::Bool(true));
    }

    #[test]
    fn a_refusal_is_an_error_with_its_body() {
        let got = answer(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone").unwrap();
        assert_eq!(got.json().unwrap_err().to_string(), "status 404: none");
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        assert!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").is_err());
    }

    #[test]
    fn other_machines_are_never_asked() {
        assert!(Connection::open("192.0.2.1:80".parse().unwrap()).is_err());
    }
}
