//! What was changed since the copy began, as the source has it now.

use super::{
    Carry,
    copy::{Reader, Rows, entries},
    not_held,
    pace::Rested,
    run::Mover,
};
use crate::tenancy::{
    Space, Tenancy, View,
    catalog::PARTITION,
    commit::CHANGES_KEPT,
    disk::{DiskChange, DiskCollection, DiskDatabase, Head, Touched},
    keys::{self, Decode as _, Prefix, Tail},
    number,
    tenants::OpenTenant,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};
use tenantry_auth::TenantId;
use tenantry_types::{CollectionNumber, DatabaseNumber, Error, ErrorKind, Result};

/// Changes that one round replays at most, and records after which it takes no more.
const CHANGES_PER_ROUND: u64 = 1_024;
const RECORDS_PER_ROUND: usize = 1_000;
/// Records whose rows are read together.
const RECORDS_TOGETHER: usize = 64;
/// Changes read at once, and their bytes.
const CHANGES_AT_ONCE: (usize, usize) = (512, 1 << 20);
/// Rows of changes that one round removes at the destination, because they are too old to be kept.
const OLD_AT_ONCE: usize = 1_024;
/// While writes wait, so much is committed at once as otherwise in so many commits.
const COMMITS_IN_PAUSE: usize = 16;
/// Bytes of a change that is not even read meanwhile: it has touched some hundred thousand records.
const CHANGE_IN_PAUSE: usize = 256 << 10;

/// What changes have touched.
#[derive(Debug, Default)]
struct Touch {
    databases: BTreeSet<u32>,
    collections: BTreeSet<u32>,
    records: BTreeMap<u32, BTreeSet<u64>>,
    ordinals: usize,
}

impl Touch {
    fn add(&mut self, touched: Touched) -> Result<()> {
        match touched {
            // The root's.
            Touched::Tenant | Touched::Key(_) => {}
            Touched::Database(number) => drop(self.databases.insert(number)),
            Touched::Collection(number) => drop(self.collections.insert(number)),
            Touched::Written { collection, partition, ordinals }
            | Touched::Deleted { collection, partition, ordinals } => {
                if partition != PARTITION {
                    return Err(Error::internal("a partition that moves know nothing of"));
                }
                self.ordinals += ordinals.len();
                self.records.entry(collection).or_default().extend(ordinals);
            }
        }
        Ok(())
    }
}

/// What is replayed is written as it comes.
struct Sink<'a, B: Carry> {
    tenancy: &'a Tenancy<B>,
    arriving: &'a Arc<OpenTenant>,
    mover: &'a mut Mover,
    rows: Rows,
    /// When writes have waited for too long.
    until: Option<Instant>,
    /// When it has rested last.
    rested: Rested,
}

impl<'a, B: Carry> Sink<'a, B> {
    fn new(
        tenancy: &'a Tenancy<B>,
        arriving: &'a Arc<OpenTenant>,
        mover: &'a mut Mover,
        until: Option<Instant>,
    ) -> Self {
        Self { tenancy, arriving, mover, rows: Rows::default(), until, rested: Rested::now() }
    }

    /// Between any two things that belong together.
    async fn pass(&mut self) -> Result<()> {
        if self.until.is_some_and(|until| Instant::now() > until) {
            return Err(late());
        }
        if self.rows.is_full_for(if self.until.is_some() { COMMITS_IN_PAUSE } else { 1 }) {
            self.flush().await?;
        }
        if self.mover.is_behind {
            self.tenancy.moves.pace.breathe(&mut self.rested).await;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        self.mover.mark(&self.rows);
        self.tenancy.put_rows(self.arriving, std::mem::take(&mut self.rows)).await
    }
}

impl<B: Carry> Tenancy<B> {
    /// Replays some of what was changed; the view that it was read from, and the commits that are
    /// left there.
    pub(super) async fn round(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        mover: &mut Mover,
    ) -> Result<(B::Rows, u64)> {
        let view = self.look(tenant).await?;
        let head = tenant.read_head(&view).await?;
        if head.hold.is_none() {
            return Err(not_held());
        }
        let (replayed, audit) = (mover.replayed, mover.audit);
        let mut sink = Sink::new(self, arriving, mover, None);
        let changed = self.replay((tenant, &view), &head, (replayed, false), &mut sink).await?;
        let audit = entries(&view, tenant, audit, &mut sink.rows).await?;
        sink.flush().await?;
        (mover.replayed, mover.audit) = (changed, audit);
        let entries = head.audit_sequence.saturating_sub(audit);
        Ok((view, head.sequence.saturating_sub(changed).max(entries)))
    }

