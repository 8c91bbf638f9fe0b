//! What serving refuses. Walls between tenants hold only if the role that serves can do no more
//! than it must; whatever would let it do more is named here, with what to do about it.
//!
//! Statements are simple ones without parameters, so that they work through a pooler too. Errors
//! are internal ones: their texts name roles and settings and are for the operator alone.

use super::{
    installed::{COLUMNS, first, place_prefix},
    migrate::{VERSION, tables_of},
    names::{PlacePrefix, ROOT_SCHEMA, TABLES, pgvector_refusal, server_refusal},
};
use tenantry_types::{Error, Result};
use tokio_postgres::Client;

/// The one policy of a shared table, as the server shows it.
const POLICY: &str = "(tenant = (current_setting('tenantry.tenant'::text))::bigint)";
/// Of locks that are only looked at; the other classes are those of [`super::admin::Work`].
const SEEN_CLASS: i32 = 0x7465_6e75;
const SETUP: &str = "run `tenantry postgres setup` again, which sets this right";

/// Which database is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Any that holds tenants.
    Any,
    /// The installation's, which holds the shared tables.
    Root,
}

/// A statement whose first answer, if it has one, is what is wrong.
struct Check {
    of: Where,
    sql: &'static str,
    /// `{}` stands for the answer, `{me}` for the role, `{setup}` for the advice to run setup.
    says: &'static str,
}

