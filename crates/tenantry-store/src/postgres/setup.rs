//! What a superuser makes once: two roles, two databases, pgvector in both.
//!
//! Every step does what is missing and can be done again. Passwords come last, so that a setup
//! that was cut off is finished by the next one.

use super::{
    admin::{Work, connect, failed, lock_work_of_session, with_database, with_user},
    installed::{check_whole, place_prefix},
    migrate::{VERSION, begin, commit, is_fixed, make_root, place_databases, run},
    names::{
        Names, PlaceName, PlacePrefix, VECTOR_SCHEMA, base32, pgvector_refusal, quoted,
        server_refusal,
    },
};
use crate::Entropy;
use postgres_protocol::password::scram_sha_256;
use std::fmt::{self, Write as _};
use tenantry_types::{Error, ErrorKind, Result};
use tokio_postgres::Client;
use zeroize::Zeroizing;

/// What marks a role as made here: others of the same name are never changed.
const MARK: &str = "made by tenantry postgres setup";
/// 160 bits, 32 characters.
const PASSWORD_BYTES: usize = 20;

const UPDATE: &str = "ALTER EXTENSION vector UPDATE";

/// What the roles' sessions begin with. A node that vanishes holds a tenant's lock for as long as
/// these allow; parameters and details of errors, which are tenants' data, stay out of logs.
const SERVICE_SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("client_connection_check_interval", "5s"),
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "5s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("log_error_verbosity", "terse"),
];
const ADMIN_SETTINGS: &[(&str, &str)] = &[
    ("search_path", "pg_catalog"),
    ("lock_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "5s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "30s"),
    ("log_parameter_max_length", "0"),
    ("log_parameter_max_length_on_error", "0"),
    ("log_error_verbosity", "terse"),
];

/// What [`setup`] shall make.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// What roles and databases are called.
    pub names: Names,
    /// What stands before the names of tenants' places from the first setup on; later it may only be
    /// the same. `None` is whatever there is already, and nothing in a new database.
    pub place_prefix: Option<PlacePrefix>,
    /// Give both roles new passwords, also if they have some.
    pub reset_passwords: bool,
}

/// What [`setup`] has made.
#[derive(Clone, PartialEq, Eq)]
pub struct SetUp {
    /// The role that serves, in the installation's database.
    pub database_url: String,
    /// The role that makes and removes places, in the same.
    pub database_admin_url: String,
    /// True if the URLs hold passwords. They do if this setup has set them; they are kept
    /// nowhere else.
    pub has_passwords: bool,
    /// Of the server, as it says it.
    pub server_version: String,
    /// Of pgvector in the installation's database.
    pub pgvector_version: String,
    /// Of the tables.
    pub version: u32,
    /// What stands before the names of tenants' places.
    pub place_prefix: PlacePrefix,
}

impl fmt::Debug for SetUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = (&self.server_version, &self.pgvector_version, self.version);
        f.debug_tuple("SetUp").field(&versions).finish_non_exhaustive()
    }
}

/// Makes roles and databases, or what is missing of them, and brings the root's tables to the
/// newest version. `superuser_url` names any database of the server.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the server or its pgvector is too old;
/// [`ErrorKind::Denied`] if the role of the URL is no superuser; [`ErrorKind::Conflict`] if a role
/// or a database of that name was made by somebody else, or places there have another prefix, and
/// nothing is made then; [`ErrorKind::Invalid`] if a place could be called like the database;
/// [`ErrorKind::Corrupt`] if a table is gone, which no setup brings back.
pub async fn setup(superuser_url: &str, what: &Setup, entropy: &dyn Entropy) -> Result<SetUp> {
    setup_steps(superuser_url, what, entropy, Step::Passwords)
        .await?
        .ok_or_else(|| Error::internal("the last step of a setup was left out"))
}

/// The steps in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    Roles,
    Template,
    Database,
    Root,
    Passwords,
}

