//! Signatures of an installation, with which it knows again what it has given away.

use crate::tenancy::tenants::OpenTenant;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use tenantry_types::{Error, Result};
use zeroize::Zeroizing;

/// What the key is for. Another purpose has another key.
const PURPOSE: &str = "tenantry 2026-11 archive signature";

/// Bytes of a public key.
pub type PublicKey = [u8; 32];
/// Bytes of a signature.
pub type Signature = [u8; 64];

/// Signs archives for an installation (Ed25519, RFC 8032). Whoever has the master key and the
/// installation's data can derive it again.
pub struct ArchiveKey(Ed25519KeyPair);

impl std::fmt::Debug for ArchiveKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ArchiveKey")
    }
}

impl ArchiveKey {
    pub(crate) fn of(installation: &OpenTenant) -> Result<Self> {
        let seed = Zeroizing::new(installation.key().derive(PURPOSE, b""));
        let pair = Ed25519KeyPair::from_seed_unchecked(&*seed);
        pair.map(Self).map_err(|_| Error::internal("the key that signs archives cannot be made"))
    }

    /// What verifies its signatures.
    pub fn public(&self) -> Result<PublicKey> {
        let bytes = self.0.public_key().as_ref().try_into();
        bytes.map_err(|_| Error::internal("a public key has a wrong length"))
    }

    /// Signs.
    pub fn sign(&self, message: &[u8]) -> Result<Signature> {
        let bytes = self.0.sign(message).as_ref().try_into();
        bytes.map_err(|_| Error::internal("a signature has a wrong length"))
    }
}

/// True if whoever has the key of `public` has signed this.
pub fn is_signed(public: &PublicKey, message: &[u8], signature: &Signature) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}
