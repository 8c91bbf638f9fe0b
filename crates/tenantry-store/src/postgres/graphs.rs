//! Which collections have graphs, and who makes and removes them.
//!
//! Whoever writes to or searches a collection that is large enough notes it here. One task then
//! looks what the database has, with the tenant's own right, and remembers it; what is remembered
//! may be wrong, which costs speed only. Another one makes graphs, or removes those of
//! collections that have become small, on a node that has the admin's URL: one at a time, also
//! among all nodes, on a connection of its own. Databases that tenants carry have two tasks of
//! their own: one that says nothing keeps no others waiting. Nothing of this is stored but the indexes: what
//! is lost here is noted again by the next search.

use super::{
    admin::{CHANGE, Session, Work, failed, try_lock_work_of_session, within},
    background, call,
    cluster::{Place, Shared},
    graph::{self, GraphKey, GraphNames, Shape},
    locations::Located,
    statement::{Statement, Step},
    view::{Key, odd},
};
use crate::{
    CollectionInfo, GraphBounds,
    tenancy::{
        keys::{self, Prefix},
        place::Placement,
        tenants::OpenTenant,
    },
};
use lru::LruCache;
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, Result};
use tokio::sync::Notify;
use tokio_postgres::types::Type;

/// Graphs that are remembered, and as many that wait to be looked at or made.
const GRAPHS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// What is remembered is looked at again after this.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After another node was found at work in the same database.
const BUSY: Duration = Duration::from_secs(5);
/// After a failure, and twice that after the next one.
const PAUSE: Duration = Duration::from_secs(30);
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// A graph whose making takes longer than this for each record, and some more, is given up: its
/// server says nothing any more.
const A_RECORD: Duration = Duration::from_millis(30);

/// The same for a graph in a database that a tenant carries.
const OWN_MAX: Duration = Duration::from_secs(4 * 3_600);

/// An index waits for all transactions of its database that are older; nobody waits for it
/// meanwhile but VACUUM.
const WAIT: &str = "120s";

/// What is known of graphs.
pub(super) struct Graphs {
    /// Collections of so many records get one.
    above: u64,
    known: Mutex<Known>,
    lanes: [Woken; 2],
}

struct Known {
    entries: LruCache<GraphKey, Entry>,
    lanes: [Queues; 2],
}

/// Which tasks work on a graph: those of the operator's servers, or those of databases that
/// tenants carry.
#[derive(Debug, Clone, Copy)]
enum Lane {
    Ours,
    Carried,
}

impl Lane {
    fn of(placement: Placement) -> Self {
        if placement.location == Location::Own { Self::Carried } else { Self::Ours }
    }
}

/// What wakes the two tasks of a lane.
#[derive(Default)]
struct Woken {
    looks: Arc<Notify>,
    makes: Arc<Notify>,
}

/// What waits for them.
#[derive(Default)]
struct Queues {
    looks: VecDeque<GraphKey>,
    makes: VecDeque<GraphKey>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    placement: Placement,
    shape: Shape,
    records: u64,
    is_ready: bool,
    /// It waits for a task, or is in its hands.
    is_pending: bool,
    /// The collection has become large or small meanwhile.
    is_stale: bool,
    /// When it is to be looked at again.
    due: Option<Instant>,
    failures: u32,
}

impl Graphs {
    pub(super) fn new(above: u64) -> Self {
        let known = Known { entries: LruCache::new(GRAPHS_MAX), lanes: Default::default() };
        Self { above: above.max(1), known: Mutex::new(known), lanes: Default::default() }
    }

    /// What a collection must have to get one.
    pub(super) fn bounds(&self) -> GraphBounds {
        GraphBounds { records_min: self.above, dimension_max: graph::HALF_MAX }
    }

    /// True if a collection of so many records gets a graph.
    fn wants(&self, records: u64) -> bool {
        records >= self.above
    }

    /// True if it may keep one.
    fn keeps(&self, records: u64) -> bool {
        records.saturating_mul(4) >= self.above.saturating_mul(3)
    }

