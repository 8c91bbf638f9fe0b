//! Tenantry's own index, in process.

use crate::{
    npy::Matrix,
    peer::{Answers, Built},
    process::status_bytes,
    statistics::percentile,
};
use anyhow::Result;
use clap::ValueEnum;
use std::time::{Duration, Instant};
use tenantry_index::{
    Allow, IndexConfig, Plan, SearchOptions, Storage, VectorIndex, instruction_set,
};
use tenantry_types::Metric;

/// How often a long build says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);

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
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Half => "half",
            Self::Int8 => "int8",
        }
    }

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
    pub(crate) kept: Kept,
    pub(crate) built: Built,
    /// True if the links were computed by another index.
    pub(crate) copied: bool,
    /// Bytes by the index's own account.
    pub(crate) bytes: f64,
    /// The 99th percentile of pieces of maintenance, in microseconds: computing and taking over.
    pub(crate) maintenance_p99: [f64; 2],
}

impl Ours {
    /// Sets every vector, then does all maintenance.
    ///
    /// Call it before anything large is freed: memory that the allocator kept would hide growth.
    pub(crate) fn build(
        base: &Matrix,
        kept: Kept,
        graph_above: Option<usize>,
        seed: u64,
    ) -> Result<Self> {
        Self::with_links(base, kept, graph_above, seed, None)
    }

    /// An index for each way of keeping vectors. The first one builds its graph; the others take
    /// its links over as a server does after a restart, since links follow from codes, which all
    /// have alike.
    pub(crate) fn each(
        base: &Matrix,
        kept: &[Kept],
        graph_above: Option<usize>,
        seed: u64,
    ) -> Result<Vec<Self>> {
        let mut all: Vec<Self> = Vec::new();
        let mut links = None;
        for kept in kept {
            let one = Self::with_links(base, *kept, graph_above, seed, links.as_deref())?;
            links = links.or_else(|| one.index.save());
            all.push(one);
        }
        Ok(all)
    }

    fn with_links(
        base: &Matrix,
        kept: Kept,
        graph_above: Option<usize>,
        seed: u64,
        links: Option<&[u8]>,
    ) -> Result<Self> {
        println!("building tenantry, {}", kept.name());
        let process = std::process::id();
        let before = status_bytes(process, "RssAnon");
        let graph_above = graph_above.unwrap_or(IndexConfig::BY_SIZE);
        let storage = kept.storage();
        let config = IndexConfig { graph_above, storage, seed, ..IndexConfig::default() };
        let mut index = VectorIndex::new(Metric::Cosine, base.dimension, config);
        let started = Instant::now();
        index.reserve(base.len());
        (0..).zip(base.rows()).for_each(|(slot, row)| index.set(slot, row));
        if let Some(links) = links {
            index.restore(links, |_| true)?;
        }
        let [mut computing, mut applying] = [Vec::new(), Vec::new()];
        let mut teller = Teller::new(base.len());
        loop {
            let begun = Instant::now();
            let Some(work) = index.work() else { break };
            let computed = Instant::now();
            index.apply(work);
            computing.push((computed - begun).as_secs_f64() * 1e6);
            applying.push(computed.elapsed().as_secs_f64() * 1e6);
            teller.tell(|| index.progress().linked);
        }
        let seconds = started.elapsed().as_secs_f64();
        let maintenance_p99 = [percentile(&computing, 99.0), percentile(&applying, 99.0)];
        drop((computing, applying));
        let grown = status_bytes(process, "RssAnon").saturating_sub(before);
        let built = Built {
            name: format!("tenantry {} {}", kept.name(), instruction_set()).to_lowercase(),
            seconds,
            resident_bytes: (grown as f64).max(index.bytes() as f64),
        };
        let (bytes, copied) = (index.bytes() as f64, links.is_some());
        Ok(Self { index, kept, built, copied, bytes, maintenance_p99 })
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

/// Says now and then how far a long build is.
struct Teller {
    all: usize,
    told: Instant,
    done: usize,
}

impl Teller {
    fn new(all: usize) -> Self {
        Self { all, told: Instant::now(), done: 0 }
    }

    fn tell(&mut self, done: impl FnOnce() -> usize) {
        let waited = self.told.elapsed();
        if waited >= TELL_EVERY {
            let done = done();
            println!("  {}", line(self.done, done, self.all, waited));
            (self.told, self.done) = (Instant::now(), done);
        }
    }
}

/// How far a build is, how fast it was since `before`, and how long it takes at that rate.
fn line(before: usize, done: usize, all: usize, waited: Duration) -> String {
    let rate = done.saturating_sub(before) as f64 / waited.as_secs_f64();
    let left = all.saturating_sub(done) as f64 / rate / 60.0;
    let left = if left.is_finite() { format!("{left:.1} min left") } else { "-".to_owned() };
    format!("{done} of {all}, {rate:.0}/s, {left}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::synthetic;

    #[test]
    fn time_left_follows_from_the_last_rate() {
        let ten = Duration::from_secs(10);
        assert_eq!(line(1_000, 3_000, 15_000, ten), "3000 of 15000, 200/s, 1.0 min left");
        assert_eq!(line(5, 5, 9, ten), "5 of 9, 0/s, -");
        assert_eq!(line(0, 9, 9, ten), "9 of 9, 1/s, 0.0 min left");
    }

    #[test]
    fn copied_links_give_the_same_answers_as_built_ones() {
        let corpus = synthetic(1, 3_000, 20, 24);
        let kinds = [Kept::Full, Kept::Half];
        let copied = Ours::each(&corpus.base, &kinds, Some(100), 1).unwrap();
        let built = Ours::build(&corpus.base, Kept::Half, Some(100), 1).unwrap();
        let how = SearchOptions { beam: Some(20), exact: false };
        let ask = |ours: &Ours| ours.search(corpus.queries.rows(), 10, Allow::All, &how).unwrap();
        let (found, plan) = ask(&copied[1]);
        assert_eq!((found.ids, plan), (ask(&built).0.ids, Some(Plan::Graph)));
        assert_eq!(copied.iter().map(|one| one.copied).collect::<Vec<_>>(), [false, true]);
        assert!(copied[1].bytes < copied[0].bytes);
    }
}
