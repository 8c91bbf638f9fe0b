//! Where rows are kept: files, databases of PostgreSQL, or both. The only module that names both.
//!
//! The root is in one of them: in the files if there are any. A tenant at home is where the root
//! is; one at a location, or with a database of its own, is in PostgreSQL. A folder belongs to one
//! process and a database to many, so files are never places of a root in PostgreSQL.

mod handles;
mod root;

pub(crate) use handles::{Handles, Records};

use crate::{
    Entropy, Obstacle,
    embedded::{Files, FilesView},
    postgres::{cluster::Cluster, view::PgView},
    tenancy::{
        Backend, Pair, Space, View, WriteSet, moving,
        place::Placement,
        seal::SealingKey,
        slot::{Slot, SlotWrite},
        tenants::OpenTenant,
    },
};
use std::{pin::Pin, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, OwnDatabase, Result};

/// All places of a store.
#[derive(Debug)]
pub(crate) struct Sites {
    /// The root, and tenants at home, if there are any.
    files: Option<Arc<Files>>,
    /// All others.
    cluster: Arc<Cluster>,
}

/// Rows of one of them.
pub(crate) enum Rows<F, P> {
    Files(F),
    Postgres(P),
}

/// Rows as operations see them.
pub(crate) type SiteView = Rows<FilesView, PgView>;

/// One of them.
enum Site<'a> {
    Files(&'a Files),
    Postgres(&'a Cluster),
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a database is asked is large, and every operation holds these futures.
fn boxed<'a, T>(asked: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    Box::pin(asked)
}

/// The same of whichever it is.
macro_rules! each {
    ($site:expr, $of:ident => $what:expr) => {
        match $site {
            Site::Files($of) => $what,
            Site::Postgres($of) => $what,
        }
    };
}

/// The same for what is waited for.
macro_rules! asked {
    ($site:expr, $of:ident => $what:expr) => {
        match $site {
            Site::Files($of) => $what.await,
            Site::Postgres($of) => boxed($what).await,
        }
    };
}

/// The same for views.
macro_rules! seen {
    ($site:expr, $of:ident => $what:expr) => {
        match $site {
            Site::Files($of) => $what.await.map(SiteView::Files),
            Site::Postgres($of) => boxed($what).await.map(SiteView::Postgres),
        }
    };
}

// Behind what it is written with.
mod carry;

impl Sites {
    pub(crate) fn new(files: Option<Arc<Files>>, cluster: Arc<Cluster>) -> Self {
        Self { files, cluster }
    }

    fn root_site(&self) -> Site<'_> {
        match &self.files {
            Some(files) => Site::Files(files),
            None => Site::Postgres(&self.cluster),
        }
    }

    fn at(&self, placement: Placement) -> Site<'_> {
        match &self.files {
            Some(files) if placement.location == Location::Home => Site::Files(files),
            _ => Site::Postgres(&self.cluster),
        }
    }
}

impl SiteView {
    /// Rows of files. If the tenant lives elsewhere since it was looked for, it is looked for again.
    pub(crate) fn into_files(self) -> Result<FilesView> {
        match self {
            Self::Files(view) => Ok(view),
            Self::Postgres(_) => Err(moving::moved()),
        }
    }

    /// Rows of a database, in the same way.
    pub(crate) fn into_postgres(self) -> Result<PgView> {
        match self {
            Self::Postgres(view) => Ok(view),
            Self::Files(_) => Err(moving::moved()),
        }
    }

    fn files(&self) -> Result<&FilesView> {
        match self {
            Self::Files(view) => Ok(view),
            Self::Postgres(_) => Err(is_other()),
        }
    }

    fn postgres(&self) -> Result<&PgView> {
        match self {
            Self::Postgres(view) => Ok(view),
            Self::Files(_) => Err(is_other()),
        }
    }
}

fn is_other() -> Error {
    Error::internal("rows of files and of databases are mixed up")
}

impl From<FilesView> for SiteView {
    fn from(view: FilesView) -> Self {
        Self::Files(view)
    }
}

impl From<PgView> for SiteView {
    fn from(view: PgView) -> Self {
        Self::Postgres(view)
    }
}

impl<F: View, P: View> View for Rows<F, P> {
    fn generation(&self) -> u64 {
        match self {
            Self::Files(view) => view.generation(),
            Self::Postgres(view) => view.generation(),
        }
    }

    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Files(view) => view.get(space, key).await,
            Self::Postgres(view) => boxed(view.get(space, key)).await,
        }
    }

    async fn many(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        match self {
            Self::Files(view) => view.many(space, keys).await,
            Self::Postgres(view) => boxed(view.many(space, keys)).await,
        }
    }

    async fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>> {
        match self {
            Self::Files(view) => view.page(space, start, from, limit).await,
            Self::Postgres(view) => boxed(view.page(space, start, from, limit)).await,
        }
    }
}

/// A view that the root may be read in.
fn beside(held: Option<&SiteView>) -> Option<&PgView> {
    held.and_then(|held| held.postgres().ok())
}

impl Backend for Sites {
    type View = SiteView;

    fn is_shared(&self) -> bool {
        self.files.is_none()
    }

    async fn refresh(&self, held: Option<&SiteView>) -> Result<()> {
        match self.root_site() {
            Site::Postgres(cluster) if !cluster.is_trusted() => {
                boxed(cluster.refresh(beside(held))).await
            }
            Site::Files(_) | Site::Postgres(_) => Ok(()),
        }
    }

