//! Moving tenants among files, among databases, and from one to the other.

use super::{Rows, Site, SiteView, Sites, boxed, is_other};
use crate::{
    embedded::FilesRows,
    pool::{Pool, Turn},
    postgres::carried::Carried,
    tenancy::{
        Pair, WriteSet,
        moving::{Carry, MoverId},
        place::Placement,
        tenants::OpenTenant,
    },
};
use std::{sync::Arc, time::Duration};
use tenantry_types::Result;

/// Rows as moves see them.
type SiteRows = Rows<FilesRows, Carried>;

impl Carry for Sites {
    type Rows = SiteRows;

    async fn allow_moves(&self) -> Result<()> {
        asked!(self.root_site(), site => site.allow_moves())
    }

    fn is_closing(&self) -> bool {
        each!(self.root_site(), site => site.is_closing())
    }

    fn is_decided(&self) -> bool {
        each!(self.root_site(), site => site.is_decided())
    }

    async fn lead(&self) -> Result<bool> {
        asked!(self.root_site(), site => site.lead())
    }

    fn leads(&self) -> bool {
        each!(self.root_site(), site => site.leads())
    }

    fn can_lead(&self) -> bool {
        each!(self.root_site(), site => site.can_lead())
    }

    async fn stand_in(&self) -> Result<Option<Box<dyn Send>>> {
        asked!(self.root_site(), site => site.stand_in())
    }

    fn mover(&self) -> Option<MoverId> {
        each!(self.root_site(), site => site.mover())
    }

    async fn turn(&self, tenant: &OpenTenant) -> Result<Option<Turn>> {
        asked!(self.at(tenant.placement()), site => site.turn(tenant))
    }

    fn gate(&self) -> Option<&Pool> {
        each!(self.root_site(), site => site.gate())
    }

    async fn whole(&self, tenant: &Arc<OpenTenant>) -> Result<SiteRows> {
        match self.at(tenant.placement()) {
            Site::Files(files) => files.whole(tenant).await.map(SiteRows::Files),
            Site::Postgres(cluster) => boxed(cluster.whole(tenant)).await.map(SiteRows::Postgres),
        }
    }

    fn may_hold(&self, rows: &SiteRows) -> bool {
        let is_closing = self.is_closing();
        match (rows, &self.files) {
            (SiteRows::Files(rows), Some(files)) => !is_closing && files.may_hold(rows),
            (SiteRows::Files(_), None) => false,
            (SiteRows::Postgres(rows), _) => !is_closing && self.cluster.may_hold(rows),
        }
    }

    fn arrival_patience(&self) -> Duration {
        each!(self.root_site(), site => site.arrival_patience())
    }

    async fn look(&self, tenant: &Arc<OpenTenant>) -> Result<SiteRows> {
        match self.at(tenant.placement()) {
            Site::Files(files) => files.look(tenant).await.map(SiteRows::Files),
            Site::Postgres(cluster) => boxed(cluster.look(tenant)).await.map(SiteRows::Postgres),
        }
    }

    fn grain(&self, rows: &SiteRows) -> (usize, usize) {
        match (rows, &self.files) {
            (SiteRows::Files(rows), Some(files)) => files.grain(rows),
            // There are no such rows.
            (SiteRows::Files(_), None) => (1, 1),
            (SiteRows::Postgres(rows), _) => self.cluster.grain(rows),
        }
    }

    async fn page(
        &self,
        rows: &SiteRows,
        start: &[u8],
        from: &[u8],
        most: (usize, usize),
    ) -> Result<Vec<Pair>> {
        match (rows, &self.files) {
            (SiteRows::Files(rows), Some(files)) => {
                Carry::page(&**files, rows, start, from, most).await
            }
            (SiteRows::Files(_), None) => Err(is_other()),
            (SiteRows::Postgres(rows), _) => {
                boxed(Carry::page(&*self.cluster, rows, start, from, most)).await
            }
        }
    }

    fn has_ids(&self, placement: Placement) -> bool {
        each!(self.at(placement), site => site.has_ids(placement))
    }

    async fn make(&self, arriving: &OpenTenant) -> Result<()> {
        asked!(self.at(arriving.placement()), site => site.make(arriving))
    }

    async fn prepare(&self, arriving: &OpenTenant) -> Result<()> {
        asked!(self.at(arriving.placement()), site => site.prepare(arriving))
    }

    async fn calm(&self, arriving: &OpenTenant) -> Result<()> {
        let site = self.at(arriving.placement());
        if let (Site::Postgres(_), Site::Files(files)) = (&site, self.root_site()) {
            // The commit that decides goes there.
            files.calm_at(None).await?;
        }
        asked!(site, site => site.calm(arriving))
    }

    async fn put(&self, arriving: &OpenTenant, set: WriteSet) -> Result<()> {
        asked!(self.at(arriving.placement()), site => site.put(arriving, set))
    }

    async fn empty(&self, placement: Placement) -> Result<()> {
        asked!(self.at(placement), site => site.empty(placement))
    }

    async fn close(&self, tenant: &OpenTenant, view: SiteView) -> Result<()> {
        match (self.at(tenant.placement()), view) {
            (Site::Files(files), SiteView::Files(view)) => files.close(tenant, view).await,
            (Site::Postgres(cluster), SiteView::Postgres(view)) => {
                boxed(cluster.close(tenant, view)).await
            }
            _ => Err(is_other()),
        }
    }

    async fn is_shut(&self, placement: Placement) -> Result<bool> {
        asked!(self.at(placement), site => site.is_shut(placement))
    }

    async fn reopen(&self, placement: Placement) -> Result<()> {
        asked!(self.at(placement), site => site.reopen(placement))
    }

    async fn deciding(&self, tenant: &OpenTenant, installation: &OpenTenant) -> Result<SiteView> {
        seen!(self.root_site(), site => site.deciding(tenant, installation))
    }

    async fn left(&self, placement: Placement, to: Placement) {
        asked!(self.at(placement), site => site.left(placement, to));
        let is_files = |placement| matches!(self.at(placement), Site::Files(_));
        if let Some(files) = &self.files
            && is_files(placement) != is_files(to)
        {
            // What is in memory of the files does not learn what is written in a database.
            files.forget(placement.tenant);
        }
    }

    fn is_unread(&self, placement: Placement) -> bool {
        each!(self.at(placement), site => site.is_unread(placement))
    }
}
