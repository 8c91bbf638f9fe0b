//! All that a tenant has, as it was at one moment: for exports and copies.

use crate::{
    CollectionInfo, DatabaseInfo, TenantInfo,
    pool::Turn,
    sites::Sites,
    tenancy::{
        Pair, Space, Tenancy, View,
        catalog::PARTITION,
        check_page,
        disk::{Body, DiskCollection, DiskDatabase, DiskStatistics, Statistics, decode_vector},
        keys::{self, Decode as _, Family},
        moving::{Carry, Role, moved},
        number,
        tenants::OpenTenant,
    },
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::{Admin, Scope, Standing};
use tenantry_types::{
    CollectionNumber, DatabaseNumber, Error, ErrorKind, Record, RecordId, Resource, Result,
};

/// Snapshots that there may be at once.
pub(crate) const AT_ONCE: usize = 2;
/// Records that are read at once, and bytes of their bodies after which no more are.
const RECORDS_AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Bytes of their vectors.
const VECTOR_BYTES_AT_ONCE: usize = 1 << 20;
/// Rows of the catalog that are read at once, and their bytes.
const ROWS_AT_ONCE: (usize, usize) = (256, 256 << 10);

/// How long a tenant may have no turn left for this.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

type Rows = <Sites as Carry>::Rows;

/// See the module. What is written to the tenant later is not seen. It is not to be held longer
/// than reading takes: a disk or a database waits for it with some of its work.
pub struct Snapshot {
    tenancy: Arc<Tenancy<Sites>>,
    tenant: Arc<OpenTenant>,
    info: Arc<TenantInfo>,
    /// What the right rests on by which it is read.
    standing: Standing,
    rows: Rows,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({})", self.info.id)
    }
}

/// Some records of a collection, in the order in which they were inserted.
#[derive(Debug)]
pub struct SnapshotPage {
    /// The records; none if there are no more.
    pub records: Vec<Record>,
    /// Where the next page begins.
    pub next: u64,
}

