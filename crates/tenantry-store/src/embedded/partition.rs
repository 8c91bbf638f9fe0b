//! One partition in memory: rows in insertion order, their ids, and their vectors.

use super::{
    disk::Body,
    footprint,
    pace::Pace,
    select::Selection,
    vectors::{FieldWork, Vectors},
};
use crate::{
    CollectionInfo, Origin,
    tenancy::{
        answer::{Later, Records, finite},
        batch::dimension_error,
    },
};
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicUsize},
};
use tenantry_index::{Allow, IndexConfig, MetadataIndex, Plan, Row, SearchOptions};
use tenantry_types::{
    Error, Filter, GetRequest, Hit, MemoryStatistics, Order, QueryRequest, Record, Result,
    SearchPlan, SearchStep, Value,
};

/// Rows that are gone before the partition is packed again.
const DEAD_ROWS_MIN: usize = 256;
/// What a partition takes beside what hangs on it, with its place in the set of hot ones.
const FIXED_BYTES: usize = size_of::<Partition>() + 512;

/// A partition in memory. A slot is a row's position; slots ascend with ordinals, so their order
/// is the order of insertion.
#[derive(Debug)]
pub(crate) struct Partition {
    origin: Origin,
    pub(super) rows: Vec<Option<Body>>,
    ordinals: Vec<u64>,
    pub(super) by_id: HashMap<Box<str>, u32>,
    pub(super) vectors: Vectors,
    row_bytes: usize,
    /// Slots with a row.
    pub(super) live: RoaringBitmap,
    /// Built when a filter first asks for it; what it says is a function of the rows.
    pub(super) metadata: RwLock<MetadataIndex>,
    /// Bytes of `metadata` when it was last changed.
    pub(super) metadata_bytes: AtomicUsize,
    /// True once an index did not fit.
    pub(super) metadata_refused: AtomicBool,
    /// Bytes that `metadata` may take.
    pub(super) metadata_bytes_max: usize,
}

/// How a partition is kept in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartitionConfig {
    /// How vectors are kept and found.
    pub(crate) index: IndexConfig,
    /// Bytes that indexes of metadata and texts may take.
    pub(crate) metadata_bytes_max: usize,
}

/// The hits of a query, and what the search did.
pub(crate) struct Hits {
    pub(crate) hits: Vec<Vec<Hit>>,
    pub(crate) searches: Vec<SearchStep>,
    pub(crate) allowed: Option<u64>,
    pub(crate) later: Vec<Later>,
}

/// The records of a get.
pub(crate) struct Got {
    pub(crate) records: Vec<Record>,
    pub(crate) later: Vec<Later>,
}

impl Partition {
    pub(crate) fn new(origin: Origin, info: &CollectionInfo, config: PartitionConfig) -> Self {
        Self {
            origin,
            rows: Vec::new(),
            ordinals: Vec::new(),
            by_id: HashMap::new(),
            vectors: Vectors::new(info, config.index),
            row_bytes: 0,
            live: RoaringBitmap::new(),
            metadata: RwLock::default(),
            metadata_bytes: AtomicUsize::new(0),
            metadata_refused: AtomicBool::new(false),
            metadata_bytes_max: config.metadata_bytes_max,
        }
    }

    /// Makes room for this many rows, so that memory is not taken twice while growing.
    pub(crate) fn reserve(&mut self, rows: usize) {
        self.rows.reserve_exact(rows);
        self.ordinals.reserve_exact(rows);
        self.by_id.reserve(rows);
        self.vectors.reserve(rows);
    }

    /// Whose bytes these are.
    pub(crate) fn origin(&self) -> Origin {
        self.origin
    }

    /// Records held.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Bytes in memory, estimated for rows and exact for the index.
    pub(crate) fn bytes(&self) -> usize {
        let rows = self.rows.capacity();
        // A full table of ids has an eighth of its buckets free; each has a byte beside it.
        let buckets = self.by_id.capacity() + self.by_id.capacity() / 7;
        FIXED_BYTES
            + footprint::piece(rows * size_of::<Option<Body>>())
            + footprint::piece(self.ordinals.capacity() * size_of::<u64>())
            + footprint::piece(buckets * (size_of::<(Box<str>, u32)>() + 1))
            // A set of up to 4,096 in 65,536 is a list, any other a bitmap.
            + (rows * 2 * size_of::<u16>()).min((rows / 65_536 + 1) * 8_192)
            + self.row_bytes
            + self.vectors_bytes()
            + self.metadata_bytes()
    }

