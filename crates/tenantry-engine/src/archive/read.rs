//! Reading an archive. What is read is what must come next, or the archive is refused; nothing of
//! it is ever a path.

use super::{
    tar,
    wire::{
        CollectionRow, Counts, DatabaseRow, EntryRow, FORMAT, FormatRow, Manifest, RecordRow,
        SignatureRow, TenantRow, VERSION,
    },
    write::{ENTRIES_MAX, GZIP, RECORDS_MAX, collection_name, records_name},
};
use crate::validate;
use flate2::bufread::GzDecoder;
use serde::Deserialize;
use serde_json::error::Category;
use std::{
    collections::{BTreeMap, HashSet},
    io::{BufRead, Chain, ErrorKind as IoErrorKind, Read},
};
use tenantry_store::{CollectionInfo, PublicKey, VectorInfo};
use tenantry_types::{
    CollectionId, CollectionName, CollectionNumber, CollectionSpec, DatabaseName, DatabaseNumber,
    Error, ErrorKind, Limits, RecordWrite, Result, TenantName, TenantSpec, Timestamp, VectorName,
};

/// Bytes of entries of each kind. Of records one alone may be as large as the limits of records
/// allow, each of its bytes written as six.
const SMALL_MAX: u64 = 1 << 20;
const COLLECTION_MAX: u64 = 10 << 20;
const LIST_MAX: u64 = 64 << 20;
const RECORDS_BYTES_MAX: u64 = 128 << 20;
const MANIFEST_MAX: u64 = 64 << 20;
/// Bytes of one text as it is written: of a record's document, and of all others, of which one may have
/// all that metadata may have.
const DOCUMENT_MAX: usize = 6 * Limits::DOCUMENT_BYTES_MAX;
const TEXT_MAX: usize = 6 * Limits::METADATA_BYTES_MAX;
/// Characters of the parser's words, which quote what an archive says.
const QUOTED_MAX: usize = 200;
/// Ids of one collection that are told apart before anything is written; of more the store tells.
const IDS_MAX: usize = 4 << 20;

/// What helps whoever has a damaged archive.
const AGAIN: &str = "export it again, or fetch it again";
/// Where nothing was read yet.
const BEGIN: &str = "at its begin";

/// Something of a tenant, in the order in which it is made again.
#[derive(Debug)]
pub(super) enum Item {
    Tenant(TenantRow),
    Database(DatabaseName),
    Collection(DatabaseName, Box<CollectionSpec>),
    Records(Vec<RecordWrite>),
}

/// Who has signed an archive, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) by: PublicKey,
    pub(super) counts: Counts,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Format,
    Tenant,
    Databases,
    /// Records of the last collection, or what follows it.
    InCollection {
        part: u64,
    },
    End,
}

/// Reads an archive, once, from its begin to its end.
pub(super) struct Reader<R: BufRead> {
    gzip: GzDecoder<Chain<&'static [u8], R>>,
    next: Next,
    entries: Vec<EntryRow>,
    counts: Counts,
    databases: HashSet<DatabaseName>,
    collections: HashSet<(DatabaseName, CollectionName)>,
    /// The last collection, as if it were stored.
    collection: Option<CollectionInfo>,
    ids: HashSet<[u8; 16]>,
    /// Items of the last entry.
    items: std::vec::IntoIter<Item>,
    signed: Option<Signed>,
    /// Bytes that may still come out of the compression.
    left: u64,
    bytes_max: u64,
}

/// Reads one JSON document.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T> {
    check_texts(bytes)?;
    serde_json::from_slice(bytes).map_err(|why| unreadable(&why))
}

