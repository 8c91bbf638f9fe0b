//! Places of tenants that are apart: a schema in the installation's database, or a database.
//!
//! Making does what is missing, any number of times, and never drops; removing does the same the
//! other way round. Both are serialised for each tenant by a lock of the server. A schema is
//! made and removed in one transaction. A database cannot be, so each step stands for itself, on
//! connections that end with the call: however it ends, its lock ends too, and no other call
//! finds the session half-way.

use super::{
    admin::{Session, enter, failed},
    migrate::{begin, commit, lock_tenant, migrate_place, migrate_place_in, run, signed},
    names::{Names, PlaceName, VECTOR_SCHEMA, quoted},
    url::Cluster,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};
use tokio_postgres::{Client, GenericClient};

/// Makes a tenant's role and schema with the newest tables, whatever of it is missing, if it `may` once
/// others who work on the tenant wait. The client is the admin's, in the installation's database.
pub(crate) async fn make_schema(
    client: &mut Client,
    names: &Names,
    place: &PlaceName,
    (tenant, may): (TenantId, impl AsyncFnOnce() -> Result<()>),
) -> Result<()> {
    let transaction = begin(client).await?;
    lock_tenant(&transaction, tenant).await?;
    may().await?;
    make_role(&transaction, names, place).await?;
    migrate_place_in(&transaction, place, VECTOR_SCHEMA, tenant).await?;
    commit(transaction, "make a tenant's schema").await
}

/// Removes a tenant's schema and role, whatever of them is there, if it `may` once others who work
/// on the tenant wait.
pub(crate) async fn drop_schema(
    client: &mut Client,
    place: &PlaceName,
    tenant: TenantId,
    may: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    stop_graphs(client, place).await?;
    let transaction = begin(client).await?;
    lock_tenant(&transaction, tenant).await?;
    may().await?;
    let name = quoted(place.as_str())?;
    let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE; DROP ROLE IF EXISTS {name}");
    run(&transaction, &sql, "remove a tenant's schema").await?;
    commit(transaction, "remove a tenant's schema").await
}

/// Cancels whoever makes an index here, which may take long and holds a lock.
async fn stop_graphs(client: &Client, place: &PlaceName) -> Result<()> {
    let sql = "SELECT pg_catalog.pg_cancel_backend(p.pid) \
         FROM pg_catalog.pg_stat_progress_create_index p \
         JOIN pg_catalog.pg_class c ON c.oid = p.relid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE p.datname = pg_catalog.current_database() AND n.nspname = $1";
    let stopped = client.execute(sql, &[&place.as_str()]).await;
    stopped.map(drop).map_err(failed("stop making indexes"))
}

/// The steps of making a database, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Making {
    Role,
    Database,
    Privileges,
    Tables,
}

/// The steps of removing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Removing {
    Closing,
    Database,
    Role,
}

/// Makes a tenant's role and database with the newest tables, whatever of it is missing, if it `may`
/// once others who work on the tenant wait. The way is that of the admin role, directly at the
/// server, to the database of the shared tables.
pub(crate) async fn make_database(
    way: &Cluster,
    names: &Names,
    place: &PlaceName,
    (tenant, may): (TenantId, impl AsyncFnOnce() -> Result<()>),
) -> Result<()> {
    make_database_steps(way, names, place, (tenant, may), Making::Tables).await
}

