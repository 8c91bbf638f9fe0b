//! What databases ask of a root that is in files.

use crate::{
    embedded::Files,
    postgres::root::{Asked, Elsewhere},
    tenancy::{Backend as _, Space, View, WriteSet, place::Placement},
};
use std::sync::{Arc, Weak};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};

/// The root in files, as databases ask for it. They do not keep it.
pub(super) struct RootInFiles(Weak<Files>);

impl RootInFiles {
    pub(super) fn of(files: &Arc<Files>) -> Self {
        Self(Arc::downgrade(files))
    }

    fn files(&self) -> Result<Arc<Files>> {
        let closed = || Error::new(ErrorKind::Unavailable, "the store is closed");
        self.0.upgrade().ok_or_else(closed)
    }
}

impl Elsewhere for RootInFiles {
    fn row<'a>(&'a self, key: &'a [u8]) -> Asked<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            let root = self.files()?.root(None).await?;
            View::get(&root, Space::Catalog, key).await
        })
    }

    fn here(&self) -> Result<Vec<u8>> {
        self.files()?.identity()
    }

    fn keep(&self, key: Vec<u8>, row: Vec<u8>) -> Asked<'_, ()> {
        Box::pin(async move {
            let files = self.files()?;
            let root = files.root(None).await?;
            let place = Placement::shared(TenantId::INSTALLATION);
            let mut set = WriteSet::new(place, View::generation(&root));
            set.operations.push((Space::Catalog, key, Some(row)));
            files.submit(root, set).await
        })
    }

    fn place_removed(&self) {
        if let Some(files) = self.0.upgrade() {
            files.look_for_notes();
        }
    }
}
