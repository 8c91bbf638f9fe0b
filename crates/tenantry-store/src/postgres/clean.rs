//! Makes a connection usable again that was let go in the middle of something.

use super::{
    connect::Link,
    connections::{Permit, Shared},
};
use std::{pin::pin, sync::Weak, time::Duration};
use tokio::time::{Instant, timeout, timeout_at};

/// What takes longer than this to end by itself is cancelled,
const PATIENCE: Duration = Duration::from_millis(200);
/// each second again,
const AGAIN: Duration = Duration::from_secs(1);
/// and what still did not end loses its connection.
const AT_MOST: Duration = Duration::from_secs(5);

/// Rolls back what is open on `link`. It is idle again only after that was answered, behind the
/// answers of everything that had been sent, so that no answer can be read by the next one.
///
/// Holds the permit meanwhile: a caller that gives up does not get more connections by that.
pub(super) async fn clean(link: Link, shared: Weak<Shared>, permit: Permit) {
    if link.is_closed() {
        return;
    }
    let fate = roll_back(&link).await;
    match fate {
        Fate::Clean => {
            if let Some(shared) = shared.upgrade() {
                shared.give_back(link);
            }
        }
        Fate::Spent => drop(link.close().await),
        Fate::Stuck => {
            tracing::warn!(target = %link.target, "a connection to the database is given up");
            link.kill();
            drop(link.close().await);
        }
    }
    drop(permit);
}

enum Fate {
    Clean,
    /// It was cancelled, which may arrive after this; or it is dead.
    Spent,
    Stuck,
}

async fn roll_back(link: &Link) -> Fate {
    let end = Instant::now() + AT_MOST;
    let mut answer = pin!(link.client().batch_execute("ROLLBACK"));
    match timeout(PATIENCE, &mut answer).await {
        Ok(Ok(())) => return Fate::Clean,
        Ok(Err(_)) => return Fate::Spent,
        Err(_) => {}
    }
    while Instant::now() < end {
        link.cancel().await;
        let next = end.min(Instant::now() + AGAIN);
        if timeout_at(next, &mut answer).await.is_ok() {
            return Fate::Spent;
        }
    }
    Fate::Stuck
}
