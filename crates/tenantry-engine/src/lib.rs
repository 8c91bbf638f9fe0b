//! What Tenantry does, free of any protocol. The only API boundary of the project: everything
//! above talks to [`Engine`] and the handles it gives out, everything below may change.
//!
//! ```text
//! engine.authenticate(token)? → Principal
//!   engine.admit(&principal)? → Admission              within its rates, for one request
//!   engine.operator(&principal)? → Operator            manages tenants, reaches no data
//!   engine.session::<L>(&principal, Select)? → Session<L>
//!     session.database(&name)? → Database<L>
//!       database.collection(&name)? → Collection<L>    records and queries
//! ```
//!
//! A handle is the proof: it cannot be made otherwise, it belongs to exactly one tenant, and a
//! reading handle has no writing methods. No function takes a tenant's name and data.

mod admission;
pub mod advise;
pub mod archive;
mod check;
mod collection;
mod compute;
mod database;
mod denials;
mod engine;
mod issuer_keys;
pub mod limiter;
mod operator;
pub mod placement;
mod session;
mod validate;

pub use admission::Admission;
pub use collection::Collection;
pub use database::Database;
pub use engine::{Engine, EngineConfig, Select, Totals};
pub use issuer_keys::KeyFetch;
pub use operator::Operator;
pub use session::Session;

pub use tenantry_auth::{
    Admin, Allowed, ApiKey, Authority, CanAdmin, CanWrite, KeyId, KeyOwner, KeyRow, Level,
    Principal, Read, RequestId, Restriction, Role, TenantId, Write, token,
};
pub use tenantry_store::{
    ArchiveKey, AuditBinding, AuditEntry, AuditEvent, AuditNote, AuditOutcome, AuditReason,
    BackendKind, ChainBreak, ChainVerifier, CollectionInfo, DatabaseInfo, EmbeddedConfig, Entropy,
    GraphBounds, Health, Leftover, MasterKey, MovePhase, MoveStatus, MoveTarget, MoveTotals,
    NewKey, Obstacle, PauseTotals, PublicKey, Site, Source, Store, StoreTotals, SystemClock,
    SystemEntropy, TenantChange, TenantInfo, TenantSizes, VectorInfo, Wanted, postgres,
};
pub use tenantry_types::*;
