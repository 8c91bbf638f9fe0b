//! What amounts cost: tariffs of plans, which count from a month on and are never changed.

use super::INSTALLATION;
use crate::{
    TenantBill, UsagePage,
    tenancy::{
        Backend, Space, Tenancy, View,
        backend::Scan,
        complete,
        disk::DiskTariff,
        done,
        keys::{self, Decode as _, Middle},
        plans,
    },
};
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{
    Bill, Error, ErrorKind, Every, Hour, Month, PlanName, Result, Tariff, TenantName,
};

fn key(plan: &PlanName, from: Month) -> Vec<u8> {
    let plan = Middle(plan.as_str().as_bytes().to_vec());
    keys::Tariff { plan, from: from.0 }.encode(INSTALLATION)
}

/// Tariffs of one plan: a hundred years.
const TARIFFS_MAX: usize = 1_200;

/// The keys of all tariffs of a plan: they go with it.
pub(crate) async fn tariff_keys(view: &impl View, plan: &PlanName) -> Result<Vec<Vec<u8>>> {
    let all = keys::tariffs_of(INSTALLATION, plan.as_str().as_bytes());
    let mut rows = Scan::new(view, Space::Catalog, all, None);
    let mut found = Vec::new();
    while let Some((key, _)) = rows.next().await? {
        found.push(key);
    }
    Ok(found)
}

impl<B: Backend> Tenancy<B> {
    /// Says what a plan costs from a month on: a month that has not begun, so that no bill changes,
    /// or any month if the plan has cost nothing so far.
    pub(crate) async fn put_tariff(
        self: &Arc<Self>,
        scope: &OperatorScope,
        plan: &PlanName,
        (from, tariff): (Month, Tariff),
    ) -> Result<()> {
        self.operator_stands(scope, None).await?;
        let (inner, scope, plan) = (Arc::clone(self), scope.clone(), plan.clone());
        complete(async move {
            inner.check_gate()?;
            let installation = inner.installation().await?;
            let _logging = installation.writer.lock().await;
            let view = inner.change(&installation).await?;
            inner.operator_stands(&scope, Some(&view)).await?;
            plans::require(&view, &plan).await?;
            let there = tariff_keys(&view, &plan).await?;
            if there.len() >= TARIFFS_MAX {
                let message = format!("a plan has at most {TARIFFS_MAX} tariffs");
                return Err(Error::new(ErrorKind::LimitExceeded, message));
            }
            let now = Hour::of(inner.now()).month();
            if there.contains(&key(&plan, from)) || (!there.is_empty() && from <= now) {
                let is_free = |month: &Month| !there.contains(&key(&plan, *month));
                let most = now.0 + 1 + u32::try_from(TARIFFS_MAX).unwrap_or(u32::MAX);
                let next = (now.0 + 1..=most).map(Month).find(is_free).unwrap_or(from);
                let message = format!(
                    "tariffs are followed and never changed, and {from} has one or has begun: say \
                     one from {next} on"
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            let mut log = inner.begin(&installation)?;
            log.put(Space::Catalog, key(&plan, from), &DiskTariff::new(&tariff));
            log.audit(done(scope.author(), "tariff.put", &format!("{plan} from {from}"), 1));
            inner.commit(&installation, view, log).await
        })
        .await
    }

    /// The tariffs of a plan, the earliest first.
    pub(crate) async fn tariffs(
        &self,
        scope: &OperatorScope,
        plan: &PlanName,
    ) -> Result<Vec<(Month, Tariff)>> {
        self.operator_stands(scope, None).await?;
        plans::require(&self.root(None).await?, plan).await?;
        self.tariffs_of(plan).await
    }

    async fn tariffs_of(&self, plan: &PlanName) -> Result<Vec<(Month, Tariff)>> {
        let (installation, root) = (self.installation().await?, self.root(None).await?);
        let all = keys::tariffs_of(INSTALLATION, plan.as_str().as_bytes());
        let mut rows = Scan::new(&root, Space::Catalog, all, None);
        let mut found = Vec::new();
        while let Some((key, sealed)) = rows.next().await? {
            let from = keys::Tariff::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("the key of a tariff cannot be read"))?
                .from;
            let row: DiskTariff = installation.open_row(&key, &sealed)?;
            found.push((Month(from), row.into_tariff()?));
        }
        Ok(found)
    }

    /// [`Self::tariff_of`] for the operator.
    pub(crate) async fn tariff_of_tenant(
        &self,
        scope: &OperatorScope,
        name: &TenantName,
        month: Month,
    ) -> Result<Tariff> {
        self.operator_stands(scope, None).await?;
        self.tariff_of(self.require(name).await?.id(), month).await
    }

    /// What a tenant's plan costs in a month; nothing if no tariff says so.
    pub(crate) async fn tariff_of(&self, id: TenantId, month: Month) -> Result<Tariff> {
        let plan = match self.open_tenant(id).await? {
            Some(tenant) => tenant.info().plan.clone(),
            None => None,
        };
        match plan {
            Some(plan) => self.tariff_in(&plan, month).await,
            None => Ok(Tariff::default()),
        }
    }

    /// What the month costs each tenant that has used something in it, by number, deleted ones too.
    pub(crate) async fn bills(
        self: &Arc<Self>,
        scope: &OperatorScope,
        (month, limit): (Month, usize),
        after: Option<TenantId>,
    ) -> Result<(Vec<TenantBill>, Option<TenantId>)> {
        let page = UsagePage { every: Every::Month, from: month.0, limit };
        let (mut tariffs, free) = (HashMap::new(), Tariff::default());
        let mut bills = Vec::new();
        let (all, next) = self.usage_by_tenant(scope, page, after).await?;
        for used in all {
            let tariff: &Tariff = match &used.plan {
                None => &free,
                // Many tenants have few plans.
                Some(plan) => match tariffs.entry(plan.clone()) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => new.insert(self.tariff_in(plan, month).await?),
                },
            };
            let bill = used.name.is_some().then(|| Bill::of(used.amounts, tariff));
            bills.push(TenantBill { used, bill });
        }
        Ok((bills, next))
    }

    async fn tariff_in(&self, plan: &PlanName, month: Month) -> Result<Tariff> {
        let (installation, root) = (self.installation().await?, self.root(None).await?);
        let all = keys::tariffs_of(INSTALLATION, plan.as_str().as_bytes());
        let mut rows = Scan::new(&root, Space::Catalog, all, None);
        let (end, mut last) = (key(plan, month), None);
        while let Some(row) = rows.next().await?
            && row.0 <= end
        {
            last = Some(row);
        }
        // Only this one is read: one of the past that is unreadable is in nobody's way.
        let Some((key, sealed)) = last else { return Ok(Tariff::default()) };
        installation.open_row::<DiskTariff>(&key, &sealed)?.into_tariff()
    }
}
