//! Versions of the tables, and how they come to the newest one.
//!
//! A migration has one part for every place and one for the root besides; both have one number.
//! Whatever concerns a place happens in one transaction with the row that says its version, so a
//! cut-off leaves it as it was. The version of the root stands in `installation`, which also
//! covers the place that is shared; that of any other place is a clear row of its own catalog.

use super::{
    admin::{Work, enter, failed, lock_work},
    installed::{check_owner, place_prefix},
    names::{Names, PlaceName, PlacePrefix, ROOT_SCHEMA, VECTOR_SCHEMA, quoted},
    url::{Cluster, DatabaseUrl},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};
use tokio_postgres::{Client, GenericClient, Transaction};

/// The family of the row that says a place's version: a clear u32, big-endian. It exists on
/// PostgreSQL only, and its number is used by no family on disk.
pub(crate) const PLACE_VERSION: i16 = 0x1b;
/// Places that are migrated in one transaction: each takes some twenty locks of the server.
const BATCH: usize = 25;

/// One step from a version to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Migration {
    place: &'static str,
    root: &'static str,
}

/// All steps; the number of a step is its index plus one. Never changed once released.
const MIGRATIONS: &[Migration] = &[Migration {
    place: include_str!("../../migrations/postgres/place/0001.sql"),
    root: include_str!("../../migrations/postgres/root/0001.sql"),
}];

/// The version that this program works with.
pub(crate) const VERSION: u32 = version_of(MIGRATIONS);

#[expect(clippy::cast_possible_truncation, reason = "there are few migrations")]
const fn version_of(all: &[Migration]) -> u32 {
    all.len() as u32
}

/// What is added to the version of a root whose installation has had a tenant moved. A program that does
/// not know the mark of moves takes it for a newer version, and refuses it.
const MOVED: u32 = 1_000;
/// What is added besides to the version of a root whose installation may have plans and logs of version
/// 2: programs that do not know of them would not hold to the ones and go on with version 1 of the
/// others.
const BOUND: u32 = 2 * MOVED;
/// What is added besides to the version of a root whose places have names with a prefix: programs that do
/// not know of it would look for tenants where they are not.
const PREFIXED: u32 = 2 * BOUND;

/// What a stored version says of the tables. If the installation has something that only newer programs
/// know, it is a version that only they know.
pub(super) fn tables_of(stored: u32) -> u32 {
    if is_known(stored) { stored % MOVED } else { stored }
}

/// True unless the installation has something that only newer programs know, beside the tables.
pub(super) fn is_known(stored: u32) -> bool {
    stored < 2 * PREFIXED
}

/// True if logs may be of version 2: older programs refuse the root.
pub(super) fn is_bound(stored: u32) -> bool {
    is_known(stored) && stored % PREFIXED >= BOUND
}

/// True if names of places have a prefix, which stands beside the version: older programs refuse the
/// root.
pub(super) fn is_prefixed(stored: u32) -> bool {
    is_known(stored) && stored >= PREFIXED
}

/// Says in the root that tenants are moved. The client is the admin's, in the installation's database.
pub(super) async fn mark_moved(client: &Client) -> Result<()> {
    let sql = format!(
        "UPDATE {ROOT_SCHEMA}.installation SET version = version + {MOVED} \
         WHERE version % {BOUND} < {MOVED}"
    );
    run(client, &sql, "note that tenants are moved").await
}

/// Says in the root that logs may be of version 2: programs that know nothing of it are refused
/// from then on. The client is the admin's, in the installation's database.
async fn mark_bound(client: &impl GenericClient) -> Result<()> {
    let sql = format!(
        "UPDATE {ROOT_SCHEMA}.installation SET version = version + {BOUND} \
         WHERE version % {PREFIXED} < {BOUND}"
    );
    run(client, &sql, "note that logs may be of version 2").await
}

/// How far the migration of all places is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Places that were looked at.
    pub done: usize,
    /// All places.
    pub of: usize,
}

/// What a migration of everything did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version that everything has now.
    pub version: u32,
    /// Places beside the root: schemas and databases of tenants.
    pub places: usize,
    /// Those of them that had an older version.
    pub changed: usize,
}

