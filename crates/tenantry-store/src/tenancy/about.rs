//! A change of what the root knows about a tenant, and what its log says of it.
//!
//! A tenant that lives among others has its log beside the root's rows, so one commit has both. A
//! tenant apart is changed in the root alone, with numbered notes that its log takes over later,
//! each once ([`Tenancy::take_over`]): suspending must not wait for the tenant's own disk.

use super::{
    Backend, Space, Tenancy, View, WriteSet,
    backend::Scan,
    commit::Commit,
    disk::{self, DiskTenant, DiskTold, Head, Touched},
    keys::{self, Prefix},
    place::{PlaceRow, Placement},
    seal::Nonces,
    tenants::OpenTenant,
};
use crate::{AuditNote, Entropy, TenantInfo};
use std::time::Duration;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result, Timestamp};
use tokio::sync::MutexGuard;

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// Notes that one commit takes over.
const NOTES_AT_ONCE: usize = 1_000;
/// How long a change of the root waits for a write of a tenant apart that has begun before.
const PATIENCE: Duration = Duration::from_secs(2);

/// A change in the making.
pub(super) struct About<'a> {
    tenant: &'a OpenTenant,
    kind: Kind<'a>,
    now: Timestamp,
}

enum Kind<'a> {
    Together(Commit<'a>),
    Apart { set: WriteSet, row: PlaceRow, nonces: Nonces },
}

/// What is true of the tenant in memory when the change is committed.
pub(super) enum After {
    Head(Head),
    Told(u64),
}

impl After {
    pub(super) fn apply(self, tenant: &OpenTenant) {
        match self {
            Self::Head(head) => tenant.set_head(head),
            Self::Told(number) => tenant.set_told(number),
        }
    }
}

impl<'a> About<'a> {
    /// Of a tenant that is being made apart; nobody has its locks.
    pub(super) fn new_apart(tenant: &'a OpenTenant, entropy: &dyn Entropy, now: Timestamp) -> Self {
        let set = WriteSet::new(Placement::shared(TenantId::INSTALLATION), tenant.generation());
        let (row, nonces) = (tenant.place_row(), Nonces::draw(entropy));
        Self { tenant, kind: Kind::Apart { set, row, nonces }, now }
    }

    /// Puts a value of the root that says nothing without sealing it, or removes its key.
    pub(super) fn root(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match &mut self.kind {
            Kind::Together(commit) => match value {
                Some(value) => commit.put_clear(Space::Catalog, key, value),
                None => commit.remove(Space::Catalog, key),
            },
            Kind::Apart { set, .. } => set.operations.push((Space::Catalog, key, value)),
        }
    }

    /// Puts the tenant's row.
    pub(super) fn put_tenant(&mut self, info: &TenantInfo) {
        match &mut self.kind {
            Kind::Together(commit) => commit.put_tenant(info),
            Kind::Apart { set, nonces, .. } => {
                let key = keys::Tenant {}.encode(self.tenant.prefix());
                let row = disk::encode(&DiskTenant::from_info(info));
                let sealed = self.tenant.key().seal(&key, &row, true, nonces);
                set.operations.push((Space::Catalog, key, Some(sealed)));
            }
        }
    }

    /// Adds a key to the tenant's list of keys, or takes one off.
    pub(super) fn list_key(&mut self, id: [u8; 10], is_there: bool) {
        let key = keys::KeyOfTenant { id }.encode(self.tenant.prefix());
        let value = is_there.then(Vec::new);
        match &mut self.kind {
            Kind::Together(commit) => {
                let keys = commit.head.keys;
                commit.head.keys = if is_there { keys + 1 } else { keys.saturating_sub(1) };
                match value {
                    Some(value) => commit.put_clear(Space::Data, key, value),
                    None => commit.remove(Space::Data, key),
                }
            }
            Kind::Apart { set, .. } => set.operations.push((Space::Catalog, key, value)),
        }
    }

    /// What the log is to say.
    pub(super) fn tell(&mut self, note: AuditNote, touched: Option<Touched>) {
        match &mut self.kind {
            Kind::Together(commit) => {
                if let Some(touched) = touched {
                    commit.touch(touched);
                }
                commit.audit(note);
            }
            Kind::Apart { set, row, nonces } => {
                row.told += 1;
                let key = keys::Told { tenant: self.tenant.id().get(), number: row.told };
                let key = key.encode(INSTALLATION);
                let is_bound = self.tenant.origin().is_open();
                let note = disk::encode(&DiskTold::new(self.now, &note, touched, is_bound));
                let sealed = self.tenant.key().seal(&key, &note, true, nonces);
                set.operations.push((Space::Catalog, key, Some(sealed)));
            }
        }
    }

    /// What others remember of rights counts no more after it.
    pub(super) fn takes_right(&mut self) {
        match &mut self.kind {
            Kind::Together(commit) => commit.takes_right(),
            Kind::Apart { set, .. } => set.takes = true,
        }
    }

