//! Statements on one collection's records, in the making.
//!
//! All of them return the same columns ([`lines`](super::lines) reads them) and have the tenant
//! and the collection as `$1` and `$2`; what anybody sent is only ever a value.

use super::{
    cluster::Place,
    fields::KEPT,
    filter,
    statement::{Statement, Value},
};
use crate::{
    CollectionInfo,
    tenancy::{
        catalog::PARTITION,
        keys::{self, PREFIX_BYTES, Prefix},
        seal::Deriving,
        tenants::OpenTenant,
    },
};
use tenantry_auth::TenantId;
use tenantry_types::{CollectionNumber, Error, Filter, Include, Limits, Order, RecordId, Result};
use tokio_postgres::types::{ToSql, Type};

/// What each line of an answer is.
pub(super) mod part {
    /// A row of the catalog.
    pub(in super::super) const CATALOG: i16 = 0;
    /// A record.
    pub(in super::super) const RECORD: i16 = 1;
    /// A neighbour.
    pub(in super::super) const NEAR: i16 = 2;
    /// A number.
    pub(in super::super) const COUNT: i16 = 3;
}

/// What records `o` take that say so, and how many do not.
const SUM: &str = "coalesce(sum(o.kept), 0)::bigint";
const SILENT: &str = "count(*) FILTER (WHERE o.kept IS NULL)";

/// The record with the ordinal of `o`, looked up by the primary key: as a join, or by an equation, the
/// planner reads the whole collection if it takes one that grew since it was counted for empty.
pub(super) const OF_ORDINAL: &str = "(SELECT r.tenant, r.collection, r.ordinal, r.body \
     FROM {schema}.records r WHERE r.tenant = $1 AND r.collection = $2 \
     AND r.ordinal BETWEEN o.ordinal AND o.ordinal ORDER BY r.ordinal LIMIT 1)";

/// Sealed bytes of records in one answer of the server, except for the first record.
pub(super) const PAGE_BYTES: i64 = 8 << 20;
/// Records in one answer of the server.
pub(super) const PAGE_ROWS: usize = 4_096;

/// A collection's number as the tables have it.
pub(super) fn signed_collection(number: CollectionNumber) -> Result<i32> {
    i32::try_from(number.0).map_err(|_| Error::internal("a collection beyond the database's"))
}

/// An ordinal as the tables have it.
pub(super) fn signed(ordinal: u64) -> Result<i64> {
    i64::try_from(ordinal).map_err(|_| Error::internal("an ordinal beyond the database's"))
}

/// Which records take part.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions<'a> {
    /// Only records with these keyed hashes.
    pub(super) keys: Option<&'a [Vec<u8>]>,
    /// Only these.
    pub(super) ordinals: Option<&'a [i64]>,
    /// Only later ones.
    pub(super) after: Option<i64>,
    /// What the server tests of these.
    pub(super) filters: &'a [&'a Filter],
}

impl Conditions<'_> {
    /// True if all records take part.
    pub(super) fn are_none(&self) -> bool {
        let Self { keys, ordinals, after, filters } = self;
        keys.is_none() && ordinals.is_none() && after.is_none() && filters.is_empty()
    }
}

/// A statement in the making.
pub(super) struct Draft {
    prefix: Prefix,
    number: CollectionNumber,
    values: Vec<(Value, Type)>,
    looks_up: bool,
}

impl Draft {
    pub(super) fn new(tenant: &OpenTenant, number: CollectionNumber) -> Result<Self> {
        let (prefix, values) = (tenant.prefix(), Vec::new());
        let mut draft = Self { prefix, number, values, looks_up: false };
        draft.bind(super::cluster::signed(tenant.id())?, Type::INT8);
        draft.bind(signed_collection(number)?, Type::INT4);
        Ok(draft)
    }

    /// Gives a value; its name in the text.
    pub(super) fn bind(&mut self, value: impl ToSql + Sync + Send + 'static, of: Type) -> String {
        self.values.push((Box::new(value), of));
        format!("${}", self.values.len())
    }

    fn filter(&mut self, filter: &Filter) -> Result<String> {
        let sql = filter::compile(filter, "r.fields", self.values.len() + 1)?;
        self.values.extend(sql.params.into_iter().map(filter::Param::into_typed));
        Ok(sql.text)
    }

