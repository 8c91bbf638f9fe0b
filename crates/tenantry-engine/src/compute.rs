//! A protocol's own heavy work, in a turn of the tenant that caused it: without this, large
//! bodies would be a way around the fair order.

use crate::Engine;
use tenantry_auth::{Principal, TenantId};
use tenantry_store::Class;
use tenantry_types::{Error, Result};

/// Work on bodies up to this size costs less than asking for a turn is worth.
const FREE_BYTES: usize = 16 << 10;
/// Up to this size it runs on the thread that serves the request: a fraction of a millisecond.
const INLINE_BYTES: usize = 128 << 10;
/// Above this size it cannot be cut into slices that others would not feel, so it leaves them at
/// least one place.
const REQUEST_BYTES: usize = 1 << 20;

impl Engine {
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
        let store = &self.0.store;
        // An operator's work is the installation's, whichever tenant it acts in.
        let (tenant, weight) = match who.tenant() {
            Some(tenant) => {
                let info = store.tenant_by_id(tenant).await?;
                (tenant, info.map_or(1, |info| info.weight.into()))
            }
            None => (TenantId::INSTALLATION, 100),
        };
        let pool = store.pool().clone();
        if bytes <= INLINE_BYTES {
            let _turn = pool.turn(tenant, weight, Class::Request).await?;
            return Ok(work());
        }
        let class = if bytes <= REQUEST_BYTES { Class::Request } else { Class::Background };
        let done = tokio::task::spawn_blocking(move || {
            let _turn = pool.turn_blocking(tenant, weight, class)?;
            Ok(work())
        });
        done.await.unwrap_or_else(|why| Err(Error::internal("work was aborted").with_source(why)))
    }
}
