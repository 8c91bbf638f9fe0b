//! A log that somebody has as a file. Nothing in it is believed before it was followed.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Deserializer};
use std::{
    borrow::Cow,
    io::{BufRead, Read as _},
};
use tenantry::{
    AuditBinding, AuditEntry, AuditEvent, AuditOutcome, AuditReason, ChainBreak, ChainVerifier,
    RequestId, Timestamp,
};

/// Longer than any entry that is written; a file that is no log shall not fill the memory.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Of a file's own words in a message.
const WORDS_MAX: usize = 200;

/// A log that was followed from its first entry. It keeps one hash, however long the log.
#[derive(Debug, Default)]
pub(super) struct Log {
    chain: ChainVerifier,
    lines: u64,
}

impl Log {
    /// Before its first entry.
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Follows a log to its end, which must have the hash `head`. One line is in memory at a time.
    pub(super) fn read(input: &mut impl BufRead, head: Option<&[u8; 32]>) -> Result<Self> {
        let mut log = Self::new();
        let mut noted = None;
        let mut line = Vec::new();
        loop {
            line.clear();
            let bound = LINE_BYTES_MAX as u64 + 1;
            if input.by_ref().take(bound).read_until(b'\n', &mut line).context("read")? == 0 {
                break;
            }
            log.follow(&line)?;
            if head.is_some_and(|head| head == log.chain.head()) {
                noted = Some(log.chain.last());
            }
        }
        if let Some(head) = head {
            log.chain.end_at(head).map_err(|why| match noted {
                Some(at) => anyhow!("the hash of --head is entry {at}'s, and more follow it"),
                None => broken(why),
            })?;
        }
        Ok(log)
    }

    /// Takes the next line, its end included. After an error nothing more is to be believed.
    pub(super) fn follow(&mut self, line: &[u8]) -> Result<()> {
        self.lines += 1;
        let number = self.lines;
        ensure!(line.len() <= LINE_BYTES_MAX, "line {number} is too long to be an entry");
        // Also half an entry may be whole JSON by chance; what is written ends each line.
        ensure!(line.ends_with(b"\n"), "line {number} is cut off");
        let entry = Line::parse(line).with_context(|| format!("line {number} is no entry"))?;
        self.chain.follow(&entry).map_err(broken).with_context(|| format!("line {number}"))
    }

    /// How many there are.
    pub(super) fn entries(&self) -> u64 {
        self.chain.last()
    }

    /// The last one's hash.
    pub(super) fn head(&self) -> String {
        digits(self.chain.head())
    }

    /// What binds it to one tenant of one installation, if something does.
    pub(super) fn origin(&self) -> Option<String> {
        self.chain.origin().map(digits)
    }
}

fn digits(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

fn broken(why: ChainBreak) -> anyhow::Error {
    match why {
        ChainBreak::Sequence { expected, found } => {
            anyhow!("the chain breaks: entry {expected} had to come, {found} came")
        }
        ChainBreak::Hash { sequence } => {
            anyhow!("the chain breaks at entry {sequence}: its hash does not follow")
        }
        ChainBreak::Version { sequence } => anyhow!(
            "the chain breaks at entry {sequence}: it is of version 1, and the one before is not"
        ),
        ChainBreak::Origin { sequence } => {
            anyhow!("the chain breaks at entry {sequence}: it is of another log")
        }
        ChainBreak::Head { last } => {
            anyhow!("the log ends with entry {last}, and no entry has the hash of --head")
        }
    }
}

/// An entry as `/v1/audit` gives it. A member that is not covered by the hash would be believed
/// for nothing, so none is taken.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    sequence: u64,
    at_ms: u64,
    actor: String,
    action: String,
    target: String,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    count: u64,
    /// These three are there from version 2 on, and then all of them.
    /// Null is not the same as absent.
    #[serde(default, deserialize_with = "present")]
    origin: Option<String>,
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
    #[expect(clippy::option_option, reason = "null is not the same as absent")]
    #[serde(default, deserialize_with = "present")]
    request_id: Option<Option<String>>,
    #[serde(borrow)]
    hash: Cow<'a, str>,
}

