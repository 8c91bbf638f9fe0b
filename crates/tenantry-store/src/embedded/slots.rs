//! The slot file: each tenant's data key, wrapped with the master key.
//!
//! It stands beside fjall and is overwritten in place, because fjall keeps removed values in its
//! journal for a while: once a slot is overwritten and synchronised, nothing of that tenant can
//! be read any more, wherever copies of its values still lie. The layout is in
//! `docs/formats/embedded.md`.

use super::seal::{Nonces, SealingKey};
use crate::Entropy;
use parking_lot::RwLock;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use zeroize::Zeroizing;

const SLOT_BYTES: usize = 128;
const MAGIC: [u8; 4] = *b"TSL1";
const LIVE: u8 = 1;
const ERASED: u8 = 2;
/// magic 4, state 1, zero 3, tenant 8, epoch 4, then the wrapped key.
const WRAPPED_AT: usize = 20;
const CHECK_AT: usize = SLOT_BYTES - 8;

/// A slot as it is written.
#[derive(Debug, Clone)]
pub(crate) struct SlotWrite {
    tenant: TenantId,
    bytes: [u8; SLOT_BYTES],
}

/// What a slot holds.
#[derive(Debug)]
pub(crate) enum Slot {
    /// Never used.
    Empty,
    /// A tenant's data key.
    Live(SealingKey),
    /// The tenant was erased.
    Erased,
}

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

    /// A slot with this data key, to be written by [`SlotFile::write`].
    pub(crate) fn wrap(
        &self,
        tenant: TenantId,
        key: &SealingKey,
        entropy: &dyn Entropy,
    ) -> SlotWrite {
        let mut bytes = head(tenant, LIVE, key.epoch());
        let wrapped =
            self.master.seal(&bytes[..WRAPPED_AT], key.expose(), false, &mut Nonces::draw(entropy));
        bytes[WRAPPED_AT..WRAPPED_AT + wrapped.len()].copy_from_slice(&wrapped);
        finish(&mut bytes);
        SlotWrite { tenant, bytes }
    }

    /// Writes slots and synchronises once.
    pub(crate) fn write<'a>(&self, slots: impl Iterator<Item = &'a SlotWrite>) -> Result<()> {
        for slot in slots {
            let _whole = self.whole.write();
            self.file
                .write_all_at(&slot.bytes, slot.tenant.get() * SLOT_BYTES as u64)
                .map_err(|why| broken("write", &why))?;
        }
        self.file.sync_data().map_err(|why| broken("synchronise", &why))
    }

    /// Destroys a tenant's data key.
    pub(crate) fn erase(&self, tenant: TenantId) -> Result<()> {
        let mut bytes = head(tenant, ERASED, 0);
        finish(&mut bytes);
        self.write(std::iter::once(&SlotWrite { tenant, bytes }))
    }

    /// Reads a tenant's slot.
    pub(crate) fn read(&self, tenant: TenantId) -> Result<Slot> {
        let mut bytes = [0; SLOT_BYTES];
        let whole = self.whole.read();
        let read = self.file.read_exact_at(&mut bytes, tenant.get() * SLOT_BYTES as u64);
        drop(whole);
        match read {
            Ok(()) => {}
            Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Slot::Empty),
            Err(why) => return Err(broken("read", &why)),
        }
        if bytes == [0; SLOT_BYTES] {
            return Ok(Slot::Empty);
        }
        let damaged = |what: &str| Error::corrupt(format!("slot of tenant {tenant}: {what}"));
        if bytes[CHECK_AT..] != checksum(&bytes) || bytes[..4] != MAGIC {
            return Err(damaged("checksum"));
        }
        if bytes[8..16] != tenant.get().to_be_bytes() {
            return Err(damaged("belongs to another tenant"));
        }
        match bytes[4] {
            LIVE => {}
            ERASED => return Ok(Slot::Erased),
            _ => return Err(damaged("unknown state; written by a newer version?")),
        }
        let epoch = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let wrapped = &bytes[WRAPPED_AT..WRAPPED_AT + WRAPPED_BYTES];
        let opened = Zeroizing::new(
            self.master
                .open(&bytes[..WRAPPED_AT], wrapped)
                .map_err(|why| damaged("it was made with another master key").with_source(why))?,
        );
        let mut key = Zeroizing::new([0; 32]);
        if opened.len() != key.len() {
            return Err(damaged("key length"));
        }
        key.copy_from_slice(&opened);
        Ok(Slot::Live(SealingKey::new(key, epoch)))
    }
}

/// Sealing adds 45 bytes to the 32 of a key.
const WRAPPED_BYTES: usize = 32 + 45;
const _: () = assert!(WRAPPED_AT + WRAPPED_BYTES <= CHECK_AT);

fn head(tenant: TenantId, state: u8, epoch: u32) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = state;
    bytes[8..16].copy_from_slice(&tenant.get().to_be_bytes());
    bytes[16..20].copy_from_slice(&epoch.to_be_bytes());
    bytes
}

fn finish(bytes: &mut [u8; SLOT_BYTES]) {
    let sum = checksum(bytes);
    bytes[CHECK_AT..].copy_from_slice(&sum);
}

fn checksum(bytes: &[u8; SLOT_BYTES]) -> [u8; 8] {
    let hash = blake3::hash(&bytes[..CHECK_AT]);
    let mut sum = [0; 8];
    sum.copy_from_slice(&hash.as_bytes()[..8]);
    sum
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
        assert!(matches!(slots.read(TenantId::new(7)).unwrap(), Slot::Empty));

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
