//! Whose credentials are refused too often: after so many of one address, further ones are not even
//! looked at.
//!
//! A key cannot be guessed, so this protects no key: it keeps strangers from having keys looked up
//! and signatures checked for nothing, as fast as they can send. Whoever shares the address with one
//! of them goes on: a credential that was good lately is looked up and checked as ever, and only what
//! was never good, or not any more, is turned away.

use crate::{
    Engine,
    limiter::{Admitted, Left, Limiter},
    signup::neighbourhood,
};
use parking_lot::Mutex;
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};
use tenantry_auth::{Principal, TenantId};
use tenantry_types::{Error, ErrorKind, Period, Rate, Rates, Result};

/// Refused credentials that an address may send at once.
const AT_ONCE: u32 = 20;
/// Credentials of an address that are looked at at the same time and were never good. All of them may
/// turn out to be wrong, so an address may owe so many more.
const UNDER_WAY_MAX: u32 = 64;
/// Addresses of which something is known, some 10 MB. Beyond it those are forgotten that would be
/// soonest anyway.
const ADDRESSES_MAX: usize = 65_536;
/// Credentials that were good lately, in two halves: when the younger one is full, the older one goes.
const GOOD_MAX: usize = 65_536;
/// How long a half is the younger one at most, in nanoseconds: 15 minutes.
const GOOD_FOR: u64 = 15 * 60 * 1_000_000_000;
/// Of a half, those that reach one tenant, whose tokens may be any number; and of all
/// operators who reach more.
const GOOD_OF_ONE_MAX: usize = GOOD_MAX / 32;
/// Of an address of version 6, the bits that say which network it is.
const NETWORK_BITS: u32 = 64;

/// Keyed, so that nobody can make one that is known.
type Hash = (u64, u64);

#[derive(Debug, Default)]
struct Halves {
    young: HashSet<Hash>,
    old: HashSet<Hash>,
    /// Of the younger half, by the one tenant that they reach.
    of: HashMap<Option<TenantId>, usize>,
    /// Since when it is the younger one.
    since: u64,
}

impl Halves {
    fn put(&mut self, whose: Option<TenantId>, hash: Hash, now: u64) {
        let is_over = now.saturating_sub(self.since) > GOOD_FOR;
        if is_over || self.young.len() >= GOOD_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.of.clear();
            self.since = now;
        }
        if self.young.contains(&hash) {
            return;
        }
        let of_one = self.of.entry(whose).or_default();
        if *of_one < GOOD_OF_ONE_MAX {
            *of_one += 1;
            self.young.insert(hash);
        }
    }
}

/// What is known of addresses, and of credentials.
#[derive(Debug)]
pub(crate) struct Logins {
    /// What an address may owe in all: what it may send, and what was under way when that was used up.
    rates: Rates,
    limiter: Limiter,
    under_way: Limiter,
    good: Mutex<Halves>,
    keys: [RandomState; 3],
    began: Instant,
    swept: AtomicUsize,
    turned_away: AtomicU64,
}

