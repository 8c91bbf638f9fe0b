//! A PostgreSQL for tests: from a PyPI package, so that no machine needs one installed.

use crate::{
    machine::Venv,
    scratch::Scratch,
    server::empty_folder,
    step::{command, root, target},
};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    fs::File,
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

/// The variable that tells tests where it is.
pub(crate) const VARIABLE: &str = "TENANTRY_TEST_POSTGRES";
/// The variable that tells tests which Python starts another one, for those that kill it.
pub(crate) const PYTHON: &str = "TENANTRY_TEST_PYTHON";

/// A running server with empty databases. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Postgres {
    script: Child,
    url: String,
}

impl Postgres {
    /// Starts one, with what it says at its start in `target/postgres`, and its data too if there is
    /// no faster place.
    pub(crate) fn start(venv: &Venv, scratch: &Scratch) -> Result<Self> {
        let folder = empty_folder("postgres")?;
        let data = scratch.folder("postgres").unwrap_or_else(|| folder.join("data"));
        let log = folder.join("start.log");
        let script = root().join("clients/postgres/server.py");
        let mut script = command(venv.program("python"), &[])
            .arg(script)
            .arg(data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("create {}", log.display()))?)
            .spawn()
            .context("start clients/postgres/server.py")?;
        let out = script.stdout.take().context("read where PostgreSQL is")?;
        // It ends by itself if PostgreSQL does not start, and with it this line.
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let mut started = Self { script, url: String::new() };
        match url_in(&line) {
            Some(url) => started.url = url,
            None => bail!("PostgreSQL does not start; see {}", target().join("postgres").display()),
        }
        Ok(started)
    }

    /// The URL of a superuser.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The script stops the server when its standard input ends.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

fn url_in(line: &str) -> Option<String> {
    let told: Value = serde_json::from_str(line).ok()?;
    told.get("url").and_then(Value::as_str).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_read_from_the_line() {
        assert_eq!(url_in("{\"url\": \"a\", \"pid\": 1}\n"), Some("a".to_owned()));
        assert_eq!(url_in(""), None);
    }
}
