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
use tenantry_types::Result;

/// Rows read at once.
const AT_ONCE: usize = 1_024;
/// Tenants without a note that one count names.
const UNNOTED_MAX: usize = 64;
/// Tenants with a note that one count names.
const NOTED_MAX: usize = 8;

/// Which rows a count has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Rows {
    #[default]
    Names,
    Kept,
    Members,
}

/// Some tenants by number, of which the next count names those that follow.
#[derive(Debug, Default)]
pub struct Lap {
    tenants: Vec<TenantId>,
    most: usize,
    /// Those are named that have a higher number.
    after: u64,
}

impl Lap {
    fn new(most: usize, after: Option<TenantId>) -> Self {
        Self { tenants: Vec::new(), most, after: after.map_or(0, TenantId::get) }
    }

    fn name(&mut self, tenant: u64) {
        if tenant > self.after && self.tenants.len() < self.most {
            self.tenants.push(TenantId::new(tenant));
        }
    }

    /// Those that are named.
    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// Behind which tenant the next lap begins if this one came to one of them; none is the beginning.
    pub fn goes_on(&self, came_to: Option<TenantId>) -> Option<TenantId> {
        let is_over = self.tenants.len() < self.most && came_to == self.tenants.last().copied();
        came_to.filter(|_| !is_over)
    }
}

/// A count of what all living tenants keep. A tenant that is deleted counts until it is erased.
#[derive(Debug, Default)]
pub struct Census {
    /// What all keep of which it is known.
    pub total: KeptSum,
    /// What of it those keep that are told apart.
    pub apart: BTreeMap<TenantId, KeptSum>,
    /// Tenants of which something is not known, and not counted.
    pub uncounted: u64,
    /// Some of them of which nothing was ever noted, which adding up their usage does.
    pub unnoted: Lap,
    /// Some tenants with a note, which adding up their usage mends if it is wrong.
    pub noted: Lap,
    rows: Rows,
    from: Option<Vec<u8>>,
    /// By number.
    living: Vec<u64>,
    /// So many of them were come past among the notes.
    passed: usize,
}

impl Census {
    /// A new count, which tells these tenants apart, and names tenants without a note and with one
    /// from the first behind these.
    pub fn new(apart: &[TenantId], (unnoted, noted): (Option<TenantId>, Option<TenantId>)) -> Self {
        let apart = apart.iter().map(|tenant| (*tenant, KeptSum::default())).collect();
        let (unnoted, noted) = (Lap::new(UNNOTED_MAX, unnoted), Lap::new(NOTED_MAX, noted));
        Self { apart, unnoted, noted, ..Self::default() }
    }

    /// What all keep but these. One that was not told apart when it was counted is one of the others.
    pub fn others(&self, apart: &[TenantId]) -> KeptSum {
        let mut known = KeptSum::default();
        for (_, one) in self.apart.iter().filter(|(tenant, _)| apart.contains(tenant)) {
            known += *one;
        }
        self.total.without(known)
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
        self.noted.name(tenant);
        self.uncounted += u64::from(stock.records.is_none() || stock.bytes.is_none());
        let (records, bytes) = (stock.records.unwrap_or(0), stock.bytes.unwrap_or(0));
        self.add(tenant, KeptSum { records, bytes, users: 0 });
    }

    /// Those up to this one have no note.
    fn pass(&mut self, to: usize) {
        let missing = self.living.get(self.passed..to).unwrap_or_default();
        self.uncounted += missing.len() as u64;
        for tenant in missing {
            self.unnoted.name(*tenant);
        }
    }

    /// Takes a row. One that is damaged hides nobody else.
    fn take(&mut self, installation: &OpenTenant, key: &[u8], row: &[u8]) {
        match self.rows {
            Rows::Names => match number(row) {
                Ok(tenant) => self.living.push(tenant),
                Err(error) => {
                    tracing::warn!(?error, "the number of a tenant cannot be read");
                    self.uncounted += 1;
                }
            },
            Rows::Kept => match keys::Kept::decode(INSTALLATION, key) {
                Some(keys::Kept { tenant }) => {
                    self.note(tenant, opened(installation, key, row).unwrap_or_default());
                }
                None => tracing::warn!("the key of what a tenant keeps cannot be read"),
            },
            Rows::Members => match keys::MemberCounts::decode(INSTALLATION, key) {
                Some(keys::MemberCounts { tenant }) => self.members(tenant, installation, key, row),
                None => tracing::warn!("the key of how many members a tenant has cannot be read"),
            },
        }
    }

    fn members(&mut self, tenant: u64, installation: &OpenTenant, key: &[u8], row: &[u8]) {
        if self.living.binary_search(&tenant).is_err() {
            return;
        }
        match installation.open_row::<DiskMemberCounts>(key, row) {
            Ok(row) => {
                let users = members::Counts::of(row).members().into();
                self.add(tenant, KeptSum { users, ..KeptSum::default() });
            }
            Err(error) => {
                tracing::warn!(?error, tenant, "how many members a tenant has cannot be read");
                self.uncounted += 1;
            }
        }
    }

