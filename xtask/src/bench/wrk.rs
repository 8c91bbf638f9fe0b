//! Load from several connections at once, by wrk, which takes far less CPU than what it loads.

use crate::step::{command, output, target};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{fs, net::SocketAddr, path::PathBuf};

const SCRIPT: &str = include_str!("cycle.lua");
pub(crate) const CONNECTIONS: usize = 8;

/// Requests in a file, ready to be sent.
#[derive(Debug)]
pub(crate) struct Prepared {
    address: SocketAddr,
    script: PathBuf,
    requests: PathBuf,
}

/// What one run gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) requests: u64,
    pub(crate) microseconds: u64,
}

impl Prepared {
    /// Writes requests for a server below `target/bench`.
    pub(crate) fn new(name: &str, address: SocketAddr, requests: &[Vec<u8>]) -> Result<Self> {
        let folder = target().join("bench");
        fs::create_dir_all(&folder)?;
        let (script, file) = (folder.join("cycle.lua"), folder.join(format!("{name}.requests")));
        fs::write(&script, SCRIPT)?;
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend(format!("{}\n", request.len()).into_bytes());
            bytes.extend_from_slice(request);
        }
        fs::write(&file, bytes)?;
        Ok(Self { address, script, requests: file })
    }

    /// Sends requests for some seconds over [`CONNECTIONS`] connections.
    pub(crate) fn run(&self, seconds: u64) -> Result<Run> {
        ensure!(self.address.ip().is_loopback(), "{} is not on this machine", self.address);
        let mut wrk = command("wrk", &["-t1", "--timeout", "30s"]);
        wrk.arg(format!("-c{CONNECTIONS}")).arg(format!("-d{seconds}s"));
        wrk.arg("-s").arg(&self.script).arg(format!("http://{}", self.address));
        let printed = output(wrk.arg("--").arg(&self.requests))?;
        parse(&String::from_utf8_lossy(&printed))
    }
}

fn parse(printed: &str) -> Result<Run> {
    let line = printed.lines().find_map(|line| line.strip_prefix("RESULT "));
    let result: Value = serde_json::from_str(line.context("wrk printed no result")?)?;
    let number = |key: &str| result.get(key).and_then(Value::as_u64).context("a number is missing");
    ensure!(number("failed")? == 0, "requests failed: {result}");
    Ok(Run { requests: number("requests")?, microseconds: number("microseconds")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_and_failures_are_errors() {
        let good = "Running…\nRESULT {\"requests\":10,\"microseconds\":5000,\"failed\":0}\n";
        assert_eq!(parse(good).unwrap(), Run { requests: 10, microseconds: 5_000 });
        assert!(parse(&good.replace("\"failed\":0", "\"failed\":1")).is_err());
        assert!(parse("").is_err());
    }
}
