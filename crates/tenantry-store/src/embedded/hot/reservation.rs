//! Room for what is being loaded: reserved before the first byte is read, so that many loads at
//! once stay within the budget together.
//!
//! What does not fit beside the loads under way waits, in order of arrival. Nobody overtakes, so a
//! large one is not starved by small ones. A tenant loads one partition at a time beside its writes,
//! and one under its writer lock, so no tenant is in the queue more than twice.

use super::{Hot, HotSet, OpenTenant, discard, shares::Shares};
use std::{collections::VecDeque, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// Loads that may wait for room.
const WAITING_MAX: usize = 1_024;

/// Who wants room, and how much.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    tenant: TenantId,
    weight: u32,
    bytes: usize,
}

/// Loads that wait for room, first come, first served.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: VecDeque<Waiter>,
    number: u64,
    refused: u64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    pub(super) ask: Ask,
    pub(super) wake: oneshot::Sender<Reservation>,
}

/// A reservation on its way to who waited for it.
pub(super) struct Grant {
    pub(super) reservation: Reservation,
    pub(super) wake: oneshot::Sender<Reservation>,
}

/// Sends reservations, without the set's lock: one that is not taken comes back and is given on
/// when it is dropped.
pub(super) fn send(granted: Vec<Grant>) {
    for grant in granted {
        drop(grant.wake.send(grant.reservation));
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Loads that had to wait so far.
    pub(super) fn waited(&self) -> u64 {
        self.number
    }

    /// Loads refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Takes out the first that waits, if there is room for it.
    pub(super) fn next<V>(&mut self, shares: &Shares<V>) -> Option<Waiter> {
        let bytes = self.waiters.front()?.ask.bytes;
        fits(shares, bytes).then(|| self.waiters.pop_front())?
    }

    fn push(&mut self, ask: Ask, wake: oneshot::Sender<Reservation>) -> Result<u64> {
        if self.waiters.len() >= WAITING_MAX {
            self.refused += 1;
            return Err(Error::new(
                ErrorKind::Busy,
                "too many collections wait to be loaded into memory; retry after a moment",
            ));
        }
        self.number += 1;
        self.waiters.push_back(Waiter { number: self.number, ask, wake });
        Ok(self.number)
    }

    fn leave(&mut self, number: u64) {
        if let Ok(at) = self.waiters.binary_search_by_key(&number, |waiter| waiter.number) {
            self.waiters.remove(at);
        }
    }
}

/// Whether a load fits beside those under way: all else can give way.
fn fits<V>(shares: &Shares<V>, bytes: usize) -> bool {
    let reserved = shares.reserved();
    reserved == 0 || reserved.saturating_add(bytes) <= shares.budget()
}

/// Room for a partition that is being loaded. Dropping it gives the room back.
#[derive(Debug)]
pub(crate) struct Reservation {
    set: Arc<HotSet>,
    tenant: TenantId,
    bytes: usize,
    is_open: bool,
    /// What gave way for it.
    evicted: Vec<Hot>,
}

impl Reservation {
    /// The budget that it is of.
    pub(crate) fn budget(&self) -> usize {
        self.set.budget
    }

    /// Bytes that it has room for.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that [`Reservation::make_room`] will give back.
    pub(crate) fn leaving_bytes(&self) -> usize {
        self.evicted.iter().map(|hot| hot.counted.own.load(super::Ordering::Relaxed)).sum()
    }

    /// Gives the memory back of what gave way. Before loading, where blocking is allowed if it is
    /// much.
    pub(crate) fn make_room(&mut self) {
        self.evicted = Vec::new();
    }

    /// Takes more room if `bytes` are more than was reserved: others give way. It is not waited
    /// for, because two that wait for each other with half of what they need would wait for ever.
    pub(crate) fn cover(&mut self, bytes: usize) {
        if bytes <= self.bytes {
            return;
        }
        // In steps, because this is everybody's lock.
        let bytes = bytes.saturating_add(bytes / 8).min(self.set.budget.max(bytes));
        let set = Arc::clone(&self.set);
        let now = set.now();
        let mut state = set.state.lock();
        self.resize(&mut state.shares, bytes);
        let dropped = set.evict(&mut state, now);
        drop(state);
        drop(dropped);
    }

    pub(super) fn resize<V>(&mut self, shares: &mut Shares<V>, bytes: usize) {
        shares.resize_reservation(self.tenant, self.bytes, bytes);
        self.bytes = bytes;
    }

    pub(super) fn end<V>(&mut self, shares: &mut Shares<V>) {
        if std::mem::replace(&mut self.is_open, false) {
            shares.release(self.tenant, self.bytes);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        discard(std::mem::take(&mut self.evicted));
        if !self.is_open {
            return;
        }
        let set = Arc::clone(&self.set);
        let now = set.now();
        let mut state = set.state.lock();
        self.end(&mut state.shares);
        let granted = set.grant(&mut state, now);
        drop(state);
        send(granted);
    }
}

/// A load in the queue. Dropping it leaves the queue.
struct Waiting {
    set: Arc<HotSet>,
    number: u64,
    receiver: Option<oneshot::Receiver<Reservation>>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.receiver.is_none() {
            return;
        }
        // A reservation that is on its way is dropped with the receiver, and so given on.
        let now = self.set.now();
        let mut state = self.set.state.lock();
        state.queue.leave(self.number);
        // Who is behind it may fit.
        let granted = self.set.grant(&mut state, now);
        drop(state);
        send(granted);
    }
}

impl HotSet {
    /// Reserves room for a partition that is to be loaded, which takes about `bytes`; waits while
    /// loads under way leave too little. [`ErrorKind::Busy`] if too many wait already.
    ///
    /// Whoever asks may hold its tenant's writer lock. Waiting is safe all the same: those who have
    /// room wait for their own tenant's writer lock at most, which nobody keeps who waits behind them.
    pub(crate) async fn reserve(
        self: &Arc<Self>,
        tenant: &OpenTenant,
        bytes: usize,
    ) -> Result<Reservation> {
        let ask = Ask { tenant: tenant.id(), weight: tenant.weight(), bytes };
        let now = self.now();
        let (number, receiver) = {
            let mut state = self.state.lock();
            if state.queue.len() == 0 && fits(&state.shares, bytes) {
                return Ok(self.take(&mut state, ask, now));
            }
            let (sender, receiver) = oneshot::channel();
            (state.queue.push(ask, sender)?, receiver)
        };
        let mut waiting = Waiting { set: Arc::clone(self), number, receiver: Some(receiver) };
        let receiver = waiting.receiver.as_mut().expect("a wait ends once");
        let reservation = receiver.await.map_err(|_| Error::internal("a wait was forgotten"))?;
        waiting.receiver = None;
        Ok(reservation)
    }

    /// Reserves, and takes out what gives way for it.
    pub(super) fn take(
        self: &Arc<Self>,
        state: &mut super::State,
        ask: Ask,
        now: u64,
    ) -> Reservation {
        let Ask { tenant, weight, bytes } = ask;
        state.shares.reserve(tenant, weight, bytes);
        let evicted = self.evict(state, now);
        Reservation { set: Arc::clone(self), tenant, bytes, is_open: true, evicted }
    }
}
