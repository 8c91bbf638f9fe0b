//! How many tenants there are, and how much one has: numbers that its operator may know.

use super::{
    Backend, Space, Tenancy, View,
    backend::Scan,
    catalog::{PARTITION, databases_max},
    disk::{DiskCollection, DiskStatistics},
    keys::{self, Decode as _, Prefix},
    place::Fresh,
    tenants::OpenTenant,
};
use crate::{TenantInfo, TenantSizes};
use std::sync::Arc;
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{CollectionNumber, Error, Result, TenantName};

/// Names of tenants counted at once: some 2 MiB if they are as long as can be.
const COUNTED_AT_ONCE: usize = 4_096;
/// Rows of collections read at once.
const READ_AT_ONCE: usize = 64;

impl<B: Backend> Tenancy<B> {
    /// The number of living tenants; none of them is opened. Of those made or erased meanwhile
    /// some may count.
    pub(crate) async fn count_tenants(&self, scope: &OperatorScope) -> Result<u64> {
        self.operator_stands(scope, None).await?;
        let all = keys::TenantName::all(Prefix::of(TenantId::INSTALLATION));
        let (mut from, mut count) = (all.clone(), 0);
        loop {
            // The root is let go after each page: whoever asks what a key may do waits for it.
            let root = self.root(None).await?;
            let names = root.page(Space::Catalog, &all, &from, COUNTED_AT_ONCE).await?;
            drop(root);
            count += names.len() as u64;
            match names.into_iter().next_back() {
                Some((last, _)) => from = last,
                None => return Ok(count),
            }
            from.push(0);
        }
    }

    /// How much a tenant has; `None` if its place was not made yet, which this does not do.
    pub(crate) async fn tenant_sizes(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
    ) -> Result<(Arc<TenantInfo>, Option<TenantSizes>)> {
        self.operator_stands(scope, None).await?;
        let tenant = self.require(name).await?;
        if !self.open_if_made(&tenant).await? {
            return Ok((tenant.info(), None));
        }
        let mut sizes = self.measure(&tenant).await?;
        sizes.users = self.count_members(tenant.id()).await?.into();
        // What was read of a tenant that is erased meanwhile is part of it.
        tenant.check_alive()?;
        Ok((tenant.info(), Some(sizes)))
    }

    /// Opens a tenant's place; false if it was not made yet, which this does not do.
    pub(super) async fn open_if_made(&self, tenant: &OpenTenant) -> Result<bool> {
        if tenant.placement().is_apart() {
            if self.is_shared() && tenant.fresh() != Fresh::Made {
                // Another node may have made it.
                self.ask_place(tenant).await?;
            }
            if tenant.fresh() != Fresh::Made {
                return Ok(false);
            }
        }
        self.at_home(tenant).await?;
        Ok(true)
    }

    pub(super) async fn measure(&self, tenant: &OpenTenant) -> Result<TenantSizes> {
        let most = databases_max(tenant, self.allowance(None, tenant).await?.limits);
        self.measure_in(&self.view(tenant).await?, tenant, most).await
    }

    /// The same in a view, with so many databases at most.
    pub(super) async fn measure_in(
        &self,
        view: &B::View,
        tenant: &OpenTenant,
        most: u64,
    ) -> Result<TenantSizes> {
        let mut sizes = TenantSizes::default();
        let all = keys::DatabaseName::all(tenant.prefix());
        let mut names = Scan::new(view, Space::Data, all, None).at_most(most);
        while names.next().await?.is_some() {
            sizes.databases += 1;
        }
        let all = keys::Collection::all(tenant.prefix());
        let mut from = all.clone();
        loop {
            let rows = view.page(Space::Data, &all, &from, READ_AT_ONCE).await?;
            let Some((last, _)) = rows.last() else { return Ok(sizes) };
            from.clone_from(last);
            from.push(0);
            add(&mut sizes, view, tenant, &rows).await?;
        }
    }
}

/// Adds the collections of these rows.
async fn add(
    sizes: &mut TenantSizes,
    view: &impl View,
    tenant: &OpenTenant,
    rows: &[(Vec<u8>, Vec<u8>)],
) -> Result<()> {
    let mut found = Vec::with_capacity(rows.len());
    let mut counts = Vec::with_capacity(rows.len());
    for (key, row) in rows {
        let number = keys::Collection::decode(tenant.prefix(), key)
            .ok_or_else(|| Error::corrupt("a collection's key is unreadable"))?
            .collection;
        let row: DiskCollection = tenant.open_row(key, row)?;
        found.push(row.into_info(CollectionNumber(number))?);
        let count = keys::Statistics { collection: number, partition: PARTITION };
        counts.push(count.encode(tenant.prefix()));
    }
    let counted = view.many(Space::Data, &counts).await?;
    for (((info, (own, _)), key), row) in found.iter().zip(rows).zip(&counts).zip(counted) {
        let Some(row) = row else {
            // Where a view is several statements, it may be gone by the second one.
            if view.get(Space::Data, own).await?.is_none() {
                continue;
            }
            return Err(Error::corrupt(format!("the counts of {} are missing", info.id)));
        };
        let row: DiskStatistics = tenant.open_row(key, &row)?;
        let dimensions = info.fields().into_iter().filter_map(|(_, _, spec)| spec.dimension);
        let counts = row.into_statistics();
        sizes.add(counts.records, dimensions);
        sizes.add_bytes(counts.bytes());
    }
    Ok(())
}
