//! What a process does that never moves tenants. If the one that did so has ended in a pause, the
//! tenant is closed until somebody opens it again; nothing more is done for its move.

use super::{
    Carry,
    mark::moves_in,
    row::{Move, Phase},
};
use crate::{Failing, failing::server_says, tenancy::Tenancy};
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};
use tenantry_types::Result;

/// How often it is looked for that.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known from the last look.
#[derive(Debug, Default)]
pub(super) struct Aside {
    looked: Option<Instant>,
    /// Entries of the operator's log, if no move was under way: whoever asks for one makes an entry.
    quiet: Option<u64>,
    /// What the log has of looks in vain.
    failing: Failing,
}

impl<B: Carry> Tenancy<B> {
    /// Looks now and then whether a tenant was left closed.
    pub(super) async fn stand_aside(&self, aside: &mut Aside) {
        if self.can_lead() || aside.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        aside.looked = Some(Instant::now());
        if let Err(error) = self.open_abandoned(aside).await
            && let Some(tried) = aside.failing.failed_by(&error.kind())
        {
            let said = server_says(&error);
            tracing::warn!(%error, said, tried, "look for tenants that were left closed");
        }
    }

    async fn open_abandoned(&self, aside: &mut Aside) -> Result<()> {
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        let entries = installation.read_head(&root).await?.audit_sequence;
        if aside.quiet == Some(entries) {
            return Ok(());
        }
        let found = moves_in(&root, &installation).await?;
        drop(root);
        aside.quiet = found.is_empty().then_some(entries);
        let held = if found.is_empty() { None } else { self.stand_in().await? };
        self.moves.nobody_leads.store(held.is_some(), Ordering::Relaxed);
        if held.is_none() {
            return Ok(());
        }
        for one in &found {
            if let Err(error) = self.open_again(one).await {
                tracing::warn!(?error, tenant = %one.tenant(), "open a tenant that was left closed");
            }
        }
        Ok(())
    }

    async fn open_again(&self, one: &Move) -> Result<()> {
        let _working = self.moves.working(one.tenant()).lock_owned().await;
        // One that was left stays closed.
        if one.phase == Phase::Leaving || !self.is_shut(one.from).await? {
            return Ok(());
        }
        // Whoever has closed it does nothing more if it comes back, and may have done more since the row
        // was read.
        let Some(now) = self.take(one.tenant()).await? else { return Ok(()) };
        if !now.is_at_home() {
            return Ok(());
        }
        self.reopen(now.from).await?;
        tracing::warn!(
            tenant = %one.tenant(),
            "whoever moved this tenant has ended in the middle; it can be read and written again, and \
             is moved on once a server runs that moves tenants"
        );
        Ok(())
    }
}
