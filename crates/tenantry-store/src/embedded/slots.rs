//! The slot file: each tenant's data key, wrapped with the master key.
//!
//! It stands beside fjall and is overwritten in place, because fjall keeps removed values in its
//! journal for a while: once a slot is overwritten and synchronised, nothing of that tenant can
//! be read any more, wherever copies of its values still lie. The layout is in
//! `docs/formats/embedded.md`.

use super::{
    seal::SealingKey,
    slot::{SLOT_BYTES, Slot, SlotWrite},
};
use crate::Entropy;
use parking_lot::RwLock;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt as _, OpenOptionsExt},
    path::Path,
    time::UNIX_EPOCH,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};

/// The open slot file.
#[derive(Debug)]
pub(crate) struct SlotFile {
    file: File,
    master: SealingKey,
    /// Nothing says that a read beside a write sees a slot as it was before or after.
    whole: RwLock<()>,
}

impl SlotFile {
    /// Opens or creates the file, readable by its owner only.
    pub(crate) fn open(path: &Path, master: SealingKey) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|why| super::open_error("open the slot file", path, why))?;
        Ok(Self { file, master, whole: RwLock::new(()) })
    }

    /// The number of slots that the file has room for: every assigned tenant id is below it.
    pub(crate) fn count(&self) -> Result<u64> {
        let bytes = self.file.metadata().map_err(|why| broken("read", &why))?.len();
        Ok(bytes.div_ceil(SLOT_BYTES as u64))
    }

    /// What tells this file from a copy of it: its number in the file system, and when it was made,
    /// if the file system knows that.
    pub(crate) fn identity(&self) -> Result<Vec<u8>> {
        let metadata = self.file.metadata().map_err(|why| broken("read", &why))?;
        let made = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let made = made.and_then(|made| u64::try_from(made.as_nanos()).ok()).unwrap_or(0);
        Ok([metadata.ino().to_be_bytes(), made.to_be_bytes()].concat())
    }

    /// A slot with this data key, to be written by [`SlotFile::write`].
    pub(crate) fn wrap(
        &self,
        tenant: TenantId,
        key: &SealingKey,
        entropy: &dyn Entropy,
    ) -> SlotWrite {
        SlotWrite::live(&self.master, tenant, key, entropy)
    }

    /// Writes slots and synchronises once.
    pub(crate) fn write<'a>(&self, slots: impl Iterator<Item = &'a SlotWrite>) -> Result<()> {
        for slot in slots {
            let at = place(slot.tenant).ok_or_else(|| Error::internal("a slot beyond any file"))?;
            let _whole = self.whole.write();
            self.file.write_all_at(&slot.bytes, at).map_err(|why| broken("write", &why))?;
        }
        self.file.sync_data().map_err(|why| broken("synchronise", &why))
    }

    /// Destroys a tenant's data key.
    pub(crate) fn erase(&self, tenant: TenantId) -> Result<()> {
        self.write(std::iter::once(&SlotWrite::erased(tenant)))
    }

    /// Reads a tenant's slot. Any number may be asked for: operators name deleted tenants by theirs.
    pub(crate) fn read(&self, tenant: TenantId) -> Result<Slot> {
        let Some(at) = place(tenant) else { return Ok(Slot::Empty) };
        let mut bytes = [0; SLOT_BYTES];
        let whole = self.whole.read();
        let read = self.file.read_exact_at(&mut bytes, at);
        drop(whole);
        match read {
            Ok(()) => {}
            Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Slot::Empty),
            Err(why) => return Err(broken("read", &why)),
        }
        Slot::read(&self.master, tenant, &bytes)
    }
}

/// Where a tenant's slot begins; none if no file is so long. A product that wraps around would be
/// another tenant's place.
fn place(tenant: TenantId) -> Option<u64> {
    let at = tenant.get().checked_mul(SLOT_BYTES as u64)?;
    let end = at.checked_add(SLOT_BYTES as u64)?;
    i64::try_from(end).is_ok().then_some(at)
}

fn broken(what: &str, why: &std::io::Error) -> Error {
    Error::new(
        tenantry_types::ErrorKind::Unavailable,
        format!("the slot file cannot be used ({what}): {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;
    use zeroize::Zeroizing;

    fn master(byte: u8) -> SealingKey {
        SealingKey::new(Zeroizing::new([byte; 32]), 0)
    }

    #[test]
    fn an_erased_slot_never_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slots");
        let slots = SlotFile::open(&path, master(1)).unwrap();
        let (one, two) = (TenantId::new(1), TenantId::new(2));
        let data = SealingKey::new(Zeroizing::new([9; 32]), 1);
        let writes =
            [slots.wrap(one, &data, &SystemEntropy), slots.wrap(two, &data, &SystemEntropy)];
        slots.write(writes.iter()).unwrap();
        assert_eq!(slots.count().unwrap(), 3);
        assert!(matches!(slots.read(TenantId::new(0)).unwrap(), Slot::Empty));
        slots.erase(one).unwrap();
        assert!(matches!(slots.read(one).unwrap(), Slot::Erased));
        let Slot::Live(key) = slots.read(two).unwrap() else { panic!("slot 2 is gone") };
        assert_eq!(key.expose(), &[9; 32]);
        let around = u64::MAX / SLOT_BYTES as u64 + 2;
        for absent in [7, 1 << 56, 1 << 62, around, around + 1, u64::MAX - 1, u64::MAX] {
            assert!(matches!(slots.read(TenantId::new(absent)).unwrap(), Slot::Empty), "{absent}");
        }

        // The wrong master key, a slot copied to another place and a flipped bit are all refused.
        assert!(SlotFile::open(&path, master(2)).unwrap().read(two).is_err());
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.copy_within(2 * SLOT_BYTES..3 * SLOT_BYTES, 0);
        bytes[2 * SLOT_BYTES + 30] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let slots = SlotFile::open(&path, master(1)).unwrap();
        assert!(slots.read(TenantId::new(0)).is_err());
        assert!(slots.read(two).is_err());
    }
}
