//! Why something is not there that a tenant should have at a place: since the tenant was looked for
//! there, here or on another node it may have been moved, or deleted.

use super::{
    call,
    cluster::{Cluster, Place, Shared},
    connections::Connections,
    failure::{Cause, Failure, Outcome},
    statement::Step,
    view::{Key, first_bytes},
};
use crate::tenancy::{
    keys::{self, Prefix},
    moving::moved,
    place::{PlaceRow, Placement},
    tenants::OpenTenant,
};
use std::sync::Arc;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Location, Resource, Result};

impl Shared {
    /// Why a place has no counters of a tenant.
    pub(super) async fn headless(self: &Arc<Self>, place: &Place, of: &OpenTenant) -> Error {
        let why = self.without_counters(place, of.id()).await;
        why.unwrap_or_else(|| Error::not_found(Resource::Tenant, of.info().name.as_str()))
    }

    /// The same by the tenant's number; none if it is gone.
    async fn without_counters(self: &Arc<Self>, place: &Place, tenant: TenantId) -> Option<Error> {
        // It is seldom asked, and large.
        let find = async {
            Ok(match self.lives_at(place, tenant).await? {
                None => None,
                Some(false) => Some(moved()),
                // It may have come back since.
                Some(true) if self.stored_counters(place, tenant).await?.is_some() => Some(moved()),
                Some(true) => {
                    Some(Error::corrupt(format!("the counters of tenant {tenant} are gone")))
                }
            })
        };
        Box::pin(find).await.unwrap_or_else(Some)
    }

    /// What a failure at a place of a tenant's means: if something is missing, the tenant may live
    /// elsewhere, and whoever looks for it again finds it.
    pub(super) async fn explain(
        self: &Arc<Self>,
        place: &Place,
        tenant: TenantId,
        why: Failure,
    ) -> Failure {
        match why.cause() {
            Cause::Empty => match self.without_counters(place, tenant).await {
                Some(error) => error.into(),
                None => why,
            },
            // The installation's rows are where they are, and in the root is no tenant's table.
            Cause::Gone if tenant != TenantId::INSTALLATION && self.root_here() != Some(place) => {
                match Box::pin(self.lives_at(place, tenant)).await {
                    Ok(Some(false)) => moved().into(),
                    // Gone as a whole, or damaged.
                    Ok(_) => why,
                    Err(error) => {
                        tracing::warn!(?error, %tenant, "ask where a tenant lives");
                        why
                    }
                }
            }
            _ => why,
        }
    }

    /// Whether the root says that a tenant lives at this place; none if it is gone. Nothing is asked of
    /// the place where it lives.
    async fn lives_at(self: &Arc<Self>, place: &Place, tenant: TenantId) -> Result<Option<bool>> {
        if self.root_row(&keys::Tenant {}.encode(Prefix::of(tenant))).await?.is_none() {
            return Ok(None);
        }
        let key = keys::Place { tenant: tenant.get() };
        let row = self.root_row(&key.encode(Prefix::of(TenantId::INSTALLATION))).await?;
        let row = row.map(|row| PlaceRow::decode(tenant, &row)).transpose()?;
        let lives = row.map_or(Placement::shared(tenant), |row| row.placement);
        if lives.location == Location::Home && self.home_here().is_none() {
            return Ok(Some(false));
        }
        // In a database that was not looked at yet, nobody has a place to compare with.
        let located = self.find(lives).await?;
        Ok(Some(self.place_in(&located, lives) == *place))
    }

    /// The row of a tenant's counters, as it is stored.
    pub(super) async fn stored_counters(
        &self,
        place: &Place,
        tenant: TenantId,
    ) -> Outcome<Option<Vec<u8>>> {
        let key = keys::Head {}.encode(Prefix::of(tenant));
        let split = Key::split(&key)?;
        let read = |conn| {
            let steps = vec![Step::Run(split.get(place))];
            call::read(conn, self.limits, place.right(tenant), steps)
        };
        let answers = self.asking(place).with(&place.target, None, read).await?;
        Ok(first_bytes(answers.first().map_or(&[], Vec::as_slice))?)
    }

    /// The connections for whoever asks one thing of a place.
    fn asking(&self, place: &Place) -> &Connections {
        let root = self.root_here();
        let is_near = root.is_some_and(|root| place.target.server == root.target.server);
        if is_near { &self.lookups } else { &self.far }
    }
}

impl Cluster {
    /// The stored counters of a tenant, as they are in its place now.
    pub(super) async fn counters(&self, place: &Place, tenant: &OpenTenant) -> Result<Vec<u8>> {
        let shared = &self.shared;
        match shared.stored_counters(place, tenant.id()).await {
            Ok(Some(row)) => Ok(row),
            Ok(None) => Err(shared.headless(place, tenant).await),
            Err(why) => Err(shared.explain(place, tenant.id(), why).await.into()),
        }
    }
}
