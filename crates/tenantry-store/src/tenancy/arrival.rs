//! Tenants that are being filled, by an import or as a copy: made, given up, made whole.
//!
//! Until the commit that makes it whole a tenant is [`TenantState::Provisioning`], and a row of the
//! root says so ([`keys::Arriving`]): whose work it is, and a count that is raised while it goes on.
//! That commit needs and removes the row, and so does the one that gives the tenant up, so only one
//! of them is done. Nobody compares clocks: a process gives up what another one has begun if it has
//! itself seen the same row for too long. On files there is no other process, so a row that is not
//! this process's own work is what a killed one has left.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    complete,
    disk::Touched,
    done,
    keys::{self, Decode as _, Prefix},
    moving::Carry,
    plans,
    tenant_rows::{By, Which},
};
use crate::{Arrived, TenantChange, TenantInfo};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{Error, ErrorKind, EventKind, Fact, Limits, Result, TenantSpec, TenantState};
use tokio::sync::Notify;

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// How often it is looked for what others have left, and what is being left here.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same while something is to be tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The count is raised so many times within the patience of others.
const BEATS: u32 = 5;

type Mark = [u8; 16];

/// The key of the row that says that a tenant is being filled.
pub(super) fn row_key(tenant: TenantId) -> Vec<u8> {
    keys::Arriving { tenant: tenant.get() }.encode(INSTALLATION)
}

/// Fails if a tenant is being filled: nothing else is done with it but giving it up. Or if it is
/// deleted: nothing else than erasing or restoring it.
pub(super) fn check_whole(info: &TenantInfo) -> Result<()> {
    if info.erase_at.is_some() {
        let message = format!("the tenant {} is deleted; restore it first", info.name);
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    match info.state {
        TenantState::Provisioning => {
            let message = format!("the tenant {} is being imported or copied", info.name);
            Err(Error::new(ErrorKind::Conflict, message))
        }
        TenantState::Active | TenantState::Suspended | TenantState::Deleted => Ok(()),
    }
}

fn given_up() -> Error {
    let message = "the new tenant was deleted, or given up, before it was whole";
    Error::new(ErrorKind::Conflict, message)
}

/// This process's own.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// True once nobody fills it any more.
    ours: Mutex<HashMap<TenantId, bool>>,
    wake: Arc<Notify>,
}

impl Arrivals {
    /// Has whoever looks after them look at once: the store is closing.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

/// A tenant of this process that is being filled. Dropped before it is whole, it is given up.
#[derive(Debug)]
pub(crate) struct Arriving<B: Backend> {
    tenancy: Arc<Tenancy<B>>,
    id: TenantId,
    mark: Mark,
    count: AtomicU64,
}

impl<B: Backend> Arriving<B> {
    fn row(&self, count: u64) -> Vec<u8> {
        [&self.mark[..], &count.to_be_bytes()].concat()
    }

    /// Part of the commit that makes the tenant.
    pub(super) fn first_row(&self) -> (Space, Vec<u8>, Option<Vec<u8>>) {
        (Space::Catalog, row_key(self.id), Some(self.row(0)))
    }

    /// True if a row is of this work, whatever its count.
    fn is_of(&self, row: &[u8]) -> bool {
        row.starts_with(&self.mark)
    }

