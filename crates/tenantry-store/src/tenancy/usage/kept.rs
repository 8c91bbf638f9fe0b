//! What all tenants keep together, as the root knows it: what each keeps is noted there whenever its
//! usage is added up, so that a sum opens no tenant and asks no place, and one whose place does not
//! answer counts with what was seen of it last.

use super::INSTALLATION;
use crate::{
    KeptSum, Stock,
    tenancy::{
        Backend, Space, Tenancy, View,
        disk::{self, DiskKept, DiskMemberCounts},
        keys::{self, Decode as _},
        members, number,
        seal::Nonces,
        tenants::OpenTenant,
    },
};
use std::collections::BTreeMap;
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};

/// Rows read at once.
const AT_ONCE: usize = 1_024;
/// Tenants without a note that one count names.
const UNNOTED_MAX: usize = 64;

/// Which rows a count has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Rows {
    #[default]
    Names,
    Kept,
    Members,
}

/// A count of what all living tenants keep. A tenant that is deleted counts until it is erased.
#[derive(Debug, Default)]
pub struct Census {
    /// What all keep of which it is known.
    pub total: KeptSum,
    /// What of it those keep that are told apart.
    pub apart: BTreeMap<TenantId, KeptSum>,
    /// Tenants of which records or bytes are not known, and not counted.
    pub uncounted: u64,
    /// Some of them of which nothing was ever noted, which adding up their usage may do.
    pub unnoted: Vec<TenantId>,
    /// Those are named that have a higher number.
    after: u64,
    rows: Rows,
    from: Option<Vec<u8>>,
    /// By number.
    living: Vec<u64>,
    /// So many of them were come past among the notes.
    passed: usize,
}

impl Census {
    /// A new count, which tells these tenants apart and names tenants without a note from the first
    /// behind `after`.
    pub fn new(apart: &[TenantId], after: Option<TenantId>) -> Self {
        let apart = apart.iter().map(|tenant| (*tenant, KeptSum::default())).collect();
        Self { apart, after: after.map_or(0, TenantId::get), ..Self::default() }
    }

    /// What all keep that are not told apart.
    pub fn others(&self) -> KeptSum {
        let mut apart = KeptSum::default();
        self.apart.values().for_each(|one| apart += *one);
        self.total.without(apart)
    }

    /// Where naming tenants without a note goes on.
    pub fn named_up_to(&self) -> Option<TenantId> {
        self.unnoted.last().copied().filter(|_| self.unnoted.len() == UNNOTED_MAX)
    }

    fn add(&mut self, tenant: u64, more: KeptSum) {
        self.total += more;
        if let Some(one) = self.apart.get_mut(&TenantId::new(tenant)) {
            *one += more;
        }
    }

    /// Takes a note. Those of tenants that are gone stay for a while, and say nothing.
    fn note(&mut self, tenant: u64, stock: Stock) {
        let Ok(at) = self.living.binary_search(&tenant) else { return };
        self.pass(at);
        self.passed = at + 1;
        self.uncounted += u64::from(stock.records.is_none() || stock.bytes.is_none());
        let (records, bytes) = (stock.records.unwrap_or(0), stock.bytes.unwrap_or(0));
        self.add(tenant, KeptSum { records, bytes, users: 0 });
    }

    /// Those up to this one have no note.
    fn pass(&mut self, to: usize) {
        let missing = self.living.get(self.passed..to).unwrap_or_default();
        self.uncounted += missing.len() as u64;
        let room = UNNOTED_MAX.saturating_sub(self.unnoted.len());
        let named = missing.iter().filter(|tenant| **tenant > self.after).take(room);
        self.unnoted.extend(named.map(|tenant| TenantId::new(*tenant)));
    }

    fn take(&mut self, installation: &OpenTenant, key: &[u8], row: &[u8]) -> Result<()> {
        let unreadable = || Error::corrupt("the key of what a tenant keeps cannot be read");
        match self.rows {
            Rows::Names => self.living.push(number(row)?),
            Rows::Kept => {
                let tenant = keys::Kept::decode(INSTALLATION, key).ok_or_else(unreadable)?.tenant;
                let kept = installation.open_row::<DiskKept>(key, row);
                // One that is damaged hides nobody else.
                let kept = kept.inspect_err(|error| {
                    tracing::warn!(?error, tenant, "what a tenant keeps cannot be read");
                });
                self.note(tenant, kept.map_or_else(|_| Stock::default(), DiskKept::into_stock));
            }
            Rows::Members => {
                let key_of = keys::MemberCounts::decode(INSTALLATION, key);
                let tenant = key_of.ok_or_else(unreadable)?.tenant;
                if self.living.binary_search(&tenant).is_ok() {
                    let row: DiskMemberCounts = installation.open_row(key, row)?;
                    let users = members::Counts::of(row).members().into();
                    self.add(tenant, KeptSum { users, ..KeptSum::default() });
                }
            }
        }
        Ok(())
    }

