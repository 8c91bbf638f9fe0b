//! Rows of the catalog as they stand in one transaction.

mod locks;

use super::{
    call::{Answers, Transaction},
    cluster::{Place, Shared, signed},
    connect::Facts,
    connections::Connections,
    failure::{Failure, Outcome},
    fence,
    statement::{Mode, Right, Statement, Step, last_right},
};
use crate::tenancy::{
    Pair, Space, View, disk,
    keys::{self, PREFIX_BYTES, Prefix},
    moving::{MoverId, row::DiskMove},
};
use std::{fmt, mem, sync::Arc};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use tokio::sync::Mutex;
use tokio_postgres::{Row, types::Type};

const GET: &str = "SELECT row FROM {schema}.catalog WHERE tenant = $1 AND family = $2 AND key = $3";
/// Each is looked up by the index: left to itself, the planner reads all rows of a tenant for each of
/// them if it takes a table that grew since it was counted for empty.
const MANY: &str = "SELECT c.row \
     FROM unnest($2::smallint[], $3::bytea[]) WITH ORDINALITY AS g (family, key, n) \
     LEFT JOIN LATERAL (SELECT r.row FROM {schema}.catalog AS r \
     WHERE r.tenant = $1 AND r.family = g.family AND r.key = g.key LIMIT 1) AS c ON true \
     ORDER BY g.n";
const PAGE: &str = "SELECT key, row FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key >= $3 AND ($4::bytea IS NULL OR key < $4) \
     ORDER BY key LIMIT $5";
/// The same, and no more than take so many bytes together; one at least if there is one.
const PAGE_WITHIN: &str = "SELECT key, row FROM (SELECT key, row, sum(octet_length(row)) \
     OVER (ORDER BY key) - octet_length(row) AS before FROM (SELECT key, row FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key >= $3 AND ($4::bytea IS NULL OR key < $4) \
     ORDER BY key LIMIT $5) AS p) AS q WHERE before < $6 ORDER BY key";

/// One transaction, which begins with the first row that is asked for. Dropped, it is rolled back.
pub(crate) struct PgView {
    pub(super) shared: Arc<Shared>,
    kind: Kind,
    /// Who reads in it, if that is one of many with a share each.
    reader: Option<TenantId>,
    /// Where data are that are not in the root.
    home: Place,
    /// The heads that are locked, as they are stored.
    pub(super) heads: Vec<(TenantId, Vec<u8>)>,
    /// Rows that were read before they were asked for.
    primed: parking_lot::Mutex<Vec<Primed>>,
    /// Shared with views of the root within the same transaction.
    state: Arc<Mutex<State>>,
}

/// A key with its row, if there is one.
type Primed = (Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Reads who a tenant is.
    Root,
    /// Reads a tenant's data.
    Data,
    /// Changes them.
    Change,
    /// Reads them for whoever moves the tenant, closed or not.
    Carry,
    /// Puts them where it does not live.
    Put,
    /// Reads all of them where it lives.
    Whole,
}

enum State {
    New,
    Open {
        transaction: Box<Transaction>,
        entered: Right,
        /// It was seen that the tenant's place is not closed.
        is_seen: bool,
    },
    /// Something failed in it, or whoever used it went away.
    Ended,
}

impl PgView {
    pub(super) fn root(shared: &Arc<Shared>) -> Result<Self> {
        Ok(Self::new(shared, Kind::Root, shared.root()?.clone()))
    }

    /// The root for long reads on behalf of one tenant.
    pub(super) fn root_for(shared: &Arc<Shared>, reader: TenantId) -> Result<Self> {
        Ok(Self { reader: Some(reader), ..Self::root(shared)? })
    }

    pub(super) fn data(shared: &Arc<Shared>, home: Place, reader: TenantId) -> Self {
        Self { reader: Some(reader), ..Self::new(shared, Kind::Data, home) }
    }

    /// The root within this transaction, which must be one for changes, because these see what
    /// others have committed since it began. None if the root is in another database.
    pub(super) fn root_within(&self) -> Option<Self> {
        let root = self.with_root().filter(|_| self.kind == Kind::Change)?;
        let mut root = Self::new(&self.shared, self.kind, root.clone());
        root.state = Arc::clone(&self.state);
        Some(root)
    }

    /// For changes, without any lock yet.
    pub(super) fn writing(shared: &Arc<Shared>, home: Place) -> Self {
        Self::new(shared, Kind::Change, home)
    }

    /// What is at a place, for whoever moves a tenant there or away.
    pub(super) fn carrying(shared: &Arc<Shared>, home: Place) -> Self {
        Self::new(shared, Kind::Carry, home)
    }

