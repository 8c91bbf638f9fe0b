//! Which rows a selector and a key's bound filter leave, and what that and a search will cost.

use super::{
    pace::Pace,
    partition::{Partition, columns},
    vectors::Field,
    write::VECTOR,
};
use roaring::RoaringBitmap;
use std::sync::atomic::Ordering;
use tenantry_index::{CompiledFilter, Narrowed, Progress};
use tenantry_types::{Filter, Result, Selector};

/// Rows that are asked one by one rather than through an index of their metadata.
const ASK_EACH_MAX: usize = 1_024;
/// Rows asked between two calls of the pace.
const ROWS_A_TICK: usize = 512;

/// Estimates in nanoseconds: one condition asked of one row,
const CONDITION_NS: usize = 60;
/// an indexed filter,
const INDEXED_NS: usize = 30_000;
/// a walk through a graph,
const WALK_NS: usize = 120_000;
/// one row's visit,
const ROW_NS: usize = 4;
/// one comparison of two rows by a key,
const COMPARISON_NS: usize = 150;
/// and one record of the answer.
const ANSWER_NS: usize = 300;
/// Bytes of codes scanned in a nanosecond.
const SCAN_BYTES_A_NS: usize = 16;

/// What is asked for, as far as it costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) select: &'a Selector,
    pub(crate) bound: Option<&'a Filter>,
    /// The number of the name of the vectors that are searched.
    pub(crate) number: u16,
    /// Query vectors.
    pub(crate) vectors: usize,
    /// True if they are to be compared with all others.
    pub(crate) exact: bool,
    /// Records of the answer, at most.
    pub(crate) answers: usize,
    /// True if records are put in an order of their own.
    pub(crate) sorted: bool,
}

impl<'a> Ask<'a> {
    /// Rows without a search, in the order of insertion.
    pub(crate) fn rows(select: &'a Selector, bound: Option<&'a Filter>, answers: usize) -> Self {
        Self { select, bound, number: VECTOR, vectors: 0, exact: false, answers, sorted: false }
    }
}

/// The slots that take part in an operation.
#[derive(Debug)]
pub(crate) enum Selection {
    /// All.
    All,
    /// These, ascending.
    Slots(Vec<u32>),
    /// These.
    Bitmap(RoaringBitmap),
}

impl Partition {
    /// Nanoseconds that selecting, searching and answering will take: no more than an estimate.
    /// `None` if texts are read, whose length no number of rows tells.
    pub(crate) fn estimate(&self, ask: Ask<'_>) -> Option<usize> {
        let Ask { select, bound, number, vectors, exact, answers, sorted } = ask;
        let rows = select.ids.as_ref().map_or(self.len(), Vec::len);
        let answers = answers.min(rows.saturating_mul(vectors.max(1)));
        let mut cost = rows.saturating_mul(ROW_NS) + answers.saturating_mul(ANSWER_NS);
        if sorted {
            let comparisons = rows.saturating_mul(rows.max(2).ilog2() as usize);
            cost = cost.saturating_add(comparisons.saturating_mul(COMPARISON_NS));
        }
        for filter in [bound, select.filter.as_ref()].into_iter().flatten() {
            if filter.needs_text() {
                return None;
            }
            let covered = rows > ASK_EACH_MAX
                && self.metadata.try_read().is_some_and(|metadata| metadata.covers(filter));
            let asked = rows.saturating_mul(CONDITION_NS).saturating_mul(filter.terms());
            cost = cost.saturating_add(if covered {
                INDEXED_NS.saturating_mul(filter.terms())
            } else {
                asked
            });
        }
        if let Some(index) = self.vectors.field(number).and_then(Field::index) {
            let Progress { linked, pending, .. } = index.progress();
            // Under a filter the way is chosen later: it may be a scan.
            let all = select.filter.is_none() && select.ids.is_none() && bound.is_none();
            let walks = linked > pending && all && !exact;
            let scanned = if walks { pending } else { rows };
            let scan = scanned.saturating_mul(index.dimension()) / SCAN_BYTES_A_NS;
            let walk = if linked > 0 { WALK_NS } else { 0 };
            cost = cost.saturating_add(vectors.saturating_mul(scan + walk));
        }
        Some(cost)
    }

