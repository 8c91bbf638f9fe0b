//! A fjall database behind the one thread that writes to it. The root is one; tenants that live
//! apart have others ([`super::homes`]).
//!
//! Group commit: writers hand in a [`WriteSet`] and wait; one thread takes all that have arrived,
//! writes them as one atomic batch, synchronises once, and only then answers each of them. Reads
//! never see a batch before it is synchronised, because fjall applies it afterwards.
//!
//! An error while writing poisons fjall. The store is then read-only; the same thread tries once
//! a second, a home's less often if that was of no use, whether the disk takes writes again and
//! reopens the database if it does. Whether a
//! commit that failed is on disk is then decided by the journal, so everything in memory that was
//! read before belongs to an older *generation*: it is forgotten, and write sets that were made
//! from it are refused. All databases of a store have one generation, so that this is simple and
//! seldom: each time one of them comes back, some writes to others are refused once.

use super::{
    WriteSet, journal,
    opened::{Db, Kind, Layout, Opened, data_index, panic_text},
    slots::SlotFile,
};
use crate::Health;
use fjall::PersistMode;
use parking_lot::{Mutex, RwLock};
use std::{
    fs::File,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// Write sets that one synchronisation may serve, and their bytes.
const GROUP_SETS_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 64 << 20;
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// A database that takes writes for so long is well again.
const STEADY: Duration = Duration::from_secs(60);
/// What must be writable before the database is opened again.
const PROBE_BYTES: usize = 4 << 20;
/// How long whoever reads may go on before the database is closed under a reopening.
const PATIENCE: Duration = Duration::from_secs(2);

struct Request {
    set: WriteSet,
    answer: oneshot::Sender<Result<()>>,
}

/// The database behind its writer thread.
#[derive(Debug)]
pub(crate) struct Disk {
    shared: Arc<Shared>,
    queue: Mutex<Option<Sender<Request>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// The generation of a store, and what is to be forgotten when it grows.
#[derive(Clone)]
pub(super) struct Generation {
    number: Arc<AtomicU64>,
    /// One at a time counts and forgets, so that what is forgotten last belongs to the newest.
    turn: Arc<Mutex<()>>,
    /// Called with the new generation when what is in memory may have become wrong.
    forget: Arc<dyn Fn(u64) + Send + Sync>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Generation({})", self.get())
    }
}

impl Generation {
    pub(super) fn new(forget: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { number: Arc::default(), turn: Arc::default(), forget: Arc::new(forget) }
    }

    fn get(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// To be called while nobody can read the database whose commit's fate is unknown.
    fn next(&self) {
        let _turn = self.turn.lock();
        (self.forget)(self.number.fetch_add(1, Ordering::SeqCst) + 1);
    }
}

/// How a commit fails for a test.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not written.
    Lost,
    /// It is written, and nobody knows.
    Unknown,
}

#[cfg(test)]
type Faults = Mutex<Option<Box<dyn FnMut(&WriteSet) -> Option<Fault> + Send>>>;

struct Shared {
    #[cfg(test)]
    faults: Faults,
    layout: Layout,
    /// Written to by the root only.
    slots: Option<Arc<SlotFile>>,
    opened: RwLock<Option<Arc<Opened>>>,
    generation: Generation,
    read_only: Mutex<Option<String>>,
    /// The generation of the sets that are being written at this moment, or [`IDLE`].
    writing: AtomicU64,
    commits: AtomicU64,
    syncs: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({})", self.layout.folder.display())
    }
}