    /// What it takes in memory, and how far its graphs are.
    pub(crate) fn statistics(&self) -> MemoryStatistics {
        let vectors_bytes = self.vectors_bytes();
        let (unnamed, vectors) = self.vectors.statistics();
        MemoryStatistics {
            rows_bytes: self.bytes().saturating_sub(vectors_bytes + self.metadata_bytes()) as u64,
            vectors_bytes: vectors_bytes as u64,
            metadata_bytes: self.metadata_bytes() as u64,
            linked: unnamed.linked,
            pending: unnamed.pending,
            recall: unnamed.recall,
            recall_samples: unnamed.recall_samples,
            vectors,
        }
    }

    /// True if [`Partition::work`] has something to do.
    pub(crate) fn has_work(&self) -> bool {
        self.vectors.has_work()
    }

    /// True while a sample of recall waits for [`Partition::sample`].
    pub(crate) fn is_sampled(&self) -> bool {
        self.vectors.is_sampled()
    }

    /// The next piece of maintenance of an index of vectors.
    pub(crate) fn work(&self) -> Option<FieldWork> {
        self.vectors.work()
    }

    /// Takes over a piece of maintenance.
    pub(crate) fn apply(&mut self, work: FieldWork) {
        self.vectors.apply(work);
    }

    /// Goes on with the sample of a query's recall, if one was taken: a piece of a scan.
    pub(crate) fn sample(&self) {
        self.vectors.sample(self.rows.len());
    }

    /// Bytes of texts and metadata, estimated.
    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// The slot and ordinal of an id.
    pub(crate) fn find(&self, id: &str) -> Option<(u32, u64)> {
        let slot = *self.by_id.get(id)?;
        Some((slot, *self.ordinals.get(slot as usize)?))
    }

    /// The row in a slot.
    pub(crate) fn row(&self, slot: u32) -> Option<&Body> {
        self.rows.get(slot as usize)?.as_ref()
    }

    /// The ordinal of a slot.
    pub(crate) fn ordinal(&self, slot: u32) -> Option<u64> {
        self.ordinals.get(slot as usize).copied()
    }

    /// Puts a row: at its place if the id is known, at the end otherwise. `ordinal` must then be
    /// above all others. Vectors come with the numbers of their names; those not given stay.
    pub(crate) fn put(&mut self, ordinal: u64, body: Body, vectors: &[(u16, Vec<f32>)]) {
        let slot = if let Some(&slot) = self.by_id.get(body.id.as_str()) {
            slot
        } else {
            let slot = u32::try_from(self.rows.len()).expect("a partition fits in memory");
            self.by_id.insert(body.id.as_str().into(), slot);
            self.rows.push(None);
            self.ordinals.push(ordinal);
            slot
        };
        self.row_bytes += footprint::of_row(&body);
        self.live.insert(slot);
        if let Some(row) = self.rows.get_mut(slot as usize) {
            let old = row.as_ref().map(columns).unwrap_or_default();
            let metadata = self.metadata.get_mut();
            metadata.put(slot, old, columns(&body));
            *self.metadata_bytes.get_mut() = metadata.bytes();
            if let Some(old) = row.replace(body) {
                self.row_bytes -= footprint::of_row(&old);
            }
        }
        for (number, vector) in vectors {
            self.vectors.set(slot, *number, vector);
        }
    }

    /// Sets a vector of a row.
    pub(crate) fn set_vector(&mut self, slot: u32, number: u16, vector: &[f32]) {
        self.vectors.set(slot, number, vector);
    }

    /// The slot of an ordinal.
    pub(crate) fn slot_of_ordinal(&self, ordinal: u64) -> Option<u32> {
        self.ordinals.binary_search(&ordinal).ok().and_then(|at| u32::try_from(at).ok())
    }

