//! Schemathesis, from its PyPI package, against the whole OpenAPI document that the server gives
//! out: once with an operator's key, once with a tenant's.
//!
//! It sends what the document allows and what it forbids, follows its links, and compares every
//! answer: no 5xx, no status, content type or header that is not described, bodies of the described
//! shape. What it is told besides is in `clients/schemathesis/schemathesis.toml`.

use crate::{
    ci::{build_release, program},
    http::{Connection, request, request_with},
    machine::{self, Need, Venv},
    server::{Tenantry, empty_folder},
    step::{cargo, root, run as run_command},
};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::{fmt, path::Path, process::Command};

/// How many requests of each kind CI draws for each operation: about half a minute for each caller.
/// Not a time, so that a slow machine draws the same ones.
const CI_EXAMPLES: u64 = 6;
const SEED: u64 = 1;
/// How long one answer may take, in seconds.
const ANSWER_SECONDS_MAX: &str = "20";
/// The tenant that the configuration names.
const TENANT: &str = "acme";

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long each caller asks
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..))]
    seconds: u64,
    /// What is drawn follows from it, as far as time allows
    #[arg(long, default_value_t = SEED)]
    seed: u64,
    /// Only this caller
    #[arg(long = "as", value_enum)]
    caller: Option<Caller>,
    /// Build and start the program in release
    #[arg(long)]
    release: bool,
}

/// Whose key the requests have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Caller {
    /// An operator who may act in tenants
    Operator,
    /// A tenant's administrator
    Tenant,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Tenant => "tenant",
        })
    }
}

/// The command.
pub(crate) fn run(options: &Options) -> Result<()> {
    machine::ensure(&[Need::PYTHON])?;
    let program = if options.release {
        build_release()?
    } else {
        run_command(&mut cargo(&["build", "--workspace", "--all-targets"]))?;
        program("debug")
    };
    let much = ["--max-time".to_owned(), options.seconds.to_string()];
    callers(&program, options.caller, &much, options.seed)
}

/// What CI runs, against the debug build that is there.
pub(crate) fn against_debug_build() -> Result<()> {
    let much = ["--max-examples".to_owned(), CI_EXAMPLES.to_string()];
    callers(&program("debug"), None, &much, SEED)
}

fn callers(program: &Path, only: Option<Caller>, much: &[String; 2], seed: u64) -> Result<()> {
    for caller in [Caller::Operator, Caller::Tenant] {
        if only.is_none_or(|only| only == caller) {
            one(program, caller, much, seed)
                .with_context(|| format!("schemathesis as {caller}"))?;
        }
    }
    Ok(())
}

/// One caller against a server of its own: an operator may well delete what the other one needs.
fn one(program: &Path, caller: Caller, much: &[String; 2], seed: u64) -> Result<()> {
    let venv = Venv::schemathesis()?;
    let folder = empty_folder(&format!("schemathesis-{caller}"))?;
    let server = Tenantry::start(program, &folder, &[])?;
    let operator = server.server.operator_key()?;
    let tenant = prepare(&server, &operator)?;
    let archive = folder.join("archive.tar.gz");
    let asked = request("GET", "/v1/archive", &tenant, None);
    let answer = Connection::open(server.native)?.send(&asked)?;
    answer.success().context("export the tenant")?;
    std::fs::write(&archive, answer.body)?;
    let (key, acts_in) = match caller {
        Caller::Operator => (operator, TENANT),
        Caller::Tenant => (tenant, ""),
    };
    let base = format!("http://{}", server.native);
    let clients = root().join("clients/schemathesis");
    let mut schemathesis = Command::new(venv.program("schemathesis"));
    schemathesis
        .current_dir(&folder)
        .arg("--config-file")
        .arg(clients.join("schemathesis.toml"))
        .args(["--no-color", "run", &format!("{base}/openapi.json"), "--url", &base])
        .args(["--seed", &seed.to_string(), "--request-timeout", ANSWER_SECONDS_MAX])
        .arg("--continue-on-failure")
        .args(much)
        .env("TENANTRY_KEY", key)
        .env("TENANTRY_ACTS_IN", acts_in)
        .env("TENANTRY_ARCHIVE", archive)
        .env("TENANTRY_HOOKS", clients.join("hooks.py"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run_command(&mut schemathesis)?;
    let log = server.server.output();
    let panics: Vec<_> = log.lines().filter(|line| line.contains("panicked at")).collect();
    ensure!(panics.is_empty(), "the server panicked: {panics:?}");
    server.server.stop().map(drop)
}

/// Makes what the configuration names, so that requests get further than a 404; the tenant's key.
fn prepare(server: &Tenantry, operator: &str) -> Result<String> {
    let mut connection = Connection::open(server.native)?;
    let mut call = |method: &str, path: &str, headers: &[(&str, &str)], body: Value| {
        let sent = request_with(method, path, headers, Some(body.to_string().as_bytes()));
        let answer = connection.send(&sent).and_then(|answer| answer.json());
        answer.with_context(|| format!("{method} {path}"))
    };
    let bearer = format!("Bearer {operator}");
    let as_operator = [("Authorization", bearer.as_str())];
    call("PUT", "/v1/admin/plans/team", &as_operator, json!({"weight": 50}))?;
    for name in [TENANT, "neighbour"] {
        call("POST", "/v1/admin/tenants", &as_operator, json!({"name": name}))?;
    }
    let in_tenant = [as_operator[0], ("X-Tenant-ID", TENANT)];
    call("POST", "/v1/databases", &in_tenant, json!({"name": "second"}))?;
    let records = ["a", "b", "c"].map(
        |id| json!({"id": id, "vector": [1, 2], "document": "some text", "metadata": {"k": 1}}),
    );
    for database in ["default_database", "second"] {
        let collections = format!("/v1/databases/{database}/collections");
        for (name, vectors) in [("notes", json!({})), ("titled", json!({"title": {}}))] {
            let body = json!({"name": name, "vectors": vectors});
            call("POST", &collections, &in_tenant, body)?;
            let path = format!("{collections}/{name}/records/add");
            call("POST", &path, &in_tenant, json!({"records": records}))?;
        }
    }
    for (id, role) in [("login/alice", "owner"), ("login/bob", "member")] {
        call("POST", "/v1/members", &in_tenant, json!({"id": id, "role": role}))?;
    }
    let made = call("POST", "/v1/keys", &in_tenant, json!({"role": "admin"}))?;
    Ok(made["key"].as_str().context("no key was made")?.to_owned())
}
