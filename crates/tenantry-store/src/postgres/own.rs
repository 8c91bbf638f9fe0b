//! Databases whose URL a tenant carries.

use super::{
    admin::{LOOK, within},
    claim::{self, Claim, Owner},
    cluster::Shared,
    locations::{Located, Own, PART_OF_OWN, out_of_reach},
    opening::Ways,
};
use crate::tenancy::{
    disk::{self, DiskOwn},
    keys::{self, Prefix},
    place::Placement,
};
use std::sync::Arc;
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, OwnDatabase, Result};
use zeroize::Zeroizing;

impl Shared {
    /// The database that a tenant carries, as the root says it, if it says so.
    pub(super) async fn own(
        self: &Arc<Self>,
        placement: Placement,
    ) -> Result<Option<Arc<Located>>> {
        let tenant = placement.tenant;
        // Before it is read: a row read before a change is never kept as one after it.
        let at = self.watch.forgotten();
        if let Some(own) = self.locations.own.lock().get(&tenant)
            && own.at == at
        {
            return Ok(Some(Arc::clone(&own.located)));
        }
        let key =
            keys::OwnDatabase { tenant: tenant.get() }.encode(Prefix::of(TenantId::INSTALLATION));
        let row = self.root_row(&key).await?;
        let Some(row) = row else { return Ok(None) };
        let mut known = self.locations.own.lock();
        if let Some(own) = known.get_mut(&tenant)
            && own.row == row
        {
            own.at = own.at.max(at);
            return Ok(Some(Arc::clone(&own.located)));
        }
        let plain = Zeroizing::new(self.secrets()?.key.open(&key, &row)?);
        let own: DiskOwn = disk::decode(&plain, "a tenant's database")?;
        let located = Ways::of_own(&own.into_own(), self.locations.ca.as_deref())
            .and_then(|ways| Located::new(ways, PART_OF_OWN))
            .map_err(|why| out_of_reach(placement, &why, Some(1)))?;
        let located = Arc::new(located);
        let old = known.put(tenant, Own { row, at, located: Arc::clone(&located) });
        drop(known);
        if let Some(old) = old {
            self.forget_connections(&old.located.root.target);
        }
        Ok(Some(located))
    }

    /// The database that a tenant carries, also if the root has forgotten it already.
    async fn own_of_gone(self: &Arc<Self>, placement: Placement) -> Result<Option<Arc<Located>>> {
        if let Some(located) = self.own(placement).await? {
            return Ok(Some(located));
        }
        let known = self.locations.own.lock();
        Ok(known.peek(&placement.tenant).map(|own| Arc::clone(&own.located)))
    }

    /// Looks at a database for a tenant; fails with words for the operator.
    pub(super) async fn check_own(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
        own: &OwnDatabase,
    ) -> Result<()> {
        let ways = Ways::of_own(own, self.locations.ca.as_deref())?;
        let claim = match tenant {
            Some(tenant) => Some(Claim::of_tenant(&self.secrets()?.claims, tenant)),
            None => None,
        };
        self.is_at_home().await?;
        let what = format!("the database {}", ways.service.url());
        let may_be = |owner: &Owner| match (tenant, owner) {
            (None, Owner::Nobody) | (Some(_), Owner::Us(_)) => Ok(()),
            (None, _) => Err(claim::is_others(&what)),
            (Some(_), _) => {
                let message = format!(
                    "{what} is not the one that the tenant is in; a tenant's URL may change, for \
                     another password or address, but not its database"
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
        };
        let looked = Box::pin(ways.check(claim.as_ref(), may_be)).await;
        looked.map(drop).map_err(for_operator)
    }

    /// Removes all that a deleted tenant has left in a database that it carried, and lets go of
    /// it. In one that is not the tenant's any more, and has nothing of it, there is nothing to
    /// remove; nor is there if its place was never made.
    pub(super) async fn leave_own(
        self: &Arc<Self>,
        placement: Placement,
        was_made: bool,
    ) -> Result<()> {
        let tenant = placement.tenant;
        let Some(located) = self.own_of_gone(placement).await? else { return Ok(()) };
        self.is_at_home().await?;
        let claim = self.claim(placement)?;
        let database = located.root.target.database.as_ref();
        let look = async {
            let mut client = located.enter(database).await?;
            let owner = claim::look(&mut client, Some(&claim)).await?;
            let is_left = matches!(owner, Owner::Nobody)
                && !claim::has_rows(&mut client, placement.tenant).await?;
            Ok((owner, is_left))
        };
        let row = match within(LOOK, "look at a database", look).await? {
            (Owner::Us(row), _) => row,
            (_, true) => return Ok(()),
            _ if !was_made => return Ok(()),
            _ => {
                let message = "the database that a deleted tenant has carried is claimed by \
                     others, or by nobody although it has rows of the tenant: nothing is removed \
                     there. Lead its URL back, or give it up with `tenantry tenant abandon`";
                return Err(Error::new(ErrorKind::Conflict, message));
            }
        };
        located.root.target.server.set_claim(Some(row.into()));
        super::emptying::empty(self, &located.root, tenant).await?;
        self.remove_all_graphs(&located).await?;
        let release = async {
            let mut client = located.enter(database).await?;
            claim::release(&mut client, &claim, tenant).await
        };
        within(LOOK, "release a database", release).await?;
        located.root.target.server.set_claim(None);
        self.locations.own.lock().pop(&tenant);
        self.forget_connections(&located.root.target);
        Ok(())
    }
}

/// What is wrong with a database that the operator names is wrong with the request.
fn for_operator(why: Error) -> Error {
    match why.kind() {
        ErrorKind::Unavailable | ErrorKind::Conflict => why,
        _ => Error::invalid(why.to_string()),
    }
}
