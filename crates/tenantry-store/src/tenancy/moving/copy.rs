//! The copy from before the changes that are held: page by page, each from a view of its own, in
//! the order of ordinals. Records and rows are copied as they are sealed: what is authenticated
//! with them says nothing of a place.

use super::{Carry, carry::Role, row::Cursor};
use crate::tenancy::{
    Pair, Space, Tenancy, View, WriteSet,
    backend::Scan,
    catalog::PARTITION,
    disk::{Body, DiskCollection},
    keys::{self, Decode as _, Family, Tail},
    number,
    tenants::OpenTenant,
};
use std::{cmp::Ordering, collections::BTreeMap};
use tenantry_types::{CollectionNumber, Error, ErrorKind, Result};

/// Records read at once, and bytes of one commit.
const RECORDS_AT_ONCE: usize = 256;
const BYTES_AT_ONCE: usize = 256 << 10;
/// Rows of a log read at once.
const ENTRIES_AT_ONCE: usize = 512;

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

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BYTES_AT_ONCE
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.rows.iter().filter(|(_, (space, _))| *space == Space::Data).map(|(key, _)| key)
    }

    /// One commit, for whoever has a commit of his own to put it in.
    pub(super) fn into_operations(self) -> Vec<(Space, Vec<u8>, Option<Vec<u8>>)> {
        self.rows.into_iter().map(|(key, (space, value))| (space, key, value)).collect()
    }

    /// Commits of a bearable size in the order of keys. An id thus comes, and goes, no later than the
    /// record that it leads to; the catalog is never divided.
    pub(super) fn into_sets(self, arriving: &OpenTenant) -> Vec<WriteSet> {
        let new = || WriteSet::new(arriving.placement(), arriving.generation());
        let (mut sets, mut set, mut bytes) = (Vec::new(), new(), 0);
        for (key, (space, value)) in self.rows {
            let is_record = key.get(keys::PREFIX_BYTES - 1) >= Some(&(Family::Id as u8));
            if bytes >= BYTES_AT_ONCE && is_record {
                sets.push(std::mem::replace(&mut set, new()));
                bytes = 0;
            }
            bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            set.operations.push((space, key, value));
        }
        sets.push(set);
        sets.retain(|set| !set.operations.is_empty());
        sets
    }
}

/// The keys with one start whose values are not the same in two views.
pub(super) struct Differences<'a, V> {
    ours: Scan<'a, V>,
    theirs: Scan<'a, V>,
    next: [Option<Pair>; 2],
    is_begun: bool,
    /// Rows that were looked at, and the last of them.
    pub(super) seen: usize,
    pub(super) last: Vec<u8>,
}

impl<'a, V: View> Differences<'a, V> {
    pub(super) fn new(ours: &'a V, theirs: &'a V, start: &[u8], from: Option<&[u8]>) -> Self {
        let scan = |view| Scan::new(view, Space::Data, start.to_vec(), from.map(<[u8]>::to_vec));
        let (ours, theirs) = (scan(ours), scan(theirs));
        Self { ours, theirs, next: [None, None], is_begun: false, seen: 0, last: Vec::new() }
    }

    /// The next key, if one follows within so many rows, and our value; `None` if it is at an end or
    /// has seen so many.
    pub(super) async fn next(&mut self, rows: usize) -> Result<Option<(Vec<u8>, Option<Vec<u8>>)>> {
        if !self.is_begun {
            self.next = [self.ours.next().await?, self.theirs.next().await?];
            self.is_begun = true;
        }
        while self.seen < rows {
            let order = match &self.next {
                [None, None] => return Ok(None),
                [Some(_), None] => Ordering::Less,
                [None, Some(_)] => Ordering::Greater,
                [Some((ours, _)), Some((theirs, _))] => ours.cmp(theirs),
            };
            self.seen += 1;
            let mut ours = None;
            if order != Ordering::Greater {
                ours = std::mem::replace(&mut self.next[0], self.ours.next().await?);
            }
            let mut theirs = None;
            if order != Ordering::Less {
                theirs = std::mem::replace(&mut self.next[1], self.theirs.next().await?);
            }
            if let Some((key, _)) = ours.as_ref().or(theirs.as_ref()) {
                self.last.clone_from(key);
            }
            if ours != theirs {
                let key = self.last.clone();
                return Ok(Some((key, ours.map(|(_, value)| value))));
            }
        }
        Ok(None)
    }
}

impl<B: Carry> Tenancy<B> {
    /// Commits rows at the destination.
    pub(super) async fn put_rows(&self, arriving: &OpenTenant, rows: Rows) -> Result<()> {
        for set in rows.into_sets(arriving) {
            self.put(set).await?;
        }
        Ok(())
    }

    /// One step of the copy; false if nothing is left. What it has done is in the cursor.
    pub(super) async fn copy(
        &self,
        tenant: &OpenTenant,
        arriving: &OpenTenant,
        cursor: &mut Cursor,
    ) -> Result<bool> {
        if !cursor.catalog {
            self.copy_catalog(tenant, arriving).await?;
            self.copy_changes(tenant, arriving).await?;
            cursor.catalog = true;
            return Ok(true);
        }
        if self.copy_records(tenant, arriving, cursor).await? {
            return Ok(true);
        }
        self.copy_log(tenant, arriving, cursor).await
    }