impl Disk {
    /// Opens a database, or makes it.
    pub(super) fn open(
        layout: Layout,
        slots: Option<Arc<SlotFile>>,
        generation: Generation,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            #[cfg(test)]
            faults: Mutex::default(),
            opened: RwLock::new(Some(Arc::new(Opened::open(&layout)?))),
            layout,
            slots,
            generation,
            read_only: Mutex::new(None),
            writing: AtomicU64::new(IDLE),
            commits: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        });
        let (queue, requests) = channel();
        let for_thread = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("tenantry-commit".into())
            .spawn(move || for_thread.run(&requests))
            .map_err(|why| Error::internal("start the commit thread").with_source(why))?;
        Ok(Self { shared, queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)) })
    }

    /// The database as it stands now, for reading the data of one of its keyspaces.
    pub(crate) async fn view(&self, index: usize) -> Result<Arc<Db>> {
        let begun = Instant::now();
        loop {
            match self.shared.view(index)? {
                Some(db) => return Ok(db),
                None if begun.elapsed() > PATIENCE => return Err(not_done()),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }

    /// The same for whoever can as well come again.
    pub(crate) fn db(&self, index: usize) -> Result<Arc<Db>> {
        self.shared.view(index)?.ok_or_else(not_done)
    }

    /// The generation of the store.
    pub(super) fn generation(&self) -> u64 {
        self.shared.generation.get()
    }

    /// Puts a write set in the queue; the receiver answers when it is durable. Sets are written
    /// in the order of these calls.
    pub(crate) fn submit(&self, set: WriteSet) -> oneshot::Receiver<Result<()>> {
        let (answer, receiver) = oneshot::channel();
        let queue = self.queue.lock();
        let sent = match queue.as_ref() {
            Some(queue) => queue.send(Request { set, answer }).map_err(|failed| failed.0),
            None => Err(Request { set, answer }),
        };
        if let Err(request) = sent {
            let _ = request.answer.send(Err(unavailable("the store is closing")));
        }
        receiver
    }

    /// Commits a write set; durable when this returns.
    pub(crate) fn commit(&self, set: WriteSet) -> impl Future<Output = Result<()>> + Send + use<> {
        let done = self.submit(set);
        async { done.await.unwrap_or_else(|_| Err(unavailable("the store is closing"))) }
    }

    /// [`Disk::commit`] for start-up, from a thread that may block.
    pub(crate) fn commit_blocking(&self, set: WriteSet) -> Result<()> {
        let mut receiver = self.submit(set);
        loop {
            match receiver.try_recv() {
                Ok(outcome) => return outcome,
                Err(oneshot::error::TryRecvError::Empty) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(oneshot::error::TryRecvError::Closed) => {
                    return Err(unavailable("the store is closing"));
                }
            }
        }
    }

    /// Says whether commits to a keyspace would not wait for fjall's background work now, where it may
    /// block.
    pub(super) fn calm(
        &self,
        index: usize,
        is_early: bool,
    ) -> impl FnOnce() -> Result<bool> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || {
            let is_calm = shared.opened()?.is_calm(index, is_early);
            is_calm.map_err(|why| unavailable(&format!("a table cannot be written out: {why:?}")))
        }
    }

    pub(crate) fn health(&self) -> Health {
        let why = self.shared.read_only.lock().clone();
        match why {
            Some(why) => Health::ReadOnly(why),
            None if self.shared.opened.read().is_none() => {
                Health::ReadOnly("the store is not open".into())
            }
            None => Health::Ready,
        }
    }

    /// Commits acknowledged and synchronisations done.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let shared = &self.shared;
        (shared.commits.load(Ordering::Relaxed), shared.syncs.load(Ordering::Relaxed))
    }

    /// True from the moment in which [`Disk::close`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.queue.lock().is_none()
    }

    /// Makes the store read-only as a failed write does.
    #[cfg(test)]
    pub(crate) fn fail_for_test(&self, why: &str) {
        *self.shared.read_only.lock() = Some(why.to_owned());
        // The commit thread looks when it gets something to do.
        let placement =
            crate::tenancy::place::Placement::shared(tenantry_auth::TenantId::INSTALLATION);
        drop(self.submit(WriteSet::new(placement, 0)));
    }

    /// Lets commits fail as `faults` says.
    #[cfg(test)]
    pub(crate) fn fail_when(
        &self,
        faults: impl FnMut(&WriteSet) -> Option<Fault> + Send + 'static,
    ) {
        *self.shared.faults.lock() = Some(Box::new(faults));
    }

    /// True if nobody reads it.
    pub(super) fn is_unread(&self) -> bool {
        self.shared.opened.read().as_ref().is_none_or(|opened| Arc::strong_count(opened) == 1)
    }

    /// Writes what is queued and closes the database.
    pub(crate) fn close(&self) {
        self.queue.lock().take();
        if let Some(writer) = self.writer.lock().take() {
            if writer.join().is_err() {
                tracing::error!("the commit thread panicked");
            }
            // What the next opening finds may not be what is in memory.
            if self.shared.read_only.lock().is_some() {
                self.shared.generation.next();
            }
        }
        if !self.shared.release(Duration::ZERO) {
            // The last reader closes it.
            self.shared.opened.write().take();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.close();
    }
}

