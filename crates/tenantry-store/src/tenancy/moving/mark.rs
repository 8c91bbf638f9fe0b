//! Asking for a move, and asking about it.

use super::{
    Carry,
    row::{DiskMove, Move, Phase},
    said,
};
use crate::{
    AuditEvent, MoveStatus,
    tenancy::{
        Backend, Space, Tenancy, View,
        backend::Scan,
        complete, done,
        keys::{self, Decode as _, Prefix},
        place::Placement,
        tenants::{Commit, OpenTenant},
    },
};
use std::{sync::Arc, time::Duration};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{Error, ErrorKind, Isolation, Location, Resource, Result, TenantName};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

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

/// All moves, those that are over too, in the order of their tenants.
pub(super) async fn moves_in(root: &impl View, installation: &OpenTenant) -> Result<Vec<Move>> {
    let mut found = Vec::new();
    let mut rows = Scan::new(root, Space::Catalog, keys::Move::all(INSTALLATION), None);
    while let Some((key, sealed)) = rows.next().await? {
        let tenant = keys::Move::decode(INSTALLATION, &key)
            .ok_or_else(|| Error::corrupt("the key of a move cannot be read"))?
            .tenant;
        let row: DiskMove = installation.open_row(&key, &sealed)?;
        found.push(row.into_move(TenantId::new(tenant))?);
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
        Ok(found.map(|one| self.status_of(&one)))
    }

    /// The last move of each tenant that was ever moved, in the order in which they were asked for.
    pub(crate) async fn move_list(&self, scope: &OperatorScope) -> Result<Vec<MoveStatus>> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let mut found = moves_in(&self.root(None).await?, &installation).await?;
        found.sort_unstable_by_key(|one| one.number);
        Ok(found.iter().map(|one| self.status_of(one)).collect())
    }

    pub(super) fn status_of(&self, one: &Move) -> MoveStatus {
        let progress = self.moves.progress.lock();
        let progress = progress.as_ref().filter(|(tenant, _)| *tenant == one.tenant());
        one.status(progress.map(|(_, progress)| progress))
    }

    /// Changes the row of a move, if `change` says so, with an entry of the operator's log. Gives
    /// the row as it is then; `None` if there is none.
    pub(super) async fn change_move(
        &self,
        tenant: TenantId,
        change: impl FnOnce(&mut Move, &mut Commit<'_>) -> Result<bool>,
    ) -> Result<Option<Move>> {
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change(&installation).await?;
        let Some(mut one) = move_in(&view, &installation, tenant).await? else { return Ok(None) };
        let mut log = self.begin(&installation)?;
        if change(&mut one, &mut log)? {
            put_move(&mut log, &one);
            self.commit(&installation, view, log).await?;
        }
        Ok(Some(one))
    }
}

impl<B: Carry> Tenancy<B> {
    /// Begins to move a tenant; the rest is done in the background, also after a restart.
    pub(crate) async fn start_move(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        to: Isolation,
    ) -> Result<MoveStatus> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, name) = (Arc::clone(self), scope.clone(), name.clone());
        complete(async move { inner.mark(&scope, &name, to).await }).await
    }

    async fn mark(
        self: &Arc<Self>,
        scope: &OperatorScope,
        name: &TenantName,
        to: Isolation,
    ) -> Result<MoveStatus> {
        let tenant = self.require(name).await?;
        self.can_make(to, Location::Home)?;
        // A place that was never opened is made first: there is nothing to copy before.
        self.at_home(&tenant).await?;
        let _rooting = self.rooting(&tenant).await?;
        let installation = self.installation().await?;
        let _logging = installation.writer.lock().await;
        let view = self.change_root(&[&tenant, &installation]).await?;
        self.operator_stands(scope, Some(&view)).await?;
        if tenant.info().name != *name {
            return Err(Error::not_found(Resource::Tenant, name.as_str()));
        }
        let from = tenant.placement();
        let moves = moves_in(&view, &installation).await?;
        let before = moves.iter().find(|one| one.tenant() == tenant.id());
        check_new(from, to, before)?;
        self.allow_moves()?;
        // Also of a move that came to nothing: something may still be called by its name.
        let last = before.map_or(0, |one| one.to.stay.max(one.from.stay)).max(from.stay);
        let stay = last.checked_add(1).ok_or_else(|| Error::internal("there are no more stays"))?;
        let space = match to {
            Isolation::Schema => Some(self.give_space(&view).await?),
            Isolation::Shared | Isolation::Database => None,
        };
        let one = Move {
            number: moves.iter().map(|one| one.number).max().unwrap_or(0) + 1,
            phase: Phase::Begun,
            from,
            to: Placement {
                isolation: to,
                space: space.as_ref().map_or(0, |given| given.space),
                stay,
                ..Placement::shared(tenant.id())
            },
            actor: scope.actor().to_owned(),
            begun: self.now(),
            ended: None,
            cursor: super::row::Cursor::default(),
            total: 0,
            pause: Duration::ZERO,
            why: None,
        };
        let mut log = self.begin(&installation)?;
        put_move(&mut log, &one);
        log.audit(about(scope.actor(), "tenant.move", name, &one));
        let (mut set, head) = log.finish();
        said("mark");
        let durable = {
            // The stored count of spaces grows in the order of commits.
            let naming = self.naming.lock();
            set.operations.extend(space.as_ref().map(|given| given.row(naming.next_space)));
            self.submit(view, set)
        };
        durable.await?;
        installation.set_head(head);
        said("marked");
        self.moves.wake.notify_one();
        Ok(self.status_of(&one))
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
            let cancelled = inner.change_move(tenant.id(), |one, log| match one.phase {
                Phase::Begun => {
                    log.audit(about(scope.actor(), "tenant.move.cancel", &name, one));
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
            inner.moves.wake.notify_one();
            Ok(inner.status_of(&cancelled))
        })
        .await
    }
}

fn check_new(from: Placement, to: Isolation, before: Option<&Move>) -> Result<()> {
    if before.is_some_and(|one| !one.phase.is_over()) {
        let message = "a move of this tenant is not over yet";
        return Err(Error::new(ErrorKind::Conflict, message));
    }
    if from.isolation == to {
        return Err(Error::invalid(format!("the tenant has the isolation {} already", to.word())));
    }
    Ok(())
}

fn not_moved(name: &TenantName) -> Error {
    Error::new(ErrorKind::Conflict, format!("the tenant {name} is not being moved"))
}

/// What the operator's log says of a move.
pub(super) fn about(actor: &str, action: &str, name: &TenantName, one: &Move) -> AuditEvent {
    done(actor, action, &format!("{name}: {}", one.words()), 1)
}
