//! Servers, and databases of them.

use super::{claim, url::Cluster};
use crate::Failing;
use parking_lot::Mutex;
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tenantry_types::Error;

/// The way to a server. It is equal to its clones only: who goes another way to the same server,
/// with another password for instance, has other connections.
#[derive(Clone)]
pub(crate) struct Server(Arc<Way>);

struct Way {
    cluster: Cluster,
    /// See [`Server::part`].
    part: usize,
    /// The row that makes the database of its URL ours, once it was looked at; not the home's.
    claim: Mutex<Option<Arc<[u8]>>>,
    /// Sessions are shared with others, who may change what was prepared.
    is_pooled: AtomicBool,
    /// Whether it cannot be reached.
    reach: Failing,
}

impl Server {
    /// One that may have all connections.
    #[cfg(test)]
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self::with_part(cluster, 1)
    }

    /// One that may have one `part`th of them, so that the others are served if it hangs.
    pub(crate) fn with_part(cluster: Cluster, part: usize) -> Self {
        let (claim, is_pooled, reach) = Default::default();
        Self(Arc::new(Way { cluster, part: part.max(1), claim, is_pooled, reach }))
    }

    /// True once a session turned out to be shared with others.
    pub(super) fn is_pooled(&self) -> bool {
        self.0.is_pooled.load(Ordering::Relaxed)
    }

    pub(super) fn set_pooled(&self) {
        if !self.0.is_pooled.swap(true, Ordering::Relaxed) {
            tracing::info!(server = ?self, "a pooler is between: nothing is prepared here");
        }
    }

    /// What is known of whether it can be reached, by whoever has tried.
    pub(super) fn reach(&self) -> &Failing {
        &self.0.reach
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.0.cluster
    }

    pub(super) fn claim(&self) -> Option<Arc<[u8]>> {
        self.0.claim.lock().clone()
    }

    /// None makes whoever comes next look again whose the database is.
    pub(super) fn set_claim(&self, row: Option<Arc<[u8]>>) {
        *self.0.claim.lock() = row;
    }

    /// One part in so many of the connections of a purpose is the most that it may have.
    pub(super) fn part(&self) -> usize {
        self.0.part
    }

    /// What it is counted by.
    pub(super) fn number(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Server {}

impl Hash for Server {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number().hash(state);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.0.cluster.url())
    }
}

/// A database of one of the servers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) server: Server,
    pub(crate) database: Arc<str>,
}

impl Target {
    /// What makes it ours; fails if it was ours until a moment ago. The home needs nothing of the
    /// kind, nor do databases of single tenants, whose names only this installation can know.
    pub(super) fn claim(&self) -> Result<Option<Arc<[u8]>>, Error> {
        let is_its_own = self.server.cluster().url().database() == &*self.database;
        if self.server.part() == 1 || !is_its_own {
            return Ok(None);
        }
        self.server.claim().map(Some).ok_or_else(claim::is_lost)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server.cluster().url().with_database(&self.database))
    }
}
