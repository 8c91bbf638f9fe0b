//! What was done: changes, notes for a log, and the log.

use super::unreadable;
use crate::{
    AuditBinding, AuditEntry, AuditEvent, AuditNote, AuditReason,
    audit::{outcome_code, outcome_from_code},
};
use serde::{Deserialize, Serialize};
use tenantry_auth::RequestId;
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

/// Why and in which request, as rows of version 2 have it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskCause {
    reason: u8,
    request: Option<String>,
}

impl DiskCause {
    fn new(reason: AuditReason, request: Option<&RequestId>) -> Self {
        let request = request.map(|id| id.as_str().to_owned());
        Self { reason: reason.code(), request }
    }

    fn into_parts(self, what: &str) -> Result<(AuditReason, Option<RequestId>)> {
        let reason = AuditReason::from_code(self.reason).ok_or_else(|| unreadable(what))?;
        let request =
            self.request.map(|text| RequestId::parse(&text).ok_or_else(|| unreadable(what)));
        Ok((reason, request.transpose()?))
    }
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
    /// For a log that is of version 2 when it takes this over.
    V2 { at: u64, event: DiskEvent, cause: DiskCause, touched: Option<Touched> },
}

/// What happened, as rows of version 2 have it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskEvent {
    actor: String,
    action: String,
    target: String,
    outcome: u8,
    count: u64,
}

impl DiskEvent {
    fn new(event: &AuditEvent) -> Self {
        let AuditEvent { actor, action, target, outcome, count } = event.clone();
        Self { actor, action, target, outcome: outcome_code(outcome), count }
    }

    fn into_event(self, what: &str) -> Result<AuditEvent> {
        let Self { actor, action, target, outcome, count } = self;
        let outcome = outcome_from_code(outcome).ok_or_else(|| unreadable(what))?;
        Ok(AuditEvent { actor, action, target, outcome, count })
    }
}

impl DiskTold {
    /// Before the gate (`is_bound` is false) older programs may have to read it.
    pub(crate) fn new(
        at: Timestamp,
        note: &AuditNote,
        touched: Option<Touched>,
        is_bound: bool,
    ) -> Self {
        let event = DiskEvent::new(&note.event);
        if is_bound {
            let cause = DiskCause::new(note.reason, note.request.as_ref());
            return Self::V2 { at: at.0, event, cause, touched };
        }
        let DiskEvent { actor, action, target, outcome, count } = event;
        Self::V1 { at: at.0, actor, action, target, outcome, count, touched }
    }

    pub(crate) fn into_parts(self) -> Result<(Timestamp, AuditNote, Option<Touched>)> {
        let what = "a note";
        match self {
            Self::V1 { at, actor, action, target, outcome, count, touched } => {
                let event = DiskEvent { actor, action, target, outcome, count };
                Ok((Timestamp(at), event.into_event(what)?.into(), touched))
            }
            Self::V2 { at, event, cause, touched } => {
                let event = event.into_event(what)?;
                let (reason, request) = cause.into_parts(what)?;
                Ok((Timestamp(at), AuditNote { event, reason, request }, touched))
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    V2 {
        at: u64,
        event: DiskEvent,
        origin: [u8; 32],
        cause: DiskCause,
        hash: [u8; 32],
    },
}

impl DiskAudit {
    pub(crate) fn from_entry(entry: &AuditEntry) -> Self {
        let AuditEntry { at, hash, .. } = *entry;
        let event = DiskEvent::new(&entry.event);
        if let Some(AuditBinding { origin, reason, request }) = &entry.bound {
            let cause = DiskCause::new(*reason, request.as_ref());
            return Self::V2 { at: at.0, event, origin: *origin, cause, hash };
        }
        let DiskEvent { actor, action, target, outcome, count } = event;
        Self::V1 { at: at.0, actor, action, target, outcome, count, hash }
    }

    pub(crate) fn into_entry(self, sequence: u64) -> Result<AuditEntry> {
        let what = "the audit log";
        let (at, event, bound, hash) = match self {
            Self::V1 { at, actor, action, target, outcome, count, hash } => {
                (at, DiskEvent { actor, action, target, outcome, count }, None, hash)
            }
            Self::V2 { at, event, origin, cause, hash } => {
                let (reason, request) = cause.into_parts(what)?;
                (at, event, Some(AuditBinding { origin, reason, request }), hash)
            }
        };
        let (at, event) = (Timestamp(at), event.into_event(what)?);
        Ok(AuditEntry { sequence, at, event, bound, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode};
    use super::*;
    use crate::AuditOutcome;
    use tenantry_types::ErrorKind;

    fn note() -> AuditNote {
        let event = AuditEvent {
            actor: "key:a".into(),
            action: "session.write".into(),
            target: "acme".into(),
            outcome: AuditOutcome::Refused(ErrorKind::Denied),
            count: 3,
        };
        AuditNote { event, reason: AuditReason::Role, request: RequestId::parse("r-1") }
    }

    #[test]
    fn an_entry_of_each_version_is_read_as_it_was_written() {
        let AuditNote { event, reason, request } = note();
        let binding = |request| Some(AuditBinding { origin: [7; 32], reason, request });
        for (variant, bound) in [(0, None), (1, binding(None)), (1, binding(request))] {
            let (at, event) = (Timestamp(9), event.clone());
            let entry = AuditEntry { sequence: 5, at, event, bound, hash: [3; 32] };
            let bytes = encode(&DiskAudit::from_entry(&entry));
            assert_eq!(bytes[0], variant);
            assert_eq!(decode::<DiskAudit>(&bytes, "x").unwrap().into_entry(5).unwrap(), entry);
        }
    }

    #[test]
    fn a_note_says_why_and_in_which_request_from_the_gate_on() {
        let read = |is_bound| {
            let told = DiskTold::new(Timestamp(9), &note(), Some(Touched::Tenant), is_bound);
            let bytes = encode(&told);
            let (at, note, touched) =
                decode::<DiskTold>(&bytes, "x").unwrap().into_parts().unwrap();
            assert_eq!((at, touched), (Timestamp(9), Some(Touched::Tenant)));
            (bytes[0], note)
        };
        assert_eq!(read(true), (1, note()));
        assert_eq!(read(false), (0, note().event.into()));
    }

    /// As `docs/formats/embedded.md` says it. Never changed.
    #[test]
    fn rows_of_version_2_are_for_ever() {
        let AuditNote { event, reason, request } = note();
        let bound = Some(AuditBinding { origin: [7; 32], reason, request });
        let at = Timestamp(9);
        let entry = AuditEntry { sequence: 5, at, event, bound, hash: [3; 32] };
        let event = b"\x09\x05key:a\x0dsession.write\x04acme\x03\x03";
        let cause = b"\x01\x01\x03r-1";
        let row = [&[1][..], event, &[7; 32], cause, &[3; 32]].concat();
        assert_eq!(encode(&DiskAudit::from_entry(&entry)), row);
        let told = DiskTold::new(at, &note(), Some(Touched::Tenant), true);
        assert_eq!(encode(&told), [&[1][..], event, cause, &[1, 0]].concat());
    }

    #[test]
    fn what_no_program_of_this_version_has_written_is_refused() {
        let cause = |reason, request: &str| DiskCause { reason, request: Some(request.into()) };
        assert!(cause(1, "r-1").into_parts("x").is_ok());
        for bad in [cause(25, "r-1"), cause(1, ""), cause(1, "a b")] {
            assert!(bad.into_parts("x").is_err());
        }
    }
}
