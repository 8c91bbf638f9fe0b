//! Where the installation is: in a database of PostgreSQL, or elsewhere.

use super::{
    cluster::{Place, Shared},
    locations::Located,
    view::PgView,
};
use crate::tenancy::{Space, View as _};
use std::{pin::Pin, sync::Arc};
use tenantry_types::{Error, Result};

/// Where the installation is.
pub(super) enum Root {
    /// In this database.
    Here(Arc<Located>),
    /// Not in PostgreSQL: all databases are locations of it, or tenants' own.
    Elsewhere(Arc<dyn Elsewhere>),
}

pub(crate) type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What is asked of an installation that is elsewhere. It is the truth about tenants, and no
/// database has a say in it.
pub(crate) trait Elsewhere: Send + Sync {
    /// A row of the installation's catalog.
    fn row<'a>(&'a self, key: &'a [u8]) -> Asked<'a, Option<Vec<u8>>>;

    /// What tells the installation from a copy of it.
    fn here(&self) -> Result<Vec<u8>>;

    /// Keeps a row of the installation's catalog, durably.
    fn keep(&self, key: Vec<u8>, row: Vec<u8>) -> Asked<'_, ()>;

    /// The place of a tenant that is gone was removed, or that has failed: whoever has the note
    /// about it may look.
    fn place_removed(&self);
}

impl Shared {
    /// The installation's tables, if they are in PostgreSQL.
    pub(crate) fn root_here(&self) -> Option<&Place> {
        match &self.root {
            Root::Here(home) => Some(&home.root),
            Root::Elsewhere(_) => None,
        }
    }

    /// The installation's database, if it is one.
    pub(super) fn home_here(&self) -> Option<&Arc<Located>> {
        match &self.root {
            Root::Here(home) => Some(home),
            Root::Elsewhere(_) => None,
        }
    }

    /// The same for whoever is there only because they are.
    pub(crate) fn root(&self) -> Result<&Place> {
        self.root_here().ok_or_else(is_elsewhere)
    }

    /// The installation's database.
    pub(super) fn home(&self) -> Result<&Arc<Located>> {
        match &self.root {
            Root::Here(home) => Ok(home),
            Root::Elsewhere(_) => Err(is_elsewhere()),
        }
    }

    /// A row of the installation's catalog, wherever that is.
    pub(super) fn root_row<'a>(self: &'a Arc<Self>, key: &'a [u8]) -> Asked<'a, Option<Vec<u8>>> {
        match &self.root {
            Root::Here(_) => {
                Box::pin(async move { PgView::root(self)?.get(Space::Catalog, key).await })
            }
            Root::Elsewhere(elsewhere) => elsewhere.row(key),
        }
    }
}

fn is_elsewhere() -> Error {
    Error::internal("the installation is asked for in PostgreSQL, and is not there")
}

#[cfg(test)]
#[path = "root_tests.rs"]
mod tests;
