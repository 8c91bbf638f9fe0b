//! Commits.
//!
//! Everything that a commit writes travels with its COMMIT, and every head that was locked is
//! compared once more with what was read of it: should the lock have been lost on the way, the
//! transaction fails instead of writing over what others did.

use super::{
    cluster::{Cluster, IDLE, LOCK, Place, Shared, signed},
    failure::CommitError,
    statement::{Right, Statement, Step},
    view::{Key, PgView},
};
use crate::tenancy::{
    Space, View as _, WriteSet,
    keys::{self, Decode as _, PREFIX_BYTES, Prefix},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use tokio::time::{Instant, sleep};
use tokio_postgres::types::Type;
use tracing::Instrument as _;

/// Rows that are made once: that one is there already is a conflict, and never written over.
const MAKE: &str = "WITH made AS (INSERT INTO {schema}.catalog (tenant, family, key, row) \
     SELECT $1, g.family, g.key, g.row \
     FROM unnest($2::smallint[], $3::bytea[], $4::bytea[]) AS g (family, key, row) \
     RETURNING 1) SELECT count(*) FROM made";
const PUT: &str = "INSERT INTO {schema}.catalog (tenant, family, key, row) \
     SELECT $1, g.family, g.key, g.row \
     FROM unnest($2::smallint[], $3::bytea[], $4::bytea[]) AS g (family, key, row) \
     ON CONFLICT (tenant, family, key) DO UPDATE SET row = excluded.row";
/// Without a join: in a table that has just grown, and was not counted since, a join reads all rows
/// of the tenant.
const REMOVE: &str = "DELETE FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key = ANY ($3)";
/// Each of these divides by zero unless the head is as it was read.
pub(super) const PUT_HEAD: &str = "WITH head AS (UPDATE {schema}.catalog SET row = $4 \
     WHERE tenant = $1 AND family = $2 AND key = '' AND row = $3 RETURNING 1) \
     SELECT 1 / count(*) FROM head";
/// The same of counters that nobody has.
const PUT_NO_HEAD: &str = "WITH head AS (UPDATE {schema}.catalog SET row = row \
     WHERE tenant = $1 AND family = $2 AND key = '' AND row = '' RETURNING 1) \
     SELECT count(*) FROM head";
const KEEP_HEAD: &str = "SELECT 1 / count(*) FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key = '' AND row = $3";
const REMOVE_HEAD: &str = "WITH head AS (DELETE FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key = '' AND row = $3 RETURNING 1) \
     SELECT 1 / count(*) FROM head";
const RAISE_EPOCH: &str = "UPDATE {schema}.installation SET epoch = epoch + 1";

/// A commit whose answer was lost is decided on the server by then: a session that says nothing
/// ends, and so does one that nobody acknowledges.
const SETTLED_WITHIN: Duration = IDLE.saturating_add(LOCK);
const SETTLE_AGAIN: Duration = Duration::from_millis(200);

impl Cluster {
    /// Commits a set and, before its rows, these steps, which run with the right to the data of
    /// the first tenant that the view was made for. Runs to its end, whoever waits.
    pub(crate) fn submit_with(
        &self,
        view: PgView,
        set: WriteSet,
        steps: Vec<Step>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let work = commit(Arc::clone(&self.shared), view, set, steps);
        let committing = tokio::spawn(work.in_current_span());
        async move {
            match committing.await {
                Ok(outcome) => outcome,
                Err(why) => Err(Error::internal("a commit was aborted").with_source(why)),
            }
        }
    }
}

async fn commit(shared: Arc<Shared>, view: PgView, set: WriteSet, steps: Vec<Step>) -> Result<()> {
    let sorted = Sorted::of(&view, set)?;
    let witness = sorted.witness.clone();
    let steps = sorted.into_steps(&view, steps)?;
    let (home, held) = (view.home().clone(), view.heads.first().map(|(tenant, _)| *tenant));
    let is_copied = view.is_putting();
    let (transaction, entered) = view.into_transaction().await?;
    let (steps, proof) = without_repeats(entered, steps);
    match transaction.commit(steps, proof).await {
        Ok(_) => {
            shared.commits.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Err(CommitError::NotCommitted(why)) => Err(why.into()),
        // Whoever copies does so again, from what is there then. That a row is there which an earlier
        // attempt has put as well would say nothing.
        Err(CommitError::Unknown(why)) if is_copied => {
            if let Some(held) = held {
                decided(&shared, &home, held).await;
            }
            Err(why.into())
        }
        Err(CommitError::Unknown(why)) => {
            tracing::warn!(?why, "the answer to a commit was lost; it is looked for");
            let settled = match (held, witness) {
                (Some(held), Some(witness)) => settle(&shared, &home, held, &witness).await,
                _ => None,
            };
            match settled {
                Some(true) => Ok(()),
                Some(false) => Err(why.into()),
                None => {
                    // Whatever it took away may be gone.
                    shared.watch.forget();
                    Err(CommitError::Unknown(why).into())
                }
            }
        }
    }
}

/// Waits until nobody holds a head any more: whoever had it locked has committed, or never will.
async fn decided(shared: &Arc<Shared>, home: &Place, held: TenantId) {
    let end = Instant::now() + SETTLED_WITHIN;
    while let Err(why) = PgView::writing(shared, home.clone()).lock(&[held]).await {
        if Instant::now() >= end {
            tracing::error!(?why, "whether a commit was decided could not be seen");
            return;
        }
        sleep(SETTLE_AGAIN).await;
    }
}

/// Looks whether a commit is there, once nobody holds the head any more that it had locked; none
/// if that could not be seen.
async fn settle(
    shared: &Arc<Shared>,
    home: &Place,
    held: TenantId,
    witness: &Witness,
) -> Option<bool> {
    let end = Instant::now() + SETTLED_WITHIN;
    loop {
        let view = PgView::writing(shared, home.clone());
        let found = match view.lock(&[held]).await {
            Ok(_) => view.get(witness.space, &witness.key).await,
            Err(why) => Err(why),
        };
        match found {
            Ok(row) => return Some(row.is_some_and(|row| row == witness.row)),
            Err(_) if Instant::now() < end => sleep(SETTLE_AGAIN).await,
            Err(why) => {
                tracing::error!(?why, "whether a commit was done could not be seen");
                return None;
            }
        }
    }
}

/// A row that only this commit can have written and that nobody writes over.
#[derive(Clone)]
struct Witness {
    space: Space,
    key: Vec<u8>,
    row: Vec<u8>,
}

/// The rows of one tenant in one place.
#[derive(Default)]
struct Rows {
    make: Columns,
    put: Columns,
    /// By family.
    remove: BTreeMap<i16, Vec<Vec<u8>>>,
    head: Head,
}

#[derive(Default)]
enum Head {
    #[default]
    Keep,
    Put(Vec<u8>),
    Remove,
}

#[derive(Default)]
struct Columns {
    families: Vec<i16>,
    keys: Vec<Vec<u8>>,
    rows: Vec<Vec<u8>>,
}

impl Columns {
    fn push(&mut self, key: &Key<'_>, row: Vec<u8>) {
        self.families.push(key.family);
        self.keys.push(key.rest.to_vec());
        self.rows.push(row);
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn into_statement(self, place: &Place, text: &str, tenant: i64) -> Step {
        let statement = Statement::new(place.text(text))
            .with(tenant, Type::INT8)
            .with(self.families, Type::INT2_ARRAY)
            .with(self.keys, Type::BYTEA_ARRAY)
            .with(self.rows, Type::BYTEA_ARRAY);
        Step::Run(statement.common_if(true))
    }
}

/// What a commit writes, in the order of its statements.
struct Sorted {
    /// By whether the rows are in the root, and by tenant.
    rows: BTreeMap<(bool, TenantId), Rows>,
    /// Tenants that it makes.
    born: HashSet<TenantId>,
    /// It takes a right away.
    takes: bool,
    witness: Option<Witness>,
}

impl Sorted {
    fn of(view: &PgView, set: WriteSet) -> Result<Self> {
        let installation = Prefix::of(TenantId::INSTALLATION);
        // The last word on each key, in the order of keys.
        let mut all: BTreeMap<Vec<u8>, (Space, Option<Vec<u8>>)> = BTreeMap::new();
        let born = set.slots.iter().map(|slot| slot.tenant).collect();
        for slot in set.slots {
            let key = keys::Slot { tenant: slot.tenant.get() }.encode(installation);
            all.insert(key, (Space::Catalog, Some(slot.bytes.to_vec())));
        }
        for (space, key, row) in set.operations {
            all.insert(key, (space, row));
        }
        // With a tenant goes its data key, and the head that whoever works for it looks at.
        let gone = |(key, (_, row)): (&Vec<u8>, &(Space, Option<Vec<u8>>))| {
            let is_row = key.get(PREFIX_BYTES - 1) == Some(&keys::Tenant::FAMILY);
            (is_row && row.is_none()).then(|| Key::split(key).map(|key| key.tenant))
        };
        for tenant in all.iter().filter_map(gone).collect::<Result<Vec<_>>>()? {
            let slot = keys::Slot { tenant: tenant.get() }.encode(installation);
            all.insert(slot, (Space::Catalog, None));
            all.insert(keys::Head {}.encode(Prefix::of(tenant)), (Space::Data, None));
        }
        let mut sorted = Self { rows: BTreeMap::new(), born, takes: set.takes, witness: None };
        for (key, (space, row)) in all {
            sorted.add(view, space, &key, row)?;
        }
        for (tenant, _) in &view.heads {
            sorted.rows.entry((view.is_root(Space::Data, *tenant), *tenant)).or_default();
        }
        Ok(sorted)
    }

    fn add(&mut self, view: &PgView, space: Space, key: &[u8], row: Option<Vec<u8>>) -> Result<()> {
        let split = Key::split(key)?;
        let family = key.get(PREFIX_BYTES - 1).copied().unwrap_or_default();
        let is_locked = view.heads.iter().any(|(tenant, _)| *tenant == split.tenant);
        self.takes |= match family {
            keys::Key::FAMILY => row.is_none(),
            // Whoever has it on any node has what it says now.
            keys::Plan::FAMILY => true,
            // A tenant whose data key comes with it is being made.
            keys::Tenant::FAMILY => row.is_none() || !self.born.contains(&split.tenant),
            _ => false,
        };
        // The installation's are there for as long as it is.
        let is_better = split.tenant == TenantId::INSTALLATION || self.witness.is_none();
        if let Some(row) = row.as_ref().filter(|_| is_better && is_once(family)) {
            let (key, row) = (key.to_vec(), row.clone());
            self.witness = Some(Witness { space, key, row });
        }
        let rows = self.rows.entry((view.is_root(space, split.tenant), split.tenant)).or_default();
        match (family, row) {
            (keys::Head::FAMILY, Some(row)) if is_locked => rows.head = Head::Put(row),
            (keys::Head::FAMILY, None) if is_locked => rows.head = Head::Remove,
            (
                keys::Head::FAMILY
                | keys::TenantName::FAMILY
                | keys::Key::FAMILY
                | keys::Slot::FAMILY,
                Some(row),
            ) => rows.make.push(&split, row),
            (_, Some(row)) => rows.put.push(&split, row),
            (_, None) => rows.remove.entry(split.family).or_default().push(split.rest.to_vec()),
        }
        Ok(())
    }

    /// All statements. The last one proves that they were run where the heads are locked.
    fn into_steps(mut self, view: &PgView, first: Vec<Step>) -> Result<Vec<Step>> {
        let last = match view.heads.first() {
            Some((tenant, _)) => (view.is_root(Space::Data, *tenant), *tenant),
            None => (true, TenantId::INSTALLATION),
        };
        let mut steps = Vec::new();
        if !first.is_empty() {
            steps.push(Step::Enter(view.place(Space::Data, last.1)?.right(last.1)));
            steps.extend(first);
        }
        let last_rows = self.rows.remove(&last);
        for (at, rows) in self.rows {
            rows.into_steps(view, at, &mut steps)?;
        }
        if self.takes {
            let root = view.shared.root()?;
            steps.push(Step::Enter(root.right(TenantId::INSTALLATION)));
            steps.push(Step::Run(Statement::new(root.text(RAISE_EPOCH))));
        }
        if let Some(rows) = last_rows {
            rows.into_steps(view, last, &mut steps)?;
        }
        Ok(steps)
    }
}

/// The steps without entering what is entered already, and the number of the last that runs.
fn without_repeats(mut entered: Right, steps: Vec<Step>) -> (Vec<Step>, usize) {
    let mut kept: Vec<Step> = Vec::with_capacity(steps.len());
    let mut runs = 0;
    for step in steps {
        match &step {
            Step::Enter(right) if *right == entered => continue,
            Step::Enter(right) => entered = right.clone(),
            Step::Run(_) => runs += 1_usize,
        }
        kept.push(step);
    }
    (kept, runs.saturating_sub(1))
}

/// Rows that are written once, under a number that is given once.
fn is_once(family: u8) -> bool {
    matches!(family, keys::Audit::FAMILY | keys::Change::FAMILY | keys::Event::FAMILY)
}

impl Rows {
    /// The head comes last: as long as it stands, so does what was locked with it.
    fn into_steps(
        self,
        view: &PgView,
        (is_root, tenant): (bool, TenantId),
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let place = if is_root { view.shared.root()? } else { view.home() };
        let number = signed(tenant)?;
        steps.push(Step::Enter(place.right(tenant)));
        for (family, keys) in self.remove {
            let remove = Statement::new(place.text(REMOVE))
                .with(number, Type::INT8)
                .with(family, Type::INT2)
                .with(keys, Type::BYTEA_ARRAY);
            steps.push(Step::Run(remove));
        }
        if !self.put.is_empty() {
            steps.push(self.put.into_statement(place, PUT, number));
        }
        if !self.make.is_empty() {
            steps.push(self.make.into_statement(place, MAKE, number));
        }
        let is_of_head = is_root == view.is_root(Space::Data, tenant);
        let locked = view.heads.iter().find(|(locked, _)| is_of_head && *locked == tenant);
        let Some((_, old)) = locked else { return Ok(()) };
        let head = |text: &str| {
            Statement::new(place.text(text))
                .with(number, Type::INT8)
                .with(i16::from(keys::Head::FAMILY), Type::INT2)
                .with(old.clone(), Type::BYTEA)
                .common_if(true)
        };
        steps.push(Step::Run(match self.head {
            Head::Keep => head(KEEP_HEAD),
            Head::Put(row) => head(PUT_HEAD).with(row, Type::BYTEA),
            Head::Remove => head(REMOVE_HEAD),
        }));
        Ok(())
    }
}

/// What puts rows and counters, with none: the session in which it runs knows it then. The last one
/// answers with a row.
pub(super) fn of_none(place: &Place, tenant: TenantId) -> Result<[Step; 2]> {
    let number = signed(tenant)?;
    let head = Statement::new(place.text(PUT_NO_HEAD))
        .with(number, Type::INT8)
        .with(i16::from(keys::Head::FAMILY), Type::INT2);
    Ok([Columns::default().into_statement(place, PUT, number), Step::Run(head)])
}

/// A note of the purger, read back.
pub(super) fn note(rest: &[u8]) -> Result<keys::Purge> {
    let installation = Prefix::of(TenantId::INSTALLATION);
    let mut key = keys::Purge::all(installation);
    key.extend_from_slice(rest);
    keys::Purge::decode(installation, &key)
        .ok_or_else(|| Error::corrupt("a note of the purger cannot be read"))
}

/// Commits what was made without a set.
pub(super) async fn commit_steps(view: PgView, steps: Vec<Step>, proof: usize) -> Result<()> {
    let (transaction, _) = view.into_transaction().await?;
    let committed = transaction.commit(steps, proof).await;
    committed.map(drop).map_err(Error::from)
}

#[cfg(test)]
#[path = "submit_tests.rs"]
mod tests;
