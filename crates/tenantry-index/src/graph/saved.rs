//! A graph's links as bytes.
//!
//! Little-endian: a head of eight bytes `TNTYGRPH`, the version, metric, dimension, degree and
//! slots (each u32) and the seed (u64); then for each slot a byte, [`UNLINKED`] or the number of
//! links with the top bit set if the node is dead, and its links (each u32); then the reach of the
//! entries (f32), their number and their slots (each u32); at the end the xxh3 of all that (u64).
//! No vectors and no codes.

use super::{Graph, Shape, UNLINKED};
use crate::exact::Codes;
use tenantry_types::{Error, Metric, Result};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"TNTYGRPH";
const VERSION: u32 = 1;
const HEAD: usize = 8 + 5 * 4 + 8;
const SUM: usize = 8;
const DEAD: u8 = 1 << 7;
/// The place of a slot that has none.
const UNPLACED: u32 = u32::MAX;
/// Slots of a piece: each takes a few tenths of a millisecond.
const PLACED_AT_ONCE: usize = 16_384;
const WRITTEN_AT_ONCE: usize = 2_048;

impl Graph {
    /// The links as bytes.
    pub(crate) fn save(&self, metric: Metric, dimension: usize) -> Vec<u8> {
        let used = self.counts.iter().rposition(|count| *count != UNLINKED);
        let counts = &self.counts[..used.map_or(0, |last| last + 1)];
        let links: usize = counts
            .iter()
            .filter(|count| **count != UNLINKED)
            .map(|count| usize::from(*count))
            .sum();
        let mut bytes = Vec::with_capacity(HEAD + counts.len() + links * 4 + SUM);
        self.save_head(metric, dimension, counts.len(), &mut bytes);
        for (slot, &count) in (0..).zip(counts) {
            if count == UNLINKED {
                bytes.push(count);
                continue;
            }
            bytes.push(if self.dead.contains(slot) { count | DEAD } else { count });
            for link in self.links(slot) {
                bytes.extend_from_slice(&link.to_le_bytes());
            }
        }
        bytes.extend_from_slice(&self.entries.reach.to_le_bytes());
        let entries = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        for number in [entries].iter().chain(&self.entries.slots) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn save_head(&self, metric: Metric, dimension: usize, slots: usize, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(MAGIC);
        let numbers = [dimension, self.shape.degree, slots];
        let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        for number in [VERSION, metric_number(metric)].into_iter().chain(numbers) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.shape.seed.to_le_bytes());
    }

    /// A graph with the saved links between those vectors that `place` finds among the ones that
    /// are now there; the others wait.
    ///
    /// # Errors
    ///
    /// As for [`Graph::restored`].
    pub(crate) fn restored_at(
        shape: Shape,
        version: u64,
        codes: Codes<'_>,
        dimension: usize,
        bytes: &[u8],
        place: impl Fn(u32) -> Option<u32>,
    ) -> Result<Self> {
        let saved = Saved::parse(bytes, codes.metric, dimension, &shape)
            .ok_or_else(|| Error::corrupt("A saved graph is damaged or of another index."))?;
        let mut graph = Self::new(shape, version, codes);
        for (slot, row) in (0..).zip(&saved.rows) {
            let Some(row) = row.as_ref().filter(|row| !row.dead) else { continue };
            // Of two that claim one place the first has it.
            let Some(node) = place(slot).filter(|node| graph.waiting.contains(*node)) else {
                continue;
            };
            let links = saved.links[row.start..row.end].iter().filter_map(|to| place(*to));
            let links: Vec<u32> = links.filter(|to| *to != node).collect();
            graph.attach(node);
            graph.store(node, &links);
        }
        graph.drop_dangling();
        graph.entries.reach = saved.reach;
        for node in saved.entries.iter().filter_map(|slot| place(*slot)) {
            if graph.is_alive(node) && !graph.entries.contains(node) {
                graph.entries.push(node, codes);
            }
        }
        graph.refill(codes);
        Ok(graph)
    }

    /// A graph with the saved links, for the vectors that are now there. Nodes whose vector is
    /// not `unchanged` are dead.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](tenantry_types::ErrorKind::Corrupt) if the bytes are damaged, or of an index
    /// of another metric or dimension.
    pub(crate) fn restored(
        shape: Shape,
        version: u64,
        codes: Codes<'_>,
        dimension: usize,
        bytes: &[u8],
        unchanged: impl Fn(u32) -> bool,
    ) -> Result<Self> {
        let saved = Saved::parse(bytes, codes.metric, dimension, &shape)
            .ok_or_else(|| Error::corrupt("A saved graph is damaged or of another index."))?;
        let mut graph = Self::new(shape, version, codes);
        // Slots above all that are in use now have no codes to be walked by.
        for (slot, row) in (0..).zip(saved.rows.iter().take(codes.terms.len())) {
            let Some(row) = row else { continue };
            let alive = !row.dead && graph.waiting.contains(slot) && unchanged(slot);
            let waits = graph.waiting.contains(slot);
            graph.attach(slot);
            graph.store(slot, &saved.links[row.start..row.end]);
            if !alive {
                graph.dead.insert(slot);
                if waits {
                    graph.replaced.insert(slot);
                }
            }
        }
        graph.drop_dangling();
        graph.entries.reach = saved.reach;
        for slot in saved.entries {
            if graph.is_alive(slot) {
                graph.entries.push(slot, codes);
            }
        }
        graph.refill(codes);
        Ok(graph)
    }
}

