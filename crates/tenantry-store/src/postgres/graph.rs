//! What a graph for approximate search is: two partial indexes on the vectors of one field of one
//! collection of a tenant that lives apart.
//!
//! One is pgvector's HNSW. It takes vectors whose length is within bounds only: with halves a
//! longer one could not be written any more, and one of zeros has no direction and would be left
//! out silently. The other index leads to all the rest, which a search compares one by one.
//!
//! Statements are right whether or not the indexes are there; without them they are slow.

use super::{
    cluster::{Place, Shared},
    names::base32,
    statement::{Statement, Text},
};
use tenantry_auth::TenantId;
use tenantry_types::{Metric, VectorSpec, VectorStorage};
use tokio_postgres::types::Type;

/// What pgvector can index.
const FULL_MAX: u32 = 2_000;
pub(super) const HALF_MAX: u32 = 4_000;

/// More neighbours of a vector are found by comparing all.
const K_MAX: usize = 1_000;
/// A search for more than this part of the records compares all.
const PART: u64 = 20;

/// Which vectors a graph is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GraphKey {
    pub(super) tenant: TenantId,
    pub(super) collection: u32,
    pub(super) field: u16,
}

/// What it is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    dimension: u32,
    metric: Metric,
    is_half: bool,
}

impl Shape {
    /// None if there can be no graph, or the dimension is not known yet.
    pub(super) fn of(spec: &VectorSpec) -> Option<Self> {
        let dimension = spec.dimension?;
        let is_half = spec.storage != VectorStorage::Full || dimension > FULL_MAX;
        let can_be = dimension > 0 && dimension <= HALF_MAX;
        can_be.then_some(Self { dimension, metric: spec.metric, is_half })
    }

    /// Bounds of the length of a vector in the graph: squares of it are numbers, and with halves
    /// nothing overflows and little is rounded to zero.
    fn bounds(self) -> (&'static str, &'static str) {
        if self.is_half { ("1e-2", "6e4") } else { ("1e-18", "1e18") }
    }

    /// True if a graph can be asked for the neighbours of this vector.
    pub(super) fn takes(self, vector: &[f32]) -> bool {
        let (low, high) = self.bounds();
        let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let bound = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
        (bound(low)..bound(high)).contains(&square.sqrt())
    }

    fn of_type(self, vector: &str) -> String {
        let name = if self.is_half { "halfvec" } else { "vector" };
        format!("({vector}::{{vector}}.{name}({}))", self.dimension)
    }

    fn class(self) -> String {
        let of = if self.is_half { "halfvec" } else { "vector" };
        let metric = match self.metric {
            Metric::L2 => "l2",
            Metric::Cosine => "cosine",
            Metric::InnerProduct => "ip",
        };
        format!("{{vector}}.{of}_{metric}_ops")
    }

    /// For behind `ORDER BY`: what the graph is walked along, of vectors `e.v` and `q.v`.
    pub(super) fn order(self) -> String {
        let operator = match self.metric {
            Metric::L2 => "<->",
            Metric::Cosine => "<=>",
            Metric::InnerProduct => "<#>",
        };
        let (e, q) = (self.of_type("e.v"), self.of_type("q.v"));
        format!("{e} OPERATOR({{vector}}.{operator}) {q}")
    }

    /// Whether a vector is in the graph. The indexes and the searches say it in the same words:
    /// that is how the planner sees that they fit.
    pub(super) fn inside(self, vector: &str) -> String {
        let (low, high) = self.bounds();
        let length = format!("{{vector}}.vector_norm({vector})");
        format!("({length} >= '{low}'::float8 AND {length} < '{high}'::float8)")
    }

    /// Whether it is among the rest.
    pub(super) fn outside(self, vector: &str) -> String {
        let (low, high) = self.bounds();
        let length = format!("{{vector}}.vector_norm({vector})");
        format!("({length} < '{low}'::float8 OR {length} >= '{high}'::float8)")
    }

    /// The statements that make the two indexes, the rest first. No values can be bound in them;
    /// what is put into the texts are numbers.
    pub(super) fn make(self, key: GraphKey, names: &GraphNames, place: &Place) -> [String; 2] {
        let GraphKey { tenant, collection, field } = key;
        let these = format!(
            "tenant = '{tenant}'::bigint AND collection = '{collection}'::integer \
             AND field = '{field}'::smallint",
            tenant = tenant.get()
        );
        let index = |name: &str, what: &str, of: &str| {
            let text = format!(
                "CREATE INDEX CONCURRENTLY {name} ON {{schema}}.vectors {what} \
                 WHERE {these} AND {of}"
            );
            place.text(&text).as_str().to_owned()
        };
        let walk = format!(
            "USING hnsw ({} {}) WITH (ef_construction = 100)",
            self.of_type("v"),
            self.class()
        );
        [
            index(&names.rest, "(ordinal)", &self.outside("v")),
            index(&names.graph, &walk, &self.inside("v")),
        ]
    }

    /// Memory in which a graph of so many vectors is made, in KiB.
    pub(super) fn kibibytes(self, records: u64) -> u64 {
        let component = if self.is_half { 2 } else { 4 };
        let one = u64::from(self.dimension) * component + 512;
        (records.saturating_mul(one) / 1_024 * 5 / 4).clamp(64 << 10, 512 << 10)
    }

