//! PostgreSQL with pgvector: one table, a tenant's rows separated by row-level security, searched
//! exactly through the index that leads with the tenant.
//!
//! The tenant is set inside each transaction, as it must be with pooled connections. The four
//! statements of a query travel in one round trip.

use crate::{
    process::{Stopwatch, Took, Venv, empty_folder},
    server::{Server, tree_bytes},
    statistics::percentile,
    target::Asked,
    tenants::{Insert, NEIGHBOURS, Query, Tenants},
    wrk::Load,
};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    error::Error,
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_postgres::{
    Client, NoTls, Row, Statement,
    types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked},
};

const SCRIPT: &str = include_str!("../../../clients/postgres/server.py");
/// Enough for all of the data; everything else stays as PostgreSQL ships it, durable commits too.
const SETTINGS: [&str; 2] = ["shared_buffers=1GB", "max_connections=64"];
/// A role that owns nothing and bypasses nothing.
pub(crate) const ROLE: &str = "tenants";

/// A running PostgreSQL.
pub(crate) struct Instance {
    /// Held for its end: it stops PostgreSQL when it is dropped.
    _server: Server,
    process: u32,
    pub(crate) uri: String,
}

impl Instance {
    /// Starts one without tables.
    pub(crate) fn start(venv: &Venv) -> Result<Self> {
        Self::start_with(venv, &SETTINGS)
    }

    /// The same with other settings, each as `name=value`.
    pub(crate) fn start_with(venv: &Venv, settings: &[&str]) -> Result<Self> {
        let folder = empty_folder("server-postgres")?;
        let script = folder.join("server.py");
        fs::write(&script, SCRIPT)?;
        let mut command = Command::new(venv.program("python"));
        command.arg(&script).arg(folder.join("data")).args(settings);
        let log = folder.join("server.log");
        let mut server = Server::start("postgres", &mut command, &log)?.ending_by_itself();
        let ready: Value = server.wait(|printed| {
            printed
                .lines()
                .find_map(|line| serde_json::from_str(line).ok().filter(Value::is_object))
        })?;
        let uri = ready.get("socket_url").and_then(Value::as_str).context("no address")?.to_owned();
        let process = ready.get("pid").and_then(Value::as_u64).context("no process")?;
        Ok(Self { _server: server, process: u32::try_from(process)?, uri })
    }

    /// True while an index is made in one of its databases.
    pub(crate) fn makes_indexes(&self) -> Result<bool> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = connect(&self.uri, None).await?;
            let sql = "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index)";
            Ok(client.query_one(sql, &[]).await?.try_get(0)?)
        })
    }

    /// The server's first process.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }
}

/// A running server with an empty table.
pub(crate) struct Postgres {
    instance: Instance,
    /// One thread sends all load, as wrk does.
    runtime: Runtime,
}

/// A connection with its statements.
struct Session {
    client: Client,
    begin: Statement,
    set_tenant: Statement,
    insert: Statement,
    search: Statement,
    commit: Statement,
}

impl Postgres {
    /// Starts the server and makes the table.
    pub(crate) fn start(venv: &Venv, tenants: &Tenants) -> Result<Self> {
        let instance = Instance::start(venv)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let postgres = Self { instance, runtime };
        postgres.runtime.block_on(make_table(&postgres.instance.uri, tenants.dimension()))?;
        Ok(postgres)
    }

    /// The seconds that inserts take over several connections.
    pub(crate) fn insert(&self, inserts: &[Insert], connections: usize) -> Result<f64> {
        Ok(self.insert_timed(inserts, connections)?.seconds)
    }