/// Fails if a text is longer than any of a tenant is. Of one that should not be there the parser makes
/// several, each as many times longer as it has bytes to be escaped.
fn check_texts(json: &[u8]) -> Result<()> {
    if json.len() <= TEXT_MAX {
        return Ok(());
    }
    let (mut at, mut depth) = (0, 0_u32);
    let mut before: &[u8] = &[];
    while let Some(byte) = json.get(at) {
        match byte {
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            // Whatever comes next is not what a key stands before.
            b',' => before = &[],
            b'"' => {
                let text = text_at(&json[at + 1..]);
                let is_document = depth == 1 && before == b"document";
                let most = if is_document { DOCUMENT_MAX } else { TEXT_MAX };
                if text.len() > most {
                    let message =
                        format!("a text of {} bytes, at most {most} are allowed", text.len());
                    return Err(Error::new(ErrorKind::TooLarge, message));
                }
                at += text.len() + 1;
                before = text;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// A text as it is written, up to the quote that ends it.
fn text_at(json: &[u8]) -> &[u8] {
    let mut is_escaped = false;
    let is_end = |byte: &u8| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    };
    let end = json.iter().position(is_end).unwrap_or(json.len());
    &json[..end]
}

/// Of what is no JSON the parser's words are for the log; of what is, they say what should not be there.
fn unreadable(why: &serde_json::Error) -> Error {
    let column = why.column();
    if why.classify() != Category::Data {
        tracing::warn!(cause = %why, "a part of an archive is no JSON");
        return Error::invalid(format!("it is damaged from column {column} on; {AGAIN}"));
    }
    // Each document is on a line of its own, which the parser calls the first.
    let (words, place) = (why.to_string(), format!(" at line {} column {column}", why.line()));
    let words = words.strip_suffix(&place).unwrap_or(&words);
    let quoted: String = words.chars().take(QUOTED_MAX).collect();
    let more = if quoted.len() < words.len() { "…" } else { "" };
    Error::invalid(format!("{quoted}{more}: it is damaged, or was changed; {AGAIN}"))
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("archive: {why}"))
}

/// `place` says how far it can be read.
fn unread(why: std::io::Error, place: &str) -> Error {
    match why.kind() {
        IoErrorKind::InvalidInput | IoErrorKind::InvalidData | IoErrorKind::UnexpectedEof => {
            tracing::warn!(cause = %why, place, "an archive is damaged or cut off");
            refused(format!("it is damaged or cut off {place}; {AGAIN}"))
        }
        _ => Error::internal("read an archive").with_source(why),
    }
}

/// Says in which entry something is wrong.
fn within(name: &str) -> impl Fn(Error) -> Error {
    let name = name.to_owned();
    move |why| match why.kind() {
        ErrorKind::Internal => why,
        kind => Error::new(kind, format!("archive, {name}: {why}")),
    }
}

/// Says in which line of its entry.
fn on_line(at: usize) -> impl Fn(Error) -> Error {
    move |why| Error::new(why.kind(), format!("line {at}: {why}"))
}

impl<R: BufRead> Reader<R> {
    /// At most `bytes_max` bytes are read of what was compressed.
    pub(super) fn new(mut from: R, bytes_max: u64) -> Result<Self> {
        let mut header = [0; GZIP.len()];
        from.read_exact(&mut header).map_err(|why| unread(why, BEGIN))?;
        if header != *GZIP {
            return Err(refused("it does not begin as every archive does"));
        }
        Ok(Self {
            gzip: GzDecoder::new(GZIP.as_slice().chain(from)),
            next: Next::Format,
            entries: Vec::new(),
            counts: Counts::default(),
            databases: HashSet::new(),
            collections: HashSet::new(),
            collection: None,
            ids: HashSet::new(),
            items: Vec::new().into_iter(),
            signed: None,
            left: bytes_max,
            bytes_max,
        })
    }

    /// The next item; none at the end, when all was read and the signature is one.
    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        loop {
            if let Some(item) = self.items.next() {
                return Ok(Some(item));
            }
            if self.next == Next::End {
                return Ok(None);
            }
            self.entry()?;
        }
    }

    /// Who has signed what was read, at the end.
    pub(super) fn signed(&self) -> Result<&Signed> {
        self.signed.as_ref().ok_or_else(|| refused("it was not read to its end"))
    }

    fn entry(&mut self) -> Result<()> {
        match self.next {
            Next::Format => self.format(),
            Next::Tenant => {
                let (name, content) = self.take(&[("tenant.json", SMALL_MAX)])?;
                let row: TenantRow = read(&content).map_err(within(&name))?;
                check_tenant(&row).map_err(within(&name))?;
                self.next = Next::Databases;
                self.give(vec![Item::Tenant(row)]);
                Ok(())
            }
            Next::Databases => self.read_databases(),
            Next::InCollection { part } => {
                let (of, after) = (self.counts.collections, self.counts.collections + 1);
                let (records, collection) = (records_name(of, part + 1), collection_name(after));
                let mut expected = vec![("manifest.json", MANIFEST_MAX)];
                expected.push((&collection, COLLECTION_MAX));
                if self.collection.is_some() {
                    expected.push((&records, RECORDS_BYTES_MAX));
                }
                let (name, content) = self.take(&expected)?;
                if name == records {
                    self.next = Next::InCollection { part: part + 1 };
                    self.records(&content).map_err(within(&name))
                } else if name == collection {
                    self.next = Next::InCollection { part: 0 };
                    self.read_collection(&content).map_err(within(&name))
                } else {
                    self.end(&content)
                }
            }
            Next::End => Ok(()),
        }
    }

    fn give(&mut self, items: Vec<Item>) {
        self.items = items.into_iter();
    }

    fn format(&mut self) -> Result<()> {
        let (name, content) = self.take(&[("tenantry.json", SMALL_MAX)])?;
        let row: FormatRow = read(&content).map_err(within(&name))?;
        if row.format != FORMAT || row.version != VERSION {
            let message = "it is of a version that this program does not know";
            return Err(Error::new(ErrorKind::Unsupported, format!("archive: {message}")));
        }
        self.next = Next::Tenant;
        Ok(())
    }

    fn read_databases(&mut self) -> Result<()> {
        let (name, content) = self.take(&[("databases.jsonl", LIST_MAX)])?;
        let mut items = Vec::new();
        for (at, line) in (1..).zip(lines(&content).map_err(within(&name))?) {
            let row: DatabaseRow = read(line).map_err(on_line(at)).map_err(within(&name))?;
            let database = DatabaseName::parse(row.name).map_err(within(&name))?;
            if !self.databases.insert(database.clone()) {
                return Err(within(&name)(Error::invalid("a database occurs twice")));
            }
            self.counts.databases += 1;
            items.push(Item::Database(database));
        }
        self.next = Next::InCollection { part: 0 };
        self.give(items);
        Ok(())
    }

    fn read_collection(&mut self, content: &[u8]) -> Result<()> {
        let row: CollectionRow = read(content)?;
        let (database, spec) = row.spec()?;
        if !self.databases.contains(&database) {
            return Err(Error::invalid("its database is not in the archive"));
        }
        if !self.collections.insert((database.clone(), spec.name.clone())) {
            return Err(Error::invalid("a collection of its name is in its database already"));
        }
        validate::collection_spec(&spec)?;
        self.counts.collections += 1;
        self.collection = Some(as_stored(&spec));
        self.ids.clear();
        self.give(vec![Item::Collection(database, Box::new(spec))]);
        Ok(())
    }

    fn records(&mut self, content: &[u8]) -> Result<()> {
        let info =
            self.collection.as_ref().ok_or_else(|| Error::invalid("it has no collection"))?;
        let mut records = Vec::new();
        for (at, line) in (1..).zip(lines(content)?) {
            if records.len() == RECORDS_MAX {
                return Err(Error::invalid(format!("it has more than {RECORDS_MAX} records")));
            }
            let record = read(line).and_then(RecordRow::write).map_err(on_line(at))?;
            let hash = blake3::hash(record.id.as_str().as_bytes());
            let hash = *hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]);
            if self.ids.len() < IDS_MAX && !self.ids.insert(hash) {
                return Err(Error::invalid(format!("the id {:?} occurs twice", record.id)));
            }
            check_dimensions(&record, info)?;
            // One by one: what all of them could take before they are looked at is too much.
            validate::batch(std::slice::from_ref(&record), info)?;
            records.push(record);
        }
        if records.is_empty() {
            return Err(Error::invalid("it is empty"));
        }
        validate::batch(&records, info)?;
        self.counts.records += records.len() as u64;
        self.give(vec![Item::Records(records)]);
        Ok(())
    }

    /// Reads what is behind the manifest, which is compared with what was read.
    fn end(&mut self, content: &[u8]) -> Result<()> {
        // Its own entry is not in it.
        self.entries.pop();
        let manifest: Manifest = read(content).map_err(within("manifest.json"))?;
        let entries = std::mem::take(&mut self.entries);
        let (format, counts) = (FORMAT.to_owned(), self.counts);
        let found = Manifest { format, version: VERSION, counts, entries };
        if manifest != found {
            let odd = manifest.entries.iter().zip(&found.entries).find(|(says, is)| says != is);
            let place = odd.map_or_else(String::new, |(_, is)| format!(": {}", is.name));
            let message = format!("its content is not what its manifest says{place}; {AGAIN}");
            return Err(refused(message));
        }
        let (name, signature) = self.take(&[("signature.json", SMALL_MAX)])?;
        let row: SignatureRow = read(&signature).map_err(within(&name))?;
        let by = row.signer(content);
        let by = by.ok_or_else(|| refused("its signature is not one of its manifest"))?;
        self.signed = Some(Signed { by, counts: self.counts });
        self.nothing_follows()?;
        self.next = Next::End;
        Ok(())
    }

    /// Fails unless the tar ends here, and the compression, and the file.
    fn nothing_follows(&mut self) -> Result<()> {
        let mut end = [0; tar::END];
        self.fill(&mut end)?;
        if end.iter().any(|byte| *byte != 0) {
            return Err(refused("something follows its last entry"));
        }
        // Also has the sum of the compression compared.
        let at_end = |why| unread(why, "at its end");
        let more = self.gzip.read(&mut [0]).map_err(at_end)?;
        let is_over = self.gzip.get_mut().fill_buf().map_err(at_end)?.is_empty();
        if more == 0 && is_over { Ok(()) } else { Err(refused("something follows its end")) }
    }

    /// Reads one of the entries that may come next, each with how large it may be.
    fn take(&mut self, expected: &[(&str, u64)]) -> Result<(String, Vec<u8>)> {
        let mut header = [0; tar::BLOCK];
        self.fill(&mut header)?;
        let size = tar::size(&header);
        let is_next = |name: &str| size.and_then(|size| tar::header(name, size)) == Some(header);
        let found = expected.iter().find(|(name, _)| is_next(name));
        let (Some((name, most)), Some(size)) = (found, size) else {
            let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
            let names = names.join(" or ");
            let message = format!("another entry comes where it must have {names}; {AGAIN}");
            return Err(refused(message));
        };
        if size > *most {
            let message = format!("archive, {name}: {size} bytes, at most {most} are allowed");
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        self.spend(size)?;
        let mut content = Vec::new();
        // It grows with what really comes, whatever the header says.
        let read = (&mut self.gzip).take(size).read_to_end(&mut content);
        let read = read.map_err(|why| unread(why, &format!("in {name}")))?;
        if read as u64 != size {
            return Err(refused(format!("it is cut off in {name}; {AGAIN}")));
        }
        let mut zeros = [0; tar::BLOCK];
        let zeros = &mut zeros[..tar::padding(size)];
        self.fill(zeros)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(refused(format!("something is behind {name}")));
        }
        let blake3 = blake3::hash(&content).to_hex().to_string();
        let name = (*name).to_owned();
        // And the manifest and the signature.
        if self.entries.len() >= ENTRIES_MAX + 2 {
            return Err(refused(format!("it has more than {ENTRIES_MAX} parts")));
        }
        self.entries.push(EntryRow { name: name.clone(), bytes: size, blake3 });
        Ok((name, content))
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.spend(bytes.len() as u64)?;
        self.gzip.read_exact(bytes).map_err(|why| unread(why, &self.place()))
    }

    /// Behind which entry something comes.
    fn place(&self) -> String {
        match self.entries.last() {
            Some(last) => format!("behind {}", last.name),
            None if self.next == Next::Format => BEGIN.to_owned(),
            // The entries are compared with it, and no more kept.
            None => "behind manifest.json".to_owned(),
        }
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            let message = format!(
                "archive: more than {} bytes once it is opened, which is as many as are allowed",
                self.bytes_max
            );
            Error::new(ErrorKind::TooLarge, message)
        })?;
        Ok(())
    }
}

