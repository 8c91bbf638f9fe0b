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
        bytes.extend_from_slice(MAGIC);
        let numbers = [dimension, self.shape.degree, counts.len()];
        let numbers = numbers.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        for number in [VERSION, metric_number(metric)].into_iter().chain(numbers) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.shape.seed.to_le_bytes());
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
