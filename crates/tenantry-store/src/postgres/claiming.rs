//! Looking whose a database is, and taking one that is nobody's.

use super::{
    admin::{LOOK, Session, Work, lock_work, within},
    claim::{self, Claim, Nonce, Of, Owner},
    cluster::Shared,
    locations::Located,
    names::PlacePrefix,
    root::{Elsewhere, Root},
    statement::{Statement, Step},
    submit::commit_steps,
    view::PgView,
};
use crate::tenancy::{
    Space, View as _,
    keys::{self, Prefix, Tail},
};
use std::sync::Arc;
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, LocationName, Resource, Result};
use tokio::sync::MutexGuard;
use tokio_postgres::types::Type;

/// Keeps a location's nonce: once.
const KEEP: &str = "WITH made AS (INSERT INTO {schema}.catalog (tenant, family, key, row) \
     VALUES (0, $1, $2, $3) RETURNING 1) SELECT count(*) FROM made";

impl Shared {
    /// Looks at a database and finds the row that makes it ours, and what stands before the names of
    /// places there. One that is nobody's yet becomes ours if it may.
    pub(super) async fn look_at(
        self: &Arc<Self>,
        located: &Located,
        claim: &Claim,
        may_claim: bool,
    ) -> Result<(Vec<u8>, PlacePrefix)> {
        self.is_at_home().await?;
        let may_be = |owner: &Owner| match owner {
            Owner::Us(_) => Ok(()),
            Owner::Nobody if may_claim => Ok(()),
            Owner::Nobody => Err(is_another(located)),
            Owner::Installation | Owner::Others => Err(claim::is_others(&located.what())),
        };
        let (mut client, owner, prefix) = Box::pin(located.check(claim, may_be)).await?;
        let take = async {
            match (claim.of(), owner) {
                (Of::Location(name, _), _) => {
                    self.look_at_location(&mut client, name, claim, located).await
                }
                (Of::Tenant(_), Owner::Us(row)) => Ok(row),
                (Of::Tenant(tenant), _) => {
                    // Nobody deletes it meanwhile, so nobody takes what was let go of.
                    let _living = self.living(tenant).await?;
                    row_of(claim::take(&mut client, claim, None).await?, located)
                }
            }
        };
        let row = within(LOOK, "see whose a database is", Box::pin(take)).await?;
        Ok((row, prefix))
    }

    /// The same for a location, whose nonce the root must have, or gets.
    async fn look_at_location(
        self: &Arc<Self>,
        client: &mut Session,
        name: LocationName,
        claim: &Claim,
        located: &Located,
    ) -> Result<Vec<u8>> {
        let key = keys::Claimed { location: Tail(name.as_str().as_bytes()) };
        let key = key.encode(Prefix::of(TenantId::INSTALLATION));
        if let Some(nonce) = self.root_row(&key).await? {
            // Only now: another node may have claimed it a moment ago, in the database first.
            return has_nonce(claim::look(client, Some(claim)).await?, claim, &nonce, located);
        }
        // One at a time, so that the root and the database end with the same nonce. Whatever the
        // database has is given a new one: the root may have been moved, and the old one stays
        // where it comes from.
        let claiming = self.begin_claiming().await?;
        let nonce = match &claiming {
            Claiming::Here(view) => view.get(Space::Catalog, &key).await?,
            Claiming::Elsewhere(..) => self.root_row(&key).await?,
        };
        if let Some(nonce) = nonce {
            return has_nonce(claim::look(client, Some(claim)).await?, claim, &nonce, located);
        }
        let mut nonce = Nonce::default();
        self.secrets()?.entropy.fill("claim of a location", &mut nonce);
        let row = row_of(claim::take(client, claim, Some(&nonce)).await?, located)?;
        match claiming {
            Claiming::Here(view) => {
                let keep = Statement::new(self.root()?.text(KEEP))
                    .with(i16::from(keys::Claimed::FAMILY), Type::INT2)
                    .with(name.as_str().as_bytes().to_vec(), Type::BYTEA)
                    .with(nonce.to_vec(), Type::BYTEA);
                commit_steps(view, vec![Step::Run(keep)], 0).await?;
            }
            Claiming::Elsewhere(elsewhere, _alone) => elsewhere.keep(key, nonce.to_vec()).await?,
        }
        Ok(row)
    }

    async fn begin_claiming(self: &Arc<Self>) -> Result<Claiming<'_>> {
        match &self.root {
            Root::Here(home) => {
                let view = PgView::writing(self, home.root.clone());
                let lock = || vec![Step::Run(Statement::new(lock_work(Work::Claims)))];
                view.run(&home.root, TenantId::INSTALLATION, lock).await?;
                Ok(Claiming::Here(view))
            }
            Root::Elsewhere(elsewhere) => {
                Ok(Claiming::Elsewhere(elsewhere.as_ref(), self.claiming.lock().await))
            }
        }
    }

    /// What keeps a tenant that lives apart from being deleted; fails if it is gone.
    async fn living(self: &Arc<Self>, tenant: TenantId) -> Result<Option<PgView>> {
        if self.root_here().is_some() {
            return PgView::living(self, tenant).await.map(Some);
        }
        // Nobody deletes a tenant whose place is being made.
        match self.root_row(&keys::Tenant {}.encode(Prefix::of(tenant))).await? {
            Some(_) => Ok(None),
            None => Err(Error::not_found(Resource::Tenant, tenant.to_string())),
        }
    }
}

/// The right to claim locations, which one has at a time.
enum Claiming<'a> {
    Here(PgView),
    Elsewhere(&'a dyn Elsewhere, MutexGuard<'a, ()>),
}

fn row_of(owner: Owner, located: &Located) -> Result<Vec<u8>> {
    match owner {
        Owner::Us(row) => Ok(row),
        Owner::Nobody => Err(is_another(located)),
        Owner::Installation | Owner::Others => Err(claim::is_others(&located.what())),
    }
}

fn is_another(located: &Located) -> Error {
    let message = format!("{} is not the one that was used until now", located.what());
    Error::new(ErrorKind::Conflict, message)
}

/// Refuses a database that is a location's by its name only.
fn has_nonce(owner: Owner, claim: &Claim, nonce: &[u8], located: &Located) -> Result<Vec<u8>> {
    if let Owner::Us(row) = owner
        && claim.nonce(&row).is_some_and(|found| found == nonce)
    {
        return Ok(row);
    }
    let message = format!(
        "{} is not the one that this location was until now: give all servers the same URL. If it \
         has taken the other one's place for good, or if a copy of the installation has adopted \
         it, see `tenantry postgres adopt`",
        located.what()
    );
    Err(Error::new(ErrorKind::Conflict, message))
}
