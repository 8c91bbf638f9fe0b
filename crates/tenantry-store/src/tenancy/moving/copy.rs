//! The copy from before the changes that are held: page by page, each from a view of its own, in
//! the order of ordinals. Records and rows are copied as they are sealed: what is authenticated
//! with them says nothing of a place.

use super::{Carry, carry::Role, pace::Rested, row::Cursor};
use crate::pool::Turn;
use crate::tenancy::{
    Pair, Space, Tenancy, View, WriteSet,
    catalog::PARTITION,
    commit::CHANGES_KEPT,
    disk::{Body, DiskCollection, DiskStatistics},
    keys::{self, Decode as _, Family, Tail},
    number,
    tenants::OpenTenant,
};
use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};
use tenantry_types::{CollectionNumber, Error, ErrorKind, Result};

/// Records of one commit, and bytes after which no more follow.
const RECORDS_AT_ONCE: usize = 128;
const BYTES_AT_ONCE: usize = 64 << 10;
/// Collections looked at in one step.
const COLLECTIONS_AT_ONCE: usize = 32;
/// Rows of a log read at once.
const ENTRIES_AT_ONCE: usize = 512;
/// A record has some rows, which are looked up, and takes as long to read as so many in a page.
const RECORD_ROWS: usize = 8;

/// What is to be written at the destination. A later word on a key counts.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeMap<Vec<u8>, (Space, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Rows {
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.set(Space::Data, key, Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.set(Space::Data, key, None);
    }

    pub(super) fn set(&mut self, space: Space, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
        self.rows.insert(key, (space, value));
    }

    /// True if it is time to commit. What belongs together is put together before this is asked:
    /// a record is never divided, or what a crash leaves of it would have to be found.
    pub(super) fn is_full(&self) -> bool {
        self.is_full_for(1)
    }

    /// The same where one commit takes the place of so many.
    pub(super) fn is_full_for(&self, commits: usize) -> bool {
        self.bytes >= commits * BYTES_AT_ONCE || self.rows.len() >= commits * 8 * RECORDS_AT_ONCE
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.rows.iter().filter(|(_, (space, _))| *space == Space::Data).map(|(key, _)| key)
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.bytes += others.bytes;
        self.rows.extend(others.rows);
    }

    pub(super) fn into_operations(self) -> impl Iterator<Item = (Space, Vec<u8>, Option<Vec<u8>>)> {
        self.rows.into_iter().map(|(key, (space, value))| (space, key, value))
    }
}

/// Where the copy ends: what was made since it began is in the changes that are held, and would be
/// run after for as long as the tenant writes faster than it is copied.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// The last collection.
    collection: u32,
    /// The first ordinal that is not copied of a collection.
    ordinal: Option<(u32, u64)>,
}

impl Ends {
    pub(super) fn of(collection: u32) -> Self {
        Self { collection, ordinal: None }
    }
}

/// Reads all keys with one start, a bearable page at a time.
struct Pages<'a, B: Carry> {
    backend: &'a B,
    view: &'a B::Rows,
    start: Vec<u8>,
    from: Vec<u8>,
    page: std::vec::IntoIter<Pair>,
    is_last: bool,
}

impl<'a, B: Carry> Pages<'a, B> {
    fn new(backend: &'a B, view: &'a B::Rows, start: &[u8], from: Option<&[u8]>) -> Self {
        let (start, from) = (start.to_vec(), from.unwrap_or(start).to_vec());
        Self { backend, view, start, from, page: Vec::new().into_iter(), is_last: false }
    }

    async fn next(&mut self) -> Result<Option<Pair>> {
        if self.page.len() == 0 && !self.is_last {
            let grain = self.backend.grain(self.view);
            let page = self.backend.page(self.view, &self.start, &self.from, grain).await?;
            match page.last() {
                Some((last, _)) => {
                    self.from.clone_from(last);
                    self.from.push(0);
                }
                None => self.is_last = true,
            }
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }
}

/// The keys with one start whose values are not the same in two views.
pub(super) struct Differences<'a, B: Carry> {
    ours: Pages<'a, B>,
    theirs: Pages<'a, B>,
    next: [Option<Pair>; 2],
    is_begun: bool,
    /// Bytes and rows that were looked at, and the last of them.
    pub(super) bytes: usize,
    pub(super) rows: usize,
    pub(super) last: Vec<u8>,
}

