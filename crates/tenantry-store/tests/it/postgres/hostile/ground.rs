//! Two tenants in each isolation, and what is said with their rights.

use super::super::{Site, nodes::Node};
use crate::conformance::{UPSERT, record};
use std::{fmt::Write as _, future::poll_fn, pin::pin};
use tenantry_types::{Isolation, Value};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Stands in everything that the second tenants have.
pub(super) const SECRET: &str = "geheim";
pub(super) const TABLES: [&str; 3] = ["catalog", "records", "vectors"];

#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) number: i64,
    /// Its role, schema or database.
    pub(super) place: String,
}

/// Two tenants in each isolation; the second has a secret.
pub(super) struct Ground {
    pub(super) site: Site,
    _node: Node,
    pub(super) shared: [Tenant; 2],
    pub(super) schema: [Tenant; 2],
    pub(super) database: [Tenant; 2],
}

impl Ground {
    pub(super) async fn new() -> Self {
        let site = Site::new().await;
        let node = Node::new(site.open_apart(Isolation::Shared).await).await;
        let mut known = roles(&site).await;
        let mut make = async |name: &str, isolation| {
            let scope = node.tenant_in(name, isolation).await.unwrap();
            let c = node.make(&scope, "c").await.unwrap();
            // The first one's ids are numbers: a cast that meets another's fails.
            let ids = if name.ends_with('a') { ["1", "2"] } else { [SECRET, "2"] };
            let metadata = [("k", Value::Str(SECRET.into()))];
            let metadata = if name.ends_with('a') { &[][..] } else { &metadata[..] };
            let batch = ids.map(|id| record(id, 1.0, metadata)).to_vec();
            node.store.write(&scope, &c, UPSERT, batch).await.unwrap();
            let now = roles(&site).await;
            let place = now.iter().find(|role| !known.contains(role)).cloned();
            known = now;
            Tenant {
                number: i64::try_from(scope.tenant().get()).unwrap(),
                place: place.unwrap_or_default(),
            }
        };
        let shared = [make("sa", Isolation::Shared).await, make("sb", Isolation::Shared).await];
        let schema = [make("na", Isolation::Schema).await, make("nb", Isolation::Schema).await];
        let database =
            [make("da", Isolation::Database).await, make("db", Isolation::Database).await];
        Self { site, _node: node, shared, schema, database }
    }

    /// The login that serves, in the installation's database or in a tenant's.
    pub(super) async fn service(&self, database: Option<&str>) -> Client {
        let mut config: tokio_postgres::Config = self.site.url.parse().unwrap();
        config.dbname(database.unwrap_or_else(|| self.site.names.database()));
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

async fn roles(site: &Site) -> Vec<String> {
    let mut config: tokio_postgres::Config = site.superuser.parse().unwrap();
    let (client, connection) = config.dbname("postgres").connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "SELECT r.rolname::text FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid \
               WHERE m.member = (SELECT oid FROM pg_roles WHERE rolname = $1)";
    let rows = client.query(sql, &[&site.names.service()]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A right that statements run with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Who<'a> {
    pub(super) tenant: Option<i64>,
    pub(super) role: Option<&'a str>,
}

impl Who<'_> {
    fn enter(self) -> String {
        let mut text = "BEGIN; SET LOCAL search_path = pg_catalog, pg_temp;".to_owned();
        if let Some(tenant) = self.tenant {
            let _ = write!(text, "SET LOCAL tenantry.tenant = '{tenant}';");
        }
        if let Some(role) = self.role {
            let _ = write!(text, "SET LOCAL ROLE {role};");
        }
        text
    }
}

/// What the server answers: columns of rows with bars between, or code and text of its error.
pub(super) type Said = Result<Vec<String>, (String, String)>;

/// Says something in a transaction that is rolled back.
pub(super) async fn say(client: &Client, who: Who<'_>, sql: &str) -> Said {
    client.batch_execute(&who.enter()).await.unwrap();
    let outcome = client.simple_query(sql).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    match outcome {
        Ok(messages) => {
            let line = |row: &tokio_postgres::SimpleQueryRow| {
                (0..row.len()).map(|at| row.get(at).unwrap_or("")).collect::<Vec<_>>().join("|")
            };
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(line(row)),
                _ => None,
            });
            Ok(rows.collect())
        }
        Err(why) => {
            let why = why.as_db_error().expect("an answer of the server");
            let hints = (why.detail().unwrap_or(""), why.hint().unwrap_or(""));
            let text = format!("{} {} {}", why.message(), hints.0, hints.1);
            assert!(!text.contains(SECRET), "{who:?}: {sql}: {text}");
            Err((why.code().code().to_owned(), text))
        }
    }
}

/// Every statement is refused with one of these codes.
pub(super) async fn refused(client: &Client, who: Who<'_>, codes: &[&str], statements: &[&str]) {
    for sql in statements {
        match say(client, who, sql).await {
            Err((code, _)) if codes.contains(&code.as_str()) => {}
            other => panic!("{who:?}: {sql}: {other:?}"),
        }
    }
}

pub(super) async fn copied(client: &Client, who: Who<'_>, sql: &str) -> Vec<String> {
    client.batch_execute(&who.enter()).await.unwrap();
    let mut stream = pin!(client.copy_out(sql).await.unwrap());
    let mut text = Vec::new();
    while let Some(piece) = poll_fn(|cx| futures_core::Stream::poll_next(stream.as_mut(), cx)).await
    {
        text.extend_from_slice(&piece.unwrap());
    }
    client.batch_execute("ROLLBACK").await.unwrap();
    String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
}