    /// All rows of this kind were taken; true if there is no other kind.
    fn end(&mut self) -> bool {
        self.from = None;
        match self.rows {
            Rows::Names => {
                self.living.sort_unstable();
                // One that is renamed meanwhile may be come past twice.
                self.living.dedup();
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

/// What a note says; none if it is damaged.
fn opened(installation: &OpenTenant, key: &[u8], row: &[u8]) -> Option<Stock> {
    let kept = installation.open_row::<DiskKept>(key, row);
    kept.inspect_err(|error| tracing::warn!(?error, "what a tenant keeps cannot be read"))
        .ok()
        .map(DiskKept::into_stock)
}

/// What is noted of a tenant; none also if that is damaged, so that it is noted anew.
pub(super) async fn kept_in(
    root: &impl View,
    installation: &OpenTenant,
    tenant: TenantId,
) -> Result<Option<Stock>> {
    let key = key(tenant);
    let row = root.get(Space::Catalog, &key).await?;
    Ok(row.and_then(|row| opened(installation, &key, &row)))
}

impl<B: Backend> Tenancy<B> {
    /// The note of a new tenant, which keeps nothing; none before anything is counted.
    pub(crate) fn first_kept(
        &self,
        installation: &OpenTenant,
        tenant: TenantId,
    ) -> Option<(Vec<u8>, Vec<u8>)> {
        if !self.tenants.origins.is_open() {
            return None;
        }
        let (key, mut nonces) = (key(tenant), Nonces::draw(&*self.entropy));
        let row = disk::encode(&DiskKept::new(self.kept_uncounted(true)));
        let sealed = installation.key().seal(&key, &row, true, &mut nonces);
        Some((key, sealed))
    }

    /// What is noted of a tenant of which nothing was ever counted. Before older programs are kept out
    /// nobody counts what it writes next.
    pub(super) fn kept_uncounted(&self, is_empty: bool) -> Stock {
        let nothing = (is_empty && self.tenants.origins.is_open()).then_some(0);
        Stock { records: nothing, bytes: nothing }
    }

    /// Goes on with a count by a page; true once it is done. A page that cannot be read changes
    /// nothing.
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
            census.take(&installation, key, row);
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
        let mut census = Census::new(&apart, (after.map(TenantId::new), None));
        census.living = living.to_vec();
        assert!(!census.end());
        for tenant in notes {
            census.note(*tenant, stock(*tenant));
        }
        assert!(!census.end());
        census
    }

    #[test]
    fn others_keep_what_is_left_of_all() {
        let census = counted(&[2, 9], None, &[3, 1, 2], &[1, 2, 3, 4]);
        assert_eq!(census.total, KeptSum { records: 6, bytes: 60, users: 0 });
        assert_eq!(
            census.others(&[2, 9].map(TenantId::new)),
            KeptSum { records: 4, bytes: 40, users: 0 }
        );
        assert_eq!((census.uncounted, census.unnoted.tenants().len()), (0, 0));
    }

    #[test]
    fn what_is_not_known_is_not_counted_and_is_told() {
        let mut census = counted(&[], Some(2), &[1, 2, 3, 4, 5], &[4]);
        assert_eq!((census.total.records, census.uncounted), (4, 4));
        assert_eq!(census.unnoted.tenants(), [3, 5].map(TenantId::new));
        assert_eq!(census.noted.tenants(), [TenantId::new(4)]);
        census.rows = Rows::Kept;
        census.note(5, Stock { records: Some(1), bytes: None });
        assert_eq!((census.total.records, census.uncounted), (5, 5));
    }

    #[test]
    fn only_so_many_are_named_at_once() {
        let living: Vec<u64> = (1..=1_000).collect();
        let first = counted(&[], None, &living, &[1_000]);
        assert_eq!((first.unnoted.tenants().len(), first.uncounted), (UNNOTED_MAX, 999));
        let last = first.unnoted.goes_on(first.unnoted.tenants().last().copied()).unwrap();
        let next = counted(&[], Some(last.get()), &living, &[1_000]);
        assert_eq!(next.unnoted.tenants().first(), Some(&TenantId::new(last.get() + 1)));
    }

    #[test]
    fn each_tenant_with_a_note_is_named_once_in_a_lap() {
        let living: Vec<u64> = (1..=20).collect();
        let (mut after, mut named) = (None, Vec::new());
        for _ in 0..3 {
            let mut census = Census::new(&[], (None, after));
            census.living.clone_from(&living);
            assert!(!census.end());
            for tenant in &living {
                census.note(*tenant, stock(1));
            }
            named.extend(census.noted.tenants().iter().map(|tenant| tenant.get()));
            after = census.noted.goes_on(census.noted.tenants().last().copied());
        }
        assert_eq!((named, after), (living, None));
    }

    /// One that holds up all others is behind whoever comes next.
    #[test]
    fn a_lap_goes_on_behind_the_last_that_was_tried() {
        let census = counted(&[], None, &[1, 2, 3], &[]);
        let goes_on = |came_to: Option<u64>| census.unnoted.goes_on(came_to.map(TenantId::new));
        assert_eq!(goes_on(Some(1)), Some(TenantId::new(1)));
        assert_eq!((goes_on(Some(3)), goes_on(None)), (None, None));
    }

    #[test]
    fn a_tenant_that_is_renamed_meanwhile_counts_once() {
        let census = counted(&[], None, &[2, 1, 2, 3], &[2]);
        assert_eq!((census.total.records, census.uncounted), (2, 2));
    }

    #[test]
    fn less_than_nothing_is_nothing() {
        let part = KeptSum { records: 2, bytes: 1, users: 3 };
        let left = KeptSum { records: 1, bytes: 4, users: 3 }.without(part);
        assert_eq!(left, KeptSum { records: 0, bytes: 3, users: 0 });
    }
}
