//! Endpoints of the operator's are told what happens.
//!
//! What is to be told is in the store, in the commits that it tells of. Every server tells: whoever
//! claims an event does so for some seconds, and if it dies another one does. An endpoint may be told
//! an event again, never a change that was not committed.

mod attempts;
mod message;

pub(crate) use attempts::Attempts;
pub(crate) use message::secret_text;

use crate::engine::Inner;
use message::post;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt::Debug,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tenantry_store::{Answered, Attempted, Delivery, OutboxTotals};
use tenantry_types::{Timestamp, WebhookUrl};

/// How often it is looked for what others have written, or whose time has come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often what waits is counted.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// The least time that a failed attempt takes: each is a commit of the installation's, for which
/// others wait.
const FAILED_TAKES: Duration = Duration::from_millis(250);
/// How long a claim lasts: longer than any attempt may take.
const LEASE: Duration = Duration::from_secs(20);
/// Attempts at one endpoint at once.
const AT_ONCE: usize = 4;
/// Attempts at telling one event: with the pauses between them, a little less than a day.
const ATTEMPTS_MAX: u32 = 17;
/// The first pause, and the longest.
const PAUSE: u64 = 5_000;
const PAUSE_MAX: u64 = 4 * 3_600_000;
/// Bytes of what is kept of why an attempt failed.
const WHY_BYTES_MAX: usize = 200;

/// A message to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookPost {
    /// Where to.
    pub url: WebhookUrl,
    /// Its headers, in lower case.
    pub headers: [(&'static str, String); 4],
    /// Its body, JSON.
    pub body: String,
}

/// Sends messages. Whoever implements it looks at the address that it connects to, bounds size and
/// time to less than 15 seconds, and follows nothing.
pub trait WebhookSend: Debug + Send + Sync {
    /// Why nothing can ever be sent to a URL, if that can be said without looking up its name.
    fn check(&self, url: &WebhookUrl) -> std::result::Result<(), String>;

    /// The status of the answer. May block.
    fn send(&self, post: &WebhookPost) -> std::result::Result<u16, String>;
}

/// Counters of what endpoints were told, since start, by this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WebhookTotals {
    /// Events that arrived.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events that were given up.
    pub given_up: u64,
    /// Events that were dropped because too many waited, or were dead.
    pub dropped: u64,
    /// Events that wait, as of a minute ago or so, of all processes.
    pub waiting: u64,
    /// Dead letters, likewise.
    pub dead: u64,
}

/// What a process knows of what is to be told.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    sender: OnceLock<Arc<dyn WebhookSend>>,
    pub(crate) attempts: Attempts,
    /// Attempts that are under way, by endpoint.
    under_way: Mutex<HashMap<u64, usize>>,
    counted: Mutex<OutboxTotals>,
    delivered: AtomicU64,
    failed: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
    random: RandomState,
}

impl Outbox {
    /// Why nothing could ever be sent to a URL; nothing is known where nobody sends.
    pub(crate) fn check(&self, url: &WebhookUrl) -> std::result::Result<(), String> {
        self.sender.get().map_or(Ok(()), |sender| sender.check(url))
    }

    pub(crate) fn totals(&self) -> WebhookTotals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let OutboxTotals { waiting, dead, .. } = *self.counted.lock();
        WebhookTotals {
            delivered: get(&self.delivered),
            failed: get(&self.failed),
            given_up: get(&self.given_up),
            dropped: get(&self.dropped),
            waiting,
            dead,
        }
    }

    fn free(&self, webhook: u64) -> usize {
        AT_ONCE.saturating_sub(self.under_way.lock().get(&webhook).copied().unwrap_or(0))
    }

    fn begin(&self, webhook: u64) {
        *self.under_way.lock().entry(webhook).or_default() += 1;
    }

    fn end(&self, webhook: u64) {
        let mut all = self.under_way.lock();
        if let Some(count) = all.get_mut(&webhook) {
            *count -= 1;
            if *count == 0 {
                all.remove(&webhook);
            }
        }
    }

    /// What follows from an answer.
    fn judge(&self, delivery: &Delivery, answer: Answer, now: Timestamp) -> Attempted {
        let last = match answer {
            Ok(200..=299) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                return Attempted::Delivered;
            }
            Ok(status) => Answered { status: Some(status), why: format!("status {status}") },
            Err(why) => Answered { status: None, why: shortened(why) },
        };
        self.failed.fetch_add(1, Ordering::Relaxed);
        let attempts = delivery.attempts.saturating_add(1);
        if attempts >= ATTEMPTS_MAX || !delivery.webhook.enabled {
            self.given_up.fetch_add(1, Ordering::Relaxed);
            let (webhook, event, why) = (&delivery.webhook.name, delivery.event.id, &last.why);
            tracing::warn!(%webhook, %event, attempts, why, "an event could not be delivered");
            return Attempted::Dead(last);
        }
        let random = self.random.hash_one((delivery.event.id.0, attempts));
        Attempted::Again(Timestamp(now.0.saturating_add(pause(attempts, random))), last)
    }
}

