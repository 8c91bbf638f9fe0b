//! Turns: tenants' work passes one gate with one place a core, in a fair order.
//!
//! A [`Turn`] is the right to compute on a place. Work runs where its request is: the gate decides
//! when, never where, so a turn costs no hand-over between threads while places are free. Long
//! work gives its place up between slices if somebody waits, by [`Turn::pass`] on a task and
//! [`Turn::pause`] on a thread that may block.
//!
//! Who is next is decided by deficit round robin over the tenants that wait, weighted, charged
//! afterwards with measured CPU time (`ring`); background work yields to requests and is never
//! starved by them (`gate`).
//!
//! Two rules keep turns from locking each other out: whoever holds a turn does not ask for another
//! one, and nothing that a holder of a turn might block on (a lock) is kept across `pass` and
//! `pause`.

mod bills;
mod gate;
mod meter;
mod others;
mod ring;
mod steps;
#[cfg(test)]
mod tests;

use gate::{Full, Gate, Who};
use meter::{Meter, Moment, ThreadMeter, Used};
pub(crate) use others::Others;
use parking_lot::Mutex;
use std::{
    fmt,
    num::NonZero,
    pin::Pin,
    sync::{Arc, LazyLock, atomic::AtomicU64},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread, available_parallelism},
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// The size of a [`Pool`].
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How many turns run at once, at least 1. One a core.
    pub places: usize,
    /// How much work of one tenant may wait, in each class.
    pub queue_max: usize,
    /// How much work may wait in all. Above it, only tenants with nothing waiting are let in, up
    /// to twice as much: a full house must not shut out those who did not fill it.
    pub total_max: usize,
    /// What a tenant of weight 100 may use each round, and how long work may run until it asks
    /// whether somebody waits. At least a microsecond.
    pub slice: Duration,
}

impl Default for PoolConfig {
    /// A place a core, 1,024 waiting a tenant, 16,384 in all, slices of 500 µs.
    fn default() -> Self {
        Self {
            places: available_parallelism().map_or(1, NonZero::get),
            queue_max: 1_024,
            total_max: 16_384,
            slice: Duration::from_micros(500),
        }
    }
}

/// How urgent work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Somebody waits for the answer.
    Request,
    /// Nobody waits for it (building, saving). Runs on places that requests leave free, on all but
    /// one at most if there are more than one, and gets a twentieth of the time when requests
    /// leave none.
    Background,
}

/// What a [`Pool`] has done since it started, and what it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolTotals {
    /// CPU time charged, in nanoseconds.
    pub cpu_ns: u64,
    /// Places given, again after each wait.
    pub turns: u64,
    /// Turns that had to wait, or gave their place up and waited again.
    pub waits: u64,
    /// Turns refused because too much was waiting.
    pub refused: u64,
    /// Turns that wait now.
    pub waiting: usize,
    /// Places that are taken now.
    pub busy: usize,
}

/// The gate. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

type Queue = Gate<oneshot::Sender<Place>>;

struct Shared {
    gate: Mutex<Queue>,
    /// When a task was told to give places out, by the meter's clock; 0 if none is.
    gives_out_soon: AtomicU64,
    meter: Box<dyn Meter>,
    /// Work that has run shorter than this keeps its place, in nanoseconds: giving it up costs
    /// more than it gains.
    pass_after: u64,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.totals()).finish()
    }
}

impl Pool {
    /// A gate with all places free.
    pub fn new(config: PoolConfig) -> Self {
        Self::with_meter(&config, Box::new(ThreadMeter::new()))
    }

    fn with_meter(config: &PoolConfig, meter: Box<dyn Meter>) -> Self {
        let slice = u64::try_from(config.slice.as_nanos()).unwrap_or(u64::MAX);
        Self(Arc::new(Shared {
            gate: Mutex::new(Gate::new(config)),
            gives_out_soon: AtomicU64::new(0),
            meter,
            pass_after: slice / 2,
        }))
    }

    /// Waits for a place for a tenant's work. `weight` is the tenant's share, 100 being the usual
    /// one; it is taken as 1 to 10,000. Dropping the future leaves the queue.
    ///
    /// [`ErrorKind::Busy`] if too much waits already.
    pub async fn turn(&self, tenant: TenantId, weight: u32, class: Class) -> Result<Turn> {
        if let Some(waited) = self.step_here().await {
            let who = Who { tenant, weight, class };
            return Ok(Turn::within(self.place(who), waited));
        }
        match self.enter(tenant, weight, class)? {
            Entered::Place(place) => Ok(Turn::start(place)),
            Entered::Waiting(mut waiting) => Ok(Turn::start(waiting.place().await)),
        }
    }

