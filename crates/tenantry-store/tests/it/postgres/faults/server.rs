//! A server that can be killed, and a disk that can be full.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients/postgres/server.py");

/// A server of this test's own.
pub(super) struct Server {
    script: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(super) url: String,
    pub(super) pid: u32,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(super) fn start(settings: &[&str]) -> Self {
        let python = std::env::var("TENANTRY_TEST_PYTHON").expect(
            "TENANTRY_TEST_PYTHON must name a Python that has the packages of clients/postgres",
        );
        let folder = tempfile::tempdir().expect("a folder");
        let mut script = Command::new(python)
            .arg(SCRIPT)
            .arg(folder.path().join("data"))
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a Python");
        let orders = script.stdin.take();
        let answers = BufReader::new(script.stdout.take().expect("piped"));
        let (url, pid) = (String::new(), 0);
        let mut server = Self { script, orders, answers, url, pid, _folder: folder };
        server.answer();
        server
    }

    /// Kills it as a crash would, or starts it again.
    pub(super) fn order(&mut self, word: &str) {
        tokio::task::block_in_place(|| {
            let orders = self.orders.as_mut().expect("it runs");
            writeln!(orders, "{word}").and_then(|()| orders.flush()).expect("an order");
            self.answer();
        });
    }

    fn answer(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        let part = |name: &str| {
            let (_, rest) = line.split_once(&format!("\"{name}\": ")).expect("PostgreSQL runs");
            rest.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
        };
        (self.url, self.pid) = (part("url"), part("pid").parse().expect("a number"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It stops the server when its standard input ends.
        drop(self.orders.take());
        let _ = self.script.wait();
    }
}

/// Leaves out, if it is set, what needs the right to mount a file system.
const NO_MOUNT: &str = "TENANTRY_TEST_NO_MOUNT";

/// A small file system.
pub(super) struct Small(pub(super) tempfile::TempDir);

impl Small {
    /// None if the tests are told to do without.
    pub(super) fn mount(of: u32) -> Option<Self> {
        use std::os::unix::fs::{MetadataExt as _, chown};
        if std::env::var_os(NO_MOUNT).is_some() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        // Where nobody but this process's user can pass, the server cannot either.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).expect("opened");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(folder.path());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        assert!(is_mounted, "mounting takes root's rights; {NO_MOUNT}=1 leaves this test out");
        let small = Self(folder);
        let server = std::fs::metadata(format!("/proc/{of}")).expect("it runs");
        let inside = small.0.path().join("space");
        std::fs::create_dir(&inside).expect("made");
        chown(&inside, Some(server.uid()), Some(server.gid())).expect("given away");
        Some(small)
    }

    pub(super) fn filler(&self) -> std::path::PathBuf {
        self.0.path().join("filler")
    }

    /// Takes all space that is left.
    pub(super) fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        while file.write_all(&[1; 4096]).is_ok() {}
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // As soon as nobody uses it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
