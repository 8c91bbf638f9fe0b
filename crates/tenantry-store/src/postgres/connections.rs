//! Few connections for many databases.
//!
//! Whoever uses, opens or closes a connection holds one of as many permits as there may be
//! connections. So when all are open and none of them is of the database that is asked for, one
//! at least is idle and can be closed. A single connection serves any number of databases, one at
//! a time.

use super::{
    claim,
    conn::Conn,
    connect::{Facts, Link},
    failure::{Cause, Failure, Outcome},
    shares::{Share, Shares},
    target::{Server, Target},
};
use crate::ConnectionTotals;
use lru::LruCache;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tracing::Instrument as _;

/// Databases whose facts are remembered.
const FACTS_MAX: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

/// A tenant's reads have one part in so many of the connections at once, and of the places to wait.
///
/// A fixed one, and not only a turn when others wait: a statement may hold its connection for
/// as long as statements may take, and none is ever taken away. Changes need none, because of
/// one tenant's only one is made at a time.
const READERS_PART: usize = 4;

/// One part in so many, at least one.
fn part_of(all: usize, part: usize) -> usize {
    (all / part).max(1)
}

/// How patient a set of connections is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// For a connection to become free.
    pub(super) wait: Duration,
    /// Requests that wait.
    pub(super) waiters: usize,
    /// Unused for this long, a connection is closed.
    pub(super) idle: Duration,
    /// After a connection could not be opened, no other one to the same database is tried.
    pub(super) pause: Duration,
}

impl Bounds {
    const USUAL: Self = Self {
        wait: Duration::from_secs(5),
        waiters: 1_024,
        idle: Duration::from_secs(60),
        pause: Duration::from_millis(250),
    };
}

/// The connections of one purpose: see the module. They end when this is dropped, or when the
/// last [`Conn`] is, whichever is later.
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

/// What connections come back to.
pub(super) struct Shared {
    bounds: Bounds,
    budget: usize,
    all: Share,
    /// What all servers together may have that may have a part only.
    guests: Share,
    /// What each server may have that may have a part only.
    servers: Shares<usize>,
    /// What each tenant may have for its reads.
    readers: Shares<TenantId>,
    open: Arc<AtomicUsize>,
    /// Tells one who waits for a connection that is open already that one came back.
    came_back: Notify,
    state: Mutex<State>,
    /// Round trips.
    #[cfg(test)]
    pub(super) exchanges: AtomicUsize,
    /// Texts of statements, with the types of their values.
    #[cfg(test)]
    pub(super) said: Mutex<Vec<(String, Vec<tokio_postgres::types::Type>)>>,
}

struct State {
    /// The longest idle first.
    idle: VecDeque<(Link, Instant)>,
    facts: LruCache<Target, Arc<Facts>>,
    /// Where no connection is tried.
    paused: HashMap<Target, Pause>,
    is_closed: bool,
}

impl State {
    /// The one that was used last, so that those not needed grow old.
    fn take_idle(&mut self, target: &Target) -> Option<Link> {
        let fits = |(link, _): &(Link, Instant)| link.target == *target;
        while let Some(at) = self.idle.iter().rposition(fits) {
            match self.idle.remove(at) {
                Some((link, _)) if !link.is_closed() => return Some(link),
                _ => {}
            }
        }
        None
    }
}

/// Why, and until when, no connection is tried.
#[derive(Clone, Copy)]
struct Pause {
    until: Instant,
    /// The server has none left.
    is_full: bool,
}

/// The right to one connection.
pub(super) struct Permit {
    _one: OwnedSemaphorePermit,
    _of_guests: Option<OwnedSemaphorePermit>,
    _of_server: Option<(OwnedSemaphorePermit, Arc<Share>)>,
    _of_reader: Option<(OwnedSemaphorePermit, Arc<Share>)>,
}

/// One open connection, or one that is being opened, in the count.
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a permit found.
enum Found {
    Idle(Link),
    Room(Counted),
    /// To be closed first.
    Other(Link),
}

impl Connections {
    /// At most `budget` connections at any time, to whatever servers. Needs a Tokio runtime.
    pub(crate) fn new(budget: NonZeroUsize) -> Self {
        Self::with_bounds(budget, 0, Bounds::USUAL)
    }

    /// The same, of which a quarter, at least one, is for servers that may have all: if all others
    /// hang, they are served.
    pub(crate) fn with_home(budget: NonZeroUsize) -> Self {
        Self::with_bounds(budget, (budget.get() / 4).max(1), Bounds::USUAL)
    }