    /// Removes a row.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(slot) = self.by_id.remove(id) else { return };
        if let Some(old) = self.rows.get_mut(slot as usize).and_then(Option::take) {
            self.row_bytes -= footprint::of_row(&old);
            let metadata = self.metadata.get_mut();
            metadata.remove(slot, columns(&old));
            *self.metadata_bytes.get_mut() = metadata.bytes();
        }
        self.live.remove(slot);
        self.vectors.clear(slot);
        let dead = self.rows.len() - self.by_id.len();
        if dead > DEAD_ROWS_MIN && dead > self.by_id.len() {
            self.pack();
        }
    }

    /// Closes the gaps that removed rows left. Order stays.
    fn pack(&mut self) {
        let mut next = 0;
        let places: Vec<Option<u32>> = self
            .rows
            .iter()
            .map(|row| {
                let place = row.as_ref().map(|_| next);
                next += u32::from(place.is_some());
                place
            })
            .collect();
        let place = |slot: u32| places.get(slot as usize).copied().flatten();
        self.vectors.remap(place);
        let mut kept = places.iter().map(Option::is_some);
        self.ordinals.retain(|_| kept.next().unwrap_or(false));
        self.ordinals.shrink_to_fit();
        self.rows.retain(Option::is_some);
        self.rows.shrink_to_fit();
        for slot in self.by_id.values_mut() {
            *slot = place(*slot).unwrap_or(*slot);
        }
        self.live = (0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX)).collect();
        self.metadata.get_mut().remap(&place);
    }

    /// Slots with a row, ascending.
    pub(crate) fn all_slots(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.rows).filter(|(_, row)| row.is_some()).map(|(slot, _)| slot)
    }

    /// The number of selected rows.
    pub(crate) fn count(&self, selection: &Selection) -> usize {
        match selection {
            Selection::All => self.len(),
            Selection::Slots(slots) => slots.len(),
            Selection::Bitmap(slots) => usize::try_from(slots.len()).unwrap_or(usize::MAX),
        }
    }

    /// Answers a get.
    pub(crate) fn get(
        &self,
        request: &GetRequest,
        bound: Option<&Filter>,
        pace: &mut Pace<'_>,
    ) -> Result<Got> {
        let selection = self.select(&request.select, bound, pace)?;
        let page = request.page;
        let limit = page.limit.unwrap_or(usize::MAX);
        let slots: Vec<u32> = match (&request.order, selection) {
            (Order::Insertion, Selection::All) => {
                self.all_slots().skip(page.offset).take(limit).collect()
            }
            (Order::Insertion, Selection::Slots(slots)) => {
                slots.into_iter().skip(page.offset).take(limit).collect()
            }
            (Order::Insertion, Selection::Bitmap(slots)) => {
                slots.into_iter().skip(page.offset).take(limit).collect()
            }
            (order, selection) => {
                let mut slots = match selection {
                    Selection::All => self.all_slots().collect(),
                    Selection::Slots(slots) => slots,
                    Selection::Bitmap(slots) => slots.into_iter().collect(),
                };
                pace.tick()?;
                // Only what is answered must be in order.
                let last = page.offset.saturating_add(limit);
                if last < slots.len() {
                    slots.select_nth_unstable_by(last, |a, b| self.compare(order, *a, *b));
                    slots.truncate(last);
                    pace.tick()?;
                }
                slots.sort_unstable_by(|a, b| self.compare(order, *a, *b));
                slots.into_iter().skip(page.offset).take(limit).collect()
            }
        };
        let mut answer = Records::new(request.include);
        for slot in slots {
            self.record(slot, &mut answer)?;
        }
        Ok(Got { records: answer.records, later: answer.later })
    }

    /// Answers a query of the vectors whose name has this number.
    pub(crate) fn query(
        &self,
        request: &QueryRequest,
        number: u16,
        bound: Option<&Filter>,
        pace: &mut Pace<'_>,
    ) -> Result<Hits> {
        let selection = self.select(&request.select, bound, pace)?;
        let (allow, allowed) = match &selection {
            Selection::All => (Allow::All, None),
            Selection::Slots(slots) => (Allow::Slots(slots), Some(slots.len() as u64)),
            Selection::Bitmap(slots) => (Allow::Bitmap(slots), Some(slots.len())),
        };
        let count = request.vectors.len();
        let mut found = Hits {
            hits: Vec::with_capacity(count),
            searches: Vec::with_capacity(count),
            allowed,
            later: Vec::new(),
        };
        let mut answer = Records::new(request.include);
        let how = SearchOptions { exact: request.exact, ..SearchOptions::default() };
        for vector in &request.vectors {
            let field = self.vectors.field(number);
            let Some((field, index)) = field.and_then(|field| Some((field, field.index()?))) else {
                found.nothing();
                continue;
            };
            if index.dimension() != vector.len() {
                let using = request.using.as_ref();
                return Err(dimension_error(using, index.dimension(), vector.len()));
            }
            let one = index.search(vector, request.k, allow, &how, &mut || pace.tick())?;
            if one.plan == Plan::Graph {
                field.offer(vector, request.k, &one.neighbours);
            }
            for neighbour in &one.neighbours {
                self.record(neighbour.slot, &mut answer)?;
            }
            found.push(&mut answer, &one);
        }
        found.later = answer.later;
        Ok(found)
    }

    fn compare(&self, order: &Order, a: u32, b: u32) -> Ordering {
        let (Some(one), Some(two)) = (self.row(a), self.row(b)) else { return a.cmp(&b) };
        let by = match order {
            Order::Insertion => Ordering::Equal,
            Order::Id => one.id.cmp(&two.id),
            Order::Key { key, descending } => match (value(one, key), value(two, key)) {
                (Some(x), Some(y)) => {
                    let by = compare_values(x, y);
                    if *descending { by.reverse() } else { by }
                }
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => Ordering::Equal,
            },
        };
        by.then(a.cmp(&b))
    }

    fn record(&self, slot: u32, answer: &mut Records) -> Result<()> {
        let row = self.row(slot).ok_or_else(|| Error::internal("a selected slot is empty"))?;
        let ordinal = self.ordinal(slot).ok_or_else(|| Error::internal("a slot has no ordinal"))?;
        answer.push(row)?;
        self.vectors.answer(slot, ordinal, answer)
    }
}

