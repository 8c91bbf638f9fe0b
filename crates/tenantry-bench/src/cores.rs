//! Which cores of the machine are whose.

use anyhow::{Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Starts something that has the last core for itself, as if it ran on another machine. The calling
/// thread, and whatever it starts from then on, has the others.
pub(crate) fn apart<T>(start: impl FnOnce() -> Result<T>) -> Result<T> {
    let (theirs, ours) = split(sched_getaffinity(None)?)?;
    sched_setaffinity(None, &theirs)?;
    let started = start();
    sched_setaffinity(None, &ours)?;
    started
}

/// The last one of some cores, and the others.
fn split(all: CpuSet) -> Result<(CpuSet, CpuSet)> {
    let (mut last, mut others) = (CpuSet::new(), all);
    let cores = (0..CpuSet::MAX_CPU).rev().find(|core| all.is_set(*core));
    ensure!(all.count() > 1, "this machine has one core: nothing can be apart on it");
    if let Some(core) = cores {
        last.set(core);
        others.unset(core);
    }
    Ok((last, others))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_core_is_one_of_those_that_there_are() {
        let mut all = CpuSet::new();
        all.set(1);
        assert!(split(all).is_err());
        all.set(4);
        let (last, others) = split(all).unwrap();
        assert!(last.is_set(4) && last.count() == 1);
        assert!(others.is_set(1) && others.count() == 1);
    }
}