    /// Everything that is left, for whoever holds the tenant's writer lock. Fails with
    /// [`ErrorKind::Busy`] if that takes too long.
    pub(super) async fn rest(
        &self,
        tenant: &Arc<OpenTenant>,
        view: &B::Rows,
        arriving: &Arc<OpenTenant>,
        (mover, until): (&mut Mover, Instant),
        head: &Head,
    ) -> Result<Rows> {
        let (replayed, audit) = (mover.replayed, mover.audit);
        let mut sink = Sink::new(self, arriving, mover, Some(until));
        // Nobody writes, so another view sees the same, and a database answers both at once.
        let beside = self.look(tenant).await?;
        let (replay, log) = tokio::join!(
            self.replay((tenant, view), head, (replayed, true), &mut sink),
            entries_until(&beside, tenant, (audit, head.audit_sequence), until),
        );
        replay?;
        sink.rows.extend(log?);
        let rows = sink.rows;
        mover.mark(&rows);
        Ok(rows)
    }

    /// Puts what was changed after this commit, as the view has it; up to which commit. `all` if
    /// none may be left.
    async fn replay(
        &self,
        (tenant, view): (&OpenTenant, &B::Rows),
        head: &Head,
        (after, all): (u64, bool),
        sink: &mut Sink<'_, B>,
    ) -> Result<u64> {
        let there = self.look(sink.arriving).await?;
        let (touch, last) = self.touched((tenant, view), head, (after, all), sink).await?;
        let change = |sequence| keys::Change { sequence }.encode(tenant.prefix());
        let oldest = head.sequence.saturating_sub(CHANGES_KEPT) + 1;
        if all {
            // The round before has removed what was too old by then.
            (after.saturating_sub(CHANGES_KEPT)..oldest)
                .for_each(|old| sink.rows.remove(change(old)));
        } else {
            let start = keys::Change::all(tenant.prefix());
            let old = there.page(Space::Data, &start, &start, OLD_AT_ONCE).await?;
            for (key, _) in old.into_iter().filter(|(key, _)| *key < change(oldest)) {
                sink.rows.remove(key);
            }
        }
        self.replay_catalog(tenant, (view, &there), &touch, sink).await?;
        for (collection, ordinals) in &touch.records {
            self.replay_records(tenant, (view, &there), *collection, ordinals, sink).await?;
        }
        Ok(last)
    }

    /// What was touched after a commit, and up to which; the rows of changes themselves are put.
    async fn touched(
        &self,
        (tenant, view): (&OpenTenant, &B::Rows),
        head: &Head,
        (after, all): (u64, bool),
        sink: &mut Sink<'_, B>,
    ) -> Result<(Touch, u64)> {
        let oldest = head.sequence.saturating_sub(CHANGES_KEPT);
        let (mut touch, mut last) = (Touch::default(), after);
        let start = keys::Change::all(tenant.prefix());
        while last < head.sequence {
            let next = keys::Change { sequence: last + 1 }.encode(tenant.prefix());
            let page = self.page(view, &start, &next, CHANGES_AT_ONCE).await?;
            if page.is_empty() {
                return Err(lost());
            }
            for (key, sealed) in page {
                let change = keys::Change::decode(tenant.prefix(), &key).ok_or_else(lost)?;
                // A commit that touches nothing has no number, so there is no gap.
                if change.sequence != last + 1 {
                    return Err(lost());
                }
                last = change.sequence;
                if all && sealed.len() > CHANGE_IN_PAUSE {
                    return Err(late());
                }
                let DiskChange::V1 { touched, .. } = tenant.open_row(&key, &sealed)?;
                for touched in touched {
                    touch.add(touched)?;
                }
                if last > oldest {
                    sink.rows.put(key, sealed);
                }
                sink.pass().await?;
                let is_enough =
                    touch.ordinals >= RECORDS_PER_ROUND || last - after >= CHANGES_PER_ROUND;
                if is_enough && !all {
                    return Ok((touch, last));
                }
            }
        }
        Ok((touch, last))
    }

