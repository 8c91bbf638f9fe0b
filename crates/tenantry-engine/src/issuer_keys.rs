//! Keys of tokens' issuers that are elsewhere: fetched beside requests, which never wait for them.

use crate::{engine::Inner, validate};
use std::{
    fmt::Debug,
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::{
    Principal,
    token::{FetchedKeys, KeysFrom, keys_url},
};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::time::Instant;

/// How often it is asked whether a token named a key that is not known.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Least time between two fetches for such tokens, and after one that failed: anybody can send
/// tokens, and must not make this server fetch for each.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What was fetched, or why not.
type Fetched<T> = std::result::Result<T, String>;

/// Gets what lies at a URL. Whoever implements it bounds size and time, and follows nothing.
pub trait KeyFetch: Debug + Send + Sync {
    /// The bytes at the URL. May block.
    fn fetch(&self, url: &str) -> std::result::Result<Vec<u8>, String>;
}

/// Fails if a token is bound to a filter that no key could be bound to.
pub(crate) fn check_bound(who: &Principal) -> Result<()> {
    let Some(filter) = who.restriction().filter.as_ref().filter(|_| who.is_user()) else {
        return Ok(());
    };
    validate::bound(filter).map_err(|why| {
        let message = "the token is not valid: its filter is none";
        Error::new(ErrorKind::Unauthenticated, message).with_source(why)
    })
}

/// One task for each issuer, as long as the engine is there.
pub(crate) fn spawn(inner: &Arc<Inner>, with: &Arc<dyn KeyFetch>) {
    for keys in inner.authority.issuers().fetched() {
        let (weak, with, keys) = (Arc::downgrade(inner), Arc::clone(with), Arc::clone(keys));
        tokio::spawn(keep(weak, with, keys));
    }
}

async fn keep(weak: Weak<Inner>, with: Arc<dyn KeyFetch>, keys: Arc<FetchedKeys>) {
    loop {
        let again = match fetch(&weak, &with, &keys).await {
            Ok(()) => keys.every(),
            Err(why) => {
                tracing::warn!(issuer = keys.name(), %why, "fetch an issuer's keys; tried again");
                AGAIN_AFTER.min(keys.every())
            }
        };
        let begun = Instant::now();
        // Asked for during the fetch: answered by it.
        keys.take_wanted();
        while begun.elapsed() < again {
            tokio::time::sleep(LOOK_EVERY.min(again)).await;
            if weak.strong_count() == 0 {
                return;
            }
            if begun.elapsed() >= AGAIN_AFTER && keys.take_wanted() {
                break;
            }
        }
    }
}

async fn fetch(
    weak: &Weak<Inner>,
    with: &Arc<dyn KeyFetch>,
    keys: &Arc<FetchedKeys>,
) -> Fetched<()> {
    let (with, from, iss) = (Arc::clone(with), keys.source().clone(), keys.iss().to_owned());
    let fetched = tokio::task::spawn_blocking(move || match from {
        KeysFrom::Url(url) => with.fetch(&url),
        KeysFrom::Discovery(url) => with.fetch(&keys_url(&with.fetch(&url)?, &iss)?),
    });
    let text = fetched.await.map_err(|why| why.to_string())??;
    // The engine is gone: nobody asks any more.
    let Some(inner) = weak.upgrade() else { return Ok(()) };
    keys.take(&text, inner.clock.now())
}