    /// `kept` are those that servers which may have a part only do not get.
    pub(super) fn with_bounds(budget: NonZeroUsize, kept: usize, bounds: Bounds) -> Self {
        let budget = budget.get().min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            bounds,
            budget,
            all: Share::new(budget),
            guests: Share::new(budget.saturating_sub(kept).max(1)),
            servers: Shares::default(),
            readers: Shares::default(),
            open: Arc::new(AtomicUsize::new(0)),
            came_back: Notify::new(),
            state: Mutex::new(State {
                idle: VecDeque::new(),
                facts: LruCache::new(FACTS_MAX),
                paused: HashMap::new(),
                is_closed: false,
            }),
            #[cfg(test)]
            exchanges: AtomicUsize::new(0),
            #[cfg(test)]
            said: Mutex::default(),
        });
        tokio::spawn(close_idle(Arc::downgrade(&shared), bounds.idle));
        Self { shared }
    }

    /// A connection to `target`, when there is one, or one that is opened now: whoever asked
    /// first is served first, but of one `reader`'s only so many at once.
    pub(super) async fn find_or_open(
        &self,
        target: &Target,
        reader: Option<TenantId>,
        is_fresh: bool,
    ) -> Outcome<Conn> {
        match self.try_once(target, reader, is_fresh).await {
            Err(why) if why.cause() == Cause::Full => {
                // Seldom, and every operation holds this future.
                Box::pin(self.wait_for_open(target, reader, is_fresh, why)).await
            }
            other => other,
        }
    }

    /// A connection for who can do without: none if others wait, if half of all, or of what its server
    /// may have, would not stay free, or if another one has to be closed first.
    pub(super) async fn spare(&self, target: &Target) -> Outcome<Option<Conn>> {
        let shared = &self.shared;
        let Some(permit) = shared.spare_permit(&target.server) else { return Ok(None) };
        match shared.find_spare(target) {
            Some(found) => self.connect(permit, target, found).await.map(Some),
            None => Ok(None),
        }
    }

    /// The server has no connection left: waits for one of those that are open, if some are.
    async fn wait_for_open(
        &self,
        target: &Target,
        reader: Option<TenantId>,
        is_fresh: bool,
        mut why: Failure,
    ) -> Outcome<Conn> {
        let shared = &self.shared;
        let until = Instant::now() + shared.bounds.wait;
        while shared.open.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            let waiter = shared.all.enter(shared.bounds.waiters)?;
            tokio::select! {
                () = shared.came_back.notified() => {}
                () = sleep_until(until.min(Instant::now() + shared.bounds.pause)) => {}
            }
            drop(waiter);
            match self.try_once(target, reader, is_fresh).await {
                Err(again) if again.cause() == Cause::Full => why = again,
                other => return other,
            }
        }
        Err(why)
    }

    async fn try_once(
        &self,
        target: &Target,
        reader: Option<TenantId>,
        is_fresh: bool,
    ) -> Outcome<Conn> {
        let permit = self.permit(&target.server, reader).await?;
        let found = self.shared.find(target, is_fresh)?;
        self.connect(permit, target, found).await
    }

    async fn connect(&self, permit: Permit, target: &Target, found: Found) -> Outcome<Conn> {
        let shared = Arc::downgrade(&self.shared);
        let (other, counted) = match found {
            Found::Idle(link) => return Ok(Conn::new(link, permit, shared)),
            Found::Room(counted) => (None, Some(counted)),
            Found::Other(link) => (Some(link), None),
        };
        let facts = self.shared.state.lock().facts.get(target).cloned();
        let target = target.clone();
        // In a task of its own, so that a caller who gives up has not opened one in vain.
        let opening = async move {
            let counted = match (other, counted) {
                (Some(link), _) => link.close().await,
                (None, Some(counted)) => counted,
                (None, None) => return Err(Failure::internal("no place for a connection")),
            };
            let is_asked = facts.is_none();
            let mut opened = Link::open(target.clone(), facts, counted).await;
            if let Ok(link) = &opened
                && let Err(why) = prove(link).await
            {
                opened = Err(why.into());
            }
            if let Some(shared) = shared.upgrade() {
                shared.note(&target, &mut opened, is_asked);
            }
            opened.map(|link| Conn::new(link, permit, shared))
        };
        let opening = tokio::spawn(opening.in_current_span());
        opening.await.unwrap_or_else(|_| Err(Failure::internal("opening a connection failed")))
    }

    /// Waits for a permit, among not too many and not for too long.
    async fn permit(&self, server: &Server, reader: Option<TenantId>) -> Outcome<Permit> {
        let (shared, bounds) = (&self.shared, self.shared.bounds);
        // That of the tenant first, then that of the server: whoever waits because of either takes
        // nothing meanwhile of what others wait for.
        let of_reader = match reader.filter(|tenant| *tenant != TenantId::INSTALLATION) {
            Some(tenant) => {
                let share = shared.readers.of(tenant, part_of(shared.budget, READERS_PART));
                let waiters = part_of(bounds.waiters, READERS_PART);
                Some((share.acquire(waiters, bounds.wait).await?, share))
            }
            None => None,
        };
        let of_server = match shared.part(server) {
            Some(share) => Some((share.acquire(bounds.waiters, bounds.wait).await?, share)),
            None => None,
        };
        let of_guests = match server.part() {
            1 => None,
            _ => Some(shared.guests.acquire(bounds.waiters, bounds.wait).await?),
        };
        let one = shared.all.acquire(bounds.waiters, bounds.wait).await?;
        Ok(Permit {
            _one: one,
            _of_guests: of_guests,
            _of_server: of_server,
            _of_reader: of_reader,
        })
    }

    /// Forgets what is known of a database, and its idle connections with it.
    pub(crate) fn forget(&self, target: &Target) {
        self.shared.forget(target);
    }

    /// Gives out no more connections; those in use end when they come back.
    pub(crate) fn close(&self) {
        self.shared.all.permits.close();
        let mut state = self.shared.state.lock();
        state.is_closed = true;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
    }
}