/// What an endpoint answered.
type Answer = std::result::Result<u16, String>;

fn shortened(mut why: String) -> String {
    let mut end = why.len().min(WHY_BYTES_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    why.truncate(end);
    why
}

/// Milliseconds until the next attempt: twice as long each time, and up to a fifth less, so that
/// those who failed together do not come back together.
fn pause(attempts: u32, random: u64) -> u64 {
    let doubled = attempts.saturating_sub(1).min(20);
    let pause = (PAUSE << doubled).min(PAUSE_MAX);
    pause - random % (pause / 5)
}

/// Tells endpoints for as long as the engine lives.
pub(crate) fn spawn(inner: &Arc<Inner>, with: Arc<dyn WebhookSend>) {
    let _ = inner.outbox.sender.set(Arc::clone(&with));
    let woken = inner.store.events();
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            let Some(inner) = weak.upgrade() else { return };
            let claimed = claim(&inner, &with).await;
            drop(inner);
            if claimed == 0 {
                let _ = tokio::time::timeout(LOOK_EVERY, woken.notified()).await;
            }
        }
    });
    let weak: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            let Some(inner) = weak.upgrade() else { return };
            tidy(&inner).await;
            drop(inner);
            tokio::time::sleep(TIDY_EVERY).await;
        }
    });
    attempts::spawn(inner);
    crate::break_glass::spawn(inner);
}

/// Takes what is to be told now; how many events that were.
async fn claim(inner: &Arc<Inner>, with: &Arc<dyn WebhookSend>) -> usize {
    let scope = inner.authority.system("tell webhooks what happened");
    let claimed =
        inner.store.claim_deliveries(&scope, |webhook| inner.outbox.free(webhook), LEASE).await;
    let claimed = match claimed {
        Ok(claimed) => claimed,
        Err(error) => {
            tracing::warn!(?error, "look for what webhooks are to be told; tried again");
            return 0;
        }
    };
    let count = claimed.len();
    for delivery in claimed {
        inner.outbox.begin(delivery.webhook.id());
        let (inner, with) = (Arc::clone(inner), Arc::clone(with));
        tokio::spawn(async move {
            let (webhook, begun) = (delivery.webhook.id(), tokio::time::Instant::now());
            if !deliver(&inner, with, delivery).await {
                tokio::time::sleep_until(begun + FAILED_TAKES).await;
            }
            inner.outbox.end(webhook);
            inner.store.events().notify_one();
        });
    }
    count
}

/// Makes an attempt; true if the event has arrived.
async fn deliver(inner: &Inner, with: Arc<dyn WebhookSend>, delivery: Delivery) -> bool {
    let now = inner.clock.now();
    let answer = if delivery.webhook.enabled {
        send(with, post(&delivery, now)).await
    } else {
        Err("the webhook is disabled".to_owned())
    };
    let attempted = inner.outbox.judge(&delivery, answer, inner.clock.now());
    let has_arrived = matches!(attempted, Attempted::Delivered);
    let scope = inner.authority.system("note what a webhook answered");
    if let Err(error) = inner.store.settle_delivery(&scope, delivery, attempted).await {
        // It is told again when the claim has ended.
        tracing::warn!(?error, "note what a webhook answered; it is told again");
    }
    has_arrived
}

/// On a thread of its own: a server that stops does not wait for what an endpoint answers.
async fn send(with: Arc<dyn WebhookSend>, post: WebhookPost) -> Answer {
    let (tell, told) = tokio::sync::oneshot::channel();
    let sender = std::thread::Builder::new().name("webhook".to_owned());
    let begun = sender.spawn(move || {
        // Whoever has asked may be gone.
        let _ = tell.send(with.send(&post));
    });
    match begun {
        Ok(_) => told.await.unwrap_or_else(|why| Err(why.to_string())),
        Err(why) => Err(why.to_string()),
    }
}

