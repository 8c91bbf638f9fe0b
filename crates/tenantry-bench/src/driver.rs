//! A Python script in a process of its own: a JSON object a line says what to do, one says what
//! came of it.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// A running script. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Driver {
    name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Driver {
    /// Starts a command that answers each line with a line.
    pub(crate) fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { name, child, input, output })
    }

    /// The answer to a request.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value> {
        let asked = writeln!(self.input, "{request}").and_then(|()| self.input.flush());
        let mut line = String::new();
        if asked.is_err() || self.output.read_line(&mut line)? == 0 {
            bail!("{} ended without an answer to {request}", self.name);
        }
        let answer: Value = serde_json::from_str(&line)
            .with_context(|| format!("{} answered {:?}", self.name, line.trim_end()))?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("{}: {error}", self.name);
        }
        Ok(answer)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shell(script: &str) -> Driver {
        Driver::start("a shell", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn each_request_gets_the_answer_to_it() {
        let mut driver = shell("while read -r line; do echo \"{\\\"was\\\": $line}\"; done");
        for number in [1, 2] {
            assert_eq!(driver.ask(&json!(number)).unwrap(), json!({"was": number}));
        }
        assert!(driver.process() > 0);
    }

    #[test]
    fn errors_noise_and_an_early_end_are_told_apart() {
        let said = |script| shell(script).ask(&json!({})).unwrap_err().to_string();
        assert_eq!(said("read -r line; echo '{\"error\": \"no room\"}'"), "a shell: no room");
        assert!(said("read -r line; echo Traceback").contains("answered \"Traceback\""));
        assert!(said("exit 3").contains("ended without an answer"));
        assert!(Driver::start("nothing", &mut Command::new("/nonexistent/program")).is_err());
    }
}
