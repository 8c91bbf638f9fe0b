//! Who asks most, and how it is answered: numbers of the K busiest tenants, and of all others
//! together. For operators: what it says of one tenant is no neighbour's business.
//!
//! A request is counted once: for its tenant if that is one of the K, else for the others. A tenant
//! that becomes one of them begins at nothing, and what it asked before stays the others'; one that
//! ceases to be gives what was counted of it to the others. So each request is in the sum of all at
//! any time, and what is counted of the others never shrinks.
//!
//! It knows no clock and no protocol, is in memory for one process, and is lost with it. However many
//! tenants there are, it takes what K of them take, and some thousand candidates.

mod tally;
#[cfg(test)]
mod tests;

pub use tally::{Outcome, Served, Tally};

use parking_lot::Mutex;
use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;

/// Ids are given one after the other, so their remainders are spread evenly: tenants hardly ever
/// wait for each other here.
const SHARDS: usize = 64;
/// Tenants of a shard of which it is known how often they asked lately, while they are not followed.
const CANDIDATES_MAX: usize = 128;
/// Endpoints that are told apart of one tenant; further ones are one, [`FURTHER`].
const ENDPOINTS_MAX: usize = 128;
/// The endpoint of what is not told apart any more.
const FURTHER: &str = "(further)";
/// Series that begin and end cost whoever stores them, so they do not change more often than this.
const CHOOSE_EVERY: Duration = Duration::from_secs(300);

/// What is counted of one of the K.
#[derive(Debug)]
struct Followed {
    since: Instant,
    all: Tally,
    /// By method and path. Few, so they are gone through.
    endpoints: Vec<Endpoint>,
    /// Requests of late; half of them are forgotten at each choice.
    lately: u64,
}

impl Followed {
    fn new(since: Instant) -> Self {
        Self { since, all: Tally::default(), endpoints: Vec::new(), lately: 0 }
    }

    fn count(&mut self, served: &Served<'_>) {
        self.lately = self.lately.saturating_add(1);
        self.all.count(served);
        let is_it = |one: &Endpoint| one.method == served.method && one.path == served.path;
        if let Some(known) = self.endpoints.iter_mut().find(|one| is_it(one)) {
            return known.tally.count(served);
        }
        let is_last = self.endpoints.len() + 1 >= ENDPOINTS_MAX;
        let (method, path) =
            if is_last { (FURTHER, FURTHER) } else { (served.method, served.path) };
        if self.endpoints.len() < ENDPOINTS_MAX {
            let tally = Tally::default();
            self.endpoints.push(Endpoint { method, path: path.to_owned(), tally });
        }
        if let Some(last) = self.endpoints.last_mut() {
            last.tally.count(served);
        }
    }
}

/// How a tenant's requests of one kind were answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What was asked to be done.
    pub method: &'static str,
    /// The path as the table of routes has it, without the names that somebody gave.
    pub path: String,
    /// How it was answered.
    pub tally: Tally,
}

/// What is known of a tenant that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTotals {
    /// Since when it is; requests of before are not among these.
    pub since: Instant,
    /// All of its requests.
    pub all: Tally,
    /// The same by endpoint, the most asked first.
    pub endpoints: Vec<Endpoint>,
}

/// All that was counted, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranking {
    /// The tenants that are followed, by number.
    pub tenants: Vec<(TenantId, Tally)>,
    /// All others, of now and of before.
    pub others: Tally,
}

#[derive(Debug, Default)]
struct Shard {
    followed: HashMap<TenantId, Followed>,
    others: Tally,
    /// About how often those asked lately who are not followed: too little by what the smallest of
    /// them asked at most.
    candidates: HashMap<TenantId, u64>,
}

impl Shard {
    /// Misra and Gries: who asks more often than one in so many as there may be candidates is one.
    fn nominate(&mut self, tenant: TenantId) {
        if let Some(asked) = self.candidates.get_mut(&tenant) {
            *asked += 1;
        } else if self.candidates.len() < CANDIDATES_MAX {
            self.candidates.insert(tenant, 1);
        } else {
            self.candidates.retain(|_, asked| {
                *asked -= 1;
                *asked > 0
            });
        }
    }

    /// Half of what was asked lately is forgotten.
    fn age(&mut self) {
        self.candidates.retain(|_, asked| {
            *asked /= 2;
            *asked > 0
        });
        for one in self.followed.values_mut() {
            one.lately /= 2;
        }
    }
}

/// The busiest tenants of one process.
#[derive(Debug)]
pub struct Busiest {
    most: usize,
    /// Places that nobody was given yet. They are never given back, only on.
    free: AtomicUsize,
    shards: Vec<Mutex<Shard>>,
    /// When they were chosen; whoever holds it chooses.
    chosen: Mutex<Option<Instant>>,
}