/// Goes as far as `last`; only the whole way has a result.
pub(super) async fn setup_steps(
    superuser_url: &str,
    what: &Setup,
    entropy: &dyn Entropy,
    last: Step,
) -> Result<Option<SetUp>> {
    let names = &what.names;
    let mut client = connect(superuser_url).await?;
    let server_version = check_server(&client).await?;
    run(&*client, &lock_work_of_session(Work::Setup), "wait for other setups").await?;
    check_names(&client, names).await?;
    let prefix = prefix_of_places(&client, what, superuser_url).await?;
    make_roles(&mut client, names).await?;
    if last == Step::Roles {
        return Ok(None);
    }
    make_template(&client, names, superuser_url).await?;
    if last == Step::Template {
        return Ok(None);
    }
    make_database(&client, names, names.database()).await?;
    let mut database = connect(&with_database(superuser_url, names.database())?).await?;
    if is_outdated(&database).await? {
        update_tenants(&client, names, &prefix, superuser_url).await?;
    }
    let pgvector_version = make_extension(&database).await?;
    if last == Step::Database {
        return Ok(None);
    }
    act_as_admin(&database, names).await?;
    make_root(&mut database, &prefix).await?;
    check_whole(&database).await?;
    if last == Step::Root {
        return Ok(None);
    }
    let passwords = set_passwords(&mut client, what, entropy).await?;
    let url = |role: &str, password: Option<&str>| {
        with_user(superuser_url, role, password, names.database())
    };
    let of = |which: usize| passwords.as_ref().map(|both| both[which].as_str());
    Ok(Some(SetUp {
        database_url: url(&names.service(), of(0))?,
        database_admin_url: url(&names.admin(), of(1))?,
        has_passwords: passwords.is_some(),
        server_version,
        pgvector_version,
        version: VERSION,
        place_prefix: prefix,
    }))
}

/// What the admin's tables have to say is not asked as a superuser. That is against mistakes: the
/// session is a superuser's still, and code of the admin's own could make it one again.
async fn act_as_admin(client: &Client, names: &Names) -> Result<()> {
    let sql = format!("SET SESSION AUTHORIZATION {}", quoted(&names.admin())?);
    run(client, &sql, "act as the admin role").await
}

/// The server's version, if it and the caller can do what follows.
async fn check_server(client: &Client) -> Result<String> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user), \
               (SELECT default_version FROM pg_available_extensions WHERE name = 'vector')";
    let row = client.query_one(sql, &[]).await.map_err(failed("ask for its version"))?;
    let (number, version): (i32, String) = (row.get(0), row.get(1));
    let unsupported = |message| Error::new(ErrorKind::Unsupported, message);
    if let Some(why) = server_refusal(u32::try_from(number).unwrap_or(0), &version) {
        return Err(unsupported(why));
    }
    if !row.get::<_, bool>(2) {
        return Err(Error::denied("setup needs the URL of a superuser, which this role is not"));
    }
    let Some(pgvector) = row.get::<_, Option<String>>(3) else {
        let message = "pgvector is not installed on the server: install it (Debian's package is \
                       postgresql-NN-pgvector, NN the server's version) and run this again";
        return Err(unsupported(message.to_owned()));
    };
    pgvector_refusal(&pgvector).map_or(Ok(version), |why| Err(unsupported(why)))
}

/// Looks at all names before anything is made.
async fn check_names(client: &Client, names: &Names) -> Result<()> {
    let (service, admin, template) = (names.service(), names.admin(), names.template());
    let sql = "SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1) \
               AND shobj_description(oid, 'pg_authid') IS DISTINCT FROM $2";
    let roles = [service.as_str(), admin.as_str()];
    let row = client.query_opt(&format!("{sql} LIMIT 1"), &[&roles.as_slice(), &MARK]).await;
    if let Some(row) = row.map_err(failed("look for a role"))? {
        return Err(taken("role", row.get(0)));
    }
    let sql = "SELECT datname::text FROM pg_database WHERE datname = ANY($1) \
               AND pg_get_userbyid(datdba) <> $2 LIMIT 1";
    let databases = [names.database(), template.as_str()];
    let row = client.query_opt(sql, &[&databases.as_slice(), &admin]).await;
    match row.map_err(failed("look for a database"))? {
        Some(row) => Err(taken("database", row.get(0))),
        None => Ok(()),
    }
}

