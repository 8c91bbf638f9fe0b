//! Removing what was deleted: collections row by row, tenants after their key is destroyed.
//!
//! A deletion commits a note first and returns; the purger reads the notes, now and after a
//! restart, and removes each when its work is done.

use super::{
    Inner, Space, WriteSet, compute,
    files::Files,
    keys::{self, Decode as _, Prefix},
    opened::Db,
    slot::Slot,
};
use crate::pool::Others;
use crate::tenancy::{
    Backend as _,
    moving::{Carry as _, move_in},
    place::{Fresh, PlaceRow, Placement},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    thread::sleep,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, Result};
use tokio::sync::Notify;

/// Keys removed in one commit. More of them make others wait for the thread that commits.
const CHUNK: usize = 250;
/// Pieces of a tenant's events that are removed before it is another note's turn.
const EVENT_PIECES: usize = 8;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the purger waits for a step of whoever moves tenants.
const MOVER_PATIENCE: Duration = Duration::from_secs(2);
/// After each chunk others have the disk for so many times as long as it took, less if no request is
/// there, and no longer than this.
const BREATHS: u32 = 5;
const BREATHS_ALONE: u32 = 1;
const BREATH_MAX: Duration = Duration::from_millis(100);
/// The same while a chunk is looked for, each time after so long.
const BURST: Duration = Duration::from_micros(200);
const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

/// Starts the purger; it ends with the store.
pub(super) fn spawn(inner: &Arc<Inner>) {
    tokio::spawn(run(Arc::downgrade(inner), Arc::clone(&inner.purge)));
}

