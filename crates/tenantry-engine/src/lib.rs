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
mod break_glass;
pub mod busiest;
mod callers;
mod census;
mod check;
mod collection;
mod compute;
mod counting;
mod database;
mod denials;
mod engine;
mod groups;
mod issuer_keys;
mod leases;
pub mod limiter;
mod logins;
mod measured;
mod members;
mod metering;
mod operator;
pub mod placement;
mod provision;
mod session;
mod signup;
mod single;
mod sources;
mod spending;
mod validate;
mod webhooks;

pub use admission::Admission;
pub use callers::{Callers, ClientAddress, Payer, REASON_HEADER};
pub use census::AllSizes;
pub use collection::Collection;
pub use database::Database;
pub use engine::{Engine, EngineConfig, Select, Totals};
pub use groups::{GrantNames, GrantOn, GroupUpdate};
pub use issuer_keys::KeyFetch;
pub use leases::{LeaseAnswer, LeaseAsk, LeaseSource, Leasing, SharedTotals, Sharing};
pub use operator::Operator;
pub use provision::ProvisionRules;
pub use session::Session;
pub use signup::{SignUp, SignUpRules};
pub use sources::{NamedBy, TENANT_HEADER, TenantSources, named_by_header};
pub use webhooks::{WebhookPost, WebhookSend, WebhookTotals};

pub use tenantry_auth::{
    Admin, Allowed, AllowedSet, ApiKey, Authority, CanAdmin, CanWrite, Grant, Group, GroupNumber,
    KeyId, KeyOwner, KeyRow, Level, Member, MemberRights, MemberRole, PathTenant, Principal,
    ROLE_RIGHTS, Read, RequestId, Restriction, Role, RoleRights, StatedReason, TenantId, UserName,
    Write, token,
};
pub use tenantry_store::{
    Answered, ArchiveKey, AuditBinding, AuditEntry, AuditEvent, AuditNote, AuditOutcome,
    AuditReason, BackendKind, ChainBreak, ChainVerifier, CollectionInfo, DatabaseInfo, DeadLetter,
    EmbeddedConfig, Entropy, Event, GraphBounds, Health, Holding, KeptSum, Leftover, MasterKey,
    MemberChange, MovePhase, MoveStatus, MoveTarget, MoveTotals, NewKey, NewMember, ObjectNames,
    Obstacle, PauseTotals, PublicKey, Site, Source, Stock, Store, StoreTotals, SystemClock,
    SystemEntropy, TenantBill, TenantChange, TenantInfo, TenantSizes, TenantUsed, UsageBalance,
    UsagePage, VectorInfo, Wanted, Webhook, WebhookChange, postgres,
};
pub use tenantry_types::*;
