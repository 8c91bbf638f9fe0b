//! Named steps with their durations, and commands that fail loudly.

use anyhow::{Context, Result, anyhow, bail};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Runs steps one after another and remembers how long each took.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs one step; an error names it.
    pub(crate) fn run(
        &mut self,
        name: impl Into<String>,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let name = name.into();
        println!("── {name}");
        let started = Instant::now();
        work().with_context(|| format!("step `{name}` failed"))?;
        let took = started.elapsed();
        println!("── {name}: ok, {:.1} s", took.as_secs_f64());
        self.done.push((name, took));
        Ok(())
    }

    /// Runs two steps at once, for each of which one processor is enough.
    pub(crate) fn run_both(
        &mut self,
        one: (String, impl FnOnce() -> Result<()> + Send),
        other: (String, impl FnOnce() -> Result<()> + Send),
    ) -> Result<()> {
        let (mut beside, (name, work)) = (Self::default(), other);
        std::thread::scope(|scope| {
            let working = scope.spawn(|| beside.run(name, work));
            let outcome = self.run(one.0, one.1);
            let of_other = working.join().unwrap_or_else(|_| Err(anyhow!("a step panicked")));
            match (outcome, of_other) {
                (Err(one), Err(other)) => Err(anyhow!("{one:#}\nand {other:#}")),
                (outcome, of_other) => outcome.and(of_other),
            }
        })?;
        self.done.append(&mut beside.done);
        Ok(())
    }

    /// Prints all durations.
    pub(crate) fn summary(&self) {
        println!();
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        let all: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>8.1} s  in all, of which some ran at once", all.as_secs_f64());
    }
}

/// The top folder of the checkout.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A command that runs in the top folder of the checkout.
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), arguments)
}

/// Runs a command to its end; anything but success is an error that shows the command.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("start {}", shown(command)))?;
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            shown(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

fn shown(command: &Command) -> String {
    let mut text = format!("`{}", command.get_program().to_string_lossy());
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text + "`"
}