    /// The slots that a selector and a key's bound filter leave.
    pub(crate) fn select(
        &self,
        select: &Selector,
        bound: Option<&Filter>,
        pace: &mut Pace<'_>,
    ) -> Result<Selection> {
        let filters = [bound, select.filter.as_ref()].into_iter().flatten();
        let mut narrowed: Option<RoaringBitmap> = None;
        let mut asked = Vec::new();
        for filter in filters {
            let compiled = CompiledFilter::compile(filter)?;
            // An index holds what a bound filter hides as well. The caller's own filter is then
            // asked of the rest only, so that not even its time tells of hidden records.
            let is_own = bound.is_some_and(|bound| !std::ptr::eq(bound, filter));
            let found = if is_own { None } else { self.narrow(filter, pace)? };
            match found {
                Some(Narrowed { slots, exact }) => {
                    narrowed = Some(match narrowed {
                        Some(before) => before & slots,
                        None => slots,
                    });
                    if !exact {
                        asked.push(compiled);
                    }
                }
                None => asked.push(compiled),
            }
        }
        let candidates: Vec<u32> = match (&select.ids, narrowed) {
            (None, None) if asked.is_empty() => return Ok(Selection::All),
            (None, Some(slots)) if asked.is_empty() => return Ok(Selection::Bitmap(slots)),
            (None, None) => self.all_slots().collect(),
            (None, Some(slots)) => slots.into_iter().collect(),
            (Some(ids), narrowed) => {
                let slots = ids.iter().filter_map(|id| self.by_id.get(id.as_str()).copied());
                let passes = |slot: &u32| narrowed.as_ref().is_none_or(|all| all.contains(*slot));
                let mut slots: Vec<u32> = slots.filter(passes).collect();
                slots.sort_unstable();
                slots.dedup();
                slots
            }
        };
        let terms = [bound, select.filter.as_ref()].into_iter().flatten().map(Filter::terms).sum();
        self.ask(candidates, &asked, terms, pace).map(Selection::Slots)
    }

    /// Those candidates whose rows meet all filters.
    fn ask(
        &self,
        candidates: Vec<u32>,
        filters: &[CompiledFilter],
        terms: usize,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<u32>> {
        if filters.is_empty() {
            return Ok(candidates);
        }
        let every = if filters.iter().any(CompiledFilter::needs_text) {
            1
        } else {
            (ROWS_A_TICK / terms.max(1)).max(1)
        };
        let mut slots = Vec::new();
        for (at, slot) in candidates.into_iter().enumerate() {
            if at % every == 0 {
                pace.tick()?;
            }
            let Some(row) = self.row(slot).map(columns) else { continue };
            let mut passes = true;
            for filter in filters {
                passes =
                    passes && filter.matches_paced(row.metadata, row.text, &mut || pace.tick())?;
            }
            if passes {
                slots.push(slot);
            }
        }
        Ok(slots)
    }

    /// What the indexes of metadata say of a filter. Builds what is missing if there is time to:
    /// an answer never depends on it.
    fn narrow(&self, filter: &Filter, pace: &mut Pace<'_>) -> Result<Option<Narrowed>> {
        if self.len() <= ASK_EACH_MAX {
            return Ok(None);
        }
        // Nobody waits for this lock: whoever comes while it is built asks each row.
        if let Some(metadata) = self.metadata.try_read()
            && metadata.covers(filter)
        {
            return Ok(metadata.select(filter, &self.live));
        }
        // An index of texts takes up to about twice their bytes.
        let fits = !filter.needs_text() || self.row_bytes() < self.metadata_bytes_max / 2;
        if !pace.may_block() || !fits || self.metadata_refused.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(mut metadata) = self.metadata.try_write() else { return Ok(None) };
        let rows =
            self.all_slots().filter_map(|slot| self.row(slot).map(|row| (slot, columns(row))));
        metadata.build(filter, rows, &mut || pace.tick())?;
        if metadata.bytes() > self.metadata_bytes_max {
            // It would only be built again and again.
            self.metadata_refused.store(true, Ordering::Relaxed);
            metadata.clear();
        }
        self.metadata_bytes.store(metadata.bytes(), Ordering::Relaxed);
        Ok(metadata.select(filter, &self.live))
    }

    /// Bytes of the indexes of metadata and texts.
    pub(crate) fn metadata_bytes(&self) -> usize {
        self.metadata_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of vectors, their codes and the graphs.
    pub(crate) fn vectors_bytes(&self) -> usize {
        self.vectors.bytes()
    }
}