    async fn confirm(&self, tenant: &OpenTenant) -> Result<()> {
        asked!(self.root_site(), site => site.confirm(tenant))
    }

    async fn root(&self, held: Option<&SiteView>) -> Result<SiteView> {
        match self.root_site() {
            Site::Files(files) => files.root(None).await.map(SiteView::Files),
            Site::Postgres(cluster) => cluster.root(beside(held)).await.map(SiteView::Postgres),
        }
    }

    async fn root_for(&self, tenant: &OpenTenant) -> Result<SiteView> {
        seen!(self.root_site(), site => site.root_for(tenant))
    }

    async fn view(&self, tenant: &OpenTenant) -> Result<SiteView> {
        seen!(self.at(tenant.placement()), site => site.view(tenant))
    }

    async fn change(&self, tenant: &OpenTenant) -> Result<SiteView> {
        seen!(self.at(tenant.placement()), site => site.change(tenant))
    }

    async fn change_root(&self, tenants: &[&OpenTenant]) -> Result<SiteView> {
        seen!(self.root_site(), site => site.change_root(tenants))
    }

    fn can_make(&self, isolation: Isolation, location: Location) -> Result<()> {
        match (&self.files, location) {
            (Some(files), Location::Home) => files.can_make(isolation, location),
            (Some(files), _) => {
                self.cluster.can_make(isolation, location)?;
                files.allow_databases()
            }
            (None, _) => self.cluster.can_make(isolation, location),
        }
    }

    async fn check_own(&self, tenant: Option<TenantId>, own: &OwnDatabase) -> Result<()> {
        boxed(self.cluster.check_own(tenant, own)).await
    }

    fn own_changed(&self, tenant: TenantId) {
        self.cluster.own_changed(tenant);
    }

    async fn make_place(&self, tenant: &OpenTenant) -> Result<()> {
        asked!(self.at(tenant.placement()), site => site.make_place(tenant))
    }

    async fn remove_place(&self, placement: Placement, was_made: bool) -> Result<bool> {
        asked!(self.at(placement), site => site.remove_place(placement, was_made))
    }

    async fn unmake_place(&self, placement: Placement) -> Result<()> {
        asked!(self.at(placement), site => site.unmake_place(placement))
    }

    async fn place_opened(&self, placement: Placement) -> Result<()> {
        asked!(self.at(placement), site => site.place_opened(placement))
    }

    async fn change_first(&self, tenant: &OpenTenant) -> Result<SiteView> {
        seen!(self.at(tenant.placement()), site => site.change_first(tenant))
    }

    async fn creating(&self) -> Result<SiteView> {
        seen!(self.root_site(), site => site.creating())
    }

    fn submit(
        &self,
        view: SiteView,
        set: WriteSet,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        // Here and now: sets of the root are committed in the order of these calls.
        let submitted: Boxed<'static, Result<()>> = match (self.at(set.placement), view) {
            (Site::Files(files), SiteView::Files(view)) => boxed(files.submit(view, set)),
            (Site::Postgres(cluster), SiteView::Postgres(view)) => match &self.files {
                None => boxed(cluster.submit(view, set)),
                Some(files) => {
                    let (files, cluster) = (Arc::clone(files), Arc::clone(&self.cluster));
                    boxed(beside_files(files, cluster, view, set))
                }
            },
            _ => boxed(async { Err(is_other()) }),
        };
        submitted
    }

    async fn slot(&self, root: &SiteView, tenant: TenantId) -> Result<Slot> {
        match self.root_site() {
            Site::Files(files) => files.slot(root.files()?, tenant).await,
            Site::Postgres(cluster) => boxed(cluster.slot(root.postgres()?, tenant)).await,
        }
    }

    fn wrap(&self, tenant: TenantId, key: &SealingKey, entropy: &dyn Entropy) -> Result<SlotWrite> {
        each!(self.root_site(), site => site.wrap(tenant, key, entropy))
    }

    async fn tenant_gone(&self, tenant: TenantId) -> Result<()> {
        if let Some(files) = &self.files {
            files.tenant_gone(tenant).await?;
        }
        self.cluster.tenant_gone(tenant).await
    }

    fn obstacle(&self, placement: Placement) -> Option<Obstacle> {
        each!(self.at(placement), site => site.obstacle(placement))
    }

    fn abandoned(&self, placement: Placement, own: Option<&OwnDatabase>) {
        self.cluster.abandoned(placement, own);
        if let Some(files) = &self.files {
            files.look_for_notes();
        }
    }

    async fn collections_gone(&self, placement: Placement, numbers: Vec<u32>) -> Result<()> {
        asked!(self.at(placement), site => site.collections_gone(placement, numbers))
    }
}

/// Commits to a database what was made by a tenant whose root is in files.
async fn beside_files(
    files: Arc<Files>,
    cluster: Arc<Cluster>,
    view: PgView,
    set: WriteSet,
) -> Result<()> {
    let generation = set.generation;
    if files.generation() != generation {
        let message = "the store was reopened at this moment; try again";
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    cluster.submit(view, set).await?;
    // Somebody may have opened the tenant anew meanwhile, and have read what was there before.
    if files.generation() != generation {
        cluster.forget_catalogs();
    }
    Ok(())
}