    /// How many records a collection has whose graph was there when it was last looked at.
    pub(super) fn ready(&self, key: GraphKey) -> Option<u64> {
        let mut known = self.known.lock();
        let entry = known.entries.get(&key)?;
        entry.is_ready.then_some(entry.records)
    }

    /// Learns how many records a collection has.
    pub(super) fn notice(&self, tenant: &OpenTenant, info: &CollectionInfo, records: u64) {
        self.notice_change(tenant, info, records, records);
    }

    /// The same for whoever has just changed how many it has.
    pub(super) fn notice_change(
        &self,
        tenant: &OpenTenant,
        info: &CollectionInfo,
        before: u64,
        records: u64,
    ) {
        let placement = tenant.placement();
        // In tables with others, neighbours would change each other's answers.
        if placement.isolation == Isolation::Shared {
            return;
        }
        let (keeps, shrank) = (self.keeps(records), self.keeps(before) && !self.keeps(records));
        let now = Instant::now();
        let (tenant, collection) = (placement.tenant, info.number.0);
        let mut known = self.known.lock();
        for (field, _, spec) in info.fields() {
            let Some(shape) = Shape::of(&spec) else { continue };
            let key = GraphKey { tenant, collection, field };
            if !keeps && !shrank && !known.entries.contains(&key) {
                continue;
            }
            let entry = Entry {
                placement,
                shape,
                records,
                is_ready: false,
                is_pending: false,
                is_stale: false,
                due: Some(now),
                failures: 0,
            };
            if known.entries.peek(&key).is_some_and(|known| known.placement != placement) {
                // The tenant was moved: what was known is of the place that it has left.
                known.entries.pop(&key);
            }
            let entry = known.entries.get_or_insert_mut(key, || entry);
            let had = entry.records;
            entry.records = records;
            if self.wants(had) != self.wants(records) || shrank {
                entry.is_stale = entry.is_pending;
                entry.due = if entry.failures == 0 { Some(now) } else { entry.due };
            }
            let is_due = entry.due.is_some_and(|due| due <= now);
            let lane = Lane::of(placement) as usize;
            let has_room = known.lanes[lane].looks.len() < GRAPHS_MAX.get();
            if is_due && has_room && !known.entries.peek(&key).is_some_and(|one| one.is_pending) {
                if let Some(entry) = known.entries.get_mut(&key) {
                    entry.is_pending = true;
                }
                known.lanes[lane].looks.push_back(key);
                self.lanes[lane].looks.notify_one();
            }
        }
    }

    /// Ends what a task did with a graph.
    fn settle(&self, key: GraphKey, is_ready: Option<bool>, next: Duration) {
        if let Some(entry) = self.known.lock().entries.peek_mut(&key) {
            entry.is_pending = false;
            entry.is_ready = is_ready.unwrap_or(entry.is_ready);
            let next = if std::mem::take(&mut entry.is_stale) { Duration::ZERO } else { next };
            entry.due = Some(Instant::now() + next);
            if is_ready.is_some() {
                entry.failures = 0;
            }
        }
    }

    fn failed(&self, key: GraphKey) {
        let mut known = self.known.lock();
        let Some(entry) = known.entries.peek_mut(&key) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let pause = PAUSE.saturating_mul(1 << entry.failures.min(8)).min(PAUSE_MAX);
        entry.is_pending = false;
        entry.due = Some(Instant::now() + pause);
    }

    fn entry(&self, key: GraphKey) -> Option<Entry> {
        self.known.lock().entries.peek(&key).copied()
    }

    /// The tasks end when the store is closed.
    pub(super) fn wake(&self) {
        for lane in &self.lanes {
            lane.looks.notify_one();
            lane.makes.notify_one();
        }
    }
}

