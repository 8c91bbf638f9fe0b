//! Whose a database is that tenants of an installation are in, but the installation is not.
//!
//! Numbers of tenants are unique in one installation only. So a database with tables of tenants
//! belongs to the installation that lives in it, or to one location of one installation, or to
//! the one tenant that carries its URL: that is said by a row that only the installation can make.
//! A location's has a nonce, which the root keeps too: so a name is one database, whatever its URL
//! is on each node.
//!
//! It is looked at before anything else is done in a database; once on each pooled connection to
//! it; and within each transaction that removes rows or writes a tenant's first ones, so that
//! nobody lets go of it meanwhile.

use super::{
    admin::{failed, within},
    cluster::Place,
    connect::OPENING,
    names::ROOT_SCHEMA,
    statement::{Statement, Step},
    view::PgView,
};
use crate::tenancy::keys;
use std::fmt::Write as _;
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, LocationName, Result};
use tokio_postgres::{
    Client, GenericClient, SimpleQueryMessage,
    error::SqlState,
    types::{ToSql, Type},
};

/// What tells a location's database from all others of this name.
pub(super) type Nonce = [u8; 16];

/// What the row of a claim must be.
#[derive(Clone, Copy)]
pub(super) struct Claim {
    /// A tenant's row; that of a location from before there were nonces.
    hash: [u8; 32],
    of: Of,
}

/// Who claims a database.
#[derive(Clone, Copy)]
pub(super) enum Of {
    Tenant(TenantId),
    /// With what makes the hash behind the nonce.
    Location(LocationName, [u8; 32]),
}

impl Claim {
    /// That of an installation, which derives `key`, for the location of this name.
    pub(super) fn of_location(key: &[u8; 32], name: LocationName) -> Self {
        let hash = |word: &[u8]| {
            let text = [word, name.as_str().as_bytes()].concat();
            *blake3::keyed_hash(key, &text).as_bytes()
        };
        let of = Of::Location(name, hash(b"nonce of location "));
        Self { hash: hash(b"location "), of }
    }

    /// That of a tenant.
    pub(super) fn of_tenant(key: &[u8; 32], tenant: TenantId) -> Self {
        let text = [b"tenant ", tenant.get().to_be_bytes().as_slice()].concat();
        Self { hash: *blake3::keyed_hash(key, &text).as_bytes(), of: Of::Tenant(tenant) }
    }

    pub(super) fn of(&self) -> Of {
        self.of
    }

    /// The nonce of a row that only this installation can have made for this location.
    pub(super) fn nonce(&self, row: &[u8]) -> Option<Nonce> {
        let nonce = row.first_chunk()?;
        (self.row(Some(nonce)) == row).then_some(*nonce)
    }

    fn row(&self, nonce: Option<&Nonce>) -> Vec<u8> {
        match (&self.of, nonce) {
            (Of::Location(_, key), Some(nonce)) => {
                [nonce.as_slice(), blake3::keyed_hash(key, nonce).as_bytes()].concat()
            }
            _ => self.hash.to_vec(),
        }
    }

    fn made(&self, row: &[u8]) -> bool {
        let has_nonce = || matches!(self.of, Of::Location(..)) && self.nonce(row).is_some();
        self.hash == row || has_nonce()
    }
}

/// Whose a database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    /// By this row.
    Us(Vec<u8>),
    /// An installation lives in it.
    Installation,
    Others,
}

/// Looks whose a database is, with a connection of the role that serves. One without tables is
/// nobody's.
pub(super) async fn look(client: &mut Client, claim: Option<&Claim>) -> Result<Owner> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    owner(&transaction, claim).await
}

/// Makes a database ours if it is nobody's, and gives it this nonce; whose it is then.
pub(super) async fn take(
    client: &mut Client,
    claim: &Claim,
    nonce: Option<&Nonce>,
) -> Result<Owner> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    // Whoever makes an installation here holds the same lock.
    let lock = format!("SELECT version FROM {ROOT_SCHEMA}.installation FOR UPDATE");
    transaction.query_typed(&lock, &[]).await.map_err(failed("lock a database"))?;
    match owner(&transaction, Some(claim)).await? {
        Owner::Nobody => {}
        Owner::Us(_) if nonce.is_some() => {}
        owner => return Ok(owner),
    }
    let sql = format!(
        "INSERT INTO {ROOT_SCHEMA}.catalog (tenant, family, key, row) VALUES (0, $1, '', $2) \
         ON CONFLICT (tenant, family, key) DO UPDATE SET row = EXCLUDED.row"
    );
    let row = claim.row(nonce);
    let values = [(&family() as _, Type::INT2), (&row as _, Type::BYTEA)];
    transaction.query_typed(&sql, &values).await.map_err(failed("claim a database"))?;
    transaction.commit().await.map_err(failed("claim a database"))?;
    Ok(Owner::Us(row))
}

/// Makes a database nobody's that a tenant has carried, if nothing of the tenant is in it. Whoever
/// writes its first rows holds the claim: they are seen here, or come too late.
pub(super) async fn release(client: &mut Client, claim: &Claim, tenant: TenantId) -> Result<()> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    let sql = format!(
        "DELETE FROM {ROOT_SCHEMA}.catalog \
         WHERE tenant = 0 AND family = $1 AND key = '' AND row = $2"
    );
    let row = claim.row(None);
    let values = [(&family() as _, Type::INT2), (&row as _, Type::BYTEA)];
    transaction.query_typed(&sql, &values).await.map_err(failed("release a database"))?;
    if has_rows_in(&transaction, tenant).await? {
        let message = "rows were written for a deleted tenant meanwhile; they are removed again";
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    transaction.commit().await.map_err(failed("release a database"))
}

