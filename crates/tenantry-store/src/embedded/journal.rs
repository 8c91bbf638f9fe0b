//! Looks at fjall's journals before fjall does.
//!
//! fjall ends a journal at the first entry that it cannot read and cuts off the rest. That is
//! right for the last batch, which a crash may have torn, and wrong for any other: one flipped bit
//! would silently take back every later commit. It also refuses a last batch whose middle was
//! never written. So this check decides: a broken batch with a whole one after it is damage, and
//! nothing is opened; a broken batch at the end of the last journal was never acknowledged, and is
//! cut off.
//!
//! A batch is `01 [items u32][sequence u64]`, the items, `03 [XXH3-64 of the items] "FJL" 03`, all
//! little-endian. An item is `02 [type u8][compression u8][keyspace u64][key bytes u16]
//! [value bytes u32][stored bytes u32] key value`, or `04 [keyspace u64]` for a cleared keyspace.
//! What follows the last batch is nothing, or zeros that were allocated in advance.

use super::{manifest, open_error};
use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io::{BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use tenantry_types::{Error, Result};
use xxhash_rust::xxh3::Xxh3Default;

/// The content of fjall's file `version` that this check knows.
const VERSION: &[u8] = b"FJL\x03";
const TRAILER: &[u8; 4] = b"FJL\x03";
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Sequences that are used for other things between two batches: a few when a keyspace is made.
const GAP_MAX: u64 = 1 << 20;
/// How much is read at once.
const CHUNK: usize = 64 << 10;

/// Refuses a damaged database folder and cuts off a commit that a crash has torn.
pub(super) fn check(folder: &Path) -> Result<()> {
    if fs::read(folder.join("version")).ok().as_deref() != Some(VERSION) {
        return Ok(());
    }
    manifest::check(&folder.join("keyspaces"))?;
    let journals = journals(folder)?;
    if journals.is_empty() {
        let folder = folder.display();
        return Err(Error::corrupt(format!("the database in {folder} has lost its journal")));
    }
    let mut sequence = 0;
    for path in &journals {
        let failed = |why| open_error("read the journal", path, why);
        let scan = Scan::of(path, sequence).map_err(failed)?;
        sequence = scan.sequence;
        let Some(broken_at) = scan.broken_at else { continue };
        let torn = Some(path) == journals.last()
            && scan.in_order
            && !whole_batch_after(path, broken_at, sequence).map_err(failed)?;
        if !torn {
            return Err(Error::corrupt(format!(
                "the journal {} is damaged at byte {broken_at}, before its last commit",
                path.display()
            )));
        }
        tracing::warn!(path = %path.display(), broken_at, "cut off a commit that was torn");
        let cut = OpenOptions::new().write(true).open(path).and_then(|file| {
            file.set_len(broken_at)?;
            file.sync_all()
        });
        cut.map_err(|why| open_error("repair the journal", path, why))?;
    }
    Ok(())
}

/// Writes the last journal's commits over themselves and synchronises. After a synchronisation
/// has failed, the system may count pages as written that are not, and only writing them again
/// makes them durable. Needs no space.
pub(super) fn sync_again(folder: &Path) -> Result<()> {
    let Some(path) = journals(folder)?.pop() else { return Ok(()) };
    let rewrite = || {
        let end = Scan::of(&path, 0)?.end;
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < end {
            let bytes = usize::try_from(end - at).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = &mut buffer[..bytes];
            file.read_exact_at(chunk, at)?;
            file.write_all_at(chunk, at)?;
            at += bytes as u64;
        }
        file.sync_all()
    };
    rewrite().map_err(|why| open_error("synchronise the journal", &path, why))
}

/// The journals, oldest first.
fn journals(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |why| open_error("read", folder, why);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().extension() == Some(OsStr::new("jnl")) {
            let number = number(&entry.file_name(), ".jnl").ok_or_else(|| {
                let path = entry.path();
                Error::corrupt(format!("{} is not the name of a journal", path.display()))
            })?;
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

fn number(name: &OsStr, suffix: &str) -> Option<u64> {
    name.to_str()?.strip_suffix(suffix)?.parse().ok()
}

/// What a journal holds.
#[derive(Debug, PartialEq, Eq)]
struct Scan {
    /// Where its last whole batch ends.
    end: u64,
    /// The sequence of that batch.
    sequence: u64,
    /// Where something else than the next batch starts, if it does.
    broken_at: Option<u64>,
    /// False if that is a whole batch that cannot follow the one before. No checksum covers
    /// sequences, so a damaged one shows only by its neighbours.
    in_order: bool,
}

impl Scan {
    /// Reads a journal that follows one whose last sequence was `sequence`.
    fn of(path: &Path, sequence: u64) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let mut input = BufReader::with_capacity(CHUNK, file);
        let mut scan = Self { end: 0, sequence, broken_at: None, in_order: true };
        while scan.end < bytes {
            let Some(batch) = batch(&mut input, bytes - scan.end)? else {
                input.seek(SeekFrom::Start(scan.end))?;
                scan.broken_at = (!only_zeros(&mut input)?).then_some(scan.end);
                break;
            };
            let is_first = scan.sequence == 0;
            let gap = batch.sequence.checked_sub(scan.sequence).filter(|gap| *gap > 0);
            if !is_first && gap.is_none_or(|gap| gap > GAP_MAX) {
                (scan.broken_at, scan.in_order) = (Some(scan.end), false);
                break;
            }
            scan.end += batch.bytes;
            scan.sequence = batch.sequence;
        }
        Ok(scan)
    }
}

fn only_zeros(input: &mut impl Read) -> std::io::Result<bool> {
    let (zeros, mut chunk) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let bytes = input.read(&mut chunk)?;
        if bytes == 0 || chunk[..bytes] != zeros[..bytes] {
            return Ok(bytes == 0);
        }
    }
}

/// True if a whole batch of a later sequence starts anywhere after a broken one.
fn whole_batch_after(path: &Path, broken_at: u64, sequence: u64) -> std::io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(broken_at))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    for at in 1..rest.len() {
        // A batch's first item follows its start, so that nearly every byte is ruled out here.
        if rest[at] != START || !matches!(rest.get(at + START_BYTES), Some(&(ITEM | CLEAR))) {
            continue;
        }
        let mut candidate = &rest[at..];
        let left = candidate.len() as u64;
        if batch(&mut candidate, left)?.is_some_and(|batch| batch.sequence > sequence) {
            return Ok(true);
        }
    }
    Ok(false)
}

