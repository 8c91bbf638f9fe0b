//! What was done: changes, notes for a log, and the log.

use super::unreadable;
use crate::{
    AuditEntry, AuditEvent,
    audit::{outcome_code, outcome_from_code},
};
use serde::{Deserialize, Serialize};
use tenantry_types::{Result, Timestamp};

/// What one commit touched, for moves, catch-up and events. Values are not kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DiskChange {
    V1 { at: u64, touched: Vec<Touched> },
}

/// Append variants only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Touched {
    Tenant,
    Database(u32),
    Collection(u32),
    Key([u8; 10]),
    /// Records of one partition by ordinal.
    Written {
        collection: u32,
        partition: u32,
        ordinals: Vec<u64>,
    },
    /// Records of one partition that are gone.
    Deleted {
        collection: u32,
        partition: u32,
        ordinals: Vec<u64>,
    },
}

/// What the root did that a tenant's log is to be told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskTold {
    V1 {
        at: u64,
        actor: String,
        action: String,
        target: String,
        outcome: u8,
        count: u64,
        touched: Option<Touched>,
    },
}

impl DiskTold {
    pub(crate) fn new(at: Timestamp, event: &AuditEvent, touched: Option<Touched>) -> Self {
        Self::V1 {
            at: at.0,
            actor: event.actor.clone(),
            action: event.action.clone(),
            target: event.target.clone(),
            outcome: outcome_code(event.outcome),
            count: event.count,
            touched,
        }
    }

    pub(crate) fn into_parts(self) -> Result<(Timestamp, AuditEvent, Option<Touched>)> {
        let Self::V1 { at, actor, action, target, outcome, count, touched } = self;
        let outcome = outcome_from_code(outcome).ok_or_else(|| unreadable("a note"))?;
        Ok((Timestamp(at), AuditEvent { actor, action, target, outcome, count }, touched))
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskAudit {
    V1 {
        at: u64,
        actor: String,
        action: String,
        target: String,
        outcome: u8,
        count: u64,
        hash: [u8; 32],
    },
}

impl DiskAudit {
    pub(crate) fn from_entry(entry: &AuditEntry) -> Self {
        Self::V1 {
            at: entry.at.0,
            actor: entry.event.actor.clone(),
            action: entry.event.action.clone(),
            target: entry.event.target.clone(),
            outcome: outcome_code(entry.event.outcome),
            count: entry.event.count,
            hash: entry.hash,
        }
    }

    pub(crate) fn into_entry(self, sequence: u64) -> Result<AuditEntry> {
        let Self::V1 { at, actor, action, target, outcome, count, hash } = self;
        let outcome = outcome_from_code(outcome).ok_or_else(|| unreadable("the audit log"))?;
        Ok(AuditEntry {
            sequence,
            at: Timestamp(at),
            event: AuditEvent { actor, action, target, outcome, count },
            hash,
        })
    }
}
