//! Both copies are compared, row by row. Where they differ while the source is written to, the row
//! is marked, and so is all that is replayed from then on; what is marked must be the same at last,
//! when the source rests.

use super::{
    Carry,
    carry::Role,
    copy::{Differences, Rows},
    pace::Rested,
    replay::late,
    run::Mover,
};
use crate::tenancy::{
    Space, Tenancy, View,
    backend::Scan,
    keys::{self, Decode as _, Family, PREFIX_BYTES},
    tenants::OpenTenant,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};
use tenantry_types::{Error, Result};

/// Rows compared in one step, and their bytes.
const ROWS_AT_ONCE: usize = 512;
const BYTES_AT_ONCE: usize = 512 << 10;
/// Starts of keys looked at in one step.
const STARTS_AT_ONCE: usize = 64;
/// Marked rows looked at together, and while writes wait.
const MARKS_TOGETHER: usize = 128;
const MARKS_IN_PAUSE: usize = 256;

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Check {
    /// Starts of keys that are still to be compared, the first from a key on.
    left: VecDeque<(Vec<u8>, Option<Vec<u8>>)>,
    /// Keys that were not the same, or were replayed since.
    marks: BTreeSet<Vec<u8>>,
    /// Records that were compared.
    records: u64,
}

impl Check {
    /// Marks what is replayed. Old changes are removed at the destination, so they are not compared.
    pub(super) fn mark(&mut self, rows: &Rows) {
        let is_compared = |key: &&Vec<u8>| {
            let family = key.get(PREFIX_BYTES - 1);
            family != Some(&(Family::Change as u8)) && family != Some(&(Family::Purge as u8))
        };
        self.marks.extend(rows.keys().filter(is_compared).cloned());
    }

    pub(super) fn marks(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// True if everything was compared once.
    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Fails if a copy that should be the same is not.
    pub(super) fn fail_if_any(&self, tenant: &OpenTenant) -> Result<()> {
        let Some(first) = self.marks.first() else { return Ok(()) };
        let family = first.get(PREFIX_BYTES - 1).copied().unwrap_or(0);
        let (id, rows) = (tenant.id(), self.marks.len());
        Err(Error::corrupt(format!(
            "the copy of tenant {id} differs in {rows} rows; the first is of family {family:#04x}"
        )))
    }
}

impl<B: Carry> Tenancy<B> {
    /// Begins to compare.
    pub(super) async fn begin_check(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &OpenTenant,
    ) -> Result<Check> {
        let have_ids = self.has_ids(tenant.placement()) && self.has_ids(arriving.placement());
        let view = self.look(tenant).await?;
        let mut check = Check::default();
        let prefix = tenant.prefix();
        for family in Family::of(Role::Catalog).chain([Family::Audit]) {
            check.left.push_back((prefix.family(family), None));
        }
        // Those that are made later are replayed.
        let all = keys::Collection::all(prefix);
        let mut rows = Scan::new(&view, Space::Data, all, None);
        while let Some((key, _)) = rows.next().await? {
            let key = keys::Collection::decode(prefix, &key)
                .ok_or_else(|| Error::corrupt("a collection's key is unreadable"))?;
            for start in keys::records_of(prefix, key.collection) {
                let is_of = |family: &Family| start.starts_with(&prefix.family(*family));
                let family = Family::of(Role::Record).find(|family| is_of(family));
                if family.is_some_and(|family| family != Family::Id || have_ids) {
                    check.left.push_back((start, None));
                }
            }
        }
        Ok(check)
    }

