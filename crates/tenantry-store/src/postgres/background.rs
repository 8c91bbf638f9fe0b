//! Tasks that go on as long as the store.

use std::{sync::Weak, time::Duration};

/// After a task has panicked.
const PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 5 });

/// Starts a task that ends with the store. If it panics, which is a bug and is logged, it is
/// started again: what the store owes others does not end with it.
pub(super) fn spawn<S, F>(
    name: &'static str,
    of: Weak<S>,
    task: impl Fn(Weak<S>) -> F + Send + 'static,
) where
    S: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        while let Err(why) = tokio::spawn(task(Weak::clone(&of))).await {
            if !why.is_panic() {
                return;
            }
            tracing::error!(name, %why, "a task in the background died; it is started again");
            tokio::time::sleep(PAUSE).await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Instant,
    };

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_until_it_ends() {
        let runs = Arc::new(AtomicUsize::new(0));
        spawn("test", Arc::downgrade(&runs), |runs: Weak<AtomicUsize>| async move {
            let runs = runs.upgrade().expect("there");
            assert!(runs.fetch_add(1, Ordering::SeqCst) >= 2, "it dies twice");
        });
        let begun = Instant::now();
        while runs.load(Ordering::SeqCst) < 3 && begun.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // It has ended.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }
}