impl Snapshot {
    /// Begins to read all of a scope's tenant. The right is looked at once more.
    pub(crate) async fn take(tenancy: &Arc<Tenancy<Sites>>, scope: &Scope<Admin>) -> Result<Self> {
        if !scope.restriction().is_none() {
            return Err(Error::denied("a limited key or token cannot read all of a tenant"));
        }
        let tenant = tenancy.tenant(scope).await?;
        let rows = tenancy.whole(&tenant).await?;
        let (info, standing) = (tenant.info(), scope.standing().clone());
        let snapshot = Self { tenancy: Arc::clone(tenancy), tenant, info, standing, rows };
        snapshot.check().await?;
        for family in Family::of(Role::Unused) {
            let start = snapshot.tenant.prefix().family(family);
            if !View::page(&snapshot.rows, Space::Data, &start, &start, 1).await?.is_empty() {
                let message = format!("rows of the family {family:?} cannot be exported yet");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        Ok(snapshot)
    }

    /// The tenant.
    pub fn info(&self) -> &TenantInfo {
        &self.info
    }

    /// Fails if the tenant does not live any more where this is read, if the right to read it has
    /// ended, or if it must not be held any longer.
    async fn check(&self) -> Result<()> {
        if !self.tenancy.may_hold(&self.rows) {
            let message = "the store is being reopened or closed; try again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let gone = || Error::not_found(Resource::Tenant, self.info.name.as_str());
        self.tenant.check_alive()?;
        let now = self.tenancy.open_tenant(self.info.id).await?.ok_or_else(gone)?;
        now.check_alive()?;
        self.tenancy.stands(&self.standing, Some(&now), None).await?;
        if now.placement() == self.tenant.placement() { Ok(()) } else { Err(moved()) }
    }

    /// The right to compute for the tenant in the background. Others of its requests may be too many
    /// to queue at this moment: what was begun does not end because of that.
    async fn turn(&self) -> Result<Option<Turn>> {
        let begun = Instant::now();
        loop {
            match self.tenancy.turn(&self.tenant).await {
                Err(why) if why.kind() == ErrorKind::Busy && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(PAUSE).await;
                    self.check().await?;
                }
                outcome => return outcome,
            }
        }
    }

    /// Rows of the catalog that start with `start`, from `from` on.
    async fn some(&self, start: &[u8], from: &[u8]) -> Result<Vec<Pair>> {
        // Waits for its turn, and does not hold it longer than one page takes.
        let turn = self.turn().await?;
        let page = self.tenancy.page(&self.rows, start, from, ROWS_AT_ONCE).await?;
        drop(turn);
        check_page(&page, start, from, ROWS_AT_ONCE.0)?;
        self.check().await?;
        Ok(page)
    }

    /// Some databases with numbers above this one, in the order of their numbers.
    pub async fn databases(&self, after: DatabaseNumber) -> Result<Vec<DatabaseInfo>> {
        let prefix = self.tenant.prefix();
        let Some(database) = after.0.checked_add(1) else { return Ok(Vec::new()) };
        let from = keys::Database { database }.encode(prefix);
        let mut found = Vec::new();
        for (key, row) in self.some(&keys::Database::all(prefix), &from).await? {
            let number = keys::Database::decode(prefix, &key).ok_or_else(unreadable)?.database;
            let row: DiskDatabase = self.tenant.open_row(&key, &row)?;
            found.push(row.into_info(DatabaseNumber(number))?);
        }
        Ok(found)
    }

    /// Some collections with numbers above this one, in the order of their numbers.
    pub async fn collections(&self, after: CollectionNumber) -> Result<Vec<CollectionInfo>> {
        let prefix = self.tenant.prefix();
        let Some(collection) = after.0.checked_add(1) else { return Ok(Vec::new()) };
        let from = keys::Collection { collection }.encode(prefix);
        let mut found = Vec::new();
        for (key, row) in self.some(&keys::Collection::all(prefix), &from).await? {
            let number = keys::Collection::decode(prefix, &key).ok_or_else(unreadable)?;
            let row: DiskCollection = self.tenant.open_row(&key, &row)?;
            found.push(row.into_info(CollectionNumber(number.collection))?);
        }
        Ok(found)
    }

    /// How many records a collection has.
    pub async fn count(&self, collection: &CollectionInfo) -> Result<u64> {
        let (collection, partition) = (collection.number.0, PARTITION);
        let key = keys::Statistics { collection, partition }.encode(self.tenant.prefix());
        let row: Option<DiskStatistics> = self.tenant.row(&self.rows, Space::Data, &key).await?;
        let Statistics { records, .. } =
            row.map(DiskStatistics::into_statistics).unwrap_or_default();
        Ok(records)
    }

    /// Some records of a collection, all parts of them, from where the last page has ended.
    pub async fn records(&self, collection: &CollectionInfo, from: u64) -> Result<SnapshotPage> {
        let prefix = self.tenant.prefix();
        let bodies = keys::bodies_of(prefix, collection.number.0, PARTITION);
        let first =
            keys::Body { collection: collection.number.0, partition: PARTITION, ordinal: from };
        let turn = self.turn().await?;
        let most = (records_at_once(collection), BYTES_AT_ONCE);
        let first = first.encode(prefix);
        let page = self.tenancy.page(&self.rows, &bodies, &first, most).await?;
        check_page(&page, &bodies, &first, most.0)?;
        let page = self.whole(collection, page, from).await?;
        drop(turn);
        self.check().await?;
        Ok(page)
    }

    /// Records with these bodies.
    async fn whole(
        &self,
        collection: &CollectionInfo,
        bodies: Vec<Pair>,
        from: u64,
    ) -> Result<SnapshotPage> {
        let (prefix, number_of) = (self.tenant.prefix(), collection.number.0);
        let fields = collection.fields();
        let (mut records, mut keys, mut next) = (Vec::new(), Vec::new(), from);
        for (key, sealed) in bodies {
            let ordinal = keys::Body::decode(prefix, &key).ok_or_else(unreadable)?.ordinal;
            let body = Body::decode(&self.tenant.key().open(&key, &sealed)?)?;
            if body.expires_at.is_some() {
                let message = "records that expire cannot be exported yet";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            next = ordinal.saturating_add(1);
            let id = keys::Tail(body.id.as_bytes());
            keys.push(keys::Id { collection: number_of, partition: PARTITION, id }.encode(prefix));
            keys.extend(fields.iter().map(|(vector, ..)| {
                let (vector, partition) = (*vector, PARTITION);
                keys::Vector { collection: number_of, partition, vector, ordinal }.encode(prefix)
            }));
            records.push((ordinal, body));
        }
        let mut values = self.rows.many(Space::Data, &keys).await?.into_iter();
        let mut whole = Vec::with_capacity(records.len());
        for (ordinal, body) in records {
            let leads_to = values.next().flatten().map(|value| number(&value)).transpose()?;
            if leads_to != Some(ordinal) {
                return Err(Error::corrupt("an id does not lead to its record"));
            }
            let mut record = Record {
                id: RecordId::parse(body.id)?,
                vector: None,
                vectors: BTreeMap::new(),
                document: body.document,
                uri: body.uri,
                metadata: body.metadata,
                version: body.version,
                expires_at: None,
            };
            for (_, name, _) in &fields {
                let Some(value) = values.next().flatten() else { continue };
                let vector = decode_vector(&value)?;
                match name {
                    None => record.vector = Some(vector),
                    Some(name) => drop(record.vectors.insert((*name).clone(), vector)),
                }
            }
            whole.push(record);
        }
        Ok(SnapshotPage { records: whole, next })
    }
}

/// Fewer of those with large vectors.
fn records_at_once(collection: &CollectionInfo) -> usize {
    let fields = collection.fields();
    let components = fields.iter().filter_map(|(.., spec)| spec.dimension).map(|n| n as usize);
    let bytes = 4 * components.sum::<usize>();
    (VECTOR_BYTES_AT_ONCE / bytes.max(1)).clamp(1, RECORDS_AT_ONCE)
}

fn unreadable() -> Error {
    Error::corrupt("a key of a tenant cannot be read")
}