    /// [`Pool::turn`] for a thread that may block; panics on a runtime's own thread.
    pub fn turn_blocking(&self, tenant: TenantId, weight: u32, class: Class) -> Result<Turn> {
        match self.enter(tenant, weight, class)? {
            Entered::Place(place) => Ok(Turn::start(place)),
            Entered::Waiting(mut waiting) => Ok(Turn::start(waiting.place_blocking())),
        }
    }

    /// [`Pool::turn_blocking`], which gives up after so long; none then.
    pub fn turn_within(
        &self,
        (tenant, weight, class): (TenantId, u32, Class),
        patience: Duration,
    ) -> Result<Option<Turn>> {
        Ok(match self.enter(tenant, weight, class)? {
            Entered::Place(place) => Some(Turn::start(place)),
            Entered::Waiting(mut waiting) => waiting.place_within(patience).map(Turn::start),
        })
    }

    fn enter(&self, tenant: TenantId, weight: u32, class: Class) -> Result<Entered> {
        let who = Who { tenant, weight: weight.clamp(1, 10_000), class };
        let mut gate = self.0.gate.lock();
        if gate.take(class) {
            drop(gate);
            return Ok(Entered::Place(self.place(who)));
        }
        let waiting = Waiting::join(self, &mut gate, who, false)?;
        drop(gate);
        self.give_out();
        Ok(Entered::Waiting(waiting))
    }

    /// Gives free places to those who wait for them.
    fn give_out(&self) {
        loop {
            let next = self.0.gate.lock().next();
            if next.is_none() {
                return;
            }
            self.hand_on(next);
        }
    }

    /// A place, only if one is free and nobody waits for it.
    pub fn try_turn(&self, tenant: TenantId, weight: u32, class: Class) -> Option<Turn> {
        let who = Who { tenant, weight: weight.clamp(1, 10_000), class };
        let is_free = self.0.gate.lock().take(class);
        is_free.then(|| Turn::start(self.place(who)))
    }

    /// How many turns run at once.
    pub fn places(&self) -> usize {
        self.0.gate.lock().places()
    }

    /// What the pool has done and is doing.
    pub fn totals(&self) -> PoolTotals {
        self.0.gate.lock().totals()
    }

    /// CPU time charged to a tenant since the start, in nanoseconds. Zero for tenants that did
    /// nothing for long: only the last few thousand are known.
    pub fn charged(&self, tenant: TenantId) -> u64 {
        self.0.gate.lock().charged(tenant).unwrap_or_default()
    }

    fn place(&self, who: Who) -> Place {
        let (pool, billed, used) = (self.clone(), who.tenant, Used::default());
        Place { pool, who, billed, is_held: true, is_step: false, used }
    }

    /// Hands a place on. The lock is not held while others are woken.
    fn hand_on(&self, next: Option<(Who, oneshot::Sender<Place>)>) {
        if let Some((who, sender)) = next {
            // A place that is not taken comes back and is given on when it is dropped.
            drop(sender.send(self.place(who)));
        }
    }
}

fn busy() -> Error {
    Error::new(ErrorKind::Busy, "this tenant has too much work waiting; retry after a moment")
}

/// A place that is taken. Dropping it charges what was used, frees it and wakes the next.
struct Place {
    pool: Pool,
    who: Who,
    /// For whom its CPU time counts: nobody if that is the installation.
    billed: TenantId,
    /// False while its turn waits for the next one.
    is_held: bool,
    /// True if a step has it: those who are ready to queue are let in before it is given on.
    is_step: bool,
    /// Not charged yet.
    used: Used,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_held {
            return;
        }
        let next = {
            let mut gate = self.pool.0.gate.lock();
            gate.bills.add(self.billed, self.used.cpu);
            gate.charge(self.who, self.used);
            gate.has_served(self.who.class, self.billed);
            gate.free(self.who.class);
            if self.is_step {
                drop(gate);
                self.pool.give_out_soon();
                return;
            }
            gate.next()
        };
        self.pool.hand_on(next);
    }
}

/// A place, or a place in a queue.
enum Entered {
    Place(Place),
    Waiting(Waiting),
}

/// Work in a queue. Dropping it leaves the queue.
struct Waiting {
    pool: Pool,
    who: Who,
    number: u64,
    receiver: Option<oneshot::Receiver<Place>>,
}

const GRANTED: &str = "whoever takes a waiter from its queue sends it a place";

