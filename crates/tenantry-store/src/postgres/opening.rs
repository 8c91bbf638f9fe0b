//! What precedes serving: is the server there, does it let both roles in, do its walls stand, are
//! the tables of this program's version.
//!
//! Errors are for whoever starts the program. They name hosts, ports, databases and roles, and
//! never a password; PostgreSQL's own texts go to the log.

use super::{
    check::{check_admin, check_root},
    config::PostgresConfig,
    migrate::migrate_root,
    url::{Cluster, DatabaseUrl},
};
use crate::tenancy::master::open_error;
use std::{error::Error as _, fs, time::Duration};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::time::timeout;
use tokio_postgres::Client;

/// For all addresses that a URL names.
const OPENING: Duration = Duration::from_secs(15);

/// The ways to an installation's database.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) service: Cluster,
    pub(super) admin: Option<Cluster>,
}

impl Ways {
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let read = |path: &std::path::PathBuf| {
            fs::read(path).map_err(|why| open_error("read the certificates", path, why))
        };
        let ca = config.ca.as_ref().map(read).transpose()?;
        let way = |url: &DatabaseUrl| Cluster::new(url.clone(), ca.as_deref());
        let admin = config.admin_url.as_ref().map(way).transpose()?;
        Ok(Self { service: way(&config.url)?, admin })
    }

    /// Brings the root's tables to this program's version if an admin may, and refuses whatever
    /// would let tenants reach each other or loses what was answered as written.
    pub(super) async fn check(&self) -> Result<()> {
        let service = enter(&self.service).await?;
        if let Some(way) = &self.admin {
            let mut admin = enter(way).await?;
            check_admin(&admin, &service).await?;
            migrate_root(&mut admin).await?;
        }
        check_root(&service).await.map(drop)
    }
}

/// Opens a connection outside the pool.
async fn enter(way: &Cluster) -> Result<Client> {
    let url = way.url();
    let opened = timeout(OPENING, url.config().connect(way.tls().clone())).await;
    let Ok(opened) = opened else {
        let message =
            format!("the database {url} does not answer: is it PostgreSQL, and is it up?");
        return Err(Error::new(ErrorKind::Unavailable, message));
    };
    let (client, connection) = opened.map_err(|why| refused(url, why))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the database ended");
        }
    });
    Ok(client)
}

/// Why nobody could enter.
fn refused(url: &DatabaseUrl, why: tokio_postgres::Error) -> Error {
    let user = url.user().escape_debug().to_string();
    let (kind, message) = match why.as_db_error() {
        Some(answer) => {
            let (code, text) = (answer.code().code(), answer.message());
            tracing::warn!(database = %url, code, text, "the database lets nobody in");
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
            (ErrorKind::Unavailable, format!("cannot reach the database {url}: {cause}"))
        }
    };
    Error::new(kind, message).with_source(why)
}

#[cfg(test)]
mod tests {
    use super::{super::stand::Stand, *};

    async fn opened(url: &str, admin: Option<&str>) -> Result<()> {
        let mut config = PostgresConfig::new(DatabaseUrl::parse(url)?, "nowhere");
        config.admin_url = admin.map(DatabaseUrl::parse).transpose()?;
        Ways::new(&config)?.check().await
    }

    async fn says(url: &str, admin: Option<&str>, words: &[&str]) {
        let error = opened(url, admin).await.expect_err("refused").to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is missing: {error}");
        }
        assert!(!error.contains("geheim"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_starts_the_program_is_told_what_is_wrong() {
        says("postgresql://a:geheim@127.0.0.1:1/d", None, &["reach", "127.0.0.1:1/d", "refused"])
            .await;
        Stand::with(async |stand| {
            let made = stand.set_up().await;
            let (url, admin) = (made.database_url.as_str(), made.database_admin_url.as_str());
            let (service, database) = (stand.names.service(), stand.names.database().to_owned());
            let (user, place) = url.split_once('@').unwrap();
            let wrong = format!("postgresql://{service}:geheim@{place}");
            says(&wrong, None, &[&service, "wrong password", &database]).await;
            says(&format!("{user}@{}", place.replace(&database, "none")), None, &["no database"])
                .await;
            let closed = format!("{user}@{}", place.replace(&database, "postgres"));
            says(&closed, None, &["refused: "]).await;
            says(url, Some(url), &["the role that serves"]).await;
            let root = super::super::admin::with_database(&stand.url, &database).unwrap();
            says(url, Some(&root), &["is a superuser's"]).await;
            says(&root, Some(admin), &["SUPERUSER"]).await;
            opened(url, Some(admin)).await.unwrap();
            opened(url, None).await.unwrap();
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_admin_may_bring_older_tables_up_and_another_installations_may_nothing() {
        Stand::with(async |other| {
            let elsewhere = other.set_up().await.database_admin_url;
            Stand::with(async move |stand| {
                let made = stand.set_up().await;
                let (url, admin) = (made.database_url.as_str(), made.database_admin_url.as_str());
                says(url, Some(&elsewhere), &["another database"]).await;
                let superuser = stand.superuser(stand.names.database()).await;
                let old = "DROP SCHEMA tenantry CASCADE";
                superuser.batch_execute(old).await.unwrap();
                says(url, None, &["run `tenantry postgres setup`"]).await;
                opened(url, Some(admin)).await.unwrap();
                opened(url, None).await.unwrap();
                let new = "UPDATE tenantry.installation SET version = 99";
                superuser.batch_execute(new).await.unwrap();
                says(url, None, &["use a newer program"]).await;
                says(url, Some(admin), &["use a newer"]).await;
            })
            .await;
        })
        .await;
    }
}