    /// Tells others that it goes on; fails if the tenant was given up.
    async fn beat(&self) -> Result<()> {
        let tenancy = &self.tenancy;
        let installation = tenancy.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = tenancy.change(&installation).await?;
        let row = view.get(Space::Catalog, &row_key(self.id)).await?;
        if !row.is_some_and(|row| self.is_of(&row)) {
            return Err(given_up());
        }
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let mut log = tenancy.begin(&installation)?;
        log.put_clear(Space::Catalog, row_key(self.id), self.row(count));
        tenancy.commit(&installation, view, log).await
    }
}

impl<B: Backend> Drop for Arriving<B> {
    fn drop(&mut self) {
        // If it is whole, it has no row, and is forgotten.
        self.tenancy.arrivals.ours.lock().insert(self.id, true);
        self.tenancy.arrivals.wake();
    }
}

impl<B: Backend> Tenancy<B> {
    pub(super) fn expect_arrival(self: &Arc<Self>, id: TenantId) -> Arriving<B> {
        let mut mark = Mark::default();
        self.entropy.fill("arrival", &mut mark);
        self.arrivals.ours.lock().insert(id, false);
        Arriving { tenancy: Arc::clone(self), id, mark, count: AtomicU64::new(0) }
    }
}

impl<B: Carry> Tenancy<B> {
    /// Makes a tenant that is to be filled.
    pub(crate) async fn begin_arrival(
        self: &Arc<Self>,
        scope: &OperatorScope,
        spec: &TenantSpec,
    ) -> Result<(TenantInfo, Arc<Arriving<B>>)> {
        self.operator_stands(scope, None).await?;
        let (inner, spec, scope) = (Arc::clone(self), spec.clone(), scope.clone());
        // If the caller goes away, what is made is given up with the outcome.
        complete(async move {
            let (info, arriving) =
                inner.make_tenant(&spec, TenantState::Provisioning, &scope).await?;
            let arriving = arriving.ok_or_else(|| Error::internal("a tenant arrives whole"))?;
            let arriving = Arc::new(arriving);
            tokio::spawn(keep(Arc::downgrade(&arriving), inner.arrival_patience()));
            Ok((info, arriving))
        })
        .await
    }

    /// Makes a tenant whole that was filled, with these limits, plan, exceptions and weight; if it is
    /// bounded, with what is less than its plan says.
    pub(crate) async fn end_arrival(
        self: &Arc<Self>,
        scope: &OperatorScope,
        arriving: Arc<Arriving<B>>,
        (limits, terms, is_bounded): (Limits, TenantChange, bool),
        Arrived { action, told, target, email }: Arrived,
    ) -> Result<TenantInfo> {
        self.check_limits(limits)?;
        let (inner, scope) = (Arc::clone(self), scope.clone());
        complete(async move {
            let tenant = inner.open_tenant(arriving.id).await?.ok_or_else(given_up)?;
            inner.at_home(&tenant).await?;
            let _rooting = inner.rooting(&tenant).await?;
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change_root(&[&tenant, &installation]).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            let row = view.get(Space::Catalog, &row_key(arriving.id)).await?;
            if !row.is_some_and(|row| arriving.is_of(&row)) {
                return Err(given_up());
            }
            let mut info = (*tenant.info()).clone();
            (info.state, info.limits) = (TenantState::Active, limits);
            info.weight = terms.weight.unwrap_or(info.weight);
            let mut about = inner.about(&tenant)?;
            about.root(row_key(arriving.id), None);
            let more =
                plans::change_terms((&view, &installation), &mut about, &mut info, &terms).await?;
            if is_bounded {
                plans::bound((&view, &installation), &mut info).await?;
            }
            about.put_tenant(&info);
            about.tell(done(scope.author(), action, &told, 1), Some(Touched::Tenant));
            let mut log = inner.begin(&installation)?;
            log.audit(done(scope.author(), action, &target, 1));
            let whom = inner.told(&view, &installation, EventKind::TenantCreated).await?;
            let mut event = inner.born(&info, action);
            let email = email.map(|email| ("email".to_owned(), Fact::from(email.as_str())));
            event.facts.extend(email);
            whom.tell(&mut log, &event);
            for (action, target) in more {
                about.tell(done(scope.author(), action, &target, 1), Some(Touched::Tenant));
                log.audit(done(scope.author(), action, &target, 1));
            }
            inner.commit_two(view, (&tenant, about), (&installation, log)).await?;
            inner.tenants.renew(&tenant, info.clone());
            inner.revoked();
            Ok(info)
        })
        .await
    }
}

/// Raises the count of a tenant that is being filled, until it is dropped or given up.
async fn keep<B: Carry>(arriving: Weak<Arriving<B>>, patience: Duration) {
    loop {
        tokio::time::sleep((patience / BEATS).max(Duration::from_millis(10))).await;
        let Some(arriving) = arriving.upgrade() else { return };
        match arriving.beat().await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Conflict => return,
            Err(error) => tracing::warn!(?error, tenant = %arriving.id, "go on filling a tenant"),
        }
    }
}

/// Starts whoever gives up tenants that nobody fills any more; it ends with the store.
pub(crate) fn spawn<B: Carry>(tenancy: &Arc<Tenancy<B>>) {
    let woken = Arc::clone(&tenancy.arrivals.wake);
    tokio::spawn(run(Arc::downgrade(tenancy), woken));
}

