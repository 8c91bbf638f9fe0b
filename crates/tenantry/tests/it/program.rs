//! Runs the program.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const END_TIMEOUT: Duration = Duration::from_secs(30);

/// The program with these arguments and with no setting from this process's environment.
pub(crate) fn tenantry(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENANTRY_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end: exit code, standard output, standard error.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    texts(&tenantry(args).output().unwrap())
}

pub(crate) fn texts(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Runs to the end and must succeed; standard output.
pub(crate) fn done(args: &[&str]) -> String {
    let (code, out, err) = run(args);
    assert_eq!(code, 0, "{args:?}: {err}");
    out
}

/// Runs to the end and must fail with one line that has all these words.
pub(crate) fn fails(command: &mut Command, words: &[&str]) {
    let (code, out, err) = texts(&command.output().unwrap());
    assert_eq!(code, 1, "{out}{err}");
    let last = err.lines().last().unwrap_or_default();
    assert!(last.starts_with("error: "), "{err}");
    for word in words {
        assert!(last.contains(word), "{word:?} is missing: {err}");
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    out: BufReader<ChildStdout>,
    /// The URL of the main listener.
    pub(crate) url: String,
    /// The URL of Chroma's listener.
    pub(crate) chroma: String,
}

impl Server {
    /// Starts `serve` on free ports with further arguments.
    pub(crate) fn start(folder: &Path, args: &[&str]) -> Self {
        let mut command = tenantry(&["serve", "--data-dir"]);
        command.arg(folder).args(["--listen", "127.0.0.1:0", "--chroma-listen", "127.0.0.1:0"]);
        Self::spawn(command.args(args))
    }

    /// Starts a command that prints where it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut listening = |name: &str| {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            let url = line.trim().strip_prefix("listening on ").and_then(|l| l.strip_suffix(name));
            url.map(|url| url.trim_end().to_owned())
        };
        let (native, chroma) = (listening("(native)"), listening("(chroma)"));
        let (Some(url), Some(chroma)) = (native, chroma) else {
            let mut err = String::new();
            child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
            panic!("the server did not start: {err}");
        };
        Self { child, out, url, chroma }
    }

    /// The address of the main listener.
    pub(crate) fn address(&self) -> &str {
        self.url.split_once("://").unwrap().1
    }

    /// The URL of a further listener, which it announces after those two.
    pub(crate) fn also_listens(&mut self, name: &str) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").and_then(|l| l.strip_suffix(name));
        url.unwrap_or_else(|| panic!("no listener {name}: {line}")).trim_end().to_owned()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = i32::try_from(self.child.id()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    }

    /// Waits for the end: status, further standard output, standard error.
    pub(crate) fn wait(mut self) -> (ExitStatus, String, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < END_TIMEOUT, "the server does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (status, out, err)
    }

    /// Stops it, which must succeed; its standard error.
    pub(crate) fn stop(self) -> String {
        self.terminate();
        let (status, out, err) = self.wait();
        assert!(status.success() && out.is_empty(), "{status} {out} {err}");
        err
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The operator key in a new server's standard error.
pub(crate) fn key_in(text: &str) -> &str {
    text.split_whitespace().find(|word| word.starts_with("tnt_")).expect("a key is shown")
}

/// A data folder with an operator key, that no server holds.
pub(crate) struct Folder {
    /// Keeps the folder.
    pub(crate) temporary: TempDir,
    /// The operator key.
    pub(crate) key: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let err = Server::start(&temporary.path().join("data"), &[]).stop();
        let key = key_in(&err).to_owned();
        Self { temporary, key }
    }

    pub(crate) fn path(&self) -> String {
        self.temporary.path().join("data").display().to_string()
    }

    /// Starts a server on it.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        Server::start(Path::new(&self.path()), args)
    }
}
