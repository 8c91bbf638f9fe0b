//! One tenant's collection in a running Tenantry, through Tenantry's own protocol.

use crate::{
    http::{Connection, request, request_with},
    server::Tenantry,
    target::{create_key, each, post},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

const COLLECTIONS: &str = "/v1/databases/default_database/collections";
const COLLECTION: &str = "records";
const TENANT: &str = "measured";
/// Records in one upsert at most.
const BATCH_RECORDS: usize = 100;
const INSERT_CONNECTIONS: usize = 4;
/// How long a graph may take to be built.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(900);
/// How long the server may take to begin one.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Where the collection is, the key of its tenant and the operator's.
#[derive(Debug, Clone)]
pub(crate) struct Collection {
    token: String,
    operator: String,
}

/// How far the collection's index is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Vectors that the graph finds.
    pub(crate) linked: u64,
    /// Vectors that are scanned.
    pub(crate) pending: u64,
}

impl Collection {
    /// Makes a tenant with a collection whose vectors are compared by cosine.
    pub(crate) fn make(server: &Tenantry) -> Result<Self> {
        let mut connection = Connection::open(server.native)?;
        let operator = server.operator_key.clone();
        post(&mut connection, "/v1/admin/tenants", &operator, &json!({"name": TENANT}))?;
        let token = create_key(&mut connection, &operator, TENANT)?;
        let body = json!({"name": COLLECTION, "metric": "cosine"});
        post(&mut connection, COLLECTIONS, &token, &body)?;
        Ok(Self { token, operator })
    }

    fn request(&self, operation: &str, body: &Value) -> Vec<u8> {
        let path = format!("{COLLECTIONS}/{COLLECTION}/records/{operation}");
        request("POST", &path, &self.token, Some(body.to_string().as_bytes()))
    }

    /// The bytes of upserts of records, batch by batch.
    pub(crate) fn upserts(&self, records: &[Value], batch: usize) -> Vec<Vec<u8>> {
        let upsert = |batch: &[Value]| self.request("upsert", &json!({"records": batch}));
        records.chunks(batch.max(1)).map(upsert).collect()
    }

    /// The bytes of a query for the ten nearest.
    pub(crate) fn query(&self, vector: &[f32], exact: bool) -> Vec<u8> {
        self.request("query", &json!({"vectors": [vector], "k": 10, "exact": exact}))
    }

    /// Inserts records that are not there yet, over several connections.
    pub(crate) fn fill(&self, address: SocketAddr, records: &[Value]) -> Result<()> {
        each(address, INSERT_CONNECTIONS, &self.upserts(records, BATCH_RECORDS), |to, batch| {
            to.send(batch)?.success()
        })?;
        let counted = Connection::open(address)?.send(&self.request("count", &json!({})))?;
        let count = counted.json()?.get("count").and_then(Value::as_u64);
        ensure!(count == Some(records.len() as u64), "{count:?} records of {}", records.len());
        Ok(())
    }

    /// As [`settle`].
    pub(crate) fn settle(&self, address: SocketAddr) -> Result<f64> {
        settle(address, COLLECTION, (self.operator.as_str(), TENANT))
    }
}

/// Asked as the operator in the tenant, who alone is told it.
fn progress(
    connection: &mut Connection,
    collection: &str,
    (operator, tenant): (&str, &str),
) -> Result<Progress> {
    let path = format!("{COLLECTIONS}/{collection}/statistics");
    let authorization = format!("Bearer {operator}");
    let headers = [("Authorization", authorization.as_str()), ("X-Tenant-ID", tenant)];
    let found = connection.send(&request_with("GET", &path, &headers, None))?.json()?;
    let number = |key| found.pointer(key).and_then(Value::as_u64).unwrap_or_default();
    Ok(Progress { linked: number("/memory/linked"), pending: number("/memory/pending") })
}

/// Waits until the graph of a collection that was asked before finds every vector; the seconds
/// that it took. By the operator's key, and the name of the tenant.
pub(crate) fn settle(address: SocketAddr, collection: &str, inside: (&str, &str)) -> Result<f64> {
    let started = Instant::now();
    let mut connection = Connection::open(address)?;
    loop {
        let Progress { linked, pending } = progress(&mut connection, collection, inside)?;
        let waited = started.elapsed();
        if linked > 0 && pending == 0 {
            return Ok(waited.as_secs_f64());
        }
        ensure!(linked > 0 || waited < BEGIN_TIMEOUT, "{pending} vectors get no graph");
        ensure!(waited < SETTLE_TIMEOUT, "{pending} vectors wait after {waited:?}");
        thread::sleep(POLL_EVERY);
    }
}

/// The hits of the first query in an answer: id and distance.
pub(crate) fn hits(answer: &Value) -> Result<Vec<(String, f64)>> {
    let hits = answer.pointer("/results/0").and_then(Value::as_array).context("no results")?;
    let hit = |hit: &Value| {
        let id = hit.get("id").and_then(Value::as_str);
        let distance = hit.get("distance").and_then(Value::as_f64);
        match (id, distance) {
            (Some(id), Some(distance)) => Ok((id.to_owned(), distance)),
            _ => bail!("{hit} is no hit"),
        }
    };
    hits.iter().map(hit).collect()
}

/// The share of an exact answer that another has. Equal distances are as good as each other.
pub(crate) fn recall(found: &[(String, f64)], exact: &[(String, f64)]) -> f64 {
    let Some((_, last)) = exact.last() else { return 1.0 };
    let near = found.iter().filter(|(_, distance)| distance <= last);
    let hits = near.map(|(id, _)| id).collect::<HashSet<_>>().len();
    hits.min(exact.len()) as f64 / exact.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_are_read() {
        let hit = |id, distance| json!({"id": id, "distance": distance, "document": "x"});
        let answer = json!({"results": [[hit("a", 0.5), hit("b", 1.0)]]});
        assert_eq!(hits(&answer).unwrap(), [("a".to_owned(), 0.5), ("b".to_owned(), 1.0)]);
        assert_eq!(hits(&json!({"results": [[]]})).unwrap(), []);
        for bad in [json!({}), json!({"results": []}), json!({"results": [[{"id": "a"}]]})] {
            assert!(hits(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn recall_counts_what_is_as_near_as_the_exact_answer() {
        let hits = |all: &[(&str, f64)]| -> Vec<(String, f64)> {
            all.iter().map(|(id, distance)| ((*id).to_owned(), *distance)).collect()
        };
        let exact = hits(&[("a", 0.1), ("b", 0.2)]);
        for (found, expected) in [
            (&[("a", 0.1), ("b", 0.2)][..], 1.0),
            (&[("a", 0.1), ("c", 0.2)], 1.0),
            (&[("a", 0.1), ("a", 0.1)], 0.5),
            (&[("a", 0.1), ("c", 0.3)], 0.5),
            (&[], 0.0),
        ] {
            assert!((recall(&hits(found), &exact) - expected).abs() < 1e-9, "{found:?}");
        }
        assert!((recall(&[], &[]) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn records_travel_in_batches() {
        let collection = Collection { token: "key".to_owned(), operator: String::new() };
        let records: Vec<_> = (0..5).map(|id| json!({"id": id.to_string()})).collect();
        let batches = collection.upserts(&records, 2);
        assert_eq!(batches.len(), 3);
        let last = String::from_utf8(batches[2].clone()).unwrap();
        assert!(last.starts_with("POST ") && last.ends_with(r#"{"records":[{"id":"4"}]}"#));
    }
}