/// Fails if the way to a database leads to one that is not ours.
async fn prove(link: &Link) -> Result<(), Error> {
    let Some(row) = link.target.claim()? else { return Ok(()) };
    if claim::prove(link.client(), &row).await? {
        return Ok(());
    }
    tracing::error!(database = %link.target, "another database is there than the one claimed");
    link.target.server.set_claim(None);
    Err(claim::is_lost())
}

pub(super) fn is_closed() -> Failure {
    Error::new(ErrorKind::Unavailable, "the server is shutting down").into()
}

impl Connections {
    /// Counts these too.
    pub(super) fn add_to(&self, totals: &mut ConnectionTotals) {
        let shared = &self.shared;
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        let free = shared.all.permits.available_permits();
        totals.open += load(&shared.open);
        totals.busy += shared.budget.saturating_sub(free) as u64;
        totals.waiting += (shared.servers.waiting() + shared.readers.waiting()) as u64;
        totals.waiting += load(&shared.all.waiting) + load(&shared.guests.waiting);
    }
}

#[cfg(test)]
impl Connections {
    /// A connection for nobody in particular.
    pub(super) async fn get(&self, target: &Target) -> Outcome<Conn> {
        self.find_or_open(target, None, false).await
    }

    /// The same, but one that is opened now.
    pub(super) async fn get_fresh(&self, target: &Target) -> Outcome<Conn> {
        self.find_or_open(target, None, true).await
    }

    /// The connections that are open, and the requests that wait for one.
    pub(super) fn totals(&self) -> (usize, usize) {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (load(&self.shared.open), load(&self.shared.all.waiting))
    }

    /// Round trips so far, but those that open connections.
    pub(super) fn exchanges(&self) -> usize {
        self.shared.exchanges.load(Ordering::Relaxed)
    }

    /// What was said since this was last asked.
    pub(super) fn said(&self) -> Vec<(String, Vec<tokio_postgres::types::Type>)> {
        std::mem::take(&mut *self.shared.said.lock())
    }
}

impl Shared {
    /// What a server may have, if it may not have all.
    fn part(&self, server: &Server) -> Option<Arc<Share>> {
        let most = part_of(self.budget, server.part());
        (most < self.budget).then(|| self.servers.of(server.number(), most))
    }

    /// The right to a connection that others can spare.
    fn spare_permit(&self, server: &Server) -> Option<Permit> {
        let of_server = match self.part(server) {
            Some(share) => Some((share.spare()?, share)),
            None => None,
        };
        let of_guests = match server.part() {
            1 => None,
            _ => Some(self.guests.spare()?),
        };
        let one = self.all.spare()?;
        Some(Permit { _one: one, _of_guests: of_guests, _of_server: of_server, _of_reader: None })
    }

