//! Saving what an index can be searched by, without its vectors.
//!
//! Saved are the codes and terms of a list of slots, packed: the place in the list is the slot
//! from then on. With them and the originals, read one by one from wherever the caller keeps
//! them, a [`Segment`] answers as the index does. What the bytes mean belongs to this crate's
//! version: [`Segment::VERSION`] changes with it.

use super::{Found, SearchOptions, VectorIndex};
use crate::{
    Allow, ExactIndex, IndexConfig,
    exact::ReadVector,
    graph::{Graph, Saving},
    kernels::{BLOCK, Block},
    quantise::{self, Terms},
};
use std::fmt;
use tenantry_types::{Error, Metric, Result};

impl VectorIndex {
    /// Bytes of the saved codes of one vector of this dimension.
    pub fn code_bytes(dimension: usize) -> usize {
        quantise::blocks(dimension) * BLOCK
    }

    /// Bytes of the saved terms of one vector.
    pub const TERM_BYTES: usize = Terms::BYTES;

    /// Appends the codes of a slot: zeros if it is empty.
    pub fn save_codes(&self, slot: u32, out: &mut Vec<u8>) {
        if !self.contains(slot) {
            out.resize(out.len() + Self::code_bytes(self.dimension()), 0);
            return;
        }
        for Block(codes) in self.exact.codes().row(slot) {
            out.extend(codes.iter().map(|code| code.cast_unsigned()));
        }
    }

    /// Appends the terms of a slot.
    pub fn save_terms(&self, slot: u32, out: &mut Vec<u8>) {
        let terms = self.exact.codes().terms.get(slot as usize).copied();
        out.extend_from_slice(&terms.unwrap_or(Terms::ABSENT).to_bytes());
    }

    /// True if the slot holds a vector with these codes.
    pub fn has_codes(&self, slot: u32, saved: &[u8]) -> bool {
        let (blocks, rest) = saved.as_chunks::<BLOCK>();
        let same = |(Block(codes), saved): (&Block, &[u8; BLOCK])| {
            codes.iter().zip(saved).all(|(code, saved)| code.cast_unsigned() == *saved)
        };
        let row = || self.exact.codes().row(slot);
        rest.is_empty()
            && self.contains(slot)
            && row().len() == blocks.len()
            && row().iter().zip(blocks).all(same)
    }

    /// True if the slot holds a vector with these terms.
    pub fn has_terms(&self, slot: u32, saved: &[u8]) -> bool {
        let terms = self.exact.codes().terms.get(slot as usize);
        terms.is_some_and(|terms| !terms.absent() && terms.to_bytes() == saved)
    }

    /// True if there is a graph.
    pub fn has_graph(&self) -> bool {
        self.graph.is_some()
    }

    /// True if no maintenance is left that would change what is saved.
    pub fn is_settled(&self) -> bool {
        self.graph.as_ref().is_none_or(Graph::is_settled)
    }

    /// Begins to save the links of the graph among the vectors of these slots, each slot as its
    /// place in the list; `None` without a graph.
    pub fn begin_links(&self, slots: &[u32]) -> Option<SavedLinks> {
        self.graph.as_ref().map(|_| SavedLinks(Saving::new(slots.to_vec())))
    }

    /// The next piece of that, a fraction of a millisecond; true after the last. The index may
    /// change in between: links that do so may be missing.
    pub fn save_links(&self, links: &mut SavedLinks) -> bool {
        let step = |graph| links.0.step(graph, self.metric(), self.dimension());
        // If it was dropped meanwhile, what is there is no graph, and refused as such.
        self.graph.as_ref().is_none_or(step)
    }

    /// As [`Self::restore`], for links that were saved with [`Self::save_links`]: `place` says in
    /// which slot the vector of a saved one is now, if it still is what it was. If few of them
    /// are, nothing happens: a new graph is built sooner than such a one mended.
    ///
    /// # Errors
    ///
    /// As for [`Self::restore`].
    pub fn restore_packed(
        &mut self,
        bytes: &[u8],
        place: impl Fn(u32) -> Option<u32>,
    ) -> Result<()> {
        if self.len() < self.graph_below() {
            return Ok(());
        }
        let (shape, version, dimension) = (self.shape(), self.next_version(), self.dimension());
        let codes = self.exact.codes();
        let restored = Graph::restored_at(shape, version, codes, dimension, bytes, place)?;
        if restored.linked() >= self.len() / 2 {
            self.end();
            self.graph = Some(restored);
        }
        Ok(())
    }
}