    /// Compares some rows; false if none are left.
    pub(super) async fn compare(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        check: &mut Check,
    ) -> Result<bool> {
        if check.left.is_empty() {
            return Ok(false);
        }
        // Opened before the turn is waited for, and not held meanwhile.
        drop((self.look(tenant).await?, self.look(arriving).await?));
        let mut turn = self.turn(tenant).await?;
        let ours = self.look(tenant).await?;
        let theirs = self.look(arriving).await?;
        let (mut rows, mut bytes, mut rested) = (0, 0, Rested::now());
        for _ in 0..STARTS_AT_ONCE {
            let Some((start, from)) = check.left.pop_front() else { break };
            let mut differences =
                Differences::new(&**self, (&ours, &theirs), &start, from.as_deref());
            let is_full = |differences: &Differences<'_, B>| {
                rows + differences.rows >= ROWS_AT_ONCE
                    || bytes + differences.bytes >= BYTES_AT_ONCE
            };
            while let Some((differs, _)) = differences.next().await? {
                if differs {
                    check.marks.insert(differences.last.clone());
                }
                // A record has one body, whatever else it has.
                let family = differences.last.get(PREFIX_BYTES - 1);
                check.records += u64::from(family == Some(&(Family::Body as u8)));
                self.moves.pace.pass(&mut turn, &mut rested).await;
                if is_full(&differences) {
                    self.count_compared(differences.bytes);
                    let mut following = differences.last.clone();
                    following.push(0);
                    check.left.push_front((start, Some(following)));
                    return Ok(true);
                }
            }
            self.count_compared(differences.bytes);
            rows += differences.rows;
            bytes += differences.bytes;
        }
        Ok(true)
    }

    fn count_compared(&self, bytes: usize) {
        self.moves.pace.count(bytes);
        self.moves.compared(bytes);
    }

    /// Takes the marks off what is the same now, and off rows of collections that are gone: there
    /// the purger removes what was copied. Fails with `Busy` at this moment.
    pub(super) async fn settle(
        &self,
        tenant: &OpenTenant,
        view: &B::Rows,
        arriving: &Arc<OpenTenant>,
        (check, until): (&mut Check, Option<Instant>),
    ) -> Result<()> {
        let there = self.look(arriving).await?;
        let mut living = BTreeMap::new();
        let mut settled = Vec::new();
        let marks: Vec<Vec<u8>> = check.marks.iter().cloned().collect();
        let mut rested = Rested::now();
        let together = if until.is_some() { MARKS_IN_PAUSE } else { MARKS_TOGETHER };
        for some in marks.chunks(together) {
            match until {
                Some(until) if Instant::now() > until => return Err(late()),
                Some(_) => {}
                // Nobody waits for it, and there may be many.
                None => self.moves.pace.breathe(&mut rested).await,
            }
            let (ours, theirs) =
                tokio::try_join!(view.many(Space::Data, some), there.many(Space::Data, some))?;
            for ((key, ours), theirs) in some.iter().zip(ours).zip(theirs) {
                // An entry that an attempt has left that did not decide is written over.
                let is_entry =
                    ours.is_none() && key.starts_with(&keys::Audit::all(tenant.prefix()));
                if is_entry
                    || ours == theirs
                    || !self.is_of_living(tenant, view, key, &mut living).await?
                {
                    settled.push(key.clone());
                }
            }
        }
        for key in settled {
            check.marks.remove(&key);
        }
        Ok(())
    }

    /// Fails if anything differs, while the source rests.
    pub(super) async fn must_be_same(
        &self,
        tenant: &OpenTenant,
        view: &B::Rows,
        arriving: &Arc<OpenTenant>,
        (mover, until): (&mut Mover, Instant),
    ) -> Result<()> {
        // There was too much to remember just now.
        let Some(check) = mover.check.as_mut() else { return Err(late()) };
        self.settle(tenant, view, arriving, (check, Some(until))).await?;
        check.fail_if_any(tenant)
    }

    /// False for a row of records whose collection is gone.
    async fn is_of_living(
        &self,
        tenant: &OpenTenant,
        view: &B::Rows,
        key: &[u8],
        known: &mut BTreeMap<u32, bool>,
    ) -> Result<bool> {
        let family = key.get(PREFIX_BYTES - 1);
        if !Family::of(Role::Record).any(|one| family == Some(&(one as u8))) {
            return Ok(true);
        }
        let Some((collection, _)) = key.get(PREFIX_BYTES..).and_then(<[u8]>::split_first_chunk)
        else {
            return Ok(true);
        };
        let collection = u32::from_be_bytes(*collection);
        if let Some(is_living) = known.get(&collection) {
            return Ok(*is_living);
        }
        let row = keys::Collection { collection }.encode(tenant.prefix());
        let is_living = view.get(Space::Data, &row).await?.is_some();
        known.insert(collection, is_living);
        Ok(is_living)
    }
}
