//! Giving up the place that a move still empties: in another database than the installation's,
//! which may never come back. It stays there, and the move is over.

use super::{
    Carry,
    mark::{about, put_move},
    row::{Move, Phase},
};
use crate::tenancy::{Tenancy, commit::Commit, done, place::Placement};
use tenantry_auth::{Author, OperatorScope, TenantId};
use tenantry_types::{Error, ErrorKind, Location, Result, Timestamp};

impl Move {
    /// The place that it empties at last, where the tenant does not live.
    fn emptied(&self) -> Option<Placement> {
        match self.phase {
            Phase::Leaving => Some(self.from),
            Phase::Cancelling | Phase::Failing => Some(self.to),
            Phase::Begun | Phase::Done | Phase::Cancelled | Phase::Failed => None,
        }
    }

    /// Ends what is being left, or undone, with what the operator's log says of it; false if nothing is.
    pub(super) fn end(&mut self, log: &mut Commit<'_>, name: &str, now: Timestamp) -> bool {
        self.phase = match self.phase {
            Phase::Leaving => Phase::Done,
            Phase::Cancelling => Phase::Cancelled,
            Phase::Failing => {
                log.audit(about(Author::work(&self.actor), "tenant.move.failed", name, self));
                Phase::Failed
            }
            Phase::Begun | Phase::Done | Phase::Cancelled | Phase::Failed => return false,
        };
        self.ended = Some(now);
        true
    }

    /// Whether one of its ends is in another database than the installation's.
    fn is_elsewhere(&self) -> bool {
        [self.from, self.to].iter().any(|place| place.location != Location::Home)
    }
}

/// Of the move of a tenant that is gone nothing is left but what is at home, if anything: the purger
/// goes on with that.
pub(in crate::tenancy) fn forget_elsewhere(log: &mut Commit<'_>, mut one: Move) {
    if !one.is_elsewhere() {
        return;
    }
    match [one.from, one.to].into_iter().find(|place| place.location == Location::Home) {
        Some(home) => (one.from, one.to) = (home, home),
        None => one.phase = Phase::Cancelled,
    }
    put_move(log, &one);
}

impl<B: Carry> Tenancy<B> {
    /// Ends the move of a living tenant, whose data stay where it has left them, or was to move to.
    pub(in crate::tenancy) async fn abandon_place(
        &self,
        id: TenantId,
        scope: &OperatorScope,
    ) -> Result<Placement> {
        let elsewhere = |one: &Move| one.emptied().filter(|place| place.location != Location::Home);
        let one = self.move_of(id).await?;
        let one = one.filter(|one| elsewhere(one).is_some()).ok_or_else(nothing)?;
        let name = match self.open_tenant(id).await? {
            Some(tenant) => tenant.info().name.to_string(),
            None => id.to_string(),
        };
        if one.is_at_home() {
            // As whoever undoes it, who may not have come to it.
            self.reopen(one.from).await?;
            self.let_go(&*self.source(&one).await?, &one).await?;
        }
        let (now, asked) = (self.now(), one.clone());
        let mut left = None;
        let change = |one: &mut Move, log: &mut Commit<'_>| {
            let Some(place) = elsewhere(one).filter(|_| one.is(&asked)) else { return Ok(false) };
            one.end(log, &name, now);
            let target = format!("{id} at {}", place.location);
            log.audit(done(scope.author(), "tenant.abandon", &target, 1));
            left = Some((place, one.phase));
            Ok(true)
        };
        self.change_any_move(Some(scope), id, change).await?;
        let (place, phase) = left.ok_or_else(nothing)?;
        self.moves.over(one.turn());
        self.moves.ended(phase);
        self.moves.wake();
        tracing::warn!(
            tenant = %id, isolation = ?place.isolation, location = %place.location,
            "what a tenant has left where it does not live is given up and stays there"
        );
        Ok(place)
    }
}

fn nothing() -> Error {
    let message = "this tenant is not deleted, and no move of it is emptying a place in another \
                   database than the installation's: there is nothing to give up";
    Error::new(ErrorKind::Conflict, message)
}
