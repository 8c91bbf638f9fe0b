//! Load over several connections by wrk, which takes far less CPU than what it loads.

use crate::process::{bench_folder, output};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// Sends prepared requests in turn; `cargo xtask bench` uses the same script.
const SCRIPT: &str = include_str!("../../../xtask/src/bench/cycle.lua");

/// Requests in a file, ready to be sent.
#[derive(Debug)]
pub(crate) struct Prepared {
    address: SocketAddr,
    script: PathBuf,
    requests: PathBuf,
}

/// What one run gave.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: f64,
    pub(crate) seconds: f64,
    /// Requests that were refused or not answered.
    pub(crate) failed: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Load {
    /// Answered requests a second.
    pub(crate) fn rate(&self) -> f64 {
        if self.seconds > 0.0 { (self.requests - self.failed) / self.seconds } else { 0.0 }
    }
}

impl Prepared {
    /// Writes requests for a server below `target/bench`.
    pub(crate) fn new(name: &str, address: SocketAddr, requests: &[Vec<u8>]) -> Result<Self> {
        let folder = bench_folder()?;
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

    fn command(&self, connections: usize, seconds: u64) -> Result<Command> {
        ensure!(self.address.ip().is_loopback(), "{} is not on this machine", self.address);
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "--timeout", "30s"]);
        wrk.arg(format!("-c{connections}")).arg(format!("-d{seconds}s"));
        wrk.arg("-s").arg(&self.script).arg(format!("http://{}", self.address));
        wrk.arg("--").arg(&self.requests);
        Ok(wrk)
    }

    /// Sends requests for some seconds; none may fail.
    pub(crate) fn run(&self, connections: usize, seconds: u64) -> Result<Load> {
        let printed = output(&mut self.command(connections, seconds)?)
            .context("wrk is needed: install Debian's package wrk")?;
        let load = parse(&String::from_utf8_lossy(&printed))?;
        ensure!(load.failed == 0.0, "{} of {} requests failed", load.failed, load.requests);
        Ok(load)
    }

    /// Starts to send requests beside other work. A refusal is an answer here.
    /// It stands for another machine, so it yields to whatever else this one has to do.
    pub(crate) fn start(&self, connections: usize, seconds: u64) -> Result<Running> {
        let wrk = self.command(connections, seconds)?;
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(wrk.get_program()).args(wrk.get_args());
        Ok(Running(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?))
    }
}

/// A load that is being sent.
#[derive(Debug)]
pub(crate) struct Running(Child);

impl Running {
    /// Waits for its end.
    pub(crate) fn wait(self) -> Result<Load> {
        parse(&String::from_utf8_lossy(&self.0.wait_with_output()?.stdout))
    }
}

fn parse(printed: &str) -> Result<Load> {
    let line = printed.lines().find_map(|line| line.strip_prefix("RESULT "));
    let result: Value = serde_json::from_str(line.context("wrk printed no result")?)?;
    let number = |key: &str| result.get(key).and_then(Value::as_f64).context("a number is missing");
    Ok(Load {
        requests: number("requests")?,
        seconds: number("microseconds")? / 1e6,
        failed: number("failed")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read() {
        let good = "Running…\nRESULT {\"requests\":10,\"microseconds\":500000,\"failed\":2,\
                    \"p50_us\":7,\"p99_us\":9}\n";
        let load = parse(good).unwrap();
        let expected = Load { requests: 10.0, seconds: 0.5, failed: 2.0, p50_us: 7.0, p99_us: 9.0 };
        assert_eq!(load, expected);
        assert!((load.rate() - 16.0).abs() < 1e-9);
        assert!(parse("").is_err() && parse("RESULT {}").is_err());
    }
}
