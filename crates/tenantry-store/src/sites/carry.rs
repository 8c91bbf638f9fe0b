//! Moving tenants: among files so far. Whoever asks for other moves is refused before anything is
//! done.

use super::{Site, SiteView, Sites};
use crate::{
    embedded::Files,
    pool::Turn,
    tenancy::{Pair, WriteSet, moving::Carry, place::Placement, tenants::OpenTenant},
};
use tenantry_types::{Error, ErrorKind, Location, Result};

impl Carry for Sites {
    fn allow_moves(&self) -> Result<()> {
        self.files.as_ref().ok_or_else(no_moves)?.allow_moves()
    }

    fn is_closing(&self) -> bool {
        self.files.as_ref().is_none_or(|files| files.is_closing())
    }

    fn is_decided(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.is_decided())
    }

    async fn turn(&self, tenant: &OpenTenant) -> Result<Turn> {
        self.carried(tenant.placement())?.turn(tenant).await
    }

    async fn page(
        &self,
        view: &SiteView,
        start: &[u8],
        from: &[u8],
        most: (usize, usize),
    ) -> Result<Vec<Pair>> {
        let files = self.files.as_ref().ok_or_else(no_moves)?;
        Carry::page(&**files, view.files()?, start, from, most).await
    }

    async fn look(&self, placement: Placement) -> Result<SiteView> {
        Ok(self.carried(placement)?.look(placement).await?.into())
    }

    async fn make(&self, placement: Placement) -> Result<()> {
        self.carried(placement)?.make(placement).await
    }

    async fn put(&self, set: WriteSet) -> Result<()> {
        self.carried(set.placement)?.put(set).await
    }

    async fn empty(&self, placement: Placement) -> Result<()> {
        self.carried(placement)?.empty(placement).await
    }

    fn close(&self, placement: Placement) {
        if let Ok(files) = self.carried(placement) {
            files.close(placement);
        }
    }

    fn reopen(&self, placement: Placement) {
        if let Ok(files) = self.carried(placement) {
            files.reopen(placement);
        }
    }

    fn left(&self, placement: Placement) {
        if let Ok(files) = self.carried(placement) {
            files.left(placement);
        }
    }

    fn is_unread(&self, placement: Placement) -> bool {
        self.carried(placement).is_ok_and(|files| files.is_unread(placement))
    }
}

impl Sites {
    /// Who carries tenants to and from a place.
    fn carried(&self, placement: Placement) -> Result<&Files> {
        match self.at(placement) {
            Site::Files(files) => Ok(files),
            Site::Postgres(_) => Err(no_moves()),
        }
    }

    /// Fails if no tenant can be moved between these.
    pub(crate) fn can_move(&self, from: Location, to: Option<Location>) -> Result<()> {
        let is_home = |location| location == Location::Home;
        let is_carried = self.files.is_some() && is_home(from) && to.is_none_or(is_home);
        if is_carried { Ok(()) } else { Err(no_moves()) }
    }
}

fn no_moves() -> Error {
    let message = "tenants in databases of PostgreSQL cannot be moved yet, nor can others be moved \
                   there";
    Error::new(ErrorKind::Unsupported, message)
}
