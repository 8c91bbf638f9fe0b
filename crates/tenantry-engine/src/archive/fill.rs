//! Filling a new tenant, by the ordinary handles.

use super::{breathe, read::Item};
use crate::{Collection, Database, Session};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tenantry_auth::Admin;
use tenantry_types::{
    CollectionSpec, DatabaseName, Error, ErrorKind, Existing, RecordWrite, Result, WriteMode,
};

/// How long a batch waits for other work of its tenant.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A new tenant, and what was made in it last.
pub(super) struct Filling {
    session: Session<Admin>,
    databases: HashMap<DatabaseName, Database<Admin>>,
    collection: Option<Collection<Admin>>,
}

impl Filling {
    pub(super) fn new(session: Session<Admin>) -> Self {
        Self { session, databases: HashMap::new(), collection: None }
    }

    pub(super) async fn put(&mut self, item: Item) -> Result<()> {
        match item {
            // Part of what the tenant was made with.
            Item::Tenant(_) => Ok(()),
            Item::Database(name) => self.database(name).await,
            Item::Collection(database, spec) => self.collection(&database, &spec).await,
            Item::Records(records) => self.records(records).await,
        }
    }

    pub(super) async fn database(&mut self, name: DatabaseName) -> Result<()> {
        let made = self.session.create_database(&name).await?;
        self.databases.insert(name, made);
        Ok(())
    }

    pub(super) async fn collection(
        &mut self,
        database: &DatabaseName,
        spec: &CollectionSpec,
    ) -> Result<()> {
        let lost = || Error::internal("a collection comes before its database");
        let database = self.databases.get(database).ok_or_else(lost)?;
        self.collection = Some(database.create_collection(spec, false).await?.0);
        Ok(())
    }

    /// Records of the last collection; none of them is there already.
    pub(super) async fn records(&self, records: Vec<RecordWrite>) -> Result<()> {
        let lost = || Error::internal("records come before their collection");
        let collection = self.collection.as_ref().ok_or_else(lost)?;
        let begun = Instant::now();
        loop {
            let mode = WriteMode::Add(Existing::Fail);
            match collection.write(mode, records.clone()).await {
                // Nothing was done then.
                Err(why) if why.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                }
                outcome => {
                    outcome?;
                    break;
                }
            }
        }
        breathe(begun).await;
        Ok(())
    }
}
