//! Afterwards: the place where the tenant does not live is emptied, and its space is free.

use super::{
    Carry,
    row::{Move, Phase},
    run::Mover,
    said,
};
use crate::tenancy::{
    Space, Tenancy, View,
    commit::{CHANGES_KEPT, Commit},
    done,
    keys::{self, Prefix},
    place::{PlaceRow, Placement},
    tenants::OpenTenant,
};
use std::time::{Duration, Instant};
use tenantry_auth::{Author, TenantId};
use tenantry_types::{Error, ErrorKind, Isolation, Location, Result};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);
/// How long whoever reads in a place that was left may go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Old changes removed in one commit.
const CHANGES_AT_ONCE: usize = 1_024;

impl<B: Carry> Tenancy<B> {
    /// Empties the place that the tenant has left.
    pub(super) async fn leave(&self, mover: &Mover, one: &Move) -> Result<()> {
        self.left(one.from, one.to).await;
        let begun = Instant::now();
        while !self.is_unread(one.from) && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !self.is_unread(one.from) {
            let message = "somebody still reads in the place that the tenant has left";
            return Err(Error::new(ErrorKind::Busy, message));
        }
        said("leave");
        self.empty_unused(one.from).await?;
        said("left");
        let ended = self.now();
        let pause = mover.pause;
        let mut is_ours = false;
        let change = |one: &mut Move, log: &mut Commit<'_>| {
            if one.phase != Phase::Leaving || !one.end(log, "", ended) {
                return Ok(false);
            }
            one.pause = one.pause.max(pause);
            free(log, one.from);
            said("done");
            is_ours = true;
            Ok(true)
        };
        self.change_move(one, change).await?;
        if is_ours {
            self.moves.ended(Phase::Done);
        }
        Ok(())
    }

    /// Lets the tenant stay where it is, and empties the place that it was to move to.
    pub(super) async fn undo(&self, one: &Move) -> Result<()> {
        said("let go");
        let let_go = async {
            // Whoever has worked on it before may have ended in the pause.
            self.reopen(one.from).await?;
            let tenant = self.source(one).await?;
            self.let_go(&tenant, one).await?;
            Ok::<_, Error>(tenant.info().name.to_string())
        };
        let name = match let_go.await {
            Ok(name) => name,
            // A place that is damaged must not keep the other one.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Internal) => {
                tracing::error!(?error, tenant = %one.tenant(), "undo a move without its source");
                one.tenant().to_string()
            }
            Err(error) => return Err(error),
        };
        said("undo");
        self.empty_unused(one.to).await?;
        said("undone");
        let ended = self.now();
        let mut outcome = None;
        let change = |one: &mut Move, log: &mut Commit<'_>| {
            if one.phase == Phase::Leaving || !one.end(log, &name, ended) {
                return Ok(false);
            }
            free(log, one.to);
            outcome = Some(one.phase);
            Ok(true)
        };
        self.change_move(one, change).await?;
        if let Some(phase) = outcome {
            self.moves.ended(phase);
        }
        Ok(())
    }

    /// The source's changes are not held any more, and its log says why.
    pub(super) async fn let_go(&self, tenant: &OpenTenant, one: &Move) -> Result<()> {
        loop {
            let (_writing, view) = self.writer(tenant).await?;
            let mut commit = self.begin(tenant)?;
            let end = commit.sequence().saturating_sub(CHANGES_KEPT);
            let end = keys::Change { sequence: end }.encode(tenant.prefix());
            let all = keys::Change::all(tenant.prefix());
            let page = view.page(Space::Data, &all, &all, CHANGES_AT_ONCE).await?;
            let old: Vec<_> = page.into_iter().filter(|(key, _)| *key < end).collect();
            if commit.head.hold.is_none() && old.is_empty() {
                return Ok(());
            }
            for (key, _) in old {
                commit.remove(Space::Data, key);
            }
            if commit.head.hold.take().is_some() {
                let action = match one.phase {
                    Phase::Failing => "tenant.move.failed",
                    _ => "tenant.move.cancel",
                };
                commit.audit(done(Author::work(&one.actor), action, &one.words_for_tenant(), 1));
            }
            self.commit(tenant, view, commit).await?;
        }
    }

    /// Empties a place, unless the root says that its tenant lives there.
    pub(super) async fn empty_unused(&self, place: Placement) -> Result<()> {
        if self.lives_in(place.tenant).await?.is_some_and(|lives| is_same(lives, place)) {
            return Err(Error::internal("a place is to be emptied that its tenant lives in"));
        }
        self.empty(place).await
    }

    /// Where the root says that a tenant lives; the stay of one in the root is not looked at.
    async fn lives_in(&self, tenant: TenantId) -> Result<Option<Placement>> {
        let root = self.root(None).await?;
        if root.get(Space::Catalog, &keys::Tenant {}.encode(Prefix::of(tenant))).await?.is_none() {
            return Ok(None);
        }
        let key = keys::Place { tenant: tenant.get() }.encode(INSTALLATION);
        Ok(Some(match root.get(Space::Catalog, &key).await? {
            Some(row) => PlaceRow::decode(tenant, &row)?.placement,
            None => Placement::shared(tenant),
        }))
    }
}

/// Every move leads to another isolation or location, so that no place is emptied of the kind in which
/// the tenant lives: of some there is one, whatever the space and the stay.
fn is_same(one: Placement, other: Placement) -> bool {
    (one.isolation, one.location) == (other.isolation, other.location)
}

/// A space that is empty may be given again.
fn free(log: &mut Commit<'_>, place: Placement) {
    if place.isolation == Isolation::Schema && place.location == Location::Home {
        let key = keys::FreeSpace { space: place.space }.encode(INSTALLATION);
        log.put_clear(Space::Catalog, key, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_whatever_its_space_and_its_stay() {
        let home = Placement::shared(TenantId::new(7));
        let schema = Placement { isolation: Isolation::Schema, space: 3, ..home };
        let there = Location::parse("eu").unwrap();
        let away = Placement { location: there, ..home };
        for one in [home, schema, away] {
            assert!(is_same(one, Placement { stay: 9, ..one }));
            assert!(is_same(one, Placement { space: 4, ..one }));
        }
        for (one, other) in [(home, schema), (home, away), (schema, away)] {
            assert!(!is_same(one, other));
        }
        assert!(!is_same(schema, Placement { location: there, ..schema }));
    }
}
