//! The first look at what a tenant has used: one at a time, whoever asks.
//!
//! It is a task of its own, which no request ends: what takes long is found for those who ask later.
//! Requests wait for it for so long and no longer, since a place that does not answer would hold all of
//! them. After a look that failed nobody looks for a while; only the look itself says that it did. One
//! that panics has failed, and one that does not end is ended: it keeps the engine, which may be closed.

use parking_lot::Mutex;
use std::{pin::pin, sync::Arc, time::Duration};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::{
    sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

/// No request waits longer, for a look that it began or for another's.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// After a look that failed, requests are refused for so long without one.
const REST: Duration = Duration::from_secs(1);
/// Tenants that are looked at at the same time: after a start all of them come at once.
const AT_ONCE: usize = 32;
/// What a tenant itself is asked and takes longer goes on beside the others: one that does not answer
/// must not keep those from being looked at that do.
const PLACE_FOR: Duration = Duration::from_millis(100);

/// A look is given up that takes longer, once it has its place.
pub(super) const LASTS_MAX: Duration = Duration::from_secs(120);

/// Nobody is admitted of whom it is not known what is used.
pub(super) fn unknown() -> Error {
    let message = "it is not known how much of this tenant's budgets is used; retry soon";
    Error::new(ErrorKind::Unavailable, message).with_retry_after(REST.as_secs())
}

/// Where all tenants' first looks are made.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Semaphore>);

impl Default for Places {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Places {
    /// When it is one's turn.
    async fn take(self) -> Place {
        // Nobody closes it.
        Place(self.0.acquire_owned().await.ok())
    }
}

/// One of these places: what all tenants have in common is looked at as long as it is held.
#[derive(Debug)]
pub(super) struct Place(Option<OwnedSemaphorePermit>);

impl Place {
    /// Waits for the rest, which concerns one tenant, and gives the place up if that lasts.
    pub(super) async fn beside<T>(self, rest: impl Future<Output = T>) -> T {
        let mut rest = pin!(rest);
        if let Ok(done) = timeout(PLACE_FOR, rest.as_mut()).await {
            return done;
        }
        drop(self.0);
        rest.await
    }
}

/// A look that is under way: unless it ends well it has failed, in whatever way it ends.
struct Looking<'a> {
    first: &'a FirstLook,
    is_well: bool,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        if !self.is_well {
            *self.first.failed.lock() = Some(Instant::now());
        }
    }
}

/// Of one tenant.
#[derive(Debug, Default)]
pub(super) struct FirstLook {
    /// A look holds it until it is done.
    turn: Arc<tokio::sync::Mutex<()>>,
    failed: Mutex<Option<Instant>>,
}

