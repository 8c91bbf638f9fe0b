//! Queries: [`nearest`](super::nearest) is the statement.

use super::{
    Inner,
    connect::VectorType,
    draft::{Conditions, Draft, asked},
    graph::{GraphKey, Shape, Walk},
    lines::{Line, Lines},
    nearest::{BY_GRAPH, Search},
    read::{look, these},
    reading::{Halt, Reading},
    select::{Ask, Selected},
    statement::Statement,
    vector::Wire,
};
use crate::{
    Answer, CollectionRef, VectorInfo,
    surface::answer_too_large,
    tenancy::{
        answer::{Records, weight},
        batch::dimension_error,
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tenantry_auth::{Level, Scope};
use tenantry_types::{
    Error, Explain, Filter, Found, Hit, Limits, Metric, QueryRequest, Record, Result, SearchPlan,
    SearchStep,
};

impl Inner {
    pub(crate) async fn query<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        match self.query_in(scope, collection, request).await {
            Err(why) => {
                let other = self.namesake(scope, collection, why).await?;
                Ok(self.query_in(scope, &other, request).await?.of(other))
            }
            done => done,
        }
    }

    async fn query_in<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        let bound = scope.restriction().filter.as_ref();
        let tenant = self.tenancy.collection_tenant(scope, collection).await?;
        let mut reading = Reading::new(self, &tenant, collection).await?;
        let (hits, searches, allowed) = loop {
            let found = query(&mut reading, request, bound).await;
            if let Some(found) = reading.settled(found).await? {
                break found;
            }
        };
        let (cpu, waited, hot) = (reading.cpu, Some(reading.waited), Some(true));
        let explain = Explain { searches, allowed, cpu, waited, hot };
        Ok(Answer::new(reading.origin(), Found { hits, explain }))
    }
}

type Outcome = (Vec<Vec<Hit>>, Vec<SearchStep>, Option<u64>);

async fn query(
    reading: &mut Reading<'_>,
    request: &QueryRequest,
    bound: Option<&Filter>,
) -> std::result::Result<Outcome, Halt> {
    let ask = Ask::new(reading, &request.select, bound);
    // Once known, a dimension stays; what does not fit, or is not known yet, is asked for first.
    let fits = |reading: &Reading<'_>| {
        let known = reading.info.vector(request.using.as_ref()).ok();
        let want = known.and_then(|vector| vector.spec.dimension);
        want.is_some_and(|want| request.vectors.iter().all(|one| one.len() == want as usize))
    };
    if !fits(reading) {
        look(reading).await?;
    }
    let field = reading.info.vector(request.using.as_ref())?;
    let selected = ask.select(reading, usize::MAX).await?;
    let Some(want) = field.spec.dimension else {
        return nothing(reading, request, &ask, &selected).await;
    };
    if let Some(odd) = request.vectors.iter().find(|one| one.len() != want as usize) {
        return Err(dimension_error(request.using.as_ref(), want as usize, odd.len()).into());
    }
    let is_cosine = field.spec.metric == Metric::Cosine;
    let wire = |vector: &Vec<f32>| {
        if is_cosine { Wire::direction(vector) } else { Wire::of(vector) }
    };
    let wires = request.vectors.iter().map(wire).collect::<Result<Vec<_>>>()?;
    let filters = ask.filters();
    let conditions = ask.conditions(&filters, &selected);
    let walk = if request.exact || bound.is_some() || !ask.can_walk() {
        None
    } else {
        reading.walk_of(&field, request)
    };
    let search = Search { request, field, wires: &wires, walk };
    let (lines, records) = nearest(reading, search, &conditions).await?;
    reading.inner.shared.graphs.notice(reading.tenant, &reading.info, records);
    let allowed = if ask.is_all() { None } else { lines.count };
    let steps = steps(&lines, request, (allowed, records))?;
    let hits = hits(reading, request, lines, &ask).await?;
    Ok((hits, steps, allowed))
}

impl Reading<'_> {
    /// How a graph is walked for this request; none if there is none that could be.
    fn walk_of(&self, field: &VectorInfo, request: &QueryRequest) -> Option<Walk> {
        let shape = Shape::of(&field.spec)?;
        let (tenant, collection) = (self.tenant.id(), self.number().0);
        let key = GraphKey { tenant, collection, field: field.number };
        let records = self.inner.shared.graphs.ready(key)?;
        let takes = request.vectors.iter().all(|vector| shape.takes(vector));
        if takes { shape.walk(records, request.k) } else { None }
    }
}