async fn tidy(inner: &Inner) {
    let scope = inner.authority.system("count what webhooks are to be told");
    match inner.store.tidy_deliveries(&scope).await {
        Ok(totals) => {
            if totals.dropped > 0 {
                let dropped = totals.dropped;
                tracing::error!(dropped, "events for webhooks were dropped: too many wait");
                inner.outbox.dropped.fetch_add(dropped, Ordering::Relaxed);
            }
            *inner.outbox.counted.lock() = totals;
        }
        Err(error) => tracing::warn!(?error, "count what webhooks are to be told"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, Engine, EngineConfig};
    use tenantry_store::{EmbeddedConfig, Store};
    use tenantry_types::{Clock, EventKinds, WebhookName};

    /// A clock that the test moves.
    #[derive(Debug)]
    struct HandClock(AtomicU64);

    impl HandClock {
        fn advance(&self, by: u64) {
            self.0.fetch_add(by, Ordering::SeqCst);
        }
    }

    impl Clock for HandClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    /// An endpoint that takes nothing; how often it was asked.
    #[derive(Debug, Default)]
    struct Down(AtomicU64);

    impl WebhookSend for Down {
        fn check(&self, _: &WebhookUrl) -> std::result::Result<(), String> {
            Ok(())
        }

        fn send(&self, _: &WebhookPost) -> std::result::Result<u16, String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(503)
        }
    }

    #[tokio::test]
    async fn what_an_endpoint_did_not_take_for_a_day_is_a_dead_letter() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(HandClock(AtomicU64::new(1_800_000_000_000)));
        let mut config = EmbeddedConfig::new(folder.path().join("data"));
        config.clock = clock.clone();
        let (store, authority) = (Store::open_embedded(config).unwrap(), Authority::new());
        let engine = Engine::start(EngineConfig { store, authority, clock: clock.clone() });
        let inner = &engine.0;
        let operator = engine.operator(&engine.local_operator().await.unwrap()).unwrap();
        let (name, began) = (WebhookName::parse("w").unwrap(), clock.now());
        let url = WebhookUrl::parse("https://w.example/").unwrap();
        operator.create_webhook(name.clone(), url, EventKinds::default()).await.unwrap();
        let id = operator.test_webhook(&name).await.unwrap();

        let scope = inner.authority.system("tell webhooks in a test");
        let due = async || inner.store.claim_deliveries(&scope, |_| AT_ONCE, LEASE).await.unwrap();
        let down = Arc::new(Down::default());
        for attempt in 1..=ATTEMPTS_MAX {
            let mut claimed = due().await;
            assert_eq!(claimed.len(), 1, "attempt {attempt}");
            let delivery = claimed.remove(0);
            assert_eq!((delivery.event.id, delivery.attempts), (id, attempt - 1));
            assert!(!deliver(inner, down.clone(), delivery).await);
            // After the longest of the pauses, and not before the shortest.
            let most = pause(attempt, 0);
            clock.advance(most / 5 * 4);
            assert!(due().await.is_empty(), "attempt {attempt}");
            clock.advance(most - most / 5 * 4);
        }
        assert!(due().await.is_empty());
        assert_eq!(down.0.load(Ordering::SeqCst), u64::from(ATTEMPTS_MAX));
        let letters = operator.dead_letters(&name, None, 10).await.unwrap();
        let [letter] = letters.as_slice() else { panic!("{letters:?}") };
        assert_eq!((letter.event.id, letter.attempts), (id, ATTEMPTS_MAX));
        assert_eq!(letter.last.status, Some(503));
        let hours = (letter.died_at.0 - began.0) / 3_600_000;
        assert!((20..24).contains(&hours), "{hours}");
        let totals = inner.outbox.totals();
        assert_eq!((totals.failed, totals.given_up), (u64::from(ATTEMPTS_MAX), 1));

        // Sent again by hand it is an event like a new one.
        operator.retry_dead_letter(&name, id).await.unwrap();
        let again = due().await;
        assert_eq!((again.len(), again[0].attempts), (1, 0));
    }

    #[test]
    fn pauses_double_and_all_of_them_are_less_than_a_day() {
        let pauses: Vec<u64> = (1..ATTEMPTS_MAX).map(|n| pause(n, 0)).collect();
        assert_eq!(pauses[..4], [5_000, 10_000, 20_000, 40_000]);
        assert_eq!(pauses.last(), Some(&PAUSE_MAX));
        let hours = pauses.iter().sum::<u64>() / 3_600_000;
        assert!((20..24).contains(&hours), "{hours}");
        let shorter = (0..10_000).map(|random| pause(1, random));
        assert!(shorter.clone().all(|one| (4_000..=5_000).contains(&one)));
        assert!(shorter.min() < Some(4_100));
        assert!(pause(u32::MAX, u64::MAX) <= PAUSE_MAX);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        assert_eq!(shortened("🦀".repeat(100)), "🦀".repeat(50));
        assert_eq!(shortened("x".to_owned()), "x");
    }

    #[test]
    fn an_endpoint_has_so_many_attempts_at_once_and_no_more() {
        let outbox = Outbox::default();
        for _ in 0..AT_ONCE {
            outbox.begin(1);
        }
        assert_eq!((outbox.free(1), outbox.free(2)), (0, AT_ONCE));
        outbox.end(1);
        assert_eq!(outbox.free(1), 1);
        (1..AT_ONCE).for_each(|_| outbox.end(1));
        assert!(outbox.under_way.lock().is_empty());
    }
}
