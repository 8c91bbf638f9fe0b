//! The pace that whoever takes or sends an archive must keep: meanwhile a file of the server's disk
//! is held for him, and one of few places.

use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Bytes that earn one more second.
const BYTES_PER_SECOND: u64 = 64 << 10;

/// The time that somebody has left. It is spent while he is waited for and earned by bytes, and it
/// is never more than at the beginning: however fast he was, he cannot stop for longer, and he
/// cannot trickle for long.
#[derive(Debug)]
pub(super) struct Pace {
    left: Duration,
    most: Duration,
}

impl Pace {
    pub(super) fn new(most: Duration) -> Self {
        Self { left: most, most }
    }

    /// Waits for somebody; none if he takes longer than he may.
    pub(super) async fn wait<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let begun = Instant::now();
        let outcome = timeout(self.left, what).await.ok();
        self.left = self.left.saturating_sub(begun.elapsed());
        outcome
    }

    /// He has taken, or sent, so many bytes.
    pub(super) fn earn(&mut self, bytes: u64) {
        let earned = Duration::from_micros(bytes.saturating_mul(1_000_000) / BYTES_PER_SECOND);
        self.left = self.left.saturating_add(earned).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;
    use tokio::time::sleep;

    const MOST: Duration = Duration::from_secs(60);

    /// How long it takes until somebody is not waited for any more who does this again and again.
    async fn cut(bytes: u64, pause: u64) -> Option<Duration> {
        let (mut pace, begun) = (Pace::new(MOST), Instant::now());
        // He has earned all that he can.
        pace.earn(64 << 30);
        for _ in 0..10_000 {
            if pace.wait(sleep(Duration::from_secs(pause))).await.is_none() {
                return Some(begun.elapsed());
            }
            pace.earn(bytes);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_or_trickles_is_cut_however_fast_he_was() {
        let (mut pace, begun) = (Pace::new(MOST), Instant::now());
        pace.earn(u64::MAX);
        assert!(pace.wait(pending::<()>()).await.is_none());
        let about = |seconds, took: Duration| took.as_secs().abs_diff(seconds) <= 2;
        assert!(about(60, begun.elapsed()));
        assert!(about(60, cut(1, 50).await.unwrap()));
        // Half as fast as he must be.
        assert!(about(120, cut(64 << 10, 2).await.unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_keeps_the_pace_is_waited_for_as_long_as_it_takes() {
        assert_eq!(cut(64 << 10, 1).await, None);
        assert_eq!(cut(64 << 20, 59).await, None);
    }
}