const START_BYTES: usize = 1 + 4 + 8;
const ITEM_BYTES: usize = 1 + 1 + 8 + 2 + 4 + 4;

struct Batch {
    sequence: u64,
    bytes: u64,
}

/// Reads a batch; `None` if there is no whole one. `left` bytes are there at most.
fn batch(input: &mut impl Read, left: u64) -> std::io::Result<Option<Batch>> {
    let mut input = input.take(left);
    match whole_batch(&mut input) {
        Ok(sequence) => {
            Ok(sequence.map(|sequence| Batch { sequence, bytes: left - input.limit() }))
        }
        Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        Err(why) => Err(why),
    }
}

fn whole_batch(input: &mut std::io::Take<impl Read>) -> std::io::Result<Option<u64>> {
    let mut start = [0; START_BYTES];
    input.read_exact(&mut start)?;
    let [START, a, b, c, d, sequence @ ..] = start else { return Ok(None) };
    let mut hash = Xxh3Default::new();
    let mut payload = Vec::new();
    for _ in 0..u32::from_le_bytes([a, b, c, d]) {
        let tag = byte(input)?;
        hash.update(&[tag]);
        let bytes = match tag {
            ITEM => {
                let mut head = [0; ITEM_BYTES];
                input.read_exact(&mut head)?;
                hash.update(&head);
                let key = u64::from(u16::from_le_bytes([head[10], head[11]]));
                let stored = u32::from_le_bytes([head[16], head[17], head[18], head[19]]);
                key + u64::from(stored)
            }
            CLEAR => 8,
            _ => return Ok(None),
        };
        if bytes > input.limit() {
            return Ok(None);
        }
        payload.clear();
        input.by_ref().take(bytes).read_to_end(&mut payload)?;
        hash.update(&payload);
    }
    let mut end = [0; 8 + TRAILER.len()];
    if byte(input)? != END {
        return Ok(None);
    }
    input.read_exact(&mut end)?;
    let whole = end[..8] == hash.digest().to_le_bytes() && end[8..] == *TRAILER;
    Ok(whole.then_some(u64::from_le_bytes(sequence)))
}