    /// For behind `FROM`: records that are called `r`, to which [`Draft::conditions`] apply.
    pub(super) fn source(&mut self, conditions: &Conditions<'_>) -> String {
        match conditions.keys {
            Some(keys) => format!("({}) r", self.of_keys(keys, "r.*")),
            None => "{schema}.records r".to_owned(),
        }
    }

    /// For behind `WHERE`, over what [`Draft::source`] gives.
    pub(super) fn conditions(&mut self, conditions: &Conditions<'_>) -> Result<String> {
        let mut all = vec!["r.tenant = $1 AND r.collection = $2".to_owned()];
        if let Some(ordinals) = conditions.ordinals {
            let ordinals = self.bind(ordinals.to_vec(), Type::INT8_ARRAY);
            all.push(format!("r.ordinal = ANY ({ordinals})"));
        }
        if let Some(after) = conditions.after {
            let after = self.bind(after, Type::INT8);
            all.push(format!("r.ordinal > {after}"));
        }
        for filter in conditions.filters {
            all.push(self.filter(filter)?);
        }
        Ok(all.join(" AND "))
    }

    /// Columns of records called `r` that have one of these keyed hashes, each of which is looked up
    /// by the index of them.
    ///
    /// Left to itself, the planner reads the whole collection: for all hashes together because
    /// nobody counts them, or for each of them, by the primary key, if it takes a collection that
    /// grew since it was counted for empty. So it is asked for a range and an order, which only the
    /// index of hashes has, and [sorting is off](super::statement::LOOKING_UP).
    pub(super) fn of_keys(&mut self, keys: &[Vec<u8>], columns: &str) -> String {
        self.looks_up = true;
        let keys = self.bind(keys.to_vec(), Type::BYTEA_ARRAY);
        format!(
            "SELECT found.* FROM unnest({keys}) AS k (key) CROSS JOIN LATERAL \
             (SELECT {columns} FROM {{schema}}.records r WHERE r.tenant = $1 \
             AND r.collection = $2 AND r.key BETWEEN k.key AND k.key ORDER BY r.key LIMIT 1) found"
        )
    }

    /// For behind `ORDER BY`, over records that are called `r`.
    pub(super) fn order(&mut self, order: &Order) -> String {
        match order {
            Order::Insertion => "r.ordinal".to_owned(),
            // Bytes have the order of texts here.
            Order::Id => "r.id, r.ordinal".to_owned(),
            Order::Key { key, descending } => {
                let sql = filter::order(key, *descending, "r.fields", self.values.len() + 1);
                self.values.extend(sql.params.into_iter().map(filter::Param::into_typed));
                format!("{}, r.ordinal", sql.text)
            }
        }
    }

    /// The vectors that were asked for of what is called `c`: two columns, and where they are from.
    fn vectors(&mut self, fields: &[i16]) -> (&'static str, String) {
        if fields.is_empty() {
            return ("NULL::smallint[], NULL::bytea[]", String::new());
        }
        let fields = self.bind(fields.to_vec(), Type::INT2_ARRAY);
        let from = format!(
            " LEFT JOIN LATERAL (SELECT array_agg(e.field) AS fields, \
             array_agg({{vector}}.vector_send(e.v)) AS vectors FROM {{schema}}.vectors e \
             WHERE e.tenant = $1 AND e.collection = $2 AND e.field = ANY ({fields}) \
             AND e.ordinal = c.ordinal) v ON true"
        );
        ("v.fields, v.vectors", from)
    }

    /// Records from a table expression `page (tenant, collection, ordinal, body, n)`, as many of
    /// the first as fit into an answer; `total` says of how many.
    pub(super) fn records(&mut self, page: &str, fields: &[i16]) -> String {
        let (columns, from) = self.vectors(fields);
        let bytes = self.bind(PAGE_BYTES, Type::INT8);
        format!(
            "SELECT {part}::smallint AS part, c.n, c.ordinal, c.tenant, c.collection, \
             0::real AS distance, c.body AS bytes, {columns}, c.total \
             FROM (SELECT p.*, count(*) OVER () AS total, \
             sum(octet_length(p.body)) OVER (ORDER BY p.n) - octet_length(p.body) AS before \
             FROM ({page}) p) c{from} WHERE c.before < {bytes}",
            part = part::RECORD
        )
    }