    /// All rows of this kind were taken; true if there is no other kind.
    fn end(&mut self) -> bool {
        self.from = None;
        match self.rows {
            Rows::Names => {
                self.living.sort_unstable();
                self.rows = Rows::Kept;
            }
            Rows::Kept => {
                self.pass(self.living.len());
                self.rows = Rows::Members;
            }
            Rows::Members => return true,
        }
        false
    }
}

/// The key of what a tenant keeps.
pub(super) fn key(tenant: TenantId) -> Vec<u8> {
    keys::Kept { tenant: tenant.get() }.encode(INSTALLATION)
}

/// What is noted of a tenant.
pub(super) async fn kept_in(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
) -> Result<Option<Stock>> {
    let row: Option<DiskKept> = installation.row(root, Space::Catalog, &key(tenant)).await?;
    Ok(row.map(DiskKept::into_stock))
}

impl<B: Backend> Tenancy<B> {
    /// The note of a new tenant, which keeps nothing.
    pub(crate) fn first_kept(
        &self,
        installation: &OpenTenant,
        tenant: TenantId,
    ) -> (Vec<u8>, Vec<u8>) {
        let (key, mut nonces) = (key(tenant), Nonces::draw(&*self.entropy));
        let row = disk::encode(&DiskKept::new(Stock { records: Some(0), bytes: Some(0) }));
        let sealed = installation.key().seal(&key, &row, true, &mut nonces);
        (key, sealed)
    }

    /// Goes on with a count by a page; true once it is done.
    pub(crate) async fn count_on(&self, census: &mut Census) -> Result<bool> {
        let installation = self.installation().await?;
        let all = match census.rows {
            Rows::Names => keys::TenantName::all(INSTALLATION),
            Rows::Kept => keys::Kept::all(INSTALLATION),
            Rows::Members => keys::MemberCounts::all(INSTALLATION),
        };
        let from = census.from.as_ref().unwrap_or(&all);
        let rows = self.root(None).await?.page(Space::Catalog, &all, from, AT_ONCE).await?;
        for (key, row) in &rows {
            census.take(&installation, key, row)?;
        }
        if rows.len() < AT_ONCE {
            return Ok(census.end());
        }
        census.from = rows.into_iter().next_back().map(|(mut last, _)| {
            last.push(0);
            last
        });
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(records: u64) -> Stock {
        Stock { records: Some(records), bytes: Some(10 * records) }
    }

    fn counted(apart: &[u64], after: Option<u64>, living: &[u64], notes: &[u64]) -> Census {
        let apart: Vec<_> = apart.iter().copied().map(TenantId::new).collect();
        let mut census = Census::new(&apart, after.map(TenantId::new));
        census.living = living.to_vec();
        assert!(!census.end());
        notes.iter().for_each(|tenant| census.note(*tenant, stock(*tenant)));
        assert!(!census.end());
        census
    }

    #[test]
    fn others_keep_what_is_left_of_all() {
        let census = counted(&[2, 9], None, &[3, 1, 2], &[1, 2, 3, 4]);
        assert_eq!(census.total, KeptSum { records: 6, bytes: 60, users: 0 });
        assert_eq!(census.others(), KeptSum { records: 4, bytes: 40, users: 0 });
        assert_eq!((census.uncounted, census.unnoted.len()), (0, 0));
    }

    #[test]
    fn what_is_not_known_is_not_counted_and_is_told() {
        let mut census = counted(&[], Some(2), &[1, 2, 3, 4, 5], &[4]);
        assert_eq!((census.total.records, census.uncounted), (4, 4));
        assert_eq!(census.unnoted, [3, 5].map(TenantId::new));
        assert_eq!(census.named_up_to(), None);
        census.rows = Rows::Kept;
        census.note(5, Stock { records: Some(1), bytes: None });
        assert_eq!((census.total.records, census.uncounted), (5, 5));
    }

    #[test]
    fn only_so_many_are_named_at_once() {
        let living: Vec<u64> = (1..=1_000).collect();
        let first = counted(&[], None, &living, &[1_000]);
        assert_eq!((first.unnoted.len(), first.uncounted), (UNNOTED_MAX, 999));
        let last = first.named_up_to().unwrap();
        let next = counted(&[], Some(last.get()), &living, &[1_000]);
        assert_eq!(next.unnoted.first(), Some(&TenantId::new(last.get() + 1)));
    }

    #[test]
    fn less_than_nothing_is_nothing() {
        let part = KeptSum { records: 2, bytes: 1, users: 3 };
        let left = KeptSum { records: 1, bytes: 4, users: 3 }.without(part);
        assert_eq!(left, KeptSum { records: 0, bytes: 3, users: 0 });
    }
}