    /// What whoever holds a permit may use. Dead connections that it meets are dropped.
    fn find(&self, target: &Target, is_fresh: bool) -> Outcome<Found> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(is_closed());
        }
        if !is_fresh && let Some(link) = state.take_idle(target) {
            return Ok(Found::Idle(link));
        }
        let now = Instant::now();
        let was_full = state.paused.get(target).is_some_and(|pause| pause.is_full);
        state.paused.retain(|_, pause| pause.until > now);
        match state.paused.get(target).copied() {
            Some(Pause { is_full: false, .. }) => return Err(Failure::lost()),
            Some(_) => {
                // One to another database of the server can make room.
                let of_server = |(link, _): &(Link, Instant)| link.target.server == target.server;
                let at = state.idle.iter().position(of_server);
                let other = at.and_then(|at| state.idle.remove(at)).map(|(link, _)| link);
                return other.map(Found::Other).ok_or_else(Failure::full);
            }
            // One of those who wait tries it for all.
            None if was_full => {
                let pause = Pause { until: now + self.bounds.pause, is_full: true };
                state.paused.insert(target.clone(), pause);
            }
            None => {}
        }
        if self.open.load(Ordering::Relaxed) < self.budget {
            return Ok(Found::Room(Counted::new(&self.open)));
        }
        match state.idle.pop_front() {
            Some((link, _)) => Ok(Found::Other(link)),
            None => Err(Failure::internal("more connections are open than there are permits")),
        }
    }

    /// The same for who can do without.
    fn find_spare(&self, target: &Target) -> Option<Found> {
        let mut state = self.state.lock();
        let now = Instant::now();
        let is_paused =
            |(at, pause): (&Target, &Pause)| at.server == target.server && pause.until > now;
        let is_wanted = self.all.waiting.load(Ordering::Relaxed) > 0;
        if state.is_closed || is_wanted || state.paused.iter().any(is_paused) {
            return None;
        }
        if let Some(link) = state.take_idle(target) {
            return Some(Found::Idle(link));
        }
        let has_room = self.open.load(Ordering::Relaxed) < self.budget;
        has_room.then(|| Found::Room(Counted::new(&self.open)))
    }

    /// Remembers how an attempt to open a connection went. `is_asked` are facts that are new.
    fn note(&self, target: &Target, opened: &mut Outcome<Link>, is_asked: bool) {
        let mut state = self.state.lock();
        match opened {
            Ok(link) => {
                state.paused.remove(target);
                match state.facts.get(target) {
                    Some(known) => link.facts = Arc::clone(known),
                    None if is_asked => {
                        state.facts.put(target.clone(), Arc::clone(&link.facts));
                    }
                    // Forgotten meanwhile: see `give_back`.
                    None => {}
                }
            }
            Err(why) => {
                let is_full = why.cause() == Cause::Full;
                let pause = Pause { until: Instant::now() + self.bounds.pause, is_full };
                state.paused.insert(target.clone(), pause);
            }
        }
    }

    /// Takes a connection back on which nothing is open or on its way.
    pub(super) fn give_back(&self, link: Link) {
        if link.is_closed() {
            return;
        }
        let mut state = self.state.lock();
        // Its database may have been forgotten since it was opened.
        let known = state.facts.peek(&link.target);
        let is_known = known.is_some_and(|facts| Arc::ptr_eq(facts, &link.facts));
        if is_known && !state.is_closed {
            state.idle.push_back((link, Instant::now()));
        }
        drop(state);
        self.came_back.notify_one();
    }

    pub(super) fn forget(&self, target: &Target) {
        let mut state = self.state.lock();
        state.facts.pop(target);
        let (old, kept) = state.idle.drain(..).partition(|(link, _)| link.target == *target);
        state.idle = kept;
        drop(state);
        let _: VecDeque<_> = old;
    }

    /// The longest idle, if it is idle for too long.
    fn aged(&self) -> Option<Link> {
        let mut state = self.state.lock();
        let (link, since) = state.idle.front()?;
        if since.elapsed() < self.bounds.idle && !link.is_closed() {
            return None;
        }
        state.idle.pop_front().map(|(link, _)| link)
    }
}

/// Closes connections that nobody needs, until there is nothing left that could have any.
async fn close_idle(shared: Weak<Shared>, idle: Duration) {
    loop {
        sleep(idle / 4).await;
        let Some(permits) = shared.upgrade().map(|shared| Arc::clone(&shared.all.permits)) else {
            return;
        };
        // No permit is free: then all connections are needed.
        while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
            let Some(link) = shared.upgrade().and_then(|shared| shared.aged()) else { break };
            drop(link.close().await);
            drop(permit);
        }
        if permits.is_closed() {
            return;
        }
    }
}
