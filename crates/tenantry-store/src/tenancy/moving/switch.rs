//! The pause: the last changes are replayed while nobody writes, and one commit of the root says
//! that the tenant lives elsewhere.

use super::{
    Carry,
    mark::{about, move_in, put_move},
    row::{Move, Phase},
    run::Mover,
    said,
};
use crate::{
    TenantInfo,
    tenancy::{
        Space, Tenancy,
        backend::Scan,
        disk::{self, DiskTenant, Head, Touched},
        done,
        keys::{self, Prefix},
        place::{Fresh, PlaceRow, Placement},
        seal::Nonces,
        slot::Slot,
        tenants::{Commit, OpenTenant},
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// How long a write that has begun before is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether the fate of the commit that decides is known.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A place that takes no commits, unless its tenant has left it or nobody knows.
struct Closed<'a, B: Carry> {
    tenancy: &'a Tenancy<B>,
    place: Placement,
    stays: bool,
}

impl<B: Carry> Drop for Closed<'_, B> {
    fn drop(&mut self) {
        if !self.stays {
            self.tenancy.reopen(self.place);
        }
    }
}

impl<B: Carry> Tenancy<B> {
    /// Moves the tenant, if nobody has cancelled that.
    pub(super) async fn switch(&self, mover: &mut Mover, one: &Move) -> Result<()> {
        let tenant = self.source(one).await?;
        let _rooting = tenant.rooting.lock().await;
        let waited = tokio::time::timeout(PATIENCE, self.writer(&tenant)).await;
        let Ok(writing) = waited else {
            return Err(Error::new(ErrorKind::Busy, "a write of the tenant takes long"));
        };
        let (_writing, view) = writing?;
        let begun = Instant::now();
        self.close(one.from);
        let mut closed = Closed { tenancy: self, place: one.from, stays: false };
        said("closed");
        let outcome = self.decide(&tenant, view, mover, one, &mut closed.stays).await;
        mover.pause = mover.pause.max(begun.elapsed());
        drop(closed);
        outcome
    }

    async fn decide(
        &self,
        tenant: &OpenTenant,
        view: B::View,
        mover: &mut Mover,
        one: &Move,
        stays: &mut bool,
    ) -> Result<()> {
        let head = tenant.head().ok_or_else(|| Error::internal("the place was not opened"))?;
        if head.hold.is_none() {
            return Err(Error::new(ErrorKind::Conflict, "the changes are not held any more"));
        }
        let arriving = self.arriving(tenant, one.to).await?;
        let head = self.last(tenant, &view, &arriving, mover, (one, head)).await?;
        drop(view);
        said("replayed");
        let installation = self.installation().await?;
        let logging = installation.writer.lock().await;
        let root = self.change_root(&[tenant, &installation]).await?;
        let now = move_in(&root, &installation, one.tenant()).await?;
        let Some(mut now) = now.filter(|now| now.phase == Phase::Begun) else { return Ok(()) };
        tenant.check_alive()?;
        now.phase = Phase::Leaving;
        now.cursor = mover.cursor;
        now.pause = mover.pause;
        let info = arriving.info();
        let mut log = self.begin(&installation)?;
        put_move(&mut log, &now);
        self.put_flip(&mut log, (tenant, &info), one, head.told);
        self.put_keys(&root, &mut log, tenant, one).await?;
        log.audit(about(&one.actor, "tenant.move.done", &info.name, one));
        let (mut set, log_head) = log.finish();
        set.generation = set.generation.min(tenant.generation()).min(arriving.generation());
        said("flip");
        // From here on nobody knows where the tenant lives until the commit is answered.
        *stays = true;
        if let Err(error) = self.submit(root, set).await {
            drop(logging);
            if !self.is_flipped(one.tenant()).await? {
                *stays = false;
                return Err(error);
            }
        } else {
            installation.set_head(log_head);
        }
        said("flipped");
        self.exchange(tenant, one, head).await
    }

