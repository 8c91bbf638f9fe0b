//! Chroma's v2 REST protocol, as the Python client of chromadb 1.5 speaks it.
//!
//! `docs/reference/chroma.md` lists every route, every deliberate difference and what is not
//! offered. A request travels: `auth` (headers only) → `extract` (tenant, database, collection)
//! → `body` → `handler` → engine → `wire`; refusals leave through `error`.

mod auth;
mod body;
mod config;
mod discovery;
mod error;
mod extract;
mod filter;
mod handler;
mod name;
mod routes;
mod schema;
mod wire;

pub use routes::{OPERATOR_ROUTES, PUBLIC_ROUTES, ROUTES, router, router_for};

use tenantry_engine::{Engine, ErrorKind, Result, TenantName, TenantSpec};

/// The tenant that a client names when its user named none. For a tenant's own key it means that
/// tenant, whatever it is called.
pub const DEFAULT_TENANT: &str = "default_tenant";

/// Makes the tenant and the database that a client without settings asks for, if they are not
/// there: the only tenant, if there is to be one. For servers in development mode, at start and after
/// a reset.
pub async fn ensure_development_tenant(engine: &Engine) -> Result<()> {
    let who = engine.local_operator().await?;
    let only = engine.single_tenant().cloned();
    let name = only.map_or_else(|| TenantName::parse(DEFAULT_TENANT), Ok)?;
    match engine.operator(&who)?.create_tenant(&TenantSpec::new(name)).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}