/// `me` is the role that serves, `mine` are its memberships, `shared` the shared tables.
const PRELUDE: &str = "WITH me AS (SELECT * FROM pg_roles WHERE rolname = session_user), \
    mine AS (SELECT m.*, r.rolname, r.rolsuper OR r.rolbypassrls OR r.rolcreaterole \
        OR r.rolcreatedb OR r.rolreplication OR r.rolcanlogin AS is_strong \
        FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
        WHERE m.member = (SELECT oid FROM me)), \
    shared AS (SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = '{schema}' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')) ";

const CHECKS: &[Check] = &[
    Check {
        of: Where::Any,
        sql: "SELECT word FROM me, LATERAL unnest(ARRAY['SUPERUSER', 'BYPASSRLS', 'CREATEROLE', \
              'CREATEDB', 'REPLICATION', 'INHERIT'], ARRAY[rolsuper, rolbypassrls, \
              rolcreaterole, rolcreatedb, rolreplication, rolinherit]) AS a (word, has) WHERE has",
        says: "the role {me} is {}: serve as the role that `tenantry postgres setup` made for it \
               and printed as database_url; if it is that one, run setup again, which sets this \
               right",
    },
    Check {
        of: Where::Any,
        sql: "SELECT quote_ident(rolname) FROM mine WHERE rolname !~ '{place}'",
        says: "the role {me} is a member of {}: REVOKE {} FROM {me}",
    },
    Check {
        of: Where::Any,
        sql: "SELECT rolname FROM mine WHERE rolname ~ '{place}' AND inherit_option",
        says: "the role {me} has the rights of the tenant's role {} at all times: \
               GRANT {} TO {me} WITH INHERIT FALSE",
    },
    Check {
        of: Where::Any,
        sql: "SELECT rolname FROM mine WHERE rolname ~ '{place}' AND admin_option",
        says: "the role {me} may grant the tenant's role {}: REVOKE ADMIN OPTION FOR {} FROM {me}",
    },
    Check {
        of: Where::Any,
        sql: "SELECT rolname FROM mine WHERE rolname ~ '{place}' AND is_strong",
        says: "the tenant's role {} has rights of its own: ALTER ROLE {} NOLOGIN NOSUPERUSER \
               NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION",
    },
    Check {
        of: Where::Any,
        sql: "SELECT mine.rolname FROM mine JOIN pg_auth_members m ON m.member = mine.roleid \
              WHERE mine.rolname ~ '{place}'",
        says: "the tenant's role {} is a member of another role: revoke that role from it",
    },
    Check {
        of: Where::Any,
        sql: "SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_shdepend d, me \
              WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = me.oid \
              AND d.deptype = 'o' AND d.dbid IN \
              (0, (SELECT oid FROM pg_database WHERE datname = current_database()))",
        says: "the role {me} owns {}: give it to the admin role (REASSIGN OWNED BY {me} TO …)",
    },
    Check {
        of: Where::Root,
        sql: "SELECT relname FROM shared WHERE pg_has_role(session_user, relowner, 'MEMBER')",
        says: "the role {me} can become the owner of the table {}: give it to the admin role",
    },
    Check {
        of: Where::Any,
        sql: "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)' \
              AND has_schema_privilege(session_user, oid, 'CREATE')",
        says: "the role {me} can make things in the schema {}: \
               REVOKE CREATE ON SCHEMA {} FROM {me}, PUBLIC",
    },
    Check {
        of: Where::Any,
        sql: "SELECT p FROM unnest(ARRAY['CREATE', 'TEMPORARY']) p \
              WHERE has_database_privilege(session_user, current_database(), p)",
        says: "the role {me} has the right {} in the database {db}: \
               REVOKE {} ON DATABASE {db} FROM {me}, PUBLIC",
    },
    Check {
        of: Where::Any,
        sql: "SELECT nspname FROM pg_namespace WHERE nspname ~ '{place}' \
              AND has_schema_privilege(session_user, oid, 'USAGE')",
        says: "the role {me} can use the tenant's schema {} without its role: \
               REVOKE ALL ON SCHEMA {} FROM {me}, PUBLIC",
    },
    Check {
        of: Where::Any,
        sql: "SELECT quote_ident(datname) FROM pg_database WHERE datname = current_database() \
              AND (datacl IS NULL OR EXISTS (SELECT FROM aclexplode(datacl) WHERE grantee = 0))",
        says: "the database {} is open to the public: REVOKE ALL ON DATABASE {} FROM PUBLIC",
    },
    Check {
        of: Where::Any,
        sql: "SELECT pg_encoding_to_char(encoding) FROM pg_database \
              WHERE datname = current_database() AND pg_encoding_to_char(encoding) <> 'UTF8'",
        says: "the database {db} has the encoding {} instead of UTF8: setup makes one that has it",
    },
    Check {
        of: Where::Any,
        sql: "SELECT s FROM unnest(ARRAY['row_security', 'fsync', 'synchronous_commit']) s \
              WHERE current_setting(s) = 'off'",
        says: "the setting {} is off for the role {me}: it must be on, or what was answered as \
               written is not",
    },
    Check {
        of: Where::Any,
        sql: "SELECT name FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout' \
              AND setting = '0'",
        says: "the setting {} is missing for the role {me}, and a node that vanishes would lock \
               its tenants out: {setup}",
    },
    Check {
        of: Where::Root,
        sql: "SELECT 'installation' WHERE 'installation' NOT IN (SELECT relname FROM shared)",
        says: "the table {} is missing in the schema tenantry: run `tenantry postgres setup`",
    },
    Check {
        of: Where::Root,
        sql: "SELECT t FROM unnest(ARRAY[{tables}]) t WHERE t NOT IN (SELECT relname FROM shared)",
        says: "the table {} is missing in the schema tenantry, with what was in it: restore a \
               backup",
    },
    Check {
        of: Where::Root,
        sql: "SELECT c || ' of the table tenantry.' || t FROM (VALUES {columns}) AS w (t, c) \
              WHERE NOT EXISTS (SELECT FROM pg_attribute a JOIN shared s ON s.oid = a.attrelid \
              WHERE s.relname = t AND a.attname = c AND NOT a.attisdropped)",
        says: "the column {} is missing, with what was in it: restore a backup",
    },
    Check {
        of: Where::Root,
        sql: "SELECT quote_ident(relname) FROM shared WHERE relname <> 'installation' \
              AND NOT (relkind = 'r' AND relrowsecurity AND relforcerowsecurity)",
        says: "{} in the schema tenantry has no forced row-level security: ALTER TABLE \
               tenantry.{} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; remove it if it \
               is not Tenantry's",
    },
    Check {
        of: Where::Root,
        sql: "SELECT relname FROM shared s WHERE relname IN ({tables}) AND (SELECT count(*) <> 1 \
              OR NOT bool_and(polpermissive AND polcmd = '*' AND polroles = '{0}' \
              AND pg_get_expr(polqual, polrelid) = {policy} \
              AND pg_get_expr(polwithcheck, polrelid) = {policy}) \
              FROM pg_policy WHERE polrelid = s.oid)",
        says: "the table tenantry.{} has other policies than the one that Tenantry made: drop \
               them and make that one again, as in its migration root/0001",
    },
    Check {
        of: Where::Root,
        sql: "SELECT p || ' on the table tenantry.' || relname FROM shared, \
              unnest(ARRAY['TRUNCATE', 'REFERENCES', 'TRIGGER']) p WHERE relkind IN ('r', 'p') \
              AND has_table_privilege(session_user, oid, p)",
        says: "the role {me} has the right {}, which row-level security does not bind: \
               REVOKE TRUNCATE, REFERENCES, TRIGGER ON ALL TABLES IN SCHEMA tenantry \
               FROM {me}, PUBLIC",
    },
];

/// Looks at the installation's database with a connection of the role that serves; fails with
/// the first thing that is wrong. What stands before the names of places there.
pub(crate) async fn check_root(client: &Client) -> Result<PlacePrefix> {
    let prefix = place_prefix(client).await?;
    check(client, Where::Root, prefix.as_ref()).await?;
    // Without it the version was refused.
    prefix.ok_or_else(|| Error::internal("the installation's row cannot be read"))
}

/// Looks at a tenant's own database in the same way, before its first use.
pub(crate) async fn check_own(client: &Client, prefix: &PlacePrefix) -> Result<()> {
    check(client, Where::Any, Some(prefix)).await
}

async fn check(client: &Client, of: Where, prefix: Option<&PlacePrefix>) -> Result<()> {
    let seen = Seen::ask(client).await?;
    match problem(client, of, prefix, &seen).await? {
        None => Ok(()),
        Some(why) => {
            Err(Error::internal(format!("the database {} is refused: {why}", seen.database)))
        }
    }
}

/// The first thing that is wrong: causes stand before what follows from them. Where it is not known
/// what places are called, that is wrong too, and what is said of places is left out.
async fn problem(
    client: &Client,
    of: Where,
    prefix: Option<&PlacePrefix>,
    seen: &Seen,
) -> Result<Option<String>> {
    if let Some(why) = seen.problem() {
        return Ok(Some(why));
    }
    let pattern = prefix.map(PlacePrefix::pattern);
    for check in CHECKS.iter().filter(|check| check.of == Where::Any || check.of == of) {
        let Some(sql) = check.statement(pattern.as_deref()) else { continue };
        if let Some(found) = first(client, &sql).await? {
            return Ok(Some(check.message(&found, seen)));
        }
    }
    if of == Where::Any {
        return Ok(None);
    }
    let sql = format!("SELECT version FROM {ROOT_SCHEMA}.installation");
    let version = first(client, &sql).await?.and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(version_refusal(tables_of(version)))
}

/// Looks at the admin's connection: it must be another role, able to do its work and no more, in
/// the same database. Another installation's would remove tenants that are not ours.
pub(crate) async fn check_admin(admin: &Client, service: &Client) -> Result<()> {
    let sql = "SELECT concat_ws(',', session_user, \
               CASE WHEN NOT rolcreaterole THEN 'CREATEROLE' END, \
               CASE WHEN NOT rolcreatedb THEN 'CREATEDB' END, \
               CASE WHEN NOT pg_has_role(session_user, 'pg_signal_backend', 'USAGE') \
               THEN 'pg_signal_backend' END) FROM pg_roles WHERE rolname = session_user";
    let found = first(admin, sql).await?.unwrap_or_default();
    let (role, lacks) = found.split_once(',').unwrap_or((&found, ""));
    if Seen::ask(service).await?.role == role {
        return Err(Error::internal(format!(
            "the admin's URL is that of the role that serves, {role}: give it the one that \
             `tenantry postgres setup` printed as database_admin_url"
        )));
    }
    let sql = "SELECT 1 FROM pg_roles WHERE rolname = session_user AND rolcreaterole";
    if lacks.contains("CREATEROLE") && first(service, sql).await?.is_some() {
        return Err(Error::internal(format!(
            "the admin role {role} makes no roles, and the one that serves does: are the two URLs \
             swapped?"
        )));
    }
    if !lacks.is_empty() {
        let message = format!("the admin role {role} lacks {lacks}: {SETUP}");
        return Err(Error::internal(message));
    }
    let sql = "SELECT 1 FROM pg_roles WHERE rolname = session_user AND rolsuper";
    if first(admin, sql).await?.is_some() {
        return Err(Error::internal(format!(
            "the admin's URL is a superuser's, {role}: give it the one that `tenantry postgres \
             setup` printed as database_admin_url"
        )));
    }
    if !same_database(admin, service).await? {
        return Err(Error::internal(
            "the admin's URL leads to another database than that of the role that serves: both \
             are of one installation, as `tenantry postgres setup` printed them",
        ));
    }
    Ok(())
}

/// Fails if two connections of the admin's, which are open at once, are one session of the server:
/// a pooler gives each transaction a session, and what the admin's role locks is locked for the
/// session that it has.
pub(crate) async fn check_direct(one: &Client, other: &Client) -> Result<()> {
    let sql = "SELECT pg_backend_pid()";
    let (one, other) = (first(one, sql).await?, first(other, sql).await?);
    if one.is_none() || one != other {
        return Ok(());
    }
    Err(Error::internal(
        "the admin's URL leads to a pooler: it must lead to the server itself, because the admin \
         role holds locks of its session",
    ))
}

/// True if a lock that one takes is seen by the other. Names are no proof: two servers can have a
/// database of the same name, and a copy of a server has its identity.
async fn same_database(one: &Client, other: &Client) -> Result<bool> {
    let sql =
        format!("SELECT pg_backend_pid() FROM pg_advisory_lock({SEEN_CLASS}, pg_backend_pid())");
    let process = first(one, &sql).await?.and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    let sql = format!(
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
         WHERE d.datname = current_database() AND l.locktype = 'advisory' \
         AND l.classid = {SEEN_CLASS} AND l.objid = {process} AND l.pid = {process}"
    );
    let is_seen = first(other, &sql).await?.is_some();
    first(one, &format!("SELECT pg_advisory_unlock({SEEN_CLASS}, {process})")).await?;
    Ok(is_seen)
}

/// Why a root of this version is refused, if it is.
fn version_refusal(version: u32) -> Option<String> {
    if version > VERSION {
        return Some(format!(
            "its tables have version {version} and this program knows up to {VERSION}: use a \
             newer program"
        ));
    }
    (version < VERSION).then(|| {
        format!(
            "its tables have version {version} and this program needs {VERSION}: run \
             `tenantry postgres migrate`"
        )
    })
}

impl Check {
    /// `place` is what names of places look like; `None` without it if it is about them.
    fn statement(&self, place: Option<&str>) -> Option<String> {
        if place.is_none() && self.sql.contains("{place}") {
            return None;
        }
        let tables = TABLES.map(|table| format!("'{table}'")).join(", ");
        let columns: Vec<_> = COLUMNS
            .iter()
            .flat_map(|(table, all)| all.iter().map(move |one| format!("('{table}', '{one}')")))
            .collect();
        let policy = format!("'{}'", POLICY.replace('\'', "''"));
        let sql = format!("{PRELUDE}{}", self.sql)
            .replace("{schema}", ROOT_SCHEMA)
            .replace("{place}", place.unwrap_or_default())
            .replace("{tables}", &tables)
            .replace("{columns}", &columns.join(", "))
            .replace("{policy}", &policy);
        Some(sql + " LIMIT 1")
    }

    fn message(&self, found: &str, seen: &Seen) -> String {
        self.says
            .replace("{setup}", SETUP)
            .replace("{me}", &seen.role)
            .replace("{db}", &seen.database)
            .replace("{}", found)
    }
}

/// What the server says of itself.
#[derive(Debug)]
struct Seen {
    role: String,
    database: String,
    server_number: u32,
    server_version: String,
    pgvector: Option<String>,
}

impl Seen {
    async fn ask(client: &Client) -> Result<Self> {
        let sql = "SELECT concat_ws('|', session_user, current_database(), \
                   current_setting('server_version_num'), current_setting('server_version'), \
                   (SELECT extversion FROM pg_extension WHERE extname = 'vector'))";
        let text = first(client, sql).await?.unwrap_or_default();
        let mut parts = text.split('|').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Ok(Self {
            role: next(),
            database: next(),
            server_number: next().parse().unwrap_or(0),
            server_version: next(),
            pgvector: Some(next()).filter(|version| !version.is_empty()),
        })
    }

    /// What is wrong with what is installed.
    fn problem(&self) -> Option<String> {
        server_refusal(self.server_number, &self.server_version).or_else(|| match &self.pgvector {
            Some(version) => pgvector_refusal(version),
            None => Some("pgvector is not in it: run `tenantry postgres setup`".to_owned()),
        })
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