    /// The last changes and the counters, in one commit at the destination. Then nothing may differ.
    async fn last(
        &self,
        tenant: &OpenTenant,
        view: &B::View,
        arriving: &OpenTenant,
        mover: &mut Mover,
        (one, head): (&Move, Head),
    ) -> Result<Head> {
        let rows = self.rest(tenant, view, arriving, mover, &head).await?;
        let mut head = Head { stay: one.to.stay, hold: None, ..head };
        if !one.to.is_apart() {
            let listed = self.listed(tenant, &self.root(Some(view)).await?).await?.len();
            head.keys = u32::try_from(listed).unwrap_or(u32::MAX);
        }
        let mut commit = Commit::new(arriving, head, &*self.entropy, self.now());
        for (space, key, value) in rows.into_operations() {
            match value {
                // As they are sealed already.
                Some(value) => commit.put_clear(space, key, value),
                None => commit.remove(space, key),
            }
        }
        commit.touch(Touched::Tenant);
        commit.audit(done(&one.actor, "tenant.move", &one.words(), 1));
        let (set, head) = commit.finish();
        said("last");
        self.put(set).await?;
        self.must_be_same(tenant, view, arriving, mover).await?;
        Ok(head)
    }

    /// Where the tenant lives, as the root says it.
    fn put_flip(
        &self,
        log: &mut Commit<'_>,
        (tenant, info): (&OpenTenant, &TenantInfo),
        one: &Move,
        told: u64,
    ) {
        let key = keys::Tenant {}.encode(tenant.prefix());
        let row = disk::encode(&DiskTenant::from_info(info));
        let mut nonces = Nonces::draw(&*self.entropy);
        let sealed = tenant.key().seal(&key, &row, true, &mut nonces);
        log.put_clear(Space::Catalog, key, sealed);
        let key = keys::Place { tenant: one.tenant().get() }.encode(INSTALLATION);
        if one.to.is_apart() {
            let row = PlaceRow { placement: one.to, fresh: Fresh::Made, told };
            log.put_clear(Space::Catalog, key, row.encode());
        } else {
            log.remove(Space::Catalog, key);
        }
    }

    /// The list of keys is beside the data of a tenant that lives in the root, and otherwise with
    /// what the root knows.
    async fn put_keys(
        &self,
        root: &B::View,
        log: &mut Commit<'_>,
        tenant: &OpenTenant,
        one: &Move,
    ) -> Result<()> {
        if one.from.is_apart() == one.to.is_apart() {
            return Ok(());
        }
        let (old, new) = if one.to.is_apart() {
            (Space::Data, Space::Catalog)
        } else {
            (Space::Catalog, Space::Data)
        };
        for key in self.listed(tenant, root).await? {
            log.remove(old, key.clone());
            log.put_clear(new, key, Vec::new());
        }
        Ok(())
    }

    /// The keys of the rows that list a tenant's keys.
    async fn listed(&self, tenant: &OpenTenant, root: &B::View) -> Result<Vec<Vec<u8>>> {
        let space = if tenant.placement().is_apart() { Space::Catalog } else { Space::Data };
        let mut rows = Scan::new(root, space, keys::KeyOfTenant::all(tenant.prefix()), None);
        let mut found = Vec::new();
        while let Some((key, _)) = rows.next().await? {
            found.push(key);
        }
        Ok(found)
    }

    /// Whether the commit that decides was done, once that is known: until then neither place may
    /// be written to.
    async fn is_flipped(&self, tenant: TenantId) -> Result<bool> {
        loop {
            if self.is_closing() {
                return Err(Error::new(ErrorKind::Unavailable, "the store is closing"));
            }
            if self.is_decided() {
                let installation = self.installation().await?;
                let found = move_in(&self.root(None).await?, &installation, tenant).await?;
                return Ok(found.is_some_and(|one| one.phase == Phase::Leaving));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whoever opens the tenant from now on finds it in its new place, and whoever has opened it
    /// before is told so.
    async fn exchange(&self, tenant: &OpenTenant, one: &Move, head: Head) -> Result<()> {
        self.left(one.from);
        let opened = self.open_anew(one.tenant(), head).await;
        match opened {
            Ok(Some(new)) => self.tenants.exchange(Arc::new(new)),
            outcome => {
                if let Err(error) = outcome {
                    tracing::warn!(?error, tenant = %one.tenant(), "open a tenant that was moved");
                }
                self.tenants.forget(one.tenant());
            }
        }
        tenant.mark_moved();
        said("exchanged");
        self.place_opened(one.to).await
    }

    async fn open_anew(&self, id: TenantId, head: Head) -> Result<Option<OpenTenant>> {
        let root = self.root(None).await?;
        let Slot::Live(key) = self.slot(&root, id).await? else { return Ok(None) };
        let Some(new) = OpenTenant::load(&root, id, key).await? else { return Ok(None) };
        if !new.is_counted() {
            new.set_head(head);
        }
        Ok(Some(new))
    }
}
