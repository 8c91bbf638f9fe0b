//! For whom CPU time counts, until the ledger takes it.
//!
//! Turns are billed when their place is charged, by the clocks that are read for that and under the
//! lock that is taken for it. Some work must not wait for a turn, because it holds a lock; it is
//! measured here.

use super::{INLINE_BYTES, Pool, compute};
use std::{collections::HashMap, future::poll_fn, pin::Pin, time::Duration};
use tenantry_auth::TenantId;
use tenantry_types::Result;

/// So many tenants are told apart between two takes; all others are one.
pub(super) const TENANTS_MAX: usize = 4_096;

/// Nanoseconds that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Bills(HashMap<TenantId, u64>);

impl Bills {
    /// Nobody pays for what was done for the installation.
    pub(super) fn add(&mut self, tenant: TenantId, ns: u64) {
        if is_nothing(tenant, ns) {
            return;
        }
        let is_told_apart = self.0.len() < TENANTS_MAX || self.0.contains_key(&tenant);
        let tenant = if is_told_apart { tenant } else { TenantId::INSTALLATION };
        let sum = self.0.entry(tenant).or_default();
        *sum = sum.saturating_add(ns);
    }
}

fn is_nothing(tenant: TenantId, ns: u64) -> bool {
    ns == 0 || tenant == TenantId::INSTALLATION
}

impl Pool {
    /// Takes what tenants have used of CPU time since the last call, each nanosecond once: in turns,
    /// and where they change records. That of tenants beyond some thousands is the installation's;
    /// what was done for nobody is left out.
    pub fn take_used(&self) -> Vec<(TenantId, Duration)> {
        let Bills(all) = std::mem::take(&mut self.0.gate.lock().bills);
        all.into_iter().map(|(tenant, ns)| (tenant, Duration::from_nanos(ns))).collect()
    }

    pub(crate) fn bill(&self, tenant: TenantId, ns: u64) {
        if !is_nothing(tenant, ns) {
            self.0.gate.lock().bills.add(tenant, ns);
        }
    }

    /// What this thread takes for work of a tenant that is in no turn.
    pub(crate) fn billed<T>(&self, tenant: TenantId, work: impl FnOnce() -> T) -> T {
        let begun = self.0.meter.cpu();
        let done = work();
        self.bill(tenant, self.0.meter.cpu().saturating_sub(begun));
        done
    }

    /// A tenant's work on a task of its own that is in no turn. It asks for none there, or that one
    /// would count twice.
    pub(crate) fn beside<'a, T: 'a>(
        &self,
        tenant: TenantId,
        mut work: Pin<Box<dyn Future<Output = T> + Send + 'a>>,
    ) -> impl Future<Output = T> + Send + use<'a, T> {
        let pool = self.clone();
        poll_fn(move |context| pool.billed(tenant, || work.as_mut().poll(context)))
    }

    /// [`compute`] for work that takes no turn. Done where it is asked for, it is billed with what is
    /// around it.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        tenant: TenantId,
        bytes: usize,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        if bytes <= INLINE_BYTES {
            return work();
        }
        let pool = self.clone();
        compute(bytes, move || pool.billed(tenant, work)).await
    }
}