    /// All that is where a tenant lives, for long.
    pub(super) fn whole(shared: &Arc<Shared>, home: Place) -> Self {
        Self::new(shared, Kind::Whole, home)
    }

    /// The same for changes, without any lock yet.
    pub(super) fn putting(shared: &Arc<Shared>, home: Place) -> Self {
        Self::new(shared, Kind::Put, home)
    }

    /// True for [`PgView::putting`].
    pub(super) fn is_putting(&self) -> bool {
        self.kind == Kind::Put
    }

    pub(super) fn home(&self) -> &Place {
        &self.home
    }

    fn new(shared: &Arc<Shared>, kind: Kind, home: Place) -> Self {
        let (heads, primed) = Default::default();
        let state = Arc::new(Mutex::new(State::New));
        Self { shared: Arc::clone(shared), kind, reader: None, home, heads, primed, state }
    }

    /// The root, if it can be read in the same transaction.
    fn with_root(&self) -> Option<&Place> {
        self.shared.root_here().filter(|root| self.home.target == root.target)
    }

    /// Where a tenant's data are.
    fn home_of(&self, tenant: TenantId) -> Result<&Place> {
        if tenant == TenantId::INSTALLATION { self.shared.root() } else { Ok(&self.home) }
    }

    /// Runs steps with the right to a tenant's rows in a place, in one round trip. They are made
    /// again if the connection turns out to be dead before anything was done.
    pub(crate) async fn run(
        &self,
        place: &Place,
        tenant: TenantId,
        steps: impl Fn() -> Vec<Step> + Send + Sync,
    ) -> Outcome<Answers> {
        match self.run_there(place, tenant, steps).await {
            // Whoever moves knows where the tenant lives.
            Err(why) if matches!(self.kind, Kind::Data | Kind::Change) => {
                Err(self.shared.explain(place, tenant, why).await)
            }
            outcome => outcome,
        }
    }

    async fn run_there(
        &self,
        place: &Place,
        tenant: TenantId,
        steps: impl Fn() -> Vec<Step> + Send + Sync,
    ) -> Outcome<Answers> {
        let right = place.right(tenant);
        let mut state = self.state.lock().await;
        let is_of_place = matches!(self.kind, Kind::Data | Kind::Whole) && place == &self.home;
        // In the same round trip: whether the tenant still lives here.
        let probe = || is_of_place.then(|| self.probe(tenant)).transpose();
        probe()?;
        let with_probe = || {
            let mut all: Vec<Step> = probe().ok().flatten().into_iter().collect();
            all.append(&mut steps());
            all
        };
        let seen = |mut answers: Answers| {
            if is_of_place && !answers.is_empty() {
                let head = first_bytes(&answers.remove(0))?;
                fence::counters(&head.ok_or_else(Failure::empty)?)?;
            }
            Ok::<_, Failure>(answers)
        };
        match mem::replace(&mut *state, State::Ended) {
            State::Ended => Err(Failure::internal("a view that failed is used")),
            State::New => {
                let (transaction, answers) = self.begin(place, &right, &with_probe).await?;
                let answers = seen(answers)?;
                let entered = last_right(&steps()).cloned().unwrap_or(right);
                let (transaction, is_seen) = (Box::new(transaction), is_of_place);
                *state = State::Open { transaction, entered, is_seen };
                Ok(answers)
            }
            State::Open { transaction, .. } if transaction.target() != Some(&place.target) => {
                Err(Failure::internal("rows of one database are asked for in another one"))
            }
            State::Open { mut transaction, entered, is_seen } => {
                let mut all = if is_seen { steps() } else { with_probe() };
                if entered != right {
                    all.insert(0, Step::Enter(right.clone()));
                }
                let entered = last_right(&all).cloned().unwrap_or(entered);
                let answers = transaction.run(all).await?;
                let answers = if is_seen { answers } else { seen(answers)? };
                let is_seen = is_seen || is_of_place;
                *state = State::Open { transaction, entered, is_seen };
                Ok(answers)
            }
        }
    }

    /// Asks for the counters of a tenant in its place.
    fn probe(&self, tenant: TenantId) -> Result<Step> {
        let head = keys::Head {}.encode(Prefix::of(tenant));
        Ok(Step::Run(Key::split(&head)?.get(&self.home)))
    }

