//! Asking for a move, and asking about it.

use super::{
    Carry, MoverId,
    row::{DiskMove, Move, Phase},
    said,
    switch::places,
};
use crate::{
    AuditNote, MoveStatus, MoveTarget,
    tenancy::{
        Backend, Space, Tenancy, View, arrival,
        backend::Scan,
        commit::Commit,
        complete, done,
        keys::{self, Decode as _, Prefix},
        place::Placement,
        plans,
        tenants::OpenTenant,
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tenantry_auth::{Author, OperatorScope, TenantId};
use tenantry_types::{
    Error, ErrorKind, EventKind, Fact, Isolation, Location, Resource, Result, TenantName, Timestamp,
};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
const NOBODY_LEADS: &str = "no server runs that moves tenants: start one with --database-admin-url";
/// Moves of one answer.
const LISTED_MAX: usize = 1_000;

fn move_key(tenant: TenantId) -> Vec<u8> {
    keys::Move { tenant: tenant.get() }.encode(INSTALLATION)
}

/// The row of a tenant's move.
pub(crate) async fn move_in(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
) -> Result<Option<Move>> {
    let row: Option<DiskMove> = installation.row(root, Space::Catalog, &move_key(tenant)).await?;
    row.map(|row| row.into_move(tenant)).transpose()
}

/// Puts the row of a move into a commit of the installation.
pub(super) fn put_move(log: &mut Commit<'_>, one: &Move) {
    log.put(Space::Catalog, move_key(one.tenant()), &DiskMove::of(one));
}

/// All moves that are not over. One whose row cannot be read does not keep the others waiting.
pub(super) async fn moves_in(root: &impl View, installation: &OpenTenant) -> Result<Vec<Move>> {
    let mut found = Vec::new();
    let mut rows = Scan::new(root, Space::Catalog, keys::Move::all(INSTALLATION), None);
    while let Some((key, sealed)) = rows.next().await? {
        let read = || {
            let key_of = keys::Move::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("the key of a move cannot be read"))?;
            let row: DiskMove = installation.open_row(&key, &sealed)?;
            row.into_move(TenantId::new(key_of.tenant))
        };
        match read() {
            Ok(one) if one.phase.is_over() => {}
            Ok(one) => found.push(one),
            Err(error) => tracing::error!(?error, ?key, "a move cannot be read; it rests"),
        }
    }
    Ok(found)
}

impl<B: Backend> Tenancy<B> {
    /// The move of a tenant: the one under way, or the last one.
    pub(crate) async fn move_status(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<Option<MoveStatus>> {
        self.operator_stands(scope, None).await?;
        let tenant = self.require(name).await?;
        let installation = self.installation().await?;
        let found = move_in(&self.root(None).await?, &installation, tenant.id()).await?;
        Ok(found.map(|one| self.status_of(name, &one)))
    }

    /// The moves that are not over, in the order in which they were asked for: the first
    /// thousand.
    pub(crate) async fn move_list(&self, scope: &OperatorScope) -> Result<Vec<MoveStatus>> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let mut moves = Vec::new();
        if self.is_shared() {
            // Another process may know them.
            moves = moves_in(&root, &installation).await?;
            moves.sort_by_key(Move::turn);
            moves.truncate(LISTED_MAX);
        } else {
            let waiting: Vec<_> = {
                let queue = self.moves.queue.lock();
                queue.waiting.iter().take(LISTED_MAX).map(|(_, id)| *id).collect()
            };
            for id in waiting {
                match move_in(&root, &installation, id).await {
                    Ok(one) => moves.extend(one.filter(|one| !one.phase.is_over())),
                    Err(error) => {
                        tracing::error!(?error, tenant = %id, "list moves; one is left out");
                    }
                }
            }
        }
        drop(root);
        let mut found = Vec::new();
        for one in moves {
            match self.open_tenant(one.tenant()).await {
                Ok(tenant) => {
                    found.extend(tenant.map(|tenant| self.status_of(&tenant.info().name, &one)));
                }
                Err(error) => {
                    tracing::error!(?error, tenant = %one.tenant(), "list moves; one is left out");
                }
            }
        }
        Ok(found)
    }

    fn status_of(&self, name: &TenantName, one: &Move) -> MoveStatus {
        let mut status = one.status(name.clone(), self.moves.progress.lock().get(&one.tenant()));
        if one.phase.is_over() {
            return status;
        }
        if self.moves.nobody_leads.load(Ordering::Relaxed) {
            status.error = Some(NOBODY_LEADS.to_owned());
        }
        let not_asked = self.moves.not_asked.lock();
        status.error = not_asked.clone().or(status.error);
        drop(not_asked);
        status
    }

    /// Changes the row of a move, if `change` says so, with an entry of the operator's log. Gives
    /// the row as it is then; `None` if there is none. Who asks for it must still have the right.
    pub(super) async fn change_any_move(
        &self,
        scope: Option<&OperatorScope>,
        tenant: TenantId,
        change: impl FnOnce(&mut Move, &mut Commit<'_>) -> Result<bool>,
    ) -> Result<Option<Move>> {
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        if let Some(scope) = scope {
            self.operator_stands(scope, Some(&view)).await?;
        }
        let Some(mut one) = move_in(&view, &installation, tenant).await? else { return Ok(None) };
        let (mut log, before) = (self.begin(&installation)?, one.phase);
        if change(&mut one, &mut log)? {
            put_move(&mut log, &one);
            if one.phase != before {
                self.tell_undone((&view, &installation), &mut log, &one).await?;
            }
            self.commit(&installation, view, log).await?;
        }
        Ok(Some(one))
    }

    /// Tells of a move that is over and has led nowhere, in the commit that says so.
    async fn tell_undone(
        &self,
        (view, installation): (&B::View, &OpenTenant),
        log: &mut Commit<'_>,
        one: &Move,
    ) -> Result<()> {
        let (kind, reason) = match one.phase {
            Phase::Cancelled => (EventKind::TenantMoveCancelled, None),
            Phase::Failed => (EventKind::TenantMoveFailed, one.why.clone().map(Fact::Text)),
            _ => return Ok(()),
        };
        let info = match self.open_tenant_beside(Some(view), one.tenant()).await {
            Ok(Some(tenant)) => tenant.info(),
            Ok(None) => return Ok(()),
            // Its move is over all the same.
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::error!(?error, tenant = %one.tenant(), "tell of a move of a tenant");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let facts = places(one).into_iter().chain(reason.map(|reason| ("reason", reason)));
        self.tell_of((view, installation), log, kind, (info.id, &info.name), facts).await
    }
}

impl<B: Carry> Tenancy<B> {
    /// What this process signs with; none if it is the only one. Fails if others move tenants by now:
    /// nobody's signature would be put over theirs, or taken for that of a move that nobody has begun.
    pub(super) fn signature(&self) -> Result<Option<MoverId>> {
        match self.mover() {
            None if self.is_shared() => Err(not_ours()),
            by => Ok(by),
        }
    }

    /// [`Tenancy::change_any_move`] for whoever works on it; fails if somebody else does, or it is
    /// another one by now.
    pub(super) async fn change_move(
        &self,
        of: &Move,
        change: impl FnOnce(&mut Move, &mut Commit<'_>) -> Result<bool>,
    ) -> Result<Option<Move>> {
        let by = self.signature()?;
        self.change_any_move(None, of.tenant(), |one, log| {
            check_mover(one, by)?;
            if !one.is(of) {
                return Err(given_up());
            }
            change(one, log)
        })
        .await
    }

    /// Begins to move a tenant; the rest is done in the background, also after a restart.
    pub(crate) async fn start_move(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        to: MoveTarget,
    ) -> Result<MoveStatus> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move { inner.mark(&scope, &name, to).await }).await
    }

    async fn mark(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        target: MoveTarget,
    ) -> Result<MoveStatus> {
        let tenant = self.require(name).await?;
        // Before anything else is asked: where it lives may be another place in a moment.
        let installation = self.installation().await?;
        let before = move_in(&self.root(None).await?, &installation, tenant.id()).await?;
        check_over(name, before.as_ref())?;
        let from = tenant.placement();
        let (to, location) = self.check_target(name, from, target)?;
        // Before anything is locked: it may take a while.
        self.allow_moves().await?;
        // A place that was never opened is made first: there is nothing to copy before.
        self.at_home(&tenant).await?;
        let _rooting = self.rooting(&tenant).await?;
        let _logging = installation.writer.lock().await;
        let view = self.change_root(&[&tenant, &installation]).await?;
        self.operator_stands(scope, Some(&view)).await?;
        if tenant.info().name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        arrival::check_whole(&tenant.info())?;
        if let Some(plan) = &tenant.info().plan {
            plans::require_place(&view, &installation, plan, (to, location)).await?;
        }
        let before = move_in(&view, &installation, tenant.id()).await?;
        check_over(name, before.as_ref())?;
        // Also of a move that came to nothing: something may still be called by its name.
        let last = before.as_ref().map_or(0, |one| one.to.stay.max(one.from.stay)).max(from.stay);
        let stay = last.checked_add(1).ok_or_else(|| Error::internal("there are no more stays"))?;
        let space = match to {
            Isolation::Schema if location == Location::Home => Some(self.give_space(&view).await?),
            Isolation::Shared | Isolation::Schema | Isolation::Database => None,
        };
        let one = Move {
            phase: Phase::Begun,
            from,
            to: Placement {
                isolation: to,
                location,
                space: space.as_ref().map_or(0, |given| given.space),
                stay,
                ..Placement::shared(tenant.id())
            },
            actor: scope.actor().to_owned(),
            begun: after(self.now(), before.as_ref()),
            ended: None,
            cursor: super::row::Cursor::default(),
            total: 0,
            pause: Duration::ZERO,
            why: None,
            by: None,
        };
        let mut log = self.begin(&installation)?;
        put_move(&mut log, &one);
        log.audit(about(scope.author(), "tenant.move", name.as_str(), &one));
        let (mut set, head) = log.finish();
        set.generation = set.generation.min(tenant.generation());
        said("mark");
        let durable = {
            // The stored count of spaces grows in the order of commits.
            let naming = self.naming.lock();
            set.operations.extend(space.as_ref().map(|given| given.row(naming.next_space)));
            self.submit(view, set)
        };
        if let Err(error) = durable.await {
            // It may be in the journal all the same.
            self.moves.queue.lock().is_known = false;
            return Err(error);
        }
        installation.set_head(head);
        said("marked");
        self.moves.queue.lock().waiting.insert(one.turn());
        self.moves.wake();
        Ok(self.status_of(name, &one))
    }

    /// Where a tenant is to go, if it can go there from here.
    fn check_target(
        &self,
        name: &TenantName,
        from: Placement,
        target: MoveTarget,
    ) -> Result<(Isolation, Location)> {
        let to = target.isolation.unwrap_or(from.isolation);
        let location = target.location.unwrap_or(from.location);
        self.can_make(to, location)?;
        self.check_given(name, from.location)?;
        if [from.location, location].contains(&Location::Own) {
            let message =
                "tenants are not moved to a database that they carry, nor away from it, yet";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        if (from.isolation, from.location) == (to, location) {
            let message = format!("the tenant lives in {} there already", to.word());
            return Err(Error::invalid(message));
        }
        Ok((to, location))
    }

    /// Fails if a tenant lives at a location that this process was not given. Its operator is told
    /// which, and which there are; whoever asks for its data is not.
    fn check_given(&self, name: &TenantName, location: Location) -> Result<()> {
        // Nothing but the location can be missing for this.
        self.can_make(Isolation::Shared, location).map_err(|why| match why.kind() {
            ErrorKind::Invalid => {
                let message = format!("the tenant {name} cannot be moved from here: {why}");
                Error::new(ErrorKind::Unavailable, message)
            }
            _ => why,
        })
    }

    /// Cancels the move of a tenant: it stays where it is.
    pub(crate) async fn cancel_move(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<MoveStatus> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move {
            let tenant = inner.require(&name).await?;
            let cancelled =
                inner.change_any_move(Some(&scope), tenant.id(), |one, log| match one.phase {
                    // Whoever renames it holds the same lock.
                    _ if tenant.info().name != name => {
                        Err(Error::not_found(Resource::Tenant, name.as_str()))
                    }
                    Phase::Begun => {
                        log.audit(about(scope.author(), "tenant.move.cancel", name.as_str(), one));
                        one.phase = Phase::Cancelling;
                        Ok(true)
                    }
                    Phase::Cancelling | Phase::Failing => Ok(false),
                    Phase::Leaving | Phase::Done => {
                        let message = format!("the tenant {name} lives in its new place already");
                        Err(Error::new(ErrorKind::Conflict, message))
                    }
                    Phase::Cancelled | Phase::Failed => Err(not_moved(&name)),
                });
            let cancelled = cancelled.await?.ok_or_else(|| not_moved(&name))?;
            {
                let mut queue = inner.moves.queue.lock();
                queue.waiting.insert(cancelled.turn());
                queue.cancelled.insert(cancelled.turn());
            }
            inner.moves.wake();
            Ok(inner.status_of(&name, &cancelled))
        })
        .await
    }
}

/// When a move was asked for: its turn is its own, however soon it follows the last one.
fn after(now: Timestamp, before: Option<&Move>) -> Timestamp {
    let is_taken = before.is_some_and(|one| one.begun == now);
    Timestamp(now.0.saturating_add(u64::from(is_taken)))
}

/// The one refusal of another move while there is one, wherever that is noticed.
fn check_over(name: &TenantName, before: Option<&Move>) -> Result<()> {
    let Some(one) = before.filter(|one| !one.phase.is_over()) else { return Ok(()) };
    let message = format!(
        "a move of the tenant {name} is not over yet: {}; `tenantry tenant move` with --follow \
         follows it, and with --cancel cancels it",
        one.words()
    );
    Err(Error::new(ErrorKind::Conflict, message))
}

/// Fails unless a move is in these hands.
pub(super) fn check_mover(one: &Move, by: Option<MoverId>) -> Result<()> {
    if one.by == by {
        return Ok(());
    }
    Err(not_ours())
}

pub(super) fn given_up() -> Error {
    Error::new(ErrorKind::Unavailable, "this move was cancelled or given up by now")
}

fn not_ours() -> Error {
    Error::new(ErrorKind::Unavailable, "another server moves this tenant by now")
}

fn not_moved(name: &TenantName) -> Error {
    Error::new(ErrorKind::Conflict, format!("the tenant {name} is not being moved"))
}

/// What the operator's log says of a move.
pub(super) fn about(by: Author<'_>, action: &str, name: &str, one: &Move) -> AuditNote {
    done(by, action, &format!("{name}: {}", one.words()), 1)
}