    /// Databases and collections that were touched: what they were called at the destination goes
    /// first, so that names may have changed hands.
    async fn replay_catalog(
        &self,
        tenant: &OpenTenant,
        (view, there): (&B::Rows, &B::Rows),
        touch: &Touch,
        sink: &mut Sink<'_, B>,
    ) -> Result<()> {
        let is_apart = sink.arriving.placement().is_apart();
        for number in &touch.databases {
            remove_names(database(tenant, there, *number).await?, &mut sink.rows);
            sink.pass().await?;
        }
        for number in &touch.collections {
            remove_names(collection(tenant, there, *number).await?, &mut sink.rows);
            sink.pass().await?;
        }
        for number in &touch.databases {
            match database(tenant, view, *number).await? {
                Some(named) => put_named(named, *number, &mut sink.rows),
                None => {
                    let key = keys::Database { database: *number }.encode(tenant.prefix());
                    sink.rows.remove(key);
                }
            }
            sink.pass().await?;
        }
        for number in &touch.collections {
            match collection(tenant, view, *number).await? {
                Some(named) => {
                    put_named(named, *number, &mut sink.rows);
                    put_counts(tenant, view, *number, &mut sink.rows).await?;
                }
                None => {
                    let key = keys::Collection { collection: *number }.encode(tenant.prefix());
                    sink.rows.remove(key);
                    sink.rows.note(tenant, is_apart, *number);
                }
            }
            sink.pass().await?;
        }
        Ok(())
    }

