//! Whose a database is that tenants of an installation are in, but the installation is not.
//!
//! Numbers of tenants are unique in one installation only. So a database with tables of tenants
//! belongs to the installation that lives in it, or to one location of one installation, or to
//! the one tenant that carries its URL: that is said by a row, which is a hash that only the
//! installation can make.

use super::{admin::failed, names::ROOT_SCHEMA};
use crate::tenancy::keys;
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, LocationName, Result};
use tokio_postgres::{Client, GenericClient, types::Type};

/// The row of a claim.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim([u8; 32]);

impl Claim {
    /// That of an installation, which derives `key`, for the location of this name.
    pub(super) fn of_location(key: &[u8; 32], name: LocationName) -> Self {
        let text = [b"location ", name.as_str().as_bytes()].concat();
        Self(*blake3::keyed_hash(key, &text).as_bytes())
    }

    /// That of a tenant.
    pub(super) fn of_tenant(key: &[u8; 32], tenant: TenantId) -> Self {
        let text = [b"tenant ", tenant.get().to_be_bytes().as_slice()].concat();
        Self(*blake3::keyed_hash(key, &text).as_bytes())
    }
}

/// Whose a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Us,
    Others,
}

/// Looks whose a database is, with a connection of the role that serves.
pub(super) async fn look(client: &mut Client, claim: Option<Claim>) -> Result<Owner> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    owner(&transaction, claim).await
}

/// Makes a database ours if it is nobody's; whose it is then.
pub(super) async fn take(client: &mut Client, claim: Claim) -> Result<Owner> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    // Whoever makes an installation here holds the same lock.
    let lock = format!("SELECT version FROM {ROOT_SCHEMA}.installation FOR UPDATE");
    transaction.query_typed(&lock, &[]).await.map_err(failed("lock a database"))?;
    let owner = owner(&transaction, Some(claim)).await?;
    if owner != Owner::Nobody {
        return Ok(owner);
    }
    let sql = format!(
        "INSERT INTO {ROOT_SCHEMA}.catalog (tenant, family, key, row) VALUES (0, $1, '', $2)"
    );
    let row = claim.0.as_slice();
    let values = [(&family() as _, Type::INT2), (&row as _, Type::BYTEA)];
    transaction.query_typed(&sql, &values).await.map_err(failed("claim a database"))?;
    transaction.commit().await.map_err(failed("claim a database"))?;
    Ok(Owner::Us)
}

/// Makes a database nobody's that is ours.
pub(super) async fn release(client: &mut Client, claim: Claim) -> Result<()> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    let sql = format!(
        "DELETE FROM {ROOT_SCHEMA}.catalog \
         WHERE tenant = 0 AND family = $1 AND key = '' AND row = $2"
    );
    let row = claim.0.as_slice();
    let values = [(&family() as _, Type::INT2), (&row as _, Type::BYTEA)];
    transaction.query_typed(&sql, &values).await.map_err(failed("release a database"))?;
    transaction.commit().await.map_err(failed("release a database"))
}

/// What is said to whoever names a database that is others'.
pub(super) fn is_others(what: &str) -> Error {
    let message = format!(
        "{what} belongs to others: an installation lives in it, or it is another location or the \
         database of another tenant. Make one for this purpose with `tenantry postgres setup`"
    );
    Error::new(ErrorKind::Conflict, message)
}

fn family() -> i16 {
    i16::from(keys::Claim::FAMILY)
}

/// As a tenant's transaction begins, for the rows that are no tenant's.
async fn enter(client: &impl GenericClient) -> Result<()> {
    let sql = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), \
               pg_catalog.set_config('lock_timeout', '5s', true), \
               pg_catalog.set_config('statement_timeout', '10s', true), \
               pg_catalog.set_config('tenantry.tenant', '0', true)";
    client.query_typed(sql, &[]).await.map(drop).map_err(failed("begin"))
}

async fn owner(client: &impl GenericClient, claim: Option<Claim>) -> Result<Owner> {
    let sql = format!(
        "SELECT family, row FROM {ROOT_SCHEMA}.catalog \
         WHERE tenant = 0 AND family IN ($1, $2) AND key = ''"
    );
    let installation = i16::from(keys::Tenant::FAMILY);
    let values = [(&family() as _, Type::INT2), (&installation as _, Type::INT2)];
    let rows =
        client.query_typed(&sql, &values).await.map_err(failed("see whose a database is"))?;
    // Whoever owns the database may have given the columns other types.
    let is_ours = |row: &tokio_postgres::Row| {
        let (found, bytes) = (row.try_get::<_, i16>(0), row.try_get::<_, Vec<u8>>(1));
        found.is_ok_and(|found| found == family())
            && bytes.is_ok_and(|bytes| claim.is_some_and(|claim| claim.0.as_slice() == bytes))
    };
    Ok(match rows.as_slice() {
        [] => Owner::Nobody,
        [row] if is_ours(row) => Owner::Us,
        _ => Owner::Others,
    })
}
