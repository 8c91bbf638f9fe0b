//! Servers as child processes: started on free loopback ports, watched, always ended.

use crate::http::{Connection, request_with};
use anyhow::{Context, Result, bail};
use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(1);

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    log: PathBuf,
    started: Instant,
}

impl Server {
    /// Starts a server whose output goes to `log`.
    pub(crate) fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name, child, log: log.to_owned(), started })
    }

    /// Waits until `GET path` succeeds; the time since the start.
    pub(crate) fn wait_ready(&mut self, address: SocketAddr, path: &str) -> Result<Duration> {
        let probe = request_with("GET", path, &[], None);
        loop {
            let answer = Connection::open(address).and_then(|mut c| c.send(&probe));
            if answer.is_ok_and(|answer| answer.status == 200) {
                let took = self.started.elapsed();
                self.check_listens(address)?;
                return Ok(took);
            }
            self.still_starting("does not answer")?;
            thread::sleep(POLL_EVERY);
        }
    }

    /// Fails if the address is another process's: what follows must never reach a server that
    /// somebody else started there.
    fn check_listens(&self, address: SocketAddr) -> Result<()> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let table = fs::read_to_string(process.join("net/tcp"))?;
        let socket = find_socket(&table, address).map(|inode| format!("socket:[{inode}]"));
        for entry in fs::read_dir(process.join("fd"))? {
            let Ok(link) = fs::read_link(entry?.path()) else { continue };
            if socket.as_deref().is_some_and(|socket| link == Path::new(socket)) {
                return Ok(());
            }
        }
        bail!("{address} belongs to another process than the {} started here", self.name)
    }

    /// Waits until a Tenantry has printed where a listener of it listens.
    fn wait_address(&mut self, listener: &str) -> Result<SocketAddr> {
        loop {
            if let Some(address) = find_address(&self.output(), listener) {
                return Ok(address);
            }
            self.still_starting("tells no address")?;
            thread::sleep(POLL_EVERY);
        }
    }

    fn still_starting(&mut self, lack: &str) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status} while starting:\n{}", self.name, self.output());
        }
        if self.started.elapsed() > START_TIMEOUT {
            bail!("{} {lack} after {START_TIMEOUT:?}:\n{}", self.name, self.output());
        }
        Ok(())
    }

    /// What the server has printed so far.
    pub(crate) fn output(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The operator key that a new Tenantry installation prints.
    pub(crate) fn operator_key(&self) -> Result<String> {
        find_key(&self.output())
            .with_context(|| format!("no operator key was printed:\n{}", self.output()))
    }

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        parse_resident(&status).context("no VmRSS line")
    }

    /// Asks the server to end, and waits for it.
    pub(crate) fn stop(mut self) -> Result<ExitStatus> {
        let pid = self.child.id().to_string();
        // The shell's own `kill` is there even where no program of that name is.
        crate::step::run(Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]))?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(POLL_EVERY);
        }
        bail!("{} did not end within {STOP_TIMEOUT:?}:\n{}", self.name, self.output())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running Tenantry on ports that the system chose.
#[derive(Debug)]
pub(crate) struct Tenantry {
    pub(crate) server: Server,
    /// Where its own protocol is.
    pub(crate) native: SocketAddr,
    /// Where Chroma's protocol is at the root.
    pub(crate) chroma: SocketAddr,
    /// The time from the start of the process until it was ready.
    pub(crate) ready_after: Duration,
}

impl Tenantry {
    /// Starts the program on `folder/data` and waits until it is ready.
    pub(crate) fn start(program: &Path, folder: &Path, flags: &[&str]) -> Result<Self> {
        Self::start_with(program, folder, flags, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(
        program: &Path,
        folder: &Path,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Self> {
        let mut command = Command::new(program);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.arg("serve").arg("--data-dir").arg(folder.join("data")).args(flags);
        command.args(["--listen", "127.0.0.1:0", "--chroma-listen", "127.0.0.1:0"]);
        let mut server = Server::start("tenantry", &mut command, &folder.join("server.log"))?;
        let native = server.wait_address("native")?;
        let ready_after = server.wait_ready(native, "/readyz")?;
        let chroma = server.wait_address("chroma")?;
        Ok(Self { server, native, chroma, ready_after })
    }
}

/// An address of this machine on which nothing listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Bytes that a folder takes on disk.
pub(crate) fn disk_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let found = entry.metadata()?;
        sum += if found.is_dir() { disk_bytes(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(sum)
}

/// An empty folder below cargo's target folder.
pub(crate) fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = crate::step::target().join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
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

/// The inode of the socket that listens at an IPv4 address, from Linux's table of sockets.
fn find_socket(table: &str, address: SocketAddr) -> Option<&str> {
    let SocketAddr::V4(address) = address else { return None };
    let host = u32::from_ne_bytes(address.ip().octets());
    let local = format!("{host:08X}:{:04X}", address.port());
    table.lines().find_map(|line| {
        let cells: Vec<_> = line.split_whitespace().collect();
        let listens = cells.get(1) == Some(&local.as_str()) && cells.get(3) == Some(&"0A");
        if listens { cells.get(9).copied() } else { None }
    })
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_the_output_but_not_a_mere_id() {
        assert_eq!(find_key("id tnt_abc only\nkey: tnt_abc_def.\n"), Some("tnt_abc_def".into()));
        assert_eq!(find_key("tnt_abc"), None);
    }

    #[test]
    fn a_server_of_somebody_else_is_never_taken_for_ours() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let foreign = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1_024]).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            listener
        });
        let log = empty_folder("xtask-tests-foreign").unwrap().join("sleep.log");
        let mut command = Command::new("sleep");
        let mut server = Server::start("sleep", command.arg("30"), &log).unwrap();
        let error = server.wait_ready(address, "/").unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
        foreign.join().unwrap();
    }

    #[test]
    fn an_address_is_found_by_its_listener() {
        let printed = "log\nlistening on http://127.0.0.1:1 (native)\n\
                       listening on http://127.0.0.1:2 (chroma)\nlistening on ht";
        assert_eq!(find_address(printed, "chroma"), "127.0.0.1:2".parse().ok());
        assert_eq!(find_address(printed, "qdrant"), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(parse_resident("Name: x\nVmRSS:\t    1024 kB\n"), Some(1 << 20));
        assert_eq!(parse_resident("Name: x\n"), None);
    }

    #[test]
    fn free_addresses_are_loopback() {
        assert!(free_address().unwrap().ip().is_loopback());
    }

    #[test]
    fn a_server_that_ends_while_starting_is_an_error_with_its_output() {
        let log = empty_folder("xtask-tests").unwrap().join("false.log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no luck; exit 3"]);
        let mut server = Server::start("sh", &mut command, &log).unwrap();
        let error = server.wait_ready(free_address().unwrap(), "/").unwrap_err().to_string();
        assert!(error.contains("no luck"), "{error}");
    }
}
