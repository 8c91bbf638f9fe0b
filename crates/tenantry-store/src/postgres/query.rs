//! Queries.
//!
//! One statement finds the nearest to all query vectors and brings the body of each record once,
//! whatever the number of hits. Distances are computed by functions, which no approximate index
//! serves: what is exact is so by construction. They are rounded to single precision, as this
//! crate's own are, so that the same records tie.

use super::{
    cluster::Cluster,
    connect::VectorType,
    draft::{Conditions, Draft, asked, part},
    lines::{Line, Lines},
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
        Tenancy,
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
use tokio_postgres::types::Type;

impl Tenancy<Cluster> {
    pub(crate) async fn query<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        match self.query_in(scope, collection, request).await {
            Ok(answer) => Ok(answer),
            Err(why) => match self.renamed(scope, collection, &why).await? {
                Some(other) => self.query_in(scope, &other, request).await,
                None => Err(why),
            },
        }
    }

    async fn query_in<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        request: &QueryRequest,
    ) -> Result<Answer<Found>> {
        let bound = scope.restriction().filter.as_ref();
        let tenant = self.collection_tenant(scope, collection).await?;
        let wires = request.vectors.iter().map(|vector| Wire::of(vector));
        let wires = wires.collect::<Result<Vec<_>>>();
        let mut reading = Reading::new(self, &tenant, collection);
        let (hits, searches, allowed) = loop {
            let found = query(&mut reading, request, bound, &wires).await;
            if let Some(found) = reading.settled(found).await? {
                break found;
            }
        };
        let (cpu, waited) = (reading.cpu, reading.waited);
        let explain = Explain { searches, allowed, cpu, waited, hot: true };
        Ok(Answer { origin: reading.origin(), value: Found { hits, explain } })
    }
}

type Outcome = (Vec<Vec<Hit>>, Vec<SearchStep>, Option<u64>);

async fn query(
    reading: &mut Reading<'_>,
    request: &QueryRequest,
    bound: Option<&Filter>,
    wires: &Result<Vec<Wire>>,
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
    let wires = match wires {
        Ok(wires) => wires,
        Err(why) => return Err(Error::invalid(why.public_message()).into()),
    };
    let filters = ask.filters();
    let conditions = ask.conditions(&filters, &selected);
    let lines = nearest(reading, request, field, wires, &conditions).await?;
    let allowed = if ask.is_all() { None } else { lines.count };
    let hits = hits(reading, request, lines, &ask).await?;
    let plan = match allowed {
        None => SearchPlan::ExactAll,
        Some(0) => SearchPlan::Nothing,
        Some(_) => SearchPlan::ExactAllowed,
    };
    let step = SearchStep { plan, codes_compared: 0, originals_compared: 0 };
    Ok((hits, vec![step; request.vectors.len()], allowed))
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

async fn nearest(
    reading: &mut Reading<'_>,
    request: &QueryRequest,
    field: VectorInfo,
    wires: &[Wire],
    conditions: &Conditions<'_>,
) -> std::result::Result<Lines, Halt> {
    let (place, number) = (reading.place.clone(), reading.number());
    let tenant = Arc::clone(reading.tenant);
    let (fields, _) = asked(&reading.info, request.include);
    let make = |vector: Option<&VectorType>| -> Result<Statement> {
        let vector = vector.ok_or_else(|| Error::internal("the database has no vectors"))?;
        let mut draft = Draft::new(&tenant, number)?;
        let (with, data) =
            statement(&mut draft, request, field, (wires, vector), conditions, &fields)?;
        Ok(draft.finish(&place, &with, Some(&data)))
    };
    Ok(reading.ask(make).await?.0)
}

/// The text behind `WITH` and the parts of what is selected.
fn statement(
    draft: &mut Draft,
    request: &QueryRequest,
    field: VectorInfo,
    (wires, vector): (&[Wire], &VectorType),
    conditions: &Conditions<'_>,
    fields: &[i16],
) -> Result<(String, String)> {
    let vectors = draft.bind(wires.to_vec(), vector.many.clone());
    let number = draft.bind(field.number.cast_signed(), Type::INT2);
    let k = draft.bind(i64::try_from(request.k).unwrap_or(i64::MAX), Type::INT8);
    let distance = distance(field.spec.metric);
    let mut with = vec![format!(
        "WITH q AS MATERIALIZED \
         (SELECT q.v, q.n FROM unnest({vectors}) WITH ORDINALITY AS q (v, n))"
    )];
    let mut data = Vec::new();
    let mut join = "";
    if !conditions.are_none() {
        let conditions = draft.conditions(conditions)?;
        with.push(format!(
            "allowed AS MATERIALIZED \
             (SELECT r.ordinal FROM {{schema}}.records r WHERE {conditions})"
        ));
        join = " JOIN allowed a ON a.ordinal = e.ordinal";
        data.push(format!(
            "SELECT {}::smallint, 0, 0, $1, $2, 0, NULL, NULL, NULL, \
             (SELECT count(*) FROM allowed)",
            part::COUNT
        ));
    }
    with.push(format!(
        "near AS MATERIALIZED (SELECT q.n, c.ordinal, c.tenant, c.collection, c.distance \
         FROM q CROSS JOIN LATERAL (SELECT e.ordinal, e.tenant, e.collection, \
         ({distance})::real AS distance FROM {{schema}}.vectors e{join} \
         WHERE e.tenant = $1 AND e.collection = $2 AND e.field = {number} \
         ORDER BY distance, e.ordinal LIMIT {k}) c) "
    ));
    let page = "SELECT r.tenant, r.collection, r.ordinal, r.body, \
         row_number() OVER (ORDER BY r.ordinal) AS n FROM {schema}.records r \
         WHERE r.tenant = $1 AND r.collection = $2 \
         AND r.ordinal IN (SELECT near.ordinal FROM near)";
    data.push(format!(
        "SELECT {}::smallint, near.n, near.ordinal, near.tenant, near.collection, \
         near.distance, NULL, NULL, NULL, 0 FROM near",
        part::NEAR
    ));
    // First, because it names the columns.
    data.insert(0, draft.records(page, fields));
    Ok((with.join(", "), data.join(" UNION ALL ")))
}

/// Functions, not operators; see above.
fn distance(metric: Metric) -> &'static str {
    match metric {
        Metric::L2 => "{vector}.vector_l2_squared_distance(e.v, q.v)",
        // Vectors of zeros have no direction: they are as far from all others as can be told.
        Metric::Cosine => "coalesce(nullif({vector}.cosine_distance(e.v, q.v), 'NaN'), 1)",
        Metric::InnerProduct => "1 + {vector}.vector_negative_inner_product(e.v, q.v)",
    }
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
