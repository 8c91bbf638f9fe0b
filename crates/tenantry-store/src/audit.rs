//! What the audit log says.

mod verify;

pub use verify::{ChainBreak, ChainVerifier};

use tenantry_auth::{Author, RequestId};
use tenantry_types::{ErrorKind, Period, Term, Timestamp};

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

/// Why it came out so, as a code: nothing of a request gets into a log by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuditReason {
    /// The outcome says all.
    None,
    /// The role does not allow it.
    Role,
    /// The key is limited to other objects.
    Objects,
    /// The key is bound to a filter.
    Filter,
    /// The tenant that was named is not the caller's.
    ForeignTenant,
    /// The operator's key may not open tenants.
    ActAs,
    /// The operator says not why it comes, where it must.
    NoReason,
    /// This limit of the tenant.
    Limit(Term),
}

/// All of them, in the order of their numbers.
const REASONS: [AuditReason; 25] = [
    AuditReason::None,
    AuditReason::Role,
    AuditReason::Objects,
    AuditReason::Filter,
    AuditReason::ForeignTenant,
    AuditReason::ActAs,
    AuditReason::NoReason,
    AuditReason::Limit(Term::Databases),
    AuditReason::Limit(Term::Collections),
    AuditReason::Limit(Term::RecordsPerCollection),
    AuditReason::Limit(Term::Keys),
    AuditReason::Limit(Term::Users),
    AuditReason::Limit(Term::VectorDimensions),
    AuditReason::Limit(Term::Records),
    AuditReason::Limit(Term::Bytes),
    AuditReason::Limit(Term::Requests(Period::Second)),
    AuditReason::Limit(Term::Requests(Period::Minute)),
    AuditReason::Limit(Term::Requests(Period::Hour)),
    AuditReason::Limit(Term::Day),
    AuditReason::Limit(Term::Month),
    AuditReason::Limit(Term::Cost),
    AuditReason::Limit(Term::MessagesPerDay),
    AuditReason::Limit(Term::TokensPerDay),
    AuditReason::Limit(Term::Concurrent),
    AuditReason::Limit(Term::Weight),
];

impl AuditReason {
    /// The word for programs. Logs that were exported have it: never change one.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Role => "role",
            Self::Objects => "objects",
            Self::Filter => "filter",
            Self::ForeignTenant => "foreign_tenant",
            Self::ActAs => "act_as",
            Self::NoReason => "no_reason",
            Self::Limit(term) => term.word(),
        }
    }

    /// The reason with this word, if there is one.
    pub fn from_word(word: &str) -> Option<Self> {
        REASONS.into_iter().find(|reason| reason.word() == word)
    }

    /// The reason with this number, if there is one.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        REASONS.get(usize::from(code)).copied()
    }

    /// The number in the chain and on disk. Never renumber.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Role => 1,
            Self::Objects => 2,
            Self::Filter => 3,
            Self::ForeignTenant => 4,
            Self::ActAs => 5,
            Self::NoReason => 6,
            Self::Limit(term) => limit_code(term),
        }
    }
}

/// The number of a limit in the chain and on disk. Never renumber.
fn limit_code(term: Term) -> u8 {
    match term {
        Term::Databases => 7,
        Term::Collections => 8,
        Term::RecordsPerCollection => 9,
        Term::Keys => 10,
        Term::Users => 11,
        Term::VectorDimensions => 12,
        Term::Records => 13,
        Term::Bytes => 14,
        Term::Requests(Period::Second) => 15,
        Term::Requests(Period::Minute) => 16,
        Term::Requests(Period::Hour) => 17,
        Term::Day => 18,
        Term::Month => 19,
        Term::Cost => 20,
        Term::MessagesPerDay => 21,
        Term::TokensPerDay => 22,
        Term::Concurrent => 23,
        Term::Weight => 24,
    }
}

/// What its author hands in of something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditNote {
    /// What.
    pub event: AuditEvent,
    /// Why it came out so.
    pub reason: AuditReason,
    /// In which request, if it was one.
    pub request: Option<RequestId>,
}

impl AuditEvent {
    /// The same of the request in which its author acts, with an outcome that says all.
    pub fn by(self, author: Author<'_>) -> AuditNote {
        AuditNote { request: author.request().cloned(), ..self.into() }
    }
}

