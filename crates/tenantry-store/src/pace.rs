//! What long work does now and then: gives its place up if somebody waits, and
//! ends when it has taken too long.

use crate::pool::Turn;
use std::time::Duration;
use tenantry_types::{Error, ErrorKind, Result};

/// CPU time that one request may take on records. It is the request's own time: others cannot
/// make a request fail by making it wait.
const CPU_MAX: Duration = Duration::from_secs(10);
/// CPU time after which work that was thought to be small moves to a thread that may block.
const INLINE_CPU_MAX: Duration = Duration::from_millis(1);

/// The pace of one piece of work.
pub(crate) struct Pace<'a> {
    turn: &'a mut Turn,
    may_block: bool,
    cpu_max: Duration,
}

impl<'a> Pace<'a> {
    /// For small work on a thread that must not block. It ends when it proves not to be small; see
    /// [`Pace::has_overrun`].
    pub(crate) fn inline(turn: &'a mut Turn) -> Self {
        Self { turn, may_block: false, cpu_max: INLINE_CPU_MAX }
    }

    /// For work on a thread that may block.
    pub(crate) fn blocking(turn: &'a mut Turn) -> Self {
        Self { turn, may_block: true, cpu_max: CPU_MAX }
    }

    /// The same for a request that has used some of its time before.
    pub(crate) fn going_on(turn: &'a mut Turn, used: Duration) -> Self {
        Self { turn, may_block: true, cpu_max: CPU_MAX.saturating_sub(used) }
    }

    /// To be called several times a millisecond. [`ErrorKind::LimitExceeded`] when the work has
    /// used its time.
    pub(crate) fn tick(&mut self) -> Result<()> {
        if self.may_block {
            self.turn.pause();
        }
        if self.turn.has_used(self.cpu_max) {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!("the request took more than {CPU_MAX:?} of CPU time"),
            ));
        }
        Ok(())
    }

    /// True where a thread may be held for long.
    pub(crate) fn may_block(&self) -> bool {
        self.may_block
    }

    /// True if work ended because it was not as small as it was thought to be.
    pub(crate) fn has_overrun(&self) -> bool {
        !self.may_block && self.turn.has_used(self.cpu_max)
    }

    /// CPU time used.
    pub(crate) fn cpu(&self) -> Duration {
        self.turn.cpu()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{Class, Pool, PoolConfig};
    use tenantry_auth::TenantId;

    #[test]
    fn work_ends_when_its_time_is_over() {
        let pool = Pool::new(PoolConfig::default());
        let mut turn = pool.try_turn(TenantId::new(1), 100, Class::Request).expect("a place");
        let mut pace = Pace::inline(&mut turn);
        assert!(pace.tick().is_ok());
        pace.cpu_max = Duration::ZERO;
        assert_eq!(pace.tick().unwrap_err().kind(), ErrorKind::LimitExceeded);
    }
}
