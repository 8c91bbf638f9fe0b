//! Writing an archive: entry by entry, in an order that follows from what the tenant has.

use super::{
    tar,
    wire::{
        CollectionRow, Counts, DatabaseRow, EntryRow, FORMAT, FormatRow, Manifest, SignatureRow,
        TenantRow, VERSION, put_line, put_record,
    },
};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use serde::Serialize;
use std::io::Write;
use tenantry_store::{ArchiveKey, CollectionInfo, DatabaseInfo};
use tenantry_types::{DatabaseName, Error, ErrorKind, Record, Result};

/// Records of one entry, and bytes after which another one begins. Part of what makes the same
/// archive of the same data.
pub(super) const RECORDS_MAX: usize = 1_000;
const RECORDS_BYTES: usize = 1 << 20;
/// Entries of an archive: the manifest, which says some 150 bytes of each, is read at once.
pub(super) const ENTRIES_MAX: usize = 400_000;

/// The header of gzip: deflate, no flags, no time, nothing of the system and the compression. Part of
/// the format; a reader takes no other one.
pub(super) const GZIP: &[u8; 10] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff";

/// Writes an archive to `W`.
pub(super) struct Writer<W: Write> {
    gzip: GzEncoder<W>,
    entries: Vec<EntryRow>,
    counts: Counts,
    /// The records of the entry that is being collected, and how many.
    records: (Vec<u8>, usize),
    /// Entries of records that the collection has so far.
    parts: u64,
    /// Bytes before compression, and how many there may be.
    bytes: u64,
    bytes_max: u64,
}

fn failed(why: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("an archive cannot be written: {why}"))
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W, bytes_max: u64) -> Self {
        // As `GZIP` says: nothing in it depends on when and where it is made.
        let gzip = GzBuilder::new().mtime(0).operating_system(255);
        Self {
            gzip: gzip.write(to, Compression::new(6)),
            entries: Vec::new(),
            counts: Counts::default(),
            records: (Vec::new(), 0),
            parts: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// Where it is written to.
    pub(super) fn target(&self) -> &W {
        self.gzip.get_ref()
    }

    pub(super) fn begin(&mut self, tenant: &TenantRow) -> Result<()> {
        self.json("tenantry.json", &FormatRow::new())?;
        self.json("tenant.json", tenant)
    }

    pub(super) fn databases(&mut self, databases: &[DatabaseInfo]) -> Result<()> {
        let mut lines = Vec::new();
        for database in databases {
            put_line(&mut lines, &DatabaseRow { name: database.name.as_str().to_owned() })?;
            self.counts.databases += 1;
        }
        self.entry("databases.jsonl", &lines)
    }

    pub(super) fn collection(
        &mut self,
        info: &CollectionInfo,
        database: &DatabaseName,
    ) -> Result<()> {
        self.end_collection()?;
        self.counts.collections += 1;
        let name = collection_name(self.counts.collections);
        self.json(&name, &CollectionRow::of(info, database))
    }

    /// One more record of the last collection.
    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        let mut line = Vec::new();
        put_record(&mut line, record)?;
        let (lines, count) = &self.records;
        let is_full = *count == RECORDS_MAX || lines.len() + line.len() > RECORDS_BYTES;
        if is_full && *count > 0 {
            self.end_records()?;
        }
        self.records.0.append(&mut line);
        self.records.1 += 1;
        self.counts.records += 1;
        Ok(())
    }

    fn end_records(&mut self) -> Result<()> {
        let (lines, _) = std::mem::take(&mut self.records);
        self.parts += 1;
        let name = records_name(self.counts.collections, self.parts);
        self.entry(&name, &lines)
    }

    fn end_collection(&mut self) -> Result<()> {
        if self.records.1 > 0 {
            self.end_records()?;
        }
        self.parts = 0;
        Ok(())
    }

    /// Ends the archive with its manifest and a signature; how many records it has.
    pub(super) fn finish(mut self, key: &ArchiveKey) -> Result<(W, Counts)> {
        self.end_collection()?;
        let (counts, entries) = (self.counts, std::mem::take(&mut self.entries));
        let format = FORMAT.to_owned();
        let mut manifest = Vec::new();
        put_line(&mut manifest, &Manifest { format, version: VERSION, counts, entries })?;
        let signature = SignatureRow::of(key, &manifest)?;
        self.entry("manifest.json", &manifest)?;
        self.json("signature.json", &signature)?;
        self.put(&[0; tar::END])?;
        Ok((self.gzip.finish().map_err(failed)?, counts))
    }

    fn json(&mut self, name: &str, row: &impl Serialize) -> Result<()> {
        let mut line = Vec::new();
        put_line(&mut line, row)?;
        self.entry(name, &line)
    }

    fn entry(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let bytes = content.len() as u64;
        let header = tar::header(name, bytes);
        let header = header.ok_or_else(|| Error::internal("an entry that no tar can have"))?;
        self.put(&header)?;
        if self.entries.len() >= ENTRIES_MAX {
            let message =
                format!("an archive has {ENTRIES_MAX} parts at most, this tenant has more");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.put(content)?;
        self.put(&[0; tar::BLOCK][..tar::padding(bytes)])?;
        let blake3 = blake3::hash(content).to_hex().to_string();
        self.entries.push(EntryRow { name: name.to_owned(), bytes, blake3 });
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            let message = format!(
                "the archive would have more than {} bytes before it is compressed, which is as \
                 many as this server takes",
                self.bytes_max
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.gzip.write_all(bytes).map_err(failed)
    }
}

/// The name of the entry with a collection's own row.
pub(super) fn collection_name(collection: u64) -> String {
    format!("collections/{collection:06}/collection.json")
}

/// The name of an entry with records of a collection.
pub(super) fn records_name(collection: u64, part: u64) -> String {
    format!("collections/{collection:06}/records-{part:06}.jsonl")
}