    /// [`Draft::records`] of a page of a selection.
    pub(super) fn page(
        &mut self,
        conditions: &Conditions<'_>,
        order: &Order,
        slice: Slice,
        fields: &[i16],
    ) -> Result<String> {
        let (source, conditions) = (self.source(conditions), self.conditions(conditions)?);
        let order = self.order(order);
        let slice = self.slice(slice);
        let page = format!(
            "SELECT o.*, row_number() OVER () AS n FROM (SELECT r.tenant, r.collection, r.ordinal, \
             r.body FROM {source} WHERE {conditions} ORDER BY {order} {slice}) o"
        );
        Ok(self.records(&page, fields))
    }

    /// [`Draft::records`] of these, in this order.
    pub(super) fn these(&mut self, ordinals: &[i64], fields: &[i16]) -> String {
        let ordinals = self.bind(ordinals.to_vec(), Type::INT8_ARRAY);
        let page = format!(
            "SELECT r.tenant, r.collection, r.ordinal, r.body, o.n \
             FROM unnest({ordinals}) WITH ORDINALITY AS o (ordinal, n) CROSS JOIN LATERAL \
             {OF_ORDINAL} r ORDER BY o.n"
        );
        self.records(&page, fields)
    }

    /// Ordinals and ids of a slice of a selection, in its order. Where it is asked for, `total` is what
    /// each takes, or -1.
    pub(super) fn ordinals(
        &mut self,
        conditions: &Conditions<'_>,
        order: &Order,
        slice: Slice,
        with_kept: bool,
    ) -> Result<String> {
        let kept = if with_kept { KEPT } else { "0" };
        // Ids are wanted only where keyed hashes of them led here.
        let id = if conditions.keys.is_some() { "r.id" } else { "NULL::bytea" };
        let (source, conditions) = (self.source(conditions), self.conditions(conditions)?);
        let order = self.order(order);
        let slice = self.slice(slice);
        Ok(format!(
            "SELECT {part}::smallint AS part, row_number() OVER () AS n, o.ordinal, o.tenant, \
             o.collection, 0::real AS distance, o.id AS bytes, NULL::smallint[] AS fields, \
             NULL::bytea[] AS vectors, coalesce(o.kept, -1)::bigint AS total FROM (SELECT r.tenant, \
             r.collection, r.ordinal, {id} AS id, {kept} AS kept FROM {source} WHERE {conditions} ORDER BY {order} {slice}) o",
            part = part::RECORD
        ))
    }

    /// The first `limit` ordinals of a selection in one row, 8 bytes each, big-endian. `total` is what
    /// all of them take that say so, `n` the number of the others.
    pub(super) fn packed_ordinals(
        &mut self,
        conditions: &Conditions<'_>,
        limit: usize,
    ) -> Result<String> {
        let (source, conditions) = (self.source(conditions), self.conditions(conditions)?);
        let limit = self.bind(signed_count(limit), Type::INT8);
        Ok(format!(
            "SELECT {part}::smallint AS part, {SILENT} AS n, 0::bigint AS ordinal, \
             o.tenant, o.collection, 0::real AS distance, \
             string_agg(int8send(o.ordinal), ''::bytea ORDER BY o.ordinal) AS bytes, \
             NULL::smallint[] AS fields, NULL::bytea[] AS vectors, {SUM} AS total \
             FROM (SELECT r.tenant, r.collection, r.ordinal, {KEPT} AS kept FROM {source} \
             WHERE {conditions} ORDER BY r.ordinal LIMIT {limit}) o \
             GROUP BY o.tenant, o.collection",
            part = part::RECORD
        ))
    }

    /// What these take, as [`Draft::packed_ordinals`] says it.
    pub(super) fn kept(&mut self, ordinals: &[i64]) -> String {
        let ordinals = self.bind(ordinals.to_vec(), Type::INT8_ARRAY);
        format!(
            "SELECT {part}::smallint AS part, {SILENT} AS n, 0::bigint AS ordinal, $1 AS tenant, \
             $2 AS collection, 0::real AS distance, NULL::bytea AS bytes, \
             NULL::smallint[] AS fields, NULL::bytea[] AS vectors, {SUM} AS total \
             FROM (SELECT {KEPT} AS kept FROM {{schema}}.records r WHERE r.tenant = $1 \
             AND r.collection = $2 AND r.ordinal = ANY ({ordinals})) o",
            part = part::RECORD
        )
    }

    fn slice(&mut self, slice: Slice) -> String {
        let limit = self.bind(signed_count(slice.limit), Type::INT8);
        let offset = self.bind(signed_count(slice.offset), Type::INT8);
        format!("LIMIT {limit} OFFSET {offset}")
    }