impl Waiting {
    /// Joins the queue; may be refused unless it was let in before.
    fn join(pool: &Pool, gate: &mut Queue, who: Who, is_admitted: bool) -> Result<Self> {
        let (sender, receiver) = oneshot::channel();
        let number = if is_admitted {
            gate.queue(who, sender)
        } else {
            gate.admit(who, sender).map_err(|Full| busy())?
        };
        Ok(Self { pool: pool.clone(), who, number, receiver: Some(receiver) })
    }

    async fn place(&mut self) -> Place {
        let receiver = self.receiver.as_mut().expect("a wait ends once");
        let place = receiver.await.expect(GRANTED);
        self.receiver = None;
        place
    }

    fn place_blocking(&mut self) -> Place {
        let receiver = self.receiver.take().expect("a wait ends once");
        receiver.blocking_recv().expect(GRANTED)
    }

    /// None if it took longer.
    fn place_within(&mut self, patience: Duration) -> Option<Place> {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let receiver = self.receiver.as_mut().expect("a wait ends once");
        let begun = Instant::now();
        loop {
            if let Poll::Ready(place) = Pin::new(&mut *receiver).poll(&mut context) {
                self.receiver = None;
                return Some(place.expect(GRANTED));
            }
            let left = patience.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
            thread::park_timeout(left);
        }
    }
}

/// Wakes a thread that waits for its place.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // If the place is on its way, it is dropped with the receiver, and so passed on.
        if self.receiver.is_some() {
            self.pool.0.gate.lock().leave(self.who, self.number);
        }
    }
}

/// The right to compute, until it is dropped. Made by [`Pool::turn`].
pub struct Turn {
    place: Place,
    mark: Moment,
    cpu_ns: u64,
    waited: Duration,
    /// True if it is part of a step that has the place.
    is_within: bool,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("who", &self.place.who).finish_non_exhaustive()
    }
}

impl Turn {
    fn start(place: Place) -> Self {
        let mark = place.pool.0.meter.now();
        Self { place, mark, cpu_ns: 0, waited: Duration::ZERO, is_within: false }
    }

    /// A part of a step, which has waited and pays. Must be dropped before the step ends.
    fn within(mut place: Place, waited: Duration) -> Self {
        place.is_held = false;
        let mut turn = Self::start(place);
        (turn.waited, turn.is_within) = (waited, true);
        turn
    }

    /// Counts what it uses for this tenant instead of the one whose turn it is; for nobody if that is
    /// the installation.
    pub fn bill(&mut self, tenant: TenantId) {
        self.place.billed = tenant;
    }

    /// How long the step that this turn is part of has waited; zero for a turn of its own.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Between two slices on a task: charges what was used, lets other tasks of the runtime run
    /// and, if somebody waits, gives the place up and waits for the next turn. Costs next to
    /// nothing when called more often than every half slice. Never refused.
    ///
    /// If the future is dropped while it waits, the turn holds no place; `pass` again waits for
    /// one.
    pub async fn pass(&mut self) {
        if self.is_within {
            return;
        }
        let waiting = if self.place.is_held {
            if !self.is_due() {
                return;
            }
            self.settle();
            // Whoever would ask for a turn may need this very thread to do so.
            tokio::task::yield_now().await;
            self.mark = self.place.pool.0.meter.now();
            self.give_up()
        } else {
            self.ask_again()
        };
        if let Some(mut waiting) = waiting {
            let place = waiting.place().await;
            self.resume(place);
        }
    }

    /// As [`Turn::pass`], for work that others should not feel: once it has computed for `burst`
    /// without a rest, it gives the place up and rests for `times` as long, but no longer than `most`.
    /// How long it was away.
    pub async fn breathe(&mut self, burst: Duration, (times, most): (u32, Duration)) -> Duration {
        let passed = Duration::from_nanos(self.mark.wall_until(self.place.pool.0.meter.wall()));
        if self.is_within || (self.place.is_held && passed < burst) {
            return Duration::ZERO;
        }
        let begun = tokio::time::Instant::now();
        if self.place.is_held {
            self.settle();
            self.release();
            tokio::time::sleep((passed * times).min(most)).await;
        }
        if let Some(mut waiting) = self.ask_again() {
            let place = waiting.place().await;
            self.resume(place);
        }
        begun.elapsed()
    }

    /// [`Turn::pass`] for a thread that may block; panics on a runtime's own thread.
    pub fn pause(&mut self) {
        if let Some(mut waiting) = self.give_way() {
            let place = waiting.place_blocking();
            self.resume(place);
        }
    }

