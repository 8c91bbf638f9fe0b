//! The statement that finds the nearest to all query vectors, and brings the body of each record
//! once, whatever the number of hits.
//!
//! Distances are computed by functions, which no approximate index serves: what is exact is so by
//! construction. They are rounded to single precision, as this crate's own are, so that the same
//! records tie.
//!
//! With a graph, the same statement also sees in the same state of the database whether it found
//! enough; for the query vectors for which it did not, all are compared.
//!
//! Lookups stand in subqueries of their own (`OFFSET 0`, or an order and a limit): left to itself, the
//! planner reads all records for each vector as long as nobody has counted them.

use super::{
    connect::VectorType,
    draft::{Conditions, Draft, OF_ORDINAL, part},
    graph::Walk,
    vector::Wire,
};
use crate::VectorInfo;
use tenantry_types::{Metric, QueryRequest, Result};
use tokio_postgres::types::Type;

/// What is searched for.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) request: &'a QueryRequest,
    pub(super) field: VectorInfo,
    pub(super) wires: &'a [Wire],
    /// How a graph is walked, if there is one and it may be.
    pub(super) walk: Option<Walk>,
}

/// The total of a neighbour's line that a graph has led to; else it is zero.
pub(super) const BY_GRAPH: u64 = 1;

impl Search<'_> {
    /// The text behind `WITH` and the parts of what is selected.
    pub(super) fn statement(
        &self,
        draft: &mut Draft,
        vector: &VectorType,
        conditions: &Conditions<'_>,
        fields: &[i16],
    ) -> Result<(String, String)> {
        let vectors = draft.bind(self.wires.to_vec(), vector.many.clone());
        let mut with = vec![format!(
            "WITH q AS MATERIALIZED (SELECT q.v, q.n \
             FROM unnest({vectors}) WITH ORDINALITY AS q (v, n))"
        )];
        let condition = if conditions.are_none() {
            None
        } else {
            let source = draft.source(conditions);
            Some(format!("{source} WHERE {}", draft.conditions(conditions)?))
        };
        let parts = Parts {
            field: draft.bind(self.field.number.cast_signed(), Type::INT2),
            k: draft.bind(i64::try_from(self.request.k).unwrap_or(i64::MAX), Type::INT8),
            metric: self.field.spec.metric,
            condition,
        };
        if let Some(condition) = &parts.condition {
            with.push(format!(
                ", allowed AS MATERIALIZED \
                 (SELECT r.ordinal FROM {condition})\
                 , many AS MATERIALIZED (SELECT count(*) AS n FROM allowed)"
            ));
        }
        with.push(match &self.walk {
            Some(walk) => parts.walked(draft, walk),
            None => format!(
                ", near AS MATERIALIZED (SELECT o.*, 0::bigint AS way FROM ({}) o) ",
                parts.all("q")
            ),
        });
        let page = format!(
            "SELECT r.*, row_number() OVER (ORDER BY r.ordinal) AS n \
             FROM (SELECT DISTINCT near.ordinal FROM near) o CROSS JOIN LATERAL {OF_ORDINAL} r"
        );
        let mut data = vec![draft.records(&page, fields)];
        data.push(format!(
            " UNION ALL SELECT {}::smallint, near.n, near.ordinal, near.tenant, near.collection, \
             near.distance, NULL, NULL, NULL, near.way FROM near",
            part::NEAR
        ));
        if parts.condition.is_some() {
            data.push(format!(
                " UNION ALL SELECT {}::smallint, 0, 0, $1, $2, 0, NULL, NULL, NULL, many.n \
                 FROM many",
                part::COUNT
            ));
        }
        Ok((with.concat(), data.concat()))
    }
}

/// Names of values, and what is behind `FROM` for records called `r`, with what is asked of them.
struct Parts {
    field: String,
    k: String,
    metric: Metric,
    condition: Option<String>,
}