impl Busiest {
    /// The most tenants that can be followed.
    pub const TENANTS_MAX: usize = 1_000;

    /// Follows so many tenants, at most [`Self::TENANTS_MAX`]; with 0 nothing is counted.
    pub fn new(most: usize) -> Self {
        let most = most.min(Self::TENANTS_MAX);
        let shards = if most == 0 { 0 } else { SHARDS };
        Self {
            most,
            free: AtomicUsize::new(most),
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            chosen: Mutex::default(),
        }
    }

    /// True if nothing is counted.
    pub fn is_off(&self) -> bool {
        self.most == 0
    }

    fn shard(&self, tenant: TenantId) -> Option<&Mutex<Shard>> {
        let number = usize::try_from(tenant.get() % SHARDS as u64).unwrap_or(0);
        self.shards.get(number)
    }

    /// Counts a request of a tenant that is over.
    pub fn count(&self, tenant: TenantId, served: &Served<'_>, now: Instant) {
        let Some(shard) = self.shard(tenant) else { return };
        let shard = &mut *shard.lock();
        if let Some(found) = shard.followed.get_mut(&tenant) {
            found.count(served);
        } else if self.take_place() {
            shard.followed.entry(tenant).or_insert_with(|| Followed::new(now)).count(served);
        } else {
            shard.others.count(served);
            shard.nominate(tenant);
        }
    }

    /// True if there was a free place, which is the caller's then.
    fn take_place(&self) -> bool {
        // Most often there is none, and nobody should wait to be told so.
        if self.free.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let order = Ordering::Relaxed;
        self.free.fetch_update(order, order, |free| free.checked_sub(1)).is_ok()
    }

    /// What was counted so far. Whoever asks for it has the K chosen anew now and then: while nobody
    /// looks, nothing needs to be right.
    pub fn ranking(&self, now: Instant) -> Ranking {
        self.choose_if_due(now);
        let mut ranking = Ranking::default();
        for shard in &self.shards {
            // A tenant is in one shard, with what it leaves to the others.
            let shard = shard.lock();
            ranking.others.add(&shard.others);
            ranking.tenants.extend(shard.followed.iter().map(|(id, one)| (*id, one.all)));
        }
        ranking.tenants.sort_unstable_by_key(|(id, _)| *id);
        ranking
    }

    /// What is known of a tenant, if it is followed.
    pub fn tenant(&self, tenant: TenantId, now: Instant) -> Option<TenantTotals> {
        self.choose_if_due(now);
        let shard = self.shard(tenant)?.lock();
        let one = shard.followed.get(&tenant)?;
        let mut endpoints = one.endpoints.clone();
        let (since, all) = (one.since, one.all);
        drop(shard);
        endpoints.sort_by_key(|endpoint| Reverse(endpoint.tally.requests()));
        Some(TenantTotals { since, all, endpoints })
    }

    fn choose_if_due(&self, now: Instant) {
        let Some(mut chosen) = self.chosen.try_lock() else { return };
        let since = *chosen.get_or_insert(now);
        if now.saturating_duration_since(since) >= CHOOSE_EVERY {
            *chosen = Some(now);
            self.choose(now);
        }
    }

    /// Gives places on: to whoever asked more than twice as often as the one that has it, so that two
    /// who ask about as often do not take turns.
    fn choose(&self, now: Instant) {
        let (mut waiting, mut here) = (Vec::new(), Vec::new());
        for shard in &self.shards {
            let mut shard = shard.lock();
            waiting.extend(shard.candidates.iter().map(|(id, asked)| (*asked, *id)));
            here.extend(shard.followed.iter().map(|(id, one)| (one.lately, *id)));
            shard.age();
        }
        waiting.sort_unstable_by_key(|one| Reverse(*one));
        here.sort_unstable();
        for ((asks, comes), (asked, goes)) in waiting.into_iter().zip(here) {
            if asks <= asked.saturating_mul(2) {
                return;
            }
            self.give_on(goes, comes, now);
        }
    }

    fn give_on(&self, goes: TenantId, comes: TenantId, now: Instant) {
        let (Some(from), Some(to)) = (self.shard(goes), self.shard(comes)) else { return };
        {
            let mut from = from.lock();
            let Some(gone) = from.followed.remove(&goes) else { return };
            from.others.add(&gone.all);
        }
        let mut to = to.lock();
        let asked = to.candidates.remove(&comes).unwrap_or(0);
        let followed = to.followed.entry(comes).or_insert_with(|| Followed::new(now));
        followed.lately = followed.lately.saturating_add(asked);
    }
}