    /// Databases and collections, from one view: names and what they name belong together.
    async fn copy_catalog(&self, tenant: &OpenTenant, arriving: &OpenTenant) -> Result<()> {
        let view = self.view(tenant).await?;
        let there = self.look(arriving.placement()).await?;
        for family in Family::of(Role::Unused) {
            let start = tenant.prefix().family(family);
            if !view.page(Space::Data, &start, &start, 1).await?.is_empty() {
                let message = format!("rows of the family {family:?} cannot be moved yet");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        }
        let mut rows = Rows::default();
        for family in Family::of(Role::Catalog) {
            let start = tenant.prefix().family(family);
            let mut differences = Differences::new(&view, &there, &start, None);
            while let Some((key, value)) = differences.next(usize::MAX).await? {
                rows.set(Space::Data, key, value);
            }
        }
        self.put_rows(arriving, rows).await
    }

    /// The changes from before those that are held: history goes on at the destination.
    async fn copy_changes(&self, tenant: &OpenTenant, arriving: &OpenTenant) -> Result<()> {
        let end = tenant.head().and_then(|head| head.hold).unwrap_or(0);
        let end = keys::Change { sequence: end }.encode(tenant.prefix());
        let start = keys::Change::all(tenant.prefix());
        let mut from = start.clone();
        loop {
            let page = self.view(tenant).await?.page(Space::Data, &start, &from, 64).await?;
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

    async fn copy_records(
        &self,
        tenant: &OpenTenant,
        arriving: &OpenTenant,
        cursor: &mut Cursor,
    ) -> Result<bool> {
        let view = self.view(tenant).await?;
        let prefix = tenant.prefix();
        let from = keys::Collection { collection: cursor.collection }.encode(prefix);
        let all = keys::Collection::all(prefix);
        let Some((key, row)) = view.page(Space::Data, &all, &from, 1).await?.pop() else {
            return Ok(false);
        };
        let collection = keys::Collection::decode(prefix, &key)
            .ok_or_else(|| Error::corrupt("a collection's key is unreadable"))?
            .collection;
        if collection != cursor.collection {
            (cursor.collection, cursor.ordinal) = (collection, 0);
        }
        let row: DiskCollection = tenant.open_row(&key, &row)?;
        let reader = Reader::new(tenant, row, collection)?;
        let mut rows = Rows::default();
        if cursor.ordinal == 0 {
            let key = keys::Statistics { collection, partition: PARTITION }.encode(prefix);
            if let Some(value) = view.get(Space::Data, &key).await? {
                rows.put(key, value);
            }
        }
        let bodies = keys::bodies_of(prefix, collection, PARTITION);
        let from = keys::Body { collection, partition: PARTITION, ordinal: cursor.ordinal };
        let page = view.page(Space::Data, &bodies, &from.encode(prefix), RECORDS_AT_ONCE).await?;
        let is_last = page.len() < RECORDS_AT_ONCE;
        let (mut next, mut copied, mut is_whole) = (cursor.ordinal, 0, true);
        for (key, body) in page {
            if rows.is_full() {
                is_whole = false;
                break;
            }
            next = reader.put(&view, key, body, &mut rows).await? + 1;
            copied += 1;
        }
        drop(view);
        self.put_rows(arriving, rows).await?;
        cursor.records += copied;
        (cursor.collection, cursor.ordinal) = match (is_last && is_whole, collection.checked_add(1))
        {
            (false, _) => (collection, next),
            (true, Some(following)) => (following, 0),
            (true, None) => return Ok(false),
        };
        Ok(true)
    }

    async fn copy_log(
        &self,
        tenant: &OpenTenant,
        arriving: &OpenTenant,
        cursor: &mut Cursor,
    ) -> Result<bool> {
        let view = self.view(tenant).await?;
        let mut rows = Rows::default();
        let next = entries(&view, tenant, cursor.audit, &mut rows).await?;
        drop(view);
        self.put_rows(arriving, rows).await?;
        let is_more = next > cursor.audit;
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
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        tenant: &'a OpenTenant,
        row: DiskCollection,
        collection: u32,
    ) -> Result<Self> {
        let info = row.into_info(CollectionNumber(collection))?;
        let vectors = info.fields().iter().map(|(number, ..)| *number).collect();
        Ok(Self { tenant, collection, vectors })
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

    /// Puts all of one record; its ordinal.
    pub(super) async fn put(
        &self,
        view: &impl View,
        key: Vec<u8>,
        body: Vec<u8>,
        rows: &mut Rows,
    ) -> Result<u64> {
        let ordinal = keys::Body::decode(self.tenant.prefix(), &key)
            .ok_or_else(|| Error::corrupt("a key of a record cannot be read"))?
            .ordinal;
        let id_key = self.id_key(&key, &body)?;
        let leads_to = view.get(Space::Data, &id_key).await?;
        let Some(value) = leads_to else {
            return Err(Error::corrupt("no id leads to a record"));
        };
        if number(&value)? != ordinal {
            return Err(Error::corrupt("an id leads to another record"));
        }
        let vectors = self.vector_keys(ordinal);
        let values = view.many(Space::Data, &vectors).await?;
        for (key, value) in vectors.into_iter().zip(values) {
            if let Some(value) = value {
                rows.put(key, value);
            }
        }
        rows.put(id_key, value);
        rows.put(key, body);
        Ok(ordinal)
    }
}