async fn run<B: Carry>(tenancy: Weak<Tenancy<B>>, woken: Arc<Notify>) {
    let mut seen = HashMap::new();
    loop {
        let Some(tenancy) = tenancy.upgrade() else { return };
        if tenancy.is_closing() {
            return;
        }
        let is_done = match tenancy.give_up_arrivals(&mut seen).await {
            Ok(is_done) => is_done,
            Err(error) => {
                tracing::warn!(?error, "look for tenants that nobody fills any more");
                false
            }
        };
        let patience = tenancy.arrival_patience() / BEATS;
        drop(tenancy);
        let pause = match is_done {
            true if seen.is_empty() => LOOK_EVERY,
            true => LOOK_EVERY.min(patience.max(LOOK_AGAIN / 10)),
            false => LOOK_AGAIN,
        };
        let _ = tokio::time::timeout(pause, woken.notified()).await;
    }
}

/// Rows of others, and since when they have been as they are.
type Seen = HashMap<TenantId, (Vec<u8>, Instant)>;

impl<B: Carry> Tenancy<B> {
    /// Deletes tenants that nobody fills any more; false if one is to be tried again.
    async fn give_up_arrivals(self: &Arc<Self>, seen: &mut Seen) -> Result<bool> {
        // What is read while the fate of a commit is open may not have it.
        if !self.is_decided() {
            return Ok(false);
        }
        // Before the rows: one that ends after this is still one that nobody gives up.
        let over: Vec<TenantId> = {
            let ours = self.arrivals.ours.lock();
            ours.iter().filter(|(_, is_over)| **is_over).map(|(id, _)| *id).collect()
        };
        let mut rows = Vec::new();
        let root = self.root(None).await?;
        let mut scan = Scan::new(&root, Space::Catalog, keys::Arriving::all(INSTALLATION), None);
        while let Some((key, row)) = scan.next().await? {
            let key = keys::Arriving::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("the key of an arriving tenant cannot be read"))?;
            rows.push((TenantId::new(key.tenant), row));
        }
        drop(root);
        seen.retain(|id, (row, _)| rows.iter().any(|one| one.0 == *id && one.1 == *row));
        let mut is_done = true;
        for (id, row) in &rows {
            if !self.is_forsaken(*id, row, seen) {
                continue;
            }
            if let Err(error) = self.give_up_arrival(*id, row).await {
                tracing::warn!(?error, tenant = %id, "delete a tenant that nobody fills any more");
                is_done = false;
            }
        }
        let mut ours = self.arrivals.ours.lock();
        for id in over.iter().filter(|id| !rows.iter().any(|(one, _)| one == *id)) {
            ours.remove(id);
        }
        Ok(is_done)
    }

    fn is_forsaken(&self, id: TenantId, row: &[u8], seen: &mut Seen) -> bool {
        if let Some(is_over) = self.arrivals.ours.lock().get(&id) {
            return *is_over;
        }
        if !self.is_shared() {
            return true;
        }
        let (_, since) = seen.entry(id).or_insert_with(|| (row.to_vec(), Instant::now()));
        since.elapsed() >= self.arrival_patience()
    }

    /// Deletes a tenant that is being filled, if its row is still this one.
    async fn give_up_arrival(self: &Arc<Self>, id: TenantId, row: &[u8]) -> Result<()> {
        if self.is_shared() {
            self.tenants.forget(id);
        }
        let Some(tenant) = self.open_tenant(id).await? else { return Ok(()) };
        let (inner, row) = (Arc::clone(self), row.to_vec());
        let removed = complete(async move {
            inner.remove_opened(&tenant, Which::Arriving(&row), By::store()).await
        });
        match removed.await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Deletes a tenant of this process that is being filled, now.
    pub(crate) async fn forsake(self: &Arc<Self>, arriving: Arc<Arriving<B>>) -> Result<()> {
        let row = {
            let root = self.root(None).await?;
            root.get(Space::Catalog, &row_key(arriving.id)).await?
        };
        match row.filter(|row| arriving.is_of(row)) {
            Some(row) => self.give_up_arrival(arriving.id, &row).await,
            None => Ok(()),
        }
    }
}
