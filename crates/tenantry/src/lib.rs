//! Tenantry as a library: the engine, without a server.
//!
//! Take it with `default-features = false`; the default feature `server` is the program `tenantry`
//! and what it needs. Everything starts from a principal and ends in a handle that belongs to one
//! tenant:
//!
//! ```
//! use tenantry::{Admin, CollectionSpec, DatabaseName, Metric, Select, TenantName, TenantSpec};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> tenantry::Result<()> {
//! # let folder = tempfile::tempdir().expect("a temporary folder");
//! let engine = tenantry::open(folder.path())?;
//! let operator = engine.local_operator().await?;
//! let acme = TenantName::parse("acme")?;
//! engine.operator(&operator)?.create_tenant(&TenantSpec::new(acme.clone())).await?;
//!
//! let session = engine.session::<Admin>(&operator, Select::Named(&acme)).await?;
//! let database = session.database(&DatabaseName::parse(tenantry::DEFAULT_DATABASE)?).await?;
//! let spec = CollectionSpec {
//!     metric: Metric::Cosine,
//!     ..CollectionSpec::new(tenantry::CollectionName::parse("notes")?)
//! };
//! let (notes, created) = database.create_collection(&spec, false).await?;
//! assert!(created && notes.count(None).await? == 0);
//! engine.shutdown().await
//! # }
//! ```

use postgres::{DatabaseUrl, PostgresConfig};
use std::{path::PathBuf, sync::Arc};

pub use tenantry_engine::*;

/// Opens or creates the embedded store in a folder, with default settings, and starts an engine
/// on it that demands a key of every caller. Must be called inside a tokio runtime.
///
/// # Errors
/// [`ErrorKind::Conflict`] if another process holds the folder; [`ErrorKind::Invalid`] if it holds
/// something else than a store; [`ErrorKind::Unsupported`] if its format is not known;
/// [`ErrorKind::Unavailable`] or [`ErrorKind::Corrupt`] if its files cannot be read or written.
pub fn open(data_dir: impl Into<PathBuf>) -> Result<Engine> {
    let store = Store::open_embedded(EmbeddedConfig::new(data_dir))?;
    let authority = Authority::new();
    Ok(Engine::start(EngineConfig { store, authority, clock: Arc::new(SystemClock) }))
}

/// Opens the installation in a PostgreSQL database that `tenantry postgres setup` has prepared, or
/// makes it there, with default settings, and starts an engine on it as [`open`] does. `key_folder`
/// holds the master key's file. Several processes may open one database.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the URL is none, or needs a certificate that default settings do not
/// name; [`ErrorKind::Internal`] if the database or the role is not fit to hold tenants apart;
/// [`ErrorKind::Unavailable`], [`ErrorKind::Denied`] or [`ErrorKind::NotFound`] if the database
/// cannot be entered; [`ErrorKind::Corrupt`] if the master key is not the installation's.
pub async fn open_postgres(database_url: &str, key_folder: impl Into<PathBuf>) -> Result<Engine> {
    let config = PostgresConfig::new(DatabaseUrl::parse(database_url)?, key_folder);
    let store = Store::open_postgres(config).await?;
    let authority = Authority::new();
    Ok(Engine::start(EngineConfig { store, authority, clock: Arc::new(SystemClock) }))
}
