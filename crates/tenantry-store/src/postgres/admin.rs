//! Connections of the commands and of whoever makes places, and what their failures are called.

use super::url::{Cluster, DatabaseUrl};
use std::{
    error::Error as _,
    ops::{Deref, DerefMut},
    pin::pin,
    time::Duration,
};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::{sync::oneshot, time::timeout};
use tokio_postgres::{Client, error::SqlState};

/// For all addresses that a URL names.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a conversation that only asks may take, as a whole.
pub(super) const LOOK: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });
/// The same for one that makes a place, for which somebody waits.
pub(super) const MAKE: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 60 });
/// The same for one that nobody waits for and that removes places or changes tables.
pub(super) const CHANGE: Duration = Duration::from_secs(300);
/// How long a connection may take to say goodbye.
const CLOSING: Duration = Duration::from_secs(2);
/// Numbers of pairs are a space of their own, apart from the locks of tenants.
const LOCK_CLASS: i32 = 0x7465_6e74;

/// What two must not do at once, beyond what concerns one tenant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Setup = 1,
    Root = 2,
    Graphs = 3,
    Claims = 4,
    Moves = 5,
}

/// A connection outside the pools. Dropped, it ends soon, whatever is on its way and whether or
/// not the server says anything.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    _held: oneshot::Sender<()>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The bound of every conversation outside the pools: a server that takes a connection and then
/// says nothing would be waited for without end. What is cut off is rolled back by the server, or
/// done by it, and both are met by whoever comes next.
pub(super) async fn within<T>(
    limit: Duration,
    doing: &str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let silent = || {
        let message = format!("PostgreSQL: {doing}: not done within {} seconds", limit.as_secs());
        Error::new(ErrorKind::Unavailable, message)
    };
    timeout(limit, work).await.unwrap_or_else(|_| Err(silent()))
}

/// Connects to the database that a URL names.
pub(crate) async fn connect(url: &str) -> Result<Session> {
    enter(&Cluster::open(DatabaseUrl::parse(url)?)?).await
}