/// Starts the tasks; they end with the store.
pub(super) fn spawn(shared: &Arc<Shared>) {
    for lane in [Lane::Ours, Lane::Carried] {
        let looks = move |weak| look_at_all(weak, lane);
        background::spawn("look at graphs", Arc::downgrade(shared), looks);
        let makes = move |weak| make_all(weak, lane);
        background::spawn("make graphs", Arc::downgrade(shared), makes);
    }
}

/// The next one of a list, or none after a while: then whoever waits sees that the store is gone.
async fn next(
    weak: &Weak<Shared>,
    lane: Lane,
    of: impl Fn(&Woken) -> &Arc<Notify>,
    take: impl Fn(&mut Queues) -> Option<GraphKey>,
) -> Option<(Arc<Shared>, GraphKey)> {
    loop {
        let shared = weak.upgrade().filter(|shared| !shared.is_closed())?;
        let key = take(&mut shared.graphs.known.lock().lanes[lane as usize]);
        if let Some(key) = key {
            return Some((shared, key));
        }
        let woken = Arc::clone(of(&shared.graphs.lanes[lane as usize]));
        drop(shared);
        let _ = tokio::time::timeout(BUSY, woken.notified()).await;
    }
}

async fn look_at_all(weak: Weak<Shared>, lane: Lane) {
    forget(&weak, lane);
    while let Some((shared, key)) =
        next(&weak, lane, |woken| &woken.looks, |queues| queues.looks.pop_front()).await
    {
        if let Err(why) = look_at(&shared, key).await {
            tracing::debug!(?why, tenant = %key.tenant, "look for a graph");
            shared.graphs.failed(key);
        }
    }
}

/// What a task that died had in its hands would be pending for ever.
fn forget(weak: &Weak<Shared>, lane: Lane) {
    let Some(shared) = weak.upgrade() else { return };
    let mut known = shared.graphs.known.lock();
    let is_of = |entry: &Entry| Lane::of(entry.placement) as usize == lane as usize;
    let keys = known.entries.iter().filter(|(_, entry)| is_of(entry)).map(|(key, _)| *key);
    for key in keys.collect::<Vec<_>>() {
        known.entries.pop(&key);
    }
}

async fn look_at(shared: &Arc<Shared>, key: GraphKey) -> Result<()> {
    let graphs = &shared.graphs;
    let Some(entry) = graphs.entry(key) else { return Ok(()) };
    let located = shared.located(entry.placement).await?;
    let place = shared.place_in(&located, entry.placement);
    let names = shared.graph_names(key);
    let there = look(shared, &place, key).await?;
    let is_ready = names.are_ready(&there);
    let is_some = there.iter().any(|(name, _)| names.is_of(name));
    let is_to_make = graphs.wants(entry.records) && !is_ready;
    let is_to_remove = !graphs.keeps(entry.records) && is_some;
    if (is_to_make || is_to_remove) && located.provisioner.is_some() {
        let mut known = graphs.known.lock();
        if let Some(entry) = known.entries.peek_mut(&key) {
            entry.is_ready = is_ready;
        }
        let lane = Lane::of(entry.placement) as usize;
        known.lanes[lane].makes.push_back(key);
        graphs.lanes[lane].makes.notify_one();
    } else {
        graphs.settle(key, Some(is_ready), LOOK_EVERY);
    }
    Ok(())
}

/// The indexes of a collection's graphs, and whether each can be used, as its tenant sees them;
/// fails if the collection is gone.
async fn look(shared: &Shared, place: &Place, key: GraphKey) -> Result<Vec<(String, bool)>> {
    let GraphKey { tenant, collection, .. } = key;
    let row = keys::Collection { collection }.encode(Prefix::of(tenant));
    let (pattern, row) = (shared.graph_pattern(tenant, collection), Key::split(&row)?);
    let read = |conn| {
        let indexes = Statement::new(graph::indexes(place)).with(pattern.clone(), Type::TEXT);
        let steps = vec![Step::Run(row.get(place)), Step::Run(indexes)];
        call::read(conn, shared.limits, place.right(tenant), steps)
    };
    let answers = shared.connections.with(&place.target, None, read).await?;
    let [rows, indexes] = answers.as_slice() else { return Err(odd()) };
    if rows.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the collection of a graph is gone"));
    }
    let index = |row: &tokio_postgres::Row| -> Result<(String, bool)> {
        let read = row.try_get(0).and_then(|name| Ok((name, row.try_get(1)?)));
        read.map_err(|_| odd())
    };
    indexes.iter().map(index).collect()
}