/// Brings the root and every place of an installation to this program's version. `admin_url`
/// names the installation's database and its admin role. What is cut off is done by the next run.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no installation; [`ErrorKind::Denied`] if it is another
/// role's; [`ErrorKind::Unsupported`] if something has a newer version than this program knows;
/// [`ErrorKind::Unavailable`] if the server does not answer or others hold what is to be changed.
pub async fn migrate(admin_url: &str, mut progress: impl FnMut(Progress)) -> Result<Migrated> {
    let way = Cluster::open(DatabaseUrl::parse(admin_url)?)?;
    let mut client = enter(&way).await?;
    check_owner(&client).await?;
    migrate_root(&mut client).await?;
    let prefix = place_prefix(&client).await?;
    let prefix = prefix.ok_or_else(|| Error::corrupt("the installation's row is gone"))?;
    let sql = "SELECT nspname FROM pg_namespace \
               WHERE nspname ~ $1 AND pg_get_userbyid(nspowner) = $2";
    let row = client.query_one("SELECT current_user::text", &[]).await;
    let admin: String = row.map_err(failed("ask which role this is"))?.get(0);
    let schemas = places(&client, sql, &prefix, &admin).await?;
    let databases = place_databases(&client, &prefix, &admin).await?;
    let of = schemas.len() + databases.len();
    let mut tell = |done| progress(Progress { done, of });
    let mut changed = migrate_schemas(&mut client, &schemas, VECTOR_SCHEMA, &mut tell).await?;
    for (done, database) in databases.iter().enumerate() {
        let mut own = enter(&way.with_database(database.as_str())).await?;
        let one = std::slice::from_ref(database);
        changed += migrate_schemas(&mut own, one, VECTOR_SCHEMA, &mut |_| {}).await?;
        tell(schemas.len() + done + 1);
    }
    // Last: nodes of before serve until all places are what this program expects.
    mark_bound(&*client).await?;
    Ok(Migrated { version: VERSION, places: of, changed })
}

/// The databases of tenants that an admin role owns, without those that are being removed.
pub(crate) async fn place_databases(
    client: &Client,
    prefix: &PlacePrefix,
    admin: &str,
) -> Result<Vec<PlaceName>> {
    let sql = "SELECT datname FROM pg_database WHERE datname ~ $1 AND datallowconn \
               AND datconnlimit <> -2 AND pg_get_userbyid(datdba) = $2";
    places(client, sql, prefix, admin).await
}

async fn places(
    client: &Client,
    sql: &str,
    prefix: &PlacePrefix,
    admin: &str,
) -> Result<Vec<PlaceName>> {
    let rows = client.query(&format!("{sql} ORDER BY 1"), &[&prefix.pattern(), &admin]).await;
    let rows = rows.map_err(failed("list the places of tenants"))?;
    Ok(rows.iter().filter_map(|row| PlaceName::parse(prefix, row.get(0))).collect())
}

/// Brings the root to the newest version. The client is the admin's, in the installation's
/// database, whose name is that of the installation. Programs of before may serve it.
pub(crate) async fn migrate_root(client: &mut Client) -> Result<()> {
    migrate_root_by(client, MIGRATIONS, &PlacePrefix::default()).await.map(drop)
}

/// The same for a database that may be new, which nobody serves yet: older programs are kept out, and
/// names of places get this prefix.
pub(crate) async fn make_root(client: &mut Client, prefix: &PlacePrefix) -> Result<()> {
    if migrate_root_by(client, MIGRATIONS, prefix).await? == 0 {
        mark_bound(&*client).await?;
    }
    match place_prefix(client).await? {
        // A node with the admin's URL may have made it a moment ago.
        Some(found) if found != *prefix => Err(is_fixed(&found)),
        _ => Ok(()),
    }
}

