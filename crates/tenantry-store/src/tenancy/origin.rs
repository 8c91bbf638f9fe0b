//! What binds a tenant's log to its tenant and installation, and from when on it does.
//!
//! An older program would go on with version 1 after an entry of version 2, so none is written
//! before older programs are kept out of all places of the installation. From then on a log stays
//! of version 2, whatever the process knows that writes the next entry: its counters say so
//! ([`super::disk::Head::is_bound`]).

use super::seal::{Deriving, SealingKey};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};

/// Never changed: a log would have two origins.
const PURPOSE: &str = "tenantry 2026-11 audit origin";

/// The origins of an installation's logs. The key that they come from is known once the
/// installation's data key was read, and does not change: nobody gets the data key another time.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    key: OnceLock<Deriving>,
    is_open: Arc<AtomicBool>,
}

impl Origins {
    /// Learns what origins come from.
    pub(crate) fn know(&self, installation: &SealingKey) {
        let _ = self.key.get_or_init(|| installation.deriving(PURPOSE));
    }

    pub(crate) fn are_known(&self) -> bool {
        self.key.get().is_some()
    }

    /// Older programs are kept out: entries are of version 2 from now on.
    pub(crate) fn open_gate(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    /// True if older programs are kept out.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// The origin of one tenant's log.
    pub(crate) fn of(&self, tenant: TenantId) -> Result<Origin> {
        let key = self.key.get();
        let key = key.ok_or_else(|| Error::internal("the installation was not opened"))?;
        let bytes = key.hash(&tenant.get().to_be_bytes());
        Ok(Origin { bytes, is_open: Arc::clone(&self.is_open) })
    }
}

/// The origin of one log. It says nothing of the tenant's number to whoever has no data key of the
/// installation.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    bytes: [u8; 32],
    is_open: Arc<AtomicBool>,
}

impl Origin {
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// True if a log may begin to be of version 2.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }
}

#[cfg(test)]
impl Origins {
    /// Of an installation that nobody has.
    pub(crate) fn of_nobody() -> Self {
        let origins = Self::default();
        origins.know(&SealingKey::new(zeroize::Zeroizing::new([7; 32]), 1));
        origins
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn origins(byte: u8) -> Origins {
        let origins = Origins::default();
        origins.know(&SealingKey::new(Zeroizing::new([byte; 32]), 1));
        origins
    }

    #[test]
    fn each_log_of_each_installation_has_an_origin_of_its_own() {
        let of = |byte, tenant| *origins(byte).of(TenantId::new(tenant)).unwrap().bytes();
        assert_eq!(of(1, 1), of(1, 1));
        let all = [of(1, 0), of(1, 1), of(1, 2), of(2, 0), of(2, 1)];
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert!(Origins::default().of(TenantId::new(1)).is_err());
    }

    /// Logs that were exported have it.
    #[test]
    fn an_origin_is_for_ever() {
        let of = |tenant| {
            let origin = origins(1).of(TenantId::new(tenant)).unwrap();
            data_encoding::HEXLOWER.encode(origin.bytes())
        };
        assert_eq!(of(0), "430205201f05365b7e4fb490346b53648ec0f031fa6f483f871e909c3c17f7ad");
        assert_eq!(of(1), "1c61dec42d7e5cea6ac4fad6ba942bba352d640e7e777f06ce63e4190b1a6d19");
    }

    #[test]
    fn the_gate_is_one_for_all() {
        let origins = origins(1);
        let before = origins.of(TenantId::new(1)).unwrap();
        assert!(!before.is_open());
        origins.open_gate();
        assert!(before.is_open() && origins.of(TenantId::new(2)).unwrap().is_open());
    }
}
