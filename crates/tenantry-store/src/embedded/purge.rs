//! Removing what was deleted: collections row by row, tenants after their key is destroyed.
//!
//! A deletion commits a note first and returns; the purger reads the notes, now and after a
//! restart, and removes each when its work is done.

use super::{
    Inner, Space, WriteSet, compute,
    db::Db,
    keys::{self, Decode as _, Prefix},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use tokio::sync::Notify;

/// Keys removed in one commit.
const CHUNK: usize = 2_000;
const LOOK_EVERY: Duration = Duration::from_secs(5);
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

impl Inner {
    /// Does the work of every note there is. A note that fails does not keep the others waiting.
    async fn purge_all(self: &Arc<Self>) -> Result<()> {
        let all = keys::Purge::all(INSTALLATION);
        let mut from = all.clone();
        let mut outcome = Ok(());
        loop {
            let db = self.db()?;
            let note = db.scan(Space::Catalog, &all, Some(&from)).next().transpose()?;
            drop(db);
            let Some((key, _)) = note else { return outcome };
            outcome = self.purge(key.to_vec()).await.and(outcome);
            from = key.to_vec();
            from.push(0);
        }
    }

    /// Does the work of one note, then removes it.
    async fn purge(self: &Arc<Self>, key: Vec<u8>) -> Result<()> {
        let note = keys::Purge::decode(INSTALLATION, &key)
            .ok_or_else(|| Error::corrupt("a note of the purger cannot be read"))?;
        let prefix = Prefix::of(TenantId::new(note.tenant));
        let db = self.db()?;
        // Its row went in the commit that wrote the note. If it is there, the note is wrong.
        let (space, row) = if note.collection == 0 {
            (Space::Catalog, keys::Tenant {}.encode(prefix))
        } else {
            (Space::Data, keys::Collection { collection: note.collection }.encode(prefix))
        };
        if db.get(space, &row)?.is_some() {
            return Err(Error::corrupt("a note asks to purge what lives"));
        }
        drop(db);
        if note.collection == 0 {
            self.purge_tenant(prefix).await?;
            self.forget_saved_tenant(prefix.tenant()).await?;
        } else {
            for start in keys::records_of(prefix, note.collection) {
                self.remove_all(Space::Data, start).await?;
            }
            self.forget_saved(prefix.tenant(), vec![note.collection]).await?;
        }
        self.remove(Space::Catalog, vec![key]).await
    }

    async fn purge_tenant(self: &Arc<Self>, prefix: Prefix) -> Result<()> {
        let (inner, id) = (Arc::clone(self), prefix.tenant());
        compute(usize::MAX, move || inner.slots.erase(id)).await?;
        // The tenant's keys are refused already, because their tenant is gone.
        let mut rows = Vec::new();
        for item in self.db()?.scan(Space::Data, &keys::KeyOfTenant::all(prefix), None) {
            let (key, _) = item?;
            let listed = keys::KeyOfTenant::decode(prefix, &key);
            rows.extend(listed.map(|listed| keys::Key { id: listed.id }.encode(INSTALLATION)));
        }
        self.remove(Space::Catalog, rows).await?;
        for space in [Space::Catalog, Space::Data] {
            self.remove_all(space, prefix.everything()).await?;
        }
        Ok(())
    }

    /// Removes all keys with this start, a chunk at a time.
    async fn remove_all(self: &Arc<Self>, space: Space, start: Vec<u8>) -> Result<()> {
        let mut from = start.clone();
        loop {
            let (db, start, next) = (self.db()?, start.clone(), from.clone());
            let keys = compute(usize::MAX, move || chunk(&db, space, &start, &next)).await?;
            let Some(last) = keys.last() else { return Ok(()) };
            from.clone_from(last);
            from.push(0);
            self.remove(space, keys).await?;
        }
    }

    /// Removes keys that nobody writes any more, so that it does not matter which generation they
    /// were found in.
    async fn remove(&self, space: Space, keys: Vec<Vec<u8>>) -> Result<()> {
        let mut set = WriteSet::new(self.db()?.generation());
        set.operations.extend(keys.into_iter().map(|key| (space, key, None)));
        self.disk.commit(set).await
    }
}

fn chunk(db: &Db, space: Space, start: &[u8], from: &[u8]) -> Result<Vec<Vec<u8>>> {
    db.scan(space, start, Some(from))
        .take(CHUNK)
        .map(|item| item.map(|(key, _)| key.to_vec()))
        .collect()
}