impl From<AuditEvent> for AuditNote {
    /// Of no request, with an outcome that says all.
    fn from(event: AuditEvent) -> Self {
        Self { event, reason: AuditReason::None, request: None }
    }
}

/// What an entry of version 2 has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditBinding {
    /// Whose log it is: of one installation and one tenant, and the same in all its entries.
    pub origin: [u8; 32],
    /// Why it came out so.
    pub reason: AuditReason,
    /// In which request, if it was one.
    pub request: Option<RequestId>,
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
    /// Whose, why and in which request; entries of version 1 do not say it.
    pub bound: Option<AuditBinding>,
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
        hash_event(&mut hasher, sequence, at, event);
        *hasher.finalize().as_bytes()
    }

    /// The same for an entry of version 2.
    pub fn chain_bound(
        previous: &[u8; 32],
        sequence: u64,
        at: Timestamp,
        event: &AuditEvent,
        bound: &AuditBinding,
    ) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("tenantry 2026-11 audit chain 2");
        hasher.update(previous);
        hasher.update(&bound.origin);
        hash_event(&mut hasher, sequence, at, event);
        hasher.update(&[bound.reason.code()]);
        // No id is empty, so no length of one is that of none.
        let request = bound.request.as_ref().map_or("", RequestId::as_str);
        hasher.update(&(request.len() as u64).to_be_bytes());
        hasher.update(request.as_bytes());
        *hasher.finalize().as_bytes()
    }

    /// The hash that this entry must have after `previous`, by its version.
    pub fn hash_after(&self, previous: &[u8; 32]) -> [u8; 32] {
        let Self { sequence, at, event, bound, .. } = self;
        match bound {
            None => Self::chain(previous, *sequence, *at, event),
            Some(bound) => Self::chain_bound(previous, *sequence, *at, event, bound),
        }
    }
}

/// What entries of all versions have.
fn hash_event(hasher: &mut blake3::Hasher, sequence: u64, at: Timestamp, event: &AuditEvent) {
    hasher.update(&sequence.to_be_bytes());
    hasher.update(&at.0.to_be_bytes());
    for text in [&event.actor, &event.action, &event.target] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.update(&[outcome_code(event.outcome)]);
    hasher.update(&event.count.to_be_bytes());
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

    /// By what `docs/formats/embedded.md` says, computed by another program.
    #[test]
    fn a_hash_is_for_ever() {
        let event = AuditEvent {
            actor: "key:a".into(),
            action: "session.write".into(),
            target: "acme".into(),
            outcome: AuditOutcome::Refused(ErrorKind::Denied),
            count: 4,
        };
        let hash = |bound| {
            let event = event.clone();
            let entry =
                AuditEntry { sequence: 2, at: Timestamp(1_000), event, bound, hash: [0; 32] };
            data_encoding::HEXLOWER.encode(&entry.hash_after(&[9; 32]))
        };
        let bound = |request: &str| {
            let request = RequestId::parse(request);
            Some(AuditBinding { origin: [7; 32], reason: AuditReason::Role, request })
        };
        let expected = [
            (None, "675ea8338a6a1773b8ab8189d8546445a96779fe3137027a1bc196b0a1b2b1c7"),
            (bound("r-1"), "5e491a4659ea3d42242372338ff0550b01e41458906486d7fc38a9d06a7969ae"),
            (bound(""), "3ef95480d1354c54bfbb6e1c544238003e6c7064a3800e53533636d58f7535e4"),
        ];
        for (bound, digits) in expected {
            assert_eq!(hash(bound), digits);
        }
    }

    #[test]
    fn each_reason_has_a_number_and_a_word_of_its_own() {
        for (code, reason) in REASONS.into_iter().enumerate() {
            assert_eq!(usize::from(reason.code()), code);
            assert_eq!(AuditReason::from_code(reason.code()), Some(reason));
            assert_eq!(AuditReason::from_word(reason.word()), Some(reason));
        }
        assert_eq!(AuditReason::from_code(25), None);
        assert!(Term::ALL.into_iter().all(|term| REASONS.contains(&AuditReason::Limit(term))));
        assert_eq!(AuditReason::from_word("None"), None);
    }
}
