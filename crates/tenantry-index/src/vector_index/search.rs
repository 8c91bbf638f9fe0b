//! Searches by the cheaper way.

use super::VectorIndex;
use crate::{
    Allow, Neighbour,
    exact::{Nearest, Pace, ReadVector},
    graph::{Graph, Limits, QueryGuide, Scratch},
    plan::{Plan, Situation, WalkPlan},
    quantise::QueryCodes,
};
use tenantry_types::Result;

/// What a caller may ask of a search.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SearchOptions {
    /// Nodes that a walk through the graph passes: more find more of the nearest, more slowly.
    /// `None` leaves it to the index, which aims at a recall of 0.98.
    pub beam: Option<usize>,
    /// True for a scan, whatever it costs.
    pub exact: bool,
}

/// What a search found, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The neighbours, by distance, then slot.
    pub neighbours: Vec<Neighbour>,
    /// The way that led to them.
    pub plan: Plan,
    /// Vectors compared by their codes.
    pub compared_codes: u64,
    /// Vectors compared as precisely as they are kept.
    pub compared_originals: u64,
}

/// The part of the nearest that was found: those at most as far as the farthest of `exact`, of
/// all that it has. Equal distances are as good as each other.
pub fn recall(found: &[Neighbour], exact: &[Neighbour]) -> f64 {
    let Some(last) = exact.last() else { return 1.0 };
    let hits = found.iter().filter(|one| one.distance <= last.distance).count();
    hits.min(exact.len()) as f64 / exact.len() as f64
}

impl VectorIndex {
    /// The `k` vectors nearest to `query`, ordered by distance, then slot; all that may take part
    /// if there are fewer. `pace` is called at least about every fifth of a millisecond.
    ///
    /// A query of another dimension is a mistake of the caller and finds nothing.
    ///
    /// # Errors
    ///
    /// Those of `pace`, which end the search.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        allow: Allow<'_>,
        how: &SearchOptions,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Found> {
        self.search_with(query, k, allow, how, None, pace)
    }

    /// The same; originals are read from `elsewhere` if they are not in the index.
    pub(super) fn search_with(
        &self,
        query: &[f32],
        k: usize,
        allow: Allow<'_>,
        how: &SearchOptions,
        elsewhere: Option<&ReadVector<'_>>,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Found> {
        let mut walked = 0;
        if !how.exact
            && query.len() == self.dimension()
            && let Some(graph) = self.graph.as_ref()
            // Before anything is reckoned: a walk would compare more before its first step.
            && (matches!(allow, Allow::All) || self.exact.candidates(allow) > graph.entries())
            && graph.ready()
        {
            match self.search_graph(graph, query, k, allow, how, elsewhere, pace)? {
                Attempt::Found(found) => return Ok(found),
                Attempt::Failed { compared } => walked = compared,
            }
        }
        let answer = self.exact.search_paced(query, k, allow, elsewhere, pace)?;
        Ok(Found {
            neighbours: answer.neighbours,
            plan: if matches!(allow, Allow::All) { Plan::ExactAll } else { Plan::ExactAllowed },
            compared_codes: answer.compared_codes + walked,
            compared_originals: answer.compared_originals,
        })
    }

    /// The recall of an answer: what part of the nearest it has, by a scan.
    ///
    /// # Errors
    ///
    /// Those of `pace`, which end the scan.
    pub fn sample_recall(
        &self,
        query: &[f32],
        k: usize,
        allow: Allow<'_>,
        found: &[Neighbour],
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<f64> {
        Ok(recall(found, &self.exact.search_paced(query, k, allow, None, pace)?.neighbours))
    }

    #[expect(clippy::too_many_arguments, reason = "a search's own arguments, handed through")]
    fn search_graph(
        &self,
        graph: &Graph,
        query: &[f32],
        k: usize,
        allow: Allow<'_>,
        how: &SearchOptions,
        elsewhere: Option<&ReadVector<'_>>,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Attempt> {
        let allowed = self.exact.candidates(allow);
        let k = k.min(allowed);
        let filtered = !matches!(allow, Allow::All);
        let situation = Situation {
            vectors: self.len(),
            allowed,
            filtered,
            first: graph.first(filtered),
            pending: graph.pending(),
            degree: self.shape().degree,
            spread: graph.spread(self.metric()),
        };
        let plan = if k == 0 { None } else { situation.walk(k, how.beam) };
        let Some(plan) = plan else { return Ok(Attempt::Failed { compared: 0 }) };
        let nearest = Nearest::new(&self.exact, query, k).with_originals(elsewhere);
        let Some(codes) = nearest.codes() else { return Ok(Attempt::Failed { compared: 0 }) };
        let one = Walk { index: self, graph, codes: &codes, situation, plan };
        let mut pace = Pace::new(pace);
        match allow {
            Allow::All => one.search(nearest, k, Plan::Graph, |_| true, &mut pace),
            Allow::Slots(slots) => one.search(
                nearest,
                k,
                Plan::GraphFiltered,
                |slot| slots.binary_search(&slot).is_ok(),
                &mut pace,
            ),
            Allow::Bitmap(slots) => {
                one.search(nearest, k, Plan::GraphFiltered, |slot| slots.contains(slot), &mut pace)
            }
        }
    }
}

/// How a search by the graph ended.
enum Attempt {
    Found(Found),
    /// Too costly, or with fewer neighbours than there may be.
    Failed {
        compared: u64,
    },
}

/// One search by the graph.
struct Walk<'a> {
    index: &'a VectorIndex,
    graph: &'a Graph,
    codes: &'a QueryCodes,
    situation: Situation,
    plan: WalkPlan,
}

