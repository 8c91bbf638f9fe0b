//! A chain looked at entry by entry, by whoever holds no store and no key.

use super::AuditEntry;

/// Why a chain ends to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainBreak {
    /// An entry is missing, there twice or out of order: another sequence had to come.
    Sequence {
        /// The one that had to come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The hash does not follow from the entry and the one before.
    Hash {
        /// Of which entry.
        sequence: u64,
    },
    /// It has no origin, and those before have one: versions only go up in a chain.
    Version {
        /// Of which entry.
        sequence: u64,
    },
    /// Its origin is not that of the entries before: it is of another log.
    Origin {
        /// Of which entry.
        sequence: u64,
    },
    /// All entries follow from each other, but the last is not the one that was noted.
    Head {
        /// The last entry; 0 if there is none.
        last: u64,
    },
}

/// Follows a chain from its first entry. It keeps one hash and one number, however long the log.
///
/// Times are not compared: what the root tells a tenant that lives apart is written later, with
/// the time at which it was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChainVerifier {
    last: u64,
    hash: [u8; 32],
    origin: Option<[u8; 32]>,
}

impl ChainVerifier {
    /// Before the first entry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next entry. After a break the chain proves nothing more.
    pub fn follow(&mut self, entry: &AuditEntry) -> Result<(), ChainBreak> {
        // Nobody has written so many; a file may still say it.
        let expected = self.last.saturating_add(1);
        if entry.sequence != expected {
            return Err(ChainBreak::Sequence { expected, found: entry.sequence });
        }
        let sequence = expected;
        let origin = entry.bound.as_ref().map(|bound| bound.origin);
        match (self.origin, origin) {
            (Some(_), None) => return Err(ChainBreak::Version { sequence }),
            (Some(one), Some(other)) if one != other => {
                return Err(ChainBreak::Origin { sequence });
            }
            _ => {}
        }
        let hash = entry.hash_after(&self.hash);
        if hash != entry.hash {
            return Err(ChainBreak::Hash { sequence });
        }
        *self = Self { last: sequence, hash, origin };
        Ok(())
    }

    /// Compares the end with a hash that was noted elsewhere: without one nobody can tell whether
    /// the end was cut off.
    pub fn end_at(&self, head: &[u8; 32]) -> Result<(), ChainBreak> {
        if self.hash == *head { Ok(()) } else { Err(ChainBreak::Head { last: self.last }) }
    }

    /// The sequence of the last entry; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// What binds the log to one tenant of one installation; none if all of it is of version 1.
    pub fn origin(&self) -> Option<&[u8; 32]> {
        self.origin.as_ref()
    }

    /// The hash of the last entry; zeros before the first.
    pub fn head(&self) -> &[u8; 32] {
        &self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuditBinding, AuditEvent, AuditOutcome, AuditReason};
    use tenantry_auth::RequestId;
    use tenantry_types::{ErrorKind, Timestamp};

    fn log(actor: &str, len: u64) -> Vec<AuditEntry> {
        let mut previous = [0; 32];
        let entry = |sequence| {
            let event = AuditEvent {
                actor: actor.to_owned(),
                action: "records.add".to_owned(),
                target: "c".to_owned(),
                outcome: AuditOutcome::Done,
                count: sequence,
            };
            let at = Timestamp(1_000 + sequence);
            let hash = AuditEntry::chain(&previous, sequence, at, &event);
            previous = hash;
            AuditEntry { sequence, at, event, bound: None, hash }
        };
        (1..=len).map(entry).collect()
    }

    /// The same log, of version 2 from this entry on.
    fn bound(mut log: Vec<AuditEntry>, from: usize, origin: u8) -> Vec<AuditEntry> {
        let mut previous = if from == 0 { [0; 32] } else { log[from - 1].hash };
        for entry in &mut log[from..] {
            let (reason, request) = (AuditReason::Role, RequestId::parse("r-1"));
            entry.bound = Some(AuditBinding { origin: [origin; 32], reason, request });
            entry.hash = entry.hash_after(&previous);
            previous = entry.hash;
        }
        log
    }

    fn follow(log: &[AuditEntry]) -> Result<ChainVerifier, ChainBreak> {
        let mut chain = ChainVerifier::new();
        log.iter().try_for_each(|entry| chain.follow(entry))?;
        Ok(chain)
    }

    #[test]
    fn a_whole_chain_is_followed_to_its_head() {
        let log = log("key:a", 9);
        let chain = follow(&log).unwrap();
        assert_eq!((chain.last(), chain.head()), (9, &log[8].hash));
        assert_eq!(chain.end_at(&log[8].hash), Ok(()));
        assert_eq!(follow(&[]).unwrap().end_at(&[0; 32]), Ok(()));
    }

