//! Files as a place for rows: fjall, the slot file, and what is in memory of them.

use super::{
    Space, WriteSet, compute,
    db::{Db, Disk},
    hot::HotSet,
    saved::Saved,
    seal::SealingKey,
    slot::{Slot, SlotWrite},
    slots::SlotFile,
    tenants::OpenTenant,
};
use crate::{
    Entropy,
    pool::Pool,
    tenancy::{Backend, Pair, View},
};
use parking_lot::Mutex;
use std::{fs::File, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_index::IndexConfig;
use tenantry_types::{CollectionNumber, Result};

/// The files of a store, and what is in memory of them.
#[derive(Debug)]
pub(crate) struct Files {
    pub(super) disk: Disk,
    pub(super) slots: Arc<SlotFile>,
    pub(super) hot: Arc<HotSet>,
    pub(super) saved: Arc<Saved>,
    pub(super) pool: Pool,
    pub(super) index: IndexConfig,
    /// Wakes the purger.
    pub(super) purge: Arc<tokio::sync::Notify>,
    /// Held for as long as the folder is in use.
    pub(super) lock: Mutex<Option<File>>,
}

impl View for Arc<Db> {
    fn generation(&self) -> u64 {
        Db::generation(self)
    }

    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(Db::get(self, space, key)?.map(|value| value.to_vec()))
    }

    async fn many(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let one = |key: &Vec<u8>| Ok(Db::get(self, space, key)?.map(|value| value.to_vec()));
        keys.iter().map(one).collect()
    }

    async fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>> {
        let rows = self.scan(space, start, Some(from)).take(limit);
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
    }
}

impl Backend for Files {
    type View = Arc<Db>;

    const IS_SHARED: bool = false;

    async fn refresh(&self) -> Result<()> {
        Ok(())
    }

    async fn confirm(&self, _tenant: &OpenTenant) -> Result<()> {
        Ok(())
    }

    async fn root(&self) -> Result<Arc<Db>> {
        self.disk.db()
    }

    async fn view(&self, _tenant: &OpenTenant) -> Result<Arc<Db>> {
        self.disk.db()
    }

    async fn change(&self, _tenants: &[&OpenTenant]) -> Result<Arc<Db>> {
        self.disk.db()
    }

    async fn creating(&self) -> Result<Arc<Db>> {
        self.disk.db()
    }

    fn submit(
        &self,
        _view: Arc<Db>,
        set: WriteSet,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        self.disk.commit(set)
    }

    async fn slot(&self, _root: &Arc<Db>, tenant: TenantId) -> Result<Slot> {
        self.slots.read(tenant)
    }

    fn wrap(&self, tenant: TenantId, key: &SealingKey, entropy: &dyn Entropy) -> SlotWrite {
        self.slots.wrap(tenant, key, entropy)
    }

    /// A crash in here is made good by the purger at the next start.
    async fn tenant_gone(&self, tenant: TenantId) -> Result<()> {
        self.hot.forget_tenant(tenant);
        self.purge.notify_one();
        let slots = Arc::clone(&self.slots);
        compute(usize::MAX, move || slots.erase(tenant)).await?;
        self.forget_saved_tenant(tenant).await
    }

    async fn collections_gone(&self, tenant: TenantId, numbers: Vec<u32>) -> Result<()> {
        for number in &numbers {
            self.hot.forget(tenant, CollectionNumber(*number));
        }
        self.purge.notify_one();
        self.forget_saved(tenant, numbers).await
    }
}