/// Links on their way to bytes; see [`VectorIndex::begin_links`].
pub struct SavedLinks(Saving);

impl SavedLinks {
    /// The bytes, after the last piece, for [`VectorIndex::restore_packed`].
    pub fn finish(self) -> Vec<u8> {
        self.0.finish()
    }
}

impl fmt::Debug for SavedLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SavedLinks").finish_non_exhaustive()
    }
}

/// Saved codes on their way to a [`Segment`].
pub struct SegmentParts {
    metric: Metric,
    dimension: usize,
    codes: Vec<Block>,
    terms: Vec<Terms>,
}

impl SegmentParts {
    /// For about this many vectors.
    pub fn new(metric: Metric, dimension: usize, vectors: usize) -> Self {
        Self {
            metric,
            dimension,
            codes: Vec::with_capacity(vectors * quantise::blocks(dimension)),
            terms: Vec::with_capacity(vectors),
        }
    }

    /// Appends saved codes: whole blocks of 64 bytes.
    pub fn push_codes(&mut self, bytes: &[u8]) {
        let (blocks, _) = bytes.as_chunks::<BLOCK>();
        self.codes.extend(blocks.iter().map(|block| Block(block.map(u8::cast_signed))));
    }

    /// Appends saved terms, of [`VectorIndex::TERM_BYTES`] each.
    pub fn push_terms(&mut self, bytes: &[u8]) {
        let (terms, _) = bytes.as_chunks::<{ Terms::BYTES }>();
        self.terms.extend(terms.iter().map(Terms::from_bytes));
    }
}

/// The codes of an index, and its graph if it had one: searched like the index, with originals
/// from elsewhere. It cannot be changed.
pub struct Segment {
    index: VectorIndex,
}

impl Segment {
    /// Changes when codes or terms are computed otherwise: those of another version would rule
    /// out what they must not.
    pub const VERSION: u32 = 1;

    /// Puts saved parts together. `config` must keep vectors as they came.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](tenantry_types::ErrorKind::Corrupt) if they do not fit together.
    pub fn open(parts: SegmentParts, config: IndexConfig, links: Option<&[u8]>) -> Result<Self> {
        let SegmentParts { metric, dimension, codes, terms } = parts;
        if codes.len() != terms.len() * quantise::blocks(dimension) {
            return Err(Error::corrupt("saved codes are incomplete"));
        }
        let exact = ExactIndex::of_codes(metric, dimension, codes, terms);
        let mut index = VectorIndex { exact, graph: None, config, version: 0 };
        if let Some(links) = links {
            index.restore_packed(links, Some)?;
        }
        Ok(Self { index })
    }

    /// Components of each vector.
    pub fn dimension(&self) -> usize {
        self.index.dimension()
    }

    /// Vectors held.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if no vector is held.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The `k` vectors nearest to `query`, as [`VectorIndex::search`] finds them. `original` puts
    /// the vector of a slot, as it was set, into a buffer.
    ///
    /// # Errors
    ///
    /// Those of `original` and `pace`, which end the search;
    /// [`Corrupt`](tenantry_types::ErrorKind::Corrupt) if an original has another dimension.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        how: &SearchOptions,
        original: &dyn Fn(u32, &mut Vec<f32>) -> Result<()>,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Found> {
        let original: &ReadVector<'_> = original;
        self.index.search_with(query, k, Allow::All, how, Some(original), pace)
    }
}

/// Shows sizes only: codes are tenants' data and belong in no log.
impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Segment").field(&self.index).finish()
    }
}

/// As for [`Segment`].
impl fmt::Debug for SegmentParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentParts").field("dimension", &self.dimension).finish_non_exhaustive()
    }
}
