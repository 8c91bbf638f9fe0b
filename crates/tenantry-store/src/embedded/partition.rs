//! One partition in memory: rows in insertion order, their ids, and the vector index.

use super::disk::Body;
use crate::Origin;
use std::{
    cmp::Ordering,
    collections::HashMap,
    time::{Duration, Instant},
};
use tenantry_index::{Allow, CompiledFilter, ExactIndex};
use tenantry_types::{
    Error, ErrorKind, GetRequest, Hit, Include, Limits, Metadata, Metric, Order, QueryRequest,
    Record, RecordId, Result, Selector, Value,
};

/// How long the filter of one request may take.
const SELECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Rows that are gone before the partition is packed again.
const DEAD_ROWS_MIN: usize = 256;

/// A partition in memory. A slot is a row's position; slots ascend with ordinals, so their order
/// is the order of insertion.
#[derive(Debug)]
pub(crate) struct Partition {
    origin: Origin,
    metric: Metric,
    rows: Vec<Option<Body>>,
    ordinals: Vec<u64>,
    by_id: HashMap<Box<str>, u32>,
    index: Option<ExactIndex>,
    row_bytes: usize,
}

/// The slots that take part in an operation.
#[derive(Debug)]
pub(crate) enum Selection {
    /// All.
    All,
    /// These, ascending.
    Slots(Vec<u32>),
}

impl Partition {
    pub(crate) fn new(origin: Origin, metric: Metric) -> Self {
        Self {
            origin,
            metric,
            rows: Vec::new(),
            ordinals: Vec::new(),
            by_id: HashMap::new(),
            index: None,
            row_bytes: 0,
        }
    }

    /// Makes room for this many rows, so that memory is not taken twice while growing.
    pub(crate) fn reserve(&mut self, rows: usize, dimension: Option<u32>) {
        self.rows.reserve_exact(rows);
        self.ordinals.reserve_exact(rows);
        self.by_id.reserve(rows);
        if let Some(dimension) = dimension {
            let mut index = ExactIndex::new(self.metric, dimension as usize);
            index.reserve(rows);
            self.index = Some(index);
        }
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
        self.rows.capacity() * (size_of::<Option<Body>>() + size_of::<u64>())
            + self.by_id.capacity() * (size_of::<(Box<str>, u32)>() + 1)
            + self.row_bytes
            + self.index.as_ref().map_or(0, ExactIndex::bytes)
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
    /// above all others.
    pub(crate) fn put(&mut self, ordinal: u64, body: Body, vector: Option<&[f32]>) {
        let slot = if let Some(&slot) = self.by_id.get(body.id.as_str()) {
            slot
        } else {
            let slot = u32::try_from(self.rows.len()).expect("a partition fits in memory");
            self.by_id.insert(body.id.as_str().into(), slot);
            self.rows.push(None);
            self.ordinals.push(ordinal);
            slot
        };
        self.row_bytes += body_bytes(&body);
        if let Some(row) = self.rows.get_mut(slot as usize)
            && let Some(old) = row.replace(body)
        {
            self.row_bytes -= body_bytes(&old);
        }
        if let Some(vector) = vector {
            self.set_vector(slot, vector);
        }
    }

    /// Sets the vector of a row.
    pub(crate) fn set_vector(&mut self, slot: u32, vector: &[f32]) {
        let metric = self.metric;
        self.index.get_or_insert_with(|| ExactIndex::new(metric, vector.len())).set(slot, vector);
    }

    /// The slot of an ordinal.
    pub(crate) fn slot_of_ordinal(&self, ordinal: u64) -> Option<u32> {
        self.ordinals.binary_search(&ordinal).ok().and_then(|at| u32::try_from(at).ok())
    }

    /// Removes a row.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(slot) = self.by_id.remove(id) else { return };
        if let Some(old) = self.rows.get_mut(slot as usize).and_then(Option::take) {
            self.row_bytes -= body_bytes(&old);
        }
        if let Some(index) = &mut self.index {
            index.clear(slot);
        }
        let dead = self.rows.len() - self.by_id.len();
        if dead > DEAD_ROWS_MIN && dead > self.by_id.len() {
            self.pack();
        }
    }