/// A member that is there; null is one if `T` has it.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl Line<'_> {
    fn parse(line: &[u8]) -> Result<AuditEntry> {
        let line: Line<'_> =
            serde_json::from_slice(line).map_err(|error| anyhow!(short(&error.to_string())))?;
        let bound = line.bound()?;
        let Line { sequence, at_ms, actor, action, target, outcome, count, .. } = line;
        let digits = line.hash;
        let outcome = AuditOutcome::from_word(&outcome)
            .with_context(|| format!("the outcome {:?} is not known", short(&outcome)))?;
        let event = AuditEvent { actor, action, target, outcome, count };
        Ok(AuditEntry { sequence, at: Timestamp(at_ms), event, bound, hash: hash(&digits)? })
    }

    /// What an entry of version 2 has besides.
    fn bound(&self) -> Result<Option<AuditBinding>> {
        let (origin, reason, request) = match (&self.origin, &self.reason, &self.request_id) {
            (None, None, None) => return Ok(None),
            (Some(origin), Some(reason), Some(request)) => (origin, reason, request),
            _ => bail!("of origin, reason and request_id some are there and some are not"),
        };
        let origin = hash(origin).context("origin")?;
        let reason = AuditReason::from_word(reason)
            .with_context(|| format!("the reason {:?} is not known", short(reason)))?;
        let request = request.as_deref().map(|text| {
            RequestId::parse(text).context("request_id is not 1 to 64 visible ASCII characters")
        });
        Ok(Some(AuditBinding { origin, reason, request: request.transpose()? }))
    }
}

/// The beginning of what a file says.
fn short(text: &str) -> String {
    text.chars().take(WORDS_MAX).collect()
}

