//! Audit logs.

use super::page::limited;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use tenantry_engine::{AuditEntry, Result};
use utoipa::{IntoParams, ToSchema};

const LIMIT_MAX: usize = 10_000;

/// Which part of an audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditSearch {
    /// Entries after this sequence number; 0 is from the start.
    #[serde(default)]
    pub(crate) after: u64,
    /// How many at most, 1 to 10,000; 100 if absent.
    limit: Option<usize>,
}

impl AuditSearch {
    pub(crate) fn limit(&self) -> Result<usize> {
        limited(self.limit, 100, LIMIT_MAX)
    }
}

/// A page of an audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPageOut {
    /// The entries, oldest first.
    entries: Vec<AuditOut>,
    /// What to give as `after` for the next page; null on the last.
    next: Option<u64>,
}

impl AuditPageOut {
    pub(crate) fn new(entries: Vec<AuditEntry>, limit: usize) -> Self {
        let next = entries.last().filter(|_| entries.len() >= limit).map(|last| last.sequence);
        Self { entries: entries.into_iter().map(AuditOut::from).collect(), next }
    }
}

/// One entry. `hash` is a BLAKE3 chain over all other members and the entry before.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditOut {
    /// Position in the log, from 1.
    sequence: u64,
    /// When, in milliseconds since 1970 UTC.
    at_ms: u64,
    /// Who.
    actor: String,
    /// What.
    action: String,
    /// On what.
    target: String,
    /// `done`, or the kind of error it was refused with.
    outcome: &'static str,
    /// How many of it.
    count: u64,
    /// 64 hexadecimal digits.
    hash: String,
}

impl From<AuditEntry> for AuditOut {
    fn from(entry: AuditEntry) -> Self {
        let hash = entry.hash.iter().fold(String::with_capacity(64), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a text takes everything");
            text
        });
        Self {
            sequence: entry.sequence,
            at_ms: entry.at.0,
            actor: entry.event.actor,
            action: entry.event.action,
            target: entry.event.target,
            outcome: entry.event.outcome.word(),
            count: entry.event.count,
            hash,
        }
    }
}