impl GraphNames {
    fn is_of(&self, name: &str) -> bool {
        name == self.graph || name == self.rest
    }

    /// True if both indexes can be used.
    fn are_ready(&self, there: &[(String, bool)]) -> bool {
        let is_valid = |name: &str| there.iter().any(|(one, valid)| one == name && *valid);
        is_valid(&self.graph) && is_valid(&self.rest)
    }
}

async fn make_all(weak: Weak<Shared>, lane: Lane) {
    forget(&weak, lane);
    while let Some((shared, key)) =
        next(&weak, lane, |woken| &woken.makes, |queues| queues.makes.pop_front()).await
    {
        match make_or_remove(&shared, key).await {
            Ok(Some(is_ready)) => shared.graphs.settle(key, Some(is_ready), LOOK_EVERY),
            Ok(None) => shared.graphs.settle(key, None, BUSY),
            Err(why) => {
                tracing::warn!(?why, tenant = %key.tenant, "make a graph; it will be tried again");
                shared.graphs.failed(key);
            }
        }
    }
}

/// Whether the graph is there after that; none if another node works in this database.
async fn make_or_remove(shared: &Arc<Shared>, key: GraphKey) -> Result<Option<bool>> {
    let Some(entry) = shared.graphs.entry(key) else { return Ok(None) };
    let located = shared.located(entry.placement).await?;
    let place = shared.place_in(&located, entry.placement);
    let work = make_or_remove_in(shared, key, &entry, &located, &place);
    let limit = CHANGE + A_RECORD.saturating_mul(entry.records.try_into().unwrap_or(u32::MAX));
    // How many there are is what a database says that its tenant may own.
    let limit = if entry.placement.location == Location::Own { limit.min(OWN_MAX) } else { limit };
    within(limit, "make a graph", work).await
}

async fn make_or_remove_in(
    shared: &Arc<Shared>,
    key: GraphKey,
    entry: &Entry,
    located: &Located,
    place: &Place,
) -> Result<Option<bool>> {
    let Some(client) = Maker::begin(located, place).await? else { return Ok(None) };
    let names = shared.graph_names(key);
    // Another node may just have done it.
    let there = look(shared, place, key).await?;
    let (wants, keeps) = (shared.graphs.wants(entry.records), shared.graphs.keeps(entry.records));
    if keeps && names.are_ready(&there) {
        return Ok(Some(true));
    }
    for (name, is_valid) in there {
        // What was cut off is invalid.
        if names.is_of(&name) && !(keeps && is_valid) {
            client.run(&graph::remove(place, &name), "remove a graph").await?;
        }
    }
    if !wants {
        return Ok(Some(false));
    }
    client.make(shared, key, entry, place).await?;
    match look(shared, place, key).await {
        Ok(there) => Ok(Some(names.are_ready(&there))),
        // Its purge may not have seen what was being made.
        Err(why) if why.kind() == ErrorKind::NotFound => {
            client.remove_all(shared, key.tenant, key.collection, place).await?;
            Ok(Some(false))
        }
        Err(why) => Err(why),
    }
}

/// A connection of the admin's to a place's database; while it is open no other one makes or
/// removes graphs there.
struct Maker(Session);

