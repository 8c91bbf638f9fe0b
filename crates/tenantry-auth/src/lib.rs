//! Who may do what: a credential becomes a [`Principal`], a principal becomes a [`Scope`].
//!
//! A [`Scope`] is the proof that a principal may act in one tenant at one level. Nothing but
//! [`Authority`] makes one, and every path to data starts from one. This crate knows neither
//! HTTP nor storage; it asks a [`KeyDirectory`], and is handed the keys of tokens' issuers.

mod authority;
mod credential;
mod group;
mod key;
mod level;
mod member;
mod principal;
mod request;
mod scope;
mod tenant;
pub mod token;

pub use authority::{Authority, KeyDirectory};
pub use credential::Credential;
pub use group::{Grant, Grants, Group, GroupNumber};
pub use key::{Allowed, AllowedSet, ApiKey, KeyId, KeyOwner, KeyRow, Restriction, Role};
pub use level::{Admin, CanAdmin, CanWrite, Level, Read, Write};
pub use member::{Member, MemberId, MemberRights, MemberRole, ROLE_RIGHTS, RoleRights, UserName};
pub use principal::{Principal, Standing};
pub use request::{Author, PathTenant, RequestId, StatedReason};
pub use scope::{OperatorScope, Scope, SystemScope};
pub use tenant::TenantId;
