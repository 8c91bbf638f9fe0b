//! The first look at what a tenant has used: one at a time, whoever asks.
//!
//! Its requests wait for it, and a place that does not answer would hold all of them. So they wait for
//! so long and no longer, and after a look that failed nobody looks for a while.

use parking_lot::Mutex;
use std::{pin::pin, sync::Arc, time::Duration};
use tenantry_types::{Error, ErrorKind, Result};
use tokio::time::{Instant, timeout};

/// No request waits longer, for its own look or for another's.
const WAIT_MAX: Duration = Duration::from_secs(3);
/// After a look that failed, requests are refused for so long without one.
const REST: Duration = Duration::from_secs(1);

/// Nobody is admitted of whom it is not known what is used.
pub(super) fn unknown() -> Error {
    let message = "it is not known how much of this tenant's budgets is used; retry soon";
    Error::new(ErrorKind::Unavailable, message).with_retry_after(REST.as_secs())
}

/// Of one tenant.
#[derive(Debug, Default)]
pub(super) struct FirstLook {
    turn: tokio::sync::Mutex<()>,
    failed: Mutex<Option<Instant>>,
}

impl FirstLook {
    fn rests(&self) -> bool {
        self.failed.lock().is_some_and(|at| at.elapsed() < REST)
    }

    fn fail(&self) {
        *self.failed.lock() = Some(Instant::now());
    }

    /// False if nothing would be lost without it.
    pub(super) fn is_needed(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.rests()
    }

    /// Looks, unless it is known when its turn comes. [`ErrorKind::Unavailable`] if that lasts too
    /// long or was tried in vain just now; otherwise what the look fails with.
    pub(super) async fn look(
        &self,
        is_known: impl Fn() -> bool,
        look: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        if self.rests() {
            return Err(unknown());
        }
        let mut looking = pin!(async {
            let _turn = self.turn.lock().await;
            if is_known() {
                return Ok(());
            }
            if self.rests() {
                return Err(unknown());
            }
            // Said before the next one has its turn.
            look.await.inspect_err(|_| self.fail())
        });
        let looked = timeout(WAIT_MAX, looking.as_mut()).await;
        looked.unwrap_or_else(|_| {
            // Here as well: the turn is held until this returns.
            self.fail();
            Err(unknown())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };
    use tokio::{task::JoinSet, time::sleep};

    const LOOK: Duration = Duration::from_millis(100);

    /// How a look ends.
    #[derive(Clone, Copy)]
    enum End {
        Fails,
        Never,
        Well,
    }

    #[derive(Default)]
    struct Tenant {
        first: FirstLook,
        looks: AtomicUsize,
        known: Mutex<bool>,
    }

    impl Tenant {
        /// A request, and how the look ends if it makes one.
        async fn ask(&self, end: End) -> Result<()> {
            let look = async {
                self.looks.fetch_add(1, Ordering::Relaxed);
                sleep(LOOK).await;
                match end {
                    End::Fails => Err(Error::new(ErrorKind::Unavailable, "down")),
                    End::Never => pending().await,
                    End::Well => {
                        *self.known.lock() = true;
                        Ok(())
                    }
                }
            };
            self.first.look(|| *self.known.lock(), look).await
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
    async fn nobody_waits_for_ever_for_a_place_that_does_not_answer() {
        let tenant = Arc::new(Tenant::default());
        let (served, waited) = tenant.storm(End::Never).await;
        assert!(served == 0 && waited < WAIT_MAX + LOOK, "{waited:?}");
        assert_eq!(tenant.looks(), 1);
        sleep(REST).await;
        assert_eq!(tenant.storm(End::Well).await.0, 100);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_away_leaves_its_look_to_the_next() {
        let tenant = Arc::new(Tenant::default());
        let gone = timeout(LOOK / 2, tenant.ask(End::Never)).await;
        assert!(gone.is_err() && !tenant.first.rests());
        tenant.ask(End::Well).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_remembered_as_long_as_it_counts() {
        let tenant = Arc::new(FirstLook::default());
        assert!(!tenant.is_needed());
        let failing = async { Err(Error::new(ErrorKind::Unavailable, "down")) };
        tenant.look(|| false, failing).await.unwrap_err();
        assert!(tenant.is_needed());
        sleep(REST).await;
        assert!(!tenant.is_needed());
    }
}
