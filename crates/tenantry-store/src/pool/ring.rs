//! Deficit round robin over the tenants that wait (Shreedhar and Varghese 1995), charged
//! afterwards.
//!
//! Time is counted in rounds. A round gives every tenant one *quantum* of nanoseconds; what its
//! work has really cost is taken off when it is known. A tenant with credit stands in the current
//! round, one in debt in the first round that will have repaid it, so that rounds in which nobody
//! can run are skipped by arithmetic. Within a round tenants are served one piece of work each in
//! turn, whatever their weights: a newcomer waits for at most one piece of each other tenant.
//!
//! A tenant without waiting work keeps what it owes until the rounds have repaid it, and what is
//! left of its quantum until the round ends; it never saves credit. When nobody waits, nobody is
//! kept from anything, so nothing is owed and nothing is remembered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use tenantry_auth::TenantId;

/// Debt stops growing here, so that no mistake shuts a tenant out for long: nanoseconds.
const DEBT_MAX: i64 = 1_000_000_000;

/// So many newcomers join a round that has begun; more wait for the next, so that an endless row
/// of new tenants cannot keep a round from ending.
const NEWCOMERS_MAX: u32 = 64;

/// Above this many, the room for tenants is given back when it is no longer needed.
const ROOM_KEPT: usize = 1_024;

/// Work that waits.
#[derive(Debug)]
pub(super) struct Waiter<W> {
    /// Grows along each queue; who leaves is found by it.
    pub(super) number: u64,
    pub(super) weight: u32,
    pub(super) wake: W,
}

/// The tenants of one class.
#[derive(Debug)]
pub(super) struct Ring<W> {
    slice: i64,
    round: u64,
    newcomers: u32,
    sequence: u64,
    waiting: usize,
    accounts: HashMap<TenantId, Account<W>>,
    // INVARIANT: holds exactly each account's `place`, and no tenant that waits stands before
    // `round`.
    order: BTreeMap<Place, TenantId>,
}

/// The round of a tenant's next turn, and its position in that round.
type Place = (u64, u64);

#[derive(Debug)]
struct Account<W> {
    queue: VecDeque<Waiter<W>>,
    /// Nanoseconds a round, at least 1.
    quantum: i64,
    /// Nanoseconds left (at most one quantum) or owed, as of `round`.
    credit: i64,
    round: u64,
    place: Place,
}

impl<W> Account<W> {
    /// Adds what the rounds since have given.
    fn refresh(&mut self, round: u64) {
        let rounds = i64::try_from(round.saturating_sub(self.round)).unwrap_or(i64::MAX);
        let given = rounds.saturating_mul(self.quantum);
        self.credit = self.credit.saturating_add(given).min(self.quantum);
        self.round = self.round.max(round);
    }

    /// The first round in which there is credit.
    fn due(&self) -> u64 {
        if self.credit > 0 {
            return self.round;
        }
        self.round + (self.credit.unsigned_abs() / self.quantum.unsigned_abs()) + 1
    }
}

impl<W> Ring<W> {
    pub(super) fn new(slice: i64) -> Self {
        Self {
            slice,
            round: 0,
            newcomers: 0,
            sequence: 0,
            waiting: 0,
            accounts: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of one tenant wait.
    pub(super) fn waiting_of(&self, tenant: TenantId) -> usize {
        self.accounts.get(&tenant).map_or(0, |account| account.queue.len())
    }

    /// How many tenants are remembered.
    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        assert_eq!(self.accounts.len(), self.order.len());
        self.accounts.len()
    }

    /// Puts work at the end of its tenant's queue.
    pub(super) fn push(&mut self, tenant: TenantId, waiter: Waiter<W>) {
        self.waiting += 1;
        let account = self.account(tenant, waiter.weight, true);
        account.queue.push_back(waiter);
        if account.queue.len() == 1 {
            self.place(tenant);
        }
    }

    /// Takes work out of the queue; false if it is no longer there.
    pub(super) fn remove(&mut self, tenant: TenantId, number: u64) -> bool {
        let Some(account) = self.accounts.get_mut(&tenant) else { return false };
        let Ok(index) = account.queue.binary_search_by_key(&number, |waiter| waiter.number) else {
            return false;
        };
        account.queue.remove(index);
        self.waiting -= 1;
        if account.queue.is_empty() {
            self.place(tenant);
        }
        self.forget_if_quiet();
        true
    }

    /// Takes the work whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(TenantId, Waiter<W>)> {
        while self.waiting > 0 {
            let ((round, _), tenant) = self.order.pop_first()?;
            if round > self.round {
                self.round = round;
                self.newcomers = 0;
            }
            let account = self.accounts.get_mut(&tenant)?;
            let Some(next) = account.queue.pop_front() else {
                // Idle, and its debt is repaid.
                self.accounts.remove(&tenant);
                continue;
            };
            self.waiting -= 1;
            self.place(tenant);
            self.forget_if_quiet();
            return Some((tenant, next));
        }
        None
    }

    /// Takes `cost` nanoseconds off what a tenant may use, if anybody is kept waiting by it.
    pub(super) fn charge(&mut self, tenant: TenantId, weight: u32, cost: i64) {
        if self.waiting == 0 {
            return;
        }
        let round = self.round;
        let account = self.account(tenant, weight, false);
        account.refresh(round);
        account.credit = account.credit.saturating_sub(cost).max(-DEBT_MAX);
        self.place(tenant);
    }

    /// The tenant's account, new ones with the credit of the round they join.
    fn account(&mut self, tenant: TenantId, weight: u32, joins: bool) -> &mut Account<W> {
        let quantum = (self.slice.saturating_mul(i64::from(weight)) / 100).max(1);
        let (round, newcomers) = (self.round, &mut self.newcomers);
        let account = self.accounts.entry(tenant).or_insert_with(|| {
            let early = !joins || *newcomers < NEWCOMERS_MAX;
            *newcomers += u32::from(joins && early);
            let credit = if early { quantum } else { 0 };
            // A place before all rounds: it is taken out again by the first `place`.
            Account { queue: VecDeque::new(), quantum, credit, round, place: (0, 0) }
        });
        account.quantum = quantum;
        account
    }

    /// Gives a tenant the place that its credit earns: behind all others of the same round.
    fn place(&mut self, tenant: TenantId) {
        let Some(account) = self.accounts.get_mut(&tenant) else { return };
        account.refresh(self.round);
        // Who is idle is forgotten when its place comes up, and not before this round is over:
        // coming back within it must not bring a second quantum.
        let idle = u64::from(account.queue.is_empty() && account.credit > 0);
        self.sequence += 1;
        let place = (account.due() + idle, self.sequence);
        self.order.remove(&account.place);
        self.order.insert(place, tenant);
        account.place = place;
    }

    fn forget_if_quiet(&mut self) {
        if self.waiting > 0 {
            return;
        }
        self.order.clear();
        self.accounts.clear();
        self.newcomers = 0;
        self.accounts.shrink_to(ROOM_KEPT);
    }
}
