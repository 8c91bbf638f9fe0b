//! A protocol's own heavy work, in a turn of the tenant that caused it: without this, large
//! bodies would be a way around the fair order.

use crate::{Admission, Engine};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use tenantry_auth::{Principal, TenantId};
use tenantry_store::Class;
use tenantry_types::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Work on bodies up to this size costs less than asking for a turn is worth.
const FREE_BYTES: usize = 16 << 10;
/// Up to this size it runs on the thread that serves the request: a fraction of a millisecond.
const INLINE_BYTES: usize = 128 << 10;
/// Above this size only a few bodies are worked on at once: they cannot be cut into slices.
const HUGE_BYTES: usize = 1 << 20;
/// Bodies of one tenant that may hold a thread each while they wait for a turn and have it.
const BODIES_OF_TENANT_MAX: usize = 2;

/// Who may hold a thread.
#[derive(Debug)]
pub(crate) struct Bodies {
    tenants: Mutex<HashMap<TenantId, Arc<Semaphore>>>,
    huge: Arc<Semaphore>,
}

impl Bodies {
    /// For a pool of so many places: huge bodies leave at least one of several.
    pub(crate) fn new(places: usize) -> Self {
        let huge = places.saturating_sub(1).max(1);
        Self { tenants: Mutex::default(), huge: Arc::new(Semaphore::new(huge)) }
    }

    /// Waits on a task, not on a thread.
    pub(crate) async fn permit(&self, tenant: TenantId) -> Result<OwnedSemaphorePermit> {
        let own = {
            let mut tenants = self.tenants.lock();
            // Those that nobody holds or waits for are forgotten.
            if tenants.len() > 1_024 {
                tenants.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            }
            let new = || Arc::new(Semaphore::new(BODIES_OF_TENANT_MAX));
            Arc::clone(tenants.entry(tenant).or_insert_with(new))
        };
        own.acquire_owned().await.map_err(closed)
    }
}

fn closed(why: tokio::sync::AcquireError) -> Error {
    Error::internal("permits are closed").with_source(why)
}

impl Engine {
    /// Serves a request in turns: what is computed for it, from its body to its answer,
    /// has its place in the fair order of tenants. `has_body`: it waits for a body before it does
    /// anything.
    ///
    /// [`ErrorKind::LimitExceeded`](tenantry_types::ErrorKind::LimitExceeded) if it was not
    /// admitted, [`ErrorKind::Busy`](tenantry_types::ErrorKind::Busy) if too much of the caller's
    /// work waits already.
    pub async fn in_turns<F: Future + Send>(
        &self,
        admission: &Admission,
        has_body: bool,
        request: F,
    ) -> Result<F::Output> {
        admission.check()?;
        let Admission { tenant, weight, .. } = *admission;
        self.0.store.pool().in_turns(tenant, weight, has_body, request).await
    }

    /// Runs work that reads or writes a body of about `bytes` bytes for `who`, once it is their
    /// turn; where it may run long, beside the threads that serve requests.
    ///
    /// [`ErrorKind::Busy`](tenantry_types::ErrorKind::Busy) if too much of the caller's work
    /// waits already.
    pub async fn compute<T: Send + 'static>(
        &self,
        who: &Principal,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        if bytes <= FREE_BYTES {
            return Ok(work());
        }
        let (tenant, allowance) = self.payer(who).await?;
        let weight = u32::from(allowance.weight);
        let pool = self.0.store.pool().clone();
        if bytes <= INLINE_BYTES {
            let _turn = pool.turn(tenant, weight, Class::Request).await?;
            return Ok(work());
        }
        let bodies = &self.0.bodies;
        let billed = pool.billed_here().unwrap_or(tenant);
        let own = bodies.permit(tenant).await?;
        let huge = if bytes > HUGE_BYTES {
            Some(Arc::clone(&bodies.huge).acquire_owned().await.map_err(closed)?)
        } else {
            None
        };
        let done = tokio::task::spawn_blocking(move || {
            let _permits = (own, huge);
            let mut turn = pool.turn_blocking(tenant, weight, Class::Request)?;
            turn.bill(billed);
            Ok(work())
        });
        done.await.unwrap_or_else(|why| Err(Error::internal("work was aborted").with_source(why)))
    }
}
