//! LanceDB and milvus-lite with many tenants, driven by `peers/tenants.py`.
//!
//! LanceDB is a library: the process that asks is the one that answers. milvus-lite answers from a
//! server of its own. How busy the asking itself is gets measured too, so that the generator
//! cannot be the limit unseen.

use crate::{
    driver::Driver,
    process::{Venv, empty_folder},
    server::{Server, free_address, tree_bytes},
    serving::System,
    statistics::percentile,
    target::Asked,
    tenants::{Insert, NEIGHBOURS, Query, Tenants},
    wrk::Load,
};
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::Command,
};

const SCRIPT: &str = include_str!("../peers/tenants.py");
const REQUIREMENTS: &str = include_str!("../peers/tenants.txt");
/// The share of a core above which the generator may have been the limit.
const BUSY: f64 = 0.8;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// LanceDB as a library.
    LanceDb,
    /// milvus-lite's own server.
    MilvusLite,
}

impl Package {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LanceDb => "lancedb",
            Self::MilvusLite => "milvus-lite",
        }
    }
}

/// The environment that these peers run in.
pub(crate) fn environment() -> Result<Venv> {
    Venv::ensure("tenants", REQUIREMENTS)
}

/// A running database with a table or collection for every tenant.
#[derive(Debug)]
pub(crate) struct Library {
    driver: Driver,
    /// What answers, if that is not the driver. Dropped after it.
    server: Option<Server>,
    /// Requests travel in files: they are large, and reading them is not measured.
    requests: PathBuf,
    package: Package,
    /// Name and version.
    version: String,
    empty_micros: f64,
    /// The share of a core that asking took, of each load.
    busy: Vec<f64>,
}

impl Library {
    /// Starts the database and makes the tenants.
    pub(crate) fn start(venv: &Venv, package: Package, tenants: &Tenants) -> Result<Self> {
        let folder = empty_folder(&format!("server-{}", package.name()))?;
        let data = folder.join("data");
        let (server, place) = match package {
            Package::LanceDb => (None, json!(data)),
            Package::MilvusLite => {
                let (server, address) = start_server(venv, &folder, &data)?;
                (Some(server), json!(address))
            }
        };
        let script = folder.join("tenants.py");
        fs::write(&script, SCRIPT)?;
        let log = folder.join("driver.log");
        let mut command = Command::new(venv.program("python"));
        command.arg(&script).stderr(File::create(&log)?);
        let mut driver = Driver::start(package.name(), &mut command)?;
        let opened = driver
            .ask(&json!({
                "do": "open", "system": package.name(), "place": place,
                "tenants": tenants.all.len(), "dimension": tenants.dimension(),
            }))
            .with_context(|| format!("make the tenants; more may be in {}", log.display()))?;
        let version = opened.get("name").and_then(Value::as_str).context("no name")?.to_owned();
        let requests = folder.join("requests.jsonl");
        let (empty_micros, busy) = (0.0, Vec::new());
        Ok(Self { driver, server, requests, package, version, empty_micros, busy })
    }
}

impl System for Library {
    fn insert(&mut self, inserts: &[Insert], connections: usize) -> Result<f64> {
        write_lines(&self.requests, inserts.iter().map(insert_line))?;
        let asked = json!({"do": "insert", "file": self.requests, "tasks": connections});
        number(&self.driver.ask(&asked)?, "seconds")
    }

    fn settle(&mut self, tenants: &Tenants, _: &[Query]) -> Result<()> {
        let settled = self.driver.ask(&json!({"do": "settle"}))?;
        let counts = settled.get("counts").context("no counts")?;
        let wanted = tenants.all.iter().map(|tenant| tenant.records.len()).collect::<Value>();
        ensure!(*counts == wanted, "{} does not hold every record", self.package.name());
        self.empty_micros = number(&settled, "empty_nanoseconds")? / 1e3;
        Ok(())
    }

    fn ask(&mut self, queries: &[Query]) -> Result<Asked> {
        write_lines(&self.requests, queries.iter().map(query_line))?;
        let asked = json!({"do": "ask", "file": self.requests, "k": NEIGHBOURS});
        answered(&self.driver.ask(&asked)?, queries)
    }

    fn load(&mut self, queries: &[Query], connections: usize, seconds: u64) -> Result<Load> {
        write_lines(&self.requests, queries.iter().map(query_line))?;
        let answer = self.driver.ask(&json!({
            "do": "load", "file": self.requests, "k": NEIGHBOURS, "tasks": connections,
            "seconds": seconds,
        }))?;
        let busy = number(&answer, "generator_busy")?;
        if busy > BUSY {
            println!("{}: asking took {busy:.2} of a core, it may be the limit", self.version);
        }
        self.busy.push(busy);
        loaded(&answer)
    }

    fn resident_bytes(&self) -> u64 {
        match &self.server {
            Some(server) => server.resident_bytes(),
            None => tree_bytes(self.driver.process()),
        }
    }