impl<'a, B: Carry> Differences<'a, B> {
    pub(super) fn new(
        backend: &'a B,
        (ours, theirs): (&'a B::Rows, &'a B::Rows),
        start: &[u8],
        from: Option<&[u8]>,
    ) -> Self {
        let pages = |view| Pages::new(backend, view, start, from);
        let (ours, theirs) = (pages(ours), pages(theirs));
        let next = [None, None];
        Self { ours, theirs, next, is_begun: false, bytes: 0, rows: 0, last: Vec::new() }
    }

    /// Compares one key more; `None` at the end, and otherwise whether it differs, and our value.
    pub(super) async fn next(&mut self) -> Result<Option<(bool, Option<Vec<u8>>)>> {
        if !self.is_begun {
            self.next = [self.ours.next().await?, self.theirs.next().await?];
            self.is_begun = true;
        }
        let order = match &self.next {
            [None, None] => return Ok(None),
            [Some(_), None] => Ordering::Less,
            [None, Some(_)] => Ordering::Greater,
            [Some((ours, _)), Some((theirs, _))] => ours.cmp(theirs),
        };
        let mut ours = None;
        if order != Ordering::Greater {
            ours = std::mem::replace(&mut self.next[0], self.ours.next().await?);
        }
        let mut theirs = None;
        if order != Ordering::Less {
            theirs = std::mem::replace(&mut self.next[1], self.theirs.next().await?);
        }
        self.rows += 1;
        if let Some((key, value)) = ours.as_ref().or(theirs.as_ref()) {
            self.bytes += key.len() + value.len();
            self.last.clone_from(key);
        }
        Ok(Some((ours != theirs, ours.map(|(_, value)| value))))
    }
}

impl<B: Carry> Tenancy<B> {
    /// Commits rows at the destination, all at once.
    pub(super) async fn put_rows(&self, arriving: &Arc<OpenTenant>, rows: Rows) -> Result<()> {
        if rows.rows.is_empty() {
            return Ok(());
        }
        self.moves.pace.count(rows.bytes);
        self.moves.copied(rows.bytes);
        let mut set = WriteSet::new(arriving.placement(), arriving.generation());
        set.operations.extend(rows.into_operations());
        self.put(arriving, set).await
    }

    /// One step of the copy; false if nothing is left. What it has done is in the cursor.
    pub(super) async fn copy(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        (cursor, ends): (&mut Cursor, &mut Ends),
    ) -> Result<bool> {
        if !cursor.catalog {
            self.copy_catalog(tenant, arriving).await?;
            self.copy_changes(tenant, arriving).await?;
            cursor.catalog = true;
            return Ok(true);
        }
        if self.copy_records(tenant, arriving, (cursor, ends)).await? {
            return Ok(true);
        }
        self.copy_log(tenant, arriving, cursor).await
    }

