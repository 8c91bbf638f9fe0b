//! What the audit log says.

mod verify;

pub use verify::{ChainBreak, ChainVerifier};

use tenantry_types::{ErrorKind, Timestamp};

/// Whether the action was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditOutcome {
    /// Done, in the commit that carries this entry.
    Done,
    /// Refused, with the kind of refusal.
    Refused(ErrorKind),
}

impl AuditOutcome {
    /// `done`, or the word of the kind of refusal.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused(kind) => kind.word(),
        }
    }

    /// The outcome with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        // The numbers have no holes, and none of them is forgotten: `outcome_code` matches all.
        (0..=u8::MAX).map_while(outcome_from_code).find(|outcome| outcome.word() == word)
    }
}

/// One thing that happened, as its author hands it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// Who, for example `key:abcdefghijklmnop`.
    pub actor: String,
    /// What, for example `records.write`.
    pub action: String,
    /// On what: names and numbers, never contents.
    pub target: String,
    /// With what outcome.
    pub outcome: AuditOutcome,
    /// How many of it (records of a batch, refusals summed up).
    pub count: u64,
}

/// One entry of a tenant's audit log. Entries form a hash chain: `hash` covers every other field
/// and the hash of the entry before, so that none can be changed or removed from the middle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Position in the tenant's log, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: AuditEvent,
    /// BLAKE3 over the entry and the one before; see `docs/formats/embedded.md`.
    pub hash: [u8; 32],
}

impl AuditEntry {
    /// The hash that an entry with this content must have after `previous`.
    pub fn chain(
        previous: &[u8; 32],
        sequence: u64,
        at: Timestamp,
        event: &AuditEvent,
    ) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("tenantry 2026-11 audit chain");
        hasher.update(previous);
        hasher.update(&sequence.to_be_bytes());
        hasher.update(&at.0.to_be_bytes());
        for text in [&event.actor, &event.action, &event.target] {
            hasher.update(&(text.len() as u64).to_be_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&[outcome_code(event.outcome)]);
        hasher.update(&event.count.to_be_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// The number of an outcome in the chain and on disk. Never renumber.
pub(crate) fn outcome_code(outcome: AuditOutcome) -> u8 {
    match outcome {
        AuditOutcome::Done => 0,
        AuditOutcome::Refused(kind) => match kind {
            ErrorKind::Invalid => 1,
            ErrorKind::Unauthenticated => 2,
            ErrorKind::Denied => 3,
            ErrorKind::Suspended => 4,
            ErrorKind::NotFound => 5,
            ErrorKind::AlreadyExists => 6,
            ErrorKind::Conflict => 7,
            ErrorKind::TooLarge => 8,
            ErrorKind::LimitExceeded => 9,
            ErrorKind::Unsupported => 10,
            ErrorKind::Unavailable => 11,
            ErrorKind::Corrupt => 12,
            ErrorKind::Internal => 13,
            ErrorKind::Busy => 14,
        },
    }
}

/// The outcome with this number.
pub(crate) fn outcome_from_code(code: u8) -> Option<AuditOutcome> {
    Some(AuditOutcome::Refused(match code {
        0 => return Some(AuditOutcome::Done),
        1 => ErrorKind::Invalid,
        2 => ErrorKind::Unauthenticated,
        3 => ErrorKind::Denied,
        4 => ErrorKind::Suspended,
        5 => ErrorKind::NotFound,
        6 => ErrorKind::AlreadyExists,
        7 => ErrorKind::Conflict,
        8 => ErrorKind::TooLarge,
        9 => ErrorKind::LimitExceeded,
        10 => ErrorKind::Unsupported,
        11 => ErrorKind::Unavailable,
        12 => ErrorKind::Corrupt,
        13 => ErrorKind::Internal,
        14 => ErrorKind::Busy,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_a_number_and_a_word_of_its_own() {
        let all: Vec<_> = (0..=u8::MAX).map_while(outcome_from_code).collect();
        assert_eq!(all.len(), 15);
        for (code, outcome) in all.iter().enumerate() {
            assert_eq!(usize::from(outcome_code(*outcome)), code);
            assert_eq!(AuditOutcome::from_word(outcome.word()), Some(*outcome));
        }
        assert_eq!(AuditOutcome::from_word("Done"), None);
    }
}
