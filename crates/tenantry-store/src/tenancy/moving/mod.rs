//! Moving a tenant to another place while it works.
//!
//! One commit of the root says where a tenant lives; everything before it copies, everything after
//! it clears up, and a crash between any two steps leaves one living copy and a row ([`row::Move`])
//! that says how to go on. The source is copied while it is written to: its changes are held
//! ([`super::disk::Head::hold`]) from before the first page is read, and are replayed until little
//! is left. Then its writer waits for one last replay and that commit.
//!
//! The steps: [`mark`] → [`queue`] → [`run`]: hold and make → [`copy`] → [`replay`] → [`check`] →
//! [`switch`] → [`leave`], which also undoes. Tenants are moved one after the other; what was
//! cancelled is undone beside that.

mod abandon;
mod aside;
mod carry;
mod check;
mod copy;
mod count;
mod leave;
mod mark;
mod pace;
mod queue;
mod replay;
pub(crate) mod row;
mod run;
mod switch;

pub(super) use abandon::forget_elsewhere;
pub(crate) use carry::{Carry, MoverId, Role};
pub use count::{MoveTotals, PauseTotals};
pub(crate) use mark::move_in;
pub(crate) use queue::spawn;

use crate::Failing;
use parking_lot::Mutex;
use row::Progress;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result, Timestamp};

/// What is in memory of moves.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Wakes whoever moves.
    woken: Arc<tokio::sync::Notify>,
    /// Wakes whoever undoes what was cancelled.
    hurried: Arc<tokio::sync::Notify>,
    working: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
    /// Tenants of which nobody knows whether the commit that decides was done, by the attempt.
    unknown: Mutex<HashMap<TenantId, u64>>,
    attempts: AtomicU64,
    /// No process moves tenants, as far as one knows that never does.
    nobody_leads: AtomicBool,
    /// Why this process could not ask whether it is to move tenants, if it could not, and what the log
    /// has of that.
    not_asked: Mutex<Option<String>>,
    asking: Failing,
    queue: Mutex<Queue>,
    pace: pace::Pace,
    count: Mutex<MoveTotals>,
    /// Of moves that were worked on.
    progress: Mutex<HashMap<TenantId, Progress>>,
}

/// Moves that are not over.
#[derive(Debug, Default)]
struct Queue {
    /// By when they were asked for.
    waiting: BTreeSet<(Timestamp, TenantId)>,
    /// Those of them that were cancelled, which do not wait for their turn.
    cancelled: BTreeSet<(Timestamp, TenantId)>,
    /// False if the root may know of more.
    is_known: bool,
    /// Entries of the operator's log when it was read, where other processes ask for moves too:
    /// whoever does makes one.
    entries: Option<u64>,
}

impl Moves {
    /// Held while something is done to the places of a tenant that is being moved: during each
    /// step, and by the purger, which thereby waits for the step under way.
    pub(crate) fn working(&self, id: TenantId) -> Arc<tokio::sync::Mutex<()>> {
        let mut working = self.working.lock();
        working.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(working.entry(id).or_default())
    }

    /// There is something to do, or the store closes.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
        self.hurried.notify_one();
    }

    /// Nothing is left to do.
    fn over(&self, turn: (Timestamp, TenantId)) {
        let mut queue = self.queue.lock();
        queue.waiting.remove(&turn);
        queue.cancelled.remove(&turn);
        drop(queue);
        self.progress.lock().remove(&turn.1);
    }

    /// A step has failed, and will be tried again.
    fn trouble(&self, id: TenantId, error: &Error) {
        if let Some(progress) = self.progress.lock().get_mut(&id) {
            progress.trouble = Some(error.public_message().to_owned());
        }
    }
}

/// How long a request waits for a tenant that is being moved at this moment.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// Why an operation found nothing where it looked.
#[derive(Debug)]
struct Moved;

impl fmt::Display for Moved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tenant lives elsewhere since it was opened")
    }
}

impl std::error::Error for Moved {}

/// The tenant lives elsewhere since it was opened: whoever opens it again finds it.
pub(crate) fn moved() -> Error {
    let message = "the tenant is being moved at this moment; try again";
    Error::new(ErrorKind::Unavailable, message).with_source(Moved)
}

fn is_moved(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<Moved>)
}

/// The source has given up holding its changes: the copy begins anew.
fn not_held() -> Error {
    Error::new(ErrorKind::Conflict, "the changes are not held any more; the copy begins anew")
}

/// Says which step is about to be committed, or was: tests end the process there.
fn said(step: &'static str) {
    tracing::debug!(target: "tenantry_store::moving", step, "move a tenant");
}

/// Since when something is tried again because the tenant was being moved. What an operation has
/// worked before is not counted: it may have worked for long where the tenant lived.
pub(crate) struct Patience(OnceLock<Instant>);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Waits a moment if this is a reason to try again; otherwise hands it back.
    pub(crate) async fn wait<T>(&self, outcome: Result<T>) -> std::result::Result<(), Result<T>> {
        match &outcome {
            Err(error)
                if is_moved(error) && self.0.get_or_init(Instant::now).elapsed() < PATIENCE =>
            {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            }
            _ => Err(outcome),
        }
    }
}
