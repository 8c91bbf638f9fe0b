//! A tenant's data key as it is stored: wrapped with the master key, in 128 bytes.
//!
//! The layout is in `docs/formats/embedded.md`.

use super::seal::{Nonces, SealingKey};
use crate::Entropy;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use zeroize::Zeroizing;

/// Bytes of a slot.
pub(crate) const SLOT_BYTES: usize = 128;
const MAGIC: [u8; 4] = *b"TSL1";
const LIVE: u8 = 1;
const ERASED: u8 = 2;
/// magic 4, state 1, zero 3, tenant 8, epoch 4, then the wrapped key.
const WRAPPED_AT: usize = 20;
const CHECK_AT: usize = SLOT_BYTES - 8;

/// A slot as it is written.
#[derive(Debug, Clone)]
pub(crate) struct SlotWrite {
    pub(crate) tenant: TenantId,
    pub(crate) bytes: [u8; SLOT_BYTES],
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

impl SlotWrite {
    /// A slot with this data key.
    pub(crate) fn live(
        master: &SealingKey,
        tenant: TenantId,
        key: &SealingKey,
        entropy: &dyn Entropy,
    ) -> Self {
        let mut bytes = head(tenant, LIVE, key.epoch());
        let wrapped =
            master.seal(&bytes[..WRAPPED_AT], key.expose(), false, &mut Nonces::draw(entropy));
        bytes[WRAPPED_AT..WRAPPED_AT + wrapped.len()].copy_from_slice(&wrapped);
        finish(&mut bytes);
        Self { tenant, bytes }
    }

    /// The slot of an erased tenant.
    pub(crate) fn erased(tenant: TenantId) -> Self {
        let mut bytes = head(tenant, ERASED, 0);
        finish(&mut bytes);
        Self { tenant, bytes }
    }
}

impl Slot {
    /// Reads a tenant's slot.
    pub(crate) fn read(
        master: &SealingKey,
        tenant: TenantId,
        bytes: &[u8; SLOT_BYTES],
    ) -> Result<Self> {
        if *bytes == [0; SLOT_BYTES] {
            return Ok(Self::Empty);
        }
        let damaged = |what: &str| Error::corrupt(format!("slot of tenant {tenant}: {what}"));
        if bytes[CHECK_AT..] != checksum(bytes) || bytes[..4] != MAGIC {
            return Err(damaged("checksum"));
        }
        if bytes[8..16] != tenant.get().to_be_bytes() {
            return Err(damaged("belongs to another tenant"));
        }
        match bytes[4] {
            LIVE => {}
            ERASED => return Ok(Self::Erased),
            _ => return Err(damaged("unknown state; written by a newer version?")),
        }
        let epoch = u32::from_be_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
        let wrapped = &bytes[WRAPPED_AT..WRAPPED_AT + WRAPPED_BYTES];
        let opened = Zeroizing::new(
            master
                .open(&bytes[..WRAPPED_AT], wrapped)
                .map_err(|why| damaged("it was made with another master key").with_source(why))?,
        );
        let mut key = Zeroizing::new([0; 32]);
        if opened.len() != key.len() {
            return Err(damaged("key length"));
        }
        key.copy_from_slice(&opened);
        Ok(Self::Live(SealingKey::new(key, epoch)))
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