/// The lines of an entry, each ended.
fn lines(content: &[u8]) -> Result<impl Iterator<Item = &[u8]>> {
    if content.last().is_some_and(|last| *last != b'\n') {
        return Err(Error::invalid("its last line does not end"));
    }
    let lines = content.strip_suffix(b"\n").map(|lines| lines.split(|byte| *byte == b'\n'));
    Ok(lines.into_iter().flatten())
}

fn check_tenant(row: &TenantRow) -> Result<()> {
    // Only what it has of a tenant is looked at.
    let mut spec = TenantSpec::new(TenantName::parse("archive")?);
    spec.weight = row.weight.unwrap_or(spec.weight);
    spec.settings = row.settings.clone().unwrap_or_default();
    validate::tenant_spec(&spec)
}

/// A record's vectors are as long as its collection says, which says it if there is one.
fn check_dimensions(record: &RecordWrite, info: &CollectionInfo) -> Result<()> {
    let unnamed = record.vector.iter().map(|vector| (None, vector));
    let named = record.vectors.iter().map(|(name, vector)| (Some(name), vector));
    for (name, vector) in unnamed.chain(named) {
        let wants = info.vector(name)?.spec.dimension;
        if wants.is_none_or(|wants| wants as usize != vector.len()) {
            let name = name.map_or_else(String::new, |name: &VectorName| format!(" {name:?}"));
            let (id, got) = (&record.id, vector.len());
            return Err(Error::invalid(format!(
                "the vector{name} of record {id:?} has {got} components, the collection says {}",
                wants.map_or_else(|| "nothing".to_owned(), |wants| wants.to_string())
            )));
        }
    }
    Ok(())
}