/// The answer where no vector was ever written.
async fn nothing(
    reading: &mut Reading<'_>,
    request: &QueryRequest,
    ask: &Ask,
    selected: &Selected,
) -> std::result::Result<Outcome, Halt> {
    let allowed = if ask.is_all() {
        None
    } else {
        let filters = ask.filters();
        Some(super::read::count_of(reading, &ask.conditions(&filters, selected)).await?)
    };
    let count = request.vectors.len();
    let plan = SearchPlan::Nothing;
    let step = SearchStep { plan, codes_compared: 0, originals_compared: 0 };
    Ok((vec![Vec::new(); count], vec![step; count], allowed))
}

/// The neighbours, and how many records there are.
async fn nearest(
    reading: &mut Reading<'_>,
    search: Search<'_>,
    conditions: &Conditions<'_>,
) -> std::result::Result<(Lines, u64), Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let (fields, _) = asked(&reading.info, search.request.include);
    let is_common = conditions.are_none() && search.walk.is_none();
    let make = |vector: Option<&VectorType>| -> Result<Statement> {
        let vector = vector.ok_or_else(|| Error::internal("the database has no vectors"))?;
        let mut draft = Draft::new(&tenant, number)?;
        let (with, data) = search.statement(&mut draft, vector, conditions, &fields)?;
        Ok(draft.finish(&place, &with, Some(&data)).common_if(is_common))
    };
    reading.walk = search.walk;
    let asked = reading.ask(make).await;
    reading.walk = None;
    let (lines, statistics) = asked?;
    Ok((lines, statistics.records))
}

/// How the neighbours of each vector were found. The database tells nothing of what it compared: where
/// it compared all, that are those that came back if they are fewer than were asked for, and otherwise
/// at most the records that took part; of a graph it is not known.
fn steps(
    lines: &Lines,
    request: &QueryRequest,
    (allowed, records): (Option<u64>, u64),
) -> Result<Vec<SearchStep>> {
    let step =
        |plan, compared| SearchStep { plan, codes_compared: 0, originals_compared: compared };
    let (compared, walked) = match allowed {
        None => (step(SearchPlan::ExactAll, records), SearchPlan::Graph),
        Some(0) => (step(SearchPlan::Nothing, 0), SearchPlan::Nothing),
        Some(allowed) => (step(SearchPlan::ExactAllowed, allowed), SearchPlan::GraphFiltered),
    };
    let mut steps = vec![(compared, 0_u64); request.vectors.len()];
    for line in &lines.near {
        let at = usize::try_from(line.n()?).ok().and_then(|n| n.checked_sub(1));
        let Some((of, came)) = at.and_then(|at| steps.get_mut(at)) else { continue };
        if line.total()? == BY_GRAPH {
            *of = step(walked, 0);
        }
        *came += 1;
    }
    let counted = |(mut of, came): (SearchStep, u64)| {
        if came < request.k as u64 {
            of.originals_compared = of.originals_compared.min(came);
        }
        of
    };
    Ok(steps.into_iter().map(counted).collect())
}

async fn hits(
    reading: &mut Reading<'_>,
    request: &QueryRequest,
    lines: Lines,
    ask: &Ask,
) -> std::result::Result<Vec<Vec<Hit>>, Halt> {
    let Lines { records, mut near, .. } = lines;
    let mut order = records.iter().map(Line::signed_ordinal).collect::<Result<Vec<_>>>()?;
    let here: BTreeSet<i64> = order.iter().copied().collect();
    let all = near.iter().map(Line::signed_ordinal).collect::<Result<BTreeSet<_>>>()?;
    let missing: Vec<i64> = all.difference(&here).copied().collect();
    let mut answer = Records::new(request.include);
    answer = reading.open(records, ask.ids.as_ref(), answer).await?;
    answer = these(reading, &missing, ask.ids.as_ref(), answer).await?;
    order.extend(missing);
    let found: HashMap<i64, Record> = order.into_iter().zip(answer.records).collect();
    // By query vector, and within it nearest first, ties in the order of insertion.
    let mut sorted = Vec::with_capacity(near.len());
    for line in near.drain(..) {
        sorted.push((line.n()?, line.distance()?, line.signed_ordinal()?));
    }
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut left = Limits::ANSWER_BYTES_MAX;
    let mut hits: Vec<Vec<Hit>> = vec![Vec::new(); request.vectors.len()];
    for (n, distance, ordinal) in sorted {
        let record =
            found.get(&ordinal).ok_or_else(|| Error::corrupt("a vector belongs to no record"))?;
        left = left.checked_sub(weight(record)).ok_or_else(answer_too_large)?;
        let at = usize::try_from(n).ok().and_then(|n| n.checked_sub(1));
        let list = at.and_then(|at| hits.get_mut(at));
        list.ok_or_else(|| Error::internal("a neighbour of no query vector"))?
            .push(Hit { record: record.clone(), distance });
    }
    Ok(hits)
}