async fn run(weak: Weak<Inner>, woken: Arc<Notify>) {
    loop {
        let Some(inner) = weak.upgrade() else { return };
        if inner.lock.lock().is_none() {
            return;
        }
        let outcome = inner.purge_all().await;
        let closing = inner.disk.is_closing();
        drop(inner);
        match outcome {
            // Woken by a deletion or the end; looked after now and then all the same.
            Ok(()) => drop(tokio::time::timeout(LOOK_EVERY, woken.notified()).await),
            // A store that is closing takes no more commits; the notes wait for the next start.
            Err(_) if closing => return,
            Err(error) => {
                tracing::warn!(?error, "purge of deleted data; it will be tried again");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Rows to remove: whose, and of which kind.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub(super) placement: Placement,
    pub(super) space: Space,
}

const CATALOG: Rows =
    Rows { placement: Placement::shared(TenantId::INSTALLATION), space: Space::Catalog };

impl Inner {
    /// Does the work of every note there is. A note that fails does not keep the others waiting.
    async fn purge_all(self: &Arc<Self>) -> Result<()> {
        let mut outcome = self.purge_notes(CATALOG, INSTALLATION).await;
        let apart = std::mem::take(&mut *self.unpurged.lock());
        for id in apart {
            match self.purge_apart(id).await {
                Ok(()) => {}
                // It is looked at again when its place can be opened.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::warn!(?error, tenant = %id, "purge in a place that is damaged");
                }
                Err(error) => {
                    self.unpurged.lock().insert(id);
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// Does the work of the notes that stand with the data of a tenant that lives apart.
    async fn purge_apart(self: &Arc<Self>, id: TenantId) -> Result<()> {
        let Some(tenant) = self.tenancy.open_tenant(id).await? else { return Ok(()) };
        let placement = tenant.placement();
        if !placement.is_apart() || tenant.fresh() != Fresh::Made {
            return Ok(());
        }
        self.purge_notes(Rows { placement, space: Space::Data }, tenant.prefix()).await
    }

    async fn purge_notes(self: &Arc<Self>, rows: Rows, whose: Prefix) -> Result<()> {
        let all = keys::Purge::all(whose);
        let mut from = all.clone();
        let mut outcome = Ok(());
        loop {
            let db = self.data_at(rows.placement).await?;
            let note = db.scan(rows.space, &all, Some(&from)).next().transpose()?;
            drop(db);
            let Some((key, _)) = note else { return outcome };
            outcome = self.purge(rows, whose, key.to_vec()).await.and(outcome);
            from = key.to_vec();
            from.push(0);
        }
    }

    /// Does the work of one note, then removes it.
    async fn purge(self: &Arc<Self>, rows: Rows, whose: Prefix, key: Vec<u8>) -> Result<()> {
        let note = keys::Purge::decode(whose, &key)
            .ok_or_else(|| Error::corrupt("a note of the purger cannot be read"))?;
        let prefix = Prefix::of(TenantId::new(note.tenant));
        let data = Rows { space: Space::Data, ..rows };
        // Its row went in the commit that wrote the note. If it is there, the note is wrong.
        let (row, space) = if note.collection == 0 {
            (keys::Tenant {}.encode(prefix), Space::Catalog)
        } else {
            (keys::Collection { collection: note.collection }.encode(prefix), Space::Data)
        };
        if self.data_at(rows.placement).await?.get(space, &row)?.is_some() {
            return Err(Error::corrupt("a note asks to purge what lives"));
        }
        if note.collection == 0 {
            // First, and whatever becomes of its place: there may be millions, for which neither its
            // data nor other tenants wait.
            let id = prefix.tenant();
            let are_gone = self.purge_events(id).await?;
            if !are_gone {
                self.purge.notify_one();
            }
            // What it had beside them is not gone through for each part of them.
            if !self.emptied.lock().contains(&id) {
                if !self.purge_tenant(prefix).await? {
                    return Ok(());
                }
                self.forget_saved_tenant(id).await?;
            }
            if !are_gone {
                self.emptied.lock().insert(id);
                return Ok(());
            }
            self.emptied.lock().remove(&id);
        } else {
            for start in keys::records_of(prefix, note.collection) {
                self.remove_all(data, start).await?;
            }
            self.forget_saved(prefix.tenant(), vec![note.collection]).await?;
        }
        self.remove(rows, vec![key]).await
    }

    /// Removes some of what was reported of a tenant that is gone; true if that was all. Nobody
    /// reports anything of a tenant whose row is gone.
    pub(super) async fn purge_events(&self, id: TenantId) -> Result<bool> {
        self.remove_some(CATALOG, keys::events_of(INSTALLATION, id), EVENT_PIECES).await
    }

    /// Removes what is left of a tenant but its events; false if its place is still to be removed.
    async fn purge_tenant(self: &Arc<Self>, prefix: Prefix) -> Result<bool> {
        let (inner, id) = (Arc::clone(self), prefix.tenant());
        if !matches!(self.slots.read(id), Ok(Slot::Erased)) {
            compute(usize::MAX, move || inner.slots.erase(id)).await?;
        }
        // The tenant's keys are refused already, because their tenant is gone.
        let root = Rows { space: Space::Data, ..CATALOG };
        for rows in [root, CATALOG] {
            let mut listed_rows = Vec::new();
            for item in self.db()?.scan(rows.space, &keys::KeyOfTenant::all(prefix), None) {
                let (key, _) = item?;
                let listed = keys::KeyOfTenant::decode(prefix, &key);
                listed_rows
                    .extend(listed.map(|listed| keys::Key { id: listed.id }.encode(INSTALLATION)));
            }
            if !listed_rows.is_empty() {
                self.remove(CATALOG, listed_rows).await?;
            }
        }
        let _working = self.no_mover(id).await?;
        let moving = self.purge_move(id).await?;
        let place_key = keys::Place { tenant: id.get() }.encode(INSTALLATION);
        let place = self.db()?.get(Space::Catalog, &place_key)?;
        let place = place.map(|row| PlaceRow::decode(id, &row)).transpose()?;
        if let Some(PlaceRow { placement, fresh, .. }) = place
            && !self.tenancy.remove_place(placement, fresh == Fresh::Made).await?
        {
            return Ok(false);
        }
        for rows in [root, CATALOG] {
            self.remove_all(rows, prefix.everything()).await?;
        }
        self.remove_all(CATALOG, keys::told_of(INSTALLATION, id)).await?;
        let day = keys::EventDay { tenant: id.get() }.encode(INSTALLATION);
        let kept = keys::Kept { tenant: id.get() }.encode(INSTALLATION);
        for rows in [day, kept] {
            self.remove_all(CATALOG, rows).await?;
        }
        let mut set = self.set(CATALOG)?;
        if place.is_some() {
            let own = keys::OwnDatabase { tenant: id.get() }.encode(INSTALLATION);
            set.operations.extend([place_key, own].map(|key| (Space::Catalog, key, None)));
        }
        if moving.is_some() {
            let key = keys::Move { tenant: id.get() }.encode(INSTALLATION);
            set.operations.push((Space::Catalog, key, None));
        }
        let places = place.map(|row| row.placement);
        let places = places.into_iter().chain(moving.into_iter().flatten());
        let has_space = |place: &Placement| {
            place.isolation == Isolation::Schema && place.location == Location::Home
        };
        let schemas = places.filter(has_space);
        for space in schemas.map(|place| place.space).collect::<BTreeSet<_>>() {
            // In the same commit: a space is never given to two.
            let free = keys::FreeSpace { space }.encode(INSTALLATION);
            set.operations.push((Space::Catalog, free, Some(Vec::new())));
        }
        if !set.operations.is_empty() {
            self.disk.commit(set).await?;
        }
        Ok(true)
    }

    /// Keeps whoever moves tenants away if this one was ever moved: what he frees is not freed a
    /// second time. At his next step he finds that it is gone.
    async fn no_mover(&self, id: TenantId) -> Result<Option<tokio::sync::OwnedMutexGuard<()>>> {
        let installation = self.tenancy.installation().await?;
        if move_in(&self.db()?, &installation, id).await?.is_none() {
            return Ok(None);
        }
        let working =
            tokio::time::timeout(MOVER_PATIENCE, self.tenancy.moves.working(id).lock_owned()).await;
        let busy = |_| {
            Error::new(ErrorKind::Busy, "the tenant's places are being emptied already; try again")
        };
        working.map(Some).map_err(busy)
    }

    /// Empties the places of a move that was under way, and says which these are; `None` if the
    /// tenant was never moved.
    async fn purge_move(&self, id: TenantId) -> Result<Option<Vec<Placement>>> {
        let installation = self.tenancy.installation().await?;
        let Some(one) = move_in(&self.db()?, &installation, id).await? else { return Ok(None) };
        if one.phase.is_over() {
            return Ok(Some(Vec::new()));
        }
        for place in [one.to, one.from] {
            self.tenancy.empty(place).await?;
        }
        Ok(Some(vec![one.to, one.from]))
    }
}

impl Files {
    /// Removes all keys with this start, a chunk at a time.
    pub(super) async fn remove_all(&self, rows: Rows, start: Vec<u8>) -> Result<()> {
        self.remove_some(rows, start, usize::MAX).await.map(drop)
    }

    /// Removes so many chunks of keys with this start; true if these were all.
    async fn remove_some(&self, rows: Rows, start: Vec<u8>, chunks: usize) -> Result<bool> {
        let (mut from, mut others) = (start.clone(), Others::default());
        for _ in 0..chunks {
            let breaths = if others.are_there(&self.pool) { BREATHS } else { BREATHS_ALONE };
            let db = self.data_at(rows.placement).await?;
            let (start, next) = (start.clone(), from.clone());
            let begun = Instant::now();
            let look = move || chunk(&db, rows.space, &start, &next, breaths);
            let (keys, rested) = compute(usize::MAX, look).await?;
            let Some(last) = keys.last() else { return Ok(true) };
            from.clone_from(last);
            from.push(0);
            let is_last = keys.len() < CHUNK;
            self.remove(rows, keys).await?;
            if is_last {
                return Ok(true);
            }
            let worked = begun.elapsed().saturating_sub(rested);
            tokio::time::sleep((breaths * worked).min(BREATH_MAX).saturating_sub(rested)).await;
        }
        Ok(false)
    }

    /// Removes keys that nobody writes any more, so that it does not matter which generation they
    /// were found in.
    async fn remove(&self, rows: Rows, keys: Vec<Vec<u8>>) -> Result<()> {
        let mut set = self.set(rows)?;
        set.operations.extend(keys.into_iter().map(|key| (rows.space, key, None)));
        self.commit_at(set).await
    }

    fn set(&self, rows: Rows) -> Result<WriteSet> {
        Ok(WriteSet::new(rows.placement, self.disk.db(0)?.generation()))
    }
}

/// The next keys with this start, and how long others had the machine while they were looked for.
fn chunk(
    db: &Db,
    space: Space,
    start: &[u8],
    from: &[u8],
    breaths: u32,
) -> Result<(Vec<Vec<u8>>, Duration)> {
    let (mut keys, mut rested, mut since) = (Vec::new(), Duration::ZERO, Instant::now());
    for item in db.scan(space, start, Some(from)).take(CHUNK) {
        keys.push(item?.0.to_vec());
        let used = since.elapsed();
        if used >= BURST {
            let rest = (breaths * used).min(BREATH_MAX.saturating_sub(rested));
            sleep(rest);
            (rested, since) = (rested + rest, Instant::now());
        }
    }
    Ok((keys, rested))
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{inner, open},
        *,
    };

    const GONE: Prefix = Prefix::of(TenantId::new(77));

    #[tokio::test(flavor = "multi_thread")]
    async fn all_but_the_events_of_a_tenant_is_gone_through_once() {
        let (_dir, store) = open();
        let inner = inner(&store);
        // The purger ends, so that nobody else works.
        let _lock = inner.lock.lock().take();
        inner.purge.notify_one();
        tokio::time::sleep(Duration::from_millis(200)).await;

        let note = keys::Purge { tenant: 77, collection: 0 }.encode(INSTALLATION);
        let row = keys::Database { database: 1 }.encode(GONE);
        let event = |n: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&n.to_be_bytes());
            keys::Event { tenant: 77, week: 1, id }.encode(INSTALLATION)
        };
        let put = async |all: Vec<Vec<u8>>| {
            let mut set = inner.set(CATALOG).unwrap();
            let one = |key| (Space::Catalog, key, Some(Vec::new()));
            set.operations.extend(all.into_iter().map(one));
            inner.disk.commit(set).await.unwrap();
        };
        let counts = || {
            let db = inner.db().unwrap();
            let events = keys::events_of(INSTALLATION, GONE.tenant());
            let starts = [events, GONE.everything(), note.clone()];
            starts.map(|start| db.scan(Space::Catalog, &start, None).count())
        };
        put((0..5_000).map(event).chain([row.clone(), note.clone()]).collect()).await;
        for expect in [[3_000, 0, 1], [1_000, 1, 1], [0, 1, 0]] {
            inner.purge(CATALOG, INSTALLATION, note.clone()).await.unwrap();
            assert_eq!(counts(), expect);
            // Whoever went through it again would find this.
            put(vec![row.clone()]).await;
        }
        assert!(inner.emptied.lock().is_empty());
        store.close();
    }
}