impl Hits {
    /// Takes over what one query vector has found, and the records that were pushed for it.
    pub(crate) fn push(&mut self, answer: &mut Records, one: &tenantry_index::Found) {
        let records = std::mem::take(&mut answer.records).into_iter();
        let hits = records
            .zip(&one.neighbours)
            .map(|(record, near)| Hit { record, distance: finite(near.distance) });
        self.hits.push(hits.collect());
        self.searches.push(SearchStep {
            plan: plan(one.plan),
            codes_compared: one.compared_codes,
            originals_compared: one.compared_originals,
        });
    }

    fn nothing(&mut self) {
        self.hits.push(Vec::new());
        let plan = SearchPlan::Nothing;
        self.searches.push(SearchStep { plan, codes_compared: 0, originals_compared: 0 });
    }
}

pub(super) fn plan(plan: Plan) -> SearchPlan {
    match plan {
        Plan::ExactAll => SearchPlan::ExactAll,
        Plan::ExactAllowed => SearchPlan::ExactAllowed,
        Plan::Graph => SearchPlan::Graph,
        Plan::GraphFiltered => SearchPlan::GraphFiltered,
    }
}

/// What of a row metadata indexes look at.
pub(super) fn columns(row: &Body) -> Row<'_> {
    Row { metadata: row.metadata.as_deref(), text: row.document.as_deref() }
}

fn value<'a>(row: &'a Body, key: &str) -> Option<&'a Value> {
    row.metadata.as_ref()?.get(key)
}

/// Numbers by value, then texts, then other kinds (all equal).
fn compare_values(a: &Value, b: &Value) -> Ordering {
    fn rank(value: &Value) -> u8 {
        match value {
            Value::Int(_) | Value::Float(_) => 0,
            Value::Str(_) => 1,
            Value::Bool(_) | Value::List(_) => 2,
        }
    }
    rank(a).cmp(&rank(b)).then_with(|| a.compare(b).unwrap_or(Ordering::Equal))
}
