//! Removing rows a piece at a time.
//!
//! A piece is the first rows of a table in the order of its primary key, and is removed as a range of
//! that key: a server finds it by the index, whatever its statistics say of the tenant. (By the places
//! of the rows it may compare each of the tenant's with each of the piece.) What another transaction
//! is removing counts too, so that a piece which is not full is the last one.

use super::{
    cluster::{Place, signed},
    statement::{Statement, Step, Value},
    view::{PgView, odd},
};
use tenantry_auth::TenantId;
use tenantry_types::Result;
use tokio_postgres::{Row, types::Type};

/// Rows of a table removed in one transaction where nobody waits long for others.
pub(super) const CHUNK: i64 = 2_000;

const REMOVE: &str = "WITH piece AS MATERIALIZED (SELECT {key} FROM {schema}.{table} \
     WHERE tenant = $1 {only} {after} ORDER BY {key} LIMIT $2), \
     last AS MATERIALIZED (SELECT {key} FROM piece ORDER BY {back} LIMIT 1), \
     gone AS (DELETE FROM {schema}.{table} \
     WHERE tenant = $1 {only} {after} AND ({key}) <= (SELECT {key} FROM last)) \
     SELECT (SELECT count(*) FROM piece), last.* FROM (SELECT 1) AS one LEFT JOIN last ON true";

/// A table of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Vectors,
    Records,
    Catalog,
}

impl Table {
    pub(super) const ALL: [Self; 3] = [Self::Vectors, Self::Records, Self::Catalog];

    fn name(self) -> &'static str {
        match self {
            Self::Vectors => "vectors",
            Self::Records => "records",
            Self::Catalog => "catalog",
        }
    }

    /// Its primary key behind the tenant.
    fn key(self) -> &'static [&'static str] {
        match self {
            Self::Vectors => &["collection", "field", "ordinal"],
            Self::Records => &["collection", "ordinal"],
            Self::Catalog => &["family", "key"],
        }
    }
}

/// Which rows of a tenant.
#[derive(Clone, Debug)]
pub(super) enum Only {
    All,
    Collection(i32),
    Families(Vec<i16>),
    /// Of a family, from a key on and before another one.
    Keys(i16, Vec<u8>, Option<Vec<u8>>),
}

impl Only {
    fn condition(&self) -> &'static str {
        match self {
            Self::All => "",
            Self::Collection(_) => "AND collection = $3",
            Self::Families(_) => "AND family = ANY ($3)",
            Self::Keys(..) => "AND family = $3 AND key >= $4 AND ($5::bytea IS NULL OR key < $5)",
        }
    }

    fn values(self) -> Vec<(Value, Type)> {
        match self {
            Self::All => Vec::new(),
            Self::Collection(number) => vec![(Box::new(number), Type::INT4)],
            Self::Families(all) => vec![(Box::new(all), Type::INT2_ARRAY)],
            Self::Keys(family, from, to) => vec![
                (Box::new(family), Type::INT2),
                (Box::new(from), Type::BYTEA),
                (Box::new(to), Type::BYTEA),
            ],
        }
    }
}

/// The last row of a piece.
#[derive(Clone, Debug)]
pub(super) enum Last {
    Vector(i32, i16, i64),
    Record(i32, i64),
    Entry(i16, Vec<u8>),
}

impl Last {
    fn values(self) -> Vec<(Value, Type)> {
        match self {
            Self::Vector(collection, field, ordinal) => vec![
                (Box::new(collection), Type::INT4),
                (Box::new(field), Type::INT2),
                (Box::new(ordinal), Type::INT8),
            ],
            Self::Record(collection, ordinal) => {
                vec![(Box::new(collection), Type::INT4), (Box::new(ordinal), Type::INT8)]
            }
            Self::Entry(family, key) => {
                vec![(Box::new(family), Type::INT2), (Box::new(key), Type::BYTEA)]
            }
        }
    }
}

/// Removes at most `most` rows of a tenant behind those of the last piece; see [`removed`].
pub(super) fn remove(
    place: &Place,
    tenant: i64,
    (table, only): (Table, Only),
    (after, most): (Option<Last>, i64),
) -> Vec<Step> {
    let key = table.key();
    let condition = only.condition();
    let mut values = only.values();
    let after = after.map_or_else(String::new, |last| {
        let first = values.len() + 3;
        values.extend(last.values());
        let all: Vec<_> = (first..values.len() + 3).map(|n| format!("${n}")).collect();
        format!("AND ({}) > ({})", key.join(", "), all.join(", "))
    });
    let back: Vec<_> = key.iter().map(|column| format!("{column} DESC")).collect();
    let text = REMOVE.replace("{table}", table.name()).replace("{key}", &key.join(", "));
    let text = text.replace("{back}", &back.join(", ")).replace("{only}", condition);
    let mut piece = Statement::new(place.text(&text.replace("{after}", &after)))
        .with(tenant, Type::INT8)
        .with(most, Type::INT8);
    piece.values.append(&mut values);
    piece.looks_up = true;
    piece.into_steps()
}

/// How many rows a piece had, and its last one, by the answer to its last step.
pub(super) fn removed(table: Table, answers: &[Vec<Row>]) -> Result<(i64, Option<Last>)> {
    let row = answers.last().and_then(|rows| rows.first()).ok_or_else(odd)?;
    let read = || {
        let count: i64 = row.try_get(0)?;
        if count == 0 {
            return Ok((0, None));
        }
        let last = match table {
            Table::Vectors => Last::Vector(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?),
            Table::Records => Last::Record(row.try_get(1)?, row.try_get(2)?),
            Table::Catalog => Last::Entry(row.try_get(1)?, row.try_get(2)?),
        };
        Ok((count, Some(last)))
    };
    read().map_err(|_: tokio_postgres::Error| odd())
}

/// Removes a piece of each table; the number of rows of the largest one.
pub(super) async fn remove_from(
    view: &PgView,
    place: &Place,
    tenant: TenantId,
    tables: &[Table],
    only: &Only,
) -> Result<i64> {
    let number = signed(tenant)?;
    let mut largest = 0;
    for table in tables {
        let piece = || remove(place, number, (*table, only.clone()), (None, CHUNK));
        let (count, _) = removed(*table, &view.run(place, tenant, piece).await?)?;
        largest = largest.max(count);
    }
    Ok(largest)
}
