//! Chroma's own tests, which its PyPI package carries, against a Tenantry without authentication.
//!
//! Chroma's default embedding function would fetch a model; the plugin in `clients/chroma/suite`
//! replaces it by a hash, so that the run needs no network.

use crate::{
    ci::{build_release, program},
    machine::{Need, Venv, ensure},
    placement::{Placement, Variables},
    postgres::Postgres,
    scratch::Scratch,
    server::{Tenantry, empty_folder},
    step::{cargo, root, run as run_command},
};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use std::{net::SocketAddr, path::Path, process::Command};

/// How long one test may take, in seconds.
const TEST_SECONDS_MAX: &str = "300";
const API: &[&str] = &[
    "test_api.py",
    "test_client.py",
    "test_chroma.py",
    "test_multithreaded.py",
    "api",
    "client",
    "configurations",
    "data_loader",
];
const PROPERTY: &[&str] = &[
    "property/test_add.py",
    "property/test_collections.py",
    "property/test_collections_with_database_tenant.py",
    "property/test_embeddings.py",
    "property/test_filtering.py",
];
/// What finds most in little time.
const SHORT: &[&str] = &["test_api.py", "test_client.py", "api", "client", "configurations"];
/// What meets catalogs and records once, for each further placement.
const FEW: &[&str] = &[
    "test_client.py",
    "api/test_collection.py",
    "api/test_count_api.py",
    "api/test_delete_database.py",
    "api/test_get_database.py",
    "api/test_schema_e2e.py",
    "client/test_database_tenant.py",
];

/// Which of Chroma's test files to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Selection {
    /// Every operation of the client, by example
    Api,
    /// Random operations compared with a model, by Hypothesis
    Property,
    /// `api`, `property` and the stress test
    All,
    /// What CI runs: the parts of `api` that take about a minute in all
    Short,
    /// The parts of `short` that take some seconds: CI runs them wherever else tenants can live
    Few,
}

impl Selection {
    fn files(self) -> Vec<String> {
        let stress: &[&str] = &["stress"];
        let parts = match self {
            Self::Api => vec![API],
            Self::Property => vec![PROPERTY],
            Self::All => vec![API, PROPERTY, stress],
            Self::Short => vec![SHORT],
            Self::Few => vec![FEW],
        };
        parts.concat().iter().map(|file| format!("chromadb/test/{file}")).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which tests
    #[arg(value_enum, default_value_t = Selection::Short)]
    selection: Selection,
    /// Use a server that runs already (`tenantry serve --dev --chroma-listen …`) instead of
    /// building and starting one. The tests erase everything in it: see `--erase`
    #[arg(long, requires_all = ["port", "erase"])]
    host: Option<String>,
    /// The port of that server's Chroma listener
    #[arg(long, requires = "host")]
    port: Option<u16>,
    /// Confirm that the server at `--host` and `--port` is yours and may be erased: nearly every
    /// test resets it
    #[arg(long, requires = "host")]
    erase: bool,
    /// Where its tenants live: a backend and an isolation, such as postgres-shared
    #[arg(long, default_value = "embedded-shared", value_parser = Placement::parse,
          conflicts_with = "host")]
    on: Placement,
    /// Build and start the program in release
    #[arg(long, conflicts_with = "host")]
    release: bool,
    /// Only tests whose name matches this expression of pytest's `-k`
    #[arg(long, short = 'k')]
    keyword: Option<String>,
    /// Show the slowest 30 tests
    #[arg(long)]
    durations: bool,
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure(&[Need::PYTHON])?;
    if let (Some(host), Some(port)) = (&options.host, options.port) {
        return pytest(options, host, port);
    }
    ensure!(
        options.on.takes_any_tenant(),
        "{} has no place for tenants that are made by Chroma's protocol",
        options.on
    );
    let program = if options.release {
        build_release()?
    } else {
        run_command(&mut cargo(&["build", "--workspace", "--all-targets"]))?;
        program("debug")
    };
    let scratch = Scratch::make()?;
    let start = || Postgres::start(&Venv::ensure()?, &scratch);
    let server = options.on.needs_postgres().then(start).transpose()?;
    let variables = options.on.prepare(&program, server.as_ref(), "suite")?;
    with_server(&program, &variables, |address| pytest(options, "localhost", address.port()))
}

/// One selection against the debug build that is there, with variables in its environment.
pub(crate) fn against_debug_build(selection: Selection, variables: &Variables) -> Result<()> {
    let options = Options {
        selection,
        host: None,
        port: None,
        erase: false,
        on: Placement::USUAL,
        release: false,
        keyword: None,
        durations: false,
    };
    with_server(&program("debug"), variables, |address| {
        pytest(&options, "localhost", address.port())
    })
}

fn with_server(
    program: &Path,
    variables: &Variables,
    work: impl FnOnce(SocketAddr) -> Result<()>,
) -> Result<()> {
    let folder = empty_folder("chroma-suite")?;
    let running = Tenantry::start_with(program, &folder, &["--dev"], variables)?;
    work(running.chroma)
}

fn pytest(options: &Options, host: &str, port: u16) -> Result<()> {
    let venv = Venv::ensure()?;
    let packages = venv.packages()?;
    let suite = root().join("clients/chroma/suite");
    // Tests that are parametrised over servers run for the external one only.
    let keyword = match &options.keyword {
        Some(keyword) => format!("integration and ({keyword})"),
        None => "integration".to_owned(),
    };
    let mut pytest = Command::new(venv.program("python"));
    pytest
        .current_dir(&packages)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tenantry_suite"])
        .args(["--import-mode=importlib", "-o", "asyncio_mode=auto", "-rfE"])
        .args(["--timeout", TEST_SECONDS_MAX, "--timeout-method=thread", "-k", &keyword])
        .arg("--rootdir")
        .arg(&packages)
        .args(options.selection.files());
    if options.durations {
        pytest.args(["--durations", "30"]);
    }
    // One of Chroma's tests starts a bare `python`.
    pytest.env("PATH", venv.path()?).env("PYTHONPATH", &suite);
    let whole = options.selection == Selection::All && options.keyword.is_none();
    pytest
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("ANONYMIZED_TELEMETRY", "False")
        .env("CHROMA_INTEGRATION_TEST_ONLY", "1")
        .env("CHROMA_SERVER_HOST", host)
        .env("CHROMA_SERVER_HTTP_PORT", port.to_string())
        .env("PROPERTY_TESTING_PRESET", "fast")
        .env("TENANTRY_SUITE_WHOLE", if whole { "1" } else { "" });
    run_command(&mut pytest)
}
