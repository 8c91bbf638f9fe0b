//! Audit logs.

use super::page::limited;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use tenantry_engine::{AuditBinding, AuditEntry, RequestId, Result};
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
    #[param(minimum = 1, maximum = 10_000)]
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

/// One entry. `hash` is a BLAKE3 chain over all other members and the entry before. Entries of
/// version 1 do not have `origin`, `reason` and `request_id`.
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
    /// Whose log it is, as 64 hexadecimal digits: the same in all entries of one tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    /// Why it came out so: `none`, `role`, `objects`, `filter`, `foreign_tenant`, `act_as`, `no_reason`, or
    /// the word of the limit that refused it, like `requests_per_second`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The id of the request, or of the first one of a sum; null if it was in none.
    #[expect(clippy::option_option, reason = "null is not the same as absent")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    request_id: Option<Option<String>>,
    /// 64 hexadecimal digits.
    hash: String,
}

impl From<AuditEntry> for AuditOut {
    fn from(entry: AuditEntry) -> Self {
        let bound = entry.bound.as_ref();
        let request = |bound: &AuditBinding| bound.request.as_ref().map(RequestId::to_string);
        let (origin, reason) =
            (bound.map(|bound| digits(&bound.origin)), bound.map(|bound| bound.reason.word()));
        let request_id = bound.map(request);
        Self {
            sequence: entry.sequence,
            at_ms: entry.at.0,
            actor: entry.event.actor,
            action: entry.event.action,
            target: entry.event.target,
            outcome: entry.event.outcome.word(),
            count: entry.event.count,
            origin,
            reason,
            request_id,
            hash: digits(&entry.hash),
        }
    }
}

fn digits(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a text takes everything");
        text
    })
}
