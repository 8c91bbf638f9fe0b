//! One of the servers under comparison, with a place for every tenant.

use super::{
    data::DataSet,
    load::on_connections,
    workload::{Insert, Query},
};
use crate::{
    http::{Connection, request, request_with},
    machine::Venv,
    server::{Server, Tenantry, disk_bytes, empty_folder, free_address},
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

const DATABASE: &str = "default_database";
/// Connections while tenants are made, which is not measured.
const SETUP_CONNECTIONS: usize = 8;
/// Sent to Chroma, which ignores it, so that both servers read a key of the same length.
const NO_KEY: &str = "tnt_aaaaaaaaaaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Where one tenant's collection is.
#[derive(Debug, Clone)]
struct Place {
    path: String,
    token: String,
}

/// A running server that speaks Chroma's protocol.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    server: Server,
    folder: PathBuf,
    places: Vec<Place>,
    /// Resident bytes before any tenant was made.
    pub(crate) idle_bytes: u64,
}

impl Target {
    /// Chroma's own server from its Python package.
    pub(crate) fn chroma(venv: &Venv, data: &DataSet) -> Result<Self> {
        let folder = empty_folder("bench/chroma")?;
        let address = free_address()?;
        let mut command = Command::new(venv.program("chroma"));
        command.args(["run", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command.arg("--path").arg(folder.join("data")).env("ANONYMIZED_TELEMETRY", "False");
        let mut server = Server::start("chroma", &mut command, &folder.join("server.log"))?;
        server.wait_ready(address, "/api/v2/heartbeat")?;
        let idle_bytes = server.resident_bytes()?;
        let names: Vec<_> = data.tenants.iter().map(|t| t.name.as_str()).collect();
        let places = on_connections(address, SETUP_CONNECTIONS, &names, |connection, name| {
            let post = |path: &str, body: Value| {
                request("POST", path, NO_KEY, Some(body.to_string().as_bytes()))
            };
            connection.send(&post("/api/v2/tenants", json!({"name": name})))?.success()?;
            let databases = format!("/api/v2/tenants/{name}/databases");
            connection.send(&post(&databases, json!({"name": DATABASE})))?.success()?;
            place(connection, name, NO_KEY)
        })?;
        Ok(Self { name: "chroma", address, server, folder, places, idle_bytes })
    }

    /// Tenantry with authentication on; every tenant uses a key of its own.
    pub(crate) fn tenantry(program: &Path, data: &DataSet) -> Result<Self> {
        let folder = empty_folder("bench/tenantry")?;
        let running = Tenantry::start(program, &folder, &[])?;
        let (server, address) = (running.server, running.chroma);
        let idle_bytes = server.resident_bytes()?;
        let operator = server.operator_key()?;
        let names: Vec<_> = data.tenants.iter().map(|t| t.name.as_str()).collect();
        let keys =
            on_connections(running.native, SETUP_CONNECTIONS, &names, |connection, name| {
                create_tenant(connection, &operator, name)?;
                create_key(connection, &operator, name)
            })?;
        let both: Vec<_> = names.iter().zip(keys).collect();
        let places = on_connections(address, SETUP_CONNECTIONS, &both, |connection, one| {
            place(connection, one.0, &one.1)
        })?;
        Ok(Self { name: "tenantry", address, server, folder, places, idle_bytes })
    }

    /// The bytes of these inserts for this server.
    pub(crate) fn inserts(&self, inserts: &[Insert]) -> Result<Vec<Vec<u8>>> {
        inserts.iter().map(|one| self.bytes(one.tenant, "add", &one.body)).collect()
    }

    /// The bytes of these queries for this server.
    pub(crate) fn queries(&self, queries: &[Query]) -> Result<Vec<Vec<u8>>> {
        queries.iter().map(|one| self.bytes(one.tenant, "query", &one.body)).collect()
    }

    fn bytes(&self, tenant: usize, operation: &str, body: &[u8]) -> Result<Vec<u8>> {
        let place = self.places.get(tenant).context("no such tenant")?;
        Ok(request("POST", &format!("{}/{operation}", place.path), &place.token, Some(body)))
    }

    /// Fails unless every tenant has as many records as it was given.
    pub(crate) fn check_counts(&self, data: &DataSet) -> Result<()> {
        let mut connection = Connection::open(self.address)?;
        for (place, tenant) in self.places.iter().zip(&data.tenants) {
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

    /// Resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.server.resident_bytes()
    }

    /// Bytes of the data folder on disk.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        disk_bytes(&self.folder.join("data"))
    }
}

/// Makes a collection with default settings for a tenant.
fn place(connection: &mut Connection, tenant: &str, token: &str) -> Result<Place> {
    let collections = format!("/api/v2/tenants/{tenant}/databases/{DATABASE}/collections");
    let body = json!({"name": "packages"}).to_string();
    let made =
        connection.send(&request("POST", &collections, token, Some(body.as_bytes())))?.json()?;
    let id = made.get("id").and_then(Value::as_str).context("a collection without id")?;
    Ok(Place { path: format!("{collections}/{id}"), token: token.to_owned() })
}

/// Makes a tenant through the operator's REST.
pub(crate) fn create_tenant(connection: &mut Connection, operator: &str, name: &str) -> Result<()> {
    let body = json!({"name": name}).to_string();
    let made = request("POST", "/v1/admin/tenants", operator, Some(body.as_bytes()));
    connection.send(&made)?.success().with_context(|| format!("make tenant {name}"))
}

/// Makes an admin key of a tenant through REST.
fn create_key(connection: &mut Connection, operator: &str, tenant: &str) -> Result<String> {
    let body = json!({"role": "admin", "label": "benchmark"}).to_string();
    let authorization = format!("Bearer {operator}");
    let headers = [("Authorization", authorization.as_str()), ("X-Tenant-ID", tenant)];
    let made = connection
        .send(&request_with("POST", "/v1/keys", &headers, Some(body.as_bytes())))?
        .json()
        .with_context(|| format!("make a key of {tenant}"))?;
    Ok(made.get("key").and_then(Value::as_str).context("no key in the answer")?.to_owned())
}