    async fn begin(
        &self,
        place: &Place,
        right: &Right,
        steps: &(impl Fn() -> Vec<Step> + Send),
    ) -> Outcome<(Transaction, Answers)> {
        let (connections, mode): (&Connections, _) = match self.kind {
            Kind::Root => (&self.shared.lookups, Mode::Read),
            Kind::Data => (&self.shared.connections, Mode::Read),
            Kind::Change => (&self.shared.connections, Mode::Write),
            Kind::Carry => (&self.shared.movers, Mode::Read),
            Kind::Put => (&self.shared.movers, Mode::Write),
            Kind::Whole => (&self.shared.exporters, Mode::Read),
        };
        let limits = self.shared.limits;
        let begin = |conn| Transaction::begin(conn, mode, limits, right.clone(), steps());
        connections.with(&place.target, self.reader, begin).await
    }

    /// Reads what opening a tenant asks for, in one round trip; its data key's row is returned.
    pub(super) async fn prime(&self, tenant: TenantId) -> Result<Option<Vec<u8>>> {
        let root = self.shared.root()?;
        let installation = Prefix::of(TenantId::INSTALLATION);
        let slot = keys::Slot { tenant: tenant.get() }.encode(installation);
        let prefix = Prefix::of(tenant);
        let rows = [keys::Tenant {}.encode(prefix), keys::Head {}.encode(prefix)];
        let one = |key: &[u8]| Key::split(key).map(|key| Step::Run(key.get(root)));
        let _ = one(&slot)?;
        let steps = || {
            let mut steps: Vec<Step> = one(&slot).into_iter().collect();
            steps.push(Step::Enter(root.right(tenant)));
            steps.extend(rows.iter().filter_map(|key| one(key).ok()));
            steps
        };
        let answers = self.run(root, TenantId::INSTALLATION, steps).await?;
        let mut answers = answers.iter().map(|rows| first_bytes(rows));
        let slot = answers.next().transpose()?.flatten();
        let mut primed = Vec::new();
        for (key, row) in rows.into_iter().zip(answers) {
            primed.push((key, row?));
        }
        *self.primed.lock() = primed;
        Ok(slot)
    }

    /// pgvector's types in the database of its transaction.
    pub(super) async fn facts(&self) -> Option<Arc<Facts>> {
        match &*self.state.lock().await {
            State::Open { transaction, .. } => transaction.facts().cloned(),
            State::New | State::Ended => None,
        }
    }

    /// The transaction, to be committed, and the right that it has at the moment.
    pub(super) async fn into_transaction(self) -> Outcome<(Box<Transaction>, Right)> {
        match mem::replace(&mut *self.state.lock().await, State::Ended) {
            State::Open { transaction, entered, .. } => Ok((transaction, entered)),
            State::New | State::Ended => Err(Failure::internal("a view that failed is committed")),
        }
    }

    /// Whoever works on the move of a tenant, as the root says it now.
    pub(super) async fn mover_in(&self, tenant: TenantId) -> Result<Option<MoverId>> {
        let key = keys::Move { tenant: tenant.get() }.encode(Prefix::of(TenantId::INSTALLATION));
        let Some(sealed) = self.get(Space::Catalog, &key).await? else { return Ok(None) };
        let row = self.shared.secrets()?.key.open(&key, &sealed)?;
        let row: DiskMove = disk::decode(&row, "a move")?;
        Ok(row.into_move(tenant)?.by)
    }

    /// True if these rows are in the root.
    pub(super) fn is_root(&self, space: Space, tenant: TenantId) -> bool {
        let is_of_root = space == Space::Catalog || tenant == TenantId::INSTALLATION;
        is_of_root || self.shared.root_here() == Some(&self.home)
    }

    pub(super) fn place(&self, space: Space, tenant: TenantId) -> Result<&Place> {
        match space {
            Space::Catalog => self.shared.root(),
            Space::Data => self.home_of(tenant),
        }
    }

    /// [`View::page`], with a bound of bytes too.
    pub(super) async fn page_within(
        &self,
        space: Space,
        (start, from): (&[u8], &[u8]),
        (limit, bytes_most): (usize, Option<usize>),
    ) -> Result<Vec<Pair>> {
        let start_key = Key::split(start)?;
        let from = Key::split(from.max(start))?;
        if (from.tenant, from.family) != (start_key.tenant, start_key.family) {
            return Ok(Vec::new());
        }
        let place = self.place(space, start_key.tenant)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let page = || {
            let text = if bytes_most.is_some() { PAGE_WITHIN } else { PAGE };
            let statement = Statement::new(place.text(text))
                .with(from.number, Type::INT8)
                .with(from.family, Type::INT2)
                .with(from.rest.to_vec(), Type::BYTEA)
                .with(behind(start_key.rest), Type::BYTEA)
                .with(limit, Type::INT8);
            let bytes = bytes_most.map(|most| i64::try_from(most).unwrap_or(i64::MAX));
            vec![Step::Run(match bytes {
                Some(most) => statement.with(most, Type::INT8),
                None => statement,
            })]
        };
        let answers = self.run(place, start_key.tenant, page).await?;
        let mut pairs = Vec::new();
        for row in answers.into_iter().flatten() {
            let mut key = start.get(..PREFIX_BYTES).unwrap_or_default().to_vec();
            key.extend_from_slice(&bytes(&row, 0)?);
            pairs.push((key, bytes(&row, 1)?));
        }
        Ok(pairs)
    }
}