pub(super) async fn make_database_steps(
    way: &Cluster,
    names: &Names,
    place: &PlaceName,
    (tenant, may): (TenantId, impl AsyncFnOnce() -> Result<()>),
    last: Making,
) -> Result<()> {
    let mut admin = locked(way, tenant).await?;
    may().await?;
    let transaction = begin(&mut admin).await?;
    make_role(&transaction, names, place).await?;
    commit(transaction, "make a tenant's role").await?;
    if last == Making::Role {
        return Ok(());
    }
    let (name, template) = (quoted(place.as_str())?, quoted(&names.template())?);
    match state(&admin, place).await? {
        State::Usable => {}
        State::Absent => {
            // Copying files instead would wait for a checkpoint of everything.
            let sql = format!("CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log");
            run(&*admin, &sql, "make a tenant's database").await?;
        }
        State::Closed | State::Broken => {
            let message = format!("PostgreSQL: the database {place} is being removed");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
    }
    if last == Making::Database {
        return Ok(());
    }
    // A template does not hand down what the public may not do.
    let sql = format!(
        "REVOKE ALL ON DATABASE {name} FROM PUBLIC; GRANT CONNECT ON DATABASE {name} TO {}",
        quoted(&names.service())?
    );
    run(&*admin, &sql, "close a tenant's database to the public").await?;
    if last == Making::Privileges {
        return Ok(());
    }
    let mut database = enter(&way.with_database(place.as_str())).await?;
    migrate_place(&mut database, place, VECTOR_SCHEMA, tenant).await
}

/// Removes a tenant's database and role, whatever of them is there, and ends everybody's sessions
/// in it, if it `may` once others who work on the tenant wait.
pub(crate) async fn drop_database(
    way: &Cluster,
    place: &PlaceName,
    tenant: TenantId,
    may: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    drop_database_steps(way, place, (tenant, may), Removing::Role).await
}

pub(super) async fn drop_database_steps(
    way: &Cluster,
    place: &PlaceName,
    (tenant, may): (TenantId, impl AsyncFnOnce() -> Result<()>),
    last: Removing,
) -> Result<()> {
    let admin = locked(way, tenant).await?;
    may().await?;
    let name = quoted(place.as_str())?;
    // Closed first, so that nobody comes back while sessions are ended.
    if state(&admin, place).await? == State::Usable {
        let sql = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false");
        run(&*admin, &sql, "close a tenant's database").await?;
    }
    if last == Removing::Closing {
        return Ok(());
    }
    let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
    run(&*admin, &sql, "remove a tenant's database").await?;
    if last == Removing::Database {
        return Ok(());
    }
    // What it was granted went with the database.
    run(&*admin, &format!("DROP ROLE IF EXISTS {name}"), "remove a tenant's role").await
}

/// A connection of the admin's that holds the tenant's lock to its end. One that hangs in between
/// is ended by the server.
async fn locked(way: &Cluster, tenant: TenantId) -> Result<Session> {
    let admin = enter(way).await?;
    let sql = format!(
        "SET search_path = pg_catalog; SET lock_timeout = '30s'; SET idle_session_timeout = '90s'; \
         SELECT pg_advisory_lock({})",
        signed(tenant)?
    );
    run(&*admin, &sql, "wait for others who work on this tenant").await?;
    Ok(admin)
}

/// A role without any right, which the service can take on but does not have.
async fn make_role(client: &impl GenericClient, names: &Names, place: &PlaceName) -> Result<()> {
    let (name, service) = (quoted(place.as_str())?, quoted(&names.service())?);
    let sql = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)";
    let row = client.query_one(sql, &[&place.as_str()]).await.map_err(failed("look for a role"))?;
    let make = if row.get(0) { String::new() } else { format!("CREATE ROLE {name} NOLOGIN;") };
    let sql = format!("{make} GRANT {name} TO {service} WITH ADMIN FALSE, INHERIT FALSE, SET TRUE");
    run(client, &sql, "make a tenant's role").await
}

/// What there is of a database.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Absent,
    Usable,
    /// Its removal has begun.
    Closed,
    /// Its removal was cut off by the server's end; it can only be removed.
    Broken,
}

async fn state(admin: &Client, place: &PlaceName) -> Result<State> {
    let sql = "SELECT datallowconn, datconnlimit = -2 FROM pg_database WHERE datname = $1";
    let row = admin.query_opt(sql, &[&place.as_str()]).await;
    let row = row.map_err(failed("look for a tenant's database"))?;
    Ok(match row.map(|row| (row.get(0), row.get(1))) {
        None => State::Absent,
        Some((_, true)) => State::Broken,
        Some((true, false)) => State::Usable,
        Some((false, false)) => State::Closed,
    })
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
