//! Filling a new tenant, by the ordinary handles.

use super::{
    breathe,
    read::Item,
    walk::Sink,
    wire::{CollectionRow, copied},
};
use crate::{Collection, Database, Session};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tenantry_auth::Admin;
use tenantry_store::{CollectionInfo, DatabaseInfo};
use tenantry_types::{
    CollectionSpec, DatabaseName, Error, ErrorKind, Existing, Record, RecordWrite, Result,
    WriteMode,
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
            Item::Database(name) => self.make_database(name).await,
            Item::Collection(database, spec) => self.make_collection(&database, &spec).await,
            Item::Records(records) => {
                let begun = Instant::now();
                self.add(records).await?;
                breathe(begun).await;
                Ok(())
            }
        }
    }

    async fn make_database(&mut self, name: DatabaseName) -> Result<()> {
        let made = self.session.create_database(&name).await?;
        self.databases.insert(name, made);
        Ok(())
    }

    async fn make_collection(
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
    async fn add(&self, records: Vec<RecordWrite>) -> Result<()> {
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
                outcome => return outcome.map(drop),
            }
        }
    }
}

impl Sink for Filling {
    async fn databases(&mut self, all: Vec<DatabaseInfo>) -> Result<()> {
        for database in all {
            self.make_database(database.name).await?;
        }
        Ok(())
    }

    /// By the words of an archive, so that a copy is what an import would be.
    async fn collection(&mut self, info: &CollectionInfo, database: &DatabaseName) -> Result<()> {
        let (database, spec) = CollectionRow::of(info, database).spec()?;
        self.make_collection(&database, &spec).await
    }

    async fn records(&mut self, records: Vec<Record>) -> Result<()> {
        self.add(records.into_iter().map(copied).collect()).await
    }
}
