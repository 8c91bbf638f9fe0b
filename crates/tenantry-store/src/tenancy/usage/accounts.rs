//! The operator's side of the ledger: what all tenants together have used.
//!
//! Each amount is entered twice, for its tenant and for all, in one commit. That both sides agree is
//! what [`Tenancy::check_usage`] looks at, in one view.

use super::{INSTALLATION, Raise, span};
use crate::{
    TenantUsed, UsageBalance, UsagePage,
    tenancy::{
        Backend, Space, Tenancy, View, complete,
        disk::DiskUsage,
        keys::{self, Decode as _},
        tenants::OpenTenant,
    },
};
use std::sync::Arc;
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{Amounts, Error, ErrorKind, Every, Hour, Month, Result, Used};

/// The account of all, in place of a tenant's number, which none has.
const ALL: TenantId = TenantId::new(u64::MAX);
/// How long hours are kept; months are kept for good.
const HOURS_KEPT: u32 = 92 * 24;
const LOOKED_EVERY: u64 = 8;
/// Old hours of a tenant that go then: more than come meanwhile, so that none stay.
const OLD_AT_ONCE: usize = 48;
/// Sums that one view looks at before another one is taken.
const LOOKED_AT_ONCE: usize = 256;
/// Accounts that one page looks at, whether they have something in that time or not.
const LOOKED_AT_MAX: usize = if cfg!(test) { 8 } else { 10_000 };

impl Raise {
    /// Enters amounts on both sides.
    pub(super) fn enter(&mut self, tenant: TenantId, hour: Hour, amounts: &Amounts) {
        self.add(tenant, hour, amounts);
        self.add(ALL, hour, amounts);
    }
}

/// Hours that are older than is kept, of a tenant that gets this one. Looked for in one of eight hours,
/// in another one each day and for each tenant: the first commit of an hour has many tenants, and some
/// tenants work at the same time each day.
pub(super) async fn old_hours(view: &impl View, tenant: u64, now: Hour) -> Result<Vec<Vec<u8>>> {
    if !is_looked_at(tenant, now) {
        return Ok(Vec::new());
    }
    let all = keys::usage_of(INSTALLATION, TenantId::new(tenant), span(Every::Hour));
    let mut old = Vec::new();
    for (key, _) in view.page(Space::Catalog, &all, &all, OLD_AT_ONCE).await? {
        if decode(&key)?.at.saturating_add(HOURS_KEPT) < now.0 {
            old.push(key);
        }
    }
    Ok(old)
}

fn is_looked_at(tenant: u64, now: Hour) -> bool {
    let hour = u64::from(now.0);
    (hour / 24 + hour + tenant % LOOKED_EVERY).is_multiple_of(LOOKED_EVERY)
}

fn decode(key: &[u8]) -> Result<keys::Usage> {
    keys::Usage::decode(INSTALLATION, key)
        .ok_or_else(|| Error::corrupt("the key of a sum of usage cannot be read"))
}

/// The first account with a number of this or above, and its sum of this hour or month.
async fn next_account(
    view: &impl View,
    installation: &OpenTenant,
    from: u64,
    (every, at): (Every, u32),
) -> Result<Option<(u64, Option<Amounts>)>> {
    let (all, span) = (keys::Usage::all(INSTALLATION), span(every));
    let start = keys::Usage { tenant: from, span: 0, at: 0 }.encode(INSTALLATION);
    let Some((key, _)) = view.page(Space::Catalog, &all, &start, 1).await?.pop() else {
        return Ok(None);
    };
    let tenant = decode(&key)?.tenant;
    let key = keys::Usage { tenant, span, at }.encode(INSTALLATION);
    let row: Option<DiskUsage> = installation.row(view, Space::Catalog, &key).await?;
    Ok(Some((tenant, row.map(DiskUsage::into_amounts).transpose()?)))
}

