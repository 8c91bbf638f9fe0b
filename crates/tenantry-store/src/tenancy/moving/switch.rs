//! The pause: the last changes are replayed while nobody writes, and one commit of the root says
//! that the tenant lives elsewhere.

use super::{
    Carry,
    mark::{about, check_mover, move_in, put_move},
    replay::late,
    row::{Move, Phase},
    run::Mover,
    said,
};
use crate::{
    TenantInfo,
    tenancy::{
        Space, Tenancy,
        backend::Scan,
        commit::Commit,
        disk::{self, DiskTenant, Head, Touched},
        done,
        keys::{self, Prefix},
        place::{Fresh, PlaceRow, Placement},
        plans,
        seal::Nonces,
        slot::Slot,
        tenants::OpenTenant,
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tenantry_auth::{Author, TenantId};
use tenantry_types::{Error, ErrorKind, EventKind, Fact, Result};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// How long a write that has begun before is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long writes may wait until everything is copied and compared. After a few attempts for which
/// that was not enough each doubles it, up to less than requests are patient.
const PAUSE: Duration = Duration::from_millis(40);
const PAUSE_MAX: Duration = Duration::from_secs(2);
const SHORT_ATTEMPTS: u32 = 3;

/// What was committed in less time than this is replayed in the pause.
const SHORT: Duration = Duration::from_millis(10);

/// How often it is looked whether the fate of the commit that decides is known.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl<B: Carry> Tenancy<B> {
    /// Moves the tenant, if nobody has cancelled that; false if writes would have to wait for too
    /// long.
    pub(super) async fn switch(self: &Arc<Self>, mover: &mut Mover, one: &Move) -> Result<bool> {
        let tenant = self.source(one).await?;
        let arriving = self.arriving(&tenant, one.to).await?;
        let begun = Instant::now();
        self.calm(&arriving).await?;
        if begun.elapsed() > SHORT {
            // Not in the pause.
            self.round(&tenant, &arriving, mover).await?;
        }
        {
            // Two at once are asked in the pause, and a connection takes long to make.
            let (one, other) = (self.look(&tenant).await?, self.look(&tenant).await?);
            tokio::try_join!(tenant.read_head(&one), tenant.read_head(&other))?;
        }
        let (outcome, stays) = {
            let _rooting = tenant.rooting.lock().await;
            let (_writing, view) = match tokio::time::timeout(PATIENCE, self.writer(&tenant)).await
            {
                Ok(Err(error)) if error.kind() != ErrorKind::Busy => return Err(error),
                Ok(Ok(writing)) => writing,
                Ok(Err(_)) | Err(_) => {
                    mover.attempts += 1;
                    return if mover.is_vain() { Ok(false) } else { Err(slow()) };
                }
            };
            let begun = Instant::now();
            let doubled = mover.attempts.saturating_sub(SHORT_ATTEMPTS).min(8);
            let until = begun + PAUSE.saturating_mul(1 << doubled).min(PAUSE_MAX);
            let mut stays = false;
            let mut outcome = match self.close(&tenant, view).await {
                Ok(()) => {
                    said("closed");
                    self.decide(&tenant, (mover, until), one, &mut stays).await
                }
                Err(error) => Err(error),
            };
            if !stays && let Err(error) = self.reopen(one.from).await {
                (outcome, stays) = (outcome.and(Err(error)), true);
            }
            let pause = begun.elapsed();
            self.moves.paused(pause);
            mover.pause = mover.pause.max(pause);
            (outcome, stays)
        };
        if stays
            && outcome.is_ok()
            && let Err(error) = self.place_opened(one.to).await
        {
            tracing::warn!(?error, tenant = %one.tenant(), "look for what is to be purged");
        }
        mover.attempts += 1;
        match outcome {
            Err(error) if !stays && error.kind() == ErrorKind::Busy => Ok(false),
            Err(error) if stays => {
                // Without the locks: whoever waits for them is told to try again.
                self.settle_soon(one);
                Err(error)
            }
            outcome => outcome.map(|()| true),
        }
    }

    async fn decide(
        &self,
        tenant: &Arc<OpenTenant>,
        (mover, until): (&mut Mover, Instant),
        one: &Move,
        stays: &mut bool,
    ) -> Result<()> {
        let head = tenant.head().ok_or_else(|| Error::internal("the place was not opened"))?;
        if head.hold.is_none() {
            return Err(super::not_held());
        }
        let arriving = self.arriving(tenant, one.to).await?;
        let head = self.last(tenant, &arriving, (mover, until), (one, head)).await?;
        said("replayed");
        let installation = self.installation().await?;
        // Others change the root too, and the tenant's writes wait meanwhile.
        let logging = tokio::time::timeout_at(until.into(), installation.writer.lock()).await;
        let _logging = logging.map_err(|_| late())?;
        let root = self.deciding(tenant, &installation).await?;
        let now = move_in(&root, &installation, one.tenant()).await?;
        let Some(mut now) = now.filter(|now| now.phase == Phase::Begun) else { return Ok(()) };
        tenant.check_alive()?;
        check_mover(&now, self.signature()?)?;
        if let Some(plan) = &tenant.info().plan {
            // The plan may say something else by now. Trying again would not help.
            let place = (one.to.isolation, one.to.location);
            let may = plans::require_place(&root, &installation, plan, place).await;
            may.map_err(|why| match why.kind() {
                ErrorKind::Conflict => Error::invalid(why.public_message().to_owned()),
                _ => why,
            })?;
        }
        // Its log may have been told more since.
        let told = head.told.max(tenant.told());
        if told > head.told && !one.to.is_apart() {
            return Err(late());
        }
        now.phase = Phase::Leaving;
        now.cursor = mover.cursor;
        now.pause = mover.pause;
        // As it is now: it may have been renamed or suspended since.
        let (isolation, location) = (one.to.isolation, one.to.location);
        let info = TenantInfo { isolation, location, ..(*tenant.info()).clone() };
        let mut log = self.begin(&installation)?;
        put_move(&mut log, &now);
        self.put_flip(&mut log, (tenant, &info), one, told);
        self.put_keys(&root, &mut log, tenant, one).await?;
        log.audit(about(Author::work(&one.actor), "tenant.move.done", info.name.as_str(), one));
        let (kind, whose) = (EventKind::TenantMoved, (info.id, &info.name));
        self.tell_of((&root, &installation), &mut log, kind, whose, places(one)).await?;
        let (mut set, log_head) = log.finish();
        set.generation = set.generation.min(tenant.generation()).min(arriving.generation());
        said("flip");
        // From here on nobody knows where the tenant lives until the commit is answered.
        *stays = true;
        self.submit(root, set).await?;
        installation.set_head(log_head);
        said("flipped");
        self.exchange(tenant, (one.from, one.to)).await;
        Ok(())
    }

    /// Nobody knows whether the commit that decides was done. As soon as it is known, the tenant
    /// may be written to again, whatever the mover does meanwhile.
    fn settle_soon(self: &Arc<Self>, one: &Move) {
        let attempt = self.moves.attempts.fetch_add(1, Ordering::Relaxed);
        self.moves.unknown.lock().insert(one.tenant(), attempt);
        let (tenancy, id, from) = (Arc::downgrade(self), one.tenant(), one.from);
        tokio::spawn(async move {
            while let Some(tenancy) = tenancy.upgrade() {
                let settled = tenancy.settle_flip(id, from, attempt).await;
                if settled.is_ok() || tenancy.is_closing() {
                    return;
                }
                drop(tenancy);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// Lets a tenant be written to again if it is known whether the commit that decides was done.
    /// Until then neither place may be written to.
    async fn settle_flip(&self, id: TenantId, from: Placement, attempt: u64) -> Result<()> {
        if !self.is_decided() {
            return Err(unknown());
        }
        // Only now: before, it may be read from what was there before. Whoever commits to the root
        // is waited for.
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let found = move_in(&self.change(&installation).await?, &installation, id).await?;
        let is_flipped = |one: &Move| matches!(one.phase, Phase::Leaving | Phase::Done);
        let is_ours = || self.moves.unknown.lock().get(&id) == Some(&attempt);
        if !is_ours() {
            return Ok(());
        }
        match found {
            Some(one) if !is_flipped(&one) => {
                // Another process that has taken it over has opened it, or will.
                if one.by == self.mover() {
                    self.reopen(from).await?;
                }
            }
            found => {
                let to = found.map_or(from, |one| one.to);
                self.left(from, to).await;
                self.tenants.forget(id);
            }
        }
        if is_ours() {
            self.moves.unknown.lock().remove(&id);
        }
        Ok(())
    }

    /// Fails for as long as nobody knows where the tenant lives.
    pub(super) fn check_known(&self, id: TenantId) -> Result<()> {
        if self.moves.unknown.lock().contains_key(&id) { Err(unknown()) } else { Ok(()) }
    }

    /// The last changes and the counters, in one commit at the destination. Then nothing may differ.
    async fn last(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        (mover, until): (&mut Mover, Instant),
        (one, head): (&Move, Head),
    ) -> Result<Head> {
        let view = self.look(tenant).await?;
        let rows = self.rest(tenant, &view, arriving, (mover, until), &head).await?;
        self.moves.copied(rows.bytes());
        let mut head = Head { stay: one.to.stay, hold: None, ..head };
        if !one.to.is_apart() {
            let listed = self.listed(tenant, &self.root(None).await?).await?.len();
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
        commit.audit(done(Author::work(&one.actor), "tenant.move", &one.words_for_tenant(), 1));
        let (set, head) = commit.finish();
        said("last");
        self.put(arriving, set).await?;
        self.must_be_same(tenant, &view, arriving, (mover, until)).await?;
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

    /// Whoever opens the tenant from now on finds it in its new place, and whoever has opened it
    /// before is told so.
    async fn exchange(&self, old: &Arc<OpenTenant>, (from, to): (Placement, Placement)) {
        self.left(from, to).await;
        match self.open_anew(old.id()).await {
            Ok(Some(new)) => self.tenants.exchange(old, new),
            outcome => {
                if let Err(error) = outcome {
                    tracing::warn!(?error, tenant = %old.id(), "open a tenant that was moved");
                }
                self.tenants.forget(old.id());
            }
        }
        old.mark_moved();
        said("exchanged");
    }

    /// The tenant as the root says it now, with the counters of its place, which was just made.
    async fn open_anew(&self, id: TenantId) -> Result<Option<Arc<OpenTenant>>> {
        let root = self.root(None).await?;
        let Slot::Live(key) = self.slot(&root, id).await? else { return Ok(None) };
        let origin = self.origin(&root, id).await?;
        let new = OpenTenant::load(&root, id, (key, origin)).await?;
        drop(root);
        let new = new.map(Arc::new);
        if let Some(new) = new.as_ref().filter(|new| !new.is_counted()) {
            new.load_head(&self.look(new).await?).await?;
        }
        Ok(new)
    }
}

/// From where, and to where.
pub(super) fn places(one: &Move) -> [(&'static str, Fact); 4] {
    let isolation = |place: Placement| Fact::from(place.isolation.word());
    let location = |place: Placement| Fact::Text(place.location.to_string());
    [
        ("from_isolation", isolation(one.from)),
        ("from_location", location(one.from)),
        ("to_isolation", isolation(one.to)),
        ("to_location", location(one.to)),
    ]
}

fn slow() -> Error {
    Error::new(ErrorKind::Busy, "a write of the tenant takes long")
}

fn unknown() -> Error {
    let message = "it is not known yet where a tenant lives that was moved";
    Error::new(ErrorKind::Unavailable, message)
}
