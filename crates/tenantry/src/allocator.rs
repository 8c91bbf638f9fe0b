//! What glibc's `malloc` does with memory that was freed.
//!
//! By default every few threads have a heap of their own, and a piece that is freed in one is of
//! no use in another: a server that drops partitions and loads others takes up to twice what it
//! holds. And `malloc` learns from the first large piece that is freed to keep such pieces. Both
//! can be set, but only before the program starts, so the program starts once more. Other
//! allocators take no notice.

use std::{env, os::unix::process::CommandExt as _, process::Command, thread};

/// Heaps. Its presence says that the program was started with settings, ours or the operator's.
const HEAPS: &str = "MALLOC_ARENA_MAX";
/// From which size on pieces are taken from the system and given back to it.
const LARGE: &str = "MALLOC_MMAP_THRESHOLD_";
const LARGE_BYTES: usize = 128 << 10;
/// The other way to set anything of it.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// Starts the program once more with settings for `malloc`, unless there are some. Called before
/// there is a second thread, or anything that another start would lose.
pub(crate) fn settle() {
    if !cfg!(all(target_os = "linux", target_env = "gnu"))
        || [HEAPS, LARGE, TUNABLES].iter().any(|name| env::var_os(name).is_some())
    {
        return;
    }
    let Ok(program) = env::current_exe() else { return };
    let mut arguments = env::args_os();
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only if it fails, for instance because the program was replaced: then memory is
    // used less well, which is no reason not to serve.
    let _ = again
        .args(arguments)
        .env(HEAPS, heaps().to_string())
        .env(LARGE, LARGE_BYTES.to_string())
        .exec();
}

/// One heap for four cores: more are of use only to as many threads that allocate all the time.
fn heaps() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(4))
}
