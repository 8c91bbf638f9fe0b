//! The identity of a tenant.

use std::fmt;

/// A tenant's identity: assigned once, never reused, the only thing about a tenant that stands in
/// keys on disk. Zero is the installation itself (operator keys, the operator's audit log).
///
/// Knowing a `TenantId` gives no right to anything; a [`crate::Scope`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(u64);

impl TenantId {
    /// The installation itself.
    pub const INSTALLATION: Self = Self(0);

    /// The id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
