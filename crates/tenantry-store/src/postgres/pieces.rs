//! Removing rows a piece at a time.
//!
//! A piece is the first rows of a table in the order of its primary key. It is read by that index and
//! removed by the places of its rows, in two statements, because a server can be told for each how to
//! find them: in one, with statistics that know nothing of the tenant or of nobody else, it passes over
//! all of the tenant's rows for each piece, or over the whole table. (Citus hands no such setting on to
//! its workers.) What another transaction is
//! removing counts too, so that a piece which is not full is the last one.

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

const PIECE: &str = "SELECT ctid::text, {key} FROM {schema}.{table} \
     WHERE tenant = $1 {only} {after} ORDER BY {key} LIMIT $2";
/// Its rows, and whose they are: a place may have been given to another row meanwhile.
const REMOVE: &str = "DELETE FROM {schema}.{table} \
     WHERE tenant = $1 AND ctid = ANY ($2::tid[]) {only}";

/// Until the transaction ends, but for what [`BY_PLACE`] changes in between. For the rest see
/// [`super::statement::LOOKING_UP`].
const BY_INDEX: &str = "SELECT pg_catalog.set_config('enable_seqscan', 'off', true), \
     pg_catalog.set_config('enable_sort', 'off', true), \
     pg_catalog.set_config('enable_incremental_sort', 'off', true), \
     pg_catalog.set_config('jit', 'off', true), \
     pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)";
const BY_PLACE: &str = "SELECT pg_catalog.set_config('enable_indexscan', 'off', true), \
     pg_catalog.set_config('enable_bitmapscan', 'off', true)";
const AGAIN_BY_INDEX: &str = "SELECT pg_catalog.set_config('enable_indexscan', 'on', true), \
     pg_catalog.set_config('enable_bitmapscan', 'on', true)";

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
    fn key(self) -> &'static str {
        match self {
            Self::Vectors => "collection, field, ordinal",
            Self::Records => "collection, ordinal",
            Self::Catalog => "family, key",
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
            // No condition of an index: it would begin anew where the family does, and pass over all
            // that was removed of it while an old snapshot may see that.
            Self::Families(_) => "AND +family = ANY ($3)",
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

/// The last row of a piece, by its key.
#[derive(Clone, Debug)]
pub(super) enum Last {
    Vector(i32, i16, i64),
    Record(i32, i64),
    Entry(i16, Vec<u8>),
}

impl Last {
    fn of(table: Table, row: &Row) -> Result<Self> {
        let read = || {
            Ok(match table {
                Table::Vectors => Self::Vector(row.try_get(1)?, row.try_get(2)?, row.try_get(3)?),
                Table::Records => Self::Record(row.try_get(1)?, row.try_get(2)?),
                Table::Catalog => Self::Entry(row.try_get(1)?, row.try_get(2)?),
            })
        };
        read().map_err(|_: tokio_postgres::Error| odd())
    }

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

/// What finds a piece: at most `most` rows of a tenant, behind the last one of another piece.
pub(super) fn piece(
    place: &Place,
    tenant: i64,
    (table, only): (Table, Only),
    (after, most): (Option<Last>, i64),
) -> Vec<Step> {
    let condition = only.condition();
    let mut values = only.values();
    let key = table.key();
    let after = after.map_or_else(String::new, |last| {
        let first = values.len() + 3;
        values.extend(last.values());
        let all: Vec<_> = (first..values.len() + 3).map(|n| format!("${n}")).collect();
        format!("AND ({key}) > ({})", all.join(", "))
    });
    let text = PIECE.replace("{table}", table.name()).replace("{key}", key);
    let text = place.text(&text.replace("{only}", condition).replace("{after}", &after));
    let mut piece = Statement::new(text).with(tenant, Type::INT8).with(most, Type::INT8);
    piece.values.append(&mut values);
    vec![Step::Run(Statement::new(BY_INDEX)), Step::Run(piece)]
}

/// What removes the rows of a piece by their places.
pub(super) fn removal(
    place: &Place,
    tenant: i64,
    (table, only): (Table, Only),
    rows: Vec<String>,
) -> Vec<Step> {
    let text = REMOVE.replace("{table}", table.name()).replace("{only}", only.condition());
    let text = place.text(&text);
    let mut removal = Statement::new(text).with(tenant, Type::INT8).with(rows, Type::TEXT_ARRAY);
    removal.values.append(&mut only.values());
    vec![
        Step::Run(Statement::new(BY_PLACE)),
        Step::Run(removal),
        Step::Run(Statement::new(AGAIN_BY_INDEX)),
    ]
}

/// Removes at most `most` rows of a tenant behind the last one of another piece: how many there were,
/// and the last one. Fewer than `most` are the end of the table. Nobody may change the rows meanwhile,
/// only remove them: one that was changed between both statements would stay.
pub(super) async fn remove(
    view: &PgView,
    place: &Place,
    tenant: TenantId,
    (table, only): (Table, &Only),
    (after, most): (&Option<Last>, i64),
) -> Result<(i64, Option<Last>)> {
    let number = signed(tenant)?;
    let found = || piece(place, number, (table, only.clone()), (after.clone(), most));
    let answers = view.run(place, tenant, found).await?;
    let rows = answers.last().map_or(&[] as &[_], Vec::as_slice);
    let Some(last) = rows.last() else { return Ok((0, None)) };
    let last = Last::of(table, last)?;
    let places = rows.iter().map(|row| row.try_get(0).map_err(|_| odd()));
    let places = places.collect::<Result<Vec<String>>>()?;
    let gone = || removal(place, number, (table, only.clone()), places.clone());
    view.run(place, tenant, gone).await?;
    let count = i64::try_from(places.len()).map_err(|_| odd())?;
    Ok((count, Some(last)))
}

/// Removes a piece of each table; the number of rows of the largest one.
pub(super) async fn remove_from(
    view: &PgView,
    place: &Place,
    tenant: TenantId,
    tables: &[Table],
    only: &Only,
) -> Result<i64> {
    let mut largest = 0;
    for table in tables {
        let (count, _) = remove(view, place, tenant, (*table, only), (&None, CHUNK)).await?;
        largest = largest.max(count);
    }
    Ok(largest)
}
