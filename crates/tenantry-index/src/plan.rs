//! Which way a search goes: by a scan or by the graph.
//!
//! The unit of cost is one code read in sequence. What the others cost was measured on text
//! embeddings of 384 components; only ratios count, and they change little with the dimension.

use crate::graph::Walked;

/// Nodes passed that find ten neighbours with a recall of at least 0.98 among up to 50,000
/// vectors, and how many more each doubling takes.
const BEAM: f64 = 48.0;
const BEAM_PER_DOUBLING: f64 = 4.0;

/// A code somewhere in memory, asked for ahead of time.
const LISTED: f64 = 1.4;

/// A code compared in a walk: far away, asked for late, and with the walk's own bookkeeping.
const WALKED: f64 = 3.0;

/// The part of a node's links that lead to nodes not yet seen.
const FRESH: f64 = 0.6;

/// A walk that leaves doubts is repeated with beams up to so many times as wide as usual.
const WIDER: usize = 8;

/// The part of the allowed nodes that a walk passes among others, of as many as the filter's
/// selectivity says, below which it counts as led astray.
const USUAL_PART: f64 = 0.6;

/// How a search went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// All vectors' codes were scanned.
    ExactAll,
    /// The codes of the allowed vectors were scanned.
    ExactAllowed,
    /// The graph was walked.
    Graph,
    /// The graph was walked until enough allowed vectors were passed.
    GraphFiltered,
}

/// What a choice depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation {
    /// Vectors in the index.
    pub(crate) vectors: usize,
    /// Vectors that may be answers, at most.
    pub(crate) allowed: usize,
    /// True if that is because of a filter.
    pub(crate) filtered: bool,
    /// Codes that a walk compares before its first step, beyond a thousand.
    pub(crate) first: usize,
    /// Vectors to scan beside a walk.
    pub(crate) pending: usize,
    /// Links of a node.
    pub(crate) degree: usize,
    /// How much farther than usual walks must look.
    pub(crate) spread: f64,
}

/// A walk that is worth its cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalkPlan {
    /// Allowed nodes to pass.
    pub(crate) beam: usize,
    /// Most allowed nodes to pass if the first walk leaves doubts.
    pub(crate) widest: usize,
    /// Codes after which a scan would have been cheaper.
    pub(crate) budget: usize,
}

impl Situation {
    /// The walk for `k` neighbours; `None` if a scan is cheaper.
    pub(crate) fn walk(&self, k: usize, beam: Option<usize>) -> Option<WalkPlan> {
        let selectivity = (self.allowed as f64 / self.vectors.max(1) as f64).clamp(1e-9, 1.0);
        let unfiltered = beam.unwrap_or_else(|| self.default_beam(k)).max(k);
        // Through a filter a walk passes more nodes for each that it keeps, and so is more
        // thorough about each.
        let kept = (unfiltered - k) as f64 * selectivity.sqrt();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the beam"
        )]
        let narrow = k.saturating_add(kept.ceil() as usize);
        let scan = self.scan_cost();
        let walk = self.walk_cost(narrow as f64 / selectivity);
        let widest = match beam {
            Some(_) => narrow,
            None => narrow.max(unfiltered.saturating_mul(WIDER)),
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and saturating is right"
        )]
        let budget = (scan / WALKED) as usize;
        (walk < scan).then_some(WalkPlan { beam: narrow, widest, budget })
    }

    /// True if a walk is still cheaper once `accepted` of the `near` entries that are nearest to
    /// the query are known to be allowed. Filters follow the data, and so can be far from the
    /// query as a whole.
    pub(crate) fn still(&self, plan: WalkPlan, (accepted, near): (usize, usize)) -> bool {
        if !self.filtered {
            return true;
        }
        let overall = self.allowed as f64 / self.vectors.max(1) as f64;
        let local = (accepted as f64 + overall) / (near as f64 + 1.0);
        self.walk_cost(plan.beam as f64 / local.max(1e-9)) < self.scan_cost()
    }

    /// The beam to walk with once more, if the walk leaves doubts: because codes are too rough
    /// to tell its results apart (`unclear`), or because it led through much that is not allowed
    /// and so saw little of what surrounds its results.
    pub(crate) fn wider(
        &self,
        plan: WalkPlan,
        beam: usize,
        unclear: bool,
        walked: Walked,
    ) -> Option<usize> {
        let usual = walked.passed as f64 * self.allowed as f64 / self.vectors.max(1) as f64;
        let far = self.filtered && (walked.accepted as f64) < USUAL_PART * usual;
        let most = if unclear {
            plan.widest
        } else if far {
            plan.widest / 4
        } else {
            0
        };
        let wider = beam.saturating_mul(if far { 4 } else { 2 }).min(most);
        (wider > beam).then_some(wider)
    }

    /// The nodes a walk passes, if the caller has no wish: enough for a recall of about 0.98.
    fn default_beam(&self, k: usize) -> usize {
        let doublings = (self.vectors.max(1) as f64 / 50_000.0).log2().max(0.0);
        let beam = (BEAM + BEAM_PER_DOUBLING * doublings).max(1.5 * k as f64 + 10.0) * self.spread;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and saturating is right"
        )]
        let beam = beam.ceil() as usize;
        beam
    }

    fn scan_cost(&self) -> f64 {
        if self.filtered { self.allowed as f64 * LISTED } else { self.vectors as f64 }
    }

    /// The cost of a walk past `nodes` nodes.
    fn walk_cost(&self, nodes: f64) -> f64 {
        let walked = nodes * self.degree as f64 * FRESH;
        walked * WALKED + self.first as f64 + self.pending as f64 * LISTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(vectors: usize, allowed: usize) -> Situation {
        Situation {
            vectors,
            allowed,
            filtered: allowed < vectors,
            first: (vectors / 64).saturating_sub(1_024),
            pending: 0,
            degree: 32,
            spread: 1.0,
        }
    }

    #[test]
    fn many_vectors_are_walked_and_few_or_few_allowed_ones_scanned() {
        for (vectors, allowed, walks) in [
            (100, 100, false),
            (63_000, 63_000, true),
            (63_000, 31_500, true),
            (63_000, 630, false),
            (63_000, 0, false),
            (1_000_000, 100_000, true),
            (1_000_000, 1_000, false),
            (0, 0, false),
        ] {
            let plan = filtered(vectors, allowed).walk(10, None);
            assert_eq!(plan.is_some(), walks, "{allowed} of {vectors}");
        }
    }

    #[test]
    fn a_filter_that_allows_nothing_near_the_query_is_scanned() {
        let situation = filtered(63_000, 31_500);
        let plan = situation.walk(10, None).expect("half is walked");
        assert!(situation.still(plan, (16, 32)));
        assert!(!situation.still(plan, (0, 32)));
    }

    #[test]
    fn a_walk_passes_at_least_k_and_never_overflows() {
        for k in [1, 10, 1_000, usize::MAX] {
            for beam in [None, Some(0), Some(usize::MAX)] {
                let plan = filtered(usize::MAX, usize::MAX).walk(k, beam);
                assert!(plan.is_none_or(|plan| plan.beam >= k), "{k} {beam:?}");
            }
        }
    }
}
