//! What a piece of work has cost, by the clock of the thread that did it.

use std::{
    thread::{self, ThreadId},
    time::Instant,
};

/// A place held without computing (a wait for the disk) costs this part of its time, so that
/// work that only waits cannot keep a place from others for nothing.
const IDLE_PART: u64 = 8;

/// A reading of both clocks on one thread, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    thread: ThreadId,
    cpu: u64,
    wall: u64,
}

/// What was used between two readings, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// CPU time, for the bill.
    pub(super) cpu: u64,
    /// What the fair order reckons with: CPU time, or a part of the time the place was held.
    pub(super) cost: u64,
}

impl Moment {
    pub(super) fn used_until(self, now: Self) -> Used {
        let wall = now.wall.saturating_sub(self.wall);
        // Two threads' clocks have nothing to do with each other. No thread computes longer than
        // time passes, so that is charged.
        let cpu = if self.is_here(now) { now.cpu.saturating_sub(self.cpu).min(wall) } else { wall };
        Used { cpu, cost: cpu.max(wall / IDLE_PART) }
    }

    pub(super) fn is_here(self, now: Self) -> bool {
        self.thread == now.thread
    }

    /// Nanoseconds of real time from this reading to `wall`.
    pub(super) fn wall_until(self, wall: u64) -> u64 {
        wall.saturating_sub(self.wall)
    }
}

impl Used {
    pub(super) fn add(&mut self, more: Self) {
        self.cpu += more.cpu;
        self.cost += more.cost;
    }
}

/// Where readings come from. The program uses [`ThreadMeter`]; tests own their time.
pub(super) trait Meter: Send + Sync {
    /// Nanoseconds of real time since some fixed moment.
    fn wall(&self) -> u64;

    /// Nanoseconds of CPU time of this thread since some fixed moment.
    fn cpu(&self) -> u64;

    /// Both clocks, here and now.
    fn now(&self) -> Moment {
        Moment { thread: thread::current().id(), cpu: self.cpu(), wall: self.wall() }
    }
}

/// The system's clocks.
pub(super) struct ThreadMeter {
    start: Instant,
}

impl ThreadMeter {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Meter for ThreadMeter {
    fn wall(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    fn cpu(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or_default()
    }

    /// No such clock is known here: real time stands in for it.
    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    fn cpu(&self) -> u64 {
        self.wall()
    }
}
