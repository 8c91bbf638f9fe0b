//! What moves need of a backend, and what becomes of each family of keys.

use crate::{
    pool::{Pool, Turn},
    tenancy::{Backend, Pair, View, WriteSet, keys::Family, place::Placement, tenants::OpenTenant},
};
use std::{sync::Arc, time::Duration};
use tenantry_types::Result;

/// Which attempt to lead it is that works on a move, where another process may take over.
pub(crate) type MoverId = [u8; 16];

/// A backend between whose places tenants can be moved.
pub(crate) trait Carry: Backend {
    /// The rows of a place, for whoever moves. Those of records are what any place takes: ids lead to
    /// ordinals, bodies are sealed, vectors are clear.
    type Rows: View + 'static;

    /// Fails if nothing can be moved here, and makes sure that programs that know nothing of moves
    /// do not open the store any more.
    fn allow_moves(&self) -> impl Future<Output = Result<()>> + Send;

    /// True if the store takes no more commits.
    fn is_closing(&self) -> bool;

    /// True if the fate of everything is known that was handed in to be committed to the root.
    fn is_decided(&self) -> bool;

    /// True if this process is the one that moves tenants.
    fn lead(&self) -> impl Future<Output = Result<bool>> + Send;

    /// The same without asking anybody.
    fn leads(&self) -> bool;

    /// False if this process never is.
    fn can_lead(&self) -> bool;

    /// For a process that never moves tenants: if no other one does, none begins to for as long as what
    /// this gives is held, and what this one signs meanwhile it signs anew.
    fn stand_in(&self) -> impl Future<Output = Result<Option<Box<dyn Send>>>> + Send;

    /// What it signs its work with; none if there is no other process.
    fn mover(&self) -> Option<MoverId>;

    /// The right to compute in the background for a tenant, if this process reads the disk. Nothing is
    /// committed while it is held.
    fn turn(&self, tenant: &OpenTenant) -> impl Future<Output = Result<Option<Turn>>> + Send;

    /// Where requests compute beside whoever moves a tenant among files; none where moving waits for a
    /// database.
    fn gate(&self) -> Option<&Pool>;

    /// All that is at the place where a tenant lives, for whoever reads much of it. Fails as moved
    /// if it does not live there when the reading begins; what is written later is not seen.
    fn whole(&self, tenant: &Arc<OpenTenant>) -> impl Future<Output = Result<Self::Rows>> + Send;

    /// True if what was read of a place since [`Carry::whole`] may still be held: nobody waits for
    /// it to be let go.
    fn may_hold(&self, rows: &Self::Rows) -> bool;

    /// How long another process may say nothing that fills a new tenant, before that is given up.
    fn arrival_patience(&self) -> Duration;

    /// What is at a place, for whoever moves its tenant there or away, closed or not.
    fn look(&self, tenant: &Arc<OpenTenant>) -> impl Future<Output = Result<Self::Rows>> + Send;

    /// The first data that start with `start` and are not below `from`, in key order: at most so
    /// many, and no more than take so many bytes together; one at least if there is one.
    fn page(
        &self,
        rows: &Self::Rows,
        start: &[u8],
        from: &[u8],
        most: (usize, usize),
    ) -> impl Future<Output = Result<Vec<Pair>>> + Send;

    /// How much is read before others are thought of: rows, and their bytes. Little where reading is
    /// computing, much where it waits for a server.
    fn grain(&self, rows: &Self::Rows) -> (usize, usize);

    /// True if the ids of a place are rows of their own, which can be read in their order. Otherwise
    /// they are parts of records, and looked up.
    fn has_ids(&self, placement: Placement) -> bool;

    /// Makes what a place needs; one that is there is only opened. From then on it takes what this
    /// process puts, and nothing from whoever has led before.
    fn make(&self, arriving: &OpenTenant) -> impl Future<Output = Result<()>> + Send;

    /// Lets a place learn what was copied there, so that whoever asks first finds that as fast as
    /// before. It takes its time.
    fn prepare(&self, arriving: &OpenTenant) -> impl Future<Output = Result<()>> + Send;

    /// Looks whether the new place may be entered; and puts off the pause of writes a little where its
    /// commits would have to wait for other work.
    fn calm(&self, arriving: &OpenTenant) -> impl Future<Output = Result<()>> + Send;

    /// Commits to a place that was made, for a tenant that does not live there.
    fn put(&self, arriving: &OpenTenant, set: WriteSet) -> impl Future<Output = Result<()>> + Send;

    /// Removes everything of the tenant from a place where it does not live.
    fn empty(&self, placement: Placement) -> impl Future<Output = Result<()>> + Send;

    /// Lets nobody commit any more to the place that a view for changes is of.
    fn close(
        &self,
        tenant: &OpenTenant,
        view: Self::View,
    ) -> impl Future<Output = Result<()>> + Send;

    /// True if [`Carry::close`] was not ended, whoever has closed it.
    fn is_shut(&self, placement: Placement) -> impl Future<Output = Result<bool>> + Send;

    /// Ends [`Carry::close`], whoever has closed it.
    fn reopen(&self, placement: Placement) -> impl Future<Output = Result<()>> + Send;

    /// [`Backend::change_root`] for the commit that says that a tenant, whose place is closed,
    /// lives elsewhere.
    fn deciding(
        &self,
        tenant: &OpenTenant,
        installation: &OpenTenant,
    ) -> impl Future<Output = Result<Self::View>> + Send;

    /// Lets nobody read a place any more, nor commit to it: the tenant lives in another one. What
    /// was read of it before stays right.
    fn left(&self, placement: Placement, to: Placement) -> impl Future<Output = ()> + Send;

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
            | Self::Arriving
            | Self::Claimed
            | Self::Home
            | Self::Plan
            | Self::TenantOfPlan
            | Self::Seen
            | Self::Usage
            | Self::Journal
            | Self::Written
            | Self::Tariff
            | Self::Webhook
            | Self::Delivery
            | Self::DeadLetter
            | Self::Member
            | Self::Group
            | Self::MemberCounts
            | Self::Thresholds
            | Self::Event
            | Self::EventDay
            | Self::Kept
            | Self::Erase
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
