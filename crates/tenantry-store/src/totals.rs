//! Whether a store can serve, and what it counts over all tenants.

use crate::{MoveTotals, pool::PoolTotals};

/// Whether a store can serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes.
    Ready,
    /// Reads only, for this reason.
    ReadOnly(String),
    /// Neither, for this reason.
    Unavailable(String),
}

/// Counters since the store was opened, over all tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreTotals {
    /// Commits acknowledged.
    pub commits: u64,
    /// Synchronised journal writes; one serves all commits that waited for it.
    pub syncs: u64,
    /// Databases that are open: the root, and those of tenants that live apart.
    pub open_databases: u64,
    /// Those of them that take no writes for now.
    pub read_only_databases: u64,
    /// Connections to databases of PostgreSQL.
    pub connections: ConnectionTotals,
    /// Bytes of hot partitions in memory.
    pub hot_bytes: u64,
    /// Hot partitions in memory.
    pub hot_partitions: u64,
    /// Bytes that partitions in memory may take.
    pub hot_budget_bytes: u64,
    /// Bytes reserved for partitions that are being loaded.
    pub loading_bytes: u64,
    /// Bytes of partitions that were dropped while requests used them, and that they still use.
    pub leaving_bytes: u64,
    /// Partitions loaded from disk.
    pub loads: u64,
    /// Loads that had to wait until others were done, because of the budget.
    pub loads_waited: u64,
    /// Loads refused because too many waited.
    pub loads_refused: u64,
    /// Loads that wait now.
    pub loads_waiting: u64,
    /// Partitions dropped from memory to stay within the budget.
    pub evictions: u64,
    /// Tenants in memory; an idle one is on disk only.
    pub open_tenants: u64,
    /// Pieces of index maintenance done.
    pub maintenance: u64,
    /// Indexes written to saved files.
    pub saved_written: u64,
    /// Queries of cold collections answered from saved files.
    pub saved_used: u64,
    /// Saved files that were damaged or not what they said.
    pub saved_refused: u64,
    /// Bytes of all saved files.
    pub saved_bytes: u64,
    /// Turns.
    pub pool: PoolTotals,
    /// Moves of tenants.
    pub moves: MoveTotals,
}

/// This process's pooled connections to all databases of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionTotals {
    /// Those that are open or being opened.
    pub open: u64,
    /// Those that somebody has.
    pub busy: u64,
    /// Requests that wait for one.
    pub waiting: u64,
}
