//! A disk that is full, a folder that is taken or may not be written, files that are missing.

use crate::stand::{Running, Stand, arguments, record};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tenantry_store::{EmbeddedConfig, Health, MasterKey, TenantChange};
use tenantry_types::{ErrorKind, Isolation, Selector, TenantState, WriteMode};

const FULL: &str = "TENANTRY_FULL_DISK_FOLDER";
const FULL_APART: &str = "TENANTRY_FULL_DISK_APART_FOLDER";
const READ_ONLY: &str = "TENANTRY_READ_ONLY_FOLDER";

/// Sets how far this process may write into a file. `prlimit` is part of util-linux.
fn limit_files(bytes: &str) {
    let done = Command::new("prlimit")
        .args(["--pid", &std::process::id().to_string(), &format!("--fsize={bytes}:unlimited")])
        .status()
        .expect("prlimit (Debian package util-linux) is needed");
    assert!(done.success());
}

async fn try_write(stand: &Stand, tenant: &str, n: u64) -> Result<(), tenantry_types::Error> {
    let found = stand.store.find_tenant(&crate::stand::tenant(tenant)).await?.expect("it lives");
    let scope = stand.scope(found.id);
    let collection = stand.collection(&scope).await?;
    let batch = (0..8).map(|at| record(&format!("{n}-{at}"), vec![n as f32; 512], &[])).collect();
    stand.store.write(&scope, &collection, WriteMode::Upsert, batch).await.map(|_| ())
}

async fn counts(stand: &Stand, tenant: &str) -> (usize, usize) {
    let found = stand.store.find_tenant(&crate::stand::tenant(tenant)).await.expect("find");
    let scope = stand.scope(found.expect("it lives").id);
    let collection = stand.collection(&scope).await.expect("collection");
    let counted = stand.store.count(&scope, &collection, &Selector::default()).await;
    (counted.expect("count").value, stand.all(&scope, &collection).await.expect("get").len())
}

/// Runs in a process of its own, because the limit is the process's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_on_a_full_disk() {
    let Some(folder) = std::env::var_os(FULL) else { return };
    let folder = Path::new(&folder);
    // The second opening cuts the journal to its content, so that the limit is reached soon.
    let stand = Stand::open(folder).await;
    stand.tenant_with_collection("a").await;
    stand.tenant_with_collection("b").await;
    stand.close();
    let stand = Stand::open(folder).await;
    let mut written = 0;
    for _ in 0..4 {
        try_write(&stand, "a", written).await.expect("there is room");
        written += 1;
    }
    limit_files("400000");
    let error = loop {
        match try_write(&stand, "a", written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the limit is never reached");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");

    // Read-only: it says so, refuses every change and answers every read.
    assert!(matches!(stand.store.health(), Health::ReadOnly(_)));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(2_500) {
        let error = try_write(&stand, "b", 0).await.expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains("read-only"), "{error}");
        let error = stand.create("c").await.map(|_| ()).expect_err("no room");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        let there = 8 * usize::try_from(written).expect("few");
        assert_eq!(counts(&stand, "a").await, (there, there));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // It comes back by itself, although requests never stop.
    limit_files("unlimited");
    let start = Instant::now();
    while let Err(error) = try_write(&stand, "b", 0).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "it does not come back: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stand.store.health(), Health::Ready);
    for _ in 0..3 {
        // The first of these may have been decided by the journal while the store was reopened.
        try_write(&stand, "a", written).await.expect("there is room again");
        written += 1;
    }
    stand.create("c").await.expect("the name is free");
    check_after(&stand, written).await;
    stand.close();
    let stand = Stand::open(folder).await;
    check_after(&stand, written).await;
    stand.close();
    println!("came back");
}

async fn check_after(stand: &Stand, written: u64) {
    let there = 8 * usize::try_from(written).expect("few");
    assert_eq!(counts(stand, "a").await, (there, there));
    assert_eq!(counts(stand, "b").await, (8, 8));
    for name in ["a", "b", "c"] {
        let found = stand.store.find_tenant(&crate::stand::tenant(name)).await.expect("find");
        stand.verify_audit(&stand.scope(found.expect("it lives").id)).await;
    }
}