/// A collection that is made so, for checks of its records.
fn as_stored(spec: &CollectionSpec) -> CollectionInfo {
    let vectors: BTreeMap<_, _> = spec
        .vectors
        .iter()
        .zip(1_u16..)
        .map(|((name, spec), number)| (name.clone(), VectorInfo { number, spec: *spec }))
        .collect();
    CollectionInfo {
        database: DatabaseNumber(1),
        number: CollectionNumber(1),
        id: CollectionId([0; 16]),
        name: spec.name.clone(),
        metric: spec.metric,
        dimension: spec.dimension,
        storage: spec.storage,
        last_vector: u16::try_from(vectors.len()).unwrap_or(u16::MAX),
        vectors,
        metadata: None,
        attributes: BTreeMap::new(),
        created_at: Timestamp(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_no_tenant_has_is_refused_before_it_is_read() {
        let long = "\\\"".repeat(TEXT_MAX / 2 + 1);
        let length = format!("a text of {} bytes", long.len());
        for bad in [
            format!("{{\"{long}\":1}}"),
            format!("{{\"id\":\"{long}\"}}"),
            format!("{{\"x\":\"document\",\"{long}\":1}}"),
            format!("{{\"metadata\":{{\"document\":\"{long}\"}}}}"),
            format!("{{\"id\":\"{long}"),
        ] {
            let error = read::<RecordRow>(bad.as_bytes()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.to_string().starts_with(&length), "{error}");
        }
        let record = format!("{{\"id\":\"r\", \"document\" : \"{long}\"}}");
        assert!(read::<RecordRow>(record.as_bytes()).is_ok());
    }

    #[test]
    fn a_refusal_quotes_no_more_than_a_line() {
        for bad in [
            format!("{{\"{}\":1}}", "\u{7f}".repeat(100_000)),
            format!("{{\"id\":\"r\",\"metadata\":\"{}\"}}", "ä".repeat(100_000)),
        ] {
            let message = read::<RecordRow>(bad.as_bytes()).err().unwrap().to_string();
            assert!(message.chars().count() < QUOTED_MAX + 100, "{} bytes", message.len());
            assert!(message.contains('…') && message.ends_with(AGAIN), "{message}");
        }
    }
}