    /// Closes the gaps that removed rows left. Order stays.
    fn pack(&mut self) {
        let mut packed = Self::new(self.origin, self.metric);
        for slot in 0..u32::try_from(self.rows.len()).unwrap_or(u32::MAX) {
            let at = slot as usize;
            let (Some(body), Some(&ordinal)) =
                (self.rows.get_mut(at).and_then(Option::take), self.ordinals.get(at))
            else {
                continue;
            };
            let vector = self.index.as_ref().and_then(|index| index.get(slot));
            packed.put(ordinal, body, vector);
        }
        if packed.index.is_none()
            && let Some(index) = &self.index
        {
            packed.index = Some(ExactIndex::new(self.metric, index.dimension()));
        }
        *self = packed;
    }

    /// The slots that a selector and a key's bound filter leave.
    pub(crate) fn select(
        &self,
        select: &Selector,
        bound: Option<&CompiledFilter>,
    ) -> Result<Selection> {
        self.select_within(select, bound, SELECT_TIME_MAX)
    }

    fn select_within(
        &self,
        select: &Selector,
        bound: Option<&CompiledFilter>,
        time: Duration,
    ) -> Result<Selection> {
        let filter = select.filter.as_ref().map(CompiledFilter::compile).transpose()?;
        if select.ids.is_none() && filter.is_none() && bound.is_none() {
            return Ok(Selection::All);
        }
        let started = Instant::now();
        let every =
            if [filter.as_ref(), bound].into_iter().flatten().any(CompiledFilter::needs_text) {
                1
            } else {
                4_096
            };
        let mut candidates: Vec<u32> = match &select.ids {
            Some(ids) => ids.iter().filter_map(|id| self.by_id.get(id.as_str()).copied()).collect(),
            None => self.all_slots().collect(),
        };
        if select.ids.is_some() {
            candidates.sort_unstable();
            candidates.dedup();
        }
        let mut slots = Vec::new();
        for (at, slot) in candidates.into_iter().enumerate() {
            if at % every == 0 && started.elapsed() >= time {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("the filter took more than {} seconds", time.as_secs()),
                ));
            }
            let passes = self.row(slot).is_some_and(|row| {
                let matches =
                    |f: &CompiledFilter| f.matches(row.metadata.as_ref(), row.document.as_deref());
                bound.is_none_or(matches) && filter.as_ref().is_none_or(matches)
            });
            if passes {
                slots.push(slot);
            }
        }
        Ok(Selection::Slots(slots))
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
        }
    }

    /// Answers a get.
    pub(crate) fn get(
        &self,
        request: &GetRequest,
        bound: Option<&CompiledFilter>,
    ) -> Result<Vec<Record>> {
        let selection = self.select(&request.select, bound)?;
        let page = request.page;
        let limit = page.limit.unwrap_or(usize::MAX);
        let slots: Vec<u32> = match (&request.order, selection) {
            (Order::Insertion, Selection::All) => {
                self.all_slots().skip(page.offset).take(limit).collect()
            }
            (Order::Insertion, Selection::Slots(slots)) => {
                slots.into_iter().skip(page.offset).take(limit).collect()
            }
            (order, selection) => {
                let mut slots = match selection {
                    Selection::All => self.all_slots().collect(),
                    Selection::Slots(slots) => slots,
                };
                slots.sort_by(|a, b| self.compare(order, *a, *b));
                slots.into_iter().skip(page.offset).take(limit).collect()
            }
        };
        let mut answer = Records::new(request.include);
        for slot in slots {
            self.record(slot, &mut answer)?;
        }
        Ok(answer.records)
    }

    /// Answers a query.
    pub(crate) fn query(
        &self,
        request: &QueryRequest,
        bound: Option<&CompiledFilter>,
    ) -> Result<Vec<Vec<Hit>>> {
        let selection = self.select(&request.select, bound)?;
        let allow = match &selection {
            Selection::All => Allow::All,
            Selection::Slots(slots) => Allow::Slots(slots),
        };
        let mut answers = Vec::with_capacity(request.vectors.len());
        let mut answer = Records::new(request.include);
        for vector in &request.vectors {
            let Some(index) = &self.index else {
                answers.push(Vec::new());
                continue;
            };
            if index.dimension() != vector.len() {
                return Err(super::write::dimension_error(index.dimension(), vector.len()));
            }
            let neighbours = index.search(vector, request.k, allow);
            for neighbour in &neighbours {
                self.record(neighbour.slot, &mut answer)?;
            }
            let records = std::mem::take(&mut answer.records);
            answers.push(
                records
                    .into_iter()
                    .zip(neighbours)
                    .map(|(record, neighbour)| Hit { record, distance: neighbour.distance })
                    .collect(),
            );
        }
        Ok(answers)
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
        answer.push(row, self.index.as_ref().and_then(|index| index.get(slot)))
    }
}

