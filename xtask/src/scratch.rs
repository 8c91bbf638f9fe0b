//! Where tests write.

use anyhow::{Context, Result};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{self, Command},
};

/// Where Linux has a file system in memory.
const MEMORY: &str = "/dev/shm";
/// Bytes that a run has room for, and that the machine must have free: several times what one takes.
const ROOM: u64 = 8 << 30;
const NAME: &str = "tenantry-tests-";

/// A folder in memory, if this machine has one with room: tests wait for a disk longer than for
/// anything else. Those that kill a program lose nothing of what they show by it, since the kernel
/// keeps what a process has written; a machine that fails is shown by none. Dropping it removes all.
#[derive(Debug)]
pub(crate) struct Scratch(Option<PathBuf>);

impl Scratch {
    /// Makes it, and removes what killed runs have left.
    pub(crate) fn make() -> Result<Self> {
        if !has_room() {
            return Ok(Self(None));
        }
        for entry in fs::read_dir(MEMORY)?.flatten() {
            if is_left_behind(&entry.file_name().to_string_lossy()) {
                // It may be somebody else's.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let folder = Path::new(MEMORY).join(format!("{NAME}{}", process::id()));
        // Of a run that had this process's number, it may be there.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        // PostgreSQL, and programs that tests start, are other users.
        fs::set_permissions(&folder, Permissions::from_mode(0o1777))?;
        Ok(Self(Some(folder)))
    }

    /// Has a command, and what it starts, make its temporary files here.
    pub(crate) fn lend<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        if let Some(folder) = &self.0 {
            command.env("TMPDIR", folder);
        }
        command
    }

    /// The path of a folder here that is not there yet; none if this machine has no such memory.
    pub(crate) fn folder(&self, name: &str) -> Option<PathBuf> {
        self.0.as_ref().map(|folder| folder.join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(folder) = &self.0 {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

fn has_room() -> bool {
    let free = rustix::fs::statvfs(MEMORY).map_or(0, |found| found.f_bavail * found.f_frsize);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    free >= ROOM && available(&memory).is_some_and(|bytes| bytes >= ROOM)
}

/// Bytes that programs can have, of what the kernel tells.
fn available(memory: &str) -> Option<u64> {
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// True for the folder of a run whose process is gone.
fn is_left_behind(name: &str) -> bool {
    let process = name.strip_prefix(NAME).and_then(|process| process.parse::<u32>().ok());
    process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let told = "MemTotal:  24543812 kB\nMemAvailable:   16 kB\n";
        assert_eq!(available(told), Some(16 << 10));
        assert_eq!(available("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn only_what_a_run_has_left_is_removed() {
        assert!(is_left_behind(&format!("{NAME}{}", u32::MAX)));
        assert!(!is_left_behind(&format!("{NAME}{}", process::id())));
        assert!(!is_left_behind("tenantry-tests-x") && !is_left_behind("other"));
    }

    #[test]
    fn what_is_lent_is_gone_afterwards() {
        let scratch = Scratch::make().unwrap();
        let Some(folder) = scratch.folder("a") else { return };
        let mut made = Command::new("sh");
        made.args(["-c", "mktemp -d"]);
        let told = scratch.lend(&mut made).output().unwrap().stdout;
        let made = PathBuf::from(String::from_utf8(told).unwrap().trim());
        assert_eq!((made.is_dir(), made.parent()), (true, folder.parent()));
        drop(scratch);
        assert!(!made.exists());
    }
}
