//! Folders below cargo's target folder, child processes, and a Python environment for the peers.

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// The file in an environment that tells what it was made from.
const STAMP: &str = "made-from.txt";

/// The top folder of the checkout.
fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The folder that cargo builds into.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where results go.
pub(crate) fn bench_folder() -> Result<PathBuf> {
    let folder = target().join("bench");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// An empty folder below the results'.
pub(crate) fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = bench_folder()?.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Bytes that a folder takes on disk; 0 if there is none.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    if !folder.exists() {
        return Ok(0);
    }
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        sum += if found.is_dir() { disk_bytes(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(sum)
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {}", output.status, said.trim());
    }
    Ok(output.stdout)
}

/// The server's program: the given one, or one that cargo builds now, optimised.
pub(crate) fn tenantry_program(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        ensure!(given.is_file(), "{} is not a program", given.display());
        return Ok(given.canonicalize()?);
    }
    println!("building tenantry");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--package", "tenantry"]).current_dir(root());
    ensure!(build.status()?.success(), "tenantry does not build");
    Ok(target().join("release/tenantry"))
}

/// A Python environment that holds exactly what one list of requirements names.
#[derive(Debug)]
pub(crate) struct Venv(PathBuf);

impl Venv {
    /// The environment `target/bench/venv-<name>`; made anew when its requirements changed.
    pub(crate) fn ensure(name: &str, requirements: &str) -> Result<Self> {
        let venv = Self(bench_folder()?.join(format!("venv-{name}")));
        let stamp = venv.0.join(STAMP);
        if fs::read_to_string(&stamp).is_ok_and(|made| made == requirements) {
            return Ok(venv);
        }
        println!("making {}", venv.0.display());
        let python = ["python3.11", "python3"]
            .into_iter()
            .find(|python| output(Command::new(python).arg("--version")).is_ok())
            .context("Python is needed: install python3 and python3-venv")?;
        output(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv.0))?;
        let list = venv.0.join("requirements.txt");
        fs::write(&list, requirements)?;
        let mut pip = Command::new(venv.program("python"));
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        output(pip.arg(&list)).context("hnswlib and others may need g++ and python3-dev")?;
        fs::write(stamp, requirements)?;
        Ok(venv)
    }

    /// The path of a program in the environment.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }
}

/// A line of Linux's `/proc/<pid>/status`, in bytes; 0 where there is none.
///
/// `VmRSS` is all resident memory, `RssAnon` that without mapped files.
pub(crate) fn status_bytes(pid: u32, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    parse_status(&status, line).unwrap_or_default()
}

/// Bytes that a process has sent to disks, as Linux's `/proc/<pid>/io` has it; 0 if it is gone.
pub(crate) fn written_bytes_of(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    parse_line(&io, "write_bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or_default()
}

/// What follows a line's name.
fn parse_line<'a>(text: &'a str, line: &str) -> Option<&'a str> {
    let mut lines = text.lines().filter_map(|found| found.split_once(':'));
    lines.find(|(name, _)| *name == line).map(|(_, value)| value.trim())
}

fn parse_status(status: &str, line: &str) -> Option<u64> {
    let value = parse_line(status, line)?;
    let kibibytes: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

/// Clock ticks a second in Linux's `/proc`, whatever the kernel's own are.
const TICKS: f64 = 100.0;

/// CPU seconds that a process has used, its ended children's with them; 0 if it is gone.
pub(crate) fn cpu_seconds_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    parse_ticks(&stat).unwrap_or_default() / TICKS
}

/// CPU seconds that this process has used.
fn cpu_seconds() -> f64 {
    cpu_seconds_of(std::process::id())
}

/// How long something took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    /// CPU time of this process.
    pub(crate) cpu_seconds: f64,
}

/// Measures time and this process's CPU time.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    cpu_seconds: f64,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), cpu_seconds: cpu_seconds() }
    }

    pub(crate) fn took(&self) -> Took {
        Took {
            seconds: self.started.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds() - self.cpu_seconds,
        }
    }
}

/// User and system time, own and of children waited for. The second field may hold anything.
fn parse_ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields = rest.split_whitespace().skip(11).take(4);
    fields.map(|field| field.parse::<f64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nRssAnon:\t 1024 kB\n";
        assert_eq!(parse_status(status, "VmRSS"), Some(2 << 20));
        assert_eq!(parse_status(status, "RssAnon"), Some(1 << 20));
        assert_eq!(parse_status(status, "RssFile"), None);
        assert_eq!(parse_status("VmRSS: lots\n", "VmRSS"), None);
    }

    #[test]
    fn cpu_time_is_user_and_system_time_with_children() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 0";
        assert_eq!(parse_ticks(stat), Some(127.0));
        assert_eq!(parse_ticks("12 (sh"), None);
        assert!(cpu_seconds() >= 0.0);
    }

    #[test]
    fn a_failing_command_is_an_error_that_says_why() {
        let error = output(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"]));
        assert!(error.unwrap_err().to_string().contains("no luck"));
    }
}
