//! Which of several nodes moves tenants.
//!
//! One at a time, and whoever does so holds a lock of the installation's database in a session of
//! its own. A node that dies lets go of it with its connection; one that hangs does not speak, and
//! the server ends its session. Whoever holds the lock next is told apart by what it signs with:
//! what its predecessor still commits to a place or to the root is refused there.

use super::{
    admin::{LOOK, Session, Work, failed, try_lock_work_of_session, within},
    cluster::Shared,
};
use crate::tenancy::moving::MoverId;
use parking_lot::Mutex;
use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tenantry_types::Result;

/// How often a session that leads speaks, and after which silence the server ends it.
const SPEAK_EVERY: Duration = Duration::from_secs(3);
const SILENCE_MAX: &str = "10s";
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Default)]
pub(super) struct Lead {
    held: Mutex<Option<(Arc<Session>, MoverId)>>,
    /// Held by whoever asks for the lock.
    asking: tokio::sync::Mutex<()>,
    /// What the only process signs with.
    alone: OnceLock<MoverId>,
}

impl Lead {
    /// What this node signs with, if it leads.
    pub(super) fn mover(&self) -> Option<MoverId> {
        self.held.lock().as_ref().map(|(_, by)| *by)
    }

    fn is_held(&self) -> bool {
        let mut held = self.held.lock();
        if held.as_ref().is_some_and(|(session, _)| session.is_closed()) {
            *held = None;
        }
        held.is_some()
    }

    /// Lets another node lead.
    pub(super) fn let_go(&self) {
        *self.held.lock() = None;
    }
}

impl Shared {
    /// True if this node leads, or does from now on because no other does. One without the admin's
    /// URL never does.
    pub(super) async fn lead(&self) -> Result<bool> {
        let _asking = self.lead.asking.lock().await;
        if self.lead.is_held() {
            return Ok(true);
        }
        let Some(provisioner) = &self.home()?.provisioner else { return Ok(false) };
        let database = &self.root()?.target.database;
        let ask = async {
            let session = provisioner.enter(database).await?;
            let settings =
                format!("SET search_path = pg_catalog; SET idle_session_timeout = '{SILENCE_MAX}'");
            session.batch_execute(&settings).await.map_err(failed("ask to move tenants"))?;
            let lock = try_lock_work_of_session(Work::Moves);
            let row = session.query_one(&lock, &[]).await.map_err(failed("ask to move tenants"))?;
            let is_ours = row.try_get(0).map_err(failed("ask to move tenants"))?;
            Ok(if is_ours { Some(Arc::new(session)) } else { None })
        };
        let Some(session) = within(LOOK, "ask to move tenants", Box::pin(ask)).await? else {
            return Ok(false);
        };
        let mut by = MoverId::default();
        self.secrets()?.entropy.fill("mover", &mut by);
        tokio::spawn(speak(Arc::downgrade(&session)));
        *self.lead.held.lock() = Some((session, by));
        Ok(true)
    }

    /// What this node signs with where it puts a tenant. If the installation is elsewhere there is
    /// one process, and what it has left on its way when it ended is told apart too.
    pub(super) fn signature(&self) -> Result<MoverId> {
        if self.home_here().is_some() {
            return self.lead.mover().ok_or_else(super::carry::not_leading);
        }
        let secrets = self.secrets()?;
        Ok(*self.lead.alone.get_or_init(|| {
            let mut by = MoverId::default();
            secrets.entropy.fill("mover", &mut by);
            by
        }))
    }

    /// Fails unless the server still takes this node for the one that leads.
    pub(super) async fn must_lead(&self) -> Result<()> {
        if self.home_here().is_none() {
            return Ok(());
        }
        let session = self.lead.held.lock().as_ref().map(|(session, _)| Arc::clone(session));
        let asked = async {
            match session {
                Some(session) => session.batch_execute("SELECT 1").await.is_ok(),
                None => false,
            }
        };
        if tokio::time::timeout(PATIENCE, asked).await.unwrap_or(false) {
            return Ok(());
        }
        self.lead.let_go();
        Err(super::carry::not_leading())
    }
}

/// Speaks now and then for as long as the session is held.
async fn speak(session: Weak<Session>) {
    loop {
        tokio::time::sleep(SPEAK_EVERY).await;
        let Some(session) = session.upgrade() else { return };
        let said = tokio::time::timeout(PATIENCE, session.batch_execute("SELECT 1")).await;
        if !matches!(said, Ok(Ok(()))) {
            return;
        }
    }
}