impl<B: Backend> Tenancy<B> {
    /// What each tenant has used in one hour or month, by number, deleted ones too. `page.from` is
    /// the hour or month. What tenants have written in the last minute may be missing.
    pub(crate) async fn usage_by_tenant(
        self: &Arc<Self>,
        scope: &OperatorScope,
        page: UsagePage,
        after: Option<TenantId>,
    ) -> Result<(Vec<TenantUsed>, Option<TenantId>)> {
        self.operator_stands(scope, None).await?;
        let inner = Arc::clone(self);
        complete(async move { inner.fold_all(false).await }).await?;
        let installation = self.installation().await?;
        let (mut from, mut found) = (after.map_or(0, |last| last.get().saturating_add(1)), vec![]);
        let (mut looked_at, mut is_end) = (0, false);
        'pages: while found.len() < page.limit && looked_at < LOOKED_AT_MAX {
            // Let go before tenants are opened, which takes one for each.
            let root = self.root(None).await?;
            for _ in 0..LOOKED_AT_ONCE.min(LOOKED_AT_MAX - looked_at) {
                let next =
                    next_account(&root, &installation, from, (page.every, page.from)).await?;
                let Some((tenant, amounts)) = next.filter(|(tenant, _)| *tenant != ALL.get())
                else {
                    is_end = true;
                    break 'pages;
                };
                looked_at += 1;
                if let Some(amounts) = amounts {
                    let tenant = TenantId::new(tenant);
                    found.push(TenantUsed { tenant, name: None, plan: None, amounts });
                }
                from = tenant.saturating_add(1);
                if found.len() >= page.limit {
                    break;
                }
            }
        }
        for one in found.iter_mut().filter(|one| one.tenant != TenantId::INSTALLATION) {
            let info = match self.tenant_by_id(one.tenant).await {
                Ok(info) => info,
                // One that is damaged hides nobody else.
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    tracing::error!(?error, tenant = %one.tenant, "who has used something");
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(info) = info {
                (one.name, one.plan) = (Some(info.name.clone()), info.plan.clone());
            }
        }
        let last = from.checked_sub(1).filter(|_| !is_end).map(TenantId::new);
        Ok((found, last))
    }

    /// What all tenants together have used, the earliest first.
    pub(crate) async fn usage_of_all(
        self: &Arc<Self>,
        scope: &OperatorScope,
        page: UsagePage,
    ) -> Result<Vec<Used>> {
        self.operator_stands(scope, None).await?;
        let inner = Arc::clone(self);
        complete(async move { inner.fold_all(false).await }).await?;
        self.sums_of(ALL, page).await
    }

    /// Adds up the accounts of all tenants in a month, and compares them with the operator's.
    pub(crate) async fn check_usage(
        self: &Arc<Self>,
        scope: &OperatorScope,
        month: Month,
    ) -> Result<UsageBalance> {
        self.operator_stands(scope, None).await?;
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let mut balance = UsageBalance::default();
        let mut from = 0;
        while let Some((tenant, amounts)) =
            next_account(&root, &installation, from, (Every::Month, month.0)).await?
        {
            let amounts = amounts.unwrap_or_default();
            if tenant == ALL.get() {
                balance.all = amounts;
                break;
            }
            balance.tenants += u64::from(!amounts.is_empty());
            balance.sum.add_all(&amounts);
            from = tenant.saturating_add(1);
        }
        Ok(balance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_works_at_one_hour_of_the_day_is_looked_at_as_well() {
        for (tenant, hour) in [(1, 0), (7, 9), (u64::MAX, 23)] {
            let looked = (0..80)
                .filter(|day| is_looked_at(tenant, Hour(490_000 / 24 * 24 + day * 24 + hour)));
            assert_eq!(looked.count(), 10, "{tenant} at {hour}");
        }
        let at_once = (0..800).filter(|tenant| is_looked_at(*tenant, Hour(490_000))).count();
        assert_eq!(at_once, 100);
    }
}