fn byte(input: &mut impl Read) -> std::io::Result<u8> {
    let mut one = [0];
    input.read_exact(&mut one)?;
    Ok(one[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    /// A closed database of `commits` commits of two keys each, its journal without the zeros.
    fn database(commits: u32) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        {
            let db = Database::builder(dir.path()).open().unwrap();
            let space = db.keyspace("a", KeyspaceCreateOptions::default).unwrap();
            for n in 0..commits {
                let mut batch = db.batch().durability(Some(PersistMode::SyncData));
                batch.insert(&space, n.to_be_bytes(), vec![7; 300]);
                batch.remove(&space, (n + 1_000).to_be_bytes());
                batch.commit().unwrap();
            }
        }
        let path = journals(dir.path()).unwrap().pop().unwrap();
        let end = usize::try_from(Scan::of(&path, 0).unwrap().end).unwrap();
        let bytes = fs::read(&path).unwrap()[..end].to_vec();
        (dir, path, bytes)
    }

    fn commits(folder: &Path) -> usize {
        let db = Database::builder(folder).open().unwrap();
        db.keyspace("a", KeyspaceCreateOptions::default).unwrap().len().unwrap()
    }

    #[test]
    fn a_whole_journal_passes() {
        let (dir, path, bytes) = database(5);
        assert_eq!(Scan::of(&path, 0).unwrap().broken_at, None);
        assert_eq!(fs::metadata(&path).unwrap().len(), 64 << 20, "zeros follow");
        check(dir.path()).unwrap();
        assert_eq!(commits(dir.path()), 5);
        // fjall has cut off the zeros.
        assert_eq!(fs::read(&path).unwrap(), bytes);
        check(dir.path()).unwrap();
        sync_again(dir.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn a_torn_commit_is_cut_off_wherever_it_was_torn() {
        let (dir, path, bytes) = database(5);
        let last = bytes.len() / 5 * 4;
        for at in (last + 1..bytes.len()).step_by(7) {
            // The end was not written, or the middle was not.
            for torn in [bytes[..at].to_vec(), {
                let mut hole = bytes.clone();
                hole[at..(at + 20).min(bytes.len())].fill(0);
                hole
            }] {
                fs::write(&path, torn).unwrap();
                check(dir.path()).unwrap();
                assert_eq!(fs::read(&path).unwrap(), bytes[..last]);
            }
        }
        assert_eq!(commits(dir.path()), 4);
    }

    #[test]
    fn damage_before_other_commits_is_refused_and_nothing_is_cut() {
        let (dir, path, bytes) = database(5);
        let last = bytes.len() / 5 * 4;
        for at in (0..last).step_by(3) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            match check(dir.path()) {
                Err(error) => assert!(error.to_string().contains("is damaged at byte"), "{error}"),
                // The first sequence has no neighbour that a smaller one would contradict.
                Ok(()) => assert!((5..13).contains(&at), "byte {at}"),
            }
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_foreign_journal_is_refused_by_name() {
        let (dir, _, _) = database(1);
        fs::write(dir.path().join("x.jnl"), "").unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("x.jnl"));
    }
}