impl View for PgView {
    fn generation(&self) -> u64 {
        // What another node or a lost answer changed is told by the watch and by the heads.
        0
    }

    async fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let split = Key::split(key)?;
        let find = |primed: &&Primed| primed.0 == key;
        let primed = self.primed.lock().iter().find(find).map(|(_, row)| row.clone());
        let row = match primed {
            Some(row) => row,
            None => {
                let place = self.place(space, split.tenant)?;
                let ask = || vec![Step::Run(split.get(place))];
                let answers = self.run(place, split.tenant, ask).await?;
                first_bytes(answers.first().map_or(&[], Vec::as_slice))?
            }
        };
        match row {
            Some(row) if split.family == i16::from(keys::Head::FAMILY) => {
                let is_carried = self.kind == Kind::Carry;
                let row = if is_carried { fence::opened(&row).unwrap_or(&row) } else { &row };
                fence::counters(row).map(|counters| Some(counters.to_vec()))
            }
            row => Ok(row),
        }
    }

    async fn many(&self, space: Space, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let first = Key::split(first)?;
        let place = self.place(space, first.tenant)?;
        many(place, keys)?;
        let ask = || many(place, keys).map(Step::Run).into_iter().collect();
        let answers = self.run(place, first.tenant, ask).await?;
        let row = |row: Row| row.try_get(0).map_err(|_| odd());
        answers.into_iter().flatten().map(row).collect()
    }

    async fn page(
        &self,
        space: Space,
        start: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>> {
        self.page_within(space, (start, from), (limit, None)).await
    }
}

impl fmt::Debug for PgView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PgView({:?})", self.kind)
    }
}

/// A key of the catalog as its columns.
pub(super) struct Key<'a> {
    pub(super) tenant: TenantId,
    pub(super) number: i64,
    pub(super) family: i16,
    pub(super) rest: &'a [u8],
}

impl<'a> Key<'a> {
    pub(super) fn split(key: &'a [u8]) -> Result<Self> {
        let short = || Error::internal("a key without tenant and family");
        let (tenant, rest) = key.split_first_chunk().ok_or_else(short)?;
        let (family, rest) = rest.split_first().ok_or_else(short)?;
        let tenant = TenantId::new(u64::from_be_bytes(*tenant));
        Ok(Self { tenant, number: signed(tenant)?, family: i16::from(*family), rest })
    }

    pub(super) fn get(&self, place: &Place) -> Statement {
        Statement::new(place.text(GET))
            .with(self.number, Type::INT8)
            .with(self.family, Type::INT2)
            .with(self.rest.to_vec(), Type::BYTEA)
    }
}

/// Asks for the rows of one tenant's keys, in their order.
pub(super) fn many(place: &Place, keys: &[Vec<u8>]) -> Result<Statement> {
    let (mut tenant, mut families, mut rests) = (None, Vec::new(), Vec::new());
    for key in keys {
        let key = Key::split(key)?;
        if *tenant.get_or_insert(key.number) != key.number {
            return Err(Error::internal("keys of several tenants are read at once"));
        }
        families.push(key.family);
        rests.push(key.rest.to_vec());
    }
    Ok(Statement::new(place.text(MANY))
        .with(tenant.unwrap_or_default(), Type::INT8)
        .with(families, Type::INT2_ARRAY)
        .with(rests, Type::BYTEA_ARRAY))
}

/// The first bytes behind all that begin with `start`; none if there are no such bytes.
pub(super) fn behind(start: &[u8]) -> Option<Vec<u8>> {
    let mut end = start.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Bytes in a column of a row.
pub(crate) fn bytes(row: &Row, column: usize) -> Result<Vec<u8>> {
    row.try_get(column).map_err(|_| odd())
}

pub(super) fn odd() -> Error {
    Error::internal("the database answers with another type")
}

/// The bytes in the first column of the only row, if there is one.
pub(super) fn first_bytes(rows: &[Row]) -> Result<Option<Vec<u8>>> {
    rows.first().map(|row| bytes(row, 0)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_something_ends_before_its_successor() {
        assert_eq!(behind(b""), None);
        assert_eq!(behind(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(behind(&[0xff]), None);
        assert_eq!(behind(b"ab"), Some(b"ac".to_vec()));
    }
}