    /// What inserts take over several connections.
    pub(crate) fn insert_timed(&self, inserts: &[Insert], connections: usize) -> Result<Took> {
        let batches: Vec<_> = inserts.iter().map(Batch::new).collect::<Result<_>>()?;
        let batches = Arc::new(batches);
        self.runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let sessions = self.sessions(connections).await?;
            let clock = Stopwatch::start();
            let mut tasks = JoinSet::new();
            for session in sessions {
                let (batches, next) = (Arc::clone(&batches), Arc::clone(&next));
                tasks.spawn(async move {
                    while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                        session.insert(batch).await?;
                    }
                    anyhow::Ok(())
                });
            }
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            Ok(clock.took())
        })
    }

    /// Brings statistics and visibility up to date, as a server left alone does by itself.
    pub(crate) fn settle(&self) -> Result<()> {
        self.runtime.block_on(async {
            connect(&self.instance.uri, None)
                .await?
                .batch_execute("VACUUM ANALYZE records")
                .await?;
            Ok(())
        })
    }

    /// Asks queries one after another.
    pub(crate) fn ask(&self, queries: &[Query]) -> Result<Asked> {
        self.runtime.block_on(async {
            let session = Session::open(&self.instance.uri).await?;
            let mut asked = Asked::default();
            for query in queries {
                let prepared = Prepared::new(query);
                let started = Instant::now();
                let rows = session.search(&prepared).await?;
                asked.micros.push(started.elapsed().as_secs_f64() * 1e6);
                asked.recalls.push(query.recall(rows.iter().map(|row| row.get(0))));
            }
            Ok(asked)
        })
    }

    /// Sends queries for some seconds over several connections.
    pub(crate) fn load(&self, queries: &[Query], connections: usize, seconds: u64) -> Result<Load> {
        let queries: Arc<Vec<_>> = Arc::new(queries.iter().map(Prepared::new).collect());
        self.runtime.block_on(async {
            let next = Arc::new(AtomicUsize::new(0));
            let sessions = self.sessions(connections).await?;
            let started = Instant::now();
            let end = started + Duration::from_secs(seconds);
            let mut tasks = JoinSet::new();
            for session in sessions {
                let (queries, next) = (Arc::clone(&queries), Arc::clone(&next));
                tasks.spawn(async move {
                    let mut took = Vec::new();
                    while Instant::now() < end {
                        let index = next.fetch_add(1, Ordering::Relaxed) % queries.len().max(1);
                        let Some(query) = queries.get(index) else { break };
                        let asked = Instant::now();
                        session.search(query).await?;
                        took.push(asked.elapsed().as_secs_f64() * 1e6);
                    }
                    anyhow::Ok(took)
                });
            }
            let mut took = Vec::new();
            while let Some(done) = tasks.join_next().await {
                took.extend(done??);
            }
            Ok(Load {
                requests: took.len() as f64,
                seconds: started.elapsed().as_secs_f64(),
                failed: 0.0,
                p50_us: percentile(&took, 50.0),
                p99_us: percentile(&took, 99.0),
            })
        })
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        tree_bytes(self.instance.process)
    }

    /// The server's first process.
    pub(crate) fn process(&self) -> u32 {
        self.instance.process()
    }

    async fn sessions(&self, count: usize) -> Result<Vec<Session>> {
        let mut sessions = Vec::new();
        for _ in 0..count {
            sessions.push(Session::open(&self.instance.uri).await?);
        }
        Ok(sessions)
    }
}

impl Session {
    async fn open(uri: &str) -> Result<Self> {
        let client = connect(uri, Some(ROLE)).await?;
        Ok(Self {
            begin: client.prepare("BEGIN").await?,
            set_tenant: client.prepare("SELECT set_config('bench.tenant', $1, true)").await?,
            insert: client
                .prepare(
                    "INSERT INTO records (tenant, id, document, section, embedding) \
                     SELECT $1::bigint, * FROM unnest($2::text[], $3::text[], $4::text[], $5::vector[])",
                )
                .await?,
            search: client
                .prepare(&format!(
                    "SELECT id, document, section, embedding <-> $1 AS distance \
                     FROM records ORDER BY distance LIMIT {NEIGHBOURS}"
                ))
                .await?,
            commit: client.prepare("COMMIT").await?,
            client,
        })
    }

    async fn search(&self, query: &Prepared) -> Result<Vec<Row>> {
        let (tenant, vector): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) =
            ([&query.tenant], [&query.vector]);
        let (begun, set, found, committed) = tokio::join!(
            self.client.execute(&self.begin, &[]),
            self.client.execute(&self.set_tenant, &tenant),
            self.client.query(&self.search, &vector),
            self.client.execute(&self.commit, &[]),
        );
        begun?;
        set?;
        let found = found?;
        committed?;
        Ok(found)
    }

    async fn insert(&self, batch: &Batch) -> Result<()> {
        let values: [&(dyn ToSql + Sync); 5] =
            [&batch.number, &batch.ids, &batch.documents, &batch.sections, &batch.vectors];
        let tenant: [&(dyn ToSql + Sync); 1] = [&batch.tenant];
        let (begun, set, inserted, committed) = tokio::join!(
            self.client.execute(&self.begin, &[]),
            self.client.execute(&self.set_tenant, &tenant),
            self.client.execute(&self.insert, &values),
            self.client.execute(&self.commit, &[]),
        );
        begun?;
        set?;
        inserted?;
        committed?;
        Ok(())
    }
}