    /// Records that were touched, as the view has them.
    async fn replay_records(
        &self,
        tenant: &OpenTenant,
        (view, there): (&B::Rows, &B::Rows),
        collection: u32,
        ordinals: &BTreeSet<u64>,
        sink: &mut Sink<'_, B>,
    ) -> Result<()> {
        let (prefix, partition) = (tenant.prefix(), PARTITION);
        let row_and_counts = [
            keys::Collection { collection }.encode(prefix),
            keys::Statistics { collection, partition }.encode(prefix),
        ];
        let mut found = view.many(Space::Data, &row_and_counts).await?.into_iter();
        let [key, of_counts] = row_and_counts;
        // What was deleted with its collection is in the changes of the collection.
        let Some(sealed) = found.next().flatten() else { return Ok(()) };
        let row: DiskCollection = tenant.open_row(&key, &sealed)?;
        let has_ids = self.has_ids(tenant.placement());
        let reader = Reader::new(tenant, row, (collection, has_ids))?;
        let ordinals: Vec<u64> = ordinals.iter().copied().collect();
        for some in ordinals.chunks(RECORDS_TOGETHER) {
            replay_some(&reader, (view, there), some, &mut sink.rows).await?;
            sink.pass().await?;
        }
        if let Some(counts) = found.next().flatten() {
            sink.rows.put(of_counts, counts);
        }
        Ok(())
    }
}

/// Entries of the log after one and up to another, for whoever holds the tenant's writer lock.
async fn entries_until(
    view: &impl View,
    tenant: &OpenTenant,
    (mut after, last): (u64, u64),
    until: Instant,
) -> Result<Rows> {
    let mut rows = Rows::default();
    while after < last {
        if Instant::now() > until {
            return Err(late());
        }
        let next = entries(view, tenant, after, &mut rows).await?;
        if next == after {
            return Err(Error::corrupt("the end of the audit log is missing"));
        }
        after = next;
    }
    Ok(rows)
}

/// The pause would be too long.
pub(super) fn late() -> Error {
    Error::new(ErrorKind::Busy, "too much is left to be copied while writes wait")
}

fn lost() -> Error {
    Error::corrupt("changes that were held for a move are missing")
}

/// A row of the catalog: its key, its value, and the keys of what it is called.
type Named = (Vec<u8>, Vec<u8>, Vec<Vec<u8>>);

async fn database<V: View>(tenant: &OpenTenant, view: &V, number: u32) -> Result<Option<Named>> {
    let key = keys::Database { database: number }.encode(tenant.prefix());
    let Some(sealed) = view.get(Space::Data, &key).await? else { return Ok(None) };
    let row: DiskDatabase = tenant.open_row(&key, &sealed)?;
    let info = row.into_info(DatabaseNumber(number))?;
    let name = keys::DatabaseName { name: Tail(info.name.as_str().as_bytes()) };
    Ok(Some((key, sealed, vec![name.encode(tenant.prefix())])))
}

async fn collection<V: View>(tenant: &OpenTenant, view: &V, number: u32) -> Result<Option<Named>> {
    let prefix = tenant.prefix();
    let key = keys::Collection { collection: number }.encode(prefix);
    let Some(sealed) = view.get(Space::Data, &key).await? else { return Ok(None) };
    let row: DiskCollection = tenant.open_row(&key, &sealed)?;
    let info = row.into_info(CollectionNumber(number))?;
    let name = Tail(info.name.as_str().as_bytes());
    let name = keys::CollectionName { database: info.database.0, name }.encode(prefix);
    let id = keys::CollectionId { id: info.id.0 }.encode(prefix);
    Ok(Some((key, sealed, vec![name, id])))
}

fn remove_names(old: Option<Named>, rows: &mut Rows) {
    for name in old.into_iter().flat_map(|(.., names)| names) {
        rows.remove(name);
    }
}

fn put_named((key, sealed, names): Named, number: u32, rows: &mut Rows) {
    for name in names {
        rows.put(name, number.to_be_bytes().to_vec());
    }
    rows.put(key, sealed);
}

/// How many records a collection has.
async fn put_counts<V: View>(
    tenant: &OpenTenant,
    view: &V,
    collection: u32,
    rows: &mut Rows,
) -> Result<()> {
    let counts = keys::Statistics { collection, partition: PARTITION }.encode(tenant.prefix());
    if let Some(value) = view.get(Space::Data, &counts).await? {
        rows.put(counts, value);
    }
    Ok(())
}

impl Rows {
    /// Leaves a note for the purger, who removes what was copied of a collection before it was
    /// deleted.
    fn note(&mut self, tenant: &OpenTenant, is_apart: bool, collection: u32) {
        let note = keys::Purge { tenant: tenant.id().get(), collection };
        let (space, whose) = if is_apart {
            (Space::Data, tenant.prefix())
        } else {
            (Space::Catalog, Prefix::of(TenantId::INSTALLATION))
        };
        self.set(space, note.encode(whose), Some(Vec::new()));
    }
}

/// Some records. An id leads to no record that is not there: what is put of it is put with its
/// record.
async fn replay_some<V: View>(
    reader: &Reader<'_>,
    (view, there): (&V, &V),
    ordinals: &[u64],
    rows: &mut Rows,
) -> Result<()> {
    let mut keys: Vec<_> = ordinals.iter().map(|ordinal| reader.body_key(*ordinal)).collect();
    keys.extend(ordinals.iter().flat_map(|ordinal| reader.vector_keys(*ordinal)));
    let mut values = view.many(Space::Data, &keys).await?;
    let of_vectors = values.split_off(ordinals.len().min(values.len()));
    let vectors = keys.split_off(ordinals.len());
    let mut absent = Vec::new();
    for (key, value) in vectors.into_iter().zip(of_vectors) {
        match value {
            Some(value) => rows.put(key, value),
            None => absent.push(key),
        }
    }
    let of_before = there.many(Space::Data, &absent).await?;
    for (key, _) in absent.into_iter().zip(of_before).filter(|(_, value)| value.is_some()) {
        rows.remove(key);
    }
    let (mut living, mut gone) = (Vec::new(), Vec::new());
    for ((key, ordinal), value) in keys.into_iter().zip(ordinals).zip(values) {
        match value {
            Some(body) => living.push((key, body)),
            None => gone.push((key, *ordinal)),
        }
    }
    let keys: Vec<_> = gone.iter().map(|(key, _)| key.clone()).collect();
    let (mut removed, mut ids) = (Vec::new(), Vec::new());
    let values = there.many(Space::Data, &keys).await?;
    for ((key, ordinal), body) in gone.into_iter().zip(values) {
        if let Some(body) = body {
            ids.push(reader.id_key(&key, &body)?);
            removed.push(ordinal);
            rows.remove(key);
        }
    }
    let leads_to = there.many(Space::Data, &ids).await?;
    for ((id, ordinal), value) in ids.into_iter().zip(removed).zip(leads_to) {
        // It may lead to a later record, which is replayed after this one.
        if value.map(|value| number(&value)).transpose()? == Some(ordinal) {
            rows.remove(id);
        }
    }
    reader.put_bodies(view, living, rows).await
}
