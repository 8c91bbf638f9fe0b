//! What tenants have used and what it costs, as the operator sees it.
//!
//! What this node counted before a call is in its answer, and what others did up to a second ago.

use super::Operator;
use crate::metering;
use tenantry_auth::TenantId;
use tenantry_store::{TenantBill, TenantUsed, UsageBalance, UsagePage};
use tenantry_types::{Bill, Every, Month, PlanName, Result, Tariff, TenantName, Used};

impl Operator {
    /// What a tenant has used, the earliest first.
    pub async fn usage(&self, name: &TenantName, page: UsagePage) -> Result<Vec<Used>> {
        self.inner.check_served(name)?;
        metering::flush_before_reading(&self.inner).await;
        self.inner.store.usage_of(&self.scope, name, page).await
    }

    /// What all tenants together have used, the earliest first. What was written in the last minute
    /// may be missing.
    pub async fn usage_of_all(&self, page: UsagePage) -> Result<Vec<Used>> {
        metering::flush_before_reading(&self.inner).await;
        self.inner.store.usage_of_all(&self.scope, page).await
    }

    /// What each tenant has used in the hour or month `page.from`, by the tenants' numbers; deleted
    /// ones, too. What was written in the last minute may be missing. With them goes after which one
    /// others may follow; few or none are told if many have used nothing in that time.
    pub async fn usage_by_tenant(
        &self,
        page: UsagePage,
        after: Option<TenantId>,
    ) -> Result<(Vec<TenantUsed>, Option<TenantId>)> {
        metering::flush_before_reading(&self.inner).await;
        self.inner.store.usage_by_tenant(&self.scope, page, after).await
    }

    /// Both sides of the ledger in a month: the accounts of all tenants added up, and the operator's.
    pub async fn check_usage(&self, month: Month) -> Result<UsageBalance> {
        self.inner.store.check_usage(&self.scope, month).await
    }

    /// What a month of a tenant costs, by the plan that it has now.
    pub async fn bill(&self, name: &TenantName, month: Month) -> Result<Bill> {
        let page = UsagePage { every: Every::Month, from: month.0, limit: 1 };
        let used = self.usage(name, page).await?;
        let used = used.first().filter(|one| one.at == month.0).map(|one| one.amounts);
        let tariff = self.inner.store.tariff_of(&self.scope, name, month).await?;
        Ok(Bill::of(used.unwrap_or_default(), &tariff))
    }

    /// What a month costs each tenant that has used something in it, by the tenants' numbers and by the
    /// plans that they have now; so many at most. Deleted ones, and those whose row cannot be read, are
    /// there without a bill. What was written in the last minute may be missing. With them goes after
    /// which one others may follow, as in [`Operator::usage_by_tenant`].
    pub async fn bills(
        &self,
        month: Month,
        limit: usize,
        after: Option<TenantId>,
    ) -> Result<(Vec<TenantBill>, Option<TenantId>)> {
        metering::flush_before_reading(&self.inner).await;
        self.inner.store.bills(&self.scope, (month, limit), after).await
    }

    /// Says what a plan costs from a month on, which has not begun: no bill changes.
    pub async fn put_tariff(&self, plan: &PlanName, from: Month, tariff: Tariff) -> Result<()> {
        self.inner.store.put_tariff(&self.scope, plan, (from, tariff)).await
    }

    /// The tariffs of a plan, the earliest first.
    pub async fn tariffs(&self, plan: &PlanName) -> Result<Vec<(Month, Tariff)>> {
        self.inner.store.tariffs(&self.scope, plan).await
    }
}