pub(crate) async fn connect(uri: &str, role: Option<&str>) -> Result<Client> {
    let mut config: tokio_postgres::Config = uri.parse()?;
    if let Some(role) = role {
        config.user(role);
    }
    let (client, connection) = config.connect(NoTls).await.context("connect to PostgreSQL")?;
    // Ends with the client; its errors reach the client's calls.
    tokio::spawn(connection);
    Ok(client)
}

/// Makes the table and the role, in a server whose commits are durable.
pub(crate) async fn make_table(uri: &str, dimension: usize) -> Result<()> {
    let owner = connect(uri, None).await?;
    check_durable(&owner).await?;
    Ok(owner.batch_execute(&schema(dimension)).await?)
}

/// Fails unless every commit is synchronised before it is answered, as Tenantry's are.
async fn check_durable(client: &Client) -> Result<()> {
    for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
        let value: String = client.query_one(&format!("SHOW {setting}"), &[]).await?.try_get(0)?;
        ensure!(value == "on", "PostgreSQL runs with {setting} = {value}");
    }
    Ok(())
}

/// The table: vectors stay inside the row, so that no search has to fetch them from elsewhere.
fn schema(dimension: usize) -> String {
    format!(
        "CREATE EXTENSION vector;
         CREATE TABLE records (tenant bigint, id text, document text, section text,
             embedding vector({dimension}), PRIMARY KEY (tenant, id));
         ALTER TABLE records ALTER embedding SET STORAGE PLAIN;
         ALTER TABLE records ENABLE ROW LEVEL SECURITY;
         ALTER TABLE records FORCE ROW LEVEL SECURITY;
         CREATE POLICY own ON records
             USING (tenant = current_setting('bench.tenant')::bigint)
             WITH CHECK (tenant = current_setting('bench.tenant')::bigint);
         DO $$BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN END$$;
         GRANT SELECT, INSERT ON records TO {ROLE};"
    )
}

/// A query in PostgreSQL's types.
struct Prepared {
    tenant: String,
    vector: Vector,
}

impl Prepared {
    fn new(query: &Query) -> Self {
        Self { tenant: query.tenant.to_string(), vector: Vector(query.vector.clone()) }
    }
}

/// An insert in PostgreSQL's types.
struct Batch {
    tenant: String,
    number: i64,
    ids: Vec<String>,
    documents: Vec<String>,
    sections: Vec<String>,
    vectors: Vec<Vector>,
}

impl Batch {
    fn new(insert: &Insert) -> Result<Self> {
        let records = &insert.records;
        Ok(Self {
            tenant: insert.tenant.to_string(),
            number: i64::try_from(insert.tenant)?,
            ids: records.iter().map(|one| one.id.clone()).collect(),
            documents: records.iter().map(|one| one.text.clone()).collect(),
            sections: records.iter().map(|one| one.section.clone()).collect(),
            vectors: records.iter().map(|one| Vector(one.vector.clone())).collect(),
        })
    }
}

/// A vector in pgvector's binary form: the number of components and an unused field as 16 bits,
/// then the components as 32-bit floats, all big-endian.
#[derive(Debug, Clone)]
pub(crate) struct Vector(pub(crate) Vec<f32>);

impl ToSql for Vector {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let count = u16::try_from(self.0.len())?;
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        for component in &self.0 {
            out.extend_from_slice(&component.to_be_bytes());
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        ty.name() == "vector"
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_travel_in_pgvectors_binary_form() {
        let mut out = BytesMut::new();
        let written = Vector(vec![1.0, -2.0]).to_sql(&Type::BYTEA, &mut out);
        assert!(matches!(written, Ok(IsNull::No)));
        assert_eq!(&out[..], &[0, 2, 0, 0, 0x3f, 0x80, 0, 0, 0xc0, 0, 0, 0]);
        assert!(Vector(vec![0.0; 70_000]).to_sql(&Type::BYTEA, &mut out).is_err());
    }
}