impl FirstLook {
    fn rests(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < REST)
    }

    /// False if nothing would be lost without it.
    pub(super) fn is_needed(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.rests()
    }

    /// Has somebody look, unless it is known when its turn comes. [`ErrorKind::Unavailable`] if that
    /// lasts too long, in which case the look goes on, or if it was tried in vain just now; otherwise
    /// what the look fails with.
    pub(super) async fn look<F>(
        self: &Arc<Self>,
        places: &Places,
        is_known: impl Fn() -> bool,
        look: impl FnOnce(Place) -> F + Send + 'static,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        if self.rests() {
            return Err(unknown());
        }
        let looked = timeout(WAIT_MAX, async {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            if is_known() {
                return Ok(());
            }
            if self.rests() {
                return Err(unknown());
            }
            let place = places.clone().take();
            let look = async move {
                let place = place.await;
                timeout(LASTS_MAX, look(place)).await.unwrap_or_else(|_| Err(unknown()))
            };
            let looking = Arc::clone(self).hold(turn, look);
            match tokio::spawn(looking).await {
                Ok(looked) => looked,
                Err(why) => Err(Error::internal("a look was aborted").with_source(why)),
            }
        });
        looked.await.unwrap_or_else(|_| Err(unknown()))
    }

    /// Looks in its turn, to the end.
    async fn hold(
        self: Arc<Self>,
        turn: OwnedMutexGuard<()>,
        look: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        // Whatever happens, it is dropped before the turn: the next one knows how this one ended.
        let mut looking = Looking { first: &self, is_well: false };
        let looked = look.await;
        looking.is_well = looked.is_ok();
        drop(looking);
        drop(turn);
        looked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::{task::JoinSet, time::sleep};

    const LOOK: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_secs(2 * WAIT_MAX.as_secs());

    /// How a look ends.
    #[derive(Clone, Copy)]
    enum End {
        Fails,
        FailsLate,
        Late,
        Never,
        Panics,
        Well,
    }

    #[derive(Default)]
    struct Tenant {
        first: Arc<FirstLook>,
        places: Places,
        looks: AtomicUsize,
        known: Mutex<bool>,
    }

    impl Tenant {
        /// A request, and how the look ends if it begins one.
        async fn ask(self: &Arc<Self>, end: End) -> Result<()> {
            let this = Arc::clone(self);
            let look = async move {
                this.looks.fetch_add(1, Ordering::Relaxed);
                sleep(match end {
                    End::Late | End::FailsLate => LATE,
                    End::Never => 2 * LASTS_MAX,
                    End::Fails | End::Panics | End::Well => LOOK,
                })
                .await;
                assert!(!matches!(end, End::Panics), "as it was asked to");
                if matches!(end, End::Fails | End::FailsLate) {
                    return Err(Error::new(ErrorKind::Unavailable, "down"));
                }
                *this.known.lock() = true;
                Ok(())
            };
            let look = move |place: Place| place.beside(look);
            self.first.look(&self.places, || *self.known.lock(), look).await
        }

        /// Requests at the same time; how many were served, and how long all of them took.
        async fn storm(self: &Arc<Self>, end: End) -> (usize, Duration) {
            let (begun, mut all) = (Instant::now(), JoinSet::new());
            for _ in 0..100 {
                let this = Arc::clone(self);
                all.spawn(async move { this.ask(end).await });
            }
            let mut served = 0;
            for asked in all.join_all().await {
                match asked {
                    Ok(()) => served += 1,
                    Err(why) => {
                        assert_eq!(why.kind(), ErrorKind::Unavailable);
                        assert_eq!(why.retry_after(), Some(1));
                    }
                }
            }
            (served, begun.elapsed())
        }

        fn looks(&self) -> usize {
            self.looks.load(Ordering::Relaxed)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_is_not_made_again_by_each_request() {
        let tenant = Arc::new(Tenant::default());
        for end in [End::Fails, End::Well] {
            let (served, waited) = tenant.storm(end).await;
            assert!(served == 0 && waited < 2 * LOOK, "{waited:?}");
        }
        assert_eq!(tenant.looks(), 1);
        sleep(REST).await;
        assert_eq!(tenant.storm(End::Well).await.0, 100);
        assert_eq!(tenant.looks(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_panics_has_failed() {
        let tenant = Arc::new(Tenant::default());
        let (one, two) = tokio::join!(tenant.ask(End::Panics), tenant.ask(End::Well));
        assert_eq!(one.unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(two.unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!((tenant.storm(End::Well).await.0, tenant.looks()), (0, 1));
        sleep(REST).await;
        assert_eq!((tenant.storm(End::Well).await.0, tenant.looks()), (100, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_does_not_end_is_given_up_and_keeps_nothing() {
        let tenant = Arc::new(Tenant::default());
        assert_eq!(tenant.storm(End::Never).await.0, 0);
        assert!(!tenant.first.rests());
        sleep(LASTS_MAX.saturating_sub(WAIT_MAX) + LOOK).await;
        assert!(tenant.first.rests());
        assert_eq!((Arc::strong_count(&tenant), Arc::strong_count(&tenant.first)), (1, 1));
        sleep(REST).await;
        assert_eq!((tenant.storm(End::Well).await.0, tenant.looks()), (100, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_takes_long_holds_nobody_and_is_not_lost() {
        let tenant = Arc::new(Tenant::default());
        let (served, waited) = tenant.storm(End::Late).await;
        assert!(served == 0 && waited < WAIT_MAX + LOOK, "{waited:?}");
        // Nothing has failed, and whoever comes now waits for the same look.
        assert!(!tenant.first.rests() && tenant.first.is_needed());
        sleep(WAIT_MAX / 2).await;
        assert_eq!(tenant.storm(End::Fails).await.0, 100);
        assert_eq!(tenant.looks(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_failure_is_one_from_when_it_happens() {
        let tenant = Arc::new(Tenant::default());
        assert_eq!(tenant.storm(End::FailsLate).await.0, 0);
        assert!(!tenant.first.rests());
        sleep((LATE + LOOK).saturating_sub(WAIT_MAX)).await;
        assert!(tenant.first.rests());
        assert_eq!(tenant.storm(End::Well).await.0, 0);
        assert_eq!(tenant.looks(), 1);
        sleep(REST).await;
        assert_eq!(tenant.storm(End::Well).await.0, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn the_look_of_whoever_goes_away_is_the_next_ones() {
        let tenant = Arc::new(Tenant::default());
        let gone = timeout(LOOK / 2, tenant.ask(End::Well)).await;
        assert!(gone.is_err() && !tenant.first.rests());
        tenant.ask(End::Fails).await.unwrap();
        assert_eq!(tenant.looks(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_look_at_once_and_none_for_ever() {
        let (places, mut all) = (Places::default(), JoinSet::new());
        let tenant = || Arc::new(Tenant { places: places.clone(), ..Tenant::default() });
        for _ in 0..AT_ONCE {
            let slow = tenant();
            all.spawn(async move { slow.ask(End::Late).await });
        }
        sleep(PLACE_FOR / 10).await;
        let (last, begun) = (tenant(), Instant::now());
        let early = timeout(PLACE_FOR / 2, last.ask(End::Well)).await;
        assert!(early.is_err() && last.looks() == 0);
        last.ask(End::Fails).await.unwrap();
        assert!(begun.elapsed() < PLACE_FOR + 2 * LOOK, "{:?}", begun.elapsed());
        assert!(all.join_all().await.iter().all(Result::is_err));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_as_long_as_it_counts() {
        let tenant = Arc::new(FirstLook::default());
        assert!(!tenant.is_needed());
        let failing = async { Err(Error::new(ErrorKind::Unavailable, "down")) };
        tenant.look(&Places::default(), || false, move |_| failing).await.unwrap_err();
        assert!(tenant.is_needed());
        sleep(REST).await;
        assert!(!tenant.is_needed());
    }
}