impl Logins {
    fn new(per_minute: NonZeroU32) -> Self {
        let burst = NonZeroU32::MIN.saturating_add(AT_ONCE + UNDER_WAY_MAX);
        Self {
            rates: Rates { minute: Some(Rate { amount: per_minute, burst }), ..Rates::default() },
            limiter: Limiter::of(ADDRESSES_MAX),
            under_way: Limiter::of(ADDRESSES_MAX),
            good: Mutex::default(),
            keys: Default::default(),
            began: Instant::now(),
            swept: AtomicUsize::new(0),
            turned_away: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn hash(&self, credential: &str) -> Hash {
        // As it is read: one credential is one, however many spaces are around it.
        let credential = credential.trim();
        (self.keys[1].hash_one(credential), self.keys[2].hash_one(credential))
    }

    /// Nanoseconds until another credential of this address is looked at.
    fn wait(&self, whose: TenantId) -> u64 {
        let left = self.limiter.left(whose, &self.rates, self.now());
        let Some(Left { rate, full_in, .. }) = left.into_iter().next() else { return 0 };
        let may_owe =
            u64::from(AT_ONCE - 1) * Period::Minute.nanos() / u64::from(rate.amount.get());
        full_in.saturating_sub(may_owe)
    }

    fn was_good(&self, hash: Hash) -> bool {
        let good = self.good.lock();
        good.young.contains(&hash) || good.old.contains(&hash)
    }

    fn forget(&self, hash: Hash) {
        let mut good = self.good.lock();
        good.young.remove(&hash);
        good.old.remove(&hash);
    }

    fn charge(&self, whose: TenantId) {
        let now = self.now();
        // Whoever owes all that can be owed owes no more.
        let _ = self.limiter.admit(whose, &self.rates, now);
        let part = self.swept.fetch_add(1, Ordering::Relaxed) % Limiter::parts().len();
        self.limiter.sweep_part(part, now);
    }

    pub(crate) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Looks at a credential before anybody else does.
    fn begin<'a>(&'a self, credential: &str, client: IpAddr) -> Result<Login<'a>> {
        // 0 is nobody's.
        let network = neighbourhood(client, NETWORK_BITS);
        let whose = TenantId::new(self.keys[0].hash_one(network).max(1));
        let hash = self.hash(credential);
        let was_good = self.was_good(hash);
        let mut under_way = None;
        if !was_good {
            let wait = self.wait(whose);
            if wait > 0 {
                return Err(self.turn_away(wait.div_ceil(1_000_000_000)));
            }
            let concurrent = NonZeroU32::new(UNDER_WAY_MAX);
            let asked = Rates { concurrent, ..Rates::default() };
            let admitted = self.under_way.admit(whose, &asked, self.now());
            under_way = Some(admitted.map_err(|_| self.turn_away(1))?);
        }
        // Whoever goes before it is known has had it looked up all the same.
        let is_charged = !was_good;
        Ok(Login { logins: self, whose, hash, was_good, is_charged, _under_way: under_way })
    }

    fn turn_away(&self, seconds: u64) -> Error {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        let why = "too many credentials from this address were refused; ask again in";
        let error = Error::new(ErrorKind::LimitExceeded, format!("{why} {seconds} s"));
        error.with_retry_after(seconds)
    }
}

/// A credential that is being looked at.
struct Login<'a> {
    logins: &'a Logins,
    whose: TenantId,
    hash: Hash,
    was_good: bool,
    is_charged: bool,
    /// Until it is charged, so that no more are wrong than an address may owe.
    _under_way: Option<Admitted>,
}

impl Login<'_> {
    fn end(mut self, outcome: &Result<Principal>) {
        match outcome {
            Ok(who) => {
                self.is_charged = false;
                let now = self.logins.now();
                self.logins.good.lock().put(who.bound_to(), self.hash, now);
            }
            Err(error) if error.kind() == ErrorKind::Unauthenticated => {
                self.is_charged = true;
                if self.was_good {
                    self.logins.forget(self.hash);
                }
            }
            // It is not known whether it is good.
            Err(_) => self.is_charged = false,
        }
    }
}

impl Drop for Login<'_> {
    fn drop(&mut self) {
        if self.is_charged {
            self.logins.charge(self.whose);
        }
    }
}

impl Engine {
    /// Bounds from now on how many credentials of one address are refused in a minute, for whoever
    /// says the address ([`Engine::authenticate_from`]). Counts once.
    pub fn limit_logins(&self, per_minute: NonZeroU32) {
        let _ = self.0.logins.set(Logins::new(per_minute));
    }

    /// [`Engine::authenticate`] of somebody at this address.
    ///
    /// One on the machine itself is not bounded: that is a proxy that nobody has named, or a program
    /// here, and one of its callers would shut out all others.
    ///
    /// # Errors
    /// [`ErrorKind::LimitExceeded`] if too many credentials from there were refused, before this one
    /// is looked at, unless it was good lately.
    pub async fn authenticate_from(
        &self,
        token: Option<&str>,
        client: Option<IpAddr>,
    ) -> Result<Principal> {
        let client = client.filter(|address| !address.to_canonical().is_loopback());
        let login = match (self.0.logins.get(), token, client) {
            (Some(logins), Some(token), Some(client)) => Some(logins.begin(token, client)?),
            _ => None,
        };
        let outcome = self.authenticate(token).await;
        if let Some(login) = login {
            login.end(&outcome);
        }
        outcome
    }
}

#[cfg(test)]
#[path = "logins_tests.rs"]
mod tests;
