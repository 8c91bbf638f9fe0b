//! What tenants have used, and what it costs.

use super::Store;
use crate::{
    Census, Holding, Journaled, Spent, TenantBill, TenantUsed, UsageBalance, UsageNote, UsagePage,
    tenancy::moving::Patience,
};
use tenantry_auth::{Admin, Level, OperatorScope, Scope, SystemScope, TenantId};
use tenantry_types::{
    Month, PlanName, Quotas, Reported, Result, Tariff, TenantName, Timestamp, UsageEvent, Used,
};

impl Store {
    /// An id for the journal of a node that starts.
    pub fn draw_node(&self, _scope: &SystemScope) -> [u8; 16] {
        let mut node = [0; 16];
        self.0.tenancy.entropy.fill("node", &mut node);
        node
    }

    /// Writes what a node has counted beside commits, once under the node's id and this number, which
    /// begins with 1. Whoever does not know what became of it asks again with the same.
    pub async fn write_journal(
        &self,
        scope: &SystemScope,
        number: ([u8; 16], u64),
        notes: Vec<UsageNote>,
    ) -> Result<Journaled> {
        self.0.tenancy.write_journal(scope, number, notes).await
    }

    /// Adds up what nodes have written.
    pub async fn fold_usage(&self, _scope: &SystemScope) -> Result<()> {
        self.0.tenancy.fold().await
    }

    /// Adds up what nodes have counted beside commits: no tenant is asked, and none is waited for.
    pub async fn fold_amounts(&self, _scope: &SystemScope) -> Result<()> {
        self.0.tenancy.fold_amounts().await
    }

    /// Adds up what a tenant's commits have counted.
    pub async fn collect_usage(&self, _scope: &SystemScope, tenant: TenantId) -> Result<()> {
        again!(self, self.0.tenancy.collect(tenant).await)
    }