/// True if a database has rows of a tenant's catalog. One without tables has none.
pub(super) async fn has_rows(client: &mut Client, tenant: TenantId) -> Result<bool> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    enter(&transaction).await?;
    let table =
        format!("SELECT 1 WHERE pg_catalog.to_regclass('{ROOT_SCHEMA}.catalog') IS NOT NULL");
    let table = transaction.query_typed(&table, &[]).await.map_err(failed("look for tables"))?;
    Ok(!table.is_empty() && has_rows_in(&transaction, tenant).await?)
}

async fn has_rows_in(
    transaction: &tokio_postgres::Transaction<'_>,
    tenant: TenantId,
) -> Result<bool> {
    let number = super::cluster::signed(tenant)?;
    let become_it = "SELECT pg_catalog.set_config('tenantry.tenant', $1, true)";
    let text = number.to_string();
    let values = [(&text as _, Type::TEXT)];
    transaction.query_typed(become_it, &values).await.map_err(failed("look for a tenant"))?;
    let rows = format!("SELECT 1 FROM {ROOT_SCHEMA}.catalog WHERE tenant = $1 LIMIT 1");
    let rows = transaction.query_typed(&rows, &[(&number as _, Type::INT8)]).await;
    Ok(!rows.map_err(failed("look for a tenant"))?.is_empty())
}

/// True if a database has this row, in one round trip and without a name or a setting that
/// stays: the connection may be a pooler's.
pub(super) async fn prove(client: &Client, row: &[u8]) -> Result<bool> {
    let sql = format!(
        "BEGIN READ ONLY; {ENTER}; SELECT pg_catalog.encode(c.row, 'hex') \
         FROM {ROOT_SCHEMA}.catalog c WHERE c.tenant = 0 AND c.family = {} AND c.key = ''; COMMIT",
        family()
    );
    let asked =
        async { client.simple_query(&sql).await.map_err(failed("see whose a database is")) };
    let answers = within(OPENING, "see whose a database is", asked).await?;
    let found = answers.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) if row.len() == 1 => row.get(0),
        _ => None,
    });
    let mut text = String::new();
    for byte in row {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(found.eq([text.as_str()]))
}

impl PgView {
    /// Fails unless this transaction, which is one for changes, is in a database that is ours.
    /// Nobody lets go of it before the end of the transaction.
    pub(super) async fn hold_claim(&self) -> Result<()> {
        let target = &self.home().target;
        let Some(row) = target.claim()? else { return Ok(()) };
        let root = Place::root(target.clone())?;
        let ask = || {
            let statement = Statement::new(root.text(HOLD))
                .with(family(), Type::INT2)
                .with(row.to_vec(), Type::BYTEA);
            vec![Step::Run(statement)]
        };
        let answers = self.run(&root, TenantId::INSTALLATION, ask).await?;
        if answers.first().is_some_and(|rows| rows.len() == 1) {
            return Ok(());
        }
        target.server.set_claim(None);
        Err(is_lost())
    }
}

const HOLD: &str = "SELECT 1 FROM {schema}.catalog \
     WHERE tenant = 0 AND family = $1 AND key = '' AND row = $2 FOR SHARE";

/// What is said to whoever works in a database that is not ours any more; the log says which.
pub(super) fn is_lost() -> Error {
    let message = "the tenant's place is not where it was; try again";
    Error::new(ErrorKind::Unavailable, message)
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
const ENTER: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), \
     pg_catalog.set_config('lock_timeout', '5s', true), \
     pg_catalog.set_config('statement_timeout', '10s', true), \
     pg_catalog.set_config('tenantry.tenant', '0', true)";

async fn enter(client: &impl GenericClient) -> Result<()> {
    client.query_typed(ENTER, &[]).await.map(drop).map_err(failed("begin"))
}

async fn owner(client: &impl GenericClient, claim: Option<&Claim>) -> Result<Owner> {
    let sql = format!(
        "SELECT family, row FROM {ROOT_SCHEMA}.catalog \
         WHERE tenant = 0 AND family IN ($1, $2) AND key = ''"
    );
    let installation = i16::from(keys::Tenant::FAMILY);
    let values: [(&(dyn ToSql + Sync), Type); 2] =
        [(&family(), Type::INT2), (&installation, Type::INT2)];
    let rows = match client.query_typed(&sql, &values).await {
        Err(why) if why.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(Owner::Nobody),
        rows => rows.map_err(failed("see whose a database is"))?,
    };
    // Whoever owns the database may have given the columns other types.
    let read = |row: &tokio_postgres::Row| Some((row.try_get(0).ok()?, row.try_get(1).ok()?));
    let rows: Vec<Option<(i16, Vec<u8>)>> = rows.iter().map(read).collect();
    if rows.iter().flatten().any(|(found, _)| *found == installation) {
        return Ok(Owner::Installation);
    }
    Ok(match rows.as_slice() {
        [] => Owner::Nobody,
        [Some((_, row))] if claim.is_some_and(|claim| claim.made(row)) => Owner::Us(row.clone()),
        _ => Owner::Others,
    })
}

#[cfg(test)]
#[path = "claim_tests.rs"]
mod tests;