    /// Databases and collections, from one view: names and what they name belong together.
    async fn copy_catalog(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
    ) -> Result<()> {
        let view = self.look(tenant).await?;
        let there = self.look(arriving).await?;
        for family in Family::of(Role::Unused) {
            let start = tenant.prefix().family(family);
            if !View::page(&view, Space::Data, &start, &start, 1).await?.is_empty() {
                let message = format!("rows of the family {family:?} cannot be moved yet");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        let mut rested = Rested::now();
        for family in Family::of(Role::Catalog) {
            let start = tenant.prefix().family(family);
            let mut rows = Rows::default();
            let mut differences = Differences::new(&**self, (&view, &there), &start, None);
            while let Some((differs, value)) = differences.next().await? {
                if differs {
                    rows.set(Space::Data, differences.last.clone(), value);
                }
                if rows.is_full() {
                    self.put_rows(arriving, std::mem::take(&mut rows)).await?;
                }
                self.moves.pace.breathe(&mut rested).await;
            }
            self.put_rows(arriving, rows).await?;
        }
        Ok(())
    }

    /// The changes from before those that are held: history goes on at the destination.
    async fn copy_changes(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
    ) -> Result<()> {
        // As it is stored: a tenant that was opened anew since knows nothing in memory.
        let held = tenant.read_head(&self.look(tenant).await?).await?.hold;
        let end = held.ok_or_else(super::not_held)?;
        let end = keys::Change { sequence: end }.encode(tenant.prefix());
        let oldest = held.unwrap_or(0).saturating_sub(CHANGES_KEPT);
        let start = keys::Change::all(tenant.prefix());
        let mut from = keys::Change { sequence: oldest }.encode(tenant.prefix());
        loop {
            let page = self.look(tenant).await?.page(Space::Data, &start, &from, 64).await?;
            let mut rows = Rows::default();
            for (key, value) in page.into_iter().filter(|(key, _)| *key < end) {
                from.clone_from(&key);
                from.push(0);
                rows.put(key, value);
            }
            if rows.rows.is_empty() {
                return Ok(());
            }
            self.put_rows(arriving, rows).await?;
        }
    }

    /// Some records; false if none is left.
    async fn copy_records(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        (cursor, ends): (&mut Cursor, &mut Ends),
    ) -> Result<bool> {
        // Opened before the turn is waited for, and not held meanwhile.
        drop(self.look(tenant).await?);
        let mut turn = self.turn(tenant).await?;
        let view = self.look(tenant).await?;
        let prefix = tenant.prefix();
        let from = keys::Collection { collection: cursor.collection }.encode(prefix);
        let all = keys::Collection::all(prefix);
        let collections = View::page(&view, Space::Data, &all, &from, COLLECTIONS_AT_ONCE).await?;
        let mut is_more = !collections.is_empty();
        let (mut rows, mut next) = (Rows::default(), *cursor);
        for (key, row) in collections {
            let collection = keys::Collection::decode(prefix, &key)
                .ok_or_else(|| Error::corrupt("a collection's key is unreadable"))?
                .collection;
            if collection > ends.collection {
                is_more = false;
                break;
            }
            if collection != next.collection {
                (next.collection, next.ordinal) = (collection, 0);
            }
            let row: DiskCollection = tenant.open_row(&key, &row)?;
            let has_ids = self.has_ids(tenant.placement());
            let reader = Reader::new(tenant, row, (collection, has_ids))?;
            self.copy_some(&view, (&reader, &mut turn), (&mut next, ends), &mut rows).await?;
            if next.collection == collection || rows.is_full() {
                break;
            }
        }
        drop((view, turn));
        self.put_rows(arriving, rows).await?;
        // There is none behind the last number that there can be.
        let is_last = next.collection == u32::MAX && next.ordinal == u64::MAX;
        *cursor = next;
        Ok(is_more && !is_last)
    }

    /// Some records of the collection that the cursor is in, which is in the next one after the
    /// last.
    async fn copy_some(
        &self,
        view: &B::Rows,
        (reader, turn): (&Reader<'_>, &mut Option<Turn>),
        (cursor, ends): (&mut Cursor, &mut Ends),
        rows: &mut Rows,
    ) -> Result<()> {
        let (prefix, collection) = (reader.tenant.prefix(), reader.collection);
        let end = match ends.ordinal {
            Some((of, end)) if of == collection => end,
            _ => {
                let key = keys::Statistics { collection, partition: PARTITION }.encode(prefix);
                let counts = view.get(Space::Data, &key).await?;
                let end = match counts {
                    Some(counts) => {
                        let row: DiskStatistics = reader.tenant.open_row(&key, &counts)?;
                        rows.put(key, counts);
                        row.into_statistics().next_ordinal
                    }
                    None => u64::MAX,
                };
                ends.ordinal = Some((collection, end));
                end
            }
        };
        let bodies = keys::bodies_of(prefix, collection, PARTITION);
        let (grain, bytes) = self.grain(view);
        let most = (grain.min(RECORDS_AT_ONCE), bytes.min(BYTES_AT_ONCE));
        let (last, mut rested) = (cursor.records + RECORDS_AT_ONCE as u64, Rested::now());
        while cursor.records < last && !rows.is_full() {
            let from = keys::Body { collection, partition: PARTITION, ordinal: cursor.ordinal };
            let page = if cursor.ordinal < end {
                self.page(view, &bodies, &from.encode(prefix), most).await?
            } else {
                Vec::new()
            };
            if page.is_empty() {
                (cursor.collection, cursor.ordinal) = match collection.checked_add(1) {
                    Some(following) => (following, 0),
                    None => (collection, u64::MAX),
                };
                return Ok(());
            }
            let mut page = page.into_iter().peekable();
            while page.peek().is_some() && !rows.is_full() {
                let some = page.by_ref().take((grain / RECORD_ROWS).max(1)).collect();
                for ordinal in reader.put(view, some, rows).await? {
                    cursor.records += 1;
                    cursor.ordinal = ordinal.saturating_add(1);
                }
                self.moves.pace.pass(turn, &mut rested).await;
            }
        }
        Ok(())
    }

    async fn copy_log(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        cursor: &mut Cursor,
    ) -> Result<bool> {
        let view = self.look(tenant).await?;
        let mut rows = Rows::default();
        let next = entries(&view, tenant, cursor.audit, &mut rows).await?;
        drop(view);
        self.put_rows(arriving, rows).await?;
        // The rest comes with the changes.
        let is_more = next - cursor.audit >= ENTRIES_AT_ONCE as u64;
        cursor.audit = next;
        Ok(is_more)
    }
}

/// Puts entries of the log after this one; the last one that it has put.
pub(super) async fn entries(
    view: &impl View,
    tenant: &OpenTenant,
    after: u64,
    rows: &mut Rows,
) -> Result<u64> {
    let prefix = tenant.prefix();
    let from = keys::Audit { sequence: after.saturating_add(1) }.encode(prefix);
    let all = keys::Audit::all(prefix);
    let mut last = after;
    for (key, value) in view.page(Space::Data, &all, &from, ENTRIES_AT_ONCE).await? {
        let entry = keys::Audit::decode(prefix, &key)
            .ok_or_else(|| Error::corrupt("a key of the audit log cannot be read"))?;
        if entry.sequence != last + 1 {
            return Err(Error::corrupt("an entry of the audit log is missing"));
        }
        last = entry.sequence;
        rows.put(key, value);
    }
    Ok(last)
}

/// Reads the records of one collection.
pub(super) struct Reader<'a> {
    tenant: &'a OpenTenant,
    collection: u32,
    vectors: Vec<u16>,
    /// False where an id is a part of its record: what it leads to is not asked for.
    has_ids: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        tenant: &'a OpenTenant,
        row: DiskCollection,
        (collection, has_ids): (u32, bool),
    ) -> Result<Self> {
        let info = row.into_info(CollectionNumber(collection))?;
        let vectors = info.fields().iter().map(|(number, ..)| *number).collect();
        Ok(Self { tenant, collection, vectors, has_ids })
    }

    pub(super) fn body_key(&self, ordinal: u64) -> Vec<u8> {
        keys::Body { collection: self.collection, partition: PARTITION, ordinal }
            .encode(self.tenant.prefix())
    }

    pub(super) fn vector_keys(&self, ordinal: u64) -> Vec<Vec<u8>> {
        let (collection, partition) = (self.collection, PARTITION);
        let key = |vector: &u16| {
            keys::Vector { collection, partition, vector: *vector, ordinal }
                .encode(self.tenant.prefix())
        };
        self.vectors.iter().map(key).collect()
    }

    /// The key of the id that a body repeats.
    pub(super) fn id_key(&self, body_key: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let body = Body::decode(&self.tenant.key().open(body_key, sealed)?)?;
        let id = Tail(body.id.as_bytes());
        Ok(keys::Id { collection: self.collection, partition: PARTITION, id }
            .encode(self.tenant.prefix()))
    }

    /// Puts all of some records, whose bodies these are; their ordinals.
    pub(super) async fn put(
        &self,
        view: &impl View,
        bodies: Vec<Pair>,
        rows: &mut Rows,
    ) -> Result<Vec<u64>> {
        let ordinals =
            bodies.iter().map(|(key, _)| self.ordinal(key)).collect::<Result<Vec<_>>>()?;
        let keys: Vec<_> = ordinals.iter().flat_map(|ordinal| self.vector_keys(*ordinal)).collect();
        for (key, value) in keys.iter().zip(view.many(Space::Data, &keys).await?) {
            if let Some(value) = value {
                rows.put(key.clone(), value);
            }
        }
        self.put_bodies(view, bodies, rows).await?;
        Ok(ordinals)
    }

    /// Puts bodies, and the ids that they repeat.
    pub(super) async fn put_bodies(
        &self,
        view: &impl View,
        bodies: Vec<Pair>,
        rows: &mut Rows,
    ) -> Result<()> {
        let id_key = |(key, body): &Pair| self.id_key(key, body);
        let ids = bodies.iter().map(id_key).collect::<Result<Vec<_>>>()?;
        let leads_to = if self.has_ids { view.many(Space::Data, &ids).await? } else { Vec::new() };
        let mut leads_to = leads_to.into_iter();
        for (id, (key, body)) in ids.into_iter().zip(bodies) {
            let ordinal = self.ordinal(&key)?;
            if self.has_ids
                && leads_to.next().flatten().as_deref().map(number).transpose()? != Some(ordinal)
            {
                return Err(Error::corrupt("an id does not lead to its record"));
            }
            rows.put(id, ordinal.to_be_bytes().to_vec());
            rows.put(key, body);
        }
        Ok(())
    }

    fn ordinal(&self, body_key: &[u8]) -> Result<u64> {
        let key = keys::Body::decode(self.tenant.prefix(), body_key);
        Ok(key.ok_or_else(|| Error::corrupt("a key of a record cannot be read"))?.ordinal)
    }
}
