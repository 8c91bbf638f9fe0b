//! The vectors of one collection under one name: a scan while they are few, a graph once they
//! are many.

mod search;
mod segment;

pub use search::{Found, SearchOptions, recall};
pub use segment::{SavedLinks, Segment, SegmentParts};

use crate::{
    ExactIndex, Storage,
    graph::{self, Graph, Shape},
    quantise,
};
use std::fmt;
use tenantry_types::{Metric, Result};

/// Bytes of codes above which a graph is worth its upkeep: a scan of them takes about 0.4 ms.
const GRAPH_ABOVE_BYTES: usize = 8 << 20;

/// Fewer vectors than this are scanned whatever the settings say: no graph is faster.
const GRAPH_ABOVE_MIN: usize = 2;

/// How an index keeps and finds its vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexConfig {
    /// Vectors at which a graph is begun; it is dropped below three quarters of that.
    /// [`Self::BY_SIZE`] takes about 8 MiB of codes, `usize::MAX` never begins one.
    pub graph_above: usize,
    /// How precisely vectors are kept in memory.
    pub storage: Storage,
    /// What everything random about a graph follows from.
    pub seed: u64,
    /// Most links of a node, from 4 to 120.
    pub degree: usize,
    /// Nodes that the search for a new node's links passes; more build a better graph, more
    /// slowly.
    pub build_beam: usize,
}

impl IndexConfig {
    /// Begin a graph when the codes take about 8 MiB, whatever the dimension.
    pub const BY_SIZE: usize = 0;
}

impl Default for IndexConfig {
    fn default() -> Self {
        Self {
            graph_above: Self::BY_SIZE,
            storage: Storage::Full,
            seed: 0,
            degree: 32,
            build_beam: 96,
        }
    }
}

/// A piece of maintenance, computed by [`VectorIndex::work`] for [`VectorIndex::apply`].
pub struct Work(graph::Work);

/// How far the graph is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Vectors held.
    pub vectors: usize,
    /// Vectors that the graph finds.
    pub linked: usize,
    /// Vectors that it does not find yet; they are scanned. All, if there is no graph.
    pub pending: usize,
    /// Nodes of the graph whose vector is gone or replaced, to be bridged.
    pub deleted: usize,
}

/// The vectors of one collection under one name, by slot.
///
/// Every vector that was set is found from then on, and none that was cleared. Without a graph
/// answers are exact as those of [`ExactIndex`]; with one they may miss neighbours, but never
/// give fewer than there are.
///
/// The graph is built and mended by calls to [`Self::work`], under shared access, and
/// [`Self::apply`], which is short.
pub struct VectorIndex {
    exact: ExactIndex,
    graph: Option<Graph>,
    config: IndexConfig,
    /// Above the version of every graph so far.
    version: u64,
}

impl VectorIndex {
    /// An index without vectors, for vectors of `dimension` components.
    pub fn new(metric: Metric, dimension: usize, config: IndexConfig) -> Self {
        let exact = ExactIndex::with_storage(metric, dimension, config.storage);
        Self { exact, graph: None, config, version: 0 }
    }

    /// Components of each vector.
    pub fn dimension(&self) -> usize {
        self.exact.dimension()
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.exact.metric()
    }

    /// Vectors held.
    pub fn len(&self) -> usize {
        self.exact.len()
    }

    /// True if no vector is held.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }

    /// How the index was set up.
    pub fn config(&self) -> IndexConfig {
        self.config
    }

