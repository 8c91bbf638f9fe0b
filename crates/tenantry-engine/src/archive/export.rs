//! Writing a tenant's archive, and sending it while it is written.

use super::{
    Payer, Sending, Turns, blocking,
    pace::Pace,
    permit,
    room::{self, Room},
    walk::{Sink, walk},
    wire::TenantRow,
    write::Writer,
};
use crate::{Session, engine::Inner};
use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tenantry_auth::Admin;
use tenantry_store::{
    ArchiveKey, AuditEvent, AuditOutcome, CollectionInfo, DatabaseInfo, Snapshot,
};
use tenantry_types::{DatabaseName, Error, ErrorKind, Record, Result, TenantName};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::JoinHandle,
};
use tracing::Instrument as _;

/// Bytes that are sent at once.
const PART: usize = 128 << 10;
/// Parts on their way to whoever takes them.
const PARTS: usize = 4;

/// An archive on its way. Whoever drops it ends the work on it, and so does whoever takes it too
/// slowly ([`super::ArchiveConfig::wait_max`]).
#[derive(Debug)]
pub struct Export {
    name: TenantName,
    parts: mpsc::Receiver<Result<Vec<u8>>>,
    is_cut: Arc<AtomicBool>,
}

impl Export {
    /// What the tenant was called when it was read.
    pub fn name(&self) -> &TenantName {
        &self.name
    }

    /// The next bytes; none at the end. After an error there is no valid archive.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        self.parts.recv().await.or_else(|| self.cut())
    }

    /// [`Export::next`] for whoever is asked himself.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>>>> {
        self.parts.poll_recv(context).map(|next| next.or_else(|| self.cut()))
    }

    /// What follows the last part of an archive that was not sent to its end: there was no room to
    /// say it in.
    fn cut(&self) -> Option<Result<Vec<u8>>> {
        let why = || Error::new(ErrorKind::Unavailable, "the archive was taken too slowly");
        self.is_cut.swap(false, Ordering::AcqRel).then(|| Err(why()))
    }
}

/// Whoever takes an archive, as seen from here.
struct Taker {
    parts: mpsc::Sender<Result<Vec<u8>>>,
    pace: Pace,
    is_cut: Arc<AtomicBool>,
}

impl Taker {
    /// Gives him the next part; false if he is gone, or too slow.
    async fn give(&mut self, part: Result<Vec<u8>>) -> bool {
        let bytes = part.as_ref().map_or(0, Vec::len);
        let Some(given) = self.pace.wait(self.parts.send(part)).await else {
            tracing::warn!("an archive is not sent to its end: it is taken too slowly");
            self.is_cut.store(true, Ordering::Release);
            return false;
        };
        self.pace.earn(bytes as u64);
        given.is_ok()
    }
}

impl Session<Admin> {
    /// All that the tenant has, as it is now, as an archive. Its log says so before anything is
    /// read.
    ///
    /// [`ErrorKind::Denied`] for a key that is limited in any way.
    pub async fn export(&self) -> Result<Export> {
        // Before anything is taken that others need, too.
        self.check_export()?;
        let (inner, name) = (&self.inner, self.tenant().name.clone());
        let is_operator = self.scope.standing().is_operator();
        let sent = inner.archives.send(self.scope.tenant(), is_operator)?;
        let writing = permit(&inner.archives.written).await?;
        // Without room for it nothing is read, and nothing said.
        let file = inner.archives.file(room::STEP).await?;
        let snapshot = self.snapshot("tenant.export").await?;
        let key = inner.archive_key().await?;
        let row = TenantRow::of(snapshot.info(), self.scope.standing().may_manage());
        let read = file.try_clone().map_err(unreadable)?;
        let (parts, receiver) = mpsc::channel(PARTS);
        let (progress, written) = watch::channel(0);
        let (inner, bytes_max) = (Arc::clone(inner), inner.archives.config.bytes_max);
        let is_cut = Arc::new(AtomicBool::new(false));
        let taker = Taker { parts, pace: inner.archives.pace(), is_cut: Arc::clone(&is_cut) };
        let file = Counted { file, bytes: 0, room: inner.archives.room(), looked: 0 };
        let writer = Writer::new(file, bytes_max);
        let work = write(inner, snapshot, (row, writer), key, (progress, writing));
        let work = tokio::spawn(work.in_current_span());
        tokio::spawn(send(read, written, work, taker, sent).in_current_span());
        Ok(Export { name, parts: receiver, is_cut })
    }

    /// Fails if this session's key may not [`Session::export`].
    pub fn check_export(&self) -> Result<()> {
        if self.scope.restriction().is_none() {
            return Ok(());
        }
        let refused = Err(Error::denied("a limited key or token cannot read all of a tenant"));
        self.inner.watched(&self.scope, "tenant.export", self.tenant().name.as_str(), refused)
    }

    /// All that the tenant has, for whoever notes `action` in its log.
    pub(super) async fn snapshot(&self, action: &str) -> Result<Snapshot> {
        let (inner, scope) = (&self.inner, &self.scope);
        let name = self.tenant().name.as_str();
        // The right is looked at here.
        let snapshot = inner.watched(scope, action, name, inner.store.snapshot(scope).await)?;
        let event = AuditEvent {
            actor: scope.actor().to_owned(),
            action: action.to_owned(),
            target: name.to_owned(),
            outcome: AuditOutcome::Done,
            count: 1,
        };
        let note = event.by(scope.author());
        let system = inner.authority.system("a tenant is exported or copied");
        inner.store.append_audit(&system, vec![(scope.tenant(), note)]).await?;
        Ok(snapshot)
    }
}