/// What stands before the names of places, or shall. One that is there is kept for ever: the names
/// are computed, so another one would hide the tenants.
async fn prefix_of_places(
    client: &Client,
    what: &Setup,
    superuser_url: &str,
) -> Result<PlacePrefix> {
    let database = what.names.database();
    let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
    let row = client.query_opt(sql, &[&database]).await.map_err(failed("look for a database"))?;
    let found = if row.is_some() {
        let client = connect(&with_database(superuser_url, database)?).await?;
        act_as_admin(&client, &what.names).await?;
        place_prefix(&client).await?
    } else {
        None
    };
    let prefix = match (found, &what.place_prefix) {
        (Some(found), Some(asked)) if found != *asked => return Err(is_fixed(&found)),
        (Some(found), _) => found,
        (None, asked) => asked.clone().unwrap_or_default(),
    };
    if PlaceName::parse(&prefix, database).is_some() {
        let message = format!(
            "with the prefix {} a tenant's place could be called {database}, as the database: \
             choose another prefix or another name",
            prefix.as_str()
        );
        return Err(Error::invalid(message));
    }
    Ok(prefix)
}

async fn make_roles(client: &mut Client, names: &Names) -> Result<()> {
    let (service, admin) = (names.service(), names.admin());
    let none = "NOSUPERUSER NOBYPASSRLS NOREPLICATION";
    let transaction = begin(client).await?;
    for (role, rights, settings) in [
        (&service, "NOCREATEROLE NOCREATEDB NOINHERIT", SERVICE_SETTINGS),
        (&admin, "CREATEROLE CREATEDB INHERIT", ADMIN_SETTINGS),
    ] {
        let sql = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = $1";
        let found = transaction.query_opt(sql, &[role]).await.map_err(failed("look for a role"))?;
        let name = quoted(role)?;
        match found.map(|row| row.get::<_, Option<String>>(0)) {
            None => {
                let sql = format!("CREATE ROLE {name}; COMMENT ON ROLE {name} IS '{MARK}'");
                run(&transaction, &sql, "make a role").await?;
            }
            Some(comment) if comment.as_deref() == Some(MARK) => {}
            Some(_) => return Err(taken("role", role)),
        }
        let mut sql = format!("ALTER ROLE {name} LOGIN {none} {rights};");
        for (setting, value) in settings {
            let _ = write!(sql, "ALTER ROLE {name} SET {setting} = '{value}';");
        }
        run(&transaction, &sql, "give a role its rights and settings").await?;
    }
    // Ending the sessions in a database that is to be dropped takes this right, inherited.
    let sql =
        format!("GRANT pg_signal_backend TO {} WITH INHERIT TRUE, SET FALSE", quoted(&admin)?);
    run(&transaction, &sql, "let the admin role end sessions").await?;
    commit(transaction, "make the roles").await
}

fn taken(what: &str, name: &str) -> Error {
    let message = format!(
        "there is a {what} {name} that setup has not made: choose another name with --name, or \
         remove it"
    );
    Error::new(ErrorKind::Conflict, message)
}

/// Makes a database of the admin's that the public may not enter.
async fn make_database(client: &Client, names: &Names, database: &str) -> Result<()> {
    let sql = "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = $1";
    let found = client.query_opt(sql, &[&database]).await.map_err(failed("look for a database"))?;
    let (name, admin) = (quoted(database)?, quoted(&names.admin())?);
    match found.map(|row| row.get::<_, String>(0)) {
        None => {
            let sql = format!(
                "CREATE DATABASE {name} OWNER {admin} TEMPLATE template0 ENCODING 'UTF8' \
                 LOCALE_PROVIDER libc LOCALE 'C'"
            );
            run(client, &sql, "make a database").await?;
        }
        Some(owner) if owner == names.admin() => {}
        Some(_) => return Err(taken("database", database)),
    }
    let service = quoted(&names.service())?;
    let mut sql = format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC;");
    if database == names.database() {
        let _ = write!(sql, "GRANT CONNECT ON DATABASE {name} TO {service};");
    }
    run(client, &sql, "close a database to the public").await
}