    /// Bytes of memory held, used or spare; the sets of slots that wait are counted about.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() - size_of::<ExactIndex>()
            + self.exact.bytes()
            + self.graph.as_ref().map_or(0, Graph::bytes)
    }

    /// Makes room for the slots `0..slots`, and for no more.
    pub fn reserve(&mut self, slots: usize) {
        self.exact.reserve(slots);
        if let Some(graph) = &mut self.graph {
            graph.reserve(slots);
        }
    }

    /// Sets or replaces the vector of a slot.
    ///
    /// The components should be finite: a distance that is not a number counts as infinite. A
    /// vector of another dimension is a mistake of the caller and is not stored.
    pub fn set(&mut self, slot: u32, vector: &[f32]) {
        let before = self.graph.as_ref().filter(|graph| graph.is_alive(slot)).map(|_| {
            let codes = self.exact.codes();
            (codes.row(slot).to_vec(), codes.terms[slot as usize])
        });
        self.exact.set(slot, vector);
        if vector.len() != self.dimension() {
            return;
        }
        if let Some(graph) = &mut self.graph {
            let codes = self.exact.codes();
            // The same vector once more keeps its place.
            let same = before.is_some_and(|(row, terms)| {
                row == codes.row(slot) && terms == codes.terms[slot as usize]
            });
            if !same {
                graph.put(slot, codes);
            }
        } else if self.len() >= self.graph_above() {
            self.begin();
        }
    }

    /// Empties a slot. What was kept of the vector is overwritten with zeros; while a graph walks
    /// by its codes, those follow when it is mended.
    pub fn clear(&mut self, slot: u32) {
        let Some(terms) = self.exact.retire(slot) else { return };
        let walked = match &mut self.graph {
            Some(graph) => graph.remove(slot, terms, self.exact.codes()),
            None => false,
        };
        if !walked {
            self.exact.wipe(slot);
        }
        if self.len() < self.graph_below() {
            self.end();
        }
    }

    /// The vector of a slot, as it was set; `None` if the slot is empty, or if vectors are not
    /// kept as they came.
    pub fn get(&self, slot: u32) -> Option<&[f32]> {
        self.exact.get(slot)
    }

    /// True if the slot holds a vector.
    pub fn contains(&self, slot: u32) -> bool {
        self.exact.contains(slot)
    }

    /// True if there may be something for [`Self::work`] to do. Costs nothing.
    pub fn has_work(&self) -> bool {
        self.graph.as_ref().is_some_and(|graph| graph.pending() + graph.deleted() > 0)
    }

    /// The next piece of maintenance, at most about half a millisecond of work; `None` if there
    /// is nothing worth doing.
    ///
    /// One at a time makes progress: a piece computed beside another is dropped when the other is
    /// applied.
    pub fn work(&self) -> Option<Work> {
        self.graph.as_ref()?.work(self.exact.codes()).map(Work)
    }

    /// Takes over what was computed; what has become stale is dropped.
    pub fn apply(&mut self, work: Work) {
        let Some(graph) = &mut self.graph else { return };
        for slot in graph.apply(work.0, self.exact.codes()) {
            self.exact.wipe(slot);
        }
    }

    /// How far the graph is.
    pub fn progress(&self) -> Progress {
        let vectors = self.len();
        match &self.graph {
            Some(graph) => Progress {
                vectors,
                linked: graph.linked(),
                pending: graph.pending(),
                deleted: graph.deleted(),
            },
            None => Progress { vectors, pending: vectors, ..Progress::default() },
        }
    }

    /// The graph's links as bytes, for [`Self::restore`]: no vectors. `None` without a graph.
    pub fn save(&self) -> Option<Vec<u8>> {
        let graph = self.graph.as_ref()?;
        Some(graph.save(self.metric(), self.dimension()))
    }

    /// Takes over saved links, after all vectors were set. Slots for which `unchanged` says that
    /// they hold the vector they held when the graph was saved keep their place; the others wait
    /// for one. With too few vectors for a graph, nothing happens.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](tenantry_types::ErrorKind::Corrupt) if the bytes are damaged, or of an index
    /// with another metric, dimension or degree. The index is then as if none had been given.
    pub fn restore(&mut self, bytes: &[u8], unchanged: impl Fn(u32) -> bool) -> Result<()> {
        if self.len() < self.graph_below() {
            return Ok(());
        }
        let version = self.next_version();
        let codes = self.exact.codes();
        let dimension = self.dimension();
        let restored = Graph::restored(self.shape(), version, codes, dimension, bytes, unchanged)?;
        // If most of it is gone, a new one is built sooner than the old one mended.
        if restored.linked() >= restored.deleted() {
            self.end();
            self.graph = Some(restored);
        }
        Ok(())
    }

    /// Moves vectors to other slots: those for which `place` gives one, each another; the rest
    /// are cleared.
    pub fn remap(&mut self, place: impl Fn(u32) -> Option<u32>) {
        let moved = self.exact.moved(&place);
        if let Some(graph) = self.graph.take() {
            self.version = graph.version();
            if moved.len() >= self.graph_below() {
                self.graph = Some(graph.moved(&place, moved.codes()));
            }
        }
        self.exact = moved;
        if self.graph.is_none() && self.len() >= self.graph_above() {
            self.begin();
        }
    }

    /// Vectors at which a graph is begun.
    fn graph_above(&self) -> usize {
        let row = quantise::blocks(self.dimension()) * size_of::<crate::kernels::Block>();
        match self.config.graph_above {
            // Vectors without codes cannot be walked by.
            _ if row == 0 => usize::MAX,
            IndexConfig::BY_SIZE => GRAPH_ABOVE_BYTES / row,
            above => above.max(GRAPH_ABOVE_MIN),
        }
    }

    /// Vectors below which a graph is dropped.
    fn graph_below(&self) -> usize {
        let above = self.graph_above();
        above - above / 4
    }

    fn shape(&self) -> Shape {
        Shape {
            degree: self.config.degree.clamp(4, graph::DEGREE_MAX),
            build_beam: self.config.build_beam.max(8),
            seed: self.config.seed,
        }
    }

    fn next_version(&self) -> u64 {
        self.graph.as_ref().map_or(self.version, Graph::version) + 1
    }

    fn begin(&mut self) {
        self.version = self.next_version();
        self.graph = Some(Graph::new(self.shape(), self.version, self.exact.codes()));
    }

    fn end(&mut self) {
        let Some(graph) = self.graph.take() else { return };
        self.version = graph.version();
        for slot in graph.ghosts() {
            self.exact.wipe(slot);
        }
    }
}

/// Shows sizes only: vectors are tenants' data and belong in no log.
impl fmt::Debug for VectorIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VectorIndex")
            .field("metric", &self.metric())
            .field("dimension", &self.dimension())
            .field("config", &self.config)
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}
