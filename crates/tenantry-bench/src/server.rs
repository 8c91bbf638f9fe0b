//! Servers as child processes: started on free loopback ports, watched, always ended.

use crate::{
    http::{Connection, request_with},
    process::{cpu_seconds_of, output, status_bytes, written_bytes_of},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(2);

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    /// True if it ends when its standard input closes, and must be given time to end its own
    /// children; others are killed.
    ends_by_itself: bool,
    log: PathBuf,
    started: Instant,
}

impl Server {
    /// Starts a server whose output goes to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        let (log, started) = (log.to_owned(), Instant::now());
        Ok(Self { name, child, ends_by_itself: false, log, started })
    }

    /// From now on closing the standard input is how it is ended.
    pub(crate) fn ending_by_itself(mut self) -> Self {
        self.ends_by_itself = true;
        self
    }

    /// Waits until `GET path` succeeds.
    pub(crate) fn wait_ready(&mut self, address: SocketAddr, path: &str) -> Result<()> {
        let probe = request_with("GET", path, &[], None);
        self.wait(|_| {
            let answer = Connection::open(address).and_then(|mut one| one.send(&probe));
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        })
    }

    /// Waits until `find` finds something in what the server has printed so far.
    pub(crate) fn wait<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        loop {
            if let Some(found) = find(&self.printed()) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} while starting:\n{}", self.name, self.printed());
            }
            if self.started.elapsed() > START_TIMEOUT {
                bail!("{} is not ready after {START_TIMEOUT:?}:\n{}", self.name, self.printed());
            }
            thread::sleep(POLL_EVERY);
        }
    }

    /// Asks the server to end in order, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        output(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]))?;
        let asked = Instant::now();
        while asked.elapsed() < START_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "{} ended with {status}:\n{}", self.name, self.printed());
                return Ok(());
            }
            thread::sleep(POLL_EVERY);
        }
        bail!("{} does not end:\n{}", self.name, self.printed())
    }

    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process and all that it started, shared pages counted once.
    pub(crate) fn resident_bytes(&self) -> u64 {
        tree_bytes(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let asked = Instant::now();
        while self.ends_by_itself
            && asked.elapsed() < START_TIMEOUT
            && matches!(self.child.try_wait(), Ok(None))
        {
            thread::sleep(POLL_EVERY);
        }
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Proportional memory of a process and its descendants.
pub(crate) fn tree_bytes(root: u32) -> u64 {
    tree(root).into_iter().map(proportional_bytes).sum()
}

/// CPU seconds that a process and its descendants have used, ended ones too.
pub(crate) fn tree_cpu_seconds(root: u32) -> f64 {
    tree(root).into_iter().map(cpu_seconds_of).sum()
}

/// Bytes that a process and its living descendants have sent to the disk.
pub(crate) fn tree_written_bytes(root: u32) -> u64 {
    tree(root).into_iter().map(written_bytes_of).sum()
}

/// A process and its descendants.
fn tree(root: u32) -> Vec<u32> {
    let parents = parents();
    let is_below = |pid: u32| {
        let mut at = pid;
        // The depth is bounded, in case processes come and go meanwhile.
        for _ in 0..16 {
            if at == root {
                return true;
            }
            match parents.iter().find(|(child, _)| *child == at) {
                Some((_, parent)) => at = *parent,
                None => return false,
            }
        }
        false
    };
    parents.iter().map(|(pid, _)| *pid).filter(|pid| is_below(*pid)).collect()
}

/// Every process with its parent.
fn parents() -> Vec<(u32, u32)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent(&stat)?))
    })
    .collect()
}

/// The parent in a line of `/proc/<pid>/stat`, whose second field may hold anything.
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn proportional_bytes(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.map_or_else(|| status_bytes(pid, "VmRSS"), |kibibytes| kibibytes * 1_024)
}

/// A running Tenantry on ports that the system chose.
#[derive(Debug)]
pub(crate) struct Tenantry {
    pub(crate) server: Server,
    /// Where its own protocol is.
    pub(crate) native: SocketAddr,
    /// Where Chroma's protocol is at the root.
    pub(crate) chroma: SocketAddr,
    pub(crate) operator_key: String,
    /// From its start until it said that it is ready.
    pub(crate) ready_after: Duration,
}