impl Walk<'_> {
    fn search(
        &self,
        nearest: Nearest<'_>,
        k: usize,
        plan: Plan,
        allowed: impl Fn(u32) -> bool,
        pace: &mut Pace<'_>,
    ) -> Result<Attempt> {
        let mut scratch = self.graph.borrow();
        let attempt = self.search_with(&mut scratch, nearest, k, plan, allowed, pace);
        self.graph.give_back(scratch);
        attempt
    }

    fn search_with(
        &self,
        scratch: &mut Scratch,
        mut nearest: Nearest<'_>,
        k: usize,
        plan: Plan,
        allowed: impl Fn(u32) -> bool,
        pace: &mut Pace<'_>,
    ) -> Result<Attempt> {
        let codes = self.index.exact.codes();
        let guide = QueryGuide(self.codes);
        let mut compared = self.graph.start(codes, scratch, &guide, self.situation.filtered);
        let failed = |compared: usize| Ok(Attempt::Failed { compared: compared as u64 });
        if !self.situation.still(self.plan, scratch.accepted_near(&allowed)) {
            return failed(compared);
        }
        let accept = |slot: u32| self.graph.answers(slot) && allowed(slot);
        if self.situation.filtered {
            self.graph.start_accepted(scratch, &guide, accept);
        }
        let mut beam = self.plan.beam;
        loop {
            let budget = if self.situation.filtered { self.plan.budget } else { usize::MAX };
            let limits = Limits { beam, budget: budget.saturating_sub(compared) };
            let walked = self.graph.walk(codes, scratch, &guide, limits, accept, pace)?;
            compared += walked.compared;
            if !walked.complete {
                return failed(compared);
            }
            let unclear = self.compare(&scratch.found(), beam, &mut nearest, pace)?;
            let Some(wider) = self.situation.wider(self.plan, beam, unclear, walked) else { break };
            if compared + walked.compared * wider / beam > self.plan.budget {
                return failed(compared);
            }
            beam = wider;
            nearest.forget();
        }
        let mut compared = compared as u64;
        let pending = self.graph.pending_slots().filter(|slot| allowed(*slot));
        compared += self
            .index
            .exact
            .bound_each(self.codes, pending, |bound, slot| nearest.consider(bound, slot, pace))?;
        let compared_originals = nearest.compared;
        let neighbours = nearest.into_neighbours();
        if neighbours.len() < k {
            return Ok(Attempt::Failed { compared });
        }
        Ok(Attempt::Found(Found { neighbours, plan, compared_codes: compared, compared_originals }))
    }

    /// Compares what a walk found, nearest first by its estimates. True if these are too rough to
    /// tell: the last may still be among the nearest, and so may others that were not found.
    fn compare(
        &self,
        found: &[(f32, u32)],
        beam: usize,
        nearest: &mut Nearest<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<bool> {
        let terms = &self.index.exact.codes().terms;
        for &(estimate, slot) in found {
            let bound = estimate - self.codes.uncertain(&terms[slot as usize]);
            nearest.consider(bound, slot, pace)?;
        }
        let Some(&(estimate, slot)) = found.last().filter(|_| found.len() >= beam) else {
            return Ok(false);
        };
        Ok(estimate - self.codes.usual_error(&terms[slot as usize]) <= nearest.limit())
    }
}