    #[test]
    fn each_member_of_an_entry_is_covered() {
        let whole = log("key:a", 3);
        let changes: [fn(&mut AuditEntry); 9] = [
            |entry| entry.sequence ^= 1 << 40,
            |entry| entry.at.0 ^= 1,
            |entry| entry.event.actor.push('b'),
            |entry| entry.event.action.push('b'),
            |entry| entry.event.target.push('b'),
            |entry| entry.event.outcome = AuditOutcome::Refused(ErrorKind::Denied),
            |entry| entry.event.count ^= 1 << 63,
            |entry| entry.hash[31] ^= 1,
            // What moves from one text into the next is not the same either.
            |entry| {
                entry.event.actor.push_str("records");
                entry.event.action = ".add".to_owned();
            },
        ];
        for at in 0..whole.len() {
            for (change, apply) in changes.iter().enumerate() {
                let mut log = whole.clone();
                apply(&mut log[at]);
                assert!(follow(&log).is_err(), "change {change} of entry {at}");
            }
        }
    }

    #[test]
    fn a_break_is_named() {
        let whole = log("key:a", 9);
        let mut changed = whole.clone();
        changed[4].event.count += 1;
        assert_eq!(follow(&changed), Err(ChainBreak::Hash { sequence: 5 }));
        let mut removed = whole.clone();
        removed.remove(2);
        assert_eq!(follow(&removed), Err(ChainBreak::Sequence { expected: 3, found: 4 }));
        let mut swapped = whole.clone();
        swapped.swap(2, 3);
        assert_eq!(follow(&swapped), Err(ChainBreak::Sequence { expected: 3, found: 4 }));
        let mut doubled = whole.clone();
        doubled.insert(3, whole[2].clone());
        assert_eq!(follow(&doubled), Err(ChainBreak::Sequence { expected: 4, found: 3 }));
        let mut begun_late = whole.clone();
        begun_late.remove(0);
        assert_eq!(follow(&begun_late), Err(ChainBreak::Sequence { expected: 1, found: 2 }));
        let mut mixed = whole;
        mixed[6] = log("key:b", 9).remove(6);
        assert_eq!(follow(&mixed), Err(ChainBreak::Hash { sequence: 7 }));
    }

    #[test]
    fn a_cut_end_shows_only_by_a_head_that_was_noted() {
        let whole = log("key:a", 9);
        let cut = follow(&whole[..7]).unwrap();
        assert_eq!(cut.last(), 7);
        assert_eq!(cut.end_at(&whole[8].hash), Err(ChainBreak::Head { last: 7 }));
    }

    #[test]
    fn sequences_at_their_end_are_refused() {
        let mut entry = log("key:a", 1).remove(0);
        entry.sequence = u64::MAX;
        assert!(follow(&[entry]).is_err());
    }

    #[test]
    fn what_an_entry_of_version_2_has_besides_is_covered() {
        let whole = bound(log("key:a", 3), 0, 7);
        assert_eq!(follow(&whole).unwrap().origin(), Some(&[7; 32]));
        let changes: [fn(&mut AuditBinding); 5] = [
            |bound| bound.origin[0] ^= 1,
            |bound| bound.reason = AuditReason::None,
            |bound| bound.request = None,
            |bound| bound.request = RequestId::parse("r-2"),
            |bound| bound.request = RequestId::parse("r-11"),
        ];
        for at in 0..whole.len() {
            for (change, apply) in changes.iter().enumerate() {
                let mut log = whole.clone();
                apply(log[at].bound.as_mut().unwrap());
                assert!(follow(&log).is_err(), "change {change} of entry {at}");
            }
            let mut log = whole.clone();
            log[at].bound = None;
            assert!(follow(&log).is_err(), "entry {at} as of version 1");
        }
    }

    #[test]
    fn versions_only_go_up_and_an_origin_stays() {
        let old = log("key:a", 9);
        assert_eq!(follow(&old).unwrap().origin(), None);
        let grown = bound(old.clone(), 4, 7);
        assert_eq!(follow(&grown).unwrap().origin(), Some(&[7; 32]));
        // Whoever can compute hashes, and goes on as an older program would.
        let mut back = grown.clone();
        back[6].bound = None;
        back[6].hash = back[6].hash_after(&back[5].hash);
        assert_eq!(follow(&back), Err(ChainBreak::Version { sequence: 7 }));
        let other = bound(grown.clone(), 6, 8);
        assert_eq!(follow(&other), Err(ChainBreak::Origin { sequence: 7 }));
        // What was of version 1 is bound by the first of version 2.
        let mut changed = grown;
        changed[3].event.count += 1;
        changed[3].hash = changed[3].hash_after(&changed[2].hash);
        assert_eq!(follow(&changed), Err(ChainBreak::Hash { sequence: 5 }));
    }
}