impl Maker {
    /// None if another one is at work there. It is not waited for: whoever waits in the database
    /// is waited for by whoever makes an index.
    async fn begin(located: &Located, place: &Place) -> Result<Option<Self>> {
        let client = located.provisioner()?.enter(&place.target.database).await?;
        let settings = format!(
            "SET search_path = pg_catalog; SET statement_timeout = 0; SET lock_timeout = '{WAIT}'; \
             SET max_parallel_maintenance_workers = 0"
        );
        let maker = Self(client);
        maker.run(&settings, "begin to make graphs").await?;
        let lock = try_lock_work_of_session(Work::Graphs);
        let row = maker.0.query_one(&lock, &[]).await.map_err(failed("lock graphs"))?;
        Ok(row.get::<_, bool>(0).then_some(maker))
    }

    /// Each statement is a transaction of its own: these cannot be in one.
    async fn run(&self, sql: &str, doing: &str) -> Result<()> {
        self.0.batch_execute(sql).await.map_err(failed(doing))
    }

    async fn make(
        &self,
        shared: &Shared,
        key: GraphKey,
        entry: &Entry,
        place: &Place,
    ) -> Result<()> {
        let there = self.there(shared, key.tenant, key.collection, place).await?;
        let names = shared.graph_names(key);
        let memory = entry.shape.kibibytes(entry.records);
        let settings = format!("SET maintenance_work_mem = '{memory}kB'");
        self.run(&settings, "begin to make a graph").await?;
        let begun = Instant::now();
        let statements = entry.shape.make(key, &names, place);
        for (name, sql) in [&names.rest, &names.graph].into_iter().zip(statements) {
            if !there.contains(name) {
                self.run(&sql, "make a graph").await?;
            }
        }
        self.run(&graph::count(place), "count what a graph is of").await?;
        let (tenant, records, took) = (key.tenant, entry.records, begun.elapsed());
        tracing::info!(%tenant, records, ?took, "a graph was made");
        Ok(())
    }

    async fn there(
        &self,
        shared: &Shared,
        tenant: TenantId,
        collection: u32,
        place: &Place,
    ) -> Result<Vec<String>> {
        self.matching(&shared.graph_pattern(tenant, collection), place).await
    }

    async fn matching(&self, pattern: &str, place: &Place) -> Result<Vec<String>> {
        let text = graph::indexes(place);
        let rows = self.0.query(text.as_str(), &[&pattern]).await;
        let rows = rows.map_err(failed("look for graphs"))?;
        rows.iter().map(|row| row.try_get(0).map_err(|_| odd())).collect()
    }

    async fn remove_all(
        &self,
        shared: &Shared,
        tenant: TenantId,
        collection: u32,
        place: &Place,
    ) -> Result<()> {
        for name in self.there(shared, tenant, collection, place).await? {
            self.run(&graph::remove(place, &name), "remove a graph").await?;
        }
        Ok(())
    }
}

impl Shared {
    /// Removes all graphs of a collection that is gone. Nothing of this node's may be open on its
    /// vectors: that is waited for.
    pub(super) async fn remove_graphs(
        &self,
        located: &Located,
        place: &Place,
        tenant: TenantId,
        collection: u32,
    ) -> Result<()> {
        let remove = async {
            let Some(maker) = Maker::begin(located, place).await? else {
                let message = "graphs of a deleted collection are left for later: others are made";
                return Err(Error::new(ErrorKind::Unavailable, message));
            };
            maker.remove_all(self, tenant, collection, place).await
        };
        within(CHANGE, "remove the graphs of a deleted collection", remove).await
    }

    /// Removes all graphs in the database of a tenant that carried it and is gone.
    pub(super) async fn remove_all_graphs(&self, located: &Located) -> Result<()> {
        if located.provisioner.is_none() {
            return Ok(());
        }
        let remove = async {
            let Some(maker) = Maker::begin(located, &located.root).await? else {
                let message = "graphs of a deleted tenant are left for later: others are made";
                return Err(Error::new(ErrorKind::Unavailable, message));
            };
            for name in maker.matching(graph::ANY, &located.root).await? {
                maker.run(&graph::remove(&located.root, &name), "remove a graph").await?;
            }
            Ok(())
        };
        within(CHANGE, "remove the graphs of a deleted tenant", remove).await
    }
}