/// What is said to whoever asks for another prefix than there is.
pub(super) fn is_fixed(found: &PlacePrefix) -> Error {
    let has = match found.as_str() {
        "" => "no prefix".to_owned(),
        text => format!("the prefix {text}"),
    };
    let message = format!(
        "names of tenants' places have {has} here, which was said when the database was set up \
         first and cannot be changed: tenants would not be found. Leave --place-prefix and \
         TENANTRY_PLACE_PREFIX out; a database with another prefix can be set up beside it as a \
         location, by another --name"
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Returns the version that it had; 0 is none. Only a new one gets the prefix.
async fn migrate_root_by(
    client: &mut Client,
    all: &[Migration],
    prefix: &PlacePrefix,
) -> Result<u32> {
    let row = client.query_one("SELECT current_database()::text", &[]).await;
    let names = Names::parse(row.map_err(failed("ask which database this is"))?.get(0))?;
    let service = names.service();
    let into = Into { schema: ROOT_SCHEMA, role: &service, vector: VECTOR_SCHEMA };
    let transaction = begin(client).await?;
    run(&transaction, &lock_work(Work::Root), "wait for other migrations").await?;
    let version = root_version(&transaction).await?;
    for (number, migration) in pending(version, all)? {
        if number == 1 {
            make_schema(&transaction, ROOT_SCHEMA).await?;
        }
        run(&transaction, &into.fill(migration.place)?, "change the tables of the root").await?;
        run(&transaction, &into.fill(migration.root)?, "change the root").await?;
        let set = format!(
            "INSERT INTO {ROOT_SCHEMA}.installation AS i (one, version) VALUES (true, {number}) \
             ON CONFLICT (one) DO UPDATE \
             SET version = EXCLUDED.version + i.version / {MOVED} * {MOVED}"
        );
        run(&transaction, &set, "note the version of the root").await?;
    }
    if version == 0 && !prefix.is_none() {
        keep_prefix(&transaction, prefix).await?;
    }
    commit(transaction, "change the root").await?;
    Ok(version)
}

/// Keeps what stands before the names of places. Without one there is no column for it, so that tables
/// are as they were.
async fn keep_prefix(client: &impl GenericClient, prefix: &PlacePrefix) -> Result<()> {
    let add = format!("ALTER TABLE {ROOT_SCHEMA}.installation ADD COLUMN place_prefix text");
    run(client, &add, "make room for the prefix of places").await?;
    let keep = format!(
        "UPDATE {ROOT_SCHEMA}.installation SET place_prefix = $1, version = version + {PREFIXED}"
    );
    let kept = client.execute(&keep, &[&prefix.as_str()]).await;
    kept.map(drop).map_err(failed("keep the prefix of places"))
}

/// The version of the root's tables; 0 if there is none.
pub(crate) async fn root_version(client: &impl GenericClient) -> Result<u32> {
    if !has_table(client, ROOT_SCHEMA, "installation").await? {
        return Ok(0);
    }
    let sql = format!("SELECT version FROM {ROOT_SCHEMA}.installation");
    let row = client.query_opt(&sql, &[]).await.map_err(failed("read the version of the root"))?;
    let Some(row) = row else { return Ok(0) };
    // The owner of a tenant's database may have made another table of it.
    let version = row.try_get::<_, i32>(0).ok().and_then(|version| u32::try_from(version).ok());
    let version = version.map(tables_of);
    version.ok_or_else(|| Error::corrupt("the version of the root cannot be read"))
}

/// Brings one place to the newest version; makes its schema and tables if they are not there. The
/// client is the admin's, in the place's database.
pub(crate) async fn migrate_place(
    client: &mut Client,
    place: &PlaceName,
    vector_schema: &str,
    tenant: TenantId,
) -> Result<()> {
    let transaction = begin(client).await?;
    migrate_place_in(&transaction, place, vector_schema, tenant).await?;
    commit(transaction, "make the tables of a tenant").await
}

/// The same inside a transaction that does more.
pub(crate) async fn migrate_place_in(
    transaction: &Transaction<'_>,
    place: &PlaceName,
    vector_schema: &str,
    tenant: TenantId,
) -> Result<()> {
    lock_tenant(transaction, tenant).await?;
    if !has_schema(transaction, place.as_str()).await? {
        make_schema(transaction, place.as_str()).await?;
    }
    let version = match place_version(transaction, place).await? {
        Some((found, version)) if found == signed(tenant)? => version,
        Some(_) => return Err(Error::corrupt(format!("{place} belongs to another tenant"))),
        None => 0,
    };
    apply(transaction, place, vector_schema, signed(tenant)?, version, MIGRATIONS).await
}

/// Brings places that exist to the newest version, in batches; returns how many had an older
/// one. A place that goes meanwhile is left alone.
pub(crate) async fn migrate_schemas(
    client: &mut Client,
    places: &[PlaceName],
    vector_schema: &str,
    tell: &mut impl FnMut(usize),
) -> Result<usize> {
    migrate_schemas_by(client, places, vector_schema, tell, MIGRATIONS).await
}

async fn migrate_schemas_by(
    client: &mut Client,
    places: &[PlaceName],
    vector_schema: &str,
    tell: &mut impl FnMut(usize),
    all: &[Migration],
) -> Result<usize> {
    let mut changed = 0;
    for (batch, places) in places.chunks(BATCH).enumerate() {
        let transaction = begin(client).await?;
        for place in places {
            let Some((tenant, version)) = place_version(&transaction, place).await? else {
                continue;
            };
            if pending(version, all)?.next().is_none() {
                continue;
            }
            lock_tenant_signed(&transaction, tenant).await?;
            // It may have gone, or have been migrated, while the lock was waited for.
            let Some((_, version)) = place_version(&transaction, place).await? else { continue };
            apply(&transaction, place, vector_schema, tenant, version, all).await?;
            changed += 1;
        }
        commit(transaction, "change the tables of tenants").await?;
        tell(batch * BATCH + places.len());
    }
    Ok(changed)
}

async fn apply(
    transaction: &Transaction<'_>,
    place: &PlaceName,
    vector_schema: &str,
    tenant: i64,
    version: u32,
    all: &[Migration],
) -> Result<()> {
    let into = Into { schema: place.as_str(), role: place.as_str(), vector: vector_schema };
    let mut last = version;
    for (number, migration) in pending(version, all)? {
        run(transaction, &into.fill(migration.place)?, "change the tables of a tenant").await?;
        last = number;
    }
    if last == version {
        return Ok(());
    }
    let sql = format!(
        "INSERT INTO {}.catalog (tenant, family, key, row) VALUES ($1, $2, '', $3) \
         ON CONFLICT (tenant, family, key) DO UPDATE SET row = EXCLUDED.row",
        quoted(place.as_str())?
    );
    let row = last.to_be_bytes();
    let noted = transaction.execute(&sql, &[&tenant, &PLACE_VERSION, &row.as_slice()]).await;
    noted.map(drop).map_err(failed("note the version of a tenant's tables"))
}

/// Whose a place is and which version it has; `None` if it has no tables.
async fn place_version(
    client: &impl GenericClient,
    place: &PlaceName,
) -> Result<Option<(i64, u32)>> {
    if !has_table(client, place.as_str(), "catalog").await? {
        return Ok(None);
    }
    // The tenant from one end of the index, so that its log is not read for it.
    let schema = quoted(place.as_str())?;
    let sql = format!(
        "SELECT c.tenant, c.row FROM (SELECT min(tenant) AS tenant FROM {schema}.catalog) t \
         JOIN {schema}.catalog c ON c.tenant = t.tenant AND c.family = $1 AND c.key = ''"
    );
    let row = client.query_opt(&sql, &[&PLACE_VERSION]).await;
    let row = row.map_err(failed("read the version of a tenant's tables"))?;
    let unknown = || Error::corrupt(format!("the schema {place} does not say its version"));
    let row = row.ok_or_else(unknown)?;
    let (tenant, bytes) = (row.try_get(0), row.try_get::<_, Vec<u8>>(1));
    let tenant = tenant.map_err(|_| unknown())?;
    let bytes = bytes.map_err(|_| unknown())?.try_into().map_err(|_| unknown())?;
    Ok(Some((tenant, u32::from_be_bytes(bytes))))
}

/// The migrations that a version lacks, with their numbers.
fn pending(
    version: u32,
    all: &[Migration],
) -> Result<impl Iterator<Item = (u32, &Migration)> + Send> {
    if version > version_of(all) {
        let message = format!(
            "the tables have version {version}, this program knows up to {}: use a newer one",
            version_of(all)
        );
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    Ok((1..).zip(all).skip(version as usize))
}

/// What stands for the placeholders of a migration.
struct Into<'a> {
    schema: &'a str,
    role: &'a str,
    vector: &'a str,
}

impl Into<'_> {
    fn fill(&self, text: &str) -> Result<String> {
        Ok(text
            .replace("{schema}", &quoted(self.schema)?)
            .replace("{role}", &quoted(self.role)?)
            .replace("{vector}", &quoted(self.vector)?))
    }
}

/// A transaction in which names mean the same whatever the role's settings are. Of one that hangs the
/// server lets go.
pub(crate) async fn begin(client: &mut Client) -> Result<Transaction<'_>> {
    let transaction = client.transaction().await.map_err(failed("begin"))?;
    let settings = "SET LOCAL search_path = pg_catalog; SET LOCAL lock_timeout = '30s'; \
                    SET LOCAL idle_in_transaction_session_timeout = '30s'";
    run(&transaction, settings, "begin").await?;
    Ok(transaction)
}