    /// How a graph of so many vectors is walked for `k` neighbours of each; none if it is better
    /// to compare all.
    pub(super) fn walk(self, records: u64, k: usize) -> Option<Walk> {
        let wanted = u64::try_from(k).unwrap_or(u64::MAX);
        if k == 0 || k > K_MAX || wanted.saturating_mul(PART) > records {
            return None;
        }
        // Halves tie and swap: some more are taken, and put in order by what they really are.
        let reach = if self.is_half { wanted * 2 } else { wanted };
        let breadth = (reach * 8).clamp(200, 1_000);
        // Of `a` of `n` records, a walk looks at some 64 k n / a vectors; comparing looks at `a`.
        let few = (64 * u128::from(wanted) * u128::from(records)).isqrt();
        let few = i64::try_from(few).unwrap_or(i64::MAX);
        Some(Walk { shape: self, reach: reach.cast_signed(), breadth, few })
    }
}

/// How one search walks a graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub(super) shape: Shape,
    /// Vectors taken from the graph.
    pub(super) reach: i64,
    breadth: u64,
    /// If a filter lets no more records than this through, they are compared.
    pub(super) few: i64,
}

impl Walk {
    /// Until the transaction ends: goes on until enough is found that passes a filter, nearest
    /// first, and takes no detour over sorting all: where nobody has counted yet what there is,
    /// the planner takes every table for empty. (Before version 18 it adds so much to the cost of
    /// what must be sorted after all that it would be compiled, or done by several processes.)
    pub(super) fn settings(&self) -> Statement {
        Statement::new(
            "SELECT pg_catalog.set_config('hnsw.iterative_scan', 'strict_order', true), \
             pg_catalog.set_config('hnsw.ef_search', $1, true), \
             pg_catalog.set_config('enable_sort', 'off', true), \
             pg_catalog.set_config('jit', 'off', true), \
             pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)",
        )
        .with(self.breadth.to_string(), Type::TEXT)
    }
}

/// What the two indexes are called. Others see names: they say nothing, and those of one
/// collection begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GraphNames {
    pub(super) graph: String,
    pub(super) rest: String,
}

/// A pattern of the names of all indexes of graphs.
pub(super) const ANY: &str = "^(graph|rest)_[a-z2-7]{16}_[0-9]+$";

impl Shared {
    pub(super) fn graph_names(&self, key: GraphKey) -> GraphNames {
        let of = self.graph_hash(key.tenant, key.collection);
        let field = key.field;
        GraphNames { graph: format!("graph_{of}_{field}"), rest: format!("rest_{of}_{field}") }
    }

    /// A pattern of the names of all indexes of a collection's graphs.
    pub(super) fn graph_pattern(&self, tenant: TenantId, collection: u32) -> String {
        format!("^(graph|rest)_{}_[0-9]+$", self.graph_hash(tenant, collection))
    }

    fn graph_hash(&self, tenant: TenantId, collection: u32) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.naming());
        // Longer than what places are named after.
        hasher.update(b"graph").update(&tenant.get().to_be_bytes());
        hasher.update(&collection.to_be_bytes());
        base32(hasher.finalize().as_bytes().split_at(10).0)
    }
}

/// The names of a place's indexes on vectors that match `$1`, and whether they can be used.
pub(super) fn indexes(place: &Place) -> Text {
    place.text(
        "SELECT c.relname::text, i.indisvalid FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
         WHERE i.indrelid = pg_catalog.to_regclass('{schema}.vectors') \
         AND c.relname::text ~ $1",
    )
}

/// The statement that removes one of them.
pub(super) fn remove(place: &Place, name: &str) -> String {
    let text = format!("DROP INDEX CONCURRENTLY IF EXISTS {{schema}}.{name}");
    place.text(&text).as_str().to_owned()
}

/// The statement that has the server count what a graph is of.
pub(super) fn count(place: &Place) -> String {
    let text = "ANALYZE {schema}.vectors (tenant, collection, field, ordinal), \
                {schema}.records (tenant, collection, ordinal)";
    place.text(text).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(dimension: u32, storage: VectorStorage) -> VectorSpec {
        VectorSpec { metric: Metric::L2, dimension: Some(dimension), storage }
    }

    #[test]
    fn what_can_have_a_graph_and_of_what() {
        let half = |dimension, storage| Shape::of(&spec(dimension, storage)).map(|s| s.is_half);
        assert_eq!(half(2_000, VectorStorage::Full), Some(false));
        assert_eq!(half(2_001, VectorStorage::Full), Some(true));
        assert_eq!(half(4_001, VectorStorage::Full), None);
        assert_eq!(half(8, VectorStorage::Int8), Some(true));
        assert_eq!(half(8, VectorStorage::Half), Some(true));
        assert_eq!(
            Shape::of(&VectorSpec { dimension: None, ..spec(1, VectorStorage::Full) }),
            None
        );
    }

    #[test]
    fn a_search_for_much_compares_all() {
        let shape = Shape::of(&spec(8, VectorStorage::Full)).unwrap();
        assert!(shape.walk(20_000, 0).is_none());
        assert!(shape.walk(20_000, 1_001).is_none());
        assert!(shape.walk(199, 10).is_none());
        let walk = shape.walk(20_000, 10).unwrap();
        assert_eq!((walk.reach, walk.breadth, walk.few), (10, 200, 3_577));
    }

    #[test]
    fn vectors_out_of_bounds_are_not_asked_for() {
        let full = Shape::of(&spec(2, VectorStorage::Full)).unwrap();
        let half = Shape::of(&spec(2, VectorStorage::Half)).unwrap();
        for (vector, in_full, in_half) in [
            ([0.0, 0.0], false, false),
            ([1.0, 2.0], true, true),
            ([70_000.0, 0.0], true, false),
            ([1e-3, 0.0], true, false),
            ([1e20, 1e20], false, false),
        ] {
            assert_eq!((full.takes(&vector), half.takes(&vector)), (in_full, in_half));
        }
    }
}
