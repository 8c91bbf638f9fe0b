//! The whole check, and the README's test command.

use crate::{
    chroma_suite, layers,
    machine::{Need, Venv, ensure, on_path},
    postgres::{self, Postgres},
    step::{Steps, cargo, command, root, run},
    tidy,
};
use anyhow::Result;
use std::path::PathBuf;

/// The folder of the real clients' tests.
const CLIENT_TESTS: &str = "clients/chroma/python";

/// What building and the tests use beside Rust and its C compiler: to build the allocator, to watch
/// and limit child processes, to unpack the store's fixtures, to run what the documents print, a
/// pooler, and Python for the real clients and for PostgreSQL.
const NEEDS: &[Need] = &[
    Need::program("make", "make"),
    Need::program("strace", "strace"),
    Need::program("prlimit", "util-linux"),
    Need::program("setpriv", "util-linux"),
    Need::program("flock", "util-linux"),
    Need::program("tar", "tar"),
    Need::program("curl", "curl"),
    Need::program("pgbouncer", "pgbouncer"),
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
    tests(&mut steps, chroma_suite::Selection::Short)?;
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
    let suite = if full { chroma_suite::Selection::All } else { chroma_suite::Selection::Short };
    tests(&mut steps, suite)?;
    steps.summary();
    Ok(())
}

/// Every step names the whole workspace, so that cargo picks the same features each time and
/// builds each crate once. The real clients use the program that the Rust tests were built with.
fn tests(steps: &mut Steps, suite: chroma_suite::Selection) -> Result<()> {
    steps.run("build", || run(&mut cargo(&["build", "--workspace", "--all-targets"])))?;
    steps.run("Python environment", || Venv::ensure().map(|_| ()))?;
    steps.run("Rust tests", rust_tests)?;
    steps.run("doctests", || run(&mut cargo(&["test", "--workspace", "--doc"])))?;
    steps.run("real clients", real_clients)?;
    steps.run("Chroma's own suite", || chroma_suite::against_debug_build(suite))
}

/// Every test process finds the same PostgreSQL; each test makes databases of its own there.
fn rust_tests() -> Result<()> {
    let venv = Venv::ensure()?;
    let server = Postgres::start(&venv)?;
    let mut test = if on_path("cargo-nextest") {
        cargo(&["nextest", "run", "--workspace", "--all-targets", "--profile", "ci"])
    } else {
        println!("cargo-nextest is not installed (`cargo install cargo-nextest --locked`);");
        println!("`cargo test` runs the same tests, without a time limit for each");
        cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"])
    };
    test.env(postgres::VARIABLE, server.url()).env(postgres::PYTHON, venv.program("python"));
    run(&mut test)
}

/// pytest over the published clients against the program.
fn real_clients() -> Result<()> {
    let venv = Venv::ensure()?;
    let options = ["-m", "pytest", "-q", "-p", "no:cacheprovider", CLIENT_TESTS];
    let mut pytest = command(venv.program("python"), &options);
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