    /// What a tenant has used in the month of this moment, with the day and with what the month costs
    /// if these are limited. Reads only: what nodes have counted beside commits must have been added
    /// up, by [`Store::fold_amounts`].
    pub async fn spent(
        &self,
        _scope: &SystemScope,
        tenant: TenantId,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<Spent> {
        again!(self, self.0.tenancy.spent(tenant, now, quotas).await)
    }

    /// [`Store::spent`] for whoever looks each minute: takes over what the tenant keeps if that was not
    /// done for a day, in a commit, and counts it if nobody knows it.
    pub async fn spent_again(
        &self,
        _scope: &SystemScope,
        tenant: TenantId,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<Spent> {
        again!(self, self.0.tenancy.spent_again(tenant, now, quotas).await)
    }

    /// Tells the operator's endpoints of the parts of a tenant's budgets that it has used at a
    /// moment, each once in a day or month; how many events that were. Without an endpoint that wants
    /// to know nothing is written.
    pub async fn tell_budgets(
        &self,
        scope: &SystemScope,
        tenant: TenantId,
        at: (Timestamp, &Spent),
        quotas: &Quotas,
    ) -> Result<usize> {
        again!(self, self.0.tenancy.tell_budgets(scope, tenant, at, quotas).await)
    }

    /// Goes on by a page with a count of what all tenants keep; true once it is done. Only the root is
    /// read, whatever tenants there are, and of it nothing is held from one page to the next.
    pub async fn count_on(&self, _scope: &SystemScope, census: &mut Census) -> Result<bool> {
        self.0.tenancy.count_on(census).await
    }

    /// What the tenant has, with how many keys and members if asked for. Not for a key that is limited.
    pub async fn holding<L: Level>(&self, scope: &Scope<L>, with_rights: bool) -> Result<Holding> {
        again!(self, self.0.tenancy.holding(scope, with_rights).await)
    }

    /// What this tenant has; none if its place was not made yet.
    pub async fn holding_of(
        &self,
        scope: &OperatorScope,
        tenant: TenantId,
    ) -> Result<Option<Holding>> {
        again!(self, self.0.tenancy.holding_of(scope, tenant).await)
    }

    /// Counts what an application has counted itself, each event once under its id, all of them or
    /// none. Whoever does not know what became of it asks again with the same. Only for an operator
    /// that acts as the tenant: a tenant that reports about itself could write its own bill, and use
    /// up the ids and the day that its operator needs.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if an id was counted as something else, [`ErrorKind::LimitExceeded`] if
    /// `enforce` and a quota of the day would be passed, or too many events were reported in the day,
    /// [`ErrorKind::Denied`] for a key, a token or a member of the tenant.
    ///
    /// [`ErrorKind::Conflict`]: tenantry_types::ErrorKind::Conflict
    /// [`ErrorKind::LimitExceeded`]: tenantry_types::ErrorKind::LimitExceeded
    /// [`ErrorKind::Denied`]: tenantry_types::ErrorKind::Denied
    pub async fn report_usage(
        &self,
        scope: &Scope<Admin>,
        events: &[UsageEvent],
        enforce: bool,
    ) -> Result<Reported> {
        again!(self, self.0.tenancy.report(scope, events, enforce).await)
    }

    /// What the tenant has used, the earliest first.
    pub async fn usage(&self, scope: &Scope<Admin>, page: UsagePage) -> Result<Vec<Used>> {
        again!(self, self.0.tenancy.usage(scope, page).await)
    }

    /// What the tenant with this name has used, the earliest first.
    pub async fn usage_of(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        page: UsagePage,
    ) -> Result<Vec<Used>> {
        again!(self, self.0.tenancy.usage_of_tenant(scope, name, page).await)
    }

    /// What each tenant has used in the hour or month `page.from`, by the tenants' numbers, and after
    /// which one others may follow. Few or none are told if many have used nothing in it.
    pub async fn usage_by_tenant(
        &self,
        scope: &OperatorScope,
        page: UsagePage,
        after: Option<TenantId>,
    ) -> Result<(Vec<TenantUsed>, Option<TenantId>)> {
        again!(self, self.0.tenancy.usage_by_tenant(scope, page, after).await)
    }

    /// What a month costs each tenant that has used something in it, by the tenants' numbers and by
    /// the plans that they have now; so many at most, as in [`Store::usage_by_tenant`].
    pub async fn bills(
        &self,
        scope: &OperatorScope,
        month: (Month, usize),
        after: Option<TenantId>,
    ) -> Result<(Vec<TenantBill>, Option<TenantId>)> {
        again!(self, self.0.tenancy.bills(scope, month, after).await)
    }

    /// What all tenants together have used, the earliest first.
    pub async fn usage_of_all(&self, scope: &OperatorScope, page: UsagePage) -> Result<Vec<Used>> {
        again!(self, self.0.tenancy.usage_of_all(scope, page).await)
    }

    /// Both sides of the ledger in a month, which say the same unless it is damaged.
    pub async fn check_usage(&self, scope: &OperatorScope, month: Month) -> Result<UsageBalance> {
        again!(self, self.0.tenancy.check_usage(scope, month).await)
    }

    /// Says what a plan costs from a month on, which has not begun.
    pub async fn put_tariff(
        &self,
        scope: &OperatorScope,
        plan: &PlanName,
        tariff: (Month, Tariff),
    ) -> Result<()> {
        self.0.tenancy.put_tariff(scope, plan, tariff).await
    }

    /// The tariffs of a plan, the earliest first.
    pub async fn tariffs(
        &self,
        scope: &OperatorScope,
        plan: &PlanName,
    ) -> Result<Vec<(Month, Tariff)>> {
        self.0.tenancy.tariffs(scope, plan).await
    }

    /// What a month of the tenant with this name costs by the plan that it has now.
    pub async fn tariff_of(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        month: Month,
    ) -> Result<Tariff> {
        again!(self, self.0.tenancy.tariff_of_tenant(scope, name, month).await)
    }

    /// What a month of this tenant costs by the plan that it has now.
    pub async fn tariff(&self, scope: &Scope<Admin>, month: Month) -> Result<Tariff> {
        again!(self, self.0.tenancy.tariff_of(scope.tenant(), month).await)
    }
}
