//! Taking an archive that somebody sends, and checking all of it.

use super::{
    Counts, Payer, Turns, blocking,
    pace::Pace,
    read::{Item, Reader, Signed},
    room::Room,
    wire::TenantRow,
};
use crate::engine::Inner;
use std::{
    fs::File,
    io::{BufReader, Seek as _, Write as _},
    path::Path,
    sync::{Arc, Weak},
};
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_store::{AuditEvent, AuditOutcome, PublicKey};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of a body that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// What an archive says of itself, when all of it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// BLAKE3 of the whole file.
    pub hash: [u8; 32],
    /// Who has signed it.
    pub signed_by: PublicKey,
    /// What is in it.
    pub counts: Counts,
    /// Whether an operator's key exported it, so that the tenant's weight and settings are in it.
    pub is_operators: bool,
}

/// What an archive must be besides right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// Another installation whose archives are taken, beside those of this one.
    pub trusted: Option<PublicKey>,
    /// BLAKE3 of the file, if only that one is meant.
    pub hash: Option<[u8; 32]>,
}

/// Has refusals in the operator's log. What the server cannot do now, or fails at, is none.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) inner: Arc<Inner>,
    pub(super) by: OperatorScope,
    pub(super) action: &'static str,
    pub(super) target: String,
}

impl Notes {
    pub(super) fn watch<T>(&self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome {
            match error.kind() {
                ErrorKind::Unavailable
                | ErrorKind::Busy
                | ErrorKind::Internal
                | ErrorKind::Corrupt => {}
                kind => {
                    let event = AuditEvent {
                        actor: self.by.actor().to_owned(),
                        action: self.action.to_owned(),
                        target: self.target.clone(),
                        outcome: AuditOutcome::Refused(kind),
                        count: 1,
                    };
                    // A key that is cut off names nobody, however long the tenant's name is.
                    let note = event.by(self.by.author());
                    self.inner.denials.add(TenantId::INSTALLATION, note);
                }
            }
        }
        outcome
    }
}

/// An archive that is coming.
#[derive(Debug)]
pub struct Intake {
    notes: Notes,
    scope: OperatorScope,
    inner: Arc<Inner>,
    file: Option<File>,
    room: Room,
    pace: Pace,
    hash: blake3::Hasher,
    buffer: Vec<u8>,
    bytes: u64,
    /// Shared with the thread at work, which may go on for a while after this was dropped.
    permit: Arc<OwnedSemaphorePermit>,
}

/// An archive in which everything is right.
#[derive(Debug)]
pub struct Checked {
    pub(super) file: File,
    pub(super) row: TenantRow,
    pub(super) summary: Summary,
    /// Whoever has signed it, if that is another installation.
    pub(super) stranger: Option<PublicKey>,
    pub(super) permit: Arc<OwnedSemaphorePermit>,
}

impl Checked {
    /// What is in it.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Intake {
    /// Takes an archive into a file.
    pub(super) fn new(
        notes: Notes,
        scope: OperatorScope,
        file: File,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let inner = Arc::clone(&notes.inner);
        let (room, pace) = (inner.archives.room(), inner.archives.pace());
        let (hash, buffer, permit) = (blake3::Hasher::new(), Vec::new(), Arc::new(permit));
        Self { notes, scope, inner, file: Some(file), room, pace, hash, buffer, bytes: 0, permit }
    }

    /// Waits for whoever sends it, but not longer than he may take.
    pub async fn wait<T>(&mut self, part: impl Future<Output = T>) -> Result<T> {
        let came = self.pace.wait(part).await;
        self.notes.watch(came.ok_or_else(|| Error::invalid("archive: it comes too slowly")))
    }

