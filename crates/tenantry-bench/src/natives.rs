//! Many tenants in a running Tenantry on any backend, through its own protocol.

use crate::{
    http::{Connection, request},
    postgres::Instance,
    process::{empty_folder, output},
    server::Tenantry,
    serving::System,
    target::{Asked, create_key, each, post},
    tenants::{Insert, NEIGHBOURS, Query, Record, Tenants},
    wrk::{Load, Prepared},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{fmt::Write, path::Path, process::Command, time::Instant};

const COLLECTIONS: &str = "/v1/databases/default_database/collections";
const COLLECTION: &str = "records";
/// Connections while tenants are made, which is not measured.
const SETUP_CONNECTIONS: usize = 4;

/// An installation's databases on a PostgreSQL server.
#[derive(Debug)]
pub(crate) struct Installation {
    pub(crate) url: String,
    pub(crate) admin_url: String,
}

impl Installation {
    /// Makes it as an operator would.
    pub(crate) fn set_up(program: &Path, instance: &Instance, name: &str) -> Result<Self> {
        let mut setup = Command::new(program);
        setup.args(["postgres", "setup", "--json", "--name", name]);
        let told = output(setup.env("TENANTRY_SUPERUSER_URL", &instance.uri))?;
        let told: Value = serde_json::from_slice(&told).context("read what setup tells")?;
        let url = |key: &str| told[key].as_str().map(str::to_owned).context("setup tells no URL");
        Ok(Self { url: url("database_url")?, admin_url: url("database_admin_url")? })
    }

    /// What makes the program serve on it.
    pub(crate) fn arguments(&self) -> [&str; 6] {
        let Self { url, admin_url } = self;
        ["--backend", "postgres", "--database-url", url, "--database-admin-url", admin_url]
    }
}

/// The collection of one tenant, by the tenant's key.
#[derive(Debug, Clone)]
pub(crate) struct Key(String);

impl Key {
    /// Makes a tenant.
    pub(crate) fn make_tenant(
        connection: &mut Connection,
        operator: &str,
        name: &str,
        isolation: &str,
    ) -> Result<()> {
        let body = json!({"name": name, "isolation": isolation});
        post(connection, "/v1/admin/tenants", operator, &body).map(drop)
    }

    /// Makes a key of a tenant.
    pub(crate) fn make(connection: &mut Connection, operator: &str, tenant: &str) -> Result<Self> {
        create_key(connection, operator, tenant).map(Self)
    }

    pub(crate) fn make_collection(&self, connection: &mut Connection) -> Result<()> {
        let body = json!({"name": COLLECTION, "metric": "l2"});
        post(connection, COLLECTIONS, &self.0, &body).map(drop)
    }

    fn request(&self, operation: &str, body: &str) -> Vec<u8> {
        let path = format!("{COLLECTIONS}/{COLLECTION}/records/{operation}");
        request("POST", &path, &self.0, Some(body.as_bytes()))
    }

    /// The bytes of an insert.
    pub(crate) fn add(&self, records: &[Record]) -> Vec<u8> {
        let records: Vec<_> = records.iter().map(record_text).collect();
        self.request("add", &format!("{{\"records\":[{}]}}", records.join(",")))
    }

    /// The bytes of a query.
    pub(crate) fn query(&self, vector: &[f32]) -> Vec<u8> {
        let vector = floats(vector);
        self.request("query", &format!("{{\"vectors\":[{vector}],\"k\":{NEIGHBOURS}}}"))
    }

    /// The bytes of a request for the number of records.
    pub(crate) fn count(&self) -> Vec<u8> {
        self.request("count", "{}")
    }
}

/// A record as JSON.
fn record_text(record: &Record) -> String {
    let mut text = json!({
        "id": record.id, "document": record.text, "metadata": {"section": record.section},
    })
    .to_string();
    text.pop();
    let _ = write!(text, ",\"vector\":{}}}", floats(&record.vector));
    text
}

/// As few digits as tell 32-bit floats apart; `serde_json` writes them as 64-bit ones.
fn floats(vector: &[f32]) -> String {
    let all: Vec<_> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", all.join(","))
}

/// A running server with a collection for every tenant.
#[derive(Debug)]
pub(crate) struct Natives {
    name: &'static str,
    running: Tenantry,
    keys: Vec<Key>,
    prepared: Option<Prepared>,
}

impl Natives {
    /// Starts the program with more arguments, and makes the tenants.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        more: &[&str],
        isolation: &str,
        tenants: &Tenants,
    ) -> Result<Self> {
        let folder = empty_folder(&format!("server-{}", name.replace(' ', "-")))?;
        let running = Tenantry::start_with(program, &folder, more)?;
        let operator = &running.operator_key;
        let keys = each(running.native, SETUP_CONNECTIONS, &tenants.all, |connection, tenant| {
            Key::make_tenant(connection, operator, &tenant.name, isolation)?;
            let key = Key::make(connection, operator, &tenant.name)?;
            key.make_collection(connection)?;
            Ok(key)
        })?;
        Ok(Self { name, running, keys, prepared: None })
    }

    fn key(&self, tenant: usize) -> Result<&Key> {
        self.keys.get(tenant).context("no such tenant")
    }

    fn requests(&self, queries: &[Query]) -> Result<Vec<Vec<u8>>> {
        queries.iter().map(|one| Ok(self.key(one.tenant)?.query(&one.vector))).collect()
    }
}

