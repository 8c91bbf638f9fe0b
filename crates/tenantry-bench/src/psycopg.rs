//! Plain psycopg 3 on the PostgreSQL that Tenantry has its data in, driven by
//! `peers/psycopg_rls.py`: what an application would write by itself.

use crate::{
    driver::Driver,
    library::{answered, insert_line, loaded, number, query_line, write_lines},
    postgres::{Instance, ROLE},
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

/// A running script, connected to a server that has the table.
#[derive(Debug)]
pub(crate) struct Psycopg {
    driver: Driver,
    requests: PathBuf,
    version: String,
}

impl Psycopg {
    /// Starts the script. `pipelined` sends a transaction in one round trip.
    pub(crate) fn start(
        venv: &Venv,
        instance: &Instance,
        workers: Workers,
        pipelined: bool,
    ) -> Result<Self> {
        let name = if pipelined { "psycopg-pipelined" } else { "psycopg" };
        let folder = empty_folder(name)?;
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
            "do": "open", "uri": instance.uri, "role": ROLE, "pipelined": pipelined, "kind": kind,
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