    /// What the tenant's changes are to say.
    pub(super) fn touch(&mut self, what: Touched) {
        if let Kind::Together(commit) = &mut self.kind {
            commit.touch(what);
        }
    }

    /// What must be committed, and what is true then.
    pub(super) fn finish(self) -> (WriteSet, After) {
        match self.kind {
            Kind::Together(commit) => {
                let (set, head) = commit.finish();
                (set, After::Head(head))
            }
            Kind::Apart { mut set, row, .. } => {
                let key = keys::Place { tenant: self.tenant.id().get() }.encode(INSTALLATION);
                set.operations.push((Space::Catalog, key, Some(row.encode())));
                (set, After::Told(row.told))
            }
        }
    }
}

/// The locks of whoever changes what the root knows about a tenant.
pub(super) struct Rooting<'t> {
    _rooting: MutexGuard<'t, ()>,
    _writing: Option<MutexGuard<'t, ()>>,
}

impl<B: Backend> Tenancy<B> {
    /// Waits for the right to change what the root knows about a tenant. Writes that began before
    /// have ended then, or hang in the disk of a tenant apart.
    pub(super) async fn rooting<'t>(&self, tenant: &'t OpenTenant) -> Result<Rooting<'t>> {
        let rooting = tenant.rooting.lock().await;
        let writing = if tenant.placement().is_apart() {
            tokio::time::timeout(PATIENCE, tenant.writer.lock()).await.ok()
        } else {
            Some(tenant.writer.lock().await)
        };
        tenant.check_alive()?;
        Ok(Rooting { _rooting: rooting, _writing: writing })
    }

    /// A change of what the root knows about a tenant, for whoever has [`Tenancy::rooting`].
    pub(super) fn about<'a>(&'a self, tenant: &'a OpenTenant) -> Result<About<'a>> {
        if tenant.placement().is_apart() {
            tenant.check_alive()?;
            return Ok(About::new_apart(tenant, &*self.entropy, self.now()));
        }
        Ok(About { tenant, kind: Kind::Together(self.begin(tenant)?), now: self.now() })
    }

    /// Appends to the log of a tenant apart what the root has told it, each note once: the number
    /// of the last one, which this gives, is in the counters, in the same commit. The tenant's
    /// writer lock is held and its place is open.
    pub(super) async fn take_over(&self, tenant: &OpenTenant, view: B::View) -> Result<u64> {
        let taken = tenant.head().map_or(0, |head| head.told);
        // Before the notes are read: all up to this one are there then, and a later one stays.
        let told = tenant.told();
        let notes = {
            let root = self.root(Some(&view)).await?;
            // Those that were taken over before a crash are only removed.
            let all = keys::told_of(INSTALLATION, tenant.id());
            let next = keys::Told { tenant: tenant.id().get(), number: taken.saturating_add(1) };
            let from = Some(next.encode(INSTALLATION));
            let mut scan = Scan::new(&root, Space::Catalog, all, from);
            let mut notes = Vec::new();
            while notes.len() < NOTES_AT_ONCE
                && let Some(note) = scan.next().await?
            {
                notes.push(note);
            }
            // Nobody waits for a change while holding a look at the root.
            notes
        };
        let are_all = notes.len() < NOTES_AT_ONCE;
        let mut commit = self.begin(tenant)?;
        for (key, sealed) in notes {
            let note = <keys::Told as keys::Decode>::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("a note for a log cannot be read"))?;
            let told: DiskTold = tenant.open_row(&key, &sealed)?;
            let (at, told, touched) = told.into_parts()?;
            commit.audit_at(at, told);
            if let Some(touched) = touched {
                commit.touch(touched);
            }
            commit.head.told = note.number;
        }
        if are_all {
            commit.head.told = commit.head.told.max(told);
        }
        let taken = commit.head.told;
        self.commit(tenant, view, commit).await?;
        // They say what was taken over, so they can go another time as well.
        if let Err(error) = self.forget_notes(tenant.id(), taken).await {
            tracing::warn!(?error, tenant = %tenant.id(), "remove notes that a log has taken over");
        }
        Ok(taken)
    }

    /// Removes notes up to this one, which were taken over. Nobody reads or writes them any more.
    async fn forget_notes(&self, tenant: TenantId, taken: u64) -> Result<()> {
        let root = self.root(None).await?;
        let placement = Placement::shared(TenantId::INSTALLATION);
        let mut set = WriteSet::new(placement, root.generation());
        let mut notes = Scan::new(&root, Space::Catalog, keys::told_of(INSTALLATION, tenant), None);
        while set.operations.len() < 2 * NOTES_AT_ONCE
            && let Some((key, _)) = notes.next().await?
        {
            let note = <keys::Told as keys::Decode>::decode(INSTALLATION, &key);
            if note.is_none_or(|note| note.number > taken) {
                break;
            }
            set.operations.push((Space::Catalog, key, None));
        }
        // Nobody waits for a change while holding a look at the root.
        drop(root);
        let view = self.change_root(&[]).await?;
        self.submit(view, set).await
    }
}