    /// How many records are selected.
    pub(super) fn count(&mut self, conditions: &Conditions<'_>) -> Result<String> {
        let (source, conditions) = (self.source(conditions), self.conditions(conditions)?);
        Ok(format!(
            "SELECT {part}::smallint AS part, 0::bigint AS n, 0::bigint AS ordinal, $1 AS tenant, \
             $2 AS collection, 0::real AS distance, NULL::bytea AS bytes, \
             NULL::smallint[] AS fields, NULL::bytea[] AS vectors, count(*) AS total \
             FROM {source} WHERE {conditions}",
            part = part::COUNT
        ))
    }

    /// Ends a statement: the data, and beside them what the catalog says of the collection.
    pub(super) fn finish(mut self, place: &Place, with: &str, data: Option<&str>) -> Statement {
        let (collection, partition) = (self.number.0, PARTITION);
        let rows = [
            (keys::Collection::FAMILY, keys::Collection { collection }.encode(self.prefix)),
            (
                keys::Statistics::FAMILY,
                keys::Statistics { collection, partition }.encode(self.prefix),
            ),
            // Whether the tenant lives here.
            (keys::Head::FAMILY, keys::Head {}.encode(self.prefix)),
        ];
        let mut parts: Vec<String> = data.map(|data| format!("({data})")).into_iter().collect();
        for (family, key) in rows {
            let key = self.bind(key.get(PREFIX_BYTES..).unwrap_or_default().to_vec(), Type::BYTEA);
            parts.push(format!(
                "(SELECT {part}::smallint AS part, {family}::bigint AS n, 0::bigint AS ordinal, \
                 tenant, $2 AS collection, 0::real AS distance, row AS bytes, \
                 NULL::smallint[] AS fields, NULL::bytea[] AS vectors, 0::bigint AS total \
                 FROM {{schema}}.catalog WHERE tenant = $1 AND family = {family} AND key = {key})",
                part = part::CATALOG
            ));
        }
        let text = format!("{with}{}", parts.join(" UNION ALL "));
        let mut statement = Statement::new(place.text(&text));
        statement.values = self.values;
        statement.looks_up = self.looks_up;
        statement
    }
}

/// A slice of an order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slice {
    pub(super) offset: usize,
    pub(super) limit: usize,
}

fn signed_count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The numbers of the vectors that were asked for, and the bytes of a record's, if it has all.
pub(super) fn asked(info: &CollectionInfo, include: Include) -> (Vec<i16>, usize) {
    let mut fields = Vec::new();
    let mut bytes = 0;
    for (number, name, spec) in info.fields() {
        if if name.is_some() { include.vectors } else { include.vector } {
            fields.push(number.cast_signed());
            bytes += spec.dimension.unwrap_or(0) as usize * size_of::<f32>();
        }
    }
    (fields, bytes)
}

/// Records of one answer of the server, if each has so many bytes of vectors.
pub(super) fn page_rows(vector_bytes: usize) -> usize {
    let bytes = usize::try_from(PAGE_BYTES).unwrap_or(usize::MAX);
    (bytes / vector_bytes.max(1)).clamp(1, PAGE_ROWS)
}

/// More records are in no answer.
pub(super) const ANSWER_ROWS_MAX: usize =
    Limits::ANSWER_BYTES_MAX / size_of::<tenantry_types::Record>() + 1;

/// What ids of a collection are unique by, and found by: only a holder of the tenant's key can
/// tell which id a hash is of.
pub(super) struct IdKeys {
    key: Deriving,
    number: [u8; 4],
}

impl IdKeys {
    pub(super) fn new(tenant: &OpenTenant, number: CollectionNumber) -> Self {
        let key = tenant.key().deriving("tenantry 2026-11 record id");
        Self { key, number: number.0.to_be_bytes() }
    }

    pub(super) fn of(&self, id: &str) -> Vec<u8> {
        let hash = self.key.hash(&[&self.number, id.as_bytes()].concat());
        hash.into_iter().take(16).collect()
    }

    /// Those of many ids, each once.
    pub(super) fn all<'a>(&self, ids: impl Iterator<Item = &'a RecordId>) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = ids.map(|id| self.of(id.as_str())).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// True if a tenant's number in a line is this one.
pub(super) fn is_of(line: i64, tenant: TenantId) -> bool {
    u64::try_from(line).is_ok_and(|line| line == tenant.get())
}
