//! What a tenant has used of its budgets, looked up each minute by whoever admits its requests.

use super::{Counted, Counters, Seen, counted::News, seen_in, sums_in};
use crate::{
    Spent, UsagePage,
    tenancy::{Backend, Tenancy, tenants::OpenTenant},
};
use std::{sync::Arc, time::Duration};
use tenantry_auth::TenantId;
use tenantry_types::{Amounts, Bill, Every, Hour, Meter, Quotas, Result, Timestamp, Used};

fn small(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

fn sum(used: Vec<Used>, is_within: impl Fn(u32) -> bool) -> Amounts {
    let mut all = Amounts::default();
    for one in used.into_iter().filter(|one| is_within(one.at)) {
        all.add_all(&one.amounts);
    }
    all
}

/// For so long what a tenant keeps is added up in memory alone by each look. Longer times would be spread
/// over ever more hours, and beyond [`super::counted`]'s bound over none.
const COLLECTED_WITHIN_MILLIS: u64 = 24 * 3_600_000;

/// For so long a look waits until that is done.
const COLLECT_WITHIN: Duration = Duration::from_millis(400);

/// True if what a tenant keeps is to be taken over although it has written nothing.
fn is_behind(
    tenant: &OpenTenant,
    sequence: u64,
    (seen, counted): (&Seen, &Counted),
    now: Timestamp,
) -> bool {
    let keeps = counted.records.unwrap_or(0) > 0 || counted.bytes.unwrap_or(0) > 0;
    let is_unknown = counted.records.is_none() || counted.bytes.is_none();
    let is_old = now.0.saturating_sub(seen.since.0) > COLLECTED_WITHIN_MILLIS;
    (keeps && is_old) || (is_unknown && !tenant.is_silent_at(sequence))
}

impl<B: Backend> Tenancy<B> {
    /// What a tenant has used of these budgets in the day and the month of a moment. Writes nothing:
    /// what of its commits and stocks is in no sum yet is added in memory, so that whoever looks each
    /// minute at a tenant that does nothing makes no commit for it. What nodes have counted beside
    /// commits is in it if it was folded.
    pub(crate) async fn spent(
        &self,
        id: TenantId,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<Spent> {
        Ok(self.look(id, now, quotas).await?.0)
    }

    /// The same for whoever looks again and again: once a day it takes over what the tenant keeps, and
    /// once after a commit it counts that if nobody knows it.
    pub(crate) async fn spent_again(
        self: &Arc<Self>,
        id: TenantId,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<Spent> {
        let (spent, is_behind) = self.look(id, now, quotas).await?;
        if !is_behind {
            return Ok(spent);
        }
        // It goes on if it takes longer: what was found must not wait for the tenant's writers.
        match tokio::time::timeout(COLLECT_WITHIN, self.collect(id)).await {
            Ok(Ok(())) => self.spent(id, now, quotas).await,
            Ok(Err(error)) => {
                tracing::warn!(?error, tenant = %id, "add up what a tenant keeps; tried again");
                Ok(spent)
            }
            Err(_) => Ok(spent),
        }
    }

    async fn look(&self, id: TenantId, now: Timestamp, quotas: &Quotas) -> Result<(Spent, bool)> {
        let (hour, installation) = (Hour::of(now), self.installation().await?);
        let (day, month) = (hour.day(), hour.month());
        // In one view, so that the sums have what was seen and nothing else; and before the counters.
        let (seen, hours, months) = {
            let root = self.root(None).await?;
            let (_, seen) = seen_in(&root, &installation, id).await?;
            // Only whoever has a budget of it pays for a day.
            let limit = if quotas.day.is_some() { 24 } else { 0 };
            let hours = UsagePage { every: Every::Hour, from: day.first().0, limit };
            let months = UsagePage { every: Every::Month, from: month.0, limit: 1 };
            let hours = sums_in(&root, &installation, id, hours).await?;
            (seen, hours, sums_in(&root, &installation, id, months).await?)
        };
        let (news, is_behind) = match self.counters(id).await? {
            Some((tenant, Counters::Counted(sequence, counted))) => {
                let behind = is_behind(&tenant, sequence, (&seen, &counted), now);
                (seen.look(sequence, &counted, now).1, behind)
            }
            _ => (News::new(), false),
        };
        let mut in_day = sum(hours, |at| Hour(at).day() == day);
        let mut in_month = sum(months, |at| at == month.0);
        for (at, amounts) in &news {
            if at.day() == day {
                in_day.add_all(amounts);
            }
            if at.month() == month {
                in_month.add_all(amounts);
            }
        }
        let cost = if quotas.cost.is_some() {
            // As bills are made.
            let bill = Bill::of(in_month, &self.tariff_of(id, month).await?);
            Some(small(bill.total.0))
        } else {
            None
        };
        let requests = |amounts: &Amounts| small(amounts.get(Meter::Requests));
        let day = quotas.day.map(|_| requests(&in_day));
        Ok((Spent { day, month: requests(&in_month), cost }, is_behind))
    }
}