/// The same for a tenant with a database of its own: the others do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_with_one_full_database() {
    let Some(folder) = std::env::var_os(FULL_APART) else { return };
    let folder = Path::new(&folder);
    let stand = Stand::open(folder).await;
    for name in ["a", "b"] {
        stand.create_in(name, Isolation::Database).await.expect("tenant");
        try_write(&stand, name, 0).await.expect("there is room");
    }
    stand.close();
    // The second opening cuts the journals to their content.
    let stand = Stand::open(folder).await;
    let mut written = 1;
    limit_files("400000");
    let error = loop {
        match try_write(&stand, "a", written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the limit is never reached");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!(stand.store.health(), Health::Ready);
    assert_eq!(stand.store.totals().read_only_databases, 1);
    try_write(&stand, "b", 1).await.expect("others have room");
    let there = 8 * usize::try_from(written).expect("few");
    assert_eq!(counts(&stand, "a").await, (there, there));
    // What the root knows of it changes as ever.
    let (a, begun) = (crate::stand::tenant("a"), Instant::now());
    for state in [TenantState::Suspended, TenantState::Active] {
        let change = TenantChange { state: Some(state), ..TenantChange::default() };
        stand.store.change_tenant(&stand.operator, &a, &change).await.expect("change");
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let scope = stand.scope(stand.store.find_tenant(&a).await.expect("find").expect("a").id);
    let log = stand.store.audit(&scope, 0, 100).await.expect("a log can be read");
    assert!(log.iter().all(|entry| entry.event.action != "tenant.suspend"));

    limit_files("unlimited");
    let start = Instant::now();
    while let Err(error) = try_write(&stand, "a", written).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "it does not come back: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let told = stand.store.audit(&scope, 0, 100).await.expect("the log");
    let told = told.iter().filter(|entry| entry.event.action.starts_with("tenant."));
    let actions: Vec<_> = told.map(|entry| entry.event.action.as_str()).collect();
    assert_eq!(actions, ["tenant.create", "tenant.suspend", "tenant.resume"]);
    stand.verify_audit(&scope).await;
    assert_eq!(counts(&stand, "b").await, (16, 16));
    stand.close();
    println!("came back");
}

#[test]
fn a_full_database_stops_its_own_tenant_only() {
    let output = with_limits("faults::child_with_one_full_database", FULL_APART);
    assert!(output.contains("came back"), "{output}");
}

#[test]
fn a_full_disk_stops_writes_only_and_only_for_as_long_as_it_is_full() {
    let output = with_limits("faults::child_on_a_full_disk", FULL);
    assert!(output.contains("came back"), "{output}");
}

/// Runs a test in a process that is told with an error, and not by its end, that a file may not
/// grow.
fn with_limits(test: &str, variable: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    // Ignored signals stay ignored in the program that replaces the shell.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().expect("this test binary"))
        .args(arguments(test))
        .env(variable, folder.path().join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the child");
    wait(child)
}

/// What a child said on both its outputs, after it succeeded.
fn wait(child: std::process::Child) -> String {
    let output = child.wait_with_output().expect("child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

async fn refusal(config: EmbeddedConfig) -> tenantry_types::Error {
    match Stand::try_open(config).await {
        Ok(_) => panic!("it opens"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn child_in_a_read_only_folder() {
    let Some(folder) = std::env::var_os(READ_ONLY) else { return };
    let error = refusal(EmbeddedConfig::new(&folder)).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let said = error.to_string();
    assert!(said.contains(&folder.to_string_lossy().into_owned()), "{said}");
    assert!(said.to_lowercase().contains("permission denied"), "{said}");
    println!("refused: {said}");
}

/// Root may write wherever it likes unless it lays that right down.
#[tokio::test]
async fn a_folder_that_may_not_be_written_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().join("data");
    Stand::open(&folder).await.close();
    let allow = |bits: u32| {
        for path in [folder.join("lock"), folder.clone()] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).expect("chmod");
        }
    };
    allow(0o500);
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt as _;
        me.uid() == 0
    });
    let mut command = Command::new(std::env::current_exe().expect("this test binary"));
    if is_root {
        command = Command::new("setpriv");
        command.arg("--bounding-set=-dac_override,-dac_read_search");
        command.arg(std::env::current_exe().expect("this test binary"));
    }
    let child = command
        .args(arguments("faults::child_in_a_read_only_folder"))
        .env(READ_ONLY, &folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("setpriv (Debian package util-linux) is needed");
    let said = wait(child);
    allow(0o700);
    assert!(said.contains("refused: "), "{said}");
    Stand::open(&folder).await.close();
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    let error = refusal(EmbeddedConfig::new(dir.path())).await;
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    stand.tenant_with_collection("a").await;
    stand.close();
    // Taken over as soon as it is closed.
    Stand::open(dir.path()).await.close();
    // And while another process holds it.
    let mut holder = Running(
        Command::new("flock")
            .arg("--no-fork")
            .arg(dir.path().join("lock"))
            .args(["sh", "-c", "echo held; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("flock (Debian package util-linux) is needed"),
    );
    let mut said = [0; 4];
    let mut pipe = holder.0.stdout.take().expect("its output");
    std::io::Read::read_exact(&mut pipe, &mut said).expect("held");
    assert_eq!(refusal(EmbeddedConfig::new(dir.path())).await.kind(), ErrorKind::Conflict);
}

/// A mistyped folder must not become a store, nor get as much as a lock.
#[tokio::test]
async fn a_folder_of_something_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let names = || {
        let entries = fs::read_dir(dir.path()).expect("list");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("entry").file_name()).collect();
        names.sort();
        names
    };
    fs::create_dir(dir.path().join("lost+found")).expect("make");
    for (file, content, kind, says) in [
        ("passwd", "root", ErrorKind::Invalid, "\"passwd\""),
        (".hidden", "", ErrorKind::Invalid, "\".hidden\""),
        ("format", "A4 paper", ErrorKind::Unsupported, "A4 paper"),
        ("slots", "not empty", ErrorKind::Corrupt, "no format file"),
    ] {
        fs::write(dir.path().join(file), content).expect("write");
        let before = names();
        let error = refusal(EmbeddedConfig::new(dir.path())).await;
        assert_eq!(error.kind(), kind, "{file}: {error:?}");
        let said = error.to_string();
        assert!(said.contains(says) && said.contains(&dir.path().display().to_string()), "{said}");
        assert_eq!(names(), before, "{file}");
        fs::remove_file(dir.path().join(file)).expect("remove");
    }
    // What a first start leaves that was cut short, and a fresh file system brings, is no hindrance.
    let key = "0123456789abcdef".repeat(4);
    let left = [("lock", ""), ("format.new", "tenan"), ("master.key", &key), ("slots", "")];
    for (file, content) in left.into_iter().chain([("master.new", "01")]) {
        fs::write(dir.path().join(file), content).expect("write");
    }
    let stand = Stand::open(dir.path()).await;
    stand.tenant_with_collection("a").await;
    stand.close();
    assert_eq!(fs::read_to_string(dir.path().join("master.key")).expect("key"), key);
}

/// One thing is missing or wrong; the refusal names it, and nothing is made in its place.
#[tokio::test]
async fn missing_and_foreign_files_are_refused_by_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let stand = Stand::open(dir.path()).await;
    stand.tenant_with_collection("a").await;
    stand.close();
    let master = fs::read_to_string(dir.path().join("master.key")).expect("master key");
    let check = async |file: &str, content: Option<&[u8]>, kind: ErrorKind, says: &str| {
        let (path, aside) = (dir.path().join(file), dir.path().join("aside"));
        fs::rename(&path, &aside).expect("rename");
        if let Some(content) = content {
            fs::write(&path, content).expect("write");
        }
        for _ in 0..2 {
            let error = refusal(EmbeddedConfig::new(dir.path())).await;
            assert_eq!(error.kind(), kind, "{file}: {error:?}");
            assert!(error.to_string().contains(says), "{file}: {error}");
        }
        assert_eq!(path.exists(), content.is_some(), "{file} was made anew");
        if path.is_dir() {
            fs::remove_dir_all(&path).expect("remove");
        }
        fs::rename(&aside, &path).expect("rename back");
    };
    check("format", None, ErrorKind::Corrupt, "no format file").await;
    check("format", Some(b"tenantry-embedded 9\n"), ErrorKind::Unsupported, "tenantry-embedded 9")
        .await;
    check("master.key", None, ErrorKind::Unavailable, "master.key is missing").await;
    check("master.key", Some(b"zz"), ErrorKind::Invalid, "master.key").await;
    let other = master.replace(['0', '1', '2'], "3");
    check("master.key", Some(other.as_bytes()), ErrorKind::Corrupt, "another master key").await;
    check("slots", None, ErrorKind::Corrupt, "slots is missing").await;
    check("slots", Some(b""), ErrorKind::Corrupt, "slot file").await;
    check("db", None, ErrorKind::Corrupt, "lost or damaged").await;
    check("db/version", None, ErrorKind::Corrupt, "version file").await;
    check("db/version", Some(b"FJL\x09"), ErrorKind::Corrupt, "cannot be opened").await;
    check("db/0.jnl", None, ErrorKind::Corrupt, "lost its journal").await;

    let key = MasterKey::from_hex(&master).expect("hex");
    let mut config = EmbeddedConfig::new(dir.path());
    config.master_key = MasterKey::Command("exit 3".into());
    let error = refusal(config.clone()).await;
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    // The same key by another way, with the file gone.
    fs::remove_file(dir.path().join("master.key")).expect("remove");
    config.master_key = key;
    let stand = Stand::try_open(config).await.expect("the right key opens it");
    assert_eq!(counts(&stand, "a").await, (0, 0));
    stand.close();
}
