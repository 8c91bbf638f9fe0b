//! How much the tenants have that metrics tell apart. Nothing counts it while it is written, so it is
//! looked at while somebody reads metrics: each tenant once a minute, because a look reads all of its
//! catalog; only if it has asked something since, because a look opens the database of one that has its
//! own, and an idle tenant must not keep it open; and no longer than a second at once, because a
//! tenant's database may not answer.

use crate::{Operator, denials::DONE};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_store::TenantSizes;
use tenantry_types::{ErrorKind, Result};
use tokio::time::timeout_at;

const EVERY: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(1);

/// What was seen of a tenant.
#[derive(Debug)]
struct Seen {
    at: Instant,
    /// How often it had asked before.
    asked: u64,
    sizes: Option<TenantSizes>,
}

/// What was seen last.
#[derive(Debug, Default)]
pub(crate) struct Measured(Mutex<HashMap<TenantId, Seen>>);

impl Measured {
    /// Those of these tenants that are to be looked at, the longest unseen first. Of others nothing is
    /// kept.
    fn due(&self, tenants: &[(TenantId, u64)]) -> Vec<(TenantId, u64)> {
        let mut known = self.0.lock();
        known.retain(|tenant, _| tenants.iter().any(|(one, _)| one == tenant));
        let is_due = |seen: &Seen, asked: u64| seen.asked != asked && seen.at.elapsed() >= EVERY;
        let mut due: Vec<_> = tenants
            .iter()
            .map(|(tenant, asked)| (known.get(tenant), *tenant, *asked))
            .filter(|(seen, _, asked)| seen.is_none_or(|seen| is_due(seen, *asked)))
            .map(|(seen, tenant, asked)| (seen.map(|seen| seen.at), tenant, asked))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, tenant, asked)| (tenant, asked)).collect()
    }

    /// Puts down what was seen of a tenant; true if nothing of it was before.
    fn put(&self, tenant: TenantId, asked: u64, sizes: Option<TenantSizes>) -> bool {
        let is_seen = sizes.is_some();
        let before = self.0.lock().insert(tenant, Seen { at: Instant::now(), asked, sizes });
        is_seen && before.is_none_or(|before| before.sizes.is_none())
    }

    /// Puts down that a tenant could not be looked at, so that others come before it the next time;
    /// what was known stays.
    fn missed(&self, tenant: TenantId, asked: u64) {
        let mut known = self.0.lock();
        let sizes = known.remove(&tenant).and_then(|seen| seen.sizes);
        known.insert(tenant, Seen { at: Instant::now(), asked, sizes });
    }

    /// A tenant that is gone asks nothing any more, and so would never be looked at again.
    fn forget(&self, tenant: TenantId) {
        if let Some(seen) = self.0.lock().get_mut(&tenant) {
            seen.sizes = None;
        }
    }
}

impl Operator {
    /// How much each of these tenants has, in numbers, as of a minute ago or so; those that are not
    /// there, or could not be asked in time, are left out. With each comes how often it has asked so
    /// far. The log of a tenant says when it begins to be looked at.
    pub async fn sizes(&self, tenants: &[(TenantId, u64)]) -> Vec<(TenantId, TenantSizes)> {
        let measured = &self.inner.measured;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        for (tenant, asked) in measured.due(tenants) {
            match timeout_at(deadline, self.look(tenant)).await {
                Ok(Ok(sizes)) => {
                    if measured.put(tenant, asked, sizes) {
                        let log = (tenant, self.scope.author());
                        self.inner.denials.note(log, "operator.measure", "metrics", DONE);
                    }
                }
                Ok(Err(error)) => {
                    measured.missed(tenant, asked);
                    tracing::debug!(?error, %tenant, "measure a tenant for metrics");
                }
                Err(_) => {
                    measured.missed(tenant, asked);
                    break;
                }
            }
        }
        for (tenant, _) in tenants {
            let found = timeout_at(deadline, self.inner.store.tenant_by_id(*tenant)).await;
            if matches!(found, Ok(Ok(None))) {
                measured.forget(*tenant);
            }
        }
        let known = measured.0.lock();
        let seen = tenants.iter().filter_map(|(tenant, _)| {
            let sizes = known.get(tenant)?.sizes.as_ref()?;
            Some((*tenant, sizes.clone()))
        });
        seen.collect()
    }

    /// How much a tenant has; none if it is not there, or nothing of it is stored.
    async fn look(&self, tenant: TenantId) -> Result<Option<TenantSizes>> {
        let store = &self.inner.store;
        let Some(info) = store.tenant_by_id(tenant).await? else { return Ok(None) };
        match store.tenant_sizes(&self.scope, &info.name).await {
            // Its name may be another's by now.
            Ok((found, sizes)) if found.id == tenant => Ok(sizes),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