    /// [`Turn::pause`], which gives up after so long: false then, and the turn holds no place.
    pub fn pause_within(&mut self, patience: Duration) -> bool {
        let Some(mut waiting) = self.give_way() else { return true };
        let place = waiting.place_within(patience);
        place.map(|place| self.resume(place)).is_some()
    }

    /// Where it waits for its next place, if it has to.
    fn give_way(&mut self) -> Option<Waiting> {
        if !self.place.is_held {
            return self.ask_again();
        }
        if !self.is_due() {
            return None;
        }
        self.settle();
        self.give_up()
    }

    /// Call first when the work has moved to another thread: CPU time is measured by the clock of
    /// the thread. What the thread before has used counts if it called [`Turn::settle`] last.
    pub fn begin(&mut self) {
        let now = self.place.pool.0.meter.now();
        if !self.mark.is_here(now) {
            self.mark = now;
        }
    }

    /// Notes what was used on this thread so far. Call last before the work moves to another one.
    pub fn settle(&mut self) {
        let now = self.place.pool.0.meter.now();
        let used = self.mark.used_until(now);
        self.mark = now;
        self.cpu_ns += used.cpu;
        self.place.used.add(used);
    }

    /// CPU time used by this turn so far, with the slice that is running on this thread.
    pub fn cpu(&self) -> Duration {
        let running = if self.place.is_held || self.is_within {
            self.mark.used_until(self.place.pool.0.meter.now()).cpu
        } else {
            0
        };
        Duration::from_nanos(self.cpu_ns + running)
    }

    /// True if it has used this much CPU time. No thread computes longer than time passes, so the
    /// clock of the thread, which takes a call of the system, is asked only when it may be so.
    pub fn has_used(&self, limit: Duration) -> bool {
        let noted = Duration::from_nanos(self.cpu_ns);
        let passed = self.mark.wall_until(self.place.pool.0.meter.wall());
        noted + Duration::from_nanos(passed) >= limit && self.cpu() >= limit
    }

    /// Whether enough was done on the place to think of others.
    fn is_due(&self) -> bool {
        let shared = &self.place.pool.0;
        self.mark.wall_until(shared.meter.wall()) >= shared.pass_after
    }

    /// Charges what was noted and, if somebody waits, gives the place up.
    fn give_up(&mut self) -> Option<Waiting> {
        let (who, used) = (self.place.who, std::mem::take(&mut self.place.used));
        let (number, receiver, next) = {
            let mut gate = self.place.pool.0.gate.lock();
            gate.bills.add(self.place.billed, used.cpu);
            gate.charge(who, used);
            if gate.waiting() == 0 {
                return None;
            }
            gate.free(who.class);
            let (sender, receiver) = oneshot::channel();
            (gate.queue(who, sender), receiver, gate.next())
        };
        self.place.is_held = false;
        let pool = self.place.pool.clone();
        pool.hand_on(next);
        Some(Waiting { pool, who, number, receiver: Some(receiver) })
    }

    /// Charges what was noted and gives the place up.
    fn release(&mut self) {
        let mut none = self.place.pool.place(self.place.who);
        (none.is_held, none.billed) = (false, self.place.billed);
        drop(std::mem::replace(&mut self.place, none));
    }

    /// Asks for a place that is not held.
    fn ask_again(&mut self) -> Option<Waiting> {
        let (pool, who) = (self.place.pool.clone(), self.place.who);
        let mut gate = pool.0.gate.lock();
        if gate.take(who.class) {
            drop(gate);
            self.resume(pool.place(who));
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let number = gate.queue(who, sender);
        drop(gate);
        pool.give_out();
        Some(Waiting { pool, who, number, receiver: Some(receiver) })
    }

    fn resume(&mut self, mut place: Place) {
        place.billed = self.place.billed;
        self.place = place;
        self.mark = self.place.pool.0.meter.now();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.place.is_held {
            self.settle();
        }
    }
}

/// CPU time of this thread since some fixed moment.
pub(crate) fn thread_cpu() -> Duration {
    static METER: LazyLock<ThreadMeter> = LazyLock::new(ThreadMeter::new);
    Duration::from_nanos(METER.cpu())
}

/// Work below this many bytes to read is done where it is asked for; above, on a thread that may
/// block.
pub(crate) const INLINE_BYTES: usize = 256 << 10;

/// Runs work that touches about `bytes` bytes.
pub(crate) async fn compute<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    if bytes <= INLINE_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(why) => Err(Error::internal("work was aborted").with_source(why)),
    }
}
