//! Tenantry's own index, in process.

use crate::{
    npy::Matrix,
    peer::{Answers, Built},
    process::status_bytes,
    statistics::percentile,
};
use anyhow::Result;
use clap::ValueEnum;
use std::time::Instant;
use tenantry_index::{
    Allow, IndexConfig, Plan, SearchOptions, Storage, VectorIndex, instruction_set,
};
use tenantry_types::Metric;

/// How precisely vectors are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kept {
    /// 32-bit originals beside the codes
    Full,
    /// 16 bits per component
    Half,
    /// The codes alone
    Int8,
}

impl Kept {
    fn storage(self) -> Storage {
        match self {
            Self::Full => Storage::Full,
            Self::Half => Storage::Half,
            Self::Int8 => Storage::Int8,
        }
    }
}

/// A built index.
#[derive(Debug)]
pub(crate) struct Ours {
    index: VectorIndex,
    pub(crate) built: Built,
    /// Bytes by the index's own account.
    pub(crate) bytes: f64,
    /// The 99th percentile of pieces of maintenance, in microseconds: computing and taking over.
    pub(crate) maintenance_p99: [f64; 2],
}

impl Ours {
    /// Sets every vector, then does all maintenance.
    ///
    /// Call it before anything large is freed: memory that the allocator kept would hide growth.
    pub(crate) fn build(base: &Matrix, kept: Kept, graph_above: Option<usize>, seed: u64) -> Self {
        println!("building tenantry");
        let process = std::process::id();
        let before = status_bytes(process, "RssAnon");
        let graph_above = graph_above.unwrap_or(IndexConfig::BY_SIZE);
        let storage = kept.storage();
        let config = IndexConfig { graph_above, storage, seed, ..IndexConfig::default() };
        let mut index = VectorIndex::new(Metric::Cosine, base.dimension, config);
        let started = Instant::now();
        index.reserve(base.len());
        (0..).zip(base.rows()).for_each(|(slot, row)| index.set(slot, row));
        let [mut computing, mut applying] = [Vec::new(), Vec::new()];
        loop {
            let begun = Instant::now();
            let Some(work) = index.work() else { break };
            let computed = Instant::now();
            index.apply(work);
            computing.push((computed - begun).as_secs_f64() * 1e6);
            applying.push(computed.elapsed().as_secs_f64() * 1e6);
        }
        let seconds = started.elapsed().as_secs_f64();
        let maintenance_p99 = [percentile(&computing, 99.0), percentile(&applying, 99.0)];
        drop((computing, applying));
        let grown = status_bytes(process, "RssAnon").saturating_sub(before);
        let built = Built {
            name: format!("tenantry {kept:?} {}", instruction_set()).to_lowercase(),
            seconds,
            resident_bytes: (grown as f64).max(index.bytes() as f64),
        };
        Self { bytes: index.bytes() as f64, index, built, maintenance_p99 }
    }

    /// True if there is a graph to walk.
    pub(crate) fn has_graph(&self) -> bool {
        self.index.progress().linked > 0
    }

    /// Answers queries one by one: by the graph with a beam, or exactly. Also the way of the last.
    pub(crate) fn search<'a>(
        &self,
        queries: impl Iterator<Item = &'a [f32]>,
        k: usize,
        allow: Allow<'_>,
        how: &SearchOptions,
    ) -> Result<(Answers, Option<Plan>)> {
        let mut answers = Answers::default();
        let mut plan = None;
        for query in queries {
            let started = Instant::now();
            let found = self.index.search(query, k, allow, how, &mut || Ok(()))?;
            answers.nanoseconds.push(started.elapsed().as_secs_f64() * 1e9);
            answers.ids.push(found.neighbours.iter().map(|one| one.slot).collect());
            plan = Some(found.plan);
        }
        Ok((answers, plan))
    }
}
