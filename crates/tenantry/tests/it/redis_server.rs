//! A Redis for one test: Debian's `redis-server`, on a socket in a folder of its own.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const PROGRAM: &str = "redis-server";

/// A running server. Dropping it kills it.
pub(crate) struct RedisServer {
    child: Child,
    folder: TempDir,
    more: Vec<String>,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further arguments.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let more: Vec<_> = more.iter().map(|one| (*one).to_owned()).collect();
        let mut server = Self { child: Self::spawn(&folder, &more), folder, more };
        server.wait();
        server
    }

    fn spawn(folder: &TempDir, more: &[String]) -> Child {
        let mut command = Command::new(PROGRAM);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]);
        command.arg(folder.path().join("r")).arg("--dir").arg(folder.path());
        command.args(more);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        spawned.unwrap_or_else(|why| {
            panic!("{PROGRAM} is needed (Debian's package of that name): {why}")
        })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("r")
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn wait(&mut self) {
        let begun = Instant::now();
        while UnixStream::connect(self.socket()).is_err() {
            assert!(self.child.try_wait().unwrap().is_none(), "{PROGRAM} has ended");
            assert!(begun.elapsed() < Duration::from_secs(10), "{PROGRAM} does not answer");
            sleep(Duration::from_millis(5));
        }
    }

    /// What it answers to a command, in its own protocol.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said.strip_suffix("+OK\r\n").unwrap().to_owned()
    }

    /// The keys that it has.
    pub(crate) fn keys(&self) -> Vec<String> {
        let said = self.ask("KEYS *");
        let mut keys: Vec<_> = said.lines().skip(2).step_by(2).map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// It keeps its connections and answers nothing.
    pub(crate) fn hang(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Another one in its place, which knows nothing.
    pub(crate) fn start_again(&mut self) {
        self.child = Self::spawn(&self.folder, &self.more);
        self.wait();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
