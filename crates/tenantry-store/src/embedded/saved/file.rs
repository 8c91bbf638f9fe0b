//! The format of a saved partition's file; `docs/formats/embedded.md` describes it.
//!
//! A clear head says whose it is and of which state; all else is sealed with the tenant's data
//! key, in chunks whose additional data is the head, the part and the chunk's number. So no chunk
//! opens at another place, in another file or under another tenant's key.

use crate::{
    Entropy,
    embedded::disk::Stamp,
    embedded::seal::{Nonces, SealingKey},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use tenantry_auth::TenantId;
use tenantry_index::{Segment, Storage, VectorIndex};
use tenantry_types::{Error, Metric, Result};

const MAGIC: [u8; 8] = *b"TNTYSAVE";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 64;
const STAMP_AT: usize = 32;
/// What sealing adds to a chunk.
const SEAL_BYTES: usize = 45;
const DESCRIPTION_BYTES: usize = 32;
/// Opened bytes of a chunk, but for the last of a part.
pub(crate) const CHUNK_BYTES: usize = 512 << 10;

/// Which index of which partition a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Whose {
    pub(crate) tenant: TenantId,
    pub(crate) collection: u32,
    pub(crate) partition: u32,
    pub(crate) vector: u16,
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) metric: Metric,
    /// How precisely vectors were kept in memory: their codes depend on it.
    pub(crate) storage: Storage,
    pub(crate) dimension: u32,
    /// Records of the partition, with or without a vector.
    pub(crate) rows: u64,
    /// Bytes of the graph's links; 0 without a graph.
    pub(crate) links: u64,
}

/// The parts of a file, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Description,
    /// The ordinal of each record, ascending.
    Ordinals,
    /// The codes of each record's vector.
    Codes,
    /// Their terms.
    Terms,
    /// The links of the graph.
    Links,
}

const PARTS: [Part; 5] = [Part::Description, Part::Ordinals, Part::Codes, Part::Terms, Part::Links];

impl Description {
    /// Opened bytes of a part; `None` if they pass what can be counted.
    fn bytes(&self, part: Part) -> Option<u64> {
        let row = match part {
            Part::Description => return Some(DESCRIPTION_BYTES as u64),
            Part::Links => return Some(self.links),
            Part::Ordinals => 8,
            Part::Codes => VectorIndex::code_bytes(self.dimension as usize),
            Part::Terms => VectorIndex::TERM_BYTES,
        };
        self.rows.checked_mul(row as u64)
    }

    /// Bytes of a part in the file.
    fn sealed_bytes(&self, part: Part) -> Option<u64> {
        let bytes = self.bytes(part)?;
        let chunks = bytes.div_ceil(CHUNK_BYTES as u64);
        chunks.checked_mul(SEAL_BYTES as u64)?.checked_add(bytes)
    }

    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> Option<u64> {
        let sealed = |sum: u64, part| sum.checked_add(self.sealed_bytes(part)?);
        PARTS.into_iter().try_fold(HEAD_BYTES as u64, sealed)
    }

    pub(crate) fn encode(&self) -> [u8; DESCRIPTION_BYTES] {
        let mut bytes = [0; DESCRIPTION_BYTES];
        bytes[..4].copy_from_slice(&Segment::VERSION.to_le_bytes());
        bytes[4] = match self.metric {
            Metric::L2 => 0,
            Metric::Cosine => 1,
            Metric::InnerProduct => 2,
        };
        bytes[5] = match self.storage {
            Storage::Full => 0,
            Storage::Half => 1,
            Storage::Int8 => 2,
        };
        bytes[8..12].copy_from_slice(&self.dimension.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.rows.to_le_bytes());
        bytes[24..].copy_from_slice(&self.links.to_le_bytes());
        bytes
    }

    /// `None` if it was written by a version whose codes mean something else.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; DESCRIPTION_BYTES] = bytes.try_into().ok()?;
        let small = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let large = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let found = Self {
            metric: [Metric::L2, Metric::Cosine, Metric::InnerProduct]
                .get(usize::from(bytes[4]))
                .copied()?,
            storage: [Storage::Full, Storage::Half, Storage::Int8]
                .get(usize::from(bytes[5]))
                .copied()?,
            dimension: small(8)?,
            rows: large(16)?,
            links: large(24)?,
        };
        (small(0)? == Segment::VERSION && found.encode() == *bytes).then_some(found)
    }
}

/// The first 64 bytes: magic, version, whose, stamp, and a random number of this file alone, so
/// that chunks of two files of one state do not open in each other.
fn head(whose: Whose, stamp: Stamp, number: [u8; 16]) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&MAGIC);
    head[8..12].copy_from_slice(&VERSION.to_be_bytes());
    head[12..20].copy_from_slice(&whose.tenant.get().to_be_bytes());
    head[20..24].copy_from_slice(&whose.collection.to_be_bytes());
    head[24..28].copy_from_slice(&whose.partition.to_be_bytes());
    head[28..30].copy_from_slice(&whose.vector.to_be_bytes());
    head[STAMP_AT..STAMP_AT + 16].copy_from_slice(&stamp);
    head[STAMP_AT + 16..].copy_from_slice(&number);
    head
}

fn chunk_key(head: &[u8; HEAD_BYTES], part: Part, chunk: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(HEAD_BYTES + 5);
    key.extend_from_slice(head);
    key.push(part as u8);
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// A file in the making, under a temporary name that is removed unless it is renamed.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    path: PathBuf,
    head: [u8; HEAD_BYTES],
    bytes: u64,
    is_kept: bool,
}

