//! Servers that speak Chroma's protocol: Chroma's own, and Tenantry.

use crate::{
    http::{Connection, request, request_with},
    native,
    process::{Stopwatch, Took, Venv, empty_folder},
    server::{Server, Tenantry, free_address},
    statistics::mean,
    tenants::{Insert, Query, Tenants},
    wrk::Prepared,
};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

const REQUIREMENTS: &str = include_str!("../peers/servers.txt");
const DATABASE: &str = "default_database";
const COLLECTION: &str = "packages";
/// Connections while tenants are made, which is not measured.
const SETUP_CONNECTIONS: usize = 8;
/// Sent to Chroma, which ignores it, so that both servers read a key of the same length.
const NO_KEY: &str = "tnt_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// The environment that peers' servers come from.
pub(crate) fn environment() -> Result<Venv> {
    Venv::ensure("servers", REQUIREMENTS)
}

/// Answers to queries asked one after another.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) micros: Vec<f64>,
    pub(crate) recalls: Vec<f64>,
}

impl Asked {
    pub(crate) fn recall(&self) -> f64 {
        mean(&self.recalls)
    }
}

/// Where one tenant's collection is.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    tenant: String,
    path: String,
    token: String,
}

impl Place {
    /// The bytes of a request on the collection.
    pub(crate) fn request(&self, operation: &str, body: &[u8]) -> Vec<u8> {
        request("POST", &format!("{}/{operation}", self.path), &self.token, Some(body))
    }
}

/// A running server with a place for every tenant.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Where Tenantry's operator asks, and with which key.
    pub(crate) operator: Option<(SocketAddr, String)>,
    server: Server,
    places: Vec<Place>,
}