/// Opens a connection outside the pools; what is said on it belongs into [`within`], but for
/// commands, which somebody watches.
pub(super) async fn enter(way: &Cluster) -> Result<Session> {
    let url = way.url();
    let opened = timeout(CONNECT_TIMEOUT, url.config().connect(way.tls().clone())).await;
    let Ok(opened) = opened else {
        let message =
            format!("the database {url} does not answer: is it PostgreSQL, and is it up?");
        return Err(Error::new(ErrorKind::Unavailable, message));
    };
    let (client, connection) = opened.map_err(|why| refused(url, why))?;
    let (held, let_go) = oneshot::channel();
    tokio::spawn(async move {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            _ = let_go => timeout(CLOSING, connection).await.unwrap_or(Ok(())),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    Ok(Session { client, _held: held })
}

/// Why nobody could enter, for whoever runs the program: hosts, databases and roles, and never a
/// password. PostgreSQL's own text is in the error's source, for whoever says it in the log
/// ([`server_says`](crate::failing::server_says)).
fn refused(url: &DatabaseUrl, why: tokio_postgres::Error) -> Error {
    let user = url.user().escape_debug().to_string();
    let (kind, message) = match why.as_db_error() {
        Some(answer) => {
            let (code, text) = (answer.code().code(), answer.message());
            tracing::debug!(database = %url, code, text, "the database lets nobody in");
            match code {
                "28P01" | "28000" => (
                    ErrorKind::Denied,
                    format!("the database {url} does not let {user} in: wrong password or role"),
                ),
                "3D000" => (
                    ErrorKind::NotFound,
                    format!(
                        "there is no database {url}: run `tenantry postgres setup`, or name the \
                         one that it made"
                    ),
                ),
                "42501" => (
                    ErrorKind::Denied,
                    format!(
                        "the role {user} may not enter the database {url}: use the URL that \
                         `tenantry postgres setup` printed"
                    ),
                ),
                "53300" => (
                    ErrorKind::Unavailable,
                    format!("the database {url} has all the connections that it allows"),
                ),
                "57P03" => (
                    ErrorKind::Unavailable,
                    format!("the database {url} is starting or stopping: try again"),
                ),
                _ => (
                    ErrorKind::Unavailable,
                    format!("the database {url} refuses a connection with {code}"),
                ),
            }
        }
        None => {
            let cause = why.source().map_or_else(|| why.to_string(), ToString::to_string);
            let message = if cause == "password missing" {
                format!("the database {url} wants a password of {user}, and the URL has none")
            } else {
                format!("cannot reach the database {url}: {cause}")
            };
            // It is said whole: as a source it would be said twice.
            return Error::new(ErrorKind::Unavailable, message);
        }
    };
    Error::new(kind, message).with_source(why)
}

/// Names what failed. PostgreSQL's own text may hold values and goes to the log only.
pub(crate) fn failed(doing: &str) -> impl FnOnce(tokio_postgres::Error) -> Error {
    move |why| {
        let message = format!("PostgreSQL: {doing}");
        let is_refused = why.as_db_error().is_some_and(|error| !passes(error.code()));
        let kind = if is_refused { ErrorKind::Internal } else { ErrorKind::Unavailable };
        Error::new(kind, message).with_source(why)
    }
}

/// True for what a server says that others keep busy, or that ends, starts or is full.
fn passes(code: &SqlState) -> bool {
    let waits = [
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::OBJECT_IN_USE,
    ];
    // Of connections, of resources, and of whoever operates the server.
    waits.contains(code) || ["08", "53", "57"].iter().any(|class| code.code().starts_with(class))
}

/// The statement that waits until nobody else does this work, to the end of the transaction.
pub(crate) fn lock_work(work: Work) -> String {
    format!("SELECT pg_advisory_xact_lock({LOCK_CLASS}, {})", work as i32)
}

/// The same to the end of the session.
pub(crate) fn lock_work_of_session(work: Work) -> String {
    format!("SELECT pg_advisory_lock({LOCK_CLASS}, {})", work as i32)
}

/// The statement that tells whether nobody else does this work; if so, nobody does to the end of
/// the session.
pub(crate) fn try_lock_work_of_session(work: Work) -> String {
    format!("SELECT pg_try_advisory_lock({LOCK_CLASS}, {})", work as i32)
}

/// The same to the end of the transaction.
pub(crate) fn try_lock_work(work: Work) -> String {
    format!("SELECT pg_catalog.pg_try_advisory_xact_lock({LOCK_CLASS}, {})", work as i32)
}

/// An URL with another database.
pub(crate) fn with_database(url: &str, database: &str) -> Result<String> {
    let parts = Parts::of(url)?;
    let query = parts.query(&["dbname"]);
    Ok(format!("{}{}/{database}{query}", parts.scheme, parts.authority))
}

/// An URL with another user, password and database, all of characters that need no escape.
pub(crate) fn with_user(
    url: &str,
    user: &str,
    password: Option<&str>,
    database: &str,
) -> Result<String> {
    let parts = Parts::of(url)?;
    let hosts = parts.authority.rsplit_once('@').map_or(parts.authority, |(_, hosts)| hosts);
    let secret = password.map(|password| format!(":{password}")).unwrap_or_default();
    let query = parts.query(&["dbname", "user", "password"]);
    Ok(format!("{}{user}{secret}@{hosts}/{database}{query}", parts.scheme))
}

/// `scheme` `authority` `/database` `?query`, the query cut into its parts.
struct Parts<'a> {
    scheme: &'a str,
    authority: &'a str,
    query: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    fn of(url: &'a str) -> Result<Self> {
        let scheme = ["postgresql://", "postgres://"].into_iter().find(|s| url.starts_with(s));
        let scheme = scheme.ok_or_else(|| {
            Error::invalid("an URL of PostgreSQL begins with postgresql:// or postgres://")
        })?;
        let rest = &url[scheme.len()..];
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = before.split_once('/').map_or(before, |(authority, _)| authority);
        let query = query.split('&').filter(|part| !part.is_empty()).collect();
        Ok(Self { scheme, authority, query })
    }

    fn query(&self, without: &[&str]) -> String {
        let name = |part: &&&str| part.split('=').next().unwrap_or_default().to_owned();
        let kept: Vec<_> =
            self.query.iter().filter(|part| !without.contains(&name(part).as_str())).collect();
        let text = kept.iter().map(|part| **part).collect::<Vec<_>>().join("&");
        if text.is_empty() { text } else { format!("?{text}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_keep_what_is_not_changed() {
        for (url, database, user) in [
            (
                "postgresql://a:b@h:5/d?sslmode=disable&user=x&dbname=y",
                "postgresql://a:b@h:5/n?sslmode=disable&user=x",
                "postgresql://u:p@h:5/n?sslmode=disable",
            ),
            ("postgres://h", "postgres://h/n", "postgres://u:p@h/n"),
            (
                "postgresql://a@/d?host=/run/pg",
                "postgresql://a@/n?host=/run/pg",
                "postgresql://u:p@/n?host=/run/pg",
            ),
            ("postgresql://a@h,i:6", "postgresql://a@h,i:6/n", "postgresql://u:p@h,i:6/n"),
        ] {
            assert_eq!(with_database(url, "n").unwrap(), database);
            assert_eq!(with_user(url, "u", Some("p"), "n").unwrap(), user);
        }
        assert!(with_database("host=h", "n").is_err());
    }

    #[tokio::test]
    async fn a_wrong_url_is_named_without_its_password() {
        for url in ["nonsense", "postgresql://a:geheim@127.0.0.1:1/d"] {
            let error = connect(url).await.unwrap_err();
            assert!(!format!("{error:?}").contains("geheim"), "{error:?}");
        }
    }
}
