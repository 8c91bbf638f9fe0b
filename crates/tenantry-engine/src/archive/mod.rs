//! Archives of tenants: written from one view of a tenant, read into a new one, and copies, which
//! are the same without an archive in between.
//!
//! `docs/formats/archive.md` describes what is written. Nothing is ever unpacked: an archive is read
//! as the one sequence of entries that it can be (`read.rs`), and made into writes of the ordinary
//! handles.

mod export;
mod fill;
mod import;
mod intake;
mod list;
mod pace;
mod read;
mod room;
mod tar;
mod walk;
mod wire;
mod write;

pub use export::Export;
pub use import::{Importer, NewTenant};
pub use intake::{Checked, Intake, Summary, Terms, inspect};
pub use list::{ListSignature, signed_list};
pub use wire::Counts;

use crate::engine::Inner;
use pace::Pace;
use parking_lot::Mutex;
use room::Room;
use std::{
    collections::HashSet,
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_store::{ArchiveKey, Class, Pool, Turn};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Archives that are written at once, each from a view that is held meanwhile; as many as the store
/// has connections for.
const WRITTEN_AT_ONCE: usize = 2;
/// Archives that are there at once, because somebody reads them slowly.
const SENT_AT_ONCE: usize = 16;
/// Archives that are read at once, from the first byte of the body on, and copies.
const READ_AT_ONCE: usize = 2;
/// How long somebody waits for one of these to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long work waits for its turn before it goes on without one: what it holds is not to be held
/// for long.
const TURN_PATIENCE: Duration = Duration::from_secs(4);
/// After a piece of work others have the disk for as long as it took, and no longer than this.
const BREATH_MAX: Duration = Duration::from_millis(50);

/// Where archives are while they are written and read, and how large one may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveConfig {
    /// A folder, for files without a name.
    pub folder: PathBuf,
    /// Bytes of an archive, compressed or not.
    pub bytes_max: u64,
    /// Bytes that are left free on that folder's disk: what would take some of them is refused. 0
    /// does not look.
    pub free_min: u64,
    /// How long somebody may be waited for who takes or sends an archive. 64 KiB earn him another
    /// second of it, and he never has more.
    pub wait_max: Duration,
}

impl Default for ArchiveConfig {
    /// The system's folder for such files, 64 GiB, 256 MiB, one minute.
    fn default() -> Self {
        Self {
            folder: std::env::temp_dir(),
            bytes_max: 64 << 30,
            free_min: 256 << 20,
            wait_max: Duration::from_secs(60),
        }
    }
}

/// What an engine has for archives.
#[derive(Debug)]
pub(crate) struct Archives {
    config: ArchiveConfig,
    written: Arc<Semaphore>,
    sent: Arc<Semaphore>,
    read: Arc<Semaphore>,
    sending: Arc<Mutex<HashSet<(TenantId, bool)>>>,
}

/// One of what is being sent at once, of which a tenant has one, and the operator one of the same
/// tenant.
#[derive(Debug)]
struct Sending {
    all: Arc<Mutex<HashSet<(TenantId, bool)>>>,
    whose: (TenantId, bool),
    _permit: OwnedSemaphorePermit,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.all.lock().remove(&self.whose);
    }
}

impl Archives {
    pub(crate) fn new(config: ArchiveConfig) -> Self {
        let some = |count| Arc::new(Semaphore::new(count));
        let (written, sent) = (some(WRITTEN_AT_ONCE), some(SENT_AT_ONCE));
        Self { config, written, sent, read: some(READ_AT_ONCE), sending: Arc::default() }
    }

    /// The right to have an archive on its way: whoever reads slowly has no other one meanwhile.
    fn send(&self, tenant: TenantId, by_operator: bool) -> Result<Sending> {
        let busy =
            |why: &str| Error::new(ErrorKind::Unavailable, format!("{why}; try again later"));
        let permit = Arc::clone(&self.sent).try_acquire_owned();
        let permit = permit.map_err(|_| busy("too many archives are being sent at this moment"))?;
        let (all, whose) = (Arc::clone(&self.sending), (tenant, by_operator));
        if !all.lock().insert(whose) {
            return Err(busy("an archive of this tenant is being sent already"));
        }
        Ok(Sending { all, whose, _permit: permit })
    }

