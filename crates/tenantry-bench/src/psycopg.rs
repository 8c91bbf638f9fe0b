//! Plain psycopg 3 on the PostgreSQL that Tenantry has its data in, driven by
//! `peers/psycopg_rls.py`: what an application would write by itself.

use crate::{
    driver::Driver,
    library::{answered, insert_line, loaded, number, query_line, write_lines},
    postgres::ROLE,
    process::{Venv, empty_folder},
    server::tree_bytes,
    serving::System,
    target::Asked,
    tenants::{Insert, NEIGHBOURS, Query, Tenants},
    wrk::Load,
};
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::PathBuf,
    process::Command,
};

const SCRIPT: &str = include_str!("../peers/psycopg_rls.py");
const REQUIREMENTS: &str = include_str!("../peers/psycopg.txt");

/// The environment with PostgreSQL and psycopg.
pub(crate) fn environment() -> Result<Venv> {
    Venv::ensure("psycopg", REQUIREMENTS)
}

/// What clients are in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workers {
    Processes,
    Threads,
}

/// How an application uses psycopg; the script says what each does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Style {
    Plain,
    Tuned,
    Pipelined,
}

impl Style {
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tuned => "tuned",
            Self::Pipelined => "pipelined",
        }
    }
}

/// A running script, connected to a server that has the table.
#[derive(Debug)]
pub(crate) struct Psycopg {
    driver: Driver,
    requests: PathBuf,
    version: String,
}

impl Psycopg {
    /// Starts the script.
    pub(crate) fn start(venv: &Venv, uri: &str, workers: Workers, style: Style) -> Result<Self> {
        let folder = empty_folder(&format!("psycopg-{}", style.name()))?;
        let script = folder.join("psycopg_rls.py");
        fs::write(&script, SCRIPT)?;
        let mut command = Command::new(venv.program("python"));
        command.arg(&script).stderr(File::create(folder.join("driver.log"))?);
        let mut driver = Driver::start("psycopg", &mut command)?;
        let kind = match workers {
            Workers::Processes => "processes",
            Workers::Threads => "threads",
        };
        let opened = driver.ask(&json!({
            "do": "open", "uri": uri, "role": ROLE, "style": style.name(), "kind": kind,
        }))?;
        let version = opened.get("name").and_then(Value::as_str).context("no name")?.to_owned();
        Ok(Self { driver, requests: folder.join("requests.jsonl"), version })
    }
}

impl System for Psycopg {
    fn insert(&mut self, inserts: &[Insert], connections: usize) -> Result<f64> {
        write_lines(&self.requests, inserts.iter().map(insert_line))?;
        let asked = json!({"do": "insert", "file": self.requests, "tasks": connections});
        number(&self.driver.ask(&asked)?, "seconds")
    }

    fn settle(&mut self, _: &Tenants, _: &[Query]) -> Result<()> {
        Ok(())
    }

    fn ask(&mut self, queries: &[Query]) -> Result<Asked> {
        write_lines(&self.requests, queries.iter().map(query_line))?;
        let asked = json!({"do": "ask", "file": self.requests, "k": NEIGHBOURS});
        answered(&self.driver.ask(&asked)?, queries)
    }

    fn load(&mut self, queries: &[Query], connections: usize, seconds: u64) -> Result<Load> {
        write_lines(&self.requests, queries.iter().map(query_line))?;
        loaded(&self.driver.ask(&json!({
            "do": "load", "file": self.requests, "k": NEIGHBOURS, "tasks": connections,
            "seconds": seconds,
        }))?)
    }

    /// Of the clients; the server is not this system's alone.
    fn resident_bytes(&self) -> u64 {
        tree_bytes(self.driver.process())
    }

    fn details(&self) -> Value {
        json!({"version": self.version})
    }
}
