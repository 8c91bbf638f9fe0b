//! Which of several nodes moves tenants.
//!
//! One at a time, and whoever does so holds a lock of the installation's database in a session of
//! its own. A node that dies lets go of it with its connection; one that hangs does not speak, and
//! the server ends its session. Whoever holds the lock next is told apart by what it signs with:
//! what its predecessor still commits to a place or to the root is refused there.

use super::{
    admin::{LOOK, Session, Work, failed, try_lock_work, try_lock_work_of_session, within},
    cluster::Shared,
    statement::{Statement, Step},
    view::PgView,
};
use crate::tenancy::moving::MoverId;
use parking_lot::Mutex;
use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::Result;

/// How often a session that leads speaks, and after which silence the server ends it.
const SPEAK_EVERY: Duration = Duration::from_secs(1);
const SILENCE_MAX: &str = "4s";
const DOING: &str = "ask to move tenants";
/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Default)]
pub(super) struct Lead {
    held: Mutex<Option<(Arc<Session>, MoverId)>>,
    /// Held by whoever asks for the lock, in a session that is kept while another node leads.
    asking: tokio::sync::Mutex<Option<Session>>,
    /// What the only process signs with.
    alone: OnceLock<MoverId>,
    /// What a node that never leads signs with while nobody else may lead.
    standing_in: Mutex<Option<MoverId>>,
}

/// Nobody leads as long as it is held.
pub(super) struct StandIn {
    shared: Arc<Shared>,
    /// Has the lock to its end.
    _lock: PgView,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        *self.shared.lead.standing_in.lock() = None;
    }
}

impl Lead {
    /// What this node signs with, if it leads or stands in.
    pub(super) fn mover(&self) -> Option<MoverId> {
        let held = self.held.lock().as_ref().map(|(_, by)| *by);
        held.or(*self.standing_in.lock())
    }

    pub(super) fn is_held(&self) -> bool {
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

    /// The same, if it is with this signature that this node leads.
    fn let_go_of(&self, by: MoverId) {
        self.held.lock().take_if(|(_, held)| *held == by);
    }
}

impl Shared {
    /// True if this node leads, or does from now on because no other does. One without the admin's
    /// URL never does.
    pub(super) async fn lead(self: &Arc<Self>) -> Result<bool> {
        let mut asking = self.lead.asking.lock().await;
        if self.lead.is_held() {
            return Ok(true);
        }
        let Some(provisioner) = &self.home()?.provisioner else { return Ok(false) };
        let database = &self.root()?.target.database;
        let kept = asking.take().filter(|session| !session.is_closed());
        let ask = async {
            let session = match kept {
                Some(session) => session,
                None => {
                    let session = provisioner.enter(database).await?;
                    let settings = format!(
                        "SET search_path = pg_catalog; SET idle_session_timeout = '{SILENCE_MAX}'"
                    );
                    session.batch_execute(&settings).await.map_err(failed(DOING))?;
                    session
                }
            };
            let lock = try_lock_work_of_session(Work::Moves);
            let row = session.query_one(&lock, &[]).await.map_err(failed(DOING))?;
            let is_ours: bool = row.try_get(0).map_err(failed(DOING))?;
            Ok((session, is_ours))
        };
        let (session, is_ours) = within(LOOK, DOING, Box::pin(ask)).await?;
        if !is_ours {
            *asking = Some(session);
            return Ok(false);
        }
        let by = self.new_signature()?;
        let session = Arc::new(session);
        tokio::spawn(speak(Arc::downgrade(self), Arc::downgrade(&session), by));
        *self.lead.held.lock() = Some((session, by));
        Ok(true)
    }

    /// What this node signs with where it puts a tenant. If the installation is elsewhere there is
    /// one process, and what it has left on its way when it ended is told apart too.
    pub(super) fn signature(&self) -> Result<MoverId> {
        if self.home_here().is_some() {
            return self.lead.mover().ok_or_else(super::carry::not_leading);
        }
        let new = self.new_signature()?;
        Ok(*self.lead.alone.get_or_init(|| new))
    }

    fn new_signature(&self) -> Result<MoverId> {
        let mut by = MoverId::default();
        self.secrets()?.entropy.fill("mover", &mut by);
        Ok(by)
    }

    /// For a node that never leads: none if another one does. The lock is that of a transaction, because
    /// a pooler may be between; if it is lost, whoever leads then signs, and what this node does is
    /// refused.
    pub(super) async fn stand_in(self: &Arc<Self>) -> Result<Option<StandIn>> {
        let root = self.root()?.clone();
        let lock = PgView::putting(self, root.clone());
        let ask = || vec![Step::Run(Statement::new(try_lock_work(Work::Moves)))];
        let answers = lock.run(&root, TenantId::INSTALLATION, ask).await?;
        let is_ours = answers.iter().flatten().next().and_then(|row| row.try_get(0).ok());
        if is_ours != Some(true) {
            return Ok(None);
        }
        *self.lead.standing_in.lock() = Some(self.new_signature()?);
        Ok(Some(StandIn { shared: Arc::clone(self), _lock: lock }))
    }
}

/// Speaks now and then for as long as the session is held. One that is not answered leads no more.
async fn speak(shared: Weak<Shared>, session: Weak<Session>, by: MoverId) {
    loop {
        tokio::time::sleep(SPEAK_EVERY).await;
        let Some(session) = session.upgrade() else { return };
        let said = tokio::time::timeout(PATIENCE, session.batch_execute("SELECT 1")).await;
        if !matches!(said, Ok(Ok(()))) {
            if let Some(shared) = shared.upgrade() {
                shared.lead.let_go_of(by);
            }
            return;
        }
    }
}