    /// A file that is gone when it is closed, whatever happens; fails if there is no room for so
    /// many bytes.
    async fn file(&self, bytes: u64) -> Result<File> {
        let room = self.room();
        let made = blocking(move || {
            room.look(bytes)?;
            tempfile::tempfile_in(&room.folder).map_err(|why| room.no_file(&why))
        });
        made.await
    }

    /// Fails if an archive that comes has more bytes than one may have.
    fn may_have(&self, bytes: u64) -> Result<()> {
        let most = self.config.bytes_max;
        if bytes <= most {
            return Ok(());
        }
        let message = format!("archive: at most {most} bytes are allowed");
        Err(Error::new(ErrorKind::TooLarge, message))
    }

    fn room(&self) -> Room {
        Room { folder: self.config.folder.clone(), free_min: self.config.free_min }
    }

    /// The pace of somebody who takes or sends an archive from now on.
    fn pace(&self) -> Pace {
        Pace::new(self.config.wait_max)
    }
}

impl Inner {
    /// What signs this installation's archives.
    async fn archive_key(&self) -> Result<ArchiveKey> {
        self.store.archive_key(&self.authority.system("archives are signed and checked")).await
    }
}

async fn permit(of: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    match tokio::time::timeout(PATIENCE, Arc::clone(of).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(why)) => Err(Error::internal("permits are closed").with_source(why)),
        Err(_) => {
            let message = "too many archives are being written or read at this moment; try again";
            Err(Error::new(ErrorKind::Unavailable, message))
        }
    }
}

/// Work that blocks, beside the threads that serve requests.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let aborted = |why| Err(Error::internal("work was aborted").with_source(why));
    let span = tracing::Span::current();
    let work = move || span.in_scope(work);
    tokio::task::spawn_blocking(work).await.unwrap_or_else(aborted)
}

/// In whose turns something is computed.
#[derive(Debug, Clone)]
struct Payer {
    pool: Pool,
    tenant: TenantId,
    weight: u32,
}

impl Payer {
    /// A turn in the background, for a thread that may block; none if none is to be had for long.
    fn turn(&self) -> Option<Turn> {
        let begun = Instant::now();
        while let Some(left) = TURN_PATIENCE.checked_sub(begun.elapsed()) {
            match self.pool.turn_within((self.tenant, self.weight, Class::Background), left) {
                Ok(mut turn) => {
                    // Archives cost nothing.
                    if let Some(turn) = &mut turn {
                        turn.bill(TenantId::INSTALLATION);
                    }
                    return turn;
                }
                Err(_) => std::thread::sleep(BREATH_MAX),
            }
        }
        None
    }
}

/// The turns of a thread that may block. It goes on without one while none is to be had: what it holds,
/// a view of a tenant or one of few permits, is not to be held for ever because others hold their places.
struct Turns {
    payer: Payer,
    turn: Option<Turn>,
    asked: Instant,
}

impl Turns {
    fn new(payer: Payer) -> Self {
        let turn = payer.turn();
        Self { payer, turn, asked: Instant::now() }
    }

    /// Between two slices of work.
    fn pause(&mut self) {
        if let Some(turn) = &mut self.turn {
            if turn.pause_within(TURN_PATIENCE) {
                return;
            }
            self.turn = None;
        } else if self.asked.elapsed() < TURN_PATIENCE {
            return;
        } else {
            self.turn = self.payer.turn();
        }
        self.asked = Instant::now();
    }
}

/// Leaves the disk to others for a moment.
async fn breathe(since: Instant) {
    tokio::time::sleep(since.elapsed().min(BREATH_MAX)).await;
}