    /// Takes the next bytes.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.pace.earn(bytes.len() as u64);
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        self.notes.watch(self.inner.archives.may_have(self.bytes))?;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITTEN_AT_ONCE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        // An archive may come for days.
        self.inner.store.operator_stands(&self.scope).await?;
        let lost = || Error::internal("an archive goes on that could not be kept");
        let mut file = self.file.take().ok_or_else(lost)?;
        let (buffer, mut hash) = (std::mem::take(&mut self.buffer), self.hash.clone());
        let (room, permit) = (self.room.clone(), Arc::clone(&self.permit));
        let written = blocking(move || {
            let _permit = permit;
            room.look(buffer.len() as u64)?;
            hash.update(&buffer);
            file.write_all(&buffer).map_err(|why| {
                let message = format!("an archive cannot be kept: {why}");
                Error::new(ErrorKind::Unavailable, message)
            })?;
            Ok((file, hash))
        });
        let (file, hash) = written.await?;
        (self.file, self.hash) = (Some(file), hash);
        Ok(())
    }

    /// Checks all of it. It must be signed by this installation, or by the one that is trusted.
    pub async fn check(mut self, terms: Terms) -> Result<Checked> {
        self.flush().await?;
        let lost = || Error::internal("an archive is checked that could not be kept");
        let file = self.file.take().ok_or_else(lost)?;
        let own = self.inner.archive_key().await?.public()?;
        let hash = *self.hash.finalize().as_bytes();
        self.notes.target = format!("{}: archive {}", self.notes.target, hex(&hash));
        // Before anything of it is looked at.
        let is_meant = terms.hash.is_none_or(|meant| meant == hash);
        self.notes.watch(is_meant.then_some(()).ok_or_else(|| {
            Error::invalid(format!("archive: it is another one than is meant: {}", hex(&hash)))
        }))?;
        let found = self.read(file).await;
        let (file, (row, signed)) = self.notes.watch(found)?;
        let is_own = signed.by == own;
        if !is_own {
            self.notes.target = format!("{}, signed by {}", self.notes.target, hex(&signed.by));
        }
        let is_taken = is_own || terms.trusted == Some(signed.by);
        self.notes.watch(is_taken.then_some(()).ok_or_else(|| stranger(&signed.by)))?;
        let is_operators = row.weight.is_some();
        let summary = Summary { hash, signed_by: signed.by, counts: signed.counts, is_operators };
        let stranger = (!is_own).then_some(signed.by);
        Ok(Checked { file, row, summary, stranger, permit: self.permit })
    }

    /// Reads all of what has come.
    async fn read(&self, mut file: File) -> Result<(File, (TenantRow, Signed))> {
        let most = self.inner.archives.config.bytes_max;
        let payer = Payer {
            pool: self.inner.store.pool().clone(),
            tenant: TenantId::INSTALLATION,
            weight: 100,
        };
        // Whoever goes away does not leave a thread at work.
        let waits = Arc::new(());
        let (is_waited_for, permit) = (Arc::downgrade(&waits), Arc::clone(&self.permit));
        let checked = blocking(move || {
            let _permit = permit;
            let found = check_file(&mut file, most, Some(&payer), &is_waited_for)?;
            Ok((file, found))
        });
        let checked = checked.await;
        drop(waits);
        checked
    }
}

/// The refusal of what another installation has signed.
fn stranger(by: &PublicKey) -> Error {
    Error::invalid(format!(
        "archive: it is signed by another installation; whoever trusts that one says so with its \
         public key (`trust`, on the command line --trust), which is {}",
        hex(by)
    ))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Reads all of an archive, and keeps nothing of it but what the tenant is.
fn check_file(
    file: &mut File,
    bytes_max: u64,
    payer: Option<&Payer>,
    is_waited_for: &Weak<()>,
) -> Result<(TenantRow, Signed)> {
    let unreadable = |why| Error::internal("read an archive").with_source(why);
    file.rewind().map_err(unreadable)?;
    let mut reader = Reader::new(BufReader::with_capacity(64 << 10, &mut *file), bytes_max)?;
    let mut turns = payer.cloned().map(Turns::new);
    let mut row = None;
    while let Some(item) = reader.next()? {
        if is_waited_for.strong_count() == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "nobody waits for it any more"));
        }
        if let Item::Tenant(tenant) = item {
            row = Some(tenant);
        }
        if let Some(turns) = &mut turns {
            turns.pause();
        }
    }
    let signed = reader.signed()?.clone();
    let row = row.ok_or_else(|| Error::invalid("archive: it has no tenant"))?;
    Ok((row, signed))
}

/// Checks an archive in a file, and says what is in it, whoever has signed it. Needs no
/// installation.
pub fn inspect(path: &Path, bytes_max: u64) -> Result<Summary> {
    let failed =
        |why| Error::invalid(format!("{} cannot be read", path.display())).with_source(why);
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = blake3::Hasher::new();
    hash.update_reader(&file).map_err(failed)?;
    let waits = Arc::new(());
    let (row, signed) = check_file(&mut file, bytes_max, None, &Arc::downgrade(&waits))?;
    Ok(Summary {
        hash: *hash.finalize().as_bytes(),
        signed_by: signed.by,
        counts: signed.counts,
        is_operators: row.weight.is_some(),
    })
}
