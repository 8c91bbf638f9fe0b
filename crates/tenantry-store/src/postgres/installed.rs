//! Whether an installation is in a database, whole, and whose it is: what commands look at before
//! they change anything, and what a start says of the server's connections.

use super::{
    admin::failed,
    config::PostgresConfig,
    migrate::{is_known, is_prefixed},
    names::{PlacePrefix, ROOT_SCHEMA, VECTOR_SCHEMA},
};
use tenantry_types::{Error, ErrorKind, Result};
use tokio_postgres::{Client, SimpleQueryMessage};

/// Columns of the root's tables that every version has.
pub(super) const COLUMNS: &[(&str, &[&str])] = &[
    ("installation", &["one", "version", "epoch"]),
    ("catalog", &["tenant", "family", "key", "row"]),
    ("records", &["tenant", "collection", "ordinal", "key", "id", "fields", "body"]),
    ("vectors", &["tenant", "collection", "field", "ordinal", "v"]),
];

/// Fails unless the client is the role that owns the installation in its database. Another one
/// sees a part of it at most, and would do a part of the work and call it done.
pub(super) async fn check_owner(client: &Client) -> Result<()> {
    let sql = "SELECT session_user::text, current_database()::text, \
               (SELECT pg_get_userbyid(c.relowner)::text FROM pg_class c \
               JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = 'installation')";
    let row = client.query_one(sql, &[&ROOT_SCHEMA]).await;
    let row = row.map_err(failed("ask whose the installation is"))?;
    let (role, database): (String, String) = (row.get(0), row.get(1));
    let Some(owner) = row.get::<_, Option<String>>(2) else {
        let message = format!(
            "there is no installation in the database {database}: use the URL of one that \
             `tenantry postgres setup` has made"
        );
        return Err(Error::new(ErrorKind::NotFound, message));
    };
    if owner != role {
        return Err(Error::denied(format!(
            "the installation in the database {database} is the role {owner}'s, and the URL is \
             that of {role}: use the one that `tenantry postgres setup` printed as \
             database_admin_url"
        )));
    }
    Ok(())
}

/// Fails if something of the root is gone, which no setup brings back.
pub(super) async fn check_whole(client: &Client) -> Result<()> {
    let (tables, columns): (Vec<&str>, Vec<&str>) =
        COLUMNS.iter().flat_map(|(table, all)| all.iter().map(|one| (*table, *one))).unzip();
    let sql = "SELECT t, c FROM unnest($2::text[], $3::text[]) AS w (t, c) WHERE NOT EXISTS \
               (SELECT FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid \
               JOIN pg_namespace n ON n.oid = r.relnamespace \
               WHERE n.nspname = $1 AND r.relname = t AND a.attname = c AND NOT a.attisdropped) \
               LIMIT 1";
    let row = client.query_opt(sql, &[&ROOT_SCHEMA, &tables, &columns]).await;
    let Some(row) = row.map_err(failed("look at the tables of the root"))? else { return Ok(()) };
    let (table, column): (&str, &str) = (row.get(0), row.get(1));
    Err(Error::corrupt(format!(
        "the database is damaged: the column {column} of the table {ROOT_SCHEMA}.{table} is gone, \
         with what was in it (by DROP TABLE, for instance, or DROP EXTENSION vector CASCADE, \
         which is in the schema {VECTOR_SCHEMA}): restore a backup"
    )))
}

/// What stands before the names of the places that are made through this database. `None` if it has
/// no installation's row that this role may read.
pub(super) async fn place_prefix(client: &Client) -> Result<Option<PlacePrefix>> {
    let may = format!(
        "SELECT 'yes' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE n.nspname = '{ROOT_SCHEMA}' AND c.relname = 'installation' AND c.relkind = 'r' \
         AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')"
    );
    if first(client, &may).await?.is_none() {
        return Ok(None);
    }
    // The column is there only if a prefix was asked for.
    let sql = format!(
        "SELECT concat_ws('|', i.version, left(to_jsonb(i) ->> 'place_prefix', 64)) \
         FROM {ROOT_SCHEMA}.installation i LIMIT 1"
    );
    let Some(row) = first(client, &sql).await? else { return Ok(None) };
    let (version, prefix) = row.split_once('|').map_or((&*row, None), |(v, p)| (v, Some(p)));
    let version: Option<u32> = version.parse().ok();
    if let Some(version) = version.filter(|version| !is_known(*version)) {
        let message = format!(
            "the installation has version {version}, of which this program knows nothing: use a \
             newer program"
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let is_gone = || {
        let message = "the database is damaged: the prefix of tenants' places is gone from \
                       tenantry.installation: restore a backup";
        Error::corrupt(message)
    };
    match prefix {
        Some(text) => PlacePrefix::parse(text).map(Some).map_err(|_| is_gone()),
        None if version.is_some_and(is_prefixed) => Err(is_gone()),
        None => Ok(Some(PlacePrefix::default())),
    }
}

/// The first column of the first row, by a simple statement, which works through a pooler too.
pub(super) async fn first(client: &Client, sql: &str) -> Result<Option<String>> {
    let messages = client.simple_query(sql).await.map_err(failed("look at the installation"))?;
    Ok(messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

/// Says it in the log if this node alone may want more connections than the server lets its role
/// have. Others want some too, so that a node without this line may still meet the limit.
pub(super) async fn look_at_room(client: &Client, config: &PostgresConfig) -> Result<()> {
    // One more watches the epoch.
    let wanted = config.databases.connections.get().saturating_add(1);
    let room = room(client).await?;
    if usize::try_from(room).is_ok_and(|room| room < wanted) {
        tracing::warn!(
            wanted, room, database = %config.url,
            "this node may want more connections than PostgreSQL lets it have; give it fewer by \
             --database-connections, or raise max_connections or the limit of the role or the \
             database"
        );
    }
    Ok(())
}

/// The connections that the role of this one may have in this database, with all others gone.
async fn room(client: &Client) -> Result<i32> {
    let sql = "SELECT least(current_setting('max_connections')::int \
               - current_setting('superuser_reserved_connections')::int \
               - coalesce(current_setting('reserved_connections', true), '0')::int, \
               nullif(r.rolconnlimit, -1), nullif(d.datconnlimit, -1)) \
               FROM pg_roles r, pg_database d \
               WHERE r.rolname = session_user AND d.datname = current_database()";
    let number = first(client, sql).await?.and_then(|text| text.parse().ok());
    number.ok_or_else(|| Error::internal("PostgreSQL does not say its limit of connections"))
}

#[cfg(test)]
#[path = "installed_tests.rs"]
mod tests;