impl Tenantry {
    /// Starts the program on `folder/data`, which is new, and waits until it is ready.
    pub(crate) fn start(program: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(program, folder, &[])
    }

    /// [`Tenantry::start`] with more arguments.
    pub(crate) fn start_with(program: &Path, folder: &Path, more: &[&str]) -> Result<Self> {
        let mut started = Self::restart_with(program, folder, more, String::new())?;
        started.operator_key =
            find_key(&started.server.printed()).context("no operator key was printed")?;
        Ok(started)
    }

    /// Starts the program on what an earlier one left, and waits until it is ready.
    pub(crate) fn restart(program: &Path, folder: &Path, operator_key: String) -> Result<Self> {
        Self::restart_with(program, folder, &[], operator_key)
    }

    /// [`Tenantry::restart`] with more arguments.
    pub(crate) fn restart_with(
        program: &Path,
        folder: &Path,
        more: &[&str],
        operator_key: String,
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("serve").arg("--data-dir").arg(folder.join("data"));
        command.args(["--listen", "127.0.0.1:0", "--chroma-listen", "127.0.0.1:0"]).args(more);
        let mut server = Server::start("tenantry", &mut command, &folder.join("server.log"))?;
        let native = server.wait(|printed| find_address(printed, "native"))?;
        server.wait_ready(native, "/readyz")?;
        let ready_after = server.started.elapsed();
        let chroma = server.wait(|printed| find_address(printed, "chroma"))?;
        Ok(Self { server, native, chroma, operator_key, ready_after })
    }
}

/// An address of this machine on which nothing listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn find_key(printed: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    printed
        .match_indices("tnt_")
        .map(|(at, _)| printed.get(at..).unwrap_or_default())
        .map(|rest| rest.split(|c| !fits(c)).next().unwrap_or_default())
        .find(|key| key.split('_').filter(|part| !part.is_empty()).count() == 3)
        .map(str::to_owned)
}

/// The address in a line like `listening on http://127.0.0.1:7700 (native)`.
fn find_address(printed: &str, listener: &str) -> Option<SocketAddr> {
    let end = format!(" ({listener})");
    let url = printed
        .lines()
        .filter_map(|line| line.strip_prefix("listening on http://"))
        .find_map(|rest| rest.strip_suffix(end.as_str()))?;
    url.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_addresses_are_found_in_the_output() {
        let printed = "id tnt_abc only\nkey: tnt_abc_def.\n\
                       listening on http://127.0.0.1:1 (native)\nlistening on ht";
        assert_eq!(find_key(printed), Some("tnt_abc_def".into()));
        assert_eq!(find_address(printed, "native"), "127.0.0.1:1".parse().ok());
        assert_eq!(find_address(printed, "chroma"), None);
        assert_eq!(find_key("tnt_abc"), None);
    }

    #[test]
    fn a_server_ends_in_order_when_asked_to() {
        let folder = std::env::temp_dir();
        let log = folder.join(format!("tenantry-bench-{}.log", std::process::id()));
        let start = |script: &str| {
            let mut command = Command::new("sh");
            let mut server = Server::start("sh", command.args(["-c", script]), &log).unwrap();
            server.wait(|printed| printed.contains("up").then_some(())).unwrap();
            server
        };
        let wait = "echo up; while :; do sleep 0.01; done";
        start(&format!("trap 'exit 0' TERM; {wait}")).stop().unwrap();
        let error = start(&format!("trap 'echo why; exit 3' TERM; {wait}")).stop().unwrap_err();
        fs::remove_file(&log).unwrap();
        assert!(error.to_string().contains("why"), "{error}");
    }

    #[test]
    fn a_parent_is_read_whatever_the_process_is_called() {
        assert_eq!(parent("12 (a) b) S 7 12 12"), Some(7));
        assert_eq!(parent("12 (sh"), None);
    }

    #[test]
    fn memory_of_a_process_includes_its_children() {
        let alone = proportional_bytes(std::process::id());
        let mut child = Command::new("sleep").arg("30").spawn().unwrap();
        let both = tree_bytes(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(alone > 0 && both > 0, "{alone} {both}");
        assert!(tree_bytes(child.id()) < both);
    }
}
