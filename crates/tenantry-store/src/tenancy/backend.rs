//! What a backend must be able to do for the rows that all backends keep.

use super::{
    place::Placement,
    seal::SealingKey,
    set::{Space, WriteSet},
    slot::{Slot, SlotWrite},
    tenants::OpenTenant,
};
use crate::{Entropy, Obstacle};
use std::fmt::Debug;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Isolation, Location, OwnDatabase, Result};

/// A key with its value.
pub(crate) type Pair = (Vec<u8>, Vec<u8>);

/// Rows as they stand at one moment: every read sees the same commits, each of them whole.
pub(crate) trait View: Send + Sync {
    /// Grows whenever what was read before may be wrong, because a commit's fate was unknown.
    fn generation(&self) -> u64;

    /// The value of a key.
    fn get(&self, space: Space, key: &[u8])
    -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;

    /// The values of keys of one tenant, in their order.
    fn many(
        &self,
        space: Space,
        keys: &[Vec<u8>],
    ) -> impl Future<Output = Result<Vec<Option<Vec<u8>>>>> + Send;

    /// The first `limit` keys that start with `start` and are not below `from`, in key order.
    fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Pair>>> + Send;
}

/// Where rows are kept.
pub(crate) trait Backend: Debug + Send + Sync + Sized + 'static {
    /// How it is read.
    type View: View + 'static;

    /// True if other processes write to the root too: what is in memory may be older than what is
    /// stored, here and wherever tenants are.
    fn is_shared(&self) -> bool;

    /// Makes sure that what is in memory of tenants and keys is not older than a second, so that
    /// rights which another process took away are gone here too. `held` is as for
    /// [`Backend::root`].
    fn refresh(&self, held: Option<&Self::View>) -> impl Future<Output = Result<()>> + Send;

    /// Forgets what is cached of a tenant's catalog if it is not what is stored now; fails if the
    /// tenant is gone.
    fn confirm(&self, tenant: &OpenTenant) -> impl Future<Output = Result<()>> + Send;

    /// Everything that is not in a tenant's own place, as it stands now. Whoever holds a view for
    /// changes gives it: nobody waits for a second connection of a database while he has one,
    /// because there may be only one. What is returned is not to be used after that view.
    fn root(&self, held: Option<&Self::View>) -> impl Future<Output = Result<Self::View>> + Send;

    /// The same for whoever reads much of it for one tenant: others that look something up must not
    /// have to wait for it.
    fn root_for(&self, tenant: &OpenTenant) -> impl Future<Output = Result<Self::View>> + Send;

    /// The data of a tenant as they stand now.
    fn view(&self, tenant: &OpenTenant) -> impl Future<Output = Result<Self::View>> + Send;

    /// The data of a tenant for whoever changes them and has its writer lock: until it commits or
    /// drops the view, nobody else changes them, and the counters in memory are as stored. Nobody
    /// asks for a second view of changes or data while holding one; a root may be asked for with
    /// it.
    fn change(&self, tenant: &OpenTenant) -> impl Future<Output = Result<Self::View>> + Send;

    /// The root for whoever changes what it knows of these tenants, and has their locks. For
    /// those that live among others it is [`Backend::change`] too.
    fn change_root(
        &self,
        tenants: &[&OpenTenant],
    ) -> impl Future<Output = Result<Self::View>> + Send;

    /// Fails if no tenant can be made with this isolation at this location.
    fn can_make(&self, isolation: Isolation, location: Location) -> Result<()>;

    /// Looks at a database that this tenant shall carry, or a new one if none is given; fails with
    /// words for the operator if it cannot be.
    fn check_own(
        &self,
        tenant: Option<TenantId>,
        own: &OwnDatabase,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Forgets the way to the database that a tenant carries: another one is committed.
    fn own_changed(&self, tenant: TenantId);

    /// Makes the place of a tenant that lives apart, where nothing was ever answered from. What a
    /// making that was cut short has left is finished or made anew.
    fn make_place(&self, tenant: &OpenTenant) -> impl Future<Output = Result<()>> + Send;

    /// Removes the place of a tenant that is gone, and all that is in it. False if that takes its
    /// time, or cannot be done now: it is asked for again.
    fn remove_place(
        &self,
        placement: Placement,
        was_made: bool,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// Removes the place of a tenant that was deleted while it was made.
    fn unmake_place(&self, placement: Placement) -> impl Future<Output = Result<()>> + Send;

    /// The place of a tenant that lives apart is to be used for the first time since the tenant was
    /// read: it is looked at, and work may have been left in it.
    fn place_opened(&self, placement: Placement) -> impl Future<Output = Result<()>> + Send;

    /// [`Backend::change`] for the first commit in a place, when there may be no counters yet.
    fn change_first(&self, tenant: &OpenTenant) -> impl Future<Output = Result<Self::View>> + Send;

    /// The root for whoever makes a tenant: until it commits or drops the view, no other process
    /// makes one.
    fn creating(&self) -> impl Future<Output = Result<Self::View>> + Send;

    /// Commits what was made from a view for changes; durable when the future is done.
    /// Sets of the root are committed in the order of these calls.
    fn submit(
        &self,
        view: Self::View,
        set: WriteSet,
    ) -> impl Future<Output = Result<()>> + Send + 'static;

    /// A tenant's data key.
    fn slot(
        &self,
        root: &Self::View,
        tenant: TenantId,
    ) -> impl Future<Output = Result<Slot>> + Send;

    /// A data key as it is stored.
    fn wrap(&self, tenant: TenantId, key: &SealingKey, entropy: &dyn Entropy) -> Result<SlotWrite>;

    /// Destroys the data key of a tenant whose deletion is committed, and forgets what is in
    /// memory of it.
    fn tenant_gone(&self, tenant: TenantId) -> impl Future<Output = Result<()>> + Send;

    /// Why what a deleted tenant has left is still there, if it is known.
    fn obstacle(&self, placement: Placement) -> Option<Obstacle>;

    /// Tells, for whoever operates the program, what is left behind where a deleted tenant was,
    /// which carried this database if any, and goes on with the rest.
    fn abandoned(&self, placement: Placement, own: Option<&OwnDatabase>);

    /// Forgets what is in memory of collections whose deletion is committed.
    fn collections_gone(
        &self,
        placement: Placement,
        numbers: Vec<u32>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Reads all keys with one start, a page at a time. A database may be its tenant's own, and answer
/// with anything: what cannot be is refused.
pub(crate) struct Scan<'a, V> {
    view: &'a V,
    space: Space,
    start: Vec<u8>,
    from: Vec<u8>,
    page: std::vec::IntoIter<Pair>,
    is_last: bool,
    /// Rows that there may still be.
    left: u64,
}

/// Rows read at once.
const PAGE: usize = 256;

impl<'a, V: View> Scan<'a, V> {
    /// From `from` on, or all.
    pub(crate) fn new(view: &'a V, space: Space, start: Vec<u8>, from: Option<Vec<u8>>) -> Self {
        let from = from.unwrap_or_else(|| start.clone());
        let page = Vec::new().into_iter();
        Self { view, space, start, from, page, is_last: false, left: u64::MAX }
    }

    /// Fails if there are more rows than this, and two pages, which may be of another moment.
    pub(crate) fn at_most(self, rows: u64) -> Self {
        Self { left: rows.saturating_add(2 * PAGE as u64), ..self }
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Pair>> {
        if self.page.len() == 0 && !self.is_last {
            let page = self.view.page(self.space, &self.start, &self.from, PAGE).await?;
            check_page(&page, &self.start, &self.from, PAGE)?;
            let left = self.left.checked_sub(page.len() as u64);
            self.left = left.ok_or_else(|| Error::corrupt("more rows than there can be"))?;
            self.is_last = page.len() < PAGE;
            if let Some((last, _)) = page.last() {
                self.from.clone_from(last);
                self.from.push(0);
            }
            self.page = page.into_iter();
        }
        Ok(self.page.next())
    }

    /// How many there are.
    pub(crate) async fn count(mut self) -> Result<usize> {
        let mut count = 0;
        while self.next().await?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

/// Fails unless rows are the first ones with `start`, not below `from`, in their order: a database
/// that a tenant carries may answer with anything.
pub(crate) fn check_page(page: &[Pair], start: &[u8], from: &[u8], most: usize) -> Result<()> {
    let is_inside = |(key, _): &Pair| key.starts_with(start) && key.as_slice() >= from;
    let ascends = page.is_sorted_by(|(one, _), (next, _)| one < next);
    if page.len() <= most && ascends && page.iter().all(is_inside) {
        return Ok(());
    }
    Err(Error::corrupt("rows are not those that were asked for, or not in their order"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with what a function makes of the place of a row and where the page begins.
    struct Odd<F>(F);

    impl<F: Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + Sync> View for Odd<F> {
        fn generation(&self) -> u64 {
            0
        }

        async fn get(&self, _: Space, _: &[u8]) -> Result<Option<Vec<u8>>> {
            Ok(None)
        }

        async fn many(&self, _: Space, _: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
            Ok(Vec::new())
        }

        async fn page(&self, _: Space, _: &[u8], from: &[u8], _: usize) -> Result<Vec<Pair>> {
            Ok((0..).map_while(|at| self.0(at, from)).map(|key| (key, Vec::new())).collect())
        }
    }

    /// How many rows a scan gave, and whether it came to an end.
    async fn scanned(
        rows: u64,
        key: impl Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + Sync,
    ) -> (usize, bool) {
        let view = Odd(key);
        let mut scan = Scan::new(&view, Space::Data, b"k".to_vec(), None).at_most(rows);
        let mut count = 0;
        loop {
            match scan.next().await {
                Ok(Some(_)) => count += 1,
                end => return (count, end.is_ok()),
            }
        }
    }

    fn below(from: &[u8], at: usize) -> Vec<u8> {
        [from, &u16::try_from(at).unwrap().to_be_bytes()].concat()
    }

    #[tokio::test]
    async fn a_scan_refuses_what_no_database_of_ours_answers() {
        let ends = |at: usize, from: &[u8]| (at < 3).then(|| below(from, at));
        assert_eq!(scanned(3, ends).await, (3, true));
        let is_endless = |at: usize, from: &[u8]| (at < PAGE).then(|| below(from, at));
        assert_eq!(scanned(1_000, is_endless).await, (5 * PAGE, false));
        let is_large = |at: usize, from: &[u8]| (at <= PAGE).then(|| below(from, at));
        assert_eq!(scanned(1_000, is_large).await, (0, false));
        let repeats = |at: usize, _: &[u8]| (at < PAGE).then(|| below(b"k", at));
        assert_eq!(scanned(1_000, repeats).await, (PAGE, false));
        let falls = |at: usize, from: &[u8]| (at < 3).then(|| below(from, 9 - at));
        assert_eq!(scanned(1_000, falls).await, (0, false));
        let is_outside = |at: usize, _: &[u8]| (at < 3).then(|| below(b"l", at));
        assert_eq!(scanned(1_000, is_outside).await, (0, false));
    }
}
