//! All of a snapshot, in the order in which an archive has it.

use super::breathe;
use std::{collections::BTreeMap, time::Instant};
use tenantry_store::{CollectionInfo, DatabaseInfo, Snapshot};
use tenantry_types::{CollectionNumber, DatabaseName, DatabaseNumber, Error, Record, Result};

/// Takes what a tenant has.
pub(super) trait Sink {
    /// All databases, first of all.
    fn databases(&mut self, all: Vec<DatabaseInfo>) -> impl Future<Output = Result<()>> + Send;

    /// A collection of one of them; its records follow.
    fn collection(
        &mut self,
        info: &CollectionInfo,
        database: &DatabaseName,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Some records of the last collection, in the order in which they were inserted.
    fn records(&mut self, records: Vec<Record>) -> impl Future<Output = Result<()>> + Send;
}

/// Reads all that a snapshot has. It is not held any longer than that.
pub(super) async fn walk(snapshot: Snapshot, sink: &mut impl Sink) -> Result<()> {
    let mut databases = Vec::new();
    let mut last = DatabaseNumber(0);
    loop {
        let page = snapshot.databases(last).await?;
        let Some(end) = page.last() else { break };
        last = end.number;
        databases.extend(page);
    }
    let names: BTreeMap<DatabaseNumber, DatabaseName> =
        databases.iter().map(|one| (one.number, one.name.clone())).collect();
    sink.databases(databases).await?;
    let mut last = CollectionNumber(0);
    loop {
        let page = snapshot.collections(last).await?;
        let Some(end) = page.last() else { return Ok(()) };
        last = end.number;
        for collection in page {
            let lost = || Error::corrupt("the database of a collection is gone");
            let database = names.get(&collection.database).ok_or_else(lost)?;
            sink.collection(&collection, database).await?;
            records(&snapshot, &collection, sink).await?;
        }
    }
}

async fn records(
    snapshot: &Snapshot,
    collection: &CollectionInfo,
    sink: &mut impl Sink,
) -> Result<()> {
    let (mut from, mut count) = (0, 0);
    loop {
        let begun = Instant::now();
        let page = snapshot.records(collection, from).await?;
        if page.records.is_empty() {
            break;
        }
        from = page.next;
        count += page.records.len() as u64;
        sink.records(page.records).await?;
        breathe(begun).await;
    }
    if count == snapshot.count(collection).await? {
        return Ok(());
    }
    Err(Error::corrupt("a collection does not have as many records as it counts"))
}