fn unreadable(why: io::Error) -> Error {
    Error::internal("read an archive that is being written").with_source(why)
}

/// A file that knows how much was written to it, and grows while its disk has room.
struct Counted {
    file: File,
    bytes: u64,
    room: Room,
    /// How large it was when the disk was looked at.
    looked: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes - self.looked >= room::STEP {
            let full = |why: Error| io::Error::new(io::ErrorKind::StorageFull, why.to_string());
            self.room.look(room::STEP).map_err(full)?;
            self.looked = self.bytes;
        }
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

type ArchiveWriter = Writer<Counted>;

/// A writer that works beside the threads that serve requests, in its tenant's turns.
struct Work {
    writer: Option<ArchiveWriter>,
    payer: Payer,
    progress: watch::Sender<u64>,
}

impl Work {
    async fn step(
        &mut self,
        work: impl FnOnce(&mut ArchiveWriter, &mut dyn FnMut()) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        if self.progress.is_closed() {
            let message = "whoever asked for the archive is gone";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let lost = || Error::internal("an archive goes on that has failed");
        let mut writer = self.writer.take().ok_or_else(lost)?;
        let payer = self.payer.clone();
        let writer = blocking(move || {
            let mut turns = Turns::new(payer);
            work(&mut writer, &mut || turns.pause())?;
            Ok(writer)
        });
        let writer = writer.await?;
        self.progress.send_replace(writer.target().bytes);
        self.writer = Some(writer);
        Ok(())
    }
}

impl Sink for Work {
    async fn databases(&mut self, all: Vec<DatabaseInfo>) -> Result<()> {
        self.step(move |writer, _| writer.databases(&all)).await
    }

    async fn collection(&mut self, info: &CollectionInfo, database: &DatabaseName) -> Result<()> {
        let (info, database) = (info.clone(), database.clone());
        self.step(move |writer, _| writer.collection(&info, &database)).await
    }

    async fn records(&mut self, records: Vec<Record>) -> Result<()> {
        self.step(move |writer, pause| {
            for record in &records {
                writer.record(record)?;
                pause();
            }
            Ok(())
        })
        .await
    }
}

/// Writes all of an archive.
async fn write(
    inner: Arc<Inner>,
    snapshot: Snapshot,
    (row, writer): (TenantRow, ArchiveWriter),
    key: ArchiveKey,
    (progress, _writing): (watch::Sender<u64>, OwnedSemaphorePermit),
) -> Result<()> {
    let info = snapshot.info();
    let has = inner.store.allowance(info.id).await?;
    let (tenant, weight) = (info.id, has.map_or(info.weight, |has| has.weight).into());
    let payer = Payer { pool: inner.store.pool().clone(), tenant, weight };
    let mut work = Work { writer: Some(writer), payer, progress };
    work.step(move |writer, _| writer.begin(&row)).await?;
    walk(snapshot, &mut work).await?;
    let lost = || Error::internal("an archive ends that has failed");
    let writer = work.writer.take().ok_or_else(lost)?;
    let written = blocking(move || {
        let (file, _) = writer.finish(&key)?;
        Ok(file.bytes)
    });
    work.progress.send_replace(written.await?);
    Ok(())
}

/// Sends what is written of an archive, until all is.
async fn send(
    file: File,
    mut written: watch::Receiver<u64>,
    work: JoinHandle<Result<()>>,
    mut taker: Taker,
    _sent: Sending,
) {
    let file = Arc::new(file);
    let mut at = 0;
    loop {
        // Before what is written is asked for: at its end all of it is.
        let is_over = written.has_changed().is_err();
        let end = *written.borrow_and_update();
        while at < end {
            let part = usize::try_from(end - at).map_or(PART, |left| left.min(PART));
            let of = Arc::clone(&file);
            let read = blocking(move || {
                let mut bytes = vec![0; part];
                of.read_exact_at(&mut bytes, at).map_err(unreadable)?;
                Ok(bytes)
            });
            let read = read.await;
            let is_wrong = read.is_err();
            // Whoever takes them may be gone: then the work ends, which looks for that.
            if !taker.give(read).await || is_wrong {
                return;
            }
            at += part as u64;
        }
        if is_over {
            break;
        }
        tokio::select! {
            _ = written.changed() => {}
            () = taker.parts.closed() => return,
        }
    }
    let outcome = match work.await {
        Ok(outcome) => outcome,
        Err(why) => Err(Error::internal("the work on an archive was aborted").with_source(why)),
    };
    if let Err(error) = outcome {
        tracing::warn!(?error, "export a tenant");
        taker.give(Err(error)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_grows_only_while_its_disk_has_room() {
        let file = tempfile::tempfile().unwrap();
        // More than any disk has.
        let room = Room { folder: std::env::temp_dir(), free_min: u64::MAX };
        let mut file = Counted { file, bytes: 0, room, looked: 0 };
        file.write_all(&vec![0; usize::try_from(room::STEP).unwrap()]).unwrap();
        let refused = file.write_all(&[0]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.bytes, room::STEP);
    }
}
