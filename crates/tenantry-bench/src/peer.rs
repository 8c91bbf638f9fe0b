//! A Python package's index in a process of its own, driven by `peers/index.py`.

use crate::{
    driver::Driver,
    process::{Venv, bench_folder},
};
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::{fs, path::Path, process::Command};

const SCRIPT: &str = include_str!("../peers/index.py");
const REQUIREMENTS: &str = include_str!("../peers/vectors.txt");

/// Which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Package {
    /// usearch over 32-bit floats
    Usearch,
    /// usearch over int8, candidates compared again with the 32-bit originals
    UsearchI8,
    /// hnswlib over 32-bit floats
    Hnswlib,
}

impl Package {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Usearch => "usearch",
            Self::UsearchI8 => "usearch-i8",
            Self::Hnswlib => "hnswlib",
        }
    }
}

/// How the graph of a peer is built.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Links of a node (M).
    pub(crate) connectivity: usize,
    /// Candidates looked at for each insertion (efConstruction).
    pub(crate) build_beam: usize,
    /// Candidates of int8 that are compared again.
    pub(crate) candidates: usize,
    /// Threads that build it; queries have one.
    pub(crate) threads: u16,
}

/// What a build took.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    /// Name, version and kind.
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// Growth of the process's resident memory without mapped files; for Tenantry its own account
    /// if that says more.
    pub(crate) resident_bytes: f64,
}

/// Answers to all queries, asked one by one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    pub(crate) ids: Vec<Vec<u32>>,
    /// Of each query.
    pub(crate) nanoseconds: Vec<f64>,
    /// Of all queries in one call, if the system has such a call.
    pub(crate) batch_nanoseconds: Option<f64>,
}

/// A running driver. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) package: Package,
    /// True if filtered searches take a predicate.
    pub(crate) predicate: bool,
    driver: Driver,
}

/// The environment that peers run in.
pub(crate) fn environment() -> Result<Venv> {
    Venv::ensure("vectors", REQUIREMENTS)
}

impl Peer {
    /// Starts a driver on files of little-endian 32-bit floats.
    pub(crate) fn start(
        venv: &Venv,
        package: Package,
        base: &Path,
        queries: &Path,
        dimension: usize,
    ) -> Result<Self> {
        let script = bench_folder()?.join("index.py");
        fs::write(&script, SCRIPT)?;
        let mut command = Command::new(venv.program("python"));
        // One thread each: linear algebra would otherwise take every core.
        for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"] {
            command.env(variable, "1");
        }
        let driver = Driver::start(package.name(), command.arg(&script))?;
        let mut peer = Self { package, predicate: false, driver };
        peer.ask(&json!({"do": "load", "base": base, "queries": queries, "dimension": dimension}))?;
        Ok(peer)
    }

    /// Builds the index.
    pub(crate) fn build(&mut self, shape: Shape) -> Result<Built> {
        let answer = self.ask(&json!({
            "do": "build", "system": self.package.name(), "connectivity": shape.connectivity,
            "build_beam": shape.build_beam, "candidates": shape.candidates,
            "threads": shape.threads,
        }))?;
        let name = answer.get("name").and_then(Value::as_str).context("no name")?.to_owned();
        let number = |key| answer.get(key).and_then(Value::as_f64).context("a number is missing");
        Ok(Built { name, seconds: number("seconds")?, resident_bytes: number("bytes")? })
    }

    /// From now on filtered searches of usearch take a predicate, by a library of
    /// [`crate::predicate`]. The built index goes through `file`.
    pub(crate) fn use_predicate(&mut self, library: &Path, file: &Path) -> Result<()> {
        self.ask(&json!({"do": "predicate", "library": library, "file": file}))?;
        self.predicate = true;
        Ok(())
    }

    /// Answers every query.
    pub(crate) fn search(&mut self, beam: usize, k: usize) -> Result<Answers> {
        parse(&self.ask(&json!({"do": "search", "beam": beam, "k": k}))?)
    }

    /// Answers the first `limit` queries among rows whose byte in the file `mask` is 1.
    pub(crate) fn filtered(
        &mut self,
        beam: usize,
        k: usize,
        mask: &Path,
        limit: usize,
    ) -> Result<Answers> {
        parse(
            &self.ask(
                &json!({"do": "filtered", "beam": beam, "k": k, "mask": mask, "limit": limit}),
            )?,
        )
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        self.driver.ask(request)
    }
}

fn parse(answer: &Value) -> Result<Answers> {
    let id = |value: &Value| {
        let number = value.as_u64().ok_or_else(|| anyhow!("{value} is no id"))?;
        Ok(u32::try_from(number)?)
    };
    let ids = list(answer.get("ids"))?
        .iter()
        .map(|ids| list(Some(ids))?.iter().map(id).collect())
        .collect::<Result<_>>()?;
    let number = |value: &Value| value.as_f64().context("a time is no number");
    let nanoseconds = list(answer.get("nanoseconds"))?.iter().map(number).collect::<Result<_>>()?;
    let batch_nanoseconds = answer.get("batch_nanoseconds").and_then(Value::as_f64);
    Ok(Answers { ids, nanoseconds, batch_nanoseconds })
}

fn list(value: Option<&Value>) -> Result<&Vec<Value>> {
    value.and_then(Value::as_array).context("a list is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = json!({"ids": [[1, 2], []], "nanoseconds": [10, 20], "batch_nanoseconds": 25});
        let found = parse(&answer).unwrap();
        assert_eq!(found.ids, vec![vec![1, 2], vec![]]);
        assert_eq!((found.nanoseconds.len(), found.batch_nanoseconds), (2, Some(25.0)));
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for bad in [
            json!({}),
            json!({"ids": [[-1]], "nanoseconds": [1]}),
            json!({"ids": [[5_000_000_000_u64]], "nanoseconds": [1]}),
            json!({"ids": [1], "nanoseconds": [1]}),
            json!({"ids": [[1]], "nanoseconds": ["x"]}),
        ] {
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