impl Parts {
    /// Functions, not operators; see above.
    fn distance(&self, q: &str) -> String {
        match self.metric {
            Metric::L2 => format!("{{vector}}.vector_l2_squared_distance(e.v, {q}.v)"),
            // Vectors of zeros have no direction: they are as far from all others as can be told.
            Metric::Cosine => {
                format!("coalesce(nullif({{vector}}.cosine_distance(e.v, {q}.v), 'NaN'), 1)")
            }
            Metric::InnerProduct => {
                format!("1 + {{vector}}.vector_negative_inner_product(e.v, {q}.v)")
            }
        }
    }

    /// The nearest to each vector of `q` among vectors `e`.
    fn nearest(&self, q: &str, from: &str, order: &str, limit: &str) -> String {
        format!(
            "SELECT {q}.n, c.ordinal, c.tenant, c.collection, c.distance \
             FROM {q} CROSS JOIN LATERAL (SELECT e.ordinal, e.tenant, e.collection, \
             ({distance})::real AS distance FROM {from} ORDER BY {order} LIMIT {limit}) c",
            distance = self.distance(q)
        )
    }

    /// All that take part, compared.
    fn all(&self, q: &str) -> String {
        let field = &self.field;
        let these = format!("e.tenant = $1 AND e.collection = $2 AND e.field = {field}");
        let from = if self.condition.is_some() {
            format!(
                "allowed a CROSS JOIN LATERAL (SELECT e.* FROM {{schema}}.vectors e \
                 WHERE {these} AND e.ordinal = a.ordinal OFFSET 0) e"
            )
        } else {
            format!("{{schema}}.vectors e WHERE {these}")
        };
        self.nearest(q, &from, "distance, e.ordinal", &self.k)
    }

    /// Those whose length is so and whose records pass, if it is not better to compare all.
    fn some(&self, length: &str, few: &str, order: &str, limit: &str) -> String {
        let field = &self.field;
        let these =
            format!("e.tenant = $1 AND e.collection = $2 AND e.field = {field} AND {length}");
        let from = match &self.condition {
            Some(condition) => format!(
                "{{schema}}.vectors e CROSS JOIN LATERAL (SELECT 1 FROM {condition} \
                 AND r.ordinal = e.ordinal OFFSET 0) passes \
                 WHERE {these} AND (SELECT many.n FROM many) > {few}"
            ),
            None => format!("{{schema}}.vectors e WHERE {these}"),
        };
        self.nearest("q", &from, order, limit)
    }

    fn walked(&self, draft: &mut Draft, walk: &Walk) -> String {
        let (shape, k) = (walk.shape, &self.k);
        let reach = draft.bind(walk.reach, Type::INT8);
        let few = match self.condition {
            Some(_) => draft.bind(walk.few, Type::INT8),
            None => String::new(),
        };
        let inside = self.some(&shape.inside("e.v"), &few, &shape.order(), &reach);
        let outside = self.some(&shape.outside("e.v"), &few, "distance, e.ordinal", k);
        let enough = match self.condition {
            Some(_) => format!("least({k}, (SELECT many.n FROM many))"),
            None => k.clone(),
        };
        format!(
            ", walked AS MATERIALIZED ({inside}), rest AS MATERIALIZED ({outside})\
             , found AS MATERIALIZED (SELECT f.*, \
             row_number() OVER (PARTITION BY f.n ORDER BY f.distance, f.ordinal) AS rank \
             FROM (SELECT * FROM walked UNION ALL SELECT * FROM rest) f)\
             , short AS MATERIALIZED (SELECT q.v, q.n FROM q \
             WHERE (SELECT count(*) FROM found f WHERE f.n = q.n AND f.rank <= {k}) < {enough})\
             , near AS MATERIALIZED (SELECT f.n, f.ordinal, f.tenant, f.collection, f.distance, \
             {BY_GRAPH}::bigint AS way FROM found f \
             WHERE f.rank <= {k} AND f.n NOT IN (SELECT short.n FROM short) \
             UNION ALL SELECT o.*, 0 FROM ({all}) o) ",
            all = self.all("short")
        )
    }
}