impl Writer {
    /// Begins a file at a temporary path.
    pub(crate) fn create(
        path: PathBuf,
        whose: Whose,
        stamp: Stamp,
        entropy: &dyn Entropy,
    ) -> std::io::Result<Self> {
        let mut number = [0; 16];
        entropy.fill("saved file", &mut number);
        let head = head(whose, stamp, number);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        let mut writer = Self { file, path, head, bytes: 0, is_kept: false };
        writer.write(&head)?;
        Ok(writer)
    }

    /// Seals a chunk. Computes only; chunks are then written in their order.
    pub(crate) fn seal(
        &self,
        key: &SealingKey,
        part: Part,
        chunk: u32,
        bytes: &[u8],
        entropy: &dyn Entropy,
    ) -> Vec<u8> {
        key.seal(&chunk_key(&self.head, part, chunk), bytes, false, &mut Nonces::draw(entropy))
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Bytes written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the file its name. It is not synchronised: a file that a loss of power has damaged
    /// is found out when it is used.
    pub(crate) fn rename(mut self, to: &Path) -> std::io::Result<()> {
        fs::rename(&self.path, to)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_kept {
            // If it stays, the next one of this name replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A saved file, opened: its head and description are those of a file that was written for this
/// tenant, collection, partition and vector name.
#[derive(Debug)]
pub(crate) struct SavedFile {
    file: File,
    head: [u8; HEAD_BYTES],
    pub(crate) description: Description,
}

impl SavedFile {
    /// Opens a file; `None` if there is none.
    pub(crate) fn open(path: &Path, whose: Whose, key: &SealingKey) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(unreadable(why)),
        };
        let mut head = [0; HEAD_BYTES];
        file.read_exact_at(&mut head, 0).map_err(unreadable)?;
        let stamp_and_number = head.get(STAMP_AT..).unwrap_or_default();
        let (stamp, number) = stamp_and_number.split_at(16);
        let stamp = stamp.try_into().map_err(|_| refused("its head is damaged"))?;
        let number = number.try_into().map_err(|_| refused("its head is damaged"))?;
        if self::head(whose, stamp, number) != head {
            return Err(refused("it is damaged, of another collection or of another version"));
        }
        let mut sealed = [0; DESCRIPTION_BYTES + SEAL_BYTES];
        file.read_exact_at(&mut sealed, HEAD_BYTES as u64).map_err(unreadable)?;
        let opened = key.open(&chunk_key(&head, Part::Description, 0), &sealed)?;
        let description = Description::decode(&opened)
            .ok_or_else(|| refused("it is damaged or of another version"))?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        if description.file_bytes() != Some(bytes) {
            return Err(refused("it has another length than it should"));
        }
        Ok(Some(Self { file, head, description }))
    }

    /// The state of the partition's records that it was made from.
    pub(crate) fn stamp(&self) -> Stamp {
        let mut stamp = Stamp::default();
        stamp.copy_from_slice(&self.head[STAMP_AT..STAMP_AT + 16]);
        stamp
    }

    /// Opened bytes of a part.
    pub(crate) fn bytes(&self, part: Part) -> u64 {
        self.description.bytes(part).unwrap_or(0)
    }

    /// Reads a part: `read` is given each chunk as a whole, opened inside `compute`.
    pub(crate) fn read(
        &self,
        key: &SealingKey,
        part: Part,
        mut compute: impl FnMut(&mut dyn FnMut() -> Result<()>) -> Result<()>,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let before = PARTS.into_iter().take(part as usize);
        let at = before.map(|part| self.description.sealed_bytes(part).unwrap_or(0)).sum::<u64>();
        let mut at = HEAD_BYTES as u64 + at;
        let mut left = self.bytes(part);
        let mut sealed = Vec::new();
        let mut chunk = 0;
        while left > 0 {
            let bytes = left.min(CHUNK_BYTES as u64);
            let length = bytes + SEAL_BYTES as u64;
            sealed.resize(usize::try_from(length).unwrap_or(0), 0);
            self.file.read_exact_at(&mut sealed, at).map_err(unreadable)?;
            compute(&mut || {
                let opened = key.open(&chunk_key(&self.head, part, chunk), &sealed)?;
                if opened.len() as u64 != bytes {
                    return Err(refused("a chunk has another length than it should"));
                }
                each(&opened)
            })?;
            (at, left, chunk) = (at + length, left - bytes, chunk + 1);
        }
        Ok(())
    }

    /// The ordinals, which must ascend: they are searched.
    pub(crate) fn ordinals(
        &self,
        key: &SealingKey,
        compute: impl FnMut(&mut dyn FnMut() -> Result<()>) -> Result<()>,
    ) -> Result<Vec<u64>> {
        let mut ordinals =
            Vec::with_capacity(usize::try_from(self.bytes(Part::Ordinals) / 8).unwrap_or(0));
        self.read(key, Part::Ordinals, compute, |bytes| {
            ordinals.extend(bytes.as_chunks::<8>().0.iter().map(|n| u64::from_le_bytes(*n)));
            Ok(())
        })?;
        if ordinals.is_sorted_by(|a, b| a < b) {
            Ok(ordinals)
        } else {
            Err(refused("its records are not in order"))
        }
    }

    /// Removes the file, unless another one has taken its name.
    pub(crate) fn remove(&self, path: &Path) -> u64 {
        let number = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let same = fs::metadata(path).ok().map(number) == self.file.metadata().ok().map(number);
        let bytes = self.description.file_bytes().unwrap_or(0);
        if same && fs::remove_file(path).is_ok() { bytes } else { 0 }
    }
}

fn unreadable(why: std::io::Error) -> Error {
    Error::corrupt("a saved file cannot be read").with_source(why)
}

fn refused(why: &str) -> Error {
    Error::corrupt(format!("a saved file is refused: {why}"))
}