/// Puts pgvector into a database; its version. Only a superuser can: pgvector is not trusted,
/// which is why tenants' databases are made from a template that has it.
///
/// Everybody may make large objects, in any database. One would keep its owner, a tenant's role,
/// from being removed, and the login that serves from being accepted. A template hands down who
/// may call a function.
async fn make_extension(database: &Client) -> Result<String> {
    let sql = format!(
        "DROP SCHEMA IF EXISTS public; CREATE SCHEMA IF NOT EXISTS {VECTOR_SCHEMA}; \
         CREATE EXTENSION IF NOT EXISTS vector SCHEMA {VECTOR_SCHEMA}; \
         GRANT USAGE ON SCHEMA {VECTOR_SCHEMA} TO PUBLIC; {UPDATE}; \
         REVOKE EXECUTE ON FUNCTION pg_catalog.lo_create(oid), pg_catalog.lo_creat(integer), \
         pg_catalog.lo_from_bytea(oid, bytea) FROM PUBLIC"
    );
    run(database, &sql, "install pgvector in a database").await?;
    let sql = "SELECT extversion FROM pg_extension WHERE extname = 'vector'";
    let row = database.query_one(sql, &[]).await.map_err(failed("read pgvector's version"))?;
    Ok(row.get(0))
}

/// True if the server has a newer pgvector than the database.
async fn is_outdated(database: &Client) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_extension e JOIN pg_available_extensions a \
               ON a.name = e.extname WHERE e.extname = 'vector' AND e.extversion <> a.default_version)";
    let row = database.query_one(sql, &[]).await.map_err(failed("read pgvector's version"))?;
    Ok(row.get(0))
}

/// Updates pgvector in tenants' own databases, after the template and before the installation's
/// database: as long as that one is older, the work is not finished.
async fn update_tenants(
    client: &Client,
    names: &Names,
    prefix: &PlacePrefix,
    superuser_url: &str,
) -> Result<()> {
    for database in place_databases(client, prefix, &names.admin()).await? {
        let database = connect(&with_database(superuser_url, database.as_str())?).await?;
        run(&*database, UPDATE, "update pgvector in a tenant's database").await?;
    }
    Ok(())
}

/// Makes the template of tenants' databases. Nobody can enter it afterwards: whoever were in it
/// would keep databases from being made.
async fn make_template(client: &Client, names: &Names, superuser_url: &str) -> Result<()> {
    let template = names.template();
    make_database(client, names, &template).await?;
    let name = quoted(&template)?;
    let sql = format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true");
    run(client, &sql, "open the template").await?;
    let database = connect(&with_database(superuser_url, &template)?).await?;
    make_extension(&database).await?;
    drop(database);
    let sql = format!("ALTER DATABASE {name} IS_TEMPLATE true ALLOW_CONNECTIONS false");
    run(client, &sql, "close the template").await
}

/// Gives the roles passwords, the service's first, if they lack them or shall get new ones. What
/// is sent is what the server keeps, so that no log has a password.
async fn set_passwords(
    client: &mut Client,
    what: &Setup,
    entropy: &dyn Entropy,
) -> Result<Option<[Zeroizing<String>; 2]>> {
    let roles = [what.names.service(), what.names.admin()];
    let transaction = begin(client).await?;
    let sql = "SELECT count(*) FROM pg_authid WHERE rolname = ANY($1) AND rolpassword IS NOT NULL";
    let row = transaction.query_one(sql, &[&roles.as_slice()]).await;
    let have: i64 = row.map_err(failed("look for passwords"))?.get(0);
    if have == 2 && !what.reset_passwords {
        return Ok(None);
    }
    let mut passwords = [Zeroizing::default(), Zeroizing::default()];
    for (role, password) in roles.iter().zip(&mut passwords) {
        let mut random = Zeroizing::new([0_u8; PASSWORD_BYTES]);
        entropy.fill("password of a role", random.as_mut_slice());
        *password = Zeroizing::new(base32(random.as_slice()));
        let verifier = scram_sha_256(password.as_bytes());
        let sql = format!("ALTER ROLE {} PASSWORD '{verifier}'", quoted(role)?);
        run(&transaction, &sql, "set a password").await?;
    }
    commit(transaction, "set the passwords").await?;
    Ok(Some(passwords))
}

#[cfg(test)]
#[path = "setup_tests.rs"]
mod tests;
