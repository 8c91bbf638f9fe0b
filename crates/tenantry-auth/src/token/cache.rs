//! Signatures that were verified, by the hash of the whole token. What a token may do is not kept.

use super::Token;
use parking_lot::Mutex;
use std::collections::HashMap;
use tenantry_types::Timestamp;

/// Tokens that are remembered, in two halves: when the younger one is full, the older one goes.
const TOKENS_MAX: usize = 16_384;

/// Whose keys, and which of its sets of keys, verified a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct By {
    pub(super) issuer: usize,
    pub(super) set: u64,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<[u8; 32], (By, Timestamp)>,
    old: HashMap<[u8; 32], (By, Timestamp)>,
}

/// The tokens. Only who holds a valid one can fill it.
#[derive(Debug, Default)]
pub(super) struct Verified(Mutex<Halves>);

impl Verified {
    /// True if these keys have verified this very token and its time is not over.
    pub(super) fn has(&self, token: &Token, by: By, now: Timestamp) -> bool {
        let hash = hash(token);
        let mut halves = self.0.lock();
        if let Some((known, ends)) = halves.young.get(&hash) {
            return *known == by && now < *ends;
        }
        let Some((known, ends)) = halves.old.remove(&hash) else { return false };
        if known != by || now >= ends {
            return false;
        }
        halves.put(hash, (known, ends));
        true
    }

    /// Remembers that these keys have verified the token.
    pub(super) fn put(&self, token: &Token, by: By, ends: Timestamp) {
        self.0.lock().put(hash(token), (by, ends));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let halves = self.0.lock();
        halves.young.len() + halves.old.len()
    }
}

impl Halves {
    fn put(&mut self, hash: [u8; 32], known: (By, Timestamp)) {
        if self.young.len() >= TOKENS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, known);
    }
}

/// Of the signature too: a prefix is what many tokens have in common.
fn hash(token: &Token) -> [u8; 32] {
    blake3::derive_key("tenantry 2026-11 verified token", token.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> Token {
        let part = data_encoding::BASE64URL_NOPAD.encode(&number.to_le_bytes());
        Token::parse(&format!("{part}.{part}.{part}")).unwrap()
    }

    #[test]
    fn only_the_same_token_by_the_same_keys_in_its_time_is_known() {
        let verified = Verified::default();
        let by = By { issuer: 1, set: 2 };
        verified.put(&token(1), by, Timestamp(10));
        assert!(verified.has(&token(1), by, Timestamp(9)));
        assert!(!verified.has(&token(1), by, Timestamp(10)));
        assert!(!verified.has(&token(2), by, Timestamp(9)));
        for other in [By { issuer: 0, ..by }, By { set: 3, ..by }] {
            assert!(!verified.has(&token(1), other, Timestamp(9)));
        }
    }

    #[test]
    fn tokens_that_differ_in_their_last_character_alone_are_two() {
        let verified = Verified::default();
        let text = "e".repeat(2_700);
        let [one, other] = ["AAAA", "AAAB"]
            .map(|end| Token::parse(&format!("{text}.{text}.{text}{end}")).unwrap());
        let [by_one, by_other] = [0, 1].map(|issuer| By { issuer, set: 0 });
        verified.put(&one, by_one, Timestamp(10));
        assert!(!verified.has(&other, by_one, Timestamp(9)));
        verified.put(&other, by_other, Timestamp(10));
        assert!(verified.has(&one, by_one, Timestamp(9)));
        assert!(!verified.has(&one, by_other, Timestamp(9)));
        assert!(verified.has(&other, by_other, Timestamp(9)));
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let verified = Verified::default();
        let by = By { issuer: 0, set: 0 };
        for number in 0..TOKENS_MAX * 2 {
            verified.put(&token(number), by, Timestamp(10));
            // This one is always in use.
            assert!(number == 0 || verified.has(&token(0), by, Timestamp(9)), "{number}");
        }
        assert!(verified.len() <= TOKENS_MAX + 1, "{}", verified.len());
        assert!(!verified.has(&token(1), by, Timestamp(9)));
    }
}
