//! What very many schemas take on a PostgreSQL server: its catalog, its processes, a migration.

use crate::{
    natives::Installation,
    postgres::{Instance, connect},
    process::{output, status_bytes},
    server::tree_bytes,
};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{path::Path, process::Command, time::Instant};
use tokio::runtime::Builder;

/// The installation, and its database.
pub(crate) const DATABASE: &str = "bench";
const MIB: f64 = 1_048_576.0;
/// Places that Tenantry's own migrations change in one transaction.
const BATCH: usize = 25;
const CATALOG: &str = "SELECT
    (SELECT count(*) FROM pg_class),
    (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^ten_'),
    (SELECT count(*) FROM pg_roles),
    pg_database_size(current_database()),
    (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
        WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r'),
    (SELECT count(*) FROM pg_database WHERE datname ~ '^ten_'),
    (SELECT coalesce(avg(pg_database_size(oid)), 0)::bigint FROM pg_database WHERE datname ~ '^ten_')";

/// A PostgreSQL server with a running Tenantry.
#[derive(Debug)]
pub(crate) struct Catalog {
    classes: i64,
    schemas: i64,
    roles: i64,
    database_mib: f64,
    catalog_mib: f64,
    databases: i64,
    own_database_mib: f64,
    /// Of all processes, shared pages counted once.
    server_mib: f64,
    /// Resident memory of each connection of the service, shared buffers included.
    connections_mib: Vec<f64>,
}

impl Catalog {
    /// Looks at a server.
    pub(crate) fn read(instance: &Instance) -> Result<Self> {
        block_on(async {
            let uri = instance.uri.replace("/postgres?", &format!("/{DATABASE}?"));
            let client = connect(&uri, None).await?;
            let row = client.query_one(CATALOG, &[]).await?;
            let mib = |column: usize| row.get::<_, i64>(column) as f64 / MIB;
            let sql = "SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY pid";
            let service = format!("{DATABASE}_service");
            let processes = client.query(sql, &[&service]).await?;
            let resident = |pid: i32| status_bytes(pid.unsigned_abs(), "VmRSS") as f64 / MIB;
            Ok(Self {
                classes: row.get(0),
                schemas: row.get(1),
                roles: row.get(2),
                database_mib: mib(3),
                catalog_mib: mib(4),
                databases: row.get(5),
                own_database_mib: mib(6),
                server_mib: tree_bytes(instance.process()) as f64 / MIB,
                connections_mib: processes.iter().map(|row| resident(row.get(0))).collect(),
            })
        })
    }

    /// Says what was found.
    pub(crate) fn print(&self) {
        println!(
            "{} schemas, {} roles, {} rows of pg_class; catalog {:.0} MiB of {:.0} MiB",
            self.schemas, self.roles, self.classes, self.catalog_mib, self.database_mib
        );
        println!("{} databases of {:.1} MiB each", self.databases, self.own_database_mib);
        let most = self.connections_mib.iter().copied().fold(0.0, f64::max);
        println!(
            "PostgreSQL takes {:.0} MiB; {} connections, the largest with {most:.0} MiB resident",
            self.server_mib,
            self.connections_mib.len()
        );
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "pg_class_rows": self.classes, "schemas": self.schemas, "roles": self.roles,
            "database_mib": self.database_mib, "catalog_mib": self.catalog_mib,
            "databases": self.databases, "own_database_mib": self.own_database_mib,
            "server_mib": self.server_mib, "connections_resident_mib": self.connections_mib,
        })
    }
}

/// The seconds of `tenantry postgres migrate` where nothing is to be changed.
pub(crate) fn migrate(program: &Path, made: &Installation) -> Result<f64> {
    let started = Instant::now();
    let mut migrate = Command::new(program);
    migrate.args(["postgres", "migrate", "--json"]);
    let told = output(migrate.env("TENANTRY_DATABASE_ADMIN_URL", &made.admin_url))?;
    let seconds = started.elapsed().as_secs_f64();
    println!("migrate: {} in {seconds:.2} s", String::from_utf8_lossy(&told).trim());
    Ok(seconds)
}

/// What a next version's migration would take: the same steps as Tenantry's, with one column more
/// in a table of each schema. The installation cannot be used any more.
pub(crate) fn second_migration(made: &Installation) -> Result<Value> {
    block_on(async {
        let mut admin = connect(&made.admin_url, None).await?;
        let sql = "SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^ten_' ORDER BY 1";
        let schemas: Vec<String> =
            admin.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        let started = Instant::now();
        for (number, batch) in (1..).zip(schemas.chunks(BATCH)) {
            let transaction = admin.transaction().await?;
            for schema in batch {
                let sql = format!(
                    "ALTER TABLE {schema}.records ADD COLUMN bench integer;
                     UPDATE {schema}.catalog SET row = row WHERE family = 27 AND key = ''"
                );
                transaction.batch_execute(&sql).await.with_context(|| schema.clone())?;
            }
            transaction.commit().await?;
            if number % 40 == 0 {
                println!("changed {} of {} schemas", number * BATCH, schemas.len());
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("a column more in {} schemas: {seconds:.1} s", schemas.len());
        Ok(json!({"schemas": schemas.len(), "seconds": seconds}))
    })
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    Builder::new_current_thread().enable_all().build()?.block_on(work)
}