/// Links on their way to bytes, piece by piece: as if each of some slots were its place in their
/// list. What changes between two pieces may be missing, but never leaves a link to nothing.
pub(crate) struct Saving {
    slots: Vec<u32>,
    /// The place of each slot of the graph that has one.
    places: Vec<u32>,
    placed: usize,
    written: usize,
    bytes: Vec<u8>,
}

impl Saving {
    /// The links among the living nodes of these slots.
    pub(crate) fn new(slots: Vec<u32>) -> Self {
        Self { slots, places: Vec::new(), placed: 0, written: 0, bytes: Vec::new() }
    }

    /// The next piece, a fraction of a millisecond; true after the last.
    pub(crate) fn step(&mut self, graph: &Graph, metric: Metric, dimension: usize) -> bool {
        if self.placed < self.slots.len() {
            self.places.resize(self.places.len().max(graph.counts.len()), UNPLACED);
            let end = self.slots.len().min(self.placed + PLACED_AT_ONCE);
            for at in self.placed..end {
                let slot = self.slots[at];
                if graph.is_alive(slot)
                    && let Some(place) = self.places.get_mut(slot as usize)
                {
                    *place = u32::try_from(at).unwrap_or(UNPLACED);
                }
            }
            self.placed = end;
            return false;
        }
        if self.bytes.is_empty() {
            self.bytes.reserve_exact(HEAD + self.slots.len() * (1 + graph.shape.degree * 4));
            graph.save_head(metric, dimension, self.slots.len(), &mut self.bytes);
        }
        let end = self.slots.len().min(self.written + WRITTEN_AT_ONCE);
        for at in self.written..end {
            let slot = self.slots[at];
            if place(&self.places, slot).is_none() {
                self.bytes.push(UNLINKED);
                continue;
            }
            let count = self.bytes.len();
            self.bytes.push(0);
            let links = graph.links(slot).iter().filter(|to| **to != slot);
            for link in links.filter_map(|to| place(&self.places, *to)) {
                self.bytes.extend_from_slice(&link.to_le_bytes());
                self.bytes[count] += 1;
            }
        }
        self.written = end;
        if end < self.slots.len() {
            return false;
        }
        self.bytes.extend_from_slice(&graph.entries.reach.to_le_bytes());
        let entries = graph.entries.slots.iter().filter_map(|slot| place(&self.places, *slot));
        let entries: Vec<u32> = entries.collect();
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        for number in [count].iter().chain(&entries) {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        true
    }

    /// The bytes, after the last piece.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let sum = xxh3_64(&self.bytes);
        self.bytes.extend_from_slice(&sum.to_le_bytes());
        self.bytes
    }
}

fn place(places: &[u32], slot: u32) -> Option<u32> {
    places.get(slot as usize).copied().filter(|place| *place != UNPLACED)
}

struct Saved {
    links: Vec<u32>,
    rows: Vec<Option<SavedRow>>,
    reach: f32,
    entries: Vec<u32>,
}

/// One node: where its links are.
struct SavedRow {
    start: usize,
    end: usize,
    dead: bool,
}

impl Saved {
    /// `None` if anything is not as [`Graph::save`] writes it for such an index.
    fn parse(bytes: &[u8], metric: Metric, dimension: usize, shape: &Shape) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk::<SUM>()?;
        if body.len() < HEAD || xxh3_64(body) != u64::from_le_bytes(*sum) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut number = || {
            let (number, after) = rest.split_first_chunk::<4>()?;
            rest = after;
            Some(u32::from_le_bytes(*number))
        };
        let head = [number()?, number()?, number()?, number()?];
        let slots = number()? as usize;
        let _seed = (number()?, number()?);
        let wanted = [dimension, shape.degree].map(|number| u32::try_from(number).unwrap_or(0));
        // A slot takes a byte at least, so the count cannot ask for more memory than was given.
        if head != [VERSION, metric_number(metric), wanted[0], wanted[1]] || slots > rest.len() {
            return None;
        }
        let mut rows = Vec::with_capacity(slots);
        let mut links = Vec::with_capacity(rest.len() / 4);
        for slot in 0..slots {
            let (&count, after) = rest.split_first()?;
            rest = after;
            if count == UNLINKED {
                rows.push(None);
                continue;
            }
            let (start, length) = (links.len(), usize::from(count & !DEAD));
            let row = rest.get(..length * 4).filter(|_| length <= shape.degree)?;
            rest = &rest[length * 4..];
            links.extend(row.as_chunks::<4>().0.iter().map(|link| u32::from_le_bytes(*link)));
            if links[start..].iter().any(|to| *to as usize >= slots || *to as usize == slot) {
                return None;
            }
            rows.push(Some(SavedRow { start, end: links.len(), dead: count & DEAD != 0 }));
        }
        let dangling = links.iter().any(|to| rows[*to as usize].is_none());
        let (reach, after) = rest.split_first_chunk::<4>()?;
        let (count, after) = after.split_first_chunk::<4>()?;
        let (entries, after) = after.as_chunks::<4>();
        let reach = f32::from_le_bytes(*reach);
        let entries: Vec<u32> = entries.iter().map(|entry| u32::from_le_bytes(*entry)).collect();
        let whole = after.is_empty() && entries.len() == u32::from_le_bytes(*count) as usize;
        let sound = reach >= 0.0 && entries.iter().all(|slot| (*slot as usize) < slots);
        (whole && sound && !dangling).then_some(Self { links, rows, reach, entries })
    }
}

fn metric_number(metric: Metric) -> u32 {
    match metric {
        Metric::L2 => 0,
        Metric::Cosine => 1,
        Metric::InnerProduct => 2,
    }
}