pub(crate) async fn commit(transaction: Transaction<'_>, doing: &str) -> Result<()> {
    transaction.commit().await.map_err(failed(doing))
}

pub(crate) async fn run(client: &impl GenericClient, sql: &str, doing: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(failed(doing))
}

/// Waits until nobody else makes, changes or removes this tenant's place in this database.
pub(crate) async fn lock_tenant(client: &impl GenericClient, tenant: TenantId) -> Result<()> {
    lock_tenant_signed(client, signed(tenant)?).await
}

async fn lock_tenant_signed(client: &impl GenericClient, tenant: i64) -> Result<()> {
    let sql = format!("SELECT pg_advisory_xact_lock({tenant})");
    run(client, &sql, "wait for others who work on this tenant").await
}

/// A tenant's number as PostgreSQL keeps it.
pub(crate) fn signed(tenant: TenantId) -> Result<i64> {
    i64::try_from(tenant.get()).map_err(|_| Error::internal("a tenant's number is too large"))
}

async fn make_schema(client: &impl GenericClient, schema: &str) -> Result<()> {
    let sql = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(schema)?);
    run(client, &sql, "make a schema").await
}

async fn has_schema(client: &impl GenericClient, schema: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    let row = client.query_one(sql, &[&schema]).await.map_err(failed("look for a schema"))?;
    Ok(row.get(0))
}

async fn has_table(client: &impl GenericClient, schema: &str, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE n.nspname = $1 AND c.relname = $2)";
    let row =
        client.query_one(sql, &[&schema, &table]).await.map_err(failed("look for a table"))?;
    Ok(row.get(0))
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