impl Target {
    /// Chroma's own server from its Python package.
    pub(crate) fn chroma(venv: &Venv, tenants: &Tenants) -> Result<Self> {
        let folder = empty_folder("server-chroma")?;
        let address = free_address()?;
        let mut command = Command::new(venv.program("chroma"));
        command.args(["run", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command.arg("--path").arg(folder.join("data")).env("ANONYMIZED_TELEMETRY", "False");
        let mut server = Server::start("chroma", &mut command, &folder.join("server.log"))?;
        server.wait_ready(address, "/api/v2/heartbeat")?;
        let places = each(address, SETUP_CONNECTIONS, &tenants.all, |connection, tenant| {
            let name = &tenant.name;
            post(connection, "/api/v2/tenants", NO_KEY, &json!({"name": name}))?;
            let databases = format!("/api/v2/tenants/{name}/databases");
            post(connection, &databases, NO_KEY, &json!({"name": DATABASE}))?;
            place(connection, name, NO_KEY)
        })?;
        Ok(Self { name: "chroma", address, operator: None, server, places })
    }

    /// Tenantry with authentication on; every tenant uses a key of its own.
    pub(crate) fn tenantry(program: &Path, tenants: &Tenants) -> Result<Self> {
        Self::tenantry_in(program, tenants, "server-tenantry", &[])
    }

    /// The same in a folder of this name, with more arguments.
    pub(crate) fn tenantry_in(
        program: &Path,
        tenants: &Tenants,
        folder: &str,
        more: &[&str],
    ) -> Result<Self> {
        let folder = empty_folder(folder)?;
        let Tenantry { server, native, chroma, operator_key, .. } =
            Tenantry::start_with(program, &folder, more)?;
        let keys = each(native, SETUP_CONNECTIONS, &tenants.all, |connection, tenant| {
            let body = json!({"name": tenant.name});
            post(connection, "/v1/admin/tenants", &operator_key, &body)?;
            let key = create_key(connection, &operator_key, &tenant.name)?;
            Ok((tenant.name.clone(), key))
        })?;
        let places = each(chroma, SETUP_CONNECTIONS, &keys, |connection, (name, key)| {
            place(connection, name, key)
        })?;
        let operator = Some((native, operator_key));
        Ok(Self { name: "tenantry", address: chroma, operator, server, places })
    }

    /// The seconds that inserts take over several connections.
    pub(crate) fn insert(&self, inserts: &[Insert], connections: usize) -> Result<f64> {
        Ok(self.insert_timed(inserts, connections)?.seconds)
    }

    /// What inserts take over several connections.
    pub(crate) fn insert_timed(&self, inserts: &[Insert], connections: usize) -> Result<Took> {
        let requests = inserts
            .iter()
            .map(|one| self.request(one.tenant, "add", &one.body()))
            .collect::<Result<Vec<_>>>()?;
        let clock = Stopwatch::start();
        each(self.address, connections, &requests, |connection, request| {
            connection.send(request)?.success()
        })?;
        Ok(clock.took())
    }

    /// The server's process.
    pub(crate) fn process(&self) -> u32 {
        self.server.process()
    }

    /// Asks queries one after another.
    pub(crate) fn ask(&self, queries: &[Query]) -> Result<Asked> {
        let mut connection = Connection::open(self.address)?;
        let mut asked = Asked::default();
        for (query, request) in queries.iter().zip(self.requests(queries)?) {
            let started = Instant::now();
            let answer = connection.send(&request)?;
            asked.micros.push(started.elapsed().as_secs_f64() * 1e6);
            let answer = answer.json()?;
            let ids = answer.pointer("/ids/0").and_then(Value::as_array).context("no ids")?;
            asked.recalls.push(query.recall(ids.iter().filter_map(Value::as_str)));
        }
        Ok(asked)
    }

    /// Queries as a load.
    pub(crate) fn prepare(&self, name: &str, queries: &[Query]) -> Result<Prepared> {
        Prepared::new(&format!("{}-{name}", self.name), self.address, &self.requests(queries)?)
    }

    /// The bytes of queries for this server.
    pub(crate) fn requests(&self, queries: &[Query]) -> Result<Vec<Vec<u8>>> {
        queries.iter().map(|one| self.request(one.tenant, "query", &one.body())).collect()
    }

    /// The bytes of a request on a tenant's collection.
    pub(crate) fn request(&self, tenant: usize, operation: &str, body: &[u8]) -> Result<Vec<u8>> {
        Ok(self.places.get(tenant).context("no such tenant")?.request(operation, body))
    }

    /// Fails unless every tenant has as many records as it was given.
    pub(crate) fn check_counts(&self, tenants: &Tenants) -> Result<()> {
        let mut connection = Connection::open(self.address)?;
        for (place, tenant) in self.places.iter().zip(&tenants.all) {
            let path = format!("{}/count", place.path);
            let count = connection.send(&request("GET", &path, &place.token, None))?.json()?;
            ensure!(
                count == json!(tenant.records.len()),
                "{}: {} has {count} records instead of {}",
                self.name,
                tenant.name,
                tenant.records.len()
            );
        }
        Ok(())
    }

    /// Waits until Tenantry's graph of a tenant that was asked before finds every vector; the
    /// seconds that it took.
    pub(crate) fn settle(&self, tenant: usize) -> Result<f64> {
        let (address, key) = self.operator.as_ref().context("the server has no operator")?;
        let place = self.places.get(tenant).context("no such tenant")?;
        native::settle(*address, COLLECTION, (key.as_str(), place.tenant.as_str()))
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        self.server.resident_bytes()
    }
}

/// Applies `work` to every item over several connections; the results in the items' order.
pub(crate) fn each<T: Sync, R: Send>(
    address: SocketAddr,
    connections: usize,
    items: &[T],
    work: impl Fn(&mut Connection, &T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<(usize, R)>> {
        let mut connection = Connection::open(address)?;
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return Ok(done) };
            done.push((index, work(&mut connection, item)?));
        }
    };
    let mut all = thread::scope(|scope| {
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::with_capacity(items.len());
        for worker in workers {
            all.extend(worker.join().map_err(|_| anyhow!("a connection's thread panicked"))??);
        }
        anyhow::Ok(all)
    })?;
    all.sort_by_key(|(index, _)| *index);
    Ok(all.into_iter().map(|(_, result)| result).collect())
}

pub(crate) fn post(
    connection: &mut Connection,
    path: &str,
    token: &str,
    body: &Value,
) -> Result<Value> {
    let answer =
        connection.send(&request("POST", path, token, Some(body.to_string().as_bytes())))?;
    answer.success().with_context(|| format!("POST {path}"))?;
    // Some answers have no body.
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Makes a collection with default settings for a tenant.
pub(crate) fn place(connection: &mut Connection, tenant: &str, token: &str) -> Result<Place> {
    let collections = format!("/api/v2/tenants/{tenant}/databases/{DATABASE}/collections");
    let made = post(connection, &collections, token, &json!({"name": COLLECTION}))?;
    let id = made.get("id").and_then(Value::as_str).context("a collection without id")?;
    let (tenant, token) = (tenant.to_owned(), token.to_owned());
    Ok(Place { tenant, path: format!("{collections}/{id}"), token })
}

/// Makes an admin key of a tenant through REST.
pub(crate) fn create_key(
    connection: &mut Connection,
    operator: &str,
    tenant: &str,
) -> Result<String> {
    let body = json!({"role": "admin", "label": "benchmark"}).to_string();
    let authorization = format!("Bearer {operator}");
    let headers = [("Authorization", authorization.as_str()), ("X-Tenant-ID", tenant)];
    let made = connection
        .send(&request_with("POST", "/v1/keys", &headers, Some(body.as_bytes())))?
        .json()
        .with_context(|| format!("make a key of {tenant}"))?;
    Ok(made.get("key").and_then(Value::as_str).context("no key in the answer")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_an_error() {
        let free = free_address().unwrap();
        let sent = each(free, 2, &[b"x".to_vec()], |connection, bytes| connection.send(bytes));
        assert!(sent.is_err());
    }
}
