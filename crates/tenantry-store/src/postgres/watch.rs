//! What other nodes took away.
//!
//! Whatever takes a right away raises the installation's epoch in its own commit. Each node asks
//! for that number several times a second, on a connection of its own, and believes what it has
//! in memory only if it has asked a moment ago. A moment of its own running time: a machine that
//! was suspended may go on for one with what it knew. Beside the number stands whether the installation
//! has something that this program does not know: then it believes nothing any more.

use super::{
    background,
    call::{self, Answers},
    cluster::{IDLE, Place, Shared},
    connections::Connections,
    failure::{Failure, Outcome},
    migrate::{is_bound, is_known},
    statement::{Limits, Statement, Step},
    view::PgView,
};
use crate::tenancy::tenants::Tenants;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind};

/// How often is asked.
pub(super) const EVERY: Duration = Duration::from_millis(300);
/// What is in memory counts for this long after the beginning of an answered question.
const TRUSTED: Duration = Duration::from_millis(900);
const LIMITS: Limits = Limits {
    statement: Duration::from_secs(2),
    lock: Duration::from_secs(2),
    idle: IDLE,
    // No tenant's rows are read.
    citus: false,
};

/// See the module.
pub(crate) struct Watch {
    /// One connection, which nobody else takes.
    connections: Connections,
    /// Without it nobody else takes anything away.
    root: Option<Place>,
    tenants: Arc<Tenants>,
    revocations: Arc<AtomicU64>,
    epoch: AtomicI64,
    /// How often whatever a right depends on was forgotten.
    forgotten: AtomicU64,
    /// When the last question that was answered was asked.
    asked: Mutex<Option<Instant>>,
    /// When the last one was asked, and why it was not answered, if it was not.
    trouble: Mutex<Option<(Instant, String)>>,
    /// Held while a question is on its way.
    asking: tokio::sync::Mutex<()>,
}

impl Watch {
    pub(super) fn new(
        connections: Connections,
        root: Option<Place>,
        tenants: Arc<Tenants>,
        revocations: Arc<AtomicU64>,
    ) -> Self {
        let (epoch, forgotten) = (AtomicI64::new(0), AtomicU64::new(0));
        let (asked, trouble, asking) = Default::default();
        Self { connections, root, tenants, revocations, epoch, forgotten, asked, trouble, asking }
    }

    /// What is in memory may be believed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.root.is_none() || self.asked.lock().is_some_and(|asked| asked.elapsed() < TRUSTED)
    }

    /// What is in memory is not to be believed before it was asked for.
    pub(super) fn suspect(&self) {
        *self.asked.lock() = None;
    }

    /// Asks if nobody has asked a moment ago: one question for all who wait for its answer. Whoever
    /// holds a transaction asks within it, and waits for nobody: others may wait for its end.
    pub(crate) async fn refresh(&self, held: Option<&PgView>) -> Outcome<()> {
        let Some(root) = self.root.as_ref().filter(|_| !self.is_trusted()) else { return Ok(()) };
        let since = Instant::now();
        if let Some(view) = held {
            let ask = || vec![Step::Run(question(root))];
            let answers = view.run(root, TenantId::INSTALLATION, ask).await?;
            return self.learn(since, &answers);
        }
        let _asking = self.asking.lock().await;
        if self.is_trusted() {
            return Ok(());
        }
        if self.trouble.lock().as_ref().is_some_and(|(asked, _)| *asked >= since) {
            return Err(Failure::lost());
        }
        self.ask().await
    }

    /// Asks, unless somebody does.
    pub(super) async fn look(&self) -> Outcome<()> {
        match self.asking.try_lock() {
            Ok(_asking) => self.ask().await,
            Err(_) => Ok(()),
        }
    }

    async fn ask(&self) -> Outcome<()> {
        let asked = Instant::now();
        let outcome = self.ask_once(asked).await;
        *self.trouble.lock() =
            outcome.as_ref().err().map(|why| (asked, why.error().public_message().to_owned()));
        outcome
    }

    /// Why the last question was not answered, if it was not.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().as_ref().map(|(_, why)| why.clone())
    }

    async fn ask_once(&self, asked: Instant) -> Outcome<()> {
        let Some(root) = &self.root else { return Ok(()) };
        let right = root.right(TenantId::INSTALLATION);
        let read = |conn| call::read(conn, LIMITS, right.clone(), vec![Step::Run(question(root))]);
        let answers = self.connections.with(&root.target, None, read).await?;
        self.learn(asked, &answers)
    }

    fn learn(&self, since: Instant, answers: &Answers) -> Outcome<()> {
        let row = answers.first().and_then(|rows| rows.first());
        let epoch: i64 = row
            .and_then(|row| row.try_get(0).ok())
            .ok_or_else(|| Failure::internal("the installation's epoch is gone"))?;
        let version = row.and_then(|row| row.try_get::<_, i32>(1).ok());
        let version = version.and_then(|stored| u32::try_from(stored).ok());
        if !version.is_some_and(is_known) {
            let message = "the installation has what only newer programs know: replace this one";
            return Err(Error::new(ErrorKind::Unavailable, message).into());
        }
        // It is never taken back, so an old answer is as good as a new one.
        if version.is_some_and(is_bound) {
            self.tenants.origins.open_gate();
        }
        let mut asked = self.asked.lock();
        // What was asked later may have been answered sooner.
        if asked.is_none_or(|asked| asked <= since) {
            // Another one, and not only a higher one: the server may be a restored copy.
            if self.epoch.swap(epoch, Ordering::AcqRel) != epoch {
                self.forget();
            }
            *asked = Some(since);
        }
        Ok(())
    }

    /// Forgets whatever a right depends on.
    pub(super) fn forget(&self) {
        self.forget_ways();
        match self.root {
            Some(_) => self.tenants.forget_all(),
            // Of whoever has files too there is one only in memory, with the locks.
            None => self.forget_catalogs(),
        }
        self.revoked();
    }

    /// Forgets what is cached of catalogs.
    pub(super) fn forget_catalogs(&self) {
        self.tenants.forget_catalogs();
    }

    /// Forgets the ways to databases that tenants carry.
    pub(super) fn forget_ways(&self) {
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// How often they were forgotten: a way that was read before counts no more.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// Whoever acts with a key looks at it once more.
    pub(super) fn revoked(&self) {
        self.revocations.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn close(&self) {
        self.connections.close();
    }
}

fn question(root: &Place) -> Statement {
    Statement::new(root.text("SELECT epoch, version FROM {schema}.installation"))
}

/// Asks again and again; it ends with the store.
pub(super) fn spawn(shared: &Arc<Shared>) {
    background::spawn("watch", Arc::downgrade(shared), run);
}

async fn run(weak: Weak<Shared>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(shared) = weak.upgrade() else { return };
        if shared.is_closed() {
            return;
        }
        if let Err(why) = shared.watch.look().await {
            tracing::debug!(?why, "ask what other nodes took away");
        }
    }
}