/// The records of an answer in the making, within [`Limits::ANSWER_BYTES_MAX`]: a request of a
/// few bytes must not make an answer of gigabytes.
pub(crate) struct Records {
    pub(crate) records: Vec<Record>,
    include: Include,
    bytes_left: usize,
}

impl Records {
    pub(crate) fn new(include: Include) -> Self {
        Self { records: Vec::new(), include, bytes_left: Limits::ANSWER_BYTES_MAX }
    }

    /// Adds the asked parts of a row.
    pub(crate) fn push(&mut self, row: &Body, vector: Option<&[f32]>) -> Result<()> {
        let include = self.include;
        let vector = vector.filter(|_| include.vector);
        let document = row.document.as_ref().filter(|_| include.document);
        let uri = row.uri.as_ref().filter(|_| include.uri);
        let metadata = row.metadata.as_ref().filter(|_| include.metadata);
        let bytes = size_of::<Record>()
            + row.id.len()
            + vector.map_or(0, size_of_val)
            + document.map_or(0, String::len)
            + uri.map_or(0, String::len)
            + metadata.map_or(0, metadata_bytes);
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or_else(answer_too_large)?;
        self.records.push(Record {
            id: RecordId::parse(row.id.as_str())
                .map_err(|why| Error::corrupt("a record's id").with_source(why))?,
            vector: vector.map(<[f32]>::to_vec),
            document: document.cloned(),
            uri: uri.cloned(),
            metadata: metadata.cloned(),
            version: row.version,
            expires_at: row.expires_at,
        });
        Ok(())
    }
}

pub(crate) fn answer_too_large() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        format!(
            "the answer would be larger than {} MiB: ask for fewer records, or leave parts out",
            Limits::ANSWER_BYTES_MAX >> 20
        ),
    )
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

fn body_bytes(body: &Body) -> usize {
    2 * body.id.len()
        + body.document.as_ref().map_or(0, String::len)
        + body.uri.as_ref().map_or(0, String::len)
        + body.metadata.as_ref().map_or(0, metadata_bytes)
}

fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| 64 + key.len() + value.bytes()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_auth::TenantId;
    use tenantry_types::{CollectionNumber, Filter, TextTest};

    #[test]
    fn a_filter_ends_when_its_time_is_over() {
        let origin = Origin { tenant: TenantId::new(1), collection: CollectionNumber(1) };
        let mut partition = Partition::new(origin, Metric::L2);
        let body = Body {
            id: "a".into(),
            document: Some("text".into()),
            uri: None,
            metadata: None,
            version: 1,
            expires_at: None,
        };
        partition.put(1, body, None);
        let filter = Some(Filter::Text(TextTest::Contains("ex".into())));
        let select = Selector { ids: None, filter };
        let found = partition.select_within(&select, None, SELECT_TIME_MAX).unwrap();
        assert_eq!(partition.count(&found), 1);
        let error = partition.select_within(&select, None, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    }
}
