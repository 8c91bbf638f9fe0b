//! The whole check, and the README's test command.

use crate::{
    chroma_suite::{self, Selection},
    layers,
    machine::{Need, Venv, ensure, on_path},
    placement::Placement,
    postgres::{self, Postgres},
    schemathesis,
    scratch::Scratch,
    step::{Steps, cargo, command, root, run},
    tidy,
};
use anyhow::{Context, Result};
use std::path::PathBuf;

/// The folder of the real clients' tests.
const CLIENT_TESTS: &str = "clients/chroma/python";
/// Those of them that are run for each further placement.
const CLIENT_TESTS_FEW: &[&str] = &["test_isolation.py", "test_records.py"];

/// What building and the tests use beside Rust and its C compiler: to build the allocator, to watch
/// and limit child processes, to have a full disk, to unpack the store's fixtures, to run what the
/// documents print, a pooler, a Redis, and Python for the real clients and for PostgreSQL.
const NEEDS: &[Need] = &[
    Need::program("make", "make"),
    Need::program("strace", "strace"),
    Need::program("prlimit", "util-linux"),
    Need::program("setpriv", "util-linux"),
    Need::program("flock", "util-linux"),
    Need::program("mount", "mount"),
    Need::program("tar", "tar"),
    Need::program("curl", "curl"),
    Need::program("pgbouncer", "pgbouncer"),
    Need::program("redis-server", "redis-server"),
    Need::PYTHON,
];

/// Everything that must hold before a change lands.
pub(crate) fn ci() -> Result<()> {
    let mut steps = Steps::default();
    steps.run("what the tests need", || ensure(NEEDS))?;
    steps.run("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    steps.run("tidy", tidy::check)?;
    steps.run("layers", layers::check)?;
    steps.run("clippy", || {
        run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    tests(&mut steps, false)?;
    steps.run("rustdoc", || {
        let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
        run(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    steps.summary();
    Ok(())
}

/// All tests: Rust's own, then real clients.
pub(crate) fn test(full: bool) -> Result<()> {
    let mut steps = Steps::default();
    steps.run("what the tests need", || ensure(NEEDS))?;
    tests(&mut steps, full)?;
    steps.summary();
    Ok(())
}

/// Every step names the whole workspace, so that cargo picks the same features each time and
/// builds each crate once. The real clients use the program that the Rust tests were built with.
fn tests(steps: &mut Steps, full: bool) -> Result<()> {
    steps.run("build", || run(&mut cargo(&["build", "--workspace", "--all-targets"])))?;
    steps.run("Python environment", || Venv::ensure().map(|_| ()))?;
    let scratch = Scratch::make()?;
    let mut server = None;
    steps.run("PostgreSQL", || {
        server = Some(Postgres::start(&Venv::ensure()?, &scratch)?);
        Ok(())
    })?;
    let server = server.context("PostgreSQL was started")?;
    steps.run("Rust tests", || rust_tests(&server, &scratch))?;
    steps.run("doctests", || run(&mut cargo(&["test", "--workspace", "--doc"])))?;
    steps.run("schemathesis", schemathesis::against_debug_build)?;
    for (number, placement) in Placement::ALL.iter().enumerate() {
        let much = full || *placement == Placement::USUAL;
        let name = |run: &str| format!("{run}{number}");
        let clients = || real_clients(*placement, (&server, &scratch), &name("clients"), much);
        let clients = (format!("real clients, {placement}"), clients);
        if !placement.takes_any_tenant() {
            steps.run(clients.0, clients.1)?;
            continue;
        }
        let selection = match (full, much) {
            (true, _) => Selection::All,
            (false, true) => Selection::Short,
            (false, false) => Selection::Few,
        };
        let suite = || {
            let variables = placement.prepare(&program("debug"), Some(&server), &name("suite"))?;
            chroma_suite::against_debug_build(selection, &variables)
        };
        steps.run_both(clients, (format!("Chroma's own suite, {placement}"), suite))?;
    }
    Ok(())
}

/// Every test process finds the same PostgreSQL; each test makes databases of its own there.
fn rust_tests(server: &Postgres, scratch: &Scratch) -> Result<()> {
    let venv = Venv::ensure()?;
    let mut test = if on_path("cargo-nextest") {
        cargo(&["nextest", "run", "--workspace", "--all-targets", "--profile", "ci"])
    } else {
        println!("cargo-nextest is not installed (`cargo install cargo-nextest --locked`);");
        println!("`cargo test` runs the same tests, without a time limit for each");
        cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    test.env(postgres::VARIABLE, server.url()).env(postgres::PYTHON, venv.program("python"));
    run(scratch.lend(&mut test))
}

/// pytest over the published clients against the program: all of it, or what differs most where
/// tenants live elsewhere.
fn real_clients(
    placement: Placement,
    (server, scratch): (&Postgres, &Scratch),
    name: &str,
    all: bool,
) -> Result<()> {
    let venv = Venv::ensure()?;
    let variables = placement.prepare(&program("debug"), Some(server), name)?;
    let mut pytest =
        command(venv.program("python"), &["-m", "pytest", "-q", "-p", "no:cacheprovider"]);
    if all {
        pytest.arg(CLIENT_TESTS);
    } else {
        pytest.args(CLIENT_TESTS_FEW.iter().map(|file| format!("{CLIENT_TESTS}/{file}")));
    }
    scratch.lend(&mut pytest).envs(variables);
    run(pytest.env("TENANTRY_PROGRAM", program("debug")).env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// The built program of a profile.
pub(crate) fn program(profile: &str) -> PathBuf {
    crate::step::target().join(profile).join("tenantry")
}

/// Builds the program in release and returns its path.
pub(crate) fn build_release() -> Result<PathBuf> {
    run(cargo(&["build", "--release", "--package", "tenantry"]).current_dir(root()))?;
    Ok(program("release"))
}
