//! What moves need of a backend, and what becomes of each family of keys.

use crate::{
    pool::Turn,
    tenancy::{Backend, Pair, WriteSet, keys::Family, place::Placement, tenants::OpenTenant},
};
use tenantry_types::Result;

/// A backend between whose places tenants can be moved.
pub(crate) trait Carry: Backend {
    /// Fails if nothing can be moved here, and makes sure that programs that know nothing of moves
    /// do not open the store any more.
    fn allow_moves(&self) -> Result<()>;

    /// True if the store takes no more commits.
    fn is_closing(&self) -> bool;

    /// True if the fate of everything is known that was handed in to be committed to the root.
    fn is_decided(&self) -> bool;

    /// The right to compute in the background for a tenant. Nothing is committed while it is held.
    fn turn(&self, tenant: &OpenTenant) -> impl Future<Output = Result<Turn>> + Send;

    /// The first data that start with `start` and are not below `from`, in key order: at most so
    /// many, and no more than take so many bytes together; one at least if there is one.
    fn page(
        &self,
        view: &Self::View,
        start: &[u8],
        from: &[u8],
        most: (usize, usize),
    ) -> impl Future<Output = Result<Vec<Pair>>> + Send;

    /// What is at a place, for whoever moves a tenant there or away.
    fn look(&self, placement: Placement) -> impl Future<Output = Result<Self::View>> + Send;

    /// Makes what a place needs; one that is there is only opened.
    fn make(&self, placement: Placement) -> impl Future<Output = Result<()>> + Send;

    /// Commits to a place, or to the root, whether or not it is closed.
    fn put(&self, set: WriteSet) -> impl Future<Output = Result<()>> + Send;

    /// Removes everything of the tenant from a place where it does not live.
    fn empty(&self, placement: Placement) -> impl Future<Output = Result<()>> + Send;

    /// Lets nobody commit to a place any more but [`Carry::put`].
    fn close(&self, placement: Placement);

    /// Ends [`Carry::close`].
    fn reopen(&self, placement: Placement);

    /// Lets nobody read a place any more, nor commit to it: the tenant lives elsewhere. What was
    /// read of it before stays right.
    fn left(&self, placement: Placement);

    /// True if nobody reads from a place any more who began before it was left.
    fn is_unread(&self, placement: Placement) -> bool;
}

/// What becomes of the rows of a family when their tenant is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The root's: they stay there.
    Root,
    /// What databases and collections are called and are: few, copied as they are.
    Catalog,
    /// Parts of records, and what is counted of them: copied collection by collection.
    Record,
    /// What was done, by number: copied as they are.
    Log,
    /// The counters: written last.
    Counters,
    /// The list of keys: with the data of a tenant in the root, and in the root's own rows
    /// otherwise.
    Keys,
    /// About the place itself: they stay, and go with it.
    Place,
    /// Nobody writes them yet. Whoever does must say here what becomes of them.
    Unused,
}

impl Family {
    /// What becomes of its rows in a move.
    pub(crate) fn role(self) -> Role {
        match self {
            Self::TenantName
            | Self::Key
            | Self::NextTenant
            | Self::Place
            | Self::Told
            | Self::NextSpace
            | Self::FreeSpace
            | Self::Bucket
            | Self::OwnDatabase
            | Self::Move
            | Self::Claimed
            | Self::Home
            | Self::Slot
            | Self::Tenant => Role::Root,
            Self::Database
            | Self::DatabaseName
            | Self::Collection
            | Self::CollectionName
            | Self::CollectionId => Role::Catalog,
            Self::Id | Self::Body | Self::Vector | Self::Statistics => Role::Record,
            Self::Change | Self::Audit => Role::Log,
            Self::Head => Role::Counters,
            Self::KeyOfTenant => Role::Keys,
            Self::Purge | Self::Claim | Self::PlaceVersion => Role::Place,
            Self::Partition
            | Self::PartitionName
            | Self::SparseVector
            | Self::Expiry
            | Self::Secondary
            | Self::Ledger
            | Self::Idempotency => Role::Unused,
        }
    }

    /// True if its rows are where the tenant's data are.
    pub(crate) fn is_in_place(self) -> bool {
        self.role() != Role::Root
    }

    /// The families of one role.
    pub(crate) fn of(role: Role) -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(move |family| family.role() == role)
    }
}
