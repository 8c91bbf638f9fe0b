//! Everything that Tenantry keeps. Every operation starts from a scope.
//!
//! [`Store`] is a type and not a trait: backends are few and known, and one store may have both.
//! `tests/it/conformance` is the executable specification that each backend passes. Disk types are
//! private to their backend.

mod arrival;
mod audit;
mod embedded;
mod facts;
mod failing;
mod member;
mod pace;
mod pool;
pub mod postgres;
mod signature;
mod sites;
mod snapshot;
mod store;
mod surface;
mod tenancy;
mod totals;
mod webhook;

pub use arrival::{Arrival, Arrived};
pub use audit::{
    AuditBinding, AuditEntry, AuditEvent, AuditNote, AuditOutcome, AuditReason, ChainBreak,
    ChainVerifier,
};
pub use embedded::{EmbeddedConfig, SavedConfig};
pub use facts::{
    BackendKind, GraphBounds, Holding, KeptSum, MovePhase, MoveStatus, MoveTarget, Site, Spent,
    Stock, TenantSizes,
};
pub use failing::Failing;
pub use member::{Granted, GroupChange, MemberChange, NewMember, ObjectNames};
pub use pool::{Class, Pool, PoolConfig, PoolTotals, Turn};
pub use postgres::DatabaseUrl;
pub use postgres::{DatabasesConfig, LocationConfig, PostgresConfig};
pub use signature::{ArchiveKey, PublicKey, Signature, is_signed};
pub use snapshot::{Snapshot, SnapshotPage};
pub use store::Store;
pub use surface::{
    Answer, CollectionInfo, CollectionRef, DatabaseInfo, DatabaseRef, Entropy, Journaled, Leftover,
    NewKey, Obstacle, Origin, Source, SystemClock, SystemEntropy, TenantBill, TenantChange,
    TenantInfo, TenantUsed, UsageBalance, UsageNote, UsagePage, VectorInfo, Wanted,
};
pub use tenancy::master::MasterKey;
pub use tenancy::moving::{MoveTotals, PauseTotals};
pub use tenancy::usage::{Census, Lap};
pub use totals::{ConnectionTotals, Health, StoreTotals};
pub use webhook::{
    Answered, Attempted, DeadLetter, Delivery, Event, OutboxTotals, Webhook, WebhookChange,
    WebhookSecret,
};
