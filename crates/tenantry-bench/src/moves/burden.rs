//! What a move uses of the machine, and a plain program that uses as much: what of a neighbour's
//! delay any program would cause that computes and writes beside it.

use crate::server::{tree_cpu_seconds, tree_written_bytes};
use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// How often the plain program writes, waits for the disk, and computes.
const TURN: Duration = Duration::from_millis(10);
/// Turns a second.
const TURNS: u64 = 100;
/// After so much computing it gives its turn away, as the mover does.
const STRETCH: Duration = Duration::from_micros(300);
/// The file is written from its beginning again from this size on, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What processes and those that they started have used so far, by the system's account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    at: Instant,
    cpu_seconds: f64,
    written_bytes: u64,
}

impl Used {
    pub(super) fn by(processes: &[u32]) -> Self {
        Self {
            at: Instant::now(),
            cpu_seconds: processes.iter().copied().map(tree_cpu_seconds).sum(),
            written_bytes: processes.iter().copied().map(tree_written_bytes).sum(),
        }
    }

    /// What it has used each second since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Burden {
        let time = self.at.saturating_duration_since(earlier.at).max(Duration::from_millis(1));
        let written = self.written_bytes.saturating_sub(earlier.written_bytes);
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Burden {
            cores: (self.cpu_seconds - earlier.cpu_seconds) / time.as_secs_f64(),
            bytes: written.saturating_mul(1_000) / millis,
        }
    }
}

/// What is used each second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Burden {
    /// CPU seconds.
    pub(super) cores: f64,
    /// Bytes that go to the disk.
    pub(super) bytes: u64,
}

impl Burden {
    /// What `self` is more than `usual`; nothing is less than nothing.
    pub(super) fn above(self, usual: Self) -> Self {
        let cores = (self.cores - usual.cores).max(0.0);
        Self { cores, bytes: self.bytes.saturating_sub(usual.bytes) }
    }

    /// The mean of some; `None` of none.
    pub(super) fn mean(some: impl Iterator<Item = Self>) -> Option<Self> {
        let (count, sum) = some.fold((0_u32, Self::default()), |(count, sum), one| {
            (count + 1, Self { cores: sum.cores + one.cores, bytes: sum.bytes + one.bytes })
        });
        let bytes = sum.bytes.checked_div(u64::from(count))?;
        Some(Self { cores: sum.cores / f64::from(count), bytes })
    }

    /// Uses as much for some time, in one thread, with a file of its own in `folder`.
    pub(super) fn carry(self, time: Duration, folder: &Path) -> Result<()> {
        let mut file = File::create(folder.join("burden"))?;
        let bytes = self.bytes / TURNS;
        let noise = vec![0x5a; usize::try_from(bytes)?];
        let (started, before) = (Instant::now(), thread_cpu());
        let mut due = Duration::ZERO;
        while started.elapsed() < time {
            if started.elapsed() >= due {
                if file.stream_position()? + bytes > FILE_BYTES_MAX {
                    file.seek(SeekFrom::Start(0))?;
                }
                file.write_all(&noise)?;
                file.sync_data()?;
                due += TURN;
            }
            if thread_cpu().saturating_sub(before) < started.elapsed().mul_f64(self.cores) {
                compute();
                thread::yield_now();
            } else {
                thread::sleep(STRETCH);
            }
        }
        Ok(())
    }
}

/// Computes for a stretch.
fn compute() {
    let (started, mut hash) = (Instant::now(), blake3::Hasher::new());
    while started.elapsed() < STRETCH {
        hash.update(&[1; 4_096]);
    }
    std::hint::black_box(hash.finalize());
}

/// CPU time of this thread since some fixed moment.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_used_as_was_measured() {
        let folder = crate::process::empty_folder("burden-test").unwrap();
        let before = thread_cpu();
        let burden = Burden { cores: 0.2, bytes: 1_000_000 };
        burden.carry(Duration::from_millis(500), &folder).unwrap();
        // Less on a machine that has other work, never much more.
        let used = thread_cpu().saturating_sub(before).as_secs_f64();
        assert!((0.01..0.2).contains(&used), "{used}");
        let written = std::fs::metadata(folder.join("burden")).unwrap().len();
        assert!((10_000..600_000).contains(&written), "{written}");
        let more = burden.above(Burden { cores: 0.5, bytes: 400_000 });
        assert_eq!((more.cores.to_bits(), more.bytes), (0, 600_000));
    }
}