    fn details(&self) -> Value {
        json!({
            "version": self.version, "empty_call_us": self.empty_micros,
            "generator_busy": self.busy,
        })
    }
}

/// Requests for a script, a line each.
pub(crate) fn write_lines(file: &Path, mut lines: impl Iterator<Item = Value>) -> Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let written = lines.try_for_each(|line| writeln!(out, "{line}"));
    written.and_then(|()| out.flush()).with_context(|| format!("write {}", file.display()))
}

fn start_server(venv: &Venv, folder: &Path, data: &Path) -> Result<(Server, String)> {
    let address = free_address()?;
    let mut command = Command::new(venv.program("milvus-lite"));
    command.args(["server", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
    // What it prints goes to a file, and Python would hold it back.
    command.arg("--data-dir").arg(data).env("PYTHONUNBUFFERED", "1");
    let mut server = Server::start("milvus-lite", &mut command, &folder.join("server.log"))?;
    server.wait(|printed| printed.contains("listening on").then_some(()))?;
    Ok((server, address.to_string()))
}

pub(crate) fn insert_line(insert: &Insert) -> Value {
    let records = &insert.records;
    json!({
        "tenant": insert.tenant,
        "id": records.iter().map(|one| one.id.as_str()).collect::<Value>(),
        "document": records.iter().map(|one| one.text.as_str()).collect::<Value>(),
        "section": records.iter().map(|one| one.section.as_str()).collect::<Value>(),
        "vectors": records.iter().map(|one| encoded(&one.vector)).collect::<Value>(),
    })
}

pub(crate) fn query_line(query: &Query) -> Value {
    json!({"tenant": query.tenant, "vector": encoded(&query.vector)})
}

fn encoded(vector: &[f32]) -> String {
    STANDARD.encode(vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())
}

pub(crate) fn answered(answer: &Value, queries: &[Query]) -> Result<Asked> {
    let ids = list(answer, "ids")?;
    ensure!(ids.len() == queries.len(), "{} answers to {} queries", ids.len(), queries.len());
    let micros = micros(answer)?;
    let recall = |(ids, query): (&Value, &Query)| {
        let ids = ids.as_array().context("an answer is no list")?;
        Ok(query.recall(ids.iter().filter_map(Value::as_str)))
    };
    Ok(Asked { micros, recalls: ids.iter().zip(queries).map(recall).collect::<Result<_>>()? })
}

pub(crate) fn loaded(answer: &Value) -> Result<Load> {
    let took = micros(answer)?;
    Ok(Load {
        requests: took.len() as f64,
        seconds: number(answer, "seconds")?,
        failed: 0.0,
        p50_us: percentile(&took, 50.0),
        p99_us: percentile(&took, 99.0),
    })
}

fn micros(answer: &Value) -> Result<Vec<f64>> {
    let micros = |value: &Value| Ok(value.as_f64().context("a time is no number")? / 1e3);
    list(answer, "nanoseconds")?.iter().map(micros).collect()
}

pub(crate) fn number(answer: &Value, key: &str) -> Result<f64> {
    answer.get(key).and_then(Value::as_f64).with_context(|| format!("{key} is missing"))
}

fn list<'a>(answer: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    answer.get(key).and_then(Value::as_array).with_context(|| format!("{key} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenants::Record;

    #[test]
    fn requests_carry_every_column_and_the_vectors_bytes() {
        let record = |id: &str, x: f32| Record {
            id: id.into(),
            text: "a \"text\"\n".into(),
            section: "net".into(),
            vector: vec![x, -1.0],
        };
        let insert = Insert { tenant: 3, records: vec![record("a", 1.0), record("b", 2.0)] };
        let line = insert_line(&insert);
        assert_eq!(line["tenant"], 3);
        assert_eq!(line["id"], json!(["a", "b"]));
        assert_eq!(line["section"], json!(["net", "net"]));
        assert!(!line.to_string().contains('\n'), "a request is one line");
        assert_eq!(
            STANDARD.decode(line["vectors"][0].as_str().unwrap()).unwrap(),
            [0, 0, 0x80, 0x3f, 0, 0, 0x80, 0xbf]
        );
    }

    #[test]
    fn a_load_is_read_in_microseconds() {
        let load = loaded(&json!({"seconds": 2.0, "nanoseconds": [1_000, 3_000, 2_000]})).unwrap();
        assert!((load.rate() - 1.5).abs() < 1e-9);
        assert!((load.p50_us - 2.0).abs() < 1e-9 && (load.p99_us - 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_broken_answer_is_an_error() {
        for bad in [
            json!({}),
            json!({"seconds": "long", "nanoseconds": []}),
            json!({"seconds": 1, "nanoseconds": ["x"]}),
        ] {
            assert!(loaded(&bad).is_err(), "{bad}");
        }
        let none = json!({"ids": [], "nanoseconds": []});
        assert!(answered(&none, &[]).is_ok());
        assert!(answered(&json!({"ids": [["a"]], "nanoseconds": [1]}), &[]).is_err());
        assert!(answered(&json!({"nanoseconds": []}), &[]).is_err());
    }
}
