//! Levels of access as types, so that a reading handle has no writing methods.

use crate::Role;

mod sealed {
    pub trait Sealed {}
}

/// A level of access. Sealed: [`Read`], [`Write`] and [`Admin`] are all there are.
pub trait Level: sealed::Sealed + Send + Sync + 'static {
    /// The least role that reaches this level.
    const ROLE: Role;
}

/// A level that may change records and collections.
pub trait CanWrite: Level {}

/// A level that may change databases, keys and the tenant itself.
pub trait CanAdmin: CanWrite {}

/// May read.
#[derive(Debug, Clone, Copy)]
pub struct Read;
/// May read and write.
#[derive(Debug, Clone, Copy)]
pub struct Write;
/// May do everything within the tenant.
#[derive(Debug, Clone, Copy)]
pub struct Admin;

impl sealed::Sealed for Read {}
impl sealed::Sealed for Write {}
impl sealed::Sealed for Admin {}
impl Level for Read {
    const ROLE: Role = Role::Read;
}
impl Level for Write {
    const ROLE: Role = Role::Write;
}
impl Level for Admin {
    const ROLE: Role = Role::Admin;
}
impl CanWrite for Write {}
impl CanWrite for Admin {}
impl CanAdmin for Admin {}
