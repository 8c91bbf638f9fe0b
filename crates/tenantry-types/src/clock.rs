//! Time, always handed in, so that tests and simulations own it.

/// Milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// Where the present comes from. The program uses the system's clock; tests hand in their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present moment. May repeat, and may step back when the system's clock is set.
    fn now(&self) -> Timestamp;
}
