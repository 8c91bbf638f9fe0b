//! The room that archives leave on the disk of their folder, which may be the data's: a full disk
//! would end all writing.

use std::{io, path::PathBuf};
use tenantry_types::{Error, ErrorKind, Result};

/// Bytes that are written before it is looked again.
pub(super) const STEP: u64 = 4 << 20;

/// The disk of a folder, and the bytes that are to be left free on it.
#[derive(Debug, Clone)]
pub(super) struct Room {
    pub(super) folder: PathBuf,
    pub(super) free_min: u64,
}

impl Room {
    /// Fails unless so many bytes can be written and enough is left. What others write at the same
    /// time is not known, so it is looked again while one writes.
    pub(super) fn look(&self, bytes: u64) -> Result<()> {
        if self.free_min == 0 {
            return Ok(());
        }
        let free = self.free().map_err(|why| self.no_file(&why))?;
        if free.checked_sub(bytes).is_some_and(|left| left >= self.free_min) {
            return Ok(());
        }
        let (folder, free_min) = (self.folder.display(), self.free_min);
        tracing::warn!(%folder, free, bytes, free_min, "too little room for an archive");
        let message = "the server's disk has too little room for archives; its log says how much";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// There is no file for an archive. Why is the operator's to know.
    pub(super) fn no_file(&self, why: &io::Error) -> Error {
        let folder = self.folder.display();
        tracing::error!(%folder, %why, "no file for an archive can be made");
        let message = "no file for an archive can be made; the server's log says why";
        Error::new(ErrorKind::Unavailable, message)
    }

    /// Bytes that this process may still write there.
    fn free(&self) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_left_free_is_left() {
        let folder = std::env::temp_dir();
        let room = |free_min| Room { folder: folder.clone(), free_min };
        assert!(room(1).free().unwrap() > 1);
        room(1).look(1).unwrap();
        for (free_min, bytes) in [(u64::MAX, 0), (1, u64::MAX)] {
            let refused = room(free_min).look(bytes).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable);
            assert!(refused.to_string().contains("too little room"), "{refused}");
        }
        room(0).look(u64::MAX).unwrap();
        let nowhere = Room { folder: folder.join("no/such/folder"), free_min: 1 };
        assert_eq!(nowhere.look(0).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