/// See [`Shared::writing`].
const IDLE: u64 = u64::MAX;

impl Shared {
    /// The database as it stands now; none while sets of an earlier generation are being written:
    /// another database of the store may have begun a new one meanwhile, and whoever reads in it
    /// must see them.
    fn view(&self, index: usize) -> Result<Option<Arc<Db>>> {
        // Before the database is looked at: it may be of an older generation, not of a newer.
        let generation = self.generation.get();
        if self.writing.load(Ordering::SeqCst) < generation {
            return Ok(None);
        }
        let opened = self.opened()?;
        Ok(Some(Arc::new(Db::new(opened, index, generation))))
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        self.opened.read().clone().ok_or_else(|| unavailable("the store is not open"))
    }

    /// The commit thread's life: until every sender is gone and the queue is empty.
    fn run(&self, requests: &Receiver<Request>) {
        let mut tried = Instant::now();
        // A home that fails again soon after it came back makes all others forget each time.
        let (mut back, mut pause) = (None::<Instant>, RETRY_EVERY);
        loop {
            let was_ready = self.read_only.lock().is_none();
            let first = if was_ready {
                requests.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                requests.recv_timeout(pause.saturating_sub(tried.elapsed()))
            };
            // Also when requests keep coming: they must not keep the store from coming back.
            if !was_ready && tried.elapsed() >= pause {
                if self.try_reopen() {
                    back = Some(Instant::now());
                }
                tried = Instant::now();
            }
            match first {
                Ok(first) => self.write(gather(first, requests)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if was_ready {
                tried = Instant::now();
                if self.read_only.lock().is_some() {
                    let is_soon = back.is_some_and(|back| back.elapsed() < STEADY)
                        && self.layout.kind != Kind::Root;
                    pause = if is_soon { (2 * pause).min(STEADY) } else { RETRY_EVERY };
                }
            }
        }
    }

    fn write(&self, mut group: Vec<Request>) {
        let read_only = self.read_only.lock().clone();
        if let Some(why) = read_only {
            answer(group, &Err(read_only_error(&why)));
            return;
        }
        // Said before it is looked at, so that no reader of a newer one misses what is written.
        let mut generation = self.generation.get();
        loop {
            self.writing.store(generation, Ordering::SeqCst);
            let now = self.generation.get();
            if now == generation {
                break;
            }
            generation = now;
        }
        let stale = group.extract_if(.., |request| request.set.generation != generation).collect();
        answer(stale, &Err(unavailable("the store was reopened at this moment; try again")));
        if group.is_empty() {
            self.writing.store(IDLE, Ordering::SeqCst);
            return;
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| self.write_group(&mut group)))
            .unwrap_or_else(|panic| Err(unavailable(&panic_text(&*panic))));
        if let Err(error) = &outcome {
            tracing::error!(?error, "commit; the store is read-only until the disk takes writes");
            *self.read_only.lock() = Some(error.to_string());
        } else {
            self.commits.fetch_add(group.len() as u64, Ordering::Relaxed);
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        self.writing.store(IDLE, Ordering::SeqCst);
        answer(group, &outcome);
    }

    fn write_group(&self, group: &mut [Request]) -> Result<()> {
        let failed = |why| match why {
            fjall::Error::Poisoned => unavailable(
                "the database's background work failed, probably because the disk is full",
            ),
            fjall::Error::Io(why) => unavailable(&format!("the journal cannot be written: {why}")),
            why => unavailable(&format!("the journal cannot be written: {why:?}")),
        };
        #[cfg(test)]
        let fault = self.fault(group);
        #[cfg(test)]
        if fault == Some(Fault::Lost) {
            return Err(unavailable("as if the disk were full"));
        }
        let opened = self.opened()?;
        let mut indexes: Vec<usize> =
            group.iter().map(|request| data_index(request.set.placement)).collect();
        indexes.sort_unstable();
        indexes.dedup();
        opened.wait_for_room(&indexes).map_err(failed)?;
        if group.iter().any(|request| !request.set.slots.is_empty()) {
            let slots = self.slots.as_ref();
            let slots = slots.ok_or_else(|| Error::internal("a data key is in a wrong commit"))?;
            slots.write(group.iter().flat_map(|request| &request.set.slots))?;
        }
        let mut batch = opened.database.batch().durability(Some(PersistMode::SyncData));
        for request in group.iter_mut() {
            let index = data_index(request.set.placement);
            for (space, key, value) in request.set.operations.drain(..) {
                let keyspace = opened.keyspace(space, index)?;
                match value {
                    Some(value) => batch.insert(keyspace, key, value),
                    None => batch.remove(keyspace, key),
                }
            }
        }
        batch.commit().map_err(failed)?;
        #[cfg(test)]
        if fault == Some(Fault::Unknown) {
            return Err(unavailable("as if the answer were lost"));
        }
        Ok(())
    }

    #[cfg(test)]
    fn fault(&self, group: &[Request]) -> Option<Fault> {
        let mut faults = self.faults.lock();
        let faults = faults.as_mut()?;
        group.iter().find_map(|request| faults(&request.set))
    }

    /// Closes the database; false if somebody reads for longer than [`PATIENCE`]. For up to
    /// `polite` it waits for a moment in which nobody reads, then it lets no reader in.
    fn release(&self, polite: Duration) -> bool {
        let start = Instant::now();
        let mut taken = None;
        loop {
            let mut slot = self.opened.write();
            match taken.take().or_else(|| slot.take()).map(Arc::try_unwrap) {
                None => return true,
                Some(Ok(alone)) => {
                    drop(slot);
                    drop(alone);
                    return true;
                }
                Some(Err(read)) if start.elapsed() < polite => *slot = Some(read),
                Some(Err(read)) if start.elapsed() < polite + PATIENCE => taken = Some(read),
                Some(Err(read)) => {
                    *slot = Some(read);
                    return false;
                }
            }
            drop(slot);
            sleep(Duration::from_millis(5));
        }
    }

    /// Opens the database anew if the disk takes writes again.
    fn try_reopen(&self) -> bool {
        if let Err(why) = probe(&self.layout.folder) {
            tracing::debug!(%why, "the disk still takes no writes");
            return false;
        }
        if !self.release(PATIENCE) {
            return false;
        }
        let opened =
            journal::sync_again(&self.layout.folder).and_then(|()| Opened::open(&self.layout));
        match opened {
            Ok(opened) => {
                self.generation.next();
                *self.opened.write() = Some(Arc::new(opened));
                *self.read_only.lock() = None;
                tracing::info!("the disk takes writes again; the store was reopened");
                true
            }
            Err(error) => {
                tracing::error!(?error, "reopen the store");
                *self.read_only.lock() = Some(format!("the store cannot be reopened: {error}"));
                false
            }
        }
    }
}

/// What has arrived, within the bounds of one group.
fn gather(first: Request, requests: &Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.set.bytes();
    let mut group = vec![first];
    while group.len() < GROUP_SETS_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(next) = requests.try_recv() else { break };
        bytes += next.set.bytes();
        group.push(next);
    }
    group
}

fn answer(group: Vec<Request>, outcome: &Result<()>) {
    for request in group {
        let one = match outcome {
            Ok(()) => Ok(()),
            Err(error) => Err(Error::new(error.kind(), error.to_string())),
        };
        // A receiver that is gone has nobody to tell; the commit stands.
        let _ = request.answer.send(one);
    }
}

fn probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join("probe.tmp");
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(&vec![0; PROBE_BYTES])?;
        file.sync_data()
    });
    std::fs::remove_file(&path).and(written)
}

fn unavailable(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, why)
}

fn not_done() -> Error {
    unavailable("a write that began earlier is not done yet; try again")
}

fn read_only_error(why: &str) -> Error {
    unavailable(&format!("the store is read-only for now: {why}"))
}