/// 64 hexadecimal digits as the API writes them: one text for each hash.
pub(super) fn hash(text: &str) -> Result<[u8; 32]> {
    let hash = blake3::Hash::from_hex(text).ok();
    let hash = hash.filter(|hash| hash.to_hex().as_str() == text);
    Ok(*hash.context("a hash has 64 digits, 0-9 and a-f")?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;
    use tenantry::ErrorKind;

    /// A log as it is exported, and its last hash.
    fn log(actor: &str, len: u64) -> (Vec<String>, [u8; 32]) {
        let mut previous = [0; 32];
        let line = |sequence| {
            let (action, target) = ("records.add".to_owned(), "gr\u{fc}n\n\"".to_owned());
            let outcome = AuditOutcome::Refused(ErrorKind::Denied);
            let event =
                AuditEvent { actor: actor.to_owned(), action, target, outcome, count: sequence };
            previous = AuditEntry::chain(&previous, sequence, Timestamp(7), &event);
            let AuditEvent { actor, action, target, count, .. } = event;
            let hash = blake3::Hash::from_bytes(previous).to_hex();
            let line = json!({
                "sequence": sequence, "at_ms": 7, "actor": actor, "action": action,
                "target": target, "outcome": "denied", "count": count, "hash": hash.as_str(),
            });
            format!("{line}\n")
        };
        let lines = (1..=len).map(line).collect();
        (lines, previous)
    }

    /// The same log, of version 2 from this line on.
    fn bound(lines: &[String], from: usize) -> Vec<String> {
        let mut lines = lines.to_vec();
        let mut previous = [0; 32];
        for (at, line) in lines.iter_mut().enumerate() {
            let mut entry = Line::parse(line.as_bytes()).unwrap();
            if at >= from {
                let (reason, request) = (AuditReason::Filter, RequestId::parse("r-1"));
                entry.bound = Some(AuditBinding { origin: [0xab; 32], reason, request });
                entry.hash = entry.hash_after(&previous);
                let more = format!(
                    r#"{{"origin":"{}","reason":"filter","request_id":"r-1","#,
                    "ab".repeat(32)
                );
                let (begin, _) = line.split_once(r#""hash":""#).unwrap();
                let rest = line[begin.len() + 73..].to_owned();
                let hash = digits(&entry.hash);
                *line = format!(r#"{begin}"hash":"{hash}"{rest}"#).replacen('{', &more, 1);
            }
            previous = entry.hash;
        }
        lines
    }

    fn read(bytes: &[u8], head: Option<&[u8; 32]>) -> Result<Log> {
        Log::read(&mut &*bytes, head)
    }

    fn why(lines: &[String], head: Option<&[u8; 32]>) -> String {
        format!("{:#}", read(lines.concat().as_bytes(), head).unwrap_err())
    }

    #[test]
    fn a_whole_log_is_followed_to_its_end() {
        let (lines, head) = log("key:a", 20);
        let log = read(lines.concat().as_bytes(), Some(&head)).unwrap();
        assert_eq!((log.entries(), hash(&log.head()).unwrap()), (20, head));
        assert_eq!(read(b"", None).unwrap().entries(), 0);
    }

    #[test]
    fn no_bit_of_a_log_can_be_changed() {
        let (lines, head) = log("key:a", 3);
        let whole = lines.concat().into_bytes();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                let text = String::from_utf8_lossy(&changed);
                assert!(read(&changed, Some(&head)).is_err(), "bit {bit} of byte {at}: {text}");
            }
        }
    }

    #[test]
    fn a_log_of_version_2_says_its_origin_and_no_bit_of_it_can_be_changed() {
        let lines = bound(&log("key:a", 3).0, 1);
        let whole = lines.concat().into_bytes();
        let log = read(&whole, None).unwrap();
        assert_eq!(log.origin(), Some("ab".repeat(32)));
        let head = hash(&log.head()).unwrap();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&changed, Some(&head)).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut without = lines.clone();
        without[2] = without[2].replace(r#""reason":"filter","#, "");
        assert!(why(&without, None).contains("some are there and some are not"));
        let mut back = lines.clone();
        back[2] = back[2].replacen(
            &format!(r#""origin":"{}","reason":"filter","request_id":"r-1","#, "ab".repeat(32)),
            "",
            1,
        );
        assert!(why(&back, None).contains("entry 3: it is of version 1"));
        let mut other = lines;
        other[2] = other[2].replace(&"ab".repeat(32), &"ac".repeat(32));
        assert!(why(&other, None).contains("entry 3: it is of another log"));
    }

    #[test]
    fn no_byte_of_a_log_can_be_missing() {
        let (lines, head) = log("key:a", 3);
        let whole = lines.concat().into_bytes();
        for at in 0..whole.len() {
            assert!(read(&whole[..at], Some(&head)).is_err(), "cut at byte {at}");
            let mut without = whole.clone();
            without.remove(at);
            assert!(read(&without, Some(&head)).is_err(), "without byte {at}");
        }
    }

    #[test]
    fn what_was_done_to_a_file_is_named_with_its_entry() {
        let (lines, head) = log("key:a", 20);
        let mut changed = lines.clone();
        changed[4] = changed[4].replace("key:a", "key:b");
        assert!(why(&changed, None).contains("line 5: the chain breaks at entry 5"));
        let mut removed = lines.clone();
        removed.remove(4);
        assert!(why(&removed, None).contains("entry 5 had to come, 6 came"));
        let mut swapped = lines.clone();
        swapped.swap(4, 5);
        assert!(why(&swapped, None).contains("entry 5 had to come, 6 came"));
        let mut doubled = lines.clone();
        doubled.insert(4, lines[3].clone());
        assert!(why(&doubled, None).contains("entry 5 had to come, 4 came"));
        let mut mixed = lines.clone();
        mixed[4..].clone_from_slice(&log("key:b", 20).0[4..]);
        assert!(why(&mixed, None).contains("breaks at entry 5"));
        assert!(why(&lines[..15], Some(&head)).contains("ends with entry 15"));
        assert_eq!(read(lines[..15].concat().as_bytes(), None).unwrap().entries(), 15);
        // A hash that was noted before the log grew is not its end, and is in it.
        let (_, noted) = log("key:a", 12);
        assert!(why(&lines, Some(&noted)).contains("entry 12's, and more follow"));
    }

    #[test]
    fn what_no_hash_covers_is_not_believed() {
        let (lines, _) = log("key:a", 3);
        for more in [r#"{"note":1,"#, r#"{"count":2,"#, r#"{"tenant":"acme","#] {
            let mut lines = lines.clone();
            lines[1] = lines[1].replacen('{', more, 1);
            assert!(why(&lines, None).contains("line 2 is no entry"), "{more}");
        }
        for more in [r#"{"origin":null,"#, r#"{"reason":null,"#, r#"{"request_id":null,"#] {
            let mut lines = lines.clone();
            lines[1] = lines[1].replacen('{', more, 1);
            assert!(why(&lines, None).contains("line 2 is no entry"), "{more}");
        }
        let mut behind = lines.clone();
        behind[1] = behind[1].replace('\n', " {}\n");
        assert!(why(&behind, None).contains("line 2 is no entry"));
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let (mut lines, _) = log("key:a", 3);
        lines[2].pop();
        assert!(why(&lines, None).contains("line 3 is cut off"));
        assert!(why(&["x".repeat(LINE_BYTES_MAX + 1)], None).contains("line 1 is too long"));
        let long = format!("{{{:?}:1}}\n", "x".repeat(LINE_BYTES_MAX / 2));
        assert!(why(&[long], None).len() < 2 * WORDS_MAX);
        assert!(why(&["\n".to_owned()], None).contains("line 1 is no entry"));
        for text in ["", "0", &"G".repeat(64), &"A".repeat(64), &"\u{fc}".repeat(32)] {
            assert!(hash(text).is_err(), "{text}");
        }
    }

    /// A file that does not end is not read into memory.
    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let error = Log::read(&mut endless, None).unwrap_err();
        assert!(error.to_string().contains("line 1 is too long"));
    }

    /// `tenantry-bench audit` measures a million entries in an optimised build.
    #[test]
    fn a_long_log_is_verified_also_by_a_program_that_was_not_optimised() {
        let (lines, head) = log("key:abcdefghijklmnop", 20_000);
        let file = lines.concat();
        let begun = Instant::now();
        assert_eq!(read(file.as_bytes(), Some(&head)).unwrap().entries(), 20_000);
        let seconds = begun.elapsed().as_secs_f64();
        assert!(seconds < 10.0, "{seconds} s");
    }
}