impl System for Natives {
    fn insert(&mut self, inserts: &[Insert], connections: usize) -> Result<f64> {
        let requests = inserts
            .iter()
            .map(|one| Ok(self.key(one.tenant)?.add(&one.records)))
            .collect::<Result<Vec<_>>>()?;
        let started = Instant::now();
        each(self.running.native, connections, &requests, |connection, request| {
            connection.send(request)?.success()
        })?;
        Ok(started.elapsed().as_secs_f64())
    }

    fn settle(&mut self, tenants: &Tenants, queries: &[Query]) -> Result<()> {
        let mut connection = Connection::open(self.running.native)?;
        for (key, tenant) in self.keys.iter().zip(&tenants.all) {
            let count = connection.send(&key.count())?.json()?;
            let wanted = json!(tenant.records.len());
            ensure!(count["count"] == wanted, "{}: {} has {count}", self.name, tenant.name);
        }
        let name = format!("{}-zipf", self.name.replace(' ', "-"));
        self.prepared = Some(Prepared::new(&name, self.running.native, &self.requests(queries)?)?);
        Ok(())
    }

    fn ask(&mut self, queries: &[Query]) -> Result<Asked> {
        let mut connection = Connection::open(self.running.native)?;
        let mut asked = Asked::default();
        for (query, request) in queries.iter().zip(self.requests(queries)?) {
            let started = Instant::now();
            let answer = connection.send(&request)?;
            asked.micros.push(started.elapsed().as_secs_f64() * 1e6);
            let answer = answer.json()?;
            let hits = answer.pointer("/results/0").and_then(Value::as_array);
            let ids = hits.context("no results")?.iter().filter_map(|hit| hit["id"].as_str());
            asked.recalls.push(query.recall(ids));
        }
        Ok(asked)
    }

    fn load(&mut self, _: &[Query], connections: usize, seconds: u64) -> Result<Load> {
        self.prepared.as_ref().context("no load was prepared")?.run(connections, seconds)
    }

    fn resident_bytes(&self) -> u64 {
        self.running.server.resident_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_json_with_short_floats() {
        let record = Record {
            id: "a".into(),
            text: "\"b\"".into(),
            section: "c".into(),
            vector: vec![0.1, -2.0, 1e-7],
        };
        let text = record_text(&record);
        assert!(text.ends_with("\"vector\":[0.1,-2,0.0000001]}"), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&read["document"], &read["metadata"]["section"]),
            (&json!("\"b\""), &json!("c"))
        );
    }
}
